//! Bytes for direct I/O: aligned to a block in memory, a whole number of blocks long when sealed.
//!
//! Invariants: what lies between the length and the capacity is never handed out; the memory is
//! kept when the buffer is cleared, so a running log allocates nothing.

use super::limits::BLOCK_SIZE_BYTES;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// One block; its alignment is what makes a `Vec` of them fit for O_DIRECT.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(4096))]
struct Block([u8; BLOCK_SIZE_BYTES]);

const _: () = assert!(size_of::<Block>() == BLOCK_SIZE_BYTES);
const _: () = assert!(align_of::<Block>() == BLOCK_SIZE_BYTES);

/// Growable bytes whose first one lies at a multiple of the block size.
#[derive(Clone, Default)]
pub struct WalBuffer {
    blocks: Vec<Block>,
    size_bytes: usize,
}

impl WalBuffer {
    /// An empty one; allocates nothing.
    pub fn new() -> WalBuffer {
        WalBuffer::default()
    }

    /// `size_bytes` zeros.
    pub fn zeroed(size_bytes: usize) -> WalBuffer {
        let mut buffer = WalBuffer::new();
        buffer.resize(size_bytes);
        buffer
    }

    /// How many bytes it holds.
    pub fn size_bytes(&self) -> usize {
        self.size_bytes
    }

    /// How many bytes it can hold without allocating.
    pub fn capacity_bytes(&self) -> usize {
        self.blocks.capacity() * BLOCK_SIZE_BYTES
    }

    /// Forgets the content, keeps the memory.
    pub fn clear(&mut self) {
        self.size_bytes = 0;
    }

    /// Makes it `size_bytes` long; what is new is zero.
    pub fn resize(&mut self, size_bytes: usize) {
        let old = self.size_bytes;
        self.reserve(size_bytes);
        self.size_bytes = size_bytes;
        if old < size_bytes {
            self.blocks.as_mut_bytes()[old..size_bytes].fill(0);
        }
    }

    /// Adds bytes at the end.
    pub fn extend_from_slice(&mut self, bytes: &[u8]) {
        let start = self.size_bytes;
        let end = start + bytes.len();
        self.reserve(end);
        self.size_bytes = end;
        self.blocks.as_mut_bytes()[start..end].copy_from_slice(bytes);
    }

    /// What it holds.
    pub fn as_bytes(&self) -> &[u8] {
        &self.blocks.as_bytes()[..self.size_bytes]
    }

    /// What it holds, to be changed.
    pub fn as_mut_bytes(&mut self) -> &mut [u8] {
        &mut self.blocks.as_mut_bytes()[..self.size_bytes]
    }

    fn reserve(&mut self, size_bytes: usize) {
        let count = size_bytes.div_ceil(BLOCK_SIZE_BYTES);
        if self.blocks.len() < count {
            self.blocks.resize(count, Block([0; BLOCK_SIZE_BYTES]));
        }
        assert!(size_bytes <= self.blocks.len() * BLOCK_SIZE_BYTES);
    }
}

impl std::fmt::Debug for WalBuffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "WalBuffer({} bytes)", self.size_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_aligned_and_reused_without_old_bytes() {
        let mut buffer = WalBuffer::new();
        buffer.extend_from_slice(&[7; 5000]);
        let address = buffer.as_bytes().as_ptr();
        assert_eq!(address.align_offset(BLOCK_SIZE_BYTES), 0);
        buffer.clear();
        buffer.resize(8192);
        assert_eq!(buffer.as_bytes().as_ptr(), address);
        assert!(buffer.as_bytes().iter().all(|byte| *byte == 0));
    }
}
