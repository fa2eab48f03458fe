//! From header fields to a request, and the refusals that need no application.
//!
//! Invariants: a tag holds what a field means, never what it says where that can expire or differ
//! in meaning between requests; the order in which faults are answered is grpc-go's.
//! Source: RFC 9113 section 8 (malformed requests); gRPC over HTTP/2, "Requests"; grpc-go's texts.

use super::application::Application;
use super::hpack::Tag;
use super::stream::{Encoding, Exchange};
use crate::grpc::Metadata;
use crate::grpc::metadata::{MalformedTimeout, decode_timeout, strip_bearer};
use crate::grpc::status;

/// Meanings of fields; [`TAG_ROUTE`] and above is the path of a known method.
mod tag {
    use super::Tag;
    pub const IGNORED: Tag = 1;
    pub const VERB_POST: Tag = 2;
    pub const VERB: Tag = 3;
    pub const PATH: Tag = 4;
    pub const SCHEME: Tag = 5;
    pub const AUTHORITY: Tag = 6;
    pub const CONTENT_TYPE_GRPC: Tag = 7;
    pub const CONTENT_TYPE: Tag = 8;
    pub const TIMEOUT: Tag = 9;
    pub const ENCODING: Tag = 10;
    pub const HAS_LEADER: Tag = 11;
    pub const TOKEN: Tag = 12;
    pub const AUTHORIZATION: Tag = 13;
    pub const MALFORMED: Tag = 14;
}

/// Tag of the path of method 0; method `m` has `TAG_ROUTE + m`.
const TAG_ROUTE: Tag = 32;
/// Tags from here on are worth remembering with the coded path.
pub const TAG_ROUTE_MIN: Tag = TAG_ROUTE + 1;

/// Pseudo-header fields seen, as bits.
mod seen {
    pub const VERB: u8 = 1;
    pub const PATH: u8 = 2;
    pub const SCHEME: u8 = 4;
    pub const AUTHORITY: u8 = 8;
    pub const REGULAR: u8 = 16;
    pub const CONTENT_TYPE: u8 = 32;
    pub const ENCODING: u8 = 64;
}

/// A request's header fields, in buffers that are used again for the next.
#[derive(Default)]
pub struct RequestHead {
    pub method: u32,
    pub path: Vec<u8>,
    verb: Vec<u8>,
    pub encoding: Encoding,
    is_post: bool,
    is_grpc: bool,
    is_malformed: bool,
    seen: u8,
    content_type: Vec<u8>,
    unknown_encoding: Vec<u8>,
    has_leader: Option<bool>,
    token: Option<usize>,
    authorization: Option<usize>,
    /// The token's bytes, then those of the authorization.
    secrets: Vec<u8>,
    timeout: Option<Result<u64, MalformedTimeout>>,
}

/// What becomes of a request.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// A call of a known method.
    Call,
    /// A plain request.
    Plain(Exchange),
    /// A stream error: PROTOCOL_ERROR.
    Malformed,
    /// Trailers-only with this HTTP status, gRPC status and text.
    Refused(u16, u32, String),
}

impl RequestHead {
    /// Ready for the next block.
    pub fn clear(&mut self) {
        self.method = 0;
        self.path.clear();
        self.verb.clear();
        self.encoding = Encoding::Identity;
        self.is_post = false;
        self.is_grpc = false;
        self.is_malformed = false;
        self.seen = 0;
        self.content_type.clear();
        self.unknown_encoding.clear();
        self.has_leader = None;
        self.token = None;
        self.authorization = None;
        self.secrets.clear();
        self.timeout = None;
    }

    /// Takes one field. `tag` is looked at first, and filled in when it is 0.
    pub fn on_field(
        &mut self,
        name: &[u8],
        value: &[u8],
        tag: &mut Tag,
        app: &mut impl Application,
    ) {
        if *tag == 0 {
            *tag = classify(name, value, app);
        }
        match *tag {
            tag::VERB_POST => {
                self.on_pseudo(seen::VERB);
                self.is_post = true;
            }
            tag::VERB => {
                self.on_pseudo(seen::VERB);
                self.verb.extend_from_slice(value);
            }
            tag::PATH => {
                self.on_pseudo(seen::PATH);
                self.is_malformed |= value.is_empty();
                self.path.extend_from_slice(value);
            }
            tag::SCHEME => self.on_pseudo(seen::SCHEME),
            tag::AUTHORITY => self.on_pseudo(seen::AUTHORITY),
            tag::MALFORMED => self.is_malformed = true,
            route if TAG_ROUTE_MIN <= route => {
                self.on_pseudo(seen::PATH);
                self.method = route - TAG_ROUTE;
            }
            regular => self.on_regular(regular, value),
        }
    }

    fn on_pseudo(&mut self, bit: u8) {
        self.is_malformed |= self.seen & (bit | seen::REGULAR) != 0;
        self.seen |= bit;
    }

