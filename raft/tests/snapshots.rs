//! State transfer: scenarios 53 to 63 of the fact sheet, in its order. 61 stands in
//! single_voter.rs.
#![allow(clippy::unwrap_used)]

mod harness;

use harness::solo::*;
use harness::{Cluster, config, id};
use raft::{
    AppendOutcome, Body, Configuration, Entry, EntryKind, HardState, Index, Message, ProgressState,
    RaftNode, Ready, Restored, Role, Snapshot, SnapshotOutcome, Term,
};

fn propose(node: &mut RaftNode, size_bytes: usize) {
    node.propose(EntryKind::Command, vec![0u8; size_bytes].into()).unwrap();
}

/// (previous index, count of entries) of each append among `messages` for `to`.
fn appends(messages: &[Message], to: u64) -> Vec<(u64, usize)> {
    let shape = |message: &Message| match &message.body {
        Body::Append { previous, entries, .. } if message.to == id(to) => {
            Some((previous.index.0, entries.len()))
        }
        _ => None,
    };
    messages.iter().filter_map(shape).collect()
}

fn state(node: &RaftNode, peer: u64) -> ProgressState {
    peer_status(node, peer).state
}

fn peer_status(node: &RaftNode, peer: u64) -> raft::PeerStatus {
    node.status().peers.into_iter().find(|status| status.id == id(peer)).unwrap()
}

fn outcome(messages: &[Message]) -> AppendOutcome {
    let outcome = |message: &Message| match message.body {
        Body::AppendAnswer { outcome, .. } => Some(outcome),
        _ => None,
    };
    messages.iter().find_map(outcome).unwrap()
}

fn heartbeat_answer(round: u64) -> Body {
    Body::HeartbeatAnswer { round, disk: Default::default() }
}

/// Leader 1 with a compacted log; 3 was away all the time.
fn compacted() -> Cluster {
    let mut cluster = Cluster::led(3);
    cluster.isolate(3);
    for number in 0..10 {
        cluster.propose(1, &format!("{number}"));
    }
    assert!(cluster.checkpoint(1, 0));
    cluster
}

#[test]
fn s53_a_follower_behind_the_log_gets_a_snapshot_and_then_entries() {
    let mut cluster = compacted();
    cluster.heal();
    cluster.tick(3);
    assert_eq!(state(cluster.node(1), 3), ProgressState::Replicate);
    assert_eq!(cluster.status(3).first, Index(12));
    cluster.propose(1, "after");
    cluster.tick(1);
    cluster.assert_converged(&[1, 2, 3]);
}

/// Leader 1 whose checkpoint ends at 11, and 3 in state Snapshot.
fn transferring() -> RaftNode {
    let restored = Restored {
        hard_state: HardState { term: Term(1), vote: None, commit: Index(11) },
        applied: entry_id(11, 1),
        configuration: Configuration::of_voters((1..=3).map(id)),
        ..Restored::default()
    };
    let mut node = RaftNode::new(config(1), restored).unwrap();
    make_leader(&mut node);
    let sent = step(&mut node, 3, 2, rejected(11, entry_id(5, 1)));
    let snapshot = |message: &Message| match &message.body {
        Body::Snapshot { snapshot } => Some((message.to, snapshot.last)),
        _ => None,
    };
    let snapshots: Vec<_> = sent.iter().filter_map(snapshot).collect();
    assert_eq!(snapshots, [(id(3), entry_id(11, 1))]);
    node
}

#[test]
fn s54_a_transfer_pauses_appends() {
    let mut node = transferring();
    assert_eq!(state(&node, 3), ProgressState::Snapshot { pending: Index(11) });
    assert_eq!(node.transfer_needs_from(), Some(Index(12)));
    propose(&mut node, 1);
    assert!(appends(&drain(&mut node), 3).is_empty());
    for round in 1..4 {
        node.tick();
        drain(&mut node);
        let sent = step(&mut node, 3, 2, heartbeat_answer(round));
        assert!(appends(&sent, 3).is_empty());
        assert!(!sent.iter().any(|message| matches!(message.body, Body::Snapshot { .. })));
    }
}

#[test]
fn s55_no_transfer_to_a_silent_follower() {
    let mut cluster = compacted();
    cluster.tick(15);
    cluster.is_transfer_held = true;
    // Silent for a whole period of check-quorum: not even when it seems reachable again.
    cluster.propose(1, "x");
    cluster.tick(2);
    assert!(cluster.transfers.is_empty());
    cluster.heal();
    cluster.tick(3);
    assert_eq!(cluster.transfers.len(), 1);
}

