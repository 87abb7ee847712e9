//! What the operator knows without asking: watched objects, pruned to what decisions need, and what
//! this process itself did last. Never any Secret data.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::{
    ResourceExt,
    core::PartialObjectMeta,
    runtime::reflector::{ObjectRef, Store},
};

use crate::{
    api::{
        ClusterOAuthProvider, GrantType, IntegrationCredential, OAuthProvider, ProviderKind,
        SecretKeyReference,
    },
    clock::Moment,
    plan::{Facts, Seen},
    provider::{Found, request_hash},
    secret::target::REQUEST_HASH,
    watch::Filled,
};

/// How long a Secret that was just written may be missing in the cache.
pub const LAG: Duration = Duration::from_secs(2);

/// The watched objects of one scope (a namespace, or all).
pub struct Caches {
    /// The credentials.
    pub credentials: Store<IntegrationCredential>,
    /// The metadata of our Secrets and of those with the watch label.
    pub secrets: Store<PartialObjectMeta<Secret>>,
    /// The providers.
    pub providers: Store<OAuthProvider>,
    /// The cluster providers.
    pub cluster_providers: Store<ClusterOAuthProvider>,
    /// Whether all of them have been filled once; before that, what is missing may only be late.
    pub filled: Filled,
}

/// What this process remembers of a credential. All of it can be lost without harm.
#[derive(Clone, Default)]
pub struct Memory {
    /// The credential's version after the last write of its status: older ones in the cache are stale.
    pub status_version: Option<String>,
    /// When that was.
    pub status_written: Option<Moment>,
    /// The target as it was found or made right last.
    pub target: Option<Written>,
    /// The version of the seed that was looked at and found to change nothing.
    pub seed_version: Option<String>,
    /// What the last attempt depended on.
    pub inputs: Option<Inputs>,
    /// Whether the last pass asked for another one.
    pub again: bool,
    /// When the next attempt may be made at the earliest, whether or not the status says so.
    pub not_before: Option<Timestamp>,
    /// When an unwatched seed was read last.
    pub checked: Option<Moment>,
}

impl Memory {
    /// Whether the watch should have shown the status by now.
    #[must_use]
    pub fn status_is_late(&self) -> bool {
        self.status_written
            .is_none_or(|at| Moment::now().elapsed(at) >= LAG)
    }
}

/// A Secret as this process wrote it, or found it to be right.
#[derive(Clone)]
pub struct Written {
    /// Its version.
    pub version: String,
    /// When.
    pub at: Moment,
    /// Whether the cache has shown it since: from then on a missing one was deleted.
    pub seen: bool,
}

impl Written {
    /// Just now.
    #[must_use]
    pub fn now(version: String) -> Self {
        Self {
            version,
            at: Moment::now(),
            seen: false,
        }
    }

    /// Whether the watch may not have caught up with it.
    #[must_use]
    pub fn may_be_late(&self) -> bool {
        !self.seen && Moment::now().elapsed(self.at) < LAG
    }
}

/// The versions of the objects that an attempt depended on: when one changes, a failure is no longer
/// a reason to wait.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inputs {
    provider: Option<String>,
    watched: Vec<Option<String>>,
    grant: Option<String>,
}

impl Inputs {
    /// The version of the seed, where it is watched.
    #[must_use]
    pub fn seed_version(&self) -> Option<String> {
        self.watched.first().cloned().flatten()
    }
}

impl Caches {
    /// The provider of a credential.
    #[must_use]
    pub fn provider(&self, credential: &IntegrationCredential) -> Option<Found> {
        let reference = &credential.spec.oauth2.provider_ref;
        match reference.kind {
            ProviderKind::OAuthProvider => {
                let namespace = credential.namespace().unwrap_or_default();
                let key = ObjectRef::new(&reference.name).within(&namespace);
                self.providers.get(&key).map(|found| Found {
                    provider: found.spec.provider.clone(),
                    cluster: None,
                    resource_version: found.resource_version(),
                })
            }
            ProviderKind::ClusterOAuthProvider => {
                let key = ObjectRef::new(&reference.name);
                self.cluster_providers.get(&key).map(|found| Found {
                    provider: found.spec.provider.clone(),
                    cluster: Some(found.spec.clone()),
                    resource_version: found.resource_version(),
                })
            }
        }
    }

    fn secret(&self, namespace: &str, name: &str) -> Option<Arc<PartialObjectMeta<Secret>>> {
        self.secrets.get(&ObjectRef::new(name).within(namespace))
    }

    /// What the next attempt of this credential depends on.
    #[must_use]
    pub fn inputs(&self, credential: &IntegrationCredential, found: Option<&Found>) -> Inputs {
        let namespace = credential.namespace().unwrap_or_default();
        let version = |name: &str| {
            self.secret(&namespace, name)
                .and_then(|s| s.resource_version())
        };
        let seed = credential.spec.oauth2.seed_secret_ref.as_ref();
        let mut watched = vec![seed.and_then(|s| version(&s.name))];
        if let Some(found) = found.filter(|f| f.cluster.is_none()) {
            let client = &found.provider.client;
            let keys = client
                .secret_key_refs
                .iter()
                .chain(&client.id_secret_key_ref);
            watched.extend(keys.map(|key: &SecretKeyReference| version(&key.name)));
        }
        Inputs {
            provider: found.and_then(|f| f.resource_version.clone()),
            watched,
            grant: version(&credential.grant_name()),
        }
    }

