//! Puts the groups together from records, segment heads, and what is left of damaged frames.
//!
//! Invariants: entries are sorted by index and lie behind the checkpoint; an entry that a lost
//! frame may have displaced is not handed on. By Raft only entries above the commit index can have
//! been, so that is how much an unreadable frame costs.

use super::frame::{DirectoryLine, FLAG_NOTES, FLAG_SEGMENT_HEAD, GroupDirectory};
use super::group::Span;
use super::limits::{GROUPS_MAX, NOTES_MAX};
use super::position::{GroupId, RunNumber, SegmentId, WalPosition};
use super::record::{EntryId, EntryRecord, Install, Record, check_record};
use super::recovered::{RecoverError, RecoveredEntry, RecoveredGroup};
use super::scan::Frame;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};

/// The log's meaning as of the frames seen so far.
#[derive(Default)]
pub(crate) struct Assembly {
    pub groups: BTreeMap<GroupId, RecoveredGroup>,
    pub notes: BTreeMap<u64, Vec<u8>>,
    pub has_lost_notes: bool,
    /// Whole frames, and the records in them.
    pub frames: u64,
    pub records: u64,
    /// Entries that a checkpoint made dispensable are kept.
    keeps_history: bool,
    /// Something unknown is lost since the last head: a group seen first now may be an old one.
    is_list_lost: bool,
}

impl Assembly {
    /// One that keeps what a checkpoint made dispensable.
    pub(crate) fn with_history() -> Assembly {
        Assembly { keeps_history: true, ..Assembly::default() }
    }

    /// A frame of which nothing is lost.
    pub(crate) fn on_frame(&mut self, frame: &Frame) -> Result<(), RecoverError> {
        let position = frame.header.position();
        self.frames += 1;
        if frame.header.has_flag(FLAG_SEGMENT_HEAD) {
            let lines = frame.lines().expect("a head is whole only with its directory");
            self.on_head(lines, frame.header.run())?;
            // Its payload repeats every note: whatever was lost before it said nothing newer.
            self.has_lost_notes = false;
        }
        let payload = frame.payload.as_ref().expect("the frame is whole");
        let mut offset = 0;
        while offset < payload.len() {
            let (record, size) = match check_record(&payload[offset..]) {
                Ok(found) => found,
                Err(malformed) => return Err(RecoverError::Malformed(position, malformed)),
            };
            self.on_record(record, payload, position.segment(), frame.header.run())?;
            offset += size;
            self.records += 1;
        }
        Ok(())
    }

    /// A frame whose payload is lost but whose directory tells what it said.
    pub(crate) fn on_lost_payload(&mut self, frame: &Frame) -> Result<(), RecoverError> {
        let run = frame.header.run();
        let lines = frame.lines().expect("the caller looked");
        self.has_lost_notes |= frame.header.has_flag(FLAG_NOTES);
        if frame.header.has_flag(FLAG_SEGMENT_HEAD) {
            return self.on_head(lines, run);
        }
        for line in lines {
            let line = line.directory();
            if line.is_gone {
                self.groups.remove(&line.group);
                continue;
            }
            let group = self.group(line.group, run)?;
            if let Some(install) = line.install {
                group.on_install(install);
            }
            if line.is_installed {
                group.state.install = None;
            }
            if let Some((first, last)) = line.entries {
                group.truncate(first.index);
                group.state.last = last;
                group.is_last_lost = false;
            }
            if line.is_mended {
                group.on_mended();
            }
            group.on_states(&line);
        }
        Ok(())
    }

    /// Frames of which nothing is left: any of them may have said anything of any group.
    pub(crate) fn on_unknown_loss(&mut self) {
        self.has_lost_notes = true;
        self.is_list_lost = true;
        for group in self.groups.values_mut() {
            group.is_hard_state_lost = true;
            group.is_last_lost = true;
            let certain = group.state.hard_state.commit.max(group.state.checkpoint.index);
            group.truncate(certain.saturating_add(1));
        }
    }

    /// The whole state of every group; who is not named has left.
    fn on_head(&mut self, lines: &[DirectoryLine], run: RunNumber) -> Result<(), RecoverError> {
        let lines: Vec<GroupDirectory> = lines.iter().map(DirectoryLine::directory).collect();
        let named: BTreeSet<GroupId> = lines.iter().map(|line| line.group).collect();
        self.groups.retain(|id, _| named.contains(id));
        self.is_list_lost = false;
        for line in &lines {
            let group = self.group(line.group, run)?;
            match line.install {
                Some(install) if group.state.install != Some(install) => group.on_install(install),
                Some(_) => {}
                None => group.state.install = None,
            }
            let last = line.entries.map(|(_, last)| last);
            let last = last.or(line.checkpoint).unwrap_or_default();
            group.truncate(last.index.saturating_add(1));
            group.state.last = last;
            group.on_states(line);
            group.on_mended();
            group.state.is_damaged = line.is_damaged;
        }
        Ok(())
    }

