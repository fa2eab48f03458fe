//! `load`: one load on one member, on one line, with the floor measured in the same run.
//!
//! Without `--address` it starts the `corestone` that was built beside it (or `--program`, or
//! `--etcd`) with an empty data directory, pinned to `--cores` cores, and runs on the others.

use bench::affinity::{Cores, pin_to};
use bench::error::BenchError;
use bench::floor::Floor;
use bench::load::{Operation, Pacing, Plan, Protocol};
use bench::member::{Member, MemberOptions, Program};
use bench::report;
use bench::workload::{KeyOrder, Workload};
use clap::Parser;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

#[derive(Debug, Parser)]
#[command(about = "Loads one member and prints what it did on one line.")]
struct Arguments {
    /// Protocol to speak.
    #[arg(long, value_enum, default_value_t = Protocol::Grpc)]
    protocol: Protocol,
    /// What to call.
    #[arg(long, value_enum, default_value_t = Operation::Put)]
    operation: Operation,
    /// Calls outstanding, over all connections.
    #[arg(long, default_value_t = 256)]
    clients: usize,
    /// Connections [16 through gRPC, 4 through the binary protocol; at most one a client].
    #[arg(long)]
    connections: Option<usize>,
    /// Calls a second at a fixed rate, instead of `--clients` outstanding.
    #[arg(long)]
    rate: Option<u32>,
    /// Seconds that are counted.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Seconds before that are not.
    #[arg(long, default_value_t = 1.0)]
    warmup_seconds: f64,
    /// Different keys.
    #[arg(long, default_value_t = 100_000)]
    keys: u64,
    /// Size of a key.
    #[arg(long, default_value_t = 16)]
    key_bytes: usize,
    /// Size of a value.
    #[arg(long, default_value_t = 256)]
    value_bytes: usize,
    /// `host:port` of a running member, in the protocol chosen.
    #[arg(long)]
    address: Option<String>,
    /// Process of that member, to count its processor time.
    #[arg(long)]
    pid: Option<u32>,
    /// The corestone to start.
    #[arg(long)]
    program: Option<PathBuf>,
    /// Starts this etcd instead.
    #[arg(long)]
    etcd: Option<PathBuf>,
    /// Cores of the member that is started; 0 is all.
    #[arg(long, default_value_t = 1)]
    cores: usize,
    /// Where its data directory is made.
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    directory: PathBuf,
    /// Leaves out the floor.
    #[arg(long)]
    no_floor: bool,
    /// Further flags for the member, after `--`.
    #[arg(last = true)]
    flags: Vec<String>,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("load: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<String, BenchError> {
    let cores = Cores::allowed()?;
    let member = maybe_start(arguments)?;
    pin_to(cores.of_load(arguments.cores))?;
    let (address, process) = match &member {
        None => (arguments.address.clone().expect("without a member there is one"), arguments.pid),
        Some(member) => {
            let address = match arguments.protocol {
                Protocol::Grpc => member.client_address(),
                Protocol::Binary => member.binary_address().ok_or_else(|| {
                    BenchError::Usage("etcd does not speak the binary protocol".to_owned())
                })?,
            };
            (address, Some(member.process()))
        }
    };
    let floor = || match arguments.no_floor {
        true => Ok(None),
        false => {
            let (theirs, ours) = (cores.of_member(arguments.cores), cores.of_load(arguments.cores));
            Floor::measure(&arguments.directory, theirs, ours).map(Some)
        }
    };
    let plan = plan_of(arguments, address);
    if arguments.operation != Operation::Put {
        fill(&plan)?;
    }
    let before = floor()?;
    let seconds = [arguments.warmup_seconds, arguments.seconds].map(Duration::from_secs_f64);
    let outcome = plan.run(seconds, process.as_slice())?;
    let after = floor()?;
    let mut line = format!("{}: {}", title(arguments), report::line(&outcome));
    if let Some((before, after)) = before.zip(after) {
        // The disk is shared: the quieter of both looks is nearer to what it can do.
        let floor = before.sum().min(after.sum());
        let multiple = outcome.tally.latency(0.5).as_secs_f64() / floor.as_secs_f64();
        line += &format!(", floor {} (p50 is {multiple:.2} x)", report::us(floor));
    }
    Ok(line)
}

fn maybe_start(arguments: &Arguments) -> Result<Option<Member>, BenchError> {
    if arguments.address.is_some() {
        return Ok(None);
    }
    let program = match (&arguments.program, &arguments.etcd) {
        (None, None) => Program::beside()?,
        (Some(path), None) => Program::Corestone(path.clone()),
        (None, Some(path)) => Program::Etcd(path.clone()),
        (Some(_), Some(_)) => {
            return Err(BenchError::Usage("--program or --etcd, not both".to_owned()));
        }
    };
    let options = MemberOptions {
        program,
        cores: arguments.cores,
        directory: arguments.directory.clone(),
        flags: arguments.flags.clone(),
    };
    Member::start(&options).map(Some)
}

fn plan_of(arguments: &Arguments, address: String) -> Plan {
    let sizes = [arguments.key_bytes, arguments.value_bytes];
    let usual = match arguments.protocol {
        Protocol::Grpc => 16,
        Protocol::Binary => 4,
    };
    let connections = arguments.connections.unwrap_or(usual).clamp(1, arguments.clients.max(1));
    let closed = Pacing::Closed { outstanding: arguments.clients };
    Plan {
        protocol: arguments.protocol,
        addresses: vec![address],
        operation: arguments.operation,
        workload: Workload::new("bench/", arguments.keys, sizes, KeyOrder::Drawn),
        connections,
        pacing: arguments.rate.map_or(closed, |per_s| Pacing::Open { per_s }),
        calls: None,
    }
}

/// Writes every key once, so that there is something to read.
fn fill(plan: &Plan) -> Result<(), BenchError> {
    let fill = Plan {
        operation: Operation::Put,
        workload: plan.workload.ordered(KeyOrder::Ascending),
        pacing: Pacing::Closed { outstanding: 256.max(plan.connections) },
        calls: Some(plan.workload.keys()),
        ..plan.clone()
    };
    let tally = fill.start()?.join()?;
    match tally.failure {
        None => Ok(()),
        Some(text) => Err(BenchError::Call(text)),
    }
}

fn title(arguments: &Arguments) -> String {
    let loops = match arguments.rate {
        None => format!("{} clients", arguments.clients),
        Some(rate) => format!("{rate}/s"),
    };
    format!("{:?} {:?}, {loops}", arguments.operation, arguments.protocol).to_lowercase()
}
