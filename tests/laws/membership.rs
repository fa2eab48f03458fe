//! Replication, "Membership", "Damage" and "Cores": who is let in, who counts, and what a member
//! that lost something may still promise.

use engine::api::{PutRequest, RangeRequest};
use net::peer::{NotAppended, PeerMessage, Purpose, Refusal};
use net::wire::{Answer, ClusterRequest, Request, WatchCreateRequest};
use raft::{Body, EntryId, ReplicaId, Role, Term, Verdict};
use shard::config::Origin;
use shard::input::Door;
use tests::sim::client::WatchSaid;
use tests::sim::member::{SimMember, Storage};

use super::group::{Group, founders, id_of, url_of};
use super::scripted::{
    MEMBER, Scripted, accepted, append, entry_id, hello_of, start, vote_request,
};

const START_US: u64 = 1_000_000;

fn put(key: &[u8]) -> Request<'_> {
    Request::Put(PutRequest { key, value: b"v", ..PutRequest::default() })
}

fn add(url: &str) -> ClusterRequest<'_> {
    ClusterRequest::MemberAdd { is_learner: false, peer_urls: vec![url] }
}

fn voters(group: &mut Group, slot: usize) -> usize {
    group.member(slot).raft_status().configuration.voters.len()
}

fn verdict(said: &[Body]) -> Option<Verdict> {
    said.iter().find_map(|body| match body {
        Body::VoteAnswer { verdict, .. } => Some(*verdict),
        _ => None,
    })
}

/// Three that serve, and a fourth that was not added yet.
fn three_and_a_joiner() -> Group {
    let mut group = Group::new(4);
    for slot in 0..3 {
        group.configs[slot].origin = Origin::Founder { members: founders(3) };
        group.start(slot);
    }
    group.configs[3].origin = Origin::Joiner { members: founders(3) };
    group.run_until("three serve", |group| (0..3).all(|slot| group.member(slot).is_serving));
    group
}

#[test]
fn replication_membership_1_a_change_counts_once_it_is_applied_and_a_refused_one_not_at_all() {
    let mut group = Group::serving(3);
    let (leader, follower) = (group.leader().unwrap(), group.follower());
    let mut client = group.connect(leader);
    group.isolate(follower, true);
    // Two of three carry the change; from its apply on it takes three of four.
    group.call(leader, &mut client, &add("http://elsewhere:2380")).expect("the change is made");
    assert_eq!(voters(&mut group, leader), 4);
    let waits = group.ask(leader, &mut client, &put(b"a"));
    group.advance(300_000);
    assert_eq!(group.answer(leader, &mut client, waits), None, "two are no quorum of four");
    group.isolate(follower, false);
    assert!(group.wait(leader, &mut client, waits).is_ok());
    let refused = group.call(leader, &mut client, &add("http://elsewhere:2380"));
    assert_eq!(
        refused.expect_err("the URL is taken").message,
        "etcdserver: Peer URLs already exists"
    );
    for slot in 0..3 {
        assert_eq!(voters(&mut group, slot), 4);
    }
}

