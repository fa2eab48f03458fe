//! Requests and answers of every kind from a seed, for the tests beside.

use super::cluster::{ClusterMember, ClusterRequest};
use super::reply::{LeaseTimeToLive, MemberStatus};
use super::request::Request;
use super::watch::{WatchCreateRequest, WatchFilter};
use engine::api::{
    Compare, CompareResult, CompareTarget, DeleteRangeRequest, DeleteRangeResponse, Event,
    EventList, EventType, KeyValue, KvList, Operand, PutRequest, PutResponse, RangeRequest,
    RangeResponse, RequestOp, ResponseOp, SortOrder, SortTarget, TxnRequest, TxnResponse,
};

/// Every key and value is a piece of this.
static BYTES: [u8; 4096] = {
    let mut bytes = [0; 4096];
    let mut slot = 0;
    while slot < bytes.len() {
        bytes[slot] = ((slot * 131) >> 3) as u8;
        slot += 1;
    }
    bytes
};

/// A stream of numbers that depends on the seed alone (splitmix64).
pub(super) struct Sample(pub(super) u64);

impl Sample {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(super) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn switch(&mut self) -> bool {
        self.below(2) == 1
    }

    /// Mostly small, sometimes anything.
    fn number(&mut self) -> i64 {
        match self.below(4) {
            0 => 0,
            1 => self.next() as i64,
            _ => self.below(1000) as i64,
        }
    }

