//! The handle that programs hold: a method for each request.

use crate::dial::check_endpoint;
use crate::error::Error;
use crate::keeper::LeaseKeeper;
use crate::link_task::manage;
use crate::options::Options;
use crate::shared::Shared;
use crate::txn::Txn;
use crate::watch::{WatchRequest, WatchStream};
use engine::api::{
    DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse, RangeRequest, RangeResponse,
    TxnResponse,
};
use net::wire::{
    Answer, ClientRequest, ClusterMember, ClusterRequest, LeaseTimeToLive, Malformed, MemberStatus,
    Request,
};
use std::ops::Deref;
use std::sync::Arc;
use tokio::time::timeout;

/// Who answered, and where the store stood.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ResponseHeader {
    /// The cluster.
    pub cluster_id: u64,
    /// The member that answered.
    pub member_id: u64,
    /// The store's revision, by etcd's rules for the request.
    pub revision: i64,
    /// Raft term at the member.
    pub raft_term: u64,
}

/// An answer and its header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response<T> {
    /// Who answered, and when.
    pub header: ResponseHeader,
    /// What was answered; also reached by dereferencing.
    pub body: T,
}

impl<T> Deref for Response<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.body
    }
}

/// A lease as granted or renewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Granted {
    /// The lease.
    pub id: i64,
    /// Its time to live in seconds; 0 or less after a renewal says that it is gone.
    pub ttl_s: i64,
}

/// A member that was added.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemberAdded {
    /// The new member.
    pub id: u64,
    /// All members, the new one included.
    pub members: Vec<ClusterMember>,
}

/// A client; clones share one connection. The connection ends with the last clone.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.shared.close();
    }
}

/// Takes the one kind of answer that fits the request.
macro_rules! expect_answer {
    ($outcome:expr, $pattern:pat => $body:expr) => {{
        let (header, answer) = $outcome?;
        match answer {
            $pattern => Ok(Response { header, body: $body }),
            _ => Err(Error::Protocol(Malformed::Opcode)),
        }
    }};
}

impl Client {
    /// Connects with default options.
    ///
    /// # Errors
    /// See [`Client::connect_with`].
    pub async fn connect<E: Into<String>>(
        endpoints: impl IntoIterator<Item = E>,
    ) -> Result<Client, Error> {
        Client::connect_with(Options::new(endpoints)).await
    }

    /// Connects, trying each endpoint once.
    ///
    /// # Errors
    /// [`Error::InvalidEndpoint`], or [`Error::Unreachable`] if no endpoint opens a connection.
    pub async fn connect_with(options: Options) -> Result<Client, Error> {
        let client = Client::lazy(options)?;
        client.inner.shared.first_link().await?;
        Ok(client)
    }

    /// Does not wait for a connection; calls do. Needs a tokio runtime around it.
    ///
    /// # Errors
    /// [`Error::InvalidEndpoint`].
    pub fn lazy(options: Options) -> Result<Client, Error> {
        let addresses = options
            .endpoints
            .iter()
            .map(|endpoint| check_endpoint(endpoint))
            .collect::<Result<Vec<String>, Error>>()?;
        if addresses.is_empty() {
            return Err(Error::InvalidEndpoint { endpoint: String::new() });
        }
        let shared = Arc::new(Shared::new(options, addresses));
        tokio::spawn(manage(Arc::clone(&shared)));
        Ok(Client { inner: Arc::new(Inner { shared }) })
    }

    /// Writes a key.
    ///
    /// # Errors
    /// Like every call: what the server refuses ([`Error::Status`]), or what stood between
    /// ([`Error::is_outcome_unknown`] tells whether it may have happened).
    pub async fn put(
        &self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
    ) -> Result<Response<PutResponse>, Error> {
        let (key, value) = (key.as_ref(), value.as_ref());
        self.put_with(PutRequest { key, value, ..PutRequest::default() }).await
    }

    /// Writes a key, with options.
    ///
    /// # Errors
    /// See [`Client::put`].
    pub async fn put_with(&self, put: PutRequest<'_>) -> Result<Response<PutResponse>, Error> {
        expect_answer!(self.call(Request::Put(put)).await, Answer::Put(put) => put)
    }

    /// Reads a key.
    ///
    /// # Errors
    /// See [`Client::put`].
    pub async fn get(&self, key: impl AsRef<[u8]>) -> Result<Response<RangeResponse>, Error> {
        let key = key.as_ref();
        self.range(RangeRequest { key, ..RangeRequest::default() }).await
    }

