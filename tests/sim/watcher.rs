//! A client with one watch, which it takes up again wherever it was cut off.
//!
//! Invariant: what it heard is kept connection by connection; the next one starts behind the last
//! revision heard or promised.

use engine::api::EventList;

use super::coverage::Sight;
use super::random::Random;
use super::session::{Client, Line, Phase, Scene, Wish, soon_us};
use super::speech::{Said, Speech, Tongue};
use super::trace::Level;
use crate::check::watches::{Told, Watched};
use crate::model::watch::{Heard, Interest};

/// See the file's head.
#[derive(Debug)]
pub struct Watcher {
    number: usize,
    random: Random,
    interest: Interest,
    /// It hears everything, and others trust it.
    is_auditor: bool,
    line: Line<Speech>,
    /// First revision not heard yet; 0 before the first watch.
    next: i64,
    /// What was heard on each connection.
    pub watched: Vec<Watched>,
    asked_us: u64,
}

/// Progress is asked for this often, at most.
const ASK_US: u64 = 300_000;
/// It looks after itself this often.
const WAKE_US: u64 = 100_000;

impl Watcher {
    /// A watch from a revision on; 0 is what comes next.
    pub fn new(
        number: usize,
        random: Random,
        tongue: &Tongue,
        interest: Interest,
        start_revision: i64,
    ) -> Watcher {
        Watcher {
            number,
            random,
            interest,
            is_auditor: false,
            line: Line::new(Speech::new(tongue)),
            next: start_revision,
            watched: Vec::new(),
            asked_us: 0,
        }
    }

    /// The watch of everything, from the first revision on.
    pub fn auditor(number: usize, random: Random, tongue: &Tongue) -> Watcher {
        let first = crate::model::store::FIRST_REVISION + 1;
        let watcher = Watcher::new(number, random, tongue, Interest::everything(), first);
        Watcher { is_auditor: true, ..watcher }
    }

    /// Which client it is.
    pub fn number(&self) -> usize {
        self.number
    }

    /// What it heard, ordered by revision; within one as it was told.
    pub fn heard(&self) -> Vec<Heard<'_>> {
        let told = self.watched.iter().flat_map(|watched| &watched.told);
        let events = told.filter_map(|(_, told)| match told {
            Told::Events(_, events) => Some(events),
            _ => None,
        });
        let mut heard = Vec::with_capacity(events.clone().map(EventList::len).sum());
        heard.extend(events.flat_map(|events| events.iter().map(Heard::of)));
        heard.sort_by_key(|event| event.mod_revision);
        heard
    }

    /// Everything below was heard.
    pub fn next(&self) -> i64 {
        self.next
    }

    fn open_watch(&mut self, scene: &mut Scene<'_>, wishes: &mut Vec<Wish>) {
        self.line.speech().watch(&self.interest, self.next);
        if let Speech::Grpc(_) = self.line.speech() {
            scene.coverage.add(Sight::GrpcWatch);
        }
        self.watched.push(Watched {
            interest: self.interest.clone(),
            start_revision: self.next,
            told: Vec::new(),
            is_complete: false,
        });
        self.line.flush(wishes);
    }

    fn on_told(&mut self, told: Told, scene: &mut Scene<'_>) {
        let number = self.number;
        scene.trace.say(Level::Calls, scene.now_us, || format!("watch {number} heard {told:?}"));
        match &told {
            Told::Created(revision) if self.next == 0 => self.next = revision + 1,
            Told::Created(_) => {}
            Told::Events(_, events) => {
                let newest = events.iter().map(|event| event.kv.mod_revision).max();
                self.next = self.next.max(newest.unwrap_or_default() + 1);
            }
            Told::Progress(revision) => self.next = self.next.max(revision + 1),
            Told::Canceled(revision) => self.next = self.next.max(*revision),
        }
        if self.is_auditor {
            scene.seen.heard = scene.seen.heard.max(self.next - 1);
        }
        let watched = self.watched.last_mut().expect("a watch is open");
        watched.told.push((scene.now_us, told));
    }

    /// In the end, asks until it heard all there is.
    fn maybe_ask(&mut self, scene: &mut Scene<'_>, wishes: &mut Vec<Wish>) {
        let wants = scene.phase >= Phase::Quiet || self.random.chance(20);
        let is_created = self.watched.last().is_some_and(|watched| !watched.told.is_empty());
        if wants && is_created && self.asked_us + ASK_US <= scene.now_us {
            self.asked_us = scene.now_us;
            self.line.speech().ask_progress();
            self.line.flush(wishes);
        }
    }

    fn lose(&mut self, scene: &mut Scene<'_>, wishes: &mut Vec<Wish>) {
        wishes.push(Wish::Wake(soon_us(scene.now_us, &mut self.random)));
    }
}

impl Client for Watcher {
    fn on_wake(&mut self, scene: &mut Scene<'_>, wishes: &mut Vec<Wish>) {
        if self.line.is_overdue(scene.now_us) {
            self.line.hang_up(wishes);
            return self.lose(scene, wishes);
        }
        if self.line.is_apart() {
            let member = scene.somebody(&mut self.random);
            self.line.connect(member, scene.now_us, wishes);
        } else if self.line.is_open() {
            // A member that is cut off says nothing: move on now and then.
            if scene.phase < Phase::Quiet
                && self.random.chance(if self.is_auditor { 20 } else { 5 })
            {
                self.line.hang_up(wishes);
                return self.lose(scene, wishes);
            }
            self.maybe_ask(scene, wishes);
            self.line.speech().tick();
            self.line.flush(wishes);
        }
        wishes.push(Wish::Wake(scene.now_us + WAKE_US));
    }

    fn on_connected(&mut self, number: u64, _scene: &mut Scene<'_>, wishes: &mut Vec<Wish>) {
        self.line.on_connected(number, wishes);
    }

    fn on_bytes(&mut self, bytes: &[u8], scene: &mut Scene<'_>, wishes: &mut Vec<Wish>) {
        let was_open = self.line.is_open();
        let mut told = Vec::new();
        let mut is_over = false;
        let is_right = self.line.feed(bytes, &mut |said| match said {
            Said::Watch(said) => told.push(said),
            Said::Failed { .. } | Said::Over => is_over = true,
            Said::Done { .. } => panic!("nobody asked for {said:?}"),
        });
        for told in told {
            self.on_told(told, scene);
        }
        if !is_right || is_over {
            self.line.hang_up(wishes);
            return self.lose(scene, wishes);
        }
        if !was_open && self.line.is_open() {
            self.open_watch(scene, wishes);
        } else {
            // What was taken may be sent again.
            self.line.flush(wishes);
        }
    }

    fn on_broken(&mut self, scene: &mut Scene<'_>, wishes: &mut Vec<Wish>) {
        self.line.on_broken();
        self.lose(scene, wishes);
    }
}
