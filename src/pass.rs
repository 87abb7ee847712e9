//! One pass over a credential: the work that a decision asks for, and its end in status and events.

pub mod copied;
mod end;
mod first;
mod seed;
pub mod unsaid;
mod waiting;

use std::{sync::Arc, time::Duration};

use futures::future::join;
use jiff::Timestamp;
use kube::{ResourceExt, runtime::controller::Action};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::Span;

use crate::{
    api::{CredentialStatus, GrantType, IntegrationCredential},
    asked::Asked,
    cache::{Inputs, Memory, Written},
    clock::{self, Moment},
    context::Context,
    failure::{Failure, Reason},
    plan::{Pace, RECHECK, known_generation},
    provider::{self, Found, request_hash},
    refresh::{
        Outcome, Subject, Work, check, open_unkept, refresh,
        turn::{expects_a_request, turn},
    },
    secret::grant::Grant,
    status::{self, Report, Wake},
    telemetry::span::{self, Came},
};

/// The longest sleep. A pass that finds nothing costs no request, and the timers do not see a wall clock
/// that is set or a machine that was suspended.
const LONGEST_SLEEP: Duration = Duration::from_secs(600);

/// When a gate is looked at again that nobody keeps, where it cannot be opened for other reasons.
const LATER: Duration = Duration::from_secs(30);

/// What a pass came to.
pub struct Pass {
    credential: Arc<IntegrationCredential>,
    report: Report,
    again: bool,
}

impl Context {
    /// Nothing to do: only time may have changed what the status must say.
    pub async fn idle(&self, credential: &Arc<IntegrationCredential>) -> Action {
        self.tools
            .lanes
            .leave(&credential.uid().unwrap_or_default());
        if credential.status.is_none() {
            // Suspended from the start. It gets its gate and a status like any other.
            return match Box::pin(self.first_sight(credential)).await {
                Ok(_) => Action::await_change(),
                Err(pause) => Action::requeue(pause),
            };
        }
        // What becomes of the target at the end does not wait until it is resumed.
        if credential.spec.suspend
            && self.caches.target_stays_otherwise(credential)
            && let Err(failure) = self.tools.secrets.follow_retention(credential).await
        {
            let reason = failure.reason.as_str();
            tracing::warn!(
                reason,
                error = failure.message,
                "deletionPolicy not followed"
            );
            return Action::requeue(LATER);
        }
        let now = clock::now();
        let sight = self.caches.provider_sight(credential);
        let status = status::at(credential, now).or_else(|| credential.status.clone());
        let mut status = status.unwrap_or_default();
        let told = status::with_provider(credential, &mut status, &sight, now);
        if credential.status.as_ref().is_some_and(|s| *s != status) {
            if let Err(action) = self.write_and_tell(credential, &status).await {
                return action;
            }
            if let Some(transition) = told {
                self.tell(credential, &transition).await;
            }
        }
        self.wake(credential, &status)
    }

