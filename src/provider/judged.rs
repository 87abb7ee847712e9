//! The status of a provider object as a pure function of the one before, what was found, and the time.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::inspect::Inspection;
use crate::{
    api::ProviderStatus,
    failure::{Failure, Reason},
    plan::{RECHECK, backoff},
    status::{READY, RECONCILING, STALLED, Transition},
};

/// The reason of Ready where nothing is wrong.
pub const CONFIGURED: &str = "Configured";

/// The status after `found`.
#[must_use]
pub fn after(
    before: Option<&ProviderStatus>,
    generation: Option<i64>,
    found: &Inspection,
    now: Timestamp,
) -> ProviderStatus {
    let mut status = before.cloned().unwrap_or_default();
    let was_ready = status.observed_generation == generation && is_ready(&status);
    status.observed_generation = generation;
    let Some(failure) = worst(found) else {
        status.endpoints = Some(found.endpoints.clone());
        status.client_id.clone_from(&found.client_id);
        status.observed_secrets.clone_from(&found.secrets);
        let said = match &found.remark {
            Some(remark) => format!("usable; but {remark}"),
            None => "usable, as far as can be told without a credential".to_owned(),
        };
        set(&mut status, now, READY, "True", CONFIGURED, &said);
        set(&mut status, now, STALLED, "False", CONFIGURED, "");
        status.conditions.retain(|c| c.type_ != RECONCILING);
        return status;
    };
    let said = message(found, failure);
    let reason = failure.reason.as_str();
    // Who could not look has found nothing new.
    let unseen = failure.reason == Reason::APIServerError && was_ready;
    if !unseen {
        status.endpoints = Some(found.endpoints.clone());
        status.client_id.clone_from(&found.client_id);
        status.observed_secrets.clone_from(&found.secrets);
        set(&mut status, now, READY, "False", reason, &said);
    }
    if failure.reason.class().consequence().stalled {
        set(&mut status, now, STALLED, "True", reason, &said);
        status.conditions.retain(|c| c.type_ != RECONCILING);
    } else {
        set(&mut status, now, STALLED, "False", "Retrying", "");
        set(&mut status, now, RECONCILING, "True", reason, &said);
    }
    status
}

/// What people are told when: only where Ready became something else, and of one that was right from the start
/// nothing.
#[must_use]
pub fn transition(before: Option<&ProviderStatus>, after: &ProviderStatus) -> Option<Transition> {
    let said = |status: &ProviderStatus| {
        let ready = condition(status, READY)?;
        Some((ready.status.clone(), ready.reason.clone()))
    };
    let was = before.and_then(said);
    let ready = condition(after, READY)?;
    let is_ready = ready.status == "True";
    let is_new = was
        .as_ref()
        .is_none_or(|(status, reason)| (status, reason) != (&ready.status, &ready.reason));
    let is_worth_telling = is_new && (!is_ready || was.is_some());
    is_worth_telling.then(|| Transition {
        warning: !is_ready,
        reason: match worst_reason(&ready.reason) {
            Some(reason) => reason,
            None => CONFIGURED,
        },
        message: ready.message.clone(),
    })
}

fn worst_reason(name: &str) -> Option<&'static str> {
    Reason::from_name(name).map(Reason::as_str)
}

/// After how long to look again without a change of the object: `failures` is the number of failures in a row, this
/// one included. `None`: what it depends on tells of its changes.
#[must_use]
pub fn again(found: &Inspection, failures: u32, all_watched: bool, uid: &str) -> Option<Duration> {
    if let Some(failure) = worst(found) {
        let retry = failure.reason.class().consequence().retry;
        return retry.map(|(first, longest)| backoff(first, longest, failures, uid));
    }
    (found.asked_elsewhere || !all_watched).then_some(RECHECK)
}

/// Whether the object is said to be usable.
#[must_use]
pub fn is_ready(status: &ProviderStatus) -> bool {
    condition(status, READY).is_some_and(|c| c.status == "True")
}

/// What somebody must mend comes before what passes by itself.
fn worst(found: &Inspection) -> Option<&Failure> {
    let needs_people = |failure: &&Failure| failure.reason.class().consequence().stalled;
    let failures = &found.failures;
    failures.iter().find(needs_people).or(failures.first())
}

fn message(found: &Inspection, worst: &Failure) -> String {
    let others = found.failures.iter().filter(|f| *f != worst);
    let others: Vec<_> = others.map(|f| f.message.as_str()).collect();
    if others.is_empty() {
        worst.message.clone()
    } else {
        format!("{}. Besides: {}", worst.message, others.join(". "))
    }
}

fn condition<'a>(status: &'a ProviderStatus, type_: &str) -> Option<&'a Condition> {
    status.conditions.iter().find(|c| c.type_ == type_)
}

