//! How the Python client gets a hold, and when it does not.

use std::time::Duration;

use kube::{ResourceExt, api::DeleteParams};
use serde_json::json;

use super::{DURATION, LONG, Scene, UNTIL_TERM, makes_a_hold, passed, posts, renewals};
use crate::support::{ByHand, Fault, Python, notes};

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_gate_is_waited_for_and_an_open_one_lets_in() {
    let scene = Scene::new("py-gate").await;
    let alice = ByHand::new(&scene.fixture, LONG).await;
    alice.phase("Refreshing").await;
    let mut client = scene.client(&[], UNTIL_TERM);
    scene.looks(3).await;
    assert_eq!(scene.proxy.count(&posts()), 0, "a hold at a closed gate");

    alice.phase("Open").await;
    assert_eq!(client.printed("token").await, "at-1 1");
    let hold = alice.hold().await;
    let nonce = hold.name_any().replace("alice.hold.", "");
    let spec = hold.spec.as_ref().unwrap();
    let identity = spec.holder_identity.as_ref().unwrap();
    assert!(
        nonce.len() >= 12 && identity.ends_with(&format!("/{nonce}")),
        "{hold:?}"
    );
    assert_eq!(spec.lease_duration_seconds, i32::try_from(LONG).ok());
    assert_eq!(hold.metadata.owner_references, None);
    let notes = notes(&hold);
    assert_eq!(notes["generation"], "1");
    assert_eq!(notes["owner"], "administrator");

    // Renewed for longer than it would last.
    scene.proxy.wait_for(&renewals(), 4).await;
    let renewed = alice.hold().await;
    assert_eq!(renewed.uid(), hold.uid());
    assert!(renewed.spec.unwrap().renew_time.unwrap() > spec.renew_time.clone().unwrap());

    client.signal("TERM");
    assert_eq!(client.end().await.code(), Some(3));
    assert!(alice.holds().await.is_empty(), "it was not released");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_let_in_is_told_why() {
    let scene = Scene::new("py-why").await;
    let alice = ByHand::new(&scene.fixture, LONG).await;
    let at_once = ["--timeout", "0"];
    let told = async |mut client: Python, status: i32, why: &str| {
        assert_eq!(client.end().await.code(), Some(status), "{why}");
        assert!(client.errors().contains(why), "{why}");
        assert_eq!(client.output(), "");
    };

    alice.gate(json!({"phase": null})).await;
    told(scene.client(&at_once, "echo in"), 75, "closed (missing").await;
    alice.phase("Draining").await;
    told(scene.client(&at_once, "echo in"), 75, "closed (Draining").await;
    alice.phase("Open").await;
    alice.gate(json!({"generation": "2"})).await;
    let behind = "TargetNotPublished";
    told(scene.client(&at_once, "echo in"), 75, behind).await;
    alice.free().await;
    alice.gate(json!({"generation": "1"})).await;
    let mode = ["--mode", "Exclusive"];
    let is_shared = "alice has spec.lock.mode Shared, not Exclusive";
    told(scene.client(&mode, "echo in"), 1, is_shared).await;
    scene.fixture.delete_secret("alice").await;
    let none = "there is no token yet";
    told(scene.client(&at_once, "echo in"), 75, none).await;
    let leases = scene.fixture.leases();
    leases
        .delete("alice.gate", &DeleteParams::default())
        .await
        .unwrap();
    alice.publish(1, Duration::from_secs(3600)).await;
    told(scene.client(&at_once, "echo in"), 75, "closed (missing").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gate_that_closes_while_the_hold_is_made_lets_nobody_in() {
    let scene = Scene::new("py-race").await;
    let alice = ByHand::new(&scene.fixture, LONG).await;
    let post = scene.proxy.inject(posts().first(1), Fault::HoldBefore);
    let client = scene.client(&[], UNTIL_TERM);
    post.met(1).await;
    // The writer closes the gate and finds no hold.
    alice.phase("Refreshing").await;
    assert!(alice.holds().await.is_empty());
    post.release();
    post.over(1).await;
    alice.free().await;
    scene.looks(2).await;
    assert_eq!(client.output(), "", "in use during a refresh");

    // As a refresh leaves it.
    alice.publish(2, Duration::from_secs(3600)).await;
    alice.gate(json!({"generation": "2"})).await;
    alice.phase("Open").await;
    assert_eq!(client.printed("token").await, "at-2 2");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mode_that_changes_while_the_hold_is_made_is_followed() {
    let scene = Scene::new("py-mode").await;
    let alice = ByHand::new(&scene.fixture, LONG).await;
    let post = scene.proxy.inject(posts().first(1), Fault::HoldBefore);
    let client = scene.client(&[], UNTIL_TERM);
    post.met(1).await;
    alice.gate(json!({"mode": "Exclusive"})).await;
    post.release();
    client.printed("token").await;
    let held: Vec<_> = alice
        .holds()
        .await
        .iter()
        .map(ResourceExt::name_any)
        .collect();
    assert_eq!(held, ["alice.hold.exclusive"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn exclusive_lets_in_one_at_a_time() {
    let scene = Scene::new("py-exclusive").await;
    let alice = ByHand::new(&scene.fixture, LONG).await;
    alice.gate(json!({"mode": "Exclusive"})).await;
    let mut first = scene.client(&[], UNTIL_TERM);
    first.printed("token").await;
    let held = alice.hold().await;
    let second = scene.client(&["--mode", "Exclusive"], UNTIL_TERM);
    scene.proxy.wait_for(&posts(), 3).await;
    assert_eq!(second.output(), "");
    assert_eq!(alice.hold().await.uid(), held.uid());

    first.signal("TERM");
    first.end().await;
    second.printed("token").await;
    assert_ne!(alice.hold().await.uid(), held.uid());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_whose_creation_had_no_clear_answer_is_used_if_it_is_there_and_made_if_not() {
    for (test, fault) in [
        ("py-after", Fault::DropAfter),
        ("py-before", Fault::DropBefore),
        ("py-503", Fault::Answer(503)),
    ] {
        let scene = Scene::new(test).await;
        let alice = ByHand::new(&scene.fixture, LONG).await;
        let unclear = scene.proxy.inject(posts().first(1), fault);
        let client = scene.client(&[], UNTIL_TERM);
        client.printed("token").await;
        assert_eq!(unclear.hits(), 1);
        assert_eq!(alice.holds().await.len(), 1, "{test}");
        let calls = scene.proxy.calls();
        let made = calls.iter().filter(|c| makes_a_hold(c));
        let mut names: Vec<_> = made.map(|c| c.name.clone()).collect();
        assert_eq!(names.len(), 2, "{test}");
        names.dedup();
        assert_eq!(names.len(), 1, "{test}: under another name");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exclusive_hold_whose_creation_had_no_clear_answer_is_known_by_its_nonce() {
    let scene = Scene::new("py-nonce").await;
    let alice = ByHand::new(&scene.fixture, LONG).await;
    alice.gate(json!({"mode": "Exclusive"})).await;
    scene.proxy.inject(posts().first(1), Fault::DropAfter);
    let client = scene.client(&[], UNTIL_TERM);
    client.printed("token").await;
    assert_eq!(alice.holds().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_counts_from_when_its_creation_was_sent() {
    let scene = Scene::new("py-slow").await;
    let alice = ByHand::new(&scene.fixture, DURATION).await;
    let slow = scene.proxy.inject(posts().first(1), Fault::HoldAfter);
    scene.proxy.inject(renewals(), Fault::Answer(503));
    let client = scene.client(&[], UNTIL_TERM);
    slow.met(1).await;
    let hold = alice.hold().await;
    passed(Duration::from_secs(DURATION).mul_f64(0.62)).await;
    slow.release();
    client.printed("token").await;
    let now = alice.holds().await;
    assert_eq!(now.len(), 1);
    assert_ne!(now[0].uid(), hold.uid(), "with too little of it left");
}
