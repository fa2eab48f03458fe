//! The bytes of WAL format 1: what was written once stays readable, and nobody changes the layout
//! unawares. The file holds every row of 16 bytes that is not zero.
//! Source: docs/format/wal.md.
#![allow(clippy::unwrap_used, reason = "a test's support code may panic")]

use engine::wal::position::{GroupId, LogId, RunNumber, SegmentId};
use engine::wal::record::{EntryId, EntryRecord, HardState, Install};
use engine::wal::recovery::recover;
use engine::wal::source::{ReadFailed, SegmentSource};
use engine::wal::writer::{SegmentFile, SegmentSizes, Start, Writer};
use std::fmt::Write;

const GOLDEN: &str = include_str!("../testdata/wal-1.hex");
const SIZE_BYTES: usize = 16 << 10;

struct Segment(Vec<u8>);

impl SegmentSource for Segment {
    fn segments(&self) -> Vec<SegmentFile> {
        vec![SegmentFile { id: SegmentId(1), size_bytes: self.0.len() as u64 }]
    }

    fn read(&self, _: SegmentId, offset: u64, bytes: &mut [u8]) -> Result<(), ReadFailed> {
        let start = offset as usize;
        bytes.copy_from_slice(&self.0[start..start + bytes.len()]);
        Ok(())
    }
}

fn written() -> Vec<u8> {
    let mut file = vec![0; SIZE_BYTES];
    let size = SIZE_BYTES as u64;
    let sizes = SegmentSizes { first_bytes: size, other_bytes: size };
    let start = Start::fresh(LogId(0x0123_4567_89ab_cdef), RunNumber(1));
    let mut writer = Writer::new(Start { sizes, ..start });
    writer.segment_ready(SegmentId(1));
    let group = GroupId(1);
    for round in 0..4 {
        match round {
            1 => {
                let entry = EntryRecord { group, index: 1, term: 2, kind: 3, data: b"first entry" };
                writer.append_entry(entry);
                writer.append_entry(EntryRecord { index: 2, data: b"", ..entry });
                let hard_state = HardState { term: 2, vote: 5, commit: 1 };
                writer.append_hard_state(group, hard_state);
                writer.append_note(7, b"note");
            }
            2 => {
                let entry = EntryRecord { group, index: 2, term: 3, kind: 0, data: b"second" };
                writer.append_entry(entry);
                writer.rewrite_entry(EntryRecord { index: 2, ..entry });
                writer.append_checkpoint(group, EntryId { index: 1, term: 2 });
                let last = EntryId { index: 40, term: 3 };
                writer.append_install(GroupId(2), Install { last, checksum: 99 });
                writer.append_installed(GroupId(2));
                writer.append_mended(GroupId(2));
            }
            3 => {
                writer.append_hard_state(GroupId(3), HardState::default());
                writer.append_leave(GroupId(3));
            }
            _ => {}
        }
        let write = writer.seal().unwrap();
        let bytes = write.buffer.as_bytes();
        file[write.offset_bytes as usize..][..bytes.len()].copy_from_slice(bytes);
        writer.synced(write.end);
    }
    file
}

fn dump(file: &[u8]) -> String {
    let mut text = String::new();
    for (slot, row) in file.chunks(16).enumerate() {
        if row.iter().any(|byte| *byte != 0) {
            write!(text, "{:04x}:", slot * 16).unwrap();
            for byte in row {
                write!(text, " {byte:02x}").unwrap();
            }
            text.push('\n');
        }
    }
    text
}

fn parse(text: &str) -> Vec<u8> {
    let mut file = vec![0; SIZE_BYTES];
    for line in text.lines() {
        let (offset, row) = line.split_once(": ").unwrap();
        let offset = usize::from_str_radix(offset, 16).unwrap();
        for (slot, byte) in row.split(' ').enumerate() {
            file[offset + slot] = u8::from_str_radix(byte, 16).unwrap();
        }
    }
    file
}

#[test]
fn the_writer_lays_out_version_1() {
    let found = dump(&written());
    assert!(found == GOLDEN, "the layout changed; what is written now:\n{found}");
}

#[test]
fn version_1_is_read() {
    let recovered = recover(&Segment(parse(GOLDEN))).unwrap();
    assert_eq!(recovered.gaps, []);
    assert_eq!(recovered.end.offset_bytes(), SIZE_BYTES as u64);
    assert_eq!(recovered.notes[&7], b"note");
    assert_eq!(recovered.groups.len(), 2);
    let one = &recovered.groups[&GroupId(1)];
    assert_eq!(one.state.hard_state, HardState { term: 2, vote: 5, commit: 1 });
    assert_eq!(one.state.checkpoint, EntryId { index: 1, term: 2 });
    assert_eq!(one.entries.len(), 1);
    assert_eq!((one.entries[0].index, &one.entries[0].data[..]), (2, &b"second"[..]));
    let two = &recovered.groups[&GroupId(2)];
    assert_eq!(two.last(), EntryId { index: 40, term: 3 });
    assert_eq!(two.state.install, None);
}
