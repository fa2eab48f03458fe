//! The mutants: rules of storage.md, replication.md and etcd, each broken once.
//!
//! A mutant names places by their exact text, which must stand there once, and what they become;
//! `IS` in it stands for whether this mutant is switched on. So the shipped code knows nothing of
//! them, and one build holds all. A mutant that takes the assertion away which guards its rule does
//! so because the checkers have to see the harm as well.
//! Source: issue 5; storage.md; replication.md; fact sheets of scenarios and of semantics.

mod consensus;
mod grpc;
mod loss;
mod members;
mod semantics;
mod storage;

/// One rule broken.
pub struct Mutant {
    /// Its name: what it does instead.
    pub name: &'static str,
    /// The rule it breaks.
    pub rule: &'static str,
    /// Members of the cluster that shows it.
    pub members: usize,
    /// What the seeds that show it dwell on, as on the simulator's command line.
    pub focus: &'static str,
    /// Where it differs.
    pub edits: &'static [Edit],
}

/// A place and what it becomes.
pub struct Edit {
    /// The file, from the root of the repository.
    pub file: &'static str,
    /// What stands there.
    pub find: &'static str,
    /// What it becomes; `IS` stands for whether the mutant is switched on.
    pub becomes: &'static str,
}

/// The part of a list that a mutant with one edit needs.
const fn edit(file: &'static str, find: &'static str, becomes: &'static str) -> Edit {
    Edit { file, find, becomes }
}

/// All of them. Their order is their number.
pub fn all() -> Vec<&'static Mutant> {
    let lists = [
        consensus::MUTANTS,
        storage::MUTANTS,
        loss::MUTANTS,
        members::MUTANTS,
        semantics::MUTANTS,
        grpc::MUTANTS,
    ];
    lists.into_iter().flatten().collect()
}
