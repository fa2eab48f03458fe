//! Writers, one or more a member, that never write twice what was done and never give up.
//!
//! Writer `w` writes the numbers 1, 2, 3... in transactions that put `all/w/n` and `last/w`, if
//! `all/w/n` is not there yet: so a write whose answer was lost may be sent again.
//!
//! What it checks as it goes: revisions that one writer is told never go back.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Instant;

use ::tests::process::Cluster;

use crate::ask::{RETRY_INTERVAL, ask, insist};
use crate::client::Client;
use crate::read::{list, number, text, value};
use crate::{PATIENCE, block_on, within};

/// What one writer was told.
#[derive(Clone, Debug, Default)]
pub struct Record {
    /// Its number in the keys.
    pub writer: usize,
    /// The last number acknowledged.
    pub acknowledged: i64,
    /// The revision of that.
    pub revision: i64,
    /// Calls that were answered with an error.
    pub errors: Vec<String>,
}

/// Running writers.
pub struct Load {
    urls: Vec<String>,
    is_over: Arc<AtomicBool>,
    progress: mpsc::Receiver<()>,
    writers: Vec<JoinHandle<Record>>,
}

impl Load {
    /// One writer a URL, each going on from its record; the first ones begin from nothing.
    pub fn start(urls: &[String], records: Vec<Record>) -> Load {
        let is_over = Arc::new(AtomicBool::new(false));
        let (told, progress) = mpsc::channel();
        let first = |writer| Record { writer, ..Record::default() };
        let records =
            if records.is_empty() { (0..urls.len()).map(first).collect() } else { records };
        assert_eq!(records.len(), urls.len());
        let writers = urls.iter().cloned().zip(records).map(|(url, record)| {
            let (is_over, told) = (is_over.clone(), told.clone());
            std::thread::spawn(move || block_on(write(&url, record, &is_over, &told)))
        });
        Load { urls: urls.to_vec(), writers: writers.collect(), is_over, progress }
    }

    /// Waits until so many more writes were acknowledged, of all writers together.
    ///
    /// # Panics
    /// When one takes longer than [`PATIENCE`].
    pub fn wait_for(&self, writes: usize) {
        for _ in 0..writes {
            if self.progress.recv_timeout(PATIENCE).is_err() {
                panic!("no writer gets on:\n{}", describe(&self.urls));
            }
        }
    }

    /// Forgets what was acknowledged before, and waits for so many from now on.
    ///
    /// # Panics
    /// As [`Load::wait_for`].
    pub fn wait_for_new(&self, writes: usize) {
        while self.progress.try_recv().is_ok() {}
        self.wait_for(writes);
    }

    /// Ends all writers once their last write was acknowledged.
    pub fn stop(self) -> Vec<Record> {
        self.is_over.store(true, Ordering::Relaxed);
        self.writers.into_iter().map(|writer| writer.join().unwrap()).collect()
    }
}

/// What each member says of itself, for the message of a failing test.
fn describe(urls: &[String]) -> String {
    let of = |url: &String| {
        let status = ask(url, "Maintenance.Status", "").map(|status| {
            let field = |name| value(&status, name).to_string();
            let names = ["header.member_id", "leader", "raftTerm", "raftIndex", "raftAppliedIndex"];
            names.map(|name| format!("{name} {}", field(name))).join(", ")
        });
        let read = ask(url, "KV.Range", r#"key: "any""#).map(|_| "answered");
        format!("{url}: {status:?}; a linearizable read: {read:?}")
    };
    urls.iter().map(of).collect::<Vec<_>>().join("\n")
}

async fn write(
    url: &str,
    mut record: Record,
    is_over: &AtomicBool,
    progress: &mpsc::Sender<()>,
) -> Record {
    let client = Client::lazy(url);
    let writer = record.writer;
    record.errors.clear();
    while !is_over.load(Ordering::Relaxed) {
        let number = record.acknowledged + 1;
        let txn = format!(
            r#"compare {{ key: "all/{writer}/{number:06}" target: VERSION result: EQUAL }}
               success {{ request_put {{ key: "all/{writer}/{number:06}" value: "{number}" }} }}
               success {{ request_put {{ key: "last/{writer}" value: "{number}" }} }}"#
        );
        let begin = Instant::now();
        let revision = loop {
            match within(client.ask("KV.Txn", &txn)).await {
                Ok(answer) => break self::number(&answer, "header.revision"),
                Err(error) => record.errors.push(format!("{number}: {error:?}")),
            }
            // Its member is gone; if all are for good, the test failed long ago.
            assert!(begin.elapsed() < 2 * PATIENCE, "writer {writer}: {:?}", record.errors.last());
            tokio::time::sleep(RETRY_INTERVAL).await;
        };
        assert!(record.revision <= revision, "writer {writer}: {revision} after {record:?}");
        record.revision = revision;
        record.acknowledged = number;
        let _ = progress.send(());
    }
    record
}

/// Through each of `members`: everything acknowledged is there, once, and nothing that nobody
/// wrote.
///
/// # Panics
/// When something is missing, came twice, or was never asked for.
pub fn verify(cluster: &Cluster, members: &[usize], records: &[Record]) {
    for &member in members {
        let url = cluster.client_url(member);
        for record in records {
            let Record { writer, acknowledged, revision, .. } = *record;
            let all = format!(r#"key: "all/{writer}/" range_end: "all/{writer}0""#);
            let all = insist(&url, "KV.Range", &all);
            let now = number(&all, "header.revision");
            assert!(revision <= now, "member {member} went back from {revision} to {now}");
            let kvs = list(&all, "kvs");
            let found = i64::try_from(kvs.len()).unwrap();
            assert_eq!(found, acknowledged, "member {member}, writer {writer}");
            for (number_before, kv) in (0..).zip(&kvs) {
                assert_eq!(text(kv, "value"), (number_before + 1).to_string());
                assert_eq!(number(kv, "version"), 1, "written twice");
            }
            let last = insist(&url, "KV.Range", &format!(r#"key: "last/{writer}""#));
            let last = &list(&last, "kvs")[0];
            assert_eq!(text(last, "value"), acknowledged.to_string());
            assert_eq!(number(last, "version"), acknowledged, "a write done twice");
        }
    }
}
