//! A cluster in a simulated world: time, members, network, disks, clients, faults.
//!
//! Invariants: everything that happens is taken from one queue, in its order; nothing else moves
//! time; what is drawn comes from the plan's seed. So a run is a function of (code, plan).
//! What a member asks for is in `submit`, what befalls it in `faults`.

use std::collections::BTreeMap;

use shard::input::{DialFailure, Door, Input};

use super::ambush::Ambush;
use super::clients::{ClientSlot, make_clients};
use super::coverage::Coverage;
use super::network::{Arrival, End, Host, LinkId, Network};
use super::plan::Plan;
use super::process::Member;
use super::queue::{Happening, Queue};
use super::random::Random;
use super::session::{Phase, Wish};
use super::trace::{Level, Trace};
use super::workload::Seen;
use crate::check::bounds::{self, Bound};
use crate::check::log_lines::Excuse;
use crate::check::raft_log::LogBook;
use crate::check::replicas::Checkpoints;
use crate::check::trees::Trees;
use crate::check::{Complaint, History};
use shard::input::ConnectionId;

/// See the file's head.
pub struct World {
    /// What this run is about.
    pub plan: Plan,
    /// Now, microseconds since the beginning.
    pub now_us: u64,
    pub(super) queue: Queue,
    pub(super) network: Network,
    /// The members.
    pub members: Vec<Member>,
    /// Those that are there to be talked to, by slot; in the end those that belong to the cluster.
    pub present: Vec<usize>,
    /// The clients; the first one is the watch of everything.
    pub clients: Vec<ClientSlot>,
    /// All calls.
    pub history: History,
    pub(super) seen: Seen,
    /// What happened.
    pub trace: Trace,
    pub(super) phase: Phase,
    pub(super) random: Random,
    pub(super) complaint: Option<Complaint>,
    pub(super) checkpoints: Checkpoints,
    pub(super) log_book: LogBook,
    /// First and last index of each member's log, when its disk was read last.
    pub(super) log_ends: BTreeMap<usize, (u64, u64)>,
    pub(super) excuses: Vec<Excuse>,
    /// What waits for the next leader.
    pub(super) ambush: Ambush,
    pub(super) next_number: u64,
    /// Reused.
    pub(super) wishes: Vec<Wish>,
    /// Reused.
    arrivals: Vec<Arrival>,
    is_over: bool,
    /// What happened so far.
    pub coverage: Coverage,
    /// The newest interval whose trees were looked at.
    pub(super) verified_interval: u64,
    pub(super) trees: Trees,
    /// Lives of members that began.
    pub starts: u64,
}

impl World {
    /// A world at its beginning.
    pub fn new(plan: Plan, trace: Trace) -> World {
        let mut random = Random::new(plan.seed);
        let members: Vec<Member> =
            (0..plan.members).map(|slot| Member::new(&plan, slot, &mut random)).collect();
        let network = Network::new(plan.travel.clone(), random.fork());
        let clients = make_clients(&plan, &mut random);
        let mut excuses = Vec::new();
        if 0 < plan.travel.excise_per_million {
            excuses.push(Excuse::LostBytes);
        }
        if plan.damages() {
            excuses.push(Excuse::Rot);
        }
        if plan.turnover.is_some() {
            excuses.push(Excuse::Turnover);
        }
        let mut world = World {
            now_us: 0,
            queue: Queue::default(),
            network,
            present: (0..plan.members).collect(),
            members,
            clients,
            history: History::default(),
            seen: Seen::default(),
            trace,
            phase: Phase::Faults,
            random,
            complaint: None,
            checkpoints: Checkpoints::default(),
            log_book: LogBook::default(),
            log_ends: BTreeMap::new(),
            excuses,
            ambush: Ambush::None,
            next_number: 1,
            wishes: Vec::new(),
            arrivals: Vec::new(),
            is_over: false,
            coverage: Coverage::default(),
            verified_interval: 0,
            trees: Trees::default(),
            starts: 0,
            plan,
        };
        for member in 0..world.members.len() {
            let at_us = world.random.between(0, 200_000);
            world.queue.push(at_us, Happening::Starts { member });
        }
        for client in 0..world.clients.len() {
            world.wake_client(client, 1);
        }
        for kind in 0..world.plan.faults.len() {
            world.schedule_fault(kind);
        }
        world.queue.push(world.plan.fault_us, Happening::Phase);
        world
    }

    /// Lets everything happen, to the end or the first complaint.
    ///
    /// # Errors
    /// What a checker saw on the way.
    pub fn run(&mut self) -> Result<(), Complaint> {
        while !self.is_over {
            let (at_us, happening) = self.queue.pop().expect("the last phase ends the world");
            assert!(self.now_us <= at_us, "time does not go back");
            self.now_us = at_us;
            self.happen(at_us, happening);
            if let Some(complaint) = self.complaint.take() {
                return Err(complaint);
            }
        }
        self.read_disks()
    }

