//! Connections of a simulated network: TCP as seen by those who use it.
//!
//! Fault model: within a connection bytes come in order or the connection breaks; between
//! connections everything is reordered by its own delays. A cut between two hosts, one way or both,
//! holds what is on its way; it goes on when healed, unless the connection broke meanwhile. A
//! connection may break anywhere in a frame, and (a broken middle box) bytes may be cut out of it.
//! Invariant: what an end transmitted is unsent, in flight, or delivered, in this order; bytes in
//! flight of one direction are bounded as a socket's buffers are.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use shard::input::ConnectionId;

use super::queue::{Happening, Queue};
use super::random::Random;

/// A connection, numbered by the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LinkId(pub u64);

/// Who has an end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Host {
    Member(usize),
    Client(usize),
}

/// One end: its host, and the number of the connection there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct End {
    pub host: Host,
    pub connection: ConnectionId,
}

/// Bytes of one direction.
#[derive(Debug, Default)]
struct Pipe {
    unsent: VecDeque<Vec<u8>>,
    unsent_bytes: usize,
    flight: VecDeque<(u64, Vec<u8>)>,
    flight_bytes: usize,
    last_us: u64,
    /// The receiver does not read.
    is_paused: bool,
    /// The sender closes when all is sent.
    is_closing: bool,
    /// No bytes are lost in its middle.
    is_spared: bool,
}

#[derive(Debug)]
struct Link {
    ends: [End; 2],
    /// By the sending end.
    pipes: [Pipe; 2],
}

/// How bytes travel.
#[derive(Clone, Debug)]
pub struct Travel {
    /// Least time of a way, microseconds.
    pub latency_us: u64,
    /// What is added at most, each time.
    pub jitter_us: u64,
    /// So many of a thousand pieces are late by up to `spike_us`.
    pub spike_permille: u64,
    /// See `spike_permille`.
    pub spike_us: u64,
    /// Bytes of a direction per millisecond; 0 is without bound.
    pub rate_bytes_per_ms: u64,
    /// So many of a million pieces lose bytes in their middle.
    pub excise_per_million: u64,
}

impl Travel {
    /// How long a way takes this time.
    fn draw_us(&self, random: &mut Random) -> u64 {
        let jitter_us = random.between(0, self.jitter_us + 1);
        let is_late = random.chance(self.spike_permille);
        let spike_us = if is_late { random.between(0, self.spike_us + 1) } else { 0 };
        self.latency_us + jitter_us + spike_us
    }
}

/// See the file's head.
#[derive(Debug)]
pub struct Network {
    links: BTreeMap<LinkId, Link>,
    next_link: u64,
    cuts: BTreeMap<u64, (Host, Host)>,
    next_cut: u64,
    /// How bytes travel now.
    pub travel: Travel,
    random: Random,
}

/// Bytes that arrived at an end.
#[derive(Debug)]
pub struct Arrival {
    /// Where.
    pub end: End,
    /// What.
    pub bytes: Vec<u8>,
}

impl Network {
    /// A network without connections.
    pub fn new(travel: Travel, random: Random) -> Network {
        Network {
            links: BTreeMap::new(),
            next_link: 1,
            cuts: BTreeMap::new(),
            next_cut: 1,
            travel,
            random,
        }
    }

    /// A new connection between two ends.
    pub fn connect(&mut self, ends: [End; 2]) -> LinkId {
        let link = LinkId(self.next_link);
        self.next_link += 1;
        self.links.insert(link, Link { ends, pipes: [Pipe::default(), Pipe::default()] });
        link
    }

    /// From now on bytes of a connection arrive whole, or it breaks.
    pub fn spare(&mut self, link: LinkId) {
        let state = self.links.get_mut(&link).expect("it was just made");
        state.pipes.iter_mut().for_each(|pipe| pipe.is_spared = true);
    }

    /// How long a way takes now.
    pub fn latency_us(&mut self) -> u64 {
        self.travel.draw_us(&mut self.random)
    }

    /// Whether nothing gets from one host to another.
    pub fn is_cut(&self, from: Host, to: Host) -> bool {
        self.cuts.values().any(|cut| *cut == (from, to))
    }

