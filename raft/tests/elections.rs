//! Terms, states, elections, pre-vote and check-quorum: scenarios 1 to 30 of the fact sheet, one
//! test each, in its order. Scenario 12 stands in single_voter.rs.
#![allow(clippy::unwrap_used)]

mod harness;

use std::collections::BTreeSet;

use harness::solo::*;
use harness::{Cluster, change, config, id};
use raft::{
    Body, CampaignCause, CampaignError, ChangeStep, Config, Configuration, EntryId, Index,
    LeaseReads, Message, RaftNode, Ready, Role, Term, Verdict,
};

fn vote_request(last: EntryId) -> Body {
    let committed = EntryId::default();
    Body::VoteRequest { last, committed, cause: CampaignCause::Timeout }
}

fn transfer_request(last: EntryId) -> Body {
    let committed = EntryId::default();
    Body::VoteRequest { last, committed, cause: CampaignCause::Transfer }
}

fn pre_vote_request(last: EntryId) -> Body {
    Body::PreVoteRequest { last, committed: EntryId::default() }
}

fn verdicts(messages: &[Message]) -> Vec<Verdict> {
    let verdict = |message: &Message| match message.body {
        Body::VoteAnswer { verdict, .. } | Body::PreVoteAnswer { verdict, .. } => Some(verdict),
        _ => None,
    };
    messages.iter().filter_map(verdict).collect()
}

fn without_pre_vote(number: u64) -> Config {
    Config { is_pre_vote: false, ..config(number) }
}

/// Candidate 1 of `voters`, in term 1.
fn candidate(voters: u64) -> RaftNode {
    let mut node = solo_with(without_pre_vote(1), voters, &[], 0);
    node.campaign().unwrap();
    drain(&mut node);
    assert_eq!(node.soft_state().role, Role::Candidate);
    node
}

fn ticks_to_campaign(node: &mut RaftNode) -> u32 {
    for ticks in 1..1000 {
        node.tick();
        if node.soft_state().role != Role::Follower {
            return ticks;
        }
    }
    panic!("never campaigns");
}

#[test]
fn s01_starts_as_follower_without_leader() {
    let node = solo(1, 3, &[1, 1], 1);
    let state = node.soft_state();
    assert_eq!((state.role, state.leader, state.term), (Role::Follower, None, Term(1)));
}

#[test]
fn s02_a_higher_term_makes_a_follower_of_that_term() {
    let leader = {
        let mut node = solo(1, 3, &[], 0);
        make_leader(&mut node);
        node
    };
    for mut node in [solo(1, 3, &[], 0), candidate(3), leader] {
        step(&mut node, 2, 7, heartbeat(0, 1));
        let state = node.soft_state();
        assert_eq!((state.role, state.leader), (Role::Follower, Some(id(2))));
        assert_eq!(state.term, Term(7));
        assert_eq!(node.status().vote, None);
    }
}

#[test]
fn s03_a_lower_term_changes_nothing_and_only_a_stale_leader_or_candidate_is_told() {
    let mut node = solo(1, 3, &[1], 5);
    let before = node.status();
    for body in [heartbeat(1, 1), append(entry_id(1, 1), &[2], 2)] {
        let answers = step(&mut node, 2, 4, body);
        assert_eq!(answers.len(), 1);
        assert_eq!((&answers[0].body, answers[0].term), (&Body::StaleTerm, Term(5)));
    }
    let answers = step(&mut node, 2, 4, pre_vote_request(entry_id(9, 3)));
    assert_eq!(verdicts(&answers), [Verdict::Refused]);
    assert_eq!(answers[0].term, Term(5));
    assert!(step(&mut node, 2, 4, vote_request(entry_id(9, 3))).is_empty());
    assert!(step(&mut node, 2, 4, accepted(1)).is_empty());
    assert_eq!(node.status(), before);
}

