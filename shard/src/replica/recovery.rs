//! From what the disk holds to a replica that goes on: newest valid meta page, then the WAL after
//! it, then consensus.
//!
//! Invariants: everything read here was synced again by the driver before (storage.md, WAL rule 4);
//! entries at or below the checkpoint are never applied again; a hole refuses the start of a single
//! member, it is never skipped; the run number is durable before anything is answered, since it is
//! in the first frame.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;

use engine::api::EventList;
use engine::engine::{Engine, OpenError};
use engine::page::map::{Corruption, PageMap};
use engine::page::meta::{Meta, MetaBroken, SlotState, choose_meta};
use engine::wal::record::{EntryId as WalEntryId, Install};
use engine::wal::recovered::{RecoverError, RecoveredGroup as WalGroup};
use raft::{
    CampaignError, Entry, EntryId, HardState, Index, RaftNode, Ready, ReplicaId, Restored, Term,
    VoteMemory,
};

use super::background::Background;
use super::checkpoint::CheckpointState;
use super::damage::mending::{EntriesAnswered, Mending};
use super::damage::opening::{Consensus, Lack, Opening, open_store};
use super::damage::page_repair::PageRepair;
use super::figures::Figures;
use super::force::force;
use super::forward::Forwarding;
use super::gathering::Gathering;
use super::growth::Growth;
use super::health::Health;
use super::lease_clock::LeaseClock;
use super::look_ahead::LookAhead;
use super::membership::configuration_of;
use super::messages::Messages;
use super::pending::PendingProposals;
use super::read::Reads;
use super::transfer::receiving::Receiving;
use super::transfer::send::Sending;
use super::watches::Watches;
use super::{Outbox, Replica, Stage};
use crate::config::Config;
use crate::random::Random;
use crate::wal::kind_from_number;

/// Why a shard cannot start. Nothing was changed.
#[derive(Clone, Debug)]
pub enum StartError {
    /// The WAL cannot be read at all.
    Wal(RecoverError),
    /// The WAL lost entries that were synced.
    WalDamaged {
        /// First index of the first hole.
        first_index: u64,
        /// Last index of it.
        last_index: u64,
    },
    /// A WAL segment is shorter than it was made: something cut it.
    WalSegmentCut {
        /// Which one.
        segment: u64,
        /// Its size now.
        size_bytes: u64,
    },
    /// The WAL lost a frame that may have held this group's vote.
    HardStateLost,
    /// The WAL begins after the checkpoint ends.
    WalGap {
        /// Applied index of the checkpoint.
        checkpoint_index: u64,
        /// First index in the WAL.
        first_index: u64,
    },
    /// An entry of a kind that this version does not know.
    UnknownEntry {
        /// Its index.
        index: u64,
    },
    /// Both meta pages are broken.
    Meta(MetaBroken),
    /// The pages of the checkpoint are gone: the page file has no valid meta page, and the log
    /// does not begin at its first entry.
    PagesLost,
    /// A page that every start reads is broken, or written by another version.
    Pages(OpenError),
    /// A page with the members of the group is broken.
    Members(Corruption),
    /// A state that was received is not in its place, and not in the side file any more.
    InstallLost {
        /// The last entry it holds.
        index: u64,
    },
    /// What was found contradicts itself.
    Raft(String),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Wal(error) => write!(f, "the WAL cannot be recovered: {error}"),
            StartError::WalDamaged { first_index, last_index } => write!(
                f,
                "the WAL is damaged: entries {first_index} to {last_index} were synced and cannot \
                 be read any more"
            ),
            StartError::WalSegmentCut { segment, size_bytes } => {
                write!(f, "WAL segment {segment} is cut: {size_bytes} bytes are no segment's size")
            }
            StartError::HardStateLost => write!(
                f,
                "the WAL is damaged: a synced frame is lost with all that says what was in it"
            ),
            StartError::WalGap { checkpoint_index, first_index } => write!(
                f,
                "the WAL begins at entry {first_index}, the checkpoint ends at {checkpoint_index}: \
                 WAL segments are missing"
            ),
            StartError::UnknownEntry { index } => {
                write!(f, "entry {index} was written by a newer version")
            }
            StartError::Meta(broken) => write!(f, "the page file is damaged: {broken:?}"),
            StartError::PagesLost => write!(
                f,
                "the page file holds no checkpoint, but the WAL was already trimmed behind one: \
                 the page file was lost or replaced"
            ),
            StartError::Pages(error) => write!(f, "the page file is damaged: {error}"),
            StartError::Members(error) => write!(f, "the page file is damaged: {error}"),
            StartError::InstallLost { index } => write!(
                f,
                "the state received up to entry {index} was not copied into the page file yet, and \
                 its side file is lost or damaged"
            ),
            StartError::Raft(error) => write!(f, "the log contradicts itself: {error}"),
        }
    }
}

