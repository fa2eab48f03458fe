//! The client's side of an HTTP/2 connection, bytes in and bytes out.
//!
//! Invariants: no DATA leaves beyond the member's windows, and none is taken beyond ours; a frame
//! is written whole; a member that breaks the protocol ends the run here.
//! Source: RFC 9113 sections 3.4, 5.1, 5.2, 6.

use std::collections::BTreeMap;

use net::http2::StreamId;
use net::http2::frame::{self, ErrorCode, FrameHeader, HEADER_SIZE_BYTES, flag, kind, setting};
use net::http2::hpack::Decoder;
use net::http2::limits::{
    DEFAULT_WINDOW_BYTES, FRAME_SIZE_BYTES_MAX, HEADER_TABLE_SIZE_BYTES_MAX, WINDOW_BYTES_MAX,
};

use super::headers::CallHeaders;

/// How a client uses the protocol.
#[derive(Clone, Debug)]
pub struct Manners {
    /// It keeps header fields in the member's table.
    pub uses_table: bool,
    /// It lets the member keep some in its own.
    pub allows_table: bool,
    /// The window of a stream; a small one makes the member wait.
    pub window_bytes: u32,
    /// The window of the connection.
    pub connection_window_bytes: i64,
    /// It makes room again only now and then; see [`Http2::tick`].
    pub is_slow: bool,
}

/// Something that happened on a stream, or to all of them.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// Bytes of an answer.
    Data(u32, Vec<u8>),
    /// A header block, and whether it is the stream's last.
    Fields(u32, Vec<(String, String)>, bool),
    /// The member gave the stream up, with this code.
    Reset(u32, u32),
    /// The member takes no more streams.
    GoAway,
}

#[derive(Debug)]
struct Stream {
    /// What the member takes of it yet.
    window_bytes: i64,
    /// What waits for a window.
    unsent: Vec<u8>,
    /// Nothing comes after that.
    is_last: bool,
    /// The last DATA has gone.
    is_closed: bool,
    /// What the member may send yet, and what was taken and is not given back.
    credit_bytes: i64,
    taken_bytes: i64,
}

/// See the file's head.
pub struct Http2 {
    manners: Manners,
    headers: CallHeaders,
    decoder: Decoder,
    output: Vec<u8>,
    inbound: Vec<u8>,
    /// A header block whose end has not come: its stream, its flags.
    block: Option<(u32, u8, Vec<u8>)>,
    streams: BTreeMap<u32, Stream>,
    next_stream: u32,
    /// What a new stream may send at first, by the member's settings.
    window_bytes_initial: i64,
    /// What all streams may send together.
    window_bytes: i64,
    frame_size_bytes_max: usize,
    credit_bytes: i64,
    taken_bytes: i64,
    is_greeted: bool,
}

impl Http2 {
    /// A connection at its beginning: preface and settings are in the output.
    pub fn new(manners: Manners) -> Http2 {
        let table = if manners.allows_table { HEADER_TABLE_SIZE_BYTES_MAX } else { 0 };
        let mut output = frame::PREFACE.to_vec();
        let settings = [
            (setting::HEADER_TABLE_SIZE, table as u32),
            (setting::ENABLE_PUSH, 0),
            (setting::INITIAL_WINDOW_SIZE, manners.window_bytes),
        ];
        frame::write_settings(&settings, &mut output);
        let more = manners.connection_window_bytes - DEFAULT_WINDOW_BYTES;
        if 0 < more {
            frame::write_window_update(StreamId(0), more, &mut output);
        }
        Http2 {
            headers: CallHeaders::new(manners.uses_table),
            decoder: Decoder::new(table, 1),
            credit_bytes: manners.connection_window_bytes,
            manners,
            output,
            inbound: Vec::new(),
            block: None,
            streams: BTreeMap::new(),
            next_stream: 1,
            window_bytes_initial: DEFAULT_WINDOW_BYTES,
            window_bytes: DEFAULT_WINDOW_BYTES,
            frame_size_bytes_max: FRAME_SIZE_BYTES_MAX,
            taken_bytes: 0,
            is_greeted: false,
        }
    }

    /// Whether the member's settings came.
    pub fn is_greeted(&self) -> bool {
        self.is_greeted
    }

