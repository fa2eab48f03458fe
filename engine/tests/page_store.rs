//! The page store by itself: meta pages, crashes in the middle of a checkpoint, space given back.

#![allow(clippy::unwrap_used)]

use engine::page::checkpoint::{CheckpointPlan, PageWrite};
use engine::page::heap::HeapPages;
use engine::page::layout::{PageRef, RunRef};
use engine::page::limits::{META_INDEXES_MAX, META_STATE_BYTES_MAX, PUNCH_PAGES_MIN, TREES};
use engine::page::map::{Checksum, PAGE_SIZE_BYTES, PageNumber};
use engine::page::meta::{Meta, MetaBroken, SlotState, choose_meta};
use engine::page::store::Store;
use engine::tree::verify::verify;
use engine::tree::{Mark, Tree};
use std::collections::BTreeMap;

fn meta(interval: u64) -> Meta {
    Meta {
        group: 3,
        interval,
        applied_index: 10 * interval,
        page_count: 99,
        trees: [Tree { root: PageNumber(5), height: 2, visit: true, ..Tree::EMPTY }; TREES],
        state: vec![interval as u8; META_STATE_BYTES_MAX],
        pending: PageRef::new(PageNumber(7), Checksum(8)),
        indexes: [PageRef::new(PageNumber(9), Checksum(10)); META_INDEXES_MAX],
    }
}

const ZEROS: [u8; PAGE_SIZE_BYTES] = [0; PAGE_SIZE_BYTES];

#[test]
fn the_newest_whole_meta_page_is_chosen() {
    let (even, odd) = (meta(4).encode(), meta(5).encode());
    assert_eq!(choose_meta(&ZEROS, &ZEROS), Ok(None));
    assert_eq!(choose_meta(&even, &odd), Ok(Some(meta(5))));
    assert_eq!(choose_meta(&meta(6).encode(), &odd), Ok(Some(meta(6))));
    assert_eq!(choose_meta(&ZEROS, &odd), Ok(Some(meta(5))));
    assert_eq!(choose_meta(&even, &ZEROS), Ok(Some(meta(4))));
    // In the other's slot it is not what was to be written there.
    let broken = MetaBroken { slots: [SlotState::Broken, SlotState::NeverWritten] };
    assert_eq!(choose_meta(&odd, &ZEROS), Err(broken));
    assert_eq!(choose_meta(&odd[..100], &ZEROS), Err(broken));
}

#[test]
fn every_flipped_byte_of_a_meta_page_is_found() {
    let even = meta(4).encode();
    let mut odd = meta(5).encode();
    for byte in 0..PAGE_SIZE_BYTES {
        odd[byte] ^= 1 << (byte % 8);
        assert_eq!(choose_meta(&even, &odd), Ok(Some(meta(4))), "byte {byte}");
        let broken = MetaBroken { slots: [SlotState::NeverWritten, SlotState::Broken] };
        assert_eq!(choose_meta(&ZEROS, &odd), Err(broken), "byte {byte}");
        odd[byte] ^= 1 << (byte % 8);
    }
}

#[test]
fn a_run_reference_is_checked_when_decoded() {
    let run = RunRef::new(PageNumber(12), 5_000, Checksum(1));
    assert_eq!(run.pages(), 2);
    assert_eq!(RunRef::decode(&run.encode()), Some(run));
    let mut altered = run.encode();
    altered[20] = 3;
    assert_eq!(RunRef::decode(&altered), None);
    assert_eq!(RunRef::decode(&run.encode()[1..]), None);
    assert_eq!(RunRef::decode(&[0xff; 24]), None);
}

/// SplitMix64.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

type Model = BTreeMap<[u8; 4], Vec<u8>>;

/// A few hundred changes of the first tree.
fn change(store: &mut Store<HeapPages>, tree: &mut Tree, model: &mut Model, random: &mut u64) {
    for _ in 0..300 {
        let key = ((next(random) % 700) as u32).to_be_bytes();
        if next(random).is_multiple_of(3) {
            tree.remove(store, &key).unwrap();
            model.remove(&key);
        } else {
            let value = vec![next(random) as u8; (next(random) % 300) as usize];
            tree.insert(store, &key, &value, Mark::default()).unwrap();
            model.insert(key, value);
        }
    }
}

