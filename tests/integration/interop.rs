//! The operator with OAuth servers that others wrote: what holds with each of them. What each has of its own
//! is in the modules.

mod discovery;
mod django;
mod oidc_provider;
mod private_key_jwt;
mod scene;

use std::collections::BTreeSet;

use secrecy::ExposeSecret;
use serde_json::json;
use tokenward::manager::CredentialManager;

use self::scene::{CLIENT, SECRET, Scene, well};
use crate::support::{Operator, condition, eventually};

/// From a user's consent to the eleventh token: each is published, and whoever holds one can use it.
async fn refreshes_ten_times(scene: Scene) {
    let (seed, operator) = scene.alice().await;
    let published = scene.published("alice");
    let manager = CredentialManager::new(
        scene.fixture.client.clone(),
        scene.fixture.namespace.clone(),
    );
    let mut generation = 0;
    while generation < 11 {
        scene.fixture.generation("alice", generation + 1).await;
        let hold = manager.acquire("alice").await.unwrap();
        generation = i64::try_from(hold.generation()).unwrap();
        let token = hold.token().await.unwrap().secret().expose_secret();
        let is_accepted = scene.server.accepts(token).await;
        // A busy machine may take longer than a hold lasts, or than a refresh waits for it.
        let is_held = hold.is_valid() && !scene.fixture.holds("alice").await.is_empty();
        assert!(is_accepted || !is_held, "token {generation}");
        hold.release().await;
    }

    let refreshes = scene.server.refreshes().await;
    assert!(refreshes.len() > 10);
    assert_eq!(refreshes[0].0, seed);
    assert!(refreshes.iter().all(|(_, request)| request.status == 200));
    let presented: BTreeSet<_> = refreshes.iter().map(|(token, _)| token.clone()).collect();
    assert_eq!(
        presented.len(),
        refreshes.len(),
        "a refresh token was presented twice"
    );
    let published = published(generation).await;
    let tokens: BTreeSet<_> = published.values().cloned().collect();
    assert_eq!(tokens.len(), published.len(), "the same token again");
    let secrets: Vec<_> = presented.into_iter().chain(tokens).collect();
    scene.fixture.assert_nowhere(&secrets, &[&operator]).await;
}

/// What the user's consent brought is handed over as it came: the operator redeems it, and goes on from there.
async fn an_authorization_code_is_redeemed_once_and_refreshed(scene: Scene) {
    let consent = scene.server.authorize(CLIENT, "alice").await;
    scene.hand_over(&consent).await;
    let operator = scene.fixture.operator();
    scene.fixture.user("alice", json!({})).await;
    let credential = scene.fixture.generation("alice", 3).await;
    assert!(well(&credential));
    scene.works("alice").await;
    let requests = scene.server.requests().await;
    let grants: Vec<_> = requests.iter().map(|r| r.grant.as_str()).collect();
    assert_eq!(grants[0], "authorization_code");
    assert!(grants[1..].iter().all(|grant| *grant == "refresh_token"));
    assert!(requests.iter().all(|request| request.status == 200));
    let secrets = [consent.code, consent.verifier, scene.stored().await];
    scene.fixture.assert_nowhere(&secrets, &[&operator]).await;
}

/// The code came too late, and then a new one in time.
async fn an_expired_authorization_code_is_told_and_a_new_one_mends_it(scene: Scene) {
    let consent = scene.server.authorize(CLIENT, "alice").await;
    let age = json!({"user": "alice", "seconds": 3600});
    scene.server.control("age", age).await;
    scene.hand_over(&consent).await;
    let _operator = scene.fixture.operator();
    scene.fixture.user("alice", json!({})).await;
    scene.is_told("ReauthorizationRequired").await;
    assert_eq!(scene.server.requests().await.len(), 1);
    let consent = scene.server.authorize(CLIENT, "alice").await;
    scene.hand_over(&consent).await;
    scene.is_well().await;
}

/// The user takes it back at the provider.
async fn a_revoked_authorization_is_told_and_a_new_one_mends_it(scene: Scene) {
    let (_, _operator) = scene.alice().await;
    scene
        .server
        .control("revoke", json!({"user": "alice"}))
        .await;
    let message = scene.is_told("ReauthorizationRequired").await;
    assert!(message.contains("invalid_grant"), "{message}");
    scene.stays_dead().await;
    scene.mends().await;
}

/// Nobody has refreshed for too long.
async fn an_expired_authorization_is_told_and_a_new_one_mends_it(scene: Scene) {
    let settings = json!({"refreshTokenSeconds": 60});
    scene.server.control("settings", settings).await;
    let (_, _operator) = scene.alice().await;
    let age = json!({"user": "alice", "seconds": 120});
    scene.server.control("age", age).await;
    scene.is_told("ReauthorizationRequired").await;
    scene.stays_dead().await;
    scene.mends().await;
}

