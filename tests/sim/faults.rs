//! What befalls members: the kinds of a plan, again and again, and their end.
//!
//! Fault model: see `plan`, `sectors` and `network`. A process that ends is started again later;
//! what its disk keeps depends on how it ended.

use engine::page::map::PAGE_SIZE_BYTES;
use engine::page::meta::choose_meta;
use engine::wal::position::GroupId;
use engine::wal::recovery::recover;
use shard::effect::Effect;
use shard::input::Input;

use super::ambush::Ambush;
use super::coverage::Sight;
use super::network::Host;
use super::plan::FaultKind;
use super::process::Standing;
use super::queue::Happening;
use super::sectors::{SECTOR_SIZE_BYTES, Survival};
use super::session::Phase;
use super::stray::Astray;
use super::trace::Level;
use super::world::World;
use crate::check::Complaint;
use crate::check::raft_log::{DiskEntry, DiskLog};

/// The default keyspace's group.
const GROUP: GroupId = GroupId(1);

impl World {
    pub(super) fn schedule_fault(&mut self, kind: usize) {
        let mean_us = self.plan.faults[kind].1;
        let at_us = self.now_us + self.random.between(mean_us / 2, mean_us * 3 / 2);
        self.queue.push(at_us, Happening::Fault { kind });
    }

    /// A fault of the plan happens.
    pub(super) fn befall(&mut self, number: usize) {
        if self.phase != Phase::Faults {
            return;
        }
        self.schedule_fault(number);
        let kind = self.plan.faults[number].0;
        let slot = *self.random.pick(&self.present);
        self.trace.mix(self.now_us, 6, (number as u64) << 32 | slot as u64, &[]);
        self.trace.say(Level::Faults, self.now_us, || format!("{kind:?} at member {slot}"));
        match kind {
            FaultKind::Kill => self.kill(slot),
            // The worst moment is between a write and its sync, when others were told already.
            FaultKind::PowerCut if self.random.chance(600) => {
                let member = &mut self.members[slot];
                match self.random.chance(500) {
                    true => member.is_doomed_at_head = true,
                    false => member.is_doomed = true,
                }
            }
            FaultKind::PowerCut => self.cut_power(slot),
            FaultKind::Blackout => {
                self.present.clone().into_iter().for_each(|slot| self.cut_power(slot));
            }
            FaultKind::Stop => self.tell(slot, Input::ShutdownRequested),
            FaultKind::Pause => {
                let for_us = self.random.between(1_000, 3 * self.plan.election_timeout_us);
                let until_us = self.now_us + for_us;
                if let Some(process) = &mut self.members[slot].process {
                    process.paused_until_us = until_us;
                }
            }
            FaultKind::ClockJump => {
                let by_us = self.random.between(1_000, 4 * self.plan.election_timeout_us);
                self.members[slot].clock.jump(by_us);
            }
            FaultKind::CutOneWay | FaultKind::Isolate => self.cut_network(kind, slot),
            FaultKind::Break | FaultKind::BreakAll => self.break_some(kind, slot),
            FaultKind::SlowDisk => {
                let extra_us = *self.random.pick(&[1_000, 30_000, 200_000, 2_000_000]);
                let for_us = self.random.between(10_000, 3_000_000);
                let slow = (extra_us, self.now_us + for_us);
                match self.random.chance(500) {
                    true => self.members[slot].slow_disk = slow,
                    false => self.members[slot].slow_wal = slow,
                }
            }
            FaultKind::IoError => self.members[slot].is_disk_failing = true,
            FaultKind::FullDisk => {
                let for_us = self.random.between(100_000, 6_000_000);
                self.members[slot].full_until_us = self.now_us + for_us;
            }
            FaultKind::Throttle => {
                let rate = *self.random.pick(&[0, 20, 200, 2_000]);
                self.network.travel.rate_bytes_per_ms = rate;
            }
            FaultKind::Rot => self.rot(),
            FaultKind::StrayWrite => self.begin_straying(),
            FaultKind::LatentError => self.break_block(),
            FaultKind::Ambush => self.lay_ambush(),
        }
    }

