//! One member of one cluster as a process.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::{LogCapture, corestone_binary};

/// How corestone talks to the kernel; `--io-driver`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IoDriver {
    /// What the machine allows.
    Auto,
    /// epoll and ordinary writes.
    Portable,
    /// io_uring.
    Uring,
}

impl IoDriver {
    fn flag(self) -> &'static str {
        match self {
            IoDriver::Auto => "--io-driver=auto",
            IoDriver::Portable => "--io-driver=portable",
            IoDriver::Uring => "--io-driver=uring",
        }
    }
}

/// Which program serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Program {
    /// This tree's binary.
    Corestone(IoDriver),
    /// The real etcd, at this path.
    Etcd(PathBuf),
}

/// Why a member did not start.
#[derive(Debug)]
pub enum StartError {
    /// It ended before it was ready; the end of its log.
    Ended(String),
    /// It was not ready in [`READY_PATIENCE`]; the end of its log.
    NotReady(String),
}

/// What a test changes about the process to be started: limits, filters, flags.
pub type Prepare = fn(&mut Command);

/// A running (or killed, or stopped) process and its data directory. Dropping it kills the process
/// and removes the directory.
pub struct Member {
    program: Program,
    flags: Vec<String>,
    directory: TempDir,
    name: String,
    ports: Ports,
    /// The network namespace it runs in, if not the test's own.
    namespace: Option<String>,
    /// `--initial-cluster`; without one it is a cluster by itself.
    initial_cluster: Option<String>,
    /// Whether that cluster exists already.
    is_joining: bool,
    prepare: Option<Prepare>,
    /// `None` until the first start.
    child: Option<Child>,
    log: LogCapture,
}

impl Member {
    /// Starts a cluster of one with an empty data directory and waits until it serves. `flags` are
    /// added to those every member gets.
    ///
    /// # Panics
    /// When it does not serve in time; the message holds the end of its log.
    pub fn start(program: &Program, flags: &[&str]) -> Member {
        match Member::try_start(program, flags) {
            Ok(member) => member,
            Err(error) => panic!("{program:?} did not start: {error:?}"),
        }
    }

    /// As [`Member::start`].
    ///
    /// # Errors
    /// When the process ends, or is not ready in time.
    pub fn try_start(program: &Program, flags: &[&str]) -> Result<Member, StartError> {
        let mut attempts = 0;
        loop {
            attempts += 1;
            match Member::start_on_free_ports(program, flags) {
                // Somebody took the port between our look at it and the member's.
                Err(StartError::Ended(log))
                    if log.contains("in use") && attempts < PORT_ATTEMPTS_MAX => {}
                result => return result,
            }
        }
    }

    fn start_on_free_ports(program: &Program, flags: &[&str]) -> Result<Member, StartError> {
        let mut member = Member::unstarted(program, flags);
        member.try_restart()?;
        Ok(member)
    }

    /// A directory (without the data directory in it) and ports, but no process yet: the test
    /// makes the data directory first, or starts by [`Member::spawn`] or [`Member::try_restart`].
    pub fn unstarted(program: &Program, flags: &[&str]) -> Member {
        Member {
            program: program.clone(),
            flags: flags.iter().map(|&flag| flag.to_owned()).collect(),
            directory: TempDir::new().expect("a temporary directory can be made"),
            name: "default".to_owned(),
            ports: Ports::free(),
            namespace: None,
            initial_cluster: None,
            is_joining: false,
            prepare: None,
            child: None,
            log: LogCapture::default(),
        }
    }

    /// Before the first start: the data directory lies in memory, where the machine has room for it.
    /// For what measures how long a cluster takes: a disk of a virtual machine may hold every sync
    /// back for half a second, and all members share it.
    pub fn keep_in_memory(&mut self) {
        assert!(self.child.is_none());
        let free = rustix::fs::statvfs(MEMORY_FOLDER).map(|about| about.f_bavail * about.f_frsize);
        if free.is_ok_and(|free_bytes| MEMORY_FREE_BYTES_MIN <= free_bytes)
            && let Ok(directory) = TempDir::new_in(MEMORY_FOLDER)
        {
            self.directory = directory;
        }
    }

    /// From the next start on, the process has this name.
    pub fn change_name(&mut self, name: &str) {
        name.clone_into(&mut self.name);
    }

