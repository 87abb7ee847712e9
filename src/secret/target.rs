//! The target: the Secret that pods mount. Derived from the grant, or, for grants that store nothing
//! that could be lost, the store of the token itself.

use jiff::Timestamp;
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::ResourceExt;
use secrecy::ExposeSecret;

use super::{
    TOKEN_GENERATION, Token, bytes,
    grant::{own, scopes},
    keyed_hash, parsed, parsed_optional, stored, text,
};
use crate::api::IntegrationCredential;

const ISSUED_AT: &str = "tokenward.dev/issued-at";
const DIGEST: &str = "tokenward.dev/digest";

/// On a target: a hash of what its token was asked for (endpoint, client, grant, scopes).
pub const REQUEST_HASH: &str = "tokenward.dev/request-hash";

/// The Secret to store for `token`, with the metadata of the one that it replaces.
#[must_use]
pub fn render(
    token: &Token,
    request_hash: &str,
    credential: &IntegrationCredential,
    replaces: Option<&Secret>,
) -> Secret {
    let access_token = token.access_token.expose_secret();
    let mut data = vec![
        ("access_token", access_token.to_owned()),
        ("token_type", token.token_type.clone()),
        ("scope", token.scopes.join(" ")),
        (TOKEN_GENERATION, token.generation.to_string()),
    ];
    if let Some(expires_at) = token.expires_at {
        data.push(("expires_at", format!("{expires_at:.0}")));
    }
    // Other token types (DPoP, MAC) need more than a fixed header.
    if token.token_type.eq_ignore_ascii_case("bearer") {
        data.push(("authorization", format!("Bearer {access_token}")));
    }
    let data = data
        .into_iter()
        .map(|(key, value)| (key.to_owned(), bytes(&value)));
    let mut secret = Secret {
        metadata: replaces.map(|r| r.metadata.clone()).unwrap_or_default(),
        type_: Some(
            replaces
                .and_then(|r| r.type_.clone())
                .unwrap_or_else(|| "Opaque".to_owned()),
        ),
        data: Some(data.collect()),
        ..Secret::default()
    };
    own(&mut secret, credential, &credential.target_name(), "target");
    let digest = digest(&secret);
    let notes = secret.annotations_mut();
    notes.insert(ISSUED_AT.to_owned(), token.issued_at.to_string());
    notes.insert(REQUEST_HASH.to_owned(), request_hash.to_owned());
    notes.insert(DIGEST.to_owned(), digest);
    secret
}

/// The token in a target, if its data is what was written: an edited target holds no token.
#[must_use]
pub fn read(secret: &Secret) -> Option<Token> {
    let notes = secret.annotations();
    if notes.get(DIGEST) != Some(&digest(secret)) {
        return None;
    }
    let issued_at: Timestamp = notes.get(ISSUED_AT)?.parse().ok()?;
    Some(Token {
        generation: parsed(secret, TOKEN_GENERATION).ok()?,
        access_token: stored(secret, "access_token").ok()?,
        token_type: text(secret, "token_type").ok()?.to_owned(),
        scopes: scopes(text(secret, "scope").unwrap_or_default()),
        issued_at,
        expires_at: parsed_optional(secret, "expires_at").ok()?,
    })
}

/// The generation that a target carries, edited or not; 0 where it has none.
#[must_use]
pub fn generation(secret: &Secret) -> u64 {
    parsed(secret, TOKEN_GENERATION).unwrap_or(0)
}

/// Whether storing `wanted` over `stored` would change anything.
#[must_use]
pub fn is_same(wanted: &Secret, stored: &Secret) -> bool {
    wanted.data == stored.data
        && wanted.annotations() == stored.annotations()
        && wanted.labels() == stored.labels()
}

fn digest(secret: &Secret) -> String {
    let empty = std::collections::BTreeMap::new();
    let data = secret.data.as_ref().unwrap_or(&empty);
    keyed_hash(
        "tokenward.dev/target/v1",
        data.iter()
            .flat_map(|(key, ByteString(value))| [key.as_bytes(), value.as_slice()]),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{api::IntegrationCredentialSpec, secret::grant};

    fn credential() -> IntegrationCredential {
        let spec: IntegrationCredentialSpec = serde_json::from_value(serde_json::json!({
            "oauth2": {"providerRef": {"name": "p"}, "grantType": "ClientCredentials"},
            "target": {"name": "mounted"},
        }))
        .unwrap();
        let mut credential = IntegrationCredential::new("ci", spec);
        credential.metadata.uid = Some("uid-1".to_owned());
        credential
    }

    fn text_of(secret: &Secret, key: &str) -> String {
        text(secret, key).unwrap().to_owned()
    }

    #[test]
    fn the_default_keys() {
        let token = grant::sample(3, "rt", "2026-01-01T00:00:00.7Z".parse().unwrap()).token;
        let secret = render(&token, "hash", &credential(), None);
        assert_eq!(secret.name_any(), "mounted");
        let keys: Vec<_> = secret.data.as_ref().unwrap().keys().cloned().collect();
        assert_eq!(
            keys,
            [
                "access_token",
                "authorization",
                "expires_at",
                "scope",
                "token_generation",
                "token_type"
            ]
        );
        assert_eq!(text_of(&secret, "authorization"), "Bearer at-3");
        assert_eq!(text_of(&secret, "expires_at"), "2026-01-01T01:00:00Z");
        assert_eq!(text_of(&secret, "token_generation"), "3");
        let read = read(&secret).unwrap();
        assert_eq!(read.generation, 3);
        assert_eq!(read.issued_at, token.issued_at);
    }

    #[test]
    fn an_edited_target_holds_no_token_but_keeps_its_generation() {
        let token = grant::sample(3, "rt", Timestamp::UNIX_EPOCH).token;
        let mut secret = render(&token, "hash", &credential(), None);
        let data = secret.data.as_mut().unwrap();
        data.insert("access_token".to_owned(), bytes("edited"));
        assert!(read(&secret).is_none());
        assert_eq!(generation(&secret), 3);
    }

    #[test]
    fn other_token_types_get_no_ready_header() {
        let mut token = grant::sample(1, "rt", Timestamp::UNIX_EPOCH).token;
        token.token_type = "DPoP".to_owned();
        token.expires_at = None;
        let secret = render(&token, "hash", &credential(), None);
        let data = secret.data.unwrap();
        assert!(!data.contains_key("authorization") && !data.contains_key("expires_at"));
    }

    #[test]
    fn metadata_of_others_is_kept() {
        let token = grant::sample(1, "rt", Timestamp::UNIX_EPOCH).token;
        let mut first = render(&token, "hash", &credential(), None);
        first
            .annotations_mut()
            .insert("team".to_owned(), "blue".to_owned());
        first
            .data
            .as_mut()
            .unwrap()
            .insert("extra".to_owned(), bytes("x"));
        let second = render(&token, "hash", &credential(), Some(&first));
        assert_eq!(second.annotations().get("team").unwrap(), "blue");
        assert!(!second.data.as_ref().unwrap().contains_key("extra"));
        assert!(!is_same(&second, &first));
        assert!(is_same(
            &second,
            &render(&token, "hash", &credential(), Some(&second))
        ));
    }
}
