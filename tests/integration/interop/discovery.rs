//! The token endpoint, found by the issuer alone (RFC 8414).

use serde_json::json;

use super::scene::{CLIENT, SHORT, Scene};
use crate::support::{Server, condition, eventually};

/// A server of which the provider object knows the issuer only.
async fn scene(
    test: &str,
    server: impl Future<Output = Server>,
    issuer: impl FnOnce(&str) -> String,
) -> Scene {
    let test = format!("found-{test}");
    let mut scene = Scene::new(&test, server, json!({}), SHORT).await;
    scene.facts["issuer"] = json!(issuer(&scene.server.url));
    let refs = json!([{"name": "client", "key": "client_secret"}]);
    scene
        .provider(json!({"id": CLIENT, "secretKeyRefs": refs}))
        .await;
    scene
}

async fn is_found(scene: Scene) {
    let (_, _operator) = scene.alice().await;
    scene.fixture.generation("alice", 3).await;
    scene.is_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_token_endpoint_of_oidc_provider_is_found() {
    is_found(scene("oidc", Server::oidc_provider(), str::to_owned).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_token_endpoint_of_django_is_found() {
    is_found(scene("django", Server::django(), str::to_owned).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_calls_itself_otherwise_is_sent_nothing() {
    let other = |url: &str| url.replace("127.0.0.1", "localhost");
    let scene = scene("other", Server::oidc_provider(), other).await;
    scene.seed().await;
    let asked = scene.server.requests().await.len();
    let _operator = scene.fixture.operator();
    scene.fixture.user("alice", json!({})).await;
    let message = eventually("a word about it", async || {
        let credential = scene.fixture.get("alice").await;
        let (status, _, message) = condition(&credential, "Ready")?;
        (status == "False").then_some(message)
    })
    .await;
    assert!(message.contains("issuer"), "{message}");
    assert_eq!(scene.server.requests().await.len(), asked);
}
