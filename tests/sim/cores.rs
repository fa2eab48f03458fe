//! The cores of a process: when each of them is stepped, and what they say to each other.
//!
//! Invariants: a connection belongs to one core, which its number tells; what one core says to
//! another arrives in the order in which it was said, each after a while of its own; a process that
//! stands still does so with all its cores, and has stopped when all of them have.

use std::collections::{BTreeMap, VecDeque};

use engine::page::heap::HeapPages;
use shard::Shard;
use shard::effect::Effects;
use shard::input::{ConnectionId, CoreId, Door, Input};
use shard::message::Message;

use super::coverage::Sight;
use super::queue::Happening;
use super::world::World;
use crate::check::bounds::Bound;

/// One core of a running process.
pub struct Core {
    /// Its part of the program.
    pub shard: Shard<HeapPages>,
    /// What happened since the last step.
    pub inputs: Vec<Input>,
    /// What the last step asked for.
    pub effects: Effects,
    /// When it is to be stepped.
    pub step_us: Option<u64>,
    /// It has nothing to do any more.
    pub is_stopped: bool,
    /// Steps without time between them.
    steps_at_once: usize,
}

impl Core {
    /// A core that was not stepped yet.
    pub fn new(shard: Shard<HeapPages>) -> Core {
        Core {
            shard,
            inputs: Vec::new(),
            effects: Effects::default(),
            step_us: None,
            is_stopped: false,
            steps_at_once: 0,
        }
    }
}

/// What cores said to each other and did not hear yet, by who says it to whom.
#[derive(Debug, Default)]
pub struct Crossing {
    ways: BTreeMap<(usize, usize), Way>,
}

#[derive(Debug, Default)]
struct Way {
    messages: VecDeque<Box<Message>>,
    last_us: u64,
}

impl World {
    pub(super) fn step(&mut self, slot: usize, life: u64, number: usize) {
        let now_us = self.now_us;
        let member = &mut self.members[slot];
        let local_us = member.clock.local_us(now_us);
        let clock = member.clock;
        let Some(process) = member.alive(life) else { return };
        let paused_until_us = process.paused_until_us;
        let core = &mut process.cores[number];
        if core.step_us != Some(now_us) {
            return;
        }
        core.step_us = None;
        if now_us < paused_until_us {
            return self.wake_core(slot, number, paused_until_us);
        }
        core.effects.list.clear();
        core.effects.step_again = false;
        core.effects.wake_at_us = None;
        core.effects.gather_until_us = None;
        let inputs = core.inputs.len();
        core.shard.step(local_us, &mut core.inputs, &mut core.effects);
        assert!(core.inputs.is_empty(), "a step takes all inputs");
        // What was received stands for what was sent: the driver puts those buffers there.
        for mut bytes in core.effects.spent.drain(..) {
            if core.effects.emptied.len() < EMPTIED_MAX {
                bytes.clear();
                core.effects.emptied.push(bytes);
            }
        }
        let mut effects = std::mem::take(&mut core.effects.list);
        let wake_us = core.effects.wake_at_us.map(|local_us| clock.world_us(local_us));
        let steps_again = core.effects.step_again;
        core.steps_at_once = if steps_again { core.steps_at_once + 1 } else { 0 };
        let steps_at_once = core.steps_at_once;
        let who = (number as u64) << 48 | (slot as u64) << 32;
        let place = who | (inputs as u64) << 16 | effects.len() as u64;
        self.trace.mix(now_us, 1, place, &[]);
        self.judge(slot, Bound::Effects, effects.len());
        self.judge(slot, Bound::StepsAtOnce, steps_at_once);
        for effect in effects.drain(..) {
            self.submit(slot, life, number, effect);
        }
        if let Some(process) = self.members[slot].alive(life) {
            process.cores[number].effects.list = effects;
        }
        if steps_again {
            self.wake_core(slot, number, now_us + STEP_US);
        }
        if let Some(wake_us) = wake_us {
            self.wake_core(slot, number, wake_us.max(now_us + STEP_US));
        }
    }

    /// All of a process is to be stepped at that time, or before.
    pub(super) fn wake(&mut self, slot: usize, at_us: u64) {
        let cores = self.members[slot].process.as_ref().map_or(0, |process| process.cores.len());
        (0..cores).for_each(|core| self.wake_core(slot, core, at_us));
    }

    fn wake_core(&mut self, slot: usize, number: usize, at_us: u64) {
        let life = self.members[slot].life;
        let Some(process) = &mut self.members[slot].process else { return };
        let core = &mut process.cores[number];
        if core.step_us.is_none_or(|step_us| at_us < step_us) {
            core.step_us = Some(at_us);
            self.queue.push(at_us, Happening::Step { member: slot, life, core: number });
        }
    }

