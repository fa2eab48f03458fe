//! Replication, "What leaves when": what waits for the disk, what an earlier life sent, what may
//! be shown unsynced, and the order of a step.

use engine::api::{PutRequest, RangeRequest};
use net::peer::Refusal;
use net::wire::{Answer, Request};
use raft::{Body, EntryId, Role, Term, Verdict};
use tests::sim::member::{Deed, SimMember, Storage};

use super::group::Group;
use super::scripted::{
    Scripted, acknowledges, append, entry_id, heartbeat, hello_of, refuse_dials, start,
    vote_request,
};

const START_US: u64 = 1_000_000;

fn granted() -> Body {
    Body::VoteAnswer { verdict: Verdict::Granted, committed: EntryId::default() }
}

fn granted_before() -> Body {
    Body::PreVoteAnswer { verdict: Verdict::Granted, committed: EntryId::default() }
}

fn is_vote(body: &Body) -> bool {
    matches!(body, Body::VoteAnswer { .. } | Body::PreVoteAnswer { .. })
}

fn asks_for_votes(body: &Body) -> bool {
    matches!(body, Body::VoteRequest { .. })
}

#[test]
fn replication_leaves_1_votes_and_append_answers_wait_for_the_disk() {
    let mut member = start(Storage::default(), START_US);
    let mut other = Scripted::join(&mut member, 2);
    member.hold_disk(true);
    let said = other.say(&mut member, 5, vote_request(entry_id(0, 0)));
    assert!(said.is_empty(), "{said:?}");
    let pre_vote = Body::PreVoteRequest { last: entry_id(9, 9), committed: EntryId::default() };
    let said = other.say(&mut member, 9, pre_vote);
    assert!(said.is_empty(), "an answer claims a term that is not durable: {said:?}");
    member.hold_disk(false);
    member.settle();
    let said = other.heard(&mut member);
    assert!(said.iter().any(|body| *body == granted()), "{said:?}");
    // It leads now, and its entries are acknowledged when they are durable, heartbeats at once.
    member.hold_disk(true);
    let said = other.say(&mut member, 5, append(EntryId::default(), &[5], 0));
    assert!(said.is_empty(), "{said:?}");
    let said = other.say(&mut member, 5, heartbeat(1));
    assert!(matches!(said[..], [Body::HeartbeatAnswer { round: 1, .. }]), "{said:?}");
    member.hold_disk(false);
    member.settle();
    assert!(other.heard(&mut member).iter().any(|body| acknowledges(body, 1)));
}

/// Lets time pass until the member asks `other` for something.
fn wait_for(member: &mut SimMember, other: &mut Scripted, wanted: fn(&Body) -> bool) -> Vec<Body> {
    for _ in 0..300 {
        let heard = other.heard(member);
        if heard.iter().any(wanted) {
            return heard;
        }
        member.advance(10_000);
    }
    panic!("the member never asked");
}

#[test]
fn replication_leaves_1_a_candidacy_waits_for_the_disk() {
    let mut member = start(Storage::default(), START_US);
    let mut other = Scripted::join(&mut member, 2);
    wait_for(&mut member, &mut other, |body| matches!(body, Body::PreVoteRequest { .. }));
    member.hold_disk(true);
    let said = other.say(&mut member, 1, granted_before());
    assert!(!said.iter().any(asks_for_votes), "its own vote is not durable: {said:?}");
    assert_eq!(member.raft_status().role, Role::Candidate);
    member.hold_disk(false);
    member.settle();
    assert!(other.heard(&mut member).iter().any(asks_for_votes));
    // Nobody leads a term that is not durable: nothing is left to lose, it leads.
    other.say(&mut member, 1, granted());
    assert_eq!(member.raft_status().role, Role::Leader);
}

#[test]
fn replication_leaves_1_the_candidacy_of_a_timeout_now_waits_too() {
    let mut member = start(Storage::default(), START_US);
    let mut other = Scripted::join(&mut member, 2);
    other.say(&mut member, 3, append(EntryId::default(), &[3], 1));
    member.hold_disk(true);
    let said = other.say(&mut member, 3, Body::TimeoutNow);
    assert!(said.is_empty(), "{said:?}");
    assert_eq!(member.raft_status().term, Term(4));
    member.hold_disk(false);
    member.settle();
    assert!(other.heard(&mut member).iter().any(asks_for_votes));
}

#[test]
fn replication_leaves_1_a_leader_sends_what_its_own_disk_has_not() {
    let mut group = Group::serving(3);
    let leader = group.leader().unwrap();
    let mut client = group.connect(leader);
    group.member(leader).hold_disk(true);
    let request = Request::Put(PutRequest { key: b"a", value: b"1", ..PutRequest::default() });
    let id = group.ask(leader, &mut client, &request);
    // The followers are a quorum without it, and an answer needs nothing of this disk.
    assert!(group.answer(leader, &mut client, id).expect("committed by the others").is_ok());
    assert!(
        group.member(leader).raft_status().persisted < group.member(leader).raft_status().commit
    );
}

#[test]
fn replication_leaves_2_each_start_has_a_higher_incarnation() {
    let mut storage = Storage::default();
    let mut last = 0;
    for life in 0..6 {
        let mut member = start(storage, START_US);
        // The hello leaves when the other side's life is durable here, and this one with it.
        let hello = Scripted::join(&mut member, 2).hello.unwrap();
        assert!(last < hello.incarnation, "{last} and then {}", hello.incarnation);
        last = hello.incarnation;
        storage = if life % 2 == 0 { member.kill() } else { member.lose_power(|| false) };
    }
}

