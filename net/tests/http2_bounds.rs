//! Every bound that a hostile peer meets, with raw frames.
#![allow(clippy::unwrap_used)]

mod http2_support;

use http2_support::*;
use net::http2::frame::{flag, kind, setting};
use net::http2::limits::*;
use net::http2::{InputBudget, Limits, StreamId, Work};

const CALM: u32 = 11;
const PUT_PATH: &str = "/etcdserverpb.KV/Put";
const LATER_PATH: &str = "/etcdserverpb.KV/Txn";
const RANGE_PATH: &str = "/etcdserverpb.KV/Range";

fn server() -> Server {
    let mut server = Server::new();
    server.feed(&hello(&[]));
    server
}

/// Feeds `unit(n)` until the connection ends; how many it took.
#[track_caller]
fn flood(server: &mut Server, limit: u32, unit: impl Fn(u32) -> Vec<u8>) -> u32 {
    for number in 0..limit {
        server.feed(&unit(number));
        if server.connection.is_finished() {
            assert_eq!(server.goaway().unwrap().0, CALM);
            assert_eq!(server.connection.stream_count(), 0);
            return number + 1;
        }
    }
    panic!("{limit} were let through");
}

fn reset(stream: u32) -> Vec<u8> {
    frame(kind::RST_STREAM, 0, stream, &8u32.to_be_bytes())
}

#[test]
fn rapid_reset_ends_after_two_hundred() {
    let mut server = server();
    let block = call_block(LATER_PATH, &[]);
    let taken =
        flood(&mut server, 1000, |n| [headers(2 * n + 1, &block), reset(2 * n + 1)].concat());
    assert!((190..=202).contains(&taken), "{taken}");
    assert_eq!(server.app.gone as u32, taken);
}

#[test]
fn resets_that_the_peer_provokes_cost_the_same() {
    let mut server = server();
    let block = call_block(LATER_PATH, &[]);
    let zero = |stream| frame(kind::WINDOW_UPDATE, 0, stream, &[0; 4]);
    let taken =
        flood(&mut server, 1000, |n| [headers(2 * n + 1, &block), zero(2 * n + 1)].concat());
    assert!((170..=202).contains(&taken), "{taken}");
}

#[test]
fn time_pays_for_fifty_a_second() {
    let mut server = server();
    server.tick(0);
    let block = call_block(LATER_PATH, &[]);
    // Five resets a second go on for ever; six do not.
    for second in 1..200u32 {
        server.tick(u64::from(second) * 1000);
        for n in 0..5 {
            let stream = 2 * (second * 5 + n) + 1;
            server.feed(&[headers(stream, &block), reset(stream)].concat());
        }
    }
    assert!(!server.connection.is_finished());
    for second in 200..600u32 {
        server.tick(u64::from(second) * 1000);
        for n in 0..6 {
            let stream = 2 * (second * 6 + n) + 1;
            server.feed(&[headers(stream, &block), reset(stream)].concat());
        }
    }
    assert_eq!(server.goaway().unwrap().0, CALM);
}

#[test]
fn a_reset_stream_counts_until_its_work_is_over() {
    let mut server = Server::with(Limits { streams_max: 2, ..Limits::default() });
    server.app.work = Work::Lingers;
    server.feed(&hello(&[]));
    for stream in [1, 3] {
        server.feed(&call(stream, LATER_PATH, b"x")).feed(&reset(stream));
    }
    assert_eq!(server.connection.stream_count(), 2);
    server.feed(&headers(5, &call_block(LATER_PATH, &[])));
    assert_eq!(server.resets(5), [7], "refused");
    server.connection.transmit().finish(StreamId(1), 0, "");
    assert_eq!(server.connection.stream_count(), 1);
    server.feed(&headers(7, &call_block(LATER_PATH, &[])));
    assert_eq!(server.resets(7), []);
    assert!(server.connection.transmit().is_open(StreamId(7)));
}

