//! Bytes of a version in the keys tree and of an event in the history tree.
//!
//! A keys entry is the newest version of a key. A history record is an event and, at its end, the
//! bytes of the keys entry that it replaced: the undo record. Invariants: the run of a value is
//! owned by the keys entry, then by the undo record that replaced it; the event itself, and the key
//! of an event, only borrow. An encoded record with the longest inline key and values fits a leaf.
//! Source: `docs/format/versions.md`.

use crate::limits::{KEY_INLINE_BYTES_MAX, VALUE_INLINE_BYTES_MAX};
use crate::page::layout::{RUN_REF_BYTES, RunRef};
use crate::page::limits as page_limits;

/// Names a version: the main revision, and the order of the change inside of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Main revision.
    pub main: i64,
    /// Order inside the revision, from 0.
    pub sub: u32,
}

/// Size of a position as a key of history.
pub const POSITION_SIZE_BYTES: usize = 12;

impl Position {
    /// The first position of a main revision.
    pub fn first_of(main: i64) -> Position {
        Position { main, sub: 0 }
    }

    /// The key in history: big-endian, so that bytes sort as positions do.
    pub fn to_key(self) -> [u8; POSITION_SIZE_BYTES] {
        assert!(0 <= self.main);
        let mut key = [0; POSITION_SIZE_BYTES];
        key[..8].copy_from_slice(&self.main.to_be_bytes());
        key[8..].copy_from_slice(&self.sub.to_be_bytes());
        key
    }

    /// Reads a key of history.
    pub fn from_key(key: &[u8]) -> Position {
        let (main, sub) = key.split_first_chunk::<8>().expect("a key of history has 12 bytes");
        Position {
            main: i64::from_be_bytes(*main),
            sub: u32::from_be_bytes(sub.try_into().expect("a key of history has 12 bytes")),
        }
    }
}

/// A jump to an older event of the same key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// The event.
    pub at: Position,
    /// Its place in the key's chain.
    pub depth: u32,
}

/// A version's place in its key's chain of uncompacted changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Chain {
    /// Changes of the key before it that are still linked.
    pub depth: u32,
    /// An older event that may be jumped to.
    pub jump: Option<Link>,
    /// The jump of that event, kept in the keys entry so that a change seldom reads history.
    pub next_jump: Option<Link>,
}

impl Chain {
    /// Where its jump's jump leads, if both go over equally many changes: a version behind it jumps
    /// there at once.
    pub fn equal_stretches(&self) -> Option<Link> {
        let (near, far) = (self.jump?, self.next_jump?);
        assert!(far.depth < near.depth && near.depth < self.depth);
        (self.depth - near.depth == near.depth - far.depth).then_some(far)
    }
}

/// A value's bytes, or where they lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueRef<'a> {
    /// In place.
    Inline(&'a [u8]),
    /// In an overflow run.
    Run(RunRef),
}

/// What a put wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Content<'a> {
    /// Revision that created the key's life.
    pub create: i64,
    /// Changes in this life, from 1.
    pub version: i64,
    /// The lease, or 0.
    pub lease: i64,
    /// The value.
    pub value: ValueRef<'a>,
}

/// A version of a key: a keys entry or an undo record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version<'a> {
    /// Its name.
    pub at: Position,
    /// Its place in the key's chain.
    pub chain: Chain,
    /// What was put; `None` is a tombstone.
    pub content: Option<Content<'a>>,
}

/// A key's bytes, or where they lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyRef<'a> {
    /// In place.
    Inline(&'a [u8]),
    /// In the run that the keys tree owns.
    Run(RunRef),
}

/// An event in history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// The key that changed.
    pub key: KeyRef<'a>,
    /// Its place in the key's chain.
    pub depth: u32,
    /// An older event that may be jumped to.
    pub jump: Option<Link>,
    /// What was put; `None` is a deletion.
    pub content: Option<Content<'a>>,
    /// The keys entry that it replaced.
    pub undo: Option<Version<'a>>,
}

const TOMBSTONE: u8 = 1;
const VALUE_RUN: u8 = 2;
const LEASED: u8 = 4;
const JUMP: u8 = 8;
const NEXT_JUMP: u8 = 16;
const KEY_RUN: u8 = 32;
const UNDO: u8 = 64;

