//! The WAL on a disk that fails: power cuts that keep any subset of the unsynced sectors, crashes
//! of the process alone, torn, flipped, lost and misdirected writes, unreadable blocks. One test
//! for each rule of the WAL, and worlds of random histories.
//! Source: storage.md, WAL and "The simulator's part".

#![allow(clippy::unwrap_used, reason = "a test's support code may panic")]

mod device;

use device::{BLOCK_SIZE_BYTES, FramePlace, LOG_ID, Model, Random, SIZES, World};
use engine::wal::limits::{SEGMENT_FIRST_SIZE_BYTES, SEGMENT_SIZE_BYTES};
use engine::wal::position::{GroupId, RunNumber, SegmentId, WalPosition};
use engine::wal::record::{EntryId, EntryRecord, HardState};
use engine::wal::recovered::{RecoverError, Recovered, RecoveredGroup};
use engine::wal::recovery::recover;
use engine::wal::writer::{Start, Writer};

const GROUP: GroupId = GroupId(1);

fn busy_world(seed: u64, steps: usize) -> World {
    let mut world = World::new(seed);
    for _ in 0..steps {
        world.step();
        world.seal_all();
        world.sync_all();
    }
    world
}

/// Steps with up to three writes in flight, then a crash with whatever is in flight.
fn run_until_crash(world: &mut World) {
    for _ in 0..world.random.below(60) {
        world.step();
        world.seal_all();
        while world.random.below(3) < world.device.pending.len() as u64 {
            world.sync_one();
        }
        if world.random.one_in(6) {
            world.sync_all();
            world.seal_cover();
        }
    }
}

#[test]
fn nothing_synced_is_lost_and_nothing_is_invented() {
    let (mut recoveries, mut recycled, mut torn) = (0, 0, 0);
    for seed in 0..1500 {
        let mut world = World::new(seed);
        for _ in 0..4 {
            run_until_crash(&mut world);
            if world.random.one_in(3) {
                world.device = world.device.cached();
            }
            world.device.cut_power(&mut world.random);
            let recovered = world.recover_and_check();
            torn += u64::from(recovered.has_torn_tail);
            world.restart(&recovered);
            world.seal_all();
            if world.random.one_in(2) {
                world.sync_all();
            }
        }
        recoveries += world.recoveries;
        recycled += world.recycled;
    }
    assert_eq!(recoveries, 6000);
    assert!(1000 < recycled, "old frames lie in the new segments: {recycled}");
    assert!(500 < torn, "tails are torn: {torn}");
}

#[test]
fn every_prefix_of_a_write_is_a_torn_tail() {
    let mut world = busy_world(11, 40);
    let size = world.writer.pending_bytes();
    assert_eq!(size, 0);
    for _ in 0..4 {
        world.step();
    }
    world.seal_all();
    let synced = world.writer.synced_position();
    let (segment, offset, bytes) = world.device.pending.back().cloned().unwrap();
    for kept in 0..=bytes.len() / 512 {
        let mut device = world.device.clone();
        device.pending.clear();
        let file = device.files.get_mut(&segment).unwrap();
        file[offset..offset + kept * 512].copy_from_slice(&bytes[..kept * 512]);
        let recovered = recover(&device).unwrap();
        assert_eq!(recovered.gaps, []);
        assert!(recovered.end == synced || recovered.end == world.writer.sealed_position());
    }
}

#[test]
fn rule_1_no_synced_block_is_written_again() {
    // The device asserts it of every write; a world that recycles and restarts often makes many.
    let mut world = World::new(1);
    for _ in 0..20 {
        run_until_crash(&mut world);
        world.device.cut_power(&mut world.random);
        let recovered = world.recover_and_check();
        world.restart(&recovered);
        world.seal_all();
    }
    assert!(10 < world.recycled);
}

