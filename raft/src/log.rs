//! The Raft log as one replica holds it in memory.
//!
//! Invariants: first - 1 <= applied <= applying <= commit <= last, and persisted <= last; commit
//! and applied never move back; an entry at or below commit is never replaced; terms never decrease
//! along the log. Only `compact` and `restore` give up a prefix.
//! Source: Raft thesis sections 3.5, 3.6, 5 (compaction).

use std::collections::VecDeque;

use bytes::Bytes;

use crate::error::{LogError, StepError};
use crate::types::{Entry, EntryId, EntryKind, Index, Term};
use crate::unstable::Unstable;

/// Entries in memory, and how far they are handed over, durable, committed and applied.
#[derive(Debug)]
pub(crate) struct RaftLog {
    /// The entry before the first one in memory: the end of a checkpoint or of what was dropped.
    base: EntryId,
    /// Entries after `base`, contiguous.
    entries: VecDeque<Entry>,
    commit: Index,
    /// Handed out for apply up to here.
    applying: Index,
    applied: Index,
    /// Bytes of the entries in (applied, applying].
    applying_size_bytes: usize,
    /// Bytes of all entries in memory.
    size_bytes: usize,
    pub(crate) unstable: Unstable,
}

impl RaftLog {
    /// A log whose `entries` follow `base`, all durable; the state machine contains everything up
    /// to `applied`.
    pub(crate) fn new(
        base: EntryId,
        entries: VecDeque<Entry>,
        applied: Index,
        commit: Index,
    ) -> RaftLog {
        let last = Index(base.index.0 + entries.len() as u64);
        assert!(base.index <= applied && applied <= commit);
        assert!(commit <= last);
        let size_bytes = entries.iter().map(Entry::size_bytes).sum();
        RaftLog {
            base,
            entries,
            commit,
            applying: applied,
            applied,
            applying_size_bytes: 0,
            size_bytes,
            unstable: Unstable::new(last),
        }
    }

    pub(crate) fn base(&self) -> EntryId {
        self.base
    }

    pub(crate) fn last(&self) -> EntryId {
        self.entries.back().map_or(self.base, Entry::id)
    }

    pub(crate) fn commit(&self) -> Index {
        self.commit
    }

    /// Bytes of all entries in memory.
    pub(crate) fn size_bytes(&self) -> usize {
        self.size_bytes
    }

    /// The last entry known to be committed.
    pub(crate) fn committed(&self) -> EntryId {
        let term = self.term_of(self.commit).expect("base <= commit <= last");
        EntryId { index: self.commit, term }
    }

    pub(crate) fn applied(&self) -> Index {
        self.applied
    }

    /// The entry at `index`, if it is in memory.
    pub(crate) fn entry(&self, index: Index) -> Option<&Entry> {
        let slot = index.0.checked_sub(self.base.index.0)?.checked_sub(1)?;
        self.entries.get(usize::try_from(slot).ok()?)
    }

    /// Term of the entry at `index`; none when it was dropped or does not exist.
    pub(crate) fn term_of(&self, index: Index) -> Option<Term> {
        if index == self.base.index {
            return Some(self.base.term);
        }
        self.entry(index).map(|entry| entry.term)
    }

    /// Whether this log holds exactly this entry.
    pub(crate) fn matches(&self, id: EntryId) -> bool {
        self.term_of(id.index) == Some(id.term)
    }

    /// Appends one entry of the leader's own term.
    pub(crate) fn append(&mut self, term: Term, kind: EntryKind, data: Bytes) -> EntryId {
        let last = self.last();
        assert!(last.term <= term);
        let id = EntryId { index: last.index.next(), term };
        let entry = Entry { term, index: id.index, kind, data };
        self.size_bytes += entry.size_bytes();
        self.entries.push_back(entry);
        id
    }

    /// A follower's append: keeps what agrees, replaces a conflicting suffix. Answers the last
    /// index that now agrees with the leader.
    ///
    /// # Errors
    /// [`StepError::CommittedConflict`] when a committed entry would be replaced.
    pub(crate) fn append_after(
        &mut self,
        previous: EntryId,
        entries: Vec<Entry>,
    ) -> Result<Index, StepError> {
        assert!(self.matches(previous));
        let matched = entries.last().map_or(previous.index, |entry| entry.index);
        let new_from = entries.iter().position(|entry| !self.matches(entry.id()));
        let Some(new_from) = new_from else {
            return Ok(matched);
        };
        let from = entries[new_from].index;
        if from <= self.commit {
            return Err(StepError::CommittedConflict { index: from });
        }
        if from <= self.last().index {
            self.truncate_from(from);
        }
        assert!(self.last().index.next() == from);
        let added = entries.into_iter().skip(new_from);
        self.entries.extend(added.inspect(|entry| self.size_bytes += entry.size_bytes()));
        assert!(self.last().index == matched);
        Ok(matched)
    }

    fn truncate_from(&mut self, from: Index) {
        assert!(self.commit < from);
        let kept = from.0 - self.base.index.0 - 1;
        let dropped = self.entries.drain(kept as usize..);
        self.size_bytes -= dropped.map(|entry| entry.size_bytes()).sum::<usize>();
        self.unstable.truncate_from(from);
    }

    /// The last entry at or below `index` whose term is at most `term`: everything after it in
    /// this log is of a later term, so it cannot agree with a log that has `term` at `index`. When
    /// the search leaves what is in memory the answer is the entry before it, with term 0 if even
    /// that one's term is unknown.
    ///
    /// Example: terms here 1 1 3 3 3 5, asked for (6, 4): the answer is (5, 3).
    pub(crate) fn last_at_most(&self, index: Index, term: Term) -> EntryId {
        let mut at = index.min(self.last().index);
        loop {
            match self.term_of(at) {
                Some(found) if term < found && Index(0) < at => at = at.previous(),
                Some(found) => return EntryId { index: at, term: found },
                None => return EntryId { index: at, term: Term(0) },
            }
        }
    }