    /// Notes in `memory` whether the cache shows the target.
    pub fn notice(&self, credential: &IntegrationCredential, memory: &mut Memory) {
        let namespace = credential.namespace().unwrap_or_default();
        if let Some(written) = &mut memory.target
            && let Some(found) = self.secret(&namespace, &credential.target_name())
        {
            written.seen |= !is_stale(found.resource_version().as_deref(), Some(&written.version));
        }
    }

    /// Whether the seed is watched, so that a change of it is noticed at once.
    #[must_use]
    pub fn watches_seed(&self, credential: &IntegrationCredential) -> bool {
        let namespace = credential.namespace().unwrap_or_default();
        let seed = credential.spec.oauth2.seed_secret_ref.as_ref();
        seed.is_some_and(|seed| self.secret(&namespace, &seed.name).is_some())
    }

    /// The version of a watched seed.
    #[must_use]
    pub fn seed_version(&self, credential: &IntegrationCredential) -> Option<String> {
        let namespace = credential.namespace().unwrap_or_default();
        let seed = credential.spec.oauth2.seed_secret_ref.as_ref()?;
        self.secret(&namespace, &seed.name)?.resource_version()
    }

    /// The facts for [`crate::plan::plan`], handed to `decide` because they borrow.
    pub fn with_facts<T>(
        &self,
        credential: &IntegrationCredential,
        memory: &Memory,
        inputs: &Inputs,
        found: Option<&Found>,
        decide: impl FnOnce(&Facts<'_>) -> T,
    ) -> T {
        let namespace = credential.namespace().unwrap_or_default();
        let wanted_hash = found.map(|f| request_hash(&f.provider, credential));
        let wanted_hash = wanted_hash.as_deref();
        let status = credential.status.clone().unwrap_or_default();
        let target = self.secret(&namespace, &credential.target_name());
        let recorded = status.target.and_then(|t| t.resource_version);
        // What was written a moment ago was written for what is wanted.
        let late = memory.target.as_ref().is_some_and(Written::may_be_late);
        let hash = target
            .as_ref()
            .and_then(|t| t.annotations().get(REQUEST_HASH));
        let target_seen = match &target {
            Some(found) => target_change(
                found.resource_version().as_deref(),
                recorded.as_deref(),
                memory
                    .target
                    .as_ref()
                    .map(|written| written.version.as_str()),
            ),
            None if late => Seen::Unchanged,
            None => Seen::Missing,
        };
        let seed_now = self.seed_version(credential);
        let seed_known = status.grant.and_then(|g| g.seed_resource_version);
        let seed =
            if seed_now.is_none() || seed_now == seed_known || seed_now == memory.seed_version {
                Seen::Unchanged
            } else {
                Seen::Changed
            };
        let refresh = status.refresh.unwrap_or_default();
        let failing = refresh.failures > 0;
        let grant = match (inputs.grant.is_some(), credential.spec.oauth2.grant_type) {
            (false, GrantType::RefreshToken) => Seen::Missing,
            _ => Seen::Unchanged,
        };
        let changed = memory
            .inputs
            .as_ref()
            .is_some_and(|before| before != inputs);
        decide(&Facts {
            now: Timestamp::now(),
            target: target_seen,
            target_hash: if late {
                wanted_hash
            } else {
                hash.map(String::as_str)
            },
            wanted_hash,
            has_default_lifetime: found.is_some_and(|f| f.provider.default_lifetime.is_some()),
            grant,
            seed,
            inputs_changed: failing && changed,
            again: memory.again,
            not_before: memory.not_before,
        })
    }
}

/// Whether a target in the cache is another one than was written. Versions of one object are numbers
/// that grow (Kubernetes guarantees it since 1.35 and has always done so), so an older one in the cache
/// is one that the watch has not caught up with.
fn target_change(found: Option<&str>, recorded: Option<&str>, remembered: Option<&str>) -> Seen {
    if found == recorded || found == remembered {
        return Seen::Unchanged;
    }
    let number = |version: Option<&str>| version.and_then(|v| v.parse::<u64>().ok());
    let newest = number(recorded).max(number(remembered));
    match (number(found), newest) {
        (Some(found), Some(newest)) if found < newest => Seen::Unchanged,
        _ => Seen::Changed,
    }
}

/// Whether the cached credential is older than the status that this process wrote last.
#[must_use]
pub fn is_stale(cached: Option<&str>, written: Option<&str>) -> bool {
    let number = |version: Option<&str>| version.and_then(|v| v.parse::<u64>().ok());
    matches!((number(cached), number(written)), (Some(cached), Some(written)) if cached < written)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_changed_only_if_its_version_is_newer_than_what_was_written() {
        assert_eq!(target_change(Some("7"), Some("7"), None), Seen::Unchanged);
        assert_eq!(
            target_change(Some("7"), Some("5"), Some("7")),
            Seen::Unchanged
        );
        assert_eq!(
            target_change(Some("6"), Some("5"), Some("7")),
            Seen::Unchanged
        );
        assert_eq!(
            target_change(Some("8"), Some("5"), Some("7")),
            Seen::Changed
        );
        assert_eq!(target_change(Some("8"), None, None), Seen::Changed);
        assert_eq!(target_change(Some("x"), Some("5"), None), Seen::Changed);
    }

    #[test]
    fn a_credential_is_stale_until_the_watch_shows_the_status_written_last() {
        assert!(is_stale(Some("6"), Some("7")));
        assert!(!is_stale(Some("7"), Some("7")));
        assert!(!is_stale(Some("8"), Some("7")));
        assert!(!is_stale(Some("8"), None));
    }
}
