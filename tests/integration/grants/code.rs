//! Authorization codes in the seed.

use axum::http::Method;
use serde_json::json;

use super::{HOUR, SHORT, further, param};
use crate::{
    bad_input::told::{Told, obey, recovers, refresh_token},
    oauth_server::{CodeTerms, Fault, challenge},
    support::{Calls, Fault as ApiFault, Fixture, condition, eventually, text},
};

const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const REDIRECT: &str = "https://app.example/cb?from=provider";

/// A code that a browser has brought back, with everything that redeems it.
async fn handed_over(fixture: &Fixture, verifier: &str) -> String {
    let code = fixture.oauth.issue_code(CodeTerms {
        scope: "read write".to_owned(),
        redirect_uri: Some(REDIRECT.to_owned()),
        challenge: Some(challenge(VERIFIER)),
    });
    let data = [
        ("authorization_code", code.as_str()),
        ("redirect_uri", REDIRECT),
        ("code_verifier", verifier),
    ];
    fixture.secret("alice-seed", &data).await;
    code
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_is_redeemed_at_once_and_once_and_its_refresh_token_goes_on() {
    let fixture = Fixture::new("code", SHORT).await;
    let code = handed_over(&fixture, VERIFIER).await;
    let mut operator = fixture.operator();
    fixture.user("alice", json!({})).await;
    let credential = fixture.generation("alice", 3).await;
    let status = credential.status.as_ref().unwrap();
    assert_eq!(status.token.as_ref().unwrap().scopes, ["read", "write"]);

    let requests = fixture.oauth.requests();
    let first = &requests[0];
    assert_eq!(param(first, "grant_type"), "authorization_code");
    assert_eq!(param(first, "code"), code);
    assert_eq!(param(first, "redirect_uri"), REDIRECT);
    assert_eq!(param(first, "code_verifier"), VERIFIER);
    for later in &requests[1..] {
        assert_eq!(param(later, "grant_type"), "refresh_token");
    }
    eventually("the event Authorized", async || {
        let events = fixture.events().await;
        events
            .iter()
            .any(|e| e.starts_with("Authorized:"))
            .then_some(())
    })
    .await;
    // It is still in the seed, and no other operator presents it either.
    operator.signal("TERM");
    assert!(operator.end().await.success());
    let next = fixture.operator();
    further(&fixture, &fixture.get("alice").await, 2).await;
    assert_eq!(fixture.oauth.redemptions(&code), 1);
    assert_eq!(fixture.oauth.max_presentations(), 1);
    let secrets = [
        code,
        VERIFIER.to_owned(),
        refresh_token(&fixture, "alice").await,
    ];
    fixture.assert_nowhere(&secrets, &[&operator, &next]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_that_is_refused_is_told_and_the_command_hands_over_another_authorization() {
    let fixture = Fixture::new("coderefused", HOUR).await;
    let code = handed_over(&fixture, "another-verifier-than-the-one-of-the-challenge").await;
    let _operator = fixture.operator();
    fixture.user("alice", json!({})).await;
    let command = format!("kubectl -n {} patch secret alice-seed", fixture.namespace);
    let refused = Told {
        ready: ("False", "Invalid"),
        reason: "ReauthorizationRequired",
        event: Some("ReauthorizationRequired"),
        code: Some("invalid_grant"),
        words: &[&command],
        ..Told::STALLED
    }
    .of(&fixture, "alice")
    .await;
    assert_eq!(fixture.oauth.redemptions(&code), 1);

    let (_, _, message) = condition(&refused, "Stalled").unwrap();
    obey(&message, &fixture.oauth.issue_refresh_token("read")).await;
    recovers(&fixture, &refused).await;
    assert_eq!(fixture.oauth.redemptions(&code), 1);
}

/// A code whose answer brought nothing that can be stored.
async fn is_told_and_never_presented_again(test: &str, provider: serde_json::Value, fault: Fault) {
    let fixture = Fixture::new(test, HOUR).await;
    fixture.provider(provider.clone()).await;
    let code = handed_over(&fixture, VERIFIER).await;
    fixture.oauth.fail_next(fault);
    let mut operator = fixture.operator();
    fixture.user("alice", json!({})).await;
    let command = format!("kubectl -n {} patch secret alice-seed", fixture.namespace);
    let lost = Told {
        ready: ("False", "Invalid"),
        reason: "ReauthorizationRequired",
        event: Some("ReauthorizationRequired"),
        words: &["authorization code", &command],
        ..Told::STALLED
    };
    let failed = lost.of(&fixture, "alice").await;

    // Nothing makes it go out again: another operator, another provider object, a person who asks.
    operator.kill();
    let operator = fixture.operator();
    let mut changed = provider;
    changed["headers"] = json!({"X-Changed": "1"});
    fixture.provider(changed).await;
    let asked = fixture.tokenward(&["refresh", "alice"]).end().await;
    assert_ne!(asked.code, 0, "{}", asked.err);
    assert!(
        asked.err.contains("ReauthorizationRequired"),
        "{}",
        asked.err
    );
    assert_eq!(fixture.oauth.redemptions(&code), 1, "{}", operator.log());
    assert_eq!(fixture.oauth.request_count(), 1);

    let second = handed_over(&fixture, VERIFIER).await;
    let credential = recovers(&fixture, &failed).await;
    assert_eq!(fixture.oauth.redemptions(&second), 1);
    assert_eq!(fixture.oauth.max_presentations(), 1);
    let target = fixture.find_secret("alice").await.unwrap();
    assert!(fixture.oauth.is_live(&text(&target, "access_token")));
    assert_eq!(condition(&credential, "SeedRejected"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_whose_answer_is_lost_is_not_presented_again_and_a_new_one_repairs_it() {
    is_told_and_never_presented_again("codelost", json!({}), Fault::DropAfterCommit).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_is_taken_once_also_where_refresh_tokens_stay_the_same() {
    let lasting = json!({"rotation": "Never"});
    is_told_and_never_presented_again("codelasting", lasting, Fault::DropAfterCommit).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_that_brings_no_refresh_token_is_told_and_not_presented_again() {
    let fault = Fault::without("refresh_token");
    is_told_and_never_presented_again("codebare", json!({}), fault).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_beside_a_grant_that_works_is_adopted_and_a_refused_one_leaves_the_grant() {
    let fixture = Fixture::new("codelater", HOUR).await;
    fixture.seed("alice").await;
    let _operator = fixture.operator();
    fixture.user("alice", json!({})).await;
    fixture.ready("alice").await;

    fixture.delete_secret("alice-seed").await;
    let code = handed_over(&fixture, VERIFIER).await;
    let credential = fixture.generation("alice", 2).await;
    assert_eq!(condition(&credential, "SeedRejected"), None);
    let bad = handed_over(&fixture, "not-the-verifier").await;
    let credential = fixture
        .until("alice", "SeedRejected", |c| {
            condition(c, "SeedRejected").is_some()
        })
        .await;
    assert_eq!(condition(&credential, "Ready").unwrap().0, "True");
    assert_eq!(condition(&credential, "Stalled").unwrap().0, "False");
    assert_eq!(fixture.oauth.redemptions(&code), 1);
    assert_eq!(fixture.oauth.redemptions(&bad), 1);
    let grant = fixture.find_secret("alice.grant").await.unwrap();
    assert!(fixture.oauth.is_redeemable(&text(&grant, "refresh_token")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_code_is_not_presented_again_although_the_grant_changed_meanwhile() {
    let fixture = Fixture::new("codenoted", HOUR).await;
    fixture.seed("alice").await;
    let proxy = fixture.proxy().await;
    let _operator = fixture.operator_through(&proxy, &[]);
    fixture.user("alice", json!({})).await;
    fixture.ready("alice").await;

    let notes = Calls::to(Method::PUT, "secrets")
        .named("alice.grant")
        .first(1);
    let refused = proxy.inject(notes, ApiFault::Answer(409));
    fixture.delete_secret("alice-seed").await;
    let bad = handed_over(&fixture, "not-the-verifier").await;
    fixture
        .until("alice", "SeedRejected", |c| {
            condition(c, "SeedRejected").is_some()
        })
        .await;
    assert_eq!(refused.hits(), 1);
    assert_eq!(fixture.oauth.redemptions(&bad), 1);
}
