//! The front of a core: its connections, from bytes to calls and from answers to bytes.
//!
//! Invariants: what a connection sends is handled in order; unsent bytes of a connection are
//! bounded, and beyond the bound nothing more is read from it; a session that is gone is told to
//! the replica, so that no watch outlives its stream.

mod admission;
mod binary;
mod context;
mod entries;
mod grpc;
mod grpc_answer;
mod grpc_request;
mod http;
mod probe;

use std::collections::{BTreeMap, VecDeque};

use net::etcd::status::{self, Code, Status};
use net::http1::{self, Protocol};

use crate::effect::{Effect, Effects};
use crate::input::{ConnectionId, Door};
use crate::limits::{SESSIONS_MAX, STEP_CALLS_MAX, UNSENT_BYTES_MAX};
use crate::message::{Answer, Message, Origin, Unavailable, WatchBatch, WatchNotice};
use crate::metrics::Scalar;
use binary::BinarySession;
pub(crate) use context::Context;
use grpc::GrpcSession;
use http::HttpSession;

/// A connection that has not said by then what it speaks is closed.
const SILENCE_US_MAX: u64 = 5_000_000;
/// The answer to bytes that are none of the protocols of the client port, a TLS hello above all.
const NOT_SPOKEN_HERE: &[u8] = b"HTTP/1.1 400 Bad Request\r\n\
    Content-Type: text/plain; charset=utf-8\r\nContent-Length: 61\r\nConnection: close\r\n\r\n\
    this port speaks gRPC and HTTP without TLS; these are others\n";
/// How often sessions are told the time.
const SESSION_TICK_US: u64 = 250_000;

/// All sessions of a core.
pub(crate) struct Front {
    /// Shared by the sessions.
    pub context: Context,
    sessions: BTreeMap<ConnectionId, Session>,
    /// Sessions that may have output.
    touched: Vec<ConnectionId>,
    /// Input beyond the step's budget.
    deferred: VecDeque<(ConnectionId, Vec<u8>)>,
    next_tick_us: u64,
}

struct Session {
    door: Door,
    opened_us: u64,
    dialect: Dialect,
    unsent_bytes: usize,
    is_touched: bool,
    is_paused: bool,
    is_closing: bool,
    is_close_sent: bool,
}

/// What a connection speaks.
enum Dialect {
    /// Too few bytes to tell.
    Unknown(Vec<u8>),
    /// Nothing that is spoken here: what is still to be said before the end.
    Refused(Vec<u8>),
    Grpc(Box<GrpcSession>),
    Http(Box<HttpSession>),
    Binary(Box<BinarySession>),
}

impl Front {
    /// No sessions yet.
    pub fn new(context: Context) -> Front {
        Front {
            context,
            sessions: BTreeMap::new(),
            touched: Vec::new(),
            deferred: VecDeque::new(),
            next_tick_us: 0,
        }
    }

    /// One connection more; beyond the bound it is closed at once.
    pub fn on_accepted(&mut self, connection: ConnectionId, door: Door) {
        let dialect = match door {
            Door::Binary => Dialect::Binary(Box::new(BinarySession::new(&self.context))),
            Door::Client | Door::Metrics | Door::Peer => Dialect::Unknown(Vec::new()),
        };
        let session = Session {
            door,
            opened_us: self.context.now_us,
            dialect,
            unsent_bytes: 0,
            is_touched: false,
            is_paused: false,
            is_closing: SESSIONS_MAX <= self.sessions.len() || self.context.is_stopping,
            is_close_sent: false,
        };
        let known = self.sessions.insert(connection, session);
        assert!(known.is_none(), "connection numbers are not used twice");
        self.context.metrics.add(Scalar::Connections, 1);
        self.touch(connection);
    }

    /// Bytes came. Beyond the step's budget they wait for the next one.
    pub fn on_received(&mut self, connection: ConnectionId, bytes: Vec<u8>, fx: &mut Effects) {
        if STEP_CALLS_MAX <= self.context.calls.len() || !self.deferred.is_empty() {
            self.deferred.push_back((connection, bytes));
            fx.step_again = true;
            return;
        }
        self.feed(connection, &bytes);
        fx.spent.push(bytes);
    }

    /// Input that an earlier step did not get to.
    pub fn run_deferred(&mut self, fx: &mut Effects) {
        while self.context.calls.len() < STEP_CALLS_MAX {
            let Some((connection, bytes)) = self.deferred.pop_front() else { return };
            self.feed(connection, &bytes);
            fx.spent.push(bytes);
        }
        if !self.deferred.is_empty() {
            fx.step_again = true;
        }
    }

