//! Directed tests of what clients can observe, one for each trap: fact sheet of etcd's behaviour,
//! sections 1 to 7, 11 and 17.

#![allow(clippy::unwrap_used)]

mod common;

use common::{GENESIS, Replica};
use engine::api::*;
use engine::command::Malformed;
use engine::engine::{Applied, ApplyError, Member, Step};
use engine::lease::{Lease, LeaseChange};
use engine::mvcc::budget::WorkBudget;
use engine::mvcc::history::{HistoryProgress, SinkState};
use engine::mvcc::version::Position;

fn put<'a>(key: &'a [u8], value: &'a [u8]) -> PutRequest<'a> {
    PutRequest { key, value, ..PutRequest::default() }
}

fn delete<'a>(key: &'a [u8], range_end: &'a [u8]) -> DeleteRangeRequest<'a> {
    DeleteRangeRequest { key, range_end, prev_kv: true }
}

fn all() -> RangeRequest<'static> {
    RangeRequest { key: b"\0", range_end: b"\0", ..RangeRequest::default() }
}

fn compact(revision: i64) -> Command<'static> {
    Command::Compact { revision }
}

fn grant(id: i64) -> Command<'static> {
    Command::LeaseGrant { id, ttl_s: 60 }
}

fn revoke(id: i64) -> Command<'static> {
    Command::LeaseRevoke { id, cause: RevokeCause::Client }
}

fn rejected(revision: i64, reject: Reject) -> Response {
    Response::Rejected { revision, reject }
}

impl Replica {
    fn put(&mut self, key: &[u8], value: &[u8]) -> Response {
        self.apply(&Command::Put(put(key, value))).response
    }

    fn txn(&mut self, txn: TxnRequest<'_>) -> Response {
        self.apply(&Command::Txn(txn)).response
    }

    fn kv(&self, key: &[u8]) -> Option<(Vec<u8>, i64, i64, i64, i64)> {
        let kv = self.engine.get(key, 0).unwrap().unwrap()?;
        let numbers = (kv.create_revision, kv.mod_revision, kv.version, kv.lease);
        Some((kv.value.to_vec(), numbers.0, numbers.1, numbers.2, numbers.3))
    }

    fn attached(&self, id: i64) -> Vec<Vec<u8>> {
        let mut keys = Vec::new();
        self.engine.lease_keys(id, &mut |key| keys.push(key.to_vec())).unwrap();
        keys
    }

    fn compact_all(&mut self) {
        while let Some(mark) = self.engine.compact_pending() {
            self.apply(&Command::CompactStep { mark_main: mark.main, mark_sub: mark.sub });
        }
    }
}

#[test]
fn a_fresh_store_is_at_revision_one_and_takes_a_compaction_to_zero() {
    let mut replica = Replica::new(100);
    assert_eq!((replica.engine.revision(), replica.engine.compact_revision()), (1, -1));
    assert_eq!(replica.apply(&compact(0)).response, Response::Compact { revision: 1 });
    assert_eq!(replica.apply(&compact(0)).response, rejected(1, Reject::Compacted));
    assert_eq!(replica.apply(&compact(-1)).response, rejected(1, Reject::Compacted));
    assert_eq!(replica.apply(&compact(2)).response, rejected(1, Reject::FutureRevision));
    assert_eq!(replica.apply(&compact(1)).response, Response::Compact { revision: 1 });
    assert_eq!(replica.engine.revision(), 1);
}

#[test]
fn lives_versions_and_revisions() {
    let mut replica = Replica::new(100);
    replica.put(b"k", b"v");
    replica.put(b"k", b"v");
    assert_eq!(replica.kv(b"k"), Some((b"v".to_vec(), 2, 3, 2, 0)));
    replica.apply(&Command::DeleteRange(delete(b"k", b"")));
    assert_eq!(replica.kv(b"k"), None);
    // What changes nothing takes no revision.
    let nothing = replica.apply(&Command::DeleteRange(delete(b"a", b"z")));
    let want = DeleteRangeResponse { revision: 4, ..DeleteRangeResponse::default() };
    assert_eq!(nothing.response, Response::DeleteRange(want));
    let empty = replica.txn(TxnRequest::default());
    let want = TxnResponse { revision: 4, succeeded: true, responses: vec![] };
    assert_eq!(empty, Response::Txn(want));
    replica.apply(&grant(9));
    replica.apply(&revoke(9));
    replica.apply(&compact(3));
    replica.compact_all();
    assert_eq!(replica.engine.revision(), 4);
    replica.put(b"k", b"w");
    assert_eq!(replica.kv(b"k"), Some((b"w".to_vec(), 5, 5, 1, 0)));
}

