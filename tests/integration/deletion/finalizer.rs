//! The finalizer follows the policy.

use serde_json::json;

use super::{HOUR, carriers, change, delete, fixture, gone, resource, revocable, tokens};
use crate::support::{Fixture, eventually};

async fn until(fixture: &Fixture, wanted: [bool; 3]) {
    eventually(&format!("finalizers {wanted:?}"), async || {
        (carriers(fixture, "alice").await == wanted).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_comes_and_goes_with_the_policy_and_those_of_others_stay() {
    let fixture = fixture("policy", HOUR).await;
    let _operator = fixture.operator();
    fixture.seed("alice").await;
    fixture.user("alice", json!({})).await;
    fixture.ready("alice").await;
    let another = json!({"metadata": {"finalizers": ["example.com/another"]}});
    change(&fixture, "alice", another).await;
    assert_eq!(carriers(&fixture, "alice").await, [false; 3]);
    change(
        &fixture,
        "alice",
        json!({"spec": {"revocationPolicy": "OnDelete"}}),
    )
    .await;
    until(&fixture, [true; 3]).await;
    // One who replaces the object without it has it put back.
    let only = json!({"metadata": {"finalizers": ["example.com/another"]}});
    change(&fixture, "alice", only).await;
    until(&fixture, [true; 3]).await;
    change(
        &fixture,
        "alice",
        json!({"spec": {"revocationPolicy": "Never"}}),
    )
    .await;
    until(&fixture, [false; 3]).await;
    let all = fixture.get("alice").await.metadata.finalizers;
    assert_eq!(all.unwrap(), ["example.com/another"]);
    change(&fixture, "alice", json!({"metadata": {"finalizers": null}})).await;
    let tokens = tokens(&fixture, "alice").await;
    delete(&fixture, "alice").await;
    gone(&fixture, "alice").await;
    assert_eq!(resource(&fixture, &tokens.access).await, 200);
    assert!(fixture.oauth.revocations().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_thinks_better_of_it_before_it_is_revoked_is_heard() {
    let fixture = fixture("better", HOUR).await;
    let mut operator = fixture.operator();
    let tokens = revocable(&fixture, "alice").await;
    operator.kill();
    delete(&fixture, "alice").await;
    change(
        &fixture,
        "alice",
        json!({"spec": {"revocationPolicy": "Never"}}),
    )
    .await;
    let _operator = fixture.operator();
    gone(&fixture, "alice").await;
    assert_eq!(resource(&fixture, &tokens.access).await, 200);
}
