//! Commands that are looked at before they are proposed: in a page file that this process did not
//! write itself, a page may not be what its parent says.
//!
//! Invariants: a command whose application would meet a broken page is refused, since once in the
//! log it could not be applied, at this start or any later one; a long look is cut into slices; what
//! waits is bounded. A command may overtake one that is looked at for longer: both are under way at
//! the same time, so either order is one that their callers have to expect.
//! Source: storage.md, "Reading through the map" 1 and 4.

use std::collections::VecDeque;

use engine::mvcc::budget::WorkBudget;
use engine::mvcc::prefetch::Prefetch;
use engine::page::map::PageMap;

use super::Replica;
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
    size_bytes: usize,
}

#[derive(Debug)]
struct Look {
    command: Vec<u8>,
    waiter: Waiter,
    run: Prefetch,
    deadline_us: u64,
}

impl LookAhead {
    /// Whether nothing is being looked at.
    pub fn is_empty(&self) -> bool {
        self.looks.is_empty()
    }

    fn has_room(&self, size_bytes: usize) -> bool {
        self.looks.len() < LOOKS_MAX && self.size_bytes + size_bytes <= LOOKS_SIZE_BYTES_MAX
    }
}

impl<M: PageMap> Replica<M> {
    /// Proposes a command, once it is known that it can be applied here.
    pub(super) fn propose_checked(&mut self, command: Vec<u8>, waiter: Waiter) {
        if !self.may_have_broken_pages || self.is_installing() {
            // Pages that are being replaced are not to be read.
            return self.propose_looked_at(command, waiter);
        }
        let mut budget = WorkBudget::new(LOOK_WORK_UNITS);
        let mut run = Prefetch::default();
        match self.engine.prefetch_step(&command, &mut run, &mut budget) {
            Ok(true) => self.propose_looked_at(command, waiter),
            Ok(false) if self.look_ahead.has_room(command.len()) => {
                let deadline_us = self.now_us + self.request_timeout_us();
                self.look_ahead.size_bytes += command.len();
                self.look_ahead.looks.push_back(Look { command, waiter, run, deadline_us });
                self.needs_step = true;
            }
            Ok(false) => self.on_proposal_lost(waiter, Unavailable::TooManyRequests),
            Err(_) => self.on_proposal_lost(waiter, Unavailable::Corrupt),
        }
    }

    /// One more slice for those that wait.
    pub(super) fn run_look_ahead(&mut self) {
        if self.is_installing() {
            return;
        }
        let mut budget = WorkBudget::new(LOOK_WORK_UNITS);
        while !budget.is_spent()
            && let Some(mut look) = self.look_ahead.looks.pop_front()
        {
            if look.deadline_us <= self.now_us {
                self.look_ahead.size_bytes -= look.command.len();
                self.on_proposal_lost(look.waiter, Unavailable::TimedOut);
                continue;
            }
            let looked = self.engine.prefetch_step(&look.command, &mut look.run, &mut budget);
            if let Ok(false) = looked {
                self.look_ahead.looks.push_back(look);
                continue;
            }
            self.look_ahead.size_bytes -= look.command.len();
            match looked {
                Ok(_) => self.propose_looked_at(look.command, look.waiter),
                Err(_) => self.on_proposal_lost(look.waiter, Unavailable::Corrupt),
            }
        }
        self.needs_step |= !self.look_ahead.is_empty();
    }

    fn propose_looked_at(&mut self, command: Vec<u8>, waiter: Waiter) {
        let is_call = matches!(waiter, Waiter::Call { .. });
        if is_call && (!self.pending.has_room() || self.is_wal_full) {
            return self.on_proposal_lost(waiter, Unavailable::TooManyRequests);
        }
        if let Err(why) = self.propose(command, waiter) {
            self.on_proposal_lost(waiter, why);
        }
    }
}
