use serde_json::json;

use super::{Reason as R, *};
use crate::{
    api::{AccessTokenOnRefresh, PlainMount},
    secret::grant,
};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + seconds).unwrap()
}

pub(super) fn credential(status: Option<CredentialStatus>) -> IntegrationCredential {
    let spec = json!({"oauth2": {"providerRef": {"name": "p"}, "grantType": "RefreshToken",
        "seedSecretRef": {"name": "s"}}});
    let mut credential = IntegrationCredential::new("c", serde_json::from_value(spec).unwrap());
    credential.metadata.generation = Some(2);
    credential.status = status;
    credential
}

fn success(generation: u64, issued: i64) -> Report {
    Report {
        token: Some(grant::sample(generation, "rt", at(issued)).token),
        refreshed: true,
        ..Report::default()
    }
}

fn failure(reason: Reason) -> Report {
    Report {
        failure: Some(Failure::new(reason, "what to do")),
        ..Report::default()
    }
}

/// `Ready=… Stalled=… Reconciling=…` with reasons.
fn said(status: &CredentialStatus) -> String {
    let of = |type_| {
        condition(status, type_).map_or("-".to_owned(), |c| format!("{}/{}", c.status, c.reason))
    };
    format!("{} {} {}", of(READY), of(STALLED), of(RECONCILING))
}

#[test]
fn a_seed_that_is_not_used_stays_so_where_a_refresh_fails_before_it_comes_to_it() {
    let refused = Report {
        seed_rejected: Some("superseded".to_owned()),
        ..success(1, 0)
    };
    let status = after(&credential(None), &refused, at(0));
    assert!(condition(&status, SEED_REJECTED).is_some());
    let failed = after(&credential(Some(status)), &failure(R::ProviderError), at(1));
    assert!(condition(&failed, SEED_REJECTED).is_some());
    let well = after(&credential(Some(failed)), &success(2, 2), at(2));
    assert!(condition(&well, SEED_REJECTED).is_none());
}

#[test]
fn a_grant_that_was_refused_stays_so_whatever_the_spec_says_now() {
    let valid = after(&credential(None), &success(1, 0), at(0));
    let refused = failure(R::ReauthorizationRequired);
    let refused = after(&credential(Some(valid)), &refused, at(1));
    let mut edited = credential(Some(refused.clone()));
    edited.metadata.generation = Some(3);
    let looked = Report {
        refreshed: false,
        mends_nothing: true,
        ..success(1, 0)
    };
    let status = after(&edited, &looked, at(2));
    assert_eq!(said(&status), said(&refused));
    assert_eq!(status.observed_generation, Some(3));
    let observed = |c: &Condition| c.observed_generation == Some(3);
    assert!(status.conditions.iter().all(observed));
    assert_eq!(status.refresh.unwrap().failures, 1);
}

#[test]
fn every_transition() {
    let none = || first(&credential(None), at(0));
    let valid = || after(&credential(Some(none())), &success(1, 0), at(0));
    assert_eq!(
        said(&none()),
        "Unknown/Pending False/Progressing True/Progressing"
    );
    assert_eq!(said(&valid()), "True/Valid False/Valid -");
    // The token of `valid` lives until 3600.
    for (from, reason, now, expected) in [
        (
            none(),
            R::ProviderError,
            1,
            "False/Pending False/Retrying True/ProviderError",
        ),
        (
            none(),
            R::UnknownProvider,
            1,
            "False/Pending True/UnknownProvider -",
        ),
        (
            none(),
            R::ReauthorizationRequired,
            1,
            "False/Invalid True/ReauthorizationRequired -",
        ),
        (
            none(),
            R::TargetConflict,
            1,
            "False/Invalid True/TargetConflict -",
        ),
        (
            valid(),
            R::ProviderError,
            1,
            "True/Refreshing False/Retrying True/ProviderError",
        ),
        (
            valid(),
            R::RefreshOutcomeUnknown,
            1,
            "True/Refreshing False/Retrying True/RefreshOutcomeUnknown",
        ),
        (
            valid(),
            R::RateLimited,
            1,
            "True/Refreshing False/Retrying True/RateLimited",
        ),
        (
            valid(),
            R::InvalidClient,
            1,
            "True/Valid True/InvalidClient -",
        ),
        (
            valid(),
            R::ReauthorizationRequired,
            1,
            "True/Valid True/ReauthorizationRequired -",
        ),
        (
            valid(),
            R::TargetConflict,
            1,
            "False/Invalid True/TargetConflict -",
        ),
        (
            valid(),
            R::ProviderError,
            3600,
            "False/Expired False/Retrying True/ProviderError",
        ),
        (
            valid(),
            R::InvalidClient,
            3600,
            "False/Expired True/InvalidClient -",
        ),
        (
            valid(),
            R::RotationLost,
            3600,
            "False/Invalid True/RotationLost -",
        ),
    ] {
        let status = after(&credential(Some(from)), &failure(reason), at(now));
        assert_eq!(said(&status), expected, "{reason:?} at {now}");
        let mended = after(&credential(Some(status)), &success(2, now), at(now));
        assert_eq!(
            said(&mended),
            "True/Valid False/Valid -",
            "after {reason:?}"
        );
        assert_eq!(mended.refresh.unwrap().last_error, None);
    }
}