fn read_all(store: &Store<HeapPages>, tree: Tree) -> Model {
    let mut cursor = tree.cursor(store);
    let mut all = Model::new();
    let mut stands = cursor.seek_first().unwrap();
    while stands {
        all.insert(cursor.key().unwrap().try_into().unwrap(), cursor.value().to_vec());
        stands = cursor.next().unwrap();
    }
    all
}

/// What a power cut may leave of a plan: any sectors of its pages, or all of them and any sectors
/// of its meta page.
fn crash(pages: &HeapPages, plan: &CheckpointPlan, random: &mut u64) -> HeapPages {
    let mut after = pages.clone();
    let meta = PageWrite { first: plan.meta_slot, bytes: plan.meta.clone() };
    let pages_synced = next(random).is_multiple_of(2);
    for write in plan.writes.iter().chain([&meta]) {
        let is_meta = write.first == plan.meta_slot;
        if is_meta && !pages_synced {
            continue;
        }
        let start = write.first.0 as usize * PAGE_SIZE_BYTES;
        let length = after.bytes().len().max(start + write.bytes.len());
        after.bytes_mut().resize(length, 0);
        for (slot, sector) in write.bytes.chunks(512).enumerate() {
            if (pages_synced && !is_meta) || next(random).is_multiple_of(2) {
                let at = start + slot * 512;
                after.bytes_mut()[at..at + sector.len()].copy_from_slice(sector);
            }
        }
    }
    after
}

#[test]
fn a_crash_in_the_middle_of_a_checkpoint_leaves_the_last_one() {
    let mut random = 77;
    let mut store = Store::create(HeapPages::new(), 1);
    let mut trees = [Tree::EMPTY; TREES];
    let mut model = Model::new();
    let mut model_before = Model::new();
    let mut came_through = 0;
    for interval in 1..40 {
        change(&mut store, &mut trees[0], &mut model, &mut random);
        let plan = store.end_interval(&mut trees, interval, b"state");
        for _ in 0..8 {
            let pages = crash(store.map(), &plan, &mut random);
            let [slot_0, slot_1] = pages.meta_slots();
            let found = match choose_meta(&slot_0, &slot_1) {
                Ok(found) => found,
                // The first checkpoint was torn.
                Err(broken) if interval == 1 => {
                    assert!(broken.slots.contains(&SlotState::NeverWritten));
                    continue;
                }
                Err(broken) => panic!("{broken}"),
            };
            let Some(meta) = found else {
                assert_eq!(interval, 1);
                continue;
            };
            let reopened = Store::open(pages, &meta).unwrap();
            verify(&reopened, &meta.trees, &mut |_, _| ()).unwrap();
            came_through += (meta.interval == interval) as u32;
            let expected = if meta.interval == interval { &model } else { &model_before };
            assert!(read_all(&reopened, meta.trees[0]) == *expected);
            assert!(meta.interval == interval || meta.interval + 1 == interval);
            assert_eq!((meta.applied_index, &meta.state[..]), (meta.interval, &b"state"[..]));
        }
        store.map_mut().write_plan(&plan);
        store.checkpoint_durable(interval);
        model_before = model.clone();
    }
    assert!(0 < came_through, "some meta pages were written whole");
}

