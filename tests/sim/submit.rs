//! What members ask of the world, and how it comes back to them.
//!
//! Invariants: what is written is readable at once and durable when the sync that follows it is
//! told; a process whose disk fails ends before it is told anything.

use engine::page::checkpoint::PageWrite;
use engine::page::map::{PAGE_SIZE_BYTES, PageNumber};
use engine::wal::writer::WalWrite;
use raft::Role;
use shard::effect::{Effect, LogLevel, SegmentOrigin};
use shard::input::{ConnectionId, Input};

use super::coverage::Sight;
use super::plan::FaultKind;
use super::process::{Member, Process};
use super::queue::Happening;
use super::rot::Written;
use super::session::Phase;
use super::trace::Level;
use super::world::World;
use crate::check::bounds::Bound;
use crate::check::log_lines::Excuse;
use crate::check::{Complaint, log_lines};

impl World {
    /// Does one thing that a process asked for in a step.
    pub(super) fn submit(&mut self, slot: usize, life: u64, core: usize, effect: Effect) {
        if self.members[slot].alive(life).is_none() {
            // An earlier effect of the step ended it.
            return;
        }
        match effect {
            Effect::Transmit { connection, bytes } => self.transmit(slot, connection, bytes),
            Effect::PauseReceive { connection } => self.pause(slot, connection, true),
            Effect::ResumeReceive { connection } => self.pause(slot, connection, false),
            Effect::Close { connection } => self.close(slot, connection),
            Effect::Dial { dial, url } => {
                let at_us = self.now_us + 2 * self.network.latency_us();
                let ends = Happening::DialEnds { member: slot, life, dial, url };
                self.queue.push(at_us, ends);
            }
            Effect::Log { level, message, fields } => self.log(slot, level, &message, &fields),
            Effect::ReadMetrics { token } => {
                let text = b"metrics\n".to_vec();
                self.tell_core(slot, core, Input::MetricsRead { token, text });
            }
            Effect::Serve => {
                let judged = self.judge_impostor(slot, true);
                self.complain(judged);
                self.process_mut(slot).is_serving = true;
                self.trace.say(Level::Faults, self.now_us, || format!("member {slot} serves"));
            }
            Effect::Stop => {
                let cores = &mut self.process_mut(slot).cores;
                cores[core].is_stopped = true;
                if !cores.iter().all(|core| core.is_stopped) {
                    return;
                }
                self.trace.say(Level::Faults, self.now_us, || format!("member {slot} stopped"));
                self.end_process(slot, false);
                self.start_later(slot);
            }
            Effect::EndProcess if self.members[slot].is_removed => {
                self.end_process(slot, false);
                self.on_removed_ended(slot);
                self.start_later(slot);
            }
            Effect::EndProcess => {
                let what = format!("member {slot} gives up");
                self.complain(Err(Complaint::new("world", what)));
            }
            Effect::Forward { to, message } => self.cross(slot, core, to, message),
            disk => self.submit_to_disk(slot, life, disk),
        }
    }

