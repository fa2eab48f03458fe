//! The three trees of a group and one change of one key in them.
//!
//! Invariants: `keys` has an entry for every key that history speaks of; an event's position is its
//! entry's position at that moment; a run belongs to exactly one keys entry or undo record; live
//! entries weigh 1, tombstones 0.
//! Source: the model in `tests/model.rs`.

use super::approach::Trails;
use super::version::{Chain, Content, KeyRef, Link, Position, Record, ValueRef, Version};
use crate::api::KeyValue;
use crate::lease;
use crate::limits::{
    CHAIN_JUMP_DEPTH_MIN, KEY_INLINE_BYTES_MAX, VALUE_INLINE_BYTES_MAX, WORK_UNIT_SIZE_BYTES,
};
use crate::page::cells::CellList;
use crate::page::map::{Corruption, PageMap};
use crate::page::store::Store;
use crate::tree::{Mark, Place, Tree};

/// The trees of a group with the store of their pages, and what bounds the versions in them.
#[derive(Debug)]
pub(crate) struct Trees<M> {
    pub(crate) store: Store<M>,
    /// Key to its newest version.
    pub(crate) keys: Tree,
    /// Position to event.
    pub(crate) history: Tree,
    /// Leases, attachments, alarms, members.
    pub(crate) system: Tree,
    /// Events before this main revision may be gone. Invariant: no read goes below.
    pub(crate) compact_revision: i64,
    /// Longest value kept inline, from the group's first entry.
    pub(crate) value_inline_bytes_max: usize,
    pub(super) scratch: Scratch,
    pub(super) trails: Trails,
}

/// Buffers of a change, reused.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    replaced: Vec<u8>,
    pub(super) version: Vec<u8>,
    pub(super) record: Vec<u8>,
    pub(super) leaf: Vec<u8>,
    pub(super) cells: CellList,
}

/// What a change makes of a key.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Change<'a> {
    /// A put; `None` keeps what was there.
    Put { value: Option<&'a [u8]>, lease: Option<i64> },
    /// A deletion of a live key.
    Delete,
}

/// Where a change tells what it did.
pub(crate) trait ChangeSink {
    /// The key's state before, as the entry so far sees it, if there was one.
    fn wants_previous(&self) -> bool;
    /// As above; called before [`ChangeSink::on_change`], if wanted.
    fn on_previous(&mut self, previous: KeyValue<'_>);
    /// Whether events are wanted.
    fn wants_event(&self) -> bool;
    /// The event, with the state before the entry's revision.
    fn on_event(&mut self, kv: KeyValue<'_>, prev_kv: Option<KeyValue<'_>>, deleted: bool);
}

impl<M: PageMap> Trees<M> {
    pub(crate) fn new(store: Store<M>, trees: [Tree; 3], compact_revision: i64) -> Trees<M> {
        let [keys, history, system] = trees;
        Trees {
            store,
            keys,
            history,
            system,
            compact_revision,
            value_inline_bytes_max: VALUE_INLINE_BYTES_MAX,
            scratch: Scratch::default(),
            trails: Trails::default(),
        }
    }

    // ---- reads ----

    /// The newest version of a key, tombstones too.
    pub(crate) fn newest(&self, key: &[u8]) -> Result<Option<Version<'_>>, Corruption> {
        Ok(self.keys.get(&self.store, key)?.map(Version::decode))
    }

