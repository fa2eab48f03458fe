//! The few representations that a gRPC server needs to write.
//!
//! Invariant: strings are written plain, never Huffman-coded: answers are short and the peer
//! decodes them faster.
//! Source: RFC 7541 sections 5 and 6.

/// A field in one byte or two: index of the static or dynamic table.
pub fn indexed(index: usize, out: &mut Vec<u8>) {
    assert!(0 < index);
    integer(0x80, 7, index, out);
}

/// A literal that the peer puts into its table; the name by index.
pub fn literal_indexed(name_index: usize, value: &[u8], out: &mut Vec<u8>) {
    assert!(0 < name_index);
    integer(0x40, 6, name_index, out);
    string(value, out);
}

/// A literal that the peer puts into its table; the name spelled out.
pub fn literal_indexed_new(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    out.push(0x40);
    string(name, out);
    string(value, out);
}

/// A literal that leaves the peer's table alone; the name by index.
pub fn literal(name_index: usize, value: &[u8], out: &mut Vec<u8>) {
    assert!(0 < name_index);
    integer(0x00, 4, name_index, out);
    string(value, out);
}

/// A literal that leaves the peer's table alone; the name spelled out.
pub fn literal_new(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    out.push(0x00);
    string(name, out);
    string(value, out);
}

/// The new size of the encoder's table; only at the front of a block.
pub fn table_size(size_bytes: usize, out: &mut Vec<u8>) {
    integer(0x20, 5, size_bytes, out);
}

fn string(value: &[u8], out: &mut Vec<u8>) {
    integer(0x00, 7, value.len(), out);
    out.extend_from_slice(value);
}

fn integer(pattern: u8, prefix_bits: u8, value: usize, out: &mut Vec<u8>) {
    let prefix_max = (1usize << prefix_bits) - 1;
    if value < prefix_max {
        out.push(pattern | value as u8);
        return;
    }
    out.push(pattern | prefix_max as u8);
    let mut rest = value - prefix_max;
    while 128 <= rest {
        out.push(rest as u8 | 128);
        rest >>= 7;
    }
    out.push(rest as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_of_appendix_c_1() {
        let mut out = Vec::new();
        integer(0, 5, 10, &mut out);
        integer(0, 5, 1337, &mut out);
        integer(0, 8, 42, &mut out);
        assert_eq!(out, [10, 0x1f, 0x9a, 0x0a, 0x2a]);
    }

    #[test]
    fn literals_of_appendix_c_2() {
        let mut out = Vec::new();
        literal_indexed_new(b"custom-key", b"custom-header", &mut out);
        literal(4, b"/sample/path", &mut out);
        indexed(2, &mut out);
        let expected =
            [&b"\x40\x0acustom-key\x0dcustom-header"[..], b"\x04\x0c/sample/path", b"\x82"];
        assert_eq!(out, expected.concat());
    }
}
