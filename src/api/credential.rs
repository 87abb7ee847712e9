//! `IntegrationCredential`: one credential of one user of an integration, kept alive in a Secret.

use kube::{CustomResource, KubeSchema, ResourceExt};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{CredentialStatus, Duration};

/// Keeps one credential for an integration alive: refreshes its token before it expires and writes
/// it into a Secret that pods mount.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Deserialize, Serialize)]
#[kube(
    group = "tokenward.dev",
    version = "v1alpha1",
    kind = "IntegrationCredential",
    namespaced,
    status = "CredentialStatus",
    derive = "PartialEq",
    shortname = "icred",
    category = "tokenward",
    selectable = ".spec.user",
    doc = "A credential for an integration (an OAuth token), kept alive in a Secret that pods mount.",
    validation = Rule::new("self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$') && self.metadata.name.size() <= 52")
        .message("metadata.name must be a DNS label of at most 52 characters (lower case letters, digits and '-'): the names of the Lease and the Secrets of a credential are derived from it"),
    validation = Rule::new("(has(self.spec.target) && has(self.spec.target.name) ? self.spec.target.name : self.metadata.name) == (has(oldSelf.spec.target) && has(oldSelf.spec.target.name) ? oldSelf.spec.target.name : oldSelf.metadata.name)")
        .message("spec.target.name cannot change, because pods mount the Secret by its name: create another credential for another name"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status", description = "True while the Secret holds a usable token"),
    printcolumn(name = "State", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason", description = "Pending, Valid, Refreshing, Expired or Invalid"),
    printcolumn(name = "Provider", type_ = "string", json_path = ".spec.oauth2.providerRef.name"),
    printcolumn(name = "Target", type_ = "string", json_path = ".status.target.name", description = "The Secret to mount"),
    printcolumn(name = "Expires", type_ = "string", json_path = ".status.token.expirationTime", description = "When the token in the Secret expires"),
    printcolumn(name = "Last Refresh", type_ = "date", json_path = ".status.token.lastRefreshTime"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].message", priority = 1),
    printcolumn(name = "Next Refresh", type_ = "string", json_path = ".status.refresh.nextTime", priority = 1)
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("(has(self.user) ? self.user : '') == (has(oldSelf.user) ? oldSelf.user : '')")
        .message("spec.user cannot change: a credential belongs to one user for its life; create another credential"),
)]
pub struct IntegrationCredentialSpec {
    /// Whose credential this is, in the terms of the application that uses it (an account name, a
    /// tenant). Optional and immutable. `kubectl get icred --field-selector spec.user=alice` selects by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub user: Option<String>,

    /// A name for people, shown in user interfaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub title: Option<String>,

    /// An OAuth 2.0 token (RFC 6749).
    pub oauth2: OAuth2,

    /// The Secret that receives the token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Target>,

    /// When the token is refreshed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refresh: Option<Refresh>,
}

/// How the OAuth 2.0 token is obtained.
#[derive(KubeSchema, Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.grantType != 'RefreshToken' || has(self.seedSecretRef)")
        .message("grantType RefreshToken needs seedSecretRef: the Secret with the first refresh_token"),
    validation = Rule::new("self.grantType != 'ClientCredentials' || !has(self.seedSecretRef)")
        .message("grantType ClientCredentials takes no seedSecretRef: the token is obtained with the client of the provider object; remove seedSecretRef or use grantType RefreshToken"),
    validation = Rule::new("!has(self.seedSecretRef) || !self.seedSecretRef.name.endsWith('.grant')")
        .message("spec.oauth2.seedSecretRef.name must not end with '.grant': such Secrets hold the refresh tokens of credentials, and each refresh token belongs to one credential"),
    validation = Rule::new("self.grantType == oldSelf.grantType")
        .message("spec.oauth2.grantType cannot change: create another credential"),
)]
pub struct OAuth2 {
    /// The provider object that describes the token endpoint and the client.
    pub provider_ref: ProviderReference,

