//! The shard's WAL between Raft's demands and the driver's completions: what is being filled, what
//! flies, which segments are prepared, recycled, deleted.
//!
//! Invariants: one write is in flight, the next one fills; a Ready is confirmed only when the last
//! byte of it is synced, and everything before it is; after ten milliseconds without a next frame
//! an empty one covers the last (storage.md, WAL rule 3).

use std::cmp::Ordering;
use std::collections::{BTreeMap, VecDeque};

use engine::wal::buffer::WalBuffer;
use engine::wal::position::{GroupId, SegmentId, WalPosition};
use engine::wal::record::{EntryId, EntryRecord, HardState, Install};
use engine::wal::writer::{SegmentFile, WalWrite, Writer};
use raft::{Entry, EntryKind, Index, Ready, ReadyNumber};

use crate::effect::{Effect, Effects, SegmentOrigin};
use crate::metrics::{Histogram, Metrics, Scalar};

/// A frame is covered by an empty one after this long without a next one.
const COVER_DELAY_US: u64 = 10_000;
/// Released segment files kept for recycling; more are deleted.
const SPARE_SEGMENTS_MAX: usize = 2;

/// The WAL of a shard.
#[derive(Debug)]
pub(crate) struct ShardWal {
    writer: Writer,
    /// No segment is released: the log is kept since the first start, as long as there is room.
    is_log_retained: bool,
    flight: Option<Flight>,
    /// What is durable of each group when the write in flight is, if all that was appended is in
    /// it.
    covers: Vec<(u64, GroupProgress)>,
    groups: BTreeMap<u64, GroupProgress>,
    spare: VecDeque<SegmentFile>,
    /// The segment that was asked for and is not there yet.
    preparing: Option<SegmentId>,
    cover_at_us: Option<u64>,
    /// When the oldest record that is not in flight yet was appended.
    pending_since_us: Option<u64>,
    /// Notes appended, and how many of them are durable.
    notes_appended: u64,
    notes_durable: u64,
    sync_median_us: u64,
}

#[derive(Debug)]
struct Flight {
    end: WalPosition,
    started_us: u64,
    /// When the oldest record in it was appended.
    since_us: u64,
    /// Notes in it and before it.
    notes: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct GroupProgress {
    number: ReadyNumber,
    index: u64,
    durable_index: u64,
    /// As it was appended last.
    hard_state: raft::HardState,
    /// Commit index now.
    commit: u64,
    /// Covers the hard state that was appended last; see [`ShardWal::is_note_durable`].
    commit_note: u64,
}

impl ShardWal {
    /// A WAL that goes on with `writer`.
    pub fn new(writer: Writer, is_log_retained: bool) -> ShardWal {
        ShardWal {
            writer,
            is_log_retained,
            flight: None,
            covers: Vec::new(),
            groups: BTreeMap::new(),
            spare: VecDeque::new(),
            preparing: None,
            cover_at_us: None,
            pending_since_us: None,
            notes_appended: 0,
            notes_durable: 0,
            sync_median_us: 0,
        }
    }

    /// A group that was recovered: what it has is durable.
    pub fn add_group(&mut self, group: u64, last_index: u64, hard_state: raft::HardState) {
        let progress = GroupProgress {
            number: ReadyNumber::default(),
            index: last_index,
            durable_index: last_index,
            hard_state,
            commit: 0,
            commit_note: 0,
        };
        let known = self.groups.insert(group, progress);
        assert!(known.is_none());
    }

