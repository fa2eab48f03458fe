//! A server for tests: the real session over real sockets, and a store of a few lines behind it.
//! Tests hold its answers back, turn their order round, cut its connections.

use engine::api::{
    DeleteRangeResponse, Event, EventList, EventType, KeyValue, PutResponse, RangeResponse,
    TxnResponse, range_contains,
};
use net::etcd::status::{LEASE_NOT_FOUND, MEMBER_NOT_FOUND, STOPPED, Status};
use net::wire::{
    ClusterMember, ClusterRequest, Delivery, FeedOutcome, Flow, LeaseTimeToLive, MemberStatus,
    Outbox, Reply, ReplyHeader, Request, ServerIdentity, ServerLimits, WatchCanceled,
    WireApplication, WireSession,
};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};

/// What tests look at and change.
#[derive(Default)]
pub struct World {
    /// Every put: its revision is its place, from 2.
    pub history: Vec<(Vec<u8>, Vec<u8>)>,
    pub compact_revision: i64,
    /// Requests are taken but not answered.
    pub hold: bool,
    /// The answers of one segment leave in reverse.
    pub reverse: bool,
    /// Bytes to send instead of the next answers, once.
    pub garbage: Option<Vec<u8>>,
    /// Connections are cut at their next event when this is not the number they began with.
    pub cuts: u64,
    /// Said to every connection, once each.
    pub hint: Option<String>,
    pub going_away: bool,
    /// The members of its cluster.
    pub members: Vec<ClusterMember>,
    /// Each lease's time to live; a renewal of any other answers 0.
    pub leases: BTreeMap<i64, i64>,
    /// Most requests that came in one segment.
    pub batch_max: usize,
    pub connections: usize,
    pub requests: usize,
    /// How often a watch had events but no credit.
    pub no_credit: usize,
}

pub struct FakeServer {
    pub address: String,
    world: Arc<Mutex<World>>,
    changed: watch::Sender<u64>,
    /// A connection did something.
    moved: Arc<Notify>,
}

impl FakeServer {
    pub async fn start(member_id: u64) -> FakeServer {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let world = Arc::new(Mutex::new(World::default()));
        let (changed, _) = watch::channel(0);
        let server = FakeServer { address, world, changed, moved: Arc::default() };
        let (world, changed) = (Arc::clone(&server.world), server.changed.clone());
        let moved = Arc::clone(&server.moved);
        tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let (world, moved) = (Arc::clone(&world), Arc::clone(&moved));
                tokio::spawn(serve(socket, member_id, world, changed.subscribe(), moved));
            }
        });
        server
    }

    /// Changes the world, then lets every connection look at it.
    pub fn change<T>(&self, change: impl FnOnce(&mut World) -> T) -> T {
        let result = change(&mut self.world.lock().unwrap());
        self.changed.send_modify(|version| *version += 1);
        result
    }

    pub fn see<T>(&self, see: impl FnOnce(&World) -> T) -> T {
        see(&self.world.lock().unwrap())
    }

    /// Waits until the world is so.
    pub async fn until(&self, mut so: impl FnMut(&World) -> bool) {
        loop {
            let mut moved = std::pin::pin!(self.moved.notified());
            moved.as_mut().enable();
            if self.see(&mut so) {
                return;
            }
            moved.await;
        }
    }
}

impl World {
    pub fn revision(&self) -> i64 {
        1 + self.history.len() as i64
    }

    pub fn put(&mut self, key: &[u8], value: &[u8]) -> i64 {
        self.history.push((key.to_vec(), value.to_vec()));
        self.revision()
    }
}

struct Watched {
    key: Vec<u8>,
    range_end: Vec<u8>,
    next_revision: i64,
}