    /// The grant by which tokens are obtained: `RefreshToken` (RFC 6749 section 6: a user has
    /// authorized the client, and the seed Secret holds the first refresh token) or
    /// `ClientCredentials` (RFC 6749 section 4.4: the client acts for itself). Immutable.
    pub grant_type: GrantType,

    /// The scopes that are asked for (RFC 6749 section 3.3). Without any, the provider's default
    /// applies. A refresh never asks for scopes: it keeps what was authorized.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 64),
        inner(length(min = 1, max = 253), pattern(r"^[\x21\x23-\x5B\x5D-\x7E]+$"))
    )]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub scopes: Vec<String>,

    /// The Secret, in the credential's namespace, whose key `refresh_token` holds the first
    /// refresh token. It is read and never written. A new refresh token in it is adopted when the
    /// provider accepts it. Label it `tokenward.dev/watch=true` to have a change of it act at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed_secret_ref: Option<LocalSecretReference>,
}

/// The grant by which tokens are obtained.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum GrantType {
    /// RFC 6749 section 6.
    RefreshToken,
    /// RFC 6749 section 4.4.
    ClientCredentials,
}

impl GrantType {
    /// The name in the API, as written in `spec.oauth2.grantType`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RefreshToken => "RefreshToken",
            Self::ClientCredentials => "ClientCredentials",
        }
    }
}

/// Which provider object.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct ProviderReference {
    /// `OAuthProvider` (in the credential's namespace) or `ClusterOAuthProvider`.
    #[serde(default)]
    pub kind: ProviderKind,

    /// The provider object's name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// The kind of a provider object.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub enum ProviderKind {
    /// A provider object in the credential's namespace.
    #[default]
    OAuthProvider,
    /// A provider object for the whole cluster.
    ClusterOAuthProvider,
}

impl std::fmt::Display for ProviderReference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = match self.kind {
            ProviderKind::OAuthProvider => "OAuthProvider",
            ProviderKind::ClusterOAuthProvider => "ClusterOAuthProvider",
        };
        write!(f, "{kind} {}", self.name)
    }
}

/// A Secret in the same namespace.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct LocalSecretReference {
    /// The Secret's name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// The Secret that receives the token.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct Target {
    /// The Secret's name. Defaults to the credential's name. Immutable. A Secret of that name that
    /// was not made for this credential is never touched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 253),
        pattern(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
    )]
    #[x_kube(
        validation = Rule::new("!self.endsWith('.grant')")
            .message("spec.target.name must not end with '.grant': such Secrets hold the refresh tokens of credentials"),
    )]
    pub name: Option<String>,
}

/// When the token is refreshed.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct Refresh {
    /// How long before its expiry a token is refreshed, as a Go duration (`90s`, `5m`, `1h30m`).
    /// Defaults to `5m`; at most half of the token's lifetime is used, so that a token that lives
    /// shorter than this is not refreshed all the time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(
        validation = Rule::new("duration(self) >= duration('1s') && duration(self) <= duration('8760h')")
            .message("spec.refresh.before must be a duration from 1s to 8760h, such as 5m"),
    )]
    pub before: Option<Duration>,
}

impl IntegrationCredential {
    /// The Secret that receives the token.
    #[must_use]
    pub fn target_name(&self) -> String {
        let named = self.spec.target.as_ref().and_then(|t| t.name.clone());
        named.unwrap_or_else(|| self.name_any())
    }

    /// The Secret that holds the refresh token and everything else that must not be lost. The dot
    /// marks it as ours: a credential's name has none.
    #[must_use]
    pub fn grant_name(&self) -> String {
        format!("{}.grant", self.name_any())
    }

    /// The Lease that lets one writer at a time refresh this credential.
    #[must_use]
    pub fn gate_name(&self) -> String {
        format!("{}.gate", self.name_any())
    }

    /// How long before expiry a refresh is wanted ([`Refresh::before`], 5 minutes by default).
    #[must_use]
    pub fn refresh_before(&self) -> std::time::Duration {
        const DEFAULT: std::time::Duration = std::time::Duration::from_secs(300);
        let set = self.spec.refresh.as_ref().and_then(|r| r.before);
        set.map_or(DEFAULT, std::time::Duration::from)
    }
}
