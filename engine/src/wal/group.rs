//! What the writer knows of one group: enough for a segment's head, and where its entries lie.
//!
//! Invariants: spans are sorted by index and disjoint; a span says in which segment the newest
//! writing of its entries lies; the state is that of the frames sealed so far, never of pending
//! ones, so that a head claims nothing that a crash could take away.

use super::frame::GroupDirectory;
use super::position::{GroupId, SegmentId};
use super::record::{EntryId, HardState, Install};

/// Entries `first..=last` of a group, in one segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Span {
    pub first: u64,
    pub last: u64,
    pub segment: SegmentId,
}

/// One group as of the last sealed frame.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupState {
    /// Whole hard state.
    pub hard_state: HardState,
    /// Recovery could not read all that was synced of this group: hard state and end of the log
    /// may be older ones. Stays until the caller says that it is mended.
    pub is_damaged: bool,
    /// The log is needed behind this entry only.
    pub checkpoint: EntryId,
    /// An install whose copying is not known durable.
    pub install: Option<Install>,
    /// End of the log; the checkpoint when it is empty.
    pub last: EntryId,
    /// Where the entries are.
    pub(crate) spans: Vec<Span>,
}

impl GroupState {
    /// The line of this group in a segment's head.
    pub(crate) fn head_line(&self, group: GroupId) -> GroupDirectory {
        let first = EntryId { index: self.checkpoint.index + 1, term: self.checkpoint.term };
        GroupDirectory {
            group,
            entries: (self.checkpoint.index < self.last.index).then_some((first, self.last)),
            hard_state: Some(self.hard_state),
            checkpoint: Some(self.checkpoint),
            install: self.install,
            is_damaged: self.is_damaged,
            ..GroupDirectory::default()
        }
    }

    /// Takes over what a frame sealed into `segment` says of this group.
    pub(crate) fn absorb(
        &mut self,
        line: &GroupDirectory,
        rewritten: &[(u64, u64)],
        segment: SegmentId,
    ) {
        if let Some(install) = line.install {
            self.spans.clear();
            self.install = Some(install);
            self.checkpoint = install.last;
            self.last = install.last;
        }
        if line.is_installed {
            self.install = None;
        }
        if line.is_mended {
            self.is_damaged = false;
        }
        for (first, last) in rewritten {
            self.place(Span { first: *first, last: *last, segment });
        }
        if let Some((first, last)) = line.entries {
            self.truncate(first.index);
            self.place(Span { first: first.index, last: last.index, segment });
            self.last = last;
        }
        if let Some(hard_state) = line.hard_state {
            self.hard_state = hard_state;
        }
        if let Some(checkpoint) = line.checkpoint
            && self.checkpoint.index < checkpoint.index
        {
            self.checkpoint = checkpoint;
            if self.last.index < checkpoint.index {
                self.last = checkpoint;
            }
            self.spans.retain(|span| checkpoint.index < span.last);
        }
        self.verify();
    }

    /// Whether an entry that is still needed lies in `segment`.
    pub(crate) fn holds(&self, segment: SegmentId) -> bool {
        self.spans.iter().any(|span| span.segment == segment && self.checkpoint.index < span.last)
    }

    /// Index ranges that are still needed and lie in `segment`.
    pub(crate) fn held(&self, segment: SegmentId) -> impl Iterator<Item = (u64, u64)> {
        let behind = self.checkpoint.index;
        self.spans
            .iter()
            .filter(move |span| span.segment == segment && behind < span.last)
            .map(move |span| (span.first.max(behind + 1), span.last))
    }

    /// Drops what lies at `first` and behind it.
    pub(crate) fn truncate(&mut self, first: u64) {
        while let Some(span) = self.spans.last_mut() {
            if span.last < first {
                break;
            }
            if span.first < first {
                span.last = first - 1;
                break;
            }
            self.spans.pop();
        }
    }

    /// Puts a span in, over what was said of its indexes before.
    pub(crate) fn place(&mut self, new: Span) {
        assert!(new.first <= new.last);
        if let Some(last) = self.spans.last_mut()
            && last.last + 1 == new.first
            && last.segment == new.segment
        {
            last.last = new.last;
            return;
        }
        let mut spans = Vec::with_capacity(self.spans.len() + 2);
        for span in self.spans.drain(..) {
            let left = Span { last: span.last.min(new.first - 1), ..span };
            let right = Span { first: span.first.max(new.last + 1), ..span };
            for part in [left, right] {
                if part.first <= part.last {
                    spans.push(part);
                }
            }
        }
        let slot = spans.partition_point(|span| span.first < new.first);
        spans.insert(slot, new);
        self.spans = spans;
    }

    fn verify(&self) {
        if let Some(last) = self.spans.last() {
            assert!(last.last <= self.last.index);
        }
        assert!(self.checkpoint.index <= self.last.index);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(first: u64, last: u64, segment: u64) -> Span {
        Span { first, last, segment: SegmentId(segment) }
    }

    fn state(spans: &[Span]) -> GroupState {
        let last = EntryId { index: spans.last().map_or(0, |span| span.last), term: 1 };
        GroupState { spans: spans.to_vec(), last, ..GroupState::default() }
    }

    #[test]
    fn a_span_written_again_covers_the_old_places() {
        let mut group = state(&[span(1, 10, 1), span(11, 20, 2)]);
        group.place(span(5, 12, 3));
        assert_eq!(group.spans, [span(1, 4, 1), span(5, 12, 3), span(13, 20, 2)]);
        group.place(span(7, 8, 4));
        let parts = [span(1, 4, 1), span(5, 6, 3), span(7, 8, 4), span(9, 12, 3), span(13, 20, 2)];
        assert_eq!(group.spans, parts);
    }

    #[test]
    fn a_conflict_cuts_the_spans_behind_it() {
        let mut group = state(&[span(1, 10, 1), span(11, 20, 2)]);
        let first = EntryId { index: 6, term: 2 };
        let line = GroupDirectory { entries: Some((first, first)), ..Default::default() };
        group.absorb(&line, &[], SegmentId(3));
        assert_eq!(group.spans, [span(1, 5, 1), span(6, 6, 3)]);
        assert_eq!(group.last, first);
    }

    #[test]
    fn a_checkpoint_lets_segments_go() {
        let mut group = state(&[span(1, 10, 1), span(11, 20, 2)]);
        let checkpoint = EntryId { index: 12, term: 1 };
        let line = GroupDirectory { checkpoint: Some(checkpoint), ..Default::default() };
        group.absorb(&line, &[], SegmentId(2));
        assert!(!group.holds(SegmentId(1)));
        let lower = EntryId { index: 3, term: 1 };
        let line = GroupDirectory { checkpoint: Some(lower), ..Default::default() };
        group.absorb(&line, &[], SegmentId(2));
        assert_eq!(group.checkpoint, checkpoint);
        assert_eq!(group.held(SegmentId(2)).collect::<Vec<_>>(), [(13, 20)]);
    }
}
