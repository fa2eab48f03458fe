//! How a client speaks with its member: one of two protocols, the same words.
//!
//! Invariant: whichever it is, checkers are told the same facts of the same calls.

use net::wire::{
    self, ClientHello, ClientSession, Message, WatchCreateRequest, WatchFilter, events_cost_bytes,
};
use shard::input::Door;

use super::grpc;
use super::session::Protocol;
use crate::check::watches::Told;
use crate::model::watch::Interest;
use crate::model::{Answer, Failure, Request};

/// What a client is told.
#[derive(Debug)]
pub enum Said {
    /// A call was answered.
    Done {
        /// The call.
        id: u64,
        /// The header's revision.
        revision: i64,
        /// The answer.
        answer: Answer,
    },
    /// A call failed.
    Failed {
        /// The call.
        id: u64,
        /// Why.
        failure: Failure,
    },
    /// The watch was told something.
    Watch(Told),
    /// The connection is of no more use.
    Over,
}

/// Which protocol a client speaks.
#[derive(Clone, Debug)]
pub enum Tongue {
    /// The binary protocol.
    Binary,
    /// gRPC, in its own way.
    Grpc(grpc::Habits),
}

impl Tongue {
    /// The same for a watch, which has to keep up with what others write.
    pub fn prompt(mut self) -> Tongue {
        if let Tongue::Grpc(habits) = &mut self {
            habits.manners.is_slow = false;
        }
        self
    }
}

/// A connection in either protocol.
#[derive(Debug)]
pub enum Speech {
    /// The binary protocol, and its watch.
    Binary(ClientSession, Option<u64>),
    /// gRPC.
    Grpc(Box<grpc::Session>),
}

/// Why a removed member creates no watch.
const STOPPED: &str = "etcdserver: server stopped";
/// Credit of a watch of the binary protocol.
const CREDIT_BYTES: i64 = 256 << 10;

/// A session of the binary protocol at its beginning.
pub fn new_session() -> ClientSession {
    ClientSession::new(&ClientHello { client: "simulated", ..ClientHello::default() })
}

impl Speech {
    /// A connection at its beginning.
    pub fn new(tongue: &Tongue) -> Speech {
        match tongue {
            Tongue::Binary => Speech::Binary(new_session(), None),
            Tongue::Grpc(habits) => Speech::Grpc(Box::new(grpc::Session::new(habits.clone()))),
        }
    }

    /// Makes a call; `timeout_ms` holds where the protocol has time limits.
    pub fn call(&mut self, request: &Request, timeout_ms: Option<u64>) -> u64 {
        match self {
            Speech::Binary(session, _) => match session.request(&request.wire()) {
                Ok(id) => id,
                Err(wire::RequestTooLarge) => panic!("drawn requests fit: {request:?}"),
            },
            Speech::Grpc(session) => session.call(request, timeout_ms),
        }
    }

    /// Time has passed: slow readers make room.
    pub fn tick(&mut self) {
        if let Speech::Grpc(session) = self {
            session.tick();
        }
    }

    /// Whether more calls may be made.
    pub fn takes_calls(&self) -> bool {
        match self {
            Speech::Binary(..) => true,
            Speech::Grpc(session) => session.takes_calls(),
        }
    }

    /// Gives a call up, where the protocol can.
    pub fn abandon(&mut self, id: u64) -> bool {
        match self {
            Speech::Binary(..) => false,
            Speech::Grpc(session) => session.abandon(id),
        }
    }

    /// Opens the connection's watch.
    pub fn watch(&mut self, interest: &Interest, start_revision: i64) {
        let (session, watch) = match self {
            Speech::Binary(session, watch) => (session, watch),
            Speech::Grpc(session) => return session.watch(interest, start_revision),
        };
        let filter = match (interest.is_without_puts, interest.is_without_deletes) {
            (false, false) => WatchFilter::All,
            (true, false) => WatchFilter::NoPut,
            (false, true) => WatchFilter::NoDelete,
            (true, true) => WatchFilter::Nothing,
        };
        let create = WatchCreateRequest {
            key: &interest.key,
            range_end: &interest.range_end,
            start_revision,
            credit_bytes: CREDIT_BYTES,
            progress_notify: true,
            prev_kv: interest.wants_previous,
            filter,
        };
        let request = wire::Request::WatchCreate(create);
        *watch = Some(session.request(&request).expect("watches are small"));
    }

    /// Asks the watch how far it is.
    pub fn ask_progress(&mut self) {
        match self {
            Speech::Binary(session, Some(watch)) => session.watch_progress(*watch),
            Speech::Binary(_, None) => {}
            Speech::Grpc(session) => session.ask_progress(),
        }
    }
}

impl Protocol for Speech {
    type Said<'a> = Said;

    fn door(&self) -> Door {
        match self {
            Speech::Binary(..) => Door::Binary,
            Speech::Grpc(_) => Door::Client,
        }
    }

    fn is_greeted(&self) -> bool {
        match self {
            Speech::Binary(session, _) => Protocol::is_greeted(session),
            Speech::Grpc(session) => session.is_greeted(),
        }
    }

    fn restart(&mut self) {
        match self {
            Speech::Binary(session, watch) => {
                session.restart();
                *watch = None;
            }
            Speech::Grpc(session) => **session = grpc::Session::new(session.habits().clone()),
        }
    }

    fn take_output(&mut self) -> Vec<u8> {
        match self {
            Speech::Binary(session, _) => Protocol::take_output(session),
            Speech::Grpc(session) => session.take_output(),
        }
    }

    fn feed(&mut self, bytes: &[u8], on_said: &mut dyn FnMut(Said)) -> bool {
        match self {
            Speech::Binary(session, watch) => {
                let mut taken_bytes = 0;
                let is_right = Protocol::feed(session, bytes, &mut |message| {
                    if let Message::WatchEvents { events, .. } = &message {
                        taken_bytes += events_cost_bytes(events);
                    }
                    hear(message, on_said);
                });
                if let (Some(watch), 1..) = (watch, taken_bytes) {
                    session.watch_credit(*watch, taken_bytes);
                }
                is_right
            }
            Speech::Grpc(session) => {
                session.feed(bytes, on_said);
                true
            }
        }
    }
}

/// A message of the binary protocol in common words.
fn hear(message: Message<'_>, on_said: &mut dyn FnMut(Said)) {
    match message {
        Message::Reply { request_id: id, opcode, body } => {
            let (header, answer) =
                wire::Answer::decode(opcode, body).expect("answers that verify decode");
            let answer = Answer::of(answer).expect("only known requests are made");
            on_said(Said::Done { id, revision: header.revision, answer });
        }
        Message::Error { request_id: 0, .. } | Message::GoAway { .. } => on_said(Said::Over),
        Message::Error { request_id: id, code, message } => {
            on_said(Said::Failed { id, failure: Failure::new(code, message) });
        }
        Message::WatchCreated { header, .. } => {
            on_said(Said::Watch(Told::Created(header.revision)))
        }
        Message::WatchEvents { header, events, .. } => {
            on_said(Said::Watch(Told::Events(header.revision, events)));
        }
        Message::WatchProgressed { header, .. } => {
            on_said(Said::Watch(Told::Progress(header.revision)));
        }
        Message::WatchCanceled { canceled, .. } if canceled.reason == STOPPED => {
            // It was not created.
            on_said(Said::Over);
        }
        Message::WatchCanceled { canceled, .. } => {
            on_said(Said::Watch(Told::Canceled(canceled.compact_revision)));
            on_said(Said::Over);
        }
        Message::Hello(_) | Message::Reconnect { .. } => {}
    }
}
