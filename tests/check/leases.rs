//! Leases: what is granted is there until it is revoked or its time has run, never shorter on the
//! fastest clock that a leader may have; who was told that it is gone was told so for a reason.
//!
//! One search a lease. Its state: whether it is there, since when it was renewed last, and how far
//! time has come with the operations taken so far. That it ends in the end is for the world to see,
//! which knows when it was left alone.
//! Source: fact sheet of etcd's behaviour, section 7; replication.md, Reads and leases.

use std::collections::BTreeMap;

use super::history::{Call, Complaint, History, NEVER_US, Outcome};
use super::search::{Timed, is_linearizable};
use crate::model::failure::{LEASE_EXISTS, LEASE_NOT_FOUND};
use crate::model::{Answer, Op, Request, Txn};

const CHECK: &str = "leases";

/// What a call did to a lease, or was told of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    Granted {
        ttl_s: i64,
    },
    GrantRefused,
    Revoked,
    /// Renewed, if it was there at all: nobody knows.
    MaybeRenewed,
    Renewed,
    /// Told that it is there, without renewing it.
    Seen,
    /// Told that it is not there.
    Missing,
    /// Told that its time has run: it may still be there, to be revoked.
    RunOut,
}

/// Where the search stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct State {
    is_there: bool,
    ttl_us: u64,
    renewed_us: u64,
    now_us: u64,
}

/// Judges every lease on its own. `rate_permille_max` is how fast a leader's clock may run against
/// the world's: 1000 is as fast.
///
/// # Errors
/// The first lease that no order of its calls explains.
pub fn check(history: &History, rate_permille_max: u64) -> Result<(), Complaint> {
    let mut leases: BTreeMap<i64, Vec<Timed<Use>>> = BTreeMap::new();
    for call in &history.calls {
        for (lease, operation) in uses(call) {
            let (invoked_us, mut returned_us) = (call.invoked_us, call.returned_us);
            if operation == Use::MaybeRenewed || call.outcome == Outcome::Unknown {
                returned_us = NEVER_US;
            }
            let timed = Timed { invoked_us, returned_us, operation };
            leases.entry(lease).or_default().push(timed);
        }
    }
    let initial = State { is_there: false, ttl_us: 0, renewed_us: 0, now_us: 0 };
    for (lease, operations) in leases {
        let step = |state: &State, timed: &Timed<Use>| step(state, timed, rate_permille_max);
        if !is_linearizable(initial, &operations, step) {
            let what = format!("no order explains lease {lease:x}: {operations:?}");
            return Err(Complaint::new(CHECK, what));
        }
    }
    Ok(())
}

fn step(state: &State, timed: &Timed<Use>, rate_permille_max: u64) -> Option<State> {
    let mut after = State { now_us: state.now_us.max(timed.invoked_us), ..*state };
    if timed.returned_us < after.now_us {
        return None;
    }
    let shortest_us = state.ttl_us / rate_permille_max * 1_000;
    let run_out_us = state.renewed_us.saturating_add(shortest_us);
    match timed.operation {
        Use::Granted { ttl_s } => {
            // The one before it may have run out by now.
            if state.is_there {
                after.now_us = after.now_us.max(run_out_us);
            }
            after.is_there = true;
            after.ttl_us = u64::try_from(ttl_s).ok()?.saturating_mul(1_000_000);
            after.renewed_us = after.now_us;
        }
        Use::Renewed if state.is_there => after.renewed_us = after.now_us,
        Use::MaybeRenewed => after.renewed_us = after.now_us,
        Use::Seen | Use::GrantRefused if state.is_there => {}
        Use::Revoked if state.is_there => after.is_there = false,
        Use::Missing => {
            if state.is_there {
                after.now_us = after.now_us.max(run_out_us);
                after.is_there = false;
            }
        }
        Use::RunOut => {
            if state.is_there {
                after.now_us = after.now_us.max(run_out_us);
            }
        }
        _ => return None,
    }
    (after.now_us <= timed.returned_us).then_some(after)
}

fn uses(call: &Call) -> Vec<(i64, Use)> {
    match (&call.request, &call.outcome) {
        (
            Request::LeaseGrant { .. },
            Outcome::Done { answer: Answer::LeaseGrant { id, ttl_s }, .. },
        ) => vec![(*id, Use::Granted { ttl_s: *ttl_s })],
        // The server may clamp the time upwards, so what was asked for is the least.
        (Request::LeaseGrant { id, ttl_s }, Outcome::Unknown) if *id != 0 => {
            vec![(*id, Use::Granted { ttl_s: *ttl_s })]
        }
        (Request::LeaseGrant { id, .. }, Outcome::Refused(failure)) if failure.is(LEASE_EXISTS) => {
            vec![(*id, Use::GrantRefused)]
        }
        (Request::LeaseRevoke { id }, Outcome::Done { .. } | Outcome::Unknown) => {
            vec![(*id, Use::Revoked)]
        }
        (Request::LeaseRevoke { id }, Outcome::Refused(failure)) if failure.is(LEASE_NOT_FOUND) => {
            vec![(*id, Use::Missing)]
        }
        (Request::LeaseKeepAlive { .. }, Outcome::Done { answer, .. }) => match answer {
            Answer::LeaseKeepAlive { id, ttl_s: 0 } => vec![(*id, Use::RunOut)],
            Answer::LeaseKeepAlive { id, .. } => vec![(*id, Use::Renewed)],
            _ => Vec::new(),
        },
        (Request::LeaseKeepAlive { id }, Outcome::Unknown) => vec![(*id, Use::MaybeRenewed)],
        (Request::LeaseTimeToLive { .. }, Outcome::Done { answer, .. }) => match answer {
            Answer::LeaseTimeToLive { id, ttl_s: -1, .. } => vec![(*id, Use::Missing)],
            Answer::LeaseTimeToLive { id, .. } => vec![(*id, Use::Seen)],
            _ => Vec::new(),
        },
        (Request::Put(put), Outcome::Done { .. }) if put.lease != 0 => {
            vec![(put.lease, Use::Seen)]
        }
        (Request::Put(put), Outcome::Refused(failure)) if failure.is(LEASE_NOT_FOUND) => {
            vec![(put.lease, Use::Missing)]
        }
        (Request::Txn(txn), Outcome::Done { answer, .. }) => {
            let Answer::Txn { is_success, .. } = answer else { return Vec::new() };
            attached(txn, *is_success).map(|lease| (lease, Use::Seen)).collect()
        }
        _ => Vec::new(),
    }
}

