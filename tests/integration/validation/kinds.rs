//! What the API server refuses of the kinds, and of the union that they are.

use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use super::{CREDENTIAL, HOUR, api, machine, refusal, refuses, takes, verdict, with};
use crate::support::Fixture;

fn api_key() -> Value {
    json!({"apiKey": {"secretKeyRef": {"name": "in", "key": "k"}}})
}

fn user_password() -> Value {
    json!({"userPassword": {"secretRef": {"name": "in"}}})
}

fn host_scoped() -> Value {
    json!({"hostScoped": {"host": "api.example.com", "headersSecretRef": {"name": "in"}}})
}

/// Each kind that is copied, with the path of the name of its Secret.
fn copied() -> [(Value, &'static str); 3] {
    [
        (api_key(), "apiKey.secretKeyRef.name"),
        (user_password(), "userPassword.secretRef.name"),
        (host_scoped(), "hostScoped.headersSecretRef.name"),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn each_field_of_a_kind_that_is_copied_is_checked() {
    let fixture = Fixture::bare("kindrows", HOUR).await;
    let table = r#"
        apiKey.secretKeyRef | {} | apiKey.secretKeyRef.name | Required value
        apiKey.secretKeyRef.name | "" | at least 1 char
        apiKey.secretKeyRef.key | "" | at least 1 char
        apiKey.expirationTime | "soon" | date-time"#;
    refuses(&fixture, CREDENTIAL, &api_key(), table).await;
    let table = r#"
        userPassword.secretRef | {} | userPassword.secretRef.name | Required value
        userPassword.secretRef.name | "" | at least 1 char
        userPassword.usernameKey | "" | at least 1 char
        userPassword.passwordKey | "" | at least 1 char
        userPassword.passwordKey | "username" | userPassword | spec.userPassword.usernameKey and passwordKey must be two keys
        userPassword.expirationTime | 5 | must be of type date-time"#;
    refuses(&fixture, CREDENTIAL, &user_password(), table).await;
    let table = r#"
        hostScoped.host | "" | at least 1 char
        hostScoped.host | "https://api.example.com" | should match
        hostScoped.host | "api.example.com/v1" | should match
        hostScoped.host | "a b" | should match
        hostScoped.host | "x:123456" | should match
        hostScoped.host | "*.*.example.com" | should match
        hostScoped.host | "::1" | should match
        hostScoped.headersSecretRef | {} | hostScoped.headersSecretRef.name | Required value
        hostScoped.headersSecretRef.name | "" | at least 1 char
        hostScoped.expirationTime | "tomorrow" | date-time"#;
    refuses(&fixture, CREDENTIAL, &host_scoped(), table).await;
    let taken = r#"
        hostScoped.host | "*.example.com:8443"
        hostScoped.host | "[2001:db8::1]:443"
        hostScoped.host | "203.0.113.7"
        hostScoped.expirationTime | "2020-01-01T00:00:00Z"
        hostScoped.expirationTime | "9999-12-31T23:59:59+02:00""#;
    takes(&fixture, CREDENTIAL, &host_scoped(), taken).await;
    takes(
        &fixture,
        CREDENTIAL,
        &user_password(),
        r#"userPassword.usernameKey | "login""#,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_go_together_with_a_kind_is_refused() {
    const ONE: &str = "spec needs exactly one of oauth2, apiKey, userPassword and hostScoped";
    let fixture = Fixture::bare("kindunion", HOUR).await;
    let says = async |spec: &Value, message: &str| {
        let said = verdict(&fixture, CREDENTIAL, "x", spec.clone()).await;
        let said = said.unwrap_or_else(|| panic!("accepted: {spec}"));
        assert!(said.contains(message), "{spec}: {said}");
    };
    says(&json!({}), ONE).await;
    let kinds = [machine(), api_key(), user_password(), host_scoped()];
    for (n, one) in kinds.iter().enumerate() {
        assert_eq!(verdict(&fixture, CREDENTIAL, "x", one.clone()).await, None);
        for other in &kinds[n + 1..] {
            let mut both = one.clone();
            both.as_object_mut()
                .unwrap()
                .extend(other.as_object().unwrap().clone());
            says(&both, ONE).await;
        }
    }
    for (spec, secret) in copied() {
        let refresh = with(spec.clone(), "refresh", json!({"before": "5m"}));
        says(
            &refresh,
            "spec.refresh is for oauth2: the other kinds are copied",
        )
        .await;
        let revoked = with(spec.clone(), "revocationPolicy", json!("OnDelete"));
        says(&revoked, "spec.revocationPolicy OnDelete is for oauth2").await;
        let grant = with(spec.clone(), secret, json!("alice.grant"));
        let message = format!(
            "spec.{secret} must not end with '.grant': such Secrets hold the refresh tokens of credentials"
        );
        says(&grant, &message).await;
        let message = "the Secret that is copied cannot be the one that receives the copy";
        says(&with(spec.clone(), secret, json!("x")), message).await;
        says(
            &with(spec.clone(), "target", json!({"name": "in"})),
            message,
        )
        .await;
        let elsewhere = with(
            with(spec, secret, json!("x")),
            "target",
            json!({"name": "y"}),
        );
        assert_eq!(verdict(&fixture, CREDENTIAL, "x", elsewhere).await, None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_kind_of_a_credential_cannot_change() {
    const KIND: &str = "the kind of a credential (oauth2, apiKey, userPassword, hostScoped) cannot change: create another credential";
    let fixture = Fixture::bare("kindchange", HOUR).await;
    fixture.create("shop", api_key()).await;
    let credentials = api(&fixture, CREDENTIAL);
    let params = PatchParams::default();
    for mut other in [machine(), user_password(), host_scoped()] {
        other["apiKey"] = Value::Null;
        let patch = Patch::Merge(json!({"spec": other}));
        let said = refusal(credentials.patch("shop", &params, &patch).await);
        let said = said.unwrap_or_else(|| panic!("accepted: {other}"));
        assert!(said.contains(KIND), "{other}: {said}");
    }
    for change in [
        json!({"secretKeyRef": {"name": "elsewhere", "key": "x"}}),
        json!({"expirationTime": "2030-01-01T00:00:00Z"}),
        json!({"expirationTime": null}),
    ] {
        let patch = Patch::Merge(json!({"spec": {"apiKey": change}}));
        assert_eq!(
            refusal(credentials.patch("shop", &params, &patch).await),
            None,
            "{change}"
        );
    }
}
