//! What a member that came up again is asked, and what it has to answer.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use corestone_client::{Client, Error, RangeRequest, WatchRequest};

use crate::history::{Events, History, collect};
use crate::load::{LEASE_TTL_S, Round};
use crate::operation::{KeyState, State};
use crate::random::Random;

/// Everything that is known of the store between rounds.
pub struct Known {
    pub history: History,
    pub leases: BTreeSet<i64>,
    /// Compacted for sure up to here.
    pub compacted: i64,
    /// Perhaps compacted up to here.
    pub compaction_open: i64,
}

impl Known {
    pub fn new() -> Known {
        let leases = BTreeSet::new();
        Known { history: History::new(), leases, compacted: 0, compaction_open: 0 }
    }

    /// Asks the member for everything of the last round, and for some of what was before.
    ///
    /// # Panics
    /// When an answer is not what it has to be.
    pub async fn check(&mut self, client: &Client, round: Round, random: &mut Random) {
        let newest_before = self.history.newest();
        let current = read_all(client, 0).await;
        assert!(newest_before <= current.0, "revision {} after {newest_before}", current.0);
        self.compacted = self.compacted.max(round.compacted);
        self.compaction_open = self.compaction_open.max(round.compaction_open);
        self.check_leases(client, &round).await;

        let from = self.old_revision(random);
        let mut shown = watched(client, from, current.0).await;
        let new = shown.split_off(&(newest_before + 1));
        for (revision, events) in shown {
            assert_eq!(Some(&events), self.history.events(revision), "at {revision}, once seen");
        }
        let (watched, reads) = (round.watched, round.reads);
        self.history.extend(new, round.requests, &self.leases);
        assert_eq!(self.history.newest(), current.0, "the watch and the read");
        assert_eq!(self.history.state(), &current.1, "the events and the read");
        for (revision, events) in watched {
            assert_eq!(
                Some(&events),
                self.history.events(revision),
                "a watch saw revision {revision} before the end"
            );
        }
        self.check_reads(reads);
        self.check_lease_keys(client).await;
        self.check_old_state(client, random).await;
        self.check_compacted(client).await;
    }

    /// Whatever was read was durable. Those reads that are of one revision are checked together.
    fn check_reads(&self, reads: Vec<(Vec<u8>, Option<KeyState>, i64)>) {
        for (key, state, revision) in reads {
            assert!(revision <= self.history.newest(), "a read knew revision {revision}");
            let Some(state) = state else { continue };
            let events = self.history.events(state.mod_revision);
            let written = events.and_then(|events| events.get(&key));
            assert_eq!(written, Some(&Some(state)), "a read of {key:?} at {revision}");
        }
    }

    /// The start of a watch that sees old revisions and all the new ones.
    fn old_revision(&self, random: &mut Random) -> i64 {
        let newest = self.history.newest();
        let oldest = (self.compaction_open + 1).max(newest - OLD_REVISIONS_MAX).max(2);
        let span = u64::try_from((newest + 1 - oldest).max(0)).unwrap();
        oldest + i64::try_from(random.below(span + 1)).unwrap()
    }

    /// Every revision that is left, from the first one on.
    pub async fn check_whole_history(&self, client: &Client) {
        let newest = self.history.newest();
        let first = (self.compaction_open + 1).max(2);
        let shown = watched(client, first, newest).await;
        let count = usize::try_from(newest + 1 - first).unwrap();
        assert_eq!(shown.len(), count, "every revision has events");
        for (revision, events) in shown {
            assert_eq!(Some(&events), self.history.events(revision), "at {revision}");
        }
    }

    async fn check_leases(&mut self, client: &Client, round: &Round) {
        let found: BTreeSet<i64> = client.leases().await.unwrap().iter().copied().collect();
        let may_live = || self.leases.iter().chain(&round.granted);
        for lease in &found {
            let is_known = may_live().any(|known| known == lease);
            assert!(is_known || round.grants_open.contains(lease), "nobody asked for {lease}");
            assert!(!round.revoked.contains(lease), "lease {lease} lives after its revoke");
        }
        for lease in may_live() {
            let may_be_gone = round.revoked.contains(lease) || round.revokes_open.contains(lease);
            assert!(may_be_gone || found.contains(lease), "lease {lease} is lost");
        }
        self.leases = found;
    }

