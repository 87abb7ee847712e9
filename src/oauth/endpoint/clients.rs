//! The HTTP clients: none follows a redirect, repeats a request, or heeds the environment's proxies.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use ipnet::IpNet;
use reqwest::{Client, ClientBuilder, dns::Resolve, redirect, retry};

use super::{
    Access, authorities::Authorities, proxy::ProviderProxy, recent::Recent, resolve::Guarded,
};
use crate::oauth::error::Spends;

/// How long a connection may take, resolution and TLS included, at most. Less than half of the shortest
/// exchange: what runs out before a connection stands has sent nothing, and must not look as if it had.
const CONNECT: Duration = Duration::from_millis(2400);

/// How many bundles of authorities keep their clients, the last used ones.
const BUNDLES: usize = 64;

/// The two clients for one set of trusted authorities.
struct Pair {
    /// A connection for each request. A kept connection that the server has just closed would make
    /// a request that spends a refresh token fail without telling whether it arrived.
    fresh: Client,
    /// Kept connections, for requests that spend nothing.
    kept: Client,
}

/// All clients.
pub struct Clients {
    access: Access,
    networks: Arc<[IpNet]>,
    names: Arc<dyn Resolve>,
    /// Those that trust the system's authorities only.
    plain: Pair,
    /// Those that trust a bundle too, by its hash.
    with_bundle: Mutex<Recent<[u8; 32], Arc<Pair>>>,
}

impl Clients {
    /// `names` finds the addresses that are then checked.
    ///
    /// # Errors
    /// When no TLS provider is installed or the system's certificates cannot be read.
    pub fn new(access: Access, names: Arc<dyn Resolve>) -> Result<Self, reqwest::Error> {
        let networks: Arc<[IpNet]> = access.networks.clone().into();
        Ok(Self {
            plain: pair(|| builder(&access, &networks, &names))?,
            access,
            networks,
            names,
            with_bundle: Mutex::new(Recent::new(BUNDLES)),
        })
    }

    /// The client for a request.
    ///
    /// # Errors
    /// When none can be made with these authorities.
    pub fn get(
        &self,
        authorities: Option<&Authorities>,
        spends: Spends,
    ) -> Result<Client, reqwest::Error> {
        let one = |pair: &Pair| match spends {
            Spends::RotatingToken => pair.fresh.clone(),
            Spends::LastingToken | Spends::Nothing => pair.kept.clone(),
        };
        let Some(authorities) = authorities else {
            return Ok(one(&self.plain));
        };
        let key = authorities.hash();
        let known = self.recent().get(&key);
        if let Some(known) = known {
            return Ok(one(&known));
        }
        // Not under the lock: the system's certificates are read again for it.
        let made = pair(|| {
            builder(&self.access, &self.networks, &self.names)
                .tls_certs_merge(authorities.certificates())
        })?;
        // Somebody may have been quicker; there is one only, for connections to be reused.
        Ok(one(&self.recent().get_or_keep(key, Arc::new(made))))
    }

    fn recent(&self) -> MutexGuard<'_, Recent<[u8; 32], Arc<Pair>>> {
        self.with_bundle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// HTTP/2 where the server speaks it (ALPN), else HTTP/1.1. There is no limit of time between two reads:
/// the exchange as a whole has one, and an answer that was given up sooner may hold the only copy of
/// a new refresh token.
fn builder(access: &Access, networks: &Arc<[IpNet]>, names: &Arc<dyn Resolve>) -> ClientBuilder {
    let guarded = Guarded {
        inner: Arc::clone(names),
        networks: Arc::clone(networks),
        loopback: access.allow_http_loopback,
        proxy: access.proxy.as_ref().and_then(ProviderProxy::name),
    };
    let builder = Client::builder()
        .user_agent(concat!("tokenward/", env!("CARGO_PKG_VERSION")))
        .https_only(!access.allow_http_loopback)
        .redirect(redirect::Policy::none())
        .retry(retry::never())
        .dns_resolver(guarded)
        .no_proxy()
        .connect_timeout(CONNECT.min(access.timeout / 2));
    match &access.proxy {
        Some(proxy) => builder.proxy(proxy.rule()),
        None => builder,
    }
}

fn pair(builder: impl Fn() -> ClientBuilder) -> Result<Pair, reqwest::Error> {
    Ok(Pair {
        fresh: builder().pool_max_idle_per_host(0).build()?,
        kept: builder().build()?,
    })
}
