//! The fields format: one `"Name" : value` a line, every field.

use super::printer::{EndpointHealth, Shown, Style};
use super::quoted::quote;
use corestone_client::{
    ClusterMember, EventType, Granted, KeyValue, LeaseTimeToLive, MemberStatus, ResponseHeader,
    ResponseOp, TxnResponse,
};
use std::fmt::Display;
use std::io::{self, Write};

pub(super) fn show(
    out: &mut Vec<u8>,
    header: &ResponseHeader,
    shown: &Shown<'_>,
    style: Style,
) -> io::Result<()> {
    let mut fields = Fields { out, style };
    match shown {
        Shown::Watch(message) => {
            fields.header(&ResponseHeader { revision: message.revision, ..*header })?;
        }
        // Each endpoint has a header of its own, or none.
        Shown::Statuses(_) | Shown::Healths(_) => {}
        Shown::Members(_) => fields.header_of_cluster(header)?,
        _ => fields.header(header)?,
    }
    match shown {
        Shown::Put(put) => put.prev_kv.iter().try_for_each(|kv| fields.kv("Prev", kv)),
        Shown::Get(range) => {
            range.kvs.iter().try_for_each(|kv| fields.kv("", kv))?;
            fields.field("More", range.more)?;
            fields.field("Count", range.count)
        }
        Shown::Del(delete) => {
            fields.field("Deleted", delete.deleted)?;
            delete.prev_kvs.iter().try_for_each(|kv| fields.kv("Prev", kv))
        }
        Shown::Txn(txn) => fields.txn(txn),
        Shown::Watch(message) => message.events.iter().try_for_each(|event| {
            let event_type = match event.event_type {
                EventType::Put => "PUT",
                EventType::Delete => "DELETE",
            };
            fields.field("Type", event_type)?;
            if let Some(prev_kv) = event.prev_kv {
                fields.kv("Prev", prev_kv)?;
            }
            fields.kv("", event.kv)
        }),
        Shown::LeaseGrant(lease) | Shown::LeaseKeepAlive(lease) => fields.lease(*lease),
        Shown::LeaseRevoke { .. } => Ok(()),
        Shown::LeaseTimeToLive { lease, .. } => fields.time_to_live(lease),
        Shown::Leases(ids) => ids.iter().try_for_each(|id| fields.lease_id("ID", *id)),
        Shown::Statuses(statuses) => statuses.iter().try_for_each(|one| {
            fields.header(&one.header)?;
            fields.status(&one.header, &one.endpoint, &one.status)
        }),
        Shown::Healths(healths) => healths.iter().try_for_each(|health| fields.health(health)),
        Shown::Members(members) => members.iter().try_for_each(|member| fields.member(member)),
        Shown::MemberAdd { .. } | Shown::MemberChange { .. } => {
            unreachable!("refused before it was done")
        }
    }
}

struct Fields<'a> {
    out: &'a mut Vec<u8>,
    style: Style,
}

