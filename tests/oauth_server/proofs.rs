//! Codes and assertions: the server believes no other proof than the right one, and each once.

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use data_encoding::BASE64URL_NOPAD;
use serde_json::{Value, json};

use super::{Got, http, invalid_grant, post, post_as, receive, start, within};
use crate::oauth_server::{Client, CodeTerms, Handle, PublicKey, challenge};

const VERIFIER: &str = "a-verifier-of-at-least-forty-three-characters";

#[tokio::test]
async fn a_code_is_redeemed_once_by_whoever_can_prove_to_have_asked_for_it() {
    let server = start().await;
    let code = server.issue_code(CodeTerms {
        scope: "read".to_owned(),
        redirect_uri: Some("https://app.example/cb".to_owned()),
        challenge: Some(challenge(VERIFIER)),
    });
    let grant = [("grant_type", "authorization_code"), ("code", &code)];
    let redirect = ("redirect_uri", "https://app.example/cb");
    let redeem = async |more: &[(&str, &str)]| {
        let all = [&grant, more].concat();
        post(&server, &all).await.unwrap()
    };
    for wrong in [
        &[][..],
        &[redirect],
        &[("code_verifier", VERIFIER)],
        &[redirect, ("code_verifier", "another")],
        &[
            ("redirect_uri", "https://app.example/"),
            ("code_verifier", VERIFIER),
        ],
    ] {
        assert_eq!(redeem(wrong).await.refused(), invalid_grant(), "{wrong:?}");
    }
    let right = [redirect, ("code_verifier", VERIFIER)];
    let got = redeem(&right).await;
    assert!(server.is_redeemable(&got.field("refresh_token")));
    assert_eq!(redeem(&right).await.refused(), invalid_grant());
    assert!(!server.is_redeemable(&got.field("refresh_token")));
    assert!(!server.is_live(&got.field("access_token")));
}

/// A key, and what it has signed.
struct Signer(Ed25519KeyPair);

impl Signer {
    fn new() -> Self {
        Self(Ed25519KeyPair::generate().unwrap())
    }

    fn public(&self) -> PublicKey {
        PublicKey::ed25519(None, self.0.public_key().as_ref())
    }

    /// An assertion that is valid now, with some claims changed.
    fn sign(&self, audience: &str, changes: &Value) -> String {
        let now = jiff::Timestamp::now().as_second();
        let mut claims = json!({
            "iss": "signer", "sub": "signer", "aud": audience, "iat": now, "exp": now + 60,
            "jti": uuid::Uuid::new_v4().to_string(),
        });
        let changes = changes.as_object().unwrap().clone();
        claims.as_object_mut().unwrap().extend(changes);
        let part = |value: &Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
        let message = format!("{}.{}", part(&json!({"alg": "EdDSA"})), part(&claims));
        let signature = self.0.sign(message.as_bytes());
        format!("{message}.{}", BASE64URL_NOPAD.encode(signature.as_ref()))
    }
}

async fn by_assertion(server: &Handle, assertion: &str) -> Got {
    let kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
    let params = [
        ("grant_type", "client_credentials"),
        ("client_id", "signer"),
        ("client_assertion_type", kind),
        ("client_assertion", assertion),
    ];
    let body = super::form(&params);
    let request = http()
        .post(server.token_url())
        .header("content-type", super::FORM);
    within(receive(request.body(body))).await.unwrap()
}

#[tokio::test]
async fn an_assertion_counts_once_and_only_if_its_client_made_it_for_this_server_and_now() {
    let server = start().await;
    let (key, other) = (Signer::new(), Signer::new());
    server.set_client(Client::signing("signer", &[key.public()]));
    let url = server.token_url();
    let good = key.sign(&url, &json!({}));
    assert_eq!(by_assertion(&server, &good).await.status, 200);
    let now = jiff::Timestamp::now().as_second();
    for bad in [
        good,
        other.sign(&url, &json!({})),
        key.sign("https://elsewhere.example", &json!({})),
        key.sign(&url, &json!({"iss": "demo"})),
        key.sign(&url, &json!({"sub": "demo"})),
        key.sign(&url, &json!({"jti": null})),
        key.sign(&url, &json!({"exp": now - 1})),
        key.sign(&url, &json!({"exp": now + 3600})),
        key.sign(&url, &json!({"iat": now + 60})),
        "no.jwt".to_owned(),
    ] {
        let told = by_assertion(&server, &bad).await.refused();
        assert_eq!(told, (401, "invalid_client".to_owned()), "{bad}");
    }
    // A key that signs is no public client.
    let without = [
        ("grant_type", "refresh_token"),
        ("refresh_token", "x"),
        ("client_id", "signer"),
    ];
    let request = http().post(&url).header("content-type", super::FORM);
    let got = receive(request.body(super::form(&without))).await.unwrap();
    assert_eq!(got.refused().1, "invalid_client");
}

#[tokio::test]
async fn an_assertion_is_a_grant_only_of_an_issuer_that_is_trusted() {
    let server = start().await;
    let key = Signer::new();
    let kind = "urn:ietf:params:oauth:grant-type:jwt-bearer";
    let url = server.token_url();
    let exchange = async |assertion: &str| {
        let params = [("grant_type", kind), ("assertion", assertion)];
        let request = http().post(&url).header("content-type", super::FORM);
        receive(request.body(super::form(&params))).await.unwrap()
    };
    let assertion = key.sign(&url, &json!({"scope": "read"}));
    assert_eq!(exchange(&assertion).await.refused(), invalid_grant());
    server.trust("signer", &[key.public()]);
    let got = exchange(&assertion).await;
    assert_eq!((got.status, got.field("scope").as_str()), (200, "read"));
    assert!(server.is_live(&got.field("access_token")));
    assert_eq!(exchange(&assertion).await.refused(), invalid_grant());
}

#[tokio::test]
async fn an_app_gets_a_token_of_an_installation_by_its_signature() {
    let server = start().await;
    let key = Signer::new();
    server.set_client(Client::signing("signer", &[key.public()]));
    let url = server.url() + "/app/installations/7/access_tokens";
    let ask = async |authorization: &str| {
        let request = http().post(&url).header("content-type", super::FORM);
        receive(request.header("authorization", authorization))
            .await
            .unwrap()
    };
    let got = ask(&format!("Bearer {}", key.sign("unused", &json!({})))).await;
    assert_eq!(got.status, 201);
    assert!(server.is_live(&got.field("token")));
    let expires: jiff::Timestamp = got.field("expires_at").parse().unwrap();
    assert!(expires > jiff::Timestamp::now());
    let stranger = format!("Bearer {}", Signer::new().sign("unused", &json!({})));
    assert_eq!(ask(&stranger).await.refused().1, "invalid_client");
    let basic = super::basic("signer", "x");
    assert_eq!(ask(&basic).await.refused().1, "invalid_client");
    let token = post_as(&server, &basic, &[("grant_type", "client_credentials")]).await;
    assert_eq!(token.unwrap().refused().1, "invalid_client");
}
