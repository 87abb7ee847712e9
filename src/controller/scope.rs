//! One scope: a namespace, or all of them. Its watches, and the controller over them.

use std::{
    convert::Infallible,
    future,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use futures::{
    StreamExt,
    future::{join, select},
    stream::{self, select_all},
};
use kube::{
    Client,
    runtime::{
        Controller,
        controller::{self, Config as Concurrency},
        reflector::{ObjectRef, Store},
        watcher,
    },
};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio_util::task::TaskTracker;

use super::{
    Config, Readiness, api,
    concerned::{
        asked_labels, client_users, cluster_client_users, namespace_users, provider_users,
    },
    shared::{Reader, labels, resolver},
};
use crate::{
    api::{IntegrationCredential, OAuthProvider, WATCH_LABEL},
    cache::Caches,
    context::Context,
    finalizer::{Beside, left::Left},
    platform::Platform,
    provider::{
        Discovery, Resolver,
        controller::{Keeper, Watched},
    },
    queue::{AT_A_TIME, Queue},
    reconcile::{error_policy, guarded},
    refresh::Tools,
    secret::seen::{SeenSecrets, TouchedSecret},
    spread::spread,
    users::{self, Named},
    watch::{Filled, Shared, observed, seen_secrets, share, watched},
};

/// How many credentials are looked at at a time, in each scope: all that are worked on, and some besides.
const CONCURRENCY: u16 = AT_A_TIME + 32;

/// What is kept of many takes no more room than it needs.
fn tidy(credential: &mut IntegrationCredential) {
    if let Some(status) = &mut credential.status {
        status.shrink_to_fit();
    }
}

/// Watches and reconciles one scope until shutdown.
pub(super) async fn control(
    client: &Client,
    scope: Option<&str>,
    config: &Config,
    (tools, discovery): (Arc<Tools>, Arc<Discovery>),
    (platform, cluster_stream, client_secret_stream): Reader,
    attempts: TaskTracker,
    readiness: Arc<Readiness>,
) {
    let filled = |more| Filled::new(4 + usize::from(more)).and(&platform.filled);
    let (labels, filled, namespace_stream) = labels(client, scope, filled).await;
    let labels = Arc::new(labels);
    let (credentials, credential_stream) = watched(api(client, scope), tidy, &filled);
    let (providers, provider_stream) =
        watched::<OAuthProvider>(api(client, scope), |_| {}, &filled);
    let (sharing_providers, mut provider_streams) = share(provider_stream, 2);
    tools.metrics.watch(credentials.clone());
    let left = Arc::new(Left::default());
    let (of_secrets, of_leases) = (Arc::clone(&left), Arc::clone(&left));
    let secrets = Arc::<SeenSecrets>::default();
    let secret_stream = seen_secrets(
        api(client, scope),
        WATCH_LABEL,
        Arc::clone(&secrets),
        move |secret| of_secrets.notice(secret, Beside::Grant),
        &filled,
    );
    let (sharing_secrets, mut secret_streams) = share(secret_stream, 3);
    let mut next_secrets = || next(&mut secret_streams);
    let mut next_providers = || next(&mut provider_streams);

    let observer = Arc::clone(&tools.gates.observer);
    let wanted = observed(
        api(client, scope),
        scope.map(str::to_owned),
        observer,
        move |lease| of_leases.notice(lease, Beside::Gate),
        &filled,
    );

    let resolver = resolver(
        client,
        config,
        &tools,
        &discovery,
        Arc::clone(&labels),
        client_versions(&secrets, &platform),
    );
    let caches = Caches {
        credentials: credentials.clone(),
        secrets: Arc::clone(&secrets),
        providers: providers.clone(),
        platform: platform.clone(),
        labels: Arc::clone(&labels),
        filled: filled.clone(),
    };
    let (queue, mut called) = measured_queue(&tools);
    let context = Arc::new(Context::new(
        client.clone(),
        caches,
        Arc::clone(&tools),
        Arc::clone(&resolver),
        queue,
        (&config.identity, attempts),
    ));
    let named = Arc::new(Named::new(credentials.clone()));
    let credential_stream = named.follow(credential_stream);
    let concerned = select_all([
        provider_users(next_providers(), &providers, &credentials),
        provider_users(cluster_stream, &platform.cluster_providers, &credentials),
        client_users(next_secrets(), &credentials, &providers),
        cluster_client_users(
            client_secret_stream,
            &credentials,
            &platform.cluster_providers,
        ),
        namespace_users(namespace_stream, &credentials),
        asked_labels(client, scope, (labels, filled.clone()), &credentials),
    ]);
    let of_secrets = next_secrets()
        .filter_map(async |secret| secret.ok())
        .flat_map(move |secret| stream::iter(named.of_secret(&secret)));
    let controller = Controller::for_stream(credential_stream, credentials)
        .with_config(Concurrency::default().concurrency(CONCURRENCY))
        .reconcile_on(of_secrets)
        .reconcile_on(wanted.filter_map(async |credential| credential.ok()))
        .reconcile_on(spread(concerned))
        .reconcile_on(stream::poll_fn(move |task| called.poll_recv(task)))
        .graceful_shutdown_on(tools.shutdown.clone().cancelled_owned())
        .run(guarded, error_policy, Arc::clone(&context));
    let keeper = keep_providers(
        (client, &config.identity),
        (resolver, Arc::clone(&tools)),
        (providers, next_providers()),
        (secrets, next_secrets()),
        filled,
    );
    let reconciled = controller.for_each(|result| {
        if let Err(error) = result {
            ended(&context, error);
        }
        future::ready(())
    });
    let sharing = join(sharing_providers, sharing_secrets);
    let announced = Box::pin(announce(&context, scope, &readiness));
    let aside = select(announced, Box::pin(sharing));
    let aside = tools.shutdown.run_until_cancelled(aside);
    let released = release_the_left(&context, &left);
    tokio::join!(reconciled, keeper, aside, released);
}

/// What became of a look that could not be made. Who was deleted while it waited for its turn gives it up.
fn ended(context: &Context, error: controller::Error<Infallible, watcher::Error>) {
    match error {
        controller::Error::ObjectNotFound(gone) => {
            context.queue.leave(&gone.into_kind_unchecked(()));
        }
        error => tracing::debug!(%error, "reconcile ended"),
    }
}

/// The versions of the Secrets of clients, in the namespace of an object or in that of the operator.
fn client_versions(secrets: &Arc<SeenSecrets>, platform: &Platform) -> Watched {
    let (secrets, platform) = (Arc::clone(secrets), platform.clone());
    Arc::new(move |namespace, name| match namespace {
        Some(namespace) => secrets.version(namespace, name),
        None => platform.client_version(name),
    })
}

/// A queue whose length is measured, and where it tells whom it calls.
fn measured_queue(
    tools: &Tools,
) -> (
    Queue<ObjectRef<IntegrationCredential>>,
    UnboundedReceiver<ObjectRef<IntegrationCredential>>,
) {
    let (queue, called) = Queue::new();
    tools.metrics.queue(queue.load());
    (queue, called)
}

/// The next of the streams that were made.
fn next<T: Send + 'static>(streams: &mut Vec<Shared<T>>) -> Shared<T> {
    streams.pop().unwrap_or_else(|| stream::pending().boxed())
}