impl std::error::Error for StartError {}

/// What recovery has of a group before its replica is made.
pub(crate) struct RecoveredGroup {
    pub hard_state: HardState,
    pub entries: Vec<Entry>,
    /// Index ranges that were synced and are lost.
    pub missing: Vec<(u64, u64)>,
    /// Log position of the older of the two checkpoints.
    pub older_index: u64,
    /// The entry before the first of `entries`, as far as the WAL says.
    pub log_base: EntryId,
    pub last_index: u64,
    pub last_term: u64,
    /// A received state whose copying is not known to be complete.
    pub install: Option<Install>,
}

impl RecoveredGroup {
    /// Takes a group out of what the WAL holds; `None` is a group that is being born.
    pub fn from_wal(group: Option<&mut WalGroup>) -> Result<RecoveredGroup, StartError> {
        let Some(group) = group else {
            let hard_state = HardState::default();
            return Ok(RecoveredGroup {
                hard_state,
                entries: Vec::new(),
                missing: Vec::new(),
                older_index: 0,
                log_base: EntryId::default(),
                last_index: 0,
                last_term: 0,
                install: None,
            });
        };
        let state = &group.state;
        if state.is_damaged {
            return Err(StartError::HardStateLost);
        }
        let hard_state = HardState {
            term: Term(state.hard_state.term),
            vote: (state.hard_state.vote != 0).then_some(ReplicaId(state.hard_state.vote)),
            commit: Index(state.hard_state.commit),
        };
        let older_index = state.checkpoint.index;
        let last_index = state.last.index;
        let install = state.install;
        let missing = group.missing.clone();
        let last_term = state.last.term;
        let state = state.clone();
        let entries = std::mem::take(&mut group.entries);
        let entries = entries.into_iter().map(|entry| {
            let kind = kind_from_number(entry.kind)
                .ok_or(StartError::UnknownEntry { index: entry.index })?;
            let (term, index) = (Term(entry.term), Index(entry.index));
            Ok(Entry { term, index, kind, data: entry.data })
        });
        let entries = entries.collect::<Result<Vec<_>, StartError>>()?;
        let log_base = EntryId { index: Index(older_index), term: Term(state.checkpoint.term) };
        Ok(RecoveredGroup {
            hard_state,
            entries,
            missing,
            older_index,
            log_base,
            last_index,
            last_term,
            install,
        })
    }

    /// Whether everything that ever was committed here is in these entries.
    pub fn is_whole_log(&self) -> bool {
        let begins = self.entries.first().is_some_and(|first| first.index == Index(1));
        begins && self.older_index == 0 && self.missing.is_empty() && self.install.is_none()
    }
}

/// The checkpoint to start from.
pub(crate) enum CheckpointChoice {
    /// Nothing was ever written to the page file: the log says everything.
    NoneYet,
    /// The newest one whose meta page is whole.
    Newest(Box<Meta>),
    /// The first one was torn by a power cut, or broke later: it costs nothing as long as the log
    /// begins at the first entry.
    FirstBroken(MetaBroken),
    /// Both meta pages are broken.
    Broken(MetaBroken),
}

impl CheckpointChoice {
    /// The meta page to open the store with, none for an empty one; or why this member's store is
    /// lost, given what its log holds.
    fn for_log(self, group: &RecoveredGroup) -> Result<Option<Meta>, StartError> {
        let meta = match self {
            CheckpointChoice::NoneYet => None,
            CheckpointChoice::Newest(meta) => Some(*meta),
            CheckpointChoice::FirstBroken(_) if group.is_whole_log() => None,
            CheckpointChoice::FirstBroken(broken) | CheckpointChoice::Broken(broken) => {
                return Err(StartError::Meta(broken));
            }
        };
        let checkpoint_index = meta.as_ref().map_or(0, |meta| meta.applied_index);
        if let Some(Install { last, .. }) = group.install
            && checkpoint_index < last.index
        {
            // Whoever opens the files copies what the side file holds before this.
            return Err(StartError::InstallLost { index: last.index });
        }
        match meta {
            None if 0 < group.older_index => Err(StartError::PagesLost),
            Some(_) if checkpoint_index < group.older_index => {
                // The newest meta page is broken, and the other one is from before a state that
                // was received: its pages were written over.
                let first_index = group.older_index + 1;
                Err(StartError::WalGap { checkpoint_index, first_index })
            }
            meta => Ok(meta),
        }
    }
}

