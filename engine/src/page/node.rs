//! A tree's page: a slotted page of cells, leaf entries or branch children.
//!
//! After the header stand slots, in key order: a cell's offset and its key's *head*, the two bytes
//! after the prefix that all keys of the page share. Most comparisons of a search end at the head
//! and never touch the cell. Cells grow down from the page's end. A cell's bytes do not depend on
//! where it lies, so that cells move between pages as they are. The first cell of a branch has an
//! empty key: it stands for "less than the next", and neither prefix nor head speak of it.
//! Invariants: a page read here was verified against its parent's checksum or was made here, so its
//! offsets are trusted; count, `heap_start` and `garbage` say exactly what is free.
//! Source: `docs/format/page.md`.

use super::cells::CellList;
use super::layout::{
    BRANCH_CELL_FIXED_BYTES, LEAF_CELL_FIXED_BYTES, PAGE_CONTENT_BYTES, PAGE_HEADER_BYTES,
    RUN_REF_BYTES, RunRef, SLOT_BYTES, header, header_mut,
};
use super::limits::PREFIX_BYTES_MAX;
use super::map::{Checksum, PAGE_SIZE_BYTES, PageNumber};
use zerocopy::little_endian::U16;

/// What an entry adds to its branches' sums.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// Weight 1 instead of 0.
    pub weighs: bool,
    /// A removal of whole subtrees must see this entry.
    pub visit: bool,
}

/// What lies in a range or below a page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Entries.
    pub entries: u64,
    /// Sum of their weights.
    pub weight: u64,
    /// Whether any has its visit flag, or a long key.
    pub visit: bool,
}

impl Summary {
    /// Adds what lies elsewhere.
    pub fn add(&mut self, other: Summary) {
        self.entries += other.entries;
        self.weight += other.weight;
        self.visit |= other.visit;
    }
}

/// A key as a cell holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredKey<'p> {
    /// The whole key, or the prefix of a long one.
    pub inline: &'p [u8],
    /// The run that holds all of a long key.
    pub run: Option<RunRef>,
}

impl StoredKey<'_> {
    /// The key of a branch's first cell.
    pub const EMPTY: StoredKey<'static> = StoredKey { inline: &[], run: None };

    /// What it takes in a cell.
    #[inline]
    pub fn size_bytes(&self) -> usize {
        self.inline.len() + if self.run.is_some() { RUN_REF_BYTES } else { 0 }
    }
}

/// An entry, borrowed from a page or a list of cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeafCell<'p> {
    /// Its key.
    pub key: StoredKey<'p>,
    /// Its value.
    pub value: &'p [u8],
    /// Its mark.
    pub mark: Mark,
}

/// A child, borrowed from a page or a list of cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BranchCell<'p> {
    /// At or below every key of the child and above every key of the one before; empty in the
    /// first.
    pub key: StoredKey<'p>,
    /// The child's page.
    pub child: PageNumber,
    /// Its content; 0 while it is dirty.
    pub checksum: Checksum,
    /// What is below it.
    pub summary: Summary,
}

impl<'p> LeafCell<'p> {
    /// Its size in a page, without the slot.
    #[inline]
    pub fn size_bytes(&self) -> usize {
        LEAF_CELL_FIXED_BYTES + self.key.size_bytes() + self.value.len()
    }

    /// Reads a cell that begins at `bytes`.
    #[inline]
    pub fn parse(bytes: &'p [u8]) -> LeafCell<'p> {
        let key_size = read_u16(bytes, 0);
        let value_size = read_u16(bytes, 2);
        let flags = bytes[4];
        let (key, rest) =
            parse_key(&bytes[LEAF_CELL_FIXED_BYTES..], key_size, flags & FLAG_LONG != 0);
        let mark = Mark { weighs: flags & FLAG_WEIGHS != 0, visit: flags & FLAG_VISIT != 0 };
        LeafCell { key, value: &rest[..value_size], mark }
    }

    /// Writes it to bytes of exactly its size.
    pub fn write(&self, bytes: &mut [u8]) {
        assert!(bytes.len() == self.size_bytes());
        write_u16(bytes, 0, self.key.inline.len());
        write_u16(bytes, 2, self.value.len());
        bytes[4] = leaf_flags(self.mark, self.key.run.is_some());
        let value_start = write_key(bytes, LEAF_CELL_FIXED_BYTES, &self.key);
        bytes[value_start..].copy_from_slice(self.value);
    }

    /// What it adds to its branches.
    pub fn summary(&self) -> Summary {
        let visit = self.mark.visit || self.key.run.is_some();
        Summary { entries: 1, weight: self.mark.weighs as u64, visit }
    }
}

impl<'p> BranchCell<'p> {
    /// Its size in a page, without the slot.
    #[inline]
    pub fn size_bytes(&self) -> usize {
        BRANCH_CELL_FIXED_BYTES + self.key.size_bytes()
    }

