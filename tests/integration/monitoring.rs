//! The chart's alerts and dashboard: that they are about what happens, as the Prometheus of a team would see it.

mod dashboard;
mod rules;
mod scraped;

use serde_json::Value;

use crate::support::cluster;

const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/charts/tokenward");

/// The object that a template of the chart makes with this value set.
fn rendered(template: &str, set: &str) -> Value {
    let template = format!("templates/{template}.yaml");
    let arguments = [
        "template",
        "release",
        CHART,
        "--show-only",
        &template,
        "--set",
        set,
    ];
    let output = cluster().helm(&arguments).output().unwrap();
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{err}");
    serde_saphyr::from_slice(&output.stdout).unwrap()
}

/// The rules, as a rule file has them.
async fn shipped_rules() -> Value {
    let render = || rendered("prometheusrule", "metrics.prometheusRule.enabled=true");
    let object = tokio::task::spawn_blocking(render).await.unwrap();
    object["spec"].clone()
}