#[test]
fn s03_a_leader_told_that_its_term_is_stale_steps_down() {
    let mut node = solo(1, 3, &[], 0);
    make_leader(&mut node);
    step(&mut node, 2, 9, Body::StaleTerm);
    assert_eq!(node.soft_state().role, Role::Follower);
    assert_eq!(node.soft_state().term, Term(9));
}

#[test]
fn s04_timeouts_are_drawn_anew_from_t_to_1_3_t_and_seldom_meet() {
    let mut drawn = BTreeSet::new();
    let mut meeting_count = 0;
    for seed in 0..100 {
        let timeout = |number: u64| {
            let mut config = Config { seed: seed * 3 + number, ..config(number) };
            config.election_timeout_ticks = 100;
            let mut node = solo_with(config, 3, &[], 0);
            let first = ticks_to_campaign(&mut node);
            step(&mut node, number % 3 + 1, 1, heartbeat(0, 1));
            (first, ticks_to_campaign(&mut node))
        };
        let timeouts = [timeout(1), timeout(2), timeout(3)];
        for (first, second) in timeouts {
            assert!((100..130).contains(&first));
            assert!((100..130).contains(&second));
            drawn.extend([first, second]);
        }
        let earliest = timeouts.iter().map(|(first, _)| *first).min().unwrap();
        let count = timeouts.iter().filter(|(first, _)| *first == earliest).count();
        meeting_count += usize::from(1 < count);
    }
    assert!(25 < drawn.len(), "only {} different timeouts", drawn.len());
    assert!(meeting_count < 15, "{meeting_count} of 100 elections start together");
}

#[test]
fn s05_a_candidate_that_times_out_starts_again_in_a_higher_term() {
    let mut node = candidate(3);
    for _ in 0..13 {
        node.tick();
    }
    assert_eq!(node.soft_state().role, Role::Candidate);
    assert_eq!(node.soft_state().term, Term(2));
    let asked = drain(&mut node);
    let asked = asked.iter().filter(|m| matches!(m.body, Body::VoteRequest { .. })).count();
    assert_eq!(asked, 2);
}

#[test]
fn s06_a_majority_of_grants_leads_and_a_majority_of_refusals_follows() {
    let cases = [
        (3, 1, 0, Role::Leader),
        (3, 0, 1, Role::Candidate),
        (3, 0, 2, Role::Follower),
        (5, 2, 0, Role::Leader),
        (5, 1, 2, Role::Candidate),
        (5, 2, 2, Role::Leader),
        (5, 1, 3, Role::Follower),
        (5, 0, 0, Role::Candidate),
        (4, 1, 1, Role::Candidate),
        (4, 1, 2, Role::Follower),
    ];
    for (voters, granted, refused, expected) in cases {
        let mut node = candidate(voters);
        for slot in 0..granted + refused {
            let verdict = if slot < refused { Verdict::Refused } else { Verdict::Granted };
            step(&mut node, 2 + slot, 1, vote(verdict));
            // Saying it twice does not count twice.
            step(&mut node, 2 + slot, 1, vote(verdict));
        }
        assert_eq!(node.soft_state().role, expected, "{voters} {granted} {refused}");
    }
}

#[test]
fn s07_one_vote_a_term_and_durable_before_the_answer() {
    let mut node = solo(1, 3, &[], 0);
    let request = |from, term| Message {
        from: id(from),
        to: id(1),
        term: Term(term),
        body: vote_request(EntryId::default()),
    };
    node.step(request(2, 1)).unwrap();
    let mut ready = Ready::default();
    node.ready(&mut ready);
    assert!(ready.messages_now.is_empty());
    assert_eq!(ready.hard_state.unwrap().vote, Some(id(2)));
    assert_eq!(verdicts(&ready.messages_after_persist), [Verdict::Granted]);
    node.persisted(ready.number);
    node.step(request(3, 1)).unwrap();
    assert_eq!(verdicts(&drain(&mut node)), [Verdict::Refused]);
    node.step(request(2, 1)).unwrap();
    assert_eq!(verdicts(&drain(&mut node)), [Verdict::Granted]);
    node.step(request(3, 2)).unwrap();
    assert_eq!(verdicts(&drain(&mut node)), [Verdict::Granted]);
}