    fn submit_to_disk(&mut self, slot: usize, life: u64, effect: Effect) {
        if self.members[slot].is_disk_failing {
            return self.fail_disk(slot, effect);
        }
        if self.now_us < self.members[slot].full_until_us && self.needs_room(slot, &effect) {
            self.coverage.add(Sight::DiskFull);
            return self.fail_disk(slot, effect);
        }
        let member = slot;
        let disk = &mut self.members[slot].disk;
        let happening = match effect {
            Effect::WalWrite(write) => return self.write_wal(slot, life, write),
            Effect::WalSegmentPrepare { segment, size_bytes, origin } => {
                let fresh_size_bytes = match origin {
                    SegmentOrigin::Fresh => size_bytes,
                    SegmentOrigin::Recycled(old) => {
                        self.coverage.add(Sight::SegmentRecycled);
                        disk.rename(old, segment);
                        0
                    }
                };
                Happening::SegmentReady { member, life, segment, fresh_size_bytes }
            }
            Effect::WalSegmentDelete { segment } => {
                self.coverage.add(Sight::SegmentDeleted);
                return disk.delete(segment);
            }
            Effect::PageWrite { first, bytes } => {
                return self.write_pages(slot, PageWrite { first: PageNumber(first), bytes });
            }
            Effect::PageSync { interval } => Happening::PagesSynced { member, life, interval },
            Effect::MetaWrite { interval, slot: place, bytes } => {
                let judged = self.checkpoints.on_meta_page(slot as u64, interval, place, &bytes);
                self.complain(judged);
                self.write_pages(slot, PageWrite { first: PageNumber(place), bytes });
                Happening::MetaSynced { member, life, interval }
            }
            Effect::SideWrite { first, bytes } => {
                return disk.side_mut().write(first * PAGE_SIZE_BYTES as u64, &bytes);
            }
            Effect::SideSync { number } => Happening::SideSynced { member, life, number },
            Effect::PagesInstall { runs, .. } => {
                let Ok(writes) = disk.install(&runs) else {
                    let effect = Effect::PagesInstall { runs, whole_pages: None };
                    return self.fail_disk(slot, effect);
                };
                for write in writes {
                    self.write_map(slot, &write);
                    self.maybe_lead_astray(slot, &write);
                }
                self.maybe_doom_install(slot, life);
                Happening::PagesInstalled { member, life }
            }
            Effect::SideDiscard => return disk.discard_side(),
            Effect::PunchHole { first, pages } => {
                self.coverage.add(Sight::HolePunched);
                let zeros = vec![0; pages as usize * PAGE_SIZE_BYTES];
                let hole = PageWrite { first: PageNumber(first), bytes: zeros.into() };
                return self.write_pages(slot, hole);
            }
            other => unreachable!("{other:?} is not the disk's"),
        };
        let sync_us = self.sync_us(slot);
        self.queue.push(self.now_us + sync_us, happening);
    }

    /// Whether a file has to grow for it.
    fn needs_room(&mut self, slot: usize, effect: &Effect) -> bool {
        let disk = &mut self.members[slot].disk;
        match effect {
            Effect::WalSegmentPrepare { origin, .. } => *origin == SegmentOrigin::Fresh,
            Effect::PageWrite { first, bytes } => {
                disk.pages_mut().size_bytes() < first * PAGE_SIZE_BYTES as u64 + bytes.len() as u64
            }
            Effect::SideWrite { first, bytes } => {
                disk.side_mut().size_bytes() < first * PAGE_SIZE_BYTES as u64 + bytes.len() as u64
            }
            _ => false,
        }
    }

    /// A completion of the disk.
    pub(super) fn complete(&mut self, happening: Happening) {
        let (slot, life) = match &happening {
            Happening::WalSynced { member, life }
            | Happening::SegmentReady { member, life, .. }
            | Happening::PagesSynced { member, life, .. }
            | Happening::MetaSynced { member, life, .. }
            | Happening::SideSynced { member, life, .. }
            | Happening::PagesInstalled { member, life } => (*member, *life),
            other => unreachable!("{other:?} is no completion"),
        };
        let Some(process) = self.members[slot].alive(life) else { return };
        let synced = match happening {
            Happening::WalSynced { .. } => process.wal_flight.pop_front(),
            _ => None,
        };
        let disk = &mut self.members[slot].disk;
        let input = match happening {
            Happening::WalSynced { .. } => {
                let write = synced.expect("a write is in flight");
                disk.segment_mut(write.segment).sync();
                let size_bytes = write.buffer.as_bytes().len() as u64;
                let (segment, offset_bytes) = (write.segment, write.offset_bytes);
                self.on_wal_written(slot, Written { segment, offset_bytes, size_bytes });
                Input::WalSynced { end: write.end, buffer: write.buffer }
            }
            Happening::SegmentReady { segment, fresh_size_bytes, .. } => {
                match fresh_size_bytes {
                    0 => disk.sync_names(),
                    size_bytes => disk.prepare(segment, size_bytes),
                }
                Input::WalSegmentReady { segment }
            }
            Happening::PagesSynced { interval, .. } => {
                self.sync_pages(slot);
                Input::PagesSynced { interval }
            }
            Happening::MetaSynced { interval, .. } => {
                self.sync_pages(slot);
                self.coverage.add(Sight::Checkpoint);
                if self.verified_interval < interval && !self.plan.may_rot(slot) {
                    // The others' meta page of this interval has to be the same bytes.
                    self.verified_interval = interval;
                    let judged = self.judge_trees(slot);
                    self.complain(judged);
                }
                Input::MetaSynced { interval }
            }
            Happening::SideSynced { number, .. } => {
                disk.side_mut().sync();
                Input::SideSynced { number }
            }
            Happening::PagesInstalled { .. } => {
                self.sync_pages(slot);
                Input::PagesInstalled
            }
            other => unreachable!("{other:?} is no completion"),
        };
        self.tell(slot, input);
    }

