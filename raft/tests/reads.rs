//! Linearizable reads: scenarios 81 to 87 of the fact sheet, in its order, and leader leases.
#![allow(clippy::unwrap_used)]

mod harness;

use harness::solo::*;
use harness::{Cluster, config, id};
use raft::{
    Body, CampaignCause, CampaignError, Config, Configuration, EntryId, HardState, Index,
    LeaseReads, Message, RaftNode, ReadError, ReadState, Ready, Restored, Role, Term, Verdict,
};

fn answers(cluster: &mut Cluster, number: u64) -> Vec<ReadState> {
    std::mem::take(&mut cluster.replicas.get_mut(&number).unwrap().read_states)
}

fn lost(cluster: &mut Cluster, number: u64) -> Vec<u64> {
    std::mem::take(&mut cluster.replicas.get_mut(&number).unwrap().reads_lost)
}

fn heartbeat_answer(round: u64) -> Body {
    Body::HeartbeatAnswer { round, disk: Default::default() }
}

fn rounds(messages: &[Message]) -> Vec<u64> {
    let round = |message: &Message| match message.body {
        Body::Heartbeat { round, .. } => Some(round),
        _ => None,
    };
    messages.iter().filter_map(round).collect()
}

fn ready(node: &mut RaftNode) -> Ready {
    let mut ready = Ready::default();
    node.ready(&mut ready);
    node.persisted(ready.number);
    ready
}

/// Leader 1 of `voters` whose first entry is committed.
fn leader(config: Config, voters: u64) -> RaftNode {
    let mut node = solo_with(config, voters, &[], 0);
    make_leader(&mut node);
    for peer in 2..=voters {
        step(&mut node, peer, 1, accepted(1));
    }
    node
}

fn lease(number: u64) -> Config {
    Config { is_lease_reads: true, restart_quiet_ticks: 10, ..config(number) }
}

#[test]
fn s81_a_read_is_answered_after_a_round_that_a_quorum_answers() {
    let mut node = leader(config(1), 5);
    node.read_index(7).unwrap();
    let sent = ready(&mut node);
    assert!(sent.read_states.is_empty());
    assert_eq!(rounds(&sent.messages_now), [1; 4]);
    step(&mut node, 2, 1, heartbeat_answer(1));
    assert!(ready(&mut node).read_states.is_empty(), "two of five");
    let message = Message { from: id(3), to: id(1), term: Term(1), body: heartbeat_answer(1) };
    node.step(message).unwrap();
    assert_eq!(ready(&mut node).read_states, [ReadState { context: 7, index: Index(1) }]);
}

#[test]
fn s81_a_followers_read_is_asked_of_the_leader() {
    let mut cluster = Cluster::led(3);
    let entry = cluster.propose(1, "x");
    for context in [1, 2, 3] {
        cluster.node(2).read_index(context).unwrap();
    }
    cluster.pump(2);
    let asked = cluster.network.iter();
    let asked = asked.filter(|e| matches!(e.message.body, Body::ReadIndexRequest { .. })).count();
    assert_eq!(asked, 1, "all reads of a step share a question");
    cluster.settle();
    let states = answers(&mut cluster, 2);
    assert_eq!(states.iter().map(|state| state.context).collect::<Vec<_>>(), [1, 2, 3]);
    assert!(states.iter().all(|state| entry.index <= state.index));
}

#[test]
fn s81_a_lost_question_or_answer_is_asked_again() {
    let mut cluster = Cluster::led(3);
    cluster.is_lost = |message| matches!(message.body, Body::ReadIndexRequest { .. });
    cluster.node(2).read_index(1).unwrap();
    cluster.settle();
    cluster.is_lost = |message| matches!(message.body, Body::ReadIndexAnswer { .. });
    cluster.tick(2);
    assert!(answers(&mut cluster, 2).is_empty());
    cluster.heal();
    cluster.tick(2);
    assert_eq!(answers(&mut cluster, 2).len(), 1);
    cluster.tick(5);
    assert!(answers(&mut cluster, 2).is_empty(), "once");
}

