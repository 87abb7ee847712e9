//! Reading and writing the Secrets of a credential on the API server.

mod publish;

use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client, ResourceExt, api::PostParams};
use secrecy::SecretString;

pub use self::publish::Published;
use super::{
    grant::{self, Grant, GrantError, Whose, merge, own},
    referenced::Policy,
    unpublished::Unpublished,
};
use crate::{
    api::IntegrationCredential,
    clock::Moment,
    failure::{Failure, Reason},
    lock::protocol::Merge,
    request::{RequestError, bounded, optional},
};

/// After how long it is asked whether the credential still exists whose grant cannot be stored.
const PATIENCE: Duration = Duration::from_secs(10);

/// The Secrets as this process reads and writes them. Nothing is cached: a stale Secret is how
/// refresh tokens get lost.
#[derive(Clone)]
pub struct Secrets {
    client: Client,
    policy: Policy,
    /// Tokens that could not be published yet and are stored nowhere.
    pub unpublished: Unpublished,
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
        Self::under(client, Policy::default())
    }

    /// Those of them that `policy` lets it read for others.
    #[must_use]
    pub fn under(client: Client, policy: Policy) -> Self {
        Self {
            client,
            policy,
            unpublished: Unpublished::default(),
        }
    }

    /// Which Secrets are read for those who name them.
    pub(super) fn policy(&self) -> &Policy {
        &self.policy
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

    /// Whether a grant can be replaced: asked before its refresh token is spent.
    ///
    /// # Errors
    /// `GrantUnreadable`, where the Secret is immutable or about to go.
    pub fn check_grant(
        &self,
        credential: &IntegrationCredential,
        stored: &Secret,
    ) -> Result<(), Failure> {
        let (namespace, name) = (
            credential.namespace().unwrap_or_default(),
            credential.grant_name(),
        );
        let why = if stored.immutable == Some(true) {
            "immutable, so that the next refresh token could not be stored; its refresh token is not presented. Make a copy of it that can be changed".to_owned()
        } else if stored.metadata.deletion_timestamp.is_some() {
            format!(
                "being deleted, and the next refresh token would go with it; its refresh token is not presented. Keep a copy, which holds that token: kubectl -n {namespace} get secret {name} -o yaml; let it go: kubectl -n {namespace} patch secret {name} --type merge -p '{{\"metadata\":{{\"finalizers\":null}}}}'; and create it again from the copy, without its deletionTimestamp, uid and resourceVersion"
            )
        } else {
            return Ok(());
        };
        Err(Failure::new(
            Reason::GrantUnreadable,
            format!("Secret {namespace}/{name} is {why}"),
        ))
    }

    /// Whether a first grant could be stored: asked of the API server, without doing it, before the
    /// seed is spent for it.
    ///
    /// # Errors
    /// The API server's refusal.
    pub async fn rehearse_grant(&self, credential: &IntegrationCredential) -> Result<(), Failure> {
        let mut rehearsal = Secret::default();
        own(
            &mut rehearsal,
            credential,
            &credential.grant_name(),
            "grant",
        );
        rehearsal.type_ = Some(grant::TYPE.to_owned());
        let params = PostParams {
            dry_run: true,
            ..PostParams::default()
        };
        let api = self.api(&credential.namespace().unwrap_or_default());
        match bounded(api.create(&params, &rehearsal)).await {
            // It has come into being meanwhile; the merge rule will decide.
            Ok(_) | Err(RequestError::Conflict) => Ok(()),
            Err(error) => {
                let what = format!("create Secret {}", credential.grant_name());
                Err(error.failure(&what))
            }
        }
    }

    /// Puts the labels of a grant back, where somebody took them off: without them it looks as if it were gone.
    pub async fn label_grant(&self, credential: &IntegrationCredential, stored: &Secret) {
        let name = credential.grant_name();
        let mut labelled = stored.clone();
        own(&mut labelled, credential, &name, "grant");
        if labelled.metadata.labels == stored.metadata.labels {
            return;
        }
        let api = self.api(&credential.namespace().unwrap_or_default());
        if let Err(error) = bounded(api.replace(&name, &PostParams::default(), &labelled)).await {
            let failure = error.failure(&format!("label Secret {name}"));
            let reason = failure.reason.as_str();
            tracing::warn!(reason, error = failure.message, "grant not labelled");
        }
    }

    /// Whether this very credential still exists: a seed of another one of its name is not its own.
    ///
    /// # Errors
    /// `APIServerError`, where it does not, or nobody knows.
    pub async fn check_credential(
        &self,
        credential: &IntegrationCredential,
    ) -> Result<(), Failure> {
        match self.is_there(credential).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(Failure::new(
                Reason::APIServerError,
                "the credential was deleted meanwhile",
            )),
            Err(error) => Err(error.failure("get the credential")),
        }
    }

    async fn is_there(&self, credential: &IntegrationCredential) -> Result<bool, RequestError> {
        let namespace = credential.namespace().unwrap_or_default();
        let api: Api<IntegrationCredential> = Api::namespaced(self.client.clone(), &namespace);
        let found = optional(api.get_metadata(&credential.name_any())).await?;
        Ok(found.is_some_and(|found| {
            found.uid() == credential.uid() && found.metadata.deletion_timestamp.is_none()
        }))
    }

    /// Stores what an exchange brought, and does not give up: the old refresh token is spent. Goes on
    /// whoever holds the gate by now; the merge rule decides what stands where the grant has changed.
    ///
    /// # Errors
    /// When the credential is gone, so that there is nothing left to store it for.
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
        let status = credential.status.as_ref();
        let last = status.and_then(|s| s.refresh.as_ref()?.last_error.as_ref());
        let is_dead = last.is_some_and(|error| Reason::ends_the_grant(&error.reason));
        let whose = match (adopting, is_dead) {
            (false, _) => Whose::Grant,
            (true, false) => Whose::Seed,
            (true, true) => Whose::SeedOverADead,
        };
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
            // A missing object cannot be created where its namespace is missing too.
            let refused = matches!(error, RequestError::Refused(_) | RequestError::NotFound);
            let failure = error.failure(&format!("store the new refresh token in Secret {name}"));
            tracing::warn!(
                reason = failure.reason.as_str(),
                error = failure.message,
                "grant not stored yet"
            );
            let patience = Moment::now().elapsed(start) > PATIENCE;
            if refused && patience && matches!(self.is_there(credential).await, Ok(false)) {
                return Err(failure);
            }
            // Not refused: lost a race, or nobody knows. What is stored now decides.
            if let Ok(found) = optional(api.get(&name)).await {
                if let Some(found) = &found {
                    match Grant::read(found, &credential.uid().unwrap_or_default()) {
                        Ok(stored) => match merge(&ours, spent, whose, base_generation, &stored) {
                            Merge::Stored | Merge::Drop => return Ok(stored),
                            Merge::Write(over) => {
                                ours.token.generation = next(over);
                                ours.remember_also(&stored.seeds);
                            }
                        },
                        // Edited into nonsense: what the provider gave us replaces it.
                        Err(GrantError::Value(..)) => {}
                        // Never overwrite what is not ours; it may be taken away in time.
                        Err(GrantError::Foreign) => {
                            if patience && matches!(self.is_there(credential).await, Ok(false)) {
                                return Err(grant_conflict(&namespace, &name));
                            }
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

    /// Notes in the grant that a seed was refused, so that it is not presented again. A grant that changes meanwhile is
    /// read again, and is what `grant` is then.
    ///
    /// # Errors
    /// When the API server does not answer or refuses, or the grant keeps changing.
    pub async fn note_refused(
        &self,
        credential: &IntegrationCredential,
        stored: &Secret,
        grant: &mut Grant,
        fingerprint: &str,
    ) -> Result<(), Failure> {
        const TRIES: u32 = 3;
        let name = credential.grant_name();
        let namespace = credential.namespace().unwrap_or_default();
        let uid = credential.uid().unwrap_or_default();
        let api = self.api(&namespace);
        let mut stored = stored.clone();
        let mut tries = 1;
        loop {
            grant.remember(fingerprint, false);
            let wanted = grant.render(credential, Some(&stored));
            let replaced = bounded(api.replace(&name, &PostParams::default(), &wanted)).await;
            let Err(error) = replaced else {
                return Ok(());
            };
            let passes = matches!(error, RequestError::Conflict | RequestError::Unclear(_));
            let current = if passes && tries < TRIES {
                self.get(&namespace, &name).await?
            } else {
                None
            };
            let read = current.and_then(|current| {
                let grant = Grant::read(&current, &uid).ok()?;
                Some((current, grant))
            });
            let Some((current, read)) = read else {
                return Err(error.failure(&format!("update Secret {name}")));
            };
            stored = current;
            *grant = read;
            tries += 1;
        }
    }
}

async fn wait(pause: Duration) -> Duration {
    tokio::time::sleep(pause).await;
    (pause * 2).min(Duration::from_secs(5))
}

/// A Secret that is not ours stands where the grant belongs.
#[must_use]
pub fn grant_conflict(namespace: &str, name: &str) -> Failure {
    Failure::new(
        Reason::TargetConflict,
        format!(
            "Secret {namespace}/{name} is not owned by this credential; it is left as it is, and no refresh token can be stored. It goes away by itself where a credential of this name was deleted just now. If it is of type {}, it may hold the only refresh token: keep a copy before you delete it",
            grant::TYPE
        ),
    )
}