    fn cut_network(&mut self, kind: FaultKind, slot: usize) {
        let for_us = self.random.between(10_000, 5 * self.plan.election_timeout_us);
        let heals_us = self.now_us + for_us;
        let others: Vec<usize> = (0..self.members.len()).filter(|other| *other != slot).collect();
        let one = *self.random.pick(&others);
        let ways: Vec<(usize, usize)> = match kind {
            FaultKind::CutOneWay => vec![(slot, one)],
            _ => others.iter().flat_map(|other| [(slot, *other), (*other, slot)]).collect(),
        };
        for (from, to) in ways {
            let cut = self.network.cut(Host::Member(from), Host::Member(to));
            self.queue.push(heals_us, Happening::Heals { cut });
            for link in self.network.links_between(Host::Member(from), Host::Member(to)) {
                // Long cuts outlast the patience of TCP.
                let at_us = self.now_us + self.random.between(200_000, 10_000_000);
                if at_us < heals_us {
                    self.queue.push(at_us, Happening::Breaks { link });
                }
            }
        }
    }

    fn break_some(&mut self, kind: FaultKind, slot: usize) {
        let links = self.network.links_of(Host::Member(slot));
        let links = match kind {
            _ if links.is_empty() => return,
            FaultKind::BreakAll => links,
            _ => vec![*self.random.pick(&links)],
        };
        for link in links {
            self.break_link(link);
        }
    }

    /// A write or sync fails: part of it may have happened, and the process ends.
    pub(super) fn fail_disk(&mut self, slot: usize, effect: Effect) {
        let permille = self.random.between(0, 1_001);
        match effect {
            Effect::WalWrite(write) => {
                let file = self.members[slot].disk.segment_mut(write.segment);
                file.write(write.offset_bytes, write.buffer.as_bytes());
                file.lose_power(Survival::Each { permille }, &mut self.random);
            }
            Effect::PageWrite { first, bytes } => self.write_short(slot, first, &bytes),
            Effect::MetaWrite { slot: place, bytes, .. } => self.write_short(slot, place, &bytes),
            _ => {}
        }
        self.coverage.add(Sight::DiskError);
        self.trace.say(Level::Faults, self.now_us, || format!("member {slot}'s disk failed"));
        self.kill(slot);
    }

    /// A write of pages breaks off: so many of its sectors were written.
    fn write_short(&mut self, slot: usize, first: u64, bytes: &[u8]) {
        let sectors = bytes.len() / SECTOR_SIZE_BYTES;
        let written = self.random.slot(sectors + 1) * SECTOR_SIZE_BYTES;
        self.members[slot].disk.write_pages(first, &bytes[..written]);
    }

    /// The process ends; what it wrote stays readable, what was on its way may have arrived.
    pub(super) fn kill(&mut self, slot: usize) {
        let Some(process) = &mut self.members[slot].process else { return };
        self.coverage.add(Sight::Kill);
        let in_flight: Vec<_> = process.wal_flight.iter().map(|write| write.segment).collect();
        let permille = *self.random.pick(&[0, 500, 1_000]);
        for segment in in_flight {
            let file = self.members[slot].disk.segment_mut(segment);
            file.lose_power(Survival::Each { permille }, &mut self.random);
        }
        self.end_process(slot, false);
        self.start_later(slot);
    }

    pub(super) fn cut_power(&mut self, slot: usize) {
        let survival = *self.random.pick(&self.plan.survivals);
        self.coverage.add(Sight::PowerCut);
        self.end_process(slot, true);
        self.members[slot].disk.lose_power(survival, &mut self.random);
        self.start_later(slot);
    }

    pub(super) fn end_process(&mut self, slot: usize, is_silent: bool) {
        let member = &mut self.members[slot];
        member.has_power = !is_silent;
        member.process = None;
        for link in self.network.links_of(Host::Member(slot)) {
            let after_us = match is_silent {
                true => self.random.between(50_000, 4_000_000),
                false => self.network.latency_us(),
            };
            self.queue.push(self.now_us + after_us, Happening::Breaks { link });
        }
    }

    pub(super) fn start_later(&mut self, slot: usize) {
        // Who was asked to stop may end when the faults have: then nothing keeps it away.
        let is_soon = self.random.chance(800) || Phase::Faults < self.phase;
        let after_us = match is_soon {
            true => self.random.between(20_000, 1_000_000),
            false => self.random.between(1_000_000, 6_000_000),
        };
        self.queue.push(self.now_us + after_us, Happening::Starts { member: slot });
    }

