//! A member as a process of its own, on cores of its own, and what the system says about it.
//!
//! Invariant: the process dies with its `Member`, and its data directory with the run.

use crate::affinity::{Cores, pin_to};
use crate::calls::Caller;
use crate::error::{BenchError, io_error};
use crate::metrics::fetch_number;
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{File, read_to_string};
use std::net::TcpListener;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Which program serves.
#[derive(Clone, Debug)]
pub enum Program {
    /// corestone, at this path.
    Corestone(PathBuf),
    /// The real etcd, at this path.
    Etcd(PathBuf),
}

impl Program {
    /// The name it is printed under.
    pub fn name(&self) -> &'static str {
        match self {
            Program::Corestone(_) => "corestone",
            Program::Etcd(_) => "etcd",
        }
    }

    /// The `corestone` that was built beside this program.
    ///
    /// # Errors
    /// When there is none.
    pub fn beside() -> Result<Program, BenchError> {
        let here = std::env::current_exe().map_err(io_error("finding this program"))?;
        let path = here.with_file_name("corestone");
        if path.exists() {
            return Ok(Program::Corestone(path));
        }
        let text = format!("{} is missing: cargo build --release -p server", path.display());
        Err(BenchError::Usage(text))
    }
}

/// How a member is started.
#[derive(Clone, Debug)]
pub struct MemberOptions {
    /// What is run.
    pub program: Program,
    /// Cores it gets; 0 is all, with the load on the last of them.
    pub cores: usize,
    /// Where the data directory is made.
    pub directory: PathBuf,
    /// Further flags.
    pub flags: Vec<String>,
}

/// See the file's head.
#[derive(Debug)]
pub struct Member {
    options: MemberOptions,
    data: TempDir,
    seat: Seat,
    child: Child,
    /// From starting the process to the first linearizable read answered.
    pub ready_after: Duration,
}

/// Who a member is in its cluster.
#[derive(Clone, Debug)]
struct Seat {
    name: String,
    /// Of clients, peers and the binary protocol.
    ports: [u16; 3],
    initial_cluster: String,
}

impl Seat {
    /// Seats of a cluster that is founded.
    fn of_cluster(size: usize) -> Result<Vec<Seat>, BenchError> {
        let ports = free_ports(size)?;
        let name = |number: usize| format!("m{number}");
        let all = ports.iter().enumerate();
        let all =
            all.map(|(number, ports)| format!("{}=http://127.0.0.1:{}", name(number), ports[1]));
        let initial_cluster = all.collect::<Vec<_>>().join(",");
        let seat = |(number, ports)| Seat {
            name: name(number),
            ports,
            initial_cluster: initial_cluster.clone(),
        };
        Ok(ports.into_iter().enumerate().map(seat).collect())
    }
}

/// Memory of a process, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Private memory: heap, stacks.
    pub anonymous_bytes: u64,
    /// Mapped files that are in memory.
    pub file_bytes: u64,
}

impl Memory {
    /// Both kinds.
    pub fn resident_bytes(&self) -> u64 {
        self.anonymous_bytes + self.file_bytes
    }
}

impl Member {
    /// Starts a member with an empty data directory and waits until it answers.
    ///
    /// # Errors
    /// When it does not in [`PATIENCE`].
    pub fn start(options: &MemberOptions) -> Result<Member, BenchError> {
        let begin = Instant::now();
        let mut member = Member::launch(options)?;
        member.wait_until_ready()?;
        member.ready_after = begin.elapsed();
        Ok(member)
    }

    /// Starts the process with an empty data directory and does not wait for it.
    ///
    /// # Errors
    /// When there is no directory or no process to be had.
    pub fn launch(options: &MemberOptions) -> Result<Member, BenchError> {
        let seat = Seat::of_cluster(1)?.remove(0);
        Member::launch_at(options, seat)
    }

    /// Starts all members of a cluster, on the same cores, and waits until each answers.
    ///
    /// # Errors
    /// As [`Member::start`].
    pub fn start_cluster(options: &MemberOptions, size: usize) -> Result<Vec<Member>, BenchError> {
        let begin = Instant::now();
        let seats = Seat::of_cluster(size)?.into_iter();
        let members: Result<Vec<_>, _> =
            seats.map(|seat| Member::launch_at(options, seat)).collect();
        let mut members = members?;
        for member in &mut members {
            member.wait_until_ready()?;
            member.ready_after = begin.elapsed();
        }
        Ok(members)
    }

