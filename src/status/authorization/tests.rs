use serde_json::{Value, json};

use super::*;
use crate::{
    secret::grant,
    status::{self, Transition, condition, noticed},
};

const DAY: i64 = 86_400;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + seconds).unwrap()
}

fn credential(status: Option<CredentialStatus>) -> IntegrationCredential {
    let spec = json!({"oauth2": {"providerRef": {"name": "p"}, "grantType": "RefreshToken",
        "seedSecretRef": {"name": "s"}}});
    let mut credential = IntegrationCredential::new("c", serde_json::from_value(spec).unwrap());
    credential.metadata.generation = Some(1);
    credential.metadata.namespace = Some("n".to_owned());
    credential.status = status;
    credential
}

/// A refresh at `issued`, of an authorization from `authorized`, whose refresh token is said to end at `end`.
fn refreshed(authorized: i64, issued: i64, end: i64) -> Report {
    Report {
        token: Some(grant::sample(1, "rt", at(issued)).token),
        refreshed: true,
        seed_fingerprint: Some("f".to_owned()),
        authorized_at: Some(at(authorized)),
        refresh_expires_at: Some(at(end)),
        ..Report::default()
    }
}

fn after(before: Option<&CredentialStatus>, report: &Report) -> CredentialStatus {
    let now = report.token.as_ref().unwrap().issued_at;
    status::after(&credential(before.cloned()), report, now)
}

fn end(status: &CredentialStatus) -> Option<Timestamp> {
    Some(status.grant.as_ref()?.final_expiration_time.as_ref()?.0)
}

fn is_told(status: &CredentialStatus) -> bool {
    condition(status, AUTHORIZATION_EXPIRING).is_some()
}

#[test]
fn an_end_that_a_refresh_does_not_put_off_is_taken_for_the_end() {
    let first = after(None, &refreshed(0, 0, 30 * DAY));
    assert_eq!(end(&first), None, "one statement says nothing of the next");
    let slides = after(Some(&first), &refreshed(0, 3600, 30 * DAY + 3600));
    assert_eq!(end(&slides), None);
    let stands = after(Some(&first), &refreshed(0, 3600, 30 * DAY + 1));
    assert_eq!(end(&stands), Some(at(30 * DAY + 1)));
    // Too soon after each other to tell: as it was.
    let again = after(Some(&stands), &refreshed(0, 3605, 30 * DAY + 2));
    assert_eq!(end(&again), Some(at(30 * DAY + 1)));
    let hasty = after(Some(&first), &refreshed(0, 5, 30 * DAY));
    assert_eq!(end(&hasty), None);
    // It slides after all.
    let moved = after(Some(&stands), &refreshed(0, 7200, 31 * DAY));
    assert_eq!(end(&moved), None);
    let anew = after(Some(&stands), &refreshed(7200, 7200, 40 * DAY));
    assert_eq!(end(&anew), None, "another authorization");
    let unchanged = Report {
        refreshed: false,
        ..refreshed(0, 3600, 30 * DAY + 1)
    };
    assert_eq!(end(&after(Some(&stands), &unchanged)), end(&stands));
}

#[test]
fn the_end_that_the_description_states_is_the_end() {
    let report = Report {
        authorization_ends_at: Some(at(90 * DAY)),
        ..refreshed(0, 0, 14 * DAY)
    };
    let status = after(None, &report);
    assert_eq!(end(&status), Some(at(90 * DAY)));
    let grant = status.grant.unwrap();
    assert_eq!(grant.expiration_time.unwrap().0, at(14 * DAY));
    assert_eq!(grant.authorization_time.unwrap().0, at(0));
}