impl<'a> Version<'a> {
    /// Writes the version over `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.clear();
        let next_jump = self.chain.next_jump.map_or(0, |_| NEXT_JUMP);
        out.push(content_flags(&self.content) | jump_flag(self.chain.jump) | next_jump);
        out.extend_from_slice(&self.at.main.to_le_bytes());
        out.extend_from_slice(&self.at.sub.to_le_bytes());
        out.extend_from_slice(&self.chain.depth.to_le_bytes());
        for link in [self.chain.jump, self.chain.next_jump].into_iter().flatten() {
            put_link(link, out);
        }
        if let Some(content) = &self.content {
            put_content(content, out);
            match content.value {
                ValueRef::Inline(value) => out.extend_from_slice(value),
                ValueRef::Run(run) => out.extend_from_slice(&run.encode()),
            }
        }
        assert!(out.len() <= VERSION_SIZE_BYTES_MAX);
    }

    /// Reads what [`Version::encode`] wrote.
    pub fn decode(bytes: &'a [u8]) -> Version<'a> {
        let mut fields = Fields { rest: bytes };
        let flags = fields.u8();
        assert!(flags & (KEY_RUN | UNDO) == 0);
        let at = fields.position();
        let depth = fields.u32();
        let jump = (flags & JUMP != 0).then(|| fields.link());
        let next_jump = (flags & NEXT_JUMP != 0).then(|| fields.link());
        let content = (flags & TOMBSTONE == 0).then(|| {
            let (create, version, lease) = fields.content(flags);
            let value = match flags & VALUE_RUN {
                0 => ValueRef::Inline(fields.rest()),
                _ => ValueRef::Run(fields.run()),
            };
            Content { create, version, lease, value }
        });
        assert!(fields.rest.is_empty());
        Version { at, chain: Chain { depth, jump, next_jump }, content }
    }

    /// Whether the version is a deletion.
    pub fn is_tombstone(&self) -> bool {
        self.content.is_none()
    }

    /// The run that whoever holds this version owns.
    pub fn run(&self) -> Option<RunRef> {
        match self.content {
            Some(Content { value: ValueRef::Run(run), .. }) => Some(run),
            _ => None,
        }
    }
}

impl<'a> Record<'a> {
    /// Writes the event over `out`; `undo` is the encoded keys entry that it replaced, or empty.
    pub fn encode(&self, undo: &[u8], out: &mut Vec<u8>) {
        out.clear();
        assert!(self.undo.is_none() && undo.len() <= VERSION_SIZE_BYTES_MAX);
        let key_flag = if matches!(self.key, KeyRef::Run(_)) { KEY_RUN } else { 0 };
        let undo_flag = if undo.is_empty() { 0 } else { UNDO };
        out.push(content_flags(&self.content) | jump_flag(self.jump) | key_flag | undo_flag);
        match self.key {
            KeyRef::Inline(key) => put_short(key, KEY_INLINE_BYTES_MAX, out),
            KeyRef::Run(run) => out.extend_from_slice(&run.encode()),
        }
        out.extend_from_slice(&self.depth.to_le_bytes());
        if let Some(link) = self.jump {
            put_link(link, out);
        }
        if let Some(content) = &self.content {
            put_content(content, out);
            match content.value {
                ValueRef::Inline(value) => put_short(value, VALUE_INLINE_BYTES_MAX, out),
                ValueRef::Run(run) => out.extend_from_slice(&run.encode()),
            }
        }
        out.extend_from_slice(undo);
        assert!(out.len() <= page_limits::VALUE_INLINE_BYTES_MAX);
    }

