//! The traps that clients and peers of HTTP/2 and gRPC set, with raw frames.
#![allow(clippy::unwrap_used)]

mod http2_support;

use http2_support::*;
use net::http2::frame::{flag, kind};
use net::http2::hpack::encode;
use net::http2::{Limits, StreamId};

const PUT_PATH: &str = "/etcdserverpb.KV/Put";
const LATER_PATH: &str = "/etcdserverpb.KV/Txn";
const RANGE_PATH: &str = "/etcdserverpb.KV/Range";
const WATCH_PATH: &str = "/etcdserverpb.Watch/Watch";

fn server() -> Server {
    let mut server = Server::new();
    server.feed(&hello(&[]));
    server
}

fn ends(server: &Server, stream: u32) -> usize {
    let is_end = |frame: &&Sent| {
        let ends = matches!(frame.kind, kind::HEADERS | kind::DATA) && frame.flags & 1 == 1;
        ends && frame.stream == stream
    };
    server.sent.iter().filter(is_end).count()
}

#[test]
fn an_early_answer_is_not_followed_by_a_reset() {
    let mut server = server();
    server.feed(&headers(1, &call_block(PUT_PATH, &[])));
    server.feed(&frame(kind::DATA, 0, 1, &message(b"x")));
    assert_eq!(ends(&server, 1), 1);
    assert_eq!(server.connection.stream_count(), 1, "the peer's end is awaited");
    server.feed(&frame(kind::DATA, flag::END_STREAM, 1, &[]));
    assert_eq!(server.connection.stream_count(), 0);
    assert_eq!(server.resets(1), []);
    assert!(!server.app.log.iter().any(|line| line.starts_with("half_close")));
}

#[test]
fn frames_of_many_streams_come_interleaved() {
    let mut server = server();
    let streams: Vec<u32> = (0..50).map(|n| 2 * n + 1).collect();
    for &stream in &streams {
        server.feed(&headers(stream, &call_block(PUT_PATH, &[])));
    }
    let half = |stream: u32, part: usize| {
        message(&stream.to_be_bytes().repeat(10)).chunks(23).nth(part).unwrap().to_vec()
    };
    for part in 0..2 {
        for &stream in streams.iter().rev() {
            server.feed(&frame(kind::DATA, 0, stream, &half(stream, part)));
        }
    }
    for &stream in &streams {
        server.feed(&frame(kind::DATA, flag::END_STREAM, stream, &[]));
        let expected = digest(&stream.to_be_bytes().repeat(10)).to_be_bytes();
        assert_eq!(server.data(stream)[5..], expected);
    }
    assert_eq!(server.connection.stream_count(), 0);
}

#[test]
fn messages_of_one_stream_share_a_frame_until_it_is_taken() {
    let mut server = server();
    server.feed_only(&headers(1, &call_block(WATCH_PATH, &[])));
    server.feed(&frame(kind::DATA, 0, 1, &message(&1000u32.to_be_bytes())));
    // 9 bytes a message, 16,384 a frame: all thousand in one.
    assert_eq!(server.count(kind::DATA), 1);
    let taken = server.data(1).len();
    assert_eq!(taken, 9000);
    server.feed(&frame(kind::DATA, 0, 1, &message(&1u32.to_be_bytes())));
    assert_eq!(server.count(kind::DATA), 2, "what was taken does not grow");
    // A look at the output seals it too: the transport may have begun on it.
    server.feed_only(&frame(kind::DATA, 0, 1, &message(&1u32.to_be_bytes())));
    let before = server.connection.output().clone();
    server.feed_only(&frame(kind::DATA, 0, 1, &message(&1u32.to_be_bytes())));
    assert!(server.connection.output().starts_with(&before));
    server.take();
    assert_eq!(server.count(kind::DATA), 4);
}

