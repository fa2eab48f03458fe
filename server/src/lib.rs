//! The binary `corestone`, and the only crate that touches the OS: flags, files, sockets, clock,
//! threads. It takes no decision about terms, revisions or keys: those are made in `shard`.
//!
//! `config` says what to start, `bootstrap` makes the identity of a new member, `data_directory`
//! says whose files there are, `segment_files` which of them are the log's, `driver` runs the shards; `ctl` is the command line client,
//! `inspect` looks at the files of a member.
//! Invariant: `unsafe` stands in `driver/page_file.rs` and in the folder `driver/uring` only.

pub mod bootstrap;
pub mod config;
pub mod ctl;
pub mod data_directory;
pub mod driver;
pub mod error;
pub mod identity;
pub mod inspect;
pub mod log;
pub mod machine;
pub mod member;
mod segment_files;
