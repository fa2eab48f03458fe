//! A simulated disk for the WAL, and a world that writes to it: raft-like histories of a few
//! groups, crashes at any moment, recycled segments full of valid old frames.
//!
//! Truth: for each sealed frame, the state of the log behind it. A recovery is right if it finds
//! exactly the state behind one of the frames, and none older than the last synced one.

use engine::wal::position::{GroupId, LogId, RunNumber, SegmentId, WalPosition};
use engine::wal::record::{EntryId, EntryRecord, HardState, Install};
use engine::wal::recovered::Recovered;
use engine::wal::recovery::recover;
use engine::wal::source::{ReadFailed, SegmentSource};
use engine::wal::writer::{SegmentFile, SegmentSizes, Start, WalWrite, Writer};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

pub const SECTOR_SIZE_BYTES: usize = 512;
pub const BLOCK_SIZE_BYTES: usize = 4096;
pub const SIZES: SegmentSizes = SegmentSizes { first_bytes: 32 << 10, other_bytes: 64 << 10 };

/// splitmix64.
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// Files, and what was written to them since they were synced.
#[derive(Clone, Default)]
pub struct Device {
    pub files: BTreeMap<SegmentId, Vec<u8>>,
    pub pending: VecDeque<(SegmentId, usize, Vec<u8>)>,
    /// Blocks that cannot be read.
    pub bad: BTreeSet<(SegmentId, u64)>,
    written: BTreeSet<(SegmentId, u64)>,
}

impl Device {
    /// Files as a process sees them after a crash that was not the power's.
    pub fn cached(&self) -> Device {
        let mut device = self.clone();
        while device.sync_one() {}
        device
    }

    pub fn create(&mut self, file: SegmentFile, mut bytes: Vec<u8>) {
        bytes.resize(file.size_bytes as usize, 0);
        assert!(self.files.insert(file.id, bytes).is_none());
    }

    /// Asserts that no block of a segment is ever written twice.
    pub fn write(&mut self, write: &WalWrite) {
        let bytes = write.buffer.as_bytes();
        assert_eq!(bytes.as_ptr().align_offset(BLOCK_SIZE_BYTES), 0);
        assert!(!bytes.is_empty() && bytes.len().is_multiple_of(BLOCK_SIZE_BYTES));
        assert!(write.offset_bytes.is_multiple_of(BLOCK_SIZE_BYTES as u64));
        for block in 0..(bytes.len() / BLOCK_SIZE_BYTES) as u64 {
            let at = write.offset_bytes + block * BLOCK_SIZE_BYTES as u64;
            assert!(self.written.insert((write.segment, at)), "a block is written again");
        }
        self.pending.push_back((write.segment, write.offset_bytes as usize, bytes.to_vec()));
    }

    /// Makes the oldest write durable.
    pub fn sync_one(&mut self) -> bool {
        let Some((segment, offset, bytes)) = self.pending.pop_front() else { return false };
        let file = self.files.get_mut(&segment).unwrap();
        file[offset..offset + bytes.len()].copy_from_slice(&bytes);
        true
    }

    /// The power fails: of what is pending, any sectors survive.
    pub fn cut_power(&mut self, random: &mut Random) {
        let policy = random.below(5);
        let total: usize = self.pending.iter().map(|(_, _, bytes)| bytes.len()).sum();
        let sectors = (total / SECTOR_SIZE_BYTES) as u64;
        let prefix = random.below(sectors + 1);
        let lost_one = random.below(sectors + 1);
        let mut sector = 0;
        for (segment, offset, bytes) in std::mem::take(&mut self.pending) {
            let file = self.files.get_mut(&segment).unwrap();
            for (slot, part) in bytes.chunks(SECTOR_SIZE_BYTES).enumerate() {
                let survives = match policy {
                    0 => false,
                    1 => sector < prefix,
                    2 => random.one_in(2),
                    3 => sector != lost_one,
                    _ => random.one_in(8) || prefix < sector,
                };
                sector += 1;
                if survives {
                    let at = offset + slot * SECTOR_SIZE_BYTES;
                    file[at..at + part.len()].copy_from_slice(part);
                }
            }
        }
    }
}