fn set(
    status: &mut ProviderStatus,
    now: Timestamp,
    type_: &str,
    value: &str,
    reason: &str,
    message: &str,
) {
    // The API allows 32 KiB; a message is for a screen.
    const LONGEST: usize = 1024;
    let since = condition(status, type_)
        .filter(|old| old.status == value)
        .map(|old| old.last_transition_time.clone());
    let new = Condition {
        type_: type_.to_owned(),
        status: value.to_owned(),
        reason: reason.to_owned(),
        message: message.chars().take(LONGEST).collect(),
        observed_generation: status.observed_generation,
        last_transition_time: since.unwrap_or(Time(now)),
    };
    match status.conditions.iter_mut().find(|c| c.type_ == type_) {
        Some(old) => *old = new,
        None => status.conditions.push(new),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn failing(reasons: &[Reason]) -> Inspection {
        let failures = reasons
            .iter()
            .map(|reason| Failure::new(*reason, format!("{} it is", reason.as_str())));
        Inspection {
            failures: failures.collect(),
            ..Inspection::default()
        }
    }

    fn shown(status: &ProviderStatus) -> Vec<(&str, &str, &str)> {
        let all = status.conditions.iter();
        all.map(|c| (c.type_.as_str(), c.status.as_str(), c.reason.as_str()))
            .collect()
    }

    #[test]
    fn what_was_found_is_told_by_the_rules_of_kstatus() {
        let good = after(None, Some(1), &Inspection::default(), at(1));
        assert_eq!(
            shown(&good),
            [
                ("Ready", "True", "Configured"),
                ("Stalled", "False", "Configured")
            ]
        );
        let bad = failing(&[Reason::ProviderUnreachable, Reason::ProviderNotConfigured]);
        let stalled = after(Some(&good), Some(2), &bad, at(2));
        assert_eq!(
            shown(&stalled),
            [
                ("Ready", "False", "ProviderNotConfigured"),
                ("Stalled", "True", "ProviderNotConfigured")
            ]
        );
        let said = &stalled.conditions[0].message;
        assert!(
            said.contains("Besides: ProviderUnreachable it is"),
            "{said}"
        );
        let passing = failing(&[Reason::ProviderUnreachable]);
        let retrying = after(Some(&stalled), Some(2), &passing, at(3));
        assert_eq!(
            shown(&retrying),
            [
                ("Ready", "False", "ProviderUnreachable"),
                ("Stalled", "False", "Retrying"),
                ("Reconciling", "True", "ProviderUnreachable")
            ]
        );
        assert_eq!(retrying.conditions[0].last_transition_time.0, at(2));
        assert_eq!(retrying.observed_generation, Some(2));
    }

    #[test]
    fn an_api_server_that_does_not_answer_makes_no_provider_unusable() {
        let good = after(None, Some(1), &Inspection::default(), at(1));
        let unseen = failing(&[Reason::APIServerError]);
        let still = after(Some(&good), Some(1), &unseen, at(2));
        assert!(is_ready(&still));
        assert_eq!(shown(&still)[2], ("Reconciling", "True", "APIServerError"));
        assert!(!is_ready(&after(Some(&good), Some(2), &unseen, at(2))));
    }

    #[test]
    fn people_are_told_of_transitions_and_of_nothing_else() {
        let good = after(None, Some(1), &Inspection::default(), at(1));
        assert_eq!(transition(None, &good), None);
        let failed = failing(&[Reason::ProviderNotConfigured]);
        let bad = after(Some(&good), Some(1), &failed, at(2));
        let told = transition(Some(&good), &bad).unwrap();
        assert_eq!((told.warning, told.reason), (true, "ProviderNotConfigured"));
        assert_eq!(transition(Some(&bad), &bad), None);
        let told = transition(Some(&bad), &good).unwrap();
        assert_eq!((told.warning, told.reason), (false, "Configured"));
        assert!(transition(None, &bad).is_some());
    }

    #[test]
    fn it_is_looked_at_again_only_where_nobody_tells_of_changes() {
        let good = Inspection::default();
        assert_eq!(again(&good, 0, true, "u"), None);
        assert_eq!(again(&good, 0, false, "u"), Some(RECHECK));
        let asked_elsewhere = Inspection {
            asked_elsewhere: true,
            ..Inspection::default()
        };
        assert_eq!(again(&asked_elsewhere, 0, true, "u"), Some(RECHECK));
        let failed = failing(&[Reason::ProviderNotConfigured]);
        let first = again(&failed, 1, true, "u").unwrap();
        assert!(
            first <= Duration::from_secs(5) && again(&failed, 30, true, "u").unwrap() <= RECHECK
        );
    }
}
