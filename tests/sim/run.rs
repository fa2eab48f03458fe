//! One run of a seed: the world from its beginning to its end, then every checker that looks at a
//! whole history.

use super::clients::Program;
use super::coverage::Coverage;
use super::plan::Plan;
use super::trace::{Level, Trace};
use super::watcher::Watcher;
use super::world::World;
use crate::check::compaction::{self, Marks};
use crate::check::durable::{self, Truth};
use crate::check::history::Outcome;
use crate::check::{Complaint, leases, linearizable, watches};
use crate::model::failure::LEARNER;
use crate::model::{Answer, Request};

/// What a run was.
#[derive(Clone, Debug)]
pub struct Report {
    /// Hash of everything that happened.
    pub trace_hash: u64,
    /// Events in it.
    pub events: u64,
    /// How much time passed in the world.
    pub virtual_us: u64,
    /// Calls made, and answered.
    pub calls: (usize, usize),
    /// Newest revision.
    pub revision: i64,
    /// Processes started.
    pub starts: u64,
    /// Checkpoint intervals and committed entries that were compared.
    pub sights: (usize, usize),
    /// What happened, counted.
    pub coverage: Coverage,
    /// Lines of the trace, if they were kept.
    pub lines: String,
    /// What is wrong, if anything is.
    pub complaint: Option<Complaint>,
}

/// Runs a plan.
pub fn run(plan: Plan, level: Level, is_printed: bool) -> Report {
    let mut world = World::new(plan, Trace::new(level, is_printed));
    let complaint = world.run().and_then(|()| judge(&mut world)).err().map(|complaint| Complaint {
        what: format!("{}\nin the end: {}", complaint.what, world.describe()),
        ..complaint
    });
    let is_answered = |outcome: &Outcome| !matches!(outcome, Outcome::Unknown);
    let calls = &world.history.calls;
    Report {
        trace_hash: world.trace.hash(),
        events: world.trace.events(),
        virtual_us: world.now_us,
        calls: (calls.len(), calls.iter().filter(|call| is_answered(&call.outcome)).count()),
        revision: calls.iter().filter_map(|call| call.revision()).max().unwrap_or_default(),
        starts: world.starts,
        sights: world.sights(),
        coverage: world.coverage,
        lines: world.trace.lines().to_string(),
        complaint,
    }
}

/// Everything that is judged at the end.
fn judge(world: &mut World) -> Result<(), Complaint> {
    if let Some(slot) = world.left_behind() {
        let what = format!("member {slot} lacks entries that the most advanced has no more");
        return Err(Complaint::new("transfer", what));
    }
    let truth = verify_history(world)?;
    let marks = Marks::of(&world.history);
    compaction::check(&world.history, &marks)?;
    if let Some(rate_permille_max) = world.plan.clock_rate_permille_max() {
        leases::check(&world.history, rate_permille_max)?;
    }
    for slot in &world.clients {
        let Program::Steward(steward) = &slot.program else { continue };
        world.judge_members(&steward.ledger)?;
    }
    for slot in &mut world.clients {
        let Program::Watcher(watcher) = &mut slot.program else { continue };
        verify_watcher(watcher, &truth, &marks)?;
    }
    verify_liveness(world, &truth)
}

fn verify_history(world: &World) -> Result<Truth, Complaint> {
    let Program::Watcher(auditor) = &world.clients[0].program else {
        unreachable!("the first client is the watch of everything")
    };
    let told = world.history.calls.iter().filter_map(|call| call.revision()).max();
    if auditor.next() <= told.unwrap_or_default() {
        let what = format!("the watch of everything was left alone at {}", auditor.next());
        return Err(Complaint::new("liveness", what));
    }
    let truth = durable::replay(&world.history, &auditor.heard())?;
    linearizable::check(&world.history, &truth)?;
    Ok(truth)
}

fn verify_watcher(watcher: &mut Watcher, truth: &Truth, marks: &Marks) -> Result<(), Complaint> {
    if let Some(last) = watcher.watched.last_mut() {
        last.is_complete = true;
    }
    if watcher.next() <= truth.store.revision() {
        let what = format!(
            "watch {} was left alone at {} of {}",
            watcher.number(),
            watcher.next(),
            truth.store.revision()
        );
        return Err(Complaint::new("liveness", what));
    }
    watcher.watched.iter().try_for_each(|watched| watches::check(watched, &truth.store, marks))
}

/// Without faults every client is served, every member answers, and every lease ends.
fn verify_liveness(world: &World, truth: &Truth) -> Result<(), Complaint> {
    let complain = |what: String| Err(Complaint::new("liveness", what));
    let calm_us = world.plan.fault_us;
    let quiet_us = calm_us + world.plan.calm_us;
    let calls = &world.history.calls;
    let is_served = |from_us: u64, to_us: u64| {
        calls.iter().any(|call| {
            from_us <= call.invoked_us && call.invoked_us < to_us && call.revision().is_some()
        })
    };
    // Servers and clients wait for at most this before they give a call up.
    let settled_us = calm_us + world.plan.calm_us / 2;
    if !is_served(settled_us, quiet_us) {
        return complain(format!("no call was served between {settled_us} and {quiet_us} us"));
    }
    let mut probes = 0;
    for call in calls.iter().filter(|call| quiet_us <= call.invoked_us) {
        if let (Request::Range(_), Outcome::Refused(failure)) = (&call.request, &call.outcome) {
            // Who a learner is, and who is none, is for `members` to judge.
            probes += usize::from(failure.is(LEARNER));
        }
        let Outcome::Done { revision, answer } = &call.outcome else { continue };
        match (&call.request, answer) {
            (Request::Range(_), Answer::Range(_)) => {
                if *revision != truth.store.revision() {
                    return complain(format!("at rest, but {call:?}"));
                }
                probes += 1;
            }
            (Request::Leases, Answer::Leases(ids)) if !ids.is_empty() => {
                return complain(format!("leases that nobody renews are still there: {ids:?}"));
            }
            _ => {}
        }
    }
    let callers = world.clients.iter().filter(|slot| matches!(slot.program, Program::Caller(_)));
    if probes < callers.count() {
        return complain(format!("only {probes} clients were told everything in the end"));
    }
    Ok(())
}
