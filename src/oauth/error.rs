//! From an answer of the token endpoint that brought no tokens to a reason: one total function.
//!
//! What matters most is whether a refresh token may have been spent. A provider that rotates has
//! taken it once the request was written, unless it says in OAuth's own words that it refused.

use std::time::Duration;

use super::endpoint::Refused;
use crate::{
    api::ErrorMeaning,
    failure::{Failure, Reason},
};

/// How far a request came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Nothing was sent: no address, no connection.
    NotSent,
    /// Nothing was sent, because the certificate is not trusted.
    NotTrusted,
    /// Nothing was sent, because the address is not allowed.
    NotAllowed(Refused),
    /// Nothing was sent, because the request could not be made.
    NotMade(Box<Failure>),
    /// It was sent, and no complete answer came.
    Lost,
    /// It was answered with an access token for an authorization code, and with no refresh token.
    NoRefreshToken,
    /// It was answered.
    Answered {
        /// The HTTP status.
        status: u16,
        /// The `error` code of an OAuth error object, or the provider's own.
        error: Option<String>,
        /// What the provider's description says of the code.
        meaning: Option<ErrorMeaning>,
        /// The pause that the provider asked for.
        retry_after: Option<Duration>,
    },
}

impl Answer {
    /// A success that brought no access token.
    #[must_use]
    pub fn without_tokens() -> Self {
        Self::Answered {
            status: 200,
            error: None,
            meaning: None,
            retry_after: None,
        }
    }
}

/// Whether the request presented something that a provider may take only once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spends {
    /// A refresh token of a provider that rotates them.
    RotatingToken,
    /// A refresh token that stays valid.
    LastingToken,
    /// Nothing: the client acts for itself.
    Nothing,
}

/// The classification.
#[must_use]
pub fn classify(answer: &Answer, spends: Spends) -> Reason {
    match answer {
        Answer::NotSent => Reason::ProviderUnreachable,
        Answer::NotTrusted => Reason::CertificateNotTrusted,
        Answer::NotAllowed(_) => Reason::EndpointNotAllowed,
        Answer::NotMade(failure) => failure.reason,
        Answer::Lost => unclear(spends, Reason::ProviderError),
        Answer::NoRefreshToken => Reason::ReauthorizationRequired,
        Answer::Answered {
            meaning: Some(meaning),
            ..
        } => meant(*meaning, spends),
        Answer::Answered {
            status,
            error,
            retry_after,
            ..
        } => answered(*status, error.as_deref(), retry_after.is_some(), spends),
    }
}

/// What the provider's own code means.
fn meant(meaning: ErrorMeaning, spends: Spends) -> Reason {
    match meaning {
        ErrorMeaning::Transient => Reason::ProviderError,
        ErrorMeaning::RateLimited => Reason::RateLimited,
        ErrorMeaning::NeedsReauthorization if spends == Spends::Nothing => Reason::RequestRefused,
        ErrorMeaning::NeedsReauthorization => Reason::ReauthorizationRequired,
        ErrorMeaning::InvalidClient => Reason::InvalidClient,
        ErrorMeaning::InvalidScope => Reason::InvalidScope,
        ErrorMeaning::Misconfiguration => Reason::RequestRefused,
        ErrorMeaning::Ambiguous => unclear(spends, Reason::ProviderError),
    }
}

fn answered(status: u16, error: Option<&str>, pause: bool, spends: Spends) -> Reason {
    // 429 may come with an error object that says more about the limit than about the grant.
    if status == 429 {
        return Reason::RateLimited;
    }
    match error {
        // For a client that acts for itself there is no authorization to lose: its key or clock is off.
        Some("invalid_grant" | "interaction_required" | "consent_required" | "login_required") => {
            return match spends {
                Spends::Nothing => Reason::RequestRefused,
                Spends::RotatingToken | Spends::LastingToken => Reason::ReauthorizationRequired,
            };
        }
        Some("invalid_client" | "unauthorized_client") => return Reason::InvalidClient,
        Some("invalid_scope") => return Reason::InvalidScope,
        // Those about a proof of possession (RFC 9449) come before the grant is looked at.
        Some(
            "invalid_request"
            | "unsupported_grant_type"
            | "invalid_target"
            | "access_denied"
            | "use_dpop_nonce"
            | "invalid_dpop_proof",
        ) => return Reason::RequestRefused,
        Some("server_error" | "temporarily_unavailable") => return Reason::ProviderError,
        Some("slow_down") => return Reason::RateLimited,
        _ => {}
    }
    match status {
        403 if pause => Reason::RateLimited,
        503 if pause && spends != Spends::RotatingToken => Reason::RateLimited,
        300..=399 | 404 | 405 | 410 => Reason::EndpointNotFound,
        401 => unclear(spends, Reason::InvalidClient),
        408 | 500..=599 => unclear(spends, Reason::ProviderError),
        400..=499 => unclear(spends, Reason::RequestRefused),
        // A success without tokens, or no status at all.
        _ => unclear(spends, Reason::UnreadableResponse),
    }
}

