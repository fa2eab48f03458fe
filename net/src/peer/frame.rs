//! The frame: the unit of integrity between members. A header with a checksum of its own, so that
//! its size can be trusted before the body is there, and the body's checksum in it.
//!
//! Invariants: each side numbers its frames from 0, so that one that was cut out of the stream is
//! missed at once; a frame is taken whole or not at all. The header is the same in every version.
//! Source: docs/format/peer.md.

use super::error::PeerError;
use super::limits::FRAME_HEADER_SIZE_BYTES;
use xxhash_rust::xxh3::xxh3_64;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct FrameHeader {
    /// xxh3 of the header's bytes after this field.
    header_checksum: U64,
    /// xxh3 of the body.
    body_checksum: U64,
    /// Number of the frame among those of its sender on the connection.
    number: U64,
    /// Size of the whole frame.
    size_bytes: U32,
    /// Messages in the body; 0 in a handshake.
    count: U16,
    kind: u8,
    reserved: u8,
}

const _: () = assert!(size_of::<FrameHeader>() == FRAME_HEADER_SIZE_BYTES);

/// What a frame's body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FrameKind {
    Hello,
    Refusal,
    Messages { count: u16 },
}

/// A header whose checksum holds and whose size is in bounds.
#[derive(Clone, Copy, Debug)]
pub(super) struct CheckedHeader {
    pub(super) kind: FrameKind,
    pub(super) size_bytes: usize,
    body_checksum: u64,
}

impl CheckedHeader {
    /// The header at the start of `bytes`, or `None` if it is not all there yet.
    pub(super) fn check(
        bytes: &[u8],
        number: u64,
        size_bytes_max: usize,
    ) -> Result<Option<CheckedHeader>, PeerError> {
        let Ok((header, _body)) = FrameHeader::ref_from_prefix(bytes) else {
            return Ok(None);
        };
        if header.header_checksum.get() != xxh3_64(&header.as_bytes()[CHECKSUM_SIZE_BYTES..]) {
            return Err(PeerError::HeaderChecksum);
        }
        if header.number.get() != number {
            return Err(PeerError::FrameNumber);
        }
        let size_bytes = header.size_bytes.get() as usize;
        if size_bytes < FRAME_HEADER_SIZE_BYTES || size_bytes_max < size_bytes {
            return Err(PeerError::FrameSize);
        }
        if header.reserved != 0 {
            return Err(PeerError::Reserved);
        }
        let kind = match (header.kind, header.count.get()) {
            (HELLO, 0) => FrameKind::Hello,
            (REFUSAL, 0) => FrameKind::Refusal,
            (HELLO | REFUSAL, _) | (MESSAGES, 0) => return Err(PeerError::Count),
            (MESSAGES, count) => FrameKind::Messages { count },
            _ => return Err(PeerError::Kind),
        };
        let body_checksum = header.body_checksum.get();
        Ok(Some(CheckedHeader { kind, size_bytes, body_checksum }))
    }

    /// The body of `frame`, which is the whole frame.
    pub(super) fn check_body<'a>(&self, frame: &'a [u8]) -> Result<&'a [u8], PeerError> {
        assert!(frame.len() == self.size_bytes);
        let body = &frame[FRAME_HEADER_SIZE_BYTES..];
        if xxh3_64(body) == self.body_checksum { Ok(body) } else { Err(PeerError::BodyChecksum) }
    }
}

/// Leaves room for a header; the body is written behind it.
pub(super) fn begin_frame(output: &mut Vec<u8>) {
    output.resize(output.len() + FRAME_HEADER_SIZE_BYTES, 0);
}

/// Fills in the header of `frame`, which is the whole frame.
pub(super) fn seal_frame(frame: &mut [u8], number: u64, kind: FrameKind) {
    assert!(FRAME_HEADER_SIZE_BYTES <= frame.len());
    let (kind, count) = match kind {
        FrameKind::Hello => (HELLO, 0),
        FrameKind::Refusal => (REFUSAL, 0),
        FrameKind::Messages { count } => (MESSAGES, count),
    };
    assert!((kind == MESSAGES) == (0 < count));
    let size = u32::try_from(frame.len()).expect("frames are bounded far below 4 GiB");
    let mut header = FrameHeader {
        header_checksum: U64::ZERO,
        body_checksum: U64::new(xxh3_64(&frame[FRAME_HEADER_SIZE_BYTES..])),
        number: U64::new(number),
        size_bytes: U32::new(size),
        count: U16::new(count),
        kind,
        reserved: 0,
    };
    header.header_checksum = U64::new(xxh3_64(&header.as_bytes()[CHECKSUM_SIZE_BYTES..]));
    frame[..FRAME_HEADER_SIZE_BYTES].copy_from_slice(header.as_bytes());
}

const HELLO: u8 = 1;
const REFUSAL: u8 = 2;
const MESSAGES: u8 = 3;
const CHECKSUM_SIZE_BYTES: usize = 8;