enum Answered {
    Range(RangeResponse),
    Put(PutResponse),
    DeleteRange(DeleteRangeResponse),
    Txn(TxnResponse),
    Compact(i64),
    Grant(i64, i64),
    Revoke(i64),
    KeepAlive(i64, i64),
    TimeToLive(LeaseTimeToLive),
    Leases(Vec<i64>),
    Status(Box<MemberStatus>),
    MemberList(Vec<ClusterMember>),
    MemberAdd(u64, Vec<ClusterMember>),
    MemberRemove(Vec<ClusterMember>),
    MemberUpdate(Vec<ClusterMember>),
    MemberPromote(Vec<ClusterMember>),
    MoveLeader,
    Failed(Status),
}

struct App {
    world: Arc<Mutex<World>>,
    watches: BTreeMap<u64, Watched>,
    answers: Vec<(u64, Answered)>,
    batch: usize,
}

impl WireApplication for App {
    fn on_request(&mut self, outbox: &mut Outbox, request_id: u64, request: Request<'_>) -> Flow {
        let world = Arc::clone(&self.world);
        let mut world = world.lock().unwrap();
        self.batch += 1;
        world.requests += 1;
        world.batch_max = world.batch_max.max(self.batch);
        let header = ReplyHeader { revision: world.revision(), raft_term: 7 };
        match request {
            Request::WatchCreate(create) => {
                if create.start_revision != 0 && create.start_revision < world.compact_revision {
                    let compact_revision = world.compact_revision;
                    outbox.watch_created(request_id, header);
                    let canceled = WatchCanceled { compact_revision, reason: "" };
                    outbox.watch_canceled(request_id, header, canceled);
                } else if create.key == b"refused" {
                    let canceled = WatchCanceled { compact_revision: 0, reason: "refused" };
                    outbox.watch_canceled(request_id, header, canceled);
                } else {
                    outbox.watch_created(request_id, header);
                    let next_revision = match create.start_revision {
                        0 => world.revision() + 1,
                        start => start,
                    };
                    let watched = Watched {
                        key: create.key.to_vec(),
                        range_end: create.range_end.to_vec(),
                        next_revision,
                    };
                    self.watches.insert(request_id, watched);
                }
            }
            Request::WatchCancel => {
                self.watches.remove(&request_id);
                let canceled = WatchCanceled { compact_revision: 0, reason: "" };
                outbox.watch_canceled(request_id, header, canceled);
            }
            Request::WatchProgress => outbox.watch_progress(request_id, header),
            request => self.answers.push((request_id, answer(&mut world, request))),
        }
        Flow::Continue
    }

    fn on_cluster_request(
        &mut self,
        _: &mut Outbox,
        request_id: u64,
        request: ClusterRequest<'_>,
    ) -> Flow {
        let mut world = self.world.lock().unwrap();
        world.requests += 1;
        let answer = answer_of_cluster(&mut world.members, request);
        self.answers.push((request_id, answer));
        Flow::Continue
    }

    fn on_watch_credit(&mut self, _: &mut Outbox, _: u64, _: i64) {}
}

fn answer_of_cluster(members: &mut Vec<ClusterMember>, request: ClusterRequest<'_>) -> Answered {
    let mut change = |id, change: &dyn Fn(&mut ClusterMember)| {
        let found = members.iter_mut().find(|member| member.id == id);
        let is_found = found.map(change).is_some();
        is_found.then(|| members.clone())
    };
    let owned = |urls: Vec<&str>| urls.into_iter().map(str::to_owned).collect::<Vec<String>>();
    let answer = match request {
        ClusterRequest::MemberList { .. } => Some(Answered::MemberList(members.clone())),
        ClusterRequest::MemberAdd { is_learner, peer_urls } => {
            let id = 0x100 + members.len() as u64;
            let peer_urls = owned(peer_urls);
            members.push(ClusterMember { id, peer_urls, is_learner, ..ClusterMember::default() });
            Some(Answered::MemberAdd(id, members.clone()))
        }
        ClusterRequest::MemberRemove { id } => {
            let count = members.len();
            members.retain(|member| member.id != id);
            (members.len() < count).then(|| Answered::MemberRemove(members.clone()))
        }
        ClusterRequest::MemberUpdate { id, peer_urls } => {
            let peer_urls = owned(peer_urls);
            change(id, &|member| member.peer_urls = peer_urls.clone()).map(Answered::MemberUpdate)
        }
        ClusterRequest::MemberPromote { id } => {
            change(id, &|member| member.is_learner = false).map(Answered::MemberPromote)
        }
        ClusterRequest::MoveLeader { target_id } => {
            change(target_id, &|_target| {}).map(|_members| Answered::MoveLeader)
        }
    };
    answer.unwrap_or(Answered::Failed(MEMBER_NOT_FOUND))
}

