//! The data directory: whose it is, who uses it, and the identity of the member in it.
//!
//! Layout: `corestone.json` (identity), `lock`, `wal-<core>/`, `default.pages`,
//! `reserve`.
//! Invariants: a directory that is not ours is refused before anything is written into it; the
//! identity is written atomically (temporary file, sync, rename, sync of the directory), and every
//! other file is made after it, so a start killed at any moment can be repeated; two processes
//! never use one directory.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Seek, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};

use crate::{error::DirectoryError, identity::Identity};

/// An open, locked data directory.
#[derive(Debug)]
pub struct DataDirectory {
    path: PathBuf,
    wal_base: PathBuf,
    /// Held for as long as the process lives; closing it gives the lock back.
    _lock: File,
    /// Who this member is.
    pub identity: Identity,
    /// The directory was made, or first used, by this start.
    pub is_new: bool,
}

impl DataDirectory {
    /// Opens `path`, making it where there is none. `born` is called for a new member only, and its
    /// error leaves a directory that a later start can use.
    pub fn open<E: From<DirectoryError>>(
        path: &Path,
        wal_base: Option<&Path>,
        born: impl FnOnce() -> Result<Identity, E>,
    ) -> Result<DataDirectory, E> {
        make_directory(path)?;
        check_ours(path)?;
        let lock = take_lock(path)?;
        let identity_path = path.join(IDENTITY_NAME);
        let (identity, is_new) = match read_identity(&identity_path)? {
            Some(identity) => (identity, false),
            None => {
                // Looked at again under the lock: only leftovers of a start that was cut short.
                check_ours(path)?;
                let identity = born()?;
                write_identity(path, &identity)?;
                (identity, true)
            }
        };
        if let Some(base) = wal_base {
            make_directory(base)?;
        }
        let wal_base = wal_base.unwrap_or(path).to_path_buf();
        Ok(DataDirectory { path: path.to_path_buf(), wal_base, _lock: lock, identity, is_new })
    }

    /// Raises the epoch, durably: this member no longer talks to those it leaves behind.
    pub fn raise_epoch(&mut self) -> Result<(), DirectoryError> {
        let raised = Identity { epoch: self.identity.epoch + 1, ..self.identity.clone() };
        write_identity(&self.path, &raised)?;
        self.identity = raised;
        Ok(())
    }

    /// The directory of a core's WAL, made where there is none.
    pub fn wal_directory(&self, core: u16) -> Result<PathBuf, DirectoryError> {
        let path = self.wal_base.join(format!("wal-{core}"));
        make_directory(&path)?;
        Ok(path)
    }

    /// The page file of the default keyspace.
    pub fn page_file(&self) -> PathBuf {
        self.path.join("default.pages")
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn failed(path: &Path, what: &'static str) -> impl FnOnce(io::Error) -> DirectoryError {
    move |error| DirectoryError::Io { path: path.to_path_buf(), what, error }
}

/// Makes a directory that only its owner may enter, and its name durable.
fn make_directory(path: &Path) -> Result<(), DirectoryError> {
    if path.is_dir() {
        return Ok(());
    }
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(failed(path, "make the data directory"))?;
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    sync_directory(parent).map_err(failed(parent, "sync the directory"))
}

/// Makes the names in a directory durable.
pub fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Refuses a directory that holds anything but our files; writes nothing.
fn check_ours(path: &Path) -> Result<(), DirectoryError> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(path).map_err(failed(path, "read the data directory"))? {
        let entry = entry.map_err(failed(path, "read the data directory"))?;
        names.push(entry.file_name().to_string_lossy().into_owned());
    }
    if names.iter().any(|name| name == IDENTITY_NAME) {
        return Ok(());
    }
    if names.iter().any(|name| name == "member") {
        return Err(DirectoryError::Etcd(path.to_path_buf()));
    }
    match names.into_iter().find(|name| !BEFORE_IDENTITY.contains(&name.as_str())) {
        Some(entry) => Err(DirectoryError::Foreign { path: path.to_path_buf(), entry }),
        None => Ok(()),
    }
}

fn take_lock(path: &Path) -> Result<File, DirectoryError> {
    let lock_path = path.join(LOCK_NAME);
    let mut lock = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&lock_path)
        .map_err(failed(&lock_path, "write to the data directory"))?;
    match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut text = String::new();
            let pid = lock.read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
            return Err(DirectoryError::Locked { path: path.to_path_buf(), pid });
        }
        Err(error) => return Err(failed(&lock_path, "lock")(error.into())),
    }
    // The pid is a kindness to the next one who tries; the lock itself is the kernel's.
    let pid = format!("{}\n", std::process::id());
    lock.set_len(0)
        .and_then(|()| lock.rewind())
        .and_then(|()| lock.write_all(pid.as_bytes()))
        .map_err(failed(&lock_path, "write"))?;
    Ok(lock)
}

fn read_identity(path: &Path) -> Result<Option<Identity>, DirectoryError> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(path, "read the identity file")(error)),
    };
    Identity::parse(&text)
        .map(Some)
        .map_err(|reason| DirectoryError::Identity { path: path.to_path_buf(), reason })
}

fn write_identity(directory: &Path, identity: &Identity) -> Result<(), DirectoryError> {
    let temporary = directory.join(IDENTITY_TEMPORARY_NAME);
    let text = identity.render();
    let write = || -> io::Result<()> {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&temporary, directory.join(IDENTITY_NAME))?;
        sync_directory(directory)
    };
    write().map_err(failed(directory, "write the identity file into"))
}

