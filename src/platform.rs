//! What all scopes of a process share: cluster providers, their clients' Secrets, and how namespaces are labelled.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, Client, ResourceExt,
    core::PartialObjectMeta,
    runtime::reflector::{ObjectRef, Store},
};

use crate::{
    api::ClusterOAuthProvider, request::bounded, secret::seen::SeenSecrets, watch::Filled,
};

/// What is in no namespace that people use, as far as it is watched.
#[derive(Clone)]
pub struct Platform {
    /// The cluster providers.
    pub cluster_providers: Store<ClusterOAuthProvider>,
    /// The Secrets that are labelled as their clients', in the operator's namespace.
    pub client_secrets: Arc<SeenSecrets>,
    /// The operator's namespace.
    pub operator_namespace: String,
    /// Whether both have been filled once.
    pub filled: Filled,
}

impl Platform {
    /// The version of a Secret of a cluster provider's client, where it is watched.
    #[must_use]
    pub fn client_version(&self, name: &str) -> Option<String> {
        self.client_secrets.version(&self.operator_namespace, name)
    }
}

/// The labels of namespaces, by which cluster providers admit credentials.
pub enum Labels {
    /// All of them are watched.
    All(Store<PartialObjectMeta<Namespace>>),
    /// One, asked for now and then: a right on one namespace is none to watch it.
    One {
        /// Its name.
        namespace: String,
        /// Its labels, once they are known.
        known: Mutex<Option<BTreeMap<String, String>>>,
    },
    /// They must not be watched.
    Unknown,
}

impl Labels {
    /// Those of one namespace.
    #[must_use]
    pub fn one(namespace: &str) -> Self {
        Self::One {
            namespace: namespace.to_owned(),
            known: Mutex::default(),
        }
    }

    /// The labels of a namespace, where they are known.
    #[must_use]
    pub fn of(&self, namespace: &str) -> Option<BTreeMap<String, String>> {
        match self {
            Self::All(store) => {
                let found = store.get(&ObjectRef::new(namespace))?;
                Some(found.labels().clone())
            }
            Self::One { known, .. } => known.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            Self::Unknown => None,
        }
    }

    /// What was just read of a namespace.
    pub fn note(&self, namespace: &str, labels: &BTreeMap<String, String>) {
        if let Self::One {
            namespace: own,
            known,
        } = self
            && own == namespace
        {
            let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
            *known = Some(labels.clone());
        }
    }

    /// Asks for them, where they are not watched. Says whether they are others than were known.
    pub async fn ask(&self, client: &Client) -> bool {
        let Self::One { namespace, .. } = self else {
            return false;
        };
        let api: Api<Namespace> = Api::all(client.clone());
        match bounded(api.get_metadata(namespace)).await {
            Ok(found) => {
                let before = self.of(namespace);
                self.note(namespace, found.labels());
                before.as_ref() != Some(found.labels())
            }
            // What is not known is not held against anybody; a refresh asks again.
            Err(error) => {
                tracing::debug!(%error, namespace, "labels of the namespace not read");
                false
            }
        }
    }
}
