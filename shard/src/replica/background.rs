//! What a replica does by itself: bring its group up, expire leases, remove what was compacted,
//! compact automatically.
//!
//! Invariants: everything here that changes replicated state is a proposal, one of its kind at a
//! time; only the leader proposes; a new leader expires nothing before it has applied the first
//! entry of its term. Source: storage.md, Long entries 3; replication.md, Reads and leases 2; fact
//! sheet of semantics, sections 6 and 7.

use std::collections::VecDeque;

use bytes::Bytes;
use engine::api::{Command, ProposalId, Response, RevokeCause};
use engine::command;
use engine::engine::CompactMark;
use engine::limits::VALUE_INLINE_BYTES_MAX;
use engine::page::map::{PAGE_SIZE_BYTES, PageMap};

use super::damage::page_repair::Need;
use super::pending::Waiter;
use super::{Replica, Stage};
use crate::config::AutoCompaction;
use crate::effect::{Effect, Effects, LogLevel};
use crate::limits::{EXPIRIES_PER_SCAN_MAX, EXPIRY_SCAN_US};
use crate::message::{Origin, Outcome, Unavailable};
use crate::metrics::Metrics;

/// A store is idle when nobody wrote for this long.
const IDLE_US: u64 = 1_000_000;
/// Checkpoints of a store that came to rest.
pub(super) const IDLE_CHECKPOINTS: u32 = 3;
/// Most samples of (time, revision) that periodic compaction keeps.
const SAMPLES_MAX: usize = 64;
/// Distance of the checks of compaction by revision: etcd's five minutes.
const REVISION_COMPACTION_US: u64 = 300_000_000;
/// Distance of the samples of periodic compaction is a tenth of the retention, at most this.
const SAMPLE_DISTANCE_US_MAX: u64 = 360_000_000;
/// Periodic compaction runs at most this far apart.
const PERIODIC_COMPACTION_US_MAX: u64 = 3_600_000_000;

/// Physical compactions whose answers may wait.
const HELD_COMPACTIONS_MAX: usize = 1_024;

/// A removal that met a broken page is tried again after this long, while the page is mended.
const REMOVAL_RETRY_US: u64 = 50_000;
/// And where it cannot be.
const REMOVAL_BROKEN_US: u64 = 10_000_000;

/// State of the background.
#[derive(Debug, Default)]
pub(super) struct Background {
    /// A proposal of ours is on its way.
    is_own_pending: bool,
    pub is_alarm_proposed: bool,
    /// The disk is full but for a reserve.
    pub is_space_short: bool,
    /// Refused for space, to be told when the alarm is up.
    pub refused: Vec<Origin>,
    next_expiry_us: u64,
    /// A removal that met a broken page is tried again then.
    next_removal_us: u64,
    /// When an entry that changes something was last applied.
    active_us: u64,
    /// Checkpoints applied since then: every member counts them, so a new leader makes no more.
    idle_checkpoints: u32,
    held: HeldCompactions,
    next_auto_us: u64,
    next_sample_us: u64,
    samples: VecDeque<(u64, i64)>,
}

impl Background {
    /// Whether a proposal of the group's own is on its way.
    pub fn is_own_pending(&self) -> bool {
        self.is_own_pending
    }

    pub fn set_own_pending(&mut self, is_pending: bool) {
        self.is_own_pending = is_pending;
    }

    pub fn on_role_change(&mut self) {
        self.is_own_pending = false;
        self.is_alarm_proposed = false;
    }

    pub fn on_proposal_lost(&mut self) {
        self.on_role_change();
    }

    pub fn on_own_applied(&mut self, response: &Response) {
        match response {
            Response::Alarm { .. } => self.is_alarm_proposed = false,
            _ => self.is_own_pending = false,
        }
    }

    /// An entry is applied, whoever proposed it: unless it ends an interval and no more, the store
    /// is not idle.
    pub fn on_entry(&mut self, entry: &[u8], now_us: u64) {
        if command::is_checkpoint(entry) {
            self.idle_checkpoints = self.idle_checkpoints.saturating_add(1);
        } else {
            self.on_activity(now_us);
        }
    }

    fn on_activity(&mut self, now_us: u64) {
        self.active_us = now_us;
        self.idle_checkpoints = 0;
    }

    pub fn next_wake_us(&self) -> Option<u64> {
        (!self.held.answers.is_empty()).then_some(self.held.deadline_us)
    }
}

