//! From a key to the watchers that want it: an ordered map for single keys, a tree of intervals
//! for ranges. Watchers of the same range share a *target*, so one event costs a search and not a
//! look at every watcher.
//!
//! Invariants: a target has at least one watcher; a watcher is in one target, at the place it was
//! told.

use super::intervals::Intervals;
use std::collections::BTreeMap;

/// A range that is watched, and by whom.
#[derive(Clone, Debug)]
struct Target {
    key: Box<[u8]>,
    range_end: Box<[u8]>,
    watchers: Vec<u32>,
}

/// Watchers by range.
#[derive(Clone, Debug, Default)]
pub(crate) struct Index {
    targets: Vec<Option<Target>>,
    free: Vec<u32>,
    singles: BTreeMap<Box<[u8]>, u32>,
    ranges: Intervals,
    /// (target, event slot) pairs of a list that is being matched.
    matches: Vec<(u32, u32)>,
}

/// `None` is open.
fn interval_end(range_end: &[u8]) -> Option<&[u8]> {
    match range_end {
        [0] => None,
        _ => Some(range_end),
    }
}

impl Index {
    /// Lists a watcher; returns its target and its place there.
    pub(crate) fn add(&mut self, key: &[u8], range_end: &[u8], watcher: u32) -> (u32, u32) {
        let found = if range_end.is_empty() {
            self.singles.get(key).copied()
        } else {
            self.ranges.find(key, interval_end(range_end))
        };
        let slot = match found {
            Some(slot) => slot,
            None => self.add_target(key, range_end),
        };
        let target = self.targets[slot as usize].as_mut().expect("found or added");
        target.watchers.push(watcher);
        (slot, target.watchers.len() as u32 - 1)
    }

    fn add_target(&mut self, key: &[u8], range_end: &[u8]) -> u32 {
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => {
                self.targets.push(None);
                self.targets.len() as u32 - 1
            }
        };
        let target = Target { key: key.into(), range_end: range_end.into(), watchers: Vec::new() };
        self.targets[slot as usize] = Some(target);
        if range_end.is_empty() {
            self.singles.insert(key.into(), slot);
        } else {
            self.ranges.insert(slot, key, interval_end(range_end));
        }
        slot
    }

    /// Takes a watcher off its list; returns the watcher that moved to its place, if one did.
    pub(crate) fn remove(&mut self, slot: u32, place: u32) -> Option<u32> {
        let target = self.targets[slot as usize].as_mut().expect("a watcher knows its target");
        target.watchers.swap_remove(place as usize);
        if target.watchers.is_empty() {
            let target = self.targets[slot as usize].take().expect("it was there");
            if target.range_end.is_empty() {
                self.singles.remove(&target.key);
            } else {
                self.ranges.remove(slot);
            }
            self.free.push(slot);
            return None;
        }
        target.watchers.get(place as usize).copied()
    }

    /// The range of a target.
    pub(crate) fn range(&self, slot: u32) -> (&[u8], &[u8]) {
        let target = self.targets[slot as usize].as_ref().expect("a watcher knows its target");
        (&target.key, &target.range_end)
    }

    /// The watchers of a target.
    pub(crate) fn watchers(&self, slot: u32) -> &[u32] {
        let target = self.targets[slot as usize].as_ref().expect("found by a match");
        &target.watchers
    }

    /// Forgets all watchers.
    pub(crate) fn clear(&mut self) {
        *self = Index { matches: std::mem::take(&mut self.matches), ..Index::default() };
        self.matches.clear();
    }

    /// Finds who wants `key` and notes it for the event at `event_slot`; says whether anybody does.
    pub(crate) fn note(&mut self, key: &[u8], event_slot: u32) -> bool {
        let before = self.matches.len();
        if let Some(target) = self.singles.get(key) {
            self.matches.push((*target, event_slot));
        }
        let matches = &mut self.matches;
        self.ranges.containing(key, &mut |target| matches.push((target, event_slot)));
        before < self.matches.len()
    }

    /// Forgets what was noted for `event_slot` and those behind it.
    pub(crate) fn forget_from(&mut self, event_slot: u32) {
        self.matches.retain(|(_, slot)| *slot < event_slot);
    }

    /// What was noted, by target and event; the list comes back by `put_matches`.
    pub(crate) fn take_matches(&mut self) -> Vec<(u32, u32)> {
        let mut matches = std::mem::take(&mut self.matches);
        matches.sort_unstable();
        matches
    }

    /// Keeps the list's memory.
    pub(crate) fn put_matches(&mut self, mut matches: Vec<(u32, u32)>) {
        matches.clear();
        self.matches = matches;
    }
}
