//! Fills frames, seals them into segments, and knows which segments may be recycled.
//!
//! Contract with the caller: the writer owns no file. `wants_segment` names the file it needs next,
//! pre-written by the caller, who answers with `segment_ready`. Each `seal` is one device write, to
//! be submitted in the order of sealing and synced; `synced` tells the writer, `recycle` brings the
//! buffer back. What a later frame claims to be synced decides in recovery between a torn tail and
//! a corrupt middle, so `synced` must never be called before the device said so.
//!
//! Invariants: no block is sealed twice; a frame lies in one segment; every segment begins with the
//! whole state of each group, so a released segment never takes a vote with it.
//! Source: storage.md, WAL rules 1 to 6.

use super::buffer::WalBuffer;
use super::frame::{FLAG_SEGMENT_HEAD, FrameBinding, GroupDirectory};
use super::group::GroupState;
use super::limits::*;
use super::pending::PendingFrame;
use super::position::{GroupId, LogId, RunNumber, SegmentId, WalPosition};
use super::record::{EntryId, EntryRecord, HardState, Install, Record};
use std::collections::{BTreeMap, VecDeque};

/// A segment file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentFile {
    /// Its number: the file's name.
    pub id: SegmentId,
    /// Its size.
    pub size_bytes: u64,
}

/// One write to the device, to be followed by a sync.
#[derive(Debug)]
pub struct WalWrite {
    /// The file.
    pub segment: SegmentId,
    /// Where in it; a multiple of the block size.
    pub offset_bytes: u64,
    /// What; a multiple of the block size long. Goes back by [`Writer::recycle`].
    pub buffer: WalBuffer,
    /// The position that is synced when this write is; goes to [`Writer::synced`].
    pub end: WalPosition,
}

/// Where a run goes on: nothing yet, or what recovery found.
#[derive(Clone, Debug)]
pub struct Start {
    /// The log's identity.
    pub log_id: LogId,
    /// This run; higher than any that wrote a WAL of this member.
    pub run: RunNumber,
    /// A segment number never used before.
    pub next_segment: SegmentId,
    /// Chain value of the last good frame; 0 when there is none.
    pub chain: u64,
    /// End of the last good frame. The caller has synced every segment up to here.
    pub end: WalPosition,
    /// Segments that exist, oldest first.
    pub segments: Vec<SegmentFile>,
    /// Groups that this WAL goes on with.
    pub groups: BTreeMap<GroupId, GroupState>,
    /// Notes that it goes on with.
    pub notes: BTreeMap<u64, Vec<u8>>,
    /// Sizes of the segments to come.
    pub sizes: SegmentSizes,
}

/// Sizes of segments. The default is what a server uses; entries must be smaller than a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentSizes {
    /// Of a run's first segment.
    pub first_bytes: u64,
    /// Of the others.
    pub other_bytes: u64,
}

impl Default for SegmentSizes {
    fn default() -> SegmentSizes {
        SegmentSizes { first_bytes: SEGMENT_FIRST_SIZE_BYTES, other_bytes: SEGMENT_SIZE_BYTES }
    }
}

impl Start {
    /// A new log.
    pub fn fresh(log_id: LogId, run: RunNumber) -> Start {
        Start {
            log_id,
            run,
            next_segment: SegmentId(1),
            chain: 0,
            end: WalPosition::START,
            segments: Vec::new(),
            groups: BTreeMap::new(),
            notes: BTreeMap::new(),
            sizes: SegmentSizes::default(),
        }
    }
}

/// The segment being filled.
#[derive(Clone, Copy, Debug)]
struct Current {
    file: SegmentFile,
    offset_bytes: u64,
    head_end: WalPosition,
}

/// The segment to be filled after it.
#[derive(Clone, Copy, Debug)]
struct Next {
    file: SegmentFile,
    is_ready: bool,
}

