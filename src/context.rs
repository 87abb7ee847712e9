//! What passes share: the caches, the tools, what this process remembers, and the ways to write a status
//! and to tell people.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use kube::{
    Api, Client, Resource, ResourceExt,
    runtime::{controller::Action, reflector::ObjectRef},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::Instrument;

use crate::{
    api::{CredentialStatus, IntegrationCredential},
    asked::Asked,
    cache::{Caches, Memory},
    clock::{self, Moment},
    lock::{lease::Leases, observer::GateSight},
    pass::copied::is_fresh,
    plan::known_generation,
    provider::Resolver,
    queue::Queue,
    refresh::Tools,
    request::{RequestError, optional},
    status,
    tell::Teller,
};

/// The field manager of everything that is applied.
pub(crate) const MANAGER: &str = "tokenward";

/// How long a pass is waited for before it goes on by itself.
const PATIENCE: Duration = Duration::from_secs(2);

/// How soon a pass that could not write its status is made again.
pub const SOON: Duration = Duration::from_secs(1);

/// What reconciling works with, in one scope.
pub struct Context {
    /// The API server.
    pub client: Client,
    /// What is known without asking.
    pub caches: Caches,
    /// What the critical section works with.
    pub tools: Arc<Tools>,
    /// Reads what provider objects refer to.
    pub resolver: Arc<Resolver>,
    /// Whose work comes next.
    pub queue: Queue<ObjectRef<IntegrationCredential>>,
    teller: Teller,
    attempts: TaskTracker,
    memory: Mutex<HashMap<String, Box<Memory>>>,
    under_way: Arc<Mutex<HashMap<String, Running>>>,
}

/// A pass that is under way.
struct Running {
    ends: CancellationToken,
    /// Whether it knows that somebody waits for another token.
    is_asked: bool,
    /// Whether it brings the credential to its end itself.
    is_end: bool,
}

/// One pass at a time for each credential: held by the pass.
pub struct UnderWay {
    uid: String,
    table: Arc<Mutex<HashMap<String, Running>>>,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        table.remove(&self.uid);
    }
}

impl Context {
    /// For one scope.
    #[must_use]
    pub fn new(
        client: Client,
        caches: Caches,
        tools: Arc<Tools>,
        resolver: Arc<Resolver>,
        queue: Queue<ObjectRef<IntegrationCredential>>,
        (identity, attempts): (&str, TaskTracker),
    ) -> Self {
        Self {
            teller: Teller::new(client.clone(), identity),
            client,
            caches,
            tools,
            resolver,
            queue,
            attempts,
            memory: Mutex::default(),
            under_way: Arc::default(),
        }
    }

    /// The right to make a pass over this credential; `None` while another one is under way.
    pub fn begin(&self, credential: &IntegrationCredential) -> Option<UnderWay> {
        let uid = credential.uid().unwrap_or_default();
        let mut table = self
            .under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if table.contains_key(&uid) {
            return None;
        }
        let running = Running {
            ends: self.tools.shutdown.child_token(),
            is_asked: self.asked(credential).is_now(credential),
            is_end: credential.metadata.deletion_timestamp.is_some(),
        };
        table.insert(uid.clone(), running);
        Some(UnderWay {
            uid,
            table: Arc::clone(&self.under_way),
        })
    }

    /// Set when the pass over this credential is to come to an end: the process is about to end, or the credential.
    pub fn ends(&self, credential: &IntegrationCredential) -> CancellationToken {
        let table = self.under_way.lock();
        let table = table.unwrap_or_else(PoisonError::into_inner);
        let uid = credential.uid().unwrap_or_default();
        let own = table.get(&uid).map(|running| running.ends.clone());
        own.unwrap_or_else(|| self.tools.shutdown.child_token())
    }

    /// What a pass that is under way does not know yet: it begins again, where it still waits for holders and what is
    /// asked for is another thing by now.
    pub fn tell_running(&self, credential: &IntegrationCredential) {
        let table = self.under_way.lock();
        let table = table.unwrap_or_else(PoisonError::into_inner);
        let Some(running) = table.get(&credential.uid().unwrap_or_default()) else {
            return;
        };
        let is_asked = !running.is_asked && self.asked(credential).is_now(credential);
        if !running.is_end && (credential.spec.suspend || is_asked) {
            running.ends.cancel();
        }
    }

    /// A credential that is deleted: a refresh of it that is under way waits for holders no longer. What was sent to
    /// the provider already is stored.
    pub fn hurry(&self, credential: &IntegrationCredential) -> Action {
        let table = self.under_way.lock();
        let table = table.unwrap_or_else(PoisonError::into_inner);
        let running = table.get(&credential.uid().unwrap_or_default());
        if let Some(running) = running.filter(|running| !running.is_end) {
            running.ends.cancel();
        }
        Action::requeue(SOON)
    }

    /// Makes a pass in a task of its own, which neither a cancelled reconcile nor a shutdown aborts. One
    /// that takes long, because a provider hangs, goes on by itself and does not hold up others.
    pub async fn make(
        self: &Arc<Self>,
        pass: impl Future<Output = Action> + Send + 'static,
    ) -> Action {
        match tokio::time::timeout(PATIENCE, self.attempts.spawn(pass.in_current_span())).await {
            Ok(Ok(action)) => action,
            Ok(Err(error)) => {
                tracing::error!(reason = "Panic", %error, "a pass ended unexpectedly");
                Action::requeue(Duration::from_secs(30))
            }
            Err(_) => {
                tracing::debug!("a pass takes long and goes on by itself");
                Action::requeue(PATIENCE)
            }
        }
    }

