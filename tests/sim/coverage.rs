//! What happened in a run, counted: whether seeds get to where bugs may be.
//!
//! Invariant: counting changes nothing of a run; its figures take no part in any verdict.

use std::fmt;

/// Something worth counting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Sight {
    Election,
    Kill,
    PowerCut,
    DiskError,
    DiskFull,
    Checkpoint,
    SegmentRecycled,
    SegmentDeleted,
    HolePunched,
    TransferBegun,
    TransferInterrupted,
    Install,
    LogMended,
    FrameRotten,
    PageRotten,
    PageRepaired,
    WriteLost,
    WriteMisdirected,
    PageUnreadable,
    FrameUnreadable,
    SideUnreadable,
    StateGiven,
    MemberLost,
    VoterAdded,
    LearnerAdded,
    LearnerPromoted,
    MemberRemoved,
    LeaderRemoved,
    RemovedEnded,
    ChangeRefused,
    DirectoryWiped,
    BirthRefused,
    PeersPortAsked,
    Crossing,
    GrpcCall,
    GrpcWatch,
    CallAbandoned,
    DeadlinePassed,
}

/// Their names, in the same order.
const NAMES: [&str; 38] = [
    "elections",
    "kills",
    "power cuts",
    "disk errors",
    "disks full",
    "checkpoints",
    "segments recycled",
    "segments deleted",
    "holes punched",
    "state transfers begun",
    "state transfers interrupted",
    "states installed",
    "logs mended",
    "frames rotten",
    "pages rotten",
    "pages repaired",
    "writes lost",
    "writes misdirected",
    "pages unreadable",
    "frames unreadable",
    "side files unreadable",
    "starts from another's state",
    "members lost with their frames",
    "voters added",
    "learners added",
    "learners promoted",
    "members removed",
    "of them leaders",
    "removed processes ended",
    "changes of members refused",
    "directories wiped",
    "second births refused",
    "lists asked of peer ports",
    "messages between cores",
    "calls over gRPC",
    "watches over gRPC",
    "calls given up",
    "time limits passed",
];

/// How often each was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Coverage {
    counts: [u64; NAMES.len()],
}

impl Default for Coverage {
    fn default() -> Coverage {
        Coverage { counts: [0; NAMES.len()] }
    }
}

impl Coverage {
    /// It happened once more.
    pub fn add(&mut self, sight: Sight) {
        self.counts[sight as usize] += 1;
    }

    /// How often it happened.
    pub fn count(&self, sight: Sight) -> u64 {
        self.counts[sight as usize]
    }

    /// What a line of a member's log says of it.
    pub fn on_log(&mut self, message: &str, fields: &[(&'static str, String)]) {
        let leads = || fields.iter().any(|(name, value)| *name == "role" && value == "\"Leader\"");
        match message {
            "role changed" if leads() => self.add(Sight::Election),
            "fetching the state of the cluster from a member" => self.add(Sight::TransferBegun),
            "fetching the state of the cluster was interrupted" => {
                self.add(Sight::TransferInterrupted);
            }
            "installed the state of the cluster" => self.add(Sight::Install),
            "a broken page was repaired from another member" => self.add(Sight::PageRepaired),
            "refused a peer's connection"
                if fields.iter().any(|(_, value)| value == "\"Birth\"") =>
            {
                self.add(Sight::BirthRefused);
            }
            "the WAL is mended" => self.add(Sight::LogMended),
            "the member starts from the state of another one" => self.add(Sight::StateGiven),
            _ => {}
        }
    }

    /// Another run's counts are added.
    pub fn merge(&mut self, other: &Coverage) {
        for (count, more) in self.counts.iter_mut().zip(other.counts) {
            *count += more;
        }
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (slot, (name, count)) in NAMES.iter().zip(self.counts).enumerate() {
            let comma = if slot == 0 { "" } else { ", " };
            write!(f, "{comma}{count} {name}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_stand_under_their_names() {
        let mut coverage = Coverage::default();
        coverage.add(Sight::LogMended);
        coverage.on_log("role changed", &[("role", "\"Leader\"".to_string())]);
        coverage.on_log("role changed", &[("role", "\"Follower\"".to_string())]);
        let mut sum = coverage;
        sum.merge(&coverage);
        assert_eq!((sum.count(Sight::Election), sum.count(Sight::LogMended)), (2, 2));
        let text = sum.to_string();
        assert!(
            text.starts_with("2 elections, 0 ") && text.contains(", 2 logs mended, "),
            "{text}"
        );
    }
}
