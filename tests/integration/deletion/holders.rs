//! Those who use the token when it is to be revoked, and refreshes that are under way.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::json;
use tokenward::manager::CredentialManager;
use tokio::time::timeout;

use super::{HOUR, create, delete, event, fixture, gone, resource, revocable, tokens};
use crate::{
    oauth_server::Outcome,
    support::{Fixture, condition, eventually, notes},
};

const SOON: Duration = Duration::from_secs(30);

async fn draining(fixture: &Fixture) {
    fixture
        .until("alice", "Draining", |c| {
            condition(c, "Reconciling").is_some_and(|c| c.1 == "Draining")
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_holder_is_waited_for_and_nobody_else_gets_in() {
    let fixture = fixture("waited", HOUR).await;
    let _operator = fixture.operator();
    let tokens = revocable(&fixture, "alice").await;
    let manager = CredentialManager::new(fixture.client.clone(), fixture.namespace.clone());
    let hold = manager.acquire("alice").await.unwrap();
    delete(&fixture, "alice").await;
    draining(&fixture).await;
    let gate = notes(&fixture.leases().get("alice.gate").await.unwrap());
    assert_eq!(
        (gate["phase"].as_str(), gate["priority"].as_str()),
        ("Draining", "delete")
    );
    assert_eq!(resource(&fixture, &tokens.access).await, 200);
    assert!(fixture.oauth.revocations().is_empty());
    hold.release().await;
    gone(&fixture, "alice").await;
    assert_eq!(resource(&fixture, &tokens.access).await, 401);
    let events = fixture.events().await;
    let forced = events.iter().any(|e| e.starts_with("ForcedRevocation"));
    assert!(!forced, "{events:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_holder_that_does_not_let_go_is_named_and_not_waited_for_longer_than_its_grace() {
    let fixture = fixture("forced", HOUR).await;
    let _operator = fixture.operator();
    let lock = json!({"lock": {"holdDuration": "2s", "drainGrace": "1s"}});
    create(&fixture, "alice", lock).await;
    fixture.ready("alice").await;
    let hold: Lease = serde_json::from_value(json!({
        "metadata": {
            "name": "alice.hold.0123456789abcdef",
            "labels": {"tokenward.dev/credential": "alice", "tokenward.dev/role": "hold"},
            "annotations": {"tokenward.dev/generation": "1", "tokenward.dev/owner": "test"},
        },
        "spec": {"holderIdentity": "stubborn/main/0123456789abcdef", "leaseDurationSeconds": 600},
    }))
    .unwrap();
    let leases = fixture.leases();
    leases.create(&PostParams::default(), &hold).await.unwrap();
    let renewals = tokio::spawn(async move {
        let mut ticks = tokio::time::interval(Duration::from_millis(300));
        loop {
            ticks.tick().await;
            let renewed = json!({"spec": {"renewTime": format!("{:.6}", jiff::Timestamp::now())}});
            let params = PatchParams::default();
            let patch = Patch::Merge(&renewed);
            if leases
                .patch("alice.hold.0123456789abcdef", &params, &patch)
                .await
                .is_err()
            {
                return;
            }
        }
    });
    delete(&fixture, "alice").await;
    gone(&fixture, "alice").await;
    let message = event(&fixture, "ForcedRevocation").await;
    assert!(message.contains("stubborn"), "{message}");
    event(&fixture, "Revoked").await;
    timeout(SOON, renewals).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_during_an_exchange_revokes_the_token_that_comes_of_it() {
    let fixture = fixture("during", HOUR).await;
    let _operator = fixture.operator();
    revocable(&fixture, "alice").await;
    fixture.oauth.hold_exchanges();
    fixture.ask("alice", "1").await;
    timeout(SOON, fixture.oauth.wait_for_outcomes(2))
        .await
        .unwrap();
    let Outcome::Granted { refresh_token, .. } = fixture.oauth.requests()[1].outcome.clone() else {
        panic!("not granted");
    };
    delete(&fixture, "alice").await;
    let still = fixture.get("alice").await;
    assert!(still.metadata.deletion_timestamp.is_some());
    assert!(fixture.oauth.revocations().is_empty());
    fixture.oauth.release_exchanges();
    gone(&fixture, "alice").await;
    assert_eq!(fixture.oauth.revocations()[0].token, refresh_token);
    assert!(refresh_token.is_some());
    assert_eq!(fixture.oauth.live_access_tokens(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_that_waits_for_holders_gives_way_to_the_deletion() {
    let fixture = fixture("gives-way", HOUR).await;
    let operator = fixture.operator();
    let old = revocable(&fixture, "alice").await;
    let manager = CredentialManager::new(fixture.client.clone(), fixture.namespace.clone());
    let hold = manager.acquire("alice").await.unwrap();
    fixture.ask("alice", "1").await;
    operator.logged("waiting for holders to let go").await;
    delete(&fixture, "alice").await;
    eventually("priority delete", async || {
        let gate = fixture.leases().get("alice.gate").await.unwrap();
        let gate = notes(&gate);
        let phase = gate["phase"] == "Draining";
        (phase && gate.get("priority").is_some_and(|p| p == "delete")).then_some(())
    })
    .await;
    hold.release().await;
    gone(&fixture, "alice").await;
    // It was not refreshed any more.
    assert_eq!(fixture.oauth.granted(), 1);
    assert_eq!(fixture.oauth.revocations()[0].token, Some(old.refresh));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_seed_waits_for_holders_and_has_priority_update() {
    let fixture = fixture("update", HOUR).await;
    // Also where a refresh would not have to.
    fixture
        .provider(json!({"accessTokenOnRefresh": "Survives"}))
        .await;
    let _operator = fixture.operator();
    let old = revocable(&fixture, "alice").await;
    let manager = CredentialManager::new(fixture.client.clone(), fixture.namespace.clone());
    let hold = manager.acquire("alice").await.unwrap();
    let seed = fixture.seed("alice").await;
    eventually("priority update", async || {
        let gate = fixture.leases().get("alice.gate").await.unwrap();
        let gate = notes(&gate);
        let phase = gate["phase"] == "Draining";
        (phase && gate.get("priority").is_some_and(|p| p == "update")).then_some(())
    })
    .await;
    assert_eq!(fixture.oauth.redemptions(&seed), 0);
    hold.release().await;
    fixture.generation("alice", 2).await;
    assert_eq!(fixture.oauth.redemptions(&seed), 1);
    assert_ne!(tokens(&fixture, "alice").await.refresh, old.refresh);
}