/// The writing side of one shard's WAL.
#[derive(Debug)]
pub struct Writer {
    log_id: LogId,
    run: RunNumber,
    current: Option<Current>,
    next: Next,
    sizes: SegmentSizes,
    /// Segments kept, oldest first, the current one last.
    segments: VecDeque<SegmentFile>,
    /// Segments that nothing needs once the position beside them is synced.
    leaving: VecDeque<(SegmentFile, WalPosition)>,
    groups: BTreeMap<GroupId, GroupState>,
    /// Ends of the groups' logs with pending records counted in.
    tails: BTreeMap<GroupId, EntryId>,
    notes: BTreeMap<u64, Vec<u8>>,
    chain: u64,
    sealed: WalPosition,
    synced: WalPosition,
    /// End of the last frame that said anything.
    meaningful: WalPosition,
    /// What the last frame claims synced.
    claimed: WalPosition,
    queue: VecDeque<PendingFrame>,
    queue_bytes: usize,
    filling: PendingFrame,
    lines: Vec<GroupDirectory>,
    spare: Vec<WalBuffer>,
}

impl Writer {
    /// Goes on as `start` says, in a new segment.
    pub fn new(start: Start) -> Writer {
        assert!(0 < start.run.0);
        assert!(start.segments.iter().all(|file| file.id < start.next_segment));
        assert!(start.end.segment() < start.next_segment);
        assert!(start.groups.len() <= GROUPS_MAX);
        let tails = start.groups.iter().map(|(group, state)| (*group, state.last)).collect();
        for size in [start.sizes.first_bytes, start.sizes.other_bytes] {
            assert!(size.is_multiple_of(BLOCK_SIZE_BYTES as u64));
            assert!(size <= SEGMENT_SIZE_BYTES_MAX);
        }
        let file = SegmentFile { id: start.next_segment, size_bytes: start.sizes.first_bytes };
        Writer {
            log_id: start.log_id,
            run: start.run,
            current: None,
            next: Next { file, is_ready: false },
            sizes: start.sizes,
            segments: start.segments.into(),
            leaving: VecDeque::new(),
            groups: start.groups,
            tails,
            notes: start.notes,
            chain: start.chain,
            sealed: start.end,
            synced: start.end,
            meaningful: start.end,
            claimed: start.end,
            queue: VecDeque::new(),
            queue_bytes: 0,
            filling: PendingFrame::default(),
            lines: Vec::new(),
            spare: Vec::new(),
        }
    }

    /// This run's number.
    pub fn run(&self) -> RunNumber {
        self.run
    }

    /// Adds an entry at the end of its group's log, or over what lies at its index and behind it.
    pub fn append_entry(&mut self, entry: EntryRecord<'_>) {
        let tail = self.tail_mut(entry.group);
        assert!(entry.index <= tail.index + 1);
        *tail = EntryId { index: entry.index, term: entry.term };
        self.push(&Record::Append(entry));
    }

    /// Writes an entry again that the log holds, so that its old segment can go.
    pub fn rewrite_entry(&mut self, entry: EntryRecord<'_>) {
        let tail = self.tail_mut(entry.group);
        assert!(entry.index <= tail.index);
        self.push(&Record::Rewrite(entry));
    }

    /// Sets a group's whole hard state. The first record of a group makes it known.
    pub fn append_hard_state(&mut self, group: GroupId, hard_state: HardState) {
        self.tail_mut(group);
        self.push(&Record::HardState(group, hard_state));
    }

    /// Entries up to `last` are not needed any more: the older of the two checkpoints holds them.
    /// Beyond the log's end, the log begins behind it; a lower one than before says nothing.
    pub fn append_checkpoint(&mut self, group: GroupId, last: EntryId) {
        let tail = self.tail_mut(group);
        if tail.index < last.index {
            *tail = last;
        }
        self.push(&Record::Checkpoint(group, last));
    }