/// A rotating refresh token may be spent; otherwise it is what it looks like.
fn unclear(spends: Spends, otherwise: Reason) -> Reason {
    match spends {
        Spends::RotatingToken => Reason::RefreshOutcomeUnknown,
        Spends::LastingToken | Spends::Nothing => otherwise,
    }
}

/// The error codes that OAuth defines (RFC 6749 section 5.2, RFC 8628, RFC 8707, RFC 9449, OpenID Connect): the
/// only words of a provider that are repeated to people.
#[must_use]
pub fn known_code(code: &str) -> Option<&'static str> {
    const KNOWN: [&str; 17] = [
        "invalid_request",
        "invalid_client",
        "invalid_grant",
        "unauthorized_client",
        "unsupported_grant_type",
        "invalid_scope",
        "invalid_target",
        "access_denied",
        "server_error",
        "temporarily_unavailable",
        "slow_down",
        "interaction_required",
        "consent_required",
        "login_required",
        "invalid_token",
        "use_dpop_nonce",
        "invalid_dpop_proof",
    ];
    KNOWN.into_iter().find(|known| *known == code)
}

#[cfg(test)]
mod tests {
    use super::*;
    use Spends::{LastingToken, Nothing, RotatingToken};

    fn reason(status: u16, error: &str, pause: bool, spends: Spends) -> Reason {
        let answer = Answer::Answered {
            status,
            error: (!error.is_empty()).then(|| error.to_owned()),
            meaning: None,
            retry_after: pause.then_some(Duration::from_secs(1)),
        };
        classify(&answer, spends)
    }

    #[test]
    fn whatever_a_provider_answers_people_are_told_what_to_do() {
        const CODES: [&str; 18] = [
            "",
            "invalid_request",
            "invalid_client",
            "invalid_grant",
            "unauthorized_client",
            "unsupported_grant_type",
            "invalid_scope",
            "invalid_target",
            "access_denied",
            "server_error",
            "temporarily_unavailable",
            "slow_down",
            "interaction_required",
            "consent_required",
            "login_required",
            "invalid_token",
            "use_dpop_nonce",
            "other",
        ];
        for status in 0..=1000 {
            for error in CODES {
                for pause in [false, true] {
                    for spends in [RotatingToken, LastingToken, Nothing] {
                        let reason = reason(status, error, pause, spends);
                        assert!(!reason.advice().is_empty(), "{reason:?}");
                        // Nobody but a provider that says so in OAuth's words has refused a token that is taken once.
                        let says_so = matches!(
                            error,
                            "invalid_grant"
                                | "interaction_required"
                                | "consent_required"
                                | "login_required"
                        );
                        let is_dead = reason == Reason::ReauthorizationRequired;
                        assert!(
                            !is_dead || (says_so && spends != Nothing),
                            "{status} {error}"
                        );
                    }
                }
            }
        }
        for meaning in [
            ErrorMeaning::Transient,
            ErrorMeaning::RateLimited,
            ErrorMeaning::NeedsReauthorization,
            ErrorMeaning::InvalidClient,
            ErrorMeaning::InvalidScope,
            ErrorMeaning::Misconfiguration,
            ErrorMeaning::Ambiguous,
        ] {
            for spends in [RotatingToken, LastingToken, Nothing] {
                assert!(!meant(meaning, spends).advice().is_empty(), "{meaning:?}");
            }
        }
    }

