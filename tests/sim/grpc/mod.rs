//! Clients that speak gRPC to the simulated members: their side of HTTP/2, calls and watches over
//! it, in the model's words.
//!
//! `http2` knows frames, windows and header blocks; `session` knows calls; `request` and `answer`
//! turn the model's words into etcd's messages and back. What a member sends against the protocol
//! ends the run with the place: bytes of these connections are never lost or changed underway.
//! Source: RFC 9113, RFC 7541, gRPC over HTTP/2; fact sheet of the etcd v3 API.

pub mod answer;
mod headers;
pub mod http2;
pub mod request;
pub mod session;

pub use session::{Habits, Session};
