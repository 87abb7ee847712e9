//! What is said of a token that is valid: what people should know of it all the same.

use std::time::Duration;

use crate::{
    api::{CredentialStatus, IntegrationCredential, TokenStatus},
    explain,
    lock::protocol::Durations,
    plan::schedule::keep_alive,
};

use super::Report;

/// The message of Ready.
pub(super) fn of_valid(
    status: &CredentialStatus,
    credential: &IntegrationCredential,
    report: &Report,
) -> String {
    let token = status.token.as_ref();
    let lifetime = token.and_then(lifetime);
    let said = report.remark.clone().unwrap_or_else(|| {
        let has_expiry = token.is_some_and(|t| t.expiration_time.is_some());
        match lifetime.and_then(too_short) {
            Some(needed) => explain::short_lived(needed),
            None => explain::valid(credential, has_expiry),
        }
    });
    let vain = in_vain(credential, lifetime, report);
    [said]
        .into_iter()
        .chain(vain)
        .collect::<Vec<_>>()
        .join("; ")
}

/// What of `spec.refresh` does not work, as shows only now.
fn in_vain(
    credential: &IntegrationCredential,
    lifetime: Option<Duration>,
    report: &Report,
) -> Vec<String> {
    let mut vain = Vec::new();
    let refresh = credential.spec.refresh.clone().unwrap_or_default();
    let assumed = credential.assumed_lifetime();
    let before = refresh.before.map(Duration::from);
    if let (Some(before), Some(lifetime)) = (before, lifetime.or(assumed))
        && before > lifetime / 2
    {
        vain.push(explain::before_too_long(before));
    }
    let own = refresh.keep_alive.map(Duration::from);
    if let (Some(own), Some(idle)) = (own, report.pace.idle)
        && keep_alive(credential, report.pace.idle).is_some_and(|used| used < own)
    {
        vain.push(explain::keep_alive_too_long(own, idle));
    }
    if let (Some(assumed), Some(lived), None) = (assumed, report.rejected_after, lifetime)
        && lived < assumed
    {
        vain.push(explain::assumed_too_long(assumed, lived));
    }
    vain
}

fn lifetime(token: &TokenStatus) -> Option<Duration> {
    let (from, to) = (
        token.last_refresh_time.as_ref()?,
        token.expiration_time.as_ref()?,
    );
    Duration::try_from(to.0.duration_since(from.0)).ok()
}

/// The lifetime that a token would need so that no crash outlasts it, where this one's is shorter.
fn too_short(lifetime: Duration) -> Option<Duration> {
    let needed = Durations::scaled(Some(lifetime), Duration::MAX).needed_lifetime();
    (lifetime < needed).then_some(needed)
}
