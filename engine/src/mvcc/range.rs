//! A range read that may take several steps.
//!
//! Invariants: it holds a revision and a key, never a page, and seeks again in each step; what it
//! shows is the state at one revision; `count` ignores limit and filters, `more` comes from the
//! limit alone.
//! Source: fact sheet of etcd's behaviour, section 3.

use super::budget::WorkBudget;
use super::trees::Trees;
use super::version::{Position, Record, Version};
use crate::api::{
    KeyValue, KvList, RangeRequest, RangeResponse, Reject, SortOrder, SortTarget, range_contains,
};
use crate::engine::Step;
use crate::limits::WORK_UNIT_SIZE_BYTES;
use crate::page::map::{Corruption, PageMap};
use std::cmp::Ordering;

/// A range read under way.
#[derive(Clone, Debug)]
pub struct RangeRead {
    request: OwnedRange,
    /// Revision read at.
    at: i64,
    /// The newest revision when it began, which the answer tells: what a client that watches from
    /// behind it would miss is in the answer.
    told: i64,
    /// Whether the client named the revision or has part of the answer: then it stays.
    pinned: bool,
    /// The client has part of the answer.
    is_taken: bool,
    phase: Phase,
    /// Where gathering goes on, later where counting starts.
    next_key: Vec<u8>,
    kvs: KvList,
    sorted: Vec<Row>,
    sorted_size_bytes: usize,
    /// Rows that passed the filters and are or were in `kvs` or `sorted`.
    kept: u64,
    /// Keys of the range before `next_key`.
    matched: i64,
    more: bool,
    /// Live keys that later events added, less those they took away.
    later_delta: i64,
    next_event: Position,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Gather,
    /// The rest of the count: by events since, or key by key.
    CountChoice,
    CountEvents,
    CountKeys,
    Finished,
}

#[derive(Clone, Debug)]
struct OwnedRange {
    key: Vec<u8>,
    range_end: Vec<u8>,
    limit: u64,
    sort_target: SortTarget,
    sort: Option<SortOrder>,
    keys_only: bool,
    count_only: bool,
    mod_revisions: [i64; 2],
    create_revisions: [i64; 2],
}

/// A row of an answer that has to be sorted.
#[derive(Clone, Debug)]
struct Row {
    key: Vec<u8>,
    value: Vec<u8>,
    create: i64,
    modified: i64,
    version: i64,
    lease: i64,
}

/// The revision that a request reads at.
pub(crate) fn resolve_revision(
    requested: i64,
    current: i64,
    compacted: i64,
) -> Result<i64, Reject> {
    assert!(compacted <= current);
    match requested {
        ..=0 => Ok(current),
        _ if current < requested => Err(Reject::FutureRevision),
        _ if requested < compacted => Err(Reject::Compacted),
        _ => Ok(requested),
    }
}

/// The bound of a range for the trees: `None` is open, and a single key ends right behind itself.
pub(crate) fn upper_bound(key: &[u8], range_end: &[u8]) -> Option<Vec<u8>> {
    match range_end {
        [] => Some(successor(key)),
        [0] => None,
        _ => Some(range_end.to_vec()),
    }
}

/// The first key behind `key`.
pub(crate) fn successor(key: &[u8]) -> Vec<u8> {
    [key, &[0]].concat()
}

impl RangeRead {
    /// A read at a revision that was resolved, while `current` is the newest.
    pub(crate) fn new(request: &RangeRequest<'_>, at: i64, current: i64) -> RangeRead {
        assert!(at <= current);
        let sort = match (request.sort_order, request.sort_target) {
            (SortOrder::None | SortOrder::Ascend, SortTarget::Key) => None,
            (SortOrder::Descend, _) => Some(SortOrder::Descend),
            _ => Some(SortOrder::Ascend),
        };
        let owned = OwnedRange {
            key: request.key.to_vec(),
            range_end: request.range_end.to_vec(),
            limit: if request.range_end.is_empty() { 0 } else { request.limit.max(0) as u64 },
            sort_target: request.sort_target,
            sort,
            keys_only: request.keys_only,
            count_only: request.count_only,
            mod_revisions: [request.min_mod_revision, request.max_mod_revision],
            create_revisions: [request.min_create_revision, request.max_create_revision],
        };
        let mut read = RangeRead {
            next_key: Vec::new(),
            pinned: 0 < request.revision,
            is_taken: false,
            request: owned,
            at,
            told: current,
            phase: Phase::Gather,
            kvs: KvList::default(),
            sorted: Vec::new(),
            sorted_size_bytes: 0,
            kept: 0,
            matched: 0,
            more: false,
            later_delta: 0,
            next_event: Position::default(),
        };
        read.start();
        read
    }

