//! A disk that is slow or hangs, for tests: completions of the WAL are told late, or held back for
//! as long as a file exists.
//!
//! The writes themselves are done at once by the writer beneath; only what the shard hears is late,
//! and the core never waits. Invariants: completions keep their order; each is told once; without
//! the flags nothing of this stands between the core and its writer.

use std::{collections::VecDeque, fs::File, os::fd::BorrowedFd, path::PathBuf, time::Duration};

use engine::wal::{position::SegmentId, writer::WalWrite};
use shard::input::Input;

use super::{clock::Clock, wal_writer::WalWriter};
use crate::error::Fault;

/// What is wrong with the disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WalFaults {
    /// Each write takes this much longer.
    pub sync_delay: Duration,
    /// No write completes while this file exists.
    pub hang_file: Option<PathBuf>,
}

/// A writer with faults.
#[derive(Debug)]
pub struct FaultyWalWriter<W> {
    writer: W,
    faults: WalFaults,
    clock: Clock,
    /// Completions with the time from which they may be told.
    held: VecDeque<(u64, Input)>,
    /// Taken from the writer, in the order of completion.
    fresh: Vec<Input>,
    /// The hang file was there at the last look.
    is_hanging: bool,
}

impl<W: WalWriter> FaultyWalWriter<W> {
    /// Puts the faults over a writer.
    pub fn new(writer: W, faults: WalFaults, clock: Clock) -> FaultyWalWriter<W> {
        FaultyWalWriter {
            writer,
            faults,
            clock,
            held: VecDeque::new(),
            fresh: Vec::new(),
            is_hanging: false,
        }
    }

    fn take_fresh(&mut self) -> Result<(), Fault> {
        self.writer.completed(&mut self.fresh)?;
        let delay_us = u64::try_from(self.faults.sync_delay.as_micros()).unwrap_or(u64::MAX);
        let due_us = self.clock.now_us().saturating_add(delay_us);
        self.held.extend(self.fresh.drain(..).map(|input| (due_us, input)));
        Ok(())
    }
}

impl<W: WalWriter> WalWriter for FaultyWalWriter<W> {
    fn attach(&mut self, segment: SegmentId, file: File) {
        self.writer.attach(segment, file);
    }

    fn detach(&mut self, segment: SegmentId) {
        self.writer.detach(segment);
    }

    fn write(&mut self, write: WalWrite) -> Result<(), Fault> {
        self.writer.write(write)
    }

    fn wake_file(&self) -> Option<BorrowedFd<'_>> {
        self.writer.wake_file()
    }

    fn on_event(&mut self) {
        self.writer.on_event();
    }

    fn completed(&mut self, inputs: &mut Vec<Input>) -> Result<(), Fault> {
        self.take_fresh()?;
        // Looked at only while there is something to hold back.
        self.is_hanging = !self.held.is_empty()
            && self.faults.hang_file.as_ref().is_some_and(|path| path.exists());
        let now_us = self.clock.now_us();
        while !self.is_hanging && self.held.front().is_some_and(|(due_us, _)| *due_us <= now_us) {
            inputs.extend(self.held.pop_front().map(|(_, input)| input));
        }
        Ok(())
    }

    fn is_quiet(&mut self) -> bool {
        // What is held has its deadline.
        self.writer.is_quiet()
    }

    fn is_idle(&self) -> bool {
        self.held.is_empty() && self.writer.is_idle()
    }

    fn deadline_us(&self) -> Option<u64> {
        let due_us = self.held.front().map(|(due_us, _)| *due_us)?;
        Some(if self.is_hanging { self.clock.now_us() + HANG_LOOK_US } else { due_us })
    }
}

/// Between two looks at the hang file.
const HANG_LOOK_US: u64 = 5_000;
