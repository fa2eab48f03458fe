//! The connections of one core: reading into pooled buffers, one gathered send a connection and
//! step, closing.
//!
//! Invariants: a connection's number is never used again in a process; its inputs are in the order
//! of its bytes; `Closed` is its last input; what is not yet sent is kept in order, and told by
//! `Transmitted` when the kernel took it. How much may be unsent is decided in shard, which counts.
//! Readiness is level-triggered: what is not read now is reported again.

use std::{
    collections::VecDeque,
    io::{self, IoSlice},
    net::Shutdown,
    os::fd::{AsFd, OwnedFd},
};

use rustix::{
    event::epoll::{self, EventData, EventFlags},
    io::Errno,
    net::{RecvFlags, SendAncillaryBuffer, SendFlags, recv, sendmsg},
};
use shard::input::{ConnectionId, DialFailure, Input};
use socket2::Socket;

use super::{dialer::Connected, mesh::Arrival};

/// All connections of a core.
#[derive(Debug)]
pub struct Connections {
    slots: Vec<Slot>,
    free: Vec<u32>,
    count: usize,
    /// Empty buffers to read into.
    pool: Vec<Vec<u8>>,
    /// Buffers whose bytes were sent, empty.
    emptied: Vec<Vec<u8>>,
    /// Slots with something new to send or to end.
    touched: Vec<u32>,
    /// Slots of which the shard is not yet told what was sent.
    untold: Vec<u32>,
    /// Closing connections in the order of their deadlines.
    deadlines: VecDeque<(u64, ConnectionId)>,
    /// Inputs that the next step must see soon.
    pending: Vec<Input>,
    /// The next step is not to wait: something in `untold` may hold the shard up.
    is_urgent: bool,
    /// Placed connections that ended since last asked.
    ended: u64,
}

#[derive(Debug, Default)]
struct Slot {
    /// Counts the connections that had this slot.
    generation: u64,
    connection: Option<Connection>,
}

#[derive(Debug)]
struct Connection {
    socket: Socket,
    unsent: VecDeque<Vec<u8>>,
    /// Bytes of the first buffer of `unsent` that are gone.
    head_sent_bytes: usize,
    /// Taken by the kernel and not yet told.
    transmitted_bytes: usize,
    interest: EventFlags,
    state: State,
    is_paused: bool,
    is_touched: bool,
    is_untold: bool,
    /// It was counted where connections are spread over the cores.
    is_placed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    /// The shard asked for the end; what is unsent still goes.
    Closing,
    /// All is sent and said so; the other end has until the deadline to read it.
    Lingering,
}

/// What a read of one connection did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Read {
    Bytes(usize),
    Nothing,
    Ended,
}