    /// The credential as the API server has it, where the cache is behind; `None`: it is gone.
    ///
    /// # Errors
    /// When the API server does not say.
    pub async fn current(
        &self,
        credential: &IntegrationCredential,
    ) -> Result<Option<Arc<IntegrationCredential>>, RequestError> {
        let api: Api<IntegrationCredential> = Api::namespaced(
            self.client.clone(),
            &credential.namespace().unwrap_or_default(),
        );
        let current = optional(api.get(&credential.name_any())).await?;
        let current = current.filter(|current| current.uid() == credential.uid());
        Ok(current.map(Arc::new))
    }

    /// Writes the status; with `only_this_version`, only if nobody has changed the credential since.
    ///
    /// # Errors
    /// When to make the pass again.
    pub async fn write_status(
        &self,
        credential: &IntegrationCredential,
        status: &CredentialStatus,
        only_this_version: bool,
    ) -> Result<(), Action> {
        match status::write(&self.client, credential, status, only_this_version).await {
            Ok(version) => {
                let mut memory = self.recall(credential);
                memory.status_version = version;
                memory.status_written = Some(Moment::now());
                self.remember(credential, memory);
                Ok(())
            }
            // Deleted, or deleted and made again: its own event follows.
            Err(RequestError::NotFound | RequestError::Conflict) => Err(Action::requeue(SOON)),
            Err(error) => Err(Action::requeue(retry(&error, "write the status"))),
        }
    }

    /// What is asked of a credential beyond its schedule.
    pub fn asked(&self, credential: &IntegrationCredential) -> Asked {
        Asked::of(credential, &self.wants(credential), clock::now())
    }

    /// What is known of its gate; fine where it has none yet.
    pub fn gate(&self, credential: &IntegrationCredential) -> GateSight {
        if credential.status.is_none() {
            return GateSight::Fine;
        }
        let namespace = credential.namespace().unwrap_or_default();
        let observer = &self.tools.gates.observer;
        observer.gate(&namespace, &credential.name_any())
    }

    fn wants(&self, credential: &IntegrationCredential) -> BTreeMap<String, u64> {
        let namespace = credential.namespace().unwrap_or_default();
        let observer = &self.tools.gates.observer;
        observer.wants(&namespace, &credential.name_any())
    }

    /// Deletes the wants that are about older tokens than the current one: that is the answer to them. Also those about
    /// newer ones, where it is `certain` that there is none: they would be asked about for ever.
    pub async fn answer_wants(&self, credential: &IntegrationCredential, certain: bool) {
        let generation = known_generation(credential.status.as_ref());
        let namespace = credential.namespace().unwrap_or_default();
        let leases = Leases::new(&self.client, &namespace);
        // A source that was read just now has nothing newer: that is an answer too.
        let refresh = credential.status.as_ref().and_then(|s| s.refresh.as_ref());
        let copied = credential.copied().is_some()
            && refresh.is_none_or(|r| r.failures == 0)
            && is_fresh(&self.recall(credential));
        for (name, about) in self.wants(credential) {
            if (about < generation || copied || (certain && about > generation))
                && let Err(error) = leases.release(&name, None).await
            {
                tracing::debug!(%error, lease = name, "want not answered");
            }
        }
    }

    /// Publishes an event about a refresh.
    pub async fn tell(&self, credential: &IntegrationCredential, transition: &status::Transition) {
        self.tell_of("Refresh", credential, transition).await;
    }

    /// Publishes an event.
    pub async fn tell_of(
        &self,
        action: &str,
        credential: &IntegrationCredential,
        transition: &status::Transition,
    ) {
        // Who has the log alone learns what events tell.
        tracing::info!(reason = transition.reason, "{}", transition.message);
        let about = credential.object_ref(&());
        self.teller.tell(&about, action, transition).await;
    }

    /// What is remembered of a credential.
    pub fn recall(&self, credential: &IntegrationCredential) -> Memory {
        let memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let uid = credential.uid().unwrap_or_default();
        memory
            .get(&uid)
            .map_or_else(Memory::default, |known| Memory::clone(known))
    }

    /// Remembers it.
    pub fn remember(&self, credential: &IntegrationCredential, what: Memory) {
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        // Credentials that were deleted leave without a last pass.
        if memory.len() > 2 * self.caches.credentials.len() + 64 {
            let there: HashSet<_> = self
                .caches
                .credentials
                .state()
                .iter()
                .filter_map(|c| c.uid())
                .collect();
            memory.retain(|uid, _| there.contains(uid));
        }
        let uid = credential.uid().unwrap_or_default();
        if what.is_blank() {
            memory.remove(&uid);
        } else {
            memory.insert(uid, Box::new(what));
        }
    }

    /// Forgets a credential that is gone.
    pub fn forget(&self, credential: &IntegrationCredential) {
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        memory.remove(&credential.uid().unwrap_or_default());
        self.tools.gates.forget(credential);
        let uid = credential.uid().unwrap_or_default();
        self.tools.secrets.unpublished.forget(&uid);
        self.tools
            .lanes
            .leave(&credential.uid().unwrap_or_default());
    }
}

/// Says in the log what did not work, and when to try again.
pub fn retry(error: &RequestError, what: &str) -> Duration {
    let failure = error.failure(what);
    tracing::warn!(
        reason = failure.reason.as_str(),
        error = failure.message,
        "trying again"
    );
    Duration::from_secs(2)
}
