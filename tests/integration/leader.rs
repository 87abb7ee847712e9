//! Of several operators one works: `--leader-elect`.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::LeaseSpec;
use serde_json::json;

use crate::support::{Fixture, Operator, within};

/// Nothing is due while a test lasts but what it asks for.
const HOUR: Duration = Duration::from_secs(3600);

fn candidate(fixture: &Fixture) -> Operator {
    let namespace = fixture.namespace.as_str();
    fixture.operator_with(&["--leader-elect", "--operator-namespace", namespace])
}

async fn lease(fixture: &Fixture) -> LeaseSpec {
    let lease = fixture.leases().get("tokenward").await.unwrap();
    lease.spec.unwrap()
}

/// Two, of which the first leads and has obtained a token for `alice`.
async fn two(test: &str) -> (Fixture, Operator, Operator) {
    let fixture = Fixture::new(test, HOUR).await;
    fixture.seed("alice").await;
    let leader = candidate(&fixture);
    leader.logged("leading").await;
    fixture.user("alice", json!({})).await;
    fixture.ready("alice").await;
    let other = candidate(&fixture);
    other.logged("another leads; standing by").await;
    (fixture, leader, other)
}

/// Waits until the other one leads, and refreshes what it is asked for.
async fn takes_over(fixture: &Fixture, other: &Operator) {
    within(Duration::from_secs(60), "another leader", async || {
        let log = other.log();
        log.contains("\"leading\"").then_some(())
    })
    .await;
    fixture.ask("alice", "takes over").await;
    other.logged("token refreshed").await;
    assert_eq!(fixture.oauth.max_presentations(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_works_and_when_it_is_killed_another_takes_over() {
    let (fixture, mut leader, other) = two("leader-killed").await;
    for (operator, leads) in [(&leader, 1), (&other, 0)] {
        let address = format!("http://{}", operator.health().await);
        let ready = reqwest::get(format!("{address}/readyz")).await.unwrap();
        assert_eq!(ready.status(), 200);
        let metrics = reqwest::get(format!("{address}/metrics")).await.unwrap();
        let metrics = metrics.text().await.unwrap();
        assert!(
            metrics.contains(&format!("tokenward_leader {leads}")),
            "{metrics}"
        );
    }
    fixture.ask("alice", "first").await;
    fixture.generation("alice", 2).await;
    assert!(!other.log().contains("planned"), "{}", other.log());
    let before = lease(&fixture).await;
    leader.kill();
    within(Duration::from_secs(60), "another leader", async || {
        let now = lease(&fixture).await;
        (now.holder_identity != before.holder_identity).then_some(())
    })
    .await;
    let after = lease(&fixture).await;
    let (renewed, taken) = (before.renew_time.unwrap(), after.acquire_time.unwrap());
    let gap = taken.0.duration_since(renewed.0).as_secs();
    assert!(gap <= 15, "{gap} s");
    assert_eq!(after.lease_transitions, Some(2));
    takes_over(&fixture, &other).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_ends_in_order_lets_the_next_one_lead_at_once() {
    let (fixture, mut leader, other) = two("leader-ends").await;
    leader.signal("TERM");
    assert!(leader.end().await.success());
    takes_over(&fixture, &other).await;
    let spec = lease(&fixture).await;
    assert_eq!(spec.lease_transitions, Some(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_stopped_and_goes_on_finds_that_another_leads_and_ends() {
    let (fixture, mut leader, other) = two("leader-stopped").await;
    leader.signal("STOP");
    takes_over(&fixture, &other).await;
    leader.signal("CONT");
    let ended = leader.end().await;
    assert_eq!(ended.code(), Some(1));
    assert!(
        leader.log().contains("another replica may lead"),
        "{}",
        leader.log()
    );
    fixture.ask("alice", "goes on").await;
    fixture.generation("alice", 3).await;
    assert_eq!(fixture.oauth.max_presentations(), 1);
}
