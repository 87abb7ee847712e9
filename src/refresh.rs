//! The critical section: from a closed gate to an open one, with a new token stored in between.
//!
//! In prose: **close** the gate by compare-and-swap. **Drain**: look for holders, and wait until each has
//! let go, has timed out, or the deadline has come; not where the old token lives on. **Read** the grant
//! again, uncached, and decide what is needed. If a token must be presented, and the lease still holds, **exchange** it: once.
//! **Persist** the grant before anything else, whoever holds the gate by then. **Publish** the target
//! from it. **Open** the gate, on every path.
//!
//! It runs in a task of its own that neither a cancelled reconcile nor a shutdown aborts.

mod copied;
mod exchange;
pub mod turn;
mod unkept;
mod with_grant;
mod without_grant;

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use self::{copied::copied, with_grant::with_grant, without_grant::without_grant};
pub use self::{
    copied::{Copying, Look, look},
    exchange::check,
    unkept::open_unkept,
};
use crate::{
    api::{AccessTokenOnRefresh, CredentialStatus, GrantType, IntegrationCredential, LockMode},
    asked::{Asked, is_early},
    clock::{self, Moment},
    failure::{Failure, Reason},
    lock::{
        gate::{Drained, Entered, Gate, Gates, Opened, Wish},
        protocol::{Drains, Durations, Mode, Priority, Unresolved},
    },
    metrics::Metrics,
    oauth::{
        endpoint::Endpoint,
        response::TokenResponse,
        traffic::{Lanes, Turn},
    },
    plan::{self, Pace},
    provider::Resolved,
    secret::{
        Token,
        seed::Seed,
        store::{Published, Secrets},
    },
    status::{Report, SEED_REJECTED, condition},
};

/// How soon a pass that came to nothing is made again.
const SOON: Duration = Duration::from_secs(1);

/// A refresh with less time than this before its deadline does not leave the gate open for others first.
const FAIRNESS_ALLOWANCE: Duration = Duration::from_secs(2);

/// What the critical section works with.
pub struct Tools {
    /// The gates.
    pub gates: Gates,
    /// The Secrets.
    pub secrets: Secrets,
    /// The way to token endpoints.
    pub endpoint: Endpoint,
    /// Who may send a request, and when.
    pub lanes: Arc<Lanes>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
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
    /// The version of a seed that is not read again, because all was made of it that can be made: then there is none.
    pub spent_seed: Option<String>,
    /// What is asked for beyond the schedule.
    pub asked: Asked,
    /// Its turn among all that ask the same provider.
    pub turn: Turn,
    /// Told who holds the credential, where a refresh waits for them for long.
    pub waits_for: watch::Sender<Vec<String>>,
    /// Set when the process is about to end, or the credential: holders are not waited for any more.
    pub ends: CancellationToken,
}

