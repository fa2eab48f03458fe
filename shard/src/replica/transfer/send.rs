//! State transfer, the sender's side: pages of durable checkpoints for members that lag.
//!
//! Invariants: what is sent has the content that was asked for, or is said to be gone; pages leave
//! at a rate, so that the group's own work goes on beside it; what waits to be answered is bounded,
//! and who asks for more than that is cut off; a transfer of which nothing is heard for a while is
//! over for Raft, which then looks again at what the member lacks.
//! Source: storage.md, State transfer; the contract in raft/src/lib.rs.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use engine::api::Command;
use engine::page::map::PageMap;
use engine::transfer::{Wanted, source};
use net::peer::{PageRun, PageWanted, PeerMessage};
use raft::{EntryId, Index, Message, ReplicaId, SnapshotOutcome, Term};

use crate::effect::{Effect, Effects, LogLevel};
use crate::input::ConnectionId;
use crate::peers::Peers;
use crate::replica::pending::Waiter;
use crate::replica::{DEFAULT_GROUP, Replica};

/// A transfer of which nothing was heard for so long is over.
const SILENCE_US: u64 = 3_000_000;
/// After its connection ended it is over this much later: the receiver may just be done.
const CLOSED_US: u64 = 200_000;
/// Pages sent for each millisecond that passed, to all receivers together: 64 MB/s. Puts beside it
/// are what bounds it (bench/stream): more makes them wait for the core, and for the disk if the
/// receiver has the same one.
const PAGES_PER_MS: u64 = 16;
/// Pages that one step may send, however long ago the last one was.
const PAGES_PER_STEP_MAX: u64 = 32;
/// Requests that wait for their answer; a connection that adds another is closed.
const REQUESTS_MAX: usize = 64;
/// Pages that one request may ask for.
const REQUEST_PAGES_MAX: u64 = 1_024;

/// Transfers to others.
#[derive(Debug, Default)]
pub(in crate::replica) struct Sending {
    /// Members that Raft waits for, and until when.
    awaited: BTreeMap<u64, u64>,
    requests: VecDeque<Request>,
    paced_us: u64,
}

#[derive(Debug)]
struct Request {
    connection: ConnectionId,
    sequence: u64,
    pages: Vec<PageWanted>,
}

impl Sending {
    /// When something is to be done next.
    pub fn next_wake_us(&self) -> Option<u64> {
        let pages_us = (!self.requests.is_empty()).then_some(self.paced_us + 1_000);
        self.awaited.values().copied().chain(pages_us).min()
    }

    fn on_heard(&mut self, member: u64, now_us: u64) {
        if let Some(until_us) = self.awaited.get_mut(&member) {
            *until_us = now_us + SILENCE_US;
        }
    }
}

impl<M: PageMap> Replica<M> {
    /// Raft wants a member to have the newest checkpoint: it is told so and fetches it.
    pub(in crate::replica) fn on_snapshot_wanted(&mut self, message: Message, peers: &mut Peers) {
        let to = message.to;
        match peers.send(to.0, DEFAULT_GROUP, &PeerMessage::Raft(message)) {
            Ok(()) => {
                self.sending.awaited.insert(to.0, self.now_us + SILENCE_US);
            }
            Err(_) => self.raft.report_snapshot(to, SnapshotOutcome::Failed),
        }
    }

    /// A receiver asks which checkpoint there is.
    pub(in crate::replica) fn on_meta_request(
        &mut self,
        member: u64,
        connection: ConnectionId,
        peers: &mut Peers,
        fx: &mut Effects,
    ) {
        self.sending.on_heard(member, self.now_us);
        let Some((last, configuration, meta)) = self.checkpoint.newest() else {
            return peers.close(connection, fx);
        };
        let last = EntryId { index: Index(last.index), term: Term(last.term) };
        let (configuration, meta) = (configuration.clone(), Bytes::copy_from_slice(meta));
        let message = PeerMessage::Meta { last, configuration, meta };
        if peers.send_by(connection, DEFAULT_GROUP, &message).is_err() {
            peers.close(connection, fx);
        }
    }

    /// A receiver asks for pages: they are sent when it is their turn.
    pub(in crate::replica) fn on_page_request(
        &mut self,
        member: u64,
        connection: ConnectionId,
        sequence: u64,
        pages: Vec<PageWanted>,
        peers: &mut Peers,
        fx: &mut Effects,
    ) {
        self.sending.on_heard(member, self.now_us);
        let count: u64 = pages.iter().map(|run| u64::from(run.count)).sum();
        if REQUESTS_MAX <= self.sending.requests.len() || REQUEST_PAGES_MAX < count {
            return peers.close(connection, fx);
        }
        let index = self.checkpoint.durable().index;
        self.figures.on_pages_wanted(member, index, self.now_us);
        self.announce(&pages);
        self.sending.requests.push_back(Request { connection, sequence, pages });
    }

