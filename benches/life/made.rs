//! Many new credentials at once.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use futures::{StreamExt, TryStreamExt, future::join, stream};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    ResourceExt,
    runtime::{WatchStreamExt, watcher},
};
use serde_json::json;

use crate::{
    report::{Line, Target},
    support::Fixture,
};

/// How many are sent to the API server at a time.
const AT_A_TIME: usize = 32;

pub async fn measure(fixture: &Fixture, count: usize) -> Vec<Line> {
    let start = Instant::now();
    let made = async {
        stream::iter(0..count)
            .map(async |n| {
                let name = format!("c{n}");
                let begun = Instant::now();
                fixture.machine(&name, json!({})).await;
                (name, begun)
            })
            .buffer_unordered(AT_A_TIME)
            .collect::<HashMap<String, Instant>>()
            .await
    };
    let (made, there) = join(made, targets(fixture, count)).await;
    let mut waits: Vec<Duration> = there.iter().map(|(name, at)| *at - made[name]).collect();
    waits.sort();
    let last = there.values().max().unwrap();
    let quantile = |of_100: usize| waits[(waits.len() - 1) * of_100 / 100];
    eprintln!(
        "{count} made in {:?}, the last Secret after {:?}",
        *made.values().max().unwrap() - start,
        *last - start
    );
    let what = |what: &str| format!("{count} new credentials: {what}");
    vec![
        Line::new(what("the first Secret"), waits[0]).target(Target::Ours(1_000.0)),
        Line::new(what("median to the Secret"), quantile(50)),
        Line::new(what("p99 to the Secret"), quantile(99)).target(Target::Ours(10_000.0)),
    ]
}

/// When each target was seen first.
async fn targets(fixture: &Fixture, count: usize) -> HashMap<String, Instant> {
    let config = watcher::Config::default().labels("tokenward.dev/role=target");
    let events = watcher::watcher(fixture.secrets(), config).applied_objects();
    let mut there = HashMap::new();
    let mut events = std::pin::pin!(events);
    while there.len() < count {
        let secret: Secret = events.try_next().await.unwrap().unwrap();
        there.entry(secret.name_any()).or_insert_with(Instant::now);
    }
    there
}
