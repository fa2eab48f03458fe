//! Watches as a user sees them: a stream of messages that survives connections.
//!
//! Invariants: a message holds whole revisions, in order; the next message begins after the last
//! one delivered, however often the connection broke (`next_revision`); what a watch has on the
//! way and unread stays within its window: credit out + bytes queued = window.
//! Source: fact sheet of etcd's behaviour, section 5; docs/format/wire.md, rules 3 and 4.

use crate::client::ResponseHeader;
use crate::error::{Error, UNAVAILABLE};
use crate::link::Link;
use crate::shared::Shared;
use crate::txn::prefix_end;
use engine::api::EventList;
use net::wire::{Malformed, Request, WatchCreateRequest, WatchFilter, events_cost_bytes};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// What to watch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WatchRequest {
    /// First key.
    pub key: Vec<u8>,
    /// Empty is the single key, one zero byte is "from key".
    pub range_end: Vec<u8>,
    /// First revision wanted; 0 is what comes next.
    pub start_revision: i64,
    /// Whether to hear the revision from time to time while nothing happens.
    pub progress_notify: bool,
    /// Whether to get the state before each change too.
    pub prev_kv: bool,
    /// What to leave out.
    pub filter: WatchFilter,
}

impl WatchRequest {
    /// One key, from now on.
    pub fn key(key: impl Into<Vec<u8>>) -> WatchRequest {
        WatchRequest { key: key.into(), ..WatchRequest::default() }
    }

    /// Every key with a prefix, from now on; an empty prefix is every key.
    pub fn prefix(prefix: impl Into<Vec<u8>>) -> WatchRequest {
        let mut key = prefix.into();
        let range_end = prefix_end(&key);
        if key.is_empty() {
            key.push(0);
        }
        WatchRequest { key, range_end, ..WatchRequest::default() }
    }

    /// From this revision on.
    #[must_use]
    pub fn from_revision(mut self, revision: i64) -> WatchRequest {
        self.start_revision = revision;
        self
    }
}

/// Events of one or more whole revisions, or (without events) the notice that everything up to
/// `revision` was delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchMessage {
    /// Where the server stood. With events it may be ahead of them.
    pub revision: i64,
    /// In the order they happened.
    pub events: EventList,
}

impl WatchMessage {
    /// Whether it is a progress notice.
    pub fn is_progress(&self) -> bool {
        self.events.is_empty()
    }
}

/// See [`Client::watch`](crate::Client::watch). Dropping it ends the watch.
pub struct WatchStream {
    shared: Arc<Shared>,
    key: u64,
    header: ResponseHeader,
    messages: mpsc::UnboundedReceiver<Result<WatchMessage, Error>>,
    /// Keeps the client alive for as long as the stream is.
    _client: crate::client::Client,
}

impl WatchStream {
    pub(crate) fn new(
        client: crate::client::Client,
        shared: Arc<Shared>,
        key: u64,
        messages: mpsc::UnboundedReceiver<Result<WatchMessage, Error>>,
    ) -> WatchStream {
        let header = ResponseHeader::default();
        WatchStream { shared, key, header, messages, _client: client }
    }

    pub(crate) fn on_created(&mut self, header: ResponseHeader) {
        self.header = header;
    }

    /// The header of the answer that opened it: events come from the revision after, unless an
    /// earlier one was asked for.
    pub fn header(&self) -> ResponseHeader {
        self.header
    }

    /// The next message; `None` after an error or once the watch is over. Dropping the future
    /// loses nothing.
    pub async fn next(&mut self) -> Option<Result<WatchMessage, Error>> {
        let message = self.messages.recv().await;
        if let Some(Ok(message)) = &message
            && !message.is_progress()
        {
            self.shared.on_watch_read(self.key, events_cost_bytes(&message.events));
        }
        message
    }

    /// Asks for a progress notice, which comes as a message when the watch is up to date.
    pub fn request_progress(&self) {
        self.shared.request_watch_progress(self.key);
    }
}

impl Drop for WatchStream {
    fn drop(&mut self) {
        self.shared.close_watch(self.key);
    }
}

/// One watch of a client, whether a connection carries it or not.
pub(crate) struct WatchEntry {
    request: WatchRequest,
    /// The first revision not delivered yet; 0 until the server has said where "now" is.
    next_revision: i64,
    messages: mpsc::UnboundedSender<Result<WatchMessage, Error>>,
    created: Option<oneshot::Sender<Result<ResponseHeader, Error>>>,
    /// Generation of the connection that carries it, and its id there.
    placed: Option<(u64, u64)>,
    queued_bytes: i64,
}

/// All watches of a client.
#[derive(Default)]
pub(crate) struct WatchTable {
    entries: BTreeMap<u64, WatchEntry>,
    key_last: u64,
}

/// What opening a watch gives: its key, its messages, and when it is open.
pub(crate) type OpenedWatch = (
    u64,
    mpsc::UnboundedReceiver<Result<WatchMessage, Error>>,
    oneshot::Receiver<Result<ResponseHeader, Error>>,
);

