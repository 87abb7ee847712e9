//! What stands in the target of a credential, as its kind has it.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use secrecy::SecretString;

use super::AccessToken;
use crate::{
    api::{IntegrationCredential, Kind, TemplateMode},
    secret::{
        EXPIRES_AT, TOKEN_GENERATION,
        source::{API_KEY, HOST, PASSWORD, USERNAME},
        target::is_ours,
        text,
    },
};

/// What a credential gives to programs that use it.
#[derive(Clone)]
pub enum Credentials {
    /// A token, of kind oauth2.
    Token(AccessToken),
    /// What is copied, or written by a template in the place of everything else.
    Values(Values),
}

/// What the target of a credential holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// An access token.
    Token,
    /// An API key.
    ApiKey,
    /// A user name and a password.
    UserPassword,
    /// Headers for a host.
    Headers,
    /// What its template says, and nothing else.
    Template,
}

impl Form {
    /// Whether it is as its user wrote it, so that nobody else can replace it. What a template says of a token is not.
    pub(crate) fn is_copied(self) -> bool {
        matches!(self, Self::ApiKey | Self::UserPassword | Self::Headers)
    }
}

/// Where the values of a credential are, and what they are.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// The Secret's name.
    pub(crate) secret: String,
    /// The credential's UID: another one of its name is another one.
    pub(crate) uid: String,
    /// What it holds.
    pub(crate) form: Form,
    /// The keys that are a template's.
    templated: Vec<String>,
}

/// The key of a token.
const ACCESS_TOKEN: &str = "access_token";

impl Target {
    pub(crate) fn of(credential: &IntegrationCredential) -> Self {
        let target = credential.spec.target.as_ref();
        let template = target.and_then(|t| t.template.as_ref());
        let templated: Vec<_> = template
            .iter()
            .flat_map(|t| t.data.keys().cloned())
            .collect();
        let replaces = target.is_some_and(|t| t.template_mode == TemplateMode::Replace);
        let form = match credential.spec.kind() {
            Some(Kind::OAuth2(_)) if templated.iter().any(|key| key == ACCESS_TOKEN) => Form::Token,
            _ if replaces && !templated.is_empty() => Form::Template,
            None | Some(Kind::OAuth2(_)) => Form::Token,
            Some(Kind::ApiKey(_)) => Form::ApiKey,
            Some(Kind::UserPassword(_)) => Form::UserPassword,
            Some(Kind::HostScoped(_)) => Form::Headers,
        };
        Self {
            secret: credential.target_name(),
            uid: credential.uid().unwrap_or_default(),
            form,
            templated,
        }
    }
}

impl Credentials {
    /// Reads a target; `None` where it holds nothing (yet), or what is of another credential: one that was deleted, or
    /// has the same target and was first.
    pub(crate) fn of(secret: &Secret, target: &Target) -> Option<Self> {
        if target.form == Form::Token {
            return AccessToken::of(secret, &target.uid).map(Self::Token);
        }
        is_ours(secret, &target.uid)
            .then(|| Values::read(secret, target))
            .flatten()
            .map(Self::Values)
    }

    /// Counts what the credential has given.
    #[must_use]
    pub fn generation(&self) -> u64 {
        match self {
            Self::Token(token) => token.generation(),
            Self::Values(values) => values.generation,
        }
    }

    /// When it expires, by the wall clock; `None`: nobody says.
    #[must_use]
    pub fn expires_at(&self) -> Option<Timestamp> {
        match self {
            Self::Token(token) => token.expires_at(),
            Self::Values(values) => values.expires_at,
        }
    }

    /// Whether it is valid for this much longer, by its expiry.
    #[must_use]
    pub fn is_valid_for(&self, duration: Duration, now: Timestamp) -> bool {
        self.expires_at()
            .is_none_or(|at| now.checked_add(duration).is_ok_and(|needed| needed < at))
    }

    /// The token, where it is one.
    #[must_use]
    pub fn token(&self) -> Option<&AccessToken> {
        match self {
            Self::Token(token) => Some(token),
            Self::Values(_) => None,
        }
    }

    /// The values, where it is no token.
    #[must_use]
    pub fn values(&self) -> Option<&Values> {
        match self {
            Self::Token(_) => None,
            Self::Values(values) => Some(values),
        }
    }
}

/// The values of a target by its keys, without those that count and date them.
#[derive(Clone)]
pub struct Values {
    generation: u64,
    expires_at: Option<Timestamp>,
    form: Form,
    templated: Vec<String>,
    by_key: BTreeMap<String, SecretString>,
}

