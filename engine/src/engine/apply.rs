//! Apply: one entry of the log at a time, long ones in slices.
//!
//! Invariants: all checks of an entry run before its first change; its revision is published with
//! its last slice; nothing here depends on how an entry is cut into slices, or on who answers.
//! Source: fact sheet of etcd's behaviour, sections 1, 2, 4, 6, 7 and 11.

use super::{Applied, ApplyError, Engine, EventsState, Genesis, Outcome, Running, Stage};
use crate::api::{
    AlarmAction, AlarmType, Command, EventList, EventListMark, ProposalId, PutRequest, Reject,
    RequestOp, Response, ResponseOp,
};
use crate::command;
use crate::lease::{self, Lease, LeaseChange};
use crate::limits::{LEASE_TTL_S_MAX, VALUE_INLINE_BYTES_MAX};
use crate::mvcc::budget::WorkBudget;
use crate::mvcc::compaction;
use crate::mvcc::members;
use crate::mvcc::prefetch::Prefetch;
use crate::mvcc::range::resolve_revision;
use crate::mvcc::run::{EventFeed, OpRun, RunContext};
use crate::mvcc::system;
use crate::mvcc::trees::Trees;
use crate::mvcc::txn::{PathRun, assemble, flatten, has_put};
use crate::page::map::{Corruption, PAGE_SIZE_BYTES, PageMap};
use crate::tree::APPROACH_KEYS_MAX;

impl<M: PageMap> Engine<M> {
    /// Only proposals of this member's life get answers with key-values (prev_kv, ranges in write
    /// transactions); in others they are left out. Without this call all get them. Pages do not
    /// depend on it.
    pub fn answer_only(&mut self, member_id: u64, incarnation: u64) {
        self.answered = Some((member_id, incarnation));
    }

    /// Whether a long entry is under way.
    pub fn is_applying(&self) -> bool {
        self.running.is_some()
    }

    /// Moves past an entry that is not the state machine's (a configuration change).
    pub fn skip(&mut self, index: u64, term: u64) {
        self.begin(index, term);
        (self.applied_index, self.applied_term) = (index, term);
    }

    /// Reads what applying `entry` may read, so that apply does not meet a broken page. A malformed
    /// entry names nothing.
    pub fn prefetch(&self, entry: &[u8]) -> Result<(), Corruption> {
        let mut budget = WorkBudget::unlimited();
        let is_done = self.prefetch_step(entry, &mut Prefetch::default(), &mut budget)?;
        assert!(is_done, "an unlimited budget is never spent");
        Ok(())
    }

    /// One slice of [`Engine::prefetch`]; true when it is done. The same `entry` is handed in with
    /// every step.
    pub fn prefetch_step(
        &self,
        entry: &[u8],
        run: &mut Prefetch,
        budget: &mut WorkBudget,
    ) -> Result<bool, Corruption> {
        match command::decode(entry) {
            Ok((_, command)) => run.step(&self.trees, &command, self.revision, budget),
            Err(_) => Ok(true),
        }
    }

