//! What the operator asks of the API server, counted from the server's audit log.

use std::time::Duration;

use axum::http::Method;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use tokenward::api::IntegrationCredential;

use crate::support::{Calls, Fault, Fixture, Operator, eventually};

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test(flavor = "multi_thread")]
async fn an_uncontended_refresh_makes_five_writes_and_three_reads_and_without_a_grant_four_and_two()
{
    let fixture = Fixture::new("writes", HOUR).await;
    fixture.seed("alice").await;
    let _operator = fixture.operator();
    fixture.user("alice", json!({})).await;
    fixture.machine("ci", json!({})).await;
    fixture.ready("alice").await;
    fixture.ready("ci").await;
    // The first events may follow the status.
    fixture.told(3).await;
    fixture.provider_told().await;

    let audit = fixture.audit();
    let names = ["alice", "ci"];
    for name in names {
        fixture.ask(name, "1").await;
    }
    for name in names {
        fixture.generation(name, 2).await;
    }
    // A status can be seen before its line is written.
    let requests = eventually("both in the log", async || {
        let requests = audit.requests();
        let told =
            |name: &str| requests.contains(&format!("patch integrationcredentials/status {name}"));
        names.into_iter().all(told).then_some(requests)
    })
    .await;
    let of = |name: &str| {
        let mut of = requests.clone();
        of.retain(|request| request.split([' ', '.']).any(|word| word == name));
        of
    };
    assert_eq!(
        of("alice"),
        [
            "get leases alice.gate",
            "update leases alice.gate",
            "get secrets alice.grant",
            "update secrets alice.grant",
            "get secrets alice",
            "update secrets alice",
            "update leases alice.gate",
            "patch integrationcredentials/status alice",
        ]
    );
    assert_eq!(
        of("ci"),
        [
            "get leases ci.gate",
            "update leases ci.gate",
            "get secrets ci",
            "update secrets ci",
            "update leases ci.gate",
            "patch integrationcredentials/status ci",
        ]
    );
    let all = [of("alice").len(), of("ci").len()].iter().sum::<usize>();
    assert_eq!(requests.len(), all, "{requests:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_that_needs_nothing_causes_no_request() {
    let fixture = Fixture::new("idle", HOUR).await;
    fixture.seed("alice").await;
    let operator = fixture.operator();
    fixture.user("alice", json!({})).await;
    fixture.machine("ci", json!({})).await;
    fixture.ready("alice").await;
    fixture.ready("ci").await;
    fixture.told(3).await;
    fixture.provider_told().await;
    quiet(&operator, 0).await;

    let audit = fixture.audit();
    let before = waits(&operator);
    let label = Patch::Merge(json!({"metadata": {"labels": {"touched": "yes"}}}));
    for name in ["alice", "ci"] {
        let params = PatchParams::default();
        fixture
            .credentials()
            .patch(name, &params, &label)
            .await
            .unwrap();
    }
    quiet(&operator, before + 2).await;
    assert_eq!(audit.requests(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_with_nothing_due_writes_nothing_and_reads_no_object() {
    let fixture = Fixture::new("restart", HOUR).await;
    fixture.seed("alice").await;
    let mut operator = fixture.operator();
    fixture.user("alice", json!({})).await;
    fixture.machine("ci", json!({})).await;
    fixture.ready("alice").await;
    fixture.ready("ci").await;
    fixture.told(3).await;
    fixture.provider_told().await;
    operator.kill();

    let audit = fixture.audit();
    let operator = fixture.operator();
    quiet(&operator, 2).await;
    // Whether the definitions are there is asked by a list of one object. Watches alone bring the rest.
    assert_eq!(
        audit.requests(),
        ["list integrationcredentials ", "list oauthproviders "]
    );
    assert_eq!(fixture.oauth.request_count(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_whose_watches_begin_with_no_lists_is_asked_for_lists() {
    let fixture = Fixture::new("pages", HOUR).await;
    fixture.seed("alice").await;
    fixture.user("alice", json!({})).await;
    let proxy = fixture.proxy().await;
    // As one before 1.34 does.
    let refused = proxy.inject(Calls::streams(), Fault::Answer(422));
    let _operator = fixture.operator_through(&proxy, &[]);
    fixture.ready("alice").await;
    // Each is tried once, and the Secrets of clients are watched beside those of the namespace.
    assert_eq!(refused.hits(), 6);
    for resource in [
        "integrationcredentials",
        "oauthproviders",
        "clusteroauthproviders",
        "leases",
        "secrets",
    ] {
        let lists = Calls::to(Method::GET, resource).named("");
        assert!(proxy.count(&lists) > 0, "{resource}");
    }
    // Their changes are seen as well.
    fixture.ask("alice", "1").await;
    fixture.generation("alice", 2).await;
}

/// How often the operator has looked at a credential and found nothing to do.
fn waits(operator: &Operator) -> usize {
    let log = operator.log();
    log.lines()
        .filter(|line| line.contains("\"planned\"") && line.contains("\"decision\":\"wait\""))
        .count()
}

/// Waits until it has done so this often.
async fn quiet(operator: &Operator, times: usize) {
    eventually("idle passes", async || {
        (waits(operator) >= times.max(1)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_acts_once_although_the_status_cannot_say_so() {
    let fixture = Fixture::new("unsaid", HOUR).await;
    fixture.seed("alice").await;
    let proxy = fixture.proxy().await;
    let _operator = fixture.operator_through(&proxy, &[]);
    fixture.user("alice", json!({})).await;
    fixture.machine("ci", json!({})).await;
    fixture.ready("alice").await;
    fixture.ready("ci").await;
    let before = fixture.oauth.request_count();
    // As definitions do that are older than the operator.
    let status = "integrationcredentials/status";
    let refused = proxy.inject(Calls::to(Method::PATCH, status), Fault::Answer(500));
    for name in ["alice", "ci"] {
        fixture.ask(name, "now").await;
    }
    let again = async |name| {
        let written = Calls::to(Method::PATCH, status).named(name);
        proxy.wait_for(&written, proxy.count(&written) + 3).await;
    };
    tokio::join!(again("alice"), again("ci"));
    assert_eq!(fixture.oauth.request_count(), before + 2);
    refused.remove();
    for name in ["alice", "ci"] {
        let handled = |c: &IntegrationCredential| {
            let refresh = c.status.as_ref().and_then(|s| s.refresh.as_ref());
            refresh.and_then(|r| r.last_handled_request.as_deref()) == Some("now")
        };
        fixture
            .until(name, "a request that was handled", handled)
            .await;
    }
    assert_eq!(fixture.oauth.request_count(), before + 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_refused_status_had_to_tell_is_told_later_and_once() {
    let fixture = Fixture::new("toldlate", HOUR).await;
    let proxy = fixture.proxy().await;
    let _operator = fixture.operator_through(&proxy, &[]);
    // The first one, which says that it was seen, is taken.
    let written = Calls::to(Method::PATCH, "integrationcredentials/status").named("ci");
    let refused = proxy.inject(written.clone().after(1), Fault::Answer(500));
    fixture.machine("ci", json!({})).await;
    proxy.wait_for(&written, 4).await;
    assert_eq!(fixture.oauth.request_count(), 1);
    refused.remove();
    fixture.ready("ci").await;
    let told = || async {
        let events = fixture.events().await;
        events
            .iter()
            .filter(|e| e.contains("a token was obtained"))
            .count()
    };
    eventually("the event", async || (told().await > 0).then_some(())).await;
    // Another look would tell it again, if it did.
    fixture.ask("ci", "again").await;
    fixture.generation("ci", 2).await;
    assert_eq!(told().await, 1);
    assert_eq!(fixture.oauth.request_count(), 2);
}
