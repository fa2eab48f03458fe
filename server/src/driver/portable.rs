//! The portable driver: a thread a core, epoll, and the WAL written by a thread of its own. It runs
//! wherever Linux does, without io_uring.

use super::{CoreParts, Program, run_until_stopped, wal_writer::ThreadWalWriter};
use crate::error::Fault;

/// Runs one core on the calling thread until its program has stopped.
///
/// With a `cpu` the thread is pinned to it.
pub fn run<P: Program>(program: P, parts: CoreParts, cpu: Option<usize>) -> Result<(), Fault> {
    if let Some(cpu) = cpu {
        crate::machine::pin_thread(cpu).map_err(Fault::Wait)?;
    }
    let waker = parts.mesh.waker(parts.core).clone();
    let wal = ThreadWalWriter::start(waker).map_err(Fault::Wait)?;
    run_until_stopped(program, wal, parts)
}
