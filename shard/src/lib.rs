//! One core's whole program, pure: `Shard::step(now, inputs, &mut effects)`.
//!
//! The contract of a step: the driver drains everything that happened into `inputs`, steps once,
//! and submits all effects in order. Effects carry no conditions: what must wait for durability is
//! emitted when the input that says so arrives.
//! Invariants of absence: no clock, thread, async, OS call or unseeded randomness in here.
#![forbid(unsafe_code)]

pub mod config;
pub mod effect;
pub mod input;
pub mod limits;
pub mod message;
pub mod metrics;
pub mod peer_metrics;
mod peers;
pub mod placement;
mod random;
mod replica;
mod session;
mod shard;
mod wal;

pub use replica::StartError;
pub use shard::{Shard, method_labels, pending_install};
