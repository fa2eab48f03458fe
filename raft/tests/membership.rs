//! Changes of the configuration, simple and joint: scenarios 64 to 74 of the fact sheet, in its
//! order; 71 stands in quorum.rs.
#![allow(clippy::unwrap_used)]

mod harness;

use harness::solo::*;
use harness::{Cluster, change, config, decode, encode, id};
use raft::{
    ChangeError, ChangeStep, Config, Configuration, ConfigurationChange, EntryId, EntryKind, Index,
    MEMBERS_COUNT_MAX, ProposeError, RaftNode, Restored, Role, Term, Transition,
};

use ChangeStep::{AddLearner, AddVoter, Remove};

fn joint(
    steps: impl IntoIterator<Item = ChangeStep>,
    transition: Transition,
) -> ConfigurationChange {
    ConfigurationChange::Change { steps: steps.into_iter().collect(), transition }
}

fn numbers(list: &[raft::ReplicaId]) -> Vec<u64> {
    list.iter().map(|id| id.0).collect()
}

/// voters | outgoing | learners | learners next, as text.
fn text(configuration: &Configuration) -> String {
    let Configuration { voters, voters_outgoing, learners, learners_next, is_auto_leave } =
        configuration;
    let lists = [voters, voters_outgoing, learners, learners_next]
        .map(|list| numbers(list).iter().map(u64::to_string).collect::<Vec<_>>().join(" "));
    format!("{}{}", lists.join("|"), if *is_auto_leave { " auto" } else { "" })
}

/// Applies changes one after the other and shows each outcome.
fn check(voters: u64, changes: &[ConfigurationChange], expected: &[&str]) {
    let mut configuration = Configuration::of_voters((1..=voters).map(id));
    let mut shown = Vec::new();
    for change in changes {
        match configuration.changed(change) {
            Ok(changed) => {
                configuration = changed;
                shown.push(text(&configuration));
            }
            Err(error) => shown.push(format!("{error:?}")),
        }
    }
    assert_eq!(shown, expected);
}

#[test]
fn s64_one_change_at_a_time() {
    let mut cluster = Cluster::led(3);
    let add = change([AddLearner(id(4))]);
    cluster.isolate(1);
    cluster.node(1).propose_configuration(&add, encode(&add)).unwrap();
    cluster.settle();
    let second = change([AddLearner(id(5))]);
    let refused = cluster.node(1).propose_configuration(&second, encode(&second));
    assert_eq!(refused, Err(ProposeError::ConfigurationPending));
    cluster.replicas.get_mut(&1).unwrap().is_apply_held = true;
    cluster.heal();
    cluster.tick(3);
    assert_eq!(cluster.status(1).commit, Index(2), "committed, and not applied");
    let refused = cluster.node(1).propose_configuration(&second, encode(&second));
    assert_eq!(refused, Err(ProposeError::ConfigurationPending));
    assert!(cluster.status(1).configuration.learners.is_empty());
    cluster.replicas.get_mut(&1).unwrap().is_apply_held = false;
    cluster.settle();
    cluster.change(1, &second);
    assert_eq!(numbers(&cluster.status(1).configuration.learners), [4, 5]);
}

#[test]
fn s64_a_new_leader_waits_for_its_first_entry_to_be_applied() {
    let mut node = solo(1, 3, &[1], 1);
    make_leader(&mut node);
    let add = change([AddVoter(id(4))]);
    let refused = node.propose_configuration(&add, encode(&add));
    assert_eq!(refused, Err(ProposeError::ConfigurationPending));
    step(&mut node, 2, 2, accepted(2));
    node.propose_configuration(&add, encode(&add)).unwrap();
}

