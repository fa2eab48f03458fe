//! The two meta pages: the roots of a checkpoint, and how the newest one is found.
//!
//! Invariants: the checkpoint of interval k is in slot k mod 2, so writing one never touches the
//! other; a meta page is written after every page it reaches is synced.
//! Source: `docs/format/page.md`.

use super::layout::PageRef;
use super::limits::{
    META_INDEXES_MAX, META_STATE_BYTES_MAX, PAGE_FORMAT_VERSION, PAGES_MAX, TREES,
};
use super::map::{Checksum, PAGE_SIZE_BYTES, PageNumber, checksum};
use std::fmt;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned};

/// A tree of a group: its root and what is below it. A small value that its owner keeps and the
/// meta page stores; the operations are in [`crate::tree`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tree {
    /// The root page; 0 while the tree is empty.
    pub root: PageNumber,
    /// Content of the root at the last seal; of no meaning while the root is dirty.
    pub checksum: Checksum,
    /// Levels, leaves included; 0 while the tree is empty.
    pub height: u8,
    /// Whether an entry below has its visit flag.
    pub visit: bool,
    /// Entries below.
    pub entries: u64,
    /// Sum of their weights.
    pub weight: u64,
}

/// What a meta page says: one checkpoint of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meta {
    /// The group whose pages these are.
    pub group: u64,
    /// The interval that this checkpoint ended, from 1.
    pub interval: u64,
    /// Position of the log up to which the pages hold its effects.
    pub applied_index: u64,
    /// Pages of the file, the two meta pages and free ones included.
    pub page_count: u64,
    /// The trees: keys, history, system.
    pub trees: [Tree; TREES],
    /// The caller's own bytes.
    pub state: Vec<u8>,
    /// First page of the list of what was freed in `interval`.
    pub pending: PageRef,
    /// Index pages of the freelist.
    pub indexes: [PageRef; META_INDEXES_MAX],
}

/// What a slot for a meta page holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotState {
    /// Zeros only.
    NeverWritten,
    /// A whole meta page.
    Valid,
    /// Neither: torn, altered, of another format, or of the other slot.
    Broken,
}

/// No meta page can be read although one was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetaBroken {
    /// What the two slots hold; at least one is broken and none is valid.
    pub slots: [SlotState; 2],
}

impl fmt::Display for MetaBroken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no meta page is whole: slots are {:?} and {:?}", self.slots[0], self.slots[1])
    }
}

/// Picks the newest valid of the two slots (pages 0 and 1).
///
/// `Ok(None)` when neither was ever written. One broken slot beside a valid one is what a crash in
/// the middle of a checkpoint leaves, and costs nothing: the log is kept from the older one on. A
/// broken one beside one never written may be a first checkpoint that was torn: the caller may
/// start again only if its log begins at the first entry.
pub fn choose_meta(slot_0: &[u8], slot_1: &[u8]) -> Result<Option<Meta>, MetaBroken> {
    let metas = [check_meta(slot_0, 0), check_meta(slot_1, 1)];
    let slots = [slot_state(slot_0, &metas[0]), slot_state(slot_1, &metas[1])];
    let newest = metas.into_iter().flatten().max_by_key(|meta| meta.interval);
    if newest.is_none() && slots != [SlotState::NeverWritten; 2] {
        return Err(MetaBroken { slots });
    }
    Ok(newest)
}

fn slot_state(slot: &[u8], meta: &Option<Meta>) -> SlotState {
    match meta {
        Some(_) => SlotState::Valid,
        None if slot.iter().all(|&byte| byte == 0) => SlotState::NeverWritten,
        None => SlotState::Broken,
    }
}

