//! Reading the requests of the service Lease.

use crate::etcd::protobuf::reader::{Fields, Malformed};
use crate::etcd::status::Status;

/// A lease asked for by a client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeaseGrantRequest {
    /// Time to live as asked for, in seconds; not clamped yet.
    pub ttl_s: i64,
    /// The id wanted; 0 leaves the choice to the server.
    pub id: i64,
}

/// A question about a lease.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeaseTimeToLiveRequest {
    /// The lease's id.
    pub id: i64,
    /// Whether to list the keys attached.
    pub keys: bool,
}

/// Reads an `etcdserverpb.LeaseGrantRequest`. Errors: malformed bytes.
pub fn decode_lease_grant(message: &[u8]) -> Result<LeaseGrantRequest, Status> {
    let mut request = LeaseGrantRequest::default();
    let mut fields = Fields::new(message);
    while let Some((number, value)) = fields.next_field()? {
        match number {
            1 => request.ttl_s = value.int64()?,
            2 => request.id = value.int64()?,
            _ => {}
        }
    }
    Ok(request)
}

/// Reads an `etcdserverpb.LeaseRevokeRequest`: the id. Errors: malformed bytes.
pub fn decode_lease_revoke(message: &[u8]) -> Result<i64, Status> {
    Ok(lone_id(message)?)
}

/// Reads an `etcdserverpb.LeaseKeepAliveRequest`: the id. Errors: malformed bytes.
pub fn decode_lease_keep_alive(message: &[u8]) -> Result<i64, Status> {
    Ok(lone_id(message)?)
}

/// Reads an `etcdserverpb.LeaseTimeToLiveRequest`. Errors: malformed bytes.
pub fn decode_lease_time_to_live(message: &[u8]) -> Result<LeaseTimeToLiveRequest, Status> {
    let mut request = LeaseTimeToLiveRequest::default();
    let mut fields = Fields::new(message);
    while let Some((number, value)) = fields.next_field()? {
        match number {
            1 => request.id = value.int64()?,
            2 => request.keys = value.boolean()?,
            _ => {}
        }
    }
    Ok(request)
}

fn lone_id(message: &[u8]) -> Result<i64, Malformed> {
    let mut id = 0;
    let mut fields = Fields::new(message);
    while let Some((number, value)) = fields.next_field()? {
        if number == 1 {
            id = value.int64()?;
        }
    }
    Ok(id)
}
