//! Connections that the program dials.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use shard::effect::{Effect, Effects};
use shard::input::{ConnectionId, DialFailure, DialId, Input};
use shard::limits::DIAL_TIMEOUT_US;

use super::running::{Driver, PATIENCE, Running, keep_house};

/// How a dial ended, and when.
type Dialed = (DialId, Result<ConnectionId, DialFailure>, Duration);

/// Dials the URLs at once and says hello on each connection that comes about.
fn dial(driver: Driver, urls: Vec<String>) -> (Running, Receiver<Dialed>) {
    let (ended, outcomes) = channel();
    let running = Running::start(driver, move |_| {
        let mut is_first = true;
        let mut asked = None;
        move |_, inputs: &mut Vec<Input>, effects: &mut Effects| {
            keep_house(&mut is_first, inputs, effects);
            let asked = *asked.get_or_insert_with(|| {
                for (n, url) in urls.iter().enumerate() {
                    effects.push(Effect::Dial { dial: DialId(n as u64), url: url.clone() });
                }
                Instant::now()
            });
            for input in inputs.drain(..) {
                let (dial, outcome) = match input {
                    Input::Dialed { dial, connection } => {
                        let bytes = b"hello".to_vec();
                        effects.push(Effect::Transmit { connection, bytes });
                        (dial, Ok(connection))
                    }
                    Input::DialFailed { dial, failure } => (dial, Err(failure)),
                    Input::Received { connection, bytes } => {
                        effects.push(Effect::Transmit { connection, bytes });
                        continue;
                    }
                    _ => continue,
                };
                // The test may have seen enough.
                let _ = ended.send((dial, outcome, asked.elapsed()));
            }
        }
    });
    (running, outcomes)
}

/// A dialed connection is one like any other, by address, by either address of localhost, and by
/// the path of a socket.
fn dialed_connections_carry_bytes(driver: Driver) {
    fn check(mut stream: impl Read + Write) {
        let mut bytes = [0; 5];
        stream.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"hello");
        stream.write_all(b"world").unwrap();
        stream.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"world");
    }
    let four = TcpListener::bind("127.0.0.1:0").unwrap();
    let by_name = TcpListener::bind("127.0.0.1:0").unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("peer");
    let unix = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let mut urls = vec![
        format!("http://{}", four.local_addr().unwrap()),
        format!("http://localhost:{}", by_name.local_addr().unwrap().port()),
        format!("unix://{}", path.display()),
    ];
    // Nobody listens on the first address of this name; the second is tried after it.
    let six = TcpListener::bind("[::1]:0").ok();
    urls.extend(
        six.iter()
            .map(|listener| format!("http://localhost:{}", listener.local_addr().unwrap().port())),
    );
    let count = urls.len();
    let (running, outcomes) = dial(driver, urls);
    check(four.accept().unwrap().0);
    check(by_name.accept().unwrap().0);
    check(unix.accept().unwrap().0);
    six.iter().for_each(|listener| check(listener.accept().unwrap().0));
    let mut connections: Vec<_> = (0..count)
        .map(|_| outcomes.recv_timeout(PATIENCE).unwrap().1.expect("somebody listens there"))
        .collect();
    connections.sort();
    connections.dedup();
    assert_eq!(connections.len(), count, "numbers are used once");
    running.stop().unwrap();
}

/// A port on which nobody listens refuses; a name that is none, and a URL that leads nowhere, are
/// unreachable. None of them takes until the time-out.
fn dials_to_nobody_are_told_apart(driver: Driver) {
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let urls = vec![
        format!("http://{gone}"),
        format!("http://localhost:{}", gone.port()),
        "unix:///nowhere/at/all".to_owned(),
        "https://127.0.0.1:1".to_owned(),
    ];
    let (running, outcomes) = dial(driver, urls);
    let mut failures: Vec<_> = (0..4)
        .map(|_| {
            let (dial, outcome, took) = outcomes.recv_timeout(PATIENCE).unwrap();
            assert!(took < Duration::from_micros(DIAL_TIMEOUT_US), "{dial:?} took {took:?}");
            (dial.0, outcome.expect_err("nobody listens there"))
        })
        .collect();
    failures.sort_by_key(|(dial, _)| *dial);
    use DialFailure::{Refused, Unreachable};
    assert_eq!(failures, [(0, Refused), (1, Refused), (2, Refused), (3, Unreachable)]);
    running.stop().unwrap();
}

/// Where nothing answers, the dial is given up in time; a name is not waited for longer either.
fn a_dial_without_an_answer_is_given_up(driver: Driver) {
    // A listener whose queue is full takes no more: the kernel drops what asks.
    let silent = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let any: SocketAddr = (Ipv4Addr::LOCALHOST, 0).into();
    silent.bind(&any.into()).unwrap();
    silent.listen(0).unwrap();
    let address = silent.local_addr().unwrap();
    let _queue: Vec<_> = (0..4)
        .map(|_| {
            let socket =
                socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
            socket.set_nonblocking(true).unwrap();
            // Under way is enough.
            let _ = socket.connect(&address);
            socket
        })
        .collect();
    let url = format!("http://{}", address.as_socket().unwrap());
    let (running, outcomes) = dial(driver, vec![url, "http://nobody.invalid:1".to_owned()]);
    for _ in 0..2 {
        let (dial, outcome, took) = outcomes.recv_timeout(PATIENCE).unwrap();
        assert_eq!(outcome, Err(DialFailure::Unreachable));
        if dial == DialId(0) {
            assert!(Duration::from_micros(DIAL_TIMEOUT_US) <= took, "{took:?}");
        }
    }
    running.stop().unwrap();
}

on_both_drivers! {
    dialed_connections_carry_bytes
    dials_to_nobody_are_told_apart
    a_dial_without_an_answer_is_given_up
}