/// Looks after the provider objects of a scope.
fn keep_providers(
    (client, identity): (&Client, &str),
    (resolver, tools): (Arc<Resolver>, Arc<Tools>),
    (providers, changes): (Store<OAuthProvider>, Shared<OAuthProvider>),
    (secrets, secret_changes): (Arc<SeenSecrets>, Shared<TouchedSecret>),
    filled: Filled,
) -> impl Future<Output = ()> + Send {
    let of_secret = providers.clone();
    let by_secret = secret_changes.filter_map(async |secret| secret.ok());
    let by_secret = by_secret.flat_map(move |secret| {
        let named = users::naming(&of_secret, Some(&secret.namespace), &secret.name);
        stream::iter(named)
    });
    let watched: Watched =
        Arc::new(move |namespace, name| secrets.version(namespace.unwrap_or_default(), name));
    Keeper::new(
        client.clone(),
        identity,
        resolver,
        tools,
        (providers, watched),
        filled,
    )
    .run(changes, by_secret)
}

/// Says when everything is known that decisions need. Never ends.
async fn announce(context: &Context, scope: Option<&str>, readiness: &Readiness) {
    context.caches.filled.wait().await;
    readiness.ready.fetch_add(1, Ordering::Relaxed);
    tracing::info!(namespace = scope, "caches filled");
    future::pending::<()>().await;
}

/// Lets go what a credential left behind whose finalizer somebody took off.
async fn release_the_left(context: &Context, left: &Left) {
    const EVERY: Duration = Duration::from_secs(2);
    let shutdown = &context.tools.shutdown;
    while tokio::time::timeout(EVERY, shutdown.cancelled())
        .await
        .is_err()
    {
        if !context.caches.filled.is_filled() {
            continue;
        }
        let is_there = |namespace: &str, name: &str, uid: &str| {
            let key = ObjectRef::new(name).within(namespace);
            let found = context.caches.credentials.get(&key);
            found.is_some_and(|found| found.metadata.uid.as_deref() == Some(uid))
        };
        Box::pin(left.sweep(&context.client, is_there)).await;
    }
}
