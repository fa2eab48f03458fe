//! Connections, timers, and what is told of them.

use std::collections::{BTreeMap, VecDeque};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::PathBuf;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use server::config::url::ListenAddress;
use server::driver::CoreParts;
use server::driver::clock::Clock;
use server::driver::listener::{Acceptor, ListenOptions, Listener};
use server::driver::mesh::Mesh;
use server::driver::waker::Waker;
use server::driver::wal_files::WalDirectory;
use server::log::Logger;
use shard::effect::{Effect, Effects};
use shard::input::{ConnectionId, CoreId, Door, Input};

use super::running::{Driver, FILES_WANTED, PATIENCE, Running, Script, echo, keep_house, run};

fn many_connections_echo(driver: Driver) {
    let told = Arc::new(Mutex::new(BTreeMap::new()));
    let script_told = Arc::clone(&told);
    let running = Running::start(driver, |_| echo(script_told));
    running.await_serving();
    let mut streams: Vec<_> = (0..200).map(|_| running.connect()).collect();
    for round in 0..20_u8 {
        for (n, stream) in streams.iter_mut().enumerate() {
            stream.write_all(&[round ^ n as u8; 100]).unwrap();
        }
        for (n, stream) in streams.iter_mut().enumerate() {
            let mut bytes = [0; 100];
            stream.read_exact(&mut bytes).unwrap();
            assert_eq!(bytes, [round ^ n as u8; 100]);
        }
    }
    drop(streams);
    running.stop().unwrap();
    let told = told.lock().unwrap();
    assert_eq!(told.len(), 200);
    assert!(told.values().all(|(received, _)| *received == 2000));
}

/// The kernel takes a big answer in pieces; every byte arrives in order and is told.
fn partial_writes_arrive_whole(driver: Driver) {
    const PIECES: usize = 400;
    const PIECE: usize = 50_000;
    let (told, total) = channel();
    let running = Running::start(driver, move |_| {
        let mut is_first = true;
        let mut transmitted = 0;
        move |_, inputs: &mut Vec<Input>, effects: &mut Effects| {
            keep_house(&mut is_first, inputs, effects);
            for input in inputs.drain(..) {
                match input {
                    Input::Accepted { connection, .. } => {
                        for piece in 0..PIECES {
                            let bytes = vec![piece as u8; PIECE];
                            effects.push(Effect::Transmit { connection, bytes });
                        }
                    }
                    Input::Transmitted { size_bytes, .. } => {
                        transmitted += size_bytes;
                        if transmitted == PIECES * PIECE {
                            told.send(transmitted).unwrap();
                        }
                    }
                    _ => {}
                }
            }
        }
    });
    running.await_serving();
    let mut stream = running.connect();
    for piece in 0..PIECES {
        let mut bytes = vec![0; PIECE];
        stream.read_exact(&mut bytes).unwrap();
        assert!(bytes.iter().all(|byte| *byte == piece as u8), "piece {piece}");
    }
    // Told without any other input.
    assert_eq!(total.recv_timeout(PATIENCE), Ok(PIECES * PIECE));
    running.stop().unwrap();
}

/// A paused connection delivers nothing, a resumed one everything; a closed one gets its rest.
fn pause_resume_and_close(driver: Driver) {
    let (seen, sizes) = channel();
    let running = Running::start(driver, move |_| {
        let mut is_first = true;
        let mut resume: Option<(u64, ConnectionId)> = None;
        let mut received = 0;
        move |now_us, inputs: &mut Vec<Input>, effects: &mut Effects| {
            keep_house(&mut is_first, inputs, effects);
            for input in inputs.drain(..) {
                match input {
                    Input::Received { connection, bytes } if received == 0 => {
                        received = bytes.len();
                        effects.push(Effect::PauseReceive { connection });
                        effects.push(Effect::Transmit { connection, bytes: b"paused ".to_vec() });
                        resume = Some((now_us + 50_000, connection));
                    }
                    Input::Received { connection, bytes } => {
                        assert!(resume.is_none(), "nothing comes in while paused");
                        received += bytes.len();
                        if received == 6 {
                            effects.push(Effect::Transmit { connection, bytes: b"bye".to_vec() });
                            effects.push(Effect::Close { connection });
                        }
                    }
                    Input::Closed { .. } => seen.send(received).unwrap(),
                    _ => {}
                }
            }
            if let Some((at_us, connection)) = resume {
                if at_us <= now_us {
                    resume = None;
                    effects.push(Effect::ResumeReceive { connection });
                } else {
                    effects.wake_at(at_us);
                }
            }
        }
    });
    running.await_serving();
    let mut stream = running.connect();
    stream.write_all(b"x").unwrap();
    let mut paused = [0; 7];
    stream.read_exact(&mut paused).unwrap();
    stream.write_all(b"hello").unwrap();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    assert_eq!(rest, b"bye");
    drop(stream);
    assert_eq!(sizes.recv_timeout(PATIENCE), Ok(6));
    running.stop().unwrap();
}

