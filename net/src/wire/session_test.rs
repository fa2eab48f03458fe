//! The server's session against the client's, without a socket between them.

use super::client::{ClientSession, Message};
use super::cluster::ClusterRequest;
use super::error::Malformed;
use super::frame::{begin_frame, check_frame, end_frame};
use super::hello::{ClientHello, ServerIdentity, ServerLimits};
use super::limits;
use super::opcode::Opcode;
use super::outbox::{Delivery, Outbox, events_cost_bytes};
use super::reply::{Answer, Reply, ReplyHeader};
use super::request::Request;
use super::sample::Sample;
use super::session::{FeedOutcome, Flow, WireApplication, WireSession};
use super::watch::{WatchCanceled, WatchCreateRequest};
use crate::etcd::status::{COMPACTED, Code, STOPPED};
use engine::api::{
    Event, EventList, EventType, KeyValue, PutResponse, RangeResponse, Reject, Response,
};
use proptest::prelude::*;

/// Writes down what it is asked, answers what it is told to.
#[derive(Default)]
struct Recorder {
    trace: Vec<String>,
    ids: Vec<u64>,
    /// Pauses after each so many requests; 0 never does.
    pause_every: usize,
    answer: bool,
}

impl WireApplication for Recorder {
    fn on_request(&mut self, outbox: &mut Outbox, request_id: u64, request: Request<'_>) -> Flow {
        self.trace.push(format!("{request_id} {request:?}"));
        self.ids.push(request_id);
        let is_watch_message = !request.opcode().opens_request();
        if self.answer && !is_watch_message {
            match request {
                Request::WatchCreate(_) => {
                    outbox.watch_created(request_id, ReplyHeader { revision: 4, raft_term: 1 });
                }
                _ => outbox.reply(request_id, 1, Reply::Compact { revision: 4 }),
            }
        }
        if self.pause_every != 0 && self.ids.len().is_multiple_of(self.pause_every) {
            return Flow::Pause;
        }
        Flow::Continue
    }

    fn on_watch_credit(&mut self, _: &mut Outbox, watch_id: u64, credit_bytes: i64) {
        self.trace.push(format!("{watch_id} credit {credit_bytes}"));
    }
}

fn identity() -> ServerIdentity {
    ServerIdentity { cluster_id: 11, member_id: 22, server_version: "3.6.0".to_owned() }
}

fn server_with(limits: ServerLimits) -> WireSession {
    WireSession::new(identity(), limits)
}

/// A pair after hello.
fn pair_with(limits: ServerLimits) -> (ClientSession, WireSession) {
    let mut client = ClientSession::new(&ClientHello::default());
    let mut server = server_with(limits);
    let app = &mut Recorder::default();
    assert_eq!(server.feed(&client.take_output(Vec::new()), app), FeedOutcome::Drained);
    assert!(server.is_open());
    let mut hellos = 0;
    let answer = server.outbox().take_output(Vec::new());
    client
        .feed(&answer, &mut |message| {
            assert!(matches!(message, Message::Hello(hello) if hello.identity == identity()));
            hellos += 1;
        })
        .unwrap();
    assert_eq!(hellos, 1);
    (client, server)
}

fn pair() -> (ClientSession, WireSession) {
    pair_with(ServerLimits::default())
}

/// What the client hears of the server's output, in words.
fn heard(client: &mut ClientSession, server: &mut WireSession) -> Vec<String> {
    let bytes = server.outbox().take_output(Vec::new());
    let mut messages = Vec::new();
    client.feed(&bytes, &mut |message| messages.push(format!("{message:?}"))).unwrap();
    messages
}

fn put(key: &'static [u8]) -> Request<'static> {
    Request::Put(engine::api::PutRequest { key, ..Default::default() })
}

fn watch(credit_bytes: i64) -> Request<'static> {
    Request::WatchCreate(WatchCreateRequest { key: b"k", credit_bytes, ..Default::default() })
}

