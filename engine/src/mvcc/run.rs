//! Execution of an entry's changes in slices: one main revision, changes numbered in their order.
//!
//! Invariants: all checks were made before; what is written has a main revision one above the
//! published one, so that reads of published revisions do not see it; the order of changes does not
//! depend on how they are cut into slices.

use super::budget::WorkBudget;
use super::range::{RangeRead, upper_bound};
use super::trees::{Change, ChangeSink, Trees};
use super::version::{Position, Version};
use crate::api::{
    DeleteRangeRequest, DeleteRangeResponse, Event, EventList, EventListMark, EventType, KeyValue,
    KvList, PutRequest, PutResponse, RangeRequest, RequestOp, ResponseOp,
};
use crate::engine::Step;
use crate::lease;
use crate::limits::{ENTRY_EVENTS_SIZE_BYTES_MAX, WORK_UNIT_SIZE_BYTES};
use crate::page::map::{Corruption, PageMap};

/// Where the events of an entry go.
#[derive(Debug)]
pub(crate) struct EventFeed<'e> {
    list: Option<&'e mut EventList>,
    start: EventListMark,
    /// The entry has more events than are handed out; the list got none of them.
    pub(crate) too_many: bool,
}

impl<'e> EventFeed<'e> {
    /// A feed into `list`, where this entry's events began at `start`.
    pub(crate) fn new(
        list: Option<&'e mut EventList>,
        start: EventListMark,
        too_many: bool,
    ) -> EventFeed<'e> {
        EventFeed { list, start, too_many }
    }

    fn push(&mut self, event: Event<'_>) {
        let Some(list) = self.list.as_deref_mut().filter(|_| !self.too_many) else { return };
        list.push(event);
        if ENTRY_EVENTS_SIZE_BYTES_MAX < list.size_bytes() - self.start.size_bytes() {
            list.truncate(self.start);
            self.too_many = true;
        }
    }
}

/// Takes what one change tells: the state before for the answer, the event for the watchers.
struct Telling<'t, 'e> {
    previous: Option<&'t mut KvList>,
    feed: &'t mut EventFeed<'e>,
}

impl ChangeSink for Telling<'_, '_> {
    fn wants_previous(&self) -> bool {
        self.previous.is_some()
    }

    fn on_previous(&mut self, previous: KeyValue<'_>) {
        if let Some(list) = self.previous.as_deref_mut() {
            list.push(previous);
        }
    }

    fn wants_event(&self) -> bool {
        self.feed.list.is_some() && !self.feed.too_many
    }

    fn on_event(&mut self, kv: KeyValue<'_>, prev_kv: Option<KeyValue<'_>>, deleted: bool) {
        let event_type = if deleted { EventType::Delete } else { EventType::Put };
        self.feed.push(Event { event_type, kv, prev_kv });
    }
}

/// The operations of an entry under way.
#[derive(Clone, Debug, Default)]
pub(crate) struct OpRun {
    /// Changes made so far.
    changes: u32,
    /// The operation under way.
    slot: usize,
    /// Where a deletion goes on; empty at its start.
    next_key: Vec<u8>,
    deleted: i64,
    prev_kvs: KvList,
    range: Option<RangeRead>,
    /// Answers of the operations that are done.
    pub(crate) answers: Vec<ResponseOp>,
}

/// What stays the same over an entry's operations.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RunContext {
    /// The published revision.
    pub(crate) revision: i64,
    /// Whether answers with key-values are wanted.
    pub(crate) wants_answer: bool,
}

impl OpRun {
    /// The store's revision once the changes so far are published.
    pub(crate) fn revision(&self, context: RunContext) -> i64 {
        context.revision + i64::from(0 < self.changes)
    }

    fn next_position(&mut self, context: RunContext) -> Position {
        Position { main: context.revision + 1, sub: self.changes }
    }

