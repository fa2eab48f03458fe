//! Ambushes: trouble for those who lead, or are about to, at the moments that matter.
//!
//! Faults drawn one by one seldom meet: that a vote is lost shows only if who got it vanishes before
//! its first entry and somebody else asks in the same term; that a leader's own write does not count
//! only if it loses its power while who holds the entry is away. An ambush is a few blows that
//! belong together. Invariant: what it does, single faults could do as well.
//! Source: fact sheet of scenarios A to D; Raft thesis figure 3.7.

use raft::Role;

use super::network::Host;
use super::queue::Happening;
use super::session::Phase;
use super::trace::Level;
use super::world::World;

/// What waits for the next change of a role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ambush {
    /// Nothing.
    None,
    /// The next election is to go wrong.
    Election,
    /// Two leaders are to follow each other, and the first is to come back.
    Return {
        /// Who led.
        first: usize,
        /// Who did next, if anybody yet.
        second: Option<usize>,
    },
}

/// One part of an ambush.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Blow {
    /// Nothing gets from one member to the other, or back.
    Sever {
        /// One of them.
        member: usize,
        /// The other.
        other: usize,
        /// How long.
        for_us: u64,
    },
    /// Nothing gets from or to a member.
    Isolate {
        /// Which one.
        member: usize,
        /// How long.
        for_us: u64,
    },
    /// A process stands still.
    Pause {
        /// Whose.
        member: usize,
        /// How long.
        for_us: u64,
    },
    /// Syncs of a member's WAL take long.
    Slow {
        /// Which one.
        member: usize,
        /// So much longer.
        extra_us: u64,
        /// How long it does so.
        for_us: u64,
    },
    /// The power of a member goes while its next write is on its way.
    Doom {
        /// Which one.
        member: usize,
    },
    /// The power of a member goes.
    PowerCut {
        /// Which one.
        member: usize,
    },
    /// A process is killed.
    Kill {
        /// Whose.
        member: usize,
    },
}

impl World {
    /// Lays an ambush for who leads now, or, failing that, for who does next.
    pub(super) fn lay_ambush(&mut self) {
        let Some(leader) = self.leading_member() else {
            self.ambush = Ambush::Election;
            return;
        };
        let count = self.members.len();
        let near = (leader + 1 + self.random.slot(count - 1)) % count;
        let others: Vec<usize> = (0..count).filter(|s| *s != leader && *s != near).collect();
        let far = if others.is_empty() { near } else { *self.random.pick(&others) };
        let timeout_us = self.plan.election_timeout_us;
        let long_us = self.random.between(2 * timeout_us, 5 * timeout_us);
        let short_us = self.random.between(timeout_us / 10, timeout_us);
        match self.random.between(0, 5) {
            // It goes on in the belief that it leads, while others elect and write.
            0 => {
                let for_us = self.random.between(timeout_us / 2, 4 * timeout_us);
                self.strike_in(0, Blow::Pause { member: leader, for_us });
                for other in (0..count).filter(|other| *other != leader) {
                    // What was held back reaches it while it still thinks so, or later.
                    let more = *self.random.pick(&[timeout_us / 20, timeout_us / 4, timeout_us]);
                    let for_us = for_us + self.random.between(0, more);
                    self.strike_in(0, Blow::Sever { member: leader, other, for_us });
                }
            }
            // Who lacks the newest entries is the first to notice that the leader is gone.
            1 => {
                self.strike_in(0, Blow::Sever { member: leader, other: far, for_us: short_us });
                let blow = match self.random.between(0, 3) {
                    0 => Blow::PowerCut { member: leader },
                    1 => Blow::Kill { member: leader },
                    _ => Blow::Isolate { member: leader, for_us: long_us },
                };
                self.strike_in(short_us * 3 / 4, blow);
            }
            // What it has not synced yet another one has, who is then away.
            2 => {
                let extra_us = self.random.between(5_000, 200_000);
                self.strike_in(0, Blow::Sever { member: leader, other: far, for_us: short_us });
                self.strike_in(0, Blow::Slow { member: leader, extra_us, for_us: short_us });
                let at_us = self.random.between(short_us / 4, short_us);
                self.strike_in(at_us, Blow::PowerCut { member: leader });
                self.strike_in(at_us, Blow::Isolate { member: near, for_us: long_us });
            }
            // Its own entries meet those of the next leader, who is away when it leads again.
            3 => {
                let for_us = self.random.between(3 * timeout_us / 2, 5 * timeout_us / 2);
                self.strike_in(0, Blow::Isolate { member: leader, for_us });
                self.ambush = Ambush::Return { first: leader, second: None };
            }
            // An election, with trouble in its middle.
            _ => {
                let for_us = self.random.between(timeout_us * 3 / 4, 5 * timeout_us / 2);
                self.strike_in(0, Blow::Isolate { member: leader, for_us });
                self.ambush = Ambush::Election;
            }
        }
    }

