//! The client library under the rights of `consumer-role.yaml`, with the policy in force.

use kube::api::ListParams;
use serde_json::json;
use tokenward::manager::{CredentialManager, Error};

use super::{Guarded, HOUR};
use crate::support::{Account, Deployed, Fixture, eventually};

fn manager(account: &Account, fixture: &Fixture) -> CredentialManager {
    CredentialManager::new(account.client.clone(), fixture.namespace.clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_with_the_role_needs_no_other_right_and_holds_nothing_else() {
    let guarded = Guarded::around(Fixture::new("library", HOUR).await).await;
    let fixture = &guarded.fixture;
    let _operator = fixture.operator();
    for name in ["alice", "bob"] {
        fixture.seed(name).await;
        fixture.user(name, json!({})).await;
        fixture.ready(name).await;
    }
    let app = guarded.consumer("app").await;
    let app = app.in_pod(fixture, "app-1").await;
    let manager = manager(&app, fixture);
    assert!(manager.get("alice").await.unwrap().is_some());
    let hold = manager.acquire("alice").await.unwrap();
    let params = ListParams::default().labels("tokenward.dev/role=hold");
    let holds = fixture.leases().list(&params).await.unwrap();
    let notes = holds.items[0].metadata.annotations.clone().unwrap();
    assert_eq!(notes["tokenward.dev/owner"], app.user());
    assert_eq!(
        Some(&notes["tokenward.dev/owner-pod-uid"]),
        app.pod.as_ref()
    );
    // A refresh that somebody asks for tells it, and waits.
    manager.report_rejected(hold).await.unwrap();
    fixture.generation("alice", 2).await;
    let hold = manager.acquire("alice").await.unwrap();
    assert_eq!(hold.generation(), 2);
    hold.release().await;
    eventually("nothing left", async || {
        let all = ListParams::default().labels("tokenward.dev/role in (hold,want)");
        let left = fixture.leases().list(&all).await.unwrap();
        left.items.is_empty().then_some(())
    })
    .await;

    let error = manager.acquire("bob").await.err().unwrap();
    let Error::Forbidden { rule, .. } = &error else {
        panic!("{error}");
    };
    assert!(rule.contains("integrationcredentials"), "{rule}");
    assert!(rule.contains("bob"), "{rule}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_may_read_and_not_hold_is_told_the_rule_that_it_lacks() {
    let guarded = Guarded::around(Fixture::new("lacking", HOUR).await).await;
    let fixture = &guarded.fixture;
    let _operator = fixture.operator();
    fixture.machine("ci", json!({})).await;
    fixture.ready("ci").await;
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
        "metadata": {"name": "reader", "namespace": fixture.namespace},
        "rules": [{"apiGroups": ["tokenward.dev"], "resources": ["integrationcredentials"], "verbs": ["get"]}],
    });
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": {"name": "reader", "namespace": fixture.namespace},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader"},
        "subjects": [{"kind": "ServiceAccount", "name": "editor", "namespace": fixture.namespace}],
    });
    let rule = |error: Error| match error {
        Error::Forbidden { rule, .. } => rule,
        error => panic!("{error}"),
    };
    let manager = manager(&guarded.editor, fixture);
    let missing = rule(manager.acquire("ci").await.err().unwrap());
    assert_eq!(
        missing,
        r#"{apiGroups: ["tokenward.dev"], resources: ["integrationcredentials"], resourceNames: ["ci"], verbs: ["get"]}"#
    );
    Deployed::objects(fixture, vec![role, binding]).await;
    let (group, resource) = ("tokenward.dev", "integrationcredentials/ci");
    guarded
        .editor
        .until_it_may(true, "get", group, resource)
        .await;
    // The built-in role that may write every Lease does not let it hold.
    let missing = rule(manager.acquire("ci").await.err().unwrap());
    assert_eq!(
        missing,
        r#"{apiGroups: ["tokenward.dev"], resources: ["integrationcredentials"], resourceNames: ["ci"], verbs: ["hold"]}"#
    );
}
