//! The unit of integrity: one frame is one sealed buffer and one device write.
//!
//! Layout: header, directory, reserved zeros up to the payload, payload, zeros, directory again,
//! header again as the last bytes of the last block. So either end alone tells what the frame held.
//! Invariants: a frame starts and ends at a block; its header's checksum, seeded with the log's
//! identity, covers its position, its run, the checksum of the frame before it, what was known
//! synced when it was sealed, and the checksums of directory and payload. Hence a frame of a
//! segment's earlier life, a misdirected one or one of a tail that was cut never verifies where it
//! lies in the chain.
//! Source: storage.md, WAL rules 1, 2, 3 and 5; replication.md, Damage.

use super::limits::{BLOCK_SIZE_BYTES, GROUPS_MAX, INDEX_MAX, SEGMENT_SIZE_BYTES_MAX};
use super::position::{GroupId, LogId, RunNumber, WalPosition};
use super::record::{EntryId, HardState, Install};
use xxhash_rust::xxh3::xxh3_64_with_seed;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Stands at both ends of a frame.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub(crate) struct FrameHeader {
    /// Over the rest of the header; the value that the next frame repeats.
    checksum: U64,
    magic: U32,
    version: U16,
    flags: U16,
    log_id: U64,
    run: U64,
    position: U64,
    previous_checksum: U64,
    previous_end: U64,
    synced: U64,
    directory_checksum: U64,
    payload_checksum: U64,
    size_bytes: U32,
    payload_offset_bytes: U32,
    payload_size_bytes: U32,
    directory_count: U32,
}

pub(crate) const HEADER_SIZE_BYTES: usize = 96;
const _: () = assert!(size_of::<FrameHeader>() == HEADER_SIZE_BYTES);

/// "WALF" in a hex dump.
const MAGIC: u32 = u32::from_le_bytes(*b"WALF");
const VERSION: u16 = 1;

/// The first frame of a segment: its directory holds every group's whole state.
pub(crate) const FLAG_SEGMENT_HEAD: u16 = 1;
/// The payload holds notes.
pub(crate) const FLAG_NOTES: u16 = 2;
const FLAGS_KNOWN: u16 = FLAG_SEGMENT_HEAD | FLAG_NOTES;

/// What a frame holds of one group: enough to vote by when the payload is lost.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub(crate) struct DirectoryLine {
    group: U64,
    flags: U64,
    first_index: U64,
    first_term: U64,
    last_index: U64,
    last_term: U64,
    hard_term: U64,
    hard_vote: U64,
    hard_commit: U64,
    checkpoint_index: U64,
    checkpoint_term: U64,
    install_index: U64,
    install_term: U64,
    install_checksum: U64,
}

pub(crate) const LINE_SIZE_BYTES: usize = 112;
const _: () = assert!(size_of::<DirectoryLine>() == LINE_SIZE_BYTES);

/// A directory line in the words of the log. In a segment's head it is the group's whole state and
/// `entries` the extent of its log; elsewhere it is what the frame changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupDirectory {
    /// The group.
    pub group: GroupId,
    /// Entries appended, from the lowest index that the frame (re)writes to the log's end.
    pub entries: Option<(EntryId, EntryId)>,
    /// The hard state after the frame.
    pub hard_state: Option<HardState>,
    /// The checkpoint behind which the log is needed.
    pub checkpoint: Option<EntryId>,
    /// The log was replaced by this install before `entries`.
    pub install: Option<Install>,
    /// The frame says that the install is durable.
    pub is_installed: bool,
    /// The group left this WAL.
    pub is_gone: bool,
    /// The frame holds entries written again.
    pub has_rewrites: bool,
    /// In a segment's head: hard state and end of the log are what recovery could find.
    pub is_damaged: bool,
    /// What recovery could not find was restored.
    pub is_mended: bool,
}

const HAS_ENTRIES: u64 = 1;
const HAS_HARD_STATE: u64 = 2;
const HAS_CHECKPOINT: u64 = 4;
const HAS_INSTALL: u64 = 8;
const IS_INSTALLED: u64 = 16;
const IS_GONE: u64 = 32;
const HAS_REWRITES: u64 = 64;
const IS_DAMAGED: u64 = 128;
const IS_MENDED: u64 = 256;
const LINE_FLAGS_KNOWN: u64 = 511;

impl GroupDirectory {
    /// A group of which nothing is said yet.
    pub(crate) fn new(group: GroupId) -> GroupDirectory {
        GroupDirectory { group, ..GroupDirectory::default() }
    }

