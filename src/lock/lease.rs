//! Requests for Leases, each bounded in time and made once.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::{api::coordination::v1::Lease, apimachinery::pkg::apis::meta::v1::MicroTime};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions},
};
use serde_json::json;

use super::{
    protocol::{SeenHold, Version},
    wire::{self, HOLD},
};
use crate::{
    request::{RequestError, bounded_by},
    watch::Pruned,
};

/// The Leases of a namespace.
#[derive(Clone)]
pub struct Leases {
    api: Api<Lease>,
    /// The same, of which some may be unreadable.
    listed: Api<Pruned<Lease>>,
    limit: Duration,
}

impl Leases {
    /// Of this namespace.
    #[must_use]
    pub fn new(client: &Client, namespace: &str) -> Self {
        Self {
            api: Api::namespaced(client.clone(), namespace),
            listed: Api::namespaced(client.clone(), namespace),
            limit: Duration::MAX,
        }
    }

    /// For the keeper of a lease of this duration: it must hear soon that a request came to nothing.
    #[must_use]
    pub fn patient_for(self, lease: Duration) -> Self {
        Self {
            limit: lease / 2,
            ..self
        }
    }

    /// Reads one, from the quorum.
    ///
    /// # Errors
    /// When the API server refuses or does not answer.
    pub async fn get(&self, name: &str) -> Result<Option<Lease>, RequestError> {
        match bounded_by(self.limit, self.api.get(name)).await {
            Ok(lease) => Ok(Some(lease)),
            Err(RequestError::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Creates one.
    ///
    /// # Errors
    /// `Conflict` where there is one of its name.
    pub async fn create(&self, lease: &Lease) -> Result<Lease, RequestError> {
        let params = PostParams::default();
        bounded_by(self.limit, self.api.create(&params, lease)).await
    }

    /// What would be stored, without storing it.
    ///
    /// # Errors
    /// As for [`Self::create`].
    pub async fn rehearse(&self, lease: &Lease) -> Result<Lease, RequestError> {
        let params = PostParams {
            dry_run: true,
            ..PostParams::default()
        };
        bounded_by(self.limit, self.api.create(&params, lease)).await
    }

    /// Replaces the version that `lease` was made from.
    ///
    /// # Errors
    /// `Conflict` where that is not the current one.
    pub async fn replace(&self, lease: &Lease) -> Result<Lease, RequestError> {
        let params = PostParams::default();
        let name = lease.name_any();
        bounded_by(self.limit, self.api.replace(&name, &params, lease)).await
    }

    /// Renews one, if it is of this version. Not by PUT, which may create; not by apply, which may too.
    ///
    /// # Errors
    /// `Conflict` where it is of another version, or another one.
    pub async fn renew(&self, name: &str, version: &Version) -> Result<Lease, RequestError> {
        let patch = json!({
            "metadata": {"uid": version.uid, "resourceVersion": version.resource_version},
            "spec": {"renewTime": MicroTime(Timestamp::now())},
        });
        let params = PatchParams::default();
        let patch = Patch::Merge(patch);
        let patched = self.api.patch(name, &params, &patch);
        match bounded_by(self.limit, patched).await {
            // A UID cannot be changed: that one is gone.
            Err(RequestError::Refused(kube::Error::Api(status))) if status.code == 422 => {
                Err(RequestError::Conflict)
            }
            other => other,
        }
    }

    /// Deletes one, if it is of this version.
    ///
    /// # Errors
    /// `Conflict` where it is of another.
    pub async fn delete(&self, name: &str, version: &Version) -> Result<(), RequestError> {
        self.delete_if(
            name,
            Preconditions {
                uid: Some(version.uid.clone()),
                resource_version: Some(version.resource_version.clone()),
            },
        )
        .await
    }

    /// Deletes one whatever its version; with a UID, only the one that has it.
    ///
    /// # Errors
    /// `Conflict` where it is another one.
    pub async fn release(&self, name: &str, uid: Option<String>) -> Result<(), RequestError> {
        self.delete_if(
            name,
            Preconditions {
                uid,
                resource_version: None,
            },
        )
        .await
    }

    async fn delete_if(&self, name: &str, these: Preconditions) -> Result<(), RequestError> {
        let params = DeleteParams::default().preconditions(these);
        let deleted = bounded_by(self.limit, self.api.delete(name, &params)).await;
        deleted.map(drop)
    }

    /// Takes one back that was made in error, or was made for another credential of its name.
    pub async fn withdraw(&self, lease: &Lease) {
        if let Err(error) = self.delete(&lease.name_any(), &wire::version(lease)).await {
            tracing::debug!(%error, "gate not taken back");
        }
    }

    /// The holds of a credential that are in use, from the quorum.
    ///
    /// # Errors
    /// When the API server refuses or does not answer.
    pub async fn holds(&self, credential: &str) -> Result<Vec<SeenHold>, RequestError> {
        let params = ListParams::default().labels(&wire::selector(credential, HOLD));
        let listed = bounded_by(self.limit, self.listed.list(&params)).await?;
        let holds = listed.items.into_iter().filter_map(|mut hold| {
            hold.keep_hold();
            hold.0.ok()
        });
        let in_use = holds.filter(|hold| !wire::is_rejected(hold));
        Ok(in_use.map(|hold| wire::seen_hold(&hold)).collect())
    }
}
