//! The controllable OAuth server keeps its own promises: what the other tests prove rests on it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

#[path = "../examples/oauth-server/server.rs"]
mod oauth_server;

#[path = "oauth_server/proofs.rs"]
mod proofs;

use std::time::{Duration, Instant};

use data_encoding::BASE64;
use oauth_server::{
    Answer, Behaviour, Client, ClientAuth, Config, Fault, Handle, OAuthServer, OldToken, Outcome,
    Reuse,
};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap};
use serde_json::{Value, json};
use url::form_urlencoded;

const FORM: &str = "application/x-www-form-urlencoded";

async fn start() -> OAuthServer {
    OAuthServer::start(Config::default()).await.unwrap()
}

async fn start_with(change: impl FnOnce(&mut Behaviour)) -> OAuthServer {
    let server = start().await;
    server.configure(change);
    server
}

/// Ends a test that waits for something that never comes.
async fn within<T>(work: impl Future<Output = T>) -> T {
    let limit = Duration::from_secs(20);
    tokio::time::timeout(limit, work).await.expect("in time")
}

fn http() -> reqwest::Client {
    // reqwest wants a TLS provider even for plain HTTP; another test may have installed it.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    reqwest::Client::builder()
        .no_proxy()
        .tls_certs_only([])
        .build()
        .unwrap()
}

fn form(params: &[(&str, &str)]) -> String {
    let mut form = form_urlencoded::Serializer::new(String::new());
    form.extend_pairs(params).finish()
}

fn encoded(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

fn basic(id: &str, secret: &str) -> String {
    format!(
        "Basic {}",
        BASE64.encode(format!("{id}:{secret}").as_bytes())
    )
}

#[derive(Debug)]
struct Got {
    status: u16,
    headers: HeaderMap,
    text: String,
}

impl Got {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).expect("a JSON body")
    }

    fn field(&self, name: &str) -> String {
        self.json()[name].as_str().expect("a text").to_owned()
    }

    fn header(&self, name: &str) -> &str {
        self.headers[name].to_str().unwrap()
    }

    fn refused(&self) -> (u16, String) {
        (self.status, self.field("error"))
    }
}

async fn receive(request: reqwest::RequestBuilder) -> reqwest::Result<Got> {
    let response = within(request.send()).await?;
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let text = within(response.text()).await?;
    Ok(Got {
        status,
        headers,
        text,
    })
}

/// Posts a form with this `Authorization` to the token endpoint.
async fn post_as(server: &Handle, auth: &str, params: &[(&str, &str)]) -> reqwest::Result<Got> {
    let request = http().post(server.token_url());
    let request = request.header(CONTENT_TYPE, FORM).body(form(params));
    receive(request.header(AUTHORIZATION, auth)).await
}

async fn post(server: &Handle, params: &[(&str, &str)]) -> reqwest::Result<Got> {
    post_as(server, &basic("demo", "demo-secret"), params).await
}

async fn redeem(server: &Handle, token: &str) -> reqwest::Result<Got> {
    let params = [("grant_type", "refresh_token"), ("refresh_token", token)];
    post(server, &params).await
}

async fn machine_token(server: &Handle) -> Got {
    let params = [("grant_type", "client_credentials"), ("scope", "jobs")];
    post(server, &params).await.unwrap()
}

async fn try_resource(server: &Handle, access_token: &str) -> u16 {
    let request = http().get(server.resource_url()).bearer_auth(access_token);
    receive(request).await.unwrap().status
}

fn invalid_grant() -> (u16, String) {
    (400, "invalid_grant".to_owned())
}

#[tokio::test]
async fn rotation_spends_the_refresh_token_and_ends_the_old_access_token() {
    let server = start().await;
    let first = server.issue_refresh_token("read write");
    let one = redeem(&server, &first).await.unwrap();
    assert_eq!((one.status, one.header("cache-control")), (200, "no-store"));
    assert_eq!(one.json()["token_type"], "Bearer");
    assert_eq!(one.json()["expires_in"], 3600);
    assert_eq!(one.json()["scope"], "read write");
    assert!(one.field("access_token").starts_with("at-"));
    assert!(one.field("refresh_token").starts_with("rt-"));
    assert_eq!(try_resource(&server, &one.field("access_token")).await, 200);

    let two = redeem(&server, &one.field("refresh_token")).await.unwrap();
    assert_ne!(one.field("refresh_token"), two.field("refresh_token"));
    assert_eq!(try_resource(&server, &one.field("access_token")).await, 401);
    assert_eq!(try_resource(&server, &two.field("access_token")).await, 200);
    assert!(server.is_redeemable(&two.field("refresh_token")));
    assert_eq!((server.granted(), server.max_presentations()), (2, 1));
    assert_eq!(server.resource_calls(), (2, 1));
    assert_eq!(server.live_access_tokens(), 1);
}