    /// From the next start on, the process runs in a network namespace that has this address.
    pub fn change_network(&mut self, namespace: &str, host: &str) {
        self.namespace = Some(namespace.to_owned());
        host.clone_into(&mut self.ports.host);
    }

    /// From the next start on, the process is told of this cluster, which exists or is founded.
    pub fn change_cluster(&mut self, initial_cluster: &str, is_joining: bool) {
        self.initial_cluster = Some(initial_cluster.to_owned());
        self.is_joining = is_joining;
    }

    /// From the next start on, the process gets this flag too.
    pub fn add_flag(&mut self, flag: &str) {
        self.flags.push(flag.to_owned());
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it is in the flag `--initial-cluster`.
    pub fn in_initial_cluster(&self) -> String {
        format!("{}={}", self.name, self.peer_url())
    }

    /// From the next start on, the process runs this program.
    pub fn change_program(&mut self, program: Program) {
        self.program = program;
    }

    /// From the next start on, `prepare` has the last word about the command.
    pub fn change_command(&mut self, prepare: Prepare) {
        self.prepare = Some(prepare);
    }

    /// Waits until the process that was started last serves.
    ///
    /// # Errors
    /// When it ends before, or is not ready in time.
    pub fn wait_until_ready(&mut self) -> Result<(), StartError> {
        if self.log.wait_for(READY_LINE, READY_PATIENCE).is_some() {
            return Ok(());
        }
        // The log ends a moment before the process does.
        let has_ended = self.log.is_closed() && self.wait_until_ended(STOP_PATIENCE).is_some();
        let log = self.log.tail(LINES_SHOWN);
        Err(if has_ended { StartError::Ended(log) } else { StartError::NotReady(log) })
    }

    /// Where clients connect.
    pub fn client_url(&self) -> String {
        self.ports.url(self.ports.client)
    }

    /// Where peers would connect.
    pub fn peer_url(&self) -> String {
        self.ports.url(self.ports.peer)
    }

    /// Where clients of corestone's own protocol connect.
    pub fn binary_address(&self) -> (&str, u16) {
        (&self.ports.host, self.ports.binary)
    }

    /// The program that serves.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// The log of the running process.
    pub fn log(&self) -> &LogCapture {
        &self.log
    }

    /// The data directory.
    pub fn data_directory(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// Whether the process still runs.
    pub fn is_running(&mut self) -> bool {
        let child = self.child.as_mut();
        child.is_some_and(|child| child.try_wait().is_ok_and(|status| status.is_none()))
    }

    /// The process's id.
    ///
    /// # Panics
    /// Before the first start.
    pub fn process_id(&self) -> u32 {
        self.child.as_ref().expect("the member was started").id()
    }

    /// Waits for the process to end by itself; `None` when it still runs after `patience`.
    pub fn wait_until_ended(&mut self, patience: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + patience;
        let child = self.child.as_mut().expect("the member was started");
        loop {
            let status = child.try_wait().expect("a child can be waited for");
            if status.is_some() || deadline <= Instant::now() {
                return status;
            }
            std::thread::sleep(POLL_INTERVAL);
        }
    }

    fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.process_id()).expect("process ids are small");
        let pid = Pid::from_raw(id).expect("process ids are not zero");
        kill_process(pid, signal).expect("a child that was not waited for takes signals");
    }

    /// SIGSTOP: the process is there and answers nothing.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// SIGCONT.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// SIGKILL, and waits for the end.
    pub fn kill(&mut self) {
        let child = self.child.as_mut().expect("the member was started");
        child.kill().expect("a child can be killed");
        child.wait().expect("a killed child ends");
    }

