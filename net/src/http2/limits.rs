//! Every bound a peer of the HTTP/2 server can meet, with its unit and its answer.
//!
//! Invariant: the relations between bounds are asserted at compile time or when a [`Limits`] is
//! taken by a connection.
//! Source: the table of attacks of the gRPC design page; etcd's flags for the values it names.

/// The bounds of one connection; [`Limits::default`] is what etcd's defaults ask for.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Streams open at once, those counted whose work still lingers after a reset. Over it:
    /// REFUSED_STREAM.
    pub streams_max: u32,
    /// Largest request message. Over it: RESOURCE_EXHAUSTED.
    pub message_size_bytes_max: usize,
    /// Largest response message; grpc-go's own default. Over it: RESOURCE_EXHAUSTED.
    pub response_size_bytes_max: usize,
    /// Receive window of a stream until the core's input budget grants it a large message.
    pub stream_window_bytes: u32,
    /// Receive window of the connection before the core's input budget grants it more.
    pub connection_window_bytes_min: u32,
    /// Largest receive window of a connection, however much budget there is.
    pub connection_window_bytes_max: u32,
    /// Framed bytes waiting for the peer's window, all streams together. When full: input is read
    /// but neither executed nor credited.
    pub pending_bytes_max: usize,
    /// Pending bytes of one stream above which [`super::Transmit::congested`] says stop.
    pub stream_pending_bytes_max: usize,
    /// Unsent output above which no more input is taken and nothing more is framed.
    pub output_bytes_max: usize,
    /// Distance of the peer's pings; three closer ones draw GOAWAY "too_many_pings".
    pub client_ping_distance_ms_min: u64,
    /// Silence after which the server pings; 0 is never.
    pub keep_alive_interval_ms: u64,
    /// Time for the answer to that ping, after which the connection is broken.
    pub keep_alive_timeout_ms: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            streams_max: 1024,
            message_size_bytes_max: 1_572_864 + 524_288,
            response_size_bytes_max: 0x7fff_ffff,
            stream_window_bytes: 65_535,
            connection_window_bytes_min: 65_535,
            connection_window_bytes_max: 4 << 20,
            pending_bytes_max: 8 << 20,
            stream_pending_bytes_max: 1 << 20,
            output_bytes_max: 1 << 20,
            client_ping_distance_ms_min: 5_000,
            keep_alive_interval_ms: 2 * 60 * 60 * 1000,
            keep_alive_timeout_ms: 20_000,
        }
    }
}

impl Limits {
    /// Panics when the bounds contradict each other: they come from the operator's flags, which
    /// were checked before.
    pub(super) fn verify(&self) {
        assert!(0 < self.streams_max);
        assert!(self.stream_window_bytes <= WINDOW_BYTES_MAX as u32);
        assert!(DEFAULT_WINDOW_BYTES <= i64::from(self.connection_window_bytes_min));
        assert!(self.connection_window_bytes_min <= self.connection_window_bytes_max);
        assert!(self.connection_window_bytes_max <= WINDOW_BYTES_MAX as u32);
        assert!(self.stream_pending_bytes_max <= self.pending_bytes_max);
        assert!(FRAME_SIZE_BYTES_MAX <= self.output_bytes_max);
        assert!(self.response_size_bytes_max <= 0xffff_ffff);
    }
}

