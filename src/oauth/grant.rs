//! The request of each grant: the parameters and how the client authenticates (RFC 6749 sections 2.3.1,
//! 4.4.2 and 6).

use secrecy::{ExposeSecret, SecretString};
use url::form_urlencoded;

use crate::api::ClientAuthentication;

/// What is presented.
pub enum Presented<'a> {
    /// A refresh token. No scope: a refresh keeps what was authorized.
    RefreshToken(&'a SecretString),
    /// The client itself, asking for these scopes.
    Client {
        /// Empty: the provider's default.
        scopes: &'a [String],
    },
}

/// The client's identifier and secret.
pub struct ClientIdentity<'a> {
    /// `client_id`.
    pub id: &'a str,
    /// `client_secret`; none for a public client.
    pub secret: Option<&'a SecretString>,
}

/// A request as it goes out: the form-encoded body and the Authorization header.
pub struct TokenRequest {
    /// `application/x-www-form-urlencoded`.
    pub body: SecretString,
    /// The value of `Authorization`, where the client authenticates by it.
    pub authorization: Option<SecretString>,
}

/// Builds the request.
#[must_use]
pub fn request(
    presented: &Presented<'_>,
    client: &ClientIdentity<'_>,
    authentication: ClientAuthentication,
) -> TokenRequest {
    let mut form = form_urlencoded::Serializer::new(String::new());
    match presented {
        Presented::RefreshToken(token) => {
            form.append_pair("grant_type", "refresh_token");
            form.append_pair("refresh_token", token.expose_secret());
        }
        Presented::Client { scopes } => {
            form.append_pair("grant_type", "client_credentials");
            if !scopes.is_empty() {
                form.append_pair("scope", &scopes.join(" "));
            }
        }
    }
    let mut authorization = None;
    match (authentication, client.secret) {
        (ClientAuthentication::Basic, Some(secret)) => {
            authorization = Some(basic(client.id, secret));
        }
        (ClientAuthentication::Body, Some(secret)) => {
            form.append_pair("client_id", client.id);
            form.append_pair("client_secret", secret.expose_secret());
        }
        (ClientAuthentication::None, _) | (_, None) => {
            form.append_pair("client_id", client.id);
        }
    }
    TokenRequest {
        body: form.finish().into(),
        authorization,
    }
}

/// RFC 6749 section 2.3.1: id and secret are form-encoded before they become a Basic credential.
fn basic(id: &str, secret: &SecretString) -> SecretString {
    let encode = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let pair = format!("{}:{}", encode(id), encode(secret.expose_secret()));
    format!("Basic {}", data_encoding::BASE64.encode(pair.as_bytes())).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(
        presented: &Presented<'_>,
        authentication: ClientAuthentication,
    ) -> (String, Option<String>) {
        let secret = SecretString::from("s:e c%ret");
        let client = ClientIdentity {
            id: "my id",
            secret: Some(&secret),
        };
        let request = request(presented, &client, authentication);
        let header = request.authorization.map(|a| {
            let encoded = a.expose_secret().strip_prefix("Basic ").unwrap().to_owned();
            String::from_utf8(data_encoding::BASE64.decode(encoded.as_bytes()).unwrap()).unwrap()
        });
        (request.body.expose_secret().to_owned(), header)
    }

    #[test]
    fn a_refresh_presents_the_token_and_asks_for_no_scope() {
        let token = SecretString::from("r/t+1");
        let (body, header) = body(
            &Presented::RefreshToken(&token),
            ClientAuthentication::Basic,
        );
        assert_eq!(body, "grant_type=refresh_token&refresh_token=r%2Ft%2B1");
        assert_eq!(header.unwrap(), "my+id:s%3Ae+c%25ret");
    }

    #[test]
    fn client_credentials_in_the_body() {
        let scopes = ["a".to_owned(), "b".to_owned()];
        let (body, header) = body(
            &Presented::Client { scopes: &scopes },
            ClientAuthentication::Body,
        );
        assert_eq!(
            body,
            "grant_type=client_credentials&scope=a+b&client_id=my+id&client_secret=s%3Ae+c%25ret"
        );
        assert!(header.is_none());
    }

    #[test]
    fn a_public_client_names_itself() {
        let (body, header) = body(
            &Presented::Client { scopes: &[] },
            ClientAuthentication::None,
        );
        assert_eq!(body, "grant_type=client_credentials&client_id=my+id");
        assert!(header.is_none());
    }
}
