//! `tokenward refresh`.

use std::time::Instant;

use futures::future::join_all;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use super::{HOUR, close_gate};
use crate::{
    oauth_server::{Answer, Fault},
    support::{Account, Fixture, Running, eventually, soon, text},
};

#[tokio::test(flavor = "multi_thread")]
async fn one_by_name_some_by_label_and_all() {
    let fixture = Fixture::new("refresh", HOUR).await;
    let _operator = fixture.operator();
    for name in ["a", "b", "c"] {
        fixture.machine(name, json!({})).await;
        fixture.ready(name).await;
    }
    // Of this test alone, in whatever namespaces.
    let selector = format!("of={}", fixture.namespace);
    for name in ["b", "c"] {
        let label = json!({"metadata": {"labels": {"of": fixture.namespace}}});
        let params = PatchParams::default();
        let api = fixture.credentials();
        api.patch(name, &params, &Patch::Merge(label))
            .await
            .unwrap();
    }
    let generations = async || {
        let mut all = Vec::new();
        for name in ["a", "b", "c"] {
            let target = fixture.find_secret(name).await.unwrap();
            all.push(text(&target, "token_generation"));
        }
        all.join(" ")
    };

    let one = fixture
        .tokenward(&["refresh", "a", "-o", "name"])
        .end()
        .await;
    assert_eq!(one.code, 0, "{}", one.err);
    assert_eq!(one.out, "integrationcredential.tokenward.dev/a\n");
    assert!(
        one.err.starts_with(&format!(
            "{}/a: refreshed, generation 2, valid until 2",
            fixture.namespace
        )),
        "{}",
        one.err
    );
    assert_eq!(generations().await, "2 1 1");

    let some = fixture
        .tokenward(&["refresh", "-l", &selector, "-A", "-o", "json"])
        .end()
        .await;
    assert_eq!(some.code, 0, "{}", some.err);
    let some_list: Value = serde_json::from_str(&some.out).unwrap();
    assert_eq!(some_list.as_array().unwrap().len(), 2);
    for (object, name) in some_list.as_array().unwrap().iter().zip(["b", "c"]) {
        assert_eq!(object["name"], name);
        assert_eq!(object["namespace"], fixture.namespace);
        assert_eq!(
            (&object["result"], &object["generation"]),
            (&json!("refreshed"), &json!(2))
        );
        let target = fixture.find_secret(name).await.unwrap();
        assert_eq!(object["expires_at"], text(&target, "expires_at"));
    }
    assert_eq!(generations().await, "2 2 2");
    assert_eq!(some.complaint(), "2 refreshed");

    let all = fixture.tokenward(&["refresh", "--all"]).end().await;
    assert_eq!((all.code, all.out.as_str()), (0, ""), "{}", all.err);
    assert_eq!(
        all.err.lines().count(),
        4,
        "a line for each, and a summary: {}",
        all.err
    );
    assert_eq!(generations().await, "3 3 3");
}

