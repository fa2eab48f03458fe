//! Bytes that are no protocol, or a wrong one.

use std::io::{Read, Write};

use ::tests::process::{Member, Program};
use net::wire::{ClientHello, ClientSession};

use crate::witness::Witness;
use crate::{binary_endpoint, client_endpoint, dial};

/// Random bytes and other protocols, on both ports: told what is wrong, and closed.
pub fn garbage(program: &Program) {
    let mut member = Member::start(program, &[]);
    let mut witness = Witness::start(&member);
    let noise: Vec<u8> =
        (0..100_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let texts: [&[u8]; 5] = [
        &noise[..1000],
        &[0; 1000],
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"SSH-2.0-x\r\n",
        b"*1\r\n$4\r\nPING\r\n",
    ];
    for text in texts {
        // Shorter than a frame's header it is no frame yet, however wrong.
        let mut frame = text.to_vec();
        frame.resize(text.len().max(32), b'x');
        let answer = answer_to(&binary_endpoint(&member), &frame);
        assert!(contains(&answer, b"wire: "), "{:?} to {:?}", shown(&answer), shown(text));
    }
    // Much of it may still be on its way when the connection is closed, which can cost the answer.
    answer_to(&binary_endpoint(&member), &noise);
    answer_to(&client_endpoint(&member), &noise);
    // HTTP/2, but then noise instead of frames.
    let wrong = [PREFACE, &noise[..1000]].concat();
    let answer = answer_to(&client_endpoint(&member), &wrong);
    assert!(is_go_away(&answer), "{:?}", shown(&answer));
    // A hello, but then noise.
    let wrong = [&hello(&ClientHello::default()), &noise[..1000]].concat();
    let answer = answer_to(&binary_endpoint(&member), &wrong);
    assert!(contains(&answer, b"wire: "), "{:?}", shown(&answer));
    witness.check(&mut member);
    for text in texts {
        let answer = answer_to(&client_endpoint(&member), text);
        assert!(answer.starts_with(b"HTTP/1.1 400"), "{:?} to {:?}", shown(&answer), shown(text));
    }
    witness.check(&mut member);
}

/// Frames that announce more than is allowed are refused by their header alone.
pub fn oversized(program: &Program) {
    let mut member = Member::start(program, &[]);
    let mut witness = Witness::start(&member);
    // HTTP/2: settings, then a DATA frame of 16 MiB - 1 on stream 1: FRAME_SIZE_ERROR is 6.
    let mut bytes = PREFACE.to_vec();
    bytes.extend_from_slice(&[0, 0, 0, 4, 0, 0, 0, 0, 0]);
    bytes.extend_from_slice(&[0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1]);
    let answer = answer_to(&client_endpoint(&member), &bytes);
    assert!(is_go_away(&answer) && contains(&answer, &[0, 0, 0, 6]), "{:?}", shown(&answer));
    // HTTP/1.1: a header without an end.
    let mut bytes = b"GET /health HTTP/1.1\r\nHost: x\r\nX: ".to_vec();
    bytes.resize(1 << 20, b'x');
    let answer = answer_to(&client_endpoint(&member), &bytes);
    let text = String::from_utf8_lossy(&answer);
    assert!(text.starts_with("HTTP/1.1 4"), "{:?}", shown(&answer));
    // The binary protocol: a frame of 1 GiB, whole in its header.
    let mut bytes = hello(&ClientHello::default());
    bytes.extend_from_slice(&frame_header(1 << 30));
    let answer = answer_to(&binary_endpoint(&member), &bytes);
    assert!(contains(&answer, b"wire: "), "{:?}", shown(&answer));
    witness.check(&mut member);
}

/// However large a request may be, a value is never larger than what a page file holds: it is
/// refused at the door, since the log makes every member apply what is in it, at each start anew.
pub fn large_requests_allowed(program: &Program) {
    let mut member = Member::start(program, &["--max-request-bytes=8388608"]);
    let mut witness = Witness::start(&member);
    witness.write(&member, 1, 2 << 20);
    let error = witness.write_until_refused(&member, 1, (2 << 20) + 1);
    assert!(error.to_string().contains("etcdserver: request is too large"), "{error}");
    witness.check(&mut member);
    assert!(member.log().contains("--max-request-bytes=8388608: a key or a value larger than"));
}

/// Clients of versions that are not spoken here are told so.
pub fn wrong_versions(program: &Program) {
    let mut member = Member::start(program, &[]);
    let mut witness = Witness::start(&member);
    let future = ClientHello { version_min: 9, version_max: 12, ..ClientHello::default() };
    let answer = answer_to(&binary_endpoint(&member), &hello(&future));
    assert!(contains(&answer, b"version"), "{:?}", shown(&answer));
    // HTTP/1.0 and a later HTTP on the client port.
    for line in ["GET /health HTTP/3.7\r\n\r\n", "PRI * HTTP/3.0\r\n\r\nSM\r\n\r\n"] {
        let answer = answer_to(&client_endpoint(&member), line.as_bytes());
        let text = String::from_utf8_lossy(&answer);
        let is_refused = text.starts_with("HTTP/1.1 4") || text.starts_with("HTTP/1.1 505");
        assert!(is_refused || is_go_away(&answer), "{:?}", shown(&answer));
    }
    witness.check(&mut member);
}

/// Everything the server says to these bytes until it closes the connection.
fn answer_to(endpoint: &str, bytes: &[u8]) -> Vec<u8> {
    let mut socket = dial(endpoint);
    let mut writer = socket.try_clone().unwrap();
    let bytes = bytes.to_vec();
    // The server may close before it has taken everything.
    let writing = std::thread::spawn(move || drop(writer.write_all(&bytes)));
    let mut answer = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        match socket.read(&mut chunk) {
            Ok(0) => break,
            Ok(size) => answer.extend_from_slice(&chunk[..size]),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => break,
            Err(error) => panic!("not closed: {error}; so far {:?}", shown(&answer)),
        }
    }
    let _ = socket.shutdown(std::net::Shutdown::Both);
    writing.join().unwrap();
    answer
}

/// Whether a GOAWAY frame is among the answer's frames.
fn is_go_away(answer: &[u8]) -> bool {
    let mut rest = answer;
    while let [high, middle, low, kind, ..] = rest {
        if *kind == 7 {
            return true;
        }
        let size = usize::from(*high) << 16 | usize::from(*middle) << 8 | usize::from(*low);
        rest = rest.get(9 + size..).unwrap_or_default();
    }
    false
}

fn hello(hello: &ClientHello<'_>) -> Vec<u8> {
    ClientSession::new(hello).output().to_vec()
}

/// A frame header with a valid checksum of its own.
fn frame_header(size_bytes: u32) -> Vec<u8> {
    use net::wire::FrameHeader;
    let mut header = vec![0; size_of::<FrameHeader>()];
    header[16..20].copy_from_slice(&size_bytes.to_le_bytes());
    header[20] = 0x11;
    header[24] = 1;
    let checksum = xxhash_rust::xxh3::xxh3_64(&header[8..]);
    header[..8].copy_from_slice(&checksum.to_le_bytes());
    header
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

fn shown(bytes: &[u8]) -> String {
    bytes[..bytes.len().min(200)].escape_ascii().to_string()
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
