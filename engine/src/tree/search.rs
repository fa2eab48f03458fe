//! Comparing with stored keys, and the way from a root to an entry.
//!
//! Invariant: a long key's prefix decides unless it ties; only then is its run read.

use super::{Summary, Tree};
use crate::page::limits::TREE_HEIGHT_MAX;
use crate::page::map::{Corruption, PageMap, PageNumber};
use crate::page::node::{Node, StoredKey, head_of};
use crate::page::store::Store;
use std::cmp::Ordering;

/// One page of a way down.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Step {
    pub page: PageNumber,
    /// In a branch the child gone to; in the leaf the entry, or where it would stand.
    pub slot: usize,
}

/// Where a key stands or belongs; holds until the tree changes. Filled in where it lies: it is too
/// long to be moved about.
#[derive(Clone, Debug, Default)]
pub struct Place {
    pub(super) path: Path,
}

impl Place {
    /// The entry's place in its leaf.
    pub fn slot(&self) -> usize {
        self.path.leaf().slot
    }
}

/// The way from a root to an entry's place: `steps[0]` is the root, `steps[height - 1]` the leaf.
#[derive(Clone, Debug, Default)]
pub(super) struct Path {
    pub steps: [Step; TREE_HEIGHT_MAX],
    pub height: usize,
    /// Whether the leaf's slot holds the key itself.
    pub found: bool,
    /// Whether every branch's slot is its last.
    pub right_edge: bool,
}

impl Path {
    pub fn leaf(&self) -> Step {
        self.steps[self.height - 1]
    }
}

/// How a stored key compares with `key`.
#[inline]
pub(super) fn compare<M: PageMap>(
    store: &Store<M>,
    stored: StoredKey<'_>,
    key: &[u8],
) -> Result<Ordering, Corruption> {
    let Some(run) = stored.run else { return Ok(compare_bytes(stored.inline, key)) };
    let prefix_size = stored.inline.len();
    assert!(prefix_size < run.size_bytes());
    match stored.inline.cmp(&key[..key.len().min(prefix_size)]) {
        Ordering::Equal if prefix_size < key.len() => Ok(store.read_run(&run)?.cmp(key)),
        Ordering::Equal => Ok(Ordering::Greater),
        decided => Ok(decided),
    }
}

/// As `one.cmp(other)`, without a call: keys differ within a few words.
#[inline]
fn compare_bytes(mut one: &[u8], mut other: &[u8]) -> Ordering {
    while let (Some((word, rest)), Some((other_word, other_rest))) =
        (one.split_first_chunk::<8>(), other.split_first_chunk::<8>())
    {
        if word != other_word {
            return u64::from_be_bytes(*word).cmp(&u64::from_be_bytes(*other_word));
        }
        (one, other) = (rest, other_rest);
    }
    for (byte, other_byte) in one.iter().zip(other) {
        if byte != other_byte {
            return byte.cmp(other_byte);
        }
    }
    one.len().cmp(&other.len())
}

/// All of a stored key.
pub(super) fn whole_key<'s, M: PageMap>(
    store: &'s Store<M>,
    stored: StoredKey<'s>,
) -> Result<&'s [u8], Corruption> {
    match stored.run {
        None => Ok(stored.inline),
        Some(run) => store.read_run(&run),
    }
}

/// The first cell from `first` on that is at or after `key`, and whether it is `key`.
#[inline]
fn search<M: PageMap>(
    store: &Store<M>,
    node: Node<'_>,
    first: usize,
    key: &[u8],
) -> Result<(usize, bool), Corruption> {
    let slots = node.slots();
    let (mut low, mut high) = (first, slots.len());
    if high <= low {
        return Ok((low, false));
    }
    let prefix = node.prefix();
    if !prefix.is_empty() {
        match compare_bytes(prefix, &key[..key.len().min(prefix.len())]) {
            Ordering::Less => return Ok((high, false)),
            Ordering::Greater => return Ok((low, false)),
            Ordering::Equal => {}
        }
    }
    let head = head_of(key, prefix.len());
    while low < high {
        let middle = (low + high) / 2;
        let other = Node::head_in(slots[middle]);
        if other < head {
            low = middle + 1;
        } else if head < other {
            high = middle;
        } else {
            // What all keys of the page share, `key` shares too.
            let stored = node.key(middle);
            let order = match stored.run {
                None => compare_bytes(&stored.inline[prefix.len()..], &key[prefix.len()..]),
                Some(_) => compare(store, stored, key)?,
            };
            match order {
                Ordering::Less => low = middle + 1,
                Ordering::Equal => return Ok((middle, true)),
                Ordering::Greater => high = middle,
            }
        }
    }
    Ok((low, false))
}

