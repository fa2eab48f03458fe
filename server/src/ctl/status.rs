//! Status and health of each endpoint, asked on a connection of its own.

use super::arguments::{EndpointArguments, EndpointCommand};
use super::commands::connect;
use super::printer::{EndpointHealth, EndpointStatus, Format, Printer, Shown};
use super::{EXIT_ERROR, Failure};
use corestone_client::{Error, MemberStatus, Options, Response, ResponseHeader};
use std::io::{self, Write};
use std::time::Instant;

pub(super) async fn run<W: Write>(
    arguments: EndpointArguments,
    mut options: Options,
    printer: &mut Printer<W>,
) -> Result<(), Failure> {
    let mut silent = Vec::new();
    if arguments.cluster {
        (options.endpoints, silent) = endpoints_of_cluster(&options).await?;
    }
    match arguments.command {
        EndpointCommand::Status => run_status(options, printer).await?,
        EndpointCommand::Health => run_health(options, printer).await?,
    }
    if silent.is_empty() {
        return Ok(());
    }
    let names = silent.join(", ");
    let message = format!("no URL of the binary protocol is known of {names}");
    Err(Failure::new(EXIT_ERROR, message))
}

/// Where all members speak the binary protocol, as one of them tells it, and the names of those
/// that have started and do not. The client URLs are no such place: they speak etcd's API.
async fn endpoints_of_cluster(options: &Options) -> Result<(Vec<String>, Vec<String>), Failure> {
    let members = connect(options.clone())?.member_list().await.map_err(|error| {
        let message = format!("failed to fetch endpoints from etcd cluster member list: {error}");
        Failure::new(EXIT_ERROR, message)
    })?;
    let (mut urls, mut silent) = (Vec::new(), Vec::new());
    for member in members.body {
        if !member.name.is_empty() && member.binary_urls.is_empty() {
            silent.push(member.name);
        }
        urls.extend(member.binary_urls);
    }
    Ok((urls, silent))
}

/// Each endpoint with its answer.
pub(super) async fn ask_all(
    options: &Options,
) -> Result<Vec<(String, Result<Response<MemberStatus>, Error>)>, Failure> {
    let mut answers = Vec::with_capacity(options.endpoints.len());
    for endpoint in &options.endpoints {
        answers.push((endpoint.clone(), connect(only(options, endpoint))?.status().await));
    }
    Ok(answers)
}

/// The same, for one endpoint.
pub(super) fn only(options: &Options, endpoint: &str) -> Options {
    Options { endpoints: vec![endpoint.to_owned()], ..options.clone() }
}

pub(super) async fn run_status<W: Write>(
    options: Options,
    printer: &mut Printer<W>,
) -> Result<(), Failure> {
    let mut failed = 0;
    let mut statuses = Vec::new();
    for (endpoint, answer) in ask_all(&options).await? {
        match answer {
            Ok(Response { header, body: status }) => {
                statuses.push(EndpointStatus { endpoint, header, status });
            }
            Err(error) => {
                failed += 1;
                let line = format!("Failed to get the status of endpoint {endpoint} ({error})");
                // When nobody reads the explanation, the exit code still tells.
                let _ = writeln!(io::stderr(), "{line}");
            }
        }
    }
    printer.show(&ResponseHeader::default(), &Shown::Statuses(&statuses))?;
    match failed {
        0 => Ok(()),
        _ => Err(Failure::new(EXIT_ERROR, "not every endpoint told its status")),
    }
}

/// Healthy is who answers a linearizable read; what it finds does not matter.
async fn run_health<W: Write>(options: Options, printer: &mut Printer<W>) -> Result<(), Failure> {
    let mut healths = Vec::new();
    for endpoint in &options.endpoints {
        let asked_at = Instant::now();
        let answer = connect(only(&options, endpoint))?.get("health").await;
        let took = asked_at.elapsed();
        let error = match answer {
            Ok(_) | Err(Error::Status { code: PERMISSION_DENIED, .. }) => String::new(),
            Err(error) => error.to_string(),
        };
        if !error.is_empty() && printer.format() == Format::Simple {
            let line = format!("{endpoint} is unhealthy: failed to commit proposal: {error}");
            // As above.
            let _ = writeln!(io::stderr(), "{line}");
        }
        healths.push(EndpointHealth { endpoint: endpoint.clone(), took, error });
    }
    printer.show(&ResponseHeader::default(), &Shown::Healths(&healths))?;
    match healths.iter().all(EndpointHealth::is_healthy) {
        true => Ok(()),
        false => Err(Failure::new(EXIT_ERROR, "unhealthy cluster")),
    }
}

/// The gRPC code: who may not read the key has been answered all the same.
const PERMISSION_DENIED: u32 = 7;
