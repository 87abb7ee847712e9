//! Which credentials a change concerns: exactly those that use what has changed, and need it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures::{Stream, TryStreamExt};
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Resource, ResourceExt,
    core::PartialObjectMeta,
    runtime::reflector::{ObjectRef, Store},
};

use crate::{
    api::{ClusterOAuthProvider, IntegrationCredential, OAuthProvider, ProviderKind},
    provider::controller::{ProviderObject, client_secrets, version},
    secret::seen::TouchedSecret,
    spread::User,
};

/// Which credentials name a Secret, without going through all of them at each change of one.
pub struct Named {
    credentials: Store<IntegrationCredential>,
    /// By namespace and name of a Secret that is not called like its credential: the names of credentials.
    users: Mutex<HashMap<(String, String), Vec<String>>>,
}

impl Named {
    /// Of these credentials.
    #[must_use]
    pub fn new(credentials: Store<IntegrationCredential>) -> Self {
        Self {
            credentials,
            users: Mutex::default(),
        }
    }

    /// Takes note of what each credential of a watch names.
    pub fn follow<E>(
        self: &Arc<Self>,
        stream: impl Stream<Item = Result<IntegrationCredential, E>> + Send + 'static,
    ) -> impl Stream<Item = Result<IntegrationCredential, E>> + Send + 'static
    where
        E: Send + 'static,
    {
        let named = Arc::clone(self);
        stream.inspect_ok(move |credential| named.notice(credential))
    }

    fn notice(&self, credential: &IntegrationCredential) {
        let namespace = credential.namespace().unwrap_or_default();
        let name = credential.name_any();
        let target = credential.target_name();
        let named = [credential.made_from(), Some(target.as_str())];
        let mut users = self.lock();
        for secret in named.into_iter().flatten().filter(|s| *s != name) {
            let key = (namespace.clone(), secret.to_owned());
            let users = users.entry(key).or_default();
            if !users.contains(&name) {
                users.push(name.clone());
            }
        }
    }

    /// The credentials that a Secret belongs to, that are made from it, or that may wait for its name.
    #[must_use]
    pub fn of_secret(&self, secret: &TouchedSecret) -> Vec<ObjectRef<IntegrationCredential>> {
        let TouchedSecret {
            namespace,
            name,
            credential,
        } = secret;
        let names_it = |user: &ObjectRef<IntegrationCredential>| {
            self.credentials.get(user).is_some_and(|credential| {
                // Left behind by one that is gone, it may be what another one waits for.
                credential.made_from() == Some(name) || credential.target_name() == *name
            })
        };
        let place = |user: &String| ObjectRef::new(user).within(namespace);
        let key = (namespace.clone(), name.clone());
        let mut users = self.lock();
        let of_other_names = users.get_mut(&key).map_or_else(Vec::new, |named| {
            // Those that are gone, or name another one by now.
            named.retain(|user| names_it(&place(user)));
            named.iter().map(place).collect()
        });
        if of_other_names.is_empty() {
            users.remove(&key);
        }
        drop(users);
        let of_its_name = Some(place(name)).filter(names_it);
        let owner = credential.as_ref().map(place);
        of_other_names
            .into_iter()
            .chain(of_its_name)
            .chain(owner)
            .collect()
    }

