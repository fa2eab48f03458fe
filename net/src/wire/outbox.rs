//! The server's mouth on one connection: answers, events and notices become frames in one output
//! buffer, and the accounts that bound them are kept here.
//!
//! Invariants: every request is answered exactly once (`in_flight` counts those that are not yet);
//! a watch's credit falls by what it sends and may be overdrawn by one message only, else an event
//! larger than the window could never be sent.

use super::frame::{begin_frame, end_frames};
use super::limits;
use super::opcode::Opcode;
use super::reader::push_text;
use super::reply::{Reply, ReplyHeader};
use super::watch::{WatchCanceled, encode_events};
use crate::etcd::status::{Status, from_reject};
use engine::api::{EventList, Response};
use std::collections::BTreeMap;

/// What became of events handed to a watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Delivery {
    /// They are in the output; so much credit is left, below 1 nothing more can be sent.
    Sent {
        /// Bytes; may be negative.
        credit_bytes: i64,
    },
    /// Nothing was sent: the watch has no credit, or there is no such watch any more.
    NoCredit,
    /// Nothing was sent: too much output pends on the connection.
    Congested,
}

/// See the file's head.
#[derive(Debug)]
pub struct Outbox {
    output: Vec<u8>,
    chunk_size_bytes: usize,
    in_flight: usize,
    in_flight_max: usize,
    watches: BTreeMap<u64, Watch>,
    watches_max: usize,
    request_id_last: u64,
    features: u64,
    /// Whether GOAWAY was sent; requests above `request_id_last` are not taken any more.
    going_away: bool,
    closed: bool,
}

#[derive(Debug)]
struct Watch {
    credit_bytes: i64,
    state: WatchState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WatchState {
    Requested,
    Created,
}

impl Outbox {
    pub(super) fn new(in_flight_max: usize, watches_max: usize) -> Outbox {
        assert!(0 < in_flight_max);
        Outbox {
            output: Vec::new(),
            chunk_size_bytes: limits::FRAME_SIZE_BYTES_MIN,
            in_flight: 0,
            in_flight_max,
            watches: BTreeMap::new(),
            watches_max,
            request_id_last: 0,
            features: 0,
            going_away: false,
            closed: false,
        }
    }

    /// Answers a request.
    pub fn reply(&mut self, request_id: u64, raft_term: u64, reply: Reply<'_>) {
        self.answered(request_id);
        assert!(reply.opcode().is_reply());
        self.send(reply.opcode(), request_id, |output| reply.encode(raft_term, output));
    }

    /// Answers a request with the answer of an applied command, or with the refusal in it.
    pub fn response(&mut self, request_id: u64, raft_term: u64, response: &Response) {
        match response {
            Response::Rejected { reject, .. } => self.error(request_id, &from_reject(*reject)),
            _ => {
                let reply = Reply::of(response).expect("only a client's commands are answered");
                self.reply(request_id, raft_term, reply);
            }
        }
    }

    /// Fails a request, or ends a watch that is open with an error: it is gone then.
    pub fn error(&mut self, request_id: u64, status: &Status) {
        let watch = self.watches.remove(&request_id);
        if watch.is_none_or(|watch| watch.state == WatchState::Requested) {
            self.answered(request_id);
        }
        self.push_error(request_id, status);
    }

    /// Answers a watch's creation: it is open. `header.revision` is the store's revision now.
    pub fn watch_created(&mut self, watch_id: u64, header: ReplyHeader) {
        self.answered(watch_id);
        let watch = self.watches.get_mut(&watch_id).expect("an unanswered watch is in the table");
        assert_eq!(watch.state, WatchState::Requested);
        watch.state = WatchState::Created;
        self.send(Opcode::WatchCreated, watch_id, |output| header.encode(output));
    }

    /// Sends events to a watch, all of them or none. Those of one revision must come together.
    pub fn watch_events(
        &mut self,
        watch_id: u64,
        header: ReplyHeader,
        events: &EventList,
    ) -> Delivery {
        assert!(!events.is_empty());
        let Some(watch) = self.watches.get_mut(&watch_id) else {
            return Delivery::NoCredit;
        };
        assert_eq!(watch.state, WatchState::Created);
        if watch.credit_bytes <= 0 {
            return Delivery::NoCredit;
        }
        if limits::OUTPUT_PENDING_BYTES_MAX <= self.output.len() {
            return Delivery::Congested;
        }
        watch.credit_bytes -= events_cost_bytes(events);
        let credit_bytes = watch.credit_bytes;
        self.send(Opcode::WatchEvents, watch_id, |output| encode_events(header, events, output));
        Delivery::Sent { credit_bytes }
    }

    /// Tells a watch that everything up to `header.revision` was delivered before this. Costs no
    /// credit: it bounds itself, since the client asks for it or time passes between two.
    pub fn watch_progress(&mut self, watch_id: u64, header: ReplyHeader) {
        if !self.watches.contains_key(&watch_id) {
            return;
        }
        self.send(Opcode::WatchProgressed, watch_id, |output| header.encode(output));
    }

    /// Ends a watch: by the client's wish (no reason), by compaction, or because it cannot be
    /// created (etcd's text). Does nothing if there is no such watch.
    pub fn watch_canceled(
        &mut self,
        watch_id: u64,
        header: ReplyHeader,
        canceled: WatchCanceled<'_>,
    ) {
        let Some(watch) = self.watches.remove(&watch_id) else {
            return;
        };
        if watch.state == WatchState::Requested {
            self.answered(watch_id);
        }
        self.send(Opcode::WatchCanceled, watch_id, |output| canceled.encode(header, output));
    }

