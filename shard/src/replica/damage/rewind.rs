//! Applying an entry met a broken page: back to the last checkpoint, and the same entries again.
//!
//! An entry that fails in the middle leaves a store that is neither the one before it nor the one
//! behind it. When the page is mended the store goes on from its newest durable checkpoint, whose
//! entries behind it are all in memory, and applies them again: with the same outcome, since apply
//! reads the entry and the state alone. Invariants: nothing looks at the store until it is where it
//! was; what was answered and told then is not told again; the entry that failed comes next, like
//! any other. Source: storage.md, "Reading through the map" 1; replication.md, What leaves when 3.

use engine::engine::{ApplyError, OpenError};
use engine::mvcc::budget::WorkBudget;
use engine::page::map::{Corruption, PageMap};
use engine::page::meta::check_meta;
use raft::{Entry, EntryKind, Index, Snapshot};

use super::page_repair::Need;
use crate::effect::{Effect, Effects, LogLevel};
use crate::replica::{Replica, STEP_WORK_UNITS};

/// Bytes of entries that are read again at once, beside the first one.
const ENTRIES_SIZE_BYTES: usize = 1 << 20;

/// The store is on its way back to where it was.
#[derive(Debug)]
pub(in crate::replica) struct Rewind {
    /// The last entry whose application was complete.
    target: u64,
    /// The revision that was published then.
    pub revision: i64,
    stage: Stage,
    /// The entry that failed was taken out of those to be applied.
    has_failed: bool,
    /// Read from the log, not applied again yet, last one first.
    entries: Vec<Entry>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// A page is being mended, or a checkpoint made durable.
    Waiting,
    /// Entries are applied again.
    Replaying,
}

impl<M: PageMap> Replica<M> {
    /// A received state took the place of the broken pages; the log contains it.
    pub(in crate::replica) fn go_on_from_adopted(&mut self, state: &Snapshot, fx: &mut Effects) {
        let index = state.last.index.0;
        let rewind = self.rewind.as_mut().expect("a state is adopted because of broken pages");
        rewind.stage = Stage::Replaying;
        rewind.entries.clear();
        if rewind.target < index {
            // It is ahead of where the store was, and maybe of what Raft handed out.
            (rewind.target, rewind.has_failed) = (index, false);
            rewind.revision = self.engine.revision();
            self.committed.retain(|entry| index < entry.index.0);
            self.is_configuration_new |= *self.raft.configuration() != state.configuration;
            self.raft.adopted(state);
            self.end_rewind(fx);
            self.on_store_replaced();
        }
    }

    /// Whether the store must not be looked at: it is being replaced, not where it was, or not open.
    pub(in crate::replica) fn is_store_away(&self) -> bool {
        self.is_installing() || self.rewind.is_some() || self.opening.is_some()
    }

    /// Applying the entry behind the last applied one failed. False if nothing can be done.
    pub(in crate::replica) fn begin_rewind(&mut self, corruption: &Corruption) -> bool {
        let target = self.engine.applied_index();
        let has_checkpoint = self.checkpoint.newest().is_some();
        let next = self.checkpoint.durable().index + 1;
        let has_entries = self.checkpoint.log_dropped_to() < next;
        if !has_checkpoint || !has_entries || !self.on_broken_page(corruption, Need::Apply) {
            return false;
        }
        assert!(self.rewind.is_none() && next <= target + 1);
        let revision = self.engine.revision();
        let (stage, entries) = (Stage::Waiting, Vec::new());
        self.rewind = Some(Rewind { target, revision, stage, has_failed: true, entries });
        true
    }

    /// One more step back to where the store was.
    pub(in crate::replica) fn run_rewind(&mut self, fx: &mut Effects) {
        let Some(rewind) = &self.rewind else { return };
        // Who leads hands over if this takes long.
        self.health.observe_apply(true, self.now_us);
        let failed = match rewind.stage {
            _ if self.page_repair.is_needed() => return,
            Stage::Waiting => self.go_back(fx),
            Stage::Replaying => self.replay(fx),
        };
        if let Err(corruption) = failed {
            let rewind = self.rewind.as_mut().expect("just looked at");
            rewind.stage = Stage::Waiting;
            rewind.entries.clear();
            if !self.on_broken_page(&corruption, Need::Apply) {
                panic!("the store cannot be brought back: {corruption}");
            }
        }
    }

