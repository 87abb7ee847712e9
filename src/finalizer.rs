//! The finalizer `tokenward.dev/revoke`: what carries it, and how it is put on and taken off. It is on a credential
//! with `revocationPolicy: OnDelete`, and on its grant and its gate: a deletion in the foreground, or of the namespace,
//! takes those before the credential, and they are needed to revoke. With `Never` nothing carries it.

pub mod left;

use k8s_openapi::{
    Resource as _, api::coordination::v1::Lease, api::core::v1::Secret,
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    Api, Resource, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, Preconditions},
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::{
    api::{CREDENTIAL_UID, IntegrationCredential, REVOKE, RevocationPolicy},
    request::{RequestError, bounded, optional},
};

/// How often a change that lost a race is tried again.
const TRIES: u32 = 5;

/// Whether the authorization of a credential is revoked when it is deleted.
#[must_use]
pub fn is_wanted(credential: &IntegrationCredential) -> bool {
    // Only a schema older than this one lets the other kinds say so.
    credential.spec.oauth2.is_some()
        && credential.spec.revocation_policy == RevocationPolicy::OnDelete
}

/// [`is_wanted`], by what was read at the start of a deletion and what the watch has shown, whichever is newer: people may
/// think better of it while it lasts, and a watch may lag.
#[must_use]
pub fn is_wanted_still(read: &IntegrationCredential, seen: Option<&IntegrationCredential>) -> bool {
    // Each change of a spec raises the generation.
    let seen = seen.filter(|seen| {
        seen.metadata.uid == read.metadata.uid
            && seen.metadata.generation >= read.metadata.generation
    });
    is_wanted(seen.unwrap_or(read))
}

/// Whether an object carries the finalizer.
#[must_use]
pub fn is_on(meta: &ObjectMeta) -> bool {
    let mut all = meta.finalizers.iter().flatten();
    all.any(|finalizer| finalizer == REVOKE)
}

/// The UID of the credential for which an object carries the finalizer.
#[must_use]
pub fn for_whom(meta: &ObjectMeta) -> Option<&str> {
    meta.annotations
        .as_ref()?
        .get(CREDENTIAL_UID)
        .map(String::as_str)
}

/// Whether an object was made for this credential, also where a deletion has taken its owner reference away.
#[must_use]
pub fn is_of(meta: &ObjectMeta, credential_uid: &str) -> bool {
    let mut owners = meta.owner_references.iter().flatten();
    owners.any(|owner| owner.controller == Some(true) && owner.uid == credential_uid)
        || is_on(meta) && for_whom(meta) == Some(credential_uid)
}

/// Gives what is written for a credential the finalizer, where that wants it. One that is about to go cannot get it any
/// more.
pub fn guard(meta: &mut ObjectMeta, credential: &IntegrationCredential) {
    if !is_wanted(credential) || meta.deletion_timestamp.is_some() {
        return;
    }
    if !is_on(meta) {
        meta.finalizers
            .get_or_insert_default()
            .push(REVOKE.to_owned());
    }
    let uid = credential.uid().unwrap_or_default();
    let annotations = meta.annotations.get_or_insert_default();
    annotations.insert(CREDENTIAL_UID.to_owned(), uid);
}

/// What becomes of the finalizer of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is put on.
    Guard,
    /// It is taken off.
    Release,
    /// It is taken off, and the object deleted.
    Remove,
}

