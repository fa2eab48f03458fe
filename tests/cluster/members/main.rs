//! Several members as real processes on loopback: killed, paused, cut off, added and removed while
//! clients write through each of them.
//!
//! Each test holds the machine for itself ([`alone`]): some measure how long writes stall.

#![allow(clippy::unwrap_used, reason = "all of it is test, and only test functions may by default")]

mod ask;
#[path = "../../etcd/client.rs"]
#[allow(dead_code, reason = "shared with the target that uses all of it")]
mod client;
mod ctl;
mod damage;
mod disks;
mod failover;
mod full_disk;
mod growth;
mod kill;
mod learners;
mod leases;
mod load;
mod partition;
mod pause;
#[path = "../../etcd/read.rs"]
#[allow(dead_code, reason = "shared with the target that uses all of it")]
mod read;
mod spray;
mod transfer;

use std::future::Future;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ::tests::process::{Cluster, IoDriver, Program};

/// One test at a time: processes of two would take the cores from each other's clocks.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn corestone() -> Program {
    Program::Corestone(IoDriver::Auto)
}

fn three() -> Cluster {
    Cluster::start(&corestone(), 3, &[])
}

/// Three whose disk is the machine's memory: for times that only they themselves make.
fn three_in_memory() -> Cluster {
    let mut cluster = Cluster::unstarted(&corestone(), 3, &[]);
    cluster.keep_in_memory();
    cluster.found().unwrap();
    cluster
}

/// Runs calls to their end.
fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let result = runtime.block_on(work);
    runtime.shutdown_background();
    result
}

/// The result of what has to come in time.
///
/// # Panics
/// When it does not.
async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.expect("an answer in time")
}

/// For one answer, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);
