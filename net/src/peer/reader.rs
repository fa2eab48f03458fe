//! A walk over the body of a received frame: each step takes what it names, or says that it is not
//! there.
//!
//! Invariant: bytes that outlive the frame are slices of one shared copy of it, made when the first
//! such piece is met and never for frames without any.

use super::error::PeerError;
use bytes::Bytes;
use raft::{INDEX_MAX, Index, TERM_MAX, Term};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

/// See the file's head.
pub(super) struct Reader<'a> {
    /// All of the frame's body: what `shared` is a copy of.
    body: &'a [u8],
    offset: usize,
    end: usize,
    shared: &'a mut Option<Bytes>,
}

impl<'a> Reader<'a> {
    /// A walk over all of `body`, of which `shared` is or will be the copy.
    pub(super) fn new(body: &'a [u8], shared: &'a mut Option<Bytes>) -> Reader<'a> {
        assert!(shared.as_ref().is_none_or(|shared| shared.len() == body.len()));
        Reader { body, offset: 0, end: body.len(), shared }
    }

    /// A walk over the next `size_bytes` bytes only; this one goes on behind them.
    pub(super) fn part(&mut self, size_bytes: usize) -> Result<Reader<'_>, PeerError> {
        let start = self.offset;
        self.bytes(size_bytes)?;
        Ok(Reader { body: self.body, offset: start, end: self.offset, shared: self.shared })
    }

    /// The next fixed structure.
    pub(super) fn fixed<T>(&mut self) -> Result<&'a T, PeerError>
    where
        T: FromBytes + KnownLayout + Immutable + Unaligned,
    {
        let bytes = self.bytes(size_of::<T>())?;
        T::ref_from_bytes(bytes).map_err(|_wrong_size| PeerError::Truncated)
    }

    /// The next `size_bytes` bytes.
    pub(super) fn bytes(&mut self, size_bytes: usize) -> Result<&'a [u8], PeerError> {
        assert!(self.offset <= self.end);
        if self.end - self.offset < size_bytes {
            return Err(PeerError::Truncated);
        }
        let taken = &self.body[self.offset..self.offset + size_bytes];
        self.offset += size_bytes;
        Ok(taken)
    }

    /// The next `size_bytes` bytes, to be kept.
    pub(super) fn kept(&mut self, size_bytes: usize) -> Result<Bytes, PeerError> {
        let start = self.offset;
        self.bytes(size_bytes)?;
        if size_bytes == 0 {
            return Ok(Bytes::new());
        }
        let body = self.body;
        let shared = self.shared.get_or_insert_with(|| Bytes::copy_from_slice(body));
        Ok(shared.slice(start..self.offset))
    }

    /// A list's count, if that many items of at least `item_size_bytes_min` bytes can still follow:
    /// memory is reserved only for what was really sent.
    pub(super) fn check_count(
        &self,
        count: u32,
        item_size_bytes_min: usize,
    ) -> Result<usize, PeerError> {
        assert!(0 < item_size_bytes_min);
        let count = count as usize;
        if (self.end - self.offset) / item_size_bytes_min < count {
            return Err(PeerError::Truncated);
        }
        Ok(count)
    }

    /// Ends the walk: nothing may be left.
    pub(super) fn finish(self) -> Result<(), PeerError> {
        if self.offset == self.end { Ok(()) } else { Err(PeerError::Trailing) }
    }
}

/// Reserved bytes, which must be zero.
pub(super) fn check_reserved(reserved: &[u8]) -> Result<(), PeerError> {
    if reserved.iter().all(|byte| *byte == 0) { Ok(()) } else { Err(PeerError::Reserved) }
}

/// A position in the log that Raft can reckon with.
pub(super) fn check_index(number: u64) -> Result<Index, PeerError> {
    let index = Index(number);
    if index <= INDEX_MAX { Ok(index) } else { Err(PeerError::Field("index")) }
}

/// A term that Raft can reckon with.
pub(super) fn check_term(number: u64) -> Result<Term, PeerError> {
    let term = Term(number);
    if term <= TERM_MAX { Ok(term) } else { Err(PeerError::Field("term")) }
}
