//! What people are told when: events, for transitions only.

use super::{
    AUTHORIZATION_EXPIRING, Report, SCOPES_MISSING, SEED_REJECTED, STALLED, SUSPENDED, condition,
    copied,
};
use crate::{
    api::{CredentialStatus, IntegrationCredential},
    asked::TOO_MANY_REJECTIONS,
    explain,
    secret::target::ADOPT,
};

/// An event that tells people of a transition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transition {
    /// Whether somebody should look.
    pub warning: bool,
    /// The event's reason.
    pub reason: &'static str,
    /// The event's note.
    pub message: String,
}

/// The events between two statuses: only for what changed, so that a credential that fails for a week
/// has one event, and one that works has none but its first.
#[must_use]
pub fn transitions(
    credential: &IntegrationCredential,
    before: Option<&CredentialStatus>,
    after: &CredentialStatus,
    report: &Report,
) -> Vec<Transition> {
    let mut events = Vec::new();
    let last = before
        .and_then(|s| s.refresh.as_ref())
        .and_then(|r| r.last_error.as_ref());
    if !report.forced.is_empty() {
        events.push(Transition {
            warning: true,
            reason: "ForcedRefresh",
            message: explain::forced(&report.forced),
        });
    }
    let rejections = before
        .and_then(|s| s.refresh.as_ref())
        .map_or(0, |r| r.rejections);
    if report.refreshed && report.rejected_early && rejections + 1 == TOO_MANY_REJECTIONS {
        events.push(Transition {
            warning: true,
            reason: "TokenRejected",
            message: explain::TOKEN_REJECTED.to_owned(),
        });
    }
    let was_rejected = before.is_some_and(|s| condition(s, SEED_REJECTED).is_some());
    if report.adopted {
        events.push(Transition {
            warning: false,
            reason: "Authorized",
            message: "the provider accepted the seed's refresh token".to_owned(),
        });
    }
    if let (true, Some(target)) = (report.target_adopted, &after.target) {
        events.push(Transition {
            warning: false,
            reason: "TargetAdopted",
            message: format!(
                "Secret {} was handed over by the annotation {ADOPT}, and is the target from now on",
                target.name
            ),
        });
    }
    let first = before.is_none_or(|s| s.token.is_none());
    if let (true, Some(token)) = (report.refreshed, &report.token)
        && (first || last.is_some())
    {
        let again = if first {
            "obtained"
        } else {
            "obtained again after failures"
        };
        events.push(Transition {
            warning: false,
            reason: "Refreshed",
            message: format!(
                "a token was {again}; it has generation {}",
                token.generation
            ),
        });
    }
    if let (Some(message), false) = (&report.seed_rejected, was_rejected) {
        events.push(Transition {
            warning: true,
            reason: "SeedRejected",
            message: message.clone(),
        });
    }
    let missing = condition(after, SCOPES_MISSING);
    let was_missing = before.is_some_and(|s| condition(s, SCOPES_MISSING).is_some());
    if let (Some(missing), false) = (missing, was_missing) {
        events.push(Transition {
            warning: true,
            reason: "ScopeNarrowed",
            message: missing.message.clone(),
        });
    }
    // Of a provider that is gone people may have been told when that happened.
    let is_said = |reason: &str| {
        let stalled = before.and_then(|s| condition(s, STALLED));
        last.is_none() && stalled.is_some_and(|c| c.status == "True" && c.reason == reason)
    };
    if let Some(failure) = &report.failure
        && !is_said(failure.reason.as_str())
        && last.is_none_or(|l| l.reason != failure.reason.as_str() || l.code != failure.code)
    {
        events.push(Transition {
            warning: true,
            reason: failure.reason.event(),
            message: failure.message.clone(),
        });
    }
    events.extend(copied::transitions(credential, before, after, report));
    events.extend(noticed(credential, before, after));
    events
}

/// The events between two statuses that time, or a change of the spec, brings about by itself.
#[must_use]
pub fn noticed(
    credential: &IntegrationCredential,
    before: Option<&CredentialStatus>,
    after: &CredentialStatus,
) -> Vec<Transition> {
    let mut events = Vec::new();
    let was = |type_| before.and_then(|status| condition(status, type_));
    match (was(SUSPENDED), condition(after, SUSPENDED)) {
        (None, Some(now)) => events.push(Transition {
            warning: false,
            reason: "Suspended",
            message: now.message.clone(),
        }),
        (Some(_), None) => events.push(Transition {
            warning: false,
            reason: "Resumed",
            message: "it goes on".to_owned(),
        }),
        _ => {}
    }
    if let (None, Some(now)) = (
        was(AUTHORIZATION_EXPIRING),
        condition(after, AUTHORIZATION_EXPIRING),
    ) {
        events.push(Transition {
            warning: true,
            reason: AUTHORIZATION_EXPIRING,
            message: now.message.clone(),
        });
    }
    events.extend(copied::expired(credential, before, after));
    events
}
