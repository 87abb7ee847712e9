//! What a credential needs, as pure functions of what is known and the time. Nothing here asks
//! anybody: [`plan`] decides from cached objects, [`under_gate`] from what was read behind the gate.

use std::time::Duration;

use jiff::Timestamp;
use kube::ResourceExt;

use crate::{
    api::{
        AccessTokenOnRefresh, CredentialStatus, GrantType, IntegrationCredential, Provider,
        ReuseDetection, Rotation,
    },
    explain,
    failure::{Failure, Reason},
    lock::protocol::Unresolved,
    oauth::response::Lifetime,
    secret::{
        Token,
        grant::{Grant, Verdict},
        keyed_hash,
        seed::Seed,
    },
};

/// How often a credential that waits for a change of an unwatched Secret reads it again.
pub const RECHECK: Duration = Duration::from_secs(600);

/// What was seen of a Secret in the cache of metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// As it was when it was read or written last, as far as the cache can tell.
    Unchanged,
    /// Another version.
    Changed,
    /// It is not there.
    Missing,
}

/// What is known without asking anybody.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The time.
    pub now: Timestamp,
    /// The target Secret.
    pub target: Seen,
    /// The hash of what the token in the target was asked for.
    pub target_hash: Option<&'a str>,
    /// The hash of what a token would be asked for now; `None` while the provider is unknown.
    pub wanted_hash: Option<&'a str>,
    /// Whether the provider object states a lifetime for tokens that come without one.
    pub has_default_lifetime: bool,
    /// The grant Secret.
    pub grant: Seen,
    /// The seed Secret, where it is watched.
    pub seed: Seen,
    /// Whether something that the last failure depended on has changed: the spec, the provider, a
    /// watched Secret.
    pub inputs_changed: bool,
    /// Whether the last pass asked for another one: the gate was found deleted, or a new seed waits.
    pub again: bool,
    /// When the next attempt may be made at the earliest, as this process remembers: a status that
    /// cannot be written must not lead to one attempt after the other.
    pub not_before: Option<Timestamp>,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Nothing before this time; `None`: not before something changes.
    Wait(Option<Timestamp>),
    /// Go behind the gate and see what is needed.
    Refresh,
    /// Write the target again from the grant.
    Repair,
    /// Read the seed again: only a new one helps.
    CheckSeed,
}

