//! Cells on their way between pages: one growing buffer, reused from change to change.

use super::layout::SLOT_BYTES;
use super::node::{BranchCell, LeafCell, StoredKey};

/// A list of cells, in key order.
#[derive(Debug, Default)]
pub struct CellList {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl CellList {
    /// Forgets the cells, keeps the buffer.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    /// Number of cells.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    fn start(&self, slot: usize) -> usize {
        if slot == 0 { 0 } else { self.ends[slot - 1] }
    }

    /// The bytes of a cell.
    pub fn cell(&self, slot: usize) -> &[u8] {
        &self.bytes[self.start(slot)..self.ends[slot]]
    }

    /// What cells `from..to` take in a page, slots included.
    pub fn size_bytes(&self, from: usize, to: usize) -> usize {
        assert!(from <= to && to <= self.len());
        self.start(to) - self.start(from) + SLOT_BYTES * (to - from)
    }

    /// Adds a cell as it is.
    pub fn push(&mut self, cell: &[u8]) {
        self.bytes.extend_from_slice(cell);
        self.ends.push(self.bytes.len());
    }

    /// Adds all cells of another list.
    pub fn push_list(&mut self, list: &CellList) {
        for slot in 0..list.len() {
            self.push(list.cell(slot));
        }
    }

    /// Gives a child without a key one; the cells after it move on.
    pub fn replace_branch_key(&mut self, slot: usize, key: StoredKey<'_>) {
        let start = self.start(slot);
        let end = self.ends[slot];
        let before = BranchCell::parse(&self.bytes[start..end]);
        let (child, checksum, summary) = (before.child, before.checksum, before.summary);
        assert!(before.key == StoredKey::EMPTY);
        let cell = BranchCell { key, child, checksum, summary };
        let size = cell.size_bytes();
        let grown = size - (end - start);
        let length = self.bytes.len();
        self.bytes.resize(length + grown, 0);
        self.bytes.copy_within(end..length, end + grown);
        cell.write(&mut self.bytes[start..start + size]);
        self.ends[slot..].iter_mut().for_each(|end| *end += grown);
    }

    /// Adds an entry.
    pub fn push_leaf(&mut self, cell: &LeafCell<'_>) {
        let start = self.bytes.len();
        self.bytes.resize(start + cell.size_bytes(), 0);
        cell.write(&mut self.bytes[start..]);
        self.ends.push(self.bytes.len());
    }

    /// Adds a child.
    pub fn push_branch(&mut self, cell: &BranchCell<'_>) {
        let start = self.bytes.len();
        self.bytes.resize(start + cell.size_bytes(), 0);
        cell.write(&mut self.bytes[start..]);
        self.ends.push(self.bytes.len());
    }
}
