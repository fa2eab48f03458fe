//! State transfer, the receiver's side: a checkpoint of another member into the side file.
//!
//! Invariants: the own pages go on serving and do not change meanwhile (no interval ends, so what
//! was found equal stays so); what is asked for and not yet synced is bounded; an attempt that comes
//! to nothing leaves what it received to the next one in this process; Raft hears of the state only
//! when all of it, and the list of what lies where, is durable in the side file.
//! Source: storage.md, State transfer 1; replication.md, Damage 3.

use std::sync::Arc;

use bytes::Bytes;
use engine::page::map::{PAGE_SIZE_BYTES, PageMap};
use engine::transfer::directory::Directory;
use engine::transfer::sink::{Sink, TransferError};
use engine::wal::record::EntryId;
use net::peer::{PageRun, PageWanted, PeerMessage};
use raft::{Body, Configuration, Message, ReplicaId, Role, Snapshot};

use super::receiving::{Attempt, Phase, SILENCE_US};
use crate::effect::{Effect, Effects, LogLevel};
use crate::input::ConnectionId;
use crate::peers::Peers;
use crate::replica::damage::opening::Opening;
use crate::replica::{DEFAULT_GROUP, Replica};
use crate::wal::ShardWal;

/// Pages asked for in one request: the sender answers one in a step of its own.
const REQUEST_PAGES_MAX: u32 = 16;
/// Runs in one request.
const REQUEST_RUNS_MAX: usize = 16;
/// Requests on their way.
const REQUESTS_MAX: usize = 16;
/// Pages of the walk in one step: each may be read and compared with its checksum.
const WALK_PAGES_MAX: usize = 512;
/// Bytes written to the side file after which they are synced. The driver writes them back as they
/// come, so a sync finds little to do; but each one is a commit of the file system's journal, for
/// which the log's writes wait as well.
const SYNC_SIZE_BYTES: usize = 8 << 20;
/// Bytes in the side file that are not known to be synced; nothing more is asked for above.
const UNSYNCED_SIZE_BYTES_MAX: usize = 32 << 20;

impl<M: PageMap> Replica<M> {
    /// A leader says that this member lacks what only its pages hold.
    pub(in crate::replica) fn on_snapshot_notice(&mut self, from: u64, snapshot: &Snapshot) {
        if self.receiving.attempt.is_none() && !self.is_installing() {
            self.receiving.wanted = Some((from, snapshot.last.index.0));
        }
    }

    /// One more step of the transfer to this member, if there is one.
    pub(in crate::replica) fn run_receiving(
        &mut self,
        wal: &mut ShardWal,
        peers: &mut Peers,
        fx: &mut Effects,
    ) {
        if self.receiving.attempt.is_none() {
            return self.maybe_begin_attempt(peers, fx);
        }
        let attempt = self.receiving.attempt.as_ref().expect("just looked at");
        if attempt.heard_us + SILENCE_US <= self.now_us {
            return self.end_attempt("nothing came for too long", peers, fx);
        }
        let is_known = attempt.last.index <= self.raft.commit().0;
        if attempt.last.index != 0 && is_known && !attempt.replaces_store {
            // Entries came after all.
            return self.give_up_side(peers, fx);
        }
        if attempt.replaces_store && !self.is_store_wanted() {
            // So did what the log or the store lacked.
            return self.give_up_side(peers, fx);
        }
        match attempt.phase {
            Phase::Fetching if attempt.barrier.is_none() => self.fetch(peers, fx),
            Phase::Held { .. } if self.is_mending() => self.begin_start_over(wal),
            Phase::Held { .. } if attempt.replaces_store && is_known => self.adopt_store(wal),
            Phase::Held { .. } => self.offer_held(),
            Phase::Aiming | Phase::Fetching | Phase::Syncing { .. } => {}
        }
    }

    /// Whether the own store is to be replaced.
    fn is_store_wanted(&self) -> bool {
        self.rewind.is_some() || self.is_short_of_state()
    }

