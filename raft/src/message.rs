//! What replicas say to each other, as plain values; the peer protocol gives them bytes.
//!
//! Invariants: `term` is the sender's term, with two exceptions: a pre-vote request, and the answer
//! that grants one, carry the term in which the election would be held. Every list is in log order.
//! Source: Raft thesis figure 3.1, sections 3.10 (transfer), 6.4 (reads), 9.6 (pre-vote).

use crate::types::{DiskHealth, Entry, EntryId, Index, ReplicaId, Snapshot, Term};

/// One message of the group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Who sends it.
    pub from: ReplicaId,
    /// Whom it is for.
    pub to: ReplicaId,
    /// The sender's term; see the exceptions above.
    pub term: Term,
    /// What it says.
    pub body: Body,
}

/// What a message says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// Would you vote for me in `term`?
    PreVoteRequest {
        /// End of the candidate's log.
        last: EntryId,
        /// The last entry it knows to be committed.
        committed: EntryId,
    },
    /// Answer to a pre-vote request.
    PreVoteAnswer {
        /// Yes or no.
        verdict: Verdict,
        /// The last entry the voter knows to be committed.
        committed: EntryId,
    },
    /// Vote for me in `term`.
    VoteRequest {
        /// End of the candidate's log.
        last: EntryId,
        /// The last entry it knows to be committed.
        committed: EntryId,
        /// Why it campaigns.
        cause: CampaignCause,
    },
    /// Answer to a vote request.
    VoteAnswer {
        /// Yes or no.
        verdict: Verdict,
        /// The last entry the voter knows to be committed.
        committed: EntryId,
    },
    /// Entries, in order, that follow `previous`; none when only the commit index is told.
    Append {
        /// The entry before the first one.
        previous: EntryId,
        /// The leader's commit index.
        commit: Index,
        /// Whether the leader serves lease reads.
        lease: LeaseReads,
        /// The entries.
        entries: Vec<Entry>,
    },
    /// News of the commit index alone, for a follower that needs no entries. It is answered only
    /// where the follower's log does not hold `previous`, as an append would be.
    Commit {
        /// The last entry sent.
        previous: EntryId,
        /// The leader's commit index.
        commit: Index,
        /// Whether the leader serves lease reads.
        lease: LeaseReads,
    },
    /// Answer to an append or a snapshot.
    AppendAnswer {
        /// What became of it.
        outcome: AppendOutcome,
        /// How the follower's disk is doing.
        disk: DiskHealth,
    },
    /// I still lead; tell me that you still follow.
    Heartbeat {
        /// Commit index, capped by what the follower is known to hold.
        commit: Index,
        /// Number of this round of heartbeats within the term.
        round: u64,
        /// Whether the leader serves lease reads.
        lease: LeaseReads,
        /// How the leader's disk is doing.
        disk: DiskHealth,
    },
    /// Answer to a heartbeat.
    HeartbeatAnswer {
        /// The heartbeat's round.
        round: u64,
        /// How the follower's disk is doing.
        disk: DiskHealth,
    },
    /// Take this state in place of the log. It is not sent as it is: it asks the caller to
    /// transfer the state, and is given to the receiver's `step` once the state is there.
    Snapshot {
        /// What is transferred.
        snapshot: Snapshot,
    },
    /// Campaign at once (leader transfer).
    TimeoutNow,
    /// Hand leadership to `target`; for the leader. One that names the leader itself is the answer
    /// to a `TimeoutNow` that its target must not follow.
    TransferRequest {
        /// The leader to be.
        target: ReplicaId,
    },
    /// Which commit index must my reads up to `round` wait for? For the leader.
    ReadIndexRequest {
        /// The sender's number for its batch of reads.
        round: u64,
    },
    /// Answer to a read-index request.
    ReadIndexAnswer {
        /// The asker's number.
        round: u64,
        /// Commit index to wait for.
        index: Index,
    },
    /// Your term is over; answers a leader of an earlier term so that it does not linger.
    StaleTerm,
}

/// Answer to a request for a vote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Yes.
    Granted,
    /// No.
    Refused,
}

/// Why a candidate campaigns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CampaignCause {
    /// It heard no leader.
    Timeout,
    /// The leader asked it to: who hears the leader votes all the same.
    Transfer,
}

/// Whether a leader answers reads by its lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseReads {
    /// It does: nobody who heard this may end the wait for this leader early.
    Served,
    /// It does not.
    NotServed,
}

/// What became of an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppendOutcome {
    /// The follower's log agrees with the leader's up to here.
    Accepted {
        /// Last index known to agree.
        matched: Index,
    },
    /// The follower does not hold the entry before the first one.
    Rejected {
        /// Index of that entry.
        previous: Index,
        /// The follower's last entry that may agree: none after it does.
        hint: EntryId,
    },
    /// The follower is newborn and knows no configuration: it takes nothing but a snapshot.
    Blank,
}
