//! The server's side of one connection: received bytes become requests, answers become bytes.
//!
//! Invariants: nothing but hello is understood before hello; request ids strictly increase; what
//! cannot be handled yet waits in a bounded buffer; after the first malformed byte nothing is
//! handled any more. How the stream was cut into segments changes nothing.
//! Source: docs/format/wire.md, and its rules for the order of messages.

use super::cluster::ClusterRequest;
use super::error::Malformed;
use super::frame::{Frame, check_frame};
use super::hello::{
    ClientHello, FEATURES, ServerHello, ServerIdentity, ServerLimits, VERSION_MAX, VERSION_MIN,
};
use super::limits;
use super::opcode::Opcode;
use super::outbox::Outbox;
use super::request::Request;
use super::watch::decode_credit;
use crate::etcd::status::{Code, Status, TOO_MANY_OPS};

/// Whether the session may go on with the next request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// It may.
    Continue,
    /// The step's budget is spent: the rest waits for [`WireSession::feed`] in a later step.
    Pause,
}

/// What became of received bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum FeedOutcome {
    /// Every whole frame was handled; give more bytes when there are some.
    Drained,
    /// Frames may be left over: the application paused or the connection is congested. Read no
    /// more from the socket, feed no bytes (`&[]`) in a later step.
    Paused,
    /// Send the output, then close.
    Closed,
}

/// Who executes requests.
pub trait WireApplication {
    /// A request came. It is answered once through the outbox, now or later: with a reply or an
    /// error, and a [`Request::WatchCreate`] with `watch_created` or `watch_canceled`. A
    /// [`Request::WatchCancel`] or [`Request::WatchProgress`] names an open watch by `request_id`
    /// and is answered by `watch_canceled` or, when the watch has got there, `watch_progress`.
    fn on_request(&mut self, outbox: &mut Outbox, request_id: u64, request: Request<'_>) -> Flow;

    /// A request about the cluster came: it is answered once, as those of the store are. Who has
    /// no cluster to tell of refuses it.
    fn on_cluster_request(
        &mut self,
        outbox: &mut Outbox,
        request_id: u64,
        _request: ClusterRequest<'_>,
    ) -> Flow {
        outbox.error(request_id, &NO_CLUSTER);
        Flow::Continue
    }

    /// A watch may send again: it has `credit_bytes` now, which may still be below 1.
    fn on_watch_credit(&mut self, outbox: &mut Outbox, watch_id: u64, credit_bytes: i64);
}

/// See the file's head.
#[derive(Debug)]
pub struct WireSession {
    state: State,
    outbox: Outbox,
    /// Bytes from `inbound_start` on wait to become frames; those before it are done.
    inbound: Vec<u8>,
    inbound_start: usize,
    identity: ServerIdentity,
    limits: ServerLimits,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    AwaitHello,
    Open,
    Closed,
}

impl From<Malformed> for Status {
    fn from(malformed: Malformed) -> Status {
        Status::new(Code::InvalidArgument, malformed.to_string())
    }
}

impl WireSession {
    /// A connection that was just accepted.
    pub fn new(identity: ServerIdentity, limits: ServerLimits) -> WireSession {
        let in_flight_max = limits.requests_in_flight_max as usize;
        WireSession {
            state: State::AwaitHello,
            outbox: Outbox::new(in_flight_max, limits.watches_max as usize),
            inbound: Vec::new(),
            inbound_start: 0,
            identity,
            limits,
        }
    }

    /// Where answers go.
    pub fn outbox(&mut self) -> &mut Outbox {
        &mut self.outbox
    }

    /// Whether hello is done and the connection lives.
    pub fn is_open(&self) -> bool {
        self.state == State::Open
    }

    /// Whether the connection is to be closed once its output is sent.
    pub fn is_closed(&self) -> bool {
        self.state == State::Closed
    }

    /// Whether no more should be read from the socket for now.
    pub fn congested(&self) -> bool {
        self.outbox.congested() || limits::FRAME_SLACK_BYTES + self.frame_max() <= self.pending()
    }

    /// Whether bytes wait that an earlier call did not get to (or that are no whole frame yet).
    pub fn has_pending_input(&self) -> bool {
        0 < self.pending()
    }