    fn maybe_begin_attempt(&mut self, peers: &mut Peers, fx: &mut Effects) {
        let is_wanted = self.is_store_wanted();
        let wanted_store = self.receiving.wanted_store.filter(|_| is_wanted).map(|from| (from, 0));
        let Some((named, index)) = self.receiving.wanted.or(wanted_store) else { return };
        let replaces_store = self.receiving.wanted.is_none();
        if self.checkpoint.is_under_way() || self.page_repair.is_writing() {
            // Pages are being written: what the file holds is known when that is done.
            return;
        }
        (self.receiving.wanted, self.receiving.wanted_store) = (None, None);
        let from = self.source_instead_of(named);
        let is_known = index <= self.raft.commit().0 && !replaces_store;
        if self.is_installing() || is_known || !peers.dial_transfer(from, fx) {
            return;
        }
        self.checkpoint.stop_punching();
        self.figures.on_receipt_begun(from, self.now_us);
        self.receiving.is_side_used = true;
        let barrier = Some(self.sync_side(fx));
        self.receiving.attempt = Some(Attempt {
            from,
            connection: None,
            phase: Phase::Aiming,
            replaces_store,
            heard_us: self.now_us,
            barrier,
            last: EntryId::default(),
            configuration: Configuration::default(),
            requests: Vec::new(),
            pages_received: 0,
            started_us: self.now_us,
        });
        let fields = vec![("from", format!("\"{from:x}\""))];
        let message = "fetching the state of the cluster from a member".to_string();
        fx.push(Effect::Log { level: LogLevel::Info, message, fields });
    }

    /// Whom to ask: who was named, unless it lacked something the last time.
    fn source_instead_of(&mut self, named: u64) -> u64 {
        let is_lacking = self.receiving.lacking.take() == Some(named);
        let others = self.connected_since_us.keys().copied().filter(|other| *other != named);
        let others: Vec<u64> = others.collect();
        if !is_lacking || others.is_empty() {
            return named;
        }
        self.receiving.next_source(&others)
    }

    /// The connection for a transfer is open; false if it is another member that wants one.
    pub(in crate::replica) fn on_receiving_opened(
        &mut self,
        member: u64,
        connection: ConnectionId,
        peers: &mut Peers,
        fx: &mut Effects,
    ) {
        let now_us = self.now_us;
        let Some(attempt) = &mut self.receiving.attempt else { return };
        if attempt.from != member || attempt.connection.is_some() || !peers.is_dialed(connection) {
            return;
        }
        attempt.connection = Some(connection);
        attempt.heard_us = now_us;
        if peers.send_by(connection, DEFAULT_GROUP, &PeerMessage::MetaRequest).is_err() {
            self.end_attempt("the connection takes nothing", peers, fx);
        }
    }

    /// The attempt's connection ended.
    pub(in crate::replica) fn on_receiving_closed(&mut self, peers: &mut Peers, fx: &mut Effects) {
        let attempt = self.receiving.attempt.as_mut().expect("the caller asked whose it is");
        attempt.connection = None;
        if !matches!(attempt.phase, Phase::Syncing { .. } | Phase::Held { .. }) {
            self.end_attempt("the connection ended", peers, fx);
        }
    }

    /// The sender names its newest checkpoint.
    pub(in crate::replica) fn on_meta(
        &mut self,
        connection: ConnectionId,
        last: raft::EntryId,
        configuration: Configuration,
        page: &Bytes,
        peers: &mut Peers,
        fx: &mut Effects,
    ) {
        let opened = self.engine.store().durable_interval();
        let own_interval = self.opening.as_ref().map_or(opened, Opening::interval);
        let is_at_start = self.is_mending();
        let is_usable = !is_at_start || self.may_start_from(last);
        let now_us = self.now_us;
        let Some(attempt) = &mut self.receiving.attempt else { return };
        if attempt.connection != Some(connection) || !matches!(attempt.phase, Phase::Aiming) {
            return;
        }
        if last.index <= self.raft.commit() && !attempt.replaces_store {
            return self.give_up_side(peers, fx);
        }
        if last.index.0 <= attempt.last.index {
            // It lost pages of its newest checkpoint: another member may have them.
            self.receiving.lacking = Some(attempt.from);
            return self.end_attempt("the sender lacks pages of its own checkpoint", peers, fx);
        }
        if !is_usable {
            return self.end_attempt("it does not say what the own log lacks", peers, fx);
        }
        // Where a page is broken for good, what is above it may not stand for all below.
        let trusted_interval = if attempt.replaces_store { 0 } else { own_interval };
        let aimed = self.receiving.sink.aim(page, DEFAULT_GROUP, trusted_interval);
        let names_it = |sink: &Sink| {
            sink.meta().is_some_and(|meta| {
                meta.applied_index == last.index.0 && own_interval < meta.interval
            })
        };
        if aimed.is_err() || !names_it(&self.receiving.sink) || configuration.voters.is_empty() {
            return self.end_attempt("the sender's checkpoint makes no sense", peers, fx);
        }
        attempt.heard_us = now_us;
        attempt.last = EntryId { index: last.index.0, term: last.term.0 };
        attempt.configuration = configuration;
        attempt.requests.clear();
        attempt.phase = Phase::Fetching;
    }

