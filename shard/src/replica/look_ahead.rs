//! Commands that are looked at before they are proposed: in a page file that this process did not
//! write itself, a page may not be what its parent says.
//!
//! Invariants: a command whose application would meet a broken page waits until the page is mended
//! from another member, or is refused where there is none, since once in the log it could not be
//! applied; a long look is cut into slices; what waits is bounded. A command may overtake one that
//! is looked at for longer: both are under way at the same time, so either order is one that their
//! callers have to expect.
//! Source: storage.md, "Reading through the map" 1 and 4.

use std::collections::VecDeque;

use bytes::BytesMut;
use engine::mvcc::budget::WorkBudget;
use engine::mvcc::prefetch::Prefetch;
use engine::page::map::{Corruption, PageMap};
use raft::Term;

use super::Replica;
use super::damage::page_repair::Need;
use super::pending::Waiter;
use crate::message::Unavailable;

/// Commands looked at in slices; more are refused.
const LOOKS_MAX: usize = 64;
/// Bytes of them.
const LOOKS_SIZE_BYTES_MAX: usize = 16 << 20;
/// Units of engine work that a command's first slice gets, and all others together in a step.
const LOOK_WORK_UNITS: u32 = 1_000;

/// Commands that are not proposed yet.
#[derive(Debug, Default)]
pub(super) struct LookAhead {
    /// In turn.
    looks: VecDeque<Look>,
    /// Met a broken page, by its number, and wait until it is mended.
    waiting: Vec<(u64, Look)>,
    size_bytes: usize,
}

#[derive(Debug)]
struct Look {
    command: BytesMut,
    waiter: Waiter,
    run: Prefetch,
    deadline_us: u64,
    /// In which it was begun.
    term: Term,
}

impl LookAhead {
    /// Whether nothing is being looked at.
    pub fn is_empty(&self) -> bool {
        self.looks.is_empty() && self.waiting.is_empty()
    }

    fn has_room(&self, size_bytes: usize) -> bool {
        let count = self.looks.len() + self.waiting.len();
        count < LOOKS_MAX && self.size_bytes + size_bytes <= LOOKS_SIZE_BYTES_MAX
    }

    /// A page was mended: what waits for it goes on.
    pub fn resume(&mut self, page: u64) {
        let is_concerned = |waiting: &mut (u64, Look)| waiting.0 == page;
        self.looks.extend(self.waiting.extract_if(.., is_concerned).map(|(_, look)| look));
    }

    /// Takes what waited too long for a page, or waits for one that is given up.
    fn take_refused(&mut self, page: Option<u64>, now_us: u64) -> Vec<Look> {
        let is_refused = |waiting: &mut (u64, Look)| match page {
            Some(page) => waiting.0 == page,
            None => waiting.1.deadline_us <= now_us,
        };
        let refused = self.waiting.extract_if(.., is_refused).map(|(_, look)| look);
        let refused: Vec<Look> = refused.collect();
        self.size_bytes -= refused.iter().map(|look| look.command.len()).sum::<usize>();
        refused
    }
}

impl<M: PageMap> Replica<M> {
    /// Proposes a command, once it is known that it can be applied here.
    pub(super) fn propose_checked(&mut self, command: BytesMut, waiter: Waiter) {
        if !self.may_have_broken_pages || self.is_store_away() {
            // Pages that are being replaced are not to be read.
            return self.propose_looked_at(command, waiter);
        }
        let mut budget = WorkBudget::new(LOOK_WORK_UNITS);
        let mut run = Prefetch::default();
        match self.engine.prefetch_step(&command, &mut run, &mut budget) {
            Ok(true) => self.propose_looked_at(command, waiter),
            looked if self.look_ahead.has_room(command.len()) => {
                let deadline_us = self.now_us + self.request_timeout_us();
                self.look_ahead.size_bytes += command.len();
                let term = self.raft.soft_state().term;
                self.look_again(Look { command, waiter, run, deadline_us, term }, looked.err());
            }
            Ok(false) => self.on_proposal_lost(waiter, Unavailable::TooManyRequests),
            Err(corruption) => self.on_proposal_lost(waiter, self.refusal_of(&corruption)),
        }
    }

    /// A look that is not over goes on in the next step, or when the page that it met is mended.
    fn look_again(&mut self, look: Look, met: Option<Corruption>) {
        match met {
            None => {
                self.look_ahead.looks.push_back(look);
                self.needs_step = true;
            }
            Some(corruption) if self.on_broken_page(&corruption, Need::Read) => {
                self.look_ahead.waiting.push((corruption.page.0, look));
            }
            Some(corruption) => {
                self.look_ahead.size_bytes -= look.command.len();
                self.on_proposal_lost(look.waiter, self.refusal_of(&corruption));
            }
        }
    }

    /// A broken page could not be mended: what needs it is refused.
    pub(super) fn refuse_looks_at(&mut self, page: u64, why: Unavailable) {
        for look in self.look_ahead.take_refused(Some(page), self.now_us) {
            self.on_proposal_lost(look.waiter, why);
        }
    }

    /// One more slice for those that wait.
    pub(super) fn run_look_ahead(&mut self) {
        for look in self.look_ahead.take_refused(None, self.now_us) {
            self.on_proposal_lost(look.waiter, Unavailable::TimedOut);
        }
        let mut budget = WorkBudget::new(LOOK_WORK_UNITS);
        while !budget.is_spent()
            && let Some(mut look) = self.look_ahead.looks.pop_front()
        {
            let is_expiry = matches!(look.waiter, Waiter::Expiry { .. });
            if is_expiry && look.term != self.raft.soft_state().term {
                // Leadership began anew since: so did the lease, which may have been renewed.
                self.look_ahead.size_bytes -= look.command.len();
                continue;
            }
            if look.deadline_us <= self.now_us {
                self.look_ahead.size_bytes -= look.command.len();
                self.on_proposal_lost(look.waiter, Unavailable::TimedOut);
                continue;
            }
            match self.engine.prefetch_step(&look.command, &mut look.run, &mut budget) {
                Ok(true) => {
                    self.look_ahead.size_bytes -= look.command.len();
                    self.propose_looked_at(look.command, look.waiter);
                }
                looked => self.look_again(look, looked.err()),
            }
        }
        self.needs_step |= !self.look_ahead.looks.is_empty();
    }

    fn propose_looked_at(&mut self, command: BytesMut, waiter: Waiter) {
        let is_call = matches!(waiter, Waiter::Call { .. });
        if is_call && (!self.pending.has_room() || self.is_wal_full) {
            return self.on_proposal_lost(waiter, Unavailable::TooManyRequests);
        }
        if let Err(why) = self.propose(command, waiter) {
            self.on_proposal_lost(waiter, why);
        }
    }
}
