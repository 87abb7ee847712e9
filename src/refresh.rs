//! The critical section: from a closed gate to an open one, with a new token stored in between.
//!
//! In prose: **close** the gate by compare-and-swap. **Read** the grant again, uncached, and decide
//! what is needed. If a token must be presented, and the lease still holds, **exchange** it: once.
//! **Persist** the grant before anything else, whoever holds the gate by then. **Publish** the target
//! from it. **Open** the gate, on every path.
//!
//! It runs in a task of its own that neither a cancelled reconcile nor a shutdown aborts.

mod with_grant;
mod without_grant;

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use self::{with_grant::with_grant, without_grant::without_grant};
use crate::{
    api::{AccessTokenOnRefresh, GrantType, IntegrationCredential},
    clock::Moment,
    failure::{Failure, Reason},
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
    plan,
    provider::Resolved,
    secret::{Token, seed::Seed, store::Secrets},
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

fn known_generation(credential: &IntegrationCredential, gate: &Gate) -> u64 {
    plan::known_generation(credential.status.as_ref()).max(gate.generation().unwrap_or(0))
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
