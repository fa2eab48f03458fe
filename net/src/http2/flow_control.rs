//! Flow control of what is received, the core's input budget behind it, and the budget that cheap
//! frames spend.
//!
//! Invariant of a receive window: `available + held <= base + reserved` whenever credit was just
//! given: what the peer may send and what it made us hold never exceed what was promised.
//! So an unfinished message larger than the base stalls until the core grants it in full, and a
//! message that was granted can always be completed.
//! Source: RFC 9113 section 5.2; runtime page, "Memory and back pressure"; gRPC page, "Bounds".

use super::application::InputPurpose;
use super::frame::{ConnectionError, ErrorCode};
use super::limits::{BUDGET_MAX, WINDOW_BYTES_MAX};

/// What the peer may send on a stream, or on the connection. All in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReceiveWindow {
    available: i64,
    base: i64,
    reserved: i64,
    held: i64,
    /// The part of `held` that belongs to messages without a grant.
    held_ungranted: i64,
}

impl ReceiveWindow {
    /// A window of which the peer knows `available_bytes`, to become `base_bytes`.
    pub fn new(available_bytes: i64, base_bytes: i64) -> ReceiveWindow {
        assert!(available_bytes <= WINDOW_BYTES_MAX);
        ReceiveWindow { available: available_bytes, base: base_bytes, ..ReceiveWindow::default() }
    }

    /// The peer sent `size_bytes`; false when it had no right to.
    pub fn consume(&mut self, size_bytes: i64) -> bool {
        self.available -= size_bytes;
        0 <= self.available
    }

    /// Bytes just consumed stay in memory, as part of a message without a grant.
    pub fn hold(&mut self, size_bytes: usize) {
        self.held += size_bytes as i64;
        self.held_ungranted += size_bytes as i64;
    }

    /// Bytes just consumed stay in memory, as part of a message with a grant.
    pub fn hold_granted(&mut self, size_bytes: usize) {
        self.held += size_bytes as i64;
        assert!(0 < self.reserved);
    }

    /// Bytes held without a grant are gone from memory.
    pub fn unhold(&mut self, size_bytes: usize) {
        self.held -= size_bytes as i64;
        self.held_ungranted -= size_bytes as i64;
        assert!(0 <= self.held_ungranted && self.held_ungranted <= self.held);
    }

    /// The core granted `size_bytes` to a message of which `held_bytes` are here already.
    pub fn grant(&mut self, size_bytes: usize, held_bytes: usize) {
        self.reserved += size_bytes as i64;
        self.held_ungranted -= held_bytes as i64;
        assert!(0 <= self.held_ungranted);
    }

    /// A message with a grant of `size_bytes` is gone from memory, with the `held_bytes` of it.
    pub fn revoke(&mut self, size_bytes: usize, held_bytes: usize) {
        self.reserved -= size_bytes as i64;
        self.held -= held_bytes as i64;
        assert!(0 <= self.reserved && self.held_ungranted <= self.held);
    }

    /// Messages without a grant fill half the base: it is time to ask for grants.
    pub fn is_strained(&self) -> bool {
        self.base / 2 <= self.held_ungranted
    }

    /// Whether messages with a grant cannot go on since those without have used up the window.
    pub fn is_blocked(&self) -> bool {
        0 < self.reserved && self.available < self.base / 4
    }

    /// Takes the credit due, if it is worth a frame: 0, or the increment to send. When little is
    /// left to the peer anything is worth one: those with a grant must be able to go on.
    pub fn take_credit(&mut self) -> i64 {
        let target = (self.base + self.reserved).min(WINDOW_BYTES_MAX);
        let due = target - self.available - self.held;
        let is_scarce = self.available < self.base / 4;
        if due <= 0 || (due < self.base / 2 && !is_scarce) {
            return 0;
        }
        self.available += due;
        assert!(self.available <= WINDOW_BYTES_MAX);
        due
    }

    /// What the peer may still send.
    pub fn available_bytes(&self) -> i64 {
        self.available
    }

    /// What is in memory of it.
    pub fn held_bytes(&self) -> i64 {
        self.held
    }

    /// The window without grants.
    pub fn base_bytes(&self) -> i64 {
        self.base
    }

    /// Changes the base; a smaller one takes effect as the peer uses up what it has.
    pub fn set_base(&mut self, base_bytes: i64) {
        assert!(0 < base_bytes && base_bytes <= WINDOW_BYTES_MAX);
        self.base = base_bytes;
    }
}

