//! A client's side of a connection in the world, and what a client may wish for.
//!
//! Invariant: what a client does is a function of what it was told and its own randomness.

use net::wire::{ClientHello, ClientSession, ClusterMember, Message};

use super::coverage::Coverage;
use super::random::Random;
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
    /// A connection to this member.
    Connect(usize),
    /// A connection to the peer port of this member.
    ConnectToPeersPort(usize),
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
pub struct Line {
    state: State,
    session: ClientSession,
    /// Number of the connection.
    pub number: u64,
    since_us: u64,
}

impl Default for Line {
    fn default() -> Line {
        Line { state: State::Apart, session: new_session(), number: 0, since_us: 0 }
    }
}

fn new_session() -> ClientSession {
    ClientSession::new(&ClientHello { client: "simulated", ..ClientHello::default() })
}

impl Line {
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
        wishes.push(Wish::Connect(member));
    }

    /// It is there: hello goes out.
    pub fn on_connected(&mut self, number: u64, wishes: &mut Vec<Wish>) {
        self.state = State::Greeting;
        self.number = number;
        self.session = new_session();
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
    pub fn session(&mut self) -> &mut ClientSession {
        &mut self.session
    }

    /// What the protocol has to say goes out.
    pub fn flush(&mut self, wishes: &mut Vec<Wish>) {
        let bytes = self.session.take_output(Vec::new());
        if !bytes.is_empty() {
            wishes.push(Wish::Send(bytes));
        }
    }

    /// Takes bytes. False if they were none of the protocol's: the connection is of no more use,
    /// which a client may see only where the network loses bytes.
    pub fn feed(&mut self, bytes: &[u8], on_message: &mut impl FnMut(Message<'_>)) -> bool {
        let mut is_greeted = false;
        let fed = self.session.feed(bytes, &mut |message| match message {
            Message::Hello(_) => is_greeted = true,
            message => on_message(message),
        });
        if is_greeted {
            self.state = State::Open;
        }
        fed.is_ok()
    }
}

/// A time in the near future, to try again.
pub fn soon_us(now_us: u64, random: &mut Random) -> u64 {
    now_us + random.between(5_000, 100_000)
}

/// A connection that has not opened after this long is given up.
const GREETING_US_MAX: u64 = 3_000_000;
