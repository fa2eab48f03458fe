//! Work in counted units, since there is no clock: about one unit a descent of a tree.
//!
//! Invariant: every call that takes a budget does some work, however little is left, so that
//! calling again always comes to an end.

/// What a call may still spend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkBudget {
    units_left: u32,
}

impl WorkBudget {
    /// A budget of so many units.
    pub fn new(units: u32) -> WorkBudget {
        WorkBudget { units_left: units }
    }

    /// More than any work needs.
    pub fn unlimited() -> WorkBudget {
        WorkBudget { units_left: u32::MAX }
    }

    /// Takes `units` away.
    pub fn spend(&mut self, units: u32) {
        if self.units_left != u32::MAX {
            self.units_left = self.units_left.saturating_sub(units);
        }
    }

    /// Whether nothing is left.
    pub fn is_spent(&self) -> bool {
        self.units_left == 0
    }

    /// What is left, in units.
    pub fn units_left(&self) -> u32 {
        self.units_left
    }
}
