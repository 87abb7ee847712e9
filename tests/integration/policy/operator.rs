//! The rights of `operator-role.yaml` are enough for the operator, with the policy in force.

use std::time::Duration;

use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, PostParams, Preconditions},
};
use serde_json::{Value, json};

use tokenward::api::{ClusterOAuthProvider, OAuthProvider, ProviderStatus};

use super::{Guarded, create, lease, refused, release, renew, with};
use crate::{
    provider_objects::one_at_a_time,
    support::{Account, Deployed, Fixture, Operator, documents, eventually},
};

/// Long enough that a busy machine keeps up, and short enough for a second generation in a test.
const LIFETIME: Duration = Duration::from_secs(6);

/// The file, with the ServiceAccount in the test's namespace.
fn role(fixture: &Fixture) -> Vec<Value> {
    let names = [
        ("tokenward", fixture.namespace.as_str()),
        ("tokenward-system", fixture.namespace.as_str()),
    ];
    documents("operator-role.yaml", &names)
}

/// The operator's ServiceAccount, once it has its rights.
async fn account(fixture: &Fixture) -> Account {
    let account = Account::of(fixture, &fixture.namespace).await;
    let (group, resource) = ("tokenward.dev", "integrationcredentials");
    account.until_it_may(true, "gate", group, resource).await;
    account
        .until_it_may(true, "list", group, "clusteroauthproviders")
        .await;
    account
}