/// One who reads nothing and never goes is closed after the wait.
fn a_close_does_not_wait_for_ever(driver: Driver) {
    let (closed, took) = channel();
    let running = Running::start(driver, move |_| {
        let mut is_first = true;
        let mut began = None;
        move |_, inputs: &mut Vec<Input>, effects: &mut Effects| {
            keep_house(&mut is_first, inputs, effects);
            for input in inputs.drain(..) {
                match input {
                    Input::Accepted { connection, .. } => {
                        // Before the bytes are made: the driver counts from the step's time.
                        began = Some(Instant::now());
                        let bytes = vec![1; 64 << 20];
                        effects.push(Effect::Transmit { connection, bytes });
                        effects.push(Effect::Close { connection });
                    }
                    Input::Closed { .. } => closed.send(began.unwrap().elapsed()).unwrap(),
                    _ => {}
                }
            }
        }
    });
    running.await_serving();
    let stream = running.connect();
    let took = took.recv_timeout(PATIENCE).unwrap();
    assert!(Duration::from_millis(900) <= took, "{took:?}");
    drop(stream);
    running.stop().unwrap();
}

/// `wake_at` is kept, neither early nor never; `step_again` steps at once.
fn timers_fire(driver: Driver) {
    let (fired, times) = channel();
    let running = Running::start(driver, move |_| {
        let mut is_first = true;
        let mut due_us = None;
        let mut again = 0;
        let mut count = 0;
        move |now_us, inputs: &mut Vec<Input>, effects: &mut Effects| {
            keep_house(&mut is_first, inputs, effects);
            inputs.clear();
            if again < 100 {
                again += 1;
                effects.step_again = true;
                return;
            }
            if due_us.is_some_and(|at_us| at_us <= now_us) {
                fired.send(now_us - due_us.unwrap()).unwrap();
                due_us = None;
                count += 1;
            }
            if count < 20 {
                let at_us = *due_us.get_or_insert(now_us + 5_000);
                effects.wake_at(at_us);
            }
        }
    });
    for _ in 0..20 {
        times.recv_timeout(PATIENCE).unwrap();
    }
    running.stop().unwrap();
}

/// Ten thousand idle connections cost a live one nothing but a scan of none.
fn idle_connections_do_not_matter(driver: Driver) {
    use rustix::process::{Resource, Rlimit, setrlimit};
    let wanted = Some(FILES_WANTED);
    // Only root may go above the hard limit; without it there are fewer connections.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: wanted, maximum: wanted });
    let limit = server::machine::raise_file_limit();
    // Both ends are in this process, and so is the other driver's case.
    let count = usize::try_from(limit.saturating_sub(2_000) / 4).unwrap().min(10_000);
    let told = Arc::new(Mutex::new(BTreeMap::new()));
    let script_told = Arc::clone(&told);
    let running = Running::start(driver, |_| echo(script_told));
    running.await_serving();
    let mut idle: VecDeque<_> = (0..count).map(|_| running.connect()).collect();
    let mut live = running.connect();
    let mut bytes = [0; 4];
    for n in 0..2_000_u32 {
        live.write_all(&n.to_be_bytes()).unwrap();
        live.read_exact(&mut bytes).unwrap();
        assert_eq!(bytes, n.to_be_bytes());
    }
    // The oldest of them is as good as new.
    let mut oldest = idle.pop_front().unwrap();
    oldest.write_all(b"here").unwrap();
    oldest.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"here");
    assert_eq!(told.lock().unwrap().len(), count + 1);
    drop(idle);
    running.stop().unwrap();
}

/// Metrics of all cores come without asking them.
fn metrics_are_rendered_from_what_was_published(driver: Driver) {
    let (read, texts) = channel();
    let running = Running::start(driver, move |_| {
        let mut is_first = true;
        let mut steps = 0;
        move |_, inputs: &mut Vec<Input>, effects: &mut Effects| {
            keep_house(&mut is_first, inputs, effects);
            steps += 1;
            match steps {
                1 => effects.step_again = true,
                2 => effects.push(Effect::ReadMetrics { token: 5 }),
                _ => {}
            }
            for input in inputs.drain(..) {
                if let Input::MetricsRead { token, text } = input {
                    read.send((token, text)).unwrap();
                }
            }
        }
    });
    assert_eq!(texts.recv_timeout(PATIENCE), Ok((5, b"[[7]]".to_vec())));
    running.stop().unwrap();
}

