//! What the drivers cost: an echo of 64 bytes, by number of connections; latency seen by a client
//! on another CPU, and CPU time of the server's thread alone for each answer.
//!
//! Usage: `echo_cost raw|portable|uring CONNECTIONS SECONDS`. `raw` is a bare epoll loop, the
//! floor.
//! The figures and what was decided by them stand in docs/decisions/sockets-of-the-uring-driver.md.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    os::fd::AsFd,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::channel,
    },
    time::{Duration, Instant},
};

use rustix::{
    event::{
        PollFd, PollFlags,
        epoll::{self, EventData, EventFlags},
    },
    time::{ClockId, clock_gettime},
};
use server::{
    config::url::ListenAddress,
    driver::{
        CoreParts, Program,
        clock::Clock,
        listener::{Acceptor, ListenOptions, Listener},
        mesh::Mesh,
        portable, uring,
        waker::Waker,
        wal_files::WalDirectory,
    },
    log::Logger,
    machine::{Cpus, pin_thread},
};
use shard::{
    effect::{Effect, Effects},
    input::{CoreId, Door, Input},
};

/// Sends back what comes.
struct Echo {
    is_first: bool,
}

impl Program for Echo {
    fn step(&mut self, _: u64, inputs: &mut Vec<Input>, effects: &mut Effects) {
        if std::mem::take(&mut self.is_first) {
            effects.push(Effect::Serve);
        }
        for input in inputs.drain(..) {
            match input {
                Input::Received { connection, bytes } => {
                    effects.push(Effect::Transmit { connection, bytes: bytes.to_vec() });
                    effects.spent.push(bytes);
                }
                Input::ShutdownRequested => effects.push(Effect::Stop),
                _ => {}
            }
        }
    }
    fn cells(&self) -> &[u64] {
        &[]
    }
}

fn thread_cpu_us() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    (time.tv_sec * 1_000_000 + time.tv_nsec / 1000) as u64
}

fn main() {
    let arguments: Vec<_> = std::env::args().collect();
    let mode = arguments.get(1).map_or("raw", String::as_str).to_owned();
    let connections: usize = arguments.get(2).map_or(1, |text| text.parse().expect("a count"));
    let seconds: u64 = arguments.get(3).map_or(3, |text| text.parse().expect("seconds"));
    let cpus = Cpus::of_this_process().expect("the affinity mask is readable");
    let (server_cpu, client_cpu) = (cpus.mask[0], cpus.mask[cpus.mask.len() - 1]);
    let stop = Arc::new(AtomicBool::new(false));
    let (ready, address) = channel();
    let mesh = Mesh::new(vec![Waker::new().expect("an eventfd")]);
    let (server_mesh, server_stop) = (Arc::clone(&mesh), Arc::clone(&stop));
    let server_mode = mode.clone();
    let server = std::thread::spawn(move || {
        pin_thread(server_cpu).expect("a CPU of the mask");
        let begin_us = thread_cpu_us();
        if server_mode == "raw" {
            raw(&server_stop, move |address| ready.send(address).expect("main waits"));
        } else {
            let address = move |found| ready.send(found).expect("main waits");
            driven(&server_mode, server_mesh, server_cpu, address);
        }
        thread_cpu_us() - begin_us
    });
    let address = address.recv().expect("the server starts");
    pin_thread(client_cpu).expect("a CPU of the mask");
    let (count, mut latencies) = load(address, connections, Duration::from_secs(seconds));
    stop.store(true, Ordering::SeqCst);
    mesh.request_shutdown();
    // Wakes the raw loop.
    drop(TcpStream::connect(address));
    let cpu_us = server.join().expect("the server ends");
    latencies.sort_unstable();
    println!(
        "{mode:9} {connections:4} connections: {:8.0}/s  p50 {:5} us  p99 {:5} us  server CPU \
         {:.2} us an answer",
        count as f64 / seconds as f64,
        latencies[latencies.len() / 2],
        latencies[latencies.len() * 99 / 100],
        cpu_us as f64 / count as f64
    );
}