/// Random bits from the system, for what must differ between births and starts.
pub fn draw_random() -> io::Result<u64> {
    let mut bytes = [0; 8];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}

const IDENTITY_NAME: &str = "corestone.json";
const IDENTITY_TEMPORARY_NAME: &str = "corestone.json.tmp";
const LOCK_NAME: &str = "lock";
/// What may lie in a directory whose identity was not yet written, or in a fresh mount point.
const BEFORE_IDENTITY: &[&str] = &[LOCK_NAME, IDENTITY_TEMPORARY_NAME, "lost+found"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::FORMAT_VERSION;

    fn born() -> Result<Identity, DirectoryError> {
        Ok(identity())
    }

    fn identity() -> Identity {
        Identity {
            format_version: FORMAT_VERSION,
            birth_id: 1,
            cluster_id: 0xcdf8_1819_4e3a_8c32,
            member_id: 2,
            name: "m".to_owned(),
            cores: 1,
            epoch: 0,
            birth: None,
        }
    }

    fn open(path: &Path) -> Result<DataDirectory, DirectoryError> {
        DataDirectory::open(path, None, born)
    }

    fn listing(path: &Path) -> Vec<String> {
        let mut names: Vec<_> = std::fs::read_dir(path)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn an_identity_is_written_once_and_found_again() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("a/b");
        let first = open(&path).unwrap();
        assert!(first.is_new);
        assert_eq!(listing(&path), ["corestone.json", "lock"]);
        drop(first);
        let born_again = || -> Result<Identity, DirectoryError> { panic!("born once") };
        let again = DataDirectory::open(&path, None, born_again).unwrap();
        assert!(!again.is_new);
        assert_eq!(again.identity, identity());
        let text = std::fs::read_to_string(path.join("corestone.json")).unwrap();
        assert!(text.contains("cdf818194e3a8c32"), "{text}");
    }

    #[test]
    fn an_epoch_is_raised_for_good() {
        let base = tempfile::tempdir().unwrap();
        for epoch in 1..=2 {
            let mut directory = open(base.path()).unwrap();
            directory.raise_epoch().unwrap();
            assert_eq!(directory.identity.epoch, epoch);
        }
        let again = open(base.path()).unwrap();
        assert_eq!(again.identity, Identity { epoch: 2, ..identity() });
    }

    #[test]
    fn a_birth_that_fails_leaves_a_directory_for_the_next() {
        let base = tempfile::tempdir().unwrap();
        let reason = || DirectoryError::Foreign { path: PathBuf::new(), entry: "x".to_owned() };
        let failed = DataDirectory::open(base.path(), None, || Err(reason()));
        assert!(matches!(failed, Err(DirectoryError::Foreign { .. })), "{failed:?}");
        assert!(open(base.path()).unwrap().is_new);
    }

    #[test]
    fn a_second_process_is_told_the_pid_of_the_first() {
        let base = tempfile::tempdir().unwrap();
        let _held = open(base.path()).unwrap();
        // flock belongs to the open file, so a second open in this process stands for another.
        match open(base.path()) {
            Err(DirectoryError::Locked { pid, .. }) => assert_eq!(pid, Some(std::process::id())),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn foreign_directories_are_refused_and_left_as_they_are() {
        for (name, text) in [("member", "etcdctl snapshot save"), ("notes.txt", "notes.txt")] {
            let base = tempfile::tempdir().unwrap();
            std::fs::create_dir(base.path().join(name)).unwrap();
            let error = open(base.path()).unwrap_err().to_string();
            assert!(error.contains(text), "{error}");
            assert_eq!(listing(base.path()), [name]);
        }
    }

    #[test]
    fn a_start_cut_short_before_its_identity_can_be_repeated() {
        let base = tempfile::tempdir().unwrap();
        std::fs::write(base.path().join("lock"), "77\n").unwrap();
        std::fs::write(base.path().join("corestone.json.tmp"), "{\"format_ver").unwrap();
        assert!(open(base.path()).unwrap().is_new);
        assert_eq!(listing(base.path()), ["corestone.json", "lock"]);
    }

    #[test]
    fn identities_that_cannot_be_understood_are_named() {
        for (text, part) in [
            ("{}", "no format version"),
            ("{\"format_version\": 9, \"future\": 1}", "format version 9"),
            ("{\"format_version\": 1}", "missing field"),
            ("not json", "expected"),
        ] {
            let base = tempfile::tempdir().unwrap();
            std::fs::write(base.path().join("corestone.json"), text).unwrap();
            let error = open(base.path()).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn the_wal_may_lie_elsewhere() {
        let (base, wal) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let directory =
            DataDirectory::open(base.path(), Some(&wal.path().join("w")), born).unwrap();
        assert_eq!(directory.wal_directory(3).unwrap(), wal.path().join("w/wal-3"));
        assert!(wal.path().join("w/wal-3").is_dir());
    }

    #[test]
    fn what_cannot_be_written_is_said() {
        let error = open(Path::new("/proc/self/corestone")).unwrap_err();
        assert!(matches!(error, DirectoryError::Io { .. }), "{error}");
        assert!(error.to_string().contains("/proc/self/corestone"), "{error}");
    }
}