    /// Moves the commit index forward. Answers whether it moved.
    pub(crate) fn commit_to(&mut self, index: Index) -> bool {
        assert!(index <= self.last().index);
        let moves = self.commit < index;
        self.commit = self.commit.max(index);
        moves
    }

    /// Whether `take_committed` would hand something out.
    pub(crate) fn has_committed(&self, size_bytes_max: usize) -> bool {
        self.applying < self.commit
            && (self.applying == self.applied || self.applying_size_bytes < size_bytes_max)
    }

    /// Hands out committed entries, in order and once, while less than `size_bytes_max` of them
    /// wait to be applied.
    pub(crate) fn take_committed(&mut self, size_bytes_max: usize, out: &mut Vec<Entry>) {
        while self.has_committed(size_bytes_max) {
            let index = self.applying.next();
            let entry = self.entry(index).expect("applied, so base, is below applying <= last");
            let entry = entry.clone();
            self.applying = index;
            self.applying_size_bytes += entry.size_bytes();
            out.push(entry);
        }
    }

    /// The state machine contains everything up to `index`.
    pub(crate) fn apply_to(&mut self, index: Index) {
        // What was being applied when a snapshot came is part of it: a smaller index is old news.
        assert!(index <= self.applying, "applied beyond what was handed out");
        while self.applied < index {
            self.applied = self.applied.next();
            let size_bytes = self.entry(self.applied).map_or(0, Entry::size_bytes);
            assert!(size_bytes <= self.applying_size_bytes);
            self.applying_size_bytes -= size_bytes;
        }
    }

    /// The caller's state was replaced by one that contains everything up to `index`: what it was
    /// not given of that yet it never will be.
    pub(crate) fn adopt(&mut self, index: Index) {
        assert!(self.applied < index && index <= self.commit, "what is committed and not applied");
        self.apply_to(index.min(self.applying));
        if self.applying < index {
            assert!(self.applied == self.applying && self.applying_size_bytes == 0);
            (self.applying, self.applied) = (index, index);
        }
    }

    /// The first change of the configuration that is not applied, up to `up_to`.
    pub(crate) fn first_unapplied_change(&self, up_to: Index) -> Option<Index> {
        let mut entries = self.iter_between(self.applied, up_to.max(self.applied));
        entries.find(|entry| entry.kind == EntryKind::ConfigChange).map(|entry| entry.index)
    }

    /// Entries of (after, up_to].
    pub(crate) fn iter_between(&self, after: Index, up_to: Index) -> impl Iterator<Item = &Entry> {
        assert!(self.base.index <= after);
        assert!(up_to <= self.last().index);
        let skipped = after.0 - self.base.index.0;
        let count = up_to.0.saturating_sub(after.0);
        self.entries.range(skipped as usize..(skipped + count) as usize)
    }

    /// Entries from `from` on: the first one always, then as many as fit in `size_bytes_max`.
    ///
    /// # Errors
    /// [`LogError::Compacted`] and [`LogError::Unavailable`] when `from` is not in memory.
    pub(crate) fn read(
        &self,
        from: Index,
        size_bytes_max: usize,
        out: &mut Vec<Entry>,
    ) -> Result<usize, LogError> {
        if from <= self.base.index {
            return Err(LogError::Compacted);
        }
        if self.last().index < from {
            return Err(LogError::Unavailable);
        }
        let mut size_bytes = 0;
        for entry in self.iter_between(from.previous(), self.last().index) {
            if 0 < size_bytes && size_bytes_max < size_bytes + entry.size_bytes() {
                break;
            }
            size_bytes += entry.size_bytes();
            out.push(entry.clone());
        }
        Ok(size_bytes)
    }

    /// Entries not handed over to be made durable yet.
    pub(crate) fn has_unhanded(&self) -> bool {
        self.unstable.handed() < self.last().index
    }

    /// Copies them (not their bytes) to `out` and answers the last one.
    pub(crate) fn take_unhanded(&self, out: &mut Vec<Entry>) -> Option<EntryId> {
        if !self.has_unhanded() {
            return None;
        }
        out.extend(self.iter_between(self.unstable.handed(), self.last().index).cloned());
        Some(self.last())
    }

    /// Drops entries up to `up_to` from memory; a smaller value than before does nothing.
    pub(crate) fn compact(&mut self, up_to: Index) {
        assert!(up_to <= self.applied, "compaction beyond the applied index");
        assert!(up_to <= self.unstable.persisted(), "compaction beyond what is durable");
        let Some(term) = self.term_of(up_to) else {
            assert!(up_to < self.base.index);
            return;
        };
        let dropped = up_to.0 - self.base.index.0;
        let dropped = self.entries.drain(..dropped as usize);
        self.size_bytes -= dropped.map(|entry| entry.size_bytes()).sum::<usize>();
        self.base = EntryId { index: up_to, term };
    }

    /// Replaces everything by a snapshot that ends at `last`.
    pub(crate) fn restore(&mut self, last: EntryId) {
        assert!(self.commit < last.index);
        self.unstable.restore(last.index, self.commit);
        self.entries.clear();
        self.size_bytes = 0;
        self.base = last;
        self.commit = last.index;
        // The caller installs the state before it applies anything after it.
        self.applying = last.index;
        self.applied = last.index;
        self.applying_size_bytes = 0;
    }
}

#[cfg(test)]
#[path = "log_test.rs"]
mod tests;
