//! A sans-IO HTTP/1.1 server for what curl, probes and the JSON gateway ask on the client port.
//!
//! How to drive one: `feed` what the socket gave while [`Http1::wants_input`]; take requests with
//! [`Http1::next_request`] until there is none; answer each, at once or later, with
//! [`Http1::respond`] or in chunks; write what is in [`Http1::output`]; close when
//! [`Http1::is_finished`] and that is empty.
//!
//! Invariants: one request is open at a time, so that answers leave in the order of their
//! requests; a head has at most 8 KiB, a body at most 2 MiB, and what cannot be told apart from
//! the next request ends the connection.
//! Source: RFC 9112 (syntax, framing), RFC 9110 section 10.1.1 (Expect).

use std::fmt::Write as _;

/// What the first bytes of a connection are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Too few bytes to tell.
    NeedMore,
    /// The HTTP/2 preface.
    Http2,
    /// A request line of HTTP/1.
    Http1,
    /// Neither.
    Unknown,
}

/// Tells the protocol by the first bytes of a connection.
pub fn sniff(bytes: &[u8]) -> Protocol {
    let common = bytes.len().min(PREFACE.len());
    if bytes[..common] == PREFACE[..common] {
        return if common == PREFACE.len() { Protocol::Http2 } else { Protocol::NeedMore };
    }
    let verb = bytes.iter().take_while(|byte| byte.is_ascii_uppercase()).count();
    match bytes.get(verb) {
        Some(b' ') if 0 < verb && verb <= VERB_SIZE_BYTES_MAX => Protocol::Http1,
        None if verb <= VERB_SIZE_BYTES_MAX => Protocol::NeedMore,
        _ => Protocol::Unknown,
    }
}

/// A request, borrowed from the connection until it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// `GET`, `HEAD`, `POST` or another.
    pub verb: &'a str,
    /// The path, without the query; still percent-encoded.
    pub path: &'a str,
    /// What follows the question mark; empty when nothing does.
    pub query: &'a str,
    /// The `authorization` field; empty when there is none.
    pub authorization: &'a str,
    /// The body in full.
    pub body: &'a [u8],
    /// Whether the connection goes on after the answer.
    pub keep_alive: bool,
}

/// A server connection.
#[derive(Debug, Default)]
pub struct Http1 {
    input: Vec<u8>,
    output: Vec<u8>,
    stage: Stage,
    head: Head,
    body: Vec<u8>,
    now_ms: u64,
    /// When the request that is coming in began to.
    begun_ms: Option<u64>,
    /// Goes into the next answer's head.
    extra_header: Option<(&'static str, String)>,
}

/// Where the connection is in its current request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    /// The head is awaited.
    #[default]
    Head,
    /// So many bytes of the body are awaited.
    Body { left: usize },
    /// A chunk's size line is awaited.
    ChunkSize,
    /// So many bytes of a chunk are awaited, then its line end.
    Chunk { left: usize },
    /// Fields behind the last chunk, up to an empty line.
    ChunkTrailers,
    /// The request is whole and waits to be taken.
    Whole,
    /// It was taken and waits for its answer.
    Taken,
    /// Its answer is being sent in chunks.
    Answering,
    /// Nothing more is read; what is left in the output is to be written.
    Over,
}

/// What is kept of a request's head.
#[derive(Debug, Default)]
struct Head {
    verb: String,
    path: String,
    query: String,
    authorization: String,
    keep_alive: bool,
    is_http_1_0: bool,
}

/// How a request's body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    Size(usize),
    Chunked,
}

/// The preface of HTTP/2 (RFC 9113 section 3.4).
const PREFACE: &[u8] = crate::http2::frame::PREFACE;
/// Longest method token that is taken for HTTP/1.
const VERB_SIZE_BYTES_MAX: usize = 16;
/// Largest request head, and largest trailers of a chunked body. Over it: 431.
pub const HEAD_SIZE_BYTES_MAX: usize = 8 << 10;
/// Header fields of a request. Over it: 431.
pub const HEAD_FIELDS_MAX: usize = 64;
/// Largest request body. Over it: 413.
pub const BODY_SIZE_BYTES_MAX: usize = 2 << 20;
/// Longest line with the size of a chunk.
const CHUNK_LINE_SIZE_BYTES_MAX: usize = 256;
/// Bytes taken ahead of what is answered, and unsent output, above which no more is read.
pub const AHEAD_SIZE_BYTES_MAX: usize = 64 << 10;
/// A request begun must be whole by then. Over it: the connection closes.
pub const REQUEST_MS_MAX: u64 = 30_000;

