//! The client's secret changes: who is woken by it.

use std::future::ready;

use serde_json::json;

use super::{ForAll, HOUR, client_secret};
use crate::{
    bad_input::told::{recovers, recovers_at_once},
    oauth_server::Client,
    support::{Fixture, condition},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_clients_secret_wakes_those_who_wait_for_it_and_nobody_else() {
    let fixture = Fixture::new("wakes", HOUR).await;
    for name in ["one", "two"] {
        fixture.oauth.set_client(Client::new(name, &["right"]));
        fixture.secret(name, &[("s", "wrong")]).await;
        let client = json!({"client": {"id": name, "secretKeyRefs": [{"name": name, "key": "s"}]}});
        fixture.provider_named(name, client).await;
    }
    let operator = fixture.operator();
    let of = |provider: &str| json!({"oauth2": {"providerRef": {"name": provider}}});
    fixture.machine("works", json!({})).await;
    fixture.machine("waits", of("one")).await;
    fixture.machine("waits-too", of("one")).await;
    fixture.machine("other", of("two")).await;
    fixture.ready("works").await;
    for name in ["waits", "waits-too", "other"] {
        fixture.stalled(name, "InvalidClient").await;
    }
    // Far enough in its retries that it does not come by itself.
    let failures = |name: &'static str| {
        fixture.until(name, "three failures", |c| {
            let refresh = c.status.as_ref().unwrap().refresh.as_ref();
            refresh.is_some_and(|r| r.failures >= 3)
        })
    };
    let waits = [failures("waits").await, failures("waits-too").await];
    fixture.told(4).await;
    let other = failures("other").await;
    let works = fixture.get("works").await;
    let asked = |id: &str| {
        let requests = fixture.oauth.requests();
        requests
            .iter()
            .filter(|r| r.client_id.as_deref() == Some(id))
            .count()
    };
    let before = (asked("two"), asked("demo"));

    let audit = fixture.audit();
    let mend = fixture.secret("one", &[("s", "right")]);
    tokio::join!(
        recovers_at_once(&fixture, &waits[0], mend),
        recovers_at_once(&fixture, &waits[1], ready(())),
    );
    assert_eq!((asked("two"), asked("demo")), before, "{}", operator.log());
    let requests = audit.requests();
    let concerns = |name: &str| {
        let of = |r: &&String| r.split([' ', '.']).any(|word| word == name);
        requests.iter().filter(of).count()
    };
    assert_eq!(
        (concerns("other"), concerns("works")),
        (0, 0),
        "{requests:?}"
    );
    assert_eq!(fixture.get("other").await, other);
    assert_eq!(fixture.get("works").await, works);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_a_cluster_provider_acts_at_once_with_the_label_it_has_anyway() {
    let fixture = Fixture::bare("clusterclient", HOUR).await;
    client_secret(&fixture, "shared", "key", "wrong").await;
    let shared = ForAll::new(&fixture, json!({})).await;
    let allowed = json!({
        "allowedNamespaces": shared.here(), "allowedScopes": ["read"],
        "allowedGrantTypes": ["ClientCredentials"],
    });
    shared.apply(allowed).await;
    let _operator = fixture.operator_with(&["--operator-namespace", &shared.name]);
    fixture.machine("ci", shared.reference()).await;
    let failed = fixture
        .until("ci", "two failures", |c| {
            let refresh = c.status.as_ref().and_then(|s| s.refresh.as_ref());
            refresh.is_some_and(|r| r.failures >= 2)
        })
        .await;
    assert_eq!(condition(&failed, "Stalled").unwrap().1, "InvalidClient");
    let mend = client_secret(&fixture, "shared", "key", "demo-secret");
    recovers_at_once(&fixture, &failed, mend).await;
    shared.delete().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_a_secret_is_replaced_the_one_that_works_is_used() {
    let fixture = Fixture::new("replaced", HOUR).await;
    let keys = json!([{"name": "next", "key": "s"}, {"name": "client", "key": "client_secret"}]);
    let client = json!({"client": {"id": "demo", "secretKeyRefs": keys}});
    fixture.provider(client).await;
    let _operator = fixture.operator();
    // The next one is not there yet, then not in force, then the only one.
    fixture.machine("ci", json!({})).await;
    fixture.ready("ci").await;
    assert_eq!(fixture.oauth.request_count(), 1);
    let refresh = async || {
        let ended = fixture.tokenward(&["refresh", "ci"]).end().await;
        assert_eq!(ended.code, 0, "{}", ended.err);
    };
    fixture.secret("next", &[("s", "next-secret")]).await;
    refresh().await;
    assert_eq!(fixture.oauth.request_count(), 3);
    fixture
        .oauth
        .set_client(Client::new("demo", &["next-secret"]));
    refresh().await;
    assert_eq!(fixture.oauth.request_count(), 4);
    fixture.delete_secret("client").await;
    refresh().await;
    let credential = fixture.get("ci").await;
    recovers(&fixture, &credential).await;
    assert_eq!(fixture.oauth.request_count(), 5);
}
