//! Fetching what the next changes will read, many keys side by side.
//!
//! On its way down a change waits for memory about a dozen times, since each place is known only
//! from the one before it. Here several keys go down together, each one page in turn, so that the
//! processor fetches for all of them at once and the changes then find everything near.
//! Invariants: nothing is changed and nothing is decided here; a page that is not what its parent
//! says ends the way of its key, and the change itself will meet it.

use super::Tree;
use super::search::{search_branch, search_leaf};
use crate::page::map::PageMap;
use crate::page::node::Node;
use crate::page::store::Store;
use std::hint::black_box;

/// Keys that go side by side: more would push each other out of the nearest cache.
pub const APPROACH_KEYS_MAX: usize = 16;

impl Tree {
    /// Fetches the ways to up to [`APPROACH_KEYS_MAX`] keys; answers the values of those that are
    /// there.
    pub(crate) fn approach<'s, M: PageMap>(
        &self,
        store: &'s Store<M>,
        keys: &[&[u8]],
    ) -> [Option<&'s [u8]>; APPROACH_KEYS_MAX] {
        assert!(keys.len() <= APPROACH_KEYS_MAX);
        let mut values = [None; APPROACH_KEYS_MAX];
        if self.height == 0 || keys.is_empty() {
            return values;
        }
        let Ok(root) = store.page(self.root, self.checksum) else { return values };
        let mut pages = [Some(root); APPROACH_KEYS_MAX];
        for _ in 1..self.height {
            for (page, key) in pages.iter_mut().zip(keys) {
                *page = page.and_then(|page| child_of(store, Node::new(page), key));
            }
            fetch(&pages[..keys.len()], 0..FRONT_BYTES);
        }
        for ((page, value), key) in pages.iter().zip(&mut values).zip(keys) {
            *value = page.and_then(|page| value_of(store, Node::new(page), key));
        }
        fetch(&values[..keys.len()], 0..VALUE_BYTES);
        values
    }
}

/// The page in which `key` belongs, one level down.
#[inline]
fn child_of<'s, M: PageMap>(store: &'s Store<M>, node: Node<'s>, key: &[u8]) -> Option<&'s [u8]> {
    let slot = search_branch(store, node, key).ok()?;
    let (page, checksum) = node.child(slot);
    store.page(page, checksum).ok()
}

#[inline]
fn value_of<'s, M: PageMap>(store: &'s Store<M>, leaf: Node<'s>, key: &[u8]) -> Option<&'s [u8]> {
    let (slot, is_found) = search_leaf(store, leaf, key).ok()?;
    is_found.then(|| leaf.leaf_cell(slot).value)
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
                let values = tree.approach(&store, &keys);
                for (key, value) in keys.iter().zip(values) {
                    assert_eq!(value, tree.get(&store, key).unwrap());
                }
                assert_eq!(tree.approach(&store, &keys[..3])[3..], [None; 13]);
            }
        }
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
        let values = meta.trees[0].approach(&store, &keys);
        assert!(values[..4].iter().all(|value| *value == Some(&[7; 100])));
        assert_eq!(values[4], None);
        assert!(meta.trees[0].get(&store, &broken_key).is_err());
    }

    fn tree_leaf(store: &Store<HeapPages>, tree: &Tree, key: &[u8]) -> u64 {
        let (_, leaf) = tree.locate_leaf(store, key).unwrap();
        header(leaf).page.get()
    }
}
