//! One member in the simulated world: the production shard, its disk, its connections.
//!
//! The world decides when a completion arrives; here everything completes at the next step unless
//! the disk is held.

use std::collections::{BTreeMap, BTreeSet};

use engine::page::checkpoint::PageWrite;
use engine::page::heap::HeapPages;
use engine::page::map::{PAGE_SIZE_BYTES, PageNumber};
use engine::transfer::directory::Directory;
use engine::wal::writer::{SegmentSizes, WalWrite};
use shard::config::{AutoCompaction, Config, InitialMember, Origin};
use shard::effect::{Effect, Effects, LogLevel, SegmentOrigin};
use shard::input::{ConnectionId, CoreId, DialFailure, DialId, Door, Input};
use shard::{Shard, StartError};

use super::disk::WalDisk;

/// What survives a crash.
#[derive(Clone, Debug, Default)]
pub struct Storage {
    /// WAL segments.
    pub wal: WalDisk,
    /// The page file as it was written.
    pub pages: HeapPages,
    /// The side file of a state transfer.
    pub side: HeapPages,
}

/// A member that runs.
pub struct SimMember {
    shard: Shard<HeapPages>,
    storage: Storage,
    now_us: u64,
    inputs: Vec<Input>,
    effects: Effects,
    next_connection: u64,
    sent: BTreeMap<ConnectionId, Vec<u8>>,
    closed: BTreeSet<ConnectionId>,
    /// WAL writes that are not synced yet.
    unsynced: Vec<WalWrite>,
    is_disk_held: bool,
    /// So many installs are told done without having been.
    installs_lost: usize,
    /// Installs are begun and never done.
    are_installs_stuck: bool,
    /// Connections whose bytes the kernel does not take.
    stalled: BTreeSet<ConnectionId>,
    /// Dials that wait for an answer.
    pub dials: Vec<(DialId, String)>,
    /// What was asked of the disk, and what of it is done.
    pub deeds: Vec<Deed>,
    /// The shard said that clients may come.
    pub is_serving: bool,
    /// The shard said that the stop is complete.
    pub is_stopped: bool,
    /// The shard said that it does not belong to the cluster any more.
    pub is_over: bool,
    /// Log lines at WARN and above.
    pub complaints: Vec<String>,
}

/// Something that a disk was asked for or has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Deed {
    WalWrite,
    WalSynced,
    PageWrite,
    PageSync,
    MetaWrite { slot: u64 },
    PunchHole { pages: u64 },
    PagesInstall,
}

/// A configuration for tests: small intervals, so that checkpoints happen.
pub fn config() -> Config {
    Config {
        core: CoreId(0),
        cores: 1,
        cluster_id: 0xcd,
        member_id: 0xab,
        birth_id: 0xb1,
        epoch: 0,
        origin: Origin::Founder {
            members: vec![InitialMember {
                id: 0xab,
                name: "sim".to_string(),
                peer_urls: vec!["http://sim:2380".to_string()],
            }],
        },
        name: "sim".to_string(),
        peer_urls: vec!["http://sim:2380".to_string()],
        client_urls: vec!["http://sim:2379".to_string()],
        binary_urls: Vec::new(),
        learners_max: 1,
        seed: 7,
        max_txn_ops: 128,
        max_request_bytes: 1_572_864,
        quota_backend_bytes: 0,
        auto_compaction: AutoCompaction::Off,
        heartbeat_interval_us: 100_000,
        election_timeout_us: 1_000_000,
        is_strict_reconfig: true,
        is_pre_vote: true,
        is_force_new_cluster: false,
        is_log_retained: false,
        watch_progress_interval_us: 600_000_000,
        answer_budget_bytes: 256 << 20,
        server_version: "3.7.0".to_string(),
        interval_bytes_max: 64 << 10,
        interval_pages_max: 64,
        log_tail_entries: shard::limits::LOG_TAIL_ENTRIES,
        wal_segment_sizes: SegmentSizes::default(),
    }
}