    fn bytes(&mut self) -> &'static [u8] {
        let size_max = if self.below(8) == 0 { 2000 } else { 40 };
        let size = self.below(size_max);
        let start = self.below(BYTES.len() - size);
        &BYTES[start..start + size]
    }

    fn range(&mut self) -> RangeRequest<'static> {
        let orders = [SortOrder::None, SortOrder::Ascend, SortOrder::Descend];
        let targets = [
            SortTarget::Key,
            SortTarget::Version,
            SortTarget::Create,
            SortTarget::Mod,
            SortTarget::Value,
        ];
        RangeRequest {
            key: self.bytes(),
            range_end: self.bytes(),
            limit: self.number(),
            revision: self.number(),
            sort_order: orders[self.below(3)],
            sort_target: targets[self.below(5)],
            serializable: self.switch(),
            keys_only: self.switch(),
            count_only: self.switch(),
            min_mod_revision: self.number(),
            max_mod_revision: self.number(),
            min_create_revision: self.number(),
            max_create_revision: self.number(),
        }
    }

    pub(super) fn put(&mut self) -> PutRequest<'static> {
        PutRequest {
            key: self.bytes(),
            value: self.bytes(),
            lease: self.number(),
            prev_kv: self.switch(),
            ignore_value: self.switch(),
            ignore_lease: self.switch(),
        }
    }

    fn delete_range(&mut self) -> DeleteRangeRequest<'static> {
        DeleteRangeRequest { key: self.bytes(), range_end: self.bytes(), prev_kv: self.switch() }
    }

    fn compare(&mut self) -> Compare<'static> {
        let results = [
            CompareResult::Equal,
            CompareResult::Greater,
            CompareResult::Less,
            CompareResult::NotEqual,
            CompareResult::Unknown,
        ];
        let targets = [
            CompareTarget::Version,
            CompareTarget::Create,
            CompareTarget::Mod,
            CompareTarget::Value,
            CompareTarget::Lease,
            CompareTarget::Unknown,
        ];
        let operand = match self.below(6) {
            0 => Operand::Missing,
            1 => Operand::Version(self.number()),
            2 => Operand::CreateRevision(self.number()),
            3 => Operand::ModRevision(self.number()),
            4 => Operand::Value(self.bytes()),
            _ => Operand::Lease(self.number()),
        };
        Compare {
            result: results[self.below(5)],
            target: targets[self.below(6)],
            key: self.bytes(),
            range_end: self.bytes(),
            operand,
        }
    }

    fn ops(&mut self, depth: usize) -> Vec<RequestOp<'static>> {
        (0..self.below(4))
            .map(|_| match self.below(if depth < 3 { 4 } else { 3 }) {
                0 => RequestOp::Range(self.range()),
                1 => RequestOp::Put(self.put()),
                2 => RequestOp::DeleteRange(self.delete_range()),
                _ => RequestOp::Txn(self.txn(depth + 1)),
            })
            .collect()
    }

    fn txn(&mut self, depth: usize) -> TxnRequest<'static> {
        TxnRequest {
            compare: (0..self.below(4)).map(|_| self.compare()).collect(),
            success: self.ops(depth),
            failure: self.ops(depth),
        }
    }

    pub(super) fn request(&mut self) -> Request<'static> {
        let filters =
            [WatchFilter::All, WatchFilter::NoPut, WatchFilter::NoDelete, WatchFilter::Nothing];
        match self.below(13) {
            0 => Request::Range(self.range()),
            1..=3 => Request::Put(self.put()),
            4 => Request::DeleteRange(self.delete_range()),
            5 => Request::Txn(self.txn(1)),
            6 => Request::Compact { revision: self.number(), physical: self.switch() },
            7 => Request::WatchCreate(WatchCreateRequest {
                key: self.bytes(),
                range_end: self.bytes(),
                start_revision: self.number(),
                credit_bytes: self.below(100_000) as i64,
                progress_notify: self.switch(),
                prev_kv: self.switch(),
                filter: filters[self.below(4)],
            }),
            8 => Request::LeaseGrant { id: self.number(), ttl_s: self.number() },
            9 => Request::LeaseRevoke { id: self.number() },
            10 => Request::LeaseKeepAlive { id: self.number() },
            11 => Request::LeaseTimeToLive { id: self.number(), keys: self.switch() },
            _ if self.switch() => Request::Leases,
            _ => Request::Status,
        }
    }

    fn url(&mut self) -> &'static str {
        ["http://127.0.0.1:2380", "http://höst:1", "unix://a", ""][self.below(4)]
    }

    pub(super) fn cluster_request(&mut self) -> ClusterRequest<'static> {
        let peer_urls = (0..self.below(4)).map(|_| self.url()).collect();
        match self.below(6) {
            0 => ClusterRequest::MemberList { is_linearizable: self.switch() },
            1 => ClusterRequest::MemberAdd { is_learner: self.switch(), peer_urls },
            2 => ClusterRequest::MemberRemove { id: self.next() },
            3 => ClusterRequest::MemberUpdate { id: self.next(), peer_urls },
            4 => ClusterRequest::MemberPromote { id: self.next() },
            _ => ClusterRequest::MoveLeader { target_id: self.next() },
        }
    }

    pub(super) fn members(&mut self) -> Vec<ClusterMember> {
        (0..self.below(4))
            .map(|_| ClusterMember {
                id: self.next(),
                name: self.url().to_owned(),
                peer_urls: (0..self.below(3)).map(|_| self.url().to_owned()).collect(),
                client_urls: (0..self.below(3)).map(|_| self.url().to_owned()).collect(),
                binary_urls: (0..self.below(3)).map(|_| self.url().to_owned()).collect(),
                is_learner: self.switch(),
            })
            .collect()
    }

    fn kv(&mut self) -> KeyValue<'static> {
        KeyValue {
            key: self.bytes(),
            value: self.bytes(),
            create_revision: self.number(),
            mod_revision: self.number(),
            version: self.number(),
            lease: self.number(),
        }
    }

    pub(super) fn kvs(&mut self, count_max: usize) -> KvList {
        let mut kvs = KvList::default();
        for _ in 0..self.below(count_max + 1) {
            kvs.push(self.kv());
        }
        kvs
    }

    pub(super) fn range_response(&mut self) -> RangeResponse {
        RangeResponse {
            revision: self.number(),
            kvs: self.kvs(5),
            more: self.switch(),
            count: self.number(),
        }
    }

    pub(super) fn put_response(&mut self) -> PutResponse {
        PutResponse { revision: self.number(), prev_kv: self.kvs(1) }
    }

    pub(super) fn delete_range_response(&mut self) -> DeleteRangeResponse {
        DeleteRangeResponse {
            revision: self.number(),
            deleted: self.number(),
            prev_kvs: self.kvs(3),
        }
    }

    pub(super) fn txn_response(&mut self, depth: usize) -> TxnResponse {
        let responses = (0..self.below(4))
            .map(|_| match self.below(if depth < 3 { 4 } else { 3 }) {
                0 => ResponseOp::Range(self.range_response()),
                1 => ResponseOp::Put(self.put_response()),
                2 => ResponseOp::DeleteRange(self.delete_range_response()),
                _ => ResponseOp::Txn(self.txn_response(depth + 1)),
            })
            .collect();
        TxnResponse { revision: self.number(), succeeded: self.switch(), responses }
    }

    pub(super) fn lease(&mut self) -> LeaseTimeToLive {
        LeaseTimeToLive {
            id: self.number(),
            ttl_s: self.number(),
            granted_ttl_s: self.number(),
            keys: (0..self.below(4)).map(|_| self.bytes().to_vec()).collect(),
        }
    }

    pub(super) fn status(&mut self) -> MemberStatus {
        let texts = ["", "3.6.0", "etcdserver: no leader", "größer"];
        MemberStatus {
            version: texts[self.below(4)].to_owned(),
            storage_version: texts[self.below(4)].to_owned(),
            db_size_bytes: self.number(),
            db_size_in_use_bytes: self.number(),
            db_size_quota_bytes: self.number(),
            leader: self.next(),
            raft_index: self.next(),
            raft_applied_index: self.next(),
            is_learner: self.switch(),
            errors: (0..self.below(3)).map(|_| texts[self.below(4)].to_owned()).collect(),
        }
    }

    pub(super) fn events(&mut self) -> EventList {
        let mut events = EventList::default();
        for _ in 0..=self.below(5) {
            let prev_kv = if self.switch() { Some(self.kv()) } else { None };
            let event_type = if self.switch() { EventType::Put } else { EventType::Delete };
            events.push(Event { event_type, kv: self.kv(), prev_kv });
        }
        events
    }
}