    /// Reads a cell that begins at `bytes`.
    #[inline]
    pub fn parse(bytes: &'p [u8]) -> BranchCell<'p> {
        let word = read_u16(bytes, BRANCH_KEY_AT);
        BranchCell {
            key: branch_cell_key(bytes),
            child: PageNumber(read_u48(bytes, 0)),
            checksum: Checksum(read_u64(bytes, 6)),
            summary: Summary {
                entries: read_u48(bytes, BRANCH_ENTRIES_AT),
                weight: read_u48(bytes, BRANCH_WEIGHT_AT),
                visit: word & BRANCH_VISIT != 0,
            },
        }
    }

    /// Writes it to bytes of exactly its size.
    pub fn write(&self, bytes: &mut [u8]) {
        assert!(bytes.len() == self.size_bytes());
        write_u48(bytes, 0, self.child.0);
        write_u64(bytes, 6, self.checksum.0);
        write_u48(bytes, BRANCH_ENTRIES_AT, self.summary.entries);
        write_u48(bytes, BRANCH_WEIGHT_AT, self.summary.weight);
        let visit = if self.summary.visit { BRANCH_VISIT } else { 0 };
        let long = if self.key.run.is_some() { BRANCH_LONG } else { 0 };
        write_u16(bytes, BRANCH_KEY_AT, self.key.inline.len() | visit | long);
        let end = write_key(bytes, BRANCH_CELL_FIXED_BYTES, &self.key);
        assert!(end == bytes.len());
    }
}

/// A page of a tree, to read.
#[derive(Clone, Copy, Debug)]
pub struct Node<'p> {
    page: &'p [u8; PAGE_SIZE_BYTES],
}

impl<'p> Node<'p> {
    /// Reads `page`, which is a tree's page.
    #[inline]
    pub fn new(page: &'p [u8]) -> Node<'p> {
        Node { page: page.try_into().expect("a page has the size of a page") }
    }

    /// The page itself.
    pub fn bytes(&self) -> &'p [u8] {
        self.page
    }

    /// Height over the leaves.
    #[inline]
    pub fn level(&self) -> u8 {
        header(self.page).level
    }

    /// Number of cells.
    #[inline]
    pub fn count(&self) -> usize {
        header(self.page).count.get() as usize
    }

    /// Bytes of content in use: cells and their slots.
    #[inline]
    pub fn used_bytes(&self) -> usize {
        let header = header(self.page);
        let heap = PAGE_SIZE_BYTES - header.heap_start.get() as usize;
        heap - header.garbage.get() as usize + SLOT_BYTES * header.count.get() as usize
    }

    /// Offsets and heads of the cells, in key order.
    #[inline]
    pub fn slots(&self) -> &'p [[u8; SLOT_BYTES]] {
        &self.page[PAGE_HEADER_BYTES..].as_chunks().0[..self.count()]
    }

    /// The head in a slot.
    #[inline]
    pub fn head_in(slot: [u8; SLOT_BYTES]) -> u16 {
        u16::from_le_bytes([slot[2], slot[3]])
    }

    #[inline]
    fn cell_start(&self, slot: usize) -> usize {
        read_u16(self.page, PAGE_HEADER_BYTES + SLOT_BYTES * slot)
    }

    /// The head of a cell's key.
    #[inline]
    pub fn head(&self, slot: usize) -> u16 {
        read_u16(self.page, PAGE_HEADER_BYTES + SLOT_BYTES * slot + 2) as u16
    }

