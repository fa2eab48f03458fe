//! The request metadata that the store understands, out of a request's header fields.
//!
//! Invariant: nothing here outlives its request; a token in particular is never remembered, since
//! what it stands for can expire.
//! Source: fact sheet of the etcd v3 API, "Transport facts"; gRPC over HTTP/2, "Requests" (Timeout).

/// What a request's header fields say, borrowed until the callback returns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Metadata<'a> {
    /// `hasleader: true`: refuse, or cut, the call when there is no leader.
    pub has_leader: bool,
    /// `token`, else `authorization` without its `Bearer ` prefix; empty when neither was sent.
    pub token: &'a [u8],
    /// `grpc-timeout` in microseconds, rounded up; None is no deadline.
    pub timeout_us: Option<u64>,
}
