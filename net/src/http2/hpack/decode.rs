//! The HPACK decoder.
//!
//! Every entry of the static and dynamic tables carries a *tag*, the meaning that the caller once
//! gave the field: an indexed field then costs one look-up and no comparison of strings. Coded
//! `:path` literals that were given a memorable tag are remembered as they came, since clients of
//! the h2 crate send theirs unindexed and Huffman-coded with every call.
//!
//! Invariants: `size_bytes` is the RFC 7541 section 4.1 size of `entries` and never above
//! `size_bytes_max`, which is never above `size_bytes_limit`; `arena` holds the bytes of the
//! entries, oldest first. No allocation at steady state.
//! Source: RFC 7541 sections 2 to 6.

use std::collections::VecDeque;

use super::huffman;
use super::tables::{INDEX_PATH, INDEX_PATH_INDEX_HTML, STATIC_ENTRIES, STATIC_FIELDS};
use crate::http2::limits::{HEADER_LIST_SIZE_BYTES_STOP, PATH_MEMOS_MAX};

/// What the caller remembers about a field; 0 is "not looked at yet".
pub type Tag = u32;

/// Why a header block, and with it the connection, cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// Not HPACK.
    Malformed,
    /// The decoded list passed [`HEADER_LIST_SIZE_BYTES_STOP`].
    TooLarge,
}

/// The decoder's table and memories.
pub struct Decoder {
    entries: VecDeque<Entry>,
    arena: Vec<u8>,
    /// Offset of the arena's first byte in the stream of all bytes ever put into it.
    arena_begin: u64,
    size_bytes: usize,
    size_bytes_max: usize,
    size_bytes_limit: usize,
    scratch: Vec<u8>,
    static_tags: [Tag; STATIC_ENTRIES],
    path_memos: Vec<PathMemo>,
    memorable_tag_min: Tag,
}

struct Entry {
    offset: u64,
    name_size_bytes: u32,
    value_size_bytes: u32,
    tag: Tag,
}

impl Entry {
    fn size_bytes(&self) -> usize {
        (self.name_size_bytes + self.value_size_bytes) as usize + FIELD_OVERHEAD_BYTES
    }
}

/// A `:path` literal as coded, its length included, so that a prefix match is an exact match.
struct PathMemo {
    coded: Vec<u8>,
    path: Vec<u8>,
    tag: Tag,
}

/// What each field costs beside its strings (RFC 7541 section 4.1).
pub const FIELD_OVERHEAD_BYTES: usize = 32;
/// Longest coded path that is remembered.
const PATH_MEMO_SIZE_BYTES_MAX: usize = 128;
/// Bytes that may follow an integer's prefix; values stay below 2^28.
const INTEGER_CONTINUATIONS_MAX: u32 = 4;

impl Decoder {
    /// A decoder with a dynamic table of at most `size_bytes_limit`; paths tagged
    /// `memorable_tag_min` or above are remembered in coded form.
    pub fn new(size_bytes_limit: usize, memorable_tag_min: Tag) -> Decoder {
        assert!(0 < memorable_tag_min);
        Decoder {
            entries: VecDeque::new(),
            arena: Vec::new(),
            arena_begin: 0,
            size_bytes: 0,
            size_bytes_max: size_bytes_limit,
            size_bytes_limit,
            scratch: Vec::new(),
            static_tags: [0; STATIC_ENTRIES],
            path_memos: Vec::new(),
            memorable_tag_min,
        }
    }

    /// Calls `on_field(name, value, tag)` for each field of a whole block; what that leaves in
    /// `tag` comes back whenever the peer sends the same entry. Returns the size of the list.
    pub fn decode(
        &mut self,
        block: &[u8],
        mut on_field: impl FnMut(&[u8], &[u8], &mut Tag),
    ) -> Result<usize, DecodeError> {
        let mut reader = Reader { bytes: block, position: 0 };
        let mut list_size_bytes = 0;
        let mut fields_seen = false;
        while let Some(&first) = block.get(reader.position) {
            if first & 0xe0 == 0x20 {
                let size_bytes_max = reader.integer(5)?;
                if fields_seen || self.size_bytes_limit < size_bytes_max {
                    return Err(DecodeError::Malformed);
                }
                self.size_bytes_max = size_bytes_max;
                self.evict_down_to(size_bytes_max);
                continue;
            }
            fields_seen = true;
            list_size_bytes += FIELD_OVERHEAD_BYTES;
            list_size_bytes += if first & 0x80 != 0 {
                self.on_indexed(reader.integer(7)?, &mut on_field)?
            } else if first & 0x40 != 0 {
                self.on_literal_indexed(&mut reader, &mut on_field)?
            } else {
                self.on_literal(&mut reader, &mut on_field)?
            };
            if HEADER_LIST_SIZE_BYTES_STOP < list_size_bytes {
                return Err(DecodeError::TooLarge);
            }
        }
        assert!(self.size_bytes <= self.size_bytes_max);
        Ok(list_size_bytes)
    }

