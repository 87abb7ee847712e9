//! What the operator knows without asking: watched objects, pruned to what decisions need, and what
//! this process itself did last. Never any Secret data.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use kube::{
    ResourceExt,
    runtime::reflector::{ObjectRef, Store},
};

use crate::{
    api::{CONFIRM_ORIGIN, GrantType, IntegrationCredential, OAuthProvider, ProviderKind},
    asked::Asked,
    clock::{self, Moment},
    failure::Reason,
    lock::observer::GateSight,
    pass::unsaid::Unsaid,
    plan::{Facts, Seen, copied::interval, known_generation},
    platform::{Labels, Platform},
    provider::{
        Found, admit,
        controller::{ProviderObject, client_secrets},
        request_hash, unknown,
    },
    secret::{
        seen::{SeenSecret, SeenSecrets},
        target::target_hash,
    },
    status::ProviderSight,
    watch::Filled,
};

/// How long a Secret that was just written may be missing in the cache.
pub const LAG: Duration = Duration::from_secs(2);

/// The watched objects of one scope (a namespace, or all).
pub struct Caches {
    /// The credentials.
    pub credentials: Store<IntegrationCredential>,
    /// Our Secrets and those with the watch label.
    pub secrets: Arc<SeenSecrets>,
    /// The providers.
    pub providers: Store<OAuthProvider>,
    /// What all scopes share.
    pub platform: Platform,
    /// The labels of namespaces.
    pub labels: Arc<Labels>,
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
    /// The status that the API server did not take.
    pub unsaid: Option<Box<Unsaid>>,
    /// The target as it was found or made right last.
    pub target: Option<Written>,
    /// The version of the Secret that was in the target's place, as far as it is watched, when the last pass failed
    /// because of it.
    pub conflict: Option<Option<String>>,
    /// The version of the seed that was looked at and found to change nothing.
    pub seed_version: Option<String>,
    /// What the last attempt depended on.
    pub inputs: Option<Inputs>,
    /// Whether the last pass asked for another one.
    pub again: bool,
    /// The request of a person that was tried last, whatever came of it.
    pub request_tried: Option<String>,
    /// The generation of which programs said that it is dead, when that was acted upon in spite of a refresh
    /// whose outcome is not known.
    pub dead_tried: Option<u64>,
    /// When the next attempt may be made at the earliest, whether or not the status says so.
    pub not_before: Option<Timestamp>,
    /// When an unwatched seed, or the source that is copied, was read last.
    pub checked: Option<Moment>,
}

impl Memory {
    /// Of one with nothing to do: what it would depend on, where that is asked for, and nothing that the watches have shown
    /// since; `cached` is the version of the credential that they have shown.
    pub fn settle(
        &mut self,
        credential: &IntegrationCredential,
        inputs: Inputs,
        cached: Option<&str>,
    ) {
        let status = credential.status.as_ref();
        let failing = status.is_some_and(|s| s.refresh.as_ref().is_some_and(|r| r.failures > 0));
        self.inputs = (failing || credential.copied().is_some()).then_some(inputs);
        // While the watch stands still, the cached one must not be taken for what is.
        if self.unsaid.is_none() && !is_stale(cached, self.status_version.as_deref()) {
            (self.status_version, self.status_written) = (None, None);
        }
        let recorded = status.and_then(|s| s.target.as_ref()?.resource_version.as_deref());
        let shown = |written: &mut Written| written.seen && recorded == Some(&written.version);
        self.target.take_if(|written| shown(written));
    }

