//! `OAuthProvider` and `ClusterOAuthProvider`: the only objects that describe endpoints and clients.
//! A credential can override nothing of them, or it could send the client's secret elsewhere.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Duration, GrantType};

/// What both kinds of provider object describe.
///
/// The defaults are the careful ones: a provider whose conduct is not known is taken to rotate its
/// refresh tokens, to have no grace period, and to revoke everything when a spent one is presented.
#[derive(KubeSchema, Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Provider {
    /// The token endpoint (RFC 6749 section 3.2). An https URL without user information or
    /// fragment; http is accepted for loopback addresses when the operator runs with
    /// `--allow-http-loopback`.
    #[schemars(length(min = 1, max = 2048))]
    #[x_kube(
        validation = Rule::new("isURL(self) && self.matches('^(?i)https?://') && url(self).getHostname() != ''")
            .message("spec.tokenUrl must be an absolute https URL, such as https://login.example.com/oauth/token"),
        validation = Rule::new("!self.contains('#') && !self.matches('^[^:]+://[^/?]*@')")
            .message("spec.tokenUrl must have no user information and no fragment"),
        validation = Rule::new("!isURL(self) || !self.matches('^(?i)http://') || url(self).getHostname() in ['localhost', '127.0.0.1', '[::1]', '::1']")
            .message("spec.tokenUrl must use https: over http, tokens can be read by anyone on the way (http is for loopback addresses only)"),
    )]
    pub token_url: String,

    /// The client that is registered with the provider.
    pub client: OAuthClient,

    /// How the client authenticates at the token endpoint (RFC 6749 section 2.3.1). `Basic`: HTTP
    /// Basic with the id and the secret form-encoded first. `Body`: as `client_id` and
    /// `client_secret` in the body. `None`: a public client, only `client_id` in the body.
    #[serde(default)]
    pub client_auth: ClientAuthentication,

    /// Whether a refresh gives a new refresh token and ends the old one: `Never`, `Sometimes` or
    /// `Always`.
    #[serde(default)]
    pub rotation: Rotation,

    /// How long a spent refresh token may be presented again and gives the same answer, as a Go
    /// duration. `0s`, the default: not at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(
        validation = Rule::new("duration(self) >= duration('0s') && duration(self) <= duration('8760h')")
            .message("spec.reuseGrace must be a duration of at most 8760h, such as 30s"),
    )]
    pub reuse_grace: Option<Duration>,

    /// What presenting a spent refresh token costs: `RejectOnly` (that request fails) or
    /// `RevokesFamily` (every token of the authorization ends; RFC 9700 section 4.14.2).
    #[serde(default)]
    pub reuse_detection: ReuseDetection,

    /// Whether the old access token works on after a refresh: `Survives` (until its expiry),
    /// `Invalidated`, or `Unknown`.
    #[serde(default)]
    pub access_token_on_refresh: AccessTokenOnRefresh,

    /// The lifetime of tokens whose answer states none, as a Go duration. Without it such a token
    /// is served until it is replaced by hand: nobody knows when to refresh it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(
        validation = Rule::new("duration(self) >= duration('1s')")
            .message("spec.defaultLifetime must be a duration of at least 1s, such as 1h"),
    )]
    pub default_lifetime: Option<Duration>,
}

/// The client that is registered with the provider.
#[derive(KubeSchema, Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.id) != has(self.idSecretKeyRef)")
        .message("spec.client needs exactly one of id and idSecretKeyRef"),
)]
pub struct OAuthClient {
    /// The client identifier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub id: Option<String>,

    /// The Secret key that holds the client identifier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id_secret_key_ref: Option<SecretKeyReference>,

    /// The Secret keys that hold the client's secrets, in the order in which they are tried: the
    /// next one is used when the provider answers `invalid_client`. Two, while a secret is replaced.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4))]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub secret_key_refs: Vec<SecretKeyReference>,
}

/// One key of a Secret: in the provider's namespace, or in the operator's for a cluster provider.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct SecretKeyReference {
    /// The Secret's name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The key in the Secret's data.
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

/// How the client authenticates at the token endpoint.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub enum ClientAuthentication {
    /// HTTP Basic, id and secret form-encoded first.
    #[default]
    Basic,
    /// `client_id` and `client_secret` in the body.
    Body,
    /// A public client.
    None,
}

/// Whether a refresh gives a new refresh token and ends the old one.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub enum Rotation {
    /// The refresh token stays the same.
    Never,
    /// It changes now and then.
    Sometimes,
    /// It changes at every refresh.
    #[default]
    Always,
}

/// What presenting a spent refresh token costs.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub enum ReuseDetection {
    /// That request fails.
    RejectOnly,
    /// Every token of the authorization ends.
    #[default]
    RevokesFamily,
}

/// Whether the old access token works on after a refresh.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub enum AccessTokenOnRefresh {
    /// Until its expiry.
    Survives,
    /// It ends with the refresh.
    Invalidated,
    /// Not known: taken to end.
    #[default]
    Unknown,
}

/// A provider of OAuth tokens, for the credentials of its namespace.
#[derive(CustomResource, JsonSchema, Clone, Debug, PartialEq, Deserialize, Serialize)]
#[allow(
    clippy::duplicated_attributes,
    reason = "several columns have one type"
)]
#[kube(
    group = "tokenward.dev",
    version = "v1alpha1",
    kind = "OAuthProvider",
    plural = "oauthproviders",
    namespaced,
    category = "tokenward",
    doc = "A provider of OAuth tokens: its token endpoint, its client and how it behaves. For the credentials of its namespace.",
    printcolumn(name = "Token URL", type_ = "string", json_path = ".spec.tokenUrl"),
    printcolumn(name = "Rotation", type_ = "string", json_path = ".spec.rotation"),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
pub struct OAuthProviderSpec {
    /// The description.
    #[serde(flatten)]
    pub provider: Provider,
}

/// A provider of OAuth tokens, for the credentials of chosen namespaces.
#[derive(CustomResource, JsonSchema, Clone, Debug, PartialEq, Deserialize, Serialize)]
#[allow(
    clippy::duplicated_attributes,
    reason = "several columns have one type"
)]
#[kube(
    group = "tokenward.dev",
    version = "v1alpha1",
    kind = "ClusterOAuthProvider",
    plural = "clusteroauthproviders",
    category = "tokenward",
    doc = "A provider of OAuth tokens for the credentials of chosen namespaces. Its client's Secrets lie in the operator's namespace.",
    printcolumn(name = "Token URL", type_ = "string", json_path = ".spec.tokenUrl"),
    printcolumn(name = "Rotation", type_ = "string", json_path = ".spec.rotation"),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct ClusterOAuthProviderSpec {
    /// The description.
    #[serde(flatten)]
    pub provider: Provider,

    /// The namespaces whose credentials may use this provider, by the labels of the namespace
    /// (`kubernetes.io/metadata.name` is its name). Without it, none may; `{}` allows all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed_namespaces: Option<LabelSelector>,

    /// The grants that credentials may use. Defaults to `RefreshToken` alone: with
    /// `ClientCredentials` every allowed namespace acts as this client itself.
    #[serde(default = "default_grant_types")]
    #[schemars(length(max = 8))]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub allowed_grant_types: Vec<GrantType>,

    /// The scopes that credentials with grant `ClientCredentials` may ask for; each of theirs must
    /// be among these, and they must ask for at least one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(min = 1, max = 253)))]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub allowed_scopes: Vec<String>,
}

fn default_grant_types() -> Vec<GrantType> {
    vec![GrantType::RefreshToken]
}
