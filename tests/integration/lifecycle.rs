//! Both grants, over several refreshes.

use std::{collections::BTreeMap, time::Duration};

use futures::StreamExt;
use jiff::Timestamp;
use kube::{
    ResourceExt,
    api::DeleteParams,
    config::Kubeconfig,
    runtime::{WatchStreamExt, watcher},
};
use serde_json::json;

use crate::support::{Fixture, Operator, condition, eventually, kubeconfig, kubectl, soon, text};

/// Short enough for several refreshes in a test.
const LIFETIME: Duration = Duration::from_secs(4);

#[tokio::test(flavor = "multi_thread")]
async fn refreshes_before_expiry_and_redeems_each_refresh_token_once() {
    // Each new token comes in time although the machine stands still for some seconds.
    let fixture = Fixture::new("lifecycle", 3 * LIFETIME).await;
    let only = watcher::Config::default().fields("metadata.name=alice");
    let versions = watcher(fixture.secrets(), only).default_backoff();
    let mut versions = Box::pin(versions.applied_objects());
    let seed = fixture.seed("alice").await;
    let operator = fixture.operator();
    fixture.user("alice", json!({"user": "alice"})).await;

    let first = fixture.ready("alice").await;
    // By generation: when the API server got it, and when it expires.
    let mut seen = BTreeMap::<i64, (Timestamp, Timestamp)>::new();
    while seen.len() < 4 {
        let Ok(target) = soon("the target", versions.next()).await.unwrap() else {
            continue;
        };
        let writes = target.metadata.managed_fields.iter().flatten();
        let written = writes
            .filter_map(|write| Some(write.time.as_ref()?.0))
            .max();
        let expires_at: Timestamp = text(&target, "expires_at").parse().unwrap();
        assert!(
            target
                .data
                .as_ref()
                .unwrap()
                .keys()
                .all(|key| !key.contains("refresh"))
        );
        assert_eq!(
            text(&target, "authorization"),
            format!("Bearer {}", text(&target, "access_token"))
        );
        let generation = text(&target, "token_generation").parse().unwrap();
        seen.insert(generation, (written.unwrap(), expires_at));
    }
    assert!(seen.keys().copied().eq(1..=4), "{seen:?}");
    // Whatever instant a program reads the Secret, the token in it has not expired.
    for ((_, expires_at), (next, _)) in seen.values().zip(seen.values().skip(1)) {
        assert!(next < expires_at, "an expired token: {seen:?}");
    }
    let requests = fixture.oauth.requests();
    assert!(fixture.oauth.granted() >= 4);
    assert_eq!(
        fixture.oauth.max_presentations(),
        1,
        "a refresh token was presented twice"
    );
    assert_eq!(fixture.oauth.redemptions(&seed), 1);

    let status = fixture.generation("alice", 4).await.status.unwrap();
    assert_eq!(status.observed_generation, first.metadata.generation);
    assert!(status.token.unwrap().generation >= 4);
    fixture.untroubled("alice").await;

    let redeemed: Vec<String> = requests
        .iter()
        .filter_map(|r| r.refresh_token.clone())
        .collect();
    fixture.assert_nowhere(&redeemed, &[&operator]).await;
    // An event for the first token, none for the refreshes after it.
    let events = fixture.events().await;
    for told in ["Refreshed: a token was obtained; ", "Authorized: "] {
        let told = events.iter().filter(|e| e.starts_with(told));
        assert_eq!(told.count(), 1, "{events:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn client_credentials_are_obtained_again_before_they_expire() {
    let fixture = Fixture::new("machine", LIFETIME).await;
    let mut operator = fixture.operator();
    fixture
        .machine("ci", json!({"target": {"name": "mounted"}}))
        .await;
    let credential = fixture.generation("ci", 3).await;
    // What was granted is published then.
    operator.signal("TERM");
    assert!(operator.end().await.success());

    let target = fixture.find_secret("mounted").await.expect("the target");
    let generation: u64 = text(&target, "token_generation").parse().unwrap();
    assert!(generation >= 3);
    assert_eq!(text(&target, "scope"), "read");
    assert_eq!(target.owner_references()[0].uid, credential.uid().unwrap());
    assert!(
        fixture.find_secret("ci.grant").await.is_none(),
        "nothing to store in a grant"
    );
    assert_eq!(
        usize::try_from(generation).unwrap(),
        fixture.oauth.granted()
    );
    assert_eq!(condition(&credential, "Stalled").unwrap().0, "False");
    fixture
        .assert_nowhere(&["demo-secret".to_owned()], &[&operator])
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_token_in_the_secret_opens_the_resource() {
    let fixture = Fixture::new("resource", Duration::from_secs(3600)).await;
    fixture.seed("alice").await;
    let _operator = fixture.operator();
    fixture.user("alice", json!({})).await;
    fixture.ready("alice").await;
    let target = fixture.find_secret("alice").await.unwrap();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let answer = client
        .get(fixture.oauth.resource_url())
        .header("authorization", text(&target, "authorization"))
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_margin_longer_than_the_token_lives_does_not_loop() {
    let fixture = Fixture::new("margin", Duration::from_secs(20)).await;
    fixture.seed("alice").await;
    let _operator = fixture.operator();
    fixture
        .user("alice", json!({"refresh": {"before": "24h"}}))
        .await;
    let credential = fixture.ready("alice").await;
    let status = credential.status.unwrap();
    let (token, refresh) = (status.token.unwrap(), status.refresh.unwrap());
    let expires = token.expiration_time.unwrap().0;
    let obtained = token.last_refresh_time.unwrap().0;
    let next = refresh.next_time.unwrap().0;
    let half = expires.duration_since(obtained) / 2;
    assert!(
        next.duration_since(obtained) >= half - jiff::SignedDuration::from_secs(2),
        "{next}"
    );
    fixture.generation("alice", 2).await;
    assert!(
        fixture.oauth.request_count() <= 3,
        "more refreshes than halves of a lifetime"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn probes_answer_and_sigterm_ends_it_cleanly() {
    let fixture = Fixture::new("probes", LIFETIME).await;
    let mut operator = fixture.operator();
    let address = operator.health().await;
    operator.ready().await;
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    for path in ["livez", "readyz"] {
        eventually(path, async || {
            let answer = client
                .get(format!("http://{address}/{path}"))
                .send()
                .await
                .ok()?;
            (answer.status() == 200).then_some(())
        })
        .await;
    }
    operator.signal("TERM");
    assert!(operator.end().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn log_lines_name_the_credential_the_provider_and_the_attempt() {
    let fixture = Fixture::new("logs", Duration::from_secs(3600)).await;
    let operator = fixture.operator();
    fixture.machine("ci", json!({})).await;
    fixture.ready("ci").await;
    let line = operator.logged("token obtained").await;
    assert_eq!(line["credential"], format!("{}/ci", fixture.namespace));
    assert_eq!(line["provider"], format!("{}/provider", fixture.namespace));
    assert_eq!(line["attempt"].as_str().unwrap().len(), 12);
    operator.lines();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_that_cannot_start_says_why() {
    let fixture = Fixture::bare("start", LIFETIME).await;
    let namespace = fixture.namespace.as_str();
    let account = ["-n", namespace, "create", "serviceaccount", "nobody"];
    assert!(kubectl(&account).await.status.success());
    let token = kubectl(&["-n", namespace, "create", "token", "nobody"]).await;
    let folder = tempfile::tempdir().unwrap();
    let powerless = folder.path().join("kubeconfig");
    let mut config = Kubeconfig::read_from(kubeconfig()).unwrap();
    let user = config.auth_infos[0].auth_info.as_mut().unwrap();
    user.token = Some(
        String::from_utf8(token.stdout)
            .unwrap()
            .trim()
            .to_owned()
            .into(),
    );
    std::fs::write(&powerless, serde_json::to_string(&config).unwrap()).unwrap();

    let mut powerless = Operator::start(&powerless, namespace, &[]);
    assert_eq!(powerless.end().await.code(), Some(1));
    let log = powerless.log();
    let last = log.lines().last().unwrap();
    let words =
        format!("forbids to list integrationcredentials.tokenward.dev in namespace {namespace}");
    assert!(
        last.starts_with("tokenward: ") && last.contains(&words),
        "{last}"
    );

    let mut lost = Operator::start(&folder.path().join("none"), namespace, &[]);
    assert_eq!(lost.end().await.code(), Some(1));
    assert!(lost.log().contains("usable kubeconfig"), "{}", lost.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn several_namespaces_are_served_and_no_other() {
    let first = Fixture::new("first", Duration::from_secs(3600)).await;
    let second = Fixture::new("second", Duration::from_secs(3600)).await;
    let third = Fixture::new("third", Duration::from_secs(3600)).await;
    for fixture in [&first, &second, &third] {
        fixture.machine("ci", json!({})).await;
    }
    let operator = first.operator_with(&["--namespace", &second.namespace]);
    first.ready("ci").await;
    second.ready("ci").await;
    let address = operator.health().await;
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let ready = client.get(format!("http://{address}/readyz")).send().await;
    assert_eq!(ready.unwrap().status(), 200);
    assert_eq!(third.get("ci").await.status, None);
    assert!(!operator.log().contains(&third.namespace));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_made_for_a_credential_goes_with_it_and_the_name_can_be_used_again() {
    let fixture = Fixture::new("delete", Duration::from_secs(3600)).await;
    let first = fixture.seed("alice").await;
    let _operator = fixture.operator();
    fixture.user("alice", json!({})).await;
    fixture.ready("alice").await;
    let params = DeleteParams::default();
    fixture
        .credentials()
        .delete("alice", &params)
        .await
        .unwrap();
    // Made again at once, while the old objects may still be there.
    let second = fixture.seed("alice").await;
    fixture.user("alice", json!({})).await;

    let credential = fixture.ready("alice").await;
    let uid = credential.uid().unwrap();
    for name in ["alice", "alice.grant"] {
        let secret = fixture.find_secret(name).await.unwrap();
        assert_eq!(secret.owner_references()[0].uid, uid, "{name}");
    }
    let presented = (
        fixture.oauth.redemptions(&first),
        fixture.oauth.redemptions(&second),
    );
    assert_eq!(presented, (1, 1));

    fixture
        .credentials()
        .delete("alice", &params)
        .await
        .unwrap();
    eventually("an empty namespace", async || {
        let secrets = [
            fixture.find_secret("alice").await,
            fixture.find_secret("alice.grant").await,
        ];
        let gate = fixture.leases().get_opt("alice.gate").await.unwrap();
        (secrets.iter().all(Option::is_none) && gate.is_none()).then_some(())
    })
    .await;
    // The seed is its user's.
    assert!(fixture.find_secret("alice-seed").await.is_some());
}
