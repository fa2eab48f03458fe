//! The README maps every scenario and rule to its tests: this keeps the map true.

/// Each test file by the name under which the README knows it.
const FILES: [(&str, &str); 13] = [
    ("contract", include_str!("contract.rs")),
    ("elections", include_str!("elections.rs")),
    ("membership", include_str!("membership.rs")),
    ("quorum", include_str!("quorum.rs")),
    ("reads", include_str!("reads.rs")),
    ("replication", include_str!("replication.rs")),
    ("safety", include_str!("safety.rs")),
    ("single_voter", include_str!("single_voter.rs")),
    ("snapshots", include_str!("snapshots.rs")),
    ("transfer", include_str!("transfer.rs")),
    ("src/log_test", include_str!("../src/log_test.rs")),
    ("src/progress_test", include_str!("../src/progress_test.rs")),
    ("src/unstable", include_str!("../src/unstable.rs")),
];

const README: &str = include_str!("../README.md");

/// Fewer would mean that the search below no longer finds the names.
const NAMES_COUNT_MIN: usize = 160;

/// Whether that file has a test of that name, or of that beginning if it ends in a star.
fn has_test(file: &str, name: &str) -> bool {
    let text = FILES.iter().find(|(known, _)| *known == file).map_or("", |(_, text)| text);
    let wanted = match name.strip_suffix('*') {
        Some(beginning) => format!("\nfn {beginning}"),
        None => format!("\nfn {name}()"),
    };
    text.replace("\n    fn ", "\nfn ").contains(&wanted)
}

#[test]
fn every_test_named_in_the_readme_exists() {
    let named = README.split('`').filter_map(|quoted| quoted.split_once("::"));
    // Types and text between two names are no files.
    let is_file = |file: &str| {
        file.chars().all(|letter| "/_".contains(letter) || letter.is_ascii_lowercase())
    };
    let named: Vec<_> = named.filter(|(file, _)| is_file(file)).collect();
    assert!(NAMES_COUNT_MIN <= named.len(), "only {} names were found", named.len());
    for (file, name) in named {
        assert!(has_test(file, name), "{file}::{name}");
    }
}

#[test]
fn every_scenario_has_a_line_and_every_numbered_test_is_named() {
    for number in 1..=102 {
        let start = format!("\n| {number} | ");
        assert!(README.contains(&start), "scenario {number}");
    }
    for (file, text) in FILES {
        for line in text.lines().filter(|line| line.starts_with("fn s")) {
            let name = line.trim_start_matches("fn ").split('(').next().unwrap_or_default();
            let is_numbered = name.as_bytes().get(1).is_some_and(u8::is_ascii_digit);
            assert!(!is_numbered || README.contains(&format!("`{file}::{name}`")), "{name}");
        }
    }
}
