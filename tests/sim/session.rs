//! A client's side of a connection in the world, and what a client may wish for.
//!
//! Invariant: what a client does is a function of what it was told and its own randomness.

use net::wire::{ClientSession, ClusterMember, Message};
use shard::input::Door;

use super::coverage::Coverage;
use super::random::Random;
use super::speech::new_session;
use super::trace::Trace;
use super::workload::Seen;
use crate::check::History;

/// What goes on in the world, as far as clients care.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Faults happen.
    Faults,
    /// No faults any more; clients go on.
    Calm,
    /// Clients make no new calls, and leases run out.
    Quiet,
    /// Every member is asked for everything.
    Probing,
}

/// What a client sees and may change.
pub struct Scene<'a> {
    /// Now.
    pub now_us: u64,
    /// Members that there are to talk to, by slot.
    pub present: &'a [usize],
    /// What goes on.
    pub phase: Phase,
    /// All calls.
    pub history: &'a mut History,
    /// What is known of the store.
    pub seen: &'a mut Seen,
    /// For lines.
    pub trace: &'a mut Trace,
    /// For figures.
    pub coverage: &'a mut Coverage,
}

impl Scene<'_> {
    /// One of the members.
    pub fn somebody(&self, random: &mut Random) -> usize {
        *random.pick(self.present)
    }
}

/// What a client wants of the world.
#[derive(Debug)]
pub enum Wish {
    /// A connection to one of this member's ports.
    Connect(usize, Door),
    /// These bytes sent.
    Send(Vec<u8>),
    /// The connection closed.
    HangUp,
    /// To be woken at this time.
    Wake(u64),
    /// Processes for all members of a list.
    Enroll(Vec<ClusterMember>),
    /// The directory of a member wiped, if these are the members and nobody else needs it.
    Wipe {
        /// Whose.
        id: u64,
        /// The members.
        expected: Vec<u64>,
    },
}

/// A program that talks to members.
pub trait Client {
    /// Its time has come.
    fn on_wake(&mut self, scene: &mut Scene<'_>, wishes: &mut Vec<Wish>);
    /// The connection it wished for is there, under a number never used before.
    fn on_connected(&mut self, number: u64, scene: &mut Scene<'_>, wishes: &mut Vec<Wish>);
    /// Bytes came.
    fn on_bytes(&mut self, bytes: &[u8], scene: &mut Scene<'_>, wishes: &mut Vec<Wish>);
    /// The connection is gone, or did not come about.
    fn on_broken(&mut self, scene: &mut Scene<'_>, wishes: &mut Vec<Wish>);
}

/// What is spoken on a connection, bytes in and bytes out.
pub trait Protocol: 'static {
    /// What the other side says.
    type Said<'a>;

    /// Where it is spoken.
    fn door(&self) -> Door;
    /// Whether the other side has let it in.
    fn is_greeted(&self) -> bool;
    /// Begins anew, for another connection.
    fn restart(&mut self);
    /// Bytes to send.
    fn take_output(&mut self) -> Vec<u8>;
    /// Takes bytes. False if they were none of the protocol's.
    fn feed(&mut self, bytes: &[u8], on_said: &mut dyn FnMut(Self::Said<'_>)) -> bool;
}

impl Protocol for ClientSession {
    type Said<'a> = Message<'a>;

    fn door(&self) -> Door {
        Door::Binary
    }

    fn is_greeted(&self) -> bool {
        self.server().is_some()
    }

    fn restart(&mut self) {
        *self = new_session();
    }

    fn take_output(&mut self) -> Vec<u8> {
        ClientSession::take_output(self, Vec::new())
    }

    fn feed(&mut self, bytes: &[u8], on_said: &mut dyn FnMut(Message<'_>)) -> bool {
        let fed = ClientSession::feed(self, bytes, &mut |message| match message {
            Message::Hello(_) => {}
            message => on_said(message),
        });
        fed.is_ok()
    }
}

/// How far a connection has come.
#[derive(Debug)]
enum State {
    Apart,
    Connecting,
    Greeting,
    Open,
}

/// The line of a client to a member.
#[derive(Debug)]
pub struct Line<P = ClientSession> {
    state: State,
    speech: P,
    /// Number of the connection.
    pub number: u64,
    since_us: u64,
}

impl Default for Line {
    fn default() -> Line {
        Line::new(new_session())
    }
}

impl<P: Protocol> Line<P> {
    /// A line that is not there yet.
    pub fn new(speech: P) -> Line<P> {
        Line { state: State::Apart, speech, number: 0, since_us: 0 }
    }

    /// Whether requests may be made.
    pub fn is_open(&self) -> bool {
        matches!(self.state, State::Open)
    }

    /// Whether there is nothing and nothing is wished for.
    pub fn is_apart(&self) -> bool {
        matches!(self.state, State::Apart)
    }

    /// Whether it has not opened in a long time.
    pub fn is_overdue(&self, now_us: u64) -> bool {
        !self.is_open() && !self.is_apart() && self.since_us + GREETING_US_MAX < now_us
    }

    /// Wishes for a connection.
    pub fn connect(&mut self, member: usize, now_us: u64, wishes: &mut Vec<Wish>) {
        assert!(self.is_apart());
        self.state = State::Connecting;
        self.since_us = now_us;
        wishes.push(Wish::Connect(member, self.speech.door()));
    }

    /// It is there: the greeting goes out.
    pub fn on_connected(&mut self, number: u64, wishes: &mut Vec<Wish>) {
        self.state = State::Greeting;
        self.number = number;
        self.speech.restart();
        self.flush(wishes);
    }

    /// It is gone.
    pub fn on_broken(&mut self) {
        self.state = State::Apart;
    }

    /// Gives it up.
    pub fn hang_up(&mut self, wishes: &mut Vec<Wish>) {
        self.state = State::Apart;
        wishes.push(Wish::HangUp);
    }

    /// The protocol.
    pub fn speech(&mut self) -> &mut P {
        &mut self.speech
    }

    /// What the protocol has to say goes out.
    pub fn flush(&mut self, wishes: &mut Vec<Wish>) {
        let bytes = self.speech.take_output();
        if !bytes.is_empty() {
            wishes.push(Wish::Send(bytes));
        }
    }

    /// Takes bytes. False if they were none of the protocol's: the connection is of no more use,
    /// which a client may see only where the network loses bytes.
    pub fn feed(&mut self, bytes: &[u8], on_said: &mut dyn FnMut(P::Said<'_>)) -> bool {
        let is_right = self.speech.feed(bytes, on_said);
        if self.speech.is_greeted() && matches!(self.state, State::Greeting) {
            self.state = State::Open;
        }
        is_right
    }
}

/// A time in the near future, to try again.
pub fn soon_us(now_us: u64, random: &mut Random) -> u64 {
    now_us + random.between(5_000, 100_000)
}

/// A connection that has not opened after this long is given up.
const GREETING_US_MAX: u64 = 3_000_000;
