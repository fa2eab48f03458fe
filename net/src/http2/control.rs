//! Frames that concern the connection rather than a request: SETTINGS, PING, GOAWAY,
//! WINDOW_UPDATE, PRIORITY.
//!
//! Invariants: every one of them that costs the peer nothing spends its budget; a change of
//! windows is followed at once by everything that waited for it.
//! Source: RFC 9113 sections 6.3, 6.5, 6.7, 6.8 and 6.9; gRPC page, "Bounds".

use super::application::Application;
use super::connection::{
    CONNECTION, Connection, DRAIN_PING, Drain, Outcome, Stage, check_size, protocol_error,
};
use super::frame::{self, ConnectionError, ErrorCode, FrameHeader, flag, kind, setting};
use super::limits::{
    COST_CHEAP, COST_SETTINGS, FRAME_SIZE_BYTES_MAX, HEADER_TABLE_SIZE_BYTES_MAX,
    SETTINGS_ENTRIES_MAX, WINDOW_BYTES_MAX, WINDOW_INCREMENT_BYTES_SMALL,
};

impl Connection {
    pub(super) fn on_settings(
        &mut self,
        header: FrameHeader,
        payload: &[u8],
        app: &mut impl Application,
    ) -> Outcome {
        if header.stream != CONNECTION {
            return protocol_error("SETTINGS of a stream");
        }
        if header.has(flag::ACK) {
            if self.stage == Stage::Settings {
                return protocol_error("the first frame is not SETTINGS");
            }
            return check_size(payload, 0);
        }
        if !payload.len().is_multiple_of(6) {
            return Err(ConnectionError::new(ErrorCode::FrameSize, "SETTINGS cut short"));
        }
        if SETTINGS_ENTRIES_MAX * 6 < payload.len() {
            return Err(ConnectionError::new(ErrorCode::EnhanceYourCalm, "too many settings"));
        }
        let cost = COST_SETTINGS + (self.stream_count() / 8) as i32;
        self.transmit.budget.spend(cost)?;
        for entry in payload.chunks_exact(6) {
            let &[a, b, c, d, e, f] = entry else { unreachable!("chunks of six") };
            self.on_setting(u16::from_be_bytes([a, b]), u32::from_be_bytes([c, d, e, f]))?;
        }
        if self.stage == Stage::Settings {
            self.stage = Stage::Running;
        }
        frame::write(kind::SETTINGS, flag::ACK, CONNECTION, &[], &mut self.transmit.output);
        self.resume(app)
    }

    pub(super) fn on_setting(&mut self, identifier: u16, value: u32) -> Outcome {
        match identifier {
            setting::HEADER_TABLE_SIZE if (value as usize) < HEADER_TABLE_SIZE_BYTES_MAX => {
                self.transmit.headers.forbid_table();
            }
            setting::ENABLE_PUSH if 1 < value => {
                return protocol_error("ENABLE_PUSH is neither 0 nor 1");
            }
            setting::INITIAL_WINDOW_SIZE => {
                let window_bytes = i64::from(value);
                if WINDOW_BYTES_MAX < window_bytes
                    || !self.transmit.set_peer_initial_window(window_bytes)
                {
                    let text = "initial window too large";
                    return Err(ConnectionError::new(ErrorCode::FlowControl, text));
                }
            }
            setting::MAX_FRAME_SIZE => {
                if !(FRAME_SIZE_BYTES_MAX..1 << 24).contains(&(value as usize)) {
                    return protocol_error("MAX_FRAME_SIZE out of bounds");
                }
                self.transmit.set_peer_frame_size(value as usize);
            }
            _ => {}
        }
        Ok(())
    }

    pub(super) fn on_ping(&mut self, header: FrameHeader, payload: &[u8]) -> Outcome {
        check_size(payload, 8)?;
        if header.stream != CONNECTION {
            return protocol_error("PING of a stream");
        }
        if header.has(flag::ACK) {
            if self.drain == Drain::Announced && payload == DRAIN_PING {
                self.finish_drain();
            }
            return Ok(());
        }
        self.transmit.budget.spend(COST_CHEAP)?;
        frame::write(kind::PING, flag::ACK, CONNECTION, payload, &mut self.transmit.output);
        self.check_ping_distance()
    }

    pub(super) fn on_goaway(&mut self, header: FrameHeader, payload: &[u8]) -> Outcome {
        if header.stream != CONNECTION {
            return protocol_error("GOAWAY of a stream");
        }
        if payload.len() < 8 {
            return Err(ConnectionError::new(ErrorCode::FrameSize, "GOAWAY cut short"));
        }
        self.transmit.budget.spend(COST_CHEAP)?;
        // The peer opens no more streams; those open are served to their end.
        self.finish_drain();
        Ok(())
    }

    pub(super) fn on_window_update(
        &mut self,
        header: FrameHeader,
        payload: &[u8],
        app: &mut impl Application,
    ) -> Outcome {
        check_size(payload, 4)?;
        let increment = payload.iter().fold(0, |value, &byte| value << 8 | u32::from(byte));
        let increment_bytes = i64::from(increment & 0x7fff_ffff);
        if self.last < header.stream {
            return self.idle_error(header.stream);
        }
        if increment_bytes < WINDOW_INCREMENT_BYTES_SMALL {
            self.transmit.budget.spend(COST_CHEAP)?;
        }
        if header.stream == CONNECTION {
            if increment_bytes == 0 {
                return protocol_error("WINDOW_UPDATE of 0");
            }
            if !self.transmit.widen(increment_bytes) {
                let text = "connection window too large";
                return Err(ConnectionError::new(ErrorCode::FlowControl, text));
            }
        } else if let Some(slot) = self.transmit.streams.find(header.stream) {
            if increment_bytes == 0 {
                return self.reset(slot, ErrorCode::Protocol, app);
            }
            if !self.transmit.widen_stream(slot, increment_bytes) {
                return self.reset(slot, ErrorCode::FlowControl, app);
            }
        }
        self.resume(app)
    }

    pub(super) fn on_priority(&mut self, header: FrameHeader, payload: &[u8]) -> Outcome {
        if header.stream == CONNECTION {
            return protocol_error("PRIORITY of no stream");
        }
        check_size(payload, 5)?;
        self.transmit.budget.spend(COST_CHEAP)
    }
}