impl SegmentSource for Device {
    fn segments(&self) -> Vec<SegmentFile> {
        let file = |(id, bytes): (&SegmentId, &Vec<u8>)| SegmentFile {
            id: *id,
            size_bytes: bytes.len() as u64,
        };
        self.files.iter().map(file).rev().collect()
    }

    fn read(
        &self,
        segment: SegmentId,
        offset_bytes: u64,
        bytes: &mut [u8],
    ) -> Result<(), ReadFailed> {
        let start = offset_bytes as usize;
        let end = start + bytes.len();
        let is_bad = |(file, at): &(SegmentId, u64)| {
            *file == segment && offset_bytes <= *at && (*at as usize) < end
        };
        if self.bad.iter().any(is_bad) {
            return Err(ReadFailed);
        }
        bytes.copy_from_slice(&self.files[&segment][start..end]);
        Ok(())
    }
}

/// What one group's log should be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModelGroup {
    pub hard_state: HardState,
    pub checkpoint: EntryId,
    pub install: Option<Install>,
    pub last: EntryId,
    pub entries: BTreeMap<u64, (u64, Vec<u8>)>,
}

/// What the log should be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Model {
    pub groups: BTreeMap<GroupId, ModelGroup>,
    pub notes: BTreeMap<u64, Vec<u8>>,
}

impl Model {
    /// What recovery found, in the model's words; it must not speak of damage.
    pub fn of(recovered: &Recovered) -> Model {
        let mut model = Model { notes: recovered.notes.clone(), ..Model::default() };
        for (id, group) in &recovered.groups {
            assert_eq!(group.missing, [], "group {}", id.0);
            assert!(!group.state.is_damaged, "group {}", id.0);
            let entry = |entry: &engine::wal::recovered::RecoveredEntry| {
                (entry.index, (entry.term, entry.data.to_vec()))
            };
            let group = ModelGroup {
                hard_state: group.state.hard_state,
                checkpoint: group.state.checkpoint,
                install: group.state.install,
                last: group.state.last,
                entries: group.entries.iter().map(entry).collect(),
            };
            model.groups.insert(*id, group);
        }
        model
    }
}

/// A sealed frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FramePlace {
    pub segment: SegmentId,
    pub offset: usize,
    pub size: usize,
}

/// A writer, its device, and the truth.
pub struct World {
    pub random: Random,
    pub device: Device,
    pub writer: Writer,
    pub model: Model,
    /// The state behind each frame since the last recovery.
    pub states: Vec<(WalPosition, Model)>,
    /// Every frame of the chain, released ones too.
    pub frames: Vec<FramePlace>,
    inflight: VecDeque<WalPosition>,
    pool: Vec<Vec<u8>>,
    pub recoveries: u64,
    pub recycled: u64,
}

pub const LOG_ID: LogId = LogId(0x5eed);

impl World {
    pub fn new(seed: u64) -> World {
        let start = Start { sizes: SIZES, ..Start::fresh(LOG_ID, RunNumber(1)) };
        let mut world = World {
            random: Random(seed),
            device: Device::default(),
            writer: Writer::new(start),
            model: Model::default(),
            states: Vec::new(),
            frames: Vec::new(),
            inflight: VecDeque::new(),
            pool: Vec::new(),
            recoveries: 0,
            recycled: 0,
        };
        // A WAL comes into being with its first frame.
        world.prepare_segments();
        world.seal_all();
        world.sync_all();
        world
    }