/// What all connections of a core may hold of unfinished messages and promise in wide windows.
///
/// Wide windows take at most half of it, so that messages always find some.
#[derive(Debug)]
pub struct InputBudget {
    size_bytes: usize,
    used_bytes: usize,
}

impl InputBudget {
    /// A budget of `size_bytes`, nothing used.
    pub fn new(size_bytes: usize) -> InputBudget {
        InputBudget { size_bytes, used_bytes: 0 }
    }

    /// Takes `size_bytes`; false when there is not enough left for this purpose.
    pub fn reserve(&mut self, size_bytes: usize, purpose: InputPurpose) -> bool {
        let bound = match purpose {
            InputPurpose::Message => self.size_bytes,
            InputPurpose::Window => self.size_bytes / 2,
        };
        let used_bytes = self.used_bytes.saturating_add(size_bytes);
        if bound < used_bytes {
            return false;
        }
        self.used_bytes = used_bytes;
        true
    }

    /// Gives back what was reserved.
    pub fn release(&mut self, size_bytes: usize) {
        assert!(size_bytes <= self.used_bytes);
        self.used_bytes -= size_bytes;
    }

    /// Bytes reserved now.
    pub fn used_bytes(&self) -> usize {
        self.used_bytes
    }
}

/// What the peer may spend on frames that cost it nothing.
#[derive(Debug)]
pub struct FrameBudget {
    left: i32,
}

impl FrameBudget {
    /// A full budget.
    pub fn new() -> FrameBudget {
        FrameBudget { left: BUDGET_MAX }
    }

    /// Pays for a frame; the connection ends when the budget is overdrawn.
    pub fn spend(&mut self, cost: i32) -> Result<(), ConnectionError> {
        assert!(0 <= cost);
        self.left -= cost;
        if self.left < 0 {
            let text = "too many frames that do nothing";
            return Err(ConnectionError::new(ErrorCode::EnhanceYourCalm, text));
        }
        Ok(())
    }

    /// Real work, or time, earns some back.
    pub fn earn(&mut self, count: u64) {
        let count = i32::try_from(count).unwrap_or(BUDGET_MAX);
        self.left = self.left.saturating_add(count).min(BUDGET_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn consumed_bytes_come_back_when_half_the_base_is_due() {
        let mut window = ReceiveWindow::new(1000, 1000);
        assert!(window.consume(499));
        assert_eq!(window.take_credit(), 0);
        assert!(window.consume(1));
        assert_eq!(window.take_credit(), 500);
        assert!(!window.consume(1001));
    }

    #[test]
    fn held_bytes_are_not_credited_until_granted() {
        let mut window = ReceiveWindow::new(1000, 1000);
        assert!(window.consume(1000));
        window.hold(1000);
        assert!(window.is_strained());
        assert_eq!(window.take_credit(), 0);
        window.grant(3000, 1000);
        assert!(!window.is_strained());
        assert_eq!(window.take_credit(), 3000);
        assert!(window.consume(2000));
        window.hold_granted(2000);
        window.revoke(3000, 3000);
        assert_eq!(window.take_credit(), 0, "exactly the base is left");
        assert_eq!(window.available_bytes(), 1000);
    }

    #[test]
    fn a_smaller_base_waits_for_the_peer() {
        let mut window = ReceiveWindow::new(4000, 4000);
        window.set_base(1000);
        assert!(window.consume(3000));
        assert_eq!(window.take_credit(), 0);
        assert!(window.consume(500));
        assert_eq!(window.take_credit(), 500);
    }

    #[test]
    fn windows_leave_half_of_the_budget_to_messages() {
        let mut budget = InputBudget::new(100);
        assert!(budget.reserve(50, InputPurpose::Window));
        assert!(!budget.reserve(1, InputPurpose::Window));
        assert!(budget.reserve(50, InputPurpose::Message));
        assert!(!budget.reserve(1, InputPurpose::Message));
        budget.release(100);
        assert_eq!(budget.used_bytes(), 0);
    }

    #[test]
    fn the_frame_budget_ends_below_zero_and_never_exceeds_its_size() {
        let mut budget = FrameBudget::new();
        budget.earn(1 << 40);
        assert_eq!(budget.spend(BUDGET_MAX), Ok(()));
        assert!(budget.spend(1).is_err());
    }
}
