//! The API: what people write and read with kubectl. Types, validation rules and derived names; no I/O.

mod credential;
mod duration;
mod provider;
mod status;

pub use credential::{
    GrantType, IntegrationCredential, IntegrationCredentialSpec, LocalSecretReference, OAuth2,
    ProviderKind, ProviderReference, Refresh, Target,
};
pub use duration::Duration;
pub use provider::{
    AccessTokenOnRefresh, ClientAuthentication, ClusterOAuthProvider, ClusterOAuthProviderSpec,
    OAuthClient, OAuthProvider, OAuthProviderSpec, Provider, ReuseDetection, Rotation,
    SecretKeyReference,
};
pub use status::{
    CredentialStatus, GrantStatus, LastError, RefreshStatus, TargetStatus, TokenStatus,
};

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

/// A client Secret of a [`ClusterOAuthProvider`] must carry this label set to `true`: a cluster
/// provider names Secrets of the operator's own namespace, and not every Secret there is a client's.
pub const CLIENT_LABEL: &str = "tokenward.dev/client";

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