impl Values {
    fn read(secret: &Secret, target: &Target) -> Option<Self> {
        let value = |key: &str| text(secret, key).ok().filter(|value| !value.is_empty());
        let own = [TOKEN_GENERATION, EXPIRES_AT];
        let keys = secret.data.iter().flatten().map(|(key, _)| key);
        let keys = keys.filter(|key| !own.contains(&key.as_str()));
        let by_key: BTreeMap<_, _> = keys
            .filter_map(|key| Some((key.clone(), text(secret, key).ok()?.into())))
            .collect();
        let needed: &[&str] = match target.form {
            Form::Token | Form::Template => &[],
            Form::ApiKey => &[API_KEY],
            Form::UserPassword => &[USERNAME, PASSWORD],
            Form::Headers => &[HOST],
        };
        if !needed.iter().all(|key| by_key.contains_key(*key)) {
            return None;
        }
        Some(Self {
            generation: value(TOKEN_GENERATION)?.parse().ok()?,
            expires_at: match value(EXPIRES_AT) {
                Some(at) => Some(at.parse().ok()?),
                None => None,
            },
            form: target.form,
            templated: target.templated.clone(),
            by_key,
        })
    }

    /// What they are.
    #[must_use]
    pub fn form(&self) -> Form {
        self.form
    }

    /// The value at this key of the Secret.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&SecretString> {
        self.by_key.get(key)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &SecretString)> {
        self.by_key.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// The API key, of kind apiKey.
    #[must_use]
    pub fn api_key(&self) -> Option<&SecretString> {
        self.get(API_KEY).filter(|_| self.form == Form::ApiKey)
    }

    /// The user name and the password, of kind userPassword.
    #[must_use]
    pub fn user_password(&self) -> Option<(&SecretString, &SecretString)> {
        let both = self.get(USERNAME).zip(self.get(PASSWORD));
        both.filter(|_| self.form == Form::UserPassword)
    }

    /// The host that the headers are for, of kind hostScoped.
    #[must_use]
    pub fn host(&self) -> Option<&SecretString> {
        self.get(HOST).filter(|_| self.form == Form::Headers)
    }

    /// The headers by their names, of kind hostScoped; of others there are none.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &SecretString)> {
        let is_header = |key: &str| {
            self.form == Form::Headers && key != HOST && !self.templated.iter().any(|t| t == key)
        };
        self.iter().filter(move |(key, _)| is_header(key))
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;
    use kube::Resource;
    use secrecy::ExposeSecret;
    use serde_json::{Value, json};

    use super::*;

    fn credential(spec: &Value) -> IntegrationCredential {
        let spec = serde_json::from_value(spec.clone()).unwrap();
        let mut credential = IntegrationCredential::new("shop", spec);
        credential.metadata.uid = Some("uid-1".to_owned());
        credential
    }

    fn read(spec: &Value, data: &[(&str, &str)]) -> Option<Credentials> {
        let credential = credential(spec);
        let bytes = |value: &str| ByteString(value.as_bytes().to_vec());
        let data = data.iter().map(|(k, v)| ((*k).to_owned(), bytes(v)));
        let mut secret = Secret {
            data: Some(data.collect()),
            ..Secret::default()
        };
        secret.metadata.owner_references = credential.controller_owner_ref(&()).map(|o| vec![o]);
        Credentials::of(&secret, &Target::of(&credential))
    }

    fn shown(value: Option<&SecretString>) -> &str {
        value.map_or("-", |value| value.expose_secret())
    }

    #[test]
    fn each_kind_gives_what_it_has() {
        let generation = ("token_generation", "3");
        let spec = json!({"apiKey": {"secretKeyRef": {"name": "in", "key": "k"}}});
        let read_key = read(&spec, &[("api_key", "key"), generation]).unwrap();
        assert_eq!(shown(read_key.values().unwrap().api_key()), "key");
        assert_eq!(read_key.generation(), 3);
        assert!(read_key.token().is_none());
        assert!(read(&spec, &[("api_key", "key")]).is_none());
        assert!(read(&spec, &[generation]).is_none());

        let spec = json!({"userPassword": {"secretRef": {"name": "in"}}});
        let data = [("username", "u"), ("password", "p"), generation];
        let both = read(&spec, &data).unwrap();
        let (username, password) = both.values().unwrap().user_password().unwrap();
        assert_eq!((shown(Some(username)), shown(Some(password))), ("u", "p"));

        let spec = json!({"hostScoped": {"host": "h", "headersSecretRef": {"name": "in"}},
            "target": {"templateMode": "Merge", "template": {"data": {"config": "x"}}}});
        let data = [("X-A", "a"), ("host", "h"), ("config", "c"), generation];
        let headers = read(&spec, &data).unwrap();
        let values = headers.values().unwrap();
        let named: Vec<_> = values.headers().map(|(name, _)| name).collect();
        assert_eq!((named, shown(values.host())), (vec!["X-A"], "h"));
        assert_eq!(shown(values.get("config")), "c");
        assert_eq!(shown(values.api_key()), "-");
    }

    #[test]
    fn what_a_template_writes_in_the_place_of_a_token_is_values() {
        let spec = json!({"oauth2": {"providerRef": {"name": "p"}, "grantType": "ClientCredentials"},
            "target": {"template": {"data": {"config": "x"}}}});
        let data = [
            ("config", "c"),
            ("token_generation", "1"),
            ("expires_at", "2030-01-01T00:00:00Z"),
        ];
        let templated = read(&spec, &data).unwrap();
        assert_eq!(templated.values().unwrap().form(), Form::Template);
        assert!(templated.expires_at().is_some());
        assert_eq!(templated.values().unwrap().iter().count(), 1);
    }
}
