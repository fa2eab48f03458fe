//! Replication, "Reads and leases": which round confirms a read, and whose clock ends a lease.

use engine::api::{PutRequest, RangeRequest};
use net::wire::{Answer, Request};
use raft::{Body, DiskHealth, EntryId, Index, LeaseReads, Role};
use shard::input::Door;
use shard::limits::{READS_LOCAL_RESERVED, READS_MAX};
use tests::sim::client::SimClient;
use tests::sim::member::Storage;

use super::group::Group;
use super::scripted::{Scripted, append, refuse_dials, start};

fn get() -> Request<'static> {
    Request::Range(RangeRequest { key: b"k", ..RangeRequest::default() })
}

#[test]
fn replication_reads_1_a_read_joins_no_round_that_was_sent_before_it() {
    let mut group = Group::serving(3);
    let leader = group.leader().unwrap();
    let mut client = group.connect(leader);
    group.deafen(leader, true);
    let first = group.ask(leader, &mut client, &get());
    assert_eq!(group.answer(leader, &mut client, first), None);
    // One drain holds the answers to the first round and a read that came after it was sent.
    let second = client.send(&get());
    client.flush(group.member(leader));
    group.hand_over(leader);
    group.pump();
    assert!(group.answer(leader, &mut client, first).is_some());
    assert_eq!(group.answer(leader, &mut client, second), None, "those answers are too old for it");
    group.deafen(leader, false);
    group.pump();
    assert!(group.answer(leader, &mut client, second).expect("confirmed by its own round").is_ok());
}

#[test]
fn replication_reads_1_a_serializable_read_waits_for_no_quorum_and_for_nobody_who_does() {
    let mut member = start(Storage::default(), 1_000_000);
    let mut leader = Scripted::join(&mut member, 2);
    leader.say(&mut member, 1, append(EntryId::default(), &[1], 1));
    leader.say(&mut member, 1, heartbeat(LeaseReads::NotServed));
    let mut client = SimClient::connect(&mut member);
    let mut linearizable = vec![client.send(&get())];
    client.flush(&mut member);
    leader.exchange(&mut member);
    let round = leader.heard(&mut member).into_iter().find_map(|body| match body {
        Body::ReadIndexRequest { round } => Some(round),
        _ => None,
    });
    let round = round.expect("the member asks its leader");
    // Confirmed at an entry that never comes: the leader is gone, and so is the quorum.
    leader.say(&mut member, 1, Body::ReadIndexAnswer { round, index: Index(9) });
    linearizable.extend((0..100).map(|_| client.send(&get())));
    client.flush(&mut member);
    member.disconnect(leader.connection);
    member.settle();
    let local = RangeRequest { key: b"k", serializable: true, ..RangeRequest::default() };
    for wait_us in [0, 100_000, 20_000_000] {
        for _ in 0..wait_us / 10_000 {
            refuse_dials(&mut member);
            member.advance(10_000);
        }
        let asked = client.send(&Request::Range(local));
        client.flush(&mut member);
        member.settle();
        client.fetch(&mut member);
        assert!(client.outcome(asked).expect("an answer at once").is_ok(), "after {wait_us} us");
    }
    let refused = linearizable.into_iter().map(|id| client.outcome(id).expect("time is over"));
    assert!(refused.into_iter().all(|outcome| outcome.is_err()));
}

/// Grants a lease of two seconds at `slot` and attaches `k` to it.
/// How many of one client's calls may be under way.
const CALLS_OF_ONE: usize = 4_096;

#[test]
fn replication_reads_1_reads_that_wait_are_bounded_and_health_says_that_there_are_too_many() {
    let mut group = Group::serving(3);
    let leader = group.leader().unwrap();
    group.deafen(leader, true);
    // None of them is answered without the others.
    let room = READS_MAX - READS_LOCAL_RESERVED;
    let mut clients: Vec<_> = (0..=room / CALLS_OF_ONE).map(|_| group.connect(leader)).collect();
    for client in &mut clients {
        (0..CALLS_OF_ONE).for_each(|_| {
            client.send(&get());
        });
        client.flush(group.member(leader));
        group.pump();
    }
    let mut refused = 0;
    for client in &mut clients {
        client.fetch(group.member(leader));
        for (_, outcome) in client.outcomes.drain(..) {
            let message = outcome.expect_err("no round was confirmed").message;
            assert_eq!(message, "etcdserver: too many requests");
            refused += 1;
        }
    }
    assert_eq!(refused, clients.len() * CALLS_OF_ONE - room);
    let health = group.http_get(leader, Door::Client, "/health");
    assert!(health.contains("RANGE ERROR:etcdserver: too many requests"), "{health}");
    let members = group.http_get(leader, Door::Peer, "/members");
    assert!(members.starts_with("HTTP/1.1 200 "), "what this member tells by itself has room");
    group.deafen(leader, false);
    group.advance(1_000_000);
    let health = group.http_get(leader, Door::Client, "/health?serializable=true");
    assert!(health.contains("\"health\":\"true\""), "{health}");
}

