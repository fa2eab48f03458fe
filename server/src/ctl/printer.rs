//! Answers on standard output, in the format asked for.

use super::{EXIT_BAD_FEATURE, Failure, fields, json, simple};
use corestone_client::{
    DeleteRangeResponse, Granted, LeaseTimeToLive, MemberStatus, PutResponse, RangeResponse,
    ResponseHeader, TxnResponse, WatchMessage,
};
use std::io::{self, Write};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Simple,
    Json,
    Fields,
}

impl Format {
    pub(super) fn of(name: &str) -> Result<Format, Failure> {
        match name {
            "simple" => Ok(Format::Simple),
            "json" => Ok(Format::Json),
            "fields" => Ok(Format::Fields),
            "table" | "protobuf" => {
                let message = format!("{name} not supported as output format");
                Err(Failure::new(EXIT_BAD_FEATURE, message))
            }
            _ => Err(Failure::new(EXIT_BAD_FEATURE, "unsupported output format")),
        }
    }
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
    Status { endpoint: &'a str, status: &'a MemberStatus },
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
            Format::Json => json::show(&mut text, header, shown)?,
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
