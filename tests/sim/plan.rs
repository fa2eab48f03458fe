//! What a seed is about: how big the cluster is, which faults exist and how strong they are, what
//! clients do. Drawn once; swarm testing leaves most of it out of most seeds, so that what is left
//! meets in every combination.
//! Source: Groce et al., Swarm Testing (2012); issue 5.

use super::clock::RATE_ONE;
use super::network::Travel;
use super::random::Random;
use super::sectors::Survival;

/// A kind of fault that happens again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FaultKind {
    /// A process is killed: what it wrote stays readable.
    Kill,
    /// The power of a member goes: any subset of what was not synced stays.
    PowerCut,
    /// The power of all members goes.
    Blackout,
    /// A member is asked to stop.
    Stop,
    /// A process stands still.
    Pause,
    /// A clock jumps ahead.
    ClockJump,
    /// Nothing gets from one member to another.
    CutOneWay,
    /// Nothing gets from or to a member.
    Isolate,
    /// A connection breaks.
    Break,
    /// All connections of a member break.
    BreakAll,
    /// Syncs take long.
    SlowDisk,
    /// One write or sync fails: the process ends.
    IoError,
    /// Nothing more fits on a disk for a while: a process that needs room ends.
    FullDisk,
    /// The network is slow.
    Throttle,
    /// Blows that belong together, for who leads or is about to; see `ambush`.
    Ambush,
    /// What one member's disk holds changes by itself; see `rot`.
    Rot,
    /// A write of pages that its disk says is done never happened, or landed elsewhere; see `stray`.
    StrayWrite,
    /// A block of its disk cannot be read any more; see `latent`.
    LatentError,
}

/// All kinds.
pub const KINDS: [FaultKind; 18] = [
    FaultKind::Kill,
    FaultKind::PowerCut,
    FaultKind::Blackout,
    FaultKind::Stop,
    FaultKind::Pause,
    FaultKind::ClockJump,
    FaultKind::CutOneWay,
    FaultKind::Isolate,
    FaultKind::Break,
    FaultKind::BreakAll,
    FaultKind::SlowDisk,
    FaultKind::IoError,
    FaultKind::FullDisk,
    FaultKind::Throttle,
    FaultKind::Ambush,
    FaultKind::Rot,
    FaultKind::StrayWrite,
    FaultKind::LatentError,
];

/// Kinds that one member's disk alone suffers: what it loses, others hold.
const DAMAGES: [FaultKind; 3] = [FaultKind::Rot, FaultKind::StrayWrite, FaultKind::LatentError];
/// Of them, those that are drawn apart, so that plans without them are what they were.
const DRAWN_APART: [FaultKind; 2] = [FaultKind::StrayWrite, FaultKind::LatentError];

/// What clients do, as shares of a sum.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct Shares {
    pub put: u64,
    pub read: u64,
    pub delete: u64,
    pub txn: u64,
    pub lease: u64,
    pub compact: u64,
    pub mistake: u64,
}

/// Members come and go, as one operator asks for it.
#[derive(Clone, Debug)]
pub struct Turnover {
    /// Mean time between two changes.
    pub mean_us: u64,
    /// Not more members than this.
    pub members_max: usize,
    /// Not fewer voters than this.
    pub voters_min: usize,
    /// Directories are wiped, one at a time. What was acknowledged by it and one more member has
    /// then one copy; see `members`.
    pub has_wipes: bool,
}

/// See the file's head.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The seed.
    pub seed: u64,
    /// Members.
    pub members: usize,
    /// A member has so many cores at most.
    pub cores_max: u16,
    /// Clients that call.
    pub callers: usize,
    /// So many of a thousand clients speak gRPC.
    pub grpc_permille: u64,
    /// So many of the callers take their time: they ask again long after others led and wrote.
    pub slow_callers: usize,
    /// Watches besides the one that hears everything.
    pub watchers: usize,
    /// How long faults go on, microseconds.
    pub fault_us: u64,
    /// How long clients go on without faults.
    pub calm_us: u64,
    /// Kinds of faults that exist, with the mean time between two of a kind.
    pub faults: Vec<(FaultKind, u64)>,
    /// The only member whose disk is damaged: what it loses, others hold.
    pub rotten: usize,
    /// What power cuts leave.
    pub survivals: Vec<Survival>,
    /// The network at its best.
    pub travel: Travel,
    /// Least and most time of a sync.
    pub sync_us: (u64, u64),
    /// Rates of clocks differ by at most so many millionths.
    pub clock_skew: u64,
    /// Least and most time between two calls of a client.
    pub think_us: (u64, u64),
    /// Calls of a client that wait for their answers at a time.
    pub pipeline: usize,
    /// Mean time between two moves of leadership that are asked for.
    pub move_leader_us: Option<u64>,
    /// How members come and go, if they do.
    pub turnover: Option<Turnover>,
    /// Changes of members that would lose the quorum are refused at the door.
    pub is_strict_reconfig: bool,
    /// Keys.
    pub keys: usize,
    /// Largest value.
    pub value_size_bytes_max: usize,
    /// What clients do.
    pub shares: Shares,
    /// Time-outs of the members.
    pub election_timeout_us: u64,
    /// See `election_timeout_us`.
    pub heartbeat_interval_us: u64,
    /// Size of checkpoint intervals.
    pub interval_pages_max: u32,
    /// See `interval_pages_max`.
    pub interval_bytes_max: u64,
    /// Applied entries kept for followers: few, so that who was away is sent pages.
    pub log_tail_entries: u64,
    /// Size of WAL segments: small ones are left, released and recycled within a run.
    pub wal_segment_size_bytes: u64,
}

