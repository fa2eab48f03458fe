//! An ordered map with every version it ever had, by revision.
//!
//! Invariants: versions of a key stand in the order of their revisions; a revision's events are
//! what `commit` was given, once. A request is evaluated at any revision, as if the store stood
//! there, so one store judges answers that were given at different times.
//! Source: fact sheet of etcd's behaviour, sections 1 to 4.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use engine::api::{KeyValue, KvList, range_contains};

use super::answer::{Answer, Kv, RangeAnswer};
use super::failure::{self, Failure};
use super::request::{Delete, Put, Range, Request};
use super::txn;

/// One change of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The key.
    pub key: Vec<u8>,
    /// Its new state; `None` when it was deleted.
    pub kv: Option<Arc<Kv>>,
    /// Its state before this revision, if it was there.
    pub previous: Option<Arc<Kv>>,
}

/// What a request comes to at some revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evaluated {
    /// The header's revision.
    pub revision: i64,
    /// The answer.
    pub answer: Answer,
    /// What it changes, in order; nothing for a read.
    pub events: Vec<Event>,
}

/// All states of a key, in the order of their revisions.
#[derive(Clone, Debug, Default)]
struct Versions {
    /// The revisions, close together: they are searched for each read of an older state.
    mains: Vec<i64>,
    /// `None` where the key was deleted.
    kvs: Vec<Option<Arc<Kv>>>,
}

/// See the file's head.
#[derive(Clone, Debug)]
pub struct Store {
    keys: BTreeMap<Vec<u8>, Versions>,
    /// Events of revision r in slot r; slots 0 and 1 are empty.
    changes: Vec<Vec<Event>>,
}

/// The store as it stood at a revision, with what a request under way changed.
pub(super) struct View<'a> {
    store: &'a Store,
    pub at: i64,
    pub events: Vec<Event>,
    /// The last event of each key, in key order.
    own: Vec<usize>,
}

/// What a read finds, where it lies.
struct Found<'a> {
    kvs: Vec<&'a Arc<Kv>>,
    is_more: bool,
    count: i64,
}

impl Versions {
    fn push(&mut self, main: i64, kv: Option<Arc<Kv>>) {
        self.mains.push(main);
        self.kvs.push(kv);
    }

    fn newest(&self, revision: i64) -> Option<&Arc<Kv>> {
        let count = match *self.mains.last()? <= revision {
            true => self.mains.len(),
            false => self.mains.partition_point(|main| *main <= revision),
        };
        self.kvs[..count].last()?.as_ref()
    }
}

impl Default for Store {
    fn default() -> Store {
        Store { keys: BTreeMap::new(), changes: vec![Vec::new(); FIRST_REVISION as usize + 1] }
    }
}

impl Store {
    /// The newest revision.
    pub fn revision(&self) -> i64 {
        self.changes.len() as i64 - 1
    }

    /// What a revision changed; nothing for one that is not there.
    pub fn changes(&self, revision: i64) -> &[Event] {
        let slot = usize::try_from(revision).unwrap_or(usize::MAX);
        self.changes.get(slot).map_or(&[], |events| events)
    }

    /// Adds the next revision.
    pub fn commit(&mut self, events: Vec<Event>) {
        assert!(!events.is_empty(), "a revision changes something");
        let main = self.revision() + 1;
        for event in &events {
            let versions = match self.keys.get_mut(&event.key) {
                Some(versions) => versions,
                None => self.keys.entry(event.key.clone()).or_default(),
            };
            versions.push(main, event.kv.clone());
        }
        self.changes.push(events);
    }

    /// A key's state at a revision.
    pub fn key_at(&self, key: &[u8], revision: i64) -> Option<&Arc<Kv>> {
        self.keys.get(key)?.newest(revision)
    }

    /// All keys with this lease at a revision, in their order.
    pub fn keys_of_lease(&self, lease: i64, revision: i64) -> Vec<Vec<u8>> {
        assert!(lease != 0);
        let attached =
            |versions: &Versions| versions.newest(revision).is_some_and(|kv| kv.lease == lease);
        let keys = self.keys.iter().filter(|(_, versions)| attached(versions));
        keys.map(|(key, _)| key.clone()).collect()
    }

    /// What deletes these keys in one revision after `revision`.
    pub fn deletion(&self, keys: &[Vec<u8>], revision: i64) -> Vec<Event> {
        let gone = |key: &Vec<u8>| Event {
            key: key.clone(),
            kv: None,
            previous: self.key_at(key, revision).cloned(),
        };
        keys.iter().map(gone).collect()
    }

