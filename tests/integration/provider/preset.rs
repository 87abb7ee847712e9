//! Entries of the catalogue, and what an object says instead.

use serde_json::json;

use super::{HOUR, SHORT};
use crate::{
    bad_input::told::{Told, recovers_at_once},
    oauth_server::{ClientAuth, Fault},
    support::{Fixture, text},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_preset_describes_everything_that_the_object_does_not() {
    let fixture = Fixture::new("preset", SHORT).await;
    fixture.oauth.configure(|b| b.accept_json = true);
    // Salesforce: the client in the body, metadata, no lifetime in the answer.
    fixture
        .provider(json!({"preset": "salesforce", "defaultLifetime": "5s"}))
        .await;
    fixture.oauth.fail_always(Fault::edit(|reply| {
        if reply.granted {
            reply.json.remove("expires_in");
            reply
                .json
                .insert("instance_url".to_owned(), json!("https://org.example"));
        } else {
            reply
                .json
                .insert("error".to_owned(), json!("inactive_user"));
        }
    }));
    let seed = fixture.seed("alice").await;
    let _operator = fixture.operator();
    fixture.user("alice", json!({})).await;
    fixture.generation("alice", 2).await;
    let target = fixture.find_secret("alice").await.unwrap();
    assert_eq!(text(&target, "instance_url"), "https://org.example");
    for request in fixture.oauth.requests() {
        assert_eq!(request.client_auth, ClientAuth::Body);
    }
    // Its word for a user that is gone.
    fixture.oauth.revoke_family_of(&seed);
    fixture.stalled("alice", "ReauthorizationRequired").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_preset_that_does_not_exist_is_told_and_another_acts_at_once() {
    let fixture = Fixture::new("nopreset", HOUR).await;
    fixture.provider(json!({"preset": "gogle"})).await;
    let _operator = fixture.operator();
    fixture.machine("ci", json!({})).await;
    let failed = Told {
        reason: "UnknownProvider",
        event: Some("UnknownProvider"),
        words: &[
            "OAuthProvider provider",
            "preset gogle",
            "tokenward providers list",
        ],
        ..Told::STALLED
    }
    .of(&fixture, "ci")
    .await;
    assert_eq!(fixture.oauth.request_count(), 0);
    let mend = fixture.provider(json!({"preset": "salesforce"}));
    recovers_at_once(&fixture, &failed, mend).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_that_the_provider_does_not_offer_is_told_with_those_that_it_does() {
    let fixture = Fixture::new("nooffer", HOUR).await;
    fixture.provider(json!({"preset": "google"})).await;
    let _operator = fixture.operator();
    fixture.machine("ci", json!({})).await;
    let failed = Told {
        reason: "ProviderNotConfigured",
        event: Some("ProviderNotConfigured"),
        words: &[
            "OAuthProvider provider",
            "does not offer grantType ClientCredentials",
            "RefreshToken",
        ],
        ..Told::STALLED
    }
    .of(&fixture, "ci")
    .await;
    assert_eq!(fixture.oauth.request_count(), 0);
    let all = json!(["RefreshToken", "ClientCredentials"]);
    let mend = fixture.provider(json!({"preset": "google", "grants": all}));
    recovers_at_once(&fixture, &failed, mend).await;
}