#[test]
fn the_revision_survives_the_compaction_of_everything_and_a_restart() {
    let mut replica = Replica::new(100);
    replica.put(b"k", b"v");
    replica.apply(&Command::DeleteRange(delete(b"k", b"")));
    replica.apply(&compact(3));
    replica.compact_all();
    replica.apply(&Command::Checkpoint);
    let mut again = replica.restarted(100);
    assert_eq!((again.engine.revision(), again.engine.compact_revision()), (3, 3));
    assert_eq!(
        again.put(b"k", b"v"),
        Response::Put(PutResponse { revision: 4, ..Default::default() })
    );
}

#[test]
fn a_key_may_be_put_and_deleted_in_one_revision() {
    let mut replica = Replica::new(1);
    replica.put(b"k", b"old");
    let nested = |op| RequestOp::Txn(TxnRequest { success: vec![op], ..Default::default() });
    replica.txn(TxnRequest {
        success: vec![
            nested(RequestOp::Put(put(b"k", b"new"))),
            nested(RequestOp::DeleteRange(delete(b"k", b""))),
        ],
        ..Default::default()
    });
    assert_eq!((replica.engine.revision(), replica.kv(b"k")), (3, None));
    let old = replica.engine.get(b"k", 2).unwrap().unwrap().unwrap();
    assert_eq!((old.value, old.version), (&b"old"[..], 1));
    // Both events have the state before the revision, not before the operation.
    let events: Vec<_> = replica.events.iter().collect();
    assert_eq!(events.len(), 2);
    assert_eq!((events[0].event_type, events[0].kv.version), (EventType::Put, 2));
    assert_eq!((events[1].event_type, events[1].kv.version), (EventType::Delete, 0));
    assert!(events.iter().all(|event| event.prev_kv.unwrap().value == b"old"));
    replica.engine.verify().unwrap();
    replica.apply(&compact(3));
    replica.compact_all();
    replica.engine.verify().unwrap();
    replica.put(b"z", b"");
    replica.apply(&compact(4));
    replica.compact_all();
    replica.engine.verify().unwrap();
    assert_eq!(replica.engine.range(&all()).unwrap().unwrap().count, 1);
}

#[test]
fn headers_inside_of_a_transaction() {
    let mut replica = Replica::new(1);
    replica.put(b"a", b"1");
    let read = RequestOp::Range(RangeRequest { key: b"a", ..Default::default() });
    let nested = TxnRequest { success: vec![read.clone()], ..Default::default() };
    let response = replica.txn(TxnRequest {
        success: vec![
            read.clone(),
            RequestOp::DeleteRange(delete(b"x", b"")),
            RequestOp::Put(put(b"a", b"2")),
            read.clone(),
            RequestOp::DeleteRange(delete(b"x", b"")),
            RequestOp::Txn(nested),
        ],
        ..Default::default()
    });
    let Response::Txn(response) = response else { panic!("{response:?}") };
    assert_eq!(response.revision, 3);
    let range = |op: &ResponseOp| match op {
        ResponseOp::Range(range) => (range.revision, range.kvs.first().unwrap().value.to_vec()),
        other => panic!("{other:?}"),
    };
    let deleted = |op: &ResponseOp| match op {
        ResponseOp::DeleteRange(response) => response.revision,
        other => panic!("{other:?}"),
    };
    assert_eq!(range(&response.responses[0]), (2, b"1".to_vec()));
    assert_eq!(deleted(&response.responses[1]), 2);
    assert!(matches!(&response.responses[2], ResponseOp::Put(put) if put.revision == 3));
    assert_eq!(range(&response.responses[3]), (3, b"2".to_vec()));
    assert_eq!(deleted(&response.responses[4]), 3);
    let ResponseOp::Txn(nested) = &response.responses[5] else { panic!("a nested answer") };
    assert_eq!((nested.revision, range(&nested.responses[0])), (0, (3, b"2".to_vec())));
}

