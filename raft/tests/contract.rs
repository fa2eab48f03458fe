//! The contract of Ready with several writes on their way, and restarts: scenarios 88 to 96 of
//! the fact sheet, in its order, and the rules of replication.md that concern this crate.
#![allow(clippy::unwrap_used)]

mod harness;

use harness::solo::*;
use harness::{Cluster, change, config, id};
use raft::{
    AppendOutcome, Body, ChangeStep, Config, Configuration, EntryId, EntryKind, HardState, Index,
    Message, RaftNode, Ready, ReadyNumber, Restored, Role, Term, Verdict, VoteMemory,
};

fn message(from: u64, term: u64, body: Body) -> Message {
    Message { from: id(from), to: id(1), term: Term(term), body }
}

fn take(node: &mut RaftNode) -> Ready {
    let mut ready = Ready::default();
    node.ready(&mut ready);
    ready
}

fn shapes(messages: &[Message]) -> Vec<&'static str> {
    let shape = |message: &Message| match message.body {
        Body::PreVoteRequest { .. } => "pre-vote request",
        Body::PreVoteAnswer { .. } => "pre-vote answer",
        Body::VoteRequest { .. } => "vote request",
        Body::VoteAnswer { .. } => "vote answer",
        Body::Append { .. } => "append",
        Body::AppendAnswer { .. } => "append answer",
        Body::Heartbeat { .. } => "heartbeat",
        Body::HeartbeatAnswer { .. } => "heartbeat answer",
        Body::Snapshot { .. } => "snapshot",
        Body::TimeoutNow => "timeout now",
        Body::TransferRequest { .. } => "transfer request",
        Body::ReadIndexRequest { .. } => "read request",
        Body::ReadIndexAnswer { .. } => "read answer",
        Body::StaleTerm => "stale term",
        Body::Commit { .. } => "commit",
    };
    messages.iter().map(shape).collect()
}

#[test]
fn s88_what_claims_durable_state_waits_for_it() {
    // Something is on its way to the disk: now it shows who waits for it.
    let busy = || {
        let mut node = solo(1, 3, &[], 1);
        node.step(message(2, 1, append(EntryId::default(), &[1], 0))).unwrap();
        let first = take(&mut node);
        assert_eq!(shapes(&first.messages_after_persist), ["append answer"]);
        assert!(first.messages_now.is_empty());
        (node, first.number)
    };
    let last = entry_id(9, 1);
    let committed = EntryId::default();
    let cause = raft::CampaignCause::Transfer;
    let waits = [
        (2, append(entry_id(1, 1), &[], 0), "append answer"),
        (2, Body::VoteRequest { last, committed, cause }, "vote answer"),
        (2, Body::PreVoteRequest { last, committed }, "pre-vote answer"),
    ];
    for (term, body, shape) in waits {
        let (mut node, first) = busy();
        node.step(message(2, term, body)).unwrap();
        let second = take(&mut node);
        assert!(second.messages_now.is_empty());
        assert_eq!(shapes(&second.messages_after_persist), [shape]);
        assert!(first <= second.number);
    }
    let (mut node, _) = busy();
    node.step(message(2, 1, heartbeat(0, 1))).unwrap();
    let second = take(&mut node);
    assert_eq!(shapes(&second.messages_now), ["heartbeat answer"]);
    assert!(second.messages_after_persist.is_empty());
}

#[test]
fn s88_a_leader_sends_in_parallel_with_its_own_write() {
    let mut node = solo(1, 3, &[], 0);
    make_leader(&mut node);
    step(&mut node, 2, 1, accepted(1));
    step(&mut node, 3, 1, accepted(1));
    node.propose(EntryKind::Command, "x".into()).unwrap();
    let sent = take(&mut node);
    assert_eq!(sent.entries.len(), 1);
    assert_eq!(shapes(&sent.messages_now), ["append", "append"]);
    assert!(sent.messages_after_persist.is_empty());
    // Two followers are a quorum: the leader's slow disk does not hold up the group.
    step_unsynced(&mut node, message(2, 1, accepted(2)));
    assert_eq!(node.commit(), Index(1));
    step_unsynced(&mut node, message(3, 1, accepted(2)));
    assert_eq!(node.commit(), Index(2));
    assert_eq!(node.status().persisted, Index(1));
}

