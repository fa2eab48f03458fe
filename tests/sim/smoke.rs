//! Seeds that every change runs, each twice: nothing is wrong, and both runs are the same run.

use tests::sim::plan::Plan;
use tests::sim::run::run;
use tests::sim::trace::Level;

fn smoke(members: usize, seeds: std::ops::Range<u64>) {
    for seed in seeds {
        let again =
            format!("cargo run --release -p tests --bin sim -- --seed {seed} --members {members}");
        let report = run(Plan::draw(seed, members), Level::Silent, false);
        assert_eq!(report.complaint, None, "{again}");
        let second = run(Plan::draw(seed, members), Level::Silent, false);
        assert_eq!(report.trace_hash, second.trace_hash, "two runs of a seed differ: {again}");
    }
}

#[test]
fn seeds_of_one_member() {
    smoke(1, 0..20);
}

#[test]
fn seeds_of_three_members() {
    smoke(3, 0..24);
}