    /// Whether there is nothing to remember.
    #[must_use]
    pub fn is_blank(&self) -> bool {
        let Self {
            status_version,
            status_written,
            unsaid,
            target,
            conflict,
            seed_version,
            inputs,
            again,
            request_tried,
            dead_tried,
            not_before,
            checked,
        } = self;
        let written = status_version.is_some() || status_written.is_some() || target.is_some();
        let failed = unsaid.is_some() || conflict.is_some() || not_before.is_some();
        let tried = request_tried.is_some() || dead_tried.is_some() || *again;
        let looked_at = seed_version.is_some() || inputs.is_some() || checked.is_some();
        !(written || failed || tried || looked_at)
    }

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
    confirmed: Option<String>,
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
        let reference = &credential.oauth2().provider_ref;
        match reference.kind {
            ProviderKind::OAuthProvider => {
                let namespace = credential.namespace().unwrap_or_default();
                let key = ObjectRef::new(&reference.name).within(&namespace);
                self.providers.get(&key).map(|found| found.found())
            }
            ProviderKind::ClusterOAuthProvider => {
                let key = ObjectRef::new(&reference.name);
                let cluster_providers = &self.platform.cluster_providers;
                cluster_providers.get(&key).map(|found| found.found())
            }
        }
    }

    /// Whether the provider of a credential can be used, as far as that is known without asking: whether it is there and
    /// admits the credential.
    #[must_use]
    pub fn provider_sight(&self, credential: &IntegrationCredential) -> ProviderSight {
        let Some(oauth2) = &credential.spec.oauth2 else {
            return ProviderSight::Usable;
        };
        let reference = &oauth2.provider_ref;
        let namespace = credential.namespace().unwrap_or_default();
        match reference.kind {
            ProviderKind::OAuthProvider => {
                let key = ObjectRef::new(&reference.name).within(&namespace);
                match self.providers.get(&key) {
                    Some(_) => ProviderSight::Usable,
                    None => ProviderSight::Unusable(unknown(credential)),
                }
            }
            ProviderKind::ClusterOAuthProvider => {
                let key = ObjectRef::new(&reference.name);
                let Some(found) = self.platform.cluster_providers.get(&key) else {
                    return ProviderSight::Unusable(unknown(credential));
                };
                let Some(labels) = self.labels.of(&namespace) else {
                    return ProviderSight::Unknown;
                };
                match admit(&found.spec, credential, &labels) {
                    Ok(()) => ProviderSight::Usable,
                    Err(failure) => ProviderSight::Unusable(failure),
                }
            }
        }
    }

    fn secret(&self, namespace: &str, name: &str) -> Option<Arc<SeenSecret>> {
        self.secrets.get(namespace, name)
    }

    /// Whether the target would not go or stay with its credential as the spec says now.
    #[must_use]
    pub fn target_stays_otherwise(&self, credential: &IntegrationCredential) -> bool {
        let namespace = credential.namespace().unwrap_or_default();
        let found = self.secret(&namespace, &credential.target_name());
        found.is_some_and(|found| found.stays_otherwise(credential))
    }

    /// A credential's grant.
    #[must_use]
    pub fn grant(&self, credential: &IntegrationCredential) -> Option<Arc<SeenSecret>> {
        let namespace = credential.namespace().unwrap_or_default();
        self.secret(&namespace, &credential.grant_name())
    }

    /// What the next attempt of this credential depends on.
    #[must_use]
    pub fn inputs(&self, credential: &IntegrationCredential, found: Option<&Found>) -> Inputs {
        let namespace = credential.namespace().unwrap_or_default();
        let version = |name: &str| self.secrets.version(&namespace, name);
        let mut watched = vec![credential.made_from().and_then(version)];
        if let Some(found) = found {
            let of_cluster = found.cluster.is_some();
            watched.extend(client_secrets(&found.provider).map(|name| {
                if of_cluster {
                    self.platform.client_version(name)
                } else {
                    version(name)
                }
            }));
        }
        Inputs {
            provider: found.and_then(|f| f.version.clone()),
            watched,
            grant: version(&credential.grant_name()),
            confirmed: credential.annotations().get(CONFIRM_ORIGIN).cloned(),
        }
    }

    /// Notes in `memory` whether the cache shows the target.
    pub fn notice(&self, credential: &IntegrationCredential, memory: &mut Memory) {
        let namespace = credential.namespace().unwrap_or_default();
        if let Some(written) = &mut memory.target
            && let Some(found) = self.secret(&namespace, &credential.target_name())
        {
            written.seen |= !is_stale(found.version.as_deref(), Some(&written.version));
        }
    }

    /// Whether the seed, or the source that is copied, is watched, so that a change of it is noticed at once.
    #[must_use]
    pub fn watches_seed(&self, credential: &IntegrationCredential) -> bool {
        let namespace = credential.namespace().unwrap_or_default();
        let seed = credential.made_from();
        seed.is_some_and(|seed| self.secret(&namespace, seed).is_some())
    }

    /// The version of a watched seed or source.
    #[must_use]
    pub fn seed_version(&self, credential: &IntegrationCredential) -> Option<String> {
        let namespace = credential.namespace().unwrap_or_default();
        let seed = credential.made_from()?;
        self.secrets.version(&namespace, seed)
    }

    /// The version of the Secret in the target's place, where it is watched.
    #[must_use]
    pub fn target_version(&self, credential: &IntegrationCredential) -> Option<String> {
        let namespace = credential.namespace().unwrap_or_default();
        self.secrets.version(&namespace, &credential.target_name())
    }

    /// The facts for [`crate::plan::plan`], handed to `decide` because they borrow.
    pub fn with_facts<T>(
        &self,
        credential: &IntegrationCredential,
        memory: &Memory,
        inputs: &Inputs,
        found: Option<&Found>,
        (asked, gate): (&Asked, GateSight),
        decide: impl FnOnce(&Facts<'_>) -> T,
    ) -> T {
        let namespace = credential.namespace().unwrap_or_default();
        let wanted_hash = found.map(|f| request_hash(f, credential));
        let wanted_hash = wanted_hash.as_deref();
        let status = credential.status.as_ref();
        let target = self.secret(&namespace, &credential.target_name());
        let recorded = status.and_then(|s| s.target.as_ref()?.resource_version.as_deref());
        // What was written a moment ago was written for what is wanted.
        let late = memory.target.as_ref().is_some_and(Written::may_be_late);
        let hash = target.as_ref().and_then(|t| t.request_hash.as_deref());
        let target_seen = match &target {
            Some(found) => target_change(
                found.version.as_deref(),
                recorded,
                memory
                    .target
                    .as_ref()
                    .map(|written| written.version.as_str()),
            ),
            None if late => Seen::Unchanged,
            None => Seen::Missing,
        };
        let seed_now = self.seed_version(credential);
        let seed_known = status.and_then(|s| s.grant.as_ref()?.seed_resource_version.as_ref());
        let was_watched = memory.inputs.as_ref().and_then(Inputs::seed_version);
        let copied = credential.copied().is_some();
        let source_known = status.and_then(|s| s.source.as_ref()?.resource_version.as_deref());
        let source_unread = copied && seed_now.is_none() && is_unread(credential, memory);
        let seed = if copied {
            match (&seed_now, was_watched) {
                (None, Some(_)) => Seen::Missing,
                (None, None) => Seen::Unchanged,
                (now, _) => {
                    target_change(now.as_deref(), source_known, memory.seed_version.as_deref())
                }
            }
        } else if seed_now.is_none()
            || seed_now.as_ref() == seed_known
            || seed_now == memory.seed_version
        {
            Seen::Unchanged
        } else {
            Seen::Changed
        };
        let refresh = status.and_then(|s| s.refresh.as_ref());
        let failing = refresh.is_some_and(|refresh| refresh.failures > 0);
        let grant = match (inputs.grant.is_some(), credential.oauth2().grant_type) {
            (false, GrantType::RefreshToken) => Seen::Missing,
            _ => Seen::Unchanged,
        };
        let last = refresh.and_then(|refresh| refresh.last_error.as_ref());
        // That a seed was refused, too, is noted in the grant, and makes no refused grant another one.
        let is_refused = last.is_some_and(|error| Reason::is_terminal(&error.reason));
        let changed = memory.inputs.as_ref().is_some_and(|before| {
            let mut before = before.clone();
            if is_refused {
                before.grant.clone_from(&inputs.grant);
            }
            before != *inputs
        });
        let given_way = memory.conflict.as_ref().is_some_and(|conflict| {
            conflict.as_deref() != target.as_ref().and_then(|found| found.version.as_deref())
        });
        let wanted_target = target_hash(credential);
        let target_noted = target.as_ref().and_then(|t| t.target_hash.as_deref());
        let known = known_generation(credential.status.as_ref());
        let outcome_unknown =
            last.is_some_and(|e| e.reason == Reason::RefreshOutcomeUnknown.as_str());
        let reported_dead =
            outcome_unknown && asked.is_wanted(known) && memory.dead_tried != Some(known);
        decide(&Facts {
            now: clock::now(),
            target: target_seen,
            target_hash: if late { wanted_hash } else { hash },
            wanted_hash,
            target_outdated: target.is_some() && !late && target_noted != wanted_target.as_deref(),
            has_default_lifetime: found
                .and_then(|f| f.description.as_ref())
                .is_some_and(|d| d.default_lifetime.is_some()),
            grant,
            seed,
            source_unread,
            inputs_changed: failing && (changed || given_way),
            wanted: asked.is_now(credential),
            requested: asked.request.is_some() && asked.request != memory.request_tried,
            reported_dead,
            gate,
            again: memory.again,
            not_before: memory.not_before,
        })
    }
}

/// Whether an unwatched source was not read for so long that it is to be read again.
fn is_unread(credential: &IntegrationCredential, memory: &Memory) -> bool {
    let interval = interval(&credential.uid().unwrap_or_default());
    let read = memory.checked;
    read.is_some_and(|at| Moment::now().elapsed(at) >= interval)
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