    fn launch_at(options: &MemberOptions, seat: Seat) -> Result<Member, BenchError> {
        let data = TempDir::with_prefix_in("bench-", &options.directory)
            .map_err(io_error("making a data directory"))?;
        let child = spawn(options, data.path(), &seat)?;
        Ok(Member { options: options.clone(), data, seat, child, ready_after: Duration::ZERO })
    }

    /// Whether it says that it leads its cluster.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn is_leader(&self) -> Result<bool, BenchError> {
        let value = fetch_number(&self.client_address(), "etcd_server_is_leader")?;
        Ok(value == Some(1.0))
    }

    /// Starts the process again on the same data, after [`Member::stop`] or [`Member::kill`], and
    /// waits until it answers; how long that took.
    ///
    /// # Errors
    /// As [`Member::start`].
    pub fn restart(&mut self) -> Result<Duration, BenchError> {
        let begin = Instant::now();
        self.relaunch()?;
        self.wait_until_ready()?;
        self.ready_after = begin.elapsed();
        Ok(self.ready_after)
    }

    /// As [`Member::restart`], without waiting.
    ///
    /// # Errors
    /// When there is no process to be had.
    pub fn relaunch(&mut self) -> Result<(), BenchError> {
        self.child = spawn(&self.options, self.data.path(), &self.seat)?;
        Ok(())
    }

    /// Ends the process as an operator does, and waits for it.
    ///
    /// # Errors
    /// When it cannot be told or does not end well.
    pub fn stop(&mut self) -> Result<(), BenchError> {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::TERM).map_err(io_error("stopping the member"))?;
        let status = self.child.wait().map_err(io_error("waiting for the member"))?;
        // Both programs may end by the signal itself once they have stopped cleanly.
        let by_signal = status.signal() == Some(Signal::TERM.as_raw());
        match status.success() || by_signal {
            true => Ok(()),
            false => Err(BenchError::Member(format!("{status}: {}", self.log_tail()))),
        }
    }

    /// Ends the process as a crash does, and waits until it is gone.
    ///
    /// # Errors
    /// When it cannot be told.
    pub fn kill(&mut self) -> Result<(), BenchError> {
        self.child.kill().map_err(io_error("killing the member"))?;
        self.child.wait().map_err(io_error("waiting for the member"))?;
        Ok(())
    }

    /// Where etcd's API is.
    pub fn client_address(&self) -> String {
        format!("127.0.0.1:{}", self.seat.ports[0])
    }

    /// Where the binary protocol is, if this program speaks it.
    pub fn binary_address(&self) -> Option<String> {
        match self.options.program {
            Program::Corestone(_) => Some(format!("127.0.0.1:{}", self.seat.ports[2])),
            Program::Etcd(_) => None,
        }
    }

    /// Its process.
    pub fn process(&self) -> u32 {
        self.child.id()
    }

    /// What is resident now.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn memory(&self) -> Result<Memory, BenchError> {
        let path = format!("/proc/{}/status", self.process());
        let status = read_to_string(path).map_err(io_error("reading the member's memory"))?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next()?.parse::<u64>().ok()
        };
        let file_bytes = 1024 * (field("RssFile:").unwrap_or(0) + field("RssShmem:").unwrap_or(0));
        Ok(Memory { anonymous_bytes: 1024 * field("RssAnon:").unwrap_or(0), file_bytes })
    }

    /// Size of everything in the data directory, in bytes on disk.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn disk_size_bytes(&self) -> Result<u64, BenchError> {
        allocated_size_bytes(self.data.path()).map_err(io_error("reading the data directory"))
    }

    /// The end of its log, on one line.
    pub fn log_tail(&self) -> String {
        let log = read_to_string(self.data.path().with_extension("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().rev().take(LOG_LINES_SHOWN).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join(" | ")
    }

    /// Waits until a linearizable read is answered.
    ///
    /// # Errors
    /// When the process ends, or does not answer in [`PATIENCE`].
    pub fn wait_until_ready(&mut self) -> Result<(), BenchError> {
        let begin = Instant::now();
        loop {
            let slice = Duration::from_secs(1);
            match Caller::first_read(&self.client_address(), slice) {
                Ok(_) => return Ok(()),
                Err(error) => {
                    let ended = self.child.try_wait().map_err(io_error("waiting"))?;
                    if ended.is_some() || PATIENCE <= begin.elapsed() {
                        return Err(BenchError::Member(format!("{error}: {}", self.log_tail())));
                    }
                }
            }
        }
    }
}

/// Waits until the number `name` of the member at `host:port` is at least this.
///
/// # Errors
/// When it is not in [`PATIENCE`].
pub fn wait_for(address: &str, name: &str, at_least: f64) -> Result<(), BenchError> {
    let begin = Instant::now();
    while begin.elapsed() < PATIENCE {
        // While a member starts it does not answer, or only slowly.
        if fetch_number(address, name).is_ok_and(|value| Some(at_least) <= value) {
            return Ok(());
        }
        std::thread::sleep(POLL_INTERVAL);
    }
    Err(BenchError::Member(format!("{name} stays below {at_least}")))
}

/// The number of the member that leads; leadership may be on its way from one to another.
///
/// # Errors
/// When none of them does in [`PATIENCE`].
pub fn leader_of(members: &[Member]) -> Result<usize, BenchError> {
    let begin = Instant::now();
    while begin.elapsed() < PATIENCE {
        for (number, member) in members.iter().enumerate() {
            // One that does not answer does not lead.
            if member.is_leader().unwrap_or(false) {
                return Ok(number);
            }
        }
        std::thread::yield_now();
    }
    Err(BenchError::Member("none of them leads".to_owned()))
}

impl Drop for Member {
    fn drop(&mut self) {
        // It may have ended already; nothing is left to do then.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_file(self.data.path().with_extension("log"));
    }
}

fn spawn(options: &MemberOptions, data: &Path, seat: &Seat) -> Result<Child, BenchError> {
    let [client, peer, binary] = seat.ports.map(|port| format!("http://127.0.0.1:{port}"));
    let path = match &options.program {
        Program::Corestone(path) | Program::Etcd(path) => path,
    };
    let log = File::options()
        .create(true)
        .append(true)
        .open(data.with_extension("log"))
        .map_err(io_error("opening the member's log"))?;
    let mut command = Command::new(path);
    command
        .arg("--data-dir")
        .arg(data.join("data"))
        .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
        .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
        .args(["--name", &seat.name, "--initial-cluster", &seat.initial_cluster])
        .args(["--quota-backend-bytes", QUOTA_BYTES])
        .args(&options.flags)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log);
    if let Program::Corestone(_) = options.program {
        command.args(["--listen-binary-urls", &binary]);
    }
    let cores = Cores::allowed()?;
    pin_to(cores.of_member(options.cores))?;
    let child = command.spawn().map_err(io_error("starting the member"));
    pin_to(cores.of_member(0))?;
    child
}

