//! The end of an interval and the way of its pages to the disk.
//!
//! Invariants: pages, sync, meta page, sync, in that order; a meta page is written only when the
//! WAL is synced up to its boundary; one checkpoint at a time, and apply waits at the end of an
//! interval while the last one is not durable. Pages leave at a rate, so that the final sync is
//! short. Source: storage.md, Pages and checkpoints 2 and 3; replication.md, What leaves when 3.

use std::sync::Arc;

use engine::page::checkpoint::{CheckpointPlan, PageWrite};
use engine::page::limits::PUNCH_PAGES_MIN;
use engine::page::map::{PAGE_SIZE_BYTES, PageMap, PageNumber};
use engine::wal::record::EntryId;

use raft::{Configuration, Index, Snapshot, Term};

use super::background::IDLE_CHECKPOINTS;
use super::{DEFAULT_GROUP, Replica};
use crate::effect::{Effect, Effects};
use crate::limits::{
    CHECKPOINT_PAGES_PER_MS, CHECKPOINT_PAGES_PER_STEP_MAX, SEAL_PAGES_PER_STEP_MAX,
};
use crate::metrics::{Histogram, Metrics, Scalar};
use crate::wal::ShardWal;

/// The checkpoint under way.
#[derive(Debug, Default)]
pub(super) struct CheckpointState {
    flight: Option<Flight>,
    /// Log position of the newest durable checkpoint.
    durable: EntryId,
    /// And of the one before it: the WAL is kept from there on.
    older_index: u64,
    /// The newest durable one, for members that lag; none before the first.
    newest: Option<Newest>,
    /// Entries up to here were dropped from memory.
    log_dropped_to: u64,
    /// The log is kept in memory from a checkpoint on even while nobody else needs it: somebody is
    /// about to.
    is_log_kept: bool,
    /// Newest checkpoints with nothing between them and the one before.
    quiet_checkpoints: u32,
    /// Where giving free space back to the file system goes on, while it does.
    punching_from: Option<PageNumber>,
}

/// A durable checkpoint as another member needs it.
#[derive(Debug)]
struct Newest {
    configuration: Configuration,
    meta: Arc<[u8]>,
}

#[derive(Debug)]
struct Flight {
    plan: CheckpointPlan,
    writes_done: usize,
    stage: FlightStage,
    applied_term: u64,
    /// The configuration at the boundary.
    configuration: Configuration,
    started_us: u64,
    paced_us: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FlightStage {
    WritingPages,
    SyncingPages,
    /// The pages are durable; the WAL is not synced up to the boundary yet.
    WaitingForWal,
    SyncingMeta,
}

impl CheckpointState {
    /// After a recovery from the checkpoint at `durable`, if there was one.
    pub fn recovered(
        durable: EntryId,
        older_index: u64,
        meta_page: Option<Vec<u8>>,
        configuration: Configuration,
    ) -> CheckpointState {
        assert!(older_index <= durable.index);
        CheckpointState {
            durable,
            older_index,
            newest: meta_page.map(|meta| Newest { configuration, meta: meta.into() }),
            ..CheckpointState::default()
        }
    }

    /// A received checkpoint took the place of the own ones.
    pub fn on_installed(&mut self, last: EntryId, configuration: Configuration, meta: Vec<u8>) {
        assert!(self.durable.index < last.index);
        *self = CheckpointState::recovered(last, last.index, Some(meta), configuration);
    }

    /// A received checkpoint took the place of broken pages; the log in memory is what it was.
    pub fn on_replaced(&mut self, last: EntryId, configuration: Configuration, meta: Vec<u8>) {
        let (log_dropped_to, is_log_kept) = (self.log_dropped_to, self.is_log_kept);
        self.on_installed(last, configuration, meta);
        (self.log_dropped_to, self.is_log_kept) = (log_dropped_to, is_log_kept);
    }

    /// The newest durable checkpoint: its last entry, configuration and meta page.
    pub fn newest(&self) -> Option<(EntryId, &Configuration, &[u8])> {
        let newest = self.newest.as_ref()?;
        Some((self.durable, &newest.configuration, &newest.meta))
    }

    /// Pages that are being written, by ascending number.
    pub fn pages_in_flight(&self) -> &[PageWrite] {
        self.flight.as_ref().map_or(&[], |flight| &flight.plan.writes)
    }

    /// Whether pages of a checkpoint are on their way to the disk.
    pub fn is_under_way(&self) -> bool {
        self.flight.is_some()
    }

