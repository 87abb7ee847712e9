//! What a target tells of the token in it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::ResourceExt;
use secrecy::SecretString;

use super::{
    DIGEST, EXPIRES_AT, ID_TOKEN, ISSUED_AT, REQUEST_HASH, SCOPE, TEMPLATE_HASH, TOKEN_GENERATION,
    Token, digest, template_hash,
};
use crate::{
    api::IntegrationCredential,
    secret::{grant::scopes, parsed, parsed_optional, stored, stored_optional, text},
};

/// The token in a target.
pub enum Held {
    /// It can be read there.
    Readable(Token),
    /// It stands there as templates have written it: what is known of it, without the token itself.
    Templated {
        /// What is known. The access token in it is empty.
        facts: Token,
        /// Of which templates.
        template_hash: String,
    },
}

impl Held {
    /// What is known of it. The access token in it is empty where it cannot be read.
    #[must_use]
    pub fn facts(&self) -> &Token {
        match self {
            Self::Readable(token) | Self::Templated { facts: token, .. } => token,
        }
    }

    /// Whether the target can be made to be as `spec.target` says without the token, or the token is there.
    #[must_use]
    pub fn serves(&self, credential: &IntegrationCredential) -> bool {
        match self {
            Self::Readable(_) => true,
            Self::Templated {
                template_hash: hash,
                ..
            } => template_hash(credential).as_ref() == Some(hash),
        }
    }
}

/// The token in a target, if its data is what was written: an edited target holds no token.
#[must_use]
pub fn held(secret: &Secret) -> Option<Held> {
    let notes = secret.annotations();
    if notes.get(DIGEST) != Some(&digest(secret)) {
        return None;
    }
    let issued_at: Timestamp = notes.get(ISSUED_AT)?.parse().ok()?;
    let generation = parsed(secret, TOKEN_GENERATION).ok()?;
    let expires_at = parsed_optional(secret, EXPIRES_AT).ok()?;
    if let Some(template_hash) = notes.get(TEMPLATE_HASH) {
        let facts = Token {
            generation,
            access_token: SecretString::default(),
            token_type: String::new(),
            scopes: scopes(notes.get(SCOPE)?),
            issued_at,
            expires_at,
            id_token: None,
            metadata: BTreeMap::new(),
        };
        return Some(Held::Templated {
            facts,
            template_hash: template_hash.clone(),
        });
    }
    Some(Held::Readable(Token {
        generation,
        access_token: stored(secret, "access_token").ok()?,
        token_type: text(secret, "token_type").ok()?.to_owned(),
        scopes: scopes(text(secret, "scope").unwrap_or_default()),
        issued_at,
        expires_at,
        id_token: stored_optional(secret, ID_TOKEN).ok()?,
        metadata: metadata(secret),
    }))
}

/// The hash of what the token in a target was asked for.
#[must_use]
pub fn request_hash(secret: &Secret) -> Option<&String> {
    secret.annotations().get(REQUEST_HASH)
}

fn metadata(secret: &Secret) -> BTreeMap<String, String> {
    const OWN: [&str; 7] = [
        "access_token",
        "token_type",
        "scope",
        TOKEN_GENERATION,
        EXPIRES_AT,
        "authorization",
        ID_TOKEN,
    ];
    let data = secret.data.iter().flatten();
    let others = data.filter(|(key, _)| !OWN.contains(&key.as_str()));
    let told = others.filter_map(|(key, ByteString(value))| {
        Some((key.clone(), std::str::from_utf8(value).ok()?.to_owned()))
    });
    told.collect()
}

/// The generation that a target carries, edited or not; 0 where it has none.
#[must_use]
pub fn generation(secret: &Secret) -> u64 {
    parsed(secret, TOKEN_GENERATION).unwrap_or(0)
}
