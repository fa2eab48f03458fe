//! Fixed-size pages: layout, checksums, allocation, and the seam to memory.
//!
//! A [`store::Store`] holds the pages of one group's file: durable ones through a [`map::PageMap`],
//! changed ones in an arena until the checkpoint that writes them is durable. What the pages hold
//! is the business of [`crate::tree`].

mod arena;
pub(crate) mod cells;
pub mod check;
pub mod checkpoint;
mod freelist;
#[cfg(test)]
mod freelist_test;
pub mod heap;
pub mod layout;
pub mod limits;
pub mod map;
pub mod meta;
pub mod node;
mod seal;
pub mod store;
