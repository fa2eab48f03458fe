//! Versions of keys: what a change writes, what a read at a revision sees, what compaction takes
//! away.
//!
//! Three trees: `keys` (key to its newest version), `history` ((main, sub) to the event, with the
//! version it replaced as an undo record) and `system` (leases, alarms, members). A read at R starts
//! from the newest version and goes back by undo records, all of them newer than R and so never
//! compacted.

pub(crate) mod approach;
pub mod budget;
pub(crate) mod compaction;
pub(crate) mod deletion;
pub mod hash;
pub mod history;
pub(crate) mod members;
pub mod prefetch;
pub mod range;
pub(crate) mod run;
pub(crate) mod system;
pub(crate) mod trees;
pub(crate) mod txn;
pub mod txn_read;
pub(crate) mod verify;
pub mod version;
