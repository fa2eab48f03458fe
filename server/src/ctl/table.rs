//! The table format, and the rows that the simple format shows without its lines.
//!
//! Source: outputs of etcdctl 3.7.1.

use super::printer::{EndpointStatus, Shown};
use super::simple::human_size;
use corestone_client::{ClusterMember, MemberStatus, ResponseHeader};
use std::io::{self, Write};

pub(super) fn show(out: &mut Vec<u8>, shown: &Shown<'_>) -> io::Result<()> {
    match shown {
        Shown::Members(members) => {
            let rows: Vec<_> = members.iter().map(|member| member_row(member).to_vec()).collect();
            draw(out, &MEMBER_COLUMNS, &rows)
        }
        Shown::Statuses(statuses) => {
            let row =
                |one: &EndpointStatus| status_row(&one.endpoint, &one.header, &one.status).to_vec();
            draw(out, &STATUS_COLUMNS, &statuses.iter().map(row).collect::<Vec<_>>())
        }
        Shown::Healths(healths) => {
            let rows = healths.iter().map(|health| {
                let is_healthy = health.is_healthy().to_string();
                let took = format!("{:?}", health.took);
                vec![health.endpoint.clone(), is_healthy, took, health.error.clone()]
            });
            draw(out, &HEALTH_COLUMNS, &rows.collect::<Vec<_>>())
        }
        _ => unreachable!("refused before it was done"),
    }
}

/// A member, column by column.
pub(super) fn member_row(member: &ClusterMember) -> [String; 6] {
    let status = if member.name.is_empty() { "unstarted" } else { "started" };
    [
        format!("{:x}", member.id),
        status.to_owned(),
        member.name.clone(),
        member.peer_urls.join(","),
        member.client_urls.join(","),
        member.is_learner.to_string(),
    ]
}

/// A status, column by column.
pub(super) fn status_row(
    endpoint: &str,
    header: &ResponseHeader,
    status: &MemberStatus,
) -> [String; 16] {
    let (size, in_use) = (status.db_size_bytes, status.db_size_in_use_bytes);
    let not_in_use_percent = if size <= 0 { 0 } else { 100 - in_use.saturating_mul(100) / size };
    let quota = match status.db_size_quota_bytes {
        quota if 0 < quota => human_size(quota),
        _ => String::new(),
    };
    [
        endpoint.to_owned(),
        format!("{:x}", header.member_id),
        status.version.clone(),
        status.storage_version.clone(),
        human_size(size),
        human_size(in_use),
        format!("{not_in_use_percent}%"),
        quota,
        (status.leader == header.member_id).to_string(),
        status.is_learner.to_string(),
        header.raft_term.to_string(),
        status.raft_index.to_string(),
        status.raft_applied_index.to_string(),
        status.errors.join(", "),
        // There is no downgrade to tell of.
        String::new(),
        false.to_string(),
    ]
}

/// Names in the middle of their columns, cells at the right.
fn draw(out: &mut Vec<u8>, columns: &[&str], rows: &[Vec<String>]) -> io::Result<()> {
    let size = |text: &str| text.chars().count();
    let widths: Vec<usize> = (0..columns.len())
        .map(|slot| {
            let cells = rows.iter().map(|row| size(&row[slot]));
            cells.chain([size(columns[slot])]).max().unwrap_or(0)
        })
        .collect();
    let rule = |out: &mut Vec<u8>, [left, middle, right]: [&str; 3]| {
        let lines: Vec<String> = widths.iter().map(|width| "─".repeat(width + 2)).collect();
        writeln!(out, "{left}{}{right}", lines.join(middle))
    };
    rule(out, ["┌", "┬", "┐"])?;
    let names = columns.iter().zip(&widths).map(|(name, width)| format!(" {name:^width$} "));
    writeln!(out, "│{}│", names.collect::<Vec<_>>().join("│"))?;
    rule(out, ["├", "┼", "┤"])?;
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!(" {cell:>width$} "));
        writeln!(out, "│{}│", cells.collect::<Vec<_>>().join("│"))?;
    }
    rule(out, ["└", "┴", "┘"])
}

const MEMBER_COLUMNS: [&str; 6] =
    ["ID", "STATUS", "NAME", "PEER ADDRS", "CLIENT ADDRS", "IS LEARNER"];

const STATUS_COLUMNS: [&str; 16] = [
    "ENDPOINT",
    "ID",
    "VERSION",
    "STORAGE VERSION",
    "DB SIZE",
    "IN USE",
    "PERCENTAGE NOT IN USE",
    "QUOTA",
    "IS LEADER",
    "IS LEARNER",
    "RAFT TERM",
    "RAFT INDEX",
    "RAFT APPLIED INDEX",
    "ERRORS",
    "DOWNGRADE TARGET VERSION",
    "DOWNGRADE ENABLED",
];

const HEALTH_COLUMNS: [&str; 4] = ["ENDPOINT", "HEALTH", "TOOK", "ERROR"];
