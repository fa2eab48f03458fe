//! Watches: ordered, unique, reliable, atomic, resumable, bookmarkable, with the right previous
//! states.
//!
//! A watch is judged against the history that the calls allow (`durable`): every revision of its
//! range, in order, once, in one message, none missing before a progress notice that covers it, or
//! at the end. Previous states may be missing only where a compaction may have taken them.
//! Source: fact sheet of etcd's behaviour, section 5.

use engine::api::EventList;

use super::compaction::Marks;
use super::history::Complaint;
use crate::model::watch::{Heard, Interest};
use crate::model::{Event, Store};

const CHECK: &str = "watches";

/// What a watch was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// It is there, at this revision.
    Created(i64),
    /// Events of one message, under this revision.
    Events(i64, EventList),
    /// Everything up to here was delivered.
    Progress(i64),
    /// It is over: the compact revision, or 0.
    Canceled(i64),
}

/// One watch on one connection.
#[derive(Clone, Debug)]
pub struct Watched {
    /// What it asked for.
    pub interest: Interest,
    /// First revision asked for; 0 is what comes next.
    pub start_revision: i64,
    /// What it was told, and when.
    pub told: Vec<(u64, Told)>,
    /// It was left open until nothing was outstanding: it must have heard everything.
    pub is_complete: bool,
}

/// Judges one watch.
///
/// # Errors
/// The first message that breaks a guarantee.
pub fn check(watched: &Watched, store: &Store, marks: &Marks) -> Result<(), Complaint> {
    let mut judge = Judge { watched, store, marks, next: watched.start_revision, progress: 0 };
    let mut is_over = false;
    for (slot, (at_us, told)) in watched.told.iter().enumerate() {
        if is_over {
            return judge.complain(format!("{told:?} came after its end"));
        }
        if (slot == 0) != matches!(told, Told::Created(_)) {
            return judge.complain(format!("{told:?} is message {slot}"));
        }
        match told {
            Told::Created(revision) => judge.on_created(*revision)?,
            Told::Events(revision, events) => judge.on_events(*at_us, *revision, events)?,
            Told::Progress(revision) => judge.on_progress(*revision)?,
            Told::Canceled(revision) => {
                is_over = true;
                judge.on_canceled(*at_us, *revision)?;
            }
        }
    }
    if watched.is_complete && !is_over {
        judge.verify_silence(store.revision(), "at the end")?;
    }
    Ok(())
}

struct Judge<'a> {
    watched: &'a Watched,
    store: &'a Store,
    marks: &'a Marks,
    /// Everything below was delivered or is not wanted.
    next: i64,
    /// Highest revision promised.
    progress: i64,
}