/// What the two slots of the meta pages say.
pub(crate) fn choose_checkpoint(meta_pages: &[Option<Vec<u8>>; 2]) -> CheckpointChoice {
    let slot = |number: usize| meta_pages[number].as_deref().unwrap_or(&[]);
    if slot(0).is_empty() && slot(1).is_empty() {
        return CheckpointChoice::NoneYet;
    }
    let zeros = [0; engine::page::map::PAGE_SIZE_BYTES];
    let whole = |number: usize| if slot(number).is_empty() { &zeros[..] } else { slot(number) };
    match choose_meta(whole(0), whole(1)) {
        Ok(Some(meta)) => CheckpointChoice::Newest(Box::new(meta)),
        Ok(None) => CheckpointChoice::NoneYet,
        Err(broken) if broken.slots.contains(&SlotState::NeverWritten) => {
            CheckpointChoice::FirstBroken(broken)
        }
        Err(broken) => CheckpointChoice::Broken(broken),
    }
}

impl<M: PageMap> Replica<M> {
    /// A replica that goes on from the checkpoint that was chosen and the WAL's `group`.
    /// `has_met_others` if there are members that a broken page, or a store, could be had from.
    pub fn recover(
        config: Config,
        map: M,
        chosen: CheckpointChoice,
        group: RecoveredGroup,
        incarnation: u64,
        has_met_others: bool,
        now_us: u64,
    ) -> Result<Replica<M>, StartError> {
        let may_ask = has_met_others && !config.is_force_new_cluster;
        let (meta, lost) = match chosen.for_log(&group) {
            Ok(meta) => (meta, None),
            Err(error) if may_ask => (None, Some(error)),
            Err(error) => return Err(error),
        };
        let (mut engine, broken) = open_store(map, meta.as_ref())?;
        engine.answer_only(config.member_id, incarnation);
        let mut opening = None;
        let lack = match (lost, broken, &meta) {
            (Some(error), ..) => Some(Lack::Store(error.to_string())),
            (None, Some(page), Some(meta)) if may_ask => {
                Some(Lack::Page { meta: Box::new(meta.clone()), page })
            }
            (None, Some(page), _) => {
                return Err(StartError::Pages(OpenError::Corruption(page)));
            }
            (None, None, _) => None,
        };
        let consensus = match lack {
            Some(lack) => {
                opening = Some(Opening::new(lack, group, incarnation));
                Consensus::placeholder(&config, incarnation)?
            }
            None => consensus(&config, &engine, meta.as_ref(), group, incarnation)?,
        };
        let Consensus { raft, mending, checkpoint } = consensus;
        let mut replica = Replica {
            raft,
            ready: Ready::default(),
            now_us,
            tick_us: tick_us(&config),
            next_tick_us: now_us + tick_us(&config),
            pending: PendingProposals::new(config.member_id, incarnation),
            committed: VecDeque::new(),
            events: EventList::default(),
            are_events_listed: false,
            reads: Reads::default(),
            leases: LeaseClock::default(),
            watches: Watches::new(config.watch_progress_interval_us, now_us),
            checkpoint,
            background: Background::default(),
            outbox: Outbox::default(),
            stage: Stage::Starting,
            work_units_left: 0,
            next_publish_us: 0,
            needs_step: false,
            is_wal_full: false,
            may_have_broken_pages: meta.is_some(),
            look_ahead: LookAhead::default(),
            mending,
            entries_answered: EntriesAnswered::default(),
            messages: Messages::default(),
            sending: Sending::default(),
            receiving: Receiving::default(),
            installing: None,
            page_repair: PageRepair::default(),
            rewind: None,
            are_leases_stale: false,
            opening,
            forwarding: Forwarding::default(),
            figures: Figures::default(),
            health: Health::default(),
            gathering: Gathering::default(),
            random: Random::new(config.seed ^ 0x6d65_6d62),
            started_us: now_us,
            lease_term: 0,
            moves: Vec::new(),
            growth: Growth::default(),
            connected_since_us: BTreeMap::new(),
            are_members_new: true,
            is_forcing: config.is_force_new_cluster,
            removed_since_us: None,
            is_removal_known_here_only: false,
            is_configuration_new: false,
            members: Vec::new(),
            removed_ids: Vec::new(),
            told_removed_ids: Vec::new(),
            are_removals_told: true,
            removals_noted: None,
            engine,
            config,
        };
        if replica.opening.is_none() {
            replica.read_members()?;
            replica.reset_watches();
        }
        Ok(replica)
    }
}