#[test]
fn s07_a_vote_outlives_a_crash() {
    let mut cluster = Cluster::new(3);
    let last = EntryId::default();
    let body = transfer_request(last);
    let request = |from| Message { from: id(from), to: id(1), term: Term(4), body: body.clone() };
    cluster.node(1).step(request(2)).unwrap();
    cluster.settle();
    cluster.restart(1);
    assert_eq!(cluster.status(1).vote, Some(id(2)));
    cluster.node(1).step(request(3)).unwrap();
    assert_eq!(cluster.status(1).vote, Some(id(2)));
}

#[test]
fn s08_no_vote_for_a_log_that_is_less_complete() {
    // (own terms, candidate's last, expected)
    let cases: [(&[u64], (u64, u64), Verdict); 8] = [
        (&[1], (1, 1), Verdict::Granted),
        (&[1], (2, 1), Verdict::Granted),
        (&[1, 1], (1, 1), Verdict::Refused),
        (&[1], (1, 2), Verdict::Granted),
        (&[1, 1], (1, 2), Verdict::Granted),
        (&[2], (1, 1), Verdict::Refused),
        (&[2], (2, 1), Verdict::Refused),
        (&[], (0, 0), Verdict::Granted),
    ];
    for (own, (index, term), expected) in cases {
        let mut node = solo(1, 3, own, 3);
        let answers = step(&mut node, 2, 4, pre_vote_request(entry_id(index, term)));
        assert_eq!(verdicts(&answers), [expected], "pre-vote, {own:?} {index} {term}");
        let answers = step(&mut node, 2, 4, vote_request(entry_id(index, term)));
        assert_eq!(verdicts(&answers), [expected], "{own:?} {index} {term}");
    }
}

#[test]
fn s09_a_vote_is_given_from_any_state() {
    let mut leader = solo(1, 3, &[], 0);
    make_leader(&mut leader);
    let mut pre_candidate = solo(1, 3, &[], 0);
    pre_candidate.campaign().unwrap();
    for mut node in [solo(1, 3, &[], 0), pre_candidate, candidate(3), leader] {
        let last = entry_id(9, 1);
        let answers = step(&mut node, 2, 5, transfer_request(last));
        assert!(verdicts(&answers).contains(&Verdict::Granted));
        assert_eq!(node.soft_state().role, Role::Follower);
        assert_eq!(node.status().vote, Some(id(2)));
    }
}

#[test]
fn s10_a_candidate_steps_back_for_the_leader_of_its_term() {
    for body in [heartbeat(0, 1), append(EntryId::default(), &[1], 0)] {
        let mut node = candidate(3);
        step(&mut node, 2, 1, body.clone());
        let state = node.soft_state();
        assert_eq!((state.role, state.leader), (Role::Follower, Some(id(2))));
        let mut node = solo(1, 3, &[], 1);
        node.campaign().unwrap();
        assert_eq!(node.soft_state().role, Role::PreCandidate);
        step(&mut node, 2, 1, body);
        assert_eq!(node.soft_state().role, Role::Follower);
    }
}

#[test]
fn s11_a_leader_does_not_campaign() {
    let mut node = solo(1, 3, &[], 0);
    make_leader(&mut node);
    let before = node.soft_state();
    assert_eq!(node.campaign(), Err(CampaignError::AlreadyLeader));
    assert!(step(&mut node, 2, 1, Body::TimeoutNow).is_empty());
    assert_eq!(node.soft_state(), before);
}

