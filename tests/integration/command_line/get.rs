//! `tokenward get`, and what all commands have in common.

use std::{
    os::unix::fs::symlink,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use kube::{ResourceExt, api::ListParams};
use serde_json::{Value, json};

use super::HOUR;
use crate::{
    oauth_server::Fault,
    support::{Fixture, TOKENWARD, call, eventually, kubectl_program, text},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_printed_in_each_form() {
    let fixture = Fixture::new("get", HOUR).await;
    let _operator = fixture.operator();
    fixture
        .machine("ci", json!({"target": {"name": "mounted"}}))
        .await;
    fixture.ready("ci").await;
    let target = fixture.find_secret("mounted").await.unwrap();
    let token = text(&target, "access_token");
    let expires_at = text(&target, "expires_at");

    let plain = fixture.tokenward(&["get", "ci"]).end().await;
    assert_eq!((plain.code, plain.out), (0, format!("{token}\n")));
    assert_eq!(plain.err, "");
    let header = fixture
        .tokenward(&["get", "ci", "-o", "header"])
        .end()
        .await;
    assert_eq!(header.out, format!("Authorization: Bearer {token}\n"));
    let object = fixture.tokenward(&["get", "ci", "-o", "json"]).end().await;
    let object: Value = serde_json::from_str(&object.out).unwrap();
    let wanted = json!({
        "generation": 1, "token_type": object["token_type"], "expires_at": expires_at,
        "scopes": ["read"], "access_token": token,
    });
    assert_eq!(object, wanted);
    let script = r#"eval "$("$0" -n "$2" get ci -o env)"
        echo "$TOKENWARD_ACCESS_TOKEN $TOKENWARD_TOKEN_GENERATION $TOKENWARD_EXPIRES_AT""#;
    let shell = call("sh", &["-c", script, TOKENWARD, "-n", &fixture.namespace]);
    assert_eq!(shell.end().await.out, format!("{token} 1 {expires_at}\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_token_is_not_printed_and_the_next_one_is_waited_for() {
    let fixture = Fixture::new("get-expired", Duration::from_secs(4)).await;
    let mut operator = fixture.operator();
    fixture.machine("ci", json!({})).await;
    fixture.ready("ci").await;
    operator.kill();
    let target = fixture.find_secret("ci").await.unwrap();
    let (old, end): (_, Timestamp) = (
        text(&target, "access_token"),
        text(&target, "expires_at").parse().unwrap(),
    );
    eventually("its end", async || (Timestamp::now() > end).then_some(())).await;
    let get = fixture.tokenward(&["get", "ci"]).start();
    eventually("a want", async || {
        let leases = fixture.leases().list(&ListParams::default()).await.unwrap();
        leases
            .iter()
            .any(|l| l.name_any().starts_with("ci.want."))
            .then_some(())
    })
    .await;
    let _operator = fixture.operator();
    let got = get.end().await;
    assert_eq!(got.code, 0, "{}", got.err);
    assert!(!got.out.trim().is_empty() && got.out.trim() != old);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_is_named_with_the_next_command_and_its_own_exit_code() {
    let fixture = Fixture::bare("get-missing", HOUR).await;
    let namespace = fixture.namespace.as_str();
    let missing = format!(
        "tokenward: there is no IntegrationCredential {namespace}/nobody; see: kubectl -n {namespace} get icred"
    );
    for arguments in [
        &["get", "nobody"][..],
        &["lock", "nobody", "--", "true"],
        &["refresh", "nobody"],
    ] {
        let ended = fixture.tokenward(arguments).end().await;
        assert_eq!((ended.code, ended.complaint()), (66, missing.as_str()));
    }
    let none = fixture.tokenward(&["refresh", "--all"]).end().await;
    assert_eq!(none.code, 66);
    assert!(
        none.err.contains(&format!("in namespace {namespace}")),
        "{}",
        none.err
    );
    let usage = fixture.tokenward(&["refresh"]).end().await;
    assert_eq!(usage.code, 2, "{}", usage.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stalled_credential_is_told_with_the_command_that_repairs_it() {
    let fixture = Fixture::new("get-stalled", HOUR).await;
    let _operator = fixture.operator();
    fixture.user("alice", json!({})).await;
    fixture.stalled("alice", "SeedNotFound").await;
    let repair = format!(
        "kubectl -n {} create secret generic alice-seed",
        fixture.namespace
    );
    for arguments in [
        &["get", "alice"][..],
        &["lock", "alice", "--", "true"],
        &["refresh", "alice"],
    ] {
        let start = Instant::now();
        let ended = fixture.tokenward(arguments).end().await;
        assert_eq!(ended.code, 1, "{}", ended.err);
        assert!(ended.complaint().contains(&repair), "{}", ended.err);
        assert!(start.elapsed().as_secs() < 40, "waited for nothing");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timeout_tells_what_goes_wrong_meanwhile() {
    let fixture = Fixture::new("get-timeout", HOUR).await;
    fixture.oauth.fail_always(Fault::json(503, &json!({})));
    let _operator = fixture.operator();
    fixture.machine("alice", json!({})).await;
    fixture
        .until("alice", "an attempt", |c| {
            c.status
                .as_ref()
                .is_some_and(|s| s.refresh.as_ref().is_some_and(|r| r.failures > 0))
        })
        .await;
    let got = fixture
        .tokenward(&["get", "alice", "--timeout", "1s"])
        .end()
        .await;
    assert_eq!(got.code, 75, "{}", got.err);
    let told = got.complaint();
    assert!(
        told.contains("no valid token within 1s") && told.contains("cannot serve now"),
        "{told}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_right_is_named_as_a_rule() {
    let fixture = Fixture::new("get-rights", HOUR).await;
    let _operator = fixture.operator();
    fixture.machine("ci", json!({})).await;
    fixture.ready("ci").await;
    let nobody = fixture.account("nobody", json!([])).await;
    let got = fixture
        .tokenward(&["get", "ci"])
        .by(nobody.kubeconfig())
        .end()
        .await;
    assert_eq!(got.code, 77, "{}", got.err);
    let rule = r#"{apiGroups: ["tokenward.dev"], resources: ["integrationcredentials"], resourceNames: ["ci"], verbs: ["get"]}"#;
    assert!(got.complaint().ends_with(rule), "{}", got.err);
    let list = fixture
        .tokenward(&["refresh", "--all"])
        .by(nobody.kubeconfig())
        .end()
        .await;
    assert_eq!(list.code, 77, "{}", list.err);
    assert!(
        list.complaint().contains(r#"verbs: ["list"]"#),
        "{}",
        list.err
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn where_there_is_no_cluster_that_is_said() {
    let fixture = Fixture::bare("get-cluster", HOUR).await;
    let lost = fixture
        .tokenward(&["get", "ci", "--context", "nowhere"])
        .end()
        .await;
    assert_eq!(lost.code, 1);
    assert!(
        lost.complaint().contains("nowhere") && lost.complaint().contains("get-contexts"),
        "{}",
        lost.err
    );
    let none = fixture
        .tokenward(&["get", "ci", "--kubeconfig", "/none"])
        .end()
        .await;
    assert!(
        none.complaint().contains("no usable kubeconfig"),
        "{}",
        none.err
    );
    let folder = tempfile::tempdir().unwrap();
    let refused = folder.path().join("kubeconfig");
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u", "namespace": "of-context"}}],
        "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:1"}}],
        "users": [{"name": "u", "user": {"token": "x"}}],
    });
    std::fs::write(&refused, config.to_string()).unwrap();
    let refused = call(TOKENWARD, &["get", "ci"]).by(&refused);
    let refused = refused.end().await;
    assert_eq!(refused.code, 69, "{}", refused.err);
    assert!(refused.err.contains("refused"), "{}", refused.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_finds_it_as_a_plugin() {
    let fixture = Fixture::new("plugin", HOUR).await;
    let _operator = fixture.operator();
    fixture.machine("ci", json!({})).await;
    fixture.ready("ci").await;
    let target = fixture.find_secret("ci").await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    symlink(TOKENWARD, folder.path().join("kubectl-tokenward")).unwrap();
    let path = format!("{}:/usr/bin:/bin", folder.path().display());
    let kubectl = |arguments: &[&str]| {
        let program = kubectl_program();
        let all: Vec<_> = ["tokenward"].iter().chain(arguments).copied().collect();
        call(program.to_str().unwrap(), &all).env("PATH", &path)
    };
    let got = kubectl(&["get", "ci", "-n", &fixture.namespace])
        .end()
        .await;
    assert_eq!(
        got.out,
        format!("{}\n", text(&target, "access_token")),
        "{}",
        got.err
    );
    let help = kubectl(&["lock", "--help"]).end().await;
    assert!(
        help.out.contains("Usage: kubectl tokenward lock"),
        "{}",
        help.out
    );
    assert!(
        help.out.contains("  kubectl tokenward lock alice"),
        "{}",
        help.out
    );
    // Its commands start the same program, whatever its name.
    let run = kubectl(&["lock", "ci", "-n", &fixture.namespace, "--", "echo", "held"]);
    let run = run.end().await;
    assert_eq!((run.code, run.out.as_str()), (0, "held\n"), "{}", run.err);
}
