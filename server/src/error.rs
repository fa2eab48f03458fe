//! Why the process does not start, or ends.

use std::{fmt, io, path::PathBuf};

use crate::config::ConfigError;

/// Why a member cannot be started.
#[derive(Debug)]
pub enum StartError {
    /// Flags, environment or configuration file.
    Config(ConfigError),
    /// The data directory.
    Directory(DirectoryError),
    /// A listener.
    Listen {
        /// Its URL's address.
        address: String,
        /// Why.
        error: io::Error,
    },
    /// The driver that was asked for cannot run here.
    Driver(String),
    /// Something of the system.
    System {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        error: io::Error,
    },
    /// What the shard found in its files.
    Shard(String),
    /// What the other members said, or that they said nothing.
    Bootstrap(String),
}

impl From<DirectoryError> for StartError {
    fn from(error: DirectoryError) -> StartError {
        StartError::Directory(error)
    }
}

impl From<ConfigError> for StartError {
    fn from(error: ConfigError) -> StartError {
        StartError::Config(error)
    }
}

/// Why a data directory is not used.
#[derive(Debug)]
pub enum DirectoryError {
    /// It is etcd's.
    Etcd(PathBuf),
    /// It holds files that are not ours.
    Foreign {
        /// The directory.
        path: PathBuf,
        /// One of the files.
        entry: String,
    },
    /// Another process has it.
    Locked {
        /// The directory.
        path: PathBuf,
        /// The process, when it is known.
        pid: Option<u32>,
    },
    /// The identity file cannot be understood.
    Identity {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A file operation failed.
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        error: io::Error,
    },
}

/// What ends a running member: nothing of it is ever tried again, because after a failed write or
/// sync nobody knows what the disk holds.
#[derive(Debug)]
pub enum Fault {
    /// A write of the WAL failed or was short.
    WalWrite {
        /// The segment's number.
        segment: u64,
        /// Offset in the segment.
        offset_bytes: u64,
        /// Bytes to write.
        size_bytes: usize,
        /// Why.
        error: io::Error,
    },
    /// The sync of the WAL failed.
    WalSync {
        /// The segment's number.
        segment: u64,
        /// Why.
        error: io::Error,
    },
    /// A segment could not be made.
    WalSegment {
        /// The segment's number.
        segment: u64,
        /// Why.
        error: io::Error,
    },
    /// Pages could not be written or synced.
    Pages {
        /// What was tried.
        what: &'static str,
        /// First page.
        first: u64,
        /// Why.
        error: io::Error,
    },
    /// What was received of another member's state cannot be read any more.
    SideFile {
        /// First page of those that were read at once.
        first: u64,
        /// Why.
        error: io::Error,
    },
    /// The wait for events failed.
    Wait(io::Error),
    /// A thread of this core ended.
    ThreadEnded(&'static str),
}

impl std::error::Error for StartError {}
impl std::error::Error for DirectoryError {}
impl std::error::Error for Fault {}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Config(error) => error.fmt(f),
            StartError::Directory(error) => error.fmt(f),
            StartError::Listen { address, error } => {
                write!(f, "listen tcp {address}: {error}")
            }
            StartError::Driver(reason) => write!(f, "the driver cannot run: {reason}"),
            StartError::System { what, error } => write!(f, "{what}: {error}"),
            StartError::Shard(reason) | StartError::Bootstrap(reason) => f.write_str(reason),
        }
    }
}

impl fmt::Display for DirectoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DirectoryError::Etcd(path) => write!(
                f,
                "data directory {path} is one of etcd (it holds member/); corestone does not \
                 open it and has changed nothing in it. To take its content over: save it with \
                 `etcdctl snapshot save`, start corestone with another --data-dir, and put the \
                 keys back through a client",
                path = path.display()
            ),
            DirectoryError::Foreign { path, entry } => write!(
                f,
                "data directory {} is not empty and not one of corestone (it holds {entry:?} but \
                 no corestone.json); nothing in it was changed. Name an empty or new directory \
                 with --data-dir",
                path.display()
            ),
            DirectoryError::Locked { path, pid: Some(pid) } => write!(
                f,
                "data directory {} is in use by the process with pid {pid}",
                path.display()
            ),
            DirectoryError::Locked { path, pid: None } => {
                write!(f, "data directory {} is in use by another process", path.display())
            }
            DirectoryError::Identity { path, reason } => {
                write!(f, "identity file {} cannot be used: {reason}", path.display())
            }
            DirectoryError::Io { path, what, error } => {
                write!(f, "cannot {what} {}: {error}", path.display())
            }
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::WalWrite { segment, offset_bytes, size_bytes, error } => write!(
                f,
                "WAL write of {size_bytes} bytes at offset {offset_bytes} of segment {segment} \
                 failed: {error}; the process ends, what was acknowledged is durable"
            ),
            Fault::WalSync { segment, error } => write!(
                f,
                "WAL sync of segment {segment} failed: {error}; it is not tried again, the \
                 process ends, what was acknowledged is durable"
            ),
            Fault::WalSegment { segment, error } if is_disk_full(error) => write!(
                f,
                "no space left to make WAL segment {segment}: {error}; free space on the disk of \
                 the data directory and start again, nothing is lost"
            ),
            Fault::WalSegment { segment, error } => {
                write!(f, "WAL segment {segment} could not be made: {error}")
            }
            Fault::SideFile { first, error } => {
                write!(f, "side file: page {first} and behind cannot be read: {error}")
            }
            Fault::Pages { what, first, error } => {
                write!(f, "page file: {what} from page {first} failed: {error}")
            }
            Fault::Wait(error) => write!(f, "the wait for events failed: {error}"),
            Fault::ThreadEnded(name) => write!(f, "the {name} thread ended"),
        }
    }
}

/// Whether an error says that the disk or a disk quota is full.
pub fn is_disk_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