    /// Pages that are replaced in the middle of their file are worth a power cut of their own.
    fn maybe_doom_install(&mut self, slot: usize, life: u64) {
        let may_fall = self.phase == Phase::Faults && self.plan.has(FaultKind::PowerCut);
        if may_fall && self.random.chance(INSTALLS_DOOMED_PERMILLE) {
            let (_, most_us) = self.plan.sync_us;
            let at_us = self.now_us + self.random.between(0, 2 * most_us);
            self.queue.push(at_us, Happening::PowerGoes { member: slot, life });
        }
    }

    fn write_wal(&mut self, slot: usize, life: u64, write: WalWrite) {
        let member = &mut self.members[slot];
        let is_head = write.offset_bytes == 0;
        let file = member.disk.segment_mut(write.segment);
        file.write(write.offset_bytes, write.buffer.as_bytes());
        self.trace.mix(self.now_us, 4, slot as u64, write.buffer.as_bytes());
        let process = self.process_mut(slot);
        process.wal_flight.push_back(write);
        let in_flight = process.wal_flight.len();
        self.judge(slot, Bound::WalWrites, in_flight);
        let (extra_us, until_us) = self.members[slot].slow_wal;
        let extra_us = if self.now_us < until_us { extra_us } else { 0 };
        let sync_us = self.sync_us(slot) + extra_us;
        if std::mem::take(&mut self.members[slot].is_doomed) {
            let at_us = self.now_us + self.random.between(0, sync_us.max(1));
            self.queue.push(at_us, Happening::PowerGoes { member: slot, life });
        }
        if is_head && std::mem::take(&mut self.members[slot].is_doomed_at_head) {
            self.members[slot].is_doomed = true;
        }
        let synced = Happening::WalSynced { member: slot, life };
        self.queue.push(self.now_us + sync_us, synced);
    }

    fn write_pages(&mut self, slot: usize, write: PageWrite) {
        self.members[slot].disk.write_pages(write.first.0, &write.bytes);
        self.trace.mix(self.now_us, 5, (slot as u64) << 32 | write.first.0, &write.bytes);
        self.write_map(slot, &write);
        self.maybe_lead_astray(slot, &write);
    }

    pub(super) fn write_map(&mut self, slot: usize, write: &PageWrite) {
        let map =
            self.process_mut(slot).cores[0].shard.page_map_mut().expect("the member has a group");
        map.write(write);
    }

    fn sync_us(&mut self, slot: usize) -> u64 {
        let (least_us, most_us) = self.plan.sync_us;
        let sync_us = self.random.between(least_us, most_us + 1);
        let (extra_us, until_us) = self.members[slot].slow_disk;
        if self.now_us < until_us { sync_us + extra_us } else { sync_us }
    }