impl WatchTable {
    pub(crate) fn open(&mut self, request: WatchRequest) -> OpenedWatch {
        // The queue has no bound of its own: credit bounds what the server may send into it.
        let (messages, messages_receiver) = mpsc::unbounded_channel();
        let (created, created_receiver) = oneshot::channel();
        self.key_last += 1;
        let entry = WatchEntry {
            next_revision: request.start_revision,
            request,
            messages,
            created: Some(created),
            placed: None,
            queued_bytes: 0,
        };
        self.entries.insert(self.key_last, entry);
        (self.key_last, messages_receiver, created_receiver)
    }

    /// Opens on `link` every watch that no connection carries.
    pub(crate) fn place_all(&mut self, link: &mut Link, window_bytes: i64) {
        let mut too_large = Vec::new();
        for (key, entry) in &mut self.entries {
            if entry.placed.is_some() {
                continue;
            }
            let request = Request::WatchCreate(WatchCreateRequest {
                key: &entry.request.key,
                range_end: &entry.request.range_end,
                start_revision: entry.next_revision,
                credit_bytes: (window_bytes - entry.queued_bytes).max(0),
                progress_notify: entry.request.progress_notify,
                prev_kv: entry.request.prev_kv,
                filter: entry.request.filter,
            });
            match link.open_watch(&request, *key) {
                Some(id) => entry.placed = Some((link.generation, id)),
                None => too_large.push(*key),
            }
        }
        for key in too_large {
            self.end(key, crate::shared::request_too_large());
        }
    }

    /// Takes every watch off `link`, to be placed elsewhere.
    pub(crate) fn displace(&mut self, link: &mut Link) {
        for (id, key) in std::mem::take(&mut link.watch_keys) {
            link.session.watch_cancel(id);
            if let Some(entry) = self.entries.get_mut(&key) {
                assert_eq!(entry.placed, Some((link.generation, id)));
                entry.placed = None;
            }
        }
        link.outgoing.notify_one();
    }

    /// Where a watch is: generation and id.
    pub(crate) fn placed(&self, key: u64) -> Option<(u64, u64)> {
        self.entries.get(&key)?.placed
    }

    pub(crate) fn remove(&mut self, key: u64) -> Option<(u64, u64)> {
        self.entries.remove(&key)?.placed
    }

    pub(crate) fn on_created(&mut self, key: u64, header: ResponseHeader) {
        let Some(entry) = self.entries.get_mut(&key) else {
            return;
        };
        if entry.next_revision == 0 {
            entry.next_revision = header.revision + 1;
        }
        if let Some(created) = entry.created.take() {
            // Who opened it may have given up; then the stream's end removes it.
            let _ = created.send(Ok(header));
        }
    }

    pub(crate) fn on_events(&mut self, key: u64, revision: i64, events: EventList) {
        let Some(entry) = self.entries.get_mut(&key) else {
            return;
        };
        let Some(last) = events.iter().last().map(|event| event.kv.mod_revision) else {
            return;
        };
        entry.queued_bytes += events_cost_bytes(&events);
        let first = events.iter().next().map_or(last, |event| event.kv.mod_revision);
        if first < entry.next_revision || last < first {
            self.end(key, Error::Protocol(Malformed::Field("event revision")));
            return;
        }
        entry.next_revision = last + 1;
        // A stream that is being dropped takes no more.
        let _ = entry.messages.send(Ok(WatchMessage { revision, events }));
    }

    pub(crate) fn on_progress(&mut self, key: u64, revision: i64) {
        let Some(entry) = self.entries.get_mut(&key) else {
            return;
        };
        entry.next_revision = entry.next_revision.max(revision + 1);
        let events = EventList::default();
        let _ = entry.messages.send(Ok(WatchMessage { revision, events }));
    }

    pub(crate) fn on_canceled(&mut self, key: u64, compact_revision: i64, reason: &str) {
        let error = if 0 < compact_revision {
            Error::Compacted { compact_revision }
        } else {
            Error::WatchCanceled { reason: reason.to_owned() }
        };
        self.end(key, error);
    }

    /// The server could not open it. One that was open before waits for a better moment.
    pub(crate) fn on_error(&mut self, key: u64, code: u32, message: String) {
        match self.entries.get_mut(&key) {
            Some(entry) if entry.created.is_none() && code == UNAVAILABLE => entry.placed = None,
            _ => self.end(key, Error::Status { code, message }),
        }
    }

    /// A message was read: how much credit to return, and where.
    pub(crate) fn on_read(&mut self, key: u64, cost_bytes: i64) -> Option<(u64, u64)> {
        let entry = self.entries.get_mut(&key)?;
        entry.queued_bytes -= cost_bytes;
        assert!(0 <= entry.queued_bytes);
        entry.placed
    }

    fn end(&mut self, key: u64, error: Error) {
        let Some(entry) = self.entries.remove(&key) else {
            return;
        };
        match entry.created {
            Some(created) => drop(created.send(Err(error))),
            None => drop(entry.messages.send(Err(error))),
        }
    }
}
