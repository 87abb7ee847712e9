//! Watches: what is kept of each object.

mod events;
mod pruned;

use std::{mem, sync::Arc};

use futures::{
    Stream, StreamExt, TryStreamExt,
    channel::mpsc,
    stream::{self, BoxStream},
};
use k8s_openapi::{
    api::{coordination::v1::Lease, core::v1::Secret},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    Api, Resource, ResourceExt,
    core::PartialObjectMeta,
    runtime::{
        WatchStreamExt,
        reflector::{self, ObjectRef, Store},
        watcher::{self, Event},
    },
};
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use self::events::events;
pub use self::pruned::{Pruned, Unreadable};

use crate::{
    api::{CREDENTIAL_LABEL, IntegrationCredential, ROLE_LABEL},
    lock::{
        observer::Observer,
        wire::{GATE, HOLD, WANT},
    },
    secret::seen::{SeenSecrets, TouchedSecret},
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
    fn count<K>(&self) -> impl FnMut(&Event<K>) + Send + use<K> {
        let missing = self.missing.clone();
        let mut counted = false;
        move |event| {
            if matches!(event, Event::InitDone) && !counted {
                counted = true;
                missing.send_modify(|missing| *missing = missing.saturating_sub(1));
            }
        }
    }
}

/// A watch whose objects are kept, each after `tidy`.
pub fn watched<K>(
    api: Api<Pruned<K>>,
    mut tidy: impl FnMut(&mut K) + Send + 'static,
    filled: &Filled,
) -> (
    Store<K>,
    impl Stream<Item = Result<K, watcher::Error>> + Send + 'static,
)
where
    K: Resource<DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + DeserializeOwned
        + Send
        + Sync
        + 'static,
{
    let (reader, writer) = reflector::store();
    let events = read(api, None, |_| {})
        .map_ok(move |event| event.modify(&mut tidy))
        .reflect(writer)
        .inspect_ok(filled.count());
    let touched = kept(events, reader.clone());
    (reader, touched)
}

/// A watch over the metadata of Secrets, of which `secrets` keeps what decisions need. `also` is told of each.
pub fn seen_secrets(
    api: Api<Pruned<PartialObjectMeta<Secret>>>,
    label: &str,
    secrets: Arc<SeenSecrets>,
    also: impl Fn(&ObjectMeta) + Send + 'static,
    filled: &Filled,
) -> impl Stream<Item = Result<TouchedSecret, watcher::Error>> + Send + 'static {
    let events = read(api, Some(format!("{label}=true")), |_| {})
        .inspect_ok(move |event| secrets.apply(event))
        .inspect_ok(filled.count());
    touched(events, move |secret| {
        also(&secret.metadata);
        Some(TouchedSecret::of(&secret))
    })
}

/// A watch over gates, holds and wants, which `observer` is told of: the credentials that these want something of. `also` is
/// told of each.
pub fn observed(
    api: Api<Pruned<Lease>>,
    scope: Option<String>,
    observer: Arc<Observer>,
    also: impl Fn(&ObjectMeta) + Send + 'static,
    filled: &Filled,
) -> impl Stream<Item = Result<ObjectRef<IntegrationCredential>, watcher::Error>> + Send + 'static {
    let labels = format!("{ROLE_LABEL} in ({GATE},{HOLD},{WANT})");
    let events = read(api, Some(labels), Pruned::keep_hold)
        .inspect_ok(move |event| observer.apply(scope.as_deref(), event))
        .inspect_ok(filled.count());
    touched(events, move |lease| {
        also(&lease.metadata);
        wanted(&lease)
    })
}

/// The credential that a gate or a want is about. A hold asks for nothing.
fn wanted(lease: &Lease) -> Option<ObjectRef<IntegrationCredential>> {
    let role = lease.labels().get(ROLE_LABEL)?;
    let asks = role == WANT || role == GATE;
    let credential = lease.labels().get(CREDENTIAL_LABEL).filter(|_| asks)?;
    let namespace = lease.namespace().unwrap_or_default();
    Some(ObjectRef::new(credential).within(&namespace))
}

/// What a watch brings, after `mend`. An object that cannot be read even so is left out with a log line, and does not stop
/// the others. Nor does an error: it is logged and not handed on, because a controller that gets one rests from all its streams.
fn read<K>(
    api: Api<Pruned<K>>,
    labels: Option<String>,
    mut mend: impl FnMut(&mut Pruned<K>) + Send + 'static,
) -> impl Stream<Item = Result<Event<K>, watcher::Error>> + Send + 'static
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned + Send + 'static,
{
    events(api, labels)
        .default_backoff()
        .map_ok(move |event| event.modify(&mut mend))
        .try_filter_map(|event| std::future::ready(Ok(readable(event))))
        .inspect_err(|error| tracing::warn!(%error, kind = %K::kind(&()), "watch interrupted"))
        .filter(|event| std::future::ready(event.is_ok()))
}

