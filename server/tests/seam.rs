//! The seam between a program and its driver, the same suite on both drivers: what a shard is
//! promised about its inputs and effects holds whoever turns the loop.
//!
//! Each case is a script of effects run by a `Program`; the world outside is real sockets and
//! files.

#![allow(clippy::unwrap_used, reason = "a step of a test that fails ends it")]

use std::{
    collections::{BTreeMap, VecDeque},
    fs::File,
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    os::unix::fs::FileExt,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        mpsc::{Receiver, Sender, channel},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use engine::{
    page::map::{PAGE_SIZE_BYTES, PageMap, PageNumber, checksum},
    wal::{
        buffer::WalBuffer,
        position::{SegmentId, WalPosition},
        source::SegmentSource,
        writer::WalWrite,
    },
};
use server::{
    config::url::ListenAddress,
    driver::{
        CoreParts, Program,
        clock::Clock,
        listener::{Acceptor, ListenOptions, Listener},
        mesh::Mesh,
        page_file::{self, PageFileMap},
        portable, uring,
        waker::Waker,
        wal_faults::WalFaults,
        wal_files::WalDirectory,
    },
    error::Fault,
    log::Logger,
};
use shard::{
    effect::{Effect, Effects, SegmentOrigin},
    input::{ConnectionId, CoreId, DialFailure, DialId, Door, Input},
    limits::DIAL_TIMEOUT_US,
};

/// Which driver turns the loop.
#[derive(Clone, Copy, Debug)]
enum Driver {
    Portable,
    Uring,
}

/// A program made of a closure.
struct Script<F>(F);

impl<F: FnMut(u64, &mut Vec<Input>, &mut Effects)> Program for Script<F> {
    fn step(&mut self, now_us: u64, inputs: &mut Vec<Input>, effects: &mut Effects) {
        self.0(now_us, inputs, effects);
    }
    fn cells(&self) -> &[u64] {
        &[7]
    }
}

/// One core, running.
struct Running {
    address: SocketAddr,
    peer_address: SocketAddr,
    mesh: Arc<Mesh>,
    thread: JoinHandle<Result<(), Fault>>,
    directory: Arc<tempfile::TempDir>,
    serving: Receiver<()>,
}

impl Running {
    fn start<F>(driver: Driver, make: impl FnOnce(PageFileMap) -> F + Send + 'static) -> Running
    where
        F: FnMut(u64, &mut Vec<Input>, &mut Effects),
    {
        let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        Running::start_in(Arc::new(directory), driver, None, make)
    }

    /// In a directory that another run may have left, on a disk with these faults.
    fn start_in<F>(
        directory: Arc<tempfile::TempDir>,
        driver: Driver,
        wal_faults: Option<WalFaults>,
        make: impl FnOnce(PageFileMap) -> F + Send + 'static,
    ) -> Running
    where
        F: FnMut(u64, &mut Vec<Input>, &mut Effects),
    {
        let any = ListenAddress::Tcp((Ipv4Addr::LOCALHOST, 0).into());
        let listener = Listener::bind(&any, Door::Client, ListenOptions::default()).unwrap();
        let address = listener.local_address().unwrap().unwrap();
        let peers = Listener::bind(&any, Door::Peer, ListenOptions::default()).unwrap();
        let peer_address = peers.local_address().unwrap().unwrap();
        let mesh = Mesh::new(vec![Waker::new().unwrap()]);
        let (serve, serving) = channel();
        let (here, within) = (Arc::clone(&mesh), Arc::clone(&directory));
        let thread = std::thread::spawn(move || {
            let wal = WalDirectory::open(within.path()).unwrap();
            let pages_path = within.path().join("default.pages");
            let (map, worker, _) = page_file::open(&pages_path).unwrap();
            let parts = CoreParts {
                core: CoreId(0),
                clock: Clock::start(),
                mesh: here,
                acceptor: Some(Acceptor::new(vec![listener, peers], 1)),
                segments: Some(wal.worker()),
                pages: Some(worker),
                wal_faults,
                render_metrics: Arc::new(|cells| format!("{cells:?}").into_bytes()),
                on_serve: Box::new(move || serve.send(()).unwrap()),
                logger: Logger::start("error", true, &["stderr".to_owned()]).unwrap(),
            };
            run(driver, Script(make(map)), parts)
        });
        Running { address, peer_address, mesh, thread, directory, serving }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    fn await_serving(&self) {
        self.serving.recv_timeout(PATIENCE).unwrap();
    }

    fn stop(self) -> Result<(), Fault> {
        self.mesh.request_shutdown();
        self.thread.join().unwrap()
    }
}

fn run<F>(driver: Driver, script: Script<F>, parts: CoreParts) -> Result<(), Fault>
where
    F: FnMut(u64, &mut Vec<Input>, &mut Effects),
{
    match driver {
        Driver::Portable => portable::run(script, parts, None),
        Driver::Uring => uring::run(script, parts, None),
    }
}

const FILES_WANTED: u64 = 50_000;
const PATIENCE: Duration = Duration::from_secs(20);

/// Serves at the first step and stops when asked to.
fn keep_house(is_first: &mut bool, inputs: &[Input], effects: &mut Effects) {
    if std::mem::take(is_first) {
        effects.push(Effect::Serve);
    }
    if inputs.iter().any(|input| matches!(input, Input::ShutdownRequested)) {
        effects.push(Effect::Stop);
    }
}

/// Sends back what it gets, and counts what is told about it.
fn echo(
    told: Arc<Mutex<BTreeMap<ConnectionId, (usize, usize)>>>,
) -> impl FnMut(u64, &mut Vec<Input>, &mut Effects) {
    let mut is_first = true;
    move |_, inputs, effects| {
        keep_house(&mut is_first, inputs, effects);
        let mut told = told.lock().unwrap();
        for input in inputs.drain(..) {
            match input {
                Input::Accepted { connection, .. } => {
                    assert!(told.insert(connection, (0, 0)).is_none(), "numbers are used once");
                }
                Input::Received { connection, bytes } => {
                    told.get_mut(&connection).expect("accepted first").0 += bytes.len();
                    effects.push(Effect::Transmit { connection, bytes });
                }
                Input::Transmitted { connection, size_bytes } => {
                    told.get_mut(&connection).unwrap().1 += size_bytes;
                }
                _ => {}
            }
        }
    }
}

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

fn block(fill: u8, blocks: usize) -> WalBuffer {
    let mut buffer = WalBuffer::new();
    buffer.extend_from_slice(&vec![fill; 4096 * blocks]);
    buffer
}

fn wal_write(segment: u64, slot: u64, fill: u8) -> WalWrite {
    let segment = SegmentId(segment);
    let offset_bytes = slot * 8192;
    let end = WalPosition::new(segment, offset_bytes + 8192);
    WalWrite { segment, offset_bytes, buffer: block(fill, 2), end }
}

/// Writes are told in order with their buffers, are on disk, and a segment is recycled and deleted.
fn wal_writes_complete_in_order(driver: Driver) {
    let (done, finished) = channel();
    let running = Running::start(driver, move |_| {
        let mut is_first = true;
        let mut started = false;
        let mut synced = Vec::new();
        move |_, inputs: &mut Vec<Input>, effects: &mut Effects| {
            keep_house(&mut is_first, inputs, effects);
            if !std::mem::replace(&mut started, true) {
                effects.push(Effect::WalSegmentPrepare {
                    segment: SegmentId(1),
                    size_bytes: 1 << 20,
                    origin: SegmentOrigin::Fresh,
                });
            }
            for input in inputs.drain(..) {
                match input {
                    Input::WalSegmentReady { segment: SegmentId(1) } => {
                        // Several at once: a driver may overlap them, the order stays.
                        for slot in 0..8 {
                            effects.push(Effect::WalWrite(wal_write(1, slot, slot as u8 + 1)));
                        }
                    }
                    Input::WalSynced { end, buffer } => {
                        assert_eq!(buffer.size_bytes(), 8192);
                        synced.push(end);
                        if synced.len() == 8 {
                            assert!(synced.is_sorted());
                            effects.push(Effect::WalSegmentPrepare {
                                segment: SegmentId(2),
                                size_bytes: 2 << 20,
                                origin: SegmentOrigin::Recycled(SegmentId(1)),
                            });
                        }
                        if synced.len() == 9 {
                            done.send(()).unwrap();
                        }
                    }
                    Input::WalSegmentReady { segment: SegmentId(2) } => {
                        effects.push(Effect::WalWrite(wal_write(2, 0, 99)));
                        effects.push(Effect::WalSegmentDelete { segment: SegmentId(1) });
                    }
                    _ => {}
                }
            }
        }
    });
    finished.recv_timeout(PATIENCE).unwrap();
    let directory = Arc::clone(&running.directory);
    running.stop().unwrap();
    let wal = WalDirectory::open(directory.path()).unwrap();
    let segments = wal.segments();
    assert_eq!(segments.len(), 1);
    assert_eq!((segments[0].id, segments[0].size_bytes), (SegmentId(2), 2 << 20));
    for slot in 0..8_u64 {
        let mut bytes = vec![0; 8192];
        wal.read(SegmentId(2), slot * 8192, &mut bytes).unwrap();
        let fill = if slot == 0 { 99 } else { slot as u8 + 1 };
        assert!(bytes.iter().all(|byte| *byte == fill), "slot {slot}");
    }
}

/// A core's WAL writer alone, to be given files that fail.
fn faulty_write(driver: Driver, file: File) -> Fault {
    use server::driver::wal_writer::{ThreadWalWriter, WalWriter};
    fn drive(mut writer: impl WalWriter, file: File) -> Fault {
        writer.attach(SegmentId(1), file);
        let began = Instant::now();
        if let Err(fault) = writer.write(wal_write(1, 0, 5)) {
            return fault;
        }
        loop {
            let mut inputs = Vec::new();
            if let Err(fault) = writer.completed(&mut inputs) {
                return fault;
            }
            assert!(inputs.is_empty(), "a failed write must never be told durable");
            assert!(began.elapsed() < PATIENCE);
            std::thread::yield_now();
        }
    }
    match driver {
        Driver::Portable => drive(ThreadWalWriter::start(Waker::new().unwrap()).unwrap(), file),
        Driver::Uring => drive(uring::ring::RingWalWriter::new().unwrap(), file),
    }
}

fn failed_writes_and_syncs_are_faults(driver: Driver) {
    let open = |path: &str| File::options().read(true).write(true).open(path).unwrap();
    // Every write to /dev/full fails for want of space; /dev/null takes all and syncs nothing.
    let full = faulty_write(driver, open("/dev/full"));
    assert!(matches!(full, Fault::WalWrite { segment: 1, .. }), "{full:?}");
    assert!(full.to_string().contains("No space left"), "{full}");
    let null = faulty_write(driver, open("/dev/null"));
    assert!(matches!(null, Fault::WalSync { segment: 1, .. }), "{null:?}");
    let read_only = faulty_write(driver, File::open("/dev/zero").unwrap());
    assert!(matches!(read_only, Fault::WalWrite { .. }), "{read_only:?}");
}

/// A file that may not grow takes the first half of a write only.
fn a_short_write_is_a_fault(driver: Driver) {
    use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
    let memory = memfd_create("short", MemfdFlags::ALLOW_SEALING).unwrap();
    let file = File::from(memory);
    file.set_len(4096).unwrap();
    fcntl_add_seals(&file, SealFlags::GROW).unwrap();
    let fault = faulty_write(driver, file);
    assert!(matches!(fault, Fault::WalWrite { size_bytes: 8192, .. }), "{fault:?}");
}

/// Asked to stop with writes under way, a core finishes them first.
fn a_stop_waits_for_io_in_flight(driver: Driver) {
    let running = Running::start(driver, move |_| {
        let mut started = false;
        move |_, inputs: &mut Vec<Input>, effects: &mut Effects| {
            if !std::mem::replace(&mut started, true) {
                effects.push(Effect::WalSegmentPrepare {
                    segment: SegmentId(1),
                    size_bytes: 1 << 20,
                    origin: SegmentOrigin::Fresh,
                });
            }
            for input in inputs.drain(..) {
                if let Input::WalSegmentReady { .. } = input {
                    for slot in 0..32 {
                        effects.push(Effect::WalWrite(wal_write(1, slot, 3)));
                    }
                    let bytes: Arc<[u8]> = vec![6; 16 * PAGE_SIZE_BYTES].into();
                    effects.push(Effect::PageWrite { first: 2, bytes });
                    effects.push(Effect::PageSync { interval: 1 });
                    effects.push(Effect::Serve);
                    effects.push(Effect::Stop);
                }
            }
        }
    });
    running.await_serving();
    let Running { thread, directory, .. } = running;
    thread.join().unwrap().unwrap();
    let wal = WalDirectory::open(directory.path()).unwrap();
    let mut bytes = vec![0; 8192];
    wal.read(SegmentId(1), 31 * 8192, &mut bytes).unwrap();
    assert!(bytes.iter().all(|byte| *byte == 3));
    let pages = File::open(directory.path().join("default.pages")).unwrap();
    let mut page = [0; 1];
    pages.read_exact_at(&mut page, 17 * PAGE_SIZE_BYTES as u64).unwrap();
    assert_eq!(page, [6]);
}

/// Pages, their sync and the meta page are told in order, and are read back through the map.
fn pages_are_written_and_read_back(driver: Driver) {
    let (done, finished) = channel();
    let running = Running::start(driver, move |map| {
        let mut is_first = true;
        let mut started = false;
        let bytes: Arc<[u8]> = vec![0xab; 3 * PAGE_SIZE_BYTES].into();
        move |_, inputs: &mut Vec<Input>, effects: &mut Effects| {
            keep_house(&mut is_first, inputs, effects);
            if !std::mem::replace(&mut started, true) {
                effects.push(Effect::PageWrite { first: 5, bytes: Arc::clone(&bytes) });
                effects.push(Effect::PageSync { interval: 1 });
            }
            for input in inputs.drain(..) {
                match input {
                    Input::PagesSynced { interval: 1 } => {
                        let read = map.pages(PageNumber(5), 3, checksum(&bytes)).unwrap();
                        assert_eq!(read, &bytes[..]);
                        let meta = Arc::from(&bytes[..PAGE_SIZE_BYTES]);
                        effects.push(Effect::MetaWrite { interval: 1, slot: 1, bytes: meta });
                        effects.push(Effect::PunchHole { first: 6, pages: 2 });
                    }
                    Input::MetaSynced { interval: 1 } => done.send(()).unwrap(),
                    _ => {}
                }
            }
        }
    });
    finished.recv_timeout(PATIENCE).unwrap();
    let directory = Arc::clone(&running.directory);
    running.stop().unwrap();
    let (_, _, meta) = page_file::open(&directory.path().join("default.pages")).unwrap();
    assert_eq!(meta[1], Some(vec![0xab; PAGE_SIZE_BYTES]));
}

/// Puts the effects of one step to a core in a directory, and waits for the answer it names.
fn ask(
    driver: Driver,
    directory: &Arc<tempfile::TempDir>,
    asked: Vec<Effect>,
    is_answer: fn(&Input) -> bool,
    then: impl Fn(&PageFileMap) + Send + 'static,
) {
    let (done, finished) = channel();
    let running = Running::start_in(Arc::clone(directory), driver, None, move |map| {
        let mut is_first = true;
        let mut asked = Some(asked);
        move |_, inputs: &mut Vec<Input>, effects: &mut Effects| {
            keep_house(&mut is_first, inputs, effects);
            asked.take().into_iter().flatten().for_each(|effect| effects.push(effect));
            if inputs.drain(..).any(|input| is_answer(&input)) {
                then(&map);
                done.send(()).unwrap();
            }
        }
    });
    finished.recv_timeout(PATIENCE).unwrap();
    running.stop().unwrap();
}

/// A transfer whose process ends after each of its steps: old pages are there until the install,
/// the install may be done again from the start, and afterwards the side file goes.
fn a_side_file_outlives_the_process_and_is_installed(driver: Driver) {
    let pages =
        |fill: u8, count: usize| -> Arc<[u8]> { vec![fill; count * PAGE_SIZE_BYTES].into() };
    let directory = Arc::new(tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap());
    let (old, new) = (pages(1, 8), pages(2, 4));
    let written = vec![
        Effect::PageWrite { first: 2, bytes: Arc::clone(&old) },
        Effect::PageSync { interval: 1 },
        Effect::SideWrite { first: 4, bytes: Arc::clone(&new) },
        Effect::SideWrite { first: 30, bytes: Arc::clone(&new) },
        Effect::SideSync { number: 6 },
    ];
    let shown = Arc::clone(&old);
    let is_synced = |input: &Input| matches!(input, Input::SideSynced { number: 6 });
    ask(driver, &directory, written, is_synced, move |map| {
        assert_eq!(map.pages(PageNumber(2), 8, checksum(&shown)).unwrap(), &shown[..]);
    });
    let side = directory.path().join("default.pages.side");
    assert!(side.exists());
    for _ in 0..2 {
        let install = vec![Effect::PagesInstall { runs: vec![(4, 4), (30, 2)], whole_pages: None }];
        let (old, new) = (pages(1, 2), pages(2, 4));
        let is_installed = |input: &Input| matches!(input, Input::PagesInstalled);
        ask(driver, &directory, install, is_installed, move |map| {
            assert_eq!(map.pages(PageNumber(4), 4, checksum(&new)).unwrap(), &new[..]);
            for (first, of) in [(2, &old), (8, &old)] {
                assert_eq!(map.pages(PageNumber(first), 2, checksum(of)).unwrap(), &of[..]);
            }
            let run = &new[..2 * PAGE_SIZE_BYTES];
            assert_eq!(map.pages(PageNumber(30), 2, checksum(run)).unwrap(), run);
            // Written beside the run that was named, and so not copied.
            assert!(map.pages(PageNumber(32), 1, checksum(&new[..PAGE_SIZE_BYTES])).is_err());
        });
    }
    // Done in order with other orders of pages: the sync behind it is told when it is gone.
    let discard = vec![Effect::SideDiscard, Effect::PageSync { interval: 2 }];
    let gone = side.clone();
    let is_synced = |input: &Input| matches!(input, Input::PagesSynced { interval: 2 });
    ask(driver, &directory, discard, is_synced, move |_| assert!(!gone.exists()));
}

/// Asked to install what no transfer left, a core ends instead of making it up.
fn an_install_without_its_side_file_is_a_fault(driver: Driver) {
    let running = Running::start(driver, |_| {
        let mut asked = Some(Effect::PagesInstall { runs: vec![(2, 1)], whole_pages: None });
        move |_, inputs: &mut Vec<Input>, effects: &mut Effects| {
            asked.take().into_iter().for_each(|effect| effects.push(effect));
            assert!(!inputs.drain(..).any(|input| matches!(input, Input::PagesInstalled)));
        }
    });
    let fault = running.thread.join().unwrap().unwrap_err();
    assert!(matches!(fault, Fault::Pages { first: 2, .. }), "{fault:?}");
}

/// Writes at once whatever it is told to by a byte: `w` two blocks. Tells when each is synced.
fn writer(
    synced: Sender<(WalPosition, Instant)>,
    ready: Sender<()>,
) -> impl FnMut(u64, &mut Vec<Input>, &mut Effects) {
    let mut is_first = true;
    let mut slot = 0;
    move |_, inputs: &mut Vec<Input>, effects: &mut Effects| {
        if is_first {
            effects.push(Effect::WalSegmentPrepare {
                segment: SegmentId(1),
                size_bytes: 1 << 20,
                origin: SegmentOrigin::Fresh,
            });
        }
        keep_house(&mut is_first, inputs, effects);
        for input in inputs.drain(..) {
            match input {
                Input::WalSegmentReady { .. } => ready.send(()).unwrap(),
                Input::Received { connection, bytes } => {
                    for _ in bytes.iter().filter(|byte| **byte == b'w') {
                        effects.push(Effect::WalWrite(wal_write(1, slot, 1)));
                        slot += 1;
                    }
                    // The core is not held up by what the disk does.
                    effects.push(Effect::Transmit { connection, bytes });
                }
                Input::WalSynced { end, .. } => synced.send((end, Instant::now())).unwrap(),
                _ => {}
            }
        }
    }
}

/// With the flags of tests completions come late or not at all, in order, while the core goes on.
fn a_slow_and_a_hanging_disk_are_played(driver: Driver) {
    let (synced, completions) = channel();
    let (ready, segment) = channel();
    let directory = Arc::new(tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap());
    let hang_file = directory.path().join("hang");
    let delay = Duration::from_millis(60);
    let faults = WalFaults { sync_delay: delay, hang_file: Some(hang_file.clone()) };
    let running = Running::start_in(directory, driver, Some(faults), |_| writer(synced, ready));
    running.await_serving();
    segment.recv_timeout(PATIENCE).unwrap();
    let mut stream = running.connect();
    let mut say = |bytes: &[u8]| {
        let began = Instant::now();
        stream.write_all(bytes).unwrap();
        let mut echo = vec![0; bytes.len()];
        stream.read_exact(&mut echo).unwrap();
        began
    };
    let began = say(b"ww");
    let (first, at) = completions.recv_timeout(PATIENCE).unwrap();
    assert!(delay <= at - began, "told after {:?}", at - began);
    let (second, _) = completions.recv_timeout(PATIENCE).unwrap();
    assert!(first < second);
    File::create(&hang_file).unwrap();
    say(b"w");
    let until = Instant::now() + 5 * delay;
    // The core answers all the while, and nothing is durable.
    while Instant::now() < until {
        say(b".");
    }
    assert!(completions.try_recv().is_err());
    std::fs::remove_file(&hang_file).unwrap();
    let (third, _) = completions.recv_timeout(PATIENCE).unwrap();
    assert!(second < third);
    // A stop waits for what is held back.
    say(b"w");
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
                segments: Some(WalDirectory::open(&path).unwrap().worker()),
                pages: None,
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

macro_rules! on_both_drivers {
    ($($case:ident)*) => {
        mod on_portable { $(#[test] fn $case() { super::$case(super::Driver::Portable) })* }
        mod on_uring { $(#[test] fn $case() { super::$case(super::Driver::Uring) })* }
    };
}

on_both_drivers! {
    many_connections_echo
    partial_writes_arrive_whole
    pause_resume_and_close
    a_close_does_not_wait_for_ever
    timers_fire
    wal_writes_complete_in_order
    failed_writes_and_syncs_are_faults
    a_short_write_is_a_fault
    a_stop_waits_for_io_in_flight
    pages_are_written_and_read_back
    idle_connections_do_not_matter
    metrics_are_rendered_from_what_was_published
    connections_are_spread
    dialed_connections_carry_bytes
    dials_to_nobody_are_told_apart
    a_dial_without_an_answer_is_given_up
    the_peer_door_is_open_before_the_others
    a_side_file_outlives_the_process_and_is_installed
    an_install_without_its_side_file_is_a_fault
    a_slow_and_a_hanging_disk_are_played
}
