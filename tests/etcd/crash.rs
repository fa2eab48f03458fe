//! SIGKILL in the middle of writes: what was acknowledged is there, nothing is there twice, and what
//! was not acknowledged is there whole or not at all.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ::tests::process::{Member, Program};

use crate::client::Client;
use crate::read::{list, number, text};
use crate::{block_on, within};

/// Several writers, killed and started again, round after round.
pub fn kill_under_load(program: &Program) {
    let mut member = Member::start(program, &[]);
    let mut acknowledged = vec![0; WRITERS];
    let mut revision = 1;
    for round in 0..ROUNDS {
        let url = member.client_url();
        let is_over = Arc::new(AtomicBool::new(false));
        let (progress, told) = std::sync::mpsc::channel();
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let (url, is_over) = (url.clone(), is_over.clone());
                let (first, progress) = (acknowledged[writer] + 1, progress.clone());
                std::thread::spawn(move || write(writer, first, &url, &is_over, &progress))
            })
            .collect();
        // Killed when enough was acknowledged, at a moment that no two runs share.
        for _ in 0..WRITES_BEFORE_KILL + 37 * round {
            told.recv().unwrap();
        }
        member.kill();
        is_over.store(true, Ordering::Relaxed);
        let ends: Vec<(i64, i64)> = writers.into_iter().map(|one| one.join().unwrap()).collect();
        member.restart();
        for (writer, (number, at_revision)) in ends.into_iter().enumerate() {
            acknowledged[writer] = acknowledged[writer].max(number);
            revision = revision.max(at_revision);
        }
        revision = block_on(verify(&member.client_url(), &mut acknowledged, revision));
    }
}

/// Writes 1, 2, 3... under one key and, in the same transaction, as a key of its own, beside
/// something big, until the member is gone. Answers the last number acknowledged and its revision.
fn write(
    writer: usize,
    first: i64,
    url: &str,
    is_over: &AtomicBool,
    progress: &std::sync::mpsc::Sender<()>,
) -> (i64, i64) {
    block_on(async {
        let client = Client::connect(url).await;
        let padding = "x".repeat(PADDING_BYTES);
        let mut last = (first - 1, 0);
        for number in first.. {
            let txn = format!(
                r#"success {{ request_put {{ key: "last/{writer}" value: "{number}" }} }}
                   success {{ request_put {{ key: "all/{writer}/{number:06}" value: "{number}" }} }}
                   success {{ request_put {{ key: "pad/{writer}" value: "{padding}" }} }}"#
            );
            match within(client.ask("KV.Txn", &txn)).await {
                Ok(answer) => last = (number, self::number(&answer, "header.revision")),
                // The kill. What was on its way may have been done or not.
                Err(_) => break,
            }
            if progress.send(()).is_err() || is_over.load(Ordering::Relaxed) {
                break;
            }
        }
        last
    })
}

/// Every writer's keys are 1 to n without a gap, n is at least what was acknowledged, and the two
/// keys of a transaction tell the same. Takes what was done unacknowledged as acknowledged.
async fn verify(url: &str, acknowledged: &mut [i64], revision: i64) -> i64 {
    let client = Client::connect(url).await;
    let mut newest = 0;
    for (writer, acknowledged) in acknowledged.iter_mut().enumerate() {
        let last = client.ask("KV.Range", &format!(r#"key: "last/{writer}""#)).await.unwrap();
        let all = format!(r#"key: "all/{writer}/" range_end: "all/{writer}0""#);
        let all = client.ask("KV.Range", &all).await.unwrap();
        let last = &list(&last, "kvs")[0];
        let last_number: i64 = text(last, "value").parse().unwrap();
        assert!(*acknowledged <= last_number, "writer {writer} lost {acknowledged}");
        assert!(last_number <= *acknowledged + 1, "writer {writer} wrote what it did not ask for");
        let kvs = list(&all, "kvs");
        assert_eq!(kvs.len(), usize::try_from(last_number).unwrap(), "writer {writer}");
        for (index, kv) in kvs.iter().enumerate() {
            assert_eq!(text(kv, "value"), (index + 1).to_string());
            assert_eq!(number(kv, "version"), 1);
        }
        assert_eq!(number(last, "version"), last_number, "writer {writer}: a write done twice");
        let of_pair = number(kvs.last().unwrap(), "mod_revision");
        assert_eq!(of_pair, number(last, "mod_revision"), "half a transaction");
        newest = newest.max(of_pair);
        *acknowledged = last_number;
    }
    let now = client.ask("KV.Range", r#"key: "last/0""#).await.unwrap();
    let now = number(&now, "header.revision");
    assert!(revision <= now, "the store went back from revision {revision} to {now}");
    assert_eq!(now, newest, "a revision that nobody made");
    now
}

/// All rounds together write more than corestone does between two checkpoints.
const PADDING_BYTES: usize = 60_000;
const WRITERS: usize = 6;
const ROUNDS: usize = 4;
/// Of all writers together.
const WRITES_BEFORE_KILL: usize = 250;
