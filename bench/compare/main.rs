//! `compare`: the same loads on corestone and on etcd, in turn, so that what the machine does
//! meanwhile falls on both; prints a table of medians and their ratios in Markdown.

use bench::affinity::{Cores, pin_to};
use bench::error::{BenchError, io_error};
use bench::floor::Floor;
use bench::load::{Operation, Pacing, Plan, Protocol};
use bench::member::{Member, MemberOptions, Program};
use bench::report::{self, median};
use bench::workload::{KeyOrder, Workload};
use clap::Parser;
use std::fmt::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

#[derive(Debug, Parser)]
#[command(about = "Compares corestone with etcd, and prints a table in Markdown.")]
struct Arguments {
    /// The etcd to compare with.
    #[arg(long)]
    etcd: Option<PathBuf>,
    /// The corestone to compare, if not the one beside this program.
    #[arg(long)]
    program: Option<PathBuf>,
    /// How often everything is measured.
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Seconds of each load that are counted.
    #[arg(long, default_value_t = 4.0)]
    seconds: f64,
    /// Where data directories are made.
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    directory: PathBuf,
    /// Where the table is written, besides standard output.
    #[arg(long)]
    output: Option<PathBuf>,
}

/// One load.
#[derive(Clone, Copy, Debug)]
struct Case {
    operation: Operation,
    protocol: Protocol,
    clients: usize,
    connections: usize,
}

const fn case(
    operation: Operation,
    protocol: Protocol,
    [clients, connections]: [usize; 2],
) -> Case {
    Case { operation, protocol, clients, connections }
}

use Operation::{Get, Put, Txn};
use Protocol::{Binary, Grpc};

/// Through gRPC both are measured, through the binary protocol corestone alone.
const CASES: [Case; 12] = [
    case(Put, Grpc, [1, 1]),
    case(Put, Grpc, [64, 16]),
    case(Put, Grpc, [256, 16]),
    case(Get, Grpc, [64, 16]),
    case(Txn, Grpc, [64, 16]),
    case(Put, Binary, [1, 1]),
    case(Put, Binary, [64, 4]),
    case(Put, Binary, [256, 4]),
    case(Put, Binary, [256, 256]),
    case(Get, Binary, [64, 4]),
    case(Get, Binary, [256, 4]),
    case(Txn, Binary, [64, 4]),
];

