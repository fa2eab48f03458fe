//! The peer protocol: what members say to each other, bytes in and bytes out.
//!
//! A frame (`frame`) is the unit of integrity and carries many messages (`message`). The dialer
//! opens with a hello, the acceptor answers with its own or a refusal (`hello`). `connection` is
//! one side of a connection; `outbox` holds what it has to send, in two lanes.
//!
//! The byte tables are in docs/format/peer.md. Invariants: the data of entries and pages is copied
//! once into the output and sliced out of the received frame; a frame without such data is taken
//! apart without allocating.

mod assembly;
mod connection;
mod decode;
mod encode;
mod error;
mod frame;
mod hello;
mod kind;
mod layout;
pub mod limits;
mod message;
mod outbox;
mod reader;

pub use connection::{Event, PeerConnection};
pub use error::{PeerError, SendError};
pub use hello::{Hello, MAGIC, Purpose, Refusal, Sniff, VERSION_MAX, VERSION_MIN, is_hello};
pub use kind::MessageKind;
pub use message::{
    Answer, AskFailure, KeysWanted, Lane, NotAppended, PageRun, PageWanted, PeerMessage, Question,
};

#[cfg(test)]
mod codec_test;
#[cfg(test)]
mod connection_test;
#[cfg(test)]
mod golden_test;
#[cfg(test)]
mod sample;
