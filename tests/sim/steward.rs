//! A client that has members come and go, as an operator would: it looks at the list, asks for one
//! change, looks again.
//!
//! Invariants: one question at a time; whoever is on a list it was told is started; a member whose
//! directory was wiped is removed before anything else changes; no directory is wiped while the
//! outcome of a removal is open, or while the members that run have not applied one (again), since
//! that one takes effect later.
//! Source: etcd, Runtime reconfiguration; replication.md, Membership; issue 5.

use net::wire::{Answer, ClusterMember, ClusterRequest, Message};
use shard::input::Door;

use super::coverage::Sight;
use super::peers_port;
use super::plan::Turnover;
use super::process::peer_url;
use super::random::Random;
use super::session::{Client, Line, Phase, Scene, Wish, soon_us};
use super::trace::Level;
use crate::check::members::Ledger;
use crate::model::Failure;

/// What it may ask.
#[derive(Clone, Copy, Debug)]
enum Question {
    List { is_linearizable: bool },
    Add { host: usize, is_learner: bool },
    Remove { id: u64 },
    Promote { id: u64 },
    Move { to: u64 },
}

/// See the file's head.
#[derive(Debug)]
pub struct Steward {
    random: Random,
    turnover: Turnover,
    line: Line,
    next_us: u64,
    /// What it waits for, and since when.
    waits: Option<(Question, u64)>,
    /// As told last; empty when it has to be asked for.
    list: Vec<ClusterMember>,
    /// A member whose directory is gone, and that is to be removed.
    wiped: Option<u64>,
    /// Where a directory was wiped and the old member is no more.
    free_host: Option<usize>,
    next_host: usize,
    /// Where a member may have been added: the answer was lost, and no list named it yet.
    hoped_host: Option<usize>,
    /// What a peer port answered so far, and since when it is asked.
    peek: Option<(Vec<u8>, u64)>,
    /// What it was told for certain.
    pub ledger: Ledger,
}

impl Steward {
    /// One that looks after a cluster of so many founders.
    pub fn new(random: Random, turnover: Turnover, founders: &[u64]) -> Steward {
        Steward {
            random,
            next_us: turnover.mean_us,
            turnover,
            line: Line::default(),
            waits: None,
            list: Vec::new(),
            wiped: None,
            free_host: None,
            next_host: founders.len(),
            hoped_host: None,
            peek: None,
            ledger: Ledger::new(founders),
        }
    }

    /// A directory was wiped, as it wished.
    pub fn on_wiped(&mut self, id: u64) {
        assert_eq!(self.wiped, None, "one at a time");
        self.wiped = Some(id);
    }

    fn ask(&mut self, question: Question, scene: &mut Scene<'_>, wishes: &mut Vec<Wish>) {
        scene.trace.say(Level::Faults, scene.now_us, || format!("asks for {question:?}"));
        let url;
        let request = match question {
            Question::List { is_linearizable } => ClusterRequest::MemberList { is_linearizable },
            Question::Add { host, is_learner } => {
                url = peer_url(host);
                ClusterRequest::MemberAdd { is_learner, peer_urls: vec![&url] }
            }
            Question::Remove { id } => ClusterRequest::MemberRemove { id },
            Question::Promote { id } => ClusterRequest::MemberPromote { id },
            Question::Move { to } => ClusterRequest::MoveLeader { target_id: to },
        };
        self.line.speech().request(&request).expect("it is small");
        self.line.flush(wishes);
        self.waits = Some((question, scene.now_us));
    }

    /// The list first, then one change by what it says.
    fn go_on(&mut self, scene: &mut Scene<'_>, wishes: &mut Vec<Wish>) {
        if self.list.is_empty() {
            // In the end even a quorum may lack whom an addition named whose answer was lost.
            let is_linearizable = scene.phase == Phase::Faults && self.random.chance(300);
            return self.ask(Question::List { is_linearizable }, scene, wishes);
        }
        let list = std::mem::take(&mut self.list);
        let change = match scene.phase {
            Phase::Faults => self.draw_change(&list, wishes),
            _ => self.draw_repair(&list),
        };
        match change {
            Some(change) => self.ask(change, scene, wishes),
            None => self.rest(scene.now_us),
        }
    }

    fn draw_change(&mut self, list: &[ClusterMember], wishes: &mut Vec<Wish>) -> Option<Question> {
        if let Some(id) = self.wiped {
            return Some(Question::Remove { id });
        }
        let learner = list.iter().find(|member| member.is_learner);
        if let Some(learner) = learner
            && self.random.chance(500)
        {
            return Some(Question::Promote { id: learner.id });
        }
        let any = self.random.pick(list).id;
        let voters = list.iter().filter(|member| !member.is_learner).count();
        match self.random.between(0, 10) {
            0..4 if list.len() < self.turnover.members_max => Some(self.addition()),
            4..8 if self.turnover.voters_min < voters => Some(Question::Remove { id: any }),
            8 => Some(Question::Move { to: any }),
            9 if self.turnover.has_wipes && self.knows_removals(list) => {
                let expected = list.iter().map(|member| member.id).collect();
                wishes.push(Wish::Wipe { id: any, expected });
                None
            }
            _ => None,
        }
    }

