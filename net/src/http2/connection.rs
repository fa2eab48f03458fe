//! The receiving half of a connection: bytes into frames, frames into what they mean.
//!
//! Invariants: frames are handled whole and in order, however the bytes were cut; every header
//! block goes through HPACK, and every DATA byte through the connection's window, whatever became
//! of their streams; after an error nothing more is taken and every stream has heard `gone`.
//! Source: RFC 9113 sections 3.4, 4, 5 and 6; gRPC page, "Traps met" and "Bounds".

use super::StreamId;
use super::application::{Application, InputPurpose, Work};
use super::clock::Clock;
use super::flow_control::ReceiveWindow;
use super::frame::{
    self, ConnectionError, ErrorCode, FrameHeader, HEADER_SIZE_BYTES, PREFACE, flag, kind, setting,
};
use super::hpack::{DecodeError, Decoder};
use super::limits::{
    COST_CHEAP, COST_HEADER_LIST, COST_HEADER_PIECE_SMALL, COST_REFUSED, COST_RESET,
    FRAME_SIZE_BYTES_MAX, HEADER_BLOCK_SIZE_BYTES_MAX, HEADER_LIST_SIZE_BYTES_MAX,
    HEADER_PIECE_SIZE_BYTES_SMALL, HEADER_TABLE_SIZE_BYTES_MAX, Limits,
};
use super::request::{RequestHead, TAG_ROUTE_MIN, Verdict};
use super::stream::{Audience, Exchange};
use super::transmit::Transmit;
use crate::grpc::status;

/// An HTTP/2 server connection.
pub struct Connection {
    pub(super) transmit: Transmit,
    pub(super) stage: Stage,
    pub(super) drain: Drain,
    pub(super) clock: Clock,
    /// Bytes of DATA credited since the last full second.
    pub(super) credited_bytes: i64,
    /// Granted by the core for a wider connection window.
    pub(super) window_reserved_bytes: usize,
    /// The highest stream the peer opened.
    pub(super) last: StreamId,
    /// What it was at the second phase of a drain: the last that is served.
    drained_last: StreamId,
    /// A header block begun and not ended.
    pub(super) block: Option<OpenBlock>,
    block_bytes: Vec<u8>,
    decoder: Decoder,
    request: RequestHead,
    /// The front of a frame whose end has not come yet.
    rest: Vec<u8>,
}

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// The preface is awaited.
    Preface,
    /// The first SETTINGS are awaited.
    Settings,
    Running,
    /// What is left in the output is to be written, then the transport closed.
    Finished,
    /// The transport is to be closed at once.
    Broken,
}

/// How far a graceful end has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Drain {
    Not,
    /// The first GOAWAY is out: the peer may still open streams that crossed it.
    Announced,
    /// The second GOAWAY is out: it names the last stream that is served.
    Final,
}

/// A header block that goes on in CONTINUATION frames.
#[derive(Clone, Copy, Debug)]
pub(super) struct OpenBlock {
    stream: StreamId,
    flags: u8,
}

/// The payload of the ping whose answer ends the first phase of a drain.
pub(super) const DRAIN_PING: [u8; 8] = *b"draining";
/// The payload of keep-alive pings.
pub(super) const KEEP_ALIVE_PING: [u8; 8] = *b"stillup?";
/// The connection itself, as a stream.
pub(super) const CONNECTION: StreamId = StreamId(0);

/// Whether the connection may go on.
pub(super) type Outcome = Result<(), ConnectionError>;

impl Connection {
    /// A connection just accepted. Its first output is there at once.
    pub fn new(limits: Limits) -> Connection {
        limits.verify();
        let settings = [
            (setting::MAX_CONCURRENT_STREAMS, limits.streams_max),
            (setting::INITIAL_WINDOW_SIZE, limits.stream_window_bytes),
            (setting::MAX_HEADER_LIST_SIZE, HEADER_LIST_SIZE_BYTES_MAX as u32),
        ];
        let mut transmit = Transmit::new(limits);
        frame::write_settings(&settings, &mut transmit.output);
        let mut connection = Connection {
            transmit,
            stage: Stage::Preface,
            drain: Drain::Not,
            clock: Clock::default(),
            credited_bytes: 0,
            window_reserved_bytes: 0,
            last: CONNECTION,
            drained_last: CONNECTION,
            block: None,
            block_bytes: Vec::new(),
            decoder: Decoder::new(HEADER_TABLE_SIZE_BYTES_MAX, TAG_ROUTE_MIN),
            request: RequestHead::default(),
            rest: Vec::new(),
        };
        connection.write_credit();
        connection
    }

