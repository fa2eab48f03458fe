//! Inserting, replacing and removing one entry.
//!
//! Everything on the way down is read before the first change. The pages on the way are touched
//! from the root down, so that a page of this interval always has a parent of this interval; sums
//! in the branches are corrected from the leaf up.
//! Invariants: a branch's sums are exact, the visit flag too; an insert or removal that cannot be
//! done inside its leaf goes on in `regroup`.

use super::regroup::{Edit, common_prefix};
use super::search::{Path, Place, Step, descend, descend_right};
use super::{Mark, Summary, Tree};
use crate::page::cells::CellList;
use crate::page::layout::{PageKind, RunRef};
use crate::page::limits::{
    KEY_INLINE_BYTES_MAX, KEY_SIZE_BYTES_MAX, LONG_KEY_PREFIX_BYTES, MERGE_BELOW_BYTES,
    VALUE_INLINE_BYTES_MAX,
};
use crate::page::map::{Checksum, Corruption, PageMap};
use crate::page::node::{
    BranchCell, LeafCell, Node, StoredKey, adjust_summary, maybe_insert_leaf, overwrite_entry,
    remove_cell, replace_child, replace_summary, seal_child,
};
use crate::page::store::Store;

/// What a change of a page means for the sums above it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Delta {
    pub entries: i64,
    pub weight: i64,
    pub visit: VisitDelta,
}

/// What a change of a page means for the visit flags above it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum VisitDelta {
    /// Nothing.
    Same,
    /// There is one below now.
    Set,
    /// There may be one less: the page must be asked.
    Ask,
}

impl Delta {
    /// From what a page held to what it holds instead.
    pub fn between(before: Summary, after: Summary) -> Delta {
        let visit = match (before.visit, after.visit) {
            (false, true) => VisitDelta::Set,
            (true, false) => VisitDelta::Ask,
            _ => VisitDelta::Same,
        };
        Delta {
            entries: after.entries as i64 - before.entries as i64,
            weight: after.weight as i64 - before.weight as i64,
            visit,
        }
    }

    fn is_nothing(&self) -> bool {
        self.entries == 0 && self.weight == 0 && self.visit == VisitDelta::Same
    }

    /// Corrects the sum of a page whose own cells say `visit`; what is left for the page above.
    fn correct(&mut self, sum: Summary, visit: impl FnOnce() -> bool) -> Summary {
        let after = Summary {
            entries: sum.entries.checked_add_signed(self.entries).expect("sums are exact"),
            weight: sum.weight.checked_add_signed(self.weight).expect("sums are exact"),
            visit: match self.visit {
                VisitDelta::Same => sum.visit,
                VisitDelta::Set => true,
                VisitDelta::Ask => visit(),
            },
        };
        if after.visit == sum.visit {
            self.visit = VisitDelta::Same;
        }
        after
    }
}

impl Tree {
    /// Inserts or replaces. `value` is at most `VALUE_INLINE_BYTES_MAX`, `key` at most
    /// `KEY_SIZE_BYTES_MAX` long and may be empty. The run of a long key stays the same when its
    /// value is replaced. Returns whether the key was there.
    pub fn insert<M: PageMap>(
        &mut self,
        store: &mut Store<M>,
        key: &[u8],
        value: &[u8],
        mark: Mark,
    ) -> Result<bool, Corruption> {
        let mut place = Place::default();
        self.locate(store, key, &mut place)?;
        self.insert_at(store, &mut place, key, value, mark)
    }

    /// As [`Tree::insert`], at the place that [`Tree::locate`] found for `key` in this tree, which
    /// has not changed since; the place does not hold afterwards.
    pub fn insert_at<M: PageMap>(
        &mut self,
        store: &mut Store<M>,
        place: &mut Place,
        key: &[u8],
        value: &[u8],
        mark: Mark,
    ) -> Result<bool, Corruption> {
        assert!(key.len() <= KEY_SIZE_BYTES_MAX && value.len() <= VALUE_INLINE_BYTES_MAX);
        let path = &mut place.path;
        assert!(path.height == self.height as usize);
        if self.height == 0 {
            self.plant(store, path);
        }
        if path.found {
            self.replace(store, path, value, mark)?;
            return Ok(true);
        }
        self.touch_path(store, path)?;
        let run = write_long_key(store, key);
        let inline = if run.is_some() { &key[..LONG_KEY_PREFIX_BYTES] } else { key };
        let cell = LeafCell { key: StoredKey { inline, run }, value, mark };
        let leaf = path.leaf();
        let delta = Delta::between(Summary::default(), cell.summary());
        if maybe_insert_leaf(store.image_mut(leaf.page), leaf.slot, &cell) {
            self.settle(store, path, leaf_depth(path), delta);
            return Ok(false);
        }
        let mut given = std::mem::take(&mut store.scratch[0]);
        given.clear();
        given.push_leaf(&cell);
        let edit = Edit { depth: leaf_depth(path), at: leaf.slot, drop: 0 };
        self.apply(store, path, edit, given, delta)?;
        Ok(false)
    }