#[tokio::test]
async fn the_old_access_token_may_survive_until_it_expires() {
    let server = start_with(|b| {
        b.on_refresh = OldToken::Survives;
        b.lifetime = Duration::from_secs(20);
    })
    .await;
    let first = server.issue_refresh_token("read");
    let one = redeem(&server, &first).await.unwrap();
    assert_eq!(one.json()["expires_in"], 20);
    server.advance(Duration::from_secs(15));
    let two = redeem(&server, &one.field("refresh_token")).await.unwrap();
    assert_eq!(try_resource(&server, &one.field("access_token")).await, 200);
    server.advance(Duration::from_secs(5));
    assert!(!server.is_live(&one.field("access_token")));
    assert!(server.is_live(&two.field("access_token")));
    assert!(server.revoke_access_token(&two.field("access_token")));
    assert!(!server.is_live(&two.field("access_token")));
    assert!(server.is_redeemable(&two.field("refresh_token")));
}

#[tokio::test]
async fn reuse_kills_the_family_and_no_other() {
    let server = start().await;
    let first = server.issue_refresh_token("read");
    let other = redeem(&server, &server.issue_refresh_token("read")).await;
    let one = redeem(&server, &first).await.unwrap();
    let again = redeem(&server, &first).await.unwrap();
    assert_eq!(again.refused(), invalid_grant());
    assert_eq!(server.redemptions(&first), 2);
    assert_eq!(try_resource(&server, &one.field("access_token")).await, 401);
    let next = redeem(&server, &one.field("refresh_token")).await.unwrap();
    assert_eq!(next.refused(), invalid_grant());
    assert!(server.is_live(&other.unwrap().field("access_token")));
}

#[tokio::test]
async fn reuse_may_be_refused_without_further_harm() {
    let server = start_with(|b| b.reuse = Reuse::RejectOnly).await;
    let first = server.issue_refresh_token("read");
    let one = redeem(&server, &first).await.unwrap();
    let again = redeem(&server, &first).await.unwrap();
    assert_eq!(again.refused(), invalid_grant());
    assert!(server.is_live(&one.field("access_token")));
    assert!(server.is_redeemable(&one.field("refresh_token")));
}

#[tokio::test]
async fn within_the_grace_period_the_same_tokens_come_again() {
    let server = start_with(|b| b.grace = Duration::from_secs(30)).await;
    let first = server.issue_refresh_token("read");
    let one = redeem(&server, &first).await.unwrap();
    server.advance(Duration::from_secs(29));
    let again = redeem(&server, &first).await.unwrap();
    for field in ["access_token", "refresh_token", "scope"] {
        assert_eq!(one.field(field), again.field(field));
    }
    // The token is older by now, and the answer says so.
    assert!(again.json()["expires_in"].as_u64().unwrap() <= 3571);
    assert_eq!(server.live_access_tokens(), 1);
    server.advance(Duration::from_secs(1));
    let late = redeem(&server, &first).await.unwrap();
    assert_eq!(late.refused(), invalid_grant());
    assert!(!server.is_live(&one.field("access_token")));
}

#[tokio::test]
async fn grace_ends_when_the_successor_is_redeemed() {
    let server = start_with(|b| b.grace = Duration::from_secs(30)).await;
    let first = server.issue_refresh_token("read");
    let one = redeem(&server, &first).await.unwrap();
    let two = redeem(&server, &one.field("refresh_token")).await.unwrap();
    let again = redeem(&server, &first).await.unwrap();
    assert_eq!(again.refused(), invalid_grant());
    assert!(!server.is_live(&two.field("access_token")));
}

#[tokio::test]
async fn without_rotation_the_refresh_token_stays() {
    let server = start_with(|b| b.rotation = false).await;
    let token = server.issue_refresh_token("read");
    for _ in 0..2 {
        let got = redeem(&server, &token).await.unwrap();
        assert_eq!(got.status, 200);
        assert_eq!(got.json().get("refresh_token"), None);
    }
    assert_eq!(server.redemptions(&token), 2);
    server.configure(|b| b.rotation = true);
    let last = redeem(&server, &token).await.unwrap();
    assert!(server.is_redeemable(&last.field("refresh_token")));
    assert!(!server.is_redeemable(&token));
}