#[test]
fn s64_what_follows_a_change_waits_for_it_and_for_its_quorum() {
    let mut node = solo(1, 3, &[], 0);
    make_leader(&mut node);
    step(&mut node, 2, 1, accepted(1));
    let add = change([AddVoter(id(4)), AddVoter(id(5))]);
    node.propose_configuration(&add, encode(&add)).unwrap();
    node.propose(EntryKind::Command, "x".into()).unwrap();
    let mut ready = raft::Ready::default();
    node.ready(&mut ready);
    node.persisted(ready.number);
    let answer =
        |from| raft::Message { from: id(from), to: id(1), term: Term(1), body: accepted(3) };
    node.step(answer(2)).unwrap();
    assert_eq!(node.commit(), Index(2), "two of the three hold both, the change commits alone");
    node.apply_configuration(&add).unwrap();
    node.ready(&mut ready);
    node.applied(Index(2));
    assert_eq!(node.commit(), Index(2), "two of the five");
    node.step(answer(5)).unwrap();
    assert_eq!(node.commit(), Index(3));
}

#[test]
fn s65_each_simple_change_and_each_that_changes_nothing() {
    check(
        2,
        &[
            change([AddVoter(id(3))]),
            change([AddVoter(id(3))]),
            change([AddLearner(id(4))]),
            change([AddLearner(id(4))]),
            change([AddVoter(id(4))]),
            change([Remove(id(2))]),
            change([Remove(id(2))]),
            change([AddLearner(id(3))]),
            change([Remove(id(3))]),
            change([]),
        ],
        &[
            "1 2 3|||",
            "1 2 3|||",
            "1 2 3||4|",
            "1 2 3||4|",
            "1 2 3 4|||",
            "1 3 4|||",
            "1 3 4|||",
            "1 4||3|",
            "1 4|||",
            "1 4|||",
        ],
    );
}

#[test]
fn s65_a_refused_change_at_apply_changes_nothing() {
    let mut node = solo(1, 1, &[], 0);
    let before = node.configuration().clone();
    let refused = node.apply_configuration(&change([Remove(id(1))])).unwrap_err();
    assert_eq!(refused, ChangeError::NoVoters);
    assert_eq!(*node.configuration(), before);
}

#[test]
fn s66_a_new_member_does_not_depose_the_leader() {
    let mut cluster = Cluster::led(1);
    cluster.change(1, &change([AddVoter(id(2))]));
    assert_eq!(cluster.role(1), Role::Leader);
    // It counts as heard for the period in which it joined, not for ever.
    cluster.tick(9);
    assert_eq!(cluster.role(1), Role::Leader);
    cluster.add_replica(config(2));
    assert!(cluster.checkpoint(1, 9));
    cluster.tick(5);
    assert_eq!(cluster.role(1), Role::Leader);
    cluster.assert_converged(&[1, 2]);
    cluster.crash(2);
    cluster.tick(25);
    assert_eq!(cluster.role(1), Role::Follower);
}

#[test]
fn s67_a_removed_leader_leads_until_it_applies_that_and_steps_down() {
    let mut cluster = Cluster::led(3);
    cluster.replicas.get_mut(&1).unwrap().is_apply_held = true;
    cluster.change(1, &change([Remove(id(1))]));
    assert_eq!(cluster.role(1), Role::Leader);
    cluster.replicas.get_mut(&1).unwrap().is_apply_held = false;
    cluster.settle();
    assert_eq!(cluster.role(1), Role::Follower);
    cluster.tick(40);
    let leader = cluster.leader().unwrap();
    assert_ne!(leader, 1);
    cluster.propose(leader, "x");
    assert_eq!(cluster.commands(), ["x"]);
    assert_eq!(cluster.status(1).term, Term(1), "the removed one does not campaign");
}

#[test]
fn s67_a_removed_leader_may_stay_by_option_until_it_hands_over() {
    let stays = |number| Config { is_step_down_on_removal: false, ..config(number) };
    let mut cluster = Cluster::with((1..=3).map(stays).collect(), 1..=3);
    cluster.elect(1);
    cluster.change(1, &change([Remove(id(1))]));
    assert_eq!(cluster.role(1), Role::Leader);
    let entry = cluster.propose(1, "x");
    assert_eq!(cluster.status(1).commit, entry.index, "by the two others");
    cluster.isolate(3);
    let entry = cluster.propose(1, "y");
    assert!(cluster.status(1).commit < entry.index, "it does not count itself");
    cluster.heal();
    cluster.tick(2);
    cluster.node(1).transfer_leader(id(2)).unwrap();
    cluster.settle();
    assert_eq!(cluster.leader(), Some(2));
}

