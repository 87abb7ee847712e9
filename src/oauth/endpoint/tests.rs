//! Against servers on the loopback address.

mod checked;
mod connections;
mod names;
mod quiet;
mod server;
mod trust;
mod way;

use std::time::Duration;

use secrecy::SecretSlice;

use self::{
    names::Names,
    server::{Authority, Reply, Server},
};
use super::*;

const LONG: Duration = Duration::from_secs(20);

const TOKENS: &str = r#"{"access_token":"at-1","refresh_token":"rt-2","expires_in":3600}"#;

fn install_crypto() {
    // The second one is refused, and there is one already.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

/// What the operator allows by itself.
fn strict() -> Access {
    install_crypto();
    Access {
        allow_http_loopback: false,
        networks: Vec::new(),
        proxy: None,
        timeout: LONG,
    }
}

/// With providers on loopback addresses.
fn with_loopback_network() -> Access {
    Access {
        networks: vec!["127.0.0.0/8".parse().unwrap()],
        ..strict()
    }
}

/// For `http://127.0.0.1`.
fn for_trying_out() -> Endpoint {
    let access = Access {
        allow_http_loopback: true,
        ..strict()
    };
    Endpoint::new(access).unwrap()
}

/// With names that are all on the loopback address.
fn endpoint() -> Endpoint {
    Endpoint::with_names(with_loopback_network(), Names::here()).unwrap()
}

fn request(url: &str) -> Outgoing {
    let mut authorization = HeaderValue::from_static("Basic c2VjcmV0LWhlYWRlcg==");
    authorization.set_sensitive(true);
    Outgoing {
        url: url.parse().unwrap(),
        headers: vec![(AUTHORIZATION, authorization)],
        body: "grant_type=refresh_token&refresh_token=secret-body".into(),
        content_type: "application/x-www-form-urlencoded",
    }
}

async fn send(
    endpoint: &Endpoint,
    url: &str,
    spends: Spends,
    authorities: Option<&Authorities>,
) -> Result<Answered, Unanswered> {
    let (_, answer) = endpoint.send(request(url), spends, authorities, LONG).await;
    answer
}

fn text(body: &SecretSlice<u8>) -> &str {
    std::str::from_utf8(body.expose_secret()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn what_had_arrived_when_the_time_was_over_is_read() {
    let limit = Duration::from_secs(5);
    let comes = async |after: Duration| {
        let work = async move {
            tokio::time::sleep(after).await;
        };
        in_time(limit, work).await.is_some()
    };
    assert!(comes(limit / 2).await);
    assert!(comes(limit + READING / 2).await);
    assert!(!comes(limit * 2).await);
}
