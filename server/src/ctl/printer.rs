//! Answers on standard output, in the format asked for.

use super::{EXIT_BAD_FEATURE, Failure, fields, json, simple, table};
use corestone_client::{
    ClusterMember, DeleteRangeResponse, Granted, LeaseTimeToLive, MemberAdded, MemberStatus,
    PutResponse, RangeResponse, ResponseHeader, TxnResponse, WatchMessage,
};
use std::io::{self, Write};
use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Simple,
    Json,
    Fields,
    Table,
}

impl Format {
    pub(super) fn of(name: &str) -> Result<Format, Failure> {
        match name {
            "simple" => Ok(Format::Simple),
            "json" => Ok(Format::Json),
            "fields" => Ok(Format::Fields),
            "table" => Ok(Format::Table),
            "protobuf" => {
                let message = "protobuf not supported as output format";
                Err(Failure::new(EXIT_BAD_FEATURE, message))
            }
            _ => Err(Failure::new(EXIT_BAD_FEATURE, "unsupported output format")),
        }
    }
}

impl Format {
    pub(super) fn name(self) -> &'static str {
        match self {
            Format::Simple => "simple",
            Format::Json => "json",
            Format::Fields => "fields",
            Format::Table => "table",
        }
    }
}

/// An endpoint and what it said of itself.
#[derive(Debug)]
pub(super) struct EndpointStatus {
    pub(super) endpoint: String,
    pub(super) header: ResponseHeader,
    pub(super) status: MemberStatus,
}

/// Whether an endpoint answers.
#[derive(Debug)]
pub(super) struct EndpointHealth {
    pub(super) endpoint: String,
    pub(super) took: Duration,
    /// Why it does not; empty if it does.
    pub(super) error: String,
}

impl EndpointHealth {
    pub(super) fn is_healthy(&self) -> bool {
        self.error.is_empty()
    }
}

/// What was done to a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MemberChange {
    Removed,
    Updated,
    Promoted,
}

/// What can be shown.
pub(super) enum Shown<'a> {
    Put(&'a PutResponse),
    Get(&'a RangeResponse),
    Del(&'a DeleteRangeResponse),
    Txn(&'a TxnResponse),
    Watch(&'a WatchMessage),
    LeaseGrant(Granted),
    LeaseRevoke { id: i64 },
    LeaseKeepAlive(Granted),
    LeaseTimeToLive { lease: &'a LeaseTimeToLive, keys: bool },
    Leases(&'a [i64]),
    Statuses(&'a [EndpointStatus]),
    Healths(&'a [EndpointHealth]),
    Members(&'a [ClusterMember]),
    MemberAdd { added: &'a MemberAdded, is_learner: bool },
    MemberChange { id: u64, change: MemberChange, members: &'a [ClusterMember] },
}

/// How bytes are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Style {
    pub(super) hex: bool,
    pub(super) values_only: bool,
}

pub(super) struct Printer<W: Write> {
    format: Format,
    style: Style,
    out: W,
}

impl<W: Write> Printer<W> {
    pub(super) fn new(format: Format, hex: bool, out: W) -> Printer<W> {
        Printer { format, style: Style { hex, values_only: false }, out }
    }

    pub(super) fn format(&self) -> Format {
        self.format
    }

    pub(super) fn show_values_only(&mut self) {
        self.style.values_only = true;
    }

    /// Shows an answer and makes it visible at once: a watch is read by other programs.
    pub(super) fn show(&mut self, header: &ResponseHeader, shown: &Shown<'_>) -> io::Result<()> {
        let mut text = Vec::new();
        match self.format {
            Format::Simple => simple::show(&mut text, header, shown, self.style)?,
            Format::Json => json::show(&mut text, header, shown, self.style)?,
            Format::Table => table::show(&mut text, shown)?,
            Format::Fields => fields::show(&mut text, header, shown, self.style)?,
        }
        self.out.write_all(&text)?;
        self.out.flush()
    }

    /// Shows a line as it is, whatever the format.
    pub(super) fn show_line(&mut self, line: &str) -> io::Result<()> {
        writeln!(self.out, "{line}")?;
        self.out.flush()
    }
}
