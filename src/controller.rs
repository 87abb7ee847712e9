//! The controller: streams of watched objects in, decisions from [`plan`](crate::plan), passes out.

use std::{
    convert::Infallible,
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::{
    FutureExt, StreamExt,
    future::{join, join_all},
};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client, Resource, ResourceExt,
    api::ListParams,
    core::{NamespaceResourceScope, PartialObjectMeta},
    runtime::{
        Controller,
        controller::{Action, Config as Concurrency},
        watcher,
    },
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::Instrument;

use crate::{
    api::{ClusterOAuthProvider, IntegrationCredential, OAuthProvider, ProviderKind, WATCH_LABEL},
    cache::{Caches, LAG, Written, is_stale},
    context::Context,
    lock::gate::Gates,
    oauth::endpoint::Endpoint,
    plan::{Decision, plan},
    provider::Resolver,
    refresh::Tools,
    request::{RequestError, bounded},
    secret::store::Secrets,
    watch::{Filled, provider_users, secret_users, watched, watched_metadata},
};

/// How many credentials are worked on at a time, in each scope.
const CONCURRENCY: u16 = 64;

/// How the operator runs.
#[derive(Clone, Debug)]
pub struct Config {
    /// The namespaces to serve; empty: all.
    pub namespaces: Vec<String>,
    /// The namespace that holds the client Secrets of cluster providers.
    pub operator_namespace: String,
    /// Whether token endpoints may be http on loopback addresses.
    pub allow_http_loopback: bool,
    /// How long one token request may take at most.
    pub request_timeout: Duration,
    /// The name of this process in Leases and events: the pod's name.
    pub identity: String,
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
}

impl Readiness {
    /// Whether every scope can decide.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        let wanted = self.wanted.load(Ordering::Relaxed);
        wanted > 0 && self.ready.load(Ordering::Relaxed) >= wanted
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
    readiness: Arc<Readiness>,
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
        secrets: Secrets::new(client.clone()),
        endpoint: Endpoint::new(config.allow_http_loopback, config.request_timeout)?,
        exchange_timeout: config.request_timeout,
        shutdown: shutdown.clone(),
    });
    let attempts = TaskTracker::new();
    readiness.wanted.store(scopes.len(), Ordering::Relaxed);
    let controllers = scopes.iter().map(|scope| {
        control(
            &client,
            scope.as_deref(),
            &config,
            Arc::clone(&tools),
            attempts.clone(),
            Arc::clone(&readiness),
        )
    });
    join_all(controllers).await;
    attempts.close();
    attempts.wait().await;
    Ok(())
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

/// Watches and reconciles one scope until shutdown.
fn control(
    client: &Client,
    scope: Option<&str>,
    config: &Config,
    tools: Arc<Tools>,
    attempts: TaskTracker,
    readiness: Arc<Readiness>,
) -> impl Future<Output = ()> + use<> {
    let filled = Filled::new(4);
    let (credentials, credential_stream) =
        watched::<IntegrationCredential>(api(client, scope), &filled);
    let (providers, provider_stream) = watched::<OAuthProvider>(api(client, scope), &filled);
    let (cluster_providers, cluster_stream) =
        watched::<ClusterOAuthProvider>(Api::all(client.clone()), &filled);
    let labelled = watcher::Config::default().labels(&format!("{WATCH_LABEL}=true"));
    let (secrets, secret_stream) = watched_metadata(
        api::<PartialObjectMeta<Secret>>(client, scope),
        labelled,
        &filled,
    );

    let resolver = Resolver {
        client: client.clone(),
        secrets: tools.secrets.clone(),
        operator_namespace: config.operator_namespace.clone(),
    };
    let caches = Caches {
        credentials: credentials.clone(),
        secrets,
        providers,
        cluster_providers,
        filled,
    };
    let context = Arc::new(Context::new(
        client.clone(),
        caches,
        Arc::clone(&tools),
        resolver,
        &config.identity,
        attempts,
    ));
    let of_secret = credentials.clone();
    let of_provider = credentials.clone();
    let of_cluster_provider = credentials.clone();
    let controller = Controller::for_stream(credential_stream, credentials)
        .with_config(Concurrency::default().concurrency(CONCURRENCY))
        .watches_stream(secret_stream, move |secret| {
            secret_users(&of_secret, &secret)
        })
        .watches_stream(provider_stream, move |provider| {
            let namespace = provider.namespace();
            provider_users(
                &of_provider,
                ProviderKind::OAuthProvider,
                &provider.name_any(),
                namespace.as_deref(),
            )
        })
        .watches_stream(cluster_stream, move |provider| {
            provider_users(
                &of_cluster_provider,
                ProviderKind::ClusterOAuthProvider,
                &provider.name_any(),
                None,
            )
        })
        .graceful_shutdown_on(tools.shutdown.clone().cancelled_owned())
        .run(guarded, error_policy, Arc::clone(&context));
    let scope = scope.unwrap_or("all namespaces").to_owned();
    async move {
        let announced = async {
            context.caches.filled.wait().await;
            readiness.ready.fetch_add(1, Ordering::Relaxed);
            tracing::info!(scope, "caches filled");
        };
        let reconciled = controller.for_each(|result| {
            if let Err(error) = result {
                tracing::debug!(%error, "reconcile ended");
            }
            std::future::ready(())
        });
        join(reconciled, async {
            tokio::select! {
                () = announced => {}
                () = tools.shutdown.cancelled() => {}
            }
        })
        .await;
    }
}

