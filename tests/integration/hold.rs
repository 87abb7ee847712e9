//! Holding a credential: the consumer's side of the lock, beside a real operator.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use kube::{
    ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use secrecy::ExposeSecret;
use serde_json::json;
use tokenward::{
    lock::protocol::Mode,
    manager::{AcquireOptions, CredentialManager, Error, Hold},
};
use tokio::time::timeout;

use crate::support::{Fixture, condition, eventually, reason, text};

/// A deadline for what comes at once.
const SOON: Duration = Duration::from_secs(30);

/// Tokens that live this long are refreshed after about 9 s.
const SHORT: Duration = Duration::from_secs(20);

const HOUR: Duration = Duration::from_secs(3600);

fn manager(fixture: &Fixture) -> CredentialManager {
    CredentialManager::new(fixture.client.clone(), fixture.namespace.clone())
}

async fn is_live(fixture: &Fixture, hold: &Hold) -> bool {
    let token = hold.token().await.expect("a valid hold");
    fixture.oauth.is_live(token.secret().expose_secret())
}

async fn gate_phase(fixture: &Fixture) -> String {
    let gate = fixture.leases().get("alice.gate").await.unwrap();
    gate.annotations()["tokenward.dev/phase"].clone()
}

async fn holds(fixture: &Fixture) -> Vec<Lease> {
    let params = ListParams::default().labels("tokenward.dev/role=hold");
    fixture.leases().list(&params).await.unwrap().items
}