    /// The revision read at.
    pub fn revision(&self) -> i64 {
        self.at
    }

    /// Bytes of what has been gathered and not yet taken, for a budget of answers.
    pub fn gathered_size_bytes(&self) -> usize {
        self.kvs.size_bytes() + self.sorted_size_bytes
    }

    /// Hands out what has been gathered so far, for a stream; `None` while nothing can be sent yet
    /// (a sorted answer comes at its end). From then on the read never starts again at a newer
    /// revision: overtaken by compaction it is refused.
    pub fn take_chunk(&mut self) -> Option<KvList> {
        if self.kvs.is_empty() || self.phase == Phase::Finished {
            return None;
        }
        (self.pinned, self.is_taken) = (true, true);
        Some(std::mem::take(&mut self.kvs))
    }

    fn start(&mut self) {
        self.phase = if self.request.count_only { Phase::CountChoice } else { Phase::Gather };
        self.next_key.clear();
        self.next_key.extend_from_slice(&self.request.key);
        self.kvs.clear();
        self.sorted.clear();
        self.sorted_size_bytes = 0;
        (self.kept, self.matched, self.more, self.later_delta) = (0, 0, false, 0);
        self.next_event = Position::first_of(self.at + 1);
    }

    /// One slice. `current` is the newest revision, for a new start.
    ///
    /// # Errors
    /// A page is broken. Once it is mended the same read goes on with the next slice, unless a part
    /// of its answer was taken.
    pub(crate) fn step<M: PageMap>(
        &mut self,
        trees: &Trees<M>,
        current: i64,
        budget: &mut WorkBudget,
    ) -> Result<Result<Step<RangeResponse>, Reject>, Corruption> {
        assert!(self.phase != Phase::Finished);
        if self.at < trees.compact_revision {
            if self.pinned {
                return Ok(Err(Reject::Compacted));
            }
            (self.at, self.told) = (current, current);
            self.start();
        }
        let is_done = self.advance(trees, budget);
        if is_done.is_err() && !self.is_taken {
            // What the slice gathered before it met the page would be gathered twice.
            self.start();
        }
        Ok(Ok(match is_done? {
            true => Step::Done(self.finish()),
            false => Step::More,
        }))
    }

    /// Goes on until all is read, or the budget is spent.
    fn advance<M: PageMap>(
        &mut self,
        trees: &Trees<M>,
        budget: &mut WorkBudget,
    ) -> Result<bool, Corruption> {
        loop {
            match self.phase {
                Phase::Gather => self.gather(trees, budget)?,
                Phase::CountChoice => self.choose_count(trees)?,
                Phase::CountEvents => self.count_events(trees, budget)?,
                Phase::CountKeys => self.count_keys(trees, budget)?,
                Phase::Finished => return Ok(true),
            }
            if budget.is_spent() && self.phase != Phase::Finished {
                return Ok(false);
            }
        }
    }

    fn gather<M: PageMap>(
        &mut self,
        trees: &Trees<M>,
        budget: &mut WorkBudget,
    ) -> Result<(), Corruption> {
        if self.request.range_end.is_empty() {
            return self.gather_single(trees, budget);
        }
        let mut cursor = trees.keys.cursor(&trees.store);
        let mut on_entry = cursor.seek_at_or_after(&self.next_key)?;
        budget.spend(1);
        let mut steps = 0_u32;
        while on_entry {
            let key = cursor.key()?;
            if !range_contains(&self.request.key, &self.request.range_end, key) {
                break;
            }
            let newest = Version::decode(cursor.value());
            steps += 1;
            if self.at < newest.at.main || steps.is_multiple_of(ENTRIES_PER_UNIT) {
                budget.spend(1);
            }
            if let Some(version) = trees.version_at(newest, self.at)? {
                if !self.keep(trees, key, &version, budget)? {
                    self.move_to(key);
                    self.phase = Phase::CountChoice;
                    return Ok(());
                }
                self.matched += 1;
            }
            on_entry = cursor.next()?;
            if budget.is_spent() && on_entry {
                let next = cursor.key()?;
                self.move_to(next);
                return Ok(());
            }
        }
        self.phase = Phase::Finished;
        Ok(())
    }

