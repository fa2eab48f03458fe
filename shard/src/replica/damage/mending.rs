//! A log with holes is mended from the other members before this one takes part in Raft.
//!
//! Invariants: until it is mended this replica neither votes nor answers an append, so for Raft it
//! is a member that is down; what it holds it gives to others who mend theirs. A hole is filled only
//! by a log that holds the same entry, by index and term, as the one that ended or followed the
//! hole here: two logs that agree there agree before it (Raft thesis section 3.5). Only when every
//! other voter has told all it holds and none agrees, what lay there was never committed: then the
//! most complete of their logs replaces all that this checkpoint does not contain.
//! Source: replication.md, Damage 1; docs/decisions on members that mend their log.

use std::collections::{BTreeMap, VecDeque};

use engine::page::map::PageMap;
use net::peer::PeerMessage;
use raft::{Entry, EntryId, EntryKind, Index, LogError, RaftNode, Restored};

use super::start_over::LogSight;
use crate::effect::{Effect, Effects, LogLevel};
use crate::input::ConnectionId;
use crate::peers::Peers;
use crate::replica::recovery::RecoveredGroup;
use crate::replica::{DEFAULT_GROUP, Replica};
use crate::wal::ShardWal;

/// Bytes of entries in an answer, beside its first one.
const ANSWER_SIZE_BYTES: usize = 1 << 20;
/// Bytes of entries that a member tells to all others in a tick: one that mends its log asks for a
/// megabyte at a time.
const ANSWERS_SIZE_BYTES_MAX: usize = 32 << 20;
/// What an answer costs at the least.
const ANSWER_COST_BYTES_MIN: usize = 64 << 10;
/// A question without an answer is asked again after this long.
const RETRY_US: u64 = 500_000;
/// That nothing moves on is said this often.
const COMPLAIN_US: u64 = 10_000_000;
/// If nothing new was told for so long, the state of another member is asked for instead.
const STUCK_US: u64 = 3_000_000;

/// A log that is being mended.
#[derive(Debug)]
pub(in crate::replica) struct Mending {
    /// What Raft starts from in the end; its entries are those before the first hole.
    restored: Restored,
    raft_config: raft::Config,
    /// Entries behind the first hole.
    rest: BTreeMap<u64, Entry>,
    /// Index ranges that are lost.
    holes: Vec<(u64, u64)>,
    /// The end of the log, lost or not.
    last: EntryId,
    /// Other voters and what they told.
    walks: BTreeMap<u64, Walk>,
    phase: Phase,
    next_sequence: u64,
    complain_us: u64,
    /// When the last news came, or when another member's state was asked for.
    news_us: Option<u64>,
    has_news: bool,
}

/// What is being done about the holes.
#[derive(Debug)]
enum Phase {
    /// Looking for a log that agrees behind each hole.
    Fill,
    /// None does: reading all that the others hold behind the checkpoint.
    Replace,
    /// It is known what belongs there: it is being written.
    Write { raft: Box<RaftNode>, queue: VecDeque<Entry>, replaces: bool },
    /// All is written, not yet synced.
    Sync { raft: Box<RaftNode> },
}

/// What this member told others of its log since the last tick, so that nobody's questions keep it
/// from its own work: who is not answered asks again.
#[derive(Debug, Default)]
pub(in crate::replica) struct EntriesAnswered {
    since_us: u64,
    size_bytes: usize,
}

impl EntriesAnswered {
    fn allows(&mut self, now_us: u64, tick_us: u64) -> bool {
        if self.since_us + tick_us <= now_us {
            *self = EntriesAnswered { since_us: now_us, size_bytes: 0 };
        }
        self.size_bytes < ANSWERS_SIZE_BYTES_MAX
    }

    fn count(&mut self, size_bytes: usize) {
        self.size_bytes += size_bytes.max(ANSWER_COST_BYTES_MIN);
    }
}

