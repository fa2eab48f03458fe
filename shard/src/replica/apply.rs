//! Committed entries into the store, answers and events out of it.
//!
//! Invariants: entries are applied in order, each once; a long one in slices over several steps;
//! its answer and events leave with the last slice, in the step that published it.

use engine::api::{EventList, Reject, Response};
use engine::engine::{Applied, ApplyError, EventsState, Outcome as EntryOutcome};
use engine::lease::LeaseChange;
use engine::mvcc::budget::WorkBudget;
use engine::page::map::PageMap;
use raft::{Entry, EntryKind, Index};

use super::pending::Waiter;
use super::{Replica, Stage};
use crate::effect::{Effect, Effects, LogLevel};
use crate::message::{Outcome, ProposalClass, Unavailable};
use crate::metrics::{Metrics, Scalar};

/// Entries kept in memory while a member is sent the state that they go on from.
const TRANSFER_LOG_BYTES_MAX: usize = 512 << 20;
/// Applied entries are dropped from memory in strides of this many.
const LOG_COMPACT_STRIDE: u64 = 256;

impl<M: PageMap> Replica<M> {
    /// Applies what is committed, within the step's budget.
    pub(super) fn apply_committed(&mut self, metrics: &mut Metrics, fx: &mut Effects) {
        if self.is_store_away() {
            return;
        }
        let mut budget = WorkBudget::new(self.work_units_left);
        let mut approached = 0;
        while self.engine.is_applying() || !self.committed.is_empty() {
            if self.rewind.is_some() {
                return;
            }
            if budget.is_spent() {
                self.needs_step = true;
                break;
            }
            if self.engine.is_applying() {
                self.apply_slice(None, &mut budget, metrics, fx);
                continue;
            }
            if !self.may_apply_on(metrics) {
                break;
            }
            if approached == 0 {
                approached =
                    self.engine.approach(self.committed.iter().map(|entry| &entry.data[..]));
            }
            approached -= 1;
            let entry = self.committed.pop_front().expect("checked above");
            self.apply_entry(&entry, &mut budget, metrics, fx);
        }
        self.work_units_left = budget.units_left();
        if self.rewind.is_none() && !self.engine.is_applying() && self.committed.is_empty() {
            // An interval that is full ends although nothing follows.
            self.may_apply_on(metrics);
        }
    }

    fn apply_entry(
        &mut self,
        entry: &Entry,
        budget: &mut WorkBudget,
        metrics: &mut Metrics,
        fx: &mut Effects,
    ) {
        let index = entry.index.0;
        assert!(index == self.engine.applied_index() + 1, "entries are applied in order");
        match entry.kind {
            EntryKind::Command => self.apply_slice(Some(entry), budget, metrics, fx),
            EntryKind::ConfigChange if !entry.data.is_empty() => {
                self.apply_slice(Some(entry), budget, metrics, fx);
                assert!(!self.engine.is_applying(), "changes of members are short");
            }
            EntryKind::Empty | EntryKind::ConfigChange => {
                self.engine.skip(index, entry.term.0);
                self.on_applied(index);
                if entry.kind == EntryKind::Empty {
                    while let Some(waiter) = self.pending.take_lost(entry.term.0) {
                        self.on_proposal_lost(waiter, Unavailable::LeaderFailed);
                    }
                }
            }
        }
    }

    /// The first slice of an entry, or the next one of the entry under way.
    fn apply_slice(
        &mut self,
        entry: Option<&Entry>,
        budget: &mut WorkBudget,
        metrics: &mut Metrics,
        fx: &mut Effects,
    ) {
        let mut events = std::mem::take(&mut self.events);
        if let Some(entry) = entry {
            self.background.on_entry(&entry.data, self.now_us);
            // Decided once an entry: a list that lacks the first slices would be a gap.
            self.are_events_listed = !self.watches.is_empty();
        }
        let wanted = self.are_events_listed.then_some(&mut events);
        let applied = match entry {
            Some(entry) => {
                assert!(wanted.as_ref().is_none_or(|events| events.is_empty()));
                self.engine.apply(entry.index.0, entry.term.0, &entry.data, budget, wanted)
            }
            None => self.engine.apply_more(budget, wanted),
        };
        match applied {
            Ok(Applied::Done(outcome)) => {
                let is_accepted = is_done(&outcome.response);
                self.on_entry_done(outcome, &mut events, metrics, fx);
                if let Some(entry) = entry
                    && entry.kind == EntryKind::ConfigChange
                    && is_accepted
                {
                    self.apply_configuration(&entry.data, fx);
                }
                events.clear();
                self.on_applied(self.engine.applied_index());
            }
            Ok(Applied::More) => {
                metrics.add(Scalar::SlowApply, u64::from(entry.is_some()));
            }
            Err(ApplyError::Corruption(corruption)) if self.begin_rewind(&corruption) => {
                events.clear();
            }
            Err(failure) => stop_for(failure, self.engine.applied_index() + 1),
        }
        self.events = events;
    }

