//! The claims of each kind of assertion, from its parameters, the time and an identifier.
//!
//! `iat` is the time itself, and in the past only where a vendor's documentation asks for that.

use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

/// The claims of a token (RFC 7519 section 4.1), in whole seconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Claims {
    iss: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    sub: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    aud: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<String>,
    iat: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    nbf: Option<i64>,
    exp: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    jti: Option<String>,
}

/// A lifetime that no server would accept, or none should.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the lifetime of the assertion must be from 1 s to {} s", longest.as_secs())]
pub struct LifetimeError {
    /// The longest allowed.
    pub longest: Duration,
}

/// How a client authenticates with a key (RFC 7523 sections 2.2 and 3; `private_key_jwt` of OpenID Connect
/// Core section 9).
#[derive(Clone, Copy, Debug)]
pub struct ClientAssertion<'a> {
    /// `iss` and `sub`.
    pub client_id: &'a str,
    /// `aud`: the token endpoint's URL or the issuer, whichever the provider wants.
    pub audience: &'a str,
    /// From issue to expiry: at least a second, at most [`Self::LONGEST_LIFETIME`].
    pub lifetime: Duration,
    /// Whether `nbf` is there too, with the same time as `iat`: Microsoft Entra wants it.
    pub not_before: bool,
}

/// An assertion that is the grant itself (RFC 7523 section 2.1).
#[derive(Clone, Copy, Debug)]
pub struct GrantAssertion<'a> {
    /// `iss`.
    pub issuer: &'a str,
    /// `sub`: whom the token will stand for. RFC 7523 wants it; Google takes it only for a user of a domain
    /// that delegated its authority to the service account.
    pub subject: Option<&'a str>,
    /// `aud`.
    pub audience: &'a str,
    /// The claim `scope`, separated by spaces: Google reads it there. Empty: no such claim.
    pub scopes: &'a [String],
    /// From issue to expiry: at least a second, at most [`Self::LONGEST_LIFETIME`].
    pub lifetime: Duration,
}

/// What a GitHub App asks for installation tokens with.
#[derive(Clone, Copy, Debug)]
pub struct GithubApp<'a> {
    /// `iss`: the app's client id, or its app id.
    pub issuer: &'a str,
}

impl ClientAssertion<'_> {
    /// The lifetime where none is asked for: a request is on its way for seconds.
    pub const DEFAULT_LIFETIME: Duration = Duration::from_secs(60);
    /// Five minutes: more than any clock is off, and little for whoever finds one.
    pub const LONGEST_LIFETIME: Duration = Duration::from_secs(300);

    /// The claims at `now`. `jti` must never have been used before: servers refuse what they have seen.
    ///
    /// # Errors
    /// When the lifetime is out of bounds.
    pub fn claims(&self, now: Timestamp, jti: &str) -> Result<Claims, LifetimeError> {
        let lifetime = seconds(self.lifetime, Self::LONGEST_LIFETIME)?;
        let now = now.as_second();
        Ok(Claims {
            iss: self.client_id.to_owned(),
            sub: Some(self.client_id.to_owned()),
            aud: Some(self.audience.to_owned()),
            scope: None,
            iat: now,
            nbf: self.not_before.then_some(now),
            exp: now + lifetime,
            jti: Some(jti.to_owned()),
        })
    }
}

impl GrantAssertion<'_> {
    /// The lifetime where none is asked for.
    pub const DEFAULT_LIFETIME: Duration = Duration::from_secs(300);
    /// An hour: what Google allows at most. Others allow less.
    pub const LONGEST_LIFETIME: Duration = Duration::from_secs(3600);

    /// The claims at `now`. A `jti`, where there is one, must never have been used before.
    ///
    /// # Errors
    /// When the lifetime is out of bounds.
    pub fn claims(&self, now: Timestamp, jti: Option<&str>) -> Result<Claims, LifetimeError> {
        let lifetime = seconds(self.lifetime, Self::LONGEST_LIFETIME)?;
        let now = now.as_second();
        Ok(Claims {
            iss: self.issuer.to_owned(),
            sub: self.subject.map(str::to_owned),
            aud: Some(self.audience.to_owned()),
            scope: (!self.scopes.is_empty()).then(|| self.scopes.join(" ")),
            iat: now,
            nbf: None,
            exp: now + lifetime,
            jti: jti.map(str::to_owned),
        })
    }
}

impl GithubApp<'_> {
    /// GitHub asks for this much, against clocks that are behind.
    const ISSUED_AGO: i64 = 60;
    /// With the minute above, the ten minutes that GitHub allows at most, whichever way it counts.
    const EXPIRES_IN: i64 = 540;

    /// The claims at `now`.
    #[must_use]
    pub fn claims(&self, now: Timestamp) -> Claims {
        let now = now.as_second();
        Claims {
            iss: self.issuer.to_owned(),
            sub: None,
            aud: None,
            scope: None,
            iat: now - Self::ISSUED_AGO,
            nbf: None,
            exp: now + Self::EXPIRES_IN,
            jti: None,
        }
    }
}