    /// A regular field; of one that is repeated the first counts, as in etcd.
    fn on_regular(&mut self, tag: Tag, value: &[u8]) {
        self.seen |= seen::REGULAR;
        let is_first = |seen: &mut u8, bit: u8| {
            let is_first = *seen & bit == 0;
            *seen |= bit;
            is_first
        };
        match tag {
            tag::CONTENT_TYPE_GRPC => {
                self.is_grpc |= is_first(&mut self.seen, seen::CONTENT_TYPE);
            }
            tag::CONTENT_TYPE if is_first(&mut self.seen, seen::CONTENT_TYPE) => {
                self.content_type.extend_from_slice(value);
            }
            tag::TIMEOUT if self.timeout.is_none() => self.timeout = Some(decode_timeout(value)),
            tag::ENCODING if is_first(&mut self.seen, seen::ENCODING) => match value {
                b"identity" | b"" => {}
                b"gzip" => self.encoding = Encoding::Gzip,
                _ => self.unknown_encoding.extend_from_slice(value),
            },
            tag::HAS_LEADER if self.has_leader.is_none() => {
                self.has_leader = Some(value == b"true");
            }
            tag::TOKEN if self.token.is_none() => {
                // In front of the authorization, which may have come first.
                self.secrets.splice(0..0, value.iter().copied());
                self.token = Some(value.len());
            }
            tag::AUTHORIZATION if self.authorization.is_none() => {
                let value = strip_bearer(value);
                self.secrets.extend_from_slice(value);
                self.authorization = Some(value.len());
            }
            _ => {}
        }
    }

    /// The verb of the request line.
    pub fn verb(&self) -> &[u8] {
        if self.is_post { b"POST" } else { &self.verb }
    }

    /// Whether the block had any pseudo-header field, which trailers must not.
    pub fn has_pseudo(&self) -> bool {
        self.seen & (seen::VERB | seen::PATH | seen::SCHEME | seen::AUTHORITY) != 0
    }

    /// What the application is told of the fields.
    pub fn metadata(&self) -> Metadata<'_> {
        let token = match (self.token, self.authorization) {
            (Some(size_bytes), _) => &self.secrets[..size_bytes],
            (None, _) => &self.secrets[..],
        };
        let timeout_us = self.timeout.and_then(Result::ok);
        Metadata { has_leader: self.has_leader == Some(true), token, timeout_us }
    }

    /// Judges the request by its fields alone, in grpc-go's order.
    pub fn verdict(&self, app: &mut impl Application) -> Verdict {
        let required = seen::VERB | seen::PATH | seen::SCHEME;
        if self.is_malformed || self.seen & required != required {
            return Verdict::Malformed;
        }
        if !self.is_grpc {
            if self.method == 0 {
                let is_head = self.verb == b"HEAD";
                return Verdict::Plain(if is_head { Exchange::PlainHead } else { Exchange::Plain });
            }
            let text = format!("invalid gRPC request content-type {}", quote(&self.content_type));
            return Verdict::Refused(415, status::INVALID_ARGUMENT, text);
        }
        if let Some(Err(fault)) = self.timeout {
            let text = format!("malformed grpc-timeout: {fault}");
            return Verdict::Refused(400, status::INTERNAL, text);
        }
        if !self.is_post {
            let verb = quote(&self.verb);
            let text = format!("Received a HEADERS frame with :method {verb} which should be POST");
            return Verdict::Refused(405, status::INTERNAL, text);
        }
        if self.method == 0 {
            return Verdict::Refused(200, status::UNIMPLEMENTED, self.unknown_method(app));
        }
        if !self.unknown_encoding.is_empty() {
            let encoding = quote(&self.unknown_encoding);
            let text = format!("grpc: Decompressor is not installed for grpc-encoding {encoding}");
            return Verdict::Refused(200, status::UNIMPLEMENTED, text);
        }
        Verdict::Call
    }

    fn unknown_method(&self, app: &mut impl Application) -> String {
        let path = self.path.strip_prefix(b"/").unwrap_or(&self.path);
        let Some(slash) = path.iter().rposition(|&byte| byte == b'/') else {
            return format!("malformed method name: {}", quote(&self.path));
        };
        let service = String::from_utf8_lossy(&path[..slash]);
        if app.has_service(&path[..slash]) {
            let method = String::from_utf8_lossy(&path[slash + 1..]);
            return format!("unknown method {method} for service {service}");
        }
        format!("unknown service {service}")
    }
}

/// The meaning of a field that comes for the first time.
fn classify(name: &[u8], value: &[u8], app: &mut impl Application) -> Tag {
    match name {
        b":method" if value == b"POST" => tag::VERB_POST,
        b":method" => tag::VERB,
        b":path" => match app.route(value) {
            0 => tag::PATH,
            method => TAG_ROUTE + method,
        },
        b":scheme" => tag::SCHEME,
        b":authority" => tag::AUTHORITY,
        b"content-type" if is_grpc_content_type(value) => tag::CONTENT_TYPE_GRPC,
        b"content-type" => tag::CONTENT_TYPE,
        b"te" if value == b"trailers" => tag::IGNORED,
        b"grpc-timeout" => tag::TIMEOUT,
        b"grpc-encoding" => tag::ENCODING,
        b"hasleader" => tag::HAS_LEADER,
        b"token" => tag::TOKEN,
        b"authorization" => tag::AUTHORIZATION,
        b"te" | b"connection" | b"transfer-encoding" | b"upgrade" | b"keep-alive"
        | b"proxy-connection" => tag::MALFORMED,
        _ if name.is_empty() || !name.iter().all(|&byte| is_name_byte(byte)) => tag::MALFORMED,
        _ if value.iter().any(|byte| matches!(byte, 0 | b'\r' | b'\n')) => tag::MALFORMED,
        _ => tag::IGNORED,
    }
}

/// Lower-case tokens only: RFC 9113 section 8.2.1.
fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn is_grpc_content_type(value: &[u8]) -> bool {
    let Some(rest) = value.strip_prefix(b"application/grpc") else { return false };
    matches!(rest.first(), None | Some(b'+' | b';'))
}

/// Bytes as a Go `%q` prints plain text.
fn quote(bytes: &[u8]) -> String {
    format!("{:?}", String::from_utf8_lossy(bytes))
}
