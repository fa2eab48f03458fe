//! The watch registry against a naive model: whatever clients and the store do, each watcher hears
//! in order, once, of everything it wants, a revision at a time, and progress never runs ahead.
//! Source: fact sheet of etcd's behaviour, sections 5.2 to 5.5 and traps 5, 6 and 22.
#![allow(clippy::unwrap_used, reason = "a test's support code may panic")]

use engine::api::{Event, EventList, EventType, KeyValue, range_contains};
use engine::mvcc::history::{HistoryProgress, SinkState};
use engine::mvcc::version::Position;
use engine::watch::catch_up::{CATCH_UP_REVISIONS_MAX, CatchUp, CatchUpState};
use engine::watch::registry::{Registry, WatchReject};
use engine::watch::watcher::*;
use std::collections::BTreeMap;

/// splitmix64.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }

    fn key(&mut self) -> Vec<u8> {
        let size = 1 + self.below(3);
        (0..size).map(|_| b'a' + self.below(3) as u8).collect()
    }
}

/// An event as the model keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Change {
    revision: i64,
    key: Vec<u8>,
    event_type: EventType,
}

impl Change {
    fn event(&self) -> Event<'_> {
        let kv = KeyValue { key: &self.key, mod_revision: self.revision, ..KeyValue::default() };
        Event { event_type: self.event_type, kv, prev_kv: None }
    }

    fn of(event: Event<'_>) -> Change {
        Change {
            revision: event.kv.mod_revision,
            key: event.kv.key.to_vec(),
            event_type: event.event_type,
        }
    }
}

/// A watcher as its client sees it.
#[derive(Debug)]
struct Client {
    key: Vec<u8>,
    range_end: Vec<u8>,
    filters: WatchFilters,
    owner: WatchOwner,
    first: i64,
    start_revision: i64,
    received: Vec<Change>,
    header: i64,
}

impl Client {
    fn wants(&self, change: &Change) -> bool {
        self.first <= change.revision
            && range_contains(&self.key, &self.range_end, &change.key)
            && self.filters.passes(change.event_type)
    }
}

struct World {
    random: Random,
    registry: Registry,
    catch_up: CatchUp,
    history: Vec<Change>,
    clients: BTreeMap<WatcherId, Client>,
    credit: BTreeMap<WatchOwner, u64>,
    compacted: u64,
    refused: u64,
}

impl World {
    fn new(seed: u64) -> World {
        World {
            random: Random(seed),
            registry: Registry::new(1, 0),
            catch_up: CatchUp::new(),
            history: Vec::new(),
            clients: BTreeMap::new(),
            credit: BTreeMap::new(),
            compacted: 0,
            refused: 0,
        }
    }

    fn owner(&mut self) -> WatchOwner {
        WatchOwner(self.random.below(2), self.random.below(3))
    }

    fn add(&mut self) {
        let (mut key, other) = (self.random.key(), self.random.key());
        let range_end = match self.random.below(4) {
            0 | 1 => Vec::new(),
            2 => vec![0],
            _ => other,
        };
        if 1 < range_end.len() || range_end.first().is_some_and(|byte| *byte != 0) {
            key.truncate(1);
        }
        let current = self.registry.revision();
        let start_revision = match self.random.below(4) {
            0 | 1 => 0,
            2 => 1 + self.random.below(current as u64 + 1) as i64,
            _ => current + self.random.below(20) as i64,
        };
        let kinds = self.random.below(12);
        let filters = WatchFilters { drops_puts: kinds == 0, drops_deletes: kinds < 3 };
        let owner = self.owner();
        let spec = WatcherSpec {
            key: &key,
            range_end: &range_end,
            start_revision,
            filters,
            owner,
            tag: 5,
            ..WatcherSpec::default()
        };
        let id = match self.registry.add(&spec) {
            Ok(id) => id,
            Err(reject) => {
                assert_eq!(reject, WatchReject::EmptyRange);
                assert!(range_end <= key);
                return;
            }
        };
        let first = if start_revision == 0 { current + 1 } else { start_revision };
        let client = Client {
            key,
            range_end,
            filters,
            owner,
            first,
            start_revision,
            received: Vec::new(),
            header: 0,
        };
        assert!(self.clients.insert(id, client).is_none(), "an id is used once");
    }

