//! Dials: a URL becomes a connected socket, or a reason why not, without blocking the core.
//!
//! An IP address is connected to directly, `localhost` by both of its addresses, any other name is
//! resolved on a thread of its own. The addresses of a name are tried in turn, each for an equal
//! share of the time that is left, so that one which never answers does not use up all of it.
//! Invariants: every dial is answered exactly once, by `DIAL_TIMEOUT_US` after it was asked for; a
//! number in the event loop belongs to one socket and is never used again; lookups and dials under
//! way are bounded, and what is beyond the bound fails at once.
//! Source: connect(2), EINPROGRESS; getaddrinfo(3), which knows no time-out.

use std::{
    collections::{BTreeSet, VecDeque},
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs},
    os::fd::OwnedFd,
};

use crossbeam::channel::{Receiver, Sender, bounded};
use rustix::event::epoll::{self, EventData, EventFlags};
use shard::{
    input::{DialFailure, DialId, Input},
    limits::DIAL_TIMEOUT_US,
};
use socket2::{Domain, SockAddr, Socket, Type};

use super::waker::Waker;

/// The dials of one core.
#[derive(Debug)]
pub struct Dialer {
    dials: Vec<Dial>,
    /// Numbers the sockets in the event loop.
    sockets: u64,
    /// Names that a thread is resolving.
    lookups: BTreeSet<(String, u16)>,
    answers: Receiver<Lookup>,
    answer: Sender<Lookup>,
    waker: Waker,
    /// To be told at the next step.
    failed: Vec<Input>,
}

/// One dial under way.
#[derive(Debug)]
struct Dial {
    id: DialId,
    deadline_us: u64,
    stage: Stage,
    /// One of its addresses refused.
    was_refused: bool,
    /// One of its addresses gave no answer, or cannot be reached.
    was_silent: bool,
}

#[derive(Debug)]
enum Stage {
    /// Waits for the lookup of this name and port.
    Resolving((String, u16)),
    Connecting(Attempt),
    /// No address is left.
    Exhausted,
}

/// A connection being made, and what is left to try after it.
#[derive(Debug)]
struct Attempt {
    key: u64,
    socket: Socket,
    until_us: u64,
    rest: VecDeque<SockAddr>,
}

/// What a lookup found.
#[derive(Debug)]
struct Lookup {
    name: (String, u16),
    addresses: Vec<SockAddr>,
}

/// Where a URL leads.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Target {
    Addresses(Vec<SockAddr>),
    Name(String, u16),
}

/// A socket that is connected, for this dial.
#[derive(Debug)]
pub struct Connected {
    /// Whose.
    pub dial: DialId,
    /// Not blocking, in no event loop.
    pub socket: Socket,
}

impl Dialer {
    /// Without dials. The waker is that of the core.
    pub fn new(waker: Waker) -> Dialer {
        let (answer, answers) = bounded(LOOKUPS_MAX);
        Dialer {
            dials: Vec::new(),
            sockets: 0,
            lookups: BTreeSet::new(),
            answers,
            answer,
            waker,
            failed: Vec::new(),
        }
    }

    /// Begins a dial. Connected at once is told as later.
    pub fn dial(
        &mut self,
        epoll: &OwnedFd,
        id: DialId,
        url: &str,
        now_us: u64,
    ) -> Option<Connected> {
        let target = target_of(url).filter(|_| self.dials.len() < DIALS_MAX);
        let deadline_us = now_us + DIAL_TIMEOUT_US;
        let begun = |stage| Dial { id, deadline_us, stage, was_refused: false, was_silent: false };
        match target {
            Some(Target::Addresses(addresses)) => {
                let mut dial = begun(Stage::Exhausted);
                let connected = self.try_next(epoll, &mut dial, addresses.into(), now_us);
                if connected.is_none() {
                    self.keep(dial);
                }
                connected
            }
            Some(Target::Name(name, port)) if self.look_up(&(name.clone(), port)) => {
                self.dials.push(begun(Stage::Resolving((name, port))));
                None
            }
            _ => {
                let failure = DialFailure::Unreachable;
                self.failed.push(Input::DialFailed { dial: id, failure });
                None
            }
        }
    }