    /// Takes bytes as they came from the transport, cut anywhere. What follows the end of the
    /// connection is ignored.
    pub fn feed(&mut self, bytes: &[u8], app: &mut impl Application) {
        if bytes.is_empty() || self.is_over() {
            return;
        }
        self.clock.on_input();
        if let Err(error) = self.feed_frames(bytes, app) {
            self.fail(error, app);
        }
    }

    fn feed_frames(&mut self, mut bytes: &[u8], app: &mut impl Application) -> Outcome {
        while !self.rest.is_empty() && !bytes.is_empty() {
            let missing = self.unit_size_bytes(&self.rest)? - self.rest.len();
            let (more, behind) = bytes.split_at(missing.min(bytes.len()));
            self.rest.extend_from_slice(more);
            bytes = behind;
            if self.unit_size_bytes(&self.rest)? <= self.rest.len() {
                let mut unit = std::mem::take(&mut self.rest);
                let outcome = self.on_unit(&unit, app);
                unit.clear();
                self.rest = unit;
                outcome?;
            }
        }
        while !bytes.is_empty() && !self.is_over() {
            let size_bytes = self.unit_size_bytes(bytes)?;
            if bytes.len() < size_bytes {
                assert!(self.rest.is_empty());
                self.rest.extend_from_slice(bytes);
                return Ok(());
            }
            let (unit, behind) = bytes.split_at(size_bytes);
            self.on_unit(unit, app)?;
            bytes = behind;
        }
        Ok(())
    }

    /// Bytes of the preface, the frame, or (while only a part of it is there) the frame header at
    /// the front of `bytes`.
    fn unit_size_bytes(&self, bytes: &[u8]) -> Result<usize, ConnectionError> {
        if self.stage == Stage::Preface {
            let common = bytes.len().min(PREFACE.len());
            if bytes[..common] != PREFACE[..common] {
                return Err(ConnectionError::new(ErrorCode::Protocol, "not the HTTP/2 preface"));
            }
            return Ok(PREFACE.len());
        }
        let Some(header) = bytes.first_chunk() else { return Ok(HEADER_SIZE_BYTES) };
        let header = FrameHeader::decode(header);
        if FRAME_SIZE_BYTES_MAX < header.size_bytes {
            return Err(ConnectionError::new(ErrorCode::FrameSize, "frame too large"));
        }
        Ok(HEADER_SIZE_BYTES + header.size_bytes)
    }

    fn on_unit(&mut self, unit: &[u8], app: &mut impl Application) -> Outcome {
        if self.stage == Stage::Preface {
            assert!(unit == PREFACE);
            self.stage = Stage::Settings;
            return Ok(());
        }
        let (header, payload) = unit.split_first_chunk().expect("units are whole");
        let header = FrameHeader::decode(header);
        assert!(header.size_bytes == payload.len());
        self.on_frame(header, payload, app)?;
        // After each frame, so that it does not matter how frames were cut into calls of `feed`.
        self.settle(app);
        Ok(())
    }

    fn on_frame(
        &mut self,
        header: FrameHeader,
        payload: &[u8],
        app: &mut impl Application,
    ) -> Outcome {
        if self.block.is_some() && header.kind != kind::CONTINUATION {
            return protocol_error("a header block is interrupted");
        }
        if self.stage == Stage::Settings && header.kind != kind::SETTINGS {
            return protocol_error("the first frame is not SETTINGS");
        }
        match header.kind {
            kind::DATA => self.on_data(header, payload, app),
            kind::HEADERS => self.on_headers(header, payload, app),
            kind::CONTINUATION => self.on_continuation(header, payload, app),
            kind::RST_STREAM => self.on_reset(header, payload, app),
            kind::SETTINGS => self.on_settings(header, payload, app),
            kind::PING => self.on_ping(header, payload),
            kind::GOAWAY => self.on_goaway(header, payload),
            kind::WINDOW_UPDATE => self.on_window_update(header, payload, app),
            kind::PRIORITY => self.on_priority(header, payload),
            kind::PUSH_PROMISE => protocol_error("clients do not push"),
            _ => self.transmit.budget.spend(COST_CHEAP),
        }
    }

