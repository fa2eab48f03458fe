//! The numbers and small values of the protocol.
//!
//! Invariants: a term, an index and a replica id are never mixed up (newtypes); 0 is "before the
//! first" for terms and indexes; a configuration's lists are sorted and free of duplicates.
//! Source: Raft thesis, figure 3.1 (state) and section 4 (configurations).

use bytes::Bytes;

/// A Raft term. 0 precedes every election.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Term(pub u64);

/// A position in the Raft log. 0 precedes the first entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Index(pub u64);

/// Names one replica of the group: the member's id. Never reused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplicaId(pub u64);

/// Numbers the [`Ready`](crate::Ready)s that carry something to make durable, from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReadyNumber(pub u64);

/// What identifies an entry: two logs that hold the same (index, term) agree up to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EntryId {
    /// Place in the log.
    pub index: Index,
    /// Term of the leader that created it.
    pub term: Term,
}

/// What an entry is to Raft itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EntryKind {
    /// A new leader's first entry: it changes no state and lets older entries commit.
    #[default]
    Empty,
    /// A command of the state machine.
    Command,
    /// A change of the configuration, in the caller's encoding. Empty data is Raft's own: it leaves
    /// a joint configuration.
    ConfigChange,
}

/// One element of the Raft log. The bytes are never copied or encoded again by this crate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// Term of the leader that created it.
    pub term: Term,
    /// Place in the log.
    pub index: Index,
    /// What it is to Raft.
    pub kind: EntryKind,
    /// The caller's bytes.
    pub data: Bytes,
}

/// What must be durable before any message that depends on it leaves. The commit index is a help
/// for a quick restart, it needs no sync of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HardState {
    /// Latest term seen.
    pub term: Term,
    /// Who got this replica's vote in that term.
    pub vote: Option<ReplicaId>,
    /// Commit index known when this was written.
    pub commit: Index,
}

/// What this replica is at the moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// Follows a leader or waits for one.
    #[default]
    Follower,
    /// Asks whether an election could be won, without changing any term.
    PreCandidate,
    /// Asks for votes in a term of its own.
    Candidate,
    /// Leads its term.
    Leader,
}

/// What clients and operators want to know; not durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SoftState {
    /// Role of this replica.
    pub role: Role,
    /// The leader it knows of.
    pub leader: Option<ReplicaId>,
    /// Term in which this holds.
    pub term: Term,
}

/// Who belongs to the group. Joint while `voters_outgoing` is not empty: then both lists have to
/// agree on every vote and commit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Configuration {
    /// Voters; in a joint configuration those of the new one.
    pub voters: Vec<ReplicaId>,
    /// Voters of the configuration that is being left.
    pub voters_outgoing: Vec<ReplicaId>,
    /// Replicas that receive the log and do not vote.
    pub learners: Vec<ReplicaId>,
    /// Voters of `voters_outgoing` that become learners when the joint configuration is left.
    pub learners_next: Vec<ReplicaId>,
    /// Whether the leader proposes by itself to leave the joint configuration.
    pub is_auto_leave: bool,
}

/// A checkpoint of the state machine as Raft sees it: all of the log up to `last`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// The last entry it contains.
    pub last: EntryId,
    /// The configuration after that entry.
    pub configuration: Configuration,
}

/// What recovery found, all of it durable (see storage.md, WAL rule 4).
#[derive(Clone, Debug, Default)]
pub struct Restored {
    /// Newest hard state in the log of this member; default at birth.
    pub hard_state: HardState,
    /// Last entry contained in the state machine's checkpoint; default at birth.
    pub applied: EntryId,
    /// Configuration after that entry; at birth the bootstrap configuration, or an empty one for a
    /// replica that joins a group that lives: that one takes a snapshot first, from a checkpoint
    /// later than index 0.
    pub configuration: Configuration,
    /// Entries found, contiguous. Those at or below `applied` are kept, for followers that lag, if
    /// they follow `log_base` without a gap; else they are dropped.
    pub entries: Vec<Entry>,
    /// The entry before the first of `entries`, if it is known; its index is not above `applied`.
    pub log_base: EntryId,
    /// Number of this start, durably raised before it: tells an answer meant for an earlier life.
    pub incarnation: u64,
    /// Whether the vote may have been lost with damaged records.
    pub vote_memory: VoteMemory,
}

/// Whether a restarted replica still knows whom it voted for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum VoteMemory {
    /// The hard state is whole.
    #[default]
    Kept,
    /// It may be older than the last vote: no vote until every other voter has told its term, and
    /// then only in higher ones.
    Lost,
}

/// How this replica's disk is doing, told to the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskHealth {
    /// Age of the oldest write that is not synced yet, microseconds.
    pub sync_age_us: u32,
    /// Over one of the caller's bounds (that age, the fill of its log queue, apply waiting for a
    /// checkpoint): hand over leadership, do not campaign, refuse proposals.
    pub is_stuck: bool,
}

/// What keeps this replica from campaigning, told by the caller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LocalHealth {
    /// The disk that carries the log.
    pub disk: DiskHealth,
    /// A state transfer runs: the tree is not complete.
    pub is_tree_incomplete: bool,
    /// A piece of the log has to be repaired from a peer first.
    pub is_log_damaged: bool,
}

/// A read that may now be answered from any state that contains `index`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadState {
    /// The number given to `read_index`.
    pub context: u64,
    /// Answer once the applied index has reached this.
    pub index: Index,
}

impl Term {
    /// The term after this one.
    pub fn next(self) -> Term {
        assert!(self.0 < u64::MAX);
        Term(self.0 + 1)
    }
}

impl Index {
    /// The index after this one.
    pub fn next(self) -> Index {
        assert!(self.0 < u64::MAX);
        Index(self.0 + 1)
    }

    /// The index before this one.
    pub fn previous(self) -> Index {
        assert!(0 < self.0);
        Index(self.0 - 1)
    }
}

impl ReadyNumber {
    pub(crate) fn next(self) -> ReadyNumber {
        assert!(self.0 < u64::MAX);
        ReadyNumber(self.0 + 1)
    }
}

impl Entry {
    /// What identifies this entry.
    pub fn id(&self) -> EntryId {
        EntryId { index: self.index, term: self.term }
    }

    /// Bytes this entry counts for in every limit of this crate.
    pub fn size_bytes(&self) -> usize {
        self.data.len() + ENTRY_OVERHEAD_BYTES
    }
}

impl EntryId {
    /// Whether a log that ends here is at least as complete as one that ends at `other`
    /// (thesis section 3.6.1).
    pub fn is_up_to_date_with(self, other: EntryId) -> bool {
        (other.term, other.index) <= (self.term, self.index)
    }
}

/// A fixed charge for each entry, so that a flood of empty ones is bounded too.
pub const ENTRY_OVERHEAD_BYTES: usize = 32;
