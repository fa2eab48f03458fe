//! Appends and heartbeats: the leader's and the follower's half side by side.
//!
//! Invariants: a leader commits by counting only entries of its own term, and counts itself only
//! for what is durable here; a follower acknowledges only what agrees with the leader's log, and the
//! acknowledgement leaves after it is durable. Appends of one step leave together, at the flush.
//! Source: Raft thesis sections 3.5, 3.6.2, 10.2.1; fact sheet of scenarios C, D.

use bytes::Bytes;

use crate::error::StepError;
use crate::message::{AppendOutcome, Body, LeaseReads};
use crate::node::RaftNode;
use crate::progress::{Inflights, Progress, ProgressState};
use crate::quorum::joint_reached;
use crate::types::{DiskHealth, Entry, EntryId, EntryKind, Index, ReplicaId, Role, Term};

/// What a transfer of state came to, as its sender knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnapshotOutcome {
    /// The receiver has all of it.
    Succeeded,
    /// It ended early.
    Failed,
}

// The leader.
impl RaftNode {
    /// Appends an entry of the own term; it is sent at the next flush.
    pub(crate) fn append_own(&mut self, kind: EntryKind, data: Bytes) -> EntryId {
        assert!(self.role == Role::Leader);
        let id = self.log.append(self.ballot.term, kind, data);
        let entry = self.log.entry(id.index).expect("appended in the line before");
        self.uncommitted_size_bytes += self.charge_bytes(entry);
        self.is_flush_due |= !self.peers.is_empty();
        id
    }

    /// What an entry counts for in the limit of uncommitted bytes; the first of a term is free.
    fn charge_bytes(&self, entry: &Entry) -> usize {
        if entry.index == self.term_start { 0 } else { entry.size_bytes() }
    }

    pub(crate) fn reset_peers(&mut self) {
        let next = self.log.last().index.next();
        let ids: Vec<ReplicaId> = self.peers.keys().copied().collect();
        for id in ids {
            let progress = self.new_progress(next);
            self.peers.insert(id, progress);
        }
    }

    pub(crate) fn new_progress(&self, next: Index) -> Progress {
        let count_max = self.config.inflight_count_max;
        let size_bytes_max = self.config.inflight_size_bytes_max;
        Progress::new(next, Inflights::new(count_max, size_bytes_max))
    }

    /// Sends what the followers lack and the window allows; once a step, so that entries proposed
    /// together travel together.
    pub(crate) fn flush(&mut self) {
        if self.is_flush_due && self.role == Role::Leader {
            let mut peers = std::mem::take(&mut self.peers);
            for (id, progress) in &mut peers {
                while self.maybe_send_append(*id, progress) {}
            }
            self.peers = peers;
        }
        self.is_flush_due = false;
        self.flush_reads();
    }

    /// Sends one append if there is news and the window is open.
    fn maybe_send_append(&mut self, to: ReplicaId, progress: &mut Progress) -> bool {
        let has_news =
            progress.next <= self.log.last().index || progress.commit_sent < self.log.commit();
        if !has_news || progress.is_paused() {
            return false;
        }
        let is_commit_alone = self.log.last().index < progress.next;
        if is_commit_alone && progress.state == ProgressState::Replicate {
            self.send_commit(to, progress);
            return false;
        }
        self.send_append(to, progress)
    }

    /// Tells the commit index to a follower that was sent everything: nothing is asked of it, so
    /// it need not answer, which spares both sides a message and a step for every proposal.
    fn send_commit(&mut self, to: ReplicaId, progress: &mut Progress) {
        let previous = self.log.last();
        assert!(progress.next == previous.index.next());
        let commit = self.log.commit();
        progress.commit_sent = commit;
        self.send_now(to, Body::Commit { previous, commit, lease: self.lease_served() });
    }

    /// Sends an append, with what entries the window allows, or starts a state transfer where the
    /// entries were dropped.
    fn send_append(&mut self, to: ReplicaId, progress: &mut Progress) -> bool {
        let previous = progress.next.previous();
        let Some(term) = self.log.term_of(previous) else {
            self.maybe_send_snapshot(to, progress);
            return false;
        };
        let mut entries = Vec::new();
        if !progress.is_paused() && progress.next <= self.log.last().index {
            let size_bytes = self
                .log
                .read(progress.next, self.config.append_size_bytes_max, &mut entries)
                .expect("next - 1 is in the log and next <= last");
            let last = entries.last().expect("read answers one entry at least").index;
            progress.on_sent(last, size_bytes);
        } else if progress.state == ProgressState::Probe {
            progress.is_probe_sent = true;
        }
        let sent = entries.last().map_or(previous, |entry| entry.index);
        let commit = self.log.commit();
        progress.commit_sent = progress.commit_sent.max(commit.min(sent));
        let body = Body::Append {
            previous: EntryId { index: previous, term },
            commit,
            lease: self.lease_served(),
            entries,
        };
        self.send_now(to, body);
        true
    }

