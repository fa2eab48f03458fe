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
    (Excuse::Rot, "a broken page was repaired from another member"),
    (Excuse::Rot, "the member starts from the state of another one"),
    // Whether it is served in the end is for others to judge.
    (Excuse::Rot, "no entry is applied: a broken page was found on no other member"),
    (Excuse::Rot, "a broken page was found on no other member"),
];

/// What may excuse a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Excuse {
    /// Bytes vanish in the middle of a connection.
    LostBytes,
    /// Bits change on a disk.
    Rot,
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
    if level == LogLevel::Warn && expected.iter().any(is_excused) {
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
        judge(LogLevel::Error, "peer 2 is gone", &[Excuse::LostBytes]).expect_err("an error");
    }
}
