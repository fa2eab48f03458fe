//! Whether the uring driver can run here: tried, not guessed from versions, on a thread of its own,
//! with exactly what the driver will use.
//!
//! Containers' default seccomp profile answers EPERM, kernels before 6.1 EINVAL, gVisor ENOSYS, a
//! low memlock limit ENOMEM.

use std::{
    fmt, fs, io,
    path::Path,
    time::{Duration, Instant},
};

use engine::wal::{
    buffer::WalBuffer,
    limits::BLOCK_SIZE_BYTES,
    position::{SegmentId, WalPosition},
    writer::WalWrite,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{executor, ring::RingWalWriter};
use crate::driver::wal_writer::WalWriter;

/// What was refused.
#[derive(Debug)]
pub struct Refusal {
    what: &'static str,
    error: io::Error,
}

impl Refusal {
    /// What a user can do about it.
    pub fn remedy(&self) -> &'static str {
        match self.error.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => {
                "allow the io_uring system calls: a seccomp profile that has them, and \
                 kernel.io_uring_disabled=0"
            }
            Some(libc::EINVAL) => "run on Linux 6.1 or later",
            Some(libc::ENOSYS | libc::EOPNOTSUPP) => "run on a kernel with io_uring",
            Some(libc::ENOMEM) => "raise the memlock limit (ulimit -l) to 8 MiB or more",
            _ => "none is known; --io-driver=portable silences this line",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.error)
    }
}

/// Tries an executor, the ring, its eventfd and one linked write in the WAL's directory.
pub fn probe(wal_directory: &Path) -> Result<(), Refusal> {
    let path = wal_directory.join("preparing-probe-uring");
    let thread_path = path.clone();
    let thread = std::thread::Builder::new()
        .name("uring-probe".to_owned())
        .spawn(move || probe_here(&thread_path))
        .map_err(refused("a thread"))?;
    let outcome = thread.join().expect("a panic ends the process");
    // Cleared at the next start if it stays.
    let _ = fs::remove_file(&path);
    outcome
}

fn refused(what: &'static str) -> impl FnOnce(io::Error) -> Refusal {
    move |error| Refusal { what, error }
}

fn probe_here(path: &Path) -> Result<(), Refusal> {
    probe_bare_ring().map_err(refused("io_uring"))?;
    let executor = executor(None).map_err(refused("an executor on io_uring"))?;
    executor.run(async {
        let mut writer = RingWalWriter::new().map_err(refused("a ring for the WAL"))?;
        let file = fs::File::options()
            .write(true)
            .create(true)
            .truncate(true)
            .open(path)
            .map_err(refused("a file in the WAL's directory"))?;
        let segment = SegmentId(1);
        writer.attach(segment, file);
        write_once(&mut writer, segment).map_err(refused("a linked write and sync"))
    })
}

/// The executor does not survive a kernel that refuses its first calls, so they are tried before.
fn probe_bare_ring() -> io::Result<()> {
    let ring = io_uring::IoUring::new(BARE_RING_ENTRIES)?;
    ring.submitter().register_probe(&mut io_uring::Probe::new())
}

const BARE_RING_ENTRIES: u32 = 8;

fn write_once(writer: &mut RingWalWriter, segment: SegmentId) -> io::Result<()> {
    let other = |fault: crate::error::Fault| io::Error::other(fault.to_string());
    let end = WalPosition::new(segment, BLOCK_SIZE_BYTES as u64);
    let buffer = WalBuffer::zeroed(BLOCK_SIZE_BYTES);
    writer.write(WalWrite { segment, offset_bytes: 0, buffer, end }).map_err(other)?;
    let began = Instant::now();
    let mut inputs = Vec::new();
    loop {
        writer.completed(&mut inputs).map_err(other)?;
        if !inputs.is_empty() {
            return Ok(());
        }
        if ANSWER_WAIT_MAX < began.elapsed() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let limit = Timespec { tv_sec: 1, tv_nsec: 0 };
        let mut files = [PollFd::from_borrowed_fd(writer.event_file(), PollFlags::IN)];
        poll(&mut files, Some(&limit))?;
        if !files[0].revents().is_empty() {
            writer.on_event();
        }
    }
}

/// A disk that is slower than this is slow with every driver; it does not speak against io_uring,
/// but a start must come to an end.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_leaves_nothing_behind() {
        let directory = tempfile::tempdir().unwrap();
        // Whether io_uring works depends on the host; either way the answer is clean.
        if let Err(refusal) = probe(directory.path()) {
            assert!(!refusal.remedy().is_empty());
        }
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_refusal_says_what_to_do() {
        for (errno, part) in [
            (libc::EPERM, "seccomp"),
            (libc::EINVAL, "Linux 6.1"),
            (libc::ENOSYS, "kernel with io_uring"),
            (libc::ENOMEM, "memlock"),
        ] {
            let error = io::Error::from_raw_os_error(errno);
            let refusal = Refusal { what: "a ring", error };
            assert!(refusal.remedy().contains(part));
            assert!(refusal.to_string().starts_with("a ring: "));
        }
    }

    #[test]
    fn what_cannot_be_written_is_a_refusal() {
        assert!(probe(Path::new("/proc/self/nowhere")).is_err());
    }
}
