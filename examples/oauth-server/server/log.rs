//! What the server remembers of its callers.

use std::collections::BTreeMap;

use axum::http::HeaderMap;
use serde_json::{Value, json};

use super::request::ClientAuth;

/// One request to the token endpoint.
#[derive(Debug, Clone)]
pub struct TokenRequest {
    /// When it arrived.
    pub at: jiff::Timestamp,
    /// Which connection it came in on, counted from 1 since the server (re)started.
    pub connection: u64,
    /// The path that it was sent to.
    pub path: String,
    /// `grant_type`, if there was one.
    pub grant_type: Option<String>,
    /// Who the client said it is, right or wrong.
    pub client_id: Option<String>,
    /// How it said so.
    pub client_auth: ClientAuth,
    /// The refresh token that it presented.
    pub refresh_token: Option<String>,
    /// The scope that it asked for.
    pub scope: Option<String>,
    /// The body was JSON, and not a form.
    pub json: bool,
    /// Every parameter of the body, secrets included.
    pub params: BTreeMap<String, String>,
    /// The values of `resource` (RFC 8707), which may be there more than once.
    pub resources: Vec<String>,
    /// Every header, secrets included.
    pub headers: HeaderMap,
    /// The name of the fault that it met.
    pub fault: Option<&'static str>,
    /// What the server made of it, whether or not the answer reached the client.
    pub outcome: Outcome,
}

/// What became of a token request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing yet: it is held before its commit, hangs, or the server stopped meanwhile.
    Pending,
    /// Tokens were issued.
    Granted {
        /// The new access token.
        access_token: String,
        /// The new refresh token, where there is one.
        refresh_token: Option<String>,
    },
    /// It was refused by the rules.
    Refused {
        /// The code of RFC 6749, section 5.2.
        error: String,
    },
    /// A scripted fault took its place; nothing was issued or spent.
    Fault,
}

impl Outcome {
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Pending => "pending",
            Self::Granted { .. } => "granted",
            Self::Refused { error } => error,
            Self::Fault => "fault",
        }
    }
}

/// One request to the resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResourceCall {
    /// When it arrived.
    pub at: jiff::Timestamp,
    /// The access token that it carried.
    pub access_token: Option<String>,
    /// Whether that token was alive.
    pub accepted: bool,
}

/// Enough of a token to tell it from others and too little to use it.
pub fn short(token: &str) -> String {
    let ours = (token.starts_with("at-") || token.starts_with("rt-")) && token.len() == 39;
    match token.get(..11) {
        Some(start) if ours => format!("{start}…"),
        _ => "(not from here)".to_owned(),
    }
}

impl TokenRequest {
    pub(super) fn public(&self) -> Value {
        let (access_token, refresh_token) = match &self.outcome {
            Outcome::Granted {
                access_token,
                refresh_token,
            } => (Some(short(access_token)), refresh_token.as_deref()),
            _ => (None, None),
        };
        json!({
            "at": self.at.to_string(),
            "connection": self.connection,
            "path": self.path,
            "grant_type": self.grant_type,
            "client_id": self.client_id,
            "scope": self.scope,
            "presented": self.refresh_token.as_deref().map(short),
            "fault": self.fault,
            "outcome": self.outcome.name(),
            "access_token": access_token,
            "refresh_token": refresh_token.map(short),
        })
    }
}

impl ResourceCall {
    pub(super) fn public(&self) -> Value {
        json!({
            "at": self.at.to_string(),
            "access_token": self.access_token.as_deref().map(short),
            "accepted": self.accepted,
        })
    }
}

/// A request for revocation.
#[derive(Debug, Clone)]
pub struct Revocation {
    /// When it arrived.
    pub at: jiff::Timestamp,
    /// The client, as it said.
    pub client_id: Option<String>,
    /// The token.
    pub token: Option<String>,
    /// `token_type_hint`.
    pub hint: Option<String>,
    /// Whether it was served, and there was something to revoke.
    pub revoked: bool,
}
