//! WAL writes and their syncs: what a driver must offer, and the one of the portable driver, a
//! thread of its own that writes and syncs.
//!
//! Invariants: writes are told durable in the order given, each after all before it; a failed or
//! short write, or a failed sync, is never tried again: it ends the process.
//! Source: architecture.md section 5; runtime-facts.md, WAL writes.

use std::{
    collections::BTreeMap,
    fs::File,
    io,
    os::{fd::BorrowedFd, unix::fs::FileExt},
    sync::Arc,
};

use engine::wal::{position::SegmentId, writer::WalWrite};
use shard::input::Input;

use super::{
    file_thread::{FileThread, Worker},
    waker::Waker,
};
use crate::error::Fault;

/// Writes and syncs for one shard.
pub trait WalWriter {
    /// A segment may be written from now on.
    fn attach(&mut self, segment: SegmentId, file: File);
    /// A segment is never written again.
    fn detach(&mut self, segment: SegmentId);
    /// Starts a write and its sync.
    fn write(&mut self, write: WalWrite) -> Result<(), Fault>;
    /// A file that is ready when it has something to do, unless it wakes the core itself.
    fn wake_file(&self) -> Option<BorrowedFd<'_>> {
        None
    }
    /// That file was ready.
    fn on_event(&mut self) {}
    /// Adds what has become durable.
    fn completed(&mut self, inputs: &mut Vec<Input>) -> Result<(), Fault>;
    /// Whether `completed` has nothing to add now.
    fn is_quiet(&mut self) -> bool;
    /// Whether no write is under way.
    fn is_idle(&self) -> bool;
    /// When `completed` is to be asked though no event came, in microseconds.
    fn deadline_us(&self) -> Option<u64> {
        None
    }
}

/// A file, a place in it, and the bytes.
#[derive(Debug)]
pub struct WalOrder {
    file: Arc<File>,
    write: WalWrite,
}

/// Writes and syncs on its own thread.
#[derive(Debug)]
pub struct WalWorker;

impl Worker for WalWorker {
    type Order = WalOrder;
    type Report = WalWrite;
    const NAME: &'static str = "wal";

    fn work(&mut self, order: WalOrder) -> Result<Option<WalWrite>, Fault> {
        let WalOrder { file, write } = order;
        let bytes = write.buffer.as_bytes();
        let written = loop {
            match file.write_at(bytes, write.offset_bytes) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                outcome => break outcome,
            }
        };
        check_written(&write, written)?;
        file.sync_data().map_err(|error| Fault::WalSync { segment: write.segment.0, error })?;
        Ok(Some(write))
    }
}

/// A write counts only when every byte was taken.
pub fn check_written(write: &WalWrite, written: io::Result<usize>) -> Result<(), Fault> {
    let size_bytes = write.buffer.size_bytes();
    let error = match written {
        Ok(count) if count == size_bytes => return Ok(()),
        Ok(count) => io::Error::other(format!("only {count} bytes were taken")),
        Err(error) => error,
    };
    Err(Fault::WalWrite {
        segment: write.segment.0,
        offset_bytes: write.offset_bytes,
        size_bytes,
        error,
    })
}

/// The writer of the portable driver.
#[derive(Debug)]
pub struct ThreadWalWriter {
    files: BTreeMap<SegmentId, Arc<File>>,
    thread: FileThread<WalWorker>,
}

impl ThreadWalWriter {
    /// Starts its thread.
    pub fn start(waker: Waker) -> io::Result<ThreadWalWriter> {
        Ok(ThreadWalWriter { files: BTreeMap::new(), thread: FileThread::start(WalWorker, waker)? })
    }
}

impl WalWriter for ThreadWalWriter {
    fn attach(&mut self, segment: SegmentId, file: File) {
        let before = self.files.insert(segment, Arc::new(file));
        assert!(before.is_none());
    }

    fn detach(&mut self, segment: SegmentId) {
        // A segment of an earlier run was never attached.
        self.files.remove(&segment);
    }

    fn write(&mut self, write: WalWrite) -> Result<(), Fault> {
        let file = self.files.get(&write.segment).expect("a segment is written when it is ready");
        self.thread.order(WalOrder { file: Arc::clone(file), write });
        Ok(())
    }

    fn completed(&mut self, inputs: &mut Vec<Input>) -> Result<(), Fault> {
        while let Some(write) = self.thread.report()? {
            inputs.push(Input::WalSynced { end: write.end, buffer: write.buffer });
        }
        Ok(())
    }

    fn is_quiet(&mut self) -> bool {
        self.thread.is_quiet()
    }

    fn is_idle(&self) -> bool {
        self.thread.is_idle()
    }
}