    /// From now on nothing gets from one host to the other.
    pub fn cut(&mut self, from: Host, to: Host) -> u64 {
        let cut = self.next_cut;
        self.next_cut += 1;
        self.cuts.insert(cut, (from, to));
        cut
    }

    /// A cut ends: what was held goes on.
    pub fn heal(&mut self, cut: u64, now_us: u64, queue: &mut Queue) {
        if self.cuts.remove(&cut).is_none() {
            return;
        }
        for (link, state) in &self.links {
            for (from_end, pipe) in state.pipes.iter().enumerate() {
                if !pipe.flight.is_empty() {
                    let arrives = Happening::Arrives { link: *link, from_end };
                    queue.push(now_us + self.travel.latency_us, arrives);
                }
            }
        }
    }

    /// All cuts end.
    pub fn heal_all(&mut self, now_us: u64, queue: &mut Queue) {
        let cuts: Vec<u64> = self.cuts.keys().copied().collect();
        for cut in cuts {
            self.heal(cut, now_us, queue);
        }
    }

    /// Whatever made bytes late is over: what is on its way arrives within the latency of a way,
    /// in its order. Without this a backlog of a throttled direction would come long after the
    /// faults have ended, as no router's queue of some seconds would.
    pub fn hurry(&mut self, now_us: u64, queue: &mut Queue) {
        let soon_us = now_us + self.travel.latency_us;
        for (link, state) in &mut self.links {
            for (from_end, pipe) in state.pipes.iter_mut().enumerate() {
                pipe.last_us = pipe.last_us.min(soon_us);
                for (at_us, _) in &mut pipe.flight {
                    *at_us = (*at_us).min(soon_us);
                }
                if !pipe.flight.is_empty() {
                    queue.push(soon_us, Happening::Arrives { link: *link, from_end });
                }
            }
        }
    }

    /// The two ends of a connection that is still there.
    pub fn ends(&self, link: LinkId) -> Option<[End; 2]> {
        self.links.get(&link).map(|state| state.ends)
    }

    /// Connections that a host has an end of.
    pub fn links_of(&self, host: Host) -> Vec<LinkId> {
        let is_of = |state: &Link| state.ends.iter().any(|end| end.host == host);
        self.links.iter().filter(|(_, state)| is_of(state)).map(|(link, _)| *link).collect()
    }

    /// Connections between two hosts.
    pub fn links_between(&self, one: Host, other: Host) -> Vec<LinkId> {
        let hosts = BTreeSet::from([one, other]);
        let is_between = |state: &Link| BTreeSet::from(state.ends.map(|end| end.host)) == hosts;
        self.links.iter().filter(|(_, state)| is_between(state)).map(|(link, _)| *link).collect()
    }

    /// All connections.
    pub fn links(&self) -> Vec<LinkId> {
        self.links.keys().copied().collect()
    }

    /// An end sends bytes. Answers how many the socket took now.
    pub fn transmit(
        &mut self,
        link: LinkId,
        end: usize,
        bytes: Vec<u8>,
        now_us: u64,
        queue: &mut Queue,
    ) -> usize {
        let Some(state) = self.links.get_mut(&link) else { return bytes.len() };
        let pipe = &mut state.pipes[end];
        pipe.unsent_bytes += bytes.len();
        pipe.unsent.push_back(bytes);
        self.pump(link, end, now_us, queue)
    }

    /// Bytes that an end transmitted and the socket did not take.
    pub fn unsent_bytes(&self, link: LinkId, end: usize) -> usize {
        self.links.get(&link).map_or(0, |state| state.pipes[end].unsent_bytes)
    }

    /// An end reads no more, or again.
    pub fn pause(
        &mut self,
        link: LinkId,
        end: usize,
        is_paused: bool,
        now_us: u64,
        queue: &mut Queue,
    ) {
        let Some(state) = self.links.get_mut(&link) else { return };
        state.pipes[1 - end].is_paused = is_paused;
        if !is_paused {
            queue.push(now_us, Happening::Arrives { link, from_end: 1 - end });
        }
    }