    fn gather_single<M: PageMap>(
        &mut self,
        trees: &Trees<M>,
        budget: &mut WorkBudget,
    ) -> Result<(), Corruption> {
        budget.spend(1);
        let key = std::mem::take(&mut self.request.key);
        let gathered = self.gather_key(trees, &key, budget);
        self.request.key = key;
        gathered?;
        self.phase = Phase::Finished;
        Ok(())
    }

    fn gather_key<M: PageMap>(
        &mut self,
        trees: &Trees<M>,
        key: &[u8],
        budget: &mut WorkBudget,
    ) -> Result<(), Corruption> {
        if let Some(newest) = trees.newest(key)?
            && let Some(version) = trees.version_at(newest, self.at)?
        {
            let kept = self.keep(trees, key, &version, budget)?;
            assert!(kept);
            self.matched = 1;
        }
        Ok(())
    }

    fn move_to(&mut self, key: &[u8]) {
        self.next_key.clear();
        self.next_key.extend_from_slice(key);
    }

    /// Keeps a row that passes the filters; false when the limit has no room for it.
    fn keep<M: PageMap>(
        &mut self,
        trees: &Trees<M>,
        key: &[u8],
        version: &Version<'_>,
        budget: &mut WorkBudget,
    ) -> Result<bool, Corruption> {
        let content = version.content.expect("a version that is shown is live");
        let request = &self.request;
        let passes = passes(version.at.main, request.mod_revisions)
            && passes(content.create, request.create_revisions);
        if !passes {
            return Ok(true);
        }
        let limit = request.limit;
        if request.sort.is_none() && limit != 0 && limit <= self.kept {
            self.more = true;
            return Ok(false);
        }
        let needs_value = !request.keys_only
            || (request.sort.is_some() && request.sort_target == SortTarget::Value);
        let value = if needs_value { trees.value(content.value)? } else { &[] };
        budget.spend((value.len() / WORK_UNIT_SIZE_BYTES) as u32);
        self.kept += 1;
        let kv = KeyValue {
            key,
            value,
            create_revision: content.create,
            mod_revision: version.at.main,
            version: content.version,
            lease: content.lease,
        };
        if request.sort.is_none() {
            self.kvs.push(kv);
            return Ok(true);
        }
        self.sorted_size_bytes += Row::size_bytes(key, value);
        self.sorted.push(Row {
            key: key.to_vec(),
            value: value.to_vec(),
            create: kv.create_revision,
            modified: kv.mod_revision,
            version: kv.version,
            lease: kv.lease,
        });
        // Only the best rows up to the limit can be in the answer: memory stays bounded by it.
        if limit != 0
            && limit.saturating_mul(2).saturating_add(SORT_SLACK_ROWS) <= self.sorted.len() as u64
        {
            self.sort_and_cut();
        }
        Ok(true)
    }

    fn sort_and_cut(&mut self) {
        let Some(order) = self.request.sort else { return };
        let target = self.request.sort_target;
        // Stable: rows that are equal stay in key order.
        self.sorted.sort_by(|a, b| match order {
            SortOrder::Descend => b.compare(a, target),
            _ => a.compare(b, target),
        });
        let limit = self.request.limit;
        if limit != 0 && limit < self.sorted.len() as u64 {
            let cut = self.sorted.drain(limit as usize..);
            self.sorted_size_bytes -=
                cut.map(|row| Row::size_bytes(&row.key, &row.value)).sum::<usize>();
            self.more = true;
        }
    }

    /// The rest of the range is counted from its end of the work: the events since the revision, or
    /// the keys themselves.
    fn choose_count<M: PageMap>(&mut self, trees: &Trees<M>) -> Result<(), Corruption> {
        let end = upper_bound(&self.request.key, &self.request.range_end);
        if is_empty_range(&self.next_key, end.as_deref()) {
            self.phase = Phase::Finished;
            return Ok(());
        }
        let from = Position::first_of(self.at + 1).to_key();
        let events = trees.history.count_range(&trees.store, &from, None)?;
        let keys = trees.keys.count_range(&trees.store, &self.next_key, end.as_deref())?;
        self.phase = if events <= keys { Phase::CountEvents } else { Phase::CountKeys };
        Ok(())
    }

