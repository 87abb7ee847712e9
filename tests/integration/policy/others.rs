//! Leases that are not tokenward's: the policy knows nothing of them, the strict one keeps consumers away.

use std::time::Duration;

use k8s_openapi::api::{
    admissionregistration::v1::ValidatingAdmissionPolicy, coordination::v1::Lease,
    core::v1::Namespace,
};
use kube::{
    Api, Resource, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use super::{Guarded, create, enforce, lease, refused, release, renew, until_refused};
use crate::support::{Account, Deployed, eventually, within};

/// Everything that can be done with a Lease.
async fn write_all(account: &Account, name: &str) -> kube::Result<()> {
    let leases = account.leases();
    let params = PostParams::default();
    let owner = create(account, &json!({"metadata": {"name": "owner"}})).await?;
    let made = create(account, &json!({"metadata": {"name": name}})).await?;
    let mut elected = made.clone();
    elected.meta_mut().owner_references = owner.owner_ref(&()).map(|owner| vec![owner]);
    elected.spec =
        serde_json::from_value(json!({"holderIdentity": "a", "leaseDurationSeconds": 3600}))
            .unwrap();
    elected
        .labels_mut()
        .insert("app".to_owned(), "elections".to_owned());
    let elected = leases.replace(name, &params, &elected).await?;
    let renewed = renew(account, &elected, json!({"metadata": {"finalizers": null}})).await?;
    renew(
        account,
        &renewed,
        json!({"metadata": {"labels": null, "ownerReferences": null}}),
    )
    .await?;
    leases.delete(name, &DeleteParams::default()).await?;
    let apply = Patch::Apply(json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"name": name, "labels": {"app": "elections"}},
    }));
    leases
        .patch(name, &PatchParams::apply("test"), &apply)
        .await?;
    let list = ListParams::default().labels("app=elections");
    leases
        .delete_collection(&DeleteParams::default(), &list)
        .await?;
    release(account, &owner).await
}

#[tokio::test(flavor = "multi_thread")]
async fn leases_of_leader_elections_are_untouched() {
    let guarded = Guarded::new("untouched").await;
    let editor = &guarded.editor;
    for name in [
        "leader",
        "kube-scheduler",
        "gate",
        "alice-gate",
        "alice.gatekeeper",
        "alice.gate.keeper",
        "alice.holdings",
        "alice.hold",
        "a.b.gate",
        "7b1f5a-leader.example.com",
    ] {
        write_all(editor, name)
            .await
            .unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    let generated: Lease =
        serde_json::from_value(json!({"metadata": {"generateName": "leader-"}})).unwrap();
    editor
        .leases()
        .create(&PostParams::default(), &generated)
        .await
        .unwrap();
    editor
        .leases()
        .delete_collection(&DeleteParams::default(), &ListParams::default())
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn under_the_strict_policy_consumers_write_the_leases_of_tokenward_only() {
    let guarded = Guarded::new("strict").await;
    let fixture = &guarded.fixture;
    let app = guarded.consumer("app").await;
    let elector = elector(&guarded).await;
    let _strict = enforce(
        fixture,
        "lease-policy-strict.yaml",
        "strict-leases.tokenward.dev",
    )
    .await;
    let namespaces: Api<Namespace> = Api::all(fixture.client.clone());
    let label = json!({"metadata": {"labels": {"tokenward.dev/strict-leases": "true"}}});
    let label = Patch::Merge(label);
    namespaces
        .patch(&fixture.namespace, &PatchParams::default(), &label)
        .await
        .unwrap();
    let leader = json!({"metadata": {"name": "leader"}});
    until_refused(&app, &leader, "'strict-leases.tokenward.dev-").await;

    // The one who is elected has `update` on this Lease, and on no other.
    let made = create(&elector, &leader).await.unwrap();
    let made = renew(&elector, &made, json!({})).await.unwrap();
    let made = elector
        .leases()
        .replace("leader", &PostParams::default(), &made)
        .await
        .unwrap();
    let words = |name: &str, who: &Account| {
        format!(
            "{} needs the verb \"update\" on leases.coordination.k8s.io, resourceNames [{name}]",
            who.user()
        )
    };
    let other = json!({"metadata": {"name": "other"}});
    refused(create(&elector, &other).await, &[&words("other", &elector)]);

    let needs = words("leader", &app);
    refused(renew(&app, &made, json!({})).await, &[&needs]);
    refused(release(&app, &made).await, &[&needs]);
    refused(create(&app, &other).await, &[&words("other", &app)]);
    let generated: Value = json!({"metadata": {"generateName": "leader-"}});
    refused(create(&app, &generated).await, &["is none of tokenward"]);
    // Nor by making it look like one of ours.
    let labels = json!({"metadata": {"labels": {"tokenward.dev/role": "hold"}}});
    refused(renew(&app, &made, labels).await, &["belongs to tokenward"]);

    // Its own holds, and whoever may write every Lease, as before.
    let hold = create(&app, &lease("alice.hold.0123456789ab", &app))
        .await
        .unwrap();
    let hold = renew(&app, &hold, json!({})).await.unwrap();
    release(&app, &hold).await.unwrap();
    write_all(&guarded.editor, "unrelated").await.unwrap();

    namespaces
        .delete(&fixture.namespace, &DeleteParams::default())
        .await
        .unwrap();
    within(
        Duration::from_secs(180),
        "the namespace is gone",
        async || {
            namespaces
                .get_opt(&fixture.namespace)
                .await
                .unwrap()
                .is_none()
                .then_some(())
        },
    )
    .await;
}

/// Takes part in the leader election `leader`.
async fn elector(guarded: &Guarded) -> Account {
    let fixture = &guarded.fixture;
    let account = Account::create(fixture, "elector").await;
    let (namespace, api) = (&fixture.namespace, "rbac.authorization.k8s.io");
    let role = json!({
        "apiVersion": format!("{api}/v1"), "kind": "Role",
        "metadata": {"name": "elector", "namespace": namespace},
        "rules": [
            {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["create"]},
            {
                "apiGroups": ["coordination.k8s.io"], "resources": ["leases"],
                "resourceNames": ["leader"], "verbs": ["get", "update", "patch"],
            },
        ],
    });
    let binding = json!({
        "apiVersion": format!("{api}/v1"), "kind": "RoleBinding",
        "metadata": {"name": "elector", "namespace": namespace},
        "roleRef": {"apiGroup": api, "kind": "Role", "name": "elector"},
        "subjects": [{"kind": "ServiceAccount", "name": "elector", "namespace": namespace}],
    });
    Deployed::objects(fixture, vec![role, binding]).await;
    account
        .until_it_may(true, "update", "coordination.k8s.io", "leases/leader")
        .await;
    account
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_server_finds_nothing_wrong_with_the_types_in_the_policies() {
    let guarded = Guarded::new("types").await;
    let fixture = &guarded.fixture;
    let _strict = enforce(
        fixture,
        "lease-policy-strict.yaml",
        "strict-leases.tokenward.dev",
    )
    .await;
    let policies: Api<ValidatingAdmissionPolicy> = Api::all(fixture.client.clone());
    for name in ["leases.tokenward.dev", "strict-leases.tokenward.dev"] {
        let name = format!("{name}-{}", fixture.namespace);
        let checked = eventually("a type check", async || {
            let policy = policies.get(&name).await.unwrap();
            let status = policy.status.clone()?;
            (status.observed_generation == policy.metadata.generation).then_some(status)
        })
        .await;
        let warnings = checked.type_checking.and_then(|c| c.expression_warnings);
        assert_eq!(warnings.unwrap_or_default(), [], "{name}");
    }
}
