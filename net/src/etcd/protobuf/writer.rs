//! Writing protobuf at the end of a byte buffer, fields in the order of their calls.
//!
//! As proto3 asks, a scalar of zero and empty bytes leave no trace. Lengths are minimal varints,
//! so what is written is the canonical form that other implementations write too.
//! Source: the protocol buffers encoding specification.

use super::{WIRE_LENGTH, WIRE_VARINT};

/// Size of a varint, 1 to 10 bytes.
#[inline]
pub fn varint_size_bytes(number: u64) -> usize {
    // Seven bits a byte; 0 takes a byte as well.
    (64 - (number | 1).leading_zeros() as usize).div_ceil(7)
}

/// Writes a bare varint.
#[inline]
pub fn varint(out: &mut Vec<u8>, mut number: u64) {
    while 0x80 <= number {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Writes a field's key.
#[inline]
fn key(out: &mut Vec<u8>, field: u32, wire_type: u32) {
    varint(out, u64::from(field << 3 | wire_type));
}

fn key_size_bytes(field: u32) -> usize {
    varint_size_bytes(u64::from(field << 3))
}

/// A field of a 64-bit integer without a sign.
#[inline]
pub fn uint64(out: &mut Vec<u8>, field: u32, number: u64) {
    if number != 0 {
        key(out, field, WIRE_VARINT);
        varint(out, number);
    }
}

/// Size of what [`uint64`] writes.
#[inline]
pub fn uint64_size_bytes(field: u32, number: u64) -> usize {
    if number == 0 { 0 } else { key_size_bytes(field) + varint_size_bytes(number) }
}

/// A field of a 64-bit integer in two's complement: a negative one takes ten bytes.
#[inline]
pub fn int64(out: &mut Vec<u8>, field: u32, number: i64) {
    uint64(out, field, number.cast_unsigned());
}

/// Size of what [`int64`] writes.
#[inline]
pub fn int64_size_bytes(field: u32, number: i64) -> usize {
    uint64_size_bytes(field, number.cast_unsigned())
}

/// A field of a boolean.
#[inline]
pub fn boolean(out: &mut Vec<u8>, field: u32, flag: bool) {
    uint64(out, field, u64::from(flag));
}

/// A field of bytes or a string.
#[inline]
pub fn bytes(out: &mut Vec<u8>, field: u32, content: &[u8]) {
    if !content.is_empty() {
        bytes_element(out, field, content);
    }
}

/// Size of what [`bytes`] writes.
#[inline]
pub fn bytes_size_bytes(field: u32, content: &[u8]) -> usize {
    if content.is_empty() { 0 } else { length_delimited_size_bytes(field, content.len()) }
}

/// An element of a repeated field of bytes: an empty one is written too.
pub fn bytes_element(out: &mut Vec<u8>, field: u32, content: &[u8]) {
    message_head(out, field, content.len());
    out.extend_from_slice(content);
}

/// Key and length of an embedded message, whose bytes the caller writes next.
#[inline]
pub fn message_head(out: &mut Vec<u8>, field: u32, size_bytes: usize) {
    key(out, field, WIRE_LENGTH);
    varint(out, size_bytes as u64);
}

/// Size of a field of a message or of bytes whose content takes `size_bytes`.
#[inline]
pub fn length_delimited_size_bytes(field: u32, size_bytes: usize) -> usize {
    key_size_bytes(field) + varint_size_bytes(size_bytes as u64) + size_bytes
}

/// An embedded message whose size shows only once it is written. `size_guess_bytes` decides how
/// much room its length gets at first; a wrong guess costs a move of the message, nothing else.
pub fn message(
    out: &mut Vec<u8>,
    field: u32,
    size_guess_bytes: usize,
    write: impl FnOnce(&mut Vec<u8>),
) {
    key(out, field, WIRE_LENGTH);
    let length_start = out.len();
    let guessed_start = length_start + varint_size_bytes(size_guess_bytes as u64);
    out.resize(guessed_start, 0);
    write(out);
    assert!(guessed_start <= out.len(), "a message is only ever added to");
    let size = out.len() - guessed_start;
    let start = length_start + varint_size_bytes(size as u64);
    if start != guessed_start {
        out.resize(out.len().max(start + size), 0);
        out.copy_within(guessed_start..guessed_start + size, start);
        out.truncate(start + size);
    }
    let mut rest = size as u64;
    for place in &mut out[length_start..start] {
        *place = rest as u8 | 0x80;
        rest >>= 7;
    }
    out[start - 1] &= 0x7f;
    assert!(rest == 0, "the length fits the room made for it");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::etcd::protobuf::reader::{Fields, Value};

    #[test]
    fn sizes_are_those_written() {
        let numbers = (0..64).flat_map(|bit| [1 << bit, (1 << bit) - 1]).chain([u64::MAX]);
        for number in numbers {
            let mut out = Vec::new();
            varint(&mut out, number);
            assert_eq!(out.len(), varint_size_bytes(number));
            for field in [1, 15, 16, 64] {
                let mut out = Vec::new();
                uint64(&mut out, field, number);
                assert_eq!(out.len(), uint64_size_bytes(field, number));
                let read = Fields::new(&out).next_field().unwrap();
                let wanted = if number == 0 { None } else { Some((field, Value::Varint(number))) };
                assert_eq!(read, wanted);
            }
        }
    }

    #[test]
    fn a_message_is_the_same_whatever_size_was_guessed() {
        for size in [0, 1, 127, 128, 300, 16_383, 16_384, 20_000] {
            let content: Vec<u8> = (0..size).map(|at| at as u8).collect();
            let mut wanted = b"before".to_vec();
            bytes_element(&mut wanted, 3, &content);
            for guess in [0, 127, 128, 16_384, 3_000_000] {
                let mut out = b"before".to_vec();
                message(&mut out, 3, guess, |out| out.extend_from_slice(&content));
                assert_eq!(out, wanted, "size {size}, guess {guess}");
            }
        }
    }
}
