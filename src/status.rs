//! The status of a credential as a pure function of the one before, what happened, and the time.
//!
//! The state (Pending, Valid, Refreshing, Expired, Invalid) is the reason of the condition Ready: one
//! truth. `Reconciling` and `Stalled` follow kstatus: Reconciling is there only while it is true,
//! Stalled is True when nothing goes on until somebody acts.

mod authorization;
mod conditions;
mod copied;
mod events;
mod provider;
mod said;
mod scopes;
mod suspension;
mod write;

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::ResourceExt;

use crate::{
    api::{
        CredentialStatus, GrantStatus, IntegrationCredential, LastError, RefreshStatus,
        TargetStatus, TokenStatus,
    },
    asked::TOO_MANY_REJECTIONS,
    explain,
    failure::{Failure, Reason},
    plan::{self, Pace},
    secret::{Token, copy::Copy},
};

use self::conditions::{Setter, set_conditions, set_rejected_condition, set_seed_condition};
pub use self::{
    events::{Transition, noticed, transitions},
    provider::{ProviderSight, with_provider},
    write::write,
};

/// The condition that says whether the Secret holds a usable token.
pub const READY: &str = "Ready";
/// The condition that says that somebody must act.
pub const STALLED: &str = "Stalled";
/// The condition that is there while something is being worked on.
pub const RECONCILING: &str = "Reconciling";
/// The condition that is there while the seed holds a refresh token that is not used.
pub const SEED_REJECTED: &str = "SeedRejected";
/// The condition that is there while programs say of one new token after the other that it does not work.
pub const TOKEN_REJECTED: &str = "TokenRejected";

/// The condition that is there while the end of the authorization is near, which no refresh puts off.
pub const AUTHORIZATION_EXPIRING: &str = "AuthorizationExpiring";
/// The condition that is there while the credential is suspended.
pub const SUSPENDED: &str = "Suspended";
/// The condition that is there while the token has not all the scopes that the credential asks for.
pub const SCOPES_MISSING: &str = "ScopesMissing";

/// What is said of a credential whose token has expired.
const OBTAINING: &str = "obtaining another token";

/// What a pass over a credential found and did.
#[derive(Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct Report {
    /// The token that the target holds now; `None`: as before.
    pub token: Option<Token>,
    /// What the target holds now of what is copied; `None`: as before.
    pub copied: Option<Copy>,
    /// The version of the Secret that is copied, where it was read.
    pub source_version: Option<String>,
    /// What is known beside the token of when it is to be refreshed; known where the token is.
    pub pace: Pace,
    /// Something about the token that people should know.
    pub remark: Option<String>,
    /// The target's version.
    pub target_version: Option<String>,
    /// Whether a Secret that was somebody's was handed over, and is the target now.
    pub target_adopted: bool,
    /// The fingerprint of the seed that was presented last.
    pub seed_fingerprint: Option<String>,
    /// When the refresh token expires; known where the seed's fingerprint is.
    pub refresh_expires_at: Option<Timestamp>,
    /// When the user authorized; known where the seed's fingerprint is.
    pub authorized_at: Option<Timestamp>,
    /// When the authorization ends whatever is refreshed, where the provider's description says.
    pub authorization_ends_at: Option<Timestamp>,
    /// The version of the seed Secret that was read.
    pub seed_version: Option<String>,
    /// Why the seed's refresh token is not used; `None`: it is, or there is none.
    pub seed_rejected: Option<String>,
    /// Whether a new authorization was adopted.
    pub adopted: bool,
    /// Whether a token was obtained, or another value copied.
    pub refreshed: bool,
    /// What went wrong.
    pub failure: Option<Failure>,
    /// Whether the token in the target is known to be dead: it was replaced, and the target could not be
    /// written.
    pub target_is_dead: bool,
    /// The request of a person that was acted upon.
    pub handled_request: Option<String>,
    /// Whether the token was replaced because a program said that it does not work.
    pub rejected: bool,
    /// Whether the token was replaced because a program said soon after its start that it does not work.
    pub rejected_early: bool,
    /// How old the token was that was replaced because a program said that it does not work.
    pub rejected_after: Option<Duration>,
    /// Who held the credential and was not waited for, because the deadline had come.
    pub forced: Vec<String>,
    /// Whether the seed is to be looked at as soon as this pass is over.
    pub seed_pending: bool,
    /// Whether the pass had nothing to do with what went wrong before, so that it stays wrong.
    pub aside: bool,
    /// Whether what was wrong with the grant stays wrong although everything was looked at: the spec is acted upon.
    pub mends_nothing: bool,
}

