//! `/metrics` of an operator at work.

use std::time::Duration;

use serde_json::json;
use tokenward::manager::CredentialManager;

use crate::{
    oauth_server::Fault,
    support::{Fixture, Operator, eventually, text},
};

const DOCUMENT: &str = include_str!("../../docs/operate.md");
const HOUR: Duration = Duration::from_secs(3600);

async fn scraped(operator: &Operator) -> String {
    let address = format!("http://{}/metrics", operator.health().await);
    let answer = reqwest::get(address).await.unwrap();
    let type_ = answer.headers()["content-type"].to_str().unwrap();
    assert!(type_.starts_with("application/openmetrics-text"), "{type_}");
    answer.text().await.unwrap()
}

/// Waits until these lines are among what is scraped.
async fn until(operator: &Operator, lines: &[&str]) -> String {
    eventually(&format!("{lines:?}"), async || {
        let all = scraped(operator).await;
        let has = |line: &&str| all.lines().any(|l| l == *line);
        lines.iter().all(has).then_some(all)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_done_and_how_credentials_are_is_measured_and_no_token_is() {
    let fixture = Fixture::new("metrics", HOUR).await;
    fixture.seed("alice").await;
    let operator = fixture.operator_with(&["--metrics-per-credential"]);
    fixture.user("alice", json!({})).await;
    fixture.ready("alice").await;
    let namespace = fixture.namespace.as_str();
    let provider = format!("provider=\"{namespace}/provider\"");
    let lines = [
        "tokenward_leader 1".to_owned(),
        "tokenward_credentials{state=\"Valid\"} 1".to_owned(),
        "tokenward_credentials_late 0".to_owned(),
        "tokenward_lock_holders 0".to_owned(),
        format!(
            "tokenward_build_info{{version=\"{}\"}} 1",
            env!("CARGO_PKG_VERSION")
        ),
        format!("tokenward_refresh_total{{{provider},outcome=\"success\"}} 1"),
        format!("tokenward_token_endpoint_requests_total{{{provider},code_class=\"2xx\"}} 1"),
        format!("tokenward_credential_ready{{namespace=\"{namespace}\",credential=\"alice\"}} 1"),
        "tokenward_refresh_duration_seconds_count 1".to_owned(),
        "tokenward_token_endpoint_request_duration_seconds_count 1".to_owned(),
        "# EOF".to_owned(),
    ];
    let lines: Vec<_> = lines.iter().map(String::as_str).collect();
    let all = until(&operator, &lines).await;
    for name in [
        "tokenward_reconcile_total{decision=\"refresh\"}",
        "tokenward_reconcile_duration_seconds_count",
        "tokenward_lock_wait_seconds_count",
        "tokenward_credential_expiry_timestamp_seconds",
        "tokenward_credential_next_refresh_timestamp_seconds",
    ] {
        assert!(all.contains(name), "{name} in {all}");
    }

    // Each is in the document.
    for line in all.lines() {
        if let Some(family) = line.strip_prefix("# HELP ") {
            let name = family.split(' ').next().unwrap();
            assert!(DOCUMENT.contains(&format!("`{name}")), "{name}");
        }
    }

    // Somebody holds it, and the provider is broken.
    let manager = CredentialManager::new(fixture.client.clone(), fixture.namespace.clone());
    let hold = manager.acquire("alice").await.unwrap();
    until(&operator, &["tokenward_lock_holders 1"]).await;
    hold.release().await;
    let grant = fixture.find_secret("alice.grant").await.unwrap();
    let tokens = ["access_token", "refresh_token"].map(|key| text(&grant, key));
    assert!(fixture.oauth.revoke_family_of(&tokens[1]));
    fixture.oauth.fail_next(Fault::html(500));
    fixture.machine("ci", json!({})).await;
    fixture.ready("ci").await;
    fixture.ask("alice", "1").await;
    let outcome =
        |outcome: &str| format!("tokenward_refresh_total{{{provider},outcome=\"{outcome}\"}} 1");
    let class = |class: &str| {
        format!("tokenward_token_endpoint_requests_total{{{provider},code_class=\"{class}\"}} 1")
    };
    let lines = [
        outcome("transient"),
        outcome("needs_reauthorization"),
        class("5xx"),
        class("4xx"),
        "tokenward_credentials_stalled{reason=\"ReauthorizationRequired\"} 1".to_owned(),
    ];
    let lines: Vec<_> = lines.iter().map(String::as_str).collect();
    let all = until(&operator, &lines).await;
    for token in &tokens {
        assert!(!all.contains(token.as_str()), "{all}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unless_that_is_asked_for_no_series_is_of_one_credential() {
    let fixture = Fixture::new("fewseries", HOUR).await;
    let operator = fixture.operator();
    for name in ["one", "two"] {
        fixture.machine(name, json!({})).await;
        fixture.ready(name).await;
    }
    let all = until(&operator, &["tokenward_credentials{state=\"Valid\"} 2"]).await;
    assert!(!all.contains("tokenward_credential_"), "{all}");
    assert!(!all.contains("credential="), "{all}");
}
