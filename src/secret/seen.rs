//! What is kept of Secrets that are watched: of their metadata, what decisions need. There are as many as credentials, or
//! more, and the whole metadata of one takes ten times the memory.

use std::{
    collections::HashMap,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use k8s_openapi::{api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{ResourceExt, core::PartialObjectMeta, runtime::watcher::Event};

use super::target::{OWNER_UID, REQUEST_HASH, TARGET_HASH};
use crate::{
    api::{CREDENTIAL_LABEL, DeletionPolicy, IntegrationCredential},
    finalizer,
};

/// What is kept of one.
#[derive(Clone, Debug, Default)]
pub struct SeenSecret {
    /// Its `resourceVersion`.
    pub version: Option<Box<str>>,
    /// [`REQUEST_HASH`].
    pub request_hash: Option<Box<str>>,
    /// [`TARGET_HASH`].
    pub target_hash: Option<Box<str>>,
    /// Whether it is being deleted.
    pub is_going: bool,
    /// Whether it carries our finalizer.
    pub is_guarded: bool,
    owner: Option<Box<str>>,
    guarded_for: Option<Box<str>>,
    retained_for: Option<Box<str>>,
}

impl SeenSecret {
    fn of(meta: &ObjectMeta) -> Self {
        let kept = |value: &String| value.as_str().into();
        let annotations = meta.annotations.as_ref();
        let annotation = |key: &str| annotations?.get(key).map(kept);
        let mut owners = meta.owner_references.iter().flatten();
        let owner = owners.find(|owner| owner.controller == Some(true));
        Self {
            version: meta.resource_version.as_ref().map(kept),
            request_hash: annotation(REQUEST_HASH),
            target_hash: annotation(TARGET_HASH),
            is_going: meta.deletion_timestamp.is_some(),
            is_guarded: finalizer::is_on(meta),
            owner: owner.map(|owner| kept(&owner.uid)),
            guarded_for: finalizer::for_whom(meta).map(Into::into),
            retained_for: annotation(OWNER_UID),
        }
    }

    /// [`finalizer::is_of`].
    #[must_use]
    pub fn is_of(&self, credential_uid: &str) -> bool {
        self.owner.as_deref() == Some(credential_uid)
            || self.is_guarded && self.guarded_for.as_deref() == Some(credential_uid)
    }

    /// Whether it is a target that would not go or stay with its credential as `spec.target.deletionPolicy` says.
    #[must_use]
    pub fn stays_otherwise(&self, credential: &IntegrationCredential) -> bool {
        let uid = credential.metadata.uid.as_deref();
        let goes = self.owner.is_some() && self.owner.as_deref() == uid;
        let stays = self.retained_for.is_some() && self.retained_for.as_deref() == uid;
        let target = credential.spec.target.as_ref();
        match target
            .map(|target| target.deletion_policy)
            .unwrap_or_default()
        {
            DeletionPolicy::Retain => goes,
            DeletionPolicy::Delete => stays && !goes,
        }
    }
}

/// A Secret that was touched: as much of it as tells whom that concerns.
#[derive(Clone, Debug)]
pub struct TouchedSecret {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The credential that its [`CREDENTIAL_LABEL`] names.
    pub credential: Option<String>,
}

impl TouchedSecret {
    /// This one.
    #[must_use]
    pub fn of(secret: &PartialObjectMeta<Secret>) -> Self {
        Self {
            namespace: secret.namespace().unwrap_or_default(),
            name: secret.name_any(),
            credential: secret.labels().get(CREDENTIAL_LABEL).cloned(),
        }
    }
}

/// By namespace and name.
type Objects = HashMap<(Box<str>, Box<str>), Arc<SeenSecret>>;

/// The Secrets of one watch.
#[derive(Debug, Default)]
pub struct SeenSecrets {
    objects: Mutex<Objects>,
    /// While the watch begins anew: what it has delivered so far.
    relisted: Mutex<Objects>,
}

impl SeenSecrets {
    /// One of them.
    #[must_use]
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<SeenSecret>> {
        lock(&self.objects)
            .get(&(namespace.into(), name.into()))
            .cloned()
    }

    /// The `resourceVersion` of one of them.
    #[must_use]
    pub fn version(&self, namespace: &str, name: &str) -> Option<String> {
        let found = self.get(namespace, name)?;
        found.version.as_deref().map(str::to_owned)
    }

    /// Takes in what the watch brought.
    pub fn apply(&self, event: &Event<PartialObjectMeta<Secret>>) {
        match event {
            Event::Apply(secret) => insert(&mut lock(&self.objects), secret),
            Event::Delete(secret) => drop(lock(&self.objects).remove(&key(secret))),
            Event::Init => drop(mem::take(&mut *lock(&self.relisted))),
            Event::InitApply(secret) => insert(&mut lock(&self.relisted), secret),
            Event::InitDone => *lock(&self.objects) = mem::take(&mut *lock(&self.relisted)),
        }
    }
}

fn key(secret: &PartialObjectMeta<Secret>) -> (Box<str>, Box<str>) {
    let namespace = secret.metadata.namespace.as_deref().unwrap_or_default();
    (namespace.into(), secret.name_any().into())
}

fn insert(objects: &mut Objects, secret: &PartialObjectMeta<Secret>) {
    objects.insert(key(secret), Arc::new(SeenSecret::of(&secret.metadata)));
}

/// They are never left half changed, so a panic elsewhere does not make them unusable.
fn lock(objects: &Mutex<Objects>) -> MutexGuard<'_, Objects> {
    objects.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::api::{CREDENTIAL_UID, REVOKE};

    fn secret(meta: &Value) -> PartialObjectMeta<Secret> {
        let mut object = json!({"metadata": {"namespace": "ns", "name": "alice"}});
        let all = object["metadata"].as_object_mut().unwrap();
        all.extend(meta.as_object().unwrap().clone());
        serde_json::from_value(object).unwrap()
    }

    fn seen(meta: &Value) -> SeenSecret {
        SeenSecret::of(&secret(meta).metadata)
    }

    #[test]
    fn whose_it_is_and_whether_it_stays_is_known_of_it() {
        let owned = json!({"ownerReferences": [
            {"apiVersion": "v", "kind": "k", "name": "n", "uid": "other"},
            {"apiVersion": "v", "kind": "k", "name": "n", "uid": "c", "controller": true},
        ]});
        let noted = json!({"annotations": {OWNER_UID: "c"}});
        let credential = |policy: &str| {
            let object = json!({
                "metadata": {"name": "alice", "uid": "c"},
                "spec": {"target": {"deletionPolicy": policy}},
            });
            serde_json::from_value::<IntegrationCredential>(object).unwrap()
        };
        let (goes, stays) = (credential("Delete"), credential("Retain"));
        assert!(seen(&owned).is_of("c") && !seen(&owned).is_of("other"));
        assert!(seen(&owned).stays_otherwise(&stays) && !seen(&owned).stays_otherwise(&goes));
        assert!(seen(&noted).stays_otherwise(&goes) && !seen(&noted).stays_otherwise(&stays));
        for credential in [&goes, &stays] {
            assert!(!seen(&json!({})).stays_otherwise(credential));
        }
        assert!(!seen(&json!({})).is_of("c"));
        let mut left = json!({"annotations": {CREDENTIAL_UID: "c"}, "finalizers": [REVOKE]});
        assert!(seen(&left).is_of("c"));
        left["finalizers"] = json!(["x/y"]);
        assert!(!seen(&left).is_of("c"));
    }

    #[test]
    fn what_was_deleted_while_the_watch_was_away_is_gone_when_it_is_back() {
        let secrets = SeenSecrets::default();
        let version = || secrets.version("ns", "alice");
        let of = |version: &str| secret(&json!({"resourceVersion": version}));
        secrets.apply(&Event::Init);
        secrets.apply(&Event::InitApply(of("1")));
        assert_eq!(version(), None);
        secrets.apply(&Event::InitDone);
        assert_eq!(version().as_deref(), Some("1"));
        secrets.apply(&Event::Apply(of("2")));
        assert_eq!(version().as_deref(), Some("2"));
        assert_eq!(secrets.version("other", "alice"), None);
        secrets.apply(&Event::Init);
        // Nothing is forgotten before all is known.
        assert_eq!(version().as_deref(), Some("2"));
        secrets.apply(&Event::InitDone);
        assert_eq!(version(), None);
        secrets.apply(&Event::Apply(of("3")));
        secrets.apply(&Event::Delete(of("3")));
        assert_eq!(version(), None);
    }
}
