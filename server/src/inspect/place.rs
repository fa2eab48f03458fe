//! The files of a member: which there are, found without a lock and without making any.

use std::path::{Path, PathBuf};

use super::InspectError;

/// Where the files are.
#[derive(Debug)]
pub(super) struct Place {
    page_file: PathBuf,
    /// By core.
    wals: Vec<(u16, PathBuf)>,
}

impl Place {
    /// Lists the WALs of a data directory.
    ///
    /// # Errors
    /// If it is no member's, or cannot be listed.
    pub(super) fn open(data_dir: &Path, wal_dir: Option<&Path>) -> Result<Place, InspectError> {
        if !data_dir.join(IDENTITY_NAME).is_file() {
            return Err(InspectError::NoMember(data_dir.to_path_buf()));
        }
        let base = wal_dir.unwrap_or(data_dir);
        let unreadable = |error| InspectError::Unreadable(base.to_path_buf(), error);
        let mut wals = Vec::new();
        for entry in std::fs::read_dir(base).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let name = entry.file_name();
            let core = name.to_str().and_then(|name| name.strip_prefix(WAL_PREFIX)?.parse().ok());
            if let Some(core) = core {
                wals.push((core, entry.path()));
            }
        }
        wals.sort();
        Ok(Place { page_file: data_dir.join(PAGE_FILE_NAME), wals })
    }

    /// The page file of the default keyspace.
    pub(super) fn page_file(&self) -> &Path {
        &self.page_file
    }

    /// The directory of each core's WAL.
    pub(super) fn wals(&self) -> impl Iterator<Item = (u16, &Path)> {
        self.wals.iter().map(|(core, path)| (*core, path.as_path()))
    }
}

const IDENTITY_NAME: &str = "corestone.json";
const PAGE_FILE_NAME: &str = "default.pages";
const WAL_PREFIX: &str = "wal-";
