//! Key-value calls are strictly serializable: one order explains every answer, and no call takes
//! effect before it was made or after it was answered.
//!
//! The order is given: a write stands at its revision, a read behind the write whose revision it
//! was told. So it is enough to see that each read is what the model says at that revision, that
//! nothing is read before its maker asked for it, and that who starts after another has returned
//! stands behind it. Serializable reads may be old, but never go back on one connection.
//! A refusal must be right at some revision that the call could have met.
//! Not judged here: leases (`leases`) and compacted revisions (`compaction`).
//! Source: Herlihy and Wing, Linearizability; fact sheet of etcd's behaviour, section 15.

use std::collections::BTreeMap;

use super::durable::{Maker, Truth, is_key_value};
use super::history::{Call, Complaint, History, NEVER_US, Outcome};
use crate::model::failure::{COMPACTED, LEARNER, LEASE_EXISTS, LEASE_NOT_FOUND, TOO_MANY_REQUESTS};
use crate::model::store::FIRST_REVISION;
use crate::model::{Answer, Failure, Request};

const CHECK: &str = "linearizable";

/// Place in the one order: writes at even numbers, what was read behind them at odd ones.
type Place = i64;

/// Judges every key-value call, and the revisions that other answers were told.
///
/// # Errors
/// The first call that no order explains.
pub fn check(history: &History, truth: &Truth) -> Result<(), Complaint> {
    let mut places = Vec::with_capacity(history.calls.len());
    let made: BTreeMap<usize, i64> = truth
        .makers
        .iter()
        .filter_map(|(revision, maker)| match maker {
            Maker::Call(slot) => Some((*slot, *revision)),
            Maker::Lease(_) => None,
        })
        .collect();
    for (slot, call) in history.calls.iter().enumerate() {
        let place = match made.get(&slot) {
            Some(revision) => Some(2 * revision),
            None => read_place(call, truth)?,
        };
        places.push(place);
    }
    let floors = floors(history, &places);
    for (slot, call) in history.calls.iter().enumerate() {
        let floor = floors[slot];
        match (&call.outcome, places[slot]) {
            (_, Some(place)) => verify_order(call, place, floor, history, truth)?,
            (Outcome::Refused(failure), None) => {
                verify_refusal(call, failure, floor, history, truth)?;
            }
            _ => {}
        }
    }
    verify_connections(history)
}

/// Where an answered call without effect stands, and that its answer is right there.
fn read_place(call: &Call, truth: &Truth) -> Result<Option<Place>, Complaint> {
    let Outcome::Done { revision, answer } = &call.outcome else { return Ok(None) };
    if !is_ordered(&call.request) {
        return Ok(None);
    }
    if truth.store.revision() < *revision || *revision < FIRST_REVISION {
        let what = format!("{call:?} was told a revision that never was");
        return Err(Complaint::new(CHECK, what));
    }
    if let (Request::Range(range), Answer::Range(told)) = (&call.request, answer)
        && truth.store.is_answer(range, *revision, told)
    {
        return Ok(Some(2 * revision + 1));
    }
    if is_key_value(answer) {
        let evaluated = truth.store.evaluate(&call.request, *revision);
        let is_right = evaluated.as_ref().is_ok_and(|evaluated| {
            evaluated.events.is_empty()
                && evaluated.answer == *answer
                && evaluated.revision == *revision
        });
        if !is_right {
            let what = format!("{call:?} should be answered {evaluated:?}");
            return Err(Complaint::new(CHECK, what));
        }
    }
    Ok(Some(2 * revision + 1))
}

