//! One pass over a credential: the work that a decision asks for, and its end in status and events.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use kube::{ResourceExt, runtime::controller::Action};

use crate::{
    api::{CredentialStatus, GrantType, IntegrationCredential},
    cache::{Inputs, Memory, Written},
    clock::Moment,
    context::{Context, SOON, retry},
    failure::{Failure, Reason},
    lock::protocol::Durations,
    plan::{RECHECK, known_generation},
    provider::{self, Found, request_hash},
    refresh::{Outcome, Subject, refresh},
    secret::{
        ValueError,
        grant::Grant,
        is_owned,
        seed::{REFRESH_TOKEN, Seed},
    },
    status::{self, Report, Wake},
};

/// The longest sleep. A pass that finds nothing costs no request, and the timers do not see a wall clock
/// that is set or a machine that was suspended.
const LONGEST_SLEEP: Duration = Duration::from_secs(600);

/// What a pass came to.
pub struct Pass {
    credential: Arc<IntegrationCredential>,
    report: Report,
    again: bool,
}

impl Context {
    /// Nothing to do: only time may have changed what the status must say.
    pub async fn idle(&self, credential: &Arc<IntegrationCredential>) -> Action {
        let now = Timestamp::now();
        if let Some(status) = status::at(credential, now) {
            return match self.write_status(credential, &status, false).await {
                Ok(()) => self.wake(credential, &status),
                Err(action) => action,
            };
        }
        let status = credential.status.clone().unwrap_or_default();
        self.wake(credential, &status)
    }

