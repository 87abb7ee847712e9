//! Whom changes concern that are not of a credential itself, as streams.

use std::{future, sync::Arc, time::Duration};

use futures::{
    StreamExt,
    stream::{self, BoxStream},
};
use k8s_openapi::api::core::v1::Namespace;
use kube::{Client, ResourceExt, core::PartialObjectMeta, runtime::reflector::Store};

use crate::{
    api::{ClusterOAuthProvider, IntegrationCredential, OAuthProvider},
    plan::RECHECK,
    platform::Labels,
    provider::controller::ProviderObject,
    secret::seen::TouchedSecret,
    spread::User,
    users::{self, Changes},
    watch::{Filled, Shared},
};

/// The users of provider objects that say something else than before, or have come or gone.
pub(super) fn provider_users<K: ProviderObject>(
    stream: Shared<K>,
    store: &Store<K>,
    credentials: &Store<IntegrationCredential>,
) -> BoxStream<'static, Vec<User>> {
    let (store, credentials) = (store.clone(), credentials.clone());
    let mut changes = Changes::new();
    let concerned = stream.filter_map(move |provider| {
        let changed = provider.ok().filter(|p| changes.provider(&store, p));
        future::ready(changed.map(|provider| {
            let namespace = provider.namespace();
            let name = provider.name_any();
            users::of_provider(&credentials, K::KIND, &name, namespace.as_deref())
        }))
    });
    concerned.boxed()
}

/// The users of a client's Secret that has changed, where they need it.
pub(super) fn client_users(
    stream: Shared<TouchedSecret>,
    credentials: &Store<IntegrationCredential>,
    providers: &Store<OAuthProvider>,
) -> BoxStream<'static, Vec<User>> {
    let (credentials, providers) = (credentials.clone(), providers.clone());
    let changed = stream.filter_map(async |secret| secret.ok());
    let concerned = changed.map(move |secret| users::of_client(&credentials, &providers, &secret));
    concerned.boxed()
}

/// The same of cluster providers.
pub(super) fn cluster_client_users(
    stream: Shared<TouchedSecret>,
    credentials: &Store<IntegrationCredential>,
    providers: &Store<ClusterOAuthProvider>,
) -> BoxStream<'static, Vec<User>> {
    let (credentials, providers) = (credentials.clone(), providers.clone());
    let changed = stream.filter_map(async |secret| secret.ok());
    let concerned =
        changed.map(move |secret| users::of_cluster_client(&credentials, &providers, &secret));
    concerned.boxed()
}

/// The users of cluster providers in namespaces whose labels have changed.
pub(super) fn namespace_users(
    stream: Shared<PartialObjectMeta<Namespace>>,
    credentials: &Store<IntegrationCredential>,
) -> BoxStream<'static, Vec<User>> {
    let credentials = credentials.clone();
    let mut changes = Changes::new();
    let concerned = stream.filter_map(move |namespace| {
        let changed = namespace
            .ok()
            .filter(|namespace| changes.namespace(namespace));
        let users = changed.map(|found| users::of_namespace(&credentials, &found.name_any()));
        future::ready(users)
    });
    concerned.boxed()
}

/// The same where the labels of the one namespace are asked for now and then: at the start and every 10 minutes, where
/// anybody there uses a cluster provider.
pub(super) fn asked_labels(
    client: &Client,
    scope: Option<&str>,
    (labels, filled): (Arc<Labels>, Filled),
    credentials: &Store<IntegrationCredential>,
) -> BoxStream<'static, Vec<User>> {
    let Some(namespace) = scope.map(str::to_owned) else {
        return stream::pending().boxed();
    };
    let (client, credentials) = (client.clone(), credentials.clone());
    let concerned = stream::unfold(Duration::ZERO, move |pause| {
        let (client, credentials) = (client.clone(), credentials.clone());
        let (labels, filled, namespace) = (Arc::clone(&labels), filled.clone(), namespace.clone());
        async move {
            tokio::time::sleep(pause).await;
            filled.wait().await;
            let mut users = users::of_namespace(&credentials, &namespace);
            if users.is_empty() || !labels.ask(&client).await {
                users.clear();
            }
            Some((users, RECHECK))
        }
    });
    concerned.boxed()
}