    /// The newest version of a key if it is live.
    pub(crate) fn live(&self, key: &[u8]) -> Result<Option<Version<'_>>, Corruption> {
        Ok(self.newest(key)?.filter(|version| !version.is_tombstone()))
    }

    /// The version that a read at `revision` sees, starting from a newer one; `None` if the key was
    /// not live then. `revision` is at least the compact revision, so every event stepped on is
    /// still there: it is newer.
    pub(crate) fn version_at<'s>(
        &'s self,
        newest: Version<'s>,
        revision: i64,
    ) -> Result<Option<Version<'s>>, Corruption> {
        assert!(self.compact_revision <= revision);
        if newest.at.main <= revision {
            return Ok(Some(newest).filter(|version| !version.is_tombstone()));
        }
        let mut at = newest.at;
        loop {
            let record = self.record(at)?;
            if let Some(link) = record.jump.filter(|link| revision < link.at.main) {
                assert!(link.at < at);
                at = link.at;
                continue;
            }
            match record.undo {
                None => return Ok(None),
                Some(version) if version.at.main <= revision => {
                    return Ok(Some(version).filter(|version| !version.is_tombstone()));
                }
                Some(version) => {
                    assert!(version.at < at);
                    at = version.at;
                }
            }
        }
    }

    /// The event at a position that cannot have been compacted.
    pub(crate) fn record(&self, at: Position) -> Result<Record<'_>, Corruption> {
        assert!(self.compact_revision <= at.main);
        let bytes = self.history.get(&self.store, &at.to_key())?;
        Ok(Record::decode(bytes.expect("an event from the compact revision on is in history")))
    }

    /// The bytes of a value.
    pub(crate) fn value<'s>(&'s self, value: ValueRef<'s>) -> Result<&'s [u8], Corruption> {
        match value {
            ValueRef::Inline(bytes) => Ok(bytes),
            ValueRef::Run(run) => self.store.read_run(&run),
        }
    }

    /// The bytes of an event's key.
    pub(crate) fn event_key<'s>(&'s self, key: KeyRef<'s>) -> Result<&'s [u8], Corruption> {
        match key {
            KeyRef::Inline(bytes) => Ok(bytes),
            KeyRef::Run(run) => self.store.read_run(&run),
        }
    }

    /// A live version as clients see it.
    pub(crate) fn key_value<'s>(
        &'s self,
        key: &'s [u8],
        version: &Version<'s>,
    ) -> Result<KeyValue<'s>, Corruption> {
        let content = version.content.expect("a version that is shown is live");
        Ok(KeyValue {
            key,
            value: self.value(content.value)?,
            create_revision: content.create,
            mod_revision: version.at.main,
            version: content.version,
            lease: content.lease,
        })
    }

    /// The state of a key before a main revision, starting from what an event of it replaced: the
    /// same key may have been changed before in that revision.
    pub(crate) fn before_revision<'s>(
        &'s self,
        replaced: Option<Version<'s>>,
        main: i64,
    ) -> Result<Option<Version<'s>>, Corruption> {
        let mut replaced = replaced;
        while let Some(version) = replaced.filter(|version| version.at.main == main) {
            replaced = self.record(version.at)?.undo;
        }
        Ok(replaced.filter(|version| !version.is_tombstone()))
    }

    /// Reads the pages that a change of `key`, with its lease, may read.
    pub(crate) fn warm_change(&self, key: &[u8], lease: i64) -> Result<(), Corruption> {
        let Trees { store, keys, history, system, .. } = self;
        let newest = keys.warm(store, key)?.map(Version::decode);
        history.warm_right_edge(store)?;
        if lease != 0 {
            lease::warm(store, system, lease, key)?;
        }
        if let Some(newest) = newest {
            self.warm_version(key, &newest)?;
        }
        Ok(())
    }

    /// Reads what replacing `version` of `key` may read beside its leaf; answers the units of work
    /// that it took.
    pub(crate) fn warm_version(
        &self,
        key: &[u8],
        version: &Version<'_>,
    ) -> Result<u32, Corruption> {
        let mut units = 0;
        let far = version.chain.next_jump.filter(|far| self.compact_revision <= far.at.main);
        if let Some(far) = far {
            self.record(far.at)?;
            units += 1;
        }
        let Some(content) = version.content else { return Ok(units) };
        let value = self.value(content.value)?;
        units += (value.len() / WORK_UNIT_SIZE_BYTES) as u32;
        if content.lease != 0 {
            lease::warm(&self.store, &self.system, content.lease, key)?;
            units += 1;
        }
        Ok(units)
    }

    // ---- one change ----

    /// Changes `key` at position `at`, which is newer than all of history. Returns false, having
    /// changed nothing, for a deletion of a key that is not live.
    pub(crate) fn change(
        &mut self,
        at: Position,
        key: &[u8],
        change: Change<'_>,
        sink: &mut dyn ChangeSink,
    ) -> Result<bool, Corruption> {
        assert!(!key.is_empty() && self.compact_revision < at.main);
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.replaced.clear();
        let mut place = Place::default();
        let trail = self.trails.take();
        let replaced =
            trail.and_then(|trail| self.keys.locate_by(&self.store, key, &trail, &mut place));
        let replaced = match replaced {
            None => self.keys.locate(&self.store, key, &mut place)?,
            found => found,
        };
        if let Some(bytes) = replaced {
            scratch.replaced.extend_from_slice(bytes);
        }
        let changed = self.change_at(&mut place, at, key, change, sink, &mut scratch);
        self.scratch = scratch;
        changed
    }

    #[allow(clippy::too_many_arguments)]
    fn change_at(
        &mut self,
        place: &mut Place,
        at: Position,
        key: &[u8],
        change: Change<'_>,
        sink: &mut dyn ChangeSink,
        scratch: &mut Scratch,
    ) -> Result<bool, Corruption> {
        let Scratch {
            replaced: replaced_bytes, version: version_bytes, record: record_bytes, ..
        } = scratch;
        let replaced = (!replaced_bytes.is_empty()).then(|| Version::decode(replaced_bytes));
        assert!(replaced.is_none_or(|version| version.at < at));
        let before = replaced.filter(|version| !version.is_tombstone());
        let kept_value;
        let (content, new_value) = match change {
            Change::Delete if before.is_none() => return Ok(false),
            Change::Delete => (None, None),
            Change::Put { value, lease } => {
                let old = before.and_then(|version| version.content);
                // A value that is kept is copied: a run has one owner.
                kept_value = match (value, old) {
                    (None, Some(old)) => self.value(old.value)?.to_vec(),
                    _ => Vec::new(),
                };
                let new_value = value.unwrap_or(&kept_value);
                let content = Content {
                    create: old.map_or(at.main, |old| old.create),
                    version: old.map_or(1, |old| old.version + 1),
                    lease: lease.unwrap_or(old.map_or(0, |old| old.lease)),
                    value: ValueRef::Inline(new_value),
                };
                (Some(content), Some(new_value))
            }
        };
        self.tell(at, key, content.as_ref(), replaced.as_ref(), sink)?;

        let chain = self.chain_after(replaced.as_ref())?;
        let content = content.map(|content| Content {
            value: self.place_value(new_value.expect("a put has a value")),
            ..content
        });
        Version { at, chain, content }.encode(version_bytes);
        let mark = Mark { weighs: content.is_some(), visit: false };
        self.keys.insert_at(&mut self.store, place, key, version_bytes, mark)?;
        let record = Record {
            key: self.borrowed_key(key)?,
            depth: chain.depth,
            jump: chain.jump,
            content,
            undo: None,
        };
        record.encode(replaced_bytes, record_bytes);
        let visit = Record::needs_visit(content.is_none(), replaced.as_ref());
        let mark = Mark { weighs: false, visit };
        self.history.append(&mut self.store, &at.to_key(), record_bytes, mark)?;

        let lease_of = |content: Option<Content<'_>>| content.map_or(0, |content| content.lease);
        let old_lease = lease_of(before.and_then(|version| version.content));
        self.move_attachment(key, old_lease, lease_of(content))?;
        Ok(true)
    }

    /// Shows the sink what is about to change.
    pub(super) fn tell(
        &self,
        at: Position,
        key: &[u8],
        content: Option<&Content<'_>>,
        replaced: Option<&Version<'_>>,
        sink: &mut dyn ChangeSink,
    ) -> Result<(), Corruption> {
        let before = replaced.filter(|version| !version.is_tombstone());
        if let Some(version) = before.filter(|_| sink.wants_previous()) {
            sink.on_previous(self.key_value(key, version)?);
        }
        if !sink.wants_event() {
            return Ok(());
        }
        let earlier = self.before_revision(replaced.copied(), at.main)?;
        let prev_kv = match &earlier {
            Some(version) => Some(self.key_value(key, version)?),
            None => None,
        };
        let kv = match content {
            Some(content) => KeyValue {
                key,
                value: self.value(content.value)?,
                create_revision: content.create,
                mod_revision: at.main,
                version: content.version,
                lease: content.lease,
            },
            None => KeyValue { key, mod_revision: at.main, ..KeyValue::default() },
        };
        sink.on_event(kv, prev_kv, content.is_none());
        Ok(())
    }

    fn place_value<'v>(&mut self, value: &'v [u8]) -> ValueRef<'v> {
        if value.len() <= self.value_inline_bytes_max {
            ValueRef::Inline(value)
        } else {
            ValueRef::Run(self.store.write_run(value))
        }
    }

    /// How history names a key whose keys entry is there.
    fn borrowed_key<'k>(&self, key: &'k [u8]) -> Result<KeyRef<'k>, Corruption> {
        if key.len() <= KEY_INLINE_BYTES_MAX {
            return Ok(KeyRef::Inline(key));
        }
        let mut cursor = self.keys.cursor(&self.store);
        let found = cursor.seek_at_or_after(key)?;
        assert!(found);
        let run = cursor.key_run().expect("the keys tree keeps a long key in a run");
        assert!(run.size_bytes() == key.len());
        Ok(KeyRef::Run(run))
    }

    /// The place of a new version behind `replaced`: a skew-binary list, so that going back over n
    /// changes takes O(log n) steps. A version jumps either to the one before it, or, when the two
    /// stretches behind that one are equally long, over both of them.
    pub(super) fn chain_after(&self, replaced: Option<&Version<'_>>) -> Result<Chain, Corruption> {
        let Some(replaced) = replaced.filter(|version| self.compact_revision <= version.at.main)
        else {
            return Ok(Chain::default());
        };
        let before = replaced.chain;
        let depth = before.depth.checked_add(1).expect("fewer than 2^32 changes uncompacted");
        if depth < CHAIN_JUMP_DEPTH_MIN {
            return Ok(Chain { depth, jump: None, next_jump: None });
        }
        if let Some(far) = before.equal_stretches() {
            let compacted = far.at.main < self.compact_revision;
            let next_jump = if compacted { None } else { self.record(far.at)?.jump };
            return Ok(Chain { depth, jump: Some(far), next_jump });
        }
        let jump = Some(Link { at: replaced.at, depth: before.depth });
        Ok(Chain { depth, jump, next_jump: before.jump })
    }

    pub(super) fn move_attachment(
        &mut self,
        key: &[u8],
        old: i64,
        new: i64,
    ) -> Result<(), Corruption> {
        if old == new {
            return Ok(());
        }
        if old != 0 {
            lease::detach(&mut self.store, &mut self.system, old, key)?;
        }
        if new != 0 {
            lease::attach(&mut self.store, &mut self.system, new, key)?;
        }
        Ok(())
    }
}
