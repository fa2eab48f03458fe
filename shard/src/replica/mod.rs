//! One group on this member: consensus, storage and what lives between them.
//!
//! Invariants: an answer to a proposal leaves only after its entry was applied; events of a
//! revision are handed out before any progress notice that covers it; apply never passes the end
//! of an interval while the last checkpoint is not durable; everything the replica decides is a
//! function of its inputs and the time it is told.
//! The order of a step is replication.md's: completions, then proposals and reads, then ticks.

mod apply;
mod background;
mod checkpoint;
mod damage;
mod figures;
mod force;
mod forward;
mod gathering;
mod growth;
mod health;
pub(crate) mod lease_clock;
mod look_ahead;
mod maintenance;
mod membership;
mod messages;
mod pending;
mod propose;
mod read;
mod recovery;
mod transfer;
mod watches;

use std::collections::{BTreeMap, VecDeque};

use engine::api::EventList;
use engine::engine::{Engine, Member};
use engine::page::map::PageMap;
use raft::{Entry, RaftNode, Ready, ReadyNumber, ReplicaId, Role};

use crate::config::Config;
use crate::effect::{Effect, Effects, LogLevel};
use crate::input::{CoreId, Input};
use crate::message::{
    Answer, Call, LeaderNews, Message, Origin, Outcome, Unavailable, WatchNoticeKind,
};
use crate::metrics::{Metrics, Scalar};
use crate::peers::Peers;
use crate::random::Random;
use crate::wal::ShardWal;
use background::Background;
use checkpoint::CheckpointState;
use damage::mending::{EntriesAnswered, Mending};
use damage::opening::Opening;
use damage::page_repair::PageRepair;
use damage::rewind::Rewind;
use figures::Figures;
use forward::Forwarding;
pub(crate) use forward::reply_of;
use gathering::Gathering;
use growth::Growth;
use health::Health;
use lease_clock::LeaseClock;
use look_ahead::LookAhead;
use messages::Messages;
use pending::PendingProposals;
use read::Reads;
use transfer::install::Installing;
use transfer::receiving::Receiving;
use transfer::send::Sending;
use watches::Watches;

pub use recovery::StartError;
pub(crate) use recovery::{CheckpointChoice, RecoveredGroup, choose_checkpoint};

/// The default keyspace's group.
pub(crate) const DEFAULT_GROUP: u64 = 1;
/// Units of engine work (about one descent of a tree each) in a step: around a millisecond.
const STEP_WORK_UNITS: u32 = 1_000;

/// A removed member goes on for so long.
const REMOVED_LINGER_US: u64 = 500_000;

/// A process that was stopped for longer than this many ticks says so to Raft.
const PAUSE_TICKS: u64 = 10;

/// Gauges are brought up to date this often.
const PUBLISH_METRICS_US: u64 = 20_000;

/// What a replica sends to the fronts in a step.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    /// By core, in order.
    pub messages: Vec<(CoreId, Message)>,
}