#[test]
fn s68_a_joint_configuration_commits_by_both_majorities() {
    let mut cluster = Cluster::with((1..=5).map(config).collect(), 1..=3);
    cluster.elect(1);
    let steps = [AddVoter(id(4)), AddVoter(id(5)), Remove(id(2)), Remove(id(3))];
    cluster.change(1, &joint(steps, Transition::JointExplicit));
    let entered = cluster.status(1).configuration;
    assert_eq!(text(&entered), "1 4 5|1 2 3||");
    cluster.tick(2);
    for alone in [[2, 3], [4, 5]] {
        for number in alone {
            cluster.isolate(number);
        }
        let entry = cluster.propose(1, "x");
        assert!(cluster.status(1).commit < entry.index, "one half is not enough");
        cluster.heal();
        cluster.tick(2);
        assert_eq!(cluster.status(1).commit, entry.index);
    }
    cluster.isolate(3);
    cluster.isolate(5);
    let entry = cluster.propose(1, "x");
    assert_eq!(cluster.status(1).commit, entry.index);
    cluster.heal();
    cluster.change(1, &ConfigurationChange::LeaveJoint);
    assert_eq!(text(&cluster.status(1).configuration), "1 4 5|||");
    let refused = cluster
        .node(1)
        .propose_configuration(&ConfigurationChange::LeaveJoint, bytes::Bytes::new());
    assert_eq!(refused, Err(ProposeError::Change(ChangeError::NotJoint)));
}

#[test]
fn s68_a_joint_configuration_elects_by_both_majorities() {
    let mut node = solo(1, 3, &[], 0);
    let steps = [AddVoter(id(4)), AddVoter(id(5)), Remove(id(2)), Remove(id(3))];
    node.apply_configuration(&joint(steps, Transition::JointExplicit)).unwrap();
    node.campaign().unwrap();
    let asked: Vec<u64> = drain(&mut node).iter().map(|message| message.to.0).collect();
    assert_eq!(asked, [2, 3, 4, 5]);
    step(&mut node, 4, 1, pre_vote(raft::Verdict::Granted));
    step(&mut node, 5, 1, pre_vote(raft::Verdict::Granted));
    assert_eq!(node.soft_state().role, Role::PreCandidate);
    step(&mut node, 2, 1, pre_vote(raft::Verdict::Granted));
    assert_eq!(node.soft_state().role, Role::Candidate);
    step(&mut node, 2, 1, vote(raft::Verdict::Granted));
    assert_eq!(node.soft_state().role, Role::Candidate);
    step(&mut node, 4, 1, vote(raft::Verdict::Granted));
    assert_eq!(node.soft_state().role, Role::Leader);
}

#[test]
fn s68_the_leader_leaves_an_automatic_joint_configuration_by_itself() {
    let mut cluster = Cluster::with((1..=4).map(config).collect(), 1..=3);
    cluster.elect(1);
    cluster.change(1, &change([AddVoter(id(4)), Remove(id(3))]));
    cluster.tick(3);
    let configuration = cluster.status(1).configuration;
    assert_eq!(text(&configuration), "1 2 4|||");
    let leaves = cluster.history.iter().filter(|entry| entry.kind == EntryKind::ConfigChange);
    assert_eq!(leaves.count(), 2);
    cluster.tick(1);
    for number in [2, 4] {
        assert_eq!(cluster.status(number).configuration, configuration);
    }
}

