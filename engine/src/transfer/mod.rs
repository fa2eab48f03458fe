//! State transfer between two page files of one group: pages are named by number and checksum.
//!
//! The sender answers from its page file ([`source`]); the receiver walks the tree of a checkpoint,
//! asks for what it lacks and keeps it in a side file ([`sink`]); what lies in the side file is
//! listed there too, so that a crash in the middle of the copying can be mended ([`directory`]).
//! Replicas are equal page by page at one log position, so a page that the receiver has already
//! is not sent. Source: storage.md, State transfer; architecture.md, section 6.

pub mod directory;
mod link;
pub mod sink;
pub mod source;

pub use link::Wanted;