    /// Where every member stands, for whoever looks at a complaint.
    pub fn describe(&self) -> String {
        let describe = |(slot, member): (usize, &Member)| {
            let status = member.raft_status();
            let Some(status) = status else { return format!("member {slot} does not run") };
            format!(
                "member {slot} is {:?} of term {}, leader {:x}, log {} to {}, commit {}, \
                 applied {}, on disk {:?}, knows {:x?}",
                status.role,
                status.term.0,
                status.leader.map_or(0, |leader| leader.0),
                status.first.0,
                status.last.index.0,
                status.commit.0,
                status.applied.0,
                self.log_ends.get(&slot),
                status.peers.iter().map(|peer| (peer.id.0, peer.matched.0)).collect::<Vec<_>>()
            )
        };
        let described: Vec<String> = self.members.iter().enumerate().map(describe).collect();
        described.join("; ")
    }

    /// A member that the most advanced one cannot bring up by entries, in the end.
    pub fn left_behind(&self) -> Option<usize> {
        let (first, _) = self.log_ends.values().max_by_key(|(_, last)| *last)?;
        let is_behind = |(slot, (_, last)): &(&usize, &(u64, u64))| {
            self.present.contains(slot) && last + 1 < *first
        };
        self.log_ends.iter().find(is_behind).map(|(slot, _)| *slot)
    }

    /// What checkers that look at single steps have seen.
    pub fn sights(&self) -> (usize, usize) {
        (self.checkpoints.count(), self.log_book.committed_count())
    }

    fn happen(&mut self, at_us: u64, happening: Happening) {
        match happening {
            Happening::Step { member, life, core } => self.step(member, life, core),
            Happening::Crosses { member, life, from, to } => {
                self.end_crossing(member, life, from, to);
            }
            Happening::Arrives { link, from_end } => self.arrive(link, from_end),
            Happening::Breaks { link } => self.break_link(link),
            Happening::CloseEnds { link, end } => {
                if self.network.is_closing(link, end) {
                    self.break_link(link);
                }
            }
            Happening::DialEnds { member, life, dial, url } => {
                self.end_dial(member, life, dial, &url);
            }
            Happening::DialFails { member, life, dial } => {
                let failure = DialFailure::Unreachable;
                self.tell_life(member, life, Input::DialFailed { dial, failure });
            }
            Happening::Client { client } => self.run_client(client),
            Happening::ConnectEnds { client, member, attempt } => {
                self.end_connect(client, member, attempt);
            }
            Happening::PowerGoes { member, life } => {
                if self.members[member].alive(life).is_some() {
                    self.trace
                        .say(Level::Faults, at_us, || format!("power of member {member} goes"));
                    self.cut_power(member);
                }
            }
            Happening::Starts { member } => self.start(member),
            Happening::Fault { kind } => self.befall(kind),
            Happening::Heals { cut } => self.network.heal(cut, self.now_us, &mut self.queue),
            Happening::Struck { blow } => self.strike(blow),
            Happening::Phase => self.change_phase(),
            completion => self.complete(completion),
        }
    }

    pub(super) fn complain(&mut self, result: Result<(), Complaint>) {
        if let Err(complaint) = result
            && self.complaint.is_none()
        {
            self.complaint = Some(complaint);
        }
    }

    pub(super) fn judge(&mut self, slot: usize, bound: Bound, value: usize) {
        self.complain(bounds::check(slot as u64, bound, value));
    }

    fn arrive(&mut self, link: LinkId, from_end: usize) {
        let Some(ends) = self.network.ends(link) else { return };
        let now_us = self.now_us;
        let mut arrivals = std::mem::take(&mut self.arrivals);
        let queue = &mut self.queue;
        let taken = self.network.arrive(link, from_end, now_us, &mut arrivals, queue);
        if let (Host::Member(slot), true) = (ends[from_end].host, 0 < taken) {
            self.on_taken(slot, link, from_end, ends[from_end].connection, taken);
        }
        for arrival in arrivals.drain(..) {
            self.trace.mix(now_us, 2, link.0 << 1 | from_end as u64, &arrival.bytes);
            if self.network.is_closing(link, 1 - from_end) {
                continue;
            }
            match arrival.end.host {
                Host::Member(slot) => {
                    let connection = arrival.end.connection;
                    if self.has_link(slot, connection, link) {
                        let bytes = arrival.bytes;
                        self.tell(slot, Input::Received { connection, bytes });
                    }
                }
                Host::Client(client) if self.clients[client].link == Some(link) => {
                    self.with_client(client, |program, scene, wishes| {
                        program.on_bytes(&arrival.bytes, scene, wishes);
                    });
                }
                Host::Client(_) => {}
            }
        }
        self.arrivals = arrivals;
    }

