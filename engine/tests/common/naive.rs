//! The store as its meaning: every state of every revision kept whole, every event in a list.

use engine::api::*;
use std::collections::BTreeMap;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kv {
    pub value: Vec<u8>,
    pub create: i64,
    pub modified: i64,
    pub version: i64,
    pub lease: i64,
}

pub type State = BTreeMap<Vec<u8>, Kv>;

#[derive(Clone, Debug)]
pub struct NaiveEvent {
    pub main: i64,
    pub sub: i64,
    pub key: Vec<u8>,
    /// `None` is a deletion.
    pub kv: Option<Kv>,
}

pub struct Naive {
    pub revision: i64,
    pub compacted: i64,
    /// State at each revision.
    pub states: Vec<State>,
    pub events: Vec<NaiveEvent>,
    pub leases: BTreeMap<i64, i64>,
    pub alarms: Vec<(u64, AlarmType)>,
}

/// The entry under way.
struct Work {
    state: State,
    events: Vec<NaiveEvent>,
}

pub fn as_kv<'a>(key: &'a [u8], kv: &'a Kv) -> KeyValue<'a> {
    KeyValue {
        key,
        value: &kv.value,
        create_revision: kv.create,
        mod_revision: kv.modified,
        version: kv.version,
        lease: kv.lease,
    }
}

impl Naive {
    pub fn new() -> Naive {
        Naive {
            revision: 1,
            compacted: -1,
            states: vec![State::new(); 2],
            events: Vec::new(),
            leases: BTreeMap::new(),
            alarms: Vec::new(),
        }
    }

    pub fn state(&self) -> &State {
        &self.states[self.revision as usize]
    }

    pub fn apply(&mut self, command: &Command<'_>) -> Response {
        let mut work = Work { state: self.state().clone(), events: Vec::new() };
        let response = self.run(command, &mut work);
        let (revision, response) = match response {
            Ok(response) => (self.revision + i64::from(!work.events.is_empty()), response),
            Err(reject) => {
                assert!(work.events.is_empty());
                (self.revision, Response::Rejected { revision: self.revision, reject })
            }
        };
        if self.revision < revision {
            self.revision = revision;
            self.states.push(work.state);
            self.events.append(&mut work.events);
        }
        response
    }

    fn run(&mut self, command: &Command<'_>, work: &mut Work) -> Result<Response, Reject> {
        let no_space = self.alarms.iter().any(|(_, alarm)| *alarm == AlarmType::NoSpace);
        let refuse = |takes_space: bool| {
            if no_space && takes_space { Err(Reject::NoSpace) } else { Ok(()) }
        };
        Ok(match command {
            Command::Put(put) => {
                refuse(true)?;
                self.check_put(put)?;
                Response::Put(self.put(put, work))
            }
            Command::DeleteRange(delete) => Response::DeleteRange(self.delete(delete, work)),
            Command::Txn(txn) => {
                refuse(holds_put(txn))?;
                let path = self.guards(txn);
                self.check_ops(&path)?;
                let mut response = self.txn(&path, work);
                response.revision = self.revision_of(work);
                Response::Txn(response)
            }
            Command::Compact { revision } => {
                if *revision <= self.compacted {
                    return Err(Reject::Compacted);
                }
                if self.revision < *revision {
                    return Err(Reject::FutureRevision);
                }
                self.compacted = *revision;
                Response::Compact { revision: self.revision }
            }
            Command::LeaseGrant { id, ttl_s } => {
                refuse(true)?;
                if self.leases.contains_key(id) {
                    return Err(Reject::LeaseExists);
                }
                self.leases.insert(*id, *ttl_s);
                Response::LeaseGrant { revision: self.revision, id: *id, ttl_s: *ttl_s }
            }
            Command::LeaseRevoke { id, .. } => {
                self.leases.remove(id).ok_or(Reject::LeaseNotFound)?;
                let keys: Vec<_> = work.state.iter().filter(|(_, kv)| kv.lease == *id).collect();
                let keys: Vec<_> = keys.into_iter().map(|(key, _)| key.clone()).collect();
                for key in keys {
                    self.remove(&key, work);
                }
                Response::LeaseRevoke { revision: self.revision_of(work) }
            }
            Command::Alarm { action, member_id, alarm } => {
                let raised = (*member_id, *alarm);
                let known = self.alarms.contains(&raised);
                self.alarms.retain(|alarm| *alarm != raised);
                let touched = match action {
                    AlarmAction::Activate => {
                        self.alarms.push(raised);
                        true
                    }
                    AlarmAction::Deactivate => known,
                };
                Response::Alarm { revision: self.revision, touched: touched.then_some(raised) }
            }
            _ => Response::Done { revision: self.revision },
        })
    }