    /// Whether a read is answered so when the store stands at `at`: what `evaluate` says, compared
    /// where it lies.
    pub fn is_answer(&self, range: &Range, at: i64, told: &RangeAnswer) -> bool {
        if check_key(&range.key).is_err() {
            return false;
        }
        let view = View::new(self, at);
        view.find(range).is_ok_and(|found| {
            let RangeAnswer { kvs, is_more, count } = told;
            (found.is_more, found.count, found.kvs.len()) == (*is_more, *count, kvs.len())
                && found.kvs.iter().zip(kvs.iter()).all(|(found, told)| match range.is_keys_only {
                    true => without_value(found) == told,
                    false => found.told() == told,
                })
        })
    }

    /// What a key-value request comes to when the store stands at `at`. Compaction and leases are
    /// others' to judge: they are not part of a revision.
    ///
    /// # Errors
    /// etcd's refusal.
    pub fn evaluate(&self, request: &Request, at: i64) -> Result<Evaluated, Failure> {
        check(request)?;
        let mut view = View::new(self, at);
        let answer = match request {
            Request::Range(range) => Answer::Range(view.range(range)?),
            Request::Put(put) => {
                view.check_put(put)?;
                Answer::Put { previous: view.put(put) }
            }
            Request::Delete(delete) => {
                let previous = view.delete(delete);
                let deleted = previous.len() as i64;
                let told = previous.iter().filter(|_| delete.wants_previous);
                Answer::Delete { deleted, previous: told.map(|kv| kv.told()).collect() }
            }
            Request::Txn(txn) => {
                let path = txn::choose(&view, txn);
                txn::check_path(&view, &path)?;
                let (is_success, answers) = txn::run(&mut view, &path)?;
                Answer::Txn { is_success, answers }
            }
            other => panic!("{other:?} is not a key-value request"),
        };
        let revision = match request {
            Request::Range(_) => at,
            _ => view.revision(),
        };
        Ok(Evaluated { revision, answer, events: view.events })
    }
}

/// What is refused by its form alone.
///
/// # Errors
/// etcd's refusal.
pub fn check(request: &Request) -> Result<(), Failure> {
    match request {
        Request::Range(range) => check_key(&range.key),
        Request::Put(put) => check_put(put),
        Request::Delete(delete) => check_key(&delete.key),
        Request::Txn(txn) => txn::check(txn, TXN_OPS_MAX),
        _ => Ok(()),
    }
}

fn without_value(kv: &Kv) -> KeyValue<'_> {
    KeyValue { value: &[], ..kv.told() }
}

pub(super) fn check_key(key: &[u8]) -> Result<(), Failure> {
    if key.is_empty() { Err(failure::EMPTY_KEY.into()) } else { Ok(()) }
}

pub(super) fn check_put(put: &Put) -> Result<(), Failure> {
    check_key(&put.key)?;
    if put.ignores_value && !put.value.is_empty() {
        return Err(failure::VALUE_PROVIDED.into());
    }
    if put.ignores_lease && put.lease != 0 {
        return Err(failure::LEASE_PROVIDED.into());
    }
    Ok(())
}

