//! Frames: their header, types, flags, error codes, and the writing of the fixed ones.
//!
//! Invariant: a frame is written whole, in one call, so that the output is always a sequence of
//! whole frames.
//! Source: RFC 9113 sections 4.1, 6 and 7.

use super::StreamId;

/// What a client sends first (RFC 9113 section 3.4).
pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Size of a frame's header.
pub const HEADER_SIZE_BYTES: usize = 9;

/// Frame types (RFC 9113 section 6).
pub mod kind {
    #![allow(missing_docs)]
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const PRIORITY: u8 = 2;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PUSH_PROMISE: u8 = 5;
    pub const PING: u8 = 6;
    pub const GOAWAY: u8 = 7;
    pub const WINDOW_UPDATE: u8 = 8;
    pub const CONTINUATION: u8 = 9;
}

/// Frame flags; ACK and END_STREAM share a bit.
pub mod flag {
    #![allow(missing_docs)]
    pub const ACK: u8 = 1;
    pub const END_STREAM: u8 = 1;
    pub const END_HEADERS: u8 = 4;
    pub const PADDED: u8 = 8;
    pub const PRIORITY: u8 = 32;
}

/// Identifiers of settings (RFC 9113 section 6.5.2).
pub mod setting {
    #![allow(missing_docs)]
    pub const HEADER_TABLE_SIZE: u16 = 1;
    pub const ENABLE_PUSH: u16 = 2;
    pub const MAX_CONCURRENT_STREAMS: u16 = 3;
    pub const INITIAL_WINDOW_SIZE: u16 = 4;
    pub const MAX_FRAME_SIZE: u16 = 5;
    pub const MAX_HEADER_LIST_SIZE: u16 = 6;
}

/// Error codes (RFC 9113 section 7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
#[allow(missing_docs)]
pub enum ErrorCode {
    NoError = 0,
    Protocol = 1,
    Internal = 2,
    FlowControl = 3,
    StreamClosed = 5,
    FrameSize = 6,
    RefusedStream = 7,
    Compression = 9,
    EnhanceYourCalm = 11,
}

/// Why a connection ends, with the text of its GOAWAY.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionError {
    /// The code the peer is told.
    pub code: ErrorCode,
    /// Debug data of the GOAWAY frame.
    pub text: &'static str,
}

impl ConnectionError {
    /// An error with a text for the peer's log.
    pub fn new(code: ErrorCode, text: &'static str) -> ConnectionError {
        ConnectionError { code, text }
    }
}

/// A frame's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// Bytes that follow the header.
    pub size_bytes: usize,
    /// One of [`kind`], or unknown.
    pub kind: u8,
    /// Bits of [`flag`].
    pub flags: u8,
    /// 0 is the connection.
    pub stream: StreamId,
}

impl FrameHeader {
    /// Reads a header; every nine bytes are one.
    pub fn decode(bytes: &[u8; HEADER_SIZE_BYTES]) -> FrameHeader {
        let [a, b, c, kind, flags, d, e, f, g] = *bytes;
        FrameHeader {
            size_bytes: u32::from_be_bytes([0, a, b, c]) as usize,
            kind,
            flags,
            stream: StreamId(u32::from_be_bytes([d, e, f, g]) & 0x7fff_ffff),
        }
    }

    /// The bytes of the header.
    pub fn encode(&self) -> [u8; HEADER_SIZE_BYTES] {
        assert!(self.size_bytes < 1 << 24);
        let [_, a, b, c] = (self.size_bytes as u32).to_be_bytes();
        let [d, e, f, g] = self.stream.0.to_be_bytes();
        [a, b, c, self.kind, self.flags, d, e, f, g]
    }

    /// Whether a flag is set.
    pub fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// Writes a frame.
pub fn write(kind: u8, flags: u8, stream: StreamId, payload: &[u8], out: &mut Vec<u8>) {
    let header = FrameHeader { size_bytes: payload.len(), kind, flags, stream };
    out.extend_from_slice(&header.encode());
    out.extend_from_slice(payload);
}

/// Writes RST_STREAM.
pub fn write_reset(stream: StreamId, code: ErrorCode, out: &mut Vec<u8>) {
    assert!(stream.0 != 0);
    write(kind::RST_STREAM, 0, stream, &(code as u32).to_be_bytes(), out);
}

/// Writes WINDOW_UPDATE.
pub fn write_window_update(stream: StreamId, increment_bytes: i64, out: &mut Vec<u8>) {
    let increment = u32::try_from(increment_bytes).expect("windows are below 2^31");
    assert!(0 < increment && increment <= 0x7fff_ffff);
    write(kind::WINDOW_UPDATE, 0, stream, &increment.to_be_bytes(), out);
}

/// Writes GOAWAY.
pub fn write_goaway(last: StreamId, error: ConnectionError, out: &mut Vec<u8>) {
    let size_bytes = 8 + error.text.len();
    let header = FrameHeader { size_bytes, kind: kind::GOAWAY, flags: 0, stream: StreamId(0) };
    out.extend_from_slice(&header.encode());
    out.extend_from_slice(&last.0.to_be_bytes());
    out.extend_from_slice(&(error.code as u32).to_be_bytes());
    out.extend_from_slice(error.text.as_bytes());
}

/// Writes SETTINGS.
pub fn write_settings(settings: &[(u16, u32)], out: &mut Vec<u8>) {
    let size_bytes = settings.len() * 6;
    let header = FrameHeader { size_bytes, kind: kind::SETTINGS, flags: 0, stream: StreamId(0) };
    out.extend_from_slice(&header.encode());
    for (identifier, value) in settings {
        out.extend_from_slice(&identifier.to_be_bytes());
        out.extend_from_slice(&value.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_round_trip() {
        let header =
            FrameHeader { size_bytes: 0x01_0203, kind: 7, flags: 0x29, stream: StreamId(0x0405) };
        assert_eq!(header.encode(), [1, 2, 3, 7, 0x29, 0, 0, 4, 5]);
        assert_eq!(FrameHeader::decode(&header.encode()), header);
        assert!(header.has(flag::PRIORITY) && !header.has(flag::END_HEADERS));
    }

    #[test]
    fn the_reserved_bit_is_ignored() {
        let header = FrameHeader::decode(&[0, 0, 0, 0, 0, 0x80, 0, 0, 1]);
        assert_eq!(header.stream, StreamId(1));
    }
}
