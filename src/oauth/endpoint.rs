//! One bounded HTTP exchange with an endpoint of a provider: sent once, only to an address that a
//! provider may have, never redirected, never retried, never logged.

mod address;
mod answer;
mod authorities;
mod clients;
mod proxy;
mod recent;
mod resolve;
#[cfg(test)]
mod tests;

use std::{net::IpAddr, sync::Arc, time::Duration};

use ipnet::IpNet;
use jiff::Timestamp;
use reqwest::{
    Client, RequestBuilder,
    dns::Resolve,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue},
};
use secrecy::{ExposeSecret, SecretString};
use url::{Host, Url};

pub use self::{
    address::{Refused, verdict},
    answer::{Answered, Unanswered},
    authorities::{Authorities, BundleError},
    proxy::{ProviderProxy, ProxyError, ambient},
};
use self::{
    answer::{receive, unanswered},
    clients::Clients,
    resolve::{System, is_loopback},
};
use super::{
    error::{Answer, Spends},
    grant::TokenRequest,
    response::{Reading, TokenResponse, read},
};
use crate::{api::Description, clock};

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// How long it may take to read what has arrived.
const READING: Duration = Duration::from_millis(250);

/// What the operator was told about the way to providers.
#[derive(Clone, Debug)]
pub struct Access {
    /// Whether loopback addresses and `localhost` may be used, by http too.
    pub allow_http_loopback: bool,
    /// Networks that providers may be in although they are not public.
    pub networks: Vec<IpNet>,
    /// The proxy for all requests but those to loopback.
    pub proxy: Option<ProviderProxy>,
    /// How long an exchange may take at most.
    pub timeout: Duration,
}

/// Why a URL cannot be used.
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
    /// It names an address that a provider may not have.
    #[error("{origin} is at {rule}")]
    NotAllowed {
        /// The scheme, host and port.
        origin: String,
        /// The rule that refuses it.
        rule: Refused,
    },
}

/// A request as it goes out, by POST.
pub struct Outgoing {
    /// Where to.
    pub url: Url,
    /// Beside what is always sent (`Accept: application/json`, `User-Agent`) or instead of it. Values that
    /// are secret are marked sensitive.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The body.
    pub body: SecretString,
    /// The body's `Content-Type`.
    pub content_type: &'static str,
}

/// Sends requests to providers.
pub struct Endpoint {
    clients: Clients,
    allow_http_loopback: bool,
    networks: Vec<IpNet>,
}

impl Endpoint {
    /// # Errors
    /// When no TLS provider is installed or the system's certificates cannot be read.
    pub fn new(access: Access) -> Result<Self, reqwest::Error> {
        Self::with_names(access, Arc::new(System))
    }

    /// With another way from names to addresses.
    fn with_names(access: Access, names: Arc<dyn Resolve>) -> Result<Self, reqwest::Error> {
        Ok(Self {
            allow_http_loopback: access.allow_http_loopback,
            networks: access.networks.clone(),
            clients: Clients::new(access, names)?,
        })
    }

