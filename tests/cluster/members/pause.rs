//! SIGSTOP and SIGCONT of the leader, for longer than the election timeout.

use ::tests::process::Member;

use crate::ask::{ask, assert_equal, insist, leader, without};
use crate::client::Client;
use crate::load::{Load, verify};
use crate::read::{list, number, text};
use crate::{alone, block_on, three, within};

const ALL: [usize; 3] = [0, 1, 2];

/// Reads are sent to the stopped leader after newer writes were acknowledged elsewhere; it finds
/// them in its socket when it wakes, before it learns that it was deposed.
#[test]
fn a_leader_that_was_paused_answers_no_stale_read_and_loses_no_write() {
    let _turn = alone();
    let cluster = three();
    let urls: Vec<String> = ALL.iter().map(|&member| cluster.client_url(member)).collect();
    let load = Load::start(&urls, Vec::new());
    for round in 0..ROUNDS {
        load.wait_for_new(100);
        let old = leader(&cluster, &ALL);
        let others = without(&ALL, old);
        // Connected before: the stopped process takes no new connection.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let client = runtime.block_on(Client::connect(&urls[old]));
        runtime.block_on(within(client.ask("KV.Range", r#"key: "fresh""#))).unwrap();
        cluster.members()[old].pause();
        let new = leader(&cluster, &others);
        let put = format!(r#"key: "fresh" value: "{round}""#);
        let written = number(&insist(&urls[new], "KV.Put", &put), "header.revision");
        runtime.block_on(async {
            let request = r#"key: "fresh""#;
            let reads = (0..READS).map(|_| client.ask("KV.Range", request));
            let mut reads: Vec<_> = reads.map(Box::pin).collect();
            for read in &mut reads {
                // Sent, and not answered: its member stands still.
                assert!(tokio::time::timeout(SENT_AFTER, read).await.is_err());
            }
            cluster.members()[old].resume();
            for read in reads {
                // An error is an answer too: it was not stale.
                let Ok(answer) = within(read).await else { continue };
                assert!(written <= number(&answer, "header.revision"), "a stale revision");
                assert_eq!(text(&list(&answer, "kvs")[0], "value"), round.to_string());
            }
        });
        // It serves again.
        insist(&urls[old], "KV.Range", r#"key: "fresh""#);
    }
    load.wait_for_new(100);
    let records = load.stop();
    verify(&cluster, &ALL, &records);
    assert_equal(&cluster, &ALL);
}

/// A leader that leads nobody any more serves what needs no quorum, and says so in its status.
#[test]
fn a_member_whose_peers_stand_still_serves_only_what_needs_no_quorum() {
    let _turn = alone();
    let cluster = three();
    let url = cluster.client_url(0);
    let written = insist(&url, "KV.Put", r#"key: "k" value: "1""#);
    let written = number(&written, "header.revision");
    cluster.members()[1..].iter().for_each(Member::pause);
    let read = ask(&url, "KV.Range", r#"key: "k" serializable: true"#).unwrap();
    assert_eq!(number(&list(&read, "kvs")[0], "mod_revision"), written);
    let refused = block_on(async {
        let client = Client::lazy(&url);
        let put = client.ask("KV.Put", r#"key: "k" value: "2""#);
        let read = client.ask("KV.Range", r#"key: "k""#);
        let (put, read) = tokio::join!(within(put), within(read));
        [put.unwrap_err(), read.unwrap_err()]
    });
    for error in refused {
        assert_eq!(error.code(), tonic::Code::Unavailable, "{error:?}");
        assert!(error.message().starts_with("etcdserver: request timed out"), "{error:?}");
    }
    cluster.members()[1..].iter().for_each(Member::resume);
    insist(&url, "KV.Put", r#"key: "k" value: "3""#);
    assert_equal(&cluster, &ALL);
}

const ROUNDS: usize = 3;
const READS: usize = 5;
/// Enough to hand a request to the kernel.
const SENT_AFTER: std::time::Duration = std::time::Duration::from_millis(30);