    /// Lays out what a Ready wants to be durable; `install` names the pages of its snapshot.
    pub fn append(&mut self, group: u64, ready: &Ready, install: Option<Install>) {
        assert!(ready.must_persist());
        assert!(ready.snapshot.is_some() == install.is_some());
        let id = GroupId(group);
        self.note_commit(group, ready.commit.0);
        match ready.hard_state {
            Some(state) => self.append_hard_state(group, state),
            None => self.append_commit(group),
        }
        if let Some(install) = install {
            self.append_install(group, install);
        }
        if let Some(first) = ready.entries.first() {
            self.on_replaced(group, first.index.0);
        }
        let progress = self.groups.get_mut(&group).expect("the group is known");
        for entry in &ready.entries {
            self.writer.append_entry(EntryRecord {
                group: id,
                index: entry.index.0,
                term: entry.term.0,
                kind: kind_number(entry),
                data: &entry.data,
            });
            progress.index = entry.index.0;
        }
        assert!(progress.number < ready.number);
        progress.number = ready.number;
    }

    /// A received state replaces the group's log: its pages may be copied when this is durable.
    pub fn append_install(&mut self, group: u64, install: Install) {
        self.on_replaced(group, install.last.index);
        self.writer.append_install(GroupId(group), install);
        let progress = self.groups.get_mut(&group).expect("the group is known");
        progress.index = install.last.index;
    }

    /// Writes down a group's hard state by itself.
    pub fn append_hard_state(&mut self, group: u64, state: raft::HardState) {
        self.notes_appended += 1;
        let progress = self.groups.get_mut(&group).expect("the group is known");
        progress.hard_state = state;
        progress.commit_note = self.notes_appended;
        self.writer.append_hard_state(GroupId(group), record_of(&state));
    }

    /// Writes an entry that a damaged log lacked: into its hole, or over all that stands at its
    /// index and behind it.
    pub fn write_mended_entry(&mut self, group: u64, entry: &Entry, replaces: bool) {
        let record = EntryRecord {
            group: GroupId(group),
            index: entry.index.0,
            term: entry.term.0,
            kind: kind_number(entry),
            data: &entry.data,
        };
        if !replaces {
            return self.writer.rewrite_entry(record);
        }
        self.on_replaced(group, entry.index.0);
        self.writer.append_entry(record);
        let progress = self.groups.get_mut(&group).expect("the group is known");
        progress.index = entry.index.0;
    }

    /// What recovery could not find of a group has been written again.
    pub fn append_mended(&mut self, group: u64) {
        self.writer.append_mended(GroupId(group));
    }

    /// The group's commit index is this now. It goes to the WAL along with something else, or with
    /// the frame that covers the last one: it need not be durable, but who looks at the files of a
    /// killed member should see what was acknowledged.
    pub fn note_commit(&mut self, group: u64, commit: u64) {
        let progress = self.groups.get_mut(&group).expect("the group is known");
        // After a restart it begins at what is held here, which may be below what was written down.
        progress.commit = progress.commit.max(commit);
    }

    /// Writes down a commit index that rose. Most need not be durable; one that a change of members
    /// has taken effect by is, since who left cannot tell it any more.
    pub fn append_commit(&mut self, group: u64) {
        let progress = self.groups.get_mut(&group).expect("the group is known");
        if progress.hard_state.commit.0 < progress.commit {
            let commit = Index(progress.commit);
            let state = raft::HardState { commit, ..progress.hard_state };
            self.append_hard_state(group, state);
        }
    }

    /// The commit index that was written down last, to be given to [`ShardWal::is_note_durable`].
    pub fn commit_note(&self, group: u64) -> u64 {
        self.groups[&group].commit_note
    }

    /// The frame that covers the last one: empty, unless a commit index rose meanwhile.
    fn seal_cover(&mut self) -> Option<WalWrite> {
        let groups: Vec<u64> = self.groups.keys().copied().collect();
        for group in groups {
            self.append_commit(group);
        }
        if self.writer.is_empty() { self.writer.seal_empty() } else { self.writer.seal() }
    }

    /// Entries from `first` on are written again: what stood there does not count as durable, not
    /// even when the write that carries it ends.
    fn on_replaced(&mut self, group: u64, first: u64) {
        let kept = first - 1;
        let progress = self.groups.get_mut(&group).expect("the group is known");
        progress.durable_index = progress.durable_index.min(kept);
        for (_, sealed) in self.covers.iter_mut().filter(|(sealed_group, _)| *sealed_group == group)
        {
            sealed.index = sealed.index.min(kept);
        }
    }

