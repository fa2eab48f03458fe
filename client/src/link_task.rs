//! The tasks of a client: one that sees to it that there is a connection, and one for each
//! connection that reads and writes it.

use crate::backoff::Backoff;
use crate::dial::dial;
use crate::error::Error;
use crate::link::LinkFate;
use crate::shared::{Outgoing, Shared};
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

/// Connects whenever there is no connection, until the client is closed.
pub(crate) async fn manage(shared: Arc<Shared>) {
    let options = &shared.options;
    let mut backoff = Backoff::new(options.backoff_min, options.backoff_max);
    let mut slot = 0;
    let mut installed_at: Option<Instant> = None;
    while let Some(hint) = shared.link_wanted().await {
        match installed_at.take() {
            // A server that takes connections only to drop them, or to send the client elsewhere,
            // is not asked without a pause.
            Some(at) if at.elapsed() < options.backoff_max => {
                sleep(backoff.pause()).await;
            }
            Some(_) => backoff.reset(),
            None => {}
        }
        let address =
            hint.unwrap_or_else(|| shared.addresses[slot % shared.addresses.len()].clone());
        let dialled = timeout(options.connect_timeout, dial(&address, &options.client_name)).await;
        let error = match dialled {
            Ok(Ok((socket, session))) => {
                let Some((generation, outgoing)) = shared.install(address, session) else {
                    return;
                };
                tokio::spawn(run(Arc::clone(&shared), generation, socket, outgoing));
                installed_at = Some(Instant::now());
                // When this one is lost, the next endpoint is the better bet.
                slot += 1;
                continue;
            }
            Ok(Err(error)) => error,
            Err(_elapsed) => Error::Unreachable { reason: format!("{address}: timed out") },
        };
        shared.on_dial_failed(error);
        slot += 1;
        if slot.is_multiple_of(shared.addresses.len()) {
            sleep(backoff.pause()).await;
        }
    }
}

/// Carries one connection to its end.
async fn run(shared: Arc<Shared>, generation: u64, mut socket: TcpStream, outgoing: Arc<Notify>) {
    let (read_half, write_half) = socket.split();
    let error = tokio::select! {
        error = read_all(&shared, generation, read_half) => error,
        error = write_all(&shared, generation, write_half, &outgoing) => error,
        error = keep_alive(&shared, generation) => error,
    };
    shared.on_link_lost(generation, error);
}

async fn read_all(shared: &Shared, generation: u64, mut socket: ReadHalf<'_>) -> Error {
    let mut buffer = vec![0; READ_SIZE_BYTES];
    loop {
        match socket.read(&mut buffer).await {
            Ok(0) => return lost("closed by the server"),
            Ok(size) => match shared.on_received(generation, &buffer[..size]) {
                Ok(LinkFate::GoesOn) => {}
                Ok(LinkFate::Done) => return lost("retired"),
                Err(error) => return error,
            },
            Err(error) => return lost(&error.to_string()),
        }
    }
}

async fn write_all(
    shared: &Shared,
    generation: u64,
    mut socket: WriteHalf<'_>,
    outgoing: &Notify,
) -> Error {
    let mut buffer = Vec::new();
    loop {
        match shared.outgoing(generation, buffer) {
            Outgoing::Bytes(mut bytes) => {
                if let Err(error) = socket.write_all(&bytes).await {
                    return lost(&error.to_string());
                }
                bytes.clear();
                bytes.shrink_to(READ_SIZE_BYTES);
                buffer = bytes;
            }
            Outgoing::Nothing(empty) => {
                buffer = empty;
                outgoing.notified().await;
                // Whoever is ready to call now gets into the same write.
                tokio::task::yield_now().await;
            }
            Outgoing::End => return lost("retired"),
        }
    }
}

async fn keep_alive(shared: &Shared, generation: u64) -> Error {
    let mut ticks = interval(shared.options.keep_alive_interval / 2);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Err(error) = shared.on_tick(generation) {
            return error;
        }
    }
}

fn lost(reason: &str) -> Error {
    Error::Unreachable { reason: reason.to_owned() }
}

/// What one read takes at most, and what a write buffer keeps.
const READ_SIZE_BYTES: usize = 256 * 1024;
