//! A file on a simulated disk: what was written, what of it is durable, what of it is broken.
//!
//! Fault model: a crash of the process keeps all that was written, durable or not. A crash of the
//! power keeps every synced sector and any subset of the others, each whole in its old or its new
//! version. A sector may become unreadable, or change by itself; a write may be lost or land
//! elsewhere although the disk said otherwise.
//! Invariants: `before` holds the durable version of each sector that was written and not synced;
//! each slot of `sectors` but the first is named by one block, by one version that is kept for a
//! power cut, or by the list of free ones. So neither a write nor a sync allocates in the long run.
//! Source: storage.md, The simulator's part; issue 5.

use std::collections::BTreeSet;

use super::random::Random;

/// The unit that a disk writes whole.
pub const SECTOR_SIZE_BYTES: usize = 512;
/// Unit of the table that finds sectors: that of a file system and of a page.
const BLOCK_SIZE_BYTES: usize = 4096;
const SECTORS_PER_BLOCK: usize = BLOCK_SIZE_BYTES / SECTOR_SIZE_BYTES;

type Sector = [u8; SECTOR_SIZE_BYTES];
const ZERO_SECTOR: Sector = [0; SECTOR_SIZE_BYTES];
/// Slot of every sector of zeros: frames are padded with them, and most of a new file is.
const ZEROS: u32 = 0;

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

/// Where the sectors of a block are.
#[derive(Clone, Copy, Debug)]
struct Block {
    slots: [u32; SECTORS_PER_BLOCK],
    /// Place of its `Before`, and one; 0 if everything of it is durable.
    before: u32,
}

/// The sectors of a block that were written and not synced, as they were when they were durable.
#[derive(Clone, Copy, Debug)]
struct Before {
    number: u64,
    slots: [u32; SECTORS_PER_BLOCK],
    written: [bool; SECTORS_PER_BLOCK],
}

/// See the file's head.
#[derive(Clone, Debug)]
pub struct SectorFile {
    size_bytes: u64,
    /// Those up to the last one that was ever written.
    blocks: Vec<Block>,
    /// The first one is of zeros.
    sectors: Vec<Sector>,
    /// Slots of `sectors` that nobody names.
    free: Vec<u32>,
    /// In the order of writing.
    before: Vec<Before>,
    unreadable: BTreeSet<u64>,
}

impl Default for SectorFile {
    fn default() -> SectorFile {
        SectorFile {
            size_bytes: 0,
            blocks: Vec::new(),
            sectors: vec![ZERO_SECTOR],
            free: Vec::new(),
            before: Vec::new(),
            unreadable: BTreeSet::new(),
        }
    }
}

impl SectorFile {
    /// Zeros, durable.
    pub fn zeros(size_bytes: u64) -> SectorFile {
        SectorFile { size_bytes, ..SectorFile::default() }
    }

    /// Zeros, durable, in the memory of a file that is gone.
    pub fn renewed(mut self, size_bytes: u64) -> SectorFile {
        self.size_bytes = size_bytes;
        self.blocks.clear();
        self.sectors.truncate(1);
        self.free.clear();
        self.before.clear();
        self.unreadable.clear();
        assert!(self.sectors == [ZERO_SECTOR], "nobody writes to the zeros");
        self
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
        let place = self.block_of(number);
        if self.blocks[place].before == 0 {
            let none = [false; SECTORS_PER_BLOCK];
            self.before.push(Before { number, slots: [ZEROS; SECTORS_PER_BLOCK], written: none });
            self.blocks[place].before = self.before.len() as u32;
        }
        let kept = self.blocks[place].before as usize - 1;
        for (slot, bytes) in piece.chunks_exact(SECTOR_SIZE_BYTES).enumerate() {
            let sector = start / SECTOR_SIZE_BYTES + slot;
            let old = self.blocks[place].slots[sector];
            let before = &mut self.before[kept];
            if std::mem::replace(&mut before.written[sector], true) {
                self.release(old);
            } else {
                before.slots[sector] = old;
            }
            self.blocks[place].slots[sector] = self.keep(bytes);
        }
    }