/// Decides from cached objects.
#[must_use]
pub fn plan(credential: &IntegrationCredential, facts: &Facts<'_>) -> Decision {
    let Some(status) = &credential.status else {
        return Decision::Refresh;
    };
    let refresh = status.refresh.clone().unwrap_or_default();
    let has_token = status.token.is_some();
    let machine = credential.spec.oauth2.grant_type == GrantType::ClientCredentials;
    let changed = facts.inputs_changed
        || status.observed_generation != credential.metadata.generation
        || facts.again;
    let last = refresh.last_error.as_ref().map(|e| e.reason.as_str());
    let terminal = last.is_some_and(Reason::is_terminal);
    let next_attempt = refresh.next_attempt_time.as_ref().map(|t| t.0);
    let next_attempt = next_attempt.max(facts.not_before);
    let blocked = !changed && (terminal || next_attempt.is_some_and(|at| at > facts.now));

    if has_token && facts.target != Seen::Unchanged {
        // A failure to refresh is no reason to leave the target as it is; one to write it is.
        let expires = status
            .token
            .as_ref()
            .and_then(|t| t.expiration_time.as_ref());
        let is_alive = expires.is_none_or(|at| at.0 > facts.now);
        let next = refresh.next_time.as_ref();
        let is_due = next.is_some_and(|at| at.0 <= facts.now);
        let from_grant =
            !machine && facts.grant != Seen::Missing && is_alive && (!is_due || blocked);
        if from_grant && !(blocked && last.is_some_and(Reason::concerns_secrets)) {
            return Decision::Repair;
        }
        // Without a grant the target was the only place that held the token.
        if !blocked {
            return Decision::Refresh;
        }
    }
    if facts.seed == Seen::Changed && !machine {
        return Decision::CheckSeed;
    }
    if blocked {
        return if terminal {
            Decision::CheckSeed
        } else {
            Decision::Wait(next_attempt)
        };
    }
    let failed = refresh.failures > 0;
    let grant_lost = !machine && has_token && facts.grant == Seen::Missing;
    let asked_differently =
        machine && facts.wanted_hash.is_some() && facts.wanted_hash != facts.target_hash;
    let endless = status
        .token
        .as_ref()
        .is_some_and(|t| t.expiration_time.is_none());
    let next = refresh.next_time.as_ref().map(|t| t.0);
    let due = next.is_some_and(|at| at <= facts.now) || (endless && facts.has_default_lifetime);
    if !has_token || failed || due || changed || grant_lost || asked_differently {
        return Decision::Refresh;
    }
    Decision::Wait(next)
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
fn latest(issued_at: Timestamp, expires_at: Timestamp, before: Duration) -> Timestamp {
    let lifetime = Duration::try_from(expires_at.duration_since(issued_at)).unwrap_or_default();
    expires_at
        .checked_sub(before.min(lifetime / 2))
        .unwrap_or(issued_at)
}

fn floor(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}

/// A number in 0..1 that is fixed for `uid`.
fn fraction(uid: &str) -> f64 {
    let hash = keyed_hash("tokenward.dev/jitter/v1", [uid.as_bytes()]);
    let bits = u32::from_str_radix(&hash[..8], 16).unwrap_or(0);
    f64::from(bits) / (f64::from(u32::MAX) + 1.0)
}

/// When `token` is to be refreshed; `None`: nobody knows when it expires.
#[must_use]
pub fn schedule(credential: &IntegrationCredential, token: &Token) -> Option<Timestamp> {
    let uid = credential.uid().unwrap_or_default();
    let before = credential.refresh_before();
    token
        .expires_at
        .map(|expires_at| refresh_at(token.issued_at, expires_at, before, &uid))
}

/// The delay before the next attempt after `failures` in a row: doubled each time from `first` up to
/// `longest`, and shortened by up to a quarter, by a share that is fixed for each credential and count.
#[must_use]
pub fn backoff(first: Duration, longest: Duration, failures: u32, uid: &str) -> Duration {
    let doubled = first.saturating_mul(1 << failures.saturating_sub(1).min(20));
    let share = fraction(&format!("{uid}/{failures}"));
    doubled.min(longest).mul_f64(1.0 - 0.25 * share)
}

/// Whether `token` is to be refreshed now. One that came without a lifetime is, once the provider object
/// states one.
#[must_use]
pub fn is_due(
    credential: &IntegrationCredential,
    provider: &Provider,
    token: &Token,
    now: Timestamp,
) -> bool {
    match schedule(credential, token) {
        Some(at) => at <= now,
        None => provider.default_lifetime.is_some(),
    }
}

/// When a token expires, by what the answer says, else by what the provider object says.
#[must_use]
pub fn expires_at(sent: Timestamp, lifetime: Lifetime, provider: &Provider) -> Option<Timestamp> {
    let lifetime = match lifetime {
        Lifetime::Stated(lifetime) => lifetime,
        Lifetime::NotStated | Lifetime::Unusable => provider.default_lifetime?.into(),
    };
    sent.checked_add(lifetime).ok()
}

/// What is known behind the gate of a credential with grant `RefreshToken`.
pub struct Behind<'a> {
    /// The credential.
    pub credential: &'a IntegrationCredential,
    /// Its provider.
    pub provider: &'a Provider,
    /// The origin of the provider's token endpoint.
    pub origin: &'a str,
    /// The client's identifier.
    pub client_id: &'a str,
    /// The grant as stored.
    pub grant: Option<&'a Grant>,
    /// The seed as read.
    pub seed: &'a Result<Seed, Failure>,
    /// The generation on the gate, where it still says so.
    pub gate_generation: Option<u64>,
    /// The attempt that the gate marks as unresolved.
    pub unresolved: Option<&'a Unresolved>,
    /// The time.
    pub now: Timestamp,
}

/// What to do behind the gate.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// The grant is as it should be: make sure that the target shows it.
    Publish {
        /// The attempt whose outcome is still unknown.
        unresolved: Option<Unresolved>,
    },
    /// Present the grant's refresh token.
    Refresh,
    /// Present the seed's.
    Adopt,
    /// The outcome of an earlier attempt is unknown: wait, because presenting the token again may
    /// cost what still works.
    Hold(Timestamp),
    /// It cannot go on.
    Fail(Failure),
}

