//! What a replica is told at its start, with units, and the relations between the numbers.
//!
//! Invariant: a [`Config`] that passed [`Config::check`] needs no further checks inside the crate.
//! Members may run with different values; nothing here is part of the replicated state.

use crate::error::StartError;
use crate::types::ReplicaId;

/// Settings of one replica. Times are in ticks; the caller chooses the length of a tick (10 ms
/// suits the defaults, which then are etcd's 1000 ms and 100 ms).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// This replica.
    pub id: ReplicaId,
    /// T: an election timeout is drawn from [T, 1.3 T).
    pub election_timeout_ticks: u32,
    /// A leader's heartbeats are this far apart.
    pub heartbeat_interval_ticks: u32,
    /// Ask first whether an election could be won (thesis section 9.6).
    pub is_pre_vote: bool,
    /// A leader out of contact with a quorum steps down, and who hears a leader grants no votes.
    pub is_check_quorum: bool,
    /// Serve reads from the leader's lease. Needs check-quorum and clocks whose rates differ less
    /// than `lease_margin_ticks` in T.
    pub is_lease_reads: bool,
    /// A lease ends this much before T.
    pub lease_margin_ticks: u32,
    /// After a restart this replica grants no votes for so long, because its earlier life may have
    /// heard a leader that serves lease reads. At least T wherever any member may serve them.
    pub restart_quiet_ticks: u32,
    /// A leader removed, or demoted, by an applied change steps down.
    pub is_step_down_on_removal: bool,
    /// Entries of one append message; at least one entry is always sent.
    pub append_size_bytes_max: usize,
    /// Append messages on their way to one follower.
    pub inflight_count_max: usize,
    /// Entry bytes on their way to one follower.
    pub inflight_size_bytes_max: usize,
    /// Entry bytes a leader holds uncommitted; one entry is always admitted.
    pub uncommitted_size_bytes_max: usize,
    /// Entry bytes handed out for apply and not applied yet; one entry is always handed out.
    pub applying_size_bytes_max: usize,
    /// Reads that wait, in all.
    pub reads_count_max: usize,
    /// Read-index rounds on their way; more reads join the next one.
    pub read_rounds_count_max: usize,
    /// After a hint that the leader is gone a pre-vote starts within [0, this] ticks.
    pub hint_delay_ticks_max: u32,
    /// A hinted pre-vote that came to nothing is repeated after at least this long.
    pub hint_retry_ticks_min: u32,
    /// And after at most this long.
    pub hint_retry_ticks_max: u32,
    /// How often a hint makes this replica ask.
    pub hint_attempts_count_max: u32,
    /// Seed of everything random in here. Different on every member, and at every start.
    pub seed: u64,
}

impl Config {
    /// The defaults for replica `id`, for ticks of 10 ms.
    pub fn new(id: ReplicaId) -> Config {
        Config {
            id,
            election_timeout_ticks: 100,
            heartbeat_interval_ticks: 10,
            is_pre_vote: true,
            is_check_quorum: true,
            is_lease_reads: false,
            lease_margin_ticks: 10,
            restart_quiet_ticks: 100,
            is_step_down_on_removal: true,
            append_size_bytes_max: 1 << 20,
            inflight_count_max: 256,
            inflight_size_bytes_max: 16 << 20,
            uncommitted_size_bytes_max: 64 << 20,
            applying_size_bytes_max: 16 << 20,
            reads_count_max: 1 << 16,
            read_rounds_count_max: 64,
            hint_delay_ticks_max: 5,
            hint_retry_ticks_min: 2,
            hint_retry_ticks_max: 10,
            hint_attempts_count_max: 5,
            seed: id.0,
        }
    }

