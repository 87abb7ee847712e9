//! What passes share: the caches, the tools, what this process remembers, and the ways to write a status
//! and to tell people.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use kube::{
    Api, Client, Resource, ResourceExt,
    api::{Patch, PatchParams},
    runtime::{
        controller::Action,
        events::{Event, EventType, Recorder, Reporter},
    },
};
use serde_json::json;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use crate::{
    api::{CredentialStatus, IntegrationCredential},
    cache::{Caches, Memory},
    clock::Moment,
    provider::Resolver,
    refresh::Tools,
    request::{RequestError, bounded, optional},
    status,
};

/// The field manager of everything that is applied.
const MANAGER: &str = "tokenward";

/// How long a pass is waited for before it goes on by itself.
const PATIENCE: Duration = Duration::from_secs(2);

/// How soon a pass that could not write its status is made again.
pub const SOON: Duration = Duration::from_secs(1);

/// What reconciling works with, in one scope.
pub struct Context {
    client: Client,
    /// What is known without asking.
    pub caches: Caches,
    /// What the critical section works with.
    pub tools: Arc<Tools>,
    /// Reads what provider objects refer to.
    pub resolver: Resolver,
    recorder: Recorder,
    attempts: TaskTracker,
    memory: Mutex<HashMap<String, Memory>>,
    under_way: Arc<Mutex<HashSet<String>>>,
}

/// One pass at a time for each credential: held by the pass.
pub struct UnderWay {
    uid: String,
    table: Arc<Mutex<HashSet<String>>>,
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
        resolver: Resolver,
        identity: &str,
        attempts: TaskTracker,
    ) -> Self {
        let reporter = Reporter {
            controller: MANAGER.to_owned(),
            instance: Some(identity.to_owned()),
        };
        Self {
            recorder: Recorder::new(client.clone(), reporter),
            client,
            caches,
            tools,
            resolver,
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
        table.insert(uid.clone()).then(|| UnderWay {
            uid,
            table: Arc::clone(&self.under_way),
        })
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

    /// The credential as the API server has it, where the cache is behind.
    pub async fn current(
        &self,
        credential: &IntegrationCredential,
    ) -> Option<Arc<IntegrationCredential>> {
        let api: Api<IntegrationCredential> = Api::namespaced(
            self.client.clone(),
            &credential.namespace().unwrap_or_default(),
        );
        let current = optional(api.get(&credential.name_any())).await.ok()??;
        (current.uid() == credential.uid()).then(|| Arc::new(current))
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
        let api: Api<IntegrationCredential> = Api::namespaced(
            self.client.clone(),
            &credential.namespace().unwrap_or_default(),
        );
        let mut patch = json!({
            "apiVersion": IntegrationCredential::api_version(&()),
            "kind": IntegrationCredential::kind(&()),
            // The UID keeps it from another credential of the same name.
            "metadata": {"name": credential.name_any(), "uid": credential.uid()},
            "status": status,
        });
        if only_this_version {
            patch["metadata"]["resourceVersion"] = json!(credential.resource_version());
        }
        let params = PatchParams::apply(MANAGER).force();
        let name = credential.name_any();
        match bounded(api.patch_status(&name, &params, &Patch::Apply(&patch))).await {
            Ok(stored) => {
                let mut memory = self.recall(credential);
                memory.status_version = stored.resource_version();
                memory.status_written = Some(Moment::now());
                self.remember(credential, memory);
                Ok(())
            }
            // Deleted, or deleted and made again: its own event follows.
            Err(RequestError::NotFound | RequestError::Conflict) => Err(Action::requeue(SOON)),
            Err(error) => Err(Action::requeue(retry(&error, "write the status"))),
        }
    }

    /// Publishes an event.
    pub async fn tell(&self, credential: &IntegrationCredential, transition: &status::Transition) {
        let type_ = if transition.warning {
            EventType::Warning
        } else {
            EventType::Normal
        };
        let event = Event {
            type_,
            reason: transition.reason.to_owned(),
            note: Some(transition.message.chars().take(1024).collect()),
            action: "Refresh".to_owned(),
            secondary: None,
        };
        let about = credential.object_ref(&());
        if let Err(error) = bounded(self.recorder.publish(&event, &about)).await {
            tracing::warn!(%error, reason = transition.reason, "event not published");
        }
    }

    /// What is remembered of a credential.
    pub fn recall(&self, credential: &IntegrationCredential) -> Memory {
        let memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let uid = credential.uid().unwrap_or_default();
        memory.get(&uid).cloned().unwrap_or_default()
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
        memory.insert(credential.uid().unwrap_or_default(), what);
    }

    /// Forgets a credential that is gone.
    pub fn forget(&self, credential: &IntegrationCredential) {
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        memory.remove(&credential.uid().unwrap_or_default());
        let namespace = credential.namespace().unwrap_or_default();
        self.tools.gates.forget(&namespace, &credential.gate_name());
    }
}

/// Says in the log what did not work, and when to try again.
pub fn retry(error: &RequestError, what: &str) -> Duration {
    let failure = error.failure(what);
    tracing::warn!(
        reason = failure.reason.as_str(),
        message = failure.message,
        "trying again"
    );
    Duration::from_secs(2)
}
