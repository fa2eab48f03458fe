//! The write-ahead log of one shard, shared by all its groups: format, writer, recovery.
//!
//! Floors: `writer` and `recovery` over `frame` over `record`; nothing here touches a file. The
//! bytes are described in docs/format/wal.md.
//! Source: storage.md, WAL.

mod assembly;
pub mod buffer;
pub mod frame;
pub mod group;
pub mod limits;
mod pending;
pub mod position;
pub mod record;
pub mod recovered;
pub mod recovery;
mod scan;
pub mod source;
pub mod writer;