impl Connections {
    /// None yet.
    pub fn new() -> Connections {
        Connections {
            slots: Vec::new(),
            free: Vec::new(),
            count: 0,
            pool: Vec::new(),
            emptied: Vec::new(),
            touched: Vec::new(),
            untold: Vec::new(),
            deadlines: VecDeque::new(),
            pending: Vec::new(),
            is_urgent: false,
            ended: 0,
        }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// How many of those that were placed here ended since the last call.
    pub fn take_ended(&mut self) -> u64 {
        std::mem::take(&mut self.ended)
    }

    /// Whether there are inputs which the shard should see without waiting for others.
    pub fn has_urgent_inputs(&self) -> bool {
        !self.pending.is_empty() || self.is_urgent
    }

    /// When the next closing connection is to be ended, in microseconds.
    pub fn deadline_us(&self) -> Option<u64> {
        self.deadlines.front().map(|(at_us, _)| *at_us)
    }

    /// Takes a new connection over. Fails where the kernel's limit of watched files is reached.
    pub fn accept(&mut self, epoll: &OwnedFd, arrival: Arrival) -> io::Result<()> {
        let Arrival { socket, door, is_placed } = arrival;
        let id = self.take_over(epoll, socket, is_placed)?;
        self.pending.push(Input::Accepted { connection: id, door });
        Ok(())
    }

    /// Takes a dialed connection over. Where it cannot be watched the dial has failed.
    pub fn adopt(&mut self, epoll: &OwnedFd, connected: Connected) {
        let Connected { dial, socket } = connected;
        let told = match self.take_over(epoll, socket, false) {
            Ok(connection) => Input::Dialed { dial, connection },
            Err(_) => Input::DialFailed { dial, failure: DialFailure::Unreachable },
        };
        self.pending.push(told);
    }

    fn take_over(
        &mut self,
        epoll: &OwnedFd,
        socket: Socket,
        is_placed: bool,
    ) -> io::Result<ConnectionId> {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            u32::try_from(self.slots.len() - 1).expect("file limits are below 2^20")
        });
        assert!(slot < SLOTS_MAX);
        let entry = &mut self.slots[slot as usize];
        assert!(entry.connection.is_none());
        entry.generation += 1;
        let id = id_of(slot, entry.generation);
        let interest = EventFlags::IN;
        if let Err(error) = epoll::add(epoll, &socket, EventData::new_u64(id.0), interest) {
            self.free.push(slot);
            return Err(error.into());
        }
        entry.connection = Some(Connection {
            socket,
            unsent: VecDeque::new(),
            head_sent_bytes: 0,
            transmitted_bytes: 0,
            interest,
            state: State::Open,
            is_paused: false,
            is_touched: false,
            is_untold: false,
            is_placed,
        });
        self.count += 1;
        Ok(id)
    }

    /// Adds what is to be told at the beginning of a step.
    pub fn take_inputs(&mut self, inputs: &mut Vec<Input>) {
        self.is_urgent = false;
        inputs.append(&mut self.pending);
        for slot in std::mem::take(&mut self.untold) {
            let entry = &mut self.slots[slot as usize];
            let id = id_of(slot, entry.generation);
            let Some(connection) = &mut entry.connection else { continue };
            connection.is_untold = false;
            let size_bytes = std::mem::take(&mut connection.transmitted_bytes);
            if 0 < size_bytes {
                inputs.push(Input::Transmitted { connection: id, size_bytes });
            }
        }
    }

    /// Does what readiness allows; returns how many bytes were read.
    pub fn on_ready(
        &mut self,
        epoll: &OwnedFd,
        id: ConnectionId,
        ready: EventFlags,
        inputs: &mut Vec<Input>,
    ) -> usize {
        // It may have ended since the kernel reported it.
        if self.find(id).is_none() {
            return 0;
        }
        if ready.contains(EventFlags::OUT) {
            self.touch(id);
        }
        let has_input = EventFlags::IN | EventFlags::HUP | EventFlags::ERR;
        if ready.intersects(has_input) { self.receive(epoll, id, inputs) } else { 0 }
    }

    fn receive(&mut self, epoll: &OwnedFd, id: ConnectionId, inputs: &mut Vec<Input>) -> usize {
        let mut total = 0;
        while total < RECEIVE_PER_STEP_BYTES_MAX {
            let mut buffer = self.pool.pop().unwrap_or_default();
            buffer.reserve_exact(RECEIVE_BUFFER_BYTES);
            let Some(connection) = self.find(id) else { break };
            let is_open = connection.state == State::Open;
            // A paused connection gets here only when the other end is gone.
            let read = read_into(&connection.socket, &mut buffer);
            match read {
                Read::Bytes(size) if is_open => {
                    total += size;
                    inputs.push(Input::Received { connection: id, bytes: buffer });
                    // A short read has emptied the socket.
                    if size < RECEIVE_BUFFER_BYTES {
                        break;
                    }
                }
                // What comes after the shard asked for the end is dropped.
                Read::Bytes(size) => {
                    total += size;
                    self.give_back(buffer);
                }
                Read::Nothing => {
                    self.give_back(buffer);
                    break;
                }
                Read::Ended => {
                    self.give_back(buffer);
                    self.end(epoll, id, inputs);
                    break;
                }
            }
        }
        total
    }

    /// Takes an empty buffer back.
    pub fn give_back(&mut self, mut buffer: Vec<u8>) {
        if RECEIVE_BUFFER_BYTES <= buffer.capacity() && self.pool.len() < POOL_BUFFERS_MAX {
            buffer.clear();
            self.pool.push(buffer);
        }
    }

    /// Hands over small buffers whose bytes were sent, to be filled again.
    pub fn take_emptied(&mut self, emptied: &mut Vec<Vec<u8>>) {
        let room = EMPTIED_BUFFERS_MAX.saturating_sub(emptied.len());
        emptied.extend(self.emptied.drain(..).take(room));
    }

    /// Queues bytes; they leave with `flush`.
    pub fn transmit(&mut self, id: ConnectionId, bytes: Vec<u8>) {
        assert!(!bytes.is_empty());
        let Some(connection) = self.find(id) else { return };
        assert!(connection.state == State::Open, "nothing is sent after Close");
        connection.unsent.push_back(bytes);
        self.touch(id);
    }

    /// Stops reading.
    pub fn pause(&mut self, epoll: &OwnedFd, id: ConnectionId) {
        self.set_paused(epoll, id, true);
    }

    /// Reads again.
    pub fn resume(&mut self, epoll: &OwnedFd, id: ConnectionId) {
        self.set_paused(epoll, id, false);
    }

    fn set_paused(&mut self, epoll: &OwnedFd, id: ConnectionId, is_paused: bool) {
        if let Some(connection) = self.find(id) {
            connection.is_paused = is_paused;
            connection.update_interest(epoll, id);
        }
    }

    /// Begins the end: what is unsent still goes, for at most a second.
    pub fn close(&mut self, epoll: &OwnedFd, id: ConnectionId, now_us: u64) {
        let Some(connection) = self.find(id) else { return };
        if connection.state != State::Open {
            return;
        }
        connection.state = State::Closing;
        connection.is_paused = false;
        connection.update_interest(epoll, id);
        self.deadlines.push_back((now_us + CLOSE_WAIT_US_MAX, id));
        self.touch(id);
    }

    /// Sends what the step queued, one call a connection.
    pub fn flush(&mut self, epoll: &OwnedFd) {
        let mut touched = std::mem::take(&mut self.touched);
        for slot in touched.drain(..) {
            let id = id_of(slot, self.slots[slot as usize].generation);
            if self.flush_one(epoll, slot, id).is_err() {
                let mut pending = std::mem::take(&mut self.pending);
                self.end(epoll, id, &mut pending);
                self.pending = pending;
            }
        }
        self.touched = touched;
    }

    fn flush_one(&mut self, epoll: &OwnedFd, slot: u32, id: ConnectionId) -> Result<(), Errno> {
        let Some(connection) = &mut self.slots[slot as usize].connection else { return Ok(()) };
        connection.is_touched = false;
        let was_blocked = connection.interest.contains(EventFlags::OUT);
        let sent = connection.send(&mut self.emptied)?;
        connection.transmitted_bytes += sent;
        connection.update_interest(epoll, id);
        if 0 < connection.transmitted_bytes && !connection.is_untold {
            connection.is_untold = true;
            self.untold.push(slot);
        }
        // A shard that waits for room must hear of it; otherwise the next step is soon enough.
        if (was_blocked && 0 < sent) || TOLD_LATE_BYTES_MAX <= connection.transmitted_bytes {
            self.is_urgent = true;
        }
        if connection.state == State::Closing && connection.unsent.is_empty() {
            connection.state = State::Lingering;
            // Already gone is as good.
            let _ = connection.socket.shutdown(Shutdown::Write);
        }
        Ok(())
    }

    /// Ends the closing connections whose time has come.
    pub fn on_deadline(&mut self, epoll: &OwnedFd, now_us: u64, inputs: &mut Vec<Input>) {
        while let Some((at_us, id)) = self.deadlines.front().copied() {
            if now_us < at_us {
                break;
            }
            self.deadlines.pop_front();
            self.end(epoll, id, inputs);
        }
    }

    fn end(&mut self, epoll: &OwnedFd, id: ConnectionId, inputs: &mut Vec<Input>) {
        if self.find(id).is_none() {
            return;
        }
        let slot = slot_of(id);
        let connection = self.slots[slot as usize].connection.take();
        let connection = connection.expect("found above");
        // Closing the socket would do it too, unless something else still held it.
        let _ = epoll::delete(epoll, &connection.socket);
        self.free.push(slot);
        self.count -= 1;
        self.ended += u64::from(connection.is_placed);
        inputs.push(Input::Closed { connection: id });
    }

    fn find(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        let entry = self.slots.get_mut(slot_of(id) as usize)?;
        if id_of(slot_of(id), entry.generation) != id {
            return None;
        }
        entry.connection.as_mut()
    }

    fn touch(&mut self, id: ConnectionId) {
        let Some(connection) = self.find(id) else { return };
        if !connection.is_touched {
            connection.is_touched = true;
            self.touched.push(slot_of(id));
        }
    }
}

