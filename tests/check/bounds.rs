//! Queues and buffers stay within their bounds.
//!
//! What a world sees of them: bytes that a member wants sent and the other side does not take,
//! effects of one step, WAL writes in flight, and steps without time passing.
//! Source: architecture.md section 9; shard/src/limits.rs, net/src/wire/limits.rs.

use super::history::Complaint;

const CHECK: &str = "bounds";

/// Bytes of a connection that were transmitted and not taken: the shard's bound, and one answer
/// that may pass it whole.
pub const UNSENT_BYTES_MAX: usize = shard::limits::UNSENT_BYTES_MAX + (16 << 20);
/// WAL writes in flight.
pub const WAL_WRITES_MAX: usize = 1;
/// Effects of a step: a bounded number of calls, each with a bounded number of consequences.
pub const EFFECTS_MAX: usize = 4 * shard::limits::STEP_CALLS_MAX;
/// Steps that ask for another one at once.
pub const STEPS_AT_ONCE_MAX: usize = 20_000;

/// Something that has a bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Bound {
    UnsentBytes,
    WalWrites,
    Effects,
    StepsAtOnce,
}

/// Judges one figure of one member.
///
/// # Errors
/// It is above its bound.
pub fn check(member: u64, bound: Bound, value: usize) -> Result<(), Complaint> {
    let max = match bound {
        Bound::UnsentBytes => UNSENT_BYTES_MAX,
        Bound::WalWrites => WAL_WRITES_MAX,
        Bound::Effects => EFFECTS_MAX,
        Bound::StepsAtOnce => STEPS_AT_ONCE_MAX,
    };
    if max < value {
        let what = format!("member {member}: {bound:?} is {value}, at most {max} is allowed");
        return Err(Complaint::new(CHECK, what));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_above_its_bound_is_complained_about() {
        check(1, Bound::WalWrites, 1).expect("allowed");
        check(1, Bound::WalWrites, 2).expect_err("two");
        check(1, Bound::UnsentBytes, UNSENT_BYTES_MAX + 1).expect_err("too much");
        check(1, Bound::Effects, EFFECTS_MAX + 1).expect_err("too many");
        check(1, Bound::StepsAtOnce, STEPS_AT_ONCE_MAX + 1).expect_err("a loop");
    }
}
