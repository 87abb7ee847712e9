//! From a name to addresses: resolved once, checked, and connected to as checked. A name that changes its
//! answer between a check and a connection changes nothing, because there is no second resolution.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use ipnet::IpNet;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

use super::address::verdict;

/// Resolves as the system does.
pub struct System;

impl Resolve for System {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let found: Addrs = Box::new(found.collect::<Vec<_>>().into_iter());
            Ok(found)
        })
    }
}

/// Hands on only what may be connected to.
pub struct Guarded {
    /// Finds the addresses.
    pub inner: Arc<dyn Resolve>,
    /// The networks that the operator was told to allow.
    pub networks: Arc<[IpNet]>,
    /// Whether `localhost` may be used.
    pub loopback: bool,
    /// The host of the proxy, which the operator's own flag chose.
    pub proxy: Option<String>,
}

impl Resolve for Guarded {
    fn resolve(&self, name: Name) -> Resolving {
        if self.loopback && is_localhost(name.as_str()) {
            // Always the loopback addresses, whatever a resolver would say (RFC 6761 section 6.3).
            let loopback = [
                IpAddr::V4(Ipv4Addr::LOCALHOST),
                IpAddr::V6(Ipv6Addr::LOCALHOST),
            ];
            let found: Addrs = Box::new(loopback.into_iter().map(|a| SocketAddr::new(a, 0)));
            return Box::pin(std::future::ready(Ok(found)));
        }
        if self.proxy.as_deref() == Some(name.as_str()) {
            return self.inner.resolve(name);
        }
        let found = self.inner.resolve(name);
        let networks = Arc::clone(&self.networks);
        Box::pin(async move {
            let found: Vec<SocketAddr> = found.await?.collect();
            // One that is refused refuses them all: the order of addresses is the name's owner's choice.
            for address in &found {
                verdict(address.ip(), &networks)?;
            }
            let found: Addrs = Box::new(found.into_iter());
            Ok(found)
        })
    }
}

/// Whether this is the machine itself, by a literal address or by the one name that always means it.
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => is_localhost(name),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// With the dot of a complete name too.
fn is_localhost(name: &str) -> bool {
    name.strip_suffix('.').unwrap_or(name) == "localhost"
}
