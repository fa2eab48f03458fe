//! A gRPC client's connection: HTTP/2 streams to calls, answers to streams.
//!
//! Invariants: a unary stream gets one answer; answers on a keep-alive stream keep the order of
//! its requests; what a watch stream was sent is credited to the replica once the connection has
//! room for more; a stream that ends is told to the replica.

use std::collections::BTreeMap;

use net::etcd::encode::{AnswerPieces, Responder};
use net::etcd::method::{Kind, Method};
use net::etcd::status::{self, Code, Status};
use net::grpc::Metadata;
use net::http2::{Application, Connection, InputPurpose, Limits, StreamId, Transmit, Work};

use super::probe::{self, HttpReply, Probe};
use super::{Context, grpc_answer, grpc_request};
use crate::input::ConnectionId;
use crate::message::{Answer, Call, WatchBatch, WatchDelivery, WatchNotice};
use crate::metrics::Scalar;

/// Credit of a watch stream is given back in portions of at least this many bytes.
const CREDIT_PORTION_BYTES: usize = 32 << 10;

/// A gRPC session.
pub(super) struct GrpcSession {
    connection: Connection,
    streams: Streams,
}

/// Streams on which something runs.
pub(super) type Streams = BTreeMap<u32, Stream>;

/// A stream on which something runs.
pub(super) struct Stream {
    /// `None` is a plain HTTP request.
    pub method: Option<Method>,
    pub probe: Option<Probe>,
    /// The caller's deadline.
    deadline_us: Option<u64>,
    /// The call needs a leader as long as it runs.
    has_leader: bool,
    /// Answers owed on a keep-alive stream.
    pub owed: u32,
    is_half_closed: bool,
    /// Bytes of events taken and not credited yet.
    pub uncredited_bytes: usize,
    /// What is left of a big answer: it is sent to its end, whatever becomes of deadlines and
    /// leaders meanwhile.
    pub rest: Option<Box<AnswerPieces>>,
    /// The peer has gone; the stream lingers until its answer comes.
    is_gone: bool,
}

impl Stream {
    fn new(method: Option<Method>, metadata: &Metadata<'_>, now_us: u64) -> Stream {
        Stream {
            method,
            probe: None,
            deadline_us: metadata.timeout_us.map(|timeout_us| now_us.saturating_add(timeout_us)),
            has_leader: metadata.has_leader,
            owed: 0,
            is_half_closed: false,
            uncredited_bytes: 0,
            rest: None,
            is_gone: false,
        }
    }
}

impl Stream {
    /// Whether the call ends when there is no leader.
    fn is_needy(&self) -> bool {
        self.has_leader && self.rest.is_none()
    }
}

impl GrpcSession {
    pub fn new(context: &Context) -> GrpcSession {
        let limits = Limits {
            message_size_bytes_max: context.config.max_request_bytes + MESSAGE_SLACK_BYTES,
            ..Limits::default()
        };
        GrpcSession { connection: Connection::new(limits), streams: Streams::new() }
    }

    pub fn feed(&mut self, connection: ConnectionId, bytes: &[u8], context: &mut Context) {
        let GrpcSession { connection: http2, streams } = self;
        http2.feed(bytes, &mut Program { connection, streams, context });
    }

    /// Bytes to send; after them the connection may frame more.
    pub fn take_output(&mut self, connection: ConnectionId, context: &mut Context) -> Vec<u8> {
        let bytes = std::mem::take(self.connection.output());
        if !bytes.is_empty() {
            let GrpcSession { connection: http2, streams } = self;
            http2.flushed(&mut Program { connection, streams, context });
        }
        bytes
    }