    fn on_headers(
        &mut self,
        header: FrameHeader,
        payload: &[u8],
        app: &mut impl Application,
    ) -> Outcome {
        if header.stream.0.is_multiple_of(2) {
            return protocol_error("not a stream of a client");
        }
        let mut block = check_padding(header, payload)?;
        if header.has(flag::PRIORITY) {
            let too_short = ConnectionError::new(ErrorCode::FrameSize, "priority cut short");
            block = block.get(5..).ok_or(too_short)?;
        }
        if header.has(flag::END_HEADERS) {
            return self.on_block(header.stream, header.flags, block, app);
        }
        self.pay_for_piece(block)?;
        self.clock.on_block_begun();
        self.block = Some(OpenBlock { stream: header.stream, flags: header.flags });
        self.block_bytes.clear();
        self.block_bytes.extend_from_slice(block);
        Ok(())
    }

    fn on_continuation(
        &mut self,
        header: FrameHeader,
        payload: &[u8],
        app: &mut impl Application,
    ) -> Outcome {
        let Some(open) = self.block.filter(|open| open.stream == header.stream) else {
            return protocol_error("CONTINUATION of no header block");
        };
        if HEADER_BLOCK_SIZE_BYTES_MAX < self.block_bytes.len() + payload.len() {
            let text = "header block too large";
            return Err(ConnectionError::new(ErrorCode::EnhanceYourCalm, text));
        }
        self.pay_for_piece(payload)?;
        self.block_bytes.extend_from_slice(payload);
        if !header.has(flag::END_HEADERS) {
            return Ok(());
        }
        self.block = None;
        let block = std::mem::take(&mut self.block_bytes);
        let outcome = self.on_block(open.stream, open.flags, &block, app);
        self.block_bytes = block;
        outcome
    }

    fn pay_for_piece(&mut self, piece: &[u8]) -> Outcome {
        let is_small = piece.len() < HEADER_PIECE_SIZE_BYTES_SMALL;
        self.transmit.budget.spend(if is_small { COST_HEADER_PIECE_SMALL } else { COST_CHEAP })
    }

    /// A whole header block: a request, trailers, or fields of a stream that is gone, which must
    /// go through the decoder all the same.
    fn on_block(
        &mut self,
        id: StreamId,
        flags: u8,
        block: &[u8],
        app: &mut impl Application,
    ) -> Outcome {
        self.request.clear();
        let request = &mut self.request;
        let decoded = self.decoder.decode(block, |name, value, tag| {
            request.on_field(name, value, tag, app);
        });
        let list_size_bytes = decoded.map_err(|error| match error {
            DecodeError::Malformed => ConnectionError::new(ErrorCode::Compression, "not HPACK"),
            DecodeError::TooLarge => {
                ConnectionError::new(ErrorCode::EnhanceYourCalm, "header list far too large")
            }
        })?;
        let ends = flags & flag::END_STREAM != 0;
        match self.transmit.streams.find(id) {
            Some(slot) if self.transmit.streams[slot].peer_closed => {
                self.reset(slot, ErrorCode::StreamClosed, app)
            }
            Some(slot) if !ends || self.request.has_pseudo() => {
                self.reset(slot, ErrorCode::Protocol, app)
            }
            Some(slot) => {
                self.transmit.streams[slot].peer_closed = true;
                self.on_peer_end(slot, app)
            }
            None if id <= self.last => self.transmit.budget.spend(COST_RESET),
            None => self.on_request(id, ends, list_size_bytes, app),
        }
    }

