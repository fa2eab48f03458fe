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
use bench::load::{Operation, Pacing, Plan, Protocol, Running, Tally};
use bench::member::{Member, MemberOptions, Program, leader_of, wait_for};
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
    before: Window,
    /// While pages are on their way.
    streaming: Window,
    /// While the receiver puts them in their places.
    installing: Window,
    sent_bytes: f64,
    reads: Reads,
}

/// A stretch of time at the leader.
struct Window {
    puts: Tally,
    elapsed: Duration,
    /// 99 % of the writes to its log took less, sync included.
    wal_ms: f64,
    /// 99.9 % of its steps took less.
    steps_ms: f64,
}

/// Cuts windows out of a load.
struct Watch<'a> {
    load: &'a Running,
    leader: String,
    begin: Instant,
    wal: Buckets,
    steps: Buckets,
}

impl<'a> Watch<'a> {
    fn start(load: &'a Running, leader: &Member) -> Result<Watch<'a>, BenchError> {
        let leader = leader.client_address();
        let wal = Buckets::fetch(&leader, WAL_SYNCS)?;
        let steps = Buckets::fetch(&leader, STEPS)?;
        Ok(Watch { load, leader, begin: load.begin_window(), wal, steps })
    }

    /// What was since the last window; the next one begins.
    fn cut(&mut self) -> Result<Window, BenchError> {
        let (puts, elapsed) = (self.load.end_window(), self.begin.elapsed());
        let wal = Buckets::fetch(&self.leader, WAL_SYNCS)?;
        let steps = Buckets::fetch(&self.leader, STEPS)?;
        if let Some(failure) = &puts.failure {
            return Err(BenchError::Call(failure.clone()));
        }
        let window = Window {
            puts,
            elapsed,
            wal_ms: wal.since(&self.wal).bound_ms(0.99),
            steps_ms: steps.since(&self.steps).bound_ms(0.999),
        };
        (self.wal, self.steps, self.begin) = (wal, steps, self.load.begin_window());
        Ok(window)
    }
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
    let receiver_address = members[receiver].client_address();
    // It goes away with something to serve, and durable.
    fill(&members[leader], "old/", 1_000)?;
    wait_for(&receiver_address, CHECKPOINTS, 2.0)?;
    members[receiver].kill()?;
    fill(&members[leader], "sent/", (arguments.mebibytes << 20) / VALUE_SIZE_BYTES as u64)?;

    // So much at once may have been too much for its disk: then another one leads now.
    let leader = leader_of(members)?;
    let leader_address = members[leader].client_address();
    let load = start_load(arguments, &members[leader])?;
    std::thread::sleep(WARM_UP);
    let mut watch = Watch::start(&load, &members[leader])?;
    std::thread::sleep(Duration::from_secs_f64(arguments.seconds));
    let before = watch.cut()?;
    let sent_before = sum_of(&fetch(&leader_address)?, SENT_BYTES);
    let reader = Reader::start(receiver_address.clone())?;
    members[receiver].relaunch()?;
    wait_for(&receiver_address, INSTALLING, 1.0)?;
    let streaming = watch.cut()?;
    members[receiver].wait_until_ready()?;
    let installing = watch.cut()?;
    let reads = reader.stop();
    let sent_bytes = sum_of(&fetch(&leader_address)?, SENT_BYTES) - sent_before;
    load.stop()?;
    if !members[leader].is_leader()? {
        return Err(BenchError::Member("leadership moved while it was measured".to_owned()));
    }
    Ok(Round { before, streaming, installing, sent_bytes, reads })
}

/// Writes through the leader.
fn fill(leader: &Member, prefix: &str, keys: u64) -> Result<(), BenchError> {
    let plan = Plan {
        protocol: Protocol::Binary,
        addresses: leader.binary_address().into_iter().collect(),
        operation: Operation::Put,
        workload: Workload::new(prefix, keys, [16, VALUE_SIZE_BYTES], KeyOrder::Ascending),
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
                        if caller.get_here(b"old/000000000000").is_err() {
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
    let p99 = |window: &Window| window.puts.latency(0.99).as_secs_f64();
    let reads = Reads { latencies: round.reads.latencies.clone() }.line();
    let mut row = |name: &str, window: &Window, sent: &str| {
        writeln!(
            table,
            "| {name} | {:.1} s{sent} | {}, {}, {} | **{:.2} x** | {:.0} ms | {:.1} ms |",
            window.elapsed.as_secs_f64(),
            report::ms(window.puts.latency(0.5)),
            report::ms(window.puts.latency(0.99)),
            report::ms(window.puts.latency_max()),
            p99(window) / p99(&round.before),
            window.wal_ms,
            window.steps_ms
        )
        .expect("a string takes everything");
    };
    let sent_mb = round.sent_bytes / 1e6;
    let rate = sent_mb / round.streaming.elapsed.as_secs_f64();
    row("before", &round.before, "");
    row("streaming", &round.streaming, &format!(", {sent_mb:.0} MB, {rate:.0} MB/s"));
    row("installing", &round.installing, "");
    writeln!(table, "| reads at the receiver | {reads} | | | | |")
        .expect("a string takes everything");
}

const MEMBERS: usize = 3;
const VALUE_SIZE_BYTES: usize = 4096;
const FILL_OUTSTANDING: usize = 128;
/// Puts that are not counted.
const WARM_UP: Duration = Duration::from_secs(3);
/// Between two reads at the receiver.
const READ_INTERVAL: Duration = Duration::from_millis(2);

const SENT_BYTES: &str = "etcd_network_peer_sent_bytes_total{";
const STEPS: &str = "corestone_step_duration_seconds";
const WAL_SYNCS: &str = "etcd_disk_wal_fsync_duration_seconds";
const CHECKPOINTS: &str = "corestone_checkpoints_total";
const INSTALLING: &str = "etcd_server_snapshot_apply_in_progress_total";

const TABLE_HEAD: &str = "\
| | took | puts: p50, p99, longest | p99 | log, 99 % below | steps, 99.9 % below |
|---|---|---|---|---|---|
";
