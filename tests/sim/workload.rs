//! What a client asks next.
//!
//! Invariant: every put of a run writes another value, so that an answer that was lost can be told
//! from its traces.

use super::plan::Shares;
use super::random::Random;
use crate::model::{Compare, Delete, Op, Put, Range, Relation, Request, Txn, Value};

/// What a client knows while it draws its calls.
#[derive(Debug)]
pub struct Workload {
    client: u64,
    keys: usize,
    value_size_bytes_max: usize,
    shares: Shares,
    drawn: u64,
    /// Leases it asked for and has not given up.
    leases: Vec<i64>,
}

/// What all clients know of the store, for calls that are not all in vain.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    /// Highest revision in an answer.
    pub revision: i64,
    /// The watch of everything has heard all up to here: nothing behind it may be compacted.
    pub heard: i64,
}

/// Leases a client has at a time.
const LEASES_MAX: usize = 4;

impl Workload {
    /// The calls of one client.
    pub fn new(client: u64, keys: usize, value_size_bytes_max: usize, shares: Shares) -> Workload {
        let leases = Vec::new();
        Workload { client, keys, value_size_bytes_max, shares, drawn: 0, leases }
    }

    /// The next call.
    pub fn draw(&mut self, random: &mut Random, seen: Seen) -> Request {
        self.drawn += 1;
        let shares = &self.shares;
        let parts = [
            shares.put,
            shares.read,
            shares.delete,
            shares.txn,
            shares.lease,
            shares.compact,
            shares.mistake,
        ];
        let mut place = random.between(0, parts.iter().sum());
        let mut part = 0;
        while parts[part] <= place {
            place -= parts[part];
            part += 1;
        }
        match part {
            0 => Request::Put(self.put(random)),
            1 => Request::Range(self.range(random, seen)),
            2 => Request::Delete(self.delete(random)),
            3 => Request::Txn(self.txn(random, seen, 0)),
            4 => self.lease(random),
            5 => Request::Compact {
                revision: seen.heard - random.between(0, 10) as i64,
                is_physical: random.chance(300),
            },
            _ => self.mistake(random, seen),
        }
    }

    fn key(&self, random: &mut Random) -> Vec<u8> {
        format!("key-{:03}", random.slot(self.keys)).into_bytes()
    }

    /// A key and a range end: often one key, sometimes a range, sometimes all.
    fn keys(&self, random: &mut Random) -> (Vec<u8>, Vec<u8>) {
        match random.between(0, 10) {
            0 => (vec![0], vec![0]),
            1..4 => {
                let (one, other) = (self.key(random), self.key(random));
                if one < other { (one, other) } else { (other, one) }
            }
            _ => (self.key(random), Vec::new()),
        }
    }

    fn put(&mut self, random: &mut Random) -> Put {
        self.drawn += 1;
        let mut value = format!("{}-{}", self.client, self.drawn).into_bytes();
        let size = random.slot(self.value_size_bytes_max);
        if value.len() < size {
            value.resize(size, b'.');
        }
        let lease = match self.leases.is_empty() || random.chance(700) {
            true => 0,
            false => *random.pick(&self.leases),
        };
        let wants_previous = random.chance(300);
        Put { key: self.key(random), value, lease, wants_previous, ..Put::default() }
    }

    fn range(&self, random: &mut Random, seen: Seen) -> Range {
        let (key, range_end) = self.keys(random);
        let revision = match random.chance(200) {
            true => seen.revision - random.between(0, 40) as i64,
            false => 0,
        };
        Range {
            key,
            range_end,
            revision: revision.max(0),
            limit: if random.chance(200) { random.between(1, 5) as i64 } else { 0 },
            is_serializable: random.chance(150),
            is_keys_only: random.chance(100),
            is_count_only: random.chance(100),
            is_descending: random.chance(100),
            min_mod_revision: if random.chance(50) { seen.revision } else { 0 },
            max_create_revision: if random.chance(50) { seen.revision } else { 0 },
        }
    }

    fn delete(&self, random: &mut Random) -> Delete {
        let (key, range_end) = self.keys(random);
        Delete { key, range_end, wants_previous: random.chance(300) }
    }

    fn txn(&mut self, random: &mut Random, seen: Seen, depth: u64) -> Txn {
        let compare = (0..random.slot(3)).map(|_| self.compare(random, seen)).collect();
        let success = self.branch(random, seen, depth);
        let failure = self.branch(random, seen, depth);
        Txn { compare, success, failure }
    }