    /// Opens a stream and returns its number.
    pub fn open(&mut self, path: &str, metadata: &[(&'static str, String)]) -> u32 {
        let id = self.next_stream;
        self.next_stream += 2;
        let mut block = Vec::new();
        self.headers.write(path, metadata, &mut block);
        frame::write(kind::HEADERS, flag::END_HEADERS, StreamId(id), &block, &mut self.output);
        let stream = Stream {
            window_bytes: self.window_bytes_initial,
            unsent: Vec::new(),
            is_last: false,
            is_closed: false,
            credit_bytes: i64::from(self.manners.window_bytes),
            taken_bytes: 0,
        };
        self.streams.insert(id, stream);
        id
    }

    /// Sends bytes on a stream, as windows let them through.
    pub fn send(&mut self, id: u32, bytes: &[u8], is_last: bool) {
        let stream = self.streams.get_mut(&id).expect("streams in use are there");
        assert!(!stream.is_last, "nothing comes after the last");
        stream.unsent.extend_from_slice(bytes);
        stream.is_last = is_last;
        self.pump(id);
    }

    /// Gives a stream up.
    pub fn reset(&mut self, id: u32) {
        if self.streams.remove(&id).is_some() {
            // CANCEL, which a server never sends.
            let code = 8_u32.to_be_bytes();
            frame::write(kind::RST_STREAM, 0, StreamId(id), &code, &mut self.output);
        }
    }

    /// Time has passed.
    pub fn tick(&mut self) {
        self.make_room();
    }

    /// Bytes to send.
    pub fn take_output(&mut self) -> Vec<u8> {
        if !self.manners.is_slow {
            self.make_room();
        }
        std::mem::take(&mut self.output)
    }

    /// Gives back what was taken, in portions. Not as soon as a frame came: a member that sends
    /// more than it may would be given the right to while it is read.
    fn make_room(&mut self) {
        let output = &mut self.output;
        let mut portion = |id: u32, taken_bytes: &mut i64, window_bytes: i64| {
            if 2 * *taken_bytes < window_bytes {
                return 0;
            }
            frame::write_window_update(StreamId(id), *taken_bytes, output);
            std::mem::take(taken_bytes)
        };
        let window_bytes = self.manners.connection_window_bytes;
        self.credit_bytes += portion(0, &mut self.taken_bytes, window_bytes);
        for (id, stream) in &mut self.streams {
            let window_bytes = i64::from(self.manners.window_bytes);
            stream.credit_bytes += portion(*id, &mut stream.taken_bytes, window_bytes);
        }
    }

    /// Takes bytes of the member.
    pub fn feed(&mut self, bytes: &[u8], on_event: &mut dyn FnMut(Event)) {
        let mut inbound = std::mem::take(&mut self.inbound);
        inbound.extend_from_slice(bytes);
        let mut rest = inbound.as_slice();
        while let Some(head) = rest.first_chunk::<HEADER_SIZE_BYTES>() {
            let header = FrameHeader::decode(head);
            assert!(header.size_bytes <= FRAME_SIZE_BYTES_MAX, "a frame too large: {header:?}");
            let end = HEADER_SIZE_BYTES + header.size_bytes;
            let Some(payload) = rest.get(HEADER_SIZE_BYTES..end) else { break };
            self.on_frame(header, payload, on_event);
            rest = &rest[end..];
        }
        self.inbound = rest.to_vec();
    }

    fn on_frame(&mut self, header: FrameHeader, payload: &[u8], on_event: &mut dyn FnMut(Event)) {
        let id = header.stream.0;
        let is_block = self.block.is_some();
        assert_eq!(is_block, header.kind == kind::CONTINUATION, "blocks stay whole: {header:?}");
        assert!(self.is_greeted || header.kind == kind::SETTINGS, "settings first: {header:?}");
        assert!(id < self.next_stream, "a stream that nobody opened: {header:?}");
        match header.kind {
            kind::DATA => self.on_data(header, payload, on_event),
            kind::HEADERS => {
                assert!(!header.has(flag::PADDED) && !header.has(flag::PRIORITY));
                self.on_block(id, header.flags, Vec::new(), header.flags, payload, on_event);
            }
            kind::CONTINUATION => {
                let (of, flags, block) = self.block.take().expect("just looked");
                assert_eq!(of, id, "blocks stay whole");
                self.on_block(id, flags, block, header.flags, payload, on_event);
            }
            kind::RST_STREAM => {
                let code = u32::from_be_bytes(payload.try_into().expect("four bytes"));
                assert_ne!(code, ErrorCode::Protocol as u32, "stream {id} was no fault of ours");
                if self.streams.remove(&id).is_some() {
                    on_event(Event::Reset(id, code));
                }
            }
            kind::SETTINGS => self.on_settings(header, payload),
            kind::PING if header.has(flag::ACK) => {}
            kind::PING => {
                frame::write(kind::PING, flag::ACK, StreamId(0), payload, &mut self.output);
            }
            kind::GOAWAY => {
                let code = u32::from_be_bytes(payload[4..8].try_into().expect("four bytes"));
                let text = String::from_utf8_lossy(&payload[8..]);
                assert_eq!(code, ErrorCode::NoError as u32, "told to go away: {text}");
                on_event(Event::GoAway);
            }
            kind::WINDOW_UPDATE => self.on_window(id, payload),
            other => panic!("no server sends frames of type {other}"),
        }
    }

    fn on_data(&mut self, header: FrameHeader, payload: &[u8], on_event: &mut dyn FnMut(Event)) {
        assert!(!header.has(flag::END_STREAM), "an answer ends with trailers");
        let (id, size_bytes) = (header.stream.0, payload.len() as i64);
        self.credit_bytes -= size_bytes;
        assert!(0 <= self.credit_bytes, "more than the connection's window");
        self.taken_bytes += size_bytes;
        // Streams that were given up are still sent to for a while.
        let Some(stream) = self.streams.get_mut(&id) else { return };
        stream.credit_bytes -= size_bytes;
        assert!(0 <= stream.credit_bytes, "more than the window of stream {id}");
        stream.taken_bytes += size_bytes;
        on_event(Event::Data(id, payload.to_vec()));
    }

    /// A piece of a header block; `flags` are those of its first frame, `now` those of this one.
    fn on_block(
        &mut self,
        id: u32,
        flags: u8,
        mut block: Vec<u8>,
        now: u8,
        payload: &[u8],
        on_event: &mut dyn FnMut(Event),
    ) {
        block.extend_from_slice(payload);
        if now & flag::END_HEADERS == 0 {
            self.block = Some((id, flags, block));
            return;
        }
        let mut fields = Vec::new();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("fields are text");
        let decoded = self.decoder.decode(&block, |name, value, _| {
            fields.push((text(name), text(value)));
        });
        decoded.expect("a member's header blocks decode");
        let is_last = flags & flag::END_STREAM != 0;
        let known = match is_last {
            // What was not sent yet nobody reads any more.
            true => self.streams.remove(&id).is_some_and(|stream| {
                if !stream.is_closed {
                    let code = (ErrorCode::NoError as u32).to_be_bytes();
                    frame::write(kind::RST_STREAM, 0, StreamId(id), &code, &mut self.output);
                }
                true
            }),
            false => self.streams.contains_key(&id),
        };
        if known {
            on_event(Event::Fields(id, fields, is_last));
        }
    }

    fn on_settings(&mut self, header: FrameHeader, payload: &[u8]) {
        if header.has(flag::ACK) {
            assert!(payload.is_empty());
            return;
        }
        for entry in payload.chunks(6) {
            let [a, b, c, d, e, f] = *entry else { panic!("settings are six bytes each") };
            let (name, value) = (u16::from_be_bytes([a, b]), u32::from_be_bytes([c, d, e, f]));
            match name {
                setting::INITIAL_WINDOW_SIZE => {
                    let more = i64::from(value) - self.window_bytes_initial;
                    self.window_bytes_initial += more;
                    self.streams.values_mut().for_each(|stream| stream.window_bytes += more);
                }
                setting::MAX_FRAME_SIZE => self.frame_size_bytes_max = value as usize,
                _ => {}
            }
        }
        self.is_greeted = true;
        frame::write(kind::SETTINGS, flag::ACK, StreamId(0), &[], &mut self.output);
        self.pump_all();
    }

    fn on_window(&mut self, id: u32, payload: &[u8]) {
        let more = i64::from(u32::from_be_bytes(payload.try_into().expect("four bytes")));
        assert!(0 < more && more <= WINDOW_BYTES_MAX);
        if id == 0 {
            self.window_bytes += more;
            assert!(self.window_bytes <= WINDOW_BYTES_MAX);
            self.pump_all();
        } else if let Some(stream) = self.streams.get_mut(&id) {
            stream.window_bytes += more;
            assert!(stream.window_bytes <= WINDOW_BYTES_MAX);
            self.pump(id);
        }
    }

    fn pump_all(&mut self) {
        let waiting = self.streams.iter().filter(|(_, stream)| !stream.unsent.is_empty());
        let waiting: Vec<u32> = waiting.map(|(id, _)| *id).collect();
        for id in waiting {
            self.pump(id);
        }
    }

    /// Sends what the windows let through.
    fn pump(&mut self, id: u32) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        while !stream.is_closed {
            let room = self.window_bytes.min(stream.window_bytes).max(0) as usize;
            let size = stream.unsent.len().min(room).min(self.frame_size_bytes_max);
            let ends = stream.is_last && size == stream.unsent.len();
            if size == 0 && !ends {
                return;
            }
            let flags = if ends { flag::END_STREAM } else { 0 };
            let piece: Vec<u8> = stream.unsent.drain(..size).collect();
            frame::write(kind::DATA, flags, StreamId(id), &piece, &mut self.output);
            stream.window_bytes -= size as i64;
            self.window_bytes -= size as i64;
            stream.is_closed = ends;
        }
    }
}
