//! The request of each grant: the parameters and how the client authenticates (RFC 6749 sections 2.3.1,
//! 4.1.3, 4.4.2 and 6; RFC 7523; RFC 8707), in the manner that the provider's description gives.

use std::collections::BTreeMap;

use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value};
use url::form_urlencoded;

use super::template::{TemplateError, fill};
use crate::api::{BodyFormat, ClientAuthentication, Description, GrantType};

/// The parameters of the protocol itself: no description and no credential sets them.
pub const PROTOCOL: [&str; 16] = [
    "grant_type",
    "refresh_token",
    "client_id",
    "client_secret",
    "client_assertion",
    "client_assertion_type",
    "code",
    "code_verifier",
    "redirect_uri",
    "assertion",
    "scope",
    "resource",
    "access_token",
    "username",
    "password",
    "device_code",
];

/// What is presented.
pub enum Presented<'a> {
    /// A refresh token.
    RefreshToken(&'a SecretString),
    /// An authorization code (RFC 6749 section 4.1.3).
    Code {
        /// The code.
        code: &'a SecretString,
        /// The redirect URI of the authorization request, where it had one.
        redirect_uri: Option<&'a str>,
        /// The PKCE verifier (RFC 7636 section 4.5), where the authorization request had a challenge.
        verifier: Option<&'a SecretString>,
    },
    /// The client itself.
    Client,
    /// An assertion (RFC 7523 section 2.1).
    Assertion(&'a SecretString),
    /// The signed token of a GitHub App, for one of its installations.
    App(&'a SecretString),
}

/// The client's identifier and how it proves that it is the one.
pub struct ClientIdentity<'a> {
    /// `client_id`; empty where there is no client.
    pub id: &'a str,
    /// The proof.
    pub proof: Proof<'a>,
}

/// How a client proves that it is the one.
pub enum Proof<'a> {
    /// Not at all: a public client, or none.
    None,
    /// By its secret.
    Secret(&'a SecretString),
    /// By a signed assertion (RFC 7523 section 2.2).
    Assertion(&'a SecretString),
}

/// What is asked for.
#[derive(Clone, Copy)]
pub struct Wanted<'a> {
    /// Empty: the provider's default.
    pub scopes: &'a [String],
    /// The resources at which the token is to be used (RFC 8707).
    pub resources: &'a [String],
    /// The parameters that the credential adds.
    pub extra: &'a BTreeMap<String, String>,
}

/// A request as it goes out.
pub struct TokenRequest {
    /// The body.
    pub body: SecretString,
    /// What the body is.
    pub content_type: &'static str,
    /// The value of `Authorization`, where the client authenticates by it.
    pub authorization: Option<SecretString>,
    /// The headers that the provider wants besides.
    pub headers: BTreeMap<String, String>,
}

/// Builds the request.
///
/// # Errors
/// Where a parameter's template cannot be filled in.
pub fn request(
    presented: &Presented<'_>,
    client: &ClientIdentity<'_>,
    wanted: Wanted<'_>,
    description: &Description,
    variables: &BTreeMap<String, String>,
) -> Result<TokenRequest, TemplateError> {
    let (grant, redeems_code) = presented.grant();
    let convention = description.convention(grant, redeems_code);
    let mut body = Parameters::default();
    presented.write(&mut body, convention.and_then(|c| c.grant_type.as_deref()));
    if presented.names_scopes(description) && !wanted.scopes.is_empty() {
        let scope = description.scope.as_ref();
        let separator = scope.and_then(|s| s.separator.as_deref()).unwrap_or(" ");
        body.add("scope", &wanted.scopes.join(separator));
    }
    for resource in wanted.resources {
        body.add("resource", resource);
    }
    let authorization = match presented {
        Presented::App(token) => Some(format!("Bearer {}", token.expose_secret()).into()),
        _ => authenticate(client, description.client_auth(), &mut body),
    };
    let mut extra = BTreeMap::new();
    let described = [Some(&description.params), convention.map(|c| &c.params)];
    for (name, template) in described.into_iter().flatten().flatten() {
        extra.insert(name.as_str(), fill(template, variables)?);
    }
    for (name, value) in wanted.extra {
        extra.insert(name, value.clone());
    }
    for (name, value) in extra {
        if !PROTOCOL.contains(&name) {
            body.add(name, &value);
        }
    }
    let mut headers = description.headers.clone();
    headers.extend(convention.map(|c| c.headers.clone()).unwrap_or_default());
    Ok(outgoing(&body, authorization, headers, description))
}

/// Builds the request that revokes `token` (RFC 7009 section 2.1); the client authenticates as at the token endpoint.
#[must_use]
pub fn revocation(
    token: &SecretString,
    hint: &str,
    client: &ClientIdentity<'_>,
    description: &Description,
) -> TokenRequest {
    let mut body = Parameters::default();
    body.add("token", token.expose_secret());
    body.add("token_type_hint", hint);
    let authorization = authenticate(client, description.client_auth(), &mut body);
    outgoing(
        &body,
        authorization,
        description.headers.clone(),
        description,
    )
}

fn outgoing(
    body: &Parameters,
    authorization: Option<SecretString>,
    headers: BTreeMap<String, String>,
    description: &Description,
) -> TokenRequest {
    let format = description.body_format.unwrap_or_default();
    TokenRequest {
        body: body.encode(format),
        content_type: match format {
            BodyFormat::Form => "application/x-www-form-urlencoded",
            BodyFormat::Json => "application/json",
        },
        authorization,
        headers,
    }
}

impl Presented<'_> {
    /// The grant of the API that it belongs to, and whether it redeems an authorization code.
    fn grant(&self) -> (GrantType, bool) {
        match self {
            Self::RefreshToken(_) => (GrantType::RefreshToken, false),
            Self::Code { .. } => (GrantType::RefreshToken, true),
            Self::Client => (GrantType::ClientCredentials, false),
            Self::Assertion(_) => (GrantType::JwtBearer, false),
            Self::App(_) => (GrantType::GitHubAppInstallation, false),
        }
    }

    fn write(&self, body: &mut Parameters, vendors_name: Option<&str>) {
        let name = match self {
            Self::RefreshToken(_) => "refresh_token",
            Self::Code { .. } => "authorization_code",
            Self::Client => "client_credentials",
            Self::Assertion(_) => "urn:ietf:params:oauth:grant-type:jwt-bearer",
            // Not a grant of OAuth: the endpoint's address says what is asked for.
            Self::App(_) => return,
        };
        body.add("grant_type", vendors_name.unwrap_or(name));
        match self {
            Self::RefreshToken(token) => body.add("refresh_token", token.expose_secret()),
            Self::Code {
                code,
                redirect_uri,
                verifier,
            } => {
                body.add("code", code.expose_secret());
                if let Some(redirect_uri) = redirect_uri {
                    body.add("redirect_uri", redirect_uri);
                }
                if let Some(verifier) = verifier {
                    body.add("code_verifier", verifier.expose_secret());
                }
            }
            Self::Assertion(assertion) => body.add("assertion", assertion.expose_secret()),
            Self::Client | Self::App(_) => {}
        }
    }

    /// A refresh keeps what was authorized, and a code is for what was authorized: neither names scopes, unless
    /// the provider wants it.
    fn names_scopes(&self, description: &Description) -> bool {
        match self {
            Self::RefreshToken(_) => {
                let scope = description.scope.as_ref();
                scope.and_then(|s| s.send_on_refresh).unwrap_or(false)
            }
            Self::Code { .. } | Self::App(_) => false,
            Self::Client => true,
            Self::Assertion(_) => {
                let assertion = description.assertion.as_ref();
                !assertion.and_then(|a| a.scope_claim).unwrap_or(false)
            }
        }
    }
}

