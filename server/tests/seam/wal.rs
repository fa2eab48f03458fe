//! The WAL: order, faults, and a stop with writes in flight.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use engine::page::map::PAGE_SIZE_BYTES;
use engine::wal::buffer::WalBuffer;
use engine::wal::position::{SegmentId, WalPosition};
use engine::wal::source::SegmentSource;
use engine::wal::writer::WalWrite;
use server::driver::uring;
use server::driver::waker::Waker;
use server::driver::wal_faults::WalFaults;
use server::driver::wal_files::WalDirectory;
use server::error::Fault;
use shard::effect::{Effect, Effects, SegmentOrigin};
use shard::input::Input;

use super::running::{Driver, PATIENCE, Running, keep_house};

fn block(fill: u8, blocks: usize) -> WalBuffer {
    let mut buffer = WalBuffer::new();
    buffer.extend_from_slice(&vec![fill; 4096 * blocks]);
    buffer
}

fn wal_write(segment: u64, slot: u64, fill: u8) -> WalWrite {
    let segment = SegmentId(segment);
    let offset_bytes = slot * 8192;
    let end = WalPosition::new(segment, offset_bytes + 8192);
    WalWrite { segment, offset_bytes, buffer: block(fill, 2), end }
}

/// Writes are told in order with their buffers, are on disk, and a segment is recycled and deleted.
fn wal_writes_complete_in_order(driver: Driver) {
    let (done, finished) = channel();
    let running = Running::start(driver, move |_| {
        let mut is_first = true;
        let mut started = false;
        let mut synced = Vec::new();
        move |_, inputs: &mut Vec<Input>, effects: &mut Effects| {
            keep_house(&mut is_first, inputs, effects);
            if !std::mem::replace(&mut started, true) {
                effects.push(Effect::WalSegmentPrepare {
                    segment: SegmentId(1),
                    size_bytes: 1 << 20,
                    origin: SegmentOrigin::Fresh,
                });
            }
            for input in inputs.drain(..) {
                match input {
                    Input::WalSegmentReady { segment: SegmentId(1) } => {
                        // Several at once: a driver may overlap them, the order stays.
                        for slot in 0..8 {
                            effects.push(Effect::WalWrite(wal_write(1, slot, slot as u8 + 1)));
                        }
                    }
                    Input::WalSynced { end, buffer } => {
                        assert_eq!(buffer.size_bytes(), 8192);
                        synced.push(end);
                        if synced.len() == 8 {
                            assert!(synced.is_sorted());
                            effects.push(Effect::WalSegmentPrepare {
                                segment: SegmentId(2),
                                size_bytes: 2 << 20,
                                origin: SegmentOrigin::Recycled(SegmentId(1)),
                            });
                        }
                        if synced.len() == 9 {
                            done.send(()).unwrap();
                        }
                    }
                    Input::WalSegmentReady { segment: SegmentId(2) } => {
                        effects.push(Effect::WalWrite(wal_write(2, 0, 99)));
                        effects.push(Effect::WalSegmentDelete { segment: SegmentId(1) });
                    }
                    _ => {}
                }
            }
        }
    });
    finished.recv_timeout(PATIENCE).unwrap();
    let directory = Arc::clone(&running.directory);
    running.stop().unwrap();
    let wal = WalDirectory::open(directory.path()).unwrap();
    let segments = wal.segments();
    assert_eq!(segments.len(), 1);
    assert_eq!((segments[0].id, segments[0].size_bytes), (SegmentId(2), 2 << 20));
    for slot in 0..8_u64 {
        let mut bytes = vec![0; 8192];
        wal.read(SegmentId(2), slot * 8192, &mut bytes).unwrap();
        let fill = if slot == 0 { 99 } else { slot as u8 + 1 };
        assert!(bytes.iter().all(|byte| *byte == fill), "slot {slot}");
    }
}

