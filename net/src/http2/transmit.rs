//! The sending half of a connection: messages and status into frames, as far as windows allow.
//!
//! Invariants: bytes of one stream leave in the order they were sent, its status after them;
//! `pending_total` is the sum of what waits on all streams; a stream is in `waiting` at most once,
//! and only while it has pending bytes and window; output is a sequence of whole frames, the last
//! of which may grow while the transport has taken none of it.
//! Source: RFC 9113 sections 5.2 and 6.9; gRPC over HTTP/2, "Responses"; gRPC page, "Traps met".

use std::collections::VecDeque;

use super::StreamId;
use super::flow_control::{FrameBudget, ReceiveWindow};
use super::frame::{self, ErrorCode, FrameHeader, HEADER_SIZE_BYTES, flag, kind};
use super::limits::{
    DATA_SIZE_BYTES_MAX, DEFAULT_WINDOW_BYTES, FRAME_SIZE_BYTES_MAX, Limits, WINDOW_BYTES_MAX,
};
use super::response::ResponseHeaders;
use super::stream::{Audience, Ending, Exchange, Streams};
use crate::grpc::framing::{PREFIX_SIZE_BYTES, message_prefix, patch_prefix};
use crate::grpc::status;

/// The sending half of a connection.
pub struct Transmit {
    pub(super) limits: Limits,
    pub(super) output: Vec<u8>,
    pub(super) streams: Streams,
    pub(super) budget: FrameBudget,
    pub(super) headers: ResponseHeaders,
    /// Streams whose producers were told to stop.
    pub(super) starved: VecDeque<StreamId>,
    /// Streams with an unfinished message that want a grant of the core's input budget.
    pub(super) wanting: VecDeque<StreamId>,
    /// Streams with messages that wait for room in the pending bytes.
    pub(super) held_back: VecDeque<StreamId>,
    /// What the peer may send on the connection.
    pub(super) receive_window: ReceiveWindow,
    /// Grants that ended and are still to be given back to the core.
    pub(super) release_due_bytes: usize,
    /// HEADERS or DATA went out since the peer's last ping.
    pub(super) sent_since_ping: bool,
    /// Pending bytes were framed since this was last cleared.
    pub(super) progressed: bool,
    window: i64,
    peer_initial_window: i64,
    peer_frame_size_bytes_max: usize,
    waiting: VecDeque<StreamId>,
    pending_total: usize,
    tail: Option<Tail>,
}

/// The DATA frame at the end of the output.
#[derive(Clone, Copy)]
struct Tail {
    stream: StreamId,
    begin: usize,
    end: usize,
}

impl Transmit {
    pub(super) fn new(limits: Limits) -> Transmit {
        let window = i64::from(limits.connection_window_bytes_min);
        Transmit {
            limits,
            output: Vec::new(),
            streams: Streams::default(),
            budget: FrameBudget::new(),
            headers: ResponseHeaders::new(),
            starved: VecDeque::new(),
            wanting: VecDeque::new(),
            held_back: VecDeque::new(),
            receive_window: ReceiveWindow::new(DEFAULT_WINDOW_BYTES, window),
            release_due_bytes: 0,
            sent_since_ping: false,
            progressed: false,
            window: DEFAULT_WINDOW_BYTES,
            peer_initial_window: DEFAULT_WINDOW_BYTES,
            peer_frame_size_bytes_max: FRAME_SIZE_BYTES_MAX,
            waiting: VecDeque::new(),
            pending_total: 0,
            tail: None,
        }
    }

    /// Sends one gRPC message, which `encode` appends to the buffer it is given (and must not
    /// otherwise touch). Ignored for a stream that is gone or finished.
    pub fn send(&mut self, stream: StreamId, encode: impl FnOnce(&mut Vec<u8>)) {
        let Some(slot) = self.open_slot(stream) else { return };
        if !self.streams[slot].headers_sent {
            self.streams[slot].headers_sent = true;
            self.headers.write_headers(stream, &mut self.output);
        }
        let size_bytes = if self.sends_directly(slot) {
            self.send_directly(slot, encode)
        } else {
            let pending = self.streams[slot].pending.appendable();
            let begin = pending.len();
            append_message(pending, encode);
            let size_bytes = pending.len() - begin;
            self.pending_total += size_bytes;
            self.enqueue(slot);
            size_bytes
        };
        self.budget.earn(1);
        self.sent_since_ping = true;
        if self.limits.response_size_bytes_max < size_bytes - PREFIX_SIZE_BYTES {
            self.refuse_response(slot, size_bytes);
        }
        self.pump();
    }