impl Report {
    /// A report that keeps what the status says of the seed.
    #[must_use]
    pub fn unchanged(credential: &IntegrationCredential) -> Self {
        let status = credential.status.clone().unwrap_or_default();
        let rejected = condition(&status, SEED_REJECTED);
        Self {
            seed_rejected: rejected.map(|c| c.message.clone()),
            seed_version: status.grant.and_then(|g| g.seed_resource_version),
            ..Self::default()
        }
    }
}

/// The status at first sight, before anything was done.
#[must_use]
pub fn first(credential: &IntegrationCredential, now: Timestamp) -> CredentialStatus {
    let mut status = CredentialStatus {
        observed_generation: credential.metadata.generation,
        target: Some(TargetStatus {
            name: credential.target_name(),
            ..TargetStatus::default()
        }),
        ..CredentialStatus::default()
    };
    let mut set = Setter::new(&mut status, now);
    let (ready, reconciling) = match credential.copied() {
        None => ("no token was obtained yet", "obtaining the first token"),
        Some(_) => ("nothing was copied yet", "copying for the first time"),
    };
    set.set(READY, "Unknown", "Pending", ready);
    set.set(RECONCILING, "True", "Progressing", reconciling);
    set.set(STALLED, "False", "Progressing", "");
    suspension::set_conditions(&mut status, credential, now);
    status
}

/// The status after `report`.
#[must_use]
pub fn after(
    credential: &IntegrationCredential,
    report: &Report,
    now: Timestamp,
) -> CredentialStatus {
    let mut status = credential.status.clone().unwrap_or_default();
    if !report.aside {
        status.observed_generation = credential.metadata.generation;
    }
    let target = status.target.get_or_insert_default();
    target.name = credential.target_name();
    if report.target_version.is_some() {
        target.resource_version.clone_from(&report.target_version);
    }
    if report.token.is_some() {
        target.plain_mount = Some(report.pace.old_token.into());
    }
    let issued_before = status
        .token
        .as_ref()
        .and_then(|t| t.last_refresh_time.clone());
    if let Some(token) = &report.token {
        status.token = Some(token_status(token));
    }
    if report.seed_fingerprint.is_some() || report.seed_version.is_some() {
        let grant = status.grant.get_or_insert_with(GrantStatus::default);
        if report.seed_fingerprint.is_some() {
            grant.seed_fingerprint.clone_from(&report.seed_fingerprint);
            authorization::note(grant, report, issued_before);
        }
        grant.seed_resource_version.clone_from(&report.seed_version);
    }
    copied::note(&mut status, report);
    let mut refresh = status.refresh.take().unwrap_or_default();
    if let Some(token) = &report.token {
        refresh.next_time = plan::schedule(credential, &report.pace, token).map(Time);
    }
    if report.handled_request.is_some() {
        refresh
            .last_handled_request
            .clone_from(&report.handled_request);
    }
    if report.refreshed {
        let again = report.rejected && refresh.rejections >= TOO_MANY_REJECTIONS;
        refresh.rejections = if report.rejected_early || again {
            refresh.rejections.saturating_add(1)
        } else {
            0
        };
    }
    let rejected = refresh.rejections >= TOO_MANY_REJECTIONS;
    let stays = report.aside || report.mends_nothing;
    let still_wrong = stays && report.failure.is_none() && refresh.failures > 0;
    match &report.failure {
        None if still_wrong => {}
        None => {
            refresh.failures = 0;
            refresh.next_attempt_time = None;
            refresh.last_error = None;
        }
        Some(failure) => failed(&mut refresh, credential, failure, now),
    }
    status.refresh = Some(refresh);
    set_seed_condition(&mut status, report, now);
    set_rejected_condition(&mut status, rejected, now);
    scopes::set_condition(&mut status, credential, now);
    match credential.copied() {
        _ if still_wrong => {}
        Some(kind) if report.failure.is_none() => {
            copied::set_conditions(&mut status, credential, kind, now);
        }
        _ => set_conditions(&mut status, credential, report, now),
    }
    authorization::set_condition(&mut status, credential, now);
    suspension::set_conditions(&mut status, credential, now);
    if still_wrong && !report.aside {
        // What they say is said of this spec, too.
        for condition in &mut status.conditions {
            condition.observed_generation = status.observed_generation;
        }
    }
    status
}

