//! Reading the Secrets that people name. Whoever may create a credential or a provider object names Secrets that the
//! operator may read and they perhaps may not: this is the one place that decides which it reads for them.

use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;

use super::{grant, store::Secrets};
use crate::{
    api::{ALLOW_LABEL, CLIENT_LABEL, GROUP, ROLE_LABEL},
    failure::{Failure, Reason},
};

/// Types of Secrets that are the identity of somebody else, and never meant for a provider.
const IDENTITIES: [&str; 2] = [
    "kubernetes.io/service-account-token",
    "bootstrap.kubernetes.io/token",
];

/// Which Secrets the operator reads for those who name them.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// The namespace that holds the client Secrets of cluster providers.
    pub operator_namespace: String,
    /// Strict mode: only Secrets whose owner has labelled them `tokenward.dev/allow=true`.
    pub require_allow_label: bool,
}

/// What a Secret is named for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// As the seed of a credential.
    Seed,
    /// As the client of an `OAuthProvider`.
    Client,
    /// As the client of a `ClusterOAuthProvider`.
    ClusterClient,
    /// As the source of an API key, a password or headers.
    Source,
}

impl Secrets {
    /// Reads a Secret that somebody names, from the quorum; `None`: it does not exist.
    ///
    /// # Errors
    /// `SecretNotAllowed`, where it must not be read for this; or the API server's refusal.
    pub async fn referenced(
        &self,
        namespace: &str,
        name: &str,
        purpose: Purpose,
    ) -> Result<Option<Secret>, Failure> {
        let found = self.get(namespace, name).await?;
        if let Some(secret) = &found {
            self.check_referenced(secret, purpose)?;
        }
        Ok(found)
    }

    /// Whether a Secret that was read may be used for this.
    ///
    /// # Errors
    /// `SecretNotAllowed`.
    pub fn check_referenced(&self, secret: &Secret, purpose: Purpose) -> Result<(), Failure> {
        check(secret, purpose, self.policy())
            .map_err(|why| Failure::new(Reason::SecretNotAllowed, why))
    }
}

/// Whether this Secret may be read for this purpose. Says why not, and what to do.
fn check(secret: &Secret, purpose: Purpose, policy: &Policy) -> Result<(), String> {
    let (namespace, name) = (secret.namespace().unwrap_or_default(), secret.name_any());
    let is_labelled = |label: &str| secret.labels().get(label).map(String::as_str) == Some("true");
    if is_ours(secret) {
        return Err(format!(
            "Secret {namespace}/{name} was made by tokenward for a credential, and what is in it is that credential's; name another Secret"
        ));
    }
    if let Some(type_) = secret.type_.as_deref().filter(|t| IDENTITIES.contains(t)) {
        return Err(format!(
            "Secret {namespace}/{name} is of type {type_}: such tokens are for the API server and are sent to nobody else; name another Secret"
        ));
    }
    let of_platform = namespace == policy.operator_namespace && is_labelled(CLIENT_LABEL);
    if of_platform && purpose != Purpose::ClusterClient {
        return Err(format!(
            "Secret {namespace}/{name} carries the label {CLIENT_LABEL}=true: it is for ClusterOAuthProviders only; name another Secret"
        ));
    }
    // The label of a client is the same consent, for this purpose alone.
    let allowed = is_labelled(ALLOW_LABEL) || purpose == Purpose::ClusterClient;
    if policy.require_allow_label && !allowed {
        return Err(format!(
            "Secret {namespace}/{name} lacks the label {ALLOW_LABEL}=true, without which this operator (--require-allow-label) reads no Secret; if it is meant to be used: kubectl -n {namespace} label secret {name} {ALLOW_LABEL}=true"
        ));
    }
    Ok(())
}

/// Whether it is a grant or a target, of whichever credential.
fn is_ours(secret: &Secret) -> bool {
    let prefix = format!("{GROUP}/");
    let is_owned = secret
        .owner_references()
        .iter()
        .any(|owner| owner.controller == Some(true) && owner.api_version.starts_with(&prefix));
    is_owned
        || secret.type_.as_deref() == Some(grant::TYPE)
        || secret.labels().contains_key(ROLE_LABEL)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn verdict(change: &Value, purpose: Purpose, strict: bool) -> Result<(), String> {
        let mut secret = json!({"metadata": {"name": "s", "namespace": "team"}});
        for (key, value) in change.as_object().unwrap() {
            match value {
                Value::Object(fields) => {
                    for (field, value) in fields {
                        secret[key][field] = value.clone();
                    }
                }
                value => secret[key] = value.clone(),
            }
        }
        let policy = Policy {
            operator_namespace: "system".to_owned(),
            require_allow_label: strict,
        };
        check(&serde_json::from_value(secret).unwrap(), purpose, &policy)
    }

    fn labelled(namespace: &str, label: &str, value: &str) -> Value {
        json!({"metadata": {"namespace": namespace, "labels": {label: value}}})
    }

    const ALL: [Purpose; 4] = [
        Purpose::Seed,
        Purpose::Client,
        Purpose::ClusterClient,
        Purpose::Source,
    ];

    #[test]
    fn what_is_a_credentials_or_an_identity_is_read_for_nobody() {
        let owner = json!([{"apiVersion": "tokenward.dev/v1alpha1", "kind": "IntegrationCredential",
            "name": "a", "uid": "u", "controller": true}]);
        for secret in [
            json!({"type": grant::TYPE}),
            labelled("team", ROLE_LABEL, "target"),
            json!({"metadata": {"ownerReferences": owner}}),
            json!({"type": "kubernetes.io/service-account-token"}),
            json!({"type": "bootstrap.kubernetes.io/token"}),
        ] {
            for purpose in ALL {
                let refused = verdict(&secret, purpose, false).unwrap_err();
                assert!(refused.contains("team/s"), "{refused}");
            }
        }
        for purpose in ALL {
            assert_eq!(verdict(&json!({}), purpose, false), Ok(()));
        }
    }

    #[test]
    fn a_client_of_the_platform_is_for_cluster_providers_only() {
        let client = labelled("system", CLIENT_LABEL, "true");
        for purpose in ALL {
            let is_allowed = verdict(&client, purpose, false).is_ok();
            assert_eq!(is_allowed, purpose == Purpose::ClusterClient, "{purpose:?}");
            // Elsewhere the label means nothing.
            let elsewhere = labelled("team", CLIENT_LABEL, "true");
            assert_eq!(verdict(&elsewhere, purpose, false), Ok(()));
        }
    }

    #[test]
    fn in_strict_mode_only_what_is_labelled_is_read() {
        for purpose in [Purpose::Seed, Purpose::Client, Purpose::Source] {
            let refused = verdict(&json!({}), purpose, true).unwrap_err();
            assert!(
                refused.contains("kubectl -n team label secret s tokenward.dev/allow=true"),
                "{refused}"
            );
            assert!(verdict(&labelled("team", ALLOW_LABEL, "false"), purpose, true).is_err());
            assert_eq!(
                verdict(&labelled("team", ALLOW_LABEL, "true"), purpose, true),
                Ok(())
            );
        }
    }
}