/// What is done behind the gate.
#[derive(Clone, Copy)]
pub enum Work<'a> {
    /// A token is obtained, where that is due.
    Token(&'a Subject),
    /// What its user keeps in a Secret is copied.
    Copy(&'a Copying),
}

impl<'a> Work<'a> {
    /// The credential.
    #[must_use]
    pub fn credential(self) -> &'a Arc<IntegrationCredential> {
        match self {
            Self::Token(subject) => &subject.credential,
            Self::Copy(copying) => &copying.credential,
        }
    }

    /// Told who holds the credential, where somebody is waited for for long.
    #[must_use]
    pub fn waits_for(self) -> &'a watch::Sender<Vec<String>> {
        match self {
            Self::Token(subject) => &subject.waits_for,
            Self::Copy(copying) => &copying.waits_for,
        }
    }

    /// Set when holders are not waited for any more.
    fn ends(self, tools: &'a Tools) -> &'a CancellationToken {
        match self {
            Self::Token(subject) => &subject.ends,
            Self::Copy(_) => &tools.shutdown,
        }
    }

    fn asked(self) -> &'a Asked {
        match self {
            Self::Token(subject) => &subject.asked,
            Self::Copy(copying) => &copying.asked,
        }
    }
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
pub async fn refresh(tools: &Tools, work: Work<'_>) -> Outcome {
    let credential = work.credential();
    let asked = work.asked();
    let wish = match work {
        Work::Token(subject) => wish(tools, subject, clock::now()),
        Work::Copy(_) => copied::wish(credential, tools.exchange_timeout),
    };
    let mut gate = match tools.gates.enter(credential, wish).await {
        Ok(Entered::Mine(gate)) => gate,
        Ok(Entered::Busy(pause)) => return Outcome::Busy(pause),
        Err(error) => {
            let failure = error.failure(&format!("close Lease {}", credential.gate_name()));
            return done(Report::failed(failure), false);
        }
    };
    tracing::Span::current().record("attempt", gate.attempt());
    let closed = Moment::now();
    let drained = gate.drain(work.ends(tools), work.waits_for()).await;
    let waited = Moment::now().elapsed(closed);
    let metrics = &tools.metrics;
    metrics.waited(credential, waited, !gate.forced().is_empty());
    let generation = gate.generation();
    let unresolved = gate.unresolved().cloned();
    match drained {
        Ok(Drained::Behind) => {}
        Ok(Drained::Superseded) => return Outcome::Busy(SOON),
        Ok(Drained::Interrupted { safe }) => {
            if safe {
                gate.open(generation, unresolved, None).await;
            }
            return Outcome::Busy(SOON);
        }
        Err(error) => {
            let failure = error.failure("list and delete Leases that hold the credential");
            gate.open(generation, unresolved, None).await;
            return done(Report::failed(failure), false);
        }
    }
    let forced = gate.forced();
    let opening = match work {
        Work::Token(subject) if credential.oauth2().grant_type == GrantType::RefreshToken => {
            with_grant(tools, subject, &mut gate).await
        }
        Work::Token(subject) => without_grant(tools, subject, &mut gate).await,
        Work::Copy(copying) => copied(tools, copying, &mut gate).await,
    };
    let generation = gate.generation();
    let unresolved = gate.unresolved().cloned();
    match opening {
        Some(mut opening) => {
            let status = credential.status.as_ref();
            let is_early = status.is_some_and(|s| is_early(s, clock::now()));
            let report = &mut opening.report;
            // What is copied is not replaced because programs say so.
            report.rejected = matches!(work, Work::Token(_)) && !asked.wants.is_empty();
            report.rejected_early = report.rejected && is_early;
            let age = status.and_then(|s| age(s, clock::now()));
            report.rejected_after = age.filter(|_| report.rejected && report.refreshed);
            report.aside |= asked.only_open;
            report.handled_request.clone_from(&asked.request);
            report.forced = forced;
            if report.refreshed {
                metrics.took(Moment::now().elapsed(closed));
            }
            let lifetime = opening.report.token.as_ref().and_then(Token::lifetime);
            let holds =
                lifetime.map(|known| durations(credential, Some(known), tools.exchange_timeout));
            let opened = gate
                .open(opening.generation, opening.unresolved, holds)
                .await;
            done(opening.report, opened == Opened::Missing)
        }
        None => {
            gate.open(generation, unresolved, None).await;
            // Where it was not its turn: until it is.
            let turn = match work {
                Work::Token(subject) => subject.turn.pause(),
                Work::Copy(_) => None,
            };
            Outcome::Busy(turn.unwrap_or(SOON))
        }
    }
}

/// What this attempt wants of the gate.
fn wish(tools: &Tools, subject: &Subject, now: Timestamp) -> Wish {
    let credential = &subject.credential;
    let durations = durations(credential, lifetime(credential), tools.exchange_timeout);
    let priority = match &subject.seed {
        Ok(seed) if is_new(seed, credential) => Priority::Update,
        _ => Priority::Refresh,
    };
    let survives =
        subject.resolved.description.access_token_on_refresh() == AccessTokenOnRefresh::Survives;
    let scheduled = priority == Priority::Refresh && !subject.asked.is_now(credential);
    let patience = plan::patience(credential, &durations, scheduled, now);
    let has_token = credential
        .status
        .as_ref()
        .is_some_and(|s| s.token.is_some());
    Wish {
        priority,
        durations,
        mode: mode(credential),
        drains: if priority == Priority::Refresh && survives {
            Drains::WhereUnsure
        } else {
            Drains::Always
        },
        patience,
        urgent: !has_token || !scheduled || patience < FAIRNESS_ALLOWANCE,
    }
}

/// What the end of a credential wants of the gate: whoever holds it has the time that the protocol gives.
#[must_use]
pub fn wish_to_end(
    credential: &IntegrationCredential,
    exchange_timeout: Duration,
    now: Timestamp,
) -> Wish {
    let durations = durations(credential, lifetime(credential), exchange_timeout);
    Wish {
        priority: Priority::Delete,
        durations,
        mode: mode(credential),
        drains: Drains::Always,
        patience: plan::patience(credential, &durations, false, now),
        urgent: true,
    }
}

/// The durations of a credential's lock, for a token of this lifetime.
#[must_use]
pub fn durations(
    credential: &IntegrationCredential,
    lifetime: Option<Duration>,
    exchange_timeout: Duration,
) -> Durations {
    let lock = credential.spec.lock.clone().unwrap_or_default();
    Durations::scaled(lifetime, exchange_timeout).with_holds(
        lock.hold_duration.map(Duration::from),
        lock.drain_grace.map(Duration::from),
        lifetime,
    )
}

/// Who may hold a credential at a time.
#[must_use]
pub fn mode(credential: &IntegrationCredential) -> Mode {
    match credential.spec.lock.as_ref().map(|lock| lock.mode) {
        Some(LockMode::Exclusive) => Mode::Exclusive,
        Some(LockMode::Shared) | None => Mode::Shared,
    }
}