    /// An end closes once everything is sent. True if that is so already.
    pub fn close(&mut self, link: LinkId, end: usize) -> bool {
        let Some(state) = self.links.get_mut(&link) else { return true };
        state.pipes[end].is_closing = true;
        state.pipes[end].unsent_bytes == 0
    }

    /// When the last of what an end's socket took has arrived.
    pub fn last_us(&self, link: LinkId, end: usize) -> u64 {
        self.links.get(&link).map_or(0, |state| state.pipes[end].last_us)
    }

    /// Whether an end waits for its unsent bytes to close.
    pub fn is_closing(&self, link: LinkId, end: usize) -> bool {
        self.links.get(&link).is_some_and(|state| state.pipes[end].is_closing)
    }

    /// The connection is gone; what was on its way is lost. Its two ends, if it was there.
    pub fn remove(&mut self, link: LinkId) -> Option<[End; 2]> {
        self.links.remove(&link).map(|state| state.ends)
    }

    /// Puts what has come out of one direction by now into `arrivals`. Answers how many bytes the
    /// sender's socket took for the room this made.
    pub fn arrive(
        &mut self,
        link: LinkId,
        from_end: usize,
        now_us: u64,
        arrivals: &mut Vec<Arrival>,
        queue: &mut Queue,
    ) -> usize {
        let Some(state) = self.links.get(&link) else { return 0 };
        let [from, to] = [state.ends[from_end], state.ends[1 - from_end]];
        if self.is_cut(from.host, to.host) {
            return 0;
        }
        let pipe = &mut self.links.get_mut(&link).expect("seen above").pipes[from_end];
        while !pipe.is_paused
            && pipe.flight.front().is_some_and(|(at_us, _)| *at_us <= now_us)
            && let Some((_, bytes)) = pipe.flight.pop_front()
        {
            pipe.flight_bytes -= bytes.len();
            arrivals.push(Arrival { end: to, bytes });
        }
        self.pump(link, from_end, now_us, queue)
    }

    /// Fills the socket from what is unsent.
    fn pump(&mut self, link: LinkId, end: usize, now_us: u64, queue: &mut Queue) -> usize {
        let Network { links, travel, random, .. } = self;
        let pipe = &mut links.get_mut(&link).expect("the caller has it").pipes[end];
        let mut taken = 0;
        while pipe.flight_bytes < SOCKET_BYTES_MAX
            && let Some(mut bytes) = pipe.unsent.pop_front()
        {
            let size = bytes.len().min(PIECE_BYTES_MAX);
            if size < bytes.len() {
                let rest = bytes.split_off(size);
                pipe.unsent.push_front(rest);
            }
            pipe.unsent_bytes -= size;
            taken += size;
            let mut at_us = (now_us + travel.draw_us(random)).max(pipe.last_us);
            if let Some(slow_us) = (size as u64 * 1_000).checked_div(travel.rate_bytes_per_ms) {
                at_us += slow_us;
            }
            pipe.last_us = at_us;
            let is_struck = random.between(0, 1_000_000) < travel.excise_per_million;
            if is_struck && 1 < size && !pipe.is_spared {
                let from = random.slot(size);
                let to = (from + 1 + random.slot(64)).min(size);
                bytes.drain(from..to);
            }
            pipe.flight_bytes += bytes.len();
            if !bytes.is_empty() {
                pipe.flight.push_back((at_us, bytes));
                queue.push(at_us, Happening::Arrives { link, from_end: end });
            }
        }
        taken
    }
}

