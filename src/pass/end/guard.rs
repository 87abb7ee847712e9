//! The finalizer follows the policy, long before the end.

use std::{sync::Arc, time::Duration};

use kube::{Api, ResourceExt, runtime::controller::Action};

use super::super::Pass;
use crate::{
    api::IntegrationCredential,
    cache::{LAG, Memory},
    clock::{self, Moment},
    context::Context,
    explain,
    failure::Failure,
    finalizer::{self, Beside, Change},
    status::{Report, Transition},
};

impl Context {
    /// What has to become of the finalizer; `None`: all is as the policy says.
    pub fn finalizer_change(&self, credential: &IntegrationCredential) -> Option<Change> {
        let is_on = finalizer::is_on(&credential.metadata);
        let grant = self.caches.grant(credential);
        let grant = grant.filter(|grant| {
            let uid = credential.uid().unwrap_or_default();
            !grant.is_going && grant.is_of(&uid)
        });
        let grant = grant.map(|grant| grant.is_guarded);
        if finalizer::is_wanted(credential) {
            (!is_on || grant == Some(false)).then_some(Change::Guard)
        } else {
            (is_on || grant == Some(true)).then_some(Change::Release)
        }
    }

    /// Changes the finalizers, before anything else is done for the credential; `None`: that goes on all the same.
    pub async fn follow_policy(
        &self,
        credential: &Arc<IntegrationCredential>,
        change: Change,
        memory: &Memory,
    ) -> Option<Action> {
        let is_first = credential.status.as_ref().is_none_or(|s| s.token.is_none());
        let now = clock::now();
        let left = memory.not_before.map(|at| at.duration_since(now));
        let left = left.and_then(|left| Duration::try_from(left).ok());
        if let (true, Some(left)) = (is_first, left.filter(|left| !left.is_zero())) {
            return Some(Action::requeue(left));
        }
        let Err(failure) = self.change_finalizer(credential, change).await else {
            // It goes on with what the watch brings.
            return Some(Action::requeue(LAG));
        };
        let reason = failure.reason.as_str();
        tracing::warn!(reason, error = failure.message, "finalizer not changed");
        // A token that is there is kept alive all the same.
        if is_first {
            Some(self.blocked(credential, failure).await)
        } else {
            None
        }
    }

    /// As [`Self::follow_policy`] while a pass over a credential with a token is under way: it may wait for holders for
    /// long, and what is to become of it at its end does not.
    pub async fn follow_policy_meanwhile(&self, credential: &IntegrationCredential) {
        let has_token = credential
            .status
            .as_ref()
            .is_some_and(|s| s.token.is_some());
        let Some(change) = self.finalizer_change(credential).filter(|_| has_token) else {
            return;
        };
        if let Err(failure) = self.change_finalizer(credential, change).await {
            let reason = failure.reason.as_str();
            tracing::warn!(reason, error = failure.message, "finalizer not changed");
        }
    }

    /// Puts the finalizer on the credential, its gate and its grant, in this order, or takes it off them, the
    /// credential's last: what has lost its credential is let go by nobody soon.
    ///
    /// # Errors
    /// The API server's refusal.
    async fn change_finalizer(
        &self,
        credential: &IntegrationCredential,
        change: Change,
    ) -> Result<(), Failure> {
        let own = change == Change::Guard;
        if own {
            self.change_own(credential, change).await?;
            self.warn_of_consent(credential).await;
        }
        let namespace = credential.namespace().unwrap_or_default();
        let uid = credential.uid().unwrap_or_default();
        for beside in Beside::ALL {
            let name = beside.name(&credential.name_any());
            let changed = beside
                .change(&self.client, &namespace, &name, &uid, change)
                .await;
            changed.map_err(|error| {
                error.failure(&format!(
                    "change the finalizers of {} {name}",
                    beside.kind()
                ))
            })?;
        }
        if !own {
            self.change_own(credential, change).await?;
        }
        tracing::info!(?change, "the finalizer follows the policy");
        Ok(())
    }

    /// A first token has to wait for the finalizer: what was obtained before could be left behind unrevoked.
    async fn blocked(&self, credential: &Arc<IntegrationCredential>, failure: Failure) -> Action {
        let credential = match self.first_sight(credential).await {
            Ok(credential) => credential,
            Err(pause) => return Action::requeue(pause),
        };
        let found = self.caches.provider(&credential);
        let inputs = self.caches.inputs(&credential, found.as_ref());
        let pass = Pass {
            report: Report {
                failure: Some(failure),
                ..Report::unchanged(&credential)
            },
            again: false,
            credential: Arc::clone(&credential),
        };
        self.conclude(pass, self.recall(&credential), inputs).await
    }

    async fn change_own(
        &self,
        credential: &IntegrationCredential,
        change: Change,
    ) -> Result<(), Failure> {
        let namespace = credential.namespace().unwrap_or_default();
        let uid = credential.uid().unwrap_or_default();
        let api: Api<IntegrationCredential> = Api::namespaced(self.client.clone(), &namespace);
        let name = credential.name_any();
        let changed = finalizer::change(&api, &name, &uid, change).await;
        let version = changed.map_err(|error| {
            error.failure(&format!("change the finalizers of credential {name}"))
        })?;
        if version.is_some() {
            // What the cache still shows is older.
            let mut memory = self.recall(credential);
            memory.status_version = version;
            memory.status_written = Some(Moment::now());
            self.remember(credential, memory);
        }
        Ok(())
    }

    async fn warn_of_consent(&self, credential: &IntegrationCredential) {
        let found = self.caches.provider(credential);
        let description = found.and_then(|found| found.description);
        let revocation = description.and_then(|description| description.revocation);
        if finalizer::is_on(&credential.metadata)
            || revocation.is_none_or(|revocation| revocation.ends_consent != Some(true))
        {
            return;
        }
        let warning = Transition {
            warning: true,
            reason: "RevocationEndsConsent",
            message: explain::ends_consent(credential),
        };
        self.tell_of("Revoke", credential, &warning).await;
    }
}
