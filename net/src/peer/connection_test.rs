//! Two ends of a connection, and what happens to the bytes between them.

use super::connection::{Event, PeerConnection};
use super::error::{PeerError, SendError};
use super::hello::{Hello, MAGIC, Refusal, Sniff, is_hello};
use super::limits;
use super::message::{Answer, Lane, NotAppended, PeerMessage};
use super::sample::{FROM, Sample, TO, hello};
use bytes::Bytes;
use proptest::prelude::*;
use raft::{Body, Entry, EntryId, EntryKind, Index, LeaseReads, ReplicaId, Term};

fn output(connection: &mut PeerConnection) -> Vec<u8> {
    std::iter::from_fn(|| connection.take_frame(Vec::new())).flatten().collect()
}

fn received(connection: &mut PeerConnection, bytes: &[u8]) -> Vec<Event> {
    let mut events = Vec::new();
    connection.receive(bytes, &mut events).unwrap();
    events
}

fn refused(connection: &mut PeerConnection, bytes: &[u8]) -> PeerError {
    let mut events = Vec::new();
    let error = connection.receive(bytes, &mut events).unwrap_err();
    assert_eq!(events, []);
    assert!(connection.is_closed());
    error
}

fn dialer() -> PeerConnection {
    PeerConnection::dialer(&hello(TO, FROM))
}

/// The two ends of an open connection; the acceptor, who sends in most tests, comes first.
fn open() -> (PeerConnection, PeerConnection) {
    let (mut acceptor, mut dialer) = (accepted(), dialer());
    received(&mut dialer, &output(&mut acceptor));
    assert!(dialer.is_open());
    output(&mut dialer);
    (acceptor, dialer)
}

/// An acceptor that has accepted; its hello is in the output.
fn accepted() -> PeerConnection {
    let mut acceptor = PeerConnection::acceptor();
    let events = received(&mut acceptor, &output(&mut dialer()));
    assert_eq!(events, [Event::Hello(hello(TO, FROM))]);
    assert!(!acceptor.is_open());
    acceptor.accept(&hello(FROM, TO));
    assert!(acceptor.is_open());
    acceptor
}

fn message_event(message: &PeerMessage) -> Event {
    Event::Message { group: 1, message: message.clone() }
}

/// What the acceptor says: its hello and frames of random messages, and what the dialer should
/// make of it, frame by frame.
fn stream(seed: u64, frames: usize) -> Vec<(Vec<u8>, Vec<Event>)> {
    let mut sample = Sample(seed);
    let mut acceptor = accepted();
    let mut stream = vec![(output(&mut acceptor), vec![Event::Hello(hello(FROM, TO))])];
    for _ in 0..frames {
        let messages = (0..1 + sample.below(3)).map(|_| sample.message(acceptor.next_sequence()));
        let messages: Vec<PeerMessage> = messages.collect();
        let lane = messages[0].lane();
        let mut events = Vec::new();
        for message in messages.iter().filter(|message| message.lane() == lane) {
            // Two proposals were made with one number.
            if let PeerMessage::Propose { sequence, .. } = message
                && *sequence != acceptor.next_sequence()
            {
                continue;
            }
            acceptor.send(1, message).unwrap();
            events.push(message_event(message));
        }
        stream.push((output(&mut acceptor), events));
    }
    stream
}

fn bytes_of(stream: &[(Vec<u8>, Vec<Event>)]) -> Vec<u8> {
    stream.iter().flat_map(|(bytes, _)| bytes).copied().collect()
}

fn events_of(stream: &[(Vec<u8>, Vec<Event>)]) -> Vec<Event> {
    stream.iter().flat_map(|(_, events)| events).cloned().collect()
}

/// Asserts that `events` are those of a whole number of frames from the start of `stream`.
fn assert_prefix(events: &[Event], stream: &[(Vec<u8>, Vec<Event>)]) {
    assert!((0..=stream.len()).any(|count| events_of(&stream[..count]) == events));
}

