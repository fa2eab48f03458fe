//! The whole structure, checked: for tests, the simulator and an operator's command.
//!
//! Unreadable pages are errors; a broken invariant panics, since only this program can have made
//! it: every page passed its parent's checksum.

use super::search::whole_key;
use super::{Mark, Summary, Tree};
use crate::page::layout::{PAGE_HEADER_BYTES, PageKind, RunRef, SLOT_BYTES, header};
use crate::page::map::{Checksum, Corruption, PAGE_SIZE_BYTES, PageMap, PageNumber};
use crate::page::node::{Node, StoredKey, head_of};
use crate::page::store::Store;

/// One bit a page: whether it was reached.
#[derive(Debug)]
struct Reached {
    words: Vec<u64>,
    pages: u64,
}

impl Reached {
    fn new(page_count: u64) -> Reached {
        Reached { words: vec![0; page_count.div_ceil(64) as usize], pages: 0 }
    }

    fn mark(&mut self, first: PageNumber, pages: u64) {
        for page in first.0..first.0 + pages {
            let word = &mut self.words[(page / 64) as usize];
            assert!(*word & (1 << (page % 64)) == 0, "page {page} is reached twice");
            *word |= 1 << (page % 64);
        }
        self.pages += pages;
    }
}

/// An entry as [`verify`] shows it.
#[derive(Clone, Copy, Debug)]
pub struct VerifiedEntry<'s> {
    /// Which of the trees.
    pub tree: usize,
    /// Its key, whole.
    pub key: &'s [u8],
    /// Its value.
    pub value: &'s [u8],
    /// Its mark.
    pub mark: Mark,
}

/// Checks order, separators, sums, flags and headers of all `trees` of a store, and that each page
/// of the file is reached exactly once: from the trees, as a run, as free, as pending or as a page
/// of the freelist. `runs` tells for each entry which overflow runs its value owns; those are read
/// too. Returns the number of entries. O(pages).
pub fn verify<M: PageMap>(
    store: &Store<M>,
    trees: &[Tree],
    runs: &mut dyn FnMut(VerifiedEntry<'_>, &mut Vec<RunRef>),
) -> Result<u64, Corruption> {
    let mut walk = Walk {
        store,
        reached: Reached::new(store.counters().pages),
        tree: 0,
        own_tree_pages: 0,
        last_key: None,
        owned: Vec::new(),
        runs,
    };
    let mut entries = 0;
    for (slot, tree) in trees.iter().enumerate() {
        walk.tree = slot;
        walk.last_key = None;
        let sum = Summary { entries: tree.entries, weight: tree.weight, visit: tree.visit };
        let found = match tree.height {
            0 => Summary::default(),
            height => walk.subtree(tree.root, tree.checksum, height - 1, StoredKey::EMPTY, None)?,
        };
        assert!(found == sum, "tree {slot} says {sum:?} and holds {found:?}");
        entries += sum.entries;
    }
    let Walk { mut reached, own_tree_pages, .. } = walk;
    assert!(own_tree_pages == store.own_tree_pages(), "a page of this interval has no parent");
    reached.mark(PageNumber(0), 2);
    store.for_each_other_page(&mut |first, pages| reached.mark(first, pages));
    assert!(reached.pages == store.counters().pages, "a page is not reached");
    Ok(entries)
}

struct Walk<'s, 'f, M> {
    store: &'s Store<M>,
    reached: Reached,
    tree: usize,
    own_tree_pages: u64,
    last_key: Option<&'s [u8]>,
    owned: Vec<RunRef>,
    runs: &'f mut dyn FnMut(VerifiedEntry<'_>, &mut Vec<RunRef>),
}

