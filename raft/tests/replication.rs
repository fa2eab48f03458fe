//! Log replication and flow control: scenarios 31 to 52 of the fact sheet, in its order. 41 and 45
//! stand in single_voter.rs, the general case of 53 in snapshots.rs.
#![allow(clippy::unwrap_used)]

mod harness;

use harness::solo::*;
use harness::{Cluster, change, config, id};
use raft::{
    AppendOutcome, Body, ChangeStep, Config, EntryId, EntryKind, HardState, Index, Message,
    ProgressState, ProposeError, RaftNode, Snapshot, StepError, Term,
};

/// Leader 1 of `voters`, whose log had these terms before.
fn leader(voters: u64, terms: &[u64], term: u64) -> RaftNode {
    leader_with(config(1), voters, terms, term)
}

fn leader_with(config: Config, voters: u64, terms: &[u64], term: u64) -> RaftNode {
    let mut node = solo_with(config, voters, terms, term);
    make_leader(&mut node);
    node
}

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

fn terms(node: &RaftNode) -> Vec<u64> {
    let status = node.status();
    (status.first.0..=status.last.index.0).map(|i| node.term_of(Index(i)).unwrap().0).collect()
}

fn heartbeat_answer(round: u64) -> Body {
    Body::HeartbeatAnswer { round, disk: Default::default() }
}

#[test]
fn s31_a_new_leader_appends_an_empty_entry_of_its_term() {
    let mut node = solo(1, 3, &[1, 1], 1);
    let sent = make_leader(&mut node);
    assert_eq!(node.status().last, entry_id(3, 2));
    for peer in [2, 3] {
        assert_eq!(appends(&sent, peer), [(2, 1)]);
    }
}

#[test]
fn s32_an_append_is_taken_only_after_an_entry_that_agrees() {
    let cases = [
        (entry_id(0, 0), None),
        (entry_id(1, 1), None),
        (entry_id(2, 2), None),
        // The entry before is of another term: the last that may agree is (1, 1).
        (entry_id(2, 1), Some(entry_id(1, 1))),
        // The log is too short: its end may agree.
        (entry_id(5, 3), Some(entry_id(2, 2))),
    ];
    for (previous, rejected) in cases {
        let mut node = solo(1, 3, &[1, 2], 3);
        let answers = step(&mut node, 2, 3, append(previous, &[], 0));
        let expected = match rejected {
            None => AppendOutcome::Accepted { matched: previous.index },
            Some(hint) => AppendOutcome::Rejected { previous: previous.index, hint },
        };
        assert_eq!(outcome(&answers), expected);
    }
}

#[test]
fn s33_a_conflicting_suffix_is_replaced_and_what_agrees_is_kept() {
    let cases: [(EntryId, &[u64], &[u64]); 7] = [
        (entry_id(2, 2), &[3], &[1, 2, 3]),
        (entry_id(1, 1), &[3, 4], &[1, 3, 4]),
        (entry_id(0, 0), &[1], &[1, 2]),
        (entry_id(0, 0), &[3], &[3]),
        (entry_id(0, 0), &[1, 2], &[1, 2]),
        (entry_id(1, 1), &[2], &[1, 2]),
        (entry_id(0, 0), &[1, 2, 4, 4], &[1, 2, 4, 4]),
    ];
    for (previous, sent, expected) in cases {
        let mut node = solo(1, 3, &[1, 2], 4);
        for _ in 0..2 {
            let answers = step(&mut node, 2, 4, append(previous, sent, 0));
            let matched = Index(previous.index.0 + sent.len() as u64);
            assert_eq!(outcome(&answers), AppendOutcome::Accepted { matched });
            assert_eq!(terms(&node), expected, "{previous:?} {sent:?}");
        }
    }
}

#[test]
fn s33_what_follows_the_commit_index_may_be_replaced() {
    let mut node = solo(1, 3, &[1, 1], 1);
    step(&mut node, 2, 2, append(entry_id(2, 1), &[2, 2], 3));
    assert_eq!(node.commit(), Index(3));
    step(&mut node, 3, 3, append(entry_id(3, 2), &[3], 0));
    assert_eq!(terms(&node), [1, 1, 2, 3]);
    assert_eq!(node.commit(), Index(3));
}

