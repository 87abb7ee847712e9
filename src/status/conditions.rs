//! Setting conditions, and what they are after a pass.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::{
    OBTAINING, READY, RECONCILING, Report, SEED_REJECTED, STALLED, TOKEN_REJECTED, condition,
    is_alive, said,
};
use crate::{
    api::{CredentialStatus, IntegrationCredential},
    explain,
    failure::{Class, Reason},
};

pub(super) fn set_seed_condition(status: &mut CredentialStatus, report: &Report, now: Timestamp) {
    let mut set = Setter::new(status, now);
    // What failed before it came to the seed says nothing of it.
    let says_nothing = report.failure.is_some() && report.seed_fingerprint.is_none();
    match &report.seed_rejected {
        Some(message) => set.set(SEED_REJECTED, "True", "SeedRejected", message),
        None if says_nothing => {}
        None => set.remove(SEED_REJECTED),
    }
}

pub(super) fn set_rejected_condition(
    status: &mut CredentialStatus,
    rejected: bool,
    now: Timestamp,
) {
    let mut set = Setter::new(status, now);
    if rejected {
        set.set(
            TOKEN_REJECTED,
            "True",
            "TokenRejected",
            explain::TOKEN_REJECTED,
        );
    } else {
        set.remove(TOKEN_REJECTED);
    }
}

pub(super) fn set_conditions(
    status: &mut CredentialStatus,
    credential: &IntegrationCredential,
    report: &Report,
    now: Timestamp,
) {
    // What was said to be no good does not get better by another failure.
    let was_ready = condition(status, READY).is_some_and(|c| c.status == "True");
    let alive =
        is_alive(status, now) && (was_ready || report.token.is_some() || report.copied.is_some());
    let had_token = status.token.is_some();
    let mut set = Setter::new(status, now);
    let Some(failure) = &report.failure else {
        if !alive {
            set.set(READY, "False", "Expired", "the token has expired");
            set.set(STALLED, "False", "Expired", "");
            set.set(RECONCILING, "True", "Progressing", OBTAINING);
            return;
        }
        let said = said::of_valid(set.status, credential, report);
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
        (false, _) if no_target && stalled => ("False", "Invalid"),
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
pub(super) struct Setter<'a> {
    pub(super) status: &'a mut CredentialStatus,
    now: Timestamp,
}

impl<'a> Setter<'a> {
    pub(super) fn new(status: &'a mut CredentialStatus, now: Timestamp) -> Self {
        Self { status, now }
    }

    pub(super) fn set(&mut self, type_: &str, value: &str, reason: &str, message: &str) {
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

    pub(super) fn remove(&mut self, type_: &str) {
        self.status.conditions.retain(|c| c.type_ != type_);
    }
}
