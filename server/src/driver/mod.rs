//! The loop of a core, the same on both drivers: take all that happened, step once, do all that was
//! asked, repeat. No decision is made here.
//!
//! `portable` and `uring` differ in how the loop waits and in who writes the WAL; everything else
//! is shared. Invariants: a program is stepped with everything that is there; the effects of a
//! step are done in order, sends last, one gathered send a connection; after a fault nothing more
//! is done.
//! Source: runtime.md.

pub mod clock;
pub mod connection;
pub mod dialer;
pub mod file_thread;
pub mod listener;
pub mod mapped_file;
pub mod mesh;
pub mod page_file;
pub mod portable;
pub mod side_file;
pub mod space_reserve;
pub mod uring;
pub mod waker;
pub mod wal_faults;
pub mod wal_files;
pub mod wal_writer;
pub mod write_back;

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::Arc,
    time::Duration,
};

use rustix::event::{
    PollFd, PollFlags, Timespec,
    epoll::{self, Event, EventData, EventFlags},
    poll,
};
use shard::{
    effect::{Effect, Effects},
    input::{ConnectionId, CoreId, Input},
};

use crate::{error::Fault, log::Logger};
use clock::Clock;
use connection::Connections;
use dialer::Dialer;
use file_thread::FileThread;
use listener::Acceptor;
use mesh::Mesh;
use page_file::{PageOrder, PageReport, PageWorker};
use space_reserve::{SpaceReserve, SpaceWatch};
use wal_faults::{FaultyWalWriter, WalFaults};
use wal_files::{SegmentOrder, SegmentWorker};
use wal_writer::WalWriter;

/// What a core runs: the shard, or a script in a test.
pub trait Program {
    /// Takes what happened, asks for effects.
    fn step(&mut self, now_us: u64, inputs: &mut Vec<Input>, effects: &mut Effects);
    /// Its figures, to be published after a step.
    fn cells(&self) -> &[u64];
}

/// Text of the metrics from copies of all cores' figures.
pub type RenderMetrics = dyn Fn(&[Vec<u64>]) -> Vec<u8> + Send + Sync;

/// What a core needs besides its program.
pub struct CoreParts {
    /// Its number.
    pub core: CoreId,
    /// The clock of the process.
    pub clock: Clock,
    /// The other cores.
    pub mesh: Arc<Mesh>,
    /// Accepts for all, on one core.
    pub acceptor: Option<Acceptor>,
    /// Makes and deletes segments, where there is a WAL.
    pub segments: Option<SegmentWorker>,
    /// Writes pages, where there is a page file.
    pub pages: Option<PageWorker>,
    /// Space held back on the disk of the page file, where there is one.
    pub space_reserve: Option<Arc<SpaceReserve>>,
    /// What a test wants to be wrong with the WAL's disk.
    pub wal_faults: Option<WalFaults>,
    /// Renders metrics.
    pub render_metrics: Arc<RenderMetrics>,
    /// Called when the program serves.
    pub on_serve: Box<dyn FnMut() + Send>,
    /// The log.
    pub logger: Logger,
}

/// When to turn the loop again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// At once.
    Again,
    /// When something happens, or at this time at the latest.
    Wait(Option<u64>),
    /// Never: the stop is complete.
    Stopped,
}

/// Turns a core's loop until its program has stopped.
fn run_until_stopped<P: Program, W: WalWriter>(
    program: P,
    wal: W,
    mut parts: CoreParts,
) -> Result<(), Fault> {
    if let Some(faults) = parts.wal_faults.take() {
        let wal = FaultyWalWriter::new(wal, faults, parts.clock);
        return turn_until_stopped(Core::new(program, wal, parts));
    }
    turn_until_stopped(Core::new(program, wal, parts))
}

fn turn_until_stopped<P: Program, W: WalWriter>(core: io::Result<Core<P, W>>) -> Result<(), Fault> {
    let mut core = core.map_err(Fault::Wait)?;
    let mut next = Next::Again;
    while next != Next::Stopped {
        next = core.turn(next, true)?;
    }
    Ok(())
}