/// One replica of a group.
pub(crate) struct Replica<M> {
    config: Config,
    raft: RaftNode,
    ready: Ready,
    engine: Engine<M>,
    now_us: u64,
    tick_us: u64,
    next_tick_us: u64,
    pending: PendingProposals,
    /// Committed and not yet applied.
    committed: VecDeque<Entry>,
    events: EventList,
    /// The entry under way lists its events.
    are_events_listed: bool,
    reads: Reads,
    leases: LeaseClock,
    watches: Watches,
    checkpoint: CheckpointState,
    background: Background,
    outbox: Outbox,
    stage: Stage,
    work_units_left: u32,
    next_publish_us: u64,
    needs_step: bool,
    is_wal_full: bool,
    look_ahead: LookAhead,
    /// The log has holes: what is done about them.
    mending: Option<Mending>,
    entries_answered: EntriesAnswered,
    messages: Messages,
    sending: Sending,
    receiving: Receiving,
    /// A received state that is taking the place of the own one.
    installing: Option<Installing>,
    page_repair: PageRepair,
    /// Applying an entry met a broken page: the store is on its way back.
    rewind: Option<Rewind>,
    /// The lease records could not be read when the leases began anew.
    are_leases_stale: bool,
    /// The store cannot be opened yet.
    opening: Option<Opening>,
    forwarding: Forwarding,
    figures: Figures,
    health: Health,
    gathering: Gathering,
    random: Random,
    started_us: u64,
    /// The term whose first entry this leader has applied: since then it keeps the leases.
    lease_term: u64,
    /// Transfers of leadership that clients wait for: to whom, until when.
    moves: Vec<(Origin, u64, u64)>,
    /// Members to be added that wait for a checkpoint.
    growth: Growth,
    /// Since when members are connected without a break.
    connected_since_us: BTreeMap<u64, u64>,
    /// The connections do not know the newest members.
    are_members_new: bool,
    /// The others are being removed by force: nobody else votes.
    is_forcing: bool,
    /// Since when it is known that this member was removed: it ends soon.
    removed_since_us: Option<u64>,
    /// No other member said that it knows.
    is_removal_known_here_only: bool,
    /// A change of members took effect: that it is committed has to be written down.
    is_configuration_new: bool,
    /// The group's members as applied; none before they were founded.
    members: Vec<Member>,
    /// Members that were removed.
    removed_ids: Vec<u64>,
    /// Those that were parted from.
    told_removed_ids: Vec<u64>,
    /// The two are the same: each step asks.
    are_removals_told: bool,
    /// Those that are parted from once this note of the WAL is durable.
    removals_noted: Option<(u64, Vec<u64>)>,
    /// The process did not write all pages itself: some may not be what their parents say.
    may_have_broken_pages: bool,
}

/// How far the group has come since the start of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// No leader yet, or the group has no genesis, or this member is not published.
    Starting,
    /// Clients may come.
    Serving,
    /// SIGTERM came: no new proposals.
    Stopping,
}

impl<M: PageMap> Replica<M> {
    /// Everything that happened to the disk, before anything else of the step.
    pub fn on_persisted(&mut self, number: ReadyNumber) {
        self.raft.persisted(number);
        self.messages.release(number);
        if let Some(installing) = &mut self.installing {
            installing.on_persisted(number);
        }
    }

    /// The step begins: peers are heard before anything is asked.
    pub fn begin_step(&mut self, now_us: u64) {
        assert!(self.now_us <= now_us);
        self.now_us = now_us;
        self.gathering.begin_step();
    }

    /// A step's work, within its budget.
    pub fn step(
        &mut self,
        now_us: u64,
        wal: &mut ShardWal,
        peers: &mut Peers,
        metrics: &mut Metrics,
        fx: &mut Effects,
    ) {
        assert!(self.now_us <= now_us);
        self.now_us = now_us;
        self.work_units_left = STEP_WORK_UNITS;
        self.needs_step = false;
        self.run_mending(wal, peers, fx);
        self.run_forwarding(peers);
        self.start_read_round();
        self.tick(wal, fx);
        self.run_page_repair(peers, metrics, fx);
        self.run_opening(fx);
        self.run_rewind(fx);
        if !self.is_store_away() {
            self.run_look_ahead();
            self.run_background(metrics, fx);
        }
        self.run_receiving(wal, peers, fx);
        self.run_raft(wal, peers, metrics, fx);
        self.drop_unwanted(peers, fx);
        self.run_install(wal, fx);
        self.run_sending(peers, fx);
        self.take_over_leases();
        self.run_force(fx);
        self.run_moves();
        self.run_growth(peers);
        self.run_held_compactions();
        if !self.is_store_away() {
            self.restart_stale_leases();
            if !self.are_leases_stale {
                self.run_reads(metrics);
            }
            self.expire_leases();
            self.run_watches(metrics, fx);
        }
        self.run_checkpoint(wal, metrics, fx);
        self.publish_figures(metrics);
        self.publish_metrics(metrics);
        if self.needs_step {
            fx.step_again = true;
        }
        fx.wake_at(self.next_wake_us());
    }

    /// The WAL takes no more for now (or does again).
    pub fn set_wal_full(&mut self, is_full: bool) {
        self.is_wal_full = is_full;
    }

