//! What is connected to, and what is not.

use super::*;

fn check(endpoint: &Endpoint, url: &str) -> Result<(), UrlError> {
    endpoint.check(url).map(drop)
}

/// The rule that refuses it.
fn rule(endpoint: &Endpoint, url: &str) -> Option<Refused> {
    match endpoint.check(url) {
        Ok(_) => None,
        Err(UrlError::NotAllowed { rule, .. }) => Some(rule),
        Err(error) => panic!("{url}: {error}"),
    }
}

#[test]
fn only_https_and_loopback_where_allowed() {
    let (strict, lenient) = (Endpoint::new(strict()).unwrap(), for_trying_out());
    assert_eq!(check(&strict, "https://login.example.com/token"), Ok(()));
    for url in [
        "http://127.0.0.1:80/t",
        "http://[::1]/t",
        "http://localhost/t",
        "http://localhost./t",
    ] {
        assert_eq!(check(&strict, url), Err(UrlError::Loopback), "{url}");
        assert_eq!(check(&lenient, url), Ok(()), "{url}");
        let secure = url.replacen("http:", "https:", 1);
        assert_eq!(check(&lenient, &secure), Ok(()), "{secure}");
    }
    for (url, error) in [
        ("http://example.com/t", UrlError::NotHttps),
        ("http://localhost.example.com/t", UrlError::NotHttps),
        ("http://127.0.0.1.example.com/t", UrlError::NotHttps),
        ("http://10.0.0.1/t", UrlError::NotHttps),
        ("ftp://127.0.0.1/t", UrlError::NotHttps),
        ("file:///etc/passwd", UrlError::NotAbsolute),
        ("token", UrlError::NotAbsolute),
        ("https://user:pw@example.com/t", UrlError::Decorated),
        ("https://example.com/t#x", UrlError::Decorated),
    ] {
        assert_eq!(check(&lenient, url), Err(error), "{url}");
    }
}

#[test]
fn an_address_is_refused_however_it_is_written() {
    use Refused::{Loopback, Metadata, Private, Unspecified};
    let strict = Endpoint::new(strict()).unwrap();
    for (host, expected) in [
        ("127.0.0.1", Loopback),
        ("127.0.0.1.", Loopback),
        ("127.1", Loopback),
        ("2130706433", Loopback),
        ("0x7f000001", Loopback),
        ("0x7f.0.0.1", Loopback),
        ("0177.0.0.1", Loopback),
        ("017700000001", Loopback),
        ("%31%32%37.0.0.1", Loopback),
        ("１２７.0.0.1", Loopback),
        ("127。0。0。1", Loopback),
        ("10.0.0.1", Private),
        ("167772161", Private),
        ("0xa000001", Private),
        ("012.0.0.1", Private),
        ("10.1", Private),
        ("0", Unspecified),
        ("169.254.169.254", Metadata),
        ("2852039166", Metadata),
        ("0xa9fea9fe", Metadata),
        ("0251.0376.0251.0376", Metadata),
        ("169.254.43518", Metadata),
        ("[::1]", Loopback),
        ("[0:0:0:0:0:0:0:1]", Loopback),
        ("[::]", Unspecified),
        ("[::ffff:127.0.0.1]", Loopback),
        ("[::ffff:7f00:1]", Loopback),
        ("[::ffff:a9fe:a9fe]", Metadata),
        ("[::10.0.0.1]", Private),
        ("[64:ff9b::169.254.169.254]", Metadata),
        ("[2002:a00:1::]", Private),
        ("[fd00:ec2::254]", Metadata),
        ("[fd12:3456::1]", Private),
    ] {
        let url = format!("https://{host}/token");
        assert_eq!(rule(&strict, &url), Some(expected), "{url}");
    }
    for host in ["8.8.8.8", "134744072", "[2606:4700::1111]"] {
        let url = format!("https://{host}/token");
        assert_eq!(check(&strict, &url), Ok(()), "{url}");
    }
}

#[test]
fn a_network_that_is_allowed_is_for_literal_addresses_too_and_never_for_metadata() {
    let networks = ["10.1.0.0/16", "169.254.0.0/16"].map(|network| network.parse().unwrap());
    let access = Access {
        networks: networks.to_vec(),
        ..strict()
    };
    let endpoint = Endpoint::new(access).unwrap();
    assert_eq!(check(&endpoint, "https://10.1.2.3/t"), Ok(()));
    assert_eq!(check(&endpoint, "https://169.254.1.1/t"), Ok(()));
    let outside = rule(&endpoint, "https://10.2.0.1/t");
    assert_eq!(outside, Some(Refused::Private));
    let metadata = rule(&endpoint, "https://169.254.169.254/t");
    assert_eq!(metadata, Some(Refused::Metadata));
}

