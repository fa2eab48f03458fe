//! Calls and one watch over a connection, in the model's words.
//!
//! Invariants: a call is told once what came of it, or never; renewals on one stream are answered
//! in their order.
//! Source: gRPC over HTTP/2, "Responses"; fact sheet of the etcd v3 API, sections 2 and 3.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;

use engine::api::EventList;
use net::etcd::method::Method;
use net::grpc::framing::{PREFIX_SIZE_BYTES, decode_prefix, message_prefix};

use super::http2::{Event, Http2, Manners};
use super::{answer, request};
use crate::check::watches::Told;
use crate::model::watch::Interest;
use crate::model::{Failure, Request};
use crate::sim::random::Random;
use crate::sim::speech::Said;

/// How a client calls.
#[derive(Clone, Debug)]
pub struct Habits {
    /// How it uses the protocol below.
    pub manners: Manners,
    /// Its calls need a leader.
    pub has_leader: bool,
    /// Each renewal has a stream of its own.
    pub renews_apart: bool,
}

impl Habits {
    /// Those of some client. One that takes in much at a time (`is_vast`) has windows to match:
    /// through small ones a read of everything takes a round trip for each.
    pub fn draw(random: &mut Random, is_vast: bool) -> Habits {
        let windows: &[(u32, i64)] = match is_vast {
            true => &[(1 << 20, 4 << 20), (4 << 20, 200_000)],
            false => &[(65_535, 65_535), (65_535, 65_535), (4_096, 65_535), (1 << 20, 65_535)],
        };
        let (window_bytes, connection_window_bytes) = *random.pick(windows);
        Habits {
            manners: Manners {
                uses_table: random.chance(500),
                allows_table: random.chance(700),
                window_bytes,
                connection_window_bytes,
                is_slow: !is_vast && random.chance(300),
            },
            has_leader: random.chance(300),
            renews_apart: random.chance(300),
        }
    }
}

/// What runs on a stream.
#[derive(Debug)]
enum Purpose {
    Call {
        id: u64,
        method: Method,
    },
    /// Calls whose answers come in this order.
    Renewals(VecDeque<u64>),
    Watch,
}

#[derive(Debug)]
struct Stream {
    purpose: Purpose,
    /// What came of a message that is not whole.
    partial: Vec<u8>,
    answers: usize,
}

/// See the file's head.
pub struct Session {
    habits: Habits,
    http2: Http2,
    streams: BTreeMap<u32, Stream>,
    /// The stream that renewals share, once there is one.
    renewals: Option<u32>,
    /// The stream of the watch.
    watch: Option<u32>,
    next_id: u64,
    is_over: bool,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("streams", &self.streams).finish_non_exhaustive()
    }
}

/// The number of the only watch, by the client's choice.
const WATCH_ID: i64 = 7;

impl Session {
    /// A connection at its beginning.
    pub fn new(habits: Habits) -> Session {
        Session {
            http2: Http2::new(habits.manners.clone()),
            habits,
            streams: BTreeMap::new(),
            renewals: None,
            watch: None,
            next_id: 1,
            is_over: false,
        }
    }

    /// Whether requests may be made.
    pub fn is_greeted(&self) -> bool {
        self.http2.is_greeted()
    }

    /// How it calls.
    pub fn habits(&self) -> &Habits {
        &self.habits
    }

    /// Whether the member takes more calls.
    pub fn takes_calls(&self) -> bool {
        !self.is_over
    }

    /// Time has passed.
    pub fn tick(&mut self) {
        self.http2.tick();
    }

    /// Bytes to send.
    pub fn take_output(&mut self) -> Vec<u8> {
        self.http2.take_output()
    }