#[test]
fn rule_2_a_frame_proves_where_and_when_it_belongs() {
    let world = busy_world(2, 30);
    let end = world.writer.sealed_position();
    let expected = Model::of(&recover(&world.device).unwrap());
    // Every frame, copied behind the end of the log, is no continuation of it.
    for frame in world.frames.clone() {
        if !world.device.files.contains_key(&frame.segment) {
            continue;
        }
        let mut device = world.device.clone();
        let bytes = device.files[&frame.segment][frame.offset..frame.offset + frame.size].to_vec();
        let at = end.offset_bytes() as usize;
        let file = device.files.get_mut(&end.segment()).unwrap();
        if file.len() < at + bytes.len() {
            continue;
        }
        file[at..at + bytes.len()].copy_from_slice(&bytes);
        let recovered = recover(&device).unwrap();
        assert_eq!(recovered.end, end);
        assert_eq!(Model::of(&recovered), expected);
        assert!(!recovered.has_torn_tail, "it does not even count as a frame of this log");
    }
}

#[test]
fn rule_2_a_tail_that_was_cut_never_comes_back() {
    let mut world = busy_world(3, 10);
    world.append(GROUP);
    world.seal_all();
    // The write is lost at the power cut, found after a second start, and must not count then.
    let mut late = world.device.clone();
    world.device.pending.clear();
    let recovered = world.recover_and_check();
    world.restart(&recovered);
    world.vote(GROUP);
    world.seal_all();
    world.sync_all();
    let (segment, offset, bytes) = late.pending.pop_back().unwrap();
    let file = world.device.files.get_mut(&segment).unwrap();
    file[offset..offset + bytes.len()].copy_from_slice(&bytes);
    let again = recover(&world.device).unwrap();
    assert_eq!(Model::of(&again), world.model);
    assert_eq!(again.gaps, []);
}

#[test]
fn rule_2_a_frame_of_another_history_does_not_follow() {
    // An image of the disk was restored and went on differently: same log, run and position.
    let mut one = busy_world(16, 2);
    let mut other = busy_world(16, 2);
    for (world, term) in [(&mut one, 70), (&mut other, 80)] {
        let vote = HardState { term, vote: 1, commit: 0 };
        world.writer.append_hard_state(GroupId(8), vote);
        world.model.groups.entry(GroupId(8)).or_default().hard_state = vote;
        world.seal_all();
        world.sync_all();
    }
    let end = one.writer.sealed_position();
    let expected = one.model.clone();
    for world in [&mut one, &mut other] {
        world.vote(GROUP);
        world.seal_all();
        world.sync_all();
    }
    let next = *other.frames.last().unwrap();
    assert_eq!(next, *one.frames.last().unwrap());
    assert_eq!((next.segment, next.offset as u64), (end.segment(), end.offset_bytes()));
    let range = next.offset..next.offset + next.size;
    let bytes = other.device.files[&next.segment][range.clone()].to_vec();
    one.device.files.get_mut(&next.segment).unwrap()[range].copy_from_slice(&bytes);
    let recovered = recover(&one.device).unwrap();
    assert_eq!(recovered.end, end);
    assert_eq!(Model::of(&recovered), expected);
}

#[test]
fn a_lost_first_sector_is_healed_from_the_frame_s_other_end() {
    let mut world = busy_world(17, 25);
    world.seal_cover();
    world.sync_all();
    let mut healed = 0;
    for frame in world.frames.clone() {
        let mut device = world.device.clone();
        let Some(file) = device.files.get_mut(&frame.segment) else { continue };
        file[frame.offset..frame.offset + 512].fill(0);
        let recovered = recover(&device).unwrap();
        assert_eq!(recovered.gaps, []);
        assert_eq!(Model::of(&recovered), world.model);
        healed += 1;
    }
    assert!(20 < healed);
}

#[test]
fn rule_3_what_a_later_frame_knew_to_be_synced_is_no_torn_tail() {
    let mut world = busy_world(4, 12);
    let last = *world.frames.last().unwrap();
    // Without a frame behind it, damage in the last frame cannot be told from a torn tail.
    let mut device = world.device.clone();
    wipe(&mut device.files.get_mut(&last.segment).unwrap()[..], last);
    assert_eq!(recover(&device).unwrap().gaps, []);
    // An empty frame is enough to tell them apart.
    assert!(world.writer.needs_cover());
    world.seal_cover();
    assert!(!world.writer.needs_cover());
    world.sync_all();
    assert!(!world.writer.needs_cover(), "an empty frame needs no cover of its own");
    let mut device = world.device.clone();
    wipe(&mut device.files.get_mut(&last.segment).unwrap()[..], last);
    let recovered = recover(&device).unwrap();
    assert_eq!(recovered.gaps.len(), 1);
    assert!(!recovered.gaps[0].has_directory);
    assert_eq!(recovered.end, world.writer.sealed_position());
}

