//! A start that meets broken pages, or has no store at all: what it lacks is fetched from the other
//! members, then it goes on.
//!
//! Every start reads the freelist, the roots, and the records of alarms, members and leases. While
//! one of these pages is broken, or the meta pages are, this replica takes no part in Raft, neither
//! votes nor answers an append: for the others it is a member that is down, which is safe by itself.
//! A store that is lost whole is replaced by another member's (`start_over`). Invariants: nothing
//! reads the store before it is open; who has never met another member is refused the start as
//! before, since nobody could be asked. Source: storage.md, "Reading through the map" 1 and 4;
//! replication.md, Damage 3.

use engine::engine::{Engine, OpenError};
use engine::page::map::{Corruption, PageMap};
use engine::page::meta::Meta;
use raft::{EntryId, HardState, Index, RaftNode, Restored, VoteMemory};

use super::mending::Mending;
use super::page_repair::Need;
use super::start_over::LogSight;
use crate::config::Config;
use crate::effect::{Effect, Effects, LogLevel};
use crate::replica::checkpoint::CheckpointState;
use crate::replica::membership::configuration_of;
use crate::replica::recovery::{RecoveredGroup, StartError, raft_config};
use crate::replica::{DEFAULT_GROUP, Replica};

/// A start that waits.
pub(in crate::replica) struct Opening {
    lack: Lack,
    /// What the WAL holds; taken when the store is open.
    group: Option<RecoveredGroup>,
    incarnation: u64,
    is_told: bool,
    /// When another member's state is asked for, where nothing less would do.
    next_ask_us: u64,
}

/// What it waits for.
pub(in crate::replica) enum Lack {
    /// The page met last, of a checkpoint.
    Page { meta: Box<Meta>, page: Corruption },
    /// Everything: why.
    Store(String),
}

/// What a replica is made of besides its store.
pub(in crate::replica) struct Consensus {
    pub raft: RaftNode,
    pub mending: Option<Mending>,
    pub checkpoint: CheckpointState,
}

impl Opening {
    /// A start whose store could not be opened.
    pub fn new(lack: Lack, group: RecoveredGroup, incarnation: u64) -> Opening {
        Opening { lack, group: Some(group), incarnation, is_told: false, next_ask_us: 0 }
    }

    /// The interval of the checkpoint that would be whole but for some pages; 0 is none.
    pub fn interval(&self) -> u64 {
        match &self.lack {
            Lack::Page { meta, .. } => meta.interval,
            Lack::Store(_) => 0,
        }
    }

    fn tell(&mut self, fx: &mut Effects) {
        if std::mem::replace(&mut self.is_told, true) {
            return;
        }
        let (message, field) = match &self.lack {
            Lack::Page { page, .. } => (
                "a page that the start needs is broken: asking the other members for it",
                ("page", page.page.0.to_string()),
            ),
            Lack::Store(why) => (
                "the store is lost: asking the other members for theirs",
                ("reason", format!("\"{why}\"")),
            ),
        };
        let message = message.to_string();
        fx.push(Effect::Log { level: LogLevel::Warn, message, fields: vec![field] });
    }

    /// What the log holds at an index.
    pub fn sight(&self, index: Index) -> LogSight {
        self.group.as_ref().expect("it is taken when the store is open").sight(index)
    }

    /// What the WAL holds, for a start from another state.
    pub fn into_group(self) -> (RecoveredGroup, u64) {
        (self.group.expect("it is taken when the store is open"), self.incarnation)
    }
}

impl Consensus {
    /// What stands in until the store is open: it knows nothing, is never stepped, and answers
    /// nobody.
    pub fn placeholder(config: &Config, incarnation: u64) -> Result<Consensus, StartError> {
        let configuration = configuration_of(config, &[]);
        let restored = Restored {
            hard_state: HardState::default(),
            applied: EntryId::default(),
            configuration: configuration.clone(),
            entries: Vec::new(),
            log_base: EntryId::default(),
            incarnation,
            vote_memory: VoteMemory::Kept,
        };
        let raft = RaftNode::new(raft_config(config, incarnation), restored)
            .map_err(|error| StartError::Raft(error.to_string()))?;
        let checkpoint = CheckpointState::recovered(Default::default(), 0, None, configuration);
        Ok(Consensus { raft, mending: None, checkpoint })
    }
}

