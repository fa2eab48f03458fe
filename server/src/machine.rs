//! What of the machine this process may use: CPUs, files, and the service manager it reports to.
//!
//! Source: sched_getaffinity(2), cgroups(7) versions 1 and 2, sd_notify(3).

use std::{
    fmt::Write,
    io,
    os::{linux::net::SocketAddrExt, unix::net::SocketAddr, unix::net::UnixDatagram},
    path::{Path, PathBuf},
};

use rustix::{
    process::{Resource, Rlimit, getrlimit, setrlimit},
    thread::{CpuSet, sched_getaffinity, sched_setaffinity},
};

/// The CPUs this process may run on, and how much of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cpus {
    /// Numbers of the CPUs of the affinity mask.
    pub mask: Vec<usize>,
    /// CPUs of the tightest quota of the control groups, rounded up.
    pub quota: Option<usize>,
}

impl Cpus {
    /// Asks the system.
    pub fn of_this_process() -> io::Result<Cpus> {
        let set = sched_getaffinity(None)?;
        let mask: Vec<_> = (0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect();
        assert!(!mask.is_empty());
        let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        Ok(Cpus { mask, quota: cgroup_quota(Path::new("/sys/fs/cgroup"), &groups) })
    }

    /// How many cores to use when `asked` is 0: as many as are allowed, at most four.
    pub fn cores(&self, asked: u16) -> u16 {
        if 0 < asked {
            return asked;
        }
        let allowed = self.mask.len().min(self.quota.unwrap_or(usize::MAX));
        u16::try_from(allowed.clamp(1, usize::from(CORES_MAX_DEFAULT)))
            .expect("at most the default maximum")
    }

    /// The CPU for a core. Members on one host start at different CPUs, by their directories.
    pub fn placement(&self, core: u16, data_directory: &Path) -> usize {
        let text = data_directory.as_os_str().as_encoded_bytes();
        // FNV-1a: any spread will do, so long as it is the same at each start.
        let hash = text.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        });
        let start = usize::try_from(hash >> 32).expect("32 bits fit");
        self.mask[(start + usize::from(core)) % self.mask.len()]
    }
}

/// Pins the calling thread.
pub fn pin_thread(cpu: usize) -> io::Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu);
    Ok(sched_setaffinity(None, &set)?)
}

/// The tightest CPU quota from the process's group up to the root, in CPUs rounded up.
fn cgroup_quota(root: &Path, groups: &str) -> Option<usize> {
    let mut tightest: Option<usize> = None;
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next())
        else {
            continue;
        };
        let is_v2 = controllers.is_empty();
        let base = if is_v2 {
            root.to_path_buf()
        } else if controllers.split(',').any(|name| name == "cpu") {
            root.join(controllers)
        } else {
            continue;
        };
        let mut group = base.join(path.trim_start_matches('/'));
        loop {
            let quota = if is_v2 { quota_v2(&group) } else { quota_v1(&group) };
            tightest = match (tightest, quota) {
                (Some(one), Some(other)) => Some(one.min(other)),
                (one, other) => one.or(other),
            };
            if group == base || !group.pop() {
                break;
            }
        }
    }
    tightest
}

fn quota_v2(group: &Path) -> Option<usize> {
    let text = std::fs::read_to_string(group.join("cpu.max")).ok()?;
    let (quota, period) = text.trim().split_once(' ')?;
    rounded_up(quota.parse().ok()?, period.parse().ok()?)
}

fn quota_v1(group: &Path) -> Option<usize> {
    let read = |name: &str| -> Option<i64> {
        std::fs::read_to_string(group.join(name)).ok()?.trim().parse().ok()
    };
    rounded_up(read("cpu.cfs_quota_us")?, read("cpu.cfs_period_us")?)
}

fn rounded_up(quota_us: i64, period_us: i64) -> Option<usize> {
    if quota_us <= 0 || period_us <= 0 {
        return None;
    }
    usize::try_from((quota_us - 1) / period_us + 1).ok()
}

/// Raises the limit of open files to what is allowed; says what it is now.
pub fn raise_file_limit() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let Some(maximum) = limit.maximum else { return limit.current.unwrap_or(u64::MAX) };
    let raised = Rlimit { current: Some(maximum), maximum: Some(maximum) };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => maximum,
        Err(_) => limit.current.unwrap_or(maximum),
    }
}

/// Memory this process may use: the machine's, or less by the tightest control group.
pub fn memory_limit_bytes() -> usize {
    let total = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("MemTotal:"))?;
        line.split_whitespace().nth(1)?.parse::<u64>().ok()
    });
    let total = total.map_or(MEMORY_BYTES_UNKNOWN, |kib| kib * 1024);
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let limit = cgroup_memory(Path::new("/sys/fs/cgroup"), &groups);
    usize::try_from(total.min(limit.unwrap_or(u64::MAX))).unwrap_or(usize::MAX)
}

/// The tightest memory limit from the process's group up to the root.
fn cgroup_memory(root: &Path, groups: &str) -> Option<u64> {
    let path = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    let mut group = root.join(path.trim_start_matches('/'));
    let mut tightest: Option<u64> = None;
    loop {
        for name in ["memory.max", "memory.high"] {
            let text = std::fs::read_to_string(group.join(name)).unwrap_or_default();
            if let Ok(limit) = text.trim().parse::<u64>() {
                tightest = Some(tightest.map_or(limit, |least| least.min(limit)));
            }
        }
        if group == root || !group.pop() {
            return tightest;
        }
    }
}

