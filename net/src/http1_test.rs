//! Requests in every framing, cut anywhere, and the refusals.

use super::*;

/// Feeds `bytes` in pieces of `piece_bytes` and answers every request with its own text.
fn serve(bytes: &[u8], piece_bytes: usize) -> (Vec<String>, String, bool) {
    let mut server = Http1::new();
    let (mut requests, mut output) = (Vec::new(), Vec::new());
    for piece in bytes.chunks(piece_bytes) {
        server.feed(piece);
        while let Some(request) = server.next_request() {
            let body = String::from_utf8_lossy(request.body);
            let line = format!(
                "{} {} {} {} [{body}]",
                request.verb, request.path, request.query, request.authorization
            );
            server.respond(200, "text/plain", line.as_bytes());
            requests.push(line);
        }
        output.append(server.output());
    }
    (requests, String::from_utf8(output).unwrap(), server.is_finished())
}

#[track_caller]
fn check(bytes: &str, expected: &[&str]) {
    for piece_bytes in [1, 2, 3, 7, 100, bytes.len().max(1)] {
        let (requests, _, is_finished) = serve(bytes.as_bytes(), piece_bytes);
        assert_eq!(requests, expected);
        assert!(!is_finished);
    }
}

#[track_caller]
fn check_refused(bytes: &str, status: u16) {
    for piece_bytes in [1, bytes.len()] {
        let (_, output, is_finished) = serve(bytes.as_bytes(), piece_bytes);
        let line = format!("HTTP/1.1 {status} ");
        assert!(output.contains(&line), "{status}: {output}");
        assert!(output.contains("Connection: close\r\n"));
        assert!(is_finished);
    }
}

#[test]
fn the_preface_and_request_lines_are_told_apart() {
    assert_eq!(sniff(b""), Protocol::NeedMore);
    assert_eq!(sniff(b"PRI * HT"), Protocol::NeedMore);
    assert_eq!(sniff(PREFACE), Protocol::Http2);
    assert_eq!(sniff(b"PRI /x HTTP/1.1\r\n"), Protocol::Http1);
    assert_eq!(sniff(b"GET"), Protocol::NeedMore);
    assert_eq!(sniff(b"GET / HTTP/1.1\r\n"), Protocol::Http1);
    assert_eq!(sniff(b"\x16\x03\x01"), Protocol::Unknown);
    assert_eq!(sniff(b"get / HTTP/1.1"), Protocol::Unknown);
    assert_eq!(sniff(b" /"), Protocol::Unknown);
    assert_eq!(sniff(&[b'A'; 17]), Protocol::Unknown);
}

#[test]
fn requests_are_answered_in_order_however_they_are_cut() {
    check("GET /version HTTP/1.1\r\nHost: x\r\n\r\n", &["GET /version   []"]);
    check(
        "\r\nGET /a?b=c&d HTTP/1.1\r\nhost: x\r\n\r\nPOST /p HTTP/1.1\r\nHost: x\r\n\
         Authorization: tok\r\nContent-Length: 5\r\n\r\nhelloGET http://x/last HTTP/1.1\r\n\
         Host: x\r\n\r\n",
        &["GET /a b=c&d  []", "POST /p  tok [hello]", "GET /last   []"],
    );
    check(
        "POST /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n\
         3\r\nabc\r\n0a;x=y\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\nGET /d HTTP/1.1\r\n\
         Host: x\r\n\r\n",
        &["POST /c   [abc0123456789]", "GET /d   []"],
    );
}

