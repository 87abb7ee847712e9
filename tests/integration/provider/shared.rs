//! Two credentials with one refresh token.

use kube::api::DeleteParams;
use serde_json::json;

use super::{HOUR, SHORT};
use crate::{
    bad_input::told::{Told, recovers},
    support::{Fixture, condition, eventually},
};

#[tokio::test(flavor = "multi_thread")]
async fn of_two_that_name_one_seed_the_later_one_presents_nothing_until_the_first_is_gone() {
    let fixture = Fixture::new("oneseed", SHORT).await;
    let seed = fixture.seed("alice").await;
    let operator = fixture.operator();
    fixture.user("alice", json!({})).await;
    let alice = fixture.ready("alice").await;
    // Who came later is told by whole seconds.
    let created = alice.metadata.creation_timestamp.unwrap().0;
    eventually("another second", async || {
        (jiff::Timestamp::now().as_second() > created.as_second()).then_some(())
    })
    .await;
    let shared = json!({"oauth2": {"seedSecretRef": {"name": "alice-seed"}}});
    fixture.user("bob", shared).await;
    let owner = format!("IntegrationCredential {}/alice", fixture.namespace);
    let place = format!("{}/alice-seed", fixture.namespace);
    let told = Told {
        reason: "SeedInUse",
        event: Some("SeedInUse"),
        words: &[&owner, &place, "kubectl"],
        ..Told::STALLED
    };
    told.of(&fixture, "bob").await;
    assert_eq!(fixture.oauth.redemptions(&seed), 1);

    // A new token in it is the first one's too.
    let second = fixture.seed("alice").await;
    fixture
        .until("alice", "the new authorization", |_| {
            fixture.oauth.redemptions(&second) == 1
        })
        .await;
    fixture.generation("alice", 4).await;
    let asked = fixture.tokenward(&["refresh", "bob"]).end().await;
    assert!(asked.err.contains("SeedInUse"), "{}", asked.err);
    assert_eq!(fixture.oauth.max_presentations(), 1, "{}", operator.log());
    assert!(fixture.find_secret("bob.grant").await.is_none());

    let params = DeleteParams::default();
    fixture
        .credentials()
        .delete("alice", &params)
        .await
        .unwrap();
    let bob = fixture.get("bob").await;
    let third = fixture.seed("alice").await;
    recovers(&fixture, &bob).await;
    assert_eq!(fixture.oauth.redemptions(&third), 1);
    fixture.generation("bob", 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_token_that_was_copied_is_not_presented_and_one_of_its_own_mends_it() {
    let fixture = Fixture::new("copied", HOUR).await;
    let seed = fixture.seed("alice").await;
    let operator = fixture.operator();
    fixture.user("alice", json!({})).await;
    fixture.ready("alice").await;
    fixture.reseed("bob", &seed).await;
    fixture.user("bob", json!({})).await;
    let owner = format!("IntegrationCredential {}/alice", fixture.namespace);
    let failed = Told {
        reason: "SeedInUse",
        event: Some("SeedInUse"),
        words: &[&owner, "patch secret bob-seed"],
        ..Told::STALLED
    }
    .of(&fixture, "bob")
    .await;
    assert_eq!(fixture.oauth.redemptions(&seed), 1);
    fixture.seed("bob").await;
    recovers(&fixture, &failed).await;

    // Put into the seed of one that works, it is not used, and what works goes on.
    fixture.reseed("bob", &seed).await;
    let bob = fixture
        .until("bob", "SeedRejected", |c| {
            condition(c, "SeedRejected").is_some()
        })
        .await;
    let (_, _, message) = condition(&bob, "SeedRejected").unwrap();
    assert!(message.contains(&owner), "{message}");
    assert_eq!(condition(&bob, "Ready").unwrap().0, "True");
    assert_eq!(condition(&bob, "Stalled").unwrap().0, "False");
    assert_eq!(fixture.oauth.max_presentations(), 1, "{}", operator.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn refresh_tokens_that_stay_the_same_can_be_shared() {
    let fixture = Fixture::new("lasting", SHORT).await;
    fixture.oauth.configure(|b| b.rotation = false);
    fixture.provider(json!({"rotation": "Never"})).await;
    let seed = fixture.seed("alice").await;
    fixture.reseed("copy", &seed).await;
    let _operator = fixture.operator();
    fixture.user("alice", json!({})).await;
    fixture.ready("alice").await;
    let shared = json!({"oauth2": {"seedSecretRef": {"name": "alice-seed"}}});
    fixture.user("bob", shared).await;
    fixture.user("copy", json!({})).await;
    for name in ["alice", "bob", "copy"] {
        fixture.generation(name, 2).await;
    }
}
