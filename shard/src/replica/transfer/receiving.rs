//! What is known of the transfer to this member: the wish, the attempt, what is on its way.
//!
//! Invariants: one attempt at a time; while there is one the own pages stay as they are; what an
//! attempt left in the side file belongs to the next one, or is discarded.

use engine::transfer::directory::Directory;
use engine::transfer::sink::Sink;
use engine::wal::record::EntryId;
use raft::Configuration;

use crate::effect::{Effect, Effects};
use crate::input::ConnectionId;

/// An attempt without news for so long is given up.
pub(super) const SILENCE_US: u64 = 5_000_000;

/// The transfer to this member.
#[derive(Debug, Default)]
pub(in crate::replica) struct Receiving {
    /// Who said that it is needed, because of entries up to this index.
    pub(super) wanted: Option<(u64, u64)>,
    /// Whose pages are to replace the own ones, one of which is broken for good.
    pub(super) wanted_store: Option<u64>,
    /// Who was asked last for that, where no leader is known.
    pub(super) last_source: u64,
    /// Who lacks pages of its own newest checkpoint: the next attempt is made with another one.
    pub(super) lacking: Option<u64>,
    pub(super) attempt: Option<Attempt>,
    pub(super) sink: Sink,
    /// The side file has something in it.
    pub(super) is_side_used: bool,
    pub(super) next_request: u64,
    pub(super) sync_number: u64,
    /// Syncs on their way: number and bytes.
    pub(super) syncs: Vec<(u64, usize)>,
    pub(super) unsynced_size_bytes: usize,
}

#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) from: u64,
    pub(super) connection: Option<ConnectionId>,
    pub(super) phase: Phase,
    /// The log is whole here, the own pages are not.
    pub(super) replaces_store: bool,
    pub(super) heard_us: u64,
    /// The own pages are at rest, and all that was ordered of them is done, when this sync is.
    pub(super) barrier: Option<u64>,
    pub(super) last: EntryId,
    pub(super) configuration: Configuration,
    /// Requests on their way.
    pub(super) requests: Vec<u64>,
    pub(super) pages_received: u64,
    pub(super) started_us: u64,
}

#[derive(Debug)]
pub(super) enum Phase {
    /// Waiting for the connection, or for the meta page.
    Aiming,
    /// Walking and asking.
    Fetching,
    /// All is written; this sync makes it durable.
    Syncing { number: u64, directory: Box<Directory> },
    /// All is durable: the leader's word is awaited.
    Held { directory: Box<Directory> },
}

impl Receiving {
    /// Whether the own pages have to stay as they are.
    pub fn holds_pages(&self) -> bool {
        self.attempt.is_some()
    }

    /// When an attempt is given up.
    pub fn next_wake_us(&self) -> Option<u64> {
        self.attempt.as_ref().map(|attempt| attempt.heard_us + SILENCE_US)
    }

    /// Whether this is the connection of the attempt, or the dial or handshake for it.
    pub fn is_own(&self, member: u64, connection: Option<ConnectionId>) -> bool {
        let own = |attempt: &Attempt| {
            let is_opening = attempt.connection.is_none() && matches!(attempt.phase, Phase::Aiming);
            attempt.from == member && (is_opening || attempt.connection == connection)
        };
        self.attempt.as_ref().is_some_and(own)
    }

    /// Whether this is the connection by which pages of a transfer come.
    pub fn has(&self, connection: ConnectionId) -> bool {
        self.attempt.as_ref().is_some_and(|attempt| attempt.connection == Some(connection))
    }

    /// What an earlier attempt left in the side file goes: it is wanted for something else.
    pub fn discard_side(&mut self, fx: &mut Effects) {
        assert!(self.attempt.is_none());
        if self.is_side_used {
            fx.push(Effect::SideDiscard);
            self.on_side_discarded();
        }
    }

    /// The own pages cannot be mended: those of `from` are fetched, unless something is already.
    pub fn want_store(&mut self, from: u64) {
        self.wanted_store = Some(from);
    }

    /// The same, of another one of `others` each time.
    pub fn want_store_of_next(&mut self, others: &[u64]) {
        let next = self.next_source(others);
        self.want_store(next);
    }

    pub(super) fn next_source(&mut self, others: &[u64]) -> u64 {
        let next = others.iter().find(|other| self.last_source < **other).or(others.first());
        self.last_source = *next.expect("there is one to ask");
        self.last_source
    }

    /// The state that is held in full and replaces the own pages: its last entry.
    pub fn held_store(&self) -> Option<EntryId> {
        let attempt = self.attempt.as_ref().filter(|attempt| attempt.replaces_store)?;
        matches!(attempt.phase, Phase::Held { .. }).then_some(attempt.last)
    }

    /// The configuration of the state that is being received.
    pub fn configuration(&self) -> Option<&Configuration> {
        self.attempt.as_ref().map(|attempt| &attempt.configuration)
    }

    /// Nothing is left of the side file.
    pub fn on_side_discarded(&mut self) {
        self.is_side_used = false;
        self.sink = Sink::default();
    }

    /// The directory of a state that is held in full.
    pub fn take_held(&mut self) -> Option<Box<Directory>> {
        let attempt = self.attempt.take()?;
        self.sink = Sink::default();
        match attempt.phase {
            Phase::Held { directory } => Some(directory),
            _ => None,
        }
    }
}
