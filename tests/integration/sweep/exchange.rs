//! What goes wrong in the middle of an exchange.

use std::time::{Duration, Instant};

use axum::http::Method;
use kube::ResourceExt;
use tokio::time::sleep;

use super::trial::Trial;
use crate::support::{Calls, Operator, Proxy, soon};

/// More than clocks may drift in any duration of a gate here.
const MARGIN: Duration = Duration::from_millis(800);

/// Waits until the provider has taken a refresh token, and withholds the answer.
async fn taken(trial: &Trial) {
    let oauth = &trial.fixture.oauth;
    let granted = oauth.granted();
    oauth.hold_exchanges();
    soon("an exchange", oauth.wait_for_outcomes(granted + 1)).await;
}

/// How long the gate says that a writer's lease lasts, and how much longer a successor waits.
async fn durations(trial: &Trial) -> (Duration, Duration) {
    let gate = format!("{}.gate", trial.name);
    let gate = trial.fixture.leases().get(&gate).await.unwrap();
    let delay = &gate.annotations()["tokenward.dev/takeover-delay-seconds"];
    let delay = Duration::from_secs(delay.parse().unwrap());
    let lease = gate.spec.unwrap().lease_duration_seconds.unwrap();
    (Duration::from_secs(lease.unsigned_abs().into()), delay)
}

async fn stop(mut operators: Vec<Operator>) {
    for operator in &mut operators {
        operator.signal("TERM");
    }
    for operator in &mut operators {
        assert!(operator.end().await.success());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_is_away_until_the_writers_lease_has_lapsed_costs_nothing() {
    let mut trial = Trial::new("away").await;
    let operators = vec![trial.operator(), trial.operator()];
    trial.begin().await;
    trial.generation(1).await;
    let (lease, _) = durations(&trial).await;
    taken(&trial).await;
    let spent = trial.stored().await;
    trial.proxy.away().await;
    trial.fixture.oauth.release_exchanges();
    // Tokens have come, and cannot be stored.
    sleep(lease + MARGIN).await;
    trial.proxy.back();
    trial.generation(spent.generation + 2).await;
    stop(operators).await;

    let renewals = Calls::to(Method::PUT, "leases").named("away.gate");
    let renewed = trial.proxy.times(&renewals);
    let longest = renewed.windows(2).map(|pair| pair[1] - pair[0]).max();
    assert!(
        longest > Some(lease),
        "the lease had not lapsed: {longest:?}"
    );
    assert_eq!(trial.fixture.oauth.redemptions(&spent.refresh_token), 1);
    assert_eq!(trial.fixture.oauth.max_presentations(), 1);
    trial.assert_nothing_lost().await;
}

/// An operator, and its own way to the API server.
type Routed = (Operator, Proxy);

/// Who holds the gate, and who does not.
fn writer_first(holder: &str, one: Routed, two: Routed) -> (Routed, Routed) {
    let is_of = |routed: &Routed| holder.contains(&format!("-{}_", routed.0.id()));
    assert_ne!(is_of(&one), is_of(&two), "{holder}");
    if is_of(&one) { (one, two) } else { (two, one) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_that_cannot_be_seen_is_not_taken_for_one_that_does_nothing() {
    let trial = Trial::new("unseen").await;
    let mut routed = Vec::new();
    for _ in 0..2 {
        let proxy = trial.fixture.proxy().await;
        let operator = trial.fixture.operator_through(&proxy, &[]);
        routed.push((operator, proxy));
    }
    trial.begin().await;
    trial.generation(1).await;
    let (lease, delay) = durations(&trial).await;
    taken(&trial).await;
    let spent = trial.stored().await;
    let (two, one) = (routed.pop().unwrap(), routed.pop().unwrap());
    let (mut writer, mut other) = writer_first(&spent.holder, one, two);
    // The other one wants to write, too, and sees for how long the gate stays as it is.
    let calls = Calls::about("leases").named("unseen.gate");
    writer.1.away().await;
    trial.fixture.oauth.release_exchanges();
    other.1.wait_for(&calls, other.1.count(&calls) + 2).await;
    other.1.away().await;
    sleep(lease + delay + 2 * MARGIN).await;
    // It comes back earlier than the writer, who has tokens to store. That the gate is as it was says
    // nothing of the time in which nobody could have written it.
    let back = Instant::now();
    other.1.back();
    other.1.wait_for(&calls, other.1.count(&calls) + 2).await;
    let closings = Calls::to(Method::PUT, "leases").named("unseen.gate");
    let since = other.1.times(&closings).pop();
    assert!(since < Some(back), "it took over at once");
    writer.1.back();
    trial.generation(spent.generation + 2).await;
    stop(vec![writer.0, other.0]).await;
    assert_eq!(trial.fixture.oauth.redemptions(&spent.refresh_token), 1);
    trial.assert_nothing_lost().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_before_the_provider_took_a_seed_is_overcome() {
    let mut trial = Trial::new("seed-kept").await;
    trial.fixture.oauth.hold_before_commit();
    let mut operator = trial.operator();
    trial.begin().await;
    soon("a request", trial.fixture.oauth.wait_for_requests(1)).await;
    operator.kill();
    // What was held there is never served.
    trial.fixture.oauth.stop().await.unwrap();
    trial.fixture.oauth.release_exchanges();
    trial.fixture.oauth.restart().await.unwrap();
    trial.hasten_takeover().await;
    trial.goes_on(trial.operator()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_after_the_provider_took_a_seed_is_told_as_rotation_lost() {
    let trial = Trial::new("seed-spent").await;
    trial.fixture.oauth.hold_exchanges();
    let mut operator = trial.operator();
    trial.begin().await;
    soon("a commit", trial.fixture.oauth.wait_for_outcomes(1)).await;
    operator.kill();
    trial.fixture.oauth.release_exchanges();
    trial.hasten_takeover().await;
    trial.is_told_as_lost(trial.operator()).await;
}