    /// Gives an empty tree its first leaf.
    fn plant<M: PageMap>(&mut self, store: &mut Store<M>, path: &mut Path) {
        self.root = store.allocate(PageKind::Leaf, 0);
        self.height = 1;
        path.height = 1;
        path.steps[0] = Step { page: self.root, slot: 0 };
    }

    /// Inserts an entry behind all others. `key` is above every other, and at most
    /// `KEY_INLINE_BYTES_MAX` long, as all of the tree's keys are.
    ///
    /// A full leaf stays as it is and the entry gets one of its own: no cell moves.
    pub fn append<M: PageMap>(
        &mut self,
        store: &mut Store<M>,
        key: &[u8],
        value: &[u8],
        mark: Mark,
    ) -> Result<(), Corruption> {
        assert!(key.len() <= KEY_INLINE_BYTES_MAX && value.len() <= VALUE_INLINE_BYTES_MAX);
        if self.height < 2 {
            let was_there = self.insert(store, key, value, mark)?;
            assert!(!was_there, "an appended key is above every other");
            return Ok(());
        }
        let mut path = Path::default();
        descend_right(self, store, &mut path)?;
        self.touch_path(store, &mut path)?;
        let cell = LeafCell { key: StoredKey { inline: key, run: None }, value, mark };
        let delta = Delta::between(Summary::default(), cell.summary());
        let leaf = path.leaf();
        let image = store.image_mut(leaf.page);
        let last = Node::new(image).leaf_key(leaf.slot - 1);
        assert!(last.run.is_none() && last.inline < key, "an appended key is above every other");
        let common = common_prefix(last.inline, key);
        if maybe_insert_leaf(image, leaf.slot, &cell) {
            self.settle(store, &path, leaf_depth(&path), delta);
            return Ok(());
        }
        // It stays as it is until it is trimmed, and it is in the processor's cache now.
        let sum = store.seal_ahead(leaf.page);
        let parent = path.steps[leaf_depth(&path) - 1];
        seal_child(store.image_mut(parent.page), parent.slot, sum);
        let page = store.allocate(PageKind::Leaf, 0);
        assert!(maybe_insert_leaf(store.image_mut(page), 0, &cell), "an empty page has room");
        let mut given = std::mem::take(&mut store.scratch[0]);
        given.clear();
        given.push_branch(&BranchCell {
            key: StoredKey { inline: &key[..common + 1], run: None },
            child: page,
            checksum: Checksum(0),
            summary: cell.summary(),
        });
        let depth = leaf_depth(&path) - 1;
        let edit = Edit { depth, at: path.steps[depth].slot + 1, drop: 0 };
        self.apply(store, &mut path, edit, given, delta)
    }

    fn replace<M: PageMap>(
        &mut self,
        store: &mut Store<M>,
        path: &mut Path,
        value: &[u8],
        mark: Mark,
    ) -> Result<(), Corruption> {
        self.touch_path(store, path)?;
        let leaf = path.leaf();
        let before = Node::new(store.image_mut(leaf.page)).leaf_cell(leaf.slot);
        let cell = LeafCell { key: before.key, value, mark };
        let delta = Delta::between(before.summary(), cell.summary());
        if before.value.len() == value.len() {
            overwrite_entry(store.image_mut(leaf.page), leaf.slot, value, mark);
            self.settle(store, path, leaf_depth(path), delta);
            return Ok(());
        }
        let mut given = std::mem::take(&mut store.scratch[0]);
        let image = store.image_mut(leaf.page);
        let key = Node::new(image).leaf_cell(leaf.slot).key;
        given.clear();
        given.push_leaf(&LeafCell { key, value, mark });
        let edit = Edit { depth: leaf_depth(path), at: leaf.slot, drop: 1 };
        self.apply(store, path, edit, given, delta)
    }

    /// Replaces entries from `place` on, all in one leaf, by as many cells with the same keys and
    /// visit flags; together they weigh by `weight_change` more.
    pub(crate) fn replace_run<M: PageMap>(
        &mut self,
        store: &mut Store<M>,
        place: &mut Place,
        cells: &CellList,
        weight_change: i64,
    ) -> Result<(), Corruption> {
        let path = &mut place.path;
        assert!(path.found && path.height == self.height as usize && !cells.is_empty());
        self.touch_path(store, path)?;
        let mut given = std::mem::take(&mut store.scratch[0]);
        given.clear();
        given.push_list(cells);
        let delta = Delta { entries: 0, weight: weight_change, visit: VisitDelta::Same };
        let edit = Edit { depth: leaf_depth(path), at: path.leaf().slot, drop: cells.len() };
        self.apply(store, path, edit, given, delta)
    }

