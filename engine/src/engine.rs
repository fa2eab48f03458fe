//! The state machine of one group: entries of the log in, answers and events out.
//!
//! Deterministic: apply reads the entry and the replicated state only, so replicas at one applied
//! index are equal page by page. Invariants: the published revision never goes back; the compact
//! revision is at most the published one; a checkpoint's boundary never falls inside of an entry.
//! Source: `docs/format/versions.md`; fact sheet of etcd's behaviour.

mod apply;

use crate::api::{
    AlarmType, Event, EventListMark, KeyValue, ProposalId, RangeRequest, RangeResponse, Reject,
    Response, TxnRequest, TxnResponse,
};
use crate::command::Malformed;
use crate::lease::{self, Lease, LeaseChange};
use crate::limits::VALUE_INLINE_BYTES_MAX;
use crate::mvcc::budget::WorkBudget;
use crate::mvcc::hash::{HashRead, KvHash};
use crate::mvcc::history::{self, HistoryProgress, SinkState};
use crate::mvcc::members;
use crate::mvcc::range::{RangeRead, resolve_revision};
use crate::mvcc::run::OpRun;
use crate::mvcc::system::{self, GroupState};
use crate::mvcc::trees::Trees;
use crate::mvcc::txn::PathRun;
use crate::mvcc::txn_read::TxnRead;
use crate::mvcc::verify;
use crate::mvcc::version::Position;
use crate::page::checkpoint::CheckpointPlan;
use crate::page::map::{Corruption, PAGE_SIZE_BYTES, PageMap};
use crate::page::meta::Meta;
use crate::page::store::Store;
use crate::tree::Tree;
use std::fmt;

/// The store of one group.
#[derive(Debug)]
pub struct Engine<M> {
    trees: Trees<M>,
    /// Published: what reads see.
    revision: i64,
    compact_mark: Position,
    applied_index: u64,
    applied_term: u64,
    genesis: Option<Genesis>,
    /// Alarms that are up, as in the system tree; one or two a member.
    alarms: Vec<(u64, AlarmType)>,
    /// Bytes of entries applied since the interval began.
    interval_bytes: u64,
    /// An entry asked for the end of the interval.
    checkpoint_asked: bool,
    /// Whose proposals are answered with key-values; `None` is everyone's.
    answered: Option<(u64, u64)>,
    /// The long entry under way.
    running: Option<Running>,
}

/// A long entry between two slices.
#[derive(Debug)]
struct Running {
    index: u64,
    term: u64,
    entry: Vec<u8>,
    stage: Stage,
    events_start: EventListMark,
    too_many_events: bool,
}

/// How far a long entry came.
#[derive(Debug)]
enum Stage {
    /// Evaluates the guards of a transaction.
    Path(PathRun),
    /// Checks the operations on its path, from this one on.
    Check { path: Vec<bool>, slot: usize },
    /// Runs them.
    Ops { path: Vec<bool>, run: OpRun },
    /// Deletes the keys of a lease.
    Revoke { run: OpRun },
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
    /// The entry was one about members.
    pub members_changed: bool,
}

/// Whether a caller's list holds all events of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventsState {
    /// All are there (or there were none).
    Complete,
    /// They are more than `ENTRY_EVENTS_SIZE_BYTES_MAX`: the list got none of them, watchers read
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
    /// The group's first entry is not a `Genesis` this binary can serve.
    Genesis,
}

impl fmt::Display for ApplyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ApplyError::Corruption(corruption) => corruption.fmt(f),
            ApplyError::Malformed(malformed) => malformed.fmt(f),
            ApplyError::Genesis => write!(f, "the group's first entry cannot be served"),
        }
    }
}

impl std::error::Error for ApplyError {}

impl From<Corruption> for ApplyError {
    fn from(corruption: Corruption) -> ApplyError {
        ApplyError::Corruption(corruption)
    }
}

impl From<Malformed> for ApplyError {
    fn from(malformed: Malformed) -> ApplyError {
        ApplyError::Malformed(malformed)
    }
}

/// Why a checkpoint cannot be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenError {
    /// A page is broken.
    Corruption(Corruption),
    /// The state in the meta page is not one that this binary writes.
    State,
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpenError::Corruption(corruption) => corruption.fmt(f),
            OpenError::State => write!(f, "the meta page holds a state of another format"),
        }
    }
}

impl std::error::Error for OpenError {}

impl From<Corruption> for OpenError {
    fn from(corruption: Corruption) -> OpenError {
        OpenError::Corruption(corruption)
    }
}

/// One slice of a read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step<T> {
    /// The answer.
    Done(T),
    /// The budget is spent; go on in the next step.
    More,
}

