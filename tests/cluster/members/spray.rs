//! Writes at a fixed rate, whether the earlier ones were answered or not, for measuring how long a
//! cluster takes none.
//!
//! Bounded: at most [`OUTSTANDING_MAX`] are on their way, so a stall does not pile up; while so many
//! are, none is begun.

use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::client::Client;
use crate::{PATIENCE, block_on, within};

/// One write that was answered.
#[derive(Clone, Debug)]
pub struct Shot {
    pub sent: Instant,
    pub answered: Instant,
    /// The error, if it was answered with one.
    pub error: Option<String>,
}

/// A running writer.
pub struct Spray {
    shots: Arc<Mutex<Vec<Shot>>>,
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Spray {
    /// Begins to write through the member at `url`.
    pub fn start(url: &str) -> Spray {
        let shots = Arc::new(Mutex::new(Vec::new()));
        let is_over = Arc::new(AtomicBool::new(false));
        let (url, theirs, over) = (url.to_owned(), shots.clone(), is_over.clone());
        let thread = std::thread::spawn(move || {
            block_on(tokio::task::LocalSet::new().run_until(run(&url, &theirs, &over)));
        });
        Spray { shots, is_over, thread }
    }

    /// Waits until a write that was sent after `since` succeeded; how long after `since` the first
    /// answer came.
    ///
    /// # Panics
    /// When none does within [`PATIENCE`].
    pub fn first_success(&self, since: Instant) -> Duration {
        loop {
            let shots = self.shots.lock().unwrap();
            let found = shots.iter().filter(|shot| since <= shot.sent && shot.error.is_none());
            if let Some(first) = found.map(|shot| shot.answered).min() {
                return first - since;
            }
            drop(shots);
            assert!(since.elapsed() < PATIENCE, "no write succeeded");
            std::thread::sleep(INTERVAL);
        }
    }

    /// Ends it: what was answered until now, in the order of the answers.
    pub fn stop(self) -> Vec<Shot> {
        self.is_over.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
        self.shots.lock().unwrap().clone()
    }
}

/// The longest time within `[begin, end]` in which no write succeeded.
pub fn longest_gap(shots: &[Shot], [begin, end]: [Instant; 2]) -> Duration {
    let mut successes: Vec<Instant> =
        shots.iter().filter(|shot| shot.error.is_none()).map(|shot| shot.answered).collect();
    successes.retain(|at| (begin..end).contains(at));
    successes.push(end);
    successes.sort();
    let mut last = begin;
    let mut longest = Duration::ZERO;
    for at in successes {
        longest = longest.max(at - last);
        last = at;
    }
    longest
}

async fn run(url: &str, shots: &Arc<Mutex<Vec<Shot>>>, is_over: &AtomicBool) {
    let client = Rc::new(Client::lazy(url));
    let outstanding = Rc::new(());
    let mut clock = tokio::time::interval(INTERVAL);
    clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    for number in 0_u64.. {
        clock.tick().await;
        if is_over.load(Ordering::Relaxed) {
            break;
        }
        if OUTSTANDING_MAX < Rc::strong_count(&outstanding) {
            continue;
        }
        let (client, shots, held) = (client.clone(), shots.clone(), outstanding.clone());
        tokio::task::spawn_local(async move {
            let sent = Instant::now();
            let put = format!(r#"key: "spray/{}" value: "{number}""#, number % KEYS);
            let answer = within(client.ask("KV.Put", &put)).await;
            let error = answer.err().map(|error| format!("{error:?}"));
            shots.lock().unwrap().push(Shot { sent, answered: Instant::now(), error });
            drop(held);
        });
    }
}

/// Between two writes.
const INTERVAL: Duration = Duration::from_millis(4);
/// Writes on their way; over [`INTERVAL`] each, longer than a request's time-out.
const OUTSTANDING_MAX: usize = 4000;
const KEYS: u64 = 100;

const _: () = assert!(8 * 250 <= OUTSTANDING_MAX && 8 <= PATIENCE.as_secs());
