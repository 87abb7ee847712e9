//! What stands where the copy belongs.

use kube::api::{DeleteParams, Patch, PatchParams};
use secrecy::ExposeSecret;
use serde_json::json;
use tokenward::manager::CredentialManager;

use super::{HOUR, api_key, data, shop};
use crate::support::{Fixture, condition, eventually, notes};

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_was_edited_or_deleted_is_put_right_from_the_source() {
    let fixture = Fixture::bare("kindsrepair", HOUR).await;
    let _operator = fixture.operator();
    shop(&fixture, "one").await;
    let edit = Patch::Merge(json!({"stringData": {"api_key": "edited", "more": "x"}}));
    let params = PatchParams::default();
    fixture
        .secrets()
        .patch("shop", &params, &edit)
        .await
        .unwrap();
    let credential = fixture.generation("shop", 2).await;
    let copy = data(&fixture, "shop").await;
    assert_eq!(copy["api_key"], "one");
    assert!(!copy.contains_key("more"));
    assert_eq!(condition(&credential, "Ready").unwrap().1, "Valid");
    fixture.delete_secret("shop").await;
    fixture.generation("shop", 3).await;
    assert_eq!(data(&fixture, "shop").await["api_key"], "one");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_of_somebody_else_is_not_touched() {
    let fixture = Fixture::bare("kindsforeign", HOUR).await;
    fixture.secret("in", &[("k", "one")]).await;
    fixture.secret("shop", &[("mine", "precious")]).await;
    let _operator = fixture.operator();
    fixture.create("shop", api_key(&json!({}))).await;
    let credential = fixture.stalled("shop", "TargetConflict").await;
    assert_eq!(condition(&credential, "Ready").unwrap().0, "False");
    assert_eq!(data(&fixture, "shop").await["mine"], "precious");
    fixture.delete_secret("shop").await;
    fixture.ready("shop").await;
    assert_eq!(data(&fixture, "shop").await["api_key"], "one");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_that_want_one_name_the_first_has_it() {
    let fixture = Fixture::bare("kindstwo", HOUR).await;
    fixture.secret("in", &[("k", "one")]).await;
    fixture.secret("other", &[("k", "two")]).await;
    let _operator = fixture.operator();
    let target = json!({"target": {"name": "mounted"}});
    fixture.create("first", api_key(&target)).await;
    fixture.ready("first").await;
    let mut spec = api_key(&target);
    spec["apiKey"]["secretKeyRef"]["name"] = json!("other");
    fixture.create("second", spec).await;
    fixture.stalled("second", "TargetConflict").await;
    let copy = data(&fixture, "mounted").await;
    assert_eq!(
        (copy["api_key"].as_str(), copy["token_generation"].as_str()),
        ("one", "1")
    );
    // It goes with the first, and then the other has it.
    fixture
        .credentials()
        .delete("first", &DeleteParams::default())
        .await
        .unwrap();
    fixture.ready("second").await;
    assert_eq!(data(&fixture, "mounted").await["api_key"], "two");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_holds_it_keeps_the_old_value_and_nobody_waits() {
    let fixture = Fixture::bare("kindsheld", HOUR).await;
    let _operator = fixture.operator();
    shop(&fixture, "one").await;
    let manager = CredentialManager::new(fixture.client.clone(), fixture.namespace.clone());
    let hold = manager.acquire("shop").await.unwrap();
    fixture.secret("in", &[("k", "two")]).await;
    eventually("the copy", async || {
        (data(&fixture, "shop").await["api_key"] == "two").then_some(())
    })
    .await;
    let held = hold.credentials().await.expect("a valid hold");
    let key = held.values().unwrap().api_key().unwrap();
    assert_eq!((key.expose_secret(), hold.generation()), ("one", 1));
    let next = manager.acquire("shop").await.unwrap();
    assert_eq!(next.generation(), 2);
    assert!(hold.token().await.is_err(), "an API key is no token");
    hold.release().await;
    next.release().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_is_written_in_the_types_that_programs_of_the_cluster_know() {
    let fixture = Fixture::bare("kindstypes", HOUR).await;
    let password = r#"pass"word"#;
    fixture
        .secret("in", &[("login", "alice"), ("password", password)])
        .await;
    let _operator = fixture.operator();
    let source = json!({"secretRef": {"name": "in"}, "usernameKey": "login"});
    let basic = json!({"userPassword": source, "target": {"type": "kubernetes.io/basic-auth"}});
    fixture.create("basic", basic).await;
    let template = r#"{"auths": {"registry.example.com": {"username": "{{ username }}", "password": "{{ password }}"}}}"#;
    let target = json!({
        "type": "kubernetes.io/dockerconfigjson",
        "template": {"data": {".dockerconfigjson": template}},
    });
    let pull = json!({"userPassword": source, "target": target});
    fixture.create("pull", pull).await;
    for name in ["basic", "pull"] {
        fixture.ready(name).await;
    }
    let basic = fixture.find_secret("basic").await.unwrap();
    assert_eq!(basic.type_.as_deref(), Some("kubernetes.io/basic-auth"));
    assert_eq!(data(&fixture, "basic").await["password"], password);
    let pull = fixture.find_secret("pull").await.unwrap();
    assert_eq!(
        pull.type_.as_deref(),
        Some("kubernetes.io/dockerconfigjson")
    );
    let written = &data(&fixture, "pull").await[".dockerconfigjson"];
    let written: serde_json::Value = serde_json::from_str(written).unwrap();
    let account = &written["auths"]["registry.example.com"];
    assert_eq!(account, &json!({"username": "alice", "password": password}));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_mode_of_its_lock_reaches_the_gate_at_once() {
    let fixture = Fixture::bare("kindslock", HOUR).await;
    let _operator = fixture.operator();
    shop(&fixture, "one").await;
    let patch = Patch::Merge(json!({"spec": {"lock": {"mode": "Exclusive"}}}));
    let params = PatchParams::default();
    let credentials = fixture.credentials();
    credentials.patch("shop", &params, &patch).await.unwrap();
    eventually("the gate says so", async || {
        let gate = fixture.leases().get("shop.gate").await.unwrap();
        (notes(&gate)["mode"] == "Exclusive").then_some(())
    })
    .await;
    assert_eq!(data(&fixture, "shop").await["api_key"], "one");
}
