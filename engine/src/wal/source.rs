//! Where recovery reads segments from: files in the server, memory in tests.

use super::position::SegmentId;
use super::writer::SegmentFile;
use std::fmt;

/// Reading access to the segment files of one WAL.
pub trait SegmentSource {
    /// Every file, in any order; the number is the file's name.
    fn segments(&self) -> Vec<SegmentFile>;

    /// Fills `bytes` from `offset_bytes` of the segment. Both are multiples of the block size, and
    /// the range lies within the file's size. A range that the device cannot read is an error;
    /// recovery treats it as damage and goes on.
    fn read(
        &self,
        segment: SegmentId,
        offset_bytes: u64,
        bytes: &mut [u8],
    ) -> Result<(), ReadFailed>;
}

/// The device cannot read a range of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadFailed;

impl fmt::Display for ReadFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a range of a WAL segment cannot be read")
    }
}