    /// A socket took bytes that had waited.
    fn on_taken(
        &mut self,
        slot: usize,
        link: LinkId,
        end: usize,
        connection: ConnectionId,
        size_bytes: usize,
    ) {
        if self.has_link(slot, connection, link) {
            self.tell_taken(slot, connection, size_bytes, true);
        }
        if self.network.is_closing(link, end) && self.network.unsent_bytes(link, end) == 0 {
            let at_us = self.network.last_us(link, end).max(self.now_us) + 1;
            self.queue.push(at_us, Happening::Breaks { link });
        }
    }

    /// Connections that were closed end when the last of their bytes has arrived, which is sooner
    /// than was thought once nothing makes bytes late any more.
    pub(super) fn hurry_closes(&mut self) {
        for link in self.network.links() {
            let Some(ends) = self.network.ends(link) else { continue };
            for (number, end) in ends.iter().enumerate() {
                let is_closed = match end.host {
                    Host::Member(_) => {
                        self.network.is_closing(link, number)
                            && self.network.unsent_bytes(link, number) == 0
                    }
                    Host::Client(client) => self.clients[client].link != Some(link),
                };
                if is_closed {
                    let at_us = self.network.last_us(link, number).max(self.now_us) + 1;
                    self.queue.push(at_us, Happening::Breaks { link });
                }
            }
        }
    }

    fn has_link(&self, slot: usize, connection: ConnectionId, link: LinkId) -> bool {
        let process = self.members[slot].process.as_ref();
        let known = process.and_then(|process| process.links.get(&connection));
        known.is_some_and(|(known, _)| *known == link)
    }

    /// A connection ends at both its ends.
    pub(super) fn break_link(&mut self, link: LinkId) {
        let Some(ends) = self.network.remove(link) else { return };
        self.trace.mix(self.now_us, 3, link.0, &[]);
        for end in ends {
            match end.host {
                Host::Member(slot) => {
                    if self.has_link(slot, end.connection, link) {
                        let process = self.members[slot].process.as_mut().expect("it has the link");
                        process.links.remove(&end.connection);
                        self.tell(slot, Input::Closed { connection: end.connection });
                    }
                }
                Host::Client(client) if self.clients[client].link == Some(link) => {
                    self.clients[client].link = None;
                    self.with_client(client, |program, scene, wishes| {
                        program.on_broken(scene, wishes);
                    });
                }
                Host::Client(_) => {}
            }
        }
    }

    /// Makes the member's end of a new connection.
    pub(super) fn accept(&mut self, slot: usize, door: Option<Door>) -> End {
        let connection = self.next_connection(slot, door);
        if let Some(door) = door {
            self.tell(slot, Input::Accepted { connection, door });
        }
        End { host: Host::Member(slot), connection }
    }

    pub(super) fn register(&mut self, ends: [End; 2]) -> LinkId {
        let link = self.network.connect(ends);
        for (number, end) in ends.iter().enumerate() {
            if let Host::Member(slot) = end.host {
                let process = self.members[slot].process.as_mut().expect("it has just accepted");
                process.links.insert(end.connection, (link, number));
            }
        }
        link
    }

    fn end_dial(&mut self, slot: usize, life: u64, dial: shard::input::DialId, url: &str) {
        if self.members[slot].alive(life).is_none() {
            return;
        }
        let Some(target) = self.slot_at(url) else {
            let failure = DialFailure::Unreachable;
            return self.tell(slot, Input::DialFailed { dial, failure });
        };
        let (from, to) = (Host::Member(slot), Host::Member(target));
        let is_silent = self.network.is_cut(from, to)
            || self.network.is_cut(to, from)
            || !self.members[target].has_power;
        if is_silent {
            let at_us = self.now_us + shard::limits::DIAL_TIMEOUT_US / 2;
            return self.queue.push(at_us, Happening::DialFails { member: slot, life, dial });
        }
        if self.members[target].process.is_none() {
            let failure = DialFailure::Refused;
            return self.tell(slot, Input::DialFailed { dial, failure });
        }
        let theirs = self.accept(target, Some(Door::Peer));
        let ours = self.accept(slot, None);
        self.register([ours, theirs]);
        self.tell(slot, Input::Dialed { dial, connection: ours.connection });
    }

    fn change_phase(&mut self) {
        let election_us = self.plan.election_timeout_us;
        let (next, for_us) = match self.phase {
            Phase::Faults => (Phase::Calm, self.plan.calm_us),
            Phase::Calm => (Phase::Quiet, LEASES_END_US + 3 * election_us),
            Phase::Quiet => (Phase::Probing, PROBING_US),
            Phase::Probing => {
                self.is_over = true;
                return;
            }
        };
        self.phase = next;
        self.trace.say(Level::Faults, self.now_us, || format!("now {next:?}"));
        if next == Phase::Calm {
            self.end_faults();
        }
        if next == Phase::Quiet {
            self.settle_members();
        }
        self.queue.push(self.now_us + for_us, Happening::Phase);
    }
}

/// Every lease that clients ask for has run out after this and some election timeouts.
const LEASES_END_US: u64 = 9_000_000;
/// Every member answers the last questions within this.
const PROBING_US: u64 = 3_000_000;
