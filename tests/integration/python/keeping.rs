//! How the Python client keeps its hold, and how it learns that it has lost it.

use std::time::Duration;

use axum::http::Method;
use kube::{ResourceExt, api::PostParams};
use serde_json::json;

use super::{
    ACQUIRE, DURATION, FOR_EVER, LONG, Scene, UNTIL_TERM, gone, operators_deadline, passed, posts,
    renewals, runs,
};
use crate::support::{ByHand, Calls, Fault};

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_that_somebody_deletes_ends_the_command() {
    let scene = Scene::new("py-deleted").await;
    let alice = ByHand::new(&scene.fixture, LONG).await;
    let mut client = scene.client(&[], FOR_EVER);
    let pid = client.printed("pid").await;
    let hold = alice.hold().await;
    alice.delete(&hold).await;
    assert_eq!(client.end().await.code(), Some(76));
    assert!(!runs(&pid));
    assert!(client.errors().contains("somebody has deleted it"));
    assert!(alice.holds().await.is_empty(), "it was made again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_of_the_same_name_that_is_anothers_is_neither_renewed_nor_released() {
    let scene = Scene::new("py-another").await;
    let alice = ByHand::new(&scene.fixture, LONG).await;
    alice.gate(json!({"mode": "Exclusive"})).await;
    let mut client = scene.client(&[], FOR_EVER);
    client.printed("pid").await;
    let hold = alice.hold().await;
    alice.delete(&hold).await;
    let mut another = hold;
    another.metadata.uid = None;
    another.metadata.resource_version = None;
    let leases = scene.fixture.leases();
    let params = PostParams::default();
    let another = leases.create(&params, &another).await.unwrap();

    assert_eq!(client.end().await.code(), Some(76));
    let now = alice.hold().await;
    assert_eq!(now.uid(), another.uid());
    assert_eq!(now.resource_version(), another.resource_version());
}

#[tokio::test(flavor = "multi_thread")]
async fn renewals_whose_answers_are_lost_are_looked_up_and_made_again() {
    let scene = Scene::new("py-lost").await;
    let alice = ByHand::new(&scene.fixture, LONG).await;
    let client = scene.client(&[], UNTIL_TERM);
    client.printed("token").await;
    let lost = scene.proxy.inject(renewals().first(2), Fault::DropAfter);
    lost.met(2).await;
    let before = scene.proxy.count(&renewals());
    // Far longer than the hold would last without them.
    scene.proxy.wait_for(&renewals(), before + 4).await;
    assert_eq!(alice.holds().await.len(), 1);
    assert_eq!(client.errors(), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_renewals_the_command_ends_by_the_deadline_and_a_late_one_revives_nothing() {
    let scene = Scene::new("py-late").await;
    let alice = ByHand::new(&scene.fixture, DURATION).await;
    // A machine that just stood still may see the end late, and not three times in a row.
    let mut lasted = Vec::new();
    while lasted
        .last()
        .is_none_or(|last| *last >= operators_deadline())
    {
        assert!(lasted.len() < 3, "{lasted:?} after it was made");
        let before = scene.proxy.count(&posts());
        let late = scene.proxy.inject(renewals(), Fault::HoldBefore);
        let mut client = scene.client(&[], FOR_EVER);
        let pid = client.printed("pid").await;
        let sent = scene.proxy.times(&posts())[before];
        gone(&pid).await;
        lasted.push(sent.elapsed());
        assert_eq!(client.end().await.code(), Some(76));
        late.release();
        late.over(1).await;
        assert!(alice.holds().await.is_empty(), "it came to be again");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_counts_from_when_it_was_sent() {
    // With room on both sides for a machine that stands still.
    let duration = Duration::from_secs(16);
    let scene = Scene::new("py-sent").await;
    let _alice = ByHand::new(&scene.fixture, duration.as_secs()).await;
    let slow = scene.proxy.inject(renewals().first(1), Fault::HoldAfter);
    let client = scene.client(&[], FOR_EVER);
    let pid = client.printed("pid").await;
    slow.met(1).await;
    scene.proxy.inject(renewals(), Fault::Answer(503));
    let calls = scene.proxy.calls();
    let sent = calls.iter().find(|c| c.method == Method::PATCH).unwrap().at;
    passed(duration.mul_f64(0.2)).await;
    slow.release();
    gone(&pid).await;
    let lasted = sent.elapsed();
    assert!(lasted > duration.mul_f64(0.7), "{lasted:?}: not renewed");
    assert!(lasted < duration.mul_f64(1.05), "{lasted:?}: too long");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_that_is_answered_after_the_deadline_revives_nothing() {
    // Looks at the hold only when it is told to.
    let program = format!(
        "{ACQUIRE}
with alice.acquire() as hold:
    print('held', flush=True)
    while os.path.exists(wait):
        time.sleep(0.05)
    print('lost', hold.lost, flush=True)
"
    );
    let scene = Scene::new("py-revive").await;
    let alice = ByHand::new(&scene.fixture, DURATION).await;
    let late = scene.proxy.inject(renewals(), Fault::HoldAfter);
    let (mut program, wait) = scene.program(&program);
    program.printed("held").await;
    late.met(1).await;
    // The answer comes in time, but the program stands still. It goes on when the hold that it knows of
    // is over, and the one that the answer tells of would not be.
    program.signal("STOP");
    late.release();
    late.over(1).await;
    passed(Duration::from_secs(DURATION).mul_f64(0.75)).await;
    std::fs::remove_file(&wait).unwrap();
    program.signal("CONT");
    assert_eq!(program.printed("lost").await, "True");
    assert!(program.end().await.success());
    alice.free().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wall_clock_set_forward_ends_a_hold_and_one_set_back_does_not() {
    let program = format!(
        "{ACQUIRE}
clock, day = time.time, 86400
with alice.acquire() as hold:
    print('early', hold.remaining() < 0.95 * hold.duration, flush=True)
    time.time = lambda: clock() - day
    print('back', hold.lost, flush=True)
    time.time = lambda: clock() + day
    print('forward', hold.lost, flush=True)
    time.time = clock
    print('again', hold.lost, flush=True)
with alice.acquire() as hold:
    print('held', flush=True)
    time.time = lambda: clock() - day
    while not hold.lost:
        time.sleep(0.05)
"
    );
    let scene = Scene::new("py-wall").await;
    let _alice = ByHand::new(&scene.fixture, DURATION).await;
    let (mut program, _wait) = scene.program(&program);
    program.printed("held").await;
    assert_eq!(
        program.output(),
        "early True\nback False\nforward True\nagain True\nheld\n"
    );
    // Nor does a hold last for ever on a wall clock that was set back.
    scene.proxy.inject(renewals(), Fault::Answer(503));
    assert!(program.end().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_renews_without_a_look_at_the_gate() {
    let scene = Scene::new("py-look").await;
    let alice = ByHand::new(&scene.fixture, DURATION).await;
    let mut client = scene.client(&[], FOR_EVER);
    client.printed("pid").await;
    let looks = Calls::to(Method::GET, "leases").named("alice.gate");
    let before = scene.proxy.count(&renewals());
    let blind = scene.proxy.inject(looks, Fault::Answer(503));
    assert_eq!(client.end().await.code(), Some(76));
    assert!(blind.hits() > 1);
    assert!(scene.proxy.count(&renewals()) <= before + 1);
    alice.free().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_was_stopped_for_too_long_kills_its_command_when_it_goes_on() {
    let scene = Scene::new("py-stop").await;
    let alice = ByHand::new(&scene.fixture, DURATION).await;
    let mut client = scene.client(&[], FOR_EVER);
    let pid = client.printed("pid").await;
    let hold = alice.hold().await;
    client.signal("STOP");
    passed(Duration::from_secs(DURATION)).await;
    // The operator has timed it out.
    alice.delete(&hold).await;
    client.signal("CONT");
    assert_eq!(client.end().await.code(), Some(76));
    assert!(!runs(&pid));
    assert!(alice.holds().await.is_empty());
}
