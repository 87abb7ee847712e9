//! Credentials as an operator leaves them, made by hand: an open gate and a token for each.

use std::time::Duration;

use futures::{StreamExt, stream};
use jiff::{Timestamp, ToSpan};
use k8s_openapi::api::{coordination::v1::Lease, core::v1::Secret};
use kube::{Api, Client, Resource, api::PostParams};
use serde_json::json;
use tokenward::{
    api::IntegrationCredential,
    lock::{
        protocol::{Durations, GateState, Mode},
        wire,
    },
};

/// How many requests at a time.
const AT_A_TIME: usize = 32;

/// The name of one of them.
pub fn name(number: usize) -> String {
    format!("c{number}")
}

/// Creates so many.
pub async fn create(client: &Client, namespace: &str, count: usize) {
    let credentials: Api<IntegrationCredential> = Api::namespaced(client.clone(), namespace);
    let leases: Api<Lease> = Api::namespaced(client.clone(), namespace);
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let params = PostParams::default();
    let all = stream::iter(0..count).map(async |number| {
        let name = name(number);
        let credential = credential(&name);
        let credential = credentials.create(&params, &credential).await.unwrap();
        let owner = credential.controller_owner_ref(&());
        let mut target = target(&name);
        target.metadata.owner_references = owner.clone().map(|owner| vec![owner]);
        secrets.create(&params, &target).await.unwrap();
        let mut gate = gate(&name);
        gate.metadata.owner_references = owner.map(|owner| vec![owner]);
        leases.create(&params, &gate).await.unwrap();
    });
    all.buffer_unordered(AT_A_TIME).collect::<()>().await;
}

fn credential(name: &str) -> IntegrationCredential {
    let spec = json!({"oauth2": {
        "providerRef": {"name": "provider"}, "grantType": "ClientCredentials",
    }});
    IntegrationCredential::new(name, serde_json::from_value(spec).unwrap())
}

fn target(name: &str) -> Secret {
    let expires = Timestamp::now() + 1.hour();
    let target = json!({
        "metadata": {"name": name},
        "stringData": {
            "access_token": "at-00000000-0000-0000-0000-000000000000",
            "token_type": "Bearer",
            "expires_at": expires.to_string(),
            "token_generation": "1",
        },
    });
    serde_json::from_value(target).unwrap()
}

/// With the durations of tokens that live for long: 60 s for a hold.
fn gate(name: &str) -> Lease {
    let durations = Durations::scaled(None, Duration::from_secs(60));
    let mut lease = Lease::default();
    lease.metadata.name = Some(wire::gate_name(name));
    lease.metadata.labels = Some(wire::labels(name, wire::GATE));
    let gate = GateState::open(1, Mode::Shared, &durations);
    wire::write_gate(&gate, &mut lease, Timestamp::now());
    lease
}
