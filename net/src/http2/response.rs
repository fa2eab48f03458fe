//! Header blocks of answers.
//!
//! `content-type: application/grpc` and `grpc-status: 0` are put into the peer's table once; from
//! then on the headers of an answer are a block of two bytes and its trailers one of one byte.
//!
//! Invariant: `level` says which of the two are there, `grpc-status` newest. A peer that shrinks
//! its table gets a size update of 0 in the next block and nothing but literals from then on.
//! Source: RFC 7541 sections 4.2 and 6; gRPC over HTTP/2, "Responses".

use super::StreamId;
use super::frame::{self, flag, kind};
use super::hpack::encode;
use super::hpack::tables::{INDEX_CONTENT_LENGTH, INDEX_CONTENT_TYPE, INDEX_STATUS_200};
use crate::grpc::status;

/// What the peer's table holds of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    /// Nothing.
    Empty,
    /// The content type, at [`DYNAMIC_NEWEST`].
    ContentType,
    /// The status at [`DYNAMIC_NEWEST`], the content type behind it.
    Status,
    /// Nothing, and nothing may be put there.
    Forbidden,
}

/// Writes the header blocks of answers.
pub struct ResponseHeaders {
    level: Level,
    size_update_due: bool,
    block: Vec<u8>,
    text: Vec<u8>,
}

/// Index of the newest entry of a dynamic table.
const DYNAMIC_NEWEST: usize = 62;
const CONTENT_TYPE_GRPC: &[u8] = b"application/grpc";
const HEADERS_FLAGS: u8 = flag::END_HEADERS;
const TRAILERS_FLAGS: u8 = flag::END_HEADERS | flag::END_STREAM;

impl ResponseHeaders {
    pub fn new() -> ResponseHeaders {
        ResponseHeaders {
            level: Level::Empty,
            size_update_due: false,
            block: Vec::new(),
            text: Vec::new(),
        }
    }

    /// The peer allows less table than is the default.
    pub fn forbid_table(&mut self) {
        self.level = Level::Forbidden;
        self.size_update_due = true;
    }

    /// The headers of a gRPC answer whose messages follow.
    pub fn write_headers(&mut self, stream: StreamId, out: &mut Vec<u8>) {
        let content_type = match self.level {
            Level::ContentType => DYNAMIC_NEWEST,
            Level::Status => DYNAMIC_NEWEST + 1,
            Level::Empty | Level::Forbidden => {
                self.begin();
                encode::indexed(INDEX_STATUS_200, &mut self.block);
                if self.level == Level::Empty {
                    let block = &mut self.block;
                    encode::literal_indexed(INDEX_CONTENT_TYPE, CONTENT_TYPE_GRPC, block);
                    self.level = Level::ContentType;
                } else {
                    encode::literal(INDEX_CONTENT_TYPE, CONTENT_TYPE_GRPC, &mut self.block);
                }
                return frame::write(kind::HEADERS, HEADERS_FLAGS, stream, &self.block, out);
            }
        };
        let block = [0x80 | INDEX_STATUS_200 as u8, 0x80 | content_type as u8];
        frame::write(kind::HEADERS, HEADERS_FLAGS, stream, &block, out);
    }

    /// The trailers that end a gRPC answer.
    pub fn write_trailers(
        &mut self,
        stream: StreamId,
        status: u32,
        message: &str,
        out: &mut Vec<u8>,
    ) {
        if status == status::OK && message.is_empty() {
            if self.level == Level::Status {
                let block = [0x80 | DYNAMIC_NEWEST as u8];
                return frame::write(kind::HEADERS, TRAILERS_FLAGS, stream, &block, out);
            }
            if self.level == Level::ContentType {
                self.begin();
                encode::literal_indexed_new(b"grpc-status", b"0", &mut self.block);
                self.level = Level::Status;
                return frame::write(kind::HEADERS, TRAILERS_FLAGS, stream, &self.block, out);
            }
        }
        self.begin();
        self.push_status(status, message);
        frame::write(kind::HEADERS, TRAILERS_FLAGS, stream, &self.block, out);
    }

    /// An answer of nothing but a gRPC status; `http_status` is 200 but for refused requests.
    pub fn write_trailers_only(
        &mut self,
        stream: StreamId,
        http_status: u16,
        status: u32,
        message: &str,
        out: &mut Vec<u8>,
    ) {
        self.begin();
        self.push_http_status(http_status);
        encode::literal(INDEX_CONTENT_TYPE, CONTENT_TYPE_GRPC, &mut self.block);
        self.push_status(status, message);
        if status == status::UNIMPLEMENTED {
            encode::literal_new(b"grpc-accept-encoding", b"gzip", &mut self.block);
        }
        frame::write(kind::HEADERS, TRAILERS_FLAGS, stream, &self.block, out);
    }