#[test]
fn a_transaction_is_checked_whole_before_its_first_change() {
    let mut replica = Replica::new(1);
    (0..5).for_each(|_| drop(replica.put(b"k", b"v")));
    replica.apply(&compact(4));
    let with = |op| TxnRequest {
        success: vec![RequestOp::Put(put(b"k", b"changed")), op],
        ..Default::default()
    };
    let range = |revision| RequestOp::Range(RangeRequest { key: b"k", revision, ..all() });
    let unknown_lease = RequestOp::Put(PutRequest { lease: 5, ..put(b"other", b"") });
    let no_key = RequestOp::Put(PutRequest { ignore_value: true, ..put(b"other", b"") });
    // The revision the transaction itself would get is in the future.
    for (op, reject) in [
        (range(3), Reject::Compacted),
        (range(7), Reject::FutureRevision),
        (unknown_lease, Reject::LeaseNotFound),
        (no_key, Reject::KeyNotFound),
    ] {
        let nested = TxnRequest { success: vec![op.clone()], ..Default::default() };
        assert_eq!(replica.txn(with(op)), rejected(6, reject));
        assert_eq!(replica.txn(with(RequestOp::Txn(nested))), rejected(6, reject));
        assert_eq!(replica.kv(b"k").unwrap().0, b"v");
        assert!(replica.events.is_empty());
    }
    // The branch not taken is not looked at.
    let not_taken = TxnRequest { failure: vec![range(3)], ..Default::default() };
    assert!(matches!(replica.txn(not_taken), Response::Txn(_)));
    assert!(matches!(replica.txn(with(range(4))), Response::Txn(_)));
}

#[test]
fn guards_see_the_state_before_and_an_absent_value_compares_with_nothing() {
    let mut replica = Replica::new(1);
    let guard = |result, target, key: &'static [u8], operand| Compare {
        result,
        target,
        key,
        range_end: b"",
        operand,
    };
    let succeeds = |replica: &mut Replica, compare| {
        let txn = TxnRequest { compare: vec![compare], ..Default::default() };
        let read = replica.engine.txn_read(&txn).unwrap().unwrap().succeeded;
        let Response::Txn(response) = replica.txn(txn) else { panic!("a transaction's answer") };
        assert_eq!(response.succeeded, read);
        read
    };
    use CompareResult::{Equal, Greater, Less, NotEqual};
    for result in [Equal, Greater, Less, NotEqual] {
        let compare = guard(result, CompareTarget::Value, b"k", Operand::Value(b""));
        assert!(!succeeds(&mut replica, compare));
        let range = Compare { range_end: b"\0", ..compare };
        assert!(!succeeds(&mut replica, range));
    }
    let absent = guard(Equal, CompareTarget::Create, b"k", Operand::CreateRevision(0));
    assert!(succeeds(&mut replica, absent));
    replica.put(b"k", b"5");
    replica.put(b"l", b"7");
    assert!(!succeeds(&mut replica, absent));
    let values = guard(Greater, CompareTarget::Value, b"k", Operand::Value(b"4"));
    assert!(succeeds(&mut replica, Compare { range_end: b"z", ..values }));
    let values = guard(Greater, CompareTarget::Value, b"k", Operand::Value(b"6"));
    assert!(!succeeds(&mut replica, Compare { range_end: b"z", ..values }));
    // A nested guard does not see what the operation before it wrote.
    let guard = guard(Equal, CompareTarget::Version, b"new", Operand::Version(0));
    let nested = TxnRequest { compare: vec![guard], ..Default::default() };
    let response = replica.txn(TxnRequest {
        success: vec![RequestOp::Put(put(b"new", b"")), RequestOp::Txn(nested)],
        ..Default::default()
    });
    let Response::Txn(response) = response else { panic!("a transaction's answer") };
    assert!(matches!(&response.responses[1], ResponseOp::Txn(nested) if nested.succeeded));
}