#[test]
fn replication_leaves_2_what_an_earlier_life_sends_is_not_heard() {
    let mut member = start(Storage::default(), START_US);
    let mut earlier = Scripted::join(&mut member, 2);
    let mut hello = hello_of(2);
    hello.incarnation = 2;
    earlier.queue(7, vote_request(entry_id(9, 6)));
    let mut later = Scripted::dial(&mut member, &hello);
    assert!(later.hello.is_some());
    earlier.flush(&mut member);
    member.settle();
    assert_eq!(member.raft_status().term, Term(0), "what was on its way is thrown away");
    assert!(later.heard(&mut member).iter().all(|body| !is_vote(body)));
    assert!(!member.is_connected(earlier.connection));
    // And an earlier life that comes back is turned away.
    let again = Scripted::dial(&mut member, &hello_of(2));
    assert_eq!(again.refusal, Some(Refusal::Incarnation { known: 2 }));
}

fn puts(group: &mut Group, slot: usize, count: usize) {
    let mut client = group.connect(slot);
    for number in 0..count {
        let key = format!("key-{number:04}");
        let value = vec![number as u8; 900];
        let put = PutRequest { key: key.as_bytes(), value: &value, ..PutRequest::default() };
        group.call(slot, &mut client, &Request::Put(put)).expect("the put succeeds");
    }
}

/// What a member has of a key, whether it is confirmed or not.
fn own_value(group: &mut Group, slot: usize, key: &[u8]) -> Option<Vec<u8>> {
    let mut client = group.connect(slot);
    let range = RangeRequest { key, serializable: true, ..RangeRequest::default() };
    match group.call(slot, &mut client, &Request::Range(range)).expect("the range succeeds") {
        (_, Answer::Range(range)) => range.kvs.first().map(|kv| kv.value.to_vec()),
        other => panic!("not a range: {other:?}"),
    }
}

#[test]
fn replication_leaves_3_what_is_committed_is_shown_unsynced_but_no_meta_page_is_written() {
    let mut group = Group::serving(3);
    let (leader, follower) = (group.leader().unwrap(), group.follower());
    group.advance(500_000);
    group.member(follower).hold_disk(true);
    group.member(follower).deeds.clear();
    puts(&mut group, leader, 80);
    assert_eq!(own_value(&mut group, follower, b"key-0009"), Some(vec![9; 900]));
    group.advance(500_000);
    let deeds = group.member(follower).deeds.clone();
    assert!(deeds.contains(&Deed::PageSync), "a whole interval was applied");
    let is_meta = |deed: &Deed| matches!(deed, Deed::MetaWrite { .. });
    assert!(!deeds.iter().any(is_meta), "its boundary is beyond the synced WAL");
    group.member(follower).hold_disk(false);
    group.advance(500_000);
    assert!(group.member(follower).deeds.iter().any(is_meta));
    // A restart goes on behind the checkpoint: an entry applied twice would change revisions.
    let before = group.member(follower).raft_status().applied;
    group.kill(follower);
    group.start(follower);
    group.advance(100_000);
    assert!(before <= group.member(follower).raft_status().applied);
    let hashes: Vec<_> = (0..3).map(|slot| hash(&mut group, slot)).collect();
    assert_eq!(hashes, [hashes[0]; 3]);
}

/// (revision, version of a key) as a member tells it: twice applied puts would show in both.
fn hash(group: &mut Group, slot: usize) -> (i64, i64) {
    let mut client = group.connect(slot);
    let range = RangeRequest { key: b"key-0001", serializable: true, ..RangeRequest::default() };
    match group.call(slot, &mut client, &Request::Range(range)).expect("the range succeeds") {
        (header, Answer::Range(range)) => {
            (header.revision, range.kvs.first().map_or(0, |kv| kv.version))
        }
        other => panic!("not a range: {other:?}"),
    }
}

#[test]
fn replication_leaves_4_the_sync_of_a_replaced_entry_confirms_nothing() {
    let mut member = start(Storage::default(), START_US);
    let mut first = Scripted::join(&mut member, 2);
    let mut second = Scripted::join(&mut member, 3);
    member.hold_disk(true);
    first.say(&mut member, 1, append(EntryId::default(), &[1, 1], 0));
    second.say(&mut member, 2, append(EntryId::default(), &[2], 0));
    // The write with the entries of term 1 ends, that with entry (1, 2) begins.
    assert!(member.sync_one());
    member.settle();
    let said = second.heard(&mut member);
    assert!(!said.iter().any(|body| acknowledges(body, 1)), "{said:?}");
    assert_eq!(member.raft_status().persisted.0, 0);
    while member.sync_one() {
        member.settle();
    }
    assert!(second.heard(&mut member).iter().any(|body| acknowledges(body, 1)));
}

#[test]
fn replication_leaves_5_messages_come_before_ticks_and_a_jump_is_one_tick() {
    let mut member = start(Storage::default(), START_US);
    let mut leader = Scripted::join(&mut member, 2);
    let mut other = Scripted::join(&mut member, 3);
    leader.say(&mut member, 1, append(EntryId::default(), &[1], 0));
    other.heard(&mut member);
    // A process that stood still for an hour wakes up: its leader's words count first.
    for round in 1..20 {
        leader.queue(1, heartbeat(round));
        leader.flush(&mut member);
        member.advance(3_600_000_000);
        refuse_dials(&mut member);
    }
    assert!(other.heard(&mut member).is_empty());
    // And without a word the hour is one tick of a hundred.
    member.advance(3_600_000_000);
    assert!(other.heard(&mut member).is_empty(), "an hour is no election timeout");
    for _ in 0..140 {
        member.advance(10_000);
    }
    let asked = other.heard(&mut member);
    assert!(asked.iter().any(|body| matches!(body, Body::PreVoteRequest { .. })));
}
