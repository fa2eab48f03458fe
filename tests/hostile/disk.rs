//! Disks that are full or read-only. Both need mounts, so root; where they cannot be made, a line
//! says that the case was skipped.

use ::tests::process::{IoDriver, Member, Mount, Program};
use corestone_client::Error;

use crate::directory::refused;
use crate::witness::Witness;

/// With a reserve the disk is never quite full: tests/cluster/members/full_disk.rs.
const NO_RESERVE: &str = "--space-reserve-bytes=0";

/// Writes until the disk is full: told as etcd tells it, or by a process that ends with a line
/// about space; with more space everything acknowledged is there and the member goes on.
pub fn full(program: &Program) {
    let mut member = Member::unstarted(program, &["--quota-backend-bytes=-1", NO_RESERVE]);
    std::fs::create_dir(member.data_directory()).unwrap();
    let data = member.data_directory();
    let Some(mount) = Mount::memory("160m", &data) else { return };
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
    // Still full, it starts with what it has, or says why it cannot.
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
