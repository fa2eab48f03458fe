//! Reading history for watchers that are behind: many of them in one scan.
//!
//! Contract with the caller, who owns the scan and its budget: `begin`, then scan from
//! `position()` up to the store's revision, `push` every event, tell `on_scanned` how far it came,
//! as often as it says `Scanning`; then `deliver`. A scan may stretch over several steps, while new
//! revisions are published; `abort` ends it without loss, at any time.
//! Invariants: only whole revisions are delivered; a watcher's next revision moves only past what
//! was taken; the queue is served in turn.
//! Source: fact sheet of etcd's behaviour, section 5.4.

use super::index::Index;
use super::registry::{Registry, passes};
use super::watcher::*;
use crate::api::{Event, EventList, EventListMark};
use crate::mvcc::history::{HistoryProgress, SinkState};
use crate::mvcc::version::Position;

/// A watcher that takes part in a scan.
#[derive(Clone, Copy, Debug)]
struct Selected {
    id: WatcherId,
    next: i64,
    filters: WatchFilters,
    /// Whether `deliver` came by it already.
    is_served: bool,
}

/// One scan of history for some watchers; reused for the next one.
#[derive(Clone, Debug, Default)]
pub struct CatchUp {
    selected: Vec<Selected>,
    index: Index,
    events: EventList,
    /// First revision of the scan.
    first: i64,
    position: Position,
    /// The revision of the last event seen, and where its events begin in the list.
    last: i64,
    last_mark: EventListMark,
    last_slot: u32,
    /// Revisions with events in the list.
    revisions: usize,
    /// Full: events of this revision and later were not taken.
    stopped_at: Option<i64>,
    /// Every event up to here is in the list, once the scan is over.
    complete: i64,
    slots: Vec<u32>,
    passed: Vec<u32>,
    /// Watchers in the queue that were looked at in vain, one after the other, since the registry
    /// had this number of turns.
    in_vain: usize,
    turns: u64,
}

/// A watcher that asks for history that is gone; the registry has let it go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct CompactedWatcher {
    pub watcher: WatcherId,
    pub owner: WatchOwner,
    pub tag: i64,
    /// The smallest revision that can still be watched.
    pub compact_revision: i64,
}

/// Whether a scan has enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CatchUpState {
    /// Not one whole revision yet: go on from `position()`.
    Scanning,
    /// To be delivered.
    Ready,
}

impl CatchUp {
    /// A scan that is not begun.
    pub fn new() -> CatchUp {
        CatchUp::default()
    }

    /// Whether a scan is under way.
    pub fn is_active(&self) -> bool {
        !self.selected.is_empty()
    }

    /// Whether looking at the queue may find somebody to serve. Once all of it was looked at in vain
    /// that is so only after somebody fell behind, history went, or credit came.
    pub fn may_find(&self, registry: &Registry) -> bool {
        self.turns != registry.turns() || self.in_vain < registry.queue_len()
    }

    /// An owner has credit that had none.
    pub fn on_credit(&mut self) {
        self.in_vain = 0;
    }

    /// Chooses who is served: the first in the queue that has credit, and those near to it. Says
    /// whether there is anything to scan; if not, [`CatchUp::may_find`] says whether to go on looking.
    /// Who needs history that is gone is let go.
    pub fn begin(
        &mut self,
        registry: &mut Registry,
        has_credit: &mut dyn FnMut(WatchOwner) -> bool,
        on_compacted: &mut dyn FnMut(CompactedWatcher),
    ) -> bool {
        assert!(!self.is_active());
        if !self.may_find(registry) {
            return false;
        }
        if self.turns != registry.turns() {
            (self.turns, self.in_vain) = (registry.turns(), 0);
        }
        self.index.clear();
        self.events.clear();
        let mut anchor = None;
        // Those looked at in vain stand at the queue's end.
        let unexamined = registry.queue_len() - self.in_vain;
        for _ in 0..unexamined.min(CATCH_UP_EXAMINED_MAX) {
            let Some((id, next)) = registry.pop_unsynced() else { break };
            let watcher = registry.watcher(id).expect("popped just now");
            if next < registry.compact_revision() {
                let compact_revision = registry.compact_revision();
                let (owner, tag) = (watcher.owner, watcher.tag);
                on_compacted(CompactedWatcher { watcher: id, owner, tag, compact_revision });
                registry.remove(id);
                continue;
            }
            let anchor_next = *anchor.get_or_insert(next);
            let is_near = next.abs_diff(anchor_next) <= CATCH_UP_REVISIONS_MAX as u64;
            let is_full = CATCH_UP_WATCHERS_MAX <= self.selected.len();
            if !is_near || is_full || !has_credit(watcher.owner) {
                if self.selected.is_empty() {
                    anchor = None;
                }
                self.in_vain += 1;
                registry.push_unsynced(id);
                continue;
            }
            let (key, range_end) = registry.range(watcher);
            self.index.add(key, range_end, self.selected.len() as u32);
            let filters = watcher.filters;
            self.selected.push(Selected { id, next, filters, is_served: false });
        }
        let Some(first) = self.selected.iter().map(|selected| selected.next).min() else {
            return false;
        };
        self.in_vain = 0;
        self.first = first;
        self.position = Position::first_of(first);
        self.last = 0;
        self.last_mark = self.events.mark();
        self.last_slot = 0;
        self.revisions = 0;
        self.stopped_at = None;
        self.complete = first - 1;
        true
    }

