//! A start that what this member holds is not enough for goes on from another member's state.
//!
//! A log with a hole that nobody can fill any more, or a page that a start reads and nobody has any
//! more: the newest checkpoint of another member takes the place of the store, and of the log as far
//! as it reaches. Invariants: what this member told the others to be durable here stays durable: an
//! entry behind the received state is dropped only if the log differs from the state at its last
//! entry, since then nothing behind it was committed (Raft thesis section 3.5); where that entry is
//! lost too, and the one behind it is not, the state is not taken; term and vote stay what they are.
//! Until it is in place this member takes no part in Raft. Source: replication.md, Damage 1 and 3;
//! docs/decisions on members that mend their log.

use engine::page::map::PageMap;
use engine::page::meta::Meta;
use engine::transfer::directory::Directory;
use engine::wal::position::GroupId;
use engine::wal::record::EntryId as WalEntryId;
use raft::{Entry, EntryId, HardState, Index, Snapshot, Term};

use crate::effect::{Effect, Effects, LogLevel};
use crate::replica::recovery::{RecoveredGroup, StartError, consensus};
use crate::replica::{DEFAULT_GROUP, Replica};
use crate::wal::ShardWal;

/// What a state leaves of the log of the member that receives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OwnLog {
    /// Nothing: it ends before, or differs from it.
    Replaced,
    /// What lies behind it.
    Kept,
    /// It cannot be known.
    Unknown,
}

/// The end of a member's own log and what it holds at an index.
pub(in crate::replica) struct LogSight {
    /// The index before the first entry that was not dropped.
    pub base: Index,
    pub last: EntryId,
    pub hard_state: HardState,
    /// Terms of the entries at the index and behind it, where they are not lost.
    pub terms: [Option<Term>; 2],
}

impl LogSight {
    fn under(&self, state: EntryId) -> OwnLog {
        if self.last.index <= state.index && self.base <= state.index {
            return OwnLog::Replaced;
        }
        match self.terms {
            // Entries between the two are nowhere here.
            _ if state.index < self.base => OwnLog::Unknown,
            [Some(term), _] if term == state.term => OwnLog::Kept,
            [Some(_), _] if self.hard_state.commit < state.index => OwnLog::Replaced,
            // The hole goes on behind it: who fills that one agrees with both.
            [None, None] => OwnLog::Kept,
            _ => OwnLog::Unknown,
        }
    }
}

impl RecoveredGroup {
    pub(in crate::replica) fn sight(&self, state: Index) -> LogSight {
        let term = |index: Index| {
            if index == self.log_base.index {
                return Some(self.log_base.term);
            }
            let slot = self.entries.binary_search_by_key(&index, |entry| entry.index).ok()?;
            Some(self.entries[slot].term)
        };
        LogSight {
            base: self.log_base.index,
            last: EntryId { index: Index(self.last_index), term: Term(self.last_term) },
            hard_state: self.hard_state,
            terms: [term(state), term(state.next())],
        }
    }

    /// What goes on behind a received state.
    fn behind(mut self, state: EntryId, own_log: OwnLog) -> RecoveredGroup {
        match own_log {
            OwnLog::Kept => {
                self.entries.retain(|entry: &Entry| state.index < entry.index);
                self.missing.retain(|(_, last)| state.index.0 < *last);
                for (first, _) in &mut self.missing {
                    *first = (*first).max(state.index.0 + 1);
                }
            }
            OwnLog::Replaced => {
                self.entries.clear();
                self.missing.clear();
                (self.last_index, self.last_term) = (state.index.0, state.term.0);
            }
            OwnLog::Unknown => unreachable!("such a state is not received"),
        }
        self.older_index = state.index.0;
        self.log_base = state;
        self.hard_state.commit = self.hard_state.commit.max(state.index);
        if self.hard_state.term < state.term {
            (self.hard_state.term, self.hard_state.vote) = (state.term, None);
        }
        self.install = None;
        self
    }
}

impl<M: PageMap> Replica<M> {
    /// Whether the start asks for what it lacks: another member's state would do as well.
    pub(in crate::replica) fn is_short_of_state(&self) -> bool {
        self.opening.is_some() || self.mending.as_ref().is_some_and(|mending| mending.is_asking())
    }