    pub(crate) fn lease_served(&self) -> LeaseReads {
        if self.config.is_lease_reads && !self.is_timeout_now_sent {
            LeaseReads::Served
        } else {
            LeaseReads::NotServed
        }
    }

    pub(crate) fn on_append_answer(
        &mut self,
        from: ReplicaId,
        outcome: AppendOutcome,
        disk: DiskHealth,
    ) -> Result<(), StepError> {
        let last = self.log.last().index;
        if self.role != Role::Leader || !self.peers.contains_key(&from) {
            return Ok(());
        }
        match outcome {
            AppendOutcome::Accepted { matched } if last < matched => Err(StepError::Malformed),
            AppendOutcome::Accepted { matched } => {
                self.note_active(from, disk);
                self.on_accepted(from, matched);
                Ok(())
            }
            AppendOutcome::Rejected { previous, hint } => {
                self.note_active(from, disk);
                self.on_rejected(from, previous, hint);
                Ok(())
            }
            AppendOutcome::Blank => {
                self.note_active(from, disk);
                if let Some(mut progress) = self.peers.remove(&from) {
                    self.maybe_send_snapshot(from, &mut progress);
                    self.peers.insert(from, progress);
                }
                Ok(())
            }
        }
    }

    fn note_active(&mut self, from: ReplicaId, disk: DiskHealth) {
        if let Some(progress) = self.peers.get_mut(&from) {
            progress.is_recently_active = true;
            progress.disk = disk;
        }
    }

    fn on_accepted(&mut self, from: ReplicaId, matched: Index) {
        let base = self.log.base().index;
        let Some(progress) = self.peers.get_mut(&from) else {
            return;
        };
        let is_news = progress.maybe_match(matched);
        match progress.state {
            ProgressState::Probe if progress.matched == matched => progress.become_replicate(),
            ProgressState::Probe => {}
            ProgressState::Replicate => progress.inflights.free_to(matched),
            // The log goes on where the state ends, no matter which state that was.
            ProgressState::Snapshot { .. } if base <= progress.matched => {
                progress.become_replicate();
            }
            ProgressState::Snapshot { pending } if pending <= matched => progress.become_probe(),
            ProgressState::Snapshot { .. } => {}
        }
        self.is_flush_due = true;
        if is_news {
            self.maybe_commit();
        }
        self.maybe_send_timeout_now(from);
    }

    fn on_rejected(&mut self, from: ReplicaId, previous: Index, hint: EntryId) {
        // The follower has nothing that agrees after `hint`, and this log nothing that agrees with
        // it after its own last entry of that term or an earlier one: whole terms are skipped.
        let agreed = if Term(0) < hint.term {
            self.log.last_at_most(hint.index, hint.term).index
        } else {
            hint.index.min(self.log.last().index)
        };
        if let Some(progress) = self.peers.get_mut(&from) {
            self.is_flush_due |= progress.maybe_step_back(previous, agreed);
        }
    }

    /// Commits what a quorum holds durably, if it is of the own term (thesis figure 3.7).
    pub(crate) fn maybe_commit(&mut self) {
        assert!(self.role == Role::Leader);
        let own = self.config.id;
        let persisted = self.log.unstable.persisted();
        let peers = &self.peers;
        let reached = joint_reached(&self.configuration, |id| {
            if id == own { persisted.0 } else { peers.get(&id).map_or(0, |peer| peer.matched.0) }
        });
        let reached = Index(reached).min(self.log.last().index);
        let before = self.log.commit();
        if reached <= before || reached < self.term_start {
            return;
        }
        assert!(self.log.term_of(reached) == Some(self.ballot.term));
        let commit = self.cap_at_change(reached);
        if commit <= before {
            return;
        }
        let committed = self.log.iter_between(before, commit);
        let size_bytes: usize = committed
            .filter(|entry| entry.term == self.ballot.term)
            .map(|entry| self.charge_bytes(entry))
            .sum();
        assert!(size_bytes <= self.uncommitted_size_bytes);
        self.uncommitted_size_bytes -= size_bytes;
        self.log.commit_to(commit);
        self.is_flush_due |= !self.peers.is_empty();
        self.reads.flush_again();
    }

    /// What follows a change of the configuration commits by the new configuration's quorum: so no
    /// further than the first change that is not applied. Without this a new leader could commit
    /// two changes by the quorum before both.
    fn cap_at_change(&self, commit: Index) -> Index {
        if self.pending_configuration <= self.log.applied() {
            return commit;
        }
        self.log.first_unapplied_change(commit).unwrap_or(commit)
    }

