//! Blocks of a disk that cannot be read any more: of pages, of WAL frames, of a side file.
//!
//! Fault model (replication.md, Damage 2): one member of the run, as for `rot`, and no more of a
//! WAL than there: never the newest frames. A block is what a file system reads at once, so a small
//! frame loses both ends with it. A process meets a broken page when it reads it, if the page is not
//! in the page cache, else at its next start; of its WAL a process reads nothing while it runs. What
//! is written again can be read again. Who cannot know its own vote any more refuses to start: it has
//! to be replaced, and for the run it is a member that stays away.
//! Source: issue 5, item 1; storage.md, "Reading through the map" 1.

use engine::page::map::{PAGE_SIZE_BYTES, PageNumber};
use engine::wal::recovered::RecoverError;
use shard::StartError;

use super::coverage::Sight;
use super::plan::FaultKind;
use super::process::Standing;
use super::trace::Level;
use super::world::World;

impl World {
    /// Something on the damaged disk cannot be read from now on.
    pub(super) fn break_block(&mut self) {
        let slot = self.plan.rotten;
        match self.random.between(0, 100) {
            // Who cannot know its vote stays away: nobody tells the operator to replace it.
            0..45 if self.plan.turnover.is_none() => self.break_frame(slot),
            45..60 if self.break_side(slot) => {}
            _ => self.break_page(slot),
        }
        if self.random.chance(KILLS_PERMILLE) {
            // The next start reads it.
            self.kill(slot);
        }
    }

    fn break_page(&mut self, slot: usize) {
        let file = self.members[slot].disk.pages_mut();
        let count = file.size_bytes() / PAGE_SIZE_BYTES as u64;
        if count <= META_PAGES {
            return;
        }
        let page = match self.random.chance(META_PERMILLE) {
            true => self.random.between(0, META_PAGES),
            false => self.random.between(META_PAGES, count),
        };
        file.break_block(page);
        let is_met = self.random.chance(500);
        if is_met && let Some(process) = &mut self.members[slot].process {
            let map = process.cores[0].shard.page_map_mut().expect("the member has a group");
            map.break_page(PageNumber(page));
        }
        self.coverage.add(Sight::PageUnreadable);
        self.trace.say(Level::Faults, self.now_us, || {
            format!("page {page} of member {slot} cannot be read")
        });
    }

    fn break_frame(&mut self, slot: usize) {
        let Some(written) = self.take_old_frame(slot) else { return };
        if written.offset_bytes == 0 && !self.random.chance(HEADS_PERMILLE) {
            // Who loses the head of its only segment loses everything.
            return;
        }
        let blocks = written.size_bytes / BLOCK_SIZE_BYTES;
        let block = written.offset_bytes / BLOCK_SIZE_BYTES + self.random.between(0, blocks);
        self.members[slot].disk.segment_mut(written.segment).break_block(block);
        self.coverage.add(Sight::FrameUnreadable);
        self.trace.say(Level::Faults, self.now_us, || {
            format!("block {block} of {:?} of member {slot} cannot be read", written.segment)
        });
    }

    /// Whether a start is refused because of what cannot be read: a frame was lost at both its ends,
    /// and nothing behind it says whom the member voted for.
    pub(super) fn is_loss_told(&self, slot: usize, refusal: &StartError) -> bool {
        let is_lost =
            matches!(refusal, StartError::HardStateLost | StartError::Wal(RecoverError::NoFrames));
        is_lost && self.plan.may_rot(slot) && self.plan.has(FaultKind::LatentError)
    }

    /// The member is lost, and says so: the others go on without it.
    pub(super) fn lose_member(&mut self, slot: usize, refusal: &StartError) {
        self.members[slot].standing = Standing::Gone;
        self.present.retain(|present| *present != slot);
        self.coverage.add(Sight::MemberLost);
        self.trace.say(Level::Faults, self.now_us, || format!("member {slot} is lost: {refusal}"));
    }

    /// False if no state is on its way.
    fn break_side(&mut self, slot: usize) -> bool {
        let Some(file) = self.members[slot].disk.maybe_side_mut() else { return false };
        let count = file.size_bytes() / BLOCK_SIZE_BYTES;
        if count == 0 {
            return false;
        }
        file.break_block(self.random.between(0, count));
        self.coverage.add(Sight::SideUnreadable);
        self.trace.say(Level::Faults, self.now_us, || {
            format!("a page of member {slot}'s side file cannot be read")
        });
        true
    }
}

/// What a file system reads at once.
const BLOCK_SIZE_BYTES: u64 = 4096;
/// Of the heads of segments that are drawn, so many break.
const HEADS_PERMILLE: u64 = 100;
/// Of the blocks that break, so many are met by a start soon.
const KILLS_PERMILLE: u64 = 300;
/// Of the pages that break, so many are meta pages.
const META_PERMILLE: u64 = 150;
const META_PAGES: u64 = 2;
