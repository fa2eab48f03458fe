//! A file on a simulated disk: what was written, what of it is durable, what of it is broken.
//!
//! Fault model: a crash of the process keeps all that was written, durable or not. A crash of the
//! power keeps every synced sector and any subset of the others, each whole in its old or its new
//! version. A sector may become unreadable, or change by itself; a write may be lost or land
//! elsewhere although the disk said otherwise.
//! Invariant: `before` holds the durable version of each sector that was written and not synced.
//! Source: storage.md, The simulator's part; issue 5.

use std::collections::{BTreeMap, BTreeSet};

use super::random::Random;

/// The unit that a disk writes whole.
pub const SECTOR_SIZE_BYTES: usize = 512;
/// Unit of the memory that holds a file: most of a big one is zeros.
const BLOCK_SIZE_BYTES: usize = 4096;
const SECTORS_PER_BLOCK: usize = BLOCK_SIZE_BYTES / SECTOR_SIZE_BYTES;

type Sector = [u8; SECTOR_SIZE_BYTES];
type Block = [u8; BLOCK_SIZE_BYTES];

/// A sector that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreadable;

/// Which of the sectors that were not synced survive a power cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Survival {
    /// None: the disk's cache was lost.
    Nothing,
    /// All: it had just been written.
    Everything,
    /// Each with this chance.
    Each {
        /// In a thousand.
        permille: u64,
    },
    /// Those in front of one of them.
    Prefix,
    /// Those behind one of them.
    Suffix,
}

/// See the file's head.
#[derive(Clone, Debug, Default)]
pub struct SectorFile {
    size_bytes: u64,
    blocks: BTreeMap<u64, Box<Block>>,
    before: BTreeMap<u64, Box<Sector>>,
    unreadable: BTreeSet<u64>,
}

impl SectorFile {
    /// Zeros, durable.
    pub fn zeros(size_bytes: u64) -> SectorFile {
        SectorFile { size_bytes, ..SectorFile::default() }
    }

    /// Its length.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Writes whole sectors; the file grows as needed. They are not durable.
    pub fn write(&mut self, offset_bytes: u64, bytes: &[u8]) {
        assert!(offset_bytes.is_multiple_of(SECTOR_SIZE_BYTES as u64));
        assert!(bytes.len().is_multiple_of(SECTOR_SIZE_BYTES));
        let first = offset_bytes / SECTOR_SIZE_BYTES as u64;
        for (number, sector) in (first..).zip(bytes.chunks_exact(SECTOR_SIZE_BYTES)) {
            let old = *self.sector_mut(number);
            self.before.entry(number).or_insert_with(|| Box::new(old));
            self.sector_mut(number).copy_from_slice(sector);
            self.unreadable.remove(&number);
        }
        self.size_bytes = self.size_bytes.max(offset_bytes + bytes.len() as u64);
    }

    /// Everything written is durable.
    pub fn sync(&mut self) {
        self.before.clear();
    }

    /// How many sectors a power cut would put in question.
    pub fn unsynced(&self) -> usize {
        self.before.len()
    }

    /// The power goes. What it leaves is durable.
    pub fn lose_power(&mut self, survival: Survival, random: &mut Random) {
        let before = std::mem::take(&mut self.before);
        let edge = random.slot(before.len().max(1));
        for (slot, (number, sector)) in before.into_iter().enumerate() {
            let survives = match survival {
                Survival::Nothing => false,
                Survival::Everything => true,
                Survival::Each { permille } => random.chance(permille),
                Survival::Prefix => slot < edge,
                Survival::Suffix => edge <= slot,
            };
            if !survives {
                *self.sector_mut(number) = *sector;
            }
        }
    }

    /// Reads a piece.
    ///
    /// # Errors
    /// It lies outside, or a sector of it is unreadable.
    pub fn read(&self, offset_bytes: u64, bytes: &mut [u8]) -> Result<(), Unreadable> {
        let end = offset_bytes.checked_add(bytes.len() as u64).ok_or(Unreadable)?;
        if self.size_bytes < end {
            return Err(Unreadable);
        }
        let sectors =
            offset_bytes / SECTOR_SIZE_BYTES as u64..end.div_ceil(SECTOR_SIZE_BYTES as u64);
        if self.unreadable.range(sectors).next().is_some() {
            return Err(Unreadable);
        }
        bytes.fill(0);
        let blocks = offset_bytes / BLOCK_SIZE_BYTES as u64..end.div_ceil(BLOCK_SIZE_BYTES as u64);
        for (number, block) in self.blocks.range(blocks) {
            let start = number * BLOCK_SIZE_BYTES as u64;
            let from = start.max(offset_bytes);
            let to = (start + BLOCK_SIZE_BYTES as u64).min(end);
            bytes[(from - offset_bytes) as usize..(to - offset_bytes) as usize]
                .copy_from_slice(&block[(from - start) as usize..(to - start) as usize]);
        }
        Ok(())
    }

