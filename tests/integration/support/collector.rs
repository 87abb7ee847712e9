//! A collector of traces, as far as an exporter sees one: `POST /v1/traces` with protobuf.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode, header::LOCATION},
    response::{IntoResponse, Response},
    routing::post,
};
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{AnyValue, KeyValue, any_value::Value},
};
use prost::Message;
use tokio::{net::TcpListener, task::JoinHandle};

use super::eventually;

/// What it does with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Manner {
    /// Takes it.
    Takes,
    /// Never answers.
    Hangs,
    /// Answers with this status.
    Answers(u16),
    /// Sends it on to this URL.
    Redirects(String),
}

/// A span that it took.
#[derive(Clone, Debug)]
pub struct SeenSpan {
    pub name: String,
    pub trace: String,
    pub id: String,
    /// Empty at the root.
    pub parent: String,
    /// In nanoseconds.
    pub start: u64,
    pub end: u64,
    pub attributes: BTreeMap<String, String>,
    pub failed: bool,
    /// Of the process.
    pub resource: BTreeMap<String, String>,
}

#[derive(Default)]
struct Seen {
    manner: Option<Manner>,
    headers: Vec<HeaderMap>,
    spans: Vec<SeenSpan>,
    text: String,
}

/// A running collector.
pub struct Collector {
    pub url: String,
    seen: Arc<Mutex<Seen>>,
    server: JoinHandle<()>,
}

impl Collector {
    /// Starts one that takes everything.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::<Mutex<Seen>>::default();
        let router = Router::new().route("/v1/traces", post(take));
        let router = router.with_state(Arc::clone(&seen));
        let server = async { axum::serve(listener, router).await.unwrap() };
        Self {
            url,
            seen,
            server: tokio::spawn(server),
        }
    }

    /// From now on it does this with requests.
    pub fn becomes(&self, manner: Manner) {
        self.seen.lock().unwrap().manner = Some(manner);
    }

    /// The headers of each request.
    pub fn requests(&self) -> Vec<HeaderMap> {
        self.seen.lock().unwrap().headers.clone()
    }

    pub fn spans(&self) -> Vec<SeenSpan> {
        self.seen.lock().unwrap().spans.clone()
    }

    /// Everything that it was sent.
    pub fn text(&self) -> String {
        self.seen.lock().unwrap().text.clone()
    }

    /// The first span that is as `wanted`, once there is one.
    pub async fn span(&self, what: &str, wanted: impl Fn(&SeenSpan) -> bool) -> SeenSpan {
        let what = format!("span {what}");
        eventually(&what, async || self.spans().into_iter().find(&wanted)).await
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.server.abort();
        if std::thread::panicking() {
            eprintln!("--- the collector's spans ---\n{:#?}", self.spans());
        }
    }
}

async fn take(State(seen): State<Arc<Mutex<Seen>>>, headers: HeaderMap, body: Bytes) -> Response {
    let manner = {
        let mut seen = seen.lock().unwrap();
        seen.headers.push(headers);
        seen.manner.clone().unwrap_or(Manner::Takes)
    };
    match manner {
        Manner::Takes => {}
        Manner::Hangs => std::future::pending().await,
        Manner::Answers(status) => return StatusCode::from_u16(status).unwrap().into_response(),
        Manner::Redirects(to) => {
            return (StatusCode::TEMPORARY_REDIRECT, [(LOCATION, to)]).into_response();
        }
    }
    let request = ExportTraceServiceRequest::decode(body).unwrap();
    let mut seen = seen.lock().unwrap();
    writeln!(seen.text, "{request:?}").unwrap();
    for of_resource in request.resource_spans {
        let resource = attributes(&of_resource.resource.unwrap_or_default().attributes);
        let spans = of_resource.scope_spans.into_iter();
        seen.spans
            .extend(spans.flat_map(|scope| scope.spans).map(|span| SeenSpan {
                name: span.name,
                trace: hex(&span.trace_id),
                id: hex(&span.span_id),
                parent: hex(&span.parent_span_id),
                start: span.start_time_unix_nano,
                end: span.end_time_unix_nano,
                attributes: attributes(&span.attributes),
                // STATUS_CODE_ERROR
                failed: span.status.is_some_and(|status| status.code == 2),
                resource: resource.clone(),
            }));
    }
    StatusCode::OK.into_response()
}

fn attributes(pairs: &[KeyValue]) -> BTreeMap<String, String> {
    let pairs = pairs.iter();
    pairs
        .map(|pair| (pair.key.clone(), text(pair.value.as_ref())))
        .collect()
}

fn text(value: Option<&AnyValue>) -> String {
    match value.and_then(|value| value.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        other => format!("{other:?}"),
    }
}

fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}