    /// Pages came that were asked for.
    pub(in crate::replica) fn on_pages(
        &mut self,
        connection: ConnectionId,
        sequence: u64,
        pages: &[PageRun],
        peers: &mut Peers,
        fx: &mut Effects,
    ) {
        let now_us = self.now_us;
        let Some(attempt) = &mut self.receiving.attempt else { return };
        if attempt.connection != Some(connection) {
            return;
        }
        // An answer to what was asked for an earlier target is not waited for any more.
        let Some(slot) = attempt.requests.iter().position(|known| *known == sequence) else {
            return;
        };
        attempt.requests.swap_remove(slot);
        attempt.heard_us = now_us;
        let mut is_gone = false;
        for run in pages {
            let Some(bytes) = &run.bytes else {
                is_gone = true;
                continue;
            };
            if let Err(error) = self.receiving.sink.receive(run.first, bytes) {
                let why = format!("what came cannot be used: {error}");
                return self.end_attempt(&why, peers, fx);
            }
            attempt.pages_received += (bytes.len() / PAGE_SIZE_BYTES) as u64;
            self.receiving.is_side_used = true;
            self.receiving.unsynced_size_bytes += bytes.len();
            fx.push(Effect::SideWrite { first: run.first.0, bytes: Arc::from(&bytes[..]) });
        }
        if is_gone {
            attempt.phase = Phase::Aiming;
            attempt.requests.clear();
            if peers.send_by(connection, DEFAULT_GROUP, &PeerMessage::MetaRequest).is_err() {
                self.end_attempt("the connection takes nothing", peers, fx);
            }
        }
    }

    /// A sync of the side file is done.
    pub(in crate::replica) fn on_side_synced(&mut self, number: u64) {
        let slot = self.receiving.syncs.iter().position(|(known, _)| *known == number);
        let (_, size_bytes) = self.receiving.syncs.remove(slot.expect("a sync is answered once"));
        assert!(size_bytes <= self.receiving.unsynced_size_bytes);
        self.receiving.unsynced_size_bytes -= size_bytes;
        let Some(attempt) = &mut self.receiving.attempt else { return };
        attempt.heard_us = self.now_us;
        attempt.barrier = attempt.barrier.filter(|awaited| *awaited != number);
        let phase = std::mem::replace(&mut attempt.phase, Phase::Aiming);
        attempt.phase = match phase {
            Phase::Syncing { number: last, directory } if last == number => {
                Phase::Held { directory }
            }
            other => other,
        };
    }

    /// Walks on and asks for what is lacking, within the bounds.
    fn fetch(&mut self, peers: &mut Peers, fx: &mut Effects) {
        let walked = self.receiving.sink.walk(self.engine.store().map(), WALK_PAGES_MAX);
        match walked {
            Ok(is_more) => self.needs_step |= is_more,
            Err(error) => return self.end_useless(error, peers, fx),
        }
        self.maybe_sync_side(fx);
        let receiving = &mut self.receiving;
        let attempt = receiving.attempt.as_mut().expect("the caller looked at it");
        let Some(connection) = attempt.connection else { return };
        while attempt.requests.len() < REQUESTS_MAX
            && receiving.unsynced_size_bytes < UNSYNCED_SIZE_BYTES_MAX
        {
            let mut wanted = Vec::new();
            receiving.sink.take_wanted(REQUEST_PAGES_MAX, REQUEST_RUNS_MAX, &mut wanted);
            if wanted.is_empty() {
                break;
            }
            let run = |run: &engine::transfer::Wanted| PageWanted {
                first: run.first,
                count: run.count,
                checksum: run.checksum,
            };
            let pages = wanted.iter().map(run).collect();
            receiving.next_request += 1;
            let sequence = receiving.next_request;
            let request = PeerMessage::PageRequest { sequence, pages };
            if peers.send_by(connection, DEFAULT_GROUP, &request).is_err() {
                return self.end_attempt("the connection takes nothing", peers, fx);
            }
            attempt.requests.push(sequence);
        }
        if receiving.sink.is_complete() {
            self.finish_side(peers, fx);
        }
    }

    /// Everything is here: the list of it goes behind the pages, and all becomes durable.
    fn finish_side(&mut self, peers: &mut Peers, fx: &mut Effects) {
        let receiving = &mut self.receiving;
        let runs = match receiving.sink.runs() {
            Ok(runs) => runs,
            Err(error) => return self.end_useless(error, peers, fx),
        };
        let attempt = receiving.attempt.as_mut().expect("the caller looked at it");
        let page = receiving.sink.meta_page().expect("a complete walk has a target");
        let directory = Directory { last: attempt.last, meta_page: page.to_vec(), runs };
        for (first, bytes) in directory.encode() {
            receiving.unsynced_size_bytes += bytes.len();
            fx.push(Effect::SideWrite { first, bytes });
        }
        receiving.is_side_used = true;
        let number = self.sync_side(fx);
        let attempt = self.receiving.attempt.as_mut().expect("the caller looked at it");
        attempt.phase = Phase::Syncing { number, directory: Box::new(directory) };
        let fields = vec![
            ("pages", attempt.pages_received.to_string()),
            ("index", attempt.last.index.to_string()),
            ("took-ms", ((self.now_us - attempt.started_us) / 1_000).to_string()),
        ];
        let message = "fetched the state of the cluster".to_string();
        fx.push(Effect::Log { level: LogLevel::Info, message, fields });
        if let Some(connection) = attempt.connection.take() {
            peers.close(connection, fx);
        }
    }