/// One core's loop.
pub struct Core<P, W> {
    program: P,
    wal: W,
    epoll: OwnedFd,
    events: Vec<Event>,
    connections: Connections,
    dialer: Dialer,
    segments: Option<FileThread<SegmentWorker>>,
    pages: Option<FileThread<PageWorker>>,
    space: SpaceWatch,
    inputs: Vec<Input>,
    effects: Effects,
    /// Pages written in this step.
    page_batch: Vec<(u64, Arc<[u8]>)>,
    /// Text of metrics rendered for the next step.
    answers: Vec<Input>,
    is_shutdown_told: bool,
    is_stopped: bool,
    parts: Parts,
}

/// What of `CoreParts` is used as it is.
struct Parts {
    core: CoreId,
    clock: Clock,
    mesh: Arc<Mesh>,
    acceptor: Option<Acceptor>,
    render_metrics: Arc<RenderMetrics>,
    on_serve: Box<dyn FnMut() + Send>,
    logger: Logger,
}

impl<P: Program, W: WalWriter> Core<P, W> {
    /// Makes the loop and its threads.
    pub fn new(program: P, wal: W, mut parts: CoreParts) -> io::Result<Core<P, W>> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let waker = parts.mesh.waker(parts.core).clone();
        epoll::add(&epoll, &waker, EventData::new_u64(KEY_WAKER), EventFlags::IN)?;
        if let Some(event) = wal.wake_file() {
            epoll::add(&epoll, event, EventData::new_u64(KEY_WAL), EventFlags::IN)?;
        }
        if let Some(acceptor) = &mut parts.acceptor {
            acceptor.open_to_peers(&epoll)?;
        }
        let dialer = Dialer::new(waker.clone());
        let start = |worker| FileThread::start(worker, waker.clone());
        let segments = parts.segments.map(start).transpose()?;
        let start = |worker| FileThread::start(worker, waker.clone());
        let pages = parts.pages.map(start).transpose()?;
        Ok(Core {
            program,
            wal,
            epoll,
            events: Vec::with_capacity(EVENTS_PER_WAIT_MAX),
            connections: Connections::new(),
            dialer,
            segments,
            pages,
            space: SpaceWatch::new(parts.space_reserve),
            inputs: Vec::new(),
            effects: Effects::default(),
            page_batch: Vec::new(),
            answers: Vec::new(),
            is_shutdown_told: false,
            is_stopped: false,
            parts: Parts {
                core: parts.core,
                clock: parts.clock,
                mesh: parts.mesh,
                acceptor: parts.acceptor,
                render_metrics: parts.render_metrics,
                on_serve: parts.on_serve,
                logger: parts.logger,
            },
        })
    }

    /// One turn. First waits for what happens, for as long as `next` of the last turn allows;
    /// `may_block` is false where the caller has waited already.
    pub fn turn(&mut self, next: Next, may_block: bool) -> Result<Next, Fault> {
        let is_ready = self.wait(next, may_block)?;
        self.gather(is_ready)?;
        let now_us = self.parts.clock.now_us();
        self.effects.list.clear();
        self.effects.step_again = false;
        self.effects.wake_at_us = None;
        self.effects.gather_until_us = None;
        self.program.step(now_us, &mut self.inputs, &mut self.effects);
        self.inputs.clear();
        self.parts.mesh.publish(self.parts.core, self.program.cells());
        self.submit(now_us)?;
        self.next()
    }

    /// The file that is ready when there is something to do.
    pub fn event_file(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }

    /// Says that the core is about to wait elsewhere than in `turn`; false when there is something
    /// to do instead.
    pub fn prepare_sleep(&mut self) -> bool {
        let waker = self.parts.mesh.waker(self.parts.core);
        waker.prepare_sleep();
        let is_quiet = self.is_quiet();
        if !is_quiet {
            self.parts.mesh.waker(self.parts.core).awake();
        }
        is_quiet
    }

    fn is_quiet(&mut self) -> bool {
        self.parts.mesh.is_quiet(self.parts.core)
            && (self.is_shutdown_told || !self.parts.mesh.is_shutdown_requested())
            && self.segments.as_ref().is_none_or(FileThread::is_quiet)
            && self.pages.as_ref().is_none_or(FileThread::is_quiet)
            && self.dialer.is_quiet()
            && self.wal.is_quiet()
    }

    /// Waits until there is something to do for the program. What the WAL writer does for itself is
    /// no reason to step: a write that has ended, but not its sync.
    fn wait(&mut self, next: Next, may_block: bool) -> Result<bool, Fault> {
        assert!(self.inputs.is_empty());
        let may_block = may_block && !self.gather_calls(next)?;
        loop {
            let is_ready = self.wait_once(next, may_block)?;
            let is_wal_alone = self.events.len() == 1 && self.events[0].data.u64() == KEY_WAL;
            if !may_block || !is_wal_alone {
                return Ok(is_ready);
            }
            self.wal.on_event();
            self.wal.completed(&mut self.inputs)?;
            if !self.inputs.is_empty() {
                return Ok(false);
            }
        }
    }

    /// While the program has no use for what clients send, they may go on sending: a turn for each
    /// of them costs more than one for many. A write of the WAL that has ended, another thread and
    /// the time end this at once. Returns whether it waited.
    fn gather_calls(&mut self, next: Next) -> Result<bool, Fault> {
        let (Next::Wait(at_us), Some(until_us)) = (next, self.effects.gather_until_us) else {
            return Ok(false);
        };
        let until_us = at_us.map_or(until_us, |at_us| until_us.min(at_us));
        loop {
            let left = self.parts.clock.until(until_us);
            if left.is_zero() || !self.prepare_sleep() {
                return Ok(true);
            }
            let waker = self.parts.mesh.waker(self.parts.core);
            let file = self.wal.wake_file().unwrap_or(waker.as_fd());
            let mut files =
                [waker.as_fd(), file].map(|file| PollFd::from_borrowed_fd(file, PollFlags::IN));
            let polled = poll(&mut files, Some(&timespec_of(left)));
            let is_ready = files.map(|file| !file.revents().is_empty());
            waker.awake();
            match polled {
                Ok(_) | Err(rustix::io::Errno::INTR) if is_ready == [false, true] => {
                    self.wal.on_event();
                    self.wal.completed(&mut self.inputs)?;
                    if !self.inputs.is_empty() {
                        return Ok(true);
                    }
                }
                Ok(_) | Err(rustix::io::Errno::INTR) => return Ok(true),
                Err(error) => return Err(Fault::Wait(error.into())),
            }
        }
    }

    fn wait_once(&mut self, next: Next, may_block: bool) -> Result<bool, Fault> {
        let timeout = match next {
            Next::Wait(at_us) if may_block => {
                // The writer may have found its own since the last turn.
                let at_us = [at_us, self.wal.deadline_us()].into_iter().flatten().min();
                at_us.map(|at_us| self.parts.clock.until(at_us))
            }
            _ => Some(Duration::ZERO),
        };
        let timeout = match timeout {
            Some(Duration::ZERO) => Some(Duration::ZERO),
            _ if !self.prepare_sleep() => Some(Duration::ZERO),
            timeout => timeout,
        };
        let timespec = timeout.map(timespec_of);
        self.events.clear();
        let room = rustix::buffer::spare_capacity(&mut self.events);
        let waited = epoll::wait(&self.epoll, room, timespec.as_ref());
        self.parts.mesh.waker(self.parts.core).awake();
        match waited {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(!self.events.is_empty()),
            Err(error) => Err(Fault::Wait(error.into())),
        }
    }

    /// Everything that happened becomes inputs.
    fn gather(&mut self, is_ready: bool) -> Result<(), Fault> {
        let core = self.parts.core;
        if self.parts.mesh.is_shutdown_requested() && !self.is_shutdown_told {
            self.is_shutdown_told = true;
            self.inputs.push(Input::ShutdownRequested);
        }
        if is_ready && self.events.iter().any(|event| event.data.u64() == KEY_WAL) {
            self.wal.on_event();
        }
        self.wal.completed(&mut self.inputs)?;
        if let Some(segments) = &mut self.segments {
            while let Some(ready) = segments.report()? {
                self.wal.attach(ready.segment, ready.file);
                self.inputs.push(Input::WalSegmentReady { segment: ready.segment });
            }
        }
        if let Some(pages) = &mut self.pages {
            while let Some(report) = pages.report()? {
                self.inputs.push(match report {
                    PageReport::Synced { interval } => Input::PagesSynced { interval },
                    PageReport::MetaSynced { interval } => Input::MetaSynced { interval },
                    PageReport::SideSynced { number } => Input::SideSynced { number },
                    PageReport::Installed => Input::PagesInstalled,
                });
            }
        }
        self.inputs.extend(self.space.news());
        self.parts.mesh.receive(core, &mut self.inputs);
        self.inputs.append(&mut self.answers);
        while let Some(arrival) = self.parts.mesh.arrival(core) {
            self.admit(arrival);
        }
        self.connections.take_inputs(&mut self.inputs);
        if is_ready {
            self.gather_ready();
        }
        let now_us = self.parts.clock.now_us();
        for connected in self.dialer.gather(&self.epoll, now_us, &mut self.inputs) {
            self.connections.adopt(&self.epoll, connected);
        }
        self.connections.on_deadline(&self.epoll, now_us, &mut self.inputs);
        if let Some(acceptor) = &mut self.parts.acceptor {
            acceptor.on_deadline(&self.epoll, now_us).map_err(Fault::Wait)?;
        }
        Ok(())
    }

    fn admit(&mut self, arrival: mesh::Arrival) {
        let is_placed = arrival.is_placed;
        let admitted = self.connections.accept(&self.epoll, arrival);
        if let Err(error) = admitted {
            // The socket is closed: its other end will try again.
            let fields = [("error", crate::log::quoted(&error.to_string()))];
            self.parts.logger.warn("a connection was not taken", &fields);
            if is_placed {
                self.parts.mesh.departed(self.parts.core);
            }
        }
    }

    fn gather_ready(&mut self) {
        let mut budget = RECEIVE_PER_STEP_BYTES_MAX;
        let events = std::mem::take(&mut self.events);
        for event in &events {
            match event.data.u64() {
                KEY_WAKER => self.parts.mesh.waker(self.parts.core).drain(),
                // Told to the writer before.
                KEY_WAL => {}
                key if listener::KEY_FIRST <= key => self.accept(key),
                key if dialer::KEY_FIRST <= key => self.connect(key),
                id => {
                    // What is left over is reported again: readiness is level-triggered.
                    if 0 < budget {
                        let id = ConnectionId(id);
                        let flags = event.flags;
                        let inputs = &mut self.inputs;
                        let size = self.connections.on_ready(&self.epoll, id, flags, inputs);
                        budget = budget.saturating_sub(size);
                    }
                }
            }
        }
        self.events = events;
    }

    fn accept(&mut self, key: u64) {
        let now_us = self.parts.clock.now_us();
        let Some(acceptor) = &mut self.parts.acceptor else { return };
        let (mesh, logger) = (&self.parts.mesh, &self.parts.logger);
        let arrivals = acceptor.accept(&self.epoll, key, self.parts.core, mesh, now_us, logger);
        for arrival in arrivals {
            self.admit(arrival);
        }
        // Their first bytes may be there already; the next turn finds them.
    }

    fn connect(&mut self, key: u64) {
        let now_us = self.parts.clock.now_us();
        if let Some(connected) = self.dialer.on_ready(&self.epoll, key, now_us) {
            self.connections.adopt(&self.epoll, connected);
        }
    }

    /// Everything that was asked is begun.
    fn submit(&mut self, now_us: u64) -> Result<(), Fault> {
        let mut list = std::mem::take(&mut self.effects.list);
        for effect in list.drain(..) {
            self.submit_one(effect, now_us)?;
        }
        self.effects.list = list;
        self.order_page_batch();
        if self.space.wants_restore(now_us) {
            self.order_pages(PageOrder::RestoreReserve);
        }
        for buffer in self.effects.spent.drain(..) {
            self.connections.give_back(buffer);
        }
        self.connections.flush(&self.epoll);
        self.connections.take_emptied(&mut self.effects.emptied);
        for _ in 0..self.connections.take_ended() {
            self.parts.mesh.departed(self.parts.core);
        }
        Ok(())
    }

    fn submit_one(&mut self, effect: Effect, now_us: u64) -> Result<(), Fault> {
        match effect {
            Effect::Transmit { connection, bytes } => self.connections.transmit(connection, bytes),
            Effect::PauseReceive { connection } => self.connections.pause(&self.epoll, connection),
            Effect::ResumeReceive { connection } => {
                self.connections.resume(&self.epoll, connection);
            }
            Effect::Close { connection } => {
                self.connections.close(&self.epoll, connection, now_us);
            }
            Effect::WalWrite(write) => self.wal.write(write)?,
            Effect::WalSegmentPrepare { segment, size_bytes, origin } => {
                if let shard::effect::SegmentOrigin::Recycled(old) = origin {
                    self.wal.detach(old);
                }
                self.order_segment(SegmentOrder::Prepare { segment, size_bytes, origin });
            }
            Effect::WalSegmentDelete { segment } => {
                self.wal.detach(segment);
                self.order_segment(SegmentOrder::Delete { segment });
            }
            Effect::PageWrite { first, bytes } => {
                self.page_batch.push((first, bytes));
            }
            Effect::PageSync { interval } => self.order_pages(PageOrder::Sync { interval }),
            Effect::MetaWrite { interval, slot, bytes } => {
                self.order_pages(PageOrder::Meta { interval, slot, bytes });
            }
            Effect::PunchHole { first, pages } => {
                self.order_pages(PageOrder::Punch { first, pages });
            }
            Effect::Dial { dial, url } => {
                if let Some(connected) = self.dialer.dial(&self.epoll, dial, &url, now_us) {
                    self.connections.adopt(&self.epoll, connected);
                }
            }
            Effect::SideWrite { first, bytes } => {
                self.order_pages(PageOrder::SideWrite { first, bytes });
            }
            Effect::SideSync { number } => self.order_pages(PageOrder::SideSync { number }),
            Effect::PagesInstall { runs, whole_pages } => {
                self.order_pages(PageOrder::Install { runs, whole_pages });
            }
            Effect::SideDiscard => self.order_pages(PageOrder::SideDiscard),
            Effect::Forward { to, message } => {
                self.parts.mesh.forward(self.parts.core, to, message);
            }
            Effect::Log { level, message, fields } => {
                self.parts.logger.log(level, &message, &fields);
            }
            Effect::ReadMetrics { token } => {
                let text = (self.parts.render_metrics)(&self.parts.mesh.published());
                self.answers.push(Input::MetricsRead { token, text });
            }
            Effect::Serve => {
                if let Some(acceptor) = &mut self.parts.acceptor {
                    acceptor.open_to_clients(&self.epoll).map_err(Fault::Wait)?;
                }
                (self.parts.on_serve)();
            }
            Effect::EndProcess => self.parts.mesh.request_shutdown(),
            Effect::Stop => self.is_stopped = true,
        }
        Ok(())
    }

    fn order_segment(&mut self, order: SegmentOrder) {
        let segments = self.segments.as_mut().expect("only a program with a WAL has segments");
        segments.order(order);
    }

    /// Page writes of a step go to their thread as one order, before any order behind them.
    fn order_pages(&mut self, order: PageOrder) {
        self.order_page_batch();
        let pages = self.pages.as_mut().expect("only a program with a page file writes pages");
        pages.order(order);
    }

    fn order_page_batch(&mut self) {
        if self.page_batch.is_empty() {
            return;
        }
        let order = PageOrder::Write { pages: std::mem::take(&mut self.page_batch) };
        let pages = self.pages.as_mut().expect("only a program with a page file writes pages");
        pages.order(order);
    }

    /// When the next turn is due. A stop is complete when no I/O is under way any more.
    fn next(&mut self) -> Result<Next, Fault> {
        if self.is_stopped {
            if let Some(acceptor) = &mut self.parts.acceptor {
                acceptor.close();
            }
            let is_idle = self.wal.is_idle()
                && self.segments.as_ref().is_none_or(FileThread::is_idle)
                && self.pages.as_ref().is_none_or(FileThread::is_idle);
            if is_idle {
                return Ok(Next::Stopped);
            }
        }
        if self.effects.step_again
            || !self.answers.is_empty()
            || self.connections.has_urgent_inputs()
            || self.dialer.has_inputs()
        {
            return Ok(Next::Again);
        }
        let accepting = self.parts.acceptor.as_ref().and_then(Acceptor::deadline_us);
        let (closing, dialing) = (self.connections.deadline_us(), self.dialer.deadline_us());
        let times = [self.effects.wake_at_us, closing, dialing, accepting, self.wal.deadline_us()];
        Ok(Next::Wait(times.into_iter().flatten().min()))
    }
}

fn timespec_of(wait: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(wait.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(wait.subsec_nanos()),
    }
}

const KEY_WAKER: u64 = u64::MAX;
const KEY_WAL: u64 = u64::MAX - 1;
const EVENTS_PER_WAIT_MAX: usize = 1024;
/// Read from all connections before one step.
const RECEIVE_PER_STEP_BYTES_MAX: usize = 4 << 20;
