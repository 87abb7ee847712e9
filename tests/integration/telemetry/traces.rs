//! Traces of a real operator, as a collector gets them.

use std::time::Duration;

use serde_json::json;
use tokenward::manager::CredentialManager;

use crate::{
    oauth_server::Fault,
    support::{Collector, Fixture, Manner, Operator, SeenSpan, eventually, text},
};

const HOUR: Duration = Duration::from_secs(3600);

/// So that spans come soon.
const SOON: (&str, &str) = ("OTEL_BSP_SCHEDULE_DELAY", "50");

const TROUBLE: &str = "the collector does not take traces; spans are lost, and nothing else";

fn traced(fixture: &Fixture, collector: &Collector, more: &[&str]) -> Operator {
    let mut arguments = vec!["--otlp-endpoint", &collector.url];
    arguments.extend(more);
    fixture.operator_in(&[SOON], &arguments)
}

/// The root of the span's trace, which comes last.
async fn root(collector: &Collector, span: &SeenSpan) -> SeenSpan {
    let root = |s: &SeenSpan| s.trace == span.trace && s.parent.is_empty();
    collector.span("at the root", root).await
}

fn of(credential: &str, name: &str) -> impl Fn(&SeenSpan) -> bool {
    let (end, name) = (format!("/{credential}"), name.to_owned());
    move |span| span.name == name && span.attributes["credential"].ends_with(&end)
}