fn answer(world: &mut World, request: Request<'_>) -> Answered {
    match request {
        Request::Put(put) if put.key == b"fail" => Answered::Failed(STOPPED),
        Request::Put(put) => {
            let revision = world.put(put.key, put.value);
            Answered::Put(PutResponse { revision, ..PutResponse::default() })
        }
        Request::Range(range) => {
            let mut response =
                RangeResponse { revision: world.revision(), ..RangeResponse::default() };
            let newest: BTreeMap<_, _> = world.history.iter().cloned().collect();
            for (key, value) in &newest {
                if range_contains(range.key, range.range_end, key) {
                    response.kvs.push(KeyValue { key, value, ..KeyValue::default() });
                    response.count += 1;
                }
            }
            Answered::Range(response)
        }
        Request::DeleteRange(_) => Answered::DeleteRange(DeleteRangeResponse {
            revision: world.revision(),
            deleted: 3,
            ..DeleteRangeResponse::default()
        }),
        Request::Txn(txn) => Answered::Txn(TxnResponse {
            revision: world.revision(),
            succeeded: txn.compare.is_empty(),
            responses: Vec::new(),
        }),
        Request::Compact { revision, .. } => {
            world.compact_revision = revision;
            Answered::Compact(world.revision())
        }
        Request::LeaseGrant { id, ttl_s } => {
            let id = if id == 0 { 1000 + world.leases.len() as i64 } else { id };
            world.leases.insert(id, ttl_s);
            Answered::Grant(id, ttl_s)
        }
        Request::LeaseRevoke { id } => match world.leases.remove(&id) {
            Some(_) => Answered::Revoke(world.revision()),
            None => Answered::Failed(LEASE_NOT_FOUND),
        },
        Request::LeaseKeepAlive { id } => {
            Answered::KeepAlive(id, world.leases.get(&id).copied().unwrap_or(0))
        }
        Request::LeaseTimeToLive { id, keys } => Answered::TimeToLive(LeaseTimeToLive {
            id,
            ttl_s: world.leases.get(&id).copied().unwrap_or(-1),
            granted_ttl_s: world.leases.get(&id).copied().unwrap_or(0),
            keys: if keys { vec![b"attached".to_vec()] } else { Vec::new() },
        }),
        Request::Leases => Answered::Leases(world.leases.keys().copied().collect()),
        Request::Status => Answered::Status(Box::new(MemberStatus {
            version: "9.9.9".to_owned(),
            leader: 5,
            ..MemberStatus::default()
        })),
        Request::WatchCreate(_) | Request::WatchCancel | Request::WatchProgress => {
            unreachable!("watches are handled by the connection")
        }
    }
}

