//! What somebody gets who follows the installation.

use std::time::Instant;

use crate::{
    node,
    oauth_server::OldToken,
    operator,
    place::{Namespace, helm, kubectl},
    provider::{Provider, ask},
};

/// The most that an operator with little to do may keep in memory.
const MEMORY: u64 = 32 * 1024 * 1024;

pub async fn by_helm_it_is_ready_and_small_and_refreshes() {
    operator::import();
    let provider = Provider::start(OldToken::Survives).await;
    let namespace = Namespace::new("first");

    let start = Instant::now();
    operator::install(&[]);
    provider.describe(&namespace, "Survives");
    provider.authorize(&namespace, "alice");
    let first = provider.next(&namespace, "alice", "").await;
    let until_first = start.elapsed();
    ask(&namespace, "alice", "first");
    provider.next(&namespace, "alice", &first).await;
    println!(
        "install to the first token: {:.1} s",
        until_first.as_secs_f64()
    );

    let pods = operator::pods(1).await;
    println!("container started, ready after: {}", until_ready(&pods[0]));
    let resident = node::resident("tokenward");
    println!("resident memory: {resident:?} bytes");
    assert!(
        matches!(resident[..], [bytes] if bytes <= MEMORY),
        "{resident:?}"
    );
    assert_eq!(provider.oauth.max_presentations(), 1);
}

pub async fn upgraded_rolled_back_removed_and_installed_again_it_loses_nothing() {
    operator::install(&[]);
    operator::runs(1).await;
    let provider = Provider::start(OldToken::Survives).await;
    let namespace = Namespace::new("upgraded");
    provider.describe(&namespace, "Survives");
    provider.authorize(&namespace, "alice");
    let mut token = provider.next(&namespace, "alice", "").await;
    let goes_on = async |request: &str, token: &mut String| {
        ask(&namespace, "alice", request);
        *token = provider.next(&namespace, "alice", token).await;
    };

    let values = format!("{}/values-ha.yaml", operator::CHART);
    operator::install(&["--values", &values]);
    operator::pods(2).await;
    goes_on("upgraded", &mut token).await;
    helm(&[
        "rollback",
        operator::RELEASE,
        "--namespace",
        operator::NAMESPACE,
    ]);
    operator::pods(1).await;
    goes_on("rolled back", &mut token).await;

    helm(&[
        "uninstall",
        operator::RELEASE,
        "--namespace",
        operator::NAMESPACE,
    ]);
    operator::pods(0).await;
    assert_eq!(provider.next(&namespace, "alice", "").await, token);
    assert!(provider.oauth.is_live(&token));
    operator::install(&[]);
    operator::pods(1).await;
    goes_on("installed again", &mut token).await;
    assert_eq!(provider.oauth.max_presentations(), 1);
}

/// How long it took from the start of the container until its pod was ready, in whole seconds as the API has it.
fn until_ready(pod: &serde_json::Value) -> String {
    let started = &pod["status"]["containerStatuses"][0]["state"]["running"]["startedAt"];
    let conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
    let ready = conditions
        .filter(|c| c["type"] == "Ready")
        .map(|c| &c["lastTransitionTime"]);
    let times: Option<Vec<jiff::Timestamp>> = [started]
        .into_iter()
        .chain(ready)
        .map(|time| time.as_str()?.parse().ok())
        .collect();
    match times.as_deref() {
        Some([started, ready]) => format!("{} s", ready.duration_since(*started).as_secs()),
        _ => kubectl(&["get", "pods", "-n", operator::NAMESPACE, "-o", "wide"]),
    }
}
