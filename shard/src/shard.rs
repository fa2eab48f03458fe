//! One core's whole program: the table of contents.
//!
//! Invariants: a step takes all inputs, in the order completions, then the rest; everything it
//! asks of the world is in `effects` when it returns; the same inputs at the same times give the
//! same effects.

use engine::page::map::PageMap;
use engine::wal::buffer::WalBuffer;
use engine::wal::limits::BLOCK_SIZE_BYTES;
use engine::wal::position::{GroupId, LogId, RunNumber, SegmentId};
use engine::wal::record::Install;
use engine::wal::recovery::recover;
use engine::wal::source::SegmentSource;
use engine::wal::writer::{SegmentFile, Start, Writer};
use net::etcd::method::Method;
use net::peer::{self, AskFailure, PeerMessage, SendError};

use crate::config::Config;
use crate::effect::{Effect, Effects};
use crate::input::{CoreId, Door, Input};
use crate::message::{Answer, LeaderNews, Message, REMOTE_CORE};
use crate::metrics::{Histogram, MethodLabels, Metrics, Scalar};
use crate::peers::{Peers, Roll};
use crate::replica::{
    CheckpointChoice, DEFAULT_GROUP, RecoveredGroup, Replica, StartError, choose_checkpoint,
    reply_of,
};
use crate::session::{Context, Front};
use crate::wal::ShardWal;

/// The owner of the default keyspace.
const OWNER: CoreId = CoreId(0);
/// A stop is over after this long, whatever still runs.
const STOP_US_MAX: u64 = 4_000_000;
/// Streams end this long after the stop began.
const STOP_STREAMS_US: u64 = 1_000_000;

/// One core's program.
pub struct Shard<M> {
    front: Front,
    /// The groups of this core: core 0 has the default keyspace, others have none yet.
    home: Option<Home<M>>,
    core: CoreId,
    /// What the other cores were told of the leader.
    told: LeaderNews,
    stopping: Option<Stopping>,
    is_stopped: bool,
}

/// What a core with groups has: replicas and the WAL they share.
struct Home<M> {
    replica: Replica<M>,
    wal: ShardWal,
    peers: Peers,
}

#[derive(Clone, Copy, Debug)]
struct Stopping {
    since_us: u64,
    are_streams_ended: bool,
}

impl<M: PageMap> Shard<M> {
    /// The owner of the default keyspace, from what the disk holds. Every segment and the page
    /// file were synced by the caller before.
    ///
    /// # Errors
    /// [`StartError`]: damage that a member alone cannot repair. Nothing was written.
    pub fn open(
        config: Config,
        source: &impl SegmentSource,
        map: M,
        meta_pages: &[Option<Vec<u8>>; 2],
        now_us: u64,
    ) -> Result<Shard<M>, StartError> {
        assert!(config.core == OWNER);
        let chosen = choose_checkpoint(meta_pages);
        let has_checkpoint = !matches!(chosen, CheckpointChoice::NoneYet);
        let (start, group, are_notes_lost) = recover_wal(&config, source, has_checkpoint)?;
        let incarnation = start.run.0;
        let mut wal = ShardWal::new(Writer::new(start), config.is_log_retained);
        wal.add_group(DEFAULT_GROUP, group.last_index, group.hard_state);
        if group.install.is_some() {
            // Its pages are found in their places, or the replica is not made.
            wal.append_installed(GroupId(DEFAULT_GROUP));
        }
        let has_met_others = wal.notes().next().is_some();
        let replica = Replica::recover(
            config.clone(),
            map,
            chosen,
            group,
            incarnation,
            has_met_others,
            now_us,
        )?;
        let peers = Peers::new(&config, incarnation, &wal, are_notes_lost);
        Ok(Shard::new(config, Some(Home { replica, wal, peers })))
    }

    /// A core without groups: it serves connections and asks the owner.
    pub fn without_groups(config: Config) -> Shard<M> {
        assert!(config.core != OWNER);
        Shard::new(config, None)
    }

    fn new(config: Config, home: Option<Home<M>>) -> Shard<M> {
        let core = config.core;
        let front = Front::new(Context::new(config, Method::ALL.len()));
        let told = LeaderNews::default();
        Shard { front, home, core, told, stopping: None, is_stopped: false }
    }