fn step_unsynced(node: &mut RaftNode, message: Message) {
    node.step(message).unwrap();
    take(node);
}

#[test]
fn s89_only_term_vote_and_entries_need_a_sync() {
    let mut node = solo(1, 3, &[1, 1], 1);
    node.step(message(2, 1, heartbeat(2, 1))).unwrap();
    let ready = take(&mut node);
    assert!(!ready.must_persist());
    assert_eq!((ready.commit, ready.committed.len()), (Index(2), 2));
    assert_eq!(ready.number, ReadyNumber(0));
    node.step(message(2, 2, heartbeat(2, 1))).unwrap();
    let ready = take(&mut node);
    assert!(ready.must_persist());
    let expected = HardState { term: Term(2), vote: None, commit: Index(2) };
    assert_eq!(ready.hard_state, Some(expected));
}

#[test]
fn s90_a_write_that_was_overtaken_confirms_nothing_even_when_its_entry_returns() {
    let mut node = solo(1, 3, &[], 1);
    let previous = EntryId::default();
    node.step(message(2, 1, append(previous, &[1, 1], 0))).unwrap();
    let first = take(&mut node);
    node.step(message(3, 2, append(previous, &[2], 0))).unwrap();
    let second = take(&mut node);
    node.step(message(2, 3, append(previous, &[1, 1], 0))).unwrap();
    let third = take(&mut node);
    node.persisted(first.number);
    assert_eq!(node.status().persisted, Index(0), "on the disk (1, 2) may be next");
    node.persisted(second.number);
    assert_eq!(node.status().persisted, Index(0));
    node.persisted(third.number);
    assert_eq!(node.status().persisted, Index(2));
}

#[test]
fn s91_the_entries_of_a_ready_replace_what_was_written_from_their_first_on() {
    let mut node = solo(1, 3, &[1, 1, 1, 1], 1);
    let written = |ready: &Ready| {
        ready.entries.iter().map(|entry| (entry.index.0, entry.term.0)).collect::<Vec<_>>()
    };
    node.step(message(2, 2, append(entry_id(4, 1), &[2, 2], 0))).unwrap();
    assert_eq!(written(&take(&mut node)), [(5, 2), (6, 2)]);
    // Behind, inside and before what is on its way.
    node.step(message(2, 2, append(entry_id(6, 2), &[2], 0))).unwrap();
    assert_eq!(written(&take(&mut node)), [(7, 2)]);
    node.step(message(3, 3, append(entry_id(5, 2), &[3], 0))).unwrap();
    assert_eq!(written(&take(&mut node)), [(6, 3)]);
    node.step(message(2, 4, append(entry_id(2, 1), &[4, 4], 0))).unwrap();
    assert_eq!(written(&take(&mut node)), [(3, 4), (4, 4)]);
    // Twice in one Ready: only the last state of the log is written.
    node.step(message(2, 4, append(entry_id(4, 4), &[4, 4], 0))).unwrap();
    node.step(message(3, 5, append(entry_id(5, 4), &[5], 0))).unwrap();
    assert_eq!(written(&take(&mut node)), [(5, 4), (6, 5)]);
    assert!(!node.has_ready());
}

#[test]
fn s92_a_restart_replays_after_the_checkpoint_and_applies_once() {
    let mut cluster = Cluster::led(3);
    for data in ["a", "b", "c"] {
        cluster.propose(1, data);
    }
    assert!(cluster.checkpoint(1, 1));
    cluster.propose(1, "d");
    // The harness fails on an index applied twice or skipped, in one life and from a checkpoint.
    cluster.restart(1);
    assert_eq!(cluster.status(1).applied, Index(4));
    cluster.tick(40);
    let leader = cluster.leader().unwrap();
    cluster.propose(leader, "e");
    cluster.tick(2);
    cluster.assert_converged(&[1, 2, 3]);
    assert_eq!(cluster.commands(), ["a", "b", "c", "d", "e"]);
}