    fn commit(&mut self) -> (i64, EventList) {
        let revision = self.registry.revision() + 1;
        let mut events = EventList::default();
        for _ in 0..1 + self.random.below(4) {
            let event_type =
                if self.random.below(3) == 0 { EventType::Delete } else { EventType::Put };
            let change = Change { revision, key: self.random.key(), event_type };
            events.push(change.event());
            self.history.push(change);
        }
        (revision, events)
    }

    fn publish(&mut self) {
        let (revision, events) = self.commit();
        if self.random.below(20) == 0 {
            self.registry.publish_unlisted(revision);
            return;
        }
        let World { registry, clients, credit, history, refused, .. } = self;
        registry.publish(revision, &events, &mut |delivery| {
            assert_eq!(delivery.revision, revision);
            take(clients, credit, history, refused, delivery, &events)
        });
    }

    fn reset(&mut self) {
        let old = self.registry.revision();
        let mut revision = old;
        for _ in 0..1 + self.random.below(5) {
            revision += 1;
            let key = self.random.key();
            self.history.push(Change { revision, key, event_type: EventType::Put });
        }
        let compact = self.registry.compact_revision();
        self.registry.reset(revision, compact);
    }

    fn compact(&mut self) {
        let (from, to) = (self.registry.compact_revision(), self.registry.revision());
        self.registry.compact(from + self.random.below((to - from + 1) as u64) as i64);
    }

    /// One step of catching up, with a scan of at most `budget` events.
    fn catch_up(&mut self, budget: usize) -> bool {
        let World { registry, catch_up, clients, credit, compacted, .. } = self;
        if !catch_up.is_active() {
            let begun = catch_up.begin(
                registry,
                &mut |owner| 0 < *credit.entry(owner).or_default(),
                &mut |gone| {
                    let client = clients.remove(&gone.watcher).unwrap();
                    let heard = client.received.last().map_or(0, |change| change.revision + 1);
                    assert!(client.first.max(heard) < gone.compact_revision);
                    assert_eq!((gone.owner, gone.tag), (client.owner, 5));
                    *compacted += 1;
                },
            );
            if !begun {
                return false;
            }
        }
        let (from, to) = (self.catch_up.position(), self.registry.revision());
        if from.main < self.registry.compact_revision() {
            self.catch_up.abort(&mut self.registry);
            return true;
        }
        let progress = self.scan(from, to, budget);
        if self.catch_up.on_scanned(progress, to) == CatchUpState::Ready {
            let World { registry, catch_up, clients, credit, history, refused, .. } = self;
            let current = registry.revision();
            catch_up.deliver(registry, &mut |delivery, events| {
                assert_eq!(delivery.revision, current);
                take(clients, credit, history, refused, delivery, events)
            });
        }
        true
    }

    fn scan(&mut self, from: Position, to: i64, budget: usize) -> HistoryProgress {
        let mut shown = 0;
        let mut sub = 0;
        let mut state = SinkState::Ready;
        let mut main = 0;
        for change in &self.history {
            sub = if change.revision == main { sub + 1 } else { 0 };
            main = change.revision;
            let at = Position { main, sub };
            if at < from || to < main {
                continue;
            }
            if 0 < shown && (shown == budget || state == SinkState::Full) {
                return HistoryProgress::More { next: at };
            }
            state = self.catch_up.push(change.event());
            shown += 1;
        }
        HistoryProgress::Done
    }

    fn check_progress(&mut self) {
        let owner = self.owner();
        let mut watchers = self.clients.values().filter(|client| client.owner == owner).peekable();
        let Some(revision) = self.registry.progress(owner) else { return };
        assert!(watchers.peek().is_some(), "without watchers there is no progress");
        assert_eq!(revision, self.registry.revision());
        for client in watchers {
            assert!(client.start_revision <= revision);
            assert_eq!(client.received, self.wanted(client), "progress ran ahead");
        }
    }

