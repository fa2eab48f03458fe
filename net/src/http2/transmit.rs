//! The sending half of a connection: messages and status into frames, as far as windows allow.
//!
//! Source: RFC 9113 sections 5.2 and 6.9; gRPC over HTTP/2, "Responses".

use super::StreamId;
use super::limits::Limits;

/// The sending half of a connection.
pub struct Transmit {
    #[allow(dead_code)]
    limits: Limits,
    output: Vec<u8>,
}

impl Transmit {
    pub(super) fn new(limits: Limits) -> Transmit {
        Transmit { limits, output: Vec::new() }
    }

    pub(super) fn output(&mut self) -> &mut Vec<u8> {
        &mut self.output
    }

    /// Sends one gRPC message, which `encode` appends to the buffer it is given (and must not
    /// otherwise touch). Ignored for a stream that is gone or finished.
    pub fn send(&mut self, stream: StreamId, encode: impl FnOnce(&mut Vec<u8>)) {
        let _ = (stream, encode);
    }

    /// Ends the call with a gRPC status, after everything sent before. Trailers-only when nothing
    /// was sent. Ignored for a stream that is gone or finished.
    pub fn finish(&mut self, stream: StreamId, status: u32, message: &str) {
        let _ = (stream, status, message);
    }

    /// Answers a plain HTTP request in full.
    pub fn respond(&mut self, stream: StreamId, status: u16, content_type: &str, body: &[u8]) {
        let _ = (stream, status, content_type, body);
    }

    /// Whether to stop producing for this stream until `Application::writable`.
    pub fn congested(&mut self, stream: StreamId) -> bool {
        let _ = stream;
        false
    }

    /// Bytes of this stream that wait for the peer's window or for room in the output.
    pub fn pending_bytes(&self, stream: StreamId) -> usize {
        let _ = stream;
        0
    }

    /// The same for all streams of the connection together.
    pub fn pending_bytes_total(&self) -> usize {
        0
    }

    /// Whether the stream can still be sent on: known, not reset, not finished.
    pub fn is_open(&self, stream: StreamId) -> bool {
        let _ = stream;
        false
    }
}