    /// Whether nobody on the list is removed, or may be: then all of them count, as does the quorum
    /// that is left without one.
    fn knows_removals(&self, list: &[ClusterMember]) -> bool {
        !self.ledger.has_open_removals() && !self.ledger.is_overtaken(list)
    }

    /// What is left to do before a cluster is at rest.
    fn draw_repair(&mut self, list: &[ClusterMember]) -> Option<Question> {
        if let Some(id) = self.wiped {
            return Some(Question::Remove { id });
        }
        let learner = list.iter().find(|member| member.is_learner)?;
        Some(Question::Promote { id: learner.id })
    }

    fn addition(&mut self) -> Question {
        let host = self.free_host.take().unwrap_or_else(|| {
            self.next_host += 1;
            self.next_host - 1
        });
        Question::Add { host, is_learner: self.random.chance(500) }
    }

    fn rest(&mut self, now_us: u64) {
        let mean_us = self.turnover.mean_us;
        self.next_us = now_us + self.random.between(mean_us / 2, mean_us * 3 / 2);
    }

    fn on_answer(&mut self, answer: Answer, scene: &mut Scene<'_>, wishes: &mut Vec<Wish>) {
        let Some((question, _)) = self.waits.take() else { return };
        scene.trace.say(Level::Faults, scene.now_us, || format!("got {answer:?}"));
        let members = match (question, answer) {
            (Question::List { .. }, Answer::MemberList(members)) => {
                self.next_us = scene.now_us + self.random.between(0, 20_000);
                self.find_hoped(&members);
                wishes.push(Wish::Enroll(members.clone()));
                self.list = members;
                return;
            }
            (Question::Add { is_learner, .. }, Answer::MemberAdd { id, members }) => {
                scene.coverage.add(match is_learner {
                    true => Sight::LearnerAdded,
                    false => Sight::VoterAdded,
                });
                self.ledger.on_added(id);
                members
            }
            (Question::Remove { id }, Answer::MemberRemove(members)) => {
                scene.coverage.add(Sight::MemberRemoved);
                self.on_removed(id);
                members
            }
            (Question::Promote { .. }, Answer::MemberPromote(members)) => {
                scene.coverage.add(Sight::LearnerPromoted);
                members
            }
            (Question::Move { .. }, Answer::MoveLeader) => return self.rest(scene.now_us),
            (question, answer) => panic!("{answer:?} does not answer {question:?}"),
        };
        self.ledger.check_told(&members);
        wishes.push(Wish::Enroll(members));
        self.rest(scene.now_us);
    }

    fn on_removed(&mut self, id: u64) {
        self.ledger.on_removed(id);
        if self.wiped == Some(id) {
            self.wiped = None;
        }
    }

    fn on_refused(&mut self, failure: &Failure, scene: &mut Scene<'_>) {
        let Some((question, _)) = self.waits.take() else { return };
        scene.trace.say(Level::Faults, scene.now_us, || format!("got {failure:?}"));
        scene.coverage.add(Sight::ChangeRefused);
        self.rest(scene.now_us);
        let text = failure.message.as_str();
        if let (Question::Remove { id }, true) = (question, text == NOT_FOUND) {
            // Removed by an earlier question whose answer was lost.
            return self.on_removed(id);
        }
        if failure.is_certain() || text == UNHEALTHY {
            assert!(REFUSALS.contains(&text), "{question:?} was refused: {failure:?}");
            return;
        }
        self.forget(question);
    }

    /// Nobody will tell what came of it.
    fn forget(&mut self, question: Question) {
        match question {
            Question::Add { host, .. } => {
                self.hoped_host = Some(host);
                self.ledger.on_addition_open();
            }
            Question::Remove { id } => self.ledger.on_removal_open(id),
            _ => {}
        }
    }

    fn leave(&mut self, scene: &mut Scene<'_>, wishes: &mut Vec<Wish>) {
        if let Some((question, _)) = self.waits.take() {
            self.forget(question);
        }
        self.list.clear();
        self.peek = None;
        self.line.hang_up(wishes);
        wishes.push(Wish::Wake(soon_us(scene.now_us, &mut self.random)));
    }

    fn find_hoped(&mut self, members: &[ClusterMember]) {
        let url = self.hoped_host.map(peer_url);
        if members.iter().any(|member| member.peer_urls.first() == url.as_ref()) {
            self.hoped_host = None;
        }
    }

    /// Asks a peer port for the members: without whom it hopes to have added there may be no
    /// quorum, and then no client is let in.
    fn begin_peek(&mut self, scene: &mut Scene<'_>, wishes: &mut Vec<Wish>) {
        let member = scene.somebody(&mut self.random);
        scene.trace.say(Level::Faults, scene.now_us, || format!("asks peer port of {member}"));
        self.peek = Some((Vec::new(), scene.now_us));
        wishes.push(Wish::Connect(member, Door::Peer));
    }

