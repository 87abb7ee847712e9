//! The clients of provider objects as they were read last, for as long as a watch shows their Secrets unchanged: of a thousand
//! credentials that one client serves, each would read its Secret again.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use secrecy::SecretString;

use super::{client::Seen, controller::Watched};
use crate::{
    api::{IntegrationCredential, OAuthClient, ProviderKind},
    clock::Moment,
};

/// For how long a reading serves at most: a watch may stand still.
const FRESH: Duration = Duration::from_secs(60);

/// A client: its identifier, and its secrets or keys.
pub(super) type Client = (String, Vec<SecretString>);

/// Which one: the kind, namespace and name of the provider object, and whether it is that of an app.
type Key = (ProviderKind, String, String, bool);

/// A client as it was read.
struct Reading {
    /// The version of what the provider object says.
    of: Option<String>,
    /// The versions of its Secrets.
    seen: Seen,
    at: Moment,
    client: Client,
}

/// The clients as they were read last.
pub struct KnownClients {
    watched: Watched,
    readings: Mutex<HashMap<Key, Reading>>,
}

impl KnownClients {
    /// Of Secrets whose versions `watched` tells, where they are watched.
    #[must_use]
    pub fn new(watched: Watched) -> Self {
        Self {
            watched,
            readings: Mutex::default(),
        }
    }

    /// The client of a credential's provider, where it need not be read again.
    pub(super) fn find(
        &self,
        credential: &IntegrationCredential,
        of: Option<&str>,
        is_app: bool,
    ) -> Option<Client> {
        let refresh = credential.status.as_ref().and_then(|s| s.refresh.as_ref());
        // What fails may fail because of it.
        if refresh.is_some_and(|refresh| refresh.failures > 0) {
            return None;
        }
        let key = key(credential, is_app);
        let readings = self.lock();
        let reading = readings.get(&key)?;
        let is_current = |(name, version): (&String, &String)| {
            self.version(&key, name).as_ref() == Some(version)
        };
        let serves = reading.of.as_deref() == of
            && Moment::now().elapsed(reading.at) < FRESH
            && reading.seen.iter().all(is_current);
        serves.then(|| reading.client.clone())
    }

    /// Takes note of a client that was read just now. One of which a Secret is missing, or not watched, is read each time.
    pub(super) fn note(
        &self,
        credential: &IntegrationCredential,
        of: Option<&str>,
        is_app: bool,
        (described, seen): (&OAuthClient, Seen),
        client: &Client,
    ) {
        let key = key(credential, is_app);
        let mut named = described.secret_key_refs.iter().map(|key| &key.name);
        let is_whole = named.all(|name| seen.contains_key(name));
        let mut readings = self.lock();
        if is_whole && seen.keys().all(|name| self.version(&key, name).is_some()) {
            let reading = Reading {
                of: of.map(str::to_owned),
                seen,
                at: Moment::now(),
                client: client.clone(),
            };
            readings.insert(key, reading);
        } else {
            readings.remove(&key);
        }
    }

    fn version(&self, (kind, namespace, ..): &Key, name: &str) -> Option<String> {
        let namespace = (*kind == ProviderKind::OAuthProvider).then_some(namespace.as_str());
        (self.watched)(namespace, name)
    }

    /// It is never left half changed, so a panic elsewhere does not make it unusable.
    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Reading>> {
        self.readings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key(credential: &IntegrationCredential, is_app: bool) -> Key {
    let reference = &credential.oauth2().provider_ref;
    let namespace = match reference.kind {
        ProviderKind::OAuthProvider => credential.metadata.namespace.clone(),
        ProviderKind::ClusterOAuthProvider => None,
    };
    let namespace = namespace.unwrap_or_default();
    (reference.kind, namespace, reference.name.clone(), is_app)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;

    fn credential(failures: i32) -> IntegrationCredential {
        let object = json!({
            "metadata": {"name": "alice", "namespace": "ns"},
            "spec": {"oauth2": {"providerRef": {"name": "p"}, "grantType": "ClientCredentials"}},
            "status": {"conditions": [], "refresh": {"failures": failures}},
        });
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn a_client_is_read_again_when_anything_of_it_may_be_another() {
        let now = Arc::new(Mutex::new(HashMap::from([("one", "1"), ("two", "1")])));
        let watched = Arc::clone(&now);
        let clients = KnownClients::new(Arc::new(move |namespace, name| {
            assert_eq!(namespace, Some("ns"));
            watched.lock().unwrap().get(name).map(|v| (*v).to_owned())
        }));
        let described = json!({"id": "demo", "secretKeyRefs": [
            {"name": "one", "key": "k"}, {"name": "two", "key": "k"},
        ]});
        let described: OAuthClient = serde_json::from_value(described).unwrap();
        let read: Client = ("demo".to_owned(), Vec::new());
        let seen = |names: &[&str]| -> Seen {
            names
                .iter()
                .map(|n| ((*n).to_owned(), "1".to_owned()))
                .collect()
        };
        let works = credential(0);
        let note = |names: &[&str]| {
            clients.note(&works, Some("v1"), false, (&described, seen(names)), &read);
        };
        let finds = || clients.find(&works, Some("v1"), false).is_some();
        assert!(!finds());
        note(&["one", "two"]);
        assert!(finds());
        assert!(clients.find(&works, Some("v2"), false).is_none());
        assert!(clients.find(&works, Some("v1"), true).is_none());
        assert!(clients.find(&credential(1), Some("v1"), false).is_none());
        now.lock().unwrap().insert("two", "2");
        assert!(!finds());
        now.lock().unwrap().insert("two", "1");
        assert!(finds());
        // One of its Secrets was not there, and may come.
        note(&["one"]);
        assert!(!finds());
        note(&["one", "two"]);
        now.lock().unwrap().remove("two");
        assert!(!finds());
        note(&["one", "two"]);
        now.lock().unwrap().insert("two", "1");
        assert!(!finds());
    }
}
