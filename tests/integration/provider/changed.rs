//! A provider object that points elsewhere than when a user authorized.

use std::time::Duration;

use kube::ResourceExt;
use serde_json::json;

use crate::{
    bad_input::told::Told,
    support::{Fixture, condition, kubectl, text},
};

/// Long enough for people to be told before the token expires.
const LIFETIME: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_token_goes_to_another_address_only_when_people_confirm_it() {
    let fixture = Fixture::new("moved", LIFETIME).await;
    fixture.seed("alice").await;
    let operator = fixture.operator();
    fixture.user("alice", json!({})).await;
    fixture.ready("alice").await;

    // The same server under another name, as for the operator it might be anybody's.
    let moved = fixture.oauth.token_url().replace("127.0.0.1", "localhost");
    let host = fixture.oauth.url().replace("http://127.0.0.1", "localhost");
    fixture.provider(json!({"tokenUrl": moved})).await;
    let command = format!(
        "kubectl -n {} annotate icred alice tokenward.dev/confirm-origin={host}",
        fixture.namespace
    );
    let before = format!("was at {} when", fixture.oauth.url());
    Told {
        ready: ("True", "Valid"),
        reason: "ProviderChanged",
        event: Some("ProviderChanged"),
        words: &[
            "OAuthProvider provider",
            &before,
            &command,
            "patch secret alice-seed",
        ],
        ..Told::STALLED
    }
    .of(&fixture, "alice")
    .await;
    let sent = fixture.oauth.request_count();

    let annotate = async |value: &str| {
        let note = format!("tokenward.dev/confirm-origin={value}");
        let namespace = fixture.namespace.as_str();
        let arguments = [
            "-n",
            namespace,
            "annotate",
            "--overwrite",
            "icred",
            "alice",
            &note,
        ];
        assert!(kubectl(&arguments).await.status.success());
    };
    // Another host than the one in question.
    annotate("127.0.0.1").await;
    let asked = fixture.tokenward(&["refresh", "alice"]).end().await;
    assert!(asked.err.contains("ProviderChanged"), "{}", asked.err);
    assert_eq!(fixture.oauth.request_count(), sent, "{}", operator.log());

    fixture
        .oauth
        .configure(|b| b.lifetime = Duration::from_secs(6));
    annotate(&host).await;
    let mended = fixture
        .until("alice", "not Stalled", |c| {
            condition(c, "Stalled").is_some_and(|c| c.0 == "False")
        })
        .await;
    let known = mended.status.as_ref().unwrap().token.as_ref().unwrap();
    fixture.generation("alice", known.generation + 1).await;
    assert_eq!(fixture.oauth.max_presentations(), 1);
    let grant = fixture.find_secret("alice.grant").await.unwrap();
    assert_eq!(text(&grant, "origin"), format!("http://{host}"));
    // From then on that is where it belongs: nothing has to stay confirmed.
    let alice = fixture.get("alice").await;
    let generation = alice
        .status
        .as_ref()
        .unwrap()
        .token
        .as_ref()
        .unwrap()
        .generation;
    let arguments = [
        "-n",
        &fixture.namespace,
        "annotate",
        "icred",
        &alice.name_any(),
        "tokenward.dev/confirm-origin-",
    ];
    assert!(kubectl(&arguments).await.status.success());
    fixture.generation("alice", generation + 2).await;
    let events = fixture.events().await;
    let told = events.iter().filter(|e| e.starts_with("ProviderChanged:"));
    assert_eq!(told.count(), 1, "{events:?}");
}