    fn wanted(&self, client: &Client) -> Vec<Change> {
        self.history.iter().filter(|change| client.wants(change)).cloned().collect()
    }

    /// Every watcher has heard of a prefix of what it wants, up to a revision's end.
    fn check_prefixes(&self) {
        for client in self.clients.values() {
            let wanted = self.wanted(client);
            let heard = client.received.len();
            assert_eq!(client.received[..], wanted[..heard]);
            if 0 < heard && heard < wanted.len() {
                assert!(wanted[heard - 1].revision < wanted[heard].revision, "a revision is split");
            }
        }
    }
}

fn take(
    clients: &mut BTreeMap<WatcherId, Client>,
    credit: &mut BTreeMap<WatchOwner, u64>,
    history: &[Change],
    refused: &mut u64,
    delivery: Delivery<'_>,
    events: &EventList,
) -> Credit {
    let client = clients.get_mut(&delivery.watcher).unwrap();
    assert_eq!((delivery.owner, delivery.tag), (client.owner, 5));
    assert!(!delivery.slots.is_empty(), "an answer without events is not sent");
    let credit = credit.entry(client.owner).or_default();
    if *credit == 0 {
        *refused += 1;
        return Credit::Refused;
    }
    *credit -= 1;
    assert!(client.header <= delivery.revision, "a header's revision went back");
    client.header = delivery.revision;
    for slot in delivery.slots {
        client.received.push(Change::of(events.event(*slot as usize)));
    }
    let last = client.received.last().unwrap().revision;
    let is_whole = |change: &&Change| change.revision == last && client.wants(change);
    let expected = history.iter().filter(is_whole).count();
    let found = client.received.iter().filter(|change| change.revision == last).count();
    assert_eq!(found, expected, "the last revision of an answer is whole");
    Credit::Taken
}

#[test]
fn every_watcher_hears_in_order_once_and_of_everything() {
    let (mut compacted, mut refused, mut complete) = (0, 0, 0);
    for seed in 0..400 {
        let mut world = World::new(seed);
        for _ in 0..200 {
            match world.random.below(20) {
                0..=2 => world.add(),
                3 => {
                    let ids: Vec<WatcherId> = world.clients.keys().copied().collect();
                    if !ids.is_empty() {
                        let id = ids[world.random.below(ids.len() as u64) as usize];
                        assert!(world.registry.remove(id));
                        assert!(!world.registry.remove(id));
                        world.clients.remove(&id);
                    }
                }
                4..=9 => world.publish(),
                10..=13 => {
                    let owner = world.owner();
                    let credit = world.random.below(8);
                    let before = world.credit.entry(owner).or_default();
                    if *before == 0 && 0 < credit {
                        world.catch_up.on_credit();
                    }
                    *before += credit;
                }
                14..=17 => {
                    let budget = 1 + world.random.below(12) as usize;
                    world.catch_up(budget);
                }
                18 => world.check_progress(),
                _ if world.random.below(4) == 0 => world.reset(),
                _ if world.random.below(4) == 0 => world.compact(),
                _ => world.check_prefixes(),
            }
        }
        world.check_prefixes();
        for owner in (0..6).map(|number| WatchOwner(number / 3, number % 3)) {
            world.credit.insert(owner, u64::MAX);
        }
        world.catch_up.on_credit();
        while world.catch_up(40) {}
        assert_eq!(world.registry.unsynced_count(), 0);
        assert_eq!(world.registry.len(), world.clients.len());
        for client in world.clients.values() {
            assert_eq!(client.received, world.wanted(client));
            complete += 1;
        }
        compacted += world.compacted;
        refused += world.refused;
    }
    assert!(
        50 < compacted && 1000 < refused && 2000 < complete,
        "{compacted} {refused} {complete}"
    );
}

fn list(revision: i64, keys: &[&str]) -> EventList {
    let mut events = EventList::default();
    for key in keys {
        let key = key.as_bytes().to_vec();
        events.push(Change { revision, key, event_type: EventType::Put }.event());
    }
    events
}

