//! What a provider does, in plain words.

use std::time::Duration;

use super::comments::is_unconfirmed;
use crate::api::{
    AccessTokenOnRefresh, ClientAuthentication, Description, ErrorMeaning, GrantType,
    RateLimitScope, ReuseDetection, Rotation,
};

/// Whether any grant of the provider has refresh tokens.
pub(super) fn has_refresh_tokens(description: &Description) -> bool {
    let grants = description.grants.as_deref();
    grants.is_none_or(|grants| grants.iter().any(|grant| !grant.is_machine()))
}

/// What happens at a refresh, one sentence each. `source` is the entry's file: what nobody has confirmed is
/// said to be the careful default.
pub(super) fn on_refresh(description: &Description, source: &str) -> Vec<String> {
    let careful = |field: &str, stated: bool| {
        if !stated || is_unconfirmed(source, field) {
            " (not confirmed by its documentation: the careful default)"
        } else {
            ""
        }
    };
    let mut told = Vec::new();
    if has_refresh_tokens(description) {
        let rotation = description.rotation();
        let mark = careful("rotation", description.rotation.is_some());
        told.push(format!("{}{mark}.", rotates(rotation)));
        let grace = description.reuse_grace();
        if rotation != Rotation::Never {
            if grace > Duration::ZERO {
                let span = span(grace);
                told.push(format!(
                    "A spent refresh token may be presented again for {span}: an answer that was lost costs nothing."
                ));
            }
            let mark = careful("reuseDetection", description.reuse_detection.is_some());
            let after = if grace > Duration::ZERO {
                "After that, a"
            } else {
                "A"
            };
            let reuse = reuse(description.reuse_detection());
            told.push(format!(
                "{after} spent refresh token that is presented again {reuse}{mark}."
            ));
        }
    } else {
        told.push("There is no refresh token: each token is asked for anew.".to_owned());
    }
    let old = description.access_token_on_refresh;
    let mark = match old {
        Some(AccessTokenOnRefresh::Survives | AccessTokenOnRefresh::Invalidated) => {
            careful("accessTokenOnRefresh", true)
        }
        _ => "",
    };
    told.push(format!(
        "{}{mark}.",
        old_token(description.access_token_on_refresh())
    ));
    told.extend(lifetimes(description));
    told.extend(limits(description));
    told
}

fn rotates(rotation: Rotation) -> &'static str {
    match rotation {
        Rotation::Always => "Each refresh gives a new refresh token and ends the old one",
        Rotation::Sometimes => "A refresh may give a new refresh token, which ends the old one",
        Rotation::Never => "The refresh token stays the same",
    }
}

fn reuse(detection: ReuseDetection) -> &'static str {
    match detection {
        ReuseDetection::None => "is still accepted",
        ReuseDetection::RejectOnly => "is refused, and nothing else ends",
        ReuseDetection::RevokesFamily => "ends every token of the authorization",
    }
}

fn old_token(conduct: AccessTokenOnRefresh) -> &'static str {
    match conduct {
        AccessTokenOnRefresh::Survives => {
            "The old access token works on until its expiry: a refresh waits for nobody"
        }
        AccessTokenOnRefresh::Invalidated => {
            "The old access token ends at the refresh, which waits for programs that hold the credential"
        }
        AccessTokenOnRefresh::Unknown => {
            "Whether the old access token works on is not known: a refresh waits for programs that hold the credential"
        }
    }
}