    fn on_peeked(&mut self, bytes: &[u8], scene: &mut Scene<'_>, wishes: &mut Vec<Wish>) {
        let Some((answer, _)) = &mut self.peek else { return };
        answer.extend(bytes);
        if let Some(members) = peers_port::members_of(answer) {
            scene.trace.say(Level::Faults, scene.now_us, || format!("got {members:?}"));
            scene.coverage.add(Sight::PeersPortAsked);
            self.find_hoped(&members);
            wishes.push(Wish::Enroll(members));
            self.leave(scene, wishes);
        }
    }

    /// A host whose directory was wiped and whose old member is no more may have a new one.
    pub fn on_host_free(&mut self, host: usize) {
        self.free_host = Some(host);
    }
}

impl Client for Steward {
    fn on_wake(&mut self, scene: &mut Scene<'_>, wishes: &mut Vec<Wish>) {
        if Phase::Calm < scene.phase {
            return;
        }
        let is_late =
            self.waits.as_ref().is_some_and(|(_, since_us)| since_us + PATIENCE_US < scene.now_us);
        if is_late || self.line.is_overdue(scene.now_us) {
            // The next one is asked elsewhere.
            return self.leave(scene, wishes);
        }
        wishes.push(Wish::Wake(scene.now_us + WAKE_US));
        if let Some((_, since_us)) = self.peek {
            if since_us + PATIENCE_US < scene.now_us {
                self.leave(scene, wishes);
            }
            return;
        }
        if self.line.is_apart() {
            let is_in_doubt = scene.phase == Phase::Calm && self.hoped_host.is_some();
            if is_in_doubt && self.random.chance(300) {
                return self.begin_peek(scene, wishes);
            }
            let member = scene.somebody(&mut self.random);
            self.line.connect(member, scene.now_us, wishes);
        } else if self.line.is_open() && self.waits.is_none() && self.next_us <= scene.now_us {
            if self.list.is_empty() && self.random.chance(200) {
                return self.leave(scene, wishes);
            }
            self.go_on(scene, wishes);
        }
    }

    fn on_connected(&mut self, number: u64, _scene: &mut Scene<'_>, wishes: &mut Vec<Wish>) {
        if self.peek.is_some() {
            return wishes.push(Wish::Send(peers_port::QUESTION.to_vec()));
        }
        self.line.on_connected(number, wishes);
    }

    fn on_bytes(&mut self, bytes: &[u8], scene: &mut Scene<'_>, wishes: &mut Vec<Wish>) {
        if self.peek.is_some() {
            return self.on_peeked(bytes, scene, wishes);
        }
        let mut told = Vec::new();
        let mut is_over = false;
        let is_right = self.line.feed(bytes, &mut |message| match message {
            Message::Reply { opcode, body, .. } => {
                let (_, answer) = Answer::decode(opcode, body).expect("what verifies decodes");
                told.push(Ok(answer));
            }
            Message::Error { request_id: 0, .. } | Message::GoAway { .. } => is_over = true,
            Message::Error { code, message, .. } => told.push(Err(Failure::new(code, message))),
            Message::Reconnect { .. } => {}
            other => panic!("nobody asked for {other:?}"),
        });
        for told in told {
            match told {
                Ok(answer) => self.on_answer(answer, scene, wishes),
                Err(failure) => self.on_refused(&failure, scene),
            }
        }
        if !is_right || is_over {
            self.leave(scene, wishes);
        }
    }

    fn on_broken(&mut self, scene: &mut Scene<'_>, wishes: &mut Vec<Wish>) {
        if let Some((question, _)) = self.waits.take() {
            self.forget(question);
        }
        self.list.clear();
        self.peek = None;
        self.line.on_broken();
        wishes.push(Wish::Wake(soon_us(scene.now_us, &mut self.random)));
    }
}

const NOT_FOUND: &str = "etcdserver: member not found";
const UNHEALTHY: &str = "etcdserver: unhealthy cluster";
/// What etcd may say to a change that is not made, typed once more on purpose.
const REFUSALS: [&str; 11] = [
    UNHEALTHY,
    NOT_FOUND,
    "etcdserver: Peer URLs already exists",
    "etcdserver: too many learner members in cluster",
    "etcdserver: can only promote a learner member",
    "etcdserver: can only promote a learner member which is in sync with leader",
    "etcdserver: re-configuration failed due to not enough started members",
    "etcdserver: rpc not supported for learner",
    "etcdserver: not leader",
    "etcdserver: bad leader transferee",
    "etcdserver: too many requests",
];
/// It looks after itself this often.
const WAKE_US: u64 = 50_000;
/// A question without an answer after this long is given up.
const PATIENCE_US: u64 = 4_000_000;
