//! The unit of meaning: what one record says, and its bytes.
//!
//! Layout: [`RecordHeader`], a body of `size_bytes`, zeros up to a multiple of 8. Bodies of fixed
//! size are little-endian `u64`s. Invariants: what the writer lays out is what `check_record`
//! accepts; anything else is [`Malformed`], never a panic.

use super::buffer::WalBuffer;
use super::limits::{ENTRY_DATA_BYTES_MAX, INDEX_MAX, NOTE_BYTES_MAX};
use super::position::GroupId;
use std::fmt;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The durable state of a voter, beside its entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HardState {
    /// Highest term seen.
    pub term: u64,
    /// Who got the vote in that term; 0 is nobody.
    pub vote: u64,
    /// Highest index known committed.
    pub commit: u64,
}

/// An index of the log with the term of its entry; (0, 0) is before the first one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct EntryId {
    /// Index of the entry.
    pub index: u64,
    /// Its term.
    pub term: u64,
}

/// A checkpoint received from a peer that is being copied into place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Install {
    /// The last entry that the checkpoint holds; the log goes on behind it.
    pub last: EntryId,
    /// Names the received pages: the checksum of the checkpoint's root.
    pub checksum: u64,
}

/// One entry as it is written: data is laid out once, by who proposes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct EntryRecord<'a> {
    pub group: GroupId,
    pub index: u64,
    pub term: u64,
    /// The caller's kind of entry; opaque here.
    pub kind: u8,
    pub data: &'a [u8],
}

/// What a record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record<'a> {
    /// An entry added to the log's end; what the log had at its index and behind it is gone.
    Append(EntryRecord<'a>),
    /// An entry that is in the log already, written again so that an older segment can go; it
    /// displaces nothing.
    Rewrite(EntryRecord<'a>),
    /// The group's whole hard state.
    HardState(GroupId, HardState),
    /// Entries up to this one are in durable pages twice over, and recovery does not need them.
    Checkpoint(GroupId, EntryId),
    /// The log is replaced by a received checkpoint; the copying may have to be done again.
    Install(GroupId, Install),
    /// The copying of the last install is durable.
    Installed(GroupId),
    /// What recovery could not find of the group is restored.
    Mended(GroupId),
    /// The group left this WAL.
    Leave(GroupId),
    /// A small value of the caller's under a key of its own; the newest counts.
    Note(u64, &'a [u8]),
}

/// Bytes that no writer of this format laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// What is wrong.
    pub reason: &'static str,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "malformed record: {}", self.reason)
    }
}

/// Stands before each record's body.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct RecordHeader {
    kind: u8,
    entry_kind: u8,
    reserved: U16,
    size_bytes: U32,
    /// The group, or a note's key.
    subject: U64,
}

pub(crate) const RECORD_HEADER_SIZE_BYTES: usize = 16;
const _: () = assert!(size_of::<RecordHeader>() == RECORD_HEADER_SIZE_BYTES);

/// Index and term stand before an entry's data.
const ENTRY_PREFIX_SIZE_BYTES: usize = 16;

const KIND_APPEND: u8 = 1;
const KIND_REWRITE: u8 = 2;
const KIND_HARD_STATE: u8 = 3;
const KIND_CHECKPOINT: u8 = 4;
const KIND_INSTALL: u8 = 5;
const KIND_INSTALLED: u8 = 6;
const KIND_LEAVE: u8 = 7;
const KIND_NOTE: u8 = 8;
const KIND_MENDED: u8 = 9;

