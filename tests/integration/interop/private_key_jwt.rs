//! Clients that sign instead of having a secret (RFC 7523), with `oidc-provider`, which checks every claim.

use aws_lc_rs::{
    encoding::{AsDer, Pkcs8V1Der},
    rsa::{self, KeySize},
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
};
use data_encoding::{BASE64, BASE64URL_NOPAD};
use serde_json::{Value, json};

use super::scene::{SHORT, Scene, well};
use crate::support::{REDIRECT_URI, Server, condition};

/// A key pair: what the server knows of it, and what the operator does.
struct Key {
    public: Value,
    private: String,
}

fn elliptic(id: &str) -> Key {
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    // Uncompressed: a byte that says so, then both coordinates.
    let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
    let [x, y] = [x, y].map(|part| BASE64URL_NOPAD.encode(part));
    Key {
        public: json!({"kty": "EC", "crv": "P-256", "x": x, "y": y, "kid": id, "use": "sig"}),
        private: pem(pair.to_pkcs8v1().unwrap().as_ref()),
    }
}

fn rsa(id: &str) -> Key {
    let pair = rsa::KeyPair::generate(KeySize::Rsa2048).unwrap();
    let der: Pkcs8V1Der = pair.as_der().unwrap();
    // RSAPublicKey of RFC 8017 appendix A.1.1, of this size: nine bytes, the modulus, two bytes, 65537.
    let public = pair.public_key().as_ref();
    let [n, e] = [&public[9..265], &public[267..]].map(|part| BASE64URL_NOPAD.encode(part));
    assert_eq!(e, "AQAB");
    Key {
        public: json!({"kty": "RSA", "n": n, "e": e, "kid": id, "use": "sig"}),
        private: pem(der.as_ref()),
    }
}

fn pem(der: &[u8]) -> String {
    let encoded = BASE64.encode(der);
    let lines: Vec<_> = encoded
        .as_bytes()
        .chunks(64)
        .map(|line| std::str::from_utf8(line).unwrap())
        .collect();
    format!(
        "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
        lines.join("\n")
    )
}

/// A client of the server that signs with one of these keys, and a provider object for it that knows `known`.
async fn scene(test: &str, keys: &[&Key], known: &[&Key]) -> Scene {
    let facts = json!({"preset": "oidc-provider", "clientAuth": "PrivateKeyJwt"});
    let server = Server::oidc_provider();
    let scene = Scene::new(&format!("signs-{test}"), server, facts, SHORT).await;
    let mut refs = Vec::new();
    for (i, key) in known.iter().enumerate() {
        let name = format!("key-{i}");
        let data = [("private_key", key.private.as_str())];
        scene.fixture.secret(&name, &data).await;
        refs.push(json!({"name": name, "key": "private_key"}));
    }
    accept(&scene, keys).await;
    scene
        .provider(json!({"id": "signer", "secretKeyRefs": refs}))
        .await;
    scene
}

/// Has the server accept these keys of the client, and no others.
async fn accept(scene: &Scene, keys: &[&Key]) {
    let keys: Vec<_> = keys.iter().map(|key| &key.public).collect();
    let client = json!({"id": "signer", "jwks": {"keys": keys}, "redirectUri": REDIRECT_URI});
    scene.server.control("client", client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_is_authorized_and_refreshed_by_signatures() {
    let key = rsa("of-the-user");
    let scene = scene("user", &[&key], &[&key]).await;
    let consent = scene.server.authorize("signer", "alice").await;
    scene.hand_over(&consent).await;
    let operator = scene.fixture.operator();
    scene.fixture.user("alice", json!({})).await;
    scene.fixture.generation("alice", 4).await;
    scene.is_well().await;
    let requests = scene.server.requests().await;
    assert!(requests.iter().all(|request| request.status == 200));
    let line = key.private.lines().nth(1).unwrap().to_owned();
    scene.fixture.assert_nowhere(&[line], &[&operator]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_elliptic_key_signs_for_the_issuer_as_well() {
    let key = elliptic("short");
    let mut scene = scene("ec", &[&key], &[&key]).await;
    let issuer = scene.server.url.clone();
    let client = json!({
        "id": "signer", "jwks": {"keys": [key.public]}, "grant": "client_credentials",
    });
    scene.server.control("client", client).await;
    let assertion = json!({"audience": issuer, "keyId": "short", "algorithm": "ES256"});
    let refs = json!([{"name": "key-0", "key": "private_key"}]);
    scene.facts["assertion"] = assertion;
    scene
        .provider(json!({"id": "signer", "secretKeyRefs": refs}))
        .await;
    let _operator = scene.fixture.operator();
    scene.fixture.machine("ci", json!({})).await;
    scene.fixture.generation("ci", 3).await;
    scene.works("ci").await;
    let requests = scene.server.requests().await;
    assert!(requests.iter().all(|request| request.status == 200));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_replaced_without_a_gap() {
    let (old, new) = (elliptic("old"), rsa("new"));
    let scene = scene("pair", &[&old], &[&new, &old]).await;
    let consent = scene.server.authorize("signer", "alice").await;
    scene.hand_over(&consent).await;
    let _operator = scene.fixture.operator();
    scene.fixture.user("alice", json!({})).await;
    scene.fixture.generation("alice", 2).await;
    accept(&scene, &[&new]).await;
    let credential = scene.fixture.generation("alice", 5).await;
    assert!(well(&credential));
    scene.works("alice").await;
    let events = scene.fixture.events().await;
    assert!(!events.iter().any(|e| e.starts_with("InvalidClient")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_the_server_does_not_know_is_told_and_the_right_one_mends_it() {
    let (right, wrong) = (elliptic("right"), elliptic("wrong"));
    let scene = scene("wrong", &[&right], &[&wrong]).await;
    let consent = scene.server.authorize("signer", "alice").await;
    scene.hand_over(&consent).await;
    let _operator = scene.fixture.operator();
    scene.fixture.user("alice", json!({})).await;
    let credential = scene.fixture.stalled("alice", "InvalidClient").await;
    let (_, _, message) = condition(&credential, "Stalled").unwrap();
    assert!(message.contains("spec.client"), "{message}");
    let data = [("private_key", right.private.as_str())];
    scene.fixture.secret("key-0", &data).await;
    // The code was not spent by what was refused.
    scene.is_well().await;
}
