//! Checkers: each takes what was seen of a cluster and complains about the first thing that no
//! correct store can show. None of them looks into a member.
//!
//! Invariant: a checker never accepts for lack of evidence what its head says it demands; what it
//! cannot see it names there.

pub mod bounds;
pub mod compaction;
pub mod durable;
pub mod history;
pub mod leases;
pub mod linearizable;
pub mod log_lines;
pub mod members;
pub mod raft_log;
pub mod replicas;
pub mod search;
pub mod trees;
pub mod watches;

pub use history::{Call, Complaint, History, Outcome};
