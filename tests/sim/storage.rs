//! The disk of one member: WAL segments, page file, side file.
//!
//! Fault model: that of `sectors` for contents. Names: a new segment appears when it is whole; a
//! rename or deletion may be undone by a power cut until the directory is synced, which the next
//! segment that is ready says.

use std::collections::BTreeMap;

use engine::page::checkpoint::PageWrite;
use engine::page::heap::HeapPages;
use engine::page::map::{PAGE_SIZE_BYTES, PageNumber};
use engine::transfer::directory::Directory;
use engine::wal::position::SegmentId;
use engine::wal::source::{ReadFailed, SegmentSource};
use engine::wal::writer::SegmentFile;

use super::random::Random;
use super::sectors::{SectorFile, Survival, Unreadable};

/// What survives the end of a process.
#[derive(Clone, Debug, Default)]
pub struct DiskImage {
    segments: BTreeMap<SegmentId, SectorFile>,
    /// Files whose deletion is not durable.
    deleted: BTreeMap<SegmentId, SectorFile>,
    /// (old name, new name) of renames that are not durable.
    renamed: Vec<(SegmentId, SegmentId)>,
    /// Files that are gone: new ones take their memory.
    gone: Vec<SectorFile>,
    pages: SectorFile,
    side: Option<SectorFile>,
}

impl DiskImage {
    /// A new segment is whole, synced, and its name durable.
    pub fn prepare(&mut self, segment: SegmentId, size_bytes: u64) {
        let file = match self.gone.pop() {
            Some(gone) => gone.renewed(size_bytes),
            None => SectorFile::zeros(size_bytes),
        };
        let known = self.segments.insert(segment, file);
        assert!(known.is_none(), "a segment's number is never used twice");
        self.sync_names();
    }

    /// A released segment gets a new name; its bytes stay.
    pub fn rename(&mut self, old: SegmentId, segment: SegmentId) {
        let file = self.segments.remove(&old).expect("a recycled segment is there");
        let known = self.segments.insert(segment, file);
        assert!(known.is_none(), "a segment's number is never used twice");
        self.renamed.push((old, segment));
    }

    /// The directory is synced.
    pub fn sync_names(&mut self) {
        self.renamed.clear();
        self.gone.extend(std::mem::take(&mut self.deleted).into_values());
        self.gone.truncate(GONE_FILES_MAX);
    }

    /// Deletes a segment, not durably.
    pub fn delete(&mut self, segment: SegmentId) {
        let file = self.segments.remove(&segment).expect("a deleted segment is there");
        self.deleted.insert(segment, file);
    }

    /// A segment's file.
    pub fn segment_mut(&mut self, segment: SegmentId) -> &mut SectorFile {
        self.segments.get_mut(&segment).expect("a written segment is there")
    }

    /// Names and sizes of the segments.
    pub fn segment_sizes(&self) -> Vec<(SegmentId, u64)> {
        self.segments.iter().map(|(id, file)| (*id, file.size_bytes())).collect()
    }

    /// The page file.
    pub fn pages_mut(&mut self) -> &mut SectorFile {
        &mut self.pages
    }

    /// Writes pages through the page cache.
    pub fn write_pages(&mut self, first: u64, bytes: &[u8]) {
        self.pages.write(first * PAGE_SIZE_BYTES as u64, bytes);
    }

    /// The page file as a process maps it.
    pub fn map_pages(&self) -> HeapPages {
        let mut pages = HeapPages::new();
        self.map_pages_to(&mut pages);
        for page in self.pages.unreadable_blocks() {
            pages.break_page(PageNumber(page));
        }
        pages
    }

    /// Makes `pages` those of the page file, whatever they were; says whether they were others.
    /// Unreadable sectors are zeros.
    pub fn map_pages_to(&self, pages: &mut HeapPages) -> bool {
        // A write that broke off may have left part of a page at the end.
        let count = self.pages.size_bytes() as usize / PAGE_SIZE_BYTES;
        let mut has_changed = pages.bytes().len() != count * PAGE_SIZE_BYTES;
        pages.set_length(count);
        for page in 0..count {
            if !self.pages.is_block(page as u64, &pages.bytes().as_chunks().0[page]) {
                self.pages.copy_block(page as u64, pages.page_mut(PageNumber(page as u64)));
                has_changed = true;
            }
        }
        has_changed
    }

    /// The two meta pages as a start reads them; `None` is one that cannot be read.
    pub fn meta_slots(&self) -> [Option<Vec<u8>>; 2] {
        [0, 1].map(|slot| {
            let mut page = vec![0; PAGE_SIZE_BYTES];
            let read = self.pages.read(slot * PAGE_SIZE_BYTES as u64, &mut page);
            read.is_ok().then_some(page)
        })
    }

    /// The side file, made when it is first written.
    pub fn side_mut(&mut self) -> &mut SectorFile {
        self.side.get_or_insert_with(SectorFile::default)
    }

    /// Deletes the side file.
    pub fn discard_side(&mut self) {
        self.side = None;
    }

    /// The side file, if there is one.
    pub fn maybe_side_mut(&mut self) -> Option<&mut SectorFile> {
        self.side.as_mut()
    }

    /// Copies pages from the side file to their places, to be synced there.
    ///
    /// # Errors
    /// A piece of the side file cannot be read: what lies before it was copied.
    pub fn install(&mut self, runs: &[(u64, u64)]) -> Result<Vec<PageWrite>, Unreadable> {
        let side = self.side.as_ref().expect("what is installed was received");
        let mut writes = Vec::new();
        for (first, count) in runs {
            let mut bytes = vec![0; *count as usize * PAGE_SIZE_BYTES];
            side.read(first * PAGE_SIZE_BYTES as u64, &mut bytes)?;
            self.pages.write(first * PAGE_SIZE_BYTES as u64, &bytes);
            writes.push(PageWrite { first: PageNumber(*first), bytes: bytes.into() });
        }
        Ok(writes)
    }