fn known_generation(credential: &IntegrationCredential, gate: &Gate) -> u64 {
    plan::known_generation(credential.status.as_ref()).max(gate.generation().unwrap_or(0))
}

/// The token that an answer brought; `previous` is the one before it. An answer that brought a refresh token alone leaves
/// the previous token as it is, which is then due at once.
fn new_token(
    subject: &Subject,
    generation: u64,
    sent: Timestamp,
    tokens: TokenResponse,
    asked: &[String],
    previous: Option<&Token>,
) -> Option<Token> {
    let Some(access_token) = tokens.access_token else {
        let mut token = previous?.clone();
        token.generation = generation;
        token.expires_at = Some(token.expires_at.map_or(sent, |at| at.min(sent)));
        return Some(token);
    };
    let mut metadata = previous.map(|p| p.metadata.clone()).unwrap_or_default();
    metadata.extend(tokens.metadata);
    Some(Token {
        generation,
        access_token,
        token_type: tokens.token_type,
        scopes: tokens.scopes.unwrap_or_else(|| asked.to_vec()),
        issued_at: sent,
        expires_at: plan::expires_at(sent, tokens.lifetime, &subject.resolved.description),
        id_token: tokens
            .id_token
            .or_else(|| previous.and_then(|p| p.id_token.clone())),
        metadata,
    })
}

async fn publish(tools: &Tools, subject: &Subject, token: &Token) -> Report {
    let hash = &subject.resolved.request_hash;
    let written = tools
        .secrets
        .publish(&subject.credential, token, hash)
        .await;
    published(subject, token, written)
}

/// As [`publish`], over the target as it was read.
async fn publish_over(
    tools: &Tools,
    subject: &Subject,
    token: &Token,
    found: Option<&Secret>,
) -> Report {
    let hash = &subject.resolved.request_hash;
    let written = tools
        .secrets
        .publish_over(&subject.credential, token, hash, found.cloned())
        .await;
    published(subject, token, written)
}

fn published(subject: &Subject, token: &Token, written: Result<Published, Failure>) -> Report {
    match written {
        Ok(published) => Report {
            token: Some(published.newer.unwrap_or_else(|| token.clone())),
            pace: Pace::of(&subject.resolved.description),
            target_version: published.resource_version,
            target_adopted: published.adopted,
            ..Report::default()
        },
        Err(failure) => {
            let provider = &subject.resolved.description;
            let shown = plan::known_generation(subject.credential.status.as_ref());
            let is_behind = token.generation > shown;
            let dies = provider.access_token_on_refresh() == AccessTokenOnRefresh::Invalidated;
            Report {
                target_is_dead: is_behind && dies,
                ..Report::failed(failure)
            }
        }
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

fn lifetime(credential: &IntegrationCredential) -> Option<Duration> {
    let token = credential.status.as_ref()?.token.as_ref()?;
    let (from, to) = (
        token.last_refresh_time.as_ref()?,
        token.expiration_time.as_ref()?,
    );
    Duration::try_from(to.0.duration_since(from.0)).ok()
}

/// How old the token is.
fn age(status: &CredentialStatus, now: Timestamp) -> Option<Duration> {
    let issued = status.token.as_ref()?.last_refresh_time.as_ref()?;
    Duration::try_from(now.duration_since(issued.0)).ok()
}

/// Whether a seed is the one that is said not to be used: it is not made new by being there still.
#[must_use]
pub fn is_rejected(seed: &Seed, credential: &IntegrationCredential) -> bool {
    let status = credential.status.as_ref();
    let rejected = status.is_some_and(|s| condition(s, SEED_REJECTED).is_some());
    let looked_at = status.and_then(|s| s.grant.as_ref()?.seed_resource_version.clone());
    rejected && looked_at == seed.resource_version
}

fn is_new(seed: &Seed, credential: &IntegrationCredential) -> bool {
    let known = credential.status.as_ref().and_then(|s| s.grant.as_ref());
    let known = known.and_then(|g| g.seed_fingerprint.as_ref());
    known != Some(&seed.fingerprint) && !is_rejected(seed, credential)
}

fn done(report: Report, gate_missing: bool) -> Outcome {
    Outcome::Done {
        report: Box::new(report),
        gate_missing,
    }
}

impl Report {
    fn fails_with(&self, reason: Reason) -> bool {
        self.failure.as_ref().is_some_and(|f| f.reason == reason)
    }

    fn failed(failure: Failure) -> Self {
        Self {
            failure: Some(failure),
            ..Self::default()
        }
    }

    fn note_seed(&mut self, subject: &Subject) {
        let seed = subject.seed.as_ref().ok();
        let version = seed.map_or(&subject.spent_seed, |seed| &seed.resource_version);
        if version.is_some() {
            self.seed_version.clone_from(version);
        }
    }
}
