//! What all sessions of a core share while a step runs: the time, the calls they make, the figures
//! they count, the memory they may still take.
//!
//! Invariant: what is reserved of the input budget is given back exactly once.

use super::entries::Entries;
use crate::config::Config;
use crate::input::{ConnectionId, CoreId};
use crate::message::{Call, LeaderNews, Message, Origin};
use crate::metrics::Metrics;
use crate::random::Random;

/// Input that unfinished requests of a core may hold, bytes.
pub(crate) const INPUT_BUDGET_BYTES: usize = 64 << 20;

/// Shared by the sessions of a core.
pub(crate) struct Context {
    /// Configuration of the shard.
    pub config: Config,
    /// Now, microseconds.
    pub now_us: u64,
    /// Where entries are laid out.
    pub entries: Entries,
    /// Calls made in this step, to be routed.
    pub calls: Vec<Message>,
    /// Metrics requests made in this step: tokens.
    pub metrics_reads: Vec<u64>,
    /// The core's figures.
    pub metrics: Metrics,
    /// Whether a leader is known.
    pub has_leader: bool,
    /// This member is a learner.
    pub is_learner: bool,
    /// Store revision last heard of, for answers that need no replica.
    pub revision: i64,
    /// Since when none is.
    leaderless_since_us: Option<u64>,
    /// The member is stopping: nothing new is taken.
    pub is_stopping: bool,
    /// Raft term last heard of, for answers that need no replica.
    pub raft_term: u64,
    input_reserved_bytes: usize,
    random: Random,
}

impl Context {
    /// A context with nothing in it.
    pub fn new(config: Config, methods: usize) -> Context {
        let random = Random::new(config.seed ^ u64::from(config.core.0).rotate_left(32));
        Context {
            config,
            now_us: 0,
            entries: Entries::default(),
            calls: Vec::new(),
            metrics_reads: Vec::new(),
            metrics: Metrics::new(methods),
            has_leader: false,
            is_learner: false,
            revision: 0,
            leaderless_since_us: Some(0),
            is_stopping: false,
            raft_term: 0,
            input_reserved_bytes: 0,
            random,
        }
    }

    /// Calls the owner of the default keyspace.
    pub fn call(&mut self, connection: ConnectionId, stream: u64, call: Call) {
        let origin = Origin { core: self.core(), connection, stream };
        self.calls.push(Message::Call(origin, call));
    }

    /// What the owner of the keyspace knows of the leader.
    pub fn observe_leader(&mut self, news: LeaderNews) {
        let LeaderNews { has_leader, raft_term, revision, is_learner } = news;
        self.is_learner = is_learner;
        self.revision = revision;
        self.has_leader = has_leader;
        self.raft_term = raft_term;
        self.leaderless_since_us = match self.leaderless_since_us {
            _ if has_leader => None,
            None => Some(self.now_us),
            since => since,
        };
    }

    /// Whether streams that need a leader are to be cut: etcd waits three election timeouts.
    pub fn is_leader_lost(&self) -> bool {
        let bound_us = 3 * self.config.election_timeout_us;
        self.leaderless_since_us.is_some_and(|since_us| since_us + bound_us <= self.now_us)
    }

    /// This core.
    pub fn core(&self) -> CoreId {
        self.config.core
    }

    /// A positive id that nobody will have chosen before.
    pub fn random_lease_id(&mut self) -> i64 {
        let id = (self.random.next() >> 1) as i64;
        if id == 0 { 1 } else { id }
    }

    /// Takes from the input budget; refused when it is used up.
    pub fn reserve_input(&mut self, size_bytes: usize) -> bool {
        if INPUT_BUDGET_BYTES - self.input_reserved_bytes < size_bytes {
            return false;
        }
        self.input_reserved_bytes += size_bytes;
        true
    }

    /// Gives back what was taken.
    pub fn release_input(&mut self, size_bytes: usize) {
        assert!(size_bytes <= self.input_reserved_bytes);
        self.input_reserved_bytes -= size_bytes;
    }
}
