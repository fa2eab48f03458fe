//! DATA into gRPC messages, and messages to the application.
//!
//! Invariants: a message that came whole in one frame is handed over where it lies; the bytes of
//! every other wait in their stream, counted as held in both windows; messages of a stream are
//! handed over in order, and none while the answers to earlier ones fill the pending bytes.
//! Source: RFC 9113 sections 5.2 and 6.1; gRPC over HTTP/2, "Length-Prefixed-Message"; grpc-go's
//! texts; runtime page, "Memory and back pressure".

use super::StreamId;
use super::application::{Application, InputPurpose, Work};
use super::connection::{CONNECTION, Connection, Outcome, check_padding, protocol_error};
use super::frame::{self, ConnectionError, ErrorCode, FrameHeader, flag};
use super::limits::{COST_CHEAP, COST_DATA_EMPTY, DATA_SIZE_BYTES_SMALL};
use super::stream::{Audience, Encoding, Exchange};
use crate::grpc::compression::{self, InflateError};
use crate::grpc::framing::{PREFIX_SIZE_BYTES, Prefix, decode_prefix};
use crate::grpc::status;

impl Connection {
    pub(super) fn on_data(
        &mut self,
        header: FrameHeader,
        payload: &[u8],
        app: &mut impl Application,
    ) -> Outcome {
        if header.stream == CONNECTION || self.last < header.stream {
            return protocol_error("DATA of an idle stream");
        }
        // Padding counts, and so does what nobody reads: else the connection would starve.
        if !self.transmit.receive_window.consume(payload.len() as i64) {
            let text = "more DATA than the connection's window";
            return Err(ConnectionError::new(ErrorCode::FlowControl, text));
        }
        let data = check_padding(header, payload)?;
        let ends = header.has(flag::END_STREAM);
        if data.is_empty() && !ends {
            self.transmit.budget.spend(COST_DATA_EMPTY)?;
        }
        match self.transmit.streams.find(header.stream) {
            Some(slot) => self.on_stream_data(slot, payload.len(), data, ends, app)?,
            None if data.len() < DATA_SIZE_BYTES_SMALL => {
                self.transmit.budget.spend(COST_CHEAP)?;
            }
            None => {}
        }
        self.credit_connection(app);
        Ok(())
    }

    fn on_stream_data(
        &mut self,
        slot: usize,
        payload_size_bytes: usize,
        data: &[u8],
        ends: bool,
        app: &mut impl Application,
    ) -> Outcome {
        let stream = &mut self.transmit.streams[slot];
        if stream.peer_closed {
            // One that lingers was reset: what was under way then is no fault.
            let lingers = stream.lingers;
            return if lingers { Ok(()) } else { self.reset(slot, ErrorCode::StreamClosed, app) };
        }
        if !stream.receive_window.consume(payload_size_bytes as i64) {
            return self.reset(slot, ErrorCode::FlowControl, app);
        }
        stream.peer_closed = ends;
        if !self.is_call_open(slot) {
            self.transmit.maybe_stop_upload(slot);
            self.transmit.maybe_remove(slot);
            return Ok(());
        }
        let id = self.transmit.streams[slot].id;
        self.deliver(slot, data, app)?;
        let Some(slot) = self.transmit.open_slot(id) else { return Ok(()) };
        if ends {
            return self.on_peer_end(slot, app);
        }
        self.credit_stream(slot);
        Ok(())
    }

    /// Hands over the messages that `data` completes and keeps what is left of it.
    fn deliver(&mut self, slot: usize, data: &[u8], app: &mut impl Application) -> Outcome {
        let id = self.transmit.streams[slot].id;
        if self.transmit.streams[slot].message.is_empty() {
            let used = self.run_messages(id, data, app)?;
            return self.keep(id, &data[used..]);
        }
        self.keep(id, data)?;
        self.deliver_kept(id, app)
    }

    /// Hands over the messages that are whole in what a stream kept.
    fn deliver_kept(&mut self, id: StreamId, app: &mut impl Application) -> Outcome {
        let Some(slot) = self.transmit.open_slot(id) else { return Ok(()) };
        let stream = &self.transmit.streams[slot];
        if stream.held_back || !self.is_ready(&stream.message) {
            return Ok(());
        }
        let mut message = self.transmit.take_message(slot);
        let used = self.run_messages(id, &message, app)?;
        let Some(slot) = self.transmit.open_slot(id) else { return Ok(()) };
        if used < message.len() {
            return self.keep(id, &message[used..]);
        }
        message.clear();
        self.transmit.streams[slot].recycle_message(message);
        Ok(())
    }

