//! A client that makes calls, and writes down what it was told.
//!
//! Invariants: a call is in the history before its bytes leave, with an unknown outcome until it is
//! answered; nothing is asked twice.

use std::collections::BTreeMap;

use super::coverage::Sight;
use super::random::Random;
use super::session::{Client, Line, Phase, Scene, Wish, soon_us};
use super::speech::{Said, Speech, Tongue};
use super::trace::Level;
use super::workload::Workload;
use crate::check::history::NEVER_US;
use crate::check::{Call, Outcome};
use crate::model::failure::LEARNER;
use crate::model::{Answer, Failure, Range, Request};

/// See the file's head.
#[derive(Debug)]
pub struct Caller {
    number: usize,
    random: Random,
    workload: Workload,
    think_us: (u64, u64),
    pipeline: usize,
    line: Line<Speech>,
    /// The member that it talks to.
    member: usize,
    next_us: u64,
    /// Slots in the history of calls without an answer, by request id.
    open: BTreeMap<u64, usize>,
    /// Probes that were answered.
    probed: usize,
}

/// A call without an answer after this long is given up with its connection.
const PATIENCE_US: u64 = 12_000_000;
/// So many calls have a time limit, where the protocol has such.
const HURRIED_PERMILLE: u64 = 50;
/// Longest time limit.
const TIMEOUT_MS_MAX: u64 = 2_000;
/// So often the oldest call is given up, where the protocol can.
const ABANDONED_PERMILLE: u64 = 10;
/// A read of everything, then the list of leases.
const PROBES: usize = 2;

impl Caller {
    /// The client of this number.
    pub fn new(
        number: usize,
        random: Random,
        tongue: &Tongue,
        workload: Workload,
        think_us: (u64, u64),
        pipeline: usize,
    ) -> Caller {
        Caller {
            number,
            random,
            workload,
            think_us,
            pipeline,
            line: Line::new(Speech::new(tongue)),
            member: 0,
            next_us: 0,
            open: BTreeMap::new(),
            probed: 0,
        }
    }

    fn call(&mut self, request: Request, scene: &mut Scene<'_>) {
        // Only what nobody depends on is asked in a hurry.
        let is_hurried = scene.phase < Phase::Quiet && self.random.chance(HURRIED_PERMILLE);
        let timeout_ms = is_hurried.then(|| self.random.between(1, TIMEOUT_MS_MAX));
        let request_id = self.line.speech().call(&request, timeout_ms);
        if let Speech::Grpc(_) = self.line.speech() {
            scene.coverage.add(Sight::GrpcCall);
        }
        self.open.insert(request_id, scene.history.calls.len());
        let number = self.number;
        scene.trace.say(Level::Calls, scene.now_us, || format!("client {number} asks {request:?}"));
        scene.history.calls.push(Call {
            connection: self.line.number,
            invoked_us: scene.now_us,
            returned_us: NEVER_US,
            request,
            outcome: Outcome::Unknown,
        });
    }

    fn has_room(&mut self) -> bool {
        self.open.len() < self.pipeline && self.line.speech().takes_calls()
    }

    /// Gives the oldest call up now and then.
    fn maybe_abandon(&mut self, scene: &mut Scene<'_>) {
        let Some((&id, _)) = self.open.first_key_value() else { return };
        let may_be = scene.phase < Phase::Quiet && self.random.chance(ABANDONED_PERMILLE);
        if may_be && self.line.speech().abandon(id) {
            self.open.remove(&id);
            scene.coverage.add(Sight::CallAbandoned);
        }
    }

    /// Makes the calls that are due.
    fn make_calls(&mut self, scene: &mut Scene<'_>, wishes: &mut Vec<Wish>) {
        match scene.phase {
            Phase::Faults | Phase::Calm => {
                while self.next_us <= scene.now_us && self.has_room() {
                    let request = self.workload.draw(&mut self.random, *scene.seen);
                    self.call(request, scene);
                    let (least_us, most_us) = self.think_us;
                    self.next_us = scene.now_us + self.random.between(least_us, most_us + 1);
                }
            }
            Phase::Quiet => {}
            Phase::Probing => {
                let is_free = self.open.is_empty() && self.line.speech().takes_calls();
                if is_free && self.probed < PROBES {
                    let request = match self.probed {
                        0 => Request::Range(Range::everything()),
                        _ => Request::Leases,
                    };
                    self.call(request, scene);
                }
            }
        }
        self.line.flush(wishes);
        let has_room = self.has_room() && scene.phase < Phase::Quiet;
        let later_us = scene.now_us + WAKE_US;
        wishes.push(Wish::Wake(if has_room { self.next_us } else { later_us }));
    }