/// What a socket takes of bytes that the other side has not read.
const SOCKET_BYTES_MAX: usize = 256 << 10;
/// Bytes that arrive at once.
const PIECE_BYTES_MAX: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn travel() -> Travel {
        Travel {
            latency_us: 100,
            jitter_us: 50,
            spike_permille: 0,
            spike_us: 0,
            rate_bytes_per_ms: 0,
            excise_per_million: 0,
        }
    }

    fn pair(travel: Travel) -> (Network, LinkId, Queue) {
        let mut network = Network::new(travel, Random::new(1));
        let end = |host, number| End { host, connection: ConnectionId(number) };
        let link = network.connect([end(Host::Member(0), 1), end(Host::Member(1), 2)]);
        (network, link, Queue::default())
    }

    /// Lets everything happen; the bytes that came out of end 0's direction.
    fn drain(network: &mut Network, queue: &mut Queue) -> Vec<u8> {
        let mut bytes = Vec::new();
        while let Some((at_us, happening)) = queue.pop() {
            let Happening::Arrives { link, from_end } = happening else { panic!() };
            let mut arrivals = Vec::new();
            network.arrive(link, from_end, at_us, &mut arrivals, queue);
            for arrival in arrivals {
                bytes.extend(arrival.bytes);
            }
        }
        bytes
    }

    #[test]
    fn bytes_come_in_order_and_within_the_sockets_bound() {
        let (mut network, link, mut queue) = pair(travel());
        let sent: Vec<u8> = (0..1 << 20).map(|n: u32| (n / 1000) as u8).collect();
        let taken = network.transmit(link, 0, sent.clone(), 0, &mut queue);
        assert!(taken < sent.len(), "the socket is full");
        assert_eq!(network.unsent_bytes(link, 0), sent.len() - taken);
        assert_eq!(drain(&mut network, &mut queue), sent);
        assert_eq!(network.unsent_bytes(link, 0), 0);
    }

    #[test]
    fn a_cut_holds_bytes_one_way() {
        let (mut network, link, mut queue) = pair(travel());
        let cut = network.cut(Host::Member(0), Host::Member(1));
        network.transmit(link, 0, vec![1; 10], 0, &mut queue);
        network.transmit(link, 1, vec![2; 10], 0, &mut queue);
        assert_eq!(drain(&mut network, &mut queue), [2; 10]);
        network.heal(cut, 5_000, &mut queue);
        assert_eq!(drain(&mut network, &mut queue), [1; 10]);
    }

    #[test]
    fn who_does_not_read_gets_nothing_until_it_does() {
        let (mut network, link, mut queue) = pair(travel());
        network.pause(link, 1, true, 0, &mut queue);
        network.transmit(link, 0, vec![1; 10], 0, &mut queue);
        assert!(drain(&mut network, &mut queue).is_empty());
        network.pause(link, 1, false, 9_000, &mut queue);
        assert_eq!(drain(&mut network, &mut queue), [1; 10]);
    }

    #[test]
    fn a_backlog_arrives_at_once_when_the_throttle_is_gone() {
        let (mut network, link, mut queue) = pair(Travel { rate_bytes_per_ms: 1, ..travel() });
        let sent: Vec<u8> = (0..200_000).map(|n: u32| (n / 1000) as u8).collect();
        network.transmit(link, 0, sent.clone(), 0, &mut queue);
        assert!(60_000_000 < network.last_us(link, 0), "it would take minutes");
        network.travel.rate_bytes_per_ms = 0;
        network.hurry(5_000, &mut queue);
        assert!(network.last_us(link, 0) <= 5_000 + network.travel.latency_us);
        let mut bytes = Vec::new();
        while let Some((at_us, happening)) = queue.pop()
            && at_us <= 5_000 + 2 * network.travel.latency_us
        {
            let Happening::Arrives { link, from_end } = happening else { panic!() };
            let mut arrivals = Vec::new();
            network.arrive(link, from_end, at_us, &mut arrivals, &mut queue);
            bytes.extend(arrivals.into_iter().flat_map(|arrival| arrival.bytes));
        }
        assert_eq!(bytes, sent, "in its order");
    }

    #[test]
    fn bytes_can_be_cut_out_and_connections_end() {
        let (mut network, link, mut queue) =
            pair(Travel { excise_per_million: 1_000_000, ..travel() });
        network.transmit(link, 0, vec![1; 1000], 0, &mut queue);
        assert!(drain(&mut network, &mut queue).len() < 1000);
        assert!(network.remove(link).is_some());
        assert_eq!(network.transmit(link, 0, vec![1; 10], 0, &mut queue), 10);
        assert!(drain(&mut network, &mut queue).is_empty());
        assert!(network.links_of(Host::Member(0)).is_empty());
    }
}
