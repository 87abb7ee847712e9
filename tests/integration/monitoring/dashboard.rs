//! The dashboard for Grafana: its form, and that its queries ask for what there is.

use std::{
    collections::BTreeSet,
    io::Write,
    process::{Command, Stdio},
};

use serde_json::{Value, json};

use super::rendered;
use crate::support::{Prometheus, eventually, monitoring_tool};

/// What the queries of panels and variables begin with where they are meant for the chosen data source.
const CHOSEN: &str = "${datasource}";

/// As the chart ships it.
async fn shipped() -> Value {
    let object = tokio::task::spawn_blocking(|| rendered("dashboard", "dashboard.enabled=true"))
        .await
        .unwrap();
    // The sidecar of Grafana's chart finds it by this.
    assert_eq!(object["metadata"]["labels"]["grafana_dashboard"], "1");
    serde_json::from_str(object["data"]["tokenward.json"].as_str().unwrap()).unwrap()
}

/// Its panels without the headings of rows.
fn panels(dashboard: &Value) -> impl Iterator<Item = &Value> {
    let all = dashboard["panels"].as_array().unwrap().iter();
    all.filter(|panel| panel["type"] != "row")
}

/// Has the schema that Grafana publishes look at a dashboard.
async fn judged(dashboard: &Value) -> Result<(), String> {
    let mut check = Command::new(monitoring_tool("dashboard").await)
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = check.stdin.take().unwrap();
    input.write_all(dashboard.to_string().as_bytes()).unwrap();
    drop(input);
    let output = check.wait_with_output().unwrap();
    if output.status.success() {
        Ok(())
    } else {
        Err(String::from_utf8(output.stderr).unwrap())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_dashboard_is_one_that_the_schema_of_grafana_allows() {
    let dashboard = shipped().await;
    assert_eq!(judged(&dashboard).await, Ok(()));
    // It would be noticed if it were none.
    for (path, wrong) in [
        ("/panels/1/options/graphMode", json!(7)),
        ("/panels/1/targets/0/expression", json!("up")),
        ("/templating/list/0/hide", json!("never")),
    ] {
        let mut broken = dashboard.clone();
        let (parent, field) = path.rsplit_once('/').unwrap();
        broken.pointer_mut(parent).unwrap()[field] = wrong;
        judged(&broken).await.expect_err(path);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_panel_says_what_it_shows_and_asks_the_chosen_data_source() {
    let dashboard = shipped().await;
    let mut ids = BTreeSet::new();
    let mut taken = BTreeSet::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{panel}");
        let [x, y, w, h] =
            ["x", "y", "w", "h"].map(|side| panel["gridPos"][side].as_u64().unwrap());
        assert!(x + w <= 24, "{panel}");
        for place in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
            assert!(taken.insert(place), "{} lies on another", panel["title"]);
        }
    }
    assert!(panels(&dashboard).count() > 20);
    for panel in panels(&dashboard) {
        let title = panel["title"].as_str().unwrap();
        assert!(
            !panel["description"].as_str().unwrap().is_empty(),
            "{title}"
        );
        assert_eq!(panel["datasource"]["uid"], CHOSEN, "{title}");
        for target in panel["targets"].as_array().unwrap() {
            assert_eq!(target["datasource"]["uid"], CHOSEN, "{title}");
        }
    }
    let variables = dashboard["templating"]["list"].as_array().unwrap();
    assert_eq!(variables[0]["name"], "datasource");
    for variable in &variables[1..] {
        assert_eq!(variable["datasource"]["uid"], CHOSEN, "{variable}");
    }
}

/// What the dashboard asks for, with every variable at "All": panels by title, and variables.
fn queries(dashboard: &Value) -> Vec<(&str, String)> {
    let all = |query: &str| {
        let mut query = query.replace("$__rate_interval", "10m");
        for variable in ["$job", "$namespace", "$provider"] {
            query = query.replace(variable, ".*");
        }
        assert!(!query.contains('$'), "{query}");
        query
    };
    let of_panels = panels(dashboard).flat_map(|panel| {
        let targets = panel["targets"].as_array().unwrap().iter();
        targets.map(|target| {
            let title = panel["title"].as_str().unwrap();
            (title, all(target["expr"].as_str().unwrap()))
        })
    });
    let variables = dashboard["templating"]["list"].as_array().unwrap();
    let of_variables = variables[1..].iter().map(|variable| {
        let query = variable["query"]["query"].as_str().unwrap();
        let values = query.strip_prefix("label_values(");
        let (metric, label) = values.unwrap().rsplit_once(", ").unwrap();
        let label = label.strip_suffix(')').unwrap();
        let query = format!("count by ({label}) ({})", all(metric));
        (variable["name"].as_str().unwrap(), query)
    });
    of_panels.chain(of_variables).collect()
}

/// The names of metrics in an expression.
fn metrics(query: &str) -> impl Iterator<Item = &str> {
    let words = query.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words.filter(|word| word.starts_with("tokenward_") || word.starts_with("process_"))
}

/// Waits until every query of the dashboard is answered with a number, and only asks for what is in `scraped`.
pub(super) async fn shows_something_everywhere(prometheus: &Prometheus, scraped: &str) {
    let dashboard = shipped().await;
    for (of, query) in queries(&dashboard) {
        for metric in metrics(&query) {
            let is_there = scraped.lines().any(|line| {
                let rest = line.strip_prefix(metric);
                rest.is_some_and(|rest| rest.starts_with(['{', ' ']))
            });
            assert!(is_there, "{of}: {metric} is not measured");
        }
        eventually(&format!("{of}: {query}"), async || {
            let found = prometheus.query(&query).await;
            // What is divided by nothing is no number, and no line in a panel.
            let is_number = |element: &Value| element["value"][1] != "NaN";
            found.iter().any(is_number).then_some(())
        })
        .await;
    }
}
