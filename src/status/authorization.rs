//! How long the authorization lasts: a limit that no refresh puts off is told ahead of its end.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{AUTHORIZATION_EXPIRING, Report, Setter};
use crate::{
    api::{CredentialStatus, GrantStatus, IntegrationCredential},
    explain,
    failure::Reason,
    plan::schedule::is_same,
};

/// How long before its end an authorization is said to end, at most; at most a fifth of its life, too.
const AHEAD: Duration = Duration::from_secs(7 * 86_400);

/// Tokens that follow each other sooner than this do not tell whether a refresh puts off the end.
const TELLING: Duration = Duration::from_secs(10);

/// Records what `report` says of the authorization; `issued_before`: when the token before was obtained.
pub(super) fn note(grant: &mut GrantStatus, report: &Report, issued_before: Option<Time>) {
    let is_same_one = match (&grant.authorization_time, report.authorized_at) {
        (Some(before), Some(now)) => before.0.as_second() == now.as_second(),
        _ => false,
    };
    let (stated_before, end_before) = if is_same_one {
        (
            grant.expiration_time.take(),
            grant.final_expiration_time.take(),
        )
    } else {
        (None, None)
    };
    let stated = report.refresh_expires_at;
    let issued = report.token.as_ref().filter(|_| report.refreshed);
    let issued = issued.map(|token| token.issued_at);
    let fixed = match (stated_before, stated, issued_before, issued) {
        (Some(before), Some(stated), Some(from), Some(to)) => {
            is_fixed((before.0, stated), (from.0, to))
        }
        _ => None,
    };
    let end = match (fixed, stated, end_before) {
        (Some(true), Some(stated), _) => Some(stated),
        (None, Some(stated), Some(end)) if is_same(stated, end.0) => Some(end.0),
        _ => None,
    };
    grant.expiration_time = stated.map(Time);
    grant.authorization_time = report.authorized_at.map(Time);
    grant.final_expiration_time = report.authorization_ends_at.or(end).map(Time);
}

/// Whether the end that was stated stood still while a token was refreshed; `None`: that does not show.
fn is_fixed(
    (stated_before, stated): (Timestamp, Timestamp),
    (issued_before, issued): (Timestamp, Timestamp),
) -> Option<bool> {
    let passed = Duration::try_from(issued.duration_since(issued_before)).ok()?;
    let put_off = stated.duration_since(stated_before);
    let put_off = Duration::try_from(put_off).unwrap_or_default();
    (passed >= TELLING).then(|| put_off < passed / 2)
}

/// From when on people are told; `None`: no end is known, or something worse is told.
pub(super) fn warn_at(status: &CredentialStatus) -> Option<Timestamp> {
    let last = status.refresh.as_ref().and_then(|r| r.last_error.as_ref());
    if last.is_some_and(|e| Reason::ends_the_grant(&e.reason)) {
        return None;
    }
    let grant = status.grant.as_ref()?;
    let end = grant.final_expiration_time.as_ref()?.0;
    let from = grant.authorization_time.as_ref()?.0;
    let life = Duration::try_from(end.duration_since(from)).ok()?;
    end.checked_sub(AHEAD.min(life / 5)).ok()
}

/// Sets the condition, or takes it away.
pub(super) fn set_condition(
    status: &mut CredentialStatus,
    credential: &IntegrationCredential,
    now: Timestamp,
) {
    let is_near = warn_at(status).is_some_and(|at| at <= now);
    let end = status.grant.as_ref().filter(|_| is_near);
    let end = end.and_then(|g| g.final_expiration_time.as_ref());
    let message = end.map(|end| explain::authorization_ends(credential, end.0));
    let mut set = Setter::new(status, now);
    match message {
        Some(message) => set.set(
            AUTHORIZATION_EXPIRING,
            "True",
            AUTHORIZATION_EXPIRING,
            &message,
        ),
        None => set.remove(AUTHORIZATION_EXPIRING),
    }
}

#[cfg(test)]
mod tests;
