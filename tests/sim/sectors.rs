//! A file on a simulated disk: what was written, what of it is durable, what of it is broken.
//!
//! Fault model: a crash of the process keeps all that was written, durable or not. A crash of the
//! power keeps every synced sector and any subset of the others, each whole in its old or its new
//! version. A sector may become unreadable, or change by itself; a write may be lost or land
//! elsewhere although the disk said otherwise.
//! Invariant: `before` holds the durable version of each block that was written and not synced.
//! Source: storage.md, The simulator's part; issue 5.

use std::collections::{BTreeMap, BTreeSet};

use super::random::Random;

/// The unit that a disk writes whole.
pub const SECTOR_SIZE_BYTES: usize = 512;
/// Unit of the memory that holds a file: most of a big one is zeros.
const BLOCK_SIZE_BYTES: usize = 4096;
const SECTORS_PER_BLOCK: usize = BLOCK_SIZE_BYTES / SECTOR_SIZE_BYTES;
const ZERO_SECTOR: [u8; SECTOR_SIZE_BYTES] = [0; SECTOR_SIZE_BYTES];

/// Whole sectors from a block's beginning; the zeros that end it are left out, for frames are
/// padded with them.
type Block = Box<[u8]>;

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

/// A block as it was when everything was durable, and which of its sectors were written since.
#[derive(Clone, Debug)]
struct Before {
    block: Block,
    written: [bool; SECTORS_PER_BLOCK],
}

/// See the file's head.
#[derive(Clone, Debug, Default)]
pub struct SectorFile {
    size_bytes: u64,
    blocks: BTreeMap<u64, Block>,
    before: BTreeMap<u64, Before>,
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
        let mut rest = bytes;
        let mut at = offset_bytes;
        while !rest.is_empty() {
            let start = (at % BLOCK_SIZE_BYTES as u64) as usize;
            let (piece, behind) = rest.split_at(rest.len().min(BLOCK_SIZE_BYTES - start));
            self.write_block(at / BLOCK_SIZE_BYTES as u64, start, piece);
            at += piece.len() as u64;
            rest = behind;
        }
        if !self.unreadable.is_empty() {
            let sectors = offset_bytes / SECTOR_SIZE_BYTES as u64..at / SECTOR_SIZE_BYTES as u64;
            self.unreadable.retain(|number| !sectors.contains(number));
        }
        self.size_bytes = self.size_bytes.max(offset_bytes + bytes.len() as u64);
    }

    /// Writes sectors of one block.
    fn write_block(&mut self, number: u64, start: usize, piece: &[u8]) {
        let block = self.blocks.entry(number).or_default();
        let new = match piece.len() {
            BLOCK_SIZE_BYTES => trimmed(piece),
            _ => {
                let mut whole = expanded(block);
                whole[start..start + piece.len()].copy_from_slice(piece);
                trimmed(&whole)
            }
        };
        let old = std::mem::replace(block, new);
        let none = [false; SECTORS_PER_BLOCK];
        let before = self.before.entry(number).or_insert(Before { block: old, written: none });
        let first = start / SECTOR_SIZE_BYTES;
        before.written[first..first + piece.len() / SECTOR_SIZE_BYTES].fill(true);
    }

    /// Everything written is durable.
    pub fn sync(&mut self) {
        self.before.clear();
    }

    /// How many sectors a power cut would put in question.
    pub fn unsynced(&self) -> usize {
        let written = self.before.values().flat_map(|before| before.written);
        written.filter(|is_written| *is_written).count()
    }

    /// The power goes. What it leaves is durable.
    pub fn lose_power(&mut self, survival: Survival, random: &mut Random) {
        let edge = random.slot(self.unsynced().max(1));
        let mut slot = 0;
        for (number, before) in std::mem::take(&mut self.before) {
            let block = self.blocks.get_mut(&number).expect("a written block is there");
            let old = expanded(&before.block);
            let mut new = expanded(block);
            for sector in (0..SECTORS_PER_BLOCK).filter(|sector| before.written[*sector]) {
                let survives = match survival {
                    Survival::Nothing => false,
                    Survival::Everything => true,
                    Survival::Each { permille } => random.chance(permille),
                    Survival::Prefix => slot < edge,
                    Survival::Suffix => edge <= slot,
                };
                slot += 1;
                if !survives {
                    let place = sector * SECTOR_SIZE_BYTES..(sector + 1) * SECTOR_SIZE_BYTES;
                    new[place.clone()].copy_from_slice(&old[place]);
                }
            }
            *block = trimmed(&new);
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
            let to = (start + block.len() as u64).min(end);
            if to <= from {
                continue;
            }
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
            let size = block.len().min(bytes.len().saturating_sub(start));
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

    /// A latent error that takes a whole block of a file system: what goes through the page cache
    /// is read and lost in such blocks.
    pub fn break_block(&mut self, number: u64) {
        let first = number * SECTORS_PER_BLOCK as u64;
        (first..first + SECTORS_PER_BLOCK as u64).for_each(|sector| self.break_sector(sector));
    }

    /// Blocks of which something cannot be read, ascending.
    pub fn unreadable_blocks(&self) -> Vec<u64> {
        let mut blocks: Vec<u64> =
            self.unreadable.iter().map(|sector| sector / SECTORS_PER_BLOCK as u64).collect();
        blocks.dedup();
        blocks
    }

    /// A bit changes by itself, durably.
    pub fn flip_bit(&mut self, offset_bytes: u64, bit: u32) {
        assert!(offset_bytes < self.size_bytes);
        let block = self.blocks.entry(offset_bytes / BLOCK_SIZE_BYTES as u64).or_default();
        let mut whole = expanded(block);
        whole[offset_bytes as usize % BLOCK_SIZE_BYTES] ^= 1 << (bit % 8);
        *block = trimmed(&whole);
    }

    /// What was written there last and not synced never reached the disk, whatever it says.
    pub fn lose_write(&mut self, offset_bytes: u64, size_bytes: usize) {
        let first = offset_bytes / SECTOR_SIZE_BYTES as u64;
        for number in first..first + (size_bytes / SECTOR_SIZE_BYTES) as u64 {
            let place = number / SECTORS_PER_BLOCK as u64;
            let sector = (number % SECTORS_PER_BLOCK as u64) as usize;
            let Some(before) = self.before.get_mut(&place) else { continue };
            if std::mem::take(&mut before.written[sector]) {
                let block = self.blocks.get_mut(&place).expect("a written block is there");
                let (old, mut new) = (expanded(&before.block), expanded(block));
                let bytes = sector * SECTOR_SIZE_BYTES..(sector + 1) * SECTOR_SIZE_BYTES;
                new[bytes.clone()].copy_from_slice(&old[bytes]);
                *block = trimmed(&new);
            }
        }
    }
}

/// A block with the zeros that were left out.
fn expanded(block: &Block) -> [u8; BLOCK_SIZE_BYTES] {
    let mut whole = [0; BLOCK_SIZE_BYTES];
    whole[..block.len()].copy_from_slice(block);
    whole
}

/// A block without the sectors of zeros that end it.
fn trimmed(whole: &[u8]) -> Block {
    let mut size = whole.len();
    while 0 < size && whole[size - SECTOR_SIZE_BYTES..size] == ZERO_SECTOR {
        size -= SECTOR_SIZE_BYTES;
    }
    whole[..size].into()
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
