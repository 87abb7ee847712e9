//! Certificates.

use super::*;

#[tokio::test]
async fn a_certificate_of_an_unknown_authority_is_trusted_with_its_bundle_only() {
    let (authority, other) = (Authority::new(), Authority::new());
    let server = Server::tls(&authority, &["h2"], Reply::json(TOKENS)).await;
    let url = format!("https://provider.test:{}/token", server.port);
    let endpoint = endpoint();
    let bundle = |pem: String| Authorities::parse(pem.as_bytes()).unwrap();

    let (right, wrong) = (bundle(authority.pem()), bundle(other.pem()));
    let both = bundle(format!("{}# and\n{}", other.pem(), authority.pem()));
    for (authorities, expected) in [
        (None, Some(Unanswered::NotTrusted)),
        (Some(&wrong), Some(Unanswered::NotTrusted)),
        (Some(&right), None),
        (Some(&both), None),
        // What one provider's bundle allows is not kept for others.
        (None, Some(Unanswered::NotTrusted)),
    ] {
        for spends in [Spends::RotatingToken, Spends::Nothing] {
            let answer = send(&endpoint, &url, spends, authorities).await;
            assert_eq!(answer.err(), expected);
        }
    }
    let fetched = endpoint
        .fetch(&url.parse().unwrap(), Some(&right), LONG)
        .await;
    assert_eq!(text(&fetched.unwrap().body), TOKENS);
}

#[tokio::test]
async fn a_certificate_for_another_name_is_not_trusted() {
    let authority = Authority::new();
    let server = Server::tls(&authority, &[], Reply::json(TOKENS)).await;
    let trusted = Authorities::parse(authority.pem().as_bytes()).unwrap();
    let url = format!("https://other.test:{}/token", server.port);
    let answer = send(&endpoint(), &url, Spends::Nothing, Some(&trusted)).await;
    assert_eq!(answer.err(), Some(Unanswered::NotTrusted));
}

#[tokio::test]
async fn the_same_bundle_shares_connections_and_another_one_does_not() {
    let (authority, other) = (Authority::new(), Authority::new());
    let server = Server::tls(&authority, &[], Reply::json(TOKENS)).await;
    let url = format!("https://provider.test:{}/token", server.port);
    let endpoint = endpoint();
    let both = format!("{}{}", authority.pem(), other.pem());
    for (pem, connections) in [(authority.pem(), 1), (authority.pem(), 1), (both, 2)] {
        let trusted = Authorities::parse(pem.as_bytes()).unwrap();
        let answer = send(&endpoint, &url, Spends::Nothing, Some(&trusted)).await;
        assert_eq!(answer.unwrap().status, 200);
        assert_eq!(server.seen.connections(), connections);
    }
}

#[test]
fn a_bundle_that_cannot_be_read_is_said_to_be_one() {
    let good = Authority::new().pem();
    let cut = good.replace("-----END CERTIFICATE-----", "");
    let broken = "-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n";
    let empty = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    for (pem, expected) in [
        (String::new(), BundleError::Empty),
        ("certificate".to_owned(), BundleError::Empty),
        (key.to_owned(), BundleError::Empty),
        (cut, BundleError::NotPem),
        (broken.to_owned(), BundleError::NotPem),
        (format!("{good}{broken}"), BundleError::NotPem),
        (empty.to_owned(), BundleError::NotACertificate(1)),
        (format!("{good}{empty}"), BundleError::NotACertificate(2)),
    ] {
        assert_eq!(
            Authorities::parse(pem.as_bytes()).err(),
            Some(expected),
            "{pem}"
        );
    }
}