    fn on_request(
        &mut self,
        id: StreamId,
        ends: bool,
        list_size_bytes: usize,
        app: &mut impl Application,
    ) -> Outcome {
        let is_over_limit = self.transmit.limits.streams_max as usize <= self.stream_count();
        if self.drain == Drain::Final || is_over_limit {
            self.last = id;
            frame::write_reset(id, ErrorCode::RefusedStream, &mut self.transmit.output);
            return self.transmit.budget.spend(COST_REFUSED);
        }
        self.last = id;
        let window_bytes = i64::from(self.transmit.limits.stream_window_bytes);
        let send_window = self.transmit.peer_initial_window();
        let slot = self.transmit.streams.insert(id);
        let stream = &mut self.transmit.streams[slot];
        stream.receive_window = ReceiveWindow::new(window_bytes, window_bytes);
        stream.send_window = send_window;
        stream.peer_closed = ends;
        stream.method = self.request.method;
        stream.encoding = self.request.encoding;
        if HEADER_LIST_SIZE_BYTES_MAX < list_size_bytes {
            let text = format!(
                "received header list larger than max ({list_size_bytes} vs. \
                 {HEADER_LIST_SIZE_BYTES_MAX})"
            );
            self.transmit.refuse(slot, 200, status::RESOURCE_EXHAUSTED, &text);
            return self.transmit.budget.spend(COST_HEADER_LIST);
        }
        match self.request.verdict(app) {
            Verdict::Call => {
                let metadata = self.request.metadata();
                app.open(&mut self.transmit, id, self.request.method, &metadata);
            }
            Verdict::Plain(exchange) => {
                self.transmit.streams[slot].exchange = exchange;
                let verb = self.request.verb();
                app.http_request(&mut self.transmit, id, verb, &self.request.path);
                return Ok(());
            }
            Verdict::Malformed => return self.reset_unseen(slot, ErrorCode::Protocol),
            Verdict::Refused(http_status, status, text) => {
                self.transmit.refuse(slot, http_status, status, &text);
                return Ok(());
            }
        }
        match self.transmit.open_slot(id) {
            Some(slot) if ends => self.on_peer_end(slot, app),
            _ => Ok(()),
        }
    }

    fn on_reset(
        &mut self,
        header: FrameHeader,
        payload: &[u8],
        app: &mut impl Application,
    ) -> Outcome {
        check_size(payload, 4)?;
        if header.stream == CONNECTION || self.last < header.stream {
            return self.idle_error(header.stream);
        }
        let Some(slot) = self.transmit.streams.find(header.stream) else {
            return self.transmit.budget.spend(COST_CHEAP);
        };
        // A reset of what is answered already ends a call whose peer did not end its own side.
        let is_answered = self.transmit.streams[slot].local_closed;
        self.discard(slot, app);
        self.transmit.budget.spend(if is_answered { COST_CHEAP } else { COST_RESET })
    }

    /// Forgets a stream that was reset by either side; the application hears of it.
    pub(super) fn discard(&mut self, slot: usize, app: &mut impl Application) {
        let stream = &mut self.transmit.streams[slot];
        stream.local_closed = true;
        stream.peer_closed = true;
        if stream.audience == Audience::Open {
            stream.audience = Audience::Over;
            stream.lingers = app.gone(stream.id, stream.method) == Work::Lingers;
        }
        self.transmit.detach(slot);
        self.transmit.maybe_remove(slot);
    }

    /// A stream error.
    pub(super) fn reset(
        &mut self,
        slot: usize,
        code: ErrorCode,
        app: &mut impl Application,
    ) -> Outcome {
        let id = self.transmit.streams[slot].id;
        frame::write_reset(id, code, &mut self.transmit.output);
        self.discard(slot, app);
        self.transmit.budget.spend(COST_RESET)
    }

    /// A stream error before the application saw the stream.
    fn reset_unseen(&mut self, slot: usize, code: ErrorCode) -> Outcome {
        let id = self.transmit.streams[slot].id;
        frame::write_reset(id, code, &mut self.transmit.output);
        self.transmit.streams.remove(slot);
        self.transmit.budget.spend(COST_RESET)
    }

    pub(super) fn idle_error(&self, stream: StreamId) -> Outcome {
        assert!(stream == CONNECTION || self.last < stream);
        protocol_error("a frame for an idle stream")
    }

