//! What a credential needs, as pure functions of what is known and the time. Nothing here asks
//! anybody: [`plan`] decides from cached objects, [`under_gate`] from what was read behind the gate.

pub mod copied;
pub mod end;
pub mod schedule;

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;

use crate::{
    api::{
        AccessTokenOnRefresh, CONFIRM_ORIGIN, CredentialStatus, Description, IntegrationCredential,
        ReuseDetection, Rotation,
    },
    asked::Asked,
    explain,
    failure::{Failure, Reason},
    lock::{
        observer::GateSight,
        protocol::{Durations, Unresolved, is_settled},
    },
    oauth::response::Lifetime,
    secret::{
        Token,
        grant::{Grant, Verdict},
        seed::Seed,
    },
};

pub use self::schedule::{Pace, fraction, is_due, schedule};
use self::schedule::{is_from_the_future, latest};

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
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct Facts<'a> {
    /// The time.
    pub now: Timestamp,
    /// The target Secret.
    pub target: Seen,
    /// Whether the target is written in another way than `spec.target` says now.
    pub target_outdated: bool,
    /// The hash of what the token in the target was asked for.
    pub target_hash: Option<&'a str>,
    /// The hash of what a token would be asked for now; `None` while the provider is unknown.
    pub wanted_hash: Option<&'a str>,
    /// Whether the provider object states a lifetime for tokens that come without one.
    pub has_default_lifetime: bool,
    /// The grant Secret.
    pub grant: Seen,
    /// The seed, or the source that is copied, where it is watched.
    pub seed: Seen,
    /// Whether a source that is copied, and not watched, is to be read again.
    pub source_unread: bool,
    /// Whether something that the last failure depended on has changed: the spec, the provider, a
    /// watched Secret.
    pub inputs_changed: bool,
    /// Whether somebody asks for another token than the current one.
    pub wanted: bool,
    /// Whether a person asks for a refresh, whatever stands against it.
    pub requested: bool,
    /// Whether programs say that the token is dead while it is not known whether a refresh has ended it.
    pub reported_dead: bool,
    /// What is known of the gate.
    pub gate: GateSight,
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
    /// Take over a gate that nobody seems to keep, and open it.
    Open,
}

impl Decision {
    /// All that [`Decision::word`] gives.
    pub const WORDS: [&str; 5] = ["wait", "refresh", "repair", "check_seed", "open"];

    /// What was decided, in a word: for logs, traces and metrics.
    #[must_use]
    pub const fn word(self) -> &'static str {
        let [wait, refresh, repair, check_seed, open] = Self::WORDS;
        match self {
            Self::Wait(_) => wait,
            Self::Refresh => refresh,
            Self::Repair => repair,
            Self::CheckSeed => check_seed,
            Self::Open => open,
        }
    }
}