/// While a program lets calls gather, clients' bytes lie where they are; a write that became
/// durable ends it, and so does the time.
fn what_gathers_waits_for_a_write_or_the_time(driver: Driver) {
    const GATHERING_US: u64 = 50_000;
    let (told, steps) = channel();
    let running = Running::start(driver, move |_| {
        let mut is_first = true;
        let mut until_us = 0;
        let mut round = 0;
        let mut kept = None;
        move |now_us, inputs: &mut Vec<Input>, effects: &mut Effects| {
            keep_house(&mut is_first, inputs, effects);
            for input in inputs.drain(..) {
                match input {
                    Input::Received { connection, bytes } if round == 1 => {
                        told.send((round, until_us <= now_us)).unwrap();
                        kept = Some(Effect::Transmit { connection, bytes });
                        effects.push(Effect::WalSegmentPrepare {
                            segment: SegmentId(1),
                            size_bytes: 1 << 20,
                            origin: SegmentOrigin::Fresh,
                        });
                    }
                    Input::Received { connection, bytes } => {
                        told.send((round, until_us <= now_us)).unwrap();
                        effects.push(Effect::Transmit { connection, bytes });
                        until_us = now_us + GATHERING_US;
                        effects.gather_until_us = (round == 0).then_some(until_us);
                        round += 1;
                    }
                    Input::WalSegmentReady { .. } => {
                        effects.push(Effect::WalWrite(wal_write(1, 0, 7)));
                        effects.list.extend(kept.take());
                        // Longer than the test is patient.
                        until_us = now_us + 2 * PATIENCE.as_micros() as u64;
                        effects.gather_until_us = Some(until_us);
                        round += 1;
                    }
                    _ => {}
                }
            }
        }
    });
    running.await_serving();
    let mut stream = running.connect();
    let mut byte = [0];
    for round in 0..3 {
        stream.write_all(&[round]).unwrap();
        stream.read_exact(&mut byte).unwrap();
        assert_eq!(byte, [round]);
    }
    running.stop().unwrap();
    let told: Vec<_> = steps.iter().collect();
    let expected = [(0, true), (1, true), (2, false)];
    assert_eq!(told, expected, "the second waited for the time, the third for the write alone");
}

/// A core's WAL writer alone, to be given files that fail.
fn faulty_write(driver: Driver, file: File) -> Fault {
    use server::driver::wal_writer::{ThreadWalWriter, WalWriter};
    fn drive(mut writer: impl WalWriter, file: File) -> Fault {
        writer.attach(SegmentId(1), file);
        let began = Instant::now();
        if let Err(fault) = writer.write(wal_write(1, 0, 5)) {
            return fault;
        }
        loop {
            let mut inputs = Vec::new();
            if let Err(fault) = writer.completed(&mut inputs) {
                return fault;
            }
            assert!(inputs.is_empty(), "a failed write must never be told durable");
            assert!(began.elapsed() < PATIENCE);
            std::thread::yield_now();
        }
    }
    match driver {
        Driver::Portable => drive(ThreadWalWriter::start(Waker::new().unwrap()).unwrap(), file),
        Driver::Uring => drive(uring::ring::RingWalWriter::new().unwrap(), file),
    }
}

fn failed_writes_and_syncs_are_faults(driver: Driver) {
    let open = |path: &str| File::options().read(true).write(true).open(path).unwrap();
    // Every write to /dev/full fails for want of space; /dev/null takes all and syncs nothing.
    let full = faulty_write(driver, open("/dev/full"));
    assert!(matches!(full, Fault::WalWrite { segment: 1, .. }), "{full:?}");
    assert!(full.to_string().contains("No space left"), "{full}");
    let null = faulty_write(driver, open("/dev/null"));
    assert!(matches!(null, Fault::WalSync { segment: 1, .. }), "{null:?}");
    let read_only = faulty_write(driver, File::open("/dev/zero").unwrap());
    assert!(matches!(read_only, Fault::WalWrite { .. }), "{read_only:?}");
}

/// A file that may not grow takes the first half of a write only.
fn a_short_write_is_a_fault(driver: Driver) {
    use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
    let memory = memfd_create("short", MemfdFlags::ALLOW_SEALING).unwrap();
    let file = File::from(memory);
    file.set_len(4096).unwrap();
    fcntl_add_seals(&file, SealFlags::GROW).unwrap();
    let fault = faulty_write(driver, file);
    assert!(matches!(fault, Fault::WalWrite { size_bytes: 8192, .. }), "{fault:?}");
}