#[test]
fn a_token_that_expires_between_attempts_is_told() {
    let valid = after(&credential(None), &success(1, 0), at(0));
    let retrying = after(
        &credential(Some(valid.clone())),
        &failure(Reason::ProviderError),
        at(1),
    );
    let dead = after(
        &credential(Some(valid.clone())),
        &failure(Reason::GrantLost),
        at(1),
    );
    for (status, expected) in [(valid, "Expired"), (retrying, "Expired"), (dead, "Invalid")] {
        let credential = credential(Some(status));
        assert_eq!(super::at(&credential, at(3599)), None);
        let expired = super::at(&credential, at(3600)).unwrap();
        let ready = condition(&expired, READY).unwrap();
        assert_eq!(
            (ready.status.as_str(), ready.reason.as_str()),
            ("False", expected)
        );
    }
}

#[test]
fn the_next_attempt_is_later_each_time_and_never_before_the_providers_pause() {
    let mut status = after(&credential(None), &success(1, 0), at(0));
    let mut last = std::time::Duration::ZERO;
    for _ in 0..6 {
        status = after(
            &credential(Some(status)),
            &failure(Reason::ProviderError),
            at(10),
        );
        let next = status.refresh.clone().unwrap().next_attempt_time.unwrap().0;
        let delay = std::time::Duration::try_from(next.duration_since(at(10))).unwrap();
        assert!(delay > last, "{delay:?} after {last:?}");
        last = delay;
    }
    let mut report = failure(Reason::RateLimited);
    report.failure.as_mut().unwrap().retry_after = Some(std::time::Duration::from_secs(500));
    let limited = after(&credential(Some(status)), &report, at(10));
    assert_eq!(
        limited.refresh.unwrap().next_attempt_time.unwrap().0,
        at(510)
    );
}

#[test]
fn a_transition_time_moves_only_with_the_status() {
    let valid = after(&credential(None), &success(1, 0), at(0));
    let still = after(
        &credential(Some(valid)),
        &failure(Reason::ProviderError),
        at(50),
    );
    assert_eq!(
        condition(&still, READY).unwrap().last_transition_time.0,
        at(0)
    );
    let gone = after(
        &credential(Some(still)),
        &failure(Reason::ProviderError),
        at(4000),
    );
    assert_eq!(
        condition(&gone, READY).unwrap().last_transition_time.0,
        at(4000)
    );
    assert_eq!(
        condition(&gone, READY).unwrap().observed_generation,
        Some(2)
    );
}

#[test]
fn what_went_wrong_stays_so_when_only_the_target_was_repaired() {
    let valid = after(&credential(None), &success(1, 0), at(0));
    let dead = after(&credential(Some(valid)), &failure(R::GrantRestored), at(1));
    let repaired = Report {
        refreshed: false,
        aside: true,
        target_version: Some("7".to_owned()),
        ..success(1, 0)
    };
    let status = after(&credential(Some(dead.clone())), &repaired, at(2));
    assert_eq!(said(&status), said(&dead));
    assert_eq!(status.refresh, dead.refresh);
    assert_eq!(
        status.target.unwrap().resource_version.as_deref(),
        Some("7")
    );
}

