//! The WAL's own ring: each write and the sync linked to it are one chain, submitted by one call.
//!
//! The ring belongs to one thread (SINGLE_ISSUER) and runs its completions only when that thread
//! enters it (DEFER_TASKRUN). Invariants: at each wake-up the ring is entered, then the eventfd
//! read, then the completions taken. Entering posts completions, which makes the eventfd ready again:
//! read before, it would wake the core a second time for nothing. What happens after the entry and
//! before the read is not lost: it has set the ring's TASKRUN flag or is in the queue, and both are
//! looked at before every sleep. Without TASKRUN_FLAG and the entry the eventfd would fire once
//! over an empty queue and the completions never be seen. A chain is told durable only when
//! all chains before it are: a sync covers only writes that are complete, and a link orders only
//! its own chain. A short write cancels its sync: both completions are checked. No memory is freed
//! while the kernel may use it: a ring is dropped only when it is idle.
//! Source: runtime.md; io_uring_setup(2), io_uring_enter(2).

use std::{
    collections::{BTreeMap, VecDeque},
    fs::File,
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    sync::Arc,
};

use engine::wal::{position::SegmentId, writer::WalWrite};
use io_uring::{IoUring, opcode, squeue, types};
use rustix::event::{EventfdFlags, eventfd};
use shard::input::Input;

use crate::{
    driver::wal_writer::{WalWriter, check_written},
    error::Fault,
};

/// Writes and syncs one WAL.
pub struct RingWalWriter {
    ring: IoUring,
    /// Ready when the ring has something to do.
    event: OwnedFd,
    files: BTreeMap<SegmentId, Arc<File>>,
    /// In the order of their submission.
    chains: VecDeque<Chain>,
    /// Number of the first of `chains`.
    first_number: u64,
    /// Wait for room in the ring.
    backlog: VecDeque<(Arc<File>, WalWrite)>,
    /// The eventfd was ready: the ring is to be entered, then the eventfd read.
    has_event: bool,
}

/// A write and its sync on their way.
struct Chain {
    write: WalWrite,
    /// Keeps the file open for the kernel.
    _file: Arc<File>,
    written: Option<i32>,
    synced: Option<i32>,
}

impl RingWalWriter {
    /// Makes the ring; to be called on the thread that will use it.
    pub fn new() -> io::Result<RingWalWriter> {
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .build(2 * CHAINS_MAX)?;
        let event = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
        ring.submitter().register_eventfd(event.as_raw_fd())?;
        Ok(RingWalWriter {
            ring,
            event,
            files: BTreeMap::new(),
            chains: VecDeque::new(),
            first_number: 0,
            backlog: VecDeque::new(),
            has_event: false,
        })
    }

    /// The file that is ready when there is something to do.
    pub fn event_file(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }

    fn push(&mut self, file: Arc<File>, write: WalWrite) {
        assert!(self.chains.len() < CHAINS_MAX as usize);
        let number = self.first_number + self.chains.len() as u64;
        let descriptor = types::Fd(file.as_raw_fd());
        let bytes = write.buffer.as_bytes();
        let size = u32::try_from(bytes.len()).expect("a WAL buffer is smaller than a segment");
        let first = opcode::Write::new(descriptor, bytes.as_ptr(), size)
            .offset(write.offset_bytes)
            .build()
            .flags(squeue::Flags::IO_LINK)
            .user_data(number << 1);
        let second = opcode::Fsync::new(descriptor)
            .flags(types::FsyncFlags::DATASYNC)
            .build()
            .user_data(number << 1 | 1);
        // SAFETY: the bytes and the file are owned by the chain, which is kept until both
        // completions were taken, and are not touched before; moving the chain moves no heap
        // memory. `drop` waits for what is under way. The suite's cases on writes would see
        // altered bytes.
        let pushed = unsafe { self.ring.submission().push_multiple(&[first, second]) };
        assert!(pushed.is_ok(), "the ring has room for all chains");
        self.chains.push_back(Chain { write, _file: file, written: None, synced: None });
    }

