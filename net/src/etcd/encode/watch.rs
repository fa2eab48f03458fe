//! What a watch stream says: that a watch is there, that it is over, how far it is, and events.
//!
//! The flag `fragment` is known only once a piece is full, so it follows the events although its
//! number is smaller; readers of protobuf take fields in any order.

use std::iter::Peekable;

use engine::api::{Event, EventType};

use super::Header;
use super::kv::{key_value, key_value_field_size_bytes};
use crate::etcd::decode::WatchFilters;
use crate::etcd::protobuf::writer;

const EVENTS_FIELD: u32 = 11;
const FRAGMENT_FIELD: u32 = 7;

/// Key and value of the flag `fragment`.
const FRAGMENT_SIZE_BYTES: usize = 2;

/// A watch response without events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WatchHead<'a> {
    /// The watch; -1 for a creation that failed and for the progress of a whole stream.
    pub watch_id: i64,
    /// The first response of a watch.
    pub created: bool,
    /// The last response of a watch.
    pub canceled: bool,
    /// For a watch that compaction has overtaken: the first revision that can still be watched.
    pub compact_revision: i64,
    /// For a creation that failed: a text of [`crate::etcd::cancel_reason`].
    pub cancel_reason: &'a str,
}

/// Writes an `etcdserverpb.WatchResponse` without events. All flags off it tells of progress up
/// to the header's revision.
pub fn encode_watch(out: &mut Vec<u8>, header: &Header, head: &WatchHead<'_>) {
    header.encode(out);
    writer::int64(out, 2, head.watch_id);
    writer::boolean(out, 3, head.created);
    writer::boolean(out, 4, head.canceled);
    writer::int64(out, 5, head.compact_revision);
    writer::bytes(out, 6, head.cancel_reason.as_bytes());
}

/// Writes an `etcdserverpb.WatchResponse` of the events that pass the filters, in one piece
/// however big. Returns how many there are; with none, nothing is written: nothing must be sent.
pub fn encode_watch_events<'a>(
    out: &mut Vec<u8>,
    header: &Header,
    watch_id: i64,
    filters: WatchFilters,
    prev_kv: bool,
    events: impl IntoIterator<Item = Event<'a>>,
) -> usize {
    let start = out.len();
    encode_watch(out, header, &WatchHead { watch_id, ..WatchHead::default() });
    let mut count = 0;
    for shown in events.into_iter().filter_map(|event| show(event, filters, prev_kv)) {
        write_event(out, &shown);
        count += 1;
    }
    if count == 0 {
        out.truncate(start);
    }
    count
}

/// The events of one response in as many pieces as their size asks for, a piece a call.
///
/// A piece stays under the size given, unless a single event is bigger.
pub struct WatchFragments<'a, I: Iterator<Item = Event<'a>>> {
    header: Header,
    watch_id: i64,
    filters: WatchFilters,
    prev_kv: bool,
    size_max_bytes: usize,
    events: Peekable<I>,
}

impl<'a, I: Iterator<Item = Event<'a>>> WatchFragments<'a, I> {
    /// Of the events that pass the filters. `size_max_bytes` is the size of a message at which
    /// etcd splits: its receive limit.
    pub fn new(
        header: Header,
        watch_id: i64,
        filters: WatchFilters,
        prev_kv: bool,
        size_max_bytes: usize,
        events: I,
    ) -> WatchFragments<'a, I> {
        let events = events.peekable();
        WatchFragments { header, watch_id, filters, prev_kv, size_max_bytes, events }
    }

    /// Writes the next piece as an `etcdserverpb.WatchResponse`. Returns whether there was one.
    pub fn encode_next(&mut self, out: &mut Vec<u8>) -> bool {
        if self.peek_shown().is_none() {
            return false;
        }
        let start = out.len();
        let head = WatchHead { watch_id: self.watch_id, ..WatchHead::default() };
        encode_watch(out, &self.header, &head);
        let mut count = 0;
        while let Some(shown) = self.peek_shown() {
            let size = out.len() - start + event_field_size_bytes(&shown) + FRAGMENT_SIZE_BYTES;
            if 0 < count && self.size_max_bytes <= size {
                writer::boolean(out, FRAGMENT_FIELD, true);
                break;
            }
            write_event(out, &shown);
            self.events.next();
            count += 1;
        }
        assert!(0 < count, "every piece holds an event");
        true
    }

    /// The next event that passes the filters, left where it is.
    fn peek_shown(&mut self) -> Option<Event<'a>> {
        loop {
            let event = *self.events.peek()?;
            if let Some(shown) = show(event, self.filters, self.prev_kv) {
                return Some(shown);
            }
            self.events.next();
        }
    }
}

/// The event as a watch wants to see it.
fn show<'a>(event: Event<'a>, filters: WatchFilters, prev_kv: bool) -> Option<Event<'a>> {
    let is_left_out = match event.event_type {
        EventType::Put => filters.no_put,
        EventType::Delete => filters.no_delete,
    };
    if is_left_out {
        return None;
    }
    Some(Event { prev_kv: if prev_kv { event.prev_kv } else { None }, ..event })
}

fn event_type_number(event: &Event<'_>) -> u64 {
    match event.event_type {
        EventType::Put => 0,
        EventType::Delete => 1,
    }
}

fn event_size_bytes(event: &Event<'_>) -> usize {
    let prev_kv_size = event.prev_kv.map_or(0, |prev_kv| key_value_field_size_bytes(3, &prev_kv));
    writer::uint64_size_bytes(1, event_type_number(event))
        + key_value_field_size_bytes(2, &event.kv)
        + prev_kv_size
}

fn event_field_size_bytes(event: &Event<'_>) -> usize {
    writer::length_delimited_size_bytes(EVENTS_FIELD, event_size_bytes(event))
}

fn write_event(out: &mut Vec<u8>, event: &Event<'_>) {
    let size = event_size_bytes(event);
    writer::message_head(out, EVENTS_FIELD, size);
    let start = out.len();
    writer::uint64(out, 1, event_type_number(event));
    key_value(out, 2, &event.kv);
    if let Some(prev_kv) = &event.prev_kv {
        key_value(out, 3, prev_kv);
    }
    assert!(out.len() - start == size, "an event takes the size computed for it");
}