    fn on_record(
        &mut self,
        record: Record<'_>,
        payload: &Bytes,
        segment: SegmentId,
        run: RunNumber,
    ) -> Result<(), RecoverError> {
        match record {
            Record::Append(entry) => {
                let group = self.group(entry.group, run)?;
                group.on_append(recovered(entry, payload), segment);
            }
            Record::Rewrite(entry) => {
                let group = self.group(entry.group, run)?;
                group.on_rewrite(recovered(entry, payload), segment);
            }
            Record::HardState(group, hard_state) => {
                let group = self.group(group, run)?;
                group.state.hard_state = hard_state;
                group.is_hard_state_lost = false;
            }
            Record::Checkpoint(group, last) => self.group(group, run)?.on_checkpoint(last),
            Record::Install(group, install) => self.group(group, run)?.on_install(install),
            Record::Installed(group) => self.group(group, run)?.state.install = None,
            Record::Mended(group) => self.group(group, run)?.on_mended(),
            Record::Leave(group) => {
                self.groups.remove(&group);
            }
            Record::Note(key, value) => {
                if NOTES_MAX <= self.notes.len() && !self.notes.contains_key(&key) {
                    return Err(RecoverError::TooManyNotes);
                }
                self.notes.insert(key, value.to_vec());
            }
        }
        Ok(())
    }

    fn group(&mut self, id: GroupId, run: RunNumber) -> Result<&mut RecoveredGroup, RecoverError> {
        if GROUPS_MAX <= self.groups.len() && !self.groups.contains_key(&id) {
            return Err(RecoverError::TooManyGroups);
        }
        let (is_lost, keeps_history) = (self.is_list_lost, self.keeps_history);
        let group = self.groups.entry(id).or_insert_with(|| RecoveredGroup {
            keeps_history,
            is_hard_state_lost: is_lost,
            is_last_lost: is_lost,
            ..RecoveredGroup::default()
        });
        group.run = run;
        Ok(group)
    }
}

fn recovered(entry: EntryRecord<'_>, payload: &Bytes) -> RecoveredEntry {
    let data = payload.slice_ref(entry.data);
    RecoveredEntry { index: entry.index, term: entry.term, kind: entry.kind, data }
}

impl RecoveredGroup {
    fn on_append(&mut self, entry: RecoveredEntry, segment: SegmentId) {
        if entry.index <= self.state.checkpoint.index {
            // No log goes back behind its checkpoint: the group left and came again, and the frame
            // that said so is lost.
            let RecoveredGroup { run, keeps_history, .. } = *self;
            let is_hard_state_lost = true;
            *self = RecoveredGroup { run, keeps_history, is_hard_state_lost, ..Default::default() };
        }
        self.truncate(entry.index);
        self.is_last_lost = false;
        self.state.last = EntryId { index: entry.index, term: entry.term };
        self.state.place(Span { first: entry.index, last: entry.index, segment });
        self.entries.push_back(entry);
    }

    fn on_rewrite(&mut self, entry: RecoveredEntry, segment: SegmentId) {
        if entry.index <= self.state.checkpoint.index {
            return;
        }
        if self.state.last.index < entry.index {
            self.state.last = EntryId { index: entry.index, term: entry.term };
        }
        self.state.place(Span { first: entry.index, last: entry.index, segment });
        match self.entries.binary_search_by_key(&entry.index, |old| old.index) {
            Ok(slot) => self.entries[slot] = entry,
            Err(slot) => self.entries.insert(slot, entry),
        }
    }

    fn on_checkpoint(&mut self, last: EntryId) {
        if last.index <= self.state.checkpoint.index {
            return;
        }
        self.state.checkpoint = last;
        if self.state.last.index < last.index {
            self.state.last = last;
        }
        let is_kept = self.keeps_history;
        while !is_kept && self.entries.front().is_some_and(|entry| entry.index <= last.index) {
            self.entries.pop_front();
        }
        self.state.spans.retain(|span| last.index < span.last);
    }

    fn on_install(&mut self, install: Install) {
        self.entries.clear();
        self.state.spans.clear();
        self.state.install = Some(install);
        self.state.checkpoint = install.last;
        self.state.last = install.last;
        self.is_last_lost = false;
    }

    /// Whoever wrote this knew the hard state and the end of the log.
    fn on_mended(&mut self) {
        self.is_hard_state_lost = false;
        self.is_last_lost = false;
        self.state.is_damaged = false;
    }

    /// Hard state and checkpoint of a directory line.
    fn on_states(&mut self, line: &GroupDirectory) {
        if let Some(hard_state) = line.hard_state {
            self.state.hard_state = hard_state;
            self.is_hard_state_lost = false;
        }
        if let Some(checkpoint) = line.checkpoint {
            self.on_checkpoint(checkpoint);
        }
    }

    /// Drops the entries at `first` and behind it.
    fn truncate(&mut self, first: u64) {
        while self.entries.back().is_some_and(|entry| first <= entry.index) {
            self.entries.pop_back();
        }
        self.state.truncate(first);
    }

    /// Draws the conclusions at the chain's end: what is missing, and whether the group may vote.
    pub(crate) fn conclude(&mut self) {
        self.state.is_damaged |= self.is_hard_state_lost || self.is_last_lost;
        self.state.last = self.state.last.max(self.state.checkpoint);
        let checkpoint = self.state.checkpoint.index;
        let mut next = checkpoint.saturating_add(1);
        for entry in self.entries.iter().filter(|entry| checkpoint < entry.index) {
            if next < entry.index {
                self.missing.push((next, entry.index - 1));
            }
            next = entry.index + 1;
        }
        if next <= self.state.last.index {
            self.missing.push((next, self.state.last.index));
        }
    }
}

/// How far a chain was followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ChainEnd {
    pub position: WalPosition,
    pub chain: u64,
    pub run: RunNumber,
}