#[test]
fn replication_membership_1_a_change_that_can_never_be_is_refused_at_once_and_blocks_nobody() {
    let mut group = Group::new(3);
    (0..3).for_each(|slot| group.configs[slot].learners_max = 100);
    (0..3).for_each(|slot| group.start(slot));
    group.run_until("all serve", |group| (0..3).all(|slot| group.member(slot).is_serving));
    let (leader, follower) = (group.leader().unwrap(), group.follower());
    let mut clients: Vec<_> = (0..3).map(|slot| group.connect(slot)).collect();
    for number in 0..raft::MEMBERS_COUNT_MAX {
        let url = format!("http://learner-{number}:2380");
        let add = ClusterRequest::MemberAdd { is_learner: true, peer_urls: vec![&url] };
        group.call(leader, &mut clients[leader], &add).expect("there is room");
    }
    let url = "http://one-too-many:2380";
    let one_more = ClusterRequest::MemberAdd { is_learner: true, peer_urls: vec![url] };
    let (nobody, strangers) = (ClusterRequest::MemberRemove { id: 0 }, "member not found");
    let promoted = ClusterRequest::MemberPromote { id: 0 };
    let cases = [(one_more, "too many members"), (nobody, strangers), (promoted, strangers)];
    for slot in [leader, follower] {
        for (change, text) in &cases {
            let client = &mut clients[slot];
            let change = group.ask(slot, client, change);
            let behind = group.ask(slot, client, &put(b"a"));
            group.advance(100_000);
            let refused = group.answer(slot, client, change).expect("an answer at once");
            let message = refused.expect_err("it cannot be").message;
            assert!(message.starts_with("etcdserver: ") && message.contains(text), "{message}");
            let written = group.answer(slot, client, behind);
            assert!(written.is_some_and(|written| written.is_ok()), "nothing waits behind it");
        }
    }
}

#[test]
fn replication_membership_1_a_member_is_added_behind_a_checkpoint_that_it_can_be_sent() {
    for asked_leads in [true, false] {
        let mut group = three_and_a_joiner();
        let (leader, follower) = (group.leader().unwrap(), group.follower());
        let asked = if asked_leads { leader } else { follower };
        let mut client = group.connect(asked);
        // So early that nobody has a checkpoint; a write that comes later does not wait with it.
        assert_eq!(group.member(leader).storage().pages.bytes().len(), 0);
        let addition = group.ask(asked, &mut client, &add(&url_of(3)));
        let behind = group.ask(asked, &mut client, &put(b"a"));
        assert!(group.wait(asked, &mut client, behind).is_ok());
        let added = group.wait(asked, &mut client, addition).expect("it is added");
        let (_, Answer::MemberAdd { id, .. }) = added else { panic!("{added:?}") };
        // One of the four is lost at once: the quorum needs the newborn one.
        let lost = 3 - leader - follower;
        group.kill(lost);
        group.configs[3].member_id = id;
        group.start(3);
        group.run_until("it serves", |group| group.member(3).is_serving);
        group.call(asked, &mut client, &put(b"b")).expect("three of four");
    }
}

#[test]
fn replication_membership_1_the_last_voter_is_not_removed_and_nobody_waits_for_it() {
    let mut group = Group::serving(1);
    let mut client = group.connect(0);
    let remove = ClusterRequest::MemberRemove { id: id_of(0) };
    let change = group.ask(0, &mut client, &remove);
    let behind = group.ask(0, &mut client, &put(b"a"));
    group.advance(100_000);
    let refused = group.answer(0, &mut client, change).expect("an answer at once");
    assert_eq!(
        refused.expect_err("nobody would be left").message,
        "etcdserver: re-configuration failed due to not enough started members"
    );
    assert!(group.answer(0, &mut client, behind).is_some_and(|written| written.is_ok()));
    assert_eq!(voters(&mut group, 0), 1);
}

#[test]
fn replication_membership_2_the_handshake_refuses_who_does_not_belong() {
    let mut member = start(Storage::default(), START_US);
    Scripted::join(&mut member, 2);
    let mut other_cluster = hello_of(3);
    other_cluster.cluster_id = 0xee;
    let refusal = Scripted::dial(&mut member, &other_cluster).refusal;
    assert_eq!(refusal, Some(Refusal::Cluster { cluster_id: 0xcd }));
    let mut other_birth = hello_of(2);
    other_birth.birth_id = 99;
    assert_eq!(Scripted::dial(&mut member, &other_birth).refusal, Some(Refusal::Birth));
    let mut misled = hello_of(3);
    misled.to_member = 17;
    let refusal = Scripted::dial(&mut member, &misled).refusal;
    assert_eq!(refusal, Some(Refusal::NotMe { member_id: MEMBER }));
    assert_eq!(member.complaints.len(), 3, "each with a clear line: {:?}", member.complaints);
}