/// Figures of the process in Prometheus' text, under the names of its client libraries.
pub fn process_figures(start_time_s: f64) -> String {
    let usage = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    let open = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    let files_max = getrlimit(Resource::Nofile).current.unwrap_or(0);
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let status_bytes = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        let kib = line.split_whitespace().next().and_then(|text| text.parse::<u64>().ok());
        kib.unwrap_or(0) * 1024
    };
    let (virtual_bytes, resident_bytes) = (status_bytes("VmSize:"), status_bytes("VmRSS:"));
    let cpu_s = usage.tv_sec as f64 + usage.tv_nsec as f64 / 1e9;
    let mut text = String::new();
    for (name, kind, help, value) in [
        ("process_cpu_seconds_total", "counter", "CPU time of the process.", cpu_s),
        ("process_open_fds", "gauge", "Open file descriptors.", open as f64),
        ("process_max_fds", "gauge", "Limit of file descriptors.", files_max as f64),
        ("process_virtual_memory_bytes", "gauge", "Address space.", virtual_bytes as f64),
        ("process_resident_memory_bytes", "gauge", "Resident memory.", resident_bytes as f64),
        ("process_start_time_seconds", "gauge", "Start since the epoch.", start_time_s),
    ] {
        let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n");
    }
    text
}

/// Tells systemd that the service is up, where it asked to be told.
pub fn notify_ready() -> io::Result<()> {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return Ok(()) };
    notify(&PathBuf::from(path), b"READY=1\n")
}

fn notify(path: &Path, state: &[u8]) -> io::Result<()> {
    let bytes = path.as_os_str().as_encoded_bytes();
    let address = match bytes.strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(path)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.send_to_addr(state, &address)?;
    Ok(())
}

const CORES_MAX_DEFAULT: u16 = 4;
const MEMORY_BYTES_UNKNOWN: u64 = 1 << 30;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tightest_quota_up_to_the_root_counts() {
        let root = tempfile::tempdir().unwrap();
        let leaf = root.path().join("pods/one");
        std::fs::create_dir_all(&leaf).unwrap();
        std::fs::write(leaf.join("cpu.max"), "max 100000\n").unwrap();
        std::fs::write(root.path().join("pods/cpu.max"), "150000 100000\n").unwrap();
        assert_eq!(cgroup_quota(root.path(), "0::/pods/one\n"), Some(2));
        std::fs::write(leaf.join("cpu.max"), "50000 100000\n").unwrap();
        assert_eq!(cgroup_quota(root.path(), "0::/pods/one\n"), Some(1));
        assert_eq!(cgroup_quota(root.path(), "0::/\n"), None);
    }

    #[test]
    fn quotas_of_the_first_version_count_too() {
        let root = tempfile::tempdir().unwrap();
        let group = root.path().join("cpu,cpuacct/docker/x");
        std::fs::create_dir_all(&group).unwrap();
        std::fs::write(group.join("cpu.cfs_quota_us"), "210000\n").unwrap();
        std::fs::write(group.join("cpu.cfs_period_us"), "100000\n").unwrap();
        let groups = "12:memory:/docker/x\n4:cpu,cpuacct:/docker/x\n";
        assert_eq!(cgroup_quota(root.path(), groups), Some(3));
        std::fs::write(group.join("cpu.cfs_quota_us"), "-1\n").unwrap();
        assert_eq!(cgroup_quota(root.path(), groups), None);
    }

    #[test]
    fn the_tightest_memory_limit_counts() {
        let root = tempfile::tempdir().unwrap();
        let leaf = root.path().join("pods/one");
        std::fs::create_dir_all(&leaf).unwrap();
        std::fs::write(leaf.join("memory.max"), "max\n").unwrap();
        std::fs::write(leaf.join("memory.high"), "9000\n").unwrap();
        std::fs::write(root.path().join("pods/memory.max"), "8000\n").unwrap();
        assert_eq!(cgroup_memory(root.path(), "0::/pods/one\n"), Some(8000));
        assert_eq!(cgroup_memory(root.path(), "0::/\n"), None);
        assert!(0 < memory_limit_bytes());
    }

    #[test]
    fn the_figures_of_the_process_are_those_of_its_files() {
        let text = process_figures(1.5);
        assert!(text.contains("\nprocess_start_time_seconds 1.5\n"), "{text}");
        let resident = text.lines().find_map(|line| {
            line.strip_prefix("process_resident_memory_bytes ")?.parse::<f64>().ok()
        });
        assert!(100_000.0 < resident.unwrap(), "{text}");
    }

    #[test]
    fn cores_are_those_allowed_and_at_most_four() {
        let cpus = |mask: usize, quota| Cpus { mask: (0..mask).collect(), quota };
        assert_eq!(cpus(64, None).cores(0), 4);
        assert_eq!(cpus(64, Some(2)).cores(0), 2);
        assert_eq!(cpus(1, Some(8)).cores(0), 1);
        assert_eq!(cpus(2, None).cores(7), 7);
        let two = cpus(2, None);
        let start = two.placement(0, Path::new("a"));
        assert_ne!(start, two.placement(1, Path::new("a")));
        assert_eq!(start, two.placement(2, Path::new("a")));
    }

    #[test]
    fn the_service_manager_gets_its_datagram() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let receiver = UnixDatagram::bind(&path).unwrap();
        notify(&path, b"READY=1\n").unwrap();
        let mut bytes = [0; 32];
        let size = receiver.recv(&mut bytes).unwrap();
        assert_eq!(&bytes[..size], b"READY=1\n");
    }
}