    /// Removes `key` and its long-key run; returns whether it was there.
    pub fn remove<M: PageMap>(
        &mut self,
        store: &mut Store<M>,
        key: &[u8],
    ) -> Result<bool, Corruption> {
        if self.height == 0 {
            return Ok(false);
        }
        let mut path = Path::default();
        descend(self, store, key, &mut path)?;
        if !path.found {
            return Ok(false);
        }
        self.touch_path(store, &mut path)?;
        let leaf = path.leaf();
        let image = store.image_mut(leaf.page);
        let before = Node::new(image).leaf_cell(leaf.slot);
        let run = before.key.run;
        let delta = Delta::between(before.summary(), Summary::default());
        remove_cell(image, leaf.slot);
        let is_low = Node::new(image).used_bytes() < MERGE_BELOW_BYTES;
        if let Some(run) = run {
            store.free_run(&run);
        }
        if is_low {
            self.apply_low(store, &mut path, delta)?;
        } else {
            self.settle(store, &path, leaf_depth(&path), delta);
        }
        Ok(true)
    }

    /// Settles a leaf that lost cells, joining it with a neighbour if it became low.
    pub(super) fn apply_low<M: PageMap>(
        &mut self,
        store: &mut Store<M>,
        path: &mut Path,
        delta: Delta,
    ) -> Result<(), Corruption> {
        let mut given = std::mem::take(&mut store.scratch[0]);
        given.clear();
        let edit = Edit { depth: leaf_depth(path), at: 0, drop: 0 };
        self.apply(store, path, edit, given, delta)
    }

    /// Makes the pages of the way this interval's own, from the root down.
    #[inline]
    pub(super) fn touch_path<M: PageMap>(
        &mut self,
        store: &mut Store<M>,
        path: &mut Path,
    ) -> Result<(), Corruption> {
        for depth in 0..path.height {
            let page = path.steps[depth].page;
            if store.is_own(page) {
                continue;
            }
            if depth == 0 {
                self.root = store.touch(page, self.checksum)?;
                path.steps[0].page = self.root;
                continue;
            }
            let parent = path.steps[depth - 1];
            let (child, checksum) = Node::new(store.image_mut(parent.page)).child(parent.slot);
            assert!(child == page);
            let copy = store.touch(page, checksum)?;
            replace_child(store.image_mut(parent.page), parent.slot, copy);
            path.steps[depth].page = copy;
        }
        Ok(())
    }

    /// Corrects the sums above the page at `depth`, and the tree's own.
    pub(super) fn settle<M: PageMap>(
        &mut self,
        store: &mut Store<M>,
        path: &Path,
        depth: usize,
        mut delta: Delta,
    ) {
        for depth in (0..depth).rev() {
            if delta.is_nothing() {
                return;
            }
            let parent = path.steps[depth];
            if delta.visit == VisitDelta::Same {
                let image = store.image_mut(parent.page);
                adjust_summary(image, parent.slot, delta.entries, delta.weight);
                continue;
            }
            let (sum, visit_below) = {
                let node = Node::new(store.own_image(parent.page));
                let sum = node.branch_cell(parent.slot).summary;
                let child = node.child(parent.slot).0;
                let ask = delta.visit == VisitDelta::Ask;
                (sum, ask && Node::new(store.own_image(child)).summary().visit)
            };
            let after = delta.correct(sum, || visit_below);
            replace_summary(store.image_mut(parent.page), parent.slot, after);
        }
        self.settle_tree(store, delta);
    }

    /// Corrects the tree's own sums; its root is this interval's own.
    pub(super) fn settle_tree<M: PageMap>(&mut self, store: &mut Store<M>, mut delta: Delta) {
        let sum = Summary { entries: self.entries, weight: self.weight, visit: self.visit };
        let root = self.root;
        let after = delta.correct(sum, || Node::new(store.own_image(root)).summary().visit);
        self.entries = after.entries;
        self.weight = after.weight;
        self.visit = after.visit;
    }
}

fn leaf_depth(path: &Path) -> usize {
    path.height - 1
}

/// Writes the run of a long key.
fn write_long_key<M: PageMap>(store: &mut Store<M>, key: &[u8]) -> Option<RunRef> {
    (KEY_INLINE_BYTES_MAX < key.len()).then(|| store.write_run(key))
}
