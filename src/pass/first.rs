//! The first look at a credential.

use std::{sync::Arc, time::Duration};

use futures::future::{join, try_join};
use kube::ResourceExt;

use crate::{
    api::IntegrationCredential,
    clock,
    context::{Context, SOON, retry},
    failure::Failure,
    refresh::{durations, mode},
    secret::{is_owned, target},
    status,
};

impl Context {
    /// Before anything is done for a credential, it gets a gate and a status: from then on a missing
    /// gate means that somebody deleted it.
    pub(super) async fn first_sight(
        &self,
        credential: &Arc<IntegrationCredential>,
    ) -> Result<Arc<IntegrationCredential>, Duration> {
        if credential.status.is_some() {
            return Ok(Arc::clone(credential));
        }
        let (current, history) = join(self.current(credential), self.has_history(credential)).await;
        // Where it has a status already, or is another one, the cache is behind and the event comes.
        let current = current.map_err(|error| retry(&error, "get the credential"))?;
        let current = current
            .filter(|current| current.status.is_none())
            .ok_or(SOON)?;
        let history = history.map_err(|failure| {
            let reason = failure.reason.as_str();
            tracing::warn!(reason, error = failure.message, "first look failed");
            SOON
        })?;
        let mut created = None;
        if !history {
            let durations = durations(credential, None, self.tools.exchange_timeout);
            let gate = self
                .tools
                .gates
                .create(credential, mode(credential), &durations)
                .await;
            created = gate.map_err(|error| retry(&error, "create the gate Lease"))?;
        }
        let status = status::first(credential, clock::now());
        // By its version: somebody else may have had the first look. An answer that got lost is no reason
        // to take the gate back: a missing one beside a status is waited for, for minutes.
        if self.write_status(&current, &status, true).await.is_err()
            && !self.has_first_status(&current).await
        {
            if let Some(created) = created {
                self.tools.gates.withdraw(credential, &created).await;
            }
            return Err(SOON);
        }
        let mut seen = IntegrationCredential::clone(credential);
        seen.status = Some(status);
        Ok(Arc::new(seen))
    }

    /// Whether the credential has a first status by now: this one, or that of another who had the first
    /// look at the same time and found the gate. Whoever has obtained a token has been here before.
    async fn has_first_status(&self, credential: &IntegrationCredential) -> bool {
        let current = self.current(credential).await.ok().flatten();
        let status = current.and_then(|current| current.status.clone());
        status.is_some_and(|status| status.token.is_none())
    }

    /// Whether there is a grant or a target from an earlier life of this very credential.
    async fn has_history(&self, credential: &IntegrationCredential) -> Result<bool, Failure> {
        let namespace = credential.namespace().unwrap_or_default();
        let uid = credential.uid().unwrap_or_default();
        let secrets = &self.tools.secrets;
        let grant = async {
            if credential.oauth2().grant_type.is_machine() {
                return Ok(None);
            }
            secrets.get(&namespace, &credential.grant_name()).await
        };
        let target_name = credential.target_name();
        let (grant, found) = try_join(grant, secrets.get(&namespace, &target_name)).await?;
        let has_grant = grant.is_some_and(|secret| is_owned(&secret, &uid));
        Ok(has_grant || found.is_some_and(|secret| target::is_ours(&secret, &uid)))
    }
}
