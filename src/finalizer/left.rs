//! What a credential left behind: somebody took its finalizer off by hand, and its grant and gate still carry theirs, so
//! that garbage collection, or the deletion of their namespace, waits for nobody.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Api, Client};

use super::{Beside, Change, for_whom, is_on};
use crate::{
    api::IntegrationCredential,
    request::{RequestError, optional},
};

/// Namespace, name of the credential, and which object of it.
type Key = (String, String, Beside);

/// The objects that are being deleted and carry the finalizer, with the UID of their credential. While that is there
/// its own end lets them go.
#[derive(Default)]
pub struct Left {
    seen: Mutex<HashMap<Key, String>>,
}

impl Left {
    /// Notes an object of a watch, if it may have to be let go.
    pub fn notice(&self, meta: &ObjectMeta, beside: Beside) {
        if meta.deletion_timestamp.is_none() || !is_on(meta) {
            return;
        }
        let name = meta.name.as_deref().unwrap_or_default();
        let credential = beside.credential(name);
        if let (Some(credential), Some(uid)) = (credential, for_whom(meta)) {
            let namespace = meta.namespace.clone().unwrap_or_default();
            let key = (namespace, credential.to_owned(), beside);
            self.seen().insert(key, uid.to_owned());
        }
    }

    fn seen(&self) -> MutexGuard<'_, HashMap<Key, String>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets go what has no credential any more. `is_there`: whether the cache knows a credential by namespace, name and
    /// UID; only where it does not, the API server is asked.
    pub async fn sweep(&self, client: &Client, is_there: impl Fn(&str, &str, &str) -> bool) {
        let candidates: Vec<_> = {
            let seen = self.seen();
            let gone = seen
                .iter()
                .filter(|((namespace, name, _), uid)| !is_there(namespace, name, uid));
            gone.map(|(key, uid)| (key.clone(), uid.clone())).collect()
        };
        for (key, uid) in candidates {
            let credential = format!("{}/{}", key.0, key.1);
            match let_go(client, &key, &uid).await {
                Ok(false) => {}
                Ok(true) => {
                    tracing::info!(
                        reason = "LeftBehind",
                        credential,
                        kind = key.2.kind(),
                        "what a credential left behind is let go"
                    );
                    self.seen().remove(&key);
                }
                Err(RequestError::Refused(error)) => {
                    tracing::warn!(%error, credential, "not let go");
                    self.seen().remove(&key);
                }
                Err(error) => tracing::debug!(%error, credential, "not let go yet"),
            }
        }
    }
}

/// False: its credential is there, after all.
async fn let_go(client: &Client, key: &Key, uid: &str) -> Result<bool, RequestError> {
    let (namespace, name, beside) = key;
    let api: Api<IntegrationCredential> = Api::namespaced(client.clone(), namespace);
    let found = optional(api.get_metadata(name)).await?;
    if found
        .is_some_and(|found| found.metadata.uid.as_deref() == Some(uid) && is_on(&found.metadata))
    {
        return Ok(false);
    }
    let object = beside.name(name);
    beside
        .change(client, namespace, &object, uid, Change::Release)
        .await?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::api::{CREDENTIAL_UID, REVOKE};

    fn noticed(change: impl FnOnce(&mut Value)) -> bool {
        let mut meta = json!({"name": "alice.grant", "namespace": "n", "finalizers": [REVOKE],
            "deletionTimestamp": "2026-01-01T00:00:00Z", "annotations": {CREDENTIAL_UID: "c"}});
        change(&mut meta);
        let left = Left::default();
        left.notice(&serde_json::from_value(meta).unwrap(), Beside::Grant);
        let key = ("n".to_owned(), "alice".to_owned(), Beside::Grant);
        left.seen().get(&key).is_some_and(|uid| uid == "c")
    }

    #[test]
    fn only_what_is_being_deleted_and_waits_for_us_is_noticed() {
        assert!(noticed(|_| {}));
        assert!(!noticed(|meta| meta["deletionTimestamp"] = Value::Null));
        assert!(!noticed(|meta| meta["finalizers"] = json!(["x/y"])));
        assert!(!noticed(|meta| meta["name"] = json!("alice")));
    }
}
