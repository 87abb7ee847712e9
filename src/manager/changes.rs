//! A watch of one object, as a hint to look at it. What it shows decides nothing: it may be late.

use std::{fmt::Debug, pin::Pin, time::Duration};

use futures::{Stream, StreamExt};
use kube::{
    Api, Client, Resource,
    core::{NamespaceResourceScope, PartialObjectMeta},
    runtime::{
        WatchStreamExt,
        watcher::{self, watcher},
    },
};
use serde::de::DeserializeOwned;

type Events<K> = Pin<
    Box<dyn Stream<Item = Result<watcher::Event<PartialObjectMeta<K>>, watcher::Error>> + Send>,
>;

/// Tells when one object may have changed.
pub(crate) struct Changes<K: Resource<DynamicType = ()> + Send> {
    events: Events<K>,
    alive: bool,
}

impl<K> Changes<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + DeserializeOwned
        + Debug
        + Send
        + 'static,
{
    /// Of the object of this name.
    pub(crate) fn new(client: &Client, namespace: &str, name: &str) -> Self {
        let api: Api<PartialObjectMeta<K>> = Api::namespaced(client.clone(), namespace);
        let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
        Self {
            events: watcher(api, config).default_backoff().boxed(),
            alive: false,
        }
    }

    /// Whether changes are being told.
    pub(crate) fn is_alive(&self) -> bool {
        self.alive
    }

    /// Waits until the object may have changed, at most for this long. Cancelling loses nothing.
    pub(crate) async fn within(&mut self, at_most: Duration) {
        let _ = tokio::time::timeout(at_most, self.next()).await;
    }

    /// Waits until the object may have changed.
    pub(crate) async fn next(&mut self) {
        while let Some(event) = self.events.next().await {
            match event {
                Ok(watcher::Event::Init | watcher::Event::InitApply(_)) => {}
                // Something may have happened between the last look and the list that this ends.
                Ok(watcher::Event::InitDone) => {
                    self.alive = true;
                    return;
                }
                Ok(watcher::Event::Apply(_) | watcher::Event::Delete(_)) => return,
                Err(error) => {
                    self.alive = false;
                    tracing::debug!(%error, kind = %K::kind(&()), "watch interrupted");
                }
            }
        }
        // It never ends.
        std::future::pending::<()>().await;
    }
}