    /// Takes everything that happened and says what is to be done.
    pub fn step(&mut self, now_us: u64, inputs: &mut Vec<Input>, fx: &mut Effects) {
        if self.is_stopped {
            // The driver still waits for I/O that is under way.
            return inputs.clear();
        }
        assert!(self.front.context.now_us <= now_us, "time does not go back");
        self.front.context.now_us = now_us;
        self.on_completions(inputs, fx);
        self.front.run_deferred(fx);
        for input in inputs.drain(..) {
            self.on_input(input, fx);
        }
        self.front.tick(fx);
        self.run_peers(fx);
        self.route_calls(fx);
        if let Some(home) = &mut self.home {
            let metrics = &mut self.front.context.metrics;
            home.replica.set_wal_full(home.wal.is_full());
            home.replica.step(now_us, &mut home.wal, &mut home.peers, metrics, fx);
            home.wal.maybe_write(now_us, metrics, fx);
            home.replica.tell_members(&home.wal, &mut home.peers, fx);
            let news = home.replica.leader_news();
            self.front.context.observe_leader(news);
            self.tell_cores(news, fx);
        }
        self.route_outbox(fx);
        self.run_stop(fx);
        self.front.flush(fx);
        // What flushing made room for may have asked for something.
        self.route_calls(fx);
        if let Some(home) = &mut self.home {
            home.peers.flush(fx);
            home.peers.publish(&mut self.front.context.metrics);
            fx.gather_until_us = home.replica.gather_until_us(&home.wal);
        }
        if self.home.as_mut().is_some_and(|home| home.replica.has_new_calls()) {
            fx.step_again = true;
        }
        for token in std::mem::take(&mut self.front.context.metrics_reads) {
            fx.push(Effect::ReadMetrics { token });
        }
    }

    /// What Raft knows of the default group, where it is.
    pub fn raft_status(&self) -> Option<raft::Status> {
        self.home.as_ref().map(|home| home.replica.raft_status())
    }

    /// The core's figures.
    pub fn metrics(&self) -> &Metrics {
        &self.front.context.metrics
    }

    /// The durable pages, to be written by a world that keeps them on the heap.
    pub fn page_map_mut(&mut self) -> Option<&mut M> {
        self.home.as_mut().map(|home| home.replica.page_map_mut())
    }

    /// Tells how long a step took, for the figures.
    pub fn observe_step_us(&mut self, us: u64) {
        self.front.context.metrics.add(Scalar::Steps, 1);
        self.front.context.metrics.observe_us(Histogram::Step, us);
    }

    /// Completions of the disk come first: they free what the rest of the step needs.
    fn on_completions(&mut self, inputs: &mut Vec<Input>, fx: &mut Effects) {
        let Some(home) = &mut self.home else { return };
        let now_us = self.front.context.now_us;
        let metrics = &mut self.front.context.metrics;
        inputs.retain_mut(|input| match input {
            Input::WalSynced { end, buffer } => {
                let buffer = std::mem::take(buffer);
                home.wal.on_synced(*end, buffer, now_us, metrics, |group, number| {
                    assert!(group == DEFAULT_GROUP);
                    home.replica.on_persisted(number);
                });
                home.wal.release(fx);
                false
            }
            Input::WalSegmentReady { segment } => {
                home.wal.on_segment_ready(*segment);
                false
            }
            Input::PagesSynced { .. }
            | Input::MetaSynced { .. }
            | Input::SideSynced { .. }
            | Input::PagesInstalled => {
                home.replica.on_page_input(input, &mut home.wal, metrics, fx);
                false
            }
            Input::SpaceShort { is_short } => {
                home.replica.on_space_short(*is_short, fx);
                false
            }
            _ => true,
        });
    }

    /// What the peers brought goes to the replica, in order, before calls and ticks.
    fn run_peers(&mut self, fx: &mut Effects) {
        let Some(home) = &mut self.home else { return };
        let now_us = self.front.context.now_us;
        home.replica.begin_step(now_us);
        home.peers.tick(now_us, fx);
        home.peers.on_notes_durable(&home.wal, fx);
        let mut events = home.peers.take_events();
        for event in events.drain(..) {
            home.replica.on_peer_event(event, &mut home.peers, fx);
        }
        home.peers.give_back(events);
        if home.replica.is_over(fx) && self.stopping.is_none() {
            fx.push(Effect::EndProcess);
        }
    }

