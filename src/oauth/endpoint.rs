//! One bounded HTTP exchange with a token endpoint: sent once, never redirected, never retried, never
//! logged.

use std::{error::Error, net::IpAddr, time::Duration};

use jiff::{Timestamp, fmt::rfc2822};
use reqwest::{
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue, RETRY_AFTER},
    redirect, retry,
};
use secrecy::{ExposeSecret, SecretSlice};
use url::{Host, Url};

use super::{
    error::{Answer, Spends},
    grant::TokenRequest,
    response::{Reading, TokenResponse, read},
};

/// The longest body that is read.
const LONGEST_BODY: usize = 64 * 1024;

/// How long a connection may take, TLS included, at most. Less than half of the shortest exchange: what
/// runs out before a connection stands has sent nothing, and must not look as if it had.
const CONNECT: Duration = Duration::from_millis(2400);

/// Why a token URL cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// It is no absolute URL with a host.
    #[error("it is not an absolute URL")]
    NotAbsolute,
    /// It has user information or a fragment.
    #[error("it has user information or a fragment")]
    Decorated,
    /// It is neither https nor, where that is allowed, http to a loopback address.
    #[error("it is not https")]
    NotHttps,
    /// It is http to a loopback address, and the operator was not told to allow that.
    #[error(
        "it is http to a loopback address, which the operator allows only with --allow-http-loopback"
    )]
    Loopback,
}

/// Sends token requests.
pub struct Endpoint {
    /// A connection for each request. A kept connection that the server has just closed would make
    /// a request that spends a refresh token fail without telling whether it arrived.
    fresh: reqwest::Client,
    /// Kept connections, for requests that spend nothing.
    kept: reqwest::Client,
    allow_http_loopback: bool,
}

impl Endpoint {
    /// # Errors
    /// When no TLS provider is installed or the system's certificates cannot be read.
    pub fn new(allow_http_loopback: bool, timeout: Duration) -> Result<Self, reqwest::Error> {
        let builder = || {
            reqwest::Client::builder()
                .user_agent(concat!("tokenward/", env!("CARGO_PKG_VERSION")))
                .redirect(redirect::Policy::none())
                .retry(retry::never())
                .connect_timeout(CONNECT.min(timeout / 2))
        };
        Ok(Self {
            fresh: builder().pool_max_idle_per_host(0).build()?,
            kept: builder().build()?,
            allow_http_loopback,
        })
    }

    /// Checks a token URL.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn check(&self, token_url: &str) -> Result<Url, UrlError> {
        let url = Url::parse(token_url).map_err(|_| UrlError::NotAbsolute)?;
        let host = url.host().ok_or(UrlError::NotAbsolute)?;
        if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
            return Err(UrlError::Decorated);
        }
        match url.scheme() {
            "https" => Ok(url),
            "http" if is_loopback(&host) => {
                if self.allow_http_loopback {
                    Ok(url)
                } else {
                    Err(UrlError::Loopback)
                }
            }
            _ => Err(UrlError::NotHttps),
        }
    }

    /// Sends `request` once, and takes at most `timeout` in all. The time of sending comes back
    /// too: a token's lifetime counts from it.
    ///
    /// # Errors
    /// How far the request came, where it brought no tokens.
    pub async fn exchange(
        &self,
        url: &Url,
        request: &TokenRequest,
        spends: Spends,
        timeout: Duration,
    ) -> (Timestamp, Result<TokenResponse, Answer>) {
        let client = match spends {
            Spends::RotatingToken => &self.fresh,
            Spends::LastingToken | Spends::Nothing => &self.kept,
        };
        let mut outgoing = client
            .post(url.clone())
            .timeout(timeout)
            .header(ACCEPT, "application/json")
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(request.body.expose_secret().to_owned());
        if let Some(authorization) = &request.authorization {
            // Base64 is always a valid header value.
            if let Ok(mut value) = HeaderValue::from_str(authorization.expose_secret()) {
                value.set_sensitive(true);
                outgoing = outgoing.header(AUTHORIZATION, value);
            }
        }
        let sent = Timestamp::now();
        let answer = match Box::pin(outgoing.send()).await {
            Ok(response) => answer(response).await,
            Err(error) => Err(not_answered(&error)),
        };
        (sent, answer)
    }
}

