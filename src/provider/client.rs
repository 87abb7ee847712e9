//! The client of a provider object: its identifier and its secrets, from where the object says.

use std::{collections::BTreeMap, env};

use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use secrecy::{ExposeSecret, SecretString};

use super::incomplete;
use crate::{
    api::{
        CLIENT_LABEL, ClientAuthentication, OAuthClient, ProviderKind, ProviderReference,
        SecretKeyReference, WATCH_LABEL,
    },
    failure::{Failure, Reason},
    secret::{ValueError, private_key, referenced::Purpose, store::Secrets, token},
};

/// The version of each Secret that was read, by its name.
pub(super) type Seen = BTreeMap<String, String>;

/// Reads one value of a Secret.
type Read = fn(&Secret, &str) -> Result<SecretString, ValueError>;

/// Reads the client of a provider object.
pub(super) struct Clients<'a> {
    pub secrets: &'a Secrets,
    pub provider: &'a ProviderReference,
    /// The namespace of its Secrets.
    pub place: &'a str,
}

impl Clients<'_> {
    /// The client's identifier.
    pub async fn id(&self, client: &OAuthClient, seen: &mut Seen) -> Result<String, Failure> {
        match (&client.id, &client.id_secret_key_ref, &client.id_from_env) {
            (Some(id), _, _) => Ok(id.clone()),
            (None, Some(key), _) => {
                let id = self.secret(key, "the client's identifier", token, seen);
                Ok(id.await?.expose_secret().to_owned())
            }
            (None, None, Some(name)) => Ok(self.variable(name)?.expose_secret().to_owned()),
            (None, None, None) => Err(incomplete(self.provider, "it names no client identifier")),
        }
    }

    /// The client's secrets or keys, in the order in which they are tried; none for a public client. One that is
    /// not there is left out where another is: while a secret is replaced, either may be missing.
    pub async fn secrets(
        &self,
        client: &OAuthClient,
        authentication: ClientAuthentication,
        is_app: bool,
        seen: &mut Seen,
    ) -> Result<Vec<SecretString>, Failure> {
        let (found, missing) = self.each(client, authentication, is_app, seen).await;
        match missing {
            Some(failure) if found.is_empty() || failure.reason == Reason::APIServerError => {
                Err(failure)
            }
            Some(failure) => {
                let (reason, message) = (failure.reason.as_str(), &failure.message);
                tracing::warn!(
                    reason,
                    error = message,
                    "one of the client's secrets is left out"
                );
                Ok(found)
            }
            None => Ok(found),
        }
    }

    /// The client's secrets or keys that are there, and what is wrong with the first that is not.
    pub async fn each(
        &self,
        client: &OAuthClient,
        authentication: ClientAuthentication,
        is_app: bool,
        seen: &mut Seen,
    ) -> (Vec<SecretString>, Option<Failure>) {
        let mut found = Vec::new();
        let mut missing = None;
        if authentication == ClientAuthentication::None && !is_app {
            return (found, missing);
        }
        let signs = is_app || authentication == ClientAuthentication::PrivateKeyJwt;
        let (read, what): (Read, _) = if signs {
            (private_key, "the client's private key")
        } else {
            (token, "the client's secret")
        };
        for key in &client.secret_key_refs {
            match self.secret(key, what, read, seen).await {
                Ok(secret) => found.push(secret),
                Err(failure) => missing = missing.or(Some(failure)),
            }
        }
        for name in &client.secrets_from_env {
            match self.variable(name) {
                Ok(secret) => found.push(secret),
                // Nobody sets variables while the process runs: it will be the same next time.
                Err(failure) => return (Vec::new(), Some(failure)),
            }
        }
        if found.is_empty() && missing.is_none() {
            missing = Some(incomplete(
                self.provider,
                "it names no client secret; set spec.client.secretKeyRefs, or spec.clientAuth: None for a public client",
            ));
        }
        (found, missing)
    }

    async fn secret(
        &self,
        key: &SecretKeyReference,
        what: &str,
        read: Read,
        seen: &mut Seen,
    ) -> Result<SecretString, Failure> {
        let place = self.place;
        let incomplete = |why: String| incomplete(self.provider, &why);
        let (purpose, is_cluster) = match self.provider.kind {
            ProviderKind::OAuthProvider => (Purpose::Client, false),
            ProviderKind::ClusterOAuthProvider => (Purpose::ClusterClient, true),
        };
        let found = self.secrets.referenced(place, &key.name, purpose).await;
        let found = found.map_err(|failure| match failure.reason {
            Reason::SecretNotAllowed => Failure {
                message: format!("{} is not usable: {}", self.provider, failure.message),
                ..failure
            },
            _ => failure,
        })?;
        let secret = found.ok_or_else(|| {
            let label = if is_cluster { CLIENT_LABEL } else { WATCH_LABEL };
            let why = if is_cluster { "so that it may be used" } else { "so that it is seen at once" };
            incomplete(format!(
                "Secret {place}/{0} with {what} does not exist; create it: kubectl -n {place} create secret generic {0} --from-literal={1}=…; and label it, {why}: kubectl -n {place} label secret {0} {label}=true",
                key.name, key.key
            ))
        })?;
        seen.insert(
            key.name.clone(),
            secret.resource_version().unwrap_or_default(),
        );
        if is_cluster && !is_client(&secret) {
            return Err(incomplete(format!(
                "Secret {place}/{0} lacks the label {CLIENT_LABEL}=true; if it is meant to be used: kubectl -n {place} label secret {0} {CLIENT_LABEL}=true",
                key.name
            )));
        }
        read(&secret, &key.key).map_err(|error| {
            incomplete(format!(
                "Secret {place}/{0} {error} {1}; mend it: kubectl -n {place} patch secret {0} -p '{{\"stringData\":{{\"{1}\":\"…\"}}}}'",
                key.name, key.key
            ))
        })
    }

    /// A value of the operator's environment. The CRD lets only cluster providers name one; a copy of it that is
    /// older may not.
    fn variable(&self, name: &str) -> Result<SecretString, Failure> {
        const PREFIX: &str = "TOKENWARD_CLIENT_";
        let is_cluster = self.provider.kind == ProviderKind::ClusterOAuthProvider;
        if !is_cluster || !name.starts_with(PREFIX) {
            return Err(incomplete(
                self.provider,
                &format!(
                    "the environment variable {name} is not for it: only a ClusterOAuthProvider may name one, and only one that begins with {PREFIX}"
                ),
            ));
        }
        match env::var(name) {
            Ok(value) if !value.trim().is_empty() => Ok(value.trim().to_owned().into()),
            _ => Err(incomplete(
                self.provider,
                &format!(
                    "the operator has no environment variable {name}; set it in the operator's Deployment"
                ),
            )),
        }
    }
}

fn is_client(secret: &Secret) -> bool {
    let label = secret.labels().get(CLIENT_LABEL);
    label.is_some_and(|value| value == "true")
}