    /// Keeps a dial that has something under way, or tells that it failed.
    fn keep(&mut self, dial: Dial) {
        match dial.stage {
            Stage::Resolving(_) | Stage::Connecting(_) => self.dials.push(dial),
            Stage::Exhausted => self.fail(&dial),
        }
    }

    fn fail(&mut self, dial: &Dial) {
        // A refusal counts only when nothing else may still listen there: an address that gave no
        // answer may be the one of a living process.
        let failure = if dial.was_refused && !dial.was_silent {
            DialFailure::Refused
        } else {
            DialFailure::Unreachable
        };
        self.failed.push(Input::DialFailed { dial: dial.id, failure });
    }

    /// Starts a thread for the lookup of a name, unless one runs; false when there are too many.
    fn look_up(&mut self, name: &(String, u16)) -> bool {
        if self.lookups.contains(name) {
            return true;
        }
        if LOOKUPS_MAX <= self.lookups.len() {
            return false;
        }
        let (answer, waker, asked) = (self.answer.clone(), self.waker.clone(), name.clone());
        let started = std::thread::Builder::new().name("lookup".to_owned()).spawn(move || {
            let addresses = addresses_of(&asked.0, asked.1);
            // Room for each lookup under way; without the core nobody wants the answer.
            if answer.try_send(Lookup { name: asked, addresses }).is_ok() {
                waker.wake();
            }
        });
        if started.is_ok() {
            self.lookups.insert(name.clone());
        }
        started.is_ok()
    }

    /// Whether no lookup has answered.
    pub fn is_quiet(&self) -> bool {
        self.answers.is_empty()
    }

    /// Whether there is something to tell at once.
    pub fn has_inputs(&self) -> bool {
        !self.failed.is_empty()
    }

    /// When a dial gives up an address, at the earliest.
    pub fn deadline_us(&self) -> Option<u64> {
        let due = |dial: &Dial| match &dial.stage {
            Stage::Resolving(_) | Stage::Exhausted => dial.deadline_us,
            Stage::Connecting(attempt) => attempt.until_us.min(dial.deadline_us),
        };
        self.dials.iter().map(due).min()
    }

    /// Goes on with what has been looked up and gives up what took too long; failures become
    /// inputs.
    pub fn gather(
        &mut self,
        epoll: &OwnedFd,
        now_us: u64,
        inputs: &mut Vec<Input>,
    ) -> Vec<Connected> {
        let mut connected = Vec::new();
        while let Ok(lookup) = self.answers.try_recv() {
            self.lookups.remove(&lookup.name);
            for slot in (0..self.dials.len()).rev() {
                let Stage::Resolving(name) = &self.dials[slot].stage else { continue };
                if *name == lookup.name {
                    let addresses = lookup.addresses.iter().cloned().collect();
                    connected.extend(self.go_on(epoll, slot, addresses, now_us));
                }
            }
        }
        if self.deadline_us().is_some_and(|at_us| at_us <= now_us) {
            connected.append(&mut self.give_up(epoll, now_us));
        }
        inputs.append(&mut self.failed);
        connected
    }

    fn give_up(&mut self, epoll: &OwnedFd, now_us: u64) -> Vec<Connected> {
        let mut connected = Vec::new();
        for slot in (0..self.dials.len()).rev() {
            let dial = &mut self.dials[slot];
            if dial.deadline_us <= now_us {
                let mut dial = self.dials.remove(slot);
                dial.was_silent = true;
                self.fail(&dial);
                continue;
            }
            let Stage::Connecting(attempt) = &mut dial.stage else { continue };
            if attempt.until_us <= now_us {
                let rest = std::mem::take(&mut attempt.rest);
                dial.was_silent = true;
                connected.extend(self.go_on(epoll, slot, rest, now_us));
            }
        }
        connected
    }

