//! The proxy that is asked for, and those that are not.

use super::*;

pub fn through(proxy: &Server) -> Access {
    let url = format!("http://user:secret@127.0.0.1:{}", proxy.port);
    Access {
        proxy: Some(ProviderProxy::parse(&url).unwrap()),
        ..strict()
    }
}

#[tokio::test]
async fn the_proxy_that_is_asked_for_resolves_names_and_sees_no_request() {
    let authority = Authority::new();
    let trusted = Authorities::parse(authority.pem().as_bytes()).unwrap();
    let server = Server::tls(&authority, &["h2", "http/1.1"], Reply::json(TOKENS)).await;
    let proxy = Server::proxy(server.port).await;
    let names = Names::here();
    let endpoint = Endpoint::with_names(through(&proxy), names.clone()).unwrap();
    let url = "https://provider.test/token";
    let answer = send(&endpoint, url, Spends::RotatingToken, Some(&trusted)).await;
    assert_eq!(text(&answer.unwrap().body), TOKENS);
    assert_eq!(names.lookups(), 0);
    let seen = proxy.seen.requests().concat();
    assert!(
        seen.starts_with("CONNECT provider.test:443 HTTP/1.1\r\n"),
        "{seen}"
    );
    // dXNlcjpzZWNyZXQ= is user:secret.
    assert!(seen.contains("Basic dXNlcjpzZWNyZXQ="), "{seen}");
    assert!(!seen.contains("secret-body") && !seen.contains("c2VjcmV0LWhlYWRlcg=="));
}

#[tokio::test]
async fn the_name_of_the_proxy_itself_may_be_private() {
    let authority = Authority::new();
    let trusted = Authorities::parse(authority.pem().as_bytes()).unwrap();
    let server = Server::tls(&authority, &[], Reply::json(TOKENS)).await;
    let proxy = Server::proxy(server.port).await;
    let url = format!("http://proxy.test:{}", proxy.port);
    let access = Access {
        proxy: Some(ProviderProxy::parse(&url).unwrap()),
        ..strict()
    };
    let endpoint = Endpoint::with_names(access, Names::here()).unwrap();
    let url = "https://provider.test/token";
    let answer = send(&endpoint, url, Spends::Nothing, Some(&trusted)).await;
    assert_eq!(answer.unwrap().status, 200);
}

#[tokio::test]
async fn an_address_is_refused_with_a_proxy_too() {
    let proxy = Server::proxy(1).await;
    let endpoint = Endpoint::new(through(&proxy)).unwrap();
    for (url, rule) in [
        ("https://10.0.0.1/t", Refused::Private),
        ("https://0xa9fea9fe/t", Refused::Metadata),
        ("https://[::1]/t", Refused::Loopback),
        ("https://localhost/t", Refused::Loopback),
    ] {
        let sent = send(&endpoint, url, Spends::Nothing, None).await;
        assert_eq!(sent.err(), Some(Unanswered::Refused(rule)), "{url}");
    }
    assert_eq!(proxy.seen.connections(), 0);
}

#[tokio::test]
async fn loopback_is_this_machine_and_not_the_one_of_the_proxy() {
    let server = Server::plain(Reply::json(TOKENS)).await;
    let proxy = Server::proxy(1).await;
    let access = Access {
        allow_http_loopback: true,
        ..through(&proxy)
    };
    let endpoint = Endpoint::new(access).unwrap();
    for host in ["127.0.0.1", "localhost"] {
        let url = format!("http://{host}:{}/t", server.port);
        let answer = send(&endpoint, &url, Spends::Nothing, None).await;
        assert_eq!(answer.unwrap().status, 200, "{host}");
    }
    assert_eq!(proxy.seen.connections(), 0);
}

/// What the test below runs with variables that name a proxy.
#[tokio::test]
async fn a_request_goes_straight_to_the_provider() {
    let authority = Authority::new();
    let trusted = Authorities::parse(authority.pem().as_bytes()).unwrap();
    let server = Server::tls(&authority, &[], Reply::json(TOKENS)).await;
    let url = format!("https://provider.test:{}/token", server.port);
    for spends in [Spends::RotatingToken, Spends::Nothing] {
        let answer = send(&endpoint(), &url, spends, Some(&trusted)).await;
        assert_eq!(answer.unwrap().status, 200);
    }
}

#[tokio::test]
async fn variables_that_name_a_proxy_are_not_followed() {
    let proxy = Server::proxy(1).await;
    let url = format!("http://127.0.0.1:{}", proxy.port);
    let ran = super::quiet::run_alone(
        "oauth::endpoint::tests::way::a_request_goes_straight_to_the_provider",
        ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"].map(|name| (name, url.as_str())),
    )
    .await;
    assert!(ran.status.success(), "{ran:?}");
    assert_eq!(proxy.seen.connections(), 0);
}
