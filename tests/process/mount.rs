//! A mount that a test makes, and that goes away with it: needs root.

use std::path::{Path, PathBuf};
use std::process::Command;

/// See the file's head.
pub struct Mount {
    path: PathBuf,
}

impl Mount {
    /// `mount ARGUMENTS PATH`; where that is refused a line says that the case is skipped.
    pub fn make(arguments: &[&str], path: &Path) -> Option<Mount> {
        let output = Command::new("mount").args(arguments).arg(path).output().ok()?;
        if output.status.success() {
            return Some(Mount { path: path.to_path_buf() });
        }
        println!("skipped: no mount: {}", String::from_utf8_lossy(&output.stderr).trim());
        None
    }

    /// A disk in memory, of this size as `mount` takes it.
    pub fn memory(size: &str, path: &Path) -> Option<Mount> {
        Mount::make(&["-t", "tmpfs", "-o", &format!("size={size}"), "corestone"], path)
    }

    /// Mounts it again with other options.
    ///
    /// # Panics
    /// When that is refused.
    pub fn change(&self, options: &str) {
        let status = Command::new("mount").args(["-o", options]).arg(&self.path).status();
        assert!(status.is_ok_and(|status| status.success()), "remount with {options}");
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Lazily: the process that used it may be on its way out.
        let _ = Command::new("umount").arg("--lazy").arg(&self.path).status();
    }
}
