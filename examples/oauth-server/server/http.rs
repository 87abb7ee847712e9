//! The endpoints.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::connect_info::IntoMakeServiceWithConnectInfo;
use axum::extract::{ConnectInfo, Query, State};
use axum::http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, Response, StatusCode, Uri};
use axum::response::{IntoResponse, Json};
use axum::routing::{get, post};
use serde::Deserialize;
use serde_json::{Value, json};

use super::behaviour::{Behaviour, OldToken};
use super::connection::Connection;
use super::fault::{Answer, Fault};
use super::handle::{Handle, Held};
use super::log::{ResourceCall, TokenRequest};
use super::request::Presented;

pub fn router(handle: Handle) -> IntoMakeServiceWithConnectInfo<Router, Connection> {
    Router::new()
        .route("/token", post(token))
        .route("/{tenant}/token", post(token))
        .route("/app/installations/{number}/access_tokens", post(token))
        .route("/revoke", post(revoke))
        .route("/resource", get(resource))
        .route("/issue", post(issue))
        .route("/log", get(log))
        .route("/control", post(control))
        .with_state(handle)
        .into_make_service_with_connect_info()
}

/// A token request runs to its end even when its client leaves, as it does at a real provider.
async fn token(
    State(handle): State<Handle>,
    ConnectInfo(connection): ConnectInfo<Connection>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response<Body> {
    let on = connection.clone();
    let task = tokio::spawn(async move {
        tokio::select! {
            biased;
            () = on.broken() => None,
            answer = exchange(&handle, &on, uri.path(), headers, &body) => answer,
        }
    });
    task.await.ok().flatten().unwrap_or_else(|| {
        connection.break_now();
        Response::new(Body::empty())
    })
}

/// None closes the connection without an answer.
async fn exchange(
    handle: &Handle,
    connection: &Connection,
    path: &str,
    headers: HeaderMap,
    body: &[u8],
) -> Option<Response<Body>> {
    let request = Presented::read(path, &headers, body);
    let (number, fault) = handle.arrive(connection, headers, &request)?;
    handle.pass(Held::BeforeCommit).await;
    let answer = match &fault {
        Some(Fault::DropBeforeCommit) => {
            handle.fault_instead(number);
            return None;
        }
        Some(Fault::Answer(answer)) => {
            handle.fault_instead(number);
            Some(answer)
        }
        Some(Fault::Hang(duration)) => {
            tokio::time::sleep(*duration).await;
            None
        }
        _ => None,
    };
    let reply = match answer {
        Some(_) => None,
        None => Some(handle.commit(number, connection, &request)?),
    };
    handle.pass(Held::AfterCommit).await;
    let latency = handle.behaviour().latency;
    if !latency.is_zero() {
        tokio::time::sleep(latency).await;
    }
    let Some(mut reply) = reply else {
        return answer.cloned().map(Answer::into_response);
    };
    match fault {
        Some(Fault::DropAfterCommit) => return None,
        Some(Fault::CutAfterCommit) => connection.cut_next_answer(),
        Some(Fault::AnswerAfterCommit(answer)) => return Some(answer.into_response()),
        Some(Fault::HangAfterCommit(duration)) => tokio::time::sleep(duration).await,
        Some(Fault::Edit(edit)) => edit(&mut reply),
        _ => {}
    }
    Some(reply.into_response())
}

/// Revocation (RFC 7009). It meets faults of its own.
async fn revoke(
    State(handle): State<Handle>,
    ConnectInfo(connection): ConnectInfo<Connection>,
    headers: HeaderMap,
    body: Bytes,
) -> Response<Body> {
    let request = Presented::read("/revoke", &headers, &body);
    let (number, fault) = handle.arrive_to_revoke(&request);
    match fault {
        Some(Fault::Answer(answer)) => return answer.into_response(),
        Some(Fault::DropBeforeCommit) => {
            connection.break_now();
            return Response::new(Body::empty());
        }
        Some(Fault::Hang(duration)) => tokio::time::sleep(duration).await,
        _ => {}
    }
    let reply = handle.revoke(number, &request);
    match fault {
        Some(Fault::AnswerAfterCommit(answer)) => answer.into_response(),
        Some(Fault::DropAfterCommit) => {
            connection.break_now();
            Response::new(Body::empty())
        }
        Some(Fault::HangAfterCommit(duration)) => {
            tokio::time::sleep(duration).await;
            reply
        }
        _ => reply,
    }
}

async fn resource(State(handle): State<Handle>, headers: HeaderMap) -> Response<Body> {
    let header = headers.get(AUTHORIZATION).and_then(|v| v.to_str().ok());
    let parts = header.and_then(|value| value.split_once(' '));
    let token = parts.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    if let Some(scope) = handle.use_token(token.map(|(_, token)| token)) {
        return Json(json!({ "ok": true, "scope": scope })).into_response();
    }
    let challenge = "Bearer realm=\"oauth-server\", error=\"invalid_token\"";
    let headers = [(WWW_AUTHENTICATE, challenge)];
    let body = Json(json!({ "ok": false, "error": "invalid_token" }));
    (StatusCode::UNAUTHORIZED, headers, body).into_response()
}

#[derive(Deserialize)]
struct Issue {
    client_id: Option<String>,
    #[serde(default)]
    scope: String,
}

async fn issue(State(handle): State<Handle>, Query(issue): Query<Issue>) -> Json<Value> {
    let refresh_token = match issue.client_id {
        Some(client) => handle.issue_refresh_token_to(&client, &issue.scope),
        None => handle.issue_refresh_token(&issue.scope),
    };
    Json(json!({ "refresh_token": refresh_token, "scope": issue.scope }))
}

async fn log(State(handle): State<Handle>) -> Json<Value> {
    let (accepted, refused) = handle.resource_calls();
    let requests: Vec<Value> = handle.requests().iter().map(TokenRequest::public).collect();
    let calls: Vec<Value> = handle
        .resource_log()
        .iter()
        .map(ResourceCall::public)
        .collect();
    Json(json!({
        "granted": handle.granted(),
        "max_presentations": handle.max_presentations(),
        "token_requests": requests,
        "accepted": accepted,
        "refused": refused,
        "resource_calls": calls,
    }))
}

/// A duration such as `20s`.
#[derive(Deserialize)]
#[serde(try_from = "String")]
struct Span(Duration);

impl TryFrom<String> for Span {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        super::duration(&text).map(Self)
    }
}

