//! The alerts, under promtool: each fires on what it is about and on nothing less, and is over when that is.

use std::{collections::BTreeSet, process::Command};

use serde_json::Value;

use super::shipped_rules;
use crate::support::monitoring_tool;

const FILE: &str = include_str!("../../../charts/tokenward/files/alerts.yaml");
const TESTS: &str = include_str!("../../monitoring/alerts.yaml");
const OPERATE: &str = include_str!("../../../docs/operate.md");

/// The names of the alerts.
fn names(rules: &Value) -> Vec<&str> {
    let rules = rules["groups"][0]["rules"].as_array().unwrap().iter();
    rules.map(|rule| rule["alert"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_alert_fires_on_its_condition_and_not_on_a_near_miss_and_ends_with_it() {
    let promtool = monitoring_tool("promtool").await;
    let rules = shipped_rules().await;
    let folder = tempfile::tempdir().unwrap();
    // JSON is YAML, too.
    std::fs::write(folder.path().join("rules.yaml"), rules.to_string()).unwrap();
    std::fs::write(folder.path().join("alerts.yaml"), TESTS).unwrap();
    for arguments in [
        ["check", "rules", "--lint=all", "--lint-fatal", "rules.yaml"].as_slice(),
        &["test", "rules", "alerts.yaml"],
    ] {
        let mut command = Command::new(&promtool);
        let run = command.current_dir(folder.path()).args(arguments).output();
        let run = run.unwrap();
        let said = [run.stdout, run.stderr].map(|text| String::from_utf8(text).unwrap());
        assert!(run.status.success(), "{arguments:?}: {}", said.concat());
    }

    // Each is seen to fire, and then seen not to fire any more.
    let tests: Value = serde_saphyr::from_str(TESTS).unwrap();
    let mut seen = BTreeSet::new();
    for test in tests["tests"].as_array().unwrap() {
        let mut fired = BTreeSet::new();
        for look in test["alert_rule_test"].as_array().unwrap() {
            let name = look["alertname"].as_str().unwrap();
            if !look["exp_alerts"].as_array().unwrap().is_empty() {
                fired.insert(name);
            } else if fired.contains(name) {
                seen.insert(name);
            }
        }
    }
    assert_eq!(seen, names(&rules).into_iter().collect());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_file_is_what_the_chart_ships_and_a_runbook_says_what_each_alert_asks_for() {
    let rules = shipped_rules().await;
    let file: Value = serde_saphyr::from_str(FILE).unwrap();
    assert_eq!(rules, file);
    for name in names(&rules) {
        let entry = OPERATE.split(&format!("### {name}\n")).nth(1);
        let entry = entry.unwrap_or_else(|| panic!("{name} is not in the document"));
        let entry = entry.split("\n#").next().unwrap();
        for part in ["**Meaning.**", "**First command.**", "**Repair.**"] {
            assert!(entry.contains(part), "{name}: {part}");
        }
    }
}
