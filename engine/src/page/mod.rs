//! Fixed-size pages: layout, checksums, allocation, and the seam to memory.
//!
//! A [`store::Store`] holds the pages of one group's file: durable ones through a [`map::PageMap`],
//! changed ones in an arena until the checkpoint that writes them is durable. What the pages hold is
//! the business of [`crate::tree`].

pub mod checkpoint;
pub mod heap;
pub mod layout;
pub mod limits;
pub mod map;
pub mod meta;
pub mod store;