    /// The durable pages, for a world that keeps them on the heap.
    pub fn page_map_mut(&mut self) -> &mut M {
        self.engine.store_mut().map_mut()
    }

    /// Takes what the step sends to the fronts.
    pub fn outbox(&mut self) -> &mut Outbox {
        &mut self.outbox
    }

    /// A completion of something that was asked of the page file or the side file.
    pub fn on_page_input(
        &mut self,
        input: &Input,
        wal: &mut ShardWal,
        metrics: &mut Metrics,
        fx: &mut Effects,
    ) {
        match input {
            Input::PagesSynced { interval } => self.on_pages_synced(*interval, wal, fx),
            Input::MetaSynced { interval } if self.is_installing() => {
                self.on_install_durable(*interval, wal, fx);
            }
            Input::MetaSynced { interval } => self.on_meta_synced(*interval, wal, metrics),
            Input::SideSynced { number } => self.on_side_synced(*number),
            Input::PagesInstalled if self.is_installing() => self.on_pages_installed(fx),
            Input::PagesInstalled => self.on_pages_repaired(metrics, fx),
            _ => unreachable!("the shard hands over completions of pages only"),
        }
    }

    /// One call of a front.
    pub fn on_call(&mut self, origin: Origin, call: Call) {
        // Its peers may still need its vote; its clients have nothing to find here.
        if self.is_past_removal() {
            if call.is_answered() {
                return self.fail_call(origin, &call, Unavailable::Stopped);
            }
            if let Call::WatchCreate(_) = call {
                return self.notify(origin, -1, WatchNoticeKind::RefusedStopped);
            }
        }
        self.run_call(origin, call);
    }

    fn run_call(&mut self, origin: Origin, call: Call) {
        self.gathering.on_call(&call, self.now_us);
        match call {
            Call::Propose { command, class } => self.on_propose(origin, command, class),
            Call::Range(_)
            | Call::ReadTxn { .. }
            | Call::LeaseKeepAlive { .. }
            | Call::LeaseTimeToLive { .. }
            | Call::LeaseLeases
            | Call::AuthStatus
            | Call::HashKv { .. }
            | Call::Hash
            | Call::AlarmList { .. }
            | Call::MemberList { .. }
            | Call::Health { .. } => self.on_read(origin, call),
            Call::Status => self.on_status(origin),
            Call::MemberChange(change) => {
                let added = self.random.next().max(1);
                self.on_member_change(origin, change, added);
            }
            Call::MoveLeader { target } => self.on_move_leader(origin, target),
            Call::WatchCreate(create) => self.on_watch_create(origin, create),
            Call::WatchCancel { watch_id } => self.on_watch_cancel(origin, watch_id),
            Call::WatchProgress { waits } => self.on_watch_progress(origin, waits),
            Call::WatchCredit { size_bytes } => self.watches.on_credit(origin, size_bytes),
            Call::WatchStreamClosed => self.watches.on_stream_closed(origin),
            Call::Abandon => self.reads.abandon(origin),
        }
    }

    /// Begins a clean stop: what is pending is finished, nothing new is taken, and a leader hands
    /// over first.
    pub fn on_shutdown(&mut self) {
        self.stage = Stage::Stopping;
        if self.is_leader()
            && let Some(target) = self.best_successor()
        {
            // Without a successor that can be reached the others elect one when this one is gone.
            let _ = self.raft.transfer_leader(target);
        }
    }

    /// Whether nothing is pending any more.
    pub fn is_quiet(&self) -> bool {
        let hands_over = self.is_leader() && self.best_successor().is_some();
        let is_idle = self.pending.len() == 0 && self.look_ahead.is_empty();
        is_idle && !self.engine.is_applying() && !hands_over
    }

    /// Whether this member does not belong to the cluster any more and may end: not at once, it may
    /// still be needed to elect the next leader, and is until somebody else knows.
    pub fn is_over(&self, fx: &mut Effects) -> bool {
        let Some(since_us) = self.removed_since_us else { return false };
        if self.is_removal_known_here_only {
            return false;
        }
        fx.wake_at(since_us + REMOVED_LINGER_US);
        self.is_past_removal()
    }

