//! The turn of an attempt among all that ask the same provider: taken before a gate is closed and holders are
//! drained, and made sure of before a request is sent.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use kube::ResourceExt;
use url::Url;

use super::Tools;
use crate::{
    api::{Description, GrantType, IntegrationCredential, ProviderKind, RateLimitScope},
    asked::Asked,
    clock::Moment,
    oauth::traffic::{Asking, Place, Turn, Uid, Why},
    provider::Resolved,
};

/// The turn of an attempt for `credential`.
#[must_use]
pub fn turn(
    tools: &Tools,
    credential: &IntegrationCredential,
    resolved: &Resolved,
    asked: &Asked,
    now: Timestamp,
) -> Turn {
    let url = match credential.oauth2().grant_type {
        GrantType::RefreshToken => &resolved.refresh_url,
        _ => &resolved.url,
    };
    let place = place(credential, resolved, url);
    let boot = Moment::now().boot();
    let left = if asked.is_now(credential) {
        Duration::ZERO
    } else {
        left(credential, now)
    };
    let asking = Asking {
        uid: Uid::from(credential.uid().unwrap_or_default()),
        needed_by: boot.saturating_add(left),
        by_person: asked.request.is_some(),
    };
    tools
        .lanes
        .turn(asking, place, resolved.request_hash.clone())
}

/// The turn of a request that revokes: before those of the schedule, because somebody waits for it.
#[must_use]
pub fn revocation_turn(
    tools: &Tools,
    credential: &IntegrationCredential,
    resolved: &Resolved,
    url: &Url,
) -> Turn {
    let asking = Asking {
        uid: Uid::from(credential.uid().unwrap_or_default()),
        needed_by: Moment::now().boot(),
        by_person: true,
    };
    let place = place(credential, resolved, url);
    tools.lanes.turn(asking, place, url.as_str().to_owned())
}

fn place(credential: &IntegrationCredential, resolved: &Resolved, url: &Url) -> Place {
    // A provider object of another namespace may name any client: what it is answered is no reason for others to wait.
    let reference = &credential.oauth2().provider_ref;
    let owner = match reference.kind {
        ProviderKind::OAuthProvider => credential.namespace().unwrap_or_default(),
        ProviderKind::ClusterOAuthProvider => String::new(),
    };
    let limits = resolved.description.refresh.as_ref();
    Place {
        client: format!("{owner}/{}", resolved.client_id),
        host: host(url),
        limit: limits.and_then(|limits| limits.rate_limit),
    }
}

/// Whose tokens were obtained how long ago, among the credentials of the same provider object.
#[must_use]
pub fn refreshed(
    credential: &IntegrationCredential,
    scope: RateLimitScope,
    all: &[Arc<IntegrationCredential>],
    now: Timestamp,
) -> Vec<(Uid, Duration)> {
    let counts = |other: &IntegrationCredential| {
        other.uid() == credential.uid()
            || scope == RateLimitScope::Client && has_same_provider(credential, other)
    };
    let ago = |other: &IntegrationCredential| {
        let token = other.status.as_ref()?.token.as_ref()?;
        let at = token.last_refresh_time.as_ref()?.0;
        let ago = Duration::try_from(now.duration_since(at)).ok()?;
        Some((Uid::from(other.uid()?), ago))
    };
    let counting = all.iter().filter(|other| counts(other));
    counting.filter_map(|other| ago(other)).collect()
}

fn has_same_provider(one: &IntegrationCredential, other: &IntegrationCredential) -> bool {
    let (a, b) = (&one.oauth2().provider_ref, &other.oauth2().provider_ref);
    let same_place =
        a.kind == ProviderKind::ClusterOAuthProvider || one.namespace() == other.namespace();
    (&a.name, a.kind) == (&b.name, b.kind) && same_place
}

fn host(url: &Url) -> String {
    let port = url.port_or_known_default().unwrap_or_default();
    format!("{}:{port}", url.host_str().unwrap_or_default())
}

/// How long the token still works, as far as anybody knows; nothing where there is none.
fn left(credential: &IntegrationCredential, now: Timestamp) -> Duration {
    let token = credential.status.as_ref().and_then(|s| s.token.as_ref());
    let Some(token) = token else {
        return Duration::ZERO;
    };
    token.expiration_time.as_ref().map_or(Duration::MAX, |at| {
        Duration::try_from(at.0.duration_since(now)).unwrap_or_default()
    })
}

/// Whether a pass is expected to send a request. Where it is not, and does all the same, it takes its turn behind
/// the gate.
#[must_use]
pub fn expects_a_request(
    credential: &IntegrationCredential,
    asked: &Asked,
    now: Timestamp,
) -> bool {
    let Some(status) = credential.status.as_ref() else {
        return true;
    };
    let refresh = status.refresh.clone().unwrap_or_default();
    let is_due = refresh.next_time.is_some_and(|at| at.0 <= now);
    let has_failed = refresh.failures > 0;
    let is_asked = asked.is_now(credential) || asked.differently;
    status.token.is_none() || is_due || has_failed || is_asked
}

/// How long the provider's shortest time between two refreshes still runs. It holds back the schedule and what programs
/// report, because the provider would refuse it anyway; not a person, and not where the token has expired.
#[must_use]
pub fn too_soon(
    credential: &IntegrationCredential,
    provider: &Description,
    asked: &Asked,
    now: Timestamp,
) -> Option<Duration> {
    let shortest: Duration = provider.refresh.as_ref()?.min_interval?.into();
    let token = credential.status.as_ref()?.token.as_ref()?;
    if asked.request.is_some() {
        return None;
    }
    let since = now.duration_since(token.last_refresh_time.as_ref()?.0);
    let since = Duration::try_from(since).ok()?;
    let wait = shortest.checked_sub(since)?.min(left(credential, now));
    (!wait.is_zero()).then_some(wait)
}

/// What people are told of a credential that waits.
#[must_use]
pub fn waits_because(why: Why, credential: &IntegrationCredential, resolved: &Resolved) -> String {
    let (origin, provider) = (&resolved.origin, &credential.oauth2().provider_ref);
    let limit = resolved.description.refresh.as_ref();
    let limit = limit.and_then(|refresh| refresh.rate_limit);
    match (why, limit) {
        (Why::Budget, Some(limit)) => format!(
            "waiting for a turn: {origin} ({provider}) allows {} requests in {}, and others come first",
            limit.requests, limit.per
        ),
        (Why::Budget | Why::RateLimited, _) => format!(
            "waiting for a turn: {origin} ({provider}) asked for a pause; after it, one credential after the other is refreshed"
        ),
        (Why::CircuitOpen, _) => format!(
            "waiting for a turn: {origin} ({provider}) cannot be reached or cannot serve; one credential at a time finds out whether it can again"
        ),
    }
}
