//! The binary client protocol: many small frames, pipelined, answered out of order.
//!
//! One frame is one message: a fixed 32-byte header and a body (`frame`). A client opens with
//! hello (`hello`), then sends requests (`request`) under strictly increasing request ids; the
//! server answers each once (`reply`), in any order, and a watch sends events under the id of the
//! request that opened it for as long as it has credit (`watch`). `session` is the server's side
//! of a connection, `client` the client's; both are bytes in, bytes out.
//!
//! The byte tables are in docs/format/wire.md. Invariant: a walk over received requests allocates
//! nothing, except the three lists of a transaction.

mod client;
mod cluster;
mod error;
mod frame;
mod hello;
pub mod limits;
mod opcode;
mod outbox;
mod reader;
mod reply;
mod request;
mod session;
mod txn;
mod watch;

pub use client::{ClientRequest, ClientSession, Message, RequestTooLarge};
pub use cluster::{ClusterMember, ClusterRequest};
pub use error::Malformed;
pub use frame::{FLAG_MORE, Frame, FrameHeader, check_frame};
pub use hello::{
    ClientHello, FEATURE_RECONNECT, FEATURES, MAGIC, ServerHello, ServerIdentity, ServerLimits,
    VERSION_MAX, VERSION_MIN,
};
pub use opcode::Opcode;
pub use outbox::{Delivery, Outbox, events_cost_bytes};
pub use reply::{Answer, LeaseTimeToLive, MemberStatus, Reply, ReplyHeader};
pub use request::Request;
pub use session::{FeedOutcome, Flow, WireApplication, WireSession};
pub use watch::{WatchCanceled, WatchCreateRequest, WatchFilter};

#[cfg(test)]
mod codec_test;
#[cfg(test)]
mod golden_test;
#[cfg(test)]
mod sample;
#[cfg(test)]
mod session_test;
