//! Writing the target.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, ResourceExt, api::PostParams};

use super::Secrets;
use crate::{
    api::{IntegrationCredential, TargetType},
    failure::{Failure, Reason},
    request::{RequestError, bounded, optional},
    secret::{
        Token,
        target::{self, Claim},
    },
};

/// How often a write of the target that lost a race is tried again.
const TRIES: u32 = 5;

/// What stands in a target after it was published.
pub struct Published {
    /// The target's version.
    pub resource_version: Option<String>,
    /// Whether something had to be written.
    pub written: bool,
    /// What is known of the token that stands there, where it is a newer one than was to be published.
    pub newer: Option<Token>,
    /// Whether the Secret was somebody's until now, and was handed over.
    pub adopted: bool,
}

impl Secrets {
    /// Writes the target, unless it holds this token already. Refuses to touch a Secret that was not
    /// made for the credential or handed over to it, and to go back to an older token.
    ///
    /// # Errors
    /// `TemplateInvalid`, `TargetConflict`, `TargetNotPublished`, or the API server's refusal.
    pub async fn publish(
        &self,
        credential: &IntegrationCredential,
        token: &Token,
        request_hash: &str,
    ) -> Result<Published, Failure> {
        let found = self.get_target(credential).await?;
        self.publish_over(credential, token, request_hash, found)
            .await
    }

    /// As [`Self::publish`], where the Secret that stands there was read already: it is replaced in that version only,
    /// and read again where it is another one by now.
    ///
    /// # Errors
    /// As [`Self::publish`].
    pub async fn publish_over(
        &self,
        credential: &IntegrationCredential,
        token: &Token,
        request_hash: &str,
        mut found: Option<Secret>,
    ) -> Result<Published, Failure> {
        let data = target::contents(credential, target::default_keys(token))?;
        let notes = target::notes(token, request_hash, credential);
        let mut last = None;
        for attempt in 0..TRIES {
            if attempt > 0 {
                found = self.get_target(credential).await?;
            }
            let claim = match &found {
                Some(found) => Some(self.claim(found, credential).await?),
                None => None,
            };
            let ours = found.as_ref().filter(|_| claim == Some(Claim::Ours));
            let wanted = target::dress(credential, data.clone(), notes.clone(), found.as_ref());
            if let Some(found) = ours {
                let newer = target::held(found).map(|held| held.facts().clone());
                let newer = newer.filter(|newer| newer.generation > token.generation);
                if newer.is_some() || target::is_same(&wanted, found) {
                    return Ok(Published {
                        resource_version: found.resource_version(),
                        written: false,
                        newer,
                        adopted: false,
                    });
                }
            }
            match self.put_target(credential, &wanted, found.as_ref()).await? {
                Ok(stored) => {
                    return Ok(Published {
                        resource_version: stored.resource_version(),
                        written: true,
                        newer: None,
                        adopted: found.is_some() && ours.is_none(),
                    });
                }
                Err(error) => last = Some(error),
            }
            if matches!(last, Some(RequestError::Refused(_))) {
                break;
            }
        }
        Err(not_published(credential, last))
    }

    async fn get_target(
        &self,
        credential: &IntegrationCredential,
    ) -> Result<Option<Secret>, Failure> {
        let namespace = credential.namespace().unwrap_or_default();
        self.get(&namespace, &credential.target_name()).await
    }

    /// Makes a target that is there go or stay with its credential as `spec.target.deletionPolicy` says, and changes
    /// nothing else of it.
    ///
    /// # Errors
    /// As [`Self::publish`].
    pub async fn follow_retention(
        &self,
        credential: &IntegrationCredential,
    ) -> Result<(), Failure> {
        let found = self.get_target(credential).await?;
        let uid = credential.uid().unwrap_or_default();
        let Some(found) = found.filter(|found| target::is_ours(found, &uid)) else {
            return Ok(());
        };
        let mut wanted = found.clone();
        target::own(&mut wanted, credential);
        let stored = self.put_target(credential, &wanted, Some(&found)).await?;
        stored.map_or_else(
            |error| Err(not_published(credential, Some(error))),
            |_| Ok(()),
        )
    }

    /// Makes a target that holds the right token be as `spec.target` says beside its data. `None`: it is another one
    /// by now.
    ///
    /// # Errors
    /// As [`Self::publish`].
    pub async fn refit(
        &self,
        credential: &IntegrationCredential,
        found: &Secret,
    ) -> Result<Option<Published>, Failure> {
        target::check(credential)?;
        let wanted = target::redress(credential, found);
        if target::is_same(&wanted, found) {
            return Ok(Some(Published {
                resource_version: found.resource_version(),
                written: false,
                newer: None,
                adopted: false,
            }));
        }
        match self.put_target(credential, &wanted, Some(found)).await? {
            Ok(stored) => Ok(Some(Published {
                resource_version: stored.resource_version(),
                written: true,
                newer: None,
                adopted: false,
            })),
            Err(RequestError::Conflict | RequestError::NotFound) => Ok(None),
            Err(error) => Err(not_published(credential, Some(error))),
        }
    }