fn is_loopback(host: &Host<&str>) -> bool {
    match host {
        Host::Domain(name) => *name == "localhost",
        Host::Ipv4(address) => IpAddr::V4(*address).is_loopback(),
        Host::Ipv6(address) => IpAddr::V6(*address).is_loopback(),
    }
}

async fn answer(mut response: reqwest::Response) -> Result<TokenResponse, Answer> {
    let status = response.status().as_u16();
    let retry_after = response
        .headers()
        .get(RETRY_AFTER)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| pause(value, Timestamp::now()));
    let mut body: Vec<u8> = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() <= LONGEST_BODY => {
                body.extend_from_slice(&chunk);
            }
            Ok(None) => break,
            Ok(Some(_)) | Err(_) => return Err(Answer::Lost),
        }
    }
    // Wiped when dropped: it holds tokens.
    let body = SecretSlice::from(body);
    let error = match read(body.expose_secret()) {
        Reading::Tokens(tokens) if (200..300).contains(&status) => return Ok(tokens),
        Reading::Error(code) => Some(code),
        Reading::Tokens(_) | Reading::Unreadable => None,
    };
    Err(Answer::Answered {
        status,
        error,
        retry_after,
    })
}

fn not_answered(error: &reqwest::Error) -> Answer {
    if !error.is_connect() {
        return Answer::Lost;
    }
    let mut source = error.source();
    while let Some(cause) = source {
        let tls = cause.downcast_ref::<rustls::Error>().or_else(|| {
            let io = cause.downcast_ref::<std::io::Error>()?;
            io.get_ref()?.downcast_ref::<rustls::Error>()
        });
        if let Some(rustls::Error::InvalidCertificate(_)) = tls {
            return Answer::NotTrusted;
        }
        source = cause.source();
    }
    Answer::NotSent
}

/// `Retry-After` in both its forms (RFC 9110 section 10.2.3), at most a day.
fn pause(value: &str, now: Timestamp) -> Option<Duration> {
    const LONGEST: Duration = Duration::from_secs(86_400);
    let pause = match value.trim().parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let date = rfc2822::DateTimeParser::new()
                .relaxed_weekday(true)
                .parse_timestamp(value.trim())
                .ok()?;
            Duration::try_from(date.duration_since(now)).unwrap_or_default()
        }
    };
    Some(pause.min(LONGEST))
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn only_https_and_loopback_where_allowed() {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let strict = Endpoint::new(false, CONNECT).unwrap();
        let lenient = Endpoint::new(true, CONNECT).unwrap();
        assert!(strict.check("https://login.example.com/token").is_ok());
        for url in [
            "http://127.0.0.1:80/t",
            "http://[::1]/t",
            "http://localhost/t",
        ] {
            assert_eq!(strict.check(url), Err(UrlError::Loopback), "{url}");
            assert!(lenient.check(url).is_ok(), "{url}");
        }
        for (url, error) in [
            ("http://example.com/t", UrlError::NotHttps),
            ("http://localhost.example.com/t", UrlError::NotHttps),
            ("http://127.0.0.1.example.com/t", UrlError::NotHttps),
            ("ftp://127.0.0.1/t", UrlError::NotHttps),
            ("file:///etc/passwd", UrlError::NotAbsolute),
            ("token", UrlError::NotAbsolute),
            ("https://user:pw@example.com/t", UrlError::Decorated),
            ("https://example.com/t#x", UrlError::Decorated),
        ] {
            assert_eq!(lenient.check(url), Err(error), "{url}");
        }
    }
}
