//! Fetching what the next changes will read, many keys side by side.
//!
//! On its way down a change waits for memory about a dozen times, since each place is known only
//! from the one before it. Here several keys go down together, each one page in turn, so that the
//! processor fetches for all of them at once and the changes then find everything near.
//! Invariants: nothing is changed and nothing is decided here; a page that is not what its parent
//! says ends the way of its key, and the change itself will meet it; a trail is followed only where
//! it ends at the very key, so that one that is out of date costs time and nothing else.

use super::Tree;
use super::search::{Place, Step, search_branch, search_leaf};
use crate::page::map::PageMap;
use crate::page::node::Node;
use crate::page::store::Store;
use std::hint::black_box;

/// Keys that go side by side: more would push each other out of the nearest cache.
pub const APPROACH_KEYS_MAX: usize = 16;

/// The slots on the way down to an entry, so that it need not be searched for again.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Trail {
    slots: [u16; TRAIL_LEVELS_MAX],
    /// Height of the tree then; 0 where there is no way, or it is too long.
    levels: u8,
}

impl Trail {
    #[inline]
    fn note(&mut self, depth: usize, slot: usize) {
        if let Some(noted) = self.slots.get_mut(depth) {
            *noted = slot as u16;
        }
    }
}

impl Tree {
    /// Fetches the ways to up to [`APPROACH_KEYS_MAX`] keys; answers the values of those that are
    /// there, and leaves a trail to each.
    pub(crate) fn approach<'s, M: PageMap>(
        &self,
        store: &'s Store<M>,
        keys: &[&[u8]],
        trails: &mut [Trail; APPROACH_KEYS_MAX],
    ) -> [Option<&'s [u8]>; APPROACH_KEYS_MAX] {
        assert!(keys.len() <= APPROACH_KEYS_MAX);
        let mut values = [None; APPROACH_KEYS_MAX];
        trails.iter_mut().for_each(|trail| trail.levels = 0);
        if self.height == 0 || keys.is_empty() {
            return values;
        }
        let Ok(root) = store.page(self.root, self.checksum) else { return values };
        let mut pages = [Some(root); APPROACH_KEYS_MAX];
        let leaf_depth = self.height as usize - 1;
        for depth in 0..leaf_depth {
            for ((page, key), trail) in pages.iter_mut().zip(keys).zip(trails.iter_mut()) {
                let child = page.and_then(|page| child_of(store, Node::new(page), key));
                *page = child.map(|(slot, page)| {
                    trail.note(depth, slot);
                    page
                });
            }
            fetch(&pages[..keys.len()], 0..FRONT_BYTES);
        }
        for (((page, value), key), trail) in
            pages.iter().zip(&mut values).zip(keys).zip(trails.iter_mut())
        {
            let found = page.and_then(|page| value_of(store, Node::new(page), key));
            *value = found.map(|(slot, value)| {
                trail.note(leaf_depth, slot);
                trail.levels = if leaf_depth < TRAIL_LEVELS_MAX { self.height } else { 0 };
                value
            });
        }
        fetch(&values[..keys.len()], 0..VALUE_BYTES);
        values
    }

    /// As [`Tree::locate`], where `trail` still leads to `key` itself.
    #[inline]
    pub(crate) fn locate_by<'s, M: PageMap>(
        &self,
        store: &'s Store<M>,
        key: &[u8],
        trail: &Trail,
        place: &mut Place,
    ) -> Option<&'s [u8]> {
        if self.height == 0 || trail.levels != self.height {
            return None;
        }
        let leaf_depth = self.height as usize - 1;
        let path = &mut place.path;
        (path.height, path.found, path.right_edge) = (leaf_depth + 1, true, true);
        let (mut page, mut checksum) = (self.root, self.checksum);
        for depth in 0..=leaf_depth {
            // A page that is broken is met, and told, on the ordinary way.
            let node = Node::new(store.page(page, checksum).ok()?);
            assert!(node.level() as usize == leaf_depth - depth);
            let (slot, count) = (trail.slots[depth] as usize, node.count());
            if count <= slot {
                return None;
            }
            path.steps[depth] = Step { page, slot };
            if depth == leaf_depth {
                let cell = node.leaf_cell(slot);
                let is_it = cell.key.run.is_none() && cell.key.inline == key;
                return is_it.then_some(cell.value);
            }
            path.right_edge &= slot + 1 == count;
            (page, checksum) = node.child(slot);
        }
        unreachable!("the leaf is the last")
    }
}

