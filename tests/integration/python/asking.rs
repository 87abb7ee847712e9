//! How the Python client asks for another token.

use std::time::Duration;

use axum::http::Method;
use kube::ResourceExt;
use serde_json::json;

use super::{ACQUIRE, LONG, Scene, UNTIL_TERM, posts};
use crate::support::{ByHand, Calls, notes};

#[tokio::test(flavor = "multi_thread")]
async fn a_token_about_to_expire_is_asked_for_anew_and_not_held_meanwhile() {
    let scene = Scene::new("py-expiry").await;
    let alice = ByHand::new(&scene.fixture, LONG).await;
    alice.publish(1, Duration::from_secs(1)).await;
    let client = scene.client(&[], UNTIL_TERM);
    let want = alice.want().await;
    assert!(want.name_any().starts_with("alice.want."));
    let notes = notes(&want);
    assert_eq!(notes["generation"], "1");
    assert_eq!(notes["owner"], "administrator");
    assert_eq!(want.spec.as_ref().unwrap().lease_duration_seconds, Some(60));
    scene.looks(2).await;
    assert_eq!(alice.wants().await.len(), 1, "one is enough");
    assert_eq!(scene.proxy.count(&posts()), 0, "a hold that nobody needs");

    alice.publish(2, Duration::from_secs(3600)).await;
    alice.gate(json!({"generation": "2"})).await;
    alice.delete(&want).await;
    assert_eq!(client.printed("token").await, "at-2 2");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_reports_a_rejected_token_and_gets_the_next() {
    let program = format!(
        "{ACQUIRE}
with alice.acquire() as hold:
    print('first', hold.token, flush=True)
    hold.report_rejected()
    try:
        hold.token
    except Lost as error:
        print('lost', error, flush=True)
with alice.acquire() as hold:
    print('second', hold.token, hold.draining, hold.lost, flush=True)
"
    );
    let scene = Scene::new("py-rejected").await;
    let alice = ByHand::new(&scene.fixture, LONG).await;
    let (mut program, _wait) = scene.program(&program);
    assert_eq!(program.printed("first").await, "at-1");
    assert_eq!(program.printed("lost").await, "it was released");
    let want = alice.want().await;
    assert_eq!(notes(&want)["generation"], "1");
    assert!(
        alice.holds().await.is_empty(),
        "a refresh would wait for it"
    );
    alice.publish(2, Duration::from_secs(3600)).await;
    alice.gate(json!({"generation": "2"})).await;
    assert_eq!(program.printed("second").await, "at-2 False False");
    assert!(program.end().await.success());
    assert!(alice.holds().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wall_clock_that_is_a_day_ahead_asks_for_no_refresh() {
    let program = format!(
        "{ACQUIRE}
clock, day = time.time, 86400
time.time = lambda: clock() + day
with alice.acquire() as hold:
    print('held', hold.generation, hold.lost, flush=True)
"
    );
    let scene = Scene::new("py-ahead").await;
    let _alice = ByHand::new(&scene.fixture, LONG).await;
    let (mut program, _wait) = scene.program(&program);
    assert_eq!(program.printed("held").await, "1 False");
    assert!(program.end().await.success());
    let wants = Calls::to(Method::POST, "leases").named("alice.want.*");
    assert_eq!(scene.proxy.count(&wants), 0);
}