#[test]
fn replication_membership_2_a_connection_is_for_what_its_hello_said() {
    let mut member = start(Storage::default(), START_US);
    let mut transfers = hello_of(2);
    transfers.purpose = Purpose::Transfer;
    let vote = Body::VoteRequest {
        last: entry_id(3, 3),
        committed: EntryId::default(),
        cause: raft::CampaignCause::Timeout,
    };
    // Who transfers the state has no voice.
    let mut transfer = Scripted::dial(&mut member, &transfers);
    let term = member.raft_status().term;
    transfer.queue(9, vote.clone());
    transfer.exchange(&mut member);
    assert_eq!(member.raft_status().term, term);
    assert!(!member.is_connected(transfer.connection));
    // Nor has who speaks to a group that is not here.
    let mut voter = Scripted::join(&mut member, 2);
    let (from, to) = (ReplicaId(2), ReplicaId(MEMBER));
    let message = raft::Message { from, to, term: Term(9), body: vote };
    voter.send_in(2, &PeerMessage::Raft(message));
    voter.exchange(&mut member);
    assert_eq!(member.raft_status().term, term);
    assert!(!member.is_connected(voter.connection));
    assert_eq!(member.complaints.len(), 2, "{:?}", member.complaints);
}

#[test]
fn replication_membership_2_nothing_of_an_earlier_start_stays_open() {
    let mut member = start(Storage::default(), START_US);
    let voter = Scripted::join(&mut member, 2);
    let mut transfers = hello_of(2);
    transfers.purpose = Purpose::Transfer;
    let transfer = Scripted::dial(&mut member, &transfers);
    let bystander = Scripted::join(&mut member, 3);
    let mut later = hello_of(2);
    later.incarnation = 2;
    let later = Scripted::dial(&mut member, &later);
    assert!(later.hello.is_some(), "{:?}", later.refusal);
    let is_open = |scripted: &Scripted| member.is_connected(scripted.connection);
    assert!(is_open(&later) && is_open(&bystander));
    assert!(!is_open(&voter) && !is_open(&transfer));
}

#[test]
fn replication_membership_2_who_was_removed_takes_no_strangers_place() {
    let mut group = Group::serving(1);
    let mut client = group.connect(0);
    for number in 0..20 {
        let url = format!("http://gone-{number}:2380");
        let add = ClusterRequest::MemberAdd { is_learner: true, peer_urls: vec![&url] };
        let (_, answer) = group.call(0, &mut client, &add).expect("the change is made");
        let Answer::MemberAdd { id, .. } = answer else { panic!("{answer:?}") };
        let learner = Scripted::join(group.member(0), id);
        group.member(0).disconnect(learner.connection);
        let remove = ClusterRequest::MemberRemove { id };
        group.call(0, &mut client, &remove).expect("the change is made");
    }
    Scripted::join(group.member(0), 99);
}

#[test]
fn replication_damage_1_whoever_asks_for_a_log_is_told_so_much_in_a_tick() {
    let mut member = start(Storage::default(), START_US);
    let mut asker = Scripted::join(&mut member, 2);
    let (first, last) = (raft::Index(1), raft::Index(9));
    for sequence in 0..600 {
        asker.send(&PeerMessage::EntriesRequest { sequence, first, last });
        asker.flush(&mut member);
    }
    asker.exchange(&mut member);
    let is_answer = |said: &PeerMessage| matches!(said, PeerMessage::Entries { .. });
    assert_eq!(asker.heard_all(&mut member).iter().filter(|said| is_answer(said)).count(), 512);
    member.advance(200_000);
    asker.heard_all(&mut member);
    asker.send(&PeerMessage::EntriesRequest { sequence: 700, first, last });
    asker.exchange(&mut member);
    assert!(asker.heard_all(&mut member).iter().any(is_answer));
}

