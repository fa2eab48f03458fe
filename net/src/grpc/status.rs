//! gRPC status codes, the texts a grpc-go server answers with before any handler runs, and the
//! percent-encoding of `grpc-message`.
//!
//! Invariant: an encoded message is printable ASCII without a bare `%`, so that it is a legal
//! header value whatever it was made of.
//! Source: gRPC over HTTP/2, "Responses" (Status-Message); grpc-go's wording, which etcd's users
//! and tests match on.

use crate::http2::limits::STATUS_MESSAGE_SIZE_BYTES_MAX;

/// The call succeeded.
pub const OK: u32 = 0;
/// The caller gave up.
pub const CANCELLED: u32 = 1;
/// An error without a code of its own.
pub const UNKNOWN: u32 = 2;
/// The request cannot be right in any state of the store.
pub const INVALID_ARGUMENT: u32 = 3;
/// The caller's deadline passed.
pub const DEADLINE_EXCEEDED: u32 = 4;
/// What was named does not exist.
pub const NOT_FOUND: u32 = 5;
/// What should be created exists.
pub const ALREADY_EXISTS: u32 = 6;
/// The caller is known and may not do this.
pub const PERMISSION_DENIED: u32 = 7;
/// A quota or bound was met.
pub const RESOURCE_EXHAUSTED: u32 = 8;
/// The store is not in the state that the request needs.
pub const FAILED_PRECONDITION: u32 = 9;
/// The call lost against another.
pub const ABORTED: u32 = 10;
/// A position past the end.
pub const OUT_OF_RANGE: u32 = 11;
/// No such method.
pub const UNIMPLEMENTED: u32 = 12;
/// A broken protocol or invariant.
pub const INTERNAL: u32 = 13;
/// Try again later, perhaps elsewhere.
pub const UNAVAILABLE: u32 = 14;
/// Data was lost.
pub const DATA_LOSS: u32 = 15;
/// The caller is not known.
pub const UNAUTHENTICATED: u32 = 16;

/// Appends `message` percent-encoded, cut at a bound that any client's header list takes.
pub fn encode_message(message: &str, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let begin = out.len();
    for &byte in message.as_bytes() {
        if STATUS_MESSAGE_SIZE_BYTES_MAX < out.len() - begin + 3 {
            break;
        }
        if (0x20..0x7f).contains(&byte) && byte != b'%' {
            out.push(byte);
        } else {
            let [high, low] = [byte >> 4, byte & 15].map(|nibble| HEX[usize::from(nibble)]);
            out.extend_from_slice(&[b'%', high, low]);
        }
    }
    assert!(out.len() - begin <= STATUS_MESSAGE_SIZE_BYTES_MAX);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(message: &str, expected: &str) {
        let mut out = b"before".to_vec();
        encode_message(message, &mut out);
        assert_eq!(std::str::from_utf8(&out[6..]).unwrap(), expected);
    }

    #[test]
    fn only_printable_ascii_without_percent_stays() {
        check("etcdserver: key is not provided", "etcdserver: key is not provided");
        check("100%", "100%25");
        check("a\r\nb", "a%0D%0Ab");
        check("\u{e9}\u{7f}", "%C3%A9%7F");
    }

    #[test]
    fn a_long_message_is_cut_at_the_bound() {
        let mut out = Vec::new();
        encode_message(&"\u{1}".repeat(STATUS_MESSAGE_SIZE_BYTES_MAX), &mut out);
        assert!(out.len() <= STATUS_MESSAGE_SIZE_BYTES_MAX);
        assert_eq!(out.len() % 3, 0, "no escape is cut in two");
    }
}
