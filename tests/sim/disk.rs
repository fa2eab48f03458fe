//! A simulated disk for WAL segments: what was written, and what of it is durable.
//!
//! Fault model: a crash of the power keeps every synced sector and any subset of the others; a
//! crash of the process keeps everything that was written.

use std::collections::BTreeMap;

use engine::wal::position::SegmentId;
use engine::wal::source::{ReadFailed, SegmentSource};
use engine::wal::writer::{SegmentFile, WalWrite};

/// The unit that a disk writes whole.
pub const SECTOR_SIZE_BYTES: usize = 512;

/// Segment files of one WAL.
#[derive(Clone, Debug, Default)]
pub struct WalDisk {
    files: BTreeMap<SegmentId, Vec<u8>>,
    durable: BTreeMap<SegmentId, Vec<u8>>,
}

impl WalDisk {
    /// Makes a segment file of zeros, durable at once.
    pub fn prepare(&mut self, segment: SegmentId, size_bytes: u64) {
        let bytes = vec![0; usize::try_from(size_bytes).expect("segments fit in memory")];
        self.durable.insert(segment, bytes.clone());
        self.files.insert(segment, bytes);
    }

    /// Gives an old file a new name; its bytes stay.
    pub fn recycle(&mut self, old: SegmentId, segment: SegmentId) {
        for files in [&mut self.files, &mut self.durable] {
            let bytes = files.remove(&old).expect("a recycled segment is there");
            files.insert(segment, bytes);
        }
    }

    /// Deletes a file.
    pub fn delete(&mut self, segment: SegmentId) {
        self.files.remove(&segment);
        self.durable.remove(&segment);
    }

    /// Writes without a sync.
    pub fn write(&mut self, write: &WalWrite) {
        let file = self.files.get_mut(&write.segment).expect("a written segment is there");
        let start = write.offset_bytes as usize;
        file[start..start + write.buffer.as_bytes().len()].copy_from_slice(write.buffer.as_bytes());
    }

    /// Makes a write durable.
    pub fn sync(&mut self, write: &WalWrite) {
        let file = self.durable.get_mut(&write.segment).expect("a synced segment is there");
        let start = write.offset_bytes as usize;
        file[start..start + write.buffer.as_bytes().len()].copy_from_slice(write.buffer.as_bytes());
    }

    /// Inverts a bit of the first segment.
    pub fn flip(&mut self, offset_bytes: u64) {
        for files in [&mut self.files, &mut self.durable] {
            if let Some(mut file) = files.first_entry() {
                file.get_mut()[offset_bytes as usize] ^= 1;
            }
        }
    }

    /// The power goes: each sector that was written and not synced survives if `keeps` says so.
    pub fn lose_power(&mut self, mut keeps: impl FnMut() -> bool) {
        for (segment, file) in &mut self.files {
            let durable = self.durable.get_mut(segment).expect("both images know a file");
            let sectors =
                file.chunks_mut(SECTOR_SIZE_BYTES).zip(durable.chunks_mut(SECTOR_SIZE_BYTES));
            for (written, durable) in sectors {
                if written != durable && keeps() {
                    durable.copy_from_slice(written);
                }
            }
            file.copy_from_slice(durable);
        }
    }
}

impl SegmentSource for WalDisk {
    fn segments(&self) -> Vec<SegmentFile> {
        let file = |(id, bytes): (&SegmentId, &Vec<u8>)| SegmentFile {
            id: *id,
            size_bytes: bytes.len() as u64,
        };
        self.files.iter().map(file).collect()
    }

    fn read(
        &self,
        segment: SegmentId,
        offset_bytes: u64,
        bytes: &mut [u8],
    ) -> Result<(), ReadFailed> {
        let file = self.files.get(&segment).ok_or(ReadFailed)?;
        let start = usize::try_from(offset_bytes).map_err(|_| ReadFailed)?;
        let range = file.get(start..start + bytes.len()).ok_or(ReadFailed)?;
        bytes.copy_from_slice(range);
        Ok(())
    }
}
