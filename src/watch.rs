//! Watches: what is kept of each object.

mod pruned;

use std::sync::Arc;

use futures::{Stream, StreamExt, TryStreamExt, channel::mpsc, stream::BoxStream};
use k8s_openapi::api::{coordination::v1::Lease, core::v1::Secret};
use kube::{
    Api, Resource, ResourceExt,
    core::PartialObjectMeta,
    runtime::{
        WatchStreamExt,
        reflector::{self, ObjectRef, Store},
        watcher::{self, watcher},
    },
};

use tokio::sync::watch;

pub use self::pruned::{Pruned, Unreadable};

use crate::{
    api::{CREDENTIAL_LABEL, IntegrationCredential, ROLE_LABEL},
    lock::{
        observer::Observer,
        wire::{GATE, HOLD, WANT},
    },
    secret::seen::SeenSecrets,
};

/// Tells when watches have delivered all that was there when they began.
///
/// Not `Store::wait_until_ready`: in kube 5.0 that wakes only the one who asked last, so that with two
/// who wait, the controller itself among them, one may sleep for ever.
#[derive(Clone)]
pub struct Filled {
    missing: watch::Sender<usize>,
    also: Option<watch::Sender<usize>>,
}

impl Filled {
    /// For this many watches.
    #[must_use]
    pub fn new(watches: usize) -> Self {
        Self {
            missing: watch::Sender::new(watches),
            also: None,
        }
    }

    /// For these and for those of `other`.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        Self {
            missing: self.missing.clone(),
            also: Some(other.missing.clone()),
        }
    }

    /// Waits until each of them has delivered.
    pub async fn wait(&self) {
        for missing in self.also.iter().chain([&self.missing]) {
            // The sender is `self`, so the channel is open.
            let _ = missing.subscribe().wait_for(|missing| *missing == 0).await;
        }
    }

    /// Whether each of them has delivered.
    #[must_use]
    pub fn is_filled(&self) -> bool {
        let mut all = self.also.iter().chain([&self.missing]);
        all.all(|missing| *missing.borrow() == 0)
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

/// A watch whose objects are kept. An object that cannot be read is left out with a log line, and does not stop the others.
pub fn watched<K>(
    api: Api<Pruned<K>>,
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
        .reflect(writer)
        .inspect_ok(filled.count())
        .touched_objects()
        .inspect_err(|error| tracing::warn!(%error, kind = %K::kind(&()), "watch interrupted"));
    (reader, stream)
}

/// A watch over the metadata of Secrets, of which `secrets` keeps what decisions need.
pub fn seen_secrets(
    api: Api<Pruned<PartialObjectMeta<Secret>>>,
    label: &str,
    secrets: Arc<SeenSecrets>,
    filled: &Filled,
) -> impl Stream<Item = Result<PartialObjectMeta<Secret>, watcher::Error>> + Send + 'static {
    let config = watcher::Config::default().labels(&format!("{label}=true"));
    watcher(api, config)
        .default_backoff()
        .try_filter_map(|event| std::future::ready(Ok(readable(event))))
        .inspect_ok(move |event| secrets.apply(event))
        .inspect_ok(filled.count())
        .touched_objects()
        .inspect_err(|error| tracing::warn!(%error, kind = "Secret", "watch interrupted"))
}

/// A watch over gates, holds and wants, which `observer` is told of.
pub fn observed(
    api: Api<Pruned<Lease>>,
    scope: Option<String>,
    observer: Arc<Observer>,
    filled: &Filled,
) -> impl Stream<Item = Result<Lease, watcher::Error>> + Send + 'static {
    let config =
        watcher::Config::default().labels(&format!("{ROLE_LABEL} in ({GATE},{HOLD},{WANT})"));
    watcher(api, config)
        .default_backoff()
        .modify(|lease: &mut Pruned<Lease>| lease.keep_hold())
        .try_filter_map(|event| std::future::ready(Ok(readable(event))))
        .inspect_ok(move |event| observer.apply(scope.as_deref(), event))
        .inspect_ok(filled.count())
        .touched_objects()
        .inspect_err(|error| tracing::warn!(%error, kind = "Lease", "watch interrupted"))
}

/// The credential that a gate or a want is about. A hold asks for nothing.
#[must_use]
pub fn wanted(lease: &Lease) -> Option<ObjectRef<IntegrationCredential>> {
    let role = lease.labels().get(ROLE_LABEL)?;
    let asks = role == WANT || role == GATE;
    let credential = lease.labels().get(CREDENTIAL_LABEL).filter(|_| asks)?;
    let namespace = lease.namespace().unwrap_or_default();
    Some(ObjectRef::new(credential).within(&namespace))
}

pub(crate) fn readable<K: Resource<DynamicType = ()>>(
    event: watcher::Event<Pruned<K>>,
) -> Option<watcher::Event<K>> {
    let read = |pruned: Pruned<K>| {
        pruned
            .0
            .map_err(|error| {
                tracing::error!(
                    kind = %K::kind(&()),
                    namespace = error.metadata.namespace,
                    object = error.metadata.name,
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

/// A watch whose events go to several readers.
pub type Shared<T> = BoxStream<'static, Result<T, watcher::Error>>;

/// Gives each event of `source` to `readers` others too. It runs as the returned future.
pub fn share<T: Clone + Send + 'static>(
    source: impl Stream<Item = Result<T, watcher::Error>> + Send + 'static,
    readers: usize,
) -> (impl Future<Output = ()> + Send, Vec<Shared<T>>) {
    let (senders, streams): (Vec<_>, Vec<_>) = (0..readers)
        .map(|_| {
            let (sender, receiver) = mpsc::unbounded();
            (sender, receiver.map(Ok).boxed())
        })
        .unzip();
    let running = source.for_each(move |event| {
        if let Ok(event) = event {
            for sender in &senders {
                // A reader that has ended needs nothing.
                let _ = sender.unbounded_send(event.clone());
            }
        }
        std::future::ready(())
    });
    (running, streams)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn seen(spec: &Value) -> Option<String> {
        let object = serde_json::from_value(json!({
            "apiVersion": "tokenward.dev/v1alpha1", "kind": "IntegrationCredential",
            "metadata": {"name": "alice", "namespace": "n"}, "spec": spec,
        }));
        let guarded: Pruned<IntegrationCredential> = object.unwrap();
        match readable(watcher::Event::InitApply(guarded))? {
            watcher::Event::InitApply(credential) => Some(credential.name_any()),
            _ => None,
        }
    }

    #[test]
    fn an_object_that_an_older_schema_let_in_is_left_out_and_stops_no_other() {
        let good =
            json!({"oauth2": {"providerRef": {"name": "p"}, "grantType": "ClientCredentials"}});
        assert_eq!(seen(&good).as_deref(), Some("alice"));
        for bad in [
            json!({"oauth2": {"providerRef": "p"}}),
            json!({"oauth2": {"providerRef": {"name": "p"}, "grantType": "Password"}}),
            json!("text"),
        ] {
            assert_eq!(seen(&bad), None, "{bad}");
        }
        // One that says nothing is read, and told of.
        assert_eq!(seen(&json!({})).as_deref(), Some("alice"));
    }
}
