//! New credentials while others are refreshed.

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::Secret;
use kube::runtime::wait::await_condition;
use serde_json::json;
use tokio::time::sleep;

use crate::support::Fixture;

/// How often one comes.
const EVERY: Duration = Duration::from_millis(400);

/// Creates one after the other while `going_on`, and says how many have `come`. How long each waited for its Secret, the
/// shortest first.
pub async fn arrive(
    fixture: &Fixture,
    come: &Cell<usize>,
    going_on: impl Fn() -> bool,
) -> Vec<Duration> {
    let times = stream::unfold((), async |()| {
        sleep(EVERY).await;
        let number = come.get();
        going_on().then(|| {
            come.set(number + 1);
            (number, ())
        })
    });
    let waits = times.map(async |number: usize| {
        let name = format!("new-{number}");
        let begun = Instant::now();
        fixture.machine(&name, json!({})).await;
        let there = |secret: Option<&Secret>| secret.is_some();
        let found = await_condition(fixture.secrets(), &name, there);
        found.await.unwrap();
        begun.elapsed()
    });
    let mut waits: Vec<_> = waits.buffer_unordered(1000).collect().await;
    waits.sort();
    waits
}