    /// What all keys begin with; those of a branch from its second cell on.
    #[inline]
    pub fn prefix(&self) -> &'p [u8] {
        let size = header(self.page).prefix_size as usize;
        let first = (0 < self.level()) as usize;
        if size == 0 || self.count() <= first {
            return &[];
        }
        &self.key(first).inline[..size]
    }

    /// The key of a cell.
    #[inline(always)]
    pub fn key(&self, slot: usize) -> StoredKey<'p> {
        if self.level() == 0 { self.leaf_key(slot) } else { self.branch_key(slot) }
    }

    /// The key of a leaf's cell.
    #[inline(always)]
    pub fn leaf_key(&self, slot: usize) -> StoredKey<'p> {
        let cell = &self.page[self.cell_start(slot)..];
        parse_key(&cell[LEAF_CELL_FIXED_BYTES..], read_u16(cell, 0), cell[4] & FLAG_LONG != 0).0
    }

    /// A leaf's cell.
    #[inline]
    pub fn leaf_cell(&self, slot: usize) -> LeafCell<'p> {
        assert!(slot < self.count());
        LeafCell::parse(&self.page[self.cell_start(slot)..])
    }

    /// The key of a branch's cell.
    #[inline(always)]
    pub fn branch_key(&self, slot: usize) -> StoredKey<'p> {
        branch_cell_key(&self.page[self.cell_start(slot)..])
    }

    /// A branch's cell.
    pub fn branch_cell(&self, slot: usize) -> BranchCell<'p> {
        assert!(slot < self.count());
        BranchCell::parse(&self.page[self.cell_start(slot)..])
    }

    /// The child of a branch's cell and its content.
    #[inline]
    pub fn child(&self, slot: usize) -> (PageNumber, Checksum) {
        let cell = &self.page[self.cell_start(slot)..];
        (PageNumber(read_u48(cell, 0)), Checksum(read_u64(cell, 6)))
    }

    /// The bytes of a cell of either kind.
    pub fn cell_bytes(&self, slot: usize) -> &'p [u8] {
        let start = self.cell_start(slot);
        &self.page[start..start + self.cell_size_bytes(slot)]
    }

    /// The size of a cell of either kind, without its slot.
    #[inline]
    pub fn cell_size_bytes(&self, slot: usize) -> usize {
        let cell = &self.page[self.cell_start(slot)..];
        let (fixed, is_long) = if self.level() == 0 {
            let sizes = read_u16(cell, 0) + read_u16(cell, 2);
            (LEAF_CELL_FIXED_BYTES + sizes, cell[4] & FLAG_LONG != 0)
        } else {
            let word = read_u16(cell, BRANCH_KEY_AT);
            let key_size = word & !(BRANCH_VISIT | BRANCH_LONG);
            (BRANCH_CELL_FIXED_BYTES + key_size, word & BRANCH_LONG != 0)
        };
        fixed + if is_long { RUN_REF_BYTES } else { 0 }
    }

    /// What lies in the cells before `slot`.
    pub fn summary_before(&self, slot: usize) -> Summary {
        assert!(slot <= self.count());
        let mut sum = Summary::default();
        if self.level() == 0 {
            for slot in 0..slot {
                let flags = self.page[self.cell_start(slot) + 4];
                sum.weight += (flags & FLAG_WEIGHS) as u64;
                sum.visit |= flags & (FLAG_VISIT | FLAG_LONG) != 0;
            }
            sum.entries = slot as u64;
        } else {
            (0..slot).for_each(|slot| sum.add(self.branch_cell(slot).summary));
        }
        sum
    }

    /// What lies in or below the page.
    pub fn summary(&self) -> Summary {
        self.summary_before(self.count())
    }
}

/// Puts an entry in at `slot`; false if the page is too full.
pub fn maybe_insert_leaf(page: &mut [u8], slot: usize, cell: &LeafCell<'_>) -> bool {
    let Some(bytes) = maybe_open_cell(page, slot, cell.size_bytes()) else { return false };
    cell.write(bytes);
    index_key(page, slot);
    true
}

/// Puts a cell in as it is; false if the page is too full.
pub fn maybe_insert_bytes(page: &mut [u8], slot: usize, cell: &[u8]) -> bool {
    let Some(bytes) = maybe_open_cell(page, slot, cell.len()) else { return false };
    bytes.copy_from_slice(cell);
    index_key(page, slot);
    true
}

/// Puts a branch's first child in, without its key; there is room.
pub fn insert_first_child(page: &mut [u8], cell: &BranchCell<'_>) {
    let cell = BranchCell { key: StoredKey::EMPTY, ..*cell };
    let bytes = maybe_open_cell(page, 0, cell.size_bytes());
    cell.write(bytes.expect("the caller measured the room"));
    index_key(page, 0);
}

