//! One stream's state, and the table of a connection's streams.
//!
//! Invariants: a slot is found by its stream's identifier exactly while it is in use; buffers of
//! freed slots are kept for the next stream, up to a bound; walks over all streams go by slot, so
//! they are a function of the input alone.
//! Source: RFC 9113 section 5.1.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use super::StreamId;
use super::flow_control::ReceiveWindow;
use super::limits::{RECYCLED_BUFFER_BYTES_MAX, RECYCLED_STREAMS_MAX};

/// What the application knows of a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Audience {
    /// It may be called, and may send.
    #[default]
    Open,
    /// It finished the stream, or heard `gone`.
    Over,
}

/// How an answer ends once its bytes are out.
#[derive(Debug, PartialEq, Eq)]
pub enum Ending {
    /// Trailers with a gRPC status.
    Status { status: u32, message: String },
    /// An empty DATA frame.
    Data,
}

/// Compression of a call's request messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encoding {
    /// Compressed messages are an error.
    #[default]
    Identity,
    /// Messages with the compressed flag are gzip.
    Gzip,
}

/// What sort of request a stream carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Exchange {
    /// gRPC messages.
    #[default]
    Call,
    /// A plain request whose body is ignored.
    Plain,
    /// A plain HEAD request: its answer has no body.
    PlainHead,
}

/// One stream.
#[derive(Debug, Default)]
pub struct Stream {
    pub id: StreamId,
    pub method: u32,
    pub exchange: Exchange,
    pub audience: Audience,
    /// The application works on although the stream is over; `finish` ends that.
    pub lingers: bool,
    /// The peer sent END_STREAM.
    pub peer_closed: bool,
    /// We sent END_STREAM, or the stream was reset by either side.
    pub local_closed: bool,
    pub encoding: Encoding,
    pub receive_window: ReceiveWindow,
    /// Bytes of messages not yet given to the application.
    pub message: Vec<u8>,
    /// Granted by the core for the unfinished message.
    pub reserved_bytes: usize,
    /// In the list of streams that want such a grant.
    pub wants_grant: bool,
    /// In the list of streams whose messages wait for room in the pending bytes.
    pub held_back: bool,
    pub send_window: i64,
    /// Bytes still to come of a message that is sent in pieces.
    pub message_left_bytes: usize,
    pub pending: Pending,
    pub ending: Option<Ending>,
    pub headers_sent: bool,
    /// In the queue of streams that can send.
    pub queued: bool,
    /// In the list of streams whose producer was told to stop.
    pub starved: bool,
}

impl Stream {
    /// Whether nothing of it is left to do.
    pub fn is_over(&self) -> bool {
        self.local_closed && self.peer_closed && !self.lingers
    }

    /// Keeps an emptied buffer for the next message, unless it is large.
    pub fn recycle_message(&mut self, message: Vec<u8>) {
        assert!(message.is_empty() && self.message.is_empty());
        if message.capacity() <= RECYCLED_BUFFER_BYTES_MAX {
            self.message = message;
        }
    }

    /// Clears everything but the capacity of small buffers.
    fn recycle(&mut self) {
        let mut message = std::mem::take(&mut self.message);
        let mut pending = std::mem::take(&mut self.pending);
        message.clear();
        pending.clear();
        *self = Stream { pending, ..Stream::default() };
        self.recycle_message(message);
    }
}

/// Framed gRPC bytes that wait for window. They leave at the front without moving the rest.
#[derive(Debug, Default)]
pub struct Pending {
    bytes: Vec<u8>,
    taken: usize,
}

impl Pending {
    /// Bytes waiting.
    pub fn size_bytes(&self) -> usize {
        self.bytes.len() - self.taken
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.bytes.len() == self.taken
    }

    /// The buffer to append to.
    pub fn appendable(&mut self) -> &mut Vec<u8> {
        // What was taken is cut off only when it outweighs the rest: each byte moves once at most.
        if self.bytes.len() <= 2 * self.taken {
            self.bytes.drain(..self.taken);
            self.taken = 0;
        }
        &mut self.bytes
    }

    /// Moves `size_bytes` from the front to `out`.
    pub fn take(&mut self, size_bytes: usize, out: &mut Vec<u8>) {
        let end = self.taken + size_bytes;
        assert!(end <= self.bytes.len());
        out.extend_from_slice(&self.bytes[self.taken..end]);
        self.taken = end;
        if self.is_empty() {
            self.clear();
        }
    }

