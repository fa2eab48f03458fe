//! The client's side against the shipped one: one member, no world.

use engine::api::{EventType, KvList};
use shard::input::Door;

use super::*;
use crate::model::{Answer, Delete, Put, Range};
use crate::sim::member::{SimMember, Storage, config};
use shard::input::ConnectionId;

struct Talk {
    member: SimMember,
    connection: ConnectionId,
    session: Session,
    said: Vec<Said>,
}

impl Talk {
    fn new(habits: Habits) -> Talk {
        let storage = Storage::default();
        let mut member = SimMember::start(config(), storage, 1_000_000).expect("it starts");
        member.settle();
        let connection = member.connect(Door::Client);
        let mut talk = Talk { member, connection, session: Session::new(habits), said: Vec::new() };
        talk.exchange();
        assert!(talk.session.is_greeted());
        talk
    }

    /// Bytes flow both ways, by small pieces, until there are none.
    fn exchange(&mut self) {
        loop {
            self.session.tick();
            let bytes = self.session.take_output();
            let is_quiet = bytes.is_empty();
            for piece in bytes.chunks(7_777) {
                self.member.receive(self.connection, piece.to_vec());
            }
            self.member.settle();
            let bytes = self.member.take_sent(self.connection);
            for piece in bytes.chunks(10_000) {
                self.session.feed(piece, &mut |said| self.said.push(said));
            }
            if is_quiet && bytes.is_empty() {
                return;
            }
        }
    }

    fn call(&mut self, request: &Request) -> Result<(i64, Answer), Failure> {
        let asked = self.session.call(request, None);
        self.exchange();
        match self.said.pop().expect("the member answers") {
            Said::Done { id, revision, answer } if id == asked => Ok((revision, answer)),
            Said::Failed { id, failure } if id == asked => Err(failure),
            other => panic!("asked {request:?}, told {other:?}"),
        }
    }
}

fn every_habit() -> Vec<Habits> {
    let mut random = Random::new(1);
    let mut drawn: Vec<Habits> = (0..6).map(|_| Habits::draw(&mut random, false)).collect();
    drawn.extend((0..2).map(|_| Habits::draw(&mut random, true)));
    drawn
}

fn put(key: &str, size_bytes: usize) -> Request {
    let value = vec![b'v'; size_bytes];
    Request::Put(Put { key: key.into(), value, wants_previous: true, ..Put::default() })
}

#[test]
fn calls_of_every_habit_are_answered_through_windows_of_every_size() {
    for habits in every_habit() {
        let mut talk = Talk::new(habits);
        let revision = talk.call(&put("a", 200_000)).expect("it fits").0;
        let told = talk.call(&put("a", 3)).expect("it fits");
        assert_eq!(told.0, revision + 1);
        let Answer::Put { previous } = &told.1 else { panic!("{told:?}") };
        let previous = previous.first().expect("it was asked for");
        assert_eq!((previous.value.len(), previous.mod_revision), (200_000, revision));
        let range = Range { revision, ..Range::key(b"a") };
        let (_, answer) = talk.call(&Request::Range(range)).expect("it is kept");
        let Answer::Range(range) = answer else { panic!("{answer:?}") };
        assert_eq!((range.count, range.kvs.first().expect("one").value.len()), (1, 200_000));
        let delete = Delete { key: b"b".to_vec(), ..Delete::default() };
        let (_, answer) = talk.call(&Request::Delete(delete)).expect("nothing to do is done");
        assert_eq!(answer, Answer::Delete { deleted: 0, previous: KvList::default() });
        let failure = talk.call(&put("", 1)).expect_err("a key is missing");
        assert_eq!((failure.code, &*failure.message), (3, "etcdserver: key is not provided"));
    }
}

#[test]
fn renewals_are_answered_in_their_order_on_one_stream_or_many() {
    for habits in every_habit() {
        let mut talk = Talk::new(habits);
        talk.call(&Request::LeaseGrant { id: 5, ttl_s: 60 }).expect("the id is free");
        let ids = [5, 6, 5].map(|id| talk.session.call(&Request::LeaseKeepAlive { id }, None));
        talk.exchange();
        let told: Vec<_> = talk.said.drain(..).map(|said| format!("{said:?}")).collect();
        for (id, ttl_s) in ids.iter().zip([60, 0, 60]) {
            let is_it = |line: &&String| {
                line.contains(&format!("id: {id},")) && line.contains(&format!("ttl_s: {ttl_s} }}"))
            };
            assert!(told.iter().any(|line| is_it(&line)), "{id} of {told:?}");
        }
    }
}

#[test]
fn a_watch_hears_of_changes_and_how_far_it_is() {
    for habits in every_habit() {
        let mut talk = Talk::new(habits);
        talk.session.watch(&Interest::everything(), 0);
        talk.exchange();
        let Some(Said::Watch(Told::Created(from))) = talk.said.pop() else { panic!("no watch") };
        let id = talk.session.call(&put("a", 50_000), None);
        talk.exchange();
        let mut heard = None;
        let mut is_done = false;
        for said in talk.said.drain(..) {
            match said {
                Said::Watch(Told::Events(revision, events)) => heard = Some((revision, events)),
                Said::Done { id: of, .. } => is_done = of == id,
                other => panic!("told {other:?}"),
            }
        }
        let (revision, events) = heard.expect("the change is told");
        assert!(is_done);
        let event = events.event(0);
        assert_eq!((revision, events.len(), event.kv.mod_revision), (from + 1, 1, from + 1));
        assert_eq!((event.event_type, event.kv.value.len()), (EventType::Put, 50_000));
        talk.session.ask_progress();
        talk.exchange();
        let said = talk.said.pop();
        assert!(
            matches!(said, Some(Said::Watch(Told::Progress(at))) if at == from + 1),
            "{said:?}"
        );
    }
}

#[test]
fn a_call_that_is_given_up_is_not_told() {
    let mut talk = Talk::new(every_habit().remove(0));
    let id = talk.session.call(&put("a", 10), None);
    assert!(talk.session.abandon(id) && !talk.session.abandon(id));
    talk.exchange();
    assert!(talk.said.is_empty(), "{:?}", talk.said);
    talk.call(&put("a", 10)).expect("the connection goes on");
}

#[test]
fn messages_of_failures_are_decoded() {
    assert_eq!(decode_percents("a%20b%C3%A9%2"), "a b\u{e9}%2");
}