    fn on_outcome(&mut self, id: u64, told: Told, scene: &mut Scene<'_>) {
        let Some(slot) = self.open.remove(&id) else { return };
        let call = &mut scene.history.calls[slot];
        match told {
            Ok((revision, answer)) => {
                scene.seen.revision = scene.seen.revision.max(revision);
                call.outcome = Outcome::Done { revision, answer };
                call.returned_us = scene.now_us;
                self.probed += usize::from(scene.phase == Phase::Probing);
            }
            Err(failure) if failure.is_certain() => {
                if scene.phase == Phase::Probing && failure.is(LEARNER) {
                    // That is all that a learner tells.
                    self.probed = PROBES;
                }
                call.outcome = Outcome::Refused(failure);
                call.returned_us = scene.now_us;
            }
            Err(failure) => {
                if failure.code == DEADLINE_EXCEEDED {
                    scene.coverage.add(Sight::DeadlinePassed);
                }
                let number = self.number;
                scene.trace.say(Level::Calls, scene.now_us, || {
                    format!("client {number} does not know: {failure:?}")
                });
                return;
            }
        }
        let (number, outcome) = (self.number, &call.outcome);
        scene.trace.say(Level::Calls, scene.now_us, || format!("client {number} got {outcome:?}"));
    }

    fn lose(&mut self, scene: &mut Scene<'_>, wishes: &mut Vec<Wish>) {
        self.open.clear();
        wishes.push(Wish::Wake(soon_us(scene.now_us, &mut self.random)));
    }
}

type Told = Result<(i64, Answer), Failure>;

impl Client for Caller {
    fn on_wake(&mut self, scene: &mut Scene<'_>, wishes: &mut Vec<Wish>) {
        let oldest = self.open.values().next();
        let is_late = oldest
            .is_some_and(|slot| scene.history.calls[*slot].invoked_us + PATIENCE_US < scene.now_us);
        // In the end each member is asked by somebody.
        let own = scene.present[self.number % scene.present.len()];
        let is_elsewhere = Phase::Quiet <= scene.phase
            && self.member != own
            && self.open.is_empty()
            && !self.line.is_apart();
        if is_late || is_elsewhere || self.line.is_overdue(scene.now_us) {
            self.line.hang_up(wishes);
            return self.lose(scene, wishes);
        }
        if self.line.is_apart() {
            self.member = match scene.phase {
                Phase::Faults | Phase::Calm => scene.somebody(&mut self.random),
                Phase::Quiet | Phase::Probing => own,
            };
            self.line.connect(self.member, scene.now_us, wishes);
            return wishes.push(Wish::Wake(scene.now_us + WAKE_US));
        }
        if self.line.is_open() {
            self.maybe_abandon(scene);
            self.line.speech().tick();
            return self.make_calls(scene, wishes);
        }
        wishes.push(Wish::Wake(scene.now_us + WAKE_US));
    }

    fn on_connected(&mut self, number: u64, _scene: &mut Scene<'_>, wishes: &mut Vec<Wish>) {
        self.line.on_connected(number, wishes);
    }

    fn on_bytes(&mut self, bytes: &[u8], scene: &mut Scene<'_>, wishes: &mut Vec<Wish>) {
        let was_open = self.line.is_open();
        let mut outcomes = Vec::new();
        let mut is_over = false;
        let is_right = self.line.feed(bytes, &mut |said| match said {
            Said::Done { id, revision, answer } => outcomes.push((id, Ok((revision, answer)))),
            Said::Failed { id, failure } => outcomes.push((id, Err(failure))),
            Said::Over => is_over = true,
            Said::Watch(_) => panic!("nobody asked for {said:?}"),
        });
        for (id, told) in outcomes {
            self.on_outcome(id, told, scene);
        }
        let is_done = self.open.is_empty() && !self.line.speech().takes_calls();
        if !is_right || is_over || is_done {
            self.line.hang_up(wishes);
            return self.lose(scene, wishes);
        }
        // Windows and settings are answered at once.
        self.line.flush(wishes);
        let is_due = self.next_us <= scene.now_us || scene.phase == Phase::Probing;
        if self.line.is_open() && (!was_open || is_due) {
            self.make_calls(scene, wishes);
        } else if self.line.is_open() && scene.phase < Phase::Quiet {
            wishes.push(Wish::Wake(self.next_us));
        }
    }

    fn on_broken(&mut self, scene: &mut Scene<'_>, wishes: &mut Vec<Wish>) {
        self.line.on_broken();
        self.lose(scene, wishes);
    }
}

/// A time limit has passed.
const DEADLINE_EXCEEDED: u32 = 4;
/// A client looks after itself this often.
const WAKE_US: u64 = 50_000;