#[test]
fn s13_duelling_candidates_converge() {
    for is_pre_vote in [true, false] {
        let configs = (1..=3).map(|number| Config { is_pre_vote, ..config(number) });
        let mut cluster = Cluster::with(configs.collect(), 1..=3);
        cluster.cut(1, 3);
        cluster.node(1).campaign().unwrap();
        cluster.node(3).campaign().unwrap();
        cluster.settle();
        cluster.heal();
        cluster.tick(60);
        let leader = cluster.leader().unwrap();
        cluster.propose(leader, "a");
        cluster.tick(2);
        cluster.assert_converged(&[1, 2, 3]);
        let leaders = (1..=3).filter(|number| cluster.role(*number) == Role::Leader);
        assert_eq!(leaders.count(), 1);
    }
}

#[test]
fn s14_leadership_rotates_through_all_members() {
    let mut cluster = Cluster::led(3);
    for next in [2, 3, 1, 3, 2, 1] {
        let leader = cluster.leader().unwrap();
        cluster.node(leader).transfer_leader(id(next)).unwrap();
        cluster.settle();
        assert_eq!(cluster.leader(), Some(next));
        cluster.propose(next, "x");
    }
    cluster.tick(1);
    cluster.assert_converged(&[1, 2, 3]);
}

#[test]
fn s15_a_newer_leader_overwrites_longer_logs_that_never_committed() {
    let mut cluster = Cluster::led(3);
    cluster.isolate(1);
    for _ in 0..5 {
        cluster.propose(1, "lost");
    }
    cluster.tick(15);
    let leader = cluster.leader().unwrap();
    assert_ne!(leader, 1);
    cluster.propose(leader, "kept");
    cluster.heal();
    cluster.tick(20);
    let leader = cluster.leader().unwrap();
    cluster.propose(leader, "after");
    cluster.tick(2);
    cluster.assert_converged(&[1, 2, 3]);
    assert_eq!(cluster.commands(), ["kept", "after"]);
}

#[test]
fn s16_delayed_messages_of_an_old_leader_revive_nothing() {
    let mut cluster = Cluster::led(3);
    cluster.is_lost = |message| matches!(message.body, Body::Append { .. });
    cluster.node(1).propose(raft::EntryKind::Command, "old".into()).unwrap();
    cluster.pump(1);
    let delayed: Vec<_> = cluster.network.drain(..).collect();
    assert!(delayed.iter().any(|e| matches!(e.message.body, Body::Append { .. })));
    cluster.heal();
    cluster.isolate(1);
    cluster.tick(40);
    let leader = cluster.leader().unwrap();
    cluster.propose(leader, "new");
    cluster.heal();
    for envelope in delayed {
        cluster.deliver(envelope);
    }
    cluster.tick(5);
    cluster.assert_converged(&[1, 2, 3]);
    assert_eq!(cluster.commands(), ["new"]);
}

#[test]
fn s17_the_own_vote_counts_only_while_its_election_runs() {
    let mut node = solo_with(without_pre_vote(1), 5, &[], 0);
    node.campaign().unwrap();
    let mut ready = Ready::default();
    node.ready(&mut ready);
    let answer =
        |from, verdict| Message { from: id(from), to: id(1), term: Term(1), body: vote(verdict) };
    for from in [2, 3, 4] {
        node.step(answer(from, Verdict::Refused)).unwrap();
    }
    assert_eq!(node.soft_state().role, Role::Follower);
    node.persisted(ready.number);
    for from in [2, 3, 4, 5] {
        node.step(answer(from, Verdict::Granted)).unwrap();
    }
    assert_eq!(node.soft_state().role, Role::Follower);
}

#[test]
fn s17_nobody_leads_a_term_that_is_not_durable_here() {
    let mut node = solo_with(without_pre_vote(1), 3, &[], 0);
    node.campaign().unwrap();
    let mut ready = Ready::default();
    node.ready(&mut ready);
    assert!(ready.messages_now.is_empty(), "no request leaves before the vote is durable");
    for from in [2, 3] {
        let body = vote(Verdict::Granted);
        node.step(Message { from: id(from), to: id(1), term: Term(1), body }).unwrap();
    }
    assert_eq!(node.soft_state().role, Role::Candidate);
    node.persisted(ready.number);
    assert_eq!(node.soft_state().role, Role::Leader);
}

