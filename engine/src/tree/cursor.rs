//! A place in a tree that moves both ways, borrowing from the pages.
//!
//! Invariants: it lives no longer than a step and sees the tree as it was when it was made; it
//! holds the pages from the root to its leaf and allocates nothing. A long key is borrowed from its
//! run.

use super::search::{compare, search_branch, search_leaf, whole_key};
use super::{Mark, Tree};
use crate::page::layout::RunRef;
use crate::page::limits::TREE_HEIGHT_MAX;
use crate::page::map::{Checksum, Corruption, PAGE_SIZE_BYTES, PageMap, PageNumber};
use crate::page::node::{LeafCell, Node};
use crate::page::store::Store;
use std::cmp::Ordering;

/// A place in a tree: on an entry, or off the tree.
#[derive(Debug)]
pub struct Cursor<'s, M> {
    store: &'s Store<M>,
    tree: Tree,
    /// From the root (0) to the leaf (`height - 1`); of no meaning off the tree.
    steps: [CursorStep<'s>; TREE_HEIGHT_MAX],
    on_entry: bool,
}

#[derive(Clone, Copy, Debug)]
struct CursorStep<'s> {
    page: &'s [u8],
    slot: usize,
}

/// Which way a cursor goes down or on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Left,
    Right,
}

impl<'s, M: PageMap> Cursor<'s, M> {
    pub(super) fn new(store: &'s Store<M>, tree: Tree) -> Cursor<'s, M> {
        let nowhere = CursorStep { page: &NO_PAGE, slot: 0 };
        Cursor { store, tree, steps: [nowhere; TREE_HEIGHT_MAX], on_entry: false }
    }

    fn height(&self) -> usize {
        self.tree.height as usize
    }

    /// Goes to the first entry; false if there is none.
    pub fn seek_first(&mut self) -> Result<bool, Corruption> {
        self.seek_edge(Way::Left)
    }

    /// Goes to the last entry; false if there is none.
    pub fn seek_last(&mut self) -> Result<bool, Corruption> {
        self.seek_edge(Way::Right)
    }

    fn seek_edge(&mut self, way: Way) -> Result<bool, Corruption> {
        self.on_entry = false;
        if 0 < self.height() {
            self.go_down(0, self.tree.root, self.tree.checksum, way)?;
            self.on_entry = true;
        }
        Ok(self.on_entry)
    }

    /// Goes down from `page` at `depth` to the leftmost or rightmost entry below.
    fn go_down(
        &mut self,
        depth: usize,
        mut page: PageNumber,
        mut checksum: Checksum,
        way: Way,
    ) -> Result<(), Corruption> {
        for depth in depth..self.height() {
            let bytes = self.store.page(page, checksum)?;
            let node = Node::new(bytes);
            assert!(0 < node.count(), "a page of a tree is never empty");
            let slot = if way == Way::Left { 0 } else { node.count() - 1 };
            self.steps[depth] = CursorStep { page: bytes, slot };
            if depth + 1 < self.height() {
                (page, checksum) = node.child(slot);
            }
        }
        Ok(())
    }

    /// Goes down to where `key` is or belongs; the leaf's slot may be one past its end.
    fn go_to(&mut self, key: &[u8]) -> Result<bool, Corruption> {
        let (mut page, mut checksum) = (self.tree.root, self.tree.checksum);
        for depth in 0..self.height() {
            let bytes = self.store.page(page, checksum)?;
            let node = Node::new(bytes);
            if depth + 1 == self.height() {
                let (slot, found) = search_leaf(self.store, node, key)?;
                self.steps[depth] = CursorStep { page: bytes, slot };
                return Ok(found);
            }
            let slot = search_branch(self.store, node, key)?;
            self.steps[depth] = CursorStep { page: bytes, slot };
            (page, checksum) = node.child(slot);
        }
        Ok(false)
    }

    /// Goes to the first entry at or after `key`; false if there is none.
    pub fn seek_at_or_after(&mut self, key: &[u8]) -> Result<bool, Corruption> {
        self.on_entry = false;
        if self.height() == 0 {
            return Ok(false);
        }
        self.go_to(key)?;
        let leaf = self.steps[self.height() - 1];
        self.on_entry = true;
        if leaf.slot == Node::new(leaf.page).count() {
            // The last entry of this leaf is below: step over from it.
            self.steps[self.height() - 1].slot -= 1;
            return self.next();
        }
        Ok(true)
    }

    /// Goes to the last entry at or before `key`; false if there is none.
    pub fn seek_at_or_before(&mut self, key: &[u8]) -> Result<bool, Corruption> {
        self.on_entry = false;
        if self.height() == 0 {
            return Ok(false);
        }
        let found = self.go_to(key)?;
        self.on_entry = true;
        if found { Ok(true) } else { self.prev() }
    }

    /// Goes to the next entry; false (and off the tree) after the last.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<bool, Corruption> {
        self.step(Way::Right)
    }

    /// Goes to the entry before; false (and off the tree) before the first.
    pub fn prev(&mut self) -> Result<bool, Corruption> {
        self.step(Way::Left)
    }

    fn step(&mut self, way: Way) -> Result<bool, Corruption> {
        assert!(self.on_entry, "a cursor off the tree must seek");
        let height = self.height();
        // Until it stands again, an error must not leave it half way.
        self.on_entry = false;
        for depth in (0..height).rev() {
            let step = self.steps[depth];
            let node = Node::new(step.page);
            let slot = match way {
                Way::Right if step.slot + 1 < node.count() => step.slot + 1,
                Way::Left if 0 < step.slot => step.slot - 1,
                _ => continue,
            };
            self.steps[depth].slot = slot;
            if depth + 1 < height {
                let (child, checksum) = node.child(slot);
                let edge = if way == Way::Right { Way::Left } else { Way::Right };
                self.go_down(depth + 1, child, checksum, edge)?;
            }
            self.on_entry = true;
            return Ok(true);
        }
        Ok(false)
    }

    /// Whether it stands on an entry.
    pub fn is_on_entry(&self) -> bool {
        self.on_entry
    }

    fn entry(&self) -> LeafCell<'s> {
        assert!(self.on_entry, "a cursor off the tree has no entry");
        let leaf = self.steps[self.height() - 1];
        Node::new(leaf.page).leaf_cell(leaf.slot)
    }

    /// The entry's key, whole. Panics off the tree.
    pub fn key(&self) -> Result<&'s [u8], Corruption> {
        whole_key(self.store, self.entry().key)
    }

    /// How the entry's key compares with `key`: a long key's run is read only when prefixes tie.
    pub fn compare_key(&self, key: &[u8]) -> Result<Ordering, Corruption> {
        compare(self.store, self.entry().key, key)
    }

    /// The run that holds a long key, for those that borrow it; `None` for a short one.
    pub fn key_run(&self) -> Option<RunRef> {
        self.entry().key.run
    }

    /// The entry's value. Panics off the tree.
    pub fn value(&self) -> &'s [u8] {
        self.entry().value
    }

    /// The entry's mark. Panics off the tree.
    pub fn mark(&self) -> Mark {
        self.entry().mark
    }
}

/// What a cursor holds where it never was.
static NO_PAGE: [u8; PAGE_SIZE_BYTES] = [0; PAGE_SIZE_BYTES];
