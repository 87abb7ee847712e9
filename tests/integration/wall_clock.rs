//! A wall clock that is moved by a day, under an operator or under a program that uses a token.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;

use crate::support::{Fixture, Operator, Program, WallClock, eventually, within};

const LIFETIME: Duration = Duration::from_secs(30);
const DAY: i64 = 86_400;

/// When tokens were obtained, by this process's clock.
fn grants(fixture: &Fixture) -> Vec<Timestamp> {
    fixture.oauth.requests().into_iter().map(|r| r.at).collect()
}

/// Moves one clock after the first refresh, and watches two more.
async fn has_no_effect(test: &str, operators: i64, programs: i64) {
    let fixture = Fixture::new(test, LIFETIME).await;
    fixture.seed("alice").await;
    // Without TLS: whether a certificate is valid yet is a question of its own.
    let proxy = fixture.proxy().await;
    let kubeconfig = proxy.kubeconfig();
    let (operators_clock, programs_clock) = (WallClock::right(), WallClock::right());
    let _operator = Operator::start_at(&operators_clock, &kubeconfig, &fixture.namespace, &[]);
    fixture.user("alice", json!({})).await;
    fixture.ready("alice").await;
    let resource = fixture.oauth.resource_url();
    let arguments = [
        "alice",
        "--namespace",
        &fixture.namespace,
        "--resource",
        &resource,
    ];
    let program = Program::example_at(&programs_clock, "consumer", &kubeconfig, &arguments);
    eventually("the program at work", async || {
        (fixture.oauth.resource_calls().0 > 20).then_some(())
    })
    .await;
    // While it holds the credential, or just does not.
    operators_clock.set(operators);
    programs_clock.set(programs);
    within(4 * LIFETIME, "three more tokens", async || {
        (grants(&fixture).len() >= 4).then_some(())
    })
    .await;
    let told = program.finish();
    for what in ["refused", "errors"] {
        assert_eq!(told[what], 0, "{told}");
    }
    assert!(told["lost"] == 0 || fixture.paused_for(3), "{told}");
    assert_eq!(fixture.oauth.resource_calls().1, 0);
    assert_eq!(fixture.oauth.max_presentations(), 1);
    let grants = grants(&fixture);
    for pair in grants.windows(2) {
        let took = pair[1].duration_since(pair[0]).as_secs_f64();
        assert!(took < LIFETIME.as_secs_f64(), "{grants:?}");
    }
    // A clock that is set forward looks like a pause: one refresh comes early, and no more.
    let all = grants
        .last()
        .unwrap()
        .duration_since(grants[0])
        .as_secs_f64();
    let least = if operators > 0 { 18.0 } else { 30.0 };
    assert!(all > least, "{grants:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operators_clock_that_is_set_forward_by_a_day_costs_nobody_a_token() {
    has_no_effect("forward", DAY, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operators_clock_that_is_set_back_by_a_day_delays_no_refresh() {
    has_no_effect("back", -DAY, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_programs_clock_that_is_set_forward_by_a_day_changes_nothing() {
    has_no_effect("program-forward", 0, DAY).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_programs_clock_that_is_set_back_by_a_day_changes_nothing() {
    has_no_effect("program-back", 0, -DAY).await;
}