#[test]
fn s18_a_late_pre_vote_is_not_a_vote() {
    let mut node = solo(1, 5, &[], 0);
    node.campaign().unwrap();
    drain(&mut node);
    step(&mut node, 2, 1, pre_vote(Verdict::Granted));
    step(&mut node, 3, 1, pre_vote(Verdict::Granted));
    assert_eq!(node.soft_state().role, Role::Candidate);
    step(&mut node, 4, 1, pre_vote(Verdict::Granted));
    step(&mut node, 5, 1, pre_vote(Verdict::Granted));
    step(&mut node, 2, 1, vote(Verdict::Granted));
    assert_eq!(node.soft_state().role, Role::Candidate, "two votes of five");
    step(&mut node, 3, 1, vote(Verdict::Granted));
    assert_eq!(node.soft_state().role, Role::Leader);
}

#[test]
fn s19_an_own_write_that_ends_after_the_term_commits_nothing() {
    let mut node = solo(1, 3, &[], 0);
    make_leader(&mut node);
    node.propose(raft::EntryKind::Command, "x".into()).unwrap();
    let mut ready = Ready::default();
    node.ready(&mut ready);
    let commit = node.commit();
    let message = Message { from: id(2), to: id(1), term: Term(5), body: heartbeat(commit.0, 1) };
    node.step(message).unwrap();
    node.persisted(ready.number);
    assert_eq!(node.commit(), commit);
    assert_eq!(node.soft_state().role, Role::Follower);
    assert_eq!(node.status().persisted, Index(2));
}

#[test]
fn s20_who_hears_a_leader_gives_no_votes_except_for_a_transfer() {
    let mut cluster = Cluster::led(3);
    let last = cluster.status(3).last;
    let request = |body| Message { from: id(3), to: id(2), term: Term(9), body };
    cluster.node(2).step(request(vote_request(last))).unwrap();
    assert!(!cluster.node(2).has_ready(), "ignored, not even refused");
    assert_eq!(cluster.status(2).term, Term(1));
    cluster.node(2).step(request(pre_vote_request(last))).unwrap();
    assert_eq!(cluster.status(2).term, Term(1));
    assert_eq!(verdicts(&drain(cluster.node(2))), [Verdict::Refused]);
    // The leader itself is as steadfast.
    let message = Message { to: id(1), ..request(vote_request(last)) };
    cluster.node(1).step(message).unwrap();
    assert_eq!(cluster.role(1), Role::Leader);
    // Not heard for T: the vote is free.
    let mut silent = solo(2, 3, &[], 1);
    step(&mut silent, 1, 1, heartbeat(0, 1));
    for _ in 0..10 {
        silent.tick();
    }
    let answers = step(&mut silent, 3, 9, vote_request(EntryId::default()));
    assert_eq!(verdicts(&answers), [Verdict::Granted]);
    cluster.node(2).step(request(transfer_request(last))).unwrap();
    assert_eq!(cluster.status(2).vote, Some(id(3)));
}

#[test]
fn s21_learners_and_strangers_do_not_campaign() {
    let mut configuration = Configuration::of_voters([id(1), id(2)]);
    configuration.learners = vec![id(3)];
    let configs = (1..=4).map(config).collect();
    let mut cluster = Cluster::with_configuration(configs, configuration);
    for number in [3, 4] {
        cluster.tick_one(number, 100);
        assert_eq!(cluster.role(number), Role::Follower);
        assert_eq!(cluster.status(number).term, Term(0));
        assert_eq!(cluster.node(number).campaign(), Err(CampaignError::NotVoter));
        let message =
            Message { from: id(1), to: id(number), term: Term(1), body: Body::TimeoutNow };
        cluster.node(number).step(message).unwrap();
        assert_eq!(cluster.role(number), Role::Follower);
    }
}

