//! Requests and answers as servers and callers see them.

use std::time::Instant;

use super::*;

fn url(server: &Server) -> String {
    format!("http://127.0.0.1:{}/token", server.port)
}

#[tokio::test]
async fn a_request_says_what_it_is_and_who_sends_it() {
    let head = "200 OK\r\ndate: Wed, 21 Oct 2015 07:28:00 GMT\r\nretry-after: 7";
    let server = Server::plain(Reply::Whole(head, TOKENS.into())).await;
    let endpoint = for_trying_out();
    let answer = send(&endpoint, &url(&server), Spends::RotatingToken, None).await;
    let answer = answer.unwrap();
    assert_eq!(answer.status, 200);
    assert_eq!(answer.retry_after, Some(Duration::from_secs(7)));
    assert_eq!(answer.date, Some("2015-10-21T07:28:00Z".parse().unwrap()));
    assert_eq!(text(&answer.body), TOKENS);
    let url = url(&server).parse().unwrap();
    let document = endpoint.fetch(&url, None, LONG).await;
    assert_eq!(document.unwrap().status, 200);

    let [post, get] = server.seen.requests().try_into().unwrap();
    let (head, body) = post.split_once("\r\n\r\n").unwrap();
    let head = head.to_lowercase();
    assert!(head.starts_with("post /token http/1.1\r\n"), "{head}");
    let version = env!("CARGO_PKG_VERSION");
    for line in [
        &format!("user-agent: tokenward/{version}"),
        "accept: application/json",
        "content-type: application/x-www-form-urlencoded",
    ] {
        assert!(head.contains(line), "{line} in {head}");
    }
    assert!(post.contains("Basic c2VjcmV0LWhlYWRlcg=="));
    assert_eq!(body, "grant_type=refresh_token&refresh_token=secret-body");
    let get = get.to_lowercase();
    assert!(get.starts_with("get /token http/1.1\r\n"), "{get}");
    assert!(get.contains("accept: application/json"), "{get}");
}

#[tokio::test]
async fn a_header_of_the_request_stands_in_for_the_one_that_is_always_sent() {
    let server = Server::plain(Reply::json(TOKENS)).await;
    let mut request = request(&url(&server));
    let accept = HeaderValue::from_static("application/vnd.example+json");
    request.headers.push((ACCEPT, accept));
    let (_, answer) = for_trying_out()
        .send(request, Spends::Nothing, None, LONG)
        .await;
    assert_eq!(answer.unwrap().status, 200);
    let seen = server.seen.requests().concat().to_lowercase();
    assert!(
        seen.contains("accept: application/vnd.example+json"),
        "{seen}"
    );
    assert_eq!(seen.matches("accept:").count(), 1, "{seen}");
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_is_not_followed() {
    let elsewhere = Server::plain(Reply::json(TOKENS)).await;
    let head: &'static str = Box::leak(
        format!("307 Temporary Redirect\r\nlocation: {}", url(&elsewhere)).into_boxed_str(),
    );
    let server = Server::plain(Reply::Whole(head, Vec::new())).await;
    let endpoint = for_trying_out();
    for spends in [Spends::RotatingToken, Spends::Nothing] {
        let answer = send(&endpoint, &url(&server), spends, None).await;
        assert_eq!(answer.unwrap().status, 307);
    }
    let url = url(&server).parse().unwrap();
    let fetched = endpoint.fetch(&url, None, LONG).await;
    assert_eq!(fetched.unwrap().status, 307);
    assert_eq!(elsewhere.seen.connections(), 0);
}

#[tokio::test]
async fn a_body_longer_than_64_kib_is_no_answer() {
    let limit = 64 * 1024;
    for (length, expected) in [(limit, None), (limit + 1, Some(Unanswered::Lost))] {
        let server = Server::plain(Reply::Whole("200 OK", vec![b' '; length])).await;
        let endpoint = for_trying_out();
        let answer = send(&endpoint, &url(&server), Spends::Nothing, None).await;
        assert_eq!(answer.err(), expected, "{length}");
    }
}

#[tokio::test]
async fn a_body_that_does_not_end_is_given_up_when_the_time_is_over() {
    let server = Server::plain(Reply::Stall).await;
    let limit = Duration::from_millis(400);
    let start = Instant::now();
    let endpoint = for_trying_out();
    let sending = endpoint.send(request(&url(&server)), Spends::RotatingToken, None, limit);
    let (_, answer) = tokio::time::timeout(LONG, sending).await.unwrap();
    assert_eq!(answer.err(), Some(Unanswered::Lost));
    let took = start.elapsed();
    assert!((limit..LONG).contains(&took), "{took:?}");
}

#[tokio::test]
async fn nobody_there_means_that_nothing_was_sent() {
    let port = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().port()
    };
    let url = format!("http://127.0.0.1:{port}/token");
    let answer = send(&for_trying_out(), &url, Spends::RotatingToken, None).await;
    assert_eq!(answer.err(), Some(Unanswered::NotSent));
}

#[tokio::test]
async fn a_rotating_token_goes_over_a_connection_of_its_own_and_others_share_one() {
    let authority = Authority::new();
    let trusted = Authorities::parse(authority.pem().as_bytes()).unwrap();
    for protocols in [&["http/1.1"][..], &["h2"]] {
        for (spends, expected) in [
            (Spends::RotatingToken, 3),
            (Spends::LastingToken, 1),
            (Spends::Nothing, 1),
        ] {
            let server = Server::tls(&authority, protocols, Reply::json(TOKENS)).await;
            let url = format!("https://provider.test:{}/token", server.port);
            let endpoint = endpoint();
            for _ in 0..3 {
                let answer = send(&endpoint, &url, spends, Some(&trusted)).await;
                assert_eq!(answer.unwrap().status, 200);
            }
            let connections = server.seen.connections();
            assert_eq!(connections, expected, "{spends:?} {protocols:?}");
        }
    }
}

#[tokio::test]
async fn http2_is_spoken_where_the_server_speaks_it() {
    let authority = Authority::new();
    let trusted = Authorities::parse(authority.pem().as_bytes()).unwrap();
    for (protocols, version) in [
        (&["h2", "http/1.1"][..], "HTTP/2.0"),
        (&["http/1.1"], "HTTP/1.1"),
        (&[], "HTTP/1.1"),
    ] {
        let server = Server::tls(&authority, protocols, Reply::json(TOKENS)).await;
        let url = format!("https://provider.test:{}/token", server.port);
        let answer = send(&endpoint(), &url, Spends::RotatingToken, Some(&trusted)).await;
        assert_eq!(text(&answer.unwrap().body), TOKENS);
        let seen = server.seen.requests().concat();
        assert!(seen.contains(version), "{version} in {seen}");
    }
}
