//! A client of the binary protocol in the simulated world: the production codec, no sockets.

use net::wire::{Answer, ClientHello, ClientRequest, ClientSession, Message, ReplyHeader, Request};
use shard::input::{ConnectionId, Door};

use super::member::SimMember;

/// A failure as the server told it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// gRPC code.
    pub code: u32,
    /// etcd's text.
    pub message: String,
}

/// What a request came to.
pub type Outcome = Result<(ReplyHeader, Answer), Failure>;

/// Something a watch was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchSaid {
    /// It is there, from this revision.
    Created(i64),
    /// (is delete, key, mod revision) of each event.
    Events(Vec<(bool, Vec<u8>, i64)>),
    /// Everything up to here was delivered.
    Progress(i64),
    /// It is over; compact revision and reason.
    Canceled(i64, String),
}

/// One connection and what came back on it.
pub struct SimClient {
    session: ClientSession,
    connection: ConnectionId,
    /// Answers that came, by request id.
    pub outcomes: Vec<(u64, Outcome)>,
    /// What watches were told, by watch.
    pub watched: Vec<(u64, WatchSaid)>,
}

impl SimClient {
    /// Connects and says hello.
    pub fn connect(member: &mut SimMember) -> SimClient {
        let connection = member.connect(Door::Binary);
        let session = ClientSession::new(&ClientHello { client: "sim", ..ClientHello::default() });
        let (outcomes, watched) = (Vec::new(), Vec::new());
        let mut client = SimClient { session, connection, outcomes, watched };
        client.exchange(member);
        assert!(client.session.server().is_some(), "the server said hello");
        client
    }

    /// Sends a request; its answer is to be fetched by `exchange`.
    pub fn send(&mut self, request: &impl ClientRequest) -> u64 {
        self.session.request(request).expect("test requests fit")
    }

    /// Lets bytes flow both ways until nothing happens.
    pub fn exchange(&mut self, member: &mut SimMember) {
        self.flush(member);
        member.settle();
        self.fetch(member);
    }

    /// Hands the requests over without letting the member run.
    pub fn flush(&mut self, member: &mut SimMember) {
        let bytes = self.session.take_output(Vec::new());
        member.receive(self.connection, bytes);
    }

    /// Reads what the member sent.
    pub fn fetch(&mut self, member: &mut SimMember) {
        let bytes = member.take_sent(self.connection);
        let (outcomes, watched) = (&mut self.outcomes, &mut self.watched);
        let fed = self.session.feed(&bytes, &mut |message| match message {
            Message::Hello(_) | Message::Reconnect { .. } | Message::GoAway { .. } => {}
            Message::Reply { request_id, opcode, body } => {
                let answer = Answer::decode(opcode, body).expect("the server's answers decode");
                outcomes.push((request_id, Ok(answer)));
            }
            Message::Error { request_id, code, message } => {
                let message = message.to_string();
                outcomes.push((request_id, Err(Failure { code, message })));
            }
            Message::WatchCreated { watch_id, header } => {
                watched.push((watch_id, WatchSaid::Created(header.revision)));
            }
            Message::WatchEvents { watch_id, events, .. } => {
                let told = events.iter().map(|event| {
                    let is_delete = event.event_type == engine::api::EventType::Delete;
                    (is_delete, event.kv.key.to_vec(), event.kv.mod_revision)
                });
                watched.push((watch_id, WatchSaid::Events(told.collect())));
            }
            Message::WatchProgressed { watch_id, header } => {
                watched.push((watch_id, WatchSaid::Progress(header.revision)));
            }
            Message::WatchCanceled { watch_id, canceled, .. } => {
                let reason = canceled.reason.to_string();
                watched.push((watch_id, WatchSaid::Canceled(canceled.compact_revision, reason)));
            }
        });
        fed.expect("the server's bytes are well-formed");
    }

    /// One request and its answer.
    pub fn call(&mut self, member: &mut SimMember, request: &Request<'_>) -> Outcome {
        let id = self.send(request);
        self.exchange(member);
        self.outcome(id).expect("the member answered")
    }

    /// Gives a watch credit.
    pub fn credit(&mut self, watch: u64, credit_bytes: i64) {
        self.session.watch_credit(watch, credit_bytes);
    }

    /// Asks a watch how far it is.
    pub fn progress(&mut self, watch: u64) {
        self.session.watch_progress(watch);
    }

    /// The answer of a request, if it came.
    pub fn outcome(&mut self, id: u64) -> Option<Outcome> {
        let slot = self.outcomes.iter().position(|(known, _)| *known == id)?;
        Some(self.outcomes.remove(slot).1)
    }
}
