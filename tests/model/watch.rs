//! What a watch has to hear, from the history of the store.
//!
//! Source: fact sheet of etcd's behaviour, section 5.

use std::sync::Arc;

use engine::api::{self, EventType, KeyValue, range_contains};

use super::answer::Kv;
use super::store::{Event, Store};

/// What a watch asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Interest {
    pub key: Vec<u8>,
    pub range_end: Vec<u8>,
    pub wants_previous: bool,
    pub is_without_puts: bool,
    pub is_without_deletes: bool,
}

/// One event as a watch hears it, where it lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard<'a> {
    /// Revision of the change.
    pub mod_revision: i64,
    /// The key.
    pub key: &'a [u8],
    /// Its new state; `None` when it was deleted.
    pub kv: Option<KeyValue<'a>>,
    /// The state before, if it was told.
    pub previous: Option<KeyValue<'a>>,
}

impl<'a> Heard<'a> {
    /// An event that was told.
    pub fn of(told: api::Event<'a>) -> Heard<'a> {
        Heard {
            mod_revision: told.kv.mod_revision,
            key: told.kv.key,
            kv: (told.event_type == EventType::Put).then_some(told.kv),
            previous: told.prev_kv,
        }
    }

    /// The event as it is told.
    pub fn told(&self) -> api::Event<'a> {
        let gone =
            KeyValue { key: self.key, mod_revision: self.mod_revision, ..KeyValue::default() };
        api::Event {
            event_type: if self.kv.is_some() { EventType::Put } else { EventType::Delete },
            kv: self.kv.unwrap_or(gone),
            prev_kv: self.previous,
        }
    }
}

impl Interest {
    /// Everything, with the states before.
    pub fn everything() -> Interest {
        Interest { key: vec![0], range_end: vec![0], wants_previous: true, ..Interest::default() }
    }

    /// What a revision has for this watch, in order.
    pub fn events<'a>(
        &'a self,
        store: &'a Store,
        revision: i64,
    ) -> impl Iterator<Item = &'a Event> {
        let is_wanted = |kv: &Option<Arc<Kv>>| match kv {
            Some(_) => !self.is_without_puts,
            None => !self.is_without_deletes,
        };
        store.changes(revision).iter().filter(move |event| {
            is_wanted(&event.kv) && range_contains(&self.key, &self.range_end, &event.key)
        })
    }

    /// An event as this watch hears it.
    pub fn hears<'a>(&self, event: &'a Event, revision: i64) -> Heard<'a> {
        let previous = event.previous.as_ref().filter(|_| self.wants_previous);
        Heard {
            mod_revision: revision,
            key: &event.key,
            kv: event.kv.as_ref().map(|kv| kv.told()),
            previous: previous.map(|kv| kv.told()),
        }
    }
}
