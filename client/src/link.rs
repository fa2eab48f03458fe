//! What is known of one connection: its session, who waits for which answer, which watches it
//! carries.
//!
//! Invariants: ids in `waiters` and `watch_keys` were opened on this session; what was taken out
//! of the session's output may have been executed, what was not has not.

use crate::client::ResponseHeader;
use crate::error::Error;
use crate::watch::WatchTable;
use net::wire::{
    Answer, ClientRequest, ClientSession, Malformed, Message, Opcode, ReplyHeader, Request,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::{Notify, Semaphore, oneshot};
use tokio::time::Instant;

/// How a call ended.
pub(crate) type Outcome = Result<(ResponseHeader, Answer), Failure>;

/// Who waits for an answer.
pub(crate) type Waiter = oneshot::Sender<Outcome>;

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum Failure {
    /// There is one, an error.
    Status { code: u32, message: String },
    /// The connection broke, and the request may have been executed.
    LostSent,
    /// The connection broke or goes away, and the request was not executed.
    LostUnsent,
    /// The server answered what was not asked.
    Malformed(Malformed),
}

/// Whether a connection goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LinkFate {
    GoesOn,
    /// It is retired and nothing is left to do on it.
    Done,
}

/// A message that is about more than one call or watch.
#[derive(Debug)]
pub(crate) enum Notice {
    /// The server asks to move, to this address or (empty) to a new connection of the same.
    Move { address: String },
    /// The server goes away.
    GoAway,
    /// The server ends the connection with this.
    Refused(Error),
}

pub(crate) struct Link {
    pub(crate) generation: u64,
    pub(crate) address: String,
    pub(crate) session: ClientSession,
    /// Wakes the task that writes.
    pub(crate) outgoing: Arc<Notify>,
    pub(crate) received_at: Instant,
    /// When a ping was sent that nothing has followed yet.
    pub(crate) pinged_at: Option<Instant>,
    /// A retired link takes no new calls and ends when the last one is answered.
    pub(crate) retired: bool,
    waiters: BTreeMap<u64, Waiter>,
    pub(crate) watch_keys: BTreeMap<u64, u64>,
    opened_id_last: u64,
    taken_id_last: u64,
    cluster_id: u64,
    member_id: u64,
}

impl Link {
    pub(crate) fn new(generation: u64, address: String, session: ClientSession) -> Link {
        let server = session.server().expect("a dialled session is open");
        Link {
            generation,
            address,
            outgoing: Arc::new(Notify::new()),
            received_at: Instant::now(),
            pinged_at: None,
            retired: false,
            waiters: BTreeMap::new(),
            watch_keys: BTreeMap::new(),
            opened_id_last: 0,
            taken_id_last: 0,
            cluster_id: server.identity.cluster_id,
            member_id: server.identity.member_id,
            session,
        }
    }

    /// Appends a call's request. `None`: no frame of this server holds it.
    pub(crate) fn submit(&mut self, request: &impl ClientRequest, waiter: Waiter) -> Option<()> {
        assert!(!self.retired);
        let id = self.session.request(request).ok()?;
        self.opened_id_last = id;
        let before = self.waiters.insert(id, waiter);
        assert!(before.is_none());
        self.outgoing.notify_one();
        Some(())
    }

    /// Appends a watch's creation; its id on this connection.
    pub(crate) fn open_watch(&mut self, request: &Request<'_>, key: u64) -> Option<u64> {
        let id = self.session.request(request).ok()?;
        self.opened_id_last = id;
        self.watch_keys.insert(id, key);
        self.outgoing.notify_one();
        Some(id)
    }

    pub(crate) fn ping(&mut self, now: Instant) {
        self.opened_id_last = self.session.ping();
        self.pinged_at = Some(now);
        self.outgoing.notify_one();
    }

    /// Takes what is to be written.
    pub(crate) fn take_output(&mut self, empty: Vec<u8>) -> Vec<u8> {
        self.taken_id_last = self.opened_id_last;
        self.session.take_output(empty)
    }

