//! How fast the lock is, on a real control plane: `make bench`, or `make bench ONLY=renewals`.
//!
//! Each figure stands beside what the same machine does with plain requests at the same time: the ratio
//! tells more than the milliseconds, which depend on the machine and on what else it does.
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

mod ceiling;
mod connect;
mod hand_over;
#[path = "../table/quantity.rs"]
#[allow(dead_code, reason = "every bench has its own units")]
mod quantity;
mod raw;
mod refresh;
mod renewals;
#[path = "../table/report.rs"]
#[allow(dead_code, reason = "every bench has its own lines")]
mod report;
mod samples;
mod uncontended;

use std::path::Path;

use clap::{Parser, ValueEnum};

use crate::report::Report;

/// Measures the lock, and prints a table.
#[derive(Parser)]
struct Options {
    /// Which entries; without any: all.
    only: Vec<Entry>,
    /// What cargo says to every bench.
    #[arg(long, hide = true)]
    bench: bool,
    /// Be the process that holds many credentials of this namespace.
    #[arg(long, hide = true, value_name = "NAMESPACE")]
    hold_in: Option<String>,
}

/// What is measured, in this order.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Entry {
    /// What the API server does at most.
    Ceiling,
    /// Acquire and release, with nobody else there.
    Uncontended,
    /// The writes of a refresh.
    Refresh,
    /// From a holder to a refresh and to the next holder.
    HandOver,
    /// Many held credentials in one process.
    Renewals,
}

/// Where it is measured.
fn control_plane() -> anyhow::Result<cluster::Cluster> {
    cluster::Cluster::connect_or_start()
}

fn main() {
    let options = Options::parse();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    match &options.hold_in {
        Some(namespace) => runtime.block_on(renewals::hold_all(namespace)),
        None => runtime.block_on(measure(&options.only)),
    }
}

async fn measure(only: &[Entry]) {
    let mut report = Report::start();
    for entry in Entry::value_variants() {
        if !only.is_empty() && !only.contains(entry) {
            continue;
        }
        report.add(match entry {
            Entry::Ceiling => ceiling::measure().await,
            Entry::Uncontended => uncontended::measure().await,
            Entry::Refresh => refresh::measure().await,
            Entry::HandOver => hand_over::measure().await,
            Entry::Renewals => renewals::measure().await,
        });
    }
    report.print();
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    report.write(&target.join("bench/lock.json"));
}
