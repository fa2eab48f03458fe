//! Leader transfer: scenarios 75 to 80 of the fact sheet, in its order.
#![allow(clippy::unwrap_used)]

mod harness;

use harness::solo::*;
use harness::{Cluster, change, config, id};
use raft::{
    Body, ChangeStep, Config, Configuration, DiskHealth, EntryKind, Index, ProposeError, RaftNode,
    Role, Term, TransferError,
};

/// Leader 1 of three; 2 holds everything, 3 nothing.
fn leader() -> RaftNode {
    let mut node = solo(1, 3, &[], 0);
    make_leader(&mut node);
    step(&mut node, 2, 1, accepted(1));
    node
}

#[test]
fn s75_to_a_follower_that_is_up_to_date_at_once() {
    let mut node = leader();
    node.transfer_leader(id(2)).unwrap();
    let sent = drain(&mut node);
    assert_eq!(sent.len(), 1);
    assert_eq!((sent[0].to, &sent[0].body), (id(2), &Body::TimeoutNow));
    let mut cluster = Cluster::led(3);
    cluster.tick(3);
    cluster.node(1).transfer_leader(id(3)).unwrap();
    cluster.settle();
    assert_eq!(cluster.leader(), Some(3));
    assert_eq!(cluster.status(1).leader, Some(id(3)));
}

#[test]
fn s75_a_follower_passes_the_wish_on() {
    let mut cluster = Cluster::led(3);
    cluster.node(2).transfer_leader(id(3)).unwrap();
    cluster.settle();
    assert_eq!(cluster.leader(), Some(3));
    let already = cluster.node(2).transfer_leader(id(3));
    assert_eq!(already, Err(TransferError::AlreadyLeader));
    let mut alone = solo(1, 3, &[], 0);
    assert_eq!(alone.transfer_leader(id(2)), Err(TransferError::NoLeader));
}

#[test]
fn s76_a_slow_follower_is_caught_up_first() {
    let mut cluster = Cluster::led(3);
    cluster.isolate(3);
    for _ in 0..5 {
        cluster.propose(1, "x");
    }
    cluster.node(1).transfer_leader(id(3)).unwrap();
    cluster.settle();
    assert_eq!(cluster.leader(), Some(1));
    cluster.heal();
    cluster.tick(3);
    assert_eq!(cluster.leader(), Some(3));
}

#[test]
fn s76_also_through_a_snapshot() {
    let mut cluster = Cluster::led(3);
    cluster.isolate(3);
    for _ in 0..5 {
        cluster.propose(1, "x");
    }
    assert!(cluster.checkpoint(1, 0));
    cluster.heal();
    cluster.node(1).transfer_leader(id(3)).unwrap();
    cluster.tick(4);
    assert_eq!(cluster.leader(), Some(3));
    assert_eq!(cluster.status(3).first, Index(7));
}

#[test]
fn s77_nobody_else_is_a_target() {
    let mut configuration = Configuration::of_voters((1..=3).map(id));
    configuration.learners = vec![id(4)];
    let configs = (1..=4).map(config).collect();
    let mut cluster = Cluster::with_configuration(configs, configuration);
    cluster.elect(1);
    let leader = cluster.node(1);
    assert_eq!(leader.transfer_leader(id(1)), Err(TransferError::AlreadyLeader));
    assert_eq!(leader.transfer_leader(id(4)), Err(TransferError::NotVoter));
    assert_eq!(leader.transfer_leader(id(9)), Err(TransferError::NotVoter));
    assert_eq!(leader.status().transfer_target, None);
}

#[test]
fn s77_removing_or_demoting_the_target_ends_the_transfer() {
    for step in [ChangeStep::Remove(id(3)), ChangeStep::AddLearner(id(3))] {
        let mut cluster = Cluster::led(3);
        cluster.replicas.get_mut(&1).unwrap().is_apply_held = true;
        cluster.change(1, &change([step]));
        cluster.isolate(3);
        cluster.propose(1, "x");
        cluster.node(1).transfer_leader(id(3)).unwrap();
        assert_eq!(cluster.status(1).transfer_target, Some(id(3)));
        cluster.replicas.get_mut(&1).unwrap().is_apply_held = false;
        cluster.settle();
        assert_eq!(cluster.status(1).transfer_target, None);
        cluster.propose(1, "y");
    }
}

