//! Storage of one group and the WAL of one shard, pure: it reads durable pages through
//! [`page::map::PageMap`] and asks for writes by returning them.
//!
//! Floors, imports go down only: `engine` over `mvcc`, `lease`, `watch` over `tree` over `page`;
//! `wal` stands beside them.
//! Invariant of absence: no terms, quorums, sockets, files, clock or threads in here; a Raft index
//! is a plain `u64` position of the log.
#![forbid(unsafe_code)]

pub mod api;
pub mod command;
pub mod engine;
pub mod lease;
pub mod limits;
pub mod mvcc;
pub mod page;
pub mod transfer;
pub mod tree;
pub mod wal;
pub mod watch;