/// The provider has another secret than the operator.
async fn a_wrong_client_secret_is_told_and_the_right_one_mends_it(scene: Scene) {
    let (_, _operator) = scene.alice().await;
    scene.server.client(CLIENT, "another").await;
    let credential = scene.fixture.stalled("alice", "InvalidClient").await;
    let (_, _, message) = condition(&credential, "Stalled").unwrap();
    assert!(message.contains("spec.client"), "{message}");
    let token = scene.stored().await;
    let refused = scene.server.presentations(&token).await;
    assert!(refused >= 1, "it was not even asked");

    scene.secret("another").await;
    scene.is_well().await;
    // The authorization has survived all that.
    let refreshes = scene.server.refreshes().await;
    let of_it = refreshes.iter().filter(|(t, _)| *t == token);
    let outcomes: Vec<_> = of_it.map(|(_, r)| (r.status, r.error.as_deref())).collect();
    let (last, before) = outcomes.split_last().unwrap();
    assert_eq!(*last, (200, None));
    let refused = |outcome: &(_, _)| *outcome == (401, Some("invalid_client"));
    assert!(before.iter().all(refused), "{outcomes:?}");
}

/// Two secrets are known while one is replaced, and the server changes from one to the other.
async fn a_client_secret_is_replaced_without_a_gap(scene: Scene) {
    scene
        .fixture
        .secret("next", &[("client_secret", "another")])
        .await;
    let refs = json!([
        {"name": "next", "key": "client_secret"}, {"name": "client", "key": "client_secret"},
    ]);
    scene
        .provider(json!({"id": CLIENT, "secretKeyRefs": refs}))
        .await;
    let (_, _operator) = scene.alice().await;
    scene.fixture.generation("alice", 2).await;
    scene.server.client(CLIENT, "another").await;
    let before = scene.server.requests().await.len();
    let credential = scene.fixture.generation("alice", 5).await;
    assert!(well(&credential));
    scene.works("alice").await;

    let requests = scene.server.requests().await;
    let old = requests[..before].iter().filter(|r| r.status == 401);
    assert!(
        old.count() >= 2,
        "the new one was never tried: {requests:?}"
    );
    // One may have been under way.
    let new = requests[before..].iter().filter(|r| r.status == 401);
    assert!(new.count() <= 2, "{requests:?}");
    let events = scene.fixture.events().await;
    assert!(!events.iter().any(|e| e.starts_with("InvalidClient")));
}

/// A client that acts for itself.
async fn client_credentials_are_obtained_again_and_again(scene: Scene) {
    scene.server.machine("machine", SECRET).await;
    let refs = json!([{"name": "client", "key": "client_secret"}]);
    scene
        .provider(json!({"id": "machine", "secretKeyRefs": refs}))
        .await;
    let _operator = scene.fixture.operator();
    scene.fixture.machine("ci", json!({})).await;
    for generation in 1..=3 {
        scene.fixture.generation("ci", generation).await;
        scene.works("ci").await;
    }
    let requests = scene.server.requests().await;
    assert!(requests.iter().all(|r| r.grant == "client_credentials"));
    assert!(requests.len() >= 3 && requests.iter().all(|r| r.status == 200));
}

/// A tool puts back the first refresh token, long spent.
async fn the_first_refresh_token_put_back_is_not_presented_again(scene: Scene) {
    let (seed, _operator) = scene.alice().await;
    scene.fixture.generation("alice", 2).await;
    // As a tool does: another in between, so that this is a change.
    scene.fixture.delete_secret("alice-seed").await;
    let next = scene.seed().await;
    scene.fixture.generation("alice", 3).await;
    eventually("the new authorization", async || {
        (scene.server.presentations(&next).await == 1).then_some(())
    })
    .await;
    scene.fixture.reseed("alice", &seed).await;
    let credential = scene
        .fixture
        .until("alice", "SeedRejected", |c| {
            condition(c, "SeedRejected").is_some()
        })
        .await;
    let (_, _, message) = condition(&credential, "SeedRejected").unwrap();
    assert!(message.contains("used before"), "{message}");
    let generation = credential.status.unwrap().token.unwrap().generation;
    scene.fixture.generation("alice", generation + 2).await;
    scene.is_well().await;
    assert_eq!(scene.server.presentations(&seed).await, 1);
}

/// Somebody hands over a refresh token that the operator itself has spent: it cannot know it.
async fn a_spent_refresh_token_as_a_seed(scene: &Scene) -> Operator {
    let (_, operator) = scene.alice().await;
    let spent = scene.stored().await;
    let now = scene.generation().await;
    scene.fixture.generation("alice", now + 2).await;
    scene.fixture.reseed("alice", &spent).await;
    let credential = scene
        .fixture
        .until("alice", "SeedRejected", |c| {
            condition(c, "SeedRejected").is_some()
        })
        .await;
    let (_, _, message) = condition(&credential, "SeedRejected").unwrap();
    assert!(
        message.contains("refused the refresh token in the seed") && message.contains("alice-seed"),
        "{message}"
    );
    assert_eq!(scene.server.presentations(&spent).await, 2);
    operator
}
