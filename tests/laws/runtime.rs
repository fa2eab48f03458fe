//! Runtime, as far as one core shows it: budgets of a step, and answers that do not fit.

use engine::api::{PutRequest, RangeRequest, RequestOp, TxnRequest};
use net::wire::{Answer, Request};
use tests::sim::client::SimClient;
use tests::sim::member::{SimMember, Storage, config};

/// A member with that many keys.
fn filled(config: shard::config::Config, keys: usize, value: &[u8]) -> (SimMember, SimClient) {
    let mut member =
        SimMember::start(config, Storage::default(), 1_000_000).expect("the member starts");
    let mut client = SimClient::connect(&mut member);
    for first in (0..keys).step_by(100) {
        let names: Vec<String> =
            (first..keys.min(first + 100)).map(|number| format!("key-{number:06}")).collect();
        let ops = names.iter().map(|name| {
            RequestOp::Put(PutRequest { key: name.as_bytes(), value, ..PutRequest::default() })
        });
        let txn = TxnRequest { success: ops.collect(), ..TxnRequest::default() };
        client.call(&mut member, &Request::Txn(txn)).expect("the transaction succeeds");
    }
    (member, client)
}

fn all() -> Request<'static> {
    Request::Range(RangeRequest { key: b"\0", range_end: b"\0", ..RangeRequest::default() })
}

#[test]
fn runtime_step_1_a_long_list_lets_others_pass() {
    let (mut member, mut client) = filled(config(), 24_000, &[7; 640]);
    let mut other = SimClient::connect(&mut member);
    let everything = RangeRequest {
        key: b"\0",
        range_end: b"\0",
        serializable: true,
        ..RangeRequest::default()
    };
    let list = client.send(&Request::Range(everything));
    client.flush(&mut member);
    member.step();
    client.fetch(&mut member);
    assert!(client.outcome(list).is_none(), "five thousand pages were read in one step");
    let status = other.send(&Request::Status);
    other.flush(&mut member);
    member.step();
    other.fetch(&mut member);
    assert!(other.outcome(status).is_some_and(|outcome| outcome.is_ok()), "it waits for the list");
    client.exchange(&mut member);
    let Some(Ok((_, Answer::Range(range)))) = client.outcome(list) else { panic!("no list") };
    assert_eq!(range.kvs.len(), 24_000);
}

#[test]
fn runtime_memory_1_a_list_beyond_the_whole_budget_is_refused_and_others_are_not() {
    let config = shard::config::Config { answer_budget_bytes: 300_000, ..config() };
    let (mut member, mut client) = filled(config, 1_000, &[7; 1_000]);
    let refused = client.call(&mut member, &all()).expect_err("a megabyte does not fit");
    assert_eq!(refused.code, 8, "RESOURCE_EXHAUSTED: {}", refused.message);
    let some = RangeRequest { key: b"\0", range_end: b"\0", limit: 200, ..RangeRequest::default() };
    let answer = client.call(&mut member, &Request::Range(some)).expect("a part of it fits");
    let (_, Answer::Range(range)) = answer else { panic!("not a range") };
    assert_eq!((range.kvs.len(), range.count), (200, 1_000));
}

#[test]
fn runtime_step_1_clients_wait_together_only_where_nobody_could_be_answered_sooner() {
    let (mut member, mut client) = filled(config(), 100, &[7; 10]);
    let mut reader = SimClient::connect(&mut member);
    let put = Request::Put(PutRequest { key: b"key", value: b"value", ..PutRequest::default() });
    // What was read while the keys were laid down is long ago.
    member.advance(1_000_000);
    member.settle();
    member.hold_disk(true);
    let mut write = |member: &mut SimMember, count: usize| {
        for _ in 0..count {
            let _ = client.send(&put);
        }
        client.flush(member);
        member.step();
        member.gather_until_us()
    };
    assert_eq!(write(&mut member, 15), None, "nothing waits behind the write in flight");
    let begun_us = member.now_us();
    let until_us = write(&mut member, 5).expect("twenty puts wait, five behind the write");
    assert!(begun_us < until_us && until_us <= begun_us + 200, "a read may come at any time");
    assert_eq!(write(&mut member, 32), None, "so many come together without waiting");
    assert!(write(&mut member, 1).is_some());
    reader.send(&Request::Status);
    reader.flush(&mut member);
    member.step();
    assert_eq!(member.gather_until_us(), None, "who asks without writing is not kept waiting");
    assert_eq!(write(&mut member, 1), None, "and may ask again");
    member.advance(20_000);
    assert!(write(&mut member, 1).is_some());
    member.hold_disk(false);
    member.settle();
    assert_eq!(write(&mut member, 1), None, "all is answered");
}
