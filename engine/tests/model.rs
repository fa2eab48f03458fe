//! The engine against a naive store with its whole history, on random commands: answers, events,
//! reads at every live revision, watches from every start, hashes, restarts, slices.

#![allow(clippy::unwrap_used)]

mod common;

use common::naive::{Naive, NaiveEvent, as_kv};
use common::random::Pool;
use common::{Random, Replica};
use engine::api::*;
use engine::engine::{Engine, Step};
use engine::lease::Lease;
use engine::mvcc::budget::WorkBudget;
use engine::mvcc::history::{HistoryProgress, SinkState};
use engine::mvcc::version::Position;
use engine::page::heap::HeapPages;

type Store = Engine<HeapPages>;

const EVERYTHING: RangeRequest<'static> = RangeRequest {
    key: b"\0",
    range_end: b"\0",
    limit: 0,
    revision: 0,
    sort_order: SortOrder::None,
    sort_target: SortTarget::Key,
    serializable: false,
    keys_only: false,
    count_only: false,
    min_mod_revision: 0,
    max_mod_revision: 0,
    min_create_revision: 0,
    max_create_revision: 0,
};

/// A range in slices of so many units.
fn range_in_slices(
    engine: &Store,
    request: &RangeRequest<'_>,
    units: u32,
) -> Result<RangeResponse, Reject> {
    let mut read = engine.range_start(request)?;
    loop {
        let mut budget = WorkBudget::new(units);
        match engine.range_step(&mut read, &mut budget).unwrap()? {
            Step::Done(response) => return Ok(response),
            Step::More => {}
        }
    }
}

fn hash_in_slices(engine: &Store, revision: i64, units: u32) -> u32 {
    let mut read = engine.hash_start(revision).unwrap();
    loop {
        let mut budget = WorkBudget::new(units);
        match engine.hash_step(&mut read, &mut budget).unwrap().unwrap() {
            Step::Done(hash) => return hash.hash,
            Step::More => {}
        }
    }
}

fn expected_events(naive: &Naive, events: &[NaiveEvent]) -> EventList {
    let mut list = EventList::default();
    for event in events {
        let gone = KeyValue { key: &event.key, mod_revision: event.main, ..KeyValue::default() };
        let (event_type, kv) = match &event.kv {
            Some(kv) => (EventType::Put, as_kv(&event.key, kv)),
            None => (EventType::Delete, gone),
        };
        let prev_kv = naive.before(event).map(|kv| as_kv(&event.key, kv));
        list.push(Event { event_type, kv, prev_kv });
    }
    list
}

fn check_watches(engine: &Store, naive: &Naive, random: &mut Random) {
    let lowest = naive.compacted.max(0);
    for start in lowest..=naive.revision + 1 {
        let units = 1 + random.below(20) as u32;
        let mut list = EventList::default();
        let mut from = Position::first_of(start);
        loop {
            let full_at = 1 + random.below(9);
            let mut shown = 0;
            let progress = engine.history(from, i64::MAX, &mut WorkBudget::new(units), &mut |e| {
                list.push(e);
                shown += 1;
                if shown < full_at { SinkState::Ready } else { SinkState::Full }
            });
            match progress.unwrap().unwrap() {
                HistoryProgress::Done => break,
                HistoryProgress::More { next } => {
                    assert!(from < next);
                    from = next;
                }
            }
        }
        let live: Vec<_> = naive.events.iter().filter(|e| start <= e.main).cloned().collect();
        assert_eq!(list, expected_events(naive, &live), "watch from {start}");
    }
    if 0 < naive.compacted {
        let before = Position::first_of(naive.compacted - 1);
        let mut sink = |_: Event<'_>| SinkState::Ready;
        let refused = engine.history(before, i64::MAX, &mut WorkBudget::new(9), &mut sink);
        assert_eq!(refused.unwrap(), Err(Reject::Compacted));
    }
}

fn check_reads(engine: &Store, naive: &Naive, pool: &Pool, random: &mut Random) {
    assert_eq!(engine.revision(), naive.revision);
    assert_eq!(engine.compact_revision(), naive.compacted);
    for revision in naive.compacted.max(1)..=naive.revision {
        let request = RangeRequest { revision, ..EVERYTHING };
        let units = 1 + random.below(30) as u32;
        assert_eq!(range_in_slices(engine, &request, units), naive.range(&request));
        for key in &pool.keys {
            let want = naive.states[revision as usize].get(key).map(|kv| as_kv(key, kv));
            assert_eq!(engine.get(key, revision).unwrap(), Ok(want));
        }
        let counted = RangeRequest { count_only: true, ..request };
        assert_eq!(engine.range(&counted).unwrap(), naive.range(&counted));
    }
    for _ in 0..40 {
        let request = pool.range(random, naive);
        let units = 1 + random.below(12) as u32;
        assert_eq!(range_in_slices(engine, &request, units), naive.range(&request), "{request:?}");
    }
    for revision in [0, naive.revision, naive.compacted, naive.revision - 1] {
        if revision != 0 && (revision < naive.compacted || revision < 1) {
            continue;
        }
        let at = if revision == 0 { naive.revision } else { revision };
        let units = 1 + random.below(30) as u32;
        assert_eq!(hash_in_slices(engine, revision, units), naive.hash(at), "hash at {at}");
    }
}