    /// Checks the relations between the numbers.
    ///
    /// # Errors
    /// [`StartError::Config`] names the relation that does not hold.
    pub fn check(&self) -> Result<(), StartError> {
        let relations = [
            (self.id != ReplicaId(0), "id is 0"),
            (0 < self.heartbeat_interval_ticks, "heartbeat_interval_ticks is 0"),
            (
                self.heartbeat_interval_ticks < self.election_timeout_ticks,
                "heartbeat_interval_ticks not below election_timeout_ticks",
            ),
            (self.election_timeout_ticks <= TICKS_MAX, "election_timeout_ticks too large"),
            (
                !self.is_lease_reads || self.is_check_quorum,
                "is_lease_reads without is_check_quorum",
            ),
            (
                !self.is_lease_reads
                    || self.lease_margin_ticks + self.heartbeat_interval_ticks
                        < self.election_timeout_ticks,
                "lease_margin_ticks leaves no lease",
            ),
            (self.lease_margin_ticks <= TICKS_MAX, "lease_margin_ticks too large"),
            (0 < self.append_size_bytes_max, "append_size_bytes_max is 0"),
            (0 < self.inflight_count_max, "inflight_count_max is 0"),
            (
                self.append_size_bytes_max <= self.inflight_size_bytes_max,
                "append_size_bytes_max above inflight_size_bytes_max",
            ),
            (0 < self.uncommitted_size_bytes_max, "uncommitted_size_bytes_max is 0"),
            (0 < self.applying_size_bytes_max, "applying_size_bytes_max is 0"),
            (0 < self.reads_count_max, "reads_count_max is 0"),
            (0 < self.read_rounds_count_max, "read_rounds_count_max is 0"),
            (0 < self.hint_retry_ticks_min, "hint_retry_ticks_min is 0"),
            (
                self.hint_retry_ticks_min <= self.hint_retry_ticks_max,
                "hint_retry_ticks_min above hint_retry_ticks_max",
            ),
            (self.hint_retry_ticks_max <= TICKS_MAX, "hint_retry_ticks_max too large"),
            (self.hint_delay_ticks_max <= TICKS_MAX, "hint_delay_ticks_max too large"),
        ];
        match relations.iter().find(|(holds, _)| !holds) {
            Some((_, broken)) => Err(StartError::Config(broken)),
            None => Ok(()),
        }
    }

    /// How many different election timeouts there are: those of [T, 1.3 T).
    pub(crate) fn election_spread_ticks(&self) -> u32 {
        (self.election_timeout_ticks * 3 / 10).max(1)
    }
}

/// Randomness from a seed: the state of a splitmix64 generator (Steele, Lea, Flood 2014).
#[derive(Clone, Debug)]
pub(crate) struct Random {
    state: u64,
}

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random { state: seed }
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number of [0, count). The bias of the remainder is below 2^-32 for any u32.
    pub(crate) fn below(&mut self, count: u32) -> u32 {
        assert!(0 < count);
        (self.next() % u64::from(count)) as u32
    }

    /// A number of [low, high].
    pub(crate) fn within(&mut self, low: u32, high: u32) -> u32 {
        assert!(low <= high);
        low + self.below(high - low + 1)
    }
}

/// Longest time in ticks any setting may name.
const TICKS_MAX: u32 = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_pass_and_each_broken_relation_is_named() {
        let good = Config::new(ReplicaId(1));
        assert_eq!(good.check(), Ok(()));
        let broken = |change: fn(&mut Config)| {
            let mut config = good.clone();
            change(&mut config);
            config.check()
        };
        assert_eq!(broken(|c| c.id = ReplicaId(0)), Err(StartError::Config("id is 0")));
        assert!(broken(|c| c.heartbeat_interval_ticks = 0).is_err());
        assert!(broken(|c| c.heartbeat_interval_ticks = 100).is_err());
        assert!(broken(|c| c.inflight_size_bytes_max = 1).is_err());
        assert!(broken(|c| c.hint_retry_ticks_max = 1).is_err());
        assert!(
            broken(|c| {
                c.is_lease_reads = true;
                c.is_check_quorum = false;
            })
            .is_err()
        );
        assert!(
            broken(|c| {
                c.is_lease_reads = true;
                c.lease_margin_ticks = 90;
            })
            .is_err()
        );
    }

    #[test]
    fn one_seed_is_one_sequence_and_stays_in_range() {
        let mut one = Random::new(7);
        let mut two = Random::new(7);
        let mut other = Random::new(8);
        let mut differs = false;
        for _ in 0..1000 {
            let drawn = one.within(3, 9);
            assert!((3..=9).contains(&drawn));
            assert_eq!(drawn, two.within(3, 9));
            differs |= drawn != other.within(3, 9);
        }
        assert!(differs);
    }
}
