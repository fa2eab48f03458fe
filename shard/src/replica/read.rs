//! Reads: the read-index round they wait for, then the store, in slices.
//!
//! Invariants: a read joins only a round that begins after it arrived (one a step for all); it is
//! answered from a state that contains the round's index; a serializable one waits for no
//! round, nor for reads that do; a read that outlives a step holds a revision and a key, never a
//! page. Every answer comes from the published state. One that meets a broken page waits for it
//! where it can be mended.
//! Source: replication.md, Reads and leases 1 and 2; Raft thesis section 6.4.

use std::collections::VecDeque;

use engine::api::{Command, TxnRequest};
use engine::command;
use engine::engine::Step;
use engine::mvcc::budget::WorkBudget;
use engine::mvcc::hash::HashRead;
use engine::mvcc::range::RangeRead;
use engine::mvcc::txn_read::TxnRead;
use engine::page::map::{Corruption, PageMap};
use raft::Role;

use super::Replica;
use super::damage::page_repair::Need;
use super::forward::question_of;
use crate::limits::{READS_LOCAL_RESERVED, READS_MAX};
use crate::message::{Call, HashKv, HealthReport, Origin, Outcome, Unavailable};
use crate::metrics::{Metrics, Scalar};

/// Units of engine work that the reads of a step get besides what apply left over.
const READ_WORK_UNITS: u32 = 2_000;

/// Reads on their way.
#[derive(Debug, Default)]
pub(super) struct Reads {
    /// Arrived in this step, waiting for a round to begin.
    arrived: Vec<Read>,
    /// Rounds begun: context and reads.
    rounds: VecDeque<(u64, Vec<Read>)>,
    /// Confirmed: answerable once this index is applied.
    confirmed: VecDeque<(u64, Vec<Read>)>,
    /// Serializable: answerable from whatever is applied, before all others.
    local: Vec<Read>,
    /// Being answered, in turn.
    running: VecDeque<Running>,
    /// Met a broken page, by its number, and wait until it is mended.
    waiting: Vec<(u64, Running)>,
    next_context: u64,
    count: usize,
}

#[derive(Debug)]
struct Read {
    origin: Origin,
    call: Call,
    deadline_us: u64,
}

#[derive(Debug)]
struct Running {
    origin: Origin,
    work: Work,
}

#[derive(Debug)]
enum Work {
    Range { read: Box<RangeRead> },
    Txn { command: Vec<u8>, read: Box<TxnRead> },
    HashKv { read: Box<HashRead>, is_whole: bool },
    LeaseTimeToLive { id: i64, keys: bool },
}

impl Work {
    fn gathered_size_bytes(&self) -> usize {
        match self {
            Work::Range { read } => read.gathered_size_bytes(),
            Work::Txn { .. } | Work::HashKv { .. } | Work::LeaseTimeToLive { .. } => 0,
        }
    }
}

impl Reads {
    /// A round's index is known.
    pub fn confirm(&mut self, context: u64, index: u64) {
        let slot = self.rounds.iter().position(|(known, _)| *known == context);
        let (_, reads) = self.rounds.remove(slot.expect("rounds are known")).expect("just found");
        self.confirmed.push_back((index, reads));
    }

    /// Waits for the next round.
    pub fn arrive(&mut self, origin: Origin, call: Call, deadline_us: u64) {
        self.count += 1;
        self.arrived.push(Read { origin, call, deadline_us });
    }

    /// A round came to nothing: its reads wait for the next one.
    pub fn lose(&mut self, context: u64) {
        let Some(slot) = self.rounds.iter().position(|(known, _)| *known == context) else {
            return;
        };
        let (_, reads) = self.rounds.remove(slot).expect("just found");
        self.arrived.extend(reads);
    }

    /// Takes what waited too long, wherever it waits.
    fn take_overdue(&mut self, now_us: u64) -> Vec<Read> {
        let mut overdue = Vec::new();
        let rounds = self.rounds.iter_mut().chain(&mut self.confirmed).map(|(_, reads)| reads);
        for reads in rounds.chain([&mut self.arrived, &mut self.local]) {
            overdue.extend(reads.extract_if(.., |read| read.deadline_us <= now_us));
        }
        self.confirmed.retain(|(_, reads)| !reads.is_empty());
        assert!(overdue.len() <= self.count);
        self.count -= overdue.len();
        overdue
    }

