//! A group of one voter, driven as the shard drives it: every rule of the contract in lib.rs that
//! concerns durability. Source: fact sheet of scenarios 12, 41, 46, 61, 87, 88 to 92.
#![allow(clippy::unwrap_used)]

use bytes::Bytes;
use raft::{
    CampaignError, Config, Configuration, Entry, EntryId, EntryKind, HardState, Index,
    ProposeError, RaftNode, ReadError, ReadState, Ready, ReplicaId, Restored, Role, StartError,
    Term,
};

const OWN: ReplicaId = ReplicaId(1);

fn restored() -> Restored {
    Restored { configuration: Configuration::of_voters([OWN]), ..Restored::default() }
}

fn node(restored: Restored) -> RaftNode {
    RaftNode::new(Config::new(OWN), restored).unwrap()
}

fn ready(node: &mut RaftNode) -> Ready {
    let mut ready = Ready::default();
    node.ready(&mut ready);
    ready
}

/// Persists and applies everything at once.
fn settle(node: &mut RaftNode) -> Vec<Entry> {
    let mut applied = Vec::new();
    while node.has_ready() {
        let ready = ready(node);
        node.persisted(ready.number);
        if let Some(last) = ready.committed.last() {
            node.applied(last.index);
        }
        applied.extend(ready.committed);
    }
    applied
}

fn leader() -> RaftNode {
    let mut node = node(restored());
    node.campaign().unwrap();
    settle(&mut node);
    assert_eq!(node.soft_state().role, Role::Leader);
    node
}

#[test]
fn leads_only_after_its_term_and_vote_are_durable() {
    let mut node = node(restored());
    assert!(!node.has_ready());
    node.campaign().unwrap();
    let first = ready(&mut node);
    let expected = HardState { term: Term(1), vote: Some(OWN), commit: Index(0) };
    assert_eq!(first.hard_state, Some(expected));
    assert!(first.entries.is_empty());
    assert_eq!(node.soft_state().role, Role::Candidate);
    assert_eq!(
        node.propose(EntryKind::Command, Bytes::new()),
        Err(ProposeError::NotLeader { leader: None })
    );
    node.persisted(first.number);
    assert_eq!(node.soft_state().role, Role::Leader);
    let second = ready(&mut node);
    assert_eq!(second.entries.len(), 1);
    assert_eq!(second.entries[0].kind, EntryKind::Empty);
    assert_eq!(second.hard_state, None);
    assert_eq!(second.soft_state.unwrap().leader, Some(OWN));
    assert_eq!(node.campaign(), Err(CampaignError::AlreadyLeader));
}

#[test]
fn elects_itself_by_time_alone() {
    for is_pre_vote in [true, false] {
        let mut config = Config::new(OWN);
        config.is_pre_vote = is_pre_vote;
        let mut node = RaftNode::new(config, restored()).unwrap();
        for _ in 0..130 {
            node.tick();
            settle(&mut node);
        }
        assert_eq!(node.soft_state().role, Role::Leader);
        assert_eq!(node.soft_state().term, Term(1));
    }
}

#[test]
fn commits_only_what_is_durable_with_several_writes_on_their_way() {
    let mut node = leader();
    let commit = node.commit();
    let a = node.propose(EntryKind::Command, Bytes::from_static(b"a")).unwrap();
    let first = ready(&mut node);
    let b = node.propose(EntryKind::Command, Bytes::from_static(b"b")).unwrap();
    let second = ready(&mut node);
    assert!(first.number < second.number);
    assert!(first.committed.is_empty() && second.committed.is_empty());
    assert_eq!(node.commit(), commit);
    assert!(!node.has_ready(), "nothing is owed before the first write is durable");

    node.persisted(first.number);
    assert_eq!(node.commit(), a.index);
    let third = ready(&mut node);
    assert_eq!(third.committed.iter().map(Entry::id).collect::<Vec<_>>(), [a]);
    assert_eq!(third.committed[0].data, Bytes::from_static(b"a"));
    assert_eq!(third.number, second.number, "nothing new to persist");
    assert!(!third.must_persist());

    node.persisted(second.number);
    node.persisted(first.number);
    let fourth = ready(&mut node);
    assert_eq!(fourth.committed.iter().map(Entry::id).collect::<Vec<_>>(), [b]);
    node.applied(b.index);
    assert_eq!(node.status().applied, b.index);
}

