//! When a token is refreshed, and when an authorization ends.

mod suspend;

use std::time::Duration;

use jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use tokenward::{api::IntegrationCredential, manager::CredentialManager};

use crate::{
    oauth_server::Fault,
    support::{Fixture, Operator, WallClock, condition, eventually, kubeconfig},
};

const HOUR: Duration = Duration::from_secs(3600);

async fn change(fixture: &Fixture, name: &str, patch: Value) {
    let params = PatchParams::default();
    let (credentials, patch) = (fixture.credentials(), Patch::Merge(patch));
    credentials.patch(name, &params, &patch).await.unwrap();
}

/// Waits until the operator has dealt with the last change.
async fn settled(fixture: &Fixture, name: &str) -> IntegrationCredential {
    fixture
        .until(name, "up to date", |c| {
            let seen = c.status.as_ref().and_then(|s| s.observed_generation);
            seen == c.metadata.generation
        })
        .await
}

/// Seconds from a token's start to its next refresh.
fn due_after(credential: &IntegrationCredential) -> Option<i64> {
    let status = credential.status.as_ref().unwrap();
    let from = status.token.as_ref()?.last_refresh_time.as_ref()?.0;
    let next = status.refresh.as_ref()?.next_time.as_ref()?.0;
    Some(next.duration_since(from).as_secs())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_without_an_expiry_is_refreshed_as_if_it_had_the_assumed_one_and_claims_none() {
    let fixture = Fixture::new("assume", HOUR).await;
    fixture.oauth.fail_always(Fault::without("expires_in"));
    let mut operator = fixture.operator();
    let assume = json!({"unknownExpiry": "Assume", "assumedLifetime": "1m"});
    fixture.machine("assumed", json!({"refresh": assume})).await;
    fixture.machine("never", json!({})).await;
    let credential = fixture.ready("assumed").await;
    fixture.ready("never").await;
    // Half of its life, less the share that is fixed for each credential.
    let after = due_after(&credential).unwrap();
    assert!((23..=30).contains(&after), "{after} s");
    let token = credential.status.clone().unwrap().token.unwrap();
    assert_eq!(token.expiration_time, None);
    let target = fixture.find_secret("assumed").await.unwrap();
    assert!(!target.data.unwrap().contains_key("expires_at"));
    let (_, _, message) = condition(&credential, "Ready").unwrap();
    assert!(message.contains("taken to live for 1 min"), "{message}");
    operator.kill();

    let clock = WallClock::right();
    clock.set(31);
    let _operator = Operator::start_at(&clock, &kubeconfig(), &fixture.namespace, &[]);
    fixture.generation("assumed", 2).await;
    let never = fixture.get("never").await;
    assert_eq!(
        (
            due_after(&never),
            never.status.unwrap().token.unwrap().generation
        ),
        (None, 1)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_token_is_used_before_its_idle_limit_though_its_access_token_lives_for_long() {
    let fixture = Fixture::new("keep-alive", 24 * HOUR).await;
    let idle = json!({"refreshTokenLifetime": {"idle": "15m"}});
    fixture.provider(idle).await;
    for name in ["default", "own", "too-long"] {
        fixture.seed(name).await;
    }
    let mut operator = fixture.operator();
    fixture.user("default", json!({})).await;
    fixture
        .user("own", json!({"refresh": {"keepAlive": "10m"}}))
        .await;
    fixture
        .user("too-long", json!({"refresh": {"keepAlive": "20m"}}))
        .await;
    for (name, longest) in [("default", 300), ("own", 600), ("too-long", 300)] {
        let credential = fixture.ready(name).await;
        let after = due_after(&credential).unwrap();
        assert!(
            (longest * 9 / 10 - 1..=longest).contains(&after),
            "{name}: {after} s"
        );
        let (_, _, message) = condition(&credential, "Ready").unwrap();
        let said =
            message.contains("spec.refresh.keepAlive (20 min) is not shorter than the 15 min");
        assert_eq!(said, name == "too-long", "{message}");
    }
    operator.kill();
    let clock = WallClock::right();
    clock.set(301);
    let _operator = Operator::start_at(&clock, &kubeconfig(), &fixture.namespace, &[]);
    fixture.generation("default", 2).await;
    let own = fixture.get("own").await.status.unwrap().token.unwrap();
    assert_eq!(own.generation, 1, "not due");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_an_authorization_is_told_ahead_at_the_cost_of_one_write_until_there_is_a_new_one()
 {
    let fixture = Fixture::new("end", HOUR).await;
    // A fifth of its life ahead: after 16 s.
    fixture
        .provider(json!({"refreshTokenLifetime": {"absolute": "20s"}}))
        .await;
    fixture.seed("alice").await;
    let _operator = fixture.operator();
    fixture.user("alice", json!({})).await;
    let credential = fixture.ready("alice").await;
    let grant = credential.status.as_ref().unwrap().grant.clone().unwrap();
    let (from, end) = (
        grant.authorization_time.unwrap().0,
        grant.final_expiration_time.unwrap().0,
    );
    assert_eq!(end.duration_since(from).as_secs(), 20);
    assert!(condition(&credential, "AuthorizationExpiring").is_none());
    // Authorized and Refreshed.
    fixture.told(2).await;
    fixture.provider_told().await;
    let audit = fixture.audit();
    let told = fixture
        .until("alice", "AuthorizationExpiring", |c| {
            condition(c, "AuthorizationExpiring").is_some()
        })
        .await;
    assert!(Timestamp::now() >= from + Duration::from_secs(16) - Duration::from_secs(1));
    let (_, _, message) = condition(&told, "AuthorizationExpiring").unwrap();
    let command = format!("kubectl -n {} patch secret alice-seed", fixture.namespace);
    assert!(message.contains(&command), "{message}");
    assert_eq!(condition(&told, "Ready").unwrap().0, "True");
    fixture.told(3).await;
    let writes = audit.writes();
    assert_eq!(writes[0], "patch integrationcredentials/status alice");
    assert!(
        writes.len() == 2 && writes[1].starts_with("create events"),
        "{writes:?}"
    );
    let events = fixture.events().await;
    assert!(
        events
            .iter()
            .any(|e| e.starts_with("AuthorizationExpiring: ")),
        "{events:?}"
    );

    fixture
        .provider(json!({"refreshTokenLifetime": {"absolute": "240h"}}))
        .await;
    fixture.seed("alice").await;
    let renewed = fixture.generation("alice", 2).await;
    assert!(condition(&renewed, "AuthorizationExpiring").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_that_the_provider_states_and_no_refresh_puts_off_is_found_out() {
    let fixture = Fixture::new("fixed-end", HOUR).await;
    let states = |seconds: u64| Fault::set("refresh_expires_in", json!(seconds));
    fixture.seed("alice").await;
    fixture.oauth.fail_next(states(86_400));
    let mut operator = fixture.operator();
    fixture.user("alice", json!({})).await;
    let first = fixture.ready("alice").await.status.unwrap().grant.unwrap();
    assert!(first.expiration_time.is_some(), "it was not read");
    assert_eq!(first.final_expiration_time, None);
    operator.kill();
    let clock = WallClock::right();
    clock.set(60);
    fixture.oauth.fail_next(states(86_340));
    let _operator = Operator::start_at(&clock, &kubeconfig(), &fixture.namespace, &[]);
    fixture.ask("alice", "1").await;
    let second = fixture
        .generation("alice", 2)
        .await
        .status
        .unwrap()
        .grant
        .unwrap();
    assert_eq!(second.final_expiration_time, second.expiration_time);
    assert!(second.final_expiration_time.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_change_of_what_is_asked_for_asks_the_provider() {
    let fixture = Fixture::new("changes", HOUR).await;
    fixture.seed("alice").await;
    let _operator = fixture.operator();
    fixture
        .user("alice", json!({"oauth2": {"scopes": ["read"]}}))
        .await;
    fixture.machine("ci", json!({})).await;
    fixture.ready("alice").await;
    fixture.ready("ci").await;
    let requests = fixture.oauth.request_count();
    for what in [
        json!({"title": "Alice"}),
        json!({"refresh": {"before": "10m"}}),
        json!({"refresh": {"unknownExpiry": "Assume", "assumedLifetime": "2h"}}),
        json!({"lock": {"mode": "Exclusive", "holdDuration": "20s"}}),
        json!({"target": {"deletionPolicy": "Retain"}}),
        json!({"target": {"templateMode": "Merge", "template": {"data": {"x": "{{ access_token }}"}}}}),
    ] {
        for name in ["alice", "ci"] {
            change(&fixture, name, json!({"spec": what})).await;
            settled(&fixture, name).await;
            assert_eq!(fixture.oauth.request_count(), requests, "{name}: {what}");
        }
    }
    change(
        &fixture,
        "alice",
        json!({"spec": {"refresh": {"keepAlive": "45m"}}}),
    )
    .await;
    let kept = settled(&fixture, "alice").await;
    assert_eq!(fixture.oauth.request_count(), requests);
    let after = due_after(&kept).unwrap();
    assert!((40 * 60..=45 * 60).contains(&after), "{after} s");
    // More scopes come by a new authorization only.
    change(
        &fixture,
        "alice",
        json!({"spec": {"oauth2": {"scopes": ["read", "write"]}}}),
    )
    .await;
    let wider = settled(&fixture, "alice").await;
    assert_eq!(fixture.oauth.request_count(), requests);
    assert_eq!(condition(&wider, "ScopesMissing").unwrap().0, "True");
    assert_eq!(condition(&wider, "Ready").unwrap().0, "True");
    // For a client that acts for itself it is another token.
    change(
        &fixture,
        "ci",
        json!({"spec": {"oauth2": {"scopes": ["read", "write"]}}}),
    )
    .await;
    fixture.generation("ci", 2).await;
    assert_eq!(fixture.oauth.request_count(), requests + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_acquires_change_nothing_of_the_credential() {
    let fixture = Fixture::new("acquires", HOUR).await;
    let _operator = fixture.operator();
    fixture.machine("ci", json!({})).await;
    fixture.ready("ci").await;
    fixture.told(1).await;
    fixture.provider_told().await;
    let before = fixture.get("ci").await;
    let audit = fixture.audit();
    let manager = CredentialManager::new(fixture.client.clone(), fixture.namespace.clone());
    for _ in 0..100 {
        let hold = manager.acquire("ci").await.unwrap();
        hold.release().await;
    }
    eventually("no hold", async || {
        fixture.holds("ci").await.is_empty().then_some(())
    })
    .await;
    assert_eq!(fixture.get("ci").await, before);
    assert_eq!(audit.writes(), Vec::<String>::new());
}
