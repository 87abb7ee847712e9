//! The finalizer follows the policy.

use std::time::Duration;

use serde_json::json;

use super::{
    HOUR, carriers, change, create, delete, event, fixture, gone, resource, revocable, tokens,
};
use crate::{
    oauth_server::Fault,
    support::{Fixture, eventually, text},
};

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

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_whose_finalizer_is_taken_off_while_it_is_revoked_is_worked_on_no_more() {
    let fixture = fixture("takenoff", HOUR).await;
    let _operator = fixture.operator();
    revocable(&fixture, "alice").await;
    let hang = Fault::Hang(Duration::from_secs(2));
    fixture.oauth.fail_every_revocation(Some(hang));
    delete(&fixture, "alice").await;
    eventually("the revocation", async || {
        (!fixture.oauth.revocations().is_empty()).then_some(())
    })
    .await;
    change(&fixture, "alice", json!({"metadata": {"finalizers": []}})).await;
    eventually("the end", async || {
        let found = fixture.credentials().get_opt("alice").await.unwrap();
        found.is_none().then_some(())
    })
    .await;
    let audit = fixture.audit();
    let noted = || {
        let writes = audit.writes();
        let status = "patch integrationcredentials/status alice";
        writes.iter().filter(|write| *write == status).count()
    };
    // How far it has come would be noted every other second.
    fixture
        .oauth
        .configure(|b| b.latency = Duration::from_secs(3));
    fixture.machine("one", json!({})).await;
    fixture.ready("one").await;
    let before = noted();
    fixture.machine("two", json!({})).await;
    fixture.ready("two").await;
    assert_eq!(noted(), before, "{:?}", audit.requests());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_is_retained_stays_with_the_token_that_was_revoked() {
    let fixture = fixture("retained", HOUR).await;
    let _operator = fixture.operator();
    create(
        &fixture,
        "alice",
        json!({"target": {"deletionPolicy": "Retain"}}),
    )
    .await;
    fixture.ready("alice").await;
    let tokens = tokens(&fixture, "alice").await;
    delete(&fixture, "alice").await;
    gone(&fixture, "alice").await;
    event(&fixture, "Revoked").await;
    assert_eq!(resource(&fixture, &tokens.access).await, 401);
    let target = fixture.find_secret("alice").await.unwrap();
    assert_eq!(text(&target, "access_token"), tokens.access);
    assert_eq!(target.metadata.owner_references, None);
    assert_eq!(target.metadata.finalizers, None);
}
