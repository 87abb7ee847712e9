//! Answers of a provider's own shape, and what of them programs find in the Secret.

use serde_json::{Value, json};

use super::SHORT;
use crate::{
    oauth_server::Fault,
    support::{Fixture, condition, text},
};

#[tokio::test(flavor = "multi_thread")]
async fn an_id_token_and_metadata_are_published_and_outlast_answers_without_them() {
    let fixture = Fixture::new("metadata", SHORT).await;
    let metadata = json!({"instance_url": "/instance_url", "team": "/team/name"});
    fixture
        .provider(json!({"response": {"metadata": metadata}}))
        .await;
    fixture.oauth.fail_next(Fault::edit(|reply| {
        let own = json!({
            "id_token": "header.claims.signature", "instance_url": "https://eu1.example",
            "team": {"name": "blue"},
        });
        reply.json.extend(own.as_object().unwrap().clone());
    }));
    fixture.seed("alice").await;
    let mut operator = fixture.operator();
    fixture.user("alice", json!({})).await;
    let holds = async |generation: i64, team: &str| {
        fixture.generation("alice", generation).await;
        let target = fixture.find_secret("alice").await.unwrap();
        assert_eq!(text(&target, "id_token"), "header.claims.signature");
        assert_eq!(text(&target, "instance_url"), "https://eu1.example");
        assert_eq!(text(&target, "team"), team);
    };
    holds(1, "blue").await;
    // The next answers name none of it.
    holds(3, "blue").await;
    assert_eq!(fixture.oauth.queued_faults(), 0);
    // A value that comes again replaces the one before, and the others stay.
    fixture
        .oauth
        .fail_next(Fault::set("team", json!({"name": "red"})));
    operator.signal("TERM");
    assert!(operator.end().await.success());
    let operator = fixture.operator();
    holds(5, "red").await;
    // They are read back from the grant where the target is lost.
    fixture.delete_secret("alice").await;
    crate::support::eventually("the target again", async || {
        fixture.find_secret("alice").await
    })
    .await;
    holds(5, "red").await;
    let secret = ["header.claims.signature".to_owned()];
    fixture.assert_nowhere(&secret, &[&operator]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_of_a_client_credentials_token_is_kept_in_the_target() {
    let fixture = Fixture::new("machinemeta", SHORT).await;
    let metadata = json!({"instance_url": "/instance_url"});
    fixture
        .provider(json!({"response": {"metadata": metadata}}))
        .await;
    fixture
        .oauth
        .fail_next(Fault::set("instance_url", json!("https://eu1.example")));
    let _operator = fixture.operator();
    fixture.machine("ci", json!({})).await;
    fixture.generation("ci", 3).await;
    let target = fixture.find_secret("ci").await.unwrap();
    assert_eq!(text(&target, "instance_url"), "https://eu1.example");
}

/// As a provider would have it that answers 200 whatever happened, with the tokens further inside.
fn nested(reply: &mut crate::oauth_server::Reply) {
    let fields = std::mem::take(&mut reply.json);
    reply.status = 200;
    let told = if reply.granted {
        let get = |name: &str| fields.get(name).cloned().unwrap_or(Value::Null);
        let seconds = get("expires_in").as_u64().unwrap();
        json!({"ok": true, "authed_user": {
            "token": get("access_token"), "renewal": get("refresh_token"),
            "lives": seconds * 1000, "scopes": ["read", "write"],
        }})
    } else {
        json!({"ok": false, "error": "token_revoked"})
    };
    reply.json.clone_from(told.as_object().unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_of_another_shape_is_read_by_its_description_be_it_good_or_bad() {
    let fixture = Fixture::new("vendor", SHORT).await;
    fixture
        .provider(json!({
            "response": {
                "accessToken": "/authed_user/token", "refreshToken": "/authed_user/renewal",
                "expiresIn": "/authed_user/lives", "scope": "/authed_user/scopes",
            },
            "expiresInUnit": "Milliseconds",
            "success": {"pointer": "/ok", "equals": "true"},
            "errorMap": {"token_revoked": "NeedsReauthorization"},
        }))
        .await;
    fixture.oauth.fail_always(Fault::edit(nested));
    let seed = fixture.seed("alice").await;
    let _operator = fixture.operator();
    fixture.user("alice", json!({})).await;
    let credential = fixture.generation("alice", 2).await;
    let token = credential.status.unwrap().token.unwrap();
    assert_eq!(token.scopes, ["read", "write"]);
    let life = token.expiration_time.unwrap().0 - token.last_refresh_time.unwrap().0;
    assert!((4..=5).contains(&life.get_seconds()), "{life}");
    assert_eq!(fixture.oauth.max_presentations(), 1);

    fixture.oauth.revoke_family_of(&seed);
    let failed = fixture.stalled("alice", "ReauthorizationRequired").await;
    let (_, _, message) = condition(&failed, "Stalled").unwrap();
    assert!(!message.contains("token_revoked"), "{message}");
    fixture.seed("alice").await;
    fixture
        .until("alice", "Valid, and not Stalled", |c| {
            let is = |type_: &str| condition(c, type_).map(|c| c.0);
            is("Ready").as_deref() == Some("True") && is("Stalled").as_deref() == Some("False")
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_token_that_comes_alone_is_kept_and_not_asked_for_more_without_a_pause() {
    let fixture = Fixture::new("alone", super::HOUR).await;
    fixture.seed("alice").await;
    let _operator = fixture.operator();
    fixture.user("alice", json!({})).await;
    fixture.ready("alice").await;
    fixture.oauth.fail_always(Fault::without("access_token"));
    let refresh = fixture.tokenward(&["refresh", "alice"]).start();
    let told = fixture
        .until("alice", "three failures", |c| {
            let refresh = c.status.as_ref().and_then(|s| s.refresh.as_ref());
            refresh.is_some_and(|r| r.failures >= 3)
        })
        .await;
    let requests = fixture.oauth.request_count();
    let refresh_told = told.status.unwrap().refresh.unwrap();
    assert_eq!(
        refresh_told.last_error.unwrap().reason,
        "UnreadableResponse"
    );
    // One request for the first token, one for each failure that was told, and one that was not told yet.
    let most = 2 + usize::try_from(refresh_told.failures).unwrap();
    assert!(requests <= most, "{requests}");
    fixture.oauth.clear_faults();
    refresh.end().await;
    fixture.ready("alice").await;
    let grant = fixture.find_secret("alice.grant").await.unwrap();
    assert!(fixture.oauth.is_redeemable(&text(&grant, "refresh_token")));
    assert_eq!(fixture.oauth.max_presentations(), 1);
}
