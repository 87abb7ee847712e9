//! Plain requests: what the lock is compared with.

use std::time::Duration;

use futures::future::join;
use jiff::Timestamp;
use k8s_openapi::{
    api::{coordination::v1::Lease, core::v1::Secret},
    apimachinery::pkg::apis::meta::v1::MicroTime,
};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions},
};
use serde_json::json;
use tokenward::lock::{
    protocol::{HoldIdentity, Seat},
    wire::{self, Claimant},
};
use uuid::Uuid;

use crate::samples::timed;

/// How long the requests of an acquire and a release took.
pub struct ByHand {
    pub post: Duration,
    /// Gate and target, at the same time.
    pub get: Duration,
    pub delete: Duration,
}

impl ByHand {
    pub fn all(&self) -> Duration {
        self.post + self.get + self.delete
    }
}

/// Makes requests for a Lease of its own.
pub struct Raw {
    leases: Api<Lease>,
    secrets: Api<Secret>,
    lease: Lease,
}

impl Raw {
    /// With a Lease that is nobody's gate and nobody's hold.
    pub async fn new(client: &Client, namespace: &str) -> Self {
        let leases: Api<Lease> = Api::namespaced(client.clone(), namespace);
        let name = format!("plain-{}", &nonce());
        let lease = serde_json::from_value(json!({
            "metadata": {"name": name},
            "spec": {"holderIdentity": "bench", "leaseDurationSeconds": 60},
        }));
        let params = PostParams::default();
        let lease = leases.create(&params, &lease.unwrap()).await.unwrap();
        Self {
            secrets: Api::namespaced(client.clone(), namespace),
            leases,
            lease,
        }
    }

    /// One read.
    pub async fn get(&self) {
        self.leases.get(&self.lease.name_any()).await.unwrap();
    }

    /// One write, as a renewal makes it.
    pub async fn patch(&self) {
        let patch = json!({"spec": {"renewTime": MicroTime(Timestamp::now())}});
        let (params, patch) = (PatchParams::default(), Patch::Merge(patch));
        let name = self.lease.name_any();
        self.leases.patch(&name, &params, &patch).await.unwrap();
    }

    /// One write, as the operator makes it.
    pub async fn replace(&mut self) {
        self.lease.spec.get_or_insert_default().renew_time = Some(MicroTime(Timestamp::now()));
        let name = self.lease.name_any();
        let params = PostParams::default();
        let replaced = self.leases.replace(&name, &params, &self.lease).await;
        self.lease = replaced.unwrap();
    }

    /// The requests of an acquire and a release, without the lock around them.
    pub async fn hold_and_release(&self, credential: &str, duration: Duration) -> ByHand {
        let identity = HoldIdentity {
            seat: Seat::Shared,
            nonce: nonce(),
        };
        let claimant = Claimant::default();
        let hold = claimant.hold(credential, &identity, duration, 1, Timestamp::now());
        let params = PostParams::default();
        let (post, hold) = timed(self.leases.create(&params, &hold)).await;
        let hold = hold.unwrap();
        let gate = wire::gate_name(credential);
        let both = join(self.leases.get(&gate), self.secrets.get(credential));
        let (get, (gate, target)) = timed(both).await;
        gate.unwrap();
        target.unwrap();
        let these = Preconditions {
            uid: hold.uid(),
            resource_version: None,
        };
        let params = DeleteParams::default().preconditions(these);
        let (delete, gone) = timed(self.leases.delete(&hold.name_any(), &params)).await;
        gone.unwrap();
        ByHand { post, get, delete }
    }
}

fn nonce() -> String {
    Uuid::new_v4().simple().to_string()[..16].to_owned()
}