impl Storage {
    /// What a start does first: an install that a crash interrupted is done from its beginning.
    fn finish_install(&mut self) {
        let install = shard::pending_install(&self.wal);
        let side = std::mem::take(&mut self.side);
        let mut read = |first: u64, bytes: &mut [u8]| {
            let from = first as usize * PAGE_SIZE_BYTES;
            let Some(found) = side.bytes().get(from..from + bytes.len()) else { return false };
            bytes.copy_from_slice(found);
            true
        };
        let directory = install.and_then(|install| Directory::decode(install, &mut read));
        let Some(directory) = directory else { return };
        let mut write = |first: u64, bytes: &[u8]| {
            self.pages.write(&PageWrite { first: PageNumber(first), bytes: bytes.into() });
        };
        let place = |page: u64| page as usize * PAGE_SIZE_BYTES;
        for (first, count) in &directory.runs {
            write(*first, &side.bytes()[place(*first)..place(first + count)]);
        }
        write(directory.meta().slot(), &directory.meta_page);
    }
}

impl SimMember {
    /// Starts a member from what `storage` holds.
    pub fn start(
        config: Config,
        mut storage: Storage,
        now_us: u64,
    ) -> Result<SimMember, StartError> {
        storage.finish_install();
        let slots = storage.pages.meta_slots().map(Some);
        let map = storage.pages.clone();
        let shard = Shard::open(config, &storage.wal, map, &slots, now_us)?;
        let mut member = SimMember {
            shard,
            storage,
            now_us,
            inputs: Vec::new(),
            effects: Effects::default(),
            next_connection: 1,
            sent: BTreeMap::new(),
            closed: BTreeSet::new(),
            unsynced: Vec::new(),
            is_disk_held: false,
            installs_lost: 0,
            are_installs_stuck: false,
            stalled: BTreeSet::new(),
            dials: Vec::new(),
            deeds: Vec::new(),
            is_serving: false,
            is_stopped: false,
            is_over: false,
            complaints: Vec::new(),
        };
        member.settle();
        Ok(member)
    }

    /// Opens a connection.
    pub fn connect(&mut self, door: Door) -> ConnectionId {
        let connection = ConnectionId(self.next_connection);
        self.next_connection += 1;
        self.sent.insert(connection, Vec::new());
        self.inputs.push(Input::Accepted { connection, door });
        connection
    }

    /// Bytes from a client.
    pub fn receive(&mut self, connection: ConnectionId, bytes: Vec<u8>) {
        if !bytes.is_empty() {
            self.inputs.push(Input::Received { connection, bytes });
        }
    }

    /// The client goes.
    pub fn disconnect(&mut self, connection: ConnectionId) {
        self.inputs.push(Input::Closed { connection });
        self.sent.remove(&connection);
    }

    /// Whether the member has not closed a connection.
    pub fn is_connected(&self, connection: ConnectionId) -> bool {
        !self.closed.contains(&connection)
    }

    /// Takes what was sent to a client.
    pub fn take_sent(&mut self, connection: ConnectionId) -> Vec<u8> {
        self.sent.get_mut(&connection).map(std::mem::take).unwrap_or_default()
    }

    /// From now on syncs do not complete (or do again).
    pub fn hold_disk(&mut self, is_held: bool) {
        self.is_disk_held = is_held;
        if !is_held {
            self.complete_wal();
        }
    }

    /// One WAL write is durable; false if none is under way.
    pub fn sync_one(&mut self) -> bool {
        if self.unsynced.is_empty() {
            return false;
        }
        let write = self.unsynced.remove(0);
        self.complete_write(write);
        true
    }

    /// The kernel takes nothing more of a connection.
    pub fn stall(&mut self, connection: ConnectionId) {
        self.stalled.insert(connection);
    }

