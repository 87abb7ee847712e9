//! From a provider object to what a request needs: the endpoint, the client and whether a credential
//! may use them.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::{
    Api, Client, ResourceExt,
    core::{Selector, SelectorExt},
};
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use crate::{
    api::{
        CLIENT_LABEL, ClientAuthentication, ClusterOAuthProviderSpec, GrantType,
        IntegrationCredential, Provider, ProviderKind, SecretKeyReference,
    },
    failure::{Failure, Reason},
    oauth::endpoint::Endpoint,
    request::bounded,
    secret::{keyed_hash, store::Secrets, token},
};

/// A provider object as found in the cache.
#[derive(Clone)]
pub struct Found {
    /// The description.
    pub provider: Provider,
    /// The conditions of use, for a cluster provider.
    pub cluster: Option<ClusterOAuthProviderSpec>,
    /// The object's version.
    pub resource_version: Option<String>,
}

/// Everything that a request needs.
pub struct Resolved {
    /// The description.
    pub provider: Provider,
    /// The token endpoint.
    pub url: Url,
    /// The token endpoint's scheme, host and port.
    pub origin: String,
    /// The client's identifier.
    pub client_id: String,
    /// The client's secrets, in the order in which they are tried; empty for a public client.
    pub client_secrets: Vec<SecretString>,
    /// [`request_hash`].
    pub request_hash: String,
}

/// The failure where the provider object does not exist.
#[must_use]
pub fn unknown(credential: &IntegrationCredential) -> Failure {
    let reference = &credential.spec.oauth2.provider_ref;
    let place = match reference.kind {
        ProviderKind::OAuthProvider => {
            format!(
                " in namespace {}",
                credential.namespace().unwrap_or_default()
            )
        }
        ProviderKind::ClusterOAuthProvider => String::new(),
    };
    Failure::new(
        Reason::UnknownProvider,
        format!(
            "there is no {reference}{place}; create it, and this credential goes on by itself (see: kubectl explain {}.spec)",
            format!("{:?}", reference.kind).to_lowercase()
        ),
    )
}

/// A hash of what a token is asked for: where, as whom, by which grant and with which scopes.
#[must_use]
pub fn request_hash(provider: &Provider, credential: &IntegrationCredential) -> String {
    let client = &provider.client;
    let id = match (&client.id, &client.id_secret_key_ref) {
        (Some(id), _) => id.clone(),
        (None, Some(key)) => format!("{}/{}", key.name, key.key),
        (None, None) => String::new(),
    };
    let oauth2 = &credential.spec.oauth2;
    let mut scopes = oauth2.scopes.clone();
    scopes.sort();
    let parts = [
        provider.token_url.as_str(),
        &id,
        oauth2.grant_type.as_str(),
        &scopes.join(" "),
    ];
    keyed_hash("tokenward.dev/request/v1", parts.map(str::as_bytes))
}

/// Whether a cluster provider admits this credential.
///
/// # Errors
/// `ProviderNotAllowed`, with what the provider's owner would have to change.
pub fn admit(
    cluster: &ClusterOAuthProviderSpec,
    credential: &IntegrationCredential,
    namespace_labels: &BTreeMap<String, String>,
) -> Result<(), Failure> {
    let oauth2 = &credential.spec.oauth2;
    let refuse = |why: String| {
        let name = &oauth2.provider_ref.name;
        Err(Failure::new(
            Reason::ProviderNotAllowed,
            format!("ClusterOAuthProvider {name} {why}"),
        ))
    };
    let selector = cluster.allowed_namespaces.clone();
    let allowed = selector
        .and_then(|selector| Selector::try_from(selector).ok())
        .is_some_and(|selector| selector.matches(namespace_labels));
    if !allowed {
        return refuse(format!(
            "does not admit namespace {}: its spec.allowedNamespaces must select the namespace's labels",
            credential.namespace().unwrap_or_default()
        ));
    }
    let grant = oauth2.grant_type;
    if !cluster.allowed_grant_types.contains(&grant) {
        return refuse(format!(
            "does not admit grantType {}: add it to its spec.allowedGrantTypes",
            grant.as_str()
        ));
    }
    if grant == GrantType::ClientCredentials {
        if oauth2.scopes.is_empty() {
            return refuse(
                "needs scopes: with grantType ClientCredentials, name them in spec.oauth2.scopes"
                    .to_owned(),
            );
        }
        let refused = |scope: &&String| !cluster.allowed_scopes.contains(scope);
        if let Some(scope) = oauth2.scopes.iter().find(refused) {
            return refuse(format!(
                "does not admit scope {scope}: add it to its spec.allowedScopes"
            ));
        }
    }
    Ok(())
}

/// Reads what the provider object refers to.
pub struct Resolver {
    /// The API server.
    pub client: Client,
    /// The Secrets.
    pub secrets: Secrets,
    /// The namespace that holds the client Secrets of cluster providers.
    pub operator_namespace: String,
}