impl Plan {
    /// What `seed` is about, in a cluster of `members`.
    pub fn draw(seed: u64, members: usize) -> Plan {
        let mut random = Random::new(seed ^ 0x5157_a7e1);
        let random = &mut random;
        let mut faults = Vec::new();
        let mut apart = Random::new(seed ^ 0x0d15_c000);
        for kind in KINDS {
            let is_apart = DRAWN_APART.contains(&kind);
            let drawn = if is_apart { &mut apart } else { &mut *random };
            let permille = match kind {
                FaultKind::Ambush => 600,
                _ if is_apart => 150,
                _ => 300,
            };
            let is_there = drawn.chance(permille);
            let mean_us = drawn.between(500_000, 8_000_000);
            if is_there && !(members == 1 && needs_peers(kind)) {
                faults.push((kind, mean_us));
            }
        }
        let value_size_bytes_max = *random.pick(&[20, 20, 300, 5_000, 40_000]);
        // The history keeps every value: big ones come at a leisurely pace.
        let paces: &[(u64, u64)] = match value_size_bytes_max {
            ..1_000 => &[(2_000, 6_000), (1_000, 20_000), (1_000, 50_000), (1_000, 300_000)],
            _ => &[(1_000, 50_000), (1_000, 300_000)],
        };
        let election_timeout_us = *random.pick(&[300_000, 1_000_000, 1_000_000, 2_000_000]);
        let rots = faults.iter().any(|(kind, _)| DAMAGES.contains(kind));
        Plan {
            seed,
            members,
            cores_max: *Random::new(seed ^ 0xc07e_5000).pick(&[1, 1, 2, 3]),
            grpc_permille: *Random::new(seed ^ 0x6b9c_0000).pick(&[0, 500, 500, 1_000]),
            callers: random.between(1, 7) as usize,
            slow_callers: 0,
            watchers: random.between(0, 5) as usize,
            fault_us: random.between(4_000_000, 16_000_000),
            calm_us: 5_000_000 + 5 * election_timeout_us,
            faults,
            rotten: random.slot(members),
            survivals: draw_survivals(random),
            travel: draw_travel(random),
            sync_us: *random.pick(&[(20, 60), (100, 400), (100, 3_000), (2_000, 20_000)]),
            clock_skew: *random.pick(&[0, 100, 10_000, 50_000]),
            think_us: *random.pick(paces),
            pipeline: *random.pick(&[1, 1, 2, 8]),
            move_leader_us: (1 < members && random.chance(250))
                .then(|| random.between(200_000, 4_000_000)),
            turnover: draw_turnover(random, members, rots),
            is_strict_reconfig: random.chance(500),
            keys: *random.pick(&[2, 8, 40, 300]),
            value_size_bytes_max,
            shares: draw_shares(random),
            election_timeout_us,
            heartbeat_interval_us: election_timeout_us / 10,
            interval_pages_max: *random.pick(&[24, 64, 256, 4_096]),
            interval_bytes_max: *random.pick(&[16 << 10, 64 << 10, 1 << 20]),
            log_tail_entries: *random.pick(&[10, 100, 1_000, 5_000]),
            wal_segment_size_bytes: *random.pick(&[2 << 20, 2 << 20, 4 << 20]),
        }
    }