/// Bytes that a receiver needs to tell that something is missing from `start` on.
fn needed_size_bytes(stream: &[(Vec<u8>, Vec<Event>)], start: usize) -> usize {
    let mut frame_start = 0;
    for (bytes, _) in stream {
        let frame_end = frame_start + bytes.len();
        if start < frame_end {
            let magic_size = if frame_start == 0 { MAGIC.len() } else { 0 };
            let header_end = frame_start + magic_size + limits::FRAME_HEADER_SIZE_BYTES;
            return match start {
                start if start < magic_size => start + 1,
                start if start < header_end => header_end,
                _ => frame_end,
            };
        }
        frame_start = frame_end;
    }
    unreachable!("the cut starts within the stream")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn cuts_of_the_stream_change_nothing(seed: u64, piece_max in 1usize..20_000) {
        let stream = stream(seed, 8);
        let bytes = bytes_of(&stream);
        let mut sample = Sample(seed);
        let mut dialer = dialer();
        let mut events = Vec::new();
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let (piece, behind) = rest.split_at(rest.len().min(1 + sample.below(piece_max)));
            dialer.receive(piece, &mut events).unwrap();
            assert_prefix(&events, &stream);
            rest = behind;
        }
        prop_assert_eq!(events, events_of(&stream));
        prop_assert_eq!(dialer.pending_size_bytes(), 0);
    }

    #[test]
    fn a_flipped_bit_ends_the_connection_and_alters_nothing(seed: u64) {
        let stream = stream(seed, 4);
        let bytes = bytes_of(&stream);
        let mut sample = Sample(seed);
        for _ in 0..50 {
            let mut damaged = bytes.clone();
            damaged[sample.below(bytes.len())] ^= 1 << sample.below(8);
            let mut events = Vec::new();
            prop_assert!(dialer().receive(&damaged, &mut events).is_err());
            assert_prefix(&events, &stream);
        }
    }

    #[test]
    fn a_piece_cut_out_is_missed_or_waited_for(seed: u64) {
        let stream = stream(seed, 4);
        let bytes = bytes_of(&stream);
        let mut sample = Sample(seed);
        for _ in 0..50 {
            let start = sample.below(bytes.len());
            let end = start + 1 + sample.below(bytes.len() - start);
            let cut = [&bytes[..start], &bytes[end..]].concat();
            let mut dialer = dialer();
            let mut events = Vec::new();
            let result = dialer.receive(&cut, &mut events);
            prop_assert_ne!(&events, &events_of(&stream));
            assert_prefix(&events, &stream);
            // What is left may begin as the piece did: the cut lies where it shows.
            let start = bytes.iter().zip(&cut).take_while(|(byte, cut)| byte == cut).count();
            let is_told = start < cut.len() && needed_size_bytes(&stream, start) <= cut.len();
            prop_assert_eq!(result.is_err(), is_told);
        }
    }

    #[test]
    fn garbage_never_panics(
        bytes in proptest::collection::vec(any::<u8>(), 0..2000),
        behind_hello: bool,
    ) {
        let mut dialer = dialer();
        if behind_hello {
            received(&mut dialer, &output(&mut accepted()));
        }
        let mut events = Vec::new();
        let result = dialer.receive(&bytes, &mut events);
        prop_assert!(result.is_err() || bytes.len() < limits::FRAME_HEADER_SIZE_BYTES);
        prop_assert_eq!(events, []);
    }
}

#[test]
fn whole_frames_missing_repeated_or_swapped_are_noticed() {
    let stream = stream(11, 5);
    let frames: Vec<&[u8]> = stream.iter().map(|(bytes, _)| &bytes[..]).collect();
    let orders: [&[usize]; 4] = [&[0, 2, 3], &[0, 1, 1], &[0, 1, 3, 2], &[0, 1, 2, 0]];
    for order in orders {
        let mut dialer = dialer();
        let mut events = Vec::new();
        let result = order.iter().try_for_each(|slot| dialer.receive(frames[*slot], &mut events));
        // Frame 0 has the magic in front of it.
        let is_hello_again = order.last() == Some(&0);
        let expected =
            if is_hello_again { PeerError::HeaderChecksum } else { PeerError::FrameNumber };
        assert_eq!(result, Err(expected), "{order:?}");
        assert_prefix(&events, &stream);
        assert_eq!(dialer.receive(frames[2], &mut events), Err(PeerError::Phase));
    }
}

