//! When a token is refreshed: before it expires, and before the refresh token is taken for abandoned.

use std::time::Duration;

use jiff::Timestamp;
use kube::ResourceExt;

use crate::{
    api::{AccessTokenOnRefresh, Description, GrantType, IntegrationCredential},
    secret::{Token, grant::Grant, keyed_hash},
};

/// How far apart two statements of one time may be: what a provider states counts from when it was asked.
const SAME: Duration = Duration::from_secs(60);

/// What is known beside the token of when it is to be refreshed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pace {
    /// The margin before the expiry that the provider's description asks for.
    pub before: Option<Duration>,
    /// How long a refresh token may lie unused before it is dead.
    pub idle: Option<Duration>,
    /// Whether the description states a lifetime for tokens that come without one.
    pub has_default_lifetime: bool,
    /// What a refresh does to the access token before.
    pub old_token: AccessTokenOnRefresh,
}

impl Pace {
    /// By the provider's description alone.
    #[must_use]
    pub fn of(description: &Description) -> Self {
        let lifetime = description.refresh_token_lifetime.as_ref();
        Self {
            before: description.refresh_before(),
            idle: lifetime.and_then(|l| l.idle).map(Into::into),
            has_default_lifetime: description.default_lifetime.is_some(),
            old_token: description.access_token_on_refresh(),
        }
    }

    /// By the description, and by what the provider has said of the refresh token itself.
    #[must_use]
    pub fn of_grant(
        credential: &IntegrationCredential,
        description: &Description,
        grant: &Grant,
    ) -> Self {
        let pace = Self::of(description);
        Self {
            idle: pace.idle.or_else(|| stated(credential, description, grant)),
            ..pace
        }
    }
}

/// The life of a refresh token that the provider states, where a refresh is known or hoped to extend it.
fn stated(
    credential: &IntegrationCredential,
    description: &Description,
    grant: &Grant,
) -> Option<Duration> {
    let expires_at = grant.refresh_expires_at?;
    let of_status = credential.status.as_ref().and_then(|s| s.grant.as_ref());
    let of_status = of_status.filter(|g| {
        let authorized_at = g.authorization_time.as_ref().map(|t| t.0);
        authorized_at.is_some_and(|at| is_same(at, grant.authorized_at))
    });
    let of_status = of_status.and_then(|g| g.final_expiration_time.as_ref());
    let end = ends_at(description, grant.authorized_at).or(of_status.map(|t| t.0));
    if end.is_some_and(|end| end <= expires_at || is_same(end, expires_at)) {
        return None;
    }
    Duration::try_from(expires_at.duration_since(grant.token.issued_at)).ok()
}

/// Whether two times mean the same, as far as a clock elsewhere tells.
#[must_use]
pub fn is_same(one: Timestamp, other: Timestamp) -> bool {
    one.duration_since(other).unsigned_abs() < SAME
}

/// When an authorization ends whatever is refreshed, by the provider's description.
#[must_use]
pub fn ends_at(description: &Description, authorized_at: Timestamp) -> Option<Timestamp> {
    let lifetime = description.refresh_token_lifetime.as_ref()?;
    let absolute: Duration = lifetime.absolute?.into();
    authorized_at.checked_add(absolute).ok()
}

/// When `token` is to be refreshed; `None`: nobody knows when it expires, and nothing else asks for it.
#[must_use]
pub fn schedule(
    credential: &IntegrationCredential,
    pace: &Pace,
    token: &Token,
) -> Option<Timestamp> {
    let uid = credential.uid().unwrap_or_default();
    let before = credential.refresh_before(pace.before);
    let assumed = || {
        token
            .issued_at
            .checked_add(credential.assumed_lifetime()?)
            .ok()
    };
    let by_expiry = token.expires_at.or_else(assumed);
    let by_expiry = by_expiry.map(|end| refresh_at(token.issued_at, end, before, &uid));
    let by_idle = keep_alive(credential, pace.idle).map(|longest| {
        let early = longest.mul_f64(0.1 * fraction(&uid));
        let at = token.issued_at.checked_add(longest.saturating_sub(early));
        floor(at.unwrap_or(Timestamp::MAX))
    });
    by_expiry.into_iter().chain(by_idle).min()
}

/// The longest time between two refreshes that keeps the refresh token from being taken for abandoned: what the
/// credential asks for, else a third of the idle limit. One that is not shorter than that limit cannot work.
#[must_use]
pub fn keep_alive(credential: &IntegrationCredential, idle: Option<Duration>) -> Option<Duration> {
    if credential.oauth2().grant_type != GrantType::RefreshToken {
        return None;
    }
    let own = credential.spec.refresh.as_ref().and_then(|r| r.keep_alive);
    let own = own.map(Duration::from);
    match (own, idle) {
        (Some(own), Some(idle)) if own >= idle => Some(idle / 3),
        (Some(own), _) => Some(own),
        (None, idle) => idle.map(|idle| idle / 3),
    }
}

/// Whether `token` is to be refreshed now. One that came without a lifetime is, once the provider object states one.
#[must_use]
pub fn is_due(
    credential: &IntegrationCredential,
    pace: &Pace,
    token: &Token,
    now: Timestamp,
) -> bool {
    let is_endless = token.expires_at.is_none() && credential.assumed_lifetime().is_none();
    schedule(credential, pace, token).is_some_and(|at| at <= now)
        || is_from_the_future(token.issued_at, now)
        || (is_endless && pace.has_default_lifetime)
}

/// When a token is refreshed: `before` its expiry, but at most half of its lifetime before, and
/// earlier by a share of the lifetime (at most a tenth) that is fixed for each credential, so that
/// credentials made together are not refreshed together. Whole seconds, as a status records them.
#[must_use]
pub fn refresh_at(
    issued_at: Timestamp,
    expires_at: Timestamp,
    before: Duration,
    uid: &str,
) -> Timestamp {
    let lifetime = Duration::try_from(expires_at.duration_since(issued_at)).unwrap_or_default();
    let jitter = lifetime.mul_f64(0.1 * fraction(uid));
    let at = latest(issued_at, expires_at, before)
        .checked_sub(jitter)
        .unwrap_or(issued_at);
    floor(at)
}

/// When a token is refreshed, without jitter: where waiting on purpose ends.
pub(super) fn latest(issued_at: Timestamp, expires_at: Timestamp, before: Duration) -> Timestamp {
    let lifetime = Duration::try_from(expires_at.duration_since(issued_at)).unwrap_or_default();
    expires_at
        .checked_sub(before.min(lifetime / 2))
        .unwrap_or(issued_at)
}

/// Whether a token was obtained when the clock was wrong, so that its expiry is wrong too.
pub(super) fn is_from_the_future(issued_at: Timestamp, now: Timestamp) -> bool {
    const SKEW: Duration = Duration::from_secs(60);
    now.checked_add(SKEW).is_ok_and(|latest| issued_at > latest)
}

fn floor(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}

/// A number in 0..1 that is fixed for `uid`.
#[must_use]
pub fn fraction(uid: &str) -> f64 {
    let hash = keyed_hash("tokenward.dev/jitter/v1", [uid.as_bytes()]);
    let bits = u32::from_str_radix(&hash[..8], 16).unwrap_or(0);
    f64::from(bits) / (f64::from(u32::MAX) + 1.0)
}

#[cfg(test)]
mod tests;
