//! The floor under a durable put: one 4 KiB write that is on disk, and one round trip of 64 bytes
//! over loopback. Nothing that answers after a sync can be faster than both together.

use crate::affinity::pin_to;
use crate::error::{BenchError, io_error};
use io_uring::{IoUring, opcode, squeue, types};
use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

/// Medians.
#[derive(Clone, Copy, Debug)]
pub struct Floor {
    /// A direct 4 KiB write and its sync, by the quicker of the two ways.
    pub write: Duration,
    /// 64 bytes there and back, between the member's core and the load's.
    pub round_trip: Duration,
}

impl Floor {
    /// Measures in `directory`; the echo runs on `member_cores`, the rest where the caller is.
    ///
    /// # Errors
    /// When the file system knows no direct writes, or there is no socket.
    pub fn measure(
        directory: &Path,
        member_cores: &[usize],
        load_cores: &[usize],
    ) -> Result<Floor, BenchError> {
        pin_to(member_cores)?;
        let write = measure_write(directory);
        let listener = TcpListener::bind("127.0.0.1:0").map_err(io_error("listening"))?;
        let address = listener.local_addr().map_err(io_error("listening"))?;
        let echo = std::thread::spawn(move || echo_one(&listener));
        pin_to(load_cores)?;
        let round_trip = measure_round_trip(address);
        echo.join().expect("the echo reports errors").map_err(io_error("echoing"))?;
        Ok(Floor { write: write?, round_trip: round_trip.map_err(io_error("round trip"))? })
    }

    /// Both together.
    pub fn sum(&self) -> Duration {
        self.write + self.round_trip
    }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn measure_write(directory: &Path) -> Result<Duration, BenchError> {
    let path = directory.join("floor");
    let result = write_prepared(&path).and_then(|()| {
        let file = File::options()
            .write(true)
            .custom_flags(rustix::fs::OFlags::DIRECT.bits() as i32)
            .open(&path)?;
        let buffer = AlignedBlock::new();
        let plain = median(measure_plain(&file, buffer.bytes())?);
        // Where io_uring is refused, the plain way is the floor.
        let linked = measure_linked(&file, buffer.bytes()).map_or(plain, median);
        Ok(plain.min(linked))
    });
    // A leftover of 16 MiB in a temporary directory is no reason to lose the figures.
    let _ = std::fs::remove_file(&path);
    result.map_err(io_error("measuring durable writes"))
}

/// Writes every block once, so that a later write changes no metadata.
fn write_prepared(path: &Path) -> std::io::Result<()> {
    let mut file = File::create(path)?;
    let zeros = vec![0; 1 << 20];
    for _ in 0..FILE_BLOCKS * BLOCK_SIZE_BYTES / zeros.len() as u64 {
        file.write_all(&zeros)?;
    }
    file.sync_all()
}

fn measure_plain(file: &File, block: &[u8]) -> std::io::Result<Vec<Duration>> {
    let mut times = Vec::with_capacity(SAMPLES);
    for sample in 0..SAMPLES as u64 {
        let begin = Instant::now();
        file.write_all_at(block, sample % FILE_BLOCKS * BLOCK_SIZE_BYTES)?;
        file.sync_data()?;
        times.push(begin.elapsed());
    }
    Ok(times)
}

fn measure_linked(file: &File, block: &[u8]) -> std::io::Result<Vec<Duration>> {
    let mut ring: IoUring =
        IoUring::builder().setup_single_issuer().setup_defer_taskrun().build(4)?;
    let descriptor = types::Fd(file.as_raw_fd());
    let mut times = Vec::with_capacity(SAMPLES);
    for sample in 0..SAMPLES as u64 {
        let begin = Instant::now();
        let write = opcode::Write::new(descriptor, block.as_ptr(), block.len() as u32)
            .offset(sample % FILE_BLOCKS * BLOCK_SIZE_BYTES)
            .build()
            .flags(squeue::Flags::IO_LINK);
        let sync =
            opcode::Fsync::new(descriptor).flags(types::FsyncFlags::DATASYNC).build().user_data(1);
        // SAFETY: `block` and `file` outlive the loop, and both completions are taken before the
        // next turn, so the kernel never reads the buffer after it is gone.
        unsafe { ring.submission().push_multiple(&[write, sync]) }
            .map_err(|_full| std::io::Error::other("the ring is full"))?;
        ring.submit_and_wait(2)?;
        let expected = [block.len() as i32, 0];
        for completion in ring.completion() {
            if completion.result() != expected[completion.user_data() as usize] {
                return Err(std::io::Error::from_raw_os_error(-completion.result()));
            }
        }
        times.push(begin.elapsed());
    }
    Ok(times)
}

fn echo_one(listener: &TcpListener) -> std::io::Result<()> {
    let (mut socket, _) = listener.accept()?;
    socket.set_nodelay(true)?;
    let mut message = [0; MESSAGE_SIZE_BYTES];
    loop {
        match socket.read_exact(&mut message) {
            Ok(()) => socket.write_all(&message)?,
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

fn measure_round_trip(address: std::net::SocketAddr) -> std::io::Result<Duration> {
    let mut socket = TcpStream::connect(address)?;
    socket.set_nodelay(true)?;
    let mut message = [7; MESSAGE_SIZE_BYTES];
    let mut times = Vec::with_capacity(SAMPLES);
    for _ in 0..SAMPLES {
        let begin = Instant::now();
        socket.write_all(&message)?;
        socket.read_exact(&mut message)?;
        times.push(begin.elapsed());
    }
    Ok(median(times))
}

/// A block of memory as direct writes want it.
struct AlignedBlock {
    memory: Vec<u8>,
    begin: usize,
}

impl AlignedBlock {
    fn new() -> AlignedBlock {
        let memory = vec![0xa5; 2 * BLOCK_SIZE_BYTES as usize];
        let begin = memory.as_ptr().align_offset(BLOCK_SIZE_BYTES as usize);
        assert!(begin <= BLOCK_SIZE_BYTES as usize);
        AlignedBlock { memory, begin }
    }

    fn bytes(&self) -> &[u8] {
        &self.memory[self.begin..][..BLOCK_SIZE_BYTES as usize]
    }
}

const BLOCK_SIZE_BYTES: u64 = 4096;
const FILE_BLOCKS: u64 = 4096;
const MESSAGE_SIZE_BYTES: usize = 64;
const SAMPLES: usize = 500;
