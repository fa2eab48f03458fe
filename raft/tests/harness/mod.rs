//! A whole group in memory: replicas with disks that lose what is not synced, and a network that
//! delivers, drops, repeats, reorders and cuts.
//!
//! Invariants checked at every step: at most one leader a term (election safety), one entry an
//! index among everything applied (state-machine safety), a new leader holds everything that was
//! applied anywhere (leader completeness), nobody applies twice or skips.
//! Each test binary uses its part of this, so unused parts are no news.
#![allow(dead_code)]

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use raft::{
    Body, ChangeStep, Config, Configuration, ConfigurationChange, Entry, EntryId, EntryKind,
    HardState, Index, Message, RaftNode, ReadState, Ready, ReadyNumber, ReplicaId, Restored, Role,
    Snapshot, SnapshotOutcome, Status, StepError, Term, Transition,
};

pub mod solo;

/// A message on its way, with the incarnations it is from and for.
#[derive(Clone, Debug)]
pub struct Envelope {
    pub from_incarnation: u64,
    pub to_incarnation: u64,
    pub message: Message,
}

/// What one Ready asked to write, until it is synced.
#[derive(Debug)]
struct Write {
    number: ReadyNumber,
    hard_state: Option<HardState>,
    snapshot: Option<Snapshot>,
    entries: Vec<Entry>,
    messages: Vec<Message>,
}

/// What survives a crash.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    pub hard_state: HardState,
    pub checkpoint: Snapshot,
    pub entries: Vec<Entry>,
}

pub struct Replica {
    pub node: Option<RaftNode>,
    pub config: Config,
    pub disk: Disk,
    pub incarnation: u64,
    writes: VecDeque<Write>,
    /// Writes are not synced while this is set.
    pub is_sync_held: bool,
    /// Committed entries handed out and not applied yet.
    pub to_apply: VecDeque<Entry>,
    pub is_apply_held: bool,
    pub applied: EntryId,
    pub configuration: Configuration,
    pub read_states: Vec<ReadState>,
    pub reads_lost: Vec<u64>,
    pub error: Option<StepError>,
}

pub struct Cluster {
    pub replicas: BTreeMap<u64, Replica>,
    pub network: VecDeque<Envelope>,
    /// Directed links that lose everything.
    pub cuts: BTreeSet<(u64, u64)>,
    /// Kinds of messages that are lost.
    pub is_lost: fn(&Message) -> bool,
    /// Snapshot messages are delivered and reported by the test itself.
    pub is_transfer_held: bool,
    pub transfers: Vec<Envelope>,
    /// Everything applied anywhere, in order: the entry at index i stands in slot i - 1.
    pub history: Vec<Entry>,
    pub leaders: BTreeMap<Term, u64>,
}

pub fn id(number: u64) -> ReplicaId {
    ReplicaId(number)
}

/// Small and quick: T is 10 ticks, a heartbeat each tick.
pub fn config(number: u64) -> Config {
    let mut config = Config::new(id(number));
    config.election_timeout_ticks = 10;
    config.heartbeat_interval_ticks = 1;
    config.lease_margin_ticks = 2;
    config.restart_quiet_ticks = 0;
    config.hint_delay_ticks_max = 1;
    config.hint_retry_ticks_min = 1;
    config.hint_retry_ticks_max = 3;
    config.seed = number * 7919;
    config
}

pub fn encode(change: &ConfigurationChange) -> Bytes {
    let ConfigurationChange::Change { steps, transition } = change else {
        return Bytes::new();
    };
    let mut bytes = vec![match transition {
        Transition::Auto => 0,
        Transition::JointAutoLeave => 1,
        Transition::JointExplicit => 2,
    }];
    for step in steps {
        let (kind, id) = match step {
            ChangeStep::AddVoter(id) => (0, id.0),
            ChangeStep::AddLearner(id) => (1, id.0),
            ChangeStep::Remove(id) => (2, id.0),
        };
        bytes.extend([kind, id as u8]);
    }
    Bytes::from(bytes)
}