/// The objects that changed, each after `store` shows the change. It takes in a list when that is whole, so those of one come
/// then.
fn kept<K, E>(
    events: impl Stream<Item = Result<Event<K>, E>> + Send + 'static,
    store: Store<K>,
) -> impl Stream<Item = Result<K, E>> + Send + 'static
where
    K: Resource<DynamicType = ()> + Clone + Send + Sync + 'static,
    E: Send + 'static,
{
    let shown = events.map_ok(move |event| match event {
        Event::Init | Event::InitApply(_) => Vec::new(),
        Event::InitDone => store.state(),
        Event::Apply(object) | Event::Delete(object) => vec![Arc::new(object)],
    });
    one_by_one(shown).map_ok(Arc::unwrap_or_clone)
}

/// What `of` makes of the objects that changed, each after whoever reads `events` has taken in the change, as with [`kept`].
fn touched<K, T, E>(
    events: impl Stream<Item = Result<Event<K>, E>> + Send + 'static,
    of: impl Fn(K) -> Option<T> + Send + 'static,
) -> impl Stream<Item = Result<T, E>> + Send + 'static
where
    K: Send + 'static,
    T: Send + 'static,
    E: Send + 'static,
{
    let mut listed = Vec::new();
    let shown = events.map_ok(move |event| match event {
        Event::Init => {
            listed = Vec::new();
            Vec::new()
        }
        Event::InitApply(object) => {
            listed.extend(of(object));
            Vec::new()
        }
        Event::InitDone => mem::take(&mut listed),
        Event::Apply(object) | Event::Delete(object) => of(object).into_iter().collect(),
    });
    one_by_one(shown)
}

fn one_by_one<T: Send + 'static, E: Send + 'static>(
    several: impl Stream<Item = Result<Vec<T>, E>> + Send + 'static,
) -> impl Stream<Item = Result<T, E>> + Send + 'static {
    several
        .map_ok(|several| stream::iter(several.into_iter().map(Ok)))
        .try_flatten()
}

pub(crate) fn readable<K: Resource<DynamicType = ()>>(event: Event<Pruned<K>>) -> Option<Event<K>> {
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
        Event::Apply(object) => Event::Apply(read(object)?),
        Event::Delete(object) => Event::Delete(read(object)?),
        Event::InitApply(object) => Event::InitApply(read(object)?),
        Event::Init => Event::Init,
        Event::InitDone => Event::InitDone,
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
    use std::{
        convert::Infallible,
        sync::atomic::{AtomicBool, Ordering},
    };

    use k8s_openapi::api::core::v1::Namespace;
    use serde_json::{Value, json};

    use super::*;

    fn seen(spec: &Value) -> Option<String> {
        let object = serde_json::from_value(json!({
            "apiVersion": "tokenward.dev/v1alpha1", "kind": "IntegrationCredential",
            "metadata": {"name": "alice", "namespace": "n"}, "spec": spec,
        }));
        let guarded: Pruned<IntegrationCredential> = object.unwrap();
        match readable(Event::InitApply(guarded))? {
            Event::InitApply(credential) => Some(credential.name_any()),
            _ => None,
        }
    }

    fn namespace(name: &str) -> PartialObjectMeta<Namespace> {
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        serde_json::from_value(object).unwrap()
    }

    /// A watch that begins, changes, and begins anew.
    fn course() -> Vec<Event<PartialObjectMeta<Namespace>>> {
        vec![
            Event::Init,
            Event::InitApply(namespace("a")),
            Event::InitApply(namespace("b")),
            Event::InitDone,
            Event::Delete(namespace("a")),
            Event::Apply(namespace("c")),
            Event::Init,
            Event::InitApply(namespace("x")),
            // It breaks, and what came of it counts for nothing.
            Event::Init,
            Event::InitApply(namespace("d")),
            Event::InitDone,
        ]
    }

    #[tokio::test]
    async fn who_is_told_of_a_change_finds_it_in_the_store() {
        let (store, mut writer) = reflector::store();
        let events = stream::iter(course().into_iter().map(Ok::<_, Infallible>));
        let events = events.inspect_ok(move |event| writer.apply_watcher_event(event));
        let told = kept(events, store.clone());
        let found = told.map(|touched| {
            let name = touched.unwrap().name_any();
            let is_kept = store.get(&ObjectRef::new(&name)).is_some();
            (name, is_kept)
        });
        let mut found = found.collect::<Vec<_>>().await;
        found[..2].sort();
        let known = |name: &str| (name.to_owned(), true);
        let gone = ("a".to_owned(), false);
        assert_eq!(
            found,
            [known("a"), known("b"), gone, known("c"), known("d")]
        );
    }

    #[tokio::test]
    async fn who_is_told_of_a_change_is_told_after_those_who_keep_it() {
        let is_whole = Arc::new(AtomicBool::new(true));
        let seen = Arc::clone(&is_whole);
        let events = stream::iter(course().into_iter().map(Ok::<_, Infallible>));
        let events = events.inspect_ok(move |event| {
            let is_whole = !matches!(event, Event::Init | Event::InitApply(_));
            seen.store(is_whole, Ordering::Relaxed);
        });
        let told = touched(events, |namespace| {
            Some(namespace.name_any()).filter(|name| name != "b")
        });
        let told = told.inspect_ok(move |name| assert!(is_whole.load(Ordering::Relaxed), "{name}"));
        let told: Vec<_> = told.try_collect().await.unwrap();
        assert_eq!(told, ["a", "a", "c", "d"]);
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