    /// Something happened to a process: it is the business of the core with the connection, of all
    /// of them, or of the owner of the group.
    pub(super) fn tell(&mut self, slot: usize, input: Input) {
        let Some(process) = &self.members[slot].process else { return };
        let count = process.cores.len();
        match input {
            Input::ShutdownRequested => {
                (0..count).for_each(|core| self.tell_core(slot, core, Input::ShutdownRequested));
            }
            Input::Accepted { connection, .. }
            | Input::Received { connection, .. }
            | Input::Transmitted { connection, .. }
            | Input::Closed { connection } => {
                self.tell_core(slot, core_of(connection, count), input);
            }
            other => self.tell_core(slot, OWNER, other),
        }
    }

    /// Something happened to a core.
    pub(super) fn tell_core(&mut self, slot: usize, core: usize, input: Input) {
        let Some(process) = &mut self.members[slot].process else { return };
        process.cores[core].inputs.push(input);
        let delay_us = self.random.between(1, STEP_US);
        self.wake_core(slot, core, self.now_us + delay_us);
    }

    /// A socket took bytes. As with the shipped driver a core hears of it with whatever happens
    /// next, and is woken only where it may wait for the room.
    pub(super) fn tell_taken(
        &mut self,
        slot: usize,
        connection: ConnectionId,
        size_bytes: usize,
        was_blocked: bool,
    ) {
        let Some(process) = &mut self.members[slot].process else { return };
        let core = core_of(connection, process.cores.len());
        process.cores[core].inputs.push(Input::Transmitted { connection, size_bytes });
        if was_blocked || TOLD_LATE_BYTES_MAX <= size_bytes {
            let delay_us = self.random.between(1, STEP_US);
            self.wake_core(slot, core, self.now_us + delay_us);
        }
    }

    pub(super) fn tell_life(&mut self, slot: usize, life: u64, input: Input) {
        if self.members[slot].alive(life).is_some() {
            self.tell(slot, input);
        }
    }

    /// The number of a connection that a process accepts or opens: clients' may go to any core.
    pub(super) fn next_connection(&mut self, slot: usize, door: Option<Door>) -> ConnectionId {
        let process = self.members[slot].process.as_mut().expect("the caller saw it");
        let number = process.next_connection;
        process.next_connection += 1;
        let count = process.cores.len();
        let is_client = matches!(door, Some(Door::Client | Door::Binary | Door::Metrics));
        let core = if is_client && 1 < count { self.random.slot(count) } else { OWNER };
        ConnectionId(number * count as u64 + core as u64)
    }

    /// One core says something to another.
    pub(super) fn cross(&mut self, slot: usize, from: usize, to: CoreId, message: Box<Message>) {
        self.coverage.add(Sight::Crossing);
        let travel_us = match self.random.chance(BUSY_PERMILLE) {
            true => self.random.between(1, BUSY_US_MAX),
            false => self.random.between(1, STEP_US),
        };
        let (now_us, life) = (self.now_us, self.members[slot].life);
        let to = usize::from(to.0);
        let process = self.process_mut(slot);
        assert!(from != to && to < process.cores.len());
        let way = process.crossing.ways.entry((from, to)).or_default();
        way.messages.push_back(message);
        way.last_us = way.last_us.max(now_us + travel_us);
        let at_us = way.last_us;
        self.queue.push(at_us, Happening::Crosses { member: slot, life, from, to });
    }

    /// What was said first of what is on its way is heard.
    pub(super) fn end_crossing(&mut self, slot: usize, life: u64, from: usize, to: usize) {
        let Some(process) = self.members[slot].alive(life) else { return };
        let way = process.crossing.ways.get_mut(&(from, to));
        let message = way.and_then(|way| way.messages.pop_front()).expect("it was sent");
        let from = CoreId(from as u16);
        self.tell_core(slot, to, Input::Forwarded { from, message });
    }
}

fn core_of(connection: ConnectionId, count: usize) -> usize {
    (connection.0 % count as u64) as usize
}

/// The core with the group, the peers and the disk.
const OWNER: usize = 0;
/// A step takes this long.
const STEP_US: u64 = 10;
/// Buffers that a core has for what it sends.
const EMPTIED_MAX: usize = 16;
/// As much may be taken without a step of its own to tell it: the driver's bound.
const TOLD_LATE_BYTES_MAX: usize = 32 << 10;
/// Of what crosses, so much finds the other core busy, for so long at most.
const BUSY_PERMILLE: u64 = 50;
const BUSY_US_MAX: u64 = 3_000;
