//! The critical section: from a closed gate to an open one, with a new token stored in between.
//!
//! In prose: **close** the gate by compare-and-swap. **Read** the grant again, uncached, and decide
//! what is needed. If a token must be presented, and the lease still holds, **exchange** it: once.
//! **Persist** the grant before anything else, whoever holds the gate by then. **Publish** the target
//! from it. **Open** the gate, on every path.
//!
//! It runs in a task of its own that neither a cancelled reconcile nor a shutdown aborts.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use secrecy::{ExposeSecret, SecretString};
use tokio_util::sync::CancellationToken;

use crate::{
    api::{AccessTokenOnRefresh, GrantType, IntegrationCredential, Rotation},
    clock::Moment,
    explain,
    failure::{Class, Failure, Reason},
    lock::{
        gate::{Entered, Gate, Gates, Opened},
        protocol::{Durations, Priority, Unresolved},
    },
    oauth::{
        endpoint::Endpoint,
        error::{Answer, Spends, classify},
        grant::{ClientIdentity, Presented, request},
        response::TokenResponse,
    },
    plan::{self, Behind, Step, under_gate},
    provider::Resolved,
    secret::{
        Token,
        grant::{Grant, GrantError, SeedRecord, Verdict},
        is_owned,
        seed::Seed,
        store::{Exchanged, Secrets, grant_conflict},
        target,
    },
    status::Report,
};

/// How soon a pass that came to nothing is made again.
const SOON: Duration = Duration::from_secs(1);

/// What the critical section works with.
pub struct Tools {
    /// The gates.
    pub gates: Gates,
    /// The Secrets.
    pub secrets: Secrets,
    /// The way to token endpoints.
    pub endpoint: Endpoint,
    /// How long one exchange may take at most.
    pub exchange_timeout: Duration,
    /// Set when the process is about to end: no exchange is started any more.
    pub shutdown: CancellationToken,
}

/// Whom it works for.
pub struct Subject {
    /// The credential.
    pub credential: Arc<IntegrationCredential>,
    /// Its provider.
    pub resolved: Resolved,
    /// Its seed, or why there is none.
    pub seed: Result<Seed, Failure>,
}

/// How it ended.
pub enum Outcome {
    /// Somebody else is at it, or it must be begun again: come back after this long.
    Busy(Duration),
    /// Done.
    Done {
        /// What to write into the status.
        report: Box<Report>,
        /// Whether the gate was deleted meanwhile and must be made anew.
        gate_missing: bool,
    },
}

/// How the work behind the gate ended: what people are told, and with what the gate opens.
struct Opening {
    report: Report,
    /// The generation of what stands behind the gate, where that is known.
    generation: Option<u64>,
    unresolved: Option<Unresolved>,
}

/// Runs the critical section for one credential.
pub async fn refresh(tools: &Tools, subject: &Subject) -> Outcome {
    let credential = &subject.credential;
    let durations = Durations::scaled(lifetime(credential), tools.exchange_timeout);
    let priority = match &subject.seed {
        Ok(seed) if is_new(seed, credential) => Priority::Update,
        _ => Priority::Refresh,
    };
    let mut gate = match tools.gates.enter(credential, priority, durations).await {
        Ok(Entered::Mine(gate)) => gate,
        Ok(Entered::Busy(pause)) => return Outcome::Busy(pause),
        Err(error) => {
            let failure = error.failure(&format!("close Lease {}", credential.gate_name()));
            return done(Report::failed(failure), false);
        }
    };
    tracing::Span::current().record("attempt", gate.attempt());
    if let Some(settle) = gate.settle() {
        tracing::warn!(reason = "GateMissing", wait = ?settle, "the gate was deleted; waiting until no writer can be at work");
        let waited = gate.renewed_while(async {
            tokio::select! {
                () = tokio::time::sleep(settle) => true,
                () = tools.shutdown.cancelled() => false,
            }
        });
        // Left closed: it must not be opened before the time is over.
        if !waited.await {
            return Outcome::Busy(SOON);
        }
    }
    let opening = match credential.spec.oauth2.grant_type {
        GrantType::RefreshToken => with_grant(tools, subject, &mut gate).await,
        GrantType::ClientCredentials => without_grant(tools, subject, &mut gate).await,
    };
    let generation = gate.generation();
    let unresolved = gate.unresolved().cloned();
    match opening {
        Some(opening) => {
            let opened = gate.open(opening.generation, opening.unresolved).await;
            done(opening.report, opened == Opened::Missing)
        }
        None => {
            gate.open(generation, unresolved).await;
            Outcome::Busy(SOON)
        }
    }
}