#[test]
fn streams_over_the_limit_are_refused_and_cost() {
    let mut server = Server::with(Limits { streams_max: 3, ..Limits::default() });
    server.feed(&hello(&[]));
    let block = call_block(LATER_PATH, &[]);
    let taken = flood(&mut server, 1000, |n| headers(2 * n + 1, &block));
    assert!((200..=206).contains(&taken), "{taken}");
    assert_eq!(server.resets(7), [7]);
}

#[test]
fn a_continuation_flood_ends_soon() {
    let mut server = server();
    server.feed(&frame(kind::HEADERS, 0, 1, &call_block(PUT_PATH, &[])));
    let taken =
        flood(&mut server, 1000, |_| frame(kind::CONTINUATION, 0, 1, &[0, 1, b'a', 1, b'b']));
    assert!(taken <= 100, "{taken}");
}

#[test]
fn a_header_block_has_a_size() {
    let mut server = server();
    server.feed(&frame(kind::HEADERS, 0, 1, &[0x82; 10_000]));
    server.feed(&frame(kind::CONTINUATION, 0, 1, &[0x82; 6000]));
    assert!(!server.connection.is_finished());
    server.feed(&frame(kind::CONTINUATION, 0, 1, &[0x82; 1000]));
    assert_eq!(server.goaway().unwrap().0, CALM);
}

#[test]
fn no_other_frame_comes_into_a_header_block() {
    let mut server = server();
    server.feed(&frame(kind::HEADERS, 0, 1, &[0x82]));
    server.feed(&frame(kind::PING, 0, 0, &[0; 8]));
    assert_eq!(server.goaway().unwrap().0, 1);
}

#[test]
fn a_header_block_has_a_deadline() {
    let mut server = server();
    server.tick(1000).feed(&frame(kind::HEADERS, 0, 1, &[0x82]));
    server.tick(1000 + HEADER_BLOCK_MS_MAX - 1);
    assert!(!server.connection.is_finished());
    server.tick(1000 + HEADER_BLOCK_MS_MAX);
    assert_eq!(server.goaway().unwrap().0, CALM);
}

/// A block that puts a large field into the table and then names it `times` times.
fn bomb(times: usize) -> Vec<u8> {
    let mut block = call_block(PUT_PATH, &[]);
    block.extend([0x40, 1, b'x', 0x7f, 0xa1, 0x1e]);
    block.extend([b'a'; 4000]);
    block.extend(std::iter::repeat_n(0xbe, times));
    block
}

#[test]
fn a_large_header_list_is_refused_and_costs() {
    let mut server = server();
    server.feed(&headers(1, &bomb(4)));
    let (http, code, text) = server.status(1);
    assert_eq!((http.as_str(), code.as_str()), ("200", "8"));
    assert!(text.starts_with("received header list larger than max ("), "{text}");
    let taken = flood(&mut server, 100, |n| headers(2 * n + 3, &bomb(4)));
    assert!(taken <= 20, "{taken}");
    assert_eq!(server.app.log.len(), 0, "the application saw none of it");
}

#[test]
fn an_hpack_bomb_stops_hard() {
    let mut server = server();
    server.feed(&headers(1, &bomb(12_000)));
    assert_eq!(server.goaway().unwrap().0, CALM);
}

#[test]
fn settings_and_pings_cost() {
    let taken = flood(&mut server(), 1000, |_| frame(kind::SETTINGS, 0, 0, &[]));
    assert!(taken <= 100, "{taken}");
    let mut other = server();
    other.app.records = false;
    let block = call_block(LATER_PATH, &[]);
    for n in 0..160 {
        other.feed(&headers(2 * n + 1, &block));
    }
    let taken = flood(&mut other, 1000, |_| frame(kind::SETTINGS, 0, 0, &[]));
    assert!(taken <= 50, "20 and an eighth of the streams each: {taken}");
    let mut server = server();
    server.feed(&headers(1, &block));
    server.feed(&frame(kind::SETTINGS, 0, 0, &[0; 6 * (SETTINGS_ENTRIES_MAX + 1)]));
    assert_eq!(server.goaway().unwrap().0, CALM);
}

