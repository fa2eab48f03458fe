//! A gRPC request message to a call, or to an answer that needs no replica.
//!
//! Invariant: one arm a method, so that the compiler names what is missing.
//! Source: fact sheet of the etcd v3 API, section 1.

use net::etcd::check;
use net::etcd::convert::AlarmRequest;
use net::etcd::decode::{self, WatchRequest};
use net::etcd::encode;
use net::etcd::method::Method;
use net::etcd::proto::{etcdserverpb, health};
use net::etcd::status::{self, Status};

use super::{Context, admission};
use crate::message::{Call, MemberChange, OwnedRange, WatchCreate};

/// What a message comes to.
pub(super) enum Made {
    /// Ask the replica.
    Call(Call),
    /// Answer with this message, and end.
    Answer(Vec<u8>),
    /// Send this message and stay open.
    Stay(Vec<u8>),
    /// Nothing is to be done.
    Nothing,
}

pub(super) fn call_of(method: Method, body: &[u8], context: &mut Context) -> Result<Made, Status> {
    let made = made_of(method, body, context)?;
    let is_for_learners = match &made {
        Made::Call(call) => call.is_for_learners(),
        _ => false,
    };
    if context.is_learner && !is_for_learners {
        return Err(status::NOT_SUPPORTED_FOR_LEARNER);
    }
    Ok(made)
}

fn made_of(method: Method, body: &[u8], context: &mut Context) -> Result<Made, Status> {
    let call = match method {
        Method::Range => admission::range(&decode::decode_range(body)?)?,
        Method::RangeStream => {
            let request = decode::decode_range(body)?;
            check::check_range_stream(&request)?;
            Call::Range(OwnedRange::new(&request))
        }
        Method::Put => admission::put(context, &decode::decode_put(body)?)?,
        Method::DeleteRange => {
            admission::delete_range(context, &decode::decode_delete_range(body)?)?
        }
        Method::Txn => {
            admission::txn(context, decode::decode_txn(body, context.config.max_txn_ops)?)?
        }
        Method::Compact => {
            let request = decode::decode_compaction(body)?;
            admission::compact(context, request.revision, request.physical)?
        }
        Method::Watch => return Ok(watch(decode::decode_watch(body)?)),
        Method::LeaseGrant => {
            let request = decode::decode_lease_grant(body)?;
            admission::lease_grant(context, request.id, request.ttl_s)?
        }
        Method::LeaseRevoke => {
            admission::lease_revoke(context, decode::decode_lease_revoke(body)?)?
        }
        Method::LeaseKeepAlive => {
            Call::LeaseKeepAlive { id: decode::decode_lease_keep_alive(body)? }
        }
        Method::LeaseTimeToLive => {
            let request = decode::decode_lease_time_to_live(body)?;
            Call::LeaseTimeToLive { id: request.id, keys: request.keys }
        }
        Method::LeaseLeases => Call::LeaseLeases,
        Method::MemberList => {
            let request: etcdserverpb::MemberListRequest = decode::decode_message(body)?;
            Call::MemberList { serializable: !request.linearizable }
        }
        Method::Alarm => return alarm(body, context),
        Method::Status => Call::Status,
        Method::Hash => Call::Hash,
        Method::HashKv => {
            let request: etcdserverpb::HashKvRequest = decode::decode_message(body)?;
            Call::HashKv { revision: request.revision }
        }
        Method::Defragment => {
            // Freed pages are reused and free runs given back as it goes: nothing is to be done.
            let mut out = Vec::new();
            encode::encode_header_only(&mut out, None);
            return Ok(Made::Answer(out));
        }
        Method::HealthCheck | Method::HealthWatch => return health(method, body),
        Method::HealthList => return Ok(health_list()),
        Method::MemberAdd
        | Method::MemberRemove
        | Method::MemberUpdate
        | Method::MemberPromote
        | Method::MoveLeader => members(method, body)?,
        Method::AuthStatus => Call::AuthStatus,
        Method::Authenticate => return Err(status::AUTH_NOT_ENABLED),
        Method::Snapshot
        | Method::Downgrade
        | Method::AuthEnable
        | Method::AuthDisable
        | Method::UserAdd
        | Method::UserGet
        | Method::UserList
        | Method::UserDelete
        | Method::UserChangePassword
        | Method::UserGrantRole
        | Method::UserRevokeRole
        | Method::RoleAdd
        | Method::RoleGet
        | Method::RoleList
        | Method::RoleDelete
        | Method::RoleGrantPermission
        | Method::RoleRevokePermission
        | Method::Campaign
        | Method::Proclaim
        | Method::Leader
        | Method::Observe
        | Method::Resign
        | Method::Lock
        | Method::Unlock => {
            // Not served yet: answered as by a server without it.
            return Err(status::unknown_path(method.path().as_bytes()));
        }
    };
    Ok(Made::Call(call))
}

