//! The operator on a real API server, with an OAuth server that really rotates.
//!
//! One control plane for the run; each test has a namespace, an OAuth server and an operator of its own.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    missing_docs,
    reason = "a test fails by panicking, and its name says what it is about"
)]

#[path = "../cluster/client.rs"]
mod cluster;
#[path = "../../examples/oauth-server/server.rs"]
mod oauth_server;
mod support;

mod bad_input;
mod chart;
mod command_line;
mod concurrency;
mod crash;
mod cut_off;
mod deletion;
mod documentation;
mod gate;
mod gitops;
mod grants;
mod health;
mod hold;
mod holders;
mod in_use;
mod interop;
mod kinds;
mod leader;
mod lifecycle;
mod manager;
mod metrics;
mod monitoring;
mod mount;
mod other_languages;
mod policy;
mod provider;
mod provider_objects;
mod proxy;
mod python;
mod repair;
mod requests;
mod schedule;
mod seed;
mod species;
mod sweep;
mod target;
mod telemetry;
mod tenancy;
mod traffic;
mod validation;
mod wall_clock;

/// Where the tests run.
fn control_plane() -> anyhow::Result<cluster::Cluster> {
    cluster::Cluster::connect_or_start()
}