    /// Memory of the answers under way.
    fn gathered_size_bytes(&self) -> usize {
        self.running.iter().map(|running| running.work.gathered_size_bytes()).sum()
    }

    /// Whether reads wait for a round to begin, or may be answered with what is applied; none if
    /// nothing is answered now.
    pub fn has_arrived(&self, has_leader: bool, applied_index: Option<u64>) -> bool {
        let may_answer = |applied_index: u64| {
            let is_reached = |(index, _): &(u64, Vec<Read>)| *index <= applied_index;
            !self.local.is_empty() || self.confirmed.front().is_some_and(is_reached)
        };
        (has_leader && !self.arrived.is_empty()) || applied_index.is_some_and(may_answer)
    }

    /// The caller is gone: long work for it ends.
    pub fn abandon(&mut self, origin: Origin) {
        let before = self.running.len() + self.waiting.len();
        self.running.retain(|running| running.origin != origin);
        self.waiting.retain(|(_, running)| running.origin != origin);
        self.count -= before - self.running.len() - self.waiting.len();
    }

    /// A page was mended: who waits for it goes on.
    pub fn resume(&mut self, page: u64) {
        let resumed = self.take_waiting(page);
        self.running.extend(resumed);
    }

    fn take_waiting(&mut self, page: u64) -> Vec<Running> {
        let is_concerned = |waiting: &mut (u64, Running)| waiting.0 == page;
        self.waiting.extract_if(.., is_concerned).map(|(_, running)| running).collect()
    }
}

impl<M: PageMap> Replica<M> {
    pub(super) fn on_read(&mut self, origin: Origin, call: Call) {
        let is_local = match &call {
            Call::Range(range) => range.is_serializable(),
            Call::ReadTxn { serializable, .. } | Call::Health { serializable } => *serializable,
            Call::MemberList { serializable } => *serializable,
            Call::LeaseLeases | Call::AuthStatus | Call::Hash => true,
            _ => false,
        };
        let count_max = READS_MAX - if is_local { 0 } else { READS_LOCAL_RESERVED };
        if count_max <= self.reads.count {
            return self.fail_call(origin, &call, Unavailable::TooManyRequests);
        }
        let deadline_us = self.now_us + self.request_timeout_us();
        if is_local {
            self.reads.count += 1;
            return self.reads.local.push(Read { origin, call, deadline_us });
        }
        match question_of(&call) {
            Some(question) if !self.is_leader() => self.ask_leader(origin, question, deadline_us),
            _ => self.reads.arrive(origin, call, deadline_us),
        }
    }

    /// Reads that wait for a leader, a round or an entry for too long.
    pub(super) fn fail_overdue_reads(&mut self) {
        if self.reads.count == self.reads.running.len() + self.reads.waiting.len() {
            return;
        }
        let overdue = self.reads.take_overdue(self.now_us);
        if !overdue.is_empty() {
            self.figures.count(Scalar::SlowReadIndexes);
        }
        for read in overdue {
            self.fail_call(read.origin, &read.call, Unavailable::TimedOut);
        }
    }

    /// A broken page could not be mended: what needs it is refused.
    pub(super) fn refuse_reads_of(&mut self, page: u64, why: Unavailable) {
        for running in self.reads.take_waiting(page) {
            self.finish(running.origin, Outcome::Failed(why));
        }
    }

    /// One round for everything that arrived.
    pub(super) fn start_read_round(&mut self) {
        let soft = self.raft.soft_state();
        if self.reads.arrived.is_empty() || soft.leader.is_none() {
            // Without a leader they wait for one: clients see a pause, not an error.
            return;
        }
        let mut reads = std::mem::take(&mut self.reads.arrived);
        if soft.role != Role::Leader {
            for read in reads.extract_if(.., |read| question_of(&read.call).is_some()) {
                self.reads.count -= 1;
                let question = question_of(&read.call).expect("just asked");
                self.ask_leader(read.origin, question, read.deadline_us);
            }
            if reads.is_empty() {
                return;
            }
        }
        self.reads.next_context += 1;
        let context = self.reads.next_context;
        match self.raft.read_index(context) {
            Ok(()) => self.reads.rounds.push_back((context, reads)),
            Err(_) => {
                self.figures.count(Scalar::ReadIndexesFailed);
                self.reads.count -= reads.len();
                for read in reads {
                    self.fail_call(read.origin, &read.call, Unavailable::NoLeader);
                }
            }
        }
    }