#[test]
fn s33_a_committed_entry_is_never_replaced_and_who_tries_is_found_out() {
    let cases: [(EntryId, &[u64], u64); 4] = [
        (entry_id(0, 0), &[2, 2], 1),
        (entry_id(1, 1), &[1, 3], 3),
        (entry_id(2, 2), &[3], 2),
        (entry_id(3, 1), &[3], 3),
    ];
    for (previous, sent, index) in cases {
        let mut node = solo(1, 3, &[1, 1, 2, 2], 3);
        step(&mut node, 2, 3, append(entry_id(4, 2), &[], 3));
        let before = terms(&node);
        let body = append(previous, sent, 0);
        let message = Message { from: id(2), to: id(1), term: Term(3), body };
        let conflict = StepError::CommittedConflict { index: Index(index) };
        assert_eq!(node.step(message), Err(conflict));
        assert_eq!(terms(&node), before);
    }
    // What agrees with it may come again, from any point, with more after it.
    let mut node = solo(1, 3, &[1, 1, 2, 2], 3);
    step(&mut node, 2, 3, append(entry_id(4, 2), &[], 3));
    let answers = step(&mut node, 2, 3, append(entry_id(0, 0), &[1, 1], 0));
    assert_eq!(outcome(&answers), AppendOutcome::Accepted { matched: Index(3) });
    let answers = step(&mut node, 2, 3, append(entry_id(1, 1), &[1, 2, 3], 0));
    assert_eq!(outcome(&answers), AppendOutcome::Accepted { matched: Index(4) });
    assert_eq!(terms(&node), [1, 1, 2, 3]);
}

#[test]
fn s33_malformed_input_is_an_error_and_changes_nothing() {
    let mut node = solo(1, 3, &[1, 1], 2);
    let before = node.status();
    let gap = {
        let mut entries = entries(2, &[2, 2]);
        entries.remove(0);
        let lease = raft::LeaseReads::NotServed;
        Body::Append { previous: entry_id(2, 1), commit: Index(0), lease, entries }
    };
    let bad = [
        gap,
        append(entry_id(2, 1), &[2, 1], 0),
        append(entry_id(2, 1), &[3], 0),
        append(entry_id(0, 1), &[1], 0),
        append(entry_id(u64::MAX, 1), &[], 0),
        Body::Snapshot { snapshot: Snapshot { last: entry_id(5, 3), ..Snapshot::default() } },
        Body::VoteRequest {
            last: entry_id(5, 2),
            committed: EntryId::default(),
            cause: raft::CampaignCause::Timeout,
        },
    ];
    for body in bad {
        let message = Message { from: id(2), to: id(1), term: Term(2), body };
        assert_eq!(node.step(message), Err(StepError::Malformed));
    }
    let sound = |from, to, term| Message {
        from: id(from),
        to: id(to),
        term: Term(term),
        body: heartbeat(0, 1),
    };
    assert_eq!(node.step(sound(2, 3, 2)), Err(StepError::Misaddressed));
    assert_eq!(node.step(sound(1, 1, 2)), Err(StepError::Misaddressed));
    assert_eq!(node.step(sound(0, 1, 2)), Err(StepError::Malformed));
    assert_eq!(node.step(sound(2, 1, 0)), Err(StepError::Malformed));
    assert_eq!(node.step(sound(2, 1, u64::MAX)), Err(StepError::Malformed));
    let nobody =
        Body::Snapshot { snapshot: Snapshot { last: entry_id(5, 2), ..Snapshot::default() } };
    let message = Message { from: id(2), to: id(1), term: Term(2), body: nobody };
    assert_eq!(node.step(message), Err(StepError::Malformed));
    assert_eq!(node.status(), before);
    node.step(sound(2, 1, 2)).unwrap();
    assert_eq!(node.step(sound(3, 1, 2)), Err(StepError::TwoLeaders));
    let mut leader = leader(3, &[], 0);
    let far = Message { from: id(2), to: id(1), term: Term(1), body: accepted(9) };
    assert_eq!(leader.step(far), Err(StepError::Malformed));
}

