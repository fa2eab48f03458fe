//! One watcher: what it wants, whose it is, and where it stands.

use crate::api::EventType;

/// Names a watcher in its registry; the slot is reused, the pair is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WatcherId {
    pub(crate) slot: u32,
    pub(crate) generation: u32,
}

/// Whose watcher it is: the caller's name of a stream, opaque here. Progress is told by owner.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WatchOwner(pub u64, pub u64);

/// Kinds of events that a watcher does not want.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct WatchFilters {
    pub drops_puts: bool,
    pub drops_deletes: bool,
}

impl WatchFilters {
    /// Whether an event of this kind is wanted.
    pub fn passes(self, event_type: EventType) -> bool {
        match event_type {
            EventType::Put => !self.drops_puts,
            EventType::Delete => !self.drops_deletes,
        }
    }

    /// Whether every event is wanted.
    pub fn passes_all(self) -> bool {
        !self.drops_puts && !self.drops_deletes
    }
}

/// Whether a watcher gets empty answers that tell how far its stream is complete.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ProgressNotify {
    /// Only when asked.
    #[default]
    OnRequest,
    /// At every interval without events.
    Periodic,
}

/// Whether events carry the state before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PrevKv {
    /// They do not.
    #[default]
    Omit,
    /// They do, where it is still known.
    Include,
}

/// What a client asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WatcherSpec<'a> {
    /// First key of the range.
    pub key: &'a [u8],
    /// As in a range request: empty is the single key, one zero byte is open.
    pub range_end: &'a [u8],
    /// First revision wanted; 0 is the one after the current.
    pub start_revision: i64,
    /// What is left out.
    pub filters: WatchFilters,
    /// Handed on with each delivery.
    pub prev_kv: PrevKv,
    /// Periodic progress.
    pub progress_notify: ProgressNotify,
    /// Whose it is.
    pub owner: WatchOwner,
    /// The caller's number of the watcher within its owner; handed on with each delivery.
    pub tag: i64,
}

/// Where a watcher stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WatcherState {
    /// Everything up to the registry's revision was delivered.
    Synced,
    /// History from `next` on is owed.
    Unsynced { next: i64 },
}

/// A registered watcher.
#[derive(Clone, Debug)]
pub(crate) struct Watcher {
    pub generation: u32,
    pub owner: WatchOwner,
    pub tag: i64,
    /// Where it is listed in the index, and at which place of that list.
    pub target: u32,
    pub place: u32,
    /// Nothing older is ever delivered.
    pub start_revision: i64,
    pub filters: WatchFilters,
    pub prev_kv: PrevKv,
    pub progress_notify: ProgressNotify,
    pub state: WatcherState,
    /// Events were delivered since the last periodic progress.
    pub has_news: bool,
}

/// Some events of a list for one watcher, in order; all of each revision that it takes part in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivery<'a> {
    /// Who gets them.
    pub watcher: WatcherId,
    /// Whose it is.
    pub owner: WatchOwner,
    /// The caller's number.
    pub tag: i64,
    /// Whether the state before is wanted.
    pub prev_kv: PrevKv,
    /// The header's revision: of the events when they are live; the store's while catching up, so
    /// it is no bookmark.
    pub revision: i64,
    /// Which events of the list.
    pub slots: &'a [u32],
}

/// What the caller answers to a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credit {
    /// It is queued for the client.
    Taken,
    /// There is no room: nothing of it was queued. The watcher reads history later.
    Refused,
}
