//! Status and health of each endpoint, asked on a connection of its own.

use super::arguments::EndpointCommand;
use super::commands::connect;
use super::printer::{Printer, Shown};
use super::{EXIT_ERROR, Failure};
use corestone_client::{Error, Options};
use std::io::{self, Write};
use std::time::Instant;

pub(super) async fn run<W: Write>(
    command: EndpointCommand,
    options: Options,
    printer: &mut Printer<W>,
) -> Result<(), Failure> {
    match command {
        EndpointCommand::Status => run_status(options, printer).await,
        EndpointCommand::Health => run_health(options, printer).await,
    }
}

pub(super) async fn run_status<W: Write>(
    options: Options,
    printer: &mut Printer<W>,
) -> Result<(), Failure> {
    let mut failed = 0;
    for endpoint in &options.endpoints {
        let one = Options { endpoints: vec![endpoint.clone()], ..options.clone() };
        match connect(one)?.status().await {
            Ok(status) => {
                printer.show(&status.header, &Shown::Status { endpoint, status: &status.body })?;
            }
            Err(error) => {
                failed += 1;
                let line = format!("Failed to get the status of endpoint {endpoint} ({error})");
                // When nobody reads the explanation, the exit code still tells.
                let _ = writeln!(io::stderr(), "{line}");
            }
        }
    }
    match failed {
        0 => Ok(()),
        _ => Err(Failure::new(EXIT_ERROR, "not every endpoint told its status")),
    }
}

/// Healthy is who answers a linearizable read; what it finds does not matter.
async fn run_health<W: Write>(options: Options, printer: &mut Printer<W>) -> Result<(), Failure> {
    let mut unhealthy = 0;
    for endpoint in &options.endpoints {
        let one = Options { endpoints: vec![endpoint.clone()], ..options.clone() };
        let asked_at = Instant::now();
        let answer = connect(one)?.get("health").await;
        let took = asked_at.elapsed();
        match answer {
            Ok(_) | Err(Error::Status { code: PERMISSION_DENIED, .. }) => printer.show_line(
                &format!("{endpoint} is healthy: successfully committed proposal: took = {took:?}"),
            )?,
            Err(error) => {
                unhealthy += 1;
                let line = format!("{endpoint} is unhealthy: failed to commit proposal: {error}");
                printer.show_line(&line)?;
            }
        }
    }
    match unhealthy {
        0 => Ok(()),
        _ => Err(Failure::new(EXIT_ERROR, "unhealthy cluster")),
    }
}

/// The gRPC code: who may not read the key has been answered all the same.
const PERMISSION_DENIED: u32 = 7;