    /// Where a block is, which is in the table from now on.
    fn block_of(&mut self, number: u64) -> usize {
        let place = number as usize;
        if self.blocks.len() <= place {
            let zeros = Block { slots: [ZEROS; SECTORS_PER_BLOCK], before: 0 };
            self.blocks.resize(place + 1, zeros);
        }
        place
    }

    /// A slot with these bytes.
    fn keep(&mut self, bytes: &[u8]) -> u32 {
        if *bytes == ZERO_SECTOR {
            return ZEROS;
        }
        if let Some(slot) = self.free.pop() {
            assert!(slot != ZEROS, "the zeros are everybody's");
            self.sectors[slot as usize].copy_from_slice(bytes);
            return slot;
        }
        let sectors = bytes.as_chunks().0;
        assert!(sectors.len() == 1, "a slot is of one sector");
        self.sectors.extend_from_slice(sectors);
        self.sectors.len() as u32 - 1
    }

    fn release(&mut self, slot: u32) {
        if slot != ZEROS {
            self.free.push(slot);
        }
    }

    /// Everything written is durable.
    pub fn sync(&mut self) {
        while let Some(before) = self.before.pop() {
            self.blocks[before.number as usize].before = 0;
            before.slots.iter().for_each(|slot| self.release(*slot));
        }
    }

    /// How many sectors a power cut would put in question.
    pub fn unsynced(&self) -> usize {
        let written = self.before.iter().flat_map(|before| before.written);
        written.filter(|is_written| *is_written).count()
    }

