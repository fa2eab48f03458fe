//! Members as real processes: started on free loopback ports with a data directory of their own,
//! stopped, paused, killed and restarted by the tests.
//!
//! Invariants: every wait is bounded; readiness is what the member itself says in its log, never a
//! delay; a process never outlives the [`Member`] that started it. The same harness starts the real
//! etcd, so that one list of requests can be put to both.

mod binary;
mod cluster;
mod log_capture;
mod member;
mod mount;
pub mod wal_frames;

pub use binary::{corestone_binary, etcd_binary, find_on_path};
pub use cluster::Cluster;
pub use log_capture::LogCapture;
pub use member::{IoDriver, Member, Prepare, Program, StartError};
pub use mount::Mount;
