//! The birth of a member, on the real binary: what it refuses, what it keeps, what it ignores later.
//!
//! The texts and exit codes are those of etcd 3.7 with the same flags.

#![allow(clippy::unwrap_used, reason = "a step of a test that fails ends it")]

use std::{
    io::{BufRead, BufReader, Read},
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Child, ChildStderr, Command, Stdio},
};

/// Two ports that nobody has: for clients and for peers.
fn ports() -> [u16; 2] {
    let listeners = [0, 0].map(|port| TcpListener::bind(("127.0.0.1", port)).unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().port())
}

fn url(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}

/// A member called `a` in a directory, with further flags.
fn command(directory: &Path, [client, peer]: [u16; 2], flags: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_corestone"));
    command
        .arg("--name=a")
        .arg(format!("--data-dir={}", directory.display()))
        .arg(format!("--listen-client-urls={}", url(client)))
        .arg(format!("--advertise-client-urls={}", url(client)))
        .arg(format!("--listen-peer-urls={}", url(peer)))
        .arg(format!("--initial-advertise-peer-urls={}", url(peer)))
        .arg("--listen-binary-urls=")
        .arg("--io-driver=portable")
        .args(flags)
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    command
}

/// A member that serves; stopped when dropped.
struct Serving {
    child: Child,
    stderr: BufReader<ChildStderr>,
    /// What it has logged so far.
    log: String,
}

impl Serving {
    fn start(directory: &Path, ports: [u16; 2], flags: &[&str]) -> Serving {
        let mut child = command(directory, ports, flags).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let mut serving = Serving { child, stderr, log: String::new() };
        serving.read_until("ready to serve client requests");
        serving
    }

    fn read_until(&mut self, part: &str) {
        while !self.log.contains(part) {
            let size = self.stderr.read_line(&mut self.log).unwrap();
            assert!(0 < size, "it ended before {part:?}:\n{}", self.log);
        }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Exit code and standard error of a member that ends by itself.
fn ended(directory: &Path, ports: [u16; 2], flags: &[&str]) -> (i32, String) {
    let output = command(directory, ports, flags).output().unwrap();
    (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}

fn identity(directory: &Path) -> serde_json::Value {
    let text = std::fs::read_to_string(directory.join("corestone.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

#[test]
fn flags_that_contradict_each_other_end_a_birth_and_leave_no_member() {
    let base = tempfile::tempdir().unwrap();
    let ports = ports();
    let own = url(ports[1]);
    for (cluster, code, text) in [
        (
            format!("b={own}"),
            1,
            "couldn't find local name \"a\" in the initial cluster configuration".to_owned(),
        ),
        (
            "a=http://127.0.0.1:9".to_owned(),
            1,
            format!(
                "--initial-cluster has a=http://127.0.0.1:9 but missing from \
                 --initial-advertise-peer-urls={own}"
            ),
        ),
        (
            format!("a={own},b={own}"),
            1,
            format!("initial cluster a={own},b={own} has duplicate url"),
        ),
        (
            format!("a={own},b=foo"),
            1,
            "error setting up initial cluster: URL scheme must be http, https, unix, or unixs: foo"
                .to_owned(),
        ),
    ] {
        let cluster = format!("--initial-cluster={cluster}");
        let (found, log) = ended(base.path(), ports, &[&cluster]);
        assert_eq!(found, code, "{log}");
        assert!(log.contains(&text), "{cluster}: {log}");
        assert!(!base.path().join("corestone.json").exists());
    }
    let (code, log) = ended(base.path(), ports, &["--initial-cluster-state=old"]);
    assert_eq!(code, 2);
    assert!(log.contains("invalid value \"old\" for flag -initial-cluster-state"), "{log}");
}

#[test]
fn one_that_nobody_lets_in_says_whom_it_asked() {
    let base = tempfile::tempdir().unwrap();
    let ports = ports();
    let [other, _] = self::ports();
    let cluster = format!("--initial-cluster=a={},b={}", url(ports[1]), url(other));
    let (code, log) = ended(base.path(), ports, &[&cluster, "--initial-cluster-state=existing"]);
    assert_eq!(code, 1);
    let asked = format!("\"address\":\"{}/members\"", url(other));
    assert!(log.contains("failed to get cluster response") && log.contains(&asked), "{log}");
    let text = "cannot fetch cluster info from peer urls: could not retrieve cluster information \
                from the given URLs";
    assert!(log.contains(text), "{log}");
}

#[test]
fn a_restart_does_not_read_the_initial_cluster() {
    let base = tempfile::tempdir().unwrap();
    let ports = ports();
    let cluster = format!("--initial-cluster=a={}", url(ports[1]));
    let serving = Serving::start(base.path(), ports, &[&cluster]);
    TcpStream::connect(("127.0.0.1", ports[1])).expect("the peer door is open");
    assert!(serving.log.contains(&format!("\"initial-cluster\":\"a={}\"", url(ports[1]))));
    drop(serving);
    let born = identity(base.path());
    assert_eq!(born["birth"]["founder"][0]["name"], "a");
    let flags = ["--initial-cluster=x=nonsense", "--initial-cluster-state=existing"];
    drop(Serving::start(base.path(), ports, &flags));
    assert_eq!(identity(base.path()), born);
}

#[test]
fn a_forced_cluster_has_a_new_epoch_each_time() {
    let base = tempfile::tempdir().unwrap();
    let ports = ports();
    // On a new directory there is nothing to force.
    for epoch in 0..3 {
        drop(Serving::start(base.path(), ports, &["--force-new-cluster"]));
        assert_eq!(identity(base.path())["epoch"], epoch);
    }
    drop(Serving::start(base.path(), ports, &[]));
    assert_eq!(identity(base.path())["epoch"], 2);
}

#[test]
fn a_taken_peer_port_is_an_error_where_it_was_named() {
    let base = tempfile::tempdir().unwrap();
    let ports = ports();
    let _taken = TcpListener::bind(("127.0.0.1", ports[1])).unwrap();
    let (code, log) = ended(base.path(), ports, &[]);
    assert_eq!(code, 1);
    assert!(log.contains(&format!("listen tcp 127.0.0.1:{}", ports[1])), "{log}");
}

/// The whole way by which another member is asked: this one is killed in the middle of its answer.
#[test]
fn a_member_that_dies_while_it_is_asked_is_no_answer() {
    let base = tempfile::tempdir().unwrap();
    let ports = ports();
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let other_url = format!("http://{}", other.local_addr().unwrap());
    let cluster = format!("--initial-cluster=a={},b={other_url}", url(ports[1]));
    let state = "--initial-cluster-state=existing";
    let mut child = command(base.path(), ports, &[&cluster, state]).spawn().unwrap();
    let (mut stream, _) = other.accept().unwrap();
    let mut request = [0; 64];
    assert!(0 < stream.read(&mut request).unwrap());
    assert!(request.starts_with(b"GET /members HTTP/1.1\r\n"));
    drop((stream, other));
    assert_eq!(child.wait().unwrap().code(), Some(1));
}