#[test]
fn a_guard_over_a_range_begins_at_its_own_start() {
    let mut replica = Replica::new(1);
    for slot in 0..40_u8 {
        replica.put(&[b'k', slot], b"v");
    }
    replica.put(&[b'k', 0], b"changed");
    let compare = |target, operand| Compare {
        result: CompareResult::Equal,
        target,
        key: b"k",
        range_end: b"l",
        operand,
    };
    // The first guard holds and comes to its end over many slices, the second one fails on the
    // very first key.
    let guards = vec![
        compare(CompareTarget::Lease, Operand::Lease(0)),
        compare(CompareTarget::Version, Operand::Version(1)),
    ];
    let txn = TxnRequest { compare: guards, ..Default::default() };
    let Response::Txn(response) = replica.txn(txn) else { panic!("a transaction's answer") };
    assert!(!response.succeeded && 4 < replica.slices);
}

#[test]
fn count_ignores_limit_and_filters_and_more_comes_from_the_limit() {
    let mut replica = Replica::new(100);
    for key in [b"a", b"b", b"c", b"d"] {
        replica.put(key, b"v");
    }
    let read = |request: RangeRequest<'_>| {
        let response = replica.engine.range(&request).unwrap().unwrap();
        (response.kvs.len(), response.count, response.more, response.revision)
    };
    assert_eq!(read(all()), (4, 4, false, 5));
    assert_eq!(read(RangeRequest { limit: 2, ..all() }), (2, 4, true, 5));
    assert_eq!(read(RangeRequest { limit: 4, ..all() }), (4, 4, false, 5));
    assert_eq!(read(RangeRequest { min_mod_revision: 4, ..all() }), (2, 4, false, 5));
    assert_eq!(read(RangeRequest { min_mod_revision: 4, limit: 1, ..all() }), (1, 4, true, 5));
    assert_eq!(read(RangeRequest { count_only: true, limit: 1, ..all() }), (0, 4, false, 5));
    assert_eq!(read(RangeRequest { revision: 3, ..all() }), (2, 2, false, 5));
    assert_eq!(read(RangeRequest { key: b"c", range_end: b"b", ..all() }), (0, 0, false, 5));
    let last = RangeRequest { sort_order: SortOrder::Descend, limit: 1, ..all() };
    let response = replica.engine.range(&last).unwrap().unwrap();
    assert_eq!((response.kvs.first().unwrap().key, response.more), (&b"d"[..], true));
}

#[test]
fn leases_attach_move_detach_and_end_in_one_revision() {
    let mut replica = Replica::new(1);
    assert_eq!(
        replica.apply(&grant(1)).lease_change,
        Some(LeaseChange::Granted(Lease { id: 1, ttl_s: 60 }))
    );
    replica.apply(&grant(2));
    assert_eq!(replica.apply(&grant(1)).response, rejected(1, Reject::LeaseExists));
    let long = Command::LeaseGrant { id: 3, ttl_s: 9_000_000_001 };
    assert_eq!(replica.apply(&long).response, rejected(1, Reject::LeaseTtlTooLarge));
    assert_eq!(replica.apply(&revoke(3)).response, rejected(1, Reject::LeaseNotFound));
    let with = |key, lease| Command::Put(PutRequest { lease, ..put(key, b"v") });
    assert_eq!(replica.apply(&with(b"k", 4)).response, rejected(1, Reject::LeaseNotFound));
    for key in [b"c", b"a", b"b"] {
        replica.apply(&with(key, 1));
    }
    replica.apply(&with(b"b", 2));
    assert_eq!(
        (replica.attached(1), replica.attached(2)),
        (vec![b"a".into(), b"c".into()], vec![b"b".into()])
    );
    let kept = PutRequest { ignore_lease: true, ..put(b"b", b"w") };
    replica.apply(&Command::Put(kept));
    assert_eq!(replica.kv(b"b").unwrap().4, 2);
    replica.put(b"b", b"x");
    assert_eq!((replica.attached(2), replica.kv(b"b").unwrap().4), (vec![], 0));
    replica.apply(&with(b"b", 1));
    let revision = replica.engine.revision();
    let outcome = replica.apply(&revoke(1));
    assert_eq!(outcome.response, Response::LeaseRevoke { revision: revision + 1 });
    assert_eq!(outcome.lease_change, Some(LeaseChange::Revoked(1)));
    let keys: Vec<_> = replica.events.iter().map(|event| event.kv.key.to_vec()).collect();
    assert_eq!(keys, [b"a", b"b", b"c"]);
    assert!(replica.events.iter().all(|event| event.kv.mod_revision == revision + 1));
    assert_eq!(replica.engine.leases().unwrap(), [Lease { id: 2, ttl_s: 60 }]);
    // Without keys a revoke takes no revision.
    let want = Response::LeaseRevoke { revision: revision + 1 };
    assert_eq!(replica.apply(&revoke(2)).response, want);
}