/// The status as it must be now although nothing happened: a token may have expired, an authorization may be about to
/// end. `None`: it is as it should be.
#[must_use]
pub fn at(credential: &IntegrationCredential, now: Timestamp) -> Option<CredentialStatus> {
    let before = credential.status.as_ref()?;
    let mut status = before.clone();
    expire(&mut status, credential, now);
    authorization::set_condition(&mut status, credential, now);
    if credential.spec.suspend {
        suspension::set_conditions(&mut status, credential, now);
    }
    (status != *before).then_some(status)
}

/// Says so where the token has expired.
fn expire(status: &mut CredentialStatus, credential: &IntegrationCredential, now: Timestamp) {
    let Some(ready) = condition(status, READY).filter(|ready| ready.status == "True") else {
        return;
    };
    if is_alive(status, now) {
        return;
    }
    if let Some(kind) = credential.copied() {
        copied::set_expired(status, credential, kind, now);
        return;
    }
    let last = status.refresh.as_ref().and_then(|r| r.last_error.as_ref());
    let reason = if last.is_some_and(|e| Reason::ends_the_grant(&e.reason)) {
        "Invalid"
    } else {
        "Expired"
    };
    let message = match last {
        Some(_) => format!("the token has expired; {}", ready.message),
        None => "the token has expired".to_owned(),
    };
    let is_said = [STALLED, RECONCILING]
        .iter()
        .any(|type_| condition(status, type_).is_some_and(|c| c.status == "True"));
    let mut set = Setter::new(status, now);
    set.set(READY, "False", reason, &message);
    if !is_said && credential.spec.oauth2.is_some() {
        set.set(RECONCILING, "True", "Progressing", OBTAINING);
    }
}

/// The status while a refresh waits for holders; `None` before the first one.
#[must_use]
pub fn draining(
    credential: &IntegrationCredential,
    holders: &[String],
    now: Timestamp,
) -> Option<CredentialStatus> {
    let mut status = credential.status.clone()?;
    let message = explain::draining(holders);
    let mut set = Setter::new(&mut status, now);
    set.set(RECONCILING, "True", "Draining", &message);
    // It is being tried again, whatever stood against it.
    set.set(STALLED, "False", "Draining", "");
    let ready = condition(set.status, READY).map(|c| c.status.clone());
    if ready.as_deref() == Some("True") {
        set.set(READY, "True", "Refreshing", &message);
    }
    Some(status)
}

/// The status while a credential waits for its turn at the provider; `None`: it says so already. What a failure
/// says of it stays.
#[must_use]
pub fn waiting(
    credential: &IntegrationCredential,
    why: Option<&str>,
    now: Timestamp,
) -> Option<CredentialStatus> {
    let mut status = at(credential, now).or_else(|| credential.status.clone())?;
    let is_failing = status.refresh.as_ref().is_some_and(|r| r.failures > 0);
    if let (Some(why), false) = (why, is_failing) {
        Setter::new(&mut status, now).set(RECONCILING, "True", "WaitingForTurn", why);
    }
    (!is_same(credential.status.as_ref(), &status)).then_some(status)
}

