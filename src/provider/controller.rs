//! Looks after provider objects: checks what can be checked without a credential, also where nobody uses them, and says
//! what it found in their status. No credential waits for that.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    convert::Infallible,
    panic::AssertUnwindSafe,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::{FutureExt, Stream, StreamExt};
use kube::{
    Client, Resource, ResourceExt,
    runtime::{
        Controller,
        controller::{Action, Config as Concurrency},
        reflector::{ObjectRef, Store},
        watcher,
    },
};
use tracing::Instrument;

use super::{Found, Resolver, judged};
use crate::{
    api::{
        ClusterOAuthProvider, OAuthProvider, Provider, ProviderKind, ProviderReference,
        ProviderStatus,
    },
    cache::is_stale,
    clock::{self, Moment},
    plan::{RECHECK, fraction},
    refresh::Tools,
    request::RequestError,
    status,
    telemetry::span,
    tell::Teller,
    watch::Filled,
};

/// How many objects are looked at at a time.
const CONCURRENCY: u16 = 8;

/// One of the two kinds.
pub trait ProviderObject:
    Resource<DynamicType = ()>
    + Clone
    + std::fmt::Debug
    + serde::de::DeserializeOwned
    + Send
    + Sync
    + 'static
{
    /// Which of them.
    const KIND: ProviderKind;
    /// What it describes.
    fn provider(&self) -> &Provider;
    /// Together with its preset.
    fn found(&self) -> Found;
    /// What was said of it.
    fn said(&self) -> Option<&ProviderStatus>;
}

impl ProviderObject for OAuthProvider {
    const KIND: ProviderKind = ProviderKind::OAuthProvider;

    fn provider(&self) -> &Provider {
        &self.spec.provider
    }

    fn found(&self) -> Found {
        Found::new(&self.spec.provider, None, version(self))
    }

    fn said(&self) -> Option<&ProviderStatus> {
        self.status.as_ref()
    }
}

impl ProviderObject for ClusterOAuthProvider {
    const KIND: ProviderKind = ProviderKind::ClusterOAuthProvider;

    fn provider(&self) -> &Provider {
        &self.spec.provider
    }

    fn found(&self) -> Found {
        Found::new(&self.spec.provider, Some(&self.spec), version(self))
    }

    fn said(&self) -> Option<&ProviderStatus> {
        self.status.as_ref()
    }
}

/// The version of what an object says, which its status does not change.
#[must_use]
pub fn version<K: Resource<DynamicType = ()>>(object: &K) -> Option<String> {
    let uid = object.uid()?;
    let generation = object.meta().generation.unwrap_or_default();
    Some(format!("{uid}/{generation}"))
}

/// The names of the Secrets that hold the client.
pub fn client_secrets(provider: &Provider) -> impl Iterator<Item = &str> {
    let client = provider.client.as_ref();
    let keys = client.map(|c| c.secret_key_refs.iter().chain(&c.id_secret_key_ref));
    keys.into_iter().flatten().map(|key| key.name.as_str())
}

/// The version of a watched Secret, by its namespace (none: the operator's) and its name.
pub type Watched = Arc<dyn Fn(Option<&str>, &str) -> Option<String> + Send + Sync>;

/// What looking after the objects of one kind needs.
pub struct Keeper<K: ProviderObject> {
    client: Client,
    resolver: Arc<Resolver>,
    tools: Arc<Tools>,
    teller: Teller,
    objects: Store<K>,
    watched: Watched,
    filled: Filled,
    memory: Mutex<HashMap<String, Memory>>,
    /// Whether it was said already that a status must not be written.
    forbidden: AtomicBool,
}

/// What this process remembers of an object. All of it can be lost.
#[derive(Clone)]
struct Memory {
    /// What it depended on when it was looked at.
    inputs: Inputs,
    /// When it is looked at again without a change; `None`: not before one.
    again: Option<(Moment, Duration)>,
    failures: u32,
    /// What was said last, and the object's version after that.
    said: Option<ProviderStatus>,
    version: Option<String>,
}