fn seconds(lifetime: Duration, longest: Duration) -> Result<i64, LifetimeError> {
    let refused = LifetimeError { longest };
    if lifetime > longest || lifetime.as_secs() == 0 {
        return Err(refused);
    }
    i64::try_from(lifetime.as_secs()).map_err(|_| refused)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const S: fn(u64) -> Duration = Duration::from_secs;

    fn now() -> Timestamp {
        // A part of a second is dropped.
        "2026-01-02T03:04:05.9Z".parse().unwrap()
    }

    const NOW: i64 = 1_767_323_045;

    fn shown(claims: &Claims) -> Value {
        serde_json::to_value(claims).unwrap()
    }

    #[test]
    fn a_client_assertion_names_the_client_twice_and_lasts_as_asked() {
        let mut assertion = ClientAssertion {
            client_id: "my-client",
            audience: "https://login.example.com/token",
            lifetime: ClientAssertion::DEFAULT_LIFETIME,
            not_before: false,
        };
        assert_eq!(
            shown(&assertion.claims(now(), "id-1").unwrap()),
            json!({
                "iss": "my-client",
                "sub": "my-client",
                "aud": "https://login.example.com/token",
                "iat": NOW,
                "exp": NOW + 60,
                "jti": "id-1",
            })
        );
        assertion.not_before = true;
        assertion.lifetime = S(300);
        let claims = shown(&assertion.claims(now(), "id-2").unwrap());
        assert_eq!(claims["nbf"], NOW);
        assert_eq!(claims["exp"], NOW + 300);
    }

    #[test]
    fn a_grant_assertion_carries_scopes_and_a_subject_where_they_are_given() {
        let scopes = ["https://a.example/x".to_owned(), "b".to_owned()];
        let mut assertion = GrantAssertion {
            issuer: "robot@project.example",
            subject: None,
            audience: "https://oauth2.example/token",
            scopes: &scopes,
            lifetime: GrantAssertion::DEFAULT_LIFETIME,
        };
        assert_eq!(
            shown(&assertion.claims(now(), None).unwrap()),
            json!({
                "iss": "robot@project.example",
                "aud": "https://oauth2.example/token",
                "scope": "https://a.example/x b",
                "iat": NOW,
                "exp": NOW + 300,
            })
        );
        assertion.subject = Some("person@example.com");
        assertion.scopes = &[];
        assertion.lifetime = S(3600);
        assert_eq!(
            shown(&assertion.claims(now(), Some("id-1")).unwrap()),
            json!({
                "iss": "robot@project.example",
                "sub": "person@example.com",
                "aud": "https://oauth2.example/token",
                "iat": NOW,
                "exp": NOW + 3600,
                "jti": "id-1",
            })
        );
    }

    #[test]
    fn a_github_app_was_issued_a_minute_ago_and_lasts_ten() {
        let claims = GithubApp { issuer: "Iv1.abc" }.claims(now());
        assert_eq!(
            shown(&claims),
            json!({ "iss": "Iv1.abc", "iat": NOW - 60, "exp": NOW + 540 })
        );
    }

    #[test]
    fn lifetimes_out_of_bounds_are_refused() {
        let client = |lifetime| {
            let assertion = ClientAssertion {
                client_id: "c",
                audience: "a",
                lifetime,
                not_before: false,
            };
            assertion.claims(now(), "j").map(|claims| claims.exp - NOW)
        };
        let grant = |lifetime| {
            let assertion = GrantAssertion {
                issuer: "i",
                subject: None,
                audience: "a",
                scopes: &[],
                lifetime,
            };
            assertion.claims(now(), None).map(|claims| claims.exp - NOW)
        };
        assert_eq!(client(S(1)), Ok(1));
        assert_eq!(client(S(300)), Ok(300));
        assert_eq!(grant(S(3600)), Ok(3600));
        for lifetime in [
            S(0),
            Duration::from_millis(999),
            Duration::from_millis(300_001),
            S(301),
            Duration::MAX,
        ] {
            assert_eq!(client(lifetime), Err(LifetimeError { longest: S(300) }));
        }
        for lifetime in [S(0), S(3601), Duration::MAX] {
            assert_eq!(grant(lifetime), Err(LifetimeError { longest: S(3600) }));
        }
        assert_eq!(
            LifetimeError { longest: S(300) }.to_string(),
            "the lifetime of the assertion must be from 1 s to 300 s"
        );
    }
}
