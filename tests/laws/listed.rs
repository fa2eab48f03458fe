//! docs/laws.md keeps its word: every rule has its line, every test that a line names exists.

use std::fs;
use std::path::Path;

const LAWS: &str = include_str!("../../docs/laws.md");

/// The pages, their sections, and how many rules each has.
const PAGES: [(&str, &[(&str, usize)]); 3] = [
    (
        "Replication",
        &[
            ("leaves", 5),
            ("reads", 3),
            ("proposals", 4),
            ("elections", 3),
            ("membership", 6),
            ("damage", 3),
            ("cores", 1),
        ],
    ),
    (
        "Storage",
        &[
            ("wal", 8),
            ("pages", 8),
            ("map", 4),
            ("versions", 6),
            ("long", 4),
            ("transfer", 2),
            ("simulator", 1),
        ],
    ),
    (
        "Runtime",
        &[("step", 2), ("cores", 3), ("uring", 2), ("portable", 3), ("memory", 2), ("standing", 4)],
    ),
];

/// Fewer would mean that the search below no longer finds the names.
const NAMES_COUNT_MIN: usize = 80;

/// The lines of a page: (rule, tests).
fn lines(page: &str) -> Vec<(&'static str, &'static str)> {
    let start = LAWS.find(&format!("\n## {page}\n")).expect("the page is there");
    let page = LAWS[start + 4..].split("\n## ").next().unwrap_or_default();
    let cells = page.lines().filter(|line| line.starts_with("| ")).skip(1);
    let cells = cells.map(|line| {
        let cells: Vec<&str> = line.split(" | ").collect();
        let [rule, _, tests] = cells[..] else { panic!("not three cells: {line}") };
        (rule.trim_start_matches("| "), tests.trim_end_matches(" |"))
    });
    cells.collect()
}

#[test]
fn every_rule_has_one_line_with_tests_or_a_reason() {
    for (page, sections) in PAGES {
        let lines = lines(page);
        let rules = sections.iter().flat_map(|(section, count)| {
            (1..=*count).map(move |number| format!("{section} {number}"))
        });
        let rules: Vec<String> = rules.collect();
        let listed: Vec<&str> = lines.iter().map(|(rule, _)| *rule).collect();
        assert_eq!(listed, rules, "{page}");
        for (rule, tests) in lines {
            let reasons = ["not built yet: ", "decided: ", "measured, not tested: "];
            let has_reason = reasons.iter().any(|reason| tests.starts_with(reason));
            assert!(tests.contains("::") || has_reason, "{page} {rule}: {tests}");
        }
    }
}

/// Whether a file has a test of that name, or of that beginning if it ends in a star. Suites that
/// run on several programs list their tests in a macro.
fn has_test(file: &str, name: &str) -> bool {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let Ok(text) = fs::read_to_string(root.join(file)) else { return false };
    let wanted = match name.strip_suffix('*') {
        Some(beginning) => format!("fn {beginning}"),
        None => format!("fn {name}("),
    };
    let is_list = text.contains("macro_rules!") && text.contains("#[test]");
    let is_suite = is_list || text.contains("\non_both_drivers! {");
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let places = lines.iter().enumerate().filter(|(_, line)| line.starts_with(&wanted));
    let mut places = places.map(|(number, _)| number);
    places.any(|number| is_suite || number.checked_sub(1).is_some_and(|it| lines[it] == "#[test]"))
}

#[test]
fn every_test_that_is_named_exists() {
    let named = LAWS.split('`').filter_map(|quoted| quoted.split_once("::"));
    let named: Vec<_> = named.filter(|(file, _)| file.ends_with(".rs")).collect();
    assert!(NAMES_COUNT_MIN <= named.len(), "only {} names were found", named.len());
    let missing: Vec<_> = named.iter().filter(|(file, name)| !has_test(file, name)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn every_test_here_is_named() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("laws");
    for file in fs::read_dir(folder).expect("it is there") {
        let path = file.expect("it is there").path();
        let text = fs::read_to_string(&path).expect("it is text");
        let file = path.file_name().and_then(|name| name.to_str()).expect("it has a name");
        for line in text.lines().map(str::trim) {
            let Some(name) = line.strip_prefix("fn ").and_then(|rest| rest.split('(').next())
            else {
                continue;
            };
            let pages = ["replication_", "storage_", "runtime_"];
            if !pages.iter().any(|page| name.starts_with(page)) {
                continue;
            }
            let is_named = LAWS.split('`').any(|quoted| {
                let Some((known, named)) = quoted.split_once("::") else { return false };
                let covers = |beginning: &str| name.starts_with(beginning);
                known == format!("tests/laws/{file}")
                    && (named == name || named.strip_suffix('*').is_some_and(covers))
            });
            assert!(is_named, "{file}: {name}");
        }
    }
}