#[test]
fn rule_3_a_valid_frame_behind_a_torn_one_proves_nothing() {
    let mut world = busy_world(5, 12);
    let synced = world.writer.synced_position();
    let expected = world.model.clone();
    for _ in 0..2 {
        world.append(GROUP);
        world.seal_all();
    }
    // The first of two writes in flight is lost, the second survives.
    world.device.pending.pop_front();
    assert!(world.device.sync_one());
    let recovered = recover(&world.device).unwrap();
    assert!(recovered.has_torn_tail);
    assert_eq!(recovered.end, synced);
    assert_eq!(Model::of(&recovered), expected);
}

#[test]
fn rule_4_what_was_read_is_synced_before_the_next_run_says_so() {
    let mut world = busy_world(6, 20);
    for _ in 0..3 {
        world.step();
        world.seal_all();
    }
    // The process dies: everything written is readable, nothing of it durable yet.
    let mut cache = world.device.cached();
    std::mem::swap(&mut cache, &mut world.device);
    let recovered = world.recover_and_check();
    assert_eq!(recovered.end, world.writer.sealed_position());
    // The caller syncs what it read, so the claim in the next head is true; a power cut then
    // costs nothing.
    world.restart(&recovered);
    assert_eq!(world.writer.synced_position(), recovered.end);
    world.seal_all();
    world.device.cut_power(&mut world.random);
    let again = recover(&world.device).unwrap();
    assert_eq!(again.gaps, []);
    assert_eq!(Model::of(&again), world.model);
    // Had it not synced, the claim makes the loss visible instead of hiding it.
    let mut unsynced = cache;
    unsynced.pending.clear();
    let head = recovered.start(RunNumber(2)).next_segment;
    let mut writer = Writer::new(Start { sizes: SIZES, ..recovered.start(RunNumber(2)) });
    let file = writer.wants_segment().unwrap();
    assert_eq!(file.id, head);
    unsynced.create(file, Vec::new());
    writer.segment_ready(head);
    unsynced.write(&writer.seal().unwrap());
    unsynced.sync_one();
    assert_ne!(recover(&unsynced).unwrap().gaps, []);
}

#[test]
fn rule_5_segments_carry_their_groups() {
    let mut world = World::new(7);
    let idle = GroupId(9);
    let vote = HardState { term: 7, vote: 3, commit: 0 };
    world.writer.append_hard_state(idle, vote);
    world.model.groups.entry(idle).or_default().hard_state = vote;
    world.seal_all();
    world.sync_all();
    for _ in 0..600 {
        world.step();
        world.vote(GROUP);
        world.checkpoint(GROUP);
        world.seal_all();
        world.sync_all();
    }
    assert!(!world.device.files.contains_key(&SegmentId(1)), "the vote's segment was recycled");
    let recovered = world.recover_and_check();
    assert_eq!(recovered.groups[&idle].state.hard_state, vote);
}

#[test]
fn rule_6_nobody_pins_the_log() {
    let mut world = World::new(8);
    let idle = GroupId(9);
    let mut writer = Writer::new(Start { sizes: SIZES, ..Start::fresh(LOG_ID, RunNumber(1)) });
    std::mem::swap(&mut world.writer, &mut writer);
    world.device = device::Device::default();
    world.seal_all();
    world.append(idle);
    world.append(idle);
    let entries = world.model.groups[&idle].entries.clone();
    for step in 0..200 {
        world.rewrite_oldest();
        for _ in 0..8 {
            world.append(GROUP);
        }
        world.vote(GROUP);
        world.checkpoint(GROUP);
        world.seal_all();
        world.sync_all();
        let bound = 8 * SIZES.other_bytes;
        assert!(world.writer.retained_bytes() <= bound, "step {step}");
    }
    let recovered = world.recover_and_check();
    assert_eq!(recovered.groups[&idle].entries.len(), entries.len());
    // Who does not want them any more drops them.
    let last = world.model.groups[&idle].last;
    world.writer.append_checkpoint(idle, last);
    assert!(SegmentId(3) < recovered.segments[0].id);
}

