//! The end of an interval: checksums bottom-up, the freelist's pages, the meta page; and the way
//! back at open.
//!
//! A page is sealed when its header has its checksum. Leaves that are not expected to change again
//! may be sealed ahead; the rest is sealed when the interval ends, in as many calls as the caller
//! likes, between which nothing changes.
//! Invariants: every page of the interval is reached exactly once from the trees, or is a run; a
//! sealed page names only sealed pages; only leaves are sealed ahead.

use super::checkpoint::{CheckpointPlan, PageWrite};
use super::freelist::{BITMAP_WORDS, Bitmap, Extent, Freelist, Index, PENDING_ENTRIES};
pub(super) use super::layout::seal_page;
use super::layout::{PAGE_HEADER_BYTES, PageKind, PageRef, header, header_mut, start_page};
use super::limits::{
    BITMAP_PAGES, INDEX_BITMAPS, META_INDEXES_MAX, META_STATE_BYTES_MAX, TREE_HEIGHT_MAX, TREES,
};
use super::map::{Checksum, Corruption, PAGE_SIZE_BYTES, PageMap, PageNumber};
use super::meta::{Meta, Tree};
use super::node::{Node, seal_child};
use super::store::Store;
use std::sync::Arc;
use zerocopy::little_endian::{U16, U64};
use zerocopy::{FromBytes, IntoBytes};

/// Makes a copied page's header that of a new page.
pub(super) fn renew_header(page: &mut [u8], number: PageNumber, birth: u64) {
    let header = header_mut(page);
    header.checksum = U64::new(0);
    header.page = U64::new(number.0);
    header.birth = U64::new(birth);
}

/// How far the sealing of an interval's pages came. Pages are sealed children first; a leaf that was
/// sealed ahead is passed over.
#[derive(Debug, Default)]
pub(super) struct Sealing {
    /// Trees that are sealed.
    trees: usize,
    roots: [Checksum; TREES],
    /// The way to the page that comes next: in each branch the child that comes next.
    way: Vec<(PageNumber, usize)>,
    sealed: u64,
}

/// Seals up to `pages_max` pages; true when all of the interval are sealed. Nothing of the interval
/// may change from the first call on.
pub(super) fn seal_some<M: PageMap>(
    store: &mut Store<M>,
    trees: &[Tree; TREES],
    pages_max: u64,
) -> bool {
    let mut sealing = store.sealing.take().unwrap_or_default();
    let sealed_max = sealing.sealed.saturating_add(pages_max);
    while sealing.trees < TREES && sealing.sealed < sealed_max {
        let tree = &trees[sealing.trees];
        if sealing.way.is_empty() {
            if tree.height == 0 || !store.is_own(tree.root) {
                sealing.roots[sealing.trees] = tree.checksum;
                sealing.trees += 1;
                continue;
            }
            assert!(tree.height as usize <= TREE_HEIGHT_MAX);
            sealing.way.push((tree.root, 0));
        }
        seal_next(store, &mut sealing);
    }
    let is_done = sealing.trees == TREES;
    if is_done {
        assert!(sealing.sealed == store.dirty_tree_pages, "a page of this interval has no parent");
    }
    store.sealing = Some(sealing);
    is_done
}

/// Goes on to the next child of the page at the end of the way, or seals that page.
fn seal_next<M: PageMap>(store: &mut Store<M>, sealing: &mut Sealing) {
    let (page, from) = *sealing.way.last().expect("the way ends at a page");
    let node = Node::new(store.own_image(page));
    if 0 < node.level() {
        for slot in from..node.count() {
            let (child, _) = node.child(slot);
            if !store.is_own(child) {
                continue;
            }
            // A checksum that happens to be zero only means that the page is sealed once more.
            if header(store.own_image(child)).checksum.get() != 0 {
                assert!(node.level() == 1, "only leaves are sealed ahead");
                sealing.sealed += 1;
                continue;
            }
            sealing.way.last_mut().expect("looked at above").1 = slot;
            sealing.way.push((child, 0));
            return;
        }
    }
    let image = store.arena.image_mut(page, store.interval);
    let header = header(image);
    assert!(header.page.get() == page.0);
    assert!(header.checksum.get() == 0, "a page is reached once");
    let sum = seal_page(image);
    sealing.sealed += 1;
    sealing.way.pop();
    match sealing.way.last_mut() {
        Some((parent, slot)) => {
            seal_child(store.arena.image_mut(*parent, store.interval), *slot, sum);
            *slot += 1;
        }
        None => {
            sealing.roots[sealing.trees] = sum;
            sealing.trees += 1;
        }
    }
}