#[test]
fn s56_a_reported_end_leads_back_to_probing() {
    let mut node = transferring();
    node.report_snapshot(id(3), SnapshotOutcome::Failed);
    assert_eq!(state(&node, 3), ProgressState::Probe);
    assert_eq!(peer_status(&node, 3).next, Index(1));
    assert!(appends(&drain(&mut node), 3).is_empty(), "not before it is heard again");
    let mut node = transferring();
    node.report_snapshot(id(3), SnapshotOutcome::Succeeded);
    assert_eq!(state(&node, 3), ProgressState::Probe);
    assert_eq!(peer_status(&node, 3).next, Index(12));
    node.tick();
    drain(&mut node);
    assert_eq!(appends(&step(&mut node, 3, 2, heartbeat_answer(1)), 3), [(11, 1)]);
    let mut node = transferring();
    let sent = step(&mut node, 3, 2, accepted(11));
    assert_eq!(state(&node, 3), ProgressState::Replicate);
    assert_eq!(appends(&sent, 3), [(11, 1)]);
}

#[test]
fn s57_an_answer_ends_a_transfer_without_a_report_whatever_state_arrived() {
    let mut cluster = compacted();
    cluster.is_transfer_held = true;
    cluster.heal();
    cluster.tick(3);
    let first = cluster.transfers.pop().unwrap();
    // The leader goes on, checkpoints again, and has to send what is newer than `first`.
    cluster.propose(1, "x");
    cluster.deliver(first);
    cluster.settle();
    cluster.tick(3);
    cluster.assert_converged(&[1, 2, 3]);
    assert_eq!(state(cluster.node(1), 3), ProgressState::Replicate);
    // An older state than the pending one, from which the log goes on.
    let mut node = transferring();
    node.checkpointed(Snapshot::default());
    step(&mut node, 3, 2, accepted(11));
    assert_eq!(state(&node, 3), ProgressState::Replicate);
}

fn snapshot(index: u64, term: u64) -> Snapshot {
    Snapshot {
        last: entry_id(index, term),
        configuration: Configuration::of_voters((1..=3).map(id)),
    }
}

#[test]
fn s58_an_old_snapshot_is_not_needed_and_a_known_one_only_commits() {
    let mut node = solo(1, 3, &[1, 1, 1, 1], 1);
    step(&mut node, 2, 1, heartbeat(2, 1));
    let mut take = |index: u64, term: u64| {
        let body = Body::Snapshot { snapshot: snapshot(index, term) };
        node.step(Message { from: id(2), to: id(1), term: Term(1), body }).unwrap();
        let mut ready = Ready::default();
        node.ready(&mut ready);
        assert_eq!(ready.snapshot, None, "the state is not needed");
        node.persisted(ready.number);
        if let Some(last) = ready.committed.last() {
            node.applied(last.index);
        }
        let mut messages = ready.messages_now;
        messages.append(&mut ready.messages_after_persist);
        (outcome(&messages), node.status().last.index, node.commit())
    };
    let accepted = |index| AppendOutcome::Accepted { matched: Index(index) };
    assert_eq!(take(1, 1), (accepted(2), Index(4), Index(2)));
    assert_eq!(take(3, 1), (accepted(3), Index(4), Index(3)));
}

#[test]
fn s59_a_snapshot_replaces_the_log_and_the_configuration() {
    let mut node = solo(1, 3, &[1, 1, 1], 1);
    let configuration = Configuration {
        voters: vec![id(2), id(4)],
        voters_outgoing: vec![id(1), id(2)],
        learners: vec![id(3)],
        learners_next: vec![id(1)],
        is_auto_leave: true,
    };
    let snapshot = Snapshot { last: entry_id(9, 2), configuration: configuration.clone() };
    let body = Body::Snapshot { snapshot: snapshot.clone() };
    node.step(Message { from: id(2), to: id(1), term: Term(2), body }).unwrap();
    assert!(node.check_may_campaign().is_err(), "not before it is installed");
    let mut ready = Ready::default();
    node.ready(&mut ready);
    assert_eq!(ready.snapshot, Some(snapshot));
    assert!(ready.committed.is_empty());
    assert!(ready.messages_now.is_empty(), "the answer waits for the installation");
    assert_eq!(ready.messages_after_persist.len(), 1);
    assert_eq!(node.check_may_campaign(), Err(raft::CampaignError::TreeIncomplete));
    node.persisted(ready.number);
    assert_eq!(node.check_may_campaign(), Ok(()));
    let status = node.status();
    assert_eq!(status.configuration, configuration);
    assert_eq!((status.last, status.commit), (entry_id(9, 2), Index(9)));
    assert_eq!((status.applied, status.persisted), (Index(9), Index(9)));
}

#[test]
fn s60_whom_the_configuration_does_not_name_restores_and_never_campaigns() {
    let mut stranger = solo(4, 0, &[], 0);
    step(&mut stranger, 2, 1, Body::Snapshot { snapshot: snapshot(5, 1) });
    assert_eq!(stranger.status().applied, Index(5));
    for _ in 0..50 {
        stranger.tick();
    }
    assert_eq!(stranger.soft_state().role, Role::Follower);
    let mut learner = solo(4, 0, &[], 0);
    let mut with_learner = snapshot(5, 1);
    with_learner.configuration.learners = vec![id(4)];
    step(&mut learner, 2, 1, Body::Snapshot { snapshot: with_learner });
    assert_eq!(learner.status().configuration.learners, [id(4)]);
}

