//! Asking for a refresh now, as a person does, and waiting for what comes of it.

use std::time::Duration;

use jiff::Timestamp;
use kube::{
    ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::json;
use uuid::Uuid;

use super::{CredentialManager, Error, obstacle::trouble, right};
use crate::{
    api::{CredentialStatus, IntegrationCredential},
    asked::REFRESH_REQUESTED,
    clock,
    plan::known_generation,
    request::{RequestError, bounded},
    status::{READY, condition},
};

/// How often is looked although nothing was told.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// How often somebody else may change the credential while it is asked for.
const TRIES: usize = 20;

/// A refresh that was asked for: see [`CredentialManager::request_refresh`].
pub struct RefreshRequest {
    manager: CredentialManager,
    name: String,
    /// Of this credential, and of no other of its name.
    uid: Option<String>,
    /// The generation before.
    generation: u64,
    /// Whether it is copied, so that there may be nothing newer.
    copied: bool,
    way: Way,
}

/// How it was asked for.
enum Way {
    /// By the annotation, with this value.
    Annotation {
        value: String,
        /// What the operator had acted upon last by then.
        handled_before: Option<String>,
    },
    /// By a want, which is this Lease.
    Want(String),
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refreshed {
    /// The generation of the new token. Of what is copied it is the one before, where its source was read again and holds
    /// the same.
    pub generation: u64,
    /// When it expires, where the provider says.
    pub expires_at: Option<Timestamp>,
}

impl CredentialManager {
    /// Asks the operator to refresh this credential now, whenever it would be due, and also where it is
    /// stalled. Where that was asked already and is not done yet, joins that: both get the same token.
    /// Returns when the request is stored; wait with [`RefreshRequest::done`].
    ///
    /// The request is the annotation `tokenward.dev/refresh-requested`. A caller without the right to patch
    /// the credential puts a want instead, as programs do.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Suspended`], [`Error::Forbidden`], [`Error::Refused`],
    /// [`Error::Unavailable`].
    pub async fn request_refresh(&self, name: &str) -> Result<RefreshRequest, Error> {
        let mut tries = 0;
        loop {
            let found = self.find(name).await?;
            let found = found.ok_or_else(|| self.not_found(name))?;
            if found.spec.suspend {
                return Err(self.suspended(name));
            }
            let status = found.status.as_ref();
            let handled_before = status.and_then(handled).cloned();
            let mut request = RefreshRequest {
                manager: self.clone(),
                name: name.to_owned(),
                uid: found.uid(),
                generation: known_generation(status),
                copied: found.copied().is_some(),
                way: Way::Want(String::new()),
            };
            let asked = found.annotations().get(REFRESH_REQUESTED);
            if let Some(pending) = asked.filter(|value| Some(*value) != handled_before.as_ref()) {
                let value = pending.clone();
                request.way = Way::Annotation {
                    value,
                    handled_before,
                };
                return Ok(request);
            }
            match self.annotate(&found).await {
                Ok(value) => {
                    request.way = Way::Annotation {
                        value,
                        handled_before,
                    };
                    return Ok(request);
                }
                // Changed since it was read: maybe by somebody who asks for the same.
                Err(RequestError::Conflict) if tries < TRIES => tries += 1,
                Err(RequestError::NotFound) => return Err(self.not_found(name)),
                Err(error) => {
                    let refused = right("patch", name).error(error);
                    if !matches!(refused, Error::Forbidden { .. }) {
                        return Err(refused);
                    }
                    // Who may do neither is told of the first.
                    let put = self.put_want(name, request.generation).await;
                    let want = put.map_err(|error| match error {
                        Error::Forbidden { .. } | Error::Refused(_) => refused,
                        other => other,
                    })?;
                    request.way = Way::Want(want);
                    return Ok(request);
                }
            }
        }
    }

    async fn annotate(&self, found: &IntegrationCredential) -> Result<String, RequestError> {
        let nonce = Uuid::new_v4().simple().to_string();
        let value = format!("{:.0}/{}", clock::now(), &nonce[..8]);
        let patch = Patch::Merge(json!({"metadata": {
            "uid": found.uid(),
            "resourceVersion": found.resource_version(),
            "annotations": {REFRESH_REQUESTED: value},
        }}));
        let params = PatchParams::default();
        let api = self.credentials();
        bounded(api.patch(&found.name_any(), &params, &patch)).await?;
        Ok(value)
    }
}

impl RefreshRequest {
    /// The generation of the token when this was asked.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Waits until the new token is published, or until it is known that none will be in this time.
    ///
    /// # Errors
    /// [`Error::Suspended`] where that has come between; [`Error::Stalled`], [`Error::UnknownProvider`] and
    /// [`Error::ProviderNotConfigured`] where the attempt
    /// was made and only somebody's act can help; [`Error::RefreshFailed`] where it was made and the next
    /// one comes too late; [`Error::Timeout`], [`Error::NotFound`], [`Error::Forbidden`].
    pub async fn done(&self, timeout: Duration) -> Result<Refreshed, Error> {
        let until = clock::now().checked_add(timeout);
        let until = until.unwrap_or(Timestamp::MAX);
        let done = async {
            match &self.way {
                Way::Want(want) if self.copied => {
                    self.manager.answered(&self.name, want).await?;
                    let newer = self.manager.newer_than(&self.name, None);
                    newer.await.map(|copy| Refreshed {
                        generation: copy.generation(),
                        expires_at: copy.expires_at(),
                    })
                }
                Way::Want(_) => {
                    let newer = self.manager.newer_than(&self.name, Some(self.generation));
                    newer.await.map(|token| Refreshed {
                        generation: token.generation(),
                        expires_at: token.expires_at(),
                    })
                }
                Way::Annotation { .. } => self.handled(until).await,
            }
        };
        match tokio::time::timeout(timeout, done).await {
            Ok(done) => done,
            Err(_) => Err(self.in_vain(timeout).await),
        }
    }

    async fn handled(&self, until: Timestamp) -> Result<Refreshed, Error> {
        let manager = &self.manager;
        let mut changes = manager.changes::<IntegrationCredential>(&self.name);
        loop {
            match manager.find(&self.name).await {
                Ok(Some(found)) if found.uid() == self.uid => {
                    if let Some(outcome) = self.outcome(&found, until) {
                        return outcome;
                    }
                }
                Ok(_) => return Err(manager.not_found(&self.name)),
                // It was there before: an API server that is away comes back.
                Err(Error::Unavailable(_)) => {}
                Err(error) => return Err(error),
            }
            changes.within(LOOK_AGAIN).await;
        }
    }

    /// What came of it by the credential as it is now; `None`: nothing yet.
    fn outcome(
        &self,
        found: &IntegrationCredential,
        until: Timestamp,
    ) -> Option<Result<Refreshed, Error>> {
        let status = found.status.as_ref()?;
        if !self.is_handled(found, status) {
            let is_suspended = found.spec.suspend;
            return is_suspended.then(|| Err(self.manager.suspended(&self.name)));
        }
        let generation = known_generation(Some(status));
        let failed = status.refresh.as_ref().is_some_and(|r| r.failures > 0);
        let ready = condition(status, READY).is_some_and(|c| c.status == "True");
        // What was copied is what there is.
        let same = self.copied && generation == self.generation && !failed && ready;
        if generation > self.generation || same {
            let token = status.token.as_ref();
            let expires_at = token.and_then(|t| t.expiration_time.as_ref()).map(|t| t.0);
            return Some(Ok(Refreshed {
                generation,
                expires_at,
            }));
        }
        if let Some(stalled) = self.manager.stalled(&self.name, status) {
            return Some(Err(stalled));
        }
        let refresh = status.refresh.as_ref()?;
        let last = refresh.last_error.as_ref()?;
        let next = refresh.next_attempt_time.as_ref();
        if next.is_some_and(|at| at.0 <= until) {
            return None;
        }
        let message = trouble(status).map_or_else(String::new, |c| c.message.clone());
        let next = next.map_or_else(String::new, |at| format!(" (not before {:.0})", at.0));
        Some(Err(Error::RefreshFailed {
            namespace: self.manager.inner.namespace.clone(),
            name: self.name.clone(),
            reason: last.reason.clone(),
            message: message + &next,
        }))
    }

    /// Whether the operator has acted upon this request, or upon one that replaced it.
    fn is_handled(&self, found: &IntegrationCredential, status: &CredentialStatus) -> bool {
        let Way::Annotation {
            value,
            handled_before,
        } = &self.way
        else {
            return true;
        };
        let handled = handled(status);
        let is_replaced = found.annotations().get(REFRESH_REQUESTED) != Some(value);
        handled == Some(value) || (is_replaced && handled != handled_before.as_ref())
    }

    async fn in_vain(&self, waited: Duration) -> Error {
        let manager = &self.manager;
        let found = manager.find(&self.name).await.ok().flatten();
        let status = found.as_ref().and_then(|found| found.status.as_ref());
        let is_handled = match (&found, status) {
            (Some(found), Some(status)) => self.is_handled(found, status),
            _ => false,
        };
        let what = "no newer token";
        if is_handled {
            manager.waited_in_vain(&self.name, what, waited).await
        } else {
            // What the status says is from before the request.
            manager.timeout(&self.name, what, waited).await
        }
    }
}

fn handled(status: &CredentialStatus) -> Option<&String> {
    status.refresh.as_ref()?.last_handled_request.as_ref()
}
