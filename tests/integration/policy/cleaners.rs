//! The policies are in nobody's way who cleans up.

use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, Resource,
    api::{DeleteParams, PostParams},
};
use serde_json::json;

use super::{Guarded, create, lease, release};
use crate::support::{eventually, within};

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_with_gates_holds_and_wants_goes_all_the_way() {
    let guarded = Guarded::new("goes").await;
    let app = guarded.consumer("app").await;
    let leases = guarded.fixture.leases();
    let gate = serde_json::from_value(lease("alice.gate", &guarded.editor)).unwrap();
    leases.create(&PostParams::default(), &gate).await.unwrap();
    for name in [
        "alice.hold.0123456789ab",
        "alice.hold.exclusive",
        "alice.want.0123456789ab",
    ] {
        create(&app, &lease(name, &app)).await.unwrap();
    }
    let namespaces: Api<Namespace> = Api::all(guarded.fixture.client.clone());
    let name = &guarded.fixture.namespace;
    namespaces
        .delete(name, &DeleteParams::default())
        .await
        .unwrap();
    within(
        Duration::from_secs(180),
        "the namespace is gone",
        async || {
            namespaces
                .get_opt(name)
                .await
                .unwrap()
                .is_none()
                .then_some(())
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gate_goes_with_its_credential_and_a_hold_stays_until_it_is_released() {
    let guarded = Guarded::new("collect").await;
    let app = guarded.consumer("app").await;
    let credential = guarded.fixture.user("alice", json!({})).await;
    let mut gate = lease("alice.gate", &guarded.editor);
    gate["metadata"]["ownerReferences"] = json!([credential.controller_owner_ref(&())]);
    let leases = guarded.fixture.leases();
    let gate = serde_json::from_value(gate).unwrap();
    leases.create(&PostParams::default(), &gate).await.unwrap();
    let hold = create(&app, &lease("alice.hold.0123456789ab", &app))
        .await
        .unwrap();

    let credentials = guarded.fixture.credentials();
    credentials
        .delete("alice", &DeleteParams::default())
        .await
        .unwrap();
    eventually("the gate is collected", async || {
        leases
            .get_opt("alice.gate")
            .await
            .unwrap()
            .is_none()
            .then_some(())
    })
    .await;
    assert_eq!(leases.get("alice.hold.0123456789ab").await.unwrap(), hold);
    release(&app, &hold).await.unwrap();
}
