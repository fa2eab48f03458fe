//! Watch streams and what they are owed.
//!
//! Invariants: a stream is sent no more bytes of events than it gave credit for (the last delivery
//! may overdraw it); a watch without credit is unsynced, nothing is kept for it; what a stream hears
//! is in one queue, so progress stands behind the events it covers. Which events go to whom is the
//! registry's affair. Source: runtime.md, Cores 3; fact sheet of semantics, section 5.

use std::collections::{BTreeMap, BTreeSet};

use engine::api::EventList;
use engine::mvcc::budget::WorkBudget;
use engine::page::map::{Corruption, PageMap};
use engine::watch::catch_up::{CatchUp, CatchUpState};
use engine::watch::registry::{Registry, WatchReject};
use engine::watch::watcher::{
    Credit, Delivery, PrevKv, ProgressNotify, WatchFilters, WatchOwner, WatcherId, WatcherSpec,
};

use super::damage::page_repair::Need;
use super::{Outbox, Replica};
use crate::effect::{Effect, Effects, LogLevel};
use crate::input::CoreId;
use crate::limits::WATCH_CREDIT_BYTES;
use crate::message::{
    Message, Origin, WatchBatch, WatchCreate, WatchDelivery, WatchNotice, WatchNoticeKind,
};
use crate::metrics::{Metrics, Scalar};

/// Units of engine work that catching up gets in a step.
const CATCH_UP_WORK_UNITS: u32 = 1_000;
/// A scan that met a broken page is tried again after this long, while the page is mended.
const CATCH_UP_RETRY_US: u64 = 50_000;
/// And where it cannot be.
const CATCH_UP_BROKEN_US: u64 = 10_000_000;
/// What an event takes of the credit besides its bytes.
const EVENT_OVERHEAD_BYTES: usize = 64;

/// All watches of the group on this member.
#[derive(Debug)]
pub(super) struct Watches {
    registry: Registry,
    catch_up: CatchUp,
    streams: BTreeMap<WatchOwner, Stream>,
    /// Streams that want to hear as soon as they are complete.
    waiting: BTreeSet<WatchOwner>,
    progress_interval_us: u64,
    next_progress_us: u64,
    /// A scan that met a broken page is not tried again before.
    catch_up_at_us: u64,
}

/// One client stream.
#[derive(Debug)]
struct Stream {
    origin: Origin,
    watches: BTreeMap<i64, Watch>,
    next_watch_id: i64,
    credit_bytes: i64,
}

#[derive(Clone, Copy, Debug)]
struct Watch {
    watcher: WatcherId,
    fragment: bool,
}

impl Watches {
    pub fn new(progress_interval_us: u64, now_us: u64) -> Watches {
        assert!(0 < progress_interval_us);
        Watches {
            registry: Registry::default(),
            catch_up: CatchUp::new(),
            streams: BTreeMap::new(),
            waiting: BTreeSet::new(),
            progress_interval_us,
            next_progress_us: now_us + progress_interval_us,
            catch_up_at_us: 0,
        }
    }

    /// Whether nobody watches.
    pub fn is_empty(&self) -> bool {
        self.registry.is_empty()
    }

    /// A stream took bytes.
    pub fn on_credit(&mut self, origin: Origin, size_bytes: usize) {
        if let Some(stream) = self.streams.get_mut(&owner_of(origin)) {
            let had_credit = 0 < stream.credit_bytes;
            stream.credit_bytes += size_bytes as i64;
            if !had_credit && 0 < stream.credit_bytes {
                self.catch_up.on_credit();
            }
            assert!(stream.credit_bytes <= WATCH_CREDIT_BYTES as i64);
        }
    }

    /// A stream is gone.
    pub fn on_stream_closed(&mut self, origin: Origin) {
        self.waiting.remove(&owner_of(origin));
        let Some(stream) = self.streams.remove(&owner_of(origin)) else { return };
        for watch in stream.watches.values() {
            self.registry.remove(watch.watcher);
        }
    }

    /// When periodic progress is due next.
    pub fn next_wake_us(&self) -> Option<u64> {
        (!self.registry.is_empty()).then_some(self.next_progress_us)
    }
}