/// The store as `meta` left it, or the page that keeps it from being opened; then the store is an
/// empty one over the same file, to be opened when the page is mended.
pub(in crate::replica) fn open_store<M: PageMap>(
    map: M,
    meta: Option<&Meta>,
) -> Result<(Engine<M>, Option<Corruption>), StartError> {
    let mut engine = Engine::create(map, DEFAULT_GROUP);
    let Some(meta) = meta else { return Ok((engine, None)) };
    if meta.group != DEFAULT_GROUP {
        return Err(StartError::Pages(OpenError::State));
    }
    match reopen(&mut engine, meta) {
        Ok(()) => Ok((engine, None)),
        Err(OpenError::Corruption(corruption)) => Ok((engine, Some(corruption))),
        Err(error) => Err(StartError::Pages(error)),
    }
}

/// Opens the store and reads all that every start needs.
pub(in crate::replica) fn reopen<M: PageMap>(
    engine: &mut Engine<M>,
    meta: &Meta,
) -> Result<(), OpenError> {
    if engine.store().durable_interval() == meta.interval {
        // An earlier try opened the pages and failed on what they hold.
        engine.rewind(meta)?;
    } else {
        engine.reopen(meta)?;
    }
    engine.members()?;
    engine.removed_ids()?;
    engine.leases()?;
    Ok(())
}

impl<M: PageMap> Replica<M> {
    /// One more step of a start that waits.
    pub(in crate::replica) fn run_opening(&mut self, fx: &mut Effects) {
        let Some(opening) = &mut self.opening else { return };
        opening.tell(fx);
        if matches!(opening.lack, Lack::Store(_)) {
            if opening.next_ask_us <= self.now_us {
                opening.next_ask_us = self.now_us + ASK_AGAIN_US;
                self.want_state_of_others();
            }
            return fx.wake_at(self.now_us + ASK_AGAIN_US);
        }
        if !self.page_repair.is_needed() && !self.is_installing() {
            self.go_on_opening(fx);
        }
    }

    fn go_on_opening(&mut self, fx: &mut Effects) {
        let mut opening = self.opening.take().expect("the caller looked at it");
        let Lack::Page { meta, page } = &mut opening.lack else {
            unreachable!("a store that is lost is replaced")
        };
        match reopen(&mut self.engine, meta) {
            Ok(()) => {}
            Err(OpenError::Corruption(corruption)) => {
                *page = corruption;
                self.opening = Some(opening);
                let is_mended = self.on_broken_page(&corruption, Need::Apply);
                assert!(is_mended, "there is room for what a start needs");
                return;
            }
            Err(error) => return self.refuse_start(&StartError::Pages(error), fx),
        }
        let group = opening.group.take().expect("it is taken once");
        if let Err(error) = self.go_on_from(meta, group, opening.incarnation) {
            return self.refuse_start(&error, fx);
        }
        self.on_members_changed();
        self.reset_watches();
        self.needs_step = true;
        let fields = vec![("index", self.engine.applied_index().to_string())];
        let message = "the store is open".to_string();
        fx.push(Effect::Log { level: LogLevel::Info, message, fields });
    }

    /// What was found behind the broken pages refuses the start after all.
    pub(in crate::replica) fn refuse_start(&mut self, error: &StartError, fx: &mut Effects) {
        let fields = vec![("error", format!("\"{error}\""))];
        let message = "the member cannot start".to_string();
        fx.push(Effect::Log { level: LogLevel::Error, message, fields });
        fx.push(Effect::EndProcess);
    }
}

/// Another member's state is asked for this often, while none comes.
const ASK_AGAIN_US: u64 = 1_000_000;
