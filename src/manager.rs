//! The credentials of a namespace for programs that use them: the client library.
//!
//! A program that only needs a valid token now and then calls [`CredentialManager::get`]. One that must
//! not have its token replaced while it works calls [`CredentialManager::acquire`] and keeps the [`Hold`]
//! meanwhile: a refresh that would end the token waits for it.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use tokenward::manager::CredentialManager;
//!
//! let client = kube::Client::try_default().await?;
//! let manager = CredentialManager::new(client, "team-a");
//! let hold = manager.acquire("alice-google").await?;
//! let authorization = hold.token().await?.authorization();
//! // … use it; when `hold.draining()` resolves, finish soon …
//! hold.release().await;
//! # Ok(()) }
//! ```
//!
//! Every call is cancel-safe: a future that is dropped leaves at most a hold that is being released, or a
//! want that times out.

mod cached;
mod changes;
mod credentials;
mod edit;
mod error;
mod held;
mod obstacle;
mod refresh;
mod token;
mod want;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use k8s_openapi::api::{authentication::v1::SelfSubjectReview, core::v1::Secret};
use kube::{Api, Client, Resource, api::PostParams, core::NamespaceResourceScope};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::OnceCell,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use self::{
    cached::CachedGetter,
    credentials::{Credentials, Form, Values},
    edit::{NewCredential, NewKind, Seed},
    error::Error,
    held::Hold,
    refresh::{RefreshRequest, Refreshed},
    token::AccessToken,
};
pub(crate) use self::{changes::Changes, credentials::Target, edit::secret_right, error::Right};
use crate::{
    api::{GROUP, IntegrationCredential},
    clock::Moment,
    lock::{
        protocol::{GateState, Mode, Phase},
        wire::Claimant,
    },
    request::{RequestError, bounded},
};

/// How long a call waits by default.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);

/// How long what was learnt of a gate is good for a first try.
const MEMORY: Duration = Duration::from_secs(60);

/// How a credential is acquired.
#[derive(Clone, Debug)]
pub struct AcquireOptions {
    /// How long to wait in all.
    pub timeout: Duration,
    /// The mode that the credential must have; `None`: whichever it has.
    pub mode: Option<Mode>,
    /// For how long the token must be valid at least; `None`: half of a hold's duration, at most 30 s. One
    /// that is not is replaced first.
    pub min_validity: Option<Duration>,
}

impl Default for AcquireOptions {
    fn default() -> Self {
        Self {
            timeout: DEFAULT_TIMEOUT,
            mode: None,
            min_validity: None,
        }
    }
}

/// The credentials of one namespace, under the rights of the client's user. Clones are the same manager;
/// when the last one goes, what it holds is released.
#[derive(Clone)]
pub struct CredentialManager {
    inner: Arc<Inner>,
}

struct Inner {
    client: Client,
    namespace: String,
    who: String,
    claimant: OnceCell<Claimant>,
    tasks: TaskTracker,
    let_go: Mutex<CancellationToken>,
    targets: Mutex<HashMap<String, Target>>,
    reported: Mutex<HashMap<String, (u64, Moment)>>,
    gates: Mutex<HashMap<String, (Moment, GateState)>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        lock(&self.let_go).cancel();
    }
}