/// The page in which `key` belongs, one level down.
#[inline]
fn child_of<'s, M: PageMap>(
    store: &'s Store<M>,
    node: Node<'s>,
    key: &[u8],
) -> Option<(usize, &'s [u8])> {
    let slot = search_branch(store, node, key).ok()?;
    let (page, checksum) = node.child(slot);
    Some((slot, store.page(page, checksum).ok()?))
}

#[inline]
fn value_of<'s, M: PageMap>(
    store: &'s Store<M>,
    leaf: Node<'s>,
    key: &[u8],
) -> Option<(usize, &'s [u8])> {
    let (slot, is_found) = search_leaf(store, leaf, key).ok()?;
    is_found.then(|| (slot, leaf.leaf_cell(slot).value))
}

/// Reads a byte of each line in `range`: no read waits for another.
#[inline]
fn fetch(all: &[Option<&[u8]>], range: std::ops::Range<usize>) {
    let mut sum = 0_u8;
    for bytes in all.iter().flatten() {
        let end = range.end.min(bytes.len());
        for at in (range.start..end).step_by(LINE_BYTES) {
            sum ^= bytes[at];
        }
    }
    black_box(sum);
}

/// Levels of a trail; higher trees have none.
const TRAIL_LEVELS_MAX: usize = 8;
/// What the processor fetches at once.
const LINE_BYTES: usize = 64;
/// Header and slots of a page of middling entries: where a search begins.
const FRONT_BYTES: usize = 256;
/// A value that is copied when it is replaced; the rest of a longer one comes by itself.
const VALUE_BYTES: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::heap::HeapPages;
    use crate::page::layout::header;
    use crate::page::limits::KEY_INLINE_BYTES_MAX;
    use crate::page::meta::check_meta;
    use crate::tree::Mark;

    /// Trees of one, two and three levels, keys that are there and keys that are not.
    #[test]
    fn it_finds_what_a_single_search_finds() {
        for entries in [0, 1, 40, 5_000] {
            let mut store = Store::create(HeapPages::new(), 1);
            let mut tree = Tree::EMPTY;
            let mark = Mark { weighs: true, visit: false };
            for number in 0..entries {
                let (key, value) = (key_of(2 * number), vec![number as u8; number % 700]);
                tree.insert(&mut store, &key, &value, mark).unwrap();
            }
            for first in (0..2 * entries + 20).step_by(37) {
                let keys: Vec<_> = (0..APPROACH_KEYS_MAX).map(|n| key_of(first + 3 * n)).collect();
                let keys: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
                let mut trails = Default::default();
                let values = tree.approach(&store, &keys, &mut trails);
                for ((key, value), trail) in keys.iter().zip(values).zip(&trails) {
                    assert_eq!(value, tree.get(&store, key).unwrap());
                    let (mut place, mut other) = (Place::default(), Place::default());
                    let by_trail = tree.locate_by(&store, key, trail, &mut place);
                    let is_long = KEY_INLINE_BYTES_MAX < key.len();
                    assert_eq!(by_trail, value.filter(|_| !is_long));
                    tree.locate(&store, key, &mut other).unwrap();
                    if by_trail.is_some() {
                        assert_eq!(format!("{place:?}"), format!("{other:?}"));
                    }
                }
                let values = tree.approach(&store, &keys[..3], &mut trails);
                assert_eq!(values[3..], [None; 13]);
                assert!(trails[3..].iter().all(|trail| trail.levels == 0));
            }
        }
    }

    /// Entries come and go, pages split and join between the approach and the change: what a trail
    /// finds is what a search finds, or nothing.
    #[test]
    fn a_trail_that_is_out_of_date_is_not_followed() {
        let mut store = Store::create(HeapPages::new(), 1);
        let mut tree = Tree::EMPTY;
        let mark = Mark { weighs: true, visit: false };
        for number in 0..4_000 {
            tree.insert(&mut store, &key_of(2 * number), &[7; 90], mark).unwrap();
        }
        let (mut followed, mut refused) = (0, 0);
        for round in 0..1_000 {
            let keys: Vec<_> = (0..APPROACH_KEYS_MAX).map(|n| key_of(2 * round + 2 * n)).collect();
            let keys: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
            let mut trails = Default::default();
            tree.approach(&store, &keys, &mut trails);
            if round.is_multiple_of(2) {
                tree.insert(&mut store, &key_of(3 * round + 1), &[8; 600], mark).unwrap();
            } else {
                tree.remove(&mut store, keys[round % APPROACH_KEYS_MAX]).unwrap();
            }
            for (key, trail) in keys.iter().zip(&trails) {
                let mut other = Place::default();
                let value = tree.locate(&store, key, &mut other).unwrap();
                let mut place = Place::default();
                match tree.locate_by(&store, key, trail, &mut place) {
                    None => refused += 1,
                    by_trail => {
                        followed += 1;
                        assert_eq!(by_trail, value);
                        assert_eq!(format!("{place:?}"), format!("{other:?}"));
                    }
                }
            }
        }
        assert!(1_000 < followed && 1_000 < refused, "{followed} and {refused}");
    }

    /// Every seventh is a long one, whose run decides.
    fn key_of(number: usize) -> Vec<u8> {
        let mut key = format!("{:08}", number * 7919 % 100_003).into_bytes();
        if number.is_multiple_of(7) {
            key.resize(KEY_INLINE_BYTES_MAX + 1 + number % 50, b'x');
        }
        key
    }

    #[test]
    fn a_broken_page_ends_the_way_of_its_keys_only() {
        let mut store = Store::create(HeapPages::new(), 1);
        let mut trees = [Tree::EMPTY; 3];
        for number in 0..2_000 {
            let mark = Mark { weighs: true, visit: false };
            trees[0].insert(&mut store, &key_of(14 * number + 1), &[7; 100], mark).unwrap();
        }
        let plan = store.end_interval(&mut trees, 1, &[]);
        store.map_mut().write_plan(&plan);
        store.checkpoint_durable(plan.interval);
        let broken = tree_leaf(&store, &trees[0], &key_of(15));
        let sound: Vec<_> = (0..2_000)
            .map(|number| key_of(14 * number + 1))
            .filter(|key| tree_leaf(&store, &trees[0], key) != broken)
            .take(4)
            .collect();
        let meta = check_meta(&plan.meta, plan.interval % 2).unwrap();
        let mut map = store.map().clone();
        map.bytes_mut()[broken as usize * 4096 + 100] ^= 1;
        let store = Store::open(map, &meta).unwrap();
        let broken_key = key_of(15);
        let mut keys: Vec<&[u8]> = sound.iter().map(Vec::as_slice).collect();
        keys.push(&broken_key);
        let mut trails = Default::default();
        let values = meta.trees[0].approach(&store, &keys, &mut trails);
        assert!(values[..4].iter().all(|value| *value == Some(&[7; 100])));
        assert_eq!(values[4], None);
        assert!(meta.trees[0].get(&store, &broken_key).is_err());
    }

    fn tree_leaf(store: &Store<HeapPages>, tree: &Tree, key: &[u8]) -> u64 {
        let leaf = tree.locate_leaf(store, key, &mut Place::default()).unwrap();
        header(leaf).page.get()
    }
}