#[test]
fn flags_of_a_put() {
    let mut replica = Replica::new(100);
    let keep = PutRequest { ignore_value: true, prev_kv: true, ..put(b"k", b"") };
    assert_eq!(replica.apply(&Command::Put(keep)).response, rejected(1, Reject::KeyNotFound));
    let long = vec![7; 9000];
    replica.put(b"k", &long);
    let Response::Put(response) = replica.apply(&Command::Put(keep)).response else {
        panic!("a put's answer")
    };
    assert_eq!(response.prev_kv.first().unwrap().value, long);
    assert_eq!(replica.kv(b"k"), Some((long.clone(), 2, 3, 2, 0)));
    // The value was copied: compacting the first one away leaves the second.
    replica.put(b"z", b"");
    replica.apply(&compact(4));
    replica.compact_all();
    replica.engine.verify().unwrap();
    assert_eq!(replica.kv(b"k").unwrap().0, long);
}

#[test]
fn reads_and_watches_at_the_compact_revision() {
    let mut replica = Replica::new(100);
    replica.put(b"k", b"1");
    replica.put(b"k", b"2");
    replica.apply(&Command::DeleteRange(delete(b"k", b"")));
    replica.put(b"l", b"3");
    replica.apply(&compact(4));
    for _ in 0..2 {
        let at = |revision| {
            let request = RangeRequest { revision, ..all() };
            replica.engine.range(&request).unwrap().map(|response| response.count)
        };
        assert_eq!(at(3), Err(Reject::Compacted));
        assert_eq!(at(4), Ok(0));
        assert_eq!(at(5), Ok(1));
        assert_eq!(at(6), Err(Reject::FutureRevision));
        let mut kinds = Vec::new();
        let mut sink = |event: Event<'_>| {
            kinds.push((event.event_type, event.kv.mod_revision));
            SinkState::Ready
        };
        let mut budget = WorkBudget::unlimited();
        let from = |main| Position::first_of(main);
        let done = replica.engine.history(from(4), 9, &mut budget, &mut sink).unwrap();
        assert_eq!(done, Ok(HistoryProgress::Done));
        assert_eq!(kinds, [(EventType::Delete, 4), (EventType::Put, 5)]);
        let mut none = |_: Event<'_>| SinkState::Ready;
        let refused = replica.engine.history(from(3), 9, &mut budget, &mut none).unwrap();
        assert_eq!(refused, Err(Reject::Compacted));
        replica.compact_all();
    }
}

