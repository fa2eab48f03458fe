//! What the handles of a client and its tasks share, behind one lock that is never held across an
//! await.
//!
//! Callers write their requests straight into the session's output here; the link's task takes the
//! whole of it for one write. Invariant: at most one link is current; retired ones only finish.

use crate::client::ResponseHeader;
use crate::error::Error;
use crate::link::{Failure, Link, LinkFate, Notice, Outcome};
use crate::options::Options;
use crate::watch::{OpenedWatch, WatchRequest, WatchTable};
use net::wire::{Answer, ClientRequest, ClientSession, Malformed};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, Semaphore, oneshot};
use tokio::time::{Instant, timeout_at};

pub(crate) struct Shared {
    pub(crate) options: Options,
    pub(crate) addresses: Vec<String>,
    state: Mutex<State>,
    /// A link came or went, or its output has room again.
    changed: Notify,
    /// The manager has something to look at.
    wanted: Notify,
    /// One for each call that may wait for its answer.
    permits: Semaphore,
}

struct State {
    current: Option<Link>,
    retired: Vec<Link>,
    generation_last: u64,
    watches: WatchTable,
    /// Where the server wants this client to be.
    hint: Option<String>,
    attempts_failed: usize,
    error_last: Option<Error>,
    closed: bool,
}

/// What the writing task finds.
pub(crate) enum Outgoing {
    Bytes(Vec<u8>),
    Nothing(Vec<u8>),
    /// The link is done or gone.
    End,
}

enum Submitted {
    Waiting(oneshot::Receiver<Outcome>),
    NotNow,
    Failed(Error),
}

