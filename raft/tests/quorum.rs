//! Quorum arithmetic against the definition, in words and by brute force: scenario 71.
#![allow(clippy::unwrap_used)]

mod harness;

use harness::id;
use raft::quorum::{
    VoteResult, joint_reached, joint_vote, majority_count, majority_reached, majority_vote,
};
use raft::{Configuration, ReplicaId, Verdict};

fn voters(numbers: &[u64]) -> Vec<ReplicaId> {
    numbers.iter().map(|number| id(*number)).collect()
}

/// The definition: the greatest number that more than half of the voters have reached.
fn by_definition(numbers: &[u64]) -> u64 {
    let has_majority = |candidate: &&u64| {
        let count = numbers.iter().filter(|number| *candidate <= number).count();
        numbers.len() < 2 * count
    };
    numbers.iter().filter(has_majority).max().copied().unwrap()
}

#[test]
fn s71_majority_of_none_to_seven() {
    let counts: Vec<usize> = (1..=7).map(majority_count).collect();
    assert_eq!(counts, [1, 2, 2, 3, 3, 4, 4]);
    assert_eq!(majority_reached(&[], |_| 0), u64::MAX);
    assert_eq!(majority_vote(&[], |_| None), VoteResult::Won);
}

#[test]
fn s71_reached_agrees_with_its_definition_for_every_small_case() {
    for count in 1..=5u64 {
        let voters = voters(&(1..=count).collect::<Vec<_>>());
        for code in 0..4u64.pow(count as u32) {
            let reached = |id: ReplicaId| code / 4u64.pow(id.0 as u32 - 1) % 4;
            let numbers: Vec<u64> = voters.iter().map(|id| reached(*id)).collect();
            assert_eq!(majority_reached(&voters, reached), by_definition(&numbers));
        }
    }
}

#[test]
fn s71_votes_agree_with_their_definition_for_every_small_case() {
    for count in 1..=5u64 {
        let voters = voters(&(1..=count).collect::<Vec<_>>());
        for code in 0..3u64.pow(count as u32) {
            let verdict = |id: ReplicaId| match code / 3u64.pow(id.0 as u32 - 1) % 3 {
                0 => None,
                1 => Some(Verdict::Granted),
                _ => Some(Verdict::Refused),
            };
            let tally = |wanted| voters.iter().filter(|id| verdict(**id) == wanted).count();
            let granted = tally(Some(Verdict::Granted));
            let refused = tally(Some(Verdict::Refused));
            let expected = if voters.len() < 2 * granted {
                VoteResult::Won
            } else if voters.len() <= 2 * refused {
                VoteResult::Lost
            } else {
                VoteResult::Pending
            };
            assert_eq!(majority_vote(&voters, verdict), expected);
        }
    }
}

#[test]
fn s71_a_joint_quorum_needs_both_halves() {
    let configuration = Configuration {
        voters: voters(&[1, 2, 3]),
        voters_outgoing: voters(&[3, 4, 5]),
        ..Configuration::default()
    };
    let reached = |id: ReplicaId| [0, 9, 9, 1, 5, 7][id.0 as usize];
    assert_eq!(majority_reached(&configuration.voters, reached), 9);
    assert_eq!(joint_reached(&configuration, reached), 5);
    let granted_by = |granted: &'static [u64], refused: &'static [u64]| {
        joint_vote(&configuration, |id: ReplicaId| {
            if granted.contains(&id.0) {
                Some(Verdict::Granted)
            } else {
                refused.contains(&id.0).then_some(Verdict::Refused)
            }
        })
    };
    assert_eq!(granted_by(&[1, 2], &[]), VoteResult::Pending);
    assert_eq!(granted_by(&[1, 2, 3], &[]), VoteResult::Pending);
    assert_eq!(granted_by(&[1, 2, 4, 5], &[]), VoteResult::Won);
    assert_eq!(granted_by(&[3, 1, 4], &[2, 5]), VoteResult::Won);
    assert_eq!(granted_by(&[1, 2, 3], &[4, 5]), VoteResult::Lost);
    assert_eq!(granted_by(&[4, 5], &[1, 2]), VoteResult::Lost);
}

#[test]
fn s71_a_half_that_is_empty_agrees_to_everything() {
    let simple = Configuration::of_voters((1..=3).map(id));
    for code in 0..64u64 {
        let reached = |id: ReplicaId| code / 4u64.pow(id.0 as u32 - 1) % 4;
        assert_eq!(joint_reached(&simple, reached), majority_reached(&simple.voters, reached));
    }
}