/// Reads one slot; `None` if it is not a whole meta page of that slot.
pub fn check_meta(slot: &[u8], slot_number: u64) -> Option<Meta> {
    let page = MetaPage::ref_from_bytes(slot).ok()?;
    let whole = page.magic.get() == META_MAGIC
        && page.checksum.get() == checksum(&slot[8..]).0
        && page.format_version.get() == PAGE_FORMAT_VERSION
        && page.page_size_bytes.get() as usize == PAGE_SIZE_BYTES
        && page.interval.get() % 2 == slot_number
        && 2 <= page.page_count.get()
        && page.page_count.get() <= PAGES_MAX
        && page.state_size_bytes.get() as usize <= META_STATE_BYTES_MAX
        && page.reserved.iter().all(|&byte| byte == 0);
    if !whole {
        return None;
    }
    let state_size_bytes = page.state_size_bytes.get() as usize;
    Some(Meta {
        group: page.group.get(),
        interval: page.interval.get(),
        applied_index: page.applied_index.get(),
        page_count: page.page_count.get(),
        trees: page.trees.map(|root| root.tree()),
        state: page.state[..state_size_bytes].to_vec(),
        pending: page.pending,
        indexes: page.indexes,
    })
}

impl Meta {
    /// The slot (and page number) where this meta page lies.
    pub fn slot(&self) -> u64 {
        self.interval % 2
    }

    /// The bytes of the meta page.
    pub fn encode(&self) -> Vec<u8> {
        assert!(self.state.len() <= META_STATE_BYTES_MAX);
        assert!(2 <= self.page_count && self.page_count <= PAGES_MAX);
        let mut page = MetaPage::new_zeroed();
        page.magic = U64::new(META_MAGIC);
        page.format_version = U32::new(PAGE_FORMAT_VERSION);
        page.page_size_bytes = U32::new(PAGE_SIZE_BYTES as u32);
        page.group = U64::new(self.group);
        page.interval = U64::new(self.interval);
        page.applied_index = U64::new(self.applied_index);
        page.page_count = U64::new(self.page_count);
        page.trees = self.trees.map(|tree| TreeRoot::of(&tree));
        page.pending = self.pending;
        page.indexes = self.indexes;
        page.state_size_bytes = U16::new(self.state.len() as u16);
        page.state[..self.state.len()].copy_from_slice(&self.state);
        page.checksum = U64::new(checksum(&page.as_bytes()[8..]).0);
        page.as_bytes().to_vec()
    }
}

impl TreeRoot {
    fn of(tree: &Tree) -> TreeRoot {
        TreeRoot {
            root: U64::new(tree.root.0),
            checksum: U64::new(tree.checksum.0),
            entries: U64::new(tree.entries),
            weight: U64::new(tree.weight),
            height: tree.height,
            visit: tree.visit as u8,
            reserved: [0; 6],
        }
    }

    fn tree(&self) -> Tree {
        Tree {
            root: PageNumber(self.root.get()),
            checksum: Checksum(self.checksum.get()),
            height: self.height,
            visit: self.visit == 1,
            entries: self.entries.get(),
            weight: self.weight.get(),
        }
    }
}

/// "cspage01" read as a little-endian number.
const META_MAGIC: u64 = 0x3130_6567_6170_7363;

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct TreeRoot {
    root: U64,
    checksum: U64,
    entries: U64,
    weight: U64,
    height: u8,
    visit: u8,
    reserved: [u8; 6],
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct MetaPage {
    checksum: U64,
    magic: U64,
    format_version: U32,
    page_size_bytes: U32,
    group: U64,
    interval: U64,
    applied_index: U64,
    page_count: U64,
    trees: [TreeRoot; TREES],
    pending: PageRef,
    indexes: [PageRef; META_INDEXES_MAX],
    state_size_bytes: U16,
    state: [u8; META_STATE_BYTES_MAX],
    reserved: [u8; META_RESERVED_BYTES],
}

const META_RESERVED_BYTES: usize =
    PAGE_SIZE_BYTES - 7 * 8 - TREES * 40 - 16 - META_INDEXES_MAX * 16 - 2 - META_STATE_BYTES_MAX;

const _: () = assert!(size_of::<TreeRoot>() == 40);
const _: () = assert!(size_of::<MetaPage>() == PAGE_SIZE_BYTES);
