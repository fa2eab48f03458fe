//! State transfer between two stores while the sender goes on: random logs, restarts of the walk,
//! pages that are gone, broken or come twice; at the end both are equal page by page.
#![allow(clippy::unwrap_used)]

mod common;

use common::naive::Naive;
use common::random::Pool;
use common::{Random, Replica};
use engine::api::Command;
use engine::engine::Engine;
use engine::page::checkpoint::PageWrite;
use engine::page::heap::HeapPages;
use engine::page::map::{PAGE_SIZE_BYTES, PageNumber, checksum};
use engine::page::meta::{Meta, choose_meta};
use engine::transfer::directory::Directory;
use engine::transfer::sink::{Sink, TransferError};
use engine::transfer::{Wanted, source};
use engine::wal::record::EntryId;

const GROUP: u64 = 7;

/// A side file.
#[derive(Clone, Default)]
struct Side(HeapPages);

impl Side {
    fn write(&mut self, first: u64, bytes: &[u8]) {
        self.0.write(&PageWrite { first: PageNumber(first), bytes: bytes.into() });
    }

    fn read(&self, first: u64, bytes: &mut [u8]) -> bool {
        let start = first as usize * PAGE_SIZE_BYTES;
        let found = self.0.bytes().get(start..start + bytes.len());
        found.map(|found| bytes.copy_from_slice(found)).is_some()
    }
}

fn newest_meta(map: &HeapPages) -> Option<Meta> {
    let [slot_0, slot_1] = map.meta_slots();
    choose_meta(&slot_0, &slot_1).unwrap()
}

fn meta_page(map: &HeapPages) -> Vec<u8> {
    let meta = newest_meta(map).unwrap();
    map.meta_slots()[meta.slot() as usize].clone()
}

/// Copies what a directory names, as a driver does.
fn install(directory: &Directory, side: &Side, map: &mut HeapPages) {
    for (first, count) in &directory.runs {
        let mut bytes = vec![0; *count as usize * PAGE_SIZE_BYTES];
        assert!(side.read(*first, &mut bytes));
        map.write(&PageWrite { first: PageNumber(*first), bytes: bytes.into() });
    }
    let slot = PageNumber(directory.meta().slot());
    map.write(&PageWrite { first: slot, bytes: directory.meta_page.clone().into() });
}

/// Asks for everything that the sink lacks; pages that are gone send it to the newest checkpoint.
/// Returns how many pages were sent.
fn transfer(
    sink: &mut Sink,
    side: &mut Side,
    sender: &mut Replica,
    own: &Replica,
    random: &mut Random,
    between: &mut dyn FnMut(&mut Replica, &mut Random),
) -> usize {
    let own_interval = own.engine.store().durable_interval();
    let own_map = own.engine.store().map();
    let aim = |sink: &mut Sink, sender: &Replica| {
        sink.aim(&meta_page(sender.engine.store().map()), GROUP, own_interval).unwrap();
    };
    aim(sink, sender);
    let mut sent = 0;
    while !sink.is_complete() {
        while sink.walk(own_map, 1 + random.below(40) as usize).unwrap() {}
        let mut wanted = Vec::new();
        sink.take_wanted(1 + random.below(30) as u32, 8, &mut wanted);
        between(sender, random);
        let mut is_gone = false;
        for run in &wanted {
            match source::read(sender.engine.store().map(), run, &[]) {
                Some(bytes) => {
                    assert!(sink.is_asked(run.first));
                    try_broken(sink, run, &bytes, random);
                    sink.receive(run.first, &bytes).unwrap();
                    side.write(run.first.0, &bytes);
                    sent += bytes.len() / PAGE_SIZE_BYTES;
                }
                None => is_gone = true,
            }
        }
        if is_gone {
            aim(sink, sender);
        }
    }
    sent
}