#[tokio::test]
async fn what_was_not_checked_before_is_checked_when_it_is_sent() {
    let endpoint = Endpoint::new(strict()).unwrap();
    for (url, expected) in [
        ("https://10.0.0.1/t", Unanswered::Refused(Refused::Private)),
        (
            "https://169.254.169.254/t",
            Unanswered::Refused(Refused::Metadata),
        ),
        ("http://example.com/t", Unanswered::NotSent),
    ] {
        let sent = send(&endpoint, url, Spends::Nothing, None).await.err();
        assert_eq!(sent, Some(expected), "{url}");
        let fetched = endpoint.fetch(&url.parse().unwrap(), None, LONG).await;
        assert_eq!(fetched.err(), Some(expected), "{url}");
    }
}

#[tokio::test]
async fn a_name_is_refused_when_any_of_its_addresses_is() {
    for (addresses, rule) in [
        (&["10.0.0.1"][..], Refused::Private),
        (&["127.0.0.1"], Refused::Loopback),
        (&["169.254.169.254"], Refused::Metadata),
        (&["8.8.8.8", "192.168.1.1"], Refused::Private),
        (&["192.168.1.1", "8.8.8.8"], Refused::Private),
        (&["2606:4700::1111", "::ffff:127.0.0.1"], Refused::Loopback),
        (&["8.8.8.8", "fe80::1"], Refused::LinkLocal),
    ] {
        let endpoint = Endpoint::with_names(strict(), Names::new(&[addresses])).unwrap();
        for name in ["provider.test", "provider.test."] {
            let url = format!("https://{name}/token");
            let sent = send(&endpoint, &url, Spends::RotatingToken, None).await;
            let expected = Some(Unanswered::Refused(rule));
            assert_eq!(sent.err(), expected, "{name} {addresses:?}");
        }
    }
}

#[tokio::test]
async fn the_flag_for_loopback_is_not_for_other_names_of_it() {
    let access = Access {
        allow_http_loopback: true,
        ..strict()
    };
    let endpoint = Endpoint::with_names(access, Names::here()).unwrap();
    let url = "https://provider.test/token";
    let sent = send(&endpoint, url, Spends::Nothing, None).await;
    assert_eq!(sent.err(), Some(Unanswered::Refused(Refused::Loopback)));
}

#[tokio::test]
async fn localhost_is_this_machine_whatever_a_resolver_says() {
    let server = Server::plain(Reply::json(TOKENS)).await;
    let access = Access {
        allow_http_loopback: true,
        ..strict()
    };
    let names = Names::new(&[&["10.0.0.1"]]);
    let endpoint = Endpoint::with_names(access, names.clone()).unwrap();
    for name in ["localhost", "localhost.", "LOCALHOST"] {
        let url = format!("http://{name}:{}/t", server.port);
        let answer = send(&endpoint, &url, Spends::RotatingToken, None).await;
        assert_eq!(answer.unwrap().status, 200, "{name}");
    }
    assert_eq!(names.lookups(), 0);
}

#[tokio::test]
async fn a_name_that_changes_its_answer_is_connected_to_where_it_was_checked() {
    let authority = Authority::new();
    let server = Server::tls(&authority, &[], Reply::json(TOKENS)).await;
    let trusted = Authorities::parse(authority.pem().as_bytes()).unwrap();
    let url = format!("https://provider.test:{}/token", server.port);
    let metadata = &["169.254.169.254"][..];

    // Good when it is checked, then bad: the connection goes to the good one.
    let names = Names::new(&[&["127.0.0.1"], metadata]);
    let endpoint = Endpoint::with_names(with_loopback_network(), names.clone()).unwrap();
    let first = send(&endpoint, &url, Spends::RotatingToken, Some(&trusted)).await;
    assert_eq!(first.unwrap().status, 200);
    assert_eq!((names.lookups(), server.seen.connections()), (1, 1));
    let second = send(&endpoint, &url, Spends::RotatingToken, Some(&trusted)).await;
    assert_eq!(second.err(), Some(Unanswered::Refused(Refused::Metadata)));
    assert_eq!((names.lookups(), server.seen.connections()), (2, 1));

    // The other way round it is not asked again.
    let names = Names::new(&[metadata, &["127.0.0.1"]]);
    let endpoint = Endpoint::with_names(with_loopback_network(), names.clone()).unwrap();
    let sent = send(&endpoint, &url, Spends::RotatingToken, Some(&trusted)).await;
    assert_eq!(sent.err(), Some(Unanswered::Refused(Refused::Metadata)));
    assert_eq!((names.lookups(), server.seen.connections()), (1, 1));
}
