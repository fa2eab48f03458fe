//! What the trees read: a change reads only what was warmed before, a trim no leaf without a flag.

#![allow(clippy::unwrap_used)]

use engine::page::checkpoint::CheckpointPlan;
use engine::page::heap::HeapPages;
use engine::page::limits::TREES;
use engine::page::map::{Checksum, Corruption, PAGE_SIZE_BYTES, PageMap, PageNumber};
use engine::page::store::Store;
use engine::tree::verify::verify;
use engine::tree::{Mark, Tree, Trimmed};
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;

/// A heap map that knows what was read and may refuse what was not.
#[derive(Debug, Default)]
struct WatchedPages {
    inner: HeapPages,
    read: RefCell<BTreeSet<u64>>,
    refuses: Cell<bool>,
}

impl PageMap for WatchedPages {
    fn pages(
        &self,
        first: PageNumber,
        count: u32,
        expected: Checksum,
    ) -> Result<&[u8], Corruption> {
        let is_new = self.read.borrow_mut().insert(first.0);
        if is_new && self.refuses.get() {
            return Err(Corruption { page: first, count, expected, found: None });
        }
        self.inner.pages(first, count, expected)
    }

    fn forget(&self, first: PageNumber, count: u32) {
        self.inner.forget(first, count);
    }
}

impl WatchedPages {
    fn write_plan(&mut self, plan: &CheckpointPlan) {
        self.inner.write_plan(plan);
        self.read.borrow_mut().clear();
    }

    fn leaves_read(&self) -> usize {
        let kind = |page: u64| self.inner.bytes()[page as usize * PAGE_SIZE_BYTES + 24];
        self.read.borrow().iter().filter(|&&page| kind(page) == 1).count()
    }
}

type Watched = (Store<WatchedPages>, [Tree; TREES]);

fn end_interval((store, trees): &mut Watched) {
    let interval = store.interval();
    let plan = store.end_interval(trees, interval, &[]);
    store.map_mut().write_plan(&plan);
    store.checkpoint_durable(interval);
}

fn start() -> Watched {
    (Store::create(WatchedPages::default(), 1), [Tree::EMPTY; TREES])
}

/// SplitMix64.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A key of 420 bytes, so that branches are small and the tree is high, or of 620.
fn key(number: u64) -> Vec<u8> {
    let prefix = vec![b'k'; if number.is_multiple_of(9) { 600 } else { 400 }];
    [&prefix[..], &number.to_be_bytes(), &[0; 12]].concat()
}

#[test]
fn a_change_reads_only_what_was_warmed() {
    let mut watched = start();
    let mut random = 4;
    for _ in 0..3_000 {
        let (store, trees) = &mut watched;
        let number = next(&mut random) % 4_000;
        trees[0].insert(store, &key(number), &[1; 300], Mark::default()).unwrap();
    }
    assert!(4 <= watched.1[0].height);
    end_interval(&mut watched);
    let (mut inserted, mut removed) = (0, 0);
    for round in 0..6_000u64 {
        let (store, trees) = &mut watched;
        let number = next(&mut random) % 4_000;
        let size = (next(&mut random) % 1_900) as usize;
        store.map().read.borrow_mut().clear();
        trees[0].warm(store, &key(number)).unwrap();
        store.map().refuses.set(true);
        // First it grows, then it shrinks: splits and joins.
        if next(&mut random) % 4 < if round < 3_000 { 3 } else { 1 } {
            trees[0].insert(store, &key(number), &vec![2; size], Mark::default()).unwrap();
            inserted += 1;
        } else {
            removed += trees[0].remove(store, &key(number)).unwrap() as u64;
        }
        store.map().refuses.set(false);
        if round % 10 == 0 {
            end_interval(&mut watched);
        }
    }
    let (store, trees) = &watched;
    verify(store, trees, &mut |_, _| ()).unwrap();
    assert!(1_000 < inserted && 1_000 < removed);
}

#[test]
fn a_trim_reads_no_leaf_without_a_flag() {
    let mut watched = start();
    let entries = 40_000u64;
    let flagged = 20_000u64;
    for number in 0..entries {
        let (store, trees) = &mut watched;
        let mark = Mark { weighs: true, visit: number == flagged };
        trees[0].insert(store, &number.to_be_bytes(), &[3; 200], mark).unwrap();
    }
    assert!(3 <= watched.1[0].height);
    end_interval(&mut watched);
    let mut shown = Vec::new();
    let mut rounds = 0;
    let (mut left_before, pages_max) = (entries, 100);
    loop {
        let (store, trees) = &mut watched;
        let mut on_flagged = |key: &[u8], _: &[u8]| shown.push(key.to_vec());
        let key = 30_000u64.to_be_bytes();
        let trimmed = trees[0].trim_before(store, &key, pages_max, &mut on_flagged).unwrap();
        let left = trees[0].entries;
        // A leaf holds up to 18 of them.
        assert!(left < left_before && left_before - left <= (pages_max as u64 + 1) * 18);
        left_before = left;
        rounds += 1;
        if trimmed == Trimmed::Done {
            break;
        }
        let (store, trees) = &watched;
        assert_eq!(trees[0].weight_range(store, &[], None).unwrap(), left);
    }
    assert_eq!(watched.1[0].entries, entries - 30_000);
    assert_eq!(shown, [flagged.to_be_bytes()]);
    assert!(30_000 / (pages_max as u64 * 18) <= rounds);
    // The flagged leaf, the one with the key's place, and that one's neighbour.
    assert!(watched.0.map().leaves_read() <= 3, "{} leaves", watched.0.map().leaves_read());
    verify(&watched.0, &watched.1, &mut |_, _| ()).unwrap();
}

#[test]
fn a_trim_removes_all_that_lies_below_whatever_the_branches_are() {
    let mut random = 6;
    for round in 0..12 {
        let mut watched = start();
        let (store, trees) = &mut watched;
        let entries = 500 + next(&mut random) % 1_500;
        for number in 0..entries {
            trees[0].insert(store, &key(number * 2), &[3; 900], Mark::default()).unwrap();
        }
        // Removals in the middle leave branches with few children.
        let start = next(&mut random) % entries;
        for number in start..entries.min(start + round * 100) {
            assert!(trees[0].remove(store, &key(number * 2)).unwrap());
        }
        let mut number = 0;
        while 0 < trees[0].entries {
            let mut cursor = trees[0].cursor(store);
            number += next(&mut random) % (entries / 4);
            let ahead = if number < entries * 2 { key(number) } else { vec![b'z'] };
            let is_behind = !cursor.seek_at_or_before(&ahead).unwrap();
            let expected = trees[0].count_range(store, &ahead, None).unwrap();
            let pages_max = 1 + (next(&mut random) % 50) as usize;
            let before = trees[0].entries;
            while trees[0].trim_before(store, &ahead, pages_max, &mut |_, _| ()).unwrap()
                == Trimmed::More
            {}
            assert_eq!(trees[0].entries, expected);
            assert!(!is_behind || before == expected);
            verify(store, trees, &mut |_, _| ()).unwrap();
        }
    }
}
