//! What a credential needs that is copied from a Secret of its user.

use std::time::Duration;

use super::{Decision, Facts, RECHECK, Seen, fraction};
use crate::{api::IntegrationCredential, lock::observer::GateSight};

/// How often an unwatched source is read: every 10 minutes, or a little earlier by a share that is fixed for each
/// credential, so that not all are read at a time.
#[must_use]
pub fn interval(uid: &str) -> Duration {
    RECHECK.mul_f64(1.0 - 0.25 * fraction(uid))
}

/// Decides from cached objects. It says [`Decision::Refresh`] where the source is to be read, whatever comes of it.
pub(super) fn plan(credential: &IntegrationCredential, facts: &Facts<'_>) -> Decision {
    let Some(status) = &credential.status else {
        return Decision::Refresh;
    };
    let refresh = status.refresh.clone().unwrap_or_default();
    let changed = facts.inputs_changed
        || facts.again
        || facts.source_unread
        || facts.seed != Seen::Unchanged
        || status.observed_generation != credential.metadata.generation;
    let next_attempt = refresh.next_attempt_time.as_ref().map(|t| t.0);
    let next_attempt = next_attempt.max(facts.not_before);
    if facts.requested || changed {
        return Decision::Refresh;
    }
    if next_attempt.is_some_and(|at| at > facts.now) {
        return if facts.gate == GateSight::Stuck {
            Decision::Open
        } else {
            Decision::Wait(next_attempt)
        };
    }
    let is_whole = status.token.is_some() && facts.target == Seen::Unchanged;
    if !is_whole || refresh.failures > 0 || facts.wanted || facts.gate == GateSight::Stuck {
        return Decision::Refresh;
    }
    let expires = status
        .token
        .as_ref()
        .and_then(|t| t.expiration_time.as_ref());
    Decision::Wait(expires.map(|at| at.0).filter(|at| *at > facts.now))
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::{Value, json};

    use super::*;
    use crate::plan::tests::CALM;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + seconds).unwrap()
    }

    fn credential(refresh: &Value) -> IntegrationCredential {
        let spec = json!({"apiKey": {"secretKeyRef": {"name": "in", "key": "k"}}});
        let mut credential =
            IntegrationCredential::new("shop", serde_json::from_value(spec).unwrap());
        credential.metadata.generation = Some(1);
        let status = json!({"observedGeneration": 1, "refresh": refresh, "token": {"generation": 1,
            "lastRefreshTime": at(0).to_string(), "expirationTime": at(500).to_string()}});
        credential.status = Some(serde_json::from_value(status).unwrap());
        credential
    }

    #[test]
    fn a_source_is_read_when_something_may_have_changed() {
        let calm = Facts { now: at(0), ..CALM };
        let copied = credential(&json!({"failures": 0}));
        assert_eq!(plan(&copied, &calm), Decision::Wait(Some(at(500))));
        let past = Facts {
            now: at(500),
            ..calm
        };
        assert_eq!(plan(&copied, &past), Decision::Wait(None));
        for facts in [
            Facts {
                seed: Seen::Changed,
                ..calm
            },
            Facts {
                seed: Seen::Missing,
                ..calm
            },
            Facts {
                source_unread: true,
                ..calm
            },
            Facts {
                target: Seen::Changed,
                ..calm
            },
            Facts {
                target: Seen::Missing,
                ..calm
            },
            Facts {
                requested: true,
                ..calm
            },
            Facts {
                wanted: true,
                ..calm
            },
            Facts {
                again: true,
                ..calm
            },
            Facts {
                gate: GateSight::Stuck,
                ..calm
            },
        ] {
            assert_eq!(plan(&copied, &facts), Decision::Refresh, "{facts:?}");
        }
        let mut respecified = copied.clone();
        respecified.metadata.generation = Some(2);
        assert_eq!(plan(&respecified, &calm), Decision::Refresh);
        respecified.status = None;
        assert_eq!(plan(&respecified, &calm), Decision::Refresh);
    }

    #[test]
    fn a_failure_is_retried_at_its_time_or_when_something_changes() {
        let failing = credential(
            &json!({"failures": 1, "nextAttemptTime": at(60).to_string(),
                "lastError": {"reason": "SourceInvalid", "time": at(0).to_string()}}),
        );
        let calm = Facts { now: at(0), ..CALM };
        assert_eq!(plan(&failing, &calm), Decision::Wait(Some(at(60))));
        for facts in [
            Facts {
                now: at(60),
                ..calm
            },
            Facts {
                inputs_changed: true,
                ..calm
            },
            Facts {
                seed: Seen::Changed,
                ..calm
            },
            Facts {
                source_unread: true,
                ..calm
            },
            Facts {
                requested: true,
                ..calm
            },
        ] {
            assert_eq!(plan(&failing, &facts), Decision::Refresh, "{facts:?}");
        }
        // What programs say, and the target as it is, wait for the next attempt; a gate that nobody keeps does not.
        let wanted = Facts {
            wanted: true,
            target: Seen::Changed,
            ..calm
        };
        assert_eq!(plan(&failing, &wanted), Decision::Wait(Some(at(60))));
        let stuck = Facts {
            gate: GateSight::Stuck,
            ..calm
        };
        assert_eq!(plan(&failing, &stuck), Decision::Open);
    }

    #[test]
    fn an_unwatched_source_is_read_about_every_ten_minutes_and_not_all_at_a_time() {
        let all: Vec<_> = (0..100).map(|n| interval(&format!("uid-{n}"))).collect();
        assert!(all.iter().all(|i| *i <= RECHECK && *i >= RECHECK * 3 / 4));
        let first = all.iter().min().unwrap();
        assert!(*all.iter().max().unwrap() > *first + Duration::from_secs(60));
    }
}