    fn maybe_sync_side(&mut self, fx: &mut Effects) {
        let synced: usize = self.receiving.syncs.iter().map(|(_, size_bytes)| size_bytes).sum();
        if SYNC_SIZE_BYTES <= self.receiving.unsynced_size_bytes - synced {
            self.sync_side(fx);
        }
    }

    fn sync_side(&mut self, fx: &mut Effects) -> u64 {
        let receiving = &mut self.receiving;
        let synced: usize = receiving.syncs.iter().map(|(_, size_bytes)| size_bytes).sum();
        receiving.sync_number += 1;
        let number = receiving.sync_number;
        receiving.syncs.push((number, receiving.unsynced_size_bytes - synced));
        fx.push(Effect::SideSync { number });
        number
    }

    /// The state is held: Raft is told in the name of who leads now, whoever sent it.
    fn offer_held(&mut self) {
        let soft = self.raft.soft_state();
        let Some(leader) = soft.leader else { return };
        let own = ReplicaId(self.config.member_id);
        if soft.role != Role::Follower || leader == own {
            return;
        }
        let attempt = self.receiving.attempt.as_mut().expect("the caller looked at it");
        attempt.heard_us = self.now_us;
        let EntryId { index, term } = attempt.last;
        let last = raft::EntryId { index: raft::Index(index), term: raft::Term(term) };
        let configuration = attempt.configuration.clone();
        let body = Body::Snapshot { snapshot: Snapshot { last, configuration } };
        let message = Message { from: leader, to: own, term: soft.term, body };
        // A tree that is being replaced is not one to lead with.
        self.tell_health(true);
        if self.raft.step(message).is_err() {
            // It contradicts what is known here: the next checkpoint may not.
            self.figures.on_receipt_failed();
            self.receiving.attempt = None;
            self.receiving.sink = Sink::default();
        }
    }

    /// After Raft had its say: a state that it does not want is given up.
    pub(in crate::replica) fn drop_unwanted(&mut self, peers: &mut Peers, fx: &mut Effects) {
        let is_old = |attempt: &Attempt| attempt.last.index <= self.raft.commit().0;
        let Some(attempt) = &self.receiving.attempt else { return };
        let is_unwanted = is_old(attempt) && !attempt.replaces_store;
        if matches!(attempt.phase, Phase::Held { .. }) && is_unwanted {
            self.give_up_side(peers, fx);
        }
    }

    /// What was received is not needed any more.
    fn give_up_side(&mut self, peers: &mut Peers, fx: &mut Effects) {
        self.figures.on_receipt_dropped();
        self.close_attempt(peers, fx);
        self.receiving.sink = Sink::default();
        if std::mem::take(&mut self.receiving.is_side_used) {
            fx.push(Effect::SideDiscard);
        }
    }

    /// What was sent is no checkpoint: nothing of it is kept.
    fn end_useless(&mut self, error: TransferError, peers: &mut Peers, fx: &mut Effects) {
        self.end_attempt(&format!("what came cannot be used: {error}"), peers, fx);
        self.receiving.sink = Sink::default();
    }

    /// The attempt came to nothing: the leader notices, and says again that it is needed.
    fn end_attempt(&mut self, why: &str, peers: &mut Peers, fx: &mut Effects) {
        let Some(attempt) = &self.receiving.attempt else { return };
        let fields = vec![
            ("from", format!("\"{:x}\"", attempt.from)),
            ("pages", attempt.pages_received.to_string()),
            ("reason", format!("\"{why}\"")),
        ];
        self.figures.on_receipt_failed();
        let message = "fetching the state of the cluster was interrupted".to_string();
        fx.push(Effect::Log { level: LogLevel::Info, message, fields });
        self.close_attempt(peers, fx);
    }

    fn close_attempt(&mut self, peers: &mut Peers, fx: &mut Effects) {
        let connection = self.receiving.attempt.take().and_then(|attempt| attempt.connection);
        if let Some(connection) = connection {
            peers.close(connection, fx);
        }
    }
}
