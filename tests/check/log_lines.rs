//! No WARN or ERROR line that nobody expects: each means that a human has to look.
//!
//! Source: style.md section 5.4; issue 5.

use shard::effect::LogLevel;

use super::history::Complaint;

const CHECK: &str = "log lines";

/// Lines that faults of a run may cause: the fault that excuses them, and how they begin.
const EXPECTED: &[(Excuse, &str)] = &[
    (Excuse::LostBytes, "closing a peer's connection: what came is not the protocol"),
    (Excuse::Rot, "the WAL is damaged"),
    (Excuse::Rot, "a page that the start needs is broken"),
    (Excuse::Rot, "the store is lost"),
    (Excuse::Rot, "a broken page was repaired from another member"),
    (Excuse::Rot, "the member starts from the state of another one"),
    (Excuse::Rot, "the installed state cannot be opened: copying it again"),
    // Whether it is served in the end is for others to judge.
    (Excuse::Rot, "no entry is applied: a broken page was found on no other member"),
    (Excuse::Rot, "a broken page was found on no other member"),
    (Excuse::Rot, "watches that are behind are not served"),
    (Excuse::Turnover, "the member has been permanently removed from the cluster"),
];

/// Who was removed, whose directory was wiped, who is dialed at the address of either, and a hello
/// that was on its way when its sender was started again, are turned away for these reasons and no
/// other.
const TURNED_AWAY: &[&str] = &[
    "refused a peer's connection",
    "a peer refused the connection",
    "a peer's answer is another's",
];
const REASONS: &[(Excuse, &str)] = &[
    (Excuse::Turnover, "\"Removed"),
    (Excuse::Turnover, "\"Birth"),
    (Excuse::Turnover, "\"NotMe"),
    (Excuse::LateHello, "\"Incarnation"),
];

/// What may excuse a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Excuse {
    /// Bytes vanish in the middle of a connection.
    LostBytes,
    /// Bits change on a disk.
    Rot,
    /// Members come and go.
    Turnover,
    /// The sender of a hello was started again while it was on its way.
    LateHello,
}

/// Judges one line.
///
/// # Errors
/// It is a warning or worse that no fault of the run excuses.
pub fn check(
    member: u64,
    level: LogLevel,
    message: &str,
    fields: &[(&'static str, String)],
    excuses: &[Excuse],
) -> Result<(), Complaint> {
    check_with(EXPECTED, member, level, (message, fields), excuses)
}

fn check_with(
    expected: &[(Excuse, &str)],
    member: u64,
    level: LogLevel,
    (message, fields): (&str, &[(&'static str, String)]),
    excuses: &[Excuse],
) -> Result<(), Complaint> {
    if level < LogLevel::Warn {
        return Ok(());
    }
    let is_excused = |(excuse, beginning): &(Excuse, &str)| {
        excuses.contains(excuse) && message.starts_with(beginning)
    };
    let is_turned_away = TURNED_AWAY.iter().any(|beginning| message.starts_with(beginning))
        && REASONS.iter().any(|(excuse, reason)| {
            excuses.contains(excuse) && fields.iter().any(|(_, value)| value.starts_with(reason))
        });
    if level == LogLevel::Warn && (is_turned_away || expected.iter().any(is_excused)) {
        return Ok(());
    }
    Err(Complaint::new(CHECK, format!("member {member}: {level:?} {message} {fields:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unexpected_lines_are_complained_about() {
        let expected = [(Excuse::LostBytes, "peer ")];
        let judge = |level, message: &str, excuses: &[Excuse]| {
            check_with(&expected, 1, level, (message, &[]), excuses)
        };
        judge(LogLevel::Info, "anything", &[]).expect("no complaint");
        judge(LogLevel::Warn, "anything", &[Excuse::LostBytes]).expect_err("unexpected");
        judge(LogLevel::Warn, "peer 2 is gone", &[Excuse::LostBytes]).expect("excused");
        judge(LogLevel::Warn, "peer 2 is gone", &[]).expect_err("nothing excuses it");
        let turned_away = |reason: &str| {
            let fields = [("reason", reason.to_string())];
            let line = ("refused a peer's connection", &fields[..]);
            check_with(&[], 1, LogLevel::Warn, line, &[Excuse::Turnover])
        };
        turned_away("\"Removed\"").expect("excused");
        turned_away("\"Cluster { cluster_id: 3 }\"").expect_err("no reason");
        judge(LogLevel::Error, "peer 2 is gone", &[Excuse::LostBytes]).expect_err("an error");
    }
}
