//! The client against a server made of the real session: pipelining, order, broken connections,
//! watches that go on, credit, hints and garbage.

// A test may fail by panicking, its helpers too.
#![allow(clippy::unwrap_used)]

mod fake;

use corestone_client::{
    Answer, Client, Compare, Completion, Error, LeaseState, Options, Pipeline, PutRequest,
    RangeRequest, Request, SubmitError, Txn, WatchRequest, prefix_end,
};
use fake::FakeServer;
use std::sync::Arc;
use std::time::Duration;

fn options(servers: &[&FakeServer]) -> Options {
    Options {
        request_timeout: Duration::from_secs(20),
        ..Options::new(servers.iter().map(|server| server.address.clone()))
    }
}

async fn client(server: &FakeServer) -> Client {
    Client::connect_with(options(&[server])).await.unwrap()
}

#[tokio::test]
async fn every_call_gets_its_kind_of_answer() {
    let server = FakeServer::start(5).await;
    let client = client(&server).await;
    let put = client.put("a/1", "one").await.unwrap();
    assert_eq!(put.header.revision, 2);
    assert_eq!((put.header.cluster_id, put.header.member_id, put.header.raft_term), (44, 5, 7));
    client.put("a/2", "two").await.unwrap();
    let got = client.get("a/1").await.unwrap();
    assert_eq!(got.kvs.first().unwrap().value, b"one");
    let end = prefix_end(b"a/");
    let range = RangeRequest { key: b"a/", range_end: &end, ..RangeRequest::default() };
    assert_eq!(client.range(range).await.unwrap().kvs.len(), 2);
    assert_eq!(client.delete("a/1").await.unwrap().deleted, 3);
    let txn = Txn::new().when(Compare::version("a").equal(0)).then_put("a", "b");
    assert!(!client.txn(&txn).await.unwrap().succeeded);
    assert!(client.txn(&Txn::new().then_get("a")).await.unwrap().succeeded);
    assert_eq!(client.compact(2).await.unwrap().header.revision, 3);
    client.compact_physical(2).await.unwrap();

    let lease = client.lease_grant(30).await.unwrap();
    assert_eq!((lease.id, lease.ttl_s), (1000, 30));
    assert_eq!(client.lease_grant_with(9, 31).await.unwrap().id, 9);
    assert_eq!(client.lease_keep_alive(9).await.unwrap().ttl_s, 31);
    assert_eq!(client.lease_time_to_live(9).await.unwrap().ttl_s, 31);
    assert_eq!(client.lease_keys(9).await.unwrap().keys, [b"attached"]);
    assert_eq!(client.leases().await.unwrap().body, [9, 1000]);
    client.lease_revoke(9).await.unwrap();
    let gone = client.lease_revoke(9).await.unwrap_err();
    let message = "etcdserver: requested lease not found".to_owned();
    assert_eq!(gone, Error::Status { code: 5, message });
    assert!(!gone.is_outcome_unknown());
    assert_eq!(client.status().await.unwrap().version, "9.9.9");
    let stopped = client.put("fail", "").await.unwrap_err();
    assert!(stopped.is_outcome_unknown());
}

#[tokio::test]
async fn calls_made_together_leave_together_and_find_their_answers_in_any_order() {
    let server = FakeServer::start(5).await;
    let client = client(&server).await;
    for slot in 0..100 {
        let text = slot.to_string();
        server.change(|world| world.put(text.as_bytes(), text.as_bytes()));
    }
    server.change(|world| world.reverse = true);
    let calls: Vec<_> = (0..100)
        .map(|slot: i32| {
            let client = client.clone();
            tokio::spawn(async move {
                let key = slot.to_string();
                let answer = client.get(&key).await.unwrap();
                assert_eq!(answer.kvs.first().unwrap().value, key.as_bytes());
            })
        })
        .collect();
    for call in calls {
        call.await.unwrap();
    }
    let (batch_max, requests) = server.see(|world| (world.batch_max, world.requests));
    assert_eq!(requests, 100);
    assert!(50 <= batch_max, "100 calls at once came in pieces of at most {batch_max}");
}

#[tokio::test]
async fn a_cut_connection_fails_writes_and_repeats_reads() {
    let server = FakeServer::start(5).await;
    let client = client(&server).await;
    client.put("k", "v").await.unwrap();
    server.change(|world| world.hold = true);
    let writer = client.clone();
    let write = tokio::spawn(async move { writer.put("k", "w").await });
    let reader = client.clone();
    let read = tokio::spawn(async move { reader.get("k").await });
    server.until(|world| world.requests == 3).await;
    server.change(|world| {
        world.hold = false;
        world.cuts += 1;
    });
    let lost = write.await.unwrap().unwrap_err();
    assert_eq!(lost, Error::Disconnected);
    assert!(lost.is_outcome_unknown());
    // It did happen, as it happens.
    assert_eq!(read.await.unwrap().unwrap().kvs.first().unwrap().value, b"w");
    assert_eq!(server.see(|world| world.connections), 2);
}