    pub fn prepare_segments(&mut self) {
        while let Some(file) = self.writer.wants_segment() {
            let fits = |bytes: &Vec<u8>| bytes.len() as u64 == file.size_bytes;
            let old = self.pool.iter().position(fits).map(|slot| self.pool.swap_remove(slot));
            self.recycled += u64::from(old.is_some());
            self.device.create(file, old.unwrap_or_default());
            self.writer.segment_ready(file.id);
        }
    }

    /// Submits what is pending; the state behind the last frame is the model's.
    pub fn seal_all(&mut self) {
        self.prepare_segments();
        while let Some(write) = self.writer.seal() {
            self.prepare_segments();
            let is_last = self.writer.is_empty();
            self.submit(write);
            let state = match self.states.last() {
                Some((_, state)) if !is_last => state.clone(),
                _ => self.model.clone(),
            };
            self.states.push((self.writer.sealed_position(), state));
        }
        assert!(self.writer.is_empty());
    }

    pub fn seal_cover(&mut self) {
        if self.writer.needs_cover() {
            self.prepare_segments();
            let write = self.writer.seal_empty().unwrap();
            self.submit(write);
            self.states.push((self.writer.sealed_position(), self.model.clone()));
        }
    }

    fn submit(&mut self, write: WalWrite) {
        self.device.write(&write);
        self.frames.push(FramePlace {
            segment: write.segment,
            offset: write.offset_bytes as usize,
            size: write.buffer.size_bytes(),
        });
        self.inflight.push_back(write.end);
        self.writer.recycle(write.buffer);
    }

    pub fn sync_one(&mut self) {
        if self.device.sync_one() {
            let end = self.inflight.pop_front().unwrap();
            self.writer.synced(end);
        }
        while let Some(file) = self.writer.release() {
            self.pool.push(self.device.files.remove(&file.id).unwrap());
        }
    }

    pub fn sync_all(&mut self) {
        while !self.device.pending.is_empty() {
            self.sync_one();
        }
    }

    /// Recovers from the device as it is, checks what is found, and starts the next run.
    pub fn recover_and_check(&mut self) -> Recovered {
        let synced = self.writer.synced_position();
        let recovered = recover(&self.device).unwrap();
        assert_eq!(recovered.gaps, [], "a torn tail is no damage");
        assert!(synced <= recovered.end, "synced up to {synced}, recovered {}", recovered.end);
        let found = self.states.iter().rev().find(|(end, _)| *end == recovered.end);
        let (_, state) = found.expect("recovery ends behind a frame that was written");
        assert_eq!(Model::of(&recovered), *state);
        self.model = state.clone();
        self.recoveries += 1;
        recovered
    }

    pub fn restart(&mut self, recovered: &Recovered) {
        let run = RunNumber(self.writer.run().0 + 1);
        let is_kept = |frame: &FramePlace| {
            let end = WalPosition::new(frame.segment, (frame.offset + frame.size) as u64);
            end <= recovered.end
        };
        self.frames.retain(is_kept);
        self.inflight.clear();
        self.writer = Writer::new(Start { sizes: SIZES, ..recovered.start(run) });
        self.states = vec![(recovered.end, self.model.clone())];
    }

    /// A batch of records that one step could bring, small enough for one frame.
    pub fn step(&mut self) {
        if self.random.one_in(2) {
            self.rewrite_oldest();
        }
        for _ in 0..1 + self.random.below(4) {
            let group = GroupId(1 + self.random.below(3));
            match self.random.below(12) {
                0..=5 => self.append(group),
                6 => self.conflict(group),
                7 => self.vote(group),
                8 | 9 => self.checkpoint(group),
                10 if self.random.one_in(6) => self.install(group),
                10 => self.installed(group),
                _ => self.note(),
            }
        }
        if self.random.one_in(40) {
            self.leave();
        }
    }

    fn data(&mut self) -> Vec<u8> {
        let size = if self.random.one_in(20) { 6000 } else { 300 };
        let size = self.random.below(size) as usize;
        let word = self.random.next().to_le_bytes();
        word.iter().copied().cycle().take(size).collect()
    }