    /// Begins a gRPC message of `size_bytes`, which [`Transmit::go_on`] sends in pieces. False if
    /// nothing is to follow: the stream is gone or finished, or the message above the limit.
    pub fn begin(&mut self, stream: StreamId, size_bytes: usize) -> bool {
        let Some(slot) = self.open_slot(stream) else { return false };
        assert!(self.streams[slot].message_left_bytes == 0, "one message after the other");
        if !self.streams[slot].headers_sent {
            self.streams[slot].headers_sent = true;
            self.headers.write_headers(stream, &mut self.output);
        }
        self.budget.earn(1);
        self.sent_since_ping = true;
        if self.limits.response_size_bytes_max < size_bytes {
            self.refuse_response(slot, PREFIX_SIZE_BYTES + size_bytes);
            return false;
        }
        self.streams[slot].message_left_bytes = size_bytes;
        let pending = self.streams[slot].pending.appendable();
        pending.extend_from_slice(&message_prefix(size_bytes));
        self.pending_total += PREFIX_SIZE_BYTES;
        self.enqueue(slot);
        self.pump();
        true
    }

    /// Sends the next piece of the message begun, which `encode` appends; ask
    /// [`Transmit::congested`] before. False for a stream that is gone.
    pub fn go_on(&mut self, stream: StreamId, encode: impl FnOnce(&mut Vec<u8>)) -> bool {
        let Some(slot) = self.open_slot(stream) else { return false };
        let pending = self.streams[slot].pending.appendable();
        let begin = pending.len();
        encode(pending);
        assert!(begin <= pending.len(), "encode only appends");
        let size_bytes = pending.len() - begin;
        assert!(size_bytes <= self.streams[slot].message_left_bytes, "a message has one size");
        self.streams[slot].message_left_bytes -= size_bytes;
        self.pending_total += size_bytes;
        self.sent_since_ping = true;
        self.enqueue(slot);
        self.pump();
        true
    }

    /// Ends the call with a gRPC status, after everything sent before. Trailers-only when nothing
    /// was sent. Ignored for a stream that is finished. For one that is gone it says that its
    /// lingering work is over.
    pub fn finish(&mut self, stream: StreamId, status: u32, message: &str) {
        let Some(slot) = self.streams.find(stream) else { return };
        if self.streams[slot].lingers {
            self.streams[slot].lingers = false;
            return self.maybe_remove(slot);
        }
        if self.streams[slot].audience == Audience::Over {
            return;
        }
        self.finish_open(slot, status, message);
    }

    /// Answers a plain HTTP request in full. Ignored for a stream that is gone or answered.
    pub fn respond(&mut self, stream: StreamId, status: u16, content_type: &str, body: &[u8]) {
        let Some(slot) = self.open_slot(stream) else { return };
        assert!(self.streams[slot].exchange != Exchange::Call, "calls end with finish");
        self.streams[slot].audience = Audience::Over;
        self.streams[slot].headers_sent = true;
        self.budget.earn(1);
        let ends = body.is_empty() || self.streams[slot].exchange == Exchange::PlainHead;
        let out = &mut self.output;
        self.headers.write_plain(stream, status, content_type, body.len(), ends, out);
        self.sent_since_ping = true;
        if ends {
            return self.on_local_end(slot);
        }
        self.streams[slot].pending.appendable().extend_from_slice(body);
        self.streams[slot].ending = Some(Ending::Data);
        self.pending_total += body.len();
        self.enqueue(slot);
        self.pump();
    }

    /// Whether to stop producing for this stream until `Application::writable`.
    pub fn congested(&mut self, stream: StreamId) -> bool {
        let Some(slot) = self.open_slot(stream) else { return false };
        let pending_bytes = self.streams[slot].pending.size_bytes();
        if pending_bytes < self.limits.stream_pending_bytes_max && !self.is_full() {
            return false;
        }
        if !self.streams[slot].starved {
            self.streams[slot].starved = true;
            self.starved.push_back(stream);
        }
        true
    }

    /// Bytes of this stream that wait for the peer's window or for room in the output.
    pub fn pending_bytes(&self, stream: StreamId) -> usize {
        self.streams.find(stream).map_or(0, |slot| self.streams[slot].pending.size_bytes())
    }

