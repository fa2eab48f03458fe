//! A sans-IO HTTP/1.1 server for what curl, probes and the JSON gateway ask on the client port.
//!
//! Invariants: a request head has at most 8 KiB, a body at most 2 MiB; answers leave in the order
//! of their requests.
//! Source: RFC 9112; the gRPC design page for what shares the port.

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

/// The preface of HTTP/2 (RFC 9113 section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Longest method token that is taken for HTTP/1.
const VERB_SIZE_BYTES_MAX: usize = 16;

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_preface_and_request_lines_are_told_apart() {
        assert_eq!(sniff(b""), Protocol::NeedMore);
        assert_eq!(sniff(b"PRI * HT"), Protocol::NeedMore);
        assert_eq!(sniff(PREFACE), Protocol::Http2);
        assert_eq!(sniff(b"PRI /x HTTP/1.1\r\n"), Protocol::Http1);
        assert_eq!(sniff(b"GET"), Protocol::NeedMore);
        assert_eq!(sniff(b"GET / HTTP/1.1\r\n"), Protocol::Http1);
        assert_eq!(sniff(b"\x16\x03\x01"), Protocol::Unknown);
        assert_eq!(sniff(b"get / HTTP/1.1"), Protocol::Unknown);
        assert_eq!(sniff(b" /"), Protocol::Unknown);
    }
}