    fn line(&self) -> DirectoryLine {
        let (first, last) = self.entries.unwrap_or_default();
        let hard = self.hard_state.unwrap_or_default();
        let checkpoint = self.checkpoint.unwrap_or_default();
        let install = self.install.unwrap_or_default();
        let mut flags = 0;
        for (is_set, flag) in [
            (self.entries.is_some(), HAS_ENTRIES),
            (self.hard_state.is_some(), HAS_HARD_STATE),
            (self.checkpoint.is_some(), HAS_CHECKPOINT),
            (self.install.is_some(), HAS_INSTALL),
            (self.is_installed, IS_INSTALLED),
            (self.is_gone, IS_GONE),
            (self.has_rewrites, HAS_REWRITES),
            (self.is_damaged, IS_DAMAGED),
            (self.is_mended, IS_MENDED),
        ] {
            flags |= if is_set { flag } else { 0 };
        }
        DirectoryLine {
            group: U64::new(self.group.0),
            flags: U64::new(flags),
            first_index: U64::new(first.index),
            first_term: U64::new(first.term),
            last_index: U64::new(last.index),
            last_term: U64::new(last.term),
            hard_term: U64::new(hard.term),
            hard_vote: U64::new(hard.vote),
            hard_commit: U64::new(hard.commit),
            checkpoint_index: U64::new(checkpoint.index),
            checkpoint_term: U64::new(checkpoint.term),
            install_index: U64::new(install.last.index),
            install_term: U64::new(install.last.term),
            install_checksum: U64::new(install.checksum),
        }
    }
}

impl DirectoryLine {
    /// The line in the words of the log.
    pub(crate) fn directory(&self) -> GroupDirectory {
        let flags = self.flags.get();
        let id = |index: U64, term: U64| EntryId { index: index.get(), term: term.get() };
        let has = |flag: u64| flags & flag != 0;
        GroupDirectory {
            group: GroupId(self.group.get()),
            entries: has(HAS_ENTRIES).then(|| {
                (id(self.first_index, self.first_term), id(self.last_index, self.last_term))
            }),
            hard_state: has(HAS_HARD_STATE).then(|| HardState {
                term: self.hard_term.get(),
                vote: self.hard_vote.get(),
                commit: self.hard_commit.get(),
            }),
            checkpoint: has(HAS_CHECKPOINT)
                .then(|| id(self.checkpoint_index, self.checkpoint_term)),
            install: has(HAS_INSTALL).then(|| Install {
                last: id(self.install_index, self.install_term),
                checksum: self.install_checksum.get(),
            }),
            is_installed: has(IS_INSTALLED),
            is_gone: has(IS_GONE),
            has_rewrites: has(HAS_REWRITES),
            is_damaged: has(IS_DAMAGED),
            is_mended: has(IS_MENDED),
        }
    }

    fn is_sane(&self) -> bool {
        let (first, last) = (self.first_index.get(), self.last_index.get());
        let indexes = [first, last, self.checkpoint_index.get(), self.install_index.get()];
        self.flags.get() & !LINE_FLAGS_KNOWN == 0
            && indexes.iter().all(|index| *index <= INDEX_MAX)
            && (self.flags.get() & HAS_ENTRIES == 0 || (0 < first && first <= last))
    }
}

/// What binds a frame to its place: handed to [`seal_frame`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct FrameBinding {
    pub log_id: LogId,
    pub run: RunNumber,
    pub position: WalPosition,
    pub previous_checksum: u64,
    pub previous_end: WalPosition,
    pub synced: WalPosition,
    pub flags: u16,
}

/// Where the payload begins when the directory is small; a frame with more groups moves it.
pub(crate) const PAYLOAD_OFFSET_BYTES: usize = 512;

/// Where the payload begins behind a directory of `count` lines.
pub(crate) fn payload_offset_bytes(count: usize) -> usize {
    assert!(count <= GROUPS_MAX);
    (HEADER_SIZE_BYTES + count * LINE_SIZE_BYTES).max(PAYLOAD_OFFSET_BYTES)
}

/// Size of a whole frame.
pub(crate) fn frame_size_bytes(directory_count: usize, payload_size_bytes: usize) -> usize {
    let tail = HEADER_SIZE_BYTES + directory_count * LINE_SIZE_BYTES;
    (payload_offset_bytes(directory_count) + payload_size_bytes + tail)
        .next_multiple_of(BLOCK_SIZE_BYTES)
}

/// Fills both ends of `frame`, whose payload lies at its place already; returns the chain value.
pub(crate) fn seal_frame(
    frame: &mut [u8],
    binding: &FrameBinding,
    directory: &[GroupDirectory],
    payload_size_bytes: usize,
) -> u64 {
    assert!(frame.len() == frame_size_bytes(directory.len(), payload_size_bytes));
    let seed = binding.log_id.0;
    let payload_offset = payload_offset_bytes(directory.len());
    let directory_end = HEADER_SIZE_BYTES + directory.len() * LINE_SIZE_BYTES;
    for (slot, group) in directory.iter().enumerate() {
        let at = HEADER_SIZE_BYTES + slot * LINE_SIZE_BYTES;
        frame[at..at + LINE_SIZE_BYTES].copy_from_slice(group.line().as_bytes());
    }
    frame[directory_end..payload_offset].fill(0);
    let payload = &frame[payload_offset..payload_offset + payload_size_bytes];
    let mut header = FrameHeader {
        checksum: U64::ZERO,
        magic: U32::new(MAGIC),
        version: U16::new(VERSION),
        flags: U16::new(binding.flags),
        log_id: U64::new(seed),
        run: U64::new(binding.run.0),
        position: U64::new(binding.position.0),
        previous_checksum: U64::new(binding.previous_checksum),
        previous_end: U64::new(binding.previous_end.0),
        synced: U64::new(binding.synced.0),
        directory_checksum: U64::new(xxh3_64_with_seed(
            &frame[HEADER_SIZE_BYTES..directory_end],
            seed,
        )),
        payload_checksum: U64::new(xxh3_64_with_seed(payload, seed)),
        size_bytes: size_field(frame.len()),
        payload_offset_bytes: size_field(payload_offset),
        payload_size_bytes: size_field(payload_size_bytes),
        directory_count: size_field(directory.len()),
    };
    header.checksum = U64::new(header.expected_checksum());
    frame[..HEADER_SIZE_BYTES].copy_from_slice(header.as_bytes());
    let tail = frame.len() - directory_end;
    frame.copy_within(HEADER_SIZE_BYTES..directory_end, tail);
    let header_copy = frame.len() - HEADER_SIZE_BYTES;
    frame.copy_within(..HEADER_SIZE_BYTES, header_copy);
    header.checksum.get()
}

