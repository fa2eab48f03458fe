//! What meets a broken page goes on when the page is mended, as if it had never been broken.

#![allow(clippy::unwrap_used)]

mod common;

use common::Replica;
use engine::api::*;
use engine::command;
use engine::engine::{Applied, ApplyError, Engine, Step};
use engine::mvcc::budget::WorkBudget;
use engine::page::heap::HeapPages;
use engine::page::map::{Corruption, PAGE_SIZE_BYTES};
use engine::page::meta::{Meta, choose_meta};

/// Small and large values, versions behind the newest, what was compacted; all in pages.
fn store() -> (HeapPages, Meta) {
    let mut replica = Replica { verifies: false, ..Replica::new(512) };
    for round in 0..3_u8 {
        for key in 0..300_u32 {
            let name = format!("{key:05}");
            let value = vec![round; if key % 40 == 0 { 9_000 } else { 200 }];
            replica.apply(&Command::Put(PutRequest {
                key: name.as_bytes(),
                value: &value,
                ..Default::default()
            }));
        }
    }
    replica.apply(&Command::Compact { revision: 350 });
    replica.apply(&Command::Checkpoint);
    let pages = replica.engine.store().map().clone();
    let [slot_0, slot_1] = pages.meta_slots();
    let meta = choose_meta(&slot_0, &slot_1).unwrap().unwrap();
    (pages, meta)
}

fn alter(pages: &mut HeapPages, page: usize) {
    pages.bytes_mut()[page * PAGE_SIZE_BYTES + 2_000] ^= 1;
}

/// Whether a page is of the run that was found broken.
fn is_in(page: usize, corruption: &Corruption) -> bool {
    let first = corruption.page.0;
    (first..first + u64::from(corruption.count)).contains(&(page as u64))
}

fn page_numbers(pages: &HeapPages) -> std::ops::Range<usize> {
    2..pages.bytes().len() / PAGE_SIZE_BYTES
}

/// Stores that open although a page is broken.
fn broken_stores() -> impl Iterator<Item = (usize, Engine<HeapPages>, Meta)> {
    let (pages, meta) = store();
    page_numbers(&pages).step_by(3).filter_map(move |page| {
        let mut altered = pages.clone();
        alter(&mut altered, page);
        Some((page, Engine::open(altered, &meta).ok()?, meta.clone()))
    })
}

/// Takes slices of something until it is done; what meets the page is told once it is whole again.
fn run<T>(
    engine: &mut Engine<HeapPages>,
    page: usize,
    mut slice: impl FnMut(&Engine<HeapPages>, &mut WorkBudget) -> Result<Step<T>, Corruption>,
) -> (T, bool) {
    let mut has_met = false;
    loop {
        match slice(engine, &mut WorkBudget::new(9)) {
            Ok(Step::Done(answer)) => return (answer, has_met),
            Ok(Step::More) => {}
            Err(corruption) => {
                assert!(!has_met && is_in(page, &corruption));
                has_met = true;
                alter(engine.store_mut().map_mut(), page);
            }
        }
    }
}

fn ranges() -> Vec<RangeRequest<'static>> {
    let all = RangeRequest { key: b"\0", range_end: b"\0", ..RangeRequest::default() };
    vec![
        all,
        RangeRequest { revision: 500, ..all },
        RangeRequest { limit: 30, ..all },
        RangeRequest { count_only: true, revision: 400, ..all },
        RangeRequest {
            sort_order: SortOrder::Descend,
            sort_target: SortTarget::Value,
            limit: 10,
            ..all
        },
        RangeRequest { key: b"00040", revision: 600, ..RangeRequest::default() },
    ]
}

#[test]
fn reads_go_on_where_a_page_was_broken() {
    let (pages, meta) = store();
    let whole = Engine::open(pages, &meta).unwrap();
    let expected: Vec<_> = ranges().iter().map(|range| whole.range(range).unwrap()).collect();
    let mut met = vec![0; expected.len()];
    for (page, mut engine, _) in broken_stores() {
        for (slot, range) in ranges().iter().enumerate() {
            let mut read = engine.range_start(range).unwrap();
            let (answer, has_met) = run(&mut engine, page, |engine, budget| {
                engine.range_step(&mut read, budget).map(|step| step.unwrap())
            });
            assert_eq!(Ok(answer), expected[slot], "range {slot}, page {page}");
            if has_met {
                met[slot] += 1;
                alter(engine.store_mut().map_mut(), page);
            }
        }
    }
    assert!(met.iter().all(|count| 0 < *count), "{met:?}");
}