    pub fn tick(&mut self, connection: ConnectionId, context: &mut Context) {
        let now_ms = context.now_us / 1_000;
        let GrpcSession { connection: http2, streams } = self;
        http2.tick(now_ms, &mut Program { connection, streams, context });
        let late: Vec<_> = self
            .streams
            .iter()
            .filter(|(_, stream)| stream.rest.is_none())
            .filter(|(_, stream)| stream.deadline_us.is_some_and(|at_us| at_us <= context.now_us))
            .map(|(id, _)| *id)
            .collect();
        for id in late {
            self.cut(connection, id, &DEADLINE_EXCEEDED, context);
        }
        if context.is_leader_lost() {
            let needy: Vec<_> =
                self.streams.iter().filter(|(_, stream)| stream.is_needy()).collect();
            let ids: Vec<_> = needy.into_iter().map(|(id, _)| *id).collect();
            for id in ids {
                self.cut(connection, id, &status::NO_LEADER, context);
            }
        }
    }

    /// Ends a stream from our side.
    fn cut(&mut self, connection: ConnectionId, id: u32, status: &Status, context: &mut Context) {
        let Some(stream) = self.streams.remove(&id) else { return };
        end_at_replica(connection, id, &stream, context);
        finish(self.connection.transmit(), id, &stream, status, context);
    }

    pub fn wants_input(&self) -> bool {
        self.connection.wants_input()
    }

    pub fn is_finished(&self) -> bool {
        self.connection.is_finished() || self.connection.is_broken()
    }

    pub fn drain(&mut self) {
        self.connection.drain();
    }

    pub fn end_streams(&mut self, context: &mut Context) {
        for (id, stream) in std::mem::take(&mut self.streams) {
            if stream.rest.is_some() {
                // No status can stand in the middle of an answer: the connection's end is its own.
                continue;
            }
            let status = match stream.method {
                Some(Method::Watch) => &status::WATCH_CANCELED,
                _ => &status::STOPPED,
            };
            finish(self.connection.transmit(), id, &stream, status, context);
        }
    }

    pub fn on_closed(&mut self, connection: ConnectionId, context: &mut Context) {
        let GrpcSession { connection: http2, streams } = self;
        http2.closed(&mut Program { connection, streams, context });
        for (id, stream) in std::mem::take(streams) {
            end_at_replica(connection, id, &stream, context);
        }
    }

    pub fn on_answer(&mut self, answer: Answer, context: &mut Context) {
        let id = answer.origin.stream as u32;
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let transmit = self.connection.transmit();
        let is_over = grpc_answer::send(transmit, id, stream, answer, context);
        if is_over || (stream.is_half_closed && stream.owed == 0 && is_keep_alive(stream)) {
            let stream = self.streams.remove(&id).expect("just found");
            if !is_over {
                finish(self.connection.transmit(), id, &stream, &OK, context);
            }
        }
    }

    pub fn on_events(
        &mut self,
        id: u64,
        batch: &WatchBatch,
        delivery: &WatchDelivery,
        context: &mut Context,
    ) {
        let Some(stream) = self.streams.get_mut(&(id as u32)) else { return };
        let transmit = self.connection.transmit();
        grpc_answer::send_events(transmit, id as u32, batch, delivery, context);
        stream.uncredited_bytes += delivery.size_bytes;
        let is_congested = transmit.congested(StreamId(id as u32));
        if !is_congested && CREDIT_PORTION_BYTES <= stream.uncredited_bytes {
            credit(delivery.origin.connection, id as u32, stream, context);
        }
    }

    pub fn on_notice(&mut self, notice: &WatchNotice, context: &mut Context) {
        let id = notice.origin.stream as u32;
        if self.streams.contains_key(&id) {
            grpc_answer::send_notice(self.connection.transmit(), id, notice, context);
        }
    }

    /// Metrics go to the streams that asked for them.
    pub fn on_metrics(&mut self, text: Vec<u8>) {
        let asked: Vec<_> = self
            .streams
            .iter()
            .filter(|(_, stream)| stream.probe == Some(Probe::Metrics))
            .map(|(id, _)| *id)
            .collect();
        let reply = probe::metrics_reply(text);
        for id in asked {
            self.streams.remove(&id);
            respond(self.connection.transmit(), id, &reply);
        }
    }
}

/// What the message limit adds to the request limit: etcd's 512 KiB.
const MESSAGE_SLACK_BYTES: usize = 512 << 10;
const OK: Status = Status::fixed(Code::Ok, "");
const DEADLINE_EXCEEDED: Status =
    Status::fixed(Code::DeadlineExceeded, "context deadline exceeded");