    /// SIGTERM, and waits for the end.
    ///
    /// # Panics
    /// When the process does not end in [`STOP_PATIENCE`].
    pub fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        match self.wait_until_ended(STOP_PATIENCE) {
            Some(status) => status,
            None => panic!("still running after SIGTERM:\n{}", self.log.tail(LINES_SHOWN)),
        }
    }

    /// Starts again on the same directory and ports, after [`Member::kill`] or
    /// [`Member::terminate`].
    ///
    /// # Panics
    /// When the process still runs, or does not serve in time.
    pub fn restart(&mut self) {
        if let Err(error) = self.try_restart() {
            panic!("{:?} did not start again: {error:?}", self.program);
        }
    }

    /// As [`Member::restart`].
    ///
    /// # Errors
    /// When the process ends, or is not ready in time.
    pub fn try_restart(&mut self) -> Result<(), StartError> {
        self.spawn();
        self.wait_until_ready()
    }

    /// Starts the process and waits for nothing.
    ///
    /// # Panics
    /// When one still runs.
    pub fn spawn(&mut self) {
        assert!(!self.is_running(), "a member is stopped before it is started again");
        let mut command = self.command();
        if let Some(prepare) = self.prepare {
            prepare(&mut command);
        }
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let stderr = child.stderr.take().expect("standard error is a pipe");
        self.log = LogCapture::start(stderr);
        self.child = Some(child);
    }

    fn command(&self) -> Command {
        let path = match &self.program {
            Program::Corestone(_) => corestone_binary(),
            Program::Etcd(path) => path,
        };
        let mut command = match &self.namespace {
            None => Command::new(path),
            Some(namespace) => {
                // It becomes the program: the process id is the member's.
                let mut command = Command::new("ip");
                command.args(["netns", "exec", namespace]).arg(path);
                command
            }
        };
        if let Program::Corestone(driver) = &self.program {
            command.arg(driver.flag());
            let binary_url = self.ports.url(self.ports.binary);
            command.arg(format!("--listen-binary-urls={binary_url}"));
            // Many members share one disk, or the machine's memory.
            command.arg("--space-reserve-bytes=4194304");
        }
        let (client_url, peer_url) = (self.client_url(), self.peer_url());
        let alone = self.in_initial_cluster();
        let initial_cluster = self.initial_cluster.as_ref().unwrap_or(&alone);
        let state = if self.is_joining { "existing" } else { "new" };
        command
            .arg(format!("--data-dir={}", self.data_directory().display()))
            .arg(format!("--name={}", self.name))
            .arg(format!("--listen-client-urls={client_url}"))
            .arg(format!("--advertise-client-urls={client_url}"))
            .arg(format!("--listen-peer-urls={peer_url}"))
            .arg(format!("--initial-advertise-peer-urls={peer_url}"))
            .arg(format!("--initial-cluster={initial_cluster}"))
            .arg(format!("--initial-cluster-state={state}"))
            .args(&self.flags)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        for (name, _) in std::env::vars_os() {
            // Both programs take their flags from the environment too.
            if name.to_str().is_some_and(|name| name.starts_with("ETCD_")) {
                command.env_remove(name);
            }
        }
        command
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        // Errors mean that it has ended already, which is all that is wanted here.
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            eprintln!("the end of {:?}'s log:\n{}", self.program, self.log.tail(LINES_SHOWN));
        }
    }
}

/// Where a member listens.
struct Ports {
    /// Loopback, unless it is in a network namespace of its own.
    host: String,
    client: u16,
    peer: u16,
    binary: u16,
}

impl Ports {
    /// Different ports that nobody listens on now.
    fn free() -> Ports {
        let bind = || TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let listeners = [bind(), bind(), bind()];
        let [client, peer, binary] = listeners
            .map(|listener| listener.local_addr().expect("a bound socket has an address").port());
        Ports { host: "127.0.0.1".to_owned(), client, peer, binary }
    }

    fn url(&self, port: u16) -> String {
        format!("http://{}:{port}", self.host)
    }
}

/// What a member of either program logs when clients may connect.
const READY_LINE: &str = "ready to serve client requests";
/// From start to ready, with a recovery and a busy machine in between.
const READY_PATIENCE: Duration = Duration::from_secs(60);
/// From SIGTERM to the end.
const STOP_PATIENCE: Duration = Duration::from_secs(30);
/// Between looks at a process that is asked to end.
const POLL_INTERVAL: Duration = Duration::from_millis(5);
/// A file system in memory, on Linux.
const MEMORY_FOLDER: &str = "/dev/shm";
/// What three members and their tests may need of it.
const MEMORY_FREE_BYTES_MIN: u64 = 2 << 30;
/// Tries to find ports that stay free until they are bound.
const PORT_ATTEMPTS_MAX: usize = 5;
/// Log lines in the message of a failing test.
const LINES_SHOWN: usize = 30;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_ends_at_once_is_told_from_one_that_serves() {
        let program = Program::Etcd(PathBuf::from("/bin/false"));
        let error = Member::try_start(&program, &[]).err().unwrap();
        assert!(matches!(error, StartError::Ended(_)), "{error:?}");
    }
}
