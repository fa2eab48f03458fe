//! The client of the h2 crate drives the server over in-memory pipes: what it accepts is HTTP/2,
//! and what it sends is what every tonic client sends.
//!
//! Bytes move in pieces of random size, both ways; everything is polled in turn on one thread, and
//! a round in which nothing moved at all is a deadlock.
#![allow(clippy::unwrap_used)]

mod http2_support;

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use h2::client::{Builder, SendRequest};
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Request};
use http2_support::*;
use net::http2::{Connection, Limits};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

#[derive(Default)]
struct Buffers {
    to_client: BytesMut,
    to_server: Vec<u8>,
    is_closed: bool,
}

#[derive(Clone)]
struct Pipe(Rc<RefCell<Buffers>>);

impl AsyncRead for Pipe {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut pipe = self.0.borrow_mut();
        if pipe.to_client.is_empty() {
            return if pipe.is_closed { Poll::Ready(Ok(())) } else { Poll::Pending };
        }
        let count = buffer.remaining().min(pipe.to_client.len());
        buffer.put_slice(&pipe.to_client.split_to(count));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut pipe = self.0.borrow_mut();
        if (1 << 16) < pipe.to_server.len() {
            return Poll::Pending;
        }
        pipe.to_server.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// A small generator of piece sizes.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        (self.0 >> 33) as usize % below
    }
}

type Task = Pin<Box<dyn Future<Output = ()>>>;

/// The server, the pipe, and the client's tasks.
struct World {
    pipe: Rc<RefCell<Buffers>>,
    server: Connection,
    app: Echo,
    dice: Dice,
    tasks: Vec<Option<Task>>,
    client_error: Rc<RefCell<Option<String>>>,
    piece_bytes_max: usize,
    now_ms: u64,
}

impl World {
    fn new(limits: Limits, seed: u64) -> World {
        let app = Echo { records: false, ..Echo::default() };
        World {
            pipe: Rc::default(),
            server: Connection::new(limits),
            app,
            dice: Dice(seed),
            tasks: Vec::new(),
            client_error: Rc::default(),
            piece_bytes_max: 20_000,
            now_ms: 0,
        }
    }

    fn connect(&mut self, builder: &Builder) -> SendRequest<Bytes> {
        let mut handshake = Box::pin(builder.handshake::<_, Bytes>(Pipe(self.pipe.clone())));
        let mut context = Context::from_waker(Waker::noop());
        let Poll::Ready(result) = handshake.as_mut().poll(&mut context) else {
            panic!("the handshake waits for nothing");
        };
        let (send_request, connection) = result.unwrap();
        let client_error = self.client_error.clone();
        self.tasks.push(Some(Box::pin(async move {
            if let Err(error) = connection.await {
                *client_error.borrow_mut() = Some(error.to_string());
            }
        })));
        send_request
    }

    fn spawn(&mut self, task: impl Future<Output = ()> + 'static) {
        self.tasks.push(Some(Box::pin(task)));
    }

    /// Polls and moves bytes until every task but the connection's is done.
    fn run(&mut self) {
        let mut idle = 0;
        while self.tasks[1..].iter().any(Option::is_some) {
            let moved = self.turn();
            idle = if moved { 0 } else { idle + 1 };
            assert!(idle < 200, "deadlock");
        }
    }

    /// One round; whether anything moved.
    fn turn(&mut self) -> bool {
        let mut moved = false;
        let mut context = Context::from_waker(Waker::noop());
        for task in &mut self.tasks {
            if task.as_mut().is_some_and(|task| task.as_mut().poll(&mut context).is_ready()) {
                *task = None;
                moved = true;
            }
        }
        self.now_ms += 1;
        self.server.tick(self.now_ms, &mut self.app);
        if self.server.wants_input() {
            let mut pipe = self.pipe.borrow_mut();
            let size_bytes = (1 + self.dice.roll(self.piece_bytes_max)).min(pipe.to_server.len());
            let piece: Vec<u8> = pipe.to_server.drain(..size_bytes).collect();
            drop(pipe);
            self.server.feed(&piece, &mut self.app);
            moved |= !piece.is_empty();
        }
        let size_bytes = 1 + self.dice.roll(self.piece_bytes_max);
        let output = self.server.output();
        let size_bytes = size_bytes.min(output.len());
        moved |= 0 < size_bytes;
        self.pipe.borrow_mut().to_client.extend_from_slice(&output[..size_bytes]);
        output.drain(..size_bytes);
        self.server.flushed(&mut self.app);
        if self.server.is_finished() && self.server.output().is_empty() {
            self.pipe.borrow_mut().is_closed = true;
        }
        moved
    }
}