    fn transmit(&mut self, slot: usize, connection: ConnectionId, bytes: Vec<u8>) {
        let Some(&(link, end)) = self.process_mut(slot).links.get(&connection) else { return };
        let taken = self.network.transmit(link, end, bytes, self.now_us, &mut self.queue);
        if 0 < taken {
            self.tell_taken(slot, connection, taken, false);
        }
        let unsent_bytes = self.network.unsent_bytes(link, end);
        self.judge(slot, Bound::UnsentBytes, unsent_bytes);
    }

    fn pause(&mut self, slot: usize, connection: ConnectionId, is_paused: bool) {
        let Some(&(link, end)) = self.process_mut(slot).links.get(&connection) else { return };
        self.network.pause(link, end, is_paused, self.now_us, &mut self.queue);
    }

    fn close(&mut self, slot: usize, connection: ConnectionId) {
        let Some(&(link, end)) = self.process_mut(slot).links.get(&connection) else { return };
        let happening = match self.network.close(link, end) {
            true => {
                let at_us = self.network.last_us(link, end).max(self.now_us) + 1;
                (at_us, Happening::Breaks { link })
            }
            false => (self.now_us + CLOSE_US_MAX, Happening::CloseEnds { link, end }),
        };
        self.queue.push(happening.0, happening.1);
    }

    fn log(
        &mut self,
        slot: usize,
        level: LogLevel,
        message: &str,
        fields: &[(&'static str, String)],
    ) {
        self.trace.say(Level::Faults, self.now_us, || {
            format!("member {slot} says {level:?} {message} {fields:?}")
        });
        self.coverage.on_log(message, fields);
        if message == REMOVED {
            self.on_removal_told(slot);
        }
        if message == "role changed" {
            self.members[slot].is_leading =
                fields.iter().any(|(name, value)| *name == "role" && value == "\"Leader\"");
            let judged = self.judge_impostor(slot, false);
            self.complain(judged);
            self.judge_roles(slot);
            self.spring_ambush(slot);
        }
        let mut excuses = self.excuses.clone();
        if self.has_late_hello(fields) {
            excuses.push(Excuse::LateHello);
        }
        let judged = log_lines::check(slot as u64, level, message, fields, &excuses);
        self.complain(judged);
    }

    /// Whether the hello of a life that is over may still be on its way from the member of a line.
    fn has_late_hello(&self, fields: &[(&'static str, String)]) -> bool {
        let is_of = |member: &Member| {
            let id = format!("\"{:x}\"", member.config.member_id);
            fields.iter().any(|(name, value)| *name == "remote-peer-id" && *value == id)
        };
        let member = self.members.iter().find(|member| is_of(member));
        let since_us = member.map(|member| self.now_us - member.started_us);
        since_us.is_some_and(|since_us| since_us < LATE_US_MAX)
    }

    /// A role changed: who leads must hold all that was committed in earlier terms.
    fn judge_roles(&mut self, changed: usize) {
        for slot in 0..self.members.len() {
            let Some(status) = self.members[slot].raft_status() else { continue };
            let judged = self.log_book.on_status(
                slot as u64,
                status.term.0,
                status.commit.0,
                (slot == changed && status.role == Role::Leader).then_some(status.last.index.0),
            );
            self.complain(judged);
        }
    }

    pub(super) fn process_mut(&mut self, slot: usize) -> &mut Process {
        self.members[slot].process.as_mut().expect("effects come from a process")
    }
}

/// What a member says that was removed.
const REMOVED: &str = "the member has been permanently removed from the cluster";
/// What a member sent may arrive so long after its end: links outlive it for a while.
const LATE_US_MAX: u64 = 10_000_000;
/// How long unsent bytes hold up a close.
const CLOSE_US_MAX: u64 = 1_000_000;
/// Of the states that are put in place, so many meet a power cut where there are any.
const INSTALLS_DOOMED_PERMILLE: u64 = 300;