/// A group of two, who leads it and who follows: the follower has the entry that removes the other
/// one; that it is committed only the leader knows.
fn a_leader_that_removed_itself() -> (Group, usize, usize) {
    let mut group = Group::serving(2);
    let (leader, follower) = (group.leader().unwrap(), group.follower());
    let mut client = group.connect(leader);
    group.deafen(leader, true);
    let remove = ClusterRequest::MemberRemove { id: id_of(leader) };
    group.ask(leader, &mut client, &remove);
    group.pump();
    group.hold(leader, follower, true);
    group.deafen(leader, false);
    group.pump();
    (group, leader, follower)
}

#[test]
fn replication_membership_5_a_leader_that_removed_itself_stays_until_somebody_else_knows() {
    let (mut group, leader, follower) = a_leader_that_removed_itself();
    let voters = |group: &mut Group, slot| group.member(slot).raft_status().configuration.voters;
    assert_eq!(voters(&mut group, leader), [ReplicaId(id_of(follower))]);
    group.isolate(leader, true);
    group.cut(leader);
    // Longer than who was removed stays otherwise.
    group.advance(5_000_000);
    assert_eq!(voters(&mut group, follower).len(), 2, "it needs the other's vote");
    assert!(!group.member(leader).is_over);
    // It is there for its peers only: its state is not the cluster's any more.
    let mut late = group.connect(leader);
    let local = RangeRequest { key: b"k", serializable: true, ..RangeRequest::default() };
    let failure = group.call(leader, &mut late, &Request::Range(local)).unwrap_err();
    assert_eq!(failure.message, "etcdserver: server stopped");
    let watch = WatchCreateRequest { key: b"k", credit_bytes: 1 << 20, ..Default::default() };
    late.send(&Request::WatchCreate(watch));
    late.exchange(group.member(leader));
    let stopped = WatchSaid::Canceled(0, "etcdserver: server stopped".to_string());
    assert_eq!(late.watched.pop().map(|(_, said)| said), Some(stopped));
    let probes =
        [(Door::Client, "/health", "NO LEADER"), (Door::Peer, "/members", "server stopped")];
    for (door, path, why) in probes {
        let answered = group.http_get(leader, door, path);
        assert!(answered.starts_with("HTTP/1.1 503 ") && answered.contains(why), "{answered}");
    }
    group.isolate(leader, false);
    group.run_until("the follower leads alone", |group| {
        group.leader() == Some(follower) && voters(group, follower).len() == 1
    });
    group.run_until("who was removed ends", |group| group.member(leader).is_over);
}

#[test]
fn replication_membership_5_who_was_removed_is_told_by_nobody_who_may_forget_it() {
    let (mut group, leader, follower) = a_leader_that_removed_itself();
    // The follower hears that it is committed, and cannot write that down.
    group.member(follower).hold_disk(true);
    group.hold(leader, follower, false);
    group.pump();
    assert_eq!(voters(&mut group, follower), 1);
    group.advance(5_000_000);
    assert!(!group.member(leader).is_over, "nobody could tell it");
    group.lose_power(follower);
    group.start(follower);
    group.run_until("the follower leads alone", |group| {
        group.leader() == Some(follower) && voters(group, follower) == 1
    });
    group.run_until("who was removed ends", |group| group.member(leader).is_over);
}

#[test]
fn replication_membership_2_a_removed_member_is_not_let_in_again() {
    let mut group = Group::serving(3);
    let (leader, follower) = (group.leader().unwrap(), group.follower());
    let mut client = group.connect(leader);
    let storage = group.member(follower).storage().clone();
    let remove = ClusterRequest::MemberRemove { id: id_of(follower) };
    group.call(leader, &mut client, &remove).expect("the removal is made");
    group.run_until("it ends", |group| group.member(follower).is_over);
    // Its disk as it was before it heard of that: the others tell it.
    group.kill(follower);
    group.restore(follower, storage);
    group.start(follower);
    group.run_until("it ends again", |group| group.member(follower).is_over);
    assert_eq!(voters(&mut group, leader), 2);
    let complaints = group.member(follower).complaints.join("\n");
    assert!(complaints.contains("removed"), "{complaints}");
}

