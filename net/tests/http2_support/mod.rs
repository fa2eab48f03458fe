//! What the tests of the HTTP/2 server share: an application that echoes, counts and records, raw
//! frames, and the parsing of what the server sends.
#![allow(dead_code)]

use std::collections::BTreeMap;

use net::grpc::{Metadata, status};
use net::http2::frame::{FrameHeader, HEADER_SIZE_BYTES, PREFACE, flag, kind};
use net::http2::hpack::{Decoder, encode};
use net::http2::{Application, Connection, InputBudget, InputPurpose, StreamId, Transmit, Work};

/// Answers each message with eight bytes and OK at once, before the client's END_STREAM.
pub const PUT: u32 = 1;
/// The message is a size; answers with one message of it when the client has ended: an odd size in
/// pieces, obeying `congested`.
pub const RANGE: u32 = 2;
/// Each message is a count; answers with so many small messages, obeying `congested`.
pub const WATCH: u32 = 3;
/// Answers only when the test does.
pub const LATER: u32 = 4;
/// Answers with the size and a checksum of each message, and OK when the client has ended.
pub const DIGEST: u32 = 5;

pub const PATHS: [(&str, u32); 5] = [
    ("/etcdserverpb.KV/Put", PUT),
    ("/etcdserverpb.KV/Range", RANGE),
    ("/etcdserverpb.Watch/Watch", WATCH),
    ("/etcdserverpb.KV/Txn", LATER),
    ("/etcdserverpb.KV/Digest", DIGEST),
];

#[derive(Default)]
pub struct Watch {
    pub due: u32,
    pub sent: u32,
    pub half_closed: bool,
}

/// The application of the tests.
pub struct Echo {
    /// Everything that happened, one line each.
    pub log: Vec<String>,
    pub watches: BTreeMap<StreamId, Watch>,
    pub range_sizes: BTreeMap<StreamId, usize>,
    /// Answers in pieces: their size, and what of them was sent.
    pub pieces: BTreeMap<StreamId, (usize, usize)>,
    /// Streams of [`LATER`] that wait for the test.
    pub waiting: Vec<StreamId>,
    pub gone: usize,
    pub messages: usize,
    pub budget: InputBudget,
    /// What `gone` answers.
    pub work: Work,
    pub records: bool,
    pub stopped: usize,
}

impl Default for Echo {
    fn default() -> Echo {
        Echo {
            log: Vec::new(),
            watches: BTreeMap::new(),
            range_sizes: BTreeMap::new(),
            pieces: BTreeMap::new(),
            waiting: Vec::new(),
            gone: 0,
            messages: 0,
            budget: InputBudget::new(64 << 20),
            work: Work::Cancelled,
            records: true,
            stopped: 0,
        }
    }
}

pub fn digest(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    })
}

/// The bytes of a [`RANGE`] answer.
pub fn blob(size_bytes: usize) -> Vec<u8> {
    (0..size_bytes).map(|place| (place / 7 + place) as u8).collect()
}

impl Echo {
    fn record(&mut self, line: impl FnOnce() -> String) {
        if self.records {
            self.log.push(line());
        }
    }

    fn watch_on(&mut self, transmit: &mut Transmit, stream: StreamId) {
        let Some(watch) = self.watches.get_mut(&stream) else { return };
        while watch.sent < watch.due {
            if transmit.congested(stream) {
                self.stopped += 1;
                return;
            }
            watch.sent += 1;
            let number = watch.sent;
            transmit.send(stream, |out| out.extend_from_slice(&number.to_be_bytes()));
        }
        if watch.half_closed {
            self.watches.remove(&stream);
            transmit.finish(stream, status::OK, "");
        }
    }
}

impl Echo {
    fn go_on(&mut self, transmit: &mut Transmit, stream: StreamId) {
        let Some((size_bytes, sent)) = self.pieces.get_mut(&stream) else { return };
        let bytes = blob(*size_bytes);
        while *sent < *size_bytes {
            if transmit.congested(stream) {
                self.stopped += 1;
                return;
            }
            let end = (*sent + PIECE_BYTES).min(*size_bytes);
            let piece = &bytes[*sent..end];
            assert!(transmit.go_on(stream, |out| out.extend_from_slice(piece)));
            *sent = end;
        }
        self.pieces.remove(&stream);
        transmit.finish(stream, status::OK, "");
    }
}

/// A piece of an answer in pieces.
pub const PIECE_BYTES: usize = 20_000;

fn number(body: &[u8]) -> u32 {
    body.first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes))
}

impl Application for Echo {
    fn route(&mut self, path: &[u8]) -> u32 {
        PATHS.iter().find(|(known, _)| known.as_bytes() == path).map_or(0, |(_, method)| *method)
    }

    fn has_service(&mut self, service: &[u8]) -> bool {
        matches!(service, b"etcdserverpb.KV" | b"etcdserverpb.Watch")
    }

