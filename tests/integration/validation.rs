//! What the API server refuses and how it says so, and what kubectl shows.

mod kinds;
mod refresh;
mod shown;
mod target;

use std::time::Duration;

use kube::{
    Api,
    api::{ApiResource, DynamicObject, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use crate::support::Fixture;

const HOUR: Duration = Duration::from_secs(3600);
const CREDENTIAL: &str = "IntegrationCredential";

/// Objects of one kind as their author writes them: not yet checked by our types.
fn api(fixture: &Fixture, kind: &str) -> Api<DynamicObject> {
    let plural = format!("{}s", kind.to_lowercase());
    let resource = ApiResource {
        group: "tokenward.dev".to_owned(),
        version: "v1alpha1".to_owned(),
        api_version: "tokenward.dev/v1alpha1".to_owned(),
        kind: kind.to_owned(),
        plural,
    };
    if kind == "ClusterOAuthProvider" {
        Api::all_with(fixture.client.clone(), &resource)
    } else {
        Api::namespaced_with(fixture.client.clone(), &fixture.namespace, &resource)
    }
}

fn user() -> Value {
    json!({"oauth2": {
        "providerRef": {"name": "provider"}, "grantType": "RefreshToken",
        "seedSecretRef": {"name": "seed"}, "scopes": [],
    }})
}

fn machine() -> Value {
    json!({"oauth2": {"providerRef": {"name": "provider"}, "grantType": "ClientCredentials"}})
}

fn provider() -> Value {
    json!({"tokenUrl": "https://login.example.com/oauth/token", "client": {"id": "demo"}})
}

/// `spec` with `value` at the path; null takes what is there away.
fn with(mut spec: Value, path: &str, value: Value) -> Value {
    let mut place = &mut spec;
    for key in path.split('.') {
        place = &mut place[key];
    }
    *place = value;
    spec
}

/// What the API server says to an object: nothing if it takes it. Nothing is stored.
async fn verdict(fixture: &Fixture, kind: &str, name: &str, spec: Value) -> Option<String> {
    let object = serde_json::from_value(json!({
        "apiVersion": "tokenward.dev/v1alpha1", "kind": kind,
        "metadata": {"name": name}, "spec": spec,
    }))
    .unwrap();
    let params = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    refusal(api(fixture, kind).create(&params, &object).await)
}

/// The message of a refusal, which must be one for an invalid object.
fn refusal(result: kube::Result<DynamicObject>) -> Option<String> {
    match result {
        Ok(_) => None,
        Err(kube::Error::Api(status)) => {
            assert_eq!((status.code, status.reason.as_str()), (422, "Invalid"));
            Some(status.message.clone())
        }
        Err(error) => panic!("{error}"),
    }
}

/// Fails unless the API server refuses `base` with each row's value at its path, and says where and
/// what. A row: path below spec | value | where, if not at the path | what.
async fn refuses(fixture: &Fixture, kind: &str, base: &Value, table: &str) {
    for row in table.trim().lines() {
        let cells: Vec<&str> = row.split(" | ").map(str::trim).collect();
        let [path, value, rest @ .., says] = &cells[..] else {
            panic!("a row with too few cells: {row}");
        };
        let place = format!("spec.{}", rest.first().unwrap_or(path));
        let spec = with(base.clone(), path, serde_json::from_str(value).expect(row));
        let message = verdict(fixture, kind, "x", spec).await;
        let message = message.unwrap_or_else(|| panic!("{kind} accepted: {row}"));
        let told = message.contains(&format!("{place}: ")) && message.contains(says);
        assert!(told, "{kind}: {row}\n{message}");
    }
}

/// Fails unless the API server takes `base` with each row's value at its path.
async fn takes(fixture: &Fixture, kind: &str, base: &Value, table: &str) {
    for row in table.trim().lines() {
        let (path, value) = row.trim().split_once(" | ").expect(row);
        let spec = with(base.clone(), path, serde_json::from_str(value).expect(row));
        assert_eq!(
            verdict(fixture, kind, "x", spec).await,
            None,
            "{kind}: {row}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_that_makes_no_sense_is_refused_and_the_message_says_how_to_mend_it() {
    const ONE: &str = "spec needs exactly one of oauth2, apiKey, userPassword and hostScoped";
    const COPIED: &str = "spec.revocationPolicy OnDelete is for oauth2: the other kinds have nobody to be revoked at";
    const NAME: &str = "metadata.name must be a DNS label of at most 52 characters (lower case letters, digits and '-'): the names of the Lease and the Secrets of a credential are derived from it";
    let fixture = Fixture::bare("credential", HOUR).await;
    for name in [&"n".repeat(53), "with.dot"] {
        let message = verdict(&fixture, CREDENTIAL, name, user()).await;
        assert!(message.expect(name).contains(NAME), "{name}");
    }
    for name in [&"n".repeat(52), "0"] {
        assert_eq!(verdict(&fixture, CREDENTIAL, name, user()).await, None);
    }
    let user_table = r#"
        oauth2.providerRef | null | Required value
        oauth2.providerRef | {} | oauth2.providerRef.name | Required value
        oauth2.providerRef.name | "" | at least 1 char
        oauth2.providerRef.kind | "Secret" | supported values: "OAuthProvider", "ClusterOAuthProvider"
        oauth2.grantType | "Password" | supported values: "RefreshToken", "ClientCredentials"
        oauth2.seedSecretRef | null | oauth2 | grantType RefreshToken needs seedSecretRef: the Secret with the first refresh_token
        oauth2.seedSecretRef | {} | oauth2.seedSecretRef.name | Required value
        oauth2.seedSecretRef.name | "" | at least 1 char
        oauth2.seedSecretRef.name | "bob.grant" | oauth2 | spec.oauth2.seedSecretRef.name must not end with '.grant': such Secrets hold the refresh tokens of credentials, and each refresh token belongs to one credential
        oauth2.scopes | ["read", "read"] | oauth2.scopes[1] | Duplicate value: "read"
        oauth2.scopes | ["read write"] | oauth2.scopes[0] | should match
        oauth2.scopes | ["quo\"te"] | oauth2.scopes[0] | should match
        oauth2.scopes | [""] | oauth2.scopes[0] | at least 1 char
        user | "" | at least 1 char
        target.name | "alice.grant" | spec.target.name must not end with '.grant': such Secrets hold the refresh tokens of credentials
        target.name | "Alice" | should match
        target.name | "" | at least 1 char
        refresh.before | "0s" | spec.refresh.before must be a duration from 1s to 8760h, such as 5m
        refresh.before | "1ms" | spec.refresh.before must be a duration from 1s to 8760h, such as 5m
        refresh.before | "8761h" | spec.refresh.before must be a duration from 1s to 8760h, such as 5m
        refresh.before | "soon" | should match
        refresh.before | "-5m" | should match
        refresh.before | "1d" | should match
        refresh.before | "" | should match
        refresh.before | 5 | must be of type string
        revocationPolicy | "Sometimes" | supported values: "Never", "OnDelete"
        revocationPolicy | "" | supported values: "Never", "OnDelete""#;
    refuses(&fixture, CREDENTIAL, &user(), user_table).await;
    let machine_table = r#"
        oauth2.seedSecretRef | {"name": "seed"} | oauth2 | grantType ClientCredentials takes no seedSecretRef: the token is obtained with the client of the provider object; remove seedSecretRef or use grantType RefreshToken"#;
    refuses(&fixture, CREDENTIAL, &machine(), machine_table).await;
    let long = json!("a".repeat(254));
    let scopes: Vec<String> = (0..65).map(|n| format!("scope-{n}")).collect();
    let table = format!(
        "user | {long} | 253\ntitle | {long} | 253\ntarget.name | {long} | 253\n\
         oauth2.scopes | {} | at most 64 items",
        json!(scopes)
    );
    refuses(&fixture, CREDENTIAL, &user(), &table).await;
    let taken = r#"
        oauth2.scopes | ["https://x.example/.default", "a:b"]
        oauth2.providerRef.kind | "ClusterOAuthProvider"
        user | "alice@example.com"
        title | "Alice’s calendar"
        revocationPolicy | "Never"
        revocationPolicy | "OnDelete"
        target.name | "alice.grant.token"
        refresh.before | "1s"
        refresh.before | "1500ms"
        refresh.before | "1h30m"
        refresh.before | "8760h""#;
    takes(&fixture, CREDENTIAL, &user(), taken).await;
    let machine_taken = "oauth2.scopes | []\nrevocationPolicy | \"OnDelete\"";
    takes(&fixture, CREDENTIAL, &machine(), machine_taken).await;
    let message = verdict(&fixture, CREDENTIAL, "x", json!({"user": "alice"})).await;
    assert!(message.is_some_and(|message| message.contains(ONE)));
    let secret = json!({"name": "s", "key": "k"});
    for copied in [
        json!({"apiKey": {"secretKeyRef": secret}}),
        json!({"userPassword": {"secretRef": {"name": "s"}}}),
        json!({"hostScoped": {"host": "a.example", "headersSecretRef": {"name": "s"}}}),
    ] {
        assert_eq!(
            verdict(&fixture, CREDENTIAL, "x", copied.clone()).await,
            None
        );
        let wanted = with(copied, "revocationPolicy", json!("OnDelete"));
        let message = verdict(&fixture, CREDENTIAL, "x", wanted).await;
        assert!(
            message.clone().is_some_and(|m| m.contains(COPIED)),
            "{message:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_pods_and_people_rely_on_cannot_change() {
    const USER: &str = "spec.user cannot change: a credential belongs to one user for its life; create another credential";
    const TARGET: &str = "spec.target.name cannot change, because pods mount the Secret by its name: create another credential for another name";
    const GRANT: &str = "spec.oauth2.grantType cannot change: create another credential";
    let fixture = Fixture::bare("immutable", HOUR).await;
    let named = json!({"user": "alice", "target": {"name": "mounted"}});
    fixture.user("alice", named).await;
    fixture.user("plain", json!({})).await;
    let credentials = api(&fixture, CREDENTIAL);
    let patch = async |name: &str, spec: Value| {
        let patch = Patch::Merge(json!({"spec": spec}));
        let params = PatchParams::default();
        refusal(credentials.patch(name, &params, &patch).await)
    };
    let to_machine = json!({"oauth2": {"grantType": "ClientCredentials", "seedSecretRef": null}});
    for (name, change, message) in [
        ("alice", json!({"user": "bob"}), USER),
        ("alice", json!({"user": null}), USER),
        ("plain", json!({"user": "bob"}), USER),
        ("alice", json!({"target": {"name": "other"}}), TARGET),
        ("alice", json!({"target": null}), TARGET),
        ("plain", json!({"target": {"name": "other"}}), TARGET),
        ("alice", to_machine, GRANT),
    ] {
        let refused = patch(name, change.clone()).await;
        let refused = refused.unwrap_or_else(|| panic!("{name} accepted {change}"));
        assert!(refused.contains(message), "{name} {change}: {refused}");
    }
    for (name, change) in [
        // The default, spelled out.
        ("plain", json!({"target": {"name": "plain"}})),
        ("plain", json!({"target": {}})),
        (
            "alice",
            json!({"title": "Alice", "refresh": {"before": "10m"}}),
        ),
        (
            "alice",
            json!({"oauth2": {"providerRef": {"name": "other"}}}),
        ),
        (
            "alice",
            json!({"oauth2": {"seedSecretRef": {"name": "other"}}}),
        ),
        ("alice", json!({"oauth2": {"scopes": ["read"]}})),
    ] {
        assert_eq!(patch(name, change.clone()).await, None, "{name} {change}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_makes_no_sense_is_refused_whatever_its_scope() {
    let fixture = Fixture::bare("provider", HOUR).await;
    let table = r#"
        tokenUrl | "" | at least 1 char
        tokenUrl | "no url" | spec.tokenUrl must be an absolute https URL, such as https://login.example.com/oauth/token
        tokenUrl | "login.example.com/token" | spec.tokenUrl must be an absolute https URL, such as https://login.example.com/oauth/token
        tokenUrl | "/token" | spec.tokenUrl must be an absolute https URL, such as https://login.example.com/oauth/token
        tokenUrl | "ftp://login.example.com/token" | spec.tokenUrl must be an absolute https URL, such as https://login.example.com/oauth/token
        tokenUrl | "https:///token" | spec.tokenUrl must be an absolute https URL, such as https://login.example.com/oauth/token
        tokenUrl | "http://login.example.com/token" | spec.tokenUrl must use https: over http, tokens can be read by anyone on the way (http is for loopback addresses only)
        tokenUrl | "http://127.0.0.1.example.com/token" | spec.tokenUrl must use https: over http, tokens can be read by anyone on the way (http is for loopback addresses only)
        tokenUrl | "http://10.0.0.1/token" | spec.tokenUrl must use https: over http, tokens can be read by anyone on the way (http is for loopback addresses only)
        tokenUrl | "https://login.example.com/token#x" | spec.tokenUrl must have no user information and no fragment
        tokenUrl | "https://name:password@login.example.com/token" | spec.tokenUrl must have no user information and no fragment
        tokenUrl | "https://name@login.example.com/token" | spec.tokenUrl must have no user information and no fragment
        client | {} | spec.client needs exactly one of id, idSecretKeyRef and idFromEnv
        client.idSecretKeyRef | {"name": "client", "key": "id"} | client | spec.client needs exactly one of id, idSecretKeyRef and idFromEnv
        client.idFromEnv | "PATH" | should match
        client.secretsFromEnv | ["HOME"] | client.secretsFromEnv[0] | should match
        refreshUrl | "" | at least 1 char
        issuer | "login.example.com" | spec.issuer must be an https URL without query and fragment (RFC 8414 section 2)
        issuer | "https://login.example.com?x" | spec.issuer must be an https URL without query and fragment (RFC 8414 section 2)
        headers | {"Authorization": "x"} | spec.headers must be names of headers that are not set by the request itself
        headers | {"host": "x"} | spec.headers must be names of headers that are not set by the request itself
        headers | {"X-A b": "x"} | spec.headers must be names of headers that are not set by the request itself
        headers | {"X-A": "x\ny"} | headers.X-A | should match
        params | {"grant_type": "password"} | spec.params must not name a parameter of the protocol itself
        params | {"client_secret": "x"} | spec.params must not name a parameter of the protocol itself
        perGrant | {"RefreshToken": {"params": {"refresh_token": "x"}}} | perGrant.RefreshToken.params | params must not name a parameter of the protocol itself
        credentialParameters | ["scope"] | spec.credentialParameters must not name a parameter of the protocol itself
        response | {"accessToken": "access_token"} | response.accessToken | should match
        response | {"metadata": {"access_token": "/x"}} | response.metadata | a key of spec.response.metadata must be
        errorPointers | ["error"] | errorPointers[0] | should match
        errorMap | {"x": "Whatever"} | errorMap.x | supported values
        assertion | {"algorithm": "HS256"} | assertion.algorithm | supported values
        assertion | {"lifetime": "2h"} | assertion.lifetime | spec.assertion.lifetime must be a duration from 10s to 1h
        refresh | {"rateLimit": {"requests": 0, "per": "1m"}} | refresh.rateLimit.requests | greater than or equal to 1
        refresh | {"before": "0s"} | refresh.before | spec.refresh.before must be a duration from 1s to 8760h
        caBundle | "x y" | caBundle | must be of type byte
        client.id | "" | at least 1 char
        client.secretKeyRefs | [{"name": "client"}] | client.secretKeyRefs[0].key | Required value
        client.secretKeyRefs | [{"name": "", "key": "k"}] | client.secretKeyRefs[0].name | at least 1 char
        clientAuth | "Jwt" | supported values: "Basic", "BasicRaw", "Body", "PrivateKeyJwt", "None"
        rotation | "Maybe" | supported values: "Never", "Sometimes", "Always"
        reuseDetection | "Maybe" | supported values: "None", "RejectOnly", "RevokesFamily"
        accessTokenOnRefresh | "Maybe" | supported values: "Survives", "Invalidated", "Unknown"
        reuseGrace | "soon" | should match
        defaultLifetime | "soon" | should match
        defaultLifetime | "0s" | spec.defaultLifetime must be a duration of at least 1s, such as 1h
        defaultLifetime | "999ms" | spec.defaultLifetime must be a duration of at least 1s, such as 1h"#;
    let key = json!({"name": "client", "key": "secret"});
    let long = format!(
        "tokenUrl | \"https://x.example/{}\" | 2048\nclient.id | {} | 512\n\
         client.secretKeyRefs | {} | at most 4 items",
        "p".repeat(2048),
        json!("i".repeat(513)),
        json!([key, key, key, key, key]),
    );
    let taken = format!(
        r#"
        tokenUrl | "https://login.example.com:8443/a/token?tenant=b@c"
        tokenUrl | "http://localhost:8080/token"
        tokenUrl | "http://127.0.0.1/token"
        tokenUrl | "http://[::1]:8080/token"
        client | {{"idSecretKeyRef": {key}}}
        client.secretKeyRefs | [{key}, {key}, {key}, {key}]
        reuseGrace | "0s"
        defaultLifetime | "1s""#
    );
    let nowhere = with(provider(), "tokenUrl", Value::Null);
    for kind in ["OAuthProvider", "ClusterOAuthProvider"] {
        let message = verdict(&fixture, kind, "x", nowhere.clone()).await.unwrap();
        let says = r#"spec: Invalid value: "object": spec needs preset, tokenUrl or issuer"#;
        assert!(message.contains(says), "{kind}: {message}");
        refuses(&fixture, kind, &provider(), table).await;
        refuses(&fixture, kind, &provider(), &long).await;
        takes(&fixture, kind, &provider(), &taken).await;
    }
    let cluster_table = r#"
        allowedGrantTypes | ["Password"] | allowedGrantTypes[0] | supported values: "RefreshToken", "ClientCredentials"
        allowedScopes | ["read", "read"] | allowedScopes[1] | Duplicate value
        allowedScopes | [""] | allowedScopes[0] | at least 1 char
        allowedResources | ["https://a.example", "https://a.example"] | allowedResources[1] | Duplicate value
        allowedResources | [""] | allowedResources[0] | at least 1 char"#;
    refuses(&fixture, "ClusterOAuthProvider", &provider(), cluster_table).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_url_with_user_information_is_refused_however_its_scheme_is_written() {
    let fixture = Fixture::bare("scheme", HOUR).await;
    let table = r#"tokenUrl | "HTTPS://name@login.example.com/token" | spec.tokenUrl must have no user information and no fragment"#;
    refuses(&fixture, "OAuthProvider", &provider(), table).await;
}

/// The operator leaves an object alone that it cannot read, so there must be none.
#[tokio::test(flavor = "multi_thread")]
async fn no_object_is_stored_that_the_operator_cannot_read() {
    let fixture = Fixture::bare("unreadable", HOUR).await;
    let table = r#"
        reuseGrace | "99999999999999999999h" | spec.reuseGrace must be a duration
        defaultLifetime | "99999999999999999999h" | spec.defaultLifetime must be a duration"#;
    refuses(&fixture, "OAuthProvider", &provider(), table).await;
    let table =
        r#"refresh.before | "99999999999999999999h" | spec.refresh.before must be a duration"#;
    refuses(&fixture, CREDENTIAL, &user(), table).await;
}