    /// Reads what [`Record::encode`] wrote.
    pub fn decode(bytes: &'a [u8]) -> Record<'a> {
        let mut fields = Fields { rest: bytes };
        let flags = fields.u8();
        assert!(flags & NEXT_JUMP == 0);
        let key = match flags & KEY_RUN {
            0 => KeyRef::Inline(fields.short()),
            _ => KeyRef::Run(fields.run()),
        };
        let depth = fields.u32();
        let jump = (flags & JUMP != 0).then(|| fields.link());
        let content = (flags & TOMBSTONE == 0).then(|| {
            let (create, version, lease) = fields.content(flags);
            let value = match flags & VALUE_RUN {
                0 => ValueRef::Inline(fields.short()),
                _ => ValueRef::Run(fields.run()),
            };
            Content { create, version, lease, value }
        });
        let undo = (flags & UNDO != 0).then(|| Version::decode(fields.rest()));
        assert!(fields.rest.is_empty());
        Record { key, depth, jump, content, undo }
    }

    /// Whether removal by whole subtrees must see this event: it may end a key's entry, or its undo
    /// record owns a run.
    pub fn needs_visit(tombstone: bool, replaced: Option<&Version<'_>>) -> bool {
        tombstone || replaced.is_some_and(|version| version.run().is_some())
    }
}

fn content_flags(content: &Option<Content<'_>>) -> u8 {
    match content {
        None => TOMBSTONE,
        Some(content) => {
            let run = if matches!(content.value, ValueRef::Run(_)) { VALUE_RUN } else { 0 };
            run | if content.lease != 0 { LEASED } else { 0 }
        }
    }
}

fn jump_flag(jump: Option<Link>) -> u8 {
    jump.map_or(0, |_| JUMP)
}

fn put_link(link: Link, out: &mut Vec<u8>) {
    out.extend_from_slice(&link.at.main.to_le_bytes());
    out.extend_from_slice(&link.at.sub.to_le_bytes());
    out.extend_from_slice(&link.depth.to_le_bytes());
}

fn put_content(content: &Content<'_>, out: &mut Vec<u8>) {
    assert!(0 < content.create && 0 < content.version);
    out.extend_from_slice(&content.create.to_le_bytes());
    out.extend_from_slice(&content.version.to_le_bytes());
    if content.lease != 0 {
        out.extend_from_slice(&content.lease.to_le_bytes());
    }
}

fn put_short(bytes: &[u8], size_bytes_max: usize, out: &mut Vec<u8>) {
    assert!(bytes.len() <= size_bytes_max);
    out.extend_from_slice(&(bytes.len() as u16).to_le_bytes());
    out.extend_from_slice(bytes);
}

/// Whether bytes that anybody may have made are a version's.
pub fn check_version(bytes: &[u8]) -> bool {
    let mut unread = Unread { rest: bytes };
    unread.version().is_some() && unread.rest.is_empty()
}

/// Whether bytes that anybody may have made are a record's.
pub fn check_record(bytes: &[u8]) -> bool {
    let mut unread = Unread { rest: bytes };
    unread.record().is_some() && unread.rest.is_empty()
}

/// As [`Fields`], of bytes that were not made here: `None` where some are missing.
struct Unread<'a> {
    rest: &'a [u8],
}

impl Unread<'_> {
    fn skip(&mut self, size: usize) -> Option<&[u8]> {
        let (skipped, rest) = self.rest.split_at_checked(size)?;
        self.rest = rest;
        Some(skipped)
    }

    fn version(&mut self) -> Option<()> {
        let flags = self.skip(1)?[0];
        self.skip(POSITION_SIZE_BYTES + 4)?;
        for link in [JUMP, NEXT_JUMP] {
            self.skip(if flags & link != 0 { LINK_SIZE_BYTES } else { 0 })?;
        }
        if flags & TOMBSTONE == 0 {
            self.skip(CONTENT_SIZE_BYTES - if flags & LEASED == 0 { 8 } else { 0 })?;
            match flags & VALUE_RUN {
                0 => self.rest = &[],
                _ => self.run()?,
            }
        }
        (flags & (KEY_RUN | UNDO) == 0).then_some(())
    }

    fn record(&mut self) -> Option<()> {
        let flags = self.skip(1)?[0];
        if flags & KEY_RUN == 0 {
            self.short()?
        } else {
            self.run()?
        }
        self.skip(4)?;
        self.skip(if flags & JUMP != 0 { LINK_SIZE_BYTES } else { 0 })?;
        if flags & TOMBSTONE == 0 {
            self.skip(CONTENT_SIZE_BYTES - if flags & LEASED == 0 { 8 } else { 0 })?;
            if flags & VALUE_RUN == 0 { self.short()? } else { self.run()? }
        }
        if flags & UNDO != 0 {
            self.version()?;
        }
        (flags & NEXT_JUMP == 0).then_some(())
    }

    fn short(&mut self) -> Option<()> {
        let size = u16::from_le_bytes(self.skip(2)?.try_into().ok()?);
        self.skip(usize::from(size)).map(|_| ())
    }

    fn run(&mut self) -> Option<()> {
        RunRef::decode(self.skip(RUN_REF_BYTES)?).map(|_| ())
    }
}

/// Fields of a record of our own making: its page was verified, so a short one is a broken
/// invariant.
struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    fn take(&mut self, size: usize) -> &'a [u8] {
        let (head, rest) = self.rest.split_at_checked(size).expect("a stored version is whole");
        self.rest = rest;
        head
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        let (head, rest) = self.rest.split_first_chunk().expect("a stored version is whole");
        self.rest = rest;
        *head
    }

    fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    fn u8(&mut self) -> u8 {
        self.array::<1>()[0]
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.array())
    }

    fn i64(&mut self) -> i64 {
        i64::from_le_bytes(self.array())
    }

    fn position(&mut self) -> Position {
        Position { main: self.i64(), sub: self.u32() }
    }

    fn link(&mut self) -> Link {
        Link { at: self.position(), depth: self.u32() }
    }

    fn content(&mut self, flags: u8) -> (i64, i64, i64) {
        let (create, version) = (self.i64(), self.i64());
        (create, version, if flags & LEASED != 0 { self.i64() } else { 0 })
    }

    fn short(&mut self) -> &'a [u8] {
        let size = u16::from_le_bytes(self.array());
        self.take(usize::from(size))
    }

    fn run(&mut self) -> RunRef {
        RunRef::decode(self.take(RUN_REF_BYTES)).expect("a stored run reference is whole")
    }
}