#[test]
fn whether_the_target_can_just_be_mounted_is_told_with_each_token() {
    let told = |old_token, before: Option<CredentialStatus>| {
        let mut report = success(1, 0);
        report.pace.old_token = old_token;
        after(&credential(before), &report, at(0))
            .target
            .unwrap()
            .plain_mount
    };
    assert_eq!(
        told(AccessTokenOnRefresh::Survives, None),
        Some(PlainMount::Safe)
    );
    assert_eq!(
        told(AccessTokenOnRefresh::Unknown, None),
        Some(PlainMount::Unsafe)
    );
    let safe = after(&credential(None), &success(1, 0), at(0));
    assert_eq!(
        told(AccessTokenOnRefresh::Invalidated, Some(safe.clone())),
        Some(PlainMount::Unsafe)
    );
    let failed = after(
        &credential(Some(safe.clone())),
        &failure(R::ProviderError),
        at(1),
    );
    assert_eq!(
        failed.target.unwrap().plain_mount,
        safe.target.unwrap().plain_mount
    );
}

#[test]
fn events_are_for_transitions() {
    let reasons = |before: Option<&CredentialStatus>, report: &Report| {
        let after = after(&credential(before.cloned()), report, at(1));
        let events = transitions(&credential(None), before, &after, report);
        events.iter().map(|e| e.reason).collect::<Vec<_>>()
    };
    let none = first(&credential(None), at(0));
    assert_eq!(reasons(Some(&none), &success(1, 0)), ["Refreshed"]);
    let valid = after(&credential(Some(none)), &success(1, 0), at(0));
    assert_eq!(reasons(Some(&valid), &success(2, 100)), [""; 0]);
    assert_eq!(
        reasons(Some(&valid), &failure(Reason::ProviderError)),
        ["RefreshFailed"]
    );
    let failed = after(
        &credential(Some(valid)),
        &failure(Reason::ProviderError),
        at(1),
    );
    assert_eq!(
        reasons(Some(&failed), &failure(Reason::ProviderError)),
        [""; 0]
    );
    assert_eq!(
        reasons(Some(&failed), &failure(Reason::GrantLost)),
        ["GrantLost"]
    );
    assert_eq!(reasons(Some(&failed), &success(2, 2)), ["Refreshed"]);
}

#[test]
fn it_is_looked_at_again_at_the_next_attempt_or_the_expiry_whichever_is_first() {
    let valid = after(&credential(None), &success(1, 0), at(0));
    let next = valid.refresh.clone().unwrap().next_time.unwrap().0;
    assert_eq!(wake(&credential(None), &valid, at(0)), Wake::At(next));
    let retrying = after(
        &credential(Some(valid.clone())),
        &failure(Reason::InvalidClient),
        at(3599),
    );
    assert_eq!(
        wake(&credential(None), &retrying, at(3599)),
        Wake::At(at(3600))
    );
    let dead = after(
        &credential(Some(valid)),
        &failure(Reason::RotationLost),
        at(1),
    );
    assert_eq!(
        wake(&credential(None), &dead, at(1)),
        Wake::OnChange(Some(at(3600)))
    );
    assert_eq!(
        wake(&credential(None), &dead, at(3600)),
        Wake::OnChange(None)
    );
}

#[test]
fn narrowed_scopes_are_told_once_and_leave_the_token_ready() {
    let with_scopes = |status: Option<CredentialStatus>| {
        let mut credential = credential(status);
        credential.spec.oauth2.as_mut().unwrap().scopes = vec!["a".to_owned(), "b".to_owned()];
        credential
    };
    let narrow = success(1, 0);
    let before = first(&with_scopes(None), at(0));
    let narrowed = after(&with_scopes(Some(before.clone())), &narrow, at(1));
    assert_eq!(said(&narrowed), "True/Valid False/Valid -");
    assert!(
        condition(&narrowed, SCOPES_MISSING)
            .unwrap()
            .message
            .contains(": b.")
    );
    let reasons = |before: &CredentialStatus, after: &CredentialStatus| {
        let events = transitions(&credential(None), Some(before), after, &narrow);
        events.iter().map(|e| e.reason).collect::<Vec<_>>()
    };
    assert_eq!(reasons(&before, &narrowed), ["Refreshed", "ScopeNarrowed"]);
    let again = after(&with_scopes(Some(narrowed.clone())), &narrow, at(2));
    assert_eq!(reasons(&narrowed, &again), [""; 0]);
    let mut whole = success(2, 0);
    whole.token.as_mut().unwrap().scopes.push("b".to_owned());
    let widened = after(&with_scopes(Some(again)), &whole, at(3));
    assert!(condition(&widened, SCOPES_MISSING).is_none());
}
