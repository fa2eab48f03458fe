//! The bytes of page format 1: what was written once stays readable, and nobody changes the layout
//! unawares. The file holds every row of 16 bytes that is not zero.
//! Source: docs/format/page.md.
#![allow(clippy::unwrap_used, reason = "a test's support code may panic")]

use engine::page::heap::HeapPages;
use engine::page::layout::{RUN_REF_BYTES, RunRef};
use engine::page::limits::TREES;
use engine::page::meta::choose_meta;
use engine::page::store::Store;
use engine::tree::verify::verify;
use engine::tree::{Mark, Tree};
use std::fmt::Write;

const GOLDEN: &str = include_str!("../testdata/page-1.hex");

/// Two checkpoints of every kind of page and cell: leaves, a branch, long keys, a long separator, a
/// value's run, free and pending pages.
fn written() -> Vec<u8> {
    let mut store = Store::create(HeapPages::new(), 11);
    let mut trees = [Tree::EMPTY; TREES];
    for interval in 1..=4u8 {
        for number in 0..3 {
            let key = [b"prefix", &[b'a' + number, interval][..]].concat();
            let mark = Mark { weighs: number == 1, visit: false };
            trees[0].insert(&mut store, &key, &[interval; 12], mark).unwrap();
        }
        let long = [vec![b'l'; 600], vec![interval]].concat();
        trees[1].insert(&mut store, &long, &[7; 1_950], Mark::default()).unwrap();
        if interval % 2 == 1 {
            let run = store.write_run(&[interval; 20]);
            let mark = Mark { weighs: false, visit: true };
            trees[2].insert(&mut store, &[interval], &run.encode(), mark).unwrap();
        }
        if interval == 3 {
            let run = RunRef::decode(trees[2].get(&store, &[1]).unwrap().unwrap()).unwrap();
            store.free_run(&run);
            assert!(trees[2].remove(&mut store, &[1]).unwrap());
        }
        let applied_index = 100 + interval as u64;
        let plan = store.end_interval(&mut trees, applied_index, &[b's', interval]);
        store.map_mut().write_plan(&plan);
        store.checkpoint_durable(interval as u64);
    }
    store.map().bytes().to_vec()
}

fn dump(file: &[u8]) -> String {
    let mut text = String::new();
    for (slot, row) in file.chunks(16).enumerate() {
        if row.iter().any(|byte| *byte != 0) {
            write!(text, "{:05x}:", slot * 16).unwrap();
            for byte in row {
                write!(text, " {byte:02x}").unwrap();
            }
            text.push('\n');
        }
    }
    text
}

fn undump(text: &str) -> Vec<u8> {
    let mut file = Vec::new();
    for line in text.lines() {
        let (offset, row) = line.split_once(':').unwrap();
        let offset = usize::from_str_radix(offset, 16).unwrap();
        let page_end = (offset / 4_096 + 1) * 4_096;
        file.resize(page_end.max(file.len()), 0);
        for (slot, byte) in row.split_whitespace().enumerate() {
            file[offset + slot] = u8::from_str_radix(byte, 16).unwrap();
        }
    }
    file
}

#[test]
fn what_is_written_is_the_golden_file() {
    let text = dump(&written());
    let differs = text.lines().zip(GOLDEN.lines()).find(|(now, then)| now != then);
    assert_eq!(differs, None, "the page format changed");
    assert_eq!(text.len(), GOLDEN.len());
}

#[test]
fn the_golden_file_is_readable() {
    let mut pages = HeapPages::new();
    *pages.bytes_mut() = undump(GOLDEN);
    let [slot_0, slot_1] = pages.meta_slots();
    let newest = choose_meta(&slot_0, &slot_1).unwrap().unwrap();
    assert_eq!((newest.group, newest.interval, newest.applied_index), (11, 4, 104));
    assert_eq!(newest.state, [b's', 4]);
    let store = Store::open(pages, &newest).unwrap();
    let entries = verify(&store, &newest.trees, &mut |entry, runs| {
        if entry.tree == 2 {
            assert_eq!(entry.value.len(), RUN_REF_BYTES);
            runs.extend(RunRef::decode(entry.value));
        }
    });
    assert_eq!(entries.unwrap(), 12 + 4 + 1);
    let [keys, long_keys, runs] = newest.trees;
    assert_eq!(keys.get(&store, b"prefixb\x03").unwrap().unwrap(), [3; 12]);
    assert_eq!((keys.weight, long_keys.height, runs.visit), (4, 2, true));
    let run = RunRef::decode(runs.get(&store, &[3]).unwrap().unwrap()).unwrap();
    assert_eq!(store.read_run(&run).unwrap(), [3; 20]);
    assert!(0 < store.counters().pages_free && 0 < store.counters().pages_pending);
}
