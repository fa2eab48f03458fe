//! A round of load: pipelined writers, a live watch and readers, until the process dies under them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use corestone_client::{
    Client, DeleteRangeRequest, Error, PutRequest, Txn, TxnRequest, WatchRequest,
};
use tokio::task::JoinSet;

use crate::history::{Events, Requests, collect};
use crate::operation::{Change, KeyState, Operation, Weight, transaction};
use crate::random::Random;

/// What clients learnt in a round.
#[derive(Default)]
pub struct Round {
    pub requests: Requests,
    /// What a watch told while the process lived.
    pub watched: BTreeMap<i64, Events>,
    /// Keys as they were read, with the revision of the answer.
    pub reads: Vec<(Vec<u8>, Option<KeyState>, i64)>,
    pub granted: BTreeSet<i64>,
    pub grants_open: BTreeSet<i64>,
    /// Revokes that were answered, with effect or without.
    pub revoked: BTreeSet<i64>,
    pub revokes_open: BTreeSet<i64>,
    /// The highest revision whose compaction was asked for, and answered.
    pub compaction_open: i64,
    pub compacted: i64,
}

/// What a round begins with.
pub struct Start {
    /// `host:port` of the binary protocol.
    pub endpoint: String,
    pub weight: Weight,
    /// The newest revision.
    pub revision: i64,
    pub leases: Vec<i64>,
    /// A revision to compact, if any.
    pub compaction: Option<i64>,
}

struct Shared {
    round: Mutex<Round>,
    leases: Mutex<Vec<i64>>,
    is_over: AtomicBool,
    weight: Weight,
}

/// Loads the member and calls `kill` after `life`.
pub async fn run(start: Start, random: &mut Random, life: Duration, kill: impl FnOnce()) -> Round {
    let shared = Arc::new(Shared {
        round: Mutex::new(Round::default()),
        leases: Mutex::new(start.leases),
        is_over: AtomicBool::new(false),
        weight: start.weight,
    });
    let mut tasks = JoinSet::new();
    for _ in 0..CLIENTS {
        let client = Client::connect([start.endpoint.as_str()]).await.unwrap();
        for _ in 0..WRITERS_PER_CLIENT {
            tasks.spawn(write(client.clone(), Arc::clone(&shared), random.fork()));
        }
        tasks.spawn(read(client.clone(), Arc::clone(&shared), random.fork()));
    }
    let client = Client::connect([start.endpoint.as_str()]).await.unwrap();
    tasks.spawn(watch(client.clone(), Arc::clone(&shared), start.revision + 1));
    if let Some(revision) = start.compaction {
        let pause = random.duration_below(life);
        tasks.spawn(compact(client.clone(), Arc::clone(&shared), revision, pause));
    }
    tokio::time::sleep(life).await;
    shared.is_over.store(true, Ordering::Relaxed);
    kill();
    // Answers that had arrived still count; what waits for a server is given up.
    let drained = async { while tasks.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(DRAIN_PATIENCE, drained).await;
    tasks.shutdown().await;
    let mut round = shared.round.lock().unwrap();
    std::mem::take(&mut round)
}

impl Shared {
    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    fn round(&self) -> std::sync::MutexGuard<'_, Round> {
        self.round.lock().unwrap()
    }
}

/// Whether the process died under a call; any error that is not that fails the test.
fn is_death(error: &Error, shared: &Shared) -> bool {
    let is_broken = matches!(
        error,
        Error::Disconnected | Error::Timeout | Error::Unreachable { .. } | Error::Closed
    );
    assert!(is_broken && shared.is_over(), "a call failed: {error:?}");
    true
}

async fn write(client: Client, shared: Arc<Shared>, mut random: Random) {
    while !shared.is_over() {
        let leases = shared.leases.lock().unwrap().clone();
        let outcome = match random.below(100) {
            0..2 => grant(&client, &shared, &mut random).await,
            2..4 if !leases.is_empty() => {
                let lease = leases[random.below(leases.len() as u64) as usize];
                revoke(&client, &shared, lease).await
            }
            _ => {
                let operation = Operation::random(&mut random, shared.weight, &leases);
                change(&client, &shared, operation).await
            }
        };
        if let Err(error) = outcome
            && is_death(&error, &shared)
        {
            return;
        }
    }
}