impl Shared {
    pub(crate) fn new(options: Options, addresses: Vec<String>) -> Shared {
        assert!(!addresses.is_empty());
        let permits = Semaphore::new(options.requests_in_flight_max);
        let state = State {
            current: None,
            retired: Vec::new(),
            generation_last: 0,
            watches: WatchTable::default(),
            hint: None,
            attempts_failed: 0,
            error_last: None,
            closed: false,
        };
        Shared {
            options,
            addresses,
            state: Mutex::new(state),
            changed: Notify::new(),
            wanted: Notify::new(),
            permits,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a call: waits for a connection and a permit, sends, waits for the answer. Repeats what
    /// is certain not to have changed anything.
    pub(crate) async fn call(
        &self,
        request: &(impl ClientRequest + Sync),
    ) -> Result<(ResponseHeader, Answer), Error> {
        let deadline = Instant::now() + self.options.request_timeout;
        let mut sent = false;
        match timeout_at(deadline, self.call_without_deadline(request, &mut sent)).await {
            Ok(outcome) => outcome,
            Err(_elapsed) if sent => Err(Error::Timeout),
            Err(_elapsed) => Err(self.unreachable()),
        }
    }

    async fn call_without_deadline(
        &self,
        request: &(impl ClientRequest + Sync),
        sent: &mut bool,
    ) -> Result<(ResponseHeader, Answer), Error> {
        loop {
            let permit = self.permits.acquire().await.map_err(|_closed| Error::Closed)?;
            let receiver = self.submit(request).await?;
            // The permit comes back with the answer, not with the caller, who may give up.
            permit.forget();
            *sent = true;
            match receiver.await.unwrap_or(Err(Failure::LostSent)) {
                Ok(answer) => return Ok(answer),
                Err(Failure::Status { code, message }) => {
                    return Err(Error::Status { code, message });
                }
                Err(Failure::Malformed(malformed)) => return Err(Error::Protocol(malformed)),
                Err(Failure::LostSent) if request.is_write() => return Err(Error::Disconnected),
                Err(Failure::LostSent) => {}
                Err(Failure::LostUnsent) => *sent = false,
            }
        }
    }

    async fn submit(
        &self,
        request: &(impl ClientRequest + Sync),
    ) -> Result<oneshot::Receiver<Outcome>, Error> {
        loop {
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            match self.maybe_submit(request) {
                Submitted::Waiting(receiver) => return Ok(receiver),
                Submitted::Failed(error) => return Err(error),
                Submitted::NotNow => changed.await,
            }
        }
    }

    fn maybe_submit(&self, request: &impl ClientRequest) -> Submitted {
        let mut state = self.lock();
        if state.closed {
            return Submitted::Failed(Error::Closed);
        }
        let Some(link) = &mut state.current else {
            return Submitted::NotNow;
        };
        if self.options.output_bytes_max <= link.session.output().len() {
            return Submitted::NotNow;
        }
        let (waiter, receiver) = oneshot::channel();
        match link.submit(request, waiter) {
            Some(()) => Submitted::Waiting(receiver),
            None => Submitted::Failed(request_too_large()),
        }
    }

    fn unreachable(&self) -> Error {
        let state = self.lock();
        if state.current.is_some() {
            return Error::Unreachable { reason: "too many calls wait".to_owned() };
        }
        let error = state.error_last.clone();
        error.unwrap_or_else(|| Error::Unreachable { reason: "context deadline exceeded".into() })
    }

    /// Waits until there is a connection, or until every endpoint was tried in vain.
    pub(crate) async fn first_link(&self) -> Result<(), Error> {
        loop {
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            {
                let state = self.lock();
                if state.current.is_some() {
                    return Ok(());
                }
                if let Some(error) = &state.error_last
                    && self.addresses.len() <= state.attempts_failed
                {
                    return Err(error.clone());
                }
            }
            changed.await;
        }
    }

    /// Waits until a connection is to be made; where to, if the server said so. `None` at the end.
    pub(crate) async fn link_wanted(&self) -> Option<Option<String>> {
        loop {
            let mut wanted = pin!(self.wanted.notified());
            wanted.as_mut().enable();
            {
                let mut state = self.lock();
                if state.closed {
                    return None;
                }
                if let Some(address) = state.hint.take() {
                    return Some(Some(address));
                }
                if state.current.is_none() {
                    return Some(None);
                }
            }
            wanted.await;
        }
    }

    pub(crate) fn on_dial_failed(&self, error: Error) {
        let mut state = self.lock();
        state.attempts_failed += 1;
        state.error_last = Some(error);
        drop(state);
        self.changed.notify_waiters();
    }

    /// Makes a new connection the current one and moves the watches to it. `None` at the end.
    pub(crate) fn install(
        &self,
        address: String,
        session: ClientSession,
    ) -> Option<(u64, Arc<Notify>)> {
        let mut state = self.lock();
        let state = &mut *state;
        if state.closed {
            return None;
        }
        state.generation_last += 1;
        let mut link = Link::new(state.generation_last, address, session);
        let before = state.current.take();
        for mut retired in before.into_iter().chain(std::mem::take(&mut state.retired)) {
            retired.retired = true;
            state.watches.displace(&mut retired);
            state.retired.push(retired);
        }
        state.watches.place_all(&mut link, self.watch_window_bytes());
        let handles = (link.generation, Arc::clone(&link.outgoing));
        state.current = Some(link);
        state.error_last = None;
        self.changed.notify_waiters();
        Some(handles)
    }

    /// Takes what is to be written on a link.
    pub(crate) fn outgoing(&self, generation: u64, empty: Vec<u8>) -> Outgoing {
        let mut state = self.lock();
        if state.closed {
            return Outgoing::End;
        }
        let Some(link) = state.link(generation) else {
            return Outgoing::End;
        };
        if link.is_done() {
            return Outgoing::End;
        }
        if link.session.output().is_empty() {
            return Outgoing::Nothing(empty);
        }
        let bytes = link.take_output(empty);
        drop(state);
        self.changed.notify_waiters();
        Outgoing::Bytes(bytes)
    }

    /// Handles what a link received.
    pub(crate) fn on_received(&self, generation: u64, bytes: &[u8]) -> Result<LinkFate, Error> {
        let mut state = self.lock();
        let State { current, retired, watches, .. } = &mut *state;
        let mut links = current.iter_mut().chain(retired);
        let Some(link) = links.find(|link| link.generation == generation) else {
            return Ok(LinkFate::Done);
        };
        let mut notices = Vec::new();
        let fed = link.on_received(bytes, watches, &self.permits, &mut notices);
        for notice in notices {
            self.on_notice(&mut state, generation, notice)?;
        }
        fed.map_err(|malformed: Malformed| Error::Protocol(malformed))?;
        let done = state.link(generation).is_none_or(|link| link.is_done());
        Ok(if done { LinkFate::Done } else { LinkFate::GoesOn })
    }

    fn on_notice(&self, state: &mut State, generation: u64, notice: Notice) -> Result<(), Error> {
        let is_current = state.current.as_ref().is_some_and(|link| link.generation == generation);
        match notice {
            Notice::Refused(error) => return Err(error),
            Notice::Move { address } if is_current => {
                let own = state.current.as_ref().map(|link| link.address.clone());
                state.hint = if address.is_empty() {
                    own
                } else {
                    crate::dial::check_endpoint(&address).ok()
                };
            }
            Notice::GoAway if is_current => {
                let mut link = state.current.take().expect("it is the current one");
                link.retired = true;
                state.retired.push(link);
            }
            Notice::Move { .. } | Notice::GoAway => {}
        }
        self.wanted.notify_one();
        Ok(())
    }

    /// Asks whether the server is there if it was silent for too long; an error if it stays so. Also
    /// gives watches without a place another try.
    pub(crate) fn on_tick(&self, generation: u64) -> Result<(), Error> {
        let mut state = self.lock();
        let now = Instant::now();
        let Some(link) = state.link(generation) else {
            return Ok(());
        };
        match link.pinged_at {
            Some(pinged_at) if self.options.keep_alive_timeout <= now - pinged_at => {
                return Err(Error::Unreachable { reason: "no answer to a ping".to_owned() });
            }
            None if self.options.keep_alive_interval <= now - link.received_at => link.ping(now),
            _ => {}
        }
        self.place_watches(&mut state);
        Ok(())
    }

    /// A link ended: its calls fail, its watches wait for the next one.
    pub(crate) fn on_link_lost(&self, generation: u64, error: Error) {
        let mut state = self.lock();
        let state = &mut *state;
        let lost = if state.current.as_ref().is_some_and(|link| link.generation == generation) {
            state.error_last = Some(error);
            state.current.take()
        } else {
            let slot = state.retired.iter().position(|link| link.generation == generation);
            slot.map(|slot| state.retired.swap_remove(slot))
        };
        if let Some(mut link) = lost {
            state.watches.displace(&mut link);
            link.fail_waiters(&self.permits);
            self.place_watches(state);
        }
        self.changed.notify_waiters();
        self.wanted.notify_one();
    }

    /// Ends everything: the last handle is gone.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        self.permits.close();
        let State { current, retired, .. } = &mut *state;
        for link in current.iter_mut().chain(retired) {
            link.outgoing.notify_one();
        }
        drop(state);
        self.changed.notify_waiters();
        self.wanted.notify_one();
    }

    pub(crate) fn open_watch(&self, request: WatchRequest) -> OpenedWatch {
        let mut state = self.lock();
        let opened = state.watches.open(request);
        self.place_watches(&mut state);
        opened
    }

    pub(crate) fn close_watch(&self, key: u64) {
        let mut state = self.lock();
        if let Some((generation, id)) = state.watches.remove(key)
            && let Some(link) = state.link(generation)
        {
            link.watch_keys.remove(&id);
            link.session.watch_cancel(id);
            link.outgoing.notify_one();
        }
    }

    pub(crate) fn on_watch_read(&self, key: u64, cost_bytes: i64) {
        let mut state = self.lock();
        if let Some((generation, id)) = state.watches.on_read(key, cost_bytes)
            && let Some(link) = state.link(generation)
        {
            link.session.watch_credit(id, cost_bytes);
            link.outgoing.notify_one();
        }
    }

    pub(crate) fn request_watch_progress(&self, key: u64) {
        let mut state = self.lock();
        if let Some((generation, id)) = state.watches.placed(key)
            && let Some(link) = state.link(generation)
        {
            link.session.watch_progress(id);
            link.outgoing.notify_one();
        }
    }

    fn place_watches(&self, state: &mut State) {
        if let Some(link) = &mut state.current {
            state.watches.place_all(link, self.watch_window_bytes());
        }
    }

    fn watch_window_bytes(&self) -> i64 {
        i64::try_from(self.options.watch_window_bytes).unwrap_or(i64::MAX)
    }
}

impl State {
    fn link(&mut self, generation: u64) -> Option<&mut Link> {
        let mut links = self.current.iter_mut().chain(&mut self.retired);
        links.find(|link| link.generation == generation)
    }
}

/// What the server itself says to a request beyond its bound.
pub(crate) fn request_too_large() -> Error {
    Error::Status { code: 3, message: "etcdserver: request is too large".to_owned() }
}