    /// Reads a range of keys.
    ///
    /// # Errors
    /// See [`Client::put`].
    pub async fn range(&self, range: RangeRequest<'_>) -> Result<Response<RangeResponse>, Error> {
        expect_answer!(self.call(Request::Range(range)).await, Answer::Range(range) => range)
    }

    /// Deletes a key.
    ///
    /// # Errors
    /// See [`Client::put`].
    pub async fn delete(
        &self,
        key: impl AsRef<[u8]>,
    ) -> Result<Response<DeleteRangeResponse>, Error> {
        let key = key.as_ref();
        self.delete_range(DeleteRangeRequest { key, ..DeleteRangeRequest::default() }).await
    }

    /// Deletes a range of keys.
    ///
    /// # Errors
    /// See [`Client::put`].
    pub async fn delete_range(
        &self,
        delete: DeleteRangeRequest<'_>,
    ) -> Result<Response<DeleteRangeResponse>, Error> {
        let outcome = self.call(Request::DeleteRange(delete)).await;
        expect_answer!(outcome, Answer::DeleteRange(delete) => delete)
    }

    /// Runs a transaction.
    ///
    /// # Errors
    /// See [`Client::put`].
    pub async fn txn(&self, txn: &Txn<'_>) -> Result<Response<TxnResponse>, Error> {
        let outcome = self.call(Request::Txn(txn.request().clone())).await;
        expect_answer!(outcome, Answer::Txn(txn) => txn)
    }

    /// Drops the revisions before `revision`.
    ///
    /// # Errors
    /// See [`Client::put`].
    pub async fn compact(&self, revision: i64) -> Result<Response<()>, Error> {
        let outcome = self.call(Request::Compact { revision, physical: false }).await;
        expect_answer!(outcome, Answer::Compact => ())
    }

    /// As [`Client::compact`], but answered only once the revisions are gone from the store.
    ///
    /// # Errors
    /// See [`Client::put`].
    pub async fn compact_physical(&self, revision: i64) -> Result<Response<()>, Error> {
        let outcome = self.call(Request::Compact { revision, physical: true }).await;
        expect_answer!(outcome, Answer::Compact => ())
    }

    /// Watches keys. It survives broken connections without gap or repetition.
    ///
    /// # Errors
    /// As [`Client::put`], and [`Error::Compacted`] or [`Error::WatchCanceled`].
    pub async fn watch(&self, request: WatchRequest) -> Result<WatchStream, Error> {
        let shared = &self.inner.shared;
        let (key, messages, created) = shared.open_watch(request);
        // The guard ends the watch if this future is dropped before it is open.
        let mut stream = WatchStream::new(self.clone(), Arc::clone(shared), key, messages);
        match timeout(shared.options.request_timeout, created).await {
            Ok(Ok(Ok(header))) => {
                stream.on_created(header);
                Ok(stream)
            }
            Ok(Ok(Err(error))) => Err(error),
            Ok(Err(_dropped)) => Err(Error::Closed),
            Err(_elapsed) => Err(Error::Timeout),
        }
    }

    /// Grants a lease under an id that the server chooses.
    ///
    /// # Errors
    /// See [`Client::put`].
    pub async fn lease_grant(&self, ttl_s: i64) -> Result<Response<Granted>, Error> {
        self.lease_grant_with(0, ttl_s).await
    }

    /// Grants a lease; id 0 lets the server choose.
    ///
    /// # Errors
    /// See [`Client::put`].
    pub async fn lease_grant_with(&self, id: i64, ttl_s: i64) -> Result<Response<Granted>, Error> {
        let outcome = self.call(Request::LeaseGrant { id, ttl_s }).await;
        expect_answer!(outcome, Answer::LeaseGrant { id, ttl_s } => Granted { id, ttl_s })
    }

    /// Revokes a lease: it and the keys attached to it are gone.
    ///
    /// # Errors
    /// See [`Client::put`].
    pub async fn lease_revoke(&self, id: i64) -> Result<Response<()>, Error> {
        let outcome = self.call(Request::LeaseRevoke { id }).await;
        expect_answer!(outcome, Answer::LeaseRevoke => ())
    }

    /// Renews a lease once. A time to live of 0 says that there is no such lease.
    ///
    /// # Errors
    /// See [`Client::put`].
    pub async fn lease_keep_alive(&self, id: i64) -> Result<Response<Granted>, Error> {
        let outcome = self.call(Request::LeaseKeepAlive { id }).await;
        expect_answer!(outcome, Answer::LeaseKeepAlive { id, ttl_s } => Granted { id, ttl_s })
    }

