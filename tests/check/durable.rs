//! No acknowledged write is lost, none is done twice, nobody's hand makes a revision.
//!
//! Takes the calls and, revision by revision, what a watch of everything heard. Every revision must
//! have one maker whose request, evaluated by the model one revision earlier, makes exactly these
//! events and, if it was answered, gives exactly this answer. What nobody knows the outcome of may
//! have made one revision or none; where several such calls explain several revisions, some way of
//! giving each revision its own is enough. A revision without a call's hand must be the end of a lease:
//! all its keys, nothing else.
//! Source: fact sheet of etcd's behaviour, sections 1, 7 and 15.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::history::{Call, Complaint, History, NEVER_US, Outcome};
use crate::model::store::FIRST_REVISION;
use crate::model::watch::Heard;
use crate::model::{Answer, Evaluated, Event, Kv, Request, Store};

const CHECK: &str = "durable";

/// Who made a revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Maker {
    /// A call, by its slot in the history.
    Call(usize),
    /// A lease that was revoked or ran out.
    Lease(i64),
}

/// The one order that the calls and events allow.
#[derive(Clone, Debug)]
pub struct Truth {
    /// Every revision.
    pub store: Store,
    /// The maker of each revision, from the first one after the empty store.
    pub makers: BTreeMap<i64, Maker>,
}

/// Finds the maker of every revision; `heard` is in their order.
///
/// # Errors
/// The first revision that contradicts a call, or that nobody made.
pub fn replay(history: &History, heard: &[Heard<'_>]) -> Result<Truth, Complaint> {
    let mut told: BTreeMap<i64, Vec<usize>> = BTreeMap::new();
    let mut unknown = Vec::new();
    for (slot, call) in history.calls.iter().enumerate() {
        match &call.outcome {
            Outcome::Done { revision, .. } if call.is_effective() => {
                told.entry(*revision).or_default().push(slot);
            }
            Outcome::Unknown if is_write(&call.request) => unknown.push(slot),
            _ => {}
        }
    }
    let known = known_times(history);
    let mut claims = Claims::default();
    let mut truth = Truth { store: Store::default(), makers: BTreeMap::new() };
    for events in heard.chunk_by(|one, other| one.mod_revision == other.mod_revision) {
        let next = truth.store.revision() + 1;
        let revision = events[0].mod_revision;
        if revision != next {
            let what = format!("revision {next} was never heard of, but {revision} was");
            return Err(Complaint::new(CHECK, what));
        }
        let slots = told.remove(&revision).unwrap_or_default();
        match known_maker(history, &truth.store, &slots, events)? {
            Some((maker, made)) => {
                truth.makers.insert(next, maker);
                truth.store.commit(made);
                continue;
            }
            None => {
                // Nobody can have made what somebody else knew of before.
                let known_us = known.range(next..).next().map_or(NEVER_US, |(_, us)| *us);
                let makes = |slot: &usize| {
                    let call = &history.calls[*slot];
                    let evaluated = truth.store.evaluate(&call.request, next - 1);
                    call.invoked_us <= known_us
                        && evaluated.is_ok_and(|evaluated| is_same(&evaluated.events, events))
                };
                let able = unknown.iter().copied().filter(makes).collect();
                if !claims.add(next, able) {
                    let what = format!("nobody asked for revision {next}: {events:?}");
                    return Err(Complaint::new(CHECK, what));
                }
            }
        }
        let store = &truth.store;
        let previous = |key: &[u8]| store.key_at(key, next - 1).cloned();
        let as_event = |heard: &Heard<'_>| Event {
            key: heard.key.to_vec(),
            kv: heard.kv.as_ref().map(|kv| Arc::new(Kv::of(kv))),
            previous: previous(heard.key),
        };
        let events = events.iter().map(as_event).collect();
        truth.store.commit(events);
    }
    let claimed = claims.made.iter().map(|(slot, revision)| (*revision, Maker::Call(*slot)));
    truth.makers.extend(claimed);
    if let Some((revision, slots)) = told.first_key_value() {
        let what = format!(
            "revision {revision} was acknowledged and is gone: {:?}; the last one is {}",
            history.calls[slots[0]],
            truth.store.revision()
        );
        return Err(Complaint::new(CHECK, what));
    }
    assert!(FIRST_REVISION <= truth.store.revision());
    Ok(truth)
}

/// For each revision that an answer told, the earliest time at which it or a later one was known.
fn known_times(history: &History) -> BTreeMap<i64, u64> {
    let mut known: BTreeMap<i64, u64> = BTreeMap::new();
    for call in &history.calls {
        if let Some(revision) = call.revision() {
            let known_us = known.entry(revision).or_insert(NEVER_US);
            *known_us = call.returned_us.min(*known_us);
        }
    }
    let mut earliest_us = NEVER_US;
    for known_us in known.values_mut().rev() {
        earliest_us = earliest_us.min(*known_us);
        *known_us = earliest_us;
    }
    known
}

fn is_write(request: &Request) -> bool {
    matches!(request, Request::Put(_) | Request::Delete(_) | Request::Txn(_))
}

