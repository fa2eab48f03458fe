//! Replication, "Elections and slow disks": the hint that a process is gone, a disk that is stuck,
//! and what leaves first on a connection.

use engine::api::{Command, ProposalId, PutRequest};
use engine::command;
use net::peer::PeerMessage;
use net::wire::Request;
use raft::{Body, EntryId, Role};
use shard::limits::UNSENT_BYTES_MAX;
use tests::sim::member::{SimMember, Storage};

use super::group::Group;
use super::scripted::{Scripted, append, heartbeat, hello_of, refuse_dials, start};

/// How a dial of the leader that was lost is answered.
#[derive(Clone, Copy, Debug)]
enum Redial {
    Refused,
    SameLife,
    LaterLife,
    Silence,
}

/// Whether a follower that lost its connection with the leader asks for votes within `us`.
fn asks_within(us: u64, redial: Redial) -> bool {
    let mut member = start(Storage::default(), 1_000_000);
    let mut leader = Scripted::join(&mut member, 2);
    let mut other = Scripted::join(&mut member, 3);
    leader.say(&mut member, 1, append(EntryId::default(), &[1], 1));
    leader.say(&mut member, 1, heartbeat(1));
    other.heard(&mut member);
    member.disconnect(leader.connection);
    member.settle();
    let mut hello = hello_of(2);
    match redial {
        Redial::Refused => refuse_dials(&mut member),
        Redial::Silence => {}
        Redial::SameLife => drop(Scripted::accept(&mut member, &hello)),
        Redial::LaterLife => {
            hello.incarnation += 1;
            drop(Scripted::accept(&mut member, &hello));
        }
    }
    let term = member.raft_status().term;
    for _ in 0..us / 10_000 {
        member.advance(10_000);
    }
    assert_eq!(member.raft_status().term, term, "a hint counts for no vote");
    other.heard(&mut member).iter().any(|body| matches!(body, Body::PreVoteRequest { .. }))
}

#[test]
fn replication_elections_1_a_process_that_is_gone_is_succeeded_at_once() {
    assert!(asks_within(80_000, Redial::Refused));
    assert!(asks_within(80_000, Redial::LaterLife));
}

#[test]
fn replication_elections_1_a_lost_connection_alone_ends_no_wait() {
    assert!(!asks_within(800_000, Redial::SameLife));
    assert!(!asks_within(800_000, Redial::Silence));
    assert!(asks_within(1_400_000, Redial::Silence), "the election timeout does");
}

fn put(key: &[u8]) -> Request<'_> {
    Request::Put(PutRequest { key, value: b"v", ..PutRequest::default() })
}

#[test]
fn replication_elections_2_a_leader_with_a_stuck_disk_hands_over() {
    let mut group = Group::serving(3);
    group.advance(300_000);
    let old = group.leader().unwrap();
    let mut client = group.connect(old);
    group.member(old).hold_disk(true);
    let id = group.ask(old, &mut client, &put(b"a"));
    let us =
        group.run_until("another leads", |group| group.leader().is_some_and(|slot| slot != old));
    assert!(us < 300_000, "it took {us} us, longer than a heartbeat or two");
    assert!(group.answer(old, &mut client, id).is_some(), "the others committed it");
    let new = group.leader().unwrap();
    let mut client = group.connect(new);
    let id = group.ask(new, &mut client, &put(b"b"));
    assert!(group.answer(new, &mut client, id).expect("nobody waits for that disk").is_ok());
}

#[test]
fn replication_elections_2_with_nobody_better_the_leader_stays() {
    let mut group = Group::serving(3);
    group.advance(300_000);
    let leader = group.leader().unwrap();
    let term = group.member(leader).raft_status().term;
    let mut client = group.connect(leader);
    for slot in 0..3 {
        group.member(slot).hold_disk(true);
    }
    let id = group.ask(leader, &mut client, &put(b"a"));
    group.advance(3_000_000);
    let status = group.member(leader).raft_status();
    assert_eq!((status.role, status.term, status.transfer_target), (Role::Leader, term, None));
    assert_eq!(group.answer(leader, &mut client, id), None);
    for slot in 0..3 {
        group.member(slot).hold_disk(false);
    }
    assert!(group.wait(leader, &mut client, id).is_ok());
}

#[test]
fn replication_elections_2_a_stuck_member_does_not_campaign() {
    let mut member = start(Storage::default(), 1_000_000);
    let mut leader = Scripted::join(&mut member, 2);
    let mut other = Scripted::join(&mut member, 3);
    member.hold_disk(true);
    leader.say(&mut member, 1, append(EntryId::default(), &[1], 1));
    let asks = |member: &mut SimMember, other: &mut Scripted| {
        (0..300).any(|_| {
            member.advance(10_000);
            let heard = other.heard(member);
            heard.iter().any(|body| matches!(body, Body::PreVoteRequest { .. }))
        })
    };
    assert!(!asks(&mut member, &mut other));
    // Nor does it when it is told to.
    leader.say(&mut member, 1, Body::TimeoutNow);
    assert_eq!(member.raft_status().role, Role::Follower);
    member.hold_disk(false);
    assert!(asks(&mut member, &mut other));
}

#[test]
fn replication_elections_3_bytes_for_a_peer_that_does_not_read_are_bounded() {
    let mut member = start(Storage::default(), 1_000_000);
    let mut reader = Scripted::join(&mut member, 3);
    reader.elect(&mut member);
    let mut deaf = Scripted::join(&mut member, 2);
    for _ in 0..20 {
        member.advance(20_000);
        reader.follow(&mut member);
        deaf.follow(&mut member);
    }
    member.stall(deaf.connection);
    let value = vec![7; 1 << 20];
    for counter in 1..=32 {
        let mut bytes = Vec::new();
        let request = PutRequest { key: b"a", value: &value, ..PutRequest::default() };
        let id = ProposalId { member_id: 3, incarnation: 1, counter };
        command::encode(&Command::Put(request), id, &mut bytes);
        let sequence = reader.next_sequence();
        reader.send(&PeerMessage::Propose { sequence, command: bytes.into() });
        reader.follow(&mut member);
        member.advance(10_000);
    }
    reader.follow(&mut member);
    assert!(32 < member.raft_status().commit.0, "the other one is a quorum with it");
    let unread = member.take_sent(deaf.connection).len();
    assert!(unread <= 4 * UNSENT_BYTES_MAX, "{unread} bytes were handed to the driver");
    assert!(UNSENT_BYTES_MAX <= unread, "it was sent as much as it may be");
}