    fn revision_of(&self, work: &Work) -> i64 {
        self.revision + i64::from(!work.events.is_empty())
    }

    fn check_put(&self, put: &PutRequest<'_>) -> Result<(), Reject> {
        if put.lease != 0 && !self.leases.contains_key(&put.lease) {
            return Err(Reject::LeaseNotFound);
        }
        if (put.ignore_value || put.ignore_lease) && !self.state().contains_key(put.key) {
            return Err(Reject::KeyNotFound);
        }
        Ok(())
    }

    fn put(&self, put: &PutRequest<'_>, work: &mut Work) -> PutResponse {
        let main = self.revision + 1;
        let old = work.state.get(put.key).cloned();
        let mut prev_kv = KvList::default();
        if let Some(old) = old.as_ref().filter(|_| put.prev_kv) {
            prev_kv.push(as_kv(put.key, old));
        }
        let kept = |ignore: bool| old.as_ref().filter(|_| ignore);
        let kv = Kv {
            value: kept(put.ignore_value).map_or(put.value.to_vec(), |old| old.value.clone()),
            lease: kept(put.ignore_lease).map_or(put.lease, |old| old.lease),
            create: old.as_ref().map_or(main, |old| old.create),
            version: old.as_ref().map_or(1, |old| old.version + 1),
            modified: main,
        };
        let sub = work.events.len() as i64;
        work.events.push(NaiveEvent { main, sub, key: put.key.to_vec(), kv: Some(kv.clone()) });
        work.state.insert(put.key.to_vec(), kv);
        PutResponse { revision: main, prev_kv }
    }

    fn remove(&self, key: &[u8], work: &mut Work) {
        let (main, sub) = (self.revision + 1, work.events.len() as i64);
        work.events.push(NaiveEvent { main, sub, key: key.to_vec(), kv: None });
        work.state.remove(key).unwrap();
    }

    fn delete(&self, delete: &DeleteRangeRequest<'_>, work: &mut Work) -> DeleteRangeResponse {
        let keys: Vec<Vec<u8>> = work
            .state
            .keys()
            .filter(|key| range_contains(delete.key, delete.range_end, key))
            .cloned()
            .collect();
        let mut prev_kvs = KvList::default();
        for key in &keys {
            if delete.prev_kv {
                prev_kvs.push(as_kv(key, &work.state[key]));
            }
            self.remove(key, work);
        }
        let deleted = keys.len() as i64;
        DeleteRangeResponse { revision: self.revision_of(work), deleted, prev_kvs }
    }