    /// Nobody has what is lacking: the state of one of the others is wanted, of the leader if it is
    /// known, else of each in turn.
    pub(in crate::replica) fn want_state_of_others(&mut self) {
        let others: Vec<u64> = self.connected_since_us.keys().copied().collect();
        let leader = self.raft.soft_state().leader.map(|leader| leader.0);
        match leader.filter(|leader| others.contains(leader)) {
            Some(leader) => self.receiving.want_store(leader),
            None if others.is_empty() => {}
            None => self.receiving.want_store_of_next(&others),
        }
    }

    /// Whether this start could go on from a state that ends with `last`.
    pub(in crate::replica) fn may_start_from(&self, last: EntryId) -> bool {
        self.own_log_at(last.index).under(last) != OwnLog::Unknown
    }

    fn own_log_at(&self, index: Index) -> LogSight {
        match (&self.opening, &self.mending) {
            (Some(opening), _) => opening.sight(index),
            (None, Some(mending)) => mending.sight(index),
            (None, None) => unreachable!("the caller asked whether the start lacks something"),
        }
    }

    /// The state is durable in the side file: it is put in place of the store. Where nothing of the
    /// own log is kept the WAL says so first, and a start after a crash goes on copying; where
    /// something is, such a start finds broken pages and begins anew.
    pub(in crate::replica) fn begin_start_over(&mut self, wal: &mut ShardWal) {
        let Some(last) = self.receiving.held_store() else { return };
        let last = EntryId { index: Index(last.index), term: Term(last.term) };
        let sight = self.own_log_at(last.index);
        let own_log = sight.under(last);
        assert!(own_log != OwnLog::Unknown, "looked at before it was received");
        let configuration = self.receiving.configuration().expect("it is held").clone();
        let directory = self.receiving.take_held().expect("just looked at");
        if sight.hard_state.term < last.term {
            // Before the log says so: a start after a crash in the middle goes on from both.
            assert!(own_log == OwnLog::Replaced, "no own entry is of a later term");
            let raised = HardState { term: last.term, vote: None, ..sight.hard_state };
            wal.append_hard_state(DEFAULT_GROUP, raised);
        }
        if own_log == OwnLog::Replaced {
            wal.append_install(DEFAULT_GROUP, directory.install());
        }
        self.begin_install_at_start(directory, Snapshot { last, configuration });
    }

    /// The received store is open and durable: the start goes on from there.
    pub(in crate::replica) fn end_start_over(
        &mut self,
        directory: &Directory,
        wal: &mut ShardWal,
        fx: &mut Effects,
    ) {
        let WalEntryId { index, term } = directory.last;
        let last = EntryId { index: Index(index), term: Term(term) };
        let own_log = self.own_log_at(last.index).under(last);
        let (group, incarnation) = match (self.opening.take(), self.mending.take()) {
            (Some(opening), None) => opening.into_group(),
            (None, Some(mending)) => mending.into_group(),
            _ => unreachable!("a start waits for one thing at a time"),
        };
        let group = group.behind(last, own_log);
        match own_log {
            // The other meta page names pages that were written over: it is not to be chosen.
            OwnLog::Kept => wal.on_checkpoint(DEFAULT_GROUP, directory.last),
            _ => wal.append_installed(GroupId(DEFAULT_GROUP)),
        }
        let kept = group.entries.len();
        if let Err(error) = self.go_on_from(&directory.meta(), group, incarnation) {
            return self.refuse_start(&error, fx);
        }
        self.on_store_replaced();
        let fields = vec![("index", index.to_string()), ("entries-kept", kept.to_string())];
        let message = "the member starts from the state of another one".to_string();
        fx.push(Effect::Log { level: LogLevel::Warn, message, fields });
    }

    /// Makes Raft of an open store and what the WAL holds behind it.
    pub(in crate::replica) fn go_on_from(
        &mut self,
        meta: &Meta,
        group: RecoveredGroup,
        incarnation: u64,
    ) -> Result<(), StartError> {
        let made = consensus(&self.config, &self.engine, Some(meta), group, incarnation)?;
        (self.raft, self.mending, self.checkpoint) = (made.raft, made.mending, made.checkpoint);
        Ok(())
    }
}