impl Default for Connections {
    fn default() -> Self {
        Self::new()
    }
}

impl Connection {
    /// Sends until the kernel takes no more; returns how much it took. The buffers go to `emptied`.
    fn send(&mut self, emptied: &mut Vec<Vec<u8>>) -> Result<usize, Errno> {
        let mut total = 0;
        while !self.unsent.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let mut offered = 0;
            let mut count = 0;
            for (slice, bytes) in slices.iter_mut().zip(&self.unsent) {
                let start = if count == 0 { self.head_sent_bytes } else { 0 };
                *slice = IoSlice::new(&bytes[start..]);
                offered += bytes.len() - start;
                count += 1;
            }
            let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
            let mut control = SendAncillaryBuffer::default();
            let sent = match sendmsg(&self.socket, &slices[..count], &mut control, flags) {
                Ok(sent) => sent,
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error),
            };
            self.drop_sent(sent, emptied);
            total += sent;
            if sent < offered {
                break;
            }
        }
        Ok(total)
    }

    fn drop_sent(&mut self, mut sent: usize, emptied: &mut Vec<Vec<u8>>) {
        while 0 < sent {
            let head = self.unsent.front().expect("no more was sent than was offered");
            let left = head.len() - self.head_sent_bytes;
            if sent < left {
                self.head_sent_bytes += sent;
                return;
            }
            sent -= left;
            self.head_sent_bytes = 0;
            let mut buffer = self.unsent.pop_front().expect("it was looked at above");
            if buffer.capacity() <= EMPTIED_BUFFER_BYTES_MAX && emptied.len() < EMPTIED_BUFFERS_MAX
            {
                buffer.clear();
                emptied.push(buffer);
            }
        }
    }

    fn update_interest(&mut self, epoll: &OwnedFd, id: ConnectionId) {
        let mut interest = EventFlags::empty();
        interest.set(EventFlags::IN, !self.is_paused);
        interest.set(EventFlags::OUT, !self.unsent.is_empty());
        if interest != self.interest {
            self.interest = interest;
            let data = EventData::new_u64(id.0);
            let modified = epoll::modify(epoll, &self.socket, data, interest);
            assert!(modified.is_ok(), "a registered socket can be changed: {modified:?}");
        }
    }
}