#[test]
fn s34_commit_follows_the_leader_up_to_what_is_held_and_never_back() {
    let cases = [(1, 1), (2, 2), (3, 2), (99, 2)];
    for (told, expected) in cases {
        let mut node = solo(1, 3, &[1], 1);
        step(&mut node, 2, 1, append(entry_id(1, 1), &[1], told));
        assert_eq!(node.commit(), Index(expected));
        step(&mut node, 2, 1, append(entry_id(2, 1), &[], 0));
        step(&mut node, 2, 1, heartbeat(0, 1));
        assert_eq!(node.commit(), Index(expected));
    }
    // Entries beyond the append may differ from the leader's: they stay uncommitted.
    let mut node = solo(1, 3, &[1, 1, 1], 2);
    step(&mut node, 2, 2, append(entry_id(0, 0), &[1], 3));
    assert_eq!(node.commit(), Index(1));
}

#[test]
fn s35_only_entries_of_the_own_term_are_committed_by_counting() {
    // Figure 3.7 of the thesis: entry 2 of term 2 stands on a majority and may still be replaced.
    let mut node = leader(3, &[1, 2], 2);
    assert_eq!(node.status().term, Term(3));
    step(&mut node, 2, 3, accepted(2));
    assert_eq!(node.commit(), Index(0));
    step(&mut node, 2, 3, accepted(3));
    assert_eq!(node.commit(), Index(3));
}

#[test]
fn s36_committing_an_entry_commits_all_before_it() {
    for before in [&[1u64][..], &[1, 1], &[1, 2, 2]] {
        let mut node = leader(3, before, 2);
        propose(&mut node, 1);
        drain(&mut node);
        let last = before.len() as u64 + 2;
        step(&mut node, 3, 3, accepted(last));
        assert_eq!(node.commit(), Index(last));
    }
}

#[test]
fn s37_commit_spreads_by_append_and_by_heartbeat_capped_by_what_matches() {
    let mut node = leader(3, &[], 0);
    let sent = step(&mut node, 2, 1, accepted(1));
    let told = |message: &Message| match message.body {
        Body::Commit { commit, .. } => Some(commit.0),
        _ => None,
    };
    assert_eq!(sent.iter().filter_map(told).collect::<Vec<_>>(), [1], "to 2; 3 is probed");
    node.tick();
    let beats = drain(&mut node);
    let told = |message: &Message| match message.body {
        Body::Heartbeat { commit, .. } => Some((message.to.0, commit.0)),
        _ => None,
    };
    assert_eq!(beats.iter().filter_map(told).collect::<Vec<_>>(), [(2, 1), (3, 0)]);
}

#[test]
fn s37_news_of_the_commit_index_is_answered_only_where_it_does_not_fit() {
    let lease = raft::LeaseReads::NotServed;
    let commit = |previous, commit| Body::Commit { previous, commit: Index(commit), lease };
    let mut node = solo(1, 3, &[1, 1, 2], 2);
    assert_eq!(step(&mut node, 2, 2, commit(entry_id(2, 1), 1)), []);
    assert_eq!(node.commit(), Index(1));
    // What lies behind `previous` may be another leader's.
    assert_eq!(step(&mut node, 2, 2, commit(entry_id(2, 1), 3)), []);
    assert_eq!(node.commit(), Index(2));
    assert_eq!(step(&mut node, 2, 2, commit(entry_id(2, 1), 1)), []);
    assert_eq!(node.commit(), Index(2), "never back");
    let answers = step(&mut node, 2, 2, commit(entry_id(5, 2), 5));
    let hint = entry_id(3, 2);
    assert_eq!(outcome(&answers), AppendOutcome::Rejected { previous: Index(5), hint });
    let answers = step(&mut node, 3, 1, commit(entry_id(2, 1), 2));
    let Err(error) = node.step(Message {
        from: id(2),
        to: id(1),
        term: Term(2),
        body: commit(entry_id(u64::MAX, 1), 1),
    }) else {
        panic!("an index that nobody can reach");
    };
    let is_told = matches!(answers[..], [Message { body: Body::StaleTerm, .. }]);
    assert!(is_told, "an earlier leader hears that it is one: {answers:?}");
    assert_eq!(error, StepError::Malformed);
    assert_eq!(node.commit(), Index(2));
}