    /// It is never left half changed, so a panic elsewhere does not make it unusable.
    fn lock(&self) -> MutexGuard<'_, HashMap<(String, String), Vec<String>>> {
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The failing credentials whose provider object names this Secret of its namespace as its client's. One that works
/// needs no other client before its next refresh.
#[must_use]
pub fn of_client(
    credentials: &Store<IntegrationCredential>,
    providers: &Store<OAuthProvider>,
    secret: &TouchedSecret,
) -> Vec<User> {
    let named = naming(providers, Some(&secret.namespace), &secret.name);
    failing(credentials, &named)
}

/// The failing credentials whose cluster provider names this Secret as its client's.
#[must_use]
pub fn of_cluster_client(
    credentials: &Store<IntegrationCredential>,
    providers: &Store<ClusterOAuthProvider>,
    secret: &TouchedSecret,
) -> Vec<User> {
    failing(credentials, &naming(providers, None, &secret.name))
}

/// The provider objects that name this Secret as their client's; `namespace` is theirs.
#[must_use]
pub fn naming<K: ProviderObject>(
    providers: &Store<K>,
    namespace: Option<&str>,
    secret: &str,
) -> Vec<ObjectRef<K>> {
    let names = |provider: &K| {
        provider.namespace().as_deref() == namespace
            && client_secrets(provider.provider()).any(|name| name == secret)
    };
    let found = providers.state_filter(names);
    found
        .iter()
        .map(|provider| ObjectRef::from_obj(provider.as_ref()))
        .collect()
}

fn failing<K: ProviderObject>(
    credentials: &Store<IntegrationCredential>,
    providers: &[ObjectRef<K>],
) -> Vec<User> {
    if providers.is_empty() {
        return Vec::new();
    }
    users(credentials, |credential| {
        let refresh = credential.status.as_ref().and_then(|s| s.refresh.as_ref());
        refresh.is_none_or(|r| r.failures > 0)
            && providers.iter().any(|provider| {
                uses(
                    credential,
                    K::KIND,
                    &provider.name,
                    provider.namespace.as_deref(),
                )
            })
    })
}

/// The credentials that use a provider object.
#[must_use]
pub fn of_provider(
    credentials: &Store<IntegrationCredential>,
    kind: ProviderKind,
    name: &str,
    namespace: Option<&str>,
) -> Vec<User> {
    users(credentials, |credential| {
        uses(credential, kind, name, namespace)
    })
}

/// The credentials of a namespace that use a cluster provider.
#[must_use]
pub fn of_namespace(credentials: &Store<IntegrationCredential>, namespace: &str) -> Vec<User> {
    users(credentials, |credential| {
        credential.namespace().as_deref() == Some(namespace)
            && credential.spec.oauth2.as_ref().is_some_and(|oauth2| {
                oauth2.provider_ref.kind == ProviderKind::ClusterOAuthProvider
            })
    })
}

fn uses(
    credential: &IntegrationCredential,
    kind: ProviderKind,
    name: &str,
    namespace: Option<&str>,
) -> bool {
    credential.spec.oauth2.as_ref().is_some_and(|oauth2| {
        let reference = &oauth2.provider_ref;
        reference.kind == kind
            && reference.name == name
            && (namespace.is_none() || credential.namespace().as_deref() == namespace)
    })
}

fn users(
    credentials: &Store<IntegrationCredential>,
    is_user: impl Fn(&IntegrationCredential) -> bool,
) -> Vec<User> {
    let found = credentials.state_filter(|credential: &IntegrationCredential| is_user(credential));
    found
        .iter()
        .map(|credential| {
            let uid = credential.uid().unwrap_or_default();
            (ObjectRef::from_obj(credential.as_ref()), uid)
        })
        .collect()
}

/// Tells changes that concern users from others: a status that was written, or a watch that began anew.
pub struct Changes(HashMap<(Option<String>, String), String>);

impl Changes {
    /// Everything is new.
    #[must_use]
    pub fn new() -> Self {
        Self(HashMap::new())
    }

    /// Whether what this provider object says has changed, or whether it has come or gone.
    pub fn provider<K: ProviderObject>(&mut self, store: &Store<K>, touched: &K) -> bool {
        let is_new = self.is_new(touched, version(touched).unwrap_or_default());
        // A deleted object comes as it was last.
        let is_gone = store.get(&ObjectRef::from_obj(touched)).is_none();
        is_new || is_gone
    }

    /// Whether the labels of this namespace have changed.
    pub fn namespace(&mut self, touched: &PartialObjectMeta<Namespace>) -> bool {
        self.is_new(touched, format!("{:?}", touched.labels()))
    }

    fn is_new<K: Resource<DynamicType = ()>>(&mut self, object: &K, version: String) -> bool {
        let key = (object.namespace(), object.name_any());
        self.0.insert(key, version.clone()) != Some(version)
    }
}

impl Default for Changes {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use kube::runtime::{reflector, watcher};
    use serde_json::{Value, json};

    use super::*;
    use crate::api::CREDENTIAL_LABEL;

    fn provider(name: &str, secret: &str, generation: i64) -> OAuthProvider {
        let object = json!({
            "metadata": {"name": name, "namespace": "ns", "uid": name, "generation": generation},
            "spec": {"tokenUrl": "https://x.example/t", "client": {"id": "c", "secretKeyRefs": [{"name": secret, "key": "k"}]}},
        });
        serde_json::from_value(object).unwrap()
    }