    /// Writes down something small under `key`, which replaces what was there; the answer is given
    /// to [`ShardWal::is_note_durable`].
    pub fn append_note(&mut self, key: u64, value: &[u8]) -> u64 {
        self.writer.append_note(key, value);
        self.notes_appended += 1;
        self.notes_appended
    }

    /// Whether a note is durable.
    pub fn is_note_durable(&self, note: u64) -> bool {
        note <= self.notes_durable
    }

    /// All notes as of the last write.
    pub fn notes(&self) -> impl Iterator<Item = (u64, &[u8])> {
        self.writer.notes()
    }

    /// Age of the oldest record that is not durable yet, microseconds.
    pub fn sync_age_us(&self, now_us: u64) -> u64 {
        let flying_us = self.flight.as_ref().map(|flight| flight.since_us);
        flying_us.or(self.pending_since_us).map_or(0, |since_us| now_us - since_us)
    }

    /// Begins a write if none is in flight and there is something to write.
    pub fn maybe_write(&mut self, now_us: u64, metrics: &mut Metrics, fx: &mut Effects) {
        self.prepare_segment(fx);
        if self.pending_since_us.is_none() && !self.writer.is_empty() {
            self.pending_since_us = Some(now_us);
        }
        if self.flight.is_some() {
            return;
        }
        let write = if !self.writer.is_empty() {
            self.writer.seal()
        } else if self.writer.needs_cover() {
            match self.cover_at_us {
                Some(at_us) if at_us <= now_us => self.seal_cover(),
                Some(at_us) => {
                    fx.wake_at(at_us);
                    None
                }
                None => {
                    self.cover_at_us = Some(now_us + COVER_DELAY_US);
                    fx.wake_at(now_us + COVER_DELAY_US);
                    None
                }
            }
        } else {
            None
        };
        let Some(write) = write else { return };
        self.cover_at_us = None;
        let is_all_sealed = self.writer.is_empty();
        self.covers.clear();
        if is_all_sealed {
            self.covers.extend(self.groups.iter().map(|(group, progress)| (*group, *progress)));
        }
        metrics.add(Scalar::WalWrites, 1);
        let bytes = metrics.value(Scalar::WalWriteBytes) + write.buffer.size_bytes() as u64;
        metrics.set(Scalar::WalWriteBytes, bytes);
        let notes = if is_all_sealed { self.notes_appended } else { self.notes_durable };
        let since_us = self.pending_since_us.take().unwrap_or(now_us);
        let started_us = now_us;
        self.flight = Some(Flight { end: write.end, started_us, since_us, notes });
        fx.push(Effect::WalWrite(write));
        self.prepare_segment(fx);
    }

    /// A write is durable: `confirm` hears of the Readys that are confirmed by it, by group.
    pub fn on_synced(
        &mut self,
        end: WalPosition,
        buffer: WalBuffer,
        now_us: u64,
        metrics: &mut Metrics,
        mut confirm: impl FnMut(u64, ReadyNumber),
    ) {
        let flight = self.flight.take().expect("a write is in flight");
        assert!(flight.end == end, "writes complete in order");
        self.writer.synced(end);
        self.writer.recycle(buffer);
        metrics.observe_us(Histogram::WalSync, now_us - flight.started_us);
        self.notes_durable = flight.notes;
        let took_us = now_us - flight.started_us;
        // Half of the writes push it up and half down, so it settles at their median.
        self.sync_median_us = match took_us.cmp(&self.sync_median_us) {
            Ordering::Greater if self.sync_median_us == 0 => took_us,
            Ordering::Greater => self.sync_median_us + (self.sync_median_us / 16).max(1),
            Ordering::Less => self.sync_median_us - (self.sync_median_us / 16).max(1),
            Ordering::Equal => self.sync_median_us,
        };
        for (group, sealed) in self.covers.drain(..) {
            let progress = self.groups.get_mut(&group).expect("the group is known");
            assert!(sealed.number <= progress.number);
            progress.durable_index = sealed.index;
            confirm(group, sealed.number);
        }
    }