#[test]
fn s93_delayed_ticks_start_one_election_not_many() {
    let mut cluster = Cluster::led(3);
    // A member stood still for an hour: its caller counts that as one tick.
    cluster.tick_one(3, 1);
    cluster.settle();
    assert_eq!(cluster.leader(), Some(1));
    assert_eq!(cluster.status(3).term, Term(1));
    let mut node = solo(1, 3, &[], 1);
    for _ in 0..12 {
        node.tick();
    }
    let asked = shapes(&drain(&mut node)).len();
    assert_eq!(asked, 2, "one round of pre-votes");
}

#[test]
fn s94_an_entry_lost_with_its_term_never_answers_for_another() {
    let mut cluster = Cluster::led(3);
    cluster.isolate(1);
    let lost = cluster.node(1).propose(EntryKind::Command, "lost".into()).unwrap();
    cluster.settle();
    cluster.tick(40);
    let leader = cluster.leader().unwrap();
    let kept = cluster.propose(leader, "kept");
    cluster.heal();
    cluster.tick(40);
    let applied: Vec<EntryId> = cluster.history.iter().map(raft::Entry::id).collect();
    assert!(!applied.contains(&lost), "its index holds an entry of another term");
    assert!(applied.contains(&kept));
    assert!(applied.iter().any(|id| id.index == lost.index));
}

// Replication.md: "Elections and slow disks", rule 1.

fn hinted(seed: u64) -> RaftNode {
    let config = Config {
        hint_delay_ticks_max: 5,
        hint_retry_ticks_min: 2,
        hint_retry_ticks_max: 10,
        election_timeout_ticks: 1000,
        seed,
        ..config(1)
    };
    let mut node = solo_with(config, 3, &[], 1);
    step(&mut node, 2, 1, heartbeat(0, 1));
    node.peer_unreachable_hint(id(2));
    node
}

#[test]
fn rule_hint_ends_the_wait_and_asks_five_times_at_most() {
    for seed in 0..50 {
        let mut node = hinted(seed);
        assert_eq!(node.soft_state().leader, None, "votes are free at once");
        let mut asked_at = Vec::new();
        for tick in 1..200 {
            node.tick();
            let asked = drain(&mut node);
            if !asked.is_empty() {
                assert_eq!(shapes(&asked), ["pre-vote request"; 2]);
                asked_at.push(tick);
                for from in [2, 3] {
                    step(&mut node, from, 1, pre_vote(Verdict::Refused));
                }
            }
        }
        assert_eq!(asked_at.len(), 5, "{asked_at:?}");
        assert!(asked_at[0] <= 6);
        for pair in asked_at.windows(2) {
            assert!((3..=11).contains(&(pair[1] - pair[0])), "{asked_at:?}");
        }
        assert_eq!(node.soft_state().term, Term(1));
    }
}

#[test]
fn rule_hint_who_grants_a_pre_vote_meanwhile_waits() {
    let mut node = hinted(1);
    for _ in 0..40 {
        let body = Body::PreVoteRequest { last: entry_id(9, 1), committed: EntryId::default() };
        let sent = step(&mut node, 3, 2, body);
        assert_eq!(shapes(&sent), ["pre-vote answer"]);
        node.tick();
        node.tick();
        assert!(drain(&mut node).is_empty());
    }
}

#[test]
fn rule_hint_a_leader_that_is_heard_ends_it_and_a_follower_is_no_leader() {
    let mut node = hinted(1);
    step(&mut node, 2, 1, heartbeat(0, 2));
    for _ in 0..50 {
        node.tick();
    }
    assert!(drain(&mut node).is_empty());
    node.peer_unreachable_hint(id(3));
    assert_eq!(node.soft_state().leader, Some(id(2)));
}