    /// The headers of a plain answer whose body of `size_bytes` follows, unless `ends`.
    pub fn write_plain(
        &mut self,
        stream: StreamId,
        http_status: u16,
        content_type: &str,
        size_bytes: usize,
        ends: bool,
        out: &mut Vec<u8>,
    ) {
        self.begin();
        self.push_http_status(http_status);
        encode::literal(INDEX_CONTENT_TYPE, content_type.as_bytes(), &mut self.block);
        self.push_decimal(size_bytes as u64);
        encode::literal(INDEX_CONTENT_LENGTH, &self.text, &mut self.block);
        let flags = if ends { TRAILERS_FLAGS } else { HEADERS_FLAGS };
        frame::write(kind::HEADERS, flags, stream, &self.block, out);
    }

    fn begin(&mut self) {
        self.block.clear();
        if std::mem::take(&mut self.size_update_due) {
            encode::table_size(0, &mut self.block);
        }
    }

    fn push_http_status(&mut self, http_status: u16) {
        if http_status == 200 {
            return encode::indexed(INDEX_STATUS_200, &mut self.block);
        }
        self.push_decimal(u64::from(http_status));
        encode::literal(INDEX_STATUS_200, &self.text, &mut self.block);
    }

    fn push_status(&mut self, status: u32, message: &str) {
        self.push_decimal(u64::from(status));
        encode::literal_new(b"grpc-status", &self.text, &mut self.block);
        if !message.is_empty() {
            self.text.clear();
            status::encode_message(message, &mut self.text);
            encode::literal_new(b"grpc-message", &self.text, &mut self.block);
        }
    }

    /// `number` in decimal into `text`.
    fn push_decimal(&mut self, number: u64) {
        self.text.clear();
        let mut rest = number;
        loop {
            self.text.push(b'0' + (rest % 10) as u8);
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        self.text.reverse();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http2::hpack::Decoder;

    /// The fields of each block written, decoded by one table, and the blocks' sizes.
    fn blocks(decoder: &mut Decoder, mut frames: &[u8]) -> Vec<(usize, String)> {
        let mut blocks = Vec::new();
        while let Some(header) = frames.first_chunk() {
            let header = frame::FrameHeader::decode(header);
            let block = &frames[9..9 + header.size_bytes];
            let mut text = String::new();
            decoder
                .decode(block, |name, value, _| {
                    let [name, value] = [name, value].map(String::from_utf8_lossy);
                    text += &format!("{name}={value};");
                })
                .unwrap();
            blocks.push((block.len(), text));
            frames = &frames[9 + header.size_bytes..];
        }
        blocks
    }

    const HEADERS: &str = ":status=200;content-type=application/grpc;";
    const TRAILERS: &str = "grpc-status=0;";

    #[test]
    fn blocks_shrink_to_two_bytes_and_one() {
        let mut headers = ResponseHeaders::new();
        let mut out = Vec::new();
        for stream in [1, 3, 5] {
            headers.write_headers(StreamId(stream), &mut out);
            headers.write_trailers(StreamId(stream), 0, "", &mut out);
        }
        let blocks = blocks(&mut Decoder::new(4096, 1), &out);
        let texts: Vec<&str> = blocks.iter().map(|(_, text)| text.as_str()).collect();
        assert_eq!(texts, [HEADERS, TRAILERS, HEADERS, TRAILERS, HEADERS, TRAILERS]);
        let sizes: Vec<usize> = blocks.iter().map(|(size, _)| *size).collect();
        assert_eq!(sizes[2..], [2, 1, 2, 1]);
    }

    #[test]
    fn a_shrunken_table_is_acknowledged_and_left_alone() {
        let mut headers = ResponseHeaders::new();
        let mut out = Vec::new();
        headers.write_headers(StreamId(1), &mut out);
        headers.forbid_table();
        headers.write_trailers(StreamId(1), 0, "", &mut out);
        headers.write_headers(StreamId(3), &mut out);
        headers.write_trailers(StreamId(3), 5, "gone", &mut out);
        assert_eq!(out[9 + 19 + 9], 0x20, "a size update of 0 in the next block");
        let blocks = blocks(&mut Decoder::new(4096, 1), &out);
        let texts: Vec<&str> = blocks.iter().map(|(_, text)| text.as_str()).collect();
        assert_eq!(texts, [HEADERS, TRAILERS, HEADERS, "grpc-status=5;grpc-message=gone;"]);
    }

    #[test]
    fn trailers_only_carries_status_and_content_type() {
        let mut headers = ResponseHeaders::new();
        let mut out = Vec::new();
        headers.write_trailers_only(StreamId(1), 415, 3, "no", &mut out);
        let expected = ":status=415;content-type=application/grpc;grpc-status=3;grpc-message=no;";
        assert_eq!(blocks(&mut Decoder::new(4096, 1), &out)[0].1, expected);
    }
}
