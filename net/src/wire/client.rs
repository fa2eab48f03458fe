//! The client's side of one connection, bytes in and bytes out: requests become frames under
//! increasing ids, received bytes become messages.
//!
//! Invariants: hello is the first frame out; an answer cut into chunks is handed over whole; what
//! belongs to which call is the caller's to know.

use super::cluster::ClusterRequest;
use super::error::Malformed;
use super::frame::{Frame, begin_frame, check_frame, end_frame};
use super::hello::{ClientHello, ServerHello};
use super::limits;
use super::opcode::Opcode;
use super::reader::Reader;
use super::reply::ReplyHeader;
use super::request::Request;
use super::watch::{WatchCanceled, decode_events};
use engine::api::EventList;
use std::collections::BTreeMap;
use zerocopy::little_endian::{U32, U64};

/// What a server says.
#[derive(Debug)]
pub enum Message<'a> {
    /// The answer to hello: the connection is open.
    Hello(&'a ServerHello),
    /// The answer to a request: [`super::Answer::decode`] takes the body.
    Reply {
        /// The request.
        request_id: u64,
        /// Which kind of answer.
        opcode: Opcode,
        /// Its whole body.
        body: &'a [u8],
    },
    /// A request failed, or with id 0 the connection.
    Error {
        /// The request, or 0.
        request_id: u64,
        /// A gRPC code.
        code: u32,
        /// The text.
        message: &'a str,
    },
    /// A watch is open.
    WatchCreated {
        /// The watch.
        watch_id: u64,
        /// Its revision is where the watch stands if it asked for what comes next.
        header: ReplyHeader,
    },
    /// Events of a watch; [`super::events_cost_bytes`] is what they cost of its credit.
    WatchEvents {
        /// The watch.
        watch_id: u64,
        /// The revision the server stands at.
        header: ReplyHeader,
        /// At least one; those of one revision are never torn apart.
        events: EventList,
    },
    /// Everything up to the header's revision was delivered.
    WatchProgressed {
        /// The watch.
        watch_id: u64,
        /// The revision.
        header: ReplyHeader,
    },
    /// The last message of a watch.
    WatchCanceled {
        /// The watch.
        watch_id: u64,
        /// The revision the server stands at; 0 after a compaction.
        header: ReplyHeader,
        /// Why.
        canceled: WatchCanceled<'a>,
    },
    /// Please move to a new connection.
    Reconnect {
        /// Where to; empty is where this one went.
        endpoint: &'a str,
    },
    /// The server ends the connection soon.
    GoAway {
        /// Requests with a larger id were not executed.
        request_id_last: u64,
        /// A gRPC code.
        code: u32,
        /// The text.
        message: &'a str,
    },
}

/// What a client sends and gets one answer to.
pub trait ClientRequest {
    /// The message's number.
    fn opcode(&self) -> Opcode;

    /// Whether executing it twice may differ from executing it once.
    fn is_write(&self) -> bool;

    /// Appends the body.
    fn encode(&self, output: &mut Vec<u8>);
}

impl ClientRequest for Request<'_> {
    fn opcode(&self) -> Opcode {
        Request::opcode(self)
    }

    fn is_write(&self) -> bool {
        Request::is_write(self)
    }

    fn encode(&self, output: &mut Vec<u8>) {
        Request::encode(self, output);
    }
}

impl ClientRequest for ClusterRequest<'_> {
    fn opcode(&self) -> Opcode {
        ClusterRequest::opcode(self)
    }

    fn is_write(&self) -> bool {
        ClusterRequest::is_write(self)
    }

    fn encode(&self, output: &mut Vec<u8>) {
        ClusterRequest::encode(self, output);
    }
}

/// A request that the server would not take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestTooLarge;

/// See the file's head.
#[derive(Debug)]
pub struct ClientSession {
    output: Vec<u8>,
    inbound: Vec<u8>,
    server: Option<ServerHello>,
    request_id_last: u64,
    frame_size_bytes_max: usize,
    /// Bodies whose last chunk did not come yet, by request id.
    partial: BTreeMap<u64, (Opcode, Vec<u8>)>,
    partial_size_bytes: usize,
}