    /// Replaces the group's log by a received checkpoint, whose copying begins when this is synced.
    pub fn append_install(&mut self, group: GroupId, install: Install) {
        *self.tail_mut(group) = install.last;
        self.push(&Record::Install(group, install));
    }

    /// The copying of the install is durable.
    pub fn append_installed(&mut self, group: GroupId) {
        self.tail_mut(group);
        self.push(&Record::Installed(group));
    }

    /// What recovery could not find of the group (`is_damaged`) is restored: its missing entries
    /// are written again, its hard state is at least what it had promised.
    pub fn append_mended(&mut self, group: GroupId) {
        self.tail_mut(group);
        self.push(&Record::Mended(group));
    }

    /// The group goes on in another WAL, where its state is synced already.
    pub fn append_leave(&mut self, group: GroupId) {
        assert!(self.tails.remove(&group).is_some());
        self.push(&Record::Leave(group));
        // What is said of the group after this is about another stay, so it needs another frame.
        self.close_filling();
    }

    /// Keeps a small value under `key`; it is carried from segment to segment.
    pub fn append_note(&mut self, key: u64, value: &[u8]) {
        assert!(self.notes.contains_key(&key) || self.notes.len() < NOTES_MAX);
        self.push(&Record::Note(key, value));
    }

    /// The value of a note as of the last sealed frame.
    pub fn note(&self, key: u64) -> Option<&[u8]> {
        self.notes.get(&key).map(Vec::as_slice)
    }

    /// All notes as of the last sealed frame, by key.
    pub fn notes(&self) -> impl Iterator<Item = (u64, &[u8])> {
        self.notes.iter().map(|(key, value)| (*key, value.as_slice()))
    }

    /// A group as of the last sealed frame.
    pub fn group(&self, group: GroupId) -> Option<&GroupState> {
        self.groups.get(&group)
    }

    /// Bytes of records not sealed yet.
    pub fn pending_bytes(&self) -> usize {
        self.queue_bytes + self.filling.payload_size_bytes()
    }

    /// Whether `seal` has nothing to write: no record, and the run has begun its first segment.
    pub fn is_empty(&self) -> bool {
        self.current.is_some() && self.queue.is_empty() && self.filling.is_empty()
    }

    /// Whether no more proposals should be taken before something is written or released.
    pub fn is_full(&self) -> bool {
        PENDING_BYTES_MAX <= self.pending_bytes() || SEGMENTS_MAX <= self.kept_count()
    }

    /// Whether half of what may wait waits.
    pub fn is_half_full(&self) -> bool {
        PENDING_BYTES_MAX / 2 <= self.pending_bytes() || SEGMENTS_MAX / 2 <= self.kept_count()
    }

    /// The file to prepare: pre-written with zeros or recycled, its name durable. Asked for as
    /// soon as the segment before it is begun; `None` when it is ready, or too many are kept.
    pub fn wants_segment(&self) -> Option<SegmentFile> {
        let has_room = self.current.is_none() || self.kept_count() < SEGMENTS_MAX;
        (!self.next.is_ready && has_room).then_some(self.next.file)
    }

    /// The file that `wants_segment` named is there.
    pub fn segment_ready(&mut self, id: SegmentId) {
        assert!(id == self.next.file.id);
        assert!(!self.next.is_ready);
        self.next.is_ready = true;
    }

