//! A provider object that changes under many credentials.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::json;

use crate::{
    BUDGET,
    quantity::{Quantity, Unit},
    report::{Line, Target},
    support::{Fixture, within},
};

pub async fn measure(fixture: &Fixture, count: usize) -> Vec<Line> {
    let before = fixture.oauth.request_count();
    let (most, seconds) = BUDGET;
    let start = Instant::now();
    // Another parameter: every token has to be obtained anew.
    fixture
        .provider(json!({
            "params": {"audience": "changed"},
            "refresh": {"rateLimit": {"requests": most, "per": format!("{seconds}s")}},
        }))
        .await;
    let all = async || (fixture.oauth.granted() >= before + count).then_some(());
    within(Duration::from_secs(300), "a new token for each", all).await;
    let took = start.elapsed();
    let requests = fixture.oauth.requests();
    let times: Vec<Timestamp> = requests[before..].iter().map(|r| r.at).collect();
    let window = Duration::from_secs(seconds);
    let in_window = |from: &Timestamp| {
        let end = from.checked_add(window).unwrap();
        times
            .iter()
            .filter(|at| *from <= **at && **at < end)
            .count()
    };
    let busiest = times.iter().map(in_window).max().unwrap();
    let number = |count: usize| f64::from(u32::try_from(count).unwrap());
    vec![
        Line::new(
            format!("a provider of {count} changes: all have new tokens"),
            took,
        ),
        Line::new(
            format!("requests in the busiest {seconds} s, of {most} allowed"),
            Quantity::new(number(busiest), Unit::Requests),
        )
        .target(Target::Ours(number(most))),
        Line::new(
            "requests beyond one each",
            Quantity::new(number(times.len() - count), Unit::Requests),
        )
        .target(Target::Ours(0.0)),
    ]
}
