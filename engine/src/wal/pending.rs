//! A frame being filled: records laid out behind room for the header, and the directory to be.
//!
//! Invariants: lines are sorted by group; the payload starts at its usual place until sealing finds
//! that the directory needs more room.

use super::buffer::WalBuffer;
use super::frame::{FLAG_NOTES, FrameBinding, GroupDirectory, PAYLOAD_OFFSET_BYTES};
use super::frame::{frame_size_bytes, payload_offset_bytes, seal_frame};
use super::position::GroupId;
use super::record::{EntryId, Record};

/// What a pending frame says of one group.
#[derive(Debug, Default)]
pub(crate) struct PendingGroup {
    pub line: GroupDirectory,
    /// Index ranges of entries written again, in the order of writing.
    pub rewritten: Vec<(u64, u64)>,
}

/// A frame that is not sealed yet.
#[derive(Debug, Default)]
pub(crate) struct PendingFrame {
    pub buffer: WalBuffer,
    pub groups: Vec<PendingGroup>,
    pub notes: Vec<(u64, Vec<u8>)>,
}

impl PendingFrame {
    pub(crate) fn new(mut buffer: WalBuffer) -> PendingFrame {
        buffer.clear();
        buffer.resize(PAYLOAD_OFFSET_BYTES);
        PendingFrame { buffer, groups: Vec::new(), notes: Vec::new() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.payload_size_bytes() == 0
    }

    pub(crate) fn payload_size_bytes(&self) -> usize {
        self.buffer.size_bytes().saturating_sub(PAYLOAD_OFFSET_BYTES)
    }

    /// Size of the frame if it were sealed now.
    pub(crate) fn frame_size_bytes(&self) -> usize {
        frame_size_bytes(self.groups.len(), self.payload_size_bytes())
    }

    /// Adds a record.
    pub(crate) fn push(&mut self, record: &Record<'_>) {
        if self.buffer.size_bytes() < PAYLOAD_OFFSET_BYTES {
            self.buffer.resize(PAYLOAD_OFFSET_BYTES);
        }
        record.encode(&mut self.buffer);
        match *record {
            Record::Append(entry) => {
                let id = EntryId { index: entry.index, term: entry.term };
                let group = self.group(entry.group);
                group.line.entries = match group.line.entries {
                    Some((first, _)) if first.index < id.index => Some((first, id)),
                    _ => Some((id, id)),
                };
                cut_rewritten(&mut group.rewritten, id.index);
            }
            Record::Rewrite(entry) => {
                let group = self.group(entry.group);
                group.line.has_rewrites = true;
                match group.rewritten.last_mut() {
                    Some((_, last)) if *last + 1 == entry.index => *last = entry.index,
                    _ => group.rewritten.push((entry.index, entry.index)),
                }
            }
            Record::HardState(group, hard_state) => {
                self.group(group).line.hard_state = Some(hard_state);
            }
            Record::Checkpoint(group, last) => {
                let line = &mut self.group(group).line;
                line.checkpoint = line.checkpoint.max(Some(last));
            }
            Record::Install(group, install) => {
                let pending = self.group(group);
                pending.rewritten.clear();
                let GroupDirectory { hard_state, is_mended, .. } = pending.line;
                pending.line = GroupDirectory {
                    hard_state,
                    is_mended,
                    install: Some(install),
                    ..GroupDirectory::new(group)
                };
            }
            Record::Installed(group) => self.group(group).line.is_installed = true,
            Record::Mended(group) => self.group(group).line.is_mended = true,
            Record::Leave(group) => self.group(group).line.is_gone = true,
            Record::Note(key, value) => self.notes.push((key, value.to_vec())),
        }
    }

    fn group(&mut self, group: GroupId) -> &mut PendingGroup {
        let slot = match self.groups.binary_search_by_key(&group, |pending| pending.line.group) {
            Ok(slot) => slot,
            Err(slot) => {
                let line = GroupDirectory::new(group);
                self.groups.insert(slot, PendingGroup { line, rewritten: Vec::new() });
                slot
            }
        };
        &mut self.groups[slot]
    }

    /// Makes the buffer the frame that `binding` describes, with `directory` at both ends; returns
    /// the chain value.
    pub(crate) fn seal(&mut self, binding: &FrameBinding, directory: &[GroupDirectory]) -> u64 {
        let payload_size = self.payload_size_bytes();
        self.buffer.resize(PAYLOAD_OFFSET_BYTES + payload_size);
        let offset = payload_offset_bytes(directory.len());
        self.buffer.resize(frame_size_bytes(directory.len(), payload_size));
        let frame = self.buffer.as_mut_bytes();
        if PAYLOAD_OFFSET_BYTES < offset {
            frame.copy_within(PAYLOAD_OFFSET_BYTES..PAYLOAD_OFFSET_BYTES + payload_size, offset);
        }
        let flags = binding.flags | if self.notes.is_empty() { 0 } else { FLAG_NOTES };
        seal_frame(frame, &FrameBinding { flags, ..*binding }, directory, payload_size)
    }
}

/// What an append displaces need not be found again.
fn cut_rewritten(rewritten: &mut Vec<(u64, u64)>, index: u64) {
    for range in rewritten.iter_mut() {
        range.1 = range.1.min(index - 1);
    }
    rewritten.retain(|(first, last)| first <= last);
}