fn check_leases(engine: &Store, naive: &Naive) {
    let mut leases: Vec<Lease> =
        naive.leases.iter().map(|(id, ttl_s)| Lease { id: *id, ttl_s: *ttl_s }).collect();
    leases.sort_by_key(|lease| lease.id as u64);
    assert_eq!(engine.leases().unwrap(), leases);
    for Lease { id, .. } in leases {
        let mut keys = Vec::new();
        engine.lease_keys(id, &mut |key| keys.push(key.to_vec())).unwrap();
        let want = naive.state().iter().filter(|(_, kv)| kv.lease == id);
        assert_eq!(keys, want.map(|(key, _)| key.clone()).collect::<Vec<_>>());
    }
    let mut alarms = naive.alarms.clone();
    alarms.sort();
    assert_eq!(engine.alarms(), alarms);
}

fn compact_steps(replica: &mut Replica, steps: u64) {
    for _ in 0..steps {
        let Some(mark) = replica.engine.compact_pending() else { break };
        let command = Command::CompactStep { mark_main: mark.main, mark_sub: mark.sub };
        replica.apply(&command);
        let after = replica.engine.compact_pending();
        replica.apply(&command);
        assert_eq!(replica.engine.compact_pending(), after, "a repeated step changes nothing");
    }
}

fn run(seed: u64, commands: u64) -> Replica {
    let mut random = Random::new(seed);
    let pool = Pool::new();
    let mut naive = Naive::new();
    let slices = [1, 3, 17, 1000];
    let mut replica = Replica::new(*random.pick(&slices));
    for step in 0..commands {
        let command = pool.command(&mut random, &naive);
        let published = naive.revision;
        let events_before = naive.events.len();
        let want = naive.apply(&command);
        let outcome = replica.apply_with(&command, |engine| {
            // Between slices reads see the last published revision, by all ways to read.
            assert_eq!(engine.revision(), published);
            let state = &naive.states[published as usize];
            for key in &pool.keys {
                let want = state.get(key).map(|kv| as_kv(key, kv));
                assert_eq!(engine.get(key, 0).unwrap(), Ok(want));
            }
            let all = range_in_slices(engine, &EVERYTHING, 5).unwrap();
            assert_eq!((all.count, all.kvs.len()), (state.len() as i64, state.len()));
            let counted = RangeRequest { count_only: true, ..EVERYTHING };
            assert_eq!(engine.range(&counted).unwrap().unwrap().count, state.len() as i64);
        });
        assert_eq!(outcome.response, want, "seed {seed}, step {step}: {command:?}");
        let fresh = naive.events[events_before..].to_vec();
        assert_eq!(replica.events, expected_events(&naive, &fresh));
        if random.chance(30) {
            let steps = random.below(4);
            compact_steps(&mut replica, steps);
        }
        if random.chance(4) {
            check_reads(&replica.engine, &naive, &pool, &mut random);
            check_watches(&replica.engine, &naive, &mut random);
            replica.engine.verify().unwrap();
        }
        check_leases(&replica.engine, &naive);
        if random.chance(2) {
            let log = replica.log.len();
            replica = replica.restarted(*random.pick(&slices));
            assert_eq!(replica.log.len(), log);
        }
    }
    check_reads(&replica.engine, &naive, &pool, &mut random);
    check_watches(&replica.engine, &naive, &mut random);
    replica
}

#[test]
fn random_commands_match_the_naive_store() {
    for seed in 0..40 {
        run(seed, 200);
    }
}

#[test]
fn slices_and_restarts_leave_the_same_pages() {
    for seed in 100..108 {
        let mut whole = run(seed, 120);
        let log = whole.log.clone();
        let mut sliced = Replica::empty(1);
        for entry in &log {
            sliced.apply_entry(entry, |_| {});
        }
        sliced.log = log;
        let mut reopened = sliced.restarted(7);
        let pages = whole.pages();
        assert!(2 < whole.checkpoints + sliced.checkpoints);
        assert!(pages == sliced.pages(), "seed {seed}: slices changed pages");
        assert!(pages == reopened.pages(), "seed {seed}: a restart changed pages");
    }
}
