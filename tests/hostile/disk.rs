//! Disks that are full or read-only. Both need mounts, so root; where they cannot be made, a line
//! says that the case was skipped.

use std::path::{Path, PathBuf};
use std::process::Command;

use ::tests::process::{IoDriver, Member, Program};
use corestone_client::Error;

use crate::directory::refused;
use crate::witness::Witness;

/// A mount that goes away with it.
struct Mount {
    path: PathBuf,
}

impl Mount {
    fn make(arguments: &[&str], path: &Path) -> Option<Mount> {
        let output = Command::new("mount").args(arguments).arg(path).output().ok()?;
        if output.status.success() {
            return Some(Mount { path: path.to_path_buf() });
        }
        println!("skipped: no mount: {}", String::from_utf8_lossy(&output.stderr).trim());
        None
    }

    fn change(&self, options: &str) {
        let status = Command::new("mount").args(["-o", options]).arg(&self.path).status();
        assert!(status.unwrap().success(), "remount with {options}");
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Lazily: the process that used it may be on its way out.
        let _ = Command::new("umount").arg("--lazy").arg(&self.path).status();
    }
}

/// Writes until the disk is full: told as etcd tells it, or by a process that ends with a line
/// about space; with more space everything acknowledged is there and the member goes on.
pub fn full(program: &Program) {
    let mut member = Member::unstarted(program, &["--quota-backend-bytes=-1"]);
    std::fs::create_dir(member.data_directory()).unwrap();
    let data = member.data_directory();
    let Some(mount) = Mount::make(&["-t", "tmpfs", "-o", "size=160m", "corestone"], &data) else {
        return;
    };
    member.restart();
    let mut witness = Witness::start(&member);
    let error = witness.write_until_refused(&member, 3000, 100_000);
    match &error {
        Error::Status { message, .. } => {
            assert!(message.contains("space exceeded"), "{error:?}");
            assert!(member.is_running(), "{}", member.log().tail(5));
            witness.check_reads(&member);
            member.kill();
        }
        _ => {
            assert!(member.wait_until_ended(crate::PATIENCE).is_some(), "{error:?}");
            let log = member.log().tail(5);
            assert!(log.contains("space") && log.contains(r#""level":"error""#), "{log}");
        }
    }
    // Still full, it starts with what it reserved, or says why it cannot.
    match member.try_restart() {
        Ok(()) => witness.check_reads(&member),
        Err(error) => assert!(format!("{error:?}").contains("space"), "{error:?}"),
    }
    if member.is_running() {
        member.kill();
    }
    mount.change("remount,size=600m");
    member.restart();
    witness.check_reads(&member);
    println!("{} keys were acknowledged before the disk was full", witness.count());
    drop(member);
    drop(mount);
}

#[test]
fn a_read_only_data_directory_is_refused_by_name() {
    let mut member = Member::start(&Program::Corestone(IoDriver::Portable), &[]);
    let mut witness = Witness::start(&member);
    member.terminate();
    let data = member.data_directory();
    let source = data.to_string_lossy().into_owned();
    let Some(mount) = Mount::make(&["--bind", &source], &data) else { return };
    mount.change("remount,bind,ro");
    let log = refused(&mut member);
    assert!(log.contains(&source) && log.contains("Read-only file system"), "{log}");
    mount.change("remount,bind,rw");
    member.restart();
    witness.check(&mut member);
    drop(member);
    drop(mount);
}
