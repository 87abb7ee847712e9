//! How the Python client and its command come to their end.

use axum::http::Method;
use serde_json::json;

use super::{DURATION, FOR_EVER, LONG, Scene, UNTIL_TOLD, gone, posts, renewals, runs};
use crate::support::{ByHand, Calls, Fault};

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_notice_is_passed_on_and_the_hold_released() {
    let scene = Scene::new("py-drain").await;
    let alice = ByHand::new(&scene.fixture, LONG).await;
    let script = "trap 'echo drained; exit 0' USR1; echo in; while :; do sleep 0.05; done";
    let mut client = scene.client(&["--drain-signal", "USR1"], script);
    client.printed("in").await;
    alice.phase("Draining").await;
    client.printed("drained").await;
    assert_eq!(client.end().await.code(), Some(0));
    assert!(alice.holds().await.is_empty(), "it was not released");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_stays_longer_than_the_grace_is_ended_by_its_own_deadline() {
    let scene = Scene::new("py-grace").await;
    let alice = ByHand::new(&scene.fixture, LONG).await;
    let mut client = scene.client(&[], FOR_EVER);
    let pid = client.printed("pid").await;
    alice.phase("Draining").await;
    scene.looks(1).await;
    assert_eq!(client.end().await.code(), Some(76));
    assert!(!runs(&pid));
    assert!(client.errors().contains("longer than the drain grace"));
    // One renewal may fall into the grace of a second, and none after it.
    let calls = scene.proxy.calls();
    let closed = calls.iter().rposition(|c| c.method == Method::PATCH);
    let looks = calls[closed.unwrap_or(0)..].iter();
    let looks = looks.filter(|c| c.name == "alice.gate").count();
    assert!(looks >= 2, "it was renewed all along");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_has_the_drain_grace_to_come_to_its_end() {
    let scene = Scene::new("py-end").await;
    let alice = ByHand::new(&scene.fixture, LONG).await;
    alice.gate(json!({"drain-grace-seconds": "30"})).await;
    let mut client = scene.client(&[], UNTIL_TOLD);
    client.printed("in").await;
    alice.phase("Draining").await;
    client.printed("asked").await;
    let before = scene.proxy.count(&renewals());
    // Longer than the hold would last without renewals.
    scene.proxy.wait_for(&renewals(), before + 4).await;
    let file = client.printed("in").await;
    std::fs::remove_file(file).unwrap();
    assert_eq!(client.end().await.code(), Some(4));
    assert!(alice.holds().await.is_empty(), "it was not released");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_that_is_called_off_costs_a_patient_command_nothing() {
    let scene = Scene::new("py-off").await;
    let alice = ByHand::new(&scene.fixture, LONG).await;
    let client = scene.client(
        &["--drain-signal", "USR1"],
        "
        trap 'echo noticed' USR1; echo in; while :; do sleep 0.05; done",
    );
    client.printed("in").await;
    alice.phase("Draining").await;
    client.printed("noticed").await;
    alice.phase("Open").await;
    let before = scene.proxy.count(&renewals());
    scene.proxy.wait_for(&renewals(), before + 4).await;
    assert_eq!(alice.holds().await.len(), 1);
    assert!(!client.errors().contains("hold.py"), "{}", client.errors());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_does_not_outlive_the_client_nor_its_children_the_hold() {
    let scene = Scene::new("py-kill").await;
    let alice = ByHand::new(&scene.fixture, DURATION).await;
    let client = scene.client(&[], FOR_EVER);
    let pid = client.printed("pid").await;
    client.signal("KILL");
    gone(&pid).await;
    drop(client);
    // Nobody has released that one.
    alice.delete(&alice.hold().await).await;

    let mut client = scene.client(&[], "sleep 600 & echo pid $!");
    let pid = client.printed("pid").await;
    assert_eq!(client.end().await.code(), Some(0));
    gone(&pid).await;
    assert!(alice.holds().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_ends_the_waiting_and_leaves_nothing_behind() {
    let scene = Scene::new("py-signal").await;
    let alice = ByHand::new(&scene.fixture, DURATION).await;
    alice.phase("Refreshing").await;
    let mut client = scene.client(&[], "echo in");
    scene.looks(1).await;
    client.signal("TERM");
    assert_eq!(client.end().await.code(), Some(128 + 15));

    // Even when the hold is there already.
    alice.phase("Open").await;
    let looks = Calls::to(Method::GET, "secrets").named("alice");
    let post = scene.proxy.inject(posts().first(1), Fault::HoldAfter);
    let mut client = scene.client(&[], "echo in; sleep 600");
    post.met(1).await;
    alice.hold().await;
    client.signal("TERM");
    post.release();
    assert_eq!(client.end().await.code(), Some(128 + 15));
    assert!(scene.proxy.count(&looks) > 0);
    assert!(alice.holds().await.is_empty());
}