impl Judge<'_> {
    fn complain(&self, what: String) -> Result<(), Complaint> {
        let Watched { interest, start_revision, .. } = self.watched;
        let next = self.next;
        let what = format!("watch of {interest:?} from {start_revision}, now at {next}: {what}");
        Err(Complaint::new(CHECK, what))
    }

    fn on_created(&mut self, revision: i64) -> Result<(), Complaint> {
        if self.store.revision() < revision {
            return self.complain(format!("created at {revision}, which never was"));
        }
        if self.watched.start_revision == 0 {
            self.next = revision + 1;
        }
        Ok(())
    }

    fn on_events(&mut self, at_us: u64, header: i64, told: &EventList) -> Result<(), Complaint> {
        let events: Vec<Heard<'_>> = told.iter().map(Heard::of).collect();
        let Some(last) = events.last() else {
            return self.complain("a message without events".to_string());
        };
        if header < last.mod_revision || self.store.revision() < header {
            return self.complain(format!("the header says {header} over {last:?}"));
        }
        let mut rest = &events[..];
        while let Some(first) = rest.first() {
            let revision = first.mod_revision;
            if revision < self.next {
                return self.complain(format!("{first:?} is old or came twice"));
            }
            self.verify_silence(revision - 1, "before the next one")?;
            let expected = self.watched.interest.events(self.store, revision);
            let expected: Vec<&Event> = expected.collect();
            if rest.len() < expected.len() {
                return self.complain(format!("revision {revision} was torn: {events:?}"));
            }
            let (told, later) = rest.split_at(expected.len());
            let is_same = !expected.is_empty()
                && told.iter().zip(&expected).all(|(told, expected)| {
                    told.mod_revision == revision && self.is_right(at_us, told, expected)
                });
            if !is_same {
                let expected = self.heard(revision);
                return self.complain(format!("told {told:?}, which is {expected:?}"));
            }
            self.next = revision + 1;
            rest = later;
        }
        Ok(())
    }

    fn is_right(&self, at_us: u64, told: &Heard<'_>, expected: &Event) -> bool {
        let expected = self.watched.interest.hears(expected, told.mod_revision);
        let may_be_gone = || told.mod_revision <= self.marks.possible(at_us);
        told.key == expected.key
            && told.kv == expected.kv
            && (told.previous == expected.previous || told.previous.is_none() && may_be_gone())
    }

    /// What a revision has for the watch.
    fn heard(&self, revision: i64) -> Vec<Heard<'_>> {
        let interest = &self.watched.interest;
        let events = interest.events(self.store, revision);
        events.map(|event| interest.hears(event, revision)).collect()
    }

    fn on_progress(&mut self, revision: i64) -> Result<(), Complaint> {
        if self.store.revision() < revision {
            return self.complain(format!("progress at {revision}, which never was"));
        }
        if revision < self.progress || revision < self.next - 1 {
            return self.complain(format!("progress went back to {revision}"));
        }
        self.verify_silence(revision, "before progress")?;
        self.progress = revision;
        self.next = self.next.max(revision + 1);
        Ok(())
    }

    fn on_canceled(&mut self, at_us: u64, compact_revision: i64) -> Result<(), Complaint> {
        let is_wrong = compact_revision != 0
            && (compact_revision <= self.next || self.marks.possible(at_us) < compact_revision);
        if is_wrong {
            return self.complain(format!("canceled by compaction to {compact_revision}"));
        }
        Ok(())
    }

    /// Nothing of its range lies between what it heard and `revision`.
    fn verify_silence(&self, revision: i64, when: &str) -> Result<(), Complaint> {
        for missed in self.next..=revision.min(self.store.revision()) {
            if self.watched.interest.events(self.store, missed).next().is_some() {
                let events = self.heard(missed);
                return self.complain(format!("missed {events:?} {when}"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Op;
    use crate::model::{Put, Request, Txn};
    use engine::api;

    /// Revisions 2 to 5: a, then a and b together, then c, then a.
    fn store() -> Store {
        let put = |key: &str| Put { key: key.into(), value: b"v".to_vec(), ..Put::default() };
        let both = vec![Op::Put(put("a")), Op::Put(put("b"))];
        let mut store = Store::default();
        for request in [
            Request::Put(put("a")),
            Request::Txn(Txn { success: both, ..Txn::default() }),
            Request::Put(put("c")),
            Request::Put(put("a")),
        ] {
            let evaluated = store.evaluate(&request, store.revision()).expect("right");
            store.commit(evaluated.events);
        }
        store
    }

    fn interest() -> Interest {
        Interest {
            key: b"a".to_vec(),
            range_end: b"c".to_vec(),
            wants_previous: true,
            ..Interest::default()
        }
    }

    /// What a revision has for the watch, as it is told.
    fn at(revision: i64) -> EventList {
        let (interest, store) = (interest(), store());
        let heard =
            interest.events(&store, revision).map(|event| interest.hears(event, revision).told());
        heard.collect()
    }

    fn joined(lists: &[EventList]) -> EventList {
        lists.iter().flat_map(|list| list.iter()).collect()
    }

    fn judge(told: Vec<Told>, marks: &Marks) -> Result<(), Complaint> {
        let told = std::iter::once(Told::Created(1)).chain(told).map(|told| (9, told)).collect();
        let watched = Watched { interest: interest(), start_revision: 2, told, is_complete: true };
        check(&watched, &store(), marks)
    }

    #[test]
    fn right_watches_pass() {
        let none = Marks::default();
        let all = |pieces: Vec<EventList>| {
            pieces.into_iter().map(|events| Told::Events(5, events)).collect::<Vec<_>>()
        };
        judge(all(vec![at(2), at(3), at(5)]), &none).expect("one by one");
        judge(all(vec![joined(&[at(2), at(3)]), at(5)]), &none).expect("several at once");
        let mut told = all(vec![at(2), at(3)]);
        told.extend([Told::Progress(4), Told::Events(5, at(5))]);
        judge(told, &none).expect("with progress");
    }

    #[test]
    fn wrong_watches_are_complained_about() {
        let none = Marks::default();
        let events = |events| Told::Events(5, events);
        let told = |told: Vec<Told>| judge(told, &none).expect_err("a violation").what;
        assert!(told(vec![events(at(2)), events(at(3))]).contains("missed"), "reliable");
        assert!(told(vec![events(at(3)), events(at(5))]).contains("missed"), "ordered");
        let twice = vec![events(at(2)), events(at(2)), events(at(3)), events(at(5))];
        assert!(told(twice).contains("came twice"), "unique");
        let half = |slot: usize| events(at(3).iter().skip(slot).take(1).collect());
        let torn = vec![events(at(2)), half(0), half(1)];
        assert!(told(torn).contains("torn"), "atomic");
        let early = vec![events(at(2)), Told::Progress(3)];
        assert!(told(early).contains("before progress"), "bookmarkable");
        let back = vec![events(at(2)), events(at(3)), Told::Progress(2)];
        assert!(told(back).contains("went back"));
        let without = at(3);
        let without = without.iter().map(|event| api::Event { prev_kv: None, ..event }).collect();
        assert!(told(vec![events(at(2)), events(without)]).contains("which is"), "prev_kv");
        let over = vec![events(at(2)), Told::Canceled(0), events(at(3))];
        assert!(told(over).contains("after its end"));
        assert!(told(vec![Told::Canceled(9)]).contains("canceled by compaction"));
        assert!(told(vec![Told::Events(1, at(2))]).contains("header"));
    }
}