    fn open(&mut self, _: &mut Transmit, id: StreamId, method: u32, metadata: &Metadata<'_>) {
        self.record(|| {
            let token = String::from_utf8_lossy(metadata.token);
            let (leader, timeout) = (metadata.has_leader, metadata.timeout_us);
            format!("open {} {method} {leader} {token} {timeout:?}", id.0)
        });
        if method == WATCH {
            self.watches.insert(id, Watch::default());
        }
    }

    fn message(&mut self, transmit: &mut Transmit, id: StreamId, method: u32, body: &[u8]) {
        self.messages += 1;
        self.record(|| format!("message {} {} {:x}", id.0, body.len(), digest(body)));
        match method {
            PUT => {
                let answer = digest(body);
                transmit.send(id, |out| out.extend_from_slice(&answer.to_be_bytes()));
                transmit.finish(id, status::OK, "");
            }
            RANGE => {
                self.range_sizes.insert(id, number(body) as usize);
            }
            WATCH => {
                self.watches.get_mut(&id).unwrap().due += number(body);
                self.watch_on(transmit, id);
            }
            LATER => self.waiting.push(id),
            DIGEST => {
                let answer = [(body.len() as u64).to_be_bytes(), digest(body).to_be_bytes()];
                transmit.send(id, |out| out.extend_from_slice(&answer.concat()));
            }
            _ => unreachable!(),
        }
    }

    fn half_close(&mut self, transmit: &mut Transmit, id: StreamId, method: u32) {
        self.record(|| format!("half_close {}", id.0));
        match method {
            RANGE => {
                let size_bytes = self.range_sizes.remove(&id).unwrap_or(0);
                if size_bytes % 2 == 1 {
                    if transmit.begin(id, size_bytes) {
                        self.pieces.insert(id, (size_bytes, 0));
                        self.go_on(transmit, id);
                    }
                    return;
                }
                transmit.send(id, |out| out.extend_from_slice(&blob(size_bytes)));
                transmit.finish(id, status::OK, "");
            }
            WATCH => {
                self.watches.get_mut(&id).unwrap().half_closed = true;
                self.watch_on(transmit, id);
            }
            DIGEST => transmit.finish(id, status::OK, ""),
            _ => {}
        }
    }

    fn gone(&mut self, id: StreamId, _: u32) -> Work {
        self.record(|| format!("gone {}", id.0));
        self.watches.remove(&id);
        self.range_sizes.remove(&id);
        self.pieces.remove(&id);
        self.gone += 1;
        self.work
    }

    fn writable(&mut self, transmit: &mut Transmit, id: StreamId, method: u32) {
        match method {
            RANGE => self.go_on(transmit, id),
            WATCH => self.watch_on(transmit, id),
            _ => unreachable!(),
        }
    }

    fn http_request(&mut self, transmit: &mut Transmit, id: StreamId, verb: &[u8], path: &[u8]) {
        let [verb, path] = [verb, path].map(String::from_utf8_lossy);
        self.record(|| format!("http {} {verb} {path}", id.0));
        match path.as_ref() {
            "/version" => transmit.respond(id, 200, "application/json", b"{\"etcdserver\":\"x\"}"),
            "/large" => transmit.respond(id, 200, "text/plain", &blob(300_000)),
            _ => transmit.respond(id, 404, "text/plain", b"404 page not found\n"),
        }
    }

    fn reserve_input(&mut self, size_bytes: usize, purpose: InputPurpose) -> bool {
        self.budget.reserve(size_bytes, purpose)
    }

    fn release_input(&mut self, size_bytes: usize) {
        self.budget.release(size_bytes);
    }
}

/// A frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let stream = StreamId(stream);
    let header = FrameHeader { size_bytes: payload.len(), kind, flags, stream };
    [&header.encode()[..], payload].concat()
}

/// Preface and SETTINGS.
pub fn hello(settings: &[(u16, u32)]) -> Vec<u8> {
    let mut payload = Vec::new();
    for (identifier, value) in settings {
        payload.extend(identifier.to_be_bytes());
        payload.extend(value.to_be_bytes());
    }
    [&PREFACE[..], &frame(kind::SETTINGS, 0, 0, &payload)].concat()
}

/// The header block of a call, in literals; `more` is put behind.
pub fn call_block(path: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let fields = [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "h")];
    let grpc = [("content-type", "application/grpc"), ("te", "trailers")];
    block(fields.iter().chain(&grpc).chain(more))
}

/// A header block of literals.
pub fn block<'a>(fields: impl IntoIterator<Item = &'a (&'a str, &'a str)>) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        encode::literal_new(name.as_bytes(), value.as_bytes(), &mut block);
    }
    block
}

pub fn headers(stream: u32, block: &[u8]) -> Vec<u8> {
    frame(kind::HEADERS, flag::END_HEADERS, stream, block)
}

/// A gRPC message with its prefix.
pub fn message(body: &[u8]) -> Vec<u8> {
    [&[0][..], &(body.len() as u32).to_be_bytes(), body].concat()
}