/// What is damaged on the way changes nothing.
fn try_broken(sink: &mut Sink, run: &Wanted, bytes: &[u8], random: &mut Random) {
    if random.chance(10) {
        let mut broken = bytes.to_vec();
        let at = random.below(broken.len() as u64) as usize;
        broken[at] ^= 1 << random.below(8);
        assert_eq!(sink.receive(run.first, &broken), Err(TransferError::Broken(run.first)));
        assert_eq!(
            sink.receive(run.first, &bytes[PAGE_SIZE_BYTES..]),
            Err(TransferError::Broken(run.first))
        );
        assert!(sink.is_asked(run.first));
    }
}

fn directory_of(sink: &mut Sink) -> Directory {
    let meta_page = sink.meta_page().unwrap().to_vec();
    let last = EntryId { index: sink.meta().unwrap().applied_index, term: 1 };
    Directory { last, meta_page, runs: sink.runs().unwrap() }
}

/// Puts the received pages under a replica and replays the rest of the sender's log.
fn take_over(own: &mut Replica, directory: &Directory, side: &Side, log: &[Vec<u8>]) {
    install(directory, side, own.engine.store_mut().map_mut());
    own.engine.reopen(&directory.meta()).unwrap();
    own.engine.verify().unwrap();
    for entry in &log[own.engine.applied_index() as usize..] {
        own.apply_entry(entry, |_| {});
    }
    own.log = log.to_vec();
}

fn run_some(replica: &mut Replica, naive: &mut Naive, pool: &Pool, random: &mut Random, n: u64) {
    for _ in 0..n {
        let command = pool.command(random, naive);
        replica.apply(&command);
        naive.apply(&command);
    }
}

#[test]
fn a_store_is_transferred_while_it_changes() {
    let pool = Pool::new();
    for seed in 0..40 {
        let random = &mut Random::new(seed);
        let (mut sender, mut naive) = (Replica::new(200), Naive::new());
        sender.verifies = false;
        let before = random.below(300);
        run_some(&mut sender, &mut naive, &pool, random, before);
        // Some receivers are newborn, others lag.
        let mut own = match random.chance(70) {
            true => sender.restarted(200),
            false => Replica::empty(200),
        };
        own.verifies = false;
        let missed = 50 + random.below(300);
        run_some(&mut sender, &mut naive, &pool, random, missed);
        sender.apply(&Command::Checkpoint);
        let (mut sink, mut side) = (Sink::default(), Side::default());
        let mut steps_left = random.below(60);
        let mut between = |sender: &mut Replica, random: &mut Random| {
            if 0 < steps_left {
                steps_left -= 1;
                let count = random.below(12);
                run_some(sender, &mut naive, &pool, random, count);
            }
        };
        transfer(&mut sink, &mut side, &mut sender, &own, random, &mut between);
        let directory = directory_of(&mut sink);
        let log = sender.log.clone();
        take_over(&mut own, &directory, &side, &log);
        assert_eq!(own.engine.applied_index(), sender.engine.applied_index(), "seed {seed}");
        sender.apply(&Command::Checkpoint);
        own.apply(&Command::Checkpoint);
        own.engine.verify().unwrap();
        // A meta page names the content of every page that is not free.
        let pages = [&sender, &own].map(|replica| meta_page(replica.engine.store().map()));
        assert_eq!(pages[0], pages[1], "seed {seed}");
        assert_eq!(own.engine.hash_kv(0).unwrap(), sender.engine.hash_kv(0).unwrap());
    }
}