/// Puts the finalizer on an object of the credential with this UID, or takes it off; only its metadata is read.
/// Returns its version then, where it was changed. An object that is gone, or of another, is left as it is.
///
/// # Errors
/// When the API server does not answer or refuses, or the object keeps changing.
pub async fn change<K>(
    api: &Api<K>,
    name: &str,
    credential_uid: &str,
    change: Change,
) -> Result<Option<String>, RequestError>
where
    K: Resource + Clone + DeserializeOwned + std::fmt::Debug,
{
    for _ in 0..TRIES {
        let Some(found) = optional(api.get_metadata(name)).await? else {
            return Ok(None);
        };
        let is_the_credential = found.metadata.uid.as_deref() == Some(credential_uid);
        if !is_the_credential && !is_of(&found.metadata, credential_uid) {
            return Ok(None);
        }
        let patch = patch(&found.metadata, credential_uid, is_the_credential, change);
        let version = match patch {
            None => None,
            Some(patch) => {
                let params = PatchParams::default();
                let patch = Patch::Merge(&patch);
                match bounded(api.patch_metadata(name, &params, &patch)).await {
                    Ok(stored) => stored.metadata.resource_version,
                    Err(RequestError::NotFound) => return Ok(None),
                    Err(RequestError::Conflict) => continue,
                    Err(error) => return Err(error),
                }
            }
        };
        if change == Change::Remove {
            delete(api, name, found.metadata.uid).await?;
        }
        return Ok(version);
    }
    Err(RequestError::Conflict)
}

/// Takes the finalizer off an object, whosever it is: for when no operator does it any more. Whether it was on.
///
/// # Errors
/// As [`change`].
pub async fn strip<K>(api: &Api<K>, name: &str) -> Result<bool, RequestError>
where
    K: Resource + Clone + DeserializeOwned + std::fmt::Debug,
{
    for _ in 0..TRIES {
        let Some(found) = optional(api.get_metadata(name)).await? else {
            return Ok(false);
        };
        let Some(patch) = patch(&found.metadata, "", false, Change::Release) else {
            return Ok(false);
        };
        let (params, patch) = (PatchParams::default(), Patch::Merge(&patch));
        match bounded(api.patch_metadata(name, &params, &patch)).await {
            Ok(_) => return Ok(true),
            Err(RequestError::NotFound) => return Ok(false),
            Err(RequestError::Conflict) => {}
            Err(error) => return Err(error),
        }
    }
    Err(RequestError::Conflict)
}

/// The change of an object's metadata; none where it is as it should be, or cannot be.
fn patch(
    meta: &ObjectMeta,
    credential_uid: &str,
    is_the_credential: bool,
    change: Change,
) -> Option<Value> {
    let on = change == Change::Guard;
    let is_noted = is_the_credential || for_whom(meta) == Some(credential_uid);
    let is_done = if on {
        is_on(meta) && is_noted || meta.deletion_timestamp.is_some()
    } else {
        !is_on(meta)
    };
    if is_done {
        return None;
    }
    let others = meta.finalizers.iter().flatten();
    let mut finalizers: Vec<&str> = others
        .map(String::as_str)
        .filter(|f| *f != REVOKE)
        .collect();
    if on {
        finalizers.push(REVOKE);
    }
    let mut metadata = json!({
        "uid": meta.uid, "resourceVersion": meta.resource_version, "finalizers": finalizers,
    });
    if !is_the_credential {
        metadata["annotations"] = json!({CREDENTIAL_UID: on.then_some(credential_uid)});
    }
    Some(json!({"metadata": metadata}))
}

async fn delete<K>(api: &Api<K>, name: &str, uid: Option<String>) -> Result<(), RequestError>
where
    K: Clone + DeserializeOwned + std::fmt::Debug,
{
    let params = DeleteParams::default().preconditions(Preconditions {
        uid,
        resource_version: None,
    });
    match bounded(api.delete(name, &params)).await {
        // Gone, or another one.
        Ok(_) | Err(RequestError::NotFound | RequestError::Conflict) => Ok(()),
        Err(error) => Err(error),
    }
}

/// An object beside a credential that may carry the finalizer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Beside {
    /// The Secret `NAME.grant`.
    Grant,
    /// The Lease `NAME.gate`.
    Gate,
}

impl Beside {
    /// Both, in the order in which they are let go.
    pub const ALL: [Self; 2] = [Self::Gate, Self::Grant];

