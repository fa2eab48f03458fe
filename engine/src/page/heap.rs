//! A page file on the heap, for tests and the simulator.
//!
//! Invariant: what is read was verified since it last changed, whoever changed it; a run that was
//! found to be what one parent says is nothing that another parent may rely on.

use std::cell::Cell;
use std::collections::BTreeSet;

use super::checkpoint::{CheckpointPlan, PageWrite};
use super::map::{Checksum, Corruption, PAGE_SIZE_BYTES, PageMap, PageNumber, checksum};

/// Pages in one vector, as a file would hold them.
#[derive(Clone, Debug, Default)]
pub struct HeapPages {
    bytes: Vec<u8>,
    /// Pages that cannot be read until they are written again.
    unreadable: BTreeSet<u64>,
    /// Changes are numbered.
    changes: u64,
    /// The last one that may have been anywhere.
    changed: u64,
    /// By page: the last one of its own, and what was found when the run that it begins was read
    /// last. Pages behind the end of this were not looked at.
    looks: Vec<(u64, Cell<Option<Look>>)>,
}

/// A run was found to be what a parent said.
#[derive(Clone, Copy, Debug)]
struct Look {
    expected: Checksum,
    count: u32,
    /// The last change before.
    change: u64,
}

impl HeapPages {
    /// A file of no length.
    pub fn new() -> HeapPages {
        HeapPages::default()
    }

    /// All pages.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// All pages, to alter them.
    pub fn bytes_mut(&mut self) -> &mut Vec<u8> {
        self.changes += 1;
        self.changed = self.changes;
        &mut self.bytes
    }

    /// One page, to alter it; the file is long enough.
    pub fn page_mut(&mut self, page: PageNumber) -> &mut [u8; PAGE_SIZE_BYTES] {
        self.on_change(page.0 as usize, 1);
        &mut self.bytes.as_chunks_mut().0[page.0 as usize]
    }

    /// Cuts pages off the end, or adds pages of zeros there.
    pub fn set_length(&mut self, pages: usize) {
        let before = self.bytes.len() / PAGE_SIZE_BYTES;
        self.bytes.resize(pages * PAGE_SIZE_BYTES, 0);
        self.looks.resize_with(pages, Default::default);
        self.on_change(before.min(pages), pages.saturating_sub(before));
    }

    fn on_change(&mut self, first: usize, count: usize) {
        self.changes += 1;
        let look = || (self.changes, Cell::new(None));
        self.looks.resize_with(self.bytes.len() / PAGE_SIZE_BYTES, look);
        self.looks[first..first + count].iter_mut().for_each(|look| look.0 = self.changes);
    }

    /// Whether a run was found to be that, and has not changed since.
    fn is_known(&self, first: usize, count: usize, expected: Checksum) -> bool {
        let Some(look) = self.looks.get(first).and_then(|(_, look)| look.get()) else {
            return false;
        };
        let is_that = look.expected == expected && look.count as usize == count;
        let is_as_it_was = |(change, _): &(u64, Cell<Option<Look>>)| *change <= look.change;
        is_that
            && self.changed <= look.change
            && self.looks[first..].iter().take(count).all(is_as_it_was)
    }

    /// Writes pages at their place.
    pub fn write(&mut self, write: &PageWrite) {
        let start = write.first.0 as usize * PAGE_SIZE_BYTES;
        let end = start + write.bytes.len();
        if self.bytes.len() < end {
            self.set_length(start / PAGE_SIZE_BYTES);
            self.bytes.extend_from_slice(&write.bytes);
        } else {
            self.bytes[start..end].copy_from_slice(&write.bytes);
        }
        self.on_change(write.first.0 as usize, write.bytes.len() / PAGE_SIZE_BYTES);
        if !self.unreadable.is_empty() {
            let pages = write.first.0..(end / PAGE_SIZE_BYTES) as u64;
            self.unreadable.retain(|page| !pages.contains(page));
        }
    }

    /// From now on a page cannot be read, until it is written again.
    pub fn break_page(&mut self, page: PageNumber) {
        self.unreadable.insert(page.0);
    }

    /// Writes a whole checkpoint, the meta page last.
    pub fn write_plan(&mut self, plan: &CheckpointPlan) {
        for write in &plan.writes {
            self.write(write);
        }
        self.write(&PageWrite { first: plan.meta_slot, bytes: plan.meta.clone() });
    }

