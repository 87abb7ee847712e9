//! All tokens of one user, looked up without requests.

use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Resource, ResourceExt,
    runtime::{
        WatchStreamExt,
        reflector::{self, ObjectRef, Store},
        watcher,
    },
};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{CredentialManager, Credentials, DEFAULT_TIMEOUT, Error, Right, Target};
use crate::{
    api::{GROUP, IntegrationCredential, ROLE_LABEL},
    request::{RequestError, bounded},
    watch::{Pruned, readable},
};

/// The credentials of one user and their tokens, kept up to date by a watch until this is dropped. What it
/// gives may be a moment old, and nothing keeps it from being replaced: see
/// [`CredentialManager::acquire`].
pub struct CachedGetter {
    namespace: String,
    credentials: Store<IntegrationCredential>,
    targets: Store<Secret>,
    _stop: DropGuard,
}

impl CredentialManager {
    /// One list and watch for the credentials whose `spec.user` is this, then look-ups without requests.
    /// Returns when all of them are there.
    ///
    /// # Errors
    /// [`Error::Forbidden`] (it needs `list` and `watch` for credentials and Secrets in the namespace),
    /// [`Error::Unavailable`].
    pub async fn cached_getter(&self, user: &str) -> Result<CachedGetter, Error> {
        let of_user = watcher::Config::default().fields(&format!("spec.user={}", escaped(user)));
        let targets = watcher::Config::default().labels(&format!("{ROLE_LABEL}=target"));
        let credentials = self.credentials();
        let secrets = self.secrets();
        // A watch that may not begin would only be silence.
        may_list(&credentials, &of_user, GROUP, "integrationcredentials").await?;
        may_list(&secrets, &targets, "", "secrets").await?;
        let stop = CancellationToken::new();
        // So that a caller who gives up leaves no watch behind.
        let guard = stop.clone().drop_guard();
        let guarded: Api<Pruned<IntegrationCredential>> =
            Api::namespaced(self.inner.client.clone(), self.namespace());
        let (credentials, credentials_there) = mirror(guarded, of_user, &stop);
        let guarded = Api::namespaced(self.inner.client.clone(), self.namespace());
        let (targets, targets_there) = mirror(guarded, targets, &stop);
        for mut there in [credentials_there, targets_there] {
            let filled = there.wait_for(|there| *there);
            if tokio::time::timeout(DEFAULT_TIMEOUT, filled).await.is_err() {
                return Err(Error::Unavailable(format!(
                    "watch the credentials of user {user}"
                )));
            }
        }
        Ok(CachedGetter {
            namespace: self.namespace().to_owned(),
            credentials,
            targets,
            _stop: guard,
        })
    }
}

fn mirror<K>(
    api: Api<Pruned<K>>,
    config: watcher::Config,
    stop: &CancellationToken,
) -> (Store<K>, watch::Receiver<bool>)
where
    K: Resource<DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned
        + Send
        + Sync
        + 'static,
{
    let (store, writer) = reflector::store();
    let (tell, there) = watch::channel(false);
    let events = watcher(api, config)
        .default_backoff()
        .try_filter_map(|event| std::future::ready(Ok(readable(event))))
        .reflect(writer);
    let stop = stop.clone();
    tokio::spawn(async move {
        let mut events = Box::pin(events.take_until(stop.cancelled_owned()));
        while let Some(event) = events.next().await {
            match event {
                Ok(watcher::Event::InitDone) => drop(tell.send_replace(true)),
                Ok(_) => {}
                Err(error) => tracing::warn!(%error, kind = %K::kind(&()), "watch interrupted"),
            }
        }
    });
    (store, there)
}

/// As the value of a field selector: these characters separate.
fn escaped(value: &str) -> String {
    let escape = |c: char| match c {
        '\\' | ',' | '=' => vec!['\\', c],
        c => vec![c],
    };
    value.chars().flat_map(escape).collect()
}

async fn may_list<K>(
    api: &Api<K>,
    config: &watcher::Config,
    group: &str,
    resource: &str,
) -> Result<(), Error>
where
    K: Clone + serde::de::DeserializeOwned + std::fmt::Debug,
{
    let mut params = kube::api::ListParams::default().limit(1);
    params.label_selector.clone_from(&config.label_selector);
    params.field_selector.clone_from(&config.field_selector);
    match bounded(api.list_metadata(&params)).await {
        Ok(_) | Err(RequestError::Conflict) => Ok(()),
        Err(error) => Err(Right {
            verb: "list",
            group,
            resource,
            name: None,
            credential: None,
        }
        .error(error)),
    }
}

impl CachedGetter {
    /// The token of this credential of the user, or what is copied for it, where there is that.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Credentials> {
        let target = Target::of(self.credential(name)?.as_ref());
        let key = ObjectRef::new(&target.secret).within(&self.namespace);
        Credentials::of(self.targets.get(&key)?.as_ref(), &target)
    }

    /// The credential as it was seen last.
    #[must_use]
    pub fn credential(&self, name: &str) -> Option<Arc<IntegrationCredential>> {
        let key = ObjectRef::new(name).within(&self.namespace);
        self.credentials.get(&key)
    }

    /// The names of all credentials of the user.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = self
            .credentials
            .state()
            .iter()
            .map(|credential| credential.name_any())
            .collect();
        names.sort();
        names
    }
}
