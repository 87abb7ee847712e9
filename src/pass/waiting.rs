//! Waiting for a turn at the provider, and what is done meanwhile.

use std::{sync::Arc, time::Duration};

use kube::ResourceExt;

use super::{LONGEST_SLEEP, Pass};
use crate::{
    api::IntegrationCredential,
    asked::Asked,
    clock,
    context::{Context, SOON},
    lock::observer::GateSight,
    oauth::traffic::Turn,
    plan::{Seen, known_generation},
    provider::{Found, Resolved, request_hash},
    refresh::turn::{refreshed, too_soon, waits_because},
    status,
};

impl Context {
    /// How long a credential waits still that has waited before, and of which it is said why; nothing is read for it.
    pub(super) async fn still_waits(
        &self,
        credential: &IntegrationCredential,
        found: &Found,
        asked: &Asked,
    ) -> Option<Duration> {
        // Where nothing is said of it, it asks again, and says why it waits.
        let status = credential.status.as_ref();
        let is_said = status.is_some_and(|s| status::condition(s, status::RECONCILING).is_some());
        if !is_said || asked.is_now(credential) {
            return None;
        }
        let about = || request_hash(found, credential);
        let uid = credential.uid().unwrap_or_default();
        let pause = self.tools.lanes.waits(&uid, about)?;
        Some(self.wait(credential, pause, None).await)
    }

    /// How long it must wait before its request; `None`: it is its turn.
    pub(super) async fn must_wait(
        &self,
        credential: &IntegrationCredential,
        resolved: &Resolved,
        asked: &Asked,
        turn: &Turn,
    ) -> Option<Duration> {
        let now = clock::now();
        if let Some(pause) = too_soon(credential, &resolved.description, asked, now) {
            return Some(self.wait(credential, pause, None).await);
        }
        let all = || self.caches.credentials.state();
        turn.catch_up(|scope| refreshed(credential, scope, &all(), now));
        let (pause, why) = turn.take().err()?;
        tracing::debug!(?pause, reason = ?why, "not its turn yet");
        let why = waits_because(why, credential, resolved);
        Some(self.wait(credential, pause, Some(&why)).await)
    }

    /// Waits for a turn: tells people, once, where it takes long. Returns when to look again; a token that
    /// expires meanwhile is told of too.
    async fn wait(
        &self,
        credential: &IntegrationCredential,
        pause: Duration,
        why: Option<&str>,
    ) -> Duration {
        const SHORT: Duration = Duration::from_secs(5);
        let now = clock::now();
        let why = why.filter(|_| pause > SHORT);
        if let Some(status) = status::waiting(credential, why, now)
            && self.write_and_tell(credential, &status).await.is_err()
        {
            return pause.min(SOON);
        }
        let token = credential.status.as_ref().and_then(|s| s.token.as_ref());
        let expiry = token.and_then(|t| t.expiration_time.as_ref());
        let left = expiry.and_then(|at| Duration::try_from(at.0.duration_since(now)).ok());
        let left = left.filter(|left| !left.is_zero());
        pause.min(left.unwrap_or(pause)).min(LONGEST_SLEEP)
    }

    /// What can be done for a credential that waits for its turn: waiting is no reason to leave a gate closed that nobody
    /// keeps, or a target as somebody changed it.
    pub async fn meanwhile(
        &self,
        credential: &Arc<IntegrationCredential>,
        found: Option<Found>,
        gate: GateSight,
        target: Seen,
    ) -> Option<Pass> {
        let uid = credential.uid().unwrap_or_default();
        if !self.tools.lanes.is_waiting(&uid) {
            return None;
        }
        if gate == GateSight::Stuck {
            let asked = Asked {
                only_open: true,
                ..Asked::default()
            };
            return Box::pin(self.refresh(credential, found, asked)).await.ok();
        }
        let has_grant = !credential.oauth2().grant_type.is_machine();
        let has_token = known_generation(credential.status.as_ref()) > 0;
        if has_grant && has_token && target != Seen::Unchanged {
            return self.repair(credential, found.as_ref()).await;
        }
        None
    }
}