/// Fills a page of cleared cells with `cells` in key order, all of which fit. The first cell of a
/// branch comes without its key.
pub fn fill_cells(page: &mut [u8], cells: &CellList, from: usize, to: usize) {
    assert!(header(page).count.get() == 0 && from < to && to <= cells.len());
    let is_branch = 0 < header(page).level;
    let mut start = PAGE_SIZE_BYTES;
    for (slot, bytes) in (from..to).map(|slot| cells.cell(slot)).enumerate() {
        let slot_at = PAGE_HEADER_BYTES + SLOT_BYTES * slot;
        if slot == 0 && is_branch {
            let cell = BranchCell { key: StoredKey::EMPTY, ..BranchCell::parse(bytes) };
            start -= cell.size_bytes();
            cell.write(&mut page[start..PAGE_SIZE_BYTES]);
        } else {
            start -= bytes.len();
            page[start..start + bytes.len()].copy_from_slice(bytes);
        }
        assert!(slot_at + SLOT_BYTES <= start);
        write_u16(page, slot_at, start);
    }
    let count = to - from;
    let header = header_mut(page);
    header.count = U16::new(count as u16);
    header.heap_start = U16::new(start as u16);
    index_keys(page);
    clear_room(page);
}

/// Sets prefix and heads of a page from all its keys.
fn index_keys(page: &mut [u8]) {
    if 0 < header(page).level {
        write_u16(page, PAGE_HEADER_BYTES + 2, 0);
    }
    let node = Node::new(page);
    let (count, first) = (node.count(), (0 < node.level()) as usize);
    if count <= first {
        return;
    }
    // Keys are in order: what the first and the last share, all share.
    let (low, high) = (node.key(first).inline, node.key(count - 1).inline);
    let shared = low.iter().zip(high).take_while(|(one, other)| one == other).count();
    set_prefix(page, shared.min(PREFIX_BYTES_MAX));
}

/// Sets the prefix that all keys share, and all heads after it.
fn set_prefix(page: &mut [u8], prefix_size: usize) {
    header_mut(page).prefix_size = prefix_size as u8;
    let (count, first) = (Node::new(page).count(), (0 < header(page).level) as usize);
    for slot in first..count {
        let head = head_of(Node::new(page).key(slot).inline, prefix_size);
        write_u16(page, PAGE_HEADER_BYTES + SLOT_BYTES * slot + 2, head as usize);
    }
}

/// Makes room for a cell of `size_bytes` at `slot` and returns its bytes.
fn maybe_open_cell(page: &mut [u8], slot: usize, size_bytes: usize) -> Option<&mut [u8]> {
    let node = Node::new(page);
    let count = node.count();
    assert!(slot <= count);
    if PAGE_CONTENT_BYTES < node.used_bytes() + size_bytes + SLOT_BYTES {
        return None;
    }
    let slots_end = PAGE_HEADER_BYTES + SLOT_BYTES * count;
    if (header(page).heap_start.get() as usize) < slots_end + SLOT_BYTES + size_bytes {
        squeeze(page);
    }
    let start = header(page).heap_start.get() as usize - size_bytes;
    assert!(slots_end + SLOT_BYTES <= start);
    let slot_at = PAGE_HEADER_BYTES + SLOT_BYTES * slot;
    page.copy_within(slot_at..slots_end, slot_at + SLOT_BYTES);
    write_u16(page, slot_at, start);
    let header = header_mut(page);
    header.count = U16::new(count as u16 + 1);
    header.heap_start = U16::new(start as u16);
    Some(&mut page[start..start + size_bytes])
}

/// Sets the head of the key that was just put in at `slot`, and shortens the page's prefix if the
/// key does not share it.
fn index_key(page: &mut [u8], slot: usize) {
    let node = Node::new(page);
    let first = (0 < node.level()) as usize;
    if slot < first {
        write_u16(page, PAGE_HEADER_BYTES + SLOT_BYTES * slot + 2, 0);
        return;
    }
    let key = node.key(slot).inline;
    let other = if slot == first { first + 1 } else { first };
    let before = header(page).prefix_size as usize;
    let prefix_size = if node.count() <= other {
        key.len().min(PREFIX_BYTES_MAX)
    } else {
        let shared = &node.key(other).inline[..before];
        shared.iter().zip(key).take_while(|(one, other)| one == other).count()
    };
    if prefix_size == before {
        let head = head_of(key, prefix_size);
        write_u16(page, PAGE_HEADER_BYTES + SLOT_BYTES * slot + 2, head as usize);
        return;
    }
    set_prefix(page, prefix_size);
}

