//! Bytes to meaning and back: both protocols, fed with pre-encoded puts.

use crate::{KEY_SIZE_BYTES, VALUE_SIZE_BYTES};
use criterion::{Criterion, Throughput};
use engine::api::{PutRequest, PutResponse};
use net::grpc::Metadata;
use net::http2::hpack::encode;
use net::http2::{Application, Connection, InputPurpose, Limits, StreamId, Transmit, Work};
use net::wire::{
    ClientHello, ClientSession, FeedOutcome, Flow, Outbox, Reply, Request, ServerIdentity,
    ServerLimits, WireApplication, WireSession,
};

/// Answers every call at once with a few bytes.
#[derive(Default)]
struct Unary {
    calls: u64,
}

impl Application for Unary {
    fn route(&mut self, path: &[u8]) -> u32 {
        u32::from(path == PUT_PATH)
    }

    fn has_service(&mut self, _: &[u8]) -> bool {
        true
    }

    fn open(&mut self, _: &mut Transmit, _: StreamId, _: u32, _: &Metadata<'_>) {}

    fn message(&mut self, transmit: &mut Transmit, stream: StreamId, _: u32, body: &[u8]) {
        self.calls += 1;
        transmit.send(stream, |out| out.extend_from_slice(&body[..8]));
        transmit.finish(stream, 0, "");
    }

    fn half_close(&mut self, _: &mut Transmit, _: StreamId, _: u32) {}

    fn gone(&mut self, _: StreamId, _: u32) -> Work {
        Work::Cancelled
    }

    fn writable(&mut self, _: &mut Transmit, _: StreamId, _: u32) {}

    fn http_request(&mut self, _: &mut Transmit, _: StreamId, _: &[u8], _: &[u8]) {}

    fn reserve_input(&mut self, _: usize, _: InputPurpose) -> bool {
        true
    }

    fn release_input(&mut self, _: usize) {}
}

/// One connection takes a batch of puts as tonic frames them: headers, message, empty end.
pub(crate) fn http2(criterion: &mut Criterion) {
    let mut app = Unary::default();
    let mut connection = Connection::new(Limits::default());
    let mut opening = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    push_frame(&mut opening, SETTINGS, 0, 0, &[]);
    push_frame(&mut opening, WINDOW_UPDATE, 0, 0, &[0x7f, 0, 0, 0]);
    connection.feed(&opening, &mut app);
    let mut calls = Vec::new();
    push_call(&mut calls, 1, true);
    connection.feed(&calls, &mut app);
    let mut stream = 3;
    let mut group = criterion.benchmark_group("http2");
    group.throughput(Throughput::Elements(BATCH.into()));
    group.bench_function(format!("feed/{BATCH} puts"), |bencher| {
        bencher.iter_custom(|batches| {
            let mut elapsed = std::time::Duration::ZERO;
            for _ in 0..batches {
                calls.clear();
                for _ in 0..BATCH {
                    push_call(&mut calls, stream, false);
                    stream += 2;
                }
                let before = app.calls;
                let begin = std::time::Instant::now();
                connection.feed(&calls, &mut app);
                connection.output().clear();
                connection.flushed(&mut app);
                elapsed += begin.elapsed();
                assert_eq!(app.calls, before + u64::from(BATCH));
            }
            elapsed
        });
    });
}

fn push_call(calls: &mut Vec<u8>, stream: u32, is_first: bool) {
    let mut block = vec![0x83, 0x86];
    encode::literal(4, PUT_PATH, &mut block);
    if is_first {
        encode::literal_indexed(1, b"127.0.0.1:2379", &mut block);
        encode::literal_indexed_new(b"te", b"trailers", &mut block);
        encode::literal_indexed(31, b"application/grpc", &mut block);
        encode::literal_indexed(58, b"tonic/0.14", &mut block);
    } else {
        for index in [65, 64, 63, 62] {
            encode::indexed(index, &mut block);
        }
    }
    push_frame(calls, HEADERS, END_HEADERS, stream, &block);
    let mut put = vec![0x0a, KEY_SIZE_BYTES as u8];
    put.extend_from_slice(&[b'k'; KEY_SIZE_BYTES]);
    put.extend_from_slice(&[0x12, 0x80, 0x02]);
    put.extend_from_slice(&[b'v'; VALUE_SIZE_BYTES]);
    let mut message = vec![0];
    message.extend_from_slice(&(put.len() as u32).to_be_bytes());
    message.extend_from_slice(&put);
    push_frame(calls, DATA, 0, stream, &message);
    push_frame(calls, DATA, END_STREAM, stream, &[]);
}

fn push_frame(bytes: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    bytes.extend_from_slice(&(payload.len() as u32).to_be_bytes()[1..]);
    bytes.extend_from_slice(&[kind, flags]);
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
}

/// Answers every put at once.
struct Puts {
    calls: u64,
}

impl WireApplication for Puts {
    fn on_request(&mut self, outbox: &mut Outbox, request_id: u64, request: Request<'_>) -> Flow {
        assert!(matches!(request, Request::Put(_)));
        self.calls += 1;
        let answer = PutResponse { revision: self.calls as i64, ..PutResponse::default() };
        outbox.reply(request_id, 1, Reply::Put(&answer));
        Flow::Continue
    }

    fn on_watch_credit(&mut self, _: &mut Outbox, _: u64, _: i64) {}
}

/// One session takes a batch of pipelined puts.
pub(crate) fn binary(criterion: &mut Criterion) {
    let mut client = ClientSession::new(&ClientHello::default());
    let mut server = WireSession::new(ServerIdentity::default(), ServerLimits::default());
    let mut app = Puts { calls: 0 };
    let opened = server.feed(&client.take_output(Vec::new()), &mut app);
    assert_eq!(opened, FeedOutcome::Drained);
    let hello = server.outbox().take_output(Vec::new());
    client.feed(&hello, &mut |_| {}).expect("the server speaks the protocol");
    let (key, value) = ([b'k'; KEY_SIZE_BYTES], [b'v'; VALUE_SIZE_BYTES]);
    let mut answers = Vec::new();
    let mut group = criterion.benchmark_group("wire");
    group.throughput(Throughput::Elements(BATCH.into()));
    group.bench_function(format!("feed/{BATCH} puts"), |bencher| {
        bencher.iter_custom(|batches| {
            let mut elapsed = std::time::Duration::ZERO;
            for _ in 0..batches {
                for _ in 0..BATCH {
                    let put = PutRequest { key: &key, value: &value, ..PutRequest::default() };
                    client.request(&Request::Put(put)).expect("a small request fits");
                }
                let requests = client.take_output(Vec::new());
                let begin = std::time::Instant::now();
                let outcome = server.feed(&requests, &mut app);
                answers.clear();
                answers = server.outbox().take_output(std::mem::take(&mut answers));
                elapsed += begin.elapsed();
                assert_eq!(outcome, FeedOutcome::Drained);
            }
            elapsed
        });
    });
}

const PUT_PATH: &[u8] = b"/etcdserverpb.KV/Put";
const BATCH: u32 = 64;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const WINDOW_UPDATE: u8 = 8;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
