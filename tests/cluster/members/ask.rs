//! What tests ask of members: who leads, what is there, whether all hold the same.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use prost_reflect::DynamicMessage;
use tonic::Status;

use ::tests::process::Cluster;

use crate::client::Client;
use crate::read::{id, number, value};
use crate::{PATIENCE, block_on, within};

/// One call, within [`PATIENCE`].
///
/// # Errors
/// What the member answers.
pub fn ask(url: &str, name: &str, text: &str) -> Result<DynamicMessage, Status> {
    block_on(async { within(Client::lazy(url).ask(name, text)).await })
}

/// One call, again and again until it succeeds.
///
/// # Panics
/// When it does not within [`PATIENCE`].
pub fn insist(url: &str, name: &str, text: &str) -> DynamicMessage {
    let begin = Instant::now();
    loop {
        match ask(url, name, text) {
            Ok(answer) => return answer,
            Err(error) => assert!(begin.elapsed() < PATIENCE, "{name} {text}: {error:?}"),
        }
        std::thread::sleep(RETRY_INTERVAL);
    }
}

/// A member's id.
pub fn member_id(url: &str) -> u64 {
    id(&insist(url, "Maintenance.Status", ""), "header.member_id")
}

/// The number of the member that says it leads.
///
/// # Panics
/// When none of `among` does within [`PATIENCE`].
pub fn leader(cluster: &Cluster, among: &[usize]) -> usize {
    let begin = Instant::now();
    loop {
        let leads = |&&member: &&usize| {
            let status = ask(&cluster.client_url(member), "Maintenance.Status", "");
            status.is_ok_and(|status| id(&status, "leader") == id(&status, "header.member_id"))
        };
        if let Some(&leader) = among.iter().find(leads) {
            return leader;
        }
        assert!(begin.elapsed() < PATIENCE, "nobody leads");
        std::thread::sleep(RETRY_INTERVAL);
    }
}

/// The others of `all`.
pub fn without(all: &[usize], one: usize) -> Vec<usize> {
    all.iter().copied().filter(|&member| member != one).collect()
}

/// Waits until a number among the member's metrics, one without labels, is at least this.
///
/// # Panics
/// When it is not within [`PATIENCE`].
pub fn wait_for_metric(url: &str, name: &str, at_least: u64) {
    let begin = Instant::now();
    let is_reached = |text: &String| {
        let values = text.lines().filter_map(|line| line.strip_prefix(name)?.trim().parse().ok());
        values.into_iter().any(|value: u64| at_least <= value)
    };
    while !metrics(url).as_ref().is_ok_and(is_reached) {
        assert!(begin.elapsed() < PATIENCE, "{name} stays below {at_least}");
        std::thread::sleep(RETRY_INTERVAL);
    }
}

fn metrics(url: &str) -> std::io::Result<String> {
    let address = url.trim_start_matches("http://");
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

/// Every member reads linearizably at one revision at least, and has the same hash at it; that
/// revision.
///
/// # Panics
/// When they differ.
pub fn assert_equal(cluster: &Cluster, members: &[usize]) -> i64 {
    let newest = members.iter().map(|&member| {
        let answer = insist(&cluster.client_url(member), "KV.Range", r#"key: "any""#);
        number(&answer, "header.revision")
    });
    let newest = newest.max().unwrap();
    let hashes = members.iter().map(|&member| {
        let url = cluster.client_url(member);
        // What the others saw is there too, once a read that began after it was answered.
        insist(&url, "KV.Range", r#"key: "any""#);
        let answer = insist(&url, "Maintenance.HashKV", &format!("revision: {newest}"));
        assert_eq!(number(&answer, "hash_revision"), newest);
        value(&answer, "hash").as_u32().unwrap()
    });
    let hashes: Vec<u32> = hashes.collect();
    assert!(hashes.iter().all(|hash| *hash == hashes[0]), "{members:?} at {newest}: {hashes:?}");
    newest
}

/// The middle of what was measured, of an even count the upper one.
pub fn median(mut all: Vec<Duration>) -> Duration {
    all.sort();
    all[all.len() / 2]
}

/// Between two tries of a call that failed.
pub const RETRY_INTERVAL: Duration = Duration::from_millis(10);