/// The object's generation, and the version of each watched Secret that it names.
type Inputs = (Option<i64>, BTreeMap<String, Option<String>>);

impl<K: ProviderObject> Keeper<K>
where
    K: Resource<DynamicType = ()>,
{
    /// For the objects in `objects`.
    pub fn new(
        client: Client,
        identity: &str,
        resolver: Arc<Resolver>,
        tools: Arc<Tools>,
        (objects, watched): (Store<K>, Watched),
        filled: Filled,
    ) -> Self {
        Self {
            teller: Teller::new(client.clone(), identity),
            client,
            resolver,
            tools,
            objects,
            watched,
            filled,
            memory: Mutex::default(),
            forbidden: AtomicBool::new(false),
        }
    }

    /// Looks after them until shutdown: `changes` are theirs, `by_secret` the objects that name a Secret which
    /// has changed.
    pub fn run(
        self,
        changes: impl Stream<Item = Result<K, watcher::Error>> + Send + 'static,
        by_secret: impl Stream<Item = ObjectRef<K>> + Send + 'static,
    ) -> impl Future<Output = ()> {
        let shutdown = self.tools.shutdown.clone();
        Controller::for_stream(changes, self.objects.clone())
            .with_config(Concurrency::default().concurrency(CONCURRENCY))
            .reconcile_on(by_secret)
            .graceful_shutdown_on(shutdown.cancelled_owned())
            .run(guarded::<K>, error_policy::<K>, Arc::new(self))
            .for_each(|_| std::future::ready(()))
    }

    async fn reconcile(&self, object: &K) -> Action {
        self.filled.wait().await;
        if object.meta().deletion_timestamp.is_some() {
            return Action::await_change();
        }
        let uid = object.uid().unwrap_or_default();
        let inputs = self.inputs(object);
        let memory = self.recall(&uid);
        let known = memory.as_ref().filter(|memory| memory.inputs == inputs);
        match known.map(|memory| memory.again) {
            Some(None) => return Action::await_change(),
            Some(Some((since, pause))) => {
                let left = pause.saturating_sub(Moment::now().elapsed(since));
                if !left.is_zero() {
                    return Action::requeue(left);
                }
            }
            None => {}
        }
        if memory.is_none() && was_found_right(object, &inputs) {
            // What nobody tells of may have changed while no operator was there.
            let first = RECHECK / 10;
            let pause = first + RECHECK.saturating_sub(first).mul_f64(fraction(&uid));
            let memory = Memory {
                inputs,
                again: Some((Moment::now(), pause)),
                failures: 0,
                said: None,
                version: None,
            };
            self.remember(&uid, memory);
            return Action::requeue(pause);
        }
        tokio::select! {
            action = Box::pin(self.look(object, inputs, memory)) => action,
            () = self.tools.shutdown.cancelled() => Action::await_change(),
        }
    }

    async fn look(&self, object: &K, inputs: Inputs, memory: Option<Memory>) -> Action {
        let uid = object.uid().unwrap_or_default();
        let namespace = object.namespace();
        let reference = ProviderReference {
            kind: K::KIND,
            name: object.name_any(),
        };
        let found = object.found();
        let inspection = self
            .resolver
            .inspect(
                &found,
                &reference,
                namespace.as_deref(),
                &self.tools.endpoint,
            )
            .await;
        // The event with our own write may be on its way.
        let before = match &memory {
            Some(m) if is_stale(object.resource_version().as_deref(), m.version.as_deref()) => {
                m.said.as_ref()
            }
            _ => object.said(),
        };
        let now = clock::now();
        let status = judged::after(before, object.meta().generation, &inspection, now);
        let failures = match (inspection.failures.is_empty(), &memory) {
            (true, _) => 0,
            (false, Some(memory)) if memory.inputs == inputs => memory.failures.saturating_add(1),
            (false, _) => 1,
        };
        let all_watched = inputs.1.values().all(Option::is_some);
        let mut again = judged::again(&inspection, failures, all_watched, &uid);
        let mut version = memory.as_ref().and_then(|m| m.version.clone());
        let mut said = before.cloned();
        if before != Some(&status) {
            match self.write(object, &status).await {
                Ok(written) => {
                    if let Some(transition) = judged::transition(before, &status) {
                        let about = object.object_ref(&());
                        self.teller.tell(&about, "Check", &transition).await;
                    }
                    (version, said) = (written, Some(status));
                }
                Err(pause) => again = Some(again.map_or(pause, |again| again.min(pause))),
            }
        }
        let memory = Memory {
            inputs,
            again: again.map(|pause| (Moment::now(), pause)),
            failures,
            said,
            version,
        };
        self.remember(&uid, memory);
        again.map_or_else(Action::await_change, Action::requeue)
    }

    fn inputs(&self, object: &K) -> Inputs {
        let namespace = object.namespace();
        let secrets = client_secrets(object.provider());
        let versions = secrets.map(|name| {
            let version = (self.watched)(namespace.as_deref(), name);
            (name.to_owned(), version)
        });
        (object.meta().generation, versions.collect())
    }

    /// Returns the object's version.
    async fn write(&self, object: &K, status: &ProviderStatus) -> Result<Option<String>, Duration> {
        const SOON: Duration = Duration::from_secs(2);
        match status::write(&self.client, object, status, false).await {
            Ok(version) => Ok(version),
            // Gone, or made again: its own event follows.
            Err(RequestError::NotFound | RequestError::Conflict) => Err(RECHECK),
            Err(error @ RequestError::Refused(_)) => {
                if !self.forbidden.swap(true, Ordering::Relaxed) {
                    let what = format!("write the status of {}", K::plural(&()));
                    let failure = error.failure(&what);
                    let (reason, error) = (failure.reason.as_str(), failure.message);
                    tracing::warn!(reason, error, "what is found of providers is not shown");
                }
                Err(RECHECK)
            }
            Err(error) => {
                tracing::warn!(%error, "status of a provider not written");
                Err(SOON)
            }
        }
    }

    fn recall(&self, uid: &str) -> Option<Memory> {
        let memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        memory.get(uid).cloned()
    }

    fn remember(&self, uid: &str, what: Memory) {
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        // Deleted objects leave without a last look.
        if memory.len() > 2 * self.objects.len() + 64 {
            let all = self.objects.state();
            let there: HashSet<_> = all.iter().filter_map(|object| object.uid()).collect();
            memory.retain(|uid, _| there.contains(uid));
        }
        memory.insert(uid.to_owned(), what);
    }
}