    fn feed(&mut self, connection: ConnectionId, bytes: &[u8]) {
        let Some(session) = self.sessions.get_mut(&connection) else { return };
        if session.is_closing {
            return;
        }
        let received = match session.dialect {
            Dialect::Binary(_) => Scalar::BinaryReceivedBytes,
            _ => Scalar::GrpcReceivedBytes,
        };
        self.context.metrics.add(received, bytes.len() as u64);
        session.feed(connection, bytes, &mut self.context);
        self.touch(connection);
    }

    pub fn on_transmitted(&mut self, connection: ConnectionId, size_bytes: usize) {
        let Some(session) = self.sessions.get_mut(&connection) else { return };
        assert!(size_bytes <= session.unsent_bytes);
        session.unsent_bytes -= size_bytes;
        self.touch(connection);
    }

    pub fn on_closed(&mut self, connection: ConnectionId) {
        let Some(mut session) = self.sessions.remove(&connection) else { return };
        self.context.metrics.subtract(Scalar::Connections, 1);
        match &mut session.dialect {
            Dialect::Unknown(_) | Dialect::Refused(_) => {}
            Dialect::Grpc(grpc) => grpc.on_closed(connection, &mut self.context),
            Dialect::Http(_) => {}
            Dialect::Binary(binary) => binary.on_closed(connection, &mut self.context),
        }
    }

    /// An answer of a replica.
    pub fn on_message(&mut self, message: Message) {
        match message {
            Message::Answer(answer) => self.on_answer(answer),
            Message::Events(batch) => self.on_events(&batch),
            Message::Watch(notice) => self.on_notice(&notice),
            Message::Leader(news) => self.context.observe_leader(news),
            Message::Call(..) => unreachable!("calls go to replicas"),
        }
    }

    fn on_answer(&mut self, answer: Answer) {
        let connection = answer.origin.connection;
        let Some(session) = self.sessions.get_mut(&connection) else { return };
        self.context.raft_term = answer.raft_term;
        match &mut session.dialect {
            Dialect::Unknown(_) | Dialect::Refused(_) => {
                unreachable!("it has not asked anything")
            }
            Dialect::Grpc(grpc) => grpc.on_answer(answer, &mut self.context),
            Dialect::Http(http) => http.on_answer(answer, &mut self.context),
            Dialect::Binary(binary) => binary.on_answer(answer, &mut self.context),
        }
        self.touch(connection);
    }

    fn on_events(&mut self, batch: &WatchBatch) {
        for delivery in &batch.deliveries {
            let Origin { connection, stream, .. } = delivery.origin;
            let Some(session) = self.sessions.get_mut(&connection) else { continue };
            self.context.metrics.add(Scalar::Events, u64::from(delivery.slots_count));
            match &mut session.dialect {
                Dialect::Grpc(grpc) => grpc.on_events(stream, batch, delivery, &mut self.context),
                Dialect::Binary(binary) => {
                    binary.on_events(connection, stream, batch, delivery, &mut self.context);
                }
                Dialect::Unknown(_) | Dialect::Refused(_) | Dialect::Http(_) => {
                    unreachable!("they have no watches")
                }
            }
            self.touch(connection);
        }
    }

    fn on_notice(&mut self, notice: &WatchNotice) {
        let connection = notice.origin.connection;
        let Some(session) = self.sessions.get_mut(&connection) else { return };
        match &mut session.dialect {
            Dialect::Grpc(grpc) => grpc.on_notice(notice, &mut self.context),
            Dialect::Binary(binary) => binary.on_notice(notice, &mut self.context),
            Dialect::Unknown(_) | Dialect::Refused(_) | Dialect::Http(_) => {
                unreachable!("they have no watches")
            }
        }
        self.touch(connection);
    }

    /// The text of all metrics: the token is the connection that asked.
    pub fn on_metrics(&mut self, token: u64, text: Vec<u8>) {
        let connection = ConnectionId(token);
        let Some(session) = self.sessions.get_mut(&connection) else { return };
        match &mut session.dialect {
            Dialect::Http(http) => http.on_metrics(connection, text, &mut self.context),
            Dialect::Grpc(grpc) => grpc.on_metrics(text),
            Dialect::Unknown(_) | Dialect::Refused(_) | Dialect::Binary(_) => {
                unreachable!("they did not ask")
            }
        }
        self.touch(connection);
    }

