//! The state machine of one group: entries of the log in, answers and events out.
//!
//! Deterministic: apply reads the entry and the replicated state only, so replicas at one applied
//! index are equal page by page.

use crate::api::{
    AlarmType, Event, EventList, KeyValue, ProposalId, RangeRequest, RangeResponse, Reject,
    Response, TxnRequest, TxnResponse,
};
use crate::command::Malformed;
use crate::lease::{Lease, LeaseChange};
use crate::mvcc::budget::WorkBudget;
use crate::mvcc::hash::{HashRead, KvHash};
use crate::mvcc::history::{HistoryProgress, SinkState};
use crate::mvcc::range::RangeRead;
use crate::mvcc::txn_read::TxnRead;
use crate::page::checkpoint::CheckpointPlan;
use crate::page::map::{Corruption, PageMap};
use crate::page::meta::Meta;
use crate::page::store::Store;

/// The store of one group.
#[derive(Debug)]
pub struct Engine<M> {
    store: Store<M>,
}

/// What came of an entry, or of one slice of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Applied {
    /// The entry is applied and its revision published.
    Done(Outcome),
    /// A long entry: call [`Engine::apply_more`] in the next step. Reads go on seeing the last
    /// published revision.
    More,
}

/// The outcome of an applied entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Who proposed it.
    pub proposal: ProposalId,
    /// The answer, the same on every replica.
    pub response: Response,
    /// Whether the list handed in got all events of the entry.
    pub events: EventsState,
    /// What happened to the set of leases.
    pub lease_change: Option<LeaseChange>,
    /// Whether alarms may have changed.
    pub alarms_changed: bool,
}

/// Whether a caller's list holds all events of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventsState {
    /// All are there (or there were none).
    Complete,
    /// They were more than `ENTRY_EVENTS_SIZE_BYTES_MAX`: the list is cleared, watchers read
    /// history.
    TooMany,
}

/// Why an entry could not be applied: this replica stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApplyError {
    /// A page is broken: repair it, open the checkpoint again and replay.
    Corruption(Corruption),
    /// A committed entry that this binary cannot read.
    Malformed(Malformed),
    /// The group's first entry is not a `Genesis` this binary can serve, or a later one is.
    Genesis,
}

/// One slice of a read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step<T> {
    /// The answer.
    Done(T),
    /// The budget is spent; go on in the next step.
    More,
}

/// A member as it told of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Member {
    pub id: u64,
    pub name: String,
    pub peer_urls: Vec<String>,
    pub client_urls: Vec<String>,
}

/// Where the removal behind the compact revision stands; the next `CompactStep` names it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub struct CompactMark {
    pub main: i64,
    pub sub: i64,
}

/// What shapes pages, from the group's first entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Genesis {
    pub page_size_bytes: u32,
    pub value_inline_bytes_max: u32,
    pub interval_pages_max: u32,
    pub interval_bytes_max: u64,
}

impl<M: PageMap> Engine<M> {
    /// An empty store of `group`. Its first entry has to be `Genesis`.
    pub fn create(map: M, group: u64) -> Engine<M> {
        Engine { store: Store::create(map, group) }
    }

    /// The store as the checkpoint `meta` left it.
    pub fn open(map: M, meta: &Meta) -> Result<Engine<M>, Corruption> {
        Ok(Engine { store: Store::open(map, meta)? })
    }

    /// The store of pages, for its map, counters and holes.
    pub fn store(&self) -> &Store<M> {
        &self.store
    }

    /// As [`Engine::store`], to write a plan into a map that lives on the heap.
    pub fn store_mut(&mut self) -> &mut Store<M> {
        &mut self.store
    }

    // ---- apply ----

    /// Only proposals of this member's life get answers with kvs computed (prev_kv, ranges in write
    /// transactions); for others `response` has them empty. Without this call all get them. Pages
    /// do not depend on it.
    pub fn answer_only(&mut self, _member_id: u64, _incarnation: u64) {
        panic!("lands next")
    }

    /// Reads what applying `entry` may read, so that apply does not meet a broken page. Best effort:
    /// the keys it names, not the ranges.
    pub fn prefetch(&self, _entry: &[u8]) -> Result<(), Corruption> {
        panic!("lands next")
    }

    /// Applies the entry at `index`, which is the one after [`Engine::applied_index`]. An empty entry
    /// (a leader's first) only moves the index. Panics while a long entry is under way.
    ///
    /// `events`, if given, gets the entry's events appended: pass the same list to
    /// [`Engine::apply_more`]; they are complete with the last slice.
    pub fn apply(
        &mut self,
        _index: u64,
        _term: u64,
        _entry: &[u8],
        _budget: &mut WorkBudget,
        _events: Option<&mut EventList>,
    ) -> Result<Applied, ApplyError> {
        panic!("lands next")
    }

    /// Goes on with the entry under way.
    pub fn apply_more(
        &mut self,
        _budget: &mut WorkBudget,
        _events: Option<&mut EventList>,
    ) -> Result<Applied, ApplyError> {
        panic!("lands next")
    }

    /// Whether a long entry is under way.
    pub fn is_applying(&self) -> bool {
        panic!("lands next")
    }

    /// Moves past an entry that is not the state machine's (a configuration change).
    pub fn skip(&mut self, _index: u64, _term: u64) {
        panic!("lands next")
    }

    // ---- reads ----

