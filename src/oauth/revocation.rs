//! Revocation (RFC 7009): what an answer of the revocation endpoint means.

use std::time::Duration;

use super::error::{Answer, known_code};
use crate::api::ErrorMeaning;

/// What an answer means for the token that was presented.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is not valid any more, whether or not it was before: section 2.2 has no answer of its own for a token that
    /// the provider does not know.
    Revoked,
    /// The provider does not revoke, or not such tokens (section 2.2.1). With why.
    NotSupported(String),
    /// The client was refused; another of its secrets may do.
    InvalidClient(String),
    /// It will be the same next time. With why.
    Refused(String),
    /// Another attempt may do better. With why, and the pause that the provider asked for.
    Passing(String, Option<Duration>),
}

/// What the answer to a request for revocation means.
#[must_use]
pub fn verdict(answer: &Answer) -> Verdict {
    match answer {
        Answer::NotSent => Verdict::Passing(
            "no connection was made, and nothing was sent".to_owned(),
            None,
        ),
        Answer::Lost => Verdict::Passing("no complete answer came".to_owned(), None),
        Answer::NotTrusted => {
            Verdict::Refused("the endpoint's certificate is not trusted".to_owned())
        }
        Answer::NotAllowed(rule) => Verdict::Refused(format!(
            "the endpoint is at {rule}, which the operator does not connect to"
        )),
        Answer::NotMade(failure) => Verdict::Refused(failure.message.clone()),
        // There is no such answer to a revocation, and it is no refusal.
        Answer::NoRefreshToken => Verdict::Revoked,
        Answer::Answered {
            status,
            error,
            meaning,
            retry_after,
        } => answered(*status, error.as_deref(), *meaning, *retry_after),
    }
}

fn answered(
    status: u16,
    error: Option<&str>,
    meaning: Option<ErrorMeaning>,
    retry_after: Option<Duration>,
) -> Verdict {
    // Of a provider's words only OAuth's own codes are repeated.
    let said = match error.and_then(known_code) {
        Some(code) => format!("answered {status} {code}"),
        None => format!("answered {status}"),
    };
    match meaning {
        Some(ErrorMeaning::Transient | ErrorMeaning::RateLimited) => {
            return Verdict::Passing(said, retry_after);
        }
        Some(ErrorMeaning::InvalidClient) => return Verdict::InvalidClient(said),
        _ => {}
    }
    match (status, error) {
        (429, _) | (_, Some("temporarily_unavailable" | "server_error" | "slow_down")) => {
            Verdict::Passing(said, retry_after)
        }
        (_, Some("unsupported_token_type")) => {
            Verdict::NotSupported("answered unsupported_token_type".to_owned())
        }
        // Some providers have an error for a token that is not valid (any more), against section 2.2.
        (200..=499, Some("invalid_token" | "invalid_grant")) | (200..=299, None) => {
            Verdict::Revoked
        }
        (_, Some("invalid_client" | "unauthorized_client")) | (401, None) => {
            Verdict::InvalidClient(said)
        }
        (404 | 405 | 410 | 501, _) => Verdict::NotSupported(said),
        (408 | 500..=599, _) => Verdict::Passing(said, retry_after),
        (300..=399, _) => Verdict::Refused(format!("{said}; redirects are not followed")),
        _ => Verdict::Refused(said),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(status: u16, error: Option<&str>, pause: Option<u64>) -> Verdict {
        verdict(&Answer::Answered {
            status,
            error: error.map(str::to_owned),
            meaning: None,
            retry_after: pause.map(Duration::from_secs),
        })
    }

    #[test]
    fn what_ends_a_token_and_what_says_that_it_has_ended_is_the_same() {
        for (status, error) in [
            (200, None),
            (204, None),
            (400, Some("invalid_token")),
            (400, Some("invalid_grant")),
            (401, Some("invalid_token")),
        ] {
            assert_eq!(of(status, error, None), Verdict::Revoked, "{status}");
        }
    }

    #[test]
    fn what_will_not_change_is_not_tried_again() {
        for (status, error) in [
            (404, None),
            (405, None),
            (501, None),
            (400, Some("unsupported_token_type")),
            (503, Some("unsupported_token_type")),
        ] {
            assert!(
                matches!(of(status, error, None), Verdict::NotSupported(_)),
                "{status}"
            );
        }
        for (status, error) in [
            (400, Some("invalid_request")),
            (403, None),
            (302, None),
            (200, Some("some_vendors_code")),
        ] {
            let Verdict::Refused(why) = of(status, error, None) else {
                panic!("{status}");
            };
            assert!(!why.contains("vendor"), "{why}");
        }
        for (status, error) in [(401, None), (400, Some("invalid_client"))] {
            assert!(matches!(of(status, error, None), Verdict::InvalidClient(_)));
        }
        assert!(matches!(verdict(&Answer::NotTrusted), Verdict::Refused(_)));
    }

    #[test]
    fn what_passes_is_tried_again_after_the_pause_that_was_asked_for() {
        assert_eq!(
            of(503, None, Some(7)),
            Verdict::Passing("answered 503".to_owned(), Some(Duration::from_secs(7)))
        );
        for (status, error) in [(500, None), (429, Some("invalid_token")), (408, None)] {
            assert!(matches!(of(status, error, None), Verdict::Passing(..)));
        }
        for answer in [Answer::NotSent, Answer::Lost] {
            assert!(matches!(verdict(&answer), Verdict::Passing(..)));
        }
    }
}