#[tokio::test]
async fn with_rotation_now_and_then_the_refresh_token_is_replaced_at_its_turn() {
    let server = start_with(|b| b.rotates_every = 2).await;
    let token = server.issue_refresh_token("read");
    let quiet = redeem(&server, &token).await.unwrap();
    assert_eq!(quiet.json().get("refresh_token"), None);
    let turn = redeem(&server, &token).await.unwrap();
    let next = turn.field("refresh_token");
    assert!(server.is_redeemable(&next) && !server.is_redeemable(&token));
    // Each authorization counts for itself.
    let other = server.issue_refresh_token("read");
    redeem(&server, &other).await.unwrap();
    assert!(server.is_redeemable(&other));
    assert!(!server.is_family_revoked(&next));
    assert_eq!(
        redeem(&server, &token).await.unwrap().refused(),
        invalid_grant()
    );
    assert!(server.is_family_revoked(&next) && !server.is_family_revoked(&other));
}

#[tokio::test]
async fn client_credentials_yield_no_refresh_token() {
    let server = start().await;
    let one = machine_token(&server).await;
    let two = machine_token(&server).await;
    assert_eq!(one.json().get("refresh_token"), None);
    assert_eq!(one.field("scope"), "jobs");
    assert_eq!(server.live_access_tokens(), 2);
    server.configure(|b| b.on_client_credentials = OldToken::Dies);
    let three = machine_token(&server).await;
    assert_eq!(try_resource(&server, &two.field("access_token")).await, 401);
    assert_eq!(server.live_access_tokens(), 1);
    assert!(server.revoke_family_of(&three.field("access_token")));
    assert_eq!(server.live_access_tokens(), 0);
    machine_token(&server).await;
    assert_eq!(server.live_access_tokens(), 1);
}

#[tokio::test]
async fn clients_authenticate_by_header_and_by_body() {
    let (id, secret) = ("https://id.example/x", "s%3A:/ +&=ü");
    let server = start().await;
    server.set_client(Client::new(id, &["an older one", secret]));
    let token = || server.issue_refresh_token_to(id, "read");

    let by_header = basic(&encoded(id), &encoded(secret));
    let rt = token();
    let params = [("grant_type", "refresh_token"), ("refresh_token", &rt)];
    let got = post_as(&server, &by_header, &params).await.unwrap();
    assert_eq!(got.status, 200);

    for accepted in [secret, "an older one"] {
        let rt = token();
        let body = form(&[
            ("grant_type", "refresh_token"),
            ("refresh_token", &rt),
            ("client_id", id),
            ("client_secret", accepted),
        ]);
        let request = http().post(server.token_url()).header(CONTENT_TYPE, FORM);
        let got = receive(request.body(body)).await.unwrap();
        assert_eq!(got.status, 200);
    }

    // Raw where form-encoding is wanted, and the other way round.
    server.set_client(Client::new("raw", &["a%2Bb"]));
    let machine = [("grant_type", "client_credentials")];
    for (raw, secret, status) in [
        (false, "a%2Bb", 401),
        (false, "a%252Bb", 200),
        (true, "a%2Bb", 200),
        (true, "a%252Bb", 401),
    ] {
        server.configure(|b| b.basic_raw = raw);
        let got = post_as(&server, &basic("raw", secret), &machine).await;
        assert_eq!(got.unwrap().status, status, "{raw} {secret}");
    }
    let seen: Vec<_> = server.requests().iter().map(|r| r.client_auth).collect();
    assert_eq!(seen[..2], [ClientAuth::Basic, ClientAuth::Body]);
    assert_eq!(server.requests()[0].client_id.as_deref(), Some(id));
}

#[tokio::test]
async fn strangers_are_turned_away_and_spend_nothing() {
    let server = start().await;
    server.set_client(Client::new("other", &["other-secret"]));
    server.set_client(Client::new("public", &[]));
    let token = server.issue_refresh_token("read");
    let params = [("grant_type", "refresh_token"), ("refresh_token", &token)];
    for auth in [
        basic("demo", "wrong"),
        basic("nobody", "demo-secret"),
        "Bearer demo".to_owned(),
        "Basic %%%".to_owned(),
        "Basic".to_owned(),
    ] {
        let got = post_as(&server, &auth, &params).await.unwrap();
        assert_eq!(got.refused(), (401, "invalid_client".to_owned()), "{auth}");
        assert!(got.header("www-authenticate").starts_with("Basic realm="));
    }
    let other = basic("other", "other-secret");
    let got = post_as(&server, &other, &params).await.unwrap();
    assert_eq!(got.refused(), invalid_grant());

    let own = server.issue_refresh_token_to("public", "read");
    let request = |grant: &str| {
        let fields = [("grant_type", grant), ("refresh_token", own.as_str())];
        let body = form(&[&fields[..], &[("client_id", "public")]].concat());
        let request = http().post(server.token_url()).header(CONTENT_TYPE, FORM);
        receive(request.body(body))
    };
    assert_eq!(request("refresh_token").await.unwrap().status, 200);
    let got = request("client_credentials").await.unwrap();
    assert_eq!(got.refused(), (400, "unauthorized_client".to_owned()));
    assert_eq!(redeem(&server, &token).await.unwrap().status, 200);
}

