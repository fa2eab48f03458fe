//! The examples of RFC 7541 appendix C, and what a decoder must refuse or remember.

use super::*;
use crate::http2::limits::HEADER_TABLE_SIZE_BYTES_MAX;

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u32> = hex.chars().filter_map(|digit| digit.to_digit(16)).collect();
    digits.chunks(2).map(|pair| (pair[0] * 16 + pair[1]) as u8).collect()
}

fn fields(decoder: &mut Decoder, block: &[u8]) -> Result<Vec<(String, String)>, DecodeError> {
    let mut fields = Vec::new();
    decoder.decode(block, |name, value, _| {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        fields.push((text(name), text(value)));
    })?;
    Ok(fields)
}

#[track_caller]
fn check(decoder: &mut Decoder, hex: &str, expected: &[(&str, &str)], table_size_bytes: usize) {
    let fields = fields(decoder, &bytes(hex)).unwrap();
    let expected: Vec<(String, String)> =
        expected.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    assert_eq!(fields, expected);
    assert_eq!(decoder.size_bytes, table_size_bytes);
}

fn decoder(limit: usize) -> Decoder {
    Decoder::new(limit, 100)
}

#[test]
fn appendix_c_2_literals() {
    let all = &mut decoder(4096);
    let literal = "400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572";
    check(all, literal, &[("custom-key", "custom-header")], 55);
    check(all, "040c 2f73 616d 706c 652f 7061 7468", &[(":path", "/sample/path")], 55);
    check(all, "1008 7061 7373 776f 7264 0673 6563 7265 74", &[("password", "secret")], 55);
    check(all, "82", &[(":method", "GET")], 55);
}

const FIRST: [(&str, &str); 4] =
    [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "www.example.com")];
const SECOND: [(&str, &str); 5] =
    [FIRST[0], FIRST[1], FIRST[2], FIRST[3], ("cache-control", "no-cache")];
const THIRD: [(&str, &str); 5] = [
    (":method", "GET"),
    (":scheme", "https"),
    (":path", "/index.html"),
    (":authority", "www.example.com"),
    ("custom-key", "custom-value"),
];

#[test]
fn appendix_c_3_requests_plain() {
    let all = &mut decoder(4096);
    check(all, "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d", &FIRST, 57);
    check(all, "8286 84be 5808 6e6f 2d63 6163 6865", &SECOND, 110);
    let third = "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65";
    check(all, third, &THIRD, 164);
    let names: Vec<String> = all.table().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["custom-key", "cache-control", ":authority"]);
}

#[test]
fn appendix_c_4_requests_huffman() {
    let all = &mut decoder(4096);
    check(all, "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff", &FIRST, 57);
    check(all, "8286 84be 5886 a8eb 1064 9cbf", &SECOND, 110);
    let third = "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf";
    check(all, third, &THIRD, 164);
}

const DATE: &str = "Mon, 21 Oct 2013 20:13:21 GMT";
const LATER: &str = "Mon, 21 Oct 2013 20:13:22 GMT";
const LOCATION: (&str, &str) = ("location", "https://www.example.com");
const COOKIE: &str = "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1";

#[test]
fn appendix_c_5_responses_with_eviction() {
    let all = &mut decoder(256);
    let first = "4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 \
        2032 303a 3133 3a32 3120 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 \
        2e63 6f6d";
    let private = ("cache-control", "private");
    check(all, first, &[(":status", "302"), private, ("date", DATE), LOCATION], 222);
    let second = "4803 3330 37c1 c0bf";
    check(all, second, &[(":status", "307"), private, ("date", DATE), LOCATION], 222);
    let third = "88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d \
        54c0 5a04 677a 6970 7738 666f 6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 \
        5851 5745 4f49 553b 206d 6178 2d61 6765 3d33 3630 303b 2076 6572 7369 6f6e 3d31";
    let encoding = ("content-encoding", "gzip");
    let cookie = ("set-cookie", COOKIE);
    let expected = [(":status", "200"), private, ("date", LATER), LOCATION, encoding, cookie];
    check(all, third, &expected, 215);
}