pub fn decode(bytes: &[u8]) -> ConfigurationChange {
    let Some((transition, steps)) = bytes.split_first() else {
        return ConfigurationChange::LeaveJoint;
    };
    let transition = match transition {
        0 => Transition::Auto,
        1 => Transition::JointAutoLeave,
        _ => Transition::JointExplicit,
    };
    let step = |pair: &[u8]| {
        let id = ReplicaId(u64::from(pair[1]));
        match pair[0] {
            0 => ChangeStep::AddVoter(id),
            1 => ChangeStep::AddLearner(id),
            _ => ChangeStep::Remove(id),
        }
    };
    ConfigurationChange::Change { steps: steps.chunks(2).map(step).collect(), transition }
}

pub fn change(steps: impl IntoIterator<Item = ChangeStep>) -> ConfigurationChange {
    let steps = steps.into_iter().collect();
    ConfigurationChange::Change { steps, transition: Transition::Auto }
}

impl Replica {
    fn new(config: Config, configuration: Configuration) -> Replica {
        let checkpoint = Snapshot { last: EntryId::default(), configuration };
        let mut replica = Replica {
            node: None,
            config,
            disk: Disk { checkpoint, ..Disk::default() },
            incarnation: 0,
            writes: VecDeque::new(),
            is_sync_held: false,
            to_apply: VecDeque::new(),
            is_apply_held: false,
            applied: EntryId::default(),
            configuration: Configuration::default(),
            read_states: Vec::new(),
            reads_lost: Vec::new(),
            error: None,
        };
        replica.start();
        replica
    }

    fn start(&mut self) {
        assert!(self.node.is_none());
        self.incarnation += 1;
        self.config.seed += 1000;
        let restored = Restored {
            hard_state: self.disk.hard_state,
            applied: self.disk.checkpoint.last,
            configuration: self.disk.checkpoint.configuration.clone(),
            entries: self.disk.entries.clone(),
            incarnation: self.incarnation,
            ..Restored::default()
        };
        self.applied = restored.applied;
        self.configuration = restored.configuration.clone();
        self.node = Some(RaftNode::new(self.config.clone(), restored).unwrap());
    }

    /// A new life, with what the disk kept.
    pub fn start_again(&mut self) {
        self.start();
    }

    pub fn node(&mut self) -> &mut RaftNode {
        self.node.as_mut().expect("the replica runs")
    }

    /// Makes one write durable and answers the messages that waited for it.
    fn sync_one(&mut self) -> Vec<Message> {
        let Some(write) = self.writes.pop_front() else {
            return Vec::new();
        };
        if let Some(hard_state) = write.hard_state {
            self.disk.hard_state = hard_state;
        }
        if let Some(snapshot) = write.snapshot {
            self.disk.checkpoint = snapshot;
            self.disk.entries.clear();
        }
        for entry in write.entries {
            self.disk.entries.retain(|kept| kept.index < entry.index);
            self.disk.entries.push(entry);
        }
        self.node().persisted(write.number);
        write.messages
    }
}

impl Cluster {
    pub fn new(count: u64) -> Cluster {
        Cluster::with((1..=count).map(config).collect(), 1..=count)
    }

    pub fn with(configs: Vec<Config>, voters: impl IntoIterator<Item = u64>) -> Cluster {
        let configuration = Configuration::of_voters(voters.into_iter().map(id));
        Cluster::with_configuration(configs, configuration)
    }

    pub fn with_configuration(configs: Vec<Config>, configuration: Configuration) -> Cluster {
        let replicas = configs
            .into_iter()
            .map(|config| (config.id.0, Replica::new(config, configuration.clone())))
            .collect();
        Cluster {
            replicas,
            network: VecDeque::new(),
            cuts: BTreeSet::new(),
            is_lost: |_| false,
            is_transfer_held: false,
            transfers: Vec::new(),
            history: Vec::new(),
            leaders: BTreeMap::new(),
        }
    }

    /// A group whose replica 1 leads and is settled.
    pub fn led(count: u64) -> Cluster {
        let mut cluster = Cluster::new(count);
        cluster.elect(1);
        cluster
    }

    pub fn node(&mut self, number: u64) -> &mut RaftNode {
        self.replicas.get_mut(&number).expect("a replica of this group").node()
    }

    pub fn status(&self, number: u64) -> Status {
        self.replicas[&number].node.as_ref().expect("the replica runs").status()
    }