/// A stream's name in the registry; connection numbers stay far below 2^48.
fn owner_of(origin: Origin) -> WatchOwner {
    assert!(origin.connection.0 < 1 << 48);
    WatchOwner(u64::from(origin.core.0) << 48 | origin.connection.0, origin.stream)
}

impl<M: PageMap> Replica<M> {
    pub(super) fn on_watch_create(&mut self, origin: Origin, create: WatchCreate) {
        let owner = owner_of(origin);
        let stream = self.watches.streams.entry(owner).or_insert_with(|| Stream {
            origin,
            watches: BTreeMap::new(),
            next_watch_id: 0,
            credit_bytes: WATCH_CREDIT_BYTES as i64,
        });
        let watch_id = if create.watch_id == 0 {
            while stream.watches.contains_key(&stream.next_watch_id) {
                stream.next_watch_id += 1;
            }
            stream.next_watch_id
        } else {
            create.watch_id
        };
        if stream.watches.contains_key(&watch_id) {
            return self.notify(origin, -1, WatchNoticeKind::RefusedDuplicateId);
        }
        let spec = WatcherSpec {
            key: &create.key,
            range_end: &create.range_end,
            start_revision: create.start_revision,
            filters: WatchFilters { drops_puts: create.no_put, drops_deletes: create.no_delete },
            prev_kv: if create.prev_kv { PrevKv::Include } else { PrevKv::Omit },
            progress_notify: match create.progress_notify {
                true => ProgressNotify::Periodic,
                false => ProgressNotify::OnRequest,
            },
            owner,
            tag: watch_id,
        };
        match self.watches.registry.add(&spec) {
            Ok(watcher) => {
                if create.watch_id == 0 {
                    stream.next_watch_id += 1;
                }
                stream.watches.insert(watch_id, Watch { watcher, fragment: create.fragment });
                self.notify(origin, watch_id, WatchNoticeKind::Created);
            }
            Err(reject) => self.notify(
                origin,
                -1,
                match reject {
                    WatchReject::NegativeStart => WatchNoticeKind::RefusedNegativeStart,
                    WatchReject::EmptyRange => WatchNoticeKind::RefusedEmptyRange,
                    WatchReject::TooMany => WatchNoticeKind::RefusedTooMany,
                },
            ),
        }
    }

    /// Unknown ids are passed over, as in etcd.
    pub(super) fn on_watch_cancel(&mut self, origin: Origin, watch_id: i64) {
        let Some(stream) = self.watches.streams.get_mut(&owner_of(origin)) else { return };
        let Some(watch) = stream.watches.remove(&watch_id) else { return };
        self.watches.registry.remove(watch.watcher);
        self.notify(origin, watch_id, WatchNoticeKind::Canceled);
    }

    /// A stream asks how far it is: answered when all its watches are complete; if they are not,
    /// `waits` says whether it is told later or has to ask again.
    pub(super) fn on_watch_progress(&mut self, origin: Origin, waits: bool) {
        let owner = owner_of(origin);
        if self.watches.registry.progress(owner).is_some() {
            self.notify(origin, -1, WatchNoticeKind::Progress);
        } else if waits {
            self.watches.waiting.insert(owner);
        }
    }

    pub(super) fn notify(&mut self, origin: Origin, watch_id: i64, kind: WatchNoticeKind) {
        let raft_term = self.raft.soft_state().term.0;
        let revision = self.watches.registry.revision();
        let notice = WatchNotice { origin, watch_id, raft_term, revision, kind };
        self.outbox.messages.push((origin.core, Message::Watch(notice)));
    }

    /// The compact revision; before the first compaction nothing is gone.
    fn compacted_to(&self) -> i64 {
        self.engine.compact_revision().max(0)
    }

    /// The state was opened at this revision.
    pub(super) fn reset_watches(&mut self) {
        let (revision, compact_revision) = (self.engine.revision(), self.compacted_to());
        self.watches.catch_up.abort(&mut self.watches.registry);
        self.watches.registry.reset(revision, compact_revision);
    }