impl Http1 {
    /// A connection just accepted.
    pub fn new() -> Http1 {
        Http1::default()
    }

    /// Takes bytes as they came from the transport, cut anywhere.
    pub fn feed(&mut self, bytes: &[u8]) {
        if self.stage != Stage::Over {
            self.input.extend_from_slice(bytes);
            self.advance();
        }
    }

    /// Hands in the time (monotonic, any origin), at least each second.
    pub fn tick(&mut self, now_ms: u64) {
        self.now_ms = now_ms;
        let is_coming = !matches!(self.stage, Stage::Whole | Stage::Taken | Stage::Answering);
        let is_begun = self.stage != Stage::Head || !self.input.is_empty();
        if !is_coming || !is_begun {
            self.begun_ms = None;
            return;
        }
        let begun_ms = *self.begun_ms.get_or_insert(now_ms);
        if self.stage != Stage::Over && REQUEST_MS_MAX <= now_ms.saturating_sub(begun_ms) {
            self.refuse(408);
        }
    }

    /// The next request, when it is whole and the one before it is answered.
    pub fn next_request(&mut self) -> Option<Request<'_>> {
        if self.stage != Stage::Whole {
            return None;
        }
        self.stage = Stage::Taken;
        Some(Request {
            verb: &self.head.verb,
            path: &self.head.path,
            query: &self.head.query,
            authorization: &self.head.authorization,
            body: &self.body,
            keep_alive: self.head.keep_alive,
        })
    }

    /// Answers the request taken last, in full.
    pub fn respond(&mut self, status: u16, content_type: &str, body: &[u8]) {
        if self.stage != Stage::Taken {
            assert!(self.stage == Stage::Over, "a request was taken");
            return;
        }
        self.write_head(status, content_type, Framing::Size(body.len()));
        if self.head.verb != "HEAD" {
            self.output.extend_from_slice(body);
        }
        self.next();
    }

    /// Begins an answer whose size is not known; [`Http1::send_chunk`] goes on with it.
    pub fn begin_chunks(&mut self, status: u16, content_type: &str) {
        if self.stage != Stage::Taken {
            assert!(self.stage == Stage::Over, "a request was taken");
            return;
        }
        // HTTP/1.0 has no chunks: there the end of the connection ends the body.
        self.head.keep_alive &= !self.head.is_http_1_0;
        self.write_head(status, content_type, Framing::Chunked);
        self.stage = Stage::Answering;
    }

    /// A piece of the body; an empty one is nothing.
    pub fn send_chunk(&mut self, bytes: &[u8]) {
        if self.stage != Stage::Answering || bytes.is_empty() || self.head.verb == "HEAD" {
            return;
        }
        if self.head.is_http_1_0 {
            return self.output.extend_from_slice(bytes);
        }
        self.output.extend_from_slice(format!("{:x}\r\n", bytes.len()).as_bytes());
        self.output.extend_from_slice(bytes);
        self.output.extend_from_slice(b"\r\n");
    }

    /// The end of an answer in chunks.
    pub fn end_chunks(&mut self) {
        if self.stage != Stage::Answering {
            return;
        }
        if !self.head.is_http_1_0 && self.head.verb != "HEAD" {
            self.output.extend_from_slice(b"0\r\n\r\n");
        }
        self.next();
    }

    /// Bytes to send; the caller takes them.
    pub fn output(&mut self) -> &mut Vec<u8> {
        &mut self.output
    }

    /// Whether an answer in chunks should pause until output was taken.
    pub fn is_congested(&self) -> bool {
        AHEAD_SIZE_BYTES_MAX <= self.output.len()
    }

    /// Whether to read from the transport.
    pub fn wants_input(&self) -> bool {
        self.stage != Stage::Over && !self.is_congested() && self.input.len() < AHEAD_SIZE_BYTES_MAX
    }

    /// Write what is left, then close.
    pub fn is_finished(&self) -> bool {
        self.stage == Stage::Over
    }

    /// No further requests than the one that is open.
    pub fn drain(&mut self) {
        match self.stage {
            Stage::Taken | Stage::Whole | Stage::Answering => self.head.keep_alive = false,
            _ => self.stage = Stage::Over,
        }
    }

    /// The open request is answered: on with the next, or the end.
    fn next(&mut self) {
        self.body.clear();
        if AHEAD_SIZE_BYTES_MAX < self.body.capacity() {
            self.body = Vec::new();
        }
        self.stage = if self.head.keep_alive { Stage::Head } else { Stage::Over };
        self.advance();
    }

    /// Reads on until the request is whole or more input is needed.
    fn advance(&mut self) {
        loop {
            let before = (self.stage, self.input.len());
            let outcome = match self.stage {
                Stage::Head => self.read_head(),
                Stage::Body { left } => self.read_body(left),
                Stage::ChunkSize => self.read_chunk_size(),
                Stage::Chunk { left } => self.read_chunk(left),
                Stage::ChunkTrailers => self.read_trailers(),
                Stage::Whole | Stage::Taken | Stage::Answering | Stage::Over => return,
            };
            if let Err(status) = outcome {
                return self.refuse(status);
            }
            if before == (self.stage, self.input.len()) {
                return;
            }
        }
    }

    /// Ends the connection with an error of the request.
    fn refuse(&mut self, status: u16) {
        self.head.keep_alive = false;
        let text = format!("{status} {}\n", reason(status));
        self.write_head(status, "text/plain; charset=utf-8", Framing::Size(text.len()));
        self.output.extend_from_slice(text.as_bytes());
        self.input = Vec::new();
        self.body = Vec::new();
        self.stage = Stage::Over;
    }

    fn read_head(&mut self) -> Result<(), u16> {
        // Empty lines before a request are ignored (RFC 9112 section 2.2).
        let blank = self.input.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        self.input.drain(..blank);
        let mut fields = [httparse::EMPTY_HEADER; HEAD_FIELDS_MAX];
        let mut request = httparse::Request::new(&mut fields);
        let seen = &self.input[..self.input.len().min(HEAD_SIZE_BYTES_MAX)];
        let parsed = request.parse(seen).map_err(|error| -> u16 {
            match error {
                httparse::Error::TooManyHeaders => 431,
                httparse::Error::Version => 505,
                _ => 400,
            }
        })?;
        let httparse::Status::Complete(size_bytes) = parsed else {
            return if self.input.len() < HEAD_SIZE_BYTES_MAX { Ok(()) } else { Err(431) };
        };
        let framing = self.head.fill(&request)?;
        let expects_continue = field(request.headers, "expect")?
            .is_some_and(|value| value.eq_ignore_ascii_case("100-continue"));
        self.input.drain(..size_bytes);
        self.body.clear();
        self.stage = match framing {
            Framing::Size(size_bytes) if BODY_SIZE_BYTES_MAX < size_bytes => return Err(413),
            Framing::Size(0) => Stage::Whole,
            Framing::Size(left) => Stage::Body { left },
            Framing::Chunked => Stage::ChunkSize,
        };
        if expects_continue && self.stage != Stage::Whole && self.input.is_empty() {
            self.output.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
        }
        Ok(())
    }

    fn read_body(&mut self, left: usize) -> Result<(), u16> {
        let count = left.min(self.input.len());
        self.body.extend(self.input.drain(..count));
        let left = left - count;
        self.stage = if left == 0 { Stage::Whole } else { Stage::Body { left } };
        Ok(())
    }

    fn read_chunk_size(&mut self) -> Result<(), u16> {
        let seen = &self.input[..self.input.len().min(CHUNK_LINE_SIZE_BYTES_MAX)];
        let Ok(parsed) = httparse::parse_chunk_size(seen) else { return Err(400) };
        let httparse::Status::Complete((line_size_bytes, size_bytes)) = parsed else {
            return if seen.len() < CHUNK_LINE_SIZE_BYTES_MAX { Ok(()) } else { Err(400) };
        };
        let body_size_bytes = (self.body.len() as u64).saturating_add(size_bytes);
        if (BODY_SIZE_BYTES_MAX as u64) < body_size_bytes {
            return Err(413);
        }
        self.input.drain(..line_size_bytes);
        let left = size_bytes as usize;
        self.stage = if left == 0 { Stage::ChunkTrailers } else { Stage::Chunk { left } };
        Ok(())
    }

    fn read_chunk(&mut self, left: usize) -> Result<(), u16> {
        let count = left.min(self.input.len());
        self.body.extend(self.input.drain(..count));
        self.stage = Stage::Chunk { left: left - count };
        if count < left || self.input.len() < 2 {
            return Ok(());
        }
        if !self.input.starts_with(b"\r\n") {
            return Err(400);
        }
        self.input.drain(..2);
        self.stage = Stage::ChunkSize;
        Ok(())
    }

    fn read_trailers(&mut self) -> Result<(), u16> {
        let seen = &self.input[..self.input.len().min(HEAD_SIZE_BYTES_MAX)];
        let Some(end) = seen.iter().position(|&byte| byte == b'\n') else {
            return if seen.len() < HEAD_SIZE_BYTES_MAX { Ok(()) } else { Err(431) };
        };
        let is_last = matches!(&seen[..end], b"" | b"\r");
        self.input.drain(..=end);
        if is_last {
            self.stage = Stage::Whole;
        }
        Ok(())
    }

    /// A header more for the next answer.
    pub fn set_header(&mut self, name: &'static str, value: String) {
        self.extra_header = Some((name, value));
    }

    fn write_head(&mut self, status: u16, content_type: &str, framing: Framing) {
        let mut head = format!("HTTP/1.1 {status} {}\r\n", reason(status));
        let outcome = match framing {
            Framing::Size(size_bytes) => write!(head, "Content-Length: {size_bytes}\r\n"),
            Framing::Chunked if self.head.is_http_1_0 => Ok(()),
            Framing::Chunked => write!(head, "Transfer-Encoding: chunked\r\n"),
        };
        outcome.expect("a string takes everything");
        if !content_type.is_empty() {
            head.push_str("Content-Type: ");
            head.push_str(content_type);
            head.push_str("\r\n");
        }
        if let Some((name, value)) = self.extra_header.take() {
            write!(head, "{name}: {value}\r\n").expect("a string takes everything");
        }
        if !self.head.keep_alive {
            head.push_str("Connection: close\r\n");
        } else if self.head.is_http_1_0 {
            head.push_str("Connection: keep-alive\r\n");
        }
        head.push_str("\r\n");
        self.output.extend_from_slice(head.as_bytes());
    }
}