impl<'s, M: PageMap> Walk<'s, '_, M> {
    /// Checks a page and what is below it: keys lie in `[low, high)`.
    fn subtree(
        &mut self,
        page: PageNumber,
        checksum: Checksum,
        level: u8,
        low: StoredKey<'s>,
        high: Option<StoredKey<'s>>,
    ) -> Result<Summary, Corruption> {
        self.reached.mark(page, 1);
        self.own_tree_pages += self.store.is_own(page) as u64;
        let bytes = self.store.page(page, checksum)?;
        let node = Node::new(bytes);
        verify_page(node, bytes, page, level);
        if level == 0 {
            self.leaf(node, low, high)?;
            return Ok(node.summary());
        }
        let is_own = self.store.is_own(page);
        for slot in 0..node.count() {
            let cell = node.branch_cell(slot);
            assert!((slot == 0) == (cell.key == StoredKey::EMPTY), "only a first child has no key");
            assert!(is_own || !self.store.is_own(cell.child), "a parent is as new as its child");
            if let Some(run) = cell.key.run {
                self.run(&run)?;
            }
            let child_low = if slot == 0 { low } else { cell.key };
            let child_high =
                if slot + 1 < node.count() { Some(node.branch_key(slot + 1)) } else { high };
            let found =
                self.subtree(cell.child, cell.checksum, level - 1, child_low, child_high)?;
            assert!(found == cell.summary, "page {} has a wrong sum at {slot}", page.0);
        }
        Ok(node.summary())
    }

    fn leaf(
        &mut self,
        leaf: Node<'s>,
        low: StoredKey<'s>,
        high: Option<StoredKey<'s>>,
    ) -> Result<(), Corruption> {
        let low = whole_key(self.store, low)?;
        let high = high.map(|high| whole_key(self.store, high)).transpose()?;
        for slot in 0..leaf.count() {
            let cell = leaf.leaf_cell(slot);
            if let Some(run) = cell.key.run {
                self.run(&run)?;
            }
            let key = whole_key(self.store, cell.key)?;
            assert!(key.starts_with(cell.key.inline), "a prefix is that of its key");
            assert!(low <= key && high.is_none_or(|high| key < high), "a separator separates");
            assert!(self.last_key.is_none_or(|last| last < key), "keys ascend");
            self.last_key = Some(key);
            let entry = VerifiedEntry { tree: self.tree, key, value: cell.value, mark: cell.mark };
            let mut owned = std::mem::take(&mut self.owned);
            (self.runs)(entry, &mut owned);
            for run in owned.drain(..) {
                self.run(&run)?;
            }
            self.owned = owned;
        }
        Ok(())
    }

    fn run(&mut self, run: &RunRef) -> Result<(), Corruption> {
        self.store.read_run(run)?;
        self.reached.mark(run.first(), run.pages() as u64);
        Ok(())
    }
}

/// Checks one page's header and that its cells account for its bytes.
fn verify_page(node: Node<'_>, bytes: &[u8], page: PageNumber, level: u8) {
    let header = header(bytes);
    let kind = if level == 0 { PageKind::Leaf } else { PageKind::Branch };
    assert!(header.page.get() == page.0, "page {} is another one", page.0);
    assert!(header.kind == kind as u8 && header.level == level);
    assert!(header.reserved == [0; 32] && header.reserved_more == [0; 7]);
    assert!(0 < node.count(), "page {} is empty", page.0);
    let cells: usize = (0..node.count()).map(|slot| node.cell_bytes(slot).len()).sum();
    let heap = PAGE_SIZE_BYTES - header.heap_start.get() as usize;
    assert!(cells + header.garbage.get() as usize == heap, "page {} lost bytes", page.0);
    assert!(node.used_bytes() == cells + SLOT_BYTES * node.count());
    assert!(PAGE_HEADER_BYTES + SLOT_BYTES * node.count() <= header.heap_start.get() as usize);
    let prefix = node.prefix();
    for slot in (level != 0) as usize..node.count() {
        let key = node.key(slot).inline;
        assert!(key.starts_with(prefix), "page {} has a key outside its prefix", page.0);
        assert!(node.head(slot) == head_of(key, prefix.len()), "page {} has a wrong head", page.0);
    }
}
