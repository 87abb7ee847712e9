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
mod concurrency;
mod crash;
mod lifecycle;
mod repair;
mod requests;
mod seed;
mod validation;