    fn append_one(&mut self, group: GroupId, index: u64, term: u64) {
        let data = self.data();
        let entry = EntryRecord { group, index, term, kind: 1, data: &data };
        self.writer.append_entry(entry);
        let model = self.model.groups.entry(group).or_default();
        model.entries.split_off(&index);
        model.entries.insert(index, (term, data));
        model.last = EntryId { index, term };
    }

    pub fn append(&mut self, group: GroupId) {
        for _ in 0..1 + self.random.below(3) {
            let last = self.model.groups.entry(group).or_default().last;
            self.append_one(group, last.index + 1, last.term.max(1));
        }
    }

    pub fn conflict(&mut self, group: GroupId) {
        let Some(model) = self.model.groups.get(&group) else { return };
        let lowest = model.hard_state.commit.max(model.checkpoint.index) + 1;
        let last = model.last;
        if lowest <= last.index {
            let index = lowest + self.random.below(last.index - lowest + 1);
            self.append_one(group, index, last.term + 1);
        }
    }

    pub fn vote(&mut self, group: GroupId) {
        let model = self.model.groups.entry(group).or_default();
        let open = model.last.index.saturating_sub(model.hard_state.commit);
        model.hard_state = HardState {
            term: model.hard_state.term.max(model.last.term) + self.random.below(2),
            vote: self.random.below(4),
            commit: model.hard_state.commit + self.random.below(open + 1),
        };
        self.writer.append_hard_state(group, model.hard_state);
    }

    pub fn checkpoint(&mut self, group: GroupId) {
        let Some(model) = self.model.groups.get_mut(&group) else { return };
        let commit = model.hard_state.commit;
        let Some((index, (term, _))) = model.entries.range(..=commit).next_back() else { return };
        let last = EntryId { index: *index, term: *term };
        model.entries = model.entries.split_off(&(index + 1));
        model.checkpoint = last;
        self.writer.append_checkpoint(group, last);
    }

    fn install(&mut self, group: GroupId) {
        let model = self.model.groups.entry(group).or_default();
        let last =
            EntryId { index: model.last.index + 1 + self.random.below(9), term: model.last.term };
        let install = Install { last, checksum: self.random.next() };
        let hard_state = HardState { commit: last.index, ..model.hard_state };
        *model = ModelGroup {
            hard_state,
            checkpoint: last,
            install: Some(install),
            last,
            entries: BTreeMap::new(),
        };
        self.writer.append_install(group, install);
        self.writer.append_hard_state(group, hard_state);
    }

    fn installed(&mut self, group: GroupId) {
        let Some(model) = self.model.groups.get_mut(&group) else { return };
        if model.install.take().is_some() {
            self.writer.append_installed(group);
        }
    }

    pub fn note(&mut self) {
        let key = self.random.below(5);
        let value = self.random.next().to_le_bytes().to_vec();
        self.writer.append_note(key, &value);
        self.model.notes.insert(key, value);
    }

    /// Ends the frame, so nothing may follow in the batch.
    fn leave(&mut self) {
        let group = GroupId(1 + self.random.below(3));
        if self.model.groups.remove(&group).is_some() {
            self.writer.append_leave(group);
        }
    }

    /// WAL rule 6: what holds the oldest segment back is written again. Only at a batch's start.
    pub fn rewrite_oldest(&mut self) {
        if self.writer.retained_bytes() < 4 * SIZES.other_bytes {
            return;
        }
        let held: Vec<(GroupId, u64, u64)> = self.writer.held_by_oldest().collect();
        for (group, first, last) in held {
            for index in first..=last {
                let (term, data) = &self.model.groups[&group].entries[&index];
                let entry = EntryRecord { group, index, term: *term, kind: 1, data };
                self.writer.rewrite_entry(entry);
            }
        }
    }
}