#[tokio::test]
async fn malformed_requests_get_the_errors_of_the_rfc() {
    let server = start().await;
    let token = server.issue_refresh_token("read write");
    let refresh = ("grant_type", "refresh_token");
    let rt = ("refresh_token", token.as_str());
    let cases: [(&[(&str, &str)], &str); 8] = [
        (&[], "invalid_request"),
        (&[refresh], "invalid_request"),
        (&[refresh, ("refresh_token", "")], "invalid_request"),
        (&[refresh, rt, rt], "invalid_request"),
        (&[refresh, rt, ("client_secret", "x")], "invalid_request"),
        (&[("grant_type", "password")], "unsupported_grant_type"),
        (&[refresh, ("refresh_token", "rt-none")], "invalid_grant"),
        (&[refresh, rt, ("scope", "read admin")], "invalid_scope"),
    ];
    for (params, error) in cases {
        let got = post(&server, params).await.unwrap();
        assert_eq!(got.refused(), (400, error.to_owned()), "{params:?}");
    }
    let narrow = post(&server, &[refresh, rt, ("scope", "write")]).await;
    assert_eq!(narrow.unwrap().field("scope"), "write");
    assert_eq!(
        server.requests().last().unwrap().scope.as_deref(),
        Some("write")
    );
}

#[tokio::test]
async fn json_bodies_are_for_servers_that_want_them() {
    let server = start().await;
    let token = server.issue_refresh_token("read");
    let body = json!({
        "grant_type": "refresh_token", "refresh_token": token,
        "client_id": "demo", "client_secret": "demo-secret",
    });
    for (accept_json, status) in [(false, 400), (true, 200)] {
        server.configure(|b| b.accept_json = accept_json);
        let request = http().post(server.token_url());
        let request = request.header(CONTENT_TYPE, "application/json");
        let got = receive(request.body(body.to_string())).await.unwrap();
        assert_eq!(got.status, status);
    }
    assert!(server.requests()[1].json);
}

#[tokio::test]
async fn scripted_answers_come_word_for_word_and_spend_nothing() {
    let server = start().await;
    let token = server.issue_refresh_token("read");
    let busy = Answer::html(503).header("Retry-After", "7");
    server.fail_next(Fault::Answer(busy.clone()));
    server.fail_times(
        2,
        &Fault::Answer(Answer::new(200).body("application/json", "{\"acc")),
    );
    server.fail_always(Fault::json(429, &json!({ "ok": false })));

    let got = redeem(&server, &token).await.unwrap();
    assert_eq!((got.status, got.header("retry-after")), (503, "7"));
    assert_eq!(got.header("content-type"), "text/html; charset=utf-8");
    assert_eq!(got.text, busy.body);
    for _ in 0..2 {
        let got = redeem(&server, &token).await.unwrap();
        assert_eq!((got.status, got.text.as_str()), (200, "{\"acc"));
    }
    for _ in 0..3 {
        let got = redeem(&server, &token).await.unwrap();
        assert_eq!((got.status, got.text.as_str()), (429, "{\"ok\":false}"));
    }
    server.clear_faults();
    assert_eq!(redeem(&server, &token).await.unwrap().status, 200);
    let log = server.requests();
    assert!(log[..6].iter().all(|entry| entry.outcome == Outcome::Fault));
    assert_eq!((log[0].fault, log[6].fault), (Some("answer"), None));
    assert_eq!((server.redemptions(&token), server.granted()), (7, 1));
}

#[tokio::test]
async fn a_gateway_may_hide_that_the_token_was_spent() {
    let server = start().await;
    let token = server.issue_refresh_token("read");
    server.fail_next(Fault::AnswerAfterCommit(Answer::html(502)));
    assert_eq!(redeem(&server, &token).await.unwrap().status, 502);
    assert!(!server.is_redeemable(&token));
    assert_eq!(
        redeem(&server, &token).await.unwrap().refused(),
        invalid_grant()
    );
}