const OWNER: WatchOwner = WatchOwner(1, 1);

fn prefix_spec() -> WatcherSpec<'static> {
    WatcherSpec { key: b"a", range_end: b"b", owner: OWNER, ..WatcherSpec::default() }
}

#[test]
fn a_future_start_is_silent_until_reached() {
    let mut registry = Registry::new(10, 0);
    let id = registry.add(&WatcherSpec { start_revision: 12, ..prefix_spec() }).unwrap();
    let mut heard = Vec::new();
    for revision in 11..=13 {
        assert_eq!(registry.progress(OWNER), if revision < 13 { None } else { Some(12) });
        registry.publish(revision, &list(revision, &["a", "b"]), &mut |delivery| {
            assert_eq!((delivery.watcher, delivery.slots), (id, &[0][..]));
            heard.push(delivery.revision);
            Credit::Taken
        });
    }
    assert_eq!(heard, [12, 13]);
}

#[test]
fn a_future_start_stays_silent_over_a_snapshot() {
    let mut registry = Registry::new(10, 0);
    registry.add(&WatcherSpec { start_revision: 15, ..prefix_spec() }).unwrap();
    registry.reset(12, 11);
    assert_eq!(registry.unsynced_count(), 0);
    assert_eq!(registry.progress(OWNER), None);
    registry.reset(17, 11);
    assert_eq!(registry.unsynced_count(), 1, "it reads 15 to 17 from history");
}

#[test]
fn the_compact_revision_itself_can_be_watched() {
    let mut registry = Registry::new(10, 6);
    let exact = registry.add(&WatcherSpec { start_revision: 6, ..prefix_spec() }).unwrap();
    let below = registry.add(&WatcherSpec { start_revision: 5, ..prefix_spec() }).unwrap();
    let mut catch_up = CatchUp::new();
    let mut gone = Vec::new();
    let begun = catch_up.begin(&mut registry, &mut |_| true, &mut |compacted| {
        assert_eq!(compacted.compact_revision, 6);
        gone.push(compacted.watcher);
    });
    assert!(begun);
    assert_eq!(gone, [below]);
    assert_eq!(catch_up.position(), Position::first_of(6));
    assert!(registry.owner(exact).is_some() && registry.owner(below).is_none());
}

#[test]
fn bad_watchers_are_refused() {
    let mut registry = Registry::new(1, 0);
    let negative = WatcherSpec { start_revision: -1, ..prefix_spec() };
    assert_eq!(registry.add(&negative), Err(WatchReject::NegativeStart));
    let empty = WatcherSpec { range_end: b"a", ..prefix_spec() };
    assert_eq!(registry.add(&empty), Err(WatchReject::EmptyRange));
    let open = WatcherSpec { range_end: b"\0", ..prefix_spec() };
    assert!(registry.add(&open).is_ok());
}

#[test]
fn one_answer_holds_a_thousand_revisions() {
    let mut registry = Registry::new(5000, 0);
    registry.add(&WatcherSpec { start_revision: 1, ..prefix_spec() }).unwrap();
    let mut catch_up = CatchUp::new();
    let mut answers = Vec::new();
    while catch_up.begin(&mut registry, &mut |_| true, &mut |_| panic!("nothing is compacted")) {
        let from = catch_up.position().main;
        let mut progress = HistoryProgress::Done;
        for revision in from..=5000 {
            let events = list(revision, &["ab"]);
            if catch_up.push(events.event(0)) == SinkState::Full {
                progress = HistoryProgress::More { next: Position::first_of(revision + 1) };
                break;
            }
        }
        assert_eq!(catch_up.on_scanned(progress, 5000), CatchUpState::Ready);
        catch_up.deliver(&mut registry, &mut |delivery, _| {
            assert_eq!(delivery.revision, 5000);
            answers.push(delivery.slots.len());
            Credit::Taken
        });
    }
    assert_eq!(answers, [CATCH_UP_REVISIONS_MAX; 5]);
    assert_eq!(registry.progress(OWNER), Some(5000));
}