/// Answers of physical compactions that wait for the removal, for as long as that comes forward.
#[derive(Debug, Default)]
struct HeldCompactions {
    answers: Vec<(Origin, Response)>,
    /// How far the removal had come.
    mark: Option<CompactMark>,
    /// They are given up unless it comes further before.
    deadline_us: u64,
}

impl<M: PageMap> Replica<M> {
    pub(super) fn run_background(&mut self, _metrics: &mut Metrics, fx: &mut Effects) {
        if self.stage == Stage::Starting {
            return self.bring_up(fx);
        }
        self.raise_space_alarm();
        if self.is_keeper() {
            self.remove_compacted(fx);
            self.auto_compact();
            self.checkpoint_when_idle();
        }
    }

    /// A physical compaction was applied; its answer waits until what it compacts is gone.
    pub(super) fn hold_compaction(&mut self, origin: Origin, response: Response) {
        let held = &mut self.background.held;
        if HELD_COMPACTIONS_MAX <= held.answers.len() {
            return self.fail(origin, Unavailable::TooManyRequests);
        }
        held.answers.push((origin, response));
    }

    /// Answers those whose removal is done, and those whose removal stands still: behind a broken
    /// page, or without a quorum.
    pub(super) fn run_held_compactions(&mut self) {
        if self.background.held.answers.is_empty() {
            return;
        }
        let mark = self.engine.compact_pending();
        let deadline_us = self.now_us + self.request_timeout_us();
        let held = &mut self.background.held;
        if held.mark != mark {
            (held.mark, held.deadline_us) = (mark, deadline_us);
        }
        if mark.is_some() && self.now_us < held.deadline_us {
            return;
        }
        for (origin, response) in std::mem::take(&mut held.answers) {
            match mark {
                None => self.answer(origin, Outcome::Applied(response)),
                Some(_) => self.fail(origin, Unavailable::TimedOut),
            }
        }
        self.background.held.mark = None;
    }

    /// Whether this member does the group's own work: it leads, and has applied what its
    /// predecessors left.
    fn is_keeper(&self) -> bool {
        let keeps_leases = self.lease_term == self.raft.soft_state().term.0;
        self.stage == Stage::Serving && self.is_leader() && keeps_leases
    }

    pub(super) fn has_applied_own_term(&self) -> bool {
        self.engine.applied_term() == self.raft.soft_state().term.0 && !self.engine.is_applying()
    }

    /// Genesis and the founding, by the first leader; then this member's name and addresses, then
    /// clients may come.
    fn bring_up(&mut self, fx: &mut Effects) {
        if self.removed_ids.contains(&self.config.member_id) {
            return self.on_removed(fx);
        }
        let has_leader = self.raft.soft_state().leader.is_some();
        if self.is_forcing
            || !has_leader
            || self.background.is_own_pending
            || !self.committed.is_empty()
        {
            return;
        }
        if self.engine.genesis().is_none() || self.members.is_empty() {
            if self.is_leader() && self.has_applied_own_term() {
                self.begin_group();
            }
            return;
        }
        if !self.members.iter().any(|member| member.id == self.config.member_id) {
            // Added to the cluster, and not caught up so far.
            return;
        }
        if !self.is_published() {
            let config = self.config.clone();
            let publish = Command::MemberPublish {
                member_id: config.member_id,
                name: &config.name,
                client_urls: config.client_urls.iter().map(String::as_str).collect(),
                binary_urls: config.binary_urls.iter().map(String::as_str).collect(),
            };
            self.background.is_own_pending = self.propose_own(&publish, Waiter::Background);
            return;
        }
        self.restart_leases();
        self.stage = Stage::Serving;
        self.background.on_activity(self.now_us);
        let fields = vec![
            ("member-id", format!("\"{:x}\"", self.config.member_id)),
            ("cluster-id", format!("\"{:x}\"", self.config.cluster_id)),
            ("revision", self.engine.revision().to_string()),
        ];
        let message = "published this member and its addresses".to_string();
        fx.push(Effect::Log { level: LogLevel::Info, message, fields });
        fx.push(Effect::Serve);
    }

    fn begin_group(&mut self) {
        if self.engine.genesis().is_some() {
            return self.found_members();
        }
        let genesis = Command::Genesis {
            page_size_bytes: PAGE_SIZE_BYTES as u32,
            value_inline_bytes_max: VALUE_INLINE_BYTES_MAX as u32,
            interval_pages_max: self.config.interval_pages_max,
            interval_bytes_max: self.config.interval_bytes_max,
        };
        self.background.is_own_pending = self.propose_own(&genesis, Waiter::Background);
    }