#[test]
fn a_member_that_lags_is_sent_what_differs() {
    let random = &mut Random::new(7);
    let mut sender = Replica::new(10_000);
    sender.verifies = false;
    let key = |n: u64| format!("key-{n:06}").into_bytes();
    for n in 0..4000 {
        put(&mut sender, &key(n), &[1; 100]);
    }
    sender.apply(&Command::Checkpoint);
    let own = sender.restarted(10_000);
    for n in 0..20 {
        put(&mut sender, &key(n), &[2; 100]);
    }
    sender.apply(&Command::Checkpoint);
    let lag = |own: &Replica, sender: &mut Replica, random: &mut Random| {
        let (mut sink, mut side) = (Sink::default(), Side::default());
        transfer(&mut sink, &mut side, sender, own, random, &mut |_, _| {})
    };
    let differ = lag(&own, &mut sender, random);
    let all = lag(&Replica::empty(10_000), &mut sender, random);
    assert!(300 < all, "{all} pages");
    assert!(differ < 30, "{differ} pages");
}

#[test]
fn what_was_received_is_not_asked_for_again_by_the_next_attempt() {
    let random = &mut Random::new(9);
    let mut sender = Replica::new(10_000);
    sender.verifies = false;
    for n in 0..4000u64 {
        put(&mut sender, &n.to_be_bytes(), &[3; 100]);
    }
    sender.apply(&Command::Checkpoint);
    let own = Replica::empty(10_000);
    let (mut sink, mut side) = (Sink::default(), Side::default());
    let all = transfer(&mut sink, &mut side, &mut sender, &own, random, &mut |_, _| {});
    // Another attempt in the same process, for the same checkpoint and for a newer one.
    assert_eq!(transfer(&mut sink, &mut side, &mut sender, &own, random, &mut |_, _| {}), 0);
    for n in 0..20u64 {
        put(&mut sender, &n.to_be_bytes(), &[4; 100]);
    }
    sender.apply(&Command::Checkpoint);
    let more = transfer(&mut sink, &mut side, &mut sender, &own, random, &mut |_, _| {});
    assert!(0 < more && more < all / 5, "{more} of {all} pages");
    // What is installed is the newer one, and nothing that only the older one reached.
    let directory = directory_of(&mut sink);
    let mut own = own;
    let log = sender.log.clone();
    take_over(&mut own, &directory, &side, &log);
    assert_eq!(own.engine.hash_kv(0).unwrap(), sender.engine.hash_kv(0).unwrap());
}

#[test]
fn a_side_file_tells_what_is_in_it_and_only_whole() {
    let random = &mut Random::new(3);
    let mut sender = Replica::new(10_000);
    for n in 0..600u64 {
        put(&mut sender, &n.to_be_bytes(), &[5; 300]);
    }
    sender.apply(&Command::Checkpoint);
    let (mut sink, mut side) = (Sink::default(), Side::default());
    let own = Replica::empty(10_000);
    transfer(&mut sink, &mut side, &mut sender, &own, random, &mut |_, _| {});
    let directory = directory_of(&mut sink);
    let named = directory.install();
    assert_eq!(Directory::decode(named, &mut |first, bytes| side.read(first, bytes)), None);
    for (first, bytes) in directory.encode() {
        side.write(first, &bytes);
    }
    let decode = |side: &Side, named| {
        Directory::decode(named, &mut |first, bytes: &mut [u8]| side.read(first, bytes))
    };
    assert_eq!(decode(&side, named), Some(directory.clone()));
    let mut other = named;
    other.last.index += 1;
    assert_eq!(decode(&side, other), None, "another checkpoint");
    let page = PAGE_SIZE_BYTES as u64;
    let slot = directory.meta().slot() * page;
    let tail = directory.meta().page_count * page;
    for at in [slot, slot + 200, tail, tail + 9, tail + 40, tail + page + 3] {
        let mut damaged = side.clone();
        damaged.0.bytes_mut()[at as usize] ^= 4;
        assert_eq!(decode(&damaged, named), None, "byte {at} was changed");
    }
    // A start in another process goes on from the side file alone.
    let mut map = HeapPages::new();
    install(&directory, &side, &mut map);
    let meta = newest_meta(&map).unwrap();
    let engine = Engine::open(map, &meta).unwrap();
    engine.verify().unwrap();
    assert_eq!(engine.hash_kv(0).unwrap(), sender.engine.hash_kv(0).unwrap());
    // Nothing is lacking beside what was received: it is a page file already.
    let meta = newest_meta(&side.0).unwrap();
    let engine = Engine::open(side.0, &meta).unwrap();
    engine.verify().unwrap();
    assert_eq!(engine.hash_kv(0).unwrap(), sender.engine.hash_kv(0).unwrap());
}