    pub fn role(&self, number: u64) -> Role {
        self.status(number).role
    }

    pub fn numbers(&self) -> Vec<u64> {
        self.replicas.keys().copied().collect()
    }

    pub fn leader(&self) -> Option<u64> {
        let running =
            self.replicas.iter().filter_map(|(n, r)| r.node.as_ref().map(|node| (n, node)));
        let leaders = running.filter(|(_, node)| node.soft_state().role == Role::Leader);
        leaders.max_by_key(|(_, node)| node.soft_state().term).map(|(number, _)| *number)
    }

    // What happens.

    pub fn elect(&mut self, number: u64) {
        self.node(number).campaign().unwrap();
        self.settle();
        assert_eq!(self.role(number), Role::Leader);
    }

    pub fn propose(&mut self, number: u64, data: &str) -> EntryId {
        let data = Bytes::copy_from_slice(data.as_bytes());
        let entry = self.node(number).propose(EntryKind::Command, data).unwrap();
        self.settle();
        entry
    }

    pub fn change(&mut self, number: u64, change: &ConfigurationChange) -> EntryId {
        let entry = self.node(number).propose_configuration(change, encode(change)).unwrap();
        self.settle();
        entry
    }

    pub fn tick(&mut self, count: u32) {
        for _ in 0..count {
            for number in self.numbers() {
                self.tick_one(number, 1);
            }
            self.settle();
        }
    }

    pub fn tick_one(&mut self, number: u64, count: u32) {
        let replica = self.replicas.get_mut(&number).unwrap();
        for _ in 0..count {
            if let Some(node) = &mut replica.node {
                node.tick();
            }
        }
    }

    /// Cuts every link between `number` and the others.
    pub fn isolate(&mut self, number: u64) {
        for other in self.numbers() {
            if other != number {
                self.cut(number, other);
            }
        }
    }

    pub fn cut(&mut self, one: u64, other: u64) {
        self.cuts.insert((one, other));
        self.cuts.insert((other, one));
    }

    pub fn heal(&mut self) {
        self.cuts.clear();
        self.is_lost = |_| false;
    }

    /// Loses what is not synced, and every message from and to this life.
    pub fn crash(&mut self, number: u64) {
        let replica = self.replicas.get_mut(&number).unwrap();
        replica.node = None;
        replica.writes.clear();
        replica.to_apply.clear();
        replica.read_states.clear();
        replica.reads_lost.clear();
    }

    pub fn restart(&mut self, number: u64) {
        self.crash(number);
        self.replicas.get_mut(&number).unwrap().start();
        self.settle();
    }

    pub fn add_replica(&mut self, config: Config) {
        let number = config.id.0;
        let blank = Replica::new(config, Configuration::default());
        assert!(self.replicas.insert(number, blank).is_none());
    }

    /// Makes the applied state a durable checkpoint and drops the log before it, but for `kept`
    /// entries. Answers false while the log is not synced that far.
    pub fn checkpoint(&mut self, number: u64, kept: u64) -> bool {
        let replica = self.replicas.get_mut(&number).unwrap();
        let last = replica.applied;
        let configuration = replica.configuration.clone();
        let is_restoring = replica.writes.iter().any(|write| write.snapshot.is_some());
        if replica.node().status().persisted < last.index || is_restoring {
            return false;
        }
        let checkpoint = Snapshot { last, configuration };
        replica.disk.checkpoint = checkpoint.clone();
        let node = replica.node();
        node.checkpointed(checkpoint);
        let up_to = Index(last.index.0.saturating_sub(kept));
        node.compact_log(up_to);
        replica.disk.entries.retain(|entry| up_to < entry.index);
        true
    }

    // How it spreads.

    /// Takes Readys, writes, syncs, applies and delivers until nothing moves.
    pub fn settle(&mut self) {
        for _ in 0..100_000 {
            for number in self.numbers() {
                self.pump(number);
                self.sync(number);
                self.apply(number, usize::MAX);
            }
            if !self.deliver_first() && !self.numbers().iter().any(|n| self.is_restless(*n)) {
                return;
            }
        }
        panic!("the group does not come to rest");
    }

