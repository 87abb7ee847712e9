//! What an exchange with a provider costs: `make bench`. Without a control plane, and over plain http, so that TLS is
//! not counted.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    missing_docs,
    reason = "a bench that cannot measure ends by panicking"
)]

#[path = "../table/quantity.rs"]
#[allow(dead_code, reason = "every bench has its own units")]
mod quantity;
#[path = "../table/report.rs"]
#[allow(dead_code, reason = "every bench has its own lines")]
mod report;

#[path = "../../examples/oauth-server/server.rs"]
mod oauth_server;

mod exchange;
mod reading;

use std::path::Path;

use crate::report::Report;

fn main() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let mut report = Report::start();
    report.add(reading::measure());
    report.add(exchange::measure());
    report.print();
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    report.write(&target.join("bench/oauth.json"));
}
