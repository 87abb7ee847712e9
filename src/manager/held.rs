//! Holding a credential.

use std::{sync::Arc, time::Duration};

use tokio::sync::{Notify, oneshot, watch};
use tokio_util::sync::DropGuard;

use super::{
    AccessToken, AcquireOptions, CredentialManager, Credentials, Error, Right, edit::secret_right,
    is_open, lock, mode_name,
};
use crate::{
    clock::Moment,
    lock::{
        hold::{Claim, Granted, Refusal, Standing, hold},
        wire::WANT_DURATION,
    },
};

/// A credential in use: no refresh ends its token, until this is released, dropped or lost.
///
/// It renews itself in the background. Dropping it releases it, in the background; [`Hold::release`] also
/// waits for that.
pub struct Hold {
    namespace: String,
    name: String,
    held: Credentials,
    standing: watch::Receiver<Standing>,
    look: Arc<Notify>,
    drain_grace: Duration,
    let_go: DropGuard,
}

impl Hold {
    /// What the credential gives. To be asked for before each use, so that a hold that was lost is noticed. There is nothing
    /// to wait for, except after the wall clock was set or the machine paused: then the hold is renewed first,
    /// to see that it is still there.
    ///
    /// # Errors
    /// [`Error::Lost`].
    pub async fn credentials(&self) -> Result<&Credentials, Error> {
        if self.is_valid() {
            return Ok(&self.held);
        }
        self.look.notify_one();
        let mut standing = self.standing.clone();
        let settled = standing.wait_for(|s| s.lost || s.may_use()).await;
        if settled.is_ok_and(|standing| !standing.lost) {
            Ok(&self.held)
        } else {
            Err(self.lost_error())
        }
    }

    /// The token of a credential of kind oauth2, as [`Self::credentials`].
    ///
    /// # Errors
    /// [`Error::Lost`], [`Error::NoToken`].
    pub async fn token(&self) -> Result<&AccessToken, Error> {
        let held = self.credentials().await?;
        held.token().ok_or_else(|| Error::NoToken {
            namespace: self.namespace.clone(),
            name: self.name.clone(),
        })
    }

    /// The generation of the token.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.held.generation()
    }

    /// Whether the token may be used now, by this process's own clock.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.standing.borrow().may_use()
    }

    /// Resolves when a refresh waits for this hold, or it is lost: finish what is under way and release it
    /// within the drain grace. At once, where that is so already.
    pub async fn draining(&self) {
        let mut standing = self.standing.clone();
        let _ = standing.wait_for(|s| s.draining || s.lost).await;
    }

    /// Whether a refresh waits for this hold now. It may have been given up since [`Self::draining`] resolved.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.standing.borrow().draining
    }

    /// For how long the hold is renewed once a refresh waits for it, by its gate when it was acquired.
    #[must_use]
    pub fn drain_grace(&self) -> Duration {
        self.drain_grace
    }

    /// Resolves when the hold is lost: the token must not be used any more.
    pub async fn lost(&self) {
        let mut standing = self.standing.clone();
        // The task that renews it ends only with the hold; if it is gone otherwise, so is the hold.
        let _ = standing.wait_for(|s| s.lost).await;
    }

    /// Releases the hold and waits until that is done, or the API server does not answer.
    pub async fn release(self) {
        let Self {
            mut standing,
            let_go,
            ..
        } = self;
        drop(let_go);
        // The task is over when it drops its end.
        while standing.changed().await.is_ok() {}
    }

    /// The error of a hold that is lost.
    fn lost_error(&self) -> Error {
        Error::Lost {
            namespace: self.namespace.clone(),
            name: self.name.clone(),
        }
    }
}

impl CredentialManager {
    /// Acquires a credential, as [`Self::acquire`], on these terms.
    ///
    /// # Errors
    /// As [`Self::acquire`], and [`Error::WrongMode`].
    pub async fn acquire_with(&self, name: &str, options: &AcquireOptions) -> Result<Hold, Error> {
        let timeout = options.timeout;
        match tokio::time::timeout(timeout, self.hold(name, options)).await {
            Ok(result) => result,
            Err(_) => {
                // What is remembered may be what was wrong.
                self.forget(name);
                Err(self.waited_in_vain(name, "not acquired", timeout).await)
            }
        }
    }