/// A panic in one reconcile must end neither the controller nor anybody else's exchange.
async fn guarded(
    credential: Arc<IntegrationCredential>,
    context: Arc<Context>,
) -> Result<Action, Infallible> {
    let span = tracing::info_span!(
        "credential",
        credential = format!(
            "{}/{}",
            credential.namespace().unwrap_or_default(),
            credential.name_any()
        ),
        provider = credential.spec.oauth2.provider_ref.name,
        attempt = tracing::field::Empty,
    );
    let pass = reconcile(credential, context).instrument(span.clone());
    match AssertUnwindSafe(pass).catch_unwind().await {
        Ok(action) => Ok(action),
        Err(_) => {
            span.in_scope(|| {
                tracing::error!(reason = "Panic", "a reconcile panicked; trying again");
            });
            Ok(Action::requeue(Duration::from_secs(30)))
        }
    }
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature that kube asks for"
)]
fn error_policy(_: Arc<IntegrationCredential>, error: &Infallible, _: Arc<Context>) -> Action {
    match *error {}
}

async fn reconcile(mut credential: Arc<IntegrationCredential>, context: Arc<Context>) -> Action {
    context.caches.filled.wait().await;
    if credential.meta().deletion_timestamp.is_some() {
        // Garbage collection takes what belongs to it.
        context.forget(&credential);
        return Action::await_change();
    }
    let Some(under_way) = context.begin(&credential) else {
        return Action::requeue(LAG);
    };
    let mut memory = context.recall(&credential);
    let cached = credential.resource_version();
    if is_stale(cached.as_deref(), memory.status_version.as_deref()) {
        // The event with our own write is on its way. A watch that hangs must not stop refreshes.
        if !memory.status_is_late() {
            return Action::requeue(LAG);
        }
        match context.current(&credential).await {
            Some(current) => credential = current,
            None => return Action::requeue(LAG),
        }
    }
    context.caches.notice(&credential, &mut memory);
    let found = context.caches.provider(&credential);
    let inputs = context.caches.inputs(&credential, found.as_ref());
    let decision =
        context
            .caches
            .with_facts(&credential, &memory, &inputs, found.as_ref(), |facts| {
                plan(&credential, facts)
            });
    tracing::debug!(?decision, "planned");
    let idle = match decision {
        Decision::Wait(_) => true,
        Decision::CheckSeed => match context.has_new_seed(&credential, &mut memory).await {
            Ok(is_new) => !is_new,
            Err(pause) => return Action::requeue(pause),
        },
        Decision::Refresh | Decision::Repair => false,
    };
    if idle {
        memory.inputs = Some(inputs);
        let late = memory.target.as_ref().is_some_and(Written::may_be_late);
        context.remember(&credential, memory);
        if late {
            return Action::requeue(LAG);
        }
        return context.idle(&credential).await;
    }
    let worker = Arc::clone(&context);
    let pass = async move {
        let _under_way = under_way;
        let repaired = match decision {
            Decision::Repair => worker.repair(&credential, found.as_ref()).await,
            _ => None,
        };
        let pass = match repaired {
            Some(pass) => pass,
            None => match worker.refresh(&credential, found).await {
                Ok(pass) => pass,
                Err(pause) => return Action::requeue(pause),
            },
        };
        worker.conclude(pass, memory, inputs).await
    };
    context.make(pass).await
}