    /// A dial succeeds.
    pub fn dialed(&mut self, dial: DialId) -> ConnectionId {
        let connection = ConnectionId(self.next_connection);
        self.next_connection += 1;
        self.sent.insert(connection, Vec::new());
        self.inputs.push(Input::Dialed { dial, connection });
        connection
    }

    /// A dial fails.
    pub fn dial_failed(&mut self, dial: DialId, failure: DialFailure) {
        self.inputs.push(Input::DialFailed { dial, failure });
    }

    /// Whether something happened that no step has seen.
    pub fn has_inputs(&self) -> bool {
        !self.inputs.is_empty()
    }

    /// What Raft knows.
    pub fn raft_status(&self) -> raft::Status {
        self.shard.raft_status().expect("the member has a group")
    }

    /// What is on the disk.
    pub fn storage(&self) -> &Storage {
        &self.storage
    }

    /// A page changes on the disk while the member runs: a byte of it is inverted.
    pub fn alter_page(&mut self, page: u64) {
        let at = page as usize * PAGE_SIZE_BYTES + 2_000;
        self.storage.pages.bytes_mut()[at] ^= 1;
        let map = self.shard.page_map_mut().expect("the member has a group");
        map.bytes_mut()[at] ^= 1;
    }

    /// The disk says that the next `count` installs are done, and does nothing.
    pub fn lose_installs(&mut self, count: usize) {
        self.installs_lost = count;
    }

    /// From now on installs are begun and never done.
    pub fn stick_installs(&mut self) {
        self.are_installs_stuck = true;
    }

    /// Asks for a clean stop.
    pub fn shut_down(&mut self) {
        self.inputs.push(Input::ShutdownRequested);
    }

    /// The disk is full but for a reserve, or is so no more.
    pub fn tell_space(&mut self, is_short: bool) {
        self.inputs.push(Input::SpaceShort { is_short });
    }

    /// Time passes.
    pub fn advance(&mut self, us: u64) {
        self.now_us += us;
        self.settle();
    }

    /// Now.
    pub fn now_us(&self) -> u64 {
        self.now_us
    }

    /// The process is killed: what was written stays readable.
    pub fn kill(self) -> Storage {
        self.storage
    }

    /// The power goes: of what was not synced any subset of sectors stays.
    pub fn lose_power(mut self, keeps: impl FnMut() -> bool) -> Storage {
        self.storage.wal.lose_power(keeps);
        self.storage
    }

    /// Steps until nothing happens without time passing.
    pub fn settle(&mut self) {
        for _ in 0..STEPS_MAX {
            self.step();
            if self.inputs.is_empty() && !self.effects.step_again {
                return;
            }
        }
        panic!("the member does not come to rest");
    }

    /// Until when the driver might have let clients' bytes gather, after the last step.
    pub fn gather_until_us(&self) -> Option<u64> {
        self.effects.gather_until_us
    }

    /// One step of the shard, and what it asked for.
    pub fn step(&mut self) {
        self.effects.list.clear();
        self.effects.step_again = false;
        self.effects.wake_at_us = None;
        self.effects.gather_until_us = None;
        self.shard.step(self.now_us, &mut self.inputs, &mut self.effects);
        assert!(self.inputs.is_empty());
        self.now_us += STEP_US;
        for effect in std::mem::take(&mut self.effects.list) {
            self.submit(effect);
        }
        self.effects.spent.clear();
        if !self.is_disk_held {
            self.complete_wal();
        }
    }

    fn complete_wal(&mut self) {
        while self.sync_one() {}
    }

    fn complete_write(&mut self, write: WalWrite) {
        self.storage.wal.sync(&write);
        self.deeds.push(Deed::WalSynced);
        self.inputs.push(Input::WalSynced { end: write.end, buffer: write.buffer });
    }