#[test]
fn answers_have_their_framing() {
    let (_, output, _) = serve(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 100);
    let expected = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\nContent-Type: text/plain\r\n\r\n\
                    GET /   []";
    assert_eq!(output, expected);
    let (_, output, _) = serve(b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n", 100);
    assert!(output.contains("Content-Length: 11\r\n") && output.ends_with("\r\n\r\n"));
}

#[test]
fn connections_end_when_asked_to() {
    let (_, output, is_finished) = serve(b"GET / HTTP/1.0\r\n\r\n", 100);
    assert!(is_finished && output.contains("Connection: close\r\n"));
    let (_, output, is_finished) = serve(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", 100);
    assert!(!is_finished && output.contains("Connection: keep-alive\r\n"));
    let close = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: foo, Close\r\n\r\nGET / HTTP/1.1\r\n";
    let (requests, _, is_finished) = serve(close, 100);
    assert!(is_finished && requests.len() == 1);
}

#[test]
fn an_answer_that_comes_later_holds_up_the_next_request() {
    let mut server = Http1::new();
    server.feed(b"GET /1 HTTP/1.1\r\nHost: x\r\n\r\nGET /2 HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(server.next_request().unwrap().path, "/1");
    assert_eq!(server.next_request(), None);
    server.respond(200, "", b"one");
    assert_eq!(server.next_request().unwrap().path, "/2");
    server.drain();
    server.respond(404, "", b"");
    assert!(server.is_finished());
}

#[test]
fn chunked_answers() {
    let mut server = Http1::new();
    server.feed(b"POST /v3/watch HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}");
    assert_eq!(server.next_request().unwrap().body, b"{}");
    server.begin_chunks(200, "application/json");
    server.send_chunk(b"{\"a\":1}\n");
    server.send_chunk(b"");
    server.end_chunks();
    let output = String::from_utf8(std::mem::take(server.output())).unwrap();
    assert!(output.contains("Transfer-Encoding: chunked\r\n"));
    assert!(output.ends_with("\r\n\r\n8\r\n{\"a\":1}\n\r\n0\r\n\r\n"));
    assert!(!server.is_finished());
}

#[test]
fn a_client_that_waits_for_leave_gets_it_once() {
    let mut server = Http1::new();
    server.feed(b"POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n");
    assert_eq!(std::mem::take(server.output()), b"HTTP/1.1 100 Continue\r\n\r\n");
    server.feed(b"abc");
    assert_eq!(server.next_request().unwrap().body, b"abc");
    assert!(server.output().is_empty());
}

#[test]
fn every_bound_and_every_fault_has_its_status() {
    let long = format!("GET /{} HTTP/1.1\r\n", "x".repeat(HEAD_SIZE_BYTES_MAX));
    check_refused(&long, 431);
    let fields = "a: b\r\n".repeat(HEAD_FIELDS_MAX + 1);
    check_refused(&format!("GET / HTTP/1.1\r\nHost: x\r\n{fields}\r\n"), 431);
    let post = "POST / HTTP/1.1\r\nHost: x\r\n";
    check_refused(&format!("{post}Content-Length: {}\r\n\r\n", BODY_SIZE_BYTES_MAX + 1), 413);
    check_refused(&format!("{post}Content-Length: 99999999999999999999999\r\n\r\n"), 413);
    check_refused(&format!("{post}Transfer-Encoding: chunked\r\n\r\nffffffff\r\n"), 413);
    check_refused(&format!("{post}Transfer-Encoding: chunked\r\n\r\nxyz\r\n"), 400);
    check_refused(&format!("{post}Transfer-Encoding: chunked\r\n\r\n1\r\nabc"), 400);
    check_refused(&format!("{post}Transfer-Encoding: gzip\r\n\r\n"), 501);
    check_refused(&format!("{post}Content-Length: -1\r\n\r\n"), 400);
    check_refused(&format!("{post}Content-Length: 1\r\nContent-Length: 1\r\n\r\n"), 400);
    let both = format!("{post}Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n");
    check_refused(&both, 400);
    check_refused("GET / HTTP/1.1\r\n\r\n", 400);
    check_refused("GET / HTTP/3.0\r\n\r\n", 505);
    check_refused("G\u{1}T / HTTP/1.1\r\n\r\n", 400);
}

#[test]
fn a_request_that_does_not_end_is_given_up() {
    let mut server = Http1::new();
    server.tick(1000);
    server.tick(1_000_000);
    assert!(!server.is_finished(), "an idle connection may stay");
    server.feed(b"GET / HT");
    server.tick(1_000_000);
    server.tick(1_000_000 + REQUEST_MS_MAX - 1);
    assert!(!server.is_finished());
    server.tick(1_000_000 + REQUEST_MS_MAX);
    assert!(server.is_finished());
}

#[test]
fn requests_ahead_of_their_turn_stop_the_reading() {
    let mut server = Http1::new();
    let request = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    server.feed(request);
    assert!(server.next_request().is_some());
    while server.wants_input() {
        server.feed(&request.repeat(100));
    }
    server.respond(200, "", b"");
    let mut answered = 1;
    while server.next_request().is_some() {
        server.respond(200, "", b"");
        answered += 1;
    }
    assert_eq!(answered % 100, 1, "all of them");
}

/// Pseudo-random bytes with the words of the grammar among them: nothing may panic.
#[test]
fn rubbish_never_panics() {
    let words: [&[u8]; 12] = [
        b"GET / HTTP/1.1\r\n",
        b"Host: x\r\n",
        b"\r\n",
        b"Content-Length: 4\r\n",
        b"POST ",
        b"5\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"0\r\n",
        b"HTTP/1.0",
        b"\x00\xff",
        b"abcd",
        b": ",
    ];
    let mut state = 1u64;
    for _ in 0..3000 {
        let mut server = Http1::new();
        for _ in 0..30 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            server.feed(words[(state >> 40) as usize % words.len()]);
            if server.next_request().is_some() {
                server.respond(200, "", b"x");
            }
        }
    }
}