/// A member of the group. It has no name until it told it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Member {
    pub id: u64,
    pub name: String,
    pub peer_urls: Vec<String>,
    pub client_urls: Vec<String>,
    /// Where it speaks the binary protocol; etcd's API does not show them.
    pub binary_urls: Vec<String>,
    pub is_learner: bool,
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
        let trees = Trees::new(Store::create(map, group), [Tree::EMPTY; 3], -1);
        Engine::new(trees, GroupState::fresh(), 0, Vec::new())
    }

    /// The store as the checkpoint `meta` left it.
    pub fn open(map: M, meta: &Meta) -> Result<Engine<M>, OpenError> {
        let state = GroupState::decode(&meta.state).ok_or(OpenError::State)?;
        let trees = Trees::new(Store::open(map, meta)?, meta.trees, state.compact_revision);
        let alarms = system::alarms(&trees.store, &trees.system)?;
        Ok(Engine::new(trees, state, meta.applied_index, alarms))
    }

    /// Goes on from another checkpoint of the group, whose pages lie in the file by now: everything
    /// applied since the last checkpoint is given up, and so is a long entry under way.
    ///
    /// # Errors
    /// [`OpenError`]: the pages are not what the meta page says; nothing of the store may be used.
    pub fn reopen(&mut self, meta: &Meta) -> Result<(), OpenError> {
        let durable = self.trees.store.durable_interval();
        assert!(durable < meta.interval, "a transfer brings something newer");
        self.go_on_from(meta)
    }

    /// Goes back to the newest durable checkpoint, `meta`, after applying an entry failed: what was
    /// applied since is to be applied again, with the same outcome. Calling it again after an error
    /// does no harm.
    ///
    /// # Errors
    /// As [`Engine::reopen`].
    pub fn rewind(&mut self, meta: &Meta) -> Result<(), OpenError> {
        assert!(meta.interval == self.trees.store.durable_interval());
        self.go_on_from(meta)
    }

    fn go_on_from(&mut self, meta: &Meta) -> Result<(), OpenError> {
        let state = GroupState::decode(&meta.state).ok_or(OpenError::State)?;
        let trees = &mut self.trees;
        trees.store.reopen(meta)?;
        [trees.keys, trees.history, trees.system] = meta.trees;
        trees.compact_revision = state.compact_revision;
        if let Some(genesis) = state.genesis {
            trees.value_inline_bytes_max = genesis.value_inline_bytes_max as usize;
            assert!(trees.value_inline_bytes_max <= VALUE_INLINE_BYTES_MAX);
        }
        self.alarms = system::alarms(&trees.store, &trees.system)?;
        self.revision = state.revision;
        self.compact_mark = state.compact_mark;
        self.applied_index = meta.applied_index;
        self.applied_term = state.applied_term;
        self.genesis = state.genesis;
        self.interval_bytes = 0;
        self.checkpoint_asked = false;
        self.running = None;
        Ok(())
    }

    fn new(
        mut trees: Trees<M>,
        state: GroupState,
        applied_index: u64,
        alarms: Vec<(u64, AlarmType)>,
    ) -> Engine<M> {
        if let Some(genesis) = state.genesis {
            trees.value_inline_bytes_max = genesis.value_inline_bytes_max as usize;
            assert!(trees.value_inline_bytes_max <= VALUE_INLINE_BYTES_MAX);
        }
        Engine {
            trees,
            revision: state.revision,
            compact_mark: state.compact_mark,
            applied_index,
            applied_term: state.applied_term,
            genesis: state.genesis,
            alarms,
            interval_bytes: 0,
            checkpoint_asked: false,
            answered: None,
            running: None,
        }
    }

    /// The store of pages, for its map, counters and holes.
    pub fn store(&self) -> &Store<M> {
        &self.trees.store
    }

    /// For the tests of what stands below.
    #[cfg(test)]
    pub(crate) fn trees(&self) -> &Trees<M> {
        &self.trees
    }

    /// As [`Engine::store`], to write a plan into a map that lives on the heap.
    pub fn store_mut(&mut self) -> &mut Store<M> {
        &mut self.trees.store
    }

    // ---- reads ----

    /// The published state of one key at `revision` (0 or less: the newest), borrowed: the hot read.
    pub fn get<'s>(
        &'s self,
        key: &'s [u8],
        revision: i64,
    ) -> Result<Result<Option<KeyValue<'s>>, Reject>, Corruption> {
        let at = match resolve_revision(revision, self.revision, self.compact_revision()) {
            Ok(at) => at,
            Err(reject) => return Ok(Err(reject)),
        };
        let version = match self.trees.newest(key)? {
            Some(newest) => self.trees.version_at(newest, at)?,
            None => None,
        };
        Ok(Ok(match version {
            Some(version) => Some(self.trees.key_value(key, &version)?),
            None => None,
        }))
    }

    /// A whole range in one go.
    pub fn range(
        &self,
        request: &RangeRequest<'_>,
    ) -> Result<Result<RangeResponse, Reject>, Corruption> {
        match self.range_start(request) {
            Ok(mut read) => whole(|budget| self.range_step(&mut read, budget)),
            Err(reject) => Ok(Err(reject)),
        }
    }

    /// Begins a range that may take several steps.
    pub fn range_start(&self, request: &RangeRequest<'_>) -> Result<RangeRead, Reject> {
        let at = resolve_revision(request.revision, self.revision, self.compact_revision())?;
        Ok(RangeRead::new(request, at, self.revision))
    }

    /// Goes on with it. Overtaken by compaction, a read at the newest revision of which nothing was
    /// taken yet starts again, any other is refused. The answer's revision is the store's when it
    /// began.
    pub fn range_step(
        &self,
        read: &mut RangeRead,
        budget: &mut WorkBudget,
    ) -> Result<Result<Step<RangeResponse>, Reject>, Corruption> {
        read.step(&self.trees, self.revision, budget)
    }

    /// A transaction of ranges only, in one go. A put or delete in it is the caller's error.
    pub fn txn_read(
        &self,
        txn: &TxnRequest<'_>,
    ) -> Result<Result<TxnResponse, Reject>, Corruption> {
        let mut read = self.txn_read_start();
        whole(|budget| self.txn_read_step(txn, &mut read, budget))
    }

    /// Begins a transaction of ranges only that may take several steps.
    pub fn txn_read_start(&self) -> TxnRead {
        TxnRead::new(self.revision)
    }

    /// Goes on with it; the same `txn` is handed in with every step.
    pub fn txn_read_step(
        &self,
        txn: &TxnRequest<'_>,
        read: &mut TxnRead,
        budget: &mut WorkBudget,
    ) -> Result<Result<Step<TxnResponse>, Reject>, Corruption> {
        read.step(&self.trees, txn, self.revision, budget)
    }

    /// Shows the published events from `from` to the end of main revision `to`, in order, with what
    /// they replaced. Refused when `from` is before the compact revision.
    pub fn history(
        &self,
        from: Position,
        to: i64,
        budget: &mut WorkBudget,
        sink: &mut dyn FnMut(Event<'_>) -> SinkState,
    ) -> Result<Result<HistoryProgress, Reject>, Corruption> {
        if from.main < self.compact_revision() {
            return Ok(Err(Reject::Compacted));
        }
        let from = from.max(Position::first_of(0));
        history::scan(&self.trees, from, to.min(self.revision), budget, sink).map(Ok)
    }

    /// Begins HashKV at `revision` (0 or less: the newest).
    pub fn hash_start(&self, revision: i64) -> Result<HashRead, Reject> {
        let at = resolve_revision(revision, self.revision, self.compact_revision())?;
        Ok(HashRead::new(revision, at, self.compact_revision()))
    }

    /// Goes on with it; starts again by itself when a compaction moves the compact revision.
    pub fn hash_step(
        &self,
        read: &mut HashRead,
        budget: &mut WorkBudget,
    ) -> Result<Result<Step<KvHash>, Reject>, Corruption> {
        read.step(&self.trees, self.revision, budget)
    }

    /// HashKV in one go.
    pub fn hash_kv(&self, revision: i64) -> Result<Result<KvHash, Reject>, Corruption> {
        match self.hash_start(revision) {
            Ok(mut read) => whole(|budget| self.hash_step(&mut read, budget)),
            Err(reject) => Ok(Err(reject)),
        }
    }

    // ---- leases, alarms, members ----

    /// A lease by id.
    pub fn lease(&self, id: i64) -> Result<Option<Lease>, Corruption> {
        lease::lookup(&self.trees.store, &self.trees.system, id)
    }

    /// All leases by id.
    pub fn leases(&self) -> Result<Vec<Lease>, Corruption> {
        lease::all(&self.trees.store, &self.trees.system)
    }

    /// Keys attached to a lease, in key order, shown to `sink`.
    pub fn lease_keys(&self, id: i64, sink: &mut dyn FnMut(&[u8])) -> Result<(), Corruption> {
        match id {
            0 => Ok(()),
            _ => lease::for_each_key(&self.trees.store, &self.trees.system, id, sink),
        }
    }

    /// Alarms that are up, by member.
    pub fn alarms(&self) -> &[(u64, AlarmType)] {
        &self.alarms
    }

    /// Members, by id; none before they were founded.
    pub fn members(&self) -> Result<Vec<Member>, Corruption> {
        members::members(&self.trees.store, &self.trees.system)
    }

    /// Ids of members that were removed, ascending.
    pub fn removed_ids(&self) -> Result<Vec<u64>, Corruption> {
        members::removed_ids(&self.trees.store, &self.trees.system)
    }

    // ---- state ----

    /// The published revision; 1 in a fresh store.
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// The compact revision; -1 before the first compaction.
    pub fn compact_revision(&self) -> i64 {
        self.trees.compact_revision
    }

    /// What the next `CompactStep` is to name; `None` when nothing is left to remove.
    pub fn compact_pending(&self) -> Option<CompactMark> {
        let bound = Position::first_of(self.compact_revision().max(0));
        let Position { main, sub } = self.compact_mark;
        (self.compact_mark < bound).then_some(CompactMark { main, sub: i64::from(sub) })
    }

    /// Index of the last entry applied.
    pub fn applied_index(&self) -> u64 {
        self.applied_index
    }

    /// Term of that entry.
    pub fn applied_term(&self) -> u64 {
        self.applied_term
    }

    /// The group's first entry, once applied.
    pub fn genesis(&self) -> Option<Genesis> {
        self.genesis
    }

    /// Live keys; with a long entry under way, as it has left them so far.
    pub fn keys_count(&self) -> u64 {
        self.trees.keys.weight
    }

    /// Bytes of the page file.
    pub fn db_size_bytes(&self) -> u64 {
        self.trees.store.counters().pages * PAGE_SIZE_BYTES as u64
    }

    /// Bytes of pages in use.
    pub fn in_use_size_bytes(&self) -> u64 {
        let counters = self.trees.store.counters();
        let unused = counters.pages_free + counters.pages_pending;
        (counters.pages - unused) * PAGE_SIZE_BYTES as u64
    }

    /// Panics if an invariant of the whole store is broken. Slow: for simulations and tests, with no
    /// entry under way.
    pub fn verify(&self) -> Result<(), Corruption> {
        assert!(self.running.is_none());
        assert!(self.compact_revision() <= self.revision);
        verify::verify(&self.trees)
    }

    // ---- checkpoints ----

    /// Whether the interval has to end before the next entry is applied.
    pub fn interval_is_full(&self) -> bool {
        let Some(genesis) = self.genesis.filter(|_| self.running.is_none()) else { return false };
        self.checkpoint_asked
            || genesis.interval_bytes_max <= self.interval_bytes
            || u64::from(genesis.interval_pages_max) <= self.trees.store.dirty_pages()
    }

    /// Whether the interval may end: the checkpoint of the last one is durable.
    pub fn may_end_interval(&self) -> bool {
        self.running.is_none() && self.trees.store.may_end_interval()
    }

    /// Seals up to `pages_max` pages of an interval that is full, so that its end is short: true when
    /// all are, and [`Engine::end_interval`] may come. Nothing is applied in between. Panics unless
    /// [`Engine::may_end_interval`].
    pub fn seal_some(&mut self, pages_max: u64) -> bool {
        assert!(self.may_end_interval());
        let Trees { store, keys, history, system, .. } = &mut self.trees;
        store.seal_some(&[*keys, *history, *system], pages_max)
    }

    /// Ends the interval and returns what to write. Panics unless [`Engine::may_end_interval`].
    pub fn end_interval(&mut self) -> CheckpointPlan {
        assert!(self.may_end_interval());
        let state = GroupState {
            revision: self.revision,
            compact_revision: self.compact_revision(),
            compact_mark: self.compact_mark,
            applied_term: self.applied_term,
            genesis: self.genesis,
        };
        let Trees { store, keys, history, system, .. } = &mut self.trees;
        let mut roots = [*keys, *history, *system];
        let plan = store.end_interval(&mut roots, self.applied_index, &state.encode());
        [*keys, *history, *system] = roots;
        self.interval_bytes = 0;
        self.checkpoint_asked = false;
        plan
    }

    /// The plan of `interval` is durable, meta page included.
    pub fn checkpoint_durable(&mut self, interval: u64) {
        self.trees.store.checkpoint_durable(interval);
    }
}

/// A read without a bound on its work.
fn whole<T>(
    mut step: impl FnMut(&mut WorkBudget) -> Result<Result<Step<T>, Reject>, Corruption>,
) -> Result<Result<T, Reject>, Corruption> {
    let mut budget = WorkBudget::unlimited();
    Ok(match step(&mut budget)? {
        Ok(Step::Done(answer)) => Ok(answer),
        Ok(Step::More) => panic!("an unlimited budget is never spent"),
        Err(reject) => Err(reject),
    })
}