impl<'a> View<'a> {
    fn new(store: &'a Store, at: i64) -> View<'a> {
        assert!(FIRST_REVISION <= at && at <= store.revision());
        View { store, at, events: Vec::new(), own: Vec::new() }
    }

    /// The revision that the request's own writes are visible at.
    pub fn revision(&self) -> i64 {
        self.at + i64::from(!self.events.is_empty())
    }

    pub fn key(&self, key: &[u8]) -> Option<&Arc<Kv>> {
        match self.own(key) {
            Ok(place) => self.events[self.own[place]].kv.as_ref(),
            Err(_) => self.store.key_at(key, self.at),
        }
    }

    /// Where a key's own event is in `own`, or would be.
    fn own(&self, key: &[u8]) -> Result<usize, usize> {
        self.own.binary_search_by(|slot| self.events[*slot].key.as_slice().cmp(key))
    }

    /// The keys of a range, at `revision` or with the request's own writes.
    pub fn keys(&self, key: &[u8], range_end: &[u8], revision: Option<i64>) -> Vec<&Arc<Kv>> {
        let at = revision.unwrap_or(self.at);
        if range_end.is_empty() {
            let kv = match revision {
                None => self.key(key),
                Some(at) => self.store.key_at(key, at),
            };
            return kv.into_iter().collect();
        }
        let behind = self.store.keys.range::<[u8], _>((Bound::Included(key), Bound::Unbounded));
        let there = behind.take_while(|(name, _)| range_contains(key, range_end, name));
        let there = there.filter_map(|(_, versions)| versions.newest(at));
        if revision.is_some() || self.own.is_empty() {
            return there.collect();
        }
        let mut found: BTreeMap<&[u8], &Arc<Kv>> = there.map(|kv| (&kv.key[..], kv)).collect();
        for slot in &self.own {
            let Event { key: name, kv: own, .. } = &self.events[*slot];
            match own {
                Some(kv) if range_contains(key, range_end, name) => found.insert(name, kv),
                _ => found.remove(name.as_slice()),
            };
        }
        found.into_values().collect()
    }

    /// What exists already is checked before anything is changed.
    pub fn check_put(&self, put: &Put) -> Result<(), Failure> {
        let needs_key = put.ignores_value || put.ignores_lease;
        if needs_key && self.store.key_at(&put.key, self.at).is_none() {
            return Err(failure::KEY_NOT_FOUND.into());
        }
        Ok(())
    }

    pub fn check_revision(&self, revision: i64) -> Result<(), Failure> {
        if self.at < revision { Err(failure::FUTURE_REVISION.into()) } else { Ok(()) }
    }

    /// The state before, if it was asked for and there was one.
    pub fn put(&mut self, put: &Put) -> KvList {
        let main = self.at + 1;
        let before = self.key(&put.key).cloned();
        let kept = |is_kept: bool| before.as_ref().filter(|_| is_kept);
        let kv = Kv {
            key: put.key.clone(),
            value: kept(put.ignores_value).map_or(&put.value, |old| &old.value).clone(),
            lease: kept(put.ignores_lease).map_or(put.lease, |old| old.lease),
            create_revision: before.as_ref().map_or(main, |old| old.create_revision),
            version: before.as_ref().map_or(1, |old| old.version + 1),
            mod_revision: main,
        };
        self.change(&put.key, Some(Arc::new(kv)));
        before.iter().filter(|_| put.wants_previous).map(|kv| kv.told()).collect()
    }

    /// The states that were there before, in key order.
    pub fn delete(&mut self, delete: &Delete) -> Vec<Arc<Kv>> {
        let there = self.keys(&delete.key, &delete.range_end, None);
        let there: Vec<Arc<Kv>> = there.into_iter().cloned().collect();
        for kv in &there {
            self.change(&kv.key, None);
        }
        there
    }

    pub fn range(&self, range: &Range) -> Result<RangeAnswer, Failure> {
        let Found { kvs, is_more, count } = self.find(range)?;
        let kvs = match range.is_keys_only {
            true => kvs.into_iter().map(|kv| without_value(kv)).collect(),
            false => kvs.into_iter().map(|kv| kv.told()).collect(),
        };
        Ok(RangeAnswer { kvs, is_more, count })
    }

    fn find(&self, range: &Range) -> Result<Found<'_>, Failure> {
        self.check_revision(range.revision)?;
        let revision = (0 < range.revision).then_some(range.revision);
        let mut kvs = self.keys(&range.key, &range.range_end, revision);
        let count = kvs.len() as i64;
        if range.is_count_only {
            return Ok(Found { kvs: Vec::new(), is_more: false, count });
        }
        kvs.retain(|kv| {
            range.min_mod_revision <= kv.mod_revision
                && (range.max_create_revision == 0
                    || kv.create_revision <= range.max_create_revision)
        });
        if range.is_descending {
            kvs.reverse();
        }
        let limit = usize::try_from(range.limit).ok().filter(|limit| 0 < *limit);
        let is_more = limit.is_some_and(|limit| limit < kvs.len());
        kvs.truncate(limit.unwrap_or(usize::MAX));
        Ok(Found { kvs, is_more, count })
    }

    fn change(&mut self, key: &[u8], kv: Option<Arc<Kv>>) {
        let previous = self.store.key_at(key, self.at).cloned();
        let slot = self.events.len();
        match self.own(key) {
            Ok(place) => self.own[place] = slot,
            Err(place) => self.own.insert(place, slot),
        }
        self.events.push(Event { key: key.to_vec(), kv, previous });
    }
}

