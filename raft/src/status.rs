//! What a replica knows at the moment, for status requests, metrics and tests.
//!
//! Invariant: a copy; nothing in the protocol reads it. Source: architecture.md section 7.

use crate::node::RaftNode;
use crate::progress::{Progress, ProgressState};
use crate::types::{Configuration, DiskHealth, EntryId, Index, ReplicaId, Role, Term};

/// Everything a replica knows at the moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// This replica.
    pub id: ReplicaId,
    /// Its term.
    pub term: Term,
    /// Its vote in that term.
    pub vote: Option<ReplicaId>,
    /// Its role.
    pub role: Role,
    /// The leader it knows of.
    pub leader: Option<ReplicaId>,
    /// Commit index.
    pub commit: Index,
    /// Applied index.
    pub applied: Index,
    /// Last entry of its log.
    pub last: EntryId,
    /// First index in memory.
    pub first: Index,
    /// Up to here its log is durable.
    pub persisted: Index,
    /// Whom a leader transfer runs to.
    pub transfer_target: Option<ReplicaId>,
    /// Configuration in effect.
    pub configuration: Configuration,
    /// A leader's view of the others; empty elsewhere.
    pub peers: Vec<PeerStatus>,
}

/// A leader's view of one other replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    /// Who it is.
    pub id: ReplicaId,
    /// It is known to hold the log up to here.
    pub matched: Index,
    /// The next entry to be sent.
    pub next: Index,
    /// How entries are sent.
    pub state: ProgressState,
    /// Appends on their way.
    pub inflight_count: usize,
    /// Heard of since the last check of the quorum.
    pub is_recently_active: bool,
    /// How its disk is doing.
    pub disk: DiskHealth,
}

impl RaftNode {
    /// Everything known, for status requests and metrics. Allocates.
    pub fn status(&self) -> Status {
        let is_leader = self.role == Role::Leader;
        Status {
            id: self.config.id,
            term: self.ballot.term,
            vote: self.ballot.vote,
            role: self.role,
            leader: self.leader,
            commit: self.log.commit(),
            applied: self.log.applied(),
            last: self.log.last(),
            first: self.log.base().index.next(),
            persisted: self.log.unstable.persisted(),
            transfer_target: self.transfer.map(|transfer| transfer.target),
            configuration: self.configuration.clone(),
            peers: self.peers.iter().filter(|_| is_leader).map(peer_status).collect(),
        }
    }
}

fn peer_status((id, progress): (&ReplicaId, &Progress)) -> PeerStatus {
    PeerStatus {
        id: *id,
        matched: progress.matched,
        next: progress.next,
        state: progress.state,
        inflight_count: progress.inflights.count(),
        is_recently_active: progress.is_recently_active,
        disk: progress.disk,
    }
}
