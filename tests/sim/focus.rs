//! What a seed may dwell on, and what that makes of its plan.
//!
//! Invariant: a plan that dwells on something is drawn as any other first, so that the rest of it
//! meets what it dwells on in every combination.

use super::plan::{FaultKind, Plan, Turnover, VOTERS_MIN_BESIDE_DAMAGE, needs_peers};
use super::random::Random;

/// What a seed dwells on. Plans that dwell on something are shorter, and denser in what it needs:
/// they are for bugs of one kind, where a swarm looks for all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Focus {
    /// Nothing: everything is drawn.
    #[default]
    Swarm,
    /// Elections, and who leads or believes to.
    Duels,
    /// What a disk keeps.
    Power,
    /// Leases under changing leaders.
    Leases,
    /// Watches that come back to history, and compaction behind them.
    Watches,
    /// What one disk forgets, and who was away for too long.
    Rot,
    /// What one disk loses, misplaces and cannot read.
    Disk,
    /// Members that come and go while leaders change.
    Members,
}

impl Focus {
    /// By its name on a command line.
    pub fn of_name(name: &str) -> Option<Focus> {
        match name {
            "swarm" => Some(Focus::Swarm),
            "duels" => Some(Focus::Duels),
            "power" => Some(Focus::Power),
            "leases" => Some(Focus::Leases),
            "watches" => Some(Focus::Watches),
            "rot" => Some(Focus::Rot),
            "disk" => Some(Focus::Disk),
            "members" => Some(Focus::Members),
            _ => None,
        }
    }
}

impl Plan {
    /// As [`Plan::draw`], dwelling on something.
    pub fn focused(seed: u64, members: usize, focus: Focus) -> Plan {
        let mut plan = Plan::draw(seed, members);
        if focus == Focus::Swarm {
            return plan;
        }
        let mut random = Random::new(seed ^ 0xf0c5_0000);
        let random = &mut random;
        plan.fault_us = random.between(6_000_000, 12_000_000);
        plan.value_size_bytes_max = plan.value_size_bytes_max.min(300);
        plan.think_us = *random.pick(&[(1_000, 10_000), (1_000, 40_000)]);
        let often = |random: &mut Random| random.between(200_000, 1_500_000);
        match focus {
            Focus::Swarm => {}
            Focus::Duels | Focus::Leases => {
                plan.dwell_on(FaultKind::Ambush, often(random));
                plan.election_timeout_us = 300_000;
                plan.heartbeat_interval_us = 30_000;
                plan.watchers = plan.watchers.min(1);
                plan.callers = 4 + plan.members;
                plan.slow_callers = plan.callers / 2;
                plan.keys = *random.pick(&[2, 8]);
            }
            Focus::Power => {
                let mean_us = often(random) * random.between(1, 5);
                plan.dwell_on(FaultKind::PowerCut, mean_us);
                plan.dwell_on(FaultKind::SlowDisk, often(random));
                plan.sync_us = *random.pick(&[(100, 400), (100, 3_000), (2_000, 20_000)]);
                plan.value_size_bytes_max = *random.pick(&[300, 5_000]);
                plan.callers = 6;
                plan.interval_pages_max = *random.pick(&[24, 64]);
                plan.interval_bytes_max = *random.pick(&[4 << 10, 16 << 10]);
                plan.shares.put += 20;
            }
            Focus::Rot | Focus::Disk => {
                if focus == Focus::Disk {
                    plan.faults.retain(|(kind, _)| *kind != FaultKind::Rot);
                    plan.dwell_on(FaultKind::StrayWrite, often(random));
                    plan.dwell_on(FaultKind::LatentError, often(random));
                } else {
                    plan.dwell_on(FaultKind::Rot, often(random));
                }
                plan.dwell_on(FaultKind::Kill, 2 * often(random));
                plan.dwell_on(FaultKind::PowerCut, 3 * often(random));
                plan.dwell_on(FaultKind::Isolate, 2 * often(random));
                plan.value_size_bytes_max = *random.pick(&[300, 5_000]);
                plan.callers = 6;
                plan.watchers = 2;
                plan.interval_pages_max = *random.pick(&[24, 256]);
                plan.interval_bytes_max = *random.pick(&[16 << 10, 64 << 10]);
                plan.log_tail_entries = *random.pick(&[10, 100]);
                plan.shares.put += 20;
            }
            Focus::Members => {
                plan.dwell_on(FaultKind::Ambush, often(random));
                plan.dwell_on(FaultKind::PowerCut, 2 * often(random));
                plan.election_timeout_us = 300_000;
                plan.heartbeat_interval_us = 30_000;
                plan.callers = 4;
                plan.turnover = Some(Turnover {
                    mean_us: random.between(100_000, 600_000),
                    members_max: members + 2,
                    voters_min: random.between(1, 4) as usize,
                    has_wipes: random.chance(500),
                });
            }
            Focus::Watches => {
                plan.dwell_on(FaultKind::BreakAll, often(random));
                plan.dwell_on(FaultKind::Throttle, often(random));
                plan.watchers = 4;
                plan.value_size_bytes_max = *random.pick(&[20, 300, 5_000]);
                plan.shares.compact = 4;
                plan.shares.delete = 20;
                plan.shares.put = 20;
                plan.shares.read += 10;
            }
        }
        if focus == Focus::Leases {
            plan.shares.lease = 60;
            plan.faults.retain(|(kind, _)| *kind != FaultKind::ClockJump);
        }
        if plan.damages()
            && let Some(turnover) = &mut plan.turnover
        {
            turnover.voters_min = turnover.voters_min.max(VOTERS_MIN_BESIDE_DAMAGE);
            turnover.has_wipes = false;
        }
        plan.calm_us = 5_000_000 + 5 * plan.election_timeout_us;
        plan
    }

    /// A kind of fault happens this often, whatever was drawn.
    fn dwell_on(&mut self, kind: FaultKind, mean_us: u64) {
        self.faults.retain(|(known, _)| *known != kind);
        if !(self.members == 1 && needs_peers(kind)) {
            self.faults.push((kind, mean_us));
        }
    }
}