    fn submit(&mut self, effect: Effect) {
        match effect {
            Effect::Transmit { connection, bytes } => {
                let size_bytes = bytes.len();
                let is_stalled = self.stalled.contains(&connection);
                if let Some(sent) = self.sent.get_mut(&connection) {
                    sent.extend_from_slice(&bytes);
                    if is_stalled {
                        return;
                    }
                    self.inputs.push(Input::Transmitted { connection, size_bytes });
                }
            }
            Effect::PauseReceive { .. } | Effect::ResumeReceive { .. } => {}
            Effect::Close { connection } => {
                self.closed.insert(connection);
                self.inputs.push(Input::Closed { connection });
            }
            Effect::WalWrite(write) => {
                self.storage.wal.write(&write);
                self.deeds.push(Deed::WalWrite);
                self.unsynced.push(write);
            }
            Effect::WalSegmentPrepare { segment, size_bytes, origin } => {
                match origin {
                    SegmentOrigin::Fresh => self.storage.wal.prepare(segment, size_bytes),
                    SegmentOrigin::Recycled(old) => self.storage.wal.recycle(old, segment),
                }
                self.inputs.push(Input::WalSegmentReady { segment });
            }
            Effect::WalSegmentDelete { segment } => self.storage.wal.delete(segment),
            Effect::PageWrite { first, bytes } => {
                self.deeds.push(Deed::PageWrite);
                self.write_pages(&PageWrite { first: PageNumber(first), bytes });
            }
            Effect::PageSync { interval } => {
                self.deeds.push(Deed::PageSync);
                self.inputs.push(Input::PagesSynced { interval });
            }
            Effect::MetaWrite { interval, slot, bytes } => {
                self.deeds.push(Deed::MetaWrite { slot });
                self.write_pages(&PageWrite { first: PageNumber(slot), bytes });
                self.inputs.push(Input::MetaSynced { interval });
            }
            Effect::PunchHole { pages, .. } => self.deeds.push(Deed::PunchHole { pages }),
            Effect::Dial { dial, url } => self.dials.push((dial, url)),
            Effect::SideWrite { first, bytes } => {
                self.storage.side.write(&PageWrite { first: PageNumber(first), bytes });
            }
            Effect::SideSync { number } => self.inputs.push(Input::SideSynced { number }),
            Effect::PagesInstall { runs, .. } => {
                self.deeds.push(Deed::PagesInstall);
                if self.are_installs_stuck {
                    return;
                }
                let is_lost = 0 < self.installs_lost;
                self.installs_lost = self.installs_lost.saturating_sub(1);
                for (first, count) in runs.into_iter().filter(|_| !is_lost) {
                    let place = |page: u64| page as usize * PAGE_SIZE_BYTES;
                    let bytes = &self.storage.side.bytes()[place(first)..place(first + count)];
                    let write = PageWrite { first: PageNumber(first), bytes: bytes.into() };
                    self.write_pages(&write);
                }
                self.inputs.push(Input::PagesInstalled);
            }
            Effect::SideDiscard => self.storage.side = HeapPages::new(),
            Effect::Forward { .. } => panic!("a member of one core forwards nothing"),
            Effect::Log { level, message, fields } => {
                if LogLevel::Warn <= level {
                    self.complaints.push(format!("{message} {fields:?}"));
                }
            }
            Effect::ReadMetrics { token } => {
                self.inputs.push(Input::MetricsRead { token, text: b"metrics\n".to_vec() });
            }
            Effect::Serve => self.is_serving = true,
            Effect::EndProcess => self.is_over = true,
            Effect::Stop => self.is_stopped = true,
        }
    }

    fn write_pages(&mut self, write: &PageWrite) {
        self.storage.pages.write(write);
        let map = self.shard.page_map_mut().expect("the member has a group");
        map.write(write);
    }
}

/// A step takes this long.
const STEP_US: u64 = 10;
/// Steps without time passing; more is a loop.
const STEPS_MAX: usize = 100_000;
