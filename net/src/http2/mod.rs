//! A sans-IO HTTP/2 server for gRPC: `feed` bytes in, take bytes out.
//!
//! How to drive one: call [`Connection::tick`] with the time (at least each second), `feed` with
//! what the socket gave while [`Connection::wants_input`], take what is in
//! [`Connection::output`] once the previous output is written, then call
//! [`Connection::flushed`]. Close the socket when [`Connection::is_finished`] and nothing is left
//! to write, or at once when [`Connection::is_broken`]; then call [`Connection::closed`].
//!
//! Invariants: no clock, no allocation of its own at steady state, any split of the same bytes
//! over calls of `feed` has the same effect, and every queue has a bound in [`limits`].
//! Source: RFC 9113 (HTTP/2), RFC 7541 (HPACK), the gRPC design page.

mod application;
mod clock;
mod connection;
mod control;
mod deliver;
mod flow_control;
pub mod frame;
mod fuzz;
pub mod hpack;
pub mod limits;
mod request;
mod response;
mod stream;
mod transmit;

pub use application::{Application, InputPurpose, StreamId, Work};
pub use connection::Connection;
pub use flow_control::InputBudget;
pub use fuzz::fuzz_feed;
pub use limits::Limits;
pub use transmit::Transmit;