/// Windows never exceed this; more is FLOW_CONTROL_ERROR (RFC 9113 section 6.9.1).
pub const WINDOW_BYTES_MAX: i64 = 0x7fff_ffff;
/// Windows before any SETTINGS (RFC 9113 section 6.9.2).
pub const DEFAULT_WINDOW_BYTES: i64 = 65_535;
/// Largest frame payload taken; the protocol's default, so it need not be announced.
pub const FRAME_SIZE_BYTES_MAX: usize = 16_384;
/// Largest DATA payload written, whatever the peer allows.
pub const DATA_SIZE_BYTES_MAX: usize = 32 << 10;
/// HEADERS and CONTINUATION of one block together. Over it: ENHANCE_YOUR_CALM.
pub const HEADER_BLOCK_SIZE_BYTES_MAX: usize = 16_384;
/// Decoded header list with 32 bytes a field (RFC 7541 section 4.1). Over it: the call is refused.
pub const HEADER_LIST_SIZE_BYTES_MAX: usize = 16_384;
/// Decoded header list at which the connection ends with ENHANCE_YOUR_CALM.
pub const HEADER_LIST_SIZE_BYTES_STOP: usize = 10 * HEADER_LIST_SIZE_BYTES_MAX;
/// HPACK dynamic table of the decoder.
pub const HEADER_TABLE_SIZE_BYTES_MAX: usize = 4096;
/// Coded `:path` values of known routes remembered by a connection.
pub const PATH_MEMOS_MAX: usize = 64;
/// Entries of one SETTINGS frame. Over it: ENHANCE_YOUR_CALM.
pub const SETTINGS_ENTRIES_MAX: usize = 32;
/// Encoded bytes of one `grpc-message`; the rest is cut.
pub const STATUS_MESSAGE_SIZE_BYTES_MAX: usize = 4096;
/// Buffers keep this much capacity between uses; more is given back to the allocator.
pub const RECYCLED_BUFFER_BYTES_MAX: usize = 64 << 10;
/// Stream slots kept for reuse.
pub const RECYCLED_STREAMS_MAX: usize = 256;

/// What cheap frames may spend before ENHANCE_YOUR_CALM.
pub const BUDGET_MAX: i32 = 2000;
/// Earned back with time.
pub const BUDGET_PER_SECOND: u64 = 50;
/// RST_STREAM of the peer, and those it provokes.
pub const COST_RESET: i32 = 10;
/// A stream refused over the limit.
pub const COST_REFUSED: i32 = 10;
/// A CONTINUATION (or opening HEADERS) piece below [`HEADER_PIECE_SIZE_BYTES_SMALL`].
pub const COST_HEADER_PIECE_SMALL: i32 = 20;
/// Pieces of a split header block below this size are suspicious.
pub const HEADER_PIECE_SIZE_BYTES_SMALL: usize = 1024;
/// A header list over its size.
pub const COST_HEADER_LIST: i32 = 100;
/// A SETTINGS frame; each eight open streams cost one more.
pub const COST_SETTINGS: i32 = 20;
/// An empty DATA frame that does not end its stream.
pub const COST_DATA_EMPTY: i32 = 10;
/// Everything else that costs the peer nothing.
pub const COST_CHEAP: i32 = 1;
/// DATA below this size that completes no message is cheap.
pub const DATA_SIZE_BYTES_SMALL: usize = 256;
/// WINDOW_UPDATE below this increment is cheap.
pub const WINDOW_INCREMENT_BYTES_SMALL: i64 = 1024;

/// The preface and first SETTINGS must be there by then.
pub const PREFACE_MS_MAX: u64 = 5_000;
/// A header block begun must end by then.
pub const HEADER_BLOCK_MS_MAX: u64 = 5_000;
/// Output of which the transport takes nothing for so long breaks the connection.
pub const STALLED_WRITE_MS_MAX: u64 = 20_000;
/// Full pending bytes, or input held back, without any progress for so long end it.
pub const STALLED_PROGRESS_MS_MAX: u64 = 30_000;
/// Bytes of unfinished messages that count as progress.
pub const MESSAGE_PROGRESS_BYTES_MIN: usize = 4096;
/// A connection silent for so long gives its wide window back.
pub const WINDOW_IDLE_MS_MAX: u64 = 10_000;
/// The second GOAWAY of a drain goes out by then even if the peer does not answer the ping.
pub const DRAIN_MS_MAX: u64 = 1_000;
/// Silence that grpc-go asks of pings without an open stream.
pub const CLIENT_PING_IDLE_DISTANCE_MS_MIN: u64 = 2 * 60 * 60 * 1000;
/// Pings too close to each other that are forgiven.
pub const CLIENT_PING_STRIKES_MAX: u32 = 2;

const _: () = assert!(HEADER_LIST_SIZE_BYTES_MAX < HEADER_LIST_SIZE_BYTES_STOP);
const _: () = assert!(FRAME_SIZE_BYTES_MAX <= DATA_SIZE_BYTES_MAX);
const _: () = assert!(STATUS_MESSAGE_SIZE_BYTES_MAX + 512 < HEADER_LIST_SIZE_BYTES_MAX);
