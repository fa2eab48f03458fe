//! `three`: puts on three members on one machine, all pinned to one core with the load on the others,
//! through the leader alone and through all members; the same on etcd, in turn. Prints a table of
//! medians and their ratios in Markdown.
//!
//! Processor time is that of the three processes together, for each put answered.

use bench::affinity::{Cores, pin_to};
use bench::error::{BenchError, io_error};
use bench::load::{Operation, Pacing, Plan, Protocol};
use bench::member::{Member, MemberOptions, Program, leader_of};
use bench::report::{self, median};
use bench::workload::{KeyOrder, Workload};
use clap::Parser;
use std::fmt::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

#[derive(Debug, Parser)]
#[command(about = "Loads three members on one core, and prints a table in Markdown.")]
struct Arguments {
    /// The etcd to compare with.
    #[arg(long)]
    etcd: Option<PathBuf>,
    /// The corestone to load, if not the one beside this program.
    #[arg(long)]
    program: Option<PathBuf>,
    /// How often everything is measured.
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Seconds of each load that are counted.
    #[arg(long, default_value_t = 4.0)]
    seconds: f64,
    /// Calls outstanding; one line of the table each.
    #[arg(long, value_delimiter = ',', default_value = "1,64,256")]
    clients: Vec<usize>,
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

/// Whom the connections go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Through {
    Leader,
    All,
}

/// One load.
#[derive(Clone, Copy, Debug)]
struct Case {
    protocol: Protocol,
    through: Through,
    clients: usize,
}

/// What one round of a case showed, or the medians of all.
#[derive(Clone, Copy, Debug)]
struct Figures {
    per_s: f64,
    p50_us: f64,
    p99_us: f64,
    cpu_us: f64,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("three: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), BenchError> {
    let corestone = arguments.program.clone().map(Program::Corestone);
    let corestone = corestone.map_or_else(Program::beside, Ok)?;
    let etcd = arguments.etcd.clone().map(Program::Etcd);
    let mut table = format!(
        "{}. Three members on one core, load on the rest; puts, 16 B keys of {KEYS}, 256 B values; \
         medians of {} rounds of {} s.\n\n{TABLE_HEAD}",
        report::machine(),
        arguments.rounds,
        arguments.seconds
    );
    for case in cases(&arguments.clients) {
        let mut rounds: [Vec<Figures>; 2] = [Vec::new(), Vec::new()];
        for _ in 0..arguments.rounds {
            rounds[0].push(measure(arguments, case, &corestone)?);
            if let (Some(etcd), Protocol::Grpc) = (&etcd, case.protocol) {
                rounds[1].push(measure(arguments, case, etcd)?);
            }
        }
        let [ours, theirs] = rounds.map(|rounds| medians(&rounds));
        let lines = table.len();
        write_rows(&mut table, case, ours.expect("corestone is always measured"), theirs);
        eprint!("{}", &table[lines..]);
    }
    println!("{table}");
    match &arguments.output {
        None => Ok(()),
        Some(path) => std::fs::write(path, table).map_err(io_error("writing the table")),
    }
}

/// Through gRPC both programs are measured, through the binary protocol corestone alone.
fn cases(clients: &[usize]) -> Vec<Case> {
    let mut cases = Vec::new();
    for protocol in [Protocol::Grpc, Protocol::Binary] {
        for through in [Through::Leader, Through::All] {
            let case = |&clients: &usize| Case { protocol, through, clients };
            cases.extend(clients.iter().map(case));
        }
    }
    cases
}

fn measure(arguments: &Arguments, case: Case, program: &Program) -> Result<Figures, BenchError> {
    let cores = Cores::allowed()?;
    let options = MemberOptions {
        program: program.clone(),
        cores: 1,
        directory: arguments.directory.clone(),
        flags: arguments.flags.clone(),
    };
    let members = Member::start_cluster(&options, MEMBERS)?;
    pin_to(cores.of_load(1))?;
    let loaded = match case.through {
        Through::Leader => vec![&members[leader_of(&members)?]],
        Through::All => members.iter().collect(),
    };
    let address = |member: &Member| match case.protocol {
        Protocol::Grpc => member.client_address(),
        Protocol::Binary => member.binary_address().expect("corestone speaks it"),
    };
    let addresses = loaded.into_iter().map(address).collect();
    let connections = match case.protocol {
        Protocol::Grpc => GRPC_CONNECTIONS,
        Protocol::Binary => BINARY_CONNECTIONS,
    };
    let plan = Plan {
        protocol: case.protocol,
        addresses,
        operation: Operation::Put,
        workload: Workload::new("three/", KEYS, [16, 256], KeyOrder::Drawn),
        connections: connections.min(case.clients),
        pacing: Pacing::Closed { outstanding: case.clients },
        calls: None,
    };
    let processes: Vec<u32> = members.iter().map(Member::process).collect();
    let windows = [Duration::from_secs(1), Duration::from_secs_f64(arguments.seconds)];
    let outcome = plan.run(windows, &processes)?;
    if let Some(failure) = outcome.tally.failure {
        return Err(BenchError::Call(failure));
    }
    let us = |part| outcome.tally.latency(part).as_secs_f64() * 1e6;
    Ok(Figures {
        per_s: outcome.per_s(),
        p50_us: us(0.5),
        p99_us: us(0.99),
        cpu_us: outcome.cpu_us().expect("the processes are known"),
    })
}

fn medians(rounds: &[Figures]) -> Option<Figures> {
    let of = |figure: fn(&Figures) -> f64| median(rounds.iter().map(figure).collect());
    (!rounds.is_empty()).then(|| Figures {
        per_s: of(|round| round.per_s),
        p50_us: of(|round| round.p50_us),
        p99_us: of(|round| round.p99_us),
        cpu_us: of(|round| round.cpu_us),
    })
}

fn write_rows(table: &mut String, case: Case, ours: Figures, theirs: Option<Figures>) {
    let through = match case.through {
        Through::Leader => "the leader",
        Through::All => "all members",
    };
    let protocol = format!("{:?}", case.protocol).to_lowercase();
    let title = format!("{protocol}, {} calls through {through}", case.clients);
    let mut row = |name: &str, figures: Figures| {
        writeln!(
            table,
            "| {title} | {name} | {:.0} | {:.0} | {:.0} | {:.1} |",
            figures.per_s, figures.p50_us, figures.p99_us, figures.cpu_us
        )
        .expect("a string takes everything");
    };
    row("corestone", ours);
    let Some(theirs) = theirs else { return };
    row("etcd", theirs);
    writeln!(
        table,
        "| {title} | gain | **{:.2} x** | **{:.2} x** | **{:.2} x** | **{:.2} x** |",
        ours.per_s / theirs.per_s,
        theirs.p50_us / ours.p50_us,
        theirs.p99_us / ours.p99_us,
        theirs.cpu_us / ours.cpu_us
    )
    .expect("a string takes everything");
}

const MEMBERS: usize = 3;
const KEYS: u64 = 100_000;
/// At most; each has a call outstanding at least.
const GRPC_CONNECTIONS: usize = 15;
const BINARY_CONNECTIONS: usize = 6;

const TABLE_HEAD: &str = "\
| puts | server | ops/s | p50 us | p99 us | cpu of all us/put |
|---|---|---|---|---|---|
";