    /// The next write, if there is one and room for it. A frame that does not fit goes to the next
    /// segment, whose head is then a write of its own before it; while that segment is not ready
    /// there is nothing to write.
    pub fn seal(&mut self) -> Option<WalWrite> {
        if self.is_empty() {
            return None;
        }
        let size = match self.queue.front() {
            Some(frame) => frame.frame_size_bytes(),
            None => self.filling.frame_size_bytes(),
        };
        if !self.has_room(size) {
            let is_begun = |current: &Current| {
                current.file.size_bytes == self.sizes.other_bytes
                    && current.offset_bytes == current.head_end.offset_bytes()
            };
            assert!(!self.current.as_ref().is_some_and(is_begun), "a frame fits into a segment");
            return self.next.is_ready.then(|| self.seal_head());
        }
        let mut frame = match self.queue.pop_front() {
            Some(frame) => {
                self.queue_bytes -= frame.payload_size_bytes();
                frame
            }
            None => self.take_filling(),
        };
        self.lines.clear();
        self.lines.extend(frame.groups.iter().map(|pending| pending.line));
        let write = self.seal_frame(&mut frame, 0);
        self.absorb(&mut frame, write.segment);
        if self.filling.groups.capacity() == 0 {
            self.filling.groups = frame.groups;
        }
        self.meaningful = write.end;
        Some(write)
    }

    /// Whether the last frame is synced and no later one says so yet: until one does, recovery
    /// takes damage in it for a torn tail.
    pub fn needs_cover(&self) -> bool {
        self.is_empty() && self.meaningful <= self.synced && self.claimed < self.meaningful
    }

    /// An empty frame that says what is synced; `None` where the segment is full and the next one
    /// not ready.
    pub fn seal_empty(&mut self) -> Option<WalWrite> {
        assert!(self.is_empty());
        let mut frame = PendingFrame::new(self.take_buffer());
        if !self.has_room(frame.frame_size_bytes()) {
            self.recycle(frame.buffer);
            return self.next.is_ready.then(|| self.seal_head());
        }
        self.lines.clear();
        Some(self.seal_frame(&mut frame, 0))
    }

    /// Everything up to `end` is durable.
    pub fn synced(&mut self, end: WalPosition) {
        assert!(self.synced <= end);
        assert!(end <= self.sealed);
        self.synced = end;
    }

    /// Position known durable.
    pub fn synced_position(&self) -> WalPosition {
        self.synced
    }

    /// End of what was sealed.
    pub fn sealed_position(&self) -> WalPosition {
        self.sealed
    }

    /// Takes a written buffer back.
    pub fn recycle(&mut self, mut buffer: WalBuffer) {
        buffer.clear();
        if self.spare.len() < SPARE_BUFFERS_MAX && buffer.capacity_bytes() <= SPARE_BUFFER_BYTES_MAX
        {
            self.spare.push(buffer);
        }
    }

    /// The oldest segment, if nothing in it is needed any more: the caller may recycle it. To be
    /// called until it says `None`.
    pub fn release(&mut self) -> Option<SegmentFile> {
        let current = self.current?;
        while let Some(oldest) = self.segments.front()
            && oldest.id < current.file.id
            && !self.groups.values().any(|state| state.holds(oldest.id))
        {
            // What made it dispensable is in frames up to here: it goes when they are durable.
            self.leaving.push_back((*oldest, self.sealed));
            self.segments.pop_front();
        }
        let (_, dispensable_from) = self.leaving.front()?;
        if self.synced < *dispensable_from {
            return None;
        }
        self.leaving.pop_front().map(|(file, _)| file)
    }

    /// Bytes of all segments kept.
    pub fn retained_bytes(&self) -> u64 {
        let leaving = self.leaving.iter().map(|(file, _)| file);
        self.segments.iter().chain(leaving).map(|file| file.size_bytes).sum()
    }

    /// What keeps the oldest segment from being released: groups and index ranges, to be written
    /// again by `rewrite_entry`, or given up by `append_checkpoint`.
    pub fn held_by_oldest(&self) -> impl Iterator<Item = (GroupId, u64, u64)> {
        let oldest = self.segments.front().map(|file| file.id);
        self.groups.iter().flat_map(move |(group, state)| {
            oldest
                .into_iter()
                .flat_map(move |id| state.held(id).map(move |(first, last)| (*group, first, last)))
        })
    }

    fn kept_count(&self) -> usize {
        self.segments.len() + self.leaving.len()
    }