#[test]
fn s22_a_learner_that_is_asked_votes() {
    let mut configuration = Configuration::of_voters([id(1), id(2)]);
    configuration.learners = vec![id(3)];
    let configs = (1..=3).map(config).collect();
    let mut cluster = Cluster::with_configuration(configs, configuration);
    let body = vote_request(EntryId::default());
    let message = Message { from: id(1), to: id(3), term: Term(1), body };
    cluster.node(3).step(message).unwrap();
    assert_eq!(verdicts(&drain(cluster.node(3))), [Verdict::Granted]);
}

#[test]
fn s23_no_campaign_over_a_committed_change_that_is_not_applied() {
    let mut cluster = Cluster::led(3);
    cluster.replicas.get_mut(&2).unwrap().is_apply_held = true;
    cluster.change(1, &change([ChangeStep::AddLearner(id(4))]));
    cluster.tick(1);
    assert_eq!(cluster.status(2).commit, cluster.status(1).commit);
    assert_eq!(cluster.node(2).campaign(), Err(CampaignError::ConfigurationPending));
    let message = Message { from: id(1), to: id(2), term: Term(1), body: Body::TimeoutNow };
    cluster.node(2).step(message).unwrap();
    cluster.tick_one(2, 30);
    assert_eq!(cluster.role(2), Role::Follower);
    cluster.replicas.get_mut(&2).unwrap().is_apply_held = false;
    cluster.settle();
    cluster.tick_one(2, 30);
    assert_ne!(cluster.role(2), Role::Follower);
}

#[test]
fn s24_a_forgotten_leader_is_found_again_by_its_heartbeat() {
    let mut node = solo(2, 3, &[], 1);
    step(&mut node, 1, 1, heartbeat(0, 1));
    for _ in 0..5 {
        node.tick();
    }
    node.forget_leader();
    assert_eq!(node.soft_state().leader, None);
    assert_eq!(node.soft_state().term, Term(1));
    let answers = step(&mut node, 3, 2, pre_vote_request(EntryId::default()));
    assert_eq!(verdicts(&answers), [Verdict::Granted]);
    step(&mut node, 1, 1, heartbeat(0, 2));
    assert_eq!(node.soft_state().leader, Some(id(1)));
    // The timeout went on all the time.
    let mut node = solo(2, 3, &[], 1);
    step(&mut node, 1, 1, heartbeat(0, 1));
    for _ in 0..5 {
        node.tick();
    }
    node.forget_leader();
    assert!(ticks_to_campaign(&mut node) <= 8);
}

#[test]
fn s24_a_leader_that_serves_lease_reads_is_not_forgotten() {
    let mut node = solo(2, 3, &[], 1);
    let body = Body::Heartbeat {
        commit: Index(0),
        round: 1,
        lease: LeaseReads::Served,
        disk: Default::default(),
    };
    step(&mut node, 1, 1, body);
    node.forget_leader();
    assert_eq!(node.soft_state().leader, Some(id(1)));
}

#[test]
fn s25_a_partitioned_member_cannot_raise_the_term() {
    let mut cluster = Cluster::led(3);
    cluster.isolate(3);
    cluster.tick(100);
    assert_eq!(cluster.status(3).term, Term(1));
    assert_eq!(cluster.status(3).vote, Some(id(1)));
    cluster.heal();
    cluster.tick(20);
    assert_eq!(cluster.leader(), Some(1));
    assert_eq!(cluster.status(1).term, Term(1));
}

#[test]
fn s25_a_pre_vote_changes_nothing_for_who_gives_it() {
    let mut node = solo(1, 3, &[], 2);
    let before = node.status();
    let answers = step(&mut node, 2, 9, pre_vote_request(EntryId::default()));
    assert_eq!(verdicts(&answers), [Verdict::Granted]);
    assert_eq!(answers[0].term, Term(9));
    let answers = step(&mut node, 3, 9, pre_vote_request(EntryId::default()));
    assert_eq!(verdicts(&answers), [Verdict::Granted], "it is no vote");
    assert_eq!(node.status(), before);
}