#[test]
fn both_sides_shake_hands_and_talk() {
    let mut acceptor = PeerConnection::acceptor();
    let mut dialer = dialer();
    assert!(dialer.has_output() && !acceptor.has_output());
    let first = output(&mut dialer);
    assert!(!dialer.has_output());
    assert_eq!(received(&mut acceptor, &first), [Event::Hello(hello(TO, FROM))]);
    assert_eq!(acceptor.version(), Some(1));
    acceptor.accept(&hello(FROM, TO));
    assert_eq!(received(&mut dialer, &output(&mut acceptor)), [Event::Hello(hello(FROM, TO))]);
    assert_eq!(dialer.version(), Some(1));
    let message = Sample(1).message_of(super::MessageKind::Ask, 0);
    for _ in 0..2 {
        dialer.send(1, &message).unwrap();
        assert_eq!(received(&mut acceptor, &output(&mut dialer)), [message_event(&message)]);
        acceptor.send(1, &message).unwrap();
        assert_eq!(received(&mut dialer, &output(&mut acceptor)), [message_event(&message)]);
    }
}

#[test]
fn a_refusal_ends_the_dialer_and_the_acceptor() {
    let mut acceptor = PeerConnection::acceptor();
    let mut dialer = dialer();
    received(&mut acceptor, &output(&mut dialer));
    acceptor.refuse(Refusal::Busy);
    assert!(acceptor.is_closed() && acceptor.has_output());
    assert_eq!(received(&mut dialer, &output(&mut acceptor)), [Event::Refused(Refusal::Busy)]);
    assert!(dialer.is_closed());
    for connection in [&mut acceptor, &mut dialer] {
        let message = PeerMessage::MetaRequest;
        assert_eq!(connection.send(1, &message), Err(SendError::NotOpen));
        assert_eq!(refused(connection, b"x"), PeerError::Phase);
    }
}

#[test]
fn a_peer_of_another_version_is_told_ours() {
    let mut first = output(&mut dialer());
    // The versions stand behind magic and header; the frame is sealed anew.
    let frame = &mut first[MAGIC.len()..];
    frame[limits::FRAME_HEADER_SIZE_BYTES..][..4].copy_from_slice(&[9, 0, 10, 0]);
    super::frame::seal_frame(frame, 0, super::frame::FrameKind::Hello);
    let mut acceptor = PeerConnection::acceptor();
    assert_eq!(refused(&mut acceptor, &first), PeerError::Version);
    let refusal = Refusal::Version { min: 1, max: 1 };
    assert_eq!(received(&mut dialer(), &output(&mut acceptor)), [Event::Refused(refusal)]);
    assert_eq!(refused(&mut dialer(), &first), PeerError::Version);
}

