//! The way of a command into the log.
//!
//! Invariants: a proposal is made once; what is refused was not appended; the bytes that are
//! replicated are those that the front laid out, with their proposal id stamped in.

use bytes::{Bytes, BytesMut};
use engine::api::{AlarmAction, AlarmType, Command, ProposalId};
use engine::command;
use engine::page::map::PageMap;
use raft::ProposeError;

use super::growth::{NotInLog, Proposer};
use super::membership::refusal_of;
use super::pending::Waiter;
use super::{Replica, Stage};
use crate::effect::{Effect, Effects, LogLevel};
use crate::limits::{QUOTA_DEFAULT_BYTES, REQUEST_TIMEOUT_BASE_US};
use crate::message::{MemberChangeKind, Origin, Outcome, ProposalClass, Unavailable};

/// Refusals that wait for their alarm; more are told at once.
const REFUSED_MAX: usize = 4096;

impl<M: PageMap> Replica<M> {
    pub(super) fn on_propose(&mut self, origin: Origin, command: BytesMut, class: ProposalClass) {
        if self.stage == Stage::Stopping {
            return self.fail(origin, Unavailable::Stopped);
        }
        if !self.pending.has_room() || self.is_wal_full {
            return self.fail(origin, Unavailable::TooManyRequests);
        }
        if let ProposalClass::Write { cost_bytes } = class
            && self.exceeds_quota(cost_bytes)
        {
            return self.refuse_for_space(origin);
        }
        self.propose_checked(command, Waiter::Call { origin, class });
    }

    /// Proposes an encoded command.
    pub(super) fn propose(
        &mut self,
        mut command: BytesMut,
        waiter: Waiter,
    ) -> Result<(), Unavailable> {
        let id = self.pending.next_id();
        command::stamp(&mut command, id);
        let command = command.freeze();
        let may_wait = !matches!(waiter, Waiter::Expiry { .. });
        if !self.forwarding.is_holding() || !may_wait {
            match self.append(command.clone()) {
                Ok(()) => {
                    self.insert_pending(waiter, self.raft.soft_state().term.0);
                    return Ok(());
                }
                Err(NotInLog::TooEarly) => {
                    if !self.growth.hold(Proposer::Own { counter: id.counter }, command) {
                        return Err(Unavailable::TooManyRequests);
                    }
                    self.insert_pending(waiter, 0);
                    return Ok(());
                }
                Err(NotInLog::Refused(ProposeError::TooManyUncommitted)) => {
                    return Err(Unavailable::TooManyRequests);
                }
                Err(NotInLog::Refused(ProposeError::Change(error))) => {
                    return Err(refusal_of(error));
                }
                Err(NotInLog::Refused(_)) => {}
            }
        }
        if !may_wait {
            // An expiry is proposed in the leader's own term or not at all.
            return Err(Unavailable::NoLeader);
        }
        if !self.forwarding.has_room(command.len()) {
            return Err(Unavailable::TooManyRequests);
        }
        self.forwarding.hold(id.counter, command);
        self.insert_pending(waiter, 0);
        self.needs_step = true;
        Ok(())
    }

    fn insert_pending(&mut self, waiter: Waiter, term: u64) {
        let deadline_us = self.now_us + self.request_timeout_us();
        self.pending.insert(waiter, deadline_us, term);
    }

    /// Proposes a command of this member's own.
    pub(super) fn propose_own(&mut self, command: &Command<'_>, waiter: Waiter) -> bool {
        let mut bytes = Vec::new();
        command::encode(command, ProposalId::default(), &mut bytes);
        self.propose(Bytes::from(bytes).into(), waiter).is_ok()
    }

    /// A proposal will not be answered by its entry any more.
    pub(super) fn on_proposal_lost(&mut self, waiter: Waiter, why: Unavailable) {
        match waiter {
            Waiter::Call { origin, class } => {
                self.figures.on_proposal_failed();
                if let ProposalClass::Members(MemberChangeKind::Promoted) = class {
                    self.figures.on_promotion_refused(why);
                }
                self.answer(origin, Outcome::Failed(why));
            }
            Waiter::Expiry { lease } => self.leases.put_back(lease),
            Waiter::Background => {
                self.background.on_proposal_lost();
                self.tell_refused();
            }
        }
    }

    /// What may be stored; `None` is no bound.
    pub(super) fn quota_bytes(&self) -> Option<u64> {
        match self.config.quota_backend_bytes {
            0 => Some(QUOTA_DEFAULT_BYTES),
            quota => u64::try_from(quota).ok(),
        }
    }

    /// etcd's 5 s and two election timeouts.
    pub(super) fn request_timeout_us(&self) -> u64 {
        REQUEST_TIMEOUT_BASE_US + 2 * self.config.election_timeout_us
    }

    /// What is in use counts, not what is allocated: freed pages are taken again, nobody has to
    /// defragment first.
    fn exceeds_quota(&self, cost_bytes: u64) -> bool {
        let in_use = self.engine.in_use_size_bytes();
        self.quota_bytes().is_some_and(|quota| quota <= in_use.saturating_add(cost_bytes))
    }

    /// The refusal is told once the alarm is up: who was refused finds it there.
    fn refuse_for_space(&mut self, origin: Origin) {
        if self.has_space_alarm() {
            return self.fail(origin, Unavailable::NoSpace);
        }
        self.propose_space_alarm();
        if self.background.is_alarm_proposed && self.background.refused.len() < REFUSED_MAX {
            self.background.refused.push(origin);
        } else {
            self.fail(origin, Unavailable::NoSpace);
        }
    }

    /// A member whose disk is full but for its reserve says so while it still can: from then on no
    /// member takes in what needs space (storage.md, Pages 7). The alarm stays until somebody
    /// disarms it, and comes back if that was too early.
    pub(super) fn raise_space_alarm(&mut self) {
        if self.background.is_space_short && !self.has_space_alarm() {
            self.propose_space_alarm();
        }
    }

    /// The driver tells how the disk stands.
    pub fn on_space_short(&mut self, is_short: bool, fx: &mut Effects) {
        assert!(is_short != self.background.is_space_short, "told when it changes");
        self.background.is_space_short = is_short;
        let (level, message) = match is_short {
            true => (LogLevel::Warn, "the disk is full: the member lives on its space reserve"),
            false => (LogLevel::Info, "the disk has room again: the space reserve is whole"),
        };
        fx.push(Effect::Log { level, message: message.to_string(), fields: Vec::new() });
    }

    fn has_space_alarm(&self) -> bool {
        self.engine.alarms().contains(&(self.config.member_id, AlarmType::NoSpace))
    }

    fn propose_space_alarm(&mut self) {
        if self.background.is_alarm_proposed {
            return;
        }
        let (member_id, alarm) = (self.config.member_id, AlarmType::NoSpace);
        let command = Command::Alarm { action: AlarmAction::Activate, member_id, alarm };
        self.background.is_alarm_proposed = self.propose_own(&command, Waiter::Background);
    }

    /// The alarm is up, or it was not to be had.
    pub(super) fn tell_refused(&mut self) {
        for origin in std::mem::take(&mut self.background.refused) {
            self.fail(origin, Unavailable::NoSpace);
        }
    }
}