    /// Tells everybody that this leader lives: the periodic heartbeat.
    pub(crate) fn broadcast_heartbeat(&mut self) {
        assert!(self.role == Role::Leader);
        self.heartbeat_elapsed_ticks = 0;
        self.start_read_round();
        let mut peers = std::mem::take(&mut self.peers);
        for (id, progress) in &mut peers {
            progress.is_nudge_due = true;
            self.send_heartbeat(*id, progress);
        }
        self.peers = peers;
    }

    pub(crate) fn send_heartbeat(&mut self, to: ReplicaId, progress: &Progress) {
        // Capped: the follower may hold other entries beyond what is known to agree.
        let commit = self.log.commit().min(progress.matched);
        let round = self.round;
        let lease = self.lease_served();
        let disk = self.health.disk;
        self.send_now(to, Body::Heartbeat { commit, round, lease, disk });
    }

    pub(crate) fn on_heartbeat_answer(&mut self, from: ReplicaId, round: u64, disk: DiskHealth) {
        if self.role != Role::Leader || self.round < round {
            return;
        }
        let round_tick = self.tick_of_round(round);
        self.note_active(from, disk);
        let last = self.log.last().index;
        let Some(progress) = self.peers.get_mut(&from) else {
            return;
        };
        progress.round = progress.round.max(round);
        progress.round_tick = progress.round_tick.max(round_tick);
        let is_probe = progress.state == ProgressState::Probe;
        let is_transfer = matches!(progress.state, ProgressState::Snapshot { .. });
        if progress.is_nudge_due && !is_transfer && (is_probe || progress.matched < last) {
            // Whatever was on its way may be lost: even an empty append finds that out.
            progress.is_nudge_due = false;
            progress.is_probe_sent = false;
            self.nudge(from);
        }
        self.confirm_reads();
    }

    fn nudge(&mut self, to: ReplicaId) {
        if let Some(mut progress) = self.peers.remove(&to) {
            self.send_append(to, &mut progress);
            self.peers.insert(to, progress);
        }
    }

    /// Messages to `peer` were lost: what was on its way is sent again after it answers.
    pub fn report_unreachable(&mut self, peer: ReplicaId) {
        if self.role != Role::Leader {
            return;
        }
        if let Some(progress) = self.peers.get_mut(&peer)
            && progress.state == ProgressState::Replicate
        {
            progress.become_probe();
        }
    }
}

// The follower.
impl RaftNode {
    pub(crate) fn on_append(
        &mut self,
        from: ReplicaId,
        previous: EntryId,
        commit: Index,
        entries: Vec<Entry>,
    ) -> Result<(), StepError> {
        assert!(self.role == Role::Follower);
        if self.is_term_unsure() {
            return Ok(());
        }
        if self.configuration.members().next().is_none() {
            // The changes in the log mean nothing without what they started from: applied to
            // nothing, the one that adds this replica would make it a group of its own.
            self.answer_append(from, AppendOutcome::Blank);
            return Ok(());
        }
        if previous.index < self.log.base().index {
            // Old news, dropped here: what is committed agrees with every leader.
            self.answer_append(from, AppendOutcome::Accepted { matched: self.log.commit() });
            return Ok(());
        }
        if !self.log.matches(previous) {
            if previous.index <= self.log.commit() {
                return Err(StepError::CommittedConflict { index: previous.index });
            }
            let hint = self.log.last_at_most(previous.index, previous.term);
            let outcome = AppendOutcome::Rejected { previous: previous.index, hint };
            self.answer_append(from, outcome);
            return Ok(());
        }
        let matched = self.log.append_after(previous, entries)?;
        self.log.commit_to(commit.min(matched));
        let matched = matched.max(self.log.commit());
        self.answer_append(from, AppendOutcome::Accepted { matched });
        Ok(())
    }

    pub(crate) fn on_commit(
        &mut self,
        from: ReplicaId,
        previous: EntryId,
        commit: Index,
    ) -> Result<(), StepError> {
        assert!(self.role == Role::Follower);
        if previous.index < self.log.base().index {
            return Ok(());
        }
        if !self.log.matches(previous) || self.is_term_unsure() {
            // Something was lost in between: the leader hears of it as from an empty append.
            return self.on_append(from, previous, commit, Vec::new());
        }
        self.log.commit_to(commit.min(previous.index));
        Ok(())
    }

    pub(crate) fn answer_append(&mut self, to: ReplicaId, outcome: AppendOutcome) {
        let disk = self.health.disk;
        self.send_after_persist(to, Body::AppendAnswer { outcome, disk });
    }

    pub(crate) fn on_heartbeat(&mut self, from: ReplicaId, commit: Index, round: u64) {
        assert!(self.role == Role::Follower);
        // A leader never tells more than this log holds; if one does, the log says where it ends.
        if commit <= self.log.last().index && !self.is_term_unsure() {
            self.log.commit_to(commit);
        }
        let disk = self.health.disk;
        self.send_now(from, Body::HeartbeatAnswer { round, disk });
    }
}