async fn change(client: &Client, shared: &Shared, operation: Operation) -> Result<(), Error> {
    let Operation::Changes(changes) = &operation else { unreachable!("revokes go elsewhere") };
    let outcome = match changes.as_slice() {
        [Change::Put { key, value, lease }] => {
            let put = PutRequest { key, value, lease: *lease, ..PutRequest::default() };
            client.put_with(put).await.map(|answer| (answer.header.revision, 1))
        }
        [Change::Delete { key }] => {
            let delete = DeleteRangeRequest { key, ..DeleteRangeRequest::default() };
            let answer = client.delete_range(delete).await;
            answer.map(|answer| (answer.header.revision, answer.deleted))
        }
        changes => {
            let request: TxnRequest<'_> = transaction(changes);
            let answer = client.txn(&Txn::from(request)).await;
            answer.map(|answer| (answer.header.revision, changed(&answer.body)))
        }
    };
    match outcome {
        Ok((revision, 0)) => shared.round().requests.without_effect.push((revision, operation)),
        Ok((revision, _)) => {
            let earlier = shared.round().requests.acknowledged.insert(revision, operation);
            assert!(earlier.is_none(), "revision {revision} was given twice");
        }
        Err(Error::Status { message, .. }) if message == LEASE_NOT_FOUND => {}
        // Nothing was sent, so nothing may show.
        Err(error @ Error::Unreachable { .. }) => return Err(error),
        Err(error) => {
            shared.round().requests.open.push(operation);
            return Err(error);
        }
    }
    Ok(())
}

/// Keys that a transaction changed.
fn changed(answer: &corestone_client::TxnResponse) -> i64 {
    use corestone_client::ResponseOp;
    let changed = answer.responses.iter().map(|response| match response {
        ResponseOp::Put(_) => 1,
        ResponseOp::DeleteRange(delete) => delete.deleted,
        ResponseOp::Range(_) | ResponseOp::Txn(_) => 0,
    });
    changed.sum()
}

async fn grant(client: &Client, shared: &Shared, random: &mut Random) -> Result<(), Error> {
    let id = i64::try_from(1 + random.below(1 << 62)).unwrap();
    shared.round().grants_open.insert(id);
    let granted = client.lease_grant_with(id, LEASE_TTL_S).await?;
    assert_eq!((granted.id, granted.ttl_s), (id, LEASE_TTL_S));
    let mut round = shared.round();
    round.grants_open.remove(&id);
    round.granted.insert(id);
    shared.leases.lock().unwrap().push(id);
    Ok(())
}

async fn revoke(client: &Client, shared: &Shared, lease: i64) -> Result<(), Error> {
    shared.leases.lock().unwrap().retain(|other| *other != lease);
    shared.round().revokes_open.insert(lease);
    let outcome = client.lease_revoke(lease).await;
    let mut round = shared.round();
    // Its revision is that of its deletions, if it had keys; which it had, the history tells.
    round.requests.open.push(Operation::Revoke { lease });
    match outcome {
        Ok(_) => {}
        Err(Error::Status { message, .. }) if message == LEASE_NOT_FOUND => {}
        Err(error) => return Err(error),
    }
    round.revokes_open.remove(&lease);
    round.revoked.insert(lease);
    Ok(())
}

async fn read(client: Client, shared: Arc<Shared>, mut random: Random) {
    while !shared.is_over() {
        let key = format!("k/{:03}", random.below(150)).into_bytes();
        // A read that the death of the server interrupts is repeated; the test ends it.
        let Ok(answer) = client.get(&key).await else { return };
        let state = answer.kvs.first().map(|kv| KeyState::of(&kv));
        shared.round().reads.push((key, state, answer.header.revision));
    }
}

async fn watch(client: Client, shared: Arc<Shared>, from: i64) {
    let request = WatchRequest::prefix("").from_revision(from);
    let mut stream = client.watch(request).await.unwrap();
    while let Some(Ok(message)) = stream.next().await {
        collect(&message, &mut shared.round().watched);
    }
}

async fn compact(client: Client, shared: Arc<Shared>, revision: i64, pause: Duration) {
    tokio::time::sleep(pause).await;
    shared.round().compaction_open = revision;
    match client.compact(revision).await {
        Ok(_) => shared.round().compacted = revision,
        Err(error) => assert!(is_death(&error, &shared)),
    }
}

const LEASE_NOT_FOUND: &str = "etcdserver: requested lease not found";
/// Longer than the test.
pub const LEASE_TTL_S: i64 = 3600;
const CLIENTS: usize = 3;
const WRITERS_PER_CLIENT: usize = 12;
/// For answers that were on their way when the process died.
const DRAIN_PATIENCE: Duration = Duration::from_millis(100);
