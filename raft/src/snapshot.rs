//! State transfer as Raft sees it: when one is needed, and what becomes of the log when it arrived.
//!
//! Invariants: while a transfer runs no append is sent; a snapshot never takes back what is
//! committed; the pages themselves travel outside this crate. Source: Raft thesis section 5;
//! fact sheet of scenarios E; storage.md, "State transfer".

use crate::message::{AppendOutcome, Body};
use crate::node::RaftNode;
use crate::progress::{Progress, ProgressState};
use crate::replication::SnapshotOutcome;
use crate::types::{Index, ReplicaId, Role, Snapshot};

// The leader.
impl RaftNode {
    /// A checkpoint is durable and could be transferred. An older one than before changes nothing.
    pub fn checkpointed(&mut self, checkpoint: Snapshot) {
        assert!(checkpoint.last.index <= self.log.applied());
        if self.checkpoint.last.index < checkpoint.last.index {
            self.checkpoint = checkpoint;
            // A follower may have waited for it.
            self.is_flush_due |= !self.peers.is_empty();
        }
    }

    /// The caller's state was replaced by that of `snapshot`, which the log contains and which is
    /// ahead of what was applied: entries up to its last one are not handed out any more, and
    /// changes of the configuration among them are in effect.
    pub fn adopted(&mut self, snapshot: &Snapshot) {
        let was_capped = self.log.applied() < self.pending_configuration;
        self.log.adopt(snapshot.last.index);
        if self.configuration != snapshot.configuration {
            self.change_configuration(snapshot.configuration.clone());
        }
        self.on_applied(was_capped);
    }

    /// Asks the caller to transfer the newest checkpoint, if that helps and somebody is there.
    pub(crate) fn maybe_send_snapshot(&mut self, to: ReplicaId, progress: &mut Progress) {
        let last = self.checkpoint.last;
        let is_useful = progress.matched < last.index && self.log.base().index <= last.index;
        let is_running = matches!(progress.state, ProgressState::Snapshot { .. });
        if !progress.is_recently_active || !is_useful || is_running {
            return;
        }
        progress.become_snapshot(last.index);
        let snapshot = self.checkpoint.clone();
        self.send_now(to, Body::Snapshot { snapshot });
    }

    /// The transfer to `peer` ended.
    pub fn report_snapshot(&mut self, peer: ReplicaId, outcome: SnapshotOutcome) {
        if self.role != Role::Leader {
            return;
        }
        let Some(progress) = self.peers.get_mut(&peer) else {
            return;
        };
        if !matches!(progress.state, ProgressState::Snapshot { .. }) {
            return;
        }
        if outcome == SnapshotOutcome::Failed {
            // As if it had never started: go on from what the follower is known to hold.
            progress.state = ProgressState::Snapshot { pending: progress.matched };
        }
        progress.become_probe();
        // Its own answer, or that to the next heartbeat, allows the next append.
        progress.is_probe_sent = true;
    }

    /// The first entry that a running transfer will need next: keep the log from there on, within
    /// the caller's bound.
    pub fn transfer_needs_from(&self) -> Option<Index> {
        let pending = self.peers.values().filter_map(|progress| match progress.state {
            ProgressState::Snapshot { pending } => Some(pending.next()),
            ProgressState::Probe | ProgressState::Replicate => None,
        });
        pending.min().filter(|_| self.role == Role::Leader)
    }
}

// The follower.
impl RaftNode {
    /// The state of `snapshot` is here, received in full and not installed yet.
    pub(crate) fn on_snapshot(&mut self, from: ReplicaId, snapshot: Snapshot) {
        assert!(self.role == Role::Follower);
        if self.is_term_unsure() {
            return;
        }
        let last = snapshot.last;
        if last.index <= self.log.commit() {
            self.answer_append(from, AppendOutcome::Accepted { matched: self.log.commit() });
            return;
        }
        if self.log.matches(last) {
            // The entries are here already, and a snapshot contains only what is committed.
            self.log.commit_to(last.index);
        } else {
            self.log.restore(last);
            self.install_configuration(snapshot.configuration.clone());
            self.checkpoint = snapshot.clone();
            self.snapshot_received = Some(snapshot);
        }
        assert!(last.index <= self.log.commit());
        self.answer_append(from, AppendOutcome::Accepted { matched: last.index });
    }
}