    /// Space is given back another time.
    pub fn stop_punching(&mut self) {
        self.punching_from = None;
    }

    /// From now on the log is kept as if somebody lagged.
    pub fn keep_log(&mut self) {
        self.is_log_kept = true;
    }

    /// Whether it is.
    pub fn is_log_kept(&self) -> bool {
        self.is_log_kept
    }

    /// Entries up to here are not in memory any more.
    pub fn log_dropped_to(&self) -> u64 {
        self.log_dropped_to
    }

    /// Whether a member that has nothing could be sent the newest one, and the log from there on.
    pub fn serves_newborn(&self) -> bool {
        self.log_dropped_to.max(1) <= self.durable.index
    }

    /// Entries up to here were dropped from memory.
    pub fn on_log_dropped(&mut self, index: u64) {
        self.log_dropped_to = self.log_dropped_to.max(index);
    }

    /// The newest durable checkpoint.
    pub fn durable(&self) -> EntryId {
        self.durable
    }

    /// Entries up to here need not be kept for followers: a tail of the log spares who lags a
    /// little the transfer of the state, unless it grows too large.
    pub fn log_kept_from(&self, applied: u64, tail_entries: u64, size_bytes: usize) -> u64 {
        let tail = applied.saturating_sub(tail_entries);
        let is_large = LOG_RETAINED_BYTES_MAX < size_bytes;
        if is_large { self.durable.index } else { self.older_index.min(tail) }
    }

    /// Whether one is under way, or space is being given back.
    pub fn is_busy(&self) -> bool {
        self.flight.is_some() || self.punching_from.is_some()
    }
}

impl<M: PageMap> Replica<M> {
    /// Ends the interval if it is full. False while apply has to wait.
    pub(super) fn may_apply_on(&mut self, metrics: &mut Metrics) -> bool {
        if !self.engine.interval_is_full() {
            self.health.observe_apply(false, self.now_us);
            return true;
        }
        if self.receiving.holds_pages() {
            return false;
        }
        if self.page_repair.holds_pages() {
            self.health.observe_apply(!self.committed.is_empty(), self.now_us);
            return false;
        }
        if self.checkpoint.flight.is_some() || !self.engine.may_end_interval() {
            metrics.add(Scalar::ApplyWaits, u64::from(!self.committed.is_empty()));
            self.health.observe_apply(!self.committed.is_empty(), self.now_us);
            return false;
        }
        self.health.observe_apply(false, self.now_us);
        if !self.engine.seal_some(SEAL_PAGES_PER_STEP_MAX) {
            // Apply waits some steps; ticks, reads and what is synced go on in between.
            self.needs_step = true;
            return false;
        }
        let plan = self.engine.end_interval();
        assert!(plan.applied_index == self.engine.applied_index());
        self.checkpoint.flight = Some(Flight {
            plan,
            writes_done: 0,
            stage: FlightStage::WritingPages,
            applied_term: self.engine.applied_term(),
            configuration: self.raft.configuration().clone(),
            started_us: self.now_us,
            paced_us: self.now_us,
        });
        true
    }

    pub(super) fn run_checkpoint(
        &mut self,
        wal: &mut ShardWal,
        _metrics: &mut Metrics,
        fx: &mut Effects,
    ) {
        if let Some(from) = self.checkpoint.punching_from {
            self.punch_holes(from, fx);
        }
        let Some(flight) = &mut self.checkpoint.flight else { return };
        match flight.stage {
            FlightStage::WritingPages => {
                if flight.write_pages(self.now_us, fx) {
                    flight.stage = FlightStage::SyncingPages;
                    fx.push(Effect::PageSync { interval: flight.plan.interval });
                } else {
                    fx.wake_at(self.now_us + 1_000);
                }
            }
            FlightStage::WaitingForWal => {
                if wal.is_synced_to(DEFAULT_GROUP, flight.plan.applied_index) {
                    flight.write_meta(fx);
                }
            }
            FlightStage::SyncingPages | FlightStage::SyncingMeta => {}
        }
    }

    pub(super) fn on_pages_synced(&mut self, interval: u64, wal: &mut ShardWal, fx: &mut Effects) {
        let flight = self.checkpoint.flight.as_mut().expect("a checkpoint is under way");
        assert!(flight.plan.interval == interval);
        assert!(flight.stage == FlightStage::SyncingPages);
        flight.stage = FlightStage::WaitingForWal;
        if wal.is_synced_to(DEFAULT_GROUP, flight.plan.applied_index) {
            flight.write_meta(fx);
        }
    }