#[test]
fn s62_the_log_answers_for_what_it_holds_and_no_more() {
    let mut cluster = compacted();
    let node = cluster.node(1);
    let mut out = Vec::new();
    assert_eq!(node.entries(Index(11), 10, &mut out), Err(raft::LogError::Compacted));
    assert_eq!(node.entries(Index(12), 10, &mut out), Err(raft::LogError::Unavailable));
    assert_eq!(node.term_of(Index(11)), Some(Term(1)));
    assert_eq!(node.term_of(Index(10)), None);
    assert_eq!(node.term_of(Index(12)), None);
    node.checkpointed(Snapshot { last: entry_id(3, 1), ..Snapshot::default() });
    cluster.is_transfer_held = true;
    cluster.heal();
    cluster.tick(3);
    let Body::Snapshot { snapshot } = &cluster.transfers[0].message.body else { panic!() };
    assert_eq!(snapshot.last, entry_id(11, 1), "an older checkpoint replaces no newer one");
}

#[test]
fn s63_snapshots_in_quick_succession_and_a_crash_at_each_step() {
    // 0: before the Ready, 1: before the sync, 2: after it.
    for crash_at in 0..3 {
        let mut cluster = compacted();
        cluster.is_transfer_held = true;
        cluster.replicas.get_mut(&3).unwrap().is_sync_held = true;
        cluster.heal();
        cluster.tick(3);
        let first = cluster.transfers.pop().unwrap();
        cluster.propose(1, "x");
        assert!(cluster.checkpoint(1, 0));
        cluster.node(1).report_snapshot(id(3), SnapshotOutcome::Failed);
        cluster.tick(3);
        let second = cluster.transfers.pop().unwrap();
        cluster.deliver(first);
        if 0 < crash_at {
            cluster.pump(3);
        }
        cluster.deliver(second);
        if 0 < crash_at {
            cluster.pump(3);
            assert_eq!(cluster.status(3).applied, Index(12));
        }
        cluster.replicas.get_mut(&3).unwrap().is_sync_held = false;
        if crash_at == 2 {
            cluster.sync(3);
        }
        cluster.restart(3);
        let expected = if crash_at == 2 { Index(12) } else { Index(0) };
        assert_eq!(cluster.status(3).applied, expected);
        cluster.is_transfer_held = false;
        cluster.node(1).report_snapshot(id(3), SnapshotOutcome::Failed);
        cluster.tick(5);
        cluster.assert_converged(&[1, 2, 3]);
    }
}

#[test]
fn s63_a_snapshot_overtakes_what_is_being_applied() {
    let mut node = solo(1, 3, &[1, 1, 1], 1);
    node.step(Message { from: id(2), to: id(1), term: Term(1), body: heartbeat(3, 1) }).unwrap();
    let mut ready = Ready::default();
    node.ready(&mut ready);
    let handed: Vec<Entry> = std::mem::take(&mut ready.committed);
    assert_eq!(handed.len(), 3);
    node.applied(Index(1));
    step(&mut node, 2, 1, Body::Snapshot { snapshot: snapshot(9, 1) });
    // The caller's report of what it had begun before is late, and harmless.
    node.applied(Index(3));
    assert_eq!(node.status().applied, Index(9));
}

#[test]
fn a_state_is_adopted_ahead_of_what_was_handed_out() {
    for given_bytes in [1, 1 << 20] {
        let mut small = config(1);
        small.applying_size_bytes_max = given_bytes;
        let mut node = solo_with(small, 3, &[1, 1, 1, 1, 1], 1);
        let commits =
            |index| Message { from: id(2), to: id(1), term: Term(1), body: heartbeat(index, 1) };
        node.step(commits(4)).unwrap();
        let mut ready = Ready::default();
        node.ready(&mut ready);
        assert_eq!(ready.committed.len(), if given_bytes == 1 { 1 } else { 4 });
        let configuration = Configuration { learners: vec![id(4)], ..snapshot(3, 1).configuration };
        let state = Snapshot { last: entry_id(3, 1), configuration };
        node.adopted(&state);
        let status = node.status();
        assert_eq!((status.applied, status.configuration), (Index(3), state.configuration));
        assert_eq!(status.last, entry_id(5, 1), "the log is what it was");
        // What is behind the state comes next, each entry once.
        let mut after: Vec<Index> = ready.committed.iter().map(|entry| entry.index).collect();
        after.retain(|index| Index(3) < *index);
        node.step(commits(5)).unwrap();
        while node.has_ready() {
            node.ready(&mut ready);
            node.persisted(ready.number);
            after.extend(ready.committed.iter().map(|entry| entry.index));
            node.applied(*after.last().unwrap());
        }
        assert_eq!(after, [Index(4), Index(5)]);
        assert_eq!(node.status().applied, Index(5));
    }
}