#[test]
fn s38_every_shape_of_follower_is_brought_in_line() {
    // Figure 3.6 of the thesis: the leader's log and six followers'.
    let leader_terms = [1, 1, 1, 4, 4, 5, 5, 6, 6, 6];
    let followers: [&[u64]; 6] = [
        &[1, 1, 1, 4, 4, 5, 5, 6, 6],
        &[1, 1, 1, 4],
        &[1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6],
        &[1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7],
        &[1, 1, 1, 4, 4, 4, 4],
        &[1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3],
    ];
    for follower in followers {
        let mut cluster = Cluster::new(3);
        for (number, terms) in [(1, &leader_terms[..]), (2, follower), (3, &[][..])] {
            let replica = cluster.replicas.get_mut(&number).unwrap();
            replica.disk.entries = entries(0, terms);
            replica.disk.hard_state = HardState { term: Term(7), vote: None, commit: Index(0) };
            cluster.restart(number);
        }
        // The third one has an empty log and gives the vote that 2 may refuse.
        cluster.elect(1);
        cluster.propose(1, "x");
        cluster.tick(1);
        cluster.assert_converged(&[1, 2, 3]);
        assert_eq!(cluster.status(2).last.index, Index(12));
    }
}

#[test]
fn s39_backtracking_skips_whole_terms_on_both_sides() {
    // (leader's terms, follower's terms, greatest number of rejections)
    let cases: [(&[u64], &[u64], usize); 4] = [
        (&[1, 1, 1, 1, 1, 1, 1, 1, 1, 6], &[1, 2, 2, 2, 2, 2, 2, 2, 2, 2], 2),
        (&[1, 3, 3, 3, 3, 3, 3, 3, 3, 6], &[1, 2, 2, 2, 2, 2, 2, 2, 2, 2], 1),
        (&[1, 1, 4, 4, 4, 5, 5, 5, 5, 5], &[1, 1, 2, 2, 2, 2, 3, 3, 3, 3], 1),
        (&[1, 1, 1, 3, 3, 3, 5, 5, 5, 6], &[1, 1, 1, 2, 2, 2, 4, 4, 4, 4], 2),
    ];
    for (own, other, rejections_max) in cases {
        let mut cluster = Cluster::new(3);
        for (number, terms) in [(1, own), (2, other), (3, &[][..])] {
            let replica = cluster.replicas.get_mut(&number).unwrap();
            replica.disk.entries = entries(0, terms);
            replica.disk.hard_state = HardState { term: Term(7), vote: None, commit: Index(0) };
            cluster.restart(number);
        }
        cluster.node(1).campaign().unwrap();
        let mut rejections = 0;
        loop {
            for number in 1..=3 {
                cluster.pump(number);
                cluster.sync(number);
                cluster.apply(number, 99);
            }
            let Some(envelope) = cluster.network.pop_front() else { break };
            let is_rejection = matches!(
                envelope.message,
                Message {
                    from,
                    body: Body::AppendAnswer { outcome: AppendOutcome::Rejected { .. }, .. },
                    ..
                } if from == id(2)
            );
            rejections += usize::from(is_rejection);
            cluster.deliver(envelope);
        }
        cluster.tick(1);
        cluster.assert_converged(&[1, 2, 3]);
        assert!(rejections <= rejections_max, "{rejections} for {own:?} {other:?}");
    }
}

#[test]
fn s40_reordered_repeated_and_delayed_messages_are_harmless() {
    let mut cluster = Cluster::led(3);
    for number in 0..6 {
        let data = format!("{number}").into();
        cluster.node(1).propose(EntryKind::Command, data).unwrap();
        cluster.pump(1);
        cluster.sync(1);
    }
    let mut envelopes: Vec<_> = cluster.network.drain(..).collect();
    envelopes.reverse();
    let copies = envelopes.clone();
    for envelope in envelopes.into_iter().chain(copies) {
        cluster.deliver(envelope);
        cluster.pump(2);
        cluster.sync(2);
    }
    let mut answers: Vec<_> = cluster.network.drain(..).collect();
    answers.reverse();
    for envelope in answers {
        cluster.deliver(envelope);
    }
    cluster.settle();
    cluster.tick(3);
    cluster.assert_converged(&[1, 2, 3]);
    assert_eq!(cluster.commands(), ["0", "1", "2", "3", "4", "5"]);
}