impl App {
    fn send_answers(&mut self, outbox: &mut Outbox) {
        let world = self.world.lock().unwrap();
        self.batch = 0;
        if world.hold {
            return;
        }
        let revision = world.revision();
        let mut answers = std::mem::take(&mut self.answers);
        if world.reverse {
            answers.reverse();
        }
        for (id, answered) in &answers {
            let reply = match answered {
                Answered::Range(range) => Reply::Range(range),
                Answered::Put(put) => Reply::Put(put),
                Answered::DeleteRange(delete) => Reply::DeleteRange(delete),
                Answered::Txn(txn) => Reply::Txn(txn),
                Answered::Compact(revision) => Reply::Compact { revision: *revision },
                Answered::Grant(id, ttl_s) => {
                    Reply::LeaseGrant { revision, id: *id, ttl_s: *ttl_s }
                }
                Answered::Revoke(revision) => Reply::LeaseRevoke { revision: *revision },
                Answered::KeepAlive(id, ttl_s) => {
                    Reply::LeaseKeepAlive { revision, id: *id, ttl_s: *ttl_s }
                }
                Answered::TimeToLive(lease) => Reply::LeaseTimeToLive { revision, lease },
                Answered::Leases(ids) => Reply::Leases { revision, ids },
                Answered::Status(status) => Reply::Status { revision, status },
                Answered::MemberList(members) => Reply::MemberList { members },
                Answered::MemberAdd(id, members) => Reply::MemberAdd { id: *id, members },
                Answered::MemberRemove(members) => Reply::MemberRemove { members },
                Answered::MemberUpdate(members) => Reply::MemberUpdate { members },
                Answered::MemberPromote(members) => Reply::MemberPromote { members },
                Answered::MoveLeader => Reply::MoveLeader,
                Answered::Failed(status) => {
                    outbox.error(*id, status);
                    continue;
                }
            };
            outbox.reply(*id, 7, reply);
        }
    }

    /// Sends each watch what it has not seen, one revision a message, while it has credit.
    fn send_events(&mut self, outbox: &mut Outbox) {
        let mut world = self.world.lock().unwrap();
        let revision = world.revision();
        let header = ReplyHeader { revision, raft_term: 7 };
        let mut no_credit = 0;
        for (id, watched) in &mut self.watches {
            while watched.next_revision <= revision {
                let mod_revision = watched.next_revision;
                let (key, value) = &world.history[mod_revision as usize - 2];
                if range_contains(&watched.key, &watched.range_end, key) {
                    let mut events = EventList::default();
                    let kv = KeyValue { key, value, mod_revision, ..KeyValue::default() };
                    events.push(Event { event_type: EventType::Put, kv, prev_kv: None });
                    let delivery = outbox.watch_events(*id, header, &events);
                    if !matches!(delivery, Delivery::Sent { .. }) {
                        no_credit += 1;
                        break;
                    }
                }
                watched.next_revision += 1;
            }
        }
        world.no_credit += no_credit;
    }
}

async fn serve(
    mut socket: TcpStream,
    member_id: u64,
    world: Arc<Mutex<World>>,
    mut changed: watch::Receiver<u64>,
    moved: Arc<Notify>,
) {
    let identity = ServerIdentity { cluster_id: 44, member_id, server_version: "fake".to_owned() };
    let mut session = WireSession::new(identity, ServerLimits::default());
    let app_world = Arc::clone(&world);
    let mut app = App { world: app_world, watches: BTreeMap::new(), answers: Vec::new(), batch: 0 };
    let cuts = {
        let mut world = world.lock().unwrap();
        world.connections += 1;
        world.cuts
    };
    let mut hinted = false;
    let mut buffer = vec![0; 64 * 1024];
    loop {
        moved.notify_waiters();
        tokio::select! {
            read = socket.read(&mut buffer) => {
                let Ok(size @ 1..) = read else { return };
                if session.feed(&buffer[..size], &mut app) == FeedOutcome::Closed {
                    let _ = socket.write_all(session.outbox().output()).await;
                    return;
                }
            }
            changed = changed.changed() => if changed.is_err() { return },
        }
        if world.lock().unwrap().cuts != cuts {
            return;
        }
        let garbage = world.lock().unwrap().garbage.take();
        if let Some(garbage) = garbage {
            let _ = socket.write_all(&garbage).await;
            continue;
        }
        let (hint, going_away) = {
            let world = world.lock().unwrap();
            (world.hint.clone(), world.going_away)
        };
        if session.is_open()
            && !hinted
            && let Some(hint) = hint
        {
            session.outbox().reconnect(&hint);
            hinted = true;
        }
        if session.is_open() && going_away {
            session.outbox().go_away(&STOPPED);
        }
        app.send_answers(session.outbox());
        app.send_events(session.outbox());
        let output = session.outbox().take_output(Vec::new());
        if socket.write_all(&output).await.is_err() {
            return;
        }
    }
}
