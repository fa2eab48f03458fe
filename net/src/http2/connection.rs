//! The receiving half and the life of a connection.
//!
//! Source: RFC 9113 sections 3.4, 4, 5 and 6.

use super::application::Application;
use super::limits::Limits;
use super::transmit::Transmit;

/// An HTTP/2 server connection.
pub struct Connection {
    transmit: Transmit,
}

impl Connection {
    /// A connection just accepted. Its first output is there at once.
    pub fn new(limits: Limits) -> Connection {
        limits.verify();
        Connection { transmit: Transmit::new(limits) }
    }

    /// Takes bytes as they came from the transport, cut anywhere.
    pub fn feed(&mut self, bytes: &[u8], app: &mut impl Application) {
        let _ = (bytes, app);
    }

    /// Bytes to send. The caller takes them (all, by `std::mem::take`, or some from the front)
    /// when the transport has written what it took before, then calls [`Connection::flushed`].
    pub fn output(&mut self) -> &mut Vec<u8> {
        self.transmit.output()
    }

    /// Output was taken away: frames what had no room, calls `writable`, delivers held messages.
    pub fn flushed(&mut self, app: &mut impl Application) {
        let _ = app;
    }

    /// The sending half, for answers that come later than the call of `feed` they answer.
    pub fn transmit(&mut self) -> &mut Transmit {
        &mut self.transmit
    }

    /// Hands in the time (monotonic, any origin) and does what is due: deadlines of the peer,
    /// keep-alive, budgets. To be called at least each second, best before each `feed`.
    pub fn tick(&mut self, now_ms: u64, app: &mut impl Application) {
        let _ = (now_ms, app);
    }

    /// Whether to read from the transport.
    pub fn wants_input(&self) -> bool {
        true
    }

    /// No more streams: two-phase GOAWAY, then finished when those open are done.
    pub fn drain(&mut self) {}

    /// Write what is left, then close.
    pub fn is_finished(&self) -> bool {
        false
    }

    /// Close at once: the peer takes nothing or answers nothing.
    pub fn is_broken(&self) -> bool {
        false
    }

    /// Streams open, lingering ones counted.
    pub fn stream_count(&self) -> usize {
        0
    }

    /// The transport is gone: every unfinished stream hears `gone`, reservations are given back.
    pub fn closed(&mut self, app: &mut impl Application) {
        let _ = app;
    }
}
