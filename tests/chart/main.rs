//! The Helm chart, installed on a control plane of its own: what it may do to a whole cluster, to its definitions above
//! all, cannot be tried beside other tests.

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
#[allow(
    dead_code,
    unused_imports,
    reason = "the integration tests use the rest of it"
)]
#[path = "../integration/support/mod.rs"]
mod support;

mod definitions;
mod lifecycle;
mod release;
mod rights;

use tokio::sync::Mutex;

/// Nobody else's, whatever the variables say.
fn control_plane() -> anyhow::Result<cluster::Cluster> {
    cluster::Cluster::start()
}

/// What is there once in a cluster is one test's at a time: definitions, policies, operators of all namespaces.
static CLUSTER_WIDE: Mutex<()> = Mutex::const_new(());
