//! The state of one member for another: [`send`] answers for pages of the newest checkpoint,
//! [`receive`] fetches those that differ into the side file, [`install`] puts them in place of the
//! store.
//!
//! Invariant: until all that was received is durable, the own store is what it was.
//! Source: storage.md, State transfer; replication.md, Damage 3.

pub(super) mod install;
pub(super) mod receive;
pub(super) mod receiving;
pub(super) mod send;
