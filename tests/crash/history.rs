//! What the store has to show after a restart: every revision explained by exactly one request.
//!
//! A revision of an acknowledged request shows that request. Any other one shows, whole, a request
//! that was under way when the process died, and each such request at most once. Once seen, a
//! revision never changes.

use std::collections::{BTreeMap, BTreeSet};

use corestone_client::{EventType, WatchMessage};

use crate::operation::{Effect, KeyState, Operation, State};

/// Requests of one round, as their clients know them.
#[derive(Default)]
pub struct Requests {
    /// By the revision in the answer.
    pub acknowledged: BTreeMap<i64, Operation>,
    /// Answered, and changed nothing: a deletion of what was not there. The revision they saw.
    pub without_effect: Vec<(i64, Operation)>,
    /// Sent, without an answer.
    pub open: Vec<Operation>,
}

/// Each event of a revision: key, and the state it was given (or the deletion).
pub type Events = BTreeMap<Vec<u8>, Option<KeyState>>;

/// See the file's head.
#[derive(Default)]
pub struct History {
    revisions: BTreeMap<i64, Events>,
    state: State,
    newest: i64,
}

impl History {
    pub fn new() -> History {
        History { newest: 1, ..History::default() }
    }

    /// The newest revision known.
    pub fn newest(&self) -> i64 {
        self.newest
    }

    pub fn state(&self) -> &State {
        &self.state
    }

    /// The events of a revision.
    pub fn events(&self, revision: i64) -> Option<&Events> {
        self.revisions.get(&revision)
    }

    /// Every key as it was at `revision`.
    pub fn state_at(&self, revision: i64) -> State {
        let mut state = State::new();
        for events in self.revisions.range(..=revision).map(|(_, events)| events) {
            apply(&mut state, events);
        }
        state
    }

    /// Takes what the store shows of the last round, from the revision after the newest known one
    /// on, and holds it against what was asked. `leases` are those that live now.
    ///
    /// # Panics
    /// When it does not fit: the test fails.
    pub fn extend(
        &mut self,
        shown: BTreeMap<i64, Events>,
        mut requests: Requests,
        leases: &BTreeSet<i64>,
    ) {
        let acknowledged = requests.acknowledged.len();
        for (revision, events) in shown {
            assert_eq!(revision, self.newest + 1, "a revision is missing");
            let operation = match requests.acknowledged.remove(&revision) {
                Some(operation) => operation,
                None => self.take_open(revision, &events, &mut requests.open, leases),
            };
            let effect = operation.effect(&self.state);
            assert_eq!(
                effect,
                effect_of(&events),
                "revision {revision} does not show what was acknowledged with it: {operation:?}"
            );
            self.check_columns(revision, &events);
            apply(&mut self.state, &events);
            self.revisions.insert(revision, events);
            self.newest = revision;
        }
        assert!(
            requests.acknowledged.is_empty(),
            "{} of {acknowledged} acknowledged requests are lost, the first with revision {:?}; \
             the newest revision is {}",
            requests.acknowledged.len(),
            requests.acknowledged.keys().next(),
            self.newest
        );
        for (revision, operation) in &requests.without_effect {
            assert!(*revision <= self.newest, "an answer knew revision {revision}: {operation:?}");
            let effect = operation.effect(&self.state_at(*revision));
            assert!(effect.is_empty(), "{operation:?} should have changed {effect:?}");
        }
    }

    /// The request without an answer that a revision shows.
    fn take_open(
        &self,
        revision: i64,
        events: &Events,
        open: &mut Vec<Operation>,
        leases: &BTreeSet<i64>,
    ) -> Operation {
        let shown = effect_of(events);
        let fits = |operation: &Operation| operation.effect(&self.state) == shown;
        // A revoke that took effect took its lease; where one explains what is shown, it counts
        // before a deletion of the same key, so that either order of both finds its two requests.
        let is_revoke = |operation: &Operation| match operation {
            Operation::Revoke { lease } => !leases.contains(lease),
            Operation::Changes(_) => false,
        };
        let is_change = |operation: &Operation| matches!(operation, Operation::Changes(_));
        let place = open
            .iter()
            .position(|operation| is_revoke(operation) && fits(operation))
            .or_else(|| open.iter().position(|one| is_change(one) && fits(one)));
        match place {
            Some(place) => open.swap_remove(place),
            None => panic!(
                "revision {revision} shows what nobody asked for, or a part of a request: \
                 {events:?}"
            ),
        }
    }