#[test]
fn people_are_told_seven_days_or_a_fifth_of_its_life_ahead_and_once() {
    for (life, ahead) in [(90 * DAY, 7 * DAY), (10 * DAY, 2 * DAY), (3600, 720)] {
        let report = Report {
            authorization_ends_at: Some(at(life)),
            ..refreshed(0, 0, life)
        };
        let mut status = after(None, &report);
        status.token.as_mut().unwrap().expiration_time = None;
        let of = credential(Some(status.clone()));
        assert_eq!(status::at(&of, at(life - ahead - 1)), None);
        let told = status::at(&of, at(life - ahead)).unwrap();
        let message = &condition(&told, AUTHORIZATION_EXPIRING).unwrap().message;
        assert!(
            message.contains("kubectl -n n patch secret s")
                && message.contains(&format!("{:.0}", at(life))),
            "{message}"
        );
        let reasons = |before: &CredentialStatus, after: &CredentialStatus| {
            let events: Vec<Transition> = noticed(&of, Some(before), after);
            events
                .iter()
                .map(|e| (e.warning, e.reason))
                .collect::<Vec<_>>()
        };
        assert_eq!(reasons(&status, &told), [(true, AUTHORIZATION_EXPIRING)]);
        // Nothing more is written or told of it.
        let told = credential(Some(told));
        assert_eq!(status::at(&told, at(life - 1)), None);
        let still = told.status.as_ref().unwrap();
        assert_eq!(reasons(still, still), []);
        // It is looked at again when it is time to tell.
        let wake = status::wake(&of, &status, at(0));
        assert!(
            matches!(wake, status::Wake::At(next) | status::Wake::OnChange(Some(next)) if next <= at(life - ahead)),
            "{wake:?}"
        );
    }
}

#[test]
fn a_new_authorization_takes_the_warning_away_and_so_does_what_is_worse() {
    let report = |authorized: i64, issued: i64| Report {
        authorization_ends_at: Some(at(authorized + 10 * DAY)),
        ..refreshed(authorized, issued, authorized + 10 * DAY)
    };
    let near = after(Some(&after(None, &report(0, 0))), &report(0, 9 * DAY));
    assert!(is_told(&near));
    let refreshed = after(Some(&near), &report(0, 9 * DAY + 60));
    assert!(is_told(&refreshed), "a refresh puts nothing off");
    assert!(!is_told(&after(Some(&near), &report(9 * DAY, 9 * DAY))));
    let dead = Report {
        failure: Some(crate::failure::Failure::new(
            Reason::ReauthorizationRequired,
            "now",
        )),
        ..Report::default()
    };
    let dead = status::after(&credential(Some(near)), &dead, at(10 * DAY));
    assert!(!is_told(&dead));
}

#[test]
fn what_does_not_work_of_the_schedule_is_said_beside_ready() {
    let said = |refresh: Value, report: Report| {
        let mut of = credential(None);
        of.spec.refresh = serde_json::from_value(refresh).unwrap();
        let now = report.token.as_ref().unwrap().issued_at;
        let status = status::after(&of, &report, now);
        condition(&status, "Ready").unwrap().message.clone()
    };
    // Lives for an hour.
    let plain = || refreshed(0, 0, 30 * DAY);
    assert_eq!(
        said(json!({"before": "30m"}), plain()),
        "the token is valid"
    );
    assert_eq!(
        said(json!({"before": "31m"}), plain()),
        "the token is valid; spec.refresh.before (31 min) is longer than half of the token's life, so half is used"
    );
    let idle = || {
        let mut report = plain();
        report.pace.idle = Some(Duration::from_secs(3600));
        report
    };
    assert_eq!(
        said(json!({"keepAlive": "59m"}), idle()),
        "the token is valid"
    );
    let message = said(json!({"keepAlive": "60m"}), idle());
    assert!(
        message.contains("spec.refresh.keepAlive (1 h) is not shorter than the 1 h"),
        "{message}"
    );

    let endless = |rejected_after: Option<u64>| {
        let mut report = plain();
        report.token.as_mut().unwrap().expires_at = None;
        report.rejected_after = rejected_after.map(Duration::from_secs);
        report
    };
    let assume = json!({"unknownExpiry": "Assume", "assumedLifetime": "2h"});
    let message = said(assume.clone(), endless(None));
    assert!(
        message.ends_with("it is taken to live for 2 h (spec.refresh.assumedLifetime)"),
        "{message}"
    );
    let message = said(assume.clone(), endless(Some(1800)));
    assert!(
        message.contains("30 min after it was obtained"),
        "{message}"
    );
    assert_eq!(
        said(assume.clone(), endless(Some(7300))),
        said(assume, endless(None))
    );
}
