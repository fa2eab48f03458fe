//! A disk that forgets: bits change in what was synced, while the process is down.
//!
//! Fault model (replication.md, Damage 2): one member of the run, so that the others hold an intact
//! copy of every committed entry, and hard states on a quorum. One bit in a frame at a time, so that
//! one copy of its directory stays; never in the newest frames, since what no later frame tells to be
//! synced cannot be told from a write that a power cut tore; any bit of any page.
//! Source: storage.md, WAL rule 3; issue 5, item 6.

use engine::page::map::PAGE_SIZE_BYTES;
use engine::wal::position::SegmentId;

use super::coverage::Sight;
use super::trace::Level;
use super::world::World;

/// Newest synced writes of a WAL that keep their bits.
const NEWEST_WRITES: usize = 4;
/// Synced writes that are remembered.
const WRITES_MAX: usize = 256;
/// The head of a frame, and in small ones all that is not padding.
const HEAD_SIZE_BYTES: u64 = 600;
/// Of the pages that rot, so many are meta pages.
const META_PERMILLE: u64 = 150;
const META_PAGES: u64 = 2;

/// A WAL write that is durable: where it lies.
#[derive(Clone, Copy, Debug)]
pub struct Written {
    /// The segment's name then.
    pub segment: SegmentId,
    /// Where it begins.
    pub offset_bytes: u64,
    /// How long it is.
    pub size_bytes: u64,
}

impl World {
    /// A member's WAL write is durable.
    pub(super) fn on_wal_written(&mut self, slot: usize, written: Written) {
        let writes = &mut self.members[slot].wal_written;
        writes.push_back(written);
        if WRITES_MAX < writes.len() {
            writes.pop_front();
        }
    }

    /// The process of the rotten member is killed, and something on its disk changes.
    pub(super) fn rot(&mut self) {
        let slot = self.plan.rotten;
        self.kill(slot);
        match self.random.chance(500) {
            true => self.rot_wal(slot),
            false => self.rot_pages(slot),
        }
    }

    fn rot_pages(&mut self, slot: usize) {
        let pages = self.members[slot].disk.pages_mut();
        let count = pages.size_bytes() / PAGE_SIZE_BYTES as u64;
        if count <= META_PAGES {
            return;
        }
        let page = match self.random.chance(META_PERMILLE) {
            true => self.random.between(0, META_PAGES),
            false => self.random.between(META_PAGES, count),
        };
        let offset_bytes =
            page * PAGE_SIZE_BYTES as u64 + self.random.between(0, PAGE_SIZE_BYTES as u64);
        pages.flip_bit(offset_bytes, self.random.slot(8) as u32);
        self.coverage.add(Sight::PageRotten);
        self.trace.say(Level::Faults, self.now_us, || {
            format!("a bit of page {page} changed at member {slot}")
        });
    }

    /// A frame of a member's WAL that was not hit yet, and is none of the newest.
    pub(super) fn take_old_frame(&mut self, slot: usize) -> Option<Written> {
        let member = &mut self.members[slot];
        let sizes = member.disk.segment_sizes();
        member.wal_written.retain(|written| sizes.iter().any(|(id, _)| *id == written.segment));
        let count = member.wal_written.len().checked_sub(NEWEST_WRITES)?;
        if count == 0 {
            return None;
        }
        let number = self.random.slot(count);
        // A frame that is hit twice may lose both copies of its directory.
        member.wal_written.remove(number)
    }

    fn rot_wal(&mut self, slot: usize) {
        let Some(written) = self.take_old_frame(slot) else { return };
        let reach_bytes = match self.random.chance(700) {
            true => HEAD_SIZE_BYTES,
            false => written.size_bytes,
        };
        let offset_bytes = written.offset_bytes + self.random.between(0, reach_bytes);
        let bit = self.random.slot(8) as u32;
        self.members[slot].disk.segment_mut(written.segment).flip_bit(offset_bytes, bit);
        self.coverage.add(Sight::FrameRotten);
        self.trace.say(Level::Faults, self.now_us, || {
            format!("a bit of {:?} at {offset_bytes} changed at member {slot}", written.segment)
        });
    }
}