    /// Create revision and version follow from what was before.
    fn check_columns(&self, revision: i64, events: &Events) {
        for (key, state) in events {
            let Some(state) = state else { continue };
            let before = self.state.get(key);
            let create_revision = before.map_or(revision, |before| before.create_revision);
            let version = before.map_or(1, |before| before.version + 1);
            let found = (state.mod_revision, state.create_revision, state.version);
            assert_eq!(found, (revision, create_revision, version), "columns of {key:?}");
        }
    }
}

fn apply(state: &mut State, events: &Events) {
    for (key, change) in events {
        match change {
            Some(new) => state.insert(key.clone(), *new),
            None => state.remove(key),
        };
    }
}

fn effect_of(events: &Events) -> Effect {
    let effect = |state: &Option<KeyState>| state.map(|state| (state.value, state.lease));
    events.iter().map(|(key, state)| (key.clone(), effect(state))).collect()
}

/// Adds the events of a message of a watch to those of messages before.
pub fn collect(message: &WatchMessage, shown: &mut BTreeMap<i64, Events>) {
    for event in message.events.iter() {
        let revision = event.kv.mod_revision;
        let state = match event.event_type {
            EventType::Put => Some(KeyState::of(&event.kv)),
            EventType::Delete => None,
        };
        if let Some((newest, _)) = shown.last_key_value() {
            assert!(*newest <= revision, "events out of order: {newest} before {revision}");
        }
        let earlier = shown.entry(revision).or_default().insert(event.kv.key.to_vec(), state);
        assert!(earlier.is_none(), "two events of {:?} at {revision}", event.kv.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operation::Change;

    fn put(key: &str, value: &str) -> Change {
        let (key, value) = (key.as_bytes().to_vec(), value.as_bytes().to_vec());
        Change::Put { key, value, lease: 0 }
    }

    fn shown(revision: i64, keys: &[(&str, &str)]) -> BTreeMap<i64, Events> {
        let state = |value: &str| {
            let value = crate::operation::ValueDigest::of(value.as_bytes());
            let (create_revision, mod_revision) = (revision, revision);
            Some(KeyState { value, create_revision, mod_revision, version: 1, lease: 0 })
        };
        let events = keys.iter().map(|(key, value)| (key.as_bytes().to_vec(), state(value)));
        BTreeMap::from([(revision, events.collect())])
    }

    fn extended(shown: BTreeMap<i64, Events>, requests: Requests) -> bool {
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            History::new().extend(shown, requests, &BTreeSet::new());
        }));
        outcome.is_ok()
    }

    fn both() -> Operation {
        Operation::Changes(vec![put("a", "1"), put("b", "2")])
    }

    #[test]
    fn half_a_transaction_and_lost_or_invented_writes_are_noticed() {
        let open = || Requests { open: vec![both()], ..Requests::default() };
        let done = || {
            let acknowledged = BTreeMap::from([(2, both())]);
            Requests { acknowledged, ..Requests::default() }
        };
        let whole = || shown(2, &[("a", "1"), ("b", "2")]);
        assert!(extended(whole(), open()));
        assert!(extended(BTreeMap::new(), open()));
        assert!(extended(whole(), done()));
        assert!(!extended(shown(2, &[("a", "1")]), open()), "half of it");
        assert!(!extended(shown(2, &[("a", "1")]), done()), "half of it");
        assert!(!extended(BTreeMap::new(), done()), "lost");
        assert!(!extended(whole(), Requests::default()), "nobody asked");
        assert!(!extended(shown(3, &[("a", "1"), ("b", "2")]), open()), "a gap");
    }
}