#[test]
fn s68_a_new_leader_leaves_what_the_old_one_entered() {
    let mut cluster = Cluster::with((1..=4).map(config).collect(), 1..=3);
    cluster.elect(1);
    // The entry that leaves is never sent.
    cluster.is_lost = |message| match &message.body {
        raft::Body::Append { entries, .. } => {
            let leaves = |entry: &raft::Entry| {
                entry.kind == EntryKind::ConfigChange && entry.data.is_empty()
            };
            entries.iter().any(leaves)
        }
        _ => false,
    };
    cluster.change(1, &change([AddVoter(id(4)), Remove(id(3))]));
    cluster.tick(1);
    assert!(cluster.status(2).configuration.is_joint());
    cluster.crash(1);
    cluster.heal();
    cluster.tick(60);
    let leader = cluster.leader().unwrap();
    assert_eq!(text(&cluster.status(leader).configuration), "1 2 4|||");
}

#[test]
fn s69_a_voter_demoted_in_a_joint_change_becomes_a_learner_on_leaving() {
    check(
        3,
        &[
            joint([AddLearner(id(3)), AddVoter(id(4))], Transition::JointExplicit),
            ConfigurationChange::LeaveJoint,
        ],
        &["1 2 4|1 2 3||3", "1 2 4||3|"],
    );
    check(
        3,
        &[joint([AddLearner(id(3)), AddVoter(id(3))], Transition::JointAutoLeave)],
        &["1 2 3|1 2 3|| auto"],
    );
    check(2, &[joint([AddLearner(id(2)), Remove(id(2))], Transition::JointExplicit)], &["1|1 2||"]);
}

#[test]
fn s70_invalid_changes_are_refused() {
    check(
        2,
        &[
            change([Remove(id(1)), Remove(id(2))]),
            change([AddLearner(id(1)), AddLearner(id(2))]),
            ConfigurationChange::LeaveJoint,
            change([AddVoter(id(0))]),
            joint([AddVoter(id(3))], Transition::JointExplicit),
            joint([AddVoter(id(4))], Transition::JointExplicit),
            change([AddLearner(id(4))]),
            ConfigurationChange::LeaveJoint,
            ConfigurationChange::LeaveJoint,
        ],
        &[
            "NoVoters",
            "NoVoters",
            "NotJoint",
            "InvalidReplica",
            "1 2 3|1 2||",
            "AlreadyJoint",
            "AlreadyJoint",
            "1 2 3|||",
            "NotJoint",
        ],
    );
    let many = (2..=MEMBERS_COUNT_MAX as u64 + 1).map(|number| AddVoter(id(number)));
    check(1, &[change(many)], &["TooManyMembers"]);
}

#[test]
fn s72_any_reachable_configuration_is_restored_whole() {
    let mut configuration = Configuration::of_voters([id(1)]);
    let mut state = 12345u64;
    let mut seen_joint = 0;
    for _ in 0..2000 {
        let mut roll = |count: u64| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) % count
        };
        let steps: Vec<ChangeStep> = (0..=roll(3))
            .map(|_| {
                let member = id(1 + roll(6));
                match roll(3) {
                    0 => AddVoter(member),
                    1 => AddLearner(member),
                    _ => Remove(member),
                }
            })
            .collect();
        let transition = [Transition::Auto, Transition::JointAutoLeave, Transition::JointExplicit];
        let next = if configuration.is_joint() && roll(2) == 0 {
            ConfigurationChange::LeaveJoint
        } else {
            joint(steps, transition[roll(3) as usize])
        };
        assert_eq!(decode(&encode(&next)), next);
        let Ok(changed) = configuration.changed(&next) else { continue };
        configuration = changed;
        seen_joint += u32::from(configuration.is_joint());
        let restored = Restored { configuration: configuration.clone(), ..Restored::default() };
        let node = RaftNode::new(config(1), restored).unwrap();
        assert_eq!(*node.configuration(), configuration);
        let mut members: Vec<_> = configuration.members().collect();
        members.sort_unstable();
        members.dedup();
        assert!(!members.is_empty());
    }
    assert!(100 < seen_joint);
}