impl Fields<'_> {
    fn field(&mut self, name: &str, value: impl Display) -> io::Result<()> {
        writeln!(self.out, "\"{name}\" : {value}")
    }

    fn id(&mut self, name: &str, id: u64) -> io::Result<()> {
        if self.style.hex { self.field(name, format_args!("{id:x}")) } else { self.field(name, id) }
    }

    fn lease_id(&mut self, name: &str, id: i64) -> io::Result<()> {
        if self.style.hex {
            self.field(name, format_args!("{id:016x}"))
        } else {
            self.field(name, id)
        }
    }

    fn header(&mut self, header: &ResponseHeader) -> io::Result<()> {
        self.id("ClusterID", header.cluster_id)?;
        self.id("MemberID", header.member_id)?;
        self.field("Revision", header.revision)?;
        self.field("RaftTerm", header.raft_term)
    }

    /// The header of an answer about the cluster, which is of no revision.
    fn header_of_cluster(&mut self, header: &ResponseHeader) -> io::Result<()> {
        self.id("ClusterID", header.cluster_id)?;
        self.id("MemberID", header.member_id)?;
        self.field("RaftTerm", header.raft_term)
    }

    fn member(&mut self, member: &ClusterMember) -> io::Result<()> {
        self.id("ID", member.id)?;
        self.field("Name", quote(member.name.as_bytes()))?;
        let urls = |name| move |url: &String| (name, quote(url.as_bytes()));
        let peer_urls = member.peer_urls.iter().map(urls("PeerURL"));
        for (name, url) in peer_urls.chain(member.client_urls.iter().map(urls("ClientURL"))) {
            self.field(name, url)?;
        }
        self.field("IsLearner", member.is_learner)?;
        writeln!(self.out)
    }

    fn health(&mut self, health: &EndpointHealth) -> io::Result<()> {
        self.field("Endpoint", quote(health.endpoint.as_bytes()))?;
        self.field("Health", health.is_healthy())?;
        self.field("Took", format_args!("{:?}", health.took))?;
        self.field("Error", &health.error)?;
        writeln!(self.out)
    }

    fn kv(&mut self, prefix: &str, kv: KeyValue<'_>) -> io::Result<()> {
        self.field(&format!("{prefix}Key"), quote(kv.key))?;
        self.field(&format!("{prefix}CreateRevision"), kv.create_revision)?;
        self.field(&format!("{prefix}ModRevision"), kv.mod_revision)?;
        self.field(&format!("{prefix}Version"), kv.version)?;
        self.field(&format!("{prefix}Value"), quote(kv.value))?;
        self.lease_id(&format!("{prefix}Lease"), kv.lease)
    }

    /// The answers in a transaction have headers of their own, with the revision alone.
    fn txn(&mut self, txn: &TxnResponse) -> io::Result<()> {
        self.field("Succeeded", txn.succeeded)?;
        for op in &txn.responses {
            let (shown, revision) = match op {
                ResponseOp::Range(range) => (Shown::Get(range), range.revision),
                ResponseOp::Put(put) => (Shown::Put(put), put.revision),
                ResponseOp::DeleteRange(delete) => (Shown::Del(delete), delete.revision),
                ResponseOp::Txn(txn) => (Shown::Txn(txn), 0),
            };
            let header = ResponseHeader { revision, ..ResponseHeader::default() };
            show(self.out, &header, &shown, self.style)?;
        }
        Ok(())
    }

    fn lease(&mut self, lease: Granted) -> io::Result<()> {
        self.lease_id("ID", lease.id)?;
        self.field("TTL", lease.ttl_s)
    }

    fn time_to_live(&mut self, lease: &LeaseTimeToLive) -> io::Result<()> {
        self.lease_id("ID", lease.id)?;
        self.field("TTL", lease.ttl_s)?;
        self.field("GrantedTTL", lease.granted_ttl_s)?;
        lease.keys.iter().try_for_each(|key| self.field("Key", quote(key)))
    }

    fn status(
        &mut self,
        header: &ResponseHeader,
        endpoint: &str,
        status: &MemberStatus,
    ) -> io::Result<()> {
        self.field("Version", quote(status.version.as_bytes()))?;
        self.field("StorageVersion", quote(status.storage_version.as_bytes()))?;
        self.field("DBSize", status.db_size_bytes)?;
        self.field("DBSizeInUse", status.db_size_in_use_bytes)?;
        self.field("DBSizeQuota", status.db_size_quota_bytes)?;
        self.id("Leader", status.leader)?;
        self.field("IsLearner", status.is_learner)?;
        self.field("RaftIndex", status.raft_index)?;
        self.field("RaftTerm", header.raft_term)?;
        self.field("RaftAppliedIndex", status.raft_applied_index)?;
        self.field("Errors", format_args!("[{}]", status.errors.join(" ")))?;
        self.field("Endpoint", quote(endpoint.as_bytes()))?;
        self.field("DowngradeTargetVersion", quote(b""))?;
        self.field("DowngradeEnabled", false)?;
        writeln!(self.out)
    }
}