/// One other voter's log, as far as it was told.
#[derive(Debug, Default)]
struct Walk {
    entries: Vec<Entry>,
    /// Number and time of the question under way.
    asked: Option<(u64, u64)>,
    /// Everything in the range was told, or the log ends.
    is_over: bool,
}

impl Mending {
    /// Takes the holes behind the checkpoint out of what recovery found; none is left if all of
    /// them lie in it. `restored` keeps the entries before the first hole.
    pub fn begin(
        restored: &mut Restored,
        raft_config: &raft::Config,
        missing: &[(u64, u64)],
        last: EntryId,
    ) -> Option<Mending> {
        let applied = restored.applied.index.0;
        let holes: Vec<(u64, u64)> = missing
            .iter()
            .filter(|(_, last)| applied < *last)
            .map(|(first, last)| ((*first).max(applied + 1), *last))
            .collect();
        if !missing.is_empty() {
            // What a hole interrupts cannot be kept for followers that lag.
            restored.entries.retain(|entry| applied < entry.index.0);
            restored.log_base = restored.applied;
        }
        let (first, _) = *holes.first()?;
        let entries = std::mem::take(&mut restored.entries);
        let (before, behind): (Vec<_>, Vec<_>) =
            entries.into_iter().partition(|entry| entry.index.0 < first);
        restored.entries = before;
        let own = raft_config.id;
        let voters = restored.configuration.voters.iter().filter(|id| **id != own);
        Some(Mending {
            restored: restored.clone(),
            raft_config: raft_config.clone(),
            rest: behind.into_iter().map(|entry| (entry.index.0, entry)).collect(),
            holes,
            last,
            walks: voters.map(|id| (id.0, Walk::default())).collect(),
            phase: Phase::Fill,
            next_sequence: 1,
            complain_us: 0,
            news_us: None,
            has_news: false,
        })
    }

    /// The indexes that are asked for.
    fn range(&self) -> (u64, u64) {
        let (first, _) = self.holes[0];
        match self.phase {
            Phase::Replace => (self.restored.applied.index.0 + 1, self.last.index.0),
            _ => {
                let (_, last) = *self.holes.last().expect("there is a hole");
                (first, (last + 1).min(self.last.index.0))
            }
        }
    }

    /// The entry that a log has to hold to agree with this one in a hole.
    fn anchor(&self, hole: (u64, u64)) -> EntryId {
        self.rest.get(&(hole.1 + 1)).map_or(self.last, Entry::id)
    }

    /// What is to be asked next of a log: its last known entry once more, since a log may be cut
    /// between two answers; if that entry is still there, so are all before it.
    fn next_of(&self, walk: &Walk) -> u64 {
        walk.entries.last().map_or(self.range().0, |entry| entry.index.0)
    }

    /// Takes an answer; it is dropped if nobody waits for it or if it makes no sense.
    fn on_entries(&mut self, member: u64, sequence: u64, entries: Vec<Entry>) {
        let (_, last) = self.range();
        let Some(walk) = self.walks.get(&member) else { return };
        if walk.asked.is_none_or(|(asked, _)| asked != sequence) {
            return;
        }
        let next = self.next_of(walk);
        let is_dense = entries.iter().zip(next..).all(|(entry, index)| entry.index.0 == index);
        let is_inside = entries.last().is_none_or(|entry| entry.index.0 <= last);
        let walk = self.walks.get_mut(&member).expect("just looked at");
        let had = walk.entries.len();
        walk.asked = None;
        if !is_dense || !is_inside {
            return;
        }
        let known = walk.entries.pop().map(|entry| entry.id());
        if known.is_some() && known != entries.first().map(Entry::id) {
            // It was cut meanwhile: it is told again.
            walk.entries.clear();
            return;
        }
        // Nothing but what was known, or nothing at all: the log ends there.
        walk.is_over = entries.len() <= usize::from(known.is_some());
        walk.entries.extend(entries);
        walk.is_over |= walk.entries.last().is_some_and(|entry| entry.index.0 == last);
        self.has_news |= had < walk.entries.len();
    }

