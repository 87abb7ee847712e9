//! Whose a target is: adoption, and what stays when a credential goes.

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{
    Api, Resource, ResourceExt,
    api::{DeleteParams, PostParams},
};
use serde_json::{Value, json};

use super::{HOUR, change, edit, version, with_keys};
use crate::support::{Fixture, condition, eventually, kubectl, text};

/// A Secret of somebody else.
async fn create(fixture: &Fixture, name: &str, metadata: Value) -> Secret {
    let mut secret = json!({
        "metadata": {"name": name, "labels": {"tokenward.dev/watch": "true", "theirs": "1"}},
        "stringData": {"password": "old", "access_token": "old"},
    });
    for (key, value) in metadata.as_object().unwrap() {
        secret["metadata"][key] = value.clone();
    }
    let secret: Secret = serde_json::from_value(secret).unwrap();
    let params = PostParams::default();
    fixture.secrets().create(&params, &secret).await.unwrap()
}

/// Runs the command of a message that begins with these words.
async fn follow(message: &str, begins: &str) {
    let start = message
        .find(begins)
        .unwrap_or_else(|| panic!("{begins}: {message}"));
    let command = message[start..].split(['(', ')', ',', ';']).next().unwrap();
    let words: Vec<_> = command.split(' ').skip(1).collect();
    let ended = kubectl(&words).await;
    assert!(ended.status.success(), "{command}: {ended:?}");
}