/// One that renews for ever and never looks at the gate; until its hold is deleted.
async fn stubborn(fixture: &Fixture) {
    let lease: Lease = serde_json::from_value(json!({
        "metadata": {
            "name": "alice.hold.0000stuck",
            "labels": {"tokenward.dev/credential": "alice", "tokenward.dev/role": "hold"},
        },
        "spec": {"holderIdentity": "stubborn-pod/app/0000stuck", "leaseDurationSeconds": 600},
    }))
    .unwrap();
    let leases = fixture.leases();
    leases.create(&PostParams::default(), &lease).await.unwrap();
    let mut ticks = tokio::time::interval(Duration::from_millis(500));
    for beat in 0.. {
        ticks.tick().await;
        let beat = json!({"metadata": {"annotations": {"beat": beat.to_string()}}});
        let patch = Patch::Merge(beat);
        let params = PatchParams::default();
        let renewed = leases.patch("alice.hold.0000stuck", &params, &patch).await;
        if renewed.is_err() {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_waits_for_a_holder_and_goes_on_when_it_lets_go() {
    let fixture = Fixture::new("hold", HOUR).await;
    fixture.seed("alice").await;
    let _operator = fixture.operator();
    fixture.user("alice", json!({})).await;
    fixture.ready("alice").await;

    let manager = manager(&fixture);
    let hold = manager.acquire("alice").await.unwrap();
    assert_eq!(hold.generation(), 1);
    fixture.ask("alice", "1").await;
    timeout(SOON, hold.draining()).await.expect("the notice");
    // The writer closes the gate first, and looks for holders then.
    eventually("the drain", async || {
        (gate_phase(&fixture).await == "Draining").then_some(())
    })
    .await;
    // The server kills the old token with a refresh: it has not happened.
    assert!(is_live(&fixture, &hold).await);
    // Who comes later waits.
    let second = manager.acquire("alice");
    tokio::pin!(second);
    assert!(
        timeout(Duration::from_millis(400), &mut second)
            .await
            .is_err()
    );
    assert!(is_live(&fixture, &hold).await);
    hold.release().await;
    let second = timeout(SOON, second).await.expect("a hold").unwrap();
    assert_eq!(second.generation(), 2);
    assert!(is_live(&fixture, &second).await);
    assert_eq!(fixture.oauth.max_presentations(), 1);
    let events = fixture.events().await;
    assert!(!events.iter().any(|e| e.contains("Forced")), "{events:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_that_is_dropped_is_released_and_so_are_all_when_asked() {
    let fixture = Fixture::new("drop", Duration::from_secs(3600)).await;
    let _operator = fixture.operator();
    fixture.machine("ci", json!({})).await;
    fixture.ready("ci").await;
    let manager = manager(&fixture);
    let hold = manager.acquire("ci").await.unwrap();
    assert_eq!(holds(&fixture).await.len(), 1);
    drop(hold);
    eventually("no hold", async || {
        holds(&fixture).await.is_empty().then_some(())
    })
    .await;

    let one = manager.acquire("ci").await.unwrap();
    let two = manager.acquire("ci").await.unwrap();
    assert_eq!(holds(&fixture).await.len(), 2);
    manager.release_all_locks().await;
    assert_eq!(holds(&fixture).await.len(), 0);
    assert!(matches!(one.token().await, Err(Error::Lost { .. })));
    assert!(!two.is_valid());
    // It can be used again.
    let again = manager.acquire("ci").await.unwrap();
    drop(manager);
    eventually("no hold after the manager is gone", async || {
        holds(&fixture).await.is_empty().then_some(())
    })
    .await;
    drop(again);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_who_reject_a_token_at_once_cause_one_exchange() {
    let fixture = Fixture::new("reject", Duration::from_secs(3600)).await;
    fixture.seed("alice").await;
    let _operator = fixture.operator();
    fixture.user("alice", json!({})).await;
    fixture.ready("alice").await;
    let (one, two) = (manager(&fixture), manager(&fixture));
    let first = one.acquire("alice").await.unwrap();
    let second = two.acquire("alice").await.unwrap();
    let (a, b) = tokio::join!(one.report_rejected(first), two.report_rejected(second));
    a.unwrap();
    b.unwrap();
    fixture.generation("alice", 2).await;
    eventually("both wants answered", async || {
        let params = ListParams::default().labels("tokenward.dev/role=want");
        let wants = fixture.leases().list(&params).await.unwrap();
        wants.items.is_empty().then_some(())
    })
    .await;
    let hold = two.acquire("alice").await.unwrap();
    assert_eq!(hold.generation(), 2);
    assert!(is_live(&fixture, &hold).await);
    assert_eq!(fixture.oauth.granted(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exclusive_credential_is_held_by_one_at_a_time() {
    let fixture = Fixture::new("exclusive", Duration::from_secs(3600)).await;
    let _operator = fixture.operator();
    let spec = json!({"lock": {"mode": "Exclusive"}});
    fixture.machine("ci", spec).await;
    fixture.ready("ci").await;
    let manager = manager(&fixture);
    let wrong = AcquireOptions {
        mode: Some(Mode::Shared),
        ..AcquireOptions::default()
    };
    let refused = manager.acquire_with("ci", &wrong).await.err().unwrap();
    assert!(
        matches!(
            &refused,
            Error::WrongMode {
                has: "Exclusive",
                ..
            }
        ),
        "{refused}"
    );
    let hold = manager.acquire("ci").await.unwrap();
    assert_eq!(holds(&fixture).await[0].name_any(), "ci.hold.exclusive");
    let next = manager.acquire("ci");
    tokio::pin!(next);
    assert!(
        timeout(Duration::from_millis(600), &mut next)
            .await
            .is_err()
    );
    hold.release().await;
    timeout(SOON, next).await.expect("the next one").unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_holder_that_never_lets_go_is_forced_at_the_deadline_and_named() {
    let fixture = Fixture::new("stuck", SHORT).await;
    fixture.seed("alice").await;
    let _operator = fixture.operator();
    fixture.user("alice", json!({})).await;
    let before = fixture.ready("alice").await.status.unwrap().token.unwrap();
    // Another refresh would no longer say that this one was forced.
    fixture.oauth.configure(|b| b.lifetime = HOUR);
    let stubborn = stubborn(&fixture);
    let ((), refreshed) = tokio::join!(stubborn, fixture.generation("alice", 2));
    let token = refreshed.status.unwrap().token.unwrap();
    let at = token.last_refresh_time.unwrap().0;
    assert!(at < before.expiration_time.unwrap().0, "only at {at}");
    eventually("the event", async || {
        let events = fixture.events().await;
        let forced = events.iter().find(|e| e.starts_with("ForcedRefresh:"))?;
        assert!(forced.contains("stubborn-pod/app"), "{forced}");
        Some(())
    })
    .await;
    let gate = fixture.leases().get("alice.gate").await.unwrap();
    assert_eq!(gate.annotations()["tokenward.dev/forced"], "true");
    let target = fixture.find_secret("alice").await.unwrap();
    assert!(fixture.oauth.is_live(&text(&target, "access_token")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_that_a_person_asks_for_says_for_whom_it_waits() {
    let fixture = Fixture::new("asked", HOUR).await;
    fixture.seed("alice").await;
    let _operator = fixture.operator();
    fixture.user("alice", json!({})).await;
    fixture.ready("alice").await;
    let ask = async || {
        eventually("the hold", async || {
            (!fixture.holds("alice").await.is_empty()).then_some(())
        })
        .await;
        fixture.ask("alice", "1").await;
        let waits = fixture
            .until("alice", "Draining", |c| {
                let said = condition(c, "Reconciling");
                said.is_some_and(|(_, why, who)| why == "Draining" && who.contains("stubborn-pod"))
            })
            .await;
        assert_eq!(reason(&waits), "Refreshing");
        // It lets go, long before it would be forced to.
        let (leases, params) = (fixture.leases(), DeleteParams::default());
        leases
            .delete("alice.hold.0000stuck", &params)
            .await
            .unwrap();
        fixture.generation("alice", 2).await
    };
    let ((), refreshed) = tokio::join!(stubborn(&fixture), ask());
    let refresh = refreshed.status.as_ref().unwrap().refresh.as_ref().unwrap();
    assert_eq!(refresh.last_handled_request.as_deref(), Some("1"));
    assert!(condition(&refreshed, "Reconciling").is_none());
    assert_eq!(reason(&refreshed), "Valid");
    assert_eq!(fixture.oauth.granted(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_that_reject_every_token_cannot_burn_the_providers_patience() {
    let fixture = Fixture::new("burn", Duration::from_secs(3600)).await;
    fixture.seed("alice").await;
    let _operator = fixture.operator();
    fixture.user("alice", json!({})).await;
    fixture.ready("alice").await;
    let manager = manager(&fixture);
    for generation in 1..=2 {
        let hold = manager.acquire("alice").await.unwrap();
        assert_eq!(hold.generation(), generation);
        manager.report_rejected(hold).await.unwrap();
        let next = i64::try_from(generation).unwrap() + 1;
        fixture.generation("alice", next).await;
    }
    let told = fixture.get("alice").await;
    let (status, _, message) = condition(&told, "TokenRejected").expect("the condition");
    assert_eq!(status, "True");
    assert!(message.contains("scope"), "{message}");
    // What is said now is not believed: the token is served as it is.
    let hold = manager.acquire("alice").await.unwrap();
    manager.report_rejected(hold).await.unwrap();
    let hold = manager.acquire("alice").await.unwrap();
    assert_eq!(hold.generation(), 3);
    assert_eq!(fixture.oauth.granted(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_that_is_marked_as_not_in_use_is_not_waited_for() {
    let fixture = Fixture::new("marked", SHORT).await;
    let _operator = fixture.operator();
    let hold: Lease = serde_json::from_value(json!({
        "metadata": {
            "name": "alice.hold.0000marked",
            "labels": {"tokenward.dev/credential": "alice", "tokenward.dev/role": "hold"},
            "annotations": {"tokenward.dev/rejected": "1"},
        },
        "spec": {"holderIdentity": "pod/app/0000marked", "leaseDurationSeconds": 600},
    }))
    .unwrap();
    let leases = fixture.leases();
    leases.create(&PostParams::default(), &hold).await.unwrap();
    fixture.seed("alice").await;
    fixture.user("alice", json!({})).await;
    fixture.ready("alice").await;
    assert!(
        leases
            .get_opt("alice.hold.0000marked")
            .await
            .unwrap()
            .is_some()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_credential_and_a_stalled_one_are_told_apart() {
    let fixture = Fixture::new("errors", Duration::from_secs(3600)).await;
    let _operator = fixture.operator();
    let manager = manager(&fixture);
    let error = manager.acquire("nobody").await.err().unwrap();
    assert!(matches!(error, Error::NotFound { .. }), "{error}");
    assert!(manager.get("nobody").await.unwrap().is_none());
    assert!(!manager.exists("nobody").await.unwrap());

    let change = json!({"oauth2": {"providerRef": {"name": "missing"}}});
    fixture.machine("lost", change).await;
    fixture.stalled("lost", "UnknownProvider").await;
    let error = manager.get("lost").await.err().unwrap();
    assert!(matches!(error, Error::UnknownProvider(_)), "{error}");
    let error = manager.acquire("lost").await.err().unwrap();
    assert!(matches!(error, Error::UnknownProvider(_)), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_want_about_a_token_that_never_was_is_answered_and_asked_about_once() {
    let fixture = Fixture::new("never-was", Duration::from_secs(3600)).await;
    fixture.seed("alice").await;
    let _operator = fixture.operator();
    fixture.user("alice", json!({})).await;
    fixture.ready("alice").await;
    let want: Lease = serde_json::from_value(json!({
        "metadata": {
            "name": "alice.want.0123456789abcdef",
            "labels": {"tokenward.dev/credential": "alice", "tokenward.dev/role": "want"},
            "annotations": {"tokenward.dev/generation": "99", "tokenward.dev/owner": "test"},
        },
        "spec": {
            "holderIdentity": "app/main/0123456789abcdef", "leaseDurationSeconds": 600,
            "renewTime": format!("{:.6}", jiff::Timestamp::now()),
        },
    }))
    .unwrap();
    let leases = fixture.leases();
    leases.create(&PostParams::default(), &want).await.unwrap();
    eventually("an answer", async || {
        let found = leases.get_opt("alice.want.0123456789abcdef").await.unwrap();
        found.is_none().then_some(())
    })
    .await;
    assert_eq!(fixture.oauth.request_count(), 1);
}
