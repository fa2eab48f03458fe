//! Everything a shard asks of the world: a closed list, in the imperative.
//!
//! Effects carry no conditions: what must wait for something durable is not emitted before. The
//! driver submits them in order and decides nothing.

use std::sync::Arc;

use engine::wal::position::SegmentId;
use engine::wal::writer::WalWrite;

use crate::input::{ConnectionId, CoreId, DialId};
use crate::message::Message;

/// How bad a log line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum LogLevel {
    Debug,
    Info,
    Warn,
    Error,
}

/// Where a segment's file comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SegmentOrigin {
    /// A new file.
    Fresh,
    /// The file of this released segment is renamed: its old frames stay in it, by design.
    Recycled(SegmentId),
}

/// One thing asked.
#[derive(Debug)]
pub enum Effect {
    /// Send bytes, after all earlier ones of the connection. The driver takes as much as the
    /// socket does now and keeps the rest; several of a step leave in one gathered send.
    Transmit {
        /// On which connection.
        connection: ConnectionId,
        /// The bytes; never empty. The buffer may be reused by the driver.
        bytes: Vec<u8>,
    },
    /// Stop reading from a connection (back pressure).
    PauseReceive {
        /// Which one.
        connection: ConnectionId,
    },
    /// Read from it again.
    ResumeReceive {
        /// Which one.
        connection: ConnectionId,
    },
    /// Send what is still unsent, for at most a second, then close; answered by `Closed`.
    Close {
        /// Which one.
        connection: ConnectionId,
    },
    /// Connect to the host and port of a URL; answered by `Dialed` or `DialFailed` within
    /// `DIAL_TIMEOUT_US`.
    Dial {
        /// Its number, named in the answer.
        dial: DialId,
        /// As advertised: `http://host:port`.
        url: String,
    },
    /// Write and sync a sealed buffer; answered by `WalSynced`. A failure ends the process.
    WalWrite(WalWrite),
    /// Make a segment file of full length, every byte written, synced, its directory entry too;
    /// answered by `WalSegmentReady`.
    WalSegmentPrepare {
        /// Which one.
        segment: SegmentId,
        /// Its length.
        size_bytes: u64,
        /// Where its file comes from.
        origin: SegmentOrigin,
    },
    /// Delete the file of a released segment.
    WalSegmentDelete {
        /// Which one.
        segment: SegmentId,
    },
    /// Write pages to their places through the page cache, growing the file as needed.
    PageWrite {
        /// First page number.
        first: u64,
        /// Whole pages.
        bytes: Arc<[u8]>,
    },
    /// Sync the page file; answered by `PagesSynced`.
    PageSync {
        /// The checkpoint's interval.
        interval: u64,
    },
    /// Write one meta page and sync; answered by `MetaSynced`.
    MetaWrite {
        /// The checkpoint's interval.
        interval: u64,
        /// 0 or 1: its page number.
        slot: u64,
        /// One page.
        bytes: Arc<[u8]>,
    },
    /// Write pages of a state transfer into the side file, at the offset that their numbers have
    /// in the page file. The first one of a transfer makes the file.
    SideWrite {
        /// First page number.
        first: u64,
        /// Whole pages.
        bytes: Arc<[u8]>,
    },
    /// Sync the side file; answered by `SideSynced`.
    SideSync {
        /// Its number.
        number: u64,
    },
    /// Put these runs of pages from the side file into their places in the page file, growing it as
    /// needed, durably; answered by `PagesInstalled`. The meta pages are not among them. Doing it
    /// again does no harm, also after a crash in the middle.
    PagesInstall {
        /// (first page, count), ascending.
        runs: Vec<(u64, u64)>,
        /// Pages of the checkpoint, where the runs and what else the page file has make one whose
        /// meta page and directory are in the side file: then it may take the page file's place.
        /// Nothing reads the page file until the meta page is written.
        whole_pages: Option<u64>,
    },
    /// Delete the side file, if there is one.
    SideDiscard,
    /// Give the space of free pages back.
    PunchHole {
        /// First page number.
        first: u64,
        /// How many pages.
        pages: u64,
    },
    /// Hand something to another core of this member. The queue has room: the sender holds a slot.
    Forward {
        /// Which core.
        to: CoreId,
        /// What.
        message: Box<Message>,
    },
    /// Write one log line: message and fields, rendered as JSON fields already.
    Log {
        /// Level.
        level: LogLevel,
        /// The message.
        message: String,
        /// Pairs of field name and JSON value.
        fields: Vec<(&'static str, String)>,
    },
    /// Render the metrics of all cores; answered by `MetricsRead`.
    ReadMetrics {
        /// Given back in the answer.
        token: u64,
    },
    /// The shard serves: from now on clients may connect (the driver opens the doors).
    Serve,
    /// This member does not belong to the cluster any more: stop all cores as for SIGTERM.
    EndProcess,
    /// A clean stop is complete on this core.
    Stop,
}

/// What a step asked for. Reused from step to step.
#[derive(Debug, Default)]
pub struct Effects {
    /// In order.
    pub list: Vec<Effect>,
    /// Work is left over: poll without waiting and step again.
    pub step_again: bool,
    /// Step again at this time (microseconds of the driver's monotonic clock) at the latest.
    pub wake_at_us: Option<u64>,
    /// Until this time what clients send need not be looked at, as long as nothing else happens: it
    /// could only wait. An offer, which saves the driver turns; it may be ignored.
    pub gather_until_us: Option<u64>,
    /// Input buffers that may be filled again.
    pub spent: Vec<Vec<u8>>,
    /// Buffers whose bytes were sent, empty: the driver puts some here for the next steps to fill.
    pub emptied: Vec<Vec<u8>>,
}

impl Effects {
    /// Adds one.
    pub fn push(&mut self, effect: Effect) {
        self.list.push(effect);
    }

    /// Asks to be stepped at `at_us` or before.
    pub fn wake_at(&mut self, at_us: u64) {
        self.wake_at_us = Some(self.wake_at_us.map_or(at_us, |earlier| earlier.min(at_us)));
    }
}
