//! The command line, as a user calls it.

mod controller;
mod definitions;
mod get;
mod lock;
mod providers;
mod refresh;
mod status;

use std::time::Duration;

use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::support::Fixture;

const HOUR: Duration = Duration::from_secs(3600);

/// Closes the gate of `alice` as an operator that hangs.
async fn close_gate(fixture: &Fixture) {
    close_gate_of(fixture, "alice").await;
}

/// Closes the gate of a credential as an operator that hangs.
async fn close_gate_of(fixture: &Fixture, credential: &str) {
    let closed = json!({
        "metadata": {"annotations": {"tokenward.dev/phase": "Refreshing"}},
        "spec": {"holderIdentity": "operator-1/attempt-1"},
    });
    let params = PatchParams::default();
    let leases = fixture.leases();
    leases
        .patch(
            &format!("{credential}.gate"),
            &params,
            &Patch::Merge(closed),
        )
        .await
        .unwrap();
}
