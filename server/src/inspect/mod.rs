//! `corestone inspect`: what a member's files hold, and what of it is damaged.
//!
//! Invariants: files are opened for reading alone and no lock is taken, so that a running, stopped
//! or killed member may be looked at; nothing is written but the report. What a running member
//! changes underneath is read again a bounded number of times ([`READ_ATTEMPTS_MAX`]); damage that
//! stays where it is counts.
//! Exit status: 0 everything is whole, 1 something is damaged, 2 the question makes no sense or the
//! files cannot be read at all.
//! Source: docs/format/{wal,page,command}.md.

mod log;
mod meta;
mod page_reader;
mod page_walk;
mod pages;
mod place;
mod segments;
mod wal;

use clap::{Args, Parser, Subcommand};
use std::ffi::OsString;
use std::fmt;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use place::Place;

/// Looks at the data of a member without touching it.
#[derive(Debug, Parser)]
#[command(name = "corestone inspect", subcommand_required = true, arg_required_else_help = true)]
struct InspectArguments {
    #[command(subcommand)]
    question: Question,
}

#[derive(Debug, Subcommand)]
enum Question {
    /// Both meta pages: which checkpoints the page file holds
    Meta(Where),
    /// The write-ahead logs: segments, groups, holes, torn tail
    Wal(Where),
    /// Every page of the newest checkpoint: counts, and broken pages by number
    Pages(Where),
    /// The replicated log as lines of JSON, then the commit index
    Log(Where),
}

#[derive(Debug, Args)]
struct Where {
    /// The member's data directory
    data_dir: PathBuf,
    /// Where the WAL lies, if the member was started with --wal-dir
    #[arg(long)]
    wal_dir: Option<PathBuf>,
}

/// What a look at the files came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Whole,
    Damaged,
}

impl Verdict {
    fn damaged_if(condition: bool) -> Verdict {
        if condition { Verdict::Damaged } else { Verdict::Whole }
    }

    fn and(self, other: Verdict) -> Verdict {
        Verdict::damaged_if(self == Verdict::Damaged || other == Verdict::Damaged)
    }
}

/// Why there is no answer.
#[derive(Debug)]
enum InspectError {
    /// The path is no data directory of ours.
    NoMember(PathBuf),
    /// A file cannot be opened or listed.
    Unreadable(PathBuf, io::Error),
    /// The report cannot be written.
    Report(io::Error),
}

impl fmt::Display for InspectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            InspectError::NoMember(path) => {
                write!(f, "{} is no data directory of a corestone member", path.display())
            }
            InspectError::Unreadable(path, error) => {
                write!(f, "{} cannot be read: {error}", path.display())
            }
            InspectError::Report(error) => write!(f, "the report cannot be written: {error}"),
        }
    }
}

impl From<io::Error> for InspectError {
    fn from(error: io::Error) -> InspectError {
        InspectError::Report(error)
    }
}

/// Parses the words after `corestone inspect` and answers.
pub fn run_from(words: impl IntoIterator<Item = OsString>) -> ExitCode {
    let name = OsString::from("corestone inspect");
    let arguments = match InspectArguments::try_parse_from(std::iter::once(name).chain(words)) {
        Ok(arguments) => arguments,
        Err(error) => {
            // When nobody reads the explanation, the exit code still tells.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { EXIT_NO_ANSWER } else { 0 });
        }
    };
    let mut out = BufWriter::new(io::stdout().lock());
    let answered = answer(&arguments.question, &mut out, &mut io::stderr());
    match answered.and_then(|verdict| Ok(out.flush().map(|()| verdict)?)) {
        Ok(Verdict::Whole) => ExitCode::SUCCESS,
        Ok(Verdict::Damaged) => ExitCode::from(EXIT_DAMAGED),
        Err(error) => {
            // As above.
            let _ = writeln!(io::stderr(), "Error: {error}");
            ExitCode::from(EXIT_NO_ANSWER)
        }
    }
}

/// The report goes to `out`; `log` keeps that to lines of JSON and tells of damage in `notes`.
fn answer(
    question: &Question,
    out: &mut impl Write,
    notes: &mut impl Write,
) -> Result<Verdict, InspectError> {
    match question {
        Question::Meta(at) => {
            meta::inspect(&Place::open(&at.data_dir, at.wal_dir.as_deref())?, out)
        }
        Question::Wal(at) => wal::inspect(&Place::open(&at.data_dir, at.wal_dir.as_deref())?, out),
        Question::Pages(at) => {
            pages::inspect(&Place::open(&at.data_dir, at.wal_dir.as_deref())?, out)
        }
        Question::Log(at) => {
            log::inspect(&Place::open(&at.data_dir, at.wal_dir.as_deref())?, out, notes)
        }
    }
}

const EXIT_DAMAGED: u8 = 1;
const EXIT_NO_ANSWER: u8 = 2;

/// How often something is read that does not verify, before it counts as damaged.
const READ_ATTEMPTS_MAX: usize = 5;

/// The one keyspace there is.
const DEFAULT_GROUP: u64 = 1;
