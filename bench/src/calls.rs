//! Single calls, each waited for, through etcd's API, which every server here speaks.

use crate::error::{BenchError, io_error};
use crate::proto::etcdserverpb::kv_client::KvClient;
use crate::proto::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
    request_op,
};
use bytes::Bytes;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tonic::transport::{Channel, Endpoint};

pub(crate) async fn connect(address: &str) -> Result<Channel, BenchError> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))?;
    Ok(endpoint.tcp_nodelay(true).connect().await?)
}

pub(crate) fn range_of(key: Bytes, range_end: Bytes) -> RangeRequest {
    RangeRequest { key, range_end, ..RangeRequest::default() }
}

/// Begin and end of the range over everything.
pub const EVERYTHING: [&[u8]; 2] = [b"\0", b"\0"];

/// A client that blocks.
pub struct Caller {
    runtime: Runtime,
    client: KvClient<Channel>,
}

impl Caller {
    /// Connects to `host:port`.
    ///
    /// # Errors
    /// When nobody listens there.
    pub fn connect(address: &str) -> Result<Caller, BenchError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(io_error("building a runtime"))?;
        let channel = runtime.block_on(connect(address))?;
        let client = KvClient::new(channel).max_decoding_message_size(ANSWER_SIZE_BYTES_MAX);
        Ok(Caller { runtime, client })
    }

    /// Connects again and again until a linearizable read is answered; how long that took.
    ///
    /// # Errors
    /// When `patience` ends first.
    pub fn first_read(address: &str, patience: Duration) -> Result<Duration, BenchError> {
        let begin = Instant::now();
        loop {
            let answered = Caller::connect(address).and_then(|mut caller| caller.get(b"first"));
            match answered {
                Ok(_) => return Ok(begin.elapsed()),
                Err(error) if patience <= begin.elapsed() => return Err(error),
                Err(_) => std::thread::yield_now(),
            }
        }
    }

    /// Reads a key of what this member has, asking nobody else; how many there are (0 or 1).
    #[allow(clippy::missing_errors_doc)]
    pub fn get_here(&mut self, key: &[u8]) -> Result<i64, BenchError> {
        let range = range_of(Bytes::copy_from_slice(key), Bytes::new());
        let range = RangeRequest { serializable: true, ..range };
        Ok(self.runtime.block_on(self.client.range(range))?.into_inner().count)
    }

    /// Reads a key; how many there are (0 or 1).
    ///
    /// # Errors
    /// What the member answered, as of all calls here.
    pub fn get(&mut self, key: &[u8]) -> Result<i64, BenchError> {
        let range = range_of(Bytes::copy_from_slice(key), Bytes::new());
        Ok(self.runtime.block_on(self.client.range(range))?.into_inner().count)
    }

    /// Writes a key; the new revision.
    #[allow(clippy::missing_errors_doc)]
    pub fn put(&mut self, key: &[u8], value: &[u8]) -> Result<i64, BenchError> {
        let (key, value) = (Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
        let put = PutRequest { key, value, ..PutRequest::default() };
        let header = self.runtime.block_on(self.client.put(put))?.into_inner().header;
        Ok(header.map_or(0, |header| header.revision))
    }

    /// Counts all keys.
    #[allow(clippy::missing_errors_doc)]
    pub fn count(&mut self) -> Result<i64, BenchError> {
        let [key, range_end] = EVERYTHING.map(Bytes::from_static);
        let range = RangeRequest { count_only: true, ..range_of(key, range_end) };
        Ok(self.runtime.block_on(self.client.range(range))?.into_inner().count)
    }

    /// Reads every key and value, some at a time; how many there were.
    #[allow(clippy::missing_errors_doc)]
    pub fn read_everything(&mut self) -> Result<usize, BenchError> {
        let [mut key, range_end] = EVERYTHING.map(Bytes::from_static);
        let mut read = 0;
        loop {
            let range = RangeRequest { limit: SCAN_KEYS, ..range_of(key, range_end.clone()) };
            let answer = self.runtime.block_on(self.client.range(range))?.into_inner();
            read += answer.kvs.len();
            let Some(last) = answer.kvs.last().filter(|_| answer.more) else { return Ok(read) };
            key = [&last.key[..], &[0]].concat().into();
        }
    }

    /// Compacts at `revision` and waits until what was dropped is gone.
    #[allow(clippy::missing_errors_doc)]
    pub fn compact(&mut self, revision: i64) -> Result<(), BenchError> {
        let compaction = CompactionRequest { revision, physical: true };
        self.runtime.block_on(self.client.compact(compaction))?;
        Ok(())
    }

    /// Deletes everything; how many keys that were.
    #[allow(clippy::missing_errors_doc)]
    pub fn delete_everything(&mut self) -> Result<i64, BenchError> {
        let [key, range_end] = EVERYTHING.map(Bytes::from_static);
        let delete = DeleteRangeRequest { key, range_end, prev_kv: false };
        Ok(self.runtime.block_on(self.client.delete_range(delete))?.into_inner().deleted)
    }

    /// One transaction that reads all `ranges`, each up to `limit` keys, and writes `put` if there
    /// is one, which makes it an entry of the log; how many keys came back.
    #[allow(clippy::missing_errors_doc)]
    pub fn read_ranges(
        &mut self,
        ranges: Vec<[Bytes; 2]>,
        limit: i64,
        put: Option<&[u8]>,
    ) -> Result<usize, BenchError> {
        let read = |[key, range_end]: [Bytes; 2]| {
            let range = RangeRequest { limit, ..range_of(key, range_end) };
            RequestOp { request: Some(request_op::Request::RequestRange(range)) }
        };
        let mut success: Vec<RequestOp> = ranges.into_iter().map(read).collect();
        if let Some(key) = put {
            let put = PutRequest { key: Bytes::copy_from_slice(key), ..PutRequest::default() };
            success.push(RequestOp { request: Some(request_op::Request::RequestPut(put)) });
        }
        let txn = TxnRequest { success, ..TxnRequest::default() };
        let answer = self.runtime.block_on(self.client.txn(txn))?.into_inner();
        let kvs = answer.responses.iter().map(|response| match &response.response {
            Some(crate::proto::etcdserverpb::response_op::Response::ResponseRange(range)) => {
                range.kvs.len()
            }
            _ => 0,
        });
        Ok(kvs.sum())
    }
}

/// Keys that a scan reads at a time.
const SCAN_KEYS: i64 = 5000;

/// Largest answer that is taken.
const ANSWER_SIZE_BYTES_MAX: usize = 1 << 30;