    /// The same for all streams of the connection together.
    pub fn pending_bytes_total(&self) -> usize {
        self.pending_total
    }

    /// Whether the stream can still be sent on: known, not reset, not finished.
    pub fn is_open(&self, stream: StreamId) -> bool {
        self.open_slot(stream).is_some()
    }

    /// Whether so much waits for this peer that nothing more is executed for it.
    pub(super) fn is_full(&self) -> bool {
        self.limits.pending_bytes_max <= self.pending_total + self.output.len()
    }

    /// Ends an open stream; whether it lingers has been noted before.
    pub(super) fn finish_open(&mut self, slot: usize, status: u32, message: &str) {
        assert!(self.streams[slot].audience == Audience::Open);
        assert!(self.streams[slot].message_left_bytes == 0, "a message is sent to its end");
        self.streams[slot].audience = Audience::Over;
        self.budget.earn(1);
        self.abandon_message(slot);
        if self.streams[slot].pending.is_empty() {
            self.write_status(slot, status, message);
        } else {
            let message = message.to_owned();
            self.streams[slot].ending = Some(Ending::Status { status, message });
        }
    }

    pub(super) fn open_slot(&self, stream: StreamId) -> Option<usize> {
        let slot = self.streams.find(stream)?;
        (self.streams[slot].audience == Audience::Open).then_some(slot)
    }

    /// Whether a message may be encoded straight into the output.
    fn sends_directly(&self, slot: usize) -> bool {
        let stream = &self.streams[slot];
        stream.pending.is_empty()
            && 0 < stream.send_window.min(self.window)
            && self.output.len() < self.limits.output_bytes_max
    }

    /// Encodes a message into the output, behind the last message of its stream if that is the
    /// last frame there: h2 clients end connections on which many small DATA frames wait unread.
    /// What does not fit in a frame or a window moves to the pending bytes.
    fn send_directly(&mut self, slot: usize, encode: impl FnOnce(&mut Vec<u8>)) -> usize {
        let stream = self.streams[slot].id;
        let frame_size_bytes_max = self.frame_size_bytes_max();
        let end = self.output.len();
        let tail = self.tail.filter(|tail| tail.stream == stream && tail.end == end);
        if tail.is_none() {
            self.output.extend_from_slice(&[0; HEADER_SIZE_BYTES]);
        }
        let begin = self.output.len();
        append_message(&mut self.output, encode);
        let size_bytes = self.output.len() - begin;
        let allowed = self.streams[slot].send_window.min(self.window) as usize;
        if let Some(tail) = tail {
            let joined = end - tail.begin - HEADER_SIZE_BYTES;
            if joined + size_bytes <= frame_size_bytes_max && size_bytes <= allowed {
                self.close_frame(slot, tail.begin, size_bytes);
                return size_bytes;
            }
        }
        let first = size_bytes.min(frame_size_bytes_max).min(allowed);
        assert!(0 < first);
        if first < size_bytes {
            let rest = &self.output[begin + first..];
            self.streams[slot].pending.appendable().extend_from_slice(rest);
            self.pending_total += size_bytes - first;
            self.output.truncate(begin + first);
        }
        let mut frame_begin = end;
        if tail.is_some() {
            self.output.extend_from_slice(&[0; HEADER_SIZE_BYTES]);
            self.output.copy_within(begin..begin + first, begin + HEADER_SIZE_BYTES);
            frame_begin = begin;
        }
        self.close_frame(slot, frame_begin, first);
        if first < size_bytes {
            self.enqueue(slot);
        }
        size_bytes
    }

    /// Writes the header of the DATA frame that now reaches from `begin` to the end of the output,
    /// `added_bytes` of it not yet paid for from the windows.
    fn close_frame(&mut self, slot: usize, begin: usize, added_bytes: usize) {
        let stream = self.streams[slot].id;
        let size_bytes = self.output.len() - begin - HEADER_SIZE_BYTES;
        assert!(size_bytes <= self.frame_size_bytes_max());
        let header = FrameHeader { size_bytes, kind: kind::DATA, flags: 0, stream };
        self.output[begin..begin + HEADER_SIZE_BYTES].copy_from_slice(&header.encode());
        self.streams[slot].send_window -= added_bytes as i64;
        self.window -= added_bytes as i64;
        self.tail = Some(Tail { stream, begin, end: self.output.len() });
    }

