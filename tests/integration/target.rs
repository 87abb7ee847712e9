//! `spec.target`: what stands in the Secret that pods mount, whose it is, and what becomes of it.

mod owners;
mod peace;
mod templates;
mod types;

use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use kube::{
    ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::Value;
use tokenward::api::IntegrationCredential;

use crate::support::{Fixture, eventually};

const HOUR: Duration = Duration::from_secs(3600);

/// Changes a credential as somebody does; null takes away what is there.
async fn patch(fixture: &Fixture, name: &str, patch: Value) -> IntegrationCredential {
    let params = PatchParams::default();
    let credentials = fixture.credentials();
    let patched = credentials.patch(name, &params, &Patch::Merge(patch)).await;
    patched.unwrap()
}

/// Changes the target of a credential.
async fn change(fixture: &Fixture, name: &str, target: Value) {
    patch(
        fixture,
        name,
        serde_json::json!({"spec": {"target": target}}),
    )
    .await;
}

/// Changes a Secret as somebody else does.
async fn edit(fixture: &Fixture, name: &str, patch: Value) {
    let params = PatchParams::default();
    let secrets = fixture.secrets();
    let patched = secrets.patch(name, &params, &Patch::Merge(patch)).await;
    patched.unwrap();
}

/// The keys of a Secret.
fn keys(secret: &Secret) -> Vec<String> {
    let data = secret.data.clone().unwrap_or_default();
    data.into_keys().collect()
}

/// The Secret, once it has exactly these keys.
async fn with_keys(fixture: &Fixture, name: &str, wanted: &[&str]) -> Secret {
    eventually(&format!("Secret {name} with {wanted:?}"), async || {
        let found = fixture.find_secret(name).await?;
        (keys(&found) == wanted).then_some(found)
    })
    .await
}

fn version(secret: &Secret) -> String {
    secret.resource_version().unwrap()
}
