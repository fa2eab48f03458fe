//! Base64, as JSON carries bytes: written in the standard alphabet with padding, read in the
//! standard or the URL-safe one, padded or not.
//!
//! Source: RFC 4648; proto3's mapping to JSON.

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Adds the code of some bytes.
pub fn encode(out: &mut Vec<u8>, bytes: &[u8]) {
    out.reserve(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let byte = |at: usize| u32::from(group.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for digit in 0..4 {
            out.push(if digit <= group.len() {
                ALPHABET[(bits >> (18 - 6 * digit) & 63) as usize]
            } else {
                b'='
            });
        }
    }
}

/// The bytes of a code; `None` if it is none.
pub fn decode(code: &[u8]) -> Option<Vec<u8>> {
    let padding = code.iter().rev().take_while(|digit| **digit == b'=').count();
    let digits = &code[..code.len() - padding];
    let is_padded = padding != 0;
    // A lone digit codes no byte, and padding fills the last group of four.
    if digits.len() % 4 == 1 || 2 < padding || (is_padded && !code.len().is_multiple_of(4)) {
        return None;
    }
    let mut bytes = Vec::with_capacity(digits.len() * 3 / 4);
    for group in digits.chunks(4) {
        let mut bits = 0_u32;
        for digit in group {
            bits = bits << 6 | value_of(*digit)?;
        }
        bits <<= 6 * (4 - group.len());
        let [_, first, second, third] = bits.to_be_bytes();
        bytes.extend_from_slice(&[first, second, third][..group.len() - 1]);
    }
    Some(bytes)
}

fn value_of(digit: u8) -> Option<u32> {
    Some(u32::from(match digit {
        b'A'..=b'Z' => digit - b'A',
        b'a'..=b'z' => digit - b'a' + 26,
        b'0'..=b'9' => digit - b'0' + 52,
        b'+' | b'-' => 62,
        b'/' | b'_' => 63,
        _ => return None,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_of_the_rfc() {
        let vectors: [(&[u8], &[u8]); 8] = [
            (b"", b""),
            (b"f", b"Zg=="),
            (b"fo", b"Zm8="),
            (b"foo", b"Zm9v"),
            (b"foob", b"Zm9vYg=="),
            (b"fooba", b"Zm9vYmE="),
            (b"foobar", b"Zm9vYmFy"),
            (&[0xfb, 0xff], b"+/8="),
        ];
        for (bytes, code) in vectors {
            let mut out = Vec::new();
            encode(&mut out, bytes);
            assert_eq!(out, code);
            assert_eq!(decode(code).as_deref(), Some(bytes));
            let unpadded = code.iter().position(|digit| *digit == b'=').unwrap_or(code.len());
            assert_eq!(decode(&code[..unpadded]).as_deref(), Some(bytes));
        }
        assert_eq!(decode(b"-_8").as_deref(), Some(&[0xfb, 0xff][..]));
        for bad in [&b"Z"[..], b"Zg=", b"Zg===", b"=", b"Zm9v=", b"Z!==", b"Zg==Zg==", b"Zm9vYg="] {
            assert_eq!(decode(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn all_bytes_come_back() {
        for size in 0..70 {
            let bytes: Vec<u8> = (0..size).map(|at| (at * 37 + size) as u8).collect();
            let mut code = Vec::new();
            encode(&mut code, &bytes);
            assert_eq!(decode(&code), Some(bytes));
        }
    }
}
