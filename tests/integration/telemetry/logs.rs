//! The lines of an operator's log, against what the documentation says of them.

use std::{collections::BTreeSet, time::Duration};

use jiff::Timestamp;
use kube::api::DeleteParams;
use serde_json::{Value, json};
use tokenward::manager::CredentialManager;

use crate::{
    oauth_server::Fault,
    support::{Collector, Fixture, Operator, eventually},
};

const DOCUMENT: &str = include_str!("../../../docs/operate.md");
const HOUR: Duration = Duration::from_secs(3600);

/// The fields that the section "Logs" of the documentation has in its table.
fn documented() -> BTreeSet<&'static str> {
    let section = DOCUMENT.split("\n## ").find(|s| s.starts_with("Logs\n"));
    let rows = section.unwrap().lines().filter_map(|line| {
        let cell = line.strip_prefix("| `")?.split(" |").next()?;
        Some(cell.split('`').step_by(2))
    });
    rows.flatten().filter(|name| !name.is_empty()).collect()
}

/// Checks each line of its log, and returns the fields that our own have.
pub fn check(operator: &Operator, namespace: &str, credentials: &[&str]) -> BTreeSet<String> {
    let documented = documented();
    let mut seen = BTreeSet::new();
    for line in operator.lines() {
        let text = |field: &str| line[field].as_str().unwrap_or_else(|| panic!("{line}"));
        let at = text("timestamp").parse::<Timestamp>();
        assert!(at.is_ok() && text("timestamp").ends_with('Z'), "{line}");
        let levels = ["ERROR", "WARN", "INFO", "DEBUG", "TRACE"];
        assert!(levels.contains(&text("level")), "{line}");
        if let Some(credential) = line.get("credential") {
            let credential = credential.as_str().unwrap();
            let (of, name) = credential.split_once('/').expect(credential);
            assert!(of == namespace && credentials.contains(&name), "{line}");
        }
        if !text("target").starts_with("tokenward") {
            continue;
        }
        assert!(!text("message").is_empty(), "{line}");
        for field in line.as_object().unwrap().keys() {
            assert!(documented.contains(field.as_str()), "{field} in {line}");
            seen.insert(field.clone());
        }
        // Whatever it says of one.
        let whole = line.to_string();
        let about = credentials.iter().find(|name| whole.contains(*name));
        if let Some(name) = about {
            assert_eq!(line["credential"], format!("{namespace}/{name}"), "{line}");
        }
        for field in ["attempt", "decision", "generation", "holds"] {
            let is_about_one = line.get(field).is_some();
            assert!(!is_about_one || line.get("credential").is_some(), "{line}");
        }
    }
    seen
}

#[tokio::test(flavor = "multi_thread")]
async fn every_line_has_the_fields_that_are_documented_and_names_the_credential_it_is_about() {
    let fixture = Fixture::new("lines", HOUR).await;
    let collector = Collector::start().await;
    fixture.seed("wilma").await;
    fixture.secret("in", &[("k", "value")]).await;
    let arguments = ["--log-level", "trace", "--otlp-endpoint", &collector.url];
    let mut operator = fixture.operator_with(&arguments);
    fixture.user("wilma", json!({})).await;
    let spec = json!({"apiKey": {"secretKeyRef": {"name": "in", "key": "k"}}});
    fixture.create("betty", spec).await;
    for name in ["wilma", "betty"] {
        fixture.ready(name).await;
    }
    // Somebody holds it.
    let manager = CredentialManager::new(fixture.client.clone(), fixture.namespace.clone());
    let hold = manager.acquire("wilma").await.unwrap();
    fixture.ask("wilma", "1").await;
    operator.logged("waiting for holders to let go").await;
    hold.release().await;
    fixture.generation("wilma", 2).await;
    // The target is spoilt, the provider is away, and something is wrong.
    fixture.delete_secret("wilma").await;
    eventually("the target", async || fixture.find_secret("wilma").await).await;
    fixture.oauth.fail_next(Fault::html(500));
    fixture
        .machine("barney", json!({"revocationPolicy": "OnDelete"}))
        .await;
    operator.logged("token not obtained").await;
    fixture.ready("barney").await;
    let nowhere = json!({"oauth2": {"providerRef": {"name": "gone"}}});
    fixture.machine("dino", nowhere).await;
    fixture.stalled("dino", "UnknownProvider").await;
    let nonsense = json!({"tokenUrl": "https://10.0.0.1/token"});
    fixture.provider_named("nonsense", nonsense).await;
    let params = DeleteParams::default();
    fixture
        .credentials()
        .delete("barney", &params)
        .await
        .unwrap();
    eventually("its end", async || {
        let found = fixture.credentials().get_opt("barney").await.unwrap();
        found.is_none().then_some(())
    })
    .await;
    operator.signal("TERM");
    assert!(operator.end().await.success());
    let names = ["wilma", "betty", "barney", "dino"];
    let seen = check(&operator, &fixture.namespace, &names);
    for field in [
        "credential",
        "provider",
        "attempt",
        "decision",
        "generation",
        "outcome",
        "reason",
        "lease",
        "trace_id",
        "span_id",
    ] {
        assert!(seen.contains(field), "{field} in {seen:?}");
    }
    let about = |line: &Value| line["message"] == "token refreshed";
    assert_eq!(operator.lines().iter().filter(|l| about(l)).count(), 2);
}