fn event_of(value: &[u8]) -> EventList {
    let mut events = EventList::default();
    let kv = KeyValue { key: b"k", value, mod_revision: 5, ..KeyValue::default() };
    events.push(Event { event_type: EventType::Put, kv, prev_kv: None });
    events
}

const NOW: ReplyHeader = ReplyHeader { revision: 5, raft_term: 1 };

/// The error of a closed connection, if `output` ends with one.
fn closing_error(output: &[u8]) -> String {
    let mut rest = output;
    let mut text = String::new();
    while let Some((frame, size)) = check_frame(rest, 1 << 20).unwrap() {
        if frame.opcode == Opcode::Error && frame.request_id == 0 {
            text = String::from_utf8(frame.body[8..].to_vec()).unwrap();
        }
        rest = &rest[size..];
    }
    text
}

fn raw_frame(opcode: Opcode, request_id: u64, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let start = begin_frame(&mut bytes);
    bytes.extend_from_slice(body);
    end_frame(&mut bytes, start, opcode, request_id);
    bytes
}

fn refused(bytes: &[u8], session: &mut WireSession) -> String {
    let app = &mut Recorder::default();
    assert_eq!(session.feed(bytes, app), FeedOutcome::Closed);
    assert!(session.is_closed());
    assert_eq!(session.feed(b"more", app), FeedOutcome::Closed);
    assert_eq!(app.trace.len(), 0);
    closing_error(session.outbox().output())
}

