//! What fills a hole, what replaces a log, and what waits.

use bytes::Bytes;
use raft::{Configuration, HardState, ReplicaId, Term};

use super::*;

fn entry(index: u64, term: u64) -> Entry {
    let data = Bytes::from(format!("{index}/{term}"));
    Entry { index: Index(index), term: Term(term), kind: EntryKind::Command, data }
}

/// (index, term) from `first` on.
fn log(first: u64, terms: &[u64]) -> Vec<Entry> {
    (first..).zip(terms).map(|(index, term)| entry(index, *term)).collect()
}

/// Member 1 of three, whose log from 1 on had these terms and lost `holes`.
fn mending(terms: &[u64], holes: &[(u64, u64)]) -> Mending {
    let all = log(1, terms);
    let is_lost =
        |entry: &Entry| holes.iter().any(|(first, last)| (*first..=*last).contains(&entry.index.0));
    let last = all.last().unwrap().id();
    let term = last.term;
    let mut restored = Restored {
        hard_state: HardState { term, ..HardState::default() },
        configuration: Configuration::of_voters([ReplicaId(1), ReplicaId(2), ReplicaId(3)]),
        entries: all.into_iter().filter(|entry| !is_lost(entry)).collect(),
        ..Restored::default()
    };
    Mending::begin(&mut restored, &raft::Config::new(ReplicaId(1)), holes, last).unwrap()
}

/// Asks `member` as the replica does, and hands over what its log answers.
fn tell(mending: &mut Mending, member: u64, terms: &[u64]) {
    while !mending.walks[&member].is_over {
        let (_, last) = mending.range();
        let next = mending.next_of(&mending.walks[&member]);
        mending.walks.get_mut(&member).unwrap().asked = Some((7, 0));
        // Two entries an answer.
        let answer = log(1, terms).into_iter().filter(|entry| next <= entry.index.0);
        let answer = answer.take_while(|entry| entry.index.0 <= last).take(2).collect();
        mending.on_entries(member, 7, answer);
    }
}

fn ids(entries: &VecDeque<Entry>) -> Vec<(u64, u64)> {
    entries.iter().map(|entry| (entry.index.0, entry.term.0)).collect()
}

#[test]
fn a_log_that_agrees_behind_the_hole_fills_it() {
    let mut mending = mending(&[1, 1, 2, 2, 3, 3], &[(2, 3), (5, 5)]);
    assert_eq!(mending.range(), (2, 6));
    tell(&mut mending, 2, &[1, 1, 2]);
    assert_eq!(mending.fill(), None, "this log ends inside of what is lost");
    tell(&mut mending, 3, &[1, 1, 2, 2, 3, 3, 3]);
    assert_eq!(ids(&mending.fill().unwrap()), [(2, 1), (3, 2), (5, 3)]);
}

#[test]
fn holes_may_be_filled_by_different_logs() {
    let mut mending = mending(&[1, 1, 1, 1, 2], &[(2, 2), (5, 5)]);
    tell(&mut mending, 2, &[1, 1, 1]);
    assert_eq!(mending.fill(), None);
    tell(&mut mending, 3, &[1, 1, 1, 1, 2]);
    assert_eq!(ids(&mending.fill().unwrap()), [(2, 1), (5, 2)]);
}

#[test]
fn a_log_of_another_leader_does_not_fill_the_end() {
    // The last entry was this member's own, of term 2; the others went on in term 3.
    let mut mending = mending(&[1, 1, 2], &[(3, 3)]);
    tell(&mut mending, 2, &[1, 1, 3, 3]);
    assert!(!mending.is_over());
    tell(&mut mending, 3, &[1, 1]);
    assert_eq!(mending.fill(), None);
    assert!(mending.is_over(), "everybody told everything: it was never committed");
    mending.ask_again(Phase::Replace, 0);
    assert_eq!(mending.range(), (1, 3));
    tell(&mut mending, 3, &[1, 1]);
    tell(&mut mending, 2, &[1, 1, 3, 3]);
    assert_eq!(ids(&mending.best().unwrap()), [(1, 1), (2, 1), (3, 3)]);
}

