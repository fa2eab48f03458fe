//! What one side has to send: messages are laid out in frames as they come, two lanes of them, and
//! the frames are sealed as they leave.
//!
//! Invariants: control frames leave before bulk ones, within a lane the order is kept; a frame's
//! number is its place in the stream, so it gets it last; a lane that is full takes nothing, and a
//! single message may overdraw it, else a large one could never be sent.

use super::encode;
use super::error::SendError;
use super::frame::{FrameKind, begin_frame, seal_frame};
use super::limits::{
    BULK_UNSENT_BYTES_MAX, CONTROL_UNSENT_BYTES_MAX, FRAME_BODY_BYTES_TARGET,
    FRAME_HEADER_SIZE_BYTES, FRAME_MESSAGES_MAX, FRAME_SIZE_BYTES_MAX, SPARE_FRAME_SIZE_BYTES_MAX,
    SPARE_FRAMES_MAX,
};
use super::message::{Lane, PeerMessage};
use std::collections::VecDeque;

/// See the file's head.
#[derive(Debug)]
pub(super) struct Outbox {
    /// Magic and hello or refusal, sealed.
    handshake: Vec<u8>,
    control: LaneQueue,
    bulk: LaneQueue,
    /// Empty buffers for the next frames.
    spare: Vec<Vec<u8>>,
    /// Frames that left, or are sealed in `handshake`.
    frames_count: u64,
}

#[derive(Debug)]
struct LaneQueue {
    drafts: VecDeque<Draft>,
    unsent_size_bytes: usize,
    unsent_size_bytes_max: usize,
}

/// A frame that waits to leave; messages may still join the last one of a lane.
#[derive(Debug)]
struct Draft {
    bytes: Vec<u8>,
    count: u16,
}

impl Outbox {
    pub(super) fn new() -> Outbox {
        Outbox {
            handshake: Vec::new(),
            control: LaneQueue::new(CONTROL_UNSENT_BYTES_MAX),
            bulk: LaneQueue::new(BULK_UNSENT_BYTES_MAX),
            spare: Vec::new(),
            frames_count: 0,
        }
    }

    /// Takes a hello or refusal, the first frame of the stream, in front of which `magic` stands.
    pub(super) fn push_handshake(
        &mut self,
        magic: &[u8],
        kind: FrameKind,
        encode: impl FnOnce(&mut Vec<u8>),
    ) {
        assert!(self.frames_count == 0);
        assert!(self.unsent_size_bytes() == 0);
        self.handshake.extend_from_slice(magic);
        begin_frame(&mut self.handshake);
        encode(&mut self.handshake);
        seal_frame(&mut self.handshake[magic.len()..], 0, kind);
        self.frames_count = 1;
    }

    /// Takes a message, or says why not.
    pub(super) fn push(&mut self, group: u64, message: &PeerMessage) -> Result<(), SendError> {
        assert!(0 < self.frames_count);
        let size_bytes = encode::check_size_bytes(message).ok_or(SendError::TooLarge)?;
        let lane = match message.lane() {
            Lane::Control => &mut self.control,
            Lane::Bulk => &mut self.bulk,
        };
        if lane.is_full() {
            return Err(SendError::Full);
        }
        let draft = lane.draft(&mut self.spare);
        draft.bytes.reserve(size_bytes);
        encode::encode(group, message, size_bytes, &mut draft.bytes);
        draft.count += 1;
        lane.unsent_size_bytes += size_bytes;
        Ok(())
    }

    /// The next frame, in exchange for an empty buffer whose memory is used again.
    pub(super) fn take_frame(&mut self, empty: Vec<u8>) -> Option<Vec<u8>> {
        assert!(empty.is_empty());
        if !self.handshake.is_empty() {
            return Some(std::mem::replace(&mut self.handshake, empty));
        }
        let Some(mut draft) = self.control.pop().or_else(|| self.bulk.pop()) else {
            self.keep_spare(empty);
            return None;
        };
        self.keep_spare(empty);
        assert!(draft.bytes.len() <= FRAME_SIZE_BYTES_MAX);
        let kind = FrameKind::Messages { count: draft.count };
        seal_frame(&mut draft.bytes, self.frames_count, kind);
        self.frames_count += 1;
        Some(draft.bytes)
    }

    pub(super) fn has_output(&self) -> bool {
        !self.handshake.is_empty()
            || !self.control.drafts.is_empty()
            || !self.bulk.drafts.is_empty()
    }

    /// Bytes of messages, and of the handshake, that wait; the headers of frames do not count.
    pub(super) fn unsent_size_bytes(&self) -> usize {
        self.handshake.len() + self.control.unsent_size_bytes + self.bulk.unsent_size_bytes
    }

    pub(super) fn is_full(&self, lane: Lane) -> bool {
        match lane {
            Lane::Control => self.control.is_full(),
            Lane::Bulk => self.bulk.is_full(),
        }
    }

    /// Drops the messages that wait; a handshake may still leave.
    pub(super) fn drop_messages(&mut self) {
        self.control = LaneQueue::new(CONTROL_UNSENT_BYTES_MAX);
        self.bulk = LaneQueue::new(BULK_UNSENT_BYTES_MAX);
        self.spare = Vec::new();
    }

    fn keep_spare(&mut self, empty: Vec<u8>) {
        let is_useful = 0 < empty.capacity() && empty.capacity() <= SPARE_FRAME_SIZE_BYTES_MAX;
        if is_useful && self.spare.len() < SPARE_FRAMES_MAX {
            self.spare.push(empty);
        }
    }
}

impl LaneQueue {
    fn new(unsent_size_bytes_max: usize) -> LaneQueue {
        LaneQueue { drafts: VecDeque::new(), unsent_size_bytes: 0, unsent_size_bytes_max }
    }

    fn is_full(&self) -> bool {
        self.unsent_size_bytes_max <= self.unsent_size_bytes
    }

    /// The frame that the next message joins.
    fn draft(&mut self, spare: &mut Vec<Vec<u8>>) -> &mut Draft {
        let is_open = self.drafts.back().is_some_and(|draft| {
            draft.bytes.len() - FRAME_HEADER_SIZE_BYTES < FRAME_BODY_BYTES_TARGET
                && usize::from(draft.count) < FRAME_MESSAGES_MAX
        });
        if !is_open {
            let mut bytes = spare.pop().unwrap_or_default();
            bytes.reserve(DRAFT_SIZE_BYTES_MIN);
            begin_frame(&mut bytes);
            self.drafts.push_back(Draft { bytes, count: 0 });
        }
        self.drafts.back_mut().expect("a draft was pushed if there was none")
    }

    fn pop(&mut self) -> Option<Draft> {
        let draft = self.drafts.pop_front()?;
        let body_size_bytes = draft.bytes.len() - FRAME_HEADER_SIZE_BYTES;
        assert!(0 < draft.count);
        assert!(body_size_bytes <= self.unsent_size_bytes);
        self.unsent_size_bytes -= body_size_bytes;
        Some(draft)
    }
}

/// Room of a new frame: its header and a message or two without entries.
const DRAFT_SIZE_BYTES_MIN: usize = 256;