/// What one round of a case showed, or the medians of all.
#[derive(Clone, Copy, Debug)]
struct Figures {
    per_s: f64,
    p50_us: f64,
    p99_us: f64,
    cpu_us: f64,
    floor_us: f64,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("compare: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), BenchError> {
    let corestone = arguments.program.clone().map(Program::Corestone);
    let corestone = corestone.map_or_else(Program::beside, Ok)?;
    let etcd = arguments.etcd.clone().map(Program::Etcd);
    let mut table = format!(
        "{}. Member on one core, load on the rest; 16 B keys of 100,000, 256 B values; medians of \
         {} rounds of {} s.\n\n{TABLE_HEAD}",
        report::machine(),
        arguments.rounds,
        arguments.seconds
    );
    for case in CASES {
        let mut rounds: [Vec<Figures>; 2] = [Vec::new(), Vec::new()];
        for _ in 0..arguments.rounds {
            rounds[0].push(measure(arguments, case, &corestone)?);
            if let (Some(etcd), Protocol::Grpc) = (&etcd, case.protocol) {
                rounds[1].push(measure(arguments, case, etcd)?);
            }
        }
        let [ours, theirs] = rounds.map(|rounds| medians(&rounds));
        let ours = ours.expect("corestone is measured in every case");
        let lines = table.len();
        write_rows(&mut table, case, ours, theirs);
        eprint!("{}", &table[lines..]);
    }
    println!("{table}");
    match &arguments.output {
        None => Ok(()),
        Some(path) => std::fs::write(path, table).map_err(io_error("writing the table")),
    }
}

fn measure(arguments: &Arguments, case: Case, program: &Program) -> Result<Figures, BenchError> {
    let cores = Cores::allowed()?;
    let options = MemberOptions {
        program: program.clone(),
        cores: 1,
        directory: arguments.directory.clone(),
        flags: Vec::new(),
    };
    let member = Member::start(&options)?;
    pin_to(cores.of_load(1))?;
    let address = match case.protocol {
        Protocol::Grpc => member.client_address(),
        Protocol::Binary => member.binary_address().expect("corestone speaks it"),
    };
    let plan = Plan {
        protocol: case.protocol,
        addresses: vec![address],
        operation: case.operation,
        workload: Workload::new("compare/", KEYS, [16, 256], KeyOrder::Drawn),
        connections: case.connections,
        pacing: Pacing::Closed { outstanding: case.clients },
        calls: None,
    };
    if case.operation == Operation::Get {
        let fill = Plan {
            operation: Operation::Put,
            workload: plan.workload.ordered(KeyOrder::Ascending),
            pacing: Pacing::Closed { outstanding: 256 },
            calls: Some(KEYS),
            ..plan.clone()
        };
        fill.start()?.join()?;
    }
    let floor = Floor::measure(&arguments.directory, cores.of_member(1), cores.of_load(1))?;
    let windows = [Duration::from_secs(1), Duration::from_secs_f64(arguments.seconds)];
    let outcome = plan.run(windows, &[member.process()])?;
    if let Some(failure) = outcome.tally.failure {
        return Err(BenchError::Call(failure));
    }
    let us = |part| outcome.tally.latency(part).as_secs_f64() * 1e6;
    Ok(Figures {
        per_s: outcome.per_s(),
        p50_us: us(0.5),
        p99_us: us(0.99),
        cpu_us: outcome.cpu_us().unwrap_or(f64::NAN),
        floor_us: floor.sum().as_secs_f64() * 1e6,
    })
}

fn medians(rounds: &[Figures]) -> Option<Figures> {
    let of = |figure: fn(&Figures) -> f64| median(rounds.iter().map(figure).collect());
    (!rounds.is_empty()).then(|| Figures {
        per_s: of(|round| round.per_s),
        p50_us: of(|round| round.p50_us),
        p99_us: of(|round| round.p99_us),
        cpu_us: of(|round| round.cpu_us),
        floor_us: of(|round| round.floor_us),
    })
}

fn write_rows(table: &mut String, case: Case, ours: Figures, theirs: Option<Figures>) {
    let title = format!(
        "{:?}, {:?}, {} calls on {}",
        case.operation, case.protocol, case.clients, case.connections
    );
    let title = title.to_lowercase();
    let mut row = |name: &str, per_s: String, rest: [String; 4]| {
        let [p50, p99, cpu, floor] = rest;
        writeln!(table, "| {title} | {name} | {per_s} | {p50} | {p99} | {cpu} | {floor} |")
            .expect("a string takes everything");
    };
    let mut figures = |name: &str, figures: Figures| {
        let rest = [figures.p50_us, figures.p99_us, figures.cpu_us, figures.floor_us];
        let rest = rest.map(|figure| format!("{figure:.1}"));
        row(name, format!("{:.0}", figures.per_s), rest);
    };
    figures("corestone", ours);
    let Some(theirs) = theirs else { return };
    figures("etcd", theirs);
    let ratio = |part: f64, whole: f64| format!("**{:.2} x**", part / whole);
    let rest = [
        ratio(theirs.p50_us, ours.p50_us),
        ratio(theirs.p99_us, ours.p99_us),
        ratio(theirs.cpu_us, ours.cpu_us),
        String::new(),
    ];
    row("gain", ratio(ours.per_s, theirs.per_s), rest);
}

const KEYS: u64 = 100_000;

const TABLE_HEAD: &str = "\
| load | server | ops/s | p50 us | p99 us | server cpu us/op | floor us |
|---|---|---|---|---|---|---|
";