#[test]
fn a_frame_takes_no_more_than_the_peer_allows() {
    for (allowed, most) in [(16_384u32, 16_384), (1 << 20, 32 << 10)] {
        let mut server = Server::new();
        server.feed(&hello(&[(4, 1 << 20), (5, allowed)]));
        server.feed(&frame(kind::WINDOW_UPDATE, 0, 0, &[0, 0x10, 0, 0]));
        server.feed(&headers(1, &call_block(WATCH_PATH, &[])));
        server.feed(&frame(kind::DATA, 0, 1, &message(&20_000u32.to_be_bytes())));
        let sizes: Vec<usize> = server
            .sent
            .iter()
            .filter(|frame| frame.kind == kind::DATA)
            .map(|frame| frame.payload.len())
            .collect();
        assert!(sizes.iter().all(|size| *size <= most), "{sizes:?}");
        assert!(sizes.len() <= 180_000 / most + 2, "{sizes:?}");
        let expected: Vec<u8> = (1..=20_000u32).flat_map(|n| message(&n.to_be_bytes())).collect();
        assert!(server.data(1) == expected);
    }
}

#[test]
fn a_half_close_while_the_answer_waits_does_not_enter_again() {
    let mut server = Server::new();
    server.feed(&hello(&[(4, 0)]));
    server.feed(&headers(1, &call_block(PUT_PATH, &[])));
    server.feed(&frame(kind::DATA, 0, 1, &message(b"x")));
    server.feed(&frame(kind::DATA, flag::END_STREAM, 1, &[]));
    assert_eq!(server.app.log.len(), 2, "open and message: {:?}", server.app.log);
    assert_eq!((server.data(1).len(), ends(&server, 1)), (0, 0));
    server.feed(&frame(kind::WINDOW_UPDATE, 0, 1, &[0, 0, 0, 10]));
    assert_eq!((server.data(1).len(), ends(&server, 1)), (10, 0));
    server.feed(&frame(kind::SETTINGS, 0, 0, &[0, 4, 0, 0, 0xff, 0xff]));
    assert_eq!((server.data(1).len(), ends(&server, 1)), (13, 1));
    assert_eq!(server.connection.stream_count(), 0);
}

#[test]
fn a_producer_stopped_at_window_zero_goes_on() {
    let limits = Limits { stream_pending_bytes_max: 900, ..Limits::default() };
    let mut server = Server::with(limits);
    server.feed(&hello(&[(4, 0)]));
    server.feed(&headers(1, &call_block(WATCH_PATH, &[])));
    server.feed(&frame(kind::DATA, flag::END_STREAM, 1, &message(&1000u32.to_be_bytes())));
    assert_eq!(server.connection.transmit().pending_bytes(StreamId(1)), 900);
    for _ in 0..10 {
        server.feed(&frame(kind::WINDOW_UPDATE, 0, 1, &[0, 0, 4, 0]));
    }
    let expected: Vec<u8> = (1..=1000u32).flat_map(|n| message(&n.to_be_bytes())).collect();
    assert_eq!(server.data(1), expected);
    assert_eq!(ends(&server, 1), 1);
}

#[test]
fn headers_of_refused_and_closed_streams_reach_hpack() {
    let mut server = Server::with(Limits { streams_max: 1, ..Limits::default() });
    server.feed(&hello(&[]));
    server.feed(&headers(1, &call_block(LATER_PATH, &[])));
    let mut block = call_block(LATER_PATH, &[]);
    encode::literal_indexed_new(b"token", b"first", &mut block);
    server.feed(&headers(3, &block));
    assert_eq!(server.resets(3), [7]);
    let mut trailers = Vec::new();
    encode::literal_indexed_new(b"token", b"second", &mut trailers);
    server.feed(&frame(kind::HEADERS, 5, 3, &trailers));
    server.feed(&frame(kind::RST_STREAM, 0, 1, &8u32.to_be_bytes()));
    let mut later = call_block(LATER_PATH, &[]);
    encode::indexed(62, &mut later);
    server.feed(&headers(5, &later));
    assert_eq!(server.app.log.last().unwrap(), "open 5 4 false second None");
}

#[test]
fn data_of_gone_streams_and_padding_are_credited() {
    let mut server = server();
    server.feed(&headers(1, &call_block(LATER_PATH, &[])));
    server.feed(&frame(kind::RST_STREAM, 0, 1, &8u32.to_be_bytes()));
    for _ in 0..100 {
        server.feed(&frame(kind::DATA, 0, 1, &[0; 10_000]));
    }
    assert!(!server.connection.is_finished());
    // 256 bytes of padding for each message of six, far more than the window.
    for n in 1..1000 {
        let stream = 2 * n + 1;
        server.feed(&headers(stream, &call_block(PUT_PATH, &[])));
        let padded = [&[255][..], &message(b"x"), &[0; 255]].concat();
        server.feed(&frame(kind::DATA, flag::PADDED | flag::END_STREAM, stream, &padded));
        assert_eq!(ends(&server, stream), 1);
    }
    assert!(!server.connection.is_finished());
}

