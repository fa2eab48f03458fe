//! A unary call allocates nothing at steady state. Also the program to count instructions with:
//! `CALLS=100000 valgrind --tool=callgrind <this test binary>`.
#![allow(clippy::unwrap_used)]

mod counting;
mod http2_support;

use std::hint::black_box;

use http2_support::*;
use net::http2::hpack::encode;
use net::http2::{Connection, Limits};

/// The headers of a call as tonic sends them: all indexed but the path, which is Huffman-coded and
/// never indexed. The first call puts the rest into the table.
fn tonic_block(is_first: bool) -> Vec<u8> {
    let mut block = vec![0x83, 0x86];
    // "/etcdserverpb.KV/Put", Huffman-coded.
    let path = huffman(b"/etcdserverpb.KV/Put");
    block.extend([0x04, 0x80 | path.len() as u8]);
    block.extend(path);
    if is_first {
        encode::literal_indexed(1, b"127.0.0.1:2379", &mut block);
        encode::literal_indexed_new(b"te", b"trailers", &mut block);
        encode::literal_indexed(31, b"application/grpc", &mut block);
        encode::literal_indexed(58, b"tonic/0.14.2", &mut block);
    } else {
        for index in [65, 64, 63, 62] {
            encode::indexed(index, &mut block);
        }
    }
    block
}

/// Huffman-codes by the lengths of RFC 7541 appendix B, whose code is canonical.
fn huffman(plain: &[u8]) -> Vec<u8> {
    use net::http2::hpack::tables::CODE_BITS;
    let mut order: Vec<usize> = (0..CODE_BITS.len()).collect();
    order.sort_by_key(|&symbol| (CODE_BITS[symbol], symbol));
    let mut codes = [0u32; 257];
    let (mut code, mut bits) = (0u32, CODE_BITS[order[0]]);
    for symbol in order {
        code <<= CODE_BITS[symbol] - bits;
        bits = CODE_BITS[symbol];
        codes[symbol] = code;
        code += 1;
    }
    let mut coded: Vec<bool> = Vec::new();
    for &byte in plain {
        let byte = usize::from(byte);
        coded.extend((0..CODE_BITS[byte]).rev().map(|bit| codes[byte] >> bit & 1 == 1));
    }
    coded.resize(coded.len().next_multiple_of(8), true);
    coded
        .chunks(8)
        .map(|octet| octet.iter().fold(0, |sum, &bit| sum << 1 | u8::from(bit)))
        .collect()
}

/// A batch of calls with a 16-byte key and a 256-byte value, in tonic's frames.
fn batch(first: u32, count: u32, is_first: bool) -> Vec<u8> {
    let put = [&[0x0a, 16][..], &[b'k'; 16], &[0x12, 0x80, 0x02], &[b'v'; 256]].concat();
    let mut bytes = Vec::new();
    for number in 0..count {
        let stream = 2 * (first + number) + 1;
        bytes.extend(headers(stream, &tonic_block(is_first && number == 0)));
        bytes.extend(frame(0, 0, stream, &message(&put)));
        bytes.extend(frame(0, 1, stream, &[]));
    }
    bytes
}

#[test]
fn unary_calls_allocate_nothing() {
    const BATCH: u32 = 64;
    // How many only matters to who counts instructions.
    #[allow(clippy::disallowed_methods)]
    let calls: u32 = std::env::var("CALLS").map_or(20_000, |calls| calls.parse().unwrap());
    let mut connection = Connection::new(Limits::default());
    let mut app = Echo { records: false, ..Echo::default() };
    connection.feed(&hello(&[(4, 1 << 30)]), &mut app);
    connection.feed(&frame(8, 0, 0, &[0x7f, 0, 0, 0]), &mut app);
    connection.feed(&batch(0, BATCH, true), &mut app);
    let batches: Vec<Vec<u8>> =
        (1..=calls / BATCH).map(|number| batch(number * BATCH, BATCH, false)).collect();
    // Two rounds warm every buffer; the table of streams settles with them.
    for bytes in &batches[..2] {
        connection.feed(bytes, &mut app);
    }
    connection.output().clear();
    connection.flushed(&mut app);
    let before = counting::allocations();
    let mut sent = 0;
    for bytes in black_box(&batches[2..]) {
        connection.feed(bytes, &mut app);
        sent += connection.output().len();
        connection.output().clear();
        connection.flushed(&mut app);
    }
    let allocations = counting::allocations() - before;
    assert_eq!(allocations, 0);
    // 11 bytes of headers, 22 of data, 10 of trailers, and credit now and then.
    let measured = calls as usize / BATCH as usize * BATCH as usize - 2 * BATCH as usize;
    assert!(43 * measured <= sent && sent <= 44 * measured, "{sent} for {measured}");
    assert_eq!(app.messages, measured + 3 * BATCH as usize);
}