#[test]
fn appendix_c_6_responses_with_eviction_huffman() {
    let all = &mut decoder(256);
    let first = "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 \
        2d1b ff6e 919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3";
    let private = ("cache-control", "private");
    check(all, first, &[(":status", "302"), private, ("date", DATE), LOCATION], 222);
    let second = "4883 640e ffc1 c0bf";
    check(all, second, &[(":status", "307"), private, ("date", DATE), LOCATION], 222);
    let third = "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab \
        77ad 94e7 821d d7f2 e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 \
        3160 65c0 03ed 4ee5 b106 3d50 07";
    let encoding = ("content-encoding", "gzip");
    let cookie = ("set-cookie", COOKIE);
    let expected = [(":status", "200"), private, ("date", LATER), LOCATION, encoding, cookie];
    check(all, third, &expected, 215);
}

#[test]
fn malformed_blocks_are_refused() {
    let refused = [
        "80",                // index 0
        "be",                // an entry that is not there
        "7f 80 80 80 80 00", // an integer of five continuation bytes
        "ff ff ff ff 7f",    // a large index
        "40 05 61",          // a string cut short
        "40 7f ff ff ff 7f", // a string longer than any block
        "00 81 ff 00",       // padding of eight ones
        "7e 01 61",          // the name of an entry that is not there
        "82 20",             // a size update after a field
        "3f e2 1f",          // a size update above the limit: 4097
        "40",                // nothing behind the first byte
    ];
    for hex in refused {
        let result = fields(&mut decoder(4096), &bytes(hex));
        assert_eq!(result, Err(DecodeError::Malformed), "{hex}");
    }
    assert_eq!(fields(&mut decoder(4096), &bytes("3f e1 1f 20 82")).unwrap().len(), 1);
}

#[test]
fn a_field_larger_than_the_table_empties_it() {
    let all = &mut decoder(64);
    check(all, "40 01 61 01 62", &[("a", "b")], 34);
    let value = "c".repeat(40);
    let hex = format!("40 01 61 28 {}", "63".repeat(40));
    check(all, &hex, &[("a", &value)], 0);
    assert_eq!(fields(all, &bytes("be")), Err(DecodeError::Malformed));
}

#[test]
fn tags_and_coded_paths_come_back() {
    let mut all = decoder(HEADER_TABLE_SIZE_BYTES_MAX);
    let path = bytes("04 8c f1e3 c2e5 f23a 6ba0 ab90 f4ff");
    let first = [&[0x83, 0x40, 1, b'x', 1, b'y'], &path[..]].concat();
    let later = [&[0x83, 0xbe], &path[..]].concat();
    let mut looked_at = 0;
    for block in [&first, &later, &later] {
        let list = all.decode(block, |name, value, tag| {
            if *tag == 0 {
                looked_at += 1;
                *tag = if name == b":path" { 100 } else { 7 };
            }
            if *tag == 100 {
                assert_eq!((name, value), (&b":path"[..], &b"www.example.com"[..]));
            }
        });
        assert_eq!(list, Ok(":methodPOST".len() + 2 + ":pathwww.example.com".len() + 3 * 32));
    }
    assert_eq!(looked_at, 3, "each field once");
    assert_eq!(all.path_memos.len(), 1);
}

#[test]
fn the_list_has_a_hard_stop() {
    let mut all = decoder(4096);
    let mut block = vec![0x40, 1, b'x', 0x7f, 0xa1, 0x1e];
    block.extend_from_slice(&[b'a'; 4000]);
    block.extend_from_slice(&[0xbe; 12_000]);
    let mut seen = 0;
    let result = all.decode(&block, |_, _, _| seen += 1);
    assert_eq!(result, Err(DecodeError::TooLarge));
    assert!(seen <= 1 + HEADER_LIST_SIZE_BYTES_STOP / 4000);
}

#[test]
fn the_arena_stays_bounded() {
    let mut all = decoder(4096);
    for round in 0..10_000u32 {
        let mut block = vec![0x40, 1, b'x', 4];
        block.extend_from_slice(&round.to_be_bytes());
        all.decode(&block, |_, _, _| {}).unwrap();
        assert!(all.arena.len() <= 3 * 4096 + 64);
    }
}
