//! The trees against ordered maps: random changes, cursors both ways, trims, intervals, crashes and
//! reopening; two replicas of one history must be equal byte by byte.
//!
//! Every run is a function of its seed. Values may own overflow runs, as those of the store do.
#![allow(clippy::unwrap_used)]

use engine::page::checkpoint::CheckpointPlan;
use engine::page::heap::HeapPages;
use engine::page::layout::{RUN_REF_BYTES, RunRef};
use engine::page::limits::{TREES, VALUE_INLINE_BYTES_MAX};
use engine::page::map::PageMap;
use engine::page::meta::{Meta, choose_meta};
use engine::page::store::Store;
use engine::tree::verify::{VerifiedEntry, verify};
use engine::tree::{Mark, Tree, Trimmed};
use std::collections::BTreeMap;

/// A replica: its store, its trees, and the checkpoint it would come back to.
struct Replica {
    store: Store<HeapPages>,
    trees: [Tree; TREES],
    plan: Option<CheckpointPlan>,
    /// Seals an interval's pages a few at a time; what comes of it is the same.
    seals_in_slices: bool,
}

#[derive(Clone, Debug, PartialEq)]
struct Entry {
    value: Vec<u8>,
    mark: Mark,
}

type Model = BTreeMap<Vec<u8>, Entry>;

impl Replica {
    fn new() -> Replica {
        Replica {
            store: Store::create(HeapPages::new(), 7),
            trees: [Tree::EMPTY; TREES],
            plan: None,
            seals_in_slices: false,
        }
    }

    /// Ends an interval; the plan stays on its way until `finish`.
    fn end_interval(&mut self, applied_index: u64) {
        self.finish();
        if self.seals_in_slices {
            while !self.store.seal_some(&self.trees, 7) {}
        }
        let state = applied_index.to_le_bytes();
        self.plan = Some(self.store.end_interval(&mut self.trees, applied_index, &state));
        assert!(!self.store.may_end_interval());
    }

    fn finish(&mut self) {
        if let Some(plan) = self.plan.take() {
            self.store.map_mut().write_plan(&plan);
            self.store.checkpoint_durable(plan.interval);
        }
    }

    /// Stops and starts again from the last checkpoint, which is the present state.
    fn reopen(&mut self) {
        self.finish();
        let pages = self.store.map().clone();
        let meta = newest(&pages);
        assert_eq!(meta.trees, self.trees);
        self.trees = meta.trees;
        self.store = Store::open(pages, &meta).unwrap();
    }

    fn verify(&self) {
        verify(&self.store, &self.trees, &mut owned_runs).unwrap();
    }
}

fn newest(pages: &HeapPages) -> Meta {
    let [slot_0, slot_1] = pages.meta_slots();
    choose_meta(&slot_0, &slot_1).unwrap().unwrap()
}

fn all_of_history(replica: &Replica) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut cursor = replica.trees[1].cursor(&replica.store);
    let mut on_entry = cursor.seek_at_or_after(&[]).unwrap();
    let mut all = Vec::new();
    while on_entry {
        all.push((cursor.key().unwrap().to_vec(), cursor.value().to_vec()));
        on_entry = cursor.next().unwrap();
    }
    all
}

/// A value that begins with 'R' owns the run it names.
fn owned_runs(entry: VerifiedEntry<'_>, runs: &mut Vec<RunRef>) {
    runs.extend(run_of(entry.value));
}

