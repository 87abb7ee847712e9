//! Seeds as tools of GitOps leave them: as placeholders, sealed, put back.

use std::time::Duration;

use kube::{ResourceExt, api::DeleteParams};
use serde_json::json;

use crate::support::{Fixture, condition, eventually, kubectl, reason};

const HOUR: Duration = Duration::from_secs(3600);

async fn ask(fixture: &Fixture, value: &str) {
    let annotation = format!("tokenward.dev/refresh-requested={value}");
    let namespace = fixture.namespace.as_str();
    let annotated = kubectl(&[
        "-n",
        namespace,
        "annotate",
        "--overwrite",
        "icred/alice",
        &annotation,
    ])
    .await;
    assert!(annotated.status.success());
    fixture
        .until("alice", "the request handled", |c| {
            let refresh = c.status.as_ref().and_then(|s| s.refresh.as_ref());
            refresh.is_some_and(|r| r.last_handled_request.as_deref() == Some(value))
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_placeholder_waits_for_the_real_seed_and_does_no_harm_when_it_is_put_back() {
    let fixture = Fixture::new("placeholder", HOUR).await;
    let _operator = fixture.operator();
    fixture.user("alice", json!({})).await;
    fixture.stalled("alice", "SeedNotFound").await;
    fixture.reseed("alice", "").await;
    let waiting = fixture.stalled("alice", "SeedInvalid").await;
    let (_, _, message) = condition(&waiting, "Stalled").unwrap();
    assert!(message.contains("alice-seed"), "{message}");
    assert_eq!(reason(&waiting), "Pending");
    assert_eq!(fixture.oauth.request_count(), 0);

    let seed = fixture.seed("alice").await;
    fixture.ready("alice").await;
    fixture.reseed("alice", "").await;
    ask(&fixture, "after the placeholder").await;
    let refreshed = fixture.ready("alice").await;
    assert_eq!(refreshed.status.unwrap().token.unwrap().generation, 2);

    // The seed of the repository, which is spent by now.
    fixture.reseed("alice", &seed).await;
    ask(&fixture, "after the old seed").await;
    let refreshed = fixture.ready("alice").await;
    assert_eq!(refreshed.status.unwrap().token.unwrap().generation, 3);
    assert_eq!(fixture.oauth.redemptions(&seed), 1);
    assert_eq!(fixture.oauth.max_presentations(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seed_that_is_unsealed_anew_is_not_presented_again() {
    let fixture = Fixture::new("unsealed", HOUR).await;
    let seed = fixture.seed("alice").await;
    let operator = fixture.operator();
    fixture.user("alice", json!({})).await;
    fixture.ready("alice").await;

    let before = fixture.secrets().get("alice-seed").await.unwrap();
    let gone = DeleteParams::default();
    fixture.secrets().delete("alice-seed", &gone).await.unwrap();
    // What works is not touched by what it came from.
    ask(&fixture, "without a seed").await;
    assert_eq!(reason(&fixture.ready("alice").await), "Valid");
    fixture.reseed("alice", &seed).await;
    let after = fixture.secrets().get("alice-seed").await.unwrap();
    assert_ne!(before.uid(), after.uid());
    eventually("a look at the seed", async || {
        operator.log().contains("check_seed").then_some(())
    })
    .await;
    ask(&fixture, "with the same seed").await;
    assert_eq!(reason(&fixture.ready("alice").await), "Valid");
    assert_eq!(fixture.oauth.redemptions(&seed), 1);
    assert_eq!(fixture.oauth.max_presentations(), 1);
}
