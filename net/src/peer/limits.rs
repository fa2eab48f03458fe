//! Bounds of the peer protocol, and how they relate.

use engine::page::map::PAGE_SIZE_BYTES;
use engine::wal::limits::ENTRY_DATA_BYTES_MAX;

/// Size of the header of every frame.
pub const FRAME_HEADER_SIZE_BYTES: usize = 32;

/// Messages join a frame until its body holds this much. Small enough that a heartbeat does not
/// wait long behind a frame that has begun to leave.
pub const FRAME_BODY_BYTES_TARGET: usize = 256 * 1024;

/// Most messages in one frame.
pub const FRAME_MESSAGES_MAX: usize = 4096;

/// Largest message: the largest entry, or a full append, and what surrounds it.
pub const MESSAGE_SIZE_BYTES_MAX: usize = ENTRY_DATA_BYTES_MAX + (4 << 20);

/// Largest frame: one message comes on top of the target.
pub const FRAME_SIZE_BYTES_MAX: usize =
    FRAME_HEADER_SIZE_BYTES + FRAME_BODY_BYTES_TARGET + MESSAGE_SIZE_BYTES_MAX;

/// Largest frame before both sides know each other.
pub const HELLO_SIZE_BYTES_MAX: usize = 64 * 1024;

/// Longest name or URL in a hello. A longer name is cut, a longer URL left out.
pub const TEXT_SIZE_BYTES_MAX: usize = 2048;

/// Most peer URLs in a hello; more are left out.
pub const PEER_URLS_MAX: usize = 16;

/// A frame that came in pieces and has at least this size is kept by its messages as it is; of a
/// smaller one they keep a copy, so that the buffer is used again.
pub const SHARED_SIZE_BYTES_MIN: usize = 16 * 1024;

/// Most runs in a page request and in its answer.
pub const PAGE_RUNS_MAX: usize = 4096;

/// Most pages in one run: the largest value has a run of its own.
pub const PAGE_RUN_PAGES_MAX: u32 = (ENTRY_DATA_BYTES_MAX / PAGE_SIZE_BYTES) as u32 + 1;

/// Unsent bytes of the control lane at which it is full. What is lost then is repeated by Raft, or
/// times out at its asker.
pub const CONTROL_UNSENT_BYTES_MAX: usize = 1 << 20;

/// Unsent bytes of the bulk lane at which it is full. One message may overdraw it. Above the 16 MiB
/// that Raft by default keeps on its way to one follower, so that only a caller that also sends
/// something else in bulk meets it.
pub const BULK_UNSENT_BYTES_MAX: usize = 24 << 20;

/// Buffers that a connection keeps for the next frames, and the largest of them.
pub const SPARE_FRAMES_MAX: usize = 4;
/// A larger buffer is given back to the allocator.
pub const SPARE_FRAME_SIZE_BYTES_MAX: usize = 2 * FRAME_BODY_BYTES_TARGET;

const _: () = {
    assert!(FRAME_SIZE_BYTES_MAX <= u32::MAX as usize);
    assert!(FRAME_MESSAGES_MAX <= u16::MAX as usize);
    assert!((PEER_URLS_MAX + 1) * (TEXT_SIZE_BYTES_MAX + 4) + 256 <= HELLO_SIZE_BYTES_MAX);
    assert!(PAGE_RUN_PAGES_MAX as usize * PAGE_SIZE_BYTES <= MESSAGE_SIZE_BYTES_MAX - (1 << 20));
    assert!(FRAME_BODY_BYTES_TARGET <= CONTROL_UNSENT_BYTES_MAX);
    assert!(CONTROL_UNSENT_BYTES_MAX <= BULK_UNSENT_BYTES_MAX);
};
