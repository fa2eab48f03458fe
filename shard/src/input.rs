//! Everything that can happen to a shard: a closed list, in the past tense.
//!
//! Invariants: a connection's inputs come in the order of its bytes; after `Closed` nothing of that
//! connection follows; `WalSynced` positions rise; each effect that names a completion gets exactly
//! one.

use engine::wal::buffer::WalBuffer;
use engine::wal::position::{SegmentId, WalPosition};

use crate::message::Message;

/// A connection of this core, numbered by the driver, never reused in a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// A core of this member, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CoreId(pub u16);

/// Which listener a connection came in by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// gRPC over HTTP/2 and plain HTTP/1.1, told apart by the first bytes.
    Client,
    /// The binary protocol.
    Binary,
    /// /metrics, /health, /livez, /readyz only.
    Metrics,
    /// The peer protocol, and GET /members and /version for members that are about to join. Its
    /// connections belong to core 0.
    Peer,
}

/// A dial of the shard's, never reused in a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DialId(pub u64);

/// Why a dial came to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DialFailure {
    /// Nobody listens there: the peer's process is gone.
    Refused,
    /// No answer in time, no route, no such name.
    Unreachable,
}

/// One thing that happened.
#[derive(Debug)]
pub enum Input {
    /// A connection was accepted and placed on this core.
    Accepted {
        /// Its number.
        connection: ConnectionId,
        /// Its listener.
        door: Door,
    },
    /// Bytes came in, in order. The buffer comes back through `Effects::spent`.
    Received {
        /// On which connection.
        connection: ConnectionId,
        /// The bytes; never empty.
        bytes: Vec<u8>,
    },
    /// The kernel took bytes of earlier `Transmit`s. May be told late, but is told whenever
    /// nothing is left unsent.
    Transmitted {
        /// On which connection.
        connection: ConnectionId,
        /// How many bytes since the last such input.
        size_bytes: usize,
    },
    /// The connection is gone, by the peer, an error, or a finished `Close`.
    Closed {
        /// Which one.
        connection: ConnectionId,
    },
    /// A dial succeeded: from now on this is a connection like any other.
    Dialed {
        /// Which dial.
        dial: DialId,
        /// The number of the new connection.
        connection: ConnectionId,
    },
    /// A dial failed.
    DialFailed {
        /// Which dial.
        dial: DialId,
        /// Why.
        failure: DialFailure,
    },
    /// A WAL write and the sync linked to it are done, and so is every earlier one.
    WalSynced {
        /// The position up to which everything is durable.
        end: WalPosition,
        /// The buffer, to be filled again.
        buffer: WalBuffer,
    },
    /// A segment file is pre-written and synced.
    WalSegmentReady {
        /// Which one.
        segment: SegmentId,
    },
    /// All page writes emitted before the `PageSync` of this interval are durable.
    PagesSynced {
        /// The checkpoint's interval.
        interval: u64,
    },
    /// The meta page of this interval is durable.
    MetaSynced {
        /// The checkpoint's interval.
        interval: u64,
    },
    /// Everything written to the side file before the `SideSync` of this number is durable.
    SideSynced {
        /// Number of the sync.
        number: u64,
    },
    /// The pages of the side file lie in their places in the page file and are durable there.
    PagesInstalled,
    /// The disk is full but for a reserve that is being used up, or is so no more; told when it
    /// changes.
    SpaceShort {
        /// Whether it is.
        is_short: bool,
    },
    /// Another core of this member sent something.
    Forwarded {
        /// Which core.
        from: CoreId,
        /// What.
        message: Box<Message>,
    },
    /// The text of all cores' metrics is ready.
    MetricsRead {
        /// The token of the `ReadMetrics` effect.
        token: u64,
        /// Prometheus text.
        text: Vec<u8>,
    },
    /// SIGTERM or SIGINT: stop cleanly.
    ShutdownRequested,
}