#[test]
fn rule_hint_fails_over_long_before_t() {
    let configs = (1..=3).map(|number| Config { election_timeout_ticks: 100, ..config(number) });
    let mut cluster = Cluster::with(configs.collect(), 1..=3);
    cluster.elect(1);
    cluster.crash(1);
    cluster.node(2).peer_unreachable_hint(id(1));
    cluster.node(3).peer_unreachable_hint(id(1));
    cluster.tick(20);
    assert!(cluster.leader().is_some_and(|leader| leader != 1));
}

// Replication.md: "Damage", rule 1.

#[test]
fn rule_damage_a_lost_vote_votes_for_nobody_until_every_other_voter_told_its_term() {
    let restored = Restored {
        hard_state: HardState { term: Term(2), vote: None, commit: Index(0) },
        configuration: Configuration::of_voters((1..=3).map(id)),
        vote_memory: VoteMemory::Lost,
        ..Restored::default()
    };
    let mut node = RaftNode::new(config(1), restored).unwrap();
    let request = |term: u64| Body::VoteRequest {
        last: entry_id(9, term - 1),
        committed: EntryId::default(),
        cause: raft::CampaignCause::Timeout,
    };
    let verdict = |sent: Vec<Message>| match sent[0].body {
        Body::VoteAnswer { verdict, .. } => verdict,
        _ => panic!("{sent:?}"),
    };
    assert_eq!(verdict(step(&mut node, 2, 5, request(5))), Verdict::Refused);
    assert_eq!(node.campaign(), Err(raft::CampaignError::Unhealthy));
    let sent = step(&mut node, 2, 5, append(EntryId::default(), &[5], 1));
    assert!(sent.is_empty(), "an answer would be a promise as well");
    node.term_told(id(3), Term(7));
    assert_eq!(node.soft_state().term, Term(7));
    assert_eq!(verdict(step(&mut node, 2, 7, request(7))), Verdict::Refused);
    assert_eq!(verdict(step(&mut node, 2, 8, request(8))), Verdict::Granted);
}

#[test]
fn rule_damage_a_single_voter_has_nobody_to_ask() {
    let restored = Restored {
        hard_state: HardState { term: Term(2), vote: None, commit: Index(0) },
        configuration: Configuration::of_voters([id(1)]),
        vote_memory: VoteMemory::Lost,
        ..Restored::default()
    };
    let mut node = RaftNode::new(config(1), restored).unwrap();
    node.campaign().unwrap();
    drain(&mut node);
    assert_eq!(node.soft_state().role, Role::Leader);
}

// Replication.md: "Damage", rule 3.

#[test]
fn rule_damage_3_a_replica_without_a_complete_tree_does_not_campaign() {
    let mut node = solo(1, 3, &[1], 1);
    let incomplete = raft::LocalHealth { is_tree_incomplete: true, ..Default::default() };
    node.set_health(incomplete);
    assert!(node.campaign().is_err());
    let asks = |node: &mut RaftNode| {
        (0..40).any(|_| {
            node.tick();
            !drain(node).is_empty()
        })
    };
    assert!(!asks(&mut node));
    // Nor when it is told to.
    step(&mut node, 2, 1, heartbeat(0, 1));
    let sent = step(&mut node, 2, 1, Body::TimeoutNow);
    assert!(matches!(sent[..], [Message { body: Body::TransferRequest { .. }, .. }]), "{sent:?}");
    assert_eq!(node.soft_state().role, Role::Follower);
    node.set_health(raft::LocalHealth::default());
    assert!(asks(&mut node));
}

// Replication.md: "Membership", rule 2.

#[test]
fn rule_membership_a_stranger_gets_votes_and_answers_and_counts_in_no_quorum() {
    let mut node = solo(1, 3, &[], 1);
    let body = Body::VoteRequest {
        last: entry_id(1, 1),
        committed: EntryId::default(),
        cause: raft::CampaignCause::Timeout,
    };
    let sent = step(&mut node, 9, 2, body);
    let granted = |message: &Message| {
        matches!(message.body, Body::VoteAnswer { verdict: Verdict::Granted, .. })
    };
    assert!(sent.iter().any(granted));
    let mut leader = solo(1, 3, &[], 0);
    make_leader(&mut leader);
    for stranger in 7..=9 {
        step(&mut leader, stranger, 1, accepted(1));
    }
    assert_eq!(leader.commit(), Index(0));
}

