//! `corestone ctl`: the command line client, in etcdctl's words.
//!
//! Commands, flags, output and exit codes are etcdctl's, so that scripts go on; the connection is
//! the binary protocol's, so the endpoint is that of the binary port.
//! Source: fact sheet of etcd's command line, section 5; outputs compared with etcdctl 3.7.1.

mod arguments;
mod commands;
mod fields;
mod json;
mod lease;
mod member;
mod printer;
mod quoted;
mod simple;
mod status;
mod table;
mod txn_text;
mod watch;

pub use arguments::CtlArguments;

use clap::Parser;
use clap::error::ErrorKind;
use corestone_client::Error;
use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

/// What ends a command: etcdctl's exit code and the text behind `Error: `.
#[derive(Debug, PartialEq, Eq)]
struct Failure {
    code: u8,
    message: String,
}

/// Something went wrong, the server's refusals too.
const EXIT_ERROR: u8 = 1;
/// The server does not know what it should.
const EXIT_BAD_CONNECTION: u8 = 2;
/// The text on standard input makes no sense.
const EXIT_INVALID_INPUT: u8 = 3;
/// A value that names no feature.
const EXIT_BAD_FEATURE: u8 = 4;
/// A watch was ended from the other side.
const EXIT_INTERRUPTED: u8 = 5;
/// Standard output is gone.
const EXIT_IO: u8 = 6;
/// Too few or too many arguments, or such that do not go together.
const EXIT_BAD_ARGUMENTS: u8 = 128;

impl Failure {
    fn new(code: u8, message: impl Into<String>) -> Failure {
        Failure { code, message: message.into() }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::new(EXIT_ERROR, error.to_string())
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure::new(EXIT_IO, error.to_string())
    }
}

/// Runs a command to its end.
pub fn run(arguments: CtlArguments) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return end(&Failure::from(error)),
    };
    match runtime.block_on(commands::run(arguments, io::stdout())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => end(&failure),
    }
}

/// Parses the words after `corestone ctl` and runs them, with etcdctl's exit codes for words that
/// make no command.
pub fn run_from(words: impl IntoIterator<Item = OsString>) -> ExitCode {
    let name = OsString::from("corestone ctl");
    match CtlArguments::try_parse_from(std::iter::once(name).chain(words)) {
        Ok(arguments) => run(arguments),
        Err(error) => {
            // When nobody reads the explanation, the exit code still tells.
            let _ = error.print();
            ExitCode::from(exit_code_of(error.kind()))
        }
    }
}

fn exit_code_of(kind: ErrorKind) -> u8 {
    match kind {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => 0,
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => 0,
        ErrorKind::UnknownArgument | ErrorKind::InvalidSubcommand | ErrorKind::InvalidValue => {
            EXIT_ERROR
        }
        ErrorKind::ValueValidation => EXIT_ERROR,
        _ => EXIT_BAD_ARGUMENTS,
    }
}

fn end(failure: &Failure) -> ExitCode {
    // When nobody reads the explanation, the exit code still tells.
    let _ = writeln!(io::stderr(), "Error: {}", failure.message);
    ExitCode::from(failure.code)
}

#[cfg(test)]
mod end_to_end_test;
// The client's own tests use more of it.
#[cfg(test)]
#[allow(dead_code)]
#[path = "../../../client/tests/fake/mod.rs"]
mod fake;
#[cfg(test)]
mod printer_test;