#[test]
fn cheap_frames_spend_the_budget() {
    let block = call_block(LATER_PATH, &[]);
    let floods: [(&str, u32, Vec<u8>); 6] = [
        ("empty data", 200, frame(kind::DATA, 0, 1, &[])),
        ("tiny data", 2000, frame(kind::DATA, 0, 1, &[0])),
        ("priority", 2000, frame(kind::PRIORITY, 0, 1, &[0; 5])),
        ("unknown", 2000, frame(99, 0, 1, b"x")),
        ("small window update", 2000, frame(kind::WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1])),
        ("trailers of a stream long gone", 200, headers(1, &[0x82])),
    ];
    for (name, most, unit) in floods {
        let mut server = server();
        if name.starts_with("trailers") {
            server.feed(&call(1, PUT_PATH, b"x"));
        } else {
            let long = [&[0, 0, 1, 0, 0], &[0; 4][..]].concat();
            server.feed(&headers(1, &block)).feed(&frame(kind::DATA, 0, 1, &long));
        }
        let taken = flood(&mut server, 5000, |_| unit.clone());
        assert!(taken <= most + 2 && most - 40 <= taken, "{name}: {taken}");
    }
}

#[test]
fn pings_of_an_idle_client_draw_too_many_pings() {
    let mut server = server();
    for _ in 0..3 {
        server.feed(&frame(kind::PING, 0, 0, &[1; 8]));
        assert!(!server.connection.is_finished());
    }
    server.feed(&frame(kind::PING, 0, 0, &[1; 8]));
    assert_eq!(server.goaway(), Some((CALM, "too_many_pings".to_owned())));
    assert_eq!(server.count(kind::PING), 4, "each was answered");
}

#[test]
fn pings_beside_a_stream_may_come_each_five_seconds() {
    let mut server = server();
    server.feed(&headers(1, &call_block(LATER_PATH, &[])));
    for second in 0..20 {
        server.tick(second * 5000).feed(&frame(kind::PING, 0, 0, &[1; 8]));
    }
    assert!(!server.connection.is_finished());
    for number in 1..=3 {
        server.tick(95_000 + number * 4999).feed(&frame(kind::PING, 0, 0, &[1; 8]));
    }
    assert_eq!(server.goaway(), Some((CALM, "too_many_pings".to_owned())));
}

#[test]
fn answers_between_pings_forgive_them() {
    let mut server = server();
    for n in 0..200 {
        server.feed(&call(2 * n + 1, PUT_PATH, b"x")).feed(&frame(kind::PING, 0, 0, &[1; 8]));
    }
    assert!(!server.connection.is_finished());
}

#[test]
fn windows_may_not_overflow() {
    let most = 0x7fff_ffffu32.to_be_bytes();
    let block = call_block(LATER_PATH, &[]);
    let mut connection = server();
    connection.feed(&frame(kind::WINDOW_UPDATE, 0, 0, &most));
    assert_eq!(connection.goaway().unwrap().0, 3);
    let mut stream = server();
    stream.feed(&headers(1, &block)).feed(&frame(kind::WINDOW_UPDATE, 0, 1, &most));
    assert_eq!(stream.resets(1), [3]);
    assert_eq!(stream.app.gone, 1);
    let mut settings = server();
    settings.feed(&headers(1, &block)).feed(&frame(kind::WINDOW_UPDATE, 0, 1, &[0x7f, 0xff, 0, 0]));
    settings.feed(&frame(kind::SETTINGS, 0, 0, &[0, 4, 0x7f, 0xff, 0xff, 0xff]));
    assert_eq!(settings.goaway().unwrap().0, 3);
    let mut zero = server();
    zero.feed(&frame(kind::WINDOW_UPDATE, 0, 0, &[0; 4]));
    assert_eq!(zero.goaway().unwrap().0, 1);
}

