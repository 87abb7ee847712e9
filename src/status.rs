//! The status of a credential as a pure function of the one before, what happened, and the time.
//!
//! The state (Pending, Valid, Refreshing, Expired, Invalid) is the reason of the condition Ready: one
//! truth. `Reconciling` and `Stalled` follow kstatus: Reconciling is there only while it is true,
//! Stalled is True when nothing goes on until somebody acts.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::ResourceExt;

use crate::{
    api::{
        CredentialStatus, GrantStatus, IntegrationCredential, LastError, RefreshStatus,
        TargetStatus, TokenStatus,
    },
    explain,
    failure::{Class, Failure, Reason},
    plan,
    secret::Token,
};

/// The condition that says whether the Secret holds a usable token.
pub const READY: &str = "Ready";
/// The condition that says that somebody must act.
pub const STALLED: &str = "Stalled";
/// The condition that is there while something is being worked on.
pub const RECONCILING: &str = "Reconciling";
/// The condition that is there while the seed holds a refresh token that is not used.
pub const SEED_REJECTED: &str = "SeedRejected";

/// What a pass over a credential found and did.
#[derive(Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct Report {
    /// The token that the target holds now; `None`: as before.
    pub token: Option<Token>,
    /// Something about the token that people should know.
    pub remark: Option<String>,
    /// The target's version.
    pub target_version: Option<String>,
    /// The fingerprint of the seed that was presented last.
    pub seed_fingerprint: Option<String>,
    /// The version of the seed Secret that was read.
    pub seed_version: Option<String>,
    /// Why the seed's refresh token is not used; `None`: it is, or there is none.
    pub seed_rejected: Option<String>,
    /// Whether a new authorization was adopted.
    pub adopted: bool,
    /// Whether a token was obtained.
    pub refreshed: bool,
    /// What went wrong.
    pub failure: Option<Failure>,
    /// Whether the token in the target is known to be dead: it was replaced, and the target could not be
    /// written.
    pub target_is_dead: bool,
    /// Whether the seed is to be looked at as soon as this pass is over.
    pub seed_pending: bool,
    /// Whether the pass had nothing to do with what went wrong before, so that it stays wrong.
    pub aside: bool,
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
            resource_version: None,
        }),
        ..CredentialStatus::default()
    };
    let mut set = Setter::new(&mut status, now);
    set.set(READY, "Unknown", "Pending", "no token was obtained yet");
    set.set(
        RECONCILING,
        "True",
        "Progressing",
        "obtaining the first token",
    );
    set.set(STALLED, "False", "Progressing", "");
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
    if let Some(token) = &report.token {
        status.token = Some(token_status(token));
    }
    if report.seed_fingerprint.is_some() || report.seed_version.is_some() {
        let grant = status.grant.get_or_insert_with(GrantStatus::default);
        if report.seed_fingerprint.is_some() {
            grant.seed_fingerprint.clone_from(&report.seed_fingerprint);
        }
        grant.seed_resource_version.clone_from(&report.seed_version);
    }
    let mut refresh = status.refresh.take().unwrap_or_default();
    if let Some(token) = &report.token {
        refresh.next_time = plan::schedule(credential, token).map(Time);
    }
    let still_wrong = report.aside && report.failure.is_none() && refresh.failures > 0;
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
    if !still_wrong {
        set_conditions(&mut status, credential, report, now);
    }
    status
}