impl Record<'_> {
    /// Size of its layout, padding included.
    pub(crate) fn size_bytes(&self) -> usize {
        let body = match self {
            Record::Append(entry) | Record::Rewrite(entry) => {
                ENTRY_PREFIX_SIZE_BYTES + entry.data.len()
            }
            Record::HardState(..) | Record::Install(..) => 24,
            Record::Checkpoint(..) => 16,
            Record::Installed(_) | Record::Leave(_) | Record::Mended(_) => 0,
            Record::Note(_, value) => value.len(),
        };
        RECORD_HEADER_SIZE_BYTES + body.next_multiple_of(8)
    }

    /// Lays it out at the buffer's end.
    pub(crate) fn encode(&self, buffer: &mut WalBuffer) {
        let start = buffer.size_bytes();
        match *self {
            Record::Append(entry) => encode_entry(buffer, KIND_APPEND, entry),
            Record::Rewrite(entry) => encode_entry(buffer, KIND_REWRITE, entry),
            Record::HardState(group, state) => {
                let words = [state.term, state.vote, state.commit];
                encode_words(buffer, KIND_HARD_STATE, group, &words);
            }
            Record::Checkpoint(group, last) => {
                encode_words(buffer, KIND_CHECKPOINT, group, &[last.index, last.term]);
            }
            Record::Install(group, install) => {
                let words = [install.last.index, install.last.term, install.checksum];
                encode_words(buffer, KIND_INSTALL, group, &words);
            }
            Record::Installed(group) => encode_words(buffer, KIND_INSTALLED, group, &[]),
            Record::Leave(group) => encode_words(buffer, KIND_LEAVE, group, &[]),
            Record::Mended(group) => encode_words(buffer, KIND_MENDED, group, &[]),
            Record::Note(key, value) => {
                assert!(value.len() <= NOTE_BYTES_MAX);
                encode_header(buffer, KIND_NOTE, 0, key, value.len());
                buffer.extend_from_slice(value);
            }
        }
        buffer.resize(buffer.size_bytes().next_multiple_of(8));
        assert!(buffer.size_bytes() - start == self.size_bytes());
    }
}

fn encode_header(buffer: &mut WalBuffer, kind: u8, entry_kind: u8, subject: u64, size: usize) {
    let size = u32::try_from(size).expect("bodies are bounded by ENTRY_DATA_BYTES_MAX");
    let header = RecordHeader {
        kind,
        entry_kind,
        reserved: U16::ZERO,
        size_bytes: U32::new(size),
        subject: U64::new(subject),
    };
    buffer.extend_from_slice(header.as_bytes());
}

fn encode_entry(buffer: &mut WalBuffer, kind: u8, entry: EntryRecord<'_>) {
    assert!(0 < entry.index && entry.index <= INDEX_MAX);
    assert!(entry.data.len() <= ENTRY_DATA_BYTES_MAX);
    let size = ENTRY_PREFIX_SIZE_BYTES + entry.data.len();
    encode_header(buffer, kind, entry.kind, entry.group.0, size);
    buffer.extend_from_slice(&entry.index.to_le_bytes());
    buffer.extend_from_slice(&entry.term.to_le_bytes());
    buffer.extend_from_slice(entry.data);
}

fn encode_words(buffer: &mut WalBuffer, kind: u8, group: GroupId, words: &[u64]) {
    encode_header(buffer, kind, 0, group.0, words.len() * 8);
    for word in words {
        buffer.extend_from_slice(&word.to_le_bytes());
    }
}

/// The first record of `bytes` and the size of its layout.
pub(crate) fn check_record(bytes: &[u8]) -> Result<(Record<'_>, usize), Malformed> {
    let Ok((header, rest)) = RecordHeader::ref_from_prefix(bytes) else {
        return Err(Malformed { reason: "record header cut short" });
    };
    let size = header.size_bytes.get() as usize;
    if rest.len() < size {
        return Err(Malformed { reason: "record body cut short" });
    }
    let layout = RECORD_HEADER_SIZE_BYTES + size.next_multiple_of(8);
    if bytes.len() < layout {
        return Err(Malformed { reason: "record padding cut short" });
    }
    if bytes[RECORD_HEADER_SIZE_BYTES + size..layout].iter().any(|byte| *byte != 0) {
        return Err(Malformed { reason: "record padding is not zero" });
    }
    let is_entry = matches!(header.kind, KIND_APPEND | KIND_REWRITE);
    if header.reserved.get() != 0 || (!is_entry && header.entry_kind != 0) {
        return Err(Malformed { reason: "reserved bytes are not zero" });
    }
    Ok((check_body(header, &rest[..size])?, layout))
}

