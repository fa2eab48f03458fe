//! Data directories that are taken, foreign, or etcd's, and flags that promise what is not built.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use ::tests::process::{IoDriver, Member, Program, StartError, corestone_binary};

use crate::witness::Witness;

/// Every file below a directory with its content and the time of its last change.
pub fn tree(path: &Path) -> BTreeMap<String, (Vec<u8>, std::time::SystemTime)> {
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(tree(&path));
        } else {
            let changed = path.metadata().unwrap().modified().unwrap();
            let name = path.to_string_lossy().into_owned();
            files.insert(name, (std::fs::read(&path).unwrap(), changed));
        }
    }
    files
}

/// Starts a member that must refuse to; what it said.
pub fn refused(member: &mut Member) -> String {
    match member.try_restart() {
        Err(StartError::Ended(log)) => log,
        Err(StartError::NotReady(log)) => panic!("it neither started nor ended:\n{log}"),
        Ok(()) => panic!("it started:\n{}", member.log().tail(10)),
    }
}

fn portable() -> Program {
    Program::Corestone(IoDriver::Portable)
}

#[test]
fn a_second_process_is_refused_and_the_first_goes_on() {
    let mut first = Member::start(&portable(), &[]);
    let mut witness = Witness::start(&first);
    let mut second = Member::unstarted(&portable(), &[]);
    std::os::unix::fs::symlink(first.data_directory(), second.data_directory()).unwrap();
    let log = refused(&mut second);
    let reason = format!("is in use by the process with pid {}", first.process_id());
    assert!(log.contains(&reason), "{log}");
    witness.check(&mut first);
    // And it may have the directory when the first one is gone, however that went.
    first.kill();
    second.restart();
    witness.check(&mut second);
}

#[test]
fn a_data_directory_of_etcd_is_refused_and_left_untouched() {
    let mut member = Member::unstarted(&portable(), &[]);
    let data = member.data_directory();
    std::fs::create_dir_all(data.join("member/snap")).unwrap();
    std::fs::create_dir_all(data.join("member/wal")).unwrap();
    std::fs::write(data.join("member/snap/db"), [7; 4096]).unwrap();
    std::fs::write(data.join("member/wal/0000000000000000-0000000000000000.wal"), b"x").unwrap();
    let before = tree(&data);
    let log = refused(&mut member);
    assert!(log.contains("is one of etcd (it holds member/)"), "{log}");
    assert_eq!(tree(&data), before);
    assert_eq!(std::fs::read_dir(&data).unwrap().count(), 1, "something was added");
}

#[test]
fn a_foreign_directory_is_refused_and_left_untouched() {
    let mut member = Member::unstarted(&portable(), &[]);
    let data = member.data_directory();
    std::fs::create_dir_all(&data).unwrap();
    std::fs::write(data.join("thesis.tex"), b"years of work").unwrap();
    let before = tree(&data);
    let log = refused(&mut member);
    assert!(log.contains("not one of corestone") && log.contains("thesis.tex"), "{log}");
    assert_eq!(tree(&data), before);
}

/// What kubeadm writes into its manifest promises TLS and a corruption check.
#[test]
fn the_flags_of_a_kubeadm_manifest_are_refused_by_name() {
    let folder = tempfile::TempDir::new().unwrap();
    let data = folder.path().join("etcd");
    let data_flag = format!("--data-dir={}", data.display());
    let manifest = [
        "--advertise-client-urls=https://10.0.0.5:2379",
        "--cert-file=/etc/kubernetes/pki/etcd/server.crt",
        "--client-cert-auth=true",
        data_flag.as_str(),
        "--initial-advertise-peer-urls=https://10.0.0.5:2380",
        "--initial-cluster=node-1=https://10.0.0.5:2380",
        "--key-file=/etc/kubernetes/pki/etcd/server.key",
        "--listen-client-urls=https://127.0.0.1:2379,https://10.0.0.5:2379",
        "--listen-metrics-urls=http://127.0.0.1:2381",
        "--listen-peer-urls=https://10.0.0.5:2380",
        "--name=node-1",
        "--peer-cert-file=/etc/kubernetes/pki/etcd/peer.crt",
        "--peer-client-cert-auth=true",
        "--peer-key-file=/etc/kubernetes/pki/etcd/peer.key",
        "--peer-trusted-ca-file=/etc/kubernetes/pki/etcd/ca.crt",
        "--snapshot-count=10000",
        "--trusted-ca-file=/etc/kubernetes/pki/etcd/ca.crt",
    ];
    let newer = ["--feature-gates=InitialCorruptCheck=true", "--watch-progress-notify-interval=5s"];
    let older = [
        "--experimental-initial-corrupt-check=true",
        "--experimental-watch-progress-notify-interval=5s",
    ];
    for ages in [newer, older] {
        let output = Command::new(corestone_binary()).args(manifest).args(ages).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "it started: {text}");
        assert!(text.contains("cert-file") || text.contains("https"), "{text}");
        assert!(!data.exists(), "a refused start made its directory");
    }
    // Without TLS the corruption check alone is refused too, and named.
    for gate in [newer[0], older[0]] {
        let output = Command::new(corestone_binary()).args([&data_flag, gate]).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "it started: {text}");
        assert!(text.contains("nitial") && text.contains("orrupt"), "{text}");
        assert!(!data.exists(), "a refused start made its directory");
    }
}