/// Whether an operator before this one found the object right as it is now, and no watched Secret has changed since.
fn was_found_right<K: ProviderObject>(object: &K, inputs: &Inputs) -> bool {
    object.said().is_some_and(|said| {
        let mut watched = inputs.1.iter().filter(|(_, version)| version.is_some());
        judged::is_ready(said)
            && said.observed_generation == object.meta().generation
            && watched.all(|(name, version)| said.observed_secrets.get(name) == version.as_ref())
    })
}

/// A panic over one object must not end the care for the others.
async fn guarded<K: ProviderObject>(
    object: Arc<K>,
    keeper: Arc<Keeper<K>>,
) -> Result<Action, Infallible> {
    let name = object.name_any();
    let name = match object.namespace() {
        Some(namespace) => format!("{namespace}/{name}"),
        None => name,
    };
    let span = span::inspect(&name);
    let looked = AssertUnwindSafe(keeper.reconcile(&object).instrument(span.clone()));
    Ok(looked.catch_unwind().await.unwrap_or_else(|_| {
        span.in_scope(|| tracing::error!(reason = "Panic", "a look at a provider panicked"));
        span::failed(&span, "transient", "Panic");
        Action::requeue(Duration::from_secs(30))
    }))
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature that kube asks for"
)]
fn error_policy<K: ProviderObject>(_: Arc<K>, error: &Infallible, _: Arc<Keeper<K>>) -> Action {
    match *error {}
}