/// Decides behind the gate.
#[must_use]
pub fn under_gate(b: &Behind<'_>) -> Step {
    let Some(grant) = b.grant else {
        return without_grant(b);
    };
    let status = b.credential.status.as_ref();
    let known = known_generation(status).max(b.gate_generation.unwrap_or(0));
    // A backup that was put back holds a refresh token that is spent, unless they never are.
    let is_older = grant.token.generation < known;
    let is_spent = is_older && b.provider.rotation != Rotation::Never;
    let is_elsewhere = grant.origin != b.origin || grant.client_id != b.client_id;
    let is_due = is_older || is_due(b.credential, b.provider, &grant.token, b.now);
    let is_failing = status
        .and_then(|s| s.refresh.as_ref())
        .is_some_and(|r| r.failures > 0);
    let new_seed = b
        .seed
        .as_ref()
        .is_ok_and(|seed| grant.verdict(&seed.fingerprint) == Verdict::New);
    // A grant that works is refreshed first: what becomes of a seed must not cost it its time.
    if new_seed && (is_spent || is_elsewhere || !is_due || is_failing) {
        return Step::Adopt;
    }
    if is_spent {
        return Step::Fail(explain::grant_restored(b.credential, grant, known));
    }
    if is_elsewhere {
        return Step::Fail(explain::provider_changed(b.credential, grant, b.origin));
    }
    let unresolved = b
        .unresolved
        .filter(|u| !is_settled(u, grant, b.gate_generation));
    if b.unresolved.is_some() && unresolved.is_none() {
        // The attempt had stored its tokens and only not published them.
        return Step::Publish { unresolved: None };
    }
    if !is_due {
        return Step::Publish {
            unresolved: unresolved.cloned(),
        };
    }
    let until = unresolved.and_then(|unresolved| {
        hold_until(b.provider, b.credential, &grant.token, unresolved, b.now)
    });
    match until {
        Some(_) if new_seed => Step::Adopt,
        Some(until) => Step::Hold(until),
        None => Step::Refresh,
    }
}

/// Whether the grant shows that an attempt stored its tokens: they are its own, or later ones. Of an
/// attempt whose identity is lost, or beside a gate that has lost its generation, that cannot be said.
fn is_settled(unresolved: &Unresolved, grant: &Grant, gate_generation: Option<u64>) -> bool {
    let is_ahead = gate_generation.is_some_and(|g| grant.token.generation > g);
    !unresolved.is_unknown() && (is_ahead || unresolved.attempt == grant.attempt)
}

fn without_grant(b: &Behind<'_>) -> Step {
    let status = b.credential.status.clone().unwrap_or_default();
    let generation = status.token.map_or(0, |t| t.generation);
    let had_grant = generation > 0 || b.gate_generation.is_some_and(|g| g > 0);
    let seed = match b.seed {
        Ok(seed) => seed,
        Err(failure) if !had_grant => return Step::Fail(failure.clone()),
        Err(_) => return Step::Fail(explain::grant_lost(b.credential)),
    };
    let presented = status.grant.and_then(|g| g.seed_fingerprint);
    let is_new = presented.is_some_and(|p| p != seed.fingerprint);
    if !had_grant || is_new || b.provider.rotation == Rotation::Never {
        Step::Adopt
    } else {
        Step::Fail(explain::grant_lost(b.credential))
    }
}

/// The Ambiguous rule: until when to wait before a refresh token is presented that may be spent.
/// `None`: present it now. If it was rotated, the new one is lost whatever we do; presenting the old
/// one can only cost the access token that still works. So it is presented once when the margin before
/// the expiry begins, and the rest of the access token's life is for people.
#[must_use]
pub fn hold_until(
    provider: &Provider,
    credential: &IntegrationCredential,
    token: &Token,
    unresolved: &Unresolved,
    now: Timestamp,
) -> Option<Timestamp> {
    let expires_at = token.expires_at?;
    let until = if unresolved.retried {
        expires_at
    } else {
        latest(token.issued_at, expires_at, credential.refresh_before())
    };
    (is_costly(provider, unresolved, now) && now < until).then_some(until)
}

/// Whether presenting a token that may be spent can cost an access token that still works.
fn is_costly(provider: &Provider, unresolved: &Unresolved, now: Timestamp) -> bool {
    let grace = provider.reuse_grace.map(Duration::from).unwrap_or_default();
    let in_grace = !grace.is_zero()
        && unresolved.since <= now
        && unresolved
            .since
            .checked_add(grace)
            .is_ok_and(|end| now < end);
    provider.rotation != Rotation::Never
        && provider.reuse_detection == ReuseDetection::RevokesFamily
        && provider.access_token_on_refresh != AccessTokenOnRefresh::Invalidated
        && !in_grace
}

/// The generation that status records.
#[must_use]
pub fn known_generation(status: Option<&CredentialStatus>) -> u64 {
    let generation = status.and_then(|s| s.token.as_ref()).map(|t| t.generation);
    generation.and_then(|g| u64::try_from(g).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests;
