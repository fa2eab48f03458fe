//! The uring driver: one glommio executor a core, the WAL written through a ring of its own.
//!
//! The executor owns the thread, its name and its CPU, and is the home of the ring, which must be
//! made and used on one thread. The loop is the executor's only task and waits for readiness
//! itself: sockets, wake-ups and the ring's eventfd are in one epoll set, so that a sleep costs one
//! system call. What waiting through the executor would cost instead was measured:
//! docs/decisions/sockets-of-the-uring-driver.md.
//! Invariants: everything of glommio is in this folder; nothing else ever runs on these executors,
//! so a wait in the loop holds nobody up; all I/O is over before an executor ends.
//! Source: runtime.md, the uring driver; runtime-facts.md, glommio's traps.

pub mod probe;
pub mod ring;

use std::io;

use glommio::{LocalExecutor, LocalExecutorBuilder, Placement};

use super::{CoreParts, Program, run_until_stopped};
use crate::error::Fault;
use ring::RingWalWriter;

/// Runs one core on the calling thread until its program has stopped. With a `cpu` the thread is
/// pinned to it.
pub fn run<P: Program>(program: P, parts: CoreParts, cpu: Option<usize>) -> Result<(), Fault> {
    executor(cpu).map_err(Fault::Wait)?.run(run_here(program, parts))
}

async fn run_here<P: Program>(program: P, parts: CoreParts) -> Result<(), Fault> {
    let wal = RingWalWriter::new().map_err(Fault::Wait)?;
    run_until_stopped(program, wal, parts)
}

/// An executor that pins as little memory as glommio allows: it needs none of it.
fn executor(cpu: Option<usize>) -> io::Result<LocalExecutor> {
    LocalExecutorBuilder::new(cpu.map_or(Placement::Unbound, Placement::Fixed))
        .name("core")
        .io_memory(EXECUTOR_IO_MEMORY_BYTES)
        .ring_depth(EXECUTOR_RING_DEPTH)
        .make()
        .map_err(|error| match error {
            glommio::GlommioError::IoError(error) => error,
            error => io::Error::other(error.to_string()),
        })
}

const EXECUTOR_IO_MEMORY_BYTES: usize = 1 << 20;
const EXECUTOR_RING_DEPTH: usize = 64;