/// The first entry of a leaf at or after `key`, and whether it is `key`.
#[inline]
pub(super) fn search_leaf<M: PageMap>(
    store: &Store<M>,
    leaf: Node<'_>,
    key: &[u8],
) -> Result<(usize, bool), Corruption> {
    search(store, leaf, 0, key)
}

/// The child of a branch in which `key` belongs: the last with a separator at or below it.
#[inline]
pub(super) fn search_branch<M: PageMap>(
    store: &Store<M>,
    branch: Node<'_>,
    key: &[u8],
) -> Result<usize, Corruption> {
    assert!(0 < branch.count(), "a branch has a child");
    let (slot, found) = search(store, branch, 1, key)?;
    Ok(if found { slot } else { slot - 1 })
}

/// Goes down to where an entry after all others belongs. The tree is not empty.
pub(super) fn descend_right<M: PageMap>(
    tree: &Tree,
    store: &Store<M>,
    path: &mut Path,
) -> Result<(), Corruption> {
    let height = tree.height as usize;
    assert!(0 < height && height <= TREE_HEIGHT_MAX);
    (path.height, path.found, path.right_edge) = (height, false, true);
    let (mut page, mut checksum) = (tree.root, tree.checksum);
    for (depth, step) in path.steps.iter_mut().enumerate().take(height) {
        let node = Node::new(store.page(page, checksum)?);
        assert!(node.level() as usize == height - 1 - depth);
        if depth == height - 1 {
            *step = Step { page, slot: node.count() };
            break;
        }
        let slot = node.count() - 1;
        *step = Step { page, slot };
        (page, checksum) = node.child(slot);
    }
    Ok(())
}

/// Goes down to where `key` is or belongs, and answers the leaf. The tree is not empty.
#[inline]
pub(super) fn descend<'s, M: PageMap>(
    tree: &Tree,
    store: &'s Store<M>,
    key: &[u8],
    path: &mut Path,
) -> Result<Node<'s>, Corruption> {
    let height = tree.height as usize;
    assert!(0 < height, "an empty tree has no pages");
    assert!(height <= TREE_HEIGHT_MAX);
    (path.height, path.right_edge) = (height, true);
    let (mut page, mut checksum) = (tree.root, tree.checksum);
    for depth in 0..height - 1 {
        let node = Node::new(store.page(page, checksum)?);
        assert!(node.level() as usize == height - 1 - depth);
        let slot = search_branch(store, node, key)?;
        path.steps[depth] = Step { page, slot };
        path.right_edge &= slot + 1 == node.count();
        (page, checksum) = node.child(slot);
    }
    let leaf = Node::new(store.page(page, checksum)?);
    assert!(leaf.level() == 0);
    let (slot, found) = search_leaf(store, leaf, key)?;
    path.steps[height - 1] = Step { page, slot };
    path.found = found;
    Ok(leaf)
}

