//! `tokenward cleanup`, and what an uninstalled operator leaves behind.

use std::io::Write;

use serde_json::json;

use super::{HOUR, carriers, create, delete, fixture, gone, resource, revocable};
use crate::support::{kubectl, text};

#[tokio::test(flavor = "multi_thread")]
async fn without_an_operator_targets_stay_usable_and_cleanup_lets_go_what_hangs() {
    let fixture = fixture("cleanup", HOUR).await;
    let mut operator = fixture.operator();
    let tokens = revocable(&fixture, "alice").await;
    revocable(&fixture, "bob").await;
    operator.kill();
    let target = fixture.find_secret("alice").await.unwrap();
    assert_eq!(
        resource(&fixture, &text(&target, "access_token")).await,
        200
    );
    delete(&fixture, "alice").await;
    let namespace = &fixture.namespace;

    let shown = fixture.tokenward(&["cleanup", "--dry-run"]).end().await;
    assert_eq!(shown.code, 0, "{}", shown.err);
    for object in [
        "alice: IntegrationCredential",
        "alice.grant: Secret",
        "alice.gate: Lease",
    ] {
        let line = format!("{namespace}/{object}: finalizer would be removed\n");
        assert!(shown.out.contains(&line), "{}", shown.out);
    }
    assert_eq!(carriers(&fixture, "alice").await, [true; 3]);

    let nobody = fixture.tokenward(&["cleanup"]).end().await;
    assert_eq!(nobody.code, 2, "{}", nobody.err);
    assert!(nobody.err.contains("--yes"), "{}", nobody.err);
    assert_eq!(carriers(&fixture, "alice").await, [true; 3]);

    let done = fixture.tokenward(&["cleanup", "--yes"]).end().await;
    assert_eq!(done.code, 0, "{}", done.err);
    let line = format!("{namespace}/bob: IntegrationCredential: finalizer removed\n");
    assert!(done.out.contains(&line), "{}", done.out);
    gone(&fixture, "alice").await;
    assert_eq!(carriers(&fixture, "bob").await, [false; 3]);
    assert_eq!(resource(&fixture, &tokens.access).await, 200);
    let again = fixture.tokenward(&["cleanup", "--yes"]).end().await;
    assert_eq!(again.code, 0);
    assert!(again.out.contains("nothing in namespace"), "{}", again.out);
}

#[tokio::test(flavor = "multi_thread")]
async fn cleanup_says_which_right_is_missing() {
    let fixture = fixture("powerless", HOUR).await;
    let _operator = fixture.operator();
    create(&fixture, "alice", json!({})).await;
    fixture.ready("alice").await;
    let rules = json!([
        {"apiGroups": ["tokenward.dev"], "resources": ["integrationcredentials"], "verbs": ["get", "list", "patch"]},
        {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["get", "list", "patch"]},
        {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "list"]},
    ]);
    let account = fixture.account("cleaner", rules).await;
    account.until_it_may(true, "list", "", "secrets").await;
    let call = fixture.tokenward(&["cleanup", "--yes"]);
    let ended = call.by(account.kubeconfig()).end().await;
    assert_eq!(ended.code, 77, "{}", ended.err);
    assert!(
        ended
            .err
            .contains("alice.grant: Secret: finalizer not removed"),
        "{}",
        ended.err
    );
    assert!(ended.err.contains(r#"verbs: ["patch"]"#), "{}", ended.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_documented_commands_of_kubectl_let_go_as_well() {
    let fixture = fixture("plain", HOUR).await;
    let mut operator = fixture.operator();
    revocable(&fixture, "alice").await;
    operator.kill();
    delete(&fixture, "alice").await;
    let namespace = fixture.namespace.as_str();
    for object in ["secret/alice.grant", "lease/alice.gate", "icred/alice"] {
        let patch = [
            "-n",
            namespace,
            "patch",
            object,
            "--type=merge",
            "-p",
            r#"{"metadata":{"finalizers":null}}"#,
        ];
        let patched = kubectl(&patch).await;
        assert!(patched.status.success(), "{patched:?}");
    }
    gone(&fixture, "alice").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn at_a_terminal_cleanup_asks_and_changes_nothing_unless_the_answer_is_yes() {
    let fixture = fixture("askcleanup", HOUR).await;
    let mut operator = fixture.operator();
    revocable(&fixture, "alice").await;
    operator.kill();
    for (answer, code, left) in [("\n", 1, true), ("no\n", 1, true), ("yes\n", 0, false)] {
        let Some((asking, mut keyboard)) = fixture.at_a_terminal("cleanup") else {
            return;
        };
        asking.shown("[y/N]").await;
        keyboard.write_all(answer.as_bytes()).unwrap();
        let ended = asking.end().await;
        assert_eq!(ended.code, code, "{answer:?}: {}", ended.out);
        assert!(
            ended
                .out
                .contains("The tokens of 1 credentials will not be revoked")
        );
        assert_eq!(ended.out.contains("nothing was changed"), left);
        assert_eq!(carriers(&fixture, "alice").await, [left; 3]);
    }
}
