//! Steady puts at a fixed rate, and what a compaction, a transaction of big ranges and a deletion
//! of everything do to their latency.

use crate::Arguments;
use bench::affinity::{Cores, pin_to};
use bench::calls::Caller;
use bench::error::{BenchError, io_error};
use bench::load::{Operation, Pacing, Plan, Protocol, Running};
use bench::member::Member;
use bench::metrics::Buckets;
use bench::report::ms;
use bench::workload::{KeyOrder, Workload};
use bytes::Bytes;
use std::time::{Duration, Instant};

pub(crate) fn measure(
    arguments: &Arguments,
    member: &Member,
    workload: &Workload,
) -> Result<(), BenchError> {
    // The member has its core already.
    pin_to(Cores::allowed()?.of_load(1))?;
    let running = start(arguments, member)?;
    let steady = Steady { member, running };
    steady.warm_up();
    let quiet = steady.beside("nothing else", &mut |_caller| {
        std::thread::sleep(QUIET);
        Ok(String::new())
    })?;
    let busy = steady.beside("a compaction", &mut |caller| {
        let revision = caller.put(b"mark", b"")?;
        caller.compact(revision)?;
        Ok(format!("at revision {revision}"))
    })?;
    println!(
        "put p99 beside a compaction of {} revisions: {:.2} x quiet",
        arguments.revisions,
        busy.as_secs_f64() / quiet.as_secs_f64()
    );
    for (title, put) in [("128 big ranges", None), ("127 big ranges and a put", Some(&b"mark"[..]))]
    {
        steady.beside(title, &mut |caller| {
            let count = if put.is_some() { 127 } else { 128 };
            let ranges = ranges(workload, count);
            let read = caller.read_ranges(ranges, arguments.range_keys, put)?;
            Ok(format!("{read} keys read"))
        })?;
    }
    steady.beside("a deletion of everything", &mut |caller| {
        Ok(format!("{} keys deleted", caller.delete_everything()?))
    })?;
    let tally = steady.running.stop()?;
    pin_to(Cores::allowed()?.of_member(0))?;
    match tally.failure {
        None => Ok(()),
        Some(text) => Err(BenchError::Call(text)),
    }
}

fn start(arguments: &Arguments, member: &Member) -> Result<Running, BenchError> {
    let sizes = [arguments.key_bytes, arguments.value_bytes];
    let plan = Plan {
        protocol: Protocol::Grpc,
        addresses: vec![member.client_address()],
        operation: Operation::Put,
        workload: Workload::new("steady/", STEADY_KEYS, sizes, KeyOrder::Drawn),
        connections: 4,
        pacing: Pacing::Open { per_s: arguments.rate },
        calls: None,
    };
    plan.start()
}

/// `count` ranges that begin at evenly spread keys and are open to the right.
fn ranges(workload: &Workload, count: u64) -> Vec<[Bytes; 2]> {
    let mut key = Vec::new();
    let mut range = |slot: u64| {
        workload.write_key(slot * workload.keys() / count, &mut key);
        [Bytes::copy_from_slice(&key), Bytes::from_static(b"\0")]
    };
    (0..count).map(&mut range).collect()
}

struct Steady<'a> {
    member: &'a Member,
    running: Running,
}

impl Steady<'_> {
    fn warm_up(&self) {
        std::thread::sleep(WARM_UP);
    }

    /// Does `work` on a thread that yields to the puts, so that what they see is the member and
    /// not this program; prints and returns their p99 meanwhile.
    fn beside(
        &self,
        title: &str,
        work: &mut (dyn FnMut(&mut Caller) -> Result<String, BenchError> + Send),
    ) -> Result<Duration, BenchError> {
        let address = self.member.client_address();
        let mut caller = Caller::connect(&address)?;
        let steps_before = Buckets::fetch(&address, STEP_HISTOGRAM)?;
        let begin = self.running.begin_window();
        let done = std::thread::scope(|scope| {
            let worker = scope.spawn(|| {
                rustix::process::nice(NICENESS).map_err(io_error("lowering the priority"))?;
                let begin = Instant::now();
                let text = work(&mut caller)?;
                Ok::<_, BenchError>((text, begin.elapsed()))
            });
            worker.join().expect("the work reports errors, it does not panic")
        });
        let rest = WINDOW_MIN.saturating_sub(begin.elapsed());
        std::thread::sleep(rest.max(ANSWERS));
        let tally = self.running.end_window();
        let (text, elapsed) = done?;
        let steps = Buckets::fetch(&address, STEP_HISTOGRAM)?.since(&steps_before);
        let mut line = format!(
            "puts beside {title} ({text}{}took {}): p50 {}, p99 {}, max {}",
            if text.is_empty() { "" } else { ", " },
            ms(elapsed),
            ms(tally.latency(0.5)),
            ms(tally.latency(0.99)),
            ms(tally.latency_max())
        );
        if 0 < steps.count() {
            let (p99, all) = (steps.bound_ms(0.99), steps.bound_ms(1.0));
            line += &format!("; steps: p99 <= {p99:.3} ms, all <= {all:.3} ms");
        }
        if let Some(failure) = &tally.failure {
            line += &format!("; {} FAILED ({failure})", tally.failures);
        }
        println!("{line}");
        Ok(tally.latency(0.99))
    }
}

const STEP_HISTOGRAM: &str = "corestone_step_duration_seconds";
const STEADY_KEYS: u64 = 10_000;
/// What waited for the end of the work is answered behind it, and counts.
const ANSWERS: Duration = Duration::from_millis(250);
const WARM_UP: Duration = Duration::from_secs(2);
const QUIET: Duration = Duration::from_secs(8);

/// A window this long holds enough puts for a p99 even when the work is over at once.
const WINDOW_MIN: Duration = Duration::from_secs(1);

const NICENESS: i32 = 19;