    /// An entry was applied. Its events are in `events` if they were listed.
    pub(super) fn publish_events(&mut self, events: &mut EventList, are_listed: bool) {
        let compacted_to = self.compacted_to();
        let watches = &mut self.watches;
        watches.registry.compact(compacted_to);
        let revision = self.engine.revision();
        if revision <= watches.registry.revision() {
            return assert!(events.is_empty(), "events belong to a revision of their own");
        }
        if !are_listed {
            return watches.registry.publish_unlisted(revision);
        }
        let mut batches = Batches::new(self.raft.soft_state().term.0, revision);
        let streams = &mut watches.streams;
        watches
            .registry
            .publish(revision, events, &mut |delivery| batches.deliver(streams, &delivery, events));
        batches.send(events, &mut self.outbox);
    }

    /// Periodic progress, and history for watches that are behind.
    pub(super) fn run_watches(&mut self, metrics: &mut Metrics, fx: &mut Effects) {
        metrics.set(Scalar::Watchers, self.watches.registry.len() as u64);
        metrics.set(Scalar::SlowWatchers, self.watches.registry.unsynced_count() as u64);
        if self.watches.is_empty() {
            return;
        }
        let mut budget = WorkBudget::new(CATCH_UP_WORK_UNITS);
        while self.watches.catch_up_at_us <= self.now_us && self.catch_up(&mut budget, fx) {
            if budget.is_spent() {
                self.needs_step = true;
                break;
            }
        }
        self.tell_waiting();
        if self.watches.next_progress_us <= self.now_us {
            self.watches.next_progress_us = self.now_us + self.watches.progress_interval_us;
            self.tell_periodic();
        }
    }

    /// One slice of a scan. False when there is nobody to serve.
    fn catch_up(&mut self, budget: &mut WorkBudget, fx: &mut Effects) -> bool {
        if !self.watches.catch_up.is_active() && !self.begin_catch_up() {
            // Those that were looked at have no credit; there may be others behind them.
            self.needs_step |= self.watches.catch_up.may_find(&self.watches.registry);
            return false;
        }
        let compacted_to = self.compacted_to();
        let watches = &mut self.watches;
        let (from, to) = (watches.catch_up.position(), watches.registry.revision());
        let catch_up = &mut watches.catch_up;
        let scanned = self.engine.history(from, to, budget, &mut |event| catch_up.push(event));
        let progress = match scanned {
            Ok(Ok(progress)) => progress,
            // Compaction overtook the scan, or a page is broken: the next turn finds out who is
            // concerned.
            Ok(Err(_)) => {
                watches.registry.compact(compacted_to);
                watches.catch_up.abort(&mut watches.registry);
                return true;
            }
            Err(corruption) => {
                self.on_broken_history(&corruption, fx);
                return false;
            }
        };
        if watches.catch_up.on_scanned(progress, to) == CatchUpState::Scanning {
            return true;
        }
        let mut batches = Batches::new(self.raft.soft_state().term.0, watches.registry.revision());
        let streams = &mut watches.streams;
        watches.catch_up.deliver(&mut watches.registry, &mut |delivery, events| {
            batches.deliver(streams, &delivery, events)
        });
        let mut events = watches.catch_up.events().clone();
        batches.send(&mut events, &mut self.outbox);
        true
    }

    /// Who was being served is behind again, and is served when the page is mended: soon, or
    /// perhaps never, which is said.
    fn on_broken_history(&mut self, corruption: &Corruption, fx: &mut Effects) {
        let is_mended = self.on_broken_page(corruption, Need::Read);
        let watches = &mut self.watches;
        watches.catch_up.abort(&mut watches.registry);
        let wait_us = if is_mended { CATCH_UP_RETRY_US } else { CATCH_UP_BROKEN_US };
        watches.catch_up_at_us = self.now_us + wait_us;
        fx.wake_at(watches.catch_up_at_us);
        if !is_mended {
            let fields = vec![("error", format!("\"{corruption}\""))];
            let message = "watches that are behind are not served".to_string();
            fx.push(Effect::Log { level: LogLevel::Warn, message, fields });
        }
    }

