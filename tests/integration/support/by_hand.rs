//! The operator's part of a credential, played by a test: it decides what the gate says, and when.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::api::coordination::v1::Lease;
use kube::{
    ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use super::{Fixture, eventually};

/// The credential `alice`, which no operator sees.
pub struct ByHand<'a> {
    fixture: &'a Fixture,
}

impl<'a> ByHand<'a> {
    /// With an open gate at generation 1, and holds that last so many seconds.
    pub async fn new(fixture: &'a Fixture, duration: u64) -> Self {
        let by_hand = Self { fixture };
        fixture.machine("alice", json!({})).await;
        by_hand.publish(1, Duration::from_secs(3600)).await;
        let gate = json!({
            "metadata": {"name": "alice.gate", "labels": {
                "tokenward.dev/credential": "alice", "tokenward.dev/role": "gate",
            }},
            "spec": {"holderIdentity": "", "leaseDurationSeconds": 3},
        });
        let gate: Lease = serde_json::from_value(gate).unwrap();
        let leases = fixture.leases();
        leases.create(&PostParams::default(), &gate).await.unwrap();
        let notes = json!({
            "phase": "Open", "mode": "Shared", "generation": "1",
            "hold-duration-seconds": duration.to_string(), "drain-grace-seconds": "1",
        });
        by_hand.gate(notes).await;
        by_hand
    }

    /// Changes annotations of the gate; null removes one.
    pub async fn gate(&self, notes: Value) {
        let Value::Object(notes) = notes else {
            panic!("annotations");
        };
        let notes: serde_json::Map<_, _> = notes
            .into_iter()
            .map(|(key, value)| (format!("tokenward.dev/{key}"), value))
            .collect();
        let change = Patch::Merge(json!({"metadata": {"annotations": notes}}));
        let leases = self.fixture.leases();
        let params = PatchParams::default();
        let patched = leases.patch("alice.gate", &params, &change).await;
        patched.unwrap();
    }

    /// Closes the gate or opens it.
    pub async fn phase(&self, phase: &str) {
        self.gate(json!({"phase": phase})).await;
    }

    /// Writes the token `at-GENERATION`, which lives for `lifetime`, into the target.
    pub async fn publish(&self, generation: u64, lifetime: Duration) {
        let expires_at = jiff::Timestamp::now() + lifetime;
        let data = [
            ("access_token", &*format!("at-{generation}")),
            ("token_generation", &*generation.to_string()),
            ("expires_at", &*format!("{expires_at:.0}")),
        ];
        self.fixture.secret("alice", &data).await;
    }

    /// The holds.
    pub async fn holds(&self) -> Vec<Lease> {
        self.with_role("hold").await
    }

    /// The wants.
    pub async fn wants(&self) -> Vec<Lease> {
        self.with_role("want").await
    }

    async fn with_role(&self, role: &str) -> Vec<Lease> {
        let labels = format!("tokenward.dev/credential=alice,tokenward.dev/role={role}");
        let found = ListParams::default().labels(&labels);
        self.fixture.leases().list(&found).await.unwrap().items
    }

    /// The one hold, once there is one.
    pub async fn hold(&self) -> Lease {
        eventually("a hold", async || self.holds().await.pop()).await
    }

    /// The one want, once there is one.
    pub async fn want(&self) -> Lease {
        eventually("a want", async || self.wants().await.pop()).await
    }

    /// Waits until a Lease has been written again.
    pub async fn changed(&self, lease: &Lease) {
        eventually("a renewal", async || {
            let now = self.fixture.leases().get(&lease.name_any()).await.unwrap();
            (now.resource_version() != lease.resource_version()).then_some(())
        })
        .await;
    }

    /// Waits until nobody holds the credential.
    pub async fn free(&self) {
        eventually("no hold", async || {
            self.holds().await.is_empty().then_some(())
        })
        .await;
    }

    /// Deletes a Lease as nobody may who keeps the rules.
    pub async fn delete(&self, lease: &Lease) {
        let leases = self.fixture.leases();
        let params = DeleteParams::default();
        match leases.delete(&lease.name_any(), &params).await {
            // Whoever made it may have been faster.
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            other => drop(other.unwrap()),
        }
    }
}

/// A Lease's annotations and labels, without their prefix.
pub fn notes(lease: &Lease) -> BTreeMap<String, String> {
    lease
        .annotations()
        .iter()
        .chain(lease.labels())
        .map(|(key, value)| (key.replace("tokenward.dev/", ""), value.clone()))
        .collect()
}