#[test]
fn data_beyond_the_windows_is_an_error() {
    let mut stream = server();
    stream.feed(&headers(1, &call_block(LATER_PATH, &[])));
    let mut long = vec![0, 0, 0x1f, 0, 0];
    long.resize(16_384, 0);
    stream.app.budget = InputBudget::new(0);
    for _ in 0..4 {
        stream.feed(&frame(kind::DATA, 0, 1, &long));
    }
    // 65,536 bytes: one more than either window.
    assert_eq!(stream.goaway().unwrap().0, 3);
}

#[test]
fn no_input_is_taken_while_output_waits() {
    let mut server = server();
    server.app.records = false;
    let ping = frame(kind::PING, 0, 0, &[1; 8]);
    server.feed(&frame(kind::WINDOW_UPDATE, 0, 0, &[0x7f, 0, 0, 0]));
    let size = 3_000_000u32.to_be_bytes();
    server.feed(&frame(kind::SETTINGS, 0, 0, &[0, 4, 0x7f, 0, 0, 0]));
    server.feed_only(&call(1, RANGE_PATH, &size));
    assert!(!server.connection.wants_input());
    let waiting = server.connection.output().len();
    assert!(waiting <= (1 << 20) + 16_384 + 100, "{waiting}");
    server.take();
    assert!(server.connection.wants_input());
    assert_eq!(server.data(1).len(), 3_000_005);
    server.feed(&ping);
    assert!(!server.connection.is_finished());
}

#[test]
fn when_pending_bytes_are_full_nothing_is_executed_nor_credited() {
    let limits = Limits {
        pending_bytes_max: 2 << 20,
        stream_pending_bytes_max: 1 << 20,
        ..Limits::default()
    };
    let mut server = Server::with(limits);
    server.feed(&hello(&[]));
    let size = (1u32 << 20).to_be_bytes();
    for n in 0..10 {
        server.feed(&call(2 * n + 1, RANGE_PATH, &size));
    }
    let executed = server.app.messages;
    assert!(executed <= 3, "{executed}");
    assert!(server.connection.transmit().pending_bytes_total() < 4 << 20);
    assert_eq!(server.connection.stream_count(), 10);
    assert!(server.connection.held_bytes() > 0);
    // The peer takes what waits: everything is executed after all, in order.
    for _ in 0..700 {
        let more = frame(kind::WINDOW_UPDATE, 0, 0, &[0, 0, 0x80, 0]);
        server.feed(&more);
        for n in 0..10 {
            server.feed(&frame(kind::WINDOW_UPDATE, 0, 2 * n + 1, &[0, 0, 0x20, 0]));
        }
    }
    assert_eq!(server.app.messages, 10);
    for n in 0..10 {
        assert!(server.data(2 * n + 1)[5..] == blob(1 << 20));
    }
    assert_eq!(server.connection.held_bytes(), 0);
    assert_eq!(server.connection.stream_count(), 0);
    let opened: Vec<&String> =
        server.app.log.iter().filter(|line| line.starts_with("message")).collect();
    assert!(
        opened.is_sorted_by_key(|line| { line.split(' ').nth(1).unwrap().parse::<u32>().unwrap() })
    );
}

#[test]
fn full_pending_bytes_without_progress_end_the_connection() {
    let limits = Limits {
        pending_bytes_max: 1 << 20,
        stream_pending_bytes_max: 1 << 20,
        ..Limits::default()
    };
    let mut server = Server::with(limits);
    server.feed(&hello(&[])).tick(0);
    server.feed(&call(1, RANGE_PATH, &(2u32 << 20).to_be_bytes()));
    server.tick(1000).tick(STALLED_PROGRESS_MS_MAX - 1);
    assert!(!server.connection.is_finished());
    server.tick(STALLED_PROGRESS_MS_MAX + 1000);
    assert_eq!(server.goaway(), Some((CALM, "no progress".to_owned())));
}