#[tokio::test]
async fn answers_can_be_bent_into_any_vendors_shape() {
    let server = start_with(|b| b.rotation = false).await;
    let token = server.issue_refresh_token("read write");
    for (field, value) in [
        ("expires_in", json!("3600")),
        ("expires_in", json!("3600abc")),
        ("expires_in", json!(0)),
        ("scope", json!(["read"])),
        ("scope", json!("read")),
        ("refresh_token", Value::Null),
        ("refresh_token", json!(" ")),
        ("instance_url", json!("https://eu.example")),
    ] {
        server.fail_next(Fault::set(field, value.clone()));
        let got = redeem(&server, &token).await.unwrap();
        assert_eq!((got.status, &got.json()[field]), (200, &value));
    }
    for field in ["token_type", "expires_in"] {
        server.fail_next(Fault::without(field));
        let got = redeem(&server, &token).await.unwrap();
        assert_eq!(got.json().get(field), None);
        assert!(server.is_live(&got.field("access_token")));
    }
    server.fail_next(Fault::edit(|reply| {
        reply.status = 201;
        reply.form = true;
    }));
    let got = redeem(&server, &token).await.unwrap();
    assert_eq!((got.status, got.header("content-type")), (201, FORM));
    let fields: Vec<_> = form_urlencoded::parse(got.text.as_bytes()).collect();
    assert!(fields.contains(&("expires_in".into(), "3600".into())));
    assert!(fields.contains(&("scope".into(), "read write".into())));

    // Refusals too: 403 as Atlassian has it.
    server.fail_always(Fault::edit(|reply| {
        if !reply.granted {
            reply.status = 403;
        }
    }));
    assert_eq!(redeem(&server, "rt-none").await.unwrap().status, 403);
    assert_eq!(redeem(&server, &token).await.unwrap().status, 200);
}

#[tokio::test]
async fn a_connection_dropped_before_the_commit_costs_nothing() {
    let server = start().await;
    let token = server.issue_refresh_token("read");
    server.fail_next(Fault::DropBeforeCommit);
    let error = redeem(&server, &token).await.expect_err("no answer");
    assert!(error.is_request() && !error.is_connect(), "{error:?}");
    assert_eq!(server.requests()[0].outcome, Outcome::Fault);
    assert_eq!(redeem(&server, &token).await.unwrap().status, 200);
}

#[tokio::test]
async fn a_connection_dropped_after_the_commit_costs_the_token() {
    let server = start().await;
    let token = server.issue_refresh_token("read");
    server.fail_next(Fault::DropAfterCommit);
    assert!(redeem(&server, &token).await.is_err());
    let entry = server.requests().remove(0);
    assert_eq!(entry.fault, Some("drop-after-commit"));
    let Outcome::Granted { access_token, .. } = entry.outcome else {
        panic!("not granted: {entry:?}");
    };
    assert!(server.is_live(&access_token));
    // The same token once more is reuse now, and takes the lost access token with it.
    assert_eq!(
        redeem(&server, &token).await.unwrap().refused(),
        invalid_grant()
    );
    assert!(!server.is_live(&access_token));
    assert_eq!(server.max_presentations(), 2);
}

#[tokio::test]
async fn grace_saves_a_token_whose_answer_was_dropped() {
    let server = start_with(|b| b.grace = Duration::from_secs(30)).await;
    let token = server.issue_refresh_token("read");
    server.fail_next(Fault::DropAfterCommit);
    assert!(redeem(&server, &token).await.is_err());
    let got = redeem(&server, &token).await.unwrap();
    assert!(server.is_redeemable(&got.field("refresh_token")));
    assert_eq!(server.live_access_tokens(), 1);
}

#[tokio::test]
async fn an_answer_can_end_in_the_middle_of_its_body() {
    let server = start().await;
    let token = server.issue_refresh_token("read");
    server.fail_next(Fault::CutAfterCommit);
    let request = http().post(server.token_url()).header(CONTENT_TYPE, FORM);
    let params = [("grant_type", "refresh_token"), ("refresh_token", &token)];
    let request = request.header(AUTHORIZATION, basic("demo", "demo-secret"));
    let mut response = within(request.body(form(&params)).send()).await.unwrap();
    assert_eq!(response.status(), 200);
    let mut body = Vec::new();
    let end = loop {
        match within(response.chunk()).await {
            Ok(Some(bytes)) => body.extend_from_slice(&bytes),
            end => break end,
        }
    };
    assert!(end.is_err());
    assert!(!body.is_empty() && body.len() <= 10 && body.starts_with(b"{\"acc"));
    assert!(!server.is_redeemable(&token));
}

