//! All ways to delete, and what Kubernetes deletes by itself meanwhile.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams, PostParams, PropagationPolicy},
};
use serde::de::DeserializeOwned;
use serde_json::json;
use tokenward::{api::ClusterOAuthProvider, manager::CredentialManager};

use super::{
    HOUR, carriers, change, create, delete, event, fixture, gone, note, resource, revocable, tokens,
};
use crate::{
    oauth_server::Fault,
    support::{Fixture, eventually, kubectl, within},
};

async fn delete_by(fixture: &Fixture, name: &str, policy: PropagationPolicy) {
    let params = DeleteParams {
        propagation_policy: Some(policy),
        ..DeleteParams::default()
    };
    fixture.credentials().delete(name, &params).await.unwrap();
}

/// Deletes an object, if it is there.
async fn take<K: Clone + std::fmt::Debug + DeserializeOwned>(api: &Api<K>, name: &str) {
    match api.delete(name, &DeleteParams::default()).await {
        Err(kube::Error::Api(status)) if status.is_not_found() => {}
        deleted => drop(deleted.unwrap()),
    }
}

/// Waits until the garbage collector has seen all Secrets there are: it takes one whose owner is gone, made after them.
/// What it has not seen yet it takes for nobody's, and does not orphan.
async fn garbage_collector_knows_the_secrets(fixture: &Fixture) {
    let owner = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "name": "nobody",
        "uid": "00000000-0000-4000-8000-000000000000",
    });
    let orphan: Secret = serde_json::from_value(json!({
        "metadata": {"name": "orphan", "ownerReferences": [owner]},
    }))
    .unwrap();
    let (api, params) = (fixture.secrets(), PostParams::default());
    api.create(&params, &orphan).await.unwrap();
    eventually("the orphan is taken", async || {
        fixture.find_secret("orphan").await.is_none().then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_in_the_foreground_revokes_although_it_takes_what_belongs_to_it_first() {
    let fixture = fixture("foreground", HOUR).await;
    let mut operator = fixture.operator();
    let tokens = revocable(&fixture, "alice").await;
    operator.kill();
    delete_by(&fixture, "alice", PropagationPolicy::Foreground).await;
    // Garbage collection comes by, before the operator.
    eventually("the end of what is in the foreground", async || {
        let credential = fixture.get("alice").await;
        let mut finalizers = credential.metadata.finalizers.into_iter().flatten();
        let waits = finalizers.any(|finalizer| finalizer == "foregroundDeletion");
        (!waits).then_some(())
    })
    .await;
    // It takes what does not block its owner only where it comes to it before it comes to the owner.
    for name in ["alice", "alice.grant"] {
        take(&fixture.secrets(), name).await;
    }
    take(&fixture.leases(), "alice.gate").await;
    assert!(fixture.find_secret("alice").await.is_none());
    assert_eq!(carriers(&fixture, "alice").await, [true; 3]);
    let _operator = fixture.operator();
    gone(&fixture, "alice").await;
    assert_eq!(resource(&fixture, &tokens.access).await, 401);
    assert_eq!(fixture.oauth.revocations()[0].token, Some(tokens.refresh));
    event(&fixture, "Revoked").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_that_orphans_revokes_and_leaves_the_target() {
    let fixture = fixture("orphan", HOUR).await;
    let mut operator = fixture.operator();
    let tokens = revocable(&fixture, "alice").await;
    operator.kill();
    garbage_collector_knows_the_secrets(&fixture).await;
    delete_by(&fixture, "alice", PropagationPolicy::Orphan).await;
    eventually("the orphans", async || {
        let grant = fixture.find_secret("alice.grant").await.unwrap();
        let owners = grant.metadata.owner_references.unwrap_or_default();
        owners.is_empty().then_some(())
    })
    .await;
    let _operator = fixture.operator();
    gone(&fixture, "alice").await;
    assert_eq!(resource(&fixture, &tokens.access).await, 401);
    assert!(fixture.find_secret("alice").await.is_some());
}

/// Deletes the namespace and waits for its end.
async fn delete_namespace(fixture: &Fixture) {
    let api: Api<Namespace> = Api::all(fixture.client.clone());
    let name = &fixture.namespace;
    api.delete(name, &DeleteParams::default()).await.unwrap();
    within(
        Duration::from_secs(180),
        "the namespace's end",
        async || api.get_opt(name).await.unwrap().is_none().then_some(()),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_goes_whatever_state_its_credentials_are_in() {
    let fixture = fixture("namespace", HOUR).await;
    let operator = fixture.operator();
    revocable(&fixture, "valid").await;
    revocable(&fixture, "suspended").await;
    change(&fixture, "suspended", json!({"spec": {"suspend": true}})).await;
    let policy = json!({"revocationPolicy": "OnDelete"});
    fixture.user("pending", policy.clone()).await;
    fixture.stalled("pending", "SeedNotFound").await;
    fixture.reseed("invalid", "rt-unknown").await;
    fixture.user("invalid", policy.clone()).await;
    fixture.stalled("invalid", "ReauthorizationRequired").await;
    fixture.machine("machine", policy).await;
    fixture.ready("machine").await;
    revocable(&fixture, "held").await;
    let manager = CredentialManager::new(fixture.client.clone(), fixture.namespace.clone());
    let hold = manager.acquire("held").await.unwrap();
    fixture.ask("held", "1").await;
    operator.logged("waiting for holders to let go").await;
    create(&fixture, "new", json!({})).await;
    delete_namespace(&fixture).await;
    hold.release().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_goes_while_the_provider_hangs() {
    let fixture = fixture("hangs", HOUR).await;
    let mut operator = fixture.operator();
    revocable(&fixture, "alice").await;
    operator.kill();
    let _operator = fixture.operator_with(&["--request-timeout", "1s"]);
    fixture.oauth.fail_every_revocation(Some(Fault::Hang(HOUR)));
    let left = json!({"attempts": 3, "startTime": jiff::Timestamp::now()});
    note(&fixture, "alice", left).await;
    delete_namespace(&fixture).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_that_goes_has_its_tokens_revoked_where_the_client_is_elsewhere() {
    let fixture = Fixture::bare("platform", HOUR).await;
    let name = fixture.namespace.clone();
    let api: Api<ClusterOAuthProvider> = Api::all(fixture.client.clone());
    let object = json!({
        "apiVersion": "tokenward.dev/v1alpha1", "kind": "ClusterOAuthProvider",
        "metadata": {"name": name},
        "spec": {
            "tokenUrl": fixture.oauth.token_url(), "revokeUrl": fixture.oauth.revoke_url(),
            "client": {"id": "demo", "secretsFromEnv": ["TOKENWARD_CLIENT_SECRET"]},
            "allowedNamespaces": {"matchLabels": {"kubernetes.io/metadata.name": name}},
        },
    });
    let params = PatchParams::apply("test").force();
    api.patch(&name, &params, &Patch::Apply(object))
        .await
        .unwrap();
    let variables = [("TOKENWARD_CLIENT_SECRET", "demo-secret")];
    let _operator = fixture.operator_in(&variables, &["--operator-namespace", &name]);
    let reference = json!({"oauth2": {
        "providerRef": {"kind": "ClusterOAuthProvider", "name": name},
        "grantType": "RefreshToken", "seedSecretRef": {"name": "alice-seed"},
    }});
    create(&fixture, "alice", reference).await;
    fixture.ready("alice").await;
    let tokens = tokens(&fixture, "alice").await;
    delete_namespace(&fixture).await;
    assert_eq!(resource(&fixture, &tokens.access).await, 401);
    api.delete(&name, &DeleteParams::default()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_while_no_operator_runs_is_done_by_the_next_one_also_where_it_is_suspended() {
    let fixture = fixture("down", HOUR).await;
    let mut operator = fixture.operator();
    let tokens = revocable(&fixture, "alice").await;
    change(&fixture, "alice", json!({"spec": {"suspend": true}})).await;
    operator.kill();
    delete(&fixture, "alice").await;
    assert!(
        fixture
            .get("alice")
            .await
            .metadata
            .deletion_timestamp
            .is_some()
    );
    let _operator = fixture.operator();
    gone(&fixture, "alice").await;
    assert_eq!(resource(&fixture, &tokens.access).await, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_made_again_by_a_tool_goes_on_with_its_authorization() {
    let fixture = fixture("replace", HOUR).await;
    let _operator = fixture.operator();
    fixture.seed("alice").await;
    let first = fixture.user("alice", json!({})).await;
    fixture.ready("alice").await;
    let before = tokens(&fixture, "alice").await;
    let manifest = json!({
        "apiVersion": "tokenward.dev/v1alpha1", "kind": "IntegrationCredential",
        "metadata": {"name": "alice", "namespace": fixture.namespace}, "spec": first.spec,
    });
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("alice.json");
    std::fs::write(&file, manifest.to_string()).unwrap();
    // The first seed is spent.
    fixture.delete_secret("alice-seed").await;
    let file = file.to_str().unwrap();
    let replaced = kubectl(&["replace", "--force", "-f", file]).await;
    assert!(replaced.status.success(), "{replaced:?}");
    fixture
        .until("alice", "another one", |c| {
            c.metadata.uid != first.metadata.uid
        })
        .await;
    let seed = fixture.seed("alice").await;
    fixture.ready("alice").await;
    assert_eq!(fixture.oauth.redemptions(&seed), 1);
    // Nothing was ended: neither of the first one nor of the one that a GitOps tool prunes.
    assert_eq!(resource(&fixture, &before.access).await, 200);
    let namespace = fixture.namespace.as_str();
    let label = ["-n", namespace, "label", "icred", "alice", "app=x"];
    assert!(kubectl(&label).await.status.success());
    let pruned = ["-n", namespace, "delete", "icred", "-l", "app=x"];
    assert!(kubectl(&pruned).await.status.success());
    gone(&fixture, "alice").await;
    assert!(fixture.oauth.revocations().is_empty());
    assert_eq!(resource(&fixture, &before.access).await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_finalizer_that_somebody_takes_off_leaves_nothing_that_hangs() {
    let fixture = fixture("stripped", HOUR).await;
    let _operator = fixture.operator();
    revocable(&fixture, "alice").await;
    fixture.oauth.fail_every_revocation(Some(Fault::Hang(HOUR)));
    delete(&fixture, "alice").await;
    eventually("the attempt", async || {
        (!fixture.oauth.revocations().is_empty()).then_some(())
    })
    .await;
    change(&fixture, "alice", json!({"metadata": {"finalizers": null}})).await;
    gone(&fixture, "alice").await;
}
