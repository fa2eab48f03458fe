//! Several members of one cluster as processes.
//!
//! Invariant: every member is told of all others by the peer URL it really has; what is started is
//! waited for, with a bound.

use super::{Member, Program, StartError};

/// Members by the order in which they came; a removed one stays in its place, stopped.
pub struct Cluster {
    program: Program,
    flags: Vec<String>,
    members: Vec<Member>,
}

impl Cluster {
    /// Founds a cluster of `size` members, each with `flags`, and waits until all of them serve.
    ///
    /// # Panics
    /// When they do not in time.
    pub fn start(program: &Program, size: usize, flags: &[&str]) -> Cluster {
        for _ in 0..PORT_ATTEMPTS_MAX {
            let mut cluster = Cluster::unstarted(program, size, flags);
            match cluster.found() {
                Ok(()) => return cluster,
                // Somebody took a port between our look at it and the member's.
                Err(StartError::Ended(log)) if log.contains("in use") => {}
                Err(error) => panic!("{program:?} did not found a cluster: {error:?}"),
            }
        }
        panic!("no ports stayed free");
    }

    /// Its members, with a place each and no process yet: the test changes what it wants and then
    /// founds the cluster.
    pub fn unstarted(program: &Program, size: usize, flags: &[&str]) -> Cluster {
        let members = (0..size).map(|index| {
            let mut member = Member::unstarted(program, flags);
            member.change_name(&format!("m{index}"));
            member
        });
        let flags: Vec<String> = flags.iter().map(|&flag| flag.to_owned()).collect();
        Cluster { program: program.clone(), flags, members: members.collect() }
    }

    /// Before [`Cluster::found`]: all data directories lie in memory ([`Member::keep_in_memory`]).
    pub fn keep_in_memory(&mut self) {
        self.members.iter_mut().for_each(Member::keep_in_memory);
    }

    /// Starts all members for the first time, and waits until they serve.
    ///
    /// # Errors
    /// When one ends, or is not ready in time.
    pub fn found(&mut self) -> Result<(), StartError> {
        let initial_cluster = initial_cluster(self.members.iter());
        for member in &mut self.members {
            member.change_cluster(&initial_cluster, false);
            member.spawn();
        }
        self.members.iter_mut().try_for_each(Member::wait_until_ready)
    }

    /// A process with an empty data directory that joins; `others` are the members it is told of.
    /// The cluster must have been asked to add its peer URL. Answers its number, without waiting.
    pub fn join(&mut self, others: &[usize], mut joiner: Member) -> usize {
        let others = others.iter().map(|&other| &self.members[other]);
        let told = initial_cluster(others.chain(std::iter::once(&joiner)));
        joiner.change_cluster(&told, true);
        joiner.spawn();
        self.members.push(joiner);
        self.members.len() - 1
    }

    /// A member that is not part of the cluster yet: with a place, without a process.
    pub fn candidate(&self) -> Member {
        let flags: Vec<&str> = self.flags.iter().map(String::as_str).collect();
        let mut member = Member::unstarted(&self.program, &flags);
        member.change_name(&format!("m{}", self.members.len()));
        member
    }

    /// The members, removed ones too.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// One member.
    ///
    /// # Panics
    /// When there never was one with this number.
    pub fn member(&mut self, number: usize) -> &mut Member {
        &mut self.members[number]
    }

    /// Where clients connect to a member.
    ///
    /// # Panics
    /// As [`Cluster::member`].
    pub fn client_url(&self, number: usize) -> String {
        self.members[number].client_url()
    }

    /// How many there are, removed ones too.
    pub fn size(&self) -> usize {
        self.members.len()
    }
}

/// The flag's value for these members.
fn initial_cluster<'a>(members: impl Iterator<Item = &'a Member>) -> String {
    members.map(Member::in_initial_cluster).collect::<Vec<_>>().join(",")
}

/// Tries to find ports that stay free until they are bound.
const PORT_ATTEMPTS_MAX: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::IoDriver;

    #[test]
    fn every_member_is_told_of_all() {
        let program = Program::Corestone(IoDriver::Portable);
        let cluster = Cluster::unstarted(&program, 3, &[]);
        let text = initial_cluster(cluster.members.iter());
        for member in cluster.members() {
            assert!(text.contains(&format!("{}={}", member.name(), member.peer_url())), "{text}");
        }
        assert_eq!(text.matches("http://").count(), 3);
        assert_eq!(cluster.candidate().name(), "m3");
    }
}