/// The two bytes of a key after its page's prefix, zeros after its end. A smaller key never has a
/// greater head; equal heads decide nothing.
#[inline]
pub fn head_of(key: &[u8], prefix_size: usize) -> u16 {
    let byte = |at: usize| key.get(at).copied().unwrap_or(0) as u16;
    (byte(prefix_size) << 8) | byte(prefix_size + 1)
}

/// Removes the cell at `slot`; its bytes become garbage.
pub fn remove_cell(page: &mut [u8], slot: usize) {
    let node = Node::new(page);
    let count = node.count();
    assert!(slot < count);
    let start = node.cell_start(slot);
    let size = node.cell_size_bytes(slot);
    let slot_at = PAGE_HEADER_BYTES + SLOT_BYTES * slot;
    let slots_end = PAGE_HEADER_BYTES + SLOT_BYTES * count;
    page.copy_within(slot_at + SLOT_BYTES..slots_end, slot_at);
    page[slots_end - SLOT_BYTES..slots_end].fill(0);
    page[start..start + size].fill(0);
    let header = header_mut(page);
    header.count = U16::new(count as u16 - 1);
    if header.heap_start.get() as usize == start {
        header.heap_start = U16::new((start + size) as u16);
    } else {
        header.garbage = U16::new(header.garbage.get() + size as u16);
    }
    if count == 1 {
        header.heap_start = U16::new(PAGE_SIZE_BYTES as u16);
        header.garbage = U16::new(0);
        header.prefix_size = 0;
    }
}

/// Removes all cells, to put others in at once: [`clear_room`] must follow.
pub fn clear_cells(page: &mut [u8]) {
    let header = header_mut(page);
    header.count = U16::new(0);
    header.heap_start = U16::new(PAGE_SIZE_BYTES as u16);
    header.garbage = U16::new(0);
    header.prefix_size = 0;
}

/// Clears what lies between slots and cells.
pub fn clear_room(page: &mut [u8]) {
    let (count, start) = (header(page).count.get(), header(page).heap_start.get());
    page[PAGE_HEADER_BYTES + SLOT_BYTES * count as usize..start as usize].fill(0);
}

/// Moves the cells together at the page's end, so that all free bytes are contiguous.
fn squeeze(page: &mut [u8]) {
    let mut copy = [0u8; PAGE_SIZE_BYTES];
    copy.copy_from_slice(page);
    let old = Node::new(&copy);
    let mut start = PAGE_SIZE_BYTES;
    for slot in 0..old.count() {
        let cell = old.cell_bytes(slot);
        start -= cell.len();
        page[start..start + cell.len()].copy_from_slice(cell);
        write_u16(page, PAGE_HEADER_BYTES + SLOT_BYTES * slot, start);
    }
    let header = header_mut(page);
    header.heap_start = U16::new(start as u16);
    header.garbage = U16::new(0);
    clear_room(page);
}

/// Replaces value and mark of an entry by a value of the same length.
pub fn overwrite_entry(page: &mut [u8], slot: usize, value: &[u8], mark: Mark) {
    let node = Node::new(page);
    let start = node.cell_start(slot);
    let cell = node.leaf_cell(slot);
    assert!(cell.value.len() == value.len());
    let end = start + cell.size_bytes();
    let flags = leaf_flags(mark, cell.key.run.is_some());
    page[end - value.len()..end].copy_from_slice(value);
    page[start + 4] = flags;
}

/// Names another page, not sealed yet, as the child of a branch's cell.
pub fn replace_child(page: &mut [u8], slot: usize, child: PageNumber) {
    let start = Node::new(page).cell_start(slot);
    write_u48(page, start, child.0);
    write_u64(page, start + 6, 0);
}

/// Puts the content of a sealed child into a branch's cell.
pub fn seal_child(page: &mut [u8], slot: usize, checksum: Checksum) {
    let start = Node::new(page).cell_start(slot);
    write_u64(page, start + 6, checksum.0);
}