#[tokio::test]
async fn a_watch_goes_on_over_cut_connections_without_gap_or_repetition() {
    let server = Arc::new(FakeServer::start(5).await);
    let client = client(&server).await;
    server.change(|world| world.put(b"k/before", b""));
    let mut watch = client.watch(WatchRequest::prefix("k/")).await.unwrap();
    let mut other = client.watch(WatchRequest::key("other")).await.unwrap();
    let first = watch.header().revision + 1;
    assert_eq!(first, 3);
    let writer = Arc::clone(&server);
    let writing = tokio::spawn(async move {
        for step in 0..300 {
            writer.change(|world| {
                let key = if step % 3 == 0 { format!("x/{step}") } else { format!("k/{step}") };
                world.put(key.as_bytes(), step.to_string().as_bytes());
                if step % 25 == 24 {
                    world.cuts += 1;
                }
            });
            tokio::task::yield_now().await;
            if step % 50 == 49 {
                // The client is back before the next cuts.
                let cuts = (step + 1) / 50;
                writer.until(|world| cuts < world.connections).await;
            }
        }
    });
    let mut revisions = Vec::new();
    while revisions.len() < 200 {
        let message = watch.next().await.unwrap().unwrap();
        for event in message.events.iter() {
            assert!(event.kv.key.starts_with(b"k/"));
            revisions.push(event.kv.mod_revision);
        }
    }
    writing.await.unwrap();
    let expected: Vec<i64> =
        (0..300).filter(|step| step % 3 != 0).map(|step| first + step).collect();
    assert_eq!(revisions, expected);
    assert!(7 <= server.see(|world| world.connections));

    server.change(|world| world.put(b"other", b"now"));
    let message = other.next().await.unwrap().unwrap();
    assert_eq!(message.events.iter().next().unwrap().kv.value, b"now");
    watch.request_progress();
    let progress = watch.next().await.unwrap().unwrap();
    assert!(progress.is_progress());
    assert_eq!(progress.revision, server.see(|world| world.revision()));
}

#[tokio::test]
async fn a_watch_ends_with_the_reason() {
    let server = FakeServer::start(5).await;
    let client = client(&server).await;
    server.change(|world| {
        for _ in 0..10 {
            world.put(b"k", b"v");
        }
        world.compact_revision = 5;
    });
    let refused = client.watch(WatchRequest::key("refused")).await.err().unwrap();
    assert_eq!(refused, Error::WatchCanceled { reason: "refused".to_owned() });
    let mut compacted = client.watch(WatchRequest::key("k").from_revision(2)).await.unwrap();
    let error = compacted.next().await.unwrap().unwrap_err();
    assert_eq!(error, Error::Compacted { compact_revision: 5 });
    assert!(compacted.next().await.is_none());
    let mut works = client.watch(WatchRequest::key("k").from_revision(5)).await.unwrap();
    let message = works.next().await.unwrap().unwrap();
    assert_eq!(message.events.iter().next().unwrap().kv.mod_revision, 5);
}

#[tokio::test]
async fn a_slow_watcher_is_sent_no_more_than_its_window() {
    let server = FakeServer::start(5).await;
    let window = 4096;
    let options = Options { watch_window_bytes: window, ..options(&[&server]) };
    let client = Client::connect_with(options).await.unwrap();
    let mut watch = client.watch(WatchRequest::key("k")).await.unwrap();
    for _ in 0..200 {
        server.change(|world| world.put(b"k", &[7; 100]));
    }
    server.until(|world| 0 < world.no_credit).await;
    // A cut in the middle: what is queued counts against the window of the new connection.
    server.change(|world| world.cuts += 1);
    client.get("k").await.unwrap();
    let mut revisions = Vec::new();
    while revisions.len() < 200 {
        let message = watch.next().await.unwrap().unwrap();
        revisions.extend(message.events.iter().map(|event| event.kv.mod_revision));
    }
    let expected: Vec<i64> = (2..202).collect();
    assert_eq!(revisions, expected);
}

#[tokio::test]
async fn a_dropped_watch_is_canceled_at_the_server() {
    let server = FakeServer::start(5).await;
    let client = client(&server).await;
    let watch = client.watch(WatchRequest::key("k")).await.unwrap();
    drop(watch);
    let seen = server.see(|world| world.requests);
    assert_eq!(seen, 1);
    server.until(|world| world.requests == 2).await;
}

