//! The source of a credential that is copied: the Secret in which its user keeps an API key, a user name and a
//! password, or headers. Read, checked, and never written.

mod headers;
mod host;

use std::collections::BTreeMap;

use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::ResourceExt;
use secrecy::{ExposeSecret, SecretString};

use super::{ValueError, bytes, grant, token};
use crate::{
    api::{IntegrationCredential, Kind, ROLE_LABEL},
    explain::source as told,
    failure::{Failure, Reason},
};

/// The target's key of an API key.
pub const API_KEY: &str = "api_key";
/// The target's key of a user name.
pub const USERNAME: &str = "username";
/// The target's key of a password.
pub const PASSWORD: &str = "password";
/// The target's key of the host that headers are for.
pub const HOST: &str = "host";

/// What a Secret holds at most, in bytes of its values (the API server's limit), less what the target has besides.
const LARGEST: usize = 1024 * 1024 - 1024;

/// What is copied.
#[derive(Clone)]
pub struct Source {
    /// The values, by the keys of the target.
    values: BTreeMap<String, SecretString>,
}

/// What is wrong with a value of a source: the key, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wrong {
    /// The data key; empty where it is the Secret as a whole.
    pub(crate) key: String,
    /// What is wrong, to be read after "Secret NAME".
    pub(crate) why: String,
    /// Whether something is missing that is only to be written.
    pub(crate) is_missing: bool,
}

impl Wrong {
    fn at(key: &str, why: impl Into<String>) -> Self {
        Self {
            key: key.to_owned(),
            why: why.into(),
            is_missing: false,
        }
    }

    fn value(key: &str, error: ValueError) -> Self {
        Self {
            is_missing: error == ValueError::Missing,
            ..Self::at(key, format!("{error} {key}"))
        }
    }
}

impl Source {
    /// Reads what `credential` is copied from; `found` is the Secret that it names.
    ///
    /// # Errors
    /// `SourceNotFound`, `SourceInvalid` or `HostInvalid`, with the command that mends it.
    pub fn read(
        credential: &IntegrationCredential,
        kind: Kind<'_>,
        found: Option<&Secret>,
    ) -> Result<Self, Failure> {
        if let Kind::HostScoped(scoped) = kind
            && let Err(why) = host::check(&scoped.host)
        {
            return Err(told::host(credential, &scoped.host, why));
        }
        let name = kind.source().unwrap_or_default();
        if name == credential.target_name() {
            return Err(told::is_target(credential, kind));
        }
        let Some(found) = found else {
            return Err(told::missing(credential, kind));
        };
        if is_grant(found, name) {
            return Err(told::is_grant(credential, kind));
        }
        let values = values(kind, found).map_err(|wrong| told::wrong(credential, kind, &wrong))?;
        let size: usize = values.values().map(|v| v.expose_secret().len()).sum();
        if size > LARGEST {
            let why = format!("holds {size} bytes, and a copy has room for {LARGEST}");
            return Err(told::wrong(credential, kind, &Wrong::at("", why)));
        }
        Ok(Self { values })
    }

    /// The target's keys for this.
    #[must_use]
    pub fn keys(&self) -> BTreeMap<String, ByteString> {
        let copy =
            |(key, value): (&String, &SecretString)| (key.clone(), bytes(value.expose_secret()));
        self.values.iter().map(copy).collect()
    }
}

/// Whether a Secret holds the refresh token of a credential, which is for nobody else.
fn is_grant(secret: &Secret, name: &str) -> bool {
    let role = secret.labels().get(ROLE_LABEL).map(String::as_str);
    name.strip_suffix(".grant").is_some()
        || secret.type_.as_deref() == Some(grant::TYPE)
        || role == Some("grant")
}

fn values(kind: Kind<'_>, secret: &Secret) -> Result<BTreeMap<String, SecretString>, Wrong> {
    let value = |key: &str| token(secret, key).map_err(|error| Wrong::value(key, error));
    let pairs = match kind {
        Kind::OAuth2(_) => Vec::new(),
        Kind::ApiKey(kind) => vec![(API_KEY, value(&kind.secret_key_ref.key)?)],
        Kind::UserPassword(kind) => vec![
            (USERNAME, value(&kind.username_key)?),
            (PASSWORD, value(&kind.password_key)?),
        ],
        Kind::HostScoped(kind) => {
            let mut headers = headers::read(secret)?;
            headers.insert(HOST.to_owned(), kind.host.as_str().into());
            return Ok(headers);
        }
    };
    let owned = pairs.into_iter().map(|(key, v)| (key.to_owned(), v));
    Ok(owned.collect())
}

/// The reason that something wrong with a source has.
pub(crate) fn reason(wrong: &Wrong) -> Reason {
    if wrong.is_missing {
        Reason::SourceNotFound
    } else {
        Reason::SourceInvalid
    }
}

#[cfg(test)]
mod tests;
