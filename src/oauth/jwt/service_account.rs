//! The key file of a Google service account.

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer};

use super::{KeyError, SigningKey};

/// What a service account's key file says.
#[derive(Debug)]
pub struct ServiceAccountKey {
    /// `client_email`: the issuer of the assertions.
    pub issuer: String,
    /// `private_key`, with `private_key_id` as its `kid`.
    pub key: SigningKey,
    /// `token_uri`: the audience, and where the file says that assertions go. Whoever wrote the file wrote
    /// this too: compare it with the provider's token URL before anything is sent there.
    pub token_uri: String,
}

#[derive(Deserialize)]
struct File {
    #[serde(rename = "type")]
    kind: Option<String>,
    client_email: Option<String>,
    #[serde(default, deserialize_with = "secret")]
    private_key: Option<SecretString>,
    private_key_id: Option<String>,
    token_uri: Option<String>,
}

fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SecretString>, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.map(SecretString::from))
}

impl ServiceAccountKey {
    /// Reads a key file: JSON whose `type` is `service_account`.
    ///
    /// # Errors
    /// Says what is wrong, without anything of the text.
    pub fn read(text: &SecretString) -> Result<Self, KeyError> {
        let text = text.expose_secret();
        let text = text.strip_prefix('\u{feff}').unwrap_or(text).trim();
        if text.is_empty() {
            return Err(KeyError::Empty);
        }
        if !text.starts_with('{') {
            return Err(KeyError::NotServiceAccount);
        }
        // The parser's own error quotes values.
        let file: File = serde_json::from_str(text).map_err(|_| KeyError::BrokenJson)?;
        if file.kind.as_deref() != Some("service_account") {
            return Err(KeyError::NotServiceAccount);
        }
        let issuer = needed(file.client_email, "client_email")?;
        let token_uri = needed(file.token_uri, "token_uri")?;
        let private_key = file.private_key.ok_or(KeyError::Missing("private_key"))?;
        let mut key = SigningKey::read(&private_key)?;
        key.kid = file.private_key_id.filter(|id| !id.is_empty());
        Ok(Self {
            issuer,
            key,
            token_uri,
        })
    }
}

fn needed(value: Option<String>, name: &'static str) -> Result<String, KeyError> {
    value
        .filter(|value| !value.is_empty())
        .ok_or(KeyError::Missing(name))
}