#[test]
fn replication_membership_2_who_lagged_when_it_was_removed_hears_of_it() {
    let mut group = Group::serving(3);
    let (leader, follower) = (group.leader().unwrap(), group.follower());
    let mut client = group.connect(leader);
    // It is sent as much as may be under way, and the entry of its removal is not in it.
    group.deafen(follower, true);
    let value = vec![b'v'; 1 << 20];
    let is_behind = |group: &mut Group| {
        let status = group.member(leader).raft_status();
        let lags = |peer: &raft::PeerStatus| {
            peer.id == ReplicaId(id_of(follower)) && peer.next <= status.last.index
        };
        status.peers.iter().any(lags)
    };
    for _ in 0..200 {
        let request = PutRequest { key: b"a", value: &value, ..PutRequest::default() };
        group.call(leader, &mut client, &Request::Put(request)).expect("two are a quorum");
        if is_behind(&mut group) {
            break;
        }
    }
    assert!(is_behind(&mut group), "the window has no end");
    let remove = ClusterRequest::MemberRemove { id: id_of(follower) };
    group.call(leader, &mut client, &remove).expect("the removal is made");
    group.deafen(follower, false);
    group.run_until("it ends", |group| group.member(follower).is_over);
}

#[test]
fn replication_membership_1_a_follower_does_not_judge_how_far_a_learner_is() {
    let mut group = three_and_a_joiner();
    let follower = group.follower();
    let mut client = group.connect(follower);
    let url = url_of(3);
    let add = ClusterRequest::MemberAdd { is_learner: true, peer_urls: vec![&url] };
    let id = match group.call(follower, &mut client, &add).expect("there is room") {
        (_, Answer::MemberAdd { id, .. }) => id,
        other => panic!("nobody was added: {other:?}"),
    };
    let promote = ClusterRequest::MemberPromote { id };
    let refused = group.call(follower, &mut client, &promote).expect_err("it was never started");
    assert!(refused.message.contains("in sync with leader"), "{}", refused.message);
    group.configs[3].member_id = id;
    group.start(3);
    group.run_until("it serves", |group| group.member(3).is_serving);
    group.advance(1_000_000);
    group.call(follower, &mut client, &promote).expect("it holds all there is");
    assert_eq!(voters(&mut group, follower), 4);
}

#[test]
fn replication_membership_2_a_stranger_gets_votes_and_answers_and_counts_nowhere() {
    let mut member = start(Storage::default(), START_US);
    let mut stranger = Scripted::join(&mut member, 9);
    let said = stranger.say(&mut member, 4, vote_request(entry_id(3, 3)));
    assert_eq!(verdict(&said), Some(Verdict::Granted));
    let said = stranger.say(&mut member, 4, append(EntryId::default(), &[4], 0));
    assert!(said.iter().any(|body| super::scripted::acknowledges(body, 1)), "{said:?}");
    // As a leader it counts those that its configuration names.
    let mut member = start(Storage::default(), START_US);
    let mut voter = Scripted::join(&mut member, 2);
    voter.elect(&mut member);
    member.disconnect(voter.connection);
    let mut stranger = Scripted::join(&mut member, 9);
    let status = member.raft_status();
    let mut bytes = Vec::new();
    let request = PutRequest { key: b"a", value: b"v", ..PutRequest::default() };
    let id = engine::api::ProposalId { member_id: 9, incarnation: 1, counter: 1 };
    engine::command::encode(&engine::api::Command::Put(request), id, &mut bytes);
    let sequence = stranger.next_sequence();
    stranger.send(&PeerMessage::Propose { sequence, command: bytes.into() });
    stranger.exchange(&mut member);
    let last = member.raft_status().last;
    assert!(status.last.index < last.index);
    stranger.say(&mut member, status.term.0, accepted(last.index.0));
    assert!(member.raft_status().commit < last.index);
}

