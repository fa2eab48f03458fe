//! Frames of a WAL as they lie in its files, for tests that damage them.
//! Source: docs/format/wal.md.

#![allow(clippy::unwrap_used, reason = "all of it is for tests")]

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::Member;

/// A frame in a segment's file.
#[derive(Clone, Copy, Debug)]
pub struct Frame {
    /// Where it begins.
    pub offset: u64,
    /// Bytes of all of it.
    pub size: u64,
    /// Where its payload begins in it.
    pub payload_offset: u64,
    /// Bytes of its payload.
    pub payload_size: u64,
}

/// Inverts one byte.
///
/// # Panics
/// When there is none.
pub fn flip(path: &Path, offset: u64) {
    let file = std::fs::File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[!byte[0]], offset).unwrap();
}

/// The segment with the last frame of the log, and its frames.
///
/// # Panics
/// When there is none.
pub fn newest_segment(member: &Member) -> (PathBuf, Vec<Frame>) {
    let folder = member.data_directory().join("wal-0");
    let mut names: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    let found = names.into_iter().rev().find_map(|path| {
        let frames = frames_of(&path);
        (!frames.is_empty()).then_some((path, frames))
    });
    found.expect("a WAL has frames")
}

/// The frames of a segment, in order: each begins where the one before ended.
///
/// # Panics
/// When the file cannot be read.
pub fn frames_of(path: &Path) -> Vec<Frame> {
    let stem = path.file_stem().unwrap().to_string_lossy();
    let Ok(segment) = u64::from_str_radix(&stem, 16) else { return Vec::new() };
    let bytes = std::fs::read(path).unwrap();
    let mut frames = Vec::new();
    let mut offset = 0;
    while let Some(header) = bytes.get(offset..offset + 96) {
        let long = |at: usize| u64::from_le_bytes(header[at..at + 8].try_into().unwrap());
        let short =
            |at: usize| u64::from(u32::from_le_bytes(header[at..at + 4].try_into().unwrap()));
        let position = segment << 32 | offset as u64;
        if &header[8..12] != b"WALF" || long(32) != position {
            break;
        }
        let (size, payload_offset, payload_size) = (short(80), short(84), short(88));
        frames.push(Frame { offset: offset as u64, size, payload_offset, payload_size });
        offset += usize::try_from(size).unwrap();
    }
    frames
}

/// Waits for the empty frame that covers the last acknowledged one.
///
/// # Panics
/// When none comes in time.
pub fn wait_until_quiet(member: &Member) {
    let deadline = Instant::now() + PATIENCE;
    while newest_segment(member).1.last().unwrap().payload_size != 0 {
        assert!(Instant::now() < deadline, "a quiet log gets an empty frame");
        std::thread::yield_now();
    }
}

/// For the empty frame, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);
