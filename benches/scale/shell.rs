//! What people do without an operator: a loop of curl and kubectl, and the operator beside it at the same work.
//!
//! Of both only what is done for Secrets that are there, or are made by the way, is counted: the operator makes its
//! credentials before. What kubectl asks for to know the kinds of objects concerns no namespace, and is not counted.

use std::{collections::HashMap, time::Duration};

use futures::{StreamExt, stream};
use serde_json::json;

use crate::{
    oauth_server::TokenRequest,
    population::LATENCY,
    process,
    quantity::{Quantity, Unit},
    report::Line,
    support::{Audit, Fixture, Operator, call, is_over, kubectl_program, within},
    usage::{Work, number},
};

/// How many credentials, of grant ClientCredentials.
pub const COUNT: usize = 200;

/// How long a token lives.
const LIFETIME: Duration = Duration::from_secs(60);

/// How many refreshes of each are measured.
const ROUNDS: usize = 2;

/// The clock of the operator that finds all of them due at once.
const AHEAD: i64 = 60;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/scale/shell.sh");

/// Requests to the API server.
struct Asked {
    reads: usize,
    writes: usize,
}

/// What the work came to.
struct Figures {
    /// While there is something to do.
    per_second: f64,
    processor: Duration,
    asked: Asked,
    /// How long tokens were expired before the next was granted, of all credentials. It is stored a little later.
    expired: Duration,
}

pub async fn measure(count: usize) -> Vec<Line> {
    let theirs = by_shell(count).await;
    let ours = by_operator(count).await;
    let refreshes = number(count * ROUNDS);
    let line = |what: &str, figure: &dyn Fn(&Figures) -> Quantity| {
        let measure = format!("{count} tokens of {LIFETIME:?}: {what}");
        Line::new(measure, figure(&ours)).beside("curl and kubectl, 2 at a time", figure(&theirs))
    };
    let each = |all: f64, unit| Quantity::new(all / refreshes, unit);
    vec![
        line("refreshes", &|f| {
            Quantity::new(f.per_second, Unit::PerSecond)
        }),
        line("processor time of a refresh", &|f| {
            each(f.processor.as_secs_f64() * 1000.0, Unit::Milliseconds)
        }),
        line("writes of a refresh", &|f| {
            each(number(f.asked.writes), Unit::Writes)
        }),
        line("reads of a refresh", &|f| {
            each(number(f.asked.reads), Unit::Requests)
        }),
        line("expired time of a credential", &|f| {
            Quantity::from(f.expired.div_f64(number(count)))
        }),
    ]
}

async fn fixture(name: &str) -> Fixture {
    let fixture = Fixture::new(name, LIFETIME).await;
    fixture
        .oauth
        .configure(|behaviour| behaviour.latency = LATENCY);
    fixture
}

/// The loop, which begins anew after half of a token's life, or as soon as it is through.
async fn by_shell(count: usize) -> Figures {
    let fixture = fixture("shell").await;
    let audit = fixture.audit_of("kubectl/");
    let before = process::ended_children(std::process::id());
    let (url, namespace) = (fixture.oauth.token_url(), fixture.namespace.as_str());
    let numbers = [count, ROUNDS].map(|n| n.to_string());
    let interval = (LIFETIME / 2).as_secs().to_string();
    let arguments = [SCRIPT, &url, namespace, &numbers[0], &numbers[1], &interval];
    let script = call("/bin/sh", &arguments)
        .env("CLIENT_SECRET", "demo-secret")
        .env("KUBECTL", kubectl_program())
        .start();
    let ended = async || is_over(script.pid()).then_some(());
    within(Duration::from_secs(600), "the script's end", ended).await;
    let end = script.end().await;
    assert_eq!((end.code, end.err.as_str()), (0, ""));
    let processor = process::ended_children(std::process::id()).saturating_sub(before);
    let requests = fixture.oauth.requests();
    let rounds = requests.chunks(count).map(span);
    let busy: Duration = rounds.sum();
    Figures {
        per_second: number(count * ROUNDS) / busy.as_secs_f64(),
        processor,
        expired: expired(&requests),
        asked: asked(&audit),
    }
}

/// An operator that refreshes each when it is due; and one that finds all of them due at once, to see how fast it is.
async fn by_operator(count: usize) -> Figures {
    let fixture = fixture("no-shell").await;
    let operator = fixture.operator_with(&["--log-level", "info"]);
    let all = stream::iter(0..count).map(async |number| {
        let name = format!("c{number}");
        let scopes = json!({"oauth2": {"scopes": [name]}});
        fixture.machine(&name, scopes).await;
    });
    all.buffer_unordered(32).collect::<()>().await;
    granted(&fixture, count).await;
    let (audit, work) = (fixture.audit(), Work::of(&operator));
    granted(&fixture, count * (1 + ROUNDS)).await;
    let [processor, _, _] = work.used();
    let asked = asked(&audit);
    end(operator).await;
    let requests = fixture.oauth.requests();
    let operator = fixture.operator_ahead(AHEAD, &["--log-level", "info"]);
    granted(&fixture, requests.len() + count).await;
    let at_once = span(&fixture.oauth.requests()[requests.len()..][..count]);
    end(operator).await;
    Figures {
        per_second: number(count) / at_once.as_secs_f64(),
        processor,
        expired: expired(&requests),
        asked,
    }
}

async fn granted(fixture: &Fixture, tokens: usize) {
    let granted = async || (fixture.oauth.granted() >= tokens).then_some(());
    within(Duration::from_secs(300), "tokens", granted).await;
}

async fn end(mut operator: Operator) {
    operator.signal("TERM");
    assert!(operator.end().await.success());
}

fn asked(audit: &Audit) -> Asked {
    let writes = audit.writes().len();
    Asked {
        reads: audit.requests().len() - writes,
        writes,
    }
}

/// From the first of these to the last.
fn span(requests: &[TokenRequest]) -> Duration {
    let (first, last) = (&requests[0], &requests[requests.len() - 1]);
    last.at.duration_since(first.at).try_into().unwrap()
}

/// How long tokens were expired before the next one was granted, of all together.
fn expired(requests: &[TokenRequest]) -> Duration {
    let mut before = HashMap::new();
    let expired = requests.iter().map(|request| {
        let Some(before) = before.insert(&request.scope, request.at) else {
            return Duration::ZERO;
        };
        let between = Duration::try_from(request.at.duration_since(before)).unwrap();
        between.saturating_sub(LIFETIME)
    });
    expired.sum()
}