    fn tail_mut(&mut self, group: GroupId) -> &mut EntryId {
        assert!(self.tails.len() < GROUPS_MAX || self.tails.contains_key(&group));
        self.tails.entry(group).or_default()
    }

    fn push(&mut self, record: &Record<'_>) {
        let size = record.size_bytes();
        assert!(self.pending_bytes() + size <= PENDING_BYTES_CEILING);
        let filled = self.filling.payload_size_bytes();
        if 0 < filled && FRAME_PAYLOAD_BYTES_TARGET < filled + size {
            self.close_filling();
        }
        if self.filling.buffer.capacity_bytes() == 0 {
            self.filling.buffer = self.take_buffer();
        }
        self.filling.push(record);
    }

    fn close_filling(&mut self) {
        let frame = self.take_filling();
        self.queue_bytes += frame.payload_size_bytes();
        self.queue.push_back(frame);
    }

    fn take_filling(&mut self) -> PendingFrame {
        std::mem::take(&mut self.filling)
    }

    fn take_buffer(&mut self) -> WalBuffer {
        self.spare.pop().unwrap_or_default()
    }

    fn has_room(&self, size: usize) -> bool {
        match self.current {
            Some(current) => current.offset_bytes + size as u64 <= current.file.size_bytes,
            None => false,
        }
    }

    /// Begins the next segment with the whole state of each group, and the notes.
    fn seal_head(&mut self) -> WalWrite {
        assert!(self.next.is_ready);
        let file = self.next.file;
        let head_end = WalPosition::new(file.id, 0);
        self.current = Some(Current { file, offset_bytes: 0, head_end });
        self.segments.push_back(file);
        let after = SegmentFile { id: file.id.next(), size_bytes: self.sizes.other_bytes };
        self.next = Next { file: after, is_ready: false };
        let mut frame = PendingFrame::new(self.take_buffer());
        for (key, value) in &self.notes {
            frame.push(&Record::Note(*key, value));
        }
        self.lines.clear();
        self.lines.extend(self.groups.iter().map(|(group, state)| state.head_line(*group)));
        let write = self.seal_frame(&mut frame, FLAG_SEGMENT_HEAD);
        let current = self.current.as_mut().expect("set above");
        current.head_end = write.end;
        self.meaningful = write.end;
        write
    }

    /// Seals `frame` with the directory in `lines` at the current position.
    fn seal_frame(&mut self, frame: &mut PendingFrame, flags: u16) -> WalWrite {
        let current = self.current.as_mut().expect("a segment is begun before frames go to it");
        let position = WalPosition::new(current.file.id, current.offset_bytes);
        assert!(self.sealed <= position);
        let binding = FrameBinding {
            log_id: self.log_id,
            run: self.run,
            position,
            previous_checksum: self.chain,
            previous_end: self.sealed,
            synced: self.synced,
            flags,
        };
        self.chain = frame.seal(&binding, &self.lines);
        let buffer = std::mem::take(&mut frame.buffer);
        let end =
            WalPosition::new(current.file.id, current.offset_bytes + buffer.size_bytes() as u64);
        assert!(end.offset_bytes() <= current.file.size_bytes);
        current.offset_bytes = end.offset_bytes();
        self.sealed = end;
        self.claimed = self.synced;
        WalWrite { segment: position.segment(), offset_bytes: position.offset_bytes(), buffer, end }
    }

    /// What a sealed frame says becomes the state that the next head repeats.
    fn absorb(&mut self, frame: &mut PendingFrame, segment: SegmentId) {
        for pending in frame.groups.drain(..) {
            let group = pending.line.group;
            if pending.line.is_gone {
                self.groups.remove(&group);
            } else {
                let state = self.groups.entry(group).or_default();
                state.absorb(&pending.line, &pending.rewritten, segment);
            }
        }
        for (key, value) in frame.notes.drain(..) {
            self.notes.insert(key, value);
        }
    }
}
