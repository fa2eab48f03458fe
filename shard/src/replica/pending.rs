//! Proposals that wait to be applied, by the counter in their entries.
//!
//! Invariants: counters rise by one; an entry of another life (member or incarnation) completes
//! nothing; each proposal is answered once, by its entry or by its deadline; at most
//! `PROPOSALS_PENDING_MAX` wait.

use std::collections::VecDeque;

use engine::api::ProposalId;

use crate::message::{Origin, ProposalClass};

/// Proposals in flight; more are refused with "too many requests".
pub(super) const PROPOSALS_PENDING_MAX: usize = 16 * 1024;

/// Who waits for a proposal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waiter {
    /// A client's call.
    Call { origin: Origin, class: ProposalClass },
    /// The expiry of a lease.
    Expiry { lease: i64 },
    /// A step in the background.
    Background,
}

#[derive(Clone, Copy, Debug)]
struct Pending {
    /// `None` once it was answered out of turn.
    waiter: Option<Waiter>,
    deadline_us: u64,
    /// The term in whose leader's hands it is; 0 while it is in nobody's.
    term: u64,
}

/// The table of pending proposals: a ring, since counters are dense.
#[derive(Debug)]
pub(super) struct PendingProposals {
    member_id: u64,
    incarnation: u64,
    /// Counter of the ring's first element.
    counter_first: u64,
    ring: VecDeque<Pending>,
}

impl PendingProposals {
    pub fn new(member_id: u64, incarnation: u64) -> PendingProposals {
        PendingProposals { member_id, incarnation, counter_first: 1, ring: VecDeque::new() }
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.ring.len()
    }

    /// Whether another client's proposal may be taken. The background always may: its number is
    /// bounded by itself.
    pub fn has_room(&self) -> bool {
        self.ring.len() < PROPOSALS_PENDING_MAX
    }

    /// The id of the next proposal.
    pub fn next_id(&self) -> ProposalId {
        let counter = self.counter_first + self.ring.len() as u64;
        ProposalId { member_id: self.member_id, incarnation: self.incarnation, counter }
    }

    /// Remembers who waits for the proposal with `next_id`.
    pub fn insert(&mut self, waiter: Waiter, deadline_us: u64, term: u64) {
        let earlier = self.ring.back().map_or(0, |pending| pending.deadline_us);
        self.ring.push_back(Pending {
            waiter: Some(waiter),
            deadline_us: deadline_us.max(earlier),
            term,
        });
    }

    /// An entry with this id was applied: who waited for it, if it is of this life and nobody
    /// answered before.
    pub fn complete(&mut self, id: ProposalId) -> Option<Waiter> {
        if (id.member_id, id.incarnation) != (self.member_id, self.incarnation) {
            return None;
        }
        let slot = usize::try_from(id.counter.checked_sub(self.counter_first)?).ok()?;
        let waiter = self.ring.get_mut(slot)?.waiter.take();
        self.pop_answered();
        waiter
    }

    /// A proposal went to the leader of `term`, or came back (0).
    pub fn hand_to(&mut self, counter: u64, term: u64) {
        let slot = counter.checked_sub(self.counter_first).and_then(|s| usize::try_from(s).ok());
        if let Some(pending) = slot.and_then(|slot| self.ring.get_mut(slot)) {
            pending.term = term;
        }
    }

    /// Takes one that was in the hands of a leader before `term`. When the first entry of a term is
    /// applied, what earlier leaders had appended is applied too or will never be.
    pub fn take_lost(&mut self, term: u64) -> Option<Waiter> {
        let is_lost = |pending: &&mut Pending| {
            pending.waiter.is_some() && 0 < pending.term && pending.term < term
        };
        let waiter = self.ring.iter_mut().find(is_lost)?.waiter.take();
        self.pop_answered();
        waiter
    }

    /// The counter of the oldest that may still be waiting.
    pub fn counter_first(&self) -> u64 {
        self.counter_first
    }