    /// Takes received bytes and hands the requests in them, after those that waited, to `app`. All
    /// of `bytes` is taken; what cannot be handled now is kept.
    pub fn feed(&mut self, bytes: &[u8], app: &mut impl WireApplication) -> FeedOutcome {
        if self.state == State::Closed {
            return FeedOutcome::Closed;
        }
        if limits::INPUT_PENDING_BYTES_MAX + self.frame_max() < self.pending() + bytes.len() {
            return self.close(&TOO_MUCH_INPUT);
        }
        let walked = if self.pending() == 0 {
            let (consumed, walked) = self.walk(bytes, app);
            self.inbound.clear();
            self.inbound_start = 0;
            self.inbound.extend_from_slice(&bytes[consumed..]);
            walked
        } else {
            let mut inbound = std::mem::take(&mut self.inbound);
            inbound.extend_from_slice(bytes);
            let (consumed, walked) = self.walk(&inbound[self.inbound_start..], app);
            self.inbound = inbound;
            self.inbound_start += consumed;
            self.maybe_compact_inbound();
            walked
        };
        match walked {
            Ok(outcome) => outcome,
            Err(fault) => self.close(&fault),
        }
    }

    /// Handles frame after frame; how many bytes of `bytes` are done, and why it stopped.
    fn walk(
        &mut self,
        bytes: &[u8],
        app: &mut impl WireApplication,
    ) -> (usize, Result<FeedOutcome, Status>) {
        let mut consumed = 0;
        loop {
            if consumed < bytes.len() && self.outbox.congested() {
                return (consumed, Ok(FeedOutcome::Paused));
            }
            let (frame, size) = match check_frame(&bytes[consumed..], self.frame_max()) {
                Ok(Some(frame)) => frame,
                Ok(None) => return (consumed, Ok(FeedOutcome::Drained)),
                Err(malformed) => return (consumed, Err(malformed.into())),
            };
            assert!(0 < size && size <= bytes.len() - consumed);
            consumed += size;
            match self.on_frame(frame, app) {
                Ok(Flow::Continue) => {}
                Ok(Flow::Pause) => return (consumed, Ok(FeedOutcome::Paused)),
                Err(fault) => return (consumed, Err(fault)),
            }
        }
    }

    fn on_frame(
        &mut self,
        frame: Frame<'_>,
        app: &mut impl WireApplication,
    ) -> Result<Flow, Status> {
        if frame.more {
            return Err(Malformed::Flags.into());
        }
        if (frame.opcode == Opcode::Hello) != (self.state == State::AwaitHello) {
            return Err(Malformed::Hello.into());
        }
        match frame.opcode {
            Opcode::Hello => self.on_hello(frame),
            Opcode::WatchCancel | Opcode::WatchProgress | Opcode::WatchCredit => {
                self.on_watch_frame(frame, app)
            }
            opcode if opcode.opens_request() => self.on_request_frame(frame, app),
            _ => Err(Malformed::Opcode.into()),
        }
    }

    fn on_hello(&mut self, frame: Frame<'_>) -> Result<Flow, Status> {
        assert_eq!(self.state, State::AwaitHello);
        if frame.request_id != 0 {
            return Err(Malformed::RequestId.into());
        }
        let hello = ClientHello::decode(frame.body)?;
        let Some(version) = hello.version_chosen() else {
            let message = format!(
                "wire: the client speaks protocol versions {} to {}, this server {} to {}",
                hello.version_min, hello.version_max, VERSION_MIN, VERSION_MAX
            );
            return Err(Status::new(Code::FailedPrecondition, message));
        };
        self.state = State::Open;
        let answer = ServerHello {
            version,
            features: hello.features & FEATURES,
            frame_size_bytes_max: u32::try_from(self.limits.frame_size_bytes_max())
                .expect("the frame bound is far below 4 GiB"),
            identity: self.identity.clone(),
            limits: self.limits,
        };
        let frame_max = (hello.frame_size_bytes_max as usize).min(limits::FRAME_SIZE_BYTES_MAX);
        self.outbox.push_hello(answer.features, frame_max, |output| answer.encode(output));
        Ok(Flow::Continue)
    }