#[tokio::test]
async fn answers_can_be_withheld_after_the_commit() {
    let server = start().await;
    let token = server.issue_refresh_token("read");
    server.hold_exchanges();
    let (handle, presented) = (server.handle(), token.clone());
    let exchange = tokio::spawn(async move { redeem(&handle, &presented).await });
    within(server.wait_for_outcomes(1)).await;
    assert!(!server.is_redeemable(&token));
    assert!(!exchange.is_finished());
    server.release_exchanges();
    let got = within(exchange).await.unwrap().unwrap();
    assert!(server.is_redeemable(&got.field("refresh_token")));
    assert_eq!(
        redeem(&server, &got.field("refresh_token"))
            .await
            .unwrap()
            .status,
        200
    );
}

#[tokio::test]
async fn requests_can_be_held_before_the_commit() {
    let server = start().await;
    let token = server.issue_refresh_token("read");
    server.hold_before_commit();
    let (handle, presented) = (server.handle(), token.clone());
    let exchange = tokio::spawn(async move { redeem(&handle, &presented).await });
    within(server.wait_for_requests(1)).await;
    assert_eq!(server.requests()[0].outcome, Outcome::Pending);
    assert!(server.is_redeemable(&token));
    // Closing the gate again at once does not catch those that were let go.
    server.release_exchanges();
    server.hold_before_commit();
    assert_eq!(within(exchange).await.unwrap().unwrap().status, 200);
    server.release_exchanges();
}

