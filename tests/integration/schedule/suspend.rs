//! `spec.suspend`.

use k8s_openapi::api::core::v1::Secret;
use kube::{ResourceExt, api::DeleteParams};
use serde_json::json;

use tokenward::manager::CredentialManager;

use super::{HOUR, change, settled};
use crate::support::{Fixture, condition, eventually, notes, text, within};

const RESUME: &str = r#"patch icred alice --type=merge -p '{"spec":{"suspend":false}}'"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_that_is_suspended_from_the_start_asks_nobody_for_anything_until_it_is_resumed()
 {
    let fixture = Fixture::new("born-suspended", HOUR).await;
    fixture.seed("alice").await;
    let _operator = fixture.operator();
    fixture.user("alice", json!({"suspend": true})).await;
    let seen = settled(&fixture, "alice").await;
    let (ready, state, _) = condition(&seen, "Ready").unwrap();
    assert_eq!((ready.as_str(), state.as_str()), ("Unknown", "Pending"));
    assert!(condition(&seen, "Suspended").unwrap().2.contains(RESUME));
    for type_ in ["Stalled", "Reconciling"] {
        assert_eq!(condition(&seen, type_), None);
    }
    let got = fixture
        .tokenward(&["get", "alice", "--timeout", "20s"])
        .end()
        .await;
    assert_eq!(got.code, 1, "{}", got.err);
    assert!(
        got.complaint().contains("is suspended") && got.complaint().contains(RESUME),
        "{}",
        got.err
    );
    assert_eq!(fixture.oauth.request_count(), 0);
    assert_eq!(fixture.find_secret("alice").await, None);

    change(&fixture, "alice", json!({"spec": {"suspend": false}})).await;
    let resumed = fixture.ready("alice").await;
    assert_eq!(condition(&resumed, "Suspended"), None);
    assert_eq!(condition(&resumed, "Stalled").unwrap().0, "False");
    eventually("the event", async || {
        let events = fixture.events().await;
        events
            .iter()
            .any(|e| e.starts_with("Resumed: "))
            .then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_done_for_a_suspended_credential_and_all_of_it_once_it_is_resumed() {
    let fixture = Fixture::new("suspended", std::time::Duration::from_secs(8)).await;
    fixture.seed("alice").await;
    let _operator = fixture.operator();
    fixture.user("alice", json!({})).await;
    fixture.ready("alice").await;
    change(&fixture, "alice", json!({"spec": {"suspend": true}})).await;
    fixture
        .until("alice", "Suspended", |c| {
            condition(c, "Suspended").is_some()
        })
        .await;
    let requests = fixture.oauth.request_count();
    let generation = |secret: &Secret| text(secret, "token_generation");
    let before = generation(&fixture.find_secret("alice.grant").await.unwrap());
    // Everything that would be a reason to do something.
    fixture.delete_secret("alice").await;
    let seed = fixture.seed("alice").await;
    fixture.ask("alice", "1").await;
    let refresh = fixture.tokenward(&["refresh", "alice"]).end().await;
    assert_eq!(refresh.code, 1, "{}", refresh.err);
    assert!(
        refresh
            .complaint()
            .contains("is suspended, so nothing is refreshed")
            && refresh.complaint().contains(RESUME),
        "{}",
        refresh.err
    );
    // It also says that the token has expired.
    let expired = fixture
        .until("alice", "Expired", |c| {
            condition(c, "Ready").is_some_and(|c| c.1 == "Expired")
        })
        .await;
    assert!(condition(&expired, "Suspended").is_some());
    assert_eq!(condition(&expired, "Reconciling"), None);
    let status = expired.status.as_ref().unwrap();
    assert_eq!(status.refresh.as_ref().unwrap().last_handled_request, None);
    assert_eq!(fixture.oauth.request_count(), requests);
    assert_eq!(fixture.oauth.redemptions(&seed), 0);
    assert_eq!(fixture.find_secret("alice").await, None, "written");
    assert_eq!(
        generation(&fixture.find_secret("alice.grant").await.unwrap()),
        before
    );

    change(&fixture, "alice", json!({"spec": {"suspend": false}})).await;
    let resumed = fixture
        .until("alice", "the request handled, and Ready", |c| {
            let refresh = c.status.as_ref().and_then(|s| s.refresh.as_ref());
            let handled = refresh.and_then(|r| r.last_handled_request.as_deref());
            handled == Some("1") && condition(c, "Ready").is_some_and(|c| c.0 == "True")
        })
        .await;
    assert_eq!(condition(&resumed, "Suspended"), None);
    eventually("the new authorization", async || {
        (fixture.oauth.redemptions(&seed) == 1).then_some(())
    })
    .await;
    assert!(fixture.find_secret("alice").await.is_some());
    let events = fixture.events().await;
    for reason in ["Suspended: ", "Resumed: "] {
        let told = events.iter().filter(|e| e.starts_with(reason)).count();
        assert_eq!(told, 1, "{reason} {events:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gate_that_a_dead_writer_left_closed_is_opened_though_the_credential_is_suspended() {
    let fixture = Fixture::new("suspended-gate", HOUR).await;
    let _operator = fixture.operator();
    fixture.machine("alice", json!({})).await;
    fixture.ready("alice").await;
    change(&fixture, "alice", json!({"spec": {"suspend": true}})).await;
    settled(&fixture, "alice").await;
    let is_open = async || {
        let gate = fixture.leases().get_opt("alice.gate").await.unwrap()?;
        (gate.annotations()["tokenward.dev/phase"] == "Open").then_some(())
    };
    eventually("an open gate", is_open).await;
    let version = fixture
        .find_secret("alice")
        .await
        .unwrap()
        .resource_version();
    crate::gate::close(&fixture).await;
    within(std::time::Duration::from_secs(60), "an open gate", is_open).await;
    assert_eq!(fixture.oauth.request_count(), 1);
    let target = fixture.find_secret("alice").await.unwrap();
    assert_eq!(target.resource_version(), version);
    let seen = fixture.get("alice").await;
    assert!(condition(&seen, "Suspended").is_some());
    // It can be held, and deleted.
    let lock = fixture
        .tokenward(&["lock", "alice", "--", "true"])
        .end()
        .await;
    assert_eq!(lock.code, 0, "{}", lock.err);
    let params = DeleteParams::default();
    fixture
        .credentials()
        .delete("alice", &params)
        .await
        .unwrap();
    eventually("its end", async || {
        let found = fixture.credentials().get_opt("alice").await.unwrap();
        found.is_none().then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_that_waits_for_holders_is_not_made_once_the_credential_is_suspended() {
    let fixture = Fixture::new("suspenddrain", HOUR).await;
    fixture.seed("alice").await;
    let _operator = fixture.operator();
    fixture.user("alice", json!({})).await;
    fixture.ready("alice").await;
    let manager = CredentialManager::new(fixture.client.clone(), fixture.namespace.clone());
    let hold = manager.acquire("alice").await.unwrap();
    fixture.ask("alice", "1").await;
    fixture
        .until("alice", "Draining", |c| {
            condition(c, "Reconciling").is_some_and(|c| c.1 == "Draining")
        })
        .await;
    change(&fixture, "alice", json!({"spec": {"suspend": true}})).await;
    eventually("the gate is open", async || {
        let gate = fixture.leases().get("alice.gate").await.unwrap();
        (notes(&gate)["phase"] == "Open").then_some(())
    })
    .await;
    hold.release().await;
    let seen = settled(&fixture, "alice").await;
    assert!(condition(&seen, "Suspended").is_some());
    assert_eq!(fixture.oauth.request_count(), 1);
    change(&fixture, "alice", json!({"spec": {"suspend": false}})).await;
    fixture.generation("alice", 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gate_of_a_suspended_credential_is_opened_without_a_word_to_those_who_hold_it() {
    let fixture = Fixture::new("suspendhold", std::time::Duration::from_secs(60)).await;
    fixture
        .provider(json!({"accessTokenOnRefresh": "Survives"}))
        .await;
    fixture.seed("alice").await;
    let mut operator = fixture.operator();
    fixture.user("alice", json!({})).await;
    fixture.ready("alice").await;
    let manager = CredentialManager::new(fixture.client.clone(), fixture.namespace.clone());
    let hold = manager.acquire("alice").await.unwrap();
    fixture.oauth.hold_before_commit();
    fixture.ask("alice", "1").await;
    let arrived = fixture.oauth.wait_for_requests(2);
    within(HOUR / 60, "the exchange", async || {
        (fixture.oauth.request_count() >= 2).then_some(())
    })
    .await;
    arrived.await;
    operator.kill();
    change(&fixture, "alice", json!({"spec": {"suspend": true}})).await;
    let operator = fixture.operator();
    operator.logged("a gate that nobody kept was opened").await;
    assert_eq!(fixture.holds("alice").await.len(), 1, "{}", operator.log());
    hold.release().await;
    fixture.oauth.release_exchanges();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_becomes_of_the_target_at_the_end_is_followed_while_it_is_suspended() {
    let fixture = Fixture::new("suspendretain", HOUR).await;
    let _operator = fixture.operator();
    fixture.machine("alice", json!({})).await;
    fixture.ready("alice").await;
    change(&fixture, "alice", json!({"spec": {"suspend": true}})).await;
    settled(&fixture, "alice").await;
    for (policy, owned) in [("Retain", false), ("Delete", true), ("Retain", false)] {
        let target = json!({"spec": {"target": {"deletionPolicy": policy}}});
        change(&fixture, "alice", target).await;
        settled(&fixture, "alice").await;
        let target = fixture.find_secret("alice").await.unwrap();
        assert_eq!(
            target.metadata.owner_references.is_some(),
            owned,
            "{policy}"
        );
        assert!(!text(&target, "access_token").is_empty());
    }
    let params = DeleteParams::foreground();
    fixture
        .credentials()
        .delete("alice", &params)
        .await
        .unwrap();
    eventually("its end", async || {
        let found = fixture.credentials().get_opt("alice").await.unwrap();
        found.is_none().then_some(())
    })
    .await;
    assert!(fixture.find_secret("alice").await.is_some());
    assert_eq!(fixture.oauth.request_count(), 1);
}
