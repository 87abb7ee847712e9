//! The token as it stands in the target Secret.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use secrecy::{ExposeSecret, SecretString};

use crate::secret::{TOKEN_GENERATION, target::is_ours, text};

/// An access token that is ready to be used. What it is of is in the Secret's other keys.
#[derive(Clone)]
pub struct AccessToken {
    generation: u64,
    secret: SecretString,
    token_type: String,
    expires_at: Option<Timestamp>,
    scopes: Vec<String>,
}

impl AccessToken {
    /// Reads the target of the credential with this UID; `None` where it holds no token (yet), or that of
    /// another credential: one that was deleted, or has the same target and was first.
    pub(crate) fn of(target: &Secret, credential_uid: &str) -> Option<Self> {
        is_ours(target, credential_uid)
            .then(|| Self::read(target))
            .flatten()
    }

    fn read(target: &Secret) -> Option<Self> {
        let value = |key: &str| text(target, key).ok().filter(|value| !value.is_empty());
        Some(Self {
            generation: value(TOKEN_GENERATION)?.parse().ok()?,
            secret: value("access_token")?.into(),
            token_type: value("token_type").unwrap_or("Bearer").to_owned(),
            expires_at: match value("expires_at") {
                Some(at) => Some(at.parse().ok()?),
                None => None,
            },
            scopes: value("scope")
                .unwrap_or_default()
                .split_whitespace()
                .map(str::to_owned)
                .collect(),
        })
    }

    /// Counts the tokens of the credential.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The token itself.
    #[must_use]
    pub fn secret(&self) -> &SecretString {
        &self.secret
    }

    /// How it is presented; mostly `Bearer`.
    #[must_use]
    pub fn token_type(&self) -> &str {
        &self.token_type
    }

    /// The value of the HTTP header `Authorization` (RFC 6750 section 2.1).
    #[must_use]
    pub fn authorization(&self) -> SecretString {
        // RFC 6749 leaves the type's case to the provider; APIs often do not.
        let scheme = if self.token_type.eq_ignore_ascii_case("bearer") {
            "Bearer"
        } else {
            &self.token_type
        };
        format!("{scheme} {}", self.secret.expose_secret()).into()
    }

    /// When it expires, by the wall clock; `None`: the provider does not say.
    #[must_use]
    pub fn expires_at(&self) -> Option<Timestamp> {
        self.expires_at
    }

    /// The scopes that the provider granted.
    #[must_use]
    pub fn scopes(&self) -> &[String] {
        &self.scopes
    }

    /// Whether it is valid for this much longer, by its expiry.
    #[must_use]
    pub fn is_valid_for(&self, duration: Duration, now: Timestamp) -> bool {
        self.expires_at
            .is_none_or(|at| now.checked_add(duration).is_ok_and(|needed| needed < at))
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::{ByteString, apimachinery::pkg::apis::meta::v1::OwnerReference};

    use super::*;

    fn target(data: &[(&str, &str)]) -> Secret {
        let bytes = |value: &str| ByteString(value.as_bytes().to_vec());
        let data = data.iter().map(|(k, v)| ((*k).to_owned(), bytes(v)));
        Secret {
            data: Some(data.collect()),
            ..Secret::default()
        }
    }

    #[test]
    fn a_target_is_read_as_it_is_written() {
        let token = AccessToken::read(&target(&[
            ("access_token", "at-1"),
            ("token_type", "bearer"),
            ("expires_at", "2026-01-01T01:00:00Z"),
            ("scope", "a b"),
            ("token_generation", "4"),
        ]))
        .unwrap();
        assert_eq!(token.generation(), 4);
        assert_eq!(token.authorization().expose_secret(), "Bearer at-1");
        assert_eq!(token.scopes(), ["a", "b"]);
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let half = Duration::from_secs(30);
        assert!(token.is_valid_for(half, at("2026-01-01T00:59:29Z")));
        assert!(!token.is_valid_for(half, at("2026-01-01T00:59:30Z")));
    }

    #[test]
    fn a_target_of_another_credential_holds_no_token_of_this_one() {
        let mut theirs = target(&[("access_token", "x"), ("token_generation", "1")]);
        assert!(AccessToken::of(&theirs, "mine").is_none());
        theirs.metadata.owner_references = Some(vec![OwnerReference {
            controller: Some(true),
            uid: "theirs".to_owned(),
            ..OwnerReference::default()
        }]);
        assert!(AccessToken::of(&theirs, "mine").is_none());
        assert!(AccessToken::of(&theirs, "theirs").is_some());
    }

    #[test]
    fn what_is_not_there_yet_is_no_token() {
        assert!(AccessToken::read(&Secret::default()).is_none());
        assert!(AccessToken::read(&target(&[("access_token", "x")])).is_none());
        let endless = target(&[("access_token", "x"), ("token_generation", "1")]);
        let token = AccessToken::read(&endless).unwrap();
        assert!(token.is_valid_for(Duration::from_secs(86_400), Timestamp::now()));
        let nonsense = target(&[
            ("access_token", "x"),
            ("token_generation", "1"),
            ("expires_at", "soon"),
        ]);
        assert!(AccessToken::read(&nonsense).is_none());
    }
}