    /// The power goes. What it leaves is durable.
    pub fn lose_power(&mut self, survival: Survival, random: &mut Random) {
        let edge = random.slot(self.unsynced().max(1));
        let mut slot = 0;
        self.before.sort_by_key(|before| before.number);
        for before in std::mem::take(&mut self.before) {
            let place = before.number as usize;
            self.blocks[place].before = 0;
            for sector in (0..SECTORS_PER_BLOCK).filter(|sector| before.written[*sector]) {
                let survives = match survival {
                    Survival::Nothing => false,
                    Survival::Everything => true,
                    Survival::Each { permille } => random.chance(permille),
                    Survival::Prefix => slot < edge,
                    Survival::Suffix => edge <= slot,
                };
                slot += 1;
                let old = before.slots[sector];
                if survives {
                    self.release(old);
                } else {
                    let new = std::mem::replace(&mut self.blocks[place].slots[sector], old);
                    self.release(new);
                }
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
        let mut at = offset_bytes;
        let mut rest = bytes;
        while !rest.is_empty() {
            let within = at as usize % SECTOR_SIZE_BYTES;
            let size = rest.len().min(SECTOR_SIZE_BYTES - within);
            let (piece, behind) = rest.split_at_mut(size);
            piece.copy_from_slice(&self.sector(at)[within..within + size]);
            at += size as u64;
            rest = behind;
        }
        Ok(())
    }

    /// The sector that a byte is in.
    fn sector(&self, offset_bytes: u64) -> &Sector {
        let number = offset_bytes as usize / SECTOR_SIZE_BYTES;
        let block = self.blocks.get(number / SECTORS_PER_BLOCK);
        let slot = block.map_or(ZEROS, |block| block.slots[number % SECTORS_PER_BLOCK]);
        &self.sectors[slot as usize]
    }

    /// Whether a block is that, with zeros for unreadable sectors.
    pub fn is_block(&self, number: u64, bytes: &[u8; BLOCK_SIZE_BYTES]) -> bool {
        bytes.as_chunks().0.iter().zip(self.sectors_of(number)).all(|(one, other)| one == other)
    }

    /// Puts a block into `bytes`, with zeros for unreadable sectors.
    pub fn copy_block(&self, number: u64, bytes: &mut [u8; BLOCK_SIZE_BYTES]) {
        for (to, from) in bytes.as_chunks_mut().0.iter_mut().zip(self.sectors_of(number)) {
            *to = *from;
        }
    }

    /// The sectors of a block, zeros for those that are unreadable.
    fn sectors_of(&self, number: u64) -> impl Iterator<Item = &Sector> {
        let block = self.blocks.get(number as usize);
        let slots = block.map_or([ZEROS; SECTORS_PER_BLOCK], |block| block.slots);
        let is_lost =
            |sector: u64| !self.unreadable.is_empty() && self.unreadable.contains(&sector);
        let numbers = number * SECTORS_PER_BLOCK as u64..;
        numbers.zip(slots).map(move |(sector, slot)| {
            let slot = if is_lost(sector) { ZEROS } else { slot };
            &self.sectors[slot as usize]
        })
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
        let place = self.block_of(offset_bytes / BLOCK_SIZE_BYTES as u64);
        let mut bytes = *self.sector(offset_bytes);
        bytes[offset_bytes as usize % SECTOR_SIZE_BYTES] ^= 1 << (bit % 8);
        let sector = offset_bytes as usize / SECTOR_SIZE_BYTES % SECTORS_PER_BLOCK;
        let new = self.keep(&bytes);
        let old = std::mem::replace(&mut self.blocks[place].slots[sector], new);
        self.release(old);
    }

    /// What was written there last and not synced never reached the disk, whatever it says.
    pub fn lose_write(&mut self, offset_bytes: u64, size_bytes: usize) {
        let first = offset_bytes as usize / SECTOR_SIZE_BYTES;
        for number in first..first + size_bytes / SECTOR_SIZE_BYTES {
            let (place, sector) = (number / SECTORS_PER_BLOCK, number % SECTORS_PER_BLOCK);
            let Some(block) = self.blocks.get_mut(place).filter(|block| block.before != 0) else {
                continue;
            };
            let before = &mut self.before[block.before as usize - 1];
            if std::mem::take(&mut before.written[sector]) {
                let old = std::mem::replace(&mut before.slots[sector], ZEROS);
                let new = std::mem::replace(&mut block.slots[sector], old);
                self.release(new);
            }
        }
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
                for number in 0..2 {
                    let mut block = [9; BLOCK_SIZE_BYTES];
                    file.copy_block(number, &mut block);
                    for sector in block.chunks(SECTOR_SIZE_BYTES) {
                        assert!(sector.iter().all(|byte| *byte == sector[0]), "torn in a sector");
                    }
                }
            }
        }
    }

    #[test]
    fn sectors_of_an_old_version_are_used_again() {
        let mut file = SectorFile::zeros(1 << 20);
        for round in 1..=100 {
            file.write(8192, &[round; 4096]);
            file.write(8192 + 512, &[round + 100; 512]);
            file.sync();
        }
        assert_eq!((at(&file, 8192), at(&file, 8192 + 512), at(&file, 12_288)), (100, 200, 0));
        // Eight that are there, eight that a power cut might have brought back, and the zeros.
        assert_eq!(file.sectors.len(), 17);
        file.write(8192, &[0; 4096]);
        file.sync();
        assert_eq!(file.free.len(), 16);
        assert_eq!(at(&file, 8192), 0);
        file.write(0, &[1; 1024]);
        file.break_sector(9);
        let mut file = file.renewed(8192);
        assert!((0..2).all(|number| file.is_block(number, &[0; BLOCK_SIZE_BYTES])));
        assert_eq!((at(&file, 9 * 512), file.unsynced()), (0, 0));
        file.write(512, &[2; 512]);
        assert_eq!((at(&file, 511), at(&file, 512), at(&file, 1024)), (0, 2, 0));
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