#[test]
fn nothing_comes_before_its_time() {
    let (mut acceptor, mut dialing) = open();
    acceptor.send(1, &PeerMessage::MetaRequest).unwrap();
    let message = output(&mut acceptor);
    // A hello after the hello.
    let hello_again = {
        let mut frame = output(&mut dialer())[MAGIC.len()..].to_vec();
        super::frame::seal_frame(&mut frame, 1, super::frame::FrameKind::Hello);
        frame
    };
    assert_eq!(refused(&mut dialing, &hello_again), PeerError::Phase);
    // A message in place of the hello.
    let too_early = {
        let mut frame = message.clone();
        let kind = super::frame::FrameKind::Messages { count: 1 };
        super::frame::seal_frame(&mut frame, 0, kind);
        [&MAGIC[..], &frame].concat()
    };
    assert_eq!(refused(&mut PeerConnection::acceptor(), &too_early), PeerError::Phase);
    assert_eq!(refused(&mut dialer(), &too_early), PeerError::Phase);
    // A message before the hello was answered, in one piece with it and behind it.
    let first = output(&mut dialer());
    let mut undecided = PeerConnection::acceptor();
    received(&mut undecided, &first);
    assert_eq!(refused(&mut undecided, &message), PeerError::Phase);
    let mut events = Vec::new();
    let both = [first, message].concat();
    let mut undecided = PeerConnection::acceptor();
    assert_eq!(undecided.receive(&both, &mut events), Err(PeerError::Phase));
    assert_eq!(events.len(), 1);
    // A refusal for an acceptor.
    let mut refusing = PeerConnection::acceptor();
    received(&mut refusing, &output(&mut dialer()));
    refusing.refuse(Refusal::Removed);
    let refusal = output(&mut refusing);
    assert_eq!(refused(&mut PeerConnection::acceptor(), &refusal), PeerError::Phase);
}

#[test]
fn the_port_is_shared_with_http() {
    let first = output(&mut dialer());
    for size in 0..first.len() {
        let expected = if size < MAGIC.len() { Sniff::NeedMore } else { Sniff::Yes };
        assert_eq!(is_hello(&first[..size]), expected);
    }
    for request in ["GET /members HTTP/1.1", "P", "corepear", "c0"] {
        assert_eq!(is_hello(request.as_bytes()), Sniff::No, "{request}");
    }
    assert_eq!(refused(&mut dialer(), b"HTTP/1.1 400 Bad Request"), PeerError::Magic);
}

#[test]
fn a_frame_above_its_bound_is_refused_by_its_header() {
    let header = |number, size_bytes: usize| {
        let mut frame = vec![0; size_bytes];
        let kind = super::frame::FrameKind::Messages { count: 1 };
        super::frame::seal_frame(&mut frame, number, kind);
        frame.truncate(limits::FRAME_HEADER_SIZE_BYTES);
        frame
    };
    let hello_sized = [&MAGIC[..], &header(0, limits::HELLO_SIZE_BYTES_MAX)].concat();
    assert_eq!(received(&mut dialer(), &hello_sized), []);
    let larger = [&MAGIC[..], &header(0, limits::HELLO_SIZE_BYTES_MAX + 1)].concat();
    assert_eq!(refused(&mut dialer(), &larger), PeerError::FrameSize);

    let (_, mut dialing) = open();
    assert_eq!(received(&mut dialing, &header(1, limits::FRAME_SIZE_BYTES_MAX)), []);
    let (_, mut dialing) = open();
    let larger = header(1, limits::FRAME_SIZE_BYTES_MAX + 1);
    assert_eq!(refused(&mut dialing, &larger), PeerError::FrameSize);
}

#[test]
fn a_frame_with_one_bad_message_gives_none() {
    let (mut acceptor, mut dialing) = open();
    let good = PeerMessage::MetaRequest;
    let bad = PeerMessage::NotAppended { sequence: 1, reason: NotAppended::Full };
    acceptor.send(1, &good).unwrap();
    acceptor.send(1, &bad).unwrap();
    let mut frame = output(&mut acceptor);
    let seal = |frame: &mut [u8], count| {
        super::frame::seal_frame(frame, 1, super::frame::FrameKind::Messages { count });
    };
    // One message more than there is, or less.
    seal(&mut frame, 3);
    assert_eq!(refused(&mut dialing, &frame), PeerError::Truncated);
    seal(&mut frame, 1);
    assert_eq!(refused(&mut open().1, &frame), PeerError::Trailing);
    // The last byte is reserved.
    *frame.last_mut().unwrap() = 1;
    seal(&mut frame, 2);
    assert_eq!(refused(&mut open().1, &frame), PeerError::Reserved);
}

