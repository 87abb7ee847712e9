//! What is said of a provider object, whether anybody uses it or not.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use axum::{Json, Router, http::StatusCode, routing::get};
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use super::{
    ForAll, HOUR, client_secret, events, is_ready, one_at_a_time, providers, ready, refused, said,
    until, version,
};
use crate::{
    bad_input::told::obey,
    support::{Fixture, eventually, kubectl},
};

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::too_many_lines, reason = "one table")]
async fn what_is_wrong_with_a_provider_object_is_said_although_nobody_uses_it() {
    let fixture = Fixture::bare("objects", HOUR).await;
    let client = |name: &str| json!({"id": "demo", "secretKeyRefs": [{"name": name, "key": "client_secret"}]});
    fixture
        .secret("client", &[("client_secret", "demo-secret")])
        .await;
    fixture
        .secret("keyless", &[("secret", "demo-secret")])
        .await;
    let url = |rest: &str| json!(format!("https://{rest}"));
    let cases: [(&str, Value, &str, &[&str]); 10] = [
        (
            "preset",
            json!({"tokenUrl": null, "preset": "goggle"}),
            "UnknownProvider",
            &["goggle", "tokenward providers list"],
        ),
        (
            "absent",
            json!({"client": client("nowhere")}),
            "ProviderNotConfigured",
            &[
                "/nowhere with the client's secret does not exist",
                "kubectl",
            ],
        ),
        (
            "keyless",
            json!({"client": client("keyless")}),
            "ProviderNotConfigured",
            &["has no key client_secret", "kubectl"],
        ),
        (
            "anonymous",
            json!({"client": null, "grants": ["RefreshToken"]}),
            "ProviderNotConfigured",
            &["names no client"],
        ),
        (
            "bundle",
            json!({"caBundle": "bm8gcGVt"}),
            "ProviderNotConfigured",
            &["spec.caBundle"],
        ),
        (
            "address",
            json!({"tokenUrl": "https://10.1.2.3/token"}),
            "EndpointNotAllowed",
            &["a private address", "--allow-provider-network"],
        ),
        (
            "revoke",
            json!({"revokeUrl": "https://169.254.169.254/"}),
            "EndpointNotAllowed",
            &["https://169.254.169.254"],
        ),
        (
            "variable",
            json!({"tokenUrl": url("{tenant}.example.com/token"), "parameters": {"tenant": {}}}),
            "ProviderNotConfigured",
            &["the variable tenant has no value"],
        ),
        (
            "host",
            json!({"tokenUrl": url("login.{tld}/token"), "parameters": {"tld": {}}, "credentialVariables": ["tld"]}),
            "ProviderNotConfigured",
            &["tld", "which no credential may give"],
        ),
        (
            "parameter",
            json!({"params": {"audience": "{aud"}}),
            "ProviderNotConfigured",
            &["spec.params", "brace"],
        ),
    ];
    let operator = fixture.operator();
    for (name, change, _, _) in &cases {
        fixture.provider_named(name, change.clone()).await;
    }
    fixture.provider(json!({})).await;
    let good = ready(&fixture, "provider").await;
    for (name, _, reason, words) in &cases {
        let message = refused(&fixture, name, reason).await;
        let about = format!("OAuthProvider {name}");
        for word in words.iter().chain([&about.as_str()]) {
            assert!(message.contains(word), "{name}: no {word:?} in {message}");
        }
        let status = providers(&fixture).get(name).await.unwrap().status.unwrap();
        let (stalled, why, same) = said(&status, "Stalled").unwrap();
        assert_eq!(
            (stalled.as_str(), why.as_str(), &same),
            ("True", *reason, &message)
        );
        let event = format!("{reason}: {message}");
        eventually(&event, async || {
            fixture.events().await.contains(&event).then_some(())
        })
        .await;
    }
    // The message is the command.
    let message = refused(&fixture, "absent", "ProviderNotConfigured").await;
    obey(&message, "demo-secret").await;
    let label = format!(
        "label secret nowhere tokenward.dev/watch=true -n {}",
        fixture.namespace
    );
    let arguments: Vec<_> = label.split(' ').collect();
    assert!(kubectl(&arguments).await.status.success());
    ready(&fixture, "absent").await;
    assert!(is_ready(&good.status.unwrap()));
    assert_eq!(fixture.oauth.request_count(), 0);
    fixture
        .assert_nowhere(&["demo-secret".to_owned()], &[&operator])
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoints_are_shown_as_they_are_after_preset_and_variables() {
    let fixture = Fixture::new("endpoints", HOUR).await;
    let _operator = fixture.operator();
    let entra = json!({
        "tokenUrl": null, "preset": "microsoft-entra", "variables": {"tenant": "contoso.example"},
        "client": {"id": "the-app", "secretKeyRefs": [{"name": "client", "key": "client_secret"}]},
    });
    fixture.provider_named("entra", entra).await;
    let status = ready(&fixture, "entra").await.status.unwrap();
    let endpoints = status.endpoints.unwrap();
    assert_eq!(
        endpoints.token.as_deref(),
        Some("https://login.microsoftonline.com/contoso.example/oauth2/v2.0/token")
    );
    assert!(endpoints.authorize.unwrap().contains("/contoso.example/"));
    assert_eq!(status.client_id.as_deref(), Some("the-app"));
    assert_eq!(endpoints.refresh, None);

    // What each credential gives is left open. An identifier from a Secret is not shown: whatever key is named stands
    // there, a refresh token too.
    fixture
        .secret("id", &[("client_id", "from-a-secret")])
        .await;
    let open = json!({
        "tokenUrl": fixture.oauth.url() + "/{tenant}/token", "parameters": {"tenant": {"pattern": "[a-z]{9}"}},
        "credentialVariables": ["tenant"],
        "client": {"id": null, "idSecretKeyRef": {"name": "id", "key": "client_id"}},
    });
    fixture.provider_named("open", open).await;
    let status = ready(&fixture, "open").await.status.unwrap();
    let token = status.endpoints.unwrap().token.unwrap();
    assert_eq!(token, fixture.oauth.url() + "/{tenant}/token");
    assert_eq!(status.client_id, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issuer_is_asked_again_until_it_answers() {
    let fixture = Fixture::new("issuer", HOUR).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let issuer = format!("http://{}", listener.local_addr().unwrap());
    let works = Arc::new(AtomicBool::new(false));
    let metadata = json!({
        "issuer": issuer, "token_endpoint": fixture.oauth.token_url(),
        "revocation_endpoint": fixture.oauth.url() + "/revoke",
    });
    let answer = {
        let works = Arc::clone(&works);
        get(move || async move {
            if works.load(Ordering::Relaxed) {
                Ok(Json(metadata))
            } else {
                Err(StatusCode::SERVICE_UNAVAILABLE)
            }
        })
    };
    let app = Router::new().route("/.well-known/oauth-authorization-server", answer);
    let serving = tokio::spawn(async move { axum::serve(listener, app).await });
    let _operator = fixture.operator();
    let change = json!({"tokenUrl": null, "issuer": issuer});
    fixture.provider_named("found", change).await;
    refused(&fixture, "found", "ProviderError").await;
    let status = providers(&fixture)
        .get("found")
        .await
        .unwrap()
        .status
        .unwrap();
    assert_eq!(said(&status, "Stalled").unwrap().0, "False");
    assert_eq!(said(&status, "Reconciling").unwrap().1, "ProviderError");

    works.store(true, Ordering::Relaxed);
    let status = ready(&fixture, "found").await.status.unwrap();
    assert_eq!(said(&status, "Reconciling"), None);
    let endpoints = status.endpoints.unwrap();
    assert_eq!(endpoints.token, Some(fixture.oauth.token_url()));
    assert_eq!(endpoints.revoke, Some(fixture.oauth.url() + "/revoke"));
    // It was not right, and is now: that is one event each.
    eventually("Configured", async || {
        (events(&fixture, "Configured").await == 1).then_some(())
    })
    .await;
    serving.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_object_in_order_causes_no_request_and_nobody_waits_for_its_status() {
    let fixture = Fixture::new("still", HOUR).await;
    let mut operator = fixture.operator();
    fixture.machine("ci", json!({})).await;
    fixture.ready("ci").await;
    let before = ready(&fixture, "provider").await;
    fixture.told(1).await;
    operator.kill();

    let audit = fixture.audit();
    let operator = fixture.operator();
    operator.ready().await;
    let touch = Patch::Merge(json!({"metadata": {"labels": {"touched": "yes"}}}));
    let params = PatchParams::default();
    let touched = providers(&fixture).patch("provider", &params, &touch).await;
    // A second object tells when the first one has been looked at: they come in order.
    fixture.secret("second", &[("s", "demo-secret")]).await;
    let client = json!({"id": "demo", "secretKeyRefs": [{"name": "second", "key": "s"}]});
    fixture
        .provider_named("second", json!({"client": client}))
        .await;
    ready(&fixture, "second").await;
    let requests = audit.requests();
    let second = ["get secrets second", "patch oauthproviders/status second"];
    let others = requests
        .iter()
        .filter(|r| !r.starts_with("list ") && !second.contains(&r.as_str()));
    assert_eq!(others.collect::<Vec<_>>(), Vec::<&String>::new());
    let after = providers(&fixture).get("provider").await.unwrap();
    assert_eq!(version(&after), version(&touched.unwrap()));
    assert_eq!(after.status, before.status);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_status_of_a_cluster_provider_is_written_by_the_operator_that_may() {
    let _one = one_at_a_time().await;
    let fixture = Fixture::bare("clusterwide", HOUR).await;
    let shared = ForAll::new(&fixture, json!({})).await;
    // One that serves a namespace only says nothing of what others may see better.
    let mut limited = fixture.operator_with(&["--operator-namespace", &shared.name]);
    fixture.provider(json!({})).await;
    refused(&fixture, "provider", "ProviderNotConfigured").await;
    assert_eq!(shared.api().get(&shared.name).await.unwrap().status, None);
    limited.kill();

    let arguments = [
        "--operator-namespace",
        &shared.name,
        "--cluster-provider-status",
    ];
    let _operator = fixture.operator_with(&arguments);
    let status = async |what: &str, ready: bool| {
        eventually(what, async || {
            let found = shared.api().get(&shared.name).await.unwrap();
            let is_current =
                found.status.as_ref()?.observed_generation == found.metadata.generation;
            let status = found
                .status
                .filter(|s| is_current && is_ready(s) == ready)?;
            said(&status, "Ready")
                .unwrap()
                .2
                .contains(what)
                .then_some(status)
        })
        .await
    };
    status("/shared with the client's secret does not exist", false).await;
    // A Secret with the label of clients acts at once, without that of the watch.
    client_secret(&fixture, "shared", "key", "demo-secret").await;
    let usable = status("selects no namespace", true).await;
    assert_eq!(usable.client_id.as_deref(), Some("demo"));
    let machine = json!({"allowedNamespaces": {}, "allowedGrantTypes": ["ClientCredentials"]});
    shared.apply(machine).await;
    status("without spec.allowedScopes", false).await;
    let machine = json!({
        "allowedNamespaces": {}, "allowedGrantTypes": ["ClientCredentials", "JwtBearer"], "allowedScopes": ["read"],
        "grants": ["ClientCredentials"],
    });
    shared.apply(machine).await;
    status("JwtBearer", false).await;
    shared
        .apply(json!({"allowedNamespaces": shared.here()}))
        .await;
    status("usable", true).await;
    shared.delete().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_shows_whether_a_provider_is_ready() {
    let fixture = Fixture::new("columns", HOUR).await;
    let _operator = fixture.operator();
    ready(&fixture, "provider").await;
    fixture
        .provider_named("bad", json!({"caBundle": "bm8gcGVt"}))
        .await;
    until(&fixture, "bad", "not ready", |status| !is_ready(status)).await;
    let wait = format!(
        "wait --for=condition=Ready oauthprovider/provider --timeout=10s -n {}",
        fixture.namespace
    );
    let arguments: Vec<_> = wait.split(' ').collect();
    assert!(kubectl(&arguments).await.status.success());
    let list = format!("get oauthproviders -n {}", fixture.namespace);
    let arguments: Vec<_> = list.split(' ').collect();
    let shown = String::from_utf8(kubectl(&arguments).await.stdout).unwrap();
    let rows: Vec<Vec<&str>> = shown
        .lines()
        .map(|l| l.split_whitespace().collect())
        .collect();
    assert_eq!(rows[0][..3], ["NAME", "READY", "REASON"]);
    assert_eq!(rows[1][..3], ["bad", "False", "ProviderNotConfigured"]);
    assert_eq!(rows[2][..3], ["provider", "True", "Configured"]);
}
