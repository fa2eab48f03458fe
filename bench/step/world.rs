//! One shard with a disk that is done by the next step and a network without delay.

use engine::page::checkpoint::PageWrite;
use engine::page::heap::HeapPages;
use engine::page::map::{Checksum, Corruption, PAGE_SIZE_BYTES, PageMap, PageNumber};
use engine::wal::position::SegmentId;
use engine::wal::source::{ReadFailed, SegmentSource};
use engine::wal::writer::{SegmentFile, SegmentSizes};
use shard::Shard;
use shard::config::{AutoCompaction, Config, InitialMember, Origin};
use shard::effect::{Effect, Effects};
use shard::input::{ConnectionId, CoreId, Input};
use std::cell::RefCell;
use std::time::{Duration, Instant};

/// The shard and what it waits for.
pub struct World {
    shard: Shard<Pages>,
    now_us: u64,
    fx: Effects,
    /// What the next step takes.
    pub inputs: Vec<Input>,
    /// What the last step sent.
    pub sent: Vec<(ConnectionId, Vec<u8>)>,
    /// Whether steps are counted.
    pub is_measured: bool,
    /// Steps counted.
    pub steps: u64,
    /// Writes of the WAL in them.
    pub wal_writes: u64,
    /// Time in them.
    pub spent: Duration,
    serves: bool,
}

impl World {
    /// A new member, alone in its cluster, that serves.
    pub fn serving() -> World {
        let shard = Shard::open(config(), &NoSegments, Pages::default(), &[None, None], 0);
        let mut world = World {
            shard: shard.expect("nothing is there that could be damaged"),
            now_us: 0,
            fx: Effects::default(),
            inputs: Vec::new(),
            sent: Vec::new(),
            is_measured: false,
            steps: 0,
            wal_writes: 0,
            spent: Duration::ZERO,
            serves: false,
        };
        while !world.serves {
            world.now_us += BEGINNING_STEP_US;
            world.step();
        }
        world
    }

    /// One step, and what it asked of the disk.
    pub fn step(&mut self) {
        self.now_us += STEP_US;
        if self.is_measured {
            self.measured_step();
        } else {
            self.shard.step(self.now_us, &mut self.inputs, &mut self.fx);
        }
        self.inputs.clear();
        self.fx.spent.clear();
        self.fx.wake_at_us = None;
        let mut list = std::mem::take(&mut self.fx.list);
        for effect in list.drain(..) {
            self.on_effect(effect);
        }
        self.fx.list = list;
    }

    #[inline(never)]
    fn measured_step(&mut self) {
        let begin = Instant::now();
        self.shard.step(self.now_us, &mut self.inputs, &mut self.fx);
        self.spent += begin.elapsed();
        self.steps += 1;
    }

    fn on_effect(&mut self, effect: Effect) {
        match effect {
            Effect::Transmit { connection, bytes } => {
                self.inputs.push(Input::Transmitted { connection, size_bytes: bytes.len() });
                self.sent.push((connection, bytes));
            }
            Effect::WalWrite(write) => {
                self.wal_writes += u64::from(self.is_measured);
                self.inputs.push(Input::WalSynced { end: write.end, buffer: write.buffer });
            }
            Effect::WalSegmentPrepare { segment, .. } => {
                self.inputs.push(Input::WalSegmentReady { segment });
            }
            Effect::PageWrite { first, bytes } => self.write(first, bytes),
            Effect::PageSync { interval } => self.inputs.push(Input::PagesSynced { interval }),
            Effect::MetaWrite { interval, slot, bytes } => {
                self.write(slot, bytes);
                self.inputs.push(Input::MetaSynced { interval });
            }
            Effect::Serve => self.serves = true,
            Effect::Close { .. } => panic!("the shard closed a client's connection"),
            _ => {}
        }
    }

    fn write(&mut self, first: u64, bytes: std::sync::Arc<[u8]>) {
        let pages = self.shard.page_map_mut().expect("the only core has the pages");
        pages.heap.write(&PageWrite { first: PageNumber(first), bytes });
    }
}

fn config() -> Config {
    let peer_urls = vec!["http://127.0.0.1:2380".to_owned()];
    let member = InitialMember { id: 1, name: "step".to_owned(), peer_urls: peer_urls.clone() };
    Config {
        core: CoreId(0),
        cores: 1,
        cluster_id: 1,
        member_id: member.id,
        birth_id: 1,
        epoch: 0,
        name: member.name.clone(),
        origin: Origin::Founder { members: vec![member] },
        peer_urls,
        client_urls: vec!["http://127.0.0.1:2379".to_owned()],
        binary_urls: Vec::new(),
        learners_max: 1,
        seed: 1,
        max_txn_ops: 128,
        max_request_bytes: 1536 << 10,
        quota_backend_bytes: -1,
        auto_compaction: AutoCompaction::Off,
        heartbeat_interval_us: 100_000,
        election_timeout_us: 1_000_000,
        is_strict_reconfig: true,
        is_pre_vote: true,
        is_force_new_cluster: false,
        is_log_retained: false,
        watch_progress_interval_us: 600_000_000,
        answer_budget_bytes: 64 << 20,
        server_version: "3.7.0".to_owned(),
        interval_bytes_max: 64 << 20,
        interval_pages_max: 24_576,
        log_tail_entries: 5_000,
        wal_segment_sizes: SegmentSizes::default(),
    }
}

/// Heap pages that remember which of them were verified, as the server's map does.
#[derive(Default)]
struct Pages {
    heap: HeapPages,
    verified: RefCell<Vec<bool>>,
}

impl Pages {
    fn mark(&self, first: PageNumber, count: u32, is_verified: bool) {
        let mut verified = self.verified.borrow_mut();
        let pages = first.0 as usize..first.0 as usize + count as usize;
        if verified.len() < pages.end {
            verified.resize(pages.end, false);
        }
        verified[pages].fill(is_verified);
    }
}

impl PageMap for Pages {
    fn pages(
        &self,
        first: PageNumber,
        count: u32,
        expected: Checksum,
    ) -> Result<&[u8], Corruption> {
        if self.verified.borrow().get(first.0 as usize) == Some(&true) {
            let start = first.0 as usize * PAGE_SIZE_BYTES;
            return Ok(&self.heap.bytes()[start..start + count as usize * PAGE_SIZE_BYTES]);
        }
        let found = self.heap.pages(first, count, expected)?;
        self.mark(first, count, true);
        Ok(found)
    }

    fn forget(&self, first: PageNumber, count: u32) {
        self.mark(first, count, false);
    }

    fn wrote(&self, first: PageNumber, count: u32) {
        self.mark(first, count, true);
    }
}

/// The WAL of a first start.
struct NoSegments;

impl SegmentSource for NoSegments {
    fn segments(&self) -> Vec<SegmentFile> {
        Vec::new()
    }

    fn read(&self, _: SegmentId, _: u64, _: &mut [u8]) -> Result<(), ReadFailed> {
        Err(ReadFailed)
    }
}

/// Time between two steps under load, and while the member comes up.
const STEP_US: u64 = 20;
const BEGINNING_STEP_US: u64 = 50_000;