    /// The published state of one key at `revision` (0 or less: the newest), borrowed: the hot read.
    pub fn get(
        &self,
        _key: &[u8],
        _revision: i64,
    ) -> Result<Result<Option<KeyValue<'_>>, Reject>, Corruption> {
        panic!("lands next")
    }

    /// A whole range in one go.
    pub fn range(
        &self,
        _request: &RangeRequest<'_>,
    ) -> Result<Result<RangeResponse, Reject>, Corruption> {
        panic!("lands next")
    }

    /// Begins a range that may take several steps.
    pub fn range_start(&self, request: &RangeRequest<'_>) -> Result<RangeRead, Reject> {
        Ok(RangeRead::new(request))
    }

    /// Goes on with it. Overtaken by compaction, a read at the newest revision of which nothing was
    /// taken yet starts again, any other is refused.
    pub fn range_step(
        &self,
        _read: &mut RangeRead,
        _budget: &mut WorkBudget,
    ) -> Result<Result<Step<RangeResponse>, Reject>, Corruption> {
        panic!("lands next")
    }

    /// A transaction of ranges only, in one go. A put or delete in it is the caller's error.
    pub fn txn_read(
        &self,
        _txn: &TxnRequest<'_>,
    ) -> Result<Result<TxnResponse, Reject>, Corruption> {
        panic!("lands next")
    }

    /// Begins a transaction of ranges only that may take several steps; `txn` is handed in again
    /// with every step.
    pub fn txn_read_start(&self, _txn: &TxnRequest<'_>) -> Result<TxnRead, Reject> {
        panic!("lands next")
    }

    /// Goes on with it.
    pub fn txn_read_step(
        &self,
        _txn: &TxnRequest<'_>,
        _read: &mut TxnRead,
        _budget: &mut WorkBudget,
    ) -> Result<Result<Step<TxnResponse>, Reject>, Corruption> {
        panic!("lands next")
    }

    /// Shows the events of `from..=to` (published ones only) in order, with what they replaced.
    /// Refused when `from` is older than the compact revision.
    pub fn history(
        &self,
        _from: i64,
        _to: i64,
        _budget: &mut WorkBudget,
        _sink: &mut dyn FnMut(Event<'_>) -> SinkState,
    ) -> Result<Result<HistoryProgress, Reject>, Corruption> {
        panic!("lands next")
    }

    /// Begins HashKV at `revision` (0: the newest).
    pub fn hash_start(&self, _revision: i64) -> Result<HashRead, Reject> {
        panic!("lands next")
    }

    /// Goes on with it; starts again by itself when a compaction moves the compact revision.
    pub fn hash_step(
        &self,
        _read: &mut HashRead,
        _budget: &mut WorkBudget,
    ) -> Result<Result<Step<KvHash>, Reject>, Corruption> {
        panic!("lands next")
    }

    /// HashKV in one go.
    pub fn hash_kv(&self, _revision: i64) -> Result<Result<KvHash, Reject>, Corruption> {
        panic!("lands next")
    }

    // ---- leases, alarms, members ----

    /// A lease by id.
    pub fn lease(&self, _id: i64) -> Result<Option<Lease>, Corruption> {
        panic!("lands next")
    }

    /// All leases by id.
    pub fn leases(&self) -> Result<Vec<Lease>, Corruption> {
        panic!("lands next")
    }

    /// Keys attached to a lease, in key order, shown to `sink`.
    pub fn lease_keys(&self, _id: i64, _sink: &mut dyn FnMut(&[u8])) -> Result<(), Corruption> {
        panic!("lands next")
    }

    /// Alarms that are up, by member and type.
    pub fn alarms(&self) -> Vec<(u64, AlarmType)> {
        panic!("lands next")
    }

    /// Members that have told of themselves, by id.
    pub fn members(&self) -> Result<Vec<Member>, Corruption> {
        panic!("lands next")
    }

    // ---- state ----

    /// The published revision; 1 in a fresh store.
    pub fn revision(&self) -> i64 {
        panic!("lands next")
    }

    /// The compact revision; -1 before the first compaction.
    pub fn compact_revision(&self) -> i64 {
        panic!("lands next")
    }

    /// What the next `CompactStep` is to name; `None` when nothing is left to remove.
    pub fn compact_pending(&self) -> Option<CompactMark> {
        panic!("lands next")
    }

    /// Index of the last entry applied.
    pub fn applied_index(&self) -> u64 {
        panic!("lands next")
    }

    /// Term of that entry.
    pub fn applied_term(&self) -> u64 {
        panic!("lands next")
    }

    /// The group's first entry, once applied.
    pub fn genesis(&self) -> Option<Genesis> {
        panic!("lands next")
    }

    /// Live keys.
    pub fn keys_count(&self) -> u64 {
        panic!("lands next")
    }

    /// Bytes of the page file.
    pub fn db_size_bytes(&self) -> u64 {
        panic!("lands next")
    }

    /// Bytes of pages in use.
    pub fn in_use_size_bytes(&self) -> u64 {
        panic!("lands next")
    }

    // ---- checkpoints ----

    /// Whether the interval has to end before the next entry is applied.
    pub fn interval_is_full(&self) -> bool {
        panic!("lands next")
    }

    /// Whether the interval may end: the checkpoint of the last one is durable.
    pub fn may_end_interval(&self) -> bool {
        panic!("lands next")
    }

    /// Ends the interval and returns what to write. Panics in the middle of a long entry and unless
    /// [`Engine::may_end_interval`].
    pub fn end_interval(&mut self) -> CheckpointPlan {
        panic!("lands next")
    }

    /// The plan of `interval` is durable, meta page included.
    pub fn checkpoint_durable(&mut self, interval: u64) {
        self.store.checkpoint_durable(interval);
    }
}