fn lease(group: &mut Group, slot: usize, client: &mut SimClient) -> i64 {
    let granted = group.call(slot, client, &Request::LeaseGrant { id: 0, ttl_s: 2 });
    let Ok((_, Answer::LeaseGrant { id, ttl_s: 2 })) = granted else {
        panic!("not granted: {granted:?}");
    };
    let put = PutRequest { key: b"k", value: b"v", lease: id, ..PutRequest::default() };
    group.call(slot, client, &Request::Put(put)).expect("the put succeeds");
    id
}

fn has_key(group: &mut Group, slot: usize) -> bool {
    let mut client = group.connect(slot);
    match group.call(slot, &mut client, &get()).expect("the read succeeds") {
        (_, Answer::Range(range)) => !range.kvs.is_empty(),
        other => panic!("not a range: {other:?}"),
    }
}

#[test]
fn replication_reads_2_a_renewal_waits_for_a_round_and_runs_from_there() {
    let mut group = Group::serving(3);
    let leader = group.leader().unwrap();
    let mut client = group.connect(leader);
    let id = lease(&mut group, leader, &mut client);
    group.advance(1_000_000);
    group.deafen(leader, true);
    let renewal = group.ask(leader, &mut client, &Request::LeaseKeepAlive { id });
    group.advance(600_000);
    assert_eq!(group.answer(leader, &mut client, renewal), None, "another leader may be there");
    group.deafen(leader, false);
    let renewed = group.wait(leader, &mut client, renewal);
    assert!(matches!(renewed, Ok((_, Answer::LeaseKeepAlive { ttl_s: 2, .. }))), "{renewed:?}");
    group.advance(1_900_000);
    assert!(has_key(&mut group, leader), "two seconds from the confirmation are not over");
    group.advance(1_000_000);
    assert!(!has_key(&mut group, leader));
}

#[test]
fn replication_reads_2_a_new_leader_keeps_no_lease_before_its_first_entry() {
    let mut group = Group::serving(3);
    let old = group.leader().unwrap();
    let mut client = group.connect(old);
    let id = lease(&mut group, old, &mut client);
    group.advance(1_700_000);
    group.kill(old);
    // One of the two hears votes, and then nothing: its first entry is not committed.
    let [new, other] = group.slots()[..] else { panic!("two are left") };
    group.hold(other, new, true);
    for _ in 0..1_000 {
        let role = group.member(new).raft_status().role;
        if role == Role::Leader {
            break;
        }
        if role != Role::Follower {
            group.hand_over(new);
        }
        group.advance(2_000);
    }
    let status = group.member(new).raft_status();
    assert_eq!((status.role, status.commit < status.last.index), (Role::Leader, true));
    let mut client = group.connect(new);
    let asked = group.ask(new, &mut client, &Request::LeaseKeepAlive { id });
    group.advance(700_000);
    let waits = group.member(new).raft_status();
    assert_eq!(
        waits.last, status.last,
        "the lease ran out by its own clock, and it proposes nothing"
    );
    assert_eq!(group.answer(new, &mut client, asked), None);
    group.hold(other, new, false);
    let renewed = group.wait(new, &mut client, asked);
    assert!(matches!(renewed, Ok((_, Answer::LeaseKeepAlive { ttl_s: 2, .. }))), "{renewed:?}");
    group.advance(1_900_000);
    assert!(has_key(&mut group, new));
    group.advance(1_700_000);
    assert!(!has_key(&mut group, new));
}

#[test]
fn replication_reads_2_an_expiry_dies_with_its_term() {
    let mut group = Group::serving(3);
    let old = group.leader().unwrap();
    let mut client = group.connect(old);
    lease(&mut group, old, &mut client);
    group.advance(1_600_000);
    group.isolate(old, true);
    let before = group.member(old).raft_status().last;
    // It does not know yet that it leads nobody, and proposes the expiry in its term.
    group.advance(1_000_000);
    let status = group.member(old).raft_status();
    assert!(before.index < status.last.index && status.commit < status.last.index);
    let new = group.next_leader(old);
    group.isolate(old, false);
    group.cut(old);
    // The new leader gives the whole time to live; nobody hands the old proposal on to it.
    group.advance(1_800_000);
    assert_eq!(group.leader(), Some(new));
    assert!(has_key(&mut group, new));
    group.advance(2_500_000);
    assert!(!has_key(&mut group, new));
}

fn heartbeat(lease: LeaseReads) -> Body {
    Body::Heartbeat { commit: Index(0), round: 1, lease, disk: DiskHealth::default() }
}

#[test]
fn replication_reads_3_who_heard_of_lease_reads_ignores_the_hint() {
    for (lease, is_heeded) in [(LeaseReads::NotServed, true), (LeaseReads::Served, false)] {
        let mut member = start(Storage::default(), 1_000_000);
        let mut leader = Scripted::join(&mut member, 2);
        let mut other = Scripted::join(&mut member, 3);
        leader.say(&mut member, 1, append(EntryId::default(), &[1], 0));
        leader.say(&mut member, 1, heartbeat(lease));
        member.disconnect(leader.connection);
        member.settle();
        refuse_dials(&mut member);
        member.advance(10_000);
        for _ in 0..20 {
            refuse_dials(&mut member);
            member.advance(10_000);
        }
        let asked = other.heard(&mut member);
        let asks = asked.iter().any(|body| matches!(body, Body::PreVoteRequest { .. }));
        assert_eq!(asks, is_heeded, "{lease:?}: {asked:?}");
    }
}