fn read_into(socket: &Socket, buffer: &mut Vec<u8>) -> Read {
    assert!(buffer.is_empty());
    loop {
        let room = rustix::buffer::spare_capacity(buffer);
        return match recv(socket.as_fd(), room, RecvFlags::DONTWAIT) {
            Ok((0, _)) => Read::Ended,
            Ok((size, _)) => Read::Bytes(size),
            Err(Errno::INTR) => continue,
            Err(Errno::AGAIN) => Read::Nothing,
            Err(_) => Read::Ended,
        };
    }
}

fn id_of(slot: u32, generation: u64) -> ConnectionId {
    ConnectionId(generation << SLOT_BITS | u64::from(slot))
}

fn slot_of(id: ConnectionId) -> u32 {
    u32::try_from(id.0 & ((1 << SLOT_BITS) - 1)).expect("masked")
}

const SLOT_BITS: u32 = 24;
const SLOTS_MAX: u32 = 1 << SLOT_BITS;
/// Read from one connection before the step.
const RECEIVE_PER_STEP_BYTES_MAX: usize = 256 << 10;
const RECEIVE_BUFFER_BYTES: usize = 64 << 10;
const POOL_BUFFERS_MAX: usize = 256;
/// Buffers that wait to be filled again, and the largest of them.
const EMPTIED_BUFFERS_MAX: usize = 64;
const EMPTIED_BUFFER_BYTES_MAX: usize = 4 << 10;
/// Buffers of one gathered send.
const SLICES_MAX: usize = 64;
/// As much may be sent without a step of its own to tell it; shard waits for more than this only.
pub const TOLD_LATE_BYTES_MAX: usize = 32 << 10;
const CLOSE_WAIT_US_MAX: u64 = 1_000_000;

#[cfg(test)]
#[path = "connection_test.rs"]
mod tests;
