//! Grant `RefreshToken`, behind the gate: the refresh token lives in the grant Secret, and what an exchange
//! brings is stored there before anything else.

mod answered;
mod unanswered;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use secrecy::SecretString;

use self::{
    answered::{came_alone, new_grant, nothing_to_keep},
    unanswered::{unanswered, unresolved},
};
use super::{
    Opening, Subject, Tools,
    exchange::{Offer, came, exchange_in_grace, outlast},
    kept, known_generation, publish,
};
use crate::{
    api::{IntegrationCredential, Rotation},
    clock::{self, Moment},
    explain,
    failure::{Class, Failure, Reason},
    lock::gate::Gate,
    oauth::error::{Answer, Spends},
    plan::{self, Behind, Pace, Step, under_gate},
    secret::{
        grant::{Grant, GrantError, SeedRecord, Verdict},
        store::{Exchanged, grant_conflict},
    },
    status::Report,
    telemetry::span::{self, Came},
};

/// Grant `RefreshToken`: the refresh token lives in the grant Secret. `None`: begin again.
pub(super) async fn with_grant(
    tools: &Tools,
    subject: &Subject,
    gate: &mut Gate,
) -> Option<Opening> {
    let credential = &subject.credential;
    let namespace = credential.namespace().unwrap_or_default();
    let stored = match tools
        .secrets
        .get(&namespace, &credential.grant_name())
        .await
    {
        Ok(stored) => stored,
        Err(failure) => return Some(kept(gate, failure)),
    };
    let uid = credential.uid().unwrap_or_default();
    let read = stored.as_ref().map(|stored| Grant::read(stored, &uid));
    let (grant, unreadable) = match read {
        None => (None, None),
        Some(Ok(grant)) => (Some(grant), None),
        Some(Err(GrantError::Foreign)) => {
            let failure = grant_conflict(&namespace, &credential.grant_name());
            return Some(kept(gate, failure));
        }
        Some(Err(error)) => (None, Some(error)),
    };
    let unresolved = gate.unresolved().cloned();
    let step = under_gate(&Behind {
        credential,
        provider: &subject.resolved.description,
        origin: &subject.resolved.origin,
        client_id: &subject.resolved.client_id,
        grant: grant.as_ref(),
        seed: &subject.seed,
        gate_generation: gate.generation(),
        unresolved: unresolved.as_ref(),
        asked: &subject.asked,
        now: clock::now(),
    });
    let base = Base {
        secret: stored.as_ref(),
        grant,
        known: known_generation(credential, gate),
    };
    match (step, &base.grant, &subject.seed) {
        (Step::Publish { unresolved }, Some(grant), _) => {
            if let Some(stored) = &stored {
                tools.secrets.label_grant(credential, stored).await;
            }
            let mut report = published(tools, subject, grant).await;
            report.mends_nothing = is_refused(credential, grant);
            Some(Opening {
                generation: Some(grant.token.generation),
                report,
                unresolved,
            })
        }
        (Step::Refresh, Some(grant), _) => {
            let spent = grant.refresh_token.clone();
            let presenting = base.presenting(Offer::RefreshToken(&spent), &spent, None);
            let opening = present(tools, subject, gate, &presenting).await;
            opening.map(|opening| opening.with_pending_seed(subject, grant))
        }
        (Step::Adopt, _, Ok(seed)) => {
            let offer = Offer::Seed(&seed.authorization);
            let as_seed = Some(seed.fingerprint.as_str());
            let presenting = base.presenting(offer, seed.authorization.secret(), as_seed);
            present(tools, subject, gate, &presenting).await
        }
        (Step::Hold(until), _, _) => {
            let mut failure = explain::outcome_unknown(credential);
            failure.not_before = Some(until);
            Some(kept(gate, failure))
        }
        (Step::Fail(mut failure), _, seed) => {
            if let Some(error) = unreadable {
                failure.reason = Reason::GrantUnreadable;
                failure.message = format!(
                    "Secret {namespace}/{} cannot be used: {error}. Restore it, or {}",
                    credential.grant_name(),
                    explain::reseed(credential)
                );
            }
            let mut opening = kept(gate, failure);
            // So that a later seed can be told from this one.
            let status = credential.status.as_ref().and_then(|s| s.grant.as_ref());
            if let (Ok(seed), None) = (seed, status.and_then(|g| g.seed_fingerprint.as_ref())) {
                opening.report.seed_fingerprint = Some(seed.fingerprint.clone());
            }
            Some(opening)
        }
        // A step names what it was decided from.
        (Step::Publish { .. } | Step::Refresh | Step::Adopt, _, _) => None,
    }
}