    /// The store is the newest checkpoint again.
    fn go_back(&mut self, fx: &mut Effects) -> Result<(), Corruption> {
        if self.checkpoint.is_under_way() {
            return Ok(());
        }
        let (_, _, page) = self.checkpoint.newest().expect("looked at when it began");
        let meta = (0..2).find_map(|slot| check_meta(page, slot));
        let meta = meta.expect("the meta page of an own checkpoint is whole");
        match self.engine.rewind(&meta) {
            Ok(()) => {}
            Err(OpenError::Corruption(corruption)) => return Err(corruption),
            Err(error @ OpenError::State) => panic!("the own checkpoint cannot be opened: {error}"),
        }
        let rewind = self.rewind.as_mut().expect("the caller looked at it");
        rewind.stage = Stage::Replaying;
        let fields = vec![
            ("from-index", meta.applied_index.to_string()),
            ("to-index", rewind.target.to_string()),
        ];
        let message = "applying entries again behind a repaired page".to_string();
        fx.push(Effect::Log { level: LogLevel::Info, message, fields });
        self.replay(fx)
    }

    /// Applies again what was applied, within a step's budget.
    fn replay(&mut self, fx: &mut Effects) -> Result<(), Corruption> {
        let mut budget = WorkBudget::new(STEP_WORK_UNITS);
        loop {
            let target = self.rewind.as_ref().expect("the caller looked at it").target;
            assert!(self.engine.applied_index() <= target);
            if self.engine.applied_index() == target && !self.engine.is_applying() {
                self.end_rewind(fx);
                return Ok(());
            }
            if budget.is_spent() {
                self.needs_step = true;
                return Ok(());
            }
            let applied = if self.engine.is_applying() {
                self.engine.apply_more(&mut budget, None)
            } else {
                let entry = self.next_replayed();
                let (index, term) = (entry.index.0, entry.term.0);
                match entry.kind {
                    EntryKind::Empty => {
                        self.engine.skip(index, term);
                        continue;
                    }
                    EntryKind::ConfigChange if entry.data.is_empty() => {
                        self.engine.skip(index, term);
                        continue;
                    }
                    EntryKind::Command | EntryKind::ConfigChange => {
                        self.engine.apply(index, term, &entry.data, &mut budget, None)
                    }
                }
            };
            match applied {
                // Who asked was answered then.
                Ok(_) => {}
                Err(ApplyError::Corruption(corruption)) => return Err(corruption),
                Err(error) => panic!("an entry that was applied is refused: {error}"),
            }
        }
    }

    fn next_replayed(&mut self) -> Entry {
        let next = self.engine.applied_index() + 1;
        let rewind = self.rewind.as_mut().expect("the caller looked at it");
        if rewind.entries.is_empty() {
            let read = self.raft.entries(Index(next), ENTRIES_SIZE_BYTES, &mut rewind.entries);
            assert!(read.is_ok(), "entries behind the checkpoint are in memory");
            rewind.entries.reverse();
        }
        let entry = rewind.entries.pop().expect("one at least was read");
        assert!(entry.index.0 == next);
        entry
    }

    /// The store is where it was: the entry that failed comes next.
    fn end_rewind(&mut self, fx: &mut Effects) {
        let rewind = self.rewind.take().expect("the caller looked at it");
        assert!(self.engine.revision() == rewind.revision, "the same entries, the same outcome");
        let failed = rewind.target + 1;
        if rewind.has_failed {
            assert!(self.committed.front().is_none_or(|next| failed < next.index.0));
            let mut entries = Vec::new();
            let read = self.raft.entries(Index(failed), 0, &mut entries);
            assert!(read.is_ok(), "an entry that is not applied is in memory");
            self.committed.push_front(entries.swap_remove(0));
        }
        self.health.observe_apply(false, self.now_us);
        self.needs_step = true;
        let fields = vec![("index", rewind.target.to_string())];
        let message = "the store is where it was before a page was found broken".to_string();
        fx.push(Effect::Log { level: LogLevel::Info, message, fields });
    }
}
