//! Asking for a refresh, and waiting for the token that it brings.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, ResourceExt};
use tokio_util::sync::DropGuard;
use uuid::Uuid;

use super::{
    CredentialManager, Credentials, Error, Target, edit::secret_right, held::lease_right, lock,
};
use crate::{
    clock::{self, Moment},
    lock::{lease::Leases, protocol::Durations, wire},
    request::{RequestError, bounded},
};

/// How often is looked although nothing was told.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// A want that stands until this is dropped, or the operator has answered it.
pub(super) struct Want {
    _withdraw: DropGuard,
}

impl CredentialManager {
    /// Says that the token of this generation does not work or is about to expire.
    pub(super) async fn put_want(&self, name: &str, generation: u64) -> Result<String, Error> {
        let leases = Leases::new(&self.inner.client, &self.inner.namespace);
        let nonce = nonce();
        let claimant = self.claimant().await?;
        let want = claimant.want(name, &nonce, generation, clock::now());
        let mut pause = Duration::from_millis(50);
        loop {
            match leases.create(&want).await {
                // There already: an earlier try was stored, and not answered.
                Ok(_) | Err(RequestError::Conflict) => return Ok(wire::want_name(name, &nonce)),
                Err(RequestError::Unclear(_)) if pause < LOOK_AGAIN => {
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                }
                Err(error) => {
                    return Err(lease_right("create", name).error(error));
                }
            }
        }
    }

    /// The time of the API server, as it would note it on a want.
    async fn server_time(&self, name: &str) -> Option<Timestamp> {
        let claimant = self.claimant().await.ok()?;
        let want = claimant.want(name, &nonce(), 0, clock::now());
        let leases = Leases::new(&self.inner.client, &self.inner.namespace);
        let rehearsed = leases.rehearse(&want).await.ok()?;
        rehearsed.creation_timestamp().map(|created| created.0)
    }

    /// Puts a want that is taken back when it is dropped: nobody needs an answer then.
    async fn want(&self, name: &str, generation: u64) -> Result<Want, Error> {
        let want = self.put_want(name, generation).await?;
        let leases = Leases::new(&self.inner.client, &self.inner.namespace);
        let taken_back = lock(&self.inner.let_go).child_token();
        let withdraw = taken_back.clone().drop_guard();
        self.inner.tasks.spawn(async move {
            taken_back.cancelled().await;
            if let Err(error) = leases.release(&want, None).await {
                tracing::debug!(%error, lease = want, "want not taken back");
            }
        });
        Ok(Want {
            _withdraw: withdraw,
        })
    }

    /// Asks for a token after this generation and waits for it, as long as the caller does.
    pub(super) async fn wanted(&self, name: &str, generation: u64) -> Result<Credentials, Error> {
        let want = self.want(name, generation).await?;
        let token = self.newer_than(name, Some(generation)).await;
        drop(want);
        token
    }

    /// Waits for a token after this generation (any, for `None`), as long as the caller does.
    pub(crate) async fn newer_than(
        &self,
        name: &str,
        generation: Option<u64>,
    ) -> Result<Credentials, Error> {
        let mut target = self.target(name).await?;
        let mut changes = self.changes::<Secret>(&target.secret);
        loop {
            if let Some(token) = self.read(&target).await?
                && generation.is_none_or(|known| token.generation() > known)
            {
                return Ok(token);
            }
            let start = Moment::now();
            changes.within(LOOK_AGAIN).await;
            if Moment::now().elapsed(start) < LOOK_AGAIN {
                continue;
            }
            if let Some(obstacle) = self.obstacle(name, generation.is_none()).await {
                return Err(obstacle);
            }
            self.forget(name);
            let found = self.target(name).await?;
            if found.secret != target.secret {
                changes = self.changes::<Secret>(&found.secret);
            }
            target = found;
        }
    }

    /// The token in the target, where there is one.
    pub(super) async fn read(&self, target: &Target) -> Result<Option<Credentials>, Error> {
        match bounded(self.secrets().get(&target.secret)).await {
            Ok(secret) => Ok(Credentials::of(&secret, target)),
            Err(RequestError::NotFound | RequestError::Unclear(_)) => Ok(None),
            Err(error) => Err(secret_right("get", &target.secret).error(error)),
        }
    }

    /// Whether nobody wants anything any more by this want: the operator has answered it, or it has timed out.
    pub(super) async fn answered(&self, name: &str, want: &str) -> Result<(), Error> {
        let leases = Leases::new(&self.inner.client, &self.inner.namespace);
        loop {
            match leases.get(want).await {
                Ok(None) => return Ok(()),
                Ok(Some(_)) | Err(RequestError::Unclear(_)) => {}
                Err(error) => return Err(lease_right("get", name).error(error)),
            }
            tokio::time::sleep(LOOK_AGAIN / 4).await;
        }
    }

    /// The error where what is copied has expired: nobody can replace it but its user.
    pub(super) async fn expired(&self, name: &str) -> Error {
        let obstacle = self.obstacle(name, true).await;
        obstacle.unwrap_or_else(|| Error::Stalled {
            namespace: self.inner.namespace.clone(),
            name: name.to_owned(),
            reason: "Expired".to_owned(),
            message: "what was copied has expired; write what is new into its Secret, and its expirationTime into the credential".to_owned(),
        })
    }

    /// A token that is valid for a while, as [`Self::refresh_if_needed`], waiting at most `timeout` for it.
    ///
    /// # Errors
    /// As [`Self::refresh_if_needed`].
    pub async fn valid_token(&self, name: &str, timeout: Duration) -> Result<Credentials, Error> {
        let wait = async {
            let target = self.target(name).await?;
            let token = match self.read(&target).await? {
                Some(token) => token,
                None => {
                    self.forget(name);
                    self.newer_than(name, None).await?
                }
            };
            let enough = match token {
                Credentials::Token(_) => self.min_validity(name, &token).await,
                // Nobody replaces it in time.
                Credentials::Values(_) => Duration::ZERO,
            };
            if token.is_valid_for(enough, clock::now()) {
                return Ok(token);
            }
            // One's own clock may be wrong, and others use the token too.
            let now = self.server_time(name).await.unwrap_or_else(clock::now);
            if token.is_valid_for(enough, now) {
                return Ok(token);
            }
            if target.form.is_copied() {
                return Err(self.expired(name).await);
            }
            self.wanted(name, token.generation()).await
        };
        match tokio::time::timeout(timeout, wait).await {
            Ok(token) => token,
            Err(_) => Err(self.waited_in_vain(name, "no valid token", timeout).await),
        }
    }

    /// For how long a token is to be valid so that it need not be replaced: 30 s, or half of a hold where
    /// tokens live shortly.
    async fn min_validity(&self, name: &str, token: &Credentials) -> Duration {
        const LONGEST: Duration = Duration::from_secs(30);
        if token.is_valid_for(LONGEST, clock::now()) {
            return LONGEST;
        }
        let api: Api<_> = Api::namespaced(self.inner.client.clone(), &self.inner.namespace);
        let gate = bounded(api.get(&wire::gate_name(name))).await.ok();
        let fallback = Durations::scaled(None, Duration::MAX);
        let gate = gate.map(|gate| wire::read_gate(&gate, &fallback));
        gate.map_or(LONGEST, |gate| (gate.hold / 2).min(LONGEST))
    }
}

/// A name that nobody else has.
fn nonce() -> String {
    Uuid::new_v4().simple().to_string()[..16].to_owned()
}