#[tokio::test]
async fn a_client_that_leaves_does_not_undo_or_stop_its_request() {
    let server = start().await;
    for before in [true, false] {
        let token = server.issue_refresh_token("read");
        if before {
            server.hold_before_commit();
        } else {
            server.hold_exchanges();
        }
        let seen = server.request_count();
        let (handle, presented) = (server.handle(), token.clone());
        let exchange = tokio::spawn(async move { redeem(&handle, &presented).await });
        within(server.wait_for_requests(seen + 1)).await;
        exchange.abort();
        assert!(within(exchange).await.unwrap_err().is_cancelled());
        server.release_exchanges();
        within(server.wait_for_outcomes(seen + 1)).await;
        assert!(!server.is_redeemable(&token));
    }
    assert_eq!(server.granted(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_at_once_one_wins() {
    let server = start_with(|b| b.reuse = Reuse::RejectOnly).await;
    let token = server.issue_refresh_token("read");
    server.hold_before_commit();
    let mut exchanges = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let (handle, presented) = (server.handle(), token.clone());
        exchanges.spawn(async move { redeem(&handle, &presented).await.unwrap().status });
    }
    within(server.wait_for_requests(20)).await;
    server.release_exchanges();
    let mut statuses = within(exchanges.join_all()).await;
    statuses.sort_unstable();
    assert_eq!(statuses[..2], [200, 400]);
    assert_eq!((server.granted(), server.redemptions(&token)), (1, 20));
    assert_eq!(server.live_access_tokens(), 1);
}

#[tokio::test]
async fn hanging_ends_with_service_and_latency_comes_after_the_commit() {
    let server = start().await;
    let token = server.issue_refresh_token("read");
    server.fail_next(Fault::Hang(Duration::from_millis(60)));
    let begin = Instant::now();
    let got = redeem(&server, &token).await.unwrap();
    assert!(got.status == 200 && begin.elapsed() >= Duration::from_millis(60));

    server.configure(|b| b.latency = Duration::from_secs(3600));
    let (handle, next) = (server.handle(), got.field("refresh_token"));
    let presented = next.clone();
    let exchange = tokio::spawn(async move { redeem(&handle, &presented).await });
    within(server.wait_for_outcomes(2)).await;
    assert!(!server.is_redeemable(&next));
    exchange.abort();

    server.configure(|b| b.latency = Duration::ZERO);
    server.fail_next(Fault::HangAfterCommit(Duration::from_millis(60)));
    let begin = Instant::now();
    machine_token(&server).await;
    assert!(begin.elapsed() >= Duration::from_millis(60));
}

#[tokio::test]
async fn a_stopped_server_refuses_connections_and_keeps_its_memory() {
    let mut server = start().await;
    let url = server.url();
    let one = redeem(&server, &server.issue_refresh_token("read"))
        .await
        .unwrap();
    let next = one.field("refresh_token");

    server.hold_before_commit();
    let (handle, presented) = (server.handle(), next.clone());
    let exchange = tokio::spawn(async move { redeem(&handle, &presented).await });
    within(server.wait_for_requests(2)).await;
    within(server.stop()).await.unwrap();
    server.release_exchanges();
    assert!(within(exchange).await.unwrap().is_err());
    assert_eq!(server.requests()[1].outcome, Outcome::Pending);
    assert!(server.is_redeemable(&next));
    let error = redeem(&server, &next).await.expect_err("no server");
    assert!(error.is_connect(), "{error:?}");

    for _ in 0..2 {
        within(server.restart()).await.unwrap();
        assert_eq!(server.url(), url);
        assert_eq!(try_resource(&server, &one.field("access_token")).await, 200);
    }
    assert_eq!(redeem(&server, &next).await.unwrap().status, 200);
    assert_eq!((server.granted(), server.request_count()), (2, 3));

    let handle = server.handle();
    drop(server);
    let gone = async {
        while redeem(&handle, "rt-none").await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    within(gone).await;
}

#[tokio::test]
async fn consent_can_be_withdrawn() {
    let server = start().await;
    let one = redeem(&server, &server.issue_refresh_token("read"))
        .await
        .unwrap();
    assert!(server.revoke_family_of(&one.field("refresh_token")));
    assert_eq!(try_resource(&server, &one.field("access_token")).await, 401);
    let next = redeem(&server, &one.field("refresh_token")).await.unwrap();
    assert_eq!(next.refused(), invalid_grant());
    assert!(!server.revoke_family_of("rt-none"));
}

async fn revoke(server: &Handle, token: &str, secret: &str) -> reqwest::Result<Got> {
    let request = http().post(server.revoke_url()).header(CONTENT_TYPE, FORM);
    let request = request.header(AUTHORIZATION, basic("demo", secret));
    let params = [("token", token), ("token_type_hint", "refresh_token")];
    receive(request.body(form(&params))).await
}

#[tokio::test]
async fn a_revoked_token_is_dead_at_once_and_an_unknown_one_is_no_error() {
    let server = start().await;
    let one = redeem(&server, &server.issue_refresh_token("read"))
        .await
        .unwrap();
    let (access, refresh) = (one.field("access_token"), one.field("refresh_token"));
    assert_eq!(
        revoke(&server, &refresh, "wrong").await.unwrap().status,
        401
    );
    assert_eq!(try_resource(&server, &access).await, 200);
    for token in [refresh.as_str(), "rt-none"] {
        assert_eq!(
            revoke(&server, token, "demo-secret").await.unwrap().status,
            200
        );
    }
    assert_eq!(try_resource(&server, &access).await, 401);
    assert!(!server.is_redeemable(&refresh));
    let told: Vec<bool> = server.revocations().iter().map(|r| r.revoked).collect();
    assert_eq!(told, [false, true, false]);

    // An access token goes alone.
    let two = machine_token(&server).await.field("access_token");
    let three = machine_token(&server).await.field("access_token");
    revoke(&server, &two, "demo-secret").await.unwrap();
    assert!(!server.is_live(&two) && server.is_live(&three));
}

#[tokio::test]
async fn revocation_fails_as_it_is_told() {
    let server = start().await;
    let token = server.issue_refresh_token("read");
    let busy = Answer::new(503).header("retry-after", "2");
    let unsupported = json!({"error": "unsupported_token_type"});
    server.fail_revocations([
        Fault::Answer(busy),
        Fault::json(400, &unsupported),
        Fault::DropBeforeCommit,
        Fault::Hang(Duration::from_millis(60)),
    ]);
    server.fail_every_revocation(Some(Fault::html(404)));
    let got = revoke(&server, &token, "demo-secret").await.unwrap();
    assert_eq!((got.status, got.header("retry-after")), (503, "2"));
    let got = revoke(&server, &token, "demo-secret").await.unwrap();
    assert_eq!(got.field("error"), "unsupported_token_type");
    assert!(revoke(&server, &token, "demo-secret").await.is_err());
    assert!(server.is_redeemable(&token));
    let begin = Instant::now();
    let got = revoke(&server, &token, "demo-secret").await.unwrap();
    assert!(got.status == 200 && begin.elapsed() >= Duration::from_millis(60));
    assert!(!server.is_redeemable(&token));
    assert_eq!(
        revoke(&server, &token, "demo-secret").await.unwrap().status,
        404
    );
    assert_eq!(server.revocations().len(), 5);
}

#[tokio::test]
async fn the_resource_names_what_is_wrong_with_a_token() {
    let server = start().await;
    let token = machine_token(&server).await.field("access_token");
    for header in ["", "Bearer", "Bearer at-none", "Basic eDp5"] {
        let request = http().get(server.resource_url());
        let got = receive(request.header(AUTHORIZATION, header))
            .await
            .unwrap();
        assert_eq!(got.status, 401);
        let challenge = got.header("www-authenticate");
        assert!(challenge.starts_with("Bearer ") && challenge.contains("invalid_token"));
    }
    let request = http().get(server.resource_url());
    let got = receive(request.header(AUTHORIZATION, format!("bearer {token}"))).await;
    assert_eq!(got.unwrap().json(), json!({ "ok": true, "scope": "jobs" }));
    assert_eq!(server.resource_calls(), (1, 4));
    let log = server.resource_log();
    assert_eq!(log[4].access_token.as_deref(), Some(token.as_str()));
    assert!(log[4].accepted && !log[0].accepted);
}

#[tokio::test]
async fn connections_are_told_apart() {
    let server = start().await;
    let http = http();
    let body = form(&[("grant_type", "client_credentials")]);
    for _ in 0..2 {
        let request = http.post(server.token_url()).header(CONTENT_TYPE, FORM);
        let request = request.header(AUTHORIZATION, basic("demo", "demo-secret"));
        receive(request.body(body.clone())).await.unwrap();
    }
    machine_token(&server).await;
    let seen: Vec<_> = server.requests().iter().map(|r| r.connection).collect();
    assert_eq!(seen, [1, 1, 2]);
}

#[tokio::test]
async fn people_control_it_over_http() {
    let server = start().await;
    let control = |body: Value| {
        let request = http().post(server.url() + "/control");
        receive(request.body(body.to_string()))
    };
    let issued = http().post(server.url() + "/issue?scope=read%20write");
    let token = receive(issued).await.unwrap().field("refresh_token");
    let settings = json!({
        "lifetime": "20s", "grace": "1m", "old_token_survives": true,
        "fail": { "status": 500, "headers": { "Retry-After": "3" }, "times": 1 },
    });
    let got = control(settings).await.unwrap();
    assert_eq!((got.status, &got.json()["queued_faults"]), (200, &json!(1)));
    let got = redeem(&server, &token).await.unwrap();
    assert_eq!((got.status, got.header("retry-after")), (500, "3"));
    let one = redeem(&server, &token).await.unwrap();
    assert_eq!(one.json()["expires_in"], 20);
    assert_eq!(one.field("scope"), "read write");

    control(json!({ "fail": { "drop": "after-commit" } }))
        .await
        .unwrap();
    assert!(redeem(&server, &one.field("refresh_token")).await.is_err());
    control(json!({ "clear": true })).await.unwrap();
    let two = redeem(&server, &one.field("refresh_token")).await.unwrap();
    assert!(server.is_live(&one.field("access_token")));
    control(json!({ "advance": "20s" })).await.unwrap();
    assert_eq!(server.live_access_tokens(), 0);
    let revoke = json!({ "revoke": two.field("refresh_token") });
    assert_eq!(control(revoke).await.unwrap().status, 200);
    assert!(!server.is_redeemable(&two.field("refresh_token")));

    for wrong in [
        json!({ "lifetime": "soon" }),
        json!({ "lifetime": "-1s" }),
        json!({ "fail": { "times": 1 } }),
        json!({ "fail": { "status": 500, "hang": "1s" } }),
        json!({ "revoke": "rt-none" }),
        json!({ "lifetimes": "1s" }),
    ] {
        assert_eq!(control(wrong.clone()).await.unwrap().status, 400, "{wrong}");
    }
    assert_eq!(server.behaviour().lifetime, Duration::from_secs(20));
}

#[tokio::test]
async fn the_log_over_http_holds_no_usable_token() {
    let server = start().await;
    let first = server.issue_refresh_token("read");
    let one = redeem(&server, &first).await.unwrap();
    redeem(&server, "somebody's secret").await.unwrap();
    try_resource(&server, &one.field("access_token")).await;
    let request = http().get(server.url() + "/log");
    let got = receive(request).await.unwrap();
    for secret in [
        first.as_str(),
        &one.field("refresh_token"),
        &one.field("access_token"),
        "somebody",
        "demo-secret",
    ] {
        assert!(!got.text.contains(secret), "{}", got.text);
    }
    let log = got.json();
    assert_eq!((&log["granted"], &log["accepted"]), (&json!(1), &json!(1)));
    let entry = &log["token_requests"][0];
    assert_eq!(entry["presented"], format!("{}…", &first[..11]));
    assert_eq!(entry["outcome"], "granted");
    assert_eq!(log["token_requests"][1]["outcome"], "invalid_grant");
}
