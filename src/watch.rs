//! Watches: what is kept of each object, and which credentials an object's change concerns.

use futures::{Stream, TryStreamExt};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Resource, ResourceExt,
    core::{DeserializeGuard, PartialObjectMeta},
    runtime::{
        WatchStreamExt,
        reflector::{self, ObjectRef, Store},
        watcher::{self, watcher},
    },
};

use tokio::sync::watch;

use crate::api::{CREDENTIAL_LABEL, IntegrationCredential, ProviderKind};

/// Tells when watches have delivered all that was there when they began.
///
/// Not `Store::wait_until_ready`: in kube 5.0 that wakes only the one who asked last, so that with two
/// who wait, the controller itself among them, one may sleep for ever.
#[derive(Clone)]
pub struct Filled {
    missing: watch::Sender<usize>,
}

impl Filled {
    /// For this many watches.
    #[must_use]
    pub fn new(watches: usize) -> Self {
        Self {
            missing: watch::Sender::new(watches),
        }
    }

    /// Waits until each of them has delivered.
    pub async fn wait(&self) {
        // The sender is `self`, so the channel is open.
        let _ = self
            .missing
            .subscribe()
            .wait_for(|missing| *missing == 0)
            .await;
    }

    /// To be called with the events of one watch, after they have been stored.
    fn count<K>(&self) -> impl FnMut(&watcher::Event<K>) + Send + use<K> {
        let missing = self.missing.clone();
        let mut counted = false;
        move |event| {
            if matches!(event, watcher::Event::InitDone) && !counted {
                counted = true;
                missing.send_modify(|missing| *missing = missing.saturating_sub(1));
            }
        }
    }
}

/// A watch whose objects are kept, without the part that only the API server needs. An object that
/// cannot be read (an older schema, an edit around the API) is left out with a log line, and does not
/// stop the others.
pub fn watched<K>(
    api: Api<DeserializeGuard<K>>,
    filled: &Filled,
) -> (
    Store<K>,
    impl Stream<Item = Result<K, watcher::Error>> + Send + 'static,
)
where
    K: Resource<DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned
        + Send
        + Sync
        + 'static,
{
    let (reader, writer) = reflector::store();
    let stream = watcher(api, watcher::Config::default())
        .default_backoff()
        .try_filter_map(|event| std::future::ready(Ok(readable(event))))
        .modify(|object: &mut K| object.meta_mut().managed_fields = None)
        .reflect(writer)
        .inspect_ok(filled.count())
        .touched_objects()
        .inspect_err(|error| tracing::warn!(%error, kind = %K::kind(&()), "watch interrupted"));
    (reader, stream)
}

/// A watch of which only the metadata comes over the wire: nothing secret is ever in the cache.
pub fn watched_metadata(
    api: Api<PartialObjectMeta<Secret>>,
    config: watcher::Config,
    filled: &Filled,
) -> (
    Store<PartialObjectMeta<Secret>>,
    impl Stream<Item = Result<PartialObjectMeta<Secret>, watcher::Error>> + Send + 'static,
) {
    let (reader, writer) = reflector::store();
    let stream = watcher(api, config)
        .default_backoff()
        .modify(|secret| secret.metadata.managed_fields = None)
        .reflect(writer)
        .inspect_ok(filled.count())
        .touched_objects()
        .inspect_err(|error| tracing::warn!(%error, kind = "Secret", "watch interrupted"));
    (reader, stream)
}

fn readable<K: Resource<DynamicType = ()>>(
    event: watcher::Event<DeserializeGuard<K>>,
) -> Option<watcher::Event<K>> {
    let read = |guard: DeserializeGuard<K>| {
        guard
            .0
            .map_err(|error| {
                tracing::error!(
                    kind = %K::kind(&()),
                    namespace = error.metadata.namespace,
                    name = error.metadata.name,
                    reason = "Unreadable",
                    "this object does not fit its schema and is left alone"
                );
            })
            .ok()
    };
    Some(match event {
        watcher::Event::Apply(object) => watcher::Event::Apply(read(object)?),
        watcher::Event::Delete(object) => watcher::Event::Delete(read(object)?),
        watcher::Event::InitApply(object) => watcher::Event::InitApply(read(object)?),
        watcher::Event::Init => watcher::Event::Init,
        watcher::Event::InitDone => watcher::Event::InitDone,
    })
}

/// The credentials that a Secret belongs to, that name it as their seed, or that may wait for it.
#[must_use]
pub fn secret_users(
    credentials: &Store<IntegrationCredential>,
    secret: &PartialObjectMeta<Secret>,
) -> Vec<ObjectRef<IntegrationCredential>> {
    let namespace = secret.namespace().unwrap_or_default();
    if let Some(owner) = secret.labels().get(CREDENTIAL_LABEL) {
        return vec![ObjectRef::new(owner).within(&namespace)];
    }
    let name = secret.name_any();
    users(credentials, |credential| {
        let seed = credential.spec.oauth2.seed_secret_ref.as_ref();
        credential.namespace().as_deref() == Some(&namespace)
            // A client's Secret matters only to those that wait for it.
            && (seed.is_some_and(|seed| seed.name == name) || is_failing(credential))
    })
}

/// The credentials that use a provider object.
#[must_use]
pub fn provider_users(
    credentials: &Store<IntegrationCredential>,
    kind: ProviderKind,
    name: &str,
    namespace: Option<&str>,
) -> Vec<ObjectRef<IntegrationCredential>> {
    users(credentials, |credential| {
        let reference = &credential.spec.oauth2.provider_ref;
        reference.kind == kind
            && reference.name == name
            && (namespace.is_none() || credential.namespace().as_deref() == namespace)
    })
}

fn users(
    credentials: &Store<IntegrationCredential>,
    is_user: impl Fn(&IntegrationCredential) -> bool,
) -> Vec<ObjectRef<IntegrationCredential>> {
    credentials
        .state_filter(|credential: &IntegrationCredential| is_user(credential))
        .iter()
        .map(|credential| ObjectRef::from_obj(credential.as_ref()))
        .collect()
}

fn is_failing(credential: &IntegrationCredential) -> bool {
    let refresh = credential.status.as_ref().and_then(|s| s.refresh.as_ref());
    refresh.is_none_or(|r| r.failures > 0)
}