fn lifetimes(description: &Description) -> Vec<String> {
    let refresh = description.refresh_token_lifetime.as_ref();
    let said = |lifetime: Option<crate::api::Duration>, words: &str| {
        lifetime.map(|lifetime| words.replace("{}", &span(lifetime.into())))
    };
    [
        said(
            description.default_lifetime,
            "An access token whose answer states no lifetime is taken to live {}.",
        ),
        said(
            description.maximum_lifetime,
            "No access token is believed to live longer than {}.",
        ),
        said(
            refresh.and_then(|r| r.idle),
            "A refresh token that is not used for {} ends.",
        ),
        said(
            refresh.and_then(|r| r.absolute),
            "An authorization ends after {}, however often it is refreshed.",
        ),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn limits(description: &Description) -> Vec<String> {
    let Some(limits) = &description.refresh else {
        return Vec::new();
    };
    let before = limits.before.map(|before| {
        format!(
            "A token is refreshed {} before its expiry.",
            span(before.into())
        )
    });
    let interval = limits.min_interval.map(|interval| {
        let span = span(interval.into());
        format!("Between two refreshes of one credential there are at least {span}.")
    });
    let rate = limits.rate_limit.map(|rate| {
        let whose = match rate.scope {
            RateLimitScope::Client => "of the client",
            RateLimitScope::Authorization => "of one authorization",
        };
        let (requests, per) = (rate.requests, span(rate.per.into()));
        format!("It allows {requests} token requests {whose} in {per}.")
    });
    [before, interval, rate].into_iter().flatten().collect()
}

/// How the client authenticates.
pub(super) fn authentication(description: &Description) -> &'static str {
    let is_signed = |grant: &GrantType| {
        matches!(
            grant,
            GrantType::JwtBearer | GrantType::GitHubAppInstallation
        )
    };
    let grants = description.grants.as_deref().unwrap_or_default();
    match description.client_auth() {
        ClientAuthentication::None if !grants.is_empty() && grants.iter().all(is_signed) => {
            "what is signed with the private key, and nothing else"
        }
        ClientAuthentication::Basic => "HTTP Basic, id and secret form-encoded first (RFC 6749)",
        ClientAuthentication::BasicRaw => "HTTP Basic, id and secret as they are",
        ClientAuthentication::Body => "client_id and client_secret in the body",
        ClientAuthentication::PrivateKeyJwt => "a signed assertion (private_key_jwt, RFC 7523)",
        ClientAuthentication::None => "none: client_id alone",
    }
}

/// What an error code means for the credential.
pub(super) fn meaning(meaning: ErrorMeaning) -> &'static str {
    match meaning {
        ErrorMeaning::Transient => "it cannot serve now, and has spent nothing; tried again",
        ErrorMeaning::RateLimited => "it asks for a pause",
        ErrorMeaning::NeedsReauthorization => {
            "the authorization is gone: the user must authorize again"
        }
        ErrorMeaning::InvalidClient => "it does not know the client, or its secret is wrong",
        ErrorMeaning::InvalidScope => "it refuses the scopes",
        ErrorMeaning::Misconfiguration => {
            "the request is not as it wants it: check the provider object"
        }
        ErrorMeaning::Ambiguous => "it may have taken the refresh token, or not",
    }
}

/// The grants, by the names of the API.
pub(super) fn grants(description: &Description) -> Option<Vec<&'static str>> {
    let grants = description.grants.as_ref()?;
    Some(grants.iter().copied().map(GrantType::as_str).collect())
}

/// A length of time as people say it.
fn span(length: Duration) -> String {
    let seconds = length.as_secs();
    let whole = |unit: u64| seconds.is_multiple_of(unit).then_some(seconds / unit);
    match (whole(86_400), whole(3600), whole(60)) {
        (Some(days), _, _) if days > 1 => format!("{days} days"),
        (_, Some(hours), _) => format!("{hours} h"),
        (_, _, Some(minutes)) => format!("{minutes} min"),
        _ => format!("{seconds} s"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn told(description: Value, source: &str) -> String {
        let description = serde_json::from_value(description).unwrap();
        on_refresh(&description, source).join("\n")
    }

    #[test]
    fn what_is_not_known_is_said_to_be_the_careful_default() {
        let nothing = told(json!({}), "");
        assert_eq!(nothing.matches("careful default").count(), 2, "{nothing}");
        assert!(nothing.contains("is not known"), "{nothing}");
        let stated = json!({"rotation": "Always", "reuseDetection": "RejectOnly"});
        let confirmed = told(
            stated.clone(),
            "rotation: Always # [1]\nreuseDetection: RejectOnly # [1]",
        );
        assert!(!confirmed.contains("careful default"), "{confirmed}");
        let one = told(stated, "  reuseDetection: RejectOnly  # unconfirmed");
        assert_eq!(one.matches("careful default").count(), 1, "{one}");
    }

    #[test]
    fn spent_tokens_are_a_matter_of_those_that_rotate() {
        let never = told(json!({"rotation": "Never"}), "");
        assert!(
            never.contains("stays the same") && !never.contains("spent"),
            "{never}"
        );
        let grace = told(json!({"rotation": "Sometimes", "reuseGrace": "30s"}), "");
        assert!(
            grace.contains("again for 30 s") && grace.contains("After that, a spent"),
            "{grace}"
        );
        let machine = told(
            json!({"grants": ["ClientCredentials"], "accessTokenOnRefresh": "Survives"}),
            "",
        );
        assert_eq!(machine.lines().count(), 2, "{machine}");
    }

    #[test]
    fn lengths_are_said_in_the_largest_unit_that_is_whole() {
        for (seconds, said) in [
            (86_400 * 90, "90 days"),
            (86_400, "24 h"),
            (7200, "2 h"),
            (5400, "90 min"),
            (90, "90 s"),
        ] {
            assert_eq!(span(Duration::from_secs(seconds)), said);
        }
    }
}
