//! There is an answer, or none, and no tokens: what that means, by whose token was presented.

use jiff::Timestamp;
use kube::ResourceExt;
use secrecy::ExposeSecret;

use super::{
    super::{Opening, Subject, Tools, kept},
    Base, Presenting, published,
};
use crate::{
    api::AccessTokenOnRefresh,
    clock, explain,
    failure::{Class, Failure, Reason},
    lock::{gate::Gate, protocol::Unresolved},
    oauth::error::Answer,
    plan::{self, Pace},
    secret::grant::Grant,
    status::Report,
};

/// There is an answer, or none, and no tokens: what that means depends on whose token was presented.
pub(super) async fn unanswered(
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
    let Presenting {
        base,
        offer,
        as_seed,
        ..
    } = *presenting;
    // Nobody gets anything for a code that may have been taken.
    let is_lost = failure.reason.class() == Class::Ambiguous && offer.is_code();
    if is_lost || matches!(answer, Answer::NoRefreshToken) {
        let failure = if is_lost {
            explain::code_spent(credential)
        } else {
            failure
        };
        let mark = unresolved(gate, sent, failure.clone(), base).unresolved;
        let mut opening = refused(tools, subject, gate, presenting, failure).await?;
        // Where no grant remembers the code, the gate does: whatever comes between, it is not presented again.
        if base.grant.is_none() {
            opening.unresolved = mark;
        }
        return Some(opening);
    }
    // A seed that cannot be tried leaves a grant that works, and is not in need, as it is.
    let spared = as_seed.and_then(|_| {
        base.grant.as_ref().filter(|grant| {
            let pace = Pace::of_grant(credential, &resolved.description, grant);
            grant.token.generation >= base.known
                && !plan::is_due(credential, &pace, &grant.token, clock::now())
        })
    });
    let is_dead = failure.reason.class() == Class::NeedsReauthorization;
    // Words that say what else is wrong say that the seed was not the reason.
    let is_about_it = matches!(
        failure.reason,
        Reason::RequestRefused | Reason::RefreshOutcomeUnknown
    );
    if is_dead || (is_refusal(answer) && is_about_it && spared.is_some()) {
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
        let (provider, token) = (&resolved.description, &grant.token);
        let not_before = plan::hold_until(provider, credential, token, unresolved, clock::now());
        if let Some(failure) = &mut opening.report.failure {
            failure.not_before = not_before;
        }
    }
    Some(opening)
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
        offer,
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
            report.mends_nothing = true;
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
    if gate.unresolved().is_some() && !offer.is_code() {
        failure.reason = Reason::RotationLost;
        failure.message = explain::rotation_lost(credential);
    }
    let mut report = Report::failed(failure);
    // The refresh that nobody knows of has ended it.
    report.target_is_dead = report.fails_with(Reason::RotationLost)
        && subject.resolved.description.access_token_on_refresh()
            == AccessTokenOnRefresh::Invalidated;
    report.seed_fingerprint = as_seed.map(str::to_owned);
    report.note_seed(subject);
    Some(Opening {
        report,
        generation: Some(base.generation()),
        unresolved: None,
    })
}

/// A failure that leaves it unknown whether a token was spent.
pub(super) fn unresolved(
    gate: &Gate,
    sent: Timestamp,
    failure: Failure,
    base: &Base<'_>,
) -> Opening {
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