    /// Drops what waits.
    pub fn clear(&mut self) {
        self.taken = 0;
        if RECYCLED_BUFFER_BYTES_MAX < self.bytes.capacity() {
            self.bytes = Vec::new();
        } else {
            self.bytes.clear();
        }
    }
}

/// The streams of a connection.
#[derive(Default)]
pub struct Streams {
    slots: Vec<Stream>,
    free: Vec<usize>,
    index: HashMap<u32, usize, BuildHasherDefault<StreamHasher>>,
}

impl Streams {
    /// Streams in the table.
    pub fn count(&self) -> usize {
        self.index.len()
    }

    /// The slot of a stream.
    pub fn find(&self, id: StreamId) -> Option<usize> {
        self.index.get(&id.0).copied()
    }

    /// Enters a stream and returns its slot, cleared but for its identifier.
    pub fn insert(&mut self, id: StreamId) -> usize {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Stream::default());
            self.slots.len() - 1
        });
        assert!(self.slots[slot].id == StreamId(0));
        self.slots[slot].id = id;
        let previous = self.index.insert(id.0, slot);
        assert!(previous.is_none());
        slot
    }

    /// Forgets a stream.
    pub fn remove(&mut self, slot: usize) {
        let removed = self.index.remove(&self.slots[slot].id.0);
        assert!(removed == Some(slot));
        self.slots[slot].recycle();
        self.free.push(slot);
        if self.index.is_empty() && RECYCLED_STREAMS_MAX < self.slots.len() {
            self.slots.truncate(RECYCLED_STREAMS_MAX);
            self.free.clear();
            self.free.extend(0..RECYCLED_STREAMS_MAX);
        }
    }

    /// Slots in use, in the order of their streams' identifiers.
    pub fn in_order(&self) -> Vec<usize> {
        let mut slots: Vec<usize> = self.index.values().copied().collect();
        slots.sort_unstable_by_key(|&slot| self.slots[slot].id);
        slots
    }
}

impl std::ops::Index<usize> for Streams {
    type Output = Stream;
    fn index(&self, slot: usize) -> &Stream {
        &self.slots[slot]
    }
}

impl std::ops::IndexMut<usize> for Streams {
    fn index_mut(&mut self, slot: usize) -> &mut Stream {
        &mut self.slots[slot]
    }
}

/// A fixed hash for identifiers that the peer counts up: a multiplication spreads them over the
/// high bits that the map looks at. A peer that picks colliding ones slows its own connection.
#[derive(Default)]
pub struct StreamHasher(u64);

impl Hasher for StreamHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(byte);
        }
    }

    fn write_u32(&mut self, value: u32) {
        self.0 = (u64::from(value) >> 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_reused_and_found_only_while_in_use() {
        let mut streams = Streams::default();
        let first = streams.insert(StreamId(1));
        let second = streams.insert(StreamId(3));
        streams[first].message.extend_from_slice(b"abc");
        streams.remove(first);
        assert_eq!(streams.find(StreamId(1)), None);
        let third = streams.insert(StreamId(5));
        assert_eq!(third, first);
        assert!(streams[third].message.is_empty());
        assert_eq!(streams.in_order(), [second, third]);
        assert_eq!(streams.count(), 2);
    }

    #[test]
    fn many_slots_are_given_back_when_the_last_stream_ends() {
        let mut streams = Streams::default();
        let count = RECYCLED_STREAMS_MAX + 10;
        let slots: Vec<_> =
            (0..count as u32).map(|n| streams.insert(StreamId(2 * n + 1))).collect();
        for slot in slots {
            streams.remove(slot);
        }
        assert_eq!(streams.slots.len(), RECYCLED_STREAMS_MAX);
        let slot = streams.insert(StreamId(9999));
        assert!(slot < RECYCLED_STREAMS_MAX);
    }

    #[test]
    fn pending_bytes_leave_in_order() {
        let mut pending = Pending::default();
        let mut out = Vec::new();
        for round in 0..100u8 {
            pending.appendable().extend_from_slice(&[round; 7]);
            if round % 3 != 0 {
                pending.take(5, &mut out);
            }
        }
        let rest = pending.size_bytes();
        pending.take(rest, &mut out);
        let expected: Vec<u8> = (0..100u8).flat_map(|round| [round; 7]).collect();
        assert_eq!(out, expected);
        assert!(pending.is_empty());
    }
}