    fn is_restless(&self, number: u64) -> bool {
        let replica = &self.replicas[&number];
        let is_writing = !replica.writes.is_empty() && !replica.is_sync_held;
        let is_applying = !replica.to_apply.is_empty() && !replica.is_apply_held;
        let has_ready = replica.node.as_ref().is_some_and(RaftNode::has_ready);
        is_writing || is_applying || has_ready
    }

    /// Takes everything the node owes.
    pub fn pump(&mut self, number: u64) {
        let mut ready = Ready::default();
        loop {
            let replica = self.replicas.get_mut(&number).unwrap();
            if !replica.node.as_ref().is_some_and(RaftNode::has_ready) {
                return;
            }
            replica.node().ready(&mut ready);
            if let Some(soft_state) = ready.soft_state
                && soft_state.role == Role::Leader
            {
                self.check_leader(number, soft_state.term);
            }
            self.take_ready(number, &mut ready);
        }
    }

    fn take_ready(&mut self, number: u64, ready: &mut Ready) {
        let replica = self.replicas.get_mut(&number).unwrap();
        for entry in &ready.entries {
            assert!(Term(0) < entry.term);
        }
        if let Some(snapshot) = &ready.snapshot {
            // Installed: what was to be applied is part of it.
            assert!(replica.applied.index < snapshot.last.index);
            replica.to_apply.clear();
            replica.applied = snapshot.last;
            replica.configuration = snapshot.configuration.clone();
        }
        replica.to_apply.extend(ready.committed.drain(..));
        replica.read_states.append(&mut ready.read_states);
        replica.reads_lost.append(&mut ready.reads_lost);
        if ready.must_persist() || !ready.messages_after_persist.is_empty() {
            replica.writes.push_back(Write {
                number: ready.number,
                hard_state: ready.hard_state,
                snapshot: ready.snapshot.take(),
                entries: std::mem::take(&mut ready.entries),
                messages: std::mem::take(&mut ready.messages_after_persist),
            });
        }
        let now = std::mem::take(&mut ready.messages_now);
        self.post(number, now);
    }

    fn post(&mut self, number: u64, messages: Vec<Message>) {
        let from_incarnation = self.replicas[&number].incarnation;
        for message in messages {
            let Some(to) = self.replicas.get(&message.to.0) else {
                continue;
            };
            assert!(message.from.0 == number && message.to.0 != number);
            let to_incarnation = to.incarnation;
            let envelope = Envelope { from_incarnation, to_incarnation, message };
            let is_transfer = matches!(envelope.message.body, Body::Snapshot { .. });
            if is_transfer && self.is_transfer_held {
                self.transfers.push(envelope);
            } else {
                self.network.push_back(envelope);
            }
        }
    }

    /// Syncs everything written, unless the disk is held.
    pub fn sync(&mut self, number: u64) {
        let replica = self.replicas.get_mut(&number).unwrap();
        if replica.node.is_none() || replica.is_sync_held {
            return;
        }
        while !self.replicas[&number].writes.is_empty() {
            self.sync_one(number);
        }
    }

    pub fn sync_one(&mut self, number: u64) {
        let messages = self.replicas.get_mut(&number).unwrap().sync_one();
        self.post(number, messages);
    }

    pub fn write_count(&self, number: u64) -> usize {
        self.replicas[&number].writes.len()
    }

    /// Applies up to `count` committed entries and compares them with what others applied.
    pub fn apply(&mut self, number: u64, count: usize) {
        let replica = self.replicas.get_mut(&number).unwrap();
        let Some(node) = &mut replica.node else {
            return;
        };
        if replica.is_apply_held {
            return;
        }
        for _ in 0..count {
            let Some(entry) = replica.to_apply.pop_front() else {
                return;
            };
            assert_eq!(entry.index.0, replica.applied.index.0 + 1, "applied twice or skipped");
            let slot = replica.applied.index.0 as usize;
            match self.history.get(slot) {
                Some(first) => assert_eq!(*first, entry, "two entries at one index"),
                None => {
                    assert_eq!(slot, self.history.len());
                    self.history.push(entry.clone());
                }
            }
            if entry.kind == EntryKind::ConfigChange {
                // A refused change changes nothing, here as everywhere.
                if let Ok(changed) = node.apply_configuration(&decode(&entry.data)) {
                    replica.configuration = changed.clone();
                }
            }
            replica.applied = entry.id();
            node.applied(entry.index);
        }
    }