/// When a credential must be looked at again although nothing happens to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// At this time.
    At(Timestamp),
    /// When something changes, or its token expires, where that is still to come.
    OnChange(Option<Timestamp>),
}

/// When to look again.
#[must_use]
pub fn wake(credential: &IntegrationCredential, status: &CredentialStatus, now: Timestamp) -> Wake {
    let refresh = status.refresh.clone().unwrap_or_default();
    let expires_at = status
        .token
        .as_ref()
        .and_then(|t| t.expiration_time.as_ref());
    let expiry = expires_at.map(|at| at.0);
    let told = [expiry, authorization::warn_at(status)];
    let expiry = told.into_iter().flatten().filter(|at| *at > now).min();
    if credential.spec.suspend {
        return Wake::OnChange(expiry);
    }
    let next = if refresh.failures > 0 {
        refresh.next_attempt_time
    } else {
        refresh.next_time
    };
    match next {
        Some(next) => Wake::At(expiry.map_or(next.0, |expiry| expiry.min(next.0))),
        None => Wake::OnChange(expiry),
    }
}

/// Whether two statuses are the same to the API server, which keeps whole seconds.
#[must_use]
pub fn is_same(before: Option<&CredentialStatus>, after: &CredentialStatus) -> bool {
    let written = |status| serde_json::to_value(status).ok();
    before.is_some_and(|before| written(before) == written(after))
}

/// Whether there is nothing in `after` that is worth a write: the version of a source that was read again, and held
/// the same, is not. It is written with whatever comes next.
#[must_use]
pub fn is_settled(before: Option<&CredentialStatus>, after: &CredentialStatus) -> bool {
    let mut after = after.clone();
    if let Some(known) = before.and_then(|s| s.source.as_ref()) {
        after.source = Some(known.clone());
    }
    is_same(before, &after)
}

/// The condition of this type.
#[must_use]
pub fn condition<'a>(status: &'a CredentialStatus, type_: &str) -> Option<&'a Condition> {
    status.conditions.iter().find(|c| c.type_ == type_)
}

fn token_status(token: &Token) -> TokenStatus {
    TokenStatus {
        generation: i64::try_from(token.generation).unwrap_or(i64::MAX),
        expiration_time: token.expires_at.map(Time),
        scopes: token.scopes.clone(),
        last_refresh_time: Some(Time(token.issued_at)),
    }
}

fn failed(
    refresh: &mut RefreshStatus,
    credential: &IntegrationCredential,
    failure: &Failure,
    now: Timestamp,
) {
    refresh.failures = refresh.failures.saturating_add(1);
    let retry = failure.reason.class().consequence().retry;
    refresh.next_attempt_time = retry.map(|(first, longest)| {
        let failures = u32::try_from(refresh.failures).unwrap_or(u32::MAX);
        let uid = credential.uid().unwrap_or_default();
        let delay = plan::backoff(first, longest, failures, &uid);
        let delay = delay.max(failure.retry_after.unwrap_or_default());
        let at = now.checked_add(delay).unwrap_or(now);
        Time(ceil(at.max(failure.not_before.unwrap_or(at))))
    });
    refresh.last_error = Some(LastError {
        reason: failure.reason.as_str().to_owned(),
        code: failure.code.clone(),
        time: Time(now),
    });
}

/// The API server keeps whole seconds and drops the rest: without this an attempt would be made too early.
fn ceil(at: Timestamp) -> Timestamp {
    let next = at.as_second() + i64::from(at.subsec_nanosecond() > 0);
    Timestamp::from_second(next).unwrap_or(at)
}

fn is_alive(status: &CredentialStatus, now: Timestamp) -> bool {
    let token = status.token.as_ref();
    token.is_some_and(|t| t.expiration_time.as_ref().is_none_or(|at| at.0 > now))
}

#[cfg(test)]
mod machine;
#[cfg(test)]
mod tests;