/// One request at a time on each connection; rounds over all that are ready.
fn load(address: SocketAddr, connections: usize, time: Duration) -> (u64, Vec<u64>) {
    let mut streams: Vec<_> = (0..connections)
        .map(|_| {
            let stream = TcpStream::connect(address).expect("the server accepts");
            stream.set_nodelay(true).expect("a TCP socket");
            (stream, Instant::now())
        })
        .collect();
    let mut bytes = [5; 64];
    let began = Instant::now();
    let (mut count, mut latencies) = (0, Vec::new());
    for (stream, sent) in &mut streams {
        *sent = Instant::now();
        stream.write_all(&bytes).expect("the server lives");
    }
    while began.elapsed() < time {
        let ready: Vec<usize> = {
            let mut files: Vec<_> =
                streams.iter().map(|(stream, _)| PollFd::new(stream, PollFlags::IN)).collect();
            rustix::event::poll(&mut files, None).expect("sockets can be polled");
            (0..files.len()).filter(|slot| !files[*slot].revents().is_empty()).collect()
        };
        for slot in ready {
            let (stream, sent) = &mut streams[slot];
            stream.read_exact(&mut bytes).expect("the server answers");
            latencies.push(sent.elapsed().as_micros() as u64);
            count += 1;
            *sent = Instant::now();
            stream.write_all(&bytes).expect("the server lives");
        }
    }
    (count, latencies)
}

/// The floor: epoll, one recv and one send for each request.
fn raw(stop: &AtomicBool, started: impl FnOnce(SocketAddr)) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let watch = epoll::create(epoll::CreateFlags::CLOEXEC).expect("an epoll");
    let data = EventData::new_u64(u64::MAX);
    epoll::add(&watch, &listener, data, EventFlags::IN).expect("a socket");
    started(listener.local_addr().expect("bound"));
    let mut streams: Vec<TcpStream> = Vec::new();
    let mut events = Vec::with_capacity(1024);
    let mut bytes = vec![0; 65536];
    while !stop.load(Ordering::SeqCst) {
        events.clear();
        let room = rustix::buffer::spare_capacity(&mut events);
        epoll::wait(watch.as_fd(), room, None).expect("an epoll");
        for event in &events {
            if event.data.u64() == u64::MAX {
                let (stream, _) = listener.accept().expect("a connection");
                stream.set_nodelay(true).expect("a TCP socket");
                let data = EventData::new_u64(streams.len() as u64);
                epoll::add(&watch, &stream, data, EventFlags::IN).expect("a socket");
                streams.push(stream);
                continue;
            }
            let mut stream = &streams[event.data.u64() as usize];
            let size = stream.read(&mut bytes).unwrap_or(0);
            if size == 0 {
                let _ = epoll::delete(&watch, stream);
            } else {
                stream.write_all(&bytes[..size]).expect("the client reads");
            }
        }
    }
}

fn driven(mode: &str, mesh: Arc<Mesh>, cpu: usize, started: impl Fn(SocketAddr) + Send + 'static) {
    let directory = std::env::temp_dir().join(format!("echo-cost-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("a temporary directory");
    let any = ListenAddress::Tcp((Ipv4Addr::LOCALHOST, 0).into());
    let listener =
        Listener::bind(&any, Door::Client, ListenOptions::default()).expect("a free port");
    let address = listener.local_address().expect("bound").expect("TCP");
    let parts = CoreParts {
        core: CoreId(0),
        clock: Clock::start(),
        mesh,
        acceptor: Some(Acceptor::new(vec![listener], 1)),
        segments: Some(WalDirectory::open(&directory).expect("a directory").worker(None)),
        pages: None,
        space_reserve: None,
        wal_faults: None,
        render_metrics: Arc::new(|_| Vec::new()),
        on_serve: Box::new(move || started(address)),
        logger: Logger::start("error", true, &["stderr".to_owned()]).expect("a log"),
    };
    let echo = Echo { is_first: true };
    let ended = match mode {
        "portable" => portable::run(echo, parts, Some(cpu)),
        _ => uring::run(echo, parts, Some(cpu)),
    };
    ended.expect("no fault");
    std::fs::remove_dir_all(&directory).expect("made above");
}