#[test]
fn rule_7_a_group_that_moved_is_where_its_run_is_highest() {
    let mut old = busy_world(9, 30);
    let group = old.model.groups.keys().next().copied().unwrap();
    let mut recovered = old.recover_and_check();
    let moved = recovered.groups.remove(&group).unwrap();
    // The other WAL takes it over with the new run number, and only then the old one goes on.
    let mut new = World::new(10);
    let mut recovered_new = new.recover_and_check();
    recovered_new.run = recovered.run;
    new.restart(&recovered_new);
    new.writer.append_checkpoint(group, moved.state.checkpoint);
    new.writer.append_hard_state(group, moved.state.hard_state);
    for entry in &moved.entries {
        let (index, term, kind) = (entry.index, entry.term, entry.kind);
        new.writer.append_entry(EntryRecord { group, index, term, kind, data: &entry.data });
    }
    new.model.groups.insert(group, old.model.groups.remove(&group).unwrap());
    new.model.groups.get_mut(&group).unwrap().install = None;
    new.seal_all();
    new.sync_all();
    let here = new.recover_and_check();
    let there = recover(&old.device).unwrap();
    assert!(there.groups[&group].run < here.groups[&group].run);
    old.restart(&recovered);
    old.seal_all();
    old.sync_all();
    assert!(!recover(&old.device).unwrap().groups.contains_key(&group));
}

#[test]
fn rule_8_the_first_segment_is_small() {
    let mut writer = Writer::new(Start::fresh(LOG_ID, RunNumber(1)));
    let first = writer.wants_segment().unwrap();
    assert_eq!((first.id, first.size_bytes), (SegmentId(1), SEGMENT_FIRST_SIZE_BYTES));
    assert!(writer.seal().is_none(), "nothing is written to a file that is not there");
    writer.segment_ready(first.id);
    assert!(writer.wants_segment().is_none());
    assert!(writer.seal().is_some());
    // The next one is asked for as soon as this one is begun.
    let second = writer.wants_segment().unwrap();
    assert_eq!((second.id, second.size_bytes), (SegmentId(2), SEGMENT_SIZE_BYTES));
}

#[test]
fn a_frame_waits_for_its_segment() {
    let mut world = World::new(12);
    world.prepare_segments();
    let mut writer = Writer::new(Start { sizes: SIZES, ..Start::fresh(LOG_ID, RunNumber(1)) });
    writer.segment_ready(SegmentId(1));
    let head = writer.seal().unwrap();
    writer.synced(head.end);
    let data = [5; 20000];
    for index in 1..=3 {
        writer.append_entry(EntryRecord { group: GROUP, index, term: 1, kind: 0, data: &data });
    }
    assert!(writer.seal().is_none(), "60 kB do not fit, and the next file is not ready");
    assert!(!writer.is_empty());
    writer.segment_ready(SegmentId(2));
    let head = writer.seal().unwrap();
    assert_eq!((head.segment, head.offset_bytes), (SegmentId(2), 0));
    let frame = writer.seal().unwrap();
    assert_eq!(frame.segment, SegmentId(2));
    assert_eq!(frame.offset_bytes, head.buffer.size_bytes() as u64);
    assert!(writer.is_empty());
}

fn wipe(file: &mut [u8], frame: FramePlace) {
    file[frame.offset..frame.offset + frame.size].fill(0);
}

/// Damages a synced frame that is covered; says what was done.
fn damage(world: &mut World, random: &mut Random) -> &'static str {
    let is_there = |frame: &&FramePlace| world.device.files.contains_key(&frame.segment);
    let frames: Vec<FramePlace> = world.frames.iter().filter(is_there).copied().collect();
    // The last one is the cover.
    let frame = frames[random.below(frames.len() as u64 - 1) as usize];
    let other = frames[random.below(frames.len() as u64) as usize];
    let other_bytes =
        world.device.files[&other.segment][other.offset..other.offset + other.size].to_vec();
    let file = world.device.files.get_mut(&frame.segment).unwrap();
    let bytes = &mut file[frame.offset..frame.offset + frame.size];
    match random.below(6) {
        0 => {
            let bit = random.below(bytes.len() as u64 * 8) as usize;
            bytes[bit / 8] ^= 1 << (bit % 8);
            "a flipped bit"
        }
        1 => {
            let sector = random.below((bytes.len() / 512) as u64) as usize;
            bytes[sector * 512..][..512].fill(random.next() as u8);
            "a broken sector"
        }
        2 => {
            let first = random.below((bytes.len() / 512) as u64) as usize;
            bytes[first * 512..].fill(0);
            "a lost end"
        }
        3 => {
            bytes.fill(0xee);
            "a lost write"
        }
        4 => {
            let size = bytes.len().min(other_bytes.len());
            bytes[..size].copy_from_slice(&other_bytes[..size]);
            "a misdirected write"
        }
        _ => {
            let block = random.below((bytes.len() / BLOCK_SIZE_BYTES) as u64);
            let at = frame.offset as u64 + block * BLOCK_SIZE_BYTES as u64;
            world.device.bad.insert((frame.segment, at));
            "an unreadable block"
        }
    }
}