/// For each call the latest place among those that had returned when it was made.
fn floors(history: &History, places: &[Option<Place>]) -> Vec<Place> {
    let calls = &history.calls;
    let mut by_invocation: Vec<usize> = (0..calls.len()).collect();
    by_invocation.sort_by_key(|slot| calls[*slot].invoked_us);
    let mut by_return: Vec<usize> =
        (0..calls.len()).filter(|slot| places[*slot].is_some()).collect();
    by_return.retain(|slot| calls[*slot].returned_us != NEVER_US);
    by_return.sort_by_key(|slot| calls[*slot].returned_us);
    let mut returned = by_return.into_iter().peekable();
    let mut latest = 2 * FIRST_REVISION;
    let mut floors = vec![latest; calls.len()];
    for slot in by_invocation {
        while let Some(earlier) =
            returned.next_if(|earlier| calls[*earlier].returned_us < calls[slot].invoked_us)
        {
            latest = latest.max(places[earlier].expect("kept above"));
        }
        floors[slot] = latest;
    }
    floors
}

fn verify_order(
    call: &Call,
    place: Place,
    floor: Place,
    history: &History,
    truth: &Truth,
) -> Result<(), Complaint> {
    if place < floor && !call.request.is_serializable() {
        let what = format!(
            "{call:?} stands at revision {}, behind one answered before it was made at {}",
            place / 2,
            floor / 2
        );
        return Err(Complaint::new(CHECK, what));
    }
    if let Some(Maker::Call(slot)) = truth.makers.get(&(place / 2)) {
        let maker = &history.calls[*slot];
        if call.returned_us < maker.invoked_us {
            let what = format!("{call:?} knew of {maker:?} before it was made");
            return Err(Complaint::new(CHECK, what));
        }
    }
    Ok(())
}

/// A refusal is right if it is at any revision between the call's floor and what had been asked
/// for when it returned.
fn verify_refusal(
    call: &Call,
    failure: &Failure,
    floor: Place,
    history: &History,
    truth: &Truth,
) -> Result<(), Complaint> {
    let others = [COMPACTED, LEASE_NOT_FOUND, LEASE_EXISTS, LEARNER, TOO_MANY_REQUESTS];
    if others.iter().any(|known| failure.is(*known)) || !is_store_request(&call.request) {
        return Ok(());
    }
    let oldest = if call.request.is_serializable() { FIRST_REVISION } else { floor / 2 };
    for revision in oldest..=truth.store.revision() {
        if let Some(Maker::Call(slot)) = truth.makers.get(&revision)
            && call.returned_us < history.calls[*slot].invoked_us
        {
            break;
        }
        if truth.store.evaluate(&call.request, revision).as_ref() == Err(failure) {
            return Ok(());
        }
    }
    Err(Complaint::new(CHECK, format!("{call:?} should not be refused")))
}

/// Renewals and what is asked of a lease's clock may be answered by the leader through another
/// member: the revision beside them is not part of their meaning.
fn is_ordered(request: &Request) -> bool {
    !matches!(
        request,
        Request::LeaseKeepAlive { .. } | Request::LeaseTimeToLive { .. } | Request::Leases
    )
}

fn is_store_request(request: &Request) -> bool {
    matches!(request, Request::Range(_) | Request::Put(_) | Request::Delete(_) | Request::Txn(_))
}