    /// Fills holes by logs that agree behind them; true when none is left.
    fn fill(&mut self) -> Option<VecDeque<Entry>> {
        let (first, _) = self.range();
        let mut found = VecDeque::new();
        for hole in &self.holes {
            let anchor = self.anchor(*hole);
            let slot = (anchor.index.0 - first) as usize;
            let agrees = |walk: &&Walk| walk.entries.get(slot).map(Entry::id) == Some(anchor);
            let walk = self.walks.values().find(agrees)?;
            let part = (hole.0 - first) as usize..=(hole.1 - first) as usize;
            found.extend(walk.entries[part].iter().cloned());
        }
        Some(found)
    }

    /// Asks everybody from the beginning, after a while.
    fn ask_again(&mut self, phase: Phase, now_us: u64) {
        self.phase = phase;
        for walk in self.walks.values_mut() {
            // No question has this number.
            *walk = Walk { asked: Some((0, now_us)), ..Walk::default() };
        }
    }

    /// It is known what the log has to be: Raft is made of it, and it is written.
    fn begin_write(
        &mut self,
        queue: VecDeque<Entry>,
        replaces: bool,
        wal: &mut ShardWal,
        now_us: u64,
    ) {
        let mut restored = self.restored.clone();
        if replaces {
            restored.entries = queue.iter().cloned().collect();
        } else {
            let mut rest = self.rest.clone();
            rest.extend(queue.iter().map(|entry| (entry.index.0, entry.clone())));
            restored.entries.extend(rest.into_values());
        }
        let last_term = restored.entries.last().map_or(restored.applied.term, |last| last.term);
        let is_newer = restored.hard_state.term < last_term;
        if is_newer {
            (restored.hard_state.term, restored.hard_state.vote) = (last_term, None);
        }
        let hard_state = restored.hard_state;
        let Ok(raft) = RaftNode::new(self.raft_config.clone(), restored) else {
            // What was told contradicts itself: it is told again.
            return self.ask_again(Phase::Fill, now_us);
        };
        if is_newer {
            wal.append_hard_state(DEFAULT_GROUP, hard_state);
        }
        self.phase = Phase::Write { raft: Box::new(raft), queue, replaces };
    }

    /// The most complete log of the others; none where members changed meanwhile, so that it is
    /// not known who all the others are.
    fn best(&self) -> Option<VecDeque<Entry>> {
        let entries = self.walks.values().flat_map(|walk| &walk.entries);
        let own = self.restored.entries.iter().chain(self.rest.values());
        if entries.chain(own).any(|entry| entry.kind == EntryKind::ConfigChange) {
            return None;
        }
        let end = |walk: &&Walk| walk.entries.last().map(|entry| (entry.term, entry.index));
        let best = self.walks.values().max_by_key(end)?;
        Some(best.entries.iter().cloned().collect())
    }

    /// Whether it is still not known what belongs into the holes.
    pub fn is_asking(&self) -> bool {
        matches!(self.phase, Phase::Fill | Phase::Replace)
    }

    /// Whether nothing came for long; not again for as long.
    fn is_stuck(&mut self, now_us: u64) -> bool {
        let since_us = *self.news_us.get_or_insert(now_us);
        let is_stuck = !self.has_news && since_us + STUCK_US <= now_us;
        if std::mem::take(&mut self.has_news) || is_stuck {
            self.news_us = Some(now_us);
        }
        is_stuck && self.is_asking()
    }

    /// What the log holds at an index.
    pub fn sight(&self, index: Index) -> LogSight {
        let before = &self.restored.entries;
        let base = self.restored.log_base;
        let term = |index: Index| match before.binary_search_by_key(&index, |entry| entry.index) {
            Ok(slot) => Some(before[slot].term),
            Err(_) if index == base.index => Some(base.term),
            Err(_) => self.rest.get(&index.0).map(|entry| entry.term),
        };
        LogSight {
            base: self.restored.log_base.index,
            last: self.last,
            hard_state: self.restored.hard_state,
            terms: [term(index), term(index.next())],
        }
    }