impl ClientSession {
    /// Begins a connection: hello is in the output.
    pub fn new(hello: &ClientHello<'_>) -> ClientSession {
        assert!(limits::FRAME_SIZE_BYTES_MIN <= hello.frame_size_bytes_max as usize);
        let mut output = Vec::new();
        let start = begin_frame(&mut output);
        hello.encode(&mut output);
        end_frame(&mut output, start, Opcode::Hello, 0);
        assert!(output.len() <= limits::HELLO_SIZE_BYTES_MAX);
        ClientSession {
            output,
            inbound: Vec::new(),
            server: None,
            request_id_last: 0,
            frame_size_bytes_max: hello.frame_size_bytes_max as usize,
            partial: BTreeMap::new(),
            partial_size_bytes: 0,
        }
    }

    /// The server's hello, once it has come.
    pub fn server(&self) -> Option<&ServerHello> {
        self.server.as_ref()
    }

    /// Appends a request and returns its id.
    ///
    /// # Errors
    /// [`RequestTooLarge`] if no frame of the server's bound holds it; nothing is appended.
    pub fn request(&mut self, request: &impl ClientRequest) -> Result<u64, RequestTooLarge> {
        assert!(request.opcode().opens_request());
        let request_id = self.request_id_last + 1;
        self.output.reserve(REQUEST_SIZE_BYTES_EXPECTED);
        let start = begin_frame(&mut self.output);
        request.encode(&mut self.output);
        if self.request_size_bytes_max() < self.output.len() - start {
            self.output.truncate(start);
            return Err(RequestTooLarge);
        }
        end_frame(&mut self.output, start, request.opcode(), request_id);
        self.request_id_last = request_id;
        Ok(request_id)
    }

    /// Appends a ping and returns its id.
    pub fn ping(&mut self) -> u64 {
        self.request_id_last += 1;
        self.push_empty(Opcode::Ping, self.request_id_last);
        self.request_id_last
    }

    /// Ends a watch; its last message is still to come.
    pub fn watch_cancel(&mut self, watch_id: u64) {
        self.push_empty(Opcode::WatchCancel, watch_id);
    }

    /// Asks for a progress notice.
    pub fn watch_progress(&mut self, watch_id: u64) {
        self.push_empty(Opcode::WatchProgress, watch_id);
    }

    /// Lets a watch send so many bytes more.
    pub fn watch_credit(&mut self, watch_id: u64, credit_bytes: i64) {
        assert!(0 < watch_id && watch_id <= self.request_id_last);
        assert!(0 <= credit_bytes);
        let start = begin_frame(&mut self.output);
        self.output.extend_from_slice(&credit_bytes.to_le_bytes());
        end_frame(&mut self.output, start, Opcode::WatchCredit, watch_id);
    }

    /// What is to be sent.
    pub fn output(&self) -> &[u8] {
        &self.output
    }

    /// Takes what is to be sent and leaves `empty` in its place, whose memory is used again.
    #[must_use]
    pub fn take_output(&mut self, empty: Vec<u8>) -> Vec<u8> {
        assert!(empty.is_empty());
        std::mem::replace(&mut self.output, empty)
    }

