//! The clients of a world: which there are, how they connect, what the world does for them.
//!
//! Invariant: a client acts when its time comes or something happens on its connection, and in no
//! other way on the world than by its wishes.

use shard::input::{ConnectionId, Door};

use super::admin::Admin;
use super::caller::Caller;
use super::grpc::Habits;
use super::network::{End, Host, LinkId};
use super::plan::Plan;
use super::process::founder;
use super::queue::Happening;
use super::random::Random;
use super::session::{Client, Scene, Wish};
use super::speech::Tongue;
use super::steward::Steward;
use super::watcher::Watcher;
use super::workload::Workload;
use super::world::World;
use crate::model::watch::Interest;

/// A program that talks to members, and where it stands with the world.
pub struct ClientSlot {
    /// The program.
    pub program: Program,
    pub(super) link: Option<LinkId>,
    pub(super) attempt: u64,
    /// What it connects to.
    pub(super) door: Door,
    pub(super) wake_us: Option<u64>,
}

/// Kinds of clients.
#[allow(missing_docs)]
pub enum Program {
    Caller(Box<Caller>),
    Watcher(Box<Watcher>),
    Admin(Box<Admin>),
    Steward(Box<Steward>),
}

impl World {
    fn begin_connect(&mut self, client: usize, member: usize, door: Door) {
        let slot = &mut self.clients[client];
        slot.attempt += 1;
        slot.door = door;
        let attempt = slot.attempt;
        let at_us = self.now_us + 2 * self.network.latency_us();
        self.queue.push(at_us, Happening::ConnectEnds { client, member, attempt });
    }

    pub(super) fn end_connect(&mut self, client: usize, slot: usize, attempt: u64) {
        if self.clients[client].attempt != attempt {
            return;
        }
        let process = self.members[slot].process.as_ref();
        let door = self.clients[client].door;
        if !process.is_some_and(|process| process.is_serving || door == Door::Peer) {
            return self.with_client(client, |program, scene, wishes| {
                program.on_broken(scene, wishes);
            });
        }
        let number = self.next_number;
        self.next_number += 1;
        let theirs = self.accept(slot, Some(door));
        let ours = End { host: Host::Client(client), connection: ConnectionId(number) };
        let link = self.register([ours, theirs]);
        if door == Door::Client {
            // Nothing in these protocols notices bytes that are lost on the way.
            self.network.spare(link);
        }
        self.clients[client].link = Some(link);
        self.with_client(client, |program, scene, wishes| {
            program.on_connected(number, scene, wishes);
        });
    }

    pub(super) fn run_client(&mut self, client: usize) {
        if self.clients[client].wake_us == Some(self.now_us) {
            self.clients[client].wake_us = None;
            self.with_client(client, |program, scene, wishes| program.on_wake(scene, wishes));
        }
    }

    pub(super) fn wake_client(&mut self, client: usize, at_us: u64) {
        let at_us = at_us.max(self.now_us + 1);
        let slot = &mut self.clients[client];
        if slot.wake_us.is_none_or(|wake_us| at_us < wake_us) {
            slot.wake_us = Some(at_us);
            self.queue.push(at_us, Happening::Client { client });
        }
    }

    pub(super) fn with_client(
        &mut self,
        client: usize,
        act: impl FnOnce(&mut dyn Client, &mut Scene<'_>, &mut Vec<Wish>),
    ) {
        let mut wishes = std::mem::take(&mut self.wishes);
        let mut scene = Scene {
            now_us: self.now_us,
            present: &self.present,
            phase: self.phase,
            history: &mut self.history,
            seen: &mut self.seen,
            trace: &mut self.trace,
            coverage: &mut self.coverage,
        };
        match &mut self.clients[client].program {
            Program::Caller(caller) => act(&mut **caller, &mut scene, &mut wishes),
            Program::Watcher(watcher) => act(&mut **watcher, &mut scene, &mut wishes),
            Program::Admin(admin) => act(&mut **admin, &mut scene, &mut wishes),
            Program::Steward(steward) => act(&mut **steward, &mut scene, &mut wishes),
        }
        for wish in wishes.drain(..) {
            self.grant(client, wish);
        }
        self.wishes = wishes;
    }

    fn grant(&mut self, client: usize, wish: Wish) {
        match wish {
            Wish::Connect(member, door) => self.begin_connect(client, member, door),
            Wish::Send(bytes) => {
                if let Some(link) = self.clients[client].link {
                    self.network.transmit(link, 0, bytes, self.now_us, &mut self.queue);
                }
            }
            Wish::HangUp => {
                self.clients[client].attempt += 1;
                if let Some(link) = self.clients[client].link.take() {
                    let at_us = self.network.last_us(link, 0).max(self.now_us) + 1;
                    self.queue.push(at_us, Happening::Breaks { link });
                }
            }
            Wish::Wake(at_us) => self.wake_client(client, at_us),
            Wish::Enroll(list) => self.enroll(&list),
            Wish::Wipe { id, expected } => self.maybe_wipe(client, id, &expected),
        }
    }
}

pub(super) fn make_clients(plan: &Plan, random: &mut Random) -> Vec<ClientSlot> {
    let door = Door::Binary;
    let slot = |program| ClientSlot { program, link: None, attempt: 0, door, wake_us: None };
    // Apart, so that plans are what they were.
    let mut apart = Random::new(plan.seed ^ 0x7096_0000);
    let is_vast = 300 < plan.value_size_bytes_max || 1_000 < plan.travel.latency_us;
    let mut tongue = || match apart.chance(plan.grpc_permille) {
        true => Tongue::Grpc(Habits::draw(&mut apart, is_vast)),
        false => Tongue::Binary,
    };
    let auditor = Watcher::auditor(0, random.fork(), &tongue().prompt());
    let mut clients = vec![slot(Program::Watcher(Box::new(auditor)))];
    for _ in 0..plan.watchers {
        let number = clients.len();
        let interest = Interest {
            key: format!("key-{:03}", random.slot(plan.keys)).into_bytes(),
            range_end: if random.chance(700) { b"key-999".to_vec() } else { Vec::new() },
            wants_previous: random.chance(500),
            is_without_puts: random.chance(100),
            is_without_deletes: random.chance(200),
        };
        let watcher = Watcher::new(number, random.fork(), &tongue().prompt(), interest, 0);
        clients.push(slot(Program::Watcher(Box::new(watcher))));
    }
    if let Some(mean_us) = plan.move_leader_us {
        clients.push(slot(Program::Admin(Box::new(Admin::new(random.fork(), mean_us)))));
    }
    if let Some(turnover) = plan.turnover.clone() {
        let founders: Vec<u64> = (0..plan.members).map(|slot| founder(slot).id).collect();
        let steward = Steward::new(random.fork(), turnover, &founders);
        clients.push(slot(Program::Steward(Box::new(steward))));
    }
    for caller in 0..plan.callers.max(plan.members_max()) {
        let size_max = plan.value_size_bytes_max;
        let workload = Workload::new(caller as u64 + 1, plan.keys, size_max, plan.shares.clone());
        let (least_us, most_us) = plan.think_us;
        let think_us = match caller < plan.slow_callers {
            true => (least_us, SLOW_FACTOR * most_us),
            false => (least_us, most_us),
        };
        let pipeline = plan.pipeline;
        let caller = Caller::new(caller, random.fork(), &tongue(), workload, think_us, pipeline);
        clients.push(slot(Program::Caller(Box::new(caller))));
    }
    clients
}

/// Slow callers think for up to so many times as long.
const SLOW_FACTOR: u64 = 40;
