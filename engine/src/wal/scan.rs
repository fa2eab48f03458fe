//! Finding frames in segment files: by their first block, or by the copy of the header in their
//! last one.
//!
//! Invariants: what is returned as a header was written at the place where it was found, by this
//! log; whether it belongs to the chain is for the caller to decide. A block that the device cannot
//! read counts as zeros, so it is damage and not an error.

use super::frame::{DirectoryLine, FLAG_SEGMENT_HEAD, FrameHeader, HEADER_SIZE_BYTES, NoFrame};
use super::limits::*;
use super::position::{LogId, SEGMENT_ID_RECOVERED_MAX, SegmentId, WalPosition};
use super::recovered::RecoverError;
use super::source::SegmentSource;
use super::writer::SegmentFile;
use bytes::Bytes;
use zerocopy::FromBytes;

/// A frame of the chain, as much of it as can be read.
pub(crate) struct Frame {
    pub header: FrameHeader,
    /// Verified bytes of the directory, from either end; `None` if both are lost.
    directory: Option<Bytes>,
    /// Verified payload; `None` if it is lost.
    pub payload: Option<Bytes>,
}

impl Frame {
    /// The lines of the directory, unless both copies are lost.
    pub(crate) fn lines(&self) -> Option<&[DirectoryLine]> {
        let bytes = self.directory.as_ref()?;
        Some(<[DirectoryLine]>::ref_from_bytes(bytes).expect("verified by check_directory"))
    }

    /// Whether nothing of its meaning is lost.
    pub(crate) fn is_whole(&self) -> bool {
        let needs_directory = self.header.has_flag(FLAG_SEGMENT_HEAD);
        self.payload.is_some() && (self.directory.is_some() || !needs_directory)
    }

    /// Where the next frame begins, in this segment.
    pub(crate) fn end(&self) -> WalPosition {
        frame_end(&self.header)
    }
}

fn frame_end(header: &FrameHeader) -> WalPosition {
    let position = header.position();
    WalPosition::new(position.segment(), position.offset_bytes() + header.size_bytes() as u64)
}

/// Reads the segments of one log.
pub(crate) struct Scanner<'a, S> {
    source: &'a S,
    pub files: Vec<SegmentFile>,
    pub log_id: LogId,
    window: Option<Window>,
}

struct Window {
    segment: SegmentId,
    offset_bytes: u64,
    bytes: Bytes,
}

impl<'a, S: SegmentSource> Scanner<'a, S> {
    /// Checks the list of files and finds the heads of the segments, oldest first.
    pub(crate) fn open(source: &'a S) -> Result<(Self, Vec<FrameHeader>), RecoverError> {
        let files = check_files(source.segments())?;
        let mut scanner = Scanner { source, files, log_id: LogId::default(), window: None };
        let mut heads: Vec<FrameHeader> = Vec::new();
        for slot in 0..scanner.files.len() {
            let Some(head) = scanner.head(scanner.files[slot])? else { continue };
            if let Some(first) = heads.first()
                && first.log_id() != head.log_id()
            {
                return Err(RecoverError::MixedLogs(first.log_id(), head.log_id()));
            }
            heads.push(head);
        }
        match heads.first() {
            Some(first) => scanner.log_id = first.log_id(),
            None => return Err(RecoverError::NoFrames),
        }
        Ok((scanner, heads))
    }

    /// The file of a segment.
    pub(crate) fn file(&self, segment: SegmentId) -> Option<SegmentFile> {
        let slot = self.files.binary_search_by_key(&segment, |file| file.id).ok()?;
        Some(self.files[slot])
    }

    /// The header of the segment's first frame, from either end of it.
    fn head(&mut self, file: SegmentFile) -> Result<Option<FrameHeader>, RecoverError> {
        let is_head = |header: &FrameHeader| {
            header.has_flag(FLAG_SEGMENT_HEAD) && header.position() == WalPosition::new(file.id, 0)
        };
        let block = self.read(file, 0, BLOCK_SIZE_BYTES);
        match FrameHeader::check(&block) {
            Ok(header) if is_head(&header) => return Ok(Some(header)),
            Err(NoFrame::OtherVersion { version, position })
                if position == WalPosition::new(file.id, 0) =>
            {
                return Err(RecoverError::OtherVersion(version));
            }
            _ => {}
        }
        let reach = file.size_bytes.min(HEAD_SIZE_BYTES_MAX);
        let mut end = BLOCK_SIZE_BYTES as u64;
        while end <= reach {
            let block = self.read(file, end - BLOCK_SIZE_BYTES as u64, BLOCK_SIZE_BYTES);
            if let Some(header) = check_tail(&block, file, end)
                && is_head(&header)
            {
                return Ok(Some(header));
            }
            end += BLOCK_SIZE_BYTES as u64;
        }
        Ok(None)
    }

    /// The header in the block at `position`, if one was written there.
    pub(crate) fn header_at(&mut self, position: WalPosition) -> Option<FrameHeader> {
        let file = self.file(position.segment())?;
        let offset = position.offset_bytes();
        if file.size_bytes <= offset {
            return None;
        }
        let block = self.read(file, offset, BLOCK_SIZE_BYTES);
        let header = check_at(&block, file, offset)?;
        (header.log_id() == self.log_id).then_some(header)
    }