    /// Where the scan goes on.
    pub fn position(&self) -> Position {
        self.position
    }

    /// Takes an event, in the order of history.
    pub fn push(&mut self, event: Event<'_>) -> SinkState {
        assert!(self.is_active() && self.stopped_at.is_none());
        let revision = event.kv.mod_revision;
        assert!(self.last <= revision && self.first <= revision);
        if self.last < revision {
            if CATCH_UP_REVISIONS_MAX <= self.revisions
                || CATCH_UP_SIZE_BYTES_MAX <= self.events.size_bytes()
            {
                self.stopped_at = Some(revision);
                return SinkState::Full;
            }
            self.last = revision;
            self.last_mark = self.events.mark();
            self.last_slot = self.events.len() as u32;
        }
        if self.index.note(event.kv.key, self.events.len() as u32) {
            self.revisions += usize::from(self.events.len() as u32 == self.last_slot);
            self.events.push(event);
        }
        SinkState::Ready
    }

    /// The scan up to revision `to` came this far.
    pub fn on_scanned(&mut self, progress: HistoryProgress, to: i64) -> CatchUpState {
        assert!(self.is_active());
        let complete = match (self.stopped_at, progress) {
            (Some(stopped_at), _) => stopped_at - 1,
            (None, HistoryProgress::Done) => to,
            (None, HistoryProgress::More { next }) => next.main - 1,
        };
        if complete < self.first {
            if let HistoryProgress::More { next } = progress {
                self.position = next;
            }
            return CatchUpState::Scanning;
        }
        if complete < self.last {
            self.events.truncate(self.last_mark);
            self.index.forget_from(self.last_slot);
        }
        self.complete = complete;
        CatchUpState::Ready
    }

    /// The events of the scan; a delivery's slots name some of them.
    pub fn events(&self) -> &EventList {
        &self.events
    }

    /// Hands each watcher its events, and ends the scan. Who is refused goes on from there later;
    /// who has caught up is synced.
    pub fn deliver(
        &mut self,
        registry: &mut Registry,
        deliver: &mut dyn FnMut(Delivery<'_>, &EventList) -> Credit,
    ) {
        assert!(self.is_active() && self.first <= self.complete);
        let matches = self.index.take_matches();
        let mut slots = std::mem::take(&mut self.slots);
        for group in matches.chunk_by(|one, other| one.0 == other.0) {
            slots.clear();
            slots.extend(group.iter().map(|(_, slot)| *slot));
            for place in 0..self.index.watchers(group[0].0).len() {
                let number = self.index.watchers(group[0].0)[place] as usize;
                self.serve(registry, number, &slots, deliver);
            }
        }
        self.slots = slots;
        self.index.put_matches(matches);
        let complete = self.complete;
        for selected in self.selected.drain(..) {
            if !selected.is_served {
                registry.caught_up(selected.id, selected.next.max(complete + 1), false);
            }
        }
    }

    /// Ends the scan as if it had not begun.
    pub fn abort(&mut self, registry: &mut Registry) {
        self.in_vain = 0;
        for selected in self.selected.drain(..) {
            registry.push_unsynced(selected.id);
        }
    }

    fn serve(
        &mut self,
        registry: &mut Registry,
        number: usize,
        slots: &[u32],
        deliver: &mut dyn FnMut(Delivery<'_>, &EventList) -> Credit,
    ) {
        let selected = &mut self.selected[number];
        selected.is_served = true;
        let Some(watcher) = registry.watcher(selected.id) else { return };
        let revision_of = |slot: u32| self.events.event(slot as usize).kv.mod_revision;
        let skipped = slots.partition_point(|slot| revision_of(*slot) < selected.next);
        passes(selected.filters, &self.events, &slots[skipped..], &mut self.passed);
        let mut next = selected.next.max(self.complete + 1);
        let mut has_news = false;
        if let Some(first) = self.passed.first() {
            let delivery = Delivery {
                watcher: selected.id,
                owner: watcher.owner,
                tag: watcher.tag,
                prev_kv: watcher.prev_kv,
                revision: registry.revision(),
                slots: &self.passed,
            };
            match deliver(delivery, &self.events) {
                Credit::Taken => has_news = true,
                Credit::Refused => next = revision_of(*first),
            }
        }
        registry.caught_up(selected.id, next, has_news);
    }
}

/// Revisions with events that one scan delivers: etcd's batch.
pub const CATCH_UP_REVISIONS_MAX: usize = 1000;

/// Bytes of events after which a scan takes no further revision. One revision may be larger: it is
/// never split.
pub const CATCH_UP_SIZE_BYTES_MAX: usize = 1 << 20;

/// Watchers that share a scan.
pub const CATCH_UP_WATCHERS_MAX: usize = 512;

/// Watchers looked at to find them.
pub const CATCH_UP_EXAMINED_MAX: usize = 4096;