#[test]
fn padded_headers_with_priority() {
    let mut server = server();
    let block = call_block(PUT_PATH, &[]);
    let payload = [&[3][..], &[0, 0, 0, 0, 16], &block, &[0; 3]].concat();
    let flags = flag::END_HEADERS | flag::PADDED | flag::PRIORITY;
    server.feed(&frame(kind::HEADERS, flags, 1, &payload));
    assert_eq!(server.app.log, ["open 1 1 false  None"]);
    server.feed(&frame(kind::HEADERS, flag::END_HEADERS | flag::PADDED, 3, &[200, 0, 0]));
    assert_eq!(server.goaway().unwrap().0, 1);
}

#[test]
fn settings_may_drive_windows_negative() {
    let mut server = server();
    server.feed(&call(1, RANGE_PATH, &100_000u32.to_be_bytes()));
    assert_eq!(server.data(1).len(), 65_535);
    server.feed(&frame(kind::WINDOW_UPDATE, 0, 0, &[0, 0x10, 0, 0]));
    server.feed(&frame(kind::SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]));
    server.feed(&frame(kind::WINDOW_UPDATE, 0, 1, &[0, 0, 0xff, 0xff]));
    assert_eq!(server.data(1).len(), 65_535, "back at zero");
    server.feed(&frame(kind::WINDOW_UPDATE, 0, 1, &[0, 0, 0xff, 0xff]));
    assert!(server.data(1)[5..] == blob(100_000));
    assert_eq!(ends(&server, 1), 1);
}

#[test]
fn a_peer_with_a_small_table_gets_literals() {
    let mut server = Server::new();
    server.feed(&hello(&[(1, 0)]));
    server.decoder = net::http2::hpack::Decoder::new(4096, 1 << 30);
    for stream in [1, 3] {
        server.feed(&call(stream, PUT_PATH, b"x"));
    }
    let blocks: Vec<&Sent> =
        server.sent.iter().filter(|frame| frame.kind == kind::HEADERS).collect();
    assert_eq!(blocks[0].payload[0], 0x20);
    assert!(blocks[1..].iter().all(|frame| frame.payload[0] & 0xe0 != 0x20));
    assert!(blocks.iter().all(|frame| frame.payload.iter().all(|byte| *byte != 0xbe)));
    assert_eq!(server.status(3).1, "0");
}

#[test]
fn a_token_is_never_remembered_for_another_call() {
    let mut server = server();
    let mut first = call_block(LATER_PATH, &[]);
    encode::literal_indexed_new(b"token", b"secret", &mut first);
    encode::literal_indexed_new(b"hasleader", b"true", &mut first);
    encode::literal_indexed_new(b"grpc-timeout", b"5S", &mut first);
    let mut second = call_block(LATER_PATH, &[]);
    for index in [62, 63, 64] {
        encode::indexed(index, &mut second);
    }
    let third = call_block(LATER_PATH, &[("authorization", "Bearer abc"), ("grpc-timeout", "1m")]);
    let both = [("authorization", "abc"), ("token", "def"), ("token", "ghi")];
    let fourth = call_block(LATER_PATH, &both);
    let fifth = call_block(LATER_PATH, &[]);
    for (number, block) in [first, second, third, fourth, fifth].iter().enumerate() {
        server.feed(&headers(2 * number as u32 + 1, block));
    }
    let expected = [
        "open 1 4 true secret Some(5000000)",
        "open 3 4 true secret Some(5000000)",
        "open 5 4 false abc Some(1000)",
        "open 7 4 false def None",
        "open 9 4 false  None",
    ];
    assert_eq!(server.app.log, expected);
}

