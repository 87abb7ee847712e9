//! Seeds that change.

use std::time::Duration;

use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::{
    oauth_server::Fault,
    support::{Fixture, condition, eventually, text},
};

const HOUR: Duration = Duration::from_secs(3600);

async fn settled(fixture: &Fixture) {
    fixture
        .until("alice", "no SeedRejected", |c| {
            condition(c, "SeedRejected").is_none()
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_without_a_new_refresh_token_changes_nothing() {
    let fixture = Fixture::new("seedsame", HOUR).await;
    let seed = fixture.seed("alice").await;
    let operator = fixture.operator();
    fixture.user("alice", json!({})).await;
    fixture.ready("alice").await;
    fixture.told(2).await;
    fixture.provider_told().await;

    let audit = fixture.audit();
    let note =
        json!({"metadata": {"annotations": {"note": "x"}}, "stringData": {"other": "value"}});
    let params = PatchParams::default();
    fixture
        .secrets()
        .patch("alice-seed", &params, &Patch::Merge(note))
        .await
        .unwrap();
    eventually("a look at the seed", async || {
        operator.log().contains("check_seed").then_some(())
    })
    .await;
    eventually("the read of it", async || {
        let reads = audit.requests();
        reads
            .contains(&"get secrets alice-seed".to_owned())
            .then_some(())
    })
    .await;
    // Written again with the same token and a final line feed: the same authorization.
    fixture.reseed("alice", &format!("{seed}\n")).await;
    eventually("two looks", async || {
        (operator.log().matches("check_seed").count() >= 2).then_some(())
    })
    .await;
    assert_eq!(audit.writes(), Vec::<String>::new());
    assert_eq!(fixture.oauth.request_count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_refresh_token_is_adopted_and_a_spent_one_is_refused() {
    let fixture = Fixture::new("seednew", HOUR).await;
    let first = fixture.seed("alice").await;
    let operator = fixture.operator();
    fixture.user("alice", json!({})).await;
    fixture.ready("alice").await;

    let second = fixture.seed("alice").await;
    let credential = fixture.generation("alice", 2).await;
    assert_eq!(condition(&credential, "SeedRejected"), None);
    assert_eq!(fixture.oauth.redemptions(&second), 1);
    eventually("the second Authorized", async || {
        let events = fixture.events().await;
        let twice = |e: &String| e.starts_with("Authorized:");
        (events.iter().filter(|e| twice(e)).count() >= 1).then_some(())
    })
    .await;

    // A GitOps tool puts the first one back.
    fixture.reseed("alice", &first).await;
    let credential = fixture
        .until("alice", "SeedRejected", |c| {
            condition(c, "SeedRejected").is_some()
        })
        .await;
    let (_, _, message) = condition(&credential, "SeedRejected").unwrap();
    assert!(message.contains("used before"), "{message}");
    assert_eq!(condition(&credential, "Ready").unwrap().0, "True");
    assert_eq!(
        fixture.oauth.redemptions(&first),
        1,
        "a spent refresh token was presented"
    );
    let grant = fixture.find_secret("alice.grant").await.unwrap();
    assert!(fixture.oauth.is_redeemable(&text(&grant, "refresh_token")));

    // And the current one again: all is well.
    fixture.reseed("alice", &second).await;
    settled(&fixture).await;
    assert_eq!(fixture.oauth.request_count(), 2);
    let tokens = [first, second, text(&grant, "refresh_token")];
    fixture.assert_nowhere(&tokens, &[&operator]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_refresh_token_leaves_the_old_grant_working() {
    let fixture = Fixture::new("seedbad", Duration::from_secs(5)).await;
    fixture.seed("alice").await;
    let _operator = fixture.operator();
    fixture.user("alice", json!({})).await;
    fixture.ready("alice").await;

    fixture.reseed("alice", "rt-of-nobody").await;
    let credential = fixture
        .until("alice", "SeedRejected", |c| {
            condition(c, "SeedRejected").is_some()
        })
        .await;
    let (_, _, message) = condition(&credential, "SeedRejected").unwrap();
    assert!(
        message.contains("refused") && message.contains("alice-seed"),
        "{message}"
    );
    let generation = credential.status.unwrap().token.unwrap().generation;
    // The old grant is refreshed on, and the bad token is not presented again.
    let credential = fixture.generation("alice", generation + 2).await;
    assert!(condition(&credential, "SeedRejected").is_some());
    assert_eq!(condition(&credential, "Stalled").unwrap().0, "False");
    assert_eq!(fixture.oauth.redemptions("rt-of-nobody"), 1);
    assert_eq!(fixture.oauth.max_presentations(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seed_that_is_deleted_after_its_adoption_is_not_missed() {
    let fixture = Fixture::new("seedgone", Duration::from_secs(4)).await;
    fixture.seed("alice").await;
    let _operator = fixture.operator();
    fixture.user("alice", json!({})).await;
    fixture.ready("alice").await;
    fixture.delete_secret("alice-seed").await;
    let credential = fixture.generation("alice", 3).await;
    assert_eq!(condition(&credential, "Stalled").unwrap().0, "False");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seed_that_a_provider_refuses_in_its_own_words_does_not_starve_the_old_grant() {
    let fixture = Fixture::new("seedown", Duration::from_secs(5)).await;
    fixture.seed("alice").await;
    let _operator = fixture.operator();
    fixture.user("alice", json!({})).await;
    fixture.ready("alice").await;

    fixture.oauth.fail_always(Fault::edit(|reply| {
        if !reply.granted {
            reply
                .json
                .insert("error".to_owned(), json!("bad_refresh_token"));
        }
    }));
    fixture.reseed("alice", "rt-of-nobody").await;
    let credential = fixture
        .until("alice", "SeedRejected", |c| {
            condition(c, "SeedRejected").is_some()
        })
        .await;
    let generation = credential.status.unwrap().token.unwrap().generation;
    fixture.generation("alice", generation + 2).await;
    fixture.untroubled("alice").await;
    assert_eq!(fixture.oauth.max_presentations(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_seed_does_not_bring_a_dead_grant_back_to_life() {
    let fixture = Fixture::new("seeddead", HOUR).await;
    let seed = fixture.seed("alice").await;
    fixture
        .oauth
        .configure(|behaviour| behaviour.lifetime = Duration::from_secs(4));
    let _operator = fixture.operator();
    fixture.user("alice", json!({})).await;
    fixture.ready("alice").await;
    fixture.oauth.revoke_family_of(&seed);
    fixture.stalled("alice", "ReauthorizationRequired").await;

    fixture.reseed("alice", "rt-of-nobody").await;
    let credential = fixture
        .until("alice", "SeedRejected", |c| {
            condition(c, "SeedRejected").is_some()
        })
        .await;
    let (stalled, reason, _) = condition(&credential, "Stalled").unwrap();
    assert_eq!(
        (stalled.as_str(), reason.as_str()),
        ("True", "ReauthorizationRequired")
    );
    assert_eq!(
        fixture.oauth.max_presentations(),
        1,
        "a dead refresh token was presented again"
    );

    fixture.seed("alice").await;
    fixture
        .until("alice", "Ready, and not Stalled", |c| {
            let is = |type_: &str| condition(c, type_).map(|c| c.0);
            is("Ready").as_deref() == Some("True") && is("Stalled").as_deref() == Some("False")
        })
        .await;
    settled(&fixture).await;
    assert_eq!(fixture.oauth.max_presentations(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_grant_stays_so_when_the_spec_changes_and_that_is_acted_upon_once() {
    let fixture = Fixture::new("refusededit", HOUR).await;
    fixture.seed("alice").await;
    let _operator = fixture.operator();
    fixture.user("alice", json!({})).await;
    fixture.ready("alice").await;
    let grant = fixture.find_secret("alice.grant").await.unwrap();
    assert!(
        fixture
            .oauth
            .revoke_family_of(&text(&grant, "refresh_token"))
    );
    fixture.ask("alice", "1").await;
    fixture.stalled("alice", "ReauthorizationRequired").await;
    let requests = fixture.oauth.request_count();
    let title = Patch::Merge(json!({"spec": {"title": "another"}}));
    let (credentials, params) = (fixture.credentials(), PatchParams::default());
    credentials.patch("alice", &params, &title).await.unwrap();
    let seen = fixture
        .until("alice", "up to date", |c| {
            let seen = c.status.as_ref().and_then(|s| s.observed_generation);
            seen == c.metadata.generation
        })
        .await;
    let stalled = condition(&seen, "Stalled").unwrap();
    assert_eq!(
        (stalled.0.as_str(), stalled.1.as_str()),
        ("True", "ReauthorizationRequired")
    );
    assert_eq!(fixture.oauth.request_count(), requests);
}
