//! What is copied and expires.

use std::time::Duration;

use jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use tokenward::{
    api::IntegrationCredential,
    manager::{CredentialManager, Error},
};

use super::{HOUR, data};
use crate::support::{Fixture, condition, eventually, reason};

fn expiring(at: Timestamp) -> serde_json::Value {
    json!({"apiKey": {"secretKeyRef": {"name": "in", "key": "k"},
        "expirationTime": format!("{at:.0}")}})
}

/// Restates a time that comes soon, and waits until it is told that it has come: by how many seconds later.
async fn expires(fixture: &Fixture) -> (IntegrationCredential, i64) {
    let at = Timestamp::now().checked_add(Duration::from_secs(6));
    let restated = Patch::Merge(json!({"spec": expiring(at.unwrap())}));
    let (credentials, params) = (fixture.credentials(), PatchParams::default());
    let patched = credentials.patch("shop", &params, &restated).await.unwrap();
    let expired = fixture
        .until("shop", "Expired", |c| {
            let seen = c.status.as_ref().and_then(|s| s.observed_generation);
            seen == patched.metadata.generation && reason(c) == "Expired"
        })
        .await;
    let status = expired.status.as_ref().unwrap();
    let at = status.token.as_ref().unwrap().expiration_time.as_ref();
    let ready = status.conditions.iter().find(|c| c.type_ == "Ready");
    let told = ready.unwrap().last_transition_time.0;
    let late = told.duration_since(at.unwrap().0).as_secs();
    (expired, late)
}

#[tokio::test(flavor = "multi_thread")]
async fn when_it_expires_that_is_told_at_once_and_a_new_value_and_time_mend_it() {
    let fixture = Fixture::bare("kindsexpire", HOUR).await;
    fixture.secret("in", &[("k", "one")]).await;
    let _operator = fixture.operator();
    fixture
        .create("shop", expiring("2099-01-01T00:00:00Z".parse().unwrap()))
        .await;
    fixture.ready("shop").await;
    // A machine that just stood still may tell it late, and not three times in a row.
    let mut lates = Vec::new();
    let credential = loop {
        let (credential, late) = expires(&fixture).await;
        lates.push(late);
        if (0..=1).contains(&late) {
            break credential;
        }
        assert!(lates.len() < 3, "{lates:?} s after it expired");
    };
    let (ready, _, message) = condition(&credential, "Ready").unwrap();
    assert_eq!(ready, "False");
    let source = format!("kubectl -n {} patch secret in", fixture.namespace);
    assert!(
        message.contains(&source) && message.contains("expirationTime"),
        "{message}"
    );
    let (stalled, why, _) = condition(&credential, "Stalled").unwrap();
    assert_eq!((stalled.as_str(), why.as_str()), ("True", "Expired"));
    eventually("the event", async || {
        let events = fixture.events().await;
        events
            .iter()
            .any(|e| e.starts_with("Expired: "))
            .then_some(())
    })
    .await;
    // It is not handed out as if it were valid.
    let manager = CredentialManager::new(fixture.client.clone(), fixture.namespace.clone());
    for error in [
        manager.get("shop").await.err(),
        manager.acquire("shop").await.err(),
    ] {
        let is_told = matches!(&error, Some(Error::Stalled { reason, .. }) if reason == "Expired");
        assert!(is_told, "{error:?}");
    }

    fixture.secret("in", &[("k", "two")]).await;
    let later = "2099-01-01T00:00:00Z";
    let later = json!({"spec": {"apiKey": {"expirationTime": later}}});
    let (params, later) = (PatchParams::default(), Patch::Merge(later));
    let patched = fixture.credentials().patch("shop", &params, &later).await;
    patched.unwrap();
    let credential = fixture.ready("shop").await;
    assert_eq!(condition(&credential, "Stalled").unwrap().0, "False");
    let copy = data(&fixture, "shop").await;
    assert_eq!(
        (copy["api_key"].as_str(), copy["expires_at"].as_str()),
        ("two", "2099-01-01T00:00:00Z")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_expired_before_is_copied_and_said_to_be_expired() {
    let fixture = Fixture::bare("kindspast", HOUR).await;
    fixture.secret("in", &[("k", "one")]).await;
    let _operator = fixture.operator();
    fixture
        .create("shop", expiring("2020-01-01T00:00:00Z".parse().unwrap()))
        .await;
    let credential = fixture.stalled("shop", "Expired").await;
    assert_eq!(reason(&credential), "Expired");
    assert_eq!(
        data(&fixture, "shop").await["expires_at"],
        "2020-01-01T00:00:00Z"
    );
    fixture.told(2).await;
    let events = fixture.events().await;
    let expired = events.iter().filter(|e| e.starts_with("Expired: "));
    assert_eq!(expired.count(), 1, "{events:?}");
}
