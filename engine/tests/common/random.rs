//! Random commands and reads over a few keys, so that everything meets everything.

use super::Random;
use super::naive::Naive;
use engine::api::*;

/// What commands borrow from.
pub struct Pool {
    pub keys: Vec<Vec<u8>>,
    pub ends: Vec<Vec<u8>>,
    pub values: Vec<Vec<u8>>,
}

impl Pool {
    pub fn new() -> Pool {
        let mut keys: Vec<Vec<u8>> = (b'a'..b'j').map(|letter| vec![letter]).collect();
        // One that history still holds whole, and long ones that differ in their last byte only.
        keys.push(vec![b'e'; 512]);
        keys.push(vec![b'e'; 700]);
        keys.push([vec![b'e'; 699], vec![b'f']].concat());
        let ends = vec![vec![], vec![0], b"d".to_vec(), b"ez".to_vec(), b"zz".to_vec()];
        let sizes = [0, 1, 5, 30, 30, 640, 641, 5000, 20_000];
        let values = sizes.iter().enumerate().map(|(slot, size)| vec![slot as u8; *size]).collect();
        Pool { keys, ends, values }
    }

    fn key(&self, random: &mut Random) -> &[u8] {
        random.pick(&self.keys).as_slice()
    }

    fn end(&self, random: &mut Random) -> &[u8] {
        random.pick(&self.ends).as_slice()
    }

    fn value(&self, random: &mut Random) -> &[u8] {
        random.pick(&self.values).as_slice()
    }

