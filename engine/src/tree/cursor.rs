//! A place in a tree that moves both ways, borrowing from the pages.

use super::{Mark, Tree};
use crate::page::layout::RunRef;
use crate::page::map::{Corruption, PageMap};
use crate::page::store::Store;

/// A place in a tree: on an entry, or off either end.
#[derive(Debug)]
pub struct Cursor<'s, M> {
    store: &'s Store<M>,
    tree: Tree,
}

impl<'s, M: PageMap> Cursor<'s, M> {
    pub(super) fn new(store: &'s Store<M>, tree: Tree) -> Cursor<'s, M> {
        Cursor { store, tree }
    }

    /// Goes to the first entry; false if there is none.
    pub fn seek_first(&mut self) -> Result<bool, Corruption> {
        panic!("lands next: {} {}", self.tree.entries, self.store.interval())
    }

    /// Goes to the last entry; false if there is none.
    pub fn seek_last(&mut self) -> Result<bool, Corruption> {
        panic!("lands next")
    }

    /// Goes to the first entry at or after `key`; false if there is none.
    pub fn seek_at_or_after(&mut self, _key: &[u8]) -> Result<bool, Corruption> {
        panic!("lands next")
    }

    /// Goes to the last entry at or before `key`; false if there is none.
    pub fn seek_at_or_before(&mut self, _key: &[u8]) -> Result<bool, Corruption> {
        panic!("lands next")
    }

    /// Goes to the next entry; false (and off the tree) after the last.
    pub fn next(&mut self) -> Result<bool, Corruption> {
        panic!("lands next")
    }

    /// Goes to the entry before; false (and off the tree) before the first.
    pub fn prev(&mut self) -> Result<bool, Corruption> {
        panic!("lands next")
    }

    /// Whether it stands on an entry.
    pub fn is_on_entry(&self) -> bool {
        panic!("lands next")
    }

    /// The entry's key, whole. Panics off the tree.
    pub fn key(&self) -> Result<&'s [u8], Corruption> {
        panic!("lands next")
    }

    /// The run that holds a long key, for those that borrow it; `None` for a short one.
    pub fn key_run(&self) -> Option<RunRef> {
        panic!("lands next")
    }

    /// The entry's value. Panics off the tree.
    pub fn value(&self) -> &'s [u8] {
        panic!("lands next")
    }

    /// The entry's mark. Panics off the tree.
    pub fn mark(&self) -> Mark {
        panic!("lands next")
    }
}
