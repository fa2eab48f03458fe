//! Which core does what: a process inherits the mask of the thread that starts it, so that a
//! member is on its core before it starts a thread of its own.

use crate::error::{BenchError, io_error};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::sync::OnceLock;

/// The cores that this process may use, and how they are shared out.
#[derive(Clone, Debug)]
pub struct Cores {
    allowed: Vec<usize>,
}

impl Cores {
    /// What the first thread that asked was allowed: threads narrow their own mask later.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn allowed() -> Result<Cores, BenchError> {
        static ALLOWED: OnceLock<Vec<usize>> = OnceLock::new();
        if let Some(allowed) = ALLOWED.get() {
            return Ok(Cores { allowed: allowed.clone() });
        }
        let set = sched_getaffinity(None).map_err(io_error("reading the affinity mask"))?;
        let allowed: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|core| set.is_set(*core)).collect();
        assert!(!allowed.is_empty(), "a running thread has a core");
        Ok(Cores { allowed: ALLOWED.get_or_init(|| allowed).clone() })
    }

    /// The first `count` cores: the member's. All of them if `count` is 0.
    pub fn of_member(&self, count: usize) -> &[usize] {
        let count = if count == 0 { self.allowed.len() } else { count.min(self.allowed.len()) };
        &self.allowed[..count]
    }

    /// The rest, which the load runs on; the last core if there is no rest.
    pub fn of_load(&self, member_count: usize) -> &[usize] {
        let member_count = self.of_member(member_count).len();
        let begin = member_count.min(self.allowed.len() - 1);
        &self.allowed[begin..]
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.allowed.len()
    }
}

/// Moves the calling thread, and what it starts from now on, to these cores.
///
/// # Errors
/// When the system refuses.
pub fn pin_to(cores: &[usize]) -> Result<(), BenchError> {
    let mut set = CpuSet::new();
    for core in cores {
        set.set(*core);
    }
    sched_setaffinity(None, &set).map_err(io_error("setting the affinity mask"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn member_and_load_share_a_core_only_if_there_is_no_other() {
        let cores = Cores { allowed: vec![2, 5, 7] };
        assert_eq!((cores.of_member(1), cores.of_load(1)), (&[2][..], &[5, 7][..]));
        assert_eq!((cores.of_member(0), cores.of_load(0)), (&[2, 5, 7][..], &[7][..]));
        let one = Cores { allowed: vec![3] };
        assert_eq!((one.of_member(1), one.of_load(1)), (&[3][..], &[3][..]));
    }
}
