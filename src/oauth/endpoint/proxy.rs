//! The proxy for requests to providers.

use std::fmt;

use reqwest::Proxy;
use url::{Host, Url};

use super::resolve::is_loopback;

/// The variables by which many programs are told of a proxy.
const AMBIENT: [&str; 4] = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];

/// The name of a variable that names a proxy, if one is set. Requests to providers do not follow it: a
/// proxy resolves names itself, past the check of addresses, so one is used only when it is asked for.
#[must_use]
pub fn ambient(variable: impl Fn(&str) -> Option<std::ffi::OsString>) -> Option<&'static str> {
    let set = |name: &&str| variable(name).is_some_and(|value| !value.is_empty());
    AMBIENT.into_iter().find(set)
}

/// Why a URL is none of a proxy.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("it must be an http or https URL of a host, such as http://proxy.example.com:3128")]
pub struct ProxyError;

/// A proxy for requests to providers, by CONNECT (RFC 9110 section 9.3.6).
#[derive(Clone)]
pub struct ProviderProxy(Url);

impl ProviderProxy {
    /// Reads the URL of a proxy. It may have user information, which is sent as Basic credentials.
    ///
    /// # Errors
    /// When it is none. The URL is not repeated: it may hold a password.
    pub fn parse(url: &str) -> Result<Self, ProxyError> {
        let url = Url::parse(url).map_err(|_| ProxyError)?;
        let is_proxy = matches!(url.scheme(), "http" | "https") && url.host().is_some();
        let is_bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
        if is_proxy && is_bare {
            Ok(Self(url))
        } else {
            Err(ProxyError)
        }
    }

    /// The name that must be resolved to reach it; none where it is an address.
    pub(super) fn name(&self) -> Option<String> {
        match self.0.host()? {
            Host::Domain(name) => Some(name.to_owned()),
            Host::Ipv4(_) | Host::Ipv6(_) => None,
        }
    }

    /// For the HTTP client. Loopback is this machine's, not the proxy's.
    pub(super) fn rule(&self) -> Proxy {
        let proxy = self.0.clone();
        Proxy::custom(move |url| (!is_loopback(url)).then(|| proxy.clone()))
    }
}

impl fmt::Debug for ProviderProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.origin().ascii_serialization())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_url_of_a_proxy() {
        for url in [
            "http://proxy.example.com:3128",
            "https://proxy.example.com",
            "http://10.0.0.1:80/",
            "http://user:password@proxy.example.com",
        ] {
            assert!(ProviderProxy::parse(url).is_ok(), "{url}");
        }
        for url in [
            "proxy.example.com:3128",
            "socks5://proxy.example.com",
            "http://",
            "http://proxy.example.com/path",
            "",
        ] {
            assert!(ProviderProxy::parse(url).is_err(), "{url}");
        }
    }

    #[test]
    fn a_password_of_a_proxy_is_not_shown() {
        let proxy = ProviderProxy::parse("http://user:hunter2@proxy.example.com:3128").unwrap();
        assert_eq!(format!("{proxy:?}"), "http://proxy.example.com:3128");
    }

    #[test]
    fn a_variable_that_names_a_proxy_is_noticed() {
        let only = |name: &'static str, value: &'static str| {
            ambient(move |asked| (asked == name).then(|| value.into()))
        };
        for name in AMBIENT {
            assert_eq!(only(name, "http://proxy.example.com"), Some(name));
            assert_eq!(only(name, ""), None);
        }
        assert_eq!(only("HTTP_PROXY", "http://proxy.example.com"), None);
    }
}
