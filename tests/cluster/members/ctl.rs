//! `corestone ctl` against several members: it is given one of them and finds the others by what
//! they publish, which etcd's clients do not see.

use std::process::{Command, Output};

use ::tests::process::{Cluster, corestone_binary};

use crate::ask::{insist, leader};
use crate::read::list;
use crate::{alone, three};

const ALL: [usize; 3] = [0, 1, 2];

fn ctl(cluster: &Cluster, endpoint: usize, words: &[&str]) -> Output {
    let mut command = Command::new(corestone_binary());
    command.args(["ctl", &format!("--endpoints={}", address(cluster, endpoint))]).args(words);
    command.output().unwrap()
}

fn address(cluster: &Cluster, member: usize) -> String {
    let (host, port) = cluster.members()[member].binary_address();
    format!("{host}:{port}")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn status_and_health_of_the_cluster_are_asked_of_every_member() {
    let _turn = alone();
    let mut cluster = three();
    let leads = leader(&cluster, &ALL);
    for asked in ALL {
        let answer = ctl(&cluster, asked, &["endpoint", "status", "--cluster"]);
        assert!(answer.status.success(), "{}", text(&answer.stderr));
        let lines: Vec<String> = text(&answer.stdout).lines().map(str::to_owned).collect();
        assert_eq!(lines.len(), 3, "{lines:?}");
        for member in ALL {
            let begin = format!("http://{}, ", address(&cluster, member));
            let line = lines.iter().find(|line| line.starts_with(&begin)).expect("it is told of");
            // endpoint, id, version, storage version, sizes, quota, leads, learns
            let columns: Vec<&str> = line.split(", ").collect();
            assert_eq!(columns[8], (member == leads).to_string(), "{line}");
        }
    }
    let answer = ctl(&cluster, leads, &["endpoint", "health", "--cluster"]);
    assert!(answer.status.success(), "{}", text(&answer.stderr));
    assert_eq!(text(&answer.stdout).matches("is healthy").count(), 3);
    // etcd's clients are told what they always were.
    let members = insist(&cluster.client_url(0), "Cluster.MemberList", "linearizable: true");
    let shown = format!("{:?}", list(&members, "members"));
    for member in ALL {
        assert!(!shown.contains(&address(&cluster, member)), "{shown}");
    }
    // One that is gone is missed, and named; the others are shown all the same.
    let gone = (leads + 1) % 3;
    cluster.member(gone).kill();
    let answer = ctl(&cluster, leads, &["endpoint", "status", "--cluster"]);
    assert_eq!(answer.status.code(), Some(1));
    assert_eq!(text(&answer.stdout).lines().count(), 2, "{}", text(&answer.stdout));
    assert!(text(&answer.stderr).contains(&address(&cluster, gone)), "{}", text(&answer.stderr));
}
