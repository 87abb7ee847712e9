//! Reading token requests (RFC 6749, sections 2.3.1, 3.2 and 5.2).

use std::collections::BTreeMap;

use axum::http::HeaderMap;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE};
use data_encoding::BASE64;
use serde_json::Value;
use url::form_urlencoded;

use super::assertion;
use super::fault::Reply;

/// How a client said who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAuth {
    /// In the `Authorization` header.
    Basic,
    /// As `client_id` and `client_secret` in the body.
    Body,
    /// By a signed assertion (RFC 7523, section 2.2).
    Assertion,
    /// As `client_id` in the body, without a secret.
    Public,
    /// Not at all, or not legibly.
    None,
}

/// An answer of the kind of RFC 6749, section 5.2.
#[derive(Debug, Clone)]
pub struct Refusal {
    pub status: u16,
    pub error: &'static str,
    pub description: String,
}

impl Refusal {
    pub fn new(error: &'static str, description: &str) -> Self {
        Self {
            status: if error == "invalid_client" { 401 } else { 400 },
            error,
            description: description.to_owned(),
        }
    }

    pub fn reply(&self) -> Reply {
        let mut reply = Reply::new(false, self.status);
        reply.set("error", self.error);
        reply.set("error_description", self.description.as_str());
        if self.status == 401 {
            let scheme = "Basic realm=\"oauth-server\", charset=\"UTF-8\"";
            let header = ("www-authenticate".to_owned(), scheme.to_owned());
            reply.headers.push(header);
        }
        reply
    }
}

/// A client as it presents itself.
#[derive(Debug)]
pub struct Credentials {
    pub id: String,
    pub secret: Option<String>,
    pub method: ClientAuth,
}

/// A token request as it was sent.
#[derive(Debug, Default)]
pub struct Presented {
    /// Where it was sent.
    pub path: String,
    /// The parameters of the body that have a value.
    pub params: BTreeMap<String, String>,
    /// The values of `resource`, which may be there more than once (RFC 8707).
    pub resources: Vec<String>,
    /// The body was JSON, and not a form.
    pub json: bool,
    /// What makes the request unreadable.
    problem: Option<&'static str>,
    authorization: Option<String>,
}

impl Presented {
    pub fn read(path: &str, headers: &HeaderMap, body: &[u8]) -> Self {
        let text = |name| {
            let value = headers.get(name)?;
            Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
        };
        let mut presented = Self {
            path: path.to_owned(),
            authorization: text(AUTHORIZATION),
            ..Self::default()
        };
        let content_type = text(CONTENT_TYPE).unwrap_or_default();
        let essence = content_type.split(';').next().unwrap_or_default().trim();
        match essence.to_ascii_lowercase().as_str() {
            "application/x-www-form-urlencoded" => {
                for (name, value) in form_urlencoded::parse(body) {
                    presented.add(&name, &value);
                }
            }
            "application/json" => {
                presented.json = true;
                presented.read_json(body);
            }
            _ => presented.problem = Some("the body is not form-encoded"),
        }
        presented
    }

    fn read_json(&mut self, body: &[u8]) {
        let Ok(Value::Object(fields)) = serde_json::from_slice(body) else {
            self.problem = Some("the body is no JSON object");
            return;
        };
        for (name, value) in fields {
            match value {
                Value::String(text) => self.add(&name, &text),
                Value::Array(all) if name == "resource" => {
                    for one in all {
                        self.add(&name, one.as_str().unwrap_or_default());
                    }
                }
                other => self.add(&name, &other.to_string()),
            }
        }
    }

    fn add(&mut self, name: &str, value: &str) {
        // A parameter without a value counts as left out (section 3.2).
        if value.is_empty() {
            return;
        }
        if name == "resource" {
            self.resources.push(value.to_owned());
            return;
        }
        let earlier = self.params.insert(name.to_owned(), value.to_owned());
        if earlier.is_some() {
            self.problem = Some("a parameter is there twice");
        }
    }

    pub fn param(&self, name: &str) -> Option<&str> {
        self.params.get(name).map(String::as_str)
    }

    /// The bearer token in the header `Authorization`.
    pub fn bearer(&self) -> Option<&str> {
        let (scheme, token) = self.authorization.as_deref()?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(token)
    }

    /// Whether it is for a token of an installation of a GitHub App.
    pub fn is_for_installation(&self) -> bool {
        self.path.starts_with("/app/installations/")
    }

    /// Whether it names no client at all.
    pub fn is_anonymous(&self) -> bool {
        let names = ["client_id", "client_assertion"];
        self.authorization.is_none() && names.iter().all(|name| self.param(name).is_none())
    }

    /// Why the request cannot be read, if it cannot.
    pub fn check(&self, accept_json: bool) -> Result<(), Refusal> {
        let problem = match self.problem {
            None if self.json && !accept_json => Some("the body is not form-encoded"),
            other => other,
        };
        problem.map_or(Ok(()), |text| Err(Refusal::new("invalid_request", text)))
    }

    /// Who the client says it is. `raw`: the server expects Basic without the form-encoding.
    pub fn credentials(&self, raw: bool) -> Result<Credentials, Refusal> {
        let (id, secret) = (self.param("client_id"), self.param("client_secret"));
        if let Some(header) = &self.authorization {
            let unreadable = || Refusal::new("invalid_client", "unreadable Authorization header");
            let basic = basic(header, raw).ok_or_else(unreadable)?;
            if secret.is_some() || id.is_some_and(|id| id != basic.0) {
                let text = "the client authenticates in two ways";
                return Err(Refusal::new("invalid_request", text));
            }
            return Ok(Credentials {
                id: basic.0,
                secret: Some(basic.1),
                method: ClientAuth::Basic,
            });
        }
        if self.param("client_assertion").is_some() {
            let stated = id.map(str::to_owned).or_else(|| assertion::client_of(self));
            return Ok(Credentials {
                id: stated.unwrap_or_default(),
                secret: secret.map(str::to_owned),
                method: ClientAuth::Assertion,
            });
        }
        let missing = || Refusal::new("invalid_client", "the client does not say who it is");
        Ok(Credentials {
            id: id.ok_or_else(missing)?.to_owned(),
            secret: secret.map(str::to_owned),
            method: secret.map_or(ClientAuth::Public, |_| ClientAuth::Body),
        })
    }
}

fn basic(header: &str, raw: bool) -> Option<(String, String)> {
    let (scheme, encoded) = header.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = BASE64.decode(encoded.trim().as_bytes()).ok()?;
    let text = String::from_utf8(decoded).ok()?;
    let (id, secret) = text.split_once(':')?;
    if raw {
        return Some((id.to_owned(), secret.to_owned()));
    }
    Some((form_decode(id)?, form_decode(secret)?))
}

/// Decodes one form-encoded value. An `&` cannot be part of one.
fn form_decode(value: &str) -> Option<String> {
    if value.contains('&') {
        return None;
    }
    let pair = format!("v={value}");
    let (_, decoded) = form_urlencoded::parse(pair.as_bytes()).next()?;
    Some(decoded.into_owned())
}
