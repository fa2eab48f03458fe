//! corestone through the crate etcd-client, as a program in Rust would use it.
//!
//! The members are started by the same harness as in the workspace's own tests.

#[path = "../process/mod.rs"]
pub mod process;
