//! One core that runs a script, and what the cases share.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use server::config::url::ListenAddress;
use server::driver::clock::Clock;
use server::driver::listener::{Acceptor, ListenOptions, Listener};
use server::driver::mesh::Mesh;
use server::driver::page_file::PageFileMap;
use server::driver::uring::probe::probe;
use server::driver::waker::Waker;
use server::driver::wal_faults::WalFaults;
use server::driver::wal_files::WalDirectory;
use server::driver::{CoreParts, Program, page_file, portable, uring};
use server::error::Fault;
use server::log::Logger;
use shard::effect::{Effect, Effects};
use shard::input::{ConnectionId, CoreId, Door, Input};

/// Which driver turns the loop.
#[derive(Clone, Copy, Debug)]
pub(super) enum Driver {
    Portable,
    Uring,
}

/// Whether io_uring cannot be used here: in most containers. A line says so.
pub(super) fn is_uring_refused() -> bool {
    let directory = tempfile::TempDir::new().unwrap();
    let refusal = probe(directory.path()).err();
    if let Some(refusal) = &refusal {
        println!("skipped: {refusal}");
    }
    refusal.is_some()
}

/// A program made of a closure.
pub(super) struct Script<F>(pub(super) F);

impl<F: FnMut(u64, &mut Vec<Input>, &mut Effects)> Program for Script<F> {
    fn step(&mut self, now_us: u64, inputs: &mut Vec<Input>, effects: &mut Effects) {
        self.0(now_us, inputs, effects);
    }
    fn cells(&self) -> &[u64] {
        &[7]
    }
}

/// One core, running.
pub(super) struct Running {
    pub(super) address: SocketAddr,
    pub(super) peer_address: SocketAddr,
    pub(super) mesh: Arc<Mesh>,
    pub(super) thread: JoinHandle<Result<(), Fault>>,
    pub(super) directory: Arc<tempfile::TempDir>,
    pub(super) serving: Receiver<()>,
}

impl Running {
    pub(super) fn start<F>(
        driver: Driver,
        make: impl FnOnce(PageFileMap) -> F + Send + 'static,
    ) -> Running
    where
        F: FnMut(u64, &mut Vec<Input>, &mut Effects),
    {
        let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        Running::start_in(Arc::new(directory), driver, None, make)
    }

    /// In a directory that another run may have left, on a disk with these faults.
    pub(super) fn start_in<F>(
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
            let (map, worker, _) = page_file::open(&pages_path, None).unwrap();
            let parts = CoreParts {
                core: CoreId(0),
                clock: Clock::start(),
                mesh: here,
                acceptor: Some(Acceptor::new(vec![listener, peers], 1)),
                segments: Some(wal.worker(None)),
                pages: Some(worker),
                space_reserve: None,
                wal_faults,
                render_metrics: Arc::new(|cells| format!("{cells:?}").into_bytes()),
                on_serve: Box::new(move || serve.send(()).unwrap()),
                logger: Logger::start("error", true, &["stderr".to_owned()]).unwrap(),
            };
            run(driver, Script(make(map)), parts)
        });
        Running { address, peer_address, mesh, thread, directory, serving }
    }

    pub(super) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    pub(super) fn await_serving(&self) {
        self.serving.recv_timeout(PATIENCE).unwrap();
    }

    pub(super) fn stop(self) -> Result<(), Fault> {
        self.mesh.request_shutdown();
        self.thread.join().unwrap()
    }
}

pub(super) fn run<F>(driver: Driver, script: Script<F>, parts: CoreParts) -> Result<(), Fault>
where
    F: FnMut(u64, &mut Vec<Input>, &mut Effects),
{
    match driver {
        Driver::Portable => portable::run(script, parts, None),
        Driver::Uring => uring::run(script, parts, None),
    }
}

pub(super) const FILES_WANTED: u64 = 50_000;
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// Serves at the first step and stops when asked to.
pub(super) fn keep_house(is_first: &mut bool, inputs: &[Input], effects: &mut Effects) {
    if std::mem::take(is_first) {
        effects.push(Effect::Serve);
    }
    if inputs.iter().any(|input| matches!(input, Input::ShutdownRequested)) {
        effects.push(Effect::Stop);
    }
}

/// Sends back what it gets, and counts what is told about it.
pub(super) fn echo(
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
