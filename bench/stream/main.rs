//! `stream`: what a state transfer costs those who are not part of it. Three members; one is away
//! while the others are filled, comes back, and is sent all of it; puts go on through the leader at
//! a fixed rate before and meanwhile, and serializable reads at the receiver. Prints a table in
//! Markdown.
//!
//! Source of the aim: the leader's p99 put latency while a gigabyte streams stays within twice what
//! it was before.

use bench::affinity::{Cores, pin_to};
use bench::calls::Caller;
use bench::error::{BenchError, io_error};
use bench::load::{Operation, Outcome, Pacing, Plan, Protocol, Running};
use bench::member::{Member, MemberOptions, Program, leader_of};
use bench::metrics::{Buckets, fetch};
use bench::report;
use bench::workload::{KeyOrder, Workload};
use clap::Parser;
use std::fmt::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

#[derive(Debug, Parser)]
#[command(about = "Puts beside a state transfer, and prints a table in Markdown.")]
struct Arguments {
    /// The corestone to load, if not the one beside this program.
    #[arg(long)]
    program: Option<PathBuf>,
    /// Mebibytes of values that are sent.
    #[arg(long, default_value_t = 1024)]
    mebibytes: u64,
    /// Puts a second through the leader.
    #[arg(long, default_value_t = 500)]
    rate: u32,
    /// Seconds of puts before the transfer that are counted.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Cores of the members together; 0 is all of them, with the load on the last.
    #[arg(long, default_value_t = 0)]
    cores: usize,
    /// How often the member goes away and comes back.
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Where data directories are made.
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    directory: PathBuf,
    /// Where the table is written, besides standard output.
    #[arg(long)]
    output: Option<PathBuf>,
    /// Further flags for every member, after `--`.
    #[arg(last = true)]
    flags: Vec<String>,
}

/// What one round showed.
struct Round {
    before: Outcome,
    during: Outcome,
    /// From the receiver's start until it answers a linearizable read.
    took: Duration,
    sent_bytes: f64,
    /// 99.9 % of the leader's steps meanwhile were shorter than this, and all of them than that.
    steps_ms: [f64; 2],
    reads: Reads,
}

/// Serializable reads at the receiver while it receives.
#[derive(Default)]
struct Reads {
    latencies: Vec<Duration>,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("stream: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), BenchError> {
    let program = arguments.program.clone().map(Program::Corestone);
    let options = MemberOptions {
        program: program.map_or_else(Program::beside, Ok)?,
        cores: arguments.cores,
        directory: arguments.directory.clone(),
        flags: arguments.flags.clone(),
    };
    let mut table = format!(
        "{}. Three members on {} cores; {} MiB of 4 KiB values sent to one of them; {} puts/s of \
         256 B through the leader.\n\n{TABLE_HEAD}",
        report::machine(),
        Cores::allowed()?.of_member(arguments.cores).len(),
        arguments.mebibytes,
        arguments.rate
    );
    for _ in 0..arguments.rounds {
        // A cluster of its own: what was sent once is not sent again.
        let mut members = Member::start_cluster(&options, MEMBERS)?;
        pin_to(Cores::allowed()?.of_load(arguments.cores))?;
        let round = measure(arguments, &mut members)?;
        let lines = table.len();
        write_row(&mut table, &round);
        eprint!("{}", &table[lines..]);
    }
    println!("{table}");
    match &arguments.output {
        None => Ok(()),
        Some(path) => std::fs::write(path, table).map_err(io_error("writing the table")),
    }
}

fn measure(arguments: &Arguments, members: &mut [Member]) -> Result<Round, BenchError> {
    let leader = leader_of(members)?;
    let receiver = (leader + 1) % MEMBERS;
    members[receiver].kill()?;
    fill(arguments, &members[leader])?;
    let load = start_load(arguments, &members[leader])?;
    let processes = [members[leader].process()];
    let leader_address = members[leader].client_address();
    let warmup = Duration::from_secs(3);
    let before = load.measure([warmup, Duration::from_secs_f64(arguments.seconds)], &processes)?;
    let sent_before = sum_of(&fetch(&leader_address)?, SENT_BYTES);
    let steps_before = Buckets::fetch(&leader_address, STEPS)?;
    let reader = Reader::start(members[receiver].client_address())?;
    let begin = load.begin_window();
    let took = members[receiver].restart()?;
    let tally = load.end_window();
    let during = Outcome { elapsed: begin.elapsed(), tally, member_cpu: None };
    let reads = reader.stop();
    let steps = Buckets::fetch(&leader_address, STEPS)?.since(&steps_before);
    let sent_bytes = sum_of(&fetch(&leader_address)?, SENT_BYTES) - sent_before;
    let after = load.stop()?;
    let failures = [before.tally.failure.clone(), during.tally.failure.clone(), after.failure];
    if let Some(failure) = failures.into_iter().flatten().next() {
        return Err(BenchError::Call(failure));
    }
    let steps_ms = [steps.bound_ms(0.999), steps.bound_ms(1.0)];
    Ok(Round { before, during, took, sent_bytes, steps_ms, reads })
}

/// Writes what is to be sent: through the leader, with two members of three.
fn fill(arguments: &Arguments, leader: &Member) -> Result<(), BenchError> {
    let keys = (arguments.mebibytes << 20) / VALUE_SIZE_BYTES as u64;
    let plan = Plan {
        protocol: Protocol::Binary,
        addresses: leader.binary_address().into_iter().collect(),
        operation: Operation::Put,
        workload: Workload::new("sent/", keys, [16, VALUE_SIZE_BYTES], KeyOrder::Ascending),
        connections: 2,
        pacing: Pacing::Closed { outstanding: FILL_OUTSTANDING },
        calls: Some(keys),
    };
    let tally = plan.start()?.join()?;
    match tally.failure {
        Some(failure) => Err(BenchError::Call(failure)),
        None => Ok(()),
    }
}

fn start_load(arguments: &Arguments, leader: &Member) -> Result<Running, BenchError> {
    let plan = Plan {
        protocol: Protocol::Grpc,
        addresses: vec![leader.client_address()],
        operation: Operation::Put,
        workload: Workload::new("beside/", 10_000, [16, 256], KeyOrder::Drawn),
        connections: 4,
        pacing: Pacing::Open { per_s: arguments.rate },
        calls: None,
    };
    plan.start()
}

/// Reads one key after the other, on a thread.
struct Reader {
    stops: Arc<AtomicBool>,
    thread: JoinHandle<Reads>,
}

impl Reader {
    fn start(address: String) -> Result<Reader, BenchError> {
        let stops = Arc::new(AtomicBool::new(false));
        let theirs = stops.clone();
        let thread = std::thread::Builder::new()
            .name("reads".to_owned())
            .spawn(move || {
                let mut reads = Reads::default();
                while !theirs.load(Ordering::Relaxed) {
                    // Until it serves there is nothing to be measured.
                    let Ok(mut caller) = Caller::connect(&address) else {
                        std::thread::sleep(READ_INTERVAL);
                        continue;
                    };
                    while !theirs.load(Ordering::Relaxed) {
                        let begin = Instant::now();
                        if caller.get_here(b"sent/0000000000").is_err() {
                            break;
                        }
                        reads.latencies.push(begin.elapsed());
                        std::thread::sleep(READ_INTERVAL);
                    }
                }
                reads
            })
            .map_err(io_error("starting the reads' thread"))?;
        Ok(Reader { stops, thread })
    }