#[test]
fn s72_a_configuration_that_no_change_leads_to_is_refused() {
    let sound = Configuration {
        voters: vec![id(1), id(2)],
        voters_outgoing: vec![id(2), id(3)],
        learners: vec![id(4)],
        learners_next: vec![id(3)],
        is_auto_leave: true,
    };
    let refused = |change: fn(&mut Configuration)| {
        let mut configuration = sound.clone();
        change(&mut configuration);
        RaftNode::new(config(1), Restored { configuration, ..Restored::default() }).is_err()
    };
    assert!(!refused(|_| {}));
    assert!(refused(|c| c.voters = vec![id(2), id(1)]));
    assert!(refused(|c| c.voters = vec![id(1), id(1)]));
    assert!(refused(|c| c.voters.clear()));
    assert!(refused(|c| c.learners = vec![id(1)]));
    assert!(refused(|c| c.learners_next = vec![id(5)]));
    assert!(refused(|c| c.learners_next = vec![id(2)]));
    assert!(refused(|c| c.voters_outgoing.clear()));
    assert!(refused(|c| c.voters = vec![id(0)]));
}

#[test]
fn s74_every_member_changes_at_the_same_place_of_the_log() {
    let mut cluster = Cluster::led(3);
    let entry = cluster.change(1, &change([AddLearner(id(4))]));
    for number in 1..=3 {
        cluster.tick(1);
        assert_eq!(numbers(&cluster.status(number).configuration.learners), [4]);
        assert_eq!(cluster.history[entry.index.0 as usize - 1].kind, EntryKind::ConfigChange);
    }
    // A learner's progress shows when it may be promoted.
    cluster.add_replica(config(4));
    assert!(cluster.checkpoint(1, 9));
    cluster.tick(3);
    let status = cluster.status(1);
    let learner = status.peers.iter().find(|peer| peer.id == id(4)).unwrap();
    assert_eq!(learner.matched, status.last.index);
    cluster.change(1, &change([AddVoter(id(4))]));
    cluster.isolate(2);
    cluster.isolate(3);
    let waits = cluster.propose(1, "x");
    assert!(cluster.status(1).commit < waits.index, "three of four are needed now");
    cluster.heal();
    cluster.tick(3);
    cluster.assert_converged(&[1, 2, 3, 4]);
}

#[test]
fn a_forgotten_commit_index_does_not_lead_two_configurations_back() {
    // Entries 2 and 4 are changes: the first must have been applied by who proposed the second.
    let mut restored = Restored {
        configuration: Configuration::of_voters((1..=3).map(id)),
        entries: entries(0, &[1, 1, 1, 1]),
        ..Restored::default()
    };
    restored.hard_state.term = Term(1);
    for (slot, step) in [(1, AddVoter(id(4))), (3, AddVoter(id(5)))] {
        restored.entries[slot].kind = EntryKind::ConfigChange;
        restored.entries[slot].data = encode(&change([step]));
    }
    let mut node = RaftNode::new(config(1), restored).unwrap();
    assert_eq!(node.commit(), Index(2));
    assert_eq!(node.campaign(), Err(raft::CampaignError::ConfigurationPending));
    let mut ready = raft::Ready::default();
    node.ready(&mut ready);
    assert_eq!(ready.committed.len(), 2);
    node.apply_configuration(&decode(&ready.committed[1].data)).unwrap();
    node.applied(Index(2));
    assert_eq!(node.campaign(), Ok(()));
}

#[test]
fn the_last_voter_learns_from_a_refused_vote_that_it_is_the_last() {
    // 3 was demoted and knows so; 2 lost that knowledge, and the end of its log, in a crash.
    let mut node = solo(2, 3, &[1, 1], 1);
    node.campaign().unwrap();
    drain(&mut node);
    let committed = entry_id(2, 1);
    let body = raft::Body::PreVoteAnswer { verdict: raft::Verdict::Refused, committed };
    step(&mut node, 3, 1, body);
    assert_eq!(node.commit(), Index(2));
    // An entry that this log does not hold teaches nothing.
    let mut other = solo(2, 3, &[1, 1], 2);
    for committed in [entry_id(2, 2), entry_id(9, 1), EntryId::default()] {
        let body = raft::Body::PreVoteAnswer { verdict: raft::Verdict::Refused, committed };
        step(&mut other, 3, 2, body);
        assert_eq!(other.commit(), Index(0));
    }
}