    /// A lease's time is told by who leads, and not before it keeps the leases.
    fn may_answer(&self, call: &Call) -> bool {
        question_of(call).is_none() || self.lease_term == self.raft.soft_state().term.0
    }

    /// Health answers its failure instead of failing.
    pub(super) fn fail_call(&mut self, origin: Origin, call: &Call, why: Unavailable) {
        if let Call::Health { .. } = call {
            let report = self.health(Some(why));
            return self.answer(origin, Outcome::Health(report));
        }
        self.fail(origin, why);
    }

    /// Answers what can be answered, within a budget.
    pub(super) fn run_reads(&mut self, metrics: &mut Metrics) {
        let mut budget = WorkBudget::new(self.work_units_left + READ_WORK_UNITS);
        let applied_index = self.engine.applied_index();
        for read in std::mem::take(&mut self.reads.local) {
            self.begin_read(read, &mut budget, metrics);
        }
        while let Some((index, _)) = self.reads.confirmed.front() {
            if applied_index < *index {
                break;
            }
            let (_, reads) = self.reads.confirmed.pop_front().expect("checked above");
            for read in reads {
                if self.may_answer(&read.call) {
                    self.begin_read(read, &mut budget, metrics);
                } else {
                    self.reads.arrived.push(read);
                    self.needs_step |= self.is_leader();
                }
            }
        }
        // While the answers under way fill their budget, only the oldest goes on.
        let is_full = self.config.answer_budget_bytes <= self.reads.gathered_size_bytes();
        let mut turns = if is_full { 1 } else { self.reads.running.len() };
        while 0 < turns && !budget.is_spent() {
            turns -= 1;
            let Some(running) = self.reads.running.pop_front() else { break };
            self.run_work(running, &mut budget, is_full);
        }
        if !self.reads.running.is_empty() {
            self.needs_step = true;
        }
    }

    fn begin_read(&mut self, read: Read, budget: &mut WorkBudget, metrics: &mut Metrics) {
        let Read { origin, call, .. } = read;
        let work = match call {
            Call::Range(request) => {
                metrics.add(Scalar::Ranges, 1);
                match self.engine.range_start(&request.request()) {
                    Ok(started) => Work::Range { read: Box::new(started) },
                    Err(reject) => return self.finish(origin, Outcome::Range(Err(reject))),
                }
            }
            Call::ReadTxn { command, .. } => {
                metrics.add(Scalar::Txns, 1);
                Work::Txn { command, read: Box::new(self.engine.txn_read_start()) }
            }
            Call::HashKv { revision } => match self.engine.hash_start(revision) {
                Ok(started) => Work::HashKv { read: Box::new(started), is_whole: false },
                Err(reject) => return self.finish(origin, Outcome::HashKv(Err(reject))),
            },
            Call::Hash => match self.engine.hash_start(0) {
                Ok(started) => Work::HashKv { read: Box::new(started), is_whole: true },
                Err(reject) => return self.finish(origin, Outcome::HashKv(Err(reject))),
            },
            Call::LeaseTimeToLive { id, keys } => Work::LeaseTimeToLive { id, keys },
            other => {
                let outcome = self.small_read(other, metrics);
                return self.finish(origin, outcome);
            }
        };
        self.run_work(Running { origin, work }, budget, false);
    }

    /// One slice of a read; `keeps_turn` leaves it the first in line.
    fn run_work(&mut self, mut running: Running, budget: &mut WorkBudget, keeps_turn: bool) {
        match self.work_slice(&mut running.work, budget) {
            Ok(Some(outcome)) if self.exceeds_budget(&outcome) => {
                self.finish(running.origin, Outcome::Failed(Unavailable::AnswerTooLarge));
            }
            Ok(Some(outcome)) => self.finish(running.origin, outcome),
            Ok(None) if self.config.answer_budget_bytes < running.work.gathered_size_bytes() => {
                self.finish(running.origin, Outcome::Failed(Unavailable::AnswerTooLarge));
            }
            Ok(None) if keeps_turn => self.reads.running.push_front(running),
            Ok(None) => self.reads.running.push_back(running),
            Err(corruption) if self.on_broken_page(&corruption, Need::Read) => {
                self.reads.waiting.push((corruption.page.0, running));
            }
            Err(corruption) => {
                let why = self.refusal_of(&corruption);
                self.finish(running.origin, Outcome::Failed(why));
            }
        }
    }

