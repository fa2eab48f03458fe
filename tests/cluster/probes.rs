//! Probes over HTTP/1 on one member in the simulated world.

use shard::input::Door;
use tests::sim::member::{SimMember, Storage, config};

/// Asks in pieces of `piece_size_bytes`; returns what came back.
fn ask(member: &mut SimMember, request: &str, piece_size_bytes: usize) -> String {
    let connection = member.connect(Door::Client);
    member.settle();
    for piece in request.as_bytes().chunks(piece_size_bytes) {
        member.receive(connection, piece.to_vec());
        member.settle();
    }
    let answer = String::from_utf8(member.take_sent(connection)).expect("text");
    member.disconnect(connection);
    member.settle();
    answer
}

#[test]
fn probes_are_answered_however_their_bytes_are_cut() {
    let mut member =
        SimMember::start(config(), Storage::default(), 1_000_000).expect("the member starts");
    for piece_size_bytes in [1, 3, 1000] {
        for (path, body) in [
            ("/version", r#"{"etcdserver":"3.7.0","etcdcluster":"3.7.0","storage":"3.7.0"}"#),
            ("/health", r#"{"health":"true","reason":""}"#),
            ("/livez", "ok\n"),
            ("/readyz?verbose", "[+]linearizable_read ok\n"),
            ("/metrics", "metrics\n"),
        ] {
            let request = format!("GET {path} HTTP/1.1\r\nHost: sim\r\n\r\n");
            let answer = ask(&mut member, &request, piece_size_bytes);
            assert!(answer.starts_with("HTTP/1.1 200 "), "{path}: {answer}");
            assert!(answer.contains(body), "{path}: {answer}");
        }
    }
    let answer = ask(&mut member, "GET /nothing HTTP/1.1\r\nHost: sim\r\n\r\n", 1000);
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
    let answer = ask(&mut member, "\u{16}\u{3}\u{1}garbage", 1000);
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
}

#[test]
fn who_says_nothing_is_closed() {
    let mut member =
        SimMember::start(config(), Storage::default(), 1_000_000).expect("the member starts");
    for door in [Door::Client, Door::Binary] {
        let silent = member.connect(door);
        member.settle();
        member.advance(4_000_000);
        assert!(member.is_connected(silent));
        for _ in 0..20 {
            member.advance(100_000);
        }
        assert!(!member.is_connected(silent), "{door:?}");
    }
}
