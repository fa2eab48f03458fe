//! What a connection tells the program behind it, and asks of it.
//!
//! Invariants: callbacks of one stream come in the order open, message*, half_close; `gone` ends
//! them at any point; after the application called `finish` or `respond` for a stream it hears
//! nothing of that stream again. Callbacks never nest.
//! Source: RFC 9113 section 5.1 (stream states); the gRPC design page ("Bounds").

use super::transmit::Transmit;
use crate::grpc::Metadata;

/// An HTTP/2 stream identifier as the client chose it: odd, never 0, never used twice on a
/// connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u32);

/// What is left of a stream's work when its peer has gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Nothing: the stream is forgotten at once.
    Cancelled,
    /// Something still runs (a proposal in the log): the stream goes on counting against
    /// [`super::Limits::streams_max`] until the application calls `finish` for it.
    Lingers,
}

/// What a reservation of the core's input budget is for; see [`Application::reserve_input`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InputPurpose {
    /// One unfinished message in full: refusing it stalls its stream.
    Message,
    /// A wider connection window: refusing it costs throughput only.
    Window,
}

/// The program behind a connection.
pub trait Application {
    /// The number of the method at `:path`, 0 when there is none. Must be a function of `path`
    /// alone: the answer is remembered with the header tables of the connection.
    fn route(&mut self, path: &[u8]) -> u32;

    /// Whether a service of this name has any method: it chooses between grpc-go's two texts for
    /// an unknown path.
    fn has_service(&mut self, service: &[u8]) -> bool;

    /// A call begins. It may be answered at once with `finish`.
    fn open(
        &mut self,
        transmit: &mut Transmit,
        stream: StreamId,
        method: u32,
        metadata: &Metadata<'_>,
    );

    /// A request message in full, without its prefix, decompressed.
    fn message(&mut self, transmit: &mut Transmit, stream: StreamId, method: u32, body: &[u8]);

    /// The peer sent its last message.
    fn half_close(&mut self, transmit: &mut Transmit, stream: StreamId, method: u32);

    /// The stream ended before the application finished it: a reset, a broken message, the end of
    /// the connection. Nothing can be sent on it any more.
    fn gone(&mut self, stream: StreamId, method: u32) -> Work;

    /// There is room again after `congested` said stop.
    fn writable(&mut self, transmit: &mut Transmit, stream: StreamId, method: u32);

    /// A request that is not gRPC (curl's GET of /version). To be answered, now or later, with
    /// [`Transmit::respond`]; `gone` with method 0 when the peer goes first.
    fn http_request(&mut self, transmit: &mut Transmit, stream: StreamId, verb: &[u8], path: &[u8]);

    /// Asks for `size_bytes` of the core's input budget. A refusal is asked again later.
    fn reserve_input(&mut self, size_bytes: usize, purpose: InputPurpose) -> bool;

    /// Gives back what was reserved.
    fn release_input(&mut self, size_bytes: usize);
}