#[test]
fn a_member_speaks_for_itself_and_to_us() {
    let body = Body::TimeoutNow;
    let message = |from, to| {
        let (from, to) = (ReplicaId(from), ReplicaId(to));
        PeerMessage::Raft(raft::Message { from, to, term: Term(1), body: body.clone() })
    };
    let (mut acceptor, mut dialing) = open();
    acceptor.send(1, &message(FROM, TO)).unwrap();
    assert_eq!(received(&mut dialing, &output(&mut acceptor)), [message_event(&message(FROM, TO))]);
    // An end that thinks it is somebody else, or talks to somebody else.
    for (from, to) in [(FROM + 1, TO), (FROM, TO + 1)] {
        let mut acceptor = PeerConnection::acceptor();
        let theirs = Hello { from_member: to, ..hello(TO, FROM) };
        received(&mut acceptor, &output(&mut PeerConnection::dialer(&theirs)));
        acceptor.accept(&hello(from, to));
        output(&mut acceptor);
        acceptor.send(1, &message(from, to)).unwrap();
        assert_eq!(refused(&mut open().1, &output(&mut acceptor)), PeerError::Member);
    }
}

#[test]
fn proposals_are_numbered_and_a_repeated_one_is_dropped() {
    let propose = |sequence| PeerMessage::Propose { sequence, command: Bytes::from_static(b"put") };
    let (mut acceptor, mut dialing) = open();
    for sequence in 1..4 {
        assert_eq!(acceptor.next_sequence(), sequence);
        acceptor.send(1, &propose(sequence)).unwrap();
    }
    let events = received(&mut dialing, &output(&mut acceptor));
    assert_eq!(events, [1, 2, 3].map(|sequence| message_event(&propose(sequence))));
    // The messages of a frame in the wrong order, as a faulty member might send them.
    let frame = |sequences: &[u64], number| {
        let mut frame = vec![0; limits::FRAME_HEADER_SIZE_BYTES];
        for sequence in sequences {
            let message = propose(*sequence);
            let size = super::encode::check_size_bytes(&message).unwrap();
            super::encode::encode(1, &message, size, &mut frame);
        }
        let count = sequences.len() as u16;
        super::frame::seal_frame(&mut frame, number, super::frame::FrameKind::Messages { count });
        frame
    };
    let events = received(&mut dialing, &frame(&[3, 1, 4, 4], 2));
    assert_eq!(events, [message_event(&propose(4))]);
    assert_eq!(refused(&mut dialing, &frame(&[5, 7], 3)), PeerError::Sequence);
}

fn append(index: u64, size_bytes: usize) -> PeerMessage {
    let data = Bytes::from(vec![index as u8; size_bytes]);
    let entry = Entry { term: Term(2), index: Index(index), kind: EntryKind::Command, data };
    let body = Body::Append {
        previous: EntryId { index: Index(index - 1), term: Term(2) },
        commit: Index(0),
        lease: LeaseReads::NotServed,
        entries: vec![entry],
    };
    let (from, to) = (ReplicaId(FROM), ReplicaId(TO));
    PeerMessage::Raft(raft::Message { from, to, term: Term(2), body })
}

#[test]
fn control_leaves_before_bulk_and_each_keeps_its_order() {
    let (mut acceptor, mut dialing) = open();
    let control =
        |sequence| PeerMessage::NotAppended { sequence, reason: NotAppended::TransferRunning };
    let large = limits::FRAME_BODY_BYTES_TARGET;
    acceptor.send(1, &append(1, large)).unwrap();
    acceptor.send(1, &control(1)).unwrap();
    acceptor.send(1, &append(2, 10)).unwrap();
    acceptor.send(1, &control(2)).unwrap();
    let frames: Vec<Vec<u8>> = std::iter::from_fn(|| {
        acceptor.take_frame(Vec::new()).inspect(|_| {
            if acceptor.unsent_size_bytes() < large && acceptor.next_sequence() == 1 {
                // Once the large one left, one more of each comes.
                let sequence = acceptor.next_sequence();
                let command = Bytes::from_static(b"late");
                acceptor.send(1, &PeerMessage::Propose { sequence, command }).unwrap();
                acceptor.send(1, &control(3)).unwrap();
            }
        })
    })
    .collect();
    let mut events = Vec::new();
    for frame in &frames {
        dialing.receive(frame, &mut events).unwrap();
    }
    assert_eq!(frames.len(), 4);
    let late = PeerMessage::Propose { sequence: 1, command: Bytes::from_static(b"late") };
    let expected = [control(1), control(2), append(1, large), control(3), append(2, 10), late];
    assert_eq!(events, expected.map(|message| message_event(&message)));
}

