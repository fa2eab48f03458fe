//! Learners: how many there may be, what it takes to promote one, and what a member counts of it.

use tonic::Code;

use ::tests::process::Cluster;

use crate::ask::{RETRY_INTERVAL, ask, insist, wait_for_metric};
use crate::read::id;
use crate::{PATIENCE, alone, corestone};

const TOO_MANY: &str = "etcdserver: too many learner members in cluster";
const NOT_READY: &str =
    "etcdserver: can only promote a learner member which is in sync with leader";
const FAILURES: &str = "etcd_server_learner_promote_failures";

fn add_learner(cluster: &Cluster, peer_url: &str) -> u64 {
    let text = format!("peerURLs: {peer_url:?} isLearner: true");
    id(&insist(&cluster.client_url(0), "Cluster.MemberAdd", &text), "member.ID")
}

/// The text of etcd's refusal; any other failure passes.
fn refusal(url: &str, call: &str, text: &str) -> String {
    let begin = std::time::Instant::now();
    loop {
        match ask(url, call, text) {
            Ok(answer) => panic!("{call} {text} was done: {answer:?}"),
            Err(status) if status.code() == Code::FailedPrecondition => {
                return status.message().to_owned();
            }
            Err(status) => assert!(begin.elapsed() < PATIENCE, "{status:?}"),
        }
        std::thread::sleep(RETRY_INTERVAL);
    }
}

#[test]
fn learners_are_as_many_as_the_flag_allows() {
    let _turn = alone();
    for (flags, allowed) in [(&[][..], 1), (&["--max-learners=2"], 2)] {
        let cluster = Cluster::start(&corestone(), 1, flags);
        for n in 0..allowed {
            add_learner(&cluster, &format!("http://127.0.0.1:{}", 2 + n));
        }
        let one_more = r#"peerURLs: "http://127.0.0.1:9" isLearner: true"#;
        let why = refusal(&cluster.client_url(0), "Cluster.MemberAdd", one_more);
        assert_eq!(why, TOO_MANY, "{flags:?}");
    }
}

#[test]
fn promotions_are_refused_until_the_learner_has_caught_up_and_are_counted() {
    let _turn = alone();
    let mut cluster = Cluster::start(&corestone(), 1, &[]);
    let url = cluster.client_url(0);
    insist(&url, "KV.Put", r#"key: "a" value: "1""#);
    let candidate = cluster.candidate();
    let learner = add_learner(&cluster, &candidate.peer_url());
    let promote = format!("ID: {learner}");
    assert_eq!(refusal(&url, "Cluster.MemberPromote", &promote), NOT_READY);
    wait_for_metric(&url, &format!("{FAILURES}{{Reason=\"{NOT_READY}\"}}"), 1);
    let joined = cluster.join(&[0], candidate);
    cluster.member(joined).wait_until_ready().unwrap();
    wait_for_metric(&cluster.client_url(joined), "etcd_server_is_learner", 1);
    insist(&url, "Cluster.MemberPromote", &promote);
    wait_for_metric(&url, "etcd_server_learner_promote_successes", 1);
    // It votes: what it answers now was agreed on with it.
    insist(&cluster.client_url(joined), "KV.Put", r#"key: "b" value: "2""#);
}
