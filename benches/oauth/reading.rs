//! Reading an answer, beside what it takes only to parse it.

use std::{hint::black_box, time::Instant};

use serde_json::{Value, json};
use tokenward::{
    api::Description,
    oauth::{catalog::entries, response::read},
};

use crate::{
    quantity::{Quantity, Unit},
    report::{Line, Target},
};

const TRIES: u32 = 20_000;

pub fn measure() -> Vec<Line> {
    // As long as the tokens of providers that sign them.
    let (access, refresh) = ("a".repeat(1200), "r".repeat(600));
    let plain = json!({
        "access_token": access, "refresh_token": refresh, "token_type": "Bearer", "expires_in": 3600,
        "scope": "read write offline_access",
    });
    let nested = json!({
        "ok": true, "app_id": "A1", "team": {"id": "T1", "name": "team"},
        "access_token": access, "refresh_token": refresh, "token_type": "bot", "expires_in": 43200,
        "scope": "chat:write,channels:read",
    });
    let slack = &entries()["slack"].description;
    vec![
        line("reading an answer", &plain, &Description::default()),
        line("reading an answer by a description", &nested, slack),
    ]
}

fn line(measure: &str, body: &Value, description: &Description) -> Line {
    let body = body.to_string().into_bytes();
    let spent = "spent".into();
    let ours = each(|| {
        black_box(read(200, black_box(&body), description, Some(&spent)));
    });
    let parsing = each(|| {
        black_box(serde_json::from_slice::<Value>(black_box(&body)).unwrap());
    });
    Line::new(measure, Quantity::new(ours, Unit::Microseconds))
        .beside(
            "parsing it as JSON",
            Quantity::new(parsing, Unit::Microseconds),
        )
        .target(Target::Ours(10.0))
}

/// The time of one, in microseconds: the best of five rounds, because what disturbs only adds.
fn each(mut one: impl FnMut()) -> f64 {
    let mut round = || {
        let start = Instant::now();
        for _ in 0..TRIES {
            one();
        }
        start.elapsed().as_secs_f64() * 1e6 / f64::from(TRIES)
    };
    (0..5).map(|_| round()).fold(f64::INFINITY, f64::min)
}
