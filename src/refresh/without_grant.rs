//! Grants that store nothing which could be lost, behind the gate: the target is the store.

use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;

use super::{
    Opening, Subject, Tools,
    exchange::{Offer, came, exchange, outlast},
    kept, known_generation, new_token, publish, publish_over,
};
use crate::{
    api::GrantType,
    clock::{self, Moment},
    explain,
    lock::gate::Gate,
    oauth::error::{Answer, Spends},
    plan::{self, Pace},
    secret::{
        Token,
        target::{self, Held},
    },
    status::Report,
    telemetry::span::{self, Came},
};

/// Grants that store nothing that could be lost: the target is the store. `None`: begin again.
pub(super) async fn without_grant(
    tools: &Tools,
    subject: &Subject,
    gate: &mut Gate,
) -> Option<Opening> {
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
    let ours = found.as_ref().filter(|found| target::is_ours(found, &uid));
    if found.is_some()
        && ours.is_none()
        && let Err(failure) = tools.secrets.check_target(credential).await
    {
        return Some(kept(gate, failure));
    }
    let hash = &resolved.request_hash;
    let known = known_generation(credential, gate);
    let now = clock::now();
    let serves = |token: &Token| {
        token.generation >= known
            && (subject.asked.only_open
                || !(plan::is_due(credential, &Pace::of(&resolved.description), token, now)
                    || subject.asked.is_about(token.generation)
                    || plan::repeats(credential.status.as_ref())))
    };
    // One that could not be written yet is newer than what is there.
    if let Some(token) = tools.secrets.unpublished.find(&uid, hash)
        && serves(&token)
    {
        let report = publish(tools, subject, &token).await;
        if report.failure.is_none() {
            tools.secrets.unpublished.forget(&uid);
        }
        return Some(stands(report, &token));
    }
    let held = ours.and_then(target::held);
    if let (Some(held), Some(found)) = (&held, ours)
        && target::request_hash(found) == Some(hash)
        && held.serves(credential)
        && serves(held.facts())
    {
        let report = match held {
            Held::Readable(token) => publish_over(tools, subject, token, Some(found)).await,
            Held::Templated { facts, .. } => refit(tools, subject, found, facts).await?,
        };
        return Some(stands(report, held.facts()));
    }
    if subject.asked.only_open || !gate.may_exchange() || subject.ends.is_cancelled() {
        return None;
    }
    if subject.turn.take().is_err() {
        return None;
    }
    // Whatever would be refused afterwards: a token that nobody can read is not asked for.
    if let Err(failure) = target::check(credential) {
        return Some(kept(gate, failure));
    }
    let stored_generation = held.as_ref().map_or(0, |held| held.facts().generation);
    let generation = stored_generation.max(known).saturating_add(1);
    let previous = match &held {
        Some(Held::Readable(token)) => Some(token),
        _ => None,
    };
    let previous = (found.as_ref(), previous);
    obtain(tools, subject, gate, previous, generation).await
}

/// The token that stands there is as it should be.
fn stands(report: Report, token: &Token) -> Opening {
    Opening {
        generation: Some(token.generation),
        report,
        unresolved: None,
    }
}

/// A target whose token cannot be read in it, and need not be. `None`: begin again.
async fn refit(tools: &Tools, subject: &Subject, found: &Secret, facts: &Token) -> Option<Report> {
    match tools.secrets.refit(&subject.credential, found).await {
        Ok(published) => published.map(|published| Report {
            token: Some(facts.clone()),
            pace: Pace::of(&subject.resolved.description),
            target_version: published.resource_version,
            ..Report::default()
        }),
        Err(failure) => Some(Report::failed(failure)),
    }
}

/// Obtains a token and publishes it in the place of the target as it was read, with the token that was known in it.
async fn obtain(
    tools: &Tools,
    subject: &Subject,
    gate: &mut Gate,
    (found, previous): (Option<&Secret>, Option<&Token>),
    generation: u64,
) -> Option<Opening> {
    let Subject {
        credential,
        resolved,
        ..
    } = subject;
    let oauth2 = credential.oauth2();
    let offer = match (&subject.seed, oauth2.grant_type) {
        (Ok(seed), _) => Offer::Seed(&seed.authorization),
        (Err(failure), GrantType::JwtBearer) => return Some(kept(gate, failure.clone())),
        (Err(_), _) => Offer::Client,
    };
    let attempt = gate.attempt().to_owned();
    let timeout = gate.exchange_timeout();
    let result = gate
        .renewed_while(async {
            let start = Moment::now();
            let exchanging = exchange(tools, subject, offer, Spends::Nothing, timeout);
            let step = span::exchange(credential, &attempt);
            let (sent, answer) = step
                .run(exchanging, |(_, a)| came(a, Spends::Nothing))
                .await;
            let tokens = match answer {
                Ok(tokens) => tokens,
                Err(answer) => {
                    outlast(subject, &answer, start, timeout).await;
                    return Err(answer);
                }
            };
            let remark = explain::remark(&tokens, credential, &resolved.description);
            let asked = &oauth2.scopes;
            // A refresh token alone is of no use here.
            let token = tokens
                .access_token
                .is_some()
                .then(|| new_token(subject, generation, sent, tokens, asked, previous))
                .flatten()
                .ok_or_else(Answer::without_tokens)?;
            let publishing = publish_over(tools, subject, &token, found);
            let step = span::persist(credential, &attempt);
            let mut report = step.run(publishing, stored).await;
            let uid = credential.uid().unwrap_or_default();
            let unpublished = &tools.secrets.unpublished;
            if report.failure.is_some() {
                unpublished.keep(&uid, &token, &resolved.request_hash);
            } else {
                unpublished.forget(&uid);
            }
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
                // Also where it is not there yet: the old token may be dead, and nobody is to take it.
                generation: Some(generation),
                unresolved: None,
            }
        }
        Err(answer) => {
            let failure = explain::failure(&answer, Spends::Nothing, credential, &resolved.origin);
            tracing::warn!(
                reason = failure.reason.as_str(),
                outcome = failure.reason.class().consequence().label,
                code = failure.code,
                "token not obtained"
            );
            kept(gate, failure)
        }
    })
}

/// What the write of a target came to that is the store, as the outcome of its span.
fn stored(report: &Report) -> Came {
    match (&report.failure, &report.token) {
        (Some(failure), _) => Came::Failure(failure.reason),
        (None, token) => Came::Success(token.as_ref().map(|token| token.generation)),
    }
}