    fn frame_size_bytes_max(&self) -> usize {
        self.peer_frame_size_bytes_max.min(DATA_SIZE_BYTES_MAX)
    }

    /// A message above the limit of answers: what is left of it is dropped, and the call with it.
    fn refuse_response(&mut self, slot: usize, size_bytes: usize) {
        let stream = self.streams[slot].id;
        let size_bytes = size_bytes - PREFIX_SIZE_BYTES;
        let size_bytes_max = self.limits.response_size_bytes_max;
        let text =
            format!("trying to send message larger than max ({size_bytes} vs. {size_bytes_max})");
        self.drop_pending(slot);
        self.finish(stream, status::RESOURCE_EXHAUSTED, &text);
    }

    /// Puts the stream into the queue of those that can send, if it can.
    fn enqueue(&mut self, slot: usize) {
        let stream = &mut self.streams[slot];
        if !stream.queued && !stream.pending.is_empty() && 0 < stream.send_window {
            stream.queued = true;
            self.waiting.push_back(stream.id);
        }
    }

    /// Frames pending bytes, one frame a stream in turn, as far as windows and output allow.
    pub(super) fn pump(&mut self) {
        while 0 < self.window && self.output.len() < self.limits.output_bytes_max {
            let Some(id) = self.waiting.pop_front() else { return };
            let slot = self.streams.find(id).expect("a stream that goes leaves the queue");
            self.streams[slot].queued = false;
            let allowed = self.streams[slot].send_window.min(self.window);
            if allowed <= 0 {
                continue;
            }
            let size_bytes = self.streams[slot].pending.size_bytes();
            let size_bytes = size_bytes.min(allowed as usize).min(self.frame_size_bytes_max());
            let begin = self.output.len();
            self.output.extend_from_slice(&[0; HEADER_SIZE_BYTES]);
            self.streams[slot].pending.take(size_bytes, &mut self.output);
            self.pending_total -= size_bytes;
            self.close_frame(slot, begin, size_bytes);
            self.progressed = true;
            if self.streams[slot].pending.is_empty() {
                self.end(slot);
            } else {
                self.enqueue(slot);
            }
        }
    }

    /// The last pending byte is out: what ends the answer follows.
    fn end(&mut self, slot: usize) {
        match self.streams[slot].ending.take() {
            None => {}
            Some(Ending::Status { status, message }) => self.write_status(slot, status, &message),
            Some(Ending::Data) => {
                let stream = self.streams[slot].id;
                frame::write(kind::DATA, flag::END_STREAM, stream, &[], &mut self.output);
                self.on_local_end(slot);
            }
        }
    }

    fn write_status(&mut self, slot: usize, status: u32, message: &str) {
        let stream = self.streams[slot].id;
        let out = &mut self.output;
        if self.streams[slot].headers_sent {
            self.headers.write_trailers(stream, status, message, out);
        } else {
            self.headers.write_trailers_only(stream, 200, status, message, out);
        }
        self.sent_since_ping = true;
        self.on_local_end(slot);
    }

    /// Refuses a request before any application saw it.
    pub(super) fn refuse(&mut self, slot: usize, http_status: u16, status: u32, message: &str) {
        let stream = self.streams[slot].id;
        assert!(!self.streams[slot].headers_sent);
        self.streams[slot].audience = Audience::Over;
        let out = &mut self.output;
        self.headers.write_trailers_only(stream, http_status, status, message, out);
        self.on_local_end(slot);
    }

    /// END_STREAM went out. The peer's own end is awaited: a reset now would cancel calls of
    /// clients that still have it under way.
    fn on_local_end(&mut self, slot: usize) {
        self.streams[slot].local_closed = true;
        self.maybe_stop_upload(slot);
        self.maybe_remove(slot);
    }

    /// A peer that goes on sending what nobody reads is told to stop (RFC 9113 section 8.1), once
    /// it has used up half its window: short requests have ended by then.
    pub(super) fn maybe_stop_upload(&mut self, slot: usize) {
        let stream = &mut self.streams[slot];
        let window = &stream.receive_window;
        let is_uploading = window.available_bytes() < window.base_bytes() / 2;
        if stream.local_closed && !stream.peer_closed && is_uploading {
            stream.peer_closed = true;
            frame::write_reset(stream.id, ErrorCode::NoError, &mut self.output);
        }
    }

