//! `django-oauth-toolkit`: a refresh ends the old access token; a grace period where it is set.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::scene::{LONG, SHORT, Scene};
use crate::support::{Server, eventually};

async fn scene(test: &str, seconds: u64) -> Scene {
    with_facts(test, seconds, json!({})).await
}

/// With more of what the provider object says.
async fn with_facts(test: &str, seconds: u64, more: Value) -> Scene {
    let mut facts = json!({"preset": "django-oauth-toolkit"});
    for (name, value) in more.as_object().unwrap() {
        facts[name] = value.clone();
    }
    let server = Server::django();
    Scene::new(&format!("django-{test}"), server, facts, seconds).await
}

/// With a grace period, of which the provider object knows.
async fn with_grace(test: &str, seconds: u64) -> Scene {
    let scene = with_facts(test, seconds, json!({"reuseGrace": "30s"})).await;
    let settings = json!({"graceSeconds": 30});
    scene.server.control("settings", settings).await;
    scene
}

#[tokio::test(flavor = "multi_thread")]
async fn it_goes_on_over_ten_refreshes_and_presents_each_refresh_token_once() {
    super::refreshes_ten_times(scene("ten", SHORT).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_grace_period_it_goes_on_over_ten_refreshes_and_presents_each_refresh_token_once() {
    super::refreshes_ten_times(with_grace("grace-ten", SHORT).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_access_token_is_dead_after_a_refresh_as_the_preset_says() {
    let scene = scene("old", LONG).await;
    let (old, new) = scene.old_and_new().await;
    assert_eq!((old, new), (false, true));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authorization_code_is_redeemed_once_and_refreshed() {
    super::an_authorization_code_is_redeemed_once_and_refreshed(scene("code", SHORT).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_authorization_code_is_told_and_a_new_one_mends_it() {
    let scene = scene("late", SHORT).await;
    super::an_expired_authorization_code_is_told_and_a_new_one_mends_it(scene).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_authorization_is_told_and_a_new_one_mends_it() {
    let scene = scene("revoked", SHORT).await;
    super::a_revoked_authorization_is_told_and_a_new_one_mends_it(scene).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_authorization_is_told_and_a_new_one_mends_it() {
    let scene = scene("expired", SHORT).await;
    super::an_expired_authorization_is_told_and_a_new_one_mends_it(scene).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_client_secret_is_told_and_the_right_one_mends_it() {
    let scene = scene("secret", SHORT).await;
    super::a_wrong_client_secret_is_told_and_the_right_one_mends_it(scene).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_secret_is_replaced_without_a_gap() {
    super::a_client_secret_is_replaced_without_a_gap(scene("pair", SHORT).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn client_credentials_are_obtained_again_and_again() {
    super::client_credentials_are_obtained_again_and_again(scene("machine", SHORT).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_refresh_token_put_back_is_not_presented_again() {
    super::the_first_refresh_token_put_back_is_not_presented_again(scene("back", SHORT).await)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spent_refresh_token_as_a_seed_ends_the_authorization_and_a_new_one_mends_it() {
    let scene = scene("spent", SHORT).await;
    let _operator = super::a_spent_refresh_token_as_a_seed(&scene).await;
    scene.is_told("ReauthorizationRequired").await;
    scene.mends().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_reuse_is_only_refused_a_spent_refresh_token_as_a_seed_costs_nothing() {
    let scene = with_facts("only", SHORT, json!({"reuseDetection": "RejectOnly"})).await;
    let settings = json!({"reuseProtection": false});
    scene.server.control("settings", settings).await;
    let _operator = super::a_spent_refresh_token_as_a_seed(&scene).await;
    let credential = scene.fixture.get("alice").await;
    let generation = credential.status.unwrap().token.unwrap().generation;
    scene.fixture.generation("alice", generation + 2).await;
    scene.is_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn within_the_grace_period_a_lost_answer_is_overcome() {
    let scene = with_grace("grace", SHORT).await;
    let (_, _operator) = scene.alice().await;
    scene.server.control("lose", json!({"answers": 1})).await;
    let (token, lost) = scene.lost().await;
    eventually("the same one again", async || {
        (scene.server.presentations(&token).await == 2).then_some(())
    })
    .await;
    let generation = scene.generation().await;
    scene.fixture.generation("alice", generation + 2).await;
    scene.is_well().await;
    // What the server had given for it came back, so nothing was refused, and nothing else was presented twice.
    assert_eq!(lost.status, 200);
    let refreshes = scene.server.refreshes().await;
    assert!(refreshes.iter().all(|(_, request)| request.status == 200));
    let presented: BTreeSet<_> = refreshes.iter().map(|(token, _)| token).collect();
    assert_eq!(refreshes.len(), presented.len() + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_grace_period_a_lost_answer_is_told_and_a_new_authorization_mends_it() {
    let scene = scene("lost", SHORT).await;
    let (_, _operator) = scene.alice().await;
    scene.server.control("lose", json!({"answers": 1})).await;
    let (token, _) = scene.lost().await;
    scene.is_told("RotationLost").await;
    scene.stays_dead().await;
    scene.mends().await;
    assert_eq!(scene.server.presentations(&token).await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn within_the_grace_period_a_lost_answer_to_a_refresh_that_was_asked_for_is_overcome_at_once()
{
    let scene = with_grace("grace-asked", LONG).await;
    let (_, _operator) = scene.alice().await;
    scene.server.control("lose", json!({"answers": 1})).await;
    scene.refresh().await;
    let (token, _) = scene.lost().await;
    // Well before the grace is over, though an exchange may take longer than that.
    scene.fixture.generation("alice", 2).await;
    assert_eq!(scene.server.presentations(&token).await, 2);
    scene.is_well().await;
}
