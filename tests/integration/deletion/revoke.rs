//! What the provider is asked, and what becomes of its answer.

use std::time::Duration;

use kube::api::DeleteParams;
use serde_json::json;
use tokenward::api::IntegrationCredential;
use tokio::time::timeout;

use super::{
    HOUR, carriers, change, create, delete, event, fixture, gone, note, resource, revocable,
};
use crate::{
    oauth_server::{Answer, Config, Fault, OAuthServer},
    support::{Fixture, eventually, text},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_credential_is_revoked_and_goes_with_all_that_was_made_for_it() {
    let fixture = fixture("revoke", HOUR).await;
    let operator = fixture.operator();
    let tokens = revocable(&fixture, "alice").await;
    assert_eq!(carriers(&fixture, "alice").await, [true; 3]);
    assert_eq!(resource(&fixture, &tokens.access).await, 200);
    delete(&fixture, "alice").await;
    gone(&fixture, "alice").await;
    assert_eq!(resource(&fixture, &tokens.access).await, 401);
    assert!(!fixture.oauth.is_redeemable(&tokens.refresh));
    let asked = fixture.oauth.revocations();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].token.as_ref(), Some(&tokens.refresh));
    assert_eq!(asked[0].hint.as_deref(), Some("refresh_token"));
    assert_eq!(asked[0].client_id.as_deref(), Some("demo"));
    event(&fixture, "Revoked").await;
    eventually("no target", async || {
        fixture.find_secret("alice").await.is_none().then_some(())
    })
    .await;
    assert!(fixture.find_secret("alice-seed").await.is_some());
    let secrets = [tokens.access, tokens.refresh];
    fixture.assert_nowhere(&secrets, &[&operator]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_finalizer_is_there_before_the_first_token_and_never_without_the_policy() {
    let fixture = fixture("before", HOUR).await;
    let _operator = fixture.operator();
    fixture.seed("never").await;
    fixture.user("never", json!({})).await;
    fixture.ready("never").await;
    assert_eq!(carriers(&fixture, "never").await, [false; 3]);
    fixture.oauth.hold_before_commit();
    create(&fixture, "alice", json!({})).await;
    let arrived = fixture.oauth.wait_for_requests(2);
    timeout(Duration::from_secs(30), arrived).await.unwrap();
    assert_eq!(carriers(&fixture, "alice").await, [true, false, true]);
    fixture.oauth.release_exchanges();
    fixture.ready("alice").await;
    assert_eq!(carriers(&fixture, "alice").await, [true; 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_cannot_revoke_now_is_asked_again() {
    let fixture = fixture("again", HOUR).await;
    let _operator = fixture.operator();
    let tokens = revocable(&fixture, "alice").await;
    let busy = Answer::new(503).header("retry-after", "1");
    fixture
        .oauth
        .fail_revocations([Fault::html(500), Fault::Answer(busy)]);
    delete(&fixture, "alice").await;
    gone(&fixture, "alice").await;
    assert_eq!(resource(&fixture, &tokens.access).await, 401);
    assert_eq!(fixture.oauth.revocations().len(), 3);
    event(&fixture, "Revoked").await;
}

/// Deletes a credential whose revocation meets this fault, and returns what people are told.
async fn told(fixture: &Fixture, name: &str, fault: Fault, reason: &str) -> String {
    let tokens = revocable(fixture, name).await;
    let asked = fixture.oauth.revocations().len();
    fixture.oauth.fail_revocations([fault]);
    delete(fixture, name).await;
    gone(fixture, name).await;
    assert_eq!(fixture.oauth.revocations().len(), asked + 1, "{name}");
    assert!(fixture.oauth.is_redeemable(&tokens.refresh), "{name}");
    event(fixture, reason).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_told_and_the_credential_goes_all_the_same() {
    let fixture = fixture("refused", HOUR).await;
    let operator = fixture.operator();
    let body = json!({"error": "access_denied", "error_description": "w0rds of the provider"});
    let denied = Fault::json(403, &body);
    let message = told(&fixture, "alice", denied, "RevocationFailed").await;
    assert!(message.contains("answered 403 access_denied"), "{message}");
    assert!(message.contains("by hand"), "{message}");
    let words = ["w0rds".to_owned()];
    fixture.assert_nowhere(&words, &[&operator]).await;
    let message = told(&fixture, "bob", Fault::html(404), "RevocationNotSupported").await;
    assert!(message.contains("answered 404"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_provider_does_not_revoke_is_told() {
    let fixture = fixture("unsupported", HOUR).await;
    let _operator = fixture.operator();
    let unsupported = json!({"error": "unsupported_token_type"});
    let fault = Fault::json(400, &unsupported);
    let message = told(&fixture, "alice", fault, "RevocationNotSupported").await;
    assert!(message.contains("unsupported_token_type"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_without_a_revocation_endpoint_is_told() {
    let fixture = Fixture::new("endpoint", HOUR).await;
    let _operator = fixture.operator();
    revocable(&fixture, "alice").await;
    delete(&fixture, "alice").await;
    gone(&fixture, "alice").await;
    let message = event(&fixture, "RevocationNotSupported").await;
    assert!(message.contains("spec.revokeUrl"), "{message}");
    assert!(fixture.oauth.revocations().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_hangs_is_given_up_and_attempts_count_over_restarts() {
    let fixture = fixture("hang", HOUR).await;
    let mut operator = fixture.operator();
    revocable(&fixture, "alice").await;
    operator.kill();
    // As an operator leaves it that was killed in the fourth attempt.
    let left = json!({"attempts": 4, "startTime": jiff::Timestamp::now()});
    note(&fixture, "alice", left).await;
    fixture.oauth.fail_every_revocation(Some(Fault::Hang(HOUR)));
    delete(&fixture, "alice").await;
    let _operator = fixture.operator_with(&["--request-timeout", "1s"]);
    gone(&fixture, "alice").await;
    assert_eq!(fixture.oauth.revocations().len(), 1);
    let message = event(&fixture, "RevocationFailed").await;
    assert!(message.contains("given up after attempt 5"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_token_is_not_sent_to_a_host_that_somebody_put_into_the_provider_object() {
    let fixture = Fixture::new("elsewhere", HOUR).await;
    let other = OAuthServer::start(Config::default()).await.unwrap();
    let _operator = fixture.operator();
    revocable(&fixture, "alice").await;
    revocable(&fixture, "bob").await;
    fixture
        .provider(json!({"revokeUrl": other.revoke_url()}))
        .await;
    // The provider is in the cache when the one that was said to belong there is revoked.
    let host = other.url().replace("http://", "");
    let confirmed = json!({"metadata": {"annotations": {"tokenward.dev/confirm-origin": host}}});
    change(&fixture, "bob", confirmed).await;
    delete(&fixture, "alice").await;
    gone(&fixture, "alice").await;
    let message = event(&fixture, "RevocationFailed").await;
    assert!(
        message.contains("tokenward.dev/confirm-origin="),
        "{message}"
    );
    assert!(other.revocations().is_empty());
    delete(&fixture, "bob").await;
    gone(&fixture, "bob").await;
    assert_eq!(other.revocations().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_the_operator_does_not_connect_to_is_not_connected_to() {
    let fixture = Fixture::new("address", HOUR).await;
    let _operator = fixture.operator();
    fixture
        .provider(json!({"revokeUrl": "https://169.254.169.254/revoke"}))
        .await;
    revocable(&fixture, "alice").await;
    let origin = json!({"tokenward.dev/confirm-origin": "169.254.169.254"});
    change(
        &fixture,
        "alice",
        json!({"metadata": {"annotations": origin}}),
    )
    .await;
    delete(&fixture, "alice").await;
    gone(&fixture, "alice").await;
    let message = event(&fixture, "RevocationFailed").await;
    assert!(message.contains("169.254.169.254"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_access_token_is_revoked_where_there_is_no_other_or_the_provider_wants_both() {
    let fixture = fixture("access", HOUR).await;
    let both = json!({
        "revokeUrl": fixture.oauth.revoke_url(),
        "revocation": {"token": "Both", "endsConsent": true},
    });
    fixture.provider_named("both", both).await;
    let _operator = fixture.operator();
    fixture
        .machine("ci", json!({"revocationPolicy": "OnDelete"}))
        .await;
    fixture.ready("ci").await;
    let target = fixture.find_secret("ci").await.unwrap();
    let machines = text(&target, "access_token");
    delete(&fixture, "ci").await;
    gone(&fixture, "ci").await;
    assert!(!fixture.oauth.is_live(&machines));
    assert_eq!(
        fixture.oauth.revocations()[0].hint.as_deref(),
        Some("access_token")
    );

    let reference = json!({"providerRef": {"name": "both"}, "grantType": "RefreshToken",
        "seedSecretRef": {"name": "alice-seed"}});
    create(&fixture, "alice", json!({"oauth2": reference})).await;
    fixture.ready("alice").await;
    let warned = event(&fixture, "RevocationEndsConsent").await;
    assert!(warned.contains("OAuthProvider both"), "{warned}");
    let tokens = super::tokens(&fixture, "alice").await;
    delete(&fixture, "alice").await;
    gone(&fixture, "alice").await;
    let asked: Vec<_> = fixture.oauth.revocations().into_iter().skip(1).collect();
    let asked: Vec<_> = asked.iter().filter_map(|r| r.token.clone()).collect();
    assert_eq!(asked, [tokens.refresh, tokens.access]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_object_or_a_client_that_is_gone_holds_nothing_up() {
    let fixture = fixture("vanished", HOUR).await;
    let _operator = fixture.operator();
    revocable(&fixture, "alice").await;
    revocable(&fixture, "bob").await;
    fixture.delete_secret("client").await;
    delete(&fixture, "alice").await;
    gone(&fixture, "alice").await;
    let message = event(&fixture, "RevocationFailed").await;
    assert!(
        message.contains("/client with the client's secret does not exist"),
        "{message}"
    );
    let api: kube::Api<tokenward::api::OAuthProvider> =
        kube::Api::namespaced(fixture.client.clone(), &fixture.namespace);
    api.delete("provider", &DeleteParams::default())
        .await
        .unwrap();
    fixture.delete_secret("bob.grant").await;
    delete(&fixture, "bob").await;
    gone(&fixture, "bob").await;
    assert!(fixture.oauth.revocations().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_never_had_a_token_goes_at_once_and_nothing_is_asked() {
    let fixture = fixture("pending", HOUR).await;
    let _operator = fixture.operator();
    fixture
        .user("alice", json!({"revocationPolicy": "OnDelete"}))
        .await;
    fixture.stalled("alice", "SeedNotFound").await;
    delete(&fixture, "alice").await;
    gone(&fixture, "alice").await;
    assert!(fixture.oauth.revocations().is_empty());
    let events = fixture.events().await;
    assert!(
        events.iter().all(|event| !event.starts_with("Revo")),
        "{events:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_token_that_another_credential_goes_on_with_is_revoked_with_the_last() {
    let fixture = fixture("lasting", HOUR).await;
    let lasting = json!({"rotation": "Never", "revokeUrl": fixture.oauth.revoke_url()});
    fixture.oauth.configure(|b| b.rotation = false);
    fixture.provider(lasting).await;
    let _operator = fixture.operator();
    let tokens = revocable(&fixture, "alice").await;
    create(&fixture, "bob", json!({})).await;
    fixture.reseed("bob", &tokens.refresh).await;
    let fingerprint = |c: &IntegrationCredential| {
        let grant = c.status.as_ref().and_then(|s| s.grant.as_ref());
        grant.and_then(|grant| grant.seed_fingerprint.clone())
    };
    let of_alice = fingerprint(&fixture.get("alice").await);
    fixture
        .until("bob", "the same refresh token", |c| {
            fingerprint(c) == of_alice
        })
        .await;
    delete(&fixture, "alice").await;
    gone(&fixture, "alice").await;
    let message = event(&fixture, "RevocationSkipped").await;
    assert!(
        message.contains("/bob has the same refresh token"),
        "{message}"
    );
    assert!(fixture.oauth.is_redeemable(&tokens.refresh));
    assert!(fixture.oauth.revocations().is_empty());
    delete(&fixture, "bob").await;
    gone(&fixture, "bob").await;
    event(&fixture, "Revoked").await;
    assert!(!fixture.oauth.is_redeemable(&tokens.refresh));
}