#[test]
fn periodic_progress_skips_who_had_events_or_is_behind() {
    let mut registry = Registry::new(10, 0);
    let spec = WatcherSpec { progress_notify: ProgressNotify::Periodic, ..prefix_spec() };
    let busy = registry.add(&spec).unwrap();
    let idle = registry.add(&WatcherSpec { key: b"c", range_end: b"", ..spec }).unwrap();
    registry.add(&WatcherSpec { start_revision: 3, ..spec }).unwrap();
    registry.add(&WatcherSpec { start_revision: 30, ..spec }).unwrap();
    registry.add(&prefix_spec()).unwrap();
    registry.publish(11, &list(11, &["a"]), &mut |_| Credit::Taken);
    let mut ticks = Vec::new();
    registry.tick_progress(&mut |id, owner, _, revision| {
        assert_eq!((owner, revision), (OWNER, 11));
        ticks.push(id);
    });
    assert_eq!(ticks, [idle]);
    ticks.clear();
    registry.tick_progress(&mut |id, _, _, _| ticks.push(id));
    assert_eq!(ticks, [busy, idle]);
}

#[test]
fn a_watcher_without_credit_costs_no_memory_and_no_event() {
    let mut registry = Registry::new(1, 0);
    registry.add(&prefix_spec()).unwrap();
    for revision in 2..100 {
        let mut asked = 0;
        registry.publish(revision, &list(revision, &["a"]), &mut |_| {
            asked += 1;
            Credit::Refused
        });
        assert_eq!(asked, usize::from(revision == 2), "it is asked once, then it is behind");
    }
    assert_eq!(registry.unsynced_count(), 1);
    let mut catch_up = CatchUp::new();
    assert!(!catch_up.begin(&mut registry, &mut |_| false, &mut |_| panic!("not compacted")));
    catch_up.on_credit();
    assert!(catch_up.begin(&mut registry, &mut |_| true, &mut |_| panic!("not compacted")));
    assert_eq!(catch_up.position(), Position::first_of(2));
}

/// Looks for somebody to serve until there is nobody; says how often credit was asked for.
fn looks(catch_up: &mut CatchUp, registry: &mut Registry, rich: Option<u64>) -> (usize, bool) {
    let mut asked = 0;
    while catch_up.may_find(registry) {
        let mut has_credit = |owner: WatchOwner| {
            asked += 1;
            Some(owner.1) == rich
        };
        if catch_up.begin(registry, &mut has_credit, &mut |_| panic!("not compacted")) {
            catch_up.abort(registry);
            return (asked, true);
        }
    }
    (asked, false)
}

#[test]
fn watchers_without_credit_are_looked_at_once_and_not_in_every_step() {
    const COUNT: usize = 10_000;
    let (mut registry, mut catch_up) = (Registry::new(1, 0), CatchUp::new());
    let add = |registry: &mut Registry, number: u64| {
        let owner = WatchOwner(0, number);
        registry.add(&WatcherSpec { owner, start_revision: 1, ..prefix_spec() }).unwrap()
    };
    let poor: Vec<_> = (0..COUNT as u64).map(|number| add(&mut registry, number)).collect();
    assert_eq!(looks(&mut catch_up, &mut registry, None), (COUNT, false));
    for revision in 2..100 {
        registry.publish(revision, &list(revision, &["a"]), &mut |_| panic!("all are behind"));
        assert_eq!(looks(&mut catch_up, &mut registry, None), (0, false));
    }
    // The last of them has credit now: it is found, behind all the others.
    catch_up.on_credit();
    assert!(looks(&mut catch_up, &mut registry, Some(COUNT as u64 - 1)).1);
    assert_eq!(looks(&mut catch_up, &mut registry, None), (COUNT, false));
    // So is one that comes anew, and one behind those that left.
    add(&mut registry, 77_777);
    assert!(looks(&mut catch_up, &mut registry, Some(77_777)).1);
    for id in &poor[..9_000] {
        assert!(registry.remove(*id));
    }
    assert!(looks(&mut catch_up, &mut registry, Some(9_500)).1);
}