/// Seals what is not sealed yet and begins the next interval's bookkeeping; see
/// [`Store::end_interval`].
pub(super) fn end_interval<M: PageMap>(
    store: &mut Store<M>,
    trees: &mut [Tree; TREES],
    applied_index: u64,
    state: &[u8],
) -> CheckpointPlan {
    assert!(state.len() <= META_STATE_BYTES_MAX);
    assert!(seal_some(store, trees, u64::MAX));
    let sealing = store.sealing.take().expect("sealed on the line above");
    for (tree, checksum) in trees.iter_mut().zip(sealing.roots) {
        tree.checksum = checksum;
    }
    let mut writes = share_dirty(store);
    store.freelist.end_interval();
    let pending = seal_freelist(&mut store.freelist, store.interval, &mut writes);
    writes.sort_unstable_by_key(|write| write.first);
    let mut indexes = [PageRef::NONE; META_INDEXES_MAX];
    for (slot, index) in store.freelist.indexes.iter().enumerate() {
        indexes[slot] = index.place;
    }
    let meta = Meta {
        group: store.group,
        interval: store.interval,
        applied_index,
        page_count: store.freelist.page_count,
        trees: *trees,
        state: state.to_vec(),
        pending,
        indexes,
    };
    CheckpointPlan {
        interval: meta.interval,
        applied_index,
        page_count: meta.page_count,
        writes,
        meta_slot: PageNumber(meta.slot()),
        meta: meta.encode().into(),
    }
}

/// Shares the interval's images with the plan.
fn share_dirty<M: PageMap>(store: &mut Store<M>) -> Vec<PageWrite> {
    let mut dirty = std::mem::take(&mut store.dirty);
    dirty.sort_unstable();
    dirty.dedup();
    let mut writes = Vec::with_capacity(dirty.len());
    let mut pages = 0;
    assert!(store.in_flight.is_empty());
    for &first in &dirty {
        // Freed since, if it is not there.
        let Some((bytes, birth)) = store.arena.share(first) else { continue };
        assert!(birth == store.interval);
        pages += (bytes.len() / PAGE_SIZE_BYTES) as u64;
        store.in_flight.push(first);
        writes.push(PageWrite { first, bytes });
    }
    assert!(pages == store.dirty_pages());
    store.dirty_tree_pages = 0;
    store.dirty_run_pages = 0;
    dirty.clear();
    store.dirty = dirty;
    writes
}

/// Builds and seals the freelist's pages of this interval; returns the pending list's first.
fn seal_freelist(freelist: &mut Freelist, interval: u64, writes: &mut Vec<PageWrite>) -> PageRef {
    let pending = seal_pending(freelist, interval, writes);
    for bitmap in freelist.bitmaps.iter_mut().filter(|bitmap| bitmap.touched) {
        bitmap.touched = false;
        let page = bitmap.place.page();
        let sum = write_page(page, interval, PageKind::Bitmap, writes, |content| {
            for (bytes, word) in content.chunks_exact_mut(8).zip(bitmap.words.iter()) {
                bytes.copy_from_slice(&word.to_le_bytes());
            }
            0
        });
        bitmap.place = PageRef::new(page, sum);
    }
    for (slot, index) in freelist.indexes.iter_mut().enumerate().filter(|(_, i)| i.touched) {
        index.touched = false;
        let page = index.place.page();
        let first = slot * INDEX_BITMAPS;
        let end = freelist.bitmaps.len().min(first + INDEX_BITMAPS);
        let sum = write_page(page, interval, PageKind::Index, writes, |content| {
            for (bytes, bitmap) in content.chunks_exact_mut(16).zip(&freelist.bitmaps[first..end]) {
                bytes.copy_from_slice(bitmap.place.as_bytes());
            }
            (end - first) as u16
        });
        index.place = PageRef::new(page, sum);
    }
    pending
}

