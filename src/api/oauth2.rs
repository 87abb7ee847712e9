//! `spec.oauth2`: how an OAuth 2.0 token is obtained.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{LocalSecretReference, description::Line};

/// How the OAuth 2.0 token is obtained.
#[derive(KubeSchema, Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.grantType != 'RefreshToken' || has(self.seedSecretRef)")
        .message("grantType RefreshToken needs seedSecretRef: the Secret with the first refresh_token"),
    validation = Rule::new("self.grantType != 'JwtBearer' || has(self.seedSecretRef)")
        .message("grantType JwtBearer needs seedSecretRef: the Secret with the private key that signs the assertion"),
    validation = Rule::new("self.grantType != 'ClientCredentials' || !has(self.seedSecretRef)")
        .message("grantType ClientCredentials takes no seedSecretRef: the token is obtained with the client of the provider object; remove seedSecretRef or use grantType RefreshToken"),
    validation = Rule::new("self.grantType != 'GitHubAppInstallation' || !has(self.seedSecretRef)")
        .message("grantType GitHubAppInstallation takes no seedSecretRef: the app's private key belongs to the client of the provider object"),
    validation = Rule::new("!has(self.subject) || self.grantType == 'JwtBearer'")
        .message("spec.oauth2.subject is for grantType JwtBearer: it is the sub claim of the assertion"),
    validation = Rule::new("!has(self.seedSecretRef) || !self.seedSecretRef.name.endsWith('.grant')")
        .message("spec.oauth2.seedSecretRef.name must not end with '.grant': such Secrets hold the refresh tokens of credentials, and each refresh token belongs to one credential"),
    validation = Rule::new("self.grantType == oldSelf.grantType")
        .message("spec.oauth2.grantType cannot change: create another credential"),
)]
pub struct OAuth2 {
    /// The provider object that describes the token endpoint and the client.
    pub provider_ref: ProviderReference,

    /// The grant by which tokens are obtained: `RefreshToken` (RFC 6749 section 6: a user has
    /// authorized the client, and the seed Secret holds the first refresh token or the authorization code),
    /// `ClientCredentials` (RFC 6749 section 4.4: the client acts for itself), `JwtBearer` (RFC 7523
    /// section 2.1: an assertion signed with the key in the seed Secret) or `GitHubAppInstallation` (a token
    /// of an installation of a GitHub App). Immutable.
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

    /// The resources at which the token is to be used (RFC 8707).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 2048)))]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub resources: Vec<String>,

    /// The values of variables of the provider's templates, where the provider object lists them in
    /// `spec.credentialVariables`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(with = "BTreeMap<String, Line>", extend("maxProperties" = 16))]
    pub variables: BTreeMap<String, String>,

    /// Parameters to add to token requests, where the provider object lists them in
    /// `spec.credentialParameters`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(with = "BTreeMap<String, Line>", extend("maxProperties" = 16))]
    #[x_kube(
        validation = Rule::new("self.all(name, !(name in ['grant_type', 'refresh_token', 'client_id', 'client_secret', 'client_assertion', 'client_assertion_type', 'code', 'code_verifier', 'redirect_uri', 'assertion', 'scope', 'resource', 'access_token', 'username', 'password', 'device_code']))")
            .message("spec.oauth2.extraParameters must not name a parameter of the protocol itself (grant_type, refresh_token, client_id, …)"),
    )]
    pub extra_parameters: BTreeMap<String, String>,

    /// For whom the assertion speaks (its claim `sub`; grant JwtBearer): with a Google service account,
    /// the user that it acts for. Defaults to its issuer where the provider wants one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub subject: Option<String>,

    /// The Secret, in the credential's namespace, that holds the authorization: `refresh_token`, the first
    /// refresh token; or `authorization_code`, with `redirect_uri` and `code_verifier` where they were used;
    /// or, for grant JwtBearer, the key. It is read and never written. A new value in it is adopted when the
    /// provider accepts it. Label it `tokenward.dev/watch=true` to have a change of it act at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed_secret_ref: Option<LocalSecretReference>,
}

impl OAuth2 {
    /// Of no provider.
    pub(super) fn nothing() -> Self {
        Self::new(
            ProviderReference {
                kind: ProviderKind::OAuthProvider,
                name: String::new(),
            },
            GrantType::ClientCredentials,
        )
    }

    /// A token of this provider by this grant, and nothing else said.
    #[must_use]
    pub fn new(provider_ref: ProviderReference, grant_type: GrantType) -> Self {
        Self {
            provider_ref,
            grant_type,
            scopes: Vec::new(),
            resources: Vec::new(),
            variables: BTreeMap::new(),
            extra_parameters: BTreeMap::new(),
            subject: None,
            seed_secret_ref: None,
        }
    }
}

/// The grant by which tokens are obtained.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum GrantType {
    /// RFC 6749 section 6.
    RefreshToken,
    /// RFC 6749 section 4.4.
    ClientCredentials,
    /// RFC 7523 section 2.1.
    JwtBearer,
    /// An installation access token of a GitHub App.
    GitHubAppInstallation,
}

impl GrantType {
    /// Whether nothing comes of an exchange that could be lost: the next one needs only what people keep.
    #[must_use]
    pub fn is_machine(self) -> bool {
        self != Self::RefreshToken
    }

    /// The name in the API, as written in `spec.oauth2.grantType`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RefreshToken => "RefreshToken",
            Self::ClientCredentials => "ClientCredentials",
            Self::JwtBearer => "JwtBearer",
            Self::GitHubAppInstallation => "GitHubAppInstallation",
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
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, Hash)]
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