/// Which calls without an answer made which revisions: each revision has one of those that are able
/// to have made it, no call has two. What was chosen first is chosen again where that makes room
/// (augmenting paths of a bipartite matching), for a call that may have made an earlier revision as
/// well as another call may be the only one for a later revision.
#[derive(Debug, Default)]
struct Claims {
    able: BTreeMap<i64, Vec<usize>>,
    made: BTreeMap<usize, i64>,
}

impl Claims {
    /// Finds a maker for one more revision; false if there is no way.
    fn add(&mut self, revision: i64, able: Vec<usize>) -> bool {
        self.able.insert(revision, able);
        self.claim(revision, &mut BTreeSet::new())
    }

    fn claim(&mut self, revision: i64, asked: &mut BTreeSet<usize>) -> bool {
        let able = self.able[&revision].clone();
        if let Some(free) = able.iter().find(|slot| !self.made.contains_key(slot)) {
            self.made.insert(*free, revision);
            return true;
        }
        for slot in able {
            let other = self.made[&slot];
            if asked.insert(slot) && self.claim(other, asked) {
                self.made.insert(slot, revision);
                return true;
            }
        }
        false
    }
}

/// The maker of a revision that an answer tells of, or that a lease's end explains, and the events
/// it makes, which are those heard.
fn known_maker(
    history: &History,
    store: &Store,
    told: &[usize],
    events: &[Heard<'_>],
) -> Result<Option<(Maker, Vec<Event>)>, Complaint> {
    let at = store.revision();
    match told {
        [] => {}
        [slot] => {
            let call = &history.calls[*slot];
            let evaluated = store.evaluate(&call.request, at).map_err(|failure| {
                let revision = at + 1;
                let what = format!("revision {revision}: {call:?} has to be refused: {failure:?}");
                Complaint::new(CHECK, what)
            })?;
            verify_answer(call, &evaluated, events)?;
            return Ok(Some((Maker::Call(*slot), evaluated.events)));
        }
        [first, second, ..] => {
            let (first, second) = (&history.calls[*first], &history.calls[*second]);
            let what = format!("revision {} was given to two: {first:?} and {second:?}", at + 1);
            return Err(Complaint::new(CHECK, what));
        }
    }
    // The end of a lease comes first: it takes nothing from the calls that may explain more.
    let lease = events.first().and_then(|event| store.key_at(event.key, at)).map(|kv| kv.lease);
    if let Some(lease) = lease.filter(|lease| *lease != 0) {
        let ended = store.deletion(&store.keys_of_lease(lease, at), at);
        if is_same(&ended, events) {
            return Ok(Some((Maker::Lease(lease), ended)));
        }
    }
    Ok(None)
}

fn verify_answer(
    call: &Call,
    evaluated: &Evaluated,
    events: &[Heard<'_>],
) -> Result<(), Complaint> {
    if !is_same(&evaluated.events, events) {
        let what = format!("{call:?} should change {:?}, changed {events:?}", evaluated.events);
        return Err(Complaint::new(CHECK, what));
    }
    let Outcome::Done { revision, answer } = &call.outcome else { return Ok(()) };
    if (evaluated.revision, &evaluated.answer) != (*revision, answer) {
        let what = format!("{call:?} should be answered {evaluated:?}");
        return Err(Complaint::new(CHECK, what));
    }
    Ok(())
}

fn is_same(events: &[Event], heard: &[Heard<'_>]) -> bool {
    let is_one = |(event, heard): (&Event, &Heard<'_>)| {
        event.key == heard.key && event.kv.as_ref().map(|kv| kv.told()) == heard.kv
    };
    events.len() == heard.len() && events.iter().zip(heard).all(is_one)
}

/// Whether an answer belongs to a key-value request: those that the store judges.
pub(super) fn is_key_value(answer: &Answer) -> bool {
    matches!(
        answer,
        Answer::Range(_) | Answer::Put { .. } | Answer::Delete { .. } | Answer::Txn { .. }
    )
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::model::{Delete, Put};
    use engine::api::{KeyValue, KvList};

    pub fn put(key: &str, value: &str, times: (u64, u64), revision: Option<i64>) -> Call {
        let request = Request::Put(Put { key: key.into(), value: value.into(), ..Put::default() });
        let outcome = match revision {
            Some(revision) => {
                Outcome::Done { revision, answer: Answer::Put { previous: KvList::default() } }
            }
            None => Outcome::Unknown,
        };
        let returned_us = if revision.is_some() { times.1 } else { u64::MAX };
        Call { connection: 1, invoked_us: times.0, returned_us, request, outcome }
    }

    pub fn heard(
        key: &'static str,
        value: &'static str,
        create: i64,
        modified: i64,
        version: i64,
    ) -> Heard<'static> {
        let kv = KeyValue {
            key: key.as_bytes(),
            value: value.as_bytes(),
            create_revision: create,
            mod_revision: modified,
            version,
            lease: 0,
        };
        Heard { mod_revision: modified, key: key.as_bytes(), kv: Some(kv), previous: None }
    }

    #[test]
    fn a_right_history_has_one_maker_a_revision() {
        let calls = vec![
            put("a", "1", (0, 1), Some(2)),
            put("a", "2", (2, 0), None),
            put("a", "never", (3, 0), None),
        ];
        let heard = vec![heard("a", "1", 2, 2, 1), heard("a", "2", 2, 3, 2)];
        let truth = replay(&History { calls }, &heard).expect("nothing is wrong");
        assert_eq!(truth.makers[&2], Maker::Call(0));
        assert_eq!(truth.makers[&3], Maker::Call(1));
    }

    #[test]
    fn who_may_have_made_several_revisions_leaves_the_others_theirs() {
        let delete = |range_end: &str| {
            Request::Delete(Delete {
                key: b"a".to_vec(),
                range_end: range_end.into(),
                ..Delete::default()
            })
        };
        let unknown = |range_end: &str| Call {
            request: delete(range_end),
            outcome: Outcome::Unknown,
            ..put("", "", (1, 0), None)
        };
        let gone = |key: &'static str, revision: i64| Heard {
            mod_revision: revision,
            key: key.as_bytes(),
            kv: None,
            previous: None,
        };
        let mut calls = vec![put("a", "1", (0, 1), Some(2)), put("b", "1", (0, 9), Some(4))];
        // The first may have deleted either key, the second only the first one.
        calls.extend([unknown("c"), unknown("")]);
        let heard =
            vec![heard("a", "1", 2, 2, 1), gone("a", 3), heard("b", "1", 4, 4, 1), gone("b", 5)];
        let truth = replay(&History { calls: calls.clone() }, &heard).expect("there is a way");
        assert_eq!((truth.makers[&3], truth.makers[&5]), (Maker::Call(3), Maker::Call(2)));
        calls.pop();
        let complaint = replay(&History { calls }, &heard).expect_err("one is left over");
        assert!(complaint.what.contains("nobody asked for revision 5"), "{complaint}");
    }

    #[test]
    fn wrong_histories_are_complained_about() {
        let one = || vec![put("a", "1", (0, 1), Some(2))];
        let told = |calls: Vec<Call>, heard: Vec<Heard<'_>>| {
            replay(&History { calls }, &heard).expect_err("a violation").what
        };
        assert!(told(one(), Vec::new()).contains("is gone"));
        let other = vec![heard("a", "2", 2, 2, 1)];
        assert!(told(one(), other).contains("should change"));
        let nobodys = vec![heard("a", "1", 2, 2, 1), heard("b", "1", 3, 3, 1)];
        assert!(told(one(), nobodys).contains("nobody asked"));
        let gap = vec![heard("a", "1", 2, 2, 1), heard("a", "1", 2, 4, 2)];
        assert!(told(one(), gap).contains("never heard of"));
        let mut twice = one();
        twice.push(put("b", "1", (0, 1), Some(2)));
        let right = vec![heard("a", "1", 2, 2, 1)];
        assert!(told(twice, right.clone()).contains("given to two"));
        let mut repeated = right;
        repeated.push(heard("a", "1", 2, 3, 2));
        assert!(told(one(), repeated).contains("nobody asked"), "an acknowledged write runs once");
        let mut wrong = one();
        let previous = [KeyValue::default()].into_iter().collect();
        wrong[0].outcome = Outcome::Done { revision: 2, answer: Answer::Put { previous } };
        let right = vec![heard("a", "1", 2, 2, 1)];
        assert!(told(wrong, right).contains("should be answered"));
    }

    #[test]
    fn a_lease_ends_with_all_its_keys() {
        let attached = |key: &'static str, revision: i64| {
            let mut call = put(key, "1", (0, 1), Some(revision));
            let Request::Put(put) = &mut call.request else { panic!() };
            put.lease = 7;
            let mut heard = heard(key, "1", revision, revision, 1);
            heard.kv.as_mut().expect("a put").lease = 7;
            (call, heard)
        };
        let ((a, heard_a), (b, heard_b)) = (attached("a", 2), attached("b", 3));
        let gone = |key: &'static str| Heard {
            mod_revision: 4,
            key: key.as_bytes(),
            kv: None,
            previous: None,
        };
        let history = History { calls: vec![a, b] };
        let mut heard = vec![heard_a, heard_b, gone("a"), gone("b")];
        let truth = replay(&history, &heard).expect("nothing is wrong");
        assert_eq!(truth.makers[&4], Maker::Lease(7));
        heard.pop();
        assert!(replay(&history, &heard).is_err(), "half a lease");
        let delete = Request::Delete(Delete { key: b"a".to_vec(), ..Delete::default() });
        let open = Call { request: delete, outcome: Outcome::Unknown, ..put("", "", (1, 0), None) };
        let history = History { calls: [history.calls, vec![open]].concat() };
        let truth = replay(&history, &heard).expect("the deletion may have happened");
        assert_eq!(truth.makers[&4], Maker::Call(2));
    }
}