#[test]
fn transactions_and_hashes_go_on_where_a_page_was_broken() {
    let (pages, meta) = store();
    let whole = Engine::open(pages, &meta).unwrap();
    let txn = TxnRequest {
        compare: vec![Compare {
            result: CompareResult::Greater,
            target: CompareTarget::Version,
            key: b"00100",
            range_end: b"00180",
            operand: Operand::Version(0),
        }],
        success: ranges().into_iter().map(RequestOp::Range).collect(),
        failure: Vec::new(),
    };
    let expected = (whole.txn_read(&txn).unwrap(), whole.hash_kv(700).unwrap());
    let mut met = [0; 2];
    for (page, mut engine, _) in broken_stores() {
        let mut read = engine.txn_read_start();
        let (answer, has_met) = run(&mut engine, page, |engine, budget| {
            engine.txn_read_step(&txn, &mut read, budget).map(|step| step.unwrap())
        });
        assert_eq!(Ok(answer), expected.0, "page {page}");
        if has_met {
            met[0] += 1;
            alter(engine.store_mut().map_mut(), page);
        }
        let mut read = engine.hash_start(700).unwrap();
        let (hash, has_met) = run(&mut engine, page, |engine, budget| {
            engine.hash_step(&mut read, budget).map(|step| step.unwrap())
        });
        assert_eq!(Ok(hash), expected.1, "page {page}");
        met[1] += usize::from(has_met);
    }
    assert!(met.iter().all(|count| 10 < *count), "{met:?}");
}

/// Entries that change much, the removal behind the compact revision among them.
fn entries(engine: &Engine<HeapPages>) -> Vec<Vec<u8>> {
    let mark = engine.compact_pending().expect("something is to be removed");
    let put = |key| PutRequest { key, value: b"new", ..PutRequest::default() };
    let delete = |key, range_end| DeleteRangeRequest { key, range_end, prev_kv: false };
    let commands = [
        Command::Put(put(b"00007")),
        Command::CompactStep { mark_main: mark.main, mark_sub: mark.sub },
        Command::DeleteRange(delete(b"00030", b"00120")),
        Command::Put(put(b"00077")),
        Command::DeleteRange(delete(b"00150", b"\0")),
    ];
    let encoded = commands.iter().map(|command| {
        let mut entry = Vec::new();
        command::encode(command, ProposalId::default(), &mut entry);
        entry
    });
    encoded.collect()
}

fn apply(engine: &mut Engine<HeapPages>, entry: &[u8]) -> Result<(), ApplyError> {
    let index = engine.applied_index() + 1;
    let mut applied = engine.apply(index, 1, entry, &mut WorkBudget::new(20), None)?;
    while applied == Applied::More {
        applied = engine.apply_more(&mut WorkBudget::new(20), None)?;
    }
    Ok(())
}

/// What the end of the interval would write.
fn sealed(engine: &mut Engine<HeapPages>) -> Vec<(u64, Vec<u8>)> {
    let plan = engine.end_interval();
    let pages = plan.writes.iter().map(|write| (write.first.0, write.bytes.to_vec()));
    pages.chain([(plan.meta_slot.0, plan.meta.to_vec())]).collect()
}

#[test]
fn entries_that_met_a_broken_page_leave_the_same_pages_when_they_are_applied_again() {
    let (pages, meta) = store();
    let mut whole = Engine::open(pages, &meta).unwrap();
    let entries = entries(&whole);
    entries.iter().for_each(|entry| apply(&mut whole, entry).unwrap());
    let revision = whole.revision();
    let expected = sealed(&mut whole);
    let mut failed = vec![0; entries.len()];
    for (page, mut engine, meta) in broken_stores() {
        let met = entries.iter().position(|entry| match apply(&mut engine, entry) {
            Ok(()) => false,
            Err(ApplyError::Corruption(corruption)) => is_in(page, &corruption),
            Err(error) => panic!("page {page}: {error}"),
        });
        if let Some(slot) = met {
            failed[slot] += 1;
            alter(engine.store_mut().map_mut(), page);
            engine.rewind(&meta).unwrap();
            assert_eq!(engine.applied_index(), meta.applied_index);
            entries.iter().for_each(|entry| apply(&mut engine, entry).unwrap());
        }
        assert_eq!(engine.revision(), revision);
        assert!(sealed(&mut engine) == expected, "page {page} leaves other pages");
    }
    assert!(0 < failed[0] && 0 < failed[2] && 0 < failed[4], "{failed:?}");
}

#[test]
fn a_rewind_that_meets_a_broken_page_can_be_tried_again() {
    let (pages, meta) = store();
    let mut refused = 0;
    for page in page_numbers(&pages) {
        let mut engine = Engine::open(pages.clone(), &meta).unwrap();
        entries(&engine).iter().for_each(|entry| apply(&mut engine, entry).unwrap());
        alter(engine.store_mut().map_mut(), page);
        if engine.rewind(&meta).is_err() {
            refused += 1;
            alter(engine.store_mut().map_mut(), page);
            engine.rewind(&meta).unwrap();
            assert!(engine.verify().is_ok());
        }
    }
    assert!(3 <= refused, "roots and the freelist: {refused}");
}
