//! Headers as a Secret holds them: a key for each name (RFC 9110 section 5).

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Secret;
use secrecy::SecretString;

use super::{HOST, Wrong};
use crate::secret::{EXPIRES_AT, TOKEN_GENERATION, token};

/// Headers that a request or a connection has by itself: another value of theirs breaks it.
const OF_THE_REQUEST: [&str; 10] = [
    HOST,
    "content-length",
    "transfer-encoding",
    "connection",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "upgrade",
    "expect",
];

/// Keys that the target has for itself.
const OF_THE_TARGET: [&str; 2] = [TOKEN_GENERATION, EXPIRES_AT];

/// All headers of a Secret.
pub(super) fn read(secret: &Secret) -> Result<BTreeMap<String, SecretString>, Wrong> {
    let data = secret.data.iter().flatten();
    let mut headers: BTreeMap<String, SecretString> = BTreeMap::new();
    for name in data.map(|(name, _)| name) {
        check(name)?;
        let lower = name.to_ascii_lowercase();
        if let Some(other) = headers.keys().find(|k| k.to_ascii_lowercase() == lower) {
            let why = format!("names one header twice, as {other} and {name}");
            return Err(Wrong::at(name, why));
        }
        let value = token(secret, name).map_err(|error| Wrong::value(name, error))?;
        headers.insert(name.clone(), value);
    }
    if headers.is_empty() {
        return Err(Wrong {
            is_missing: true,
            ..Wrong::at("", "has no keys, and so no header")
        });
    }
    Ok(headers)
}

fn check(name: &str) -> Result<(), Wrong> {
    let lower = name.to_ascii_lowercase();
    if name.is_empty() || !name.bytes().all(is_token) {
        let why = format!("has the key {name}, which cannot be the name of a header");
        return Err(Wrong::at(name, why));
    }
    if OF_THE_REQUEST.contains(&lower.as_str()) {
        let why = format!("has the key {name}, a header that each request sets by itself");
        return Err(Wrong::at(name, why));
    }
    if OF_THE_TARGET.contains(&name) {
        let why = format!("has the key {name}, which the copy has for another purpose");
        return Err(Wrong::at(name, why));
    }
    Ok(())
}

/// Whether a name may have this character (RFC 9110 section 5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
