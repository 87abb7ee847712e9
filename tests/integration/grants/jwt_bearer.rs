//! Assertions as grants: a private key in the seed, plain or as a Google service account.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{HOUR, SHORT, claims, further, header, is_served, param};
use crate::{
    bad_input::told::{Told, obey, recovers, recovers_at_once},
    support::{Fixture, Key, condition, text},
};

const GRANT: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";

async fn robot(fixture: &Fixture, more: Value) {
    let mut oauth2 = json!({"grantType": "JwtBearer", "seedSecretRef": {"name": "robot-seed"}});
    let more = more.as_object().unwrap().clone();
    oauth2.as_object_mut().unwrap().extend(more);
    fixture.machine("robot", json!({"oauth2": oauth2})).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_in_the_seed_signs_an_assertion_for_each_token() {
    let fixture = Fixture::bare("bearer", SHORT).await;
    let key = Key::ed25519();
    fixture
        .oauth
        .trust("robot@example", &[key.public(Some("k1"))]);
    let no_client = json!({"client": null, "rotation": "Never"});
    fixture.provider(no_client).await;
    let pem = key.pem();
    let seed = [
        ("private_key", pem.as_str()),
        ("issuer", "robot@example"),
        ("key_id", "k1"),
    ];
    fixture.secret("robot-seed", &seed).await;
    let operator = fixture.operator();
    let asked = json!({"subject": "person@example", "scopes": ["read", "write"]});
    robot(&fixture, asked).await;
    let credential = fixture.generation("robot", 3).await;
    let status = credential.status.as_ref().unwrap();
    assert_eq!(status.token.as_ref().unwrap().scopes, ["read", "write"]);

    let requests = fixture.oauth.requests();
    let mut ids = BTreeSet::new();
    for request in &requests {
        assert_eq!(param(request, "grant_type"), GRANT);
        assert_eq!(param(request, "scope"), "read write");
        assert!(!request.headers.contains_key("authorization"));
        assert!(!request.params.contains_key("client_id"));
        let assertion = param(request, "assertion");
        let head = json!({"alg": "EdDSA", "typ": "JWT", "kid": "k1"});
        assert_eq!(header(assertion), head);
        let claims = claims(assertion);
        assert_eq!(claims["iss"], "robot@example");
        assert_eq!(claims["sub"], "person@example");
        assert_eq!(claims["aud"], fixture.oauth.token_url());
        assert_eq!(claims.get("scope"), None);
        ids.insert(claims["jti"].as_str().unwrap().to_owned());
    }
    assert_eq!(ids.len(), requests.len());
    assert!(requests.iter().all(is_served), "{requests:?}");
    fixture.at_rest("robot").await;
    let target = fixture.find_secret("robot").await.unwrap();
    assert!(fixture.oauth.is_live(&text(&target, "access_token")));
    // Nothing is stored that another exchange would need.
    assert!(fixture.find_secret("robot.grant").await.is_none());
    let mut secrets = vec![pem.lines().nth(1).unwrap().to_owned()];
    let assertions = requests.iter().map(|r| param(r, "assertion").to_owned());
    secrets.extend(assertions);
    fixture.assert_nowhere(&secrets, &[&operator]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_account_asks_by_the_claims_that_google_wants() {
    let fixture = Fixture::bare("account", SHORT).await;
    let key = Key::rsa();
    let account = "robot@project.iam.example";
    fixture
        .oauth
        .trust(account, &[key.public(Some("0123abcd"))]);
    fixture
        .provider(json!({"preset": "google-service-account", "client": null}))
        .await;
    let file = json!({
        "type": "service_account", "project_id": "project", "private_key_id": "0123abcd",
        "private_key": key.pem(), "client_email": account, "client_id": "1234",
        "token_uri": fixture.oauth.token_url(),
    });
    let file = file.to_string();
    fixture
        .secret("robot-seed", &[("service_account.json", &file)])
        .await;
    let _operator = fixture.operator();
    let scopes = [
        "https://scopes.example/read",
        "https://scopes.example/write",
    ];
    robot(
        &fixture,
        json!({"subject": "person@domain.example", "scopes": scopes}),
    )
    .await;
    let credential = fixture.generation("robot", 2).await;
    let status = credential.status.as_ref().unwrap();
    assert_eq!(status.token.as_ref().unwrap().scopes, scopes);
    for request in fixture.oauth.requests() {
        assert_eq!(request.params.get("scope"), None);
        let assertion = param(&request, "assertion");
        let head = json!({"alg": "RS256", "typ": "JWT", "kid": "0123abcd"});
        assert_eq!(header(assertion), head);
        let claims = claims(assertion);
        assert_eq!(claims["iss"], account);
        assert_eq!(claims["sub"], "person@domain.example");
        assert_eq!(claims["aud"], fixture.oauth.token_url());
        assert_eq!(claims["scope"], scopes.join(" "));
        let life = claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap();
        assert_eq!(life, 300);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_cannot_sign_is_told_without_a_request_and_mended_by_the_seed() {
    let fixture = Fixture::bare("badkey", HOUR).await;
    let key = Key::rsa();
    fixture.oauth.trust("robot@example", &[key.public(None)]);
    fixture.provider(json!({"client": null})).await;
    let operator = fixture.operator();
    robot(&fixture, json!({})).await;
    let namespace = &fixture.namespace;
    let place = format!("{namespace}/robot-seed");
    let create = format!("kubectl -n {namespace} create secret generic robot-seed");
    let missing = Told {
        reason: "SeedNotFound",
        words: &[&place, "does not exist", &create, "private_key"],
        ..Told::STALLED
    };
    missing.of(&fixture, "robot").await;

    // Without its issuer, as if only the key's file had been put there.
    let pem = key.pem();
    fixture.secret("robot-seed", &[("private_key", &pem)]).await;
    let until = async |what: &str| {
        fixture
            .until("robot", what, |c| {
                condition(c, "Stalled").is_some_and(|c| c.2.contains(what))
            })
            .await
    };
    let failed = until("has no key issuer").await;
    let (_, reason, message) = condition(&failed, "Stalled").unwrap();
    assert_eq!(reason, "SeedNotFound");
    let mend = obey(&message, "robot@example");
    recovers_at_once(&fixture, &failed, mend).await;
    assert_eq!(fixture.oauth.request_count(), 1);

    // Text that is no key.
    let broken = pem.replace("MII", "M!I");
    let seed = [
        ("private_key", broken.as_str()),
        ("issuer", "robot@example"),
    ];
    fixture.secret("other-seed", &seed).await;
    let other =
        json!({"oauth2": {"grantType": "JwtBearer", "seedSecretRef": {"name": "other-seed"}}});
    fixture.machine("other", other).await;
    let place = format!("{namespace}/other-seed");
    let failed = Told {
        reason: "SeedInvalid",
        words: &[&place, "cannot sign"],
        ..Told::STALLED
    }
    .of(&fixture, "other")
    .await;
    assert_eq!(fixture.oauth.request_count(), 1);
    let right = [("private_key", pem.as_str()), ("issuer", "robot@example")];
    let mend = fixture.secret("other-seed", &right);
    recovers_at_once(&fixture, &failed, mend).await;
    let secrets = [pem.lines().nth(2).unwrap().to_owned()];
    fixture.assert_nowhere(&secrets, &[&operator]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_assertion_that_is_refused_is_no_dead_authorization() {
    let fixture = Fixture::bare("untrusted", HOUR).await;
    let (old, new) = (Key::ed25519(), Key::ed25519());
    fixture.oauth.trust("robot@example", &[new.public(None)]);
    fixture.provider(json!({"client": null})).await;
    let seed = |key: &Key| {
        [
            ("private_key", key.pem()),
            ("issuer", "robot@example".to_owned()),
        ]
    };
    let put = async |key: &Key| {
        let seed = seed(key);
        let seed: Vec<_> = seed.iter().map(|(k, v)| (*k, v.as_str())).collect();
        fixture.secret("robot-seed", &seed).await;
    };
    put(&old).await;
    let _operator = fixture.operator();
    robot(&fixture, json!({})).await;
    let failed = Told {
        reason: "RequestRefused",
        code: Some("invalid_grant"),
        words: &["OAuthProvider provider"],
        ..Told::STALLED
    }
    .of(&fixture, "robot")
    .await;
    recovers_at_once(&fixture, &failed, put(&new)).await;

    // The key is replaced at the provider and in the seed: the next token is signed with the new one.
    let third = Key::ed25519();
    fixture.oauth.trust("robot@example", &[third.public(None)]);
    put(&third).await;
    let before = fixture.get("robot").await;
    let asked = fixture.tokenward(&["refresh", "robot"]).end().await;
    assert_eq!(asked.code, 0, "{}", asked.err);
    further(&fixture, &before, 1).await;
    recovers(&fixture, &fixture.get("robot").await).await;
}