    /// What a start does first: an install that a crash interrupted is done from its beginning, the
    /// side file of anything else goes.
    pub fn finish_install(&mut self) {
        let Some(side) = &self.side else { return };
        let Some(install) = shard::pending_install(self) else { return self.discard_side() };
        let mut read =
            |first: u64, bytes: &mut [u8]| side.read(first * PAGE_SIZE_BYTES as u64, bytes).is_ok();
        let Some(directory) = Directory::decode(install, &mut read) else { return };
        if self.install(&directory.runs).is_err() {
            // The start hears that the state is lost.
            return;
        }
        let offset = directory.meta().slot() * PAGE_SIZE_BYTES as u64;
        self.pages.write(offset, &directory.meta_page);
        self.pages.sync();
        self.discard_side();
    }

    /// A process starts: before it reads anything all of it is made durable (WAL rule 4).
    pub fn sync_all(&mut self) {
        self.sync_names();
        self.segments.values_mut().for_each(SectorFile::sync);
        self.pages.sync();
        if let Some(side) = &mut self.side {
            side.sync();
        }
    }

    /// The power goes: each file is left with what `survival` says, names with what they were or
    /// are.
    pub fn lose_power(&mut self, survival: Survival, random: &mut Random) {
        for (old, new) in std::mem::take(&mut self.renamed).into_iter().rev() {
            if random.chance(500)
                && let Some(file) = self.segments.remove(&new)
            {
                self.segments.insert(old, file);
            }
        }
        for (segment, file) in std::mem::take(&mut self.deleted) {
            if random.chance(500) {
                self.segments.insert(segment, file);
            }
        }
        for file in self.segments.values_mut() {
            file.lose_power(survival, random);
        }
        self.pages.lose_power(survival, random);
        if let Some(side) = &mut self.side {
            side.lose_power(survival, random);
        }
    }
}

impl SegmentSource for DiskImage {
    fn segments(&self) -> Vec<SegmentFile> {
        let file = |(id, file): (&SegmentId, &SectorFile)| SegmentFile {
            id: *id,
            size_bytes: file.size_bytes(),
        };
        self.segments.iter().map(file).collect()
    }

    fn read(
        &self,
        segment: SegmentId,
        offset_bytes: u64,
        bytes: &mut [u8],
    ) -> Result<(), ReadFailed> {
        let file = self.segments.get(&segment).ok_or(ReadFailed)?;
        file.read(offset_bytes, bytes).map_err(|_| ReadFailed)
    }
}

/// Files whose memory is kept for new ones.
const GONE_FILES_MAX: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_may_come_back_until_they_are_durable() {
        let mut outcomes = [false; 2];
        for seed in 0..20 {
            let mut disk = DiskImage::default();
            disk.prepare(SegmentId(1), 4096);
            disk.prepare(SegmentId(2), 4096);
            disk.delete(SegmentId(1));
            disk.lose_power(Survival::Nothing, &mut Random::new(seed));
            outcomes[usize::from(disk.segments().len() == 2)] = true;
        }
        assert_eq!(outcomes, [true; 2]);
        let mut disk = DiskImage::default();
        disk.prepare(SegmentId(1), 4096);
        disk.rename(SegmentId(1), SegmentId(3));
        disk.sync_names();
        disk.lose_power(Survival::Nothing, &mut Random::new(1));
        assert_eq!(disk.segment_sizes(), [(SegmentId(3), 4096)]);
    }

    #[test]
    fn an_image_follows_the_page_file_and_says_whether_it_had_to() {
        let mut disk = DiskImage::default();
        let mut image = HeapPages::new();
        assert!(!disk.map_pages_to(&mut image), "both are empty");
        disk.write_pages(0, &[1; 3 * PAGE_SIZE_BYTES]);
        for (what, is_other) in [("longer", true), ("the same", false)] {
            assert_eq!(disk.map_pages_to(&mut image), is_other, "{what}");
            assert!(image.bytes() == [1; 3 * PAGE_SIZE_BYTES], "{what}");
        }
        disk.pages_mut().flip_bit(PAGE_SIZE_BYTES as u64 + 5, 0);
        assert!(disk.map_pages_to(&mut image) && !disk.map_pages_to(&mut image));
        assert_eq!(image.bytes()[PAGE_SIZE_BYTES + 5], 0);
        disk.pages_mut().break_block(2);
        assert!(disk.map_pages_to(&mut image), "what cannot be read is zeros");
        assert!(image.bytes()[2 * PAGE_SIZE_BYTES..].iter().all(|byte| *byte == 0));
        *disk.pages_mut() = SectorFile::default();
        assert!(disk.map_pages_to(&mut image) && image.bytes().is_empty(), "shorter");
    }

    #[test]
    fn pages_are_installed_from_the_side_file() {
        let mut disk = DiskImage::default();
        disk.write_pages(0, &[1; 3 * PAGE_SIZE_BYTES]);
        disk.side_mut().write(PAGE_SIZE_BYTES as u64, &[2; PAGE_SIZE_BYTES]);
        let writes = disk.install(&[(1, 1)]).expect("it can be read");
        assert_eq!(writes.len(), 1);
        let bytes = disk.map_pages().bytes().to_vec();
        let page = |number: usize| bytes[number * PAGE_SIZE_BYTES];
        assert_eq!((page(0), page(1), page(2)), (1, 2, 1));
    }
}