    fn start_backlog(&mut self) -> io::Result<()> {
        let before = self.chains.len();
        while self.chains.len() < CHAINS_MAX as usize {
            let Some((file, write)) = self.backlog.pop_front() else { break };
            self.push(file, write);
        }
        if before < self.chains.len() { self.enter() } else { Ok(()) }
    }

    /// Submits what was pushed and runs what is complete.
    fn enter(&self) -> io::Result<()> {
        loop {
            match self.ring.submit() {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Whether the ring has completions, or work that will become some.
    fn has_work(&mut self) -> bool {
        self.has_event || self.ring.submission().taskrun() || !self.ring.completion().is_empty()
    }

    fn reap(&mut self) {
        for completion in self.ring.completion() {
            let number = completion.user_data() >> 1;
            let slot = usize::try_from(number - self.first_number).expect("a chain under way");
            let chain = &mut self.chains[slot];
            let outcome = if completion.user_data() & 1 == 0 {
                &mut chain.written
            } else {
                &mut chain.synced
            };
            assert!(outcome.is_none(), "each part completes once");
            *outcome = Some(completion.result());
        }
    }
}

impl WalWriter for RingWalWriter {
    fn attach(&mut self, segment: SegmentId, file: File) {
        let before = self.files.insert(segment, Arc::new(file));
        assert!(before.is_none());
    }

    fn detach(&mut self, segment: SegmentId) {
        self.files.remove(&segment);
    }

    fn write(&mut self, write: WalWrite) -> Result<(), Fault> {
        let file = self.files.get(&write.segment).expect("a segment is written when it is ready");
        assert!(self.backlog.len() < BACKLOG_MAX);
        self.backlog.push_back((Arc::clone(file), write));
        self.start_backlog().map_err(Fault::Wait)
    }

    fn wake_file(&self) -> Option<BorrowedFd<'_>> {
        Some(self.event_file())
    }

    fn on_event(&mut self) {
        self.has_event = true;
    }

    fn completed(&mut self, inputs: &mut Vec<Input>) -> Result<(), Fault> {
        if !self.has_work() {
            return Ok(());
        }
        self.has_event = false;
        self.enter().map_err(Fault::Wait)?;
        // A completed write starts its sync by work of its own, which this entry only queued.
        if self.ring.submission().taskrun() {
            self.enter().map_err(Fault::Wait)?;
        }
        let mut count = [0; 8];
        // Empty is as good.
        let _ = rustix::io::read(&self.event, &mut count);
        self.reap();
        while let Some(Chain { written: Some(written), synced: Some(synced), .. }) =
            self.chains.front()
        {
            let (written, synced) = (of_result(*written), of_result(*synced));
            let chain = self.chains.pop_front().expect("looked at above");
            self.first_number += 1;
            check_written(&chain.write, written)?;
            let segment = chain.write.segment.0;
            synced.map_err(|error| Fault::WalSync { segment, error })?;
            inputs.push(Input::WalSynced { end: chain.write.end, buffer: chain.write.buffer });
        }
        self.start_backlog().map_err(Fault::Wait)
    }

    fn is_quiet(&mut self) -> bool {
        self.chains.is_empty() || !self.has_work()
    }

    fn is_idle(&self) -> bool {
        self.chains.is_empty() && self.backlog.is_empty()
    }
}

/// A completion's result as a count or an error.
fn of_result(result: i32) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::from_raw_os_error(-result))
}

impl Drop for RingWalWriter {
    fn drop(&mut self) {
        // After a fault writes may still be under way, and the kernel reads their buffers.
        while self.chains.iter().any(|chain| chain.written.is_none() || chain.synced.is_none()) {
            match self.ring.submit_and_wait(1) {
                Ok(_) => self.reap(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Then nothing is known of them: their memory is never freed.
                Err(_) => {
                    std::mem::forget(std::mem::take(&mut self.chains));
                    return;
                }
            }
        }
    }
}

/// Chains under way at most; the rest waits.
const CHAINS_MAX: u32 = 16;
/// Writes that wait; shard has few in flight.
const BACKLOG_MAX: usize = 1024;