/// A whole unary call in the shape of tonic's: END_STREAM in an empty frame of its own.
pub fn call(stream: u32, path: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes = headers(stream, &call_block(path, &[]));
    let message = message(body);
    for piece in message.chunks(16_384) {
        bytes.extend(frame(kind::DATA, 0, stream, piece));
    }
    bytes.extend(frame(kind::DATA, flag::END_STREAM, stream, &[]));
    bytes
}

/// A frame that the server sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

/// What the server sent, taken apart.
pub fn parse(mut bytes: &[u8]) -> Vec<Sent> {
    let mut frames = Vec::new();
    while let Some((header, behind)) = bytes.split_first_chunk::<HEADER_SIZE_BYTES>() {
        let header = FrameHeader::decode(header);
        let (payload, behind) = behind.split_at(header.size_bytes);
        let (kind, flags, stream) = (header.kind, header.flags, header.stream.0);
        frames.push(Sent { kind, flags, stream, payload: payload.to_vec() });
        bytes = behind;
    }
    assert!(bytes.is_empty(), "output is whole frames");
    frames
}

/// A server connection with its application, driven by raw bytes.
pub struct Server {
    pub connection: Connection,
    pub app: Echo,
    pub decoder: Decoder,
    pub sent: Vec<Sent>,
}

impl Server {
    pub fn new() -> Server {
        Server::with(net::http2::Limits::default())
    }

    pub fn with(limits: net::http2::Limits) -> Server {
        Server {
            connection: Connection::new(limits),
            app: Echo::default(),
            decoder: Decoder::new(4096, 1 << 30),
            sent: Vec::new(),
        }
    }

    /// Feeds `bytes` and takes the output.
    pub fn feed(&mut self, bytes: &[u8]) -> &mut Server {
        self.connection.feed(bytes, &mut self.app);
        self.take()
    }

    /// Feeds without taking the output.
    pub fn feed_only(&mut self, bytes: &[u8]) -> &mut Server {
        self.connection.feed(bytes, &mut self.app);
        self
    }

    /// Takes the output until there is none.
    pub fn take(&mut self) -> &mut Server {
        loop {
            let output = std::mem::take(self.connection.output());
            if output.is_empty() {
                return self;
            }
            self.sent.extend(parse(&output));
            self.connection.flushed(&mut self.app);
        }
    }

    pub fn tick(&mut self, now_ms: u64) -> &mut Server {
        self.connection.tick(now_ms, &mut self.app);
        self.take()
    }

    /// Code and text of the GOAWAY that ended the connection, if one did.
    pub fn goaway(&self) -> Option<(u32, String)> {
        let frame = self.sent.iter().rfind(|frame| frame.kind == kind::GOAWAY)?;
        let code = u32::from_be_bytes(frame.payload[4..8].try_into().unwrap());
        Some((code, String::from_utf8(frame.payload[8..].to_vec()).unwrap()))
    }

    /// Codes of the resets of a stream.
    pub fn resets(&self, stream: u32) -> Vec<u32> {
        let is_reset = |frame: &&Sent| frame.kind == kind::RST_STREAM && frame.stream == stream;
        let code = |frame: &Sent| u32::from_be_bytes(frame.payload[..4].try_into().unwrap());
        self.sent.iter().filter(is_reset).map(code).collect()
    }

    pub fn count(&self, kind: u8) -> usize {
        self.sent.iter().filter(|frame| frame.kind == kind).count()
    }

    /// Bytes of all DATA of a stream.
    pub fn data(&self, stream: u32) -> Vec<u8> {
        let is_data = |frame: &&Sent| frame.kind == kind::DATA && frame.stream == stream;
        self.sent.iter().filter(is_data).flat_map(|frame| frame.payload.clone()).collect()
    }

    /// All header fields sent so far, by stream; to be called once, since blocks refer back.
    pub fn fields(&mut self) -> BTreeMap<u32, Vec<(String, String)>> {
        let mut fields: BTreeMap<u32, Vec<(String, String)>> = BTreeMap::new();
        for frame in self.sent.iter().filter(|frame| frame.kind == kind::HEADERS) {
            let of_stream = fields.entry(frame.stream).or_default();
            let decoded = self.decoder.decode(&frame.payload, |name, value, _| {
                let [name, value] = [name, value].map(|text| String::from_utf8(text.to_vec()));
                of_stream.push((name.unwrap(), value.unwrap()));
            });
            decoded.unwrap();
        }
        fields
    }

    /// The status line of a stream's answer: `:status`, `grpc-status`, `grpc-message`.
    pub fn status(&mut self, stream: u32) -> (String, String, String) {
        let fields = self.fields().remove(&stream).unwrap_or_default();
        let value = |name: &str| {
            let found = fields.iter().find(|(other, _)| other == name);
            found.map(|(_, value)| value.clone()).unwrap_or_default()
        };
        (value(":status"), value("grpc-status"), value("grpc-message"))
    }
}