#[tokio::test(flavor = "multi_thread")]
async fn those_that_ask_at_once_cause_one_exchange_and_all_get_the_new_generation() {
    let fixture = Fixture::new("refresh-once", HOUR).await;
    fixture.seed("alice").await;
    let _operator = fixture.operator();
    fixture.user("alice", json!({})).await;
    fixture.ready("alice").await;
    let rules = json!([{"apiGroups": ["tokenward.dev"], "resources": ["integrationcredentials"],
        "verbs": ["get", "watch", "list", "patch"]}]);
    let names = ["one", "two", "three"];
    let users = join_all(names.map(|name| fixture.account(name, rules.clone()))).await;
    let audit = fixture.audit();
    fixture.oauth.hold_exchanges();
    let start = |user: &Account| {
        let refresh = fixture.tokenward(&["refresh", "alice", "-o", "json"]);
        refresh.by(user.kubeconfig()).start()
    };
    let running: Vec<_> = users.iter().map(start).collect();
    eventually("all that wait", async || {
        let waits = |name: &&str| {
            let asked = audit.requests_of(name);
            let looks = asked
                .iter()
                .filter(|r| r.starts_with("get integrationcredentials"));
            looks.count() >= 2
        };
        names.iter().all(waits).then_some(())
    })
    .await;
    soon("the exchange", fixture.oauth.wait_for_outcomes(2)).await;
    fixture.oauth.release_exchanges();
    for ended in join_all(running.into_iter().map(Running::end)).await {
        assert_eq!(ended.code, 0, "{}", ended.err);
        let list: Value = serde_json::from_str(&ended.out).unwrap();
        assert_eq!(list[0]["generation"], 2, "{list}");
    }
    assert_eq!(fixture.oauth.request_count(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_fails_for_good_is_not_waited_for_and_one_that_works_is_done_all_the_same() {
    let fixture = Fixture::new("refresh-fails", HOUR).await;
    let seed = fixture.seed("alice").await;
    let _operator = fixture.operator();
    fixture.user("alice", json!({})).await;
    fixture.machine("ci", json!({})).await;
    fixture.ready("alice").await;
    fixture.ready("ci").await;
    assert!(fixture.oauth.revoke_family_of(&seed));
    let start = Instant::now();
    let ended = fixture.tokenward(&["refresh", "--all"]).end().await;
    assert!(start.elapsed().as_secs() < 40, "waited for nothing");
    assert_eq!(ended.code, 1, "{}", ended.err);
    let failed = ended
        .err
        .lines()
        .find(|line| line.starts_with("tokenward: "))
        .unwrap();
    assert!(failed.contains("ReauthorizationRequired"), "{failed}");
    let repair = format!("kubectl -n {} patch secret alice-seed", fixture.namespace);
    assert!(failed.contains(&repair), "{failed}");
    assert!(
        ended.err.contains("/ci: refreshed, generation 2"),
        "{}",
        ended.err
    );
    assert_eq!(ended.complaint(), "1 refreshed, 1 failed");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_tried_again_too_late_is_not_waited_for() {
    let fixture = Fixture::new("refresh-pause", HOUR).await;
    fixture.seed("alice").await;
    let _operator = fixture.operator();
    fixture.user("alice", json!({})).await;
    fixture.ready("alice").await;
    let limited = Answer::new(429).header("retry-after", "600");
    fixture.oauth.fail_always(Fault::Answer(limited));
    let start = Instant::now();
    let ended = fixture.tokenward(&["refresh", "alice"]).end().await;
    assert_eq!(ended.code, 1, "{}", ended.err);
    assert!(start.elapsed().as_secs() < 40, "waited for nothing");
    assert!(ended.complaint().contains("RateLimited"), "{}", ended.err);
    assert!(ended.complaint().contains("(not before 2"), "{}", ended.err);

    // Who asks again has it tried again, before that time.
    fixture.oauth.clear_faults();
    let ended = fixture.tokenward(&["refresh", "alice"]).end().await;
    assert_eq!(ended.code, 0, "{}", ended.err);
    assert!(ended.err.contains("generation 2"), "{}", ended.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_change_a_credential_asks_as_programs_do() {
    let fixture = Fixture::new("refresh-want", HOUR).await;
    fixture.seed("alice").await;
    let _operator = fixture.operator();
    fixture.user("alice", json!({})).await;
    fixture.ready("alice").await;
    let consumer = fixture
        .account(
            "consumer",
            json!([
                {"apiGroups": ["tokenward.dev"], "resources": ["integrationcredentials"],
                 "resourceNames": ["alice"], "verbs": ["get", "hold"]},
                {"apiGroups": [""], "resources": ["secrets"],
                 "resourceNames": ["alice"], "verbs": ["get", "list", "watch"]},
                {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"],
                 "verbs": ["get", "create", "patch", "delete"]},
            ]),
        )
        .await;
    let ended = fixture
        .tokenward(&["refresh", "alice", "-o", "json"])
        .by(consumer.kubeconfig());
    let ended = ended.end().await;
    assert_eq!(ended.code, 0, "{}", ended.err);
    let list: Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!(list[0]["generation"], 2);
    assert_eq!(fixture.oauth.granted(), 2);
    let nobody = fixture
        .account(
            "reader",
            json!([{"apiGroups": ["tokenward.dev"], "resources": ["integrationcredentials"], "verbs": ["get"]}]),
        )
        .await;
    let refused = fixture
        .tokenward(&["refresh", "alice"])
        .by(nobody.kubeconfig())
        .end()
        .await;
    assert_eq!(refused.code, 77, "{}", refused.err);
    assert!(
        refused.complaint().contains(r#"verbs: ["patch"]"#),
        "{}",
        refused.err
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_nobody_handles_tells_who_holds_the_gate() {
    let fixture = Fixture::new("refresh-closed", HOUR).await;
    fixture.seed("alice").await;
    let mut operator = fixture.operator();
    fixture.user("alice", json!({})).await;
    fixture.ready("alice").await;
    operator.kill();
    close_gate(&fixture).await;
    let ended = fixture
        .tokenward(&["refresh", "alice", "--timeout", "1s"])
        .end()
        .await;
    assert_eq!(ended.code, 75, "{}", ended.err);
    assert!(
        ended
            .complaint()
            .contains("no newer token within 1s; the gate is held by operator-1/attempt-1"),
        "{}",
        ended.err
    );
    // Without waiting it is only asked for.
    let asked = fixture
        .tokenward(&["refresh", "alice", "--wait=false", "-o", "json"])
        .end()
        .await;
    assert_eq!(asked.code, 0, "{}", asked.err);
    let list: Value = serde_json::from_str(&asked.out).unwrap();
    assert_eq!(list[0]["result"], "requested");
}
