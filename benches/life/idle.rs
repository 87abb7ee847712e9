//! Credentials of which none is due: what looking at each costs.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use crate::{
    quantity::{Quantity, Unit},
    report::{Line, Target},
    support::{Fixture, within},
};

/// What the operator says, once, of each look at a credential.
const LOOKED: &str = "planned";

pub async fn measure(fixture: &Fixture, count: usize) -> Vec<Line> {
    let audit = fixture.audit();
    let operator = fixture.operator_with(&["--log-level", "warn,tokenward::reconcile=debug"]);
    let looks = async || {
        let log = operator.log();
        let lines = log.lines();
        let lines = lines.filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let looks = lines.filter(|line| line["message"] == LOOKED);
        let times = looks.map(|line| line["timestamp"].as_str().unwrap().parse().unwrap());
        let times: Vec<Timestamp> = times.collect();
        (times.len() >= count).then_some(times)
    };
    let times = within(Duration::from_secs(120), "a look at each", looks).await;
    let time = times[count - 1].duration_since(times[0]);
    let rate = f64::from(u32::try_from(count).unwrap()) / time.as_secs_f64();
    let requests = audit.requests();
    let lists = ["list", "watch"];
    let others = requests
        .iter()
        .filter(|request| !lists.iter().any(|verb| request.starts_with(verb)));
    let others = f64::from(u32::try_from(others.count()).unwrap());
    vec![
        Line::new(
            "looks with nothing to do",
            Quantity::new(rate, Unit::PerSecond),
        )
        .target(Target::AtLeast(2_000.0)),
        Line::new(
            format!("requests of {count} such looks"),
            Quantity::new(others, Unit::Requests),
        )
        .target(Target::Ours(0.0)),
    ]
}