fn authenticate(
    client: &ClientIdentity<'_>,
    authentication: ClientAuthentication,
    body: &mut Parameters,
) -> Option<SecretString> {
    match (&client.proof, authentication) {
        (Proof::Secret(secret), ClientAuthentication::Basic) => {
            return Some(basic(&encoded(client.id), &encoded(secret.expose_secret())));
        }
        (Proof::Secret(secret), ClientAuthentication::BasicRaw) => {
            return Some(basic(client.id, secret.expose_secret()));
        }
        (Proof::Secret(secret), _) => {
            body.add("client_id", client.id);
            body.add("client_secret", secret.expose_secret());
        }
        (Proof::Assertion(assertion), _) => {
            body.add("client_id", client.id);
            body.add(
                "client_assertion_type",
                "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            );
            body.add("client_assertion", assertion.expose_secret());
        }
        (Proof::None, _) if client.id.is_empty() => {}
        (Proof::None, _) => body.add("client_id", client.id),
    }
    None
}

/// RFC 6749 section 2.3.1: id and secret are form-encoded before they become a Basic credential.
fn encoded(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

fn basic(id: &str, secret: &str) -> SecretString {
    let pair = SecretString::from(format!("{id}:{secret}"));
    let encoded = data_encoding::BASE64.encode(pair.expose_secret().as_bytes());
    format!("Basic {encoded}").into()
}

/// The parameters of a request, in the order in which they were added.
#[derive(Default)]
struct Parameters(Vec<(String, SecretString)>);

impl Parameters {
    fn add(&mut self, name: &str, value: &str) {
        self.0.push((name.to_owned(), value.to_owned().into()));
    }

    fn encode(&self, format: BodyFormat) -> SecretString {
        match format {
            BodyFormat::Form => {
                let mut form = form_urlencoded::Serializer::new(String::new());
                for (name, value) in &self.0 {
                    form.append_pair(name, value.expose_secret());
                }
                form.finish().into()
            }
            BodyFormat::Json => {
                let mut fields = Map::new();
                for (name, value) in &self.0 {
                    let value = Value::from(value.expose_secret());
                    match fields.get_mut(name) {
                        None => {
                            fields.insert(name.clone(), value);
                        }
                        // Several resources.
                        Some(Value::Array(values)) => values.push(value),
                        Some(first) => *first = Value::Array(vec![first.take(), value]),
                    }
                }
                Value::Object(fields).to_string().into()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    struct Sent {
        body: String,
        header: Option<String>,
        headers: BTreeMap<String, String>,
    }

    fn sent(presented: &Presented<'_>, description: Value, scopes: &[&str]) -> Sent {
        let secret = SecretString::from("s:e c%ret");
        let description: Description = serde_json::from_value(description).unwrap();
        let proof = match description.client_auth() {
            ClientAuthentication::None => Proof::None,
            ClientAuthentication::PrivateKeyJwt => Proof::Assertion(&secret),
            _ => Proof::Secret(&secret),
        };
        let scopes: Vec<_> = scopes.iter().map(|s| (*s).to_owned()).collect();
        let client = ClientIdentity { id: "my id", proof };
        let wanted = Wanted {
            scopes: &scopes,
            resources: &[],
            extra: &BTreeMap::new(),
        };
        let variables = [("tenant".to_owned(), "contoso".to_owned())].into();
        let request = request(presented, &client, wanted, &description, &variables).unwrap();
        let header =
            request
                .authorization
                .map(|a| match a.expose_secret().strip_prefix("Basic ") {
                    Some(encoded) => {
                        let pair = data_encoding::BASE64.decode(encoded.as_bytes()).unwrap();
                        String::from_utf8(pair).unwrap()
                    }
                    None => a.expose_secret().to_owned(),
                });
        Sent {
            body: request.body.expose_secret().to_owned(),
            header,
            headers: request.headers,
        }
    }

    #[test]
    fn a_refresh_presents_the_token_and_asks_for_no_scope() {
        let token = SecretString::from("r/t+1");
        let refresh = Presented::RefreshToken(&token);
        let sent1 = sent(&refresh, json!({}), &["a"]);
        assert_eq!(
            sent1.body,
            "grant_type=refresh_token&refresh_token=r%2Ft%2B1"
        );
        assert_eq!(sent1.header.unwrap(), "my+id:s%3Ae+c%25ret");
        let described =
            json!({"scope": {"sendOnRefresh": true, "separator": ","}, "clientAuth": "BasicRaw"});
        let sent2 = sent(&refresh, described, &["a", "b"]);
        assert!(sent2.body.ends_with("&scope=a%2Cb"), "{}", sent2.body);
        assert_eq!(sent2.header.unwrap(), "my id:s:e c%ret");
    }

    #[test]
    fn client_credentials_in_the_body() {
        let sent = sent(
            &Presented::Client,
            json!({"clientAuth": "Body"}),
            &["a", "b"],
        );
        assert_eq!(
            sent.body,
            "grant_type=client_credentials&scope=a+b&client_id=my+id&client_secret=s%3Ae+c%25ret"
        );
        assert!(sent.header.is_none());
    }

    #[test]
    fn a_public_client_names_itself() {
        let sent = sent(&Presented::Client, json!({"clientAuth": "None"}), &[]);
        assert_eq!(sent.body, "grant_type=client_credentials&client_id=my+id");
        assert!(sent.header.is_none());
    }

    #[test]
    fn a_client_that_signs_presents_its_assertion() {
        let sent = sent(
            &Presented::Client,
            json!({"clientAuth": "PrivateKeyJwt"}),
            &[],
        );
        assert!(sent.header.is_none());
        assert!(
            sent.body.contains(
                "client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer&client_assertion=s%3Ae"
            ),
            "{}",
            sent.body
        );
    }

    #[test]
    fn a_code_is_redeemed_with_its_verifier() {
        let (code, verifier) = (SecretString::from("c1"), SecretString::from("v1"));
        let presented = Presented::Code {
            code: &code,
            redirect_uri: Some("https://app.example/cb"),
            verifier: Some(&verifier),
        };
        assert_eq!(
            sent(&presented, json!({}), &["a"]).body,
            "grant_type=authorization_code&code=c1&redirect_uri=https%3A%2F%2Fapp.example%2Fcb&code_verifier=v1"
        );
    }

    #[test]
    fn an_assertion_carries_scopes_in_the_request_or_in_itself() {
        let assertion = SecretString::from("a.b.c");
        let presented = Presented::Assertion(&assertion);
        let beside = sent(&presented, json!({"clientAuth": "None"}), &["x"]);
        assert_eq!(
            beside.body,
            "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion=a.b.c&scope=x&client_id=my+id"
        );
        let within = json!({"clientAuth": "None", "assertion": {"scopeClaim": true}});
        assert!(!sent(&presented, within, &["x"]).body.contains("scope"));
    }

    #[test]
    fn an_app_asks_for_an_installations_token_in_json() {
        let token = SecretString::from("a.b.c");
        let described = json!({
            "bodyFormat": "Json", "headers": {"X-Api-Version": "1"},
            "perGrant": {"GitHubAppInstallation": {"headers": {"X-Api-Version": "2"}}},
        });
        let sent = sent(&Presented::App(&token), described, &["x"]);
        assert_eq!(sent.body, "{}");
        assert_eq!(sent.header.unwrap(), "Bearer a.b.c");
        assert_eq!(sent.headers["X-Api-Version"], "2");
    }

    #[test]
    fn a_vendors_name_of_a_grant_and_its_parameters() {
        let described = json!({
            "params": {"audience": "https://{tenant}.example"},
            "perGrant": {"ClientCredentials": {"grantType": "account_credentials", "params": {"account_id": "{tenant}"}}},
        });
        assert_eq!(
            sent(&Presented::Client, described, &[]).body,
            "grant_type=account_credentials&account_id=contoso&audience=https%3A%2F%2Fcontoso.example"
        );
    }

    #[test]
    fn no_parameter_of_the_protocol_is_overridden() {
        let token = SecretString::from("rt");
        let described =
            json!({"params": {"grant_type": "password", "refresh_token": "other", "x": "y"}});
        assert_eq!(
            sent(&Presented::RefreshToken(&token), described, &[]).body,
            "grant_type=refresh_token&refresh_token=rt&x=y"
        );
    }

    #[test]
    fn several_resources_are_named_one_by_one() {
        let resources = ["https://a".to_owned(), "https://b".to_owned()];
        let wanted = Wanted {
            scopes: &[],
            resources: &resources,
            extra: &BTreeMap::new(),
        };
        let client = ClientIdentity {
            id: "c",
            proof: Proof::None,
        };
        let body = |format: &str| {
            let described = json!({"bodyFormat": format, "clientAuth": "None"});
            let description: Description = serde_json::from_value(described).unwrap();
            let none = BTreeMap::new();
            let request = request(&Presented::Client, &client, wanted, &description, &none);
            request.unwrap().body.expose_secret().to_owned()
        };
        assert!(body("Form").contains("resource=https%3A%2F%2Fa&resource=https%3A%2F%2Fb"));
        assert!(body("Json").contains(r#""resource":["https://a","https://b"]"#));
    }

    #[test]
    fn a_revocation_names_the_token_and_the_client_authenticates_as_ever() {
        let token = SecretString::from("rt 1");
        let secret = SecretString::from("s");
        let sent = |description: Value| {
            let description = serde_json::from_value(description).unwrap();
            let client = ClientIdentity {
                id: "demo",
                proof: Proof::Secret(&secret),
            };
            let request = revocation(&token, "refresh_token", &client, &description);
            let header = request.authorization.map(|a| a.expose_secret().to_owned());
            (request.body.expose_secret().to_owned(), header)
        };
        let (body, header) = sent(json!({}));
        assert_eq!(body, "token=rt+1&token_type_hint=refresh_token");
        assert_eq!(header.as_deref(), Some("Basic ZGVtbzpz"));
        let (body, header) = sent(json!({"clientAuth": "Body"}));
        assert_eq!(
            body,
            "token=rt+1&token_type_hint=refresh_token&client_id=demo&client_secret=s"
        );
        assert_eq!(header, None);
        let (body, _) = sent(json!({"bodyFormat": "Json"}));
        assert!(body.starts_with('{'), "{body}");
    }
}
