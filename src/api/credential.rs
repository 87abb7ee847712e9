//! `IntegrationCredential`: one credential of one user of an integration, kept alive in a Secret.

use std::sync::LazyLock;

use kube::{CustomResource, KubeSchema, ResourceExt};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    ApiKey, CredentialStatus, HostScoped, Lock, OAuth2, ProviderKind, Refresh, Target,
    UnknownExpiry, UserPassword,
};

/// Keeps one credential for an integration alive in a Secret that pods mount: a token is refreshed before it expires; a
/// key, a password or headers are checked and copied.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
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
    doc = "A credential for an integration (an OAuth token, an API key, a password, headers of a host), kept alive in a Secret that pods mount.",
    validation = Rule::new("self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$') && self.metadata.name.size() <= 52")
        .message("metadata.name must be a DNS label of at most 52 characters (lower case letters, digits and '-'): the names of the Lease and the Secrets of a credential are derived from it"),
    validation = Rule::new("(has(self.spec.target) && has(self.spec.target.name) ? self.spec.target.name : self.metadata.name) == (has(oldSelf.spec.target) && has(oldSelf.spec.target.name) ? oldSelf.spec.target.name : oldSelf.metadata.name)")
        .message("spec.target.name cannot change, because pods mount the Secret by its name: create another credential for another name"),
    validation = Rule::new("(has(self.spec.apiKey) ? self.spec.apiKey.secretKeyRef.name : has(self.spec.userPassword) ? self.spec.userPassword.secretRef.name : has(self.spec.hostScoped) ? self.spec.hostScoped.headersSecretRef.name : '') != (has(self.spec.target) && has(self.spec.target.name) ? self.spec.target.name : self.metadata.name)")
        .message("the Secret that is copied cannot be the one that receives the copy, which has the credential's name unless spec.target.name gives another: rename one of them"),
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
    validation = Rule::new("[has(self.oauth2), has(self.apiKey), has(self.userPassword), has(self.hostScoped)].filter(there, there).size() == 1")
        .message("spec needs exactly one of oauth2, apiKey, userPassword and hostScoped"),
    validation = Rule::new("has(self.oauth2) == has(oldSelf.oauth2) && has(self.apiKey) == has(oldSelf.apiKey) && has(self.userPassword) == has(oldSelf.userPassword) && has(self.hostScoped) == has(oldSelf.hostScoped)")
        .message("the kind of a credential (oauth2, apiKey, userPassword, hostScoped) cannot change: create another credential"),
    validation = Rule::new("has(self.oauth2) || !has(self.refresh)")
        .message("spec.refresh is for oauth2: the other kinds are copied, and nothing refreshes them"),
    validation = Rule::new("!has(self.oauth2) || self.oauth2.grantType == 'RefreshToken' || !has(self.refresh) || !has(self.refresh.keepAlive)")
        .message("spec.refresh.keepAlive is for grantType RefreshToken: the other grants have no refresh token that could be taken for abandoned"),
    validation = Rule::new("has(self.oauth2) || self.revocationPolicy != 'OnDelete'")
        .message("spec.revocationPolicy OnDelete is for oauth2: the other kinds have nobody to be revoked at"),
    validation = Rule::new("(has(self.target) && has(self.target.type) ? self.target.type : 'Opaque') == (has(oldSelf.target) && has(oldSelf.target.type) ? oldSelf.target.type : 'Opaque')")
        .message("spec.target.type cannot change, because the type of a Secret cannot: create another credential"),
    validation = Rule::new("!has(self.target) || !has(self.target.type) || self.target.type != 'kubernetes.io/basic-auth' || (has(self.target.template) && has(self.target.template.data) ? 'username' in self.target.template.data && 'password' in self.target.template.data || has(self.userPassword) && self.target.templateMode == 'Merge' : has(self.userPassword))")
        .message("spec.target.type kubernetes.io/basic-auth needs the keys username and password: with kind userPassword they are there unless a template replaces them; otherwise write both in spec.target.template.data"),
    validation = Rule::new("!has(self.target) || !has(self.target.type) || self.target.type != 'kubernetes.io/dockerconfigjson' || has(self.target.template) && has(self.target.template.data) && '.dockerconfigjson' in self.target.template.data")
        .message("spec.target.type kubernetes.io/dockerconfigjson needs the key .dockerconfigjson in spec.target.template.data"),
    validation = Rule::new("!has(self.apiKey) || !self.apiKey.secretKeyRef.name.endsWith('.grant')")
        .message("spec.apiKey.secretKeyRef.name must not end with '.grant': such Secrets hold the refresh tokens of credentials"),
    validation = Rule::new("!has(self.userPassword) || !self.userPassword.secretRef.name.endsWith('.grant')")
        .message("spec.userPassword.secretRef.name must not end with '.grant': such Secrets hold the refresh tokens of credentials"),
    validation = Rule::new("!has(self.hostScoped) || !self.hostScoped.headersSecretRef.name.endsWith('.grant')")
        .message("spec.hostScoped.headersSecretRef.name must not end with '.grant': such Secrets hold the refresh tokens of credentials"),
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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oauth2: Option<OAuth2>,

    /// An API key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_key: Option<Box<ApiKey>>,

    /// A user name and a password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_password: Option<Box<UserPassword>>,

    /// HTTP headers for one host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_scoped: Option<Box<HostScoped>>,

    /// The Secret that receives the token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Box<Target>>,

    /// When the token is refreshed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refresh: Option<Box<Refresh>>,

    /// How programs hold the credential while they use it, so that it is not refreshed under them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lock: Option<Box<Lock>>,

    /// Whether the authorization is revoked at the provider (RFC 7009) when the credential is deleted.
    #[serde(default)]
    pub revocation_policy: RevocationPolicy,

    /// `true` pauses it: nothing is refreshed, copied or written, and the token may expire.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub suspend: bool,
}