/// Whether the provider has refused this grant already: what nobody asked it about mends that not.
fn is_refused(credential: &IntegrationCredential, grant: &Grant) -> bool {
    let status = credential.status.as_ref();
    let last = status.and_then(|s| s.refresh.as_ref()?.last_error.as_ref());
    let is_dead = last.is_some_and(|error| Reason::is_terminal(&error.reason));
    is_dead && grant.token.generation <= plan::known_generation(status)
}

/// The grant as it was read behind the gate.
struct Base<'a> {
    secret: Option<&'a Secret>,
    grant: Option<Grant>,
    /// The highest generation that is known of.
    known: u64,
}

impl<'a> Base<'a> {
    fn presenting(
        &'a self,
        offer: Offer<'a>,
        spent: &'a SecretString,
        as_seed: Option<&'a str>,
    ) -> Presenting<'a> {
        Presenting {
            base: self,
            offer,
            spent,
            as_seed,
        }
    }

    /// The authorizations that were presented before, as far as anything still tells.
    fn seeds(&self, credential: &IntegrationCredential) -> Vec<SeedRecord> {
        if let Some(grant) = &self.grant {
            return grant.seeds.clone();
        }
        let mut seeds = self.secret.map(Grant::salvage_seeds).unwrap_or_default();
        let status = credential.status.as_ref().and_then(|s| s.grant.as_ref());
        if let (true, Some(last)) = (
            seeds.is_empty(),
            status.and_then(|g| g.seed_fingerprint.as_ref()),
        ) {
            seeds.push(SeedRecord {
                fingerprint: last.clone(),
                adopted: true,
            });
        }
        seeds
    }

    fn generation(&self) -> u64 {
        self.grant.as_ref().map_or(0, |g| g.token.generation)
    }
}

/// A refresh token about to be presented, the grant's or a seed's, or an authorization code.
struct Presenting<'a> {
    base: &'a Base<'a>,
    offer: Offer<'a>,
    spent: &'a SecretString,
    /// The fingerprint of the seed that it is from.
    as_seed: Option<&'a str>,
}

/// Presents a refresh token, and stores what comes of it.
async fn present(
    tools: &Tools,
    subject: &Subject,
    gate: &mut Gate,
    presenting: &Presenting<'_>,
) -> Option<Opening> {
    let Presenting {
        base,
        offer,
        spent,
        as_seed,
    } = *presenting;
    let (credential, resolved) = (&subject.credential, &subject.resolved);
    // Preflight: whatever can be found out before the token is spent.
    if let Err(failure) = preflight(tools, subject, base, as_seed).await {
        return Some(kept(gate, failure));
    }
    if !gate.may_exchange() || subject.ends.is_cancelled() || subject.turn.take().is_err() {
        return None;
    }
    let before = gate.unresolved().cloned();
    let is_retry = as_seed.is_none() && before.is_some();
    if is_retry && (!gate.note_retried().await || !gate.may_exchange()) {
        return None;
    }
    let spends = match resolved.description.rotation() {
        Rotation::Never if !offer.is_code() => Spends::LastingToken,
        Rotation::Never | Rotation::Sometimes | Rotation::Always => Spends::RotatingToken,
    };
    let attempt = gate.attempt().to_owned();
    let timeout = gate.exchange_timeout();
    let result = gate
        .renewed_while(async {
            let start = Moment::now();
            let exchanging =
                exchange_in_grace(tools, subject, offer, spends, before.is_none(), timeout);
            let step = span::exchange(credential, &attempt);
            let (sent, answer) = step.run(exchanging, |(_, a)| came(a, spends)).await;
            let tokens = match answer {
                Ok(tokens) => tokens,
                Err(answer) => {
                    outlast(subject, &answer, start, timeout).await;
                    return Err(Unstored::Answer(sent, answer));
                }
            };
            let remark = explain::remark(&tokens, credential, &resolved.description);
            let alone = tokens.access_token.is_none();
            let Some(ours) = new_grant(subject, presenting, attempt.clone(), sent, tokens) else {
                return Err(Unstored::Answer(sent, nothing_to_keep(offer)));
            };
            let exchanged = Exchanged {
                base: base.secret,
                base_generation: base.generation(),
                known_generation: base.known,
                spent,
                adopting: as_seed.is_some(),
                ours,
            };
            let storing = tools.secrets.persist(credential, exchanged);
            let step = span::persist(credential, &attempt);
            match step.run(storing, stored).await {
                Ok(grant) => Ok((grant, remark, alone)),
                Err(failure) => Err(Unstored::Refused(sent, failure)),
            }
        })
        .await;
    match result {
        Ok((grant, remark, alone)) => {
            let mut report = published(tools, subject, &grant).await;
            report.remark = remark;
            report.refreshed = !alone;
            if alone {
                report.failure.get_or_insert(came_alone(subject));
            }
            report.adopted = as_seed.is_some();
            tracing::info!(generation = grant.token.generation, "token refreshed");
            Some(Opening {
                generation: Some(grant.token.generation),
                report,
                unresolved: None,
            })
        }
        Err(Unstored::Refused(sent, failure)) => Some(unresolved(gate, sent, failure, base)),
        Err(Unstored::Answer(sent, answer)) => {
            let failure = explain::failure(&answer, spends, credential, &resolved.origin);
            tracing::warn!(
                reason = failure.reason.as_str(),
                outcome = failure.reason.class().consequence().label,
                code = failure.code,
                "token not refreshed"
            );
            let spends_nothing = failure.reason.class() != Class::Ambiguous
                && !matches!(answer, Answer::NoRefreshToken);
            let opening =
                unanswered(tools, subject, gate, presenting, (sent, &answer), failure).await;
            opening.map(|mut opening| {
                // The one time that the rule allows is still to come.
                if spends_nothing && opening.unresolved.is_some() {
                    opening.unresolved = before;
                }
                opening
            })
        }
    }
}