/// One member answers in the order of its own state, serializable reads too.
fn verify_connections(history: &History) -> Result<(), Complaint> {
    let mut by_return: Vec<&Call> = history.calls.iter().collect();
    by_return.retain(|call| call.revision().is_some() && is_ordered(&call.request));
    by_return.sort_by_key(|call| call.returned_us);
    let mut newest: BTreeMap<u64, (u64, i64)> = BTreeMap::new();
    let mut waiting: BTreeMap<u64, Vec<(u64, i64)>> = BTreeMap::new();
    let mut by_invocation = by_return.clone();
    by_invocation.sort_by_key(|call| call.invoked_us);
    for call in &by_return {
        let told = (call.returned_us, call.revision().expect("kept above"));
        waiting.entry(call.connection).or_default().push(told);
    }
    for told in waiting.values_mut() {
        told.reverse();
    }
    for call in by_invocation {
        let told = waiting.get_mut(&call.connection).expect("of this connection");
        while let Some((returned_us, revision)) =
            told.pop_if(|(returned_us, _)| *returned_us < call.invoked_us)
        {
            let entry = newest.entry(call.connection).or_insert((returned_us, revision));
            entry.1 = entry.1.max(revision);
        }
        let revision = call.revision().expect("kept above");
        if let Some((_, earlier)) = newest.get(&call.connection)
            && revision < *earlier
        {
            let what = format!("{call:?} went back: its connection had seen revision {earlier}");
            return Err(Complaint::new(CHECK, what));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::durable::replay;
    use crate::check::durable::tests::{heard, put};
    use crate::model::failure::FUTURE_REVISION;
    use crate::model::{Range, RangeAnswer};
    use engine::api::KeyValue;

    fn read(times: (u64, u64), revision: i64, version: i64) -> Call {
        let value = version.to_string();
        let kv = KeyValue {
            key: b"a",
            value: value.as_bytes(),
            create_revision: 2,
            mod_revision: version + 1,
            version,
            lease: 0,
        };
        let range = match version {
            0 => RangeAnswer::default(),
            _ => RangeAnswer { kvs: [kv].into_iter().collect(), is_more: false, count: 1 },
        };
        Call {
            connection: 9,
            invoked_us: times.0,
            returned_us: times.1,
            request: Request::Range(Range::key(b"a")),
            outcome: Outcome::Done { revision, answer: Answer::Range(range) },
        }
    }

    /// Two puts, answered at 10 and 30, and what else is given.
    fn judge(more: Vec<Call>) -> Result<(), Complaint> {
        let mut calls = vec![put("a", "1", (0, 10), Some(2)), put("a", "2", (20, 30), Some(3))];
        calls.extend(more);
        let history = History { calls };
        let heard = [heard("a", "1", 2, 2, 1), heard("a", "2", 2, 3, 2)];
        check(&history, &replay(&history, &heard)?)
    }

    #[test]
    fn reads_between_their_bounds_are_fine() {
        judge(vec![read((1, 5), 1, 0), read((11, 15), 2, 1), read((25, 26), 2, 1)]).expect("right");
        judge(vec![read((25, 26), 3, 2), read((31, 32), 3, 2)]).expect("right");
    }

    #[test]
    fn wrong_reads_are_complained_about() {
        let told = |call: Call| judge(vec![call]).expect_err("a violation").what;
        assert!(told(read((11, 15), 1, 0)).contains("behind one answered"), "a stale read");
        assert!(told(read((12, 15), 3, 2)).contains("before it was made"), "the future");
        assert!(told(read((11, 15), 2, 0)).contains("should be answered"), "another value");
        assert!(told(read((11, 15), 4, 2)).contains("never was"));
    }

    #[test]
    fn a_stale_read_after_another_read_is_complained_about() {
        let complaint = judge(vec![read((21, 23), 3, 2), read((24, 26), 2, 1)]);
        assert!(complaint.expect_err("a violation").what.contains("behind one answered"));
    }

    #[test]
    fn serializable_reads_may_be_old_and_never_go_back() {
        let stale = |times, revision, version| {
            let mut call = read(times, revision, version);
            let Request::Range(range) = &mut call.request else { panic!() };
            range.is_serializable = true;
            call
        };
        judge(vec![stale((40, 41), 2, 1)]).expect("old is allowed");
        let back = judge(vec![stale((40, 41), 3, 2), stale((42, 43), 2, 1)]);
        assert!(back.expect_err("a violation").what.contains("went back"));
    }

    #[test]
    fn a_refusal_must_be_right_somewhere() {
        let refused = |times, revision| {
            let mut call = read(times, 1, 0);
            call.request = Request::Range(Range { revision, ..Range::key(b"a") });
            call.outcome = Outcome::Refused(FUTURE_REVISION.into());
            call
        };
        judge(vec![refused((1, 5), 2)]).expect("revision 2 was not there yet");
        let wrong = judge(vec![refused((11, 15), 2)]);
        assert!(wrong.expect_err("a violation").what.contains("should not be refused"));
    }
}