    /// When to look again, by the clock.
    fn wake(&self, credential: &IntegrationCredential, status: &CredentialStatus) -> Action {
        let now = Timestamp::now();
        let until = |at: Timestamp| Duration::try_from(at.duration_since(now)).unwrap_or_default();
        match status::wake(status, now) {
            Wake::At(at) => Action::requeue(until(at).min(LONGEST_SLEEP)),
            Wake::OnChange(at) => {
                let expiry = at.map(until);
                let recheck = (!self.caches.watches_seed(credential)).then_some(RECHECK);
                match expiry.into_iter().chain(recheck).min() {
                    Some(pause) => Action::requeue(pause),
                    None => Action::await_change(),
                }
            }
        }
    }

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
                known != Some(&seed.fingerprint)
                    || status::condition(&status, status::SEED_REJECTED).is_some()
            }
            // Not looked at.
            Err(failure) if failure.reason == Reason::APIServerError => {
                tracing::warn!(
                    reason = failure.reason.as_str(),
                    message = failure.message,
                    "seed not read"
                );
                return Err(SOON);
            }
            Err(failure) => {
                tracing::warn!(
                    reason = failure.reason.as_str(),
                    message = failure.message,
                    "seed not usable"
                );
                false
            }
        };
        memory.checked = Some(Moment::now());
        memory.seed_version = watched;
        Ok(is_new)
    }

    async fn seed(&self, credential: &IntegrationCredential) -> Result<Seed, Failure> {
        let namespace = credential.namespace().unwrap_or_default();
        let name = credential.spec.oauth2.seed_secret_ref.as_ref();
        let name = name.map(|s| s.name.clone()).unwrap_or_default();
        let how = format!(
            "write the refresh token into it: kubectl -n {namespace} create secret generic {name} --from-literal={REFRESH_TOKEN}=…"
        );
        let secret = self
            .tools
            .secrets
            .get(&namespace, &name)
            .await?
            .ok_or_else(|| {
                Failure::new(
                    Reason::SeedNotFound,
                    format!("the seed Secret {namespace}/{name} does not exist; {how}"),
                )
            })?;
        Seed::read(&secret).map_err(|error| {
            let reason = match error {
                ValueError::Missing => Reason::SeedNotFound,
                _ => Reason::SeedInvalid,
            };
            Failure::new(
                reason,
                format!("the seed Secret {namespace}/{name} {error} {REFRESH_TOKEN}; replace it: kubectl -n {namespace} patch secret {name} -p '{{\"stringData\":{{\"{REFRESH_TOKEN}\":\"…\"}}}}'"),
            )
        })
    }

    /// Writes the target again from the grant; no provider is asked. `None`: the grant cannot be read,
    /// and behind the gate it is found out what is wrong with it.
    pub async fn repair(
        &self,
        credential: &Arc<IntegrationCredential>,
        found: Option<&Found>,
    ) -> Option<Pass> {
        let namespace = credential.namespace().unwrap_or_default();
        let uid = credential.uid().unwrap_or_default();
        let secrets = &self.tools.secrets;
        let status = credential.status.as_ref();
        let known = known_generation(status);
        let last = status.and_then(|s| s.refresh.as_ref()?.last_error.as_ref());
        let mut report = Report {
            // What was wrong with these Secrets is mended by this; a failed refresh is not.
            aside: !last.is_some_and(|e| Reason::concerns_secrets(&e.reason)),
            ..Report::unchanged(credential)
        };
        let stored = secrets.get(&namespace, &credential.grant_name()).await;
        match stored.map(|found| found.map(|secret| Grant::read(&secret, &uid))) {
            // An older one was put back; behind the gate that is told.
            Ok(Some(Ok(grant))) if grant.token.generation < known => return None,
            Ok(Some(Ok(grant))) => {
                let hash = found.map(|f| request_hash(&f.provider, credential));
                let hash = hash.unwrap_or_default();
                match secrets.publish(credential, &grant.token, &hash).await {
                    Ok(published) => {
                        if published.written {
                            tracing::info!(
                                reason = "TargetRepaired",
                                "target written again from the grant"
                            );
                        }
                        report.token = Some(grant.token);
                        report.target_version = published.resource_version;
                    }
                    Err(failure) => report.failure = Some(failure),
                }
            }
            Ok(_) => return None,
            Err(failure) => report.failure = Some(failure),
        }
        Some(Pass {
            credential: Arc::clone(credential),
            report,
            again: false,
        })
    }

    /// Goes behind the gate, after everything was read that can be read before.
    ///
    /// # Errors
    /// How long to wait where somebody else is at it.
    pub async fn refresh(
        &self,
        credential: &Arc<IntegrationCredential>,
        found: Option<Found>,
    ) -> Result<Pass, Duration> {
        let credential = self.first_sight(credential).await?;
        let failed = |failure: Failure| Pass {
            report: Report {
                failure: Some(failure),
                ..Report::unchanged(&credential)
            },
            credential: Arc::clone(&credential),
            again: false,
        };
        let Some(found) = found else {
            return Ok(failed(provider::unknown(&credential)));
        };
        let endpoint = &self.tools.endpoint;
        let resolved = match self.resolver.resolve(found, &credential, endpoint).await {
            Ok(resolved) => resolved,
            Err(failure) => return Ok(failed(failure)),
        };
        let grant_type = credential.spec.oauth2.grant_type;
        let seed = match grant_type {
            GrantType::RefreshToken => self.seed(&credential).await,
            GrantType::ClientCredentials => Err(Failure::new(Reason::SeedNotFound, "")),
        };
        // A first start without a seed has nothing to close a gate for.
        let first = credential.status.as_ref().is_none_or(|s| s.token.is_none());
        if let (true, GrantType::RefreshToken, Err(failure)) = (first, grant_type, &seed) {
            return Ok(failed(failure.clone()));
        }
        let subject = Subject {
            credential: Arc::clone(&credential),
            resolved,
            seed,
        };
        match refresh(&self.tools, &subject).await {
            Outcome::Busy(pause) => Err(pause),
            Outcome::Done {
                report,
                gate_missing,
            } => Ok(Pass {
                again: gate_missing || report.seed_pending,
                report: *report,
                credential,
            }),
        }
    }

    /// Before anything is done for a credential, it gets a gate and a status: from then on a missing
    /// gate means that somebody deleted it.
    async fn first_sight(
        &self,
        credential: &Arc<IntegrationCredential>,
    ) -> Result<Arc<IntegrationCredential>, Duration> {
        if credential.status.is_some() {
            return Ok(Arc::clone(credential));
        }
        // Where it has a status already, or is another one, the cache is behind and the event comes.
        let current = self.current(credential).await;
        let current = current
            .filter(|current| current.status.is_none())
            .ok_or(SOON)?;
        let history = self.has_history(credential).await.map_err(|failure| {
            let reason = failure.reason.as_str();
            tracing::warn!(reason, message = failure.message, "first look failed");
            SOON
        })?;
        let mut created = None;
        if !history {
            let durations = Durations::scaled(None, self.tools.exchange_timeout);
            let gate = self.tools.gates.create(credential, &durations).await;
            created = gate.map_err(|error| retry(&error, "create the gate Lease"))?;
        }
        let status = status::first(credential, Timestamp::now());
        // By its version: somebody else may have had the first look.
        if self.write_status(&current, &status, true).await.is_err() {
            if let Some(created) = created {
                self.tools.gates.withdraw(credential, &created).await;
            }
            return Err(SOON);
        }
        let mut seen = IntegrationCredential::clone(credential);
        seen.status = Some(status);
        Ok(Arc::new(seen))
    }

    /// Whether there is a grant or a target from an earlier life of this very credential.
    async fn has_history(&self, credential: &IntegrationCredential) -> Result<bool, Failure> {
        let namespace = credential.namespace().unwrap_or_default();
        let uid = credential.uid().unwrap_or_default();
        for name in [credential.grant_name(), credential.target_name()] {
            let found = self.tools.secrets.get(&namespace, &name).await?;
            if found.is_some_and(|secret| is_owned(&secret, &uid)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Writes what a pass came to, tells people of transitions, and says when to look again.
    pub async fn conclude(&self, pass: Pass, mut memory: Memory, inputs: Inputs) -> Action {
        let Pass {
            credential,
            report,
            again,
        } = pass;
        let now = Timestamp::now();
        if let Some(version) = &report.target_version {
            memory.target = Some(Written::now(version.clone()));
        }
        let status = status::after(&credential, &report, now);
        let refresh = status.refresh.as_ref();
        memory.not_before = refresh
            .and_then(|r| r.next_attempt_time.as_ref())
            .map(|at| at.0);
        if !report.aside {
            memory.again = again;
            // Whatever was made of this version of the seed, only another one is a reason to look again.
            memory.seed_version = inputs.seed_version();
            memory.inputs = Some(inputs);
        }
        // The first status may just have been written; its version is in the recollection.
        let recalled = self.recall(&credential);
        memory.status_version = recalled.status_version.or(memory.status_version);
        memory.status_written = recalled.status_written.or(memory.status_written);
        self.remember(&credential, memory);
        let before = credential.status.as_ref();
        if !status::is_same(before, &status) {
            if let Err(action) = self.write_status(&credential, &status, false).await {
                return action;
            }
            for transition in status::transitions(before, &report) {
                self.tell(&credential, &transition).await;
            }
        }
        if again {
            return Action::requeue(Duration::ZERO);
        }
        self.wake(&credential, &status)
    }
}
