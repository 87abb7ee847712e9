//! What all scopes share: the watches of what is in no namespace that people use.

use std::sync::Arc;

use futures::{
    FutureExt, StreamExt,
    future::{self, BoxFuture, join},
    stream,
};
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::{Api, Client, api::ListParams, core::PartialObjectMeta};

use super::Config;
use crate::{
    api::{CLIENT_LABEL, ClusterOAuthProvider},
    platform::{Labels, Platform},
    provider::{
        Discovery, Resolver,
        controller::{Keeper, Watched},
        known::KnownClients,
    },
    refresh::Tools,
    request::{RequestError, bounded},
    secret::seen::{SeenSecrets, TouchedSecret},
    users,
    watch::{Filled, Pruned, Shared, seen_secrets, share, watched},
};

/// What a scope has of what all share: the caches, and the changes of cluster providers and of their clients' Secrets.
pub(super) type Reader = (
    Platform,
    Shared<ClusterOAuthProvider>,
    Shared<TouchedSecret>,
);

/// What all scopes share.
pub(super) struct SharedWatches {
    platform: Platform,
    providers: Vec<Shared<ClusterOAuthProvider>>,
    client_secrets: Vec<Shared<TouchedSecret>>,
    /// To be run.
    pub(super) watching: BoxFuture<'static, ()>,
}

impl SharedWatches {
    /// For one more reader.
    pub(super) fn reader(&mut self) -> Reader {
        let providers = self.providers.pop();
        let secrets = self.client_secrets.pop();
        (
            self.platform.clone(),
            providers.unwrap_or_else(|| stream::pending().boxed()),
            secrets.unwrap_or_else(|| stream::pending().boxed()),
        )
    }
}

/// Watches what is in no namespace that people use, for so many readers.
pub(super) async fn share_platform(
    client: &Client,
    config: &Config,
    readers: usize,
) -> SharedWatches {
    let namespace = &config.operator_namespace;
    let api: Api<Pruned<PartialObjectMeta<Secret>>> = Api::namespaced(client.clone(), namespace);
    let labelled = ListParams::default().labels(&format!("{CLIENT_LABEL}=true"));
    let may_watch = is_allowed(&api, &labelled).await;
    let filled = Filled::new(1 + usize::from(may_watch));
    let (cluster_providers, stream) =
        watched::<ClusterOAuthProvider>(Api::all(client.clone()), |_| {}, &filled);
    let (sharing_providers, providers) = share(stream, readers);
    let (client_secrets, sharing_secrets, secrets) = if may_watch {
        let seen = Arc::<SeenSecrets>::default();
        let stream = seen_secrets(api, CLIENT_LABEL, Arc::clone(&seen), |_| {}, &filled);
        let (sharing, secrets) = share(stream, readers);
        (seen, sharing.boxed(), secrets)
    } else {
        tracing::info!(
            namespace,
            "the Secrets of this namespace must not be watched: clients of ClusterOAuthProviders are read again when they are needed"
        );
        (Arc::default(), future::pending().boxed(), Vec::new())
    };
    SharedWatches {
        platform: Platform {
            cluster_providers,
            client_secrets,
            operator_namespace: namespace.clone(),
            filled,
        },
        providers,
        client_secrets: secrets,
        watching: join(sharing_providers, sharing_secrets).map(drop).boxed(),
    }
}

/// Whether something may be watched without which all goes on, only less promptly.
async fn is_allowed<K>(api: &Api<K>, params: &ListParams) -> bool
where
    K: Clone + serde::de::DeserializeOwned + std::fmt::Debug,
{
    let answer = bounded(api.list_metadata(&params.clone().limit(1))).await;
    !matches!(answer, Err(RequestError::Refused(_)))
}

/// Looks after the cluster providers. One that serves some namespaces only may not see what another operator sees, so
/// it leaves their status alone unless it is told to write it.
pub(super) fn keep_cluster_providers(
    client: &Client,
    config: &Config,
    tools: &Arc<Tools>,
    discovery: &Arc<Discovery>,
    shared: &mut SharedWatches,
) -> Option<BoxFuture<'static, ()>> {
    let (platform, changes, secrets) = shared.reader();
    if !config.namespaces.is_empty() && !config.cluster_provider_status {
        return None;
    }
    let objects = platform.cluster_providers.clone();
    let of_secret = objects.clone();
    let filled = platform.filled.clone();
    let watched: Watched = Arc::new(move |_, name| platform.client_version(name));
    let labels = Arc::new(Labels::Unknown);
    let resolver = resolver(
        client,
        config,
        tools,
        discovery,
        labels,
        Arc::clone(&watched),
    );
    let by_secret = secrets
        .filter_map(async |secret| secret.ok())
        .flat_map(move |secret| stream::iter(users::naming(&of_secret, None, &secret.name)));
    let keeper = Keeper::new(
        client.clone(),
        &config.identity,
        resolver,
        Arc::clone(tools),
        (objects, watched),
        filled,
    );
    Some(keeper.run(changes, by_secret).boxed())
}

pub(super) fn resolver(
    client: &Client,
    config: &Config,
    tools: &Tools,
    discovery: &Arc<Discovery>,
    labels: Arc<Labels>,
    watched: Watched,
) -> Arc<Resolver> {
    Arc::new(Resolver {
        client: client.clone(),
        secrets: tools.secrets.clone(),
        operator_namespace: config.operator_namespace.clone(),
        discovery: Arc::clone(discovery),
        labels,
        clients: KnownClients::new(watched),
    })
}

/// How the labels of namespaces are known in a scope, and the namespaces whose labels have changed.
pub(super) async fn labels(
    client: &Client,
    scope: Option<&str>,
    filled: impl FnOnce(bool) -> Filled,
) -> (Labels, Filled, Shared<PartialObjectMeta<Namespace>>) {
    let nothing = || stream::pending().boxed();
    if let Some(namespace) = scope {
        return (Labels::one(namespace), filled(false), nothing());
    }
    let api: Api<Pruned<PartialObjectMeta<Namespace>>> = Api::all(client.clone());
    if !is_allowed(&api, &ListParams::default()).await {
        tracing::info!(
            "namespaces must not be watched: a change of their labels is seen at the next refresh"
        );
        return (Labels::Unknown, filled(false), nothing());
    }
    let filled = filled(true);
    let (store, stream) = watched(api, |_| {}, &filled);
    (Labels::All(store), filled, stream.boxed())
}