#[test]
fn alarms_forbid_what_etcd_forbids() {
    let mut replica = Replica::new(100);
    replica.put(b"k", b"v");
    replica.apply(&grant(1));
    let alarm = |action, alarm| Command::Alarm { action, member_id: 8, alarm };
    let raise = alarm(AlarmAction::Activate, AlarmType::NoSpace);
    let raised = replica.apply(&raise);
    assert!(raised.alarms_changed);
    let touched = Some((8, AlarmType::NoSpace));
    assert_eq!(raised.response, Response::Alarm { revision: 2, touched });
    assert_eq!(replica.apply(&raise).response, raised.response);
    assert_eq!(replica.engine.alarms(), [(8, AlarmType::NoSpace)]);
    assert_eq!(replica.put(b"k", b"w"), rejected(2, Reject::NoSpace));
    assert_eq!(replica.apply(&grant(2)).response, rejected(2, Reject::NoSpace));
    let puts = |op| TxnRequest { failure: vec![op], ..Default::default() };
    let nested = RequestOp::Txn(puts(RequestOp::Put(put(b"k", b"w"))));
    assert_eq!(replica.txn(puts(nested)), rejected(2, Reject::NoSpace));
    let deletes = TxnRequest {
        success: vec![RequestOp::DeleteRange(delete(b"k", b""))],
        ..Default::default()
    };
    assert!(matches!(replica.txn(deletes), Response::Txn(_)));
    assert!(matches!(replica.apply(&revoke(1)).response, Response::LeaseRevoke { .. }));
    assert!(matches!(replica.apply(&compact(2)).response, Response::Compact { .. }));

    replica.apply(&alarm(AlarmAction::Activate, AlarmType::Corrupt));
    replica.apply(&Command::Checkpoint);
    let mut replica = replica.restarted(100);
    let corrupt = rejected(3, Reject::Corrupt);
    assert_eq!(replica.put(b"k", b"w"), corrupt);
    assert_eq!(replica.apply(&Command::DeleteRange(delete(b"k", b""))).response, corrupt);
    assert_eq!(replica.txn(TxnRequest::default()), corrupt);
    assert_eq!(replica.apply(&compact(3)).response, corrupt);
    assert_eq!(replica.apply(&grant(3)).response, corrupt);
    assert_eq!(replica.apply(&revoke(3)).response, corrupt);
    replica.apply(&alarm(AlarmAction::Deactivate, AlarmType::Corrupt));
    let lower = alarm(AlarmAction::Deactivate, AlarmType::NoSpace);
    assert_eq!(replica.apply(&lower).response, Response::Alarm { revision: 3, touched });
    let again = replica.apply(&lower).response;
    assert_eq!(again, Response::Alarm { revision: 3, touched: None });
    assert!(matches!(replica.put(b"k", b"w"), Response::Put(_)));
}

#[test]
fn a_read_overtaken_by_compaction_starts_again_or_is_refused() {
    let mut replica = Replica::new(1000);
    for slot in 0..50_u8 {
        replica.put(&[b'k', slot], b"old");
    }
    let request = all();
    let pinned = RangeRequest { revision: 51, ..all() };
    let engine = &replica.engine;
    let mut newest = engine.range_start(&request).unwrap();
    let mut streamed = engine.range_start(&request).unwrap();
    let mut named = engine.range_start(&pinned).unwrap();
    let txn = TxnRequest { success: vec![RequestOp::Range(request)], ..Default::default() };
    let mut txn_read = engine.txn_read_start();
    let budget = || WorkBudget::new(2);
    for read in [&mut newest, &mut streamed, &mut named] {
        assert_eq!(engine.range_step(read, &mut budget()).unwrap(), Ok(Step::More));
    }
    assert!(matches!(
        engine.txn_read_step(&txn, &mut txn_read, &mut budget()).unwrap(),
        Ok(Step::More)
    ));
    assert!(!streamed.take_chunk().unwrap().is_empty());
    for slot in 0..50_u8 {
        replica.put(&[b'k', slot], b"new");
    }
    replica.apply(&compact(101));
    replica.compact_all();
    let engine = &replica.engine;
    for read in [&mut streamed, &mut named] {
        assert_eq!(engine.range_step(read, &mut budget()).unwrap(), Err(Reject::Compacted));
    }
    let mut whole = WorkBudget::unlimited();
    let Ok(Step::Done(response)) = engine.range_step(&mut newest, &mut whole).unwrap() else {
        panic!("the read starts again")
    };
    assert_eq!((response.kvs.len(), response.revision), (50, 101));
    assert!(response.kvs.iter().all(|kv| kv.value == b"new"));
    let step = engine.txn_read_step(&txn, &mut txn_read, &mut whole).unwrap();
    let Ok(Step::Done(answer)) = step else { panic!("the transaction starts again") };
    assert_eq!(answer.responses, [ResponseOp::Range(response)]);
}