#[test]
fn s26_without_pre_vote_a_returning_member_disrupts_once() {
    let mut cluster = Cluster::with((1..=3).map(without_pre_vote).collect(), 1..=3);
    cluster.elect(1);
    cluster.isolate(3);
    cluster.tick(60);
    let raised = cluster.status(3).term;
    assert!(Term(2) < raised);
    cluster.heal();
    cluster.tick(60);
    let leader = cluster.leader().unwrap();
    let term = cluster.status(leader).term;
    assert!(raised <= term);
    cluster.tick(60);
    assert_eq!((cluster.leader(), cluster.status(leader).term), (Some(leader), term));
    cluster.propose(leader, "a");
    cluster.tick(1);
    cluster.assert_converged(&[1, 2, 3]);
}

#[test]
fn s27_a_split_pre_vote_still_elects() {
    let mut cluster = Cluster::led(3);
    cluster.crash(1);
    cluster.tick_one(2, 10);
    cluster.tick_one(3, 10);
    let _ = cluster.node(2).campaign();
    let _ = cluster.node(3).campaign();
    cluster.settle();
    cluster.tick(60);
    let leader = cluster.leader().unwrap();
    cluster.propose(leader, "a");
    assert_eq!(cluster.commands(), ["a"]);
}

#[test]
fn s27_a_member_of_a_smaller_term_completes_an_election() {
    let mut cluster = Cluster::led(3);
    cluster.isolate(3);
    for next in [2, 1, 2] {
        let leader = cluster.leader().unwrap();
        cluster.node(leader).transfer_leader(id(next)).unwrap();
        cluster.settle();
    }
    assert!(cluster.status(3).term < cluster.status(2).term);
    cluster.heal();
    cluster.crash(2);
    cluster.tick(60);
    assert!(cluster.leader().is_some());
}

#[test]
fn s28_pre_vote_can_be_switched_on_member_by_member() {
    let mixed = |number| Config { is_pre_vote: number != 3, ..config(number) };
    let mut cluster = Cluster::with((1..=3).map(mixed).collect(), 1..=3);
    cluster.elect(1);
    cluster.isolate(3);
    cluster.tick(50);
    // A candidate of a high term, with a log that misses an entry.
    cluster.propose(1, "a");
    assert!(cluster.status(1).term < cluster.status(3).term);
    let stuck = cluster.status(3).term;
    let log = cluster.replicas[&3].config.clone();
    let replica = cluster.replicas.get_mut(&3).unwrap();
    replica.config = Config { is_pre_vote: true, ..log };
    cluster.restart(3);
    assert_eq!(cluster.status(3).term, stuck);
    cluster.heal();
    cluster.tick(80);
    let leader = cluster.leader().unwrap();
    assert_ne!(leader, 3, "its log was behind");
    assert!(stuck <= cluster.status(leader).term);
    cluster.propose(leader, "b");
    cluster.tick(2);
    cluster.assert_converged(&[1, 2, 3]);
}

#[test]
fn s29_a_leader_out_of_contact_steps_down_within_two_periods() {
    let mut cluster = Cluster::led(5);
    for number in [3, 4, 5] {
        cluster.isolate(number);
    }
    cluster.tick(20);
    assert_eq!(cluster.role(1), Role::Follower);
    assert_eq!(cluster.status(1).term, Term(1), "with pre-vote the term stays");
    let mut cluster = Cluster::led(5);
    cluster.isolate(4);
    cluster.isolate(5);
    cluster.tick(100);
    assert_eq!(cluster.role(1), Role::Leader);
}

#[test]
fn s30_learners_do_not_keep_a_leader_in_office() {
    let mut configuration = Configuration::of_voters((1..=3).map(id));
    configuration.learners = vec![id(4), id(5)];
    let configs = (1..=5).map(config).collect();
    let mut cluster = Cluster::with_configuration(configs, configuration);
    cluster.elect(1);
    cluster.isolate(2);
    cluster.isolate(3);
    cluster.tick(25);
    assert_eq!(cluster.role(1), Role::Follower);
}