/// Leases that the branch taken attached keys to.
fn attached(txn: &Txn, is_success: bool) -> impl Iterator<Item = i64> {
    let branch = if is_success { &txn.success } else { &txn.failure };
    branch.iter().filter_map(|op| match op {
        Op::Put(put) if put.lease != 0 => Some(put.lease),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use engine::api::KvList;

    use super::*;
    use crate::model::{Failure, Put};

    const SECOND_US: u64 = 1_000_000;

    fn call(request: Request, times: (u64, u64), outcome: Outcome) -> Call {
        let (invoked_us, returned_us) = (times.0 * SECOND_US, times.1 * SECOND_US);
        Call { connection: 1, invoked_us, returned_us, request, outcome }
    }

    fn done(answer: Answer) -> Outcome {
        Outcome::Done { revision: 2, answer }
    }

    fn grant(times: (u64, u64)) -> Call {
        let answer = Answer::LeaseGrant { id: 7, ttl_s: 10 };
        call(Request::LeaseGrant { id: 7, ttl_s: 10 }, times, done(answer))
    }

    fn renew(times: (u64, u64), ttl_s: i64) -> Call {
        let answer = Answer::LeaseKeepAlive { id: 7, ttl_s };
        call(Request::LeaseKeepAlive { id: 7 }, times, done(answer))
    }

    fn put(times: (u64, u64), is_done: bool) -> Call {
        let outcome = match is_done {
            true => done(Answer::Put { previous: KvList::default() }),
            false => Outcome::Refused(Failure::from(LEASE_NOT_FOUND)),
        };
        let request = Put { key: b"a".to_vec(), lease: 7, ..Put::default() };
        call(Request::Put(request), times, outcome)
    }

    fn judge(calls: Vec<Call>) -> Result<(), Complaint> {
        check(&History { calls }, 1_000)
    }

    #[test]
    fn right_histories_pass() {
        judge(vec![grant((0, 1)), put((2, 3), true), put((11, 12), false)]).expect("it ran out");
        judge(vec![grant((0, 1)), renew((5, 6), 10), put((14, 14), true)]).expect("renewed");
        judge(vec![grant((0, 1)), put((40, 41), true)]).expect("late is allowed");
        judge(vec![grant((0, 1)), renew((11, 12), 0), put((13, 14), true)])
            .expect("being revoked is still there");
        let revoke = call(Request::LeaseRevoke { id: 7 }, (2, 3), done(Answer::LeaseRevoke));
        judge(vec![grant((0, 1)), revoke, put((4, 5), false)]).expect("revoked");
        let lost = call(Request::LeaseRevoke { id: 7 }, (2, 3), Outcome::Unknown);
        judge(vec![grant((0, 1)), lost.clone(), put((4, 5), true), put((6, 7), false)])
            .expect("late");
        judge(vec![grant((0, 1)), lost, put((4, 5), true)]).expect("never");
    }

    #[test]
    fn wrong_histories_are_complained_about() {
        judge(vec![put((2, 3), true)]).expect_err("never granted");
        judge(vec![grant((0, 1)), put((2, 3), false)]).expect_err("it ran out early");
        judge(vec![grant((0, 1)), renew((5, 6), 10), put((12, 13), false)])
            .expect_err("it ran out early after a renewal");
        judge(vec![grant((0, 1)), renew((5, 6), 0)]).expect_err("its time had not run");
        let revoke = call(Request::LeaseRevoke { id: 7 }, (2, 3), done(Answer::LeaseRevoke));
        judge(vec![grant((0, 1)), revoke.clone(), put((4, 5), true)]).expect_err("it was revoked");
        judge(vec![grant((0, 1)), revoke, renew((4, 5), 10)]).expect_err("it was revoked");
        let exists = Outcome::Refused(Failure::from(LEASE_EXISTS));
        let refused = call(Request::LeaseGrant { id: 7, ttl_s: 10 }, (2, 3), exists);
        judge(vec![refused]).expect_err("the id was free");
    }

    #[test]
    fn a_fast_clock_may_end_it_sooner() {
        let calls = vec![grant((0, 1)), put((8, 9), false)];
        check(&History { calls: calls.clone() }, 1_000).expect_err("early");
        check(&History { calls }, 1_250).expect("within the clock's rate");
    }
}
