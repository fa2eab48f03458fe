//! One replica alone with a test: messages in, everything owed out.

use bytes::Bytes;
use raft::{
    Body, Config, Configuration, Entry, EntryId, EntryKind, HardState, Index, LeaseReads, Message,
    RaftNode, Ready, Restored, Role, Term, Verdict,
};

use super::{config, id};

/// A replica among `voters`, with entries of these terms and this hard state's term.
pub fn solo(number: u64, voters: u64, terms: &[u64], term: u64) -> RaftNode {
    solo_with(config(number), voters, terms, term)
}

pub fn solo_with(config: Config, voters: u64, terms: &[u64], term: u64) -> RaftNode {
    let restored = Restored {
        hard_state: HardState { term: Term(term), vote: None, commit: Index(0) },
        configuration: Configuration::of_voters((1..=voters).map(id)),
        entries: entries(0, terms),
        ..Restored::default()
    };
    RaftNode::new(config, restored).unwrap()
}

/// Entries that follow `after`, one for each term.
pub fn entries(after: u64, terms: &[u64]) -> Vec<Entry> {
    let entry = |(slot, term): (usize, &u64)| Entry {
        term: Term(*term),
        index: Index(after + 1 + slot as u64),
        kind: EntryKind::Command,
        data: Bytes::from_static(b"e"),
    };
    terms.iter().enumerate().map(entry).collect()
}

pub fn entry_id(index: u64, term: u64) -> EntryId {
    EntryId { index: Index(index), term: Term(term) }
}

/// Everything owed, with every write synced and everything committed applied at once.
pub fn drain(node: &mut RaftNode) -> Vec<Message> {
    let mut messages = Vec::new();
    let mut ready = Ready::default();
    while node.has_ready() {
        node.ready(&mut ready);
        messages.append(&mut ready.messages_now);
        node.persisted(ready.number);
        messages.append(&mut ready.messages_after_persist);
        if let Some(last) = ready.committed.last() {
            node.applied(last.index);
        }
    }
    messages
}

pub fn bodies(node: &mut RaftNode) -> Vec<Body> {
    drain(node).into_iter().map(|message| message.body).collect()
}

pub fn step(node: &mut RaftNode, from: u64, term: u64, body: Body) -> Vec<Message> {
    let message = Message { from: id(from), to: node.id(), term: Term(term), body };
    node.step(message).unwrap();
    drain(node)
}

pub fn heartbeat(commit: u64, round: u64) -> Body {
    Body::Heartbeat {
        commit: Index(commit),
        round,
        lease: LeaseReads::NotServed,
        disk: Default::default(),
    }
}

pub fn append(previous: EntryId, terms: &[u64], commit: u64) -> Body {
    Body::Append {
        previous,
        commit: Index(commit),
        lease: LeaseReads::NotServed,
        entries: entries(previous.index.0, terms),
    }
}

pub fn accepted(matched: u64) -> Body {
    Body::AppendAnswer {
        outcome: raft::AppendOutcome::Accepted { matched: Index(matched) },
        disk: Default::default(),
    }
}

pub fn pre_vote(verdict: Verdict) -> Body {
    Body::PreVoteAnswer { verdict, committed: EntryId::default() }
}

pub fn vote(verdict: Verdict) -> Body {
    Body::VoteAnswer { verdict, committed: EntryId::default() }
}

pub fn rejected(previous: u64, hint: EntryId) -> Body {
    Body::AppendAnswer {
        outcome: raft::AppendOutcome::Rejected { previous: Index(previous), hint },
        disk: Default::default(),
    }
}

/// Makes `node` leader by the votes of everybody else, in its next term; answers what it sent
/// since.
pub fn make_leader(node: &mut RaftNode) -> Vec<Message> {
    node.campaign().unwrap();
    drain(node);
    let own = node.id();
    let voters = node.configuration().voters.clone();
    for verdict in [Verdict::Granted; 2] {
        for voter in &voters {
            let term = node.soft_state().term;
            let (term, body) = match node.soft_state().role {
                Role::PreCandidate => (term.next(), pre_vote(verdict)),
                Role::Candidate => (term, vote(verdict)),
                Role::Follower | Role::Leader => continue,
            };
            if *voter != own {
                node.step(Message { from: *voter, to: own, term, body }).unwrap();
                if node.soft_state().role == Role::Candidate {
                    drain(node);
                }
            }
        }
    }
    assert_eq!(node.soft_state().role, Role::Leader);
    drain(node)
}
