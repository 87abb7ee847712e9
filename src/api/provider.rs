//! `OAuthProvider` and `ClusterOAuthProvider`: the only objects that describe endpoints and clients.
//! A credential can override nothing of them, or it could send the client's secret elsewhere.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::{Description, GrantType, ProviderStatus, SecretKeyReference, description::Line};

/// What both kinds of provider object describe: a preset or nothing, the client, and what is different
/// from the preset.
#[derive(KubeSchema, Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Provider {
    /// The entry of the catalogue that describes the provider (`tokenward providers list`). Every field
    /// that stands here counts before the preset's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub preset: Option<String>,

    /// The values of the variables in URL templates and `params`, such as `tenant`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(with = "BTreeMap<String, Line>", extend("maxProperties" = 16))]
    pub variables: BTreeMap<String, String>,

    /// The client that is registered with the provider. Needed for every grant but JwtBearer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<OAuthClient>,

    /// Certificate authorities to trust beside the system's, as base64 of PEM certificates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "byte"), length(max = 524_288))]
    pub ca_bundle: Option<String>,

    /// The variables whose values a credential may give, in `spec.oauth2.variables`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 63)))]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub credential_variables: Vec<String>,

    /// The parameters that a credential may add to a request, in `spec.oauth2.extraParameters`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 63)))]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    #[x_kube(
        validation = Rule::new("self.all(name, !(name in ['grant_type', 'refresh_token', 'client_id', 'client_secret', 'client_assertion', 'client_assertion_type', 'code', 'code_verifier', 'redirect_uri', 'assertion', 'scope', 'resource', 'access_token', 'username', 'password', 'device_code']))")
            .message("spec.credentialParameters must not name a parameter of the protocol itself (grant_type, refresh_token, client_id, …)"),
    )]
    pub credential_parameters: Vec<String>,

    /// The description.
    #[serde(flatten)]
    pub description: Description,
}

/// The client that is registered with the provider.
#[derive(KubeSchema, Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("(has(self.id) ? 1 : 0) + (has(self.idSecretKeyRef) ? 1 : 0) + (has(self.idFromEnv) ? 1 : 0) == 1")
        .message("spec.client needs exactly one of id, idSecretKeyRef and idFromEnv"),
    validation = Rule::new("!has(self.secretKeyRefs) || !has(self.secretsFromEnv)")
        .message("spec.client takes secretKeyRefs or secretsFromEnv, not both"),
)]
pub struct OAuthClient {
    /// The client identifier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub id: Option<String>,

    /// The Secret key that holds the client identifier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id_secret_key_ref: Option<SecretKeyReference>,

    /// The environment variable of the operator that holds the client identifier; only for a
    /// ClusterOAuthProvider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128), pattern(r"^TOKENWARD_CLIENT_[A-Z0-9_]+$"))]
    pub id_from_env: Option<String>,

    /// The Secret keys that hold the client's secrets, in the order in which they are tried: the
    /// next one is used when the provider answers `invalid_client`. Two, while a secret is replaced.
    /// With `clientAuth: PrivateKeyJwt`, and for the grant GitHubAppInstallation, they hold private keys (PEM or JWK).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4))]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub secret_key_refs: Vec<SecretKeyReference>,

    /// The environment variables of the operator that hold the client's secrets, like `secretKeyRefs`; only
    /// for a ClusterOAuthProvider.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 4),
        inner(length(max = 128), pattern(r"^TOKENWARD_CLIENT_[A-Z0-9_]+$"))
    )]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub secrets_from_env: Vec<String>,
}

/// A provider of OAuth tokens, for the credentials of its namespace.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Deserialize, Serialize)]
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
    status = "ProviderStatus",
    category = "tokenward",
    doc = "A provider of OAuth tokens: its token endpoint, its client and how it behaves. For the credentials of its namespace.",
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status",
        description = "True where everything that can be checked without a credential is right"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason"
    ),
    printcolumn(name = "Preset", type_ = "string", json_path = ".spec.preset"),
    printcolumn(name = "Token URL", type_ = "string", json_path = ".spec.tokenUrl"),
    printcolumn(name = "Client", type_ = "string", json_path = ".spec.client.id"),
    printcolumn(
        name = "Issuer",
        type_ = "string",
        json_path = ".spec.issuer",
        priority = 1
    ),
    printcolumn(
        name = "Rotation",
        type_ = "string",
        json_path = ".spec.rotation",
        priority = 1
    ),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].message",
        priority = 1
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[x_kube(
    validation = Rule::new("has(self.preset) || has(self.tokenUrl) || has(self.issuer)")
        .message("spec needs preset, tokenUrl or issuer: where tokens are obtained (tokenward providers list names the presets)"),
    validation = Rule::new("!has(self.client) || (!has(self.client.idFromEnv) && !has(self.client.secretsFromEnv))")
        .message("spec.client.idFromEnv and secretsFromEnv are for a ClusterOAuthProvider: the operator's environment belongs to the platform"),
)]
pub struct OAuthProviderSpec {
    /// The description.
    #[serde(flatten)]
    pub provider: Provider,
}

/// A provider of OAuth tokens, for the credentials of chosen namespaces.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Deserialize, Serialize)]
#[allow(
    clippy::duplicated_attributes,
    reason = "several columns have one type"
)]
#[kube(
    group = "tokenward.dev",
    version = "v1alpha1",
    kind = "ClusterOAuthProvider",
    plural = "clusteroauthproviders",
    status = "ProviderStatus",
    category = "tokenward",
    doc = "A provider of OAuth tokens for the credentials of chosen namespaces. Its client's Secrets lie in the operator's namespace.",
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status",
        description = "True where everything that can be checked without a credential is right"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason"
    ),
    printcolumn(name = "Preset", type_ = "string", json_path = ".spec.preset"),
    printcolumn(name = "Token URL", type_ = "string", json_path = ".spec.tokenUrl"),
    printcolumn(name = "Client", type_ = "string", json_path = ".spec.client.id"),
    printcolumn(
        name = "Issuer",
        type_ = "string",
        json_path = ".spec.issuer",
        priority = 1
    ),
    printcolumn(
        name = "Rotation",
        type_ = "string",
        json_path = ".spec.rotation",
        priority = 1
    ),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].message",
        priority = 1
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.preset) || has(self.tokenUrl) || has(self.issuer)")
        .message("spec needs preset, tokenUrl or issuer: where tokens are obtained (tokenward providers list names the presets)"),
)]
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
    // Atomic: of a set, server-side apply would keep the default beside what its owner names.
    #[serde(default = "default_grant_types")]
    #[schemars(length(max = 8))]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub allowed_grant_types: Vec<GrantType>,

    /// The scopes that credentials with grant `ClientCredentials` may ask for; each of theirs must
    /// be among these, and they must ask for at least one. With the other grants that act for no user, each scope
    /// must be among these where there are any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(min = 1, max = 253)))]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub allowed_scopes: Vec<String>,

    /// The resources (RFC 8707) that credentials with a grant other than `RefreshToken` may ask for. Without any they
    /// may name none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 2048)))]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub allowed_resources: Vec<String>,
}

fn default_grant_types() -> Vec<GrantType> {
    vec![GrantType::RefreshToken]
}
