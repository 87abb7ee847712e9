//! Sources that change, and sources that are wrong.

use std::time::Instant;

use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use tokenward::manager::CredentialManager;

use super::{HOUR, api_key, data, shop, unlabelled};
use crate::support::{Fixture, condition, eventually, text};

#[tokio::test(flavor = "multi_thread")]
async fn a_labelled_source_that_changes_is_copied_within_a_second() {
    let fixture = Fixture::bare("kindschange", HOUR).await;
    let _operator = fixture.operator();
    shop(&fixture, "one").await;
    let mut fastest = f64::MAX;
    for turn in 2..5 {
        let value = format!("value-{turn}");
        let start = Instant::now();
        fixture.secret("in", &[("k", &value)]).await;
        eventually("the copy", async || {
            let copy = data(&fixture, "shop").await;
            (copy["api_key"] == value && copy["token_generation"] == turn.to_string()).then_some(())
        })
        .await;
        fastest = fastest.min(start.elapsed().as_secs_f64());
        let credential = fixture.generation("shop", turn).await;
        assert_eq!(condition(&credential, "Ready").unwrap().1, "Valid");
    }
    // One of three, so that a machine that is busy for a moment does not decide.
    assert!(fastest < 1.0, "{fastest} s");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unlabelled_source_is_read_when_a_person_or_a_program_asks() {
    let fixture = Fixture::bare("kindsunseen", HOUR).await;
    unlabelled(&fixture, "in", "k", "one").await;
    let _operator = fixture.operator();
    fixture.create("shop", api_key(&json!({}))).await;
    fixture.ready("shop").await;

    unlabelled(&fixture, "in", "k", "two").await;
    let refreshed = fixture.tokenward(&["refresh", "shop"]).end().await;
    assert!(
        refreshed.err.contains("/shop: refreshed, generation 2"),
        "{refreshed:?}"
    );
    assert_eq!(data(&fixture, "shop").await["api_key"], "two");
    let unchanged = ["refresh", "shop", "-o", "json"];
    let unchanged = fixture.tokenward(&unchanged).end().await;
    assert_eq!(unchanged.code, 0, "{unchanged:?}");
    assert!(
        unchanged.err.contains("/shop: unchanged, generation 2"),
        "{unchanged:?}"
    );
    let list: Value = serde_json::from_str(&unchanged.out).unwrap();
    assert_eq!(
        (&list[0]["result"], &list[0]["generation"]),
        (&json!("unchanged"), &json!(2))
    );

    unlabelled(&fixture, "in", "k", "three").await;
    let manager = CredentialManager::new(fixture.client.clone(), fixture.namespace.clone());
    let hold = manager.acquire("shop").await.unwrap();
    manager.report_rejected(hold).await.unwrap();
    fixture.generation("shop", 3).await;
    assert_eq!(data(&fixture, "shop").await["api_key"], "three");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_asks_for_something_newer_in_vain_is_answered_once() {
    let fixture = Fixture::bare("kindswant", HOUR).await;
    let operator = fixture.operator();
    shop(&fixture, "one").await;
    fixture.told(1).await;
    let audit = fixture.audit();
    let manager = CredentialManager::new(fixture.client.clone(), fixture.namespace.clone());
    let hold = manager.acquire("shop").await.unwrap();
    manager.report_rejected(hold).await.unwrap();
    eventually("the answer", async || {
        let writes = audit.writes();
        let answered = |w: &String| w.starts_with("delete leases shop.want.");
        writes.iter().any(answered).then_some(())
    })
    .await;
    let ended = operator.log().matches("\"planned\"").count();
    let label = Patch::Merge(json!({"metadata": {"labels": {"touched": "yes"}}}));
    let params = PatchParams::default();
    fixture
        .credentials()
        .patch("shop", &params, &label)
        .await
        .unwrap();
    eventually("another pass", async || {
        (operator.log().matches("\"planned\"").count() > ended).then_some(())
    })
    .await;
    let mut writes = audit.writes();
    // A want that was deleted may be deleted again until that has been seen.
    writes.dedup();
    assert_eq!(writes.len(), 1, "{writes:?}");
    let reads = audit.requests();
    let looks = reads.iter().filter(|r| *r == "get secrets in").count();
    assert_eq!(looks, 1, "{reads:?}");
    assert_eq!(
        fixture
            .generation("shop", 1)
            .await
            .status
            .unwrap()
            .token
            .unwrap()
            .generation,
        1
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_comes_late_is_waited_for() {
    let fixture = Fixture::bare("kindslate", HOUR).await;
    let _operator = fixture.operator();
    fixture.create("shop", api_key(&json!({}))).await;
    let credential = fixture.stalled("shop", "SourceNotFound").await;
    let (ready, state, message) = condition(&credential, "Ready").unwrap();
    assert_eq!((ready.as_str(), state.as_str()), ("False", "Pending"));
    let namespace = &fixture.namespace;
    let command = format!("kubectl -n {namespace} create secret generic in --from-literal=k=…");
    assert!(message.contains(&command), "{message}");
    fixture.told(1).await;
    let events = fixture.events().await;
    assert!(events[0].starts_with("SourceNotFound: "), "{events:?}");
    fixture.secret("in", &[("k", "one")]).await;
    let credential = fixture.ready("shop").await;
    assert_eq!(condition(&credential, "Stalled").unwrap().0, "False");
    assert_eq!(data(&fixture, "shop").await["api_key"], "one");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_source_is_told_and_leaves_the_copy_as_it_is_until_it_is_mended() {
    let fixture = Fixture::bare("kindsbad", HOUR).await;
    fixture.secret("in", &[("X-A", "a")]).await;
    let operator = fixture.operator();
    let spec =
        json!({"hostScoped": {"host": "api.example.com", "headersSecretRef": {"name": "in"}}});
    fixture.create("shop", spec).await;
    fixture.ready("shop").await;
    let before = data(&fixture, "shop").await;

    fixture.secret("in", &[("X-A", "hush\r\nX-B: b")]).await;
    let credential = fixture.stalled("shop", "SourceInvalid").await;
    let (ready, state, message) = condition(&credential, "Ready").unwrap();
    assert_eq!((ready.as_str(), state.as_str()), ("True", "Valid"));
    let source = format!("Secret {}/in", fixture.namespace);
    assert!(
        message.contains(&source) && message.contains("control characters at key X-A"),
        "{message}"
    );
    assert_eq!(data(&fixture, "shop").await, before);
    eventually("the event", async || {
        let events = fixture.events().await;
        events
            .iter()
            .any(|e| e.starts_with("SourceInvalid: "))
            .then_some(())
    })
    .await;
    fixture
        .assert_nowhere(&["hush".to_owned()], &[&operator])
        .await;

    fixture.secret("in", &[("X-A", "b")]).await;
    let credential = fixture.generation("shop", 2).await;
    assert_eq!(condition(&credential, "Stalled").unwrap().0, "False");
    assert_eq!(data(&fixture, "shop").await["X-A"], "b");

    // And one that is deleted is missed, though what was copied goes on.
    fixture.delete_secret("in").await;
    let credential = fixture.stalled("shop", "SourceNotFound").await;
    assert_eq!(condition(&credential, "Ready").unwrap().0, "True");
    assert_eq!(data(&fixture, "shop").await["X-A"], "b");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_refresh_token_of_a_credential_is_copied_nowhere() {
    let fixture = Fixture::new("kindsgrant", HOUR).await;
    fixture.seed("alice").await;
    let _operator = fixture.operator();
    fixture.user("alice", json!({})).await;
    fixture.ready("alice").await;
    // A grant cannot be named; one that was copied by hand can.
    let mut grant = fixture.find_secret("alice.grant").await.unwrap();
    let token = text(&grant, "refresh_token");
    grant.metadata = serde_json::from_value(json!({"name": "in"})).unwrap();
    fixture
        .secrets()
        .create(&kube::api::PostParams::default(), &grant)
        .await
        .unwrap();
    let spec = json!({"apiKey": {"secretKeyRef": {"name": "in", "key": "refresh_token"}}});
    fixture.create("thief", spec).await;
    fixture.stalled("thief", "SecretNotAllowed").await;
    assert!(fixture.find_secret("thief").await.is_none());
    assert!(fixture.oauth.is_redeemable(&token));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_is_none_is_told_and_mended() {
    let fixture = Fixture::bare("kindshost", HOUR).await;
    fixture.secret("in", &[("X-A", "a")]).await;
    let _operator = fixture.operator();
    let spec = json!({"hostScoped": {"host": "api.example.com:70000", "headersSecretRef": {"name": "in"}}});
    fixture.create("shop", spec).await;
    let credential = fixture.stalled("shop", "HostInvalid").await;
    let message = condition(&credential, "Stalled").unwrap().2;
    assert!(message.contains("65535"), "{message}");
    let mend = Patch::Merge(json!({"spec": {"hostScoped": {"host": "api.example.com:7000"}}}));
    let params = PatchParams::default();
    fixture
        .credentials()
        .patch("shop", &params, &mend)
        .await
        .unwrap();
    fixture.ready("shop").await;
    assert_eq!(data(&fixture, "shop").await["host"], "api.example.com:7000");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_may_be_almost_as_large_as_a_secret_can_be() {
    let fixture = Fixture::bare("kindslarge", HOUR).await;
    let _operator = fixture.operator();
    let large = "x".repeat(900 * 1024);
    let create = async |value: &str| {
        let object = json!({"metadata": {"name": "in", "labels": {"tokenward.dev/watch": "true"}},
            "stringData": {"X-A": value}});
        let object = serde_json::from_value(object).unwrap();
        let created = fixture
            .secrets()
            .create(&kube::api::PostParams::default(), &object)
            .await;
        created.unwrap();
    };
    create(&large).await;
    let spec = json!({"hostScoped": {"host": "h", "headersSecretRef": {"name": "in"}}});
    fixture.create("shop", spec).await;
    fixture.ready("shop").await;
    assert_eq!(data(&fixture, "shop").await["X-A"], large);
    // One that leaves no room for what goes with it.
    fixture.delete_secret("in").await;
    create(&"y".repeat(1024 * 1024 - 1)).await;
    let credential = fixture.stalled("shop", "SourceInvalid").await;
    let message = condition(&credential, "Stalled").unwrap().2;
    assert!(message.contains("bytes"), "{message}");
    assert_eq!(data(&fixture, "shop").await["X-A"], large);
}