/// Whether the authorization is revoked when the credential is deleted.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub enum RevocationPolicy {
    /// It is not: a credential that is made again, by hand or by a GitOps tool, goes on with it.
    #[default]
    Never,
    /// It is, and the credential has a finalizer for it.
    OnDelete,
}

/// What a credential is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind<'a> {
    /// `spec.oauth2`.
    OAuth2(&'a OAuth2),
    /// `spec.apiKey`.
    ApiKey(&'a ApiKey),
    /// `spec.userPassword`.
    UserPassword(&'a UserPassword),
    /// `spec.hostScoped`.
    HostScoped(&'a HostScoped),
}

impl IntegrationCredentialSpec {
    /// What it is; `None`: it says nothing, which only a schema older than this one lets pass.
    #[must_use]
    pub fn kind(&self) -> Option<Kind<'_>> {
        let oauth2 = self.oauth2.as_ref().map(Kind::OAuth2);
        let api_key = self.api_key.as_deref().map(Kind::ApiKey);
        let user_password = self.user_password.as_deref().map(Kind::UserPassword);
        let host_scoped = self.host_scoped.as_deref().map(Kind::HostScoped);
        oauth2.or(api_key).or(user_password).or(host_scoped)
    }
}

impl IntegrationCredential {
    /// `NAMESPACE/NAME`, as logs and traces name it.
    #[must_use]
    pub fn full_name(&self) -> String {
        format!(
            "{}/{}",
            self.namespace().unwrap_or_default(),
            self.name_any()
        )
    }

    /// The provider object as logs, traces and metrics name it: `NAMESPACE/NAME`, or `NAME` for the whole cluster. `None`
    /// for kinds that are copied.
    #[must_use]
    pub fn provider_name(&self) -> Option<String> {
        let reference = &self.spec.oauth2.as_ref()?.provider_ref;
        Some(match reference.kind {
            ProviderKind::OAuthProvider => {
                format!(
                    "{}/{}",
                    self.namespace().unwrap_or_default(),
                    reference.name
                )
            }
            ProviderKind::ClusterOAuthProvider => reference.name.clone(),
        })
    }

    /// How its OAuth token is obtained. The other kinds have none: for them this names no provider, and a grant that
    /// stores nothing.
    #[must_use]
    pub fn oauth2(&self) -> &OAuth2 {
        static NOTHING: LazyLock<OAuth2> = LazyLock::new(OAuth2::nothing);
        self.spec.oauth2.as_ref().unwrap_or(&NOTHING)
    }

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

    /// How long a token lives of which nobody says when it expires, where it is to be taken for that.
    #[must_use]
    pub fn assumed_lifetime(&self) -> Option<std::time::Duration> {
        const DEFAULT: std::time::Duration = std::time::Duration::from_secs(3600);
        let refresh = self.spec.refresh.as_ref()?;
        (refresh.unknown_expiry == UnknownExpiry::Assume)
            .then(|| refresh.assumed_lifetime.map_or(DEFAULT, Into::into))
    }

    /// How long before expiry a refresh is wanted: [`Refresh::before`], else what the provider's description says, else
    /// 5 minutes.
    #[must_use]
    pub fn refresh_before(&self, of_provider: Option<std::time::Duration>) -> std::time::Duration {
        const DEFAULT: std::time::Duration = std::time::Duration::from_secs(300);
        let own = self.spec.refresh.as_ref().and_then(|r| r.before);
        own.map(Into::into).or(of_provider).unwrap_or(DEFAULT)
    }
}
