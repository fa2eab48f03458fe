//! A few members in one process whose wires the test holds in its hand.
//!
//! Invariants: all members see about the same time; bytes between two members arrive in order, and
//! not at all while their direction is held; nothing moves but in `pump` and `advance`.

use std::collections::BTreeSet;

use net::wire::ClientRequest;
use raft::Role;
use shard::config::{Config, InitialMember, Origin};
use shard::input::{ConnectionId, DialFailure, Door};
use tests::sim::client::{Outcome, SimClient};
use tests::sim::member::{SimMember, Storage, config};

/// A slice of `advance`.
const SLICE_US: u64 = 2_000;

/// Members by slot; the member of slot 0 has id 1.
pub struct Group {
    members: Vec<Option<SimMember>>,
    /// What those that do not run left behind.
    storages: Vec<Storage>,
    /// What each is started with; may be changed between two starts.
    pub configs: Vec<Config>,
    wires: Vec<Wire>,
    held: BTreeSet<(usize, usize)>,
    pub now_us: u64,
}

struct Wire {
    slots: [usize; 2],
    ends: [ConnectionId; 2],
    /// What each end sent and the other one has not got.
    waiting: [Vec<u8>; 2],
}

pub fn id_of(slot: usize) -> u64 {
    slot as u64 + 1
}

pub fn url_of(slot: usize) -> String {
    format!("http://m{slot}:2380")
}

pub fn founders(count: usize) -> Vec<InitialMember> {
    let founder = |slot| InitialMember {
        id: id_of(slot),
        name: format!("m{slot}"),
        peer_urls: vec![url_of(slot)],
    };
    (0..count).map(founder).collect()
}

/// The configuration of one of `count` founders.
pub fn founder_config(slot: usize, count: usize) -> Config {
    Config {
        member_id: id_of(slot),
        birth_id: 0xb0 + slot as u64,
        origin: Origin::Founder { members: founders(count) },
        name: format!("m{slot}"),
        peer_urls: vec![url_of(slot)],
        client_urls: vec![format!("http://m{slot}:2379")],
        binary_urls: vec![format!("http://m{slot}:2378")],
        learners_max: 1,
        seed: 77 + slot as u64,
        is_strict_reconfig: false,
        ..config()
    }
}

impl Group {
    /// Members that were never started.
    pub fn new(count: usize) -> Group {
        Group {
            members: (0..count).map(|_| None).collect(),
            storages: vec![Storage::default(); count],
            configs: (0..count).map(|slot| founder_config(slot, count)).collect(),
            wires: Vec::new(),
            held: BTreeSet::new(),
            now_us: 1_000_000,
        }
    }

    /// Members that all serve.
    pub fn serving(count: usize) -> Group {
        let mut group = Group::new(count);
        for slot in 0..count {
            group.start(slot);
        }
        group.run_until("all serve", |group| (0..count).all(|slot| group.member(slot).is_serving));
        group
    }

    pub fn start(&mut self, slot: usize) {
        assert!(self.members[slot].is_none());
        let storage = std::mem::take(&mut self.storages[slot]);
        let config = self.configs[slot].clone();
        let member = SimMember::start(config, storage, self.now_us).expect("the member starts");
        self.members[slot] = Some(member);
        self.pump();
    }

    /// Ends a process: what it wrote stays readable.
    pub fn kill(&mut self, slot: usize) {
        let member = self.members[slot].take().expect("it runs");
        self.storages[slot] = member.kill();
        self.pump();
    }

    /// The power of a member goes, and with it everything that was not synced.
    pub fn lose_power(&mut self, slot: usize) {
        let member = self.members[slot].take().expect("it runs");
        self.storages[slot] = member.lose_power(|| false);
        self.pump();
    }

    /// The disk of a member that does not run.
    pub fn stored(&self, slot: usize) -> &Storage {
        assert!(self.members[slot].is_none());
        &self.storages[slot]
    }

    /// Puts another disk into a member that does not run.
    pub fn restore(&mut self, slot: usize, storage: Storage) {
        assert!(self.members[slot].is_none());
        self.storages[slot] = storage;
    }

