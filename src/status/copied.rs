//! The status of a credential that is copied: what is special of it.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{READY, RECONCILING, Report, STALLED, Setter, Transition, condition, is_alive};
use crate::{
    api::{CredentialStatus, IntegrationCredential, Kind, TokenStatus},
    explain::source as told,
};

/// The reason of the conditions when what was copied has expired.
const EXPIRED: &str = "Expired";

/// What was copied, and from what.
pub(super) fn note(status: &mut CredentialStatus, report: &Report) {
    if report.source_version.is_some() {
        let source = status.source.get_or_insert_default();
        source.resource_version.clone_from(&report.source_version);
    }
    if let Some(copy) = &report.copied {
        status.token = Some(TokenStatus {
            generation: i64::try_from(copy.generation).unwrap_or(i64::MAX),
            expiration_time: copy.expires_at.map(Time),
            scopes: Vec::new(),
            last_refresh_time: Some(Time(copy.copied_at)),
        });
        status.refresh.get_or_insert_default().next_time = None;
    }
}

/// The conditions after a pass without a failure.
pub(super) fn set_conditions(
    status: &mut CredentialStatus,
    credential: &IntegrationCredential,
    kind: Kind<'_>,
    now: Timestamp,
) {
    if !is_alive(status, now) {
        set_expired(status, credential, kind, now);
        return;
    }
    let mut set = Setter::new(status, now);
    set.set(READY, "True", "Valid", &told::valid(credential, kind));
    set.set(STALLED, "False", "Valid", "");
    set.remove(RECONCILING);
}

/// It has expired, and nobody but its user can change that.
pub(super) fn set_expired(
    status: &mut CredentialStatus,
    credential: &IntegrationCredential,
    kind: Kind<'_>,
    now: Timestamp,
) {
    let token = status.token.as_ref();
    let at = token.and_then(|t| t.expiration_time.as_ref());
    let message = told::expired(credential, kind, at.map_or(now, |at| at.0));
    // What is wrong besides is what it is stalled for, or is retried for.
    let failing = status.refresh.as_ref().is_some_and(|r| r.failures > 0);
    let mut set = Setter::new(status, now);
    set.set(READY, "False", EXPIRED, &message);
    if !failing {
        set.set(STALLED, "True", EXPIRED, &message);
        set.remove(RECONCILING);
    }
}

/// What people are told between two statuses.
pub(super) fn transitions(
    credential: &IntegrationCredential,
    before: Option<&CredentialStatus>,
    after: &CredentialStatus,
    report: &Report,
) -> Vec<Transition> {
    let Some(kind) = credential.copied() else {
        return Vec::new();
    };
    let mut events = Vec::new();
    let last = before.and_then(|s| s.refresh.as_ref()?.last_error.as_ref());
    let first = before.is_none_or(|s| s.token.is_none());
    if let (Some(_), Some(token)) = (&report.copied, &after.token)
        && (first || last.is_some())
    {
        events.push(Transition {
            warning: false,
            reason: "Copied",
            message: told::copied(kind, token.generation, !first),
        });
    }
    events
}

/// What people are told when what was copied has expired.
pub(super) fn expired(
    credential: &IntegrationCredential,
    before: Option<&CredentialStatus>,
    after: &CredentialStatus,
) -> Option<Transition> {
    credential.copied()?;
    let expired = |status: &CredentialStatus| {
        condition(status, READY).is_some_and(|c| c.status == "False" && c.reason == EXPIRED)
    };
    (expired(after) && !before.is_some_and(expired)).then(|| Transition {
        warning: true,
        reason: EXPIRED,
        message: condition(after, READY)
            .map(|c| c.message.clone())
            .unwrap_or_default(),
    })
}