impl Head {
    /// Takes over what is needed of a request's head; returns how its body ends.
    fn fill(&mut self, request: &httparse::Request<'_, '_>) -> Result<Framing, u16> {
        let (verb, target) = (request.method.unwrap_or(""), request.path.unwrap_or(""));
        self.is_http_1_0 = request.version == Some(0);
        let target = match target.split_once("://") {
            Some((_, behind)) => behind.find('/').map_or("/", |slash| &behind[slash..]),
            None => target,
        };
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        for (text, value) in [
            (&mut self.verb, verb),
            (&mut self.path, path),
            (&mut self.query, query),
            (&mut self.authorization, field(request.headers, "authorization")?.unwrap_or("")),
        ] {
            text.clear();
            text.push_str(value);
        }
        let connection = field(request.headers, "connection")?.unwrap_or("");
        let says = |word: &str| {
            connection.split(',').any(|option| option.trim().eq_ignore_ascii_case(word))
        };
        self.keep_alive = if self.is_http_1_0 { says("keep-alive") } else { !says("close") };
        if !self.is_http_1_0 && field(request.headers, "host")?.is_none() {
            return Err(400);
        }
        match (field(request.headers, "transfer-encoding")?, content_length(request.headers)?) {
            // Two ways to frame one body are how requests are smuggled.
            (Some(_), Some(_)) => Err(400),
            (Some(coding), None) if coding.eq_ignore_ascii_case("chunked") => Ok(Framing::Chunked),
            (Some(_), None) => Err(501),
            (None, size_bytes) => Ok(Framing::Size(size_bytes.unwrap_or(0))),
        }
    }
}

/// The value of a field that may stand once; None without it.
fn field<'a>(fields: &[httparse::Header<'a>], name: &str) -> Result<Option<&'a str>, u16> {
    let mut found = fields.iter().filter(|field| field.name.eq_ignore_ascii_case(name));
    let Some(first) = found.next() else { return Ok(None) };
    if found.next().is_some() {
        return Err(400);
    }
    let value = std::str::from_utf8(first.value).map_err(|_| 400_u16)?;
    Ok(Some(value.trim()))
}

fn content_length(fields: &[httparse::Header<'_>]) -> Result<Option<usize>, u16> {
    let Some(value) = field(fields, "content-length")? else { return Ok(None) };
    if value.is_empty() || !value.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(400);
    }
    value.parse().map(Some).map_err(|_| 413)
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        204 => "No Content",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        412 => "Precondition Failed",
        413 => "Request Entity Too Large",
        415 => "Unsupported Media Type",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        499 => "Client Closed Request",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "Status",
    }
}

#[cfg(test)]
#[path = "http1_test.rs"]
mod tests;
