//! Who the server knows, and what it does.

use std::collections::BTreeMap;
use std::time::Duration;

use super::assertion::PublicKey;

/// A client of the server.
#[derive(Debug, Clone)]
pub struct Client {
    /// `client_id`.
    pub id: String,
    /// Every secret that is accepted; without any, and without keys, it is a public client.
    pub secrets: Vec<String>,
    /// Every key whose assertions are accepted.
    pub keys: Vec<PublicKey>,
}

impl Client {
    /// A client with these secrets.
    pub fn new(id: &str, secrets: &[&str]) -> Self {
        Self {
            id: id.to_owned(),
            secrets: secrets.iter().map(|&secret| secret.to_owned()).collect(),
            keys: Vec::new(),
        }
    }

    /// A client that signs with one of these keys.
    pub fn signing(id: &str, keys: &[PublicKey]) -> Self {
        Self {
            id: id.to_owned(),
            secrets: Vec::new(),
            keys: keys.to_vec(),
        }
    }
}

/// What becomes of the access token when a new one is issued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OldToken {
    /// It dies with the commit of the new one.
    Dies,
    /// It lives until it expires.
    Survives,
}

/// What a spent refresh token brings about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reuse {
    /// `invalid_grant`, and every token of the same authorization dies.
    RevokesFamily,
    /// `invalid_grant`, and nothing else.
    RejectOnly,
}

/// What the server does; all of it may change at run time.
#[derive(Debug, Clone)]
pub struct Behaviour {
    /// How long an access token lives.
    pub lifetime: Duration,
    /// How long an answer is withheld after its commit.
    pub latency: Duration,
    /// Whether a refresh token can be redeemed once only. Otherwise it stays, and answers name none.
    pub rotation: bool,
    /// With rotation: the refresh token is replaced at every so-manyth refresh of an authorization, and at
    /// the others it stays, and the answer names none.
    pub rotates_every: usize,
    /// For how long a spent refresh token yields the tokens that it was redeemed for once more, as
    /// long as their refresh token is not spent itself.
    pub grace: Duration,
    /// What a spent refresh token brings about outside the grace period.
    pub reuse: Reuse,
    /// The previous access token of an authorization when it is refreshed.
    pub on_refresh: OldToken,
    /// The previous access tokens of a client when it gets one by `client_credentials`.
    pub on_client_credentials: OldToken,
    /// Basic credentials come as they are, and not form-encoded as RFC 6749 wants it.
    pub basic_raw: bool,
    /// JSON bodies are accepted beside forms.
    pub accept_json: bool,
    /// For whom assertions must be; the URL that they are sent to, if this says nothing.
    pub audience: Option<String>,
    /// Names of its own for values of `grant_type`, and what they stand for.
    pub grant_names: BTreeMap<String, String>,
}

impl Default for Behaviour {
    /// The strictest server: rotation without grace, reuse kills the family, the old access token
    /// dies on refresh. Access tokens live for an hour.
    fn default() -> Self {
        Self {
            lifetime: Duration::from_secs(3600),
            latency: Duration::ZERO,
            rotation: true,
            rotates_every: 1,
            grace: Duration::ZERO,
            reuse: Reuse::RevokesFamily,
            on_refresh: OldToken::Dies,
            on_client_credentials: OldToken::Survives,
            basic_raw: false,
            accept_json: false,
            audience: None,
            grant_names: BTreeMap::new(),
        }
    }
}
