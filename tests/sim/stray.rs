//! Writes of pages that go astray: the disk says that they are done and durable, but they never
//! happened, or they lie in another page's place.
//!
//! Fault model (replication.md, Damage 2): one member of the run, as for `rot`. Until the sync the
//! page cache shows what was written; from then on the disk holds the page as it was before, whole
//! and with a right checksum of its own, and the process sees that at once if the page left the
//! cache, else after its next start. Meta pages go astray like any other, and may be hit like any.
//! Source: storage.md, "Reading through the map" 1; issue 5, item 1.

use engine::page::checkpoint::PageWrite;
use engine::page::map::{PAGE_SIZE_BYTES, PageNumber};

use super::coverage::Sight;
use super::trace::Level;
use super::world::World;

/// Which of a member's writes of pages goes astray.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Astray {
    /// None.
    #[default]
    None,
    /// The next one.
    NextPage,
    /// The next one of a meta page.
    NextMeta,
}

/// Pages of a write that will not be where they should when it is synced.
#[derive(Clone, Copy, Debug)]
pub struct Stray {
    first: u64,
    pages: u64,
    /// Where they are instead.
    target: Option<u64>,
    /// They leave the page cache.
    is_seen: bool,
}

impl World {
    /// One of the next writes of the member whose disk is damaged goes astray.
    pub(super) fn begin_straying(&mut self) {
        let is_meta = self.random.chance(META_PERMILLE);
        let astray = if is_meta { Astray::NextMeta } else { Astray::NextPage };
        self.members[self.plan.rotten].astray = astray;
    }

    /// Pages were written, not synced.
    pub(super) fn maybe_lead_astray(&mut self, slot: usize, write: &PageWrite) {
        let is_meta = write.first.0 < META_PAGES;
        match self.members[slot].astray {
            Astray::NextPage => {}
            Astray::NextMeta if is_meta => {}
            _ => return,
        }
        self.members[slot].astray = Astray::None;
        let all = (write.bytes.len() / PAGE_SIZE_BYTES) as u64;
        let (first, pages) = match self.random.chance(500) {
            true => (write.first.0, all),
            false => (write.first.0 + self.random.between(0, all), 1),
        };
        let count = self.members[slot].disk.pages_mut().size_bytes() / PAGE_SIZE_BYTES as u64;
        let target = self.random.chance(500).then(|| self.random.between(0, count));
        let target = target.filter(|target| *target + pages <= first || first + pages <= *target);
        let is_seen = self.random.chance(500);
        self.members[slot].strays.push(Stray { first, pages, target, is_seen });
    }

    /// Everything written to a page file is durable, where it lies by now.
    pub(super) fn sync_pages(&mut self, slot: usize) {
        for stray in std::mem::take(&mut self.members[slot].strays) {
            self.lead_astray(slot, stray);
        }
        self.members[slot].disk.pages_mut().sync();
    }

    fn lead_astray(&mut self, slot: usize, stray: Stray) {
        let Stray { first, pages, target, is_seen } = stray;
        let offset_bytes = first * PAGE_SIZE_BYTES as u64;
        let mut bytes = vec![0; pages as usize * PAGE_SIZE_BYTES];
        let file = self.members[slot].disk.pages_mut();
        if file.read(offset_bytes, &mut bytes).is_err() {
            // It broke since.
            return;
        }
        file.lose_write(offset_bytes, bytes.len());
        let mut changed = vec![(first, bytes.clone())];
        if let Some(target) = target {
            file.write(target * PAGE_SIZE_BYTES as u64, &bytes);
            changed.push((target, bytes));
        }
        let (_, old) = &mut changed[0];
        file.read(offset_bytes, old).expect("it was read above");
        if is_seen {
            for (first, bytes) in changed {
                let write = PageWrite { first: PageNumber(first), bytes: bytes.into() };
                self.write_map(slot, &write);
            }
        }
        let sight = if target.is_some() { Sight::WriteMisdirected } else { Sight::WriteLost };
        self.coverage.add(sight);
        self.trace.say(Level::Faults, self.now_us, || {
            format!("member {slot}'s write of {pages} pages from {first} went to {target:?}")
        });
    }
}

/// Of the writes that go astray, so many are those of meta pages.
const META_PERMILLE: u64 = 150;
const META_PAGES: u64 = 2;
