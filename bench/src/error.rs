//! What can go wrong while measuring: it always ends the run with one line.

use std::fmt;
use std::io;

/// Why a run ended without its figures.
#[derive(Debug)]
pub enum BenchError {
    /// The operating system refused something; what was tried.
    Io(&'static str, io::Error),
    /// The member did not start or ended; what its log said last.
    Member(String),
    /// A call failed.
    Call(String),
    /// The arguments make no sense together.
    Usage(String),
}

impl fmt::Display for BenchError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BenchError::Io(what, error) => write!(formatter, "{what}: {error}"),
            BenchError::Member(log) => write!(formatter, "the member did not serve: {log}"),
            BenchError::Call(text) => write!(formatter, "a call failed: {text}"),
            BenchError::Usage(text) => formatter.write_str(text),
        }
    }
}

impl std::error::Error for BenchError {}

impl From<tonic::Status> for BenchError {
    fn from(status: tonic::Status) -> BenchError {
        BenchError::Call(format!("{:?}: {}", status.code(), status.message()))
    }
}

impl From<tonic::transport::Error> for BenchError {
    fn from(error: tonic::transport::Error) -> BenchError {
        BenchError::Call(error.to_string())
    }
}

impl From<corestone_client::Error> for BenchError {
    fn from(error: corestone_client::Error) -> BenchError {
        BenchError::Call(error.to_string())
    }
}

/// Names what was tried when the operating system refuses it.
pub fn io_error<E: Into<io::Error>>(what: &'static str) -> impl FnOnce(E) -> BenchError {
    move |error| BenchError::Io(what, error.into())
}