    fn stop(self) -> Reads {
        self.stops.store(true, Ordering::Relaxed);
        self.thread.join().expect("it reports errors, it does not panic")
    }
}

impl Reads {
    /// How many, the latency of 99 % of them, and the longest.
    fn line(mut self: Reads) -> String {
        self.latencies.sort_unstable();
        let Some(longest) = self.latencies.last() else { return "none".to_owned() };
        let p99 = self.latencies[(self.latencies.len() - 1) * 99 / 100];
        format!("{}: {}, {}", self.latencies.len(), report::ms(p99), report::ms(*longest))
    }
}

/// All lines of a metric, whatever their labels.
fn sum_of(text: &str, name: &str) -> f64 {
    let values = text.lines().filter(|line| line.starts_with(name));
    values.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

fn write_row(table: &mut String, round: &Round) {
    let figures = |outcome: &Outcome| {
        let [p50, p99] = [0.5, 0.99].map(|part| report::ms(outcome.tally.latency(part)));
        format!("{p50}, {p99}, {}", report::ms(outcome.tally.latency_max()))
    };
    let p99 = |outcome: &Outcome| outcome.tally.latency(0.99).as_secs_f64();
    let Round { before, during, took, sent_bytes, steps_ms, .. } = round;
    let [steps_most, steps_all] = steps_ms;
    let reads = Reads { latencies: round.reads.latencies.clone() }.line();
    writeln!(
        table,
        "| {} | {} | **{:.2} x** | {:.1} s, {:.0} MB, {:.0} MB/s | {steps_most:.1}, {steps_all:.1} ms | \
         {reads} |",
        figures(before),
        figures(during),
        p99(during) / p99(before),
        took.as_secs_f64(),
        sent_bytes / 1e6,
        sent_bytes / 1e6 / took.as_secs_f64()
    )
    .expect("a string takes everything");
}

const MEMBERS: usize = 3;
const VALUE_SIZE_BYTES: usize = 4096;
const FILL_OUTSTANDING: usize = 128;
/// Between two reads at the receiver.
const READ_INTERVAL: Duration = Duration::from_millis(2);

const SENT_BYTES: &str = "etcd_network_peer_sent_bytes_total{";
const STEPS: &str = "corestone_step_duration_seconds";

const TABLE_HEAD: &str = "\
| puts before: p50, p99, longest | while it streams | p99 | transfer | leader's steps: 99.9 %, all below \
| reads at the receiver: count, p99, longest |
|---|---|---|---|---|---|
";