    pub(super) fn on_meta_synced(
        &mut self,
        interval: u64,
        wal: &mut ShardWal,
        metrics: &mut Metrics,
    ) {
        let flight = self.checkpoint.flight.take().expect("a checkpoint is under way");
        assert!(flight.plan.interval == interval);
        assert!(flight.stage == FlightStage::SyncingMeta);
        let newest = EntryId { index: flight.plan.applied_index, term: flight.applied_term };
        let older = self.checkpoint.durable;
        assert!(older.index < newest.index);
        self.engine.checkpoint_durable(interval);
        self.checkpoint.older_index = older.index;
        self.checkpoint.durable = newest;
        self.checkpoint.newest = Some(Newest {
            configuration: flight.configuration.clone(),
            meta: flight.plan.meta.clone(),
        });
        wal.on_checkpoint(DEFAULT_GROUP, older);
        metrics.add(Scalar::Checkpoints, 1);
        metrics.observe_us(Histogram::BackendCommit, self.now_us - flight.started_us);
        self.observe_rest(older, newest);
        let last = raft::EntryId { index: Index(newest.index), term: Term(newest.term) };
        self.raft.checkpointed(Snapshot { last, configuration: flight.configuration });
        self.compact_log(self.engine.applied_index());
        self.needs_step = true;
    }

    /// A checkpoint that holds only its own command more than the one before: the store is at rest,
    /// on every member alike. What was freed last is out of both meta pages' reach at the second.
    fn observe_rest(&mut self, older: EntryId, newest: EntryId) {
        let checkpoint = &mut self.checkpoint;
        let is_quiet = newest.index == older.index + 1;
        checkpoint.quiet_checkpoints = if is_quiet { checkpoint.quiet_checkpoints + 1 } else { 0 };
        if QUIET_CHECKPOINTS <= checkpoint.quiet_checkpoints {
            checkpoint.punching_from = Some(PageNumber(0));
        }
    }

    /// Gives free space back, a bounded number of runs a step. While a checkpoint is written it
    /// waits: pages that become free by it are given back too.
    fn punch_holes(&mut self, mut from: PageNumber, fx: &mut Effects) {
        if !self.engine.store().may_end_interval() {
            return;
        }
        self.checkpoint.punching_from = None;
        for _ in 0..HOLES_PER_STEP_MAX {
            let Some((first, pages)) = self.engine.store().release_free_run(from) else { return };
            if u64::from(PUNCH_PAGES_MIN) <= pages {
                fx.push(Effect::PunchHole { first: first.0, pages });
            }
            from = PageNumber(first.0 + pages);
        }
        self.checkpoint.punching_from = Some(from);
        self.needs_step = true;
    }
}

/// Quiet checkpoints after which free space is given back: the first one at rest is none, since it
/// ends the interval of the last changes.
const QUIET_CHECKPOINTS: u32 = IDLE_CHECKPOINTS - 1;
/// Free runs looked at in one step.
const HOLES_PER_STEP_MAX: usize = 256;
/// Bytes of entries kept in memory below the newest checkpoint.
const LOG_RETAINED_BYTES_MAX: usize = 128 << 20;

impl Flight {
    /// Hands over as many pages as the pace allows; true when all are.
    fn write_pages(&mut self, now_us: u64, fx: &mut Effects) -> bool {
        let elapsed_ms = (now_us - self.paced_us) / 1_000;
        let allowed = if self.writes_done == 0 { 1 } else { elapsed_ms };
        let pages_max = (allowed * CHECKPOINT_PAGES_PER_MS) as usize;
        let mut pages_left = pages_max.min(CHECKPOINT_PAGES_PER_STEP_MAX);
        if pages_left == 0 {
            return self.writes_done == self.plan.writes.len();
        }
        self.paced_us = now_us;
        while let Some(write) = self.plan.writes.get(self.writes_done) {
            let pages = write.bytes.len() / PAGE_SIZE_BYTES;
            fx.push(Effect::PageWrite { first: write.first.0, bytes: write.bytes.clone() });
            self.writes_done += 1;
            if pages_left <= pages {
                break;
            }
            pages_left -= pages;
        }
        self.writes_done == self.plan.writes.len()
    }

    fn write_meta(&mut self, fx: &mut Effects) {
        assert!(self.stage == FlightStage::WaitingForWal);
        self.stage = FlightStage::SyncingMeta;
        fx.push(Effect::MetaWrite {
            interval: self.plan.interval,
            slot: self.plan.meta_slot.0,
            bytes: self.plan.meta.clone(),
        });
    }
}