#[test]
fn an_unfinished_message_that_does_not_grow_ends_the_connection() {
    let mut server = server();
    server.tick(0).feed(&headers(1, &call_block(LATER_PATH, &[])));
    let mut long = vec![0, 0, 0x1f, 0, 0];
    long.resize(16_384, 0);
    server.feed(&frame(kind::DATA, 0, 1, &long)).feed(&frame(kind::DATA, 0, 1, &long));
    server.feed(&frame(kind::DATA, 0, 1, &long));
    assert!(0 < server.app.budget.used_bytes(), "granted");
    // A trickle is no progress.
    for second in 1..40 {
        server.tick(second * 1000).feed(&frame(kind::DATA, 0, 1, &[0; 100]));
    }
    assert_eq!(server.goaway(), Some((CALM, "no progress".to_owned())));
    assert_eq!(server.app.budget.used_bytes(), 0);
}

#[test]
fn a_message_that_finds_no_room_fails_alone() {
    let mut server = server();
    server.app.budget = InputBudget::new(1000);
    server.tick(0).feed(&headers(1, &call_block(LATER_PATH, &[])));
    let mut long = vec![0, 0, 0x1f, 0, 0];
    long.resize(16_384, 0);
    for _ in 0..3 {
        server.feed(&frame(kind::DATA, 0, 1, &long));
    }
    for second in 1..=31 {
        server.tick(second * 1000);
    }
    assert_eq!(server.status(1).1, "8");
    assert!(!server.connection.is_finished());
    assert_eq!(server.connection.held_bytes(), 0);
}

#[test]
fn ten_thousand_connections_with_an_unfinished_put_hold_what_the_budget_says() {
    let mut budget = InputBudget::new(64 << 20);
    let mut held = 0;
    let mut granted = 0;
    let block = call_block(LATER_PATH, &[]);
    let mut put = vec![0, 0, 0x1f, 0xf0, 0];
    put.resize(2_093_056 - 1000, 7);
    for _ in 0..10_000 {
        let mut server = server();
        std::mem::swap(&mut server.app.budget, &mut budget);
        server.feed(&headers(1, &block));
        // As much of the put as the windows allow.
        let (mut window, mut sent, mut seen) = (65_535usize, 0, 0);
        while sent < put.len() && 0 < window {
            let piece = window.min(put.len() - sent).min(16_384);
            server.feed(&frame(kind::DATA, 0, 1, &put[sent..sent + piece]));
            sent += piece;
            window -= piece;
            for update in &server.sent[seen..] {
                if update.kind == kind::WINDOW_UPDATE && update.stream == 1 {
                    window += u32::from_be_bytes(update.payload[..].try_into().unwrap()) as usize;
                }
            }
            seen = server.sent.len();
        }
        held += server.connection.held_bytes();
        granted += usize::from(sent == put.len());
        std::mem::swap(&mut server.app.budget, &mut budget);
    }
    assert_eq!(granted, (64 << 20) / 2_093_061);
    assert!(held <= (64 << 20) + 10_000 * 65_535, "{held}");
    assert!(budget.used_bytes() <= 64 << 20);
}

#[test]
fn the_preface_has_a_deadline() {
    let mut silent = Server::new();
    silent.tick(0).tick(PREFACE_MS_MAX - 1);
    assert!(!silent.connection.is_finished());
    silent.tick(PREFACE_MS_MAX);
    assert!(silent.connection.is_finished());
    let mut without_settings = Server::new();
    without_settings.tick(0).feed(&hello(&[])[..24]).tick(PREFACE_MS_MAX);
    assert!(without_settings.connection.is_finished());
    let mut wrong = Server::new();
    wrong.feed(b"PRI * HTTP/2.1");
    assert!(wrong.connection.is_finished());
}

#[test]
fn a_stalled_write_breaks_the_connection() {
    let mut server = server();
    server.tick(0);
    server.feed_only(&call(1, PUT_PATH, b"x"));
    let (connection, app) = (&mut server.connection, &mut server.app);
    connection.tick(1000, app);
    connection.tick(1000 + STALLED_WRITE_MS_MAX - 1, app);
    assert!(!connection.is_broken());
    connection.tick(1000 + STALLED_WRITE_MS_MAX, app);
    assert!(connection.is_broken() && connection.is_finished());
    assert!(connection.output().is_empty());
}

