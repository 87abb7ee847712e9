//! What is not written, and where it is not written.

use std::fs;

use kube::ResourceExt;
use serde_json::json;

use super::{Alice, HOUR, mount};
use crate::support::{Fixture, TOKENWARD, call, eventually, kubeconfig};

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_right_is_named_as_the_rule_to_add() {
    let alice = Alice::new("mount-rights").await;
    alice.publish(1, &[("access_token", "t")]).await;
    let credential = json!({"apiGroups": ["tokenward.dev"], "resources": ["integrationcredentials"], "resourceNames": ["alice"], "verbs": ["get"]});
    let secret = |verbs: &[&str]| json!({"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["alice"], "verbs": verbs});
    let rule = |group: &str, resource: &str, verb: &str| {
        format!(
            r#"{{apiGroups: ["{group}"], resources: ["{resource}"], resourceNames: ["alice"], verbs: ["{verb}"]}}"#
        )
    };
    for (name, rules, missing) in [
        (
            "none",
            json!([]),
            rule("tokenward.dev", "integrationcredentials", "get"),
        ),
        ("no-list", json!([credential]), rule("", "secrets", "list")),
        (
            "no-watch",
            json!([credential, secret(&["list"])]),
            rule("", "secrets", "watch"),
        ),
    ] {
        let account = alice.fixture.account(name, rules).await;
        let ended = alice.mount(account.kubeconfig(), &[]).running.end().await;
        assert_eq!(ended.code, 77, "{name}: {}", ended.err);
        assert!(
            ended.complaint().ends_with(&missing),
            "{name}: {}",
            ended.err
        );
    }
    let one_rule = json!([secret(&["list", "watch"])]);
    let account = alice.fixture.account("one-rule", one_rule).await;
    let mounted = alice.mount(account.kubeconfig(), &["--secret", "alice"]);
    mounted.ready().await;
    assert_eq!(mounted.file("access_token").unwrap(), "t");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_target_of_the_credential_is_written() {
    let alice = Alice::new("mount-others").await;
    let bob = alice.fixture.machine("bob", json!({})).await;
    let owner = |name: &str, uid: &str| {
        json!([{
            "apiVersion": "tokenward.dev/v1alpha1", "kind": "IntegrationCredential",
            "name": name, "uid": uid, "controller": true,
        }])
    };
    let of_alice = owner("alice", &alice.uid);
    // The Secrets of one that is not there would be collected.
    let of_bob = owner("bob", &bob.uid().unwrap());
    let object = |name: &str, kind: &str, owners: &serde_json::Value| {
        json!({
            "apiVersion": "v1", "kind": "Secret", "type": kind,
            "metadata": {"name": name, "ownerReferences": owners},
            "stringData": {"token_generation": "1", "refresh_token": "canary"},
        })
    };
    for (secret, why) in [
        (
            object("alice.grant", "tokenward.dev/grant", &of_alice),
            "holds the refresh token",
        ),
        (
            object("foreign", "Opaque", &json!([])),
            "was not made for the credential alice",
        ),
        (object("bobs", "Opaque", &of_bob), "was not made for"),
    ] {
        let name = secret["metadata"]["name"].as_str().unwrap().to_owned();
        alice.write(secret).await;
        let mounted = alice.mount(&kubeconfig(), &["--secret", &name]);
        mounted.said(why).await;
        let (code, said) = mounted.probe("/readyz").await;
        assert_eq!(code, 503, "{name}");
        assert!(said.contains(why), "{name}: {said}");
        let entries = fs::read_dir(&mounted.dir).unwrap();
        let names: Vec<_> = entries.map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, ["..tokenward"], "{name}");
        mounted.running.signal("TERM");
        let ended = mounted.running.end().await;
        assert_eq!(ended.code, 0, "{}", ended.err);
        assert!(!ended.err.contains("canary"), "{}", ended.err);
    }
    // The one that is waited for takes its place, and one that takes its place again is not shown.
    alice.write(object("alice", "Opaque", &json!([]))).await;
    let mounted = alice.mount(&kubeconfig(), &[]);
    mounted.said("was not made for the credential alice").await;
    assert_eq!(mounted.probe("/readyz").await.0, 503);
    alice.fixture.delete_secret("alice").await;
    alice.publish(1, &[("access_token", "t")]).await;
    mounted.ready().await;
    alice.fixture.delete_secret("alice").await;
    alice.write(object("alice", "Opaque", &json!([]))).await;
    eventually("that it is another's", async || {
        let log = mounted.log();
        let told = log.iter().any(|line| {
            let reason = line["reason"].as_str().unwrap_or_default();
            line["message"] == "the files stay as they are" && reason.contains("was not made for")
        });
        told.then_some(())
    })
    .await;
    assert_eq!(mounted.keys(), ["access_token", "token_generation"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_of_somebody_else_is_refused() {
    let fixture = Fixture::bare("mount-dir", HOUR).await;
    let folder = tempfile::tempdir().unwrap();
    let kubeconfig = kubeconfig();
    fs::write(folder.path().join("notes"), "mine").unwrap();
    let ended = mount(&fixture, folder.path(), &kubeconfig, &[])
        .running
        .end()
        .await;
    assert_eq!(ended.code, 1);
    assert!(
        ended.complaint().contains(r#"it has "notes""#),
        "{}",
        ended.err
    );
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);

    let dir = folder.path().join("alice");
    let alice = mount(&fixture, &dir, &kubeconfig, &[]);
    alice.said("there is no IntegrationCredential").await;
    let beside = mount(&fixture, &dir, &kubeconfig, &[]).running.end().await;
    assert_eq!(beside.code, 1);
    assert!(
        beside.complaint().contains("by another process"),
        "{}",
        beside.err
    );
    drop(alice);
    let place = dir.to_str().unwrap();
    let of_bob = ["-n", &fixture.namespace, "mount", "bob", "--dir", place];
    let of_bob = call(TOKENWARD, &of_bob).end().await;
    assert_eq!(of_bob.code, 1);
    let whose = format!("the credential \"{}/alice\"", fixture.namespace);
    assert!(of_bob.complaint().contains(&whose), "{}", of_bob.err);
    for wrong in [
        &["--file-mode", "0777"][..],
        &["--secret", "a/b"],
        &["--timeout", "0s"],
    ] {
        let ended = mount(&fixture, &dir, &kubeconfig, wrong)
            .running
            .end()
            .await;
        assert_eq!(ended.code, 2, "{wrong:?}");
    }
    let late = mount(&fixture, &dir, &kubeconfig, &["--timeout", "5s"])
        .running
        .end()
        .await;
    assert_eq!(late.code, 75, "{}", late.err);
    assert!(
        late.complaint()
            .contains("not mounted within 5s; there is no IntegrationCredential"),
        "{}",
        late.err
    );
}
