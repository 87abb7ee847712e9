//! How fast and how flat the operator is with 10,000 credentials, on a real control plane: `make bench`, or
//! `cargo bench --bench scale` beside a control plane that runs.
//!
//! Each figure stands beside what the same machine does with plain requests, in the same run; `docs/performance.md` has the
//! results and what limits each.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    missing_docs,
    reason = "a bench that cannot measure ends by panicking"
)]

#[path = "../../tests/cluster/client.rs"]
mod cluster;
#[path = "../lock/connect.rs"]
#[allow(dead_code, reason = "every bench has its own clients")]
mod connect;
#[path = "../../examples/oauth-server/server.rs"]
mod oauth_server;
#[path = "../lock/renewals/process.rs"]
#[allow(dead_code, reason = "every bench has its own processes")]
mod process;
#[path = "../table/quantity.rs"]
#[allow(dead_code, reason = "every bench has its own units")]
mod quantity;
#[path = "../lock/raw.rs"]
#[allow(dead_code, reason = "every bench has its own requests")]
mod raw;
#[path = "../table/report.rs"]
#[allow(dead_code, reason = "every bench has its own lines")]
mod report;
#[path = "../lock/samples.rs"]
#[allow(dead_code, reason = "every bench has its own samples")]
mod samples;
#[path = "../../tests/integration/support/mod.rs"]
#[allow(
    dead_code,
    unused_imports,
    reason = "the tests use what is not used here"
)]
mod support;

mod due;
mod fail_over;
mod growth;
mod newcomers;
mod population;
mod rest;
mod shell;
mod usage;

use std::path::Path;

use clap::{Parser, ValueEnum};

use crate::{population::Population, report::Report};

/// Measures the operator with many credentials, and prints a table.
#[derive(Parser)]
struct Options {
    /// Which entries; without any: all. `growth` makes the credentials that the next two need, so it always runs
    /// before them.
    only: Vec<Entry>,
    /// How many credentials. `fail-over` and `shell` have fewer: 1,000 and 200, or this if it is less.
    #[arg(long, default_value_t = 10_000)]
    count: usize,
    /// What cargo says to every bench.
    #[arg(long, hide = true)]
    bench: bool,
}

/// What is measured, in this order.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Entry {
    /// Credentials are created until all are there: memory, time.
    Growth,
    /// A restart when none is due, rest, and Secrets that are nobody's business.
    Rest,
    /// All are due at once, and new ones come meanwhile.
    Due,
    /// A leader is lost in the middle of a sweep.
    FailOver,
    /// What people do today: a loop of curl and kubectl.
    Shell,
}

/// Where it is measured.
fn control_plane() -> anyhow::Result<cluster::Cluster> {
    cluster::Cluster::connect_or_start()
}

fn main() {
    let options = Options::parse();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(measure(&options));
}

async fn measure(options: &Options) {
    let wants = |entry| options.only.is_empty() || options.only.contains(&entry);
    let mut report = Report::start();
    let needs_many = [Entry::Growth, Entry::Rest, Entry::Due];
    // Kept to the end: to remove so many is work for the API server.
    let _population = if needs_many.into_iter().any(wants) {
        let mut population = Population::none().await;
        report.add(growth::measure(&mut population, options.count).await);
        if wants(Entry::Rest) {
            report.add(rest::measure(&mut population).await);
        }
        if wants(Entry::Due) {
            report.add(due::measure(&mut population).await);
        }
        Some(population)
    } else {
        None
    };
    if wants(Entry::FailOver) {
        report.add(fail_over::measure(fail_over::COUNT.min(options.count)).await);
    }
    if wants(Entry::Shell) {
        report.add(shell::measure(shell::COUNT.min(options.count)).await);
    }
    report.print();
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    report.write(&target.join("bench/scale.json"));
}
