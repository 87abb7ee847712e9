//! The status of a credential. It changes only when something happened to the credential.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::AccessTokenOnRefresh;

/// What the operator knows of a credential.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CredentialStatus {
    /// The `metadata.generation` that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// `Ready`: the Secret holds a usable token; its reason is the state (Pending, Valid,
    /// Refreshing, Expired, Invalid). `Stalled`: nothing goes on until somebody acts, and the message
    /// says how. `Reconciling`, `Suspended`, `SeedRejected`, `TokenRejected`, `ScopesMissing` and
    /// `AuthorizationExpiring` are present only while they are true.
    #[serde(default)]
    #[schemars(length(max = 32))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,

    /// The token in the target Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<TokenStatus>,

    /// The authorization from which tokens are refreshed (grant RefreshToken).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<GrantStatus>,

    /// The Secret that the value is copied from (kinds apiKey, userPassword and hostScoped).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<SourceStatus>,

    /// When the token is refreshed next, and what went wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refresh: Option<RefreshStatus>,

    /// The Secret that receives the token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<TargetStatus>,

    /// How far the revocation of a deleted credential has come (`revocationPolicy: OnDelete`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revocation: Option<RevocationStatus>,
}

impl CredentialStatus {
    /// Gives back the memory that reading it has reserved for more: a quarter of a kilobyte of one that is kept.
    pub fn shrink_to_fit(&mut self) {
        self.conditions.shrink_to_fit();
        if let Some(token) = &mut self.token {
            token.scopes.shrink_to_fit();
        }
    }
}

/// The token in the target Secret.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TokenStatus {
    /// Counts the tokens of this credential; `token_generation` in the Secret is the same number.
    pub generation: i64,
    /// When the token expires; absent when the provider does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expiration_time: Option<Time>,
    /// The scopes that the provider granted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<String>,
    /// When the token was obtained, or the value copied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_refresh_time: Option<Time>,
}

/// The authorization from which tokens are refreshed.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GrantStatus {
    /// A keyed hash of the seed's refresh token that was presented last. It tells a lost grant from
    /// a first start, and says nothing about the token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed_fingerprint: Option<String>,
    /// When the refresh token expires; absent where the provider does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expiration_time: Option<Time>,
    /// When the user authorized: when this authorization was accepted by the provider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authorization_time: Option<Time>,
    /// When the authorization ends whatever is refreshed; absent where nothing is known of that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub final_expiration_time: Option<Time>,
    /// The `resourceVersion` of the seed Secret when it was read last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed_resource_version: Option<String>,
}

/// The Secret that a value is copied from.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SourceStatus {
    /// Its `resourceVersion` when it was read last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_version: Option<String>,
}

/// When the token is refreshed next, and what went wrong.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RefreshStatus {
    /// When the next refresh is due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_time: Option<Time>,
    /// How many attempts in a row have failed.
    #[serde(default)]
    pub failures: i32,
    /// When the next attempt is made after a failed one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_attempt_time: Option<Time>,
    /// The value of the annotation `tokenward.dev/refresh-requested` that was acted upon last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_handled_request: Option<String>,
    /// How many tokens in a row programs have said not to work, soon after each was obtained.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub rejections: i32,
    /// The last failure; absent after a success.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<LastError>,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature that serde asks for"
)]
fn is_zero(count: &i32) -> bool {
    *count == 0
}

/// A failed attempt, in fixed words: nothing that a provider wrote is repeated here but the error
/// codes that OAuth defines.
#[derive(JsonSchema, Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LastError {
    /// The reason, as in the conditions.
    pub reason: String,
    /// The OAuth error code or the HTTP status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// When it happened.
    pub time: Time,
}

/// The Secret that receives the token.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TargetStatus {
    /// The Secret's name: mount this one.
    pub name: String,
    /// The `resourceVersion` that the operator wrote last: another one means that somebody edited it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_version: Option<String>,
    /// Whether a program may just mount the Secret and read the token before each use; absent where nothing ends by a
    /// refresh, as with what is copied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plain_mount: Option<PlainMount>,
}

/// What a program risks that mounts the target and reads it before each use.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum PlainMount {
    /// Nothing: the provider lets the old token live until its expiry.
    Safe,
    /// A refused request at a refresh: the provider ends the old token, or its object does not say
    /// (`accessTokenOnRefresh`), and the file is replaced a little later. Hold the credential while it is used.
    Unsafe,
}

impl From<AccessTokenOnRefresh> for PlainMount {
    fn from(old_token: AccessTokenOnRefresh) -> Self {
        match old_token {
            AccessTokenOnRefresh::Survives => Self::Safe,
            AccessTokenOnRefresh::Invalidated | AccessTokenOnRefresh::Unknown => Self::Unsafe,
        }
    }
}

/// How far the revocation of a deleted credential has come. It is written before each attempt, so that an operator that
/// starts anew does not begin from the start.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RevocationStatus {
    /// How many attempts were made, the one under way among them.
    #[serde(default)]
    pub attempts: i32,
    /// When the first one was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
    /// What it came to; absent while it is tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<RevocationOutcome>,
}

/// What the revocation of a deleted credential came to.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum RevocationOutcome {
    /// The provider says that the token is not valid any more.
    Revoked,
    /// It was not revoked, as far as anybody knows.
    RevocationFailed,
    /// The provider offers no revocation.
    RevocationNotSupported,
    /// It was not asked for: another credential has the same refresh token.
    RevocationSkipped,
}
