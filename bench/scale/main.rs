//! `scale`: what a member costs with a million keys in it, and how long the long things take:
//! memory, restarts, counting, compaction and long entries beside steady puts, and an idle member.
//!
//! Everything is measured with the member on one core and the load on another, except the idle
//! member, which is started as an operator would. With `--etcd` the same is done to etcd, in turn.

mod filled;
mod fresh;
mod steady;

use bench::error::BenchError;
use bench::member::{MemberOptions, Program};
use bench::report;
use clap::Parser;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Debug, Parser)]
#[command(about = "Measures a member with a million keys, and an idle one.")]
pub(crate) struct Arguments {
    /// Keys to load.
    #[arg(long, default_value_t = 1_000_000)]
    pub(crate) keys: u64,
    /// Size of a key.
    #[arg(long, default_value_t = 16)]
    pub(crate) key_bytes: usize,
    /// Size of a value.
    #[arg(long, default_value_t = 256)]
    pub(crate) value_bytes: usize,
    /// Revisions to write and then to compact away beside steady puts.
    #[arg(long, default_value_t = 300_000)]
    pub(crate) revisions: u64,
    /// Steady puts a second.
    #[arg(long, default_value_t = 2000)]
    pub(crate) rate: u32,
    /// Keys that each of the transaction's 128 ranges reads at most.
    #[arg(long, default_value_t = 1000)]
    pub(crate) range_keys: i64,
    /// How often a member is killed in its first second.
    #[arg(long, default_value_t = 20)]
    pub(crate) kills: u32,
    /// What to measure.
    #[arg(long, value_enum, value_delimiter = ',',
          default_values_t = [Part::Fresh, Part::Shuffled, Part::Ordered])]
    parts: Vec<Part>,
    /// The corestone to start, if not the one beside this program.
    #[arg(long)]
    program: Option<PathBuf>,
    /// Measures this etcd as well.
    #[arg(long)]
    etcd: Option<PathBuf>,
    /// Leaves corestone out.
    #[arg(long, requires = "etcd")]
    etcd_only: bool,
    /// Where data directories are made.
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    directory: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// A member without keys: first start, idle cost, kills in the first second.
    Fresh,
    /// Loaded in random order: memory, count, restarts, compaction, long entries.
    Shuffled,
    /// Loaded in key order: memory, count.
    Ordered,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("scale: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), BenchError> {
    println!("{}", report::machine());
    let mut programs = Vec::new();
    if !arguments.etcd_only {
        let given = arguments.program.clone().map(Program::Corestone);
        programs.push(given.map_or_else(Program::beside, Ok)?);
    }
    programs.extend(arguments.etcd.clone().map(Program::Etcd));
    for program in programs {
        println!("## {}", program.name());
        let options = MemberOptions {
            program,
            cores: 1,
            directory: arguments.directory.clone(),
            flags: Vec::new(),
        };
        for part in &arguments.parts {
            match part {
                Part::Fresh => fresh::measure(arguments, &options)?,
                Part::Shuffled => filled::measure_shuffled(arguments, &options)?,
                Part::Ordered => filled::measure_ordered(arguments, &options)?,
            }
        }
    }
    Ok(())
}