#[test]
fn s82_a_new_leader_answers_after_its_first_commit() {
    let mut node = solo(1, 3, &[1], 1);
    make_leader(&mut node);
    node.read_index(1).unwrap();
    let sent = drain(&mut node);
    assert!(rounds(&sent).is_empty());
    assert!(!node.has_ready());
    let message = Message { from: id(2), to: id(1), term: Term(2), body: accepted(2) };
    node.step(message).unwrap();
    assert_eq!(rounds(&ready(&mut node).messages_now), [1, 1]);
    let message = Message { from: id(2), to: id(1), term: Term(2), body: heartbeat_answer(1) };
    node.step(message).unwrap();
    assert_eq!(ready(&mut node).read_states, [ReadState { context: 1, index: Index(2) }]);
}

#[test]
fn s83_within_its_lease_a_leader_answers_at_once() {
    let mut node = leader(lease(1), 3);
    node.tick();
    let sent = drain(&mut node);
    assert_eq!(rounds(&sent), [1, 1]);
    node.read_index(1).unwrap();
    assert!(ready(&mut node).read_states.is_empty(), "nobody has promised anything yet");
    let round = 2;
    step(&mut node, 2, 1, heartbeat_answer(round));
    node.read_index(2).unwrap();
    assert_eq!(ready(&mut node).read_states, [ReadState { context: 2, index: Index(1) }]);
    // T is 10 and the margin 2: the tick of the round and six more.
    for _ in 0..7 {
        node.tick();
        drain(&mut node);
    }
    node.read_index(3).unwrap();
    assert_eq!(ready(&mut node).read_states.len(), 1);
    node.tick();
    drain(&mut node);
    node.read_index(4).unwrap();
    assert!(ready(&mut node).read_states.is_empty(), "the lease is over");
}

#[test]
fn s83_a_pause_ends_the_lease() {
    let mut node = leader(lease(1), 3);
    node.tick();
    drain(&mut node);
    step(&mut node, 2, 1, heartbeat_answer(1));
    node.paused();
    node.read_index(1).unwrap();
    let sent = ready(&mut node);
    assert!(sent.read_states.is_empty());
    assert_eq!(rounds(&sent.messages_now), [2, 2], "a round takes its place");
    let message = Message { from: id(2), to: id(1), term: Term(1), body: heartbeat_answer(2) };
    node.step(message).unwrap();
    assert_eq!(ready(&mut node).read_states.len(), 1);
    node.tick();
    drain(&mut node);
    step(&mut node, 2, 1, heartbeat_answer(3));
    node.read_index(2).unwrap();
    assert_eq!(ready(&mut node).read_states.len(), 1, "a round after the pause renews it");
}

#[test]
fn s84_learners_read_too() {
    let mut configuration = Configuration::of_voters([id(1), id(2)]);
    configuration.learners = vec![id(3)];
    let configs = (1..=3).map(config).collect();
    let mut cluster = Cluster::with_configuration(configs, configuration);
    cluster.elect(1);
    let entry = cluster.propose(1, "x");
    cluster.tick(1);
    cluster.node(3).read_index(5).unwrap();
    cluster.settle();
    assert_eq!(answers(&mut cluster, 3), [ReadState { context: 5, index: entry.index }]);
    // Its own answers to heartbeats confirm nothing.
    cluster.cut(1, 2);
    cluster.node(1).read_index(6).unwrap();
    cluster.tick(3);
    assert!(answers(&mut cluster, 1).is_empty());
}

#[test]
fn s84_a_question_that_arrives_twice_is_answered_once_to_the_caller() {
    let mut cluster = Cluster::led(3);
    cluster.node(2).read_index(9).unwrap();
    cluster.pump(2);
    let question = cluster.network.pop_front().unwrap();
    cluster.deliver(question.clone());
    cluster.deliver(question);
    cluster.settle();
    assert_eq!(answers(&mut cluster, 2).len(), 1);
}