    /// Output was taken away: frames what had no room, calls `writable`, delivers held messages.
    pub fn flushed(&mut self, app: &mut impl Application) {
        self.clock.on_flushed(self.transmit.output.is_empty());
        if self.is_over() {
            return;
        }
        if let Err(error) = self.resume(app) {
            self.fail(error, app);
        }
        self.settle(app);
    }

    /// There may be room or window again: goes on with everything that waited for it.
    pub(super) fn resume(&mut self, app: &mut impl Application) -> Outcome {
        self.transmit.pump();
        if self.transmit.held_back.is_empty() && self.transmit.starved.is_empty() {
            return Ok(());
        }
        self.deliver_held_back(app)?;
        self.wake_starved(app);
        Ok(())
    }

    /// Calls `writable` once for each stream that was told to stop and has room now.
    fn wake_starved(&mut self, app: &mut impl Application) {
        for _ in 0..self.transmit.starved.len() {
            if self.transmit.is_full() {
                return;
            }
            let Some(id) = self.transmit.starved.pop_front() else { return };
            let slot = self.transmit.streams.find(id).expect("a stream that goes leaves the list");
            let stream = &mut self.transmit.streams[slot];
            if self.transmit.limits.stream_pending_bytes_max / 2 <= stream.pending.size_bytes() {
                self.transmit.starved.push_back(id);
                continue;
            }
            stream.starved = false;
            let method = stream.method;
            if stream.audience == Audience::Open {
                app.writable(&mut self.transmit, id, method);
            }
        }
    }

    /// What every call from outside ends with.
    pub(super) fn settle(&mut self, app: &mut impl Application) {
        if 0 < self.transmit.release_due_bytes {
            app.release_input(std::mem::take(&mut self.transmit.release_due_bytes));
        }
        self.ask_for_grants(app);
        if self.drain == Drain::Final && self.stream_count() == 0 && !self.is_over() {
            self.stage = Stage::Finished;
        }
    }

    /// Gives the peer back what it used of the connection's window, and asks the core for a wider
    /// one when it uses that up several times a second.
    pub(super) fn credit_connection(&mut self, app: &mut impl Application) {
        let credit_bytes = self.write_credit();
        if credit_bytes == 0 {
            return;
        }
        self.credited_bytes += credit_bytes;
        let base_bytes = self.transmit.receive_window.base_bytes();
        let base_bytes_max = i64::from(self.transmit.limits.connection_window_bytes_max);
        let wider_bytes = (2 * base_bytes).min(base_bytes_max);
        if base_bytes < wider_bytes && 4 * base_bytes < self.credited_bytes {
            let more_bytes = (wider_bytes - base_bytes) as usize;
            if app.reserve_input(more_bytes, InputPurpose::Window) {
                self.window_reserved_bytes += more_bytes;
                self.transmit.receive_window.set_base(wider_bytes);
                self.write_credit();
            }
        }
    }

    pub(super) fn write_credit(&mut self) -> i64 {
        let credit_bytes = self.transmit.receive_window.take_credit();
        if 0 < credit_bytes {
            frame::write_window_update(CONNECTION, credit_bytes, &mut self.transmit.output);
        }
        credit_bytes
    }

    /// Bytes to send. The caller takes them (all, by `std::mem::take`, or some from the front)
    /// when the transport has written what it took before, then calls [`Connection::flushed`].
    pub fn output(&mut self) -> &mut Vec<u8> {
        self.transmit.seal();
        &mut self.transmit.output
    }

    /// The sending half, for answers that come later than the call of `feed` they answer.
    pub fn transmit(&mut self) -> &mut Transmit {
        &mut self.transmit
    }

    /// Whether to read from the transport.
    pub fn wants_input(&self) -> bool {
        !self.is_over() && self.transmit.output.len() < self.transmit.limits.output_bytes_max
    }

