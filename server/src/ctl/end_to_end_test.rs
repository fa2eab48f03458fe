//! Commands from their words to what they print, against a server made of the real session.

use super::arguments::CtlArguments;
use super::fake::FakeServer;
use super::{
    EXIT_BAD_ARGUMENTS, EXIT_BAD_CONNECTION, EXIT_BAD_FEATURE, EXIT_ERROR, EXIT_INTERRUPTED,
    Failure, commands, exit_code_of,
};
use clap::Parser;
use corestone_client::ClusterMember;

async fn run(server: &FakeServer, words: &[&str]) -> Result<String, Failure> {
    let endpoint = format!("--endpoints={}", server.address);
    let words = ["ctl", &endpoint].into_iter().chain(words.iter().copied());
    let arguments = CtlArguments::try_parse_from(words).unwrap();
    let mut out = Vec::new();
    commands::run(arguments, &mut out).await?;
    Ok(String::from_utf8(out).unwrap())
}

async fn prints(server: &FakeServer, words: &[&str], expected: &str) {
    let printed = run(server, words).await;
    assert_eq!(printed.as_deref(), Ok(expected), "{words:?}");
}

async fn fails(server: &FakeServer, words: &[&str], code: u8, message: &str) {
    let failure = run(server, words).await.unwrap_err();
    assert_eq!(failure, Failure::new(code, message), "{words:?}");
}

#[tokio::test]
async fn commands_print_what_etcdctl_prints() {
    let server = FakeServer::start(0x1f).await;
    prints(&server, &["put", "a", "1"], "OK\n").await;
    prints(&server, &["get", "a"], "a\n1\n").await;
    prints(&server, &["get", "a", "--print-value-only"], "1\n").await;
    prints(&server, &["get", "", "--prefix", "--hex"], "\\x61\n\\x31\n").await;
    prints(&server, &["del", "a"], "3\n").await;
    prints(&server, &["compaction", "2"], "compacted revision 2\n").await;
    prints(&server, &["lease", "grant", "60"], "lease 00000000000003e8 granted with TTL(60s)\n")
        .await;
    let alive = "lease 00000000000003e8 keepalived with TTL(60)\n";
    prints(&server, &["lease", "keep-alive", "3e8", "--once"], alive).await;
    let told = "lease 00000000000003e8 granted with TTL(60s), remaining(60s), \
                attached keys([attached])\n";
    prints(&server, &["lease", "timetolive", "3e8", "--keys"], told).await;
    prints(&server, &["lease", "list"], "found 1 leases\n00000000000003e8\n").await;
    prints(&server, &["lease", "revoke", "3e8"], "lease 00000000000003e8 revoked\n").await;
    let gone = "lease 00000000000003e8 expired or revoked.\n";
    prints(&server, &["lease", "keep-alive", "3e8"], gone).await;
    let status = run(&server, &["status"]).await.unwrap();
    let expected = format!(
        "{}, 1f, 9.9.9, , 0 B, 0 B, 0%, , false, false, 7, 0, 0, , , false\n",
        server.address
    );
    assert_eq!(status, expected);
    assert_eq!(run(&server, &["endpoint", "status"]).await.unwrap(), expected);
    let health = run(&server, &["endpoint", "health"]).await.unwrap();
    let healthy = format!("{} is healthy: successfully committed proposal", server.address);
    assert!(health.starts_with(&healthy), "{health}");
}

#[tokio::test]
async fn members_come_and_go() {
    let server = FakeServer::start(5).await;
    let endpoint = format!("http://{}", server.address);
    server.change(|world| {
        world.members.push(ClusterMember {
            id: 5,
            name: "m1".to_owned(),
            peer_urls: vec!["http://a:2380".to_owned()],
            client_urls: vec!["http://nobody.invalid:2379".to_owned()],
            binary_urls: vec![endpoint.clone()],
            is_learner: false,
        });
    });
    let added = "Member              101 added as learner to cluster               2c\n\n\
                 ETCD_NAME=\"m2\"\n\
                 ETCD_INITIAL_CLUSTER=\"m1=http://a:2380,m2=http://b:1,m2=http://c:1\"\n\
                 ETCD_INITIAL_ADVERTISE_PEER_URLS=\"http://b:1,http://c:1\"\n\
                 ETCD_INITIAL_CLUSTER_STATE=\"existing\"\n";
    let add = ["member", "add", "m2", "--peer-urls=http://b:1,http://c:1", "--learner"];
    prints(&server, &add, added).await;
    let list = "5, started, m1, http://a:2380, http://nobody.invalid:2379, false\n\
                101, unstarted, , http://b:1,http://c:1, , true\n";
    prints(&server, &["member", "list"], list).await;
    prints(&server, &["member", "list", "--consistency=s"], list).await;
    let promoted = "Member              101 promoted in cluster               2c\n";
    prints(&server, &["member", "promote", "101"], promoted).await;
    let updated = "Member              101 updated in cluster               2c\n";
    prints(&server, &["member", "update", "101", "--peer-urls=http://d:1"], updated).await;
    assert!(run(&server, &["member", "list"]).await.unwrap().contains("http://d:1, , false"));
    let moved = "Leadership transferred from 5 to 101\n";
    prints(&server, &["move-leader", "101"], moved).await;
    let removed = "Member              101 removed from cluster               2c\n";
    prints(&server, &["member", "remove", "101"], removed).await;
    // The one member that is left told where it speaks the binary protocol.
    let status = run(&server, &["endpoint", "status", "--cluster"]).await.unwrap();
    assert!(status.starts_with(&format!("{endpoint}, 5, 9.9.9")), "{status}");
    let health = run(&server, &["endpoint", "--cluster", "health", "-w", "table"]).await.unwrap();
    assert!(health.contains(&endpoint) && health.contains("true"), "{health}");
    // A member that has started and tells no such URL is not passed over in silence.
    server.change(|world| {
        world.members.push(ClusterMember {
            id: 6,
            name: "mute".to_owned(),
            client_urls: vec![endpoint.clone()],
            ..ClusterMember::default()
        });
    });
    let why = "no URL of the binary protocol is known of mute";
    for command in ["status", "health"] {
        fails(&server, &["endpoint", "--cluster", command], EXIT_ERROR, why).await;
    }
}