    #[test]
    #[expect(clippy::too_many_lines, reason = "one table")]
    fn the_whole_table() {
        use Reason as R;
        // status, error, Retry-After, then: rotating, lasting, nothing spent
        let unknown = R::RefreshOutcomeUnknown;
        for (status, error, pause, expected) in [
            (
                400,
                "invalid_grant",
                false,
                [
                    R::ReauthorizationRequired,
                    R::ReauthorizationRequired,
                    R::RequestRefused,
                ],
            ),
            (
                401,
                "invalid_grant",
                false,
                [
                    R::ReauthorizationRequired,
                    R::ReauthorizationRequired,
                    R::RequestRefused,
                ],
            ),
            (
                403,
                "invalid_grant",
                false,
                [
                    R::ReauthorizationRequired,
                    R::ReauthorizationRequired,
                    R::RequestRefused,
                ],
            ),
            (
                200,
                "invalid_grant",
                false,
                [
                    R::ReauthorizationRequired,
                    R::ReauthorizationRequired,
                    R::RequestRefused,
                ],
            ),
            (
                400,
                "interaction_required",
                false,
                [
                    R::ReauthorizationRequired,
                    R::ReauthorizationRequired,
                    R::RequestRefused,
                ],
            ),
            (401, "invalid_client", false, [R::InvalidClient; 3]),
            (400, "unauthorized_client", false, [R::InvalidClient; 3]),
            (400, "invalid_scope", false, [R::InvalidScope; 3]),
            (400, "invalid_request", false, [R::RequestRefused; 3]),
            (400, "use_dpop_nonce", false, [R::RequestRefused; 3]),
            (400, "unsupported_grant_type", false, [R::RequestRefused; 3]),
            (500, "server_error", false, [R::ProviderError; 3]),
            (503, "temporarily_unavailable", false, [R::ProviderError; 3]),
            (429, "", false, [R::RateLimited; 3]),
            (429, "invalid_grant", true, [R::RateLimited; 3]),
            (403, "", true, [R::RateLimited; 3]),
            (503, "", true, [unknown, R::RateLimited, R::RateLimited]),
            (
                503,
                "",
                false,
                [unknown, R::ProviderError, R::ProviderError],
            ),
            (
                500,
                "",
                false,
                [unknown, R::ProviderError, R::ProviderError],
            ),
            (
                500,
                "Internal Server Error",
                false,
                [unknown, R::ProviderError, R::ProviderError],
            ),
            (
                408,
                "",
                false,
                [unknown, R::ProviderError, R::ProviderError],
            ),
            (
                200,
                "",
                false,
                [unknown, R::UnreadableResponse, R::UnreadableResponse],
            ),
            (302, "", false, [R::EndpointNotFound; 3]),
            (404, "", false, [R::EndpointNotFound; 3]),
            (405, "", false, [R::EndpointNotFound; 3]),
            (
                401,
                "",
                false,
                [unknown, R::InvalidClient, R::InvalidClient],
            ),
            (
                400,
                "",
                false,
                [unknown, R::RequestRefused, R::RequestRefused],
            ),
            (
                400,
                "made_up",
                false,
                [unknown, R::RequestRefused, R::RequestRefused],
            ),
            (
                999,
                "",
                false,
                [unknown, R::UnreadableResponse, R::UnreadableResponse],
            ),
        ] {
            for (spends, expected) in [RotatingToken, LastingToken, Nothing]
                .into_iter()
                .zip(expected)
            {
                assert_eq!(
                    reason(status, error, pause, spends),
                    expected,
                    "{status} {error} {spends:?}"
                );
            }
        }
        for spends in [RotatingToken, LastingToken, Nothing] {
            assert_eq!(classify(&Answer::NotSent, spends), R::ProviderUnreachable);
            assert_eq!(
                classify(&Answer::NotTrusted, spends),
                R::CertificateNotTrusted
            );
            assert_eq!(
                classify(&Answer::NotAllowed(Refused::Private), spends),
                R::EndpointNotAllowed
            );
        }
        assert_eq!(classify(&Answer::Lost, RotatingToken), unknown);
        assert_eq!(classify(&Answer::Lost, LastingToken), R::ProviderError);
    }

    #[test]
    fn only_oauths_own_codes_are_repeated() {
        assert_eq!(known_code("invalid_grant"), Some("invalid_grant"));
        assert_eq!(known_code("token abc123 is bad"), None);
    }
}