    /// A member's role changed: whoever walks into an ambush as a candidate or leader.
    pub(super) fn spring_ambush(&mut self, slot: usize) {
        if self.phase != Phase::Faults {
            return;
        }
        let role = self.members[slot].raft_status().map(|status| status.role);
        match (self.ambush, role) {
            (Ambush::Election, Some(Role::Candidate)) => self.ambush_candidate(slot),
            (Ambush::Election, Some(Role::Leader)) => self.ambush_leader(slot),
            (Ambush::Return { first, second: None }, Some(Role::Leader)) if slot != first => {
                let timeout_us = self.plan.election_timeout_us;
                let for_us = self.random.between(2 * timeout_us, 4 * timeout_us);
                self.strike(Blow::Isolate { member: slot, for_us });
                self.ambush = Ambush::Return { first, second: Some(slot) };
            }
            (Ambush::Return { first, second: Some(second) }, Some(Role::Leader))
                if slot == first =>
            {
                self.ambush_return(first, second);
            }
            _ => {}
        }
    }

    fn ambush_candidate(&mut self, slot: usize) {
        let voter = self.somebody_but(slot);
        let member = if self.random.chance(700) { voter } else { slot };
        let extra_us = self.random.between(1_000, 60_000);
        self.strike(Blow::Slow { member, extra_us, for_us: 2 * extra_us });
        if self.random.chance(700) {
            self.strike(Blow::Doom { member });
        }
    }

    fn ambush_leader(&mut self, slot: usize) {
        self.ambush = Ambush::None;
        let voter = self.somebody_but(slot);
        let timeout_us = self.plan.election_timeout_us;
        let for_us = self.random.between(timeout_us, 4 * timeout_us);
        let soon_us = *self.random.pick(&[0, 0, 1_000, 20_000]);
        let blow = match self.random.chance(700) {
            true => Blow::Isolate { member: slot, for_us },
            false => Blow::PowerCut { member: slot },
        };
        self.strike_in(soon_us, blow);
        let soon_us = *self.random.pick(&[0, 1_000, 20_000]);
        let blow = match self.random.between(0, 3) {
            0 => Blow::Kill { member: voter },
            1 => Blow::PowerCut { member: voter },
            _ => Blow::Isolate { member: voter, for_us },
        };
        self.strike_in(soon_us, blow);
    }

    /// Thesis figure 3.7: the first leader leads again, its old entries are on their way to others,
    /// and it vanishes before an entry of its new term is durable; who helped it is away.
    fn ambush_return(&mut self, first: usize, second: usize) {
        self.ambush = Ambush::None;
        let extra_us = self.random.between(10_000, 100_000);
        self.strike(Blow::Slow { member: first, extra_us, for_us: 2 * extra_us });
        let after_us = self.random.between(1_000, extra_us);
        self.strike_in(after_us, Blow::PowerCut { member: first });
        let timeout_us = self.plan.election_timeout_us;
        let others = (0..self.members.len()).filter(|slot| *slot != first && *slot != second);
        for member in others.collect::<Vec<usize>>() {
            let for_us = self.random.between(3 * timeout_us, 6 * timeout_us);
            self.strike_in(after_us, Blow::Isolate { member, for_us });
        }
    }

    fn somebody_but(&mut self, slot: usize) -> usize {
        let others: Vec<usize> = (0..self.members.len()).filter(|s| *s != slot).collect();
        *self.random.pick(&others)
    }

    /// The running member that leads the highest term.
    fn leading_member(&self) -> Option<usize> {
        let statuses = self.members.iter().enumerate().filter_map(|(slot, member)| {
            let status = member.raft_status()?;
            (status.role == Role::Leader).then_some((status.term, slot))
        });
        statuses.max().map(|(_, slot)| slot)
    }

    fn strike_in(&mut self, after_us: u64, blow: Blow) {
        self.queue.push(self.now_us + after_us, Happening::Struck { blow });
    }

    /// One blow falls.
    pub(super) fn strike(&mut self, blow: Blow) {
        if self.phase != Phase::Faults {
            return;
        }
        self.trace.say(Level::Faults, self.now_us, || format!("ambush: {blow:?}"));
        let until = |for_us: u64| self.now_us + for_us;
        match blow {
            Blow::Sever { member, other, for_us } => self.sever(member, other, for_us),
            Blow::Isolate { member, for_us } => {
                for other in (0..self.members.len()).filter(|other| *other != member) {
                    self.sever(member, other, for_us);
                }
            }
            Blow::Pause { member, for_us } => {
                let until_us = until(for_us);
                if let Some(process) = &mut self.members[member].process {
                    process.paused_until_us = until_us;
                }
            }
            Blow::Slow { member, extra_us, for_us } => {
                self.members[member].slow_wal = (extra_us, until(for_us));
            }
            Blow::Doom { member } => self.members[member].is_doomed = true,
            Blow::PowerCut { member } => self.cut_power(member),
            Blow::Kill { member } => self.kill(member),
        }
    }

    fn sever(&mut self, member: usize, other: usize, for_us: u64) {
        let heals_us = self.now_us + for_us;
        for (from, to) in [(member, other), (other, member)] {
            let cut = self.network.cut(Host::Member(from), Host::Member(to));
            self.queue.push(heals_us, Happening::Heals { cut });
        }
        if self.random.chance(300) {
            // What is on its way is lost with its connection, or comes when the cut has healed.
            for link in self.network.links_between(Host::Member(member), Host::Member(other)) {
                let at_us = self.now_us + self.random.between(0, for_us);
                self.queue.push(at_us, Happening::Breaks { link });
            }
        }
    }
}
