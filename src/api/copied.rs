//! The kinds that nobody refreshes: what people write into a Secret is checked and copied into the target.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{IntegrationCredential, Kind, LocalSecretReference, SecretKeyReference};

/// An API key, copied from a Secret of its user.
#[derive(JsonSchema, Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ApiKey {
    /// The Secret key, in the credential's namespace, that holds the API key. It is read and never written. Label the
    /// Secret `tokenward.dev/watch=true` to have a change of it act at once; otherwise it is read every 10 minutes.
    pub secret_key_ref: SecretKeyReference,

    /// When the API key expires, where that is known: from then on the credential is reported as Expired.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expiration_time: Option<Time>,
}

/// A user name and a password, copied from a Secret of their user.
#[derive(KubeSchema, Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.usernameKey != self.passwordKey")
        .message("spec.userPassword.usernameKey and passwordKey must be two keys"),
)]
pub struct UserPassword {
    /// The Secret, in the credential's namespace, that holds both. It is read and never written. Label it
    /// `tokenward.dev/watch=true` to have a change of it act at once; otherwise it is read every 10 minutes.
    pub secret_ref: LocalSecretReference,

    /// The key of the user name.
    #[serde(default = "username")]
    #[schemars(length(min = 1, max = 253))]
    pub username_key: String,

    /// The key of the password.
    #[serde(default = "password")]
    #[schemars(length(min = 1, max = 253))]
    pub password_key: String,

    /// When the password expires, where that is known: from then on the credential is reported as Expired.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expiration_time: Option<Time>,
}

/// HTTP headers for the requests to one host, copied from a Secret of their user.
#[derive(JsonSchema, Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HostScoped {
    /// The host that the headers are for, with a port where it is not the scheme's own: `api.example.com`,
    /// `*.example.com` for every name below it, `203.0.113.7:8443`.
    #[schemars(
        length(min = 1, max = 260),
        pattern(r"^(\*\.)?([A-Za-z0-9]([-A-Za-z0-9]{0,61}[A-Za-z0-9])?)(\.[A-Za-z0-9]([-A-Za-z0-9]{0,61}[A-Za-z0-9])?)*(:[0-9]{1,5})?$|^\[[0-9A-Fa-f:.]+\](:[0-9]{1,5})?$")
    )]
    pub host: String,

    /// The Secret, in the credential's namespace, whose keys are the names of headers and whose values are theirs
    /// (RFC 9110 section 5). It is read and never written. Label it `tokenward.dev/watch=true` to have a change of it act at
    /// once; otherwise it is read every 10 minutes.
    pub headers_secret_ref: LocalSecretReference,

    /// When the headers expire, where that is known: from then on the credential is reported as Expired.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expiration_time: Option<Time>,
}

impl<'a> Kind<'a> {
    /// The Secret of its user that it is copied from; `None`: it is obtained, not copied.
    #[must_use]
    pub fn source(self) -> Option<&'a str> {
        match self {
            Self::OAuth2(_) => None,
            Self::ApiKey(kind) => Some(&kind.secret_key_ref.name),
            Self::UserPassword(kind) => Some(&kind.secret_ref.name),
            Self::HostScoped(kind) => Some(&kind.headers_secret_ref.name),
        }
    }

    /// When it expires, where its user has said so. What is obtained says so itself.
    #[must_use]
    pub fn expires_at(self) -> Option<Timestamp> {
        let stated = match self {
            Self::OAuth2(_) => None,
            Self::ApiKey(kind) => kind.expiration_time.as_ref(),
            Self::UserPassword(kind) => kind.expiration_time.as_ref(),
            Self::HostScoped(kind) => kind.expiration_time.as_ref(),
        };
        stated.map(|at| at.0)
    }

    /// Its field in the spec.
    #[must_use]
    pub fn field(self) -> &'static str {
        match self {
            Self::OAuth2(_) => "oauth2",
            Self::ApiKey(_) => "apiKey",
            Self::UserPassword(_) => "userPassword",
            Self::HostScoped(_) => "hostScoped",
        }
    }
}

impl IntegrationCredential {
    /// What it is, where that is copied from a Secret of its user.
    #[must_use]
    pub fn copied(&self) -> Option<Kind<'_>> {
        self.spec.kind().filter(|kind| kind.source().is_some())
    }

    /// The Secret of its user that it is made from: the source of what is copied, the seed of what is obtained.
    #[must_use]
    pub fn made_from(&self) -> Option<&str> {
        let seed = self.oauth2().seed_secret_ref.as_ref();
        let source = self.copied().and_then(Kind::source);
        source.or(seed.map(|seed| seed.name.as_str()))
    }
}

fn username() -> String {
    "username".to_owned()
}

fn password() -> String {
    "password".to_owned()
}