/// Decides from cached objects.
#[must_use]
pub fn plan(credential: &IntegrationCredential, facts: &Facts<'_>) -> Decision {
    if credential.spec.suspend {
        // A gate that nobody keeps shuts programs out for nothing.
        return match facts.gate {
            GateSight::Stuck => Decision::Open,
            _ => Decision::Wait(None),
        };
    }
    if credential.copied().is_some() {
        return copied::plan(credential, facts);
    }
    let Some(status) = &credential.status else {
        return Decision::Refresh;
    };
    let refresh = status.refresh.clone().unwrap_or_default();
    let has_token = status.token.is_some();
    let machine = credential.oauth2().grant_type.is_machine();
    let changed = facts.inputs_changed
        || status.observed_generation != credential.metadata.generation
        || facts.again;
    let last = refresh.last_error.as_ref().map(|e| e.reason.as_str());
    let terminal = last.is_some_and(Reason::is_terminal);
    let next_attempt = refresh.next_attempt_time.as_ref().map(|t| t.0);
    let next_attempt = next_attempt.max(facts.not_before);
    let blocked = !changed && (terminal || next_attempt.is_some_and(|at| at > facts.now));

    if facts.requested || facts.reported_dead {
        return Decision::Refresh;
    }
    if has_token && (facts.target != Seen::Unchanged || facts.target_outdated) {
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
    if facts.gate == GateSight::Stuck {
        return if blocked {
            Decision::Open
        } else {
            Decision::Refresh
        };
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
    let endless = status
        .token
        .as_ref()
        .is_some_and(|t| t.expiration_time.is_none());
    let next = refresh.next_time.as_ref().map(|t| t.0);
    let issued_at = status
        .token
        .as_ref()
        .and_then(|t| t.last_refresh_time.as_ref());
    let due = next.is_some_and(|at| at <= facts.now)
        || (endless && facts.has_default_lifetime && credential.assumed_lifetime().is_none())
        || issued_at.is_some_and(|at| is_from_the_future(at.0, facts.now));
    if !has_token
        || failed
        || due
        || changed
        || facts.wanted
        || grant_lost
        || is_asked_differently(credential, facts)
    {
        return Decision::Refresh;
    }
    Decision::Wait(next)
}

/// Whether a token whose grant stores nothing was asked for differently than it would be now; where the provider is not known,
/// nobody can tell.
#[must_use]
pub fn is_asked_differently(credential: &IntegrationCredential, facts: &Facts<'_>) -> bool {
    let is_known = facts.wanted_hash.is_some();
    credential.oauth2().grant_type.is_machine()
        && is_known
        && facts.wanted_hash != facts.target_hash
}

/// Whether what was decided comes before what is merely due: somebody waits for it, or the token might not last until it
/// has its turn.
#[must_use]
pub fn is_urgent(
    credential: &IntegrationCredential,
    facts: &Facts<'_>,
    decision: Decision,
) -> bool {
    let status = credential.status.as_ref();
    let Some(token) = status.and_then(|s| s.token.as_ref()) else {
        return true;
    };
    let is_asked = facts.requested || facts.reported_dead || facts.wanted;
    if decision != Decision::Refresh || is_asked || facts.target != Seen::Unchanged {
        return true;
    }
    if credential.copied().is_some() {
        return !facts.source_unread;
    }
    let Some(expiry) = token.expiration_time.as_ref() else {
        return false;
    };
    let next = status.and_then(|s| s.refresh.as_ref()?.next_time.as_ref());
    let margin = expiry
        .0
        .duration_since(next.map_or(facts.now, |next| next.0));
    expiry.0.duration_since(facts.now) < last_call(margin)
}

/// How long before its expiry a token comes before what is merely due: in the last eighth of the time in which it is to be
/// refreshed, or the last minute, but never in the first half. Were it more, a sweep over many would leave those who wait for
/// a first token behind all whose time is half over.
fn last_call(margin: SignedDuration) -> SignedDuration {
    const MINUTE: SignedDuration = SignedDuration::from_mins(1);
    (margin / 2).min(MINUTE.max(margin / 8))
}

/// The delay before the next attempt after `failures` in a row: doubled each time from `first` up to
/// `longest`, and shortened by up to a quarter, by a share that is fixed for each credential and count.
#[must_use]
pub fn backoff(first: Duration, longest: Duration, failures: u32, uid: &str) -> Duration {
    let doubled = first.saturating_mul(1 << failures.saturating_sub(1).min(20));
    let share = fraction(&format!("{uid}/{failures}"));
    doubled.min(longest).mul_f64(1.0 - 0.25 * share)
}

/// For how long holders are waited for before their holds are deleted, from the close of the gate on.
/// One that is on schedule waits until the exchange must begin, so that the token does not expire; any
/// other only as long as holders that follow the rules can last, because somebody waits for it.
#[must_use]
pub fn patience(
    credential: &IntegrationCredential,
    durations: &Durations,
    scheduled: bool,
    now: Timestamp,
) -> Duration {
    let status = credential.status.as_ref();
    let token = status.and_then(|s| s.token.as_ref());
    let expiry = token.and_then(|t| t.expiration_time.as_ref());
    let longest = durations.longest_drain();
    let Some(expiry) = expiry else {
        return longest;
    };
    let deadline = expiry.0.checked_sub(durations.takeover_delay());
    let left = deadline.map(|deadline| deadline.duration_since(now));
    let left = left.ok().and_then(|left| Duration::try_from(left).ok());
    match left {
        Some(left) if !left.is_zero() => {
            if scheduled {
                left
            } else {
                left.min(longest)
            }
        }
        // Too late for that already, or the clock is wrong: those who follow the rules are told, and have
        // their grace, unless the token lives no longer.
        _ => {
            let grace = durations.hold / 3 + durations.drain_grace;
            let lives = Duration::try_from(expiry.0.duration_since(now)).ok();
            lives.map_or(grace, |lives| grace.min(lives))
        }
    }
}

/// Whether the last exchange came to nothing and is to be made again, though the token may not be due: it was
/// asked for.
#[must_use]
pub fn repeats(status: Option<&CredentialStatus>) -> bool {
    let refresh = status.and_then(|s| s.refresh.as_ref());
    let last = refresh.and_then(|r| r.last_error.as_ref());
    last.is_some_and(|e| Reason::repeats_the_exchange(&e.reason))
}

/// When a token expires, by what the answer says, else by what the provider object says.
#[must_use]
pub fn expires_at(
    sent: Timestamp,
    lifetime: Lifetime,
    provider: &Description,
) -> Option<Timestamp> {
    let lifetime = match lifetime {
        Lifetime::Stated(lifetime) => lifetime,
        // One that is over, or that a clock elsewhere makes look so, is of no use as a time to act at.
        Lifetime::Until(at) => Duration::try_from(at.duration_since(sent))
            .ok()
            .filter(|left| !left.is_zero())
            .or_else(|| provider.default_lifetime.map(Into::into))?,
        Lifetime::NotStated | Lifetime::Unusable => provider.default_lifetime?.into(),
    };
    let longest = provider.maximum_lifetime.map_or(lifetime, Into::into);
    sent.checked_add(lifetime.min(longest)).ok()
}

/// When a refresh token expires: by what the answer says, else by what the provider's description says; in no
/// case later than its longest life since the authorization.
#[must_use]
pub fn refresh_expires_at(
    sent: Timestamp,
    authorized_at: Timestamp,
    stated: Option<Duration>,
    provider: &Description,
) -> Option<Timestamp> {
    let lifetime = provider.refresh_token_lifetime.clone().unwrap_or_default();
    let idle = stated.or(lifetime.idle.map(Into::into));
    let idle = idle.and_then(|idle| sent.checked_add(idle).ok());
    let absolute: Option<Duration> = lifetime.absolute.map(Into::into);
    let absolute = absolute.and_then(|life| authorized_at.checked_add(life).ok());
    match (idle, absolute) {
        (Some(idle), Some(absolute)) => Some(idle.min(absolute)),
        (idle, absolute) => idle.or(absolute),
    }
}

/// What is known behind the gate of a credential with grant `RefreshToken`.
pub struct Behind<'a> {
    /// The credential.
    pub credential: &'a IntegrationCredential,
    /// Its provider.
    pub provider: &'a Description,
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
    /// What is asked for.
    pub asked: &'a Asked,
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
    let is_spent = is_older && b.provider.rotation() != Rotation::Never;
    let is_elsewhere = (grant.origin != b.origin || grant.client_id != b.client_id)
        && !is_confirmed(b.credential, b.origin);
    let pace = Pace::of_grant(b.credential, b.provider, grant);
    let is_due = is_older
        || is_due(b.credential, &pace, &grant.token, b.now)
        || b.asked.is_about(grant.token.generation)
        || repeats(status);
    let is_due = is_due && !b.asked.only_open;
    let is_failing = status
        .and_then(|s| s.refresh.as_ref())
        .is_some_and(|r| r.failures > 0);
    // The history of a backup does not know of what was adopted after it.
    let last = status.and_then(|s| s.grant.as_ref()?.seed_fingerprint.as_ref());
    let new_seed = b.seed.as_ref().is_ok_and(|seed| {
        let is_known = is_older && last == Some(&seed.fingerprint);
        grant.verdict(&seed.fingerprint) == Verdict::New && !is_known && !b.asked.only_open
    });
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
        .filter(|u| !is_settled(u, &grant.attempt, grant.token.generation, b.gate_generation));
    if b.unresolved.is_some() && unresolved.is_none() {
        // The attempt had stored its tokens and only not published them.
        return Step::Publish { unresolved: None };
    }
    if !is_due {
        return Step::Publish {
            unresolved: unresolved.cloned(),
        };
    }
    let is_said_dead = b.asked.is_wanted(grant.token.generation)
        && b.provider.access_token_on_refresh() == AccessTokenOnRefresh::Unknown;
    let until = unresolved.and_then(|unresolved| {
        // There is nothing to lose by presenting the token, once, where the old one is dead.
        if is_said_dead && !unresolved.retried {
            return None;
        }
        hold_until(b.provider, b.credential, &grant.token, unresolved, b.now)
    });
    match until {
        Some(_) if new_seed => Step::Adopt,
        Some(until) => Step::Hold(until),
        None => Step::Refresh,
    }
}

/// Whether people have confirmed that the refresh token belongs there: by the host, with its port where it has one.
pub(crate) fn is_confirmed(credential: &IntegrationCredential, origin: &str) -> bool {
    let host = origin.split_once("://").map_or(origin, |(_, host)| host);
    let confirmed = credential.annotations().get(CONFIRM_ORIGIN);
    confirmed.is_some_and(|confirmed| [host, origin].contains(&confirmed.trim()))
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
    // Whoever was at it before may have redeemed the code; a second time nobody gets anything for it.
    if seed.authorization.is_code() && b.unresolved.is_some() && !is_new {
        return Step::Fail(explain::code_spent(b.credential));
    }
    if !had_grant || is_new || b.provider.rotation() == Rotation::Never {
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
    provider: &Description,
    credential: &IntegrationCredential,
    token: &Token,
    unresolved: &Unresolved,
    now: Timestamp,
) -> Option<Timestamp> {
    let Some(expires_at) = token.expires_at else {
        // Nobody knows how long it works on: once it is tried, and then it is for people.
        let later = now.checked_add(RECHECK).ok()?;
        return (unresolved.retried && is_costly(provider, unresolved, now)).then_some(later);
    };
    let until = if unresolved.retried {
        expires_at
    } else {
        let before = credential.refresh_before(provider.refresh_before());
        latest(token.issued_at, expires_at, before)
    };
    (is_costly(provider, unresolved, now) && now < until).then_some(until)
}

/// Whether presenting a token that may be spent can cost an access token that still works.
fn is_costly(provider: &Description, unresolved: &Unresolved, now: Timestamp) -> bool {
    let grace = provider.reuse_grace();
    let in_grace = !grace.is_zero()
        && unresolved.since <= now
        && unresolved
            .since
            .checked_add(grace)
            .is_ok_and(|end| now < end);
    provider.rotation() != Rotation::Never
        && provider.reuse_detection() == ReuseDetection::RevokesFamily
        && provider.access_token_on_refresh() != AccessTokenOnRefresh::Invalidated
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
