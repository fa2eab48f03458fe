//! The engine on heap pages, and the WAL's frames.

use crate::{KEY_SIZE_BYTES, VALUE_SIZE_BYTES};
use bench::workload::{KeyOrder, Workload};
use criterion::{Criterion, Throughput};
use engine::api::{Command, ProposalId, PutRequest};
use engine::command;
use engine::engine::{Applied, Engine};
use engine::mvcc::budget::WorkBudget;
use engine::page::heap::HeapPages;
use engine::wal::position::{GroupId, LogId, RunNumber};
use engine::wal::record::EntryRecord;
use engine::wal::writer::{Start, Writer};
use std::hint::black_box;

/// A store that ends its intervals by itself, each of them durable at once.
struct Store {
    engine: Engine<HeapPages>,
    workload: Workload,
    key: Vec<u8>,
    entry: Vec<u8>,
}

impl Store {
    /// `keys` keys in random order.
    fn filled(keys: u64) -> Store {
        let sizes = [KEY_SIZE_BYTES, VALUE_SIZE_BYTES];
        let workload = Workload::new("micro/", keys, sizes, KeyOrder::Shuffled);
        let engine = Engine::create(HeapPages::new(), 1);
        let mut store = Store { engine, workload, key: Vec::new(), entry: Vec::new() };
        let genesis = Command::Genesis {
            page_size_bytes: 4096,
            value_inline_bytes_max: 640,
            interval_pages_max: INTERVAL_PAGES_MAX,
            interval_bytes_max: 64 << 20,
        };
        command::encode(&genesis, ProposalId::default(), &mut store.entry);
        store.apply();
        for _ in 0..keys {
            store.put();
        }
        store.workload = store.workload.ordered(KeyOrder::Drawn);
        store
    }

    fn put(&mut self) {
        let value = self.workload.next_put(&mut self.key);
        let put = PutRequest { key: &self.key, value: &value, ..PutRequest::default() };
        self.entry.clear();
        command::encode_put(&put, ProposalId::default(), &mut self.entry);
        self.apply();
    }

    fn apply(&mut self) {
        let index = self.engine.applied_index() + 1;
        let mut budget = WorkBudget::new(SLICE_UNITS);
        let applied = self
            .engine
            .apply(index, 1, &self.entry, &mut budget, None)
            .expect("heap pages are never damaged");
        assert!(matches!(applied, Applied::Done(_)), "a put is no long entry");
        if self.engine.interval_is_full() {
            let plan = self.engine.end_interval();
            self.engine.store_mut().map_mut().write_plan(&plan);
            self.engine.checkpoint_durable(plan.interval);
        }
    }

    fn get(&mut self) -> i64 {
        self.workload.next_key(&mut self.key);
        let found = self.engine.get(&self.key, 0).expect("heap pages are never damaged");
        let kv = found.expect("the newest revision is never compacted");
        kv.expect("every key was put").mod_revision
    }
}

pub(crate) fn puts(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("engine");
    for keys in STORE_KEYS {
        let mut store = Store::filled(keys);
        group.throughput(Throughput::Elements(1));
        group.bench_function(format!("put/{keys} keys"), |bencher| bencher.iter(|| store.put()));
    }
}

pub(crate) fn gets(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("engine");
    for keys in STORE_KEYS {
        let mut store = Store::filled(keys);
        group.throughput(Throughput::Elements(1));
        group.bench_function(format!("get/{keys} keys"), |bencher| {
            bencher.iter(|| black_box(store.get()));
        });
    }
}

/// A batch of entries becomes one frame, which is synced, and its segments are handed back.
pub(crate) fn seal(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("wal");
    for entries in [1, 64] {
        let mut writer = Writer::new(Start::fresh(LogId(7), RunNumber(1)));
        let data = [0xa5; KEY_SIZE_BYTES + VALUE_SIZE_BYTES + ENTRY_FIXED_SIZE_BYTES];
        let mut index = 0;
        group.throughput(Throughput::Elements(entries));
        group.bench_function(format!("seal/{entries} entries"), |bencher| {
            bencher.iter(|| {
                for _ in 0..entries {
                    index += 1;
                    let group = GroupId(1);
                    writer.append_entry(EntryRecord {
                        group,
                        index,
                        term: 1,
                        kind: 0,
                        data: &data,
                    });
                }
                drain(&mut writer, index);
            });
        });
    }
}

fn drain(writer: &mut Writer, index: u64) {
    loop {
        if let Some(file) = writer.wants_segment() {
            writer.segment_ready(file.id);
        }
        match writer.seal() {
            Some(write) => {
                writer.synced(write.end);
                writer.recycle(write.buffer);
            }
            None if writer.is_empty() => break,
            None => {}
        }
    }
    if index.is_multiple_of(CHECKPOINT_ENTRIES) {
        let last = engine::wal::record::EntryId { index, term: 1 };
        writer.append_checkpoint(GroupId(1), last);
        while writer.release().is_some() {}
    }
}

const STORE_KEYS: [u64; 2] = [10_000, 100_000];
const INTERVAL_PAGES_MAX: u32 = 8192;
const SLICE_UNITS: u32 = 1_000_000;
const CHECKPOINT_ENTRIES: u64 = 64 * 1024;

/// What an entry of a put holds besides key and value, roughly.
const ENTRY_FIXED_SIZE_BYTES: usize = 48;
