//! A client's side of one connection: puts into bytes, answers out of them.

use engine::api::PutRequest;
use net::http2::hpack::encode;
use net::wire::{ClientHello, ClientSession, Message, Request};

/// One connection's client.
pub struct Client {
    protocol: Protocol,
    output: Vec<u8>,
    /// Calls without an answer yet.
    pub outstanding: usize,
}

enum Protocol {
    Binary(Box<ClientSession>),
    Grpc(Http2),
}

/// The little of HTTP/2 that puts need, framed as tonic frames them.
#[derive(Default)]
struct Http2 {
    calls: u32,
    received: Vec<u8>,
}

impl Client {
    /// A client that greets.
    pub fn new(is_grpc: bool) -> Client {
        let mut output = Vec::new();
        let protocol = if is_grpc {
            output.extend_from_slice(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
            push_frame(&mut output, SETTINGS, 0, 0, &[]);
            push_frame(&mut output, WINDOW_UPDATE, 0, 0, &WINDOW_STEP);
            Protocol::Grpc(Http2::default())
        } else {
            Protocol::Binary(Box::new(ClientSession::new(&ClientHello::default())))
        };
        Client { protocol, output, outstanding: 0 }
    }

    /// What is to be sent.
    pub fn take_output(&mut self) -> Vec<u8> {
        if let Protocol::Binary(session) = &mut self.protocol {
            return session.take_output(Vec::new());
        }
        std::mem::take(&mut self.output)
    }

    /// Asks for one put.
    pub fn put(&mut self, key: &[u8], value: &[u8]) {
        self.outstanding += 1;
        match &mut self.protocol {
            Protocol::Binary(session) => {
                let put = PutRequest { key, value, ..PutRequest::default() };
                session.request(&Request::Put(put)).expect("a small request fits");
            }
            Protocol::Grpc(http) => http.put(key, value, &mut self.output),
        }
    }

    /// Takes what came; how many puts it answers.
    pub fn take_answers(&mut self, bytes: &[u8]) -> u64 {
        let mut answers = 0;
        match &mut self.protocol {
            Protocol::Binary(session) => {
                let fed = session.feed(bytes, &mut |message| match message {
                    Message::Reply { .. } => answers += 1,
                    Message::Error { message, .. } => panic!("a put was refused: {message}"),
                    _ => {}
                });
                fed.expect("the shard speaks the protocol");
            }
            Protocol::Grpc(http) => answers = http.take_answers(bytes, &mut self.output),
        }
        self.outstanding -= answers as usize;
        answers
    }
}

impl Http2 {
    fn put(&mut self, key: &[u8], value: &[u8], output: &mut Vec<u8>) {
        let stream = 2 * self.calls + 1;
        let mut block = vec![0x83, 0x86];
        encode::literal(4, b"/etcdserverpb.KV/Put", &mut block);
        if self.calls == 0 {
            encode::literal_indexed(1, b"127.0.0.1:2379", &mut block);
            encode::literal_indexed_new(b"te", b"trailers", &mut block);
            encode::literal_indexed(31, b"application/grpc", &mut block);
            encode::literal_indexed(58, b"tonic/0.14", &mut block);
        } else {
            [65, 64, 63, 62].iter().for_each(|index| encode::indexed(*index, &mut block));
        }
        self.calls += 1;
        push_frame(output, HEADERS, END_HEADERS, stream, &block);
        let mut put = vec![KEY_FIELD, key.len() as u8];
        put.extend_from_slice(key);
        put.extend_from_slice(&[VALUE_FIELD, value.len() as u8 | 0x80, (value.len() >> 7) as u8]);
        put.extend_from_slice(value);
        let mut message = vec![0];
        message.extend_from_slice(&(put.len() as u32).to_be_bytes());
        message.extend_from_slice(&put);
        push_frame(output, DATA, 0, stream, &message);
        push_frame(output, DATA, END_STREAM, stream, &[]);
    }

    fn take_answers(&mut self, bytes: &[u8], output: &mut Vec<u8>) -> u64 {
        self.received.extend_from_slice(bytes);
        let (mut at, mut answers) = (0, 0);
        while let Some((header, rest)) = self.received[at..].split_first_chunk::<9>() {
            let size = u32::from_be_bytes([0, header[0], header[1], header[2]]) as usize;
            let Some(payload) = rest.get(..size) else { break };
            match (header[3], header[4]) {
                (HEADERS, flags) => answers += u64::from(flags & END_STREAM != 0),
                (SETTINGS | PING, 0) => push_frame(
                    output,
                    header[3],
                    ACK,
                    0,
                    match header[3] {
                        PING => payload,
                        _ => &[],
                    },
                ),
                (RESET | GO_AWAY, _) => panic!("a put was refused"),
                _ => {}
            }
            at += header.len() + size;
        }
        self.received.drain(..at);
        answers
    }
}

fn push_frame(bytes: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    bytes.extend_from_slice(&(payload.len() as u32).to_be_bytes()[1..]);
    bytes.extend_from_slice(&[kind, flags]);
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GO_AWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

/// The connection's window, opened as far as it goes: no answer waits for room.
const WINDOW_STEP: [u8; 4] = [0x7f, 0, 0, 0];

/// Field numbers and wire types of a put's key and value.
const KEY_FIELD: u8 = 0x0a;
const VALUE_FIELD: u8 = 0x12;