#[test]
fn the_most_complete_log_replaces_as_in_an_election() {
    let mut mending = mending(&[1, 1, 1, 2], &[(3, 4)]);
    mending.ask_again(Phase::Replace, 0);
    tell(&mut mending, 2, &[1, 1, 1]);
    tell(&mut mending, 3, &[1, 3]);
    assert_eq!(ids(&mending.best().unwrap()), [(1, 1), (2, 3)], "a later term goes before length");
}

#[test]
fn nothing_is_replaced_over_a_change_of_members() {
    let mut mending = mending(&[1, 1, 1], &[(3, 3)]);
    mending.ask_again(Phase::Replace, 0);
    tell(&mut mending, 2, &[1, 1]);
    tell(&mut mending, 3, &[1, 1]);
    assert!(mending.best().is_some());
    mending.walks.get_mut(&3).unwrap().entries[1].kind = EntryKind::ConfigChange;
    assert_eq!(mending.best(), None);
}

#[test]
fn a_log_that_is_cut_between_two_answers_is_told_again() {
    let mut mending = mending(&[1, 1, 1, 1, 4], &[(2, 4)]);
    let ask = |mending: &mut Mending, answer: Vec<Entry>| {
        mending.walks.get_mut(&2).unwrap().asked = Some((7, 0));
        mending.on_entries(2, 7, answer);
    };
    ask(&mut mending, log(2, &[2, 2]));
    assert_eq!(mending.next_of(&mending.walks[&2]), 3);
    // Its entries of term 2 were replaced by others, of which the third is no longer the same.
    ask(&mut mending, log(3, &[1, 1, 4]));
    assert!(mending.walks[&2].entries.is_empty() && !mending.walks[&2].is_over);
    ask(&mut mending, log(2, &[1, 1, 1, 4]));
    assert_eq!(ids(&mending.fill().unwrap()), [(2, 1), (3, 1), (4, 1)]);
}

#[test]
fn answers_that_make_no_sense_are_dropped() {
    let mut mending = mending(&[1, 1, 1, 1], &[(2, 3)]);
    for (sequence, answer) in [(8, log(2, &[1])), (7, log(3, &[1])), (7, log(2, &[1, 1, 1, 1]))] {
        mending.walks.get_mut(&2).unwrap().asked = Some((7, 0));
        mending.on_entries(2, sequence, answer);
        mending.on_entries(9, 7, log(2, &[1]));
        assert!(mending.walks[&2].entries.is_empty() && !mending.walks[&2].is_over);
    }
}

#[test]
fn a_damaged_member_tells_what_it_holds_and_never_what_it_lost() {
    let mending = mending(&[1, 1, 1, 1, 2], &[(3, 3)]);
    let read = |first: u64| {
        let mut out = Vec::new();
        mending.read(first, &mut out).map(|()| out.iter().map(|one| one.index.0).collect())
    };
    assert_eq!(read(1), Some(vec![1, 2]));
    assert_eq!(read(2), None, "it would say that the log ends there");
    assert_eq!(read(3), None);
    assert_eq!(read(4), Some(vec![4, 5]));
    assert_eq!(read(5), Some(vec![5]));
    assert_eq!(read(6), Some(vec![]), "its log ends before");
}

#[test]
fn holes_inside_of_the_checkpoint_are_none() {
    let mut restored = Restored {
        applied: EntryId { index: Index(4), term: Term(1) },
        entries: [log(1, &[1, 1]), log(4, &[1, 1])].concat(),
        ..Restored::default()
    };
    let last = EntryId { index: Index(5), term: Term(1) };
    let config = raft::Config::new(ReplicaId(1));
    assert!(Mending::begin(&mut restored, &config, &[(3, 3)], last).is_none());
    assert_eq!(restored.entries, log(5, &[1]));
    assert_eq!(restored.log_base, restored.applied);
}