    /// The socket of this key is ready: connected, or refused.
    pub fn on_ready(&mut self, epoll: &OwnedFd, key: u64, now_us: u64) -> Option<Connected> {
        let slot = self.dials.iter().position(|dial| match &dial.stage {
            Stage::Connecting(attempt) => attempt.key == key,
            Stage::Resolving(_) | Stage::Exhausted => false,
        })?;
        let dial = &mut self.dials[slot];
        let Stage::Connecting(attempt) = &mut dial.stage else { return None };
        let outcome = attempt.socket.take_error().and_then(|error| match error {
            Some(error) => Err(error),
            None => check_other_end(&attempt.socket),
        });
        let rest = std::mem::take(&mut attempt.rest);
        match outcome {
            Ok(()) => {
                let dial = self.dials.remove(slot);
                let Stage::Connecting(attempt) = dial.stage else { return None };
                // The connection registers it under its own number.
                let _ = epoll::delete(epoll, &attempt.socket);
                Some(Connected { dial: dial.id, socket: attempt.socket })
            }
            Err(error) => {
                note(dial, &error);
                self.go_on(epoll, slot, rest, now_us)
            }
        }
    }

    /// Tries the next of the addresses for the dial in this slot.
    fn go_on(
        &mut self,
        epoll: &OwnedFd,
        slot: usize,
        addresses: VecDeque<SockAddr>,
        now_us: u64,
    ) -> Option<Connected> {
        let mut dial = self.dials.remove(slot);
        // Dropping the socket takes it out of the event loop.
        dial.stage = Stage::Exhausted;
        let connected = self.try_next(epoll, &mut dial, addresses, now_us);
        if connected.is_none() {
            self.keep(dial);
        }
        connected
    }

    /// Begins a connection to the first address that takes one. Afterwards the dial is
    /// `Connecting` or `Exhausted`.
    fn try_next(
        &mut self,
        epoll: &OwnedFd,
        dial: &mut Dial,
        mut addresses: VecDeque<SockAddr>,
        now_us: u64,
    ) -> Option<Connected> {
        while let Some(address) = addresses.pop_front() {
            let left_us = dial.deadline_us.saturating_sub(now_us);
            let share_us = left_us / (addresses.len() as u64 + 1);
            let begun = begin(&address).and_then(|(socket, is_connected)| {
                self.sockets += 1;
                let key = KEY_FIRST + self.sockets;
                if !is_connected {
                    let data = EventData::new_u64(key);
                    epoll::add(epoll, &socket, data, EventFlags::OUT)?;
                }
                Ok((socket, key, is_connected))
            });
            match begun {
                Ok((socket, _, true)) => return Some(Connected { dial: dial.id, socket }),
                Ok((socket, key, false)) => {
                    let until_us = now_us + share_us;
                    dial.stage =
                        Stage::Connecting(Attempt { key, socket, until_us, rest: addresses });
                    return None;
                }
                Err(error) => note(dial, &error),
            }
        }
        None
    }
}

/// Remembers why an address came to nothing.
fn note(dial: &mut Dial, error: &io::Error) {
    match error.raw_os_error() {
        // A socket file without a listener refuses, and one that is gone has none either.
        Some(libc::ECONNREFUSED) => dial.was_refused = true,
        Some(libc::ENOENT) => dial.was_refused = true,
        // This machine has no such kind of address: nobody can listen there.
        Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL) => {}
        _ => dial.was_silent = true,
    }
}