    /// Whether a group's entries are durable up to `index`.
    pub fn is_synced_to(&self, group: u64, index: u64) -> bool {
        self.groups.get(&group).is_some_and(|progress| index <= progress.durable_index)
    }

    /// About the median time of a write and its sync, microseconds.
    pub fn sync_median_us(&self) -> u64 {
        self.sync_median_us
    }

    /// Whether a write is in flight and more waits for its end.
    pub fn is_gathering(&self) -> bool {
        self.flight.is_some() && !self.writer.is_empty()
    }

    /// Whether half of what may wait to be written waits.
    pub fn is_half_full(&self) -> bool {
        self.writer.is_half_full()
    }

    /// Whether nothing more should be proposed before something is written or released.
    pub fn is_full(&self) -> bool {
        self.writer.is_full()
    }

    /// A segment file is there.
    pub fn on_segment_ready(&mut self, segment: SegmentId) {
        assert!(self.preparing == Some(segment));
        self.preparing = None;
        self.writer.segment_ready(segment);
    }

    /// A checkpoint is durable: what lies at or below the older one may go.
    pub fn on_checkpoint(&mut self, group: u64, older: EntryId) {
        if 0 < older.index {
            self.writer.append_checkpoint(GroupId(group), older);
        }
    }

    /// The pages of the last install lie in their places, durable.
    pub fn append_installed(&mut self, group: GroupId) {
        self.writer.append_installed(group);
    }

    /// Lets go of segments that nobody needs: what says so is durable. A log that is to be kept
    /// whole keeps them all; where [`engine::wal::limits::SEGMENTS_MAX`] are used up it is full, and
    /// proposals are refused.
    pub fn release(&mut self, fx: &mut Effects) {
        if self.is_log_retained {
            return;
        }
        while let Some(file) = self.writer.release() {
            // The oldest go first: what is left is one piece of the log without a hole.
            self.spare.push_back(file);
            if SPARE_SEGMENTS_MAX < self.spare.len()
                && let Some(oldest) = self.spare.pop_front()
            {
                fx.push(Effect::WalSegmentDelete { segment: oldest.id });
            }
        }
    }

    /// Whether everything that was appended is durable.
    pub fn is_quiet(&self) -> bool {
        self.flight.is_none() && self.writer.is_empty()
    }

    fn prepare_segment(&mut self, fx: &mut Effects) {
        if self.preparing.is_some() {
            return;
        }
        let Some(file) = self.writer.wants_segment() else { return };
        let mut origin = SegmentOrigin::Fresh;
        while let Some(spare) = self.spare.pop_front() {
            if spare.size_bytes == file.size_bytes {
                origin = SegmentOrigin::Recycled(spare.id);
                break;
            }
            fx.push(Effect::WalSegmentDelete { segment: spare.id });
        }
        self.preparing = Some(file.id);
        let size_bytes = file.size_bytes;
        fx.push(Effect::WalSegmentPrepare { segment: file.id, size_bytes, origin });
    }
}

fn record_of(state: &raft::HardState) -> HardState {
    HardState {
        term: state.term.0,
        vote: state.vote.map_or(0, |vote| vote.0),
        commit: state.commit.0,
    }
}

fn kind_number(entry: &Entry) -> u8 {
    match entry.kind {
        EntryKind::Empty => 0,
        EntryKind::Command => 1,
        EntryKind::ConfigChange => 2,
    }
}

/// The kind of an entry read back from the WAL.
pub(crate) fn kind_from_number(number: u8) -> Option<EntryKind> {
    match number {
        0 => Some(EntryKind::Empty),
        1 => Some(EntryKind::Command),
        2 => Some(EntryKind::ConfigChange),
        _ => None,
    }
}