#[test]
fn replication_membership_4_nothing_of_a_member_counts_before_its_birth_is_durable() {
    let mut member = start(Storage::default(), START_US);
    for _ in 0..200 {
        member.advance(10_000);
    }
    assert_eq!(member.raft_status().role, Role::PreCandidate);
    member.hold_disk(true);
    let mut voter = Scripted::dial(&mut member, &hello_of(2));
    assert_eq!(voter.hello, None, "its birth is on its way to the disk");
    // The power goes, and with it what was not durable: nothing was promised to that birth.
    let mut member = start(member.lose_power(|| false), START_US);
    let mut reborn = hello_of(2);
    reborn.birth_id += 1;
    assert!(Scripted::dial(&mut member, &reborn).hello.is_some());
    voter = Scripted::dial(&mut member, &hello_of(2));
    assert_eq!(voter.refusal, Some(Refusal::Birth));
}

#[test]
fn replication_membership_4_births_and_lives_are_remembered_over_power_cuts() {
    let mut member = start(Storage::default(), START_US);
    let mut hello = hello_of(2);
    hello.incarnation = 5;
    assert!(Scripted::dial(&mut member, &hello).hello.is_some());
    let mut member = start(member.lose_power(|| false), START_US);
    let mut wiped = hello_of(2);
    (wiped.birth_id, wiped.incarnation) = (7, 6);
    assert_eq!(Scripted::dial(&mut member, &wiped).refusal, Some(Refusal::Birth));
    hello.incarnation = 4;
    let refusal = Scripted::dial(&mut member, &hello).refusal;
    assert_eq!(refusal, Some(Refusal::Incarnation { known: 5 }), "an old image of its disk");
    assert_eq!(member.complaints.len(), 2, "{:?}", member.complaints);
    hello.incarnation = 6;
    assert!(Scripted::dial(&mut member, &hello).hello.is_some());
}

fn has_key(group: &mut Group, slot: usize, key: &[u8]) -> bool {
    let mut client = group.connect(slot);
    let range = Request::Range(RangeRequest { key, ..RangeRequest::default() });
    match group.call(slot, &mut client, &range).expect("the read succeeds") {
        (_, Answer::Range(range)) => !range.kvs.is_empty(),
        other => panic!("not a range: {other:?}"),
    }
}

#[test]
fn replication_membership_5_a_forced_cluster_keeps_the_whole_log_and_its_own_epoch() {
    let mut group = Group::serving(3);
    let leader = group.leader().unwrap();
    let mut client = group.connect(leader);
    group.call(leader, &mut client, &put(b"acknowledged")).expect("the put succeeds");
    // What one member has and nobody knows to be committed may have been acknowledged as well.
    group.deafen(leader, true);
    group.ask(leader, &mut client, &put(b"uncertain"));
    let term = group.member(leader).raft_status().term;
    for slot in 0..3 {
        group.kill(slot);
    }
    group.deafen(leader, false);
    group.configs[leader].is_force_new_cluster = true;
    group.configs[leader].epoch = 1;
    group.start(leader);
    group.run_until("it serves alone", |group| {
        let status = group.member(leader).raft_status();
        group.member(leader).is_serving && status.configuration.members().count() == 1
    });
    assert!(has_key(&mut group, leader, b"acknowledged"));
    assert!(has_key(&mut group, leader, b"uncertain"));
    let status = group.member(leader).raft_status();
    assert_eq!(status.configuration.voters, [ReplicaId(id_of(leader))]);
    assert!(Term(term.0 + (1 << 20)) <= status.term);
    // The old cluster lives on without it: neither is let in by the other.
    let others: Vec<_> = (0..3).filter(|slot| *slot != leader).collect();
    for slot in &others {
        group.start(*slot);
    }
    group.advance(3_000_000);
    for slot in others {
        let complaints = group.member(slot).complaints.join("\n");
        assert!(complaints.contains("Epoch"), "{complaints}");
        assert!(group.member(slot).raft_status().term < status.term);
    }
}