#[test]
fn a_read_under_way_keeps_its_revision_while_keys_change() {
    let mut replica = Replica::new(1000);
    for slot in 0..60_u8 {
        replica.put(&[b'k', slot], b"old");
    }
    let request = RangeRequest { limit: 20, ..all() };
    let began = replica.engine.revision();
    let mut read = replica.engine.range_start(&request).unwrap();
    let older = RangeRequest { revision: 50, ..all() };
    let mut pinned = replica.engine.range_start(&older).unwrap();
    for read in [&mut read, &mut pinned] {
        let mut budget = WorkBudget::new(1);
        assert_eq!(replica.engine.range_step(read, &mut budget).unwrap(), Ok(Step::More));
    }
    for slot in 0..60_u8 {
        replica.put(&[b'k', slot], b"new");
        replica.put(&[b'm', slot], b"new");
    }
    replica.apply(&Command::DeleteRange(delete(b"k", b"l")));
    let mut budget = WorkBudget::unlimited();
    let step = replica.engine.range_step(&mut read, &mut budget).unwrap();
    let Ok(Step::Done(response)) = step else { panic!("the read is done") };
    assert_eq!((response.kvs.len(), response.count, response.more), (20, 60, true));
    assert!(response.kvs.iter().all(|kv| kv.value == b"old"));
    // Who lists and then watches from behind the revision told hears all that came meanwhile.
    assert_eq!(response.revision, began);
    let step = replica.engine.range_step(&mut pinned, &mut WorkBudget::unlimited()).unwrap();
    let Ok(Step::Done(response)) = step else { panic!("the read is done") };
    assert_eq!((response.kvs.len(), response.revision), (49, began));
}

#[test]
fn a_proposal_of_another_life_gets_no_key_values_and_the_same_pages() {
    let run = |incarnation| {
        let mut replica = Replica::new(3);
        replica.engine.answer_only(1, incarnation);
        replica.put(b"k", b"v");
        let put = PutRequest { prev_kv: true, ..put(b"k", b"w") };
        let own = RequestOp::Range(RangeRequest { key: b"k", ..Default::default() });
        let txn = TxnRequest { success: vec![RequestOp::Put(put), own], ..Default::default() };
        let Response::Txn(response) = replica.txn(txn) else { panic!("a transaction's answer") };
        let ResponseOp::Put(put) = &response.responses[0] else { panic!("a put's answer") };
        assert_eq!((response.revision, put.revision), (3, 3));
        let ResponseOp::Range(range) = &response.responses[1] else { panic!("a range's answer") };
        let kvs = (put.prev_kv.len(), range.kvs.len());
        (kvs, replica.pages())
    };
    let (answered, pages) = run(1);
    let (left_out, other_pages) = run(2);
    assert_eq!((answered, left_out), ((1, 1), (0, 0)));
    assert!(pages == other_pages);
}

#[test]
fn members_tell_of_themselves_however_long() {
    let mut replica = Replica::new(100);
    let long = "http://".to_string() + &"x".repeat(3000);
    let founders = [(5, vec!["http://a:1"]), (4, vec![long.as_str(), "http://b:1"])];
    let found = Command::MembersFound {
        founders: founders
            .iter()
            .map(|(id, urls)| Founder { member_id: *id, name: "f", peer_urls: urls.clone() })
            .collect(),
    };
    replica.apply(&found);
    replica.apply(&found);
    let mut want = Vec::new();
    for (id, urls) in founders {
        let publish = Command::MemberPublish {
            member_id: id,
            name: "n",
            client_urls: urls.clone(),
            binary_urls: urls[1..].to_vec(),
        };
        replica.apply(&publish);
        replica.apply(&publish);
        let peer_urls: Vec<_> = urls.iter().map(|url| url.to_string()).collect();
        let client_urls = peer_urls.clone();
        let binary_urls = peer_urls[1..].to_vec();
        want.push(Member {
            id,
            name: "n".into(),
            peer_urls,
            client_urls,
            binary_urls,
            is_learner: false,
        });
    }
    want.reverse();
    assert_eq!(replica.engine.members().unwrap(), want);
    replica.engine.verify().unwrap();
}

