//! Discovery: the endpoints that an authorization server publishes (RFC 8414, OpenID Connect Discovery 1.0).

use serde::Deserialize;
use url::Url;

/// What a metadata document says. Everything else in it is left alone.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Metadata {
    /// The issuer that the document speaks for.
    pub issuer: String,
    /// The token endpoint.
    pub token_endpoint: Option<String>,
    /// The revocation endpoint (RFC 7009).
    pub revocation_endpoint: Option<String>,
    /// The introspection endpoint (RFC 7662).
    pub introspection_endpoint: Option<String>,
    /// The authorization endpoint.
    pub authorization_endpoint: Option<String>,
    /// The device authorization endpoint (RFC 8628).
    pub device_authorization_endpoint: Option<String>,
    /// The userinfo endpoint.
    pub userinfo_endpoint: Option<String>,
}

/// Why a document is of no use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MetadataError {
    /// It is no metadata document.
    #[error("it is no metadata document (RFC 8414 section 3.2)")]
    Unreadable,
    /// It speaks for another issuer. Its name is not repeated: nobody vouches for it.
    #[error("it speaks for another issuer than spec.issuer says (RFC 8414 section 3.3)")]
    OtherIssuer,
}

/// Where the metadata of an issuer may be, in the order in which it is looked for: RFC 8414 section 3.1 puts the
/// well-known path before the issuer's own, OpenID Connect Discovery section 4 after it.
#[must_use]
pub fn addresses(issuer: &Url) -> [Url; 3] {
    let path = issuer.path().trim_end_matches('/').to_owned();
    let at = |path: String| {
        let mut url = issuer.clone();
        url.set_path(&path);
        url
    };
    [
        at(format!("/.well-known/oauth-authorization-server{path}")),
        at(format!("{path}/.well-known/openid-configuration")),
        at(format!("/.well-known/openid-configuration{path}")),
    ]
}

/// Reads the document of `issuer`.
///
/// # Errors
/// Says why it is of no use.
pub fn read(document: &[u8], issuer: &str) -> Result<Metadata, MetadataError> {
    let metadata: Metadata =
        serde_json::from_slice(document).map_err(|_| MetadataError::Unreadable)?;
    if metadata.issuer == issuer {
        Ok(metadata)
    } else {
        Err(MetadataError::OtherIssuer)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_issuer_with_a_path_has_its_document_in_one_of_three_places() {
        let all = |issuer: &str| addresses(&Url::parse(issuer).unwrap()).map(String::from);
        let at = |path: &str| format!("https://id.example{path}");
        assert_eq!(
            all("https://id.example"),
            [
                at("/.well-known/oauth-authorization-server"),
                at("/.well-known/openid-configuration"),
                at("/.well-known/openid-configuration"),
            ]
        );
        for issuer in ["https://id.example/t/1", "https://id.example/t/1/"] {
            assert_eq!(
                all(issuer),
                [
                    at("/.well-known/oauth-authorization-server/t/1"),
                    at("/t/1/.well-known/openid-configuration"),
                    at("/.well-known/openid-configuration/t/1"),
                ]
            );
        }
    }

    #[test]
    fn a_document_speaks_for_the_issuer_that_was_asked_for_only() {
        let document = |issuer: &str| {
            let document = json!({"issuer": issuer, "token_endpoint": "https://id.example/token", "more": [1]});
            document.to_string().into_bytes()
        };
        let found = read(&document("https://id.example"), "https://id.example").unwrap();
        assert_eq!(
            found.token_endpoint.as_deref(),
            Some("https://id.example/token")
        );
        for other in [
            "https://id.example/",
            "https://ID.example",
            "https://evil.example",
        ] {
            let found = read(&document(other), "https://id.example");
            assert_eq!(found, Err(MetadataError::OtherIssuer), "{other}");
        }
        for document in [&b""[..], b"<html>", b"{}", b"[]", br#"{"issuer":7}"#] {
            assert_eq!(read(document, "x"), Err(MetadataError::Unreadable));
        }
    }
}
