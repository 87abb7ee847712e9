//! What a credential that works says of a provider object that is gone, or no longer admits it. Nothing is tried
//! before the next refresh, which would fail; people are told now.

use jiff::Timestamp;

use super::{READY, STALLED, Setter, Transition, condition};
use crate::{
    api::{CredentialStatus, IntegrationCredential},
    failure::{Failure, Reason},
};

/// What is known of a credential's provider object without asking anybody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProviderSight {
    /// It is there, and admits the credential.
    Usable,
    /// It is not there, or does not admit the credential.
    Unusable(Failure),
    /// Nobody knows yet: what was said of it before stands.
    Unknown,
}

/// The reasons of Stalled that are set and cleared here.
const OURS: [Reason; 2] = [Reason::UnknownProvider, Reason::ProviderNotAllowed];

/// Says in `status` that the provider cannot be used, or no longer says so. What a failed attempt has
/// told stays: the next one tells anew. Ready stays what it is: the token lives on. Returns what people are told.
pub fn with_provider(
    credential: &IntegrationCredential,
    status: &mut CredentialStatus,
    sight: &ProviderSight,
    now: Timestamp,
) -> Option<Transition> {
    let refresh = status.refresh.as_ref();
    let is_failing = refresh.is_some_and(|r| r.failures > 0 || r.last_error.is_some());
    if credential.spec.suspend {
        return None;
    }
    if status.token.is_none() || is_failing || *sight == ProviderSight::Unknown {
        return None;
    }
    let stalled = condition(status, STALLED).filter(|c| c.status == "True");
    let said = stalled.map(|c| c.reason.clone());
    let ProviderSight::Unusable(failure) = sight else {
        if said.is_some_and(|said| OURS.iter().any(|ours| ours.as_str() == said)) {
            let state = condition(status, READY).map(|c| c.reason.clone());
            let state = state.unwrap_or_else(|| "Valid".to_owned());
            Setter::new(status, now).set(STALLED, "False", &state, "");
        }
        return None;
    };
    let reason = failure.reason.as_str();
    Setter::new(status, now).set(STALLED, "True", reason, &failure.message);
    (said.as_deref() != Some(reason)).then(|| Transition {
        warning: true,
        reason: failure.reason.event(),
        message: failure.message.clone(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn status(refresh: &Value) -> CredentialStatus {
        let mut status: CredentialStatus = serde_json::from_value(json!({
            "conditions": [], "token": {"generation": 1}, "refresh": refresh,
        }))
        .unwrap();
        let now = Timestamp::from_second(1).unwrap();
        let mut set = Setter::new(&mut status, now);
        set.set(READY, "True", "Valid", "the token is valid");
        set.set(STALLED, "False", "Valid", "");
        status
    }

    fn credential(suspend: bool) -> IntegrationCredential {
        let spec = json!({"suspend": suspend, "oauth2": {
            "providerRef": {"name": "p"}, "grantType": "ClientCredentials"}});
        IntegrationCredential::new("c", serde_json::from_value(spec).unwrap())
    }

    fn said(status: &CredentialStatus) -> (String, String) {
        let of = |type_| {
            let condition = condition(status, type_).unwrap();
            format!("{} {}", condition.status, condition.reason)
        };
        (of(READY), of(STALLED))
    }

    #[test]
    fn one_that_works_says_once_that_its_provider_is_gone_and_takes_it_back() {
        let now = Timestamp::from_second(2).unwrap();
        let gone = Failure::new(Reason::UnknownProvider, "there is no such object");
        let gone = ProviderSight::Unusable(gone);
        let mut working = status(&json!({"failures": 0}));
        let before = working.clone();
        let told = with_provider(&credential(false), &mut working, &gone, now).unwrap();
        assert_eq!((told.warning, told.reason), (true, "UnknownProvider"));
        let (ready, stalled) = said(&working);
        assert_eq!(
            (ready.as_str(), stalled.as_str()),
            ("True Valid", "True UnknownProvider")
        );
        let again = working.clone();
        assert_eq!(
            with_provider(&credential(false), &mut working, &gone, now),
            None
        );
        assert_eq!(working, again);

        // Who is suspended says nothing of it.
        let mut suspended = before.clone();
        assert_eq!(
            with_provider(&credential(true), &mut suspended, &gone, now),
            None
        );
        assert_eq!(suspended, before);

        // Another reason is another transition.
        let refused = Failure::new(Reason::ProviderNotAllowed, "not for this namespace");
        let refused = ProviderSight::Unusable(refused);
        assert!(with_provider(&credential(false), &mut working, &refused, now).is_some());
        let before_sight = working.clone();
        assert_eq!(
            with_provider(
                &credential(false),
                &mut working,
                &ProviderSight::Unknown,
                now
            ),
            None
        );
        assert_eq!(working, before_sight);
        assert_eq!(
            with_provider(
                &credential(false),
                &mut working,
                &ProviderSight::Usable,
                now
            ),
            None
        );
        assert_eq!(said(&working), said(&before));
    }

    #[test]
    fn what_a_failed_attempt_has_told_stays_and_so_does_what_somebody_else_says() {
        let now = Timestamp::from_second(2).unwrap();
        let gone = Failure::new(Reason::UnknownProvider, "there is no such object");
        let gone = ProviderSight::Unusable(gone);
        let mut failing = status(&json!({"failures": 2}));
        let before = failing.clone();
        assert_eq!(
            with_provider(&credential(false), &mut failing, &gone, now),
            None
        );
        assert_eq!(failing, before);
        let mut other = status(&json!({"failures": 0}));
        Setter::new(&mut other, now).set(STALLED, "True", "Suspended", "by hand");
        let before = other.clone();
        with_provider(&credential(false), &mut other, &ProviderSight::Usable, now);
        assert_eq!(other, before);
    }
}