    /// Whether somebody still waits for the proposal with this counter.
    pub fn is_waiting(&self, counter: u64) -> bool {
        let slot = counter.checked_sub(self.counter_first).and_then(|s| usize::try_from(s).ok());
        let pending = slot.and_then(|slot| self.ring.get(slot));
        pending.is_some_and(|pending| pending.waiter.is_some())
    }

    /// Takes who waits for a counter: the proposal will not be applied.
    pub fn take(&mut self, counter: u64) -> Option<Waiter> {
        let (member_id, incarnation) = (self.member_id, self.incarnation);
        self.complete(ProposalId { member_id, incarnation, counter })
    }

    /// Takes one that is past its deadline.
    pub fn take_overdue(&mut self, now_us: u64) -> Option<Waiter> {
        self.pop_answered();
        let first = self.ring.front_mut()?;
        if now_us < first.deadline_us {
            return None;
        }
        let waiter = first.waiter.take();
        self.pop_answered();
        waiter
    }

    /// When the next one is overdue.
    pub fn next_deadline_us(&self) -> Option<u64> {
        self.ring.front().map(|pending| pending.deadline_us)
    }

    fn pop_answered(&mut self) {
        while self.ring.front().is_some_and(|pending| pending.waiter.is_none()) {
            self.ring.pop_front();
            self.counter_first += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(counter: u64) -> ProposalId {
        ProposalId { member_id: 1, incarnation: 4, counter }
    }

    #[test]
    fn proposals_complete_once_and_in_any_order() {
        let mut pending = PendingProposals::new(1, 4);
        for lease in 0..3 {
            assert_eq!(pending.next_id().counter, 1 + lease as u64);
            pending.insert(Waiter::Expiry { lease }, 100, 0);
        }
        assert_eq!(pending.complete(id(2)), Some(Waiter::Expiry { lease: 1 }));
        assert_eq!(pending.complete(id(2)), None);
        assert_eq!(pending.complete(id(1)), Some(Waiter::Expiry { lease: 0 }));
        assert_eq!(pending.len(), 1);
        assert_eq!(pending.next_id().counter, 4);
        assert_eq!(pending.complete(id(9)), None);
    }

    #[test]
    fn an_entry_of_an_earlier_life_completes_nothing() {
        let mut pending = PendingProposals::new(1, 4);
        pending.insert(Waiter::Background, 100, 0);
        assert_eq!(pending.complete(ProposalId { incarnation: 3, ..id(1) }), None);
        assert_eq!(pending.complete(ProposalId { member_id: 2, ..id(1) }), None);
        assert_eq!(pending.complete(id(1)), Some(Waiter::Background));
    }

    #[test]
    fn overdue_ones_are_taken_and_their_entries_then_complete_nothing() {
        let mut pending = PendingProposals::new(1, 4);
        pending.insert(Waiter::Expiry { lease: 7 }, 100, 0);
        pending.insert(Waiter::Background, 50, 0);
        assert_eq!(pending.take_overdue(99), None);
        assert_eq!(pending.take_overdue(100), Some(Waiter::Expiry { lease: 7 }));
        assert_eq!(pending.complete(id(1)), None);
        assert_eq!(pending.take_overdue(100), Some(Waiter::Background));
        assert_eq!(pending.take_overdue(u64::MAX), None);
        assert_eq!(pending.next_deadline_us(), None);
    }

    #[test]
    fn what_an_earlier_leader_held_is_lost_when_the_next_term_begins() {
        let mut pending = PendingProposals::new(1, 4);
        for lease in 1..=3 {
            pending.insert(Waiter::Expiry { lease }, 100, lease as u64);
        }
        pending.insert(Waiter::Background, 100, 0);
        pending.hand_to(2, 0);
        assert_eq!(pending.take_lost(3), Some(Waiter::Expiry { lease: 1 }));
        assert_eq!(pending.take_lost(3), None, "one is held again, one is the new leader's");
        assert_eq!(pending.take_lost(4), Some(Waiter::Expiry { lease: 3 }));
        assert!(pending.is_waiting(2) && pending.is_waiting(4));
        assert_eq!(pending.complete(id(3)), None);
    }
}
