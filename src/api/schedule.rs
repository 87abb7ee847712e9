//! `spec.refresh`: when a token is refreshed.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Duration;

/// When the token is refreshed.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.assumedLifetime) || self.unknownExpiry == 'Assume'")
        .message("spec.refresh.assumedLifetime is for unknownExpiry: Assume; with Never, a token without an expiry is not refreshed by itself"),
    validation = Rule::new("!has(self.before) || !has(self.assumedLifetime) || duration(self.before) < duration(self.assumedLifetime)")
        .message("spec.refresh.before must be shorter than assumedLifetime"),
)]
pub struct Refresh {
    /// How long before its expiry a token is refreshed, as a Go duration (`90s`, `5m`, `1h30m`).
    /// Defaults to what the provider's description says, else `5m`; at most half of the token's lifetime is used, so that a token that lives
    /// shorter than this is not refreshed all the time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(
        validation = Rule::new("duration(self) >= duration('1s') && duration(self) <= duration('8760h')")
            .message("spec.refresh.before must be a duration from 1s to 8760h, such as 5m"),
    )]
    pub before: Option<Duration>,
    /// What to do with a token of which the provider does not say when it expires, where the provider object does not say so
    /// either (`spec.defaultLifetime`).
    #[serde(default)]
    pub unknown_expiry: UnknownExpiry,

    /// With `unknownExpiry: Assume`, how long such a token is taken to live, as a Go duration. Defaults to `1h`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(
        validation = Rule::new("duration(self) >= duration('1m') && duration(self) <= duration('8760h')")
            .message("spec.refresh.assumedLifetime must be a duration from 1m to 8760h, such as 1h"),
    )]
    pub assumed_lifetime: Option<Duration>,

    /// The longest time between two refreshes, so that the refresh token is not taken for abandoned, as a Go duration.
    /// Defaults to a third of the provider's idle limit, where one is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(
        validation = Rule::new("duration(self) >= duration('1m') && duration(self) <= duration('8760h')")
            .message("spec.refresh.keepAlive must be a duration from 1m to 8760h, such as 24h"),
    )]
    pub keep_alive: Option<Duration>,
}

/// What to do with a token of which nobody says when it expires.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub enum UnknownExpiry {
    /// It is not refreshed by itself: only when a program or a person asks for it.
    #[default]
    Never,
    /// It is taken to live for `assumedLifetime`.
    Assume,
}
