//! A member with all keys in it: memory, counting, restarts; then what `steady` measures.

use crate::Arguments;
use crate::steady;
use bench::affinity::{Cores, pin_to};
use bench::calls::Caller;
use bench::error::BenchError;
use bench::load::{Operation, Pacing, Plan, Protocol};
use bench::member::{Member, MemberOptions};
use bench::report::{median, mib, ms};
use bench::workload::{KeyOrder, Workload};
use std::time::{Duration, Instant};

pub(crate) fn measure_shuffled(
    arguments: &Arguments,
    options: &MemberOptions,
) -> Result<(), BenchError> {
    println!("# {} keys of {} B, random order", arguments.keys, arguments.value_bytes);
    let workload = workload(arguments);
    let mut member = filled(options, &workload, KeyOrder::Shuffled)?;
    measure_memory(&member, &workload)?;
    measure_count(&member, &workload)?;
    measure_restarts(&mut member, &workload)?;
    write(&member, workload.ordered(KeyOrder::Drawn), arguments.revisions)?;
    steady::measure(arguments, &member, &workload)?;
    member.stop()
}

pub(crate) fn measure_ordered(
    arguments: &Arguments,
    options: &MemberOptions,
) -> Result<(), BenchError> {
    println!("# {} keys of {} B, key order", arguments.keys, arguments.value_bytes);
    let workload = workload(arguments);
    let mut member = filled(options, &workload, KeyOrder::Ascending)?;
    measure_memory(&member, &workload)?;
    measure_count(&member, &workload)?;
    member.stop()
}

fn workload(arguments: &Arguments) -> Workload {
    let sizes = [arguments.key_bytes, arguments.value_bytes];
    Workload::new("scale/", arguments.keys, sizes, KeyOrder::Ascending)
}

fn filled(
    options: &MemberOptions,
    workload: &Workload,
    order: KeyOrder,
) -> Result<Member, BenchError> {
    let member = Member::start(options)?;
    let cores = Cores::allowed()?;
    pin_to(cores.of_load(options.cores))?;
    let begin = Instant::now();
    write(&member, workload.ordered(order), workload.keys())?;
    let elapsed = begin.elapsed();
    let per_s = workload.keys() as f64 / elapsed.as_secs_f64();
    println!("loaded in {:.1} s ({per_s:.0} puts/s)", elapsed.as_secs_f64());
    pin_to(cores.of_member(0))?;
    Ok(member)
}

/// Writes `count` keys as fast as the member takes them.
fn write(member: &Member, workload: Workload, count: u64) -> Result<(), BenchError> {
    let (protocol, address, connections) = match member.binary_address() {
        Some(address) => (Protocol::Binary, address, 4),
        None => (Protocol::Grpc, member.client_address(), 16),
    };
    let plan = Plan {
        protocol,
        addresses: vec![address],
        operation: Operation::Put,
        workload,
        connections,
        pacing: Pacing::Closed { outstanding: 256 },
        calls: Some(count),
    };
    let tally = plan.start()?.join()?;
    match tally.failure {
        None => Ok(()),
        Some(text) => Err(BenchError::Call(text)),
    }
}

/// Everything is read before each look: a page that nobody touched is not mapped, and would not be
/// counted although it takes memory as soon as it is used.
fn measure_memory(member: &Member, workload: &Workload) -> Result<(), BenchError> {
    let mut caller = Caller::connect(&member.client_address())?;
    caller.read_everything()?;
    print_memory("before a compaction, everything read", member, workload)?;
    let revision = caller.put(b"mark", b"")?;
    let begin = Instant::now();
    caller.compact(revision)?;
    println!("compacted {revision} revisions in {}", ms(begin.elapsed()));
    std::thread::sleep(SETTLE);
    print_memory("seconds after it", member, workload)?;
    caller.read_everything()?;
    print_memory("with everything read again", member, workload)
}

fn print_memory(when: &str, member: &Member, workload: &Workload) -> Result<(), BenchError> {
    let memory = member.memory()?;
    let live = workload.live_size_bytes() as f64;
    println!(
        "resident {when}: {:.2} x live ({}: private {}, mapped {}; on disk {})",
        memory.resident_bytes() as f64 / live,
        mib(memory.resident_bytes()),
        mib(memory.anonymous_bytes),
        mib(memory.file_bytes),
        mib(member.disk_size_bytes()?)
    );
    Ok(())
}

fn measure_count(member: &Member, workload: &Workload) -> Result<(), BenchError> {
    let mut caller = Caller::connect(&member.client_address())?;
    let mut times_ms = Vec::new();
    for _ in 0..COUNTS {
        let begin = Instant::now();
        let count = caller.count()?;
        times_ms.push(begin.elapsed().as_secs_f64() * 1e3);
        // The workload and the mark.
        if count != workload.keys() as i64 + 1 {
            return Err(BenchError::Call(format!("counted {count} keys")));
        }
    }
    println!("count over everything: {:.3} ms", median(times_ms));
    Ok(())
}

fn measure_restarts(member: &mut Member, workload: &Workload) -> Result<(), BenchError> {
    let mut clean_ms = Vec::new();
    let mut killed_ms = Vec::new();
    for _ in 0..RESTARTS {
        write(member, workload.ordered(KeyOrder::Drawn), WRITES_BEFORE_END)?;
        let begin = Instant::now();
        member.stop()?;
        let stopping = begin.elapsed();
        clean_ms.push(member.restart()?.as_secs_f64() * 1e3);
        write(member, workload.ordered(KeyOrder::Drawn), WRITES_BEFORE_END)?;
        member.kill()?;
        killed_ms.push(member.restart()?.as_secs_f64() * 1e3);
        println!(
            "stopped in {}; restart to the first read: {:.0} ms, after kill -9 {:.0} ms",
            ms(stopping),
            clean_ms[clean_ms.len() - 1],
            killed_ms[killed_ms.len() - 1]
        );
    }
    println!(
        "restart to the first linearizable read: {:.0} ms after a clean stop",
        median(clean_ms)
    );
    println!("restart to the first linearizable read: {:.0} ms after kill -9", median(killed_ms));
    Ok(())
}

const COUNTS: usize = 21;
const RESTARTS: usize = 3;

/// So that a restart has something to replay.
const WRITES_BEFORE_END: u64 = 20_000;

const SETTLE: Duration = Duration::from_secs(3);