    /// Whether `kept` begins with a message that can be handed over, or refused.
    fn is_ready(&self, kept: &[u8]) -> bool {
        let Some(prefix) = decode_prefix(kept) else { return false };
        PREFIX_SIZE_BYTES + prefix.size_bytes <= kept.len()
            || 1 < prefix.flag
            || self.transmit.limits.message_size_bytes_max < prefix.size_bytes
    }

    /// Keeps the bytes of a message that is unfinished or has to wait.
    fn keep(&mut self, id: StreamId, data: &[u8]) -> Outcome {
        let Some(slot) = self.transmit.open_slot(id) else { return Ok(()) };
        if data.is_empty() {
            return Ok(());
        }
        let stream = &mut self.transmit.streams[slot];
        let is_granted = 0 < stream.reserved_bytes;
        if is_granted && stream.message.capacity() < stream.reserved_bytes {
            stream.message.reserve_exact(stream.reserved_bytes - stream.message.len());
        }
        stream.message.extend_from_slice(data);
        if is_granted {
            stream.receive_window.hold_granted(data.len());
            self.transmit.receive_window.hold_granted(data.len());
        } else {
            stream.receive_window.hold(data.len());
            self.transmit.receive_window.hold(data.len());
        }
        self.clock.on_message_bytes(data.len());
        self.maybe_want_grant(slot);
        if data.len() < DATA_SIZE_BYTES_SMALL {
            return self.transmit.budget.spend(COST_CHEAP);
        }
        Ok(())
    }

    /// An unfinished message that strains a window asks the core for a grant of its whole size.
    fn maybe_want_grant(&mut self, slot: usize) {
        let is_strained = self.transmit.receive_window.is_strained();
        let stream = &mut self.transmit.streams[slot];
        let wants = is_strained || stream.receive_window.is_strained();
        let is_waiting = stream.wants_grant || stream.held_back || 0 < stream.reserved_bytes;
        if wants && !is_waiting && PREFIX_SIZE_BYTES <= stream.message.len() {
            stream.wants_grant = true;
            self.transmit.wanting.push_back(stream.id);
        }
    }

    /// Asks the core for grants, first come first served, until it refuses one.
    pub(super) fn ask_for_grants(&mut self, app: &mut impl Application) {
        while let Some(&id) = self.transmit.wanting.front() {
            let slot = self.transmit.streams.find(id).expect("a stream that goes leaves the list");
            let stream = &mut self.transmit.streams[slot];
            let prefix = decode_prefix(&stream.message).expect("it wanted a grant");
            let size_bytes = PREFIX_SIZE_BYTES + prefix.size_bytes;
            if !app.reserve_input(size_bytes, InputPurpose::Message) {
                return self.shed_ungranted(app);
            }
            self.transmit.wanting.pop_front();
            stream.wants_grant = false;
            stream.reserved_bytes = size_bytes;
            let held_bytes = stream.message.len();
            stream.receive_window.grant(size_bytes, held_bytes);
            self.transmit.receive_window.grant(size_bytes, held_bytes);
            self.clock.on_progress();
            self.credit_stream(slot);
            self.write_credit();
        }
    }

    /// Messages without a grant must not use up the window of one that has it, or neither would
    /// ever end: the youngest streams among them are refused, which their clients may retry.
    fn shed_ungranted(&mut self, app: &mut impl Application) {
        while self.transmit.receive_window.is_blocked() {
            let Some(&id) = self.transmit.wanting.back() else { return };
            let slot = self.transmit.streams.find(id).expect("a stream that goes leaves the list");
            frame::write_reset(id, ErrorCode::RefusedStream, &mut self.transmit.output);
            self.discard(slot, app);
            self.write_credit();
        }
    }

    fn credit_stream(&mut self, slot: usize) {
        let stream = &mut self.transmit.streams[slot];
        if stream.peer_closed {
            return;
        }
        let credit_bytes = stream.receive_window.take_credit();
        if 0 < credit_bytes {
            frame::write_window_update(stream.id, credit_bytes, &mut self.transmit.output);
        }
    }

    /// Hands over the whole messages at the front of `bytes`; returns how much they were. All of
    /// it once the stream is over.
    fn run_messages(
        &mut self,
        id: StreamId,
        bytes: &[u8],
        app: &mut impl Application,
    ) -> Result<usize, ConnectionError> {
        let mut used = 0;
        while let Some(prefix) = decode_prefix(&bytes[used..]) {
            let Some(slot) = self.transmit.open_slot(id) else { return Ok(bytes.len()) };
            if let Some((status, text)) = self.fault_of(slot, prefix) {
                self.fail_call(slot, status, &text, app);
                return Ok(bytes.len());
            }
            let begin = used + PREFIX_SIZE_BYTES;
            let Some(body) = bytes.get(begin..begin + prefix.size_bytes) else { break };
            if self.transmit.is_full() {
                self.hold_back(slot);
                break;
            }
            self.clock.on_progress();
            let method = self.transmit.streams[slot].method;
            used = begin + prefix.size_bytes;
            if prefix.flag == 0 {
                app.message(&mut self.transmit, id, method, body);
            } else if !self.run_compressed(slot, body, app) {
                return Ok(bytes.len());
            }
        }
        Ok(used)
    }