#[test]
fn what_is_no_checkpoint_of_the_group_is_refused() {
    let mut sender = Replica::new(10_000);
    put(&mut sender, b"a", b"b");
    sender.apply(&Command::Checkpoint);
    let map = sender.engine.store().map();
    let mut sink = Sink::default();
    let page = meta_page(map);
    assert_eq!(sink.aim(&page, GROUP + 1, 0), Err(TransferError::Meta));
    assert_eq!(sink.aim(&page[1..], GROUP, 0), Err(TransferError::Meta));
    let mut torn = page.clone();
    torn[2000] ^= 1;
    assert_eq!(sink.aim(&torn, GROUP, 0), Err(TransferError::Meta));
    // A meta page that is whole, but names another page as a root.
    let mut meta = newest_meta(map).unwrap();
    let [keys, history, _] = meta.trees;
    meta.trees[0].root = history.root;
    meta.trees[0].checksum = history.checksum;
    meta.trees[0].height = keys.height + 1;
    sink.aim(&meta.encode(), GROUP, 0).unwrap();
    while sink.walk(map, 1).unwrap() {}
    let mut wanted = Vec::new();
    sink.take_wanted(1000, 1000, &mut wanted);
    let root = wanted.iter().find(|run| run.first == history.root).unwrap();
    let bytes = source::read(map, root, &[]).unwrap();
    assert_eq!(sink.receive(root.first, &bytes), Err(TransferError::Misplaced(root.first)));
    // Beyond the file.
    meta.trees[0].root = PageNumber(meta.page_count);
    assert_eq!(sink.aim(&meta.encode(), GROUP, 0), Err(TransferError::Meta));
}

#[test]
fn pages_that_are_being_written_are_not_read() {
    let mut sender = Replica::new(10_000);
    put(&mut sender, b"a", b"b");
    sender.apply(&Command::Checkpoint);
    let map = sender.engine.store().map();
    let root = newest_meta(map).unwrap().trees[0];
    let wanted = Wanted { first: root.root, count: 1, checksum: root.checksum };
    let flight = |first: u64, pages: usize| {
        let bytes = vec![0; pages * PAGE_SIZE_BYTES].into();
        PageWrite { first: PageNumber(first), bytes }
    };
    let page = root.root.0;
    assert!(source::read(map, &wanted, &[]).is_some());
    assert!(source::read(map, &wanted, &[flight(page + 1, 3)]).is_some());
    assert!(source::read(map, &wanted, &[flight(page - 1, 1), flight(page + 1, 1)]).is_some());
    assert!(source::read(map, &wanted, &[flight(page, 1)]).is_none());
    assert!(source::read(map, &wanted, &[flight(page - 1, 2), flight(page + 1, 1)]).is_none());
    // Nonsense is not held either.
    let whole = map.bytes().len() / PAGE_SIZE_BYTES;
    for (first, count) in [(0, 1), (1, 1), (2, 0), (whole as u64, 1), (2, u32::MAX), (u64::MAX, 2)]
    {
        let checksum = checksum(&[]);
        let wanted = Wanted { first: PageNumber(first), count, checksum };
        assert!(source::read(map, &wanted, &[]).is_none());
    }
}

fn put(replica: &mut Replica, key: &[u8], value: &[u8]) {
    let request = engine::api::PutRequest {
        key,
        value,
        lease: 0,
        prev_kv: false,
        ignore_value: false,
        ignore_lease: false,
    };
    replica.apply(&Command::Put(request));
}
