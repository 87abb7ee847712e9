//! What came back, up to the body, or how far the request came.

use std::{error::Error, time::Duration};

use jiff::{Timestamp, fmt::rfc2822};
use reqwest::header::{DATE, HeaderName, RETRY_AFTER};
use secrecy::SecretSlice;
use serde::de::IgnoredAny;

use super::address::Refused;
use crate::clock;

/// The longest body that is read.
const LONGEST_BODY: usize = 64 * 1024;

/// An answer, read to its end.
pub struct Answered {
    /// The HTTP status.
    pub status: u16,
    /// The pause that the provider asked for, at most a day.
    pub retry_after: Option<Duration>,
    /// The provider's clock.
    pub date: Option<Timestamp>,
    /// The body, at most 64 KiB. Wiped when dropped: it holds tokens.
    pub body: SecretSlice<u8>,
}

/// How far a request came that was not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unanswered {
    /// Nothing was sent: no address, no connection.
    #[error("no connection was made, and nothing was sent")]
    NotSent,
    /// Nothing was sent, because the certificate is not trusted.
    #[error("the certificate is not trusted, and nothing was sent")]
    NotTrusted,
    /// Nothing was sent, because the address is not allowed.
    #[error("it is at {0}, and nothing was sent")]
    Refused(Refused),
    /// It was sent, and no complete answer of at most 64 KiB came in time.
    #[error("it was sent, and no complete answer came")]
    Lost,
}

/// Reads an answer to its end.
pub async fn receive(mut response: reqwest::Response) -> Result<Answered, Unanswered> {
    let text = |name: HeaderName| response.headers().get(name)?.to_str().ok();
    let retry_after = text(RETRY_AFTER).and_then(|value| pause(value, clock::now()));
    let date = text(DATE).and_then(date);
    let status = response.status().as_u16();
    let mut body: Vec<u8> = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() <= LONGEST_BODY => {
                body.extend_from_slice(&chunk);
            }
            Ok(None) => break,
            // What came is all there was to come, though the connection did not end as it should.
            Err(_) if is_whole(&body) => break,
            Ok(Some(_)) | Err(_) => return Err(Unanswered::Lost),
        }
    }
    Ok(Answered {
        status,
        retry_after,
        date,
        body: SecretSlice::from(body),
    })
}

/// Whether a body is a JSON object from its beginning to its end.
fn is_whole(body: &[u8]) -> bool {
    body.trim_ascii().starts_with(b"{") && serde_json::from_slice::<IgnoredAny>(body).is_ok()
}

/// What an error of the HTTP client means.
pub fn unanswered(error: &reqwest::Error) -> Unanswered {
    if error.is_builder() {
        return Unanswered::NotSent;
    }
    if !error.is_connect() {
        return Unanswered::Lost;
    }
    let mut source = error.source();
    while let Some(cause) = source {
        let cause = innermost(cause);
        if let Some(refused) = cause.downcast_ref::<Refused>() {
            return Unanswered::Refused(*refused);
        }
        if let Some(rustls::Error::InvalidCertificate(_)) = cause.downcast_ref() {
            return Unanswered::NotTrusted;
        }
        source = cause.source();
    }
    Unanswered::NotSent
}

/// What I/O errors wrap, at any depth: it is not their source, which is that of what they wrap.
fn innermost<'a>(mut error: &'a (dyn Error + 'static)) -> &'a (dyn Error + 'static) {
    while let Some(inner) = error
        .downcast_ref::<std::io::Error>()
        .and_then(std::io::Error::get_ref)
    {
        error = inner;
    }
    error
}

/// `Retry-After` in both its forms (RFC 9110 section 10.2.3), at most a day.
fn pause(value: &str, now: Timestamp) -> Option<Duration> {
    const LONGEST: Duration = Duration::from_secs(86_400);
    let pause = match value.trim().parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => Duration::try_from(date(value)?.duration_since(now)).unwrap_or_default(),
    };
    Some(pause.min(LONGEST))
}

/// A date as HTTP writes it (RFC 9110 section 5.6.7).
fn date(value: &str) -> Option<Timestamp> {
    rfc2822::DateTimeParser::new()
        .relaxed_weekday(true)
        .parse_timestamp(value.trim())
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_whole_when_its_object_is_closed() {
        for whole in ["{}", " {\"access_token\":\"a\"} \n"] {
            assert!(is_whole(whole.as_bytes()), "{whole}");
        }
        for part in [
            "",
            "{",
            "{\"access_token\":\"a\"",
            "{\"a\":1",
            "access_token=a",
            "12",
            "[]",
        ] {
            assert!(!is_whole(part.as_bytes()), "{part}");
        }
    }

    #[test]
    fn retry_after_in_both_forms() {
        let now: Timestamp = "2015-10-21T07:27:00Z".parse().unwrap();
        let s = Duration::from_secs;
        assert_eq!(pause("120", now), Some(s(120)));
        assert_eq!(pause(" 120 ", now), Some(s(120)));
        assert_eq!(pause("Wed, 21 Oct 2015 07:28:00 GMT", now), Some(s(60)));
        assert_eq!(pause("Wed, 21 Oct 2015 07:00:00 GMT", now), Some(s(0)));
        assert_eq!(pause("99999999999", now), Some(s(86_400)));
        assert_eq!(pause("soon", now), None);
        assert_eq!(pause("-5", now), None);
    }
}