    fn run_compressed(&mut self, slot: usize, body: &[u8], app: &mut impl Application) -> bool {
        let size_bytes_max = self.transmit.limits.message_size_bytes_max;
        let stream = &self.transmit.streams[slot];
        let (id, method) = (stream.id, stream.method);
        let error = match compression::inflate_gzip(body, size_bytes_max) {
            Ok(plain) => {
                app.message(&mut self.transmit, id, method, &plain);
                return true;
            }
            Err(error) => error,
        };
        let (status, text) = match error {
            InflateError::TooLarge => (
                status::RESOURCE_EXHAUSTED,
                format!(
                    "grpc: received message after decompression larger than max {size_bytes_max}"
                ),
            ),
            InflateError::Malformed(fault) => (
                status::INTERNAL,
                format!("grpc: failed to decompress the received message: {fault}"),
            ),
        };
        self.fail_call(slot, status, &text, app);
        false
    }

    /// What is wrong with a message by its prefix alone.
    fn fault_of(&self, slot: usize, prefix: Prefix) -> Option<(u32, String)> {
        let size_bytes_max = self.transmit.limits.message_size_bytes_max;
        let is_gzip = self.transmit.streams[slot].encoding == Encoding::Gzip;
        if 1 < prefix.flag {
            let text = format!("grpc: received unexpected payload format {}", prefix.flag);
            return Some((status::INTERNAL, text));
        }
        if size_bytes_max < prefix.size_bytes {
            let text = format!(
                "grpc: received message larger than max ({} vs. {size_bytes_max})",
                prefix.size_bytes
            );
            return Some((status::RESOURCE_EXHAUSTED, text));
        }
        if prefix.flag == 1 && !is_gzip {
            let text = "grpc: compressed flag set with identity or empty encoding";
            return Some((status::INTERNAL, text.to_owned()));
        }
        None
    }

    /// The stream's messages wait until the peer has taken some of the answers.
    fn hold_back(&mut self, slot: usize) {
        let stream = &mut self.transmit.streams[slot];
        assert!(!stream.held_back);
        stream.held_back = true;
        self.transmit.held_back.push_back(stream.id);
    }

    /// Goes on with messages that waited for room, first come first served.
    pub(super) fn deliver_held_back(&mut self, app: &mut impl Application) -> Outcome {
        while !self.transmit.is_full() {
            let Some(id) = self.transmit.held_back.pop_front() else { return Ok(()) };
            let slot = self.transmit.streams.find(id).expect("a stream that goes leaves the list");
            self.transmit.streams[slot].held_back = false;
            self.deliver_kept(id, app)?;
            let Some(slot) = self.transmit.open_slot(id) else { continue };
            if self.transmit.streams[slot].peer_closed {
                self.on_peer_end(slot, app)?;
            } else {
                self.maybe_want_grant(slot);
                self.credit_stream(slot);
            }
            self.credit_connection(app);
        }
        Ok(())
    }

    /// The peer's END_STREAM, once everything before it has been handed over.
    pub(super) fn on_peer_end(&mut self, slot: usize, app: &mut impl Application) -> Outcome {
        let stream = &self.transmit.streams[slot];
        assert!(stream.peer_closed);
        if stream.audience == Audience::Over {
            self.transmit.maybe_remove(slot);
        } else if stream.exchange != Exchange::Call || stream.held_back {
            // A plain request is answered when it is answered; a held message comes first.
        } else if !stream.message.is_empty() {
            self.fail_call(slot, status::INTERNAL, "unexpected EOF", app);
        } else {
            let (id, method) = (stream.id, stream.method);
            app.half_close(&mut self.transmit, id, method);
        }
        Ok(())
    }

    /// Ends a call for a fault of its peer: the peer gets the status, the application `gone`.
    pub(super) fn fail_call(
        &mut self,
        slot: usize,
        status: u32,
        text: &str,
        app: &mut impl Application,
    ) {
        let stream = &mut self.transmit.streams[slot];
        assert!(stream.audience == Audience::Open);
        if 0 < stream.message_left_bytes {
            // Its answer is on its way in pieces, in the middle of which no status can stand.
            frame::write_reset(stream.id, ErrorCode::Internal, &mut self.transmit.output);
            return self.discard(slot, app);
        }
        stream.lingers = app.gone(stream.id, stream.method) == Work::Lingers;
        self.transmit.finish_open(slot, status, text);
    }
}