    /// Inputs of the peers' connections; the others are given back.
    fn on_peer_input(&mut self, input: Input, fx: &mut Effects) -> Option<Input> {
        let Some(home) = &mut self.home else { return Some(input) };
        match input {
            Input::Accepted { connection, door: Door::Peer } => {
                home.peers.on_accepted(connection, fx);
            }
            Input::Received { connection, bytes } if home.peers.has(connection) => {
                let roll = Roll { removed_ids: home.replica.told_removed_ids() };
                let stranger = home.peers.on_received(connection, &bytes, &roll, &mut home.wal, fx);
                fx.spent.push(bytes);
                if let Some(stranger) = stranger {
                    self.front.on_accepted(connection, Door::Peer);
                    self.front.on_received(connection, stranger.bytes, fx);
                }
            }
            Input::Transmitted { connection, size_bytes } if home.peers.has(connection) => {
                home.peers.on_transmitted(connection, size_bytes);
            }
            Input::Closed { connection } if home.peers.has(connection) => {
                home.peers.on_closed(connection);
            }
            Input::Dialed { dial, connection } => home.peers.on_dialed(dial, connection),
            Input::DialFailed { dial, failure } => home.peers.on_dial_failed(dial, failure),
            other => return Some(other),
        }
        None
    }

    fn on_input(&mut self, input: Input, fx: &mut Effects) {
        let Some(input) = self.on_peer_input(input, fx) else { return };
        match input {
            Input::Accepted { connection, door } => self.front.on_accepted(connection, door),
            Input::Received { connection, bytes } => self.front.on_received(connection, bytes, fx),
            Input::Transmitted { connection, size_bytes } => {
                self.front.on_transmitted(connection, size_bytes);
            }
            Input::Closed { connection } => self.front.on_closed(connection),
            Input::Forwarded { message, .. } => self.on_forwarded(*message),
            Input::MetricsRead { token, text } => self.front.on_metrics(token, text),
            Input::ShutdownRequested => self.on_shutdown(),
            Input::Dialed { .. } | Input::DialFailed { .. } => {
                unreachable!("a group of one member has no peers")
            }
            Input::WalSynced { .. }
            | Input::WalSegmentReady { .. }
            | Input::PagesSynced { .. }
            | Input::MetaSynced { .. }
            | Input::SideSynced { .. }
            | Input::PagesInstalled
            | Input::SpaceShort { .. } => unreachable!("a core without groups has no disk"),
        }
    }

    fn on_forwarded(&mut self, message: Message) {
        match message {
            Message::Call(origin, call) => {
                let home = self.home.as_mut().expect("calls go to the owner of the group");
                home.replica.on_call(origin, call);
            }
            answer => self.front.on_message(answer),
        }
    }

    /// Calls of this core's connections go to the owner of the default keyspace.
    fn route_calls(&mut self, fx: &mut Effects) {
        let mut calls = std::mem::take(&mut self.front.context.calls);
        for message in calls.drain(..) {
            match (&mut self.home, message) {
                (Some(home), Message::Call(origin, call)) => home.replica.on_call(origin, call),
                (None, message) => {
                    fx.push(Effect::Forward { to: OWNER, message: Box::new(message) });
                }
                (Some(_), _) => unreachable!("fronts make calls only"),
            }
        }
        self.front.context.calls = calls;
    }

    /// Other cores hear when there is another leader or none.
    fn tell_cores(&mut self, news: LeaderNews, fx: &mut Effects) {
        if self.told == (LeaderNews { revision: self.told.revision, ..news }) {
            return;
        }
        self.told = news;
        for core in 1..self.front.context.config.cores {
            let message = Box::new(Message::Leader(news));
            fx.push(Effect::Forward { to: CoreId(core), message });
        }
    }

    /// Answers and events to the cores that asked.
    fn route_outbox(&mut self, fx: &mut Effects) {
        let Some(home) = &mut self.home else { return };
        let mut messages = std::mem::take(&mut home.replica.outbox().messages);
        for (core, message) in messages.drain(..) {
            if core == REMOTE_CORE {
                home.reply(message);
            } else if core == self.core {
                self.front.on_message(message);
            } else {
                fx.push(Effect::Forward { to: core, message: Box::new(message) });
            }
        }
        let home = self.home.as_mut().expect("checked above");
        home.replica.outbox().messages = messages;
    }

    fn on_shutdown(&mut self) {
        if self.stopping.is_some() {
            return;
        }
        let since_us = self.front.context.now_us;
        self.stopping = Some(Stopping { since_us, are_streams_ended: false });
        self.front.on_shutdown();
        if let Some(home) = &mut self.home {
            home.replica.on_shutdown();
        }
    }

    /// Finish what is pending, then end the streams, then say that it is over.
    fn run_stop(&mut self, fx: &mut Effects) {
        let Some(stopping) = &mut self.stopping else { return };
        let elapsed_us = self.front.context.now_us - stopping.since_us;
        if !stopping.are_streams_ended && STOP_STREAMS_US <= elapsed_us {
            stopping.are_streams_ended = true;
            self.front.end_streams();
        }
        let is_quiet =
            self.home.as_ref().is_none_or(|home| home.replica.is_quiet() && home.wal.is_quiet());
        let are_clients_gone = self.front.session_count() == 0;
        if (is_quiet && are_clients_gone) || STOP_US_MAX <= elapsed_us {
            self.is_stopped = true;
            return fx.push(Effect::Stop);
        }
        fx.wake_at(self.front.context.now_us + 20_000);
    }
}