#[test]
fn s42_a_proposal_elsewhere_is_refused_with_the_leaders_name() {
    let mut cluster = Cluster::led(3);
    let refused = cluster.node(2).propose(EntryKind::Command, "x".into());
    assert_eq!(refused, Err(ProposeError::NotLeader { leader: Some(id(1)) }));
    let mut candidate = solo(1, 3, &[], 0);
    candidate.campaign().unwrap();
    let refused = candidate.propose(EntryKind::Command, "x".into());
    assert_eq!(refused, Err(ProposeError::NotLeader { leader: None }));
    assert_eq!(candidate.status().last.index, Index(0));
}

#[test]
fn s43_uncommitted_bytes_are_bounded_until_a_quorum_answers() {
    let config = Config { uncommitted_size_bytes_max: 1000, ..config(1) };
    let mut node = leader_with(config, 3, &[], 0);
    propose(&mut node, 5000);
    let refused = node.propose(EntryKind::Command, "x".into());
    assert_eq!(refused, Err(ProposeError::TooManyUncommitted));
    drain(&mut node);
    assert!(node.propose(EntryKind::Command, "x".into()).is_err());
    step(&mut node, 2, 1, accepted(2));
    node.propose(EntryKind::Command, "x".into()).unwrap();
    // The bound belongs to a term: the next one starts at nothing.
    propose(&mut node, 900);
    step(&mut node, 2, 5, Body::StaleTerm);
    make_leader(&mut node);
    propose(&mut node, 900);
}

#[test]
fn s44_removing_a_member_can_commit_what_waited_for_it() {
    let mut cluster = Cluster::led(4);
    cluster
        .node(1)
        .propose_configuration(
            &change([ChangeStep::Remove(id(4))]),
            harness::encode(&change([ChangeStep::Remove(id(4))])),
        )
        .unwrap();
    cluster.settle();
    // Three of four agreed on the removal; from then on two of three are enough.
    cluster.isolate(3);
    cluster.isolate(4);
    let before = cluster.status(1).commit;
    let entry = cluster.propose(1, "x");
    assert!(before < entry.index);
    assert_eq!(cluster.status(1).commit, entry.index);
}

#[test]
fn s44_entries_after_an_unapplied_removal_wait_for_it_and_then_commit_at_once() {
    let mut cluster = Cluster::led(4);
    cluster.replicas.get_mut(&1).unwrap().is_apply_held = true;
    let removal = cluster.change(1, &change([ChangeStep::Remove(id(4))]));
    cluster.isolate(3);
    cluster.isolate(4);
    let entry = cluster.propose(1, "x");
    assert_eq!(cluster.status(1).commit, removal.index, "two of four");
    cluster.replicas.get_mut(&1).unwrap().is_apply_held = false;
    cluster.settle();
    assert_eq!(cluster.status(1).commit, entry.index, "two of three, by the removal alone");
}

#[test]
fn s46_a_follower_applies_what_is_committed_before_its_own_sync() {
    let mut cluster = Cluster::led(3);
    cluster.replicas.get_mut(&3).unwrap().is_sync_held = true;
    let entry = cluster.propose(1, "x");
    cluster.tick(1);
    let status = cluster.status(3);
    assert_eq!(status.applied, entry.index);
    assert!(status.persisted < entry.index);
    assert_eq!(peer_status(cluster.node(1), 3).matched, Index(1), "and acknowledges nothing");
}

#[test]
fn s47_a_new_leader_probes_everybody_from_its_end() {
    let mut node = solo(1, 3, &[1, 1], 1);
    make_leader(&mut node);
    for peer in [2, 3] {
        let status = peer_status(&node, peer);
        assert_eq!(status.state, ProgressState::Probe);
        assert_eq!((status.matched, status.next), (Index(0), Index(3)));
    }
}

