//! `spec.target`: the Secret that pods mount.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The Secret that receives the token.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
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
    /// The Secret's type. Immutable, as it is in Secrets. `kubernetes.io/basic-auth` needs the keys `username` and
    /// `password`, and `kubernetes.io/dockerconfigjson` the key `.dockerconfigjson`: where the credential's kind does not
    /// bring them, `template.data` must.
    #[serde(default, rename = "type")]
    pub type_: TargetType,

    /// Whether `template.data` replaces the default keys or is added to them; a key of the template wins.
    #[serde(default)]
    pub template_mode: TemplateMode,

    /// What is written into the Secret beside, or in place of, the default keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<Template>,

    /// What becomes of the Secret when the credential is deleted.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
}

/// The type of a target. Others are not written: a Secret of type `kubernetes.io/service-account-token` would have a token
/// minted into it.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub enum TargetType {
    /// Any keys.
    #[default]
    Opaque,
    /// The keys `username` and `password`.
    #[serde(rename = "kubernetes.io/basic-auth")]
    BasicAuth,
    /// The key `.dockerconfigjson`, for `imagePullSecrets`.
    #[serde(rename = "kubernetes.io/dockerconfigjson")]
    DockerConfigJson,
}

impl TargetType {
    /// The name in the API, as in a Secret's `type`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Opaque => "Opaque",
            Self::BasicAuth => "kubernetes.io/basic-auth",
            Self::DockerConfigJson => "kubernetes.io/dockerconfigjson",
        }
    }
}

/// Whether a template adds to the default keys.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub enum TemplateMode {
    /// The template's keys are all there is, with `token_generation` and `expires_at`.
    #[default]
    Replace,
    /// The default keys stay.
    Merge,
}

/// What is written into a target.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[x_kube(
    validation = Rule::new("!has(self.data) || self.data.all(key, key.matches('^[-._a-zA-Z0-9]{1,253}$') && key != '.' && !key.startsWith('..'))")
        .message("the keys of spec.target.template.data must be keys of a Secret: at most 253 letters, digits, '-', '_' and '.'"),
    validation = Rule::new("!has(self.data) || !('token_generation' in self.data) && !('expires_at' in self.data)")
        .message("token_generation and expires_at are always written by tokenward: use other keys in spec.target.template.data"),
)]
pub struct Template {
    /// Templates (docs/templates.md) by the keys of the Secret. In them, the default keys are variables:
    /// `{{ access_token }}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(with = "BTreeMap<String, TemplateText>", extend("maxProperties" = 64))]
    pub data: BTreeMap<String, String>,

    /// Labels and annotations of the Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<TemplateMetadata>,
}

/// A template; minijinja.
#[derive(JsonSchema)]
#[schemars(transparent)]
#[expect(dead_code, reason = "only its schema is used")]
struct TemplateText(#[schemars(length(max = 65_536))] String);

/// Labels and annotations of a target. Keys of `kubernetes.io`, `k8s.io` and `tokenward.dev` are left out.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct TemplateMetadata {
    /// Labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(with = "BTreeMap<String, LabelValue>", extend("maxProperties" = 64))]
    pub labels: BTreeMap<String, String>,

    /// Annotations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(with = "BTreeMap<String, AnnotationValue>", extend("maxProperties" = 64))]
    pub annotations: BTreeMap<String, String>,
}

/// The value of a label.
#[derive(JsonSchema)]
#[schemars(transparent)]
#[expect(dead_code, reason = "only its schema is used")]
struct LabelValue(
    #[schemars(
        length(max = 63),
        pattern(r"^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$")
    )]
    String,
);

/// The value of an annotation.
#[derive(JsonSchema)]
#[schemars(transparent)]
#[expect(dead_code, reason = "only its schema is used")]
struct AnnotationValue(#[schemars(length(max = 4096))] String);

/// What becomes of a target when its credential is deleted.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub enum DeletionPolicy {
    /// It is deleted too.
    #[default]
    Delete,
    /// It stays as it is; its token is refreshed no more.
    Retain,
}