#[test]
fn s85_an_answer_to_a_later_round_confirms_the_earlier_ones() {
    let mut node = leader(config(1), 3);
    for context in 1..=3 {
        node.read_index(context).unwrap();
        ready(&mut node);
    }
    let message = Message { from: id(2), to: id(1), term: Term(1), body: heartbeat_answer(2) };
    node.step(message).unwrap();
    let contexts =
        |ready: Ready| ready.read_states.iter().map(|state| state.context).collect::<Vec<_>>();
    assert_eq!(contexts(ready(&mut node)), [1, 2]);
    let message = Message { from: id(3), to: id(1), term: Term(1), body: heartbeat_answer(3) };
    node.step(message).unwrap();
    assert_eq!(contexts(ready(&mut node)), [3]);
}

#[test]
fn s85_reads_and_rounds_are_bounded() {
    let config = Config { reads_count_max: 4, read_rounds_count_max: 2, ..config(1) };
    let mut node = leader(config, 3);
    for context in 1..=4 {
        node.read_index(context).unwrap();
        let sent = rounds(&ready(&mut node).messages_now).len();
        assert_eq!(sent, if context <= 2 { 2 } else { 0 }, "two rounds on their way");
    }
    assert_eq!(node.read_index(5), Err(ReadError::TooManyReads));
    let message = Message { from: id(2), to: id(1), term: Term(1), body: heartbeat_answer(1) };
    node.step(message).unwrap();
    let next = ready(&mut node);
    assert_eq!(next.read_states.len(), 1);
    assert_eq!(rounds(&next.messages_now), [3, 3], "what waited shares the next round");
    node.read_index(5).unwrap();
}

#[test]
fn s85_a_change_of_leader_loses_what_is_on_its_way_and_says_so() {
    let mut cluster = Cluster::led(3);
    cluster.isolate(1);
    cluster.node(1).read_index(1).unwrap();
    cluster.node(2).read_index(2).unwrap();
    cluster.settle();
    cluster.tick(40);
    assert_eq!(lost(&mut cluster, 1), [1]);
    assert_eq!(lost(&mut cluster, 2), [2]);
    assert!(answers(&mut cluster, 1).is_empty());
    assert_eq!(solo(1, 3, &[], 0).read_index(3), Err(ReadError::NoLeader));
}

#[test]
fn s86_an_old_leader_answers_nothing() {
    let mut cluster = Cluster::led(3);
    cluster.isolate(1);
    cluster.tick_one(2, 40);
    cluster.tick_one(3, 10);
    cluster.settle();
    assert_eq!(cluster.leader(), Some(2));
    cluster.propose(2, "new");
    assert_eq!(cluster.role(1), Role::Leader, "it does not know yet");
    cluster.node(1).read_index(1).unwrap();
    cluster.settle();
    assert!(answers(&mut cluster, 1).is_empty());
    cluster.heal();
    cluster.tick(5);
    assert!(answers(&mut cluster, 1).is_empty());
    assert_eq!(lost(&mut cluster, 1), [1]);
}

#[test]
fn s86_an_answer_from_before_a_pause_confirms_no_read_after_it() {
    let mut node = leader(config(1), 3);
    node.read_index(1).unwrap();
    ready(&mut node);
    // One drain: the answer to round 1, sent long ago, and a read of now.
    let message = Message { from: id(2), to: id(1), term: Term(1), body: heartbeat_answer(1) };
    node.step(message).unwrap();
    node.read_index(2).unwrap();
    let states = ready(&mut node).read_states;
    assert_eq!(states, [ReadState { context: 1, index: Index(1) }]);
}

#[test]
fn s87_a_single_voter_answers_directly_learners_or_not() {
    let mut configuration = Configuration::of_voters([id(1)]);
    configuration.learners = vec![id(2)];
    let restored = Restored { configuration, ..Restored::default() };
    let mut node = RaftNode::new(config(1), restored).unwrap();
    node.campaign().unwrap();
    drain(&mut node);
    node.read_index(1).unwrap();
    assert_eq!(ready(&mut node).read_states.len(), 1);
}