    /// Delivers the oldest message; answers false when there is none.
    pub fn deliver_first(&mut self) -> bool {
        let Some(envelope) = self.network.pop_front() else {
            return false;
        };
        self.deliver(envelope);
        true
    }

    pub fn deliver(&mut self, envelope: Envelope) {
        let Envelope { from_incarnation, to_incarnation, message } = envelope;
        let (from, to) = (message.from.0, message.to.0);
        let is_transfer = matches!(message.body, Body::Snapshot { .. });
        let is_lost = self.cuts.contains(&(from, to)) || (self.is_lost)(&message);
        let is_sent = self.replicas[&from].incarnation == from_incarnation;
        let receiver = self.replicas.get_mut(&to).unwrap();
        let is_current = receiver.incarnation == to_incarnation && receiver.node.is_some();
        let is_delivered = is_sent && is_current && !is_lost;
        if is_delivered && let Err(error) = receiver.node().step(message) {
            receiver.error = Some(error);
        }
        if is_transfer && is_sent {
            let outcome =
                if is_delivered { SnapshotOutcome::Succeeded } else { SnapshotOutcome::Failed };
            self.report_transfer(from, to, outcome);
        }
    }

    /// Loses a message; a transfer that breaks off is noticed by its sender.
    pub fn lose(&mut self, envelope: Envelope) {
        let Envelope { from_incarnation, message, .. } = envelope;
        let is_sent = self.replicas[&message.from.0].incarnation == from_incarnation;
        if is_sent && matches!(message.body, Body::Snapshot { .. }) {
            self.report_transfer(message.from.0, message.to.0, SnapshotOutcome::Failed);
        }
    }

    pub fn report_transfer(&mut self, from: u64, to: u64, outcome: SnapshotOutcome) {
        if let Some(sender) = &mut self.replicas.get_mut(&from).unwrap().node {
            sender.report_snapshot(id(to), outcome);
        }
    }

    // What must hold.

    fn check_leader(&mut self, number: u64, term: Term) {
        let first = *self.leaders.entry(term).or_insert(number);
        assert_eq!(first, number, "two leaders in {term:?}");
        assert!(self.replicas[&number].disk.hard_state.term >= term, "leads a term not durable");
        let node = self.replicas[&number].node.as_ref().unwrap();
        let first = node.status().first;
        for entry in self.history.iter().filter(|entry| first <= entry.index) {
            let held = node.term_of(entry.index);
            assert_eq!(held, Some(entry.term), "a leader lacks what was committed");
        }
    }

    /// Log matching: where two logs agree at an index they agree before it.
    pub fn check_log_matching(&self) {
        let running: Vec<&RaftNode> =
            self.replicas.values().filter_map(|replica| replica.node.as_ref()).collect();
        for (slot, one) in running.iter().enumerate() {
            for other in &running[slot + 1..] {
                check_pair(one, other);
            }
        }
    }

    /// Every replica that runs holds the same log, applied to its end.
    pub fn assert_converged(&self, numbers: &[u64]) {
        for number in numbers {
            let status = self.status(*number);
            assert_eq!(status.applied.0 as usize, self.history.len(), "replica {number} is behind");
            assert_eq!(status.last.index, status.applied, "replica {number} has more");
        }
        self.check_log_matching();
    }

    /// Commands applied anywhere, as text.
    pub fn commands(&self) -> Vec<String> {
        let commands = self.history.iter().filter(|entry| entry.kind == EntryKind::Command);
        commands.map(|entry| String::from_utf8_lossy(&entry.data).into_owned()).collect()
    }
}

fn check_pair(one: &RaftNode, other: &RaftNode) {
    let (a, b) = (one.status(), other.status());
    let first = a.first.max(b.first).0;
    let last = a.last.index.min(b.last.index).0;
    let mut is_agreed = false;
    for index in (first..=last).rev() {
        let agrees = one.term_of(Index(index)) == other.term_of(Index(index));
        assert!(agrees || !is_agreed, "logs agree after {index} and not at it");
        is_agreed |= agrees;
    }
}