#[test]
fn malformed_requests_are_reset() {
    let post = (":method", "POST");
    let scheme = (":scheme", "http");
    let path = (":path", PUT_PATH);
    let grpc = ("content-type", "application/grpc");
    let cases: [&[(&str, &str)]; 10] = [
        &[scheme, path, grpc],
        &[post, path, grpc],
        &[post, scheme, grpc],
        &[post, post, scheme, path, grpc],
        &[post, scheme, grpc, path],
        &[post, scheme, path, grpc, ("Upper", "x")],
        &[post, scheme, path, grpc, ("connection", "close")],
        &[post, scheme, path, grpc, ("te", "gzip")],
        &[post, scheme, path, grpc, (":unknown", "x")],
        &[post, scheme, (":path", ""), grpc],
    ];
    for (number, fields) in cases.iter().enumerate() {
        let mut server = server();
        server.feed(&headers(1, &block(*fields)));
        assert_eq!(server.resets(1), [1], "case {number}");
        assert_eq!(server.app.log.len(), 0);
        assert_eq!(server.connection.stream_count(), 0);
    }
}

#[test]
fn refusals_before_any_application_have_grpc_gos_texts() {
    let get = [(":method", "GET"), (":scheme", "http"), (":path", PUT_PATH)];
    let grpc = ("content-type", "application/grpc");
    let json = [(":method", "POST"), get[1], get[2], ("content-type", "application/json")];
    let gets = [get[0], get[1], get[2], grpc];
    let cases = [
        (block(&json), "415", "3", "invalid gRPC request content-type \"application/json\""),
        (
            block(&gets),
            "405",
            "13",
            "Received a HEADERS frame with :method \"GET\" which should be POST",
        ),
        (
            call_block(PUT_PATH, &[("grpc-timeout", "5x")]),
            "400",
            "13",
            "malformed grpc-timeout: transport: timeout unit is not recognized: \"5x\"",
        ),
        (
            call_block(PUT_PATH, &[("grpc-encoding", "br")]),
            "200",
            "12",
            "grpc: Decompressor is not installed for grpc-encoding \"br\"",
        ),
        (
            call_block("/etcdserverpb.KV/No", &[]),
            "200",
            "12",
            "unknown method No for service etcdserverpb.KV",
        ),
        (call_block("/no.Such/No", &[]), "200", "12", "unknown service no.Such"),
    ];
    for (block, http, code, text) in cases {
        let mut server = server();
        server.feed(&frame(kind::HEADERS, 5, 1, &block));
        let expected = (http.to_owned(), code.to_owned(), text.to_owned());
        assert_eq!(server.status(1), expected);
        assert_eq!((server.app.log.len(), server.connection.stream_count()), (0, 0));
    }
}

#[test]
fn broken_messages_get_grpc_gos_texts() {
    let cases: [(&[u8], &str, &str); 4] = [
        (&[1, 0, 0, 0, 1, 0], "13", "grpc: compressed flag set with identity or empty encoding"),
        (&[2, 0, 0, 0, 1, 0], "13", "grpc: received unexpected payload format 2"),
        (&[0, 0, 0x20, 0, 1], "8", "grpc: received message larger than max (2097153 vs. 2097152)"),
        (&[0, 0, 0, 0, 9, 1, 2], "13", "unexpected EOF"),
    ];
    for (bytes, code, text) in cases {
        let mut server = server();
        server.feed(&headers(1, &call_block(LATER_PATH, &[])));
        server.feed(&frame(kind::DATA, flag::END_STREAM, 1, bytes));
        let (_, got_code, got_text) = server.status(1);
        assert_eq!((got_code.as_str(), got_text.as_str()), (code, text));
        assert_eq!(server.app.log.last().unwrap(), "gone 1");
        assert_eq!(server.connection.stream_count(), 0);
    }
}

#[test]
fn gzip_messages_are_taken() {
    // `printf hello | gzip -n`
    let coded = [
        0x1f, 0x8b, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x03, 0xcb, 0x48, 0xcd, 0xc9, 0xc9,
        0x07, 0x00, 0x86, 0xa6, 0x10, 0x36, 0x05, 0x00, 0x00, 0x00,
    ];
    let mut server = server();
    let mut compressed = message(&coded);
    compressed[0] = 1;
    server.feed(&headers(1, &call_block(PUT_PATH, &[("grpc-encoding", "gzip")])));
    server.feed(&frame(kind::DATA, flag::END_STREAM, 1, &compressed));
    assert_eq!(server.data(1)[5..], digest(b"hello").to_be_bytes());
    compressed[20] ^= 1;
    server.feed(&headers(3, &call_block(PUT_PATH, &[("grpc-encoding", "gzip")])));
    server.feed(&frame(kind::DATA, flag::END_STREAM, 3, &compressed));
    let (_, code, text) = server.status(3);
    assert_eq!(code, "13");
    assert!(text.starts_with("grpc: failed to decompress the received message: "), "{text}");
}

