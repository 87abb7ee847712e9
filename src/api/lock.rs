//! `spec.lock`: how programs hold a credential.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Duration;

/// How programs hold a credential while they use it.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Lock {
    /// `Shared`: any number of programs hold the credential at a time. `Exclusive`: one does, and the
    /// others wait.
    #[serde(default)]
    pub mode: LockMode,

    /// How long a hold lasts when its holder stops renewing it, as a Go duration. Defaults to `60s`, and is
    /// at most a tenth of the token's lifetime, but not less than 5s: what is used stands on the gate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(
        validation = Rule::new("duration(self) >= duration('1s') && duration(self) <= duration('10m')")
            .message("spec.lock.holdDuration must be a duration from 1s to 10m, such as 60s"),
    )]
    pub hold_duration: Option<Duration>,

    /// How long a holder may go on when a refresh waits for it, as a Go duration. Defaults to `30s`; short
    /// tokens shorten it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(
        validation = Rule::new("duration(self) >= duration('0s') && duration(self) <= duration('10m')")
            .message("spec.lock.drainGrace must be a duration of at most 10m, such as 30s"),
    )]
    pub drain_grace: Option<Duration>,
}

/// Who may hold a credential at a time.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub enum LockMode {
    /// Any number of programs.
    #[default]
    Shared,
    /// One program.
    Exclusive,
}