/// The names of the threads of a process.
fn threads(operator: &Operator) -> Vec<String> {
    let all = std::fs::read_dir(format!("/proc/{}/task", operator.id())).unwrap();
    all.filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")).ok())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_is_one_trace_of_the_wait_for_holders_the_exchange_and_the_store() {
    let fixture = Fixture::new("traces", HOUR).await;
    let collector = Collector::start().await;
    let seed = fixture.seed("alice").await;
    let variables = [
        SOON,
        ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url.as_str()),
        ("OTEL_EXPORTER_OTLP_HEADERS", "x-key=canary%20header"),
        ("OTEL_SERVICE_NAME", "keeper"),
        (
            "OTEL_RESOURCE_ATTRIBUTES",
            "deployment.environment.name=test",
        ),
    ];
    let operator = fixture.operator_in(&variables, &[]);
    fixture.user("alice", json!({})).await;
    fixture.ready("alice").await;
    let first = fixture.find_secret("alice.grant").await.unwrap();
    let manager = CredentialManager::new(fixture.client.clone(), fixture.namespace.clone());
    let hold = manager.acquire("alice").await.unwrap();
    fixture.ask("alice", "1").await;
    operator.logged("waiting for holders to let go").await;
    hold.release().await;
    fixture.generation("alice", 2).await;

    let persist = collector.span("persist of generation 2", |span| {
        of("alice", "persist")(span) && span.attributes["generation"] == "2"
    });
    let persist = persist.await;
    let reconcile = root(&collector, &persist).await;
    let spans = collector.spans();
    let within = |name: &str| {
        let mut all = spans
            .iter()
            .filter(|s| s.trace == persist.trace && s.name == name);
        let span = all.next().unwrap_or_else(|| panic!("no {name}")).clone();
        assert!(all.next().is_none(), "two of {name}");
        span
    };
    let steps = [within("lock_wait"), within("exchange"), persist];
    assert_eq!(reconcile.name, "reconcile");
    let attempt = &reconcile.attributes["attempt"];
    let credential = format!("{}/alice", fixture.namespace);
    let provider = format!("{}/provider", fixture.namespace);
    for span in steps.iter().chain([&reconcile]) {
        assert_eq!(span.attributes["credential"], credential, "{span:?}");
        assert_eq!(span.attributes["provider"], provider, "{span:?}");
        assert_eq!(&span.attributes["attempt"], attempt, "{span:?}");
        assert_eq!(span.attributes["outcome"], "success", "{span:?}");
        assert!(!span.failed, "{span:?}");
        assert_eq!(span.resource["service.name"], "keeper");
        assert_eq!(span.resource["deployment.environment.name"], "test");
    }
    for step in &steps {
        assert_eq!(step.parent, reconcile.id, "{step:?}");
        assert!(reconcile.start <= step.start && step.end <= reconcile.end);
    }
    assert!(steps[0].end <= steps[1].start && steps[1].end <= steps[2].start);
    assert_eq!(reconcile.attributes["decision"], "refresh");
    assert_eq!(reconcile.attributes["generation"], "2");

    // The log is joined to it.
    let refreshed =
        |line: &serde_json::Value| line["message"] == "token refreshed" && line["generation"] == 2;
    let lines = operator.lines();
    let line = lines.iter().find(|line| refreshed(line)).unwrap();
    assert_eq!(line["trace_id"], reconcile.trace.as_str());
    assert_eq!(line["attempt"], attempt.as_str());

    // What is secret is not in it.
    let requests = collector.requests();
    assert!(
        requests
            .iter()
            .all(|headers| headers["x-key"] == "canary header")
    );
    let second = fixture.find_secret("alice.grant").await.unwrap();
    let mut secrets = vec![seed, "canary".to_owned(), "demo-secret".to_owned()];
    for grant in [&first, &second] {
        secrets.extend(["access_token", "refresh_token"].map(|key| text(grant, key)));
    }
    let sent = collector.text();
    assert!(sent.contains("alice"));
    for secret in secrets {
        assert!(!sent.contains(&secret), "{secret}");
        assert!(!operator.log().contains(&secret), "{secret}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_that_failed_is_a_trace_that_failed_whatever_the_level_of_the_log() {
    let fixture = Fixture::new("tracefail", HOUR).await;
    let collector = Collector::start().await;
    let operator = traced(
        &fixture,
        &collector,
        &["--log-level", "tokenward::refresh=warn"],
    );
    fixture.oauth.fail_always(Fault::html(500));
    fixture.machine("ci", json!({})).await;
    let exchange = collector.span("exchange", of("ci", "exchange")).await;
    let reconcile = root(&collector, &exchange).await;
    for span in [&exchange, &reconcile] {
        assert!(span.failed, "{span:?}");
        assert_eq!(span.attributes["outcome"], "transient");
        assert_eq!(span.attributes["reason"], "ProviderError");
    }
    // A level that hides what is well does not hide whom a line is about.
    let line = operator.logged("token not obtained").await;
    assert_eq!(line["credential"], format!("{}/ci", fixture.namespace));
    assert_eq!(line["attempt"], exchange.attributes["attempt"].as_str());
    assert_eq!(line["trace_id"], exchange.trace.as_str());
    assert!(operator.lines().iter().all(|line| line["level"] != "INFO"));
    fixture.oauth.clear_faults();
    fixture.ready("ci").await;
    let persist = collector.span("persist", of("ci", "persist")).await;
    assert_eq!(persist.attributes["generation"], "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_copied_is_persisted_too() {
    let fixture = Fixture::new("tracecopy", HOUR).await;
    let collector = Collector::start().await;
    fixture.secret("in", &[("k", "canary-key")]).await;
    let _operator = traced(&fixture, &collector, &[]);
    let spec = json!({"apiKey": {"secretKeyRef": {"name": "in", "key": "k"}}});
    fixture.create("shop", spec).await;
    fixture.ready("shop").await;
    let persist = collector.span("persist", of("shop", "persist")).await;
    assert_eq!(persist.attributes["generation"], "1");
    assert!(!persist.attributes.contains_key("provider"));
    assert_eq!(root(&collector, &persist).await.name, "reconcile");
    assert!(!collector.text().contains("canary-key"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_hangs_holds_up_neither_refreshes_nor_the_end() {
    let fixture = Fixture::new("tracehang", HOUR).await;
    let collector = Collector::start().await;
    collector.becomes(Manner::Hangs);
    let mut operator = traced(&fixture, &collector, &[]);
    fixture.machine("ci", json!({})).await;
    fixture.ready("ci").await;
    eventually("a request that hangs", async || {
        (!collector.requests().is_empty()).then_some(())
    })
    .await;
    for generation in 2..5 {
        fixture.ask("ci", &generation.to_string()).await;
        fixture.generation("ci", generation).await;
    }
    operator.signal("TERM");
    assert!(operator.end().await.success());
    let lost = "the last spans are lost: the collector did not take them in time";
    operator.logged(lost).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_refuses_is_told_of_once_and_followed_nowhere() {
    let fixture = Fixture::new("tracerefuse", HOUR).await;
    let (collector, elsewhere) = (Collector::start().await, Collector::start().await);
    collector.becomes(Manner::Redirects(format!("{}/v1/traces", elsewhere.url)));
    let mut operator = traced(&fixture, &collector, &[]);
    fixture.machine("ci", json!({})).await;
    fixture.ready("ci").await;
    let line = operator.logged(TROUBLE).await;
    assert_eq!(line["error"], "it answered 307");
    collector.becomes(Manner::Answers(400));
    for generation in 2..5 {
        let so_far = collector.requests().len();
        fixture.ask("ci", &generation.to_string()).await;
        fixture.generation("ci", generation).await;
        eventually("another request", async || {
            (collector.requests().len() > so_far).then_some(())
        })
        .await;
    }
    collector.becomes(Manner::Takes);
    fixture.ask("ci", "last").await;
    operator.logged("the collector takes traces again").await;
    operator.signal("TERM");
    assert!(operator.end().await.success());
    let lines = operator.lines();
    assert_eq!(lines.iter().filter(|l| l["message"] == TROUBLE).count(), 1);
    assert!(elsewhere.requests().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_spans_are_sent_at_the_end() {
    let fixture = Fixture::new("tracelast", HOUR).await;
    let collector = Collector::start().await;
    // Later than the test waits.
    let variables = [("OTEL_BSP_SCHEDULE_DELAY", "3600000")];
    let arguments = ["--otlp-endpoint", &collector.url];
    let mut operator = fixture.operator_in(&variables, &arguments);
    fixture.machine("ci", json!({})).await;
    fixture.ready("ci").await;
    operator.signal("TERM");
    assert!(operator.end().await.success());
    assert!(collector.spans().iter().any(of("ci", "persist")));
}

#[tokio::test(flavor = "multi_thread")]
async fn unless_traces_are_asked_for_nothing_is_made_or_sent() {
    let fixture = Fixture::new("traceless", HOUR).await;
    let collector = Collector::start().await;
    let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url.as_str());
    let exporter = |operator: &Operator| {
        let all = threads(operator);
        all.iter().any(|name| name.starts_with("OpenTelemetry"))
    };
    let refreshed = async |name: &str, operator: &mut Operator| {
        fixture.machine(name, json!({})).await;
        fixture.ready(name).await;
        let exports = exporter(operator);
        operator.signal("TERM");
        assert!(operator.end().await.success());
        let lines = operator.lines();
        assert!(lines.iter().all(|line| line.get("trace_id").is_none()));
        exports
    };
    let mut operator = fixture.operator();
    assert!(!refreshed("off", &mut operator).await);
    let variables = [SOON, endpoint, ("OTEL_SDK_DISABLED", "true")];
    let mut operator = fixture.operator_in(&variables, &[]);
    assert!(!refreshed("disabled", &mut operator).await);
    let mut operator = traced(&fixture, &collector, &["--otlp-sample-ratio", "0"]);
    assert!(refreshed("none", &mut operator).await);
    let sampler = [
        SOON,
        endpoint,
        ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"),
        ("OTEL_TRACES_SAMPLER_ARG", "0"),
    ];
    let mut operator = fixture.operator_in(&sampler, &[]);
    assert!(refreshed("sampled", &mut operator).await);
    assert!(collector.requests().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_or_a_share_that_makes_no_sense_ends_the_start_with_one_error() {
    const PROTOCOL: &str = "OTEL_EXPORTER_OTLP_PROTOCOL";
    let fixture = Fixture::bare("tracebad", HOUR).await;
    let controller = |arguments: &[&str]| fixture.tokenward(&[&["controller"], arguments].concat());
    for (call, code, words) in [
        (
            controller(&["--otlp-endpoint", "collector:4318"]),
            1,
            "--otlp-endpoint is no http or https URL such as http://",
        ),
        (
            controller(&["--otlp-endpoint", "http://me:canary@collector"]),
            1,
            "set a header for that, by OTEL_EXPORTER_OTLP_HEADERS",
        ),
        (
            controller(&["--otlp-endpoint", "http://127.0.0.1:1"]).env(PROTOCOL, "grpc"),
            1,
            "OTEL_EXPORTER_OTLP_PROTOCOL is \"grpc\"",
        ),
        (
            controller(&["--otlp-sample-ratio", "2"]),
            2,
            "it must be from 0 to 1",
        ),
    ] {
        let ended = call.end().await;
        assert_eq!(ended.code, code, "{ended:?}");
        assert!(ended.err.contains(words), "{ended:?}");
        assert!(code == 2 || ended.err.lines().count() == 1, "{ended:?}");
        assert!(!ended.err.contains("canary"), "{ended:?}");
    }
}
