//! The frame: the unit of integrity on the wire. A header with a checksum of its own, so that its
//! size can be trusted before the body is there, and the body's checksum in it.
//!
//! Invariants: a frame is never taken by halves; the checksum of an empty body is that of no
//! bytes. The header stays the same in every version of the protocol.
//! Source: docs/format/wire.md; xxh3 as in the write-ahead log.

use super::error::Malformed;
use super::limits::FRAME_HEADER_SIZE_BYTES;
use super::opcode::Opcode;
use xxhash_rust::xxh3::xxh3_64;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The first 32 bytes of every frame.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct FrameHeader {
    /// xxh3 of the header's bytes after this field.
    pub header_checksum: U64,
    /// xxh3 of the body.
    pub body_checksum: U64,
    /// Size of the whole frame, header included.
    pub size_bytes: U32,
    /// An [`Opcode`].
    pub opcode: u8,
    /// [`FLAG_MORE`] or 0.
    pub flags: u8,
    /// Zero.
    pub reserved: U16,
    /// The request that the frame belongs to; 0 is the connection itself.
    pub request_id: U64,
}

const _: () = assert!(size_of::<FrameHeader>() == FRAME_HEADER_SIZE_BYTES);

/// The message goes on in the next frame of the same opcode and request id.
pub const FLAG_MORE: u8 = 1;

/// A frame whose checksums hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// What it means.
    pub opcode: Opcode,
    /// Whether its message goes on in a later frame.
    pub more: bool,
    /// The request it belongs to.
    pub request_id: u64,
    /// Everything after the header.
    pub body: &'a [u8],
}

/// The first frame of `bytes` and its size, or `None` if it is not all there yet. A frame larger
/// than `size_bytes_max` is refused as soon as its header is there.
///
/// # Errors
/// [`Malformed`] if no continuation of `bytes` can be a frame.
pub fn check_frame(
    bytes: &[u8],
    size_bytes_max: usize,
) -> Result<Option<(Frame<'_>, usize)>, Malformed> {
    let Ok((header, rest)) = FrameHeader::ref_from_prefix(bytes) else {
        return Ok(None);
    };
    if header.header_checksum.get() != xxh3_64(&header.as_bytes()[CHECKSUM_SIZE_BYTES..]) {
        return Err(Malformed::HeaderChecksum);
    }
    let size = header.size_bytes.get() as usize;
    if size < FRAME_HEADER_SIZE_BYTES || size_bytes_max < size {
        return Err(Malformed::FrameSize);
    }
    if header.reserved.get() != 0 {
        return Err(Malformed::Reserved);
    }
    if header.flags & !FLAG_MORE != 0 {
        return Err(Malformed::Flags);
    }
    let opcode = Opcode::try_from(header.opcode)?;
    let Some(body) = rest.get(..size - FRAME_HEADER_SIZE_BYTES) else {
        return Ok(None);
    };
    if header.body_checksum.get() != xxh3_64(body) {
        return Err(Malformed::BodyChecksum);
    }
    let more = header.flags & FLAG_MORE != 0;
    Ok(Some((Frame { opcode, more, request_id: header.request_id.get(), body }, size)))
}

/// Leaves room for a header; the body is written behind it. The answer goes to [`end_frame`].
#[must_use]
pub(super) fn begin_frame(output: &mut Vec<u8>) -> usize {
    let start = output.len();
    output.resize(start + FRAME_HEADER_SIZE_BYTES, 0);
    start
}

/// Fills in the header at `start` for the body that follows it to the end of `output`.
pub(super) fn end_frame(output: &mut [u8], start: usize, opcode: Opcode, request_id: u64) {
    seal_frame(&mut output[start..], opcode, 0, request_id);
}

/// As [`end_frame`], but cuts a body larger than `chunk_size_bytes` into frames, all but the last
/// with [`FLAG_MORE`]. Cutting moves the bytes once; small messages are never moved.
pub(super) fn end_frames(
    output: &mut Vec<u8>,
    start: usize,
    opcode: Opcode,
    request_id: u64,
    chunk_size_bytes: usize,
) {
    assert!(FRAME_HEADER_SIZE_BYTES < chunk_size_bytes);
    let body_max = chunk_size_bytes - FRAME_HEADER_SIZE_BYTES;
    let body_start = start + FRAME_HEADER_SIZE_BYTES;
    assert!(body_start <= output.len());
    if output.len() - body_start <= body_max {
        return end_frame(output, start, opcode, request_id);
    }
    let tail = output.split_off(body_start + body_max);
    seal_frame(&mut output[start..], opcode, FLAG_MORE, request_id);
    let mut chunks = tail.chunks(body_max).peekable();
    while let Some(chunk) = chunks.next() {
        let chunk_start = begin_frame(output);
        output.extend_from_slice(chunk);
        let flags = if chunks.peek().is_some() { FLAG_MORE } else { 0 };
        seal_frame(&mut output[chunk_start..], opcode, flags, request_id);
    }
}

fn seal_frame(frame: &mut [u8], opcode: Opcode, flags: u8, request_id: u64) {
    assert!(FRAME_HEADER_SIZE_BYTES <= frame.len());
    let size = u32::try_from(frame.len()).expect("frames are bounded far below 4 GiB");
    let mut header = FrameHeader {
        header_checksum: U64::ZERO,
        body_checksum: U64::new(xxh3_64(&frame[FRAME_HEADER_SIZE_BYTES..])),
        size_bytes: U32::new(size),
        opcode: opcode as u8,
        flags,
        reserved: U16::ZERO,
        request_id: U64::new(request_id),
    };
    header.header_checksum = U64::new(xxh3_64(&header.as_bytes()[CHECKSUM_SIZE_BYTES..]));
    frame[..FRAME_HEADER_SIZE_BYTES].copy_from_slice(header.as_bytes());
}

const CHECKSUM_SIZE_BYTES: usize = 8;