/// These tables are never left half changed, so a panic elsewhere does not make them unusable.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl CredentialManager {
    /// The credentials of `namespace`. `client` should not repeat requests by itself
    /// (`kube::Config::default_retry = false`), so that each is made once and in time.
    #[must_use]
    pub fn new(client: Client, namespace: impl Into<String>) -> Self {
        Self {
            inner: Arc::new(Inner {
                client,
                namespace: namespace.into(),
                who: who(),
                claimant: OnceCell::new(),
                tasks: TaskTracker::new(),
                let_go: Mutex::default(),
                targets: Mutex::default(),
                reported: Mutex::default(),
                gates: Mutex::default(),
            }),
        }
    }

    /// The namespace.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.inner.namespace
    }

    /// Whether there is a credential of this name.
    ///
    /// # Errors
    /// [`Error::Forbidden`], [`Error::Unavailable`].
    pub async fn exists(&self, name: &str) -> Result<bool, Error> {
        Ok(self.find(name).await?.is_some())
    }

    /// What is valid now, or `None` where there is no such credential: a token, or what is copied. A token that is
    /// about to expire is replaced first, and that is waited for. Nothing keeps it from being replaced right
    /// after: see [`Self::acquire`].
    ///
    /// # Errors
    /// Where there is a credential, and nothing valid comes: [`Error::Stalled`],
    /// [`Error::UnknownProvider`], [`Error::ProviderNotConfigured`], [`Error::Timeout`],
    /// [`Error::Forbidden`], [`Error::Unavailable`].
    pub async fn get(&self, name: &str) -> Result<Option<Credentials>, Error> {
        match self.refresh_if_needed(name).await {
            Ok(token) => Ok(Some(token)),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Acquires a credential: from now until the [`Hold`] is released, dropped or lost, no refresh ends its
    /// token, unless its deadline comes while this holder ignores [`Hold::draining`].
    ///
    /// # Errors
    /// [`Error::NotFound`], and as [`Self::get`].
    pub async fn acquire(&self, name: &str) -> Result<Hold, Error> {
        self.acquire_with(name, &AcquireOptions::default()).await
    }

    /// As [`Self::get`], of a credential that there must be: a token is replaced first where it is about to
    /// expire. What is asked of the operator is a want: a
    /// program never redeems a refresh token itself, and a thousand that ask cause one refresh.
    ///
    /// # Errors
    /// [`Error::NotFound`], and as [`Self::get`].
    pub async fn refresh_if_needed(&self, name: &str) -> Result<Credentials, Error> {
        self.valid_token(name, DEFAULT_TIMEOUT).await
    }

    /// What stands in the Secret, where there is one, without asking for anything. It may have
    /// expired, and may be replaced at any time.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Forbidden`], [`Error::Unavailable`].
    pub async fn current(&self, name: &str) -> Result<Option<Credentials>, Error> {
        let target = self.target(name).await?;
        self.read(&target).await
    }

    /// Releases everything that this manager holds, and waits until that is done (at most 10 s; what is not
    /// released by then times out by itself). Calls to acquire that are waiting end with [`Error::Lost`].
    pub async fn release_all_locks(&self) {
        const LONGEST: Duration = Duration::from_secs(10);
        let let_go = std::mem::take(&mut *lock(&self.inner.let_go));
        let_go.cancel();
        self.inner.tasks.close();
        let _ = tokio::time::timeout(LONGEST, self.inner.tasks.wait()).await;
        self.inner.tasks.reopen();
    }

    /// Runs `work` to its end, or until SIGTERM or SIGINT: then `work` is dropped, and everything that this
    /// manager holds is released before this returns `None`. The process should end then.
    ///
    /// ```no_run
    /// # async fn work(_: &tokenward::manager::CredentialManager) {}
    /// # async fn example(manager: tokenward::manager::CredentialManager) -> std::io::Result<()> {
    /// manager.until_terminated(work(&manager)).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// When the signals cannot be caught.
    pub async fn until_terminated<T>(
        &self,
        work: impl Future<Output = T>,
    ) -> std::io::Result<Option<T>> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let done = tokio::select! {
            _ = terminate.recv() => None,
            _ = interrupt.recv() => None,
            done = work => Some(done),
        };
        if done.is_none() {
            self.release_all_locks().await;
        }
        Ok(done)
    }

    /// The Secrets of the namespace.
    pub(crate) fn secrets(&self) -> Api<Secret> {
        Api::namespaced(self.inner.client.clone(), &self.inner.namespace)
    }

    fn credentials(&self) -> Api<IntegrationCredential> {
        Api::namespaced(self.inner.client.clone(), &self.inner.namespace)
    }

    /// Of the object of this name.
    fn changes<K>(&self, name: &str) -> Changes<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + std::fmt::Debug
            + serde::de::DeserializeOwned
            + Send
            + 'static,
    {
        Changes::new(&self.inner.client, &self.inner.namespace, name)
    }

    fn not_found(&self, name: &str) -> Error {
        Error::NotFound {
            namespace: self.inner.namespace.clone(),
            name: name.to_owned(),
        }
    }

    async fn find(&self, name: &str) -> Result<Option<IntegrationCredential>, Error> {
        match bounded(self.credentials().get(name)).await {
            Ok(found) => Ok(Some(found)),
            Err(RequestError::NotFound) => Ok(None),
            Err(error) => Err(right("get", name).error(error)),
        }
    }

    /// Where the token is. It never changes for a credential, so it is asked for once.
    async fn target(&self, name: &str) -> Result<Target, Error> {
        if let Some(target) = lock(&self.inner.targets).get(name) {
            return Ok(target.clone());
        }
        let found = self.find(name).await?;
        let found = found.ok_or_else(|| self.not_found(name))?;
        let target = Target::of(&found);
        lock(&self.inner.targets).insert(name.to_owned(), target.clone());
        Ok(target)
    }

    /// The name of the Secret that is its target.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Forbidden`], [`Error::Unavailable`].
    pub(crate) async fn target_secret(&self, name: &str) -> Result<String, Error> {
        Ok(self.target(name).await?.secret)
    }

    fn forget(&self, name: &str) {
        lock(&self.inner.targets).remove(name);
        lock(&self.inner.gates).remove(name);
    }

    /// The gate as it was passed last, where that is not long ago.
    fn memory(&self, name: &str) -> Option<GateState> {
        let gates = lock(&self.inner.gates);
        let (at, gate) = gates.get(name)?;
        (Moment::now().elapsed(*at) < MEMORY).then(|| gate.clone())
    }

    fn remember(&self, name: &str, gate: GateState) {
        lock(&self.inner.gates).insert(name.to_owned(), (Moment::now(), gate));
    }

    /// Who this is, to the API server and to people.
    async fn claimant(&self) -> Result<Claimant, Error> {
        let ask = async || {
            let api: Api<SelfSubjectReview> = Api::all(self.inner.client.clone());
            let review = SelfSubjectReview::default();
            let said = match bounded(api.create(&PostParams::default(), &review)).await {
                Ok(said) => said,
                // Then nobody checks it either, or says so.
                Err(RequestError::Refused(_)) => review,
                Err(error) => {
                    let right = Right {
                        verb: "create",
                        group: "authentication.k8s.io",
                        resource: "selfsubjectreviews",
                        name: None,
                        credential: None,
                    };
                    return Err(right.error(error));
                }
            };
            let user = said.status.and_then(|s| s.user_info).unwrap_or_default();
            let pod_uid = user
                .extra
                .and_then(|extra| extra.get("authentication.kubernetes.io/pod-uid").cloned())
                .and_then(|values| values.into_iter().next());
            Ok(Claimant {
                who: self.inner.who.clone(),
                user: user.username,
                pod_uid,
            })
        };
        // What failed is asked again the next time.
        self.inner.claimant.get_or_try_init(ask).await.cloned()
    }
}

/// The rule for a verb on one credential.
fn right<'a>(verb: &'a str, name: &'a str) -> Right<'a> {
    Right {
        verb,
        group: GROUP,
        resource: "integrationcredentials",
        name: Some(name),
        credential: None,
    }
}

/// This process, for people: its pod and container where the environment tells, else host and process.
fn who() -> String {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let host = variable("POD_NAME").or_else(|| variable("HOSTNAME"));
    let host = host.or_else(|| {
        let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
        Some(name.trim().to_owned())
    });
    let container = variable("CONTAINER_NAME");
    let process = container.unwrap_or_else(|| std::process::id().to_string());
    let host = host.unwrap_or_else(|| "unknown".to_owned());
    format!("{host}/{process}")
}

/// A mode's name in the API.
fn mode_name(mode: Mode) -> &'static str {
    match mode {
        Mode::Shared => "Shared",
        Mode::Exclusive => "Exclusive",
    }
}

/// Whether a gate that was passed is worth remembering.
fn is_open(gate: &GateState) -> bool {
    gate.phase == Phase::Open
}
