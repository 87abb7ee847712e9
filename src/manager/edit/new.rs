//! What people hand over: credentials to create, and what they are made from.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use secrecy::{ExposeSecret, SecretString};

use crate::{
    api::{
        ApiKey, GrantType, HostScoped, IntegrationCredential, IntegrationCredentialSpec, Kind,
        LocalSecretReference, OAuth2, ProviderReference, SecretKeyReference, UserPassword,
    },
    manager::Error,
    secret::{
        seed::REFRESH_TOKEN,
        source::{API_KEY, PASSWORD, USERNAME},
    },
};

/// What a credential is made from.
#[derive(Clone)]
pub enum Seed {
    /// An authorization to keep alive: the first refresh token that a provider gave for it.
    RefreshToken(SecretString),
    /// An API key.
    ApiKey(SecretString),
    /// A user name and a password.
    UserPassword {
        /// The user name.
        username: String,
        /// The password.
        password: SecretString,
    },
    /// Headers by their names.
    Headers(BTreeMap<String, SecretString>),
}

/// A credential to create.
#[derive(Clone)]
pub struct NewCredential {
    /// Its name: a DNS label of at most 52 characters.
    pub name: String,
    /// Whose it is, in the application's terms.
    pub user: Option<String>,
    /// A name for people.
    pub title: Option<String>,
    /// What it is.
    pub kind: NewKind,
}

/// What a credential to create is.
#[derive(Clone)]
pub enum NewKind {
    /// An OAuth 2.0 token.
    OAuth2 {
        /// Its provider object.
        provider: ProviderReference,
        /// The scopes to ask for.
        scopes: Vec<String>,
        /// The first refresh token of an authorization; `None`: the client's own (grant `ClientCredentials`).
        refresh_token: Option<SecretString>,
    },
    /// An API key.
    ApiKey {
        /// The key.
        key: SecretString,
        /// When it expires, where that is known.
        expires_at: Option<Timestamp>,
    },
    /// A user name and a password.
    UserPassword {
        /// The user name.
        username: String,
        /// The password.
        password: SecretString,
        /// When it expires, where that is known.
        expires_at: Option<Timestamp>,
    },
    /// Headers for the requests to one host.
    HostScoped {
        /// The host, as in `spec.hostScoped.host`.
        host: String,
        /// The headers by their names.
        headers: BTreeMap<String, SecretString>,
        /// When they expire, where that is known.
        expires_at: Option<Timestamp>,
    },
}

impl NewKind {
    /// What it is made from.
    pub(super) fn seed(&self) -> Option<Seed> {
        match self {
            Self::OAuth2 { refresh_token, .. } => refresh_token.clone().map(Seed::RefreshToken),
            Self::ApiKey { key, .. } => Some(Seed::ApiKey(key.clone())),
            Self::UserPassword {
                username, password, ..
            } => Some(Seed::UserPassword {
                username: username.clone(),
                password: password.clone(),
            }),
            Self::HostScoped { headers, .. } => Some(Seed::Headers(headers.clone())),
        }
    }
}

impl NewCredential {
    pub(super) fn object(&self) -> IntegrationCredential {
        let mut spec = IntegrationCredentialSpec {
            user: self.user.clone(),
            title: self.title.clone(),
            ..IntegrationCredentialSpec::default()
        };
        let named = |what: &str| LocalSecretReference {
            name: format!("{}-{what}", self.name),
        };
        // As the API keeps times: in whole seconds.
        let time = |at: &Option<Timestamp>| {
            let at = at.and_then(|at| Timestamp::from_second(at.as_second()).ok());
            at.map(Time)
        };
        match &self.kind {
            NewKind::OAuth2 {
                provider,
                scopes,
                refresh_token,
            } => {
                let grant = match refresh_token {
                    Some(_) => GrantType::RefreshToken,
                    None => GrantType::ClientCredentials,
                };
                spec.oauth2 = Some(OAuth2 {
                    scopes: scopes.clone(),
                    seed_secret_ref: refresh_token.as_ref().map(|_| named("seed")),
                    ..OAuth2::new(provider.clone(), grant)
                });
            }
            NewKind::ApiKey { expires_at, .. } => {
                spec.api_key = Some(Box::new(ApiKey {
                    secret_key_ref: SecretKeyReference {
                        name: named("source").name,
                        key: API_KEY.to_owned(),
                    },
                    expiration_time: time(expires_at),
                }));
            }
            NewKind::UserPassword { expires_at, .. } => {
                spec.user_password = Some(Box::new(UserPassword {
                    secret_ref: named("source"),
                    username_key: USERNAME.to_owned(),
                    password_key: PASSWORD.to_owned(),
                    expiration_time: time(expires_at),
                }));
            }
            NewKind::HostScoped {
                host, expires_at, ..
            } => {
                spec.host_scoped = Some(Box::new(HostScoped {
                    host: host.clone(),
                    headers_secret_ref: named("source"),
                    expiration_time: time(expires_at),
                }));
            }
        }
        IntegrationCredential::new(&self.name, spec)
    }
}

impl Seed {
    /// The data of the Secret that `credential` is made from.
    ///
    /// # Errors
    /// Where it is of another kind.
    pub(super) fn data(
        &self,
        credential: &IntegrationCredential,
    ) -> Result<BTreeMap<String, String>, Error> {
        let shown = |value: &SecretString| value.expose_secret().to_owned();
        let kind = credential.spec.kind();
        let data = match (self, kind) {
            (Self::RefreshToken(token), Some(Kind::OAuth2(_)) | None) => {
                vec![(REFRESH_TOKEN.to_owned(), shown(token))]
            }
            (Self::ApiKey(key), Some(Kind::ApiKey(kind))) => {
                vec![(kind.secret_key_ref.key.clone(), shown(key))]
            }
            (Self::UserPassword { username, password }, Some(Kind::UserPassword(kind))) => vec![
                (kind.username_key.clone(), username.clone()),
                (kind.password_key.clone(), shown(password)),
            ],
            (Self::Headers(headers), Some(Kind::HostScoped(_))) => headers
                .iter()
                .map(|(name, value)| (name.clone(), shown(value)))
                .collect(),
            (_, kind) => {
                return Err(Error::Refused(format!(
                    "{} is of kind {}, and something else was handed over",
                    credential.name_any(),
                    kind.map_or("oauth2", Kind::field)
                )));
            }
        };
        Ok(data.into_iter().collect())
    }
}