fn run_of(value: &[u8]) -> Option<RunRef> {
    (value.first() == Some(&b'R')).then(|| RunRef::decode(&value[1..1 + RUN_REF_BYTES]).unwrap())
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

/// What a run's keys and values are like.
#[derive(Clone, Copy, Debug)]
struct Shape {
    keys: u64,
    long_keys_percent: u64,
    /// Bytes that all shorter keys begin with: long separators make high trees.
    common_prefix_bytes: usize,
    value_size_bytes_max: u64,
    removals_percent: u64,
    flagged_percent: u64,
}

fn random_key(random: &mut Random, shape: Shape) -> Vec<u8> {
    let number = random.below(shape.keys);
    // The kind and length of a key are functions of its number, so that keys come again.
    let mut own = Random(number);
    if own.below(100) < shape.long_keys_percent {
        let mut key = vec![b'x'; 40 + own.below(2) as usize * (460 + own.below(9_000) as usize)];
        key.extend_from_slice(&number.to_be_bytes());
        key.resize(key.len() + own.below(600) as usize, b'y');
        return key;
    }
    let mut key = vec![b'c'; shape.common_prefix_bytes];
    let spread = own.next().to_be_bytes();
    key.extend_from_slice(&spread[..1 + own.below(8) as usize]);
    key.extend_from_slice(&number.to_be_bytes()[8 - own.below(3) as usize - 2..]);
    if shape.common_prefix_bytes == 0 && own.below(8) == 0 {
        key.resize(key.len() + own.below(500) as usize, b'k');
    }
    key
}

struct Pair {
    replicas: [Replica; 2],
    models: [Model; TREES],
    random: Random,
    shape: Shape,
    applied_index: u64,
}

impl Pair {
    fn new(seed: u64, shape: Shape) -> Pair {
        Pair {
            replicas: [Replica::new(), Replica { seals_in_slices: true, ..Replica::new() }],
            models: Default::default(),
            random: Random(seed),
            shape,
            applied_index: 0,
        }
    }

    fn insert(&mut self) {
        let key = random_key(&mut self.random, self.shape);
        let slot = self.random.below(TREES as u64) as usize;
        let size = match self.random.below(10) {
            0 => 0,
            1 => VALUE_INLINE_BYTES_MAX,
            _ => self.random.below(self.shape.value_size_bytes_max) as usize,
        };
        let fill = self.random.next() as u8 | 0x80;
        let mark = Mark {
            weighs: self.random.below(2) == 0,
            visit: self.random.below(100) < self.shape.flagged_percent,
        };
        let run_size = (self.random.below(20) == 0).then(|| self.random.below(70_000) as usize);
        let before = self.models[slot].get(&key).cloned();
        let mut values = Vec::new();
        for replica in &mut self.replicas {
            let mut value = vec![fill; size];
            if let Some(run_size) = run_size {
                let run = replica.store.write_run(&vec![fill; run_size]);
                assert_eq!(replica.store.read_run(&run).unwrap(), vec![fill; run_size]);
                value = [b"R", &run.encode()[..], &value[..size.min(900)]].concat();
            }
            if let Some(run) = before.as_ref().and_then(|entry| run_of(&entry.value)) {
                replica.store.free_run(&run);
            }
            let tree = &mut replica.trees[slot];
            tree.warm(&replica.store, &key).unwrap();
            let found = tree.insert(&mut replica.store, &key, &value, mark).unwrap();
            assert_eq!(found, before.is_some());
            values.push(value);
        }
        assert_eq!(values[0], values[1], "replicas allocate the same runs");
        let mark = if run_size.is_some() { Mark { visit: true, ..mark } } else { mark };
        if run_size.is_some() {
            for replica in &mut self.replicas {
                replica.trees[slot].insert(&mut replica.store, &key, &values[0], mark).unwrap();
            }
        }
        self.models[slot].insert(key, Entry { value: values.swap_remove(0), mark });
    }

    fn remove(&mut self) {
        let slot = self.random.below(TREES as u64) as usize;
        let mut key = random_key(&mut self.random, self.shape);
        if self.random.below(4) != 0
            && let Some((near, _)) = self.models[slot].range(key.clone()..).next()
        {
            key = near.clone();
        }
        let before = self.models[slot].remove(&key);
        for replica in &mut self.replicas {
            if let Some(run) = before.as_ref().and_then(|entry| run_of(&entry.value)) {
                replica.store.free_run(&run);
            }
            let found = replica.trees[slot].remove(&mut replica.store, &key).unwrap();
            assert_eq!(found, before.is_some());
        }
    }

    fn trim(&mut self) {
        let slot = self.random.below(TREES as u64) as usize;
        let key = random_key(&mut self.random, self.shape);
        let pages_max = 1 + self.random.below(40) as usize;
        let kept = self.models[slot].split_off(&key);
        let gone = std::mem::replace(&mut self.models[slot], kept);
        for replica in &mut self.replicas {
            let mut flagged = Vec::new();
            loop {
                let mut on_flagged =
                    |key: &[u8], value: &[u8]| flagged.push((key.to_vec(), value.to_vec()));
                let tree = &mut replica.trees[slot];
                let trimmed =
                    tree.trim_before(&mut replica.store, &key, pages_max, &mut on_flagged);
                if trimmed.unwrap() == Trimmed::Done {
                    break;
                }
            }
            let expected: Vec<_> = gone
                .iter()
                .filter(|(_, entry)| entry.mark.visit)
                .map(|(key, entry)| (key.clone(), entry.value.clone()))
                .collect();
            assert_eq!(flagged, expected);
            for run in flagged.iter().filter_map(|(_, value)| run_of(value)) {
                replica.store.free_run(&run);
            }
        }
    }

    fn check_reads(&mut self) {
        let slot = self.random.below(TREES as u64) as usize;
        let model = &self.models[slot];
        let start = random_key(&mut self.random, self.shape);
        let end = random_key(&mut self.random, self.shape);
        let (store, tree) = (&self.replicas[0].store, &self.replicas[0].trees[slot]);
        let expected = model.get(&start).map(|entry| &entry.value[..]);
        assert_eq!(tree.get(store, &start).unwrap(), expected);
        assert_eq!(tree.entries, model.len() as u64);
        let (mut entries, mut weight) = (0, 0);
        if start < end {
            for (_, entry) in model.range(start.clone()..end.clone()) {
                entries += 1;
                weight += entry.mark.weighs as u64;
            }
        }
        assert_eq!(tree.count_range(store, &start, Some(&end)).unwrap(), entries);
        assert_eq!(tree.weight_range(store, &start, Some(&end)).unwrap(), weight);
        let rest = model.range(start.clone()..).count() as u64;
        assert_eq!(tree.count_range(store, &start, None).unwrap(), rest);
        self.check_cursors(slot, &start);
    }

    fn check_cursors(&self, slot: usize, key: &[u8]) {
        let model = &self.models[slot];
        let (store, tree) = (&self.replicas[0].store, &self.replicas[0].trees[slot]);
        let mut cursor = tree.cursor(store);
        let mut stands = cursor.seek_at_or_after(key).unwrap();
        for (key, entry) in model.range(key.to_vec()..).take(30) {
            assert!(stands);
            assert_eq!(cursor.key().unwrap(), key);
            assert_eq!((cursor.value(), cursor.mark()), (&entry.value[..], entry.mark));
            assert_eq!(cursor.key_run().is_some(), 512 < key.len());
            stands = cursor.next().unwrap();
        }
        stands = cursor.seek_at_or_before(key).unwrap();
        for (key, entry) in model.range(..=key.to_vec()).rev().take(30) {
            assert!(stands);
            assert_eq!(cursor.key().unwrap(), key);
            assert_eq!((cursor.value(), cursor.mark()), (&entry.value[..], entry.mark));
            stands = cursor.prev().unwrap();
        }
        assert_eq!(cursor.seek_first().unwrap(), !model.is_empty());
        if let Some((first, _)) = model.first_key_value() {
            assert_eq!(cursor.key().unwrap(), first);
            assert!(cursor.seek_last().unwrap());
            assert_eq!(cursor.key().unwrap(), model.last_key_value().unwrap().0);
            assert!(!cursor.next().unwrap() && !cursor.is_on_entry());
        }
    }

    /// Both end the interval; one of them may stop and start again.
    fn end_interval(&mut self) {
        self.applied_index += 1;
        let restarts = self.random.below(3) == 0;
        for replica in &mut self.replicas {
            replica.end_interval(self.applied_index);
        }
        let [one, other] = &mut self.replicas;
        let plans = [one.plan.as_ref().unwrap(), other.plan.as_ref().unwrap()];
        assert_eq!(plans[0].meta, plans[1].meta, "replicas have the same checkpoint");
        assert!(plans[0].writes.is_sorted_by_key(|write| write.first));
        if restarts {
            other.reopen();
        }
        one.verify();
    }

    fn check_equal(&mut self) {
        for replica in &mut self.replicas {
            replica.finish();
            replica.verify();
        }
        let bytes = [self.replicas[0].store.map().bytes(), self.replicas[1].store.map().bytes()];
        assert!(bytes[0] == bytes[1], "replicas are equal byte by byte");
        for (tree, model) in self.replicas[1].trees.iter().zip(&self.models) {
            let mut cursor = tree.cursor(&self.replicas[1].store);
            let mut stands = cursor.seek_first().unwrap();
            for (key, entry) in model {
                assert!(stands);
                assert_eq!(cursor.key().unwrap(), key);
                assert_eq!((cursor.value(), cursor.mark()), (&entry.value[..], entry.mark));
                stands = cursor.next().unwrap();
            }
            assert!(!stands);
        }
    }
}

/// Returns the greatest height of the first tree.
fn run_history(seed: u64, shape: Shape, steps: u64) -> u8 {
    let mut pair = Pair::new(seed, shape);
    let mut height = 0;
    for step in 0..steps {
        match pair.random.below(1_000) {
            0..=2 => pair.trim(),
            3..=9 => pair.end_interval(),
            10..=59 => pair.check_reads(),
            choice if choice % 100 < shape.removals_percent => pair.remove(),
            _ => pair.insert(),
        }
        height = height.max(pair.replicas[0].trees[0].height);
        if step % 4_096 == 0 {
            pair.replicas[0].verify();
        }
    }
    pair.end_interval();
    pair.check_equal();
    // Empty the trees: nothing but the freelist may stay.
    for slot in 0..TREES {
        while let Some((key, entry)) = pair.models[slot].pop_last() {
            for replica in &mut pair.replicas {
                if let Some(run) = run_of(&entry.value) {
                    replica.store.free_run(&run);
                }
                assert!(replica.trees[slot].remove(&mut replica.store, &key).unwrap());
            }
        }
        assert_eq!(pair.replicas[0].trees[slot], Tree::EMPTY);
    }
    pair.end_interval();
    pair.check_equal();
    height
}

#[test]
fn small_values_and_many_removals() {
    let shape = Shape {
        keys: 3_000,
        long_keys_percent: 0,
        common_prefix_bytes: 0,
        value_size_bytes_max: 60,
        removals_percent: 45,
        flagged_percent: 3,
    };
    for seed in 0..3 {
        assert!(2 <= run_history(seed, shape, 30_000));
    }
}

#[test]
fn big_values_of_all_sizes() {
    let shape = Shape {
        keys: 1_500,
        long_keys_percent: 0,
        common_prefix_bytes: 0,
        value_size_bytes_max: VALUE_INLINE_BYTES_MAX as u64,
        removals_percent: 30,
        flagged_percent: 20,
    };
    for seed in 10..13 {
        assert!(2 <= run_history(seed, shape, 12_000));
    }
}

#[test]
fn high_trees() {
    let shape = Shape {
        keys: 6_000,
        long_keys_percent: 2,
        common_prefix_bytes: 490,
        value_size_bytes_max: 200,
        removals_percent: 30,
        flagged_percent: 2,
    };
    for seed in 30..32 {
        let height = run_history(seed, shape, 25_000);
        assert!(4 <= height, "a height of {height}");
    }
}

#[test]
fn long_keys_with_long_common_prefixes() {
    let shape = Shape {
        keys: 400,
        long_keys_percent: 70,
        common_prefix_bytes: 0,
        value_size_bytes_max: 300,
        removals_percent: 35,
        flagged_percent: 1,
    };
    for seed in 20..23 {
        assert!(2 <= run_history(seed, shape, 6_000));
    }
}

#[test]
fn keys_of_two_mebibytes() {
    let mut replica = Replica::new();
    let key = |last: u8| [vec![b'k'; (2 << 20) - 1], vec![last]].concat();
    for last in [3, 1, 2, 9, 7] {
        let tree = &mut replica.trees[0];
        assert!(
            !tree.insert(&mut replica.store, &key(last), &[last; 1_900], Mark::default()).unwrap()
        );
    }
    replica.end_interval(1);
    replica.reopen();
    replica.verify();
    let (store, tree) = (&replica.store, replica.trees[0]);
    assert!(1 < tree.height, "values this big need several leaves, so long separators");
    assert_eq!(tree.get(store, &key(7)).unwrap().unwrap(), [7; 1_900]);
    assert_eq!(tree.get(store, &key(8)).unwrap(), None);
    assert_eq!(tree.count_range(store, &key(2), Some(&key(9))).unwrap(), 3);
    let mut cursor = tree.cursor(store);
    assert!(cursor.seek_at_or_before(&key(6)).unwrap());
    assert_eq!(cursor.key().unwrap(), key(3));
    for last in [1, 2, 3, 7, 9] {
        assert!(replica.trees[0].remove(&mut replica.store, &key(last)).unwrap());
        replica.verify();
    }
    assert_eq!(replica.trees[0], Tree::EMPTY);
}

#[test]
fn a_long_keys_run_stays_when_its_value_is_replaced() {
    let mut replica = Replica::new();
    let key = vec![b'l'; 700];
    let mut runs = Vec::new();
    for size in [0, 1_900, 10, 10] {
        let tree = &mut replica.trees[0];
        tree.insert(&mut replica.store, &key, &vec![1; size], Mark::default()).unwrap();
        replica.end_interval(runs.len() as u64 + 1);
        let mut cursor = replica.trees[0].cursor(&replica.store);
        assert!(cursor.seek_first().unwrap());
        runs.push(cursor.key_run().unwrap());
    }
    assert!(runs.iter().all(|run| *run == runs[0]));
}

#[test]
fn appended_entries_leave_full_pages() {
    let mut replica = Replica::new();
    for number in 0..20_000u64 {
        let tree = &mut replica.trees[1];
        tree.insert(&mut replica.store, &number.to_be_bytes(), &[5; 100], Mark::default()).unwrap();
    }
    // 117 bytes an entry with its slot: 34 a leaf.
    let leaves = 20_000u64.div_ceil(34);
    let pages = replica.store.counters().pages_dirty;
    assert!(leaves <= pages && pages <= leaves + leaves / 40 + 3, "{pages} pages");
}

#[test]
fn appending_makes_the_tree_that_inserting_makes() {
    let mut random = Random(11);
    let mut replicas = [Replica::new(), Replica::new()];
    let mut trimmed = 0;
    for main in 0..60_000_u64 {
        let value =
            vec![(main % 64) as u8; random.below(if main < 30_000 { 40 } else { 1_900 }) as usize];
        let mark = Mark { weighs: random.below(3) == 0, visit: random.below(50) == 0 };
        let ends = random.below(4_000) == 0;
        let trims = random.below(3_000) == 0;
        for (appends, replica) in replicas.iter_mut().enumerate() {
            let Replica { store, trees: [_, history, _], .. } = replica;
            let key = main.to_be_bytes();
            if appends == 1 {
                history.append(store, &key, &value, mark).unwrap();
            } else {
                assert!(!history.insert(store, &key, &value, mark).unwrap());
            }
            if trims {
                let bound = (trimmed + (main - trimmed) * 2 / 3).to_be_bytes();
                while history.trim_before(store, &bound, 7, &mut |_, _| {}).unwrap()
                    == Trimmed::More
                {}
            }
            if ends || main == 59_999 {
                replica.end_interval(main);
                replica.verify();
            }
        }
        if trims {
            trimmed += (main - trimmed) * 2 / 3;
        }
        if ends || main == 59_999 {
            let shapes = replicas.each_ref().map(|replica| {
                let [_, history, _] = replica.trees;
                let Tree { height, visit, entries, weight, .. } = history;
                (height, visit, entries, weight, replica.store.counters().pages)
            });
            assert_eq!(shapes[0], shapes[1]);
            let contents = replicas.each_ref().map(all_of_history);
            assert!(contents[0] == contents[1], "at {main}");
        }
    }
    assert!(3 <= replicas[1].trees[1].height && 5 < replicas[1].store.interval());
}

#[test]
fn every_flipped_byte_of_a_page_is_found() {
    let mut replica = Replica::new();
    for number in 0..200u64 {
        let tree = &mut replica.trees[0];
        tree.insert(&mut replica.store, &number.to_be_bytes(), &[6; 300], Mark::default()).unwrap();
    }
    replica.end_interval(1);
    replica.finish();
    let tree = replica.trees[0];
    let clean = replica.store.map().clone();
    let leaf_number = (2..clean.bytes().len() / 4_096)
        .find(|&page| clean.bytes()[page * 4_096 + 24] == 1)
        .unwrap();
    let key_at = clean.bytes()[leaf_number * 4_096..].windows(7).position(|w| w == [0; 7]).unwrap();
    assert!(key_at < 4_096);
    for byte in 0..4_096 {
        let pages = replica.store.map_mut().bytes_mut();
        pages[leaf_number * 4_096 + byte] ^= 1 << (byte % 8);
        let broken =
            (0..200u64).filter_map(|number| tree.get(&replica.store, &number.to_be_bytes()).err());
        let mut pages_broken: Vec<u64> = broken.map(|corruption| corruption.page.0).collect();
        pages_broken.dedup();
        assert_eq!(pages_broken, [leaf_number as u64], "byte {byte}");
        replica.store.map_mut().bytes_mut()[leaf_number * 4_096 + byte] ^= 1 << (byte % 8);
    }
    replica.verify();
}

#[test]
fn a_lost_write_is_found_although_the_old_page_is_whole() {
    let mut replica = Replica::new();
    replica.trees[0].insert(&mut replica.store, b"a", b"1", Mark::default()).unwrap();
    replica.end_interval(1);
    replica.finish();
    // The place of a page of interval 4 holds a whole page of interval 1.
    for interval in 2..=4 {
        replica.trees[0].insert(&mut replica.store, b"a", b"2", Mark::default()).unwrap();
        replica.end_interval(interval);
        if interval < 4 {
            replica.finish();
        }
    }
    let plan = replica.plan.take().unwrap();
    let root = replica.trees[0].root;
    assert!(replica.store.map().pages(root, 1, replica.trees[0].checksum).is_err());
    let mut lost = plan.clone();
    lost.writes.retain(|write| write.first != root);
    let mut pages = replica.store.map().clone();
    pages.write_plan(&lost);
    let meta = newest(&pages);
    assert_eq!(meta.interval, 4);
    assert_eq!(Store::open(pages, &meta).unwrap_err().page, root);
}

#[test]
fn a_random_order_keeps_pages_well_filled() {
    let mut replica = Replica::new();
    let mut random = Random(99);
    let entries = 60_000;
    for _ in 0..entries {
        let key = [random.next().to_be_bytes(), random.next().to_be_bytes()].concat();
        let tree = &mut replica.trees[0];
        tree.insert(&mut replica.store, &key, &[7; 304], Mark::default()).unwrap();
    }
    let bytes = replica.store.counters().pages_dirty * 4_096;
    let factor = bytes as f64 / (entries as f64 * 320.0);
    assert!(factor < 1.45, "{factor} times the entries' bytes");
    println!("random order: {factor:.3} times the entries' bytes");
}
