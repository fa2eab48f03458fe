//! The simple format: for people, and for scripts that match etcdctl's words.

use super::printer::{EndpointStatus, MemberChange, Shown, Style};
use super::table::{member_row, status_row};
use corestone_client::{
    EventType, KeyValue, LeaseTimeToLive, ResponseHeader, ResponseOp, TxnResponse,
};
use std::io::{self, Write};

pub(super) fn show(
    out: &mut Vec<u8>,
    header: &ResponseHeader,
    shown: &Shown<'_>,
    style: Style,
) -> io::Result<()> {
    match shown {
        Shown::Put(put) => {
            writeln!(out, "OK")?;
            put.prev_kv.iter().try_for_each(|kv| show_kv(out, kv, style))
        }
        Shown::Get(range) => range.kvs.iter().try_for_each(|kv| show_kv(out, kv, style)),
        Shown::Del(delete) => {
            writeln!(out, "{}", delete.deleted)?;
            delete.prev_kvs.iter().try_for_each(|kv| show_kv(out, kv, style))
        }
        Shown::Txn(txn) => show_txn(out, header, txn, style),
        Shown::Watch(message) if message.is_progress() => {
            writeln!(out, "progress notify: {}", message.revision)
        }
        Shown::Watch(message) => message.events.iter().try_for_each(|event| {
            let name = match event.event_type {
                EventType::Put => "PUT",
                EventType::Delete => "DELETE",
            };
            writeln!(out, "{name}")?;
            if let Some(prev_kv) = event.prev_kv {
                show_kv(out, prev_kv, style)?;
            }
            show_kv(out, event.kv, style)
        }),
        Shown::LeaseGrant(lease) => {
            writeln!(out, "lease {:016x} granted with TTL({}s)", lease.id, lease.ttl_s)
        }
        Shown::LeaseRevoke { id } => writeln!(out, "lease {id:016x} revoked"),
        Shown::LeaseKeepAlive(lease) => {
            writeln!(out, "lease {:016x} keepalived with TTL({})", lease.id, lease.ttl_s)
        }
        Shown::LeaseTimeToLive { lease, keys } => show_time_to_live(out, lease, *keys),
        Shown::Leases(ids) => {
            writeln!(out, "found {} leases", ids.len())?;
            ids.iter().try_for_each(|id| writeln!(out, "{id:016x}"))
        }
        Shown::Statuses(statuses) => {
            statuses.iter().try_for_each(|EndpointStatus { endpoint, header, status }| {
                writeln!(out, "{}", status_row(endpoint, header, status).join(", "))
            })
        }
        Shown::Healths(healths) => healths.iter().try_for_each(|health| {
            let (endpoint, took) = (&health.endpoint, health.took);
            match health.is_healthy() {
                true => writeln!(
                    out,
                    "{endpoint} is healthy: successfully committed proposal: took = {took:?}"
                ),
                // Those go to standard error.
                false => Ok(()),
            }
        }),
        Shown::Members(members) => {
            members.iter().try_for_each(|member| writeln!(out, "{}", member_row(member).join(", ")))
        }
        Shown::MemberAdd { added, is_learner } => {
            let added_as = if *is_learner { "added as learner" } else { "added" };
            writeln!(out, "Member {:16x} {added_as} to cluster {:16x}", added.id, header.cluster_id)
        }
        Shown::MemberChange { id, change, .. } => {
            let done = match change {
                MemberChange::Removed => "removed from",
                MemberChange::Updated => "updated in",
                MemberChange::Promoted => "promoted in",
            };
            writeln!(out, "Member {id:16x} {done} cluster {:16x}", header.cluster_id)
        }
    }
}

fn show_txn(
    out: &mut Vec<u8>,
    header: &ResponseHeader,
    txn: &TxnResponse,
    style: Style,
) -> io::Result<()> {
    writeln!(out, "{}", if txn.succeeded { "SUCCESS" } else { "FAILURE" })?;
    for op in &txn.responses {
        writeln!(out)?;
        let shown = match op {
            ResponseOp::Range(range) => Shown::Get(range),
            ResponseOp::Put(put) => Shown::Put(put),
            ResponseOp::DeleteRange(delete) => Shown::Del(delete),
            ResponseOp::Txn(txn) => Shown::Txn(txn),
        };
        show(out, header, &shown, style)?;
    }
    Ok(())
}

fn show_kv(out: &mut Vec<u8>, kv: KeyValue<'_>, style: Style) -> io::Result<()> {
    let mut show_bytes = |bytes: &[u8]| {
        if style.hex {
            bytes.iter().try_for_each(|byte| write!(out, "\\x{byte:02x}"))?;
        } else {
            out.write_all(bytes)?;
        }
        writeln!(out)
    };
    if !style.values_only {
        show_bytes(kv.key)?;
    }
    show_bytes(kv.value)
}

fn show_time_to_live(out: &mut Vec<u8>, lease: &LeaseTimeToLive, keys: bool) -> io::Result<()> {
    if lease.granted_ttl_s == 0 && lease.ttl_s == -1 {
        return writeln!(out, "lease {:016x} already expired", lease.id);
    }
    let LeaseTimeToLive { id, ttl_s, granted_ttl_s, .. } = lease;
    write!(out, "lease {id:016x} granted with TTL({granted_ttl_s}s), remaining({ttl_s}s)")?;
    if keys {
        write!(out, ", attached keys([")?;
        for (slot, key) in lease.keys.iter().enumerate() {
            out.write_all(if slot == 0 { b"" } else { b" " })?;
            out.write_all(key)?;
        }
        write!(out, "])")?;
    }
    writeln!(out)
}

/// Bytes in units of a thousand, at most two digits that matter.
pub(super) fn human_size(size_bytes: i64) -> String {
    let units = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    let mut value = size_bytes.max(0) as f64;
    if value < 10.0 {
        return format!("{value} B");
    }
    let mut unit = 0;
    while 1000.0 <= value {
        value /= 1000.0;
        unit += 1;
    }
    let value = (value * 10.0).round() / 10.0;
    let digits = usize::from(value < 10.0);
    format!("{value:.digits$} {}", units[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_as_etcdctl_rounds_them() {
        for (size, text) in [
            (0, "0 B"),
            (9, "9 B"),
            (999, "999 B"),
            (20_480, "20 kB"),
            (16_384, "16 kB"),
            (2_147_483_648, "2.1 GB"),
            (1_500_000, "1.5 MB"),
        ] {
            assert_eq!(human_size(size), text);
        }
    }
}
