//! `oidc-provider`: each refresh token once, or everything ends.

use serde_json::json;

use super::scene::{LONG, SHORT, Scene, last_error};
use crate::support::{Server, condition};

async fn scene(test: &str, seconds: u64) -> Scene {
    let facts = json!({"preset": "oidc-provider"});
    let server = Server::oidc_provider();
    Scene::new(&format!("oidc-{test}"), server, facts, seconds).await
}

#[tokio::test(flavor = "multi_thread")]
async fn it_goes_on_over_ten_refreshes_and_presents_each_refresh_token_once() {
    super::refreshes_ten_times(scene("ten", SHORT).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_access_token_lives_on_after_a_refresh_as_the_preset_says() {
    let scene = scene("old", LONG).await;
    let (old, new) = scene.old_and_new().await;
    assert_eq!((old, new), (true, true));
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
    // The server takes it for theft. It was presented once all the same, and what follows is told.
    let token = scene.target("alice").await;
    assert!(!scene.server.accepts(&token).await);
    scene.is_told("ReauthorizationRequired").await;
    scene.mends().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_is_told_at_once_and_the_token_in_use_is_kept_as_long_as_possible() {
    let scene = scene("lost", 40).await;
    let (_, _operator) = scene.alice().await;
    let (token, in_use) = (scene.stored().await, scene.target("alice").await);
    scene.server.control("lose", json!({"answers": 1})).await;
    scene.refresh().await;
    let credential = scene
        .fixture
        .until("alice", "RefreshOutcomeUnknown", |c| {
            last_error(c) == "RefreshOutcomeUnknown"
        })
        .await;
    assert_eq!(condition(&credential, "Ready").unwrap().0, "True");
    assert_eq!(scene.server.presentations(&token).await, 1);
    assert!(scene.server.accepts(&in_use).await);
    // Then it is presented the one time that tells.
    scene.is_told("RotationLost").await;
    scene.mends().await;
    assert_eq!(scene.server.presentations(&token).await, 2);
}
