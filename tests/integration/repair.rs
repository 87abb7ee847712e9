//! Secrets that people edit or delete.

use std::{collections::BTreeMap, time::Duration};

use futures::StreamExt;
use k8s_openapi::api::core::v1::Secret;
use kube::{
    ResourceExt,
    api::{DeleteParams, Patch, PatchParams},
    runtime::{WatchStreamExt, watcher},
};
use serde_json::{Value, json};

use crate::support::{Fixture, condition, eventually, reason, text, within};

const HOUR: Duration = Duration::from_secs(3600);

async fn edit(fixture: &Fixture, name: &str, change: Value) {
    let params = PatchParams::default();
    fixture
        .secrets()
        .patch(name, &params, &Patch::Merge(change))
        .await
        .unwrap();
}

fn data(secret: &Secret) -> BTreeMap<String, Vec<u8>> {
    let data = secret.data.clone().unwrap_or_default();
    data.into_iter()
        .map(|(key, value)| (key, value.0))
        .collect()
}

/// Waits until the Secret's data is as it was.
async fn restored(fixture: &Fixture, name: &str, what: &str, wanted: &Secret) -> Secret {
    eventually(what, async || {
        let found = fixture.find_secret(name).await?;
        (data(&found) == data(wanted)).then_some(found)
    })
    .await
}

