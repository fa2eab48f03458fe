//! What a watch has to hear, from the history of the store.
//!
//! Source: fact sheet of etcd's behaviour, section 5.

use engine::api::range_contains;

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

/// One event as a watch hears it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// Revision of the change.
    pub mod_revision: i64,
    /// The key.
    pub key: Vec<u8>,
    /// Its new state; `None` when it was deleted.
    pub kv: Option<Kv>,
    /// The state before, if it was told.
    pub previous: Option<Kv>,
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
        let is_wanted = |kv: &Option<Kv>| match kv {
            Some(_) => !self.is_without_puts,
            None => !self.is_without_deletes,
        };
        store.changes(revision).iter().filter(move |event| {
            is_wanted(&event.kv) && range_contains(&self.key, &self.range_end, &event.key)
        })
    }

    /// An event as this watch hears it.
    pub fn hears(&self, event: &Event, revision: i64) -> Heard {
        Heard {
            mod_revision: revision,
            key: event.key.clone(),
            kv: event.kv.clone(),
            previous: event.previous.clone().filter(|_| self.wants_previous),
        }
    }
}
