//! Where a frame lies: segments, positions of the endless stream, and who wrote it.
//!
//! Invariants: a segment id is used once in the life of a log, so a position is never reused;
//! positions grow in the order of writing.

use std::fmt;

/// Names one replicated log among those that share a WAL.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId(pub u64);

/// Random identity of one WAL, drawn when it is created and known to no client: it seeds every
/// checksum, so neither a segment of another log nor a crafted value passes for a frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct LogId(pub u64);

/// Counts the starts of the member, from 1; one higher at each start than in any of its WALs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct RunNumber(pub u64);

/// Number of a segment, from 1, never used again: a recycled file gets a new one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentId(pub u64);

impl SegmentId {
    /// The segment after this one.
    pub fn next(self) -> SegmentId {
        assert!(self.0 < SEGMENT_ID_MAX);
        SegmentId(self.0 + 1)
    }
}

/// A byte of the WAL's stream: the segment in the high half, the offset in it in the low half. So
/// it is unique for ever and ordered, though not dense.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct WalPosition(pub u64);

impl WalPosition {
    /// Before everything.
    pub const START: WalPosition = WalPosition(0);

    /// The byte at `offset_bytes` of `segment`.
    pub fn new(segment: SegmentId, offset_bytes: u64) -> WalPosition {
        assert!(segment.0 <= SEGMENT_ID_MAX);
        assert!(offset_bytes < 1 << OFFSET_BITS);
        WalPosition(segment.0 << OFFSET_BITS | offset_bytes)
    }

    /// The segment it lies in.
    pub fn segment(self) -> SegmentId {
        SegmentId(self.0 >> OFFSET_BITS)
    }

    /// The offset within its segment, in bytes.
    pub fn offset_bytes(self) -> u64 {
        self.0 & ((1 << OFFSET_BITS) - 1)
    }
}

impl fmt::Display for WalPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.segment().0, self.offset_bytes())
    }
}

/// Bits of a position that hold the offset: a segment is smaller than 4 GiB.
const OFFSET_BITS: u32 = 32;
/// Highest segment number that a position can name.
pub(crate) const SEGMENT_ID_MAX: u64 = (1 << (64 - OFFSET_BITS)) - 1;
/// Highest one that recovery accepts: what goes on from it has room for its whole life.
pub(crate) const SEGMENT_ID_RECOVERED_MAX: u64 = SEGMENT_ID_MAX / 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_its_segment_and_offset() {
        let position = WalPosition::new(SegmentId(7), 4096);
        assert_eq!(position.segment(), SegmentId(7));
        assert_eq!(position.offset_bytes(), 4096);
        assert!(WalPosition::new(SegmentId(6), (1 << 32) - 1) < position);
        assert_eq!(position.to_string(), "7:4096");
    }
}