    /// Whether the cluster goes on without this member, and who asked before that has its answer.
    fn is_past_removal(&self) -> bool {
        self.removed_since_us.is_some_and(|since_us| since_us + REMOVED_LINGER_US <= self.now_us)
    }

    /// The cluster says that this member was removed.
    pub(super) fn on_removed(&mut self, fx: &mut Effects) {
        if self.removed_since_us.is_some() || self.stage == Stage::Stopping {
            return;
        }
        self.removed_since_us = Some(self.now_us);
        let fields = vec![("member-id", format!("\"{:x}\"", self.config.member_id))];
        let message = "the member has been permanently removed from the cluster".to_string();
        fx.push(Effect::Log { level: LogLevel::Warn, message, fields });
    }

    /// What Raft knows.
    pub fn raft_status(&self) -> raft::Status {
        self.raft.status()
    }

    /// Whether calls came since the last step.
    pub fn has_new_calls(&self) -> bool {
        // While the log is mended nothing of Raft's is looked at, and a step at once would be vain.
        (!self.is_mending() && (self.raft.has_ready() || self.messages.has_released()))
            || (!self.is_store_away() && self.has_new_reads())
            || !self.outbox.messages.is_empty()
    }

    fn has_new_reads(&self) -> bool {
        let has_leader = self.raft.soft_state().leader.is_some();
        // Without its leases it answers nothing: it would be stepped in vain until they are read.
        let applied_index = (!self.are_leases_stale).then(|| self.engine.applied_index());
        self.reads.has_arrived(has_leader, applied_index)
    }

    /// The reachable voter that holds most of the log.
    fn best_successor(&self) -> Option<ReplicaId> {
        let status = self.raft.status();
        let voters = &status.configuration.voters;
        let peers = status.peers.iter().filter(|peer| {
            voters.contains(&peer.id)
                && peer.is_recently_active
                && !peer.disk.is_stuck
                && self.connected_since_us.contains_key(&peer.id.0)
        });
        peers.max_by_key(|peer| (peer.matched, peer.id)).map(|peer| peer.id)
    }

    /// What is known of the leader now.
    pub fn leader_news(&self) -> LeaderNews {
        let soft = self.raft.soft_state();
        let (has_leader, raft_term) = (soft.leader.is_some(), soft.term.0);
        let is_learner = self.is_learner();
        LeaderNews { has_leader, raft_term, revision: self.revision(), is_learner }
    }

    /// The newest published revision, where the store itself may be behind it for a while.
    fn revision(&self) -> i64 {
        self.rewind.as_ref().map_or(self.engine.revision(), |rewind| rewind.revision)
    }

    fn is_leader(&self) -> bool {
        self.raft.soft_state().role == Role::Leader
    }

    fn answer(&mut self, origin: Origin, outcome: Outcome) {
        let raft_term = self.raft.soft_state().term.0;
        let answer = Answer { origin, raft_term, outcome };
        self.outbox.messages.push((origin.core, Message::Answer(answer)));
    }

    fn fail(&mut self, origin: Origin, why: Unavailable) {
        self.answer(origin, Outcome::Failed(why));
    }

    /// A jump of the time counts as one tick.
    fn tick(&mut self, wal: &ShardWal, fx: &mut Effects) {
        if self.next_tick_us <= self.now_us {
            if self.next_tick_us + PAUSE_TICKS * self.tick_us < self.now_us {
                self.raft.paused();
            }
            self.observe_health(wal);
            self.next_tick_us = self.now_us + self.tick_us;
            if !self.is_mending() {
                self.raft.tick();
            }
            if self.is_leader() && self.stage == Stage::Serving {
                self.checkpoint_for_others(fx);
            }
            self.fail_overdue_reads();
        }
        while let Some(waiter) = self.pending.take_overdue(self.now_us) {
            self.on_proposal_lost(waiter, Unavailable::TimedOut);
        }
    }