    /// When to look again, by the clock.
    fn wake(&self, credential: &IntegrationCredential, status: &CredentialStatus) -> Action {
        let now = clock::now();
        let until = |at: Timestamp| Duration::try_from(at.duration_since(now)).unwrap_or_default();
        match status::wake(credential, status, now) {
            Wake::At(at) => Action::requeue(until(at).min(LONGEST_SLEEP)),
            Wake::OnChange(at) => {
                let expiry = at.map(|at| until(at).min(LONGEST_SLEEP));
                // Nothing is read for one that is suspended: its time to be read again may be long past.
                let rereads = !credential.spec.suspend && !self.caches.watches_seed(credential);
                let recheck = rereads.then(|| {
                    if credential.copied().is_some() {
                        self.until_reread(credential)
                    } else {
                        RECHECK
                    }
                });
                let pause = expiry.into_iter().chain(recheck).min();
                Action::requeue(pause.unwrap_or(LONGEST_SLEEP))
            }
        }
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
            // What was wrong with these Secrets is mended by this; a failed refresh is not, nor is another spec
            // carried out.
            aside: !last.is_some_and(|e| Reason::concerns_secrets(&e.reason))
                || status.is_some_and(|s| s.observed_generation != credential.metadata.generation),
            ..Report::unchanged(credential)
        };
        let stored = secrets.get(&namespace, &credential.grant_name()).await;
        match stored.map(|found| found.map(|secret| Grant::read(&secret, &uid))) {
            // An older one was put back; behind the gate that is told.
            Ok(Some(Ok(grant))) if grant.token.generation < known => return None,
            Ok(Some(Ok(grant))) => {
                let hash = found.map(|f| request_hash(f, credential));
                let hash = hash.unwrap_or_default();
                match secrets.publish(credential, &grant.token, &hash).await {
                    Ok(published) => {
                        if published.written {
                            tracing::info!(
                                reason = "TargetRepaired",
                                "target written again from the grant"
                            );
                        }
                        if let Some(description) = found.and_then(|f| f.description.as_ref()) {
                            report.pace = Pace::of_grant(credential, description, &grant);
                        }
                        report.token = Some(grant.token);
                        report.target_version = published.resource_version;
                        report.target_adopted = published.adopted;
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
        asked: Asked,
    ) -> Result<Pass, Duration> {
        if credential.spec.suspend {
            return Err(Box::pin(open_unkept(&self.tools, credential)).await);
        }
        if credential.copied().is_some() {
            return Box::pin(self.copy(credential, asked)).await;
        }
        let credential = self.first_sight(credential).await?;
        let only_open = asked.only_open;
        let now = clock::now();
        let expects_a_request = !only_open && expects_a_request(&credential, &asked, now);
        if let (true, Some(found)) = (expects_a_request, &found)
            && let Some(pause) = self.still_waits(&credential, found, &asked).await
        {
            return Err(pause);
        }
        let request = asked.request.clone();
        let failed = |failure: Failure| Pass {
            report: Report {
                failure: Some(failure),
                handled_request: request.clone(),
                ..Report::unchanged(&credential)
            },
            credential: Arc::clone(&credential),
            again: false,
        };
        let Some(found) = found else {
            return if only_open {
                Err(LATER)
            } else {
                Ok(failed(provider::unknown(&credential)))
            };
        };
        let endpoint = &self.tools.endpoint;
        let resolved = match Box::pin(self.resolver.resolve(found, &credential, endpoint)).await {
            Ok(resolved) => resolved,
            // What is wrong is told already.
            Err(_) if only_open => return Err(LATER),
            Err(failure) => return Ok(failed(failure)),
        };
        let grant_type = credential.oauth2().grant_type;
        let spent_seed = self.spent_seed(&credential, &resolved.description);
        let seed = match &spent_seed {
            Some(_) => Err(Failure::new(Reason::SeedNotFound, "")),
            None => self.seed_of(&credential, &resolved.description).await,
        };
        // A first start without a seed has nothing to close a gate for.
        let first = credential.status.as_ref().is_none_or(|s| s.token.is_none());
        let needs_seed = matches!(grant_type, GrantType::RefreshToken | GrantType::JwtBearer);
        if let (true, true, Err(failure)) = (first, needs_seed, &seed) {
            return if only_open {
                Err(LATER)
            } else {
                Ok(failed(failure.clone()))
            };
        }
        let turn = turn(&self.tools, &credential, &resolved, &asked, now);
        if expects_a_request
            && let Some(pause) = self.must_wait(&credential, &resolved, &asked, &turn).await
        {
            return Err(pause);
        }
        let subject = Subject {
            credential: Arc::clone(&credential),
            resolved,
            seed,
            spent_seed,
            asked,
            turn,
            waits_for: watch::Sender::default(),
            ends: self.ends(&credential),
        };
        if let (false, Err(failure)) = (only_open, check(&subject)) {
            return Ok(failed(failure));
        }
        self.behind_the_gate(&Work::Token(&subject)).await
    }

    /// Runs the critical section.
    async fn behind_the_gate(&self, work: &Work<'_>) -> Result<Pass, Duration> {
        match self.refresh_and_tell(*work).await {
            (_, Outcome::Busy(pause)) => Err(pause),
            (
                told,
                Outcome::Done {
                    report,
                    gate_missing,
                },
            ) => Ok(Pass {
                again: gate_missing || report.seed_pending,
                report: *report,
                credential: told.unwrap_or_else(|| Arc::clone(work.credential())),
            }),
        }
    }

    /// Runs the critical section, and tells people where it waits for holders. Returns the credential with
    /// the status that says so, where it was written.
    async fn refresh_and_tell(
        &self,
        work: Work<'_>,
    ) -> (Option<Arc<IntegrationCredential>>, Outcome) {
        let mut waits_for = work.waits_for().subscribe();
        let done = CancellationToken::new();
        let refreshed = async {
            let outcome = refresh(&self.tools, work).await;
            done.cancel();
            outcome
        };
        let told = async {
            let holders = tokio::select! {
                holders = waits_for.wait_for(|holders| !holders.is_empty()) => holders.ok()?.clone(),
                () = done.cancelled() => return None,
            };
            let credential = work.credential();
            let status = status::draining(credential, &holders, clock::now())?;
            self.write_and_tell(credential, &status).await.ok()?;
            let mut credential = IntegrationCredential::clone(credential);
            credential.status = Some(status);
            Some(Arc::new(credential))
        };
        // Joined, not selected: a status that is being written must not arrive after the next one.
        join(Box::pin(told), Box::pin(refreshed)).await
    }

    /// Writes a status that time has brought about, or a change of the spec, and tells people of it.
    async fn write_and_tell(
        &self,
        credential: &IntegrationCredential,
        status: &CredentialStatus,
    ) -> Result<(), Action> {
        self.write_status(credential, status, false).await?;
        let mut memory = self.recall(credential);
        self.tell_unsaid(credential, &mut memory).await;
        for transition in status::noticed(credential, credential.status.as_ref(), status) {
            self.tell(credential, &transition).await;
        }
        Ok(())
    }

    /// Writes what a pass came to, tells people of transitions, and says when to look again.
    pub async fn conclude(&self, pass: Pass, mut memory: Memory, inputs: Inputs) -> Action {
        let Pass {
            credential,
            report,
            again,
        } = pass;
        let now = clock::now();
        let behind = report.token.is_some();
        if report.refreshed || report.failure.is_some() {
            let class = report.failure.as_ref().map(|f| f.reason.class());
            let label = class.map(|class| class.consequence().label);
            self.tools.metrics.refreshed(&credential, label);
        }
        let token = report.token.as_ref().map(|token| token.generation);
        let generation = token.or(report.copied.as_ref().map(|copy| copy.generation));
        let failure = report.failure.as_ref().map(|failure| failure.reason);
        let came = failure.map_or(Came::Success(generation), Came::Failure);
        span::came_to(&Span::current(), came);
        if let Some(version) = &report.target_version {
            memory.target = Some(Written::now(version.clone()));
        }
        let mut status = status::after(&credential, &report, now);
        let sight = self.caches.provider_sight(&credential);
        let told = status::with_provider(&credential, &mut status, &sight, now);
        let conflict = Reason::TargetConflict;
        let conflict = report.failure.as_ref().filter(|f| f.reason == conflict);
        memory.conflict = conflict.map(|_| self.caches.target_version(&credential));
        let refresh = status.refresh.as_ref();
        memory.not_before = refresh
            .and_then(|r| r.next_attempt_time.as_ref())
            .map(|at| at.0);
        if !report.aside {
            memory.again = again;
            if credential.copied().is_some() {
                memory.checked = Some(Moment::now());
            }
            // Whatever was made of this version of the seed, only another one is a reason to look again.
            memory.seed_version = inputs.seed_version();
            memory.inputs = Some(inputs);
        }
        // The first status may just have been written; its version is in the recollection.
        let recalled = self.recall(&credential);
        memory.status_version = recalled.status_version.or(memory.status_version);
        memory.status_written = recalled.status_written.or(memory.status_written);
        memory.unsaid = recalled.unsaid;
        self.remember(&credential, memory.clone());
        let before = credential.status.as_ref();
        if !status::is_settled(before, &status) {
            let transitions = status::transitions(&credential, before, &status, &report);
            let transitions = transitions.into_iter().chain(told);
            // Where the API server is away it is tried as soon as it is back: that it was is not counted.
            let counts = failure != Some(Reason::APIServerError);
            let said = self.say(&credential, memory, status.clone(), transitions, counts);
            if let Err(action) = said.await {
                return action;
            }
        }
        let mut answered = IntegrationCredential::clone(&credential);
        answered.status = Some(status.clone());
        self.answer_wants(&answered, behind).await;
        if again {
            return Action::requeue(Duration::ZERO);
        }
        let unsaid = self.recall(&credential).unsaid;
        let rest = unsaid.map(|unsaid| unsaid.rest(unsaid.due()));
        rest.map_or_else(|| self.wake(&credential, &status), Action::requeue)
    }
}
