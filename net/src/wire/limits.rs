//! Bounds of the binary protocol, and how they relate. Both sides state theirs in hello; these are
//! the defaults and what a peer may at most ask for.

/// Size of the header of every frame, in bytes.
pub const FRAME_HEADER_SIZE_BYTES: usize = 32;

/// What a frame may hold above the largest request: header, fixed fields, a transaction's lists.
pub const FRAME_SLACK_BYTES: usize = 512 * 1024;

/// Smallest frame bound that a client may ask for: an error with its text must always fit.
pub const FRAME_SIZE_BYTES_MIN: usize = 64 * 1024;

/// Largest frame bound that either side accepts.
pub const FRAME_SIZE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Largest frame before both sides know each other.
pub const HELLO_SIZE_BYTES_MAX: usize = 1024;

/// Answers and events are cut into frames of at most this size, so that a big one does not hold up
/// the small ones behind it for long.
pub const CHUNK_SIZE_BYTES: usize = 256 * 1024;

/// Largest request, as etcd's default.
pub const REQUEST_SIZE_BYTES_MAX: usize = 1_572_864;

/// Output that may pend before a session stops taking requests.
pub const OUTPUT_PENDING_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Input that may wait behind an unfinished frame or a busy shard; beyond it the connection ends.
pub const INPUT_PENDING_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Requests of one connection that may wait for their answer; more wait in the socket.
pub const REQUESTS_IN_FLIGHT_MAX: usize = 4096;

/// Watches on one connection; one more is refused with RESOURCE_EXHAUSTED.
pub const WATCHES_MAX: usize = 65_536;

/// Credit of one watch; a client that grants more has its grant cut to this.
pub const WATCH_CREDIT_BYTES_MAX: i64 = 64 * 1024 * 1024;

/// How deep transactions may nest: etcd's rule gives each level at least one operation less.
pub const TXN_DEPTH_MAX: usize = 128;

/// Longest text in an error, a hint or a version, in bytes; a longer one is cut.
pub const TEXT_SIZE_BYTES_MAX: usize = 4096;

/// URLs of one member in a request or an answer; more are refused, and not shown.
pub const MEMBER_URLS_MAX: usize = 64;

/// Largest answer that a client puts together from its chunks.
pub const REPLY_SIZE_BYTES_MAX: usize = 1024 * 1024 * 1024;

const _: () = {
    assert!(FRAME_HEADER_SIZE_BYTES < HELLO_SIZE_BYTES_MAX);
    assert!(HELLO_SIZE_BYTES_MAX <= FRAME_SIZE_BYTES_MIN);
    assert!(TEXT_SIZE_BYTES_MAX + 2 * FRAME_HEADER_SIZE_BYTES <= FRAME_SIZE_BYTES_MIN);
    assert!(REQUEST_SIZE_BYTES_MAX + FRAME_SLACK_BYTES <= INPUT_PENDING_BYTES_MAX);
    assert!(CHUNK_SIZE_BYTES <= FRAME_SIZE_BYTES_MAX);
    assert!(CHUNK_SIZE_BYTES <= OUTPUT_PENDING_BYTES_MAX);
    assert!(FRAME_SIZE_BYTES_MAX <= u32::MAX as usize);
};