fn check_body<'a>(header: &RecordHeader, body: &'a [u8]) -> Result<Record<'a>, Malformed> {
    let group = GroupId(header.subject.get());
    Ok(match header.kind {
        KIND_APPEND => Record::Append(check_entry(header, body)?),
        KIND_REWRITE => Record::Rewrite(check_entry(header, body)?),
        KIND_HARD_STATE => {
            let [term, vote, commit] = check_words(body)?;
            Record::HardState(group, HardState { term, vote, commit })
        }
        KIND_CHECKPOINT => {
            let [index, term] = check_words(body)?;
            Record::Checkpoint(group, check_entry_id(index, term)?)
        }
        KIND_INSTALL => {
            let [index, term, checksum] = check_words(body)?;
            Record::Install(group, Install { last: check_entry_id(index, term)?, checksum })
        }
        KIND_INSTALLED => {
            let [] = check_words(body)?;
            Record::Installed(group)
        }
        KIND_LEAVE => {
            let [] = check_words(body)?;
            Record::Leave(group)
        }
        KIND_MENDED => {
            let [] = check_words(body)?;
            Record::Mended(group)
        }
        KIND_NOTE if body.len() <= NOTE_BYTES_MAX => Record::Note(header.subject.get(), body),
        KIND_NOTE => return Err(Malformed { reason: "note too large" }),
        _ => return Err(Malformed { reason: "unknown kind of record" }),
    })
}

fn check_entry<'a>(header: &RecordHeader, body: &'a [u8]) -> Result<EntryRecord<'a>, Malformed> {
    if body.len() < ENTRY_PREFIX_SIZE_BYTES {
        return Err(Malformed { reason: "entry without index and term" });
    }
    let (prefix, data) = body.split_at(ENTRY_PREFIX_SIZE_BYTES);
    let [index, term] = check_words(prefix)?;
    check_entry_id(index, term)?;
    if index == 0 {
        return Err(Malformed { reason: "entry without an index" });
    }
    if ENTRY_DATA_BYTES_MAX < data.len() {
        return Err(Malformed { reason: "entry too large" });
    }
    let group = GroupId(header.subject.get());
    Ok(EntryRecord { group, index, term, kind: header.entry_kind, data })
}

fn check_entry_id(index: u64, term: u64) -> Result<EntryId, Malformed> {
    if INDEX_MAX < index {
        return Err(Malformed { reason: "index out of range" });
    }
    Ok(EntryId { index, term })
}

fn check_words<const N: usize>(body: &[u8]) -> Result<[u64; N], Malformed> {
    match <[U64; N]>::read_from_bytes(body) {
        Ok(words) => Ok(words.map(U64::get)),
        Err(_) => Err(Malformed { reason: "body of a fixed record has the wrong size" }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ENTRY: EntryRecord<'static> =
        EntryRecord { group: GroupId(3), index: 9, term: 2, kind: 5, data: b"abc" };

    const ALL: [Record<'static>; 9] = [
        Record::Append(ENTRY),
        Record::Rewrite(ENTRY),
        Record::HardState(GroupId(3), HardState { term: 2, vote: 1, commit: 8 }),
        Record::Checkpoint(GroupId(3), EntryId { index: 4, term: 1 }),
        Record::Install(GroupId(3), Install { last: EntryId { index: 4, term: 1 }, checksum: 77 }),
        Record::Installed(GroupId(3)),
        Record::Leave(GroupId(3)),
        Record::Mended(GroupId(3)),
        Record::Note(12, b"birth"),
    ];

    #[test]
    fn every_kind_comes_back() {
        let mut buffer = WalBuffer::new();
        for record in ALL {
            record.encode(&mut buffer);
        }
        let mut rest = buffer.as_bytes();
        for record in ALL {
            let (found, size) = check_record(rest).unwrap();
            assert_eq!(found, record);
            assert_eq!(size, record.size_bytes());
            rest = &rest[size..];
        }
        assert!(rest.is_empty());
    }

    #[test]
    fn every_cut_is_refused() {
        for record in ALL {
            let mut buffer = WalBuffer::new();
            record.encode(&mut buffer);
            for size in 0..buffer.size_bytes() {
                assert!(check_record(&buffer.as_bytes()[..size]).is_err());
            }
        }
    }

    proptest! {
        #[test]
        fn hostile_bytes_are_refused_or_read(
            bytes in proptest::collection::vec(any::<u8>(), 0..99),
        ) {
            if let Ok((record, size)) = check_record(&bytes) {
                prop_assert_eq!(record.size_bytes(), size);
            }
        }
    }
}