    /// Renews a lease in the background, at a third of its time to live.
    pub fn keep_lease(&self, id: i64, ttl_s: i64) -> LeaseKeeper {
        LeaseKeeper::start(self.clone(), id, ttl_s)
    }

    /// The remaining time of a lease.
    ///
    /// # Errors
    /// See [`Client::put`].
    pub async fn lease_time_to_live(&self, id: i64) -> Result<Response<LeaseTimeToLive>, Error> {
        let outcome = self.call(Request::LeaseTimeToLive { id, keys: false }).await;
        expect_answer!(outcome, Answer::LeaseTimeToLive(lease) => lease)
    }

    /// The remaining time of a lease, and the keys attached to it.
    ///
    /// # Errors
    /// See [`Client::put`].
    pub async fn lease_keys(&self, id: i64) -> Result<Response<LeaseTimeToLive>, Error> {
        let outcome = self.call(Request::LeaseTimeToLive { id, keys: true }).await;
        expect_answer!(outcome, Answer::LeaseTimeToLive(lease) => lease)
    }

    /// The ids of all leases.
    ///
    /// # Errors
    /// See [`Client::put`].
    pub async fn leases(&self) -> Result<Response<Vec<i64>>, Error> {
        expect_answer!(self.call(Request::Leases).await, Answer::Leases(ids) => ids)
    }

    /// The state of the member that the client is connected to.
    ///
    /// # Errors
    /// See [`Client::put`].
    pub async fn status(&self) -> Result<Response<MemberStatus>, Error> {
        expect_answer!(self.call(Request::Status).await, Answer::Status(status) => status)
    }

    /// The members of the cluster, read through the leader.
    ///
    /// # Errors
    /// See [`Client::put`].
    pub async fn member_list(&self) -> Result<Response<Vec<ClusterMember>>, Error> {
        self.member_list_with(true).await
    }

    /// The members of the cluster; `is_linearizable` reads them through the leader, else it is
    /// what the member that the client is connected to knows.
    ///
    /// # Errors
    /// See [`Client::put`].
    pub async fn member_list_with(
        &self,
        is_linearizable: bool,
    ) -> Result<Response<Vec<ClusterMember>>, Error> {
        let outcome = self.call(ClusterRequest::MemberList { is_linearizable }).await;
        expect_answer!(outcome, Answer::MemberList(members) => members)
    }

    /// Adds a member that the others reach at `peer_urls`.
    ///
    /// # Errors
    /// See [`Client::put`].
    pub async fn member_add(
        &self,
        peer_urls: &[&str],
        is_learner: bool,
    ) -> Result<Response<MemberAdded>, Error> {
        let peer_urls = peer_urls.to_vec();
        let outcome = self.call(ClusterRequest::MemberAdd { is_learner, peer_urls }).await;
        expect_answer!(outcome, Answer::MemberAdd { id, members } => MemberAdded { id, members })
    }

    /// Removes a member; answers who is left.
    ///
    /// # Errors
    /// See [`Client::put`].
    pub async fn member_remove(&self, id: u64) -> Result<Response<Vec<ClusterMember>>, Error> {
        let outcome = self.call(ClusterRequest::MemberRemove { id }).await;
        expect_answer!(outcome, Answer::MemberRemove(members) => members)
    }

    /// Gives a member other peer URLs; answers all members.
    ///
    /// # Errors
    /// See [`Client::put`].
    pub async fn member_update(
        &self,
        id: u64,
        peer_urls: &[&str],
    ) -> Result<Response<Vec<ClusterMember>>, Error> {
        let peer_urls = peer_urls.to_vec();
        let outcome = self.call(ClusterRequest::MemberUpdate { id, peer_urls }).await;
        expect_answer!(outcome, Answer::MemberUpdate(members) => members)
    }

    /// Makes a learner a voter; answers all members.
    ///
    /// # Errors
    /// See [`Client::put`].
    pub async fn member_promote(&self, id: u64) -> Result<Response<Vec<ClusterMember>>, Error> {
        let outcome = self.call(ClusterRequest::MemberPromote { id }).await;
        expect_answer!(outcome, Answer::MemberPromote(members) => members)
    }

    /// Hands leadership to a member. To be asked of the leader.
    ///
    /// # Errors
    /// See [`Client::put`].
    pub async fn move_leader(&self, target_id: u64) -> Result<Response<()>, Error> {
        let outcome = self.call(ClusterRequest::MoveLeader { target_id }).await;
        expect_answer!(outcome, Answer::MoveLeader => ())
    }

    async fn call(
        &self,
        request: impl ClientRequest + Sync,
    ) -> Result<(ResponseHeader, Answer), Error> {
        self.inner.shared.call(&request).await
    }
}