/// What the write of a grant came to, as the outcome of its span.
fn stored(grant: &Result<Grant, Failure>) -> Came {
    match grant {
        Ok(grant) => Came::Success(Some(grant.token.generation)),
        Err(failure) => Came::Failure(failure.reason),
    }
}

/// What can be found out before a refresh token is spent: that what comes back can be stored, and that
/// a seed is presented for the credential it was written for.
async fn preflight(
    tools: &Tools,
    subject: &Subject,
    base: &Base<'_>,
    as_seed: Option<&str>,
) -> Result<(), Failure> {
    let credential = &subject.credential;
    if let Some(stored) = base.secret {
        return tools.secrets.check_grant(credential, stored);
    }
    if as_seed.is_some() {
        tools.secrets.check_credential(credential).await?;
    }
    tools.secrets.check_target(credential).await?;
    tools.secrets.rehearse_grant(credential).await
}

/// Why tokens are not stored.
enum Unstored {
    /// There were none.
    Answer(Timestamp, Answer),
    /// The API server would not take them.
    Refused(Timestamp, Failure),
}

/// Publishes a grant's token and says what is to be said of the grant.
async fn published(tools: &Tools, subject: &Subject, grant: &Grant) -> Report {
    let mut report = publish(tools, subject, &grant.token).await;
    let current = grant.seeds.iter().rfind(|s| s.adopted);
    report.seed_fingerprint = current.map(|s| s.fingerprint.clone());
    report.refresh_expires_at = grant.refresh_expires_at;
    report.authorized_at = Some(grant.authorized_at);
    let description = &subject.resolved.description;
    report.authorization_ends_at = plan::schedule::ends_at(description, grant.authorized_at);
    report.pace = Pace::of_grant(&subject.credential, description, grant);
    // One that is still to be tried was not looked at.
    let pending =
        matches!(&subject.seed, Ok(seed) if grant.verdict(&seed.fingerprint) == Verdict::New);
    if !pending {
        report.note_seed(subject);
    }
    report.seed_rejected = match &subject.seed {
        Ok(seed) => explain::rejected(&subject.credential, grant.verdict(&seed.fingerprint)),
        Err(failure) if matches!(failure.reason, Reason::SeedInvalid | Reason::SeedInUse) => {
            Some(failure.message.clone())
        }
        // A seed that was adopted is not needed any more.
        Err(_) => None,
    };
    report
}

impl Opening {
    /// After a refresh that came first: the new seed is to be looked at next.
    fn with_pending_seed(mut self, subject: &Subject, grant: &Grant) -> Self {
        let verdict = subject
            .seed
            .as_ref()
            .map(|seed| grant.verdict(&seed.fingerprint));
        self.report.seed_pending =
            self.report.failure.is_none() && matches!(verdict, Ok(Verdict::New));
        self
    }
}
