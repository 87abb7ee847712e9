//! Bad input from providers: down, refusing, malformed, asking for a pause.

use std::{future::ready, time::Duration};

use jiff::{SignedDuration, Timestamp};
use kube::api::{Patch, PatchParams};
use serde_json::json;

use super::{
    HOUR,
    told::{Told, expiry, next_attempt, obey, recovers, recovers_at_once, refresh_token},
};
use crate::{
    oauth_server::{Answer, Fault, Outcome},
    support::{Fixture, Operator, condition, eventually, reason, soon},
};

/// When each request arrived that presented this refresh token.
fn presented(fixture: &Fixture, token: &str) -> Vec<Timestamp> {
    let mut requests = fixture.oauth.requests();
    requests.retain(|r| r.refresh_token.as_deref() == Some(token));
    requests.iter().map(|r| r.at).collect()
}

/// Has the credential looked at without a change of anything that matters, and waits until it was.
async fn touch(fixture: &Fixture, name: &str, operator: &Operator) {
    let planned = || operator.log().matches("\"planned\"").count();
    let before = planned();
    let label = json!({"metadata": {"annotations": {"touched": before.to_string()}}});
    let params = PatchParams::default();
    let patched = fixture
        .credentials()
        .patch(name, &params, &Patch::Merge(label))
        .await;
    patched.unwrap();
    eventually("a look at it", async || (planned() > before).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_is_down_costs_nothing_but_time() {
    let mut fixture = Fixture::new("down", Duration::from_secs(20)).await;
    fixture.seed("alice").await;
    let operator = fixture.operator();
    fixture.user("alice", json!({})).await;
    fixture.ready("alice").await;
    fixture.oauth.stop().await.unwrap();

    let url = fixture.oauth.url();
    let unreachable = Told {
        ready: ("True", "Refreshing"),
        reason: "ProviderUnreachable",
        words: &[&url, "OAuthProvider provider", "spec.tokenUrl", "DNS"],
        ..Told::PASSING
    };
    let failed = unreachable.of(&fixture, "alice").await;
    let expires_at = expiry(&failed).unwrap();
    let token = refresh_token(&fixture, "alice").await;
    // Ready while the token lives, and not longer.
    let expired = fixture
        .until("alice", "Expired", |c| reason(c) == "Expired")
        .await;
    assert!(Timestamp::now() >= expires_at);
    assert_eq!(condition(&expired, "Ready").unwrap().0, "False");
    // Why, and that it goes on, stays told.
    let (status, why, message) = condition(&expired, "Reconciling").unwrap();
    assert_eq!(
        (status.as_str(), why.as_str()),
        ("True", "ProviderUnreachable")
    );
    assert!(message.contains(&url), "{message}");

    fixture.oauth.restart().await.unwrap();
    recovers(&fixture, &failed).await;
    fixture.generation("alice", 2).await;
    assert_eq!(presented(&fixture, &token).len(), 1);
    assert_eq!(fixture.oauth.max_presentations(), 1);
    fixture.assert_nowhere(&[token], &[&operator]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_an_unknown_outcome_a_refresh_token_waits_until_nothing_can_be_lost() {
    let fixture = Fixture::new("unknown", Duration::from_secs(24)).await;
    fixture.seed("alice").await;
    let operator = fixture.operator();
    fixture.user("alice", json!({})).await;
    fixture.ready("alice").await;
    let token = refresh_token(&fixture, "alice").await;
    fixture.oauth.fail_always(Fault::html(500));

    let command = format!("kubectl -n {} patch secret alice-seed", fixture.namespace);
    let unknown = Told {
        ready: ("True", "Refreshing"),
        reason: "RefreshOutcomeUnknown",
        code: Some("500"),
        words: &["OAuthProvider provider", "may be spent", &command],
        ..Told::PASSING
    };
    let failed = unknown.of(&fixture, "alice").await;
    let expires_at = expiry(&failed).unwrap();
    // With half of the life left it is presented once more, and then not before the expiry. Only an
    // attempt that came late waits for the expiry at once.
    let half = expires_at - SignedDuration::from_secs(12);
    assert!(next_attempt(&failed) >= half, "{:?}", failed.status);
    touch(&fixture, "alice", &operator).await;
    let mut attempts = 1;
    if next_attempt(&failed) < expires_at {
        attempts = 2;
        soon("the second attempt", fixture.oauth.wait_for_outcomes(3)).await;
        let failed = fixture
            .until("alice", "a wait for the expiry", |c| {
                next_attempt(c) >= expires_at
            })
            .await;
        let refresh = failed.status.unwrap().refresh.unwrap();
        assert_eq!(refresh.failures, 2, "it counts attempts");
        unknown.of(&fixture, "alice").await;
        touch(&fixture, "alice", &operator).await;
    }

    fixture.oauth.clear_faults();
    recovers(&fixture, &failed).await;
    let presented = presented(&fixture, &token);
    assert!(presented[1] >= half, "{presented:?}, half: {half}");
    let alive = presented.iter().filter(|at| **at < expires_at).count();
    assert_eq!(alive, attempts, "{presented:?}, expiry: {expires_at}");
    assert_eq!(
        condition(&fixture.get("alice").await, "Ready").unwrap().0,
        "True"
    );
    fixture.assert_nowhere(&[token], &[&operator]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_answer_is_tried_again_and_told_by_what_it_may_have_cost() {
    let fixture = Fixture::new("noanswer", HOUR).await;
    let _operator = fixture.operator();
    let (failed, unreadable, unknown) = (
        "ProviderError",
        "UnreadableResponse",
        "RefreshOutcomeUnknown",
    );
    // rotation, answer, its code, the reason for a user, the reason for a machine
    let cases = [
        ("Always", Fault::html(200), "200", unknown, unreadable),
        ("Never", Fault::html(500), "500", failed, failed),
        ("Never", Fault::html(200), "200", unreadable, unreadable),
    ];
    let url = fixture.oauth.url();
    for (case, (rotation, answer, code, user, machine)) in cases.into_iter().enumerate() {
        fixture.provider(json!({"rotation": rotation})).await;
        fixture
            .oauth
            .configure(|b| b.rotation = rotation != "Never");
        fixture.oauth.fail_always(answer);
        let (alice, ci) = (format!("alice-{case}"), format!("ci-{case}"));
        fixture.seed(&alice).await;
        fixture.user(&alice, json!({})).await;
        fixture.machine(&ci, json!({})).await;
        for (name, reason) in [(&alice, user), (&ci, machine)] {
            let words: &[&str] = match reason {
                "ProviderError" => &[&url, "OAuthProvider provider", "trying again"],
                "UnreadableResponse" => &[&url, "OAuthProvider provider", "spec.tokenUrl"],
                _ => &["OAuthProvider provider", "patch secret"],
            };
            Told {
                reason,
                code: Some(code),
                words,
                ..Told::PASSING
            }
            .of(&fixture, name)
            .await;
        }
        fixture.oauth.clear_faults();
        for name in [&alice, &ci] {
            recovers(&fixture, &fixture.get(name).await).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_client_is_mended_by_its_secret_or_by_a_second_one() {
    let fixture = Fixture::new("client", HOUR).await;
    let seed = fixture.seed("alice").await;
    fixture
        .secret("client", &[("client_secret", "wrong-secret")])
        .await;
    let operator = fixture.operator();
    fixture.user("alice", json!({})).await;
    fixture.machine("ci", json!({})).await;
    let url = fixture.oauth.url();
    let refused = Told {
        reason: "InvalidClient",
        code: Some("invalid_client"),
        words: &[
            &url,
            "OAuthProvider provider",
            "spec.client, its Secret and spec.clientAuth",
        ],
        ..Told::STALLED
    };
    let failed = [
        refused.of(&fixture, "alice").await,
        refused.of(&fixture, "ci").await,
    ];
    let right = [("client_secret", "demo-secret")];
    let mend = fixture.secret("client", &right);
    tokio::join!(
        recovers_at_once(&fixture, &failed[0], mend),
        recovers_at_once(&fixture, &failed[1], ready(())),
    );

    // While a secret is replaced, both are named: the second is tried within the same attempt.
    fixture
        .secret(
            "client",
            &[("client_secret", "wrong-secret"), ("new", "demo-secret")],
        )
        .await;
    let both = ["client_secret", "new"].map(|key| json!({"name": "client", "key": key}));
    fixture
        .provider(json!({"client": {"secretKeyRefs": both}}))
        .await;
    let before = fixture.oauth.request_count();
    fixture.machine("bot", json!({})).await;
    fixture.ready("bot").await;
    let outcomes: Vec<Outcome> = fixture.oauth.requests()[before..]
        .iter()
        .map(|r| r.outcome.clone())
        .collect();
    assert!(
        matches!(&outcomes[..], [Outcome::Refused { error }, Outcome::Granted { .. }] if error == "invalid_client"),
        "{outcomes:?}"
    );
    let told = fixture.events().await;
    assert_eq!(
        told.iter()
            .filter(|e| e.contains("refused the client"))
            .count(),
        2
    );
    let secrets = [seed, "wrong-secret".to_owned(), "demo-secret".to_owned()];
    fixture.assert_nowhere(&secrets, &[&operator]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_authorization_is_told_with_the_command_that_mends_it() {
    let fixture = Fixture::new("revoked", Duration::from_secs(20)).await;
    let seed = fixture.seed("alice").await;
    let operator = fixture.operator();
    fixture.user("alice", json!({})).await;
    fixture.ready("alice").await;
    let token = refresh_token(&fixture, "alice").await;
    assert!(fixture.oauth.revoke_family_of(&seed));

    let url = fixture.oauth.url();
    let command = format!(
        "kubectl -n {} patch secret alice-seed -p '{{\"stringData\":{{\"refresh_token\":\"…\"}}}}'",
        fixture.namespace
    );
    let failed = Told {
        // The provider may have left the access token alone: it is served until it expires.
        ready: ("True", "Valid"),
        reason: "ReauthorizationRequired",
        event: Some("ReauthorizationRequired"),
        code: Some("invalid_grant"),
        words: &[&url, "OAuthProvider provider", "revoked", &command],
        ..Told::STALLED
    }
    .of(&fixture, "alice")
    .await;
    let refresh = failed.status.as_ref().unwrap().refresh.clone().unwrap();
    assert_eq!(refresh.next_attempt_time, None);
    fixture
        .until("alice", "Invalid", |c| reason(c) == "Invalid")
        .await;
    touch(&fixture, "alice", &operator).await;
    // The same authorization once more is no reason either.
    fixture.reseed("alice", &format!("{seed}\n")).await;
    touch(&fixture, "alice", &operator).await;
    let credential = fixture.get("alice").await;
    assert_eq!(condition(&credential, "Ready").unwrap().0, "False");
    let (_, _, message) = condition(&credential, "Stalled").unwrap();
    assert_eq!(
        (
            presented(&fixture, &seed).len(),
            presented(&fixture, &token).len()
        ),
        (1, 1)
    );
    assert_eq!(fixture.oauth.request_count(), 2);

    let new = fixture.oauth.issue_refresh_token("read");
    obey(&message, &new).await;
    recovers(&fixture, &failed).await;
    assert_eq!(presented(&fixture, &new).len(), 1);
    assert_eq!(presented(&fixture, &token).len(), 1);
    fixture
        .assert_nowhere(&[seed, token, new], &[&operator])
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_asks_for_a_pause_gets_it() {
    // Longer than the delay without it.
    const PAUSE: u64 = 15;
    let fixture = Fixture::new("pause", HOUR).await;
    let seed = fixture.seed("alice").await;
    let operator = fixture.operator();
    let limited = Answer::new(429).header("retry-after", &PAUSE.to_string());
    fixture.oauth.fail_next(Fault::Answer(limited));
    fixture.user("alice", json!({})).await;
    let url = fixture.oauth.url();
    let failed = Told {
        reason: "RateLimited",
        event: Some("RateLimited"),
        code: Some("429"),
        words: &[
            &url,
            "OAuthProvider provider",
            "asked for a pause",
            "trying again",
        ],
        ..Told::PASSING
    }
    .of(&fixture, "alice")
    .await;
    touch(&fixture, "alice", &operator).await;
    recovers(&fixture, &failed).await;
    let presented = presented(&fixture, &seed);
    assert_eq!(presented.len(), 2);
    let pause = presented[1].duration_since(presented[0]);
    assert!(
        pause >= SignedDuration::from_secs(PAUSE.cast_signed()),
        "{pause:?}"
    );
}