    /// The two slots of the meta pages; zeros where the file is shorter.
    pub fn meta_slots(&self) -> [Vec<u8>; 2] {
        [0, 1].map(|slot| {
            let mut page = vec![0; PAGE_SIZE_BYTES];
            if let Some(bytes) =
                self.bytes.get(slot * PAGE_SIZE_BYTES..(slot + 1) * PAGE_SIZE_BYTES)
            {
                page.copy_from_slice(bytes);
            }
            page
        })
    }
}

impl PageMap for HeapPages {
    fn pages(
        &self,
        first: PageNumber,
        count: u32,
        expected: Checksum,
    ) -> Result<&[u8], Corruption> {
        let unreadable = Corruption { page: first, count, expected, found: None };
        let start = (first.0 as usize).checked_mul(PAGE_SIZE_BYTES).ok_or(unreadable)?;
        let end = start.checked_add(count as usize * PAGE_SIZE_BYTES).ok_or(unreadable)?;
        let bytes = self.bytes.get(start..end).ok_or(unreadable)?;
        let pages = first.0..first.0 + u64::from(count);
        if self.unreadable.range(pages).next().is_some() {
            return Err(unreadable);
        }
        if self.is_known(first.0 as usize, count as usize, expected) {
            return Ok(bytes);
        }
        let found = checksum(bytes);
        if found != expected {
            return Err(Corruption { found: Some(found), ..unreadable });
        }
        if let Some((_, look)) = self.looks.get(first.0 as usize) {
            look.set(Some(Look { expected, count, change: self.changes }));
        }
        Ok(bytes)
    }

    fn forget(&self, _first: PageNumber, _count: u32) {}
}

/// A file that is looked at and not written.
impl PageMap for &HeapPages {
    fn pages(
        &self,
        first: PageNumber,
        count: u32,
        expected: Checksum,
    ) -> Result<&[u8], Corruption> {
        HeapPages::pages(self, first, count, expected)
    }

    fn forget(&self, _first: PageNumber, _count: u32) {
        unreachable!("who looks writes nothing")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pages(count: usize) -> HeapPages {
        let mut pages = HeapPages::new();
        let bytes: Vec<u8> = (0..count * PAGE_SIZE_BYTES).map(|at| (at / 1_000) as u8).collect();
        pages.write(&PageWrite { first: PageNumber(0), bytes: bytes.into() });
        pages
    }

    fn sum(pages: &HeapPages, first: usize, count: usize) -> Checksum {
        checksum(&pages.bytes()[first * PAGE_SIZE_BYTES..(first + count) * PAGE_SIZE_BYTES])
    }

    #[test]
    fn a_run_is_verified_against_each_parent() {
        let pages = pages(4);
        let right = sum(&pages, 2, 1);
        for _ in 0..2 {
            let page = &pages.bytes()[2 * PAGE_SIZE_BYTES..3 * PAGE_SIZE_BYTES];
            assert_eq!(pages.pages(PageNumber(2), 1, right), Ok(page));
            assert!(pages.pages(PageNumber(2), 1, Checksum(right.0 ^ 1)).is_err());
            assert!(pages.pages(PageNumber(2), 2, right).is_err(), "a run, not its first page");
            assert!(pages.pages(PageNumber(1 << 40), 1, right).is_err(), "outside");
        }
    }

    #[test]
    fn a_run_is_verified_again_when_any_page_of_it_has_changed() {
        type Alter = fn(&mut HeapPages);
        let alter: [(&str, Alter); 4] = [
            ("written", |pages| {
                let bytes = vec![9; PAGE_SIZE_BYTES].into();
                pages.write(&PageWrite { first: PageNumber(2), bytes });
            }),
            ("cut off and there again", |pages| {
                pages.set_length(2);
                pages.set_length(4);
            }),
            ("altered", |pages| pages.page_mut(PageNumber(2))[7] ^= 1),
            ("altered anywhere", |pages| pages.bytes_mut()[2 * PAGE_SIZE_BYTES + 7] ^= 1),
        ];
        for (how, alter) in alter {
            let mut pages = pages(4);
            let (run, other) = (sum(&pages, 1, 3), sum(&pages, 0, 1));
            for _ in 0..2 {
                pages.pages(PageNumber(1), 3, run).expect("as it was written");
                pages.pages(PageNumber(0), 1, other).expect("as it was written");
            }
            alter(&mut pages);
            let found = Some(sum(&pages, 1, 3));
            let broken = pages.pages(PageNumber(1), 3, run).expect_err("another one now");
            assert_eq!(broken.found, found, "{how}");
            pages.pages(PageNumber(0), 1, other).expect("nobody touched it");
            pages.break_page(PageNumber(0));
            assert!(pages.pages(PageNumber(0), 1, other).is_err(), "{how}");
        }
    }
}
