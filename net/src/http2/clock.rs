//! What happens to a connection with time, which is handed in.
//!
//! Invariants: times are those of the last tick, so that everything is as exact as ticks are
//! frequent; before the first tick no time passes.
//! Source: grpc-go's keep-alive enforcement as etcd configures it (fact sheet of the etcd v3 API,
//! "Transport facts"); gRPC page, "Bounds" (deadlines, stalls).

use super::application::Application;
use super::connection::{CONNECTION, Connection, Drain, KEEP_ALIVE_PING, Outcome, Stage};
use super::frame::{self, ConnectionError, ErrorCode, kind};
use super::limits::{
    BUDGET_PER_SECOND, CLIENT_PING_IDLE_DISTANCE_MS_MIN, CLIENT_PING_STRIKES_MAX, DRAIN_MS_MAX,
    HEADER_BLOCK_MS_MAX, MESSAGE_PROGRESS_BYTES_MIN, PREFACE_MS_MAX, STALLED_PROGRESS_MS_MAX,
    STALLED_WRITE_MS_MAX, WINDOW_IDLE_MS_MAX,
};
use crate::grpc::status;

/// When things happened, by the last tick.
#[derive(Debug, Default)]
pub(super) struct Clock {
    /// None before the first tick.
    started: Option<u64>,
    now_ms: u64,
    input_ms: u64,
    block_begun_ms: u64,
    drain_ms: u64,
    /// Output was last taken away, or began to wait.
    output_ms: u64,
    output_waits: bool,
    /// Something that was stuck went on.
    progress_ms: u64,
    /// Bytes of unfinished messages since then.
    progress_bytes: usize,
    /// The last full second that was paid out.
    paid_ms: u64,
    /// The server's ping under way.
    ping_sent_ms: Option<u64>,
    client_ping_ms: Option<u64>,
    client_ping_strikes: u32,
}

impl Clock {
    pub(super) fn on_input(&mut self) {
        self.input_ms = self.now_ms;
        self.ping_sent_ms = None;
    }

    pub(super) fn on_block_begun(&mut self) {
        self.block_begun_ms = self.now_ms;
    }

    pub(super) fn on_drain(&mut self) {
        self.drain_ms = self.now_ms;
    }

    pub(super) fn on_flushed(&mut self, is_empty: bool) {
        self.output_ms = self.now_ms;
        self.output_waits = !is_empty;
    }

    pub(super) fn on_progress(&mut self) {
        self.progress_ms = self.now_ms;
        self.progress_bytes = 0;
    }

    /// Unfinished messages grow: that is progress when it is not a trickle.
    pub(super) fn on_message_bytes(&mut self, size_bytes: usize) {
        self.progress_bytes += size_bytes;
        if MESSAGE_PROGRESS_BYTES_MIN <= self.progress_bytes {
            self.on_progress();
        }
    }
}

impl Connection {
    /// Hands in the time (monotonic, any origin) and does what is due: deadlines of the peer,
    /// keep-alive, budgets. To be called at least each second, best before each `feed`.
    pub fn tick(&mut self, now_ms: u64, app: &mut impl Application) {
        if self.is_over() {
            return;
        }
        assert!(self.clock.now_ms <= now_ms || self.clock.started.is_none());
        if self.clock.started.is_none() {
            self.clock = Clock {
                started: Some(now_ms),
                input_ms: now_ms,
                block_begun_ms: now_ms,
                drain_ms: now_ms,
                output_ms: now_ms,
                progress_ms: now_ms,
                paid_ms: now_ms,
                ..Clock::default()
            };
        }
        self.clock.now_ms = now_ms;
        self.pay_out();
        self.narrow_window(app);
        if let Err(error) = self.check_deadlines() {
            self.fail(error, app);
        }
        self.check_transport(app);
        if !self.is_over() {
            self.check_progress(app);
            self.keep_alive();
            self.settle(app);
        }
    }

    fn since(&self, then_ms: u64) -> u64 {
        self.clock.now_ms.saturating_sub(then_ms)
    }

    /// Time earns the peer some of its budget back.
    fn pay_out(&mut self) {
        let earned = self.since(self.clock.paid_ms) * BUDGET_PER_SECOND / 1000;
        if 0 < earned {
            self.transmit.budget.earn(earned);
            self.clock.paid_ms += earned * 1000 / BUDGET_PER_SECOND;
            if 1000 <= self.since(self.clock.input_ms) {
                self.credited_bytes = 0;
            }
        }
    }