    async fn hold(&self, name: &str, options: &AcquireOptions) -> Result<Hold, Error> {
        let mut min_validity = options.min_validity;
        loop {
            let let_go = lock(&self.inner.let_go).child_token();
            let (sender, receiver) = oneshot::channel();
            let claim = Claim {
                client: self.inner.client.clone(),
                namespace: self.inner.namespace.clone(),
                credential: name.to_owned(),
                target: self.target(name).await?,
                claimant: self.claimant().await?,
                mode: options.mode,
                min_validity,
                memory: self.memory(name),
            };
            self.inner.tasks.spawn(hold(claim, let_go.clone(), sender));
            // A caller that gives up lets go of what it may have by then.
            let guard = let_go.clone().drop_guard();
            let granted = tokio::select! {
                granted = receiver => granted,
                obstacle = self.watched_obstacle(name) => return Err(obstacle),
            };
            match granted {
                Ok(Ok(granted)) => return Ok(self.granted(name, granted, guard)),
                Ok(Err(Refusal::Expiring(_))) if self.target(name).await?.form.is_copied() => {
                    return Err(self.expired(name).await);
                }
                Ok(Err(Refusal::Expiring(generation))) => {
                    self.wanted(name, generation).await?;
                    // There is no newer one, however soon it expires.
                    min_validity = Some(Duration::ZERO);
                }
                // Deleted and made anew since it was looked up.
                Ok(Err(Refusal::Another)) => self.forget(name),
                Ok(Err(Refusal::WrongMode(has))) => {
                    return Err(Error::WrongMode {
                        namespace: self.inner.namespace.clone(),
                        name: name.to_owned(),
                        has: mode_name(has),
                        wanted: options.mode.map_or("", mode_name),
                    });
                }
                Ok(Err(Refusal::Lease(verb, error))) => {
                    self.forget(name);
                    return Err(lease_right(verb, name).error(error));
                }
                Ok(Err(Refusal::Secret(secret, error))) => {
                    return Err(secret_right("get", &secret).error(error));
                }
                // Everything was released meanwhile.
                Err(_) => {
                    return Err(Error::Lost {
                        namespace: self.inner.namespace.clone(),
                        name: name.to_owned(),
                    });
                }
            }
        }
    }

    fn granted(&self, name: &str, granted: Granted, let_go: DropGuard) -> Hold {
        let drain_grace = granted.gate.as_ref().map(|gate| gate.drain_grace);
        if let Some(gate) = granted.gate.filter(is_open) {
            self.remember(name, gate);
        }
        Hold {
            namespace: self.inner.namespace.clone(),
            name: name.to_owned(),
            held: granted.token,
            standing: granted.standing,
            look: granted.look,
            drain_grace: drain_grace.unwrap_or_default(),
            let_go,
        }
    }

    /// Resolves when the credential turns out to be gone or stalled without a gate to pass.
    async fn watched_obstacle(&self, name: &str) -> Error {
        const EVERY: Duration = Duration::from_secs(3);
        loop {
            tokio::time::sleep(EVERY).await;
            if let Some(obstacle) = self.obstacle(name, true).await {
                return obstacle;
            }
        }
    }

    /// Says that the token of `hold` does not work (the API behind it answered 401): lets go of it, and asks
    /// for a refresh of exactly that generation. Where that is not the current one any more, nothing happens.
    ///
    /// # Errors
    /// [`Error::Forbidden`], [`Error::Unavailable`].
    pub async fn report_rejected(&self, hold: Hold) -> Result<(), Error> {
        let (name, generation) = (hold.name.clone(), hold.generation());
        hold.release().await;
        let said = |(known, at): &(u64, Moment)| {
            *known == generation && Moment::now().elapsed(*at) < WANT_DURATION
        };
        // Once is enough.
        if lock(&self.inner.reported).get(&name).is_some_and(said) {
            return Ok(());
        }
        self.put_want(&name, generation).await?;
        lock(&self.inner.reported).insert(name, (generation, Moment::now()));
        Ok(())
    }
}

/// The rule for a verb on the Leases of a credential.
pub(super) fn lease_right<'a>(verb: &'a str, credential: &'a str) -> Right<'a> {
    Right {
        verb,
        group: "coordination.k8s.io",
        resource: "leases",
        name: None,
        credential: Some(credential),
    }
}
