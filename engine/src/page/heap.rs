//! A page file on the heap, for tests and the simulator: every read is verified.

use std::collections::BTreeSet;

use super::checkpoint::{CheckpointPlan, PageWrite};
use super::map::{Checksum, Corruption, PAGE_SIZE_BYTES, PageMap, PageNumber, checksum};

/// Pages in one vector, as a file would hold them.
#[derive(Clone, Debug, Default)]
pub struct HeapPages {
    bytes: Vec<u8>,
    /// Pages that cannot be read until they are written again.
    unreadable: BTreeSet<u64>,
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
        &mut self.bytes
    }

    /// Writes pages at their place.
    pub fn write(&mut self, write: &PageWrite) {
        let start = write.first.0 as usize * PAGE_SIZE_BYTES;
        let end = start + write.bytes.len();
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        self.bytes[start..end].copy_from_slice(&write.bytes);
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
        let found = checksum(bytes);
        if found != expected {
            return Err(Corruption { found: Some(found), ..unreadable });
        }
        Ok(bytes)
    }

    fn forget(&self, _first: PageNumber, _count: u32) {}
}