fn watch(request: WatchRequest<'_>) -> Made {
    match request {
        WatchRequest::Missing => Made::Nothing,
        WatchRequest::Cancel { watch_id } => Made::Call(Call::WatchCancel { watch_id }),
        WatchRequest::Progress => Made::Call(Call::WatchProgress { waits: false }),
        WatchRequest::Create(create) => {
            let key = if create.key.is_empty() { vec![0] } else { create.key.to_vec() };
            Made::Call(Call::WatchCreate(WatchCreate {
                key,
                range_end: create.range_end.to_vec(),
                start_revision: create.start_revision,
                watch_id: create.watch_id,
                progress_notify: create.progress_notify,
                no_put: create.filters.no_put,
                no_delete: create.filters.no_delete,
                prev_kv: create.prev_kv,
                fragment: create.fragment,
            }))
        }
    }
}

fn alarm(body: &[u8], context: &mut Context) -> Result<Made, Status> {
    let request: etcdserverpb::AlarmRequest = decode::decode_message(body)?;
    match AlarmRequest::try_from(&request)? {
        AlarmRequest::Show { alarm } => Ok(Made::Call(Call::AlarmList { alarm })),
        AlarmRequest::Change { action, member_id, alarm } => {
            admission::alarm_change(context, action, member_id, alarm).map(Made::Call)
        }
        AlarmRequest::Nothing => {
            let mut out = Vec::new();
            let header = super::grpc::responder(context, context.raft_term).at(context.revision);
            encode::encode_alarms(&mut out, &header, []);
            Ok(Made::Answer(out))
        }
    }
}

/// Calls about the members.
fn members(method: Method, body: &[u8]) -> Result<Call, Status> {
    let change = match method {
        Method::MemberAdd => {
            let request: etcdserverpb::MemberAddRequest = decode::decode_message(body)?;
            let peer_urls = check_urls(request.peer_urls)?;
            MemberChange::Add { peer_urls, is_learner: request.is_learner }
        }
        Method::MemberRemove => {
            let request: etcdserverpb::MemberRemoveRequest = decode::decode_message(body)?;
            MemberChange::Remove { id: request.id }
        }
        Method::MemberUpdate => {
            let request: etcdserverpb::MemberUpdateRequest = decode::decode_message(body)?;
            let peer_urls = check_urls(request.peer_urls)?;
            MemberChange::Update { id: request.id, peer_urls }
        }
        Method::MemberPromote => {
            let request: etcdserverpb::MemberPromoteRequest = decode::decode_message(body)?;
            MemberChange::Promote { id: request.id }
        }
        _ => {
            let request: etcdserverpb::MoveLeaderRequest = decode::decode_message(body)?;
            return Ok(Call::MoveLeader { target: request.target_id });
        }
    };
    Ok(Call::MemberChange(change))
}

/// Peer URLs as etcd takes them: a scheme, a host and a port, nothing behind it.
pub(super) fn check_urls(urls: Vec<String>) -> Result<Vec<String>, Status> {
    let is_good = |url: &String| {
        let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
        let port = rest.and_then(|rest| rest.rsplit_once(':')).map(|(host, port)| {
            !host.is_empty() && !host.contains('/') && port.parse::<u16>().is_ok()
        });
        port == Some(true)
    };
    if urls.is_empty() || !urls.iter().all(is_good) {
        return Err(status::MEMBER_BAD_URLS);
    }
    let mut sorted = urls;
    sorted.sort();
    Ok(sorted)
}

fn health_list() -> Made {
    let serving = health::HealthCheckResponse {
        status: health::health_check_response::ServingStatus::Serving as i32,
    };
    let statuses = std::iter::once((String::new(), serving)).collect();
    let mut out = Vec::new();
    encode::encode_message(&mut out, &health::HealthListResponse { statuses });
    Made::Answer(out)
}

/// The standard health service: only the empty name is registered.
fn health(method: Method, body: &[u8]) -> Result<Made, Status> {
    let request: health::HealthCheckRequest = decode::decode_message(body)?;
    if !request.service.is_empty() && method == Method::HealthCheck {
        return Err(status::HEALTH_UNKNOWN_SERVICE);
    }
    let mut out = Vec::new();
    if request.service.is_empty() {
        encode::encode_health_check(&mut out, true);
    } else {
        encode::encode_health_unknown_service(&mut out);
    }
    Ok(if method == Method::HealthCheck { Made::Answer(out) } else { Made::Stay(out) })
}
