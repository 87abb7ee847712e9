//! Whether the tests that `SECURITY.md` names, as what shows that a threat is met, are there.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, and its name says what it is about"
)]

use std::fs;

const DOCUMENT: &str = include_str!("../SECURITY.md");

/// The names of tests in it, each as its file and its function.
fn named() -> Vec<(String, &'static str)> {
    let threats = DOCUMENT.split_once("\n## Threats\n").unwrap().1;
    let rows = threats.lines().filter(|line| line.starts_with("| "));
    let code = rows.flat_map(|row| row.split('`').skip(1).step_by(2));
    code.filter_map(|name| name.split_once("::"))
        .map(|(place, test)| {
            let file = if place.contains(".rs") {
                place.to_owned()
            } else {
                format!("tests/integration/{place}.rs")
            };
            (file, test)
        })
        .collect()
}

#[test]
fn every_test_that_it_names_is_there() {
    let root = env!("CARGO_MANIFEST_DIR");
    let named = named();
    assert!(!named.is_empty());
    let missing: Vec<_> = named
        .iter()
        .filter(|(file, test)| {
            let text = fs::read_to_string(format!("{root}/{file}")).unwrap_or_default();
            !text.contains(&format!("fn {test}("))
        })
        .collect();
    assert!(missing.is_empty(), "{missing:#?}");
}

/// What remains may be a setting of yours, but there is no threat without a word on what prevents it.
#[test]
fn every_threat_has_a_test_or_says_that_nothing_prevents_it() {
    let threats = DOCUMENT.split_once("\n## Threats\n").unwrap().1;
    let rows = threats.lines().filter(|line| line.starts_with("| "));
    let bare: Vec<_> = rows
        .filter(|row| !row.starts_with("| threat |"))
        .filter(|row| !row.contains("::") && !row.contains("| nothing"))
        .collect();
    assert!(bare.is_empty(), "{bare:#?}");
}
