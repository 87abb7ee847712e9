//! From one who lets go to those who wait for it.

use std::time::{Duration, Instant};

use futures::StreamExt;
use kube::runtime::{WatchStreamExt, watcher};
use serde_json::json;
use tokenward::{
    lock::{
        protocol::{Durations, Phase},
        wire,
    },
    manager::{CredentialManager, Hold},
};
use tokio::{task::JoinHandle, time::sleep};

use crate::{
    connect::{MEASURED, PLAIN, connect},
    raw::Raw,
    refresh::request,
    report::Line,
    samples::{Samples, timed},
    support::{Fixture, kubeconfig},
};

const ROUNDS: u32 = 15;
const ROUND_TRIPS: u32 = 20;

/// Until one who finds the gate closed, or the credential held, has settled down to wait.
const SETTLED: Duration = Duration::from_millis(500);

#[derive(Default)]
struct Measured {
    exchange: Samples,
    open: Samples,
    next: Samples,
    exclusive: Samples,
    patch: Samples,
}

pub async fn measure() -> Vec<Line> {
    let fixture = Fixture::new("hand-over", Duration::from_secs(3600)).await;
    fixture.seed("alice").await;
    let _operator = fixture.operator();
    fixture.user("alice", json!({})).await;
    let exclusive = json!({"lock": {"mode": "Exclusive"}});
    fixture.machine("ci", exclusive).await;
    fixture.ready("alice").await;
    fixture.ready("ci").await;
    let mut managers = Vec::new();
    for _ in 0..2 {
        let client = connect(&kubeconfig(), MEASURED).await;
        managers.push(CredentialManager::new(client, fixture.namespace.clone()));
    }
    let raw = Raw::new(&connect(&kubeconfig(), PLAIN).await, &fixture.namespace).await;
    let mut measured = Measured::default();
    for round in 0..ROUNDS {
        for _ in 0..ROUND_TRIPS {
            measured.patch.add(timed(raw.patch()).await.0);
        }
        past_a_refresh(&fixture, &managers, round, &mut measured).await;
        between_two(&managers, &mut measured).await;
    }
    measured.lines()
}

/// A holder, a refresh that waits for it, and one who waits for the refresh.
async fn past_a_refresh(
    fixture: &Fixture,
    managers: &[CredentialManager],
    round: u32,
    measured: &mut Measured,
) {
    let hold = managers[0].acquire("alice").await.unwrap();
    let generation = hold.generation();
    request(fixture, "alice", &round.to_string()).await;
    hold.draining().await;
    let next = waiting(&managers[1], "alice");
    sleep(SETTLED).await;
    let mut arrivals = fixture.oauth.arrivals();
    arrivals.mark_unchanged();
    let arrival = tokio::spawn(async move {
        arrivals.changed().await.unwrap();
        Instant::now()
    });
    let open = opened(fixture, generation + 1).await;
    let start = Instant::now();
    hold.release().await;
    measured.exchange.add(arrival.await.unwrap() - start);
    measured.open.add(open.await.unwrap() - start);
    let (acquired, next) = next.await.unwrap();
    assert_eq!(next.generation(), generation + 1);
    measured.next.add(acquired - start);
    next.release().await;
}

/// Sees in the background when the gate is open again, with this generation.
async fn opened(fixture: &Fixture, generation: u64) -> JoinHandle<Instant> {
    let config = watcher::Config::default().fields("metadata.name=alice.gate");
    let mut gates = watcher(fixture.leases(), config).applied_objects().boxed();
    // It has begun when it shows the gate as it is now.
    gates.next().await.unwrap().unwrap();
    tokio::spawn(async move {
        loop {
            let gate = gates.next().await.unwrap().unwrap();
            let gate = wire::read_gate(&gate, &Durations::scaled(None, Duration::MAX));
            if gate.phase == Phase::Open && gate.generation == Some(generation) {
                return Instant::now();
            }
        }
    })
}

/// A holder, and one who waits for its place.
async fn between_two(managers: &[CredentialManager], measured: &mut Measured) {
    let hold = managers[0].acquire("ci").await.unwrap();
    let next = waiting(&managers[1], "ci");
    sleep(SETTLED).await;
    let start = Instant::now();
    hold.release().await;
    let (acquired, next) = next.await.unwrap();
    measured.exclusive.add(acquired - start);
    next.release().await;
}

/// Acquires in the background, and says when that was done.
fn waiting(manager: &CredentialManager, name: &'static str) -> JoinHandle<(Instant, Hold)> {
    let manager = manager.clone();
    tokio::spawn(async move {
        let hold = manager.acquire(name).await.unwrap();
        (Instant::now(), hold)
    })
}

impl Measured {
    fn lines(&self) -> Vec<Line> {
        let line = |measure: &str, samples: &Samples, share| {
            Line::new(measure, samples.quantile(share))
                .beside("one write, p50", self.patch.quantile(0.5))
        };
        let ways = [
            ("release to the exchange", &self.exchange),
            ("release to the open gate", &self.open),
            ("release to the next with the new token", &self.next),
            ("Exclusive: release to the next holder", &self.exclusive),
        ];
        ways.iter()
            .flat_map(|(way, samples)| {
                [("p50", 0.5), ("longest", 1.0)]
                    .map(|(suffix, share)| line(&format!("{way}, {suffix}"), samples, share))
            })
            .collect()
    }
}
