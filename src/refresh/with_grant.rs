//! Grant `RefreshToken`, behind the gate: the refresh token lives in the grant Secret, and what an exchange
//! brings is stored there before anything else.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use secrecy::{ExposeSecret, SecretString};

use super::{Opening, Subject, Tools, exchange, kept, known_generation, new_token, publish};
use crate::{
    api::{IntegrationCredential, Rotation},
    explain,
    failure::{Class, Failure, Reason},
    lock::{gate::Gate, protocol::Unresolved},
    oauth::{
        error::{Answer, Spends},
        grant::Presented,
        response::TokenResponse,
    },
    plan::{self, Behind, Step, under_gate},
    secret::{
        grant::{Grant, GrantError, SeedRecord, Verdict},
        store::{Exchanged, grant_conflict},
    },
    status::Report,
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
        provider: &subject.resolved.provider,
        origin: &subject.resolved.origin,
        client_id: &subject.resolved.client_id,
        grant: grant.as_ref(),
        seed: &subject.seed,
        gate_generation: gate.generation(),
        unresolved: unresolved.as_ref(),
        now: Timestamp::now(),
    });
    let base = Base {
        secret: stored.as_ref(),
        grant,
        known: known_generation(credential, gate),
    };
    match (step, &base.grant, &subject.seed) {
        (Step::Publish { unresolved }, Some(grant), _) => {
            let report = published(tools, subject, grant).await;
            Some(Opening {
                generation: Some(grant.token.generation),
                report,
                unresolved,
            })
        }
        (Step::Refresh, Some(grant), _) => {
            let spent = grant.refresh_token.clone();
            let opening = present(tools, subject, gate, &base.presenting(&spent, None)).await;
            opening.map(|opening| opening.with_pending_seed(subject, grant))
        }
        (Step::Adopt, _, Ok(seed)) => {
            let spent = seed.refresh_token.clone();
            let as_seed = Some(seed.fingerprint.as_str());
            present(tools, subject, gate, &base.presenting(&spent, as_seed)).await
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

/// The grant as it was read behind the gate.
struct Base<'a> {
    secret: Option<&'a Secret>,
    grant: Option<Grant>,
    /// The highest generation that is known of.
    known: u64,
}

impl<'a> Base<'a> {
    fn presenting(&'a self, spent: &'a SecretString, as_seed: Option<&'a str>) -> Presenting<'a> {
        Presenting {
            base: self,
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

/// A refresh token about to be presented: the grant's, or a seed's.
struct Presenting<'a> {
    base: &'a Base<'a>,
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
        spent,
        as_seed,
    } = *presenting;
    let Subject {
        credential,
        resolved,
        ..
    } = subject;
    // Preflight: whatever can be found out before the token is spent.
    if let Err(failure) = preflight(tools, subject, base, as_seed).await {
        return Some(kept(gate, failure));
    }
    let is_retry = as_seed.is_none() && gate.unresolved().is_some();
    if is_retry && !gate.note_retried().await {
        return None;
    }
    if !gate.is_valid() || tools.shutdown.is_cancelled() {
        return None;
    }
    let spends = match resolved.provider.rotation {
        Rotation::Never => Spends::LastingToken,
        Rotation::Sometimes | Rotation::Always => Spends::RotatingToken,
    };
    let attempt = gate.attempt().to_owned();
    let timeout = gate.exchange_timeout();
    let result = gate
        .renewed_while(async {
            let presented = Presented::RefreshToken(spent);
            let (sent, answer) = exchange(tools, resolved, &presented, spends, timeout).await;
            let tokens = match answer {
                Ok(tokens) => tokens,
                Err(answer) => return Err(Unstored::Answer(sent, answer)),
            };
            let remark = explain::remark(&tokens, credential, &resolved.provider);
            let ours = new_grant(subject, base, spent, as_seed, attempt.clone(), sent, tokens);
            let exchanged = Exchanged {
                base: base.secret,
                base_generation: base.generation(),
                known_generation: base.known,
                spent,
                adopting: as_seed.is_some(),
                ours,
            };
            match tools.secrets.persist(credential, exchanged).await {
                Ok(grant) => Ok((grant, remark)),
                Err(failure) => Err(Unstored::Refused(sent, failure)),
            }
        })
        .await;
    match result {
        Ok((grant, remark)) => {
            let mut report = published(tools, subject, &grant).await;
            report.remark = remark;
            report.refreshed = true;
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
                code = failure.code,
                "token not refreshed"
            );
            unanswered(tools, subject, gate, presenting, (sent, &answer), failure).await
        }
    }
}

/// There is an answer, or none, and no tokens: what that means depends on whose token was presented.
async fn unanswered(
    tools: &Tools,
    subject: &Subject,
    gate: &Gate,
    presenting: &Presenting<'_>,
    (sent, answer): (Timestamp, &Answer),
    failure: Failure,
) -> Option<Opening> {
    let Subject {
        credential,
        resolved,
        ..
    } = subject;
    let Presenting { base, as_seed, .. } = *presenting;
    // A seed that cannot be tried leaves a grant that works, and is not in need, as it is.
    let spared = as_seed.and_then(|_| {
        base.grant.as_ref().filter(|grant| {
            let provider = &resolved.provider;
            grant.token.generation >= base.known
                && !plan::is_due(credential, provider, &grant.token, Timestamp::now())
        })
    });
    let is_dead = failure.reason.class() == Class::NeedsReauthorization;
    if is_dead || (is_refusal(answer) && spared.is_some()) {
        return refused(tools, subject, gate, presenting, failure).await;
    }
    if let Some(grant) = spared {
        let mut report = published(tools, subject, grant).await;
        report.seed_rejected = Some(explain::seed_untried(&failure));
        return Some(Opening {
            generation: Some(grant.token.generation),
            report,
            unresolved: gate.unresolved().cloned(),
        });
    }
    if failure.reason.class() != Class::Ambiguous {
        return Some(kept(gate, failure));
    }
    let mut opening = unresolved(gate, sent, failure, base);
    if let (None, Some(grant), Some(unresolved)) = (as_seed, &base.grant, &opening.unresolved) {
        let (provider, token) = (&resolved.provider, &grant.token);
        let not_before =
            plan::hold_until(provider, credential, token, unresolved, Timestamp::now());
        if let Some(failure) = &mut opening.report.failure {
            failure.not_before = not_before;
        }
    }
    Some(opening)
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

/// Whether the provider answered that it does not want the request, whatever words it found for that.
fn is_refusal(answer: &Answer) -> bool {
    matches!(
        answer,
        Answer::Answered {
            status: 400..=499,
            ..
        }
    ) && !matches!(
        answer,
        Answer::Answered {
            status: 401 | 404 | 405 | 408 | 429,
            ..
        }
    )
}

/// Why tokens are not stored.
enum Unstored {
    /// There were none.
    Answer(Timestamp, Answer),
    /// The API server would not take them.
    Refused(Timestamp, Failure),
}

/// The provider refused a refresh token: whose it was decides what that means.
async fn refused(
    tools: &Tools,
    subject: &Subject,
    gate: &Gate,
    presenting: &Presenting<'_>,
    mut failure: Failure,
) -> Option<Opening> {
    let Presenting {
        base,
        spent,
        as_seed,
    } = *presenting;
    let credential = &subject.credential;
    let namespace = credential.namespace().unwrap_or_default();
    match (&base.grant, as_seed) {
        // A seed that was refused leaves the old grant as it is.
        (Some(grant), Some(fingerprint)) => {
            let mut grant = grant.clone();
            if let Some(stored) = base.secret
                && let Err(failure) = tools
                    .secrets
                    .note_refused(credential, stored, &mut grant, fingerprint)
                    .await
            {
                return Some(kept(gate, failure));
            }
            let mut report = published(tools, subject, &grant).await;
            // What was wrong with that grant is not mended by this.
            report.aside = true;
            return Some(Opening {
                generation: Some(grant.token.generation),
                report,
                unresolved: gate.unresolved().cloned(),
            });
        }
        // Before it counts as dead: was another one stored meanwhile, by a writer that had lapsed?
        (Some(_), None) => {
            let uid = credential.uid().unwrap_or_default();
            let stored = tools
                .secrets
                .get(&namespace, &credential.grant_name())
                .await;
            let moved = match stored {
                Ok(Some(stored)) => Grant::read(&stored, &uid)
                    .is_ok_and(|g| g.refresh_token.expose_secret() != spent.expose_secret()),
                Ok(None) => false,
                Err(failure) => return Some(kept(gate, failure)),
            };
            if moved {
                return None;
            }
        }
        (None, _) => {}
    }
    if gate.unresolved().is_some() {
        failure.reason = Reason::RotationLost;
        failure.message = format!(
            "an earlier refresh was sent and its answer never arrived; the provider had replaced the refresh token, and the new one is lost. Now {}",
            explain::reseed(credential)
        );
    }
    let mut report = Report::failed(failure);
    report.seed_fingerprint = as_seed.map(str::to_owned);
    report.note_seed(subject);
    Some(Opening {
        report,
        generation: Some(base.generation()),
        unresolved: None,
    })
}

fn new_grant(
    subject: &Subject,
    base: &Base<'_>,
    spent: &SecretString,
    as_seed: Option<&str>,
    attempt: String,
    sent: Timestamp,
    mut tokens: TokenResponse,
) -> Grant {
    let refresh_token = tokens.refresh_token.take().unwrap_or_else(|| spent.clone());
    let asked = match (&base.grant, as_seed) {
        (Some(grant), None) => grant.token.scopes.as_slice(),
        _ => &subject.credential.spec.oauth2.scopes,
    };
    let mut ours = Grant {
        token: new_token(subject, 0, sent, tokens, asked),
        refresh_token,
        seeds: base.seeds(&subject.credential),
        origin: subject.resolved.origin.clone(),
        client_id: subject.resolved.client_id.clone(),
        attempt,
    };
    if let Some(fingerprint) = as_seed {
        ours.remember(fingerprint, true);
    }
    ours
}

/// Publishes a grant's token and says what is to be said of the grant.
async fn published(tools: &Tools, subject: &Subject, grant: &Grant) -> Report {
    let mut report = publish(tools, subject, &grant.token).await;
    let current = grant.seeds.iter().rfind(|s| s.adopted);
    report.seed_fingerprint = current.map(|s| s.fingerprint.clone());
    report.note_seed(subject);
    report.seed_rejected = match &subject.seed {
        Ok(seed) => explain::rejected(&subject.credential, grant.verdict(&seed.fingerprint)),
        Err(failure) if failure.reason == Reason::SeedInvalid => Some(failure.message.clone()),
        // A seed that was adopted is not needed any more.
        Err(_) => None,
    };
    report
}

/// A failure that leaves it unknown whether a token was spent.
fn unresolved(gate: &Gate, sent: Timestamp, failure: Failure, base: &Base<'_>) -> Opening {
    let now = Unresolved {
        attempt: gate.attempt().to_owned(),
        since: sent,
        retried: false,
    };
    Opening {
        report: Report::failed(failure),
        generation: Some(base.generation()),
        unresolved: Some(gate.unresolved().cloned().unwrap_or(now)),
    }
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