    fn is_published(&self) -> bool {
        self.members.iter().any(|member| {
            member.id == self.config.member_id
                && member.name == self.config.name
                && member.client_urls == self.config.client_urls
                && member.binary_urls == self.config.binary_urls
        })
    }

    /// Comes after the reads of the step: a renewal that arrived in it counts first.
    pub(super) fn expire_leases(&mut self) {
        if !self.is_keeper() || self.now_us < self.background.next_expiry_us {
            return;
        }
        self.background.next_expiry_us = self.now_us + EXPIRY_SCAN_US;
        for lease in self.leases.take_expired(self.now_us, EXPIRIES_PER_SCAN_MAX) {
            let revoke = Command::LeaseRevoke { id: lease, cause: RevokeCause::Expired };
            let mut command = Vec::new();
            command::encode(&revoke, ProposalId::default(), &mut command);
            let command = Bytes::from(command).into();
            self.propose_checked(command, Waiter::Expiry { lease });
        }
    }

    /// One step at a time; each goes on from the tree's own mark. A step that would meet a broken
    /// page waits until it is mended: once in the log it could not be applied.
    fn remove_compacted(&mut self, fx: &mut Effects) {
        if self.background.is_own_pending || self.now_us < self.background.next_removal_us {
            return;
        }
        let Some(mark) = self.engine.compact_pending() else { return };
        let step = Command::CompactStep { mark_main: mark.main, mark_sub: mark.sub };
        if self.may_have_broken_pages {
            let mut looked_at = Vec::new();
            command::encode(&step, ProposalId::default(), &mut looked_at);
            if let Err(corruption) = self.engine.prefetch(&looked_at) {
                let is_mended = self.on_broken_page(&corruption, Need::Read);
                let wait_us = if is_mended { REMOVAL_RETRY_US } else { REMOVAL_BROKEN_US };
                self.background.next_removal_us = self.now_us + wait_us;
                if !is_mended {
                    let fields = vec![("error", format!("\"{corruption}\""))];
                    let message = "what was compacted is not removed".to_string();
                    fx.push(Effect::Log { level: LogLevel::Warn, message, fields });
                }
                return;
            }
        }
        self.background.is_own_pending = self.propose_own(&step, Waiter::Background);
    }

    /// A store that comes to rest is brought to its pages: the arena empties, a restart has nothing
    /// to replay, and what was freed can be given back, which takes the two intervals in which the
    /// older meta pages still reach it.
    fn checkpoint_when_idle(&mut self) {
        let background = &mut self.background;
        if IDLE_CHECKPOINTS <= background.idle_checkpoints
            || background.is_own_pending
            || self.now_us < background.active_us + IDLE_US
            || self.checkpoint.is_busy()
            || self.engine.interval_is_full()
        {
            return;
        }
        self.background.is_own_pending = self.propose_own(&Command::Checkpoint, Waiter::Background);
    }

    fn auto_compact(&mut self) {
        let revision = match self.config.auto_compaction {
            AutoCompaction::Off => return,
            AutoCompaction::Revision { retention } => {
                if self.now_us < self.background.next_auto_us {
                    return;
                }
                self.background.next_auto_us = self.now_us + REVISION_COMPACTION_US;
                self.engine.revision() - retention
            }
            AutoCompaction::Periodic { retention_us } => {
                let Some(revision) = self.periodic_revision(retention_us) else { return };
                revision
            }
        };
        if 0 < revision && self.engine.compact_revision() < revision {
            let compact = Command::Compact { revision };
            if self.propose_own(&compact, Waiter::Background) {
                self.background.is_own_pending = true;
            }
        }
    }

    /// The revision of `retention_us` ago, when it is time to compact to it.
    fn periodic_revision(&mut self, retention_us: u64) -> Option<i64> {
        let background = &mut self.background;
        if background.next_sample_us <= self.now_us {
            let distance_us = (retention_us / 10).clamp(1_000_000, SAMPLE_DISTANCE_US_MAX);
            background.next_sample_us = self.now_us + distance_us;
            background.samples.push_back((self.now_us, self.engine.revision()));
            if SAMPLES_MAX < background.samples.len() {
                background.samples.pop_front();
            }
        }
        if background.next_auto_us == 0 {
            background.next_auto_us = self.now_us + retention_us;
        }
        if self.now_us < background.next_auto_us {
            return None;
        }
        background.next_auto_us = self.now_us + retention_us.min(PERIODIC_COMPACTION_US_MAX);
        let horizon_us = self.now_us.checked_sub(retention_us)?;
        let old = background.samples.iter().rev().find(|(at_us, _)| *at_us <= horizon_us);
        old.map(|(_, revision)| *revision)
    }
}