    /// Hands Raft's demands on until it has none, and applies what is committed.
    fn run_raft(
        &mut self,
        wal: &mut ShardWal,
        peers: &mut Peers,
        metrics: &mut Metrics,
        fx: &mut Effects,
    ) {
        if self.is_mending() {
            return;
        }
        self.send_released(peers);
        while self.raft.has_ready() {
            let mut ready = std::mem::take(&mut self.ready);
            self.raft.ready(&mut ready);
            self.send_all(&mut ready.messages_now, peers);
            self.messages.hold(ready.number, &mut ready.messages_after_persist);
            let snapshot = ready.snapshot.clone();
            let install = snapshot.map(|snapshot| self.begin_install(snapshot, ready.number));
            if let Some(soft) = ready.soft_state {
                self.on_soft_state(soft, metrics, fx);
            }
            if ready.must_persist() {
                wal.append(DEFAULT_GROUP, &ready, install);
            } else {
                wal.note_commit(DEFAULT_GROUP, ready.commit.0);
            }
            self.committed.extend(ready.committed.drain(..));
            for state in ready.read_states.drain(..) {
                self.reads.confirm(state.context, state.index.0);
            }
            for context in ready.reads_lost.drain(..) {
                self.reads.lose(context);
            }
            self.ready = ready;
            self.apply_committed(metrics, fx);
        }
        self.apply_committed(metrics, fx);
        if std::mem::take(&mut self.is_configuration_new) {
            wal.append_commit(DEFAULT_GROUP);
        }
    }

    fn on_soft_state(&mut self, soft: raft::SoftState, metrics: &mut Metrics, fx: &mut Effects) {
        metrics.add(Scalar::LeaderChanges, 1);
        let fields = vec![
            ("member-id", format!("\"{:x}\"", self.config.member_id)),
            ("role", format!("\"{:?}\"", soft.role)),
            ("term", soft.term.0.to_string()),
        ];
        let message = "role changed".to_string();
        fx.push(Effect::Log { level: LogLevel::Info, message, fields });
        self.background.on_role_change();
        self.figures.on_role_change();
    }

    fn next_wake_us(&self) -> u64 {
        let is_alone = self.raft.configuration().voters.len() <= 1 && self.is_leader();
        // A leader without followers has nothing to do at a tick.
        let lazy_us = if is_alone { self.config.heartbeat_interval_us } else { 0 };
        let mut wake_us = self.next_tick_us + lazy_us;
        let others = [
            self.next_forwarding_us(),
            self.moves.iter().map(|(_, _, deadline_us)| *deadline_us).min(),
            self.pending.next_deadline_us(),
            self.background.next_wake_us(),
            self.watches.next_wake_us(),
            self.sending.next_wake_us(),
            self.receiving.next_wake_us(),
        ];
        for other_us in others.into_iter().flatten() {
            wake_us = wake_us.min(other_us);
        }
        wake_us
    }

    fn publish_metrics(&mut self, metrics: &mut Metrics) {
        if self.now_us < self.next_publish_us {
            return;
        }
        self.next_publish_us = self.now_us + PUBLISH_METRICS_US;
        let soft = self.raft.soft_state();
        metrics.set(Scalar::HasLeader, u64::from(soft.leader.is_some()));
        metrics.set(Scalar::IsLearner, u64::from(self.is_learner()));
        metrics.set(Scalar::SnapshotApplying, u64::from(self.is_installing()));
        metrics.set(Scalar::IsLeader, u64::from(soft.role == Role::Leader));
        metrics.set(Scalar::ProposalsCommitted, self.raft.commit().0);
        metrics.set(Scalar::ProposalsApplied, self.engine.applied_index());
        metrics.set(Scalar::ProposalsPending, self.pending.len() as u64);
        metrics.set(Scalar::Revision, self.engine.revision() as u64);
        metrics.set(Scalar::CompactRevision, self.engine.compact_revision().max(0) as u64);
        metrics.set(Scalar::Keys, self.engine.keys_count());
        metrics.set(Scalar::DbSize, self.engine.db_size_bytes());
        metrics.set(Scalar::DbSizeInUse, self.engine.in_use_size_bytes());
        metrics.set(Scalar::QuotaBytes, self.quota_bytes().unwrap_or(0));
    }
}