#[test]
fn who_hears_of_lease_reads_ignores_hints_and_campaigns_for_nobody() {
    let mut node = solo(2, 3, &[], 1);
    let body = Body::Heartbeat {
        commit: Index(0),
        round: 1,
        lease: LeaseReads::Served,
        disk: Default::default(),
    };
    step(&mut node, 1, 1, body);
    node.peer_unreachable_hint(id(1));
    assert_eq!(node.soft_state().leader, Some(id(1)));
    assert_eq!(node.campaign(), Err(CampaignError::LeaderHeard));
    // Not even a higher term ends the promise.
    step(&mut node, 3, 4, Body::StaleTerm);
    let request = |cause| Body::VoteRequest {
        last: EntryId::default(),
        committed: EntryId::default(),
        cause,
    };
    step(&mut node, 3, 4, request(CampaignCause::Timeout));
    assert_eq!(node.status().vote, None);
    for _ in 0..10 {
        node.tick();
    }
    step(&mut node, 3, 4, request(CampaignCause::Timeout));
    assert_eq!(node.status().vote, Some(id(3)));
}

#[test]
fn a_restarted_member_keeps_the_promise_of_its_earlier_life() {
    let restored = Restored {
        hard_state: HardState { term: Term(1), vote: Some(id(1)), commit: Index(0) },
        configuration: Configuration::of_voters((1..=3).map(id)),
        ..Restored::default()
    };
    let mut node = RaftNode::new(lease(2), restored).unwrap();
    let request = |cause| Body::VoteRequest {
        last: EntryId::default(),
        committed: EntryId::default(),
        cause,
    };
    assert!(step(&mut node, 3, 2, request(CampaignCause::Timeout)).is_empty());
    assert_eq!(node.campaign(), Err(CampaignError::LeaderHeard));
    for _ in 0..10 {
        node.tick();
    }
    let answers = step(&mut node, 3, 2, request(CampaignCause::Timeout));
    let granted = |message: &Message| {
        matches!(message.body, Body::VoteAnswer { verdict: Verdict::Granted, .. })
    };
    assert!(answers.iter().any(granted));
}

#[test]
fn after_timeout_now_no_lease_read_in_this_term() {
    let mut node = leader(lease(1), 3);
    node.tick();
    drain(&mut node);
    step(&mut node, 2, 1, heartbeat_answer(1));
    node.read_index(1).unwrap();
    assert_eq!(ready(&mut node).read_states.len(), 1);
    node.transfer_leader(id(2)).unwrap();
    drain(&mut node);
    for _ in 0..12 {
        node.tick();
        for round in rounds(&drain(&mut node)) {
            step(&mut node, 2, 1, heartbeat_answer(round));
        }
    }
    assert_eq!(node.status().transfer_target, None, "given up");
    assert_eq!(node.soft_state().role, Role::Leader);
    node.read_index(2).unwrap();
    let sent = ready(&mut node);
    assert!(sent.read_states.is_empty());
    let told = |message: &Message| match message.body {
        Body::Heartbeat { lease, .. } => Some(lease),
        _ => None,
    };
    let told: Vec<_> = sent.messages_now.iter().filter_map(told).collect();
    assert_eq!(told, [LeaseReads::NotServed; 2]);
}

#[test]
fn an_answer_to_an_earlier_life_answers_no_read_of_this_one() {
    let restored = Restored {
        configuration: Configuration::of_voters((1..=3).map(id)),
        incarnation: 2,
        ..Restored::default()
    };
    let mut node = RaftNode::new(config(2), restored).unwrap();
    step(&mut node, 1, 1, heartbeat(0, 1));
    node.read_index(5).unwrap();
    let asked = drain(&mut node);
    let Body::ReadIndexRequest { round } = asked[0].body else { panic!("{asked:?}") };
    // The leader still had a question of the life before, and answers it on today's connection.
    let answer = |round| Message {
        from: id(1),
        to: id(2),
        term: Term(1),
        body: Body::ReadIndexAnswer { round, index: Index(3) },
    };
    node.step(answer((1 << 32) + 9)).unwrap();
    assert!(ready(&mut node).read_states.is_empty());
    node.step(answer(round)).unwrap();
    assert_eq!(ready(&mut node).read_states, [ReadState { context: 5, index: Index(3) }]);
}
