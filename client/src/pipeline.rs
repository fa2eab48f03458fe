//! One connection for those who drive it themselves, load generators above all: submit many
//! requests, each with a token, then drive; every completion is a call of a closure.
//!
//! Invariants: no task, no channel, no allocation a request; a token comes back exactly once, or
//! the connection ends. Every await is on the socket's readiness only, so that a dropped future
//! loses nothing.

use crate::client::ResponseHeader;
use crate::dial::{check_endpoint, dial};
use crate::error::Error;
use net::wire::{Answer, ClientSession, Message, Opcode, Request, ServerHello};
use std::collections::VecDeque;
use std::io::ErrorKind;
use tokio::io::Interest;
use tokio::net::TcpStream;

/// How a request ended.
#[derive(Clone, Copy, Debug)]
pub struct Completion<'a> {
    /// What was given with the request.
    pub token: u64,
    outcome: Result<(Opcode, &'a [u8]), (u32, &'a str)>,
    ids: (u64, u64),
}

/// Why a request was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubmitError {
    /// Too many requests wait, or too many came after one that still does: drive first.
    Full,
    /// No frame of the server's bound holds it.
    TooLarge,
}

/// See the file's head.
pub struct Pipeline {
    socket: TcpStream,
    session: ClientSession,
    /// Token of request `oldest_id + slot`; `None` once answered.
    tokens: VecDeque<Option<u64>>,
    oldest_id: u64,
    in_flight: usize,
    in_flight_max: usize,
    /// What is being written, and how much of it is.
    writing: Vec<u8>,
    written_size_bytes: usize,
    read_buffer: Vec<u8>,
}

impl Completion<'_> {
    /// Whether the request succeeded; cheaper than decoding the answer.
    pub fn is_ok(&self) -> bool {
        self.outcome.is_ok()
    }

    /// Decodes the answer.
    ///
    /// # Errors
    /// [`Error::Status`] if the server refused the request, [`Error::Protocol`] if its answer
    /// makes no sense.
    pub fn answer(&self) -> Result<(ResponseHeader, Answer), Error> {
        match self.outcome {
            Ok((opcode, body)) => {
                let (header, answer) = Answer::decode(opcode, body).map_err(Error::Protocol)?;
                let (cluster_id, member_id) = self.ids;
                let (revision, raft_term) = (header.revision, header.raft_term);
                Ok((ResponseHeader { cluster_id, member_id, revision, raft_term }, answer))
            }
            Err((code, message)) => Err(Error::Status { code, message: message.to_owned() }),
        }
    }
}

impl Pipeline {
    /// Connects to one endpoint.
    ///
    /// # Errors
    /// [`Error::InvalidEndpoint`] or [`Error::Unreachable`].
    pub async fn connect(endpoint: &str) -> Result<Pipeline, Error> {
        let address = check_endpoint(endpoint)?;
        let (socket, session) = dial(&address, CLIENT_NAME).await?;
        let server = session.server().expect("a dialled session is open");
        let in_flight_max = server.limits.requests_in_flight_max as usize;
        Ok(Pipeline {
            socket,
            session,
            tokens: VecDeque::new(),
            oldest_id: 1,
            in_flight: 0,
            in_flight_max,
            writing: Vec::new(),
            written_size_bytes: 0,
            read_buffer: vec![0; READ_SIZE_BYTES],
        })
    }

    /// What the server said of itself.
    pub fn server(&self) -> &ServerHello {
        self.session.server().expect("a dialled session is open")
    }

    /// Takes a request; it leaves with the next [`Pipeline::drive`]. No watches here.
    ///
    /// # Errors
    /// [`SubmitError`]; nothing was taken.
    pub fn submit(&mut self, request: &Request<'_>, token: u64) -> Result<(), SubmitError> {
        assert!(request.opcode().opens_request() && request.opcode() != Opcode::WatchCreate);
        let full = self.in_flight_max <= self.in_flight
            || WINDOW_MAX <= self.tokens.len()
            || OUTPUT_BYTES_MAX <= self.session.output().len();
        if full {
            return Err(SubmitError::Full);
        }
        let id = self.session.request(request).map_err(|_large| SubmitError::TooLarge)?;
        assert_eq!(id, self.oldest_id + self.tokens.len() as u64);
        self.tokens.push_back(Some(token));
        self.in_flight += 1;
        Ok(())
    }

