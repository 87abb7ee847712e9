//! Templates, and how a credential fares whose templates fail.

use kube::ResourceExt;
use serde_json::{Value, json};

use super::{HOUR, change, edit, keys, patch, version, with_keys};
use crate::support::{Fixture, condition, eventually, reason, text};

const DEFAULT: [&str; 6] = [
    "access_token",
    "authorization",
    "expires_at",
    "scope",
    "token_generation",
    "token_type",
];

#[tokio::test(flavor = "multi_thread")]
async fn a_template_is_what_stands_in_the_target_and_a_change_of_it_needs_no_new_token() {
    let fixture = Fixture::new("template", HOUR).await;
    fixture.seed("alice").await;
    let _operator = fixture.operator();
    let data = json!({
        "config.json": r#"{"auth": {"token": "{{ access_token }}", "n": {{ token_generation }}}, "name": "Zoë ☕"}"#,
        "netrc": "machine api.example.com\nlogin {{ 'Zoë' }}\npassword {{ access_token }}\n",
    });
    fixture
        .user("alice", json!({"target": {"template": {"data": data}}}))
        .await;
    fixture.ready("alice").await;
    let keys = ["config.json", "expires_at", "netrc", "token_generation"];
    let target = with_keys(&fixture, "alice", &keys).await;
    let grant = fixture.find_secret("alice.grant").await.unwrap();
    let token = text(&grant, "access_token");
    let config: Value = serde_json::from_str(&text(&target, "config.json")).unwrap();
    let wanted = json!({"auth": {"token": token, "n": 1}, "name": "Zoë ☕"});
    assert_eq!(config, wanted);
    let netrc = format!("machine api.example.com\nlogin Zoë\npassword {token}\n");
    assert_eq!(text(&target, "netrc"), netrc);

    change(&fixture, "alice", json!({"template": {"data": {"netrc": null, "config.json": "[{{ access_token | json }}]"}}})).await;
    let target = with_keys(
        &fixture,
        "alice",
        &["config.json", "expires_at", "token_generation"],
    )
    .await;
    assert_eq!(text(&target, "config.json"), format!("[\"{token}\"]"));

    change(
        &fixture,
        "alice",
        json!({"templateMode": "Merge", "template": {"data": {"config.json": null, "scope": "{{ scope | upper }}"}}}),
    )
    .await;
    let target = with_keys(&fixture, "alice", &DEFAULT).await;
    assert_eq!(text(&target, "scope"), "READ");

    change(&fixture, "alice", json!({"template": null})).await;
    eventually("the default keys", async || {
        let target = fixture.find_secret("alice").await?;
        (text(&target, "scope") == "read").then_some(())
    })
    .await;
    assert_eq!(fixture.oauth.request_count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_template_that_fails_costs_neither_the_grant_nor_another_exchange() {
    let fixture = Fixture::new("template-fails", HOUR).await;
    fixture.seed("alice").await;
    let operator = fixture.operator();
    let broken = json!({"template": {"data": {"a": "fine", "b": "one\n{{ acces_token }}"}}});
    fixture.user("alice", json!({"target": broken})).await;
    let stalled = fixture.stalled("alice", "TemplateInvalid").await;
    let (_, _, message) = condition(&stalled, "Stalled").unwrap();
    for part in [
        format!("Secret {}/alice is not written", fixture.namespace),
        "key \"b\", line 2, column 4: `acces_token` has no value here".to_owned(),
        format!("kubectl -n {} edit icred alice", fixture.namespace),
    ] {
        assert!(message.contains(&part), "{message}");
    }
    let grant = fixture.find_secret("alice.grant").await.unwrap();
    let token = text(&grant, "access_token");
    assert!(fixture.find_secret("alice").await.is_none());

    change(
        &fixture,
        "alice",
        json!({"template": {"data": {"b": "{{ access_token }}"}}}),
    )
    .await;
    fixture.ready("alice").await;
    let target = with_keys(
        &fixture,
        "alice",
        &["a", "b", "expires_at", "token_generation"],
    )
    .await;
    assert_eq!(text(&target, "b"), token);

    // One that worked goes on with what it has.
    change(
        &fixture,
        "alice",
        json!({"template": {"data": {"b": "{% set a = 1 %}"}}}),
    )
    .await;
    fixture.stalled("alice", "TemplateInvalid").await;
    assert_eq!(reason(&fixture.get("alice").await), "Valid");
    let unchanged = fixture.find_secret("alice").await.unwrap();
    assert_eq!(version(&unchanged), version(&target));
    change(
        &fixture,
        "alice",
        json!({"template": {"data": {"b": "{{ access_token }}!"}}}),
    )
    .await;
    eventually("the mended target", async || {
        let target = fixture.find_secret("alice").await?;
        (text(&target, "b") == format!("{token}!")).then_some(())
    })
    .await;
    fixture
        .until("alice", "not Stalled", |c| {
            condition(c, "Stalled").is_some_and(|c| c.0 == "False")
        })
        .await;
    assert_eq!(fixture.oauth.request_count(), 1);
    eventually("the event", async || {
        let events = fixture.events().await;
        events
            .iter()
            .any(|e| e.starts_with("TemplateInvalid: "))
            .then_some(())
    })
    .await;
    let tokens = [token, text(&grant, "refresh_token")];
    fixture.assert_nowhere(&tokens, &[&operator]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_token_that_stands_at_no_key_of_its_own_is_not_asked_for_again_and_again() {
    let fixture = Fixture::new("template-machine", HOUR).await;
    let mut operator = fixture.operator();
    let target = json!({"template": {"data": {"cfg": "token={{ access_token }}"}}});
    fixture.machine("ci", json!({"target": target})).await;
    fixture.ready("ci").await;
    let written = with_keys(&fixture, "ci", &["cfg", "expires_at", "token_generation"]).await;
    let token = text(&written, "cfg").replace("token=", "");
    assert!(fixture.oauth.is_live(&token));

    // A new process has nothing but the Secret, and goes behind the gate because the credential changed.
    operator.kill();
    let operator = fixture.operator();
    let changed = patch(
        &fixture,
        "ci",
        json!({"spec": {"refresh": {"before": "1m"}}}),
    )
    .await;
    let generation = changed.metadata.generation;
    let seen = fixture
        .until("ci", "the change was seen", |c| {
            c.status
                .as_ref()
                .is_some_and(|s| s.observed_generation == generation)
        })
        .await;
    let shown = seen.status.unwrap().token.unwrap();
    assert_eq!(
        (shown.generation, shown.scopes),
        (1, vec!["read".to_owned()])
    );
    let found = fixture.find_secret("ci").await.unwrap();
    assert_eq!(version(&found), version(&written));

    // What is beside the data needs no token either.
    change(
        &fixture,
        "ci",
        json!({"template": {"metadata": {"labels": {"team": "blue"}}}}),
    )
    .await;
    eventually("the label", async || {
        let found = fixture.find_secret("ci").await?;
        found.labels().contains_key("team").then_some(())
    })
    .await;
    assert_eq!(fixture.oauth.request_count(), 1);

    // Another template does, and so does an edit.
    change(
        &fixture,
        "ci",
        json!({"template": {"data": {"cfg": "{{ access_token }}"}}}),
    )
    .await;
    fixture.generation("ci", 2).await;
    edit(&fixture, "ci", json!({"stringData": {"cfg": "edited"}})).await;
    fixture.generation("ci", 3).await;
    let found = fixture.find_secret("ci").await.unwrap();
    assert!(fixture.oauth.is_live(&text(&found, "cfg")));
    assert_eq!(fixture.oauth.request_count(), 3);

    // One that cannot be read by anybody is not asked for.
    change(
        &fixture,
        "ci",
        json!({"template": {"data": {"cfg": "{{ access_token | nosuch }}"}}}),
    )
    .await;
    fixture.stalled("ci", "TemplateInvalid").await;
    assert_eq!(fixture.oauth.request_count(), 3);
    // One that fails with the values is asked for once.
    change(
        &fixture,
        "ci",
        json!({"template": {"data": {"cfg": "{{ access_token | b64decode }}{{ nothing }}"}}}),
    )
    .await;
    fixture
        .until("ci", "two failures", |c| {
            let refresh = c.status.as_ref().and_then(|s| s.refresh.as_ref());
            let reason = condition(c, "Stalled").unwrap_or_default().1;
            refresh.is_some_and(|r| r.failures >= 3) && reason == "TemplateInvalid"
        })
        .await;
    assert_eq!(fixture.oauth.request_count(), 4);
    change(
        &fixture,
        "ci",
        json!({"template": {"data": {"cfg": "mended {{ access_token }}"}}}),
    )
    .await;
    fixture.generation("ci", 4).await;
    let found = fixture.find_secret("ci").await.unwrap();
    let token = text(&found, "cfg").replace("mended ", "");
    assert!(fixture.oauth.is_live(&token));
    assert_eq!(fixture.oauth.request_count(), 4);
    fixture.assert_nowhere(&[token], &[&operator]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_are_told_where_the_token_stands_at_no_key_of_its_own() {
    let fixture = Fixture::new("template-hidden", HOUR).await;
    let _operator = fixture.operator();
    let target = json!({"template": {"data": {"cfg": "{{ access_token }}"}}});
    fixture.machine("ci", json!({"target": target})).await;
    fixture.ready("ci").await;
    let told = fixture.tokenward(&["get", "ci"]).end().await;
    assert_eq!(told.code, 2, "{}", told.err);
    let says = "what the template of this credential writes is not one value";
    assert!(told.err.contains(says), "{}", told.err);
    let told = fixture.tokenward(&["get", "ci", "-o", "json"]).end().await;
    assert_eq!(told.code, 0, "{}", told.err);
    let told: serde_json::Value = serde_json::from_str(&told.out).unwrap();
    let target = fixture.find_secret("ci").await.unwrap();
    assert_eq!(told["data"]["cfg"], text(&target, "cfg"));
    let held = fixture.tokenward(&["lock", "ci", "--", "true"]).end().await;
    assert_eq!(held.code, 0, "{}", held.err);
    change(&fixture, "ci", json!({"templateMode": "Merge"})).await;
    eventually("the key", async || {
        let found = fixture.find_secret("ci").await?;
        keys(&found)
            .contains(&"access_token".to_owned())
            .then_some(())
    })
    .await;
    let told = fixture.tokenward(&["get", "ci"]).end().await;
    let target = fixture.find_secret("ci").await.unwrap();
    assert_eq!(
        (told.code, told.out),
        (0, format!("{}\n", text(&target, "cfg")))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn labels_and_annotations_of_the_template_come_and_go_and_others_stay() {
    let fixture = Fixture::new("template-labels", HOUR).await;
    fixture.seed("alice").await;
    let operator = fixture.operator();
    let metadata = json!({
        "labels": {"team": "blue", "app.kubernetes.io/name": "x", "tokenward.dev/watch": "false"},
        "annotations": {"example.com/note": "ö", "x.k8s.io/y": "z", "replicator": "on"},
    });
    let spec = json!({"target": {"template": {"metadata": metadata}}});
    fixture.user("alice", spec).await;
    fixture.ready("alice").await;
    let target = fixture.find_secret("alice").await.unwrap();
    let label =
        |secret: &k8s_openapi::api::core::v1::Secret, key: &str| secret.labels().get(key).cloned();
    assert_eq!(label(&target, "team").as_deref(), Some("blue"));
    assert_eq!(label(&target, "app.kubernetes.io/name"), None);
    assert_eq!(
        label(&target, "tokenward.dev/watch").as_deref(),
        Some("true")
    );
    assert_eq!(target.annotations().get("example.com/note").unwrap(), "ö");
    assert!(!target.annotations().contains_key("x.k8s.io/y"));
    assert_eq!(keys(&target), DEFAULT);
    let told = operator
        .logged("these labels and annotations of spec.target.template.metadata are not for a template to set")
        .await;
    assert!(
        told.to_string().contains("app.kubernetes.io/name"),
        "{told}"
    );

    edit(
        &fixture,
        "alice",
        json!({"metadata": {"labels": {"theirs": "1", "team": "red"}}}),
    )
    .await;
    eventually("the label back", async || {
        let target = fixture.find_secret("alice").await?;
        (label(&target, "team")? == "blue").then_some(())
    })
    .await;
    change(
        &fixture,
        "alice",
        json!({"template": {"metadata": {"labels": {"team": null, "new": "1"}, "annotations": null}}}),
    )
    .await;
    let target = eventually("the labels of now", async || {
        let target = fixture.find_secret("alice").await?;
        label(&target, "new").map(|_| target)
    })
    .await;
    assert_eq!(label(&target, "team"), None);
    assert_eq!(label(&target, "theirs").as_deref(), Some("1"));
    assert!(!target.annotations().contains_key("replicator"));
    assert_eq!(fixture.oauth.request_count(), 1);
}
