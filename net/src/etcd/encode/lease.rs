//! Answers of the service Lease.

use super::Header;
use crate::etcd::protobuf::writer;

/// Writes an `etcdserverpb.LeaseGrantResponse`; `ttl_s` is the time granted.
pub fn encode_lease_grant(out: &mut Vec<u8>, header: &Header, id: i64, ttl_s: i64) {
    header.encode(out);
    writer::int64(out, 2, id);
    writer::int64(out, 3, ttl_s);
}

/// Writes an `etcdserverpb.LeaseRevokeResponse`.
pub fn encode_lease_revoke(out: &mut Vec<u8>, header: &Header) {
    header.encode(out);
}

/// Writes an `etcdserverpb.LeaseKeepAliveResponse`. The header's revision is the one before the
/// renewal; `ttl_s` is 0 for a lease that is not there.
pub fn encode_lease_keep_alive(out: &mut Vec<u8>, header: &Header, id: i64, ttl_s: i64) {
    header.encode(out);
    writer::int64(out, 2, id);
    writer::int64(out, 3, ttl_s);
}

/// What is known of a lease.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeaseTimeToLive {
    /// The lease's id.
    pub id: i64,
    /// Whole seconds left; -1 for a lease that is not there.
    pub ttl_s: i64,
    /// Seconds granted; 0 for a lease that is not there.
    pub granted_ttl_s: i64,
}

/// Writes an `etcdserverpb.LeaseTimeToLiveResponse` with the keys attached, if they were asked
/// for.
pub fn encode_lease_time_to_live<'a>(
    out: &mut Vec<u8>,
    header: &Header,
    lease: &LeaseTimeToLive,
    keys: impl IntoIterator<Item = &'a [u8]>,
) {
    header.encode(out);
    writer::int64(out, 2, lease.id);
    writer::int64(out, 3, lease.ttl_s);
    writer::int64(out, 4, lease.granted_ttl_s);
    for key in keys {
        writer::bytes_element(out, 5, key);
    }
}

/// Writes an `etcdserverpb.LeaseLeasesResponse` of the ids.
pub fn encode_lease_leases(out: &mut Vec<u8>, header: &Header, ids: impl IntoIterator<Item = i64>) {
    header.encode(out);
    for id in ids {
        writer::message_head(out, 2, writer::int64_size_bytes(1, id));
        writer::int64(out, 1, id);
    }
}