/// What goes on from an open store and what the WAL holds behind it.
pub(super) fn consensus<M: PageMap>(
    config: &Config,
    engine: &Engine<M>,
    meta: Option<&Meta>,
    group: RecoveredGroup,
    incarnation: u64,
) -> Result<Consensus, StartError> {
    let applied_index = engine.applied_index();
    let entries = group.entries;
    if let Some(first) = entries.first()
        && group.missing.is_empty()
        && applied_index + 1 < first.index.0
    {
        let (checkpoint_index, first_index) = (applied_index, first.index.0);
        return Err(StartError::WalGap { checkpoint_index, first_index });
    }
    let members = engine.members().map_err(StartError::Members)?;
    let configuration = configuration_of(config, &members);
    let mut restored = Restored {
        hard_state: group.hard_state,
        applied: EntryId { index: Index(applied_index), term: Term(engine.applied_term()) },
        configuration: configuration.clone(),
        entries,
        log_base: group.log_base,
        incarnation,
        vote_memory: VoteMemory::Kept,
    };
    if config.is_force_new_cluster {
        force(config, &mut restored);
    }
    let is_alone = restored.configuration.voters == [ReplicaId(config.member_id)];
    let raft_config = raft_config(config, incarnation);
    if let Some((first_index, last_index)) = group.missing.first().copied()
        && (restored.configuration.voters.len() <= 1 || config.is_force_new_cluster)
    {
        // Nobody could be asked.
        return Err(StartError::WalDamaged { first_index, last_index });
    }
    let last = EntryId { index: Index(group.last_index), term: Term(group.last_term) };
    let mending = Mending::begin(&mut restored, &raft_config, &group.missing, last);
    let mut raft = RaftNode::new(raft_config, restored)
        .map_err(|error| StartError::Raft(error.to_string()))?;
    if is_alone {
        match raft.campaign() {
            // A change of members behind the checkpoint is applied first; then its turn comes.
            Ok(()) | Err(CampaignError::ConfigurationPending) => {}
            Err(error) => return Err(StartError::Raft(format!("{error:?}"))),
        }
    }
    let older_index = group.older_index.min(applied_index);
    let durable = WalEntryId { index: applied_index, term: engine.applied_term() };
    let meta_page = meta.map(Meta::encode);
    let checkpoint = CheckpointState::recovered(durable, older_index, meta_page, configuration);
    Ok(Consensus { raft, mending, checkpoint })
}

/// Raft's settings are in ticks of ten milliseconds, or of a heartbeat where that is shorter.
fn tick_us(config: &Config) -> u64 {
    config.heartbeat_interval_us.min(TICK_US_MAX)
}

pub(super) fn raft_config(config: &Config, incarnation: u64) -> raft::Config {
    let ticks = |us: u64| u32::try_from(us.div_ceil(tick_us(config))).unwrap_or(u32::MAX);
    let heartbeat_interval_ticks = ticks(config.heartbeat_interval_us);
    raft::Config {
        election_timeout_ticks: ticks(config.election_timeout_us).max(heartbeat_interval_ticks + 1),
        heartbeat_interval_ticks,
        is_pre_vote: config.is_pre_vote,
        // Nobody serves lease reads: no vote has to wait for a lease to end.
        restart_quiet_ticks: 0,
        seed: config.seed ^ incarnation ^ config.member_id.rotate_left(17),
        ..raft::Config::new(ReplicaId(config.member_id))
    }
}

/// Longest tick.
const TICK_US_MAX: u64 = 10_000;