async fn unchanged(fixture: &Fixture, secret: &Secret) {
    let found = fixture.find_secret(&secret.name_any()).await.unwrap();
    assert_eq!(version(&found), version(secret));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_of_somebody_becomes_a_target_only_when_it_says_so_itself() {
    let fixture = Fixture::new("adopt", HOUR).await;
    fixture.seed("alice").await;
    let theirs = create(
        &fixture,
        "alice",
        json!({"annotations": {"tokenward.dev/adopt": "bob"}}),
    )
    .await;
    let _operator = fixture.operator();
    fixture.user("alice", json!({})).await;
    let stalled = fixture.stalled("alice", "TargetConflict").await;
    unchanged(&fixture, &theirs).await;
    assert_eq!(fixture.oauth.request_count(), 0);

    let message = condition(&stalled, "Stalled").unwrap().2;
    let annotate = format!(
        "kubectl -n {} annotate --overwrite secret",
        fixture.namespace
    );
    follow(&message, &annotate).await;
    let credential = fixture.ready("alice").await;
    let target = fixture.find_secret("alice").await.unwrap();
    assert_eq!(target.uid(), theirs.uid());
    assert_eq!(target.owner_references()[0].uid, credential.uid().unwrap());
    assert_eq!(target.labels().get("theirs").unwrap(), "1");
    assert!(!target.annotations().contains_key("tokenward.dev/adopt"));
    assert!(!target.data.as_ref().unwrap().contains_key("password"));
    assert_ne!(text(&target, "access_token"), "old");
    eventually("the event", async || {
        let events = fixture.events().await;
        events
            .iter()
            .any(|e| e.starts_with("TargetAdopted: Secret alice"))
            .then_some(())
    })
    .await;
    assert_eq!(fixture.oauth.request_count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_has_an_owner_or_another_type_or_is_a_grant_is_not_adopted() {
    let fixture = Fixture::new("adopt-not", HOUR).await;
    let api: Api<ConfigMap> = Api::namespaced(fixture.client.clone(), &fixture.namespace);
    let owner = serde_json::from_value(json!({"metadata": {"name": "owner"}})).unwrap();
    let owner = api.create(&PostParams::default(), &owner).await.unwrap();
    let offer = |name: &str| json!({"tokenward.dev/adopt": name});
    let owned = create(
        &fixture,
        "owned",
        json!({"annotations": offer("owned"), "ownerReferences": [owner.controller_owner_ref(&())]}),
    )
    .await;
    let _operator = fixture.operator();
    fixture.machine("owned", json!({})).await;
    let stalled = fixture.stalled("owned", "TargetConflict").await;
    let message = condition(&stalled, "Stalled").unwrap().2;
    assert!(
        message.contains("It belongs to ConfigMap owner"),
        "{message}"
    );

    let typed = create(&fixture, "typed", json!({"annotations": offer("typed")})).await;
    let target = json!({"type": "kubernetes.io/basic-auth", "template": {"data": {"username": "u", "password": "{{ access_token }}"}}});
    fixture.machine("typed", json!({"target": target})).await;
    let stalled = fixture.stalled("typed", "TargetConflict").await;
    let message = condition(&stalled, "Stalled").unwrap().2;
    assert!(
        message.contains("is of type Opaque and not kubernetes.io/basic-auth"),
        "{message}"
    );

    // The target of another credential that is there is not given away, whoever says so.
    fixture
        .machine(
            "first",
            json!({"target": {"name": "shared", "deletionPolicy": "Retain"}}),
        )
        .await;
    fixture.ready("first").await;
    edit(
        &fixture,
        "shared",
        json!({"metadata": {"annotations": offer("second")}}),
    )
    .await;
    let shared = fixture.find_secret("shared").await.unwrap();
    fixture
        .machine("second", json!({"target": {"name": "shared"}}))
        .await;
    fixture.stalled("second", "TargetConflict").await;
    for secret in [&owned, &typed, &shared] {
        unchanged(&fixture, secret).await;
    }
    // Nothing was asked for that nobody can store.
    assert_eq!(fixture.oauth.request_count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retained_target_outlives_its_credential_and_goes_to_the_next_only_by_its_annotation() {
    let fixture = Fixture::new("retain", HOUR).await;
    fixture.seed("alice").await;
    let _operator = fixture.operator();
    fixture.user("alice", json!({})).await;
    let credential = fixture.ready("alice").await;
    let is_owned = |secret: &Secret| {
        let noted = secret.annotations().get("tokenward.dev/owner-uid");
        let uid = credential.uid();
        let referred = secret
            .owner_references()
            .iter()
            .any(|o| Some(&o.uid) == uid.as_ref());
        (referred, noted.cloned() == uid)
    };
    for (policy, wanted) in [
        ("Retain", (false, true)),
        ("Delete", (true, false)),
        ("Retain", (false, true)),
    ] {
        change(&fixture, "alice", json!({"deletionPolicy": policy})).await;
        eventually(&format!("{policy}: {wanted:?}"), async || {
            let found = fixture.find_secret("alice").await?;
            (is_owned(&found) == wanted).then_some(())
        })
        .await;
    }
    // It is as much the credential's as before.
    edit(
        &fixture,
        "alice",
        json!({"stringData": {"access_token": "edited"}}),
    )
    .await;
    let kept = eventually("the repaired target", async || {
        let found = fixture.find_secret("alice").await?;
        (text(&found, "access_token") != "edited").then_some(found)
    })
    .await;
    let told = fixture.tokenward(&["get", "alice"]).end().await;
    assert_eq!(
        (told.code, told.out),
        (0, format!("{}\n", text(&kept, "access_token")))
    );

    let params = DeleteParams::default();
    fixture
        .credentials()
        .delete("alice", &params)
        .await
        .unwrap();
    eventually("what goes with it is gone", async || {
        let grant = fixture.find_secret("alice.grant").await;
        let gate = fixture.leases().get_opt("alice.gate").await.unwrap();
        (grant.is_none() && gate.is_none()).then_some(())
    })
    .await;
    unchanged(&fixture, &kept).await;

    fixture.seed("alice").await;
    fixture.user("alice", json!({})).await;
    let stalled = fixture.stalled("alice", "TargetConflict").await;
    unchanged(&fixture, &kept).await;
    let message = condition(&stalled, "Stalled").unwrap().2;
    let annotate = format!(
        "kubectl -n {} annotate --overwrite secret",
        fixture.namespace
    );
    follow(&message, &annotate).await;
    let credential = fixture.ready("alice").await;
    let target = fixture.find_secret("alice").await.unwrap();
    assert_eq!(target.uid(), kept.uid());
    assert_eq!(target.owner_references()[0].uid, credential.uid().unwrap());
    assert!(!target.annotations().contains_key("tokenward.dev/owner-uid"));
    assert_ne!(text(&target, "access_token"), text(&kept, "access_token"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_two_want_is_that_of_the_first() {
    let fixture = Fixture::new("two", HOUR).await;
    let _operator = fixture.operator();
    fixture
        .machine("first", json!({"target": {"name": "shared"}}))
        .await;
    fixture.ready("first").await;
    let shared = fixture.find_secret("shared").await.unwrap();
    fixture
        .machine("second", json!({"target": {"name": "shared"}}))
        .await;
    let stalled = fixture.stalled("second", "TargetConflict").await;
    let message = condition(&stalled, "Stalled").unwrap().2;
    assert!(
        message.contains("It belongs to IntegrationCredential first"),
        "{message}"
    );
    unchanged(&fixture, &shared).await;
    let told = fixture
        .tokenward(&["get", "second", "--timeout", "1s"])
        .end()
        .await;
    assert_ne!(told.code, 0);
    assert!(told.err.contains("TargetConflict"), "{}", told.err);
    // It is free when the first is gone.
    let params = DeleteParams::default();
    fixture
        .credentials()
        .delete("first", &params)
        .await
        .unwrap();
    fixture.ready("second").await;
    with_keys(
        &fixture,
        "shared",
        &[
            "access_token",
            "authorization",
            "expires_at",
            "scope",
            "token_generation",
            "token_type",
        ],
    )
    .await;
}
