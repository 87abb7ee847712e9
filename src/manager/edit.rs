//! Creating, changing and deleting credentials.

mod new;

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Resource, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions, PropagationPolicy},
};
use serde_json::{Value, json};

pub use self::new::{NewCredential, NewKind, Seed};
use super::{CredentialManager, DEFAULT_TIMEOUT, Error, Right, right};
use crate::{
    api::{IntegrationCredential, WATCH_LABEL},
    request::{RequestError, bounded},
    status::{SEED_REJECTED, condition},
};

/// How often is looked although nothing was told.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// What is said of when something new expires.
enum Expiry {
    /// What was said before.
    AsItIs,
    /// Then; `None`: nobody knows.
    At(Option<Timestamp>),
}

impl CredentialManager {
    /// Creates a credential and the Secret that it is made from (`NAME-seed`, or `NAME-source` where that is
    /// copied), which goes with it. Returns when both are stored; the token, or the copy, comes after that:
    /// see [`Self::get`]. Once begun it goes on to its end, also
    /// where the caller does not wait for it.
    ///
    /// # Errors
    /// [`Error::AlreadyExists`], [`Error::Refused`], [`Error::Forbidden`], [`Error::Unavailable`].
    pub async fn create(&self, new: &NewCredential) -> Result<IntegrationCredential, Error> {
        let (manager, new) = (self.clone(), new.clone());
        let name = new.name.clone();
        let created = tokio::spawn(async move { manager.create_both(&new).await });
        let failed = |_| Err(Error::Unavailable(format!("create credential {name}")));
        created.await.unwrap_or_else(failed)
    }

    /// The credential first, so that its seed belongs to it from the beginning.
    async fn create_both(&self, new: &NewCredential) -> Result<IntegrationCredential, Error> {
        let object = new.object();
        let params = PostParams::default();
        let created = match bounded(self.credentials().create(&params, &object)).await {
            Ok(created) => created,
            Err(RequestError::Conflict) => {
                return Err(Error::AlreadyExists {
                    kind: "IntegrationCredential",
                    namespace: self.namespace().to_owned(),
                    name: new.name.clone(),
                });
            }
            Err(RequestError::Unclear(error)) => {
                // Stored or not? One that is exactly what was asked for will do.
                match self.find(&new.name).await? {
                    Some(found) if found.spec == object.spec => found,
                    _ => {
                        let unclear = RequestError::Unclear(error);
                        return Err(right("create", &new.name).error(unclear));
                    }
                }
            }
            Err(error) => return Err(right("create", &new.name).error(error)),
        };
        if let (Some(seed), Some(name)) = (new.kind.seed(), object.made_from())
            && let Err(error) = self.create_seed(name, &seed, &created).await
        {
            self.take_back(&created).await;
            return Err(error);
        }
        Ok(created)
    }

    async fn create_seed(
        &self,
        name: &str,
        seed: &Seed,
        of: &IntegrationCredential,
    ) -> Result<Secret, Error> {
        let mut secret = Secret::default();
        secret.metadata.name = Some(name.to_owned());
        secret.metadata.labels = Some([(WATCH_LABEL.to_owned(), "true".to_owned())].into());
        secret.metadata.owner_references = of.owner_ref(&()).map(|owner| vec![owner]);
        secret.string_data = Some(seed.data(of)?);
        let created = self.secrets();
        match bounded(created.create(&PostParams::default(), &secret)).await {
            Ok(created) => Ok(created),
            Err(RequestError::Conflict) => Err(Error::AlreadyExists {
                kind: "Secret",
                namespace: self.namespace().to_owned(),
                name: name.to_owned(),
            }),
            Err(error) => Err(secret_right("create", name).error(error)),
        }
    }

    async fn take_back(&self, created: &IntegrationCredential) {
        let params = DeleteParams::default().preconditions(Preconditions {
            uid: created.uid(),
            resource_version: None,
        });
        let taken = bounded(self.credentials().delete(&created.name_any(), &params)).await;
        if let Err(error) = taken {
            let credential = created.full_name();
            tracing::warn!(%error, credential, "a credential without its seed not taken back");
        }
    }

    /// Hands over something new. A new authorization is adopted behind the gate with priority `update`, when the
    /// provider accepts it; what is copied, is copied. Waits until that is decided.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::SeedRejected`], [`Error::Refused`], and as [`Self::get`].
    pub async fn update(&self, name: &str, seed: &Seed) -> Result<(), Error> {
        self.hand_over(name, seed, Expiry::AsItIs).await
    }

    /// As [`Self::update`], for what is copied and expires then; `None`: nobody knows when. The Secret is written
    /// first, so that no old value is ever taken for one that is valid for longer.
    ///
    /// # Errors
    /// As [`Self::update`].
    pub async fn update_until(
        &self,
        name: &str,
        seed: &Seed,
        expires_at: Option<Timestamp>,
    ) -> Result<(), Error> {
        self.hand_over(name, seed, Expiry::At(expires_at)).await
    }

