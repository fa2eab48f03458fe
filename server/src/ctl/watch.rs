//! The watch command: shows events until it is stopped, or runs a command for each.

use super::arguments::WatchArguments;
use super::commands::key_range;
use super::printer::{Printer, Shown};
use super::quoted::quote;
use super::{EXIT_BAD_ARGUMENTS, EXIT_ERROR, EXIT_INTERRUPTED, Failure};
use corestone_client::{
    Client, Error, Event, EventType, ResponseHeader, WatchMessage, WatchRequest,
};
use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::process::Command;

pub(super) async fn run<W: Write>(
    arguments: WatchArguments,
    client: Client,
    printer: &mut Printer<W>,
) -> Result<(), Failure> {
    let needs = "bad number of arguments";
    let (key, range_end) = key_range(arguments.words, arguments.prefix, false, needs)?;
    let request = WatchRequest {
        key,
        range_end,
        start_revision: arguments.rev,
        progress_notify: arguments.progress_notify,
        prev_kv: arguments.prev_kv,
        ..WatchRequest::default()
    };
    let mut watch = client.watch(request).await.map_err(failure_of)?;
    let header = watch.header();
    while let Some(message) = watch.next().await {
        let message = message.map_err(failure_of)?;
        let header = ResponseHeader { revision: message.revision, ..header };
        printer.show(&header, &Shown::Watch(&message))?;
        run_for_each(&arguments.exec, &message)?;
    }
    Ok(())
}

/// A watch that the server ended says so in two lines, as etcdctl does.
fn failure_of(error: Error) -> Failure {
    let reason = match &error {
        Error::Compacted { .. } => "etcdserver: mvcc: required revision has been compacted",
        Error::WatchCanceled { reason } => reason,
        _ => return Failure::from(error),
    };
    // When nobody reads the explanation, the exit code still tells.
    let _ = writeln!(io::stderr(), "watch was canceled ({reason})");
    Failure::new(EXIT_INTERRUPTED, "watch is canceled by the server")
}

fn run_for_each(exec: &[OsString], message: &WatchMessage) -> Result<(), Failure> {
    let Some((program, arguments)) = exec.split_first() else {
        return Ok(());
    };
    for event in message.events.iter() {
        let status = command(program, arguments, message.revision, &event).status();
        let status = status.map_err(|error| {
            let message = format!("command {program:?} cannot run: {error}");
            Failure::new(EXIT_BAD_ARGUMENTS, message)
        })?;
        if !status.success() {
            return Err(Failure::new(EXIT_ERROR, format!("command {program:?}: {status}")));
        }
    }
    Ok(())
}

/// The command with the event in its environment, quoted as etcdctl quotes it.
fn command(program: &OsStr, arguments: &[OsString], revision: i64, event: &Event<'_>) -> Command {
    let event_type = match event.event_type {
        EventType::Put => "\"PUT\"",
        EventType::Delete => "\"DELETE\"",
    };
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env("ETCD_WATCH_REVISION", revision.to_string())
        .env("ETCD_WATCH_EVENT_TYPE", event_type)
        .env("ETCD_WATCH_KEY", OsStr::from_bytes(quote(event.kv.key).as_bytes()))
        .env("ETCD_WATCH_VALUE", OsStr::from_bytes(quote(event.kv.value).as_bytes()));
    command
}