    /// The chosen branches, as a transaction without guards whose success they are.
    fn guards<'a>(&self, txn: &TxnRequest<'a>) -> (bool, Vec<Chosen<'a>>) {
        let succeeded = txn.compare.iter().all(|compare| self.holds(compare));
        let branch = if succeeded { &txn.success } else { &txn.failure };
        let ops = branch.iter().map(|op| match op {
            RequestOp::Txn(nested) => Chosen::Txn(self.guards(nested)),
            other => Chosen::Op(other.clone()),
        });
        (succeeded, ops.collect())
    }

    fn holds(&self, compare: &Compare<'_>) -> bool {
        let state = self.state();
        let mut keys =
            state.iter().filter(|(key, _)| range_contains(compare.key, compare.range_end, key));
        let absent = Kv { value: vec![], create: 0, modified: 0, version: 0, lease: 0 };
        let relation = |kv: &Kv| {
            let ordering = match (compare.target, compare.operand) {
                (CompareTarget::Value, Operand::Value(value)) => kv.value.as_slice().cmp(value),
                (CompareTarget::Value, _) => kv.value.as_slice().cmp(&[]),
                (CompareTarget::Version, Operand::Version(number)) => kv.version.cmp(&number),
                (CompareTarget::Create, Operand::CreateRevision(number)) => kv.create.cmp(&number),
                (CompareTarget::Mod, Operand::ModRevision(number)) => kv.modified.cmp(&number),
                (CompareTarget::Lease, Operand::Lease(number)) => kv.lease.cmp(&number),
                (CompareTarget::Version, _) => kv.version.cmp(&0),
                (CompareTarget::Create, _) => kv.create.cmp(&0),
                (CompareTarget::Mod, _) => kv.modified.cmp(&0),
                (CompareTarget::Lease, _) => kv.lease.cmp(&0),
                (CompareTarget::Unknown, _) => std::cmp::Ordering::Equal,
            };
            match compare.result {
                CompareResult::Equal => ordering.is_eq(),
                CompareResult::NotEqual => ordering.is_ne(),
                CompareResult::Less => ordering.is_lt(),
                CompareResult::Greater => ordering.is_gt(),
                CompareResult::Unknown => true,
            }
        };
        if keys.clone().next().is_none() {
            return compare.target != CompareTarget::Value && relation(&absent);
        }
        keys.all(|(_, kv)| relation(kv))
    }

    fn check_ops(&self, (_, ops): &(bool, Vec<Chosen<'_>>)) -> Result<(), Reject> {
        for op in ops {
            match op {
                Chosen::Txn(nested) => self.check_ops(nested)?,
                Chosen::Op(RequestOp::Put(put)) => self.check_put(put)?,
                Chosen::Op(RequestOp::Range(range)) => self.check_revision(range.revision)?,
                Chosen::Op(_) => {}
            }
        }
        Ok(())
    }

    pub fn check_revision(&self, revision: i64) -> Result<(), Reject> {
        if 0 < revision && self.revision < revision {
            return Err(Reject::FutureRevision);
        }
        if 0 < revision && revision < self.compacted {
            return Err(Reject::Compacted);
        }
        Ok(())
    }

    fn txn(&self, (succeeded, ops): &(bool, Vec<Chosen<'_>>), work: &mut Work) -> TxnResponse {
        let mut responses = Vec::new();
        for op in ops {
            responses.push(match op {
                Chosen::Txn(nested) => ResponseOp::Txn(self.txn(nested, work)),
                Chosen::Op(RequestOp::Put(put)) => ResponseOp::Put(self.put(put, work)),
                Chosen::Op(RequestOp::DeleteRange(delete)) => {
                    ResponseOp::DeleteRange(self.delete(delete, work))
                }
                Chosen::Op(RequestOp::Range(request)) => {
                    let state = match request.revision {
                        ..=0 => &work.state,
                        revision => &self.states[revision as usize],
                    };
                    let revision = self.revision_of(work);
                    ResponseOp::Range(RangeResponse { revision, ..range(state, request) })
                }
                Chosen::Op(RequestOp::Txn(_)) => unreachable!(),
            });
        }
        TxnResponse { revision: 0, succeeded: *succeeded, responses }
    }

    /// What a range says now.
    pub fn range(&self, request: &RangeRequest<'_>) -> Result<RangeResponse, Reject> {
        self.check_revision(request.revision)?;
        let at = if 0 < request.revision { request.revision } else { self.revision };
        Ok(RangeResponse { revision: self.revision, ..range(&self.states[at as usize], request) })
    }

    /// The state of a key before the revision of an event.
    pub fn before(&self, event: &NaiveEvent) -> Option<&Kv> {
        self.states[event.main as usize - 1].get(&event.key)
    }

    /// HashKV by its definition.
    pub fn hash(&self, revision: i64) -> u32 {
        let live = |at: i64, event: &NaiveEvent| {
            let last = self.events.iter().rfind(|e| e.key == event.key && e.main <= at);
            event.kv.is_some() && last.is_some_and(|e| (e.main, e.sub) == (event.main, event.sub))
        };
        let kept_at = match self.states[revision as usize].is_empty() {
            true => self.compacted,
            false => revision,
        };
        let mut bytes = b"key".to_vec();
        for event in self.events.iter().filter(|event| event.main <= revision) {
            if event.main <= self.compacted && !live(kept_at, event) {
                continue;
            }
            bytes.extend_from_slice(&event.main.to_be_bytes());
            bytes.push(b'_');
            bytes.extend_from_slice(&event.sub.to_be_bytes());
            match &event.kv {
                None => {
                    bytes.push(b't');
                    field(0x0a, &event.key, &mut bytes);
                }
                Some(kv) => {
                    field(0x0a, &event.key, &mut bytes);
                    for (tag, value) in [(0x10, kv.create), (0x18, kv.modified), (0x20, kv.version)]
                    {
                        bytes.push(tag);
                        varint(value as u64, &mut bytes);
                    }
                    field(0x2a, &kv.value, &mut bytes);
                    if kv.lease != 0 {
                        bytes.push(0x30);
                        varint(kv.lease as u64, &mut bytes);
                    }
                }
            }
        }
        crc32c::crc32c(&bytes)
    }
}

enum Chosen<'a> {
    Op(RequestOp<'a>),
    Txn((bool, Vec<Chosen<'a>>)),
}

fn field(tag: u8, value: &[u8], out: &mut Vec<u8>) {
    if !value.is_empty() {
        out.push(tag);
        varint(value.len() as u64, out);
        out.extend_from_slice(value);
    }
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    loop {
        let low = (value & 0x7f) as u8;
        value >>= 7;
        if value == 0 {
            return out.push(low);
        }
        out.push(low | 0x80);
    }
}

fn holds_put(txn: &TxnRequest<'_>) -> bool {
    txn.success.iter().chain(&txn.failure).any(|op| match op {
        RequestOp::Put(_) => true,
        RequestOp::Txn(nested) => holds_put(nested),
        _ => false,
    })
}

/// A range over one state, by its definition.
fn range(state: &State, request: &RangeRequest<'_>) -> RangeResponse {
    let within =
        |value: i64, min: i64, max: i64| (min == 0 || min <= value) && (max == 0 || value <= max);
    let all: Vec<_> = state
        .iter()
        .filter(|(key, _)| range_contains(request.key, request.range_end, key))
        .collect();
    let count = all.len() as i64;
    if request.count_only {
        return RangeResponse { count, ..RangeResponse::default() };
    }
    let mut rows: Vec<_> = all
        .into_iter()
        .filter(|(_, kv)| {
            within(kv.modified, request.min_mod_revision, request.max_mod_revision)
                && within(kv.create, request.min_create_revision, request.max_create_revision)
        })
        .collect();
    if request.sort_order != SortOrder::None || request.sort_target != SortTarget::Key {
        rows.sort_by(|(a_key, a), (b_key, b)| {
            let ordering = match request.sort_target {
                SortTarget::Key => a_key.cmp(b_key),
                SortTarget::Version => a.version.cmp(&b.version),
                SortTarget::Create => a.create.cmp(&b.create),
                SortTarget::Mod => a.modified.cmp(&b.modified),
                SortTarget::Value => a.value.cmp(&b.value),
            };
            if request.sort_order == SortOrder::Descend { ordering.reverse() } else { ordering }
        });
    }
    let limit = if request.range_end.is_empty() { 0 } else { request.limit.max(0) as usize };
    let more = limit != 0 && limit < rows.len();
    if more {
        rows.truncate(limit);
    }
    let mut kvs = KvList::default();
    for (key, kv) in rows {
        let value: &[u8] = if request.keys_only { &[] } else { &kv.value };
        kvs.push(KeyValue { value, ..as_kv(key, kv) });
    }
    RangeResponse { revision: 0, kvs, more, count }
}
