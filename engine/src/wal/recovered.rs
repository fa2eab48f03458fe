//! What recovery hands over: the groups' states and entries, what is missing of them, and where
//! the next run goes on.
//!
//! Rule for the caller (storage.md, WAL rule 4): what was read may not be durable yet. Every
//! segment is synced before anything recovered is counted, answered, or written behind.

use super::group::GroupState;
use super::position::{GroupId, LogId, RunNumber, SegmentId, WalPosition};
use super::record::{EntryId, Malformed};
use super::writer::{SegmentFile, SegmentSizes, Start};
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;

/// An entry read from the log; `data` shares the memory of its frame.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct RecoveredEntry {
    pub index: u64,
    pub term: u64,
    /// The caller's kind of entry.
    pub kind: u8,
    pub data: Bytes,
}

/// A damaged place in the middle of the log: it was synced, and is not readable any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// Where the chain breaks.
    pub from: WalPosition,
    /// Where it goes on.
    pub to: WalPosition,
    /// Whether one of the directories survived, so that it is known what is missing.
    pub has_directory: bool,
}

/// One group's log behind its checkpoint.
#[derive(Clone, Debug, Default)]
pub struct RecoveredGroup {
    /// Last run in which this WAL spoke of the group; among several WALs the highest one wins.
    pub run: RunNumber,
    /// Hard state, checkpoint, install and end of the log, as far as the log says.
    ///
    /// Where `is_damaged` is set, a frame was lost with both its directories: the replica does not
    /// vote before every other voter told its term. A missing entry that a peer brings is written
    /// by `rewrite_entry`, which displaces nothing; `append_mended` ends the damage.
    pub state: GroupState,
    /// Entries behind the checkpoint in the order of their indexes, with holes where `missing`
    /// says so.
    pub entries: VecDeque<RecoveredEntry>,
    /// Index ranges behind the checkpoint that were synced once and are lost: to be fetched from
    /// peers before the replica campaigns or serves past them.
    pub missing: Vec<(u64, u64)>,
    /// Entries that a checkpoint made dispensable are kept.
    pub(crate) keeps_history: bool,
    /// A frame that may have held a hard state is lost, and no later one was found.
    pub(crate) is_hard_state_lost: bool,
    /// A frame that may have moved the log's end is lost, and no later one says where it is.
    pub(crate) is_last_lost: bool,
}

/// What a WAL holds.
#[derive(Clone, Debug)]
pub struct Recovered {
    /// The log's identity.
    pub log_id: LogId,
    /// Highest run that wrote a good frame; the next start takes a higher one.
    pub run: RunNumber,
    /// End of the last good frame.
    pub end: WalPosition,
    /// Chain value of that frame.
    pub chain: u64,
    /// Segment files found, oldest first, those that were never begun too.
    pub segments: Vec<SegmentFile>,
    /// The groups.
    pub groups: BTreeMap<GroupId, RecoveredGroup>,
    /// The caller's notes.
    pub notes: BTreeMap<u64, Vec<u8>>,
    /// Notes may be missing: a damaged frame held some.
    pub has_lost_notes: bool,
    /// Whole frames of the chain, and the records in them.
    pub frames: u64,
    /// See `frames`.
    pub records: u64,
    /// Damage; empty after a clean stop and after a torn tail.
    pub gaps: Vec<Gap>,
    /// Whether unsynced frames behind `end` were cut off.
    pub has_torn_tail: bool,
}

impl Recovered {
    /// Where run `run` goes on, and the entries to start from. Groups that go on elsewhere are to
    /// be taken out of `groups` before, those that come in are written by the new run.
    pub fn start(&self, run: RunNumber) -> Start {
        assert!(self.run < run);
        let last = self.segments.last().map_or(SegmentId(0), |file| file.id);
        let groups = self.groups.iter().map(|(id, group)| (*id, group.state.clone())).collect();
        Start {
            log_id: self.log_id,
            run,
            next_segment: last.max(self.end.segment()).next(),
            chain: self.chain,
            end: self.end,
            segments: self.segments.clone(),
            groups,
            notes: self.notes.clone(),
            sizes: SegmentSizes::default(),
        }
    }
}

/// Why a WAL cannot be recovered at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecoverError {
    /// No segment begins or ends with a frame: not a WAL, or all of it is lost.
    NoFrames,
    /// Segments of different logs lie together.
    MixedLogs(LogId, LogId),
    /// A file's size is zero, not a multiple of the block, or too large.
    BadSegmentSize(SegmentFile),
    /// A file's number is zero, too high, or there twice.
    BadSegmentId(SegmentId),
    /// More files than a writer keeps.
    TooManySegments(usize),
    /// More groups than a writer accepts.
    TooManyGroups,
    /// More notes than a writer accepts.
    TooManyNotes,
    /// Written by a program with another format.
    OtherVersion(u16),
    /// The frame is whole, but a record in it makes no sense.
    Malformed(WalPosition, Malformed),
}

impl fmt::Display for RecoverError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RecoverError::NoFrames => write!(f, "no WAL segment holds a readable frame"),
            RecoverError::MixedLogs(one, other) => {
                write!(f, "WAL segments of two logs: {:016x} and {:016x}", one.0, other.0)
            }
            RecoverError::BadSegmentSize(file) => {
                write!(f, "WAL segment {} has a bad size: {} bytes", file.id.0, file.size_bytes)
            }
            RecoverError::BadSegmentId(id) => write!(f, "bad WAL segment number {}", id.0),
            RecoverError::TooManySegments(count) => write!(f, "{count} WAL segments are too many"),
            RecoverError::TooManyGroups => write!(f, "too many groups in one WAL"),
            RecoverError::TooManyNotes => write!(f, "too many notes in one WAL"),
            RecoverError::OtherVersion(version) => {
                write!(f, "the WAL has format version {version}, which is not known here")
            }
            RecoverError::Malformed(position, malformed) => {
                write!(f, "WAL frame at {position}: {malformed}")
            }
        }
    }
}

impl std::error::Error for RecoverError {}

impl RecoveredGroup {
    /// The last entry the log speaks of, lost or not: what the replica votes by.
    pub fn last(&self) -> EntryId {
        self.state.last
    }
}
