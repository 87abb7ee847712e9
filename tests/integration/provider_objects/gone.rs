//! A provider object that vanishes, or no longer admits, while its credentials work.

use std::{collections::BTreeMap, time::Duration};

use futures::future::join_all;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use serde_json::json;
use tokenward::api::IntegrationCredential;

use super::{ForAll, HOUR, client_secret, events, providers};
use crate::support::{Fixture, Operator, condition, eventually, within};

fn is_stalled(credential: &IntegrationCredential, why: &str) -> bool {
    condition(credential, "Stalled").is_some_and(|c| (c.0.as_str(), c.1.as_str()) == ("True", why))
}

fn goes_on(credential: &IntegrationCredential) -> bool {
    condition(credential, "Stalled").is_some_and(|c| c.0 == "False")
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_vanishes_is_told_by_its_users_at_once_and_forgotten_when_it_is_back() {
    let fixture = Fixture::new("vanishes", HOUR).await;
    fixture.seed("alice").await;
    let operator = fixture.operator();
    fixture.user("alice", json!({})).await;
    fixture.machine("ci", json!({})).await;
    fixture.provider_named("other", json!({})).await;
    let other = json!({"oauth2": {"providerRef": {"name": "other"}}});
    fixture.machine("bystander", other).await;
    for name in ["alice", "ci", "bystander"] {
        fixture.ready(name).await;
    }
    fixture.told(4).await;
    let before = fixture.get("bystander").await;
    let generations =
        ["alice", "ci"].map(async |name| fixture.get(name).await.status.unwrap().token);
    let generations = join_all(generations).await;

    let audit = fixture.audit();
    let params = DeleteParams::default();
    providers(&fixture)
        .delete("provider", &params)
        .await
        .unwrap();
    for name in ["alice", "ci"] {
        let told = fixture.stalled(name, "UnknownProvider").await;
        let (ready, state, _) = condition(&told, "Ready").unwrap();
        assert_eq!((ready.as_str(), state.as_str()), ("True", "Valid"));
        let (_, _, message) = condition(&told, "Stalled").unwrap();
        for word in ["no OAuthProvider provider", &fixture.namespace, "create it"] {
            assert!(message.contains(word), "{message}");
        }
        assert_eq!(told.status.unwrap().refresh.unwrap().failures, 0);
    }
    eventually("an event for each", async || {
        (events(&fixture, "UnknownProvider").await == 2).then_some(())
    })
    .await;
    fixture.provider(json!({})).await;
    for name in ["alice", "ci"] {
        fixture.until(name, "goes on", goes_on).await;
    }
    let tokens = ["alice", "ci"].map(async |name| fixture.get(name).await.status.unwrap().token);
    assert_eq!(join_all(tokens).await, generations);
    assert_eq!(fixture.oauth.request_count(), 3, "{}", operator.log());
    assert_eq!(events(&fixture, "UnknownProvider").await, 2);
    // Nothing but what is said of them was written, and nobody else was touched.
    let writes = audit.writes();
    let few = [
        "integrationcredentials/status",
        "events",
        "oauthproviders/status",
    ];
    let other = |write: &&String| !few.iter().any(|few| write.contains(few));
    assert_eq!(
        writes.iter().filter(other).collect::<Vec<_>>(),
        Vec::<&String>::new()
    );
    assert_eq!(fixture.get("bystander").await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_that_starts_tells_of_no_provider_that_is_there() {
    let fixture = Fixture::new("late", HOUR).await;
    let mut operator = fixture.operator();
    fixture.machine("ci", json!({})).await;
    let before = fixture.ready("ci").await;
    fixture.told(1).await;
    operator.kill();
    // Deleted while nobody looked, it is told by the next one.
    let _operator = {
        let mut operator = fixture.operator();
        operator.ready().await;
        operator.logged("planned").await;
        operator.kill();
        let untouched = fixture.get("ci").await;
        assert_eq!(untouched.resource_version(), before.resource_version());
        let params = DeleteParams::default();
        providers(&fixture)
            .delete("provider", &params)
            .await
            .unwrap();
        fixture.operator()
    };
    fixture.stalled("ci", "UnknownProvider").await;
    assert_eq!(fixture.oauth.request_count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_no_longer_admits_is_told_and_so_is_a_namespace_without_its_label() {
    let fixture = Fixture::bare("admits", HOUR).await;
    client_secret(&fixture, "shared", "key", "demo-secret").await;
    let shared = ForAll::new(&fixture, json!({})).await;
    let allowed = json!({
        "allowedNamespaces": shared.here(), "allowedScopes": ["read"],
        "allowedGrantTypes": ["ClientCredentials"],
    });
    shared.apply(allowed.clone()).await;
    let operator = fixture.operator_with(&["--operator-namespace", &shared.name]);
    fixture.machine("ci", shared.reference()).await;
    fixture.ready("ci").await;
    let mut others = allowed.clone();
    others["allowedNamespaces"] = json!({"matchLabels": {"team": "others"}});
    let mut scopes = allowed.clone();
    scopes["allowedScopes"] = json!(["write"]);
    for (change, word) in [
        (others, "does not admit namespace"),
        (scopes, "does not admit scope read"),
    ] {
        shared.apply(change).await;
        let told = fixture.stalled("ci", "ProviderNotAllowed").await;
        let (_, _, message) = condition(&told, "Stalled").unwrap();
        assert!(message.contains(word), "{message}");
        assert_eq!(condition(&told, "Ready").unwrap().0, "True");
        shared.apply(allowed.clone()).await;
        fixture.until("ci", "goes on", goes_on).await;
    }
    assert_eq!(fixture.oauth.request_count(), 1);
    // The label is read again when the operator starts.
    let mut labelled = allowed;
    labelled["allowedNamespaces"] = json!({"matchLabels": {"team": "blue"}});
    let namespaces: Api<Namespace> = Api::all(fixture.client.clone());
    let label = Patch::Merge(json!({"metadata": {"labels": {"team": "blue"}}}));
    let params = PatchParams::default();
    namespaces
        .patch(&fixture.namespace, &params, &label)
        .await
        .unwrap();
    shared.apply(labelled).await;
    drop(operator);
    let _operator = fixture.operator_with(&["--operator-namespace", &shared.name]);
    fixture.until("ci", "goes on", goes_on).await;
    assert_eq!(fixture.oauth.request_count(), 1);
    shared.delete().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_whose_provider_vanishes_and_returns_recover_one_after_the_other() {
    const WORKING: usize = 160;
    const FAILING: usize = 40;
    let fixture = Fixture::new("twohundred", HOUR).await;
    let operator = fixture.operator();
    let names: Vec<_> = (0..WORKING).map(|n| format!("w-{n}")).collect();
    join_all(names.iter().map(|name| fixture.machine(name, json!({})))).await;
    let patience = Duration::from_secs(120);
    let all = async || {
        fixture
            .credentials()
            .list(&ListParams::default())
            .await
            .unwrap()
            .items
    };
    let count = async |wanted: &dyn Fn(&IntegrationCredential) -> bool| {
        all().await.iter().filter(|c| wanted(c)).count()
    };
    let is_valid = |c: &IntegrationCredential| {
        condition(c, "Ready").is_some_and(|c| c.1 == "Valid") && goes_on(c)
    };
    within(patience, "all have tokens", async || {
        (count(&is_valid).await == WORKING).then_some(())
    })
    .await;
    let generations = |all: Vec<IntegrationCredential>| -> BTreeMap<String, i64> {
        let working = all.into_iter().filter(|c| c.name_any().starts_with("w-"));
        working
            .map(|c| (c.name_any(), c.status.unwrap().token.unwrap().generation))
            .collect()
    };
    let before = generations(all().await);

    let params = DeleteParams::default();
    providers(&fixture)
        .delete("provider", &params)
        .await
        .unwrap();
    let unknown = |c: &IntegrationCredential| is_stalled(c, "UnknownProvider");
    let names: Vec<_> = (0..FAILING).map(|n| format!("f-{n}")).collect();
    join_all(names.iter().map(|name| fixture.machine(name, json!({})))).await;
    within(patience, "all say so", async || {
        (count(&unknown).await == WORKING + FAILING).then_some(())
    })
    .await;
    let sent = fixture.oauth.request_count();
    assert_eq!(sent, WORKING);

    let back = Timestamp::now();
    fixture.provider(json!({})).await;
    within(patience, "all go on", async || {
        (count(&is_valid).await == WORKING + FAILING).then_some(())
    })
    .await;
    // Who has a token needs no other one, and the others come one by one: 200 are woken within 2 s, each at a
    // random time. A machine that stands still makes many of them late at once, and none early.
    assert_eq!(generations(all().await), before);
    let requests = fixture.oauth.request_count() - sent;
    assert_eq!(requests, FAILING, "{}", operator.log());
    let looks = looks(&operator, back);
    assert_eq!(looks.len(), WORKING + FAILING, "{looks:?}");
    let median = looks[looks.len() / 2].duration_since(back);
    assert!(median.as_millis() >= 600, "after {back}: {looks:?}");
}

/// When the operator first looked at each credential after that time, in this order.
fn looks(operator: &Operator, after: Timestamp) -> Vec<Timestamp> {
    let mut looks = BTreeMap::new();
    for line in operator.lines() {
        if line["message"] == "planned" {
            let at: Timestamp = line["timestamp"].as_str().unwrap().parse().unwrap();
            let credential = line["credential"].to_string();
            if at > after {
                looks.entry(credential).or_insert(at);
            }
        }
    }
    let mut looks: Vec<_> = looks.into_values().collect();
    looks.sort();
    looks
}