/// Runs the operator as this account until each kind of credential has been refreshed. `may_tell`: it has the right to
/// write the status of cluster providers, which it is told to write.
async fn refreshes_as(account: &Account, fixture: &Fixture, may_tell: bool) {
    let _one = one_at_a_time().await;
    let name = fixture.namespace.as_str();
    let client = json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": "shared", "namespace": name, "labels": {"tokenward.dev/client": "true"}},
        "stringData": {"key": "demo-secret"},
    });
    let shared = json!({
        "apiVersion": "tokenward.dev/v1alpha1", "kind": "ClusterOAuthProvider",
        "metadata": {"name": name},
        "spec": {
            "tokenUrl": fixture.oauth.token_url(),
            "client": {"id": "demo", "secretKeyRefs": [{"name": "shared", "key": "key"}]},
            "allowedNamespaces": {"matchLabels": {"kubernetes.io/metadata.name": name}},
            "allowedGrantTypes": ["ClientCredentials"],
            "allowedScopes": ["read"],
        },
    });
    let _shared = Deployed::objects(fixture, vec![client, shared]).await;
    fixture.seed("alice").await;
    let arguments = ["--operator-namespace", name, "--cluster-provider-status"];
    let operator = Operator::start(account.kubeconfig(), name, &arguments);
    fixture.user("alice", json!({})).await;
    fixture.seed("ended").await;
    let policy = json!({"revocationPolicy": "OnDelete"});
    fixture.user("ended", policy).await;
    fixture.machine("ci", json!({})).await;
    let reference = json!({"kind": "ClusterOAuthProvider", "name": name});
    fixture
        .machine("common", json!({"oauth2": {"providerRef": reference}}))
        .await;
    for name in ["alice", "ci", "common"] {
        fixture.generation(name, 2).await;
        assert!(fixture.find_secret(name).await.is_some());
        let gate = fixture.leases().get(&format!("{name}.gate")).await.unwrap();
        assert_eq!(gate.labels()["tokenward.dev/credential"], name);
    }
    fixture.ready("ended").await;
    let params = DeleteParams::default();
    let credentials = fixture.credentials();
    credentials.delete("ended", &params).await.unwrap();
    eventually("the end", async || {
        let credential = credentials.get_opt("ended").await.unwrap();
        let grant = fixture.find_secret("ended.grant").await;
        (credential.is_none() && grant.is_none()).then_some(())
    })
    .await;
    assert_eq!(fixture.oauth.max_presentations(), 1);
    let told = fixture.events().await;
    assert!(told.iter().any(|e| e.starts_with("Refreshed:")), "{told:?}");
    let own: Api<OAuthProvider> = Api::namespaced(fixture.client.clone(), name);
    let common: Api<ClusterOAuthProvider> = Api::all(fixture.client.clone());
    let is_ready = |status: Option<ProviderStatus>| {
        let conditions = status.unwrap_or_default().conditions;
        conditions
            .iter()
            .any(|c| c.type_ == "Ready" && c.status == "True")
    };
    // Said once, and not tried again and again.
    let status = "forbids to write the status of clusteroauthproviders";
    eventually("what is said of the providers", async || {
        let own = is_ready(own.get("provider").await.unwrap().status);
        let common = is_ready(common.get(name).await.unwrap().status);
        let refused = operator.log().contains(status);
        (own && common == may_tell && refused != may_tell).then_some(())
    })
    .await;
    let log = operator.log();
    let refusals: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("forbid") || line.contains("denied"))
        .collect();
    assert_eq!(refusals.len(), usize::from(!may_tell), "{refusals:#?}");
    assert!(
        refusals.iter().all(|line| line.contains(status)),
        "{refusals:#?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_refreshes_with_the_rights_of_its_role_and_the_policy_in_force() {
    let guarded = Guarded::around(Fixture::new("role", LIFETIME).await).await;
    let fixture = &guarded.fixture;
    let _role = Deployed::objects(fixture, role(fixture)).await;
    refreshes_as(&account(fixture).await, fixture, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_of_one_namespace_needs_its_role_there_and_one_right_besides() {
    let guarded = Guarded::around(Fixture::new("namespaced", LIFETIME).await).await;
    let fixture = &guarded.fixture;
    let name = fixture.namespace.as_str();
    let mut objects = role(fixture);
    for object in &mut objects {
        if object["kind"] == "ClusterRoleBinding" {
            object["kind"] = json!("RoleBinding");
            object["metadata"]["namespace"] = json!(name);
        }
    }
    let cluster_wide = format!("{name}-cluster");
    objects.push(json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": {"name": cluster_wide},
        "rules": [{
            "apiGroups": ["tokenward.dev"], "resources": ["clusteroauthproviders"],
            "verbs": ["list", "watch"],
        }],
    }));
    objects.push(json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
        "metadata": {"name": cluster_wide},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": cluster_wide},
        "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": name}],
    }));
    let _role = Deployed::objects(fixture, objects).await;
    refreshes_as(&account(fixture).await, fixture, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_writes_gates_and_removes_what_dead_consumers_left() {
    let guarded = Guarded::new("remove").await;
    let fixture = &guarded.fixture;
    let _role = Deployed::objects(fixture, role(fixture)).await;
    let operator = account(fixture).await;
    let app = guarded.consumer("app").await;
    let leases = operator.leases();
    // What it does now and then: follow the holds while it waits, count an event that happens again.
    operator
        .until_it_may(true, "watch", "coordination.k8s.io", "leases")
        .await;
    operator
        .until_it_may(true, "patch", "events.k8s.io", "events")
        .await;

    let gate = create(&operator, &lease("alice.gate", &operator))
        .await
        .unwrap();
    let mut closed = gate.clone();
    closed
        .annotations_mut()
        .insert("tokenward.dev/phase".to_owned(), "Draining".to_owned());
    let params = PostParams::default();
    let closed = leases
        .replace("alice.gate", &params, &closed)
        .await
        .unwrap();
    // Its labels are what it is found by.
    let bare = json!({"metadata": {"labels": null}});
    refused(
        renew(&operator, &closed, bare).await,
        &["must have the labels"],
    );

    for name in ["alice.hold.0123456789ab", "alice.want.0123456789ab"] {
        let hold = create(&app, &lease(name, &app)).await.unwrap();
        let role = name.split('.').nth(1).unwrap();
        let selector = format!("tokenward.dev/credential=alice,tokenward.dev/role={role}");
        let found = leases
            .list(&ListParams::default().labels(&selector))
            .await
            .unwrap();
        assert_eq!(found.items, std::slice::from_ref(&hold));
        // Renewed in the last moment: the version that was timed is not the one that is there.
        let renewed = renew(&app, &hold, json!({})).await.unwrap();
        let timed = |lease: &k8s_openapi::api::coordination::v1::Lease| {
            DeleteParams::default().preconditions(Preconditions {
                uid: lease.uid(),
                resource_version: lease.resource_version(),
            })
        };
        let kube::Error::Api(late) = leases.delete(name, &timed(&hold)).await.unwrap_err() else {
            panic!("no answer");
        };
        assert_eq!(late.code, 409, "{late:?}");
        leases.delete(name, &timed(&renewed)).await.unwrap();
        let kube::Error::Api(lost) = renew(&app, &renewed, json!({})).await.unwrap_err() else {
            panic!("no answer");
        };
        assert_eq!(lost.code, 404, "{lost:?}");
    }
    // It holds nothing for itself or for others.
    let own = create(&operator, &lease("alice.hold.0123456789ab", &operator)).await;
    refused(own, &["the verb \"hold\""]);
    let owner = "/metadata/annotations/tokenward.dev~1owner";
    let forged = with(
        lease("alice.hold.0123456789ab", &operator),
        owner,
        json!(app.user()),
    );
    refused(create(&operator, &forged).await, &["the verb \"hold\""]);
    release(&operator, &leases.get("alice.gate").await.unwrap())
        .await
        .unwrap();
}