/// Begins to connect; says whether it is done already.
fn begin(address: &SockAddr) -> io::Result<(Socket, bool)> {
    let domain = Domain::from(i32::from(address.family()));
    let socket = Socket::new(domain, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    if domain != Domain::UNIX {
        socket.set_tcp_nodelay(true)?;
    }
    match socket.connect(address) {
        Ok(()) => check_other_end(&socket).map(|()| (socket, true)),
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => Ok((socket, false)),
        Err(error) => Err(error),
    }
}

/// A port of this machine on which nobody listens may be the very one the kernel chose for our
/// end; TCP then connects the socket to itself. That is nobody's listener.
fn check_other_end(socket: &Socket) -> io::Result<()> {
    let (here, there) = (socket.local_addr()?, socket.peer_addr()?);
    if here.as_socket().is_some() && here.as_socket() == there.as_socket() {
        return Err(io::Error::from_raw_os_error(libc::ECONNREFUSED));
    }
    Ok(())
}

/// All addresses of a URL; may wait for its name to be resolved.
pub fn resolve(url: &str) -> Vec<SockAddr> {
    match target_of(url) {
        Some(Target::Addresses(addresses)) => addresses,
        Some(Target::Name(name, port)) => addresses_of(&name, port),
        None => Vec::new(),
    }
}

/// A name that is not found has no addresses.
fn addresses_of(name: &str, port: u16) -> Vec<SockAddr> {
    (name, port).to_socket_addrs().map(|all| all.map(SockAddr::from).collect()).unwrap_or_default()
}

/// Where a URL leads; `None` when it leads nowhere.
fn target_of(url: &str) -> Option<Target> {
    if let Some(path) = url.strip_prefix("unix://") {
        return SockAddr::unix(path).ok().map(|address| Target::Addresses(vec![address]));
    }
    let rest = url.strip_prefix("http://")?;
    let (host, port) = rest.strip_suffix('/').unwrap_or(rest).rsplit_once(':')?;
    let port = port.parse().ok()?;
    let at = |ip: IpAddr| SockAddr::from(SocketAddr::new(ip, port));
    let bare = host.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(host);
    if bare == "localhost" {
        let both = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        return Some(Target::Addresses(both.map(at).into()));
    }
    if let Ok(ip) = bare.parse() {
        return Some(Target::Addresses(vec![at(ip)]));
    }
    (!host.is_empty()).then(|| Target::Name(host.to_owned(), port))
}

/// Keys of dialed sockets in the event loop begin here, below those of listeners; numbers of
/// connections are below.
pub const KEY_FIRST: u64 = 1 << 62;
/// Dials under way at once: peers are few, and each has one dial for each of its purposes.
const DIALS_MAX: usize = 128;
/// Names being resolved at once.
const LOOKUPS_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(url: &str) -> Vec<String> {
        match target_of(url) {
            Some(Target::Addresses(list)) => {
                list.iter().map(|address| address.as_socket().unwrap().to_string()).collect()
            }
            other => panic!("{url}: {other:?}"),
        }
    }

    #[test]
    fn urls_lead_to_addresses_or_names() {
        assert_eq!(addresses("http://10.0.0.1:2380"), ["10.0.0.1:2380"]);
        assert_eq!(addresses("http://[::1]:2380/"), ["[::1]:2380"]);
        assert_eq!(addresses("http://localhost:1"), ["127.0.0.1:1", "[::1]:1"]);
        let name = Target::Name("m0.example".to_owned(), 2380);
        assert_eq!(target_of("http://m0.example:2380"), Some(name));
        for url in ["https://1.2.3.4:1", "http://1.2.3.4", "http://1.2.3.4:99999", "", "http://:1"]
        {
            assert_eq!(target_of(url), None, "{url}");
        }
    }

    #[test]
    fn dials_beyond_the_bound_fail_at_once() {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
        let mut dialer = Dialer::new(Waker::new().unwrap());
        // Nothing is gathered meanwhile, so lookups stay under way however fast they are.
        for n in 0..LOOKUPS_MAX as u64 {
            let url = format!("http://m{n}.invalid:1");
            assert!(dialer.dial(&epoll, DialId(n), &url, 0).is_none());
        }
        assert!(!dialer.has_inputs());
        dialer.dial(&epoll, DialId(99), "http://one-too-many.invalid:1", 0);
        let mut inputs = std::mem::take(&mut dialer.failed);
        assert!(matches!(
            inputs.pop(),
            Some(Input::DialFailed { dial: DialId(99), failure: DialFailure::Unreachable })
        ));
        // A second dial of a name joins the lookup that runs, until there are too many dials.
        for n in LOOKUPS_MAX..DIALS_MAX {
            dialer.dial(&epoll, DialId(n as u64), "http://m0.invalid:1", 0);
        }
        assert!(!dialer.has_inputs());
        dialer.dial(&epoll, DialId(1000), "http://m0.invalid:1", 0);
        assert!(dialer.has_inputs());
        // All are answered by the deadline, each once.
        dialer.gather(&epoll, DIAL_TIMEOUT_US, &mut inputs);
        assert_eq!(inputs.len(), DIALS_MAX + 1);
        assert_eq!(dialer.deadline_us(), None);
    }
}