/// Asked to stop with writes under way, a core finishes them first.
fn a_stop_waits_for_io_in_flight(driver: Driver) {
    let running = Running::start(driver, move |_| {
        let mut started = false;
        move |_, inputs: &mut Vec<Input>, effects: &mut Effects| {
            if !std::mem::replace(&mut started, true) {
                effects.push(Effect::WalSegmentPrepare {
                    segment: SegmentId(1),
                    size_bytes: 1 << 20,
                    origin: SegmentOrigin::Fresh,
                });
            }
            for input in inputs.drain(..) {
                if let Input::WalSegmentReady { .. } = input {
                    for slot in 0..32 {
                        effects.push(Effect::WalWrite(wal_write(1, slot, 3)));
                    }
                    let bytes: Arc<[u8]> = vec![6; 16 * PAGE_SIZE_BYTES].into();
                    effects.push(Effect::PageWrite { first: 2, bytes });
                    effects.push(Effect::PageSync { interval: 1 });
                    effects.push(Effect::Serve);
                    effects.push(Effect::Stop);
                }
            }
        }
    });
    running.await_serving();
    let Running { thread, directory, .. } = running;
    thread.join().unwrap().unwrap();
    let wal = WalDirectory::open(directory.path()).unwrap();
    let mut bytes = vec![0; 8192];
    wal.read(SegmentId(1), 31 * 8192, &mut bytes).unwrap();
    assert!(bytes.iter().all(|byte| *byte == 3));
    let pages = File::open(directory.path().join("default.pages")).unwrap();
    let mut page = [0; 1];
    pages.read_exact_at(&mut page, 17 * PAGE_SIZE_BYTES as u64).unwrap();
    assert_eq!(page, [6]);
}

/// Writes at once whatever it is told to by a byte: `w` two blocks. Tells when each is synced.
fn writer(
    synced: Sender<(WalPosition, Instant)>,
    ready: Sender<()>,
) -> impl FnMut(u64, &mut Vec<Input>, &mut Effects) {
    let mut is_first = true;
    let mut slot = 0;
    move |_, inputs: &mut Vec<Input>, effects: &mut Effects| {
        if is_first {
            effects.push(Effect::WalSegmentPrepare {
                segment: SegmentId(1),
                size_bytes: 1 << 20,
                origin: SegmentOrigin::Fresh,
            });
        }
        keep_house(&mut is_first, inputs, effects);
        for input in inputs.drain(..) {
            match input {
                Input::WalSegmentReady { .. } => ready.send(()).unwrap(),
                Input::Received { connection, bytes } => {
                    for _ in bytes.iter().filter(|byte| **byte == b'w') {
                        effects.push(Effect::WalWrite(wal_write(1, slot, 1)));
                        slot += 1;
                    }
                    // The core is not held up by what the disk does.
                    effects.push(Effect::Transmit { connection, bytes });
                }
                Input::WalSynced { end, .. } => synced.send((end, Instant::now())).unwrap(),
                _ => {}
            }
        }
    }
}

/// With the flags of tests completions come late or not at all, in order, while the core goes on.
fn a_slow_and_a_hanging_disk_are_played(driver: Driver) {
    let (synced, completions) = channel();
    let (ready, segment) = channel();
    let directory = Arc::new(tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap());
    let hang_file = directory.path().join("hang");
    let delay = Duration::from_millis(60);
    let faults = WalFaults { sync_delay: delay, hang_file: Some(hang_file.clone()) };
    let running = Running::start_in(directory, driver, Some(faults), |_| writer(synced, ready));
    running.await_serving();
    segment.recv_timeout(PATIENCE).unwrap();
    let mut stream = running.connect();
    let mut say = |bytes: &[u8]| {
        let began = Instant::now();
        stream.write_all(bytes).unwrap();
        let mut echo = vec![0; bytes.len()];
        stream.read_exact(&mut echo).unwrap();
        began
    };
    let began = say(b"ww");
    let (first, at) = completions.recv_timeout(PATIENCE).unwrap();
    assert!(delay <= at - began, "told after {:?}", at - began);
    let (second, _) = completions.recv_timeout(PATIENCE).unwrap();
    assert!(first < second);
    File::create(&hang_file).unwrap();
    say(b"w");
    let until = Instant::now() + 5 * delay;
    // The core answers all the while, and nothing is durable.
    while Instant::now() < until {
        say(b".");
    }
    assert!(completions.try_recv().is_err());
    std::fs::remove_file(&hang_file).unwrap();
    let (third, _) = completions.recv_timeout(PATIENCE).unwrap();
    assert!(second < third);
    // A stop waits for what is held back.
    say(b"w");
    running.stop().unwrap();
}

on_both_drivers! {
    wal_writes_complete_in_order
    what_gathers_waits_for_a_write_or_the_time
    failed_writes_and_syncs_are_faults
    a_short_write_is_a_fault
    a_stop_waits_for_io_in_flight
    a_slow_and_a_hanging_disk_are_played
}