    /// What the WAL holds, for a start from another state.
    pub fn into_group(self) -> (RecoveredGroup, u64) {
        let Restored { hard_state, mut entries, log_base, incarnation, .. } = self.restored;
        entries.extend(self.rest.into_values());
        let group = RecoveredGroup {
            hard_state,
            entries,
            missing: self.holes,
            older_index: log_base.index.0,
            log_base,
            last_index: self.last.index.0,
            last_term: self.last.term.0,
            install: None,
        };
        (group, incarnation)
    }

    /// Whether all others told everything.
    fn is_over(&self) -> bool {
        self.walks.values().all(|walk| walk.is_over)
    }

    /// What this member can tell to another one that asks from `first` on; `None` where it does
    /// not know. One entry alone says that the log ends behind it, so none is told before a hole.
    fn read(&self, first: u64, out: &mut Vec<Entry>) -> Option<()> {
        let before = &self.restored.entries;
        let slot = before.partition_point(|entry| entry.index.0 < first);
        let held = before[slot..].iter().chain(self.rest.range(first..).map(|(_, entry)| entry));
        let mut size_bytes = 0;
        for (entry, index) in held.zip(first..) {
            let is_full = 1 < out.len() && ANSWER_SIZE_BYTES < size_bytes + entry.size_bytes();
            if entry.index.0 != index || is_full {
                break;
            }
            size_bytes += entry.size_bytes();
            out.push(entry.clone());
        }
        let is_end = self.last.index.0 < first + out.len() as u64;
        (1 < out.len() || is_end).then_some(())
    }
}

impl<M: PageMap> Replica<M> {
    /// Whether the log has to be mended first, or the store to be opened.
    pub(in crate::replica) fn is_mending(&self) -> bool {
        self.mending.is_some() || self.opening.is_some()
    }

    /// A member asks for entries of the log. Who cannot know says nothing: silence is asked again.
    pub(in crate::replica) fn on_entries_request(
        &mut self,
        connection: ConnectionId,
        sequence: u64,
        [first, last]: [Index; 2],
        peers: &mut Peers,
    ) {
        if self.opening.is_some() || !self.entries_answered.allows(self.now_us, self.tick_us) {
            // What the log holds is not looked at yet; or others were told enough for now.
            return;
        }
        let mut entries = Vec::new();
        let is_known = match &self.mending {
            Some(mending) => mending.read(first.0, &mut entries).is_some(),
            None => match self.raft.entries(first, ANSWER_SIZE_BYTES, &mut entries) {
                Ok(()) if entries.len() == 1 => {
                    // One alone would say that the log ends behind it.
                    let _ = self.raft.entries(first.next(), 0, &mut entries);
                    true
                }
                Ok(()) | Err(LogError::Unavailable) => true,
                Err(LogError::Compacted) => false,
            },
        };
        entries.retain(|entry| entry.index <= last);
        self.entries_answered.count(entries.iter().map(Entry::size_bytes).sum());
        if is_known {
            let message = PeerMessage::Entries { sequence, entries };
            // If it cannot be sent it is asked for again.
            let _ = peers.send_by(connection, DEFAULT_GROUP, &message);
        }
    }

    /// A member's answer.
    pub(in crate::replica) fn on_entries(
        &mut self,
        member: u64,
        sequence: u64,
        entries: Vec<Entry>,
    ) {
        if let Some(mending) = &mut self.mending
            && matches!(mending.phase, Phase::Fill | Phase::Replace)
        {
            mending.on_entries(member, sequence, entries);
        }
    }