fn is_keep_alive(stream: &Stream) -> bool {
    stream.method == Some(Method::LeaseKeepAlive)
}

/// Ends a call with a status and counts it.
pub(super) fn finish(
    transmit: &mut Transmit,
    id: u32,
    stream: &Stream,
    status: &Status,
    context: &mut Context,
) {
    if let Some(method) = stream.method {
        context.metrics.grpc_handled(method.id() as usize - 1, status.code as u32);
    }
    transmit.finish(StreamId(id), status.code as u32, &status.message);
}

pub(super) fn respond(transmit: &mut Transmit, id: u32, reply: &HttpReply) {
    transmit.respond(StreamId(id), reply.status, reply.content_type, &reply.body);
}

/// Who answers, as headers say.
pub(super) fn responder(context: &Context, raft_term: u64) -> Responder {
    let (cluster_id, member_id) = (context.config.cluster_id, context.config.member_id);
    Responder { cluster_id, member_id, raft_term }
}

fn credit(connection: ConnectionId, id: u32, stream: &mut Stream, context: &mut Context) {
    let size_bytes = std::mem::take(&mut stream.uncredited_bytes);
    if 0 < size_bytes {
        context.call(connection, u64::from(id), Call::WatchCredit { size_bytes });
    }
}

/// A stream is over on our side: the replica is told what it holds for it.
fn end_at_replica(connection: ConnectionId, id: u32, stream: &Stream, context: &mut Context) {
    match stream.method {
        Some(Method::Watch) => {
            context.metrics.subtract(Scalar::WatchStreams, 1);
            context.call(connection, u64::from(id), Call::WatchStreamClosed);
        }
        Some(Method::Range | Method::Txn | Method::HashKv | Method::RangeStream) => {
            context.call(connection, u64::from(id), Call::Abandon);
        }
        _ => {}
    }
}

/// The program behind one connection, for the time of one call into it.
struct Program<'a> {
    connection: ConnectionId,
    streams: &'a mut Streams,
    context: &'a mut Context,
}

impl Program<'_> {
    /// Ends a call at once.
    fn refuse(&mut self, transmit: &mut Transmit, id: StreamId, status: &Status) {
        if let Some(stream) = self.streams.remove(&id.0) {
            end_at_replica(self.connection, id.0, &stream, self.context);
            finish(transmit, id.0, &stream, status, self.context);
        }
    }
}