impl Tree {
    /// Finds the place of `key`, for [`Tree::insert_at`], and its value if it is there.
    pub fn locate<'s, M: PageMap>(
        &self,
        store: &'s Store<M>,
        key: &[u8],
        place: &mut Place,
    ) -> Result<Option<&'s [u8]>, Corruption> {
        let path = &mut place.path;
        if self.height == 0 {
            (path.height, path.found, path.right_edge) = (0, false, true);
            return Ok(None);
        }
        let leaf = descend(self, store, key, path)?;
        Ok(path.found.then(|| leaf.leaf_cell(path.leaf().slot).value))
    }

    /// Finds the place of `key`, which is there, and the page of its leaf.
    pub(crate) fn locate_leaf<'s, M: PageMap>(
        &self,
        store: &'s Store<M>,
        key: &[u8],
        place: &mut Place,
    ) -> Result<&'s [u8], Corruption> {
        let leaf = descend(self, store, key, &mut place.path)?;
        assert!(place.path.found);
        Ok(leaf.bytes())
    }

    /// All of a key of this tree as a cell holds it.
    pub(crate) fn whole_key<'s, M: PageMap>(
        &self,
        store: &'s Store<M>,
        stored: StoredKey<'s>,
    ) -> Result<&'s [u8], Corruption> {
        whole_key(store, stored)
    }

    /// The value of `key`.
    pub fn get<'s, M: PageMap>(
        &self,
        store: &'s Store<M>,
        key: &[u8],
    ) -> Result<Option<&'s [u8]>, Corruption> {
        let (mut page, mut checksum) = (self.root, self.checksum);
        for level in (0..self.height).rev() {
            let node = Node::new(store.page(page, checksum)?);
            assert!(node.level() == level);
            if level == 0 {
                let (slot, found) = search_leaf(store, node, key)?;
                return Ok(found.then(|| node.leaf_cell(slot).value));
            }
            (page, checksum) = node.child(search_branch(store, node, key)?);
        }
        Ok(None)
    }

    /// What lies below `key`.
    fn summary_below<M: PageMap>(
        &self,
        store: &Store<M>,
        key: &[u8],
    ) -> Result<Summary, Corruption> {
        let mut sum = Summary::default();
        let (mut page, mut checksum) = (self.root, self.checksum);
        for level in (0..self.height).rev() {
            let node = Node::new(store.page(page, checksum)?);
            let slot = if level == 0 {
                search_leaf(store, node, key)?.0
            } else {
                search_branch(store, node, key)?
            };
            sum.add(node.summary_before(slot));
            if 0 < level {
                (page, checksum) = node.child(slot);
            }
        }
        Ok(sum)
    }

    /// What lies in `[start, end)`; `None` is without end. O(log entries). The flag is whether any
    /// page it had to sum up has one; ask it of whole trees only.
    pub fn range_summary<M: PageMap>(
        &self,
        store: &Store<M>,
        start: &[u8],
        end: Option<&[u8]>,
    ) -> Result<Summary, Corruption> {
        if end.is_some_and(|end| end <= start) {
            return Ok(Summary::default());
        }
        let whole = Summary { entries: self.entries, weight: self.weight, visit: self.visit };
        let upper = match end {
            Some(end) => self.summary_below(store, end)?,
            None => whole,
        };
        if start.is_empty() {
            return Ok(upper);
        }
        let lower = self.summary_below(store, start)?;
        assert!(lower.entries <= upper.entries && lower.weight <= upper.weight);
        Ok(Summary {
            entries: upper.entries - lower.entries,
            weight: upper.weight - lower.weight,
            visit: upper.visit,
        })
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

    /// Reads every page that an insert or removal of `key` may read, and returns its value if it is
    /// there. Neighbours are only verified: their bytes are not looked at, but for long keys.
    pub fn warm<'s, M: PageMap>(
        &self,
        store: &'s Store<M>,
        key: &[u8],
    ) -> Result<Option<&'s [u8]>, Corruption> {
        if self.height == 0 {
            return Ok(None);
        }
        let (mut page, mut checksum) = (self.root, self.checksum);
        for level in (1..self.height).rev() {
            let node = Node::new(store.page(page, checksum)?);
            assert!(node.level() == level);
            let slot = search_branch(store, node, key)?;
            let last = (slot + 1).min(node.count() - 1);
            for near in slot.saturating_sub(1)..=last {
                let cell = node.branch_cell(near);
                let child = store.page(cell.child, cell.checksum)?;
                // The flag stands for long keys too.
                if level == 1 && cell.summary.visit {
                    warm_long_keys(store, Node::new(child))?;
                }
            }
            (page, checksum) = node.child(slot);
        }
        let leaf = Node::new(store.page(page, checksum)?);
        let (slot, found) = search_leaf(store, leaf, key)?;
        Ok(found.then(|| leaf.leaf_cell(slot).value))
    }

    /// Reads every page that an append may read.
    pub fn warm_right_edge<M: PageMap>(&self, store: &Store<M>) -> Result<(), Corruption> {
        if 0 < self.height {
            descend_right(self, store, &mut Path::default())?;
        }
        Ok(())
    }
}

/// Reads the runs of a leaf's long keys: a separator may have to be cut from them.
fn warm_long_keys<M: PageMap>(store: &Store<M>, leaf: Node<'_>) -> Result<(), Corruption> {
    for slot in 0..leaf.count() {
        whole_key(store, leaf.leaf_key(slot))?;
    }
    Ok(())
}
