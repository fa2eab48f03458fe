//! Bounds of the WAL, with their units and relations.

/// Unit of writing: every frame starts at a multiple of it and is padded to one, so that no block
/// that was synced is ever written again.
pub const BLOCK_SIZE_BYTES: usize = 4096;

/// Size of the first segment of a run: pre-writing it must not hold up a start.
pub const SEGMENT_FIRST_SIZE_BYTES: u64 = 4 << 20;

/// Size of every other segment.
pub const SEGMENT_SIZE_BYTES: u64 = 64 << 20;

/// Largest segment file that recovery accepts.
pub const SEGMENT_SIZE_BYTES_MAX: u64 = 1 << 30;

/// Segments kept at a time. When they are used up no new one is asked for, frames wait, and
/// `is_full` stops proposals until something is released.
pub const SEGMENTS_MAX: usize = 256;

/// Records are added to a frame until it holds this much; the next one opens a new frame.
pub const FRAME_PAYLOAD_BYTES_TARGET: usize = 1 << 20;

/// Largest data of one entry; it has a frame to itself.
pub const ENTRY_DATA_BYTES_MAX: usize = 32 << 20;

/// Bytes waiting to be sealed past which `is_full` is true.
pub const PENDING_BYTES_MAX: usize = 64 << 20;

/// Bytes waiting to be sealed that no caller reaches who asks `is_full` before each step.
pub const PENDING_BYTES_CEILING: usize = 4 * PENDING_BYTES_MAX;

/// Groups that share one WAL.
pub const GROUPS_MAX: usize = 4096;

/// Notes kept, and the size of one.
pub const NOTES_MAX: usize = 1024;
/// Largest value of a note.
pub const NOTE_BYTES_MAX: usize = 256;

/// Buffers kept for reuse.
pub const SPARE_BUFFERS_MAX: usize = 4;

/// A spare buffer larger than this is given back to the allocator.
pub const SPARE_BUFFER_BYTES_MAX: usize = 4 << 20;

/// Largest index that is accepted; so many entries nobody writes.
pub const INDEX_MAX: u64 = 1 << 62;

/// Upper bound of a segment's first frame: every group at both ends, every note.
pub const HEAD_SIZE_BYTES_MAX: u64 = 2 << 20;

/// Files that recovery looks at: kept ones, and some prepared or left over.
pub const SEGMENT_FILES_MAX: usize = 2 * SEGMENTS_MAX;

/// Recovery reads ahead by this much.
pub const WINDOW_SIZE_BYTES: usize = 1 << 20;

const _: () = assert!(HEAD_SIZE_BYTES_MAX < SEGMENT_FIRST_SIZE_BYTES);
const _: () = assert!(ENTRY_DATA_BYTES_MAX as u64 + 2 * HEAD_SIZE_BYTES_MAX < SEGMENT_SIZE_BYTES);
const _: () = assert!(
    (2 * GROUPS_MAX * super::frame::LINE_SIZE_BYTES + NOTES_MAX * (NOTE_BYTES_MAX + 16)) as u64
        + 2 * BLOCK_SIZE_BYTES as u64
        <= HEAD_SIZE_BYTES_MAX
);
const _: () = assert!(FRAME_PAYLOAD_BYTES_TARGET < ENTRY_DATA_BYTES_MAX);
const _: () = assert!((ENTRY_DATA_BYTES_MAX as u64) <= SEGMENT_SIZE_BYTES / 2);
const _: () = assert!(SEGMENT_SIZE_BYTES <= SEGMENT_SIZE_BYTES_MAX);
const _: () = assert!(SEGMENT_FIRST_SIZE_BYTES.is_multiple_of(BLOCK_SIZE_BYTES as u64));
const _: () = assert!(SEGMENT_SIZE_BYTES.is_multiple_of(BLOCK_SIZE_BYTES as u64));