    fn on_indexed(
        &mut self,
        index: usize,
        on_field: &mut impl FnMut(&[u8], &[u8], &mut Tag),
    ) -> Result<usize, DecodeError> {
        if 0 < index && index <= STATIC_ENTRIES {
            let (name, value) = STATIC_FIELDS[index - 1];
            on_field(name, value, &mut self.static_tags[index - 1]);
            return Ok(name.len() + value.len());
        }
        let slot = index.checked_sub(STATIC_ENTRIES + 1).ok_or(DecodeError::Malformed)?;
        let entry = self.entries.get_mut(slot).ok_or(DecodeError::Malformed)?;
        let begin = (entry.offset - self.arena_begin) as usize;
        let field = &self.arena[begin..begin + entry.size_bytes() - FIELD_OVERHEAD_BYTES];
        let (name, value) = field.split_at(entry.name_size_bytes as usize);
        on_field(name, value, &mut entry.tag);
        Ok(field.len())
    }

    fn on_literal_indexed(
        &mut self,
        reader: &mut Reader<'_>,
        on_field: &mut impl FnMut(&[u8], &[u8], &mut Tag),
    ) -> Result<usize, DecodeError> {
        let name_index = reader.integer(6)?;
        let name_size_bytes = self.literal_to_scratch(reader, name_index)?;
        let (name, value) = self.scratch.split_at(name_size_bytes);
        let mut tag = 0;
        on_field(name, value, &mut tag);
        self.insert(name_size_bytes, tag);
        Ok(self.scratch.len())
    }

    fn on_literal(
        &mut self,
        reader: &mut Reader<'_>,
        on_field: &mut impl FnMut(&[u8], &[u8], &mut Tag),
    ) -> Result<usize, DecodeError> {
        let name_index = reader.integer(4)?;
        let begin = reader.position;
        let is_path = INDEX_PATH <= name_index && name_index <= INDEX_PATH_INDEX_HTML;
        if is_path {
            let rest = &reader.bytes[begin..];
            let memo = self.path_memos.iter().find(|memo| rest.starts_with(&memo.coded));
            if let Some(memo) = memo {
                reader.position += memo.coded.len();
                let mut tag = memo.tag;
                on_field(STATIC_FIELDS[INDEX_PATH - 1].0, &memo.path, &mut tag);
                return Ok(STATIC_FIELDS[INDEX_PATH - 1].0.len() + memo.path.len());
            }
        }
        let name_size_bytes = self.literal_to_scratch(reader, name_index)?;
        let (name, value) = self.scratch.split_at(name_size_bytes);
        let mut tag = 0;
        on_field(name, value, &mut tag);
        if is_path && self.memorable_tag_min <= tag {
            self.remember_path(&reader.bytes[begin..reader.position], name_size_bytes, tag);
        }
        Ok(self.scratch.len())
    }

    fn remember_path(&mut self, coded: &[u8], name_size_bytes: usize, tag: Tag) {
        if self.path_memos.len() < PATH_MEMOS_MAX && coded.len() <= PATH_MEMO_SIZE_BYTES_MAX {
            let path = self.scratch[name_size_bytes..].to_vec();
            self.path_memos.push(PathMemo { coded: coded.to_vec(), path, tag });
        }
    }

