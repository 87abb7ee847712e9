//! How fast the operator is with many credentials, on a real control plane: `make bench`, or `cargo bench --bench life`
//! beside a control plane that runs.
//!
//! Each figure is of one run on one machine, which the control plane and the OAuth server share;
//! `docs/performance.md` has the results and what limits each.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    missing_docs,
    reason = "a bench that cannot measure ends by panicking"
)]

#[path = "../../tests/cluster/client.rs"]
mod cluster;
#[path = "../../examples/oauth-server/server.rs"]
mod oauth_server;
#[path = "../../tests/integration/support/mod.rs"]
#[allow(
    dead_code,
    unused_imports,
    reason = "the tests use what is not used here"
)]
mod support;

mod idle;
mod made;
#[path = "../table/quantity.rs"]
#[allow(dead_code, reason = "every bench has its own units")]
mod quantity;
#[path = "../table/report.rs"]
#[allow(dead_code, reason = "every bench has its own lines")]
mod report;
mod woken;

use std::{path::Path, time::Duration};

use clap::Parser;
use serde_json::json;

use crate::{report::Report, support::Fixture};

/// Measures the life of many credentials, and prints a table.
#[derive(Parser)]
struct Options {
    /// How many credentials.
    #[arg(long, default_value_t = 1000)]
    count: usize,
    /// What cargo says to every bench.
    #[arg(long, hide = true)]
    bench: bool,
}

/// What the provider object allows: so many requests in so many seconds.
const BUDGET: (usize, u64) = (500, 5);

/// Where it is measured.
fn control_plane() -> anyhow::Result<cluster::Cluster> {
    cluster::Cluster::connect_or_start()
}

fn main() {
    let options = Options::parse();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(measure(options.count));
}

async fn measure(count: usize) {
    let fixture = Fixture::new("life", Duration::from_secs(24 * 3600)).await;
    fixture
        .oauth
        .configure(|behaviour| behaviour.latency = Duration::from_millis(20));
    let mut report = Report::start();
    let mut operator = operator(&fixture);
    operator.ready().await;
    report.add(made::measure(&fixture, count).await);
    // In order: one that was killed leaves gates closed.
    operator.signal("TERM");
    assert!(operator.end().await.success());
    report.add(idle::measure(&fixture, count).await);
    let (requests, seconds) = BUDGET;
    let limited = json!({"refresh": {"rateLimit": {
        "requests": requests, "per": format!("{seconds}s"),
    }}});
    // None runs that would read it.
    fixture.provider_unread("provider", limited).await;
    let operator = self::operator(&fixture);
    operator.ready().await;
    report.add(woken::measure(&fixture, count).await);
    report.print();
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    report.write(&target.join("bench/life.json"));
}

/// One that says no more than it would anywhere.
fn operator(fixture: &Fixture) -> support::Operator {
    fixture.operator_with(&["--log-level", "info"])
}