#[test]
fn a_silent_peer_is_pinged_and_then_given_up() {
    let mut server = server();
    let hours = 2 * 60 * 60 * 1000;
    server.tick(0).feed(&headers(1, &call_block(LATER_PATH, &[]))).tick(hours - 1);
    assert_eq!(server.count(kind::PING), 0);
    server.tick(hours);
    assert_eq!(server.count(kind::PING), 1);
    server.tick(hours + 10_000).feed(&frame(kind::PING, flag::ACK, 0, b"stillup?"));
    server.tick(2 * hours + 9_999);
    assert_eq!(server.count(kind::PING), 1);
    server.tick(2 * hours + 10_000).tick(2 * hours + 30_000);
    assert!(server.connection.is_broken());
    assert_eq!(server.app.gone, 1);
}

/// The pending bytes hold a bounded part of an answer in pieces; all of it arrives, in order. What is
/// left of one is forgotten when its peer resets the stream.
#[test]
fn an_answer_in_pieces_takes_bounded_memory() {
    let mut server = server();
    let size_bytes = 5_000_001_u32;
    server.feed(&call(1, "/etcdserverpb.KV/Range", &size_bytes.to_be_bytes()));
    let pending_max = Limits::default().stream_pending_bytes_max + PIECE_BYTES + 5;
    let mut rounds = 0;
    while server.app.pieces.contains_key(&StreamId(1)) {
        assert!(server.connection.transmit().pending_bytes_total() <= pending_max);
        for stream in [0, 1] {
            server.feed(&frame(kind::WINDOW_UPDATE, 0, stream, &100_000_u32.to_be_bytes()));
        }
        rounds += 1;
    }
    assert!(30 < rounds && 0 < server.app.stopped);
    for stream in [0, 1] {
        server.feed(&frame(kind::WINDOW_UPDATE, 0, stream, &2_000_000_u32.to_be_bytes()));
    }
    assert!(server.data(1) == message(&blob(size_bytes as usize)));
    assert_eq!(server.status(1).1, "0");

    server.feed(&call(3, "/etcdserverpb.KV/Range", &size_bytes.to_be_bytes()));
    assert!(server.app.pieces.contains_key(&StreamId(3)));
    server.feed(&frame(kind::RST_STREAM, 0, 3, &8_u32.to_be_bytes()));
    assert!(server.app.pieces.is_empty() && server.app.gone == 1);
    assert_eq!(server.connection.transmit().pending_bytes_total(), 0);
}

#[test]
fn a_response_over_its_limit_is_refused() {
    let mut server = Server::with(Limits { response_size_bytes_max: 1000, ..Limits::default() });
    server.feed(&hello(&[]));
    server.feed(&call(1, RANGE_PATH, &1001u32.to_be_bytes()));
    let (_, code, text) = server.status(1);
    let expected = "trying to send message larger than max (1001 vs. 1000)";
    assert_eq!((code.as_str(), text.as_str()), ("8", expected));
    assert_eq!(server.connection.stream_count(), 0);
}

#[test]
fn a_window_grows_out_of_the_budget_and_shrinks_when_idle() {
    let mut server = server();
    server.app.records = false;
    server.tick(0);
    let body = vec![1; 16_000];
    for n in 0..100 {
        server.feed(&call(2 * n + 1, PUT_PATH, &body));
    }
    let used = server.app.budget.used_bytes();
    assert!(65_535 <= used && used <= 4 << 20, "{used}");
    server.tick(WINDOW_IDLE_MS_MAX);
    assert_eq!(server.app.budget.used_bytes(), 0);
    let grown = server.sent.iter().filter(|frame| frame.kind == kind::WINDOW_UPDATE);
    let most = grown.map(|frame| u32::from_be_bytes(frame.payload[..].try_into().unwrap())).max();
    assert!(65_535 < most.unwrap());
    assert_eq!(setting::MAX_FRAME_SIZE, 5);
}
