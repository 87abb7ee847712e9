//! The API: what people write and read with kubectl. Types, validation rules and derived names; no I/O.

mod copied;
mod credential;
mod description;
#[cfg(test)]
mod documented;
mod duration;
mod lock;
mod oauth2;
mod provider;
mod provider_status;
mod reference;
mod schedule;
mod status;
mod target;

pub use copied::{ApiKey, HostScoped, UserPassword};
pub use credential::{IntegrationCredential, IntegrationCredentialSpec, Kind, RevocationPolicy};
pub use description::{
    AccessTokenOnRefresh, Assertion, BodyFormat, ClientAuthentication, Description, ErrorMeaning,
    GrantConvention, LifetimeUnit, Parameter, PerGrant, RateLimit, RateLimitScope, RefreshLimits,
    RefreshTokenLifetime, ResponsePointers, ReuseDetection, Revocation, RevokedToken, Rotation,
    ScopeConvention, SigningAlgorithm, Success,
};
pub use duration::Duration;
pub use lock::{Lock, LockMode};
pub use oauth2::{GrantType, OAuth2, ProviderKind, ProviderReference};
pub use provider::{
    ClusterOAuthProvider, ClusterOAuthProviderSpec, OAuthClient, OAuthProvider, OAuthProviderSpec,
    Provider,
};
pub use provider_status::{ProviderEndpoints, ProviderStatus};
pub use reference::{LocalSecretReference, SecretKeyReference};
pub use schedule::{Refresh, UnknownExpiry};
pub use status::{
    CredentialStatus, GrantStatus, LastError, PlainMount, RefreshStatus, RevocationOutcome,
    RevocationStatus, SourceStatus, TargetStatus, TokenStatus,
};
pub use target::{DeletionPolicy, Target, TargetType, Template, TemplateMetadata, TemplateMode};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use serde_json::Value;

/// The API group of everything tokenward defines, and the prefix of its labels and annotations.
pub const GROUP: &str = "tokenward.dev";

/// On every object made for a credential: the credential's name.
pub const CREDENTIAL_LABEL: &str = "tokenward.dev/credential";

/// On every object made for a credential: what it is to it (`gate`, `grant`, `target`).
pub const ROLE_LABEL: &str = "tokenward.dev/role";

/// A Secret with this label set to `true` is watched, so that a change of it acts at once. Other
/// referenced Secrets are read again when a credential is refreshed or retried.
pub const WATCH_LABEL: &str = "tokenward.dev/watch";

/// On a credential: the host to which its refresh token may be presented from now on, although it was authorized at
/// another one, or for another client.
pub const CONFIRM_ORIGIN: &str = "tokenward.dev/confirm-origin";

/// The finalizer of a credential that is revoked when it is deleted, and of what is needed for that: its grant and
/// its gate.
pub const REVOKE: &str = "tokenward.dev/revoke";

/// On what carries the finalizer [`REVOKE`] for a credential: the credential's UID. An owner reference says the same,
/// but a deletion that orphans takes it away before the credential is gone.
pub const CREDENTIAL_UID: &str = "tokenward.dev/credential-uid";

/// A client Secret of a [`ClusterOAuthProvider`] must carry this label set to `true`: a cluster
/// provider names Secrets of the operator's own namespace, and not every Secret there is a client's.
pub const CLIENT_LABEL: &str = "tokenward.dev/client";

/// On a Secret, set to `true`: its owner lets tokenward read it for those who name it. An operator that runs with
/// `--require-allow-label` reads no other.
pub const ALLOW_LABEL: &str = "tokenward.dev/allow";

/// The definitions of all kinds, in the order in which `tokenward crd` prints them.
#[must_use]
pub fn definitions() -> Vec<CustomResourceDefinition> {
    let definitions = [
        IntegrationCredential::crd(),
        OAuthProvider::crd(),
        ClusterOAuthProvider::crd(),
    ];
    definitions.map(unfolded).into()
}

/// With the descriptions as running text: they come from comments, which are folded, and `kubectl explain`
/// folds for its reader's terminal.
fn unfolded(definition: CustomResourceDefinition) -> CustomResourceDefinition {
    fn unfold(value: &mut Value) {
        match value {
            Value::Object(fields) => {
                for (key, value) in fields {
                    match value {
                        Value::String(text) if key == "description" => {
                            *text = text.replace('\n', " ");
                        }
                        value => unfold(value),
                    }
                }
            }
            Value::Array(items) => items.iter_mut().for_each(unfold),
            _ => {}
        }
    }
    let read = serde_json::to_value(&definition).and_then(|mut value| {
        unfold(&mut value);
        serde_json::from_value(value)
    });
    read.unwrap_or(definition)
}
