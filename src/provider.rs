//! From a provider object to what a request needs: the endpoint, the client and whether a credential
//! may use them.

mod admit;
mod client;
pub mod controller;
mod discover;
mod inspect;
pub mod judged;
pub mod known;
mod resolve;

use kube::ResourceExt;

use crate::{
    api::{
        ClusterOAuthProviderSpec, Description, GrantType, IntegrationCredential, Provider,
        ProviderKind, ProviderReference,
    },
    failure::{Failure, Reason},
    oauth::catalog,
    secret::keyed_hash,
};

pub use self::{
    admit::admit,
    discover::Discovery,
    resolve::{Resolved, Resolver, RevocationPoint},
};

/// A provider object as found in the cache.
#[derive(Clone)]
pub struct Found {
    /// The object's description of itself.
    pub provider: Provider,
    /// What is known of the provider, with the preset's part; `None`: there is no such preset.
    pub description: Option<Description>,
    /// The conditions of use, for a cluster provider.
    pub cluster: Option<ClusterOAuthProviderSpec>,
    /// The version of what the object says.
    pub version: Option<String>,
}

impl Found {
    /// A provider object, together with its preset.
    #[must_use]
    pub fn new(
        provider: &Provider,
        cluster: Option<&ClusterOAuthProviderSpec>,
        version: Option<String>,
    ) -> Self {
        let own = &provider.description;
        let description = match &provider.preset {
            None => Some(own.clone()),
            Some(preset) => catalog::entries()
                .get(preset.as_str())
                .map(|entry| catalog::overlay(&entry.description, own)),
        };
        Self {
            provider: provider.clone(),
            description,
            cluster: cluster.cloned(),
            version,
        }
    }
}

/// The failure where the provider object does not exist.
#[must_use]
pub fn unknown(credential: &IntegrationCredential) -> Failure {
    let reference = &credential.oauth2().provider_ref;
    let place = match reference.kind {
        ProviderKind::OAuthProvider => {
            format!(" -n {}", credential.namespace().unwrap_or_default())
        }
        ProviderKind::ClusterOAuthProvider => String::new(),
    };
    Failure::new(
        Reason::UnknownProvider,
        format!(
            "{}; create it, and this credential goes on by itself. See what is there, and what it says: kubectl{} get {}",
            missing(credential),
            place,
            format!("{:?}", reference.kind).to_lowercase()
        ),
    )
}

/// That the provider object of a credential is not there.
#[must_use]
pub fn missing(credential: &IntegrationCredential) -> String {
    let reference = &credential.oauth2().provider_ref;
    match reference.kind {
        ProviderKind::OAuthProvider => {
            let namespace = credential.namespace().unwrap_or_default();
            format!("there is no {reference} in namespace {namespace}")
        }
        ProviderKind::ClusterOAuthProvider => format!("there is no {reference}"),
    }
}

/// The failure where the provider object names a preset that this version does not have.
fn unknown_preset(reference: &ProviderReference, preset: &str) -> Failure {
    Failure::new(
        Reason::UnknownProvider,
        format!(
            "{reference} names the preset {preset}, and there is none of that name; see: tokenward providers list. Without a preset, describe the provider in its spec"
        ),
    )
}

/// A hash of what a token is asked for: where, as whom, by which grant, with which scopes and parameters.
#[must_use]
pub fn request_hash(found: &Found, credential: &IntegrationCredential) -> String {
    let client = found.provider.client.as_ref();
    let id = client.map(|client| match (&client.id, &client.id_secret_key_ref) {
        (Some(id), _) => id.clone(),
        (None, Some(key)) => format!("{}/{}", key.name, key.key),
        (None, None) => client.id_from_env.clone().unwrap_or_default(),
    });
    let oauth2 = credential.oauth2();
    let sorted = |list: &[String]| {
        let mut list = list.to_vec();
        list.sort();
        list.join(" ")
    };
    let unknown = Description::default();
    let description = found.description.as_ref().unwrap_or(&unknown);
    let convention = description.convention(oauth2.grant_type, false);
    let mut parts = vec![
        description.token_url.clone().unwrap_or_default(),
        description.issuer.clone().unwrap_or_default(),
        id.unwrap_or_default(),
        oauth2.grant_type.as_str().to_owned(),
        sorted(&oauth2.scopes),
        sorted(&oauth2.resources),
        oauth2.subject.clone().unwrap_or_default(),
    ];
    let maps = [
        Some(&found.provider.variables),
        Some(&oauth2.variables),
        Some(&oauth2.extra_parameters),
        Some(&description.params),
        convention.map(|c| &c.params),
    ];
    for map in maps {
        let pairs = map.into_iter().flatten();
        parts.extend(pairs.flat_map(|(key, value)| [key.clone(), value.clone()]));
        parts.push(String::new());
    }
    keyed_hash(
        "tokenward.dev/request/v1",
        parts.iter().map(String::as_bytes),
    )
}