#[tokio::test]
async fn garbage_from_the_server_costs_the_connection_only() {
    let server = FakeServer::start(5).await;
    let client = client(&server).await;
    server.change(|world| world.garbage = Some(vec![0xab; 100]));
    // The garbage came unasked; either it is noticed first, or this read is repeated.
    assert!(client.get("k").await.is_ok());
    server.until(|world| world.connections == 2).await;
    assert!(client.get("k").await.is_ok());
}

#[tokio::test]
async fn requests_that_a_leaving_server_dropped_are_made_elsewhere() {
    let (first, second) = (FakeServer::start(1).await, FakeServer::start(2).await);
    let client = Client::connect_with(options(&[&first, &second])).await.unwrap();
    assert_eq!(client.put("k", "v").await.unwrap().header.member_id, 1);
    first.change(|world| world.hold = true);
    let writer = client.clone();
    let write = tokio::spawn(async move { writer.put("k", "w").await });
    first.until(|world| world.requests == 2).await;
    first.change(|world| world.going_away = true);
    second.until(|world| world.connections == 1).await;
    // The new connection serves while the old one still owes an answer, and gives it.
    assert_eq!(client.put("k", "x").await.unwrap().header.member_id, 2);
    first.change(|world| world.hold = false);
    assert_eq!(write.await.unwrap().unwrap().header.member_id, 1);
}

#[tokio::test]
async fn a_hint_moves_calls_and_watches() {
    let (first, second) = (FakeServer::start(1).await, FakeServer::start(2).await);
    let client = client(&first).await;
    let mut watch = client.watch(WatchRequest::key("k")).await.unwrap();
    second.change(|world| world.put(b"k", b"on the second"));
    first.change(|world| world.hint = Some(second.address.clone()));
    second.until(|world| world.requests == 1).await;
    assert_eq!(client.put("l", "w").await.unwrap().header.member_id, 2);
    // The watch stood at revision 2 on the first server, and goes on there on the second.
    let message = watch.next().await.unwrap().unwrap();
    assert_eq!(message.events.iter().next().unwrap().kv.value, b"on the second");
    assert_eq!(first.see(|world| world.connections), 1);
}

#[tokio::test]
async fn a_silent_server_is_left() {
    let (first, second) = (FakeServer::start(1).await, FakeServer::start(2).await);
    // Accepts, says nothing more after hello: its connections are never served.
    let options = Options {
        keep_alive_interval: Duration::from_millis(50),
        keep_alive_timeout: Duration::from_millis(200),
        ..options(&[&first, &second])
    };
    let relay = Relay::start(&first.address).await;
    let options =
        Options { endpoints: vec![relay.address.clone(), second.address.clone()], ..options };
    let client = Client::connect_with(options).await.unwrap();
    assert_eq!(client.put("k", "v").await.unwrap().header.member_id, 1);
    relay.silence();
    let lost = client.put("k", "w").await.unwrap_err();
    assert_eq!(lost, Error::Disconnected);
    assert_eq!(client.put("k", "w").await.unwrap().header.member_id, 2);
}

/// Passes bytes on until it is told to stop passing answers.
struct Relay {
    address: String,
    silent: Arc<std::sync::atomic::AtomicBool>,
}

impl Relay {
    async fn start(target: &str) -> Relay {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let silent = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let (target, quiet) = (target.to_owned(), Arc::clone(&silent));
        tokio::spawn(async move {
            use tokio::io::{AsyncReadExt, AsyncWriteExt};
            let (mut near, _) = listener.accept().await.unwrap();
            let mut far = tokio::net::TcpStream::connect(&target).await.unwrap();
            let (mut up, mut down) = ([0; 4096], [0; 4096]);
            loop {
                tokio::select! {
                    size = near.read(&mut up) => match size {
                        Ok(size @ 1..) => far.write_all(&up[..size]).await.unwrap(),
                        _ => return,
                    },
                    size = far.read(&mut down) => {
                        let size = size.unwrap();
                        if !quiet.load(std::sync::atomic::Ordering::SeqCst) {
                            near.write_all(&down[..size]).await.unwrap();
                        }
                    }
                }
            }
        });
        Relay { address, silent }
    }

    fn silence(&self) {
        self.silent.store(true, std::sync::atomic::Ordering::SeqCst);
    }
}