#[test]
fn s78_proposals_are_refused_meanwhile_and_taken_again_after_t() {
    let mut cluster = Cluster::led(3);
    cluster.isolate(3);
    cluster.propose(1, "a");
    cluster.node(1).transfer_leader(id(3)).unwrap();
    let refused = cluster.node(1).propose(EntryKind::Command, "b".into());
    assert_eq!(refused, Err(ProposeError::TransferRunning));
    cluster.tick(9);
    assert!(cluster.node(1).propose(EntryKind::Command, "b".into()).is_err());
    cluster.tick(1);
    cluster.propose(1, "b");
    assert_eq!(cluster.commands(), ["a", "b"]);
}

#[test]
fn s78_a_target_that_does_not_campaign_says_so_and_proposals_are_taken_at_once() {
    let stuck = raft::LocalHealth {
        disk: DiskHealth { sync_age_us: 90_000, is_stuck: true },
        ..Default::default()
    };
    let mut cluster = Cluster::led(3);
    cluster.tick(3);
    cluster.node(1).transfer_leader(id(3)).unwrap();
    // Since it told how its disk does, that became worse.
    cluster.node(3).set_health(stuck);
    assert!(cluster.node(1).propose(EntryKind::Command, "a".into()).is_err());
    cluster.settle();
    assert_eq!((cluster.leader(), cluster.status(1).transfer_target), (Some(1), None));
    cluster.propose(1, "a");
    assert_eq!(cluster.commands(), ["a"]);
    // Nobody but the target has a say in it.
    let mut node = leader();
    node.transfer_leader(id(3)).unwrap();
    step(&mut node, 2, 1, Body::TransferRequest { target: id(1) });
    assert_eq!(node.status().transfer_target, Some(id(3)));
    step(&mut node, 3, 1, Body::TransferRequest { target: id(1) });
    assert_eq!(node.status().transfer_target, None);
}

#[test]
fn s78_a_disk_that_goes_again_ends_what_nobody_asked_for() {
    let health = |sync_age_us, is_stuck| raft::LocalHealth {
        disk: DiskHealth { sync_age_us, is_stuck },
        ..Default::default()
    };
    for is_asked in [false, true] {
        let mut cluster = Cluster::led(3);
        cluster.tick(3);
        // The followers hold what is committed, but not yet all of the log.
        for number in [2, 3] {
            cluster.replicas.get_mut(&number).unwrap().is_sync_held = true;
        }
        cluster.propose(1, "a");
        cluster.node(1).set_health(health(80_000, true));
        if is_asked {
            cluster.node(1).transfer_leader(id(2)).unwrap();
        }
        cluster.tick(2);
        assert_eq!(cluster.status(1).transfer_target, Some(id(2)));
        cluster.node(1).set_health(health(100, false));
        cluster.tick(1);
        assert_eq!(cluster.status(1).transfer_target, is_asked.then_some(id(2)));
    }
}

#[test]
fn s79_a_second_transfer_to_the_same_target_changes_nothing_and_another_replaces() {
    let mut cluster = Cluster::led(3);
    cluster.isolate(3);
    cluster.propose(1, "a");
    cluster.node(1).transfer_leader(id(3)).unwrap();
    cluster.tick(6);
    cluster.node(1).transfer_leader(id(3)).unwrap();
    cluster.tick(4);
    assert_eq!(cluster.status(1).transfer_target, None, "the time was not started again");
    cluster.node(1).transfer_leader(id(3)).unwrap();
    cluster.node(1).transfer_leader(id(2)).unwrap();
    cluster.settle();
    assert_eq!(cluster.leader(), Some(2));
    cluster.heal();
    cluster.tick(2);
    cluster.node(2).transfer_leader(id(1)).unwrap();
    cluster.settle();
    assert_eq!(cluster.leader(), Some(1), "and back");
}

#[test]
fn s79_a_higher_term_ends_a_transfer() {
    let mut node = leader();
    node.transfer_leader(id(3)).unwrap();
    step(&mut node, 2, 5, Body::StaleTerm);
    assert_eq!(node.soft_state().role, Role::Follower);
    assert_eq!(node.status().transfer_target, None);
}

#[test]
fn s80_timeout_now_skips_the_pre_vote_and_everybodys_patience() {
    let mut node = solo(2, 3, &[], 1);
    step(&mut node, 1, 1, heartbeat(0, 1));
    let sent = step(&mut node, 1, 1, Body::TimeoutNow);
    assert_eq!(node.soft_state().role, Role::Candidate);
    assert_eq!(node.soft_state().term, Term(2));
    let is_transfer = |message: &raft::Message| {
        matches!(message.body, Body::VoteRequest { cause: raft::CampaignCause::Transfer, .. })
    };
    assert_eq!(sent.iter().filter(|message| is_transfer(message)).count(), 2);
}

