//! A connection's buffers, over a pair of sockets.

use rustix::event::epoll::CreateFlags;
use shard::input::Door;
use socket2::{Domain, Type};

use super::*;

#[test]
fn buffers_that_were_sent_come_back_empty_few_and_small() {
    let epoll = epoll::create(CreateFlags::CLOEXEC).unwrap();
    let mut connections = Connections::new();
    let (socket, mut peer) = Socket::pair(Domain::UNIX, Type::STREAM, None).unwrap();
    let arrival = Arrival { socket, door: Door::Client, is_placed: false };
    connections.accept(&epoll, arrival).unwrap();
    let mut inputs = Vec::new();
    connections.take_inputs(&mut inputs);
    let [Input::Accepted { connection, .. }] = inputs[..] else { panic!("{inputs:?}") };

    let mut emptied = Vec::new();
    let mut sent = Vec::new();
    for number in 0..2 * EMPTIED_BUFFERS_MAX {
        let bytes = vec![number as u8; 10];
        sent.extend_from_slice(&bytes);
        connections.transmit(connection, bytes);
    }
    let large = vec![7; EMPTIED_BUFFER_BYTES_MAX + 1];
    sent.extend_from_slice(&large);
    connections.transmit(connection, large);
    connections.take_emptied(&mut emptied);
    assert!(emptied.is_empty(), "nothing was sent yet");
    connections.flush(&epoll);
    for _ in 0..2 {
        connections.take_emptied(&mut emptied);
        assert_eq!(emptied.len(), EMPTIED_BUFFERS_MAX);
    }
    let is_fit = |buffer: &Vec<u8>| {
        buffer.is_empty() && (1..=EMPTIED_BUFFER_BYTES_MAX).contains(&buffer.capacity())
    };
    assert!(emptied.iter().all(is_fit));
    let mut read = vec![0; sent.len()];
    io::Read::read_exact(&mut peer, &mut read).unwrap();
    assert_eq!(read, sent);
}