    /// Tells sessions the time, when it is due.
    pub fn tick(&mut self, fx: &mut Effects) {
        let now_us = self.context.now_us;
        if now_us < self.next_tick_us {
            if !self.sessions.is_empty() {
                fx.wake_at(self.next_tick_us);
            }
            return;
        }
        self.next_tick_us = now_us + SESSION_TICK_US;
        let connections: Vec<_> = self.sessions.keys().copied().collect();
        for connection in connections {
            let session = self.sessions.get_mut(&connection).expect("just listed");
            match &mut session.dialect {
                Dialect::Grpc(grpc) => grpc.tick(connection, &mut self.context),
                Dialect::Http(http) => http.tick(now_us / 1_000),
                Dialect::Binary(_) | Dialect::Unknown(_) | Dialect::Refused(_) => {}
            }
            let is_silent = match &session.dialect {
                Dialect::Unknown(_) => true,
                Dialect::Binary(binary) => !binary.is_open(),
                Dialect::Grpc(_) | Dialect::Http(_) | Dialect::Refused(_) => false,
            };
            if is_silent && session.opened_us + SILENCE_US_MAX <= now_us {
                session.is_closing = true;
            } else if let Dialect::Binary(_) | Dialect::Unknown(_) = session.dialect {
                continue;
            }
            self.touch(connection);
        }
        if !self.sessions.is_empty() {
            fx.wake_at(self.next_tick_us);
        }
    }

    /// SIGTERM: what runs is finished, nothing new is taken.
    pub fn on_shutdown(&mut self) {
        self.context.is_stopping = true;
        let connections: Vec<_> = self.sessions.keys().copied().collect();
        for connection in connections {
            let session = self.sessions.get_mut(&connection).expect("just listed");
            match &mut session.dialect {
                Dialect::Grpc(grpc) => grpc.drain(),
                Dialect::Binary(binary) => binary.drain(),
                Dialect::Http(http) => http.drain(),
                Dialect::Unknown(_) | Dialect::Refused(_) => session.is_closing = true,
            }
            self.touch(connection);
        }
    }

    /// Ends every stream with etcd's text for a member that stops.
    pub fn end_streams(&mut self) {
        let connections: Vec<_> = self.sessions.keys().copied().collect();
        for connection in connections {
            let session = self.sessions.get_mut(&connection).expect("just listed");
            if let Dialect::Grpc(grpc) = &mut session.dialect {
                grpc.end_streams(&mut self.context);
            }
            session.is_closing = true;
            self.touch(connection);
        }
    }

    /// How many connections there are.
    pub fn session_count(&self) -> usize {
        self.sessions.len()
    }

    /// Hands the output of touched sessions over, as far as the bounds allow.
    pub fn flush(&mut self, fx: &mut Effects) {
        for connection in self.touched.drain(..) {
            let Some(session) = self.sessions.get_mut(&connection) else { continue };
            session.is_touched = false;
            session.flush(connection, &mut self.context, fx);
        }
    }

    fn touch(&mut self, connection: ConnectionId) {
        let session = self.sessions.get_mut(&connection).expect("callers look it up before");
        if !session.is_touched {
            session.is_touched = true;
            self.touched.push(connection);
        }
    }
}

impl Session {
    fn feed(&mut self, connection: ConnectionId, bytes: &[u8], context: &mut Context) {
        if let Dialect::Unknown(sniffed) = &mut self.dialect {
            sniffed.extend_from_slice(bytes);
            let sniffed = std::mem::take(sniffed);
            self.dialect = match http1::sniff(&sniffed) {
                Protocol::NeedMore => return self.dialect = Dialect::Unknown(sniffed),
                Protocol::Http2 if self.door == Door::Client => {
                    Dialect::Grpc(Box::new(GrpcSession::new(context)))
                }
                Protocol::Http1 => Dialect::Http(Box::new(HttpSession::new(self.door))),
                Protocol::Http2 | Protocol::Unknown => {
                    return self.dialect = Dialect::Refused(NOT_SPOKEN_HERE.to_vec());
                }
            };
            return self.dialect.feed(connection, &sniffed, context);
        }
        self.dialect.feed(connection, bytes, context);
    }

