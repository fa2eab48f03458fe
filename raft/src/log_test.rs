//! The log alone: searches by term, paging, compaction and truncation at their edges.
//! Source: fact sheet of scenarios 33, 39, 45, 46, 62.

use super::*;

fn id(index: u64, term: u64) -> EntryId {
    EntryId { index: Index(index), term: Term(term) }
}

fn entry(index: u64, term: u64) -> Entry {
    let (index, term) = (Index(index), Term(term));
    Entry { index, term, kind: EntryKind::Command, data: Bytes::from_static(b"0123456789") }
}

/// Entries of these terms after `base`, all durable; committed up to `commit`.
fn log(base: EntryId, terms: &[u64], commit: u64) -> RaftLog {
    let first = base.index.0 + 1;
    let entries = terms.iter().enumerate().map(|(slot, term)| entry(first + slot as u64, *term));
    RaftLog::new(base, entries.collect(), base.index, Index(commit))
}

#[test]
fn last_at_most_skips_later_terms_and_stops_where_memory_ends() {
    let whole = log(id(0, 0), &[1, 1, 3, 3, 3, 5], 0);
    let cases = [
        ((6, 4), id(5, 3)),
        ((6, 5), id(6, 5)),
        ((9, 9), id(6, 5)),
        ((5, 2), id(2, 1)),
        ((4, 3), id(4, 3)),
        ((4, 0), id(0, 0)),
        ((0, 7), id(0, 0)),
    ];
    for ((index, term), expected) in cases {
        assert_eq!(whole.last_at_most(Index(index), Term(term)), expected, "({index}, {term})");
    }
    let cut = log(id(3, 3), &[3, 5], 3);
    assert_eq!(cut.last_at_most(Index(5), Term(4)), id(4, 3));
    assert_eq!(cut.last_at_most(Index(5), Term(2)), id(2, 0), "before that nothing is known");
    assert_eq!(cut.last_at_most(Index(1), Term(9)), id(1, 0));
}

#[test]
fn last_at_most_agrees_with_a_search_of_everything() {
    for code in 0..3u64.pow(5) {
        let mut terms: Vec<u64> = (0..5).map(|slot| 1 + code / 3u64.pow(slot) % 3).collect();
        terms.sort_unstable();
        let log = log(id(0, 0), &terms, 0);
        for index in 0..7 {
            for term in 0..5 {
                let expected = (0..=index.min(5))
                    .rev()
                    .map(|at| id(at, if at == 0 { 0 } else { terms[at as usize - 1] }))
                    .find(|found| found.term.0 <= term);
                assert_eq!(log.last_at_most(Index(index), Term(term)), expected.unwrap());
            }
        }
    }
}

#[test]
fn append_after_keeps_what_agrees_and_refuses_to_replace_what_is_committed() {
    let mut log = log(id(2, 1), &[1, 2, 2], 3);
    assert_eq!(log.append_after(id(2, 1), vec![entry(3, 1), entry(4, 2)]), Ok(Index(4)));
    assert_eq!(log.last(), id(5, 2), "nothing conflicts: the rest stays");
    assert_eq!(log.append_after(id(4, 2), vec![entry(5, 3), entry(6, 3)]), Ok(Index(6)));
    assert_eq!(log.last(), id(6, 3));
    assert_eq!(log.unstable.persisted(), Index(4), "what was replaced is durable no more");
    let conflict = StepError::CommittedConflict { index: Index(3) };
    assert_eq!(log.append_after(id(2, 1), vec![entry(3, 2)]), Err(conflict));
    assert_eq!(log.last(), id(6, 3));
}

#[test]
fn committed_entries_are_paged_by_what_waits_to_be_applied() {
    let mut log = log(id(0, 0), &[1; 6], 6);
    let size_bytes = entry(1, 1).size_bytes();
    let mut out = Vec::new();
    log.take_committed(size_bytes + 1, &mut out);
    assert_eq!(out.len(), 2);
    log.take_committed(size_bytes + 1, &mut out);
    assert_eq!(out.len(), 2, "nothing was applied");
    log.apply_to(Index(1));
    log.take_committed(size_bytes + 1, &mut out);
    assert_eq!(out.len(), 3);
    log.apply_to(Index(3));
    log.take_committed(0, &mut out);
    assert_eq!(out.len(), 4, "one is always handed out");
    assert_eq!(log.applied(), Index(3));
}

#[test]
fn compaction_keeps_the_term_of_what_it_ends_with() {
    let mut log = log(id(0, 0), &[1, 1, 2, 2, 3], 5);
    log.take_committed(usize::MAX, &mut Vec::new());
    log.apply_to(Index(5));
    for up_to in [2, 1, 2, 4] {
        log.compact(Index(up_to));
    }
    assert_eq!(log.base(), id(4, 2));
    assert_eq!(log.term_of(Index(3)), None);
    assert_eq!(log.term_of(Index(4)), Some(Term(2)));
    let mut out = Vec::new();
    assert_eq!(log.read(Index(4), 1, &mut out), Err(LogError::Compacted));
    assert_eq!(log.read(Index(6), 1, &mut out), Err(LogError::Unavailable));
    assert_eq!(log.read(Index(5), 1, &mut out), Ok(entry(5, 3).size_bytes()));
    log.compact(Index(5));
    assert_eq!(log.last(), id(5, 3));
}

#[test]
fn a_snapshot_leaves_nothing_of_the_log() {
    let mut log = log(id(0, 0), &[1, 1, 2], 2);
    log.restore(id(9, 4));
    assert_eq!((log.base(), log.last()), (id(9, 4), id(9, 4)));
    assert_eq!((log.commit(), log.applied()), (Index(9), Index(9)));
    assert_eq!(log.unstable.persisted(), Index(2));
    assert!(!log.has_unhanded());
    assert!(!log.has_committed(usize::MAX));
    let appended = log.append(Term(5), EntryKind::Empty, Bytes::new());
    assert_eq!(appended, id(10, 5));
    assert!(log.has_unhanded());
}

#[test]
fn the_first_unapplied_change_is_found_and_applied_ones_are_not() {
    let mut log = log(id(0, 0), &[1; 5], 5);
    log.entries[1].kind = EntryKind::ConfigChange;
    log.entries[3].kind = EntryKind::ConfigChange;
    assert_eq!(log.first_unapplied_change(Index(1)), None);
    assert_eq!(log.first_unapplied_change(Index(5)), Some(Index(2)));
    log.take_committed(usize::MAX, &mut Vec::new());
    log.apply_to(Index(2));
    assert_eq!(log.first_unapplied_change(Index(5)), Some(Index(4)));
    log.apply_to(Index(5));
    assert_eq!(log.first_unapplied_change(Index(5)), None);
}
