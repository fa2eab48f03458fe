//! Replication, "Proposals from any member": sent once, answered by their own entry only, and
//! meaning the same on every member.

use engine::api::{Command, ProposalId, PutRequest, RangeRequest};
use engine::command;
use net::peer::{NotAppended, PeerMessage};
use net::wire::{Answer, Request};
use raft::{EntryId, ReplicaId};
use shard::config::AutoCompaction;
use tests::sim::member::Storage;

use super::group::Group;
use super::scripted::{Scripted, append, start};

fn put<'a>(key: &'a [u8], value: &'a [u8]) -> Request<'a> {
    Request::Put(PutRequest { key, value, ..PutRequest::default() })
}

/// (version, modified at) of a key, by the leader.
fn read(group: &mut Group, slot: usize, key: &[u8]) -> Option<(i64, i64)> {
    let mut client = group.connect(slot);
    let range = Request::Range(RangeRequest { key, ..RangeRequest::default() });
    match group.call(slot, &mut client, &range).expect("the read succeeds") {
        (_, Answer::Range(range)) => range.kvs.first().map(|kv| (kv.version, kv.mod_revision)),
        other => panic!("not a range: {other:?}"),
    }
}

#[test]
fn replication_proposals_1_what_was_not_sent_waits_for_the_next_leader() {
    let mut group = Group::serving(3);
    let (old, follower) = (group.leader().unwrap(), group.follower());
    let mut client = group.connect(follower);
    group.kill(old);
    // The follower knows at once that the leader is gone; the next one is some time away.
    let id = group.ask(follower, &mut client, &put(b"a", b"1"));
    assert_eq!(group.answer(follower, &mut client, id), None);
    assert_eq!(group.leader(), None);
    let outcome = group.wait(follower, &mut client, id);
    assert!(outcome.is_ok(), "a pause, not an error: {outcome:?}");
    assert_eq!(read(&mut group, follower, b"a").map(|(version, _)| version), Some(1));
}

#[test]
fn replication_proposals_1_what_was_sent_is_never_sent_again() {
    let mut group = Group::serving(3);
    let (old, follower) = (group.leader().unwrap(), group.follower());
    let mut client = group.connect(follower);
    group.hold(follower, old, true);
    let id = group.ask(follower, &mut client, &put(b"a", b"1"));
    // It is on the wire, and the wire breaks together with the leader.
    group.kill(old);
    group.hold(follower, old, false);
    let new = group.next_leader(old);
    let outcome = group.wait(follower, &mut client, id);
    let failure = outcome.expect_err("nobody knows whether it was appended");
    assert!(failure.message.starts_with("etcdserver: request timed out"), "{}", failure.message);
    assert_eq!(read(&mut group, new, b"a"), None, "it was not proposed a second time");
}

#[test]
fn replication_proposals_2_an_entry_of_an_earlier_life_answers_nobody() {
    let mut group = Group::serving(3);
    let (leader, follower) = (group.leader().unwrap(), group.follower());
    group.kill(follower);
    group.start(follower);
    group.run_until("it serves", |group| group.member(follower).is_serving);
    let mut client = group.connect(follower);
    // The first proposal of this life is appended, and its author dies without having seen it.
    group.hold(leader, follower, true);
    group.ask(follower, &mut client, &put(b"old", b"1"));
    group.kill(follower);
    group.start(follower);
    let old = read(&mut group, leader, b"old").expect("it was appended").1;
    // The first one of the next life waits when the entry with that number is applied here.
    let mut client = group.connect(follower);
    let id = group.ask(follower, &mut client, &put(b"new", b"2"));
    assert_eq!(group.answer(follower, &mut client, id), None);
    group.hold(leader, follower, false);
    let (header, _) = group.wait(follower, &mut client, id).expect("the put succeeds");
    assert_eq!(header.revision, old + 1, "the answer is that of its own entry");
    assert_eq!(read(&mut group, leader, b"new"), Some((1, old + 1)));
}

#[test]
fn replication_proposals_2_a_follower_answers_not_appended_and_hands_nothing_on() {
    let mut member = start(Storage::default(), 1_000_000);
    let mut leader = Scripted::join(&mut member, 2);
    let mut other = Scripted::join(&mut member, 3);
    leader.say(&mut member, 1, append(EntryId::default(), &[1], 1));
    let mut bytes = Vec::new();
    let request = PutRequest { key: b"a", value: b"1", ..PutRequest::default() };
    let id = ProposalId { member_id: 3, incarnation: 1, counter: 1 };
    command::encode(&Command::Put(request), id, &mut bytes);
    other.heard_all(&mut member);
    leader.heard_all(&mut member);
    other.send(&PeerMessage::Propose { sequence: other.next_sequence(), command: bytes.into() });
    other.exchange(&mut member);
    let reason = NotAppended::NotLeader { leader: Some(ReplicaId(2)) };
    let said = other.heard_all(&mut member);
    assert_eq!(said, [PeerMessage::NotAppended { sequence: 1, reason }]);
    let said = leader.heard_all(&mut member);
    assert!(!said.iter().any(|message| matches!(message, PeerMessage::Propose { .. })), "{said:?}");
}

#[test]
fn replication_proposals_3_apply_does_not_see_what_members_differ_in() {
    let mut group = Group::new(3);
    for slot in 0..3 {
        let config = &mut group.configs[slot];
        config.quota_backend_bytes = [0, -1, 1 << 20][slot];
        config.max_txn_ops = [128, 4, 1000][slot];
        config.max_request_bytes = [1 << 20, 1 << 16, 4 << 20][slot];
        config.interval_pages_max += slot as u32 * 7;
        config.interval_bytes_max += slot as u64 * 8_192;
        config.heartbeat_interval_us = [100_000, 50_000, 70_000][slot];
        config.auto_compaction = [
            AutoCompaction::Off,
            AutoCompaction::Revision { retention: 10 },
            AutoCompaction::Periodic { retention_us: 2_000_000 },
        ][slot];
        config.watch_progress_interval_us = [600_000_000, 1_000_000, 7_000_000][slot];
        config.answer_budget_bytes = [256 << 20, 1 << 20, 4 << 20][slot];
    }
    for slot in 0..3 {
        group.start(slot);
    }
    group.run_until("all serve", |group| (0..3).all(|slot| group.member(slot).is_serving));
    for round in 0..60 {
        let slot = round % 3;
        let mut client = group.connect(slot);
        let granted = group.call(slot, &mut client, &Request::LeaseGrant { id: 0, ttl_s: 1 });
        let Ok((_, Answer::LeaseGrant { id: lease, .. })) = granted else { panic!("{granted:?}") };
        let key = format!("key-{:02}", round % 20);
        let value = vec![round as u8; 40 * round];
        let request =
            PutRequest { key: key.as_bytes(), value: &value, lease, ..PutRequest::default() };
        group.call(slot, &mut client, &Request::Put(request)).expect("the put succeeds");
        group.advance(20_000);
    }
    group.advance(8_000_000);
    // A meta page names the content of the whole store: the newest one is the same everywhere.
    let metas = [0, 1, 2].map(|slot| group.member(slot).storage().pages.meta_slots());
    assert!(metas[0].iter().all(|meta| meta.iter().any(|byte| *byte != 0)), "two checkpoints");
    assert!(metas[0] == metas[1] && metas[1] == metas[2], "pages differ between members");
}
