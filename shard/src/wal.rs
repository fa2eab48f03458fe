//! The shard's WAL between Raft's demands and the driver's completions: what is being filled, what
//! flies, which segments are prepared, recycled, deleted.
//!
//! Invariants: one write is in flight, the next one fills; a Ready is confirmed only when the last
//! byte of it is synced, and everything before it is; after ten milliseconds without a next frame
//! an empty one covers the last (storage.md, WAL rule 3).

use std::collections::{BTreeMap, VecDeque};

use engine::wal::buffer::WalBuffer;
use engine::wal::position::{GroupId, SegmentId, WalPosition};
use engine::wal::record::{EntryId, EntryRecord, HardState};
use engine::wal::writer::{SegmentFile, Writer};
use raft::{Entry, EntryKind, Ready, ReadyNumber};

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
    flight: Option<Flight>,
    groups: BTreeMap<u64, GroupProgress>,
    spare: VecDeque<SegmentFile>,
    /// The segment that was asked for and is not there yet.
    preparing: Option<SegmentId>,
    cover_at_us: Option<u64>,
}

#[derive(Debug)]
struct Flight {
    end: WalPosition,
    started_us: u64,
    /// What is durable of each group when this is, if all that was appended is in it.
    covers: Vec<(u64, GroupProgress)>,
}

#[derive(Clone, Copy, Debug, Default)]
struct GroupProgress {
    number: ReadyNumber,
    index: u64,
    durable_index: u64,
}

impl ShardWal {
    /// A WAL that goes on with `writer`.
    pub fn new(writer: Writer) -> ShardWal {
        ShardWal {
            writer,
            flight: None,
            groups: BTreeMap::new(),
            spare: VecDeque::new(),
            preparing: None,
            cover_at_us: None,
        }
    }

    /// A group that was recovered: what it has is durable.
    pub fn add_group(&mut self, group: u64, last_index: u64) {
        let progress = GroupProgress {
            number: ReadyNumber::default(),
            index: last_index,
            durable_index: last_index,
        };
        let known = self.groups.insert(group, progress);
        assert!(known.is_none());
    }

    /// Lays out what a Ready wants to be durable.
    pub fn append(&mut self, group: u64, ready: &Ready) {
        assert!(ready.must_persist());
        let id = GroupId(group);
        if let Some(state) = ready.hard_state {
            self.writer.append_hard_state(
                id,
                HardState {
                    term: state.term.0,
                    vote: state.vote.map_or(0, |vote| vote.0),
                    commit: state.commit.0,
                },
            );
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

    /// Begins a write if none is in flight and there is something to write.
    pub fn maybe_write(&mut self, now_us: u64, metrics: &mut Metrics, fx: &mut Effects) {
        self.prepare_segment(fx);
        if self.flight.is_some() {
            return;
        }
        let write = if !self.writer.is_empty() {
            self.writer.seal()
        } else if self.writer.needs_cover() {
            match self.cover_at_us {
                Some(at_us) if at_us <= now_us => self.writer.seal_empty(),
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
        let covers = if is_all_sealed {
            self.groups.iter().map(|(group, progress)| (*group, *progress)).collect()
        } else {
            Vec::new()
        };
        metrics.add(Scalar::WalWrites, 1);
        let bytes = metrics.value(Scalar::WalWriteBytes) + write.buffer.size_bytes() as u64;
        metrics.set(Scalar::WalWriteBytes, bytes);
        self.flight = Some(Flight { end: write.end, started_us: now_us, covers });
        fx.push(Effect::WalWrite(write));
        self.prepare_segment(fx);
    }

    /// A write is durable: the Readys that are confirmed by it, by group.
    pub fn on_synced(
        &mut self,
        end: WalPosition,
        buffer: WalBuffer,
        now_us: u64,
        metrics: &mut Metrics,
    ) -> Vec<(u64, ReadyNumber)> {
        let flight = self.flight.take().expect("a write is in flight");
        assert!(flight.end == end, "writes complete in order");
        self.writer.synced(end);
        self.writer.recycle(buffer);
        metrics.observe_us(Histogram::WalSync, now_us - flight.started_us);
        let mut confirmed = Vec::new();
        for (group, sealed) in flight.covers {
            let progress = self.groups.get_mut(&group).expect("the group is known");
            assert!(sealed.number <= progress.number);
            progress.durable_index = sealed.index;
            confirmed.push((group, sealed.number));
        }
        confirmed
    }

    /// Whether a group's entries are durable up to `index`.
    pub fn is_synced_to(&self, group: u64, index: u64) -> bool {
        self.groups.get(&group).is_some_and(|progress| index <= progress.durable_index)
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

    /// Lets go of segments that nobody needs: what says so is durable.
    pub fn release(&mut self, fx: &mut Effects) {
        while let Some(file) = self.writer.release() {
            if self.spare.len() < SPARE_SEGMENTS_MAX {
                self.spare.push_back(file);
            } else {
                fx.push(Effect::WalSegmentDelete { segment: file.id });
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
        let same_size = self.spare.iter().position(|spare| spare.size_bytes == file.size_bytes);
        let origin = match same_size.and_then(|slot| self.spare.remove(slot)) {
            Some(spare) => SegmentOrigin::Recycled(spare.id),
            None => SegmentOrigin::Fresh,
        };
        self.preparing = Some(file.id);
        let size_bytes = file.size_bytes;
        fx.push(Effect::WalSegmentPrepare { segment: file.id, size_bytes, origin });
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
