//! Puts the received stream together to frames, however it was cut.
//!
//! Invariants: only one unfinished frame is held, of a size that its header, checked, says; a frame
//! that came whole is not copied here.

use super::error::PeerError;
use super::frame::CheckedHeader;
use super::limits::FRAME_HEADER_SIZE_BYTES;

/// A whole frame whose header was checked; the body's checksum was not.
#[derive(Debug)]
pub(super) enum Assembled<'a> {
    /// It lies in the received bytes.
    Whole(CheckedHeader, &'a [u8]),
    /// It came in pieces. The buffer may be given back.
    Pieced(CheckedHeader, Vec<u8>),
}

/// See the file's head.
#[derive(Debug, Default)]
pub(super) struct Assembly {
    /// The beginning of a frame.
    partial: Vec<u8>,
    frames_count: u64,
}

impl Assembly {
    /// The next frame, or `None` when all of `bytes` is used up. `bytes` goes on behind the frame.
    pub(super) fn next_frame<'a>(
        &mut self,
        bytes: &mut &'a [u8],
        size_bytes_max: usize,
    ) -> Result<Option<Assembled<'a>>, PeerError> {
        if !self.partial.is_empty() {
            return self.next_pieced(bytes, size_bytes_max);
        }
        let Some(header) = CheckedHeader::check(bytes, self.frames_count, size_bytes_max)? else {
            self.fill_to(FRAME_HEADER_SIZE_BYTES, bytes);
            return Ok(None);
        };
        let Some((frame, rest)) = bytes.split_at_checked(header.size_bytes) else {
            self.fill_to(header.size_bytes, bytes);
            return Ok(None);
        };
        *bytes = rest;
        self.frames_count += 1;
        Ok(Some(Assembled::Whole(header, frame)))
    }

    /// Lends the memory of a frame's buffer to the next one that comes in pieces.
    pub(super) fn give_back(&mut self, mut buffer: Vec<u8>) {
        assert!(self.partial.is_empty());
        buffer.clear();
        self.partial = buffer;
    }

    /// Bytes of an unfinished frame.
    pub(super) fn pending_size_bytes(&self) -> usize {
        self.partial.len()
    }

    fn next_pieced<'a>(
        &mut self,
        bytes: &mut &'a [u8],
        size_bytes_max: usize,
    ) -> Result<Option<Assembled<'a>>, PeerError> {
        self.fill_to(FRAME_HEADER_SIZE_BYTES, bytes);
        let checked = CheckedHeader::check(&self.partial, self.frames_count, size_bytes_max)?;
        let Some(header) = checked else {
            return Ok(None);
        };
        self.fill_to(header.size_bytes, bytes);
        if self.partial.len() < header.size_bytes {
            return Ok(None);
        }
        assert!(self.partial.len() == header.size_bytes);
        self.frames_count += 1;
        Ok(Some(Assembled::Pieced(header, std::mem::take(&mut self.partial))))
    }

    /// Moves bytes over until `size_bytes` of the frame are there.
    fn fill_to(&mut self, size_bytes: usize, bytes: &mut &[u8]) {
        let missing = size_bytes.saturating_sub(self.partial.len());
        let (taken, rest) = bytes.split_at(missing.min(bytes.len()));
        if taken.is_empty() {
            return;
        }
        self.partial.reserve_exact(missing);
        self.partial.extend_from_slice(taken);
        *bytes = rest;
    }
}
