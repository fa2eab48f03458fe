//! A gRPC client that knows the services only from `net/proto`: requests are written and answers
//! are read as messages with names, so that a script can say anything the protocol can.
//!
//! HTTP/2 and gRPC are tonic's, an implementation that has nothing in common with the one tested.

use std::sync::OnceLock;
use std::time::Duration;

use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::metadata::{Ascii, MetadataKey, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status, client::Grpc};

const PROTO_FILES: [&str; 6] =
    ["kv.proto", "auth.proto", "rpc.proto", "v3election.proto", "v3lock.proto", "health.proto"];

fn descriptors() -> &'static DescriptorPool {
    static POOL: OnceLock<DescriptorPool> = OnceLock::new();
    POOL.get_or_init(|| {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../net/proto");
        let files = protox::compile(PROTO_FILES, [folder]).unwrap();
        DescriptorPool::decode(files.encode_to_vec().as_slice()).unwrap()
    })
}

/// One call of one service, as `KV.Put` or `Watch.Watch` names it.
#[derive(Clone, Debug)]
pub struct Method {
    path: PathAndQuery,
    request: MessageDescriptor,
    response: MessageDescriptor,
    pub is_server_streaming: bool,
}

impl Method {
    /// # Panics
    /// When there is no such method: the test is wrong.
    pub fn named(name: &str) -> Method {
        let (service, method) = name.split_once('.').unwrap();
        let service = descriptors()
            .services()
            .find(|known| known.name() == service)
            .unwrap_or_else(|| panic!("no service for {name}"));
        let method = service
            .methods()
            .find(|known| known.name() == method)
            .unwrap_or_else(|| panic!("no method {name}"));
        let path = format!("/{}/{}", service.full_name(), method.name());
        Method {
            path: path.parse().unwrap(),
            request: method.input(),
            response: method.output(),
            is_server_streaming: method.is_server_streaming(),
        }
    }

    /// The request in protobuf's text format.
    ///
    /// # Panics
    /// When the text is not such a message: the test is wrong.
    pub fn request(&self, text: &str) -> DynamicMessage {
        DynamicMessage::parse_text_format(self.request.clone(), text)
            .unwrap_or_else(|error| panic!("{text}: {error}"))
    }
}

/// Metadata of a call: names and values.
pub type Metadata = Vec<(String, String)>;

#[derive(Clone)]
pub struct Client {
    channel: Channel,
}

impl Client {
    /// Connects, or panics.
    pub async fn connect(url: &str) -> Client {
        let endpoint = Endpoint::from_shared(url.to_owned()).unwrap();
        let channel = endpoint.connect_timeout(CONNECT_PATIENCE).connect().await.unwrap();
        Client { channel }
    }

    /// Connects with the first call, and again with the next one after a connection was lost.
    #[allow(dead_code, reason = "for tests of several members, which share this file")]
    pub fn lazy(url: &str) -> Client {
        let endpoint = Endpoint::from_shared(url.to_owned()).unwrap();
        Client { channel: endpoint.connect_timeout(CONNECT_PATIENCE).connect_lazy() }
    }

    fn grpc(&self) -> Grpc<Channel> {
        Grpc::new(self.channel.clone()).max_decoding_message_size(usize::MAX)
    }

    /// One request, one answer; of a streaming answer, all its messages merged into one.
    pub async fn call(
        &self,
        method: &Method,
        message: DynamicMessage,
        metadata: &Metadata,
    ) -> Result<DynamicMessage, Status> {
        let mut grpc = self.grpc();
        ready(&mut grpc).await?;
        let codec = MessageCodec { response: method.response.clone() };
        let path = method.path.clone();
        let mut request = Request::new(message);
        write_metadata(&mut request, metadata);
        if !method.is_server_streaming {
            return Ok(grpc.unary(request, path, codec).await?.into_inner());
        }
        let mut stream = grpc.server_streaming(request, path, codec).await?.into_inner();
        let mut whole = DynamicMessage::new(method.response.clone());
        while let Some(part) = stream.message().await? {
            whole.merge(part.encode_to_vec().as_slice()).unwrap();
        }
        Ok(whole)
    }