/// Grant `RefreshToken`: the refresh token lives in the grant Secret. `None`: begin again.
async fn with_grant(tools: &Tools, subject: &Subject, gate: &mut Gate) -> Option<Opening> {
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

fn known_generation(credential: &IntegrationCredential, gate: &Gate) -> u64 {
    plan::known_generation(credential.status.as_ref()).max(gate.generation().unwrap_or(0))
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
            let report = published(tools, subject, &grant).await;
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

/// Grants that store nothing that could be lost: the target is the store. `None`: begin again.
async fn without_grant(tools: &Tools, subject: &Subject, gate: &mut Gate) -> Option<Opening> {
    let Subject {
        credential,
        resolved,
        ..
    } = subject;
    let namespace = credential.namespace().unwrap_or_default();
    let found = match tools
        .secrets
        .get(&namespace, &credential.target_name())
        .await
    {
        Ok(found) => found,
        Err(failure) => return Some(kept(gate, failure)),
    };
    let uid = credential.uid().unwrap_or_default();
    if found.as_ref().is_some_and(|found| !is_owned(found, &uid)) {
        let conflict = tools.secrets.check_target(credential).await;
        return conflict.err().map(|failure| kept(gate, failure));
    }
    let stored = found.as_ref().and_then(target::read);
    let hash = found
        .as_ref()
        .and_then(|f| f.annotations().get(target::REQUEST_HASH));
    let known = known_generation(credential, gate);
    let now = Timestamp::now();
    if let Some(token) = &stored
        && hash == Some(&resolved.request_hash)
        && token.generation >= known
        && !plan::is_due(credential, &resolved.provider, token, now)
    {
        let report = publish(tools, subject, token).await;
        return Some(Opening {
            generation: Some(token.generation),
            report,
            unresolved: None,
        });
    }
    if !gate.is_valid() || tools.shutdown.is_cancelled() {
        return None;
    }
    let stored_generation = stored.as_ref().map_or(0, |t| t.generation);
    let generation = stored_generation.max(known).saturating_add(1);
    let timeout = gate.exchange_timeout();
    let scopes = &credential.spec.oauth2.scopes;
    let result = gate
        .renewed_while(async {
            let presented = Presented::Client { scopes };
            let (sent, answer) =
                exchange(tools, resolved, &presented, Spends::Nothing, timeout).await;
            let tokens = answer?;
            let remark = explain::remark(&tokens, credential, &resolved.provider);
            let token = new_token(subject, generation, sent, tokens, scopes);
            let mut report = publish(tools, subject, &token).await;
            report.remark = remark;
            report.refreshed = true;
            Ok(report)
        })
        .await;
    Some(match result {
        Ok(report) => {
            let stored = report.token.is_some();
            if stored {
                tracing::info!(generation, "token obtained");
            }
            Opening {
                report,
                generation: stored.then_some(generation),
                unresolved: None,
            }
        }
        Err(answer) => {
            let failure = explain::failure(&answer, Spends::Nothing, credential, &resolved.origin);
            tracing::warn!(
                reason = failure.reason.as_str(),
                code = failure.code,
                "token not obtained"
            );
            kept(gate, failure)
        }
    })
}

/// Sends the request, with the next client secret where the provider refuses one: such a refusal
/// spends nothing. All of it within `timeout`.
async fn exchange(
    tools: &Tools,
    resolved: &Resolved,
    presented: &Presented<'_>,
    spends: Spends,
    timeout: Duration,
) -> (Timestamp, Result<TokenResponse, Answer>) {
    let start = Moment::now();
    let mut secrets = resolved.client_secrets.iter();
    let mut secret = secrets.next();
    loop {
        let client = ClientIdentity {
            id: &resolved.client_id,
            secret,
        };
        let request = request(presented, &client, resolved.provider.client_auth);
        let left = timeout.saturating_sub(Moment::now().own_elapsed(start));
        let (sent, answer) = tools
            .endpoint
            .exchange(&resolved.url, &request, spends, left)
            .await;
        let next = match &answer {
            Err(answer) if classify(answer, spends) == Reason::InvalidClient => secrets.next(),
            _ => None,
        };
        if next.is_none() {
            return (sent, answer);
        }
        secret = next;
    }
}

fn new_token(
    subject: &Subject,
    generation: u64,
    sent: Timestamp,
    tokens: TokenResponse,
    asked: &[String],
) -> Token {
    Token {
        generation,
        access_token: tokens.access_token,
        token_type: tokens.token_type,
        scopes: tokens.scopes.unwrap_or_else(|| asked.to_vec()),
        issued_at: sent,
        expires_at: plan::expires_at(sent, tokens.lifetime, &subject.resolved.provider),
    }
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

async fn publish(tools: &Tools, subject: &Subject, token: &Token) -> Report {
    let hash = &subject.resolved.request_hash;
    let written = tools
        .secrets
        .publish(&subject.credential, token, hash)
        .await;
    match written {
        Ok(published) => Report {
            token: Some(published.newer.unwrap_or_else(|| token.clone())),
            target_version: published.resource_version,
            ..Report::default()
        },
        Err(failure) => {
            let provider = &subject.resolved.provider;
            let shown = plan::known_generation(subject.credential.status.as_ref());
            let is_behind = token.generation > shown;
            let dies = provider.access_token_on_refresh == AccessTokenOnRefresh::Invalidated;
            Report {
                target_is_dead: is_behind && dies,
                ..Report::failed(failure)
            }
        }
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

/// A failure that leaves everything as it was, and what was unresolved unresolved.
fn kept(gate: &Gate, failure: Failure) -> Opening {
    Opening {
        report: Report::failed(failure),
        generation: gate.generation(),
        unresolved: gate.unresolved().cloned(),
    }
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

fn lifetime(credential: &IntegrationCredential) -> Option<Duration> {
    let token = credential.status.as_ref()?.token.as_ref()?;
    let (from, to) = (
        token.last_refresh_time.as_ref()?,
        token.expiration_time.as_ref()?,
    );
    Duration::try_from(to.0.duration_since(from.0)).ok()
}

fn is_new(seed: &Seed, credential: &IntegrationCredential) -> bool {
    let known = credential.status.as_ref().and_then(|s| s.grant.as_ref());
    known.and_then(|g| g.seed_fingerprint.as_ref()) != Some(&seed.fingerprint)
}

fn done(report: Report, gate_missing: bool) -> Outcome {
    Outcome::Done {
        report: Box::new(report),
        gate_missing,
    }
}

impl Report {
    fn failed(failure: Failure) -> Self {
        Self {
            failure: Some(failure),
            ..Self::default()
        }
    }

    fn note_seed(&mut self, subject: &Subject) {
        if let Ok(seed) = &subject.seed {
            self.seed_version.clone_from(&seed.resource_version);
        }
    }
}