    /// A process starts, unless one runs.
    pub(super) fn start(&mut self, slot: usize) {
        let member = &self.members[slot];
        if member.process.is_some() || member.standing == Standing::Gone {
            return;
        }
        let judged = self.read_disk(slot);
        self.complain(judged);
        let seed = self.random.bits();
        let (now_us, member) = (self.now_us, &mut self.members[slot]);
        self.starts += 1;
        if let Err(refusal) = member.start(now_us, seed) {
            if self.is_loss_told(slot, &refusal) {
                return self.lose_member(slot, &refusal);
            }
            let what = format!("member {slot} does not start: {refusal}");
            return self.complain(Err(Complaint::new("world", what)));
        }
        let life = self.members[slot].life;
        self.trace.say(Level::Faults, now_us, || format!("member {slot} starts life {life}"));
        self.wake(slot, now_us + 1);
    }

    /// No faults from now on: everything works, everybody is there.
    pub(super) fn end_faults(&mut self) {
        self.ambush = Ambush::None;
        self.network.heal_all(self.now_us, &mut self.queue);
        self.network.travel.rate_bytes_per_ms = 0;
        self.network.travel.excise_per_million = 0;
        self.network.travel.spike_permille = 0;
        self.network.hurry(self.now_us, &mut self.queue);
        self.hurry_closes();
        for slot in 0..self.members.len() {
            let member = &mut self.members[slot];
            member.slow_disk = (0, 0);
            member.slow_wal = (0, 0);
            member.is_disk_failing = false;
            member.astray = Astray::None;
            member.strays.clear();
            member.full_until_us = 0;
            member.is_doomed = false;
            member.is_doomed_at_head = false;
            if let Some(process) = &mut member.process {
                process.paused_until_us = process.paused_until_us.min(self.now_us);
            }
            self.wake(slot, self.now_us + 1);
            self.start(slot);
        }
    }

    /// What the disks hold in the end.
    pub(super) fn read_disks(&mut self) -> Result<(), Complaint> {
        (0..self.members.len()).try_for_each(|slot| {
            if self.members[slot].standing == Standing::Gone {
                return Ok(());
            }
            if !self.plan.may_rot(slot) {
                self.judge_trees(slot)?;
            }
            self.read_disk(slot)
        })
    }

    /// What the page file of a member holds is well-formed.
    pub(super) fn judge_trees(&mut self, slot: usize) -> Result<(), Complaint> {
        let disk = &self.members[slot].disk;
        self.trees.on_pages(slot as u64, |pages| disk.map_pages_to(pages))
    }

    fn read_disk(&mut self, slot: usize) -> Result<(), Complaint> {
        let Ok(mut recovered) = recover(&self.members[slot].disk) else { return Ok(()) };
        if !recovered.gaps.is_empty() {
            let (gaps, segments) = (&recovered.gaps, &recovered.segments);
            self.trace.say(Level::Faults, self.now_us, || {
                format!("the log of member {slot} has {gaps:?} in {segments:?}")
            });
        }
        let Some(group) = recovered.groups.get_mut(&GROUP) else { return Ok(()) };
        if group.state.is_damaged || !group.missing.is_empty() {
            // The others tell it what it held.
            return Ok(());
        }
        let state = group.state.hard_state;
        // What a checkpoint holds was committed, whatever the hard state says.
        let slots = self.members[slot].disk.meta_slots();
        let slots = slots.map(|page| page.unwrap_or_else(|| vec![0; PAGE_SIZE_BYTES]));
        let meta = choose_meta(&slots[0], &slots[1]).ok().flatten();
        let applied = meta.map_or(0, |meta| meta.applied_index);
        let entries = group.entries.iter().map(|entry| DiskEntry {
            index: entry.index,
            term: entry.term,
            kind: entry.kind,
            data: entry.data.to_vec(),
        });
        let log = DiskLog {
            term: state.term,
            vote: state.vote,
            commit: state.commit.max(applied),
            entries: entries.collect(),
        };
        let first = log.entries.first().map_or(applied + 1, |entry| entry.index);
        let last = log.entries.last().map_or(applied, |entry| entry.index.max(applied));
        self.log_ends.insert(slot, (first, last));
        self.log_book.on_disk(slot as u64, &log)
    }
}
