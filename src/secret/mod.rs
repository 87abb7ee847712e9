//! The Secrets of a credential: the **seed** (its user's, only read), the **grant** (ours; the refresh
//! token and everything that must not be lost) and the **target** (what pods mount).
//!
//! Secret data lives in [`SecretString`]s, which are wiped when dropped; the API client's own buffers
//! and `ByteString`s on the way are not, which `docs/development.md` documents.

pub mod copy;
pub mod grant;
pub mod referenced;
pub mod seed;
pub mod seen;
pub mod source;
pub mod store;
pub mod target;
pub mod template;
pub mod unpublished;

use std::{collections::BTreeMap, time::Duration};

use aws_lc_rs::hmac;
use jiff::Timestamp;
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::ResourceExt;
use secrecy::SecretString;

/// The data key under which the generation of the token stands, in the grant and in the target.
pub const TOKEN_GENERATION: &str = "token_generation";

/// The data key under which the time stands in a target when what it holds expires.
pub const EXPIRES_AT: &str = "expires_at";

/// An access token and what is known of it.
#[derive(Clone)]
pub struct Token {
    /// Counts the tokens of the credential; never goes backwards.
    pub generation: u64,
    /// The token.
    pub access_token: SecretString,
    /// How it is presented; mostly `Bearer`.
    pub token_type: String,
    /// The granted scopes.
    pub scopes: Vec<String>,
    /// When its request was sent.
    pub issued_at: Timestamp,
    /// When it expires; `None`: the provider does not say.
    pub expires_at: Option<Timestamp>,
    /// The ID token that came with it or before it.
    pub id_token: Option<SecretString>,
    /// What else programs need of the provider's answers, by the keys that its description gives.
    pub metadata: BTreeMap<String, String>,
}

impl Token {
    /// How long it lives in all; `None`: the provider does not say.
    #[must_use]
    pub fn lifetime(&self) -> Option<Duration> {
        let lives = self.expires_at?.duration_since(self.issued_at);
        Duration::try_from(lives).ok()
    }
}

/// What is wrong with a value in a Secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// The key does not exist.
    #[error("has no key")]
    Missing,
    /// The value is empty or white space.
    #[error("has an empty value at key")]
    Empty,
    /// The value is not UTF-8 text.
    #[error("has a value that is not UTF-8 text at key")]
    NotText,
    /// The value has control characters inside.
    #[error("has a value with control characters at key")]
    NotAToken,
    /// The value does not parse.
    #[error("has a value that makes no sense at key")]
    Malformed,
}

/// The text at `key`.
pub(crate) fn text<'a>(secret: &'a Secret, key: &str) -> Result<&'a str, ValueError> {
    let value = secret
        .data
        .as_ref()
        .and_then(|data| data.get(key))
        .ok_or(ValueError::Missing)?;
    std::str::from_utf8(&value.0).map_err(|_| ValueError::NotText)
}

/// A token that people wrote: a final line feed, which editors and `echo` leave behind, is not part
/// of it, and no other control character may be (RFC 6749 appendix A).
///
/// # Errors
/// Says what is wrong with the value.
pub fn token(secret: &Secret, key: &str) -> Result<SecretString, ValueError> {
    let value = text(secret, key)?.trim_matches(|c: char| c == '\n' || c == '\r');
    if value.trim().is_empty() {
        Err(ValueError::Empty)
    } else if value.chars().any(char::is_control) {
        Err(ValueError::NotAToken)
    } else {
        Ok(value.into())
    }
}

/// A private key as people write it: PEM has several lines.
///
/// # Errors
/// Says what is wrong with the value.
pub fn private_key(secret: &Secret, key: &str) -> Result<SecretString, ValueError> {
    let value = text(secret, key)?;
    if value.trim().is_empty() {
        return Err(ValueError::Empty);
    }
    Ok(value.into())
}

/// A value of ours, as it was written.
fn stored(secret: &Secret, key: &str) -> Result<SecretString, ValueError> {
    match text(secret, key)? {
        "" => Err(ValueError::Empty),
        value => Ok(value.into()),
    }
}

/// A value of ours, where it may be missing.
fn stored_optional(secret: &Secret, key: &str) -> Result<Option<SecretString>, ValueError> {
    match stored(secret, key) {
        Err(ValueError::Missing) => Ok(None),
        other => other.map(Some),
    }
}

/// A value of ours that parses.
fn parsed<T: std::str::FromStr>(secret: &Secret, key: &str) -> Result<T, ValueError> {
    text(secret, key)?
        .parse()
        .map_err(|_| ValueError::Malformed)
}

/// A value of ours that parses, where it may be missing.
fn parsed_optional<T: std::str::FromStr>(
    secret: &Secret,
    key: &str,
) -> Result<Option<T>, ValueError> {
    match parsed(secret, key) {
        Err(ValueError::Missing) => Ok(None),
        other => other.map(Some),
    }
}

fn bytes(text: &str) -> ByteString {
    ByteString(text.as_bytes().to_vec())
}

/// Whether `secret` was made for the credential with this UID.
#[must_use]
pub fn is_owned(secret: &Secret, credential_uid: &str) -> bool {
    secret
        .owner_references()
        .iter()
        .any(|owner| owner.controller == Some(true) && owner.uid == credential_uid)
}

/// A keyed hash of `parts`, in hexadecimal. The key separates the `purpose`s; it is no secret, so this
/// is for values that cannot be guessed, or that are none.
pub(crate) fn keyed_hash<'a>(purpose: &str, parts: impl IntoIterator<Item = &'a [u8]>) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, purpose.as_bytes());
    let mut context = hmac::Context::with_key(&key);
    for part in parts {
        // The length keeps ("a", "bc") and ("ab", "c") apart.
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    data_encoding::HEXLOWER.encode(&context.sign().as_ref()[..16])
}