    /// Text in, message out; an error of the server is the answer's error.
    pub async fn ask(&self, name: &str, text: &str) -> Result<DynamicMessage, Status> {
        let method = Method::named(name);
        let request = method.request(text);
        self.call(&method, request, &Metadata::new()).await
    }

    /// A streaming call whose requests are sent one by one. Dropping it cancels the call.
    pub fn open(&self, method: &Method, metadata: &Metadata) -> Stream {
        let (requests, queue) = mpsc::channel(QUEUE_MESSAGES);
        let (sink, answers) = mpsc::channel(QUEUE_MESSAGES);
        let mut request = Request::new(ReceiverStream::new(queue));
        write_metadata(&mut request, metadata);
        let mut grpc = self.grpc();
        let codec = MessageCodec { response: method.response.clone() };
        let path = method.path.clone();
        let task = tokio::spawn(async move {
            let opened = match ready(&mut grpc).await {
                Ok(()) => grpc.streaming(request, path, codec).await,
                Err(status) => Err(status),
            };
            let mut stream = match opened {
                Ok(response) => response.into_inner(),
                Err(status) => return drop(sink.send(Err(status)).await),
            };
            loop {
                match stream.message().await {
                    Ok(Some(message)) => {
                        if sink.send(Ok(message)).await.is_err() {
                            return;
                        }
                    }
                    Ok(None) => return,
                    Err(status) => return drop(sink.send(Err(status)).await),
                }
            }
        });
        Stream { method: method.clone(), requests: Some(requests), answers, task }
    }
}

/// An open streaming call.
pub struct Stream {
    pub method: Method,
    requests: Option<mpsc::Sender<DynamicMessage>>,
    answers: mpsc::Receiver<Result<DynamicMessage, Status>>,
    task: tokio::task::JoinHandle<()>,
}

impl Stream {
    /// Queues a request, given as text.
    pub async fn send(&mut self, text: &str) {
        let message = self.method.request(text);
        // An error means that the call has ended, which its answer tells.
        let _ = self.requests.as_ref().expect("not half-closed").send(message).await;
    }

    /// The next message; `None` when the server ended the call without an error.
    pub async fn receive(&mut self) -> Option<Result<DynamicMessage, Status>> {
        self.answers.recv().await
    }

    /// Tells the server that no more requests follow.
    pub fn half_close(&mut self) {
        self.requests = None;
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn ready(grpc: &mut Grpc<Channel>) -> Result<(), Status> {
    grpc.ready().await.map_err(|error| Status::unavailable(format!("connection: {error}")))
}

fn write_metadata<T>(request: &mut Request<T>, metadata: &Metadata) {
    for (name, value) in metadata {
        let name: MetadataKey<Ascii> = name.parse().unwrap();
        let value: MetadataValue<Ascii> = value.parse().unwrap();
        request.metadata_mut().insert(name, value);
    }
}

struct MessageCodec {
    response: MessageDescriptor,
}

impl Codec for MessageCodec {
    type Encode = DynamicMessage;
    type Decode = DynamicMessage;
    type Encoder = MessageEncoder;
    type Decoder = MessageDecoder;

    fn encoder(&mut self) -> MessageEncoder {
        MessageEncoder
    }

    fn decoder(&mut self) -> MessageDecoder {
        MessageDecoder { response: self.response.clone() }
    }
}

struct MessageEncoder;

impl Encoder for MessageEncoder {
    type Item = DynamicMessage;
    type Error = Status;

    fn encode(&mut self, item: DynamicMessage, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        item.encode(out).map_err(|error| Status::internal(error.to_string()))
    }
}

struct MessageDecoder {
    response: MessageDescriptor,
}

impl Decoder for MessageDecoder {
    type Item = DynamicMessage;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<DynamicMessage>, Status> {
        let message = DynamicMessage::decode(self.response.clone(), from);
        message.map(Some).map_err(|error| Status::internal(format!("malformed: {error}")))
    }
}

/// Messages in either direction of a stream that nobody has taken yet.
const QUEUE_MESSAGES: usize = 4;
const CONNECT_PATIENCE: Duration = Duration::from_secs(10);