    /// Operations whose keys do not meet: what is put is not touched again.
    fn branch(&mut self, random: &mut Random, seen: Seen, depth: u64) -> Vec<Op> {
        let mut ops = Vec::new();
        let mut put_keys = Vec::new();
        for _ in 0..random.slot(5) {
            match random.between(0, 10) {
                0..5 => {
                    let put = self.put(random);
                    if !put_keys.contains(&put.key) {
                        put_keys.push(put.key.clone());
                        ops.push(Op::Put(put));
                    }
                }
                5..8 => ops.push(Op::Range(Range {
                    revision: 0,
                    is_serializable: false,
                    ..self.range(random, seen)
                })),
                8 if depth == 0 && put_keys.is_empty() => {
                    ops.push(Op::Txn(self.txn(random, seen, 1)));
                    return ops;
                }
                _ => {
                    let key = self.key(random);
                    if put_keys.is_empty() {
                        ops.push(Op::Delete(Delete { key, ..Delete::default() }));
                        return ops;
                    }
                }
            }
        }
        ops
    }

    fn compare(&self, random: &mut Random, seen: Seen) -> Compare {
        let number = random.between(0, 4) as i64;
        let recent = seen.revision - number;
        let value = match random.between(0, 5) {
            0 => Value::Version(number),
            1 => Value::Create(if random.chance(500) { 0 } else { recent }),
            2 => Value::Mod(recent),
            3 => Value::Lease(self.leases.first().copied().unwrap_or_default()),
            _ => Value::Bytes(b"5".to_vec()),
        };
        let relation =
            *random.pick(&[Relation::Equal, Relation::NotEqual, Relation::Less, Relation::Greater]);
        Compare { key: self.key(random), range_end: Vec::new(), relation, value }
    }

    fn lease(&mut self, random: &mut Random) -> Request {
        if self.leases.is_empty() || (self.leases.len() < LEASES_MAX && random.chance(200)) {
            let id = self.client as i64 * 1_000_000 + self.drawn as i64 + 1;
            self.leases.push(id);
            return Request::LeaseGrant { id, ttl_s: random.between(1, 6) as i64 };
        }
        let slot = random.slot(self.leases.len());
        let id = self.leases[slot];
        match random.between(0, 10) {
            0 => {
                self.leases.swap_remove(slot);
                Request::LeaseRevoke { id }
            }
            1 => {
                // Left alone, it has to run out by itself.
                self.leases.swap_remove(slot);
                Request::LeaseTimeToLive { id }
            }
            2 => Request::LeaseGrant { id, ttl_s: 3 },
            3 => Request::LeaseTimeToLive { id },
            _ => Request::LeaseKeepAlive { id },
        }
    }

    /// What has to be refused, or done to nothing.
    fn mistake(&mut self, random: &mut Random, seen: Seen) -> Request {
        match random.between(0, 7) {
            0 => Request::Put(Put { key: Vec::new(), ..self.put(random) }),
            1 => Request::Put(Put { ignores_value: true, ..self.put(random) }),
            2 => {
                let missing = b"missing".to_vec();
                let value = Vec::new();
                Request::Put(Put { key: missing, value, ignores_value: true, ..Put::default() })
            }
            3 => Request::Range(Range {
                revision: seen.revision + 1_000_000_000,
                ..Range::key(&self.key(random))
            }),
            4 => {
                let (one, mut other) = (self.put(random), self.put(random));
                other.key.clone_from(&one.key);
                let success = vec![Op::Put(one), Op::Put(other)];
                Request::Txn(Txn { success, ..Txn::default() })
            }
            5 => Request::LeaseRevoke { id: i64::MAX - self.drawn as i64 },
            _ => Request::Put(Put { lease: i64::MAX - self.drawn as i64, ..self.put(random) }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::store::check;
    use std::collections::BTreeSet;

    #[test]
    fn only_mistakes_are_refused_by_their_form_and_values_are_never_repeated() {
        let shares =
            Shares { put: 5, read: 5, delete: 5, txn: 9, lease: 5, compact: 1, mistake: 0 };
        let mut workload = Workload::new(3, 8, 100, shares);
        let mut random = Random::new(1);
        let mut values = BTreeSet::new();
        for _ in 0..2_000 {
            let request = workload.draw(&mut random, Seen { revision: 50, heard: 40 });
            assert_eq!(check(&request), Ok(()), "{request:?}");
            if let Request::Put(put) = request {
                assert!(values.insert(put.value));
            }
        }
    }
}