impl Resolver {
    /// Everything that a request for `credential` needs.
    ///
    /// # Errors
    /// `ProviderNotConfigured`, `ProviderNotAllowed`, or the API server's refusal.
    pub async fn resolve(
        &self,
        found: Found,
        credential: &IntegrationCredential,
        endpoint: &Endpoint,
    ) -> Result<Resolved, Failure> {
        let reference = &credential.spec.oauth2.provider_ref;
        let incomplete = |why: String| {
            Failure::new(
                Reason::ProviderNotConfigured,
                format!("{reference} is not usable: {why}"),
            )
        };
        let namespace = credential.namespace().unwrap_or_default();
        let place = if let Some(cluster) = &found.cluster {
            let api: Api<Namespace> = Api::all(self.client.clone());
            let object = bounded(api.get(&namespace))
                .await
                .map_err(|error| error.failure(&format!("get Namespace {namespace}")))?;
            admit(cluster, credential, object.labels())?;
            &self.operator_namespace
        } else {
            &namespace
        };
        let provider = found.provider;
        let url = endpoint
            .check(&provider.token_url)
            .map_err(|error| incomplete(format!("its spec.tokenUrl cannot be used: {error}")))?;
        let must_be_labelled = found.cluster.is_some();
        let read = async |key: &SecretKeyReference, what: &str| {
            let secret = self.secrets.get(place, &key.name).await?.ok_or_else(|| {
                incomplete(format!(
                    "Secret {place}/{0} with {what} does not exist; create it: kubectl -n {place} create secret generic {0} --from-literal={1}=…",
                    key.name, key.key
                ))
            })?;
            if must_be_labelled && !is_client(&secret) {
                return Err(incomplete(format!(
                    "Secret {place}/{0} lacks the label {CLIENT_LABEL}=true; if it is meant to be used: kubectl -n {place} label secret {0} {CLIENT_LABEL}=true",
                    key.name
                )));
            }
            token(&secret, &key.key).map_err(|error| {
                incomplete(format!(
                    "Secret {place}/{0} {error} {1}; mend it: kubectl -n {place} patch secret {0} -p '{{\"stringData\":{{\"{1}\":\"…\"}}}}'",
                    key.name, key.key
                ))
            })
        };
        let client_id = match (&provider.client.id, &provider.client.id_secret_key_ref) {
            (Some(id), _) => id.clone(),
            (None, Some(key)) => {
                let id = read(key, "the client's identifier").await?;
                id.expose_secret().to_owned()
            }
            (None, None) => {
                return Err(incomplete("it names no client identifier".to_owned()));
            }
        };
        let mut client_secrets = Vec::new();
        if provider.client_auth != ClientAuthentication::None {
            if provider.client.secret_key_refs.is_empty() {
                return Err(incomplete(
                    "it names no client secret; set spec.client.secretKeyRefs, or spec.clientAuth: None for a public client".to_owned(),
                ));
            }
            for key in &provider.client.secret_key_refs {
                client_secrets.push(read(key, "the client's secret").await?);
            }
        }
        Ok(Resolved {
            origin: url.origin().ascii_serialization(),
            request_hash: request_hash(&provider, credential),
            url,
            client_id,
            client_secrets,
            provider,
        })
    }
}

fn is_client(secret: &Secret) -> bool {
    secret
        .labels()
        .get(CLIENT_LABEL)
        .is_some_and(|v| v == "true")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::api::IntegrationCredentialSpec;

    fn credential(grant: &str, scopes: &[&str]) -> IntegrationCredential {
        let spec: IntegrationCredentialSpec = serde_json::from_value(json!({"oauth2": {
            "providerRef": {"kind": "ClusterOAuthProvider", "name": "p"}, "grantType": grant, "scopes": scopes,
        }}))
        .unwrap();
        IntegrationCredential::new("c", spec)
    }

    fn cluster(extra: &Value) -> ClusterOAuthProviderSpec {
        let mut spec = json!({"tokenUrl": "https://x.example/t", "client": {"id": "c"}});
        spec.as_object_mut()
            .unwrap()
            .extend(extra.as_object().unwrap().clone());
        serde_json::from_value(spec).unwrap()
    }

    fn refusal(spec: &Value, credential: &IntegrationCredential) -> Option<String> {
        let labels = [("team".to_owned(), "blue".to_owned())].into();
        admit(&cluster(spec), credential, &labels)
            .err()
            .map(|f| f.message)
    }

    #[test]
    fn a_cluster_provider_admits_nobody_by_default() {
        let user = credential("RefreshToken", &[]);
        assert!(
            refusal(&json!({}), &user)
                .unwrap()
                .contains("allowedNamespaces")
        );
        assert_eq!(refusal(&json!({"allowedNamespaces": {}}), &user), None);
        let blue = json!({"allowedNamespaces": {"matchLabels": {"team": "blue"}}});
        assert_eq!(refusal(&blue, &user), None);
        let red = json!({"allowedNamespaces": {"matchLabels": {"team": "red"}}});
        assert!(refusal(&red, &user).unwrap().contains("allowedNamespaces"));
    }

    #[test]
    fn acting_as_the_client_itself_needs_leave_for_the_grant_and_each_scope() {
        let all = json!({"allowedNamespaces": {}});
        let machine = credential("ClientCredentials", &["a"]);
        assert!(
            refusal(&all, &machine)
                .unwrap()
                .contains("allowedGrantTypes")
        );
        let granted = json!({"allowedNamespaces": {}, "allowedGrantTypes": ["ClientCredentials"], "allowedScopes": ["a"]});
        assert_eq!(refusal(&granted, &machine), None);
        let wider = credential("ClientCredentials", &["a", "b"]);
        assert!(refusal(&granted, &wider).unwrap().contains("scope b"));
        let none = credential("ClientCredentials", &[]);
        assert!(refusal(&granted, &none).unwrap().contains("needs scopes"));
    }

    #[test]
    fn the_hash_changes_with_what_is_asked_for_and_not_with_the_order_of_scopes() {
        let provider = cluster(&json!({})).provider;
        let hash =
            |scopes: &[&str]| request_hash(&provider, &credential("ClientCredentials", scopes));
        assert_eq!(hash(&["a", "b"]), hash(&["b", "a"]));
        assert_ne!(hash(&["a", "b"]), hash(&["a"]));
        let mut moved = provider.clone();
        moved.token_url = "https://y.example/t".to_owned();
        assert_ne!(
            request_hash(&moved, &credential("ClientCredentials", &["a"])),
            hash(&["a"])
        );
    }
}