    /// Today's count, corrected by the events since. New ones may be added between slices: the sum
    /// is taken in the slice that comes to their end.
    fn count_events<M: PageMap>(
        &mut self,
        trees: &Trees<M>,
        budget: &mut WorkBudget,
    ) -> Result<(), Corruption> {
        let mut cursor = trees.history.cursor(&trees.store);
        let mut on_entry = cursor.seek_at_or_after(&self.next_event.to_key())?;
        budget.spend(1);
        let mut steps = 0_u32;
        while on_entry {
            let at = Position::from_key(cursor.key()?);
            steps += 1;
            if steps.is_multiple_of(ENTRIES_PER_UNIT) {
                budget.spend(1);
                if budget.is_spent() {
                    self.next_event = at;
                    return Ok(());
                }
            }
            let record = Record::decode(cursor.value());
            let key = trees.event_key(record.key)?;
            let counted = self.next_key.as_slice() <= key
                && range_contains(&self.request.key, &self.request.range_end, key);
            if counted {
                let was_live = record.undo.is_some_and(|version| !version.is_tombstone());
                self.later_delta += i64::from(record.content.is_some()) - i64::from(was_live);
            }
            on_entry = cursor.next()?;
        }
        let end = upper_bound(&self.request.key, &self.request.range_end);
        let now = trees.keys.weight_range(&trees.store, &self.next_key, end.as_deref())?;
        let rest = i64::try_from(now).expect("fewer than 2^63 keys") - self.later_delta;
        assert!(0 <= rest);
        self.matched += rest;
        self.phase = Phase::Finished;
        Ok(())
    }

    fn count_keys<M: PageMap>(
        &mut self,
        trees: &Trees<M>,
        budget: &mut WorkBudget,
    ) -> Result<(), Corruption> {
        let mut cursor = trees.keys.cursor(&trees.store);
        let mut on_entry = cursor.seek_at_or_after(&self.next_key)?;
        budget.spend(1);
        let mut steps = 0_u32;
        while on_entry {
            let key = cursor.key()?;
            if !range_contains(&self.request.key, &self.request.range_end, key) {
                break;
            }
            let newest = Version::decode(cursor.value());
            steps += 1;
            if self.at < newest.at.main || steps.is_multiple_of(ENTRIES_PER_UNIT) {
                budget.spend(1);
            }
            self.matched += i64::from(trees.version_at(newest, self.at)?.is_some());
            on_entry = cursor.next()?;
            if budget.is_spent() && on_entry {
                let next = cursor.key()?;
                self.move_to(next);
                return Ok(());
            }
        }
        self.phase = Phase::Finished;
        Ok(())
    }

    fn finish(&mut self) -> RangeResponse {
        self.sort_and_cut();
        self.sorted_size_bytes = 0;
        for row in self.sorted.drain(..) {
            let value: &[u8] = if self.request.keys_only { &[] } else { &row.value };
            self.kvs.push(KeyValue {
                key: &row.key,
                value,
                create_revision: row.create,
                mod_revision: row.modified,
                version: row.version,
                lease: row.lease,
            });
        }
        assert!(self.kvs.len() as i64 <= self.matched);
        RangeResponse {
            revision: self.told,
            kvs: std::mem::take(&mut self.kvs),
            more: self.more,
            count: self.matched,
        }
    }
}

impl Row {
    fn size_bytes(key: &[u8], value: &[u8]) -> usize {
        size_of::<Row>() + key.len() + value.len()
    }

    fn compare(&self, other: &Row, target: SortTarget) -> Ordering {
        match target {
            SortTarget::Key => self.key.cmp(&other.key),
            SortTarget::Version => self.version.cmp(&other.version),
            SortTarget::Create => self.create.cmp(&other.create),
            SortTarget::Mod => self.modified.cmp(&other.modified),
            SortTarget::Value => self.value.cmp(&other.value),
        }
    }
}

/// Whether a revision lies in `[min, max]`, where 0 is no bound.
fn passes(revision: i64, [min, max]: [i64; 2]) -> bool {
    (min == 0 || min <= revision) && (max == 0 || revision <= max)
}

/// Whether nothing can lie in `[start, end)`.
pub(crate) fn is_empty_range(start: &[u8], end: Option<&[u8]>) -> bool {
    end.is_some_and(|end| end <= start)
}

/// Neighbours read for one work unit.
const ENTRIES_PER_UNIT: u32 = 8;
/// Rows beyond twice the limit before a sorted answer is cut.
const SORT_SLACK_ROWS: u64 = 1024;