    pub fn range<'a>(&'a self, random: &mut Random, naive: &Naive) -> RangeRequest<'a> {
        let lowest = naive.compacted.max(0) as u64;
        let spread = naive.revision as u64 - lowest + 2;
        let mut near = |percent: u64| match random.chance(percent) {
            true => (lowest + random.below(spread)) as i64,
            false => 0,
        };
        let (revision, min, max) = (near(40), near(10), near(10));
        let (min_create_revision, max_create_revision) = (near(10), near(10));
        let orders = [SortOrder::None, SortOrder::Ascend, SortOrder::Descend];
        let targets = [
            SortTarget::Key,
            SortTarget::Key,
            SortTarget::Version,
            SortTarget::Create,
            SortTarget::Mod,
            SortTarget::Value,
        ];
        RangeRequest {
            key: self.key(random),
            range_end: self.end(random),
            limit: if random.chance(50) { random.below(6) as i64 - 1 } else { 0 },
            revision,
            sort_order: *random.pick(&orders),
            sort_target: *random.pick(&targets),
            serializable: random.chance(50),
            keys_only: random.chance(20),
            count_only: random.chance(15),
            min_mod_revision: min,
            max_mod_revision: max,
            min_create_revision,
            max_create_revision,
        }
    }

    pub fn command<'a>(&'a self, random: &mut Random, naive: &Naive) -> Command<'a> {
        match random.below(100) {
            0..40 => Command::Put(self.put(random, naive)),
            40..52 => Command::DeleteRange(self.delete(random)),
            52..76 => Command::Txn(self.txn(random, naive, 1, &mut Written::default())),
            76..81 => {
                let lowest = naive.compacted.max(-1);
                let spread = (naive.revision - lowest) as u64 + 2;
                Command::Compact { revision: lowest + random.below(spread) as i64 }
            }
            81..88 => Command::LeaseGrant { id: self.lease(random), ttl_s: 60 },
            88..92 => Command::LeaseRevoke { id: self.lease(random), cause: RevokeCause::Expired },
            92..94 => Command::Alarm {
                action: *random.pick(&[AlarmAction::Activate, AlarmAction::Deactivate]),
                member_id: 1 + random.below(2),
                alarm: AlarmType::NoSpace,
            },
            94..97 => Command::Alarm {
                action: AlarmAction::Deactivate,
                member_id: 1 + random.below(2),
                alarm: AlarmType::NoSpace,
            },
            _ => Command::Checkpoint,
        }
    }

    fn lease(&self, random: &mut Random) -> i64 {
        *random.pick(&[-7, 1, 2, 3, i64::MAX])
    }

    fn put<'a>(&'a self, random: &mut Random, naive: &Naive) -> PutRequest<'a> {
        let ignore_value = random.chance(10);
        let ignore_lease = random.chance(15);
        let leases: Vec<i64> = naive.leases.keys().copied().collect();
        let lease = match random.below(10) {
            _ if ignore_lease => 0,
            0..3 if !leases.is_empty() => *random.pick(&leases),
            3 => self.lease(random),
            _ => 0,
        };
        PutRequest {
            key: self.key(random),
            value: if ignore_value { &[] } else { self.value(random) },
            lease,
            prev_kv: random.chance(50),
            ignore_value,
            ignore_lease,
        }
    }

    fn delete<'a>(&'a self, random: &mut Random) -> DeleteRangeRequest<'a> {
        let range_end: &[u8] = if random.chance(75) { &[] } else { self.end(random) };
        DeleteRangeRequest { key: self.key(random), range_end, prev_kv: random.chance(50) }
    }

    fn compare<'a>(&'a self, random: &mut Random, naive: &Naive) -> Compare<'a> {
        let results = [
            CompareResult::Equal,
            CompareResult::Greater,
            CompareResult::Less,
            CompareResult::NotEqual,
            CompareResult::Unknown,
        ];
        let number = match random.below(4) {
            0 => 0,
            1 => random.below(4) as i64,
            _ => random.below(naive.revision as u64 + 1) as i64,
        };
        let value: &[u8] = self.value(random);
        let (target, operand) = *random.pick(&[
            (CompareTarget::Version, Operand::Version(number)),
            (CompareTarget::Create, Operand::CreateRevision(number)),
            (CompareTarget::Mod, Operand::ModRevision(number)),
            (CompareTarget::Lease, Operand::Lease(number)),
            (CompareTarget::Value, Operand::Value(value)),
            (CompareTarget::Value, Operand::Missing),
            (CompareTarget::Mod, Operand::Version(number)),
            (CompareTarget::Unknown, Operand::Missing),
        ]);
        let range_end: &[u8] = if random.chance(80) { &[] } else { self.end(random) };
        let key = self.key(random);
        Compare { result: *random.pick(&results), target, key, range_end, operand }
    }

    /// A transaction that etcd's static checks would pass: no key is put twice on a path, or after
    /// a deletion that covers it.
    fn txn<'a>(
        &'a self,
        random: &mut Random,
        naive: &Naive,
        depth: u32,
        written: &mut Written<'a>,
    ) -> TxnRequest<'a> {
        let compare = (0..random.below(3)).map(|_| self.compare(random, naive)).collect();
        let branch = |random: &mut Random, written: &mut Written<'a>| {
            let mut ops = Vec::new();
            for _ in 0..random.below(5) {
                match random.below(10) {
                    0..4 => {
                        let put = self.put(random, naive);
                        if !written.touches(put.key) {
                            written.puts.push(put.key);
                            ops.push(RequestOp::Put(put));
                        }
                    }
                    4..6 => {
                        let delete = self.delete(random);
                        written.deletes.push((delete.key, delete.range_end));
                        ops.push(RequestOp::DeleteRange(delete));
                    }
                    6..8 if depth < 3 => {
                        ops.push(RequestOp::Txn(self.txn(random, naive, depth + 1, written)));
                    }
                    _ => ops.push(RequestOp::Range(self.range(random, naive))),
                }
            }
            ops
        };
        let mut other = written.clone();
        let success = branch(random, written);
        let failure = branch(random, &mut other);
        written.puts.append(&mut other.puts);
        written.deletes.append(&mut other.deletes);
        TxnRequest { compare, success, failure }
    }
}

#[derive(Clone, Default)]
struct Written<'a> {
    puts: Vec<&'a [u8]>,
    deletes: Vec<(&'a [u8], &'a [u8])>,
}

impl Written<'_> {
    fn touches(&self, key: &[u8]) -> bool {
        self.puts.contains(&key)
            || self.deletes.iter().any(|(start, end)| range_contains(start, end, key))
    }
}
