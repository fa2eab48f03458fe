//! What looking ahead promises: a command that passed it meets no broken page when it is applied.

#![allow(clippy::unwrap_used)]

mod common;

use common::Replica;
use engine::api::*;
use engine::command;
use engine::engine::{Applied, ApplyError, CompactMark, Engine};
use engine::mvcc::budget::WorkBudget;
use engine::mvcc::prefetch::Prefetch;
use engine::page::heap::HeapPages;
use engine::page::map::PAGE_SIZE_BYTES;
use engine::page::meta::{Meta, choose_meta};

const LEASE: i64 = 77;

/// Small and large values, a long chain of versions, keys under a lease; all in pages.
fn store() -> (HeapPages, Meta) {
    let mut replica = Replica { verifies: false, ..Replica::new(512) };
    replica.apply(&Command::LeaseGrant { id: LEASE, ttl_s: 100 });
    for key in 0..900_u32 {
        let (name, lease) = (format!("{key:05}"), if key % 9 == 0 { LEASE } else { 0 });
        let value = vec![6; if key % 50 == 0 { 9_000 } else { 200 }];
        let put = PutRequest { key: name.as_bytes(), value: &value, lease, ..Default::default() };
        replica.apply(&Command::Put(put));
    }
    for _ in 0..300 {
        let put = PutRequest { key: b"00400", value: b"hot", ..Default::default() };
        replica.apply(&Command::Put(put));
    }
    for key in (5..850_u32).step_by(3) {
        replica.apply(&Command::DeleteRange(delete(format!("{key:05}").as_bytes(), b"")));
    }
    let revision = replica.engine.revision();
    replica.apply(&Command::Compact { revision: revision - 30 });
    replica.apply(&Command::Checkpoint);
    let pages = replica.engine.store().map().clone();
    let [slot_0, slot_1] = pages.meta_slots();
    let meta = choose_meta(&slot_0, &slot_1).unwrap().unwrap();
    (pages, meta)
}

fn delete<'a>(key: &'a [u8], range_end: &'a [u8]) -> DeleteRangeRequest<'a> {
    DeleteRangeRequest { key, range_end, prev_kv: true }
}

fn commands(mark: CompactMark) -> Vec<Vec<u8>> {
    let txn = TxnRequest {
        compare: vec![Compare {
            result: CompareResult::Greater,
            target: CompareTarget::Version,
            key: b"00100",
            range_end: b"00120",
            operand: Operand::Version(0),
        }],
        success: vec![
            RequestOp::Range(RangeRequest { key: b"00700", range_end: b"00760", ..all() }),
            RequestOp::DeleteRange(delete(b"00200", b"00260")),
        ],
        failure: vec![RequestOp::DeleteRange(delete(b"00500", b""))],
    };
    let commands = [
        Command::DeleteRange(delete(b"\0", b"\0")),
        Command::DeleteRange(delete(b"00300", b"00410")),
        Command::DeleteRange(delete(b"00020", b"")),
        Command::LeaseRevoke { id: LEASE, cause: RevokeCause::Client },
        Command::Txn(txn),
        Command::CompactStep { mark_main: mark.main, mark_sub: mark.sub },
    ];
    let encoded = commands.iter().map(|command| {
        let mut entry = Vec::new();
        command::encode(command, ProposalId::default(), &mut entry);
        entry
    });
    encoded.collect()
}

fn all() -> RangeRequest<'static> {
    RangeRequest { key: b"\0", range_end: b"\0", ..RangeRequest::default() }
}

/// Whether a look in small slices finds nothing broken.
fn looks_whole(engine: &Engine<HeapPages>, entry: &[u8]) -> bool {
    let mut run = Prefetch::default();
    let mut slices = 0;
    loop {
        slices += 1;
        assert!(slices < 10_000, "a look ahead comes to an end");
        let mut budget = WorkBudget::new(7);
        match engine.prefetch_step(entry, &mut run, &mut budget) {
            Ok(true) => return true,
            Ok(false) => assert!(budget.is_spent()),
            Err(_) => return false,
        }
    }
}

fn apply(engine: &mut Engine<HeapPages>, entry: &[u8]) -> Result<(), ApplyError> {
    let index = engine.applied_index() + 1;
    let mut events = EventList::default();
    let mut budget = WorkBudget::new(100);
    let mut applied = engine.apply(index, 1, entry, &mut budget, Some(&mut events))?;
    while applied == Applied::More {
        applied = engine.apply_more(&mut WorkBudget::new(100), Some(&mut events))?;
    }
    Ok(())
}

#[test]
fn what_was_looked_at_can_be_applied() {
    let (pages, meta) = store();
    let mark = Engine::open(pages.clone(), &meta).unwrap().compact_pending();
    let commands = commands(mark.expect("something is to be removed"));
    let mut refused = vec![0; commands.len()];
    let mut passed = vec![0; commands.len()];
    for page in 2..pages.bytes().len() / PAGE_SIZE_BYTES {
        let mut altered = pages.clone();
        altered.bytes_mut()[page * PAGE_SIZE_BYTES + 2_000] ^= 1;
        for (slot, entry) in commands.iter().enumerate() {
            let Ok(mut engine) = Engine::open(altered.clone(), &meta) else { continue };
            let is_whole = looks_whole(&engine, entry);
            assert_eq!(is_whole, engine.prefetch(entry).is_ok());
            if is_whole {
                passed[slot] += 1;
                apply(&mut engine, entry).unwrap_or_else(|error| {
                    panic!("command {slot} passed, page {page}: {error}");
                });
            } else {
                refused[slot] += 1;
            }
        }
    }
    assert!(refused.iter().all(|count| 0 < *count), "{refused:?}");
    assert!(passed.iter().all(|count| 0 < *count), "{passed:?}");
    // All keys lie in the range of the first one, few near the key of the third.
    assert!(10 * refused[2] < refused[0], "{refused:?}");
}
