//! Provider objects with a life of their own: what is said of them, who is told when they change, and who is not.

mod client;
mod gone;
mod status;

use std::time::Duration;

use kube::{
    Api, ResourceExt,
    api::{DeleteParams, Patch, PatchParams},
};
use serde_json::{Value, json};
use tokenward::api::{ClusterOAuthProvider, OAuthProvider, ProviderStatus};
use tokio::sync::{Mutex, MutexGuard};

use crate::support::{Fixture, eventually};

const HOUR: Duration = Duration::from_secs(3600);

/// Operators that write the status of cluster providers write that of every one; two of them have different Secrets.
pub async fn one_at_a_time() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::const_new(());
    ONE.lock().await
}

fn providers(fixture: &Fixture) -> Api<OAuthProvider> {
    Api::namespaced(fixture.client.clone(), &fixture.namespace)
}

/// The provider object, once what is said of it is as `wanted`.
async fn until(
    fixture: &Fixture,
    name: &str,
    what: &str,
    wanted: impl Fn(&ProviderStatus) -> bool,
) -> OAuthProvider {
    let what = format!("{name}: {what}");
    eventually(&what, async || {
        let found = providers(fixture).get(name).await.unwrap();
        let is_current = |s: &ProviderStatus| s.observed_generation == found.metadata.generation;
        let status = found.status.clone().filter(is_current)?;
        wanted(&status).then_some(found)
    })
    .await
}

/// Status, reason and message of a condition.
fn said(status: &ProviderStatus, type_: &str) -> Option<(String, String, String)> {
    let found = status.conditions.iter().find(|c| c.type_ == type_)?;
    Some((
        found.status.clone(),
        found.reason.clone(),
        found.message.clone(),
    ))
}

fn is_ready(status: &ProviderStatus) -> bool {
    said(status, "Ready").is_some_and(|c| c.0 == "True")
}

/// The provider object, once it is usable.
async fn ready(fixture: &Fixture, name: &str) -> OAuthProvider {
    until(fixture, name, "Ready", is_ready).await
}

/// The provider object, once it is not usable for this reason; its message.
async fn refused(fixture: &Fixture, name: &str, reason: &str) -> String {
    let found = until(fixture, name, reason, |status| {
        said(status, "Ready").is_some_and(|c| (c.0.as_str(), c.1.as_str()) == ("False", reason))
    })
    .await;
    said(&found.status.unwrap(), "Ready").unwrap().2
}

/// A cluster provider, which goes with the test.
pub struct ForAll<'a> {
    fixture: &'a Fixture,
    /// Named like the namespace.
    pub name: String,
}

impl<'a> ForAll<'a> {
    /// With a client whose secret is in the Secret `shared`; `change` overrides what it says.
    pub async fn new(fixture: &'a Fixture, change: Value) -> Self {
        let this = Self {
            fixture,
            name: fixture.namespace.clone(),
        };
        this.apply(change).await;
        this
    }

    pub fn api(&self) -> Api<ClusterOAuthProvider> {
        Api::all(self.fixture.client.clone())
    }

    /// Makes it say this beside the address and the client.
    pub async fn apply(&self, change: Value) {
        let mut spec = json!({
            "tokenUrl": self.fixture.oauth.token_url(),
            "client": {"id": "demo", "secretKeyRefs": [{"name": "shared", "key": "key"}]},
        });
        let change = change.as_object().unwrap().clone();
        spec.as_object_mut().unwrap().extend(change);
        let object = json!({
            "apiVersion": "tokenward.dev/v1alpha1", "kind": "ClusterOAuthProvider",
            "metadata": {"name": self.name}, "spec": spec,
        });
        let params = PatchParams::apply("test").force();
        let (api, object) = (self.api(), Patch::Apply(object));
        api.patch(&self.name, &params, &object).await.unwrap();
    }

    /// How a credential names it.
    pub fn reference(&self) -> Value {
        json!({"oauth2": {"providerRef": {"kind": "ClusterOAuthProvider", "name": self.name}}})
    }

    /// A selector of the test's namespace.
    pub fn here(&self) -> Value {
        json!({"matchLabels": {"kubernetes.io/metadata.name": self.name}})
    }

    pub async fn delete(&self) {
        let params = DeleteParams::default();
        self.api().delete(&self.name, &params).await.unwrap();
    }
}

/// Creates or replaces a Secret with the label of clients, and no other.
pub async fn client_secret(fixture: &Fixture, name: &str, key: &str, value: &str) {
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": name, "labels": {"tokenward.dev/client": "true"}},
        "stringData": {key: value},
    });
    let params = PatchParams::apply("test").force();
    let (api, secret) = (fixture.secrets(), Patch::Apply(secret));
    api.patch(name, &params, &secret).await.unwrap();
}

/// How many events of this reason there are about one object.
async fn events(fixture: &Fixture, reason: &str) -> usize {
    let events = fixture.events().await;
    events
        .iter()
        .filter(|e| e.starts_with(&format!("{reason}:")))
        .count()
}

/// The name of an object and its version.
fn version<K: kube::Resource<DynamicType = ()>>(object: &K) -> (String, Option<String>) {
    (object.name_any(), object.resource_version())
}