/// Processor time a process has taken, all its threads, living or not.
///
/// # Errors
/// When the process is gone.
pub fn cpu_time_of(process: u32) -> Result<Duration, BenchError> {
    let text = read_to_string(format!("/proc/{process}/stat"))
        .map_err(io_error("reading the member's processor time"))?;
    // The name in brackets may hold blanks; what follows it does not.
    let fields = text.rsplit(')').next().unwrap_or("").split_whitespace();
    let ticks: u64 = fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Ok(Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second()))
}

fn allocated_size_bytes(directory: &Path) -> std::io::Result<u64> {
    use std::os::unix::fs::MetadataExt;
    let mut size_bytes = 0;
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        size_bytes += if metadata.is_dir() {
            allocated_size_bytes(&entry.path())?
        } else {
            metadata.blocks() * 512
        };
    }
    Ok(size_bytes)
}

/// Three ports for each of `count` members that nobody listens on at the moment.
fn free_ports(count: usize) -> Result<Vec<[u16; 3]>, BenchError> {
    let listen = || TcpListener::bind("127.0.0.1:0").map_err(io_error("finding a free port"));
    // All are held until all are known, so that no two are the same.
    let listeners: Result<Vec<_>, _> = (0..count * 3).map(|_| listen()).collect();
    let ports: Result<Vec<u16>, BenchError> = listeners?
        .iter()
        .map(|listener| Ok(listener.local_addr().map_err(io_error("finding a free port"))?.port()))
        .collect();
    Ok(ports?.chunks_exact(3).map(|ports| [ports[0], ports[1], ports[2]]).collect())
}

/// How long a member may take to answer, loading a million keys included.
pub const PATIENCE: Duration = Duration::from_secs(60);

const POLL_INTERVAL: Duration = Duration::from_millis(5);

const LOG_LINES_SHOWN: usize = 5;

/// Enough for every run here, in both programs.
const QUOTA_BYTES: &str = "8589934592";