    /// Checks a URL as it is written. The addresses of a name are checked when it is resolved.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn check(&self, url: &str) -> Result<Url, UrlError> {
        let url = Url::parse(url).map_err(|_| UrlError::NotAbsolute)?;
        self.admit(&url)?;
        Ok(url)
    }

    fn admit(&self, url: &Url) -> Result<(), UrlError> {
        let host = url.host().ok_or(UrlError::NotAbsolute)?;
        if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
            return Err(UrlError::Decorated);
        }
        let is_loopback = is_loopback(url);
        match url.scheme() {
            "https" => {}
            "http" if is_loopback && self.allow_http_loopback => {}
            "http" if is_loopback => return Err(UrlError::Loopback),
            _ => return Err(UrlError::NotHttps),
        }
        // The URL parser has read every other way to write an IPv4 address.
        let literal = match host {
            Host::Domain(_) => return Ok(()),
            Host::Ipv4(address) => IpAddr::V4(address),
            Host::Ipv6(address) => IpAddr::V6(address),
        };
        if is_loopback && self.allow_http_loopback {
            return Ok(());
        }
        verdict(literal, &self.networks).map_err(|rule| UrlError::NotAllowed {
            origin: url.origin().ascii_serialization(),
            rule,
        })
    }

    /// Posts `request` once, and takes at most `timeout` in all. The time of sending comes back too: a
    /// token's lifetime counts from it. `authorities` are trusted beside those of the system.
    ///
    /// # Errors
    /// How far the request came.
    pub async fn send(
        &self,
        request: Outgoing,
        spends: Spends,
        authorities: Option<&Authorities>,
        timeout: Duration,
    ) -> (Timestamp, Result<Answered, Unanswered>) {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, JSON);
        for (name, value) in request.headers {
            headers.insert(name, value);
        }
        let content_type = HeaderValue::from_static(request.content_type);
        headers.insert(CONTENT_TYPE, content_type);
        let client = match self.client(&request.url, authorities, spends) {
            Ok(client) => client,
            Err(error) => return (clock::now(), Err(error)),
        };
        let outgoing = client
            .post(request.url)
            .headers(headers)
            .body(request.body.expose_secret().to_owned());
        let sent = clock::now();
        let answer = in_time(timeout, answered(outgoing)).await;
        (sent, answer.unwrap_or(Err(Unanswered::Lost)))
    }

    /// Gets a document such as the provider's metadata, and takes at most `timeout` in all.
    ///
    /// # Errors
    /// How far the request came.
    pub async fn fetch(
        &self,
        url: &Url,
        authorities: Option<&Authorities>,
        timeout: Duration,
    ) -> Result<Answered, Unanswered> {
        let client = self.client(url, authorities, Spends::Nothing)?;
        let outgoing = client.get(url.clone()).header(ACCEPT, JSON);
        answered(outgoing.timeout(timeout)).await
    }

    /// A client for this URL, which is checked here too: not every caller's URL was written by a person.
    fn client(
        &self,
        url: &Url,
        authorities: Option<&Authorities>,
        spends: Spends,
    ) -> Result<Client, Unanswered> {
        self.admit(url).map_err(|error| match error {
            UrlError::NotAllowed { rule, .. } => Unanswered::Refused(rule),
            _ => Unanswered::NotSent,
        })?;
        self.clients.get(authorities, spends).map_err(|error| {
            tracing::warn!(%error, "no HTTP client for a provider with its own authorities");
            Unanswered::NotSent
        })
    }

    /// Sends a token request once, and reads the answer. With what is presented comes whether that spends
    /// something, and the refresh token, where it is one.
    ///
    /// # Errors
    /// How far the request came, where it brought no tokens.
    pub async fn exchange(
        &self,
        url: &Url,
        request: &TokenRequest,
        presented: (Spends, Option<&SecretString>),
        description: &Description,
        authorities: Option<&Authorities>,
        timeout: Duration,
    ) -> (Timestamp, Result<TokenResponse, Answer>) {
        let (spends, spent) = presented;
        let Some(headers) = headers(request) else {
            return (clock::now(), Err(Answer::NotSent));
        };
        let outgoing = Outgoing {
            url: url.clone(),
            headers,
            body: request.body.clone(),
            content_type: request.content_type,
        };
        let (sent, answer) = self.send(outgoing, spends, authorities, timeout).await;
        (sent, tokens(answer, description, spent))
    }
}

/// What comes within `limit`, and what had come by then: a process that stood still for longer finds its time over before it
/// has read what arrived meanwhile, which may be the only copy of a refresh token.
async fn in_time<T>(limit: Duration, work: impl Future<Output = T>) -> Option<T> {
    let mut work = std::pin::pin!(work);
    match tokio::time::timeout(limit, &mut work).await {
        Ok(done) => Some(done),
        Err(_) => tokio::time::timeout(READING, work).await.ok(),
    }
}

async fn answered(outgoing: RequestBuilder) -> Result<Answered, Unanswered> {
    match Box::pin(outgoing.send()).await {
        Ok(response) => receive(response).await,
        Err(error) => Err(unanswered(&error)),
    }
}

/// The headers of a request; none where one of them cannot be sent.
fn headers(request: &TokenRequest) -> Option<Vec<(HeaderName, HeaderValue)>> {
    let mut headers = Vec::new();
    if let Some(authorization) = &request.authorization {
        let mut value = HeaderValue::from_str(authorization.expose_secret()).ok()?;
        value.set_sensitive(true);
        headers.push((AUTHORIZATION, value));
    }
    for (name, value) in &request.headers {
        headers.push((name.parse().ok()?, value.parse().ok()?));
    }
    Some(headers)
}

fn tokens(
    answer: Result<Answered, Unanswered>,
    description: &Description,
    spent: Option<&SecretString>,
) -> Result<TokenResponse, Answer> {
    let Answered {
        status,
        retry_after,
        body,
        ..
    } = answer.map_err(|error| match error {
        Unanswered::NotSent => Answer::NotSent,
        Unanswered::NotTrusted => Answer::NotTrusted,
        Unanswered::Refused(rule) => Answer::NotAllowed(rule),
        Unanswered::Lost => Answer::Lost,
    })?;
    let error = match read(status, body.expose_secret(), description, spent) {
        Reading::Tokens(tokens) => return Ok(tokens),
        Reading::Error(code) => code,
        Reading::Unreadable => None,
    };
    let meaning = error
        .as_ref()
        .and_then(|code| description.error_map.get(code).copied());
    Err(Answer::Answered {
        status,
        error,
        meaning,
        retry_after,
    })
}
