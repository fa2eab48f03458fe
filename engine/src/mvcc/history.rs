//! Events in the order they happened, for watchers that catch up.
//!
//! Source: fact sheet of etcd's behaviour, section 5.4.

use super::budget::WorkBudget;
use super::trees::Trees;
use super::version::{Position, Record};
use crate::api::{Event, EventType, KeyValue};
use crate::limits::WORK_UNIT_SIZE_BYTES;
use crate::page::map::{Corruption, PageMap};

/// How far a scan of history came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HistoryProgress {
    /// All events up to the upper bound were shown.
    Done,
    /// The budget is spent or the sink is full: the next event to show. The events of a revision
    /// may be cut here: they are complete when this is of a later main revision.
    More {
        /// Where to go on.
        next: Position,
    },
}

/// What a sink answers to an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SinkState {
    /// Go on.
    Ready,
    /// Enough for now, this event included.
    Full,
}

/// Shows events from `from` to the end of main revision `to`.
pub(crate) fn scan<M: PageMap>(
    trees: &Trees<M>,
    from: Position,
    to: i64,
    budget: &mut WorkBudget,
    sink: &mut dyn FnMut(Event<'_>) -> SinkState,
) -> Result<HistoryProgress, Corruption> {
    assert!(trees.compact_revision <= from.main);
    let mut cursor = trees.history.cursor(&trees.store);
    let mut on_entry = cursor.seek_at_or_after(&from.to_key())?;
    budget.spend(1);
    let mut state = SinkState::Ready;
    let mut shown = 0_u32;
    while on_entry {
        let at = Position::from_key(cursor.key()?);
        if to < at.main {
            break;
        }
        if 0 < shown && (budget.is_spent() || state == SinkState::Full) {
            return Ok(HistoryProgress::More { next: at });
        }
        let record = Record::decode(cursor.value());
        let key = trees.event_key(record.key)?;
        let before = trees.before_revision(record.undo, at.main)?;
        let prev_kv = match &before {
            Some(version) => Some(trees.key_value(key, version)?),
            None => None,
        };
        let event =
            Event { event_type: event_type(&record), kv: kv(trees, key, at, &record)?, prev_kv };
        let size_bytes = event.kv.value.len() + prev_kv.map_or(0, |kv| kv.value.len());
        budget.spend(1 + (size_bytes / WORK_UNIT_SIZE_BYTES) as u32);
        state = sink(event);
        shown += 1;
        on_entry = cursor.next()?;
    }
    Ok(HistoryProgress::Done)
}

fn event_type(record: &Record<'_>) -> EventType {
    if record.content.is_some() { EventType::Put } else { EventType::Delete }
}

fn kv<'s, M: PageMap>(
    trees: &'s Trees<M>,
    key: &'s [u8],
    at: Position,
    record: &Record<'s>,
) -> Result<KeyValue<'s>, Corruption> {
    Ok(match record.content {
        None => KeyValue { key, mod_revision: at.main, ..KeyValue::default() },
        Some(content) => KeyValue {
            key,
            value: trees.value(content.value)?,
            create_revision: content.create,
            mod_revision: at.main,
            version: content.version,
            lease: content.lease,
        },
    })
}