    /// Fetches what the first of the entries that are to be applied next will read, so that applying
    /// them does not wait for memory; says how many were looked at. Worth it for several at once.
    pub fn approach<'e>(&mut self, entries: impl Iterator<Item = &'e [u8]>) -> usize {
        let mut keys: [&[u8]; APPROACH_KEYS_MAX] = [&[]; APPROACH_KEYS_MAX];
        let (mut looked_at, mut count) = (0, 0);
        for entry in entries.take(APPROACH_KEYS_MAX) {
            looked_at += 1;
            if let Some(key) = command::put_key(entry) {
                keys[count] = key;
                count += 1;
            }
        }
        if 1 < count {
            self.trees.approach(&keys[..count]);
        }
        looked_at
    }

    /// Applies the entry at `index`, which is the one after [`Engine::applied_index`]. An empty entry
    /// (a leader's first) only moves the index. Panics while a long entry is under way.
    ///
    /// `events`, if given, gets the entry's events appended: hand the same list to
    /// [`Engine::apply_more`], with nothing taken out of it; they are complete with the last slice.
    /// After an error the engine is in the middle of a change and must be opened again.
    pub fn apply(
        &mut self,
        index: u64,
        term: u64,
        entry: &[u8],
        budget: &mut WorkBudget,
        events: Option<&mut EventList>,
    ) -> Result<Applied, ApplyError> {
        self.begin(index, term);
        budget.spend(1);
        if entry.is_empty() {
            (self.applied_index, self.applied_term) = (index, term);
            return Ok(Applied::Done(self.outcome(ProposalId::default(), self.done())));
        }
        let (proposal, command) = command::decode(entry)?;
        if self.genesis.is_none() && !matches!(command, Command::Genesis { .. }) {
            return Err(ApplyError::Genesis);
        }
        self.interval_bytes += entry.len() as u64;
        let start = events.as_deref().map_or(EventListMark::default(), EventList::mark);
        let mut feed = EventFeed::new(events, start, false);
        let mut outcome = self.outcome(proposal, self.done());
        let mut stage = match self.apply_at_once(&command, &mut outcome, &mut feed, budget)? {
            None => return Ok(self.finish(index, term, outcome)),
            Some(stage) => stage,
        };
        match self.advance(&command, &mut stage, &mut outcome, &mut feed, budget)? {
            true => Ok(self.finish(index, term, outcome)),
            false => {
                self.running = Some(Running {
                    index,
                    term,
                    entry: entry.to_vec(),
                    stage,
                    events_start: start,
                    too_many_events: feed.too_many,
                });
                Ok(Applied::More)
            }
        }
    }

    /// Goes on with the entry under way. Panics if there is none.
    pub fn apply_more(
        &mut self,
        budget: &mut WorkBudget,
        events: Option<&mut EventList>,
    ) -> Result<Applied, ApplyError> {
        let mut running = self.running.take().expect("a long entry is under way");
        let (proposal, command) = command::decode(&running.entry)?;
        let mut feed = EventFeed::new(events, running.events_start, running.too_many_events);
        let mut outcome = self.outcome(proposal, self.done());
        if self.advance(&command, &mut running.stage, &mut outcome, &mut feed, budget)? {
            return Ok(self.finish(running.index, running.term, outcome));
        }
        running.too_many_events = feed.too_many;
        self.running = Some(running);
        Ok(Applied::More)
    }

    fn begin(&self, index: u64, term: u64) {
        assert!(self.running.is_none(), "a long entry is applied to its end first");
        assert!(index == self.applied_index + 1, "entries are applied without a gap");
        assert!(self.applied_term <= term);
    }

    fn done(&self) -> Response {
        Response::Done { revision: self.revision }
    }

    fn rejected(&self, reject: Reject) -> Response {
        Response::Rejected { revision: self.revision, reject }
    }

    fn outcome(&self, proposal: ProposalId, response: Response) -> Outcome {
        Outcome {
            proposal,
            response,
            events: EventsState::Complete,
            lease_change: None,
            alarms_changed: false,
            members_changed: false,
        }
    }

    fn finish(&mut self, index: u64, term: u64, outcome: Outcome) -> Applied {
        (self.applied_index, self.applied_term) = (index, term);
        Applied::Done(outcome)
    }

    fn context(&self, proposal: ProposalId) -> RunContext {
        let proposer = (proposal.member_id, proposal.incarnation);
        RunContext {
            revision: self.revision,
            wants_answer: self.answered.is_none_or(|answered| answered == proposer),
        }
    }

    /// Makes the changes of a run visible: one revision, or none if there was no change.
    fn publish(&mut self, run: &OpRun, context: RunContext) -> i64 {
        let revision = run.revision(context);
        assert!(self.revision == context.revision && revision - self.revision <= 1);
        self.revision = revision;
        revision
    }

    /// Applies short commands to their end; of long ones, makes the first checks and returns the
    /// stage to go on from.
    fn apply_at_once(
        &mut self,
        command: &Command<'_>,
        outcome: &mut Outcome,
        feed: &mut EventFeed<'_>,
        budget: &mut WorkBudget,
    ) -> Result<Option<Stage>, ApplyError> {
        if let Some(reject) = self.alarm_reject(command) {
            outcome.response = self.rejected(reject);
            return Ok(None);
        }
        outcome.response = match command {
            Command::Put(put) => self.apply_put(put, outcome.proposal, feed, budget)?,
            Command::DeleteRange(_) => {
                let stage = Stage::Ops { path: Vec::new(), run: OpRun::default() };
                return Ok(Some(stage));
            }
            Command::Txn(_) => return Ok(Some(Stage::Path(PathRun::default()))),
            Command::LeaseRevoke { id, .. } => {
                if self.lease(*id)?.is_some() {
                    return Ok(Some(Stage::Revoke { run: OpRun::default() }));
                }
                self.rejected(Reject::LeaseNotFound)
            }
            // A leader that was deposed while it held its proposal has it sent to the next one.
            Command::Genesis { .. } if self.genesis.is_some() => self.done(),
            Command::Genesis { .. } => self.apply_genesis(command)?,
            Command::Compact { revision } => self.apply_compact(*revision),
            Command::CompactStep { mark_main, mark_sub } => {
                self.apply_compact_step(*mark_main, *mark_sub, budget)?
            }
            Command::LeaseGrant { id, ttl_s } => {
                self.apply_lease_grant(Lease { id: *id, ttl_s: *ttl_s }, outcome)?
            }
            Command::Alarm { action, member_id, alarm } => {
                outcome.alarms_changed = true;
                self.apply_alarm(*action, *member_id, *alarm)?
            }
            Command::MembersFound { .. }
            | Command::MemberPublish { .. }
            | Command::MemberAdd { .. }
            | Command::MemberRemove { .. }
            | Command::MemberPromote { .. }
            | Command::MemberUpdate { .. } => {
                outcome.members_changed = true;
                self.apply_member(command)?
            }
            Command::Checkpoint => {
                self.checkpoint_asked = true;
                self.done()
            }
        };
        if feed.too_many {
            outcome.events = EventsState::TooMany;
        }
        Ok(None)
    }

    /// What an alarm forbids. CORRUPT stands above NOSPACE.
    fn alarm_reject(&self, command: &Command<'_>) -> Option<Reject> {
        let is_up = |wanted: AlarmType| self.alarms.iter().any(|(_, alarm)| *alarm == wanted);
        if self.alarms.is_empty() {
            return None;
        }
        let changes = matches!(
            command,
            Command::Put(_)
                | Command::DeleteRange(_)
                | Command::Txn(_)
                | Command::Compact { .. }
                | Command::LeaseGrant { .. }
                | Command::LeaseRevoke { .. }
        );
        if changes && is_up(AlarmType::Corrupt) {
            return Some(Reject::Corrupt);
        }
        let takes_space = match command {
            Command::Put(_) | Command::LeaseGrant { .. } => true,
            Command::Txn(txn) => has_put(txn),
            _ => false,
        };
        (takes_space && is_up(AlarmType::NoSpace)).then_some(Reject::NoSpace)
    }

    /// The checks of a change of members stand here again, on replicated state alone.
    fn apply_member(&mut self, command: &Command<'_>) -> Result<Response, Corruption> {
        let Trees { store, system, .. } = &mut self.trees;
        let outcome = match command {
            Command::MembersFound { founders } => Ok(members::found(store, system, founders)?),
            Command::MemberPublish { member_id, name, client_urls, binary_urls } => {
                let told = members::Told { name, client_urls, binary_urls };
                members::publish(store, system, *member_id, &told)?
            }
            Command::MemberAdd { member_id, peer_urls, is_learner } => {
                members::add(store, system, *member_id, peer_urls, *is_learner)?
            }
            Command::MemberRemove { member_id } => members::remove(store, system, *member_id)?,
            Command::MemberPromote { member_id } => members::promote(store, system, *member_id)?,
            Command::MemberUpdate { member_id, peer_urls } => {
                members::update(store, system, *member_id, peer_urls)?
            }
            other => unreachable!("{other:?} does not change members"),
        };
        Ok(match outcome {
            Ok(()) => self.done(),
            Err(reject) => self.rejected(reject),
        })
    }

    fn apply_genesis(&mut self, command: &Command<'_>) -> Result<Response, ApplyError> {
        let Command::Genesis {
            page_size_bytes,
            value_inline_bytes_max,
            interval_pages_max,
            interval_bytes_max,
        } = *command
        else {
            return Err(ApplyError::Genesis);
        };
        let served = page_size_bytes as usize == PAGE_SIZE_BYTES
            && value_inline_bytes_max as usize <= VALUE_INLINE_BYTES_MAX
            && 0 < interval_pages_max
            && 0 < interval_bytes_max;
        if !served {
            return Err(ApplyError::Genesis);
        }
        self.trees.value_inline_bytes_max = value_inline_bytes_max as usize;
        self.genesis = Some(Genesis {
            page_size_bytes,
            value_inline_bytes_max,
            interval_pages_max,
            interval_bytes_max,
        });
        Ok(self.done())
    }

    fn apply_put(
        &mut self,
        put: &PutRequest<'_>,
        proposal: ProposalId,
        feed: &mut EventFeed<'_>,
        budget: &mut WorkBudget,
    ) -> Result<Response, Corruption> {
        if let Some(reject) = self.check_put(put)? {
            return Ok(self.rejected(reject));
        }
        let context = self.context(proposal);
        let mut run = OpRun::default();
        let response = run.put(&mut self.trees, put, context, feed, budget)?;
        let revision = self.publish(&run, context);
        assert!(response.revision == revision);
        Ok(Response::Put(response))
    }

    /// What the state before the entry says against a put.
    fn check_put(&self, put: &PutRequest<'_>) -> Result<Option<Reject>, Corruption> {
        if put.lease != 0 && !put.ignore_lease && self.lease(put.lease)?.is_none() {
            return Ok(Some(Reject::LeaseNotFound));
        }
        let needs_key = put.ignore_value || put.ignore_lease;
        Ok((needs_key && self.trees.live(put.key)?.is_none()).then_some(Reject::KeyNotFound))
    }

    fn check_op(&self, op: &RequestOp<'_>) -> Result<Option<Reject>, Corruption> {
        match op {
            RequestOp::Put(put) => self.check_put(put),
            RequestOp::Range(range) => {
                let compacted = self.compact_revision();
                Ok(resolve_revision(range.revision, self.revision, compacted).err())
            }
            RequestOp::DeleteRange(_) | RequestOp::Txn(_) => Ok(None),
        }
    }

    fn apply_compact(&mut self, revision: i64) -> Response {
        if revision <= self.compact_revision() {
            return self.rejected(Reject::Compacted);
        }
        if self.revision < revision {
            return self.rejected(Reject::FutureRevision);
        }
        self.trees.compact_revision = revision;
        Response::Compact { revision: self.revision }
    }

    fn apply_compact_step(
        &mut self,
        mark_main: i64,
        mark_sub: i64,
        budget: &mut WorkBudget,
    ) -> Result<Response, Corruption> {
        let pending = self.compact_pending();
        if pending.is_some_and(|mark| (mark.main, mark.sub) == (mark_main, mark_sub)) {
            let mark = compaction::step(&mut self.trees, self.compact_mark, budget)?;
            assert!(self.compact_mark <= mark);
            self.compact_mark = mark;
        }
        Ok(self.done())
    }

    fn apply_lease_grant(
        &mut self,
        lease: Lease,
        outcome: &mut Outcome,
    ) -> Result<Response, Corruption> {
        if LEASE_TTL_S_MAX < lease.ttl_s {
            return Ok(self.rejected(Reject::LeaseTtlTooLarge));
        }
        if lease.id == 0 {
            return Ok(self.rejected(Reject::LeaseNotFound));
        }
        if self.lease(lease.id)?.is_some() {
            return Ok(self.rejected(Reject::LeaseExists));
        }
        let Trees { store, system, .. } = &mut self.trees;
        lease::grant(store, system, lease)?;
        outcome.lease_change = Some(LeaseChange::Granted(lease));
        Ok(Response::LeaseGrant { revision: self.revision, id: lease.id, ttl_s: lease.ttl_s })
    }

    fn apply_alarm(
        &mut self,
        action: AlarmAction,
        member_id: u64,
        alarm: AlarmType,
    ) -> Result<Response, Corruption> {
        let Trees { store, system, .. } = &mut self.trees;
        let touched = match action {
            AlarmAction::Activate => {
                system::raise_alarm(store, system, member_id, alarm)?;
                true
            }
            AlarmAction::Deactivate => system::clear_alarm(store, system, member_id, alarm)?,
        };
        self.alarms = system::alarms(store, system)?;
        let touched = touched.then_some((member_id, alarm));
        Ok(Response::Alarm { revision: self.revision, touched })
    }

    /// One slice of a long entry; true when it is done and published.
    fn advance(
        &mut self,
        command: &Command<'_>,
        stage: &mut Stage,
        outcome: &mut Outcome,
        feed: &mut EventFeed<'_>,
        budget: &mut WorkBudget,
    ) -> Result<bool, Corruption> {
        let context = self.context(outcome.proposal);
        if let Stage::Revoke { run } = stage {
            let Command::LeaseRevoke { id, .. } = command else {
                panic!("a revoke is under way");
            };
            if !run.revoke(&mut self.trees, *id, context, feed, budget)? {
                return Ok(false);
            }
            let revision = self.publish(run, context);
            outcome.lease_change = Some(LeaseChange::Revoked(*id));
            outcome.response = Response::LeaseRevoke { revision };
        } else if let Command::DeleteRange(delete) = command {
            let Stage::Ops { run, .. } = stage else { panic!("a deletion runs without guards") };
            let op = RequestOp::DeleteRange(*delete);
            if !run.step(&mut self.trees, &[&op], context, feed, budget)? {
                return Ok(false);
            }
            let Some(ResponseOp::DeleteRange(response)) = run.answers.pop() else {
                panic!("a deletion has its answer");
            };
            let revision = self.publish(run, context);
            assert!(response.revision == revision);
            outcome.response = Response::DeleteRange(response);
        } else {
            match self.advance_txn(command, stage, context, feed, budget)? {
                Some(response) => outcome.response = response,
                None => return Ok(false),
            }
        }
        if feed.too_many {
            outcome.events = EventsState::TooMany;
        }
        Ok(true)
    }

    fn advance_txn(
        &mut self,
        command: &Command<'_>,
        stage: &mut Stage,
        context: RunContext,
        feed: &mut EventFeed<'_>,
        budget: &mut WorkBudget,
    ) -> Result<Option<Response>, Corruption> {
        let Command::Txn(txn) = command else { panic!("a transaction is under way") };
        if let Stage::Path(run) = stage {
            if !run.step(&self.trees, txn, self.revision, budget)? {
                return Ok(None);
            }
            *stage = Stage::Check { path: std::mem::take(&mut run.path), slot: 0 };
        }
        if let Stage::Check { path, slot } = stage {
            let ops = flatten(txn, path);
            while let Some(op) = ops.get(*slot) {
                if let Some(reject) = self.check_op(op)? {
                    return Ok(Some(self.rejected(reject)));
                }
                *slot += 1;
                budget.spend(1);
                if budget.is_spent() && *slot < ops.len() {
                    return Ok(None);
                }
            }
            *stage = Stage::Ops { path: std::mem::take(path), run: OpRun::default() };
        }
        let Stage::Ops { path, run } = stage else { panic!("a checked transaction runs") };
        if !run.step(&mut self.trees, &flatten(txn, path), context, feed, budget)? {
            return Ok(None);
        }
        let answers = std::mem::take(&mut run.answers);
        let revision = self.publish(run, context);
        Ok(Some(Response::Txn(assemble(txn, path, answers, revision))))
    }
}