    fn credential(name: &str, provider: &str, failures: i32) -> IntegrationCredential {
        let object = json!({
            "metadata": {"name": name, "namespace": "ns", "uid": name},
            "spec": {"oauth2": {"providerRef": {"name": provider}, "grantType": "RefreshToken",
                "seedSecretRef": {"name": format!("{name}-seed")}}},
            "status": {"conditions": [], "refresh": {"failures": failures}},
        });
        serde_json::from_value(object).unwrap()
    }

    fn secret(name: &str, labels: &Value) -> TouchedSecret {
        let object = json!({"metadata": {"name": name, "namespace": "ns", "labels": labels}});
        TouchedSecret::of(&serde_json::from_value(object).unwrap())
    }

    fn names(users: Vec<User>) -> Vec<String> {
        let mut names: Vec<_> = users.into_iter().map(|(user, _)| user.name).collect();
        names.sort();
        names
    }

    #[test]
    fn a_client_concerns_those_who_fail_with_it_and_nobody_else() {
        let (providers, mut writer) = reflector::store();
        for one in [provider("p", "client", 1), provider("q", "other", 1)] {
            writer.apply_watcher_event(&watcher::Event::Apply(one));
        }
        let (credentials, mut writer) = reflector::store();
        for one in [
            credential("works", "p", 0),
            credential("fails", "p", 2),
            credential("elsewhere", "q", 2),
        ] {
            writer.apply_watcher_event(&watcher::Event::Apply(one));
        }
        let of = |name| {
            names(of_client(
                &credentials,
                &providers,
                &secret(name, &json!({})),
            ))
        };
        assert_eq!(of("client"), ["fails"]);
        assert_eq!(of("other"), ["elsewhere"]);
        assert_eq!(of("unknown"), Vec::<String>::new());
        let users = of_provider(&credentials, ProviderKind::OAuthProvider, "p", Some("ns"));
        assert_eq!(names(users), ["fails", "works"]);
    }

    #[test]
    fn a_secret_concerns_those_who_name_it_now() {
        let (credentials, mut writer) = reflector::store();
        let named = Named::new(credentials);
        let mut see = |event: watcher::Event<IntegrationCredential>| {
            writer.apply_watcher_event(&event);
            if let watcher::Event::Apply(one) | watcher::Event::Delete(one) = &event {
                named.notice(one);
            }
        };
        let of = |name: &str, labels: Value| {
            let users = named.of_secret(&secret(name, &labels));
            users.into_iter().map(|u| u.name).collect::<Vec<_>>()
        };
        let (alice, bob) = (credential("alice", "p", 0), credential("bob", "p", 0));
        let mut shares = credential("shares", "p", 0);
        let source = shares.spec.oauth2.as_mut().unwrap();
        source.seed_secret_ref = alice.oauth2().seed_secret_ref.clone();
        for one in [&alice, &alice, &bob, &shares] {
            see(watcher::Event::Apply(one.clone()));
        }
        assert_eq!(of("alice-seed", json!({})), ["alice", "shares"]);
        // The name of its target, whoever made it; and what says whose it is.
        assert_eq!(of("bob", json!({})), ["bob"]);
        assert_eq!(of("x", json!({CREDENTIAL_LABEL: "gone"})), ["gone"]);
        assert!(of("client", json!({})).is_empty());
        see(watcher::Event::Delete(alice));
        let mut other = shares.clone();
        let source = other.spec.oauth2.as_mut().unwrap();
        source.seed_secret_ref.as_mut().unwrap().name = "other-seed".to_owned();
        see(watcher::Event::Apply(other));
        assert!(of("alice-seed", json!({})).is_empty());
        assert_eq!(of("other-seed", json!({})), ["shares"]);
        assert_eq!(named.lock().len(), 2);
    }

    #[test]
    fn users_are_concerned_by_what_an_object_says_and_by_its_end() {
        let (store, mut writer) = reflector::store();
        let mut changes = Changes::new();
        let one = provider("p", "client", 1);
        writer.apply_watcher_event(&watcher::Event::Apply(one.clone()));
        assert!(changes.provider(&store, &one));
        assert!(!changes.provider(&store, &one));
        let next = provider("p", "client", 2);
        assert!(changes.provider(&store, &next));
        writer.apply_watcher_event(&watcher::Event::Delete(next.clone()));
        assert!(changes.provider(&store, &next));
    }
}