    /// Takes received bytes and hands the messages in them to `on_message`.
    ///
    /// # Errors
    /// [`Malformed`]: the connection is of no more use.
    pub fn feed(
        &mut self,
        bytes: &[u8],
        on_message: &mut impl FnMut(Message<'_>),
    ) -> Result<(), Malformed> {
        if self.inbound.is_empty() {
            let consumed = self.walk(bytes, on_message)?;
            self.inbound.extend_from_slice(&bytes[consumed..]);
            return Ok(());
        }
        let mut inbound = std::mem::take(&mut self.inbound);
        inbound.extend_from_slice(bytes);
        let consumed = self.walk(&inbound, on_message)?;
        inbound.drain(..consumed);
        self.inbound = inbound;
        Ok(())
    }

    fn walk(
        &mut self,
        bytes: &[u8],
        on_message: &mut impl FnMut(Message<'_>),
    ) -> Result<usize, Malformed> {
        let mut consumed = 0;
        while let Some((frame, size)) = check_frame(&bytes[consumed..], self.frame_size_bytes_max)?
        {
            assert!(0 < size && size <= bytes.len() - consumed);
            consumed += size;
            self.on_frame(frame, on_message)?;
        }
        Ok(consumed)
    }

    fn on_frame(
        &mut self,
        frame: Frame<'_>,
        on_message: &mut impl FnMut(Message<'_>),
    ) -> Result<(), Malformed> {
        let partial = self.partial.remove(&frame.request_id);
        if !frame.more && partial.is_none() {
            return self.on_message(frame, on_message);
        }
        if !frame.opcode.is_reply() && frame.opcode != Opcode::WatchEvents {
            return Err(Malformed::Flags);
        }
        let (opcode, mut body) = partial.unwrap_or((frame.opcode, Vec::new()));
        if opcode != frame.opcode {
            return Err(Malformed::Flags);
        }
        if limits::REPLY_SIZE_BYTES_MAX - self.partial_size_bytes < frame.body.len() {
            return Err(Malformed::ReplySize);
        }
        body.extend_from_slice(frame.body);
        self.partial_size_bytes += frame.body.len();
        if frame.more {
            self.partial.insert(frame.request_id, (opcode, body));
            return Ok(());
        }
        self.partial_size_bytes -= body.len();
        self.on_message(Frame { body: &body, ..frame }, on_message)
    }

    fn on_message(
        &mut self,
        frame: Frame<'_>,
        on_message: &mut impl FnMut(Message<'_>),
    ) -> Result<(), Malformed> {
        let request_id = frame.request_id;
        if self.request_id_last < request_id {
            return Err(Malformed::RequestId);
        }
        if (frame.opcode == Opcode::HelloReply) != self.server.is_none()
            && frame.opcode != Opcode::Error
        {
            return Err(Malformed::Hello);
        }
        let of_connection =
            matches!(frame.opcode, Opcode::HelloReply | Opcode::Reconnect | Opcode::GoAway);
        if frame.opcode != Opcode::Error && of_connection != (request_id == 0) {
            return Err(Malformed::RequestId);
        }
        if frame.opcode == Opcode::HelloReply {
            let hello = self.server.insert(ServerHello::decode(frame.body)?);
            on_message(Message::Hello(hello));
            return Ok(());
        }
        on_message(decode_message(frame)?);
        Ok(())
    }

    /// Before hello is answered nothing but small requests may be sent ahead.
    fn request_size_bytes_max(&self) -> usize {
        let server = self.server.as_ref();
        server.map_or(limits::FRAME_SIZE_BYTES_MIN, |hello| hello.frame_size_bytes_max as usize)
    }

    fn push_empty(&mut self, opcode: Opcode, request_id: u64) {
        assert!(0 < request_id && request_id <= self.request_id_last);
        let start = begin_frame(&mut self.output);
        end_frame(&mut self.output, start, opcode, request_id);
    }
}

/// Room for the frame of a short request: most are, and their buffer grows once only.
const REQUEST_SIZE_BYTES_EXPECTED: usize = 192;

fn decode_message(frame: Frame<'_>) -> Result<Message<'_>, Malformed> {
    let watch_id = frame.request_id;
    let mut reader = Reader::new(frame.body);
    let message = match frame.opcode {
        Opcode::Error => {
            let code = reader.fixed::<U32>()?.get();
            Message::Error { request_id: frame.request_id, code, message: reader.text()? }
        }
        Opcode::WatchCreated => {
            Message::WatchCreated { watch_id, header: ReplyHeader::decode(&mut reader)? }
        }
        Opcode::WatchProgressed => {
            Message::WatchProgressed { watch_id, header: ReplyHeader::decode(&mut reader)? }
        }
        Opcode::WatchEvents => {
            let (header, events) = decode_events(frame.body)?;
            return Ok(Message::WatchEvents { watch_id, header, events });
        }
        Opcode::WatchCanceled => {
            let (header, canceled) = WatchCanceled::decode(frame.body)?;
            return Ok(Message::WatchCanceled { watch_id, header, canceled });
        }
        Opcode::Reconnect => Message::Reconnect { endpoint: reader.text()? },
        Opcode::GoAway => {
            let request_id_last = reader.fixed::<U64>()?.get();
            let code = reader.fixed::<U32>()?.get();
            Message::GoAway { request_id_last, code, message: reader.text()? }
        }
        opcode if opcode.is_reply() => {
            let request_id = frame.request_id;
            return Ok(Message::Reply { request_id, opcode, body: frame.body });
        }
        _ => return Err(Malformed::Opcode),
    };
    reader.finish()?;
    Ok(message)
}
