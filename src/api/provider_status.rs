//! The status of a provider object: whether it can be used, as far as that is known without a credential.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the operator knows of a provider object. No credential waits for it.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ProviderStatus {
    /// The `metadata.generation` that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// `Ready`: the object is complete, and what can be checked without a credential is right. `Stalled`: it is
    /// not, and somebody must act; the message says how. `Reconciling` is present only while a check is
    /// tried again.
    #[serde(default)]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,

    /// Where requests go, with the preset, the variables and what the issuer publishes. A `{name}` that is left is a
    /// variable that each credential gives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoints: Option<ProviderEndpoints>,

    /// The client's identifier, where the object itself or the operator's environment states it. One that stands in a
    /// Secret is not shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,

    /// The `resourceVersion` of each Secret that was read, by its name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub observed_secrets: BTreeMap<String, String>,
}

/// The endpoints of a provider.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ProviderEndpoints {
    /// The token endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// Where refresh tokens are presented, if elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refresh: Option<String>,
    /// The revocation endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoke: Option<String>,
    /// The introspection endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub introspect: Option<String>,
    /// The authorization endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authorize: Option<String>,
    /// The device authorization endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// The userinfo endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub userinfo: Option<String>,
}