/// Puts what is below a child into a branch's cell.
pub fn replace_summary(page: &mut [u8], slot: usize, summary: Summary) {
    let start = Node::new(page).cell_start(slot);
    write_u48(page, start + BRANCH_ENTRIES_AT, summary.entries);
    write_u48(page, start + BRANCH_WEIGHT_AT, summary.weight);
    let visit = if summary.visit { BRANCH_VISIT } else { 0 };
    let word = read_u16(page, start + BRANCH_KEY_AT) & !BRANCH_VISIT;
    write_u16(page, start + BRANCH_KEY_AT, word | visit);
}

/// Adds to what is below a child of a branch, whose visit flag stays as it is.
pub fn adjust_summary(page: &mut [u8], slot: usize, entries: i64, weight: i64) {
    let start = Node::new(page).cell_start(slot);
    for (at, change) in [(BRANCH_ENTRIES_AT, entries), (BRANCH_WEIGHT_AT, weight)] {
        if change != 0 {
            let sum = read_u48(page, start + at).checked_add_signed(change);
            write_u48(page, start + at, sum.expect("sums are exact"));
        }
    }
}

fn leaf_flags(mark: Mark, is_long: bool) -> u8 {
    let weighs = if mark.weighs { FLAG_WEIGHS } else { 0 };
    let visit = if mark.visit { FLAG_VISIT } else { 0 };
    let long = if is_long { FLAG_LONG } else { 0 };
    weighs | visit | long
}

#[inline(always)]
fn branch_cell_key(cell: &[u8]) -> StoredKey<'_> {
    let word = read_u16(cell, BRANCH_KEY_AT);
    let key_size = word & !(BRANCH_VISIT | BRANCH_LONG);
    parse_key(&cell[BRANCH_CELL_FIXED_BYTES..], key_size, word & BRANCH_LONG != 0).0
}

#[inline(always)]
fn parse_key(bytes: &[u8], key_size: usize, is_long: bool) -> (StoredKey<'_>, &[u8]) {
    let (inline, rest) = bytes.split_at(key_size);
    if !is_long {
        return (StoredKey { inline, run: None }, rest);
    }
    let (run, rest) = rest.split_at(RUN_REF_BYTES);
    let run = RunRef::decode(run).expect("a long key's cell holds a run reference");
    (StoredKey { inline, run: Some(run) }, rest)
}

fn write_key(bytes: &mut [u8], start: usize, key: &StoredKey<'_>) -> usize {
    let inline_end = start + key.inline.len();
    bytes[start..inline_end].copy_from_slice(key.inline);
    let Some(run) = key.run else { return inline_end };
    bytes[inline_end..inline_end + RUN_REF_BYTES].copy_from_slice(&run.encode());
    inline_end + RUN_REF_BYTES
}

#[inline]
fn read_u16(bytes: &[u8], at: usize) -> usize {
    u16::from_le_bytes([bytes[at], bytes[at + 1]]) as usize
}

fn write_u16(bytes: &mut [u8], at: usize, value: usize) {
    assert!(value <= u16::MAX as usize);
    bytes[at..at + 2].copy_from_slice(&(value as u16).to_le_bytes());
}

#[inline]
fn read_u64(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}

fn write_u64(bytes: &mut [u8], at: usize, value: u64) {
    bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

#[inline]
fn read_u48(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word[..6].copy_from_slice(&bytes[at..at + 6]);
    u64::from_le_bytes(word)
}

fn write_u48(bytes: &mut [u8], at: usize, value: u64) {
    assert!(value < 1 << 48);
    bytes[at..at + 6].copy_from_slice(&value.to_le_bytes()[..6]);
}

const BRANCH_ENTRIES_AT: usize = 14;
const BRANCH_WEIGHT_AT: usize = 20;
pub(super) const BRANCH_KEY_AT: usize = 26;

/// Upper bits of a branch cell's word at [`BRANCH_KEY_AT`]; the others are the key's size.
pub(super) const BRANCH_VISIT: usize = 1 << 15;
pub(super) const BRANCH_LONG: usize = 1 << 14;

const FLAG_WEIGHS: u8 = 1;
const FLAG_VISIT: u8 = 2;
pub(super) const FLAG_LONG: u8 = 4;
