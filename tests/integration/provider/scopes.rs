//! Scopes that were not granted, and how long refresh tokens live.

use serde_json::json;
use tokenward::api::IntegrationCredential;

use super::{HOUR, SHORT};
use crate::{
    oauth_server::Fault,
    support::{Fixture, condition, eventually, text},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_token_with_fewer_scopes_is_used_and_told_once() {
    let fixture = Fixture::new("narrow", SHORT).await;
    fixture.seed("alice").await;
    let _operator = fixture.operator();
    let scopes = json!({"oauth2": {"scopes": ["read", "write", "offline_access"]}});
    fixture.user("alice", scopes).await;
    let credential = fixture.generation("alice", 3).await;
    let (status, reason, message) = condition(&credential, "ScopesMissing").unwrap();
    assert_eq!(
        (status.as_str(), reason.as_str()),
        ("True", "ScopeNarrowed")
    );
    let command = format!("kubectl -n {} patch secret alice-seed", fixture.namespace);
    assert!(
        message.contains(": write.") && message.contains(&command),
        "{message}"
    );
    assert_eq!(condition(&credential, "Ready").unwrap().0, "True");
    assert_eq!(condition(&credential, "Stalled").unwrap().0, "False");
    let target = fixture.find_secret("alice").await.unwrap();
    assert_eq!(text(&target, "scope"), "read");
    let narrowed = async || {
        let events = fixture.events().await;
        let all = events
            .into_iter()
            .filter(|e| e.starts_with("ScopeNarrowed:"));
        all.collect::<Vec<_>>()
    };
    eventually("the event", async || {
        (!narrowed().await.is_empty()).then_some(())
    })
    .await;
    fixture.generation("alice", 4).await;
    fixture.at_rest("alice").await;
    let target = fixture.find_secret("alice").await.unwrap();
    assert!(fixture.oauth.is_live(&text(&target, "access_token")));
    assert_eq!(narrowed().await, [format!("ScopeNarrowed: {message}")]);

    // An authorization that has them ends it.
    let token = fixture.oauth.issue_refresh_token("read write");
    fixture.reseed("alice", &token).await;
    fixture
        .until("alice", "no ScopesMissing", |c| {
            condition(c, "ScopesMissing").is_none()
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn scopes_that_a_client_lacks_are_told_with_another_remedy() {
    let fixture = Fixture::new("narrowclient", HOUR).await;
    fixture.oauth.fail_next(Fault::set("scope", json!("read")));
    let _operator = fixture.operator();
    fixture
        .machine("ci", json!({"oauth2": {"scopes": ["read", "admin"]}}))
        .await;
    let credential = fixture.ready("ci").await;
    let (_, _, message) = condition(&credential, "ScopesMissing").unwrap();
    assert!(message.contains(": admin."), "{message}");
    assert!(!message.contains("seed"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn when_a_refresh_token_expires_stands_in_the_status() {
    let fixture = Fixture::new("expiry", SHORT).await;
    fixture
        .oauth
        .fail_always(Fault::set("refresh_token_expires_in", json!("7200")));
    fixture.seed("alice").await;
    let _operator = fixture.operator();
    fixture.user("alice", json!({})).await;
    // Seconds from the last refresh to the expiry, whole ones on both sides.
    let left = |credential: &IntegrationCredential| {
        let status = credential.status.clone()?;
        let obtained = status.token?.last_refresh_time?.0;
        let expires = status.grant?.expiration_time?.0;
        Some(expires.duration_since(obtained).as_secs())
    };
    let until = async |what: &str, wanted: &dyn Fn(Option<i64>) -> bool| {
        let is_wanted = |c: &IntegrationCredential| wanted(left(c));
        fixture.until("alice", what, is_wanted).await
    };
    let about =
        |seconds: i64| move |left: Option<i64>| left.is_some_and(|l| (l - seconds).abs() <= 1);
    until("two hours", &about(7200)).await;
    // The next answers do not say: nothing is known of their refresh tokens.
    fixture.oauth.clear_faults();
    until("no expiry", &|left| left.is_none()).await;
    fixture.ready("alice").await;
    // The provider object knows.
    let lifetime = json!({"refreshTokenLifetime": {"idle": "1h", "absolute": "2h"}});
    fixture.provider(lifetime).await;
    until("an hour", &about(3600)).await;
    // What ends with the authorization does not move when the token is refreshed.
    let lifetime = json!({"refreshTokenLifetime": {"idle": null, "absolute": "2h"}});
    fixture.provider(lifetime).await;
    let expires = async || {
        let two_hours = |left: Option<i64>| left.is_some_and(|l| l > 6000);
        let credential = until("two hours at most", &two_hours).await;
        let status = credential.status.unwrap();
        let generation = status.token.unwrap().generation;
        (generation, status.grant.unwrap().expiration_time.unwrap().0)
    };
    let (generation, before) = expires().await;
    fixture.generation("alice", generation + 2).await;
    assert_eq!(expires().await.1, before);
}