/// Waits until nobody has to mend anything.
async fn goes_on(fixture: &Fixture) {
    fixture
        .until("alice", "not Stalled", |c| {
            condition(c, "Stalled").unwrap().0 == "False"
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_was_deleted_or_edited_is_written_again_from_the_grant() {
    let fixture = Fixture::new("repair", HOUR).await;
    fixture.seed("alice").await;
    let _operator = fixture.operator();
    fixture.user("alice", json!({})).await;
    fixture.ready("alice").await;
    let written = fixture.find_secret("alice").await.unwrap();

    fixture.delete_secret("alice").await;
    restored(&fixture, "alice", "after it was deleted", &written).await;

    edit(
        &fixture,
        "alice",
        json!({"stringData": {"access_token": "edited", "extra": "x"}}),
    )
    .await;
    restored(&fixture, "alice", "after an edit", &written).await;

    edit(
        &fixture,
        "alice",
        json!({"stringData": {"token_generation": "99"}}),
    )
    .await;
    restored(
        &fixture,
        "alice",
        "after its generation was raised by hand",
        &written,
    )
    .await;

    // Without its labels it is not watched any more; they come back too.
    let labels: Vec<_> = written.labels().keys().cloned().collect();
    let none: serde_json::Map<_, _> = labels.iter().map(|l| (l.clone(), Value::Null)).collect();
    edit(&fixture, "alice", json!({"metadata": {"labels": none}})).await;
    eventually("the labels", async || {
        let found = fixture.find_secret("alice").await?;
        (found.labels() == written.labels()).then_some(())
    })
    .await;

    // What other tools note on it stays.
    edit(
        &fixture,
        "alice",
        json!({"metadata": {"annotations": {"team": "blue"}}}),
    )
    .await;
    edit(
        &fixture,
        "alice",
        json!({"stringData": {"scope": "edited"}}),
    )
    .await;
    let found = restored(&fixture, "alice", "after another edit", &written).await;
    assert_eq!(
        found.annotations().get("team").map(String::as_str),
        Some("blue")
    );

    assert_eq!(fixture.oauth.request_count(), 1, "the provider was asked");
    assert_eq!(reason(&fixture.get("alice").await), "Valid");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_was_the_only_store_is_filled_with_a_new_token() {
    let fixture = Fixture::new("refill", HOUR).await;
    let _operator = fixture.operator();
    fixture.machine("ci", json!({})).await;
    fixture.ready("ci").await;

    fixture.delete_secret("ci").await;
    fixture.generation("ci", 2).await;
    let target = fixture.find_secret("ci").await.unwrap();
    assert_eq!(text(&target, "token_generation"), "2");

    edit(
        &fixture,
        "ci",
        json!({"stringData": {"access_token": "edited"}}),
    )
    .await;
    fixture.generation("ci", 3).await;
    let target = fixture.find_secret("ci").await.unwrap();
    assert!(fixture.oauth.is_live(&text(&target, "access_token")));
    assert_eq!(fixture.oauth.request_count(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn repairs_and_refreshes_at_the_same_time_never_move_the_target_backwards() {
    let fixture = Fixture::new("race", Duration::from_secs(3)).await;
    fixture.seed("alice").await;
    let _operator = fixture.operator();
    fixture.user("alice", json!({})).await;
    fixture.ready("alice").await;

    let only = watcher::Config::default().fields("metadata.name=alice");
    let versions = watcher(fixture.secrets(), only).default_backoff();
    let mut versions = Box::pin(versions.applied_objects());
    let mut generations = Vec::new();
    let mut edits: u32 = 0;
    let seen = within(
        Duration::from_secs(30),
        "generation 5 on the target",
        async || {
            // Every write of it, ours and the operator's, in the order in which they happened.
            let version = versions.next().await.unwrap().ok()?;
            generations.push(text(&version, "token_generation").parse::<u64>().unwrap());
            edits += 1;
            if edits.is_multiple_of(2) {
                let _ = fixture
                    .secrets()
                    .delete("alice", &DeleteParams::default())
                    .await;
            } else {
                let change = json!({"stringData": {"scope": format!("edit {edits}")}});
                let params = PatchParams::default();
                let _ = fixture
                    .secrets()
                    .patch("alice", &params, &Patch::Merge(change))
                    .await;
            }
            (generations.last() >= Some(&5)).then(|| generations.clone())
        },
    )
    .await;
    assert!(seen.is_sorted(), "{seen:?}");
    assert_eq!(fixture.oauth.max_presentations(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_grant_is_told_and_the_spent_seed_is_not_presented_again() {
    let fixture = Fixture::new("grantlost", HOUR).await;
    let seed = fixture.seed("alice").await;
    let _operator = fixture.operator();
    fixture.user("alice", json!({})).await;
    fixture.ready("alice").await;
    let grant = fixture.find_secret("alice.grant").await.unwrap();
    fixture.delete_secret("alice.grant").await;

    let credential = fixture.stalled("alice", "GrantLost").await;
    let (_, _, message) = condition(&credential, "Stalled").unwrap();
    assert!(
        message.contains("alice.grant") && message.contains("patch secret alice-seed"),
        "{message}"
    );
    // The access token works on until it expires.
    assert_eq!(condition(&credential, "Ready").unwrap().0, "True");
    assert_eq!(fixture.oauth.redemptions(&seed), 1);

    // Restored from a backup, it goes on.
    let mut copy = grant.clone();
    copy.metadata.resource_version = None;
    copy.metadata.uid = None;
    let created = fixture
        .secrets()
        .create(&kube::api::PostParams::default(), &copy)
        .await;
    created.unwrap();
    goes_on(&fixture).await;

    // Lost again, a new authorization mends it, and the generation goes on.
    fixture.delete_secret("alice.grant").await;
    fixture.stalled("alice", "GrantLost").await;
    let new = fixture.seed("alice").await;
    fixture.generation("alice", 2).await;
    assert_eq!(
        (
            fixture.oauth.redemptions(&seed),
            fixture.oauth.redemptions(&new)
        ),
        (1, 1)
    );
    assert_eq!(
        text(
            &fixture.find_secret("alice").await.unwrap(),
            "token_generation"
        ),
        "2"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_that_was_edited_into_nonsense_is_told_and_not_overwritten() {
    let fixture = Fixture::new("grantbad", HOUR).await;
    fixture.seed("alice").await;
    let _operator = fixture.operator();
    fixture.user("alice", json!({})).await;
    fixture.ready("alice").await;
    let whole = fixture.find_secret("alice.grant").await.unwrap();
    edit(
        &fixture,
        "alice.grant",
        json!({"stringData": {"issued_at": "yesterday"}}),
    )
    .await;
    fixture.ask("alice", "1").await;
    let credential = fixture.stalled("alice", "GrantUnreadable").await;
    let (_, _, message) = condition(&credential, "Stalled").unwrap();
    assert!(message.contains("issued_at"), "{message}");
    let grant = fixture.find_secret("alice.grant").await.unwrap();
    assert_eq!(text(&grant, "issued_at"), "yesterday");

    // Put right in place, it goes on at once.
    let right = whole.data.unwrap()["issued_at"].clone();
    edit(
        &fixture,
        "alice.grant",
        json!({"data": {"issued_at": right}}),
    )
    .await;
    goes_on(&fixture).await;

    // Or a new authorization replaces it.
    edit(
        &fixture,
        "alice.grant",
        json!({"stringData": {"issued_at": "yesterday"}}),
    )
    .await;
    fixture.ask("alice", "2").await;
    fixture.stalled("alice", "GrantUnreadable").await;
    fixture.seed("alice").await;
    goes_on(&fixture).await;
    fixture.ready("alice").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_grant_that_was_put_back_is_told_and_not_presented() {
    let fixture = Fixture::new("grantold", HOUR).await;
    fixture.seed("alice").await;
    let _operator = fixture.operator();
    fixture.user("alice", json!({})).await;
    fixture.ready("alice").await;
    let old = fixture.find_secret("alice.grant").await.unwrap();
    let spent = text(&old, "refresh_token");
    fixture.ask("alice", "1").await;
    fixture.generation("alice", 2).await;
    edit(&fixture, "alice.grant", json!({"data": old.data})).await;
    fixture.ask("alice", "2").await;

    let credential = fixture.stalled("alice", "GrantRestored").await;
    let (_, _, message) = condition(&credential, "Stalled").unwrap();
    assert!(message.contains("generation 1"), "{message}");
    assert_eq!(
        fixture.oauth.redemptions(&spent),
        1,
        "a spent refresh token was presented"
    );

    // A new authorization mends it, and the generation goes on from the highest.
    let target = fixture.find_secret("alice").await.unwrap();
    let reached: i64 = text(&target, "token_generation").parse().unwrap();
    fixture.seed("alice").await;
    fixture.generation("alice", reached + 1).await;
    fixture.ready("alice").await;
    assert_eq!(fixture.oauth.max_presentations(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_that_lost_its_labels_is_no_lost_grant_and_gets_them_back() {
    let fixture = Fixture::new("grantlabel", HOUR).await;
    fixture.seed("alice").await;
    let _operator = fixture.operator();
    fixture.user("alice", json!({})).await;
    fixture.ready("alice").await;
    let label = "tokenward.dev/watch";
    edit(
        &fixture,
        "alice.grant",
        json!({"metadata": {"labels": {label: null}}}),
    )
    .await;
    eventually("the label", async || {
        let grant = fixture.find_secret("alice.grant").await?;
        grant.labels().contains_key(label).then_some(())
    })
    .await;
    assert_eq!(fixture.oauth.request_count(), 1);
}