/// The failure where a provider object cannot be used as it is.
fn incomplete(reference: &ProviderReference, why: &str) -> Failure {
    Failure::new(
        Reason::ProviderNotConfigured,
        format!("{reference} is not usable: {why}"),
    )
}

/// Whether the description says that the provider offers this grant; one that says nothing may.
///
/// # Errors
/// `ProviderNotConfigured`, with the grants that it does offer.
fn offers(description: &Description, credential: &IntegrationCredential) -> Result<(), Failure> {
    let wanted = credential.oauth2().grant_type;
    match &description.grants {
        Some(grants) if !grants.contains(&wanted) => {
            let offered: Vec<_> = grants.iter().copied().map(GrantType::as_str).collect();
            Err(Failure::new(
                Reason::ProviderNotConfigured,
                format!(
                    "{} does not offer grantType {}; its spec.grants, or its preset, lists {}",
                    credential.oauth2().provider_ref,
                    wanted.as_str(),
                    offered.join(", ")
                ),
            ))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::api::IntegrationCredentialSpec;

    fn credential(oauth2: &Value) -> IntegrationCredential {
        let mut all = json!({"providerRef": {"name": "p"}, "grantType": "ClientCredentials"});
        let fields = oauth2.as_object().unwrap().clone();
        all.as_object_mut().unwrap().extend(fields);
        let spec: IntegrationCredentialSpec =
            serde_json::from_value(json!({"oauth2": all})).unwrap();
        IntegrationCredential::new("c", spec)
    }

    fn found(provider: &Value) -> Found {
        let provider: Provider = serde_json::from_value(provider.clone()).unwrap();
        Found::new(&provider, None, None)
    }

    #[test]
    fn the_hash_changes_with_what_is_asked_for_and_not_with_the_order_of_scopes() {
        let provider = json!({"tokenUrl": "https://x.example/t", "client": {"id": "c"}});
        let hash = |oauth2: Value| request_hash(&found(&provider), &credential(&oauth2));
        let base = hash(json!({"scopes": ["a", "b"]}));
        assert_eq!(base, hash(json!({"scopes": ["b", "a"]})));
        for other in [
            json!({"scopes": ["a"]}),
            json!({"scopes": ["a", "b"], "resources": ["https://api.example"]}),
            json!({"scopes": ["a", "b"], "extraParameters": {"audience": "x"}}),
            json!({"scopes": ["a", "b"], "variables": {"audience": "x"}}),
            json!({"scopes": ["a", "b"], "grantType": "JwtBearer"}),
        ] {
            assert_ne!(hash(other.clone()), base, "{other}");
        }
        for other in [
            json!({"tokenUrl": "https://y.example/t", "client": {"id": "c"}}),
            json!({"tokenUrl": "https://x.example/t", "client": {"id": "d"}}),
            json!({"tokenUrl": "https://x.example/t", "client": {"id": "c"}, "params": {"audience": "x"}}),
            json!({"tokenUrl": "https://x.example/t", "client": {"id": "c"}, "variables": {"tenant": "x"}}),
        ] {
            let scopes = json!({"scopes": ["a", "b"]});
            assert_ne!(
                request_hash(&found(&other), &credential(&scopes)),
                base,
                "{other}"
            );
        }
    }

    #[test]
    fn a_grant_that_the_provider_does_not_offer_is_told_with_those_it_does() {
        let provider =
            json!({"tokenUrl": "https://x.example/t", "grants": ["RefreshToken", "JwtBearer"]});
        let description = found(&provider).description.unwrap();
        let refused = offers(&description, &credential(&json!({}))).unwrap_err();
        assert!(
            refused.message.contains("RefreshToken, JwtBearer"),
            "{refused}"
        );
        assert!(
            offers(
                &description,
                &credential(&json!({"grantType": "JwtBearer"}))
            )
            .is_ok()
        );
    }
}