/// The list of freed pages, last page first because each names the next.
fn seal_pending(freelist: &Freelist, interval: u64, writes: &mut Vec<PageWrite>) -> PageRef {
    let mut next = PageRef::NONE;
    for (slot, &page) in freelist.list_pages.iter().enumerate().rev() {
        let start = (slot * PENDING_ENTRIES).min(freelist.pending_before.len());
        let end = (start + PENDING_ENTRIES).min(freelist.pending_before.len());
        let entries = &freelist.pending_before[start..end];
        let sum = write_page(page, interval, PageKind::Pending, writes, |content| {
            content[..16].copy_from_slice(next.as_bytes());
            for (bytes, extent) in content[16..].chunks_exact_mut(8).zip(entries) {
                let entry = (extent.first << 16) | (extent.pages - 1);
                bytes.copy_from_slice(&entry.to_le_bytes());
            }
            entries.len() as u16
        });
        next = PageRef::new(page, sum);
    }
    next
}

fn write_page(
    page: PageNumber,
    interval: u64,
    kind: PageKind,
    writes: &mut Vec<PageWrite>,
    fill: impl FnOnce(&mut [u8]) -> u16,
) -> Checksum {
    let mut bytes = [0; PAGE_SIZE_BYTES];
    start_page(&mut bytes, page, interval, kind, 0);
    let count = fill(&mut bytes[PAGE_HEADER_BYTES..]);
    header_mut(&mut bytes).count = U16::new(count);
    let sum = seal_page(&mut bytes);
    writes.push(PageWrite { first: page, bytes: Arc::from(&bytes[..]) });
    sum
}

/// Reads the freelist of a checkpoint.
pub(super) fn read_freelist<M: PageMap>(map: &M, meta: &Meta) -> Result<Freelist, Corruption> {
    let mut freelist = Freelist { page_count: meta.page_count, ..Freelist::default() };
    let bitmaps = meta.page_count.div_ceil(BITMAP_PAGES) as usize;
    for place in &meta.indexes[..bitmaps.div_ceil(INDEX_BITMAPS)] {
        freelist.indexes.push(Index { place: *place, touched: false });
        let first = freelist.bitmaps.len();
        let count = INDEX_BITMAPS.min(bitmaps - first);
        let mut places = [PageRef::NONE; INDEX_BITMAPS];
        if !place.is_none() {
            let content = read_content(map, *place, PageKind::Index)?;
            for (place, bytes) in places.iter_mut().zip(content.chunks_exact(16)) {
                *place = PageRef::read_from_bytes(bytes).expect("16 bytes are a reference");
            }
        }
        for place in &places[..count] {
            let bitmap = read_bitmap(map, *place)?;
            freelist.free += bitmap.free;
            freelist.bitmaps.push(bitmap);
        }
    }
    read_pending(map, meta.pending, &mut freelist)?;
    Ok(freelist)
}

fn read_bitmap<M: PageMap>(map: &M, place: PageRef) -> Result<Bitmap, Corruption> {
    let mut words = Box::new([0; BITMAP_WORDS]);
    if !place.is_none() {
        let content = read_content(map, place, PageKind::Bitmap)?;
        for (word, bytes) in words.iter_mut().zip(content.chunks_exact(8)) {
            let mut buffer = [0; 8];
            buffer.copy_from_slice(bytes);
            *word = u64::from_le_bytes(buffer);
        }
    }
    Ok(Bitmap::with_words(place, words))
}

fn read_pending<M: PageMap>(
    map: &M,
    first: PageRef,
    freelist: &mut Freelist,
) -> Result<(), Corruption> {
    let mut next = first;
    while !next.is_none() {
        let page = map.pages(next.page(), 1, next.checksum())?;
        let count = header(page).count.get() as usize;
        let content = read_content(map, next, PageKind::Pending)?;
        freelist.list_pages.push(next.page());
        for bytes in content[16..].chunks_exact(8).take(count) {
            let mut buffer = [0; 8];
            buffer.copy_from_slice(bytes);
            let entry = u64::from_le_bytes(buffer);
            let extent = Extent { first: entry >> 16, pages: (entry & 0xffff) + 1 };
            freelist.pending_pages += extent.pages;
            freelist.pending_before.push(extent);
        }
        next = PageRef::read_from_bytes(&content[..16]).expect("16 bytes are a reference");
    }
    Ok(())
}

/// What follows the header of a freelist page, which the map verified against its parent.
fn read_content<M: PageMap>(map: &M, place: PageRef, kind: PageKind) -> Result<&[u8], Corruption> {
    let page = map.pages(place.page(), 1, place.checksum())?;
    let header = header(page);
    assert!(header.page.get() == place.page().0 && header.kind == kind as u8);
    Ok(&page[PAGE_HEADER_BYTES..])
}
