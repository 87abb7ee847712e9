//! The end of a credential: what is revoked, who is waited for, and that it always comes.

mod cascade;
mod cleanup;
mod crash;
mod finalizer;
mod holders;
mod revoke;

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::support::{Fixture, eventually, text};

const HOUR: Duration = Duration::from_secs(3600);
const REVOKE: &str = "tokenward.dev/revoke";

/// The tokens of a credential.
struct Tokens {
    access: String,
    refresh: String,
}

/// With a provider that revokes.
async fn fixture(test: &str, lifetime: Duration) -> Fixture {
    let fixture = Fixture::new(test, lifetime).await;
    fixture
        .provider(json!({"revokeUrl": fixture.oauth.revoke_url()}))
        .await;
    fixture
}

/// Creates a credential that is revoked when it is deleted, without its token.
async fn create(fixture: &Fixture, name: &str, change: Value) {
    fixture.seed(name).await;
    let mut spec = json!({"revocationPolicy": "OnDelete"});
    let Value::Object(change) = change else {
        panic!("an object");
    };
    spec.as_object_mut().unwrap().extend(change);
    fixture.user(name, spec).await;
}

/// Creates a credential that is revoked when it is deleted, and waits for its token.
async fn revocable(fixture: &Fixture, name: &str) -> Tokens {
    create(fixture, name, json!({})).await;
    fixture.ready(name).await;
    tokens(fixture, name).await
}

async fn tokens(fixture: &Fixture, name: &str) -> Tokens {
    let grant = fixture.find_secret(&format!("{name}.grant")).await.unwrap();
    Tokens {
        access: text(&grant, "access_token"),
        refresh: text(&grant, "refresh_token"),
    }
}

async fn delete(fixture: &Fixture, name: &str) {
    let params = DeleteParams::default();
    fixture.credentials().delete(name, &params).await.unwrap();
}

/// Waits until the credential is gone, with its grant and its gate.
async fn gone(fixture: &Fixture, name: &str) {
    eventually(&format!("the end of {name}"), async || {
        let credential = fixture.credentials().get_opt(name).await.unwrap();
        let grant = fixture.find_secret(&format!("{name}.grant")).await;
        let gate = fixture.leases().get_opt(&format!("{name}.gate")).await;
        (credential.is_none() && grant.is_none() && gate.unwrap().is_none()).then_some(())
    })
    .await;
}

/// The event of this reason, once there is one.
async fn event(fixture: &Fixture, reason: &str) -> String {
    let beginning = format!("{reason}: ");
    eventually(&format!("event {reason}"), async || {
        let events = fixture.events().await;
        events
            .into_iter()
            .find(|event| event.starts_with(&beginning))
    })
    .await
}

fn carries(meta: &ObjectMeta) -> bool {
    meta.finalizers.iter().flatten().any(|f| f == REVOKE)
}

/// Whether the credential, its grant and its gate carry the finalizer.
async fn carriers(fixture: &Fixture, name: &str) -> [bool; 3] {
    let credential = fixture.get(name).await;
    let grant = fixture.find_secret(&format!("{name}.grant")).await;
    let gate = fixture
        .leases()
        .get_opt(&format!("{name}.gate"))
        .await
        .unwrap();
    [
        carries(&credential.metadata),
        grant.is_some_and(|grant| carries(&grant.metadata)),
        gate.is_some_and(|gate| carries(&gate.metadata)),
    ]
}

/// Changes a credential.
async fn change(fixture: &Fixture, name: &str, change: Value) {
    let (api, params) = (fixture.credentials(), PatchParams::default());
    let patched = api.patch(name, &params, &Patch::Merge(change)).await;
    patched.unwrap();
}

/// Writes how far a revocation has come.
async fn note(fixture: &Fixture, name: &str, revocation: Value) {
    let (api, params) = (fixture.credentials(), PatchParams::default());
    let note = Patch::Merge(json!({"status": {"revocation": revocation}}));
    api.patch_status(name, &params, &note).await.unwrap();
}

/// What the resource answers to this token.
async fn resource(fixture: &Fixture, access_token: &str) -> u16 {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let request = client.get(fixture.oauth.resource_url());
    let answer = request.bearer_auth(access_token).send().await.unwrap();
    answer.status().as_u16()
}
