//! A received state takes the place of the own one.
//!
//! Invariants: in this order: the side file durable, the record in the WAL durable, the pages copied
//! and durable, the meta page durable, the store opened again; from the record on nothing reads the
//! own pages, and nothing is applied; after a crash at any moment a start does the copying again or
//! finds it done. Source: storage.md, State transfer 1; the contract in raft/src/lib.rs, 3.

use std::sync::Arc;

use engine::engine::OpenError;
use engine::page::map::PageMap;
use engine::transfer::directory::Directory;
use engine::wal::position::GroupId;
use engine::wal::record::Install;
use raft::{Index, ReadyNumber, Snapshot, Term};

use crate::effect::{Effect, Effects, LogLevel};
use crate::replica::damage::opening::reopen;
use crate::replica::{DEFAULT_GROUP, Replica};
use crate::wal::ShardWal;

/// The state that is being installed.
#[derive(Debug)]
pub(in crate::replica) struct Installing {
    directory: Box<Directory>,
    snapshot: Snapshot,
    stage: Stage,
    /// The log is whole and goes on; only the pages are replaced.
    keeps_log: bool,
    /// How often the pages were copied.
    copies: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The record waits for its Ready to be durable.
    Recording(ReadyNumber),
    /// What the WAL holds waits to be durable: a start makes no Ready.
    RecordingAtStart,
    /// It is durable: the copying may begin.
    Recorded,
    Copying,
    WritingMeta,
}

impl Installing {
    fn new(directory: Box<Directory>, snapshot: Snapshot, stage: Stage) -> Installing {
        Installing { directory, snapshot, stage, keeps_log: false, copies: 0 }
    }

    /// A Ready and all before it are durable.
    pub fn on_persisted(&mut self, number: ReadyNumber) {
        if let Stage::Recording(awaited) = self.stage
            && awaited <= number
        {
            self.stage = Stage::Recorded;
        }
    }
}

impl<M: PageMap> Replica<M> {
    /// Whether the own pages may not be looked at.
    pub(in crate::replica) fn is_installing(&self) -> bool {
        self.installing.is_some()
    }

    /// Raft replaced its log by the state that was received: what the WAL is to say of it.
    pub(in crate::replica) fn begin_install(
        &mut self,
        snapshot: Snapshot,
        number: ReadyNumber,
    ) -> Install {
        let directory = self.receiving.take_held().expect("Raft takes what it was offered");
        assert!(self.installing.is_none());
        assert!(!self.checkpoint.is_under_way(), "the own pages are at rest");
        assert!(!self.page_repair.is_writing(), "no transfer begins beside a repair");
        assert!(snapshot.last.index.0 == directory.last.index);
        let install = directory.install();
        // What was committed and not applied is in it.
        self.committed.clear();
        self.events.clear();
        let stage = Stage::Recording(number);
        self.installing = Some(Installing::new(directory, snapshot, stage));
        install
    }

    /// A received state that the log contains takes the place of pages that cannot be mended. The
    /// WAL says nothing of it, since an install ends the log there: after a crash in the middle the
    /// pages are broken as they are now, and are replaced again.
    pub(in crate::replica) fn adopt_store(&mut self, wal: &ShardWal) {
        let last = self.receiving.held_store().expect("the caller looked at it");
        assert!(last.index <= self.raft.commit().0);
        if !wal.is_synced_to(DEFAULT_GROUP, last.index) {
            // No meta page is ahead of the log.
            return;
        }
        let configuration = self.receiving.configuration().expect("it is held").clone();
        let directory = self.receiving.take_held().expect("just looked at");
        assert!(self.installing.is_none() && !self.checkpoint.is_under_way());
        assert!(!self.page_repair.is_writing(), "no transfer begins beside a repair");
        let id = raft::EntryId { index: Index(last.index), term: Term(last.term) };
        let snapshot = Snapshot { last: id, configuration };
        let stage = Stage::Recorded;
        let installing = Installing::new(directory, snapshot, stage);
        self.installing = Some(Installing { keeps_log: true, ..installing });
        self.tell_health(true);
    }

    /// A start goes on from a received state.
    pub(in crate::replica) fn begin_install_at_start(
        &mut self,
        directory: Box<Directory>,
        snapshot: Snapshot,
    ) {
        assert!(self.installing.is_none() && !self.checkpoint.is_under_way());
        assert!(!self.page_repair.is_writing(), "no transfer begins beside a repair");
        let stage = Stage::RecordingAtStart;
        self.installing = Some(Installing::new(directory, snapshot, stage));
        self.needs_step = true;
    }