#[tokio::test]
async fn member_commands_refuse_what_etcdctl_refuses() {
    let server = FakeServer::start(7).await;
    let bad = EXIT_BAD_ARGUMENTS;
    fails(&server, &["member", "add"], bad, "member name not provided").await;
    fails(&server, &["member", "add", "a"], bad, "member peer urls not provided").await;
    fails(&server, &["member", "add", "a", "b"], bad, "too many arguments").await;
    fails(&server, &["member", "remove"], bad, "member ID is not provided").await;
    fails(&server, &["member", "update", "1"], bad, "member peer urls not provided").await;
    let why = "bad member ID arg (strconv.ParseUint: parsing \"zz\": invalid syntax), expecting ID \
               in Hex";
    for command in ["remove", "promote"] {
        fails(&server, &["member", command, "zz"], bad, why).await;
    }
    let why = "strconv.ParseUint: parsing \"+1\": invalid syntax";
    fails(&server, &["move-leader", "+1"], bad, why).await;
    fails(&server, &["move-leader"], bad, "move-leader command needs 1 argument").await;
    // It says that 5 leads, and is 7.
    let why = format!("no leader endpoint given at [{}]", server.address);
    fails(&server, &["move-leader", "7"], bad, &why).await;
    let why = "etcdserver: member not found";
    fails(&server, &["member", "remove", "12"], EXIT_ERROR, why).await;
    let why = "unknown consistency flag \"x\"";
    fails(&server, &["member", "list", "--consistency=x"], EXIT_BAD_FEATURE, why).await;
    let asked = server.see(|world| world.requests);
    for format in ["table", "fields"] {
        let why = format!("{format} not supported as output format");
        let add = ["member", "add", "a", "--peer-urls=http://b:1", "-w", format];
        fails(&server, &add, EXIT_BAD_FEATURE, &why).await;
    }
    assert_eq!(server.see(|world| world.requests), asked, "nothing was done");
}

#[tokio::test]
async fn failures_have_etcdctls_codes_and_texts() {
    let server = FakeServer::start(1).await;
    fails(&server, &["put", "fail", "x"], EXIT_ERROR, "etcdserver: server stopped").await;
    let gone = "failed to revoke lease (etcdserver: requested lease not found)";
    fails(&server, &["lease", "revoke", "1"], EXIT_ERROR, gone).await;
    let gone = "etcdserver: requested lease not found";
    fails(&server, &["lease", "keep-alive", "1", "--once"], EXIT_BAD_CONNECTION, gone).await;
    let why = "bad lease ID arg (parsing \"zz\": invalid syntax), expecting ID in Hex";
    fails(&server, &["lease", "revoke", "zz"], EXIT_BAD_ARGUMENTS, why).await;
    let why = "table not supported as output format";
    fails(&server, &["get", "a", "-w", "table"], EXIT_BAD_FEATURE, why).await;
    let why = "--count-only is only for `--write-out=fields`";
    fails(&server, &["get", "a", "--count-only"], EXIT_BAD_ARGUMENTS, why).await;
    let why = "compaction command needs 1 argument";
    fails(&server, &["compaction"], EXIT_BAD_ARGUMENTS, why).await;
    let why = "watch is canceled by the server";
    fails(&server, &["watch", "refused"], EXIT_INTERRUPTED, why).await;
    let unreachable = ["get", "a", "--endpoints=127.0.0.1:1", "--command-timeout=50ms"];
    assert_eq!(run(&server, &unreachable).await.unwrap_err().code, EXIT_ERROR);
    let kind = |words: &[&str]| CtlArguments::try_parse_from(words).unwrap_err().kind();
    assert_eq!(exit_code_of(kind(&["ctl", "nosuch"])), EXIT_ERROR);
    assert_eq!(exit_code_of(kind(&["ctl", "get", "a", "--nosuch"])), EXIT_ERROR);
    assert_eq!(exit_code_of(kind(&["ctl", "get", "a", "--limit=x"])), EXIT_ERROR);
    assert_eq!(exit_code_of(kind(&["ctl", "--help"])), 0);
}

#[tokio::test]
async fn a_watch_prints_events_and_runs_a_command_for_each() {
    let server = FakeServer::start(1).await;
    server.change(|world| {
        world.put(b"w", b"1");
        world.put(b"w", b"2\n");
    });
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("seen");
    let script = format!(
        "printf '%s %s %s;' $ETCD_WATCH_EVENT_TYPE $ETCD_WATCH_KEY \"$ETCD_WATCH_VALUE\" >> {}; \
         [ \"$ETCD_WATCH_VALUE\" = '\"1\"' ]",
        path.display()
    );
    // The second event's command fails, and that ends the watch.
    let words = ["watch", "w", "--rev=2", "--", "sh", "-c", &script];
    let failure = run(&server, &words).await.unwrap_err();
    assert_eq!(failure.code, EXIT_ERROR);
    let seen = std::fs::read_to_string(&path).unwrap();
    assert_eq!(seen, "\"PUT\" \"w\" \"1\";\"PUT\" \"w\" \"2\\n\";");
}