    /// One slice; true when all operations are done.
    pub(crate) fn step<M: PageMap>(
        &mut self,
        trees: &mut Trees<M>,
        ops: &[&RequestOp<'_>],
        context: RunContext,
        feed: &mut EventFeed<'_>,
        budget: &mut WorkBudget,
    ) -> Result<bool, Corruption> {
        while let Some(op) = ops.get(self.slot) {
            match op {
                RequestOp::Put(put) => {
                    let response = self.put(trees, put, context, feed, budget)?;
                    self.answers.push(ResponseOp::Put(response));
                }
                RequestOp::DeleteRange(delete) => {
                    match self.delete_range(trees, delete, context, feed, budget)? {
                        Step::Done(response) => {
                            self.answers.push(ResponseOp::DeleteRange(response));
                        }
                        Step::More => return Ok(false),
                    }
                }
                RequestOp::Range(range) => {
                    if !self.range(trees, range, context, budget)? {
                        return Ok(false);
                    }
                }
                RequestOp::Txn(_) => panic!("nested transactions are flattened"),
            }
            self.slot += 1;
            if budget.is_spent() && self.slot < ops.len() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// A put whose checks have passed.
    pub(crate) fn put<M: PageMap>(
        &mut self,
        trees: &mut Trees<M>,
        put: &PutRequest<'_>,
        context: RunContext,
        feed: &mut EventFeed<'_>,
        budget: &mut WorkBudget,
    ) -> Result<PutResponse, Corruption> {
        let at = self.next_position(context);
        let change = Change::Put {
            value: (!put.ignore_value).then_some(put.value),
            lease: (!put.ignore_lease).then_some(put.lease),
        };
        let mut prev_kv = KvList::default();
        let previous = (put.prev_kv && context.wants_answer).then_some(&mut prev_kv);
        let changed = trees.change(at, put.key, change, &mut Telling { previous, feed })?;
        assert!(changed);
        self.changes += 1;
        budget.spend(CHANGE_UNITS + (put.value.len() / WORK_UNIT_SIZE_BYTES) as u32);
        Ok(PutResponse { revision: at.main, prev_kv })
    }

    fn delete_range<M: PageMap>(
        &mut self,
        trees: &mut Trees<M>,
        delete: &DeleteRangeRequest<'_>,
        context: RunContext,
        feed: &mut EventFeed<'_>,
        budget: &mut WorkBudget,
    ) -> Result<Step<DeleteRangeResponse>, Corruption> {
        if self.next_key.is_empty() {
            self.next_key.extend_from_slice(delete.key);
        }
        let end = upper_bound(delete.key, delete.range_end);
        loop {
            match next_live_key(trees, &self.next_key, end.as_deref(), budget)? {
                Found::Live(key) => {
                    let at = self.next_position(context);
                    let wanted = delete.prev_kv && context.wants_answer;
                    let previous = wanted.then_some(&mut self.prev_kvs);
                    let mut telling = Telling { previous, feed };
                    let next_key = &mut self.next_key;
                    let done =
                        trees.delete_leaf(at, &key, end.as_deref(), &mut telling, next_key)?;
                    // The next key after the last one looked at.
                    next_key.push(0);
                    let changes = self.changes.checked_add(done.deleted);
                    self.changes = changes.expect("fewer than 2^32 changes");
                    self.deleted += i64::from(done.deleted);
                    budget.spend(LEAF_UNITS + done.entries);
                }
                Found::Unknown(key) => self.next_key = key,
                Found::None => break,
            }
            if budget.is_spent() {
                return Ok(Step::More);
            }
        }
        self.next_key.clear();
        Ok(Step::Done(DeleteRangeResponse {
            revision: self.revision(context),
            deleted: std::mem::take(&mut self.deleted),
            prev_kvs: std::mem::take(&mut self.prev_kvs),
        }))
    }

    /// A range inside of the entry sees its changes so far; true when it is answered.
    fn range<M: PageMap>(
        &mut self,
        trees: &Trees<M>,
        range: &RangeRequest<'_>,
        context: RunContext,
        budget: &mut WorkBudget,
    ) -> Result<bool, Corruption> {
        let current = self.revision(context);
        if !context.wants_answer {
            self.answers.push(ResponseOp::Range(Default::default()));
            return Ok(true);
        }
        let at = if 0 < range.revision { range.revision } else { current };
        let mut read = self.range.take().unwrap_or_else(|| RangeRead::new(range, at, current));
        let step = read.step(trees, current, budget)?;
        match step.expect("the revision was checked, and nothing compacts inside of an entry") {
            Step::Done(response) => {
                self.answers.push(ResponseOp::Range(response));
                Ok(true)
            }
            Step::More => {
                self.range = Some(read);
                Ok(false)
            }
        }
    }

    /// Deletes the keys of a lease in key order, then the lease; true when it is gone.
    pub(crate) fn revoke<M: PageMap>(
        &mut self,
        trees: &mut Trees<M>,
        id: i64,
        context: RunContext,
        feed: &mut EventFeed<'_>,
        budget: &mut WorkBudget,
    ) -> Result<bool, Corruption> {
        while let Some(key) = lease::first_key(&trees.store, &trees.system, id)? {
            let key = key.to_vec();
            let at = self.next_position(context);
            let mut telling = Telling { previous: None, feed };
            let changed = trees.change(at, &key, Change::Delete, &mut telling)?;
            assert!(changed);
            self.changes = self.changes.checked_add(1).expect("fewer than 2^32 changes");
            budget.spend(CHANGE_UNITS);
            if budget.is_spent() {
                return Ok(false);
            }
        }
        let Trees { store, system, .. } = trees;
        lease::remove(store, system, id)?;
        Ok(true)
    }
}

enum Found {
    Live(Vec<u8>),
    /// The budget was spent on tombstones: go on from this key.
    Unknown(Vec<u8>),
    None,
}

fn next_live_key<M: PageMap>(
    trees: &Trees<M>,
    start: &[u8],
    end: Option<&[u8]>,
    budget: &mut WorkBudget,
) -> Result<Found, Corruption> {
    let mut cursor = trees.keys.cursor(&trees.store);
    let mut on_entry = cursor.seek_at_or_after(start)?;
    let mut steps = 0_u32;
    while on_entry {
        let key = cursor.key()?;
        if end.is_some_and(|end| end <= key) {
            break;
        }
        if !Version::decode(cursor.value()).is_tombstone() {
            return Ok(Found::Live(key.to_vec()));
        }
        on_entry = cursor.next()?;
        steps += 1;
        if steps.is_multiple_of(ENTRIES_PER_UNIT) {
            budget.spend(1);
            if budget.is_spent() && on_entry {
                return Ok(Found::Unknown(cursor.key()?.to_vec()));
            }
        }
    }
    Ok(Found::None)
}

/// Work units of deleting from a leaf, besides one for each entry.
const LEAF_UNITS: u32 = 3;
/// Work units of one change: a look-up and two insertions.
const CHANGE_UNITS: u32 = 3;
/// Neighbours read for one work unit.
const ENTRIES_PER_UNIT: u32 = 8;