/// A group with damage: what is known is true, and what is not known is said.
fn check_damaged(model: &Model, recovered: &Recovered, what: &str) {
    let all_named = recovered.gaps.iter().all(|gap| gap.has_directory);
    for (id, truth) in &model.groups {
        let Some(found) = recovered.groups.get(id) else {
            assert!(!all_named, "{what}: group {} is lost in silence", id.0);
            continue;
        };
        let is_certain = !found.state.is_damaged;
        assert!(is_certain || !all_named, "{what}: a directory is enough to vote by");
        if is_certain {
            assert_eq!(found.state.hard_state, truth.hard_state, "{what}");
            assert_eq!(found.last(), truth.last, "{what}");
        }
        check_entries(truth, found, is_certain, what);
    }
    if all_named {
        assert!(recovered.groups.keys().eq(model.groups.keys()), "{what}: groups that left");
    }
    if !recovered.has_lost_notes {
        assert_eq!(recovered.notes, model.notes, "{what}");
    }
}

fn check_entries(truth: &device::ModelGroup, found: &RecoveredGroup, is_certain: bool, what: &str) {
    for entry in &found.entries {
        if truth.checkpoint.index < entry.index {
            let expected = truth.entries.get(&entry.index);
            let entry_found = (entry.term, entry.data.to_vec());
            assert_eq!(Some(&entry_found), expected, "{what}: entry {} invented", entry.index);
        }
    }
    for index in truth.entries.keys() {
        let is_there = found.entries.binary_search_by_key(index, |entry| entry.index).is_ok();
        let is_missing = found.missing.iter().any(|(first, last)| first <= index && index <= last);
        assert!(is_there != is_missing || !is_certain, "{what}: entry {index} lost in silence");
    }
}

#[test]
fn a_corrupt_middle_is_told_and_nothing_is_lost_in_silence() {
    let (mut named, mut unknown, mut healed) = (0, 0, 0);
    for seed in 0..1500 {
        let mut world = World::new(seed);
        for _ in 0..2 {
            run_until_crash(&mut world);
            world.device.cut_power(&mut world.random);
            let recovered = world.recover_and_check();
            world.restart(&recovered);
            world.seal_all();
        }
        run_until_crash(&mut world);
        world.append(GROUP);
        world.seal_all();
        world.sync_all();
        world.seal_cover();
        world.sync_all();
        let mut random = Random(seed ^ 0xdada);
        let what = damage(&mut world, &mut random);
        let what = format!("seed {seed}, {what}");
        let recovered = match recover(&world.device) {
            Ok(recovered) => recovered,
            Err(RecoverError::NoFrames) => continue,
            Err(error) => panic!("{what}: {error}"),
        };
        assert_eq!(recovered.end, world.writer.sealed_position(), "{what}");
        if recovered.gaps.is_empty() {
            assert_eq!(Model::of(&recovered), world.model, "{what}");
            healed += 1;
        } else {
            check_damaged(&world.model, &recovered, &what);
            named += u64::from(recovered.gaps.iter().all(|gap| gap.has_directory));
            unknown += u64::from(recovered.gaps.iter().any(|gap| !gap.has_directory));
        }
        // Damage is found again by the next start, and said again until it is mended.
        let again = recover(&world.device).unwrap();
        assert_eq!(again.gaps, recovered.gaps, "{what}");
    }
    assert!(150 < named && 500 < unknown && 100 < healed, "{named} {unknown} {healed}");
}