    /// Writes the target in the place of `replaces`, and only of that.
    ///
    /// # Errors
    /// `TargetConflict`: it cannot be written. Inside, the API server's answer: `Conflict` where another one stands there
    /// by now.
    pub async fn put_target(
        &self,
        credential: &IntegrationCredential,
        wanted: &Secret,
        replaces: Option<&Secret>,
    ) -> Result<Result<Secret, RequestError>, Failure> {
        let api = self.api(&credential.namespace().unwrap_or_default());
        let params = PostParams::default();
        // A missing target is created, never applied: an apply would take over a Secret that
        // somebody else has just created under this name.
        let answer = match replaces {
            Some(found) => {
                target::check_writable(found, credential)?;
                bounded(api.replace(&credential.target_name(), &params, wanted)).await
            }
            None => bounded(api.create(&params, wanted)).await,
        };
        let left_out = target::left_out(credential);
        if answer.is_ok() && !left_out.is_empty() {
            tracing::warn!(
                reason = "LabelsLeftOut",
                keys = left_out.join(", "),
                "these labels and annotations of spec.target.template.metadata are not for a template to set"
            );
        }
        Ok(answer)
    }

    /// What `found` is to a credential.
    ///
    /// # Errors
    /// `TargetConflict`, or the API server's refusal.
    pub async fn claim(
        &self,
        found: &Secret,
        credential: &IntegrationCredential,
    ) -> Result<Claim, Failure> {
        let claim = target::claim(found, credential)?;
        if let Claim::Offered {
            unless: Some((name, uid)),
        } = &claim
        {
            let namespace = credential.namespace().unwrap_or_default();
            let api: Api<IntegrationCredential> = Api::namespaced(self.client.clone(), &namespace);
            let there = optional(api.get_metadata(name)).await;
            let there = there.map_err(|error| error.failure(&format!("get {name}")))?;
            if there.is_some_and(|there| there.uid().as_ref() == Some(uid)) {
                return Err(target::conflict(found, credential));
            }
        }
        Ok(claim)
    }

    /// Whether the target could be written, as far as that can be known before there is a token for it: asked before
    /// a first refresh token is spent for it. What is wrong with its templates does not count, for that can be mended
    /// later without another token.
    ///
    /// # Errors
    /// `TargetConflict`, or the API server's refusal.
    pub async fn check_target(&self, credential: &IntegrationCredential) -> Result<(), Failure> {
        let namespace = credential.namespace().unwrap_or_default();
        let name = credential.target_name();
        if let Some(found) = self.get(&namespace, &name).await? {
            self.claim(&found, credential).await?;
            return target::check_writable(&found, credential);
        }
        let spec = credential.spec.target.as_ref();
        if spec.is_none_or(|target| target.type_ == TargetType::Opaque && target.template.is_none())
        {
            return Ok(());
        }
        let Ok(rehearsal) = target::render(&stand_in(), "", credential, None) else {
            return Ok(());
        };
        let params = PostParams {
            dry_run: true,
            ..PostParams::default()
        };
        match bounded(self.api(&namespace).create(&params, &rehearsal)).await {
            Ok(_) | Err(RequestError::Conflict) => Ok(()),
            Err(error) => Err(error.failure(&format!("create Secret {name}"))),
        }
    }
}

fn not_published(credential: &IntegrationCredential, last: Option<RequestError>) -> Failure {
    let namespace = credential.namespace().unwrap_or_default();
    let name = credential.target_name();
    let why = last
        .map(|error| error.failure(&format!("write Secret {name}")).message)
        .unwrap_or_default();
    Failure::new(
        Reason::TargetNotPublished,
        format!("the token could not be written to Secret {namespace}/{name}: {why}"),
    )
}

/// A token to rehearse with.
fn stand_in() -> Token {
    Token {
        generation: 1,
        access_token: "rehearsal".into(),
        token_type: "Bearer".to_owned(),
        scopes: Vec::new(),
        issued_at: Timestamp::UNIX_EPOCH,
        expires_at: Some(Timestamp::UNIX_EPOCH),
        id_token: Some("rehearsal".into()),
        metadata: std::collections::BTreeMap::new(),
    }
}