impl Application for Program<'_> {
    fn route(&mut self, path: &[u8]) -> u32 {
        Method::from_path(path).map_or(0, Method::id)
    }

    fn has_service(&mut self, service: &[u8]) -> bool {
        Method::ALL.iter().any(|method| method.service().as_bytes() == service)
    }

    fn open(
        &mut self,
        transmit: &mut Transmit,
        id: StreamId,
        method: u32,
        metadata: &Metadata<'_>,
    ) {
        let method = Method::from_id(method).expect("the number came from route");
        self.context.metrics.grpc_started(method.id() as usize - 1);
        let stream = Stream::new(Some(method), metadata, self.context.now_us);
        let known = self.streams.insert(id.0, stream);
        assert!(known.is_none(), "stream ids are not used twice");
        if method == Method::Watch {
            self.context.metrics.add(Scalar::WatchStreams, 1);
        }
        if metadata.has_leader && !self.context.has_leader {
            self.refuse(transmit, id, &status::NO_LEADER);
        } else if self.context.is_stopping {
            self.refuse(transmit, id, &status::STOPPED);
        }
    }

    fn message(&mut self, transmit: &mut Transmit, id: StreamId, method: u32, body: &[u8]) {
        let method = Method::from_id(method).expect("the number came from route");
        self.context.metrics.grpc_received(method.id() as usize - 1);
        let Some(stream) = self.streams.get_mut(&id.0).filter(|stream| stream.rest.is_none())
        else {
            return;
        };
        if method.kind() != Kind::BidiStream && 0 < stream.owed {
            return self.refuse(transmit, id, &SECOND_MESSAGE);
        }
        stream.owed += 1;
        let made = grpc_request::call_of(method, body, self.context);
        match made {
            Ok(grpc_request::Made::Call(call)) => {
                self.context.call(self.connection, u64::from(id.0), call);
            }
            Ok(grpc_request::Made::Answer(bytes)) => {
                let Some(stream) = self.streams.remove(&id.0) else { return };
                self.context.metrics.grpc_sent(method.id() as usize - 1);
                transmit.send(id, |out| out.extend_from_slice(&bytes));
                finish(transmit, id.0, &stream, &OK, self.context);
            }
            Ok(grpc_request::Made::Stay(bytes)) => {
                self.context.metrics.grpc_sent(method.id() as usize - 1);
                transmit.send(id, |out| out.extend_from_slice(&bytes));
            }
            Ok(grpc_request::Made::Nothing) => {}
            Err(status) => self.refuse(transmit, id, &status),
        }
    }

    fn half_close(&mut self, transmit: &mut Transmit, id: StreamId, _method: u32) {
        let Some(stream) = self.streams.get_mut(&id.0) else { return };
        stream.is_half_closed = true;
        if stream.rest.is_some() {
            return;
        }
        if stream.owed == 0 && stream.method != Some(Method::Watch) {
            let status = if is_keep_alive(stream) { OK } else { NO_MESSAGE };
            self.refuse(transmit, id, &status);
        }
    }

    fn gone(&mut self, id: StreamId, _method: u32) -> Work {
        let Some(stream) = self.streams.get_mut(&id.0) else { return Work::Cancelled };
        let is_write = matches!(
            stream.method,
            Some(Method::Put | Method::DeleteRange | Method::Txn | Method::Compact)
        );
        if is_write && 0 < stream.owed {
            stream.is_gone = true;
            return Work::Lingers;
        }
        let stream = self.streams.remove(&id.0).expect("just found");
        end_at_replica(self.connection, id.0, &stream, self.context);
        if let Some(method) = stream.method {
            let canceled = Code::Canceled as u32;
            self.context.metrics.grpc_handled(method.id() as usize - 1, canceled);
        }
        Work::Cancelled
    }

    fn writable(&mut self, transmit: &mut Transmit, id: StreamId, _method: u32) {
        let Some(stream) = self.streams.get_mut(&id.0) else { return };
        credit(self.connection, id.0, stream, self.context);
        if stream.rest.is_some() && grpc_answer::go_on(transmit, id.0, stream, self.context) {
            self.streams.remove(&id.0);
        }
    }

    fn http_request(&mut self, transmit: &mut Transmit, id: StreamId, verb: &[u8], path: &[u8]) {
        let probe = probe::parse(verb, path);
        let mut stream = Stream::new(None, &Metadata::default(), self.context.now_us);
        match &probe {
            Probe::Version => {
                let reply = probe::version_reply(&self.context.config.server_version);
                return respond(transmit, id.0, &reply);
            }
            Probe::Members | Probe::NotFound => {
                return respond(transmit, id.0, &probe::not_found_reply());
            }
            Probe::MethodNotAllowed => {
                return respond(transmit, id.0, &probe::method_not_allowed_reply());
            }
            Probe::Metrics => self.context.metrics_reads.push(self.connection.0),
            Probe::Health { .. } | Probe::Checks(_) => {
                let serializable = !probe.needs_linearizable_read();
                let call = Call::Health { serializable };
                self.context.call(self.connection, u64::from(id.0), call);
            }
        }
        stream.probe = Some(probe);
        self.streams.insert(id.0, stream);
    }

    fn reserve_input(&mut self, size_bytes: usize, _purpose: InputPurpose) -> bool {
        self.context.reserve_input(size_bytes)
    }

    fn release_input(&mut self, size_bytes: usize) {
        self.context.release_input(size_bytes);
    }
}

const SECOND_MESSAGE: Status =
    Status::fixed(Code::Internal, "grpc: a unary call has one request message");
const NO_MESSAGE: Status = Status::fixed(Code::Internal, "grpc: the request message is missing");