const LINK_SIZE_BYTES: usize = POSITION_SIZE_BYTES + 4;
const CONTENT_SIZE_BYTES: usize = 24;
const VERSION_SIZE_BYTES_MAX: usize =
    1 + POSITION_SIZE_BYTES + 4 + 2 * LINK_SIZE_BYTES + CONTENT_SIZE_BYTES + VALUE_INLINE_BYTES_MAX;
const RECORD_SIZE_BYTES_MAX: usize = 1
    + 2
    + KEY_INLINE_BYTES_MAX
    + 4
    + LINK_SIZE_BYTES
    + CONTENT_SIZE_BYTES
    + 2
    + VALUE_INLINE_BYTES_MAX
    + VERSION_SIZE_BYTES_MAX;

const _: () = {
    assert!(RECORD_SIZE_BYTES_MAX <= page_limits::VALUE_INLINE_BYTES_MAX);
    // A key that is too long for a record is one that the keys tree keeps in a run.
    assert!(KEY_INLINE_BYTES_MAX == page_limits::KEY_INLINE_BYTES_MAX);
    assert!(RUN_REF_BYTES <= VALUE_INLINE_BYTES_MAX);
};

#[cfg(test)]
mod tests {
    use super::*;

    fn content(value: ValueRef<'_>, lease: i64) -> Content<'_> {
        Content { create: 5, version: 3, lease, value }
    }

    #[test]
    fn versions_and_records_come_back_and_the_longest_fits() {
        let run = RunRef::new(crate::page::map::PageNumber(9), 5000, Default::default());
        let long = vec![7; VALUE_INLINE_BYTES_MAX];
        let key = vec![1; KEY_INLINE_BYTES_MAX];
        let link = Link { at: Position { main: 4, sub: 1 }, depth: 2 };
        let (mut version_bytes, mut record_bytes) = (Vec::new(), Vec::new());
        let values = [ValueRef::Inline(&long), ValueRef::Run(run), ValueRef::Inline(b"")];
        let contents = values
            .iter()
            .flat_map(|value| [Some(content(*value, 0)), Some(content(*value, i64::MIN)), None]);
        for content in contents {
            for (jump, next_jump) in [(None, None), (Some(link), None), (Some(link), Some(link))] {
                let chain = Chain { depth: 3, jump, next_jump };
                let version = Version { at: Position { main: 9, sub: 7 }, chain, content };
                version.encode(&mut version_bytes);
                assert_eq!(Version::decode(&version_bytes), version);
                assert!(check_version(&version_bytes));
                check_cut(&version_bytes, version.content.is_some(), false);
                for key in [KeyRef::Inline(&key), KeyRef::Run(run)] {
                    let record = Record { key, depth: 4, jump, content, undo: None };
                    record.encode(&version_bytes, &mut record_bytes);
                    let want = Record { undo: Some(version), ..record };
                    assert_eq!(Record::decode(&record_bytes), want);
                    assert!(check_record(&record_bytes));
                    check_cut(&record_bytes, version.content.is_some(), true);
                    record.encode(&[], &mut record_bytes);
                    assert_eq!(Record::decode(&record_bytes), record);
                }
            }
        }
    }

    /// Bytes that are cut or altered are refused, or can be read.
    fn check_cut(bytes: &[u8], has_value: bool, is_record: bool) {
        for size in 0..bytes.len() {
            let is_inline_cut = if is_record {
                check_record(&bytes[..size])
            } else {
                check_version(&bytes[..size])
            };
            assert!(!is_inline_cut || has_value, "only a value in place may end anywhere");
            let mut altered = bytes.to_vec();
            altered[size] ^= 1 << (size % 8);
            if is_record && check_record(&altered) {
                Record::decode(&altered);
            } else if !is_record && check_version(&altered) {
                Version::decode(&altered);
            }
        }
    }

    #[test]
    fn keys_of_history_sort_as_positions_do() {
        let positions = [(1, 0), (1, 1), (1, 300), (2, 0), (256, 0), (1 << 40, 5)];
        let keys = positions.map(|(main, sub)| Position { main, sub }.to_key());
        assert!(keys.is_sorted());
        assert_eq!(Position::from_key(&keys[2]), Position { main: 1, sub: 300 });
    }
}