#[test]
fn the_bytes_of_an_entry_are_never_copied() {
    let mut node = leader();
    let data = Bytes::from(vec![7u8; 100]);
    node.propose(EntryKind::Command, data.clone()).unwrap();
    let first = ready(&mut node);
    node.persisted(first.number);
    let second = ready(&mut node);
    assert_eq!(first.entries[0].data.as_ptr(), data.as_ptr());
    assert_eq!(second.committed[0].data.as_ptr(), data.as_ptr());
}

#[test]
fn a_read_is_answered_at_once_but_not_before_the_term_has_committed() {
    let mut node = node(restored());
    assert_eq!(node.read_index(1), Err(ReadError::NoLeader));
    node.campaign().unwrap();
    let hard_state = ready(&mut node);
    node.persisted(hard_state.number);
    node.read_index(2).unwrap();
    let empty = ready(&mut node);
    assert!(empty.read_states.is_empty());
    assert!(!node.has_ready());
    node.persisted(empty.number);
    let answered = ready(&mut node);
    assert_eq!(answered.read_states, [ReadState { context: 2, index: Index(1) }]);
    node.read_index(3).unwrap();
    assert!(node.has_ready());
    assert_eq!(ready(&mut node).read_states, [ReadState { context: 3, index: Index(1) }]);
}

#[test]
fn a_restart_continues_from_checkpoint_hard_state_and_entries() {
    let entry = |index, term| Entry {
        index: Index(index),
        term: Term(term),
        kind: EntryKind::Command,
        data: Bytes::from_static(b"x"),
    };
    let mut restored = restored();
    restored.hard_state = HardState { term: Term(3), vote: Some(OWN), commit: Index(9) };
    restored.applied = EntryId { index: Index(5), term: Term(2) };
    restored.entries = (4..=7).map(|index| entry(index, 2)).collect();
    let mut node = node(restored);
    assert_eq!(node.commit(), Index(7), "a commit beyond the log is cut to the log");
    let replayed = ready(&mut node).committed;
    assert_eq!(replayed.iter().map(|entry| entry.index.0).collect::<Vec<_>>(), [6, 7]);
    node.applied(Index(7));
    node.campaign().unwrap();
    settle(&mut node);
    assert_eq!(node.soft_state().role, Role::Leader);
    assert_eq!(node.soft_state().term, Term(4));
    assert_eq!(node.commit(), Index(8));
}

#[test]
fn what_was_durable_but_not_committed_commits_through_the_next_term() {
    let mut restored = restored();
    restored.hard_state = HardState { term: Term(1), vote: Some(OWN), commit: Index(0) };
    restored.entries = vec![Entry {
        index: Index(1),
        term: Term(1),
        kind: EntryKind::Command,
        data: Bytes::from_static(b"kept"),
    }];
    let mut node = node(restored);
    node.campaign().unwrap();
    let applied = settle(&mut node);
    assert_eq!(applied.len(), 2);
    assert_eq!(applied[0].data, Bytes::from_static(b"kept"));
    assert_eq!(applied[1].kind, EntryKind::Empty);
}

#[test]
fn contradictory_restores_are_refused() {
    let entry = |index, term| Entry { index: Index(index), term: Term(term), ..Entry::default() };
    let refused = |entries: Vec<Entry>, applied: (u64, u64)| {
        let mut restored = restored();
        restored.hard_state.term = Term(5);
        restored.applied = EntryId { index: Index(applied.0), term: Term(applied.1) };
        restored.entries = entries;
        RaftNode::new(Config::new(OWN), restored).unwrap_err()
    };
    let gap = StartError::LogGap { expected: Index(1), found: Index(2) };
    assert_eq!(refused(vec![entry(2, 1)], (0, 0)), gap);
    let gap = StartError::LogGap { expected: Index(4), found: Index(5) };
    assert_eq!(refused(vec![entry(3, 1), entry(5, 1)], (3, 1)), gap);
    let order = StartError::TermOrder { index: Index(2) };
    assert_eq!(refused(vec![entry(1, 2), entry(2, 1)], (0, 0)), order);
    assert_eq!(refused(vec![entry(1, 2), entry(2, 6)], (0, 0)), order);
    assert_eq!(refused(vec![], (3, 6)), StartError::TermOrder { index: Index(3) });
}