    /// Credit of a watch in bytes, or `None` if it is over.
    pub fn watch_credit_bytes(&self, watch_id: u64) -> Option<i64> {
        self.watches.get(&watch_id).map(|watch| watch.credit_bytes)
    }

    /// The ids of all watches, in order: to end them when the connection does.
    pub fn watch_ids(&self) -> impl Iterator<Item = u64> + '_ {
        self.watches.keys().copied()
    }

    /// Asks the client to move to a new connection, to `endpoint` or, if that is empty, to where
    /// it connected before. A client that does not know hints is left alone.
    pub fn reconnect(&mut self, endpoint: &str) {
        if self.features & super::hello::FEATURE_RECONNECT == 0 {
            return;
        }
        self.send(Opcode::Reconnect, 0, |output| push_text(output, endpoint));
    }

    /// Announces the end: what came so far is answered, requests from now on are dropped, and the
    /// client knows that these were not executed. The connection may be closed once
    /// [`Outbox::is_idle`].
    pub fn go_away(&mut self, status: &Status) {
        if self.going_away {
            return;
        }
        self.going_away = true;
        let request_id_last = self.request_id_last;
        self.send(Opcode::GoAway, 0, |output| {
            output.extend_from_slice(&request_id_last.to_le_bytes());
            output.extend_from_slice(&(status.code as u32).to_le_bytes());
            push_text(output, &status.message);
        });
    }

    /// Whether no request waits for its answer and no watch is open.
    pub fn is_idle(&self) -> bool {
        self.in_flight == 0 && self.watches.is_empty()
    }

    /// Requests without an answer so far.
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Whether no request may be taken now: too many wait for their answer or too much output
    /// waits for the socket. Output that was not taken counts, so take only what the socket has
    /// room for.
    pub fn congested(&self) -> bool {
        self.in_flight_max <= self.in_flight
            || limits::OUTPUT_PENDING_BYTES_MAX <= self.output.len()
    }

    /// What is to be sent.
    pub fn output(&self) -> &[u8] {
        &self.output
    }

    /// Takes what is to be sent and leaves `empty` in its place, whose memory is used again.
    #[must_use]
    pub fn take_output(&mut self, empty: Vec<u8>) -> Vec<u8> {
        assert!(empty.is_empty());
        std::mem::replace(&mut self.output, empty)
    }

    fn push_error(&mut self, request_id: u64, status: &Status) {
        self.send(Opcode::Error, request_id, |output| {
            output.extend_from_slice(&(status.code as u32).to_le_bytes());
            push_text(output, &status.message);
        });
    }

    pub(super) fn push_hello(
        &mut self,
        features: u64,
        frame_size_bytes_max: usize,
        encode: impl FnOnce(&mut Vec<u8>),
    ) {
        assert!(limits::FRAME_SIZE_BYTES_MIN <= frame_size_bytes_max);
        self.features = features;
        self.chunk_size_bytes = frame_size_bytes_max.min(limits::CHUNK_SIZE_BYTES);
        self.send(Opcode::HelloReply, 0, encode);
    }

    pub(super) fn push_pong(&mut self, request_id: u64) {
        self.answered(request_id);
        self.send(Opcode::PingReply, request_id, |output| ReplyHeader::default().encode(output));
    }

    pub(super) fn request_id_last(&self) -> u64 {
        self.request_id_last
    }

    pub(super) fn is_going_away(&self) -> bool {
        self.going_away
    }

    /// Counts a request in.
    pub(super) fn opened(&mut self, request_id: u64) {
        assert!(self.request_id_last < request_id);
        assert!(!self.going_away);
        self.request_id_last = request_id;
        self.in_flight += 1;
    }

    /// Enters a watch; false if there are too many.
    pub(super) fn maybe_open_watch(&mut self, watch_id: u64, credit_bytes: i64) -> bool {
        if self.watches_max <= self.watches.len() {
            return false;
        }
        let watch = Watch { credit_bytes, state: WatchState::Requested };
        let before = self.watches.insert(watch_id, watch);
        assert!(before.is_none());
        true
    }

    /// Adds credit to a watch; what it has now, or `None` if it is over.
    pub(super) fn add_credit(&mut self, watch_id: u64, credit_bytes: i64) -> Option<i64> {
        assert!(0 <= credit_bytes);
        let watch = self.watches.get_mut(&watch_id)?;
        let sum = watch.credit_bytes.saturating_add(credit_bytes);
        watch.credit_bytes = sum.min(limits::WATCH_CREDIT_BYTES_MAX);
        Some(watch.credit_bytes)
    }

    /// The last word on the connection; what is still answered afterwards is not sent.
    pub(super) fn close(&mut self, status: &Status) {
        self.push_error(0, status);
        self.closed = true;
    }

    fn send(&mut self, opcode: Opcode, request_id: u64, encode: impl FnOnce(&mut Vec<u8>)) {
        if self.closed {
            return;
        }
        self.output.reserve(MESSAGE_SIZE_BYTES_EXPECTED);
        let start = begin_frame(&mut self.output);
        encode(&mut self.output);
        end_frames(&mut self.output, start, opcode, request_id, self.chunk_size_bytes);
    }

    fn answered(&mut self, request_id: u64) {
        assert!(0 < self.in_flight);
        assert!(0 < request_id && request_id <= self.request_id_last);
        self.in_flight -= 1;
    }
}

/// Room for the frame of a short answer: most are, and their buffer grows once only.
const MESSAGE_SIZE_BYTES_EXPECTED: usize = 128;

/// What a message of events costs: their packed bytes. Both sides reckon with it, frames and
/// headers are free.
pub fn events_cost_bytes(events: &EventList) -> i64 {
    i64::try_from(events.size_bytes()).expect("memory is smaller than 2^63 bytes")
}
