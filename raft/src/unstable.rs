//! What was handed to the caller and is not known to be durable yet.
//!
//! Invariants: persisted <= handed <= last index. Several hand-overs may be outstanding; each
//! remembers how far it went. A truncation shortens what the outstanding ones may later confirm, so
//! a write whose entries were overwritten meanwhile never marks the new ones as durable, even if
//! the very same (index, term) came back (fact sheet of scenarios, 90).

use std::collections::VecDeque;

use crate::types::{EntryId, Index, ReadyNumber, ReplicaId, Term};

/// The part of the log that may be lost in a crash, and the hard state with it.
#[derive(Debug)]
pub(crate) struct Unstable {
    /// Entries up to here were handed out to be made durable.
    handed: Index,
    /// Entries up to here are durable.
    persisted: Index,
    /// Number of the newest hand-over.
    number: ReadyNumber,
    /// Hand-overs not confirmed yet, oldest first.
    outstanding: VecDeque<HandOver>,
}

/// Term and vote, as one value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ballot {
    pub term: Term,
    pub vote: Option<ReplicaId>,
}

/// What one Ready asked to make durable.
#[derive(Debug, Default)]
pub(crate) struct HandOver {
    pub number: ReadyNumber,
    pub ballot: Option<Ballot>,
    /// The last entry handed over.
    pub last: Option<EntryId>,
    pub snapshot: Option<Index>,
}

impl Unstable {
    pub(crate) fn new(last: Index) -> Unstable {
        Unstable {
            handed: last,
            persisted: last,
            number: ReadyNumber(0),
            outstanding: VecDeque::new(),
        }
    }

    pub(crate) fn handed(&self) -> Index {
        self.handed
    }

    pub(crate) fn persisted(&self) -> Index {
        self.persisted
    }

    /// The hand-over that everything so far waits for.
    pub(crate) fn number(&self) -> ReadyNumber {
        self.number
    }

    pub(crate) fn has_outstanding(&self) -> bool {
        !self.outstanding.is_empty()
    }

    /// Whether a snapshot handed over is not durable yet.
    pub(crate) fn has_snapshot(&self) -> bool {
        self.outstanding.iter().any(|hand_over| hand_over.snapshot.is_some())
    }

    /// Remembers a hand-over and gives it its number.
    pub(crate) fn hand_over(
        &mut self,
        ballot: Option<Ballot>,
        last: Option<EntryId>,
        snapshot: Option<Index>,
    ) -> ReadyNumber {
        if let Some(last) = last {
            assert!(self.handed < last.index);
            self.handed = last.index;
        }
        self.number = self.number.next();
        let number = self.number;
        self.outstanding.push_back(HandOver { number, ballot, last, snapshot });
        number
    }

    /// Takes back the oldest hand-over if it is at or below `number`.
    pub(crate) fn confirm(&mut self, number: ReadyNumber) -> Option<HandOver> {
        assert!(number <= self.number, "a Ready is confirmed that was never made");
        if self.outstanding.front()?.number <= number { self.outstanding.pop_front() } else { None }
    }

    /// Entries up to `index` are durable.
    pub(crate) fn persist_to(&mut self, index: Index) {
        assert!(index <= self.handed);
        self.persisted = self.persisted.max(index);
    }

    /// The entries from `from` on are replaced: nothing outstanding speaks of them any more.
    pub(crate) fn truncate_from(&mut self, from: Index) {
        let kept = from.previous();
        self.handed = self.handed.min(kept);
        self.persisted = self.persisted.min(kept);
        for hand_over in &mut self.outstanding {
            hand_over.last = hand_over.last.filter(|last| last.index <= kept);
        }
    }

    /// The whole log is replaced by a snapshot up to `index`; of the old log only what was
    /// committed, up to `commit`, lives on inside it.
    pub(crate) fn restore(&mut self, index: Index, commit: Index) {
        assert!(commit < index);
        self.handed = index;
        self.persisted = self.persisted.min(commit);
        for hand_over in &mut self.outstanding {
            hand_over.last = None;
            hand_over.snapshot = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(index: u64, term: u64) -> EntryId {
        EntryId { index: Index(index), term: Term(term) }
    }

    fn confirm(unstable: &mut Unstable, number: ReadyNumber) {
        while let Some(hand_over) = unstable.confirm(number) {
            if let Some(last) = hand_over.last {
                unstable.persist_to(last.index);
            }
        }
    }

    #[test]
    fn confirmations_come_late_twice_or_for_several_at_once() {
        let mut unstable = Unstable::new(Index(3));
        let first = unstable.hand_over(None, Some(id(4, 1)), None);
        let second = unstable.hand_over(None, Some(id(6, 1)), None);
        let third = unstable.hand_over(None, Some(id(7, 1)), None);
        assert_eq!(unstable.persisted(), Index(3));
        confirm(&mut unstable, second);
        assert_eq!(unstable.persisted(), Index(6));
        confirm(&mut unstable, first);
        assert_eq!(unstable.persisted(), Index(6));
        assert!(unstable.has_outstanding());
        confirm(&mut unstable, third);
        assert_eq!(unstable.persisted(), Index(7));
        assert!(!unstable.has_outstanding());
    }

    #[test]
    fn a_write_of_replaced_entries_confirms_nothing_even_if_they_come_back() {
        let mut unstable = Unstable::new(Index(3));
        let first = unstable.hand_over(None, Some(id(5, 2)), None);
        unstable.truncate_from(Index(5));
        let second = unstable.hand_over(None, Some(id(5, 3)), None);
        unstable.truncate_from(Index(5));
        let third = unstable.hand_over(None, Some(id(5, 2)), None);
        confirm(&mut unstable, first);
        assert_eq!(unstable.persisted(), Index(3), "the old (5, 2) is not the new one");
        confirm(&mut unstable, second);
        assert_eq!(unstable.persisted(), Index(3));
        confirm(&mut unstable, third);
        assert_eq!(unstable.persisted(), Index(5));
    }

    #[test]
    fn truncation_before_at_and_inside_what_is_persisted() {
        let mut unstable = Unstable::new(Index(8));
        unstable.truncate_from(Index(9));
        assert_eq!((unstable.handed(), unstable.persisted()), (Index(8), Index(8)));
        unstable.truncate_from(Index(8));
        assert_eq!((unstable.handed(), unstable.persisted()), (Index(7), Index(7)));
        unstable.truncate_from(Index(3));
        assert_eq!((unstable.handed(), unstable.persisted()), (Index(2), Index(2)));
    }

    #[test]
    fn a_snapshot_replaces_what_was_outstanding() {
        let mut unstable = Unstable::new(Index(3));
        let first = unstable.hand_over(None, Some(id(9, 2)), None);
        unstable.restore(Index(8), Index(2));
        let second = unstable.hand_over(None, None, Some(Index(8)));
        assert!(unstable.has_snapshot());
        confirm(&mut unstable, first);
        assert_eq!(unstable.persisted(), Index(2));
        assert_eq!(unstable.confirm(second).unwrap().snapshot, Some(Index(8)));
        unstable.persist_to(Index(8));
        assert_eq!(unstable.persisted(), Index(8));
    }
}