    /// The kind of the object.
    #[must_use]
    pub fn kind(self) -> &'static str {
        match self {
            Self::Grant => Secret::KIND,
            Self::Gate => Lease::KIND,
        }
    }

    /// Its name, for a credential of this one.
    #[must_use]
    pub fn name(self, credential: &str) -> String {
        match self {
            Self::Grant => format!("{credential}.grant"),
            Self::Gate => format!("{credential}.gate"),
        }
    }

    /// The credential of an object of this name.
    #[must_use]
    pub fn credential(self, name: &str) -> Option<&str> {
        name.strip_suffix(match self {
            Self::Grant => ".grant",
            Self::Gate => ".gate",
        })
    }

    /// As [`change`], for this object.
    ///
    /// # Errors
    /// As [`change`].
    pub async fn change(
        self,
        client: &kube::Client,
        namespace: &str,
        name: &str,
        credential_uid: &str,
        what: Change,
    ) -> Result<Option<String>, RequestError> {
        match self {
            Self::Grant => {
                let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
                change(&api, name, credential_uid, what).await
            }
            Self::Gate => {
                let api: Api<Lease> = Api::namespaced(client.clone(), namespace);
                change(&api, name, credential_uid, what).await
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta(value: Value) -> ObjectMeta {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn other_finalizers_stay_and_what_is_as_it_should_be_is_not_written() {
        let ours = meta(
            json!({"uid": "s", "resourceVersion": "5", "finalizers": ["x/y", REVOKE],
            "annotations": {CREDENTIAL_UID: "c"}}),
        );
        let released = patch(&ours, "c", false, Change::Release).unwrap();
        assert_eq!(released["metadata"]["finalizers"], json!(["x/y"]));
        assert_eq!(
            released["metadata"]["annotations"][CREDENTIAL_UID],
            Value::Null
        );
        assert_eq!(released["metadata"]["resourceVersion"], "5");
        assert_eq!(patch(&ours, "c", false, Change::Guard), None);
        let plain = meta(json!({"uid": "c", "finalizers": ["x/y"]}));
        assert_eq!(patch(&plain, "c", true, Change::Release), None);
        let guarded = patch(&plain, "c", true, Change::Guard).unwrap();
        assert_eq!(guarded["metadata"]["finalizers"], json!(["x/y", REVOKE]));
        assert_eq!(guarded["metadata"].get("annotations"), None);
        // The API server takes no new finalizer on what is about to go.
        let going = meta(json!({"uid": "s", "deletionTimestamp": "2026-01-01T00:00:00Z"}));
        assert_eq!(patch(&going, "c", false, Change::Guard), None);
    }

    #[test]
    fn the_newest_word_on_revocation_counts() {
        let one = |uid: &str, generation: i64, policy: &str| -> IntegrationCredential {
            let object = json!({
                "metadata": {"name": "alice", "uid": uid, "generation": generation},
                "spec": {"revocationPolicy": policy, "oauth2": {
                    "providerRef": {"name": "p"}, "grantType": "ClientCredentials"}},
            });
            serde_json::from_value(object).unwrap()
        };
        let read = one("c", 3, "OnDelete");
        assert!(is_wanted_still(&read, None));
        assert!(!is_wanted_still(&read, Some(&one("c", 4, "Never"))));
        // The watch lags, or shows another of that name.
        assert!(is_wanted_still(&read, Some(&one("c", 2, "Never"))));
        assert!(is_wanted_still(&read, Some(&one("d", 4, "Never"))));
        let read = one("c", 3, "Never");
        assert!(!is_wanted_still(&read, Some(&one("c", 2, "OnDelete"))));
        assert!(is_wanted_still(&read, Some(&one("c", 4, "OnDelete"))));
    }

    #[test]
    fn an_orphan_is_known_by_its_note_only_while_it_carries_the_finalizer() {
        let note = json!({CREDENTIAL_UID: "c"});
        let orphan = meta(json!({"finalizers": [REVOKE], "annotations": note}));
        assert!(is_of(&orphan, "c") && !is_of(&orphan, "d"));
        assert!(!is_of(&meta(json!({"annotations": note})), "c"));
        let owners =
            json!([{"apiVersion": "v", "kind": "k", "name": "n", "uid": "c", "controller": true}]);
        assert!(is_of(&meta(json!({"ownerReferences": owners})), "c"));
    }
}