#[test]
fn changes_of_members_are_checked_against_what_is_replicated() {
    let mut replica = Replica::new(100);
    let founder = |member_id, url| Founder { member_id, name: "f", peer_urls: vec![url] };
    let founders = vec![founder(1, "http://a:1"), founder(2, "http://b:1")];
    replica.apply(&Command::MembersFound { founders });
    let add = |member_id, url, is_learner| Command::MemberAdd {
        member_id,
        peer_urls: vec![url],
        is_learner,
    };
    let done = Response::Done { revision: 1 };
    let steps = [
        (add(2, "http://c:1", true), Err(Reject::MemberExists)),
        (add(3, "http://b:1", true), Err(Reject::PeerUrlExists)),
        (Command::MemberPromote { member_id: 3 }, Err(Reject::MemberNotFound)),
        (add(3, "http://c:1", true), Ok(())),
        (Command::MemberPromote { member_id: 2 }, Err(Reject::MemberNotLearner)),
        (Command::MemberPromote { member_id: 3 }, Ok(())),
        (Command::MemberPromote { member_id: 3 }, Err(Reject::MemberNotLearner)),
        (Command::MemberRemove { member_id: 1 }, Ok(())),
        (Command::MemberRemove { member_id: 1 }, Err(Reject::MemberRemoved)),
        (Command::MemberRemove { member_id: 9 }, Err(Reject::MemberNotFound)),
        (add(1, "http://a:1", false), Err(Reject::MemberRemoved)),
        (add(4, "http://a:1", false), Ok(())),
        (
            Command::MemberUpdate { member_id: 4, peer_urls: vec!["http://c:1"] },
            Err(Reject::PeerUrlExists),
        ),
        (
            Command::MemberUpdate { member_id: 4, peer_urls: vec!["http://a:1", "http://d:1"] },
            Ok(()),
        ),
        (
            Command::MemberPublish {
                member_id: 1,
                name: "ghost",
                client_urls: vec![],
                binary_urls: vec![],
            },
            Err(Reject::MemberNotFound),
        ),
    ];
    for (command, want) in steps {
        let want = match want {
            Ok(()) => done.clone(),
            Err(reject) => rejected(1, reject),
        };
        assert_eq!(replica.apply(&command).response, want, "{command:?}");
        assert_eq!(
            engine::command::changes_configuration(&encoded(&command)),
            !matches!(command, Command::MemberUpdate { .. } | Command::MemberPublish { .. })
        );
    }
    let ids: Vec<_> = replica.engine.members().unwrap().iter().map(|member| member.id).collect();
    assert_eq!(ids, [2, 3, 4]);
    assert_eq!(replica.engine.removed_ids().unwrap(), [1]);
    replica.engine.verify().unwrap();
}

fn encoded(command: &Command<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    engine::command::encode(command, ProposalId::default(), &mut bytes);
    bytes
}

#[test]
fn the_first_genesis_counts() {
    let mut replica = Replica::new(100);
    let first = replica.engine.genesis().expect("the group has begun");
    let Command::Genesis { page_size_bytes, value_inline_bytes_max, .. } = GENESIS else {
        panic!("the genesis")
    };
    let other = Command::Genesis {
        page_size_bytes,
        value_inline_bytes_max,
        interval_pages_max: first.interval_pages_max + 1,
        interval_bytes_max: first.interval_bytes_max + 1,
    };
    let applied = replica.engine.apply(2, 1, &encoded(&other), &mut WorkBudget::unlimited(), None);
    assert!(matches!(applied, Ok(Applied::Done(_))), "{applied:?}");
    assert_eq!(replica.engine.genesis(), Some(first));
    assert_eq!(replica.engine.applied_index(), 2);
    replica.engine.verify().unwrap();
}

#[test]
fn entries_that_cannot_be_applied_are_errors() {
    let mut budget = WorkBudget::unlimited();
    let mut replica = Replica::empty(100);
    let mut entry = Vec::new();
    engine::command::encode(&compact(0), ProposalId::default(), &mut entry);
    // The leader's first entry may stand before the genesis, a command may not.
    replica.engine.apply(1, 1, &[], &mut budget, None).unwrap();
    replica.engine.skip(2, 1);
    assert_eq!(replica.engine.apply(3, 1, &entry, &mut budget, None), Err(ApplyError::Genesis));
    let mut replica = Replica::new(100);
    let truncated = Err(ApplyError::Malformed(Malformed::Truncated));
    let cut = &entry[..entry.len() - 1];
    assert_eq!(replica.engine.apply(2, 1, cut, &mut budget, None), truncated);
    let huge = Command::Genesis {
        page_size_bytes: 4096,
        value_inline_bytes_max: 641,
        interval_pages_max: 9,
        interval_bytes_max: 9,
    };
    entry.clear();
    engine::command::encode(&huge, ProposalId::default(), &mut entry);
    let mut replica = Replica::empty(100);
    assert_eq!(replica.engine.apply(1, 1, &entry, &mut budget, None), Err(ApplyError::Genesis));
}
