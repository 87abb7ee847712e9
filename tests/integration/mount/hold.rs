//! With `--hold`.

use kube::ResourceExt;
use serde_json::{Value, json};

use super::{HOUR, Mounted, mount};
use crate::support::{Account, Deployed, Fixture, Operator, eventually, signal, text};

/// A credential `alice` whose `spec.lock` is this, its operator, and a consumer by the documented role.
async fn alice(test: &str, lock: Value) -> (Fixture, Operator, Account) {
    let fixture = Fixture::new(test, HOUR).await;
    fixture.seed("alice").await;
    let operator = fixture.operator();
    fixture.user("alice", json!({"lock": lock})).await;
    fixture.ready("alice").await;
    let account = Account::create(&fixture, "my-app").await;
    let names = [("my-team", fixture.namespace.as_str())];
    Deployed::apply(&fixture, "consumer-role.yaml", &names).await;
    for (verb, group, resource) in [
        ("get", "tokenward.dev", "integrationcredentials/alice"),
        ("watch", "", "secrets/alice"),
        ("create", "coordination.k8s.io", "leases"),
        ("watch", "coordination.k8s.io", "leases/alice.gate"),
    ] {
        account.until_it_may(true, verb, group, resource).await;
    }
    (fixture, operator, account)
}

async fn held(fixture: &Fixture, account: &Account, dir: &tempfile::TempDir) -> Mounted {
    let mounted = mount(
        fixture,
        &dir.path().join("alice"),
        account.kubeconfig(),
        &["--hold"],
    );
    mounted.ready().await;
    mounted
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_waits_for_a_pod_that_ends_in_time() {
    let (fixture, _operator, account) = alice("mount-hold", json!({"drainGrace": "10m"})).await;
    let dir = tempfile::tempdir().unwrap();
    let mounted = held(&fixture, &account, &dir).await;
    assert_eq!(fixture.holds("alice").await.len(), 1);
    let refresh = fixture.tokenward(&["refresh", "alice"]).start();
    mounted.said("a refresh waits").await;
    assert_eq!(
        fixture.oauth.granted(),
        1,
        "the token was replaced under its holder"
    );
    signal(mounted.running.pid(), "TERM");
    let ended = mounted.running.end().await;
    assert_eq!(ended.code, 0, "{}", ended.err);
    let gave_way = ended.err.contains("released, so that it is refreshed");
    assert!(!gave_way, "before its time: {}", ended.err);
    assert!(fixture.holds("alice").await.is_empty());
    let refresh = refresh.end().await;
    assert_eq!(refresh.code, 0, "{}", refresh.err);
    let token = fixture.find_secret("alice").await.unwrap();
    assert!(!ended.err.contains(&text(&token, "access_token")));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_goes_on_gives_way_and_holds_the_next_token() {
    let (fixture, _operator, account) = alice("mount-way", json!({"drainGrace": "1s"})).await;
    let dir = tempfile::tempdir().unwrap();
    let mounted = held(&fixture, &account, &dir).await;
    let first = fixture.held("alice").await;
    let refresh = fixture.tokenward(&["refresh", "alice"]).end().await;
    assert_eq!(refresh.code, 0, "{}", refresh.err);
    mounted.said("released, so that it is refreshed").await;
    mounted.shows("token_generation", "2").await;
    eventually("the next hold", async || {
        let holds = fixture.holds("alice").await;
        (holds.len() == 1 && holds[0] != first).then_some(())
    })
    .await;
    let target = fixture.find_secret("alice").await.unwrap();
    assert_eq!(
        mounted.file("access_token").unwrap(),
        text(&target, "access_token")
    );
    assert_eq!(mounted.probe("/readyz").await.0, 200);
    // Nobody was forced out.
    let gate = fixture.leases().get("alice.gate").await.unwrap();
    assert_ne!(
        gate.annotations()
            .get("tokenward.dev/forced")
            .map(String::as_str),
        Some("true")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_needs_its_rights_and_a_credential_that_many_may_hold() {
    let (fixture, _operator, account) = alice("mount-terms", json!({"mode": "Exclusive"})).await;
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("alice");
    let exclusive = mount(&fixture, &dir, account.kubeconfig(), &["--hold"]);
    let exclusive = exclusive.running.end().await;
    assert_eq!(exclusive.code, 1, "{}", exclusive.err);
    assert!(
        exclusive.complaint().contains("spec.lock.mode Exclusive"),
        "{}",
        exclusive.err
    );
    let reader = json!([
        {"apiGroups": ["tokenward.dev"], "resources": ["integrationcredentials"], "resourceNames": ["alice"], "verbs": ["get"]},
        {"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["alice"], "verbs": ["list", "watch"]},
    ]);
    let reader = fixture.account("reader", reader).await;
    let refused = mount(&fixture, &dir, reader.kubeconfig(), &["--hold"]);
    let refused = refused.running.end().await;
    assert_eq!(refused.code, 77, "{}", refused.err);
    assert!(
        refused.complaint().contains(r#"resources: ["leases"]"#),
        "{}",
        refused.err
    );
    // Without it the files are there all the same.
    let plain = mount(&fixture, &dir, reader.kubeconfig(), &[]);
    plain.ready().await;
}