    fn on_applied(&mut self, index: u64) {
        self.raft.applied(Index(index));
        if self.stage == Stage::Starting {
            self.needs_step = true;
        }
        if index.is_multiple_of(LOG_COMPACT_STRIDE) {
            self.compact_log(index);
        }
    }

    fn on_entry_done(
        &mut self,
        outcome: EntryOutcome,
        events: &mut EventList,
        metrics: &mut Metrics,
        fx: &mut Effects,
    ) {
        let EntryOutcome { proposal, response, events: events_state, lease_change, .. } = outcome;
        let are_members_changed = outcome.members_changed && is_done(&response);
        count(&response, metrics);
        if are_members_changed {
            self.on_members_changed();
        }
        let are_listed = self.are_events_listed && events_state == EventsState::Complete;
        self.publish_events(events, are_listed);
        match lease_change {
            Some(LeaseChange::Granted(lease)) => {
                metrics.add(Scalar::LeasesGranted, 1);
                self.leases.start(lease.id, lease.ttl_s, self.now_us);
            }
            Some(LeaseChange::Revoked(id)) => {
                metrics.add(Scalar::LeasesRevoked, 1);
                self.leases.forget(id);
            }
            None => {}
        }
        if let Response::Compact { .. } = response {
            self.on_compacted(fx);
        }
        let waiter = self.pending.complete(proposal);
        if let Some(Waiter::Call { class: ProposalClass::Members(kind), .. }) = waiter {
            self.figures.on_change_applied(kind, &response);
        }
        match waiter {
            Some(Waiter::Call { origin, class: ProposalClass::PhysicalCompaction })
                if self.engine.compact_pending().is_some() && is_compacted(&response) =>
            {
                self.hold_compaction(origin, response);
            }
            Some(Waiter::Call { origin, class: ProposalClass::Members(kind) })
                if is_done(&response) =>
            {
                let members = self.member_list();
                self.answer(origin, Outcome::MembersChanged { kind, members });
            }
            Some(Waiter::Call { origin, .. }) => self.answer(origin, Outcome::Applied(response)),
            Some(Waiter::Expiry { lease }) => {
                metrics.add(Scalar::LeasesExpired, 1);
                if let Response::Rejected { reject: Reject::LeaseNotFound, .. } = response {
                    self.leases.forget(lease);
                }
            }
            Some(Waiter::Background) => {
                self.background.on_own_applied(&response);
                if let Response::Alarm { .. } = response {
                    self.tell_refused();
                }
                self.needs_step = true;
            }
            None => {}
        }
    }

    /// Drops from memory what no follower will need: everything applied if there is none, else
    /// what the older checkpoint holds, or the newer one when too much would be kept.
    pub(super) fn compact_log(&mut self, applied: u64) {
        let configuration = self.raft.configuration();
        if configuration.members().count() <= 1 && !self.checkpoint.is_log_kept() {
            // What it needs after a crash is in the WAL.
            self.checkpoint.on_log_dropped(applied);
            return self.raft.compact_log(Index(applied));
        }
        let size_bytes = self.raft.log_size_bytes();
        let tail_entries = self.config.log_tail_entries;
        let kept_from = self.checkpoint.log_kept_from(applied, tail_entries, size_bytes);
        let mut up_to = kept_from.min(applied);
        if size_bytes <= TRANSFER_LOG_BYTES_MAX
            && let Some(needed) = self.raft.transfer_needs_from()
        {
            up_to = up_to.min(needed.previous().0);
        }
        self.checkpoint.on_log_dropped(up_to);
        self.raft.compact_log(Index(up_to));
    }

    fn on_compacted(&mut self, fx: &mut Effects) {
        // The removal begins in the next step.
        self.needs_step = true;
        if self.stage == Stage::Starting {
            return;
        }
        let fields = vec![
            ("compact-revision", self.engine.compact_revision().to_string()),
            ("current-revision", self.engine.revision().to_string()),
        ];
        let message = "compaction mark set".to_string();
        fx.push(Effect::Log { level: LogLevel::Info, message, fields });
    }
}

fn is_done(response: &Response) -> bool {
    matches!(response, Response::Done { .. })
}

fn is_compacted(response: &Response) -> bool {
    matches!(response, Response::Compact { .. })
}

fn count(response: &Response, metrics: &mut Metrics) {
    match response {
        Response::Put(_) => metrics.add(Scalar::Puts, 1),
        Response::DeleteRange(_) => metrics.add(Scalar::Deletes, 1),
        Response::Txn(_) => metrics.add(Scalar::Txns, 1),
        _ => {}
    }
}

/// A committed entry that cannot be applied, and no other member can help, ends this replica: going
/// on would be another state than the one the log says.
fn stop_for(failure: ApplyError, index: u64) -> ! {
    match failure {
        ApplyError::Corruption(corruption) => {
            panic!("entry {index} cannot be applied: {corruption}")
        }
        ApplyError::Malformed(malformed) => {
            panic!("entry {index} is not one this version can read: {malformed}")
        }
        ApplyError::Genesis => panic!("entry {index}: the group's genesis is not one of ours"),
    }
}
