//! Puts through one shard that is stepped by hand, on heap pages and without an operating system:
//! what the pure program takes for a put, whatever the disk, the network and other processes do.
//!
//! `step [binary|grpc] [KEYS] [PUTS] [CONNECTIONS]` prints nanoseconds a put; for instructions, which
//! a busy machine does not change, `measured_step` is what callgrind is to collect:
//! `valgrind --tool=callgrind --collect-atstart=no --toggle-collect='*measured_step*' step grpc`.
//! Only the steps of the shard are counted, not the client's part and not the filling.

mod client;
mod world;

use bench::workload::{KeyOrder, Workload};
use client::Client;
use shard::input::{ConnectionId, Door, Input};
use world::World;

/// Calls that are outstanding at a time, over all connections.
const CALLS: usize = 256;
const KEY_SIZE_BYTES: usize = 16;
const VALUE_SIZE_BYTES: usize = 256;

fn main() {
    let mut args = std::env::args().skip(1);
    let is_grpc = match args.next().as_deref() {
        None | Some("binary") => false,
        Some("grpc") => true,
        Some(other) => panic!("{other}: binary or grpc"),
    };
    let mut number = |or: u64| args.next().map_or(or, |text| text.parse().expect("a number"));
    let (keys, puts, connections) = (number(100_000), number(20_000), number(16) as usize);
    assert!((1..=CALLS).contains(&connections), "1 to {CALLS} connections");
    let mut load = Load::opened(is_grpc, keys, connections);
    load.run(keys);
    load.workload = load.workload.ordered(KeyOrder::Drawn);
    load.world.is_measured = true;
    load.run(puts);
    let World { steps, wal_writes, spent, .. } = load.world;
    let nanoseconds = spent.as_nanos() as f64 / puts as f64;
    println!("{puts} puts: {nanoseconds:.0} ns a put, {steps} steps, {wal_writes} WAL writes");
}

/// Clients with a shard.
struct Load {
    world: World,
    clients: Vec<Client>,
    workload: Workload,
    key: Vec<u8>,
}

impl Load {
    fn opened(is_grpc: bool, keys: u64, connections: usize) -> Load {
        let mut world = World::serving();
        let door = if is_grpc { Door::Client } else { Door::Binary };
        let mut clients: Vec<Client> = (0..connections).map(|_| Client::new(is_grpc)).collect();
        for (number, client) in clients.iter_mut().enumerate() {
            let connection = ConnectionId(number as u64);
            world.inputs.push(Input::Accepted { connection, door });
            world.inputs.push(Input::Received { connection, bytes: client.take_output() });
        }
        let sizes = [KEY_SIZE_BYTES, VALUE_SIZE_BYTES];
        let workload = Workload::new("step/", keys, sizes, KeyOrder::Shuffled);
        Load { world, clients, workload, key: Vec::new() }
    }

    /// Makes `puts` puts, all calls outstanding until the last.
    fn run(&mut self, puts: u64) {
        let (mut made, mut answered) = (0, 0);
        let calls_each = CALLS / self.clients.len();
        while answered < puts {
            for (number, client) in self.clients.iter_mut().enumerate() {
                while client.outstanding < calls_each && made < puts {
                    let value = self.workload.next_put(&mut self.key);
                    client.put(&self.key, &value);
                    made += 1;
                }
                let bytes = client.take_output();
                if !bytes.is_empty() {
                    let connection = ConnectionId(number as u64);
                    self.world.inputs.push(Input::Received { connection, bytes });
                }
            }
            self.world.step();
            for (connection, bytes) in self.world.sent.drain(..) {
                answered += self.clients[connection.0 as usize].take_answers(&bytes);
            }
        }
    }
}
