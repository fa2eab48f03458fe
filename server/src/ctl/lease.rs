//! The lease commands.

use super::arguments::LeaseCommand;
use super::commands::{connect, parse_lease_id};
use super::printer::{Printer, Shown};
use super::{EXIT_BAD_ARGUMENTS, EXIT_BAD_CONNECTION, Failure};
use corestone_client::{Client, Options};
use std::io::Write;
use std::time::Duration;
use tokio::time::sleep;

pub(super) async fn run<W: Write>(
    command: LeaseCommand,
    options: Options,
    printer: &mut Printer<W>,
) -> Result<(), Failure> {
    match command {
        LeaseCommand::Grant { words } => {
            let ttl = one(&words, "lease grant command needs TTL argument")?;
            let ttl_s: i64 = ttl.parse().map_err(|_not_a_number| {
                let message = format!("bad TTL (parsing {ttl:?}: invalid syntax)");
                Failure::new(EXIT_BAD_ARGUMENTS, message)
            })?;
            let granted = connect(options)?.lease_grant(ttl_s).await?;
            printer.show(&granted.header, &Shown::LeaseGrant(granted.body))?;
        }
        LeaseCommand::Revoke { words } => {
            let id = lease_id(&words, "lease revoke command needs 1 argument")?;
            let revoked = connect(options)?.lease_revoke(id).await.map_err(|error| {
                let message = format!("failed to revoke lease ({error})");
                Failure::new(super::EXIT_ERROR, message)
            })?;
            printer.show(&revoked.header, &Shown::LeaseRevoke { id })?;
        }
        LeaseCommand::Timetolive { words, keys } => {
            let id = lease_id(&words, "lease timetolive command needs lease ID as argument")?;
            let client = connect(options)?;
            let lease = if keys {
                client.lease_keys(id).await?
            } else {
                client.lease_time_to_live(id).await?
            };
            printer.show(&lease.header, &Shown::LeaseTimeToLive { lease: &lease.body, keys })?;
        }
        LeaseCommand::KeepAlive { words, once } => {
            let id = lease_id(&words, "lease keep-alive command needs lease ID as argument")?;
            keep_alive(id, once, &connect(options)?, printer).await?;
        }
        LeaseCommand::List => {
            let leases = connect(options)?.leases().await?;
            printer.show(&leases.header, &Shown::Leases(&leases.body))?;
        }
    }
    Ok(())
}

/// Renews until the lease is gone, at a third of its time to live.
async fn keep_alive<W: Write>(
    id: i64,
    once: bool,
    client: &Client,
    printer: &mut Printer<W>,
) -> Result<(), Failure> {
    loop {
        let renewed = client.lease_keep_alive(id).await?;
        if renewed.ttl_s <= 0 {
            if once {
                let message = "etcdserver: requested lease not found";
                return Err(Failure::new(EXIT_BAD_CONNECTION, message));
            }
            printer.show_line(&format!("lease {id:016x} expired or revoked."))?;
            return Ok(());
        }
        printer.show(&renewed.header, &Shown::LeaseKeepAlive(renewed.body))?;
        if once {
            return Ok(());
        }
        let ttl = Duration::from_secs(renewed.ttl_s.unsigned_abs());
        sleep(ttl / 3).await;
    }
}

fn one<'a>(words: &'a [String], needs: &str) -> Result<&'a str, Failure> {
    match words {
        [word] => Ok(word),
        _ => Err(Failure::new(EXIT_BAD_ARGUMENTS, needs)),
    }
}

fn lease_id(words: &[String], needs: &str) -> Result<i64, Failure> {
    parse_lease_id(one(words, needs)?).map_err(|why| {
        let message = format!("bad lease ID arg ({why}), expecting ID in Hex");
        Failure::new(EXIT_BAD_ARGUMENTS, message)
    })
}