    /// The steady load that a benchmark measures: no faults, a minute of it.
    pub fn steady(seed: u64, members: usize) -> Plan {
        let mut plan = Plan::draw(seed, members);
        plan.faults.clear();
        plan.move_leader_us = None;
        plan.turnover = None;
        plan.fault_us = 60_000_000;
        plan.cores_max = 1;
        plan.grpc_permille = 0;
        plan.callers = 4;
        plan.watchers = 2;
        plan.think_us = (2_000, 10_000);
        plan.pipeline = 1;
        plan.keys = 300;
        plan.value_size_bytes_max = 300;
        plan.sync_us = (100, 400);
        plan.clock_skew = 100;
        plan.travel = Travel {
            latency_us: 100,
            jitter_us: 50,
            spike_permille: 0,
            spike_us: 0,
            rate_bytes_per_ms: 0,
            excise_per_million: 0,
        };
        plan.shares =
            Shares { put: 40, read: 40, delete: 5, txn: 10, lease: 5, compact: 0, mistake: 0 };
        plan.election_timeout_us = 1_000_000;
        plan.heartbeat_interval_us = 100_000;
        plan.interval_pages_max = 1_024;
        plan.interval_bytes_max = 1 << 20;
        plan.log_tail_entries = 5_000;
        plan.wal_segment_size_bytes = 4 << 20;
        plan
    }

    /// Members that there may be at a time.
    pub fn members_max(&self) -> usize {
        self.turnover.as_ref().map_or(self.members, |turnover| turnover.members_max)
    }

    /// Whether a member's disk may hold something else than was written there.
    pub fn may_rot(&self, member: usize) -> bool {
        member == self.rotten && self.damages()
    }

    /// Whether one member's disk loses what was durable.
    pub fn damages(&self) -> bool {
        DAMAGES.iter().any(|kind| self.has(*kind))
    }

    /// Whether faults of a kind happen.
    pub fn has(&self, kind: FaultKind) -> bool {
        self.faults.iter().any(|(there, _)| *there == kind)
    }

    /// How fast a leader's clock may run against the world's, in a thousand: the fastest clock,
    /// and a little for rounding. Jumps are without bound.
    pub fn clock_rate_permille_max(&self) -> Option<u64> {
        let has_jumps = self.faults.iter().any(|(kind, _)| *kind == FaultKind::ClockJump);
        (!has_jumps).then(|| (RATE_ONE + self.clock_skew).div_ceil(1_000) + 1)
    }
}

pub(super) fn needs_peers(kind: FaultKind) -> bool {
    matches!(
        kind,
        FaultKind::CutOneWay
            | FaultKind::Isolate
            | FaultKind::Blackout
            | FaultKind::Ambush
            | FaultKind::Rot
            | FaultKind::StrayWrite
            | FaultKind::LatentError
    )
}

/// Voters that stay where one disk is damaged: what it loses is to be held by another one, at all
/// times.
pub(super) const VOTERS_MIN_BESIDE_DAMAGE: usize = 3;

fn draw_turnover(random: &mut Random, members: usize, rots: bool) -> Option<Turnover> {
    let turnover = Turnover {
        mean_us: random.between(200_000, 2_000_000),
        members_max: members + random.between(1, 4) as usize,
        voters_min: random.between(if rots { VOTERS_MIN_BESIDE_DAMAGE as u64 } else { 1 }, 4)
            as usize,
        has_wipes: random.chance(500) && !rots,
    };
    random.chance(300).then_some(turnover)
}

fn draw_survivals(random: &mut Random) -> Vec<Survival> {
    let all = [
        Survival::Nothing,
        Survival::Everything,
        Survival::Each { permille: 500 },
        Survival::Each { permille: 950 },
        Survival::Prefix,
        Survival::Suffix,
    ];
    let mut drawn: Vec<Survival> = all.into_iter().filter(|_| random.chance(500)).collect();
    if drawn.is_empty() {
        drawn.push(Survival::Each { permille: 500 });
    }
    drawn
}

fn draw_travel(random: &mut Random) -> Travel {
    Travel {
        latency_us: *random.pick(&[20, 100, 100, 1_000, 20_000]),
        jitter_us: *random.pick(&[0, 50, 500, 5_000]),
        spike_permille: *random.pick(&[0, 0, 1, 20]),
        spike_us: *random.pick(&[5_000, 100_000, 700_000]),
        rate_bytes_per_ms: 0,
        excise_per_million: *random.pick(&[0, 0, 0, 100]),
    }
}

fn draw_shares(random: &mut Random) -> Shares {
    let mut share = |usual: u64| if random.chance(250) { 0 } else { random.between(1, usual + 1) };
    Shares {
        put: 1 + share(40),
        read: share(40),
        delete: share(10),
        txn: share(20),
        lease: share(15),
        compact: share(2),
        mistake: share(3),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_differ_and_every_fault_is_drawn_somewhere() {
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..100 {
            let plan = Plan::draw(seed, 3);
            assert_eq!(format!("{plan:?}"), format!("{:?}", Plan::draw(seed, 3)));
            seen.extend(plan.faults.iter().map(|(kind, _)| *kind));
            assert!(plan.heartbeat_interval_us < plan.election_timeout_us);
        }
        assert_eq!(seen.len(), KINDS.len());
    }
}
