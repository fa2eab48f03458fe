//! The entry of fuzzers into the server: any bytes, cut anywhere, with answers, ticks and drains
//! in between. Nothing may panic.
//!
//! Source: the rule that bad input never panics.

use super::{Application, Connection, InputBudget, InputPurpose, Limits, StreamId, Transmit, Work};
use crate::grpc::{Metadata, status};

/// Feeds `bytes` to a fresh connection: each piece is preceded by a byte that says how long it is
/// and what happens after it. Returns the bytes that the server sent.
pub fn fuzz_feed(bytes: &[u8]) -> usize {
    let limits = Limits {
        streams_max: 8,
        message_size_bytes_max: 100_000,
        pending_bytes_max: 64 << 10,
        stream_pending_bytes_max: 16 << 10,
        output_bytes_max: 32 << 10,
        ..Limits::default()
    };
    let mut connection = Connection::new(limits);
    let mut app = FuzzApplication { budget: InputBudget::new(200_000), open: Vec::new() };
    let (mut now_ms, mut sent) = (0, 0);
    let mut rest = bytes;
    while let Some((&control, behind)) = rest.split_first() {
        let size_bytes = match control & 7 {
            0 => 1,
            7 => behind.len(),
            exponent => 1 << (2 * exponent),
        };
        let (piece, behind) = behind.split_at(size_bytes.min(behind.len()));
        rest = behind;
        if connection.wants_input() {
            connection.feed(piece, &mut app);
        }
        match control >> 3 {
            0 => connection.drain(),
            1..8 => {
                now_ms += 700;
                connection.tick(now_ms, &mut app);
            }
            8..16 => {
                if let Some(stream) = app.open.pop() {
                    connection.transmit().send(stream, |out| out.extend_from_slice(&[7; 5000]));
                    connection.transmit().finish(stream, status::OK, "");
                }
            }
            16 => {}
            count => {
                let taken = (usize::from(count) << 9).min(connection.output().len());
                sent += connection.output().drain(..taken).count();
                connection.flushed(&mut app);
            }
        }
    }
    connection.closed(&mut app);
    assert!(app.budget.used_bytes() == 0, "every grant is given back");
    assert!(connection.stream_count() == 0);
    sent
}

struct FuzzApplication {
    budget: InputBudget,
    open: Vec<StreamId>,
}

impl Application for FuzzApplication {
    fn route(&mut self, path: &[u8]) -> u32 {
        path.strip_prefix(b"/k/").map_or(0, |method| 1 + method.len() as u32)
    }

    fn has_service(&mut self, service: &[u8]) -> bool {
        service == b"k"
    }

    fn open(&mut self, _: &mut Transmit, stream: StreamId, _: u32, _: &Metadata<'_>) {
        self.open.push(stream);
    }

    fn message(&mut self, transmit: &mut Transmit, stream: StreamId, method: u32, body: &[u8]) {
        if method % 2 == 1 && !transmit.congested(stream) {
            transmit.send(stream, |out| out.extend_from_slice(body));
        }
    }

    fn half_close(&mut self, transmit: &mut Transmit, stream: StreamId, method: u32) {
        if method % 2 == 1 {
            transmit.finish(stream, status::OK, "");
        }
    }

    fn gone(&mut self, _: StreamId, method: u32) -> Work {
        if method.is_multiple_of(3) { Work::Lingers } else { Work::Cancelled }
    }

    fn writable(&mut self, transmit: &mut Transmit, stream: StreamId, _: u32) {
        transmit.send(stream, |out| out.push(1));
    }

    fn http_request(&mut self, transmit: &mut Transmit, id: StreamId, verb: &[u8], path: &[u8]) {
        if path.len().is_multiple_of(2) {
            transmit.respond(id, 200, "text/plain", verb);
        }
    }

    fn reserve_input(&mut self, size_bytes: usize, purpose: InputPurpose) -> bool {
        self.budget.reserve(size_bytes, purpose)
    }

    fn release_input(&mut self, size_bytes: usize) {
        self.budget.release(size_bytes);
    }
}