    /// Makes a call, with so many milliseconds of time if there is a limit.
    pub fn call(&mut self, request: &Request, timeout_ms: Option<u64>) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        let (method, message) = request::message_of(request);
        if method != Method::LeaseKeepAlive {
            let stream = self.open(method, Purpose::Call { id, method }, timeout_ms);
            self.send(stream, &message, true);
        } else if self.habits.renews_apart {
            let only = Purpose::Renewals(VecDeque::from([id]));
            let stream = self.open(method, only, timeout_ms);
            self.send(stream, &message, true);
        } else {
            let stream = match self.renewals {
                Some(stream) => stream,
                None => self.open(method, Purpose::Renewals(VecDeque::new()), None),
            };
            self.renewals = Some(stream);
            match &mut self.streams.get_mut(&stream).expect("it is open").purpose {
                Purpose::Renewals(ids) => ids.push_back(id),
                other => unreachable!("renewals on the stream of {other:?}"),
            }
            self.send(stream, &message, false);
        }
        id
    }

    /// Gives a call up, and nothing is told of it any more; not if it shares its stream.
    pub fn abandon(&mut self, id: u64) -> bool {
        let is_it =
            |purpose: &Purpose| matches!(purpose, Purpose::Call { id: of, .. } if *of == id);
        let mut found = self.streams.iter().filter(|(_, stream)| is_it(&stream.purpose));
        let Some(stream) = found.next().map(|(id, _)| *id) else { return false };
        self.streams.remove(&stream);
        self.http2.reset(stream);
        true
    }

    /// Opens the watch.
    pub fn watch(&mut self, interest: &Interest, start_revision: i64) {
        assert_eq!(self.watch, None, "one on a connection");
        let stream = self.open(Method::Watch, Purpose::Watch, None);
        self.watch = Some(stream);
        self.send(stream, &request::watch(interest, start_revision, WATCH_ID), false);
    }

    /// Asks the watch how far it is.
    pub fn ask_progress(&mut self) {
        if let Some(stream) = self.watch {
            self.send(stream, &request::progress(), false);
        }
    }

    fn open(&mut self, method: Method, purpose: Purpose, timeout_ms: Option<u64>) -> u32 {
        let mut metadata = Vec::new();
        if self.habits.has_leader {
            metadata.push(("hasleader", "true".to_string()));
        }
        if let Some(timeout_ms) = timeout_ms {
            metadata.push(("grpc-timeout", format!("{timeout_ms}m")));
        }
        let id = self.http2.open(method.path(), &metadata);
        self.streams.insert(id, Stream { purpose, partial: Vec::new(), answers: 0 });
        id
    }

    fn send(&mut self, stream: u32, message: &[u8], is_last: bool) {
        let mut bytes = message_prefix(message.len()).to_vec();
        bytes.extend_from_slice(message);
        self.http2.send(stream, &bytes, is_last);
    }

    /// Takes bytes of the member.
    pub fn feed(&mut self, bytes: &[u8], on_said: &mut dyn FnMut(Said)) {
        let mut events = Vec::new();
        self.http2.feed(bytes, &mut |event| events.push(event));
        for event in events {
            match event {
                Event::Data(id, bytes) => self.on_data(id, &bytes, on_said),
                Event::Fields(id, fields, is_last) => self.on_fields(id, &fields, is_last, on_said),
                Event::Reset(id, code) => {
                    let failure = Failure::new(UNAVAILABLE, &format!("reset, code {code}"));
                    self.end(id, Some(failure), on_said);
                }
                Event::GoAway => self.is_over = true,
            }
        }
        // What is under way is answered before the member closes.
        if self.is_over && self.streams.is_empty() {
            on_said(Said::Over);
        }
    }

    fn on_data(&mut self, id: u32, bytes: &[u8], on_said: &mut dyn FnMut(Said)) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        stream.partial.extend_from_slice(bytes);
        while let Some(stream) = self.streams.get_mut(&id) {
            let Some(prefix) = decode_prefix(&stream.partial) else { return };
            assert_eq!(prefix.flag, 0, "nobody asked for compression");
            let end = PREFIX_SIZE_BYTES + prefix.size_bytes;
            if stream.partial.len() < end {
                return;
            }
            let message: Vec<u8> = stream.partial.drain(..end).skip(PREFIX_SIZE_BYTES).collect();
            stream.answers += 1;
            match &mut stream.purpose {
                Purpose::Call { id, method } => {
                    assert_eq!(stream.answers, 1, "one call, one answer");
                    let (revision, answer) = answer::answer_of(*method, &message);
                    on_said(Said::Done { id: *id, revision, answer });
                }
                Purpose::Renewals(ids) => {
                    let (revision, answer) = answer::answer_of(Method::LeaseKeepAlive, &message);
                    let id = ids.pop_front().expect("an answer for each renewal");
                    on_said(Said::Done { id, revision, answer });
                }
                Purpose::Watch => self.on_watch(&message, on_said),
            }
        }
    }

    fn on_watch(&mut self, message: &[u8], on_said: &mut dyn FnMut(Said)) {
        let told = answer::watch(message);
        let revision = answer::revision(&told.header);
        let is_for_all = told.watch_id == -1 && !told.created && !told.canceled;
        if told.watch_id == -1 && told.created && told.canceled {
            // There is no watch, so nothing to judge.
            return on_said(Said::Over);
        }
        assert!(told.watch_id == WATCH_ID || is_for_all, "told of another watch: {told:?}");
        assert!(!told.fragment, "nobody asked for pieces");
        let events: EventList = told.events.iter().map(answer::event).collect();
        if told.created {
            assert!(events.is_empty(), "a watch begins with nothing");
            on_said(Said::Watch(Told::Created(revision)));
        }
        if told.canceled {
            assert!(events.is_empty(), "a watch ends with nothing");
            on_said(Said::Watch(Told::Canceled(told.compact_revision)));
            return on_said(Said::Over);
        }
        if told.created {
            return;
        }
        on_said(Said::Watch(match events.is_empty() {
            true => Told::Progress(revision),
            false => Told::Events(revision, events),
        }));
    }

    fn on_fields(
        &mut self,
        id: u32,
        fields: &[(String, String)],
        is_last: bool,
        on_said: &mut dyn FnMut(Said),
    ) {
        let field = |name: &str| fields.iter().find(|field| field.0 == name).map(|field| &*field.1);
        if !is_last {
            assert_eq!(field(":status"), Some("200"));
            assert_eq!(field("content-type"), Some("application/grpc"));
            return;
        }
        let code = field("grpc-status").expect("trailers say how it ended");
        let code: u32 = code.parse().expect("a status is a number");
        let message = decode_percents(field("grpc-message").unwrap_or_default());
        let failure = (code != 0).then(|| Failure::new(code, &message));
        self.end(id, failure, on_said);
    }

    /// A stream is over.
    fn end(&mut self, id: u32, failure: Option<Failure>, on_said: &mut dyn FnMut(Said)) {
        let Some(stream) = self.streams.remove(&id) else { return };
        assert!(failure.is_some() || stream.partial.is_empty(), "an answer was cut off");
        match stream.purpose {
            Purpose::Call { id, .. } => match failure {
                None => assert_eq!(stream.answers, 1, "no answer, and all is well"),
                // A status behind an answer takes it back, which no member does.
                Some(failure) => {
                    assert_eq!(stream.answers, 0, "answered, then {failure:?}");
                    on_said(Said::Failed { id, failure });
                }
            },
            Purpose::Renewals(ids) => {
                if self.renewals == Some(id) {
                    self.renewals = None;
                }
                assert!(failure.is_some() || ids.is_empty(), "renewals without an answer");
                for id in ids {
                    let failure = failure.clone().expect("just looked");
                    on_said(Said::Failed { id, failure });
                }
            }
            Purpose::Watch => on_said(Said::Over),
        }
    }
}

fn decode_percents(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, behind)) = rest.split_first() {
        let digits = behind.first_chunk::<2>().filter(|_| first == b'%');
        let digits = digits.and_then(|pair| std::str::from_utf8(pair).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &behind[2..];
            }
            None => {
                bytes.push(first);
                rest = behind;
            }
        }
    }
    String::from_utf8(bytes).expect("a status message is text")
}

/// What a client says itself when it does not know.
const UNAVAILABLE: u32 = 14;

#[cfg(test)]
#[path = "session_test.rs"]
mod tests;
