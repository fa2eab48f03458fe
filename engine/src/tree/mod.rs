//! B+tree over pages: ordered entries with weights and flags summed up in the branches.
//!
//! A [`Tree`] is a small value; every operation takes the store of its pages. Entries are {key,
//! value, mark}; keys are ordered as byte strings. Operations that change the tree return
//! `Corruption` only before or while reading pages: after such an error the tree and the store are
//! in the middle of a change and must be opened again from their checkpoint. [`Tree::warm`] reads
//! beforehand what a change of a key may read, so that the change itself cannot fail.

pub mod cursor;

pub use crate::page::meta::Tree;

use crate::page::map::{Corruption, PageMap};
use crate::page::store::Store;
use cursor::Cursor;

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
    /// Whether any has its visit flag.
    pub visit: bool,
}

/// How far a bounded removal came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trimmed {
    /// Nothing below the key is left.
    Done,
    /// The page budget was used up; call again.
    More,
}

impl Tree {
    /// A tree without entries.
    pub const EMPTY: Tree = Tree {
        root: crate::page::map::PageNumber(0),
        checksum: crate::page::map::Checksum(0),
        height: 0,
        visit: false,
        entries: 0,
        weight: 0,
    };

    /// The value of `key`.
    pub fn get<'s, M: PageMap>(
        &self,
        _store: &'s Store<M>,
        _key: &[u8],
    ) -> Result<Option<&'s [u8]>, Corruption> {
        panic!("lands next")
    }

    /// Inserts or replaces. `value` is at most `VALUE_INLINE_BYTES_MAX`, `key` at most
    /// `KEY_SIZE_BYTES_MAX` long and may be empty. The run of a long key stays the same when its
    /// value is replaced. Returns whether the key was there.
    pub fn insert<M: PageMap>(
        &mut self,
        _store: &mut Store<M>,
        _key: &[u8],
        _value: &[u8],
        _mark: Mark,
    ) -> Result<bool, Corruption> {
        panic!("lands next")
    }

    /// Removes `key` and its long-key run; returns whether it was there.
    pub fn remove<M: PageMap>(
        &mut self,
        _store: &mut Store<M>,
        _key: &[u8],
    ) -> Result<bool, Corruption> {
        panic!("lands next")
    }

    /// A cursor that stands nowhere yet.
    pub fn cursor<'s, M: PageMap>(&self, store: &'s Store<M>) -> Cursor<'s, M> {
        Cursor::new(store, *self)
    }

    /// Entries and weight of `[start, end)`; `None` is without end. O(log entries).
    pub fn range_summary<M: PageMap>(
        &self,
        _store: &Store<M>,
        _start: &[u8],
        _end: Option<&[u8]>,
    ) -> Result<Summary, Corruption> {
        panic!("lands next")
    }

    /// Entries in `[start, end)`.
    pub fn count_range<M: PageMap>(
        &self,
        store: &Store<M>,
        start: &[u8],
        end: Option<&[u8]>,
    ) -> Result<u64, Corruption> {
        Ok(self.range_summary(store, start, end)?.entries)
    }

    /// Sum of the weights in `[start, end)`.
    pub fn weight_range<M: PageMap>(
        &self,
        store: &Store<M>,
        start: &[u8],
        end: Option<&[u8]>,
    ) -> Result<u64, Corruption> {
        Ok(self.range_summary(store, start, end)?.weight)
    }

    /// Removes entries below `key` from the left edge, freeing or reading about `pages_max` pages.
    /// Entries with the visit flag (and only they) are shown to `on_flagged` (key, value) in order,
    /// before they go; leaves without one are freed unread. Runs of long keys are freed here, runs
    /// named by values are the caller's.
    pub fn trim_before<M: PageMap>(
        &mut self,
        _store: &mut Store<M>,
        _key: &[u8],
        _pages_max: usize,
        _on_flagged: &mut dyn FnMut(&[u8], &[u8]),
    ) -> Result<Trimmed, Corruption> {
        panic!("lands next")
    }

    /// Reads every page that an insert or removal of `key` may read.
    pub fn warm<M: PageMap>(&self, _store: &Store<M>, _key: &[u8]) -> Result<(), Corruption> {
        panic!("lands next")
    }
}