#[test]
fn rule_membership_a_lagging_voter_elects_whom_it_does_not_know_yet() {
    // 4 joins while 3 is away; then 1 and 2 need each other and the newcomer needs 3.
    let mut cluster = Cluster::led(3);
    cluster.isolate(3);
    cluster.change(1, &change([ChangeStep::AddVoter(id(4))]));
    cluster.add_replica(config(4));
    cluster.isolate(3);
    assert!(cluster.checkpoint(1, 9));
    cluster.tick(5);
    cluster.crash(1);
    cluster.heal();
    cluster.tick(60);
    let leader = cluster.leader().unwrap();
    cluster.propose(leader, "x");
    cluster.tick(3);
    cluster.assert_converged(&[2, 3, 4]);
}

#[test]
fn rule_membership_a_newborn_takes_a_snapshot_before_it_takes_entries() {
    let mut cluster = Cluster::led(3);
    cluster.change(1, &change([ChangeStep::AddVoter(id(4))]));
    cluster.add_replica(config(4));
    cluster.tick(5);
    let status = cluster.status(4);
    assert_eq!((status.applied, status.last), (Index(0), EntryId::default()));
    assert_eq!(status.configuration, Configuration::default());
    assert!(cluster.checkpoint(1, 9));
    cluster.tick(3);
    assert_eq!(cluster.status(4).configuration, cluster.status(1).configuration);
    cluster.assert_converged(&[1, 2, 3, 4]);
}

// Replication.md: "What leaves when", rule 3.

#[test]
fn rule_leaves_a_replica_acknowledges_only_after_its_sync() {
    let mut cluster = Cluster::led(3);
    for number in [2, 3] {
        cluster.replicas.get_mut(&number).unwrap().is_sync_held = true;
    }
    let entry = cluster.propose(1, "x");
    assert!(cluster.status(1).commit < entry.index);
    cluster.crash(2);
    cluster.crash(3);
    cluster.replicas.get_mut(&2).unwrap().is_sync_held = false;
    cluster.replicas.get_mut(&3).unwrap().is_sync_held = false;
    cluster.restart(2);
    cluster.restart(3);
    assert_eq!(cluster.status(2).last.index, Index(1), "what was not synced is gone");
    cluster.tick(40);
    let leader = cluster.leader().unwrap();
    cluster.propose(leader, "y");
    cluster.tick(2);
    cluster.assert_converged(&[1, 2, 3]);
}

#[test]
fn messages_of_one_step_share_appends() {
    let mut node = solo(1, 3, &[], 0);
    make_leader(&mut node);
    step(&mut node, 2, 1, accepted(1));
    for _ in 0..100 {
        node.propose(EntryKind::Command, "x".into()).unwrap();
    }
    let sent = take(&mut node).messages_now;
    let counts: Vec<usize> = sent
        .iter()
        .filter_map(|message| match &message.body {
            Body::Append { entries, .. } if message.to == id(2) => Some(entries.len()),
            _ => None,
        })
        .collect();
    assert_eq!(counts, [100]);
}

#[test]
fn a_ready_with_nothing_to_persist_holds_no_message_back() {
    let mut node = solo(1, 3, &[1], 1);
    node.step(message(2, 1, append(entry_id(1, 1), &[], 0))).unwrap();
    let ready = take(&mut node);
    assert!(!ready.must_persist());
    assert_eq!(shapes(&ready.messages_now), ["append answer"]);
    let Body::AppendAnswer { outcome, .. } = ready.messages_now[0].body else { panic!() };
    assert_eq!(outcome, AppendOutcome::Accepted { matched: Index(1) });
    assert_eq!(node.soft_state().role, Role::Follower);
}