    /// Each key's lease lives and knows the key, and no other.
    async fn check_lease_keys(&self, client: &Client) {
        let mut attached: BTreeMap<i64, BTreeSet<Vec<u8>>> = BTreeMap::new();
        for (key, state) in self.history.state() {
            if state.lease != 0 {
                assert!(self.leases.contains(&state.lease), "{key:?} outlived its lease");
                attached.entry(state.lease).or_default().insert(key.clone());
            }
        }
        for lease in self.leases.iter().rev().take(LEASES_ASKED) {
            let answer = client.lease_keys(*lease).await.unwrap();
            assert_eq!(answer.granted_ttl_s, LEASE_TTL_S);
            assert!(0 < answer.ttl_s && answer.ttl_s <= LEASE_TTL_S, "{answer:?}");
            let keys: BTreeSet<Vec<u8>> = answer.keys.iter().map(|key| key.to_vec()).collect();
            assert_eq!(keys, attached.remove(lease).unwrap_or_default(), "keys of {lease}");
        }
    }

    /// A read of the past answers as it was.
    async fn check_old_state(&self, client: &Client, random: &mut Random) {
        let first = (self.compaction_open + 1).max(2);
        let newest = self.history.newest();
        if newest < first {
            return;
        }
        let span = u64::try_from(newest - first + 1).unwrap();
        let revision = first + i64::try_from(random.below(span)).unwrap();
        let (_, state) = read_all(client, revision).await;
        assert_eq!(state, self.history.state_at(revision), "all keys at {revision}");
    }

    /// What was compacted stays so.
    async fn check_compacted(&self, client: &Client) {
        if self.compacted < 2 {
            return;
        }
        let (key, revision) = (b"k".as_slice(), self.compacted - 1);
        let read = RangeRequest { key, revision, ..RangeRequest::default() };
        match client.range(read).await {
            Err(Error::Status { message, .. }) if message == COMPACTED => {}
            other => panic!("revision {revision} was compacted: {other:?}"),
        }
    }
}

/// Every key at `revision` (0: now), and the revision of the store.
async fn read_all(client: &Client, revision: i64) -> (i64, State) {
    let mut state = State::new();
    let mut revision = revision;
    let mut key = b"\0".to_vec();
    loop {
        let range = RangeRequest {
            key: &key,
            range_end: b"\0",
            limit: PAGE_KEYS,
            revision,
            ..RangeRequest::default()
        };
        let answer = client.range(range).await.unwrap();
        if revision == 0 {
            revision = answer.header.revision;
        }
        for kv in answer.kvs.iter() {
            state.insert(kv.key.to_vec(), KeyState::of(&kv));
            key = kv.key.to_vec();
            key.push(0);
        }
        if !answer.more {
            return (revision, state);
        }
    }
}

/// The events from one revision to another.
async fn watched(client: &Client, from: i64, to: i64) -> BTreeMap<i64, Events> {
    let mut shown = BTreeMap::new();
    if to < from {
        return shown;
    }
    let mut stream = client.watch(WatchRequest::prefix("").from_revision(from)).await.unwrap();
    while shown.last_key_value().is_none_or(|(newest, _)| *newest < to) {
        let next = tokio::time::timeout(PATIENCE, stream.next()).await;
        let message = match next.expect("events of the past come at once") {
            Some(Ok(message)) => message,
            other => panic!("the watch from {from} ended before {to}: {other:?}"),
        };
        collect(&message, &mut shown);
    }
    shown
}

const COMPACTED: &str = "etcdserver: mvcc: required revision has been compacted";
/// How far back a watch goes after a restart.
const OLD_REVISIONS_MAX: i64 = 1000;
const LEASES_ASKED: usize = 4;
const PAGE_KEYS: i64 = 40;
const PATIENCE: Duration = Duration::from_secs(30);