    /// Begins the copying once the record is durable.
    pub(in crate::replica) fn run_install(&mut self, wal: &ShardWal, fx: &mut Effects) {
        let Some(installing) = &mut self.installing else { return };
        if installing.stage == Stage::RecordingAtStart && wal.is_quiet() {
            installing.stage = Stage::Recorded;
        }
        if installing.stage == Stage::Recorded {
            installing.stage = Stage::Copying;
            installing.copies += 1;
            let directory = &installing.directory;
            let whole_pages = Some(directory.meta().page_count);
            fx.push(Effect::PagesInstall { runs: directory.runs.clone(), whole_pages });
        }
    }

    /// The pages lie in their places: the meta page makes them count.
    pub fn on_pages_installed(&mut self, fx: &mut Effects) {
        let installing = self.installing.as_mut().expect("pages are installed once");
        assert!(installing.stage == Stage::Copying);
        installing.stage = Stage::WritingMeta;
        let meta = installing.directory.meta();
        let bytes = Arc::from(installing.directory.meta_page.as_slice());
        fx.push(Effect::MetaWrite { interval: meta.interval, slot: meta.slot(), bytes });
    }

    /// The meta page is durable: the store goes on from there.
    pub(in crate::replica) fn on_install_durable(
        &mut self,
        interval: u64,
        wal: &mut ShardWal,
        fx: &mut Effects,
    ) {
        let installing = self.installing.take().expect("the caller looked at it");
        assert!(installing.stage == Stage::WritingMeta);
        let meta = installing.directory.meta();
        assert!(meta.interval == interval);
        if let Err(error) = reopen(&mut self.engine, &meta) {
            return self.install_again(installing, &error, fx);
        }
        let Installing { directory, snapshot, keeps_log, .. } = installing;
        assert!(self.engine.applied_index() == directory.last.index);
        fx.push(Effect::SideDiscard);
        self.receiving.on_side_discarded();
        self.figures.on_receipt_installed(self.now_us);
        self.may_have_broken_pages = true;
        self.end_page_repair();
        let last = directory.last;
        if self.is_mending() {
            self.end_start_over(&directory, wal, fx);
        } else if keeps_log {
            // The other meta page names pages that were written over: it is not to be chosen.
            wal.on_checkpoint(DEFAULT_GROUP, last);
            let configuration = snapshot.configuration.clone();
            self.checkpoint.on_replaced(last, configuration, directory.meta_page);
            self.go_on_from_adopted(&snapshot, fx);
            self.raft.checkpointed(snapshot);
        } else {
            wal.append_installed(GroupId(DEFAULT_GROUP));
            self.checkpoint.on_installed(last, snapshot.configuration, directory.meta_page);
            self.rewind = None;
            self.health.observe_apply(false, self.now_us);
            self.on_store_replaced();
        }
        self.tell_health(false);
        self.needs_step = true;
        let fields = vec![
            ("index", last.index.to_string()),
            ("revision", self.engine.revision().to_string()),
        ];
        let message = "installed the state of the cluster".to_string();
        fx.push(Effect::Log { level: LogLevel::Info, message, fields });
        if self.removed_ids.contains(&self.config.member_id) {
            self.on_removed(fx);
        }
    }

    /// What was copied is not there, or not whole: it is copied once more. If that does not help, the
    /// next start asks the other members for the pages.
    fn install_again(&mut self, mut installing: Installing, error: &OpenError, fx: &mut Effects) {
        let is_last = COPIES_MAX <= installing.copies;
        let (level, message) = match is_last {
            false => (LogLevel::Warn, "the installed state cannot be opened: copying it again"),
            true => (LogLevel::Error, "the installed state cannot be opened"),
        };
        let fields = vec![("error", format!("\"{error}\""))];
        fx.push(Effect::Log { level, message: message.to_string(), fields });
        if is_last {
            fx.push(Effect::EndProcess);
        }
        installing.stage = Stage::Recorded;
        self.needs_step |= !is_last;
        self.installing = Some(installing);
    }

    /// The store is ahead of what was applied here one by one.
    pub(in crate::replica) fn on_store_replaced(&mut self) {
        self.on_members_changed();
        self.reset_watches();
        self.restart_leases();
        // What was proposed here may be in it: nobody is told, its time runs out.
        self.background.on_role_change();
    }
}

/// A received state is copied into its place so often.
const COPIES_MAX: u32 = 2;
