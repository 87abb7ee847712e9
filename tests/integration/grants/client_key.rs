//! Clients that sign instead of telling a secret (`private_key_jwt`).

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{HOUR, SHORT, claims, header, is_served, param};
use crate::{
    bad_input::told::{Told, recovers_at_once},
    oauth_server::{Client, Outcome},
    support::{Fixture, Key, condition},
};

/// A fixture whose client signs with this key, under this identifier.
async fn signing(test: &str, key: &Key, kid: Option<&str>) -> Fixture {
    let fixture = Fixture::bare(test, SHORT).await;
    let client = Client::signing("demo", &[key.public(kid)]);
    fixture.oauth.set_client(client);
    fixture
        .secret("client", &[("client_secret", &key.pem())])
        .await;
    fixture
}

fn described(assertion: &Value) -> Value {
    json!({"clientAuth": "PrivateKeyJwt", "assertion": assertion})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_signs_each_request_anew() {
    for (test, key, algorithm) in [
        ("signrsa", Key::rsa(), "RS256"),
        ("signed", Key::ed25519(), "EdDSA"),
    ] {
        let fixture = signing(test, &key, Some("k7")).await;
        fixture.provider(described(&json!({"keyId": "k7"}))).await;
        fixture.seed("alice").await;
        let operator = fixture.operator();
        fixture.user("alice", json!({})).await;
        fixture.machine("ci", json!({})).await;
        fixture.generation("alice", 3).await;
        fixture.generation("ci", 2).await;

        let requests = fixture.oauth.requests();
        let mut ids = BTreeSet::new();
        for request in &requests {
            assert_eq!(param(request, "client_id"), "demo");
            assert_eq!(request.params.get("client_secret"), None);
            assert!(!request.headers.contains_key("authorization"));
            let assertion = param(request, "client_assertion");
            let head = json!({"alg": algorithm, "typ": "JWT", "kid": "k7"});
            assert_eq!(header(assertion), head);
            let claims = claims(assertion);
            assert_eq!(
                (&claims["iss"], &claims["sub"]),
                (&json!("demo"), &json!("demo"))
            );
            assert_eq!(claims["aud"], fixture.oauth.token_url());
            let life = claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap();
            assert_eq!(life, 60);
            ids.insert(claims["jti"].as_str().unwrap().to_owned());
        }
        assert_eq!(ids.len(), requests.len());
        assert!(requests.iter().all(is_served), "{requests:?}");
        let mut secrets = vec![key.pem().lines().nth(1).unwrap().to_owned()];
        let sent = requests
            .iter()
            .map(|r| param(r, "client_assertion").to_owned());
        secrets.extend(sent);
        fixture.assert_nowhere(&secrets, &[&operator]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_assertion_is_for_the_audience_that_the_provider_object_names() {
    let key = Key::ed25519();
    let fixture = signing("audience", &key, None).await;
    let server = |audience: &str| {
        let audience = audience.to_owned();
        fixture.oauth.configure(|b| b.audience = Some(audience));
    };
    server("https://issuer.example/tenant");
    let mut spec = described(&json!({"audience": "Issuer", "lifetime": "2m"}));
    spec["issuer"] = json!("https://issuer.example/tenant");
    fixture.provider(spec).await;
    let _operator = fixture.operator();
    fixture.machine("ci", json!({})).await;
    fixture.ready("ci").await;
    let first = claims(param(&fixture.oauth.requests()[0], "client_assertion"));
    assert_eq!(first["aud"], "https://issuer.example/tenant");
    assert_eq!(
        first["exp"].as_i64().unwrap() - first["iat"].as_i64().unwrap(),
        120
    );

    // One that is not for the server: told, and mended by the provider object.
    server("urn:example:tokens");
    fixture.oauth.configure(|b| b.lifetime = HOUR);
    let refused = fixture.stalled("ci", "InvalidClient").await;
    let (_, _, message) = condition(&refused, "Stalled").unwrap();
    assert!(message.contains("spec.client"), "{message}");
    fixture
        .provider(described(&json!({"audience": "urn:example:tokens"})))
        .await;
    let mended = fixture
        .until("ci", "not Stalled", |c| {
            condition(c, "Stalled").is_some_and(|c| c.0 == "False")
        })
        .await;
    assert_eq!(condition(&mended, "Ready").unwrap().0, "True");
    let last = fixture.oauth.requests().pop().unwrap();
    let last = claims(param(&last, "client_assertion"));
    assert_eq!(last["aud"], "urn:example:tokens");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_keys_the_second_is_used_where_the_first_is_refused() {
    let (old, new) = (Key::rsa(), Key::ed25519());
    let fixture = signing("twokeys", &old, None).await;
    fixture.secret("next", &[("key.pem", &new.pem())]).await;
    let both = json!({"clientAuth": "PrivateKeyJwt", "client": {"secretKeyRefs": [
        {"name": "client", "key": "client_secret"}, {"name": "next", "key": "key.pem"},
    ]}});
    fixture.provider(both).await;
    fixture.seed("alice").await;
    let _operator = fixture.operator();
    fixture.user("alice", json!({})).await;
    fixture.ready("alice").await;
    assert!(fixture.oauth.requests().iter().all(is_served));

    // The provider forgets the old key: the refusal spends nothing, and the refresh goes on.
    let client = Client::signing("demo", &[new.public(None)]);
    fixture.oauth.set_client(client);
    let before = fixture.oauth.request_count();
    let credential = fixture.generation("alice", 3).await;
    assert_eq!(condition(&credential, "Stalled").unwrap().0, "False");
    let requests = fixture.oauth.requests();
    let after = &requests[before..];
    let refused = |r: &&crate::oauth_server::TokenRequest| matches!(&r.outcome, Outcome::Refused { error } if error == "invalid_client");
    assert!(after.iter().any(|r| refused(&r)));
    let algorithms = after
        .iter()
        .map(|r| header(param(r, "client_assertion"))["alg"].clone());
    let algorithms: BTreeSet<_> = algorithms.map(|a| a.to_string()).collect();
    assert_eq!(algorithms.len(), 2, "{algorithms:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_secret_that_is_no_key_is_told_before_anything_is_sent() {
    let fixture = Fixture::new("notakey", HOUR).await;
    fixture.provider(described(&json!({}))).await;
    let operator = fixture.operator();
    fixture.machine("ci", json!({})).await;
    let failed = Told {
        reason: "ProviderNotConfigured",
        event: Some("ProviderNotConfigured"),
        words: &["OAuthProvider provider", "cannot sign", "spec.client"],
        ..Told::STALLED
    }
    .of(&fixture, "ci")
    .await;
    assert_eq!(fixture.oauth.request_count(), 0);
    let secret = ["demo-secret".to_owned()];
    fixture.assert_nowhere(&secret, &[&operator]).await;

    let key = Key::ed25519();
    fixture
        .oauth
        .set_client(Client::signing("demo", &[key.public(None)]));
    let pem = key.pem();
    let right = [("client_secret", pem.as_str())];
    recovers_at_once(&fixture, &failed, fixture.secret("client", &right)).await;
}
