//! Reading and writing the Secrets of a credential on the API server.

use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client, ResourceExt, api::PostParams};
use secrecy::SecretString;

use super::{
    Token,
    grant::{Grant, GrantError, Merge, merge},
    is_owned, target,
};
use crate::{
    api::IntegrationCredential,
    clock::Moment,
    failure::{Failure, Reason},
    request::{RequestError, bounded, optional},
};

/// How often a write of the target that lost a race is tried again.
const TRIES: u32 = 5;

/// How long a grant is tried to be stored that the API server clearly refuses.
const REFUSED_FOR: Duration = Duration::from_secs(120);

/// The Secrets as this process reads and writes them. Nothing is cached: a stale Secret is how
/// refresh tokens get lost.
#[derive(Clone)]
pub struct Secrets {
    client: Client,
}

/// What stands in a target after it was published.
pub struct Published {
    /// The target's version.
    pub resource_version: Option<String>,
    /// Whether something had to be written.
    pub written: bool,
}

/// A grant as it was read before an exchange, and the exchange that it is now to record.
pub struct Exchanged<'a> {
    /// The Secret as read; `None`: there was none.
    pub base: Option<&'a Secret>,
    /// The generation as read; 0: there was none.
    pub base_generation: u64,
    /// The highest generation that is known of; the grant may have been lost or put back.
    pub known_generation: u64,
    /// The refresh token that was presented.
    pub spent: &'a SecretString,
    /// Whether it was a seed's.
    pub adopting: bool,
    /// The grant that came of it.
    pub ours: Grant,
}

impl Secrets {
    /// The Secrets that `client` may see.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    fn api(&self, namespace: &str) -> Api<Secret> {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// Reads one, from the quorum.
    ///
    /// # Errors
    /// When the API server does not answer, or refuses.
    pub async fn get(&self, namespace: &str, name: &str) -> Result<Option<Secret>, Failure> {
        optional(self.api(namespace).get(name))
            .await
            .map_err(|error| error.failure(&format!("get Secret {name}")))
    }

    /// Writes the target, unless it holds this token already. Refuses to touch a Secret that was not
    /// made for the credential, and to go back to an older token.
    ///
    /// # Errors
    /// `TargetConflict`, `TargetNotPublished`, or the API server's refusal.
    pub async fn publish(
        &self,
        credential: &IntegrationCredential,
        token: &Token,
        request_hash: &str,
    ) -> Result<Published, Failure> {
        let namespace = credential.namespace().unwrap_or_default();
        let api = self.api(&namespace);
        let name = credential.target_name();
        let params = PostParams::default();
        let mut last = None;
        for _ in 0..TRIES {
            let found = self.get(&namespace, &name).await?;
            if let Some(found) = &found {
                if !is_owned(found, &credential.uid().unwrap_or_default()) {
                    return Err(target_conflict(&namespace, &name));
                }
                let newer = target::read(found).is_some_and(|t| t.generation > token.generation);
                let wanted = target::render(token, request_hash, credential, Some(found));
                if newer || target::is_same(&wanted, found) {
                    return Ok(Published {
                        resource_version: found.resource_version(),
                        written: false,
                    });
                }
            }
            let wanted = target::render(token, request_hash, credential, found.as_ref());
            // A missing target is created, never applied: an apply would take over a Secret that
            // somebody else has just created under this name.
            let answer = if found.is_some() {
                bounded(api.replace(&name, &params, &wanted)).await
            } else {
                bounded(api.create(&params, &wanted)).await
            };
            match answer {
                Ok(stored) => {
                    return Ok(Published {
                        resource_version: stored.resource_version(),
                        written: true,
                    });
                }
                Err(error) => last = Some(error),
            }
            if matches!(last, Some(RequestError::Refused(_))) {
                break;
            }
        }
        let why = last
            .map(|error| error.failure(&format!("write Secret {name}")).message)
            .unwrap_or_default();
        Err(Failure::new(
            Reason::TargetNotPublished,
            format!("the token could not be written to Secret {namespace}/{name}: {why}"),
        ))
    }

    /// Whether the target's name is free or ours: asked before a first refresh token is spent for it.
    ///
    /// # Errors
    /// `TargetConflict`, or the API server's refusal.
    pub async fn check_target(&self, credential: &IntegrationCredential) -> Result<(), Failure> {
        let namespace = credential.namespace().unwrap_or_default();
        let name = credential.target_name();
        match self.get(&namespace, &name).await? {
            Some(found) if !is_owned(&found, &credential.uid().unwrap_or_default()) => {
                Err(target_conflict(&namespace, &name))
            }
            _ => Ok(()),
        }
    }

