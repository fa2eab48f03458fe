//! Connections that do nothing, too many of them, and readers that do not read.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use ::tests::process::{Member, Program};
use net::wire::{ClientHello, ClientSession, Message, Request, WatchCreateRequest};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::witness::Witness;
use crate::{PATIENCE, binary_endpoint, client_endpoint, dial};

/// Clients that say half of something and stop: those that ended their half are let go, those that
/// say nothing more are let go after a while, and none of them disturbs another one.
pub fn half_open(program: &Program) {
    let mut member = Member::start(program, &[]);
    let mut witness = Witness::start(&member);
    let hello = ClientSession::new(&ClientHello::default()).output().to_vec();
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    let doors = [
        (client_endpoint(&member), [preface[..9].to_vec(), b"GET /hea".to_vec(), Vec::new()]),
        (binary_endpoint(&member), [hello[..9].to_vec(), hello[..40].to_vec(), Vec::new()]),
    ];
    let mut silent = Vec::new();
    for (endpoint, beginnings) in &doors {
        for beginning in beginnings {
            for _ in 0..HALF_OPEN_EACH {
                let mut ended = dial(endpoint);
                ended.write_all(beginning).unwrap();
                ended.shutdown(Shutdown::Write).unwrap();
                assert!(is_closed_in(&mut ended, PATIENCE), "{endpoint} keeps {beginning:?}");
                let mut abandoned = dial(endpoint);
                abandoned.write_all(beginning).unwrap();
                silent.push((endpoint, beginning, abandoned));
            }
        }
        // A whole hello or preface, and then no more: idle is allowed, an ended half is let go.
        let whole = if endpoint == &doors[0].0 { &preface } else { &hello };
        let mut idle = dial(endpoint);
        idle.write_all(whole).unwrap();
        idle.shutdown(Shutdown::Write).unwrap();
        assert!(is_closed_in(&mut idle, PATIENCE), "{endpoint} keeps one that has ended");
    }
    witness.check(&mut member);
    for (endpoint, beginning, mut socket) in silent {
        let text = beginning.escape_ascii();
        assert!(is_closed_in(&mut socket, PATIENCE), "{endpoint} waits for ever after {text}");
    }
    witness.check(&mut member);
}

fn is_closed_in(socket: &mut TcpStream, patience: Duration) -> bool {
    let deadline = Instant::now() + patience;
    let mut chunk = [0; 4096];
    while Instant::now() < deadline {
        socket.set_read_timeout(Some(deadline - Instant::now())).unwrap();
        match socket.read(&mut chunk) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return true,
            Err(_) => {}
        }
    }
    false
}

/// As many connections as the machine allows, up to ten thousand: all greeted, all served.
pub fn thousands(program: &Program) {
    // One such crowd at a time: both drivers' would not fit into one process's files.
    static ALONE: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let count = CONNECTIONS.min(files_allowed().saturating_sub(FILES_OF_OTHERS));
    if count < CONNECTIONS {
        println!("only {count} connections: the limit of open files allows no more");
    }
    let mut member = Member::start(program, &[]);
    let mut witness = Witness::start(&member);
    let hello = ClientSession::new(&ClientHello::default()).output().to_vec();
    let (binary, client) = (binary_endpoint(&member), client_endpoint(&member));
    let mut sockets = Vec::with_capacity(count);
    for slot in 0..count {
        let (endpoint, bytes) = if slot % 2 == 0 {
            (&binary, hello.as_slice())
        } else {
            (&client, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".as_slice())
        };
        let mut socket = dial(endpoint);
        socket.write_all(bytes).unwrap();
        sockets.push(socket);
    }
    for (slot, socket) in sockets.iter_mut().enumerate() {
        let mut first = [0; 16];
        let size = socket.read(&mut first).unwrap_or_else(|error| panic!("{slot}: {error}"));
        assert!(0 < size, "connection {slot} was closed");
    }
    witness.check(&mut member);
    drop(sockets);
    witness.check(&mut member);
}

/// Raises the limit of open files as far as it goes.
fn files_allowed() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let current = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    current.map_or(usize::MAX, |files| usize::try_from(files).unwrap())
}

/// A watch with all the credit there is, of which nothing is read while much is written: the
/// member's memory stays bounded, the others are served, and what is read then is whole.
pub fn slow_reader(program: &Program) {
    let mut member = Member::start(program, &[]);
    let mut witness = Witness::start(&member);
    let mut session = ClientSession::new(&ClientHello::default());
    let mut socket = dial(&binary_endpoint(&member));
    send(&mut socket, &mut session);
    receive(&mut socket, &mut session, |_| {});
    let watch = Request::WatchCreate(WatchCreateRequest {
        key: b"witness/",
        range_end: b"witness0",
        credit_bytes: 64 << 20,
        ..WatchCreateRequest::default()
    });
    session.request(&watch).unwrap();
    send(&mut socket, &mut session);
    let mut is_created = false;
    while !is_created {
        receive(&mut socket, &mut session, |message| {
            is_created |= matches!(message, Message::WatchCreated { .. });
        });
    }
    let before = resident_bytes(&member);
    witness.write(&member, BIG_EVENTS, BIG_EVENT_BYTES);
    witness.check_reads(&member);
    let grown = resident_bytes(&member).saturating_sub(before);
    // The store itself, twice, and room for what waits at the connection.
    let expected = 2 * BIG_EVENTS * BIG_EVENT_BYTES + QUEUED_BYTES_MAX;
    assert!(grown < expected, "{grown} bytes more for {} written", BIG_EVENTS * BIG_EVENT_BYTES);
    let mut revisions = Vec::new();
    while revisions.len() < BIG_EVENTS {
        receive(&mut socket, &mut session, |message| {
            if let Message::WatchEvents { events, .. } = message {
                revisions.extend(events.iter().map(|event| event.kv.mod_revision));
            }
        });
    }
    assert!(revisions.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{revisions:?}");
    witness.check(&mut member);
}

fn send(socket: &mut TcpStream, session: &mut ClientSession) {
    socket.write_all(&session.take_output(Vec::new())).unwrap();
}

/// Takes what is there, at least a byte.
fn receive(
    socket: &mut TcpStream,
    session: &mut ClientSession,
    mut on_message: impl FnMut(&Message<'_>),
) {
    let mut chunk = vec![0; 64 << 10];
    let size = socket.read(&mut chunk).unwrap();
    assert!(0 < size, "the server ended the connection");
    session.feed(&chunk[..size], &mut |message| on_message(&message)).unwrap();
}

fn resident_bytes(member: &Member) -> usize {
    let path = format!("/proc/{}/status", member.process_id());
    let status = std::fs::read_to_string(path).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<usize>().unwrap() * 1024
}

const HALF_OPEN_EACH: usize = 20;
const CONNECTIONS: usize = 10_000;
const FILES_OF_OTHERS: usize = 1500;
const BIG_EVENTS: usize = 300;
const BIG_EVENT_BYTES: usize = 100_000;
const QUEUED_BYTES_MAX: usize = 64 << 20;