#[test]
fn the_older_checkpoint_stays_whole_until_its_meta_page_is_overwritten() {
    let mut random = 78;
    let mut store = Store::create(HeapPages::new(), 1);
    let mut trees = [Tree::EMPTY; TREES];
    let mut model = Model::new();
    let mut older: Option<(Meta, Model)> = None;
    for interval in 1..40 {
        change(&mut store, &mut trees[0], &mut model, &mut random);
        let plan = store.end_interval(&mut trees, interval, &[]);
        for write in &plan.writes {
            store.map_mut().write(write);
        }
        // The pages of this interval are written; slots hold the last two meta pages still.
        if let Some((meta, model)) = &older {
            let reopened = Store::open(store.map().clone(), meta).unwrap();
            assert!(read_all(&reopened, meta.trees[0]) == *model);
        }
        let [slot_0, slot_1] = store.map().meta_slots();
        older = choose_meta(&slot_0, &slot_1).unwrap().map(|meta| {
            let reopened = Store::open(store.map().clone(), &meta).unwrap();
            let model = read_all(&reopened, meta.trees[0]);
            (meta, model)
        });
        store.map_mut().write_plan(&plan);
        store.checkpoint_durable(interval);
    }
}

#[test]
fn changes_go_on_while_a_plan_is_being_written() {
    let mut random = 79;
    let mut store = Store::create(HeapPages::new(), 1);
    let mut trees = [Tree::EMPTY; TREES];
    let mut model = Model::new();
    for interval in 1..20 {
        change(&mut store, &mut trees[0], &mut model, &mut random);
        let plan = store.end_interval(&mut trees, interval, &[]);
        let sealed: Vec<Vec<u8>> = plan.writes.iter().map(|write| write.bytes.to_vec()).collect();
        assert!(!store.may_end_interval());
        assert_eq!(store.punchable_run(PageNumber(0)), None);
        change(&mut store, &mut trees[0], &mut model, &mut random);
        assert!(read_all(&store, trees[0]) == model);
        let unchanged =
            plan.writes.iter().zip(&sealed).all(|(write, sealed)| *write.bytes == **sealed);
        assert!(unchanged, "a sealed page never changes");
        store.map_mut().write_plan(&plan);
        store.checkpoint_durable(interval);
        assert!(store.may_end_interval());
        verify(&store, &trees, &mut |_, _| ()).unwrap();
        assert!(read_all(&store, trees[0]) == model);
    }
}

#[test]
fn counters_and_free_runs_say_what_is_there() {
    let mut store = Store::create(HeapPages::new(), 1);
    let mut trees = [Tree::EMPTY; TREES];
    assert_eq!((store.counters().pages, store.dirty_pages()), (2, 0));
    let run = store.write_run(&[9; 40 * PAGE_SIZE_BYTES]);
    let runs = [run.encode(), store.write_run(&[1]).encode()].concat();
    trees[0].insert(&mut store, b"owner", &runs, Mark::default()).unwrap();
    assert_eq!(store.dirty_pages(), 40 + 1 + 1);
    assert_eq!(store.counters().arena_bytes, 42 * PAGE_SIZE_BYTES as u64);
    let finish = |store: &mut Store<HeapPages>, trees: &mut [Tree; TREES], interval| {
        let plan = store.end_interval(trees, interval, &[]);
        store.map_mut().write_plan(&plan);
        store.checkpoint_durable(interval);
        assert_eq!(store.counters().arena_bytes, 0);
        assert_eq!(store.dirty_pages(), 0);
    };
    finish(&mut store, &mut trees, 1);
    assert_eq!(store.read_run(&run).unwrap(), [9; 40 * PAGE_SIZE_BYTES]);
    store.free_run(&run);
    assert_eq!(store.counters().pages_pending, 40);
    finish(&mut store, &mut trees, 2);
    assert_eq!(store.punchable_run(PageNumber(0)), None, "the older meta page reaches it");
    finish(&mut store, &mut trees, 3);
    let (first, pages) = store.punchable_run(PageNumber(0)).unwrap();
    assert!(run.first() <= first && PUNCH_PAGES_MIN as u64 <= pages && pages <= 40);
    assert_eq!(store.punchable_run(PageNumber(first.0 + pages)), None);
    // Taken and given back in one interval, pages are free at once.
    let free = store.counters().pages_free;
    let again = store.write_run(&[8; 20 * PAGE_SIZE_BYTES]);
    assert!(run.first() <= again.first() && again.first().0 < run.first().0 + 40);
    store.free_run(&again);
    let touched = store.counters().pages_dirty;
    assert_eq!(store.counters().pages_free + touched, free);
}
