//! The controller: streams of watched objects in, decisions from [`plan`](crate::plan), passes out.

mod concerned;
mod scope;
mod shared;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::future::{OptionFuture, join_all};
use kube::{Api, Client, Resource, api::ListParams, core::NamespaceResourceScope};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{
    scope::control,
    shared::{keep_cluster_providers, share_platform},
};
use crate::{
    api::{ClusterOAuthProvider, IntegrationCredential, OAuthProvider},
    lock::gate::Gates,
    metrics::Metrics,
    oauth::endpoint::{Access, Endpoint},
    provider::Discovery,
    refresh::Tools,
    request::{RequestError, bounded},
    secret::{referenced::Policy, store::Secrets},
};

/// How the operator runs.
#[derive(Clone, Debug)]
pub struct Config {
    /// The namespaces to serve; empty: all.
    pub namespaces: Vec<String>,
    /// The namespace that holds the client Secrets of cluster providers.
    pub operator_namespace: String,
    /// The way to token endpoints, and how long one token request may take at most.
    pub access: Access,
    /// The name of this process in Leases and events: the pod's name.
    pub identity: String,
    /// Strict mode: no Secret is read for those who name it that does not carry the label `tokenward.dev/allow=true`.
    pub require_allow_label: bool,
    /// Whether to write the status of cluster providers although only some namespaces are served.
    pub cluster_provider_status: bool,
}

/// Why the operator cannot run.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The CRDs are not there.
    #[error(
        "the API server does not know {0}; install the CRDs: tokenward crd | kubectl apply -f -"
    )]
    NoDefinitions(String),
    /// A right is missing.
    #[error(
        "the API server forbids to list {what}{place}: {message}; grant this to the operator's ServiceAccount"
    )]
    Forbidden {
        /// The resource.
        what: String,
        /// In which namespace.
        place: String,
        /// The server's words.
        message: String,
    },
    /// No answer.
    #[error("the API server does not answer: {0}")]
    Unreachable(kube::Error),
    /// The HTTP client cannot be made.
    #[error("no HTTP client for token endpoints: {0}")]
    Endpoint(#[from] reqwest::Error),
}

/// Counts the scopes whose caches have been filled.
#[derive(Default)]
pub struct Readiness {
    wanted: AtomicUsize,
    ready: AtomicUsize,
    stands_by: AtomicBool,
}

impl Readiness {
    /// Whether every scope can decide, or there is nothing to decide because another process leads.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        let wanted = self.wanted.load(Ordering::Relaxed);
        let filled = wanted > 0 && self.ready.load(Ordering::Relaxed) >= wanted;
        filled || self.stands_by.load(Ordering::Relaxed)
    }

    /// Says whether another process leads.
    pub fn stands_by(&self, stands_by: bool) {
        self.stands_by.store(stands_by, Ordering::Relaxed);
    }
}

/// Runs the operator until `shutdown`, and returns when the last exchange that was under way has been
/// stored.
///
/// # Errors
/// When it cannot start.
pub async fn run(
    client: Client,
    config: Config,
    (readiness, metrics): (Arc<Readiness>, Arc<Metrics>),
    shutdown: CancellationToken,
) -> Result<(), StartError> {
    let scopes: Vec<Option<String>> = if config.namespaces.is_empty() {
        vec![None]
    } else {
        config.namespaces.iter().cloned().map(Some).collect()
    };
    for scope in &scopes {
        check::<IntegrationCredential>(&api(&client, scope.as_deref()), scope.as_deref()).await?;
        check::<OAuthProvider>(&api(&client, scope.as_deref()), scope.as_deref()).await?;
    }
    check::<ClusterOAuthProvider>(&Api::all(client.clone()), None).await?;

    let tools = Arc::new(Tools {
        gates: Gates::new(client.clone(), &config.identity),
        secrets: Secrets::under(
            client.clone(),
            Policy {
                operator_namespace: config.operator_namespace.clone(),
                require_allow_label: config.require_allow_label,
            },
        ),
        endpoint: Endpoint::new(config.access.clone())?,
        lanes: Arc::default(),
        metrics,
        exchange_timeout: config.access.timeout,
        shutdown: shutdown.clone(),
    });
    tools.metrics.observe(Arc::clone(&tools.gates.observer));
    let attempts = TaskTracker::new();
    readiness.wanted.store(scopes.len(), Ordering::Relaxed);
    let discovery = Arc::<Discovery>::default();
    let mut shared = share_platform(&client, &config, scopes.len() + 1).await;
    let keeper = keep_cluster_providers(&client, &config, &tools, &discovery, &mut shared);
    let controllers = scopes.iter().map(|scope| {
        control(
            &client,
            scope.as_deref(),
            &config,
            (Arc::clone(&tools), Arc::clone(&discovery)),
            shared.reader(),
            attempts.clone(),
            Arc::clone(&readiness),
        )
    });
    let controllers = join_all(controllers.collect::<Vec<_>>());
    let (watching, shutdown) = (shared.watching, &shutdown);
    let sharing = async {
        tokio::select! {
            () = watching => {}
            () = shutdown.cancelled() => {}
        }
    };
    let cleaning = remove_the_dead(&tools.gates, shutdown);
    tokio::join!(controllers, OptionFuture::from(keeper), sharing, cleaning);
    attempts.close();
    attempts.wait().await;
    Ok(())
}

/// Removes the holds of dead holders and the wants that nobody waits for. Not needed by any refresh, which
/// does it for the holds in its way; for those who wait for an exclusive hold, and for order.
async fn remove_the_dead(gates: &Gates, shutdown: &CancellationToken) {
    const EVERY: Duration = Duration::from_secs(2);
    while tokio::time::timeout(EVERY, shutdown.cancelled())
        .await
        .is_err()
    {
        for (namespace, name, version) in gates.observer.dead() {
            // The names of all of them begin with the credential's, which has no dot.
            let credential = name.split('.').next().unwrap_or_default();
            let credential = format!("{namespace}/{credential}");
            match gates.remove(&namespace, &name, &version).await {
                Ok(()) => {
                    tracing::info!(reason = "HoldExpired", credential, lease = name, "removed");
                }
                // Renewed meanwhile, or gone: the watch tells.
                Err(error) => tracing::debug!(%error, credential, lease = name, "not removed"),
            }
        }
    }
}

fn api<K>(client: &Client, scope: Option<&str>) -> Api<K>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
{
    match scope {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

/// Asks once for what will be watched: a watch that can never begin would only be silence.
async fn check<K>(api: &Api<K>, scope: Option<&str>) -> Result<(), StartError>
where
    K: Resource<DynamicType = ()> + Clone + serde::de::DeserializeOwned + std::fmt::Debug,
{
    let what = format!("{}.{}", K::plural(&()), K::group(&()));
    let place = scope
        .map(|n| format!(" in namespace {n}"))
        .unwrap_or_default();
    match bounded(api.list_metadata(&ListParams::default().limit(1))).await {
        Ok(_) | Err(RequestError::Conflict) => Ok(()),
        Err(RequestError::NotFound) => Err(StartError::NoDefinitions(what)),
        Err(RequestError::Refused(kube::Error::Api(status))) => Err(StartError::Forbidden {
            what,
            place,
            message: status.message,
        }),
        Err(RequestError::Refused(error) | RequestError::Unclear(Some(error))) => {
            Err(StartError::Unreachable(error))
        }
        Err(RequestError::Unclear(None)) => Err(StartError::Unreachable(kube::Error::Service(
            "no answer in time".into(),
        ))),
    }
}