    /// No more streams: a first GOAWAY, a second when the peer has seen that, finished when the
    /// streams open by then are done.
    pub fn drain(&mut self) {
        if self.drain != Drain::Not || self.is_over() {
            return;
        }
        if self.stage != Stage::Running {
            self.finish_drain();
            self.stage = Stage::Finished;
            return;
        }
        self.drain = Drain::Announced;
        self.clock.on_drain();
        let error = ConnectionError::new(ErrorCode::NoError, "");
        frame::write_goaway(StreamId(0x7fff_ffff), error, &mut self.transmit.output);
        frame::write(kind::PING, 0, CONNECTION, &DRAIN_PING, &mut self.transmit.output);
    }

    /// The second phase of a drain.
    pub(super) fn finish_drain(&mut self) {
        if self.drain != Drain::Final {
            self.drain = Drain::Final;
            self.drained_last = self.last;
            let error = ConnectionError::new(ErrorCode::NoError, "");
            frame::write_goaway(self.last, error, &mut self.transmit.output);
        }
    }

    /// Write what is left, then close.
    pub fn is_finished(&self) -> bool {
        self.is_over() || (self.drain == Drain::Final && self.stream_count() == 0)
    }

    /// Close at once: the peer takes nothing or answers nothing.
    pub fn is_broken(&self) -> bool {
        self.stage == Stage::Broken
    }

    pub(super) fn is_over(&self) -> bool {
        matches!(self.stage, Stage::Finished | Stage::Broken)
    }

    /// Streams open, lingering ones counted.
    pub fn stream_count(&self) -> usize {
        self.transmit.streams.count()
    }

    /// Bytes held of messages that are unfinished or wait for room.
    pub fn held_bytes(&self) -> usize {
        self.transmit.receive_window.held_bytes() as usize
    }

    /// Tells the peer why, and ends.
    pub(super) fn fail(&mut self, error: ConnectionError, app: &mut impl Application) {
        if self.is_over() {
            return;
        }
        if self.stage != Stage::Preface {
            let is_drained = self.drain == Drain::Final;
            let last = if is_drained { self.drained_last } else { self.last };
            frame::write_goaway(last, error, &mut self.transmit.output);
        }
        self.stage = Stage::Finished;
        self.closed(app);
    }

    /// The transport is gone: every unfinished stream hears `gone`, reservations are given back.
    pub fn closed(&mut self, app: &mut impl Application) {
        if !self.is_over() {
            self.stage = Stage::Broken;
        }
        for slot in self.transmit.streams.in_order() {
            let stream = &self.transmit.streams[slot];
            if stream.audience == Audience::Open {
                app.gone(stream.id, stream.method);
            }
            self.transmit.detach(slot);
            self.transmit.streams.remove(slot);
        }
        let window_bytes = std::mem::take(&mut self.window_reserved_bytes);
        let release_bytes = std::mem::take(&mut self.transmit.release_due_bytes) + window_bytes;
        if 0 < release_bytes {
            app.release_input(release_bytes);
        }
        assert!(self.held_bytes() == 0 && self.transmit.pending_bytes_total() == 0);
    }

    /// Whether a stream carries gRPC messages that its application still wants.
    pub(super) fn is_call_open(&self, slot: usize) -> bool {
        let stream = &self.transmit.streams[slot];
        stream.audience == Audience::Open && stream.exchange == Exchange::Call
    }
}

/// A connection error of the most common code.
pub(super) fn protocol_error(text: &'static str) -> Outcome {
    Err(ConnectionError::new(ErrorCode::Protocol, text))
}

pub(super) fn check_size(payload: &[u8], size_bytes: usize) -> Outcome {
    if payload.len() == size_bytes {
        return Ok(());
    }
    Err(ConnectionError::new(ErrorCode::FrameSize, "a frame of the wrong size"))
}

/// The payload of HEADERS or DATA without its padding.
pub(super) fn check_padding(header: FrameHeader, payload: &[u8]) -> Result<&[u8], ConnectionError> {
    if !header.has(flag::PADDED) {
        return Ok(payload);
    }
    let cut_short = ConnectionError::new(ErrorCode::FrameSize, "padding cut short");
    let (&padding, rest) = payload.split_first().ok_or(cut_short)?;
    let too_long = ConnectionError::new(ErrorCode::Protocol, "padding longer than the frame");
    let size_bytes = rest.len().checked_sub(usize::from(padding)).ok_or(too_long)?;
    Ok(&rest[..size_bytes])
}
