//! What members say to each other once they have shaken hands, as plain values.
//!
//! Invariants: a proposal's sequence rises by one within a connection, over all its groups; the
//! sequence of a question or a request is the asker's own, and comes back in the answer. Bytes that
//! were received are slices of the frame they came in.
//! Source: replication.md, "Proposals from any member", "Reads and leases", "Damage"; storage.md,
//! "State transfer".

use bytes::Bytes;
use engine::page::map::{Checksum, PageNumber};
use raft::{Body, Configuration, Entry, EntryId, Index, ReplicaId};

/// One message of a group to the replica of that group on the other member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerMessage {
    /// Raft's own. `from` and `to` are the members of the two ends of the connection.
    Raft(raft::Message),
    /// Please append this to the log, once: for the leader, who never hands it on.
    Propose {
        /// Number of the proposal within the connection, from 1 without a gap.
        sequence: u64,
        /// The entry's data.
        command: Bytes,
    },
    /// A proposal was not appended and never will be by this copy of it.
    NotAppended {
        /// Which proposal.
        sequence: u64,
        /// Why.
        reason: NotAppended,
    },
    /// A question that only the leader answers and that leaves no entry.
    Ask {
        /// The asker's number for it.
        sequence: u64,
        /// What is asked.
        question: Question,
    },
    /// Answer to a question.
    Reply {
        /// Which question.
        sequence: u64,
        /// What is answered.
        answer: Answer,
    },
    /// Which checkpoint can be transferred?
    MetaRequest,
    /// The newest durable checkpoint of the sender.
    Meta {
        /// The last entry it contains.
        last: EntryId,
        /// The configuration after that entry.
        configuration: Configuration,
        /// Its meta page, which names the roots of its trees.
        meta: Bytes,
    },
    /// Please send these pages.
    PageRequest {
        /// The asker's number for it.
        sequence: u64,
        /// At most [`limits::PAGE_RUNS_MAX`](super::limits::PAGE_RUNS_MAX) runs.
        pages: Vec<PageWanted>,
    },
    /// Answer to a page request, a run for each one asked for, in the same order.
    Pages {
        /// Which request.
        sequence: u64,
        /// The runs.
        pages: Vec<PageRun>,
    },
    /// Please send these entries of the log: the asker's own are damaged.
    EntriesRequest {
        /// The asker's number for it.
        sequence: u64,
        /// First index.
        first: Index,
        /// Last index.
        last: Index,
    },
    /// Answer to a request for entries: those from the first one on that the sender holds and that
    /// fit a message, none if it does not hold the first.
    Entries {
        /// Which request.
        sequence: u64,
        /// In log order.
        entries: Vec<Entry>,
    },
}

/// Why a proposal was not appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotAppended {
    /// The receiver does not lead.
    NotLeader {
        /// Who does, as far as it knows.
        leader: Option<ReplicaId>,
    },
    /// Leadership is being handed over: hold the proposal for the next leader.
    TransferRunning,
    /// The leader's queue is full.
    Full,
    /// The leader is shutting down.
    Stopping,
    /// A learner to be promoted has not caught up.
    LearnerNotReady,
    /// The change of members asked for leads nowhere, now or later.
    ChangeRefused,
}

/// What a follower asks the leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// Renew a lease.
    LeaseKeepAlive {
        /// Which one.
        id: i64,
    },
    /// How much time is left of a lease?
    LeaseTimeToLive {
        /// Which one.
        id: i64,
        /// Whether its keys are wanted too.
        keys: KeysWanted,
    },
    /// Hand leadership over.
    MoveLeader {
        /// To whom.
        target: ReplicaId,
    },
}

/// Whether the keys of a lease are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeysWanted {
    /// They are.
    Yes,
    /// Only its times.
    No,
}

/// What the leader answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The lease was renewed.
    KeepAlive {
        /// Its time to live from now, seconds; as etcd: 0 if there is no such lease.
        ttl_s: i64,
    },
    /// The lease's time.
    TimeToLive {
        /// What is left, seconds; as etcd: -1 if there is no such lease.
        ttl_s: i64,
        /// What was granted, seconds.
        granted_ttl_s: i64,
        /// Its keys in order, if they were asked for.
        keys: Vec<Bytes>,
    },
    /// Leadership was handed over.
    Moved,
    /// No answer can be given.
    Failed {
        /// Why.
        reason: AskFailure,
    },
}

/// Why a question was not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AskFailure {
    /// Nobody leads.
    NoLeader,
    /// Leadership changed meanwhile.
    LeaderChanged,
    /// It took too long.
    TimedOut,
    /// Too many questions wait, or the answer is too large.
    TooMany,
    /// The leader is shutting down.
    Stopped,
    /// The receiver does not lead.
    NotLeader,
}

/// A run of pages that one parent names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageWanted {
    /// Its first page.
    pub first: PageNumber,
    /// Pages in it, at least 1.
    pub count: u32,
    /// What the parent says of its bytes.
    pub checksum: Checksum,
}

/// A run of pages, or that it is not held any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageRun {
    /// Its first page.
    pub first: PageNumber,
    /// Its bytes; `None` if the sender holds it no longer in the state that was asked for.
    pub bytes: Option<Bytes>,
}

/// Which messages of a connection leave first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// Votes, heartbeats, answers: small, and an election hangs on them.
    Control,
    /// Everything whose size or order matters: it leaves in the order it was sent in.
    Bulk,
}

impl PeerMessage {
    /// The lane that a message takes. Appends keep their order even when they are empty: one that
    /// overtook another would look like a gap in the log.
    pub fn lane(&self) -> Lane {
        match self {
            PeerMessage::Raft(message) => raft_lane(message),
            PeerMessage::NotAppended { .. }
            | PeerMessage::Ask { .. }
            | PeerMessage::MetaRequest
            | PeerMessage::PageRequest { .. }
            | PeerMessage::EntriesRequest { .. } => Lane::Control,
            PeerMessage::Reply { answer, .. } => match answer {
                Answer::TimeToLive { .. } => Lane::Bulk,
                Answer::KeepAlive { .. } | Answer::Moved | Answer::Failed { .. } => Lane::Control,
            },
            PeerMessage::Propose { .. }
            | PeerMessage::Meta { .. }
            | PeerMessage::Pages { .. }
            | PeerMessage::Entries { .. } => Lane::Bulk,
        }
    }
}

fn raft_lane(message: &raft::Message) -> Lane {
    match message.body {
        // The commit index keeps its place behind the entries that it speaks of.
        Body::Append { .. } | Body::Commit { .. } | Body::Snapshot { .. } => Lane::Bulk,
        Body::PreVoteRequest { .. }
        | Body::PreVoteAnswer { .. }
        | Body::VoteRequest { .. }
        | Body::VoteAnswer { .. }
        | Body::AppendAnswer { .. }
        | Body::Heartbeat { .. }
        | Body::HeartbeatAnswer { .. }
        | Body::TimeoutNow
        | Body::TransferRequest { .. }
        | Body::ReadIndexRequest { .. }
        | Body::ReadIndexAnswer { .. }
        | Body::StaleTerm => Lane::Control,
    }
}