    fn flush(&mut self, connection: ConnectionId, context: &mut Context, fx: &mut Effects) {
        while !self.is_close_sent && self.unsent_bytes < UNSENT_BYTES_MAX {
            let bytes = self.dialect.take_output(connection, context);
            if bytes.is_empty() {
                break;
            }
            let sent = match self.dialect {
                Dialect::Binary(_) => Scalar::BinarySentBytes,
                _ => Scalar::GrpcSentBytes,
            };
            context.metrics.add(sent, bytes.len() as u64);
            self.unsent_bytes += bytes.len();
            fx.push(Effect::Transmit { connection, bytes });
        }
        if self.dialect.is_finished() {
            self.is_closing = true;
        }
        if self.is_closing {
            if !self.is_close_sent {
                self.is_close_sent = true;
                fx.push(Effect::Close { connection });
            }
            return;
        }
        let wants_input = self.unsent_bytes < UNSENT_BYTES_MAX && self.dialect.wants_input();
        if wants_input == self.is_paused {
            self.is_paused = !wants_input;
            fx.push(match wants_input {
                true => Effect::ResumeReceive { connection },
                false => Effect::PauseReceive { connection },
            });
        }
    }
}

impl Dialect {
    fn feed(&mut self, connection: ConnectionId, bytes: &[u8], context: &mut Context) {
        match self {
            Dialect::Unknown(_) => unreachable!("the session has sniffed"),
            Dialect::Refused(_) => {}
            Dialect::Grpc(grpc) => grpc.feed(connection, bytes, context),
            Dialect::Http(http) => http.feed(connection, bytes, context),
            Dialect::Binary(binary) => binary.feed(connection, bytes, context),
        }
    }

    fn take_output(&mut self, connection: ConnectionId, context: &mut Context) -> Vec<u8> {
        match self {
            Dialect::Unknown(_) => Vec::new(),
            Dialect::Refused(last_words) => std::mem::take(last_words),
            Dialect::Grpc(grpc) => grpc.take_output(connection, context),
            Dialect::Http(http) => http.take_output(connection, context),
            Dialect::Binary(binary) => binary.take_output(connection, context),
        }
    }

    fn is_finished(&self) -> bool {
        match self {
            Dialect::Unknown(_) => false,
            Dialect::Refused(_) => true,
            Dialect::Grpc(grpc) => grpc.is_finished(),
            Dialect::Http(http) => http.is_finished(),
            Dialect::Binary(binary) => binary.is_finished(),
        }
    }

    fn wants_input(&self) -> bool {
        match self {
            Dialect::Unknown(_) => true,
            Dialect::Refused(_) => false,
            Dialect::Grpc(grpc) => grpc.wants_input(),
            Dialect::Http(http) => http.wants_input(),
            Dialect::Binary(binary) => binary.wants_input(),
        }
    }
}

const ANSWER_TOO_LARGE: Status = Status::fixed(
    Code::ResourceExhausted,
    "corestone: the answer is larger than the memory for answers: ask for it with a limit, page by \
     page",
);

/// etcd knows no such bound.
const TOO_MANY_MEMBERS: Status =
    Status::fixed(Code::FailedPrecondition, "etcdserver: too many members in cluster");

/// etcd's status for what a replica could not do.
pub(super) fn status_of(why: Unavailable) -> Status {
    match why {
        Unavailable::TooManyRequests => status::TOO_MANY_REQUESTS,
        Unavailable::TimedOut => status::TIMEOUT,
        Unavailable::NoLeader => status::NO_LEADER,
        Unavailable::LeaderChanged => status::LEADER_CHANGED,
        Unavailable::Stopped => status::STOPPED,
        Unavailable::NoSpace => status::NO_SPACE,
        Unavailable::Corrupt => status::CORRUPT_CLUSTER,
        Unavailable::AnswerTooLarge => ANSWER_TOO_LARGE,
        Unavailable::LeaderFailed => status::TIMEOUT_DUE_TO_LEADER_FAIL,
        Unavailable::NotLeader => status::NOT_LEADER,
        Unavailable::BadTransferee => status::BAD_LEADER_TRANSFEREE,
        Unavailable::TransferTimedOut => status::TIMEOUT_LEADER_TRANSFER,
        Unavailable::NotEnoughStarted => status::MEMBER_NOT_ENOUGH_STARTED,
        Unavailable::Unhealthy => status::UNHEALTHY,
        Unavailable::TooManyLearners => status::TOO_MANY_LEARNERS,
        Unavailable::TooManyMembers => TOO_MANY_MEMBERS,
        Unavailable::MemberNotFound => status::MEMBER_NOT_FOUND,
        Unavailable::LearnerNotReady => status::LEARNER_NOT_READY,
        Unavailable::Learner => status::NOT_SUPPORTED_FOR_LEARNER,
    }
}