    fn on_watch_frame(
        &mut self,
        frame: Frame<'_>,
        app: &mut impl WireApplication,
    ) -> Result<Flow, Status> {
        let watch_id = frame.request_id;
        if watch_id == 0 {
            return Err(Malformed::RequestId.into());
        }
        if self.outbox.request_id_last() < watch_id {
            // After GOAWAY the watch may be one that was dropped; before it, it never was.
            return if self.outbox.is_going_away() {
                Ok(Flow::Continue)
            } else {
                Err(Malformed::RequestId.into())
            };
        }
        if frame.opcode == Opcode::WatchCredit {
            let granted = decode_credit(frame.body)?;
            if let Some(credit_bytes) = self.outbox.add_credit(watch_id, granted) {
                app.on_watch_credit(&mut self.outbox, watch_id, credit_bytes);
            }
            return Ok(Flow::Continue);
        }
        let request = Request::decode(frame.opcode, frame.body)?;
        if self.outbox.watch_credit_bytes(watch_id).is_none() {
            // The server's own cancel crossed the client's message.
            return Ok(Flow::Continue);
        }
        Ok(app.on_request(&mut self.outbox, watch_id, request))
    }

    fn on_request_frame(
        &mut self,
        frame: Frame<'_>,
        app: &mut impl WireApplication,
    ) -> Result<Flow, Status> {
        let request_id = frame.request_id;
        if request_id <= self.outbox.request_id_last() {
            return Err(Malformed::RequestId.into());
        }
        if self.outbox.is_going_away() {
            return Ok(Flow::Continue);
        }
        if frame.opcode == Opcode::Ping {
            if !frame.body.is_empty() {
                return Err(Malformed::Trailing.into());
            }
            self.outbox.opened(request_id);
            self.outbox.push_pong(request_id);
            return Ok(Flow::Continue);
        }
        if let Some(request) = ClusterRequest::decode(frame.opcode, frame.body) {
            let request = request?;
            self.outbox.opened(request_id);
            return Ok(app.on_cluster_request(&mut self.outbox, request_id, request));
        }
        let request = match Request::decode(frame.opcode, frame.body) {
            Ok(request) => request,
            Err(Malformed::TxnDepth) => {
                self.outbox.opened(request_id);
                self.outbox.error(request_id, &TOO_MANY_OPS);
                return Ok(Flow::Continue);
            }
            Err(malformed) => return Err(malformed.into()),
        };
        self.outbox.opened(request_id);
        if let Request::WatchCreate(create) = &request
            && !self.outbox.maybe_open_watch(request_id, create.credit_bytes)
        {
            self.outbox.error(request_id, &TOO_MANY_WATCHES);
            return Ok(Flow::Continue);
        }
        Ok(app.on_request(&mut self.outbox, request_id, request))
    }

    fn close(&mut self, fault: &Status) -> FeedOutcome {
        assert_ne!(self.state, State::Closed);
        self.state = State::Closed;
        self.outbox.close(fault);
        self.inbound = Vec::new();
        self.inbound_start = 0;
        FeedOutcome::Closed
    }

    /// Moves what is left to the front once more is done than is left: each byte moves at most
    /// once on average, however small the budgets of the steps are.
    fn maybe_compact_inbound(&mut self) {
        assert!(self.inbound_start <= self.inbound.len());
        if self.inbound.len() - self.inbound_start <= self.inbound_start {
            self.inbound.drain(..self.inbound_start);
            self.inbound_start = 0;
        }
    }

    fn pending(&self) -> usize {
        self.inbound.len() - self.inbound_start
    }

    fn frame_max(&self) -> usize {
        match self.state {
            State::AwaitHello => limits::HELLO_SIZE_BYTES_MAX,
            State::Open | State::Closed => self.limits.frame_size_bytes_max(),
        }
    }
}

const NO_CLUSTER: Status =
    Status::fixed(Code::Unimplemented, "wire: this server does not know requests about a cluster");

const TOO_MANY_WATCHES: Status =
    Status::fixed(Code::ResourceExhausted, "wire: too many watches on one connection");

const TOO_MUCH_INPUT: Status =
    Status::fixed(Code::ResourceExhausted, "wire: too much input pends on the connection");