/// An empty store stands here.
pub const FIRST_REVISION: i64 = 1;
/// Operations in a list of a transaction: etcd's default.
const TXN_OPS_MAX: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Compare, Op, OpAnswer, Relation, Txn, Value};

    fn put(key: &str, value: &str) -> Put {
        Put { key: key.into(), value: value.into(), ..Put::default() }
    }

    fn run(store: &mut Store, request: &Request) -> Evaluated {
        let evaluated = store.evaluate(request, store.revision()).expect("not refused");
        if !evaluated.events.is_empty() {
            store.commit(evaluated.events.clone());
        }
        evaluated
    }

    #[test]
    fn versions_and_revisions_count_as_in_etcd() {
        let mut store = Store::default();
        assert_eq!(run(&mut store, &Request::Put(put("a", "1"))).revision, 2);
        assert_eq!(run(&mut store, &Request::Put(put("a", "1"))).revision, 3);
        let kv = store.key_at(b"a", 3).expect("it is there").clone();
        assert_eq!((kv.create_revision, kv.mod_revision, kv.version), (2, 3, 2));
        let gone = Delete { key: b"a".to_vec(), ..Delete::default() };
        assert_eq!(run(&mut store, &Request::Delete(gone.clone())).revision, 4);
        assert_eq!(run(&mut store, &Request::Delete(gone)).revision, 4, "nothing was there");
        run(&mut store, &Request::Put(put("a", "2")));
        let kv = store.key_at(b"a", 5).expect("it is there").clone();
        assert_eq!((kv.create_revision, kv.version), (5, 1));
        assert_eq!(store.key_at(b"a", 4), None);
        assert_eq!(store.key_at(b"a", 2).map(|kv| kv.version), Some(1));
    }

    #[test]
    fn a_transaction_is_one_revision_and_sees_its_own_writes() {
        let mut store = Store::default();
        run(&mut store, &Request::Put(put("a", "1")));
        let guard = Compare {
            key: b"a".to_vec(),
            range_end: Vec::new(),
            relation: Relation::Equal,
            value: Value::Version(1),
        };
        let txn = Txn {
            compare: vec![guard],
            success: vec![
                Op::Put(put("b", "2")),
                Op::Range(Range::everything()),
                Op::Delete(Delete { key: b"a".to_vec(), ..Delete::default() }),
            ],
            failure: Vec::new(),
        };
        let done = run(&mut store, &Request::Txn(txn.clone()));
        assert_eq!((done.revision, done.events.len()), (3, 2));
        let Answer::Txn { is_success: true, answers } = done.answer else { panic!() };
        let OpAnswer::Range { revision: 3, range } = &answers[1] else { panic!() };
        assert_eq!(range.count, 2);
        let again = run(&mut store, &Request::Txn(txn));
        assert_eq!(again.revision, 3, "the other branch is empty");
    }

    #[test]
    fn a_read_is_compared_as_it_is_evaluated() {
        let mut store = Store::default();
        for (key, value) in [("a", "1"), ("b", "2"), ("a", "3"), ("c", "4")] {
            run(&mut store, &Request::Put(put(key, value)));
        }
        let all = Range::everything();
        let ranges = [
            all.clone(),
            Range { is_keys_only: true, ..all.clone() },
            Range { is_count_only: true, ..all.clone() },
            Range { limit: 1, is_descending: true, ..all.clone() },
            Range { revision: 3, ..all.clone() },
            Range { min_mod_revision: 4, max_create_revision: 4, ..all },
            Range::key(b"a"),
            Range::key(b"d"),
            Range { revision: 3, ..Range::key(b"a") },
        ];
        let answer = |range: &Range, at: i64| {
            let evaluated = store.evaluate(&Request::Range(range.clone()), at);
            let Answer::Range(answer) = evaluated.expect("not refused").answer else { panic!() };
            answer
        };
        for at in 3..=store.revision() {
            for asked in &ranges {
                for told in &ranges {
                    let told = answer(told, at);
                    assert_eq!(store.is_answer(asked, at, &told), told == answer(asked, at));
                }
            }
        }
        let future = Range { revision: 9, ..Range::key(b"a") };
        assert!(!store.is_answer(&future, 5, &RangeAnswer::default()), "it is refused");
        assert!(!store.is_answer(&Range::default(), 5, &RangeAnswer::default()), "so is this");
    }

    #[test]
    fn refusals_are_etcds() {
        let store = Store::default();
        let refused = |request: Request| store.evaluate(&request, 1).expect_err("refused");
        let future = Range { revision: 2, ..Range::key(b"a") };
        assert_eq!(refused(Request::Range(future)), failure::FUTURE_REVISION.into());
        let keeps = Put { ignores_value: true, ..put("a", "") };
        assert_eq!(refused(Request::Put(keeps)), failure::KEY_NOT_FOUND.into());
        assert_eq!(refused(Request::Put(put("", "1"))), failure::EMPTY_KEY.into());
        let twice = vec![Op::Put(put("a", "1")), Op::Put(put("a", "2"))];
        let txn = Txn { success: twice, ..Txn::default() };
        assert_eq!(refused(Request::Txn(txn)), failure::DUPLICATE_KEY.into());
    }
}
