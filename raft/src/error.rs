//! Every way in which this crate says no.
//!
//! Invariant: input from a peer, a client or a disk ends in one of these, never in a panic.

use std::fmt;

use crate::types::{Index, ReplicaId};

/// Why a proposal was not appended. Nothing was changed: it may be sent elsewhere or again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProposeError {
    /// Only the leader appends; this is who that is, as far as known here.
    NotLeader {
        /// Known leader.
        leader: Option<ReplicaId>,
    },
    /// A leader transfer runs: hold the proposal for the next leader.
    TransferRunning,
    /// Too many bytes wait to be committed.
    TooManyUncommitted,
    /// The disk of this leader is stuck.
    DiskStuck,
    /// An earlier change of the configuration, or this term's first entry, is not applied yet.
    ConfigurationPending,
    /// The change does not fit the present configuration.
    Change(ChangeError),
}

/// Why a read was not queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadError {
    /// Neither leader nor in contact with one.
    NoLeader,
    /// The queue of waiting reads is full.
    TooManyReads,
}

/// Why a leader transfer does not start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransferError {
    /// No leader is known that could be asked.
    NoLeader,
    /// The target already leads.
    AlreadyLeader,
    /// The target is unknown, a learner, or about to become one.
    NotVoter,
    /// The target has told that its disk is stuck.
    TargetStuck,
}

/// Why no campaign was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CampaignError {
    /// This replica leads already.
    AlreadyLeader,
    /// A leader that serves lease reads was heard, or may have been, less than T ago.
    LeaderHeard,
    /// Not a voter of the present configuration.
    NotVoter,
    /// A committed change of the configuration is not applied yet.
    ConfigurationPending,
    /// A snapshot waits to be installed, or the tree is incomplete.
    TreeIncomplete,
    /// The disk is stuck, or a piece of the log is lost.
    Unhealthy,
}

/// Why a change of the configuration is refused. The same on every replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeError {
    /// The last voter would be removed.
    NoVoters,
    /// A joint configuration has to be left before the next change.
    AlreadyJoint,
    /// There is no joint configuration to leave.
    NotJoint,
    /// Roles contradict each other; no change leads there.
    Inconsistent,
    /// More members than [`MEMBERS_COUNT_MAX`](crate::MEMBERS_COUNT_MAX).
    TooManyMembers,
    /// Replica id 0 is nobody.
    InvalidReplica,
}

/// Why a message was not taken. All but [`StepError::CommittedConflict`] leave the replica sound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepError {
    /// Addressed to somebody else, or claims to come from this replica.
    Misaddressed,
    /// Numbers that no correct peer sends.
    Malformed,
    /// A second leader in one term: one of the two lost durable state.
    TwoLeaders,
    /// The leader holds another entry where this replica has a committed one. This replica must
    /// stop: it, or the leader, lost what was durable.
    CommittedConflict {
        /// Where the logs differ.
        index: Index,
    },
}

/// Why a replica cannot start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartError {
    /// A relation of the configuration does not hold; its name.
    Config(&'static str),
    /// Entries are not contiguous, or do not follow the checkpoint.
    LogGap {
        /// The index that was expected.
        expected: Index,
        /// The index that was found.
        found: Index,
    },
    /// Terms decrease along the log, or exceed the hard state's.
    TermOrder {
        /// The entry that is wrong.
        index: Index,
    },
    /// The configuration is not one that a change could have produced.
    Configuration(ChangeError),
}

/// Why entries cannot be read from memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogError {
    /// Dropped by `compact_log`.
    Compacted,
    /// Beyond the last entry.
    Unavailable,
}

impl fmt::Display for ProposeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProposeError::NotLeader { .. } => f.write_str("not the leader"),
            ProposeError::TransferRunning => f.write_str("leader transfer running"),
            ProposeError::TooManyUncommitted => f.write_str("too many uncommitted bytes"),
            ProposeError::DiskStuck => f.write_str("disk stuck"),
            ProposeError::ConfigurationPending => f.write_str("configuration change pending"),
            ProposeError::Change(error) => write!(f, "configuration change refused: {error:?}"),
        }
    }
}

impl fmt::Display for StepError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StepError::Misaddressed => f.write_str("message for another replica"),
            StepError::Malformed => f.write_str("malformed message"),
            StepError::TwoLeaders => f.write_str("two leaders in one term"),
            StepError::CommittedConflict { index } => {
                write!(f, "committed entry {} differs from the leader's", index.0)
            }
        }
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Config(what) => write!(f, "raft configuration: {what}"),
            StartError::LogGap { expected, found } => {
                write!(f, "log gap: expected index {}, found {}", expected.0, found.0)
            }
            StartError::TermOrder { index } => write!(f, "term out of order at {}", index.0),
            StartError::Configuration(error) => write!(f, "members: {error:?}"),
        }
    }
}

impl std::error::Error for ProposeError {}
impl std::error::Error for StepError {}
impl std::error::Error for StartError {}