#[test]
fn a_full_lane_takes_nothing_and_is_free_again_when_its_frames_left() {
    let control = PeerMessage::Reply { sequence: 1, answer: Answer::Moved };
    let bulk = append(1, 100_000);
    for (message, lane, bound) in [
        (control, Lane::Control, limits::CONTROL_UNSENT_BYTES_MAX),
        (bulk, Lane::Bulk, limits::BULK_UNSENT_BYTES_MAX),
    ] {
        let (mut acceptor, mut dialing) = open();
        let mut sent = 0;
        while !acceptor.is_full(lane) {
            acceptor.send(1, &message).unwrap();
            sent += 1;
        }
        assert!(bound <= acceptor.unsent_size_bytes());
        assert!(acceptor.unsent_size_bytes() < bound + 100_200);
        assert_eq!(acceptor.send(1, &message), Err(SendError::Full));
        let frames: Vec<Vec<u8>> = std::iter::from_fn(|| acceptor.take_frame(Vec::new())).collect();
        let mut events = Vec::new();
        for frame in &frames {
            dialing.receive(frame, &mut events).unwrap();
        }
        assert_eq!(events.len(), sent, "what was refused was not sent");
        assert_eq!(acceptor.unsent_size_bytes(), 0);
        assert_eq!(acceptor.send(1, &message), Ok(()));
    }
}

#[test]
fn the_other_lane_is_not_full() {
    let (mut acceptor, _) = open();
    while acceptor.send(1, &append(1, 1 << 20)).is_ok() {}
    assert!(acceptor.is_full(Lane::Bulk));
    assert_eq!(acceptor.send(1, &PeerMessage::MetaRequest), Ok(()));
    assert!(!acceptor.is_full(Lane::Control));
}

#[test]
fn the_largest_message_passes_and_a_larger_one_is_not_taken() {
    let around = limits::MESSAGE_SIZE_BYTES_MAX - 16 - 24 - 32 - 24;
    let (mut acceptor, mut dialing) = open();
    assert_eq!(acceptor.send(1, &append(2, around + 1)), Err(SendError::TooLarge));
    assert!(!acceptor.has_output());
    // Behind a frame that is almost at its target, so that the frame is the largest possible.
    let first = append(1, limits::FRAME_BODY_BYTES_TARGET - 97);
    let largest = append(2, around);
    acceptor.send(1, &first).unwrap();
    acceptor.send(1, &largest).unwrap();
    let frame = acceptor.take_frame(Vec::new()).unwrap();
    assert_eq!(frame.len(), limits::FRAME_SIZE_BYTES_MAX - 1);
    let mut events = Vec::new();
    for piece in frame.chunks(1 << 20) {
        dialing.receive(piece, &mut events).unwrap();
    }
    assert_eq!(events, [first, largest].map(|message| message_event(&message)));
}

#[test]
fn many_small_messages_share_frames() {
    let (mut acceptor, mut dialing) = open();
    let count = 2 * limits::FRAME_MESSAGES_MAX + 1;
    for _ in 0..count {
        acceptor.send(1, &PeerMessage::MetaRequest).unwrap();
    }
    let frames: Vec<Vec<u8>> = std::iter::from_fn(|| acceptor.take_frame(Vec::new())).collect();
    assert_eq!(frames.len(), 3);
    let events = received(&mut dialing, &frames.concat());
    assert_eq!(events.len(), count);
}