    /// Stores what an exchange brought, and does not give up: the old refresh token is spent. Goes on
    /// whoever holds the gate by now; the merge rule decides what stands where the grant has changed.
    ///
    /// # Errors
    /// When the API server clearly refused for two minutes.
    pub async fn persist(
        &self,
        credential: &IntegrationCredential,
        exchanged: Exchanged<'_>,
    ) -> Result<Grant, Failure> {
        let namespace = credential.namespace().unwrap_or_default();
        let api = self.api(&namespace);
        let name = credential.grant_name();
        let params = PostParams::default();
        let Exchanged {
            base,
            base_generation,
            known_generation,
            spent,
            adopting,
            mut ours,
        } = exchanged;
        let next = |generation: u64| generation.max(known_generation).saturating_add(1);
        let mut replaces = base.cloned();
        ours.token.generation = next(base_generation);
        let start = Moment::now();
        let mut pause = Duration::from_millis(50);
        loop {
            let wanted = ours.render(credential, replaces.as_ref());
            let answer = if replaces.is_some() {
                bounded(api.replace(&name, &params, &wanted)).await
            } else {
                bounded(api.create(&params, &wanted)).await
            };
            let Err(error) = answer else {
                return Ok(ours);
            };
            let refused = matches!(error, RequestError::Refused(_));
            let failure = error.failure(&format!("store the new refresh token in Secret {name}"));
            tracing::warn!(
                reason = failure.reason.as_str(),
                message = failure.message,
                "grant not stored yet"
            );
            if refused && Moment::now().elapsed(start) > REFUSED_FOR {
                return Err(failure);
            }
            // Not refused: lost a race, or nobody knows. What is stored now decides.
            if let Ok(found) = optional(api.get(&name)).await {
                if let Some(found) = &found {
                    match Grant::read(found, &credential.uid().unwrap_or_default()) {
                        Ok(stored) => match merge(&ours, spent, adopting, base_generation, &stored)
                        {
                            Merge::Stored | Merge::Drop => return Ok(stored),
                            Merge::Write(over) => ours.token.generation = next(over),
                        },
                        // Edited into nonsense: what the provider gave us replaces it.
                        Err(GrantError::Value(..)) => {}
                        // Never overwrite what is not ours; it may be taken away in time.
                        Err(GrantError::Foreign) if Moment::now().elapsed(start) > REFUSED_FOR => {
                            return Err(grant_conflict(&namespace, &name));
                        }
                        Err(GrantError::Foreign) => {
                            pause = wait(pause).await;
                            continue;
                        }
                    }
                }
                replaces = found;
            }
            pause = wait(pause).await;
        }
    }

    /// Notes in the grant that a seed was refused, so that it is not presented again.
    ///
    /// # Errors
    /// When the API server does not answer, refuses, or the grant changed meanwhile.
    pub async fn note_refused(
        &self,
        credential: &IntegrationCredential,
        stored: &Secret,
        grant: &mut Grant,
        fingerprint: &str,
    ) -> Result<(), Failure> {
        grant.remember(fingerprint, false);
        let name = credential.grant_name();
        let wanted = grant.render(credential, Some(stored));
        let api = self.api(&credential.namespace().unwrap_or_default());
        bounded(api.replace(&name, &PostParams::default(), &wanted))
            .await
            .map(drop)
            .map_err(|error| error.failure(&format!("update Secret {name}")))
    }
}

async fn wait(pause: Duration) -> Duration {
    tokio::time::sleep(pause).await;
    (pause * 2).min(Duration::from_secs(5))
}

fn target_conflict(namespace: &str, name: &str) -> Failure {
    Failure::new(
        Reason::TargetConflict,
        format!(
            "Secret {namespace}/{name} exists and was not made for this credential; it is left as it is. Delete it (kubectl -n {namespace} delete secret {name}) or create a credential with another spec.target.name"
        ),
    )
}

/// A Secret that is not ours stands where the grant belongs.
#[must_use]
pub fn grant_conflict(namespace: &str, name: &str) -> Failure {
    Failure::new(
        Reason::TargetConflict,
        format!(
            "Secret {namespace}/{name} exists and was not made for this credential; it is left as it is, and no refresh token can be stored. It goes away by itself where a credential of this name was deleted just now; otherwise delete it: kubectl -n {namespace} delete secret {name}"
        ),
    )
}
