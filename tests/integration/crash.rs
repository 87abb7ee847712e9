//! Ends of every kind, at the worst moment.

use std::time::Duration;

use kube::api::DeleteParams;
use serde_json::json;
use tokio::time::timeout;

use crate::{
    oauth_server::OAuthServer,
    support::{Fixture, condition, eventually, reason, text},
};

/// Tokens that live this long are refreshed again and again.
const SHORT: Duration = Duration::from_secs(4);

/// Tokens that live this long are not due before a test has asked for a refresh, and the gate that a dead
/// process has left closed is taken over soon.
const A_WHILE: Duration = Duration::from_secs(20);

/// A deadline for what the OAuth server is awaited for.
const SOON: Duration = Duration::from_secs(30);

async fn arrived(oauth: &OAuthServer, requests: usize) {
    timeout(SOON, oauth.wait_for_requests(requests))
        .await
        .expect("the request");
}

async fn committed(oauth: &OAuthServer, requests: usize) {
    timeout(SOON, oauth.wait_for_outcomes(requests))
        .await
        .expect("the commit");
}

#[tokio::test(flavor = "multi_thread")]
async fn after_sigkill_it_goes_on_and_redeems_nothing_twice() {
    let fixture = Fixture::new("kill", SHORT).await;
    fixture.seed("alice").await;
    let mut operator = fixture.operator();
    fixture.user("alice", json!({})).await;
    fixture.generation("alice", 2).await;
    // In the middle of an exchange it would lose what comes back; that is another test.
    let rested = fixture.at_rest("alice").await.status.unwrap();
    operator.kill();
    let _operator = fixture.operator();
    fixture.oauth.configure(|b| b.lifetime = SHORT);
    fixture.ask("alice", "1").await;
    let reached = rested.token.unwrap().generation;
    fixture.generation("alice", reached + 3).await;
    assert_eq!(fixture.oauth.max_presentations(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_during_an_exchange_stores_the_token_that_comes_back() {
    let fixture = Fixture::new("term", Duration::from_secs(3600)).await;
    let seed = fixture.seed("alice").await;
    fixture.oauth.hold_exchanges();
    let mut operator = fixture.operator();
    fixture.user("alice", json!({})).await;
    committed(&fixture.oauth, 1).await;
    assert!(
        !fixture.oauth.is_redeemable(&seed),
        "the provider has taken the seed's token"
    );

    // No reconcile waits for it any more, so that the process itself has to.
    operator
        .logged("a pass takes long and goes on by itself")
        .await;
    operator.signal("TERM");
    operator
        .logged("stopping: what is under way is finished and stored")
        .await;
    assert!(fixture.find_secret("alice.grant").await.is_none());
    fixture.oauth.release_exchanges();
    assert!(operator.end().await.success());

    let grant = fixture.find_secret("alice.grant").await.expect("the grant");
    assert!(fixture.oauth.is_redeemable(&text(&grant, "refresh_token")));
    let target = fixture.find_secret("alice").await.expect("the target");
    assert!(fixture.oauth.is_live(&text(&target, "access_token")));
    // Not only stored: published, opened and said.
    let lease = fixture.leases().get("alice.gate").await.unwrap();
    assert_eq!(lease.spec.unwrap().holder_identity.as_deref(), Some(""));
    assert_eq!(
        fixture
            .get("alice")
            .await
            .status
            .unwrap()
            .token
            .unwrap()
            .generation,
        1
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_before_the_provider_took_the_token_is_overcome() {
    let mut fixture = Fixture::new("crash", A_WHILE).await;
    fixture.seed("alice").await;
    let mut operator = fixture.operator();
    fixture.user("alice", json!({})).await;
    fixture.ready("alice").await;
    fixture.oauth.hold_before_commit();
    fixture.ask("alice", "1").await;
    arrived(&fixture.oauth, 2).await;
    operator.kill();
    // What was held there is never served.
    fixture.oauth.stop().await.unwrap();
    fixture.oauth.release_exchanges();
    fixture.oauth.restart().await.unwrap();

    // The gate is still closed by the dead process: it is waited for, then taken over.
    let holder = fixture
        .leases()
        .get("alice.gate")
        .await
        .unwrap()
        .spec
        .unwrap()
        .holder_identity;
    assert_ne!(holder.as_deref(), Some(""));
    let _operator = fixture.operator();
    fixture.generation("alice", 2).await;
    let gate = fixture.leases().get("alice.gate").await.unwrap();
    let notes = gate.metadata.annotations.unwrap();
    assert!(!notes.contains_key("tokenward.dev/unresolved"), "{notes:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_after_the_provider_took_the_token_is_told_as_rotation_lost() {
    let fixture = Fixture::new("lost", A_WHILE).await;
    fixture.seed("alice").await;
    let mut operator = fixture.operator();
    fixture.user("alice", json!({})).await;
    fixture.ready("alice").await;
    fixture.oauth.hold_exchanges();
    fixture.ask("alice", "1").await;
    committed(&fixture.oauth, 2).await;
    operator.kill();
    fixture.oauth.release_exchanges();

    let operator = fixture.operator();
    fixture.stalled("alice", "RotationLost").await;
    // The access token that there is may live on for a while.
    let credential = fixture
        .until("alice", "Invalid", |c| reason(c) == "Invalid")
        .await;
    // The one time that the rule allows, and no more.
    assert_eq!(fixture.oauth.max_presentations(), 2);
    let (_, why, message) = condition(&credential, "Stalled").unwrap();
    assert_eq!(why, "RotationLost");
    assert!(message.contains("kubectl -n"), "{message}");
    let (ready, state, _) = condition(&credential, "Ready").unwrap();
    assert_eq!((ready.as_str(), state.as_str()), ("False", "Invalid"));
    eventually("the event", async || {
        let events = fixture.events().await;
        events
            .iter()
            .any(|e| e.starts_with("RotationLost:"))
            .then_some(())
    })
    .await;

    // A new authorization mends it.
    fixture.seed("alice").await;
    fixture.ready("alice").await;
    drop(operator);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gate_deleted_during_an_exchange_leads_to_no_second_one() {
    let fixture = Fixture::new("gate", Duration::from_secs(60)).await;
    fixture.seed("alice").await;
    let _first = fixture.operator();
    fixture.user("alice", json!({})).await;
    fixture.ready("alice").await;
    // Before the provider has done anything, so that a second request would be served too.
    fixture.oauth.hold_before_commit();
    fixture.ask("alice", "1").await;
    arrived(&fixture.oauth, 2).await;
    fixture
        .leases()
        .delete("alice.gate", &DeleteParams::default())
        .await
        .unwrap();
    let second = fixture.operator();
    // The exchange has no more than 6 s.
    let _ = timeout(Duration::from_secs(3), second.ready()).await;
    fixture.oauth.release_exchanges();
    fixture.generation("alice", 2).await;

    // It is made again, closed until nobody can be at work, and opens in the end.
    eventually("the open gate", async || {
        let gate = fixture.leases().get_opt("alice.gate").await.unwrap()?;
        gate.spec?.holder_identity?.is_empty().then_some(())
    })
    .await;
    assert_eq!(
        fixture.oauth.max_presentations(),
        1,
        "a refresh token was presented twice"
    );
    fixture.ask("alice", "2").await;
    fixture.generation("alice", 3).await;
    assert_eq!(
        fixture.oauth.max_presentations(),
        1,
        "a refresh token was presented twice"
    );
}