#[test]
fn s48_a_probe_waits_for_an_answer_or_a_heartbeats_answer() {
    let mut node = leader(3, &[], 0);
    for _ in 0..3 {
        propose(&mut node, 1);
        assert!(appends(&drain(&mut node), 2).is_empty(), "one append is on its way");
    }
    node.tick();
    let beats = drain(&mut node);
    assert!(appends(&beats, 2).is_empty());
    let sent = step(&mut node, 2, 1, heartbeat_answer(1));
    assert_eq!(appends(&sent, 2), [(0, 4)], "one more try an interval");
    let again = step(&mut node, 2, 1, heartbeat_answer(1));
    assert!(appends(&again, 2).is_empty());
    step(&mut node, 2, 1, accepted(4));
    assert_eq!(state(&node, 2), ProgressState::Replicate);
    propose(&mut node, 1);
    drain(&mut node);
    node.report_unreachable(id(2));
    assert_eq!(state(&node, 2), ProgressState::Probe);
    assert_eq!(peer_status(&node, 2).next, Index(5));
}

#[test]
fn s49_replication_does_not_wait_for_answers() {
    let mut node = leader(3, &[], 0);
    step(&mut node, 2, 1, accepted(1));
    for number in 1..5 {
        propose(&mut node, 1);
        assert_eq!(appends(&drain(&mut node), 2), [(number, 1)]);
    }
    assert_eq!(peer_status(&node, 2).next, Index(6));
    assert_eq!(peer_status(&node, 2).matched, Index(1));
}

#[test]
fn s50_the_window_is_bounded_in_appends_and_in_bytes() {
    let by_count = Config { inflight_count_max: 3, ..config(1) };
    let by_size = Config { append_size_bytes_max: 100, inflight_size_bytes_max: 300, ..config(1) };
    for config in [by_count, by_size] {
        let mut node = leader_with(config, 3, &[], 0);
        step(&mut node, 2, 1, accepted(1));
        let mut sent = 0;
        for _ in 0..10 {
            propose(&mut node, 68);
            sent += appends(&drain(&mut node), 2).len();
        }
        assert_eq!(sent, 3);
        assert_eq!(peer_status(&node, 2).inflight_count, 3);
        assert!(appends(&step(&mut node, 2, 1, accepted(1)), 2).is_empty(), "stale: frees nothing");
        let more = appends(&step(&mut node, 2, 1, accepted(3)), 2);
        assert!(!more.is_empty(), "two are answered, the window moves");
        assert!(peer_status(&node, 2).inflight_count <= 3);
        step(&mut node, 2, 1, accepted(11));
        assert_eq!(peer_status(&node, 2).inflight_count, 0);
    }
}

#[test]
fn s51_heartbeats_recover_lost_appends() {
    for inflight_count_max in [1, 100] {
        let configs = (1..=3).map(|number| Config { inflight_count_max, ..config(number) });
        let mut cluster = Cluster::with(configs.collect(), 1..=3);
        cluster.elect(1);
        cluster.propose(1, "a");
        cluster.cut(1, 2);
        for data in ["b", "c", "d"] {
            cluster.propose(1, data);
        }
        assert_eq!(state(cluster.node(1), 2), ProgressState::Replicate);
        cluster.heal();
        cluster.tick(3);
        cluster.assert_converged(&[1, 2, 3]);
        assert_eq!(state(cluster.node(1), 2), ProgressState::Replicate);
    }
}

#[test]
fn s52_an_append_is_bounded_and_carries_one_entry_at_least() {
    let config = Config { append_size_bytes_max: 300, ..config(1) };
    let mut node = leader_with(config, 3, &[], 0);
    step(&mut node, 2, 1, accepted(1));
    for size_bytes in [68, 68, 68, 68, 9000, 68] {
        propose(&mut node, size_bytes);
    }
    assert_eq!(appends(&drain(&mut node), 2), [(1, 3), (4, 1), (5, 1), (6, 1)]);
}