    /// An idle connection gives its wide window back to the core.
    fn narrow_window(&mut self, app: &mut impl Application) {
        let is_idle = WINDOW_IDLE_MS_MAX <= self.since(self.clock.input_ms);
        if is_idle && 0 < self.window_reserved_bytes {
            let base_bytes = i64::from(self.transmit.limits.connection_window_bytes_min);
            self.transmit.receive_window.set_base(base_bytes);
            app.release_input(std::mem::take(&mut self.window_reserved_bytes));
        }
    }

    fn check_deadlines(&mut self) -> Outcome {
        let started_ms = self.clock.started.expect("set by the tick");
        let is_new = matches!(self.stage, Stage::Preface | Stage::Settings);
        if is_new && PREFACE_MS_MAX <= self.since(started_ms) {
            return Err(ConnectionError::new(ErrorCode::Protocol, "no preface in time"));
        }
        let is_block_late = HEADER_BLOCK_MS_MAX <= self.since(self.clock.block_begun_ms);
        if self.block.is_some() && is_block_late {
            let text = "a header block does not end";
            return Err(ConnectionError::new(ErrorCode::EnhanceYourCalm, text));
        }
        if self.drain == Drain::Announced && DRAIN_MS_MAX <= self.since(self.clock.drain_ms) {
            self.finish_drain();
        }
        Ok(())
    }

    /// A transport that takes nothing, or a peer that answers no ping, is gone.
    fn check_transport(&mut self, app: &mut impl Application) {
        let has_output = !self.transmit.output.is_empty();
        if has_output && !self.clock.output_waits {
            self.clock.output_waits = true;
            self.clock.output_ms = self.clock.now_ms;
        }
        let is_stalled = has_output && STALLED_WRITE_MS_MAX <= self.since(self.clock.output_ms);
        let timeout_ms = self.transmit.limits.keep_alive_timeout_ms;
        let is_silent = self.clock.ping_sent_ms.is_some_and(|sent| timeout_ms <= self.since(sent));
        if is_stalled || is_silent {
            self.stage = Stage::Broken;
            self.transmit.output.clear();
            self.transmit.seal();
            self.closed(app);
        }
    }

    /// Memory that is held for a peer must move: answers it does not take, messages it does not
    /// complete, grants that the core does not have.
    fn check_progress(&mut self, app: &mut impl Application) {
        let is_starved = !self.transmit.wanting.is_empty();
        let is_stuck = is_starved || self.transmit.is_full() || 0 < self.held_bytes();
        if std::mem::take(&mut self.transmit.progressed) || !is_stuck {
            self.clock.on_progress();
        }
        if self.since(self.clock.progress_ms) < STALLED_PROGRESS_MS_MAX {
            return;
        }
        let Some(&id) = self.transmit.wanting.front() else {
            let text = "no progress";
            return self.fail(ConnectionError::new(ErrorCode::EnhanceYourCalm, text), app);
        };
        // The core's fault, not the peer's: only the message fails that found no room.
        let slot = self.transmit.streams.find(id).expect("a stream that goes leaves the list");
        self.clock.on_progress();
        let text = "no room for the rest of the message";
        self.fail_call(slot, status::RESOURCE_EXHAUSTED, text, app);
    }

    fn keep_alive(&mut self) {
        let interval_ms = self.transmit.limits.keep_alive_interval_ms;
        let is_idle = 0 < interval_ms && interval_ms <= self.since(self.clock.input_ms);
        if is_idle && self.clock.ping_sent_ms.is_none() && self.stage == Stage::Running {
            self.clock.ping_sent_ms = Some(self.clock.now_ms);
            let out = &mut self.transmit.output;
            frame::write(kind::PING, 0, CONNECTION, &KEEP_ALIVE_PING, out);
        }
    }

    /// The peer's pings must not come closer than etcd allows; answers on any stream in between
    /// forgive them.
    pub(super) fn check_ping_distance(&mut self) -> Outcome {
        let last_ms = self.clock.client_ping_ms.replace(self.clock.now_ms);
        if std::mem::take(&mut self.transmit.sent_since_ping) {
            self.clock.client_ping_strikes = 0;
            return Ok(());
        }
        let distance_ms_min = if self.stream_count() == 0 {
            CLIENT_PING_IDLE_DISTANCE_MS_MIN
        } else {
            self.transmit.limits.client_ping_distance_ms_min
        };
        if last_ms.is_some_and(|last_ms| self.since(last_ms) < distance_ms_min) {
            self.clock.client_ping_strikes += 1;
        }
        if CLIENT_PING_STRIKES_MAX < self.clock.client_ping_strikes {
            return Err(ConnectionError::new(ErrorCode::EnhanceYourCalm, "too_many_pings"));
        }
        Ok(())
    }
}