#[test]
fn damage_is_remembered_until_it_is_mended() {
    let mut world = busy_world(14, 30);
    world.append(GROUP);
    world.seal_all();
    let lost = *world.frames.last().unwrap();
    world.sync_all();
    world.seal_cover();
    world.sync_all();
    wipe(&mut world.device.files.get_mut(&lost.segment).unwrap()[..], lost);
    let recovered = recover(&world.device).unwrap();
    assert!(recovered.groups[&GROUP].state.is_damaged);
    world.restart(&recovered);
    world.seal_all();
    world.sync_all();
    let again = recover(&world.device).unwrap();
    assert!(again.groups[&GROUP].state.is_damaged, "the new head does not hide it");
    let last = EntryId { index: world.model.groups[&GROUP].last.index + 50, term: 9 };
    world.restart(&again);
    world.writer.append_checkpoint(GROUP, last);
    world.writer.append_mended(GROUP);
    world.seal_all();
    world.sync_all();
    let mended = recover(&world.device).unwrap();
    assert!(!mended.groups[&GROUP].state.is_damaged);
    assert_eq!(mended.groups[&GROUP].last(), last);
    assert!(mended.groups[&GROUP].missing.is_empty());
}

#[test]
fn hostile_bytes_never_panic() {
    for seed in 0..400 {
        let mut world = busy_world(seed, 12);
        let mut random = Random(seed ^ 0xbad);
        for file in world.device.files.values_mut() {
            for _ in 0..random.below(40) {
                let at = random.below(file.len() as u64 - 8) as usize;
                let word = if random.one_in(2) { random.next() } else { random.below(9) };
                file[at..at + 8].copy_from_slice(&word.to_le_bytes());
            }
        }
        if let Ok(recovered) = recover(&world.device) {
            let start = recovered.start(RunNumber(99));
            let mut writer = Writer::new(Start { sizes: SIZES, ..start });
            writer.segment_ready(writer.wants_segment().unwrap().id);
            assert!(writer.seal().is_some());
        }
    }
}

#[test]
fn files_that_are_no_log_are_refused() {
    let mut world = busy_world(15, 3);
    let good = world.device.clone();
    for file in world.device.files.values_mut() {
        file.fill(0);
    }
    assert_eq!(recover(&world.device).err(), Some(RecoverError::NoFrames));
    world.device = good.clone();
    let id = SegmentId(9);
    world.device.files.insert(id, vec![0; 100]);
    assert!(matches!(recover(&world.device).err(), Some(RecoverError::BadSegmentSize(_))));
    world.device = good;
    let mut writer = Writer::new(Start {
        next_segment: id,
        sizes: SIZES,
        ..Start::fresh(engine::wal::position::LogId(1), RunNumber(1))
    });
    let file = writer.wants_segment().unwrap();
    writer.segment_ready(id);
    world.device.create(file, Vec::new());
    world.device.write(&writer.seal().unwrap());
    assert!(world.device.sync_one());
    assert!(matches!(recover(&world.device).err(), Some(RecoverError::MixedLogs(..))));
}

#[test]
fn large_appends_make_several_frames() {
    let mut writer = Writer::new(Start::fresh(LOG_ID, RunNumber(1)));
    let mut device = device::Device::default();
    let data = vec![7; 400_000];
    for index in 1..=20 {
        writer.append_entry(EntryRecord { group: GROUP, index, term: 1, kind: 0, data: &data });
    }
    let mut writes = 0;
    loop {
        if let Some(file) = writer.wants_segment() {
            device.create(file, Vec::new());
            writer.segment_ready(file.id);
        }
        let Some(write) = writer.seal() else { break };
        assert!(write.buffer.size_bytes() < 2 << 20);
        device.write(&write);
        assert!(device.sync_one());
        writer.synced(write.end);
        writer.recycle(write.buffer);
        writes += 1;
    }
    assert_eq!(writes, 12, "ten frames of two entries, and two heads");
    let recovered = recover(&device).unwrap();
    assert_eq!(recovered.groups[&GROUP].entries.len(), 20);
    assert_eq!(recovered.end, writer.synced_position());
    assert!(WalPosition::new(SegmentId(2), 0) < recovered.end);
}