    pub(crate) fn is_done(&self) -> bool {
        self.retired && self.waiters.is_empty() && self.session.output().is_empty()
    }

    /// Handles received bytes; what concerns more than one call or watch goes to `notices`.
    pub(crate) fn on_received(
        &mut self,
        bytes: &[u8],
        watches: &mut WatchTable,
        permits: &Semaphore,
        notices: &mut Vec<Notice>,
    ) -> Result<(), Malformed> {
        self.received_at = Instant::now();
        self.pinged_at = None;
        let mut executed_id_last = None;
        let (waiters, watch_keys) = (&mut self.waiters, &mut self.watch_keys);
        let (cluster_id, member_id) = (self.cluster_id, self.member_id);
        let header_of = |header: ReplyHeader| ResponseHeader {
            cluster_id,
            member_id,
            revision: header.revision,
            raft_term: header.raft_term,
        };
        let complete = |waiters: &mut BTreeMap<u64, Waiter>, id: u64, outcome: Outcome| {
            if let Some(waiter) = waiters.remove(&id) {
                permits.add_permits(1);
                // A caller that gave up waiting is no error.
                let _ = waiter.send(outcome);
            }
        };
        self.session.feed(bytes, &mut |message| match message {
            Message::Reply { opcode: Opcode::PingReply, .. } | Message::Hello(_) => {}
            Message::Reply { request_id, opcode, body } => {
                let outcome = Answer::decode(opcode, body)
                    .map(|(header, answer)| (header_of(header), answer))
                    .map_err(Failure::Malformed);
                complete(waiters, request_id, outcome);
            }
            Message::Error { request_id: 0, code, message } => {
                let message = message.to_owned();
                notices.push(Notice::Refused(Error::Status { code, message }));
            }
            Message::Error { request_id, code, message } => {
                let message = message.to_owned();
                match watch_keys.remove(&request_id) {
                    Some(key) => watches.on_error(key, code, message),
                    None => complete(waiters, request_id, Err(Failure::Status { code, message })),
                }
            }
            Message::WatchCreated { watch_id, header } => {
                if let Some(key) = watch_keys.get(&watch_id) {
                    watches.on_created(*key, header_of(header));
                }
            }
            Message::WatchEvents { watch_id, header, events } => {
                if let Some(key) = watch_keys.get(&watch_id) {
                    watches.on_events(*key, header.revision, events);
                }
            }
            Message::WatchProgressed { watch_id, header } => {
                if let Some(key) = watch_keys.get(&watch_id) {
                    watches.on_progress(*key, header.revision);
                }
            }
            Message::WatchCanceled { watch_id, canceled, .. } => {
                if let Some(key) = watch_keys.remove(&watch_id) {
                    watches.on_canceled(key, canceled.compact_revision, canceled.reason);
                }
            }
            Message::Reconnect { endpoint } => {
                notices.push(Notice::Move { address: endpoint.to_owned() });
            }
            Message::GoAway { request_id_last, .. } => {
                executed_id_last = Some(request_id_last);
                notices.push(Notice::GoAway);
            }
        })?;
        if let Some(last) = executed_id_last {
            let dropped = self.waiters.split_off(&(last.saturating_add(1)));
            fail_all(dropped, permits, |_| Failure::LostUnsent);
        }
        Ok(())
    }

    /// Fails every call that still waits: the connection is gone.
    pub(crate) fn fail_waiters(&mut self, permits: &Semaphore) {
        let taken_id_last = self.taken_id_last;
        fail_all(std::mem::take(&mut self.waiters), permits, |id| {
            if id <= taken_id_last { Failure::LostSent } else { Failure::LostUnsent }
        });
    }
}

fn fail_all(waiters: BTreeMap<u64, Waiter>, permits: &Semaphore, failure: impl Fn(u64) -> Failure) {
    permits.add_permits(waiters.len());
    for (id, waiter) in waiters {
        // A caller that gave up waiting is no error.
        let _ = waiter.send(Err(failure(id)));
    }
}