    /// One more step of mending.
    pub(in crate::replica) fn run_mending(
        &mut self,
        wal: &mut ShardWal,
        peers: &mut Peers,
        fx: &mut Effects,
    ) {
        if self.is_installing() {
            return;
        }
        let Some(mut mending) = self.mending.take() else { return };
        self.ask_for_entries(&mut mending, peers, fx);
        if mending.is_stuck(self.now_us) {
            self.want_state_of_others();
        }
        let is_over = mending.is_over();
        match &mut mending.phase {
            Phase::Fill => match mending.fill() {
                Some(queue) => mending.begin_write(queue, false, wal, self.now_us),
                None if is_over => mending.ask_again(Phase::Replace, self.now_us),
                None => {}
            },
            Phase::Replace if is_over => match mending.best() {
                Some(queue) => mending.begin_write(queue, true, wal, self.now_us),
                None => {
                    // A state says who the members are.
                    self.want_state_of_others();
                    mending.ask_again(Phase::Replace, self.now_us);
                }
            },
            Phase::Replace => {}
            Phase::Write { queue, replaces, .. } => {
                while !wal.is_full()
                    && let Some(entry) = queue.pop_front()
                {
                    wal.write_mended_entry(DEFAULT_GROUP, &entry, *replaces);
                }
                if queue.is_empty() {
                    wal.append_mended(DEFAULT_GROUP);
                    mending.phase = mending.phase.written();
                }
            }
            Phase::Sync { .. } if wal.is_quiet() => return self.end_mending(mending.phase, fx),
            Phase::Sync { .. } => {}
        }
        self.needs_step |= matches!(mending.phase, Phase::Write { .. }) && !wal.is_full();
        self.mending = Some(mending);
    }

    fn ask_for_entries(&mut self, mending: &mut Mending, peers: &mut Peers, fx: &mut Effects) {
        if !matches!(mending.phase, Phase::Fill | Phase::Replace) {
            return;
        }
        let (_, last) = mending.range();
        let members: Vec<u64> = mending.walks.keys().copied().collect();
        for member in &members {
            let walk = &mending.walks[member];
            let is_waiting = walk.asked.is_some_and(|(_, at_us)| self.now_us < at_us + RETRY_US);
            if walk.is_over || is_waiting || !peers.is_open(*member) {
                continue;
            }
            let sequence = mending.next_sequence;
            mending.next_sequence += 1;
            let first = Index(mending.next_of(walk));
            let walk = mending.walks.get_mut(member).expect("just looked at");
            let request = PeerMessage::EntriesRequest { sequence, first, last: Index(last) };
            if peers.send(*member, DEFAULT_GROUP, &request).is_ok() {
                walk.asked = Some((sequence, self.now_us));
            }
        }
        fx.wake_at(self.now_us + RETRY_US);
        if mending.complain_us <= self.now_us {
            mending.complain_us = self.now_us + COMPLAIN_US;
            let (first, last) = mending.holes[0];
            let fields = vec![("first-index", first.to_string()), ("last-index", last.to_string())];
            let message = "the WAL is damaged: asking the other members for what is lost";
            let message = message.to_string();
            fx.push(Effect::Log { level: LogLevel::Warn, message, fields });
        }
    }

    /// The log is whole and durable: from now on this is a member like any other.
    fn end_mending(&mut self, phase: Phase, fx: &mut Effects) {
        let Phase::Sync { raft } = phase else { unreachable!("the caller looked at it") };
        assert!(self.mending.is_none() && raft.id() == self.raft.id());
        self.raft = *raft;
        let fields = vec![("commit-index", self.raft.commit().0.to_string())];
        let message = "the WAL is mended".to_string();
        fx.push(Effect::Log { level: LogLevel::Info, message, fields });
        self.needs_step = true;
    }
}

impl Phase {
    /// From writing to waiting for the sync.
    fn written(&mut self) -> Phase {
        match std::mem::replace(self, Phase::Fill) {
            Phase::Write { raft, .. } => Phase::Sync { raft },
            _ => unreachable!("the caller looked at it"),
        }
    }
}

#[cfg(test)]
#[path = "mending_test.rs"]
mod tests;