    /// Requests without an answer so far.
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Sends what was submitted and waits for answers: returns how many came, at least one unless
    /// nothing is in flight. Dropping the future loses nothing.
    ///
    /// # Errors
    /// [`Error::Disconnected`], [`Error::Protocol`], or what the server said as it ended the
    /// connection. It is of no more use; what was in flight may or may not have happened.
    pub async fn drive(
        &mut self,
        on_completion: &mut impl FnMut(Completion<'_>),
    ) -> Result<usize, Error> {
        loop {
            let all_sent = self.maybe_write()?;
            let completed = self.maybe_read(on_completion)?;
            if 0 < completed || (all_sent && self.in_flight == 0) {
                return Ok(completed);
            }
            let interest =
                if all_sent { Interest::READABLE } else { Interest::READABLE | Interest::WRITABLE };
            self.socket.ready(interest).await.map_err(|_broken| Error::Disconnected)?;
        }
    }

    /// Writes as much as the socket takes; whether that was all.
    fn maybe_write(&mut self) -> Result<bool, Error> {
        loop {
            if self.written_size_bytes == self.writing.len() {
                self.writing.clear();
                self.written_size_bytes = 0;
                if self.session.output().is_empty() {
                    return Ok(true);
                }
                self.writing = self.session.take_output(std::mem::take(&mut self.writing));
            }
            match self.socket.try_write(&self.writing[self.written_size_bytes..]) {
                Ok(size) => self.written_size_bytes += size,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(_broken) => return Err(Error::Disconnected),
            }
        }
    }

    /// Reads what is there; how many requests that completes.
    fn maybe_read(
        &mut self,
        on_completion: &mut impl FnMut(Completion<'_>),
    ) -> Result<usize, Error> {
        let size = match self.socket.try_read(&mut self.read_buffer) {
            Ok(0) => return Err(Error::Disconnected),
            Ok(size) => size,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(0),
            Err(_broken) => return Err(Error::Disconnected),
        };
        let identity = &self.server().identity;
        let ids = (identity.cluster_id, identity.member_id);
        let mut completed = 0;
        let mut refusal = None;
        let (tokens, oldest_id) = (&mut self.tokens, &mut self.oldest_id);
        let mut complete = |id: u64, outcome: Result<(Opcode, &[u8]), (u32, &str)>| {
            let slot = id.checked_sub(*oldest_id).and_then(|slot| usize::try_from(slot).ok());
            let Some(token) = slot.and_then(|slot| tokens.get_mut(slot)?.take()) else {
                return;
            };
            while let Some(None) = tokens.front() {
                tokens.pop_front();
                *oldest_id += 1;
            }
            completed += 1;
            on_completion(Completion { token, outcome, ids });
        };
        let fed = self.session.feed(&self.read_buffer[..size], &mut |message| match message {
            Message::Reply { request_id, opcode, body } => complete(request_id, Ok((opcode, body))),
            Message::Error { request_id: 0, code, message } => {
                refusal = Some(Error::Status { code, message: message.to_owned() });
            }
            Message::Error { request_id, code, message } => {
                complete(request_id, Err((code, message)));
            }
            // Hints and farewells: the connection's end, if it comes, is told as such.
            _ => {}
        });
        self.in_flight -= completed;
        fed.map_err(Error::Protocol)?;
        match refusal {
            Some(error) => Err(error),
            None => Ok(completed),
        }
    }
}

const CLIENT_NAME: &str = concat!("corestone-pipeline/", env!("CARGO_PKG_VERSION"));

/// What one read takes at most.
const READ_SIZE_BYTES: usize = 256 * 1024;

/// Requests from the oldest without an answer to the newest.
const WINDOW_MAX: usize = 1 << 20;

/// Bytes of requests that may wait for the socket.
const OUTPUT_BYTES_MAX: usize = 8 * 1024 * 1024;
