//! What the API server does at most, and how much of it the lock gets.

use std::time::Duration;

use serde_json::json;
use tokenward::manager::CredentialManager;

use crate::{
    connect::{MEASURED, PLAIN, connect},
    quantity::{Quantity, Unit},
    raw::Raw,
    report::Line,
    samples::{median, per_second},
    support::{Fixture, kubeconfig},
};

const CONNECTIONS: usize = 32;
const ROUNDS: usize = 3;
const ROUND: Duration = Duration::from_millis(1500);

/// An acquire and a release: two writes.
const WRITES: f64 = 2.0;

pub async fn measure() -> Vec<Line> {
    let fixture = Fixture::new("ceiling", Duration::from_secs(3600)).await;
    let _operator = fixture.operator();
    fixture.machine("ci", json!({})).await;
    fixture.ready("ci").await;
    let mut plain = Vec::new();
    let mut managers = Vec::new();
    for _ in 0..CONNECTIONS {
        let client = connect(&kubeconfig(), PLAIN).await;
        plain.push(Raw::new(&client, &fixture.namespace).await);
        let client = connect(&kubeconfig(), MEASURED).await;
        let manager = CredentialManager::new(client, fixture.namespace.clone());
        manager.acquire("ci").await.unwrap().release().await;
        managers.push(manager);
    }
    let mut writers: Vec<_> = plain
        .iter_mut()
        .map(|p| async || p.replace().await)
        .collect();
    let mut holders: Vec<_> = managers
        .iter()
        .map(|manager| async || manager.acquire("ci").await.unwrap().release().await)
        .collect();
    let (mut one, mut many, mut held) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        one.push(per_second(&mut writers[..1], ROUND).await);
        many.push(per_second(&mut writers, ROUND).await);
        held.push(WRITES * per_second(&mut holders, ROUND).await);
    }
    let rate = |rates| Quantity::new(median(rates), Unit::PerSecond);
    let (one, many) = (rate(one), rate(many));
    vec![
        Line::new("raw ceiling: Lease updates, 1 connection", one),
        Line::new("raw ceiling: Lease updates, 32 connections", many),
        Line::new("writes of acquire and release, 32 at once", rate(held))
            .beside("32 connections", many),
    ]
}
