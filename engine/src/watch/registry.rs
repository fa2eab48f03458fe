//! All watchers of a keyspace: who is told of a revision when it is published, who has to read
//! history, and how far a stream is complete.
//!
//! Invariants: a synced watcher was delivered every event up to `revision` that it wants; an
//! unsynced one stands in the queue or in a [`CatchUp`](super::catch_up::CatchUp), and nothing is
//! kept for it; the events of one revision are delivered together or not at all.
//! Source: fact sheet of etcd's behaviour, sections 5.2, 5.4, 5.5.

use super::index::Index;
use super::watcher::*;
use crate::api::EventList;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;

/// Why a watcher is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchReject {
    /// The start revision is negative: for etcd it has been compacted.
    NegativeStart,
    /// The range's end is not behind its key.
    EmptyRange,
    /// `WATCHERS_MAX` are there.
    TooMany,
}

impl fmt::Display for WatchReject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            WatchReject::NegativeStart => "the start revision is negative",
            WatchReject::EmptyRange => "the watched range is empty",
            WatchReject::TooMany => "there are too many watchers",
        })
    }
}

/// What is known of the watchers of one owner.
#[derive(Clone, Copy, Debug, Default)]
struct OwnerState {
    watchers: usize,
    unsynced: usize,
    /// Synced, but their start revision is still to come.
    future: usize,
}

#[derive(Clone, Debug, Default)]
struct Slot {
    generation: u32,
    watcher: Option<Watcher>,
}

/// The watchers of a keyspace.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    revision: i64,
    compact_revision: i64,
    slots: Vec<Slot>,
    free: Vec<u32>,
    count: usize,
    index: Index,
    owners: BTreeMap<WatchOwner, OwnerState>,
    /// Watchers whose start revision is still to come.
    future: BTreeSet<(i64, u32)>,
    /// Unsynced watchers in the order in which they get their turn; some left meanwhile.
    queue: VecDeque<WatcherId>,
    unsynced: usize,
    /// Rises whenever somebody else may have to be served from history.
    turns: u64,
    target_slots: Vec<u32>,
    passed_slots: Vec<u32>,
}

impl Registry {
    /// No watchers, in a store at `revision` that is compacted up to `compact_revision`.
    pub fn new(revision: i64, compact_revision: i64) -> Registry {
        assert!(0 <= revision);
        Registry { revision, compact_revision, ..Registry::default() }
    }

    /// The last revision published.
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// The revision below which history is gone.
    pub fn compact_revision(&self) -> i64 {
        self.compact_revision
    }

    /// How many watchers there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// How many watchers are behind.
    pub fn unsynced_count(&self) -> usize {
        self.unsynced
    }