    async fn hand_over(&self, name: &str, seed: &Seed, expiry: Expiry) -> Result<(), Error> {
        let found = self.find(name).await?;
        let found = found.ok_or_else(|| self.not_found(name))?;
        let Some(reference) = found.made_from() else {
            return Err(Error::Refused(format!(
                "{}/{name} has no seed: its token is obtained with the client of the provider object",
                self.namespace()
            )));
        };
        let data = seed.data(&found)?;
        let change = match seed {
            // All that is there is a header.
            Seed::Headers(_) => json!({"data": null, "stringData": data}),
            _ => json!({"stringData": data}),
        };
        let change = Patch::Merge(change);
        let params = PatchParams::default();
        let stored = match bounded(self.secrets().patch(reference, &params, &change)).await {
            Ok(stored) => stored,
            Err(RequestError::NotFound) => self.create_seed(reference, seed, &found).await?,
            Err(error) => return Err(secret_right("patch", reference).error(error)),
        };
        if let Expiry::At(expires_at) = expiry {
            self.restate(&found, expires_at).await?;
        }
        if found.copied().is_some() {
            return self.copied(name, stored.resource_version()).await;
        }
        let decided = self.decided(name, stored.resource_version());
        match tokio::time::timeout(DEFAULT_TIMEOUT, decided).await {
            Ok(decided) => decided,
            Err(_) => {
                let what = "the new authorization was not adopted";
                Err(self.waited_in_vain(name, what, DEFAULT_TIMEOUT).await)
            }
        }
    }

    /// Writes another expiry into the credential.
    async fn restate(
        &self,
        found: &IntegrationCredential,
        expires_at: Option<Timestamp>,
    ) -> Result<(), Error> {
        let Some(kind) = found.copied() else {
            return Err(Error::Refused(
                "when a token expires is said by its provider, not by its user".to_owned(),
            ));
        };
        let at = expires_at.map_or(Value::Null, |at| json!(format!("{at:.0}")));
        let patch = json!({"metadata": {"uid": found.uid()},
            "spec": {kind.field(): {"expirationTime": at}}});
        let name = found.name_any();
        let params = PatchParams::default();
        match bounded(
            self.credentials()
                .patch(&name, &params, &Patch::Merge(patch)),
        )
        .await
        {
            Ok(_) => Ok(()),
            Err(RequestError::NotFound) => Err(self.not_found(&name)),
            Err(error) => Err(right("patch", &name).error(error)),
        }
    }

    /// Waits until the operator has copied this version of the Secret that was written. It is asked to, because it
    /// need not write anything where it sees by itself that nothing is new.
    async fn copied(&self, name: &str, version: Option<String>) -> Result<(), Error> {
        /// A request that was joined may have been for an earlier look.
        const TRIES: usize = 3;
        for _ in 0..TRIES {
            let request = self.request_refresh(name).await?;
            request.done(DEFAULT_TIMEOUT).await?;
            let found = self.find(name).await?;
            let found = found.ok_or_else(|| self.not_found(name))?;
            let source = found.status.and_then(|s| s.source?.resource_version);
            if is_at_least(source.as_deref(), version.as_deref()) {
                break;
            }
        }
        Ok(())
    }

    /// Waits until the operator has made something of this version of the seed.
    async fn decided(&self, name: &str, version: Option<String>) -> Result<(), Error> {
        let mut changes = self.changes::<IntegrationCredential>(name);
        loop {
            let found = self.find(name).await?;
            let found = found.ok_or_else(|| self.not_found(name))?;
            let status = found.status.unwrap_or_default();
            let looked_at = status
                .grant
                .as_ref()
                .and_then(|g| g.seed_resource_version.clone());
            if is_at_least(looked_at.as_deref(), version.as_deref()) {
                if let Some(rejected) = condition(&status, SEED_REJECTED) {
                    return Err(Error::SeedRejected(rejected.message.clone()));
                }
                return match self.obstacle(name, true).await {
                    Some(obstacle) => Err(obstacle),
                    None => Ok(()),
                };
            }
            changes.within(LOOK_AGAIN).await;
        }
    }

    /// Deletes a credential with everything that was made for it, and waits until it is gone. Whether there
    /// was one.
    ///
    /// # Errors
    /// [`Error::Forbidden`], [`Error::Timeout`], [`Error::Unavailable`].
    pub async fn delete(&self, name: &str) -> Result<bool, Error> {
        self.forget(name);
        let params = DeleteParams {
            propagation_policy: Some(PropagationPolicy::Background),
            ..DeleteParams::default()
        };
        match bounded(self.credentials().delete(name, &params)).await {
            Ok(_) => {}
            Err(RequestError::NotFound) => return Ok(false),
            Err(error) => return Err(right("delete", name).error(error)),
        }
        let gone = async {
            let mut changes = self.changes::<IntegrationCredential>(name);
            while self.exists(name).await? {
                changes.within(LOOK_AGAIN).await;
            }
            Ok(true)
        };
        match tokio::time::timeout(DEFAULT_TIMEOUT, gone).await {
            Ok(gone) => gone,
            Err(_) => Err(self.waited_in_vain(name, "not gone", DEFAULT_TIMEOUT).await),
        }
    }
}

/// Whether a version of an object is this one or a later one: versions are numbers that grow.
fn is_at_least(found: Option<&str>, wanted: Option<&str>) -> bool {
    let number = |version: Option<&str>| version.and_then(|v| v.parse::<u64>().ok());
    found.is_some() && (found == wanted || number(found) > number(wanted))
}

/// The rule for a verb on one Secret.
pub(crate) fn secret_right<'a>(verb: &'a str, name: &'a str) -> Right<'a> {
    Right {
        verb,
        group: "",
        resource: "secrets",
        name: Some(name),
        credential: None,
    }
}
