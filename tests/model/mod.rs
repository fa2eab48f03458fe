//! etcd as its meaning: an ordered map with history, transactions, leases and watches, over what a
//! client sees. Nothing of the engine is used here, so that a mistake there is not made again.
//!
//! Invariants: a version is never changed once it is there; evaluating a request changes nothing;
//! only [`store::Store::commit`] does, by one revision at a time.
//! Source: fact sheet of etcd's behaviour, sections 1 to 7 and 16.

pub mod answer;
pub mod failure;
pub mod request;
pub mod store;
mod txn;
pub mod watch;

pub use answer::{Answer, Kv, OpAnswer, RangeAnswer};
pub use failure::Failure;
pub use request::{Compare, Delete, Op, Put, Range, Relation, Request, Txn, Value};
pub use store::{Evaluated, Event, Store};
