//! Keeps a lease alive: renews it at a third of its time to live, until it is gone or stopped.

use crate::client::Client;
use crate::error::Error;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};

/// What a keeper knows of its lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaseState {
    /// Renewed for so many seconds at the last answer.
    Alive {
        /// Time to live, in seconds.
        ttl_s: i64,
    },
    /// Renewing fails; it is tried again until the lease must have run out.
    Retrying(Error),
    /// The lease is gone, or nothing was heard for its whole time to live.
    Expired,
}

/// See [`Client::keep_lease`]. Dropping it stops renewing; the lease then runs out.
pub struct LeaseKeeper {
    task: JoinHandle<()>,
    state: watch::Receiver<LeaseState>,
    id: i64,
}

impl LeaseKeeper {
    pub(crate) fn start(client: Client, id: i64, ttl_s: i64) -> LeaseKeeper {
        let (sender, state) = watch::channel(LeaseState::Alive { ttl_s });
        let task = tokio::spawn(keep(client, id, ttl_s, sender));
        LeaseKeeper { task, state, id }
    }

    /// The lease.
    pub fn id(&self) -> i64 {
        self.id
    }

    /// What is known now.
    pub fn state(&self) -> LeaseState {
        self.state.borrow().clone()
    }

    /// Waits until something changes; `None` once the lease is gone and that was told.
    pub async fn changed(&mut self) -> Option<LeaseState> {
        self.state.changed().await.ok()?;
        Some(self.state.borrow_and_update().clone())
    }

    /// Stops renewing.
    pub fn stop(self) {
        self.task.abort();
    }
}

impl Drop for LeaseKeeper {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn keep(client: Client, id: i64, mut ttl_s: i64, state: watch::Sender<LeaseState>) {
    let mut expires_at = Instant::now() + seconds(ttl_s);
    loop {
        let asked_at = Instant::now();
        let next = tokio::select! {
            answer = client.lease_keep_alive(id) => match answer {
                Ok(granted) if 0 < granted.ttl_s => {
                    ttl_s = granted.ttl_s;
                    expires_at = asked_at + seconds(ttl_s);
                    LeaseState::Alive { ttl_s }
                }
                Ok(_) | Err(Error::Closed) => LeaseState::Expired,
                Err(error) => LeaseState::Retrying(error),
            },
            () = sleep_until(expires_at) => LeaseState::Expired,
        };
        let pause = match &next {
            LeaseState::Alive { .. } => seconds(ttl_s) / 3,
            LeaseState::Retrying(_) => RETRY_PAUSE,
            LeaseState::Expired => {
                state.send_replace(next);
                return;
            }
        };
        state.send_replace(next);
        sleep(pause).await;
    }
}

fn seconds(ttl_s: i64) -> Duration {
    Duration::from_secs(u64::try_from(ttl_s).unwrap_or(0))
}

/// Pause after a renewal that failed, as long as there is time.
const RETRY_PAUSE: Duration = Duration::from_millis(500);
