//! The kinds that are copied: an API key, a user name and a password, headers for a host.

mod expiry;
mod hands;
mod source;
mod target;

use std::{collections::BTreeMap, time::Duration};

use kube::{
    ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::support::{Fixture, condition, reason, text};

const HOUR: Duration = Duration::from_secs(3600);

/// The spec of an API key from `in`; `change` adds to it.
fn api_key(change: &Value) -> Value {
    let mut spec = json!({"apiKey": {"secretKeyRef": {"name": "in", "key": "k"}}});
    for (field, value) in change.as_object().unwrap() {
        spec[field] = value.clone();
    }
    spec
}

/// Creates the credential `shop`, an API key from the labelled Secret `in`, which holds `value`; with its operator's copy.
async fn shop(fixture: &Fixture, value: &str) {
    fixture.secret("in", &[("k", value)]).await;
    fixture.create("shop", api_key(&json!({}))).await;
    fixture.ready("shop").await;
}

/// A Secret without a label.
async fn unlabelled(fixture: &Fixture, name: &str, key: &str, value: &str) {
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name},
        "stringData": {key: value}});
    let params = PatchParams::apply("test").force();
    let applied = Patch::Apply(secret);
    fixture
        .secrets()
        .patch(name, &params, &applied)
        .await
        .unwrap();
}

/// All that stands in a Secret.
async fn data(fixture: &Fixture, name: &str) -> BTreeMap<String, String> {
    let secret = fixture.find_secret(name).await.expect(name);
    let keys = secret.data.iter().flatten().map(|(key, _)| key.clone());
    keys.map(|key| (key.clone(), text(&secret, &key))).collect()
}

fn pairs(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    pairs.iter().map(owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_is_copied_under_its_own_keys() {
    let fixture = Fixture::bare("kinds", HOUR).await;
    fixture
        .secret("in", &[("k", "ключ-🗝\n"), ("beside", "not copied")])
        .await;
    let login = [("user", "Zoë"), ("password", "p w: £\n")];
    fixture.secret("login", &login).await;
    let headers = [("Authorization", "Bearer x"), ("X-Org", "Ω")];
    fixture.secret("headers", &headers).await;
    let operator = fixture.operator();
    let until = "2099-01-01T00:00:00Z";
    fixture.create("key", api_key(&json!({}))).await;
    let password = json!({"userPassword": {"secretRef": {"name": "login"}, "usernameKey": "user",
        "expirationTime": until}, "target": {"name": "mounted"}});
    fixture.create("password", password).await;
    let scoped = json!({"hostScoped": {"host": "*.example.com:8443",
        "headersSecretRef": {"name": "headers"}}});
    fixture.create("scoped", scoped).await;
    for (name, target, expected) in [
        ("key", "key", vec![("api_key", "ключ-🗝")]),
        (
            "password",
            "mounted",
            vec![
                ("username", "Zoë"),
                ("password", "p w: £"),
                ("expires_at", until),
            ],
        ),
        (
            "scoped",
            "scoped",
            vec![
                ("Authorization", "Bearer x"),
                ("X-Org", "Ω"),
                ("host", "*.example.com:8443"),
            ],
        ),
    ] {
        let credential = fixture.ready(name).await;
        let mut expected = pairs(&expected);
        expected.insert("token_generation".to_owned(), "1".to_owned());
        assert_eq!(data(&fixture, target).await, expected, "{name}");
        let secret = fixture.find_secret(target).await.unwrap();
        assert_eq!(secret.type_.as_deref(), Some("Opaque"));
        let owner = &secret.owner_references()[0];
        assert_eq!(Some(&owner.uid), credential.uid().as_ref());
        assert_eq!(reason(&credential), "Valid");
        assert_eq!(condition(&credential, "Stalled").unwrap().0, "False");
        assert_eq!(condition(&credential, "Reconciling"), None);
        let status = credential.status.unwrap();
        assert_eq!(status.observed_generation, Some(1));
        let token = status.token.unwrap();
        assert_eq!(token.generation, 1);
        assert!(token.last_refresh_time.is_some());
        let stated = token.expiration_time.map(|at| format!("{:.0}", at.0));
        assert_eq!(stated.as_ref(), expected.get("expires_at"));
        assert!(
            fixture
                .find_secret(&format!("{name}.grant"))
                .await
                .is_none()
        );
    }
    fixture.told(3).await;
    let events = fixture.events().await;
    let copied = events.iter().filter(|e| e.starts_with("Copied: "));
    assert_eq!(copied.count(), 3, "{events:?}");
    assert_eq!(fixture.oauth.request_count(), 0);
    let values = ["ключ-🗝", "p w: £", "Bearer x"].map(str::to_owned);
    fixture.assert_nowhere(&values, &[&operator]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_copied_causes_no_request_and_a_look_in_vain_no_write() {
    let fixture = Fixture::bare("kindsfree", HOUR).await;
    let mut operator = fixture.operator();
    shop(&fixture, "one").await;
    fixture.told(1).await;

    // Something about the credential that is no matter of the operator's.
    let audit = fixture.audit();
    let before = planned(&operator.log());
    let label = Patch::Merge(json!({"metadata": {"labels": {"touched": "yes"}}}));
    let params = PatchParams::default();
    fixture
        .credentials()
        .patch("shop", &params, &label)
        .await
        .unwrap();
    until_planned(&operator, before + 1).await;
    assert_eq!(audit.requests(), Vec::<String>::new());

    // Something about the source beside what is copied.
    fixture
        .secrets()
        .patch("in", &params, &label)
        .await
        .unwrap();
    crate::support::eventually("a look at the source", async || {
        let reads = audit.requests();
        reads.contains(&"get secrets in".to_owned()).then_some(())
    })
    .await;
    until_planned(&operator, before + 2).await;
    assert_eq!(audit.writes(), Vec::<String>::new());

    // A restart.
    operator.kill();
    let audit = fixture.audit();
    let operator = fixture.operator();
    until_planned(&operator, 1).await;
    assert_eq!(audit.writes(), Vec::<String>::new());
}

/// How often the operator has looked at a credential.
fn planned(log: &str) -> usize {
    log.lines()
        .filter(|line| line.contains("\"planned\""))
        .count()
}

async fn until_planned(operator: &crate::support::Operator, times: usize) {
    crate::support::eventually("passes", async || {
        (planned(&operator.log()) >= times).then_some(())
    })
    .await;
}