#[test]
fn nothing_but_a_fitting_hello_opens_a_connection() {
    let limits = ServerLimits::default();
    let server = || server_with(limits);
    let status = raw_frame(Opcode::Status, 1, b"");
    assert_eq!(refused(&status, &mut server()), Malformed::Hello.message());
    let garbage = refused(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", &mut server());
    assert_eq!(garbage, Malformed::HeaderChecksum.message());

    let hello = ClientSession::new(&ClientHello::default()).take_output(Vec::new());
    let mut twice = hello.clone();
    twice.extend_from_slice(&hello);
    assert_eq!(refused(&twice, &mut server()), Malformed::Hello.message());

    let newer = ClientHello { version_min: 2, version_max: 3, ..ClientHello::default() };
    let newer = ClientSession::new(&newer).take_output(Vec::new());
    assert_eq!(
        refused(&newer, &mut server()),
        "wire: the client speaks protocol versions 2 to 3, this server 1 to 1"
    );
    let large = raw_frame(Opcode::Hello, 0, &[0; limits::HELLO_SIZE_BYTES_MAX]);
    assert_eq!(refused(&large, &mut server()), Malformed::FrameSize.message());
    let magic = raw_frame(Opcode::Hello, 0, &[7; 64]);
    assert_eq!(refused(&magic, &mut server()), Malformed::Magic.message());
}

#[test]
fn ids_must_increase_and_frames_of_servers_are_refused() {
    let open = || pair().1;
    let app = &mut Recorder::default();
    let mut server = open();
    assert_eq!(server.feed(&raw_frame(Opcode::Status, 5, b""), app), FeedOutcome::Drained);
    let again = raw_frame(Opcode::Status, 5, b"");
    assert_eq!(refused(&again, &mut server), Malformed::RequestId.message());
    let zero = raw_frame(Opcode::Leases, 0, b"");
    assert_eq!(refused(&zero, &mut open()), Malformed::RequestId.message());
    let reply = raw_frame(Opcode::PutReply, 1, b"");
    assert_eq!(refused(&reply, &mut open()), Malformed::Opcode.message());
    let credit = raw_frame(Opcode::WatchCredit, 9, &[0; 8]);
    assert_eq!(refused(&credit, &mut open()), Malformed::RequestId.message());
    let trailing = raw_frame(Opcode::Ping, 1, b"x");
    assert_eq!(refused(&trailing, &mut open()), Malformed::Trailing.message());
}

#[test]
fn pings_are_answered_and_replies_come_in_any_order() {
    let (mut client, mut server) = pair();
    let ids: Vec<u64> = (0..3).map(|_| client.request(&put(b"k")).unwrap()).collect();
    let ping = client.ping();
    let app = &mut Recorder::default();
    assert_eq!(server.feed(&client.take_output(Vec::new()), app), FeedOutcome::Drained);
    assert_eq!(app.ids, ids);
    assert_eq!(server.outbox().in_flight(), 3);

    let answer = PutResponse { revision: 9, ..PutResponse::default() };
    server.outbox().response(ids[2], 3, &Response::Put(answer));
    server.outbox().error(ids[0], &STOPPED);
    let reject = Response::Rejected { revision: 9, reject: Reject::NoSpace };
    server.outbox().response(ids[1], 3, &reject);
    assert!(server.outbox().is_idle());
    let mut order = Vec::new();
    let bytes = server.outbox().take_output(Vec::new());
    client
        .feed(&bytes, &mut |message| match message {
            Message::Reply { request_id, opcode, body } => {
                let (header, answer) = Answer::decode(opcode, body).unwrap();
                order.push((request_id, format!("{answer:?} at {}", header.revision)));
            }
            Message::Error { request_id, code, message } => {
                order.push((request_id, format!("{code} {message}")));
            }
            other => panic!("{other:?}"),
        })
        .unwrap();
    let answer = Answer::Put(PutResponse { revision: 9, ..PutResponse::default() });
    let expected = [
        (ping, "Ping at 0".to_owned()),
        (ids[2], format!("{answer:?} at 9")),
        (ids[0], "14 etcdserver: server stopped".to_owned()),
        (ids[1], "8 etcdserver: mvcc: database space exceeded".to_owned()),
    ];
    assert_eq!(order, expected);
}

#[test]
fn a_big_answer_is_cut_and_put_together_again() {
    let (mut client, mut server) = pair();
    let range = client.request(&Request::Range(Default::default())).unwrap();
    let small = client.request(&put(b"k")).unwrap();
    let app = &mut Recorder::default();
    assert_eq!(server.feed(&client.take_output(Vec::new()), app), FeedOutcome::Drained);
    let mut answer = RangeResponse { revision: 7, count: 40, ..RangeResponse::default() };
    for _ in 0..40 {
        let value = [9; 50_000];
        answer.kvs.push(KeyValue { key: b"k", value: &value, ..KeyValue::default() });
    }
    server.outbox().reply(range, 2, Reply::Range(&answer));
    server.outbox().reply(small, 2, Reply::Put(&PutResponse::default()));
    let bytes = server.outbox().take_output(Vec::new());
    let chunks = answer.kvs.size_bytes() / limits::CHUNK_SIZE_BYTES + 1;
    assert!(bytes.len() < answer.kvs.size_bytes() + 200 + chunks * 32);

    let mut got = Vec::new();
    for segment in bytes.chunks(100_000) {
        client
            .feed(segment, &mut |message| {
                let Message::Reply { request_id, opcode, body } = message else {
                    panic!("{message:?}");
                };
                got.push((request_id, Answer::decode(opcode, body).unwrap().1));
            })
            .unwrap();
    }
    assert_eq!(got.len(), 2);
    assert_eq!(got[0], (range, Answer::Range(answer)));
}

#[test]
fn a_watch_sends_only_on_credit() {
    let (mut client, mut server) = pair();
    let event = event_of(b"0123456789");
    let cost = events_cost_bytes(&event);
    let id = client.request(&watch(cost + 1)).unwrap();
    let app = &mut Recorder { answer: true, ..Recorder::default() };
    assert_eq!(server.feed(&client.take_output(Vec::new()), app), FeedOutcome::Drained);
    let send = |server: &mut WireSession| server.outbox().watch_events(id, NOW, &event);
    assert_eq!(send(&mut server), Delivery::Sent { credit_bytes: 1 });
    assert_eq!(send(&mut server), Delivery::Sent { credit_bytes: 1 - cost });
    assert_eq!(send(&mut server), Delivery::NoCredit);
    let words = heard(&mut client, &mut server);
    assert_eq!(words.len(), 3, "{words:?}");
    assert!(words[0].starts_with("WatchCreated") && words[1].starts_with("WatchEvents"));

    client.watch_credit(id, 2 * cost);
    client.watch_credit(id, i64::MAX);
    assert_eq!(server.feed(&client.take_output(Vec::new()), app), FeedOutcome::Drained);
    let bound = limits::WATCH_CREDIT_BYTES_MAX;
    let last = &app.trace[app.trace.len() - 2..];
    assert_eq!(last, [format!("{id} credit {}", 1 + cost), format!("{id} credit {bound}")]);
    assert_eq!(send(&mut server), Delivery::Sent { credit_bytes: bound - cost });

    client.watch_progress(id);
    client.watch_cancel(id);
    assert_eq!(server.feed(&client.take_output(Vec::new()), app), FeedOutcome::Drained);
    server.outbox().watch_progress(id, NOW);
    server.outbox().watch_canceled(id, NOW, WatchCanceled { compact_revision: 0, reason: "" });
    assert_eq!(server.outbox().watch_credit_bytes(id), None);
    assert_eq!(send(&mut server), Delivery::NoCredit);
    assert_eq!(heard(&mut client, &mut server).len(), 3);

    let told = app.trace.len();
    client.watch_cancel(id);
    client.watch_credit(id, 1);
    assert_eq!(server.feed(&client.take_output(Vec::new()), app), FeedOutcome::Drained);
    assert_eq!(app.trace.len(), told, "messages for a watch that is over are dropped");
}

#[test]
fn a_watch_that_cannot_be_opened_counts_as_answered() {
    let limits = ServerLimits { watches_max: 2, ..ServerLimits::default() };
    let (mut client, mut server) = pair_with(limits);
    let ids: Vec<u64> = (0..3).map(|_| client.request(&watch(10)).unwrap()).collect();
    let app = &mut Recorder::default();
    assert_eq!(server.feed(&client.take_output(Vec::new()), app), FeedOutcome::Drained);
    assert_eq!(app.ids, ids[..2]);
    let reason = "mvcc: watcher range is empty";
    server.outbox().watch_canceled(ids[0], NOW, WatchCanceled { compact_revision: 0, reason });
    server.outbox().error(ids[1], &COMPACTED);
    assert!(server.outbox().is_idle());
    let words = heard(&mut client, &mut server);
    assert!(words[0].contains("wire: too many watches"), "{words:?}");
    assert!(words[1].contains(reason) && words[2].contains("compacted"), "{words:?}");
}

#[test]
fn a_congested_connection_waits_and_goes_on() {
    let limits = ServerLimits { requests_in_flight_max: 4, ..ServerLimits::default() };
    let (mut client, mut server) = pair_with(limits);
    for _ in 0..10 {
        client.request(&put(b"k")).unwrap();
    }
    let app = &mut Recorder::default();
    let bytes = client.take_output(Vec::new());
    assert_eq!(server.feed(&bytes, app), FeedOutcome::Paused);
    assert_eq!(app.ids, [1, 2, 3, 4]);
    assert!(server.congested() && server.has_pending_input());
    assert_eq!(server.feed(b"", app), FeedOutcome::Paused);
    for id in 1..=4 {
        server.outbox().reply(id, 1, Reply::Put(&PutResponse::default()));
    }
    assert!(!server.congested());
    assert_eq!(server.feed(b"", app), FeedOutcome::Paused);
    assert_eq!(app.ids, [1, 2, 3, 4, 5, 6, 7, 8]);
    for id in 5..=8 {
        server.outbox().error(id, &STOPPED);
    }
    assert_eq!(server.feed(b"", app), FeedOutcome::Drained);
    assert_eq!(app.ids.len(), 10);
    assert!(!server.has_pending_input());
}

#[test]
fn output_that_nobody_takes_stops_requests_and_events() {
    let (mut client, mut server) = pair();
    let id = client.request(&watch(limits::WATCH_CREDIT_BYTES_MAX)).unwrap();
    let app = &mut Recorder { answer: true, ..Recorder::default() };
    assert_eq!(server.feed(&client.take_output(Vec::new()), app), FeedOutcome::Drained);
    let event = event_of(&[0; 1 << 20]);
    let mut sent = 0;
    while let Delivery::Sent { .. } = server.outbox().watch_events(id, NOW, &event) {
        sent += 1;
    }
    assert_eq!(sent, limits::OUTPUT_PENDING_BYTES_MAX >> 20);
    assert_eq!(server.outbox().watch_events(id, NOW, &event), Delivery::Congested);
    client.request(&put(b"k")).unwrap();
    assert_eq!(server.feed(&client.take_output(Vec::new()), app), FeedOutcome::Paused);
    assert_eq!(app.ids, [id]);
    assert_eq!(heard(&mut client, &mut server).len(), 1 + sent);
    assert_eq!(server.feed(b"", app), FeedOutcome::Drained);
    assert_eq!(app.ids, [id, 2]);
}

#[test]
fn input_beyond_its_bound_ends_the_connection() {
    let limits = ServerLimits { requests_in_flight_max: 1, ..ServerLimits::default() };
    let (mut client, mut server) = pair_with(limits);
    let app = &mut Recorder::default();
    client.request(&put(b"k")).unwrap();
    assert_eq!(server.feed(&client.take_output(Vec::new()), app), FeedOutcome::Drained);
    let put = Request::Put(engine::api::PutRequest { value: &[0; 100_000], ..Default::default() });
    let mut fed = 0;
    loop {
        client.request(&put).unwrap();
        let bytes = client.take_output(Vec::new());
        fed += bytes.len();
        if server.feed(&bytes, app) == FeedOutcome::Closed {
            break;
        }
        assert!(fed <= limits::INPUT_PENDING_BYTES_MAX + limits.frame_size_bytes_max());
    }
    assert!(server.congested() || server.is_closed());
    assert_eq!(app.ids, [1]);
    let error = closing_error(server.outbox().output());
    assert_eq!(error, "wire: too much input pends on the connection");
}

#[test]
fn going_away_names_the_last_request_that_counts() {
    let (mut client, mut server) = pair();
    let id = client.request(&put(b"k")).unwrap();
    let app = &mut Recorder::default();
    assert_eq!(server.feed(&client.take_output(Vec::new()), app), FeedOutcome::Drained);
    server.outbox().reconnect("10.0.0.1:2378");
    server.outbox().go_away(&STOPPED);
    server.outbox().go_away(&STOPPED);
    client.request(&put(b"late")).unwrap();
    let late_watch = client.request(&watch(5)).unwrap();
    client.watch_credit(late_watch, 5);
    assert_eq!(server.feed(&client.take_output(Vec::new()), app), FeedOutcome::Drained);
    assert_eq!(app.ids, [id]);
    server.outbox().reply(id, 1, Reply::Put(&PutResponse::default()));
    assert!(server.outbox().is_idle());
    let words = heard(&mut client, &mut server);
    assert_eq!(words.len(), 3);
    assert!(words[0].contains("10.0.0.1:2378"));
    assert!(words[1].contains(&format!("request_id_last: {id}")), "{words:?}");
}

#[test]
fn a_client_refuses_what_no_server_says() {
    let fed = |bytes: &[u8]| {
        let (mut client, _server) = pair();
        client.request(&put(b"k")).unwrap();
        client.feed(bytes, &mut |_| {})
    };
    let header = [0; 16];
    assert_eq!(fed(&raw_frame(Opcode::Compact, 1, b"")), Err(Malformed::Opcode));
    assert_eq!(fed(&raw_frame(Opcode::CompactReply, 2, &header)), Err(Malformed::RequestId));
    assert_eq!(fed(&raw_frame(Opcode::CompactReply, 0, &header)), Err(Malformed::RequestId));
    assert_eq!(fed(&raw_frame(Opcode::GoAway, 1, &header)), Err(Malformed::RequestId));
    assert_eq!(fed(&raw_frame(Opcode::HelloReply, 0, b"")), Err(Malformed::Hello));
    assert_eq!(fed(&[0xff; 40]), Err(Malformed::HeaderChecksum));
    assert_eq!(fed(&raw_frame(Opcode::CompactReply, 1, &header)), Ok(()));

    let mut early = ClientSession::new(&ClientHello::default());
    let reply = raw_frame(Opcode::Reconnect, 0, &[0; 4]);
    assert_eq!(early.feed(&reply, &mut |_| {}), Err(Malformed::Hello));
}

#[test]
fn a_request_beyond_the_servers_frame_is_not_sent() {
    let limits = ServerLimits { request_size_bytes_max: 1000, ..ServerLimits::default() };
    let (mut client, _server) = pair_with(limits);
    let value = vec![0; limits.frame_size_bytes_max()];
    let large = Request::Put(engine::api::PutRequest { value: &value, ..Default::default() });
    assert!(client.request(&large).is_err());
    assert_eq!(client.output(), b"");
    assert_eq!(client.request(&put(b"k")), Ok(1));
}

#[test]
fn an_error_ends_an_open_watch_and_a_closed_session_says_no_more() {
    let (mut client, mut server) = pair();
    let id = client.request(&watch(10)).unwrap();
    let late = client.request(&put(b"k")).unwrap();
    let app = &mut Recorder::default();
    assert_eq!(server.feed(&client.take_output(Vec::new()), app), FeedOutcome::Drained);
    server.outbox().watch_created(id, NOW);
    server.outbox().error(id, &STOPPED);
    assert_eq!(server.outbox().watch_credit_bytes(id), None);
    assert_eq!(server.outbox().in_flight(), 1);
    assert_eq!(heard(&mut client, &mut server).len(), 2);

    assert_eq!(server.feed(&[0; 32], app), FeedOutcome::Closed);
    let size = server.outbox().output().len();
    server.outbox().reply(late, 1, Reply::Put(&PutResponse::default()));
    assert_eq!(server.outbox().output().len(), size);
    assert!(server.outbox().is_idle());
}

#[test]
fn errors_tell_code_and_text() {
    let (mut client, mut server) = pair();
    let status = raw_frame(Opcode::Error, 9, b"");
    assert_eq!(server.feed(&status, &mut Recorder::default()), FeedOutcome::Closed);
    let bytes = server.outbox().take_output(Vec::new());
    let mut heard = Vec::new();
    client
        .feed(&bytes, &mut |message| {
            let Message::Error { request_id, code, message } = message else {
                panic!("{message:?}");
            };
            heard.push((request_id, code, message.to_owned()));
        })
        .unwrap();
    let code = Code::InvalidArgument as u32;
    assert_eq!(heard, [(0, code, Malformed::Opcode.message().to_owned())]);
}

/// A conversation's bytes: hello, then requests of every kind, credit and cancels.
fn conversation(seed: u64, count: usize) -> Vec<u8> {
    let mut sample = Sample(seed);
    let mut client = ClientSession::new(&ClientHello::default());
    let mut watches = Vec::new();
    for _ in 0..count {
        let request = sample.request();
        let id = client.request(&request).unwrap();
        if matches!(request, Request::WatchCreate(_)) {
            watches.push(id);
        }
        if let Some(watch_id) = watches.last() {
            match sample.below(4) {
                0 => client.watch_credit(*watch_id, 100),
                1 => client.watch_progress(*watch_id),
                2 => client.watch_cancel(*watch_id),
                _ => {}
            }
        }
    }
    client.take_output(Vec::new())
}

/// What a session makes of `bytes` in segments of the sizes that `sample` draws.
fn run(bytes: &[u8], sample: &mut Sample, pause_every: usize) -> (Vec<String>, Vec<u8>, bool) {
    let mut session = server_with(ServerLimits::default());
    let mut app = Recorder { pause_every, answer: true, ..Recorder::default() };
    let mut rest = bytes;
    while !rest.is_empty() && !session.is_closed() {
        let size = (1 + sample.below(3000)).min(rest.len());
        let mut outcome = session.feed(&rest[..size], &mut app);
        while outcome == FeedOutcome::Paused {
            outcome = session.feed(b"", &mut app);
        }
        rest = &rest[size..];
    }
    let output = session.outbox().take_output(Vec::new());
    (app.trace, output, session.is_closed())
}

proptest! {
    #[test]
    fn how_bytes_are_cut_and_budgets_spent_changes_nothing(seed: u64, pause_every in 0..4usize) {
        let bytes = conversation(seed, 30);
        let whole = {
            let mut session = server_with(ServerLimits::default());
            let mut app = Recorder { answer: true, ..Recorder::default() };
            prop_assert_eq!(session.feed(&bytes, &mut app), FeedOutcome::Drained);
            (app.trace, session.outbox().take_output(Vec::new()), false)
        };
        prop_assert!(30 <= whole.0.len());
        prop_assert_eq!(run(&bytes, &mut Sample(seed ^ 1), pause_every), whole);
    }

    #[test]
    fn damaged_streams_end_the_connection_alike_and_never_panic(
        seed: u64,
        at: u32,
        change in 1..=255u8,
    ) {
        let mut bytes = conversation(seed, 10);
        let at = at as usize % bytes.len();
        bytes[at] ^= change;
        let first = run(&bytes, &mut Sample(seed ^ 1), 0);
        let second = run(&bytes, &mut Sample(seed ^ 2), 3);
        prop_assert!(first.2, "a changed byte must be noticed");
        prop_assert_eq!(first, second);
    }

    #[test]
    fn a_client_fed_damaged_answers_never_panics(seed: u64, at: u32, change in 1..=255u8) {
        let requests = conversation(seed, 10);
        let (_, mut answers, _) = run(&requests, &mut Sample(seed), 0);
        let mut client = ClientSession::new(&ClientHello::default());
        for _ in 0..10 {
            client.request(&put(b"k")).unwrap();
        }
        let mut clean = ClientSession::new(&ClientHello::default());
        for _ in 0..10 {
            clean.request(&put(b"k")).unwrap();
        }
        prop_assert_eq!(clean.feed(&answers, &mut |_| {}), Ok(()));
        let at = at as usize % answers.len();
        answers[at] ^= change;
        let mut fed = Ok(());
        let mut rest = &answers[..];
        let mut sample = Sample(seed);
        while !rest.is_empty() && fed.is_ok() {
            let size = (1 + sample.below(200)).min(rest.len());
            fed = client.feed(&rest[..size], &mut |_| {});
            rest = &rest[size..];
        }
        prop_assert!(fed.is_err(), "a changed byte must be noticed");
    }
}

#[test]
fn a_server_that_knows_no_cluster_refuses_and_goes_on() {
    let (mut client, mut server) = pair();
    let mut app = Recorder { answer: true, ..Recorder::default() };
    let asked = client.request(&ClusterRequest::MemberRemove { id: 7 }).unwrap();
    client.request(&put(b"a")).unwrap();
    assert_eq!(server.feed(&client.take_output(Vec::new()), &mut app), FeedOutcome::Drained);
    assert_eq!(app.ids, [asked + 1], "the application sees the put alone");
    assert!(server.outbox().is_idle(), "both are answered");
    let heard = heard(&mut client, &mut server);
    assert!(heard[0].starts_with("Error { request_id: 1, code: 12,"), "{heard:?}");
    assert!(heard[1].starts_with("Reply { request_id: 2, opcode: CompactReply"), "{heard:?}");
}

#[test]
fn a_malformed_request_about_the_cluster_ends_the_connection() {
    let (mut client, mut server) = pair();
    let mut app = Recorder::default();
    let peer_urls = vec!["u"; limits::MEMBER_URLS_MAX + 1];
    client.request(&ClusterRequest::MemberUpdate { id: 7, peer_urls }).unwrap();
    assert_eq!(server.feed(&client.take_output(Vec::new()), &mut app), FeedOutcome::Closed);
    assert!(app.ids.is_empty());
}
