//! Deleting the keys of a range, a leaf of the keys tree at a time.
//!
//! A deletion of a million keys is one entry of the log, behind which all other writes wait, so it
//! has to be fast: the versions of a leaf become tombstones by one edit, not each by its own.
//! Invariant: what one call does depends on the trees and the range alone, never on a budget, so
//! that replicas which cut the entry into other slices have the same pages.
//! Source: `docs/format/versions.md`; storage.md, Long entries 2.

use super::trees::{ChangeSink, Scratch, Trees};
use super::version::{KeyRef, Position, Record, Version};
use crate::page::map::{Corruption, PageMap};
use crate::page::node::{LeafCell, Node};
use crate::tree::{Mark, Place};

/// What was deleted of a leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LeafDeletion {
    /// Keys that were live: so many positions were used.
    pub(crate) deleted: u32,
    /// Entries of the leaf that were looked at.
    pub(crate) entries: u32,
}

impl<M: PageMap> Trees<M> {
    /// Deletes the live keys from `key`, which is there, up to `end` or the end of `key`'s leaf,
    /// at positions from `from` on. `last_key` becomes the last key looked at.
    pub(crate) fn delete_leaf(
        &mut self,
        from: Position,
        key: &[u8],
        end: Option<&[u8]>,
        sink: &mut dyn ChangeSink,
        last_key: &mut Vec<u8>,
    ) -> Result<LeafDeletion, Corruption> {
        assert!(self.compact_revision < from.main && end.is_none_or(|end| key < end));
        let mut scratch = std::mem::take(&mut self.scratch);
        let mut place = Place::default();
        let leaf = self.keys.locate_leaf(&self.store, key, &mut place)?;
        scratch.leaf.clear();
        scratch.leaf.extend_from_slice(leaf);
        let deleted = self.delete_leaf_with(&mut place, from, end, sink, last_key, &mut scratch);
        self.scratch = scratch;
        deleted
    }

    fn delete_leaf_with(
        &mut self,
        place: &mut Place,
        from: Position,
        end: Option<&[u8]>,
        sink: &mut dyn ChangeSink,
        last_key: &mut Vec<u8>,
        scratch: &mut Scratch,
    ) -> Result<LeafDeletion, Corruption> {
        let Scratch { version, record, leaf, cells, .. } = scratch;
        let leaf = Node::new(leaf);
        let mut deleted = 0;
        cells.clear();
        for slot in place.slot()..leaf.count() {
            let cell = leaf.leaf_cell(slot);
            let key = self.keys.whole_key(&self.store, cell.key)?;
            if end.is_some_and(|end| end <= key) {
                break;
            }
            last_key.clear();
            last_key.extend_from_slice(key);
            let replaced = Version::decode(cell.value);
            if replaced.is_tombstone() {
                cells.push_leaf(&cell);
                continue;
            }
            let sub = from.sub.checked_add(deleted).expect("fewer than 2^32 changes");
            let at = Position { sub, ..from };
            self.tell(at, key, None, Some(&replaced), sink)?;
            self.bury(at, last_key, &cell, &replaced, [version, record])?;
            cells.push_leaf(&LeafCell { value: version, mark: TOMBSTONE_MARK, ..cell });
            deleted += 1;
        }
        assert!(0 < deleted, "the first key is live");
        let entries = cells.len() as u32;
        self.keys.replace_run(&mut self.store, place, cells, -i64::from(deleted))?;
        Ok(LeafDeletion { deleted, entries })
    }

    /// Encodes a key's tombstone and writes its event; the keys entry itself is the caller's.
    fn bury(
        &mut self,
        at: Position,
        key: &[u8],
        cell: &LeafCell<'_>,
        replaced: &Version<'_>,
        [version_bytes, record_bytes]: [&mut Vec<u8>; 2],
    ) -> Result<(), Corruption> {
        assert!(replaced.at < at);
        let chain = self.chain_after(Some(replaced))?;
        Version { at, chain, content: None }.encode(version_bytes);
        let record = Record {
            key: cell.key.run.map_or(KeyRef::Inline(key), KeyRef::Run),
            depth: chain.depth,
            jump: chain.jump,
            content: None,
            undo: None,
        };
        record.encode(cell.value, record_bytes);
        let mark = Mark { weighs: false, visit: Record::needs_visit(true, Some(replaced)) };
        self.history.append(&mut self.store, &at.to_key(), record_bytes, mark)?;
        let lease = replaced.content.map_or(0, |content| content.lease);
        self.move_attachment(key, lease, 0)
    }
}

/// A tombstone weighs nothing.
const TOMBSTONE_MARK: Mark = Mark { weighs: false, visit: false };