#[test]
fn s80_the_candidacy_that_timeout_now_asks_for_is_durable_before_it_is_told() {
    let mut node = solo(2, 3, &[], 1);
    let body = Body::TimeoutNow;
    node.step(raft::Message { from: id(1), to: id(2), term: Term(1), body }).unwrap();
    let mut ready = raft::Ready::default();
    node.ready(&mut ready);
    assert!(ready.messages_now.is_empty());
    assert_eq!(ready.hard_state.unwrap().vote, Some(id(2)));
    assert_eq!(ready.messages_after_persist.len(), 2);
}

#[test]
fn a_stuck_leader_hands_over_to_the_best_voter_and_stays_when_there_is_none() {
    let health = |sync_age_us, is_stuck| raft::LocalHealth {
        disk: DiskHealth { sync_age_us, is_stuck },
        ..Default::default()
    };
    let mut cluster = Cluster::led(3);
    cluster.tick(2);
    cluster.node(2).set_health(health(40_000, false));
    cluster.node(3).set_health(health(900, false));
    cluster.tick(1);
    cluster.node(1).set_health(health(80_000, true));
    // The stuck disk syncs nothing any more; the transfer needs no write there.
    cluster.replicas.get_mut(&1).unwrap().is_sync_held = true;
    let refused = cluster.node(1).propose(EntryKind::Command, "x".into());
    assert_eq!(refused, Err(ProposeError::DiskStuck));
    cluster.tick(2);
    assert_eq!(cluster.leader(), Some(3));
    // With none better it stays.
    let mut cluster = Cluster::led(3);
    for number in 1..=3 {
        cluster.node(number).set_health(health(80_000, true));
    }
    cluster.tick(30);
    assert_eq!(cluster.leader(), Some(1));
    assert_eq!(cluster.node(1).transfer_leader(id(2)), Err(TransferError::TargetStuck));
}

/// It refuses proposals from then on, so the hand-over waits for no heartbeat.
#[test]
fn a_stuck_leader_hands_over_with_the_next_tick() {
    const HEARTBEAT_TICKS: u32 = 10;
    let disk = DiskHealth { sync_age_us: 80_000, is_stuck: true };
    let health = raft::LocalHealth { disk, ..Default::default() };
    // Wherever between two heartbeats the disk is found to be stuck.
    for ticks_before in 0..HEARTBEAT_TICKS {
        let with_heartbeat = |number| {
            let heartbeat_interval_ticks = HEARTBEAT_TICKS;
            let election_timeout_ticks = 10 * HEARTBEAT_TICKS;
            Config { heartbeat_interval_ticks, election_timeout_ticks, ..config(number) }
        };
        let mut cluster = Cluster::with((1..=3).map(with_heartbeat).collect(), 1..=3);
        cluster.elect(1);
        cluster.tick(3 * HEARTBEAT_TICKS + ticks_before);
        cluster.node(1).set_health(health);
        cluster.tick(1);
        assert_ne!(cluster.leader(), Some(1), "{ticks_before} ticks after a heartbeat");
    }
}

#[test]
fn a_stuck_member_does_not_campaign_and_ignores_timeout_now() {
    for health in [
        raft::LocalHealth {
            disk: DiskHealth { sync_age_us: 1, is_stuck: true },
            ..Default::default()
        },
        raft::LocalHealth { is_tree_incomplete: true, ..Default::default() },
        raft::LocalHealth { is_log_damaged: true, ..Default::default() },
    ] {
        let mut node = solo(2, 3, &[], 1);
        node.set_health(health);
        for _ in 0..50 {
            node.tick();
        }
        let sent = step(&mut node, 1, 1, Body::TimeoutNow);
        let refusal = Body::TransferRequest { target: id(1) };
        assert_eq!(sent.len(), 1, "{sent:?}");
        assert_eq!((sent[0].to, &sent[0].body), (id(1), &refusal));
        assert_eq!(node.soft_state().role, Role::Follower);
        node.set_health(raft::LocalHealth::default());
        node.tick();
        assert_eq!(node.soft_state().role, Role::PreCandidate, "its patience was over long ago");
    }
}