    /// What waits for its turn is fetched from the disk meanwhile, not when it is read: who reads a
    /// page that is not in memory holds up everything else of this core.
    fn announce(&self, pages: &[PageWanted]) {
        let map = self.engine.store().map();
        let mut rest = pages.iter().map(|run| (run.first.0, u64::from(run.count))).peekable();
        while let Some((first, mut count)) = rest.next() {
            while let Some((_, more)) =
                rest.next_if(|(next, _)| Some(*next) == first.checked_add(count))
            {
                count = count.saturating_add(more);
            }
            map.will_need(engine::page::map::PageNumber(first), count);
        }
    }

    /// A connection for transfers ended, and it was not this member that received by it.
    pub(in crate::replica) fn on_sending_closed(
        &mut self,
        member: u64,
        connection: Option<ConnectionId>,
    ) {
        self.sending.requests.retain(|request| Some(request.connection) != connection);
        if let Some(until_us) = self.sending.awaited.get_mut(&member) {
            *until_us = (self.now_us + CLOSED_US).min(*until_us);
        }
    }

    /// Answers requests at the rate that is allowed, and gives up transfers that went silent.
    pub(in crate::replica) fn run_sending(&mut self, peers: &mut Peers, fx: &mut Effects) {
        let now_us = self.now_us;
        let raft = &mut self.raft;
        self.sending.awaited.retain(|member, until_us| {
            let is_over = *until_us <= now_us;
            if is_over {
                raft.report_snapshot(ReplicaId(*member), SnapshotOutcome::Failed);
            }
            !is_over
        });
        if self.sending.requests.is_empty() || self.is_installing() {
            self.sending.paced_us = now_us;
            return;
        }
        let elapsed_ms = now_us.saturating_sub(self.sending.paced_us) / 1_000;
        if elapsed_ms == 0 {
            return;
        }
        let pages_allowed = (elapsed_ms * PAGES_PER_MS).min(PAGES_PER_STEP_MAX);
        let mut pages_sent = 0;
        while pages_sent < pages_allowed
            && let Some(request) = self.sending.requests.pop_front()
        {
            let count: u64 = request.pages.iter().map(|run| u64::from(run.count)).sum();
            pages_sent += count.max(1);
            self.answer_pages(request, peers, fx);
        }
        // A request is answered whole: what that was too much is waited for.
        let pages_owed = pages_sent.saturating_sub(pages_allowed);
        self.sending.paced_us = now_us + pages_owed * 1_000 / PAGES_PER_MS;
    }

    fn answer_pages(&mut self, request: Request, peers: &mut Peers, fx: &mut Effects) {
        let Request { connection, sequence, pages } = request;
        let map = self.engine.store().map();
        let in_flight = self.checkpoint.pages_in_flight();
        let answered = pages.iter().map(|run| {
            let wanted = Wanted { first: run.first, count: run.count, checksum: run.checksum };
            let bytes = source::read(map, &wanted, in_flight).map(Bytes::from);
            PageRun { first: run.first, bytes }
        });
        let message = PeerMessage::Pages { sequence, pages: answered.collect() };
        if peers.send_by(connection, DEFAULT_GROUP, &message).is_err() {
            // It does not take what it asked for: it begins again when it does.
            peers.close(connection, fx);
        }
    }

    /// A leader whose log does not go back to its checkpoint cannot help who lags: it makes another
    /// checkpoint. So does one that has none while a newborn member waits for it.
    pub(in crate::replica) fn checkpoint_for_others(&mut self, fx: &mut Effects) {
        if self.background.is_own_pending()
            || self.checkpoint.is_under_way()
            || self.raft.configuration().members().count() <= 1
        {
            return;
        }
        let needed = self.checkpoint.log_dropped_to().max(1);
        let lags = |peer: &raft::PeerStatus| peer.is_recently_active && peer.matched.0 < needed;
        if self.checkpoint.serves_newborn() || !self.raft.status().peers.iter().any(lags) {
            return;
        }
        let is_proposed = self.propose_own(&Command::Checkpoint, Waiter::Background);
        self.background.set_own_pending(is_proposed);
        if is_proposed {
            let message = "a checkpoint is made for a member that lags".to_string();
            fx.push(Effect::Log { level: LogLevel::Info, message, fields: Vec::new() });
        }
    }
}
