//! The seed of a credential: whether it holds something new, and what may be presented of it.

use std::time::Duration;

use kube::ResourceExt;

use crate::{
    api::{Description, GrantType, IntegrationCredential, Rotation},
    cache::Memory,
    clock::Moment,
    context::{Context, SOON},
    failure::{Failure, Reason},
    plan::RECHECK,
    refresh::is_rejected,
    secret::{
        ValueError,
        referenced::Purpose,
        seed::{ISSUER, PRIVATE_KEY, REFRESH_TOKEN, SERVICE_ACCOUNT, Seed},
    },
    shared, status,
};

impl Context {
    /// Whether the seed holds an authorization that was not presented before.
    ///
    /// # Errors
    /// When to ask again, where the API server gave no answer.
    pub async fn has_new_seed(
        &self,
        credential: &IntegrationCredential,
        memory: &mut Memory,
    ) -> Result<bool, Duration> {
        let recently = memory
            .checked
            .is_some_and(|at| Moment::now().elapsed(at) < RECHECK);
        let watched = self.caches.seed_version(credential);
        if watched.is_none() && recently {
            return Ok(false);
        }
        if watched.is_some() && watched == memory.seed_version {
            return Ok(false);
        }
        let status = credential.status.clone().unwrap_or_default();
        let known = status
            .grant
            .as_ref()
            .and_then(|g| g.seed_fingerprint.as_ref());
        let is_new = match self.seed(credential).await {
            Ok(seed) => {
                let is_other = known != Some(&seed.fingerprint)
                    || status::condition(&status, status::SEED_REJECTED).is_some();
                is_other && !is_rejected(&seed, credential)
            }
            // Not looked at.
            Err(failure) if failure.reason == Reason::APIServerError => {
                tracing::warn!(
                    reason = failure.reason.as_str(),
                    error = failure.message,
                    "seed not read"
                );
                return Err(SOON);
            }
            Err(failure) => {
                tracing::warn!(
                    reason = failure.reason.as_str(),
                    error = failure.message,
                    "seed not usable"
                );
                false
            }
        };
        memory.checked = Some(Moment::now());
        memory.seed_version = watched;
        Ok(is_new)
    }

    /// The version of a seed of which the grant that works was made: reading it again would change nothing. Where refresh
    /// tokens are not replaced, a lost grant is made of it again.
    pub(super) fn spent_seed(
        &self,
        credential: &IntegrationCredential,
        description: &Description,
    ) -> Option<String> {
        let status = credential.status.as_ref()?;
        let (token, grant) = (status.token.as_ref()?, status.grant.as_ref()?);
        let works = token.generation > 0
            && status.refresh.as_ref().is_some_and(|r| r.failures == 0)
            && status::condition(status, status::SEED_REJECTED).is_none();
        let is_its_own = credential.oauth2().grant_type == GrantType::RefreshToken
            && description.rotation() != Rotation::Never
            && grant.seed_fingerprint.is_some();
        let looked_at = grant.seed_resource_version.as_ref();
        let watched = self.caches.seed_version(credential);
        watched.filter(|watched| works && is_its_own && Some(watched) == looked_at)
    }

    /// The seed, if the credential's grant has one and it may be presented for it.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) async fn seed_of(
        &self,
        credential: &IntegrationCredential,
        description: &Description,
    ) -> Result<Seed, Failure> {
        match credential.oauth2().grant_type {
            GrantType::JwtBearer => self.seed(credential).await,
            GrantType::RefreshToken => {
                let seed = self.seed(credential).await?;
                let others = || self.caches.credentials.state();
                shared::check(credential, &seed, description, others)?;
                Ok(seed)
            }
            GrantType::ClientCredentials | GrantType::GitHubAppInstallation => {
                Err(Failure::new(Reason::SeedNotFound, ""))
            }
        }
    }

    async fn seed(&self, credential: &IntegrationCredential) -> Result<Seed, Failure> {
        let namespace = credential.namespace().unwrap_or_default();
        let name = credential.oauth2().seed_secret_ref.as_ref();
        let name = name.map(|s| s.name.clone()).unwrap_or_default();
        let grant = credential.oauth2().grant_type;
        let how = match grant {
            GrantType::JwtBearer => format!(
                "write the key into it: kubectl -n {namespace} create secret generic {name} --from-file={PRIVATE_KEY}=key.pem --from-literal={ISSUER}=… (or --from-file={SERVICE_ACCOUNT}=… for a Google service account)"
            ),
            _ => format!(
                "write the refresh token into it: kubectl -n {namespace} create secret generic {name} --from-literal={REFRESH_TOKEN}=…"
            ),
        };
        let secret = self
            .tools
            .secrets
            .referenced(&namespace, &name, Purpose::Seed)
            .await?
            .ok_or_else(|| {
                Failure::new(
                    Reason::SeedNotFound,
                    format!("the seed Secret {namespace}/{name} does not exist; {how}; and label it, so that it is seen at once: kubectl -n {namespace} label secret {name} tokenward.dev/watch=true"),
                )
            })?;
        Seed::read(&secret, grant).map_err(|error| {
            let reason = match error.error {
                ValueError::Missing => Reason::SeedNotFound,
                _ => Reason::SeedInvalid,
            };
            Failure::new(
                reason,
                format!("the seed Secret {namespace}/{name} {error}; replace it: kubectl -n {namespace} patch secret {name} -p '{{\"stringData\":{{\"{}\":\"…\"}}}}'", error.key),
            )
        })
    }
}