/// The status as it must be now although nothing happened: a token may have expired.
#[must_use]
pub fn at(credential: &IntegrationCredential, now: Timestamp) -> Option<CredentialStatus> {
    let mut status = credential.status.clone()?;
    let ready = condition(&status, READY)?;
    if ready.status != "True" || is_alive(&status, now) {
        return None;
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
    Setter::new(&mut status, now).set(READY, "False", reason, &message);
    Some(status)
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
pub fn wake(status: &CredentialStatus, now: Timestamp) -> Wake {
    let refresh = status.refresh.clone().unwrap_or_default();
    let expires_at = status
        .token
        .as_ref()
        .and_then(|t| t.expiration_time.as_ref());
    let expiry = expires_at.map(|at| at.0).filter(|at| *at > now);
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

fn set_seed_condition(status: &mut CredentialStatus, report: &Report, now: Timestamp) {
    let mut set = Setter::new(status, now);
    match &report.seed_rejected {
        Some(message) => set.set(SEED_REJECTED, "True", "SeedRejected", message),
        None => set.remove(SEED_REJECTED),
    }
}

fn set_conditions(
    status: &mut CredentialStatus,
    credential: &IntegrationCredential,
    report: &Report,
    now: Timestamp,
) {
    let alive = is_alive(status, now);
    let had_token = status.token.is_some();
    let has_expiry = status
        .token
        .as_ref()
        .is_some_and(|t| t.expiration_time.is_some());
    let mut set = Setter::new(status, now);
    let Some(failure) = &report.failure else {
        if !alive {
            set.set(READY, "False", "Expired", "the token has expired");
            set.set(STALLED, "False", "Expired", "");
            set.set(
                RECONCILING,
                "True",
                "Progressing",
                "obtaining another token",
            );
            return;
        }
        let said = report.remark.clone();
        let said = said.unwrap_or_else(|| explain::valid(credential, has_expiry));
        set.set(READY, "True", "Valid", &said);
        set.set(STALLED, "False", "Valid", "");
        set.remove(RECONCILING);
        return;
    };
    let class = failure.reason.class();
    let reason = failure.reason.as_str();
    let stalled = class.consequence().stalled;
    let no_target = failure.reason == Reason::TargetConflict || report.target_is_dead;
    let (ready, state) = match (alive && !no_target, class) {
        (true, _) if stalled => ("True", "Valid"),
        (true, _) => ("True", "Refreshing"),
        (false, Class::NeedsReauthorization | Class::GrantUnusable) => ("False", "Invalid"),
        (false, _) if no_target => ("False", "Invalid"),
        (false, _) if had_token => ("False", "Expired"),
        (false, _) => ("False", "Pending"),
    };
    set.set(READY, ready, state, &failure.message);
    if stalled {
        set.set(STALLED, "True", reason, &failure.message);
        set.remove(RECONCILING);
    } else {
        set.set(STALLED, "False", "Retrying", "");
        set.set(RECONCILING, "True", reason, &failure.message);
    }
}

/// Sets conditions and keeps the time of the last transition where the status stays the same.
struct Setter<'a> {
    status: &'a mut CredentialStatus,
    now: Timestamp,
}

impl<'a> Setter<'a> {
    fn new(status: &'a mut CredentialStatus, now: Timestamp) -> Self {
        Self { status, now }
    }

    fn set(&mut self, type_: &str, value: &str, reason: &str, message: &str) {
        // The API allows 32 KiB; a message is for a screen.
        const LONGEST: usize = 1024;
        let message: String = message.chars().take(LONGEST).collect();
        let observed_generation = self.status.observed_generation;
        let conditions = &mut self.status.conditions;
        let condition = Condition {
            type_: type_.to_owned(),
            status: value.to_owned(),
            reason: reason.to_owned(),
            message,
            observed_generation,
            last_transition_time: Time(self.now),
        };
        match conditions.iter_mut().find(|c| c.type_ == type_) {
            Some(old) if old.status == value => {
                let last_transition_time = old.last_transition_time.clone();
                *old = Condition {
                    last_transition_time,
                    ..condition
                };
            }
            Some(old) => *old = condition,
            None => conditions.push(condition),
        }
    }

    fn remove(&mut self, type_: &str) {
        self.status.conditions.retain(|c| c.type_ != type_);
    }
}

/// An event that tells people of a transition.
#[derive(Debug, PartialEq, Eq)]
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
pub fn transitions(before: Option<&CredentialStatus>, report: &Report) -> Vec<Transition> {
    let mut events = Vec::new();
    let last = before
        .and_then(|s| s.refresh.as_ref())
        .and_then(|r| r.last_error.as_ref());
    let was_rejected = before.is_some_and(|s| condition(s, SEED_REJECTED).is_some());
    if report.adopted {
        events.push(Transition {
            warning: false,
            reason: "Authorized",
            message: "the provider accepted the seed's refresh token".to_owned(),
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
    if let Some(failure) = &report.failure
        && last.is_none_or(|l| l.reason != failure.reason.as_str() || l.code != failure.code)
    {
        events.push(Transition {
            warning: true,
            reason: failure.reason.event(),
            message: failure.message.clone(),
        });
    }
    events
}

#[cfg(test)]
mod tests;