#[test]
fn an_upload_that_nobody_reads_is_stopped() {
    let mut server = server();
    server.feed(&headers(1, &call_block("/no.Such/No", &[])));
    assert_eq!(ends(&server, 1), 1);
    for _ in 0..2 {
        server.feed(&frame(kind::DATA, 0, 1, &[0; 16_000]));
        assert_eq!(server.resets(1), []);
    }
    server.feed(&frame(kind::DATA, 0, 1, &[0; 16_000]));
    assert_eq!(server.resets(1), [0]);
    assert_eq!(server.connection.stream_count(), 0);
    server.feed(&frame(kind::DATA, 0, 1, &[0; 16_000]));
    assert!(!server.connection.is_finished());
}

#[test]
fn a_drain_has_two_phases() {
    let mut server = server();
    server.feed(&headers(1, &call_block(LATER_PATH, &[])));
    server.connection.drain();
    server.take();
    let goaway = |server: &Server| -> Vec<u32> {
        let frames = server.sent.iter().filter(|frame| frame.kind == kind::GOAWAY);
        frames.map(|frame| u32::from_be_bytes(frame.payload[..4].try_into().unwrap())).collect()
    };
    assert_eq!(goaway(&server), [0x7fff_ffff]);
    // A stream that crossed the first GOAWAY is served.
    server.feed(&call(3, PUT_PATH, b"x"));
    assert_eq!(ends(&server, 3), 1);
    let ping = server.sent.iter().find(|frame| frame.kind == kind::PING).unwrap().payload.clone();
    server.feed(&frame(kind::PING, flag::ACK, 0, &ping));
    assert_eq!(goaway(&server), [0x7fff_ffff, 3]);
    server.feed(&call(5, PUT_PATH, b"x"));
    assert_eq!(server.resets(5), [7]);
    assert!(!server.connection.is_finished());
    server.connection.transmit().finish(StreamId(1), 0, "");
    server.feed(&frame(kind::DATA, flag::END_STREAM, 1, &[]));
    assert!(server.connection.is_finished());
}

#[test]
fn a_drain_does_not_wait_for_the_ping_for_ever() {
    let mut server = server();
    server.tick(0).feed(&headers(1, &call_block(LATER_PATH, &[])));
    server.connection.drain();
    server.tick(999).tick(1000);
    assert_eq!(server.count(kind::GOAWAY), 2);
    let mut idle = Server::new();
    idle.connection.drain();
    assert!(idle.connection.is_finished(), "nobody is there yet");
}

#[test]
fn answers_may_come_long_after_the_request() {
    let mut server = server();
    for n in 0..3 {
        server.feed(&call(2 * n + 1, LATER_PATH, b"x"));
    }
    for id in std::mem::take(&mut server.app.waiting).into_iter().rev() {
        let transmit = server.connection.transmit();
        transmit.send(id, |out| out.extend_from_slice(&id.0.to_be_bytes()));
        transmit.finish(id, 0, "");
        transmit.finish(id, 13, "once is enough");
        transmit.send(id, |out| out.extend_from_slice(b"late"));
    }
    server.take();
    for stream in [1u32, 3, 5] {
        assert_eq!(server.data(stream), message(&stream.to_be_bytes()));
        assert_eq!(ends(&server, stream), 1);
    }
    assert_eq!(server.connection.stream_count(), 0);
    server.connection.transmit().finish(StreamId(9), 0, "");
    assert!(server.connection.output().is_empty());
}

#[test]
fn the_end_of_the_transport_is_told_to_every_open_stream() {
    let mut server = server();
    server.feed(&call(1, PUT_PATH, b"x")).feed(&call(3, LATER_PATH, b"x"));
    server.feed(&headers(5, &call_block(LATER_PATH, &[])));
    server.feed(&frame(kind::DATA, 0, 5, &[0, 0, 1, 0, 0, 7, 7]));
    server.connection.closed(&mut server.app);
    assert_eq!(server.app.log[server.app.log.len() - 2..], ["gone 3", "gone 5"]);
    assert_eq!(server.connection.stream_count(), 0);
    assert_eq!(server.connection.held_bytes(), 0);
    server.connection.transmit().send(StreamId(3), |out| out.push(1));
    server.connection.feed(b"more", &mut server.app);
    assert!(server.connection.is_finished());
}