fn size_field(size: usize) -> U32 {
    U32::new(u32::try_from(size).expect("a frame is smaller than a segment"))
}

/// Why bytes are no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoFrame {
    /// Zeros, payload, an old frame that was partly overwritten.
    Garbage,
    /// A good header of a format that this program does not write: every version keeps magic,
    /// checksum, version and position where they are.
    OtherVersion { version: u16, position: WalPosition },
}

impl FrameHeader {
    /// A header whose checksum and own relations hold. It proves what it says of itself; whether it
    /// belongs where it was found is for the caller to compare.
    pub(crate) fn check(bytes: &[u8]) -> Result<FrameHeader, NoFrame> {
        let Ok((header, _)) = FrameHeader::read_from_prefix(bytes) else {
            return Err(NoFrame::Garbage);
        };
        if header.magic.get() != MAGIC || header.checksum.get() != header.expected_checksum() {
            return Err(NoFrame::Garbage);
        }
        if header.version.get() != VERSION {
            let (version, position) = (header.version.get(), header.position());
            return Err(NoFrame::OtherVersion { version, position });
        }
        let count = header.directory_count.get() as usize;
        let size = header.size_bytes.get() as usize;
        let payload = header.payload_size_bytes.get() as usize;
        if GROUPS_MAX < count
            || SEGMENT_SIZE_BYTES_MAX < size as u64
            || header.flags.get() & !FLAGS_KNOWN != 0
            || SEGMENT_SIZE_BYTES_MAX < payload as u64
            || header.payload_offset_bytes.get() as usize != payload_offset_bytes(count)
            || size != frame_size_bytes(count, payload)
        {
            return Err(NoFrame::Garbage);
        }
        Ok(header)
    }

    fn expected_checksum(&self) -> u64 {
        xxh3_64_with_seed(&self.as_bytes()[8..], self.log_id.get())
    }

    /// What the next frame repeats.
    pub(crate) fn chain(&self) -> u64 {
        self.checksum.get()
    }

    pub(crate) fn log_id(&self) -> LogId {
        LogId(self.log_id.get())
    }

    pub(crate) fn run(&self) -> RunNumber {
        RunNumber(self.run.get())
    }

    pub(crate) fn position(&self) -> WalPosition {
        WalPosition(self.position.get())
    }

    pub(crate) fn previous_checksum(&self) -> u64 {
        self.previous_checksum.get()
    }

    pub(crate) fn previous_end(&self) -> WalPosition {
        WalPosition(self.previous_end.get())
    }

    /// Position known synced when the frame was sealed.
    pub(crate) fn synced(&self) -> WalPosition {
        WalPosition(self.synced.get())
    }

    pub(crate) fn has_flag(&self, flag: u16) -> bool {
        self.flags.get() & flag != 0
    }

    pub(crate) fn size_bytes(&self) -> usize {
        self.size_bytes.get() as usize
    }

    pub(crate) fn directory_size_bytes(&self) -> usize {
        self.directory_count.get() as usize * LINE_SIZE_BYTES
    }

    /// The lines of a directory that is what the header says; `None` if it is not.
    pub(crate) fn check_directory<'a>(&self, bytes: &'a [u8]) -> Option<&'a [DirectoryLine]> {
        let bytes = bytes.get(..self.directory_size_bytes())?;
        let found = xxh3_64_with_seed(bytes, self.log_id.get());
        if found != self.directory_checksum.get() {
            return None;
        }
        let lines = <[DirectoryLine]>::ref_from_bytes(bytes).ok()?;
        lines.iter().all(DirectoryLine::is_sane).then_some(lines)
    }

    /// The payload's place in `frame`, if it is what the header says.
    pub(crate) fn check_payload(&self, frame: &[u8]) -> Option<std::ops::Range<usize>> {
        let start = self.payload_offset_bytes.get() as usize;
        let range = start..start + self.payload_size_bytes.get() as usize;
        let payload = frame.get(range.clone())?;
        let found = xxh3_64_with_seed(payload, self.log_id.get());
        (found == self.payload_checksum.get()).then_some(range)
    }
}
