//! What somebody asks for beyond the schedule: a refresh because a token does not work (a want), or
//! because a person says so (an annotation).

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use jiff::Timestamp;
use kube::ResourceExt;

use crate::{
    api::{CredentialStatus, IntegrationCredential},
    plan::known_generation,
};

/// On a credential: refresh it now. Acts once for each value; any text will do, a time is usual.
pub const REFRESH_REQUESTED: &str = "tokenward.dev/refresh-requested";

/// Soon after its start a token that is said not to work casts doubt on what is said: this share of its
/// lifetime, and at most [`LONGEST_DOUBT`].
const DOUBTFUL_SHARE: u32 = 4;

/// For a token without an expiry, or a long one.
const LONGEST_DOUBT: Duration = Duration::from_secs(600);

/// After so many tokens in a row that were said not to work so soon, a new one will not help.
pub const TOO_MANY_REJECTIONS: i32 = 2;

/// What is asked of a credential.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// The generations that are said not to work, where that is believed.
    pub wants: BTreeSet<u64>,
    /// The value of the annotation, where it was not acted upon yet.
    pub request: Option<String>,
    /// Whether nothing is asked for but that a gate which nobody keeps is opened.
    pub only_open: bool,
    /// Whether the token was asked for elsewhere, or as another client, or for other scopes, than it would be now.
    pub differently: bool,
}

impl Asked {
    /// What is asked of `credential`, by its annotation and by these wants.
    #[must_use]
    pub fn of(
        credential: &IntegrationCredential,
        wants: &BTreeMap<String, u64>,
        now: Timestamp,
    ) -> Self {
        let status = credential.status.as_ref();
        let refresh = status.and_then(|s| s.refresh.as_ref());
        let handled = refresh.and_then(|r| r.last_handled_request.as_ref());
        let requested = credential.annotations().get(REFRESH_REQUESTED);
        let request = requested.filter(|r| Some(*r) != handled).cloned();
        let rejections = refresh.map_or(0, |r| r.rejections);
        let doubled = u32::try_from(rejections - TOO_MANY_REJECTIONS).ok();
        let doubted = doubled
            .zip(status)
            .is_some_and(|(times, status)| is_younger(status, times, now));
        Self {
            wants: if doubted {
                BTreeSet::new()
            } else {
                wants.values().copied().collect()
            },
            request,
            only_open: false,
            differently: false,
        }
    }

    /// Whether programs say that the token of exactly this generation does not work.
    #[must_use]
    pub fn is_wanted(&self, generation: u64) -> bool {
        self.wants.contains(&generation)
    }

    /// Whether the token of this generation is to be replaced.
    #[must_use]
    pub fn is_about(&self, generation: u64) -> bool {
        self.request.is_some() || self.is_wanted(generation)
    }

    /// Whether it must be looked behind the gate whether a token is to be replaced: programs may know of a
    /// newer one than a cached status.
    #[must_use]
    pub fn is_now(&self, credential: &IntegrationCredential) -> bool {
        let known = known_generation(credential.status.as_ref());
        self.request.is_some() || self.wants.last().is_some_and(|newest| *newest >= known)
    }
}

/// Whether the token is so new that it should work.
#[must_use]
pub fn is_early(status: &CredentialStatus, now: Timestamp) -> bool {
    is_younger(status, 0, now)
}

/// As [`is_early`], with a share that is doubled so many times: the longer what is said does not help, the
/// less it is believed.
fn is_younger(status: &CredentialStatus, doubled: u32, now: Timestamp) -> bool {
    let Some(token) = &status.token else {
        return false;
    };
    let Some(issued) = token.last_refresh_time.as_ref().map(|t| t.0) else {
        return false;
    };
    let since = |from: Timestamp, to: Timestamp| Duration::try_from(to.duration_since(from)).ok();
    let lifetime = token
        .expiration_time
        .as_ref()
        .and_then(|t| since(issued, t.0));
    let doubtful = lifetime.map_or(LONGEST_DOUBT, |l| (l / DOUBTFUL_SHARE).min(LONGEST_DOUBT));
    let doubtful = doubtful.saturating_mul(1 << doubled.min(10));
    since(issued, now).is_some_and(|age| age < doubtful)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + seconds).unwrap()
    }

    /// Generation 7, issued at 0, expires at 400.
    fn credential(refresh: &Value, annotation: Option<&str>) -> IntegrationCredential {
        let spec =
            json!({"oauth2": {"providerRef": {"name": "p"}, "grantType": "ClientCredentials"}});
        let mut credential = IntegrationCredential::new("c", serde_json::from_value(spec).unwrap());
        let status = json!({"refresh": refresh, "token": {"generation": 7,
            "lastRefreshTime": at(0).to_string(), "expirationTime": at(400).to_string()}});
        credential.status = Some(serde_json::from_value(status).unwrap());
        if let Some(value) = annotation {
            let notes = credential.annotations_mut();
            notes.insert(REFRESH_REQUESTED.to_owned(), value.to_owned());
        }
        credential
    }

    fn is_now(credential: &IntegrationCredential, wants: &[u64], now: i64) -> bool {
        let wants = wants.iter().map(|g| (format!("c.want.{g}"), *g)).collect();
        Asked::of(credential, &wants, at(now)).is_now(credential)
    }

    #[test]
    fn a_want_is_about_the_generation_it_names_and_none_before() {
        let calm = credential(&json!({"failures": 0}), None);
        assert!(!is_now(&calm, &[], 10));
        assert!(!is_now(&calm, &[6], 10));
        assert!(is_now(&calm, &[6, 7], 10));
    }

    #[test]
    fn a_request_acts_once_for_each_value() {
        let handled = json!({"failures": 0, "lastHandledRequest": "one"});
        assert!(!is_now(&credential(&handled, Some("one")), &[], 10));
        assert!(is_now(&credential(&handled, Some("two")), &[], 10));
        assert!(!is_now(&credential(&handled, None), &[], 10));
    }

    #[test]
    fn after_two_tokens_rejected_early_wants_are_believed_only_later() {
        let twice = json!({"failures": 0, "rejections": 2});
        assert!(!is_now(&credential(&twice, None), &[7], 99));
        assert!(is_now(&credential(&twice, None), &[7], 100));
        let once = json!({"failures": 0, "rejections": 1});
        assert!(is_now(&credential(&once, None), &[7], 1));
        // What a person asks for is done all the same.
        assert!(is_now(&credential(&twice, Some("now")), &[], 1));
    }
}
