//! The fixed parts of messages, as they lie in a frame.
//!
//! Invariants: little-endian, no padding, reserved bytes are zero; variable parts follow in the
//! order of their counts and sizes. Source: docs/format/peer.md.

use raft::{EntryId, EntryKind};
use zerocopy::little_endian::{I64, U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

macro_rules! layouts {
    ($($(#[$doc:meta])* $name:ident($size:literal) { $($field:ident: $kind:ty,)* })*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
            #[repr(C)]
            pub(super) struct $name {
                $(pub(super) $field: $kind,)*
            }

            const _: () = assert!(size_of::<$name>() == $size);
        )*
    };
}

layouts! {
    /// In front of every message; `size_bytes` is all of the message, this included.
    MessageFields(16) { size_bytes: U32, kind: u8, reserved: [u8; 3], group: U64, }
    /// In front of what follows of a Raft message.
    RaftFields(24) { from: U64, to: U64, term: U64, }
    EntryIdFields(16) { index: U64, term: U64, }
    /// Its data follows.
    EntryFields(24) { term: U64, index: U64, size_bytes: U32, kind: u8, reserved: [u8; 3], }
    /// The ids of the four lists follow.
    ConfigurationFields(16) {
        voters: U16, voters_outgoing: U16, learners: U16, learners_next: U16,
        is_auto_leave: u8, reserved: [u8; 7],
    }
    /// (pre-)vote request; a pre-vote has no cause.
    VoteRequestFields(40) {
        last: EntryIdFields, committed: EntryIdFields, cause: u8, reserved: [u8; 7],
    }
    VoteAnswerFields(24) { committed: EntryIdFields, verdict: u8, reserved: [u8; 7], }
    /// The entries follow.
    AppendFields(32) {
        previous: EntryIdFields, commit: U64, count: U32, lease: u8, reserved: [u8; 3],
    }
    CommitFields(32) { previous: EntryIdFields, commit: U64, lease: u8, reserved: [u8; 7], }
    AppendAnswerFields(32) {
        index: U64, hint: EntryIdFields, sync_age_us: U32, outcome: u8, is_stuck: u8,
        reserved: [u8; 2],
    }
    HeartbeatFields(24) {
        commit: U64, round: U64, sync_age_us: U32, lease: u8, is_stuck: u8, reserved: [u8; 2],
    }
    HeartbeatAnswerFields(16) { round: U64, sync_age_us: U32, is_stuck: u8, reserved: [u8; 3], }
    ReadIndexAnswerFields(16) { round: U64, index: U64, }
    /// `leader` is 0 if none is known or it does not matter.
    NotAppendedFields(24) { sequence: U64, leader: U64, reason: u8, reserved: [u8; 7], }
    /// `subject` is the lease or the member.
    AskFields(24) { sequence: U64, subject: U64, question: u8, keys: u8, reserved: [u8; 6], }
    /// The keys follow, each behind its size.
    ReplyFields(32) {
        sequence: U64, ttl_s: I64, granted_ttl_s: I64, count: U32, answer: u8, failure: u8,
        reserved: [u8; 2],
    }
    /// The runs wanted follow.
    PageRequestFields(16) { sequence: U64, count: U32, reserved: [u8; 4], }
    PageWantedFields(24) { first: U64, checksum: U64, count: U32, reserved: [u8; 4], }
    /// The runs follow.
    PagesFields(16) { sequence: U64, count: U32, reserved: [u8; 4], }
    /// Its bytes follow.
    PageRunFields(16) { first: U64, size_bytes: U32, state: u8, reserved: [u8; 3], }
    EntriesRequestFields(24) { sequence: U64, first: U64, last: U64, }
    /// The entries follow.
    EntriesFields(16) { sequence: U64, count: U32, reserved: [u8; 4], }
}

impl From<EntryId> for EntryIdFields {
    fn from(id: EntryId) -> EntryIdFields {
        EntryIdFields { index: U64::new(id.index.0), term: U64::new(id.term.0) }
    }
}

/// The number of a kind of entry.
pub(super) fn entry_kind_number(kind: EntryKind) -> u8 {
    match kind {
        EntryKind::Empty => 0,
        EntryKind::Command => 1,
        EntryKind::ConfigChange => 2,
    }
}

pub(super) const NO: u8 = 0;
pub(super) const YES: u8 = 1;

pub(super) const CAUSE_NONE: u8 = 0;
pub(super) const CAUSE_TIMEOUT: u8 = 1;
pub(super) const CAUSE_TRANSFER: u8 = 2;

pub(super) const OUTCOME_ACCEPTED: u8 = 1;
pub(super) const OUTCOME_REJECTED: u8 = 2;
pub(super) const OUTCOME_BLANK: u8 = 3;

pub(super) const NOT_LEADER: u8 = 1;
pub(super) const TRANSFER_RUNNING: u8 = 2;
pub(super) const FULL: u8 = 3;
pub(super) const STOPPING: u8 = 4;
pub(super) const LEARNER_NOT_READY: u8 = 5;
pub(super) const CHANGE_REFUSED: u8 = 6;

pub(super) const ASK_KEEP_ALIVE: u8 = 1;
pub(super) const ASK_TIME_TO_LIVE: u8 = 2;
pub(super) const ASK_MOVE_LEADER: u8 = 3;
/// An answer has the number of its question, or this.
pub(super) const ASK_FAILED: u8 = 4;

pub(super) const FAILURE_NONE: u8 = 0;
pub(super) const FAILURE_NO_LEADER: u8 = 1;
pub(super) const FAILURE_LEADER_CHANGED: u8 = 2;
pub(super) const FAILURE_TIMED_OUT: u8 = 3;
pub(super) const FAILURE_TOO_MANY: u8 = 4;
pub(super) const FAILURE_STOPPED: u8 = 5;
pub(super) const FAILURE_NOT_LEADER: u8 = 6;

pub(super) const PAGES_GONE: u8 = 0;
pub(super) const PAGES_HELD: u8 = 1;
