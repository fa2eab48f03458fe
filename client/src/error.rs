//! What can go wrong with a call, and what that says about its outcome.

use net::wire::Malformed;
use std::fmt;

/// Why a call, a watch or a lease keeper failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// The server answered with an error: a gRPC code and etcd's text.
    Status {
        /// The gRPC code.
        code: u32,
        /// The text.
        message: String,
    },
    /// The connection broke after the request may have left: a write may or may not have happened.
    Disconnected,
    /// The deadline passed after the request may have left: as [`Error::Disconnected`].
    Timeout,
    /// No server could be reached within the deadline; nothing was sent.
    Unreachable {
        /// What the last attempt met.
        reason: String,
    },
    /// Compaction overtook a watch.
    Compacted {
        /// The smallest revision that can still be watched.
        compact_revision: i64,
    },
    /// The server ended a watch.
    WatchCanceled {
        /// etcd's text.
        reason: String,
    },
    /// The lease is gone.
    LeaseExpired,
    /// An endpoint that is no `host:port`.
    InvalidEndpoint {
        /// The endpoint.
        endpoint: String,
    },
    /// The server sent what it should not.
    Protocol(Malformed),
    /// The client was closed.
    Closed,
}

impl Error {
    /// Whether a write that failed so may have happened all the same.
    pub fn is_outcome_unknown(&self) -> bool {
        match self {
            Error::Disconnected | Error::Timeout | Error::Protocol(_) => true,
            Error::Status { code, .. } => {
                matches!(*code, CANCELED | UNKNOWN | DEADLINE_EXCEEDED | UNAVAILABLE)
            }
            Error::Unreachable { .. }
            | Error::Compacted { .. }
            | Error::WatchCanceled { .. }
            | Error::LeaseExpired
            | Error::InvalidEndpoint { .. }
            | Error::Closed => false,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Status { message, .. } => f.write_str(message),
            Error::Disconnected => f.write_str("the connection broke, the outcome is unknown"),
            Error::Timeout => f.write_str("context deadline exceeded"),
            Error::Unreachable { reason } => write!(f, "no endpoint can be reached: {reason}"),
            Error::Compacted { compact_revision } => write!(
                f,
                "etcdserver: mvcc: required revision has been compacted \
                 (smallest left: {compact_revision})"
            ),
            Error::WatchCanceled { reason } => write!(f, "watch canceled: {reason}"),
            Error::LeaseExpired => f.write_str("etcdserver: requested lease not found"),
            Error::InvalidEndpoint { endpoint } => write!(f, "invalid endpoint {endpoint:?}"),
            Error::Protocol(malformed) => write!(f, "protocol error: {malformed}"),
            Error::Closed => f.write_str("the client is closed"),
        }
    }
}

impl std::error::Error for Error {}

/// gRPC codes that leave a write's outcome open (CANCELED).
const CANCELED: u32 = 1;
const UNKNOWN: u32 = 2;
const DEADLINE_EXCEEDED: u32 = 4;
/// Try again, perhaps elsewhere.
pub(crate) const UNAVAILABLE: u32 = 14;
