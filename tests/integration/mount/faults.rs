//! An API server that is away, and one whose history is gone.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    Json, Router,
    body::Body,
    extract::{Query, State},
    response::{IntoResponse, Response},
    routing::get,
};
use data_encoding::BASE64;
use futures::{StreamExt, stream};
use serde_json::{Value, json};

use super::{Alice, HOUR, mount};
use crate::support::{Calls, Fault, Fixture, within};

/// Longer than the watch waits before it tries again.
const AFTER_A_PAUSE: Duration = Duration::from_secs(90);

#[tokio::test(flavor = "multi_thread")]
async fn files_stay_while_the_api_server_is_away_and_follow_when_it_is_back() {
    let alice = Alice::new("mount-away").await;
    alice.publish(1, &[("access_token", "first")]).await;
    let mut proxy = alice.fixture.proxy().await;
    let mounted = alice.mount(&proxy.kubeconfig(), &[]);
    mounted.ready().await;
    proxy.wait_for(&Calls::watches("secrets"), 1).await;
    proxy.away().await;
    mounted.said("watch interrupted").await;
    alice.publish(2, &[("access_token", "second")]).await;
    assert_eq!(mounted.file("access_token").unwrap(), "first");
    assert_eq!(mounted.probe("/readyz").await.0, 200);
    proxy.back();
    within(AFTER_A_PAUSE, "the new token", async || {
        (mounted.file("access_token").unwrap() == "second").then_some(())
    })
    .await;
    // Nothing is asked for while nothing changes but by the watch.
    assert_eq!(proxy.count(&Calls::about("secrets")), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_before_the_api_server_answers_waits_for_it() {
    let alice = Alice::new("mount-early").await;
    alice.publish(1, &[("access_token", "first")]).await;
    let proxy = alice.fixture.proxy().await;
    let credential = proxy.inject(
        Calls::about("integrationcredentials").first(1),
        Fault::Answer(503),
    );
    let secret = proxy.inject(Calls::about("secrets").first(1), Fault::DropBefore);
    let mounted = alice.mount(&proxy.kubeconfig(), &[]);
    credential.met(1).await;
    secret.met(1).await;
    mounted.ready().await;
    assert_eq!(mounted.file("access_token").unwrap(), "first");
}

/// A right that is taken away later ends nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_right_that_is_taken_away_leaves_the_files() {
    let alice = Alice::new("mount-revoked").await;
    alice.publish(1, &[("access_token", "first")]).await;
    let proxy = alice.fixture.proxy().await;
    let mounted = alice.mount(&proxy.kubeconfig(), &[]);
    mounted.ready().await;
    proxy.wait_for(&Calls::watches("secrets"), 1).await;
    // The watch had begun, and then delivered.
    alice.publish(2, &[("access_token", "second")]).await;
    mounted.shows("access_token", "second").await;
    let refused = proxy.inject(Calls::watches("secrets"), Fault::Answer(403));
    proxy.cut(&Calls::watches("secrets"));
    let told = mounted.said("the files stay as they are").await;
    assert!(
        told["error"]
            .as_str()
            .unwrap()
            .contains(r#"verbs: ["watch"]"#),
        "{told}"
    );
    alice.publish(3, &[("access_token", "third")]).await;
    refused.release();
    within(AFTER_A_PAUSE, "the new token", async || {
        (mounted.file("access_token").unwrap() == "third").then_some(())
    })
    .await;
}

/// An API server that has one Secret, of which each list shows the next generation, and whose first watches end
/// because their history is gone.
async fn forgetful(
    State(lists): State<Arc<AtomicUsize>>,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    let line = |event: Value| Ok::<_, std::convert::Infallible>(format!("{event}\n"));
    if query.get("watch").is_some_and(|watch| watch == "true") {
        let expired = json!({"type": "ERROR", "object": {
            "apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Failure",
            "message": "too old resource version", "reason": "Expired", "code": 410,
        }});
        let events = stream::iter((lists.load(Ordering::SeqCst) < 3).then(|| line(expired)));
        return Body::from_stream(events.chain(stream::pending())).into_response();
    }
    let generation = (lists.fetch_add(1, Ordering::SeqCst) + 1).to_string();
    let secret = json!({
        "metadata": {
            "name": "alice", "namespace": "n", "resourceVersion": generation,
            "ownerReferences": [{
                "apiVersion": "tokenward.dev/v1alpha1", "kind": "IntegrationCredential",
                "name": "alice", "uid": "1", "controller": true,
            }],
        },
        "data": {"token_generation": BASE64.encode(generation.as_bytes())},
    });
    Json(json!({
        "apiVersion": "v1", "kind": "SecretList",
        "metadata": {"resourceVersion": generation}, "items": [secret],
    }))
    .into_response()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_whose_history_is_gone_begins_anew() {
    let fixture = Fixture::bare("mount-gone", HOUR).await;
    let lists = Arc::<AtomicUsize>::default();
    let router = Router::new()
        .route("/api/v1/namespaces/{namespace}/secrets", get(forgetful))
        .with_state(Arc::clone(&lists));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move { axum::serve(listener, router).await });
    let folder = tempfile::tempdir().unwrap();
    let kubeconfig = folder.path().join("kubeconfig");
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": format!("http://{address}")}}],
        "users": [{"name": "u", "user": {}}],
    });
    std::fs::write(&kubeconfig, config.to_string()).unwrap();
    let dir = folder.path().join("alice");
    let mounted = mount(&fixture, &dir, &kubeconfig, &["--secret", "alice"]);
    within(AFTER_A_PAUSE, "the third look", async || {
        (mounted.file("token_generation").as_deref() == Some("3")).then_some(())
    })
    .await;
    assert_eq!(lists.load(Ordering::SeqCst), 3);
    server.abort();
}
