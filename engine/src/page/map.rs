//! The only seam between the trees and memory: where a page's durable bytes come from.
//!
//! Invariants: what is returned was verified against `expected` before its first use (or `Err`);
//! no reference outlives a step; a run is contiguous.

use std::fmt;

/// Size of a page in the page file and in memory.
pub const PAGE_SIZE_BYTES: usize = 4096;

/// Number of a page in a group's page file; pages 0 and 1 are the meta pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PageNumber(pub u64);

/// xxh3 (64 bits) of a page's or a run's bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checksum(pub u64);

/// A page whose bytes are not what its parent says, or cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Corruption {
    /// First page of the broken run.
    pub page: PageNumber,
    /// Pages in it.
    pub count: u32,
    /// What the parent says.
    pub expected: Checksum,
    /// What was found; `None` when it could not be read.
    pub found: Option<Checksum>,
}

impl fmt::Display for Corruption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.found {
            Some(found) => write!(
                f,
                "page {} is corrupt: its checksum is {:016x}, its parent says {:016x}",
                self.page.0, found.0, self.expected.0
            ),
            None => write!(f, "page {} cannot be read", self.page.0),
        }
    }
}

/// Checksum of a page or a run.
pub fn checksum(bytes: &[u8]) -> Checksum {
    Checksum(xxhash_rust::xxh3::xxh3_64(bytes))
}

/// Durable pages, read-only. Production maps the page file; tests keep it on the heap.
pub trait PageMap {
    /// The bytes of `count` pages from `first`, contiguous. The first use of a run verifies it
    /// against `expected`.
    fn pages(&self, first: PageNumber, count: u32, expected: Checksum)
    -> Result<&[u8], Corruption>;

    /// The pages are about to be written again: what was verified of them no longer counts.
    fn forget(&self, first: PageNumber, count: u32);

    /// The pages were written and synced by this process with the content that their parents name:
    /// they count as verified. A map that verifies every read has nothing to do.
    fn wrote(&self, _first: PageNumber, _count: u32) {}

    /// The pages are free for every checkpoint: the memory that shows them may go.
    fn release(&self, _first: PageNumber, _count: u64) {}

    /// The pages will be read soon: they may be fetched meanwhile.
    fn will_need(&self, _first: PageNumber, _count: u64) {}

    /// A whole state was put in place of the pages: another file may lie behind the map by now.
    fn refresh(&mut self) {}
}