    /// Everything that can be read of the frame with this header.
    pub(crate) fn frame(&mut self, header: FrameHeader) -> Frame {
        let position = header.position();
        let file = self.file(position.segment()).expect("a header is found in a file");
        let bytes = self.read(file, position.offset_bytes(), header.size_bytes());
        let size = header.directory_size_bytes();
        let tail = bytes.len() - HEADER_SIZE_BYTES - size;
        let directory = [HEADER_SIZE_BYTES, tail]
            .into_iter()
            .map(|start| bytes.slice(start..start + size))
            .find(|copy| header.check_directory(copy).is_some());
        let payload = header.check_payload(&bytes).map(|range| bytes.slice(range));
        Frame { header, directory, payload }
    }

    /// Headers of all frames at `from` and behind it, in the order of their positions: those cut
    /// off by a later run too.
    pub(crate) fn survey(&mut self, from: WalPosition) -> Vec<FrameHeader> {
        let mut found = Vec::new();
        for slot in 0..self.files.len() {
            let file = self.files[slot];
            if file.id < from.segment() {
                continue;
            }
            let start = if file.id == from.segment() { from.offset_bytes() } else { 0 };
            let mut offset = start;
            while offset < file.size_bytes {
                let block = self.read(file, offset, BLOCK_SIZE_BYTES);
                let end = offset + BLOCK_SIZE_BYTES as u64;
                let ends = [check_at(&block, file, offset), check_tail(&block, file, end)];
                let log_id = self.log_id;
                let is_ours =
                    |header: &FrameHeader| header.log_id() == log_id && from <= header.position();
                found.extend(ends.into_iter().flatten().filter(is_ours));
                offset = end;
            }
        }
        found.sort_by_key(FrameHeader::position);
        found.dedup_by_key(|header| header.position());
        found
    }

    /// `size` bytes at `offset`, zeros where the device fails or the file ends.
    fn read(&mut self, file: SegmentFile, offset: u64, size: usize) -> Bytes {
        if let Some(window) = &self.window
            && window.segment == file.id
            && window.offset_bytes <= offset
            && offset + size as u64 <= window.offset_bytes + window.bytes.len() as u64
        {
            let start = (offset - window.offset_bytes) as usize;
            return window.bytes.slice(start..start + size);
        }
        let rest = file.size_bytes.saturating_sub(offset);
        let wanted = rest.min(WINDOW_SIZE_BYTES as u64) as usize;
        let mut bytes = vec![0; wanted.max(size)];
        let readable = bytes.len().min(rest as usize);
        self.fill(file, offset, &mut bytes[..readable]);
        let bytes = Bytes::from(bytes);
        let result = bytes.slice(..size);
        self.window = Some(Window { segment: file.id, offset_bytes: offset, bytes });
        result
    }

    fn fill(&self, file: SegmentFile, offset: u64, bytes: &mut [u8]) {
        if self.source.read(file.id, offset, bytes).is_ok() {
            return;
        }
        for (slot, block) in bytes.chunks_mut(BLOCK_SIZE_BYTES).enumerate() {
            let at = offset + (slot * BLOCK_SIZE_BYTES) as u64;
            if self.source.read(file.id, at, block).is_err() {
                block.fill(0);
            }
        }
    }
}

/// A header in a frame's first block that was written at this place.
fn check_at(block: &[u8], file: SegmentFile, offset: u64) -> Option<FrameHeader> {
    let header = FrameHeader::check(block).ok()?;
    let is_here = header.position() == WalPosition::new(file.id, offset);
    (is_here && offset + header.size_bytes() as u64 <= file.size_bytes).then_some(header)
}

/// The copy at the end of a frame's last block, written at this place.
fn check_tail(block: &[u8], file: SegmentFile, end: u64) -> Option<FrameHeader> {
    let header = FrameHeader::check(&block[block.len() - HEADER_SIZE_BYTES..]).ok()?;
    let position = header.position();
    let is_here = position.segment() == file.id
        && position.offset_bytes().is_multiple_of(BLOCK_SIZE_BYTES as u64)
        && position.offset_bytes() + header.size_bytes() as u64 == end;
    is_here.then_some(header)
}

fn check_files(mut files: Vec<SegmentFile>) -> Result<Vec<SegmentFile>, RecoverError> {
    if SEGMENT_FILES_MAX < files.len() {
        return Err(RecoverError::TooManySegments(files.len()));
    }
    files.sort_by_key(|file| file.id);
    let mut previous = SegmentId(0);
    for file in &files {
        if file.id <= previous || SEGMENT_ID_RECOVERED_MAX < file.id.0 {
            return Err(RecoverError::BadSegmentId(file.id));
        }
        if file.size_bytes == 0
            || SEGMENT_SIZE_BYTES_MAX < file.size_bytes
            || !file.size_bytes.is_multiple_of(BLOCK_SIZE_BYTES as u64)
        {
            return Err(RecoverError::BadSegmentSize(*file));
        }
        previous = file.id;
    }
    Ok(files)
}
