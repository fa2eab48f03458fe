//! gzip of request messages: clients may send it, answers are never compressed.
//!
//! Invariant: no more than the bound is ever inflated, whatever the input claims.
//! Source: RFC 1952 (gzip); gRPC over HTTP/2, "Message-Encoding".

use std::fmt;

use miniz_oxide::inflate::{TINFLStatus, decompress_to_vec_with_limit};

/// Why a message cannot be had in plain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InflateError {
    /// It is larger than the bound.
    TooLarge,
    /// It is not gzip.
    Malformed(GzipFault),
}

/// What is wrong with a gzip stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum GzipFault {
    Header,
    Stream,
    Checksum,
}

impl fmt::Display for GzipFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            GzipFault::Header => "gzip: invalid header",
            GzipFault::Stream => "flate: corrupt input",
            GzipFault::Checksum => "gzip: invalid checksum",
        })
    }
}

/// Flags of a gzip member that put fields behind its fixed header (RFC 1952 section 2.3.1).
const FLAG_HEADER_CRC: u8 = 2;
const FLAG_EXTRA: u8 = 4;
const FLAG_NAME: u8 = 8;
const FLAG_COMMENT: u8 = 16;
const FLAGS_RESERVED: u8 = 0xe0;
/// Checksum and size behind the compressed data.
const TRAILER_SIZE_BYTES: usize = 8;

/// The plain bytes of one gzip member, at most `size_bytes_max` of them.
pub fn inflate_gzip(coded: &[u8], size_bytes_max: usize) -> Result<Vec<u8>, InflateError> {
    let body = skip_header(coded).ok_or(InflateError::Malformed(GzipFault::Header))?;
    let corrupt = InflateError::Malformed(GzipFault::Stream);
    let deflated_size_bytes = body.len().checked_sub(TRAILER_SIZE_BYTES).ok_or(corrupt)?;
    let (deflated, trailer) = body.split_at(deflated_size_bytes);
    let plain = decompress_to_vec_with_limit(deflated, size_bytes_max).map_err(|error| {
        let is_too_large = error.status == TINFLStatus::HasMoreOutput;
        if is_too_large { InflateError::TooLarge } else { corrupt }
    })?;
    assert!(plain.len() <= size_bytes_max);
    let (crc, size) = trailer.split_at(4);
    if crc != crc32(&plain).to_le_bytes() || size != (plain.len() as u32).to_le_bytes() {
        return Err(InflateError::Malformed(GzipFault::Checksum));
    }
    Ok(plain)
}

/// What follows the header of a gzip member; None when it is not one.
fn skip_header(coded: &[u8]) -> Option<&[u8]> {
    let (&[id1, id2, method, flags, ..], mut rest) = coded.split_first_chunk::<10>()?;
    if (id1, id2, method) != (0x1f, 0x8b, 8) || flags & FLAGS_RESERVED != 0 {
        return None;
    }
    if flags & FLAG_EXTRA != 0 {
        let (size_bytes, behind) = rest.split_first_chunk::<2>()?;
        rest = behind.get(usize::from(u16::from_le_bytes(*size_bytes))..)?;
    }
    for text in [FLAG_NAME, FLAG_COMMENT] {
        if flags & text != 0 {
            let end = rest.iter().position(|&byte| byte == 0)?;
            rest = &rest[end + 1..];
        }
    }
    if flags & FLAG_HEADER_CRC != 0 {
        rest = rest.get(2..)?;
    }
    Some(rest)
}

/// The checksum of gzip: CRC-32 with the reflected polynomial 0xedb88320.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, &byte: &u8| CRC32_BY_BYTE[usize::from(crc as u8 ^ byte)] ^ (crc >> 8);
    !bytes.iter().fold(!0, step)
}

static CRC32_BY_BYTE: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    fn gzip(plain: &[u8]) -> Vec<u8> {
        let mut coded = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
        coded.extend(miniz_oxide::deflate::compress_to_vec(plain, 6));
        coded.extend(crc32(plain).to_le_bytes());
        coded.extend((plain.len() as u32).to_le_bytes());
        coded
    }

    #[test]
    fn crc32_of_the_standard_check_value() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    /// As written by the gzip program: `printf hello | gzip -n`.
    #[test]
    fn a_member_of_the_gzip_program() {
        let coded = [
            0x1f, 0x8b, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x03, 0xcb, 0x48, 0xcd, 0xc9,
            0xc9, 0x07, 0x00, 0x86, 0xa6, 0x10, 0x36, 0x05, 0x00, 0x00, 0x00,
        ];
        assert_eq!(inflate_gzip(&coded, 5).unwrap(), b"hello");
    }

    #[test]
    fn a_bomb_stops_at_the_bound() {
        let plain = vec![0; 1 << 20];
        let coded = gzip(&plain);
        assert!(coded.len() < 2000);
        assert_eq!(inflate_gzip(&coded, (1 << 20) - 1), Err(InflateError::TooLarge));
        assert_eq!(inflate_gzip(&coded, 1 << 20), Ok(plain));
    }

    #[test]
    fn optional_header_fields_are_skipped() {
        let mut coded = gzip(b"abc");
        coded[3] = FLAG_EXTRA | FLAG_NAME | FLAG_COMMENT | FLAG_HEADER_CRC;
        coded.splice(10..10, *b"\x03\x00xyzname\x00comment\x00\x01\x02");
        assert_eq!(inflate_gzip(&coded, 3).unwrap(), b"abc");
    }

    #[test]
    fn every_cut_and_every_flipped_bit_is_an_error_or_the_same() {
        let plain = b"the quick brown fox, the quick brown fox";
        let coded = gzip(plain);
        for end in 0..coded.len() {
            assert!(inflate_gzip(&coded[..end], 100).is_err());
        }
        for bit in 0..coded.len() * 8 {
            let mut flipped = coded.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            if let Ok(result) = inflate_gzip(&flipped, 100) {
                assert_eq!(result, plain, "bit {bit}");
            }
        }
    }
}