    /// Forgets the stream if nothing of it is left to do.
    pub(super) fn maybe_remove(&mut self, slot: usize) {
        if self.streams[slot].is_over() {
            self.detach(slot);
            self.streams.remove(slot);
        }
    }

    /// Takes the stream out of every queue.
    pub(super) fn detach(&mut self, slot: usize) {
        self.drop_pending(slot);
        self.abandon_message(slot);
        let stream = &mut self.streams[slot];
        stream.ending = None;
        if std::mem::take(&mut stream.starved) {
            let id = stream.id;
            self.starved.retain(|&other| other != id);
        }
    }

    /// Forgets what was received of a message, and the grant for it.
    pub(super) fn abandon_message(&mut self, slot: usize) {
        let mut message = self.take_message(slot);
        message.clear();
        self.streams[slot].recycle_message(message);
        let stream = &mut self.streams[slot];
        if std::mem::take(&mut stream.held_back) {
            let id = stream.id;
            self.held_back.retain(|&other| other != id);
        }
    }

    /// Takes the bytes held for a stream out of it, and gives back the grant for them.
    pub(super) fn take_message(&mut self, slot: usize) -> Vec<u8> {
        let stream = &mut self.streams[slot];
        let held_bytes = stream.message.len();
        let reserved_bytes = std::mem::take(&mut stream.reserved_bytes);
        if 0 < reserved_bytes {
            stream.receive_window.revoke(reserved_bytes, held_bytes);
            self.receive_window.revoke(reserved_bytes, held_bytes);
            self.release_due_bytes += reserved_bytes;
        } else if 0 < held_bytes {
            stream.receive_window.unhold(held_bytes);
            self.receive_window.unhold(held_bytes);
        }
        assert!(stream.receive_window.held_bytes() == 0);
        if std::mem::take(&mut stream.wants_grant) {
            let id = stream.id;
            self.wanting.retain(|&other| other != id);
        }
        std::mem::take(&mut stream.message)
    }

    fn drop_pending(&mut self, slot: usize) {
        let stream = &mut self.streams[slot];
        self.pending_total -= stream.pending.size_bytes();
        stream.pending.clear();
        if std::mem::take(&mut stream.queued) {
            let id = stream.id;
            self.waiting.retain(|&other| other != id);
        }
    }

    /// The window that the peer gave new streams.
    pub(super) fn peer_initial_window(&self) -> i64 {
        self.peer_initial_window
    }

    /// The peer widens the connection's window; false when it overflows.
    pub(super) fn widen(&mut self, increment_bytes: i64) -> bool {
        self.window += increment_bytes;
        self.window <= WINDOW_BYTES_MAX
    }

    /// The peer widens a stream's window; false when it overflows.
    pub(super) fn widen_stream(&mut self, slot: usize, increment_bytes: i64) -> bool {
        self.streams[slot].send_window += increment_bytes;
        if WINDOW_BYTES_MAX < self.streams[slot].send_window {
            return false;
        }
        self.enqueue(slot);
        true
    }

    /// The peer changed the initial window: all streams move by the difference, perhaps below 0
    /// (RFC 9113 section 6.9.2); false when one overflows.
    pub(super) fn set_peer_initial_window(&mut self, window_bytes: i64) -> bool {
        assert!(0 <= window_bytes && window_bytes <= WINDOW_BYTES_MAX);
        let difference = window_bytes - self.peer_initial_window;
        self.peer_initial_window = window_bytes;
        self.streams.in_order().into_iter().all(|slot| self.widen_stream(slot, difference))
    }

    /// The peer changed the largest frame it takes.
    pub(super) fn set_peer_frame_size(&mut self, size_bytes: usize) {
        assert!(FRAME_SIZE_BYTES_MAX <= size_bytes);
        self.peer_frame_size_bytes_max = size_bytes;
    }

    /// The output is about to be taken away: its last frame must not grow any more.
    pub(super) fn seal(&mut self) {
        self.tail = None;
    }
}

/// Appends prefix and message.
fn append_message(out: &mut Vec<u8>, encode: impl FnOnce(&mut Vec<u8>)) {
    let begin = out.len();
    out.extend_from_slice(&[0; PREFIX_SIZE_BYTES]);
    encode(out);
    assert!(begin + PREFIX_SIZE_BYTES <= out.len(), "encode only appends");
    patch_prefix(&mut out[begin..]);
}