#[tokio::test]
async fn deadlines_hold_with_and_without_a_connection() {
    let server = FakeServer::start(5).await;
    let short = Duration::from_millis(50);
    let options = Options { request_timeout: short, ..options(&[&server]) };
    let client = Client::connect_with(options).await.unwrap();
    server.change(|world| world.hold = true);
    assert_eq!(client.put("k", "v").await.unwrap_err(), Error::Timeout);

    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = closed.local_addr().unwrap().to_string();
    drop(closed);
    let refused = Client::connect([address.clone()]).await.err().unwrap();
    assert!(matches!(refused, Error::Unreachable { .. }), "{refused:?}");
    let options = Options { request_timeout: short, ..Options::new([address]) };
    let lazy = Client::lazy(options).unwrap();
    let error = lazy.put("k", "v").await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
    assert!(!error.is_outcome_unknown());
    let invalid = Client::connect(["https://127.0.0.1:1"]).await.err().unwrap();
    assert!(matches!(invalid, Error::InvalidEndpoint { .. }));
}

#[tokio::test]
async fn permits_bound_what_is_in_flight_and_come_back() {
    let server = FakeServer::start(5).await;
    let options = Options { requests_in_flight_max: 10, ..options(&[&server]) };
    let client = Client::connect_with(options).await.unwrap();
    server.change(|world| world.hold = true);
    let calls: Vec<_> = (0..50)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.put("k", "v").await })
        })
        .collect();
    server.until(|world| world.requests == 10).await;
    for call in &calls[..5] {
        // Callers that give up do not free what the server still works on.
        call.abort();
    }
    server.change(|world| {
        assert_eq!(world.requests, 10);
        world.hold = false;
    });
    for call in calls.into_iter().skip(5) {
        call.await.unwrap().unwrap();
    }
    assert_eq!(server.see(|world| world.requests), 50);
}

#[tokio::test]
async fn a_request_too_large_for_the_server_is_refused_here() {
    let server = FakeServer::start(5).await;
    let client = client(&server).await;
    let error = client.put("k", vec![0; 3 << 20]).await.unwrap_err();
    let message = "etcdserver: request is too large".to_owned();
    assert_eq!(error, Error::Status { code: 3, message });
    client.put("k", vec![0; 1 << 20]).await.unwrap();
}

#[tokio::test]
async fn a_kept_lease_is_renewed_until_it_is_gone() {
    let server = FakeServer::start(5).await;
    let client = client(&server).await;
    let lease = client.lease_grant(1).await.unwrap();
    let mut keeper = client.keep_lease(lease.id, lease.ttl_s);
    for _ in 0..2 {
        assert_eq!(keeper.changed().await, Some(LeaseState::Alive { ttl_s: 1 }));
    }
    server.change(|world| world.leases.clear());
    let mut states = Vec::new();
    while let Some(state) = keeper.changed().await {
        states.push(state);
    }
    assert_eq!(states.last(), Some(&LeaseState::Expired));
}

#[tokio::test]
async fn a_pipeline_returns_every_token_once() {
    let server = FakeServer::start(5).await;
    server.change(|world| world.reverse = true);
    let mut pipeline = Pipeline::connect(&server.address).await.unwrap();
    let count = 20_000;
    let mut seen = vec![false; count];
    let (mut submitted, mut completed, mut revision_max) = (0, 0, 0);
    while completed < count {
        while submitted < count {
            let put = PutRequest { key: b"k", value: b"v", ..PutRequest::default() };
            match pipeline.submit(&Request::Put(put), submitted as u64) {
                Ok(()) => submitted += 1,
                Err(error) => {
                    assert_eq!(error, SubmitError::Full);
                    break;
                }
            }
        }
        completed += pipeline
            .drive(&mut |completion| {
                assert!(completion.is_ok());
                assert!(!std::mem::replace(&mut seen[completion.token as usize], true));
                let (header, answer) = completion.answer().unwrap();
                assert!(matches!(answer, Answer::Put(_)));
                revision_max = header.revision.max(revision_max);
            })
            .await
            .unwrap();
    }
    assert!(seen.iter().all(|seen| *seen));
    assert_eq!(revision_max, count as i64 + 1);
    assert_eq!(pipeline.in_flight(), 0);

    pipeline.submit(&Request::LeaseRevoke { id: 1 }, 7).unwrap();
    let mut failed = None;
    let told =
        pipeline.drive(&mut |completion| failed = Some(completion.answer().unwrap_err())).await;
    assert_eq!(told, Ok(1));
    assert!(matches!(failed, Some(Error::Status { code: 5, .. })));

    server.change(|world| world.hold = true);
    pipeline.submit(&Request::Status, 8).unwrap();
    let cut = async {
        server.until(|world| world.requests == count + 2).await;
        server.change(|world| world.cuts += 1);
    };
    let mut nothing = |_: Completion<'_>| panic!("nothing is answered");
    let (_, lost) = tokio::join!(cut, pipeline.drive(&mut nothing));
    assert_eq!(lost, Err(Error::Disconnected));
}