/// What `POST /control` takes; whatever is left out stays as it is.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Control {
    lifetime: Option<Span>,
    latency: Option<Span>,
    grace: Option<Span>,
    rotation: Option<bool>,
    old_token_survives: Option<bool>,
    /// Lets time pass for tokens.
    advance: Option<Span>,
    /// `before-commit`, `after-commit`, or `none` to release.
    hold: Option<Hold>,
    /// Takes away the faults of earlier calls.
    #[serde(default)]
    clear: bool,
    fail: Option<Fail>,
    /// A token whose authorization ends.
    revoke: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Hold {
    BeforeCommit,
    AfterCommit,
    None,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Moment {
    BeforeCommit,
    AfterCommit,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fail {
    /// Until cleared, if left out.
    times: Option<usize>,
    status: Option<u16>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default)]
    body: String,
    drop: Option<Moment>,
    hang: Option<Span>,
}

impl Fail {
    fn fault(self) -> Result<Fault, &'static str> {
        match (self.status, self.drop, self.hang) {
            (Some(status), None, None) => Ok(Fault::Answer(Answer {
                status,
                headers: self.headers.into_iter().collect(),
                body: self.body,
            })),
            (None, Some(Moment::BeforeCommit), None) => Ok(Fault::DropBeforeCommit),
            (None, Some(Moment::AfterCommit), None) => Ok(Fault::DropAfterCommit),
            (None, None, Some(span)) => Ok(Fault::Hang(span.0)),
            _ => Err("fail takes exactly one of status, drop and hang"),
        }
    }
}

impl Control {
    fn configure(&self, behaviour: &mut Behaviour) {
        let set = |to: &mut Duration, from: &Option<Span>| {
            if let Some(span) = from {
                *to = span.0;
            }
        };
        set(&mut behaviour.lifetime, &self.lifetime);
        set(&mut behaviour.latency, &self.latency);
        set(&mut behaviour.grace, &self.grace);
        behaviour.rotation = self.rotation.unwrap_or(behaviour.rotation);
        behaviour.on_refresh = match self.old_token_survives {
            Some(true) => OldToken::Survives,
            Some(false) => OldToken::Dies,
            None => behaviour.on_refresh,
        };
    }
}

async fn control(State(handle): State<Handle>, body: Bytes) -> Response<Body> {
    let bad = |text: String| (StatusCode::BAD_REQUEST, text + "\n").into_response();
    let mut control: Control = match serde_json::from_slice(&body) {
        Ok(control) => control,
        Err(error) => return bad(error.to_string()),
    };
    let times = control.fail.as_ref().and_then(|fail| fail.times);
    let fault = match control.fail.take().map(Fail::fault).transpose() {
        Ok(fault) => fault,
        Err(text) => return bad(text.to_owned()),
    };
    if let Some(token) = &control.revoke
        && !handle.revoke_family_of(token)
    {
        return bad("revoke: no such token".to_owned());
    }
    handle.configure(|behaviour| control.configure(behaviour));
    if let Some(span) = &control.advance {
        handle.advance(span.0);
    }
    if control.clear {
        handle.clear_faults();
    }
    match (fault, times) {
        (Some(fault), Some(times)) => handle.fail_times(times, &fault),
        (Some(fault), None) => handle.fail_always(fault),
        (None, _) => {}
    }
    match control.hold {
        Some(Hold::BeforeCommit) => handle.hold(Held::BeforeCommit),
        Some(Hold::AfterCommit) => handle.hold(Held::AfterCommit),
        Some(Hold::None) => handle.release_exchanges(),
        None => {}
    }
    let now = handle.behaviour();
    Json(json!({
        "lifetime": format!("{:?}", now.lifetime),
        "latency": format!("{:?}", now.latency),
        "grace": format!("{:?}", now.grace),
        "rotation": now.rotation,
        "old_token_survives": now.on_refresh == OldToken::Survives,
        "queued_faults": handle.queued_faults(),
    }))
    .into_response()
}