impl<M> Home<M> {
    /// An answer to another member's question leaves by its connection.
    fn reply(&mut self, message: Message) {
        let Message::Answer(Answer { origin, outcome, .. }) = message else {
            unreachable!("other members watch nothing here");
        };
        let (sequence, answer) = (origin.stream, reply_of(outcome));
        let reply = PeerMessage::Reply { sequence, answer };
        if let Err(SendError::TooLarge) =
            self.peers.send_by(origin.connection, DEFAULT_GROUP, &reply)
        {
            let answer = peer::Answer::Failed { reason: AskFailure::TooMany };
            let reply = PeerMessage::Reply { sequence, answer };
            // If that is lost too, its connection is: the asker asks again.
            let _ = self.peers.send_by(origin.connection, DEFAULT_GROUP, &reply);
        }
    }
}

/// The state that was being installed when the member ended, as far as its WAL says: its pages are
/// to be copied out of the side file before the shard is opened. What cannot be read at all is told
/// by [`Shard::open`].
pub fn pending_install(source: &impl SegmentSource) -> Option<Install> {
    let recovered = recover(source).ok()?;
    recovered.groups.get(&GroupId(DEFAULT_GROUP))?.state.install
}

/// What the WAL holds, or the beginning of one, and whether notes of it are lost.
fn recover_wal(
    config: &Config,
    source: &impl SegmentSource,
    has_checkpoint: bool,
) -> Result<(Start, RecoveredGroup, bool), StartError> {
    let mut segments = source.segments();
    if let Some(file) = segments.iter().find(|file| !has_whole_size(config, file)) {
        return Err(StartError::WalSegmentCut { segment: file.id.0, size_bytes: file.size_bytes });
    }
    if !has_checkpoint && segments.iter().all(|file| is_blank(source, file)) {
        // The first start, or one that was killed before its first frame.
        segments.sort_unstable_by_key(|file| file.id);
        let last = segments.last().map_or(SegmentId(0), |file| file.id);
        let fresh = Start::fresh(LogId(config.seed), RunNumber(1));
        let sizes = config.wal_segment_sizes;
        let start = Start { next_segment: last.next(), segments, sizes, ..fresh };
        return Ok((start, RecoveredGroup::from_wal(None)?, false));
    }
    let mut recovered = recover(source).map_err(StartError::Wal)?;
    let start = Start {
        sizes: config.wal_segment_sizes,
        ..recovered.start(RunNumber(recovered.run.0 + 1))
    };
    let group = recovered.groups.get_mut(&GroupId(DEFAULT_GROUP));
    Ok((start, RecoveredGroup::from_wal(group)?, recovered.has_lost_notes))
}

/// A segment gets its name when it has its full length, so a crash leaves no shorter one.
fn has_whole_size(config: &Config, file: &SegmentFile) -> bool {
    let sizes = config.wal_segment_sizes;
    [sizes.first_bytes, sizes.other_bytes].contains(&file.size_bytes)
}

/// Whether nothing was ever written into a segment. All of it is looked at: a lost first block
/// must not make an old log look like none.
fn is_blank(source: &impl SegmentSource, file: &SegmentFile) -> bool {
    let mut piece = WalBuffer::zeroed(BLANK_PIECE_SIZE_BYTES);
    let mut offset_bytes = 0;
    while offset_bytes < file.size_bytes {
        let left = usize::try_from(file.size_bytes - offset_bytes).unwrap_or(usize::MAX);
        let bytes = &mut piece.as_mut_bytes()[..left.min(BLANK_PIECE_SIZE_BYTES)];
        if source.read(file.id, offset_bytes, bytes).is_err() || bytes.iter().any(|byte| *byte != 0)
        {
            return false;
        }
        offset_bytes += bytes.len() as u64;
    }
    true
}

/// A blank segment is looked at in pieces of this size.
const BLANK_PIECE_SIZE_BYTES: usize = 1 << 20;
const _: () = assert!(BLANK_PIECE_SIZE_BYTES.is_multiple_of(BLOCK_SIZE_BYTES));

/// The gRPC methods in the order of their metrics.
pub fn method_labels() -> Vec<MethodLabels> {
    let labels = Method::ALL.iter().map(|method| MethodLabels {
        grpc_type: method.kind().grpc_type(),
        service: method.service(),
        method: method.name(),
    });
    labels.collect()
}