    pub fn member(&mut self, slot: usize) -> &mut SimMember {
        self.members[slot].as_mut().expect("it runs")
    }

    pub fn slots(&self) -> Vec<usize> {
        (0..self.members.len()).filter(|slot| self.members[*slot].is_some()).collect()
    }

    /// Bytes from one to the other wait (or not any more).
    pub fn hold(&mut self, from: usize, to: usize, is_held: bool) {
        match is_held {
            true => self.held.insert((from, to)),
            false => self.held.remove(&(from, to)),
        };
    }

    /// Bytes between a member and all others wait (or not any more), both ways.
    pub fn isolate(&mut self, slot: usize, is_held: bool) {
        for other in (0..self.members.len()).filter(|other| *other != slot) {
            self.hold(slot, other, is_held);
            self.hold(other, slot, is_held);
        }
    }

    /// Bytes to a member wait (or not any more).
    pub fn deafen(&mut self, slot: usize, is_held: bool) {
        for other in (0..self.members.len()).filter(|other| *other != slot) {
            self.hold(other, slot, is_held);
        }
    }

    /// Cuts what waits on all wires of a member, as a broken connection does.
    pub fn cut(&mut self, slot: usize) {
        for wire in std::mem::take(&mut self.wires) {
            if !wire.slots.contains(&slot) {
                self.wires.push(wire);
                continue;
            }
            for side in 0..2 {
                if let Some(member) = &mut self.members[wire.slots[side]] {
                    member.disconnect(wire.ends[side]);
                }
            }
        }
    }

    /// Lets everything flow that may, without time passing.
    pub fn pump(&mut self) {
        loop {
            let mut has_moved = self.answer_dials();
            for wire in 0..self.wires.len() {
                for side in 0..2 {
                    has_moved |= self.carry(wire, side);
                }
            }
            has_moved |= self.drop_ended_wires();
            for member in self.members.iter_mut().flatten() {
                if member.has_inputs() {
                    member.settle();
                    has_moved = true;
                }
            }
            if !has_moved {
                return;
            }
        }
    }

    /// Gives a member what waits for it, held or not, without letting it run.
    pub fn hand_over(&mut self, to: usize) {
        let held = std::mem::take(&mut self.held);
        for wire in 0..self.wires.len() {
            for side in 0..2 {
                if self.wires[wire].slots[1 - side] == to {
                    self.carry(wire, side);
                }
            }
        }
        self.held = held;
    }

    fn answer_dials(&mut self) -> bool {
        let mut has_moved = false;
        for slot in self.slots() {
            for (dial, url) in std::mem::take(&mut self.member(slot).dials) {
                has_moved = true;
                let known = (0..self.members.len()).find(|other| url_of(*other) == url);
                let target = known.filter(|target| self.members[*target].is_some());
                let Some(target) = target else {
                    self.member(slot).dial_failed(dial, DialFailure::Refused);
                    continue;
                };
                if self.held.contains(&(slot, target)) || self.held.contains(&(target, slot)) {
                    self.member(slot).dial_failed(dial, DialFailure::Unreachable);
                    continue;
                }
                let accepted = self.member(target).connect(Door::Peer);
                let dialed = self.member(slot).dialed(dial);
                let (slots, ends) = ([slot, target], [dialed, accepted]);
                self.wires.push(Wire { slots, ends, waiting: Default::default() });
            }
        }
        has_moved
    }

    fn carry(&mut self, wire: usize, side: usize) -> bool {
        let wire = &mut self.wires[wire];
        let (from, to) = (wire.slots[side], wire.slots[1 - side]);
        if let Some(member) = &mut self.members[from] {
            wire.waiting[side].extend(member.take_sent(wire.ends[side]));
        }
        if self.held.contains(&(from, to)) || wire.waiting[side].is_empty() {
            return false;
        }
        let bytes = std::mem::take(&mut wire.waiting[side]);
        if let Some(member) = &mut self.members[to]
            && member.is_connected(wire.ends[1 - side])
        {
            member.receive(wire.ends[1 - side], bytes);
        }
        true
    }