fn request(path: &str) -> Request<()> {
    Request::post(format!("http://host{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .unwrap()
}

/// Sends all of `bytes` as the windows allow.
async fn send_all(stream: &mut SendStream<Bytes>, mut bytes: Bytes) -> Result<(), h2::Error> {
    while !bytes.is_empty() {
        stream.reserve_capacity(bytes.len());
        let allowed = std::future::poll_fn(|context| stream.poll_capacity(context)).await;
        let Some(allowed) = allowed else { return Ok(()) };
        let piece = bytes.split_to(allowed?.min(bytes.len()));
        stream.send_data(piece, false)?;
    }
    Ok(())
}

/// One message of a body, None at its end.
async fn receive(body: &mut RecvStream, kept: &mut BytesMut) -> Option<Bytes> {
    loop {
        if 5 <= kept.len() {
            let size_bytes = u32::from_be_bytes(kept[1..5].try_into().unwrap()) as usize;
            if 5 + size_bytes <= kept.len() {
                let message = kept.split_to(5 + size_bytes).freeze();
                return Some(message.slice(5..));
            }
        }
        let Some(data) = body.data().await else {
            assert!(kept.is_empty(), "a message is cut short");
            return None;
        };
        let data = data.unwrap();
        body.flow_control().release_capacity(data.len()).unwrap();
        kept.extend_from_slice(&data);
    }
}

fn status_of(trailers: &HeaderMap) -> (u32, String) {
    let text = |name: &str| {
        trailers.get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
    };
    (text("grpc-status").parse().unwrap(), text("grpc-message"))
}

/// A whole call: the messages of the answer, and its status.
async fn call(
    client: SendRequest<Bytes>,
    path: &'static str,
    messages: Vec<Vec<u8>>,
) -> (Vec<Bytes>, (u32, String)) {
    let mut client = client.ready().await.unwrap();
    let (response, mut stream) = client.send_request(request(path), false).unwrap();
    let upload = async {
        for body in messages {
            let outcome = send_all(&mut stream, message(&body).into()).await;
            // Told to stop by an answer that needs no more of the request.
            if let Err(error) = outcome {
                assert_eq!(error.reason(), Some(Reason::NO_ERROR));
                return;
            }
        }
        let _ = stream.send_data(Bytes::new(), true);
    };
    let download = async {
        let response = response.await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "application/grpc");
        if response.headers().contains_key("grpc-status") {
            return (Vec::new(), status_of(response.headers()));
        }
        let mut body = response.into_body();
        let (mut answers, mut kept) = (Vec::new(), BytesMut::new());
        while let Some(answer) = receive(&mut body, &mut kept).await {
            answers.push(answer);
        }
        let trailers = body.trailers().await.unwrap().unwrap();
        (answers, status_of(&trailers))
    };
    join(upload, download).await
}

/// Both futures on one task; the result of the second.
async fn join<T>(first: impl Future<Output = ()>, second: impl Future<Output = T>) -> T {
    let (mut first, mut second) = (Box::pin(first), Box::pin(second));
    let (mut first_done, mut result) = (false, None);
    std::future::poll_fn(move |context| {
        first_done = first_done || first.as_mut().poll(context).is_ready();
        if result.is_none()
            && let Poll::Ready(value) = second.as_mut().poll(context)
        {
            result = Some(value);
        }
        if first_done && result.is_some() {
            return Poll::Ready(result.take().unwrap());
        }
        Poll::Pending
    })
    .await
}

fn ok() -> (u32, String) {
    (0, String::new())
}

#[test]
fn thousands_of_unary_calls_under_the_stream_limit() {
    for seed in 0..3 {
        let mut world = World::new(Limits { streams_max: 100, ..Limits::default() }, seed);
        let client = world.connect(&Builder::new());
        for number in 0..3000u32 {
            let client = client.clone();
            world.spawn(async move {
                let body = vec![number as u8; number as usize % 700];
                let expected = digest(&body).to_be_bytes();
                let (answers, status) = call(client, "/etcdserverpb.KV/Put", vec![body]).await;
                assert_eq!(status, ok());
                assert_eq!(answers, [&expected[..]]);
            });
        }
        world.run();
        assert_eq!(world.app.messages, 3000);
        assert_eq!(world.app.gone, 0);
        assert_eq!(*world.client_error.borrow(), None);
    }
}

#[test]
fn big_uploads_share_the_connection() {
    let mut world = World::new(Limits::default(), 7);
    let client = world.connect(&Builder::new());
    for number in 0..20usize {
        let client = client.clone();
        world.spawn(async move {
            let body = blob(2_000_000 - number * 90_000);
            let expected = [(body.len() as u64).to_be_bytes(), digest(&body).to_be_bytes()];
            let (answers, status) = call(client, "/etcdserverpb.KV/Digest", vec![body]).await;
            assert_eq!(status, ok());
            assert_eq!(answers, [&expected.concat()[..]]);
        });
    }
    world.run();
    assert_eq!(world.server.held_bytes(), 0);
    world.server.closed(&mut world.app);
    assert_eq!(world.app.budget.used_bytes(), 0);
}

#[test]
fn big_uploads_complete_with_a_budget_of_one_message() {
    // What finds no room is refused before any of it was executed, and may be tried again.
    let mut world = World::new(Limits::default(), 8);
    world.app.budget = net::http2::InputBudget::new(2_000_005);
    let client = world.connect(&Builder::new());
    let refused = Rc::new(RefCell::new(0));
    for _ in 0..8 {
        let (client, refused) = (client.clone(), refused.clone());
        world.spawn(async move {
            while let Err(reason) = upload(client.clone(), blob(2_000_000)).await {
                assert_eq!(reason, Reason::REFUSED_STREAM);
                *refused.borrow_mut() += 1;
            }
        });
    }
    world.run();
    assert!(0 < *refused.borrow());
    assert_eq!(world.app.messages, 8);
    world.server.closed(&mut world.app);
    assert_eq!(world.app.budget.used_bytes(), 0);
}

/// One message to [`PUT`] and its answer, or why the stream was reset.
async fn upload(client: SendRequest<Bytes>, body: Vec<u8>) -> Result<(), Reason> {
    let reason = |error: h2::Error| error.reason().unwrap();
    let mut client = client.ready().await.unwrap();
    let request = request("/etcdserverpb.KV/Put");
    let (response, mut stream) = client.send_request(request, false).unwrap();
    // A reset may meet the client anywhere in its upload; the response says which one it was.
    if send_all(&mut stream, message(&body).into()).await.is_ok() {
        let _ = stream.send_data(Bytes::new(), true);
    }
    let mut answer = response.await.map_err(reason)?.into_body();
    assert!(receive(&mut answer, &mut BytesMut::new()).await.is_some());
    Ok(())
}

#[test]
fn big_answers_through_small_windows() {
    let mut world = World::new(Limits::default(), 9);
    let client = world.connect(&Builder::new());
    for size_bytes in [0usize, 1, 16_379, 16_380, 65_530, 65_531, 300_000, 8 << 20] {
        for _ in 0..3 {
            let client = client.clone();
            world.spawn(async move {
                let body = (size_bytes as u32).to_be_bytes().to_vec();
                let (answers, status) = call(client, "/etcdserverpb.KV/Range", vec![body]).await;
                assert_eq!(status, ok());
                assert!(answers[0] == blob(size_bytes));
            });
        }
    }
    world.run();
    assert_eq!(*world.client_error.borrow(), None);
}

#[test]
fn big_answers_in_big_frames() {
    let mut world = World::new(Limits::default(), 10);
    world.piece_bytes_max = 1 << 20;
    let mut builder = Builder::new();
    builder.max_frame_size(1 << 20).initial_window_size(64 << 20);
    builder.initial_connection_window_size(64 << 20);
    let client = world.connect(&builder);
    world.spawn(async move {
        let body = (32u32 << 20).to_be_bytes().to_vec();
        let (answers, status) = call(client, "/etcdserverpb.KV/Range", vec![body]).await;
        assert_eq!(status, ok());
        assert!(answers[0] == blob(32 << 20));
    });
    world.run();
}

/// Receives `count` numbered events, doing `pause` polls of nothing before each thousand.
async fn watch(client: SendRequest<Bytes>, counts: Vec<u32>, pause: usize) {
    let mut client = client.ready().await.unwrap();
    let path = "/etcdserverpb.Watch/Watch";
    let (response, mut stream) = client.send_request(request(path), false).unwrap();
    let total: u32 = counts.iter().sum();
    for count in counts {
        send_all(&mut stream, message(&count.to_be_bytes()).into()).await.unwrap();
    }
    let mut body = response.await.unwrap().into_body();
    let mut kept = BytesMut::new();
    for number in 1..=total {
        if number % 1000 == 1 {
            rest(pause).await;
        }
        let event = receive(&mut body, &mut kept).await.unwrap();
        assert_eq!(event[..], number.to_be_bytes());
    }
    stream.send_data(Bytes::new(), true).unwrap();
    assert_eq!(receive(&mut body, &mut kept).await, None);
    assert_eq!(status_of(&body.trailers().await.unwrap().unwrap()), ok());
}

/// Lets others run for so many rounds.
async fn rest(rounds: usize) {
    let mut left = rounds;
    std::future::poll_fn(move |_| {
        if left == 0 {
            return Poll::Ready(());
        }
        left -= 1;
        Poll::Pending
    })
    .await
}

#[test]
fn small_events_coalesce_for_a_slow_reader() {
    // Unread DATA frames under 256 bytes make this client end the connection; 60,000 events that
    // each had a frame of their own would.
    let mut world = World::new(Limits::default(), 11);
    let client = world.connect(&Builder::new());
    world.spawn(watch(client, vec![5000, 25_000, 30_000], 40));
    world.run();
    assert_eq!(*world.client_error.borrow(), None);
}

#[test]
fn a_stopped_producer_is_called_again() {
    let limits = Limits { stream_pending_bytes_max: 4096, ..Limits::default() };
    let mut world = World::new(limits, 12);
    let mut builder = Builder::new();
    builder.initial_window_size(1000);
    let client = world.connect(&builder);
    for _ in 0..5 {
        world.spawn(watch(client.clone(), vec![20_000, 1], 3));
    }
    world.run();
    assert!(5 < world.app.stopped, "the producers were stopped");
    assert_eq!(*world.client_error.borrow(), None);
}

#[test]
fn resets_in_mid_flow_leave_the_others_alone() {
    let mut world = World::new(Limits::default(), 13);
    let client = world.connect(&Builder::new());
    for number in 0..60 {
        let client = client.clone();
        if number % 3 == 0 {
            world.spawn(watch(client, vec![2000], 1));
            continue;
        }
        world.spawn(async move {
            let mut client = client.ready().await.unwrap();
            let path = "/etcdserverpb.Watch/Watch";
            let (response, mut stream) = client.send_request(request(path), false).unwrap();
            let count = 1_000_000u32.to_be_bytes();
            send_all(&mut stream, message(&count).into()).await.unwrap();
            let mut body = response.await.unwrap().into_body();
            receive(&mut body, &mut BytesMut::new()).await.unwrap();
            stream.send_reset(Reason::CANCEL);
        });
    }
    world.run();
    for _ in 0..20 {
        world.turn();
    }
    assert_eq!(world.app.gone, 40);
    assert_eq!(world.server.stream_count(), 0);
    assert_eq!(world.server.transmit().pending_bytes_total(), 0);
    assert_eq!(*world.client_error.borrow(), None);
}

#[test]
fn refusals_reach_the_client() {
    let mut world = World::new(Limits::default(), 14);
    let client = world.connect(&Builder::new());
    let cases: [(&str, usize, u32, &str); 4] = [
        ("/etcdserverpb.KV/None", 3, 12, "unknown method None for service etcdserverpb.KV"),
        ("/none.Service/None", 3, 12, "unknown service none.Service"),
        ("/none", 3, 12, "malformed method name: \"/none\""),
        (
            "/etcdserverpb.KV/Put",
            3 << 20,
            8,
            "grpc: received message larger than max (3145728 vs. 2097152)",
        ),
    ];
    for (path, size_bytes, code, text) in cases {
        let client = client.clone();
        world.spawn(async move {
            let (answers, status) = call(client, path, vec![blob(size_bytes)]).await;
            assert_eq!(answers.len(), 0);
            assert_eq!(status, (code, text.to_owned()));
        });
    }
    world.run();
    assert_eq!(*world.client_error.borrow(), None);
}

#[test]
fn a_drain_lets_streams_end_and_then_closes() {
    let mut world = World::new(Limits::default(), 15);
    let client = world.connect(&Builder::new());
    world.spawn(watch(client.clone(), vec![30_000], 5));
    for _ in 0..10 {
        world.turn();
    }
    world.server.drain();
    world.run();
    drop(client);
    for _ in 0..20 {
        world.turn();
    }
    assert!(world.server.is_finished());
    assert!(world.tasks[0].is_none(), "the client's connection has ended");
    assert_eq!(*world.client_error.borrow(), None);
}

#[test]
fn plain_requests_are_answered() {
    let mut world = World::new(Limits::default(), 16);
    let client = world.connect(&Builder::new());
    for (verb, path, status, size_bytes) in [
        ("GET", "/version", 200, 18),
        ("HEAD", "/version", 200, 0),
        ("GET", "/large", 200, 300_000),
        ("GET", "/none", 404, 19),
        ("POST", "/none", 404, 19),
    ] {
        let client = client.clone();
        world.spawn(async move {
            let mut client = client.ready().await.unwrap();
            let request =
                Request::builder().method(verb).uri(format!("http://host{path}")).body(()).unwrap();
            let (response, _) = client.send_request(request, true).unwrap();
            let response = response.await.unwrap();
            assert_eq!(response.status(), status);
            let mut body = response.into_body();
            let mut size = 0;
            while let Some(data) = body.data().await {
                let data = data.unwrap();
                size += data.len();
                body.flow_control().release_capacity(data.len()).unwrap();
            }
            assert_eq!(size, size_bytes);
        });
    }
    world.run();
    assert_eq!(*world.client_error.borrow(), None);
}