/// Two cores: connections beyond the owner's share are placed on the other one.
fn connections_are_spread(driver: Driver) {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let any = ListenAddress::Tcp((Ipv4Addr::LOCALHOST, 0).into());
    let listener = Listener::bind(&any, Door::Client, ListenOptions::default()).unwrap();
    let address = listener.local_address().unwrap().unwrap();
    let mesh = Mesh::new(vec![Waker::new().unwrap(), Waker::new().unwrap()]);
    let (serve, serving): (Sender<()>, _) = channel();
    let mut acceptor = Some(Acceptor::new(vec![listener], 2));
    let logger = Logger::start("error", true, &["stderr".to_owned()]).unwrap();
    let counts: Vec<_> = (0..2).map(|_| Arc::new(Mutex::new(BTreeMap::new()))).collect::<Vec<_>>();
    let mut threads = Vec::new();
    for core in [1_u16, 0] {
        let path: PathBuf = directory.path().join(format!("wal-{core}"));
        std::fs::create_dir(&path).unwrap();
        let (mesh, logger, serve) = (Arc::clone(&mesh), logger.clone(), serve.clone());
        let told = Arc::clone(&counts[usize::from(core)]);
        let acceptor = if core == 0 { acceptor.take() } else { None };
        threads.push(std::thread::spawn(move || {
            let parts = CoreParts {
                core: CoreId(core),
                clock: Clock::start(),
                mesh,
                acceptor,
                segments: Some(WalDirectory::open(&path).unwrap().worker(None)),
                pages: None,
                space_reserve: None,
                wal_faults: None,
                render_metrics: Arc::new(|_| Vec::new()),
                on_serve: Box::new(move || serve.send(()).unwrap()),
                logger,
            };
            run(driver, Script(echo(told)), parts)
        }));
    }
    for _ in 0..2 {
        serving.recv_timeout(PATIENCE).unwrap();
    }
    let mut streams: Vec<_> = (0..40)
        .map(|_| {
            let stream = TcpStream::connect(address).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            stream
        })
        .collect();
    for stream in &mut streams {
        stream.write_all(b"ping").unwrap();
        let mut bytes = [0; 4];
        stream.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"ping");
    }
    mesh.request_shutdown();
    for thread in threads {
        thread.join().unwrap().unwrap();
    }
    let sizes: Vec<_> = counts.iter().map(|told| told.lock().unwrap().len()).collect();
    assert_eq!(sizes, [20, 20]);
}

/// Peers connect from the start, clients only when the program serves.
fn the_peer_door_is_open_before_the_others(driver: Driver) {
    let (came_in, doors) = channel();
    let running = Running::start(driver, move |_| {
        let mut is_first = true;
        move |_, inputs: &mut Vec<Input>, effects: &mut Effects| {
            for input in inputs.iter() {
                match input {
                    Input::Accepted { door, .. } => came_in.send(*door).unwrap(),
                    // Told to by a peer.
                    Input::Received { .. } => keep_house(&mut is_first, &[], effects),
                    Input::ShutdownRequested => effects.push(Effect::Stop),
                    _ => {}
                }
            }
            inputs.clear();
        }
    });
    let began = Instant::now();
    let mut peer = loop {
        match TcpStream::connect(running.peer_address) {
            Ok(stream) => break stream,
            // Bound, and the core is about to start.
            Err(error) => assert!(began.elapsed() < PATIENCE, "{error}"),
        }
    };
    assert_eq!(doors.recv_timeout(PATIENCE), Ok(Door::Peer));
    let refused = TcpStream::connect(running.address).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    peer.write_all(b"serve").unwrap();
    running.await_serving();
    let _client = running.connect();
    assert_eq!(doors.recv_timeout(PATIENCE), Ok(Door::Client));
    drop(peer);
    running.stop().unwrap();
}

on_both_drivers! {
    many_connections_echo
    partial_writes_arrive_whole
    pause_resume_and_close
    a_close_does_not_wait_for_ever
    timers_fire
    idle_connections_do_not_matter
    metrics_are_rendered_from_what_was_published
    connections_are_spread
    the_peer_door_is_open_before_the_others
}