    /// All of it; unreadable sectors are zeros.
    pub fn contents(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.size_bytes as usize];
        for (number, block) in &self.blocks {
            let start = *number as usize * BLOCK_SIZE_BYTES;
            let size = BLOCK_SIZE_BYTES.min(bytes.len().saturating_sub(start));
            bytes[start..start + size].copy_from_slice(&block[..size]);
        }
        for number in &self.unreadable {
            let start = *number as usize * SECTOR_SIZE_BYTES;
            bytes[start..start + SECTOR_SIZE_BYTES].fill(0);
        }
        bytes
    }

    /// A latent error: the sector cannot be read until it is written again.
    pub fn break_sector(&mut self, number: u64) {
        assert!(number * (SECTOR_SIZE_BYTES as u64) < self.size_bytes);
        self.unreadable.insert(number);
    }

    /// A bit changes by itself, durably.
    pub fn flip_bit(&mut self, offset_bytes: u64, bit: u32) {
        assert!(offset_bytes < self.size_bytes);
        let sector = self.sector_mut(offset_bytes / SECTOR_SIZE_BYTES as u64);
        sector[offset_bytes as usize % SECTOR_SIZE_BYTES] ^= 1 << (bit % 8);
    }

    /// What was written there last and not synced never reached the disk, whatever it says.
    pub fn lose_write(&mut self, offset_bytes: u64, size_bytes: usize) {
        let first = offset_bytes / SECTOR_SIZE_BYTES as u64;
        for number in first..first + (size_bytes / SECTOR_SIZE_BYTES) as u64 {
            if let Some(old) = self.before.remove(&number) {
                *self.sector_mut(number) = *old;
            }
        }
    }

    fn sector_mut(&mut self, number: u64) -> &mut Sector {
        let block = number / SECTORS_PER_BLOCK as u64;
        let start = (number % SECTORS_PER_BLOCK as u64) as usize * SECTOR_SIZE_BYTES;
        let block = self.blocks.entry(block).or_insert_with(|| Box::new([0; BLOCK_SIZE_BYTES]));
        (&mut block[start..start + SECTOR_SIZE_BYTES]).try_into().expect("a sector long")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written() -> SectorFile {
        let mut file = SectorFile::zeros(8192);
        file.write(0, &[1; 2048]);
        file.sync();
        file.write(1024, &[2; 4096]);
        file
    }

    fn at(file: &SectorFile, offset_bytes: u64) -> u8 {
        let mut byte = [0];
        file.read(offset_bytes, &mut byte).expect("readable");
        byte[0]
    }

    #[test]
    fn what_was_written_is_read_and_what_was_synced_survives() {
        let mut file = written();
        assert_eq!((at(&file, 0), at(&file, 1024), at(&file, 5119), at(&file, 5120)), (1, 2, 2, 0));
        assert_eq!(file.unsynced(), 8);
        file.lose_power(Survival::Nothing, &mut Random::new(1));
        assert_eq!((at(&file, 0), at(&file, 1024), at(&file, 2048)), (1, 1, 0));
        assert_eq!(file.unsynced(), 0);
        let mut file = written();
        file.sync();
        file.lose_power(Survival::Nothing, &mut Random::new(1));
        assert_eq!(at(&file, 1024), 2);
        let mut file = written();
        file.lose_power(Survival::Everything, &mut Random::new(1));
        assert_eq!(at(&file, 1024), 2);
    }

    #[test]
    fn sectors_survive_whole() {
        for seed in 0..50 {
            let mut random = Random::new(seed);
            for survival in [Survival::Each { permille: 500 }, Survival::Prefix, Survival::Suffix] {
                let mut file = written();
                file.lose_power(survival, &mut random);
                let contents = file.contents();
                for sector in contents.chunks(SECTOR_SIZE_BYTES) {
                    assert!(sector.iter().all(|byte| *byte == sector[0]), "torn in a sector");
                }
            }
        }
    }

    #[test]
    fn broken_sectors_are_unreadable_until_written() {
        let mut file = written();
        file.break_sector(2);
        assert_eq!(file.read(1000, &mut [0; 100]), Err(Unreadable));
        assert_eq!(at(&file, 1023), 1);
        file.write(1024, &[3; 512]);
        assert_eq!(at(&file, 1024), 3);
        assert_eq!(file.read(8000, &mut [0; 512]), Err(Unreadable), "outside");
    }

    #[test]
    fn bits_flip_and_writes_get_lost() {
        let mut file = written();
        file.flip_bit(5, 1);
        assert_eq!(at(&file, 5), 3);
        file.lose_write(1024, 512);
        file.sync();
        assert_eq!((at(&file, 1024), at(&file, 1536)), (1, 2));
    }
}