#[test]
fn connection_errors_have_their_codes() {
    let block = call_block(LATER_PATH, &[]);
    let cases: [(&str, Vec<u8>, u32); 19] = [
        ("data of an idle stream", frame(kind::DATA, 0, 5, b"x"), 1),
        ("data of no stream", frame(kind::DATA, 0, 0, b"x"), 1),
        ("headers of an even stream", headers(2, &block), 1),
        ("headers of no stream", headers(0, &block), 1),
        ("reset of an idle stream", frame(kind::RST_STREAM, 0, 5, &[0; 4]), 1),
        ("a short reset", frame(kind::RST_STREAM, 0, 1, &[0; 3]), 6),
        ("window update of an idle stream", frame(kind::WINDOW_UPDATE, 0, 5, &[1; 4]), 1),
        ("a long window update", frame(kind::WINDOW_UPDATE, 0, 0, &[1; 5]), 6),
        ("a short ping", frame(kind::PING, 0, 0, &[0; 7]), 6),
        ("a ping of a stream", frame(kind::PING, 0, 1, &[0; 8]), 1),
        ("settings of a stream", frame(kind::SETTINGS, 0, 1, &[]), 1),
        ("short settings", frame(kind::SETTINGS, 0, 0, &[0; 5]), 6),
        ("an acknowledgement with settings", frame(kind::SETTINGS, 1, 0, &[0; 6]), 6),
        ("push", frame(kind::SETTINGS, 0, 0, &[0, 2, 0, 0, 0, 2]), 1),
        ("a small frame size", frame(kind::SETTINGS, 0, 0, &[0, 5, 0, 0, 0, 1]), 1),
        ("a huge window", frame(kind::SETTINGS, 0, 0, &[0, 4, 0x80, 0, 0, 0]), 3),
        ("a push promise", frame(kind::PUSH_PROMISE, 4, 1, &[0; 4]), 1),
        ("a continuation of nothing", frame(kind::CONTINUATION, 4, 1, &[]), 1),
        ("not HPACK", headers(3, &[0x80]), 9),
    ];
    for (name, bytes, code) in cases {
        let mut server = server();
        server.feed(&headers(1, &block)).feed(&bytes);
        assert_eq!(server.goaway().expect(name).0, code, "{name}");
        assert!(server.connection.is_finished());
        assert_eq!(server.app.gone, 1, "{name}");
    }
    let mut large = server();
    large.feed(&[0, 0x40, 1, 0, 0, 0, 0, 0, 1]);
    assert_eq!(large.goaway().unwrap().0, 6, "a frame of 16,385 bytes");
    let mut late = Server::new();
    late.feed(&hello(&[])[..24]).feed(&frame(kind::PING, 0, 0, &[0; 8]));
    assert_eq!(late.goaway().unwrap().0, 1, "the first frame is not SETTINGS");
}

#[test]
fn stream_errors_leave_the_connection_alone() {
    let mut server = server();
    let block = call_block(LATER_PATH, &[]);
    server.feed(&frame(kind::HEADERS, 5, 1, &block)).feed(&frame(kind::DATA, 0, 1, b"x"));
    assert_eq!(server.resets(1), [5], "DATA after the end");
    server.feed(&headers(3, &block)).feed(&headers(3, &[0x82]));
    assert_eq!(server.resets(3), [1], "trailers that do not end the stream");
    server.feed(&headers(5, &block)).feed(&frame(kind::HEADERS, 5, 5, &[0x82]));
    assert_eq!(server.resets(5), [1], "trailers with a pseudo-header");
    server.feed(&headers(7, &block)).feed(&frame(kind::HEADERS, 5, 7, &[0, 1, b'a', 1, b'b']));
    assert_eq!(server.resets(7), [], "trailers are taken");
    assert_eq!(server.app.log.last().unwrap(), "half_close 7");
    assert!(!server.connection.is_finished());
}
