//! What a writer asked for, and what a revision may show of it: all of it or nothing.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hasher};

use corestone_client::{DeleteRangeRequest, KeyValue, PutRequest, RequestOp, TxnRequest};

use crate::random::Random;

/// A value, by size and hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ValueDigest {
    size_bytes: usize,
    hash: u64,
}

impl ValueDigest {
    pub fn of(value: &[u8]) -> ValueDigest {
        let mut hasher = DefaultHasher::new();
        hasher.write(value);
        ValueDigest { size_bytes: value.len(), hash: hasher.finish() }
    }
}

/// A key as a read or an event shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyState {
    pub value: ValueDigest,
    pub create_revision: i64,
    pub mod_revision: i64,
    pub version: i64,
    pub lease: i64,
}

impl KeyState {
    pub fn of(kv: &KeyValue<'_>) -> KeyState {
        KeyState {
            value: ValueDigest::of(kv.value),
            create_revision: kv.create_revision,
            mod_revision: kv.mod_revision,
            version: kv.version,
            lease: kv.lease,
        }
    }
}

/// Every key there is.
pub type State = BTreeMap<Vec<u8>, KeyState>;

/// What a revision did to each key: the value and lease it was given, or `None`: deleted.
pub type Effect = BTreeMap<Vec<u8>, Option<(ValueDigest, i64)>>;

/// One change that was asked for.
#[derive(Clone, Debug)]
pub enum Change {
    Put { key: Vec<u8>, value: Vec<u8>, lease: i64 },
    Delete { key: Vec<u8> },
}

/// One request that changes keys.
#[derive(Clone, Debug)]
pub enum Operation {
    /// One change is a plain request, several are a transaction.
    Changes(Vec<Change>),
    Revoke {
        lease: i64,
    },
}

/// How large values are in a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weight {
    Light,
    /// Half of the values are large: the log fills checkpoint intervals.
    Heavy,
}

impl Operation {
    /// A random request that changes keys of a small key space.
    pub fn random(random: &mut Random, weight: Weight, leases: &[i64]) -> Operation {
        let key = |random: &mut Random| format!("k/{:03}", random.below(KEYS)).into_bytes();
        let changes = if random.percent(20) { 2 + random.below(4) } else { 1 };
        let first = key(random);
        let mut keys = vec![first];
        while (keys.len() as u64) < changes {
            let next = key(random);
            // A key stands once in a transaction.
            if !keys.contains(&next) {
                keys.push(next);
            }
        }
        let change = |key| {
            if random.percent(15) {
                return Change::Delete { key };
            }
            let lease = match leases {
                [] => 0,
                leases if random.percent(15) => leases[random.below(leases.len() as u64) as usize],
                _ => 0,
            };
            Change::Put { key, value: value(random, weight), lease }
        };
        Operation::Changes(keys.into_iter().map(change).collect())
    }

    /// What the operation does to `state`, all of it.
    pub fn effect(&self, state: &State) -> Effect {
        match self {
            Operation::Changes(changes) => changes
                .iter()
                .filter_map(|change| match change {
                    Change::Put { key, value, lease } => {
                        Some((key.clone(), Some((ValueDigest::of(value), *lease))))
                    }
                    Change::Delete { key } => state.contains_key(key).then(|| (key.clone(), None)),
                })
                .collect(),
            Operation::Revoke { lease } => state
                .iter()
                .filter(|(_, key)| key.lease == *lease)
                .map(|(key, _)| (key.clone(), None))
                .collect(),
        }
    }
}

/// The transaction that makes these changes.
pub fn transaction(changes: &[Change]) -> TxnRequest<'_> {
    let success = changes
        .iter()
        .map(|change| match change {
            Change::Put { key, value, lease } => {
                RequestOp::Put(PutRequest { key, value, lease: *lease, ..PutRequest::default() })
            }
            Change::Delete { key } => {
                RequestOp::DeleteRange(DeleteRangeRequest { key, ..Default::default() })
            }
        })
        .collect();
    TxnRequest { success, ..TxnRequest::default() }
}

/// From nothing to what takes many overflow pages.
fn value(random: &mut Random, weight: Weight) -> Vec<u8> {
    let size_max = match random.below(100) {
        _ if weight == Weight::Heavy && random.percent(50) => VALUE_BYTES_MAX,
        0..10 => 0,
        10..50 => 100,
        50..80 => 4_000,
        80..97 => 20_000,
        _ => VALUE_BYTES_MAX,
    };
    let size_bytes = random.below(size_max + 1) as usize;
    let mut bytes = Vec::with_capacity(size_bytes + 8);
    while bytes.len() < size_bytes {
        bytes.extend_from_slice(&random.next().to_le_bytes());
    }
    bytes.truncate(size_bytes);
    bytes
}

const KEYS: u64 = 150;
const VALUE_BYTES_MAX: u64 = 200_000;
