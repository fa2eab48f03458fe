//! A walk over a message's body: each step takes what it names or says that it is not there.

use super::error::Malformed;
use super::limits::TEXT_SIZE_BYTES_MAX;
use zerocopy::little_endian::U32;
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

/// What is left of a body.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(body: &'a [u8]) -> Reader<'a> {
        Reader { rest: body }
    }

    /// The next fixed structure.
    pub(super) fn fixed<T>(&mut self) -> Result<&'a T, Malformed>
    where
        T: FromBytes + KnownLayout + Immutable + Unaligned,
    {
        let (value, rest) =
            T::ref_from_prefix(self.rest).map_err(|_too_short| Malformed::Truncated)?;
        self.rest = rest;
        Ok(value)
    }

    /// The next `size_bytes` bytes.
    pub(super) fn bytes(&mut self, size_bytes: u64) -> Result<&'a [u8], Malformed> {
        let size = usize::try_from(size_bytes).map_err(|_too_large| Malformed::Truncated)?;
        let taken = self.rest.get(..size).ok_or(Malformed::Truncated)?;
        self.rest = &self.rest[size..];
        Ok(taken)
    }

    /// The next text: its size as u32, then UTF-8.
    pub(super) fn text(&mut self) -> Result<&'a str, Malformed> {
        let size = self.fixed::<U32>()?.get();
        if (TEXT_SIZE_BYTES_MAX as u64) < u64::from(size) {
            return Err(Malformed::Field("text size"));
        }
        std::str::from_utf8(self.bytes(u64::from(size))?).map_err(|_| Malformed::Text)
    }

    /// A list's count, if that many items of at least `item_size_bytes_min` bytes can still follow:
    /// memory is reserved only for what was really sent.
    pub(super) fn check_count(
        &self,
        count: u32,
        item_size_bytes_min: usize,
    ) -> Result<usize, Malformed> {
        assert!(0 < item_size_bytes_min);
        let count = count as usize;
        if self.rest.len() / item_size_bytes_min < count {
            return Err(Malformed::Truncated);
        }
        Ok(count)
    }

    /// Whether nothing is left.
    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// All that is left.
    pub(super) fn rest(self) -> &'a [u8] {
        self.rest
    }

    /// Ends the walk: nothing may be left.
    pub(super) fn finish(self) -> Result<(), Malformed> {
        if self.rest.is_empty() { Ok(()) } else { Err(Malformed::Trailing) }
    }
}

/// Appends a text that [`Reader::text`] takes back, cut to its bound at a character's edge.
pub(super) fn push_text(output: &mut Vec<u8>, text: &str) {
    let mut size = text.len().min(TEXT_SIZE_BYTES_MAX);
    while !text.is_char_boundary(size) {
        size -= 1;
    }
    let size_field = u32::try_from(size).expect("cut to a few KiB above");
    output.extend_from_slice(&size_field.to_le_bytes());
    output.extend_from_slice(&text.as_bytes()[..size]);
}

/// The size field of a key, value or range end. What does not fit the field fits no frame either:
/// it is cut here only to be refused when the frame's size is checked.
pub(super) fn size_field(bytes: &[u8]) -> U32 {
    U32::new(u32::try_from(bytes.len()).unwrap_or(u32::MAX))
}

/// A flag byte of which only the bits of `known` may be set.
pub(super) fn check_flags(flags: u8, known: u8) -> Result<u8, Malformed> {
    if flags & !known == 0 { Ok(flags) } else { Err(Malformed::Flags) }
}

/// Reserved bytes, which must be zero.
pub(super) fn check_reserved(reserved: &[u8]) -> Result<(), Malformed> {
    if reserved.iter().all(|byte| *byte == 0) { Ok(()) } else { Err(Malformed::Reserved) }
}

/// `bit` if `condition` holds.
pub(super) fn flag(condition: bool, bit: u8) -> u8 {
    if condition { bit } else { 0 }
}