    fn drop_ended_wires(&mut self) -> bool {
        let before = self.wires.len();
        for wire in std::mem::take(&mut self.wires) {
            let lives = [0, 1].map(|side| {
                let member = self.members[wire.slots[side]].as_ref();
                member.is_some_and(|member| member.is_connected(wire.ends[side]))
            });
            if lives == [true; 2] {
                self.wires.push(wire);
                continue;
            }
            for (side, lives) in lives.into_iter().enumerate() {
                if lives {
                    let member = self.members[wire.slots[side]].as_mut().expect("it lives");
                    member.disconnect(wire.ends[side]);
                }
            }
        }
        self.wires.len() < before
    }

    /// Time passes.
    pub fn advance(&mut self, us: u64) {
        let until_us = self.now_us + us;
        while self.now_us < until_us {
            self.now_us = until_us.min(self.now_us + SLICE_US);
            for member in self.members.iter_mut().flatten() {
                member.advance(self.now_us.saturating_sub(member.now_us()));
            }
            self.pump();
        }
    }

    /// Time passes until something holds, for ten seconds at most. Says how much passed.
    pub fn run_until(&mut self, what: &str, holds: impl Fn(&mut Group) -> bool) -> u64 {
        let begin_us = self.now_us;
        while !holds(self) {
            assert!(self.now_us < begin_us + 10_000_000, "it never came: {what}");
            self.advance(SLICE_US);
        }
        self.now_us - begin_us
    }

    /// The leader of the highest term.
    pub fn leader(&mut self) -> Option<usize> {
        let leaders = self.slots().into_iter().filter_map(|slot| {
            let status = self.member(slot).raft_status();
            (status.role == Role::Leader).then_some((status.term, slot))
        });
        leaders.max().map(|(_, slot)| slot)
    }

    /// Waits for a leader other than `old`.
    pub fn next_leader(&mut self, old: usize) -> usize {
        self.run_until("a new leader", |group| group.leader().is_some_and(|slot| slot != old));
        self.leader().expect("just seen")
    }

    /// A follower of the leader's.
    pub fn follower(&mut self) -> usize {
        let leader = self.leader().expect("there is a leader");
        self.slots().into_iter().find(|slot| *slot != leader).expect("there are others")
    }

    pub fn connect(&mut self, slot: usize) -> SimClient {
        SimClient::connect(self.member(slot))
    }

    /// Sends a request by `client` to its member and lets everything flow.
    pub fn ask(
        &mut self,
        slot: usize,
        client: &mut SimClient,
        request: &impl ClientRequest,
    ) -> u64 {
        let id = client.send(request);
        client.flush(self.member(slot));
        self.pump();
        id
    }

    /// The answer, if it came.
    pub fn answer(&mut self, slot: usize, client: &mut SimClient, id: u64) -> Option<Outcome> {
        client.fetch(self.member(slot));
        client.outcome(id)
    }

    /// Asks and waits for the answer, for ten seconds at most.
    pub fn call(
        &mut self,
        slot: usize,
        client: &mut SimClient,
        request: &impl ClientRequest,
    ) -> Outcome {
        let id = self.ask(slot, client, request);
        self.wait(slot, client, id)
    }

    pub fn wait(&mut self, slot: usize, client: &mut SimClient, id: u64) -> Outcome {
        for _ in 0..10_000_000 / SLICE_US {
            if let Some(outcome) = self.answer(slot, client, id) {
                return outcome;
            }
            self.advance(SLICE_US);
        }
        panic!("no answer came");
    }

    /// The answer to a GET on a connection of its own.
    pub fn http_get(&mut self, slot: usize, door: Door, path: &str) -> String {
        let connection = self.member(slot).connect(door);
        let request = format!("GET {path} HTTP/1.1\r\nHost: m{slot}\r\n\r\n");
        self.member(slot).receive(connection, request.into_bytes());
        self.pump();
        let answered = self.member(slot).take_sent(connection);
        String::from_utf8(answered).expect("HTTP is text")
    }
}
