//! Bad input from providers: lifetimes that are odd or missing.

use jiff::Timestamp;
use kube::ResourceExt;
use serde_json::{Value, json};

use super::{
    HOUR,
    told::{expiry, refresh_token},
};
use crate::{
    oauth_server::Fault,
    support::{Fixture, condition, eventually, text},
};

/// What the message says of a token whose lifetime nobody knows.
const UNKNOWN: &str = "nobody knows when it expires and it is not refreshed. Set spec.defaultLifetime of OAuthProvider provider to have it refreshed";

#[tokio::test(flavor = "multi_thread")]
async fn lifetimes_are_read_leniently_and_tokens_without_one_are_kept() {
    let fixture = Fixture::new("lifetimes", HOUR).await;
    let _operator = fixture.operator();
    let set = |value: Value| Fault::set("expires_in", value);
    // name, answer, whether it states a lifetime, what the message says
    let cases = [
        ("text", set(json!("3600")), true, "the token is valid"),
        (
            "silent",
            Fault::without("expires_in"),
            false,
            "states no lifetime",
        ),
        (
            "zero",
            set(json!(0)),
            false,
            "states a lifetime that is none",
        ),
        (
            "trash",
            set(json!("3600abc")),
            false,
            "states a lifetime that is none",
        ),
    ];
    for (name, answer, stated, says) in cases {
        fixture.seed(name).await;
        fixture.oauth.fail_next(answer);
        fixture.user(name, json!({})).await;
        let credential = fixture.ready(name).await;
        let (_, state, message) = condition(&credential, "Ready").unwrap();
        assert_eq!(state, "Valid");
        assert!(message.contains(says), "{name}: {message}");
        assert_eq!(message.contains(UNKNOWN), !stated, "{name}: {message}");
        assert_eq!(condition(&credential, "Stalled").unwrap().0, "False");
        let status = credential.status.as_ref().unwrap();
        let next = status.refresh.as_ref().unwrap().next_time.as_ref();
        assert_eq!(
            (expiry(&credential).is_some(), next.is_some()),
            (stated, stated)
        );
        if let (Some(expires_at), Some(next)) = (expiry(&credential), next) {
            let left = expires_at.duration_since(Timestamp::now()).as_secs();
            assert!((3500..=3600).contains(&left), "{left} s");
            assert!(next.0 < expires_at);
        }
        let target = fixture.find_secret(name).await.unwrap();
        assert!(fixture.oauth.is_live(&text(&target, "access_token")));
        let has_expiry = target.data.as_ref().unwrap().contains_key("expires_at");
        assert_eq!(has_expiry, stated, "{name}");
        let token = refresh_token(&fixture, name).await;
        assert!(fixture.oauth.is_redeemable(&token), "{name}: not kept");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pass_that_asks_no_provider_does_not_forget_that_nobody_knows_the_lifetime() {
    let fixture = Fixture::new("remark", HOUR).await;
    fixture.seed("silent").await;
    let _operator = fixture.operator();
    fixture.oauth.fail_next(Fault::without("expires_in"));
    fixture.user("silent", json!({})).await;
    fixture.ready("silent").await;
    let target = fixture.find_secret("silent").await.unwrap();
    fixture.delete_secret("silent").await;
    eventually("the target again", async || {
        let found = fixture.find_secret("silent").await?;
        (found.uid() != target.uid()).then_some(())
    })
    .await;
    let version = fixture
        .find_secret("silent")
        .await
        .unwrap()
        .resource_version();
    let credential = fixture
        .until("silent", "the repair in the status", |c| {
            let target = c.status.as_ref().and_then(|s| s.target.as_ref());
            target.and_then(|t| t.resource_version.clone()) == version
        })
        .await;
    let (_, _, message) = condition(&credential, "Ready").unwrap();
    assert!(message.contains(UNKNOWN), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_default_lifetime_has_tokens_without_one_refreshed() {
    let fixture = Fixture::new("default", HOUR).await;
    fixture.provider(json!({"defaultLifetime": "3s"})).await;
    fixture.seed("alice").await;
    let _operator = fixture.operator();
    fixture.oauth.fail_always(Fault::without("expires_in"));
    fixture.user("alice", json!({})).await;
    fixture.machine("ci", json!({})).await;
    for name in ["alice", "ci"] {
        let credential = fixture.generation(name, 3).await;
        let (_, _, message) = condition(&credential, "Ready").unwrap();
        let used = "spec.defaultLifetime of OAuthProvider provider is used";
        assert!(message.contains(used), "{name}: {message}");
        let token = credential.status.as_ref().unwrap().token.as_ref().unwrap();
        let obtained = token.last_refresh_time.as_ref().unwrap().0;
        let lifetime = expiry(&credential).unwrap().duration_since(obtained);
        assert_eq!(lifetime.as_secs(), 3);
    }
    assert_eq!(fixture.oauth.max_presentations(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_default_lifetime_set_afterwards_has_the_token_refreshed_as_its_message_promises() {
    let fixture = Fixture::new("afterwards", HOUR).await;
    fixture.seed("alice").await;
    let _operator = fixture.operator();
    fixture.oauth.fail_always(Fault::without("expires_in"));
    fixture.user("alice", json!({})).await;
    fixture.machine("ci", json!({})).await;
    for name in ["alice", "ci"] {
        let credential = fixture.ready(name).await;
        assert_eq!(expiry(&credential), None);
        let (_, _, message) = condition(&credential, "Ready").unwrap();
        assert!(message.contains(UNKNOWN), "{name}: {message}");
    }
    fixture.provider(json!({"defaultLifetime": "3s"})).await;
    for name in ["alice", "ci"] {
        assert!(expiry(&fixture.generation(name, 2).await).is_some());
    }
}