    /// Takes a watcher in. It hears of revisions published from now on; what is older, from its
    /// start revision on, it reads from history. A start below the compact revision is accepted:
    /// its turn to read finds it compacted.
    pub fn add(&mut self, spec: &WatcherSpec<'_>) -> Result<WatcherId, WatchReject> {
        if spec.start_revision < 0 {
            return Err(WatchReject::NegativeStart);
        }
        let is_bounded = !matches!(spec.range_end, [] | [0]);
        if is_bounded && spec.range_end <= spec.key {
            return Err(WatchReject::EmptyRange);
        }
        if WATCHERS_MAX <= self.count {
            return Err(WatchReject::TooMany);
        }
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => {
                self.slots.push(Slot::default());
                self.slots.len() as u32 - 1
            }
        };
        let (target, place) = self.index.add(spec.key, spec.range_end, slot);
        let generation = self.slots[slot as usize].generation;
        self.slots[slot as usize].watcher = Some(Watcher {
            generation,
            owner: spec.owner,
            tag: spec.tag,
            target,
            place,
            start_revision: spec.start_revision,
            filters: spec.filters,
            prev_kv: spec.prev_kv,
            progress_notify: spec.progress_notify,
            state: WatcherState::Synced,
            has_news: false,
        });
        self.count += 1;
        let id = WatcherId { slot, generation };
        let owner = self.owners.entry(spec.owner).or_default();
        owner.watchers += 1;
        if self.revision < spec.start_revision {
            owner.future += 1;
            self.future.insert((spec.start_revision, slot));
        } else if spec.start_revision != 0 {
            self.fall_behind(slot, spec.start_revision);
        }
        Ok(id)
    }

    /// Takes a watcher out; says whether it was there.
    pub fn remove(&mut self, id: WatcherId) -> bool {
        if self.watcher(id).is_none() {
            return false;
        }
        let slot = &mut self.slots[id.slot as usize];
        let watcher = slot.watcher.take().expect("looked up above");
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(id.slot);
        self.count -= 1;
        if let Some(moved) = self.index.remove(watcher.target, watcher.place) {
            let moved = self.slots[moved as usize].watcher.as_mut();
            moved.expect("the index lists watchers that are there").place = watcher.place;
        }
        let owner = self.owners.get_mut(&watcher.owner).expect("every watcher is counted");
        owner.watchers -= 1;
        if self.future.remove(&(watcher.start_revision, id.slot)) {
            owner.future -= 1;
        }
        if watcher.state != WatcherState::Synced {
            owner.unsynced -= 1;
            self.unsynced -= 1;
            self.turns += 1;
        }
        if owner.watchers == 0 {
            self.owners.remove(&watcher.owner);
        }
        self.prune_queue();
        true
    }

    /// Tells a new revision to the synced watchers: `deliver` is called once for each that wants
    /// any of its events. Who is refused reads history from this revision on.
    pub fn publish(
        &mut self,
        revision: i64,
        events: &EventList,
        deliver: &mut dyn FnMut(Delivery<'_>) -> Credit,
    ) {
        self.advance(revision);
        for (slot, event) in events.iter().enumerate() {
            assert!(event.kv.mod_revision == revision);
            self.index.note(event.kv.key, slot as u32);
        }
        let matches = self.index.take_matches();
        let mut slots = std::mem::take(&mut self.target_slots);
        for group in matches.chunk_by(|one, other| one.0 == other.0) {
            slots.clear();
            slots.extend(group.iter().map(|(_, slot)| *slot));
            self.publish_to_target(group[0].0, events, &slots, deliver);
        }
        self.target_slots = slots;
        self.index.put_matches(matches);
    }

    /// As `publish`, when the revision has too many events for a list: who may want some reads
    /// history.
    pub fn publish_unlisted(&mut self, revision: i64) {
        self.advance(revision);
        self.put_behind(revision);
    }

    /// The store was replaced by a newer state: watchers go on from the revision they need next.
    pub fn reset(&mut self, revision: i64, compact_revision: i64) {
        assert!(self.revision <= revision && self.compact_revision <= compact_revision);
        self.turns += 1;
        self.compact_revision = compact_revision;
        let next = self.revision + 1;
        if next <= revision {
            // A watcher whose start lies in what was skipped begins there, not at what came before.
            while let Some((start, slot)) = self.future.first().copied()
                && start <= revision
            {
                self.leave_future(start, slot);
                self.fall_behind(slot, start);
            }
            self.revision = revision;
            self.put_behind(next);
        }
    }

    /// History below `compact_revision` is going.
    pub fn compact(&mut self, compact_revision: i64) {
        assert!(self.compact_revision <= compact_revision);
        self.turns += u64::from(self.compact_revision < compact_revision);
        self.compact_revision = compact_revision;
    }

    /// The revision up to which every watcher of `owner` was delivered all it wants; `None` while
    /// one is behind or its start still to come, and when there is none. To be queued behind what
    /// was delivered before.
    pub fn progress(&self, owner: WatchOwner) -> Option<i64> {
        let state = self.owners.get(&owner)?;
        (state.unsynced == 0 && state.future == 0).then_some(self.revision)
    }

    /// The interval of periodic progress is over: calls `notify` with id, owner, tag and revision
    /// of each watcher that asked for it, is complete, and had no events meanwhile.
    pub fn tick_progress(&mut self, notify: &mut dyn FnMut(WatcherId, WatchOwner, i64, i64)) {
        for (number, slot) in self.slots.iter_mut().enumerate() {
            let Some(watcher) = &mut slot.watcher else { continue };
            let is_complete =
                watcher.state == WatcherState::Synced && watcher.start_revision <= self.revision;
            let had_news = std::mem::take(&mut watcher.has_news);
            let is_periodic = watcher.progress_notify == ProgressNotify::Periodic;
            if is_periodic && is_complete && !had_news {
                let id = WatcherId { slot: number as u32, generation: watcher.generation };
                notify(id, watcher.owner, watcher.tag, self.revision);
            }
        }
    }

    /// A watcher's owner and tag.
    pub fn owner(&self, id: WatcherId) -> Option<(WatchOwner, i64)> {
        self.watcher(id).map(|watcher| (watcher.owner, watcher.tag))
    }

    pub(crate) fn watcher(&self, id: WatcherId) -> Option<&Watcher> {
        let watcher = self.slots.get(id.slot as usize)?.watcher.as_ref()?;
        (watcher.generation == id.generation).then_some(watcher)
    }

    pub(crate) fn range(&self, watcher: &Watcher) -> (&[u8], &[u8]) {
        self.index.range(watcher.target)
    }

    /// The next unsynced watcher in turn, with the revision it needs next.
    pub(crate) fn pop_unsynced(&mut self) -> Option<(WatcherId, i64)> {
        while let Some(id) = self.queue.pop_front() {
            if let Some(watcher) = self.watcher(id)
                && let WatcherState::Unsynced { next } = watcher.state
            {
                return Some((id, next));
            }
        }
        None
    }

    /// Puts it at the end of the queue again.
    pub(crate) fn push_unsynced(&mut self, id: WatcherId) {
        self.queue.push_back(id);
    }

    /// Another number than before: somebody fell behind or left, or history went.
    pub(crate) fn turns(&self) -> u64 {
        self.turns
    }

    pub(crate) fn queue_len(&self) -> usize {
        self.queue.len()
    }

    /// A watcher that caught up to before `next`: synced if that is all there is, else queued.
    pub(crate) fn caught_up(&mut self, id: WatcherId, next: i64, has_news: bool) {
        let revision = self.revision;
        let Some(watcher) = self.slots[id.slot as usize].watcher.as_mut() else { return };
        if watcher.generation != id.generation {
            return;
        }
        watcher.has_news |= has_news;
        assert!(matches!(watcher.state, WatcherState::Unsynced { next: old } if old <= next));
        if revision < next {
            watcher.state = WatcherState::Synced;
            self.unsynced -= 1;
            let owner = self.owners.get_mut(&watcher.owner).expect("every watcher is counted");
            owner.unsynced -= 1;
        } else {
            watcher.state = WatcherState::Unsynced { next };
            self.queue.push_back(id);
        }
    }

    fn publish_to_target(
        &mut self,
        target: u32,
        events: &EventList,
        slots: &[u32],
        deliver: &mut dyn FnMut(Delivery<'_>) -> Credit,
    ) {
        let revision = self.revision;
        let mut passed = std::mem::take(&mut self.passed_slots);
        for place in 0..self.index.watchers(target).len() {
            let number = self.index.watchers(target)[place];
            let watcher = self.slots[number as usize].watcher.as_mut().expect("listed");
            if watcher.state != WatcherState::Synced || revision < watcher.start_revision {
                continue;
            }
            let slots = if watcher.filters.passes_all() {
                slots
            } else {
                passes(watcher.filters, events, slots, &mut passed);
                &passed
            };
            if slots.is_empty() {
                continue;
            }
            let credit = deliver(Delivery {
                watcher: WatcherId { slot: number, generation: watcher.generation },
                owner: watcher.owner,
                tag: watcher.tag,
                prev_kv: watcher.prev_kv,
                revision,
                slots,
            });
            match credit {
                Credit::Taken => watcher.has_news = true,
                Credit::Refused => self.fall_behind(number, revision),
            }
        }
        self.passed_slots = passed;
    }

    fn advance(&mut self, revision: i64) {
        assert!(self.revision < revision);
        self.revision = revision;
        while let Some((start, slot)) = self.future.first().copied()
            && start <= revision
        {
            self.leave_future(start, slot);
        }
    }

    fn leave_future(&mut self, start: i64, slot: u32) {
        assert!(self.future.remove(&(start, slot)));
        let watcher = self.slots[slot as usize].watcher.as_ref().expect("removed with it");
        let owner = self.owners.get_mut(&watcher.owner).expect("every watcher is counted");
        owner.future -= 1;
    }

    /// All synced watchers past their start read history from `next` on.
    fn put_behind(&mut self, next: i64) {
        for number in 0..self.slots.len() {
            if let Some(watcher) = &self.slots[number].watcher
                && watcher.state == WatcherState::Synced
                && watcher.start_revision <= self.revision
            {
                self.fall_behind(number as u32, next);
            }
        }
    }

    /// A synced watcher reads history from `next` on.
    fn fall_behind(&mut self, number: u32, next: i64) {
        let watcher = self.slots[number as usize].watcher.as_mut().expect("the caller has it");
        assert!(watcher.state == WatcherState::Synced);
        watcher.state = WatcherState::Unsynced { next };
        let id = WatcherId { slot: number, generation: watcher.generation };
        self.queue.push_back(id);
        self.turns += 1;
        self.unsynced += 1;
        let owner = self.owners.get_mut(&watcher.owner).expect("every watcher is counted");
        owner.unsynced += 1;
    }

    /// Keeps the queue within a constant of what is in it for good.
    fn prune_queue(&mut self) {
        if self.queue.len() <= 2 * self.unsynced + QUEUE_SLACK {
            return;
        }
        let mut queue = std::mem::take(&mut self.queue);
        queue.retain(|id| self.watcher(*id).is_some());
        self.queue = queue;
    }
}

/// The slots whose events pass the filters.
pub(crate) fn passes(
    filters: WatchFilters,
    events: &EventList,
    slots: &[u32],
    passed: &mut Vec<u32>,
) {
    passed.clear();
    let is_wanted = |slot: &u32| filters.passes(events.event(*slot as usize).event_type);
    passed.extend(slots.iter().copied().filter(is_wanted));
}

/// Watchers of one keyspace.
pub const WATCHERS_MAX: usize = 1 << 20;

/// Ids of watchers that left may lie in the queue, this many beside the double.
const QUEUE_SLACK: usize = 64;