#[test]
fn replication_membership_5_a_lone_voter_starts_behind_a_change_of_members() {
    // A change that is committed, and that no checkpoint covers yet: a learner, which asks for no
    // quorum, and a voter, without which nothing can be committed until it has joined.
    for is_learner in [true, false] {
        let mut group = Group::serving(1);
        let mut client = group.connect(0);
        group.call(0, &mut client, &put(b"before")).expect("the put succeeds");
        group.advance(3_000_000);
        let peer_urls = vec!["http://127.0.0.1:9"];
        let add = ClusterRequest::MemberAdd { is_learner, peer_urls };
        group.call(0, &mut client, &add).expect("added");
        group.advance(50_000);
        group.kill(0);
        group.start(0);
        group.advance(3_000_000);
        let status = group.member(0).raft_status();
        assert_eq!(status.configuration.members().count(), 2);
        assert_eq!(group.member(0).is_serving, is_learner);
        if is_learner {
            assert!(has_key(&mut group, 0, b"before"));
        }
        // With the quorum lost for good, the last resort must not stumble over it either.
        group.kill(0);
        group.configs[0].is_force_new_cluster = true;
        group.configs[0].epoch = 1;
        group.start(0);
        group.run_until("it serves alone", |group| {
            let status = group.member(0).raft_status();
            group.member(0).is_serving && status.configuration.members().count() == 1
        });
        assert!(has_key(&mut group, 0, b"before"));
    }
}

#[test]
fn replication_membership_6_what_this_version_cannot_read_is_not_let_into_the_log() {
    let mut member = start(Storage::default(), START_US);
    let mut other = Scripted::join(&mut member, 2);
    other.elect(&mut member);
    let last = member.raft_status().last;
    let sequence = other.next_sequence();
    other.send(&PeerMessage::Propose { sequence, command: vec![0xff; 40].into() });
    other.exchange(&mut member);
    let said = other.heard_all(&mut member);
    let refused = PeerMessage::NotAppended { sequence, reason: NotAppended::Full };
    assert!(said.contains(&refused), "{said:?}");
    assert_eq!(member.raft_status().last, last);
}

#[test]
fn replication_damage_1_a_torn_tail_costs_no_vote() {
    for coin in 0..20_u64 {
        let mut member = start(Storage::default(), START_US);
        let mut other = Scripted::join(&mut member, 2);
        let said = other.say(&mut member, 5, vote_request(entry_id(0, 0)));
        assert_eq!(verdict(&said), Some(Verdict::Granted));
        // The vote is synced; what follows it is cut anywhere.
        member.hold_disk(true);
        other.say(&mut member, 5, append(EntryId::default(), &[5; 200], 0));
        let mut state = coin;
        let storage = member.lose_power(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(coin);
            state >> 40 & 1 == 1
        });
        let mut member = start(storage, START_US);
        assert_eq!(member.raft_status().vote, Some(ReplicaId(2)));
        let mut other = Scripted::join(&mut member, 3);
        let said = other.say(&mut member, 5, vote_request(entry_id(9, 4)));
        assert_eq!(verdict(&said), Some(Verdict::Refused), "one vote a term");
    }
}

#[test]
fn replication_cores_the_handshake_tells_the_cores_of_both_sides() {
    let mut config = super::group::founder_config(0, 3);
    config.cores = 3;
    let mut member = SimMember::start(config, Storage::default(), START_US).expect("it starts");
    // Another number of cores is no reason to be turned away.
    let mut hello = hello_of(2);
    hello.cores = 7;
    let other = Scripted::dial(&mut member, &hello);
    assert_eq!(other.hello.expect("it is let in").cores, 3);
}