    fn begin_catch_up(&mut self) -> bool {
        let watches = &mut self.watches;
        let mut compacted = Vec::new();
        let streams = &watches.streams;
        let begun = watches.catch_up.begin(
            &mut watches.registry,
            &mut |owner| streams.get(&owner).is_some_and(|stream| 0 < stream.credit_bytes),
            &mut |watcher| compacted.push(watcher),
        );
        for gone in compacted {
            let stream = self.watches.streams.get_mut(&gone.owner).expect("it has watches");
            stream.watches.remove(&gone.tag);
            let origin = stream.origin;
            let compact_revision = gone.compact_revision;
            self.notify(origin, gone.tag, WatchNoticeKind::Compacted { compact_revision });
        }
        begun
    }

    fn tell_waiting(&mut self) {
        for owner in std::mem::take(&mut self.watches.waiting) {
            let Some(stream) = self.watches.streams.get(&owner) else { continue };
            let origin = stream.origin;
            self.on_watch_progress(origin, true);
        }
    }

    fn tell_periodic(&mut self) {
        let mut due = Vec::new();
        self.watches.registry.tick_progress(&mut |_, owner, tag, _| due.push((owner, tag)));
        for (owner, tag) in due {
            let origin = self.watches.streams[&owner].origin;
            self.notify(origin, tag, WatchNoticeKind::Progress);
        }
    }
}

/// Deliveries of one list of events, by core.
struct Batches {
    raft_term: u64,
    header_revision: i64,
    /// Ascending.
    by_core: Vec<(CoreId, WatchBatch)>,
}

impl Batches {
    fn new(raft_term: u64, header_revision: i64) -> Batches {
        Batches { raft_term, header_revision, by_core: Vec::new() }
    }

    /// The batch of a core.
    fn batch(&mut self, core: CoreId) -> &mut WatchBatch {
        let place = self.by_core.binary_search_by_key(&core, |(core, _)| *core);
        let slot = place.unwrap_or_else(|slot| {
            let (raft_term, header_revision) = (self.raft_term, self.header_revision);
            let batch = WatchBatch { raft_term, header_revision, ..WatchBatch::default() };
            self.by_core.insert(slot, (core, batch));
            slot
        });
        &mut self.by_core[slot].1
    }

    fn deliver(
        &mut self,
        streams: &mut BTreeMap<WatchOwner, Stream>,
        delivery: &Delivery<'_>,
        events: &EventList,
    ) -> Credit {
        let stream = streams.get_mut(&delivery.owner).expect("a watcher's stream is there");
        if stream.credit_bytes <= 0 {
            return Credit::Refused;
        }
        let size_of = |slot: &u32| {
            let event = events.event(*slot as usize);
            let prev_kv = event.prev_kv.filter(|_| delivery.prev_kv == PrevKv::Include);
            let prev_bytes = prev_kv.map_or(0, |kv| kv.key.len() + kv.value.len());
            event.kv.key.len() + event.kv.value.len() + prev_bytes + EVENT_OVERHEAD_BYTES
        };
        let size_bytes: usize = delivery.slots.iter().map(size_of).sum();
        stream.credit_bytes -= size_bytes as i64;
        let watch = stream.watches[&delivery.tag];
        let batch = self.batch(stream.origin.core);
        batch.deliveries.push(WatchDelivery {
            origin: stream.origin,
            watch_id: delivery.tag,
            slots_start: batch.slots.len() as u32,
            slots_count: delivery.slots.len() as u32,
            size_bytes,
            prev_kv: delivery.prev_kv == PrevKv::Include,
            fragment: watch.fragment,
        });
        batch.slots.extend_from_slice(delivery.slots);
        Credit::Taken
    }

    /// The last core takes the list itself.
    fn send(self, events: &mut EventList, outbox: &mut Outbox) {
        let mut left = self.by_core.len();
        for (core, mut batch) in self.by_core {
            left -= 1;
            batch.events = if left == 0 { std::mem::take(events) } else { events.clone() };
            outbox.messages.push((core, Message::Events(batch)));
        }
    }
}
