//! `kill -9` at any moment, the process under load or at its very start, on both drivers.
//!
//! Invariants held: what was acknowledged, watched or read is there after every restart, at its
//! revision; what was not answered is there whole or not at all; revisions only grow; leases and
//! their keys survive; history once told stays as it was.

#![allow(clippy::unwrap_used, reason = "all of it is test, and only test functions may by default")]

mod history;
mod load;
mod operation;
mod random;
mod recover;

use std::time::{Duration, Instant};

use ::tests::process::{IoDriver, Member, Program, StartError};
use corestone_client::Client;

use load::{Round, Start};
use operation::Weight;
use random::Random;
use recover::Known;

#[test]
fn fifty_kills_under_load_on_one_data_directory() {
    let mut random = Random::of_this_run("fifty kills");
    let drivers = drivers();
    let mut member = Member::unstarted(&drivers[0], &["--quota-backend-bytes=-1"]);
    let mut known = Known::new();
    let mut round = Round::default();
    let (mut requests, mut open) = (0, 0);
    let (mut starting, mut checking) = (Duration::ZERO, Duration::ZERO);
    for kill in 0..KILLS {
        member.change_program(drivers[kill % drivers.len()].clone());
        let began = Instant::now();
        member.restart();
        starting += began.elapsed();
        // Some write enough for a checkpoint interval to end under them.
        let weight = if kill % 20 == 7 { Weight::Heavy } else { Weight::Light };
        let life =
            random.duration_below(if weight == Weight::Heavy { LIFE_HEAVY_MAX } else { LIFE_MAX });
        round = block_on(async {
            let endpoint = endpoint(&member);
            let client = Client::connect([endpoint.as_str()]).await.unwrap();
            let began = Instant::now();
            known.check(&client, round, &mut random).await;
            checking += began.elapsed();
            let start = Start {
                endpoint,
                weight,
                revision: known.history.newest(),
                leases: known.leases.iter().copied().collect(),
                compaction: compaction(&known, &mut random),
            };
            load::run(start, &mut random, life, || member.kill()).await
        });
        requests += round.requests.acknowledged.len();
        open += round.requests.open.len();
    }
    for is_clean in [false, true] {
        if is_clean {
            member.terminate();
        }
        member.restart();
        round = block_on(async {
            let client = Client::connect([endpoint(&member)]).await.unwrap();
            known.check(&client, round, &mut random).await;
            known.check_whole_history(&client).await;
            Round::default()
        });
    }
    let newest = known.history.newest();
    println!("{KILLS} kills, {requests} requests acknowledged, {open} open, revision {newest}");
    let pages = member.data_directory().join("default.pages");
    let pages_bytes = std::fs::metadata(pages).map_or(0, |file| file.len());
    println!("the page file has {pages_bytes} bytes: checkpoints were made if it is not empty");
    println!("{starting:?} until ready, {checking:?} to compare");
    // A load that hardly ran would prove nothing.
    assert!(KILLS * 20 < requests, "only {requests} requests in {KILLS} rounds");
}

/// Now and then a revision to compact: one that leaves the last hundreds to be compared.
fn compaction(known: &Known, random: &mut Random) -> Option<i64> {
    let first = known.compaction_open.max(1);
    let last = known.history.newest() - REVISIONS_KEPT;
    if last <= first || !random.percent(30) {
        return None;
    }
    let span = u64::try_from(last - first).unwrap();
    Some(first + 1 + i64::try_from(random.below(span)).unwrap())
}

#[test]
fn a_start_killed_in_its_first_moments_comes_up_again() {
    let mut random = Random::of_this_run("killed starts");
    let drivers = drivers();
    let began = Instant::now();
    let mut before_ready = 0;
    for attempt in 0..STARTS {
        let program = &drivers[attempt % drivers.len()];
        let mut member = Member::unstarted(program, &[]);
        // Some are killed more than once before they are let be.
        for _ in 0..=random.below(3) {
            member.spawn();
            std::thread::sleep(random.duration_below(FIRST_MOMENTS));
            before_ready += usize::from(!member.log().contains("ready to serve"));
            member.kill();
        }
        if let Err(error) = try_restart(&mut member) {
            panic!("attempt {attempt} with {program:?}: {error:?}");
        }
        block_on(async {
            let client = Client::connect([endpoint(&member)]).await.unwrap();
            let put = client.put("key", "value").await.unwrap();
            assert_eq!(put.header.revision, 2, "a new store begins at revision 1");
        });
    }
    println!("{STARTS} starts, {before_ready} killed before ready, {:?}", began.elapsed());
    assert!(STARTS / 10 < before_ready, "the kills came too late to prove anything");
}

/// A port may have been taken by another process since it was chosen and never bound.
fn try_restart(member: &mut Member) -> Result<(), StartError> {
    match member.try_restart() {
        Err(StartError::Ended(log)) if log.contains("in use") => member.try_restart(),
        outcome => outcome,
    }
}

/// Both drivers, where io_uring may be used.
fn drivers() -> Vec<Program> {
    let auto = Member::start(&Program::Corestone(IoDriver::Auto), &[]);
    let portable = Program::Corestone(IoDriver::Portable);
    if auto.log().contains(r#""io-driver":"uring""#) {
        return vec![Program::Corestone(IoDriver::Uring), portable];
    }
    println!("skipped: io_uring cannot be used here, all of it runs on the portable driver");
    vec![portable]
}

fn endpoint(member: &Member) -> String {
    let (host, port) = member.binary_address();
    format!("{host}:{port}")
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let result = runtime.block_on(work);
    runtime.shutdown_background();
    result
}

const KILLS: usize = 50;
const LIFE_MAX: Duration = Duration::from_millis(120);
const LIFE_HEAVY_MAX: Duration = Duration::from_millis(500);
/// Compactions stay so far behind.
const REVISIONS_KEPT: i64 = 600;
const STARTS: usize = 100;
const FIRST_MOMENTS: Duration = Duration::from_millis(150);