    /// Name and value of a literal into `scratch`; returns the size of the name.
    fn literal_to_scratch(
        &mut self,
        reader: &mut Reader<'_>,
        name_index: usize,
    ) -> Result<usize, DecodeError> {
        self.scratch.clear();
        if name_index == 0 {
            reader.string(&mut self.scratch)?;
        } else if name_index <= STATIC_ENTRIES {
            self.scratch.extend_from_slice(STATIC_FIELDS[name_index - 1].0);
        } else {
            let slot = name_index - STATIC_ENTRIES - 1;
            let entry = self.entries.get(slot).ok_or(DecodeError::Malformed)?;
            let begin = (entry.offset - self.arena_begin) as usize;
            let name = &self.arena[begin..begin + entry.name_size_bytes as usize];
            self.scratch.extend_from_slice(name);
        }
        let name_size_bytes = self.scratch.len();
        reader.string(&mut self.scratch)?;
        Ok(name_size_bytes)
    }

    /// Puts the field in `scratch` into the table, which it may empty without entering it
    /// (RFC 7541 section 4.4).
    fn insert(&mut self, name_size_bytes: usize, tag: Tag) {
        let field_size_bytes = self.scratch.len() + FIELD_OVERHEAD_BYTES;
        self.evict_down_to(self.size_bytes_max.saturating_sub(field_size_bytes));
        if self.size_bytes_max < field_size_bytes {
            return;
        }
        self.entries.push_front(Entry {
            offset: self.arena_begin + self.arena.len() as u64,
            name_size_bytes: name_size_bytes as u32,
            value_size_bytes: (self.scratch.len() - name_size_bytes) as u32,
            tag,
        });
        self.arena.extend_from_slice(&self.scratch);
        self.size_bytes += field_size_bytes;
        assert!(self.size_bytes <= self.size_bytes_max);
    }

    fn evict_down_to(&mut self, size_bytes: usize) {
        while size_bytes < self.size_bytes {
            let entry = self.entries.pop_back().expect("a size above 0 has entries");
            self.size_bytes -= entry.size_bytes();
        }
        let arena_end = self.arena_begin + self.arena.len() as u64;
        let live_begin = self.entries.back().map_or(arena_end, |entry| entry.offset);
        let dead = (live_begin - self.arena_begin) as usize;
        // Rarely, so that a byte is moved less than once on average.
        if 2 * self.size_bytes_limit < dead {
            self.arena.drain(..dead);
            self.arena_begin = live_begin;
        }
    }

    #[cfg(test)]
    fn table(&self) -> Vec<(String, String)> {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let entry = |entry: &Entry| {
            let begin = (entry.offset - self.arena_begin) as usize;
            let middle = begin + entry.name_size_bytes as usize;
            let end = middle + entry.value_size_bytes as usize;
            (text(&self.arena[begin..middle]), text(&self.arena[middle..end]))
        };
        self.entries.iter().map(entry).collect()
    }
}

/// A position in a header block.
struct Reader<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl Reader<'_> {
    fn byte(&mut self) -> Result<u8, DecodeError> {
        let &byte = self.bytes.get(self.position).ok_or(DecodeError::Malformed)?;
        self.position += 1;
        Ok(byte)
    }

    fn integer(&mut self, prefix_bits: u8) -> Result<usize, DecodeError> {
        let prefix_max = (1usize << prefix_bits) - 1;
        let mut value = usize::from(self.byte()?) & prefix_max;
        if value < prefix_max {
            return Ok(value);
        }
        for continuation in 0..INTEGER_CONTINUATIONS_MAX {
            let byte = self.byte()?;
            value += usize::from(byte & 127) << (7 * continuation);
            if byte < 128 {
                return Ok(value);
            }
        }
        Err(DecodeError::Malformed)
    }

    fn string(&mut self, out: &mut Vec<u8>) -> Result<(), DecodeError> {
        let &first = self.bytes.get(self.position).ok_or(DecodeError::Malformed)?;
        let size_bytes = self.integer(7)?;
        let end = self.position + size_bytes;
        let coded = self.bytes.get(self.position..end).ok_or(DecodeError::Malformed)?;
        self.position = end;
        if first & 0x80 == 0 {
            out.extend_from_slice(coded);
            return Ok(());
        }
        huffman::decode(coded, out).map_err(|_| DecodeError::Malformed)
    }
}

#[cfg(test)]
#[path = "decode_test.rs"]
mod tests;