#[test]
fn uncommitted_bytes_are_bounded_and_one_big_entry_is_admitted() {
    let mut config = Config::new(OWN);
    config.uncommitted_size_bytes_max = 1000;
    let mut node = RaftNode::new(config, restored()).unwrap();
    node.campaign().unwrap();
    settle(&mut node);
    let big = Bytes::from(vec![0u8; 5000]);
    node.propose(EntryKind::Command, big.clone()).unwrap();
    let refused = node.propose(EntryKind::Command, Bytes::from_static(b"x"));
    assert_eq!(refused, Err(ProposeError::TooManyUncommitted));
    settle(&mut node);
    for _ in 0..7 {
        node.propose(EntryKind::Command, Bytes::from(vec![0u8; 100])).unwrap();
    }
    assert_eq!(node.propose(EntryKind::Command, big), Err(ProposeError::TooManyUncommitted));
    settle(&mut node);
    node.propose(EntryKind::Command, Bytes::new()).unwrap();
}

#[test]
fn entries_are_handed_out_for_apply_in_bounded_pages_and_once() {
    let mut config = Config::new(OWN);
    config.applying_size_bytes_max = 300;
    let mut node = RaftNode::new(config, restored()).unwrap();
    node.campaign().unwrap();
    settle(&mut node);
    for _ in 0..20 {
        node.propose(EntryKind::Command, Bytes::from(vec![0u8; 68])).unwrap();
    }
    let first = ready(&mut node);
    node.persisted(first.number);
    let mut applied = Vec::new();
    for _ in 0..7 {
        let page = ready(&mut node);
        assert!(page.committed.len() <= 3);
        assert!(!node.has_ready(), "no more before something is applied");
        let Some(last) = page.committed.last() else { break };
        node.applied(last.index);
        applied.extend(page.committed.iter().map(|entry| entry.index.0));
    }
    assert_eq!(applied, (2..=21).collect::<Vec<_>>());
}

#[test]
fn compaction_drops_what_is_applied_and_nothing_else() {
    let mut node = leader();
    for _ in 0..9 {
        node.propose(EntryKind::Command, Bytes::from_static(b"x")).unwrap();
    }
    settle(&mut node);
    node.compact_log(Index(6));
    node.compact_log(Index(3));
    assert_eq!(node.status().first, Index(7));
    assert_eq!(node.term_of(Index(5)), None);
    assert_eq!(node.term_of(Index(6)), Some(Term(1)));
    let mut out = Vec::new();
    assert_eq!(node.entries(Index(6), 100, &mut out), Err(raft::LogError::Compacted));
    assert_eq!(node.entries(Index(11), 100, &mut out), Err(raft::LogError::Unavailable));
    node.entries(Index(7), 0, &mut out).unwrap();
    assert_eq!(out.len(), 1, "one entry is always answered");
    out.clear();
    node.entries(Index(7), usize::MAX, &mut out).unwrap();
    assert_eq!(out.len(), 4);
}

#[test]
fn a_restart_keeps_entries_below_the_checkpoint_for_followers_that_lag() {
    let entry = |index| Entry { term: Term(1), index: Index(index), ..Entry::default() };
    let id = |index| EntryId { index: Index(index), term: Term(1) };
    let hard_state = HardState { term: Term(1), vote: None, commit: Index(6) };
    let base = Restored { hard_state, applied: id(5), ..restored() };
    let whole = Restored { log_base: id(2), entries: (3..=7).map(entry).collect(), ..base.clone() };
    let status = node(whole.clone()).status();
    assert_eq!((status.first, status.applied, status.last), (Index(3), Index(5), id(7)));
    let gap = Restored { entries: (4..=7).map(entry).collect(), ..whole.clone() };
    assert_eq!(node(gap).status().first, Index(6), "not known to follow the base");
    let short = Restored { entries: (3..=4).map(entry).collect(), ..whole.clone() };
    assert_eq!(node(short).status().last, id(5), "the checkpoint is ahead of the log");
    let mut restarted = node(whole);
    let mut handed = Ready::default();
    restarted.ready(&mut handed);
    let handed: Vec<_> = handed.committed.iter().map(|entry| entry.index.0).collect();
    assert_eq!(handed, [6], "what the checkpoint holds is not applied again");
}
