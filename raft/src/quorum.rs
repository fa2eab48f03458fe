//! Majority arithmetic for simple and joint configurations; pure functions, no allocation.
//!
//! Invariants: an empty list of voters agrees to everything, so that a configuration which is not
//! joint is the joint one with an empty half. Source: Raft thesis sections 3.3, 4.3.

use crate::message::Verdict;
use crate::types::{Configuration, ReplicaId};

/// State of an election.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VoteResult {
    /// Neither won nor lost yet.
    Pending,
    /// A majority said yes, in both halves.
    Won,
    /// A majority of yes can no longer be reached in one half.
    Lost,
}

/// Smallest majority of `count` voters.
pub fn majority_count(count: usize) -> usize {
    count / 2 + 1
}

/// The greatest number that a majority of `voters` has reached, by `reached`; `u64::MAX` without
/// voters.
pub fn majority_reached(voters: &[ReplicaId], reached: impl Fn(ReplicaId) -> u64) -> u64 {
    assert!(voters.len() <= MEMBERS_COUNT_MAX);
    if voters.is_empty() {
        return u64::MAX;
    }
    let mut numbers = [0u64; MEMBERS_COUNT_MAX];
    let numbers = &mut numbers[..voters.len()];
    for (number, voter) in numbers.iter_mut().zip(voters) {
        *number = reached(*voter);
    }
    numbers.sort_unstable();
    // Five voters, sorted upwards: three have reached the number in slot 2.
    numbers[voters.len() - majority_count(voters.len())]
}

/// The greatest number that both majorities of a configuration have reached.
pub fn joint_reached(
    configuration: &Configuration,
    reached: impl Fn(ReplicaId) -> u64 + Copy,
) -> u64 {
    let incoming = majority_reached(&configuration.voters, reached);
    incoming.min(majority_reached(&configuration.voters_outgoing, reached))
}

/// Where an election among `voters` stands.
pub fn majority_vote(
    voters: &[ReplicaId],
    verdict: impl Fn(ReplicaId) -> Option<Verdict>,
) -> VoteResult {
    if voters.is_empty() {
        return VoteResult::Won;
    }
    let mut granted_count = 0;
    let mut open_count = 0;
    for voter in voters {
        match verdict(*voter) {
            Some(Verdict::Granted) => granted_count += 1,
            Some(Verdict::Refused) => {}
            None => open_count += 1,
        }
    }
    let majority = majority_count(voters.len());
    if majority <= granted_count {
        VoteResult::Won
    } else if majority <= granted_count + open_count {
        VoteResult::Pending
    } else {
        VoteResult::Lost
    }
}

/// Where an election stands in both halves of a configuration.
pub fn joint_vote(
    configuration: &Configuration,
    verdict: impl Fn(ReplicaId) -> Option<Verdict> + Copy,
) -> VoteResult {
    let incoming = majority_vote(&configuration.voters, verdict);
    let outgoing = majority_vote(&configuration.voters_outgoing, verdict);
    match (incoming, outgoing) {
        (VoteResult::Lost, _) | (_, VoteResult::Lost) => VoteResult::Lost,
        (VoteResult::Won, VoteResult::Won) => VoteResult::Won,
        (VoteResult::Pending, _) | (_, VoteResult::Pending) => VoteResult::Pending,
    }
}

/// Most members (voters of both halves and learners) a group may have.
pub const MEMBERS_COUNT_MAX: usize = 32;