    /// Whether a list alone is more than the memory for all of them, even if one slice read it.
    fn exceeds_budget(&self, outcome: &Outcome) -> bool {
        let Outcome::Range(Ok(list)) = outcome else { return false };
        self.config.answer_budget_bytes < list.kvs.size_bytes()
    }

    fn work_slice(
        &mut self,
        work: &mut Work,
        budget: &mut WorkBudget,
    ) -> Result<Option<Outcome>, Corruption> {
        let outcome = match work {
            Work::Range { read } => match self.engine.range_step(read, budget)? {
                Ok(Step::More) => return Ok(None),
                Ok(Step::Done(response)) => Outcome::Range(Ok(response)),
                Err(reject) => Outcome::Range(Err(reject)),
            },
            Work::Txn { command, read } => {
                match self.engine.txn_read_step(&txn_of(command), read, budget)? {
                    Ok(Step::More) => return Ok(None),
                    Ok(Step::Done(response)) => Outcome::ReadTxn(Ok(response)),
                    Err(reject) => Outcome::ReadTxn(Err(reject)),
                }
            }
            Work::HashKv { read, is_whole } => match self.engine.hash_step(read, budget)? {
                Ok(Step::More) => return Ok(None),
                Ok(Step::Done(hash)) if *is_whole => {
                    Outcome::Hash { revision: hash.revision, hash: hash.hash }
                }
                Ok(Step::Done(hash)) => Outcome::HashKv(Ok(HashKv {
                    revision: hash.revision,
                    hash: hash.hash,
                    compact_revision: hash.compact_revision,
                    hash_revision: hash.hash_revision,
                })),
                Err(reject) => Outcome::HashKv(Err(reject)),
            },
            Work::LeaseTimeToLive { id, keys } => self.lease_time_to_live(*id, *keys)?,
        };
        Ok(Some(outcome))
    }

    fn finish(&mut self, origin: Origin, outcome: Outcome) {
        assert!(0 < self.reads.count);
        self.reads.count -= 1;
        self.answer(origin, outcome);
    }

    pub(super) fn health(&self, read_failure: Option<Unavailable>) -> HealthReport {
        let mut alarms: Vec<_> = self.engine.alarms().iter().map(|(_, alarm)| *alarm).collect();
        alarms.sort_unstable();
        let has_leader = self.raft.soft_state().leader.is_some();
        HealthReport { alarms, has_leader, is_learner: self.is_learner(), read_failure }
    }
}

fn txn_of(bytes: &[u8]) -> TxnRequest<'_> {
    match command::decode(bytes) {
        Ok((_, Command::Txn(txn))) => txn,
        _ => unreachable!("the front of this member encoded a transaction"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::{ConnectionId, CoreId};

    fn read() -> Read {
        let origin = Origin { core: CoreId(0), connection: ConnectionId(1), stream: 1 };
        Read { origin, call: Call::LeaseLeases, deadline_us: 1_000 }
    }

    /// A step that would find nothing to do must not be asked for: a leader whose leases cannot be
    /// read yet was stepped without a pause.
    #[test]
    fn reads_are_a_reason_to_step_only_while_something_can_be_done_for_them() {
        let mut reads = Reads::default();
        assert!(!reads.has_arrived(true, Some(9)), "there are none");
        reads.arrived.push(read());
        assert!(reads.has_arrived(true, None), "a round may begin");
        assert!(!reads.has_arrived(false, Some(9)), "nobody would answer the round");
        reads.arrived.clear();
        reads.local.push(read());
        assert!(reads.has_arrived(false, Some(0)), "what is applied is an answer");
        assert!(!reads.has_arrived(true, None), "nothing is answered now");
        reads.local.clear();
        reads.confirmed.push_back((5, vec![read()]));
        assert!(!reads.has_arrived(true, Some(4)), "its index is not applied");
        assert!(reads.has_arrived(true, Some(5)));
        assert!(!reads.has_arrived(true, None));
    }
}
