//! Where the entries of a core's calls are laid out: many share one allocation.
//!
//! Entries of a step go the same way, into the log's tail or to the leader, and are let go one soon
//! after the other; so the memory of a chunk is rarely held for a single one of them.
//! Invariants: an entry's bytes are never moved or shared with another's; what is held for an entry
//! is at most a chunk, and no more than itself where it is not much smaller.

use bytes::{Bytes, BytesMut};

/// The rest of the chunk that is being filled.
#[derive(Debug, Default)]
pub(crate) struct Entries {
    chunk: BytesMut,
    /// Where the next entry is encoded, kept so that it is not allocated for each.
    scratch: Vec<u8>,
}

impl Entries {
    /// An empty buffer to encode an entry of at most `size_bytes` into, which [`Entries::lay_out`]
    /// takes back.
    pub fn take_scratch(&mut self, size_bytes: usize) -> Vec<u8> {
        let mut scratch = std::mem::take(&mut self.scratch);
        assert!(scratch.is_empty());
        scratch.reserve_exact(size_bytes);
        scratch
    }

    /// The entry's bytes, with an owner of their own.
    pub fn lay_out(&mut self, mut entry: Vec<u8>) -> BytesMut {
        if SHARED_SIZE_BYTES_MAX < entry.len() {
            return Bytes::from(entry).into();
        }
        if self.chunk.capacity() < entry.len() {
            self.chunk = BytesMut::with_capacity(CHUNK_SIZE_BYTES);
        }
        let room = self.chunk.capacity();
        self.chunk.extend_from_slice(&entry);
        let laid_out = self.chunk.split();
        assert!(laid_out.len() == entry.len() && self.chunk.capacity() < room);
        entry.clear();
        self.scratch = entry;
        laid_out
    }
}

/// Memory that entries share.
const CHUNK_SIZE_BYTES: usize = 16 << 10;
/// Longer entries have their own.
const SHARED_SIZE_BYTES_MAX: usize = CHUNK_SIZE_BYTES / 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_keep_their_bytes_while_others_come_and_go() {
        let mut entries = Entries::default();
        let mut held: Vec<(Vec<u8>, BytesMut)> = Vec::new();
        for number in 0..3_000_usize {
            let size =
                [40, 300, 26, 1, SHARED_SIZE_BYTES_MAX, SHARED_SIZE_BYTES_MAX + 1][number % 6];
            let want = vec![number as u8; size];
            let mut bytes = entries.take_scratch(size);
            bytes.extend_from_slice(&want);
            let mut laid_out = entries.lay_out(bytes);
            if let Some(first) = laid_out.first_mut() {
                *first ^= 0xff;
            }
            held.push((want, laid_out));
            if 100 < held.len() {
                held.swap_remove(number * 31 % 100);
            }
        }
        for (mut want, laid_out) in held {
            if let Some(first) = want.first_mut() {
                *first ^= 0xff;
            }
            assert_eq!(laid_out, want);
        }
    }

    #[test]
    fn entries_lie_one_after_the_other_in_a_chunk() {
        let mut entries = Entries::default();
        let laid_out: Vec<BytesMut> = (0..40).map(|_| entries.lay_out(vec![7; 300])).collect();
        for pair in laid_out.windows(2) {
            assert_eq!(pair[0].as_ptr_range().end, pair[1].as_ptr());
        }
        let long = entries.lay_out(vec![7; SHARED_SIZE_BYTES_MAX + 1]);
        assert!(!laid_out.iter().any(|entry| entry.as_ptr_range().end == long.as_ptr()));
    }
}
