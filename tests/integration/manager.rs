//! What a program does with credentials beside holding them.

use std::time::Duration;

use secrecy::ExposeSecret;
use serde_json::json;
use tokenward::{
    api::ProviderReference,
    manager::{CredentialManager, Error, NewCredential, NewKind, Seed},
};
use tokio::time::timeout;

use crate::support::{Fixture, eventually};

const HOUR: Duration = Duration::from_secs(3600);
const SOON: Duration = Duration::from_secs(30);

fn manager(fixture: &Fixture) -> CredentialManager {
    CredentialManager::new(fixture.client.clone(), fixture.namespace.clone())
}

fn of_alice(fixture: &Fixture, name: &str) -> NewCredential {
    NewCredential {
        name: name.to_owned(),
        user: Some("alice".to_owned()),
        title: Some("Alice's calendar".to_owned()),
        kind: NewKind::OAuth2 {
            provider: ProviderReference {
                kind: tokenward::api::ProviderKind::OAuthProvider,
                name: "provider".to_owned(),
            },
            scopes: Vec::new(),
            refresh_token: Some(fixture.oauth.issue_refresh_token("read").into()),
        },
    }
}

fn seed(fixture: &Fixture) -> Seed {
    Seed::RefreshToken(fixture.oauth.issue_refresh_token("read").into())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_is_created_used_updated_and_deleted() {
    let fixture = Fixture::new("manager", HOUR).await;
    let _operator = fixture.operator();
    let manager = manager(&fixture);
    assert!(!manager.exists("calendar").await.unwrap());
    let new = of_alice(&fixture, "calendar");
    manager.create(&new).await.unwrap();
    assert!(manager.exists("calendar").await.unwrap());
    let token = manager.get("calendar").await.unwrap().expect("a token");
    assert_eq!(token.generation(), 1);
    assert!(
        fixture
            .oauth
            .is_live(token.token().unwrap().secret().expose_secret())
    );

    // A second one of its name changes nothing.
    let again = manager.create(&of_alice(&fixture, "calendar")).await;
    assert!(
        matches!(again, Err(Error::AlreadyExists { .. })),
        "{again:?}"
    );
    assert_eq!(
        manager.get("calendar").await.unwrap().unwrap().generation(),
        1
    );

    // A new authorization waits for those who use the old token.
    let hold = manager.acquire("calendar").await.unwrap();
    let next = seed(&fixture);
    let update = manager.update("calendar", &next);
    tokio::pin!(update);
    let notice = async {
        tokio::select! {
            () = hold.draining() => {}
            done = &mut update => panic!("not waited for: {done:?}"),
        }
    };
    timeout(SOON, notice).await.expect("the notice");
    hold.token().await.unwrap();
    hold.release().await;
    update.await.unwrap();
    let token = manager.get("calendar").await.unwrap().unwrap();
    assert_eq!(token.generation(), 2);
    assert!(
        fixture
            .oauth
            .is_live(token.token().unwrap().secret().expose_secret())
    );
    // One that the provider does not take changes nothing.
    let spent = manager.update("calendar", &next).await;
    assert!(spent.is_ok(), "the same authorization again: {spent:?}");
    let unknown = Seed::RefreshToken("rt-unknown".to_owned().into());
    let refused = manager.update("calendar", &unknown).await;
    assert!(
        matches!(refused, Err(Error::SeedRejected(_))),
        "{refused:?}"
    );
    assert!(manager.get("calendar").await.unwrap().is_some());

    assert!(manager.delete("calendar").await.unwrap());
    assert!(!manager.exists("calendar").await.unwrap());
    assert!(!manager.delete("calendar").await.unwrap());
    assert!(manager.get("calendar").await.unwrap().is_none());
    for secret in ["calendar", "calendar.grant", "calendar-seed"] {
        eventually(secret, async || {
            fixture.find_secret(secret).await.is_none().then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_create_that_nobody_waits_for_is_finished_all_the_same() {
    let fixture = Fixture::new("unwaited", HOUR).await;
    let _operator = fixture.operator();
    let manager = manager(&fixture);
    let new = of_alice(&fixture, "calendar");
    // Polled once, and dropped.
    assert!(timeout(Duration::ZERO, manager.create(&new)).await.is_err());
    eventually("the credential", async || {
        manager.exists("calendar").await.unwrap().then_some(())
    })
    .await;
    fixture
        .until("calendar", "a token", |c| {
            c.status.as_ref().is_some_and(|s| s.token.is_some())
        })
        .await;
    // A seed whose name is taken is not overwritten, and leaves no credential behind.
    fixture
        .secret("other-seed", &[("refresh_token", "mine")])
        .await;
    let taken = manager.create(&of_alice(&fixture, "other")).await;
    assert!(
        matches!(taken, Err(Error::AlreadyExists { kind: "Secret", .. })),
        "{taken:?}"
    );
    assert!(!manager.exists("other").await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn all_tokens_of_a_user_are_looked_up_without_a_request() {
    let fixture = Fixture::new("cached", HOUR).await;
    let _operator = fixture.operator();
    let manager = manager(&fixture);
    for name in ["calendar", "mail"] {
        manager.create(&of_alice(&fixture, name)).await.unwrap();
    }
    fixture
        .machine("of-nobody", json!({"user": "bob, the builder"}))
        .await;
    for name in ["calendar", "mail", "of-nobody"] {
        fixture.ready(name).await;
    }
    let getter = manager.cached_getter("alice").await.unwrap();
    assert_eq!(getter.names(), ["calendar", "mail"]);
    let token = getter.get("mail").expect("a token");
    assert!(
        fixture
            .oauth
            .is_live(token.token().unwrap().secret().expose_secret())
    );
    assert!(getter.get("of-nobody").is_none());
    // It follows.
    let hold = manager.acquire("mail").await.unwrap();
    manager.report_rejected(hold).await.unwrap();
    eventually("the next token", async || {
        (getter.get("mail")?.generation() == 2).then_some(())
    })
    .await;
    let builder = manager.cached_getter("bob, the builder").await.unwrap();
    assert_eq!(builder.names(), ["of-nobody"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_another_credential_is_never_handed_out() {
    let fixture = Fixture::new("theirs", HOUR).await;
    let _operator = fixture.operator();
    let target = json!({"target": {"name": "shared"}});
    fixture.machine("first", target.clone()).await;
    fixture.ready("first").await;
    fixture.machine("second", target).await;
    fixture.stalled("second", "TargetConflict").await;
    let manager = manager(&fixture);
    let told = manager.get("second").await.err().expect("an error");
    assert!(matches!(told, Error::Stalled { .. }), "{told}");
    let told = manager.acquire("second").await.err().expect("an error");
    assert!(matches!(told, Error::Stalled { .. }), "{told}");
    assert!(manager.get("first").await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_deleted_and_made_anew_elsewhere_is_found_again() {
    let fixture = Fixture::new("anew", HOUR).await;
    let _operator = fixture.operator();
    let manager = manager(&fixture);
    fixture.machine("ci", json!({})).await;
    fixture.ready("ci").await;
    let old = manager.acquire("ci").await.unwrap();
    manager.delete("ci").await.unwrap();
    fixture
        .machine("ci", json!({"target": {"name": "elsewhere"}}))
        .await;
    // Its holder is told to let go: what it holds is gone.
    timeout(SOON, old.draining()).await.expect("the notice");
    old.release().await;
    fixture.ready("ci").await;
    let hold = manager.acquire("ci").await.unwrap();
    let token = hold.token().await.unwrap();
    let target = fixture.find_secret("elsewhere").await.unwrap();
    let stands_there = crate::support::text(&target, "access_token");
    assert_eq!(token.secret().expose_secret(), stands_there);
}
